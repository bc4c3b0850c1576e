//! Applies a table of taps along each spatial dimension, the last dimension first.

use super::taps::Taps;
use crate::convert::StoredFloat;
use crate::element::Element;
use crate::isa;
use crate::lanes::{Real, Vectorised, vectorise_at};
use crate::loops::copy::Cast;
use crate::loops::iterate::Space;
use crate::scratch::Scratch;
use crate::threads;
use crate::view::View;

/// Numbers of a task, at least.
const TASK: usize = 8 * 1024;

/// `out = taps @ input` along the last `taps.len()` dimensions; the views agree in the others.
pub fn apply<S: StoredFloat>(out: &View<'_>, input: &View<'_>, taps: &[Taps<S::Math>]) {
    let leading = out.rank() - taps.len();
    if out.numel() == 0 {
        return;
    }
    let planes: usize = out.sizes()[..leading].iter().product::<i64>() as usize;
    // The sizes of a plane before the dimensions from `dim` on are mapped, and after.
    let size = |dim: usize| -> usize {
        let mapped = |at: usize, taps: &Taps<S::Math>| if at < dim { taps.inputs() } else { taps.outputs() };
        taps.iter().enumerate().map(|(at, taps)| mapped(at, taps)).product()
    };
    let largest = (0..=taps.len()).map(size).max().unwrap_or(0);
    let per_task = (TASK / largest.max(1)).max(1);
    let level = isa::level();
    let own = <S::Math as Element>::DTYPE;
    let [read, write] = [
        Cast::new(S::DTYPE, own).expect("floats are cast to floats"),
        Cast::new(own, S::DTYPE).expect("floats are cast to floats"),
    ];
    let offset = |view: &View<'_>, mut plane: usize| {
        let mut offset = 0;
        for dim in (0..leading).rev() {
            offset += (plane % view.size(dim)) as isize * view.stride(dim);
            plane /= view.size(dim);
        }
        offset
    };
    threads::parallel_chunks(planes, per_task, planes * largest, |range| {
        // A task cannot refuse but by a panic, which `launch` turns into an error.
        let memory = Scratch::<S::Math>::new(2 * largest).expect("working memory for a plane");
        let [mut from, mut to] = [memory.ptr(), memory.ptr().wrapping_add(largest)];
        for plane in range {
            // SAFETY: planes and buffers hold what the tables map between; planes are disjoint.
            unsafe {
                let source = plane_of(input, leading, offset(input, plane));
                move_plane(&source, from, |count, strided, stride, dense| {
                    (read.run)(level, count, strided, stride, dense, 1);
                });
                let mut inner = 1;
                for (dim, table) in taps.iter().enumerate().rev() {
                    if !table.is_identity() {
                        let outer = taps[..dim].iter().map(Taps::inputs).product();
                        vectorise_at(level, Axis { from, to, outer, inner, taps: table });
                        (from, to) = (to, from);
                    }
                    inner *= table.outputs();
                }
                let target = plane_of(out, leading, offset(out, plane));
                move_plane(&target, from, |count, strided, stride, dense| {
                    (write.run)(level, count, dense, 1, strided, stride);
                });
            }
        }
    });
}

/// # Safety
/// The offset is that of a plane of the view.
unsafe fn plane_of<'a>(view: &View<'a>, leading: usize, offset: isize) -> View<'a> {
    // SAFETY: the caller's.
    unsafe { view.reshaped(offset, &view.sizes()[leading..], &view.strides()[leading..]) }
}

/// Calls `row(count, strided, stride, dense)` for the rows of a plane and their places in a dense
/// buffer.
fn move_plane<T>(plane: &View<'_>, dense: *mut T, row: impl Fn(usize, *mut u8, isize, *mut u8)) {
    if plane.numel() == 0 {
        return;
    }
    let strides = crate::index::contiguous_strides(plane.sizes());
    let space = Space::new(plane.sizes(), [&strides, plane.strides()]);
    let [dense_step, stride] = space.inner().strides;
    let size = plane.dtype().size() as isize;
    space.rows(0, space.numel, |[to, from], count| {
        debug_assert!(count == 1 || dense_step == 1);
        let strided = plane.bytes().wrapping_offset(from * size);
        row(count, strided, stride, dense.wrapping_offset(to).cast());
    });
}

/// One table along one dimension: `outer × inputs × inner` becomes `outer × outputs × inner`.
struct Axis<'a, T> {
    from: *const T,
    to: *mut T,
    outer: usize,
    inner: usize,
    taps: &'a Taps<T>,
}

impl<T: Real> Vectorised for Axis<'_, T> {
    type Output = ();
    #[inline(always)]
    unsafe fn run(self) {
        let Self { from, to, outer, inner, taps } = self;
        let (inputs, outputs) = (taps.inputs(), taps.outputs());
        for block in 0..outer {
            let (from, to) = (from.wrapping_add(block * inputs * inner), to.wrapping_add(block * outputs * inner));
            for output in 0..outputs {
                let (indices, weights) = taps.row(output);
                // SAFETY: taps name inputs of the dimension; the buffers hold all rows.
                unsafe {
                    if inner == 1 {
                        let mut terms = indices.iter().zip(weights);
                        let term = |(&index, &weight): (&u32, &T)| weight.mul(*from.add(index as usize));
                        // From the first one on: added to a zero, a negative zero would lose its sign.
                        let first = terms.next().map_or(T::ZERO, term);
                        *to.add(output) = terms.fold(first, |sum, tap| sum.add(term(tap)));
                        continue;
                    }
                    let to = std::slice::from_raw_parts_mut(to.add(output * inner), inner);
                    let Some((&first, &scale)) = indices.first().zip(weights.first()) else {
                        to.fill(T::ZERO);
                        continue;
                    };
                    let row = |index: u32| std::slice::from_raw_parts(from.add(index as usize * inner), inner);
                    for (to, &value) in to.iter_mut().zip(row(first)) {
                        *to = scale.mul(value);
                    }
                    for (&index, &weight) in indices.iter().zip(weights).skip(1) {
                        for (to, &value) in to.iter_mut().zip(row(index)) {
                            *to = to.add(weight.mul(value));
                        }
                    }
                }
            }
        }
    }
}
