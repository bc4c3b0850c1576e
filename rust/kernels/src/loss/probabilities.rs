//! What losses of probabilities demand of their input and target.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::convert::Stored;
use crate::error::{Error, Result};
use crate::loops::iterate::Space;
use crate::match_float;
use crate::threads;
use crate::view::{Attrs, View};

/// Elements of a task.
const TASK: usize = 32 * 1024;

/// `[input]`, ints `[whether it is the target]`: refuses an element that is not between 0 and 1, as NaN is not. It
/// writes nothing.
pub fn expect_probabilities(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [input] = views else {
        return Err(Error::Runtime(format!("expected 1 operand, got {}", views.len())));
    };
    let space = Space::of([input]);
    let stride = space.inner().strides[0];
    let refused = AtomicBool::new(false);
    match_float!(input.dtype(), S => threads::parallel_chunks(space.numel, TASK, space.numel / 2, |range| {
        let mut all = true;
        space.rows(range.start, range.end, |[start], count| {
            for step in 0..count as isize {
                // SAFETY: an element of the space, which is the view's.
                let value = unsafe { *input.ptr::<S>().offset(start + step * stride) }.to_f64();
                all &= (0.0..=1.0).contains(&value);
            }
        });
        if !all {
            refused.store(true, Ordering::Relaxed);
        }
    }));
    if refused.into_inner() {
        let name = if attrs.ints.first().is_some_and(|&target| target != 0) { "target" } else { "input" };
        return Err(Error::Runtime(format!("all elements of {name} should be between 0 and 1")));
    }
    Ok(())
}
