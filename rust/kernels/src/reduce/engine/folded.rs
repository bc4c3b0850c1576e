//! Leaves that a source folds itself, without memory in between.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::super::source::{Fold, LANES, Runs, Source};
use super::{Plan, Rectangle, Reducer, STRIP};
use crate::lanes::{Vectorised, vectorise_at};

/// Columns, or leaves of one, that a source folds at a time.
const FOLDED: usize = 32;

/// Columns that a source has folded but for their ends.
struct Rest<R: Reducer> {
    reducer: R,
    lanes: *const [R::Acc; LANES],
    columns: usize,
    /// Of each column, one after another.
    from: *const R::Item,
    count: usize,
    accs: *mut R::Acc,
}

impl<R: Reducer> Vectorised for Rest<R> {
    type Output = ();
    #[inline(always)]
    unsafe fn run(self) {
        let Self { reducer, lanes, columns, from, count, accs } = self;
        for column in 0..columns {
            // SAFETY: the lanes and elements were computed; there are accumulators for all.
            unsafe { accs.add(column).write(reducer.along_from(*lanes.add(column), from.add(column * count), count)) };
        }
    }
}

impl<R: Reducer> Plan<'_, R> {
    /// A leaf of dense columns, most of whose elements the source folds itself, where it can: gives how many
    /// columns are done.
    #[inline(never)]
    pub fn folded_along(
        &self,
        source: &dyn Source,
        (fold, identity): (Fold, R::Acc),
        rectangle: Rectangle<R::Item>,
        accs: *mut R::Acc,
    ) -> usize {
        let Rectangle { rows, row_stride, columns, column_stride, .. } = rectangle;
        if row_stride != 1 || rows < 2 * LANES {
            return 0;
        }
        let (first, step) = (self.first(&rectangle), column_stride as usize);
        let mut tails = [const { MaybeUninit::<R::Item>::uninit() }; FOLDED * LANES];
        let mut column = 0;
        while column < columns {
            let count = FOLDED.min(columns - column);
            let mut lanes = [const { MaybeUninit::uninit() }; FOLDED];
            lanes[..count].fill(MaybeUninit::new([identity; LANES]));
            let start = first + column * step;
            // SAFETY: the columns are within the input; who folds has lanes of f32.
            let done =
                unsafe { source.fold(fold, Runs { start, length: rows, count, step }, lanes.as_mut_ptr().cast()) };
            let left = rows - done;
            if done == 0 || left > LANES {
                return column;
            }
            // SAFETY: what is left of each column fits the tails; the strip has these accumulators.
            unsafe {
                if left > 0 {
                    let runs = Runs { start: start + done, length: left, count, step };
                    source.compute(runs, Some(tails.as_mut_ptr().cast()));
                }
                let (from, accs) = (tails.as_ptr().cast(), accs.add(column));
                let lanes = lanes.as_ptr().cast();
                let rest = Rest { reducer: self.reducer, lanes, columns: count, from, count: left, accs };
                vectorise_at(self.level, rest);
            }
            column += count;
        }
        columns
    }

    /// A leaf of lines that the source folds itself, where it can: gives how many columns are done.
    pub fn folded_across(
        &self,
        source: &dyn Source,
        (fold, identity): (Fold, R::Acc),
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
            for column in 0..columns {
                accs.add(column).write(identity);
            }
            source.fold_across(fold, runs, accs.cast())
        }
    }

    /// Leaves of one dense column, folded together by the source, where it can.
    pub fn folded_leaves(&self, base: *const R::Item, range: Range<usize>) -> Option<R::Acc> {
        let (source, fold) = (self.input.source?, self.reducer.fold()?);
        let row = self.reduced.inner();
        let whole = range.len() / self.leaf;
        if !self.along || self.reduced.dims.len() != 1 || row.strides[0] != 1 || whole > FOLDED {
            return None;
        }
        let from = base.wrapping_add(range.start);
        let step = self.leaf as isize;
        let leaves = Rectangle { from, rows: self.leaf, row_stride: 1, columns: whole, column_stride: step };
        let mut accs = [const { MaybeUninit::uninit() }; FOLDED + 1];
        if self.folded_along(source, fold, leaves, accs.as_mut_ptr().cast()) < whole {
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
