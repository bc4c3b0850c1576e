//! The reductions of the op table, each with or without a [`Source`] of its elements.

use std::marker::PhantomData;

use super::dense_as;
use super::each::{
    CountMagnitudes, CountTrue, Each, Euclidean, Extreme, LargestMagnitude, Norm, NormOf, Power, Product,
    SmallestMagnitude, Step, Sum, SumMagnitudes, Test,
};
use super::engine::reduce;
use super::moments::Moments;
use super::position::Position;
use super::source::{Input, Source};
use crate::convert::{Compute, Stored};
use crate::dtype::DType;
use crate::element::Bool;
use crate::error::{Error, Result};
use crate::view::{Attrs, View};
use crate::{match_float, match_stored};

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

type Elements<'a> = Option<&'a dyn Source>;

fn one<'a>(views: &'a [View<'a>], source: Elements<'a>) -> Result<(&'a View<'a>, Input<'a>)> {
    match views {
        [output, view] => Ok((output, Input { view, source })),
        _ => Err(Error::Runtime(format!("expected [output, input], got {} views", views.len()))),
    }
}

fn two<'a>(views: &'a [View<'a>], source: Elements<'a>) -> Result<([Option<&'a View<'a>>; 2], Input<'a>)> {
    match views {
        [first, second, view] => Ok(([first.optional(), second.optional()], Input { view, source })),
        _ => Err(Error::Runtime(format!("expected two outputs and an input, got {} views", views.len()))),
    }
}

fn run<P: Step>(step: P, output: &View<'_>, input: Input<'_>) -> Result<()> {
    reduce(Each(step), [Some(output), None], input)
}

/// Whether a total of `to` is taken of elements of `from` as they are; else they are cast first.
pub fn sums_directly(from: DType, to: DType) -> bool {
    if to.is_float() {
        return from.is_float() && from.compute() == to.compute();
    }
    !from.is_float() && (to != DType::Bool || from == DType::Bool)
}

/// The input in a dtype whose totals are those of the output's dtype.
fn summable(output: &View<'_>, input: Input<'_>, body: impl FnOnce(Input<'_>) -> Result<()>) -> Result<()> {
    let (to, from) = (output.dtype(), input.view.dtype());
    if sums_directly(from, to) {
        return body(input);
    }
    if input.source.is_some() {
        return Err(Error::Runtime(format!("computed elements of {from} cannot be summed as {to}")));
    }
    dense_as(input.view, to.compute(), |view| body(Input { view, source: None }))
}

/// `[output, input]`. Elements are cast to the output's dtype and summed: floats in chunks that
/// are joined pairwise, half types in f32, integers wrapping in i64.
pub fn sum(views: &[View<'_>], _attrs: &Attrs<'_>, source: Elements<'_>) -> Result<()> {
    let (output, input) = one(views, source)?;
    summable(output, input, |input| {
        match_stored!(input.view.dtype(), S => {
            run(Sum::<S, <S as Reduced>::Total> { mean: false, types: PhantomData }, output, input)
        })
    })
}

/// `[output, input]`, of floats: the sum of what is not NaN.
pub fn nansum(views: &[View<'_>], _attrs: &Attrs<'_>, source: Elements<'_>) -> Result<()> {
    let (output, input) = one(views, source)?;
    summable(output, input, |input| {
        match_float!(input.view.dtype(), S => {
            run(Sum::<S, <S as Reduced>::Total, true> { mean: false, types: PhantomData }, output, input)
        })
    })
}

/// `[output, input]`, the output floating.
pub fn mean(views: &[View<'_>], _attrs: &Attrs<'_>, source: Elements<'_>) -> Result<()> {
    let (output, input) = one(views, source)?;
    if !output.dtype().is_float() {
        return Error::dtype(output.dtype());
    }
    summable(output, input, |input| {
        match_float!(input.view.dtype(), S => {
            run(Sum::<S, <S as Reduced>::Total> { mean: true, types: PhantomData }, output, input)
        })
    })
}

/// `[output, input]`, typed as `sum`.
pub fn prod(views: &[View<'_>], _attrs: &Attrs<'_>, source: Elements<'_>) -> Result<()> {
    let (output, input) = one(views, source)?;
    summable(
        output,
        input,
        |input| match_stored!(input.view.dtype(), S => run(Product::<S, <S as Reduced>::Total>(PhantomData), output, input)),
    )
}

/// `[output, input]`: the largest element; NaN where there is one.
pub fn amax(views: &[View<'_>], _attrs: &Attrs<'_>, source: Elements<'_>) -> Result<()> {
    let (output, input) = one(views, source)?;
    match_stored!(input.view.dtype(), S => run(Extreme::<S, <S as Reduced>::Own, true>(PhantomData), output, input))
}

/// `[output, input]`: the smallest element; NaN where there is one.
pub fn amin(views: &[View<'_>], _attrs: &Attrs<'_>, source: Elements<'_>) -> Result<()> {
    let (output, input) = one(views, source)?;
    match_stored!(input.view.dtype(), S => run(Extreme::<S, <S as Reduced>::Own, false>(PhantomData), output, input))
}

/// `[output, input]`: whether any element is true.
pub fn any(views: &[View<'_>], _attrs: &Attrs<'_>, source: Elements<'_>) -> Result<()> {
    let (output, input) = one(views, source)?;
    match_stored!(input.view.dtype(), S => run(Test::<S, false>(PhantomData), output, input))
}

/// `[output, input]`: whether all elements are true.
pub fn all(views: &[View<'_>], _attrs: &Attrs<'_>, source: Elements<'_>) -> Result<()> {
    let (output, input) = one(views, source)?;
    match_stored!(input.view.dtype(), S => run(Test::<S, true>(PhantomData), output, input))
}

/// `[output, input]`: how many elements are not zero.
pub fn count_nonzero(views: &[View<'_>], _attrs: &Attrs<'_>, source: Elements<'_>) -> Result<()> {
    let (output, input) = one(views, source)?;
    match_stored!(input.view.dtype(), S => run(CountTrue::<S>(PhantomData), output, input))
}

/// `[values, positions, input]`, either output may be absent: the largest element, the first NaN
/// where there is one, and its position in C order among the reduced elements.
pub fn max_position(views: &[View<'_>], _attrs: &Attrs<'_>, source: Elements<'_>) -> Result<()> {
    let (outputs, input) = two(views, source)?;
    match_stored!(input.view.dtype(), S => reduce(Position::<S, <S as Reduced>::Own, true>(PhantomData), outputs, input))
}

/// `[values, positions, input]`, as `max_position` for the smallest element.
pub fn min_position(views: &[View<'_>], _attrs: &Attrs<'_>, source: Elements<'_>) -> Result<()> {
    let (outputs, input) = two(views, source)?;
    match_stored!(input.view.dtype(), S => reduce(Position::<S, <S as Reduced>::Own, false>(PhantomData), outputs, input))
}

/// `[variance, mean, input]`, either output may be absent; ints `[root]` (the standard deviation
/// instead of the variance), floats `[correction]`.
pub fn variance(views: &[View<'_>], attrs: &Attrs<'_>, source: Elements<'_>) -> Result<()> {
    let (outputs, input) = two(views, source)?;
    let (correction, root) = (attrs.float(0), attrs.flag(0));
    match_float!(input.view.dtype(), S => reduce(Moments::<S> { correction, root, types: PhantomData }, outputs, input))
}

/// `[output, input]`; floats `[p]`: the vector norm of any order.
pub fn norm(views: &[View<'_>], attrs: &Attrs<'_>, source: Elements<'_>) -> Result<()> {
    let (output, input) = one(views, source)?;
    if !output.dtype().is_float() {
        return Error::dtype(output.dtype());
    }
    summable(output, input, |input| {
        match_float!(input.view.dtype(), S => {
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

fn norm_by<S: Reduced, N: Norm<S::Total>>(norm: N, output: &View<'_>, input: Input<'_>) -> Result<()>
where
    S::Total: crate::element::Float,
{
    run(NormOf::<S, S::Total, N> { norm, types: PhantomData }, output, input)
}
