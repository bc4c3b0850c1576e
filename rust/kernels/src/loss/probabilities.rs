//! What losses of probabilities demand of their input.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::convert::Stored;
use crate::error::{Error, Result};
use crate::loops::iterate::Space;
use crate::match_float;
use crate::threads;
use crate::view::{Attrs, View};

/// Elements of a task.
const TASK: usize = 32 * 1024;

/// `[input]`: refuses an input with an element that is not between 0 and 1, as NaN is not. It writes nothing.
pub fn expect_probabilities(views: &[View<'_>], _attrs: &Attrs<'_>) -> Result<()> {
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
        return Err(Error::Runtime("all elements of input should be between 0 and 1".into()));
    }
    Ok(())
}
