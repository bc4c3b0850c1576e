//! What gradient scaling needs: unscaling with a check for overflow, and the scale's own update.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::convert::StoredFloat;
use crate::dtype::DType;
use crate::element::{Element, Float};
use crate::error::{Error, Result};
use crate::isa;
use crate::lanes::{Vectorised, vectorise_at};
use crate::loops::iterate::Space;
use crate::match_float;
use crate::threads;
use crate::value::Value;
use crate::view::{Attrs, View};

/// Elements of a task.
const TASK: usize = 32 * 1024;

/// Views: gradients, found_inf (one f32), inv_scale (one f32). Ints `[written views]`. Gradients
/// are multiplied by inv_scale; found_inf becomes one where any is not finite.
pub fn unscale(views: &[View<'_>], _attrs: &Attrs<'_>) -> Result<()> {
    let [grads @ .., found, scale] = views else {
        return Err(Error::Runtime("expected gradients, found_inf and inv_scale".into()));
    };
    expect_single(found, DType::F32)?;
    expect_single(scale, DType::F32)?;
    for grad in grads {
        if !grad.dtype().is_float() {
            return Error::dtype(grad.dtype());
        }
    }
    // SAFETY: one f32, as was checked.
    let scale = f64::from(unsafe { *scale.ptr::<f32>() });
    let overflow = AtomicBool::new(false);
    let level = isa::level();
    for grad in grads {
        let space = Space::of([grad]);
        let stride = space.inner().strides[0];
        match_float!(grad.dtype(), S => threads::parallel_chunks(space.numel, TASK, space.numel / 2, |range| {
            space.rows(range.start, range.end, |[offset], count| {
                let scale = Element::from_scalar(scale, 0);
                let row = Row::<S> { grad: grad.ptr::<S>().wrapping_offset(offset), stride, count, scale };
                // SAFETY: the row is within the gradient; tasks own disjoint rows.
                if !unsafe { vectorise_at(level, row) } {
                    overflow.store(true, Ordering::Relaxed);
                }
            });
        }));
    }
    if overflow.into_inner() {
        // SAFETY: one f32, as was checked.
        unsafe { *found.ptr::<f32>() = 1.0 };
    }
    Ok(())
}

struct Row<S: StoredFloat> {
    grad: *mut S,
    stride: isize,
    count: usize,
    scale: S::Math,
}

impl<S: StoredFloat> Vectorised for Row<S> {
    /// Whether every gradient was finite.
    type Output = bool;
    #[inline(always)]
    unsafe fn run(self) -> bool {
        let stride = if self.stride == 1 { 1 } else { self.stride };
        let mut finite = true;
        for at in 0..self.count as isize {
            // SAFETY: within the row that the caller promised.
            unsafe {
                let grad = self.grad.offset(at * stride);
                let value = (*grad).load();
                finite &= value.is_finite();
                *grad = S::save(value.mul(self.scale));
            }
        }
        finite
    }
}

/// Views: scale (one f32), growth_tracker (one i32), found_inf (one f32). Ints `[growth_interval]`;
/// floats `[growth_factor, backoff_factor]`.
pub fn update_scale(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [scale, tracker, found] = views else {
        return Err(Error::Runtime("expected scale, growth_tracker and found_inf".into()));
    };
    expect_single(scale, DType::F32)?;
    expect_single(tracker, DType::I32)?;
    expect_single(found, DType::F32)?;
    let (growth, backoff) = (attrs.float(0) as f32, attrs.float(1) as f32);
    // SAFETY: one element each, of the types that were checked.
    unsafe {
        let (scale, tracker) = (scale.ptr::<f32>(), tracker.ptr::<i32>());
        if *found.ptr::<f32>() != 0.0 {
            *scale *= backoff;
            *tracker = 0;
            return Ok(());
        }
        let successful = tracker.read().wrapping_add(1);
        if i64::from(successful) != attrs.int(0) {
            *tracker = successful;
            return Ok(());
        }
        let grown = *scale * growth;
        if grown.is_finite() {
            *scale = grown;
        }
        *tracker = 0;
    }
    Ok(())
}

fn expect_single(view: &View<'_>, dtype: DType) -> Result<()> {
    view.expect_dtype("a scalar tensor", dtype)?;
    if view.numel() == 1 {
        return Ok(());
    }
    Err(Error::Shape(format!("expected a tensor of one element, got {:?}", view.sizes())))
}
