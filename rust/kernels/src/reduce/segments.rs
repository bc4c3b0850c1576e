//! Reductions over consecutive segments of a dimension, whose lengths a tensor gives.

use crate::convert::StoredFloat;
use crate::dtype::DType;
use crate::element::{Element, Float};
use crate::error::{Error, Result};
use crate::fallible::{Collected, reserved};
use crate::match_float;
use crate::threads;
use crate::value::{Floating, Value};
use crate::view::{Attrs, View};

#[derive(Clone, Copy, PartialEq)]
enum Reduction {
    Max,
    Mean,
    Min,
    Sum,
    Product,
}

impl Reduction {
    fn of(attrs: &Attrs<'_>) -> Result<Self> {
        Ok(match attrs.int(0) {
            0 => Self::Max,
            1 => Self::Mean,
            2 => Self::Min,
            3 => Self::Sum,
            4 => Self::Product,
            other => return Err(Error::Runtime(format!("unknown reduction {other}"))),
        })
    }

    /// What a segment starts from where no initial value was given.
    fn identity<T: Float>(self) -> T {
        match self {
            Self::Max => T::LOWEST,
            Self::Min => T::HIGHEST,
            Self::Mean | Self::Sum => T::ZERO,
            Self::Product => T::ONE,
        }
    }

    fn step<T: Float>(self, total: T, item: T) -> T {
        match self {
            Self::Max => total.max(item),
            Self::Min => total.min(item),
            Self::Mean | Self::Sum => total.add(item),
            Self::Product => total.mul(item),
        }
    }
}

/// A part of one segment: a column of a 3-D view, `[outer, along, inner]`.
#[derive(Clone, Copy)]
struct Column<S> {
    data: *mut S,
    stride: isize,
    count: usize,
}

impl<S: StoredFloat> Column<S> {
    fn new(view: &View<'_>, outer: usize, range: std::ops::Range<usize>, inner: usize) -> Self {
        let at = [outer, range.start, inner];
        let offset = (0..3).map(|dim| at[dim] as isize * view.stride(dim)).sum();
        Self { data: view.ptr::<S>().wrapping_offset(offset), stride: view.stride(1), count: range.len() }
    }

    fn get(self, at: usize) -> S::Math {
        // SAFETY: within the view; segments were checked to lie within the dimension.
        unsafe { (*self.data.offset(at as isize * self.stride)).load() }
    }

    fn set(self, at: usize, value: S::Math) {
        // SAFETY: as above; each task writes its own segments.
        unsafe { *self.data.offset(at as isize * self.stride) = S::save(value) };
    }

    fn values(self) -> impl Iterator<Item = S::Math> {
        (0..self.count).map(move |at| self.get(at))
    }
}

/// Calls `body(outer, segment, range)` for every segment, after its range was checked.
fn for_each_segment(
    reduced: &View<'_>,
    data: &View<'_>,
    lengths: &View<'_>,
    body: impl Fn(usize, usize, std::ops::Range<usize>) + Sync,
) -> Result<()> {
    for (name, view) in [("the result", reduced), ("data", data)] {
        view.expect_rank(name, 3)?;
    }
    lengths.expect_dtype("lengths", DType::I64)?;
    lengths.expect_sizes("lengths", &[data.size(0), reduced.size(1)])?;
    reduced.expect_sizes("the result", &[data.size(0), lengths.size(1), data.size(2)])?;
    let (outer, segments) = (lengths.size(0), lengths.size(1));
    let mut ranges = reserved(outer * segments);
    for row in 0..outer {
        let mut start = 0;
        for segment in 0..segments {
            let offset = row as isize * lengths.stride(0) + segment as isize * lengths.stride(1);
            // SAFETY: within the lengths, which are i64.
            let length = unsafe { *lengths.ptr::<i64>().offset(offset) };
            let end = usize::try_from(length).ok().map(|length| start + length).filter(|&end| end <= data.size(1));
            let Some(end) = end else {
                let size = data.size(1);
                return Err(Error::Runtime(format!("segment {segment} of length {length} from {start}, of {size}")));
            };
            ranges.push(start..end);
            start = end;
        }
    }
    let work = data.numel().max(ranges.len()) * 2;
    threads::parallel(ranges.len(), work, |at| body(at / segments, at % segments, ranges[at].clone()));
    Ok(())
}

/// `[out, data, lengths]`: `[outer, segments, inner]`, `[outer, along, inner]`, `[outer, segments]` of
/// i64. Ints `[reduction (0 max, 1 mean, 2 min, 3 sum, 4 product), has_initial]`, floats `[initial]`.
pub fn segment_reduce(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [out, data, lengths] = views else {
        return Err(Error::Runtime(format!("expected [out, data, lengths], got {} views", views.len())));
    };
    out.expect_dtype("the result", data.dtype())?;
    let reduction = Reduction::of(attrs)?;
    let given = attrs.flag(1);
    match_float!(data.dtype(), S => {
        type T = <S as StoredFloat>::Math;
        let initial = if given { T::from_scalar(attrs.float(0), 0) } else { reduction.identity() };
        for_each_segment(out, data, lengths, |outer, segment, range| {
            for inner in 0..data.size(2) {
                let column = Column::<S>::new(data, outer, range.clone(), inner);
                let total = column.values().fold(initial, |total, item| reduction.step(total, item));
                let value = match reduction {
                    Reduction::Mean if column.count == 0 && !given => T::NAN,
                    Reduction::Mean if column.count > 0 => total.div(T::from_f64(column.count as f64)),
                    _ => total,
                };
                Column::<S>::new(out, outer, segment..segment + 1, inner).set(0, value);
            }
        })
    })
}

/// `[grad_data, grad, out, data, lengths]`, scalars as segment_reduce's. What lies in no segment gets
/// no gradient.
pub fn segment_reduce_backward(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [grad_data, grad, out, data, lengths] = views else {
        return Err(Error::Runtime(format!("expected five views, got {}", views.len())));
    };
    let reduction = Reduction::of(attrs)?;
    for view in [grad_data, grad, out] {
        view.expect_dtype("a gradient or the result", data.dtype())?;
    }
    let sizes: Vec<usize> = data.sizes().iter().map(|&size| size as usize).collected();
    grad_data.expect_sizes("the gradient of data", &sizes)?;
    if grad.sizes() != out.sizes() {
        return Err(Error::Shape(format!("a gradient of {:?} of a result of {:?}", grad.sizes(), out.sizes())));
    }
    match_float!(data.dtype(), S => {
        type T = <S as StoredFloat>::Math;
        let initial = if attrs.flag(1) { T::from_scalar(attrs.float(0), 0) } else { T::ONE };
        for_each_segment(out, data, lengths, |outer, segment, range| {
            for inner in 0..data.size(2) {
                let items = Column::<S>::new(data, outer, range.clone(), inner);
                let to = Column::<S>::new(grad_data, outer, range.clone(), inner);
                let of_segment = |view| Column::<S>::new(view, outer, segment..segment + 1, inner).get(0);
                let (grad, out) = (of_segment(grad), of_segment(out));
                let count = T::from_f64(items.count as f64);
                match reduction {
                    Reduction::Sum => (0..to.count).for_each(|at| to.set(at, grad)),
                    Reduction::Mean => (0..to.count).for_each(|at| to.set(at, grad.div(count))),
                    // Equal extremes share the gradient.
                    Reduction::Max | Reduction::Min => {
                        let is_extreme = |item: T| item.is_nan() || item == out;
                        let sharing = items.values().filter(|&item| is_extreme(item)).count();
                        let share = grad.div(T::from_f64(sharing as f64));
                        for (at, item) in items.values().enumerate() {
                            to.set(at, if is_extreme(item) { share } else { T::ZERO });
                        }
                    }
                    // The product of the others; by a division where none is lost by it.
                    Reduction::Product => {
                        for (at, item) in items.values().enumerate() {
                            let others = if item == T::ZERO || item.is_nan() {
                                let others = items.values().enumerate().filter(|&(other, _)| other != at);
                                others.fold(initial, |product, (_, other)| product.mul(other))
                            } else {
                                out.div(item)
                            };
                            to.set(at, grad.mul(others));
                        }
                    }
                }
            }
        })
    })
}
