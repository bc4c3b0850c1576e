//! Where a tensor is true: counting, listing and picking. The results' sizes depend on the data,
//! so the caller counts first.

use super::read::expect;
use super::{contiguous_strides, match_size, offset_of};
use crate::convert::Stored;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::fallible::Collected;
use crate::isa;
use crate::lanes::{Vectorised, vectorise_at};
use crate::loops::iterate::Space;
use crate::match_stored;
use crate::threads;
use crate::view::{Attrs, View};

/// Elements of a task.
const TASK: usize = 64 * 1024;

/// `[count, self]`: how many elements are not zero, as one i64.
pub fn count_true(views: &[View<'_>], _attrs: &Attrs<'_>) -> Result<()> {
    let [count, from] = expect(views)?;
    count.expect_dtype("count", DType::I64)?;
    let total = task_counts(&from)?.iter().sum::<usize>();
    // SAFETY: the count is one i64.
    unsafe { *count.ptr::<i64>() = total as i64 };
    Ok(())
}

/// `[out, self]`, ints `[fill]`: the coordinates of the elements that are not zero, in C order, as
/// i64 of shape `[rows, rank]`: as many as there are rows; rows that are left hold `fill`.
pub fn nonzero(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [out, from] = expect(views)?;
    out.expect_dtype("out", DType::I64)?;
    out.expect_rank("out", 2)?;
    out.expect_sizes("out", &[out.size(0), from.rank()])?;
    let starts = starts(&task_counts(&from)?);
    let rows = out.size(0);
    for row in starts[starts.len() - 1]..rows {
        for dim in 0..from.rank() {
            let to = row as isize * out.stride(0) + dim as isize * out.stride(1);
            // SAFETY: row and dim are within `out`.
            unsafe { *out.ptr::<i64>().wrapping_offset(to) = attrs.int(0) };
        }
    }
    for_each_true(&from, &starts, |linear, position| {
        if position >= rows {
            return;
        }
        let mut rest = linear;
        for dim in (0..from.rank()).rev() {
            let size = from.size(dim);
            let to = position as isize * out.stride(0) + dim as isize * out.stride(1);
            // SAFETY: position and dim are within `out`, whose size was checked.
            unsafe { *out.ptr::<i64>().wrapping_offset(to) = (rest % size) as i64 };
            rest /= size;
        }
    })
}

/// `[out, self, mask]`: the elements of `self` where the mask of the same shape is true, in C order.
pub fn masked_select(views: &[View<'_>], _attrs: &Attrs<'_>) -> Result<()> {
    let [out, from, mask] = expect(views)?;
    out.expect_dtype("out", from.dtype())?;
    if from.sizes() != mask.sizes() {
        return Err(Error::Shape(format!("the mask {:?} must match {:?}", mask.sizes(), from.sizes())));
    }
    let starts = starts(&task_counts(&mask)?);
    out.expect_sizes("out", &[starts[starts.len() - 1]])?;
    match_size!(from.dtype(), T => for_each_true(&mask, &starts, |linear, position| {
        let offset = offset_of(&from, linear);
        // SAFETY: a coordinate of `self`, and a position within `out`, whose size was checked.
        unsafe {
            *out.ptr::<T>().wrapping_offset(position as isize * out.stride(0)) = *from.ptr::<T>().wrapping_offset(offset);
        }
    }))
}

/// `[self, mask, source (1-D)]`, self and mask of one shape: where the mask is true, the source's
/// elements in order.
pub fn masked_scatter(views: &[View<'_>], _attrs: &Attrs<'_>) -> Result<()> {
    let [to, mask, from] = expect(views)?;
    from.expect_dtype("source", to.dtype())?;
    from.expect_rank("source", 1)?;
    if to.sizes() != mask.sizes() {
        return Err(Error::Shape(format!("the mask {:?} must match {:?}", mask.sizes(), to.sizes())));
    }
    let starts = starts(&task_counts(&mask)?);
    if from.size(0) < starts[starts.len() - 1] {
        return Err(Error::Runtime("Number of elements of source < number of ones in mask".into()));
    }
    match_size!(to.dtype(), T => for_each_true(&mask, &starts, |linear, position| {
        let offset = offset_of(&to, linear);
        // SAFETY: a coordinate of `self`, and a position within the source, whose size was checked.
        unsafe {
            *to.ptr::<T>().wrapping_offset(offset) = *from.ptr::<T>().wrapping_offset(position as isize * from.stride(0));
        }
    }))
}

/// Where each task's finds begin, and the total.
fn starts(counts: &[usize]) -> Vec<usize> {
    let mut total = 0;
    let later = counts.iter().map(|count| {
        total += count;
        total
    });
    std::iter::once(0).chain(later).collected()
}

/// A C-order walk over the view: linear positions and offsets.
fn in_order(view: &View<'_>) -> Space<2> {
    Space::new(view.sizes(), [&contiguous_strides(view.sizes()), view.strides()])
}

/// How many elements are not zero, a task each.
fn task_counts(view: &View<'_>) -> Result<Vec<usize>> {
    struct Count<T> {
        from: *const T,
        stride: isize,
        count: usize,
    }
    impl<T: Stored> Vectorised for Count<T> {
        type Output = usize;
        #[inline(always)]
        unsafe fn run(self) -> usize {
            let Self { from, stride, count } = self;
            let mut total = 0;
            if stride == 1 {
                for at in 0..count {
                    // SAFETY: within the row that the caller promised.
                    total += usize::from(unsafe { is_true(*from.add(at)) });
                }
            } else {
                for at in 0..count as isize {
                    // SAFETY: as above.
                    total += usize::from(unsafe { is_true(*from.offset(at * stride)) });
                }
            }
            total
        }
    }
    let space = in_order(view);
    let stride = space.inner().strides[1];
    let counts: Vec<_> = (0..space.numel.div_ceil(TASK)).map(|_| std::sync::atomic::AtomicUsize::new(0)).collected();
    let level = isa::level();
    match_stored!(view.dtype(), T => threads::parallel_chunks(space.numel, TASK, space.numel / 4, |range| {
        let mut total = 0;
        space.rows(range.start, range.end, |[_, offset], count| {
            let from = view.ptr::<T>().wrapping_offset(offset).cast_const();
            // SAFETY: the row is within the view.
            total += unsafe { vectorise_at(level, Count { from, stride, count }) };
        });
        counts[range.start / TASK].store(total, std::sync::atomic::Ordering::Relaxed);
    }));
    Ok(counts.into_iter().map(|count| count.into_inner()).collected())
}

#[inline(always)]
fn is_true<T: Stored>(value: T) -> bool {
    if T::DTYPE.is_float() { value.to_f64() != 0.0 } else { value.to_i64() != 0 }
}

/// Calls `found(linear, position)` for the linear index of every true element, with its place
/// among them.
fn for_each_true(view: &View<'_>, starts: &[usize], found: impl Fn(usize, usize) + Sync) -> Result<()> {
    let space = in_order(view);
    let stride = space.inner().strides[1];
    match_stored!(view.dtype(), T => threads::parallel_chunks(space.numel, TASK, space.numel * 2, |range| {
        let mut position = starts[range.start / TASK];
        let mut linear = range.start;
        space.rows(range.start, range.end, |[_, offset], count| {
            for at in 0..count as isize {
                // SAFETY: the row is within the view.
                if is_true(unsafe { *view.ptr::<T>().wrapping_offset(offset + at * stride) }) {
                    found(linear, position);
                    position += 1;
                }
                linear += 1;
            }
        });
    }));
    Ok(())
}
