//! gather, index_select and indexing with tensors.

use smallvec::SmallVec;

use super::offsets::{Axis, Policy, broadcast_strides, offsets};
use super::steer::{Layout, take};
use super::{Dims, contiguous_strides};
use crate::error::{Error, Result};
use crate::fallible::Collected;
use crate::view::{Attrs, View};

/// `[out, self, index]`, ints `[dim]`: `out[i][j] = self[index[i][j]][j]` for dim 0.
pub fn gather(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [out, from, index] = expect(views)?;
    let (layout, offsets) = along_dim(&from, &index, attrs.int(0) as usize)?;
    take(&out, &from, &layout, &offsets)
}

/// `[out, self, index]`, ints `[dim]`: the slices of `self` that the 1-D index names.
pub fn index_select(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [out, from, index] = expect(views)?;
    let (layout, offsets) = slices(&from, &index, attrs.int(0) as usize, Policy::STRICT)?;
    take(&out, &from, &layout, &offsets)
}

/// `[out, self, indices...]`: indexing with broadcast index tensors, absent for a full slice.
pub fn index(views: &[View<'_>], _attrs: &Attrs<'_>) -> Result<()> {
    let [out, from, indices @ ..] = views else {
        return Err(Error::Runtime("expected [out, self, indices...]".into()));
    };
    let (layout, offsets) = advanced(from, indices)?;
    take(out, from, &layout, &offsets)
}

pub(crate) fn expect<'a, const COUNT: usize>(views: &[View<'a>]) -> Result<[View<'a>; COUNT]> {
    views.try_into().map_err(|_| Error::Runtime(format!("expected {COUNT} operands, got {}", views.len())))
}

/// A 0-D tensor is indexed as one of a single element.
pub(super) fn at_least_1d<'a>(view: &View<'a>) -> View<'a> {
    if view.rank() > 0 {
        return *view;
    }
    // SAFETY: one element, which a 0-D view reaches.
    unsafe { view.reshaped(0, &[1], &[1]) }
}

/// The layout of gather and scatter: the index has the result's sizes and replaces `dim`.
pub(super) fn along_dim(steered: &View<'_>, index: &View<'_>, dim: usize) -> Result<(Layout, Vec<isize>)> {
    let (steered, index) = (at_least_1d(steered), at_least_1d(index));
    if steered.rank() != index.rank() || dim >= steered.rank() {
        return Err(Error::Shape(format!(
            "Index tensor must have the same number of dimensions as self tensor: {:?} and {:?}",
            index.sizes(),
            steered.sizes()
        )));
    }
    let larger = |at: usize| at != dim && index.sizes()[at] > steered.sizes()[at];
    if index.numel() > 0 && (0..index.rank()).any(larger) {
        return Err(Error::Shape(format!(
            "Size does not match at dimension: expected index {:?} to be no larger than self {:?} apart from dimension {dim}",
            index.sizes(),
            steered.sizes()
        )));
    }
    let offsets = offsets(&[Axis::new(&index, &steered, dim)], index.sizes(), Policy::STRICT_RUNTIME)?;
    let mut tensor: Dims = steered.strides().into();
    tensor[dim] = 0;
    let layout = Layout {
        sizes: index.sizes().into(),
        tensor,
        offsets: contiguous_strides(index.sizes()),
        steered: SmallVec::from_iter((0..index.rank()).map(|at| at == dim)),
    };
    Ok((layout, offsets))
}

/// The layout of index_select and index_add: a 1-D index picks slices along `dim`.
pub(super) fn slices(steered: &View<'_>, index: &View<'_>, dim: usize, policy: Policy) -> Result<(Layout, Vec<isize>)> {
    let (steered, index) = (at_least_1d(steered), at_least_1d(index));
    index.expect_rank("index", 1)?;
    if dim >= steered.rank() {
        return Err(Error::Shape(format!("dimension {dim} is out of range for {:?}", steered.sizes())));
    }
    let offsets = offsets(&[Axis::new(&index, &steered, dim)], index.sizes(), policy)?;
    let mut sizes: Dims = steered.sizes().into();
    let mut tensor: Dims = steered.strides().into();
    let mut strides = Dims::from_elem(0, sizes.len());
    sizes[dim] = index.sizes()[0];
    tensor[dim] = 0;
    strides[dim] = 1;
    let steered = SmallVec::from_iter((0..sizes.len()).map(|at| at == dim));
    Ok((Layout { sizes, tensor, offsets: strides, steered }, offsets))
}

/// The layout of advanced indexing. The broadcast shape of the indices stands where the first
/// index stood if they are neighbours, else in front.
pub(super) fn advanced(steered: &View<'_>, indices: &[View<'_>]) -> Result<(Layout, Vec<isize>)> {
    let given: SmallVec<[usize; 6]> = SmallVec::from_iter((0..indices.len()).filter(|&dim| indices[dim].is_present()));
    if indices.len() > steered.rank() {
        return Err(Error::Shape(format!(
            "too many indices for tensor of dimension {} (got {})",
            steered.rank(),
            indices.len()
        )));
    }
    let broadcast = broadcast_sizes(given.iter().map(|&dim| &indices[dim]))?;
    let axes: SmallVec<[Axis<'_>; 4]> =
        SmallVec::from_iter(given.iter().map(|&dim| Axis::new(&indices[dim], steered, dim)));
    let offsets = offsets(&axes, &broadcast, Policy::WRAP)?;
    let neighbours = given.windows(2).all(|pair| pair[1] == pair[0] + 1);
    let place = if neighbours { given.first().copied().unwrap_or(0) } else { 0 };
    let mut layout = Layout { sizes: Dims::new(), tensor: Dims::new(), offsets: Dims::new(), steered: SmallVec::new() };
    let mut push = |size: i64, tensor: i64, offset: i64, steered: bool| {
        layout.sizes.push(size);
        layout.tensor.push(tensor);
        layout.offsets.push(offset);
        layout.steered.push(steered);
    };
    let dense = contiguous_strides(&broadcast);
    let mut kept = (0..steered.rank()).filter(|dim| !given.contains(dim));
    for dim in kept.by_ref().take(place) {
        push(steered.sizes()[dim], steered.strides()[dim], 0, false);
    }
    for (&size, &stride) in broadcast.iter().zip(&dense) {
        push(size, 0, stride, true);
    }
    for dim in kept {
        push(steered.sizes()[dim], steered.strides()[dim], 0, false);
    }
    Ok((layout, offsets))
}

fn broadcast_sizes<'a, 'b: 'a>(indices: impl Iterator<Item = &'a View<'b>> + Clone) -> Result<Dims> {
    let rank = indices.clone().map(View::rank).max().unwrap_or(0);
    let mut sizes = Dims::from_elem(1, rank);
    for index in indices.clone() {
        for (size, &own) in sizes[rank - index.rank()..].iter_mut().zip(index.sizes()) {
            if own != 1 {
                *size = own;
            }
        }
    }
    for index in indices.clone() {
        if broadcast_strides(index, &sizes).is_err() {
            let shapes: Vec<String> = indices.map(|index| format!("{:?}", index.sizes())).collected();
            return Err(Error::Value(format!(
                "shape mismatch: indexing tensors could not be broadcast together with shapes {}",
                shapes.join(", ")
            )));
        }
    }
    Ok(sizes)
}
