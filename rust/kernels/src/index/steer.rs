//! The loops that read and write through element offsets.

use super::read::at_least_1d;
use super::{Dims, match_size};
use crate::error::Result;
use crate::fallible::Collected;
use crate::isa::{self, Level};
use crate::lanes::{Vectorised, vectorise_at};
use crate::loops::copy::Cast;
use crate::loops::iterate::Space;
use crate::threads;
use crate::view::View;

/// Elements of a task.
const TASK: usize = 32 * 1024;
/// The fewest lines of a task that walks its indices outermost: whole cache lines, for the
/// destination's sake.
const LINES: usize = 64;

/// How the steered tensor and the offsets lie over the shape of the result: the tensor has a zero
/// stride where an index steers, the offsets have one where no index tells elements apart.
pub(super) struct Layout {
    pub sizes: Dims,
    pub tensor: Dims,
    pub offsets: Dims,
    /// The dimensions that an index steers.
    pub steered: smallvec::SmallVec<[bool; 6]>,
}

#[derive(Clone, Copy)]
struct Shared<T>(*mut T);
// SAFETY: an address; tasks write disjoint elements.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}
impl<T> Shared<T> {
    fn at(self, offset: isize) -> *mut T {
        self.0.wrapping_offset(offset)
    }
}

/// `out[i] = from[layout(i) + offsets(i)]`; `out` has the layout's sizes and `from`'s dtype.
pub(super) fn take(out: &View<'_>, from: &View<'_>, layout: &Layout, offsets: &[isize]) -> Result<()> {
    out.expect_dtype("out", from.dtype())?;
    // A 0-D tensor was indexed as one of a single element.
    let out = &if layout.sizes.len() == 1 { at_least_1d(out) } else { *out };
    let sizes: Vec<usize> = layout.sizes.iter().map(|&size| size as usize).collected();
    out.expect_sizes("out", &sizes)?;
    match_size!(from.dtype(), T => take_typed::<T>(out, from, layout, offsets))
}

fn take_typed<T: Copy + Send + Sync>(
    out: &View<'_>,
    from: &View<'_>,
    layout: &Layout,
    offsets: &[isize],
) -> Result<()> {
    let cast = Cast::new(from.dtype(), from.dtype())?;
    let space = Space::new(&layout.sizes, [out.strides(), &layout.tensor, &layout.offsets]);
    let [out_stride, from_stride, offset_stride] = space.inner().strides;
    let level = isa::level();
    let (out, from) = (Shared(out.ptr::<T>()), Shared(from.ptr::<T>()));
    threads::parallel_chunks(space.numel, TASK, space.numel, |range| {
        space.rows(range.start, range.end, |[to, base, offset], count| {
            // SAFETY: every offset was checked against the dimensions that it steers, so each
            // address lies within its view; tasks write disjoint elements of `out`.
            unsafe {
                if offset_stride == 0 {
                    let source = from.at(base + offsets[offset as usize]);
                    (cast.run)(level, count, source.cast(), from_stride, out.at(to).cast(), out_stride);
                    return;
                }
                for at in 0..count as isize {
                    let steered = *offsets.get_unchecked((offset + at * offset_stride) as usize);
                    *out.at(to + at * out_stride) = *from.at(base + at * from_stride + steered);
                }
            }
        });
    });
    Ok(())
}

/// What [`put`] writes from: elements of `S` laid over the layout's sizes.
pub(super) struct Source<'a, S> {
    pub data: *const S,
    pub strides: &'a [i64],
}

/// `to = update(to, from)` for every element of the layout, in C order for elements that meet in
/// one destination: lines across the indexed dimensions go to tasks, each walks its indices alone.
///
/// # Safety
/// `to` is the tensor of the layout and of the offsets, as `D`; `from` is valid over the layout.
pub(super) unsafe fn put<D: Copy, S: Copy>(
    to: *mut D,
    layout: &Layout,
    offsets: &[isize],
    from: &Source<'_, S>,
    update: impl Fn(D, S) -> D + Copy + Sync,
) {
    let split = |keep: bool| {
        let chosen = |strides: &[i64]| -> Dims {
            let steered = strides.iter().zip(&layout.steered);
            Dims::from_iter(steered.filter(|&(_, &steered)| steered == keep).map(|(&at, _)| at))
        };
        let strides = [chosen(&layout.tensor), chosen(&layout.offsets), chosen(from.strides)];
        Space::new(&chosen(&layout.sizes), [&strides[0], &strides[1], &strides[2]])
    };
    let (lines, walk) = (split(false), split(true));
    let work = lines.numel * walk.numel;
    if work == 0 {
        return;
    }
    let level = isa::level();
    let (line, step) = (lines.inner(), walk.inner());
    let [across, along] = [line.strides[0].unsigned_abs(), step.strides[1].max(step.strides[2]).unsigned_abs()];
    let walk_outermost = walk.numel == 1 || (lines.numel > 1 && across <= along);
    let fewest = if walk_outermost { LINES } else { 1 };
    let (to, from) = (Shared(to), Shared(from.data.cast_mut()));
    let run = |base: [isize; 3], extra: [isize; 3], strides: [isize; 3], count: usize| {
        let at: [isize; 3] = std::array::from_fn(|operand| base[operand] + extra[operand]);
        // SAFETY: the offsets were checked, so each address lies within its view; a destination is
        // reached by the lines of one task only.
        unsafe {
            row(level, count, to.at(at[0]), offsets.as_ptr().offset(at[1]), from.at(at[2]), strides, update);
        }
    };
    threads::parallel_chunks(lines.numel, (TASK / walk.numel).max(fewest), work, |range| {
        if walk_outermost {
            walk.rows(0, walk.numel, |base, count| {
                for position in 0..count as isize {
                    let base = std::array::from_fn(|operand| base[operand] + position * step.strides[operand]);
                    lines.rows(range.start, range.end, |extra, count| run(base, extra, line.strides, count));
                }
            });
        } else {
            lines.rows(range.start, range.end, |base, count| {
                for position in 0..count as isize {
                    let base = std::array::from_fn(|operand| base[operand] + position * line.strides[operand]);
                    walk.rows(0, walk.numel, |extra, count| run(base, extra, step.strides, count));
                }
            });
        }
    });
}

/// One row of [`put`]: strides of the destination, the offsets and the source.
unsafe fn row<D: Copy, S: Copy>(
    level: Level,
    count: usize,
    to: *mut D,
    offsets: *const isize,
    from: *const S,
    strides: [isize; 3],
    update: impl Fn(D, S) -> D,
) {
    struct Straight<D, S, F> {
        count: usize,
        to: *mut D,
        from: *const S,
        update: F,
    }
    impl<D: Copy, S: Copy, F: Fn(D, S) -> D> Vectorised for Straight<D, S, F> {
        type Output = ();
        #[inline(always)]
        unsafe fn run(self) {
            for at in 0..self.count {
                // SAFETY: `at < count`, for which the caller promised both pointers valid.
                unsafe { *self.to.add(at) = (self.update)(*self.to.add(at), *self.from.add(at)) };
            }
        }
    }
    // SAFETY: the caller's.
    unsafe {
        if strides == [1, 0, 1] {
            return vectorise_at(level, Straight { count, to: to.offset(*offsets), from, update });
        }
        for at in 0..count as isize {
            let target = to.offset(at * strides[0] + *offsets.offset(at * strides[1]));
            *target = update(*target, *from.offset(at * strides[2]));
        }
    }
}
