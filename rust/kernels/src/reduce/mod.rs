//! Reductions over any set of dimensions, and running totals along one.
//!
//! An output has the input's rank, with size one in the reduced dimensions (`keepdim`); which
//! dimensions are reduced is read from the shapes.

mod each;
pub mod engine;
pub mod moments;
mod position;
mod scan;
mod segments;

use std::marker::PhantomData;

use crate::convert::{Compute, Stored};
use crate::dtype::DType;
use crate::element::Bool;
use crate::error::{Error, Result};
use crate::loops::copy;
use crate::view::{Attrs, View};
use crate::{match_float, match_stored};
use each::{
    CountMagnitudes, CountTrue, Each, Euclidean, Extreme, LargestMagnitude, Norm, NormOf, Power, Product,
    SmallestMagnitude, Step, Sum, SumMagnitudes, Test,
};
use engine::reduce;
use moments::Moments;
use position::Position;
pub use scan::{cummax, cummin, cumprod, cumsum, logcumsumexp};
pub use segments::{segment_reduce, segment_reduce_backward};

/// The types that a stored type is reduced in.
trait Reduced: Stored {
    /// Wide enough for totals.
    type Total: Compute + Stored;
    /// For comparisons.
    type Own: Compute + Stored;
}
macro_rules! reduced {
    ($($type:ty: $total:ty, $own:ty;)*) => {$(
        impl Reduced for $type {
            type Total = $total;
            type Own = $own;
        }
    )*};
}
reduced! {
    u8: i64, u8;
    i8: i64, i8;
    i16: i64, i16;
    i32: i64, i32;
    i64: i64, i64;
    Bool: i64, Bool;
    f32: f32, f32;
    f64: f64, f64;
    half::bf16: f32, f32;
    half::f16: f32, f32;
}

fn one<'a, 'b>(views: &'b [View<'a>]) -> Result<[&'b View<'a>; 2]> {
    match views {
        [output, input] => Ok([output, input]),
        _ => Err(Error::Runtime(format!("expected [output, input], got {} views", views.len()))),
    }
}

fn two<'a, 'b>(views: &'b [View<'a>]) -> Result<([Option<&'b View<'a>>; 2], &'b View<'a>)> {
    match views {
        [first, second, input] => Ok(([first.optional(), second.optional()], input)),
        _ => Err(Error::Runtime(format!("expected two outputs and an input, got {} views", views.len()))),
    }
}

fn run<P: Step>(step: P, output: &View<'_>, input: &View<'_>) -> Result<()> {
    reduce(Each(step), [Some(output), None], input)
}

/// Calls `body` with the view itself, where it has `dtype` already, or else with a dense copy.
pub(crate) fn dense_as(view: &View<'_>, dtype: DType, body: impl FnOnce(&View<'_>) -> Result<()>) -> Result<()> {
    if view.dtype() == dtype {
        return body(view);
    }
    let mut strides = vec![1; view.rank()];
    for dim in (1..view.rank()).rev() {
        strides[dim - 1] = strides[dim] * view.sizes()[dim].max(1);
    }
    let mut memory = vec![0u64; (view.numel() * dtype.size()).div_ceil(8)];
    // SAFETY: the memory holds `numel` elements of the dtype, and outlives the call.
    let dense = unsafe { View::new(memory.as_mut_ptr().cast(), dtype, view.sizes(), &strides) };
    copy::launch(&[dense, *view], &Attrs::default())?;
    body(&dense)
}

/// The input in a dtype whose totals are those of the output's dtype.
fn summable(output: &View<'_>, input: &View<'_>, body: impl FnOnce(&View<'_>) -> Result<()>) -> Result<()> {
    let (to, from) = (output.dtype(), input.dtype());
    let direct = if to.is_float() {
        from.is_float() && from.compute() == to.compute()
    } else {
        !from.is_float() && (to != DType::Bool || from == DType::Bool)
    };
    dense_as(input, if direct { from } else { to.compute() }, body)
}

/// `[output, input]`. Elements are cast to the output's dtype and summed: floats in chunks that
/// are joined pairwise, half types in f32, integers wrapping in i64.
pub fn sum(views: &[View<'_>], _attrs: &Attrs<'_>) -> Result<()> {
    let [output, input] = one(views)?;
    summable(output, input, |input| {
        match_stored!(input.dtype(), S => {
            run(Sum::<S, <S as Reduced>::Total> { mean: false, types: PhantomData }, output, input)
        })
    })
}

/// `[output, input]`, of floats: the sum of what is not NaN.
pub fn nansum(views: &[View<'_>], _attrs: &Attrs<'_>) -> Result<()> {
    let [output, input] = one(views)?;
    summable(output, input, |input| {
        match_float!(input.dtype(), S => {
            run(Sum::<S, <S as Reduced>::Total, true> { mean: false, types: PhantomData }, output, input)
        })
    })
}

/// `[output, input]`, the output floating.
pub fn mean(views: &[View<'_>], _attrs: &Attrs<'_>) -> Result<()> {
    let [output, input] = one(views)?;
    if !output.dtype().is_float() {
        return Error::dtype(output.dtype());
    }
    summable(output, input, |input| {
        match_float!(input.dtype(), S => {
            run(Sum::<S, <S as Reduced>::Total> { mean: true, types: PhantomData }, output, input)
        })
    })
}

/// `[output, input]`, typed as `sum`.
pub fn prod(views: &[View<'_>], _attrs: &Attrs<'_>) -> Result<()> {
    let [output, input] = one(views)?;
    summable(
        output,
        input,
        |input| match_stored!(input.dtype(), S => run(Product::<S, <S as Reduced>::Total>(PhantomData), output, input)),
    )
}

/// `[output, input]`: the largest element; NaN where there is one.
pub fn amax(views: &[View<'_>], _attrs: &Attrs<'_>) -> Result<()> {
    let [output, input] = one(views)?;
    match_stored!(input.dtype(), S => run(Extreme::<S, <S as Reduced>::Own, true>(PhantomData), output, input))
}

/// `[output, input]`: the smallest element; NaN where there is one.
pub fn amin(views: &[View<'_>], _attrs: &Attrs<'_>) -> Result<()> {
    let [output, input] = one(views)?;
    match_stored!(input.dtype(), S => run(Extreme::<S, <S as Reduced>::Own, false>(PhantomData), output, input))
}

/// `[output, input]`: whether any element is true.
pub fn any(views: &[View<'_>], _attrs: &Attrs<'_>) -> Result<()> {
    let [output, input] = one(views)?;
    match_stored!(input.dtype(), S => run(Test::<S, false>(PhantomData), output, input))
}

/// `[output, input]`: whether all elements are true.
pub fn all(views: &[View<'_>], _attrs: &Attrs<'_>) -> Result<()> {
    let [output, input] = one(views)?;
    match_stored!(input.dtype(), S => run(Test::<S, true>(PhantomData), output, input))
}

/// `[output, input]`: how many elements are not zero.
pub fn count_nonzero(views: &[View<'_>], _attrs: &Attrs<'_>) -> Result<()> {
    let [output, input] = one(views)?;
    match_stored!(input.dtype(), S => run(CountTrue::<S>(PhantomData), output, input))
}

/// `[values, positions, input]`, either output may be absent: the largest element, the first NaN
/// where there is one, and its position in C order among the reduced elements.
pub fn max_position(views: &[View<'_>], _attrs: &Attrs<'_>) -> Result<()> {
    let (outputs, input) = two(views)?;
    match_stored!(input.dtype(), S => reduce(Position::<S, <S as Reduced>::Own, true>(PhantomData), outputs, input))
}

/// `[values, positions, input]`, as `max_position` for the smallest element.
pub fn min_position(views: &[View<'_>], _attrs: &Attrs<'_>) -> Result<()> {
    let (outputs, input) = two(views)?;
    match_stored!(input.dtype(), S => reduce(Position::<S, <S as Reduced>::Own, false>(PhantomData), outputs, input))
}

/// `[variance, mean, input]`, either output may be absent; ints `[root]` (the standard deviation
/// instead of the variance), floats `[correction]`.
pub fn variance(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let (outputs, input) = two(views)?;
    let (correction, root) = (attrs.float(0), attrs.flag(0));
    match_float!(input.dtype(), S => reduce(Moments::<S> { correction, root, types: PhantomData }, outputs, input))
}

/// `[output, input]`; floats `[p]`: the vector norm of any order.
pub fn norm(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [output, input] = one(views)?;
    if !output.dtype().is_float() {
        return Error::dtype(output.dtype());
    }
    summable(output, input, |input| {
        match_float!(input.dtype(), S => {
            let p = attrs.float(0);
            if p == 0.0 {
                norm_by::<S, _>(CountMagnitudes, output, input)
            } else if p == 1.0 {
                norm_by::<S, _>(SumMagnitudes, output, input)
            } else if p == 2.0 {
                norm_by::<S, _>(Euclidean, output, input)
            } else if p == f64::INFINITY {
                norm_by::<S, _>(LargestMagnitude, output, input)
            } else if p == f64::NEG_INFINITY {
                norm_by::<S, _>(SmallestMagnitude, output, input)
            } else {
                norm_by::<S, _>(Power(p), output, input)
            }
        })
    })
}

fn norm_by<S: Reduced, N: Norm<S::Total>>(norm: N, output: &View<'_>, input: &View<'_>) -> Result<()>
where
    S::Total: crate::element::Float,
{
    run(NormOf::<S, S::Total, N> { norm, types: PhantomData }, output, input)
}
