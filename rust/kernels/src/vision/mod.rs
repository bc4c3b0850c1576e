//! What detectors ask of images, after torchvision: which of overlapping boxes to keep, what lies in a region
//! resampled to a grid of bins, and convolutions whose taps are moved.
//!
//! Arithmetic is in the tensor's own type, rounded at each step (of f16 as well), in the order of torchvision's kernels
//! for the CPU: a rounding decides which pixel a sample reads, and which box hides another. What they read outside of
//! an image, these do not.

mod align;
mod deform;
mod nms;
mod plane;
mod pool;
mod region;

use std::ops::{Add, Div, Mul, Sub};

use half::f16;

use crate::convert::Stored;

pub use align::{ps_roi_align, ps_roi_align_backward, roi_align, roi_align_backward};
pub use deform::{deform_columns, deform_columns_backward};
pub use nms::nms;
pub use pool::{ps_roi_pool, ps_roi_pool_backward, roi_pool, roi_pool_backward};

/// A float whose arithmetic is its own.
trait Own: Stored + PartialOrd + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> {
    fn whole(value: i64) -> Self {
        Self::from_f64(value as f64)
    }
    fn zero() -> Self {
        Self::from_f64(0.0)
    }
}
impl Own for f32 {}
impl Own for f64 {}
impl Own for f16 {}

/// As C++ on x86 makes an `int` of a float: NaN and what does not fit give the lowest.
fn cut(value: f64) -> i32 {
    let fits = value > f64::from(i32::MIN) - 1.0 && value < f64::from(i32::MAX) + 1.0;
    if fits { value as i32 } else { i32::MIN }
}

/// Calls `$body` with `$type` bound to the type of a dtype that torchvision's ops have.
macro_rules! match_own {
    ($dtype:expr, $type:ident => $body:expr) => {
        match $dtype {
            $crate::dtype::DType::F32 => {
                type $type = f32;
                $body
            }
            $crate::dtype::DType::F64 => {
                type $type = f64;
                $body
            }
            $crate::dtype::DType::F16 => {
                type $type = half::f16;
                $body
            }
            other => return $crate::error::Error::dtype(other),
        }
    };
}
use match_own;
