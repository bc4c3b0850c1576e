//! Gates of operands, and the loop that computes some units of a row at a time.

use std::ops::Range;

use crate::convert::StoredFloat;
use crate::isa;
use crate::lanes::{Vectorised, vectorise_at};
use crate::threads;
use crate::value::Value;
use crate::view::View;

/// Numbers that are computed side by side: more than a loop is unrolled for, so that it is vectorised.
pub const LANES: usize = 64;
/// Numbers of a task.
const TASK: usize = 4 * 1024;

/// One gate of an operand: rows of hidden units.
#[derive(Clone, Copy)]
pub struct Gate<S> {
    pub data: *mut S,
    pub row: isize,
    pub unit: isize,
}

impl<S: StoredFloat> Gate<S> {
    /// Gate `index` of the view's; one row for all of the batch where the view has one dimension.
    pub fn of(view: &View<'_>, index: usize, hidden: usize) -> Self {
        let unit = view.stride(view.rank() - 1);
        let row = if view.rank() == 1 { 0 } else { view.stride(view.rank() - 2) };
        Self { data: view.ptr::<S>(), row, unit }.at_unit(index * hidden)
    }

    /// Dense rows of `width` units.
    pub fn dense(data: *mut S, width: usize) -> Self {
        Self { data, row: width as isize, unit: 1 }
    }

    pub fn moved(self, elements: isize) -> Self {
        Self { data: self.data.wrapping_offset(elements), ..self }
    }

    pub fn at_unit(self, unit: usize) -> Self {
        self.moved(unit as isize * self.unit)
    }

    /// # Safety
    /// The gate has `count` units from `first` on in this row.
    #[inline(always)]
    pub unsafe fn load(&self, row: usize, first: usize, count: usize) -> [S::Math; LANES] {
        let from = self.data.wrapping_offset(row as isize * self.row + first as isize * self.unit);
        // SAFETY: the caller's.
        unsafe {
            if self.unit == 1 && count == LANES {
                return from.cast::<[S; LANES]>().read_unaligned().map(StoredFloat::load);
            }
            let mut values = [S::Math::ZERO; LANES];
            if self.unit == 1 {
                for (at, value) in values[..count].iter_mut().enumerate() {
                    *value = (*from.add(at)).load();
                }
                return values;
            }
            for (at, value) in values[..count].iter_mut().enumerate() {
                *value = (*from.offset(at as isize * self.unit)).load();
            }
            values
        }
    }

    /// # Safety
    /// As [`Gate::load`], for writing.
    #[inline(always)]
    pub unsafe fn store(&self, row: usize, first: usize, count: usize, values: [S::Math; LANES]) {
        let to = self.data.wrapping_offset(row as isize * self.row + first as isize * self.unit);
        // SAFETY: the caller's.
        unsafe {
            if self.unit == 1 && count == LANES {
                return to.cast::<[S; LANES]>().write_unaligned(values.map(S::save));
            }
            for (at, value) in values.into_iter().enumerate().take(count) {
                *to.offset(at as isize * self.unit) = S::save(value);
            }
        }
    }
}

// SAFETY: addresses; tasks write disjoint rows.
unsafe impl<S> Send for Gate<S> {}
// SAFETY: as above.
unsafe impl<S> Sync for Gate<S> {}

/// All gates of an operand.
pub fn gates<S: StoredFloat, const COUNT: usize>(view: &View<'_>, hidden: usize) -> [Gate<S>; COUNT] {
    split(Gate::of(view, 0, hidden), hidden)
}

/// A row's gates, given the first.
pub fn split<S: StoredFloat, const COUNT: usize>(first: Gate<S>, hidden: usize) -> [Gate<S>; COUNT] {
    std::array::from_fn(|index| first.at_unit(index * hidden))
}

/// The gates of two biases; none of those that were not given.
pub fn biases<S: StoredFloat, const COUNT: usize>(
    views: [&View<'_>; 2],
    hidden: usize,
) -> [[Option<Gate<S>>; COUNT]; 2] {
    views.map(|view| view.optional().map_or([None; COUNT], |view| gates(view, hidden).map(Some)))
}

/// A computation on some units of a row.
pub trait Step: Copy + Sync {
    /// # Safety
    /// The operands have these units.
    unsafe fn step(&self, row: usize, first: usize, count: usize);
}

/// A step for all units of some rows.
pub struct Rows<K> {
    pub step: K,
    pub rows: Range<usize>,
    pub hidden: usize,
}

impl<K: Step> Vectorised for Rows<K> {
    type Output = ();
    #[inline(always)]
    unsafe fn run(self) {
        for row in self.rows {
            for first in (0..self.hidden).step_by(LANES) {
                // SAFETY: the caller's.
                unsafe { self.step.step(row, first, LANES.min(self.hidden - first)) };
            }
        }
    }
}

/// Runs a step for every row. Who calls it has checked that the operands have these rows and units.
pub fn for_each_row<K: Step>(batch: usize, hidden: usize, step: K) {
    let level = isa::level();
    threads::parallel_chunks(batch, (TASK / hidden.max(1)).max(1), batch * hidden * 4, |rows| {
        // SAFETY: the caller found every operand to have these rows and units.
        unsafe { vectorise_at(level, Rows { step, rows, hidden }) };
    });
}

/// A state from one operand to another.
#[derive(Clone, Copy)]
pub struct Move<From, To> {
    pub from: Gate<From>,
    pub to: Gate<To>,
}

impl<From: StoredFloat, To: StoredFloat<Math = From::Math>> Step for Move<From, To> {
    #[inline(always)]
    unsafe fn step(&self, row: usize, first: usize, count: usize) {
        // SAFETY: the caller's.
        unsafe { self.to.store(row, first, count, self.from.load(row, first, count)) };
    }
}
