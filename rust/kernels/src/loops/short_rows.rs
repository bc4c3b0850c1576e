//! Copies whose rows are short: two dimensions in one call, as a call for each row would cost more than its elements.

use super::iterate::{Dim, Space};
use crate::isa::Level;
use crate::lanes::{Vectorised, vectorise_at};
use crate::threads;

/// Rows of fewer elements are short.
const SHORT: usize = 32;
/// Elements of a task; fixed, so that the thread count never moves a boundary.
const TASK: usize = 32 * 1024;

/// The copy of one type's elements from one view to another of its shape.
pub struct ShortRows {
    inner: Dim<2>,
    outer: Dim<2>,
    /// The other dimensions: their strides say where each matrix begins.
    others: Space<2>,
}

impl ShortRows {
    /// The copy over a space of target and source, where its rows are short.
    pub fn of(space: &Space<2>) -> Option<Self> {
        let inner = space.inner();
        if inner.size >= SHORT || space.dims.len() < 2 {
            return None;
        }
        let (outer, others) = space.without_inner_and(1);
        Some(Self { inner, outer, others })
    }

    /// # Safety
    /// Both are valid for the space that this was made of, and are disjoint; the CPU has the level.
    pub unsafe fn run<T: Copy + Send + Sync>(&self, level: Level, to: *mut T, from: *const T) {
        struct Ends<T>(*mut T, *const T);
        // SAFETY: addresses; tasks write disjoint rows.
        unsafe impl<T> Sync for Ends<T> {}
        let ends = Ends(to, from);
        let ends = &ends;
        let band = (TASK / self.inner.size).min(self.outer.size);
        let bands = self.outer.size.div_ceil(band);
        let (count, elements) = (self.others.numel * bands, band * self.inner.size);
        threads::parallel_chunks(count, (TASK / elements).max(1), count * elements / 2, |range| {
            for index in range {
                let (matrix, first) = (index / bands, index % bands * band);
                self.others.rows(matrix, matrix + 1, |offsets, _| {
                    let offset = |at: usize| offsets[at] + first as isize * self.outer.strides[at];
                    let task = Rows {
                        to: ends.0.wrapping_offset(offset(0)),
                        from: ends.1.wrapping_offset(offset(1)),
                        inner: self.inner,
                        outer: Dim { size: band.min(self.outer.size - first), strides: self.outer.strides },
                    };
                    // SAFETY: the rows are within both views; the caller vouches for the level.
                    unsafe { vectorise_at(level, task) };
                });
            }
        });
    }
}

struct Rows<T> {
    to: *mut T,
    from: *const T,
    inner: Dim<2>,
    outer: Dim<2>,
}

impl<T: Copy> Vectorised for Rows<T> {
    type Output = ();
    #[inline(always)]
    unsafe fn run(self) {
        let Self { to, from, inner, outer } = self;
        for row in 0..outer.size as isize {
            let to = to.wrapping_offset(row * outer.strides[0]);
            let from = from.wrapping_offset(row * outer.strides[1]);
            for index in 0..inner.size as isize {
                // SAFETY: within the rows. Elements of sixteen bytes may lie on eight.
                unsafe {
                    let value = from.wrapping_offset(index * inner.strides[1]).read_unaligned();
                    to.wrapping_offset(index * inner.strides[0]).write_unaligned(value);
                }
            }
        }
    }
}
