//! Reductions over any set of dimensions, and running totals along one.
//!
//! An output has the input's rank, with size one in the reduced dimensions (`keepdim`); which
//! dimensions are reduced is read from the shapes.

mod each;
pub mod engine;
pub mod moments;
mod position;
mod rows;
mod scan;
mod segments;
mod source;

use crate::dtype::DType;
use crate::error::Result;
use crate::fallible::filled;
use crate::loops::copy;
use crate::view::{Attrs, View};
pub use rows::sums_directly;
pub use scan::{cummax, cummin, cumprod, cumsum, logcumsumexp};
pub use segments::{segment_reduce, segment_reduce_backward};
pub use source::{Fold, LANES, Launch, Runs, Source};

/// The table's entries, which read memory, and the rows by name, for whoever computes their input.
macro_rules! rows {
    ($($name:ident)*) => {
        $(pub fn $name(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
            rows::$name(views, attrs, None)
        })*

        /// The reduction of this name.
        pub fn row(name: &str) -> Option<Launch> {
            match name {
                $(stringify!($name) => Some(rows::$name),)*
                _ => None,
            }
        }
    };
}
rows!(sum nansum mean prod amax amin any all count_nonzero max_position min_position variance norm);

/// Calls `body` with the view itself, where it has `dtype` already, or else with a dense copy.
pub(crate) fn dense_as(view: &View<'_>, dtype: DType, body: impl FnOnce(&View<'_>) -> Result<()>) -> Result<()> {
    if view.dtype() == dtype {
        return body(view);
    }
    let mut strides = filled(view.rank(), 1);
    for dim in (1..view.rank()).rev() {
        strides[dim - 1] = strides[dim] * view.sizes()[dim].max(1);
    }
    let mut memory = filled((view.numel() * dtype.size()).div_ceil(8), 0u64);
    // SAFETY: the memory holds `numel` elements of the dtype, and outlives the call.
    let dense = unsafe { View::new(memory.as_mut_ptr().cast(), dtype, view.sizes(), &strides) };
    copy::launch(&[dense, *view], &Attrs::default())?;
    body(&dense)
}
