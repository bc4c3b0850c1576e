//! Ops that move elements by index tensors. Every index is checked (and wrapped, where PyTorch
//! wraps it) and turned into an element offset before anything is written; one loop then reads
//! through the offsets ([`steer::take`]) and one writes through them ([`steer::put`]).

mod arrange;
mod bag;
mod count;
mod embedding;
mod flat;
mod mask;
mod offsets;
mod read;
mod steer;
mod write;

pub use arrange::{flip, roll, tril, triu};
pub use bag::{embedding_bag, embedding_bag_backward, embedding_bag_weights_backward, embedding_renorm};
pub use count::{bincount, repeat_interleave};
pub use embedding::{embedding, embedding_backward};
pub use flat::{put, take};
pub use mask::{count_true, masked_scatter, masked_select, nonzero};
pub(crate) use read::expect;
pub use read::{gather, index, index_select};
pub use write::{index_add, index_copy, index_fill, index_put, index_reduce, scatter, scatter_reduce, scatter_value};

use smallvec::{SmallVec, smallvec};

use crate::convert::{Compute, Stored};
use crate::element::Bool;
use crate::view::View;

/// Sizes or strides.
pub type Dims = SmallVec<[i64; 6]>;

/// The strides of a dense C-order tensor.
pub fn contiguous_strides(sizes: &[i64]) -> Dims {
    let mut strides: Dims = smallvec![1; sizes.len()];
    for dim in (1..sizes.len()).rev() {
        strides[dim - 1] = strides[dim] * sizes[dim].max(1);
    }
    strides
}

/// The offset of element number `linear`, counted in C order.
pub(crate) fn offset_of(view: &View<'_>, mut linear: usize) -> isize {
    let mut offset = 0;
    for dim in (0..view.rank()).rev() {
        offset += (linear % view.size(dim)) as isize * view.stride(dim);
        linear /= view.size(dim);
    }
    offset
}

/// The type that sums and comparisons of a stored type are made in: itself, or f32 for the halves.
pub(crate) trait Arithmetic: Stored {
    type Math: Compute + Stored;
}
macro_rules! arithmetic {
    ($($stored:ty: $math:ty),*) => {$(impl Arithmetic for $stored { type Math = $math; })*};
}
arithmetic!(
    u8: u8, i8: i8, i16: i16, i32: i32, i64: i64, f32: f32, f64: f64, Bool: Bool, half::bf16: f32, half::f16: f32
);

/// Calls `$body` with `$type` bound to a plain type as large as the elements of `$dtype`.
macro_rules! match_size {
    ($dtype:expr, $type:ident => $body:expr) => {
        match $dtype.size() {
            1 => {
                type $type = u8;
                $body
            }
            2 => {
                type $type = u16;
                $body
            }
            4 => {
                type $type = u32;
                $body
            }
            8 => {
                type $type = u64;
                $body
            }
            // Complex128 is only aligned to eight bytes.
            _ => {
                type $type = [u64; 2];
                $body
            }
        }
    };
}
use match_size;
