//! Leaves that a source folds itself, without memory in between.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::super::source::{Fold, LANES, Runs, Source};
use super::{Plan, Rectangle, Reducer, STRIP};
use crate::lanes::{Vectorised, vectorise_at};

/// Columns whose ends, which a source does not fold, are computed at a time.
const ENDS: usize = 32;
/// Leaves of one column that a source folds at a time.
const LEAVES: usize = 32;

/// Columns that a source has folded but for their ends.
struct Ends<R: Reducer> {
    reducer: R,
    /// Of each column, one after another.
    from: *const R::Item,
    count: usize,
    columns: usize,
    accs: *mut R::Acc,
}

impl<R: Reducer> Vectorised for Ends<R> {
    type Output = ();
    #[inline(always)]
    unsafe fn run(self) {
        let Self { reducer, from, count, columns, accs } = self;
        for column in 0..columns {
            // SAFETY: the elements were computed; there are accumulators for all.
            unsafe {
                let acc = accs.add(column);
                acc.write(reducer.along_from(acc.read(), from.add(column * count), count));
            }
        }
    }
}

impl<R: Reducer> Plan<'_, R> {
    /// A leaf of dense columns, most of whose elements the source folds itself: whether it can.
    pub fn folded_along(
        &self,
        source: &dyn Source,
        fold: Fold,
        rectangle: Rectangle<R::Item>,
        accs: *mut R::Acc,
    ) -> bool {
        let Rectangle { rows, row_stride, columns, column_stride, .. } = rectangle;
        if row_stride != 1 || rows < 2 * LANES {
            return false;
        }
        let (start, step) = (self.first(&rectangle), column_stride as usize);
        // SAFETY: the columns are within the input; who folds has accumulators of f32, and here for all columns.
        let done = unsafe { source.fold(fold, Runs { start, length: rows, count: columns, step }, accs.cast()) };
        let left = rows - done;
        if done == 0 || left >= LANES {
            return false;
        }
        if left > 0 {
            self.ends(source, Runs { start: start + done, length: left, count: columns, step }, accs);
        }
        true
    }

    /// Not inlined: rows of whole lanes have no ends.
    #[inline(never)]
    fn ends(&self, source: &dyn Source, runs: Runs, accs: *mut R::Acc) {
        let mut ends = [const { MaybeUninit::<R::Item>::uninit() }; ENDS * LANES];
        for column in (0..runs.count).step_by(ENDS) {
            let columns = ENDS.min(runs.count - column);
            let (start, from) = (runs.start + column * runs.step, ends.as_mut_ptr());
            // SAFETY: the ends of so many columns fit, each shorter than the lanes; there are accumulators for all.
            unsafe {
                source.compute(Runs { start, count: columns, ..runs }, Some(from.cast()));
                let (from, accs) = (from.cast_const().cast(), accs.add(column));
                vectorise_at(self.level, Ends { reducer: self.reducer, from, count: runs.length, columns, accs });
            }
        }
    }

    /// A leaf of lines that the source folds itself, where it can: gives how many columns are done.
    pub fn folded_across(
        &self,
        source: &dyn Source,
        fold: Fold,
        rectangle: Rectangle<R::Item>,
        accs: *mut R::Acc,
    ) -> usize {
        let Rectangle { rows, row_stride, columns, column_stride, .. } = rectangle;
        if column_stride != 1 || columns < LANES {
            return 0;
        }
        let runs = Runs { start: self.first(&rectangle), length: columns, count: rows, step: row_stride as usize };
        // SAFETY: the strip has these accumulators, of f32 where there is a fold; the runs are within the input.
        unsafe {
            let line = accs.cast::<f32>();
            for column in 0..columns {
                line.add(column).write(fold.identity());
            }
            source.fold_across(fold, runs, line)
        }
    }

    /// Leaves of one dense column, folded together by the source, where it can.
    pub fn folded_leaves(&self, base: *const R::Item, range: Range<usize>) -> Option<R::Acc> {
        let (source, fold) = (self.input.source?, self.reducer.fold()?);
        let row = self.reduced.inner();
        let whole = range.len() / self.leaf;
        if !self.along || self.reduced.dims.len() != 1 || row.strides[0] != 1 || whole > LEAVES {
            return None;
        }
        let from = base.wrapping_add(range.start);
        let step = self.leaf as isize;
        let leaves = Rectangle { from, rows: self.leaf, row_stride: 1, columns: whole, column_stride: step };
        let mut accs = [const { MaybeUninit::uninit() }; LEAVES + 1];
        if !self.folded_along(source, fold, leaves, accs.as_mut_ptr().cast()) {
            return None;
        }
        let done = whole * self.leaf;
        if done < range.len() {
            let mut last = [const { MaybeUninit::uninit() }; STRIP];
            self.fold(base, 1, range.start + done..range.end, &mut last);
            accs[whole] = last[0];
        }
        Some(self.joined(&accs, range.len()))
    }

    /// The leaves of so many rows together, as [`Self::fold`] joins them.
    fn joined(&self, leaves: &[MaybeUninit<R::Acc>], rows: usize) -> R::Acc {
        if rows <= self.leaf {
            // SAFETY: the leaf was folded.
            return unsafe { leaves[0].assume_init() };
        }
        let middle = (rows / 2).next_multiple_of(self.leaf);
        let (left, right) = leaves.split_at(middle / self.leaf);
        self.reducer.combine(self.joined(left, middle), middle, self.joined(right, rows - middle), rows - middle)
    }
}
