//! The lines along one dimension of several views.

use crate::error::{Error, Result};
use crate::fallible::Collected;
use crate::index::Dims;
use crate::loops::iterate::Space;
use crate::scratch::Scratch;
use crate::threads;
use crate::view::View;

/// Elements of a task.
const TASK: usize = 16 * 1024;

/// Views of one shape but for the size of one dimension, line by line along it.
pub(super) struct Along<const VIEWS: usize> {
    space: Space<VIEWS>,
    strides: [isize; VIEWS],
    /// Of each view's lines.
    pub lengths: [usize; VIEWS],
}

/// A line of elements at a stride.
#[derive(Clone, Copy)]
pub(super) struct Line<T> {
    start: *mut T,
    stride: isize,
}

impl<T: Copy> Line<T> {
    /// # Safety
    /// `at` is below the line's length. So for `set`.
    #[inline(always)]
    pub unsafe fn get(self, at: usize) -> T {
        // SAFETY: the caller's.
        unsafe { *self.start.offset(at as isize * self.stride) }
    }

    /// The elements, where they lie side by side.
    ///
    /// # Safety
    /// The line has `length` elements, which nothing writes while the slice lives.
    pub unsafe fn dense<'a>(self, length: usize) -> Option<&'a [T]> {
        // SAFETY: the caller's; the elements follow each other.
        (self.stride == 1).then(|| unsafe { std::slice::from_raw_parts(self.start, length) })
    }

    /// # Safety
    /// As [`Line::get`].
    #[inline(always)]
    pub unsafe fn set(self, at: usize, value: T) {
        // SAFETY: the caller's.
        unsafe { *self.start.offset(at as isize * self.stride) = value };
    }
}

impl<const VIEWS: usize> Along<VIEWS> {
    /// Lines along `dim`; a scalar is a line of one element.
    pub fn new(views: [&View<'_>; VIEWS], dim: i64) -> Result<Self> {
        let rank = views[0].rank();
        let along = dim as usize;
        let others = |list: &[i64]| -> Dims {
            Dims::from_iter(list.iter().enumerate().filter(|&(at, _)| at != along).map(|(_, &value)| value))
        };
        let sizes = others(views[0].sizes());
        if (rank > 0 && along >= rank) || views.iter().any(|view| others(view.sizes()) != sizes) {
            let shapes: Vec<&[i64]> = views.iter().map(|view| view.sizes()).collected();
            return Err(Error::Shape(format!("expected shapes that differ in dimension {dim} only, got {shapes:?}")));
        }
        let strides = views.map(|view| others(view.strides()));
        Ok(Self {
            space: Space::new(&sizes, std::array::from_fn(|at| strides[at].as_slice())),
            strides: views.map(|view| if rank == 0 { 1 } else { view.stride(along) }),
            lengths: views.map(|view| if rank == 0 { 1 } else { view.size(along) }),
        })
    }

    /// The line of view number `which` at `offsets`.
    pub fn line<T>(&self, view: &View<'_>, which: usize, offsets: [isize; VIEWS]) -> Line<T> {
        Line { start: view.ptr::<T>().wrapping_offset(offsets[which]), stride: self.strides[which] }
    }

    /// Calls `body` for every line, with room for `scratch` elements that it may use. `each` is the
    /// cost of an element in nanoseconds.
    pub fn for_each<E: Copy>(
        &self,
        each: usize,
        scratch: usize,
        body: impl Fn([isize; VIEWS], &Scratch<E>) + Sync,
    ) -> Result<()> {
        let longest = self.lengths.into_iter().max().unwrap_or(1).max(1);
        let work = self.space.numel * longest * each;
        // Refused here, where there is a way back.
        drop(Scratch::<E>::new(scratch)?);
        let inner = self.space.inner();
        threads::parallel_chunks(self.space.numel, TASK / longest, work, |range| {
            let memory = Scratch::<E>::new(scratch).expect("working memory for a task's line");
            self.space.rows(range.start, range.end, |offsets, count| {
                for line in 0..count as isize {
                    body(std::array::from_fn(|at| offsets[at] + line * inner.strides[at]), &memory);
                }
            });
        });
        Ok(())
    }
}
