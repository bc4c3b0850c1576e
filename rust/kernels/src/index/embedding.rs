//! Rows of a table looked up by tokens, and their gradients summed back.

use smallvec::SmallVec;

use super::offsets::{Axis, Policy, offsets};
use super::read::expect;
use super::steer::{Layout, take};
use super::{Arithmetic, Dims, contiguous_strides};
use crate::convert::{Compute, Stored};
use crate::error::Result;
use crate::fallible::{Collected, filled};
use crate::isa;
use crate::lanes::{Vectorised, vectorise_at};
use crate::loops::copy::Cast;
use crate::threads;
use crate::value::Value;
use crate::view::{Attrs, View};

/// Columns of a task of the backward pass.
const COLUMNS: usize = 64;

/// `[out, weight, indices]`: `out[..., :] = weight[indices[...], :]`.
pub fn embedding(views: &[View<'_>], _attrs: &Attrs<'_>) -> Result<()> {
    let [out, weight, indices] = expect(views)?;
    weight.expect_rank("weight", 2)?;
    let offsets = offsets(&[Axis::new(&indices, &weight, 0)], indices.sizes(), Policy::STRICT)?;
    let extended = |dims: &[i64], last: i64| -> Dims { Dims::from_iter(dims.iter().copied().chain([last])) };
    let layout = Layout {
        sizes: extended(indices.sizes(), weight.sizes()[1]),
        tensor: extended(&Dims::from_elem(0, indices.rank()), weight.strides()[1]),
        offsets: extended(&contiguous_strides(indices.sizes()), 0),
        steered: SmallVec::from_iter((0..=indices.rank()).map(|dim| dim < indices.rank())),
    };
    take(&out, &weight, &layout, &offsets)
}

/// `[grad_weight, grad, indices]`, ints `[padding_idx, scale_grad_by_freq]`. The gradient of every
/// token is added to its row in the tokens' order, whatever the threads; tokens that are
/// `padding_idx` add nothing; with the flag, each is divided by how often its token occurs.
pub fn embedding_backward(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [grad_weight, grad, indices] = expect(views)?;
    grad_weight.expect_rank("grad_weight", 2)?;
    let width = grad_weight.sizes()[1];
    let expected = indices.sizes().iter().copied().chain([width]).map(|size| size as usize).collected();
    grad.expect_sizes("grad_output", &expected)?;
    grad.expect_dtype("grad_output", grad_weight.dtype())?;
    let rows = Axis { index: indices, dim: 0, size: grad_weight.sizes()[0], stride: 1 };
    let tokens = offsets(&[rows], indices.sizes(), Policy::STRICT)?;
    crate::match_float!(grad.dtype(), S => {
        let task = Backward::<S>::new(&grad_weight, &grad, &tokens, attrs);
        task.run();
    });
    Ok(())
}

struct Backward<'a, S: Arithmetic> {
    grad_weight: &'a View<'a>,
    grad: &'a View<'a>,
    tokens: &'a [isize],
    /// Where each token's gradient begins, from `grad`'s first element.
    starts: Vec<isize>,
    /// The factor of each table row; zero where it is `padding_idx`.
    scales: Vec<S::Math>,
}

impl<'a, S: Arithmetic> Backward<'a, S> {
    fn new(grad_weight: &'a View<'a>, grad: &'a View<'a>, tokens: &'a [isize], attrs: &Attrs<'_>) -> Self {
        let mut scales = filled(grad_weight.size(0), <S::Math as Value>::ONE);
        if attrs.flag(1) {
            let mut counts = filled(scales.len(), 0i64);
            tokens.iter().for_each(|&token| counts[token as usize] += 1);
            for (scale, &count) in scales.iter_mut().zip(&counts) {
                *scale = Stored::from_f64(1.0 / if count > 1 { count as f64 } else { 1.0 });
            }
        }
        if let Some(scale) = usize::try_from(attrs.int(0)).ok().and_then(|row| scales.get_mut(row)) {
            *scale = Value::ZERO;
        }
        let rank = grad.rank() - 1;
        let (sizes, strides) = (&grad.sizes()[..rank], &grad.strides()[..rank]);
        let starts = (0..tokens.len()).map(|mut linear| {
            let mut start = 0;
            for dim in (0..rank).rev() {
                start += (linear % sizes[dim] as usize) as isize * strides[dim] as isize;
                linear /= sizes[dim] as usize;
            }
            start
        });
        Self { grad_weight, grad, tokens, starts: starts.collected(), scales }
    }

    fn run(&self) {
        let (rows, width) = (self.grad_weight.size(0), self.grad_weight.size(1));
        let level = isa::level();
        let nanoseconds = rows * width / 4 + self.tokens.len() * width / 2;
        threads::parallel_chunks(width, COLUMNS, nanoseconds, |columns| {
            let count = columns.len();
            let mut sums = filled(rows * count, <S::Math as Value>::ZERO);
            let grad_stride = self.grad.stride(self.grad.rank() - 1);
            for (&token, &start) in self.tokens.iter().zip(&self.starts) {
                let scale = self.scales[token as usize];
                if scale == Value::ZERO {
                    continue;
                }
                let from = self.grad.ptr::<S>().wrapping_offset(start + columns.start as isize * grad_stride);
                let sums = &mut sums[token as usize * count..][..count];
                // SAFETY: the token's piece of row lies within `grad`.
                unsafe { vectorise_at(level, AddScaled::<S> { sums, from, stride: grad_stride, scale }) };
            }
            let store = Cast::new(<S::Math as Stored>::DTYPE, S::DTYPE).expect("floats are cast to floats");
            let stride = self.grad_weight.stride(1);
            for (row, sums) in sums.chunks_exact(count).enumerate() {
                let offset = row as isize * self.grad_weight.stride(0) + columns.start as isize * stride;
                let to = self.grad_weight.ptr::<S>().wrapping_offset(offset);
                // SAFETY: the columns of one row of the table's gradient, written by this task alone.
                unsafe { (store.run)(level, count, sums.as_ptr().cast(), 1, to.cast(), stride) };
            }
        });
    }
}

struct AddScaled<'a, S: Arithmetic> {
    sums: &'a mut [S::Math],
    from: *const S,
    stride: isize,
    scale: S::Math,
}

impl<S: Arithmetic> Vectorised for AddScaled<'_, S> {
    type Output = ();
    #[inline(always)]
    unsafe fn run(self) {
        let Self { sums, from, stride, scale } = self;
        // SAFETY: the caller promised an element of `from` for each sum.
        unsafe {
            if stride == 1 {
                for (at, sum) in sums.iter_mut().enumerate() {
                    *sum = sum.add(scale.mul(S::Math::load(*from.add(at))));
                }
            } else {
                for (at, sum) in sums.iter_mut().enumerate() {
                    *sum = sum.add(scale.mul(S::Math::load(*from.offset(at as isize * stride))));
                }
            }
        }
    }
}

// SAFETY: addresses and shapes; tasks write disjoint columns.
unsafe impl<S: Arithmetic> Sync for Backward<'_, S> {}
