//! scatter, index_add, index_fill, index_copy and index_put.

use super::offsets::{Policy, broadcast_strides};
use super::read::{advanced, along_dim, at_least_1d, expect, slices};
use super::steer::{Layout, Source, put};
use super::{Arithmetic, Dims, contiguous_strides, match_size};
use crate::convert::{Compute, Stored};
use crate::dtype::DType;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::fallible::filled;
use crate::loops::copy;
use crate::loops::iterate::Space;
use crate::match_stored;
use crate::value::Value;
use crate::view::{Attrs, View};

/// How scatter_reduce combines; the codes of its row's ints.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reduction {
    Sum,
    Prod,
    Mean,
    Amax,
    Amin,
}

impl Reduction {
    fn from_code(code: i64) -> Result<Self> {
        [Self::Sum, Self::Prod, Self::Mean, Self::Amax, Self::Amin]
            .get(code as usize)
            .copied()
            .ok_or_else(|| Error::Runtime(format!("unknown reduction {code}")))
    }

    fn identity<T: Element>(self) -> T {
        match self {
            Self::Sum | Self::Mean => T::ZERO,
            Self::Prod => T::ONE,
            Self::Amax => T::LOWEST,
            Self::Amin => T::HIGHEST,
        }
    }
}

/// `[self, index, src]`, ints `[dim]`: writes `src` through the index; the last of several wins.
pub fn scatter(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [to, index, from] = expect(views)?;
    let (layout, offsets) = along_dim(&to, &index, attrs.int(0) as usize)?;
    let from = cover(&from, &layout, attrs.int(0) as usize)?;
    assign(&to, &layout, &offsets, &from, from.strides())
}

/// `[self, index]`, ints `[dim, value]`, floats `[value]`.
pub fn scatter_value(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [to, index] = expect(views)?;
    let (layout, offsets) = along_dim(&to, &index, attrs.int(0) as usize)?;
    fill(&to, &layout, &offsets, attrs)
}

/// `[self, index]`, ints `[dim, value]`, floats `[value]`: fills the slices that the index names.
pub fn index_fill(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [to, index] = expect(views)?;
    let (layout, offsets) = slices(&to, &index, attrs.int(0) as usize, Policy::WRAP)?;
    fill(&to, &layout, &offsets, attrs)
}

/// `[self, index, source]`, ints `[dim]`: copies slices of `source` to the named ones.
pub fn index_copy(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [to, index, from] = expect(views)?;
    let (layout, offsets) = slices(&to, &index, attrs.int(0) as usize, Policy::STRICT)?;
    let strides = broadcast_strides(&from, &layout.sizes)?;
    assign(&to, &layout, &offsets, &from, &strides)
}

/// `[self, index, source]`, ints `[dim, alpha]`, floats `[alpha]`: adds `alpha * source`.
pub fn index_add(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [to, index, from] = expect(views)?;
    from.expect_dtype("source", to.dtype())?;
    match_stored!(to.dtype(), S => accumulated::<S>(&to, |to| {
        // As in PyTorch, the refusal is an IndexError for a vector only.
        let policy = if to.rank() > 1 { Policy::STRICT_RUNTIME } else { Policy::STRICT };
        let (layout, offsets) = slices(to, &index, attrs.int(0) as usize, policy)?;
        let strides = broadcast_strides(&from, &layout.sizes)?;
        let alpha = <S as Arithmetic>::Math::from_scalar(attrs.float(0), attrs.int(1));
        let source = Source { data: from.ptr::<S>().cast_const(), strides: &strides };
        let add = |sum: <S as Arithmetic>::Math, value: S| sum.add(alpha.mul(Compute::load(value)));
        // SAFETY: the layout and its offsets are of `to`; the source was broadcast over the layout.
        unsafe { put(to.ptr(), &layout, &offsets, &source, add) };
        Ok(())
    }))
}

/// `[self, values, indices...]` (absent for a full slice), ints `[accumulate]`.
pub fn index_put(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [to, values, indices @ ..] = views else {
        return Err(Error::Runtime("expected [self, values, indices...]".into()));
    };
    values.expect_dtype("values", to.dtype())?;
    if !attrs.flag(0) {
        let (layout, offsets) = advanced(to, indices)?;
        let strides = broadcast_strides(values, &layout.sizes)?;
        return assign(to, &layout, &offsets, values, &strides);
    }
    match_stored!(to.dtype(), S => accumulated::<S>(to, |to| {
        let (layout, offsets) = advanced(to, indices)?;
        let strides = broadcast_strides(values, &layout.sizes)?;
        let source = Source { data: values.ptr::<S>().cast_const(), strides: &strides };
        let add = |sum: <S as Arithmetic>::Math, value: S| sum.add(Compute::load(value));
        // SAFETY: the layout and its offsets are of `to`; the values were broadcast over the layout.
        unsafe { put(to.ptr(), &layout, &offsets, &source, add) };
        Ok(())
    }))
}

/// `[self, index, src]`, ints `[dim, reduction, include_self]`; reductions are sum, prod, mean,
/// amax, amin.
pub fn scatter_reduce(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [to, index, from] = expect(views)?;
    let dim = attrs.int(0) as usize;
    reduce(&to, &from, attrs, |to| {
        let (layout, offsets) = along_dim(to, &index, dim)?;
        let strides = cover(&from, &layout, dim)?.strides().into();
        Ok((layout, offsets, strides))
    })
}

/// `[self, index (1-D), source]`, ints as scatter_reduce's: reduces slices of the source into those
/// that the index names.
pub fn index_reduce(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [to, index, from] = expect(views)?;
    reduce(&to, &from, attrs, |to| {
        let (layout, offsets) = slices(to, &index, attrs.int(0) as usize, Policy::STRICT)?;
        let strides = broadcast_strides(&from, &layout.sizes)?;
        Ok((layout, offsets, strides))
    })
}

/// Reduces `from` into `to`; `steer` gives the layout over a tensor of `to`'s shape, its offsets, and
/// the source's strides.
fn reduce(
    to: &View<'_>,
    from: &View<'_>,
    attrs: &Attrs<'_>,
    steer: impl Fn(&View<'_>) -> Result<(Layout, Vec<isize>, Dims)>,
) -> Result<()> {
    from.expect_dtype("src", to.dtype())?;
    let (reduction, include_self) = (Reduction::from_code(attrs.int(1))?, attrs.flag(2));
    match_stored!(to.dtype(), S => accumulated::<S>(to, |to| {
        let (layout, offsets, strides) = steer(to)?;
        let source = Source { data: from.ptr::<S>().cast_const(), strides: &strides };
        // SAFETY: the layout and its offsets are of `to`; the source covers the layout.
        unsafe { reduce_through(to, &layout, &offsets, &source, reduction, include_self) };
        if reduction != Reduction::Mean {
            return Ok(());
        }
        let mut counts = filled(to.numel(), i64::from(include_self));
        let dense = contiguous_strides(to.sizes());
        // SAFETY: the vector has an element for each of `to`'s.
        let counts = unsafe { View::new(counts.as_mut_ptr().cast(), DType::I64, to.sizes(), &dense) };
        let (layout, offsets, strides) = steer(&counts)?;
        let source = Source { strides: &strides, ..source };
        // SAFETY: the layout and its offsets are of the counts; the source covers the layout.
        unsafe { put(counts.ptr(), &layout, &offsets, &source, |count: i64, _| count + 1) };
        divide_by_counts::<S>(to, &counts);
        Ok(())
    }))
}

/// # Safety
/// The layout and its offsets are of `to`; the source covers the layout.
unsafe fn reduce_through<S: Arithmetic>(
    to: &View<'_>,
    layout: &Layout,
    offsets: &[isize],
    source: &Source<'_, S>,
    reduction: Reduction,
    include_self: bool,
) {
    let data = to.ptr::<S::Math>();
    let load = |value: S| S::Math::load(value);
    // SAFETY: the caller's.
    unsafe {
        if !include_self {
            put(data, layout, offsets, source, |_, _| reduction.identity::<S::Math>());
        }
        match reduction {
            Reduction::Sum | Reduction::Mean => {
                put(data, layout, offsets, source, |sum: S::Math, value| sum.add(load(value)));
            }
            Reduction::Prod => put(data, layout, offsets, source, |product: S::Math, value| product.mul(load(value))),
            Reduction::Amax => put(data, layout, offsets, source, |best: S::Math, value| best.max(load(value))),
            Reduction::Amin => put(data, layout, offsets, source, |best: S::Math, value| best.min(load(value))),
        }
    }
}

/// The mean's second half: every element of `to` divided by how many values were summed in it.
fn divide_by_counts<S: Arithmetic>(to: &View<'_>, counts: &View<'_>) {
    let space = Space::of([to, counts]);
    if space.numel == 0 {
        return;
    }
    let strides = space.inner().strides;
    space.rows(0, space.numel, |offsets, count| {
        for at in 0..count as isize {
            // SAFETY: the row is within both views.
            unsafe {
                let value = to.ptr::<S::Math>().offset(offsets[0] + at * strides[0]);
                let count = *counts.ptr::<i64>().offset(offsets[1] + at * strides[1]);
                let divisor = if count > 1 { count } else { 1 };
                *value = if S::DTYPE.is_float() {
                    <S::Math as Stored>::from_f64(Element::to_f64(*value) / divisor as f64)
                } else {
                    <S::Math as Stored>::from_i64(Element::to_i64(*value).div_euclid(divisor))
                };
            }
        }
    });
}

/// Runs `body` on `to`, or for the half types on a copy of it in f32 that is stored afterwards:
/// sums are rounded once.
pub(super) fn accumulated<S: Arithmetic>(to: &View<'_>, body: impl FnOnce(&View<'_>) -> Result<()>) -> Result<()> {
    let math = <S::Math as Stored>::DTYPE;
    if math == to.dtype() {
        return body(to);
    }
    let mut scratch = filled(to.numel(), 0f32);
    let dense = contiguous_strides(to.sizes());
    // SAFETY: the vector has an element for each of `to`'s.
    let copied = unsafe { View::new(scratch.as_mut_ptr().cast(), math, to.sizes(), &dense) };
    copy::launch(&[copied, *to], &Attrs::default())?;
    body(&copied)?;
    copy::launch(&[*to, copied], &Attrs::default())
}

fn assign(to: &View<'_>, layout: &Layout, offsets: &[isize], from: &View<'_>, strides: &[i64]) -> Result<()> {
    from.expect_dtype("source", to.dtype())?;
    match_size!(to.dtype(), T => {
        let source = Source { data: from.ptr::<T>().cast_const(), strides };
        // SAFETY: the layout and its offsets are of `to`; the caller broadcast the source over it.
        unsafe { put(to.ptr::<T>(), layout, offsets, &source, |_, value| value) };
    });
    Ok(())
}

/// Writes the scalar after the dim in `attrs`.
fn fill(to: &View<'_>, layout: &Layout, offsets: &[isize], attrs: &Attrs<'_>) -> Result<()> {
    let strides = Dims::from_elem(0, layout.sizes.len());
    match_stored!(to.dtype(), S => {
        let value: S = scalar(to.dtype(), attrs);
        let source = Source { data: &raw const value, strides: &strides };
        // SAFETY: the layout and its offsets are of `to`; the source is one element at zero strides.
        unsafe { put(to.ptr::<S>(), layout, offsets, &source, |_, value| value) };
    });
    Ok(())
}

fn scalar<S: Stored>(dtype: DType, attrs: &Attrs<'_>) -> S {
    if dtype.is_float() { S::from_f64(attrs.float(0)) } else { S::from_i64(attrs.int(1)) }
}

/// The source of a scatter, which must be as large as the index in every dimension.
fn cover<'a>(from: &View<'a>, layout: &Layout, dim: usize) -> Result<View<'a>> {
    let from = at_least_1d(from);
    let fits =
        from.rank() == layout.sizes.len() && from.sizes().iter().zip(&layout.sizes).all(|(own, size)| own >= size);
    if fits || layout.sizes.contains(&0) {
        return Ok(from);
    }
    Err(Error::Shape(format!(
        "Expected index {:?} to be no larger than src {:?} in every dimension (scattering along {dim})",
        layout.sizes.as_slice(),
        from.sizes()
    )))
}
