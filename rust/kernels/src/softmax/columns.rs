//! Lines that lie side by side, as along any dimension but the last: a block of them at a time, row by row.

use super::BLOCK;
use crate::convert::StoredFloat;
use crate::element::Element;
use crate::lanes::Vectorised;
use crate::value::{Floating, Value};

/// Rows whose sum is taken in the compute type before it joins the f64 total.
const SUMMED: usize = 64;

/// A block of dense columns: the first element, and from row to row.
pub struct Columns<S> {
    pub first: *mut S,
    pub stride: isize,
}

impl<S: StoredFloat> Columns<S> {
    /// # Safety
    /// The row is within the columns.
    #[inline(always)]
    unsafe fn load(&self, row: usize) -> [S::Math; BLOCK] {
        // SAFETY: the caller's.
        let block =
            unsafe { self.first.wrapping_offset(row as isize * self.stride).cast::<[S; BLOCK]>().read_unaligned() };
        let mut loaded = [S::Math::ZERO; BLOCK];
        for (value, stored) in loaded.iter_mut().zip(block) {
            *value = stored.load();
        }
        loaded
    }

    /// # Safety
    /// As [`Self::load`], for writing.
    #[inline(always)]
    unsafe fn store(&self, row: usize, block: [S::Math; BLOCK]) {
        let mut saved = [S::save(S::Math::ZERO); BLOCK];
        for (value, computed) in saved.iter_mut().zip(block) {
            *value = S::save(computed);
        }
        // SAFETY: the caller's.
        unsafe {
            self.first.wrapping_offset(row as isize * self.stride).cast::<[S; BLOCK]>().write_unaligned(saved);
        }
    }
}

/// Adds up blocks: some rows in their own type, all in f64.
struct Totals<T> {
    total: [f64; BLOCK],
    recent: [T; BLOCK],
}

impl<T: Element + Value> Totals<T> {
    #[inline(always)]
    fn new() -> Self {
        Self { total: [0.0; BLOCK], recent: [T::ZERO; BLOCK] }
    }

    #[inline(always)]
    fn add(&mut self, row: usize, block: [T; BLOCK]) {
        for (recent, value) in self.recent.iter_mut().zip(block) {
            *recent = recent.add(value);
        }
        if row % SUMMED == SUMMED - 1 {
            self.settle();
        }
    }

    #[inline(always)]
    fn settle(&mut self) {
        for (total, recent) in self.total.iter_mut().zip(self.recent) {
            *total += Element::to_f64(recent);
        }
        self.recent = [T::ZERO; BLOCK];
    }
}

// Functions that are always inlined, as in the module above.

#[inline(always)]
fn powers<T: Floating>(block: [T; BLOCK], largest: [T; BLOCK]) -> [T; BLOCK] {
    let mut powers = block;
    for lane in 0..BLOCK {
        powers[lane] = block[lane].sub(largest[lane]).exp_of_negative();
    }
    powers
}

/// softmax, or its logarithm, of a block of columns.
pub struct Forward<S, const LOG: bool> {
    pub rows: usize,
    pub to: Columns<S>,
    pub from: Columns<S>,
}

impl<S: StoredFloat, const LOG: bool> Vectorised for Forward<S, LOG> {
    type Output = ();
    #[inline(always)]
    unsafe fn run(self) {
        // A half type's powers would be rounded where they are kept: they are computed again.
        let keeps = !LOG && size_of::<S>() == size_of::<S::Math>();
        // SAFETY: the rows are within both; in place, each block is read before it is written.
        unsafe {
            let mut largest = [S::Math::LOWEST; BLOCK];
            for row in 0..self.rows {
                let block = self.from.load(row);
                for lane in 0..BLOCK {
                    // NaN is left to the powers.
                    largest[lane] = if block[lane] > largest[lane] { block[lane] } else { largest[lane] };
                }
            }
            let mut totals = Totals::new();
            for row in 0..self.rows {
                let block = powers(self.from.load(row), largest);
                totals.add(row, block);
                if keeps {
                    self.to.store(row, block);
                }
            }
            totals.settle();
            let (mut log, mut scale) = ([S::Math::ZERO; BLOCK], [S::Math::ZERO; BLOCK]);
            for lane in 0..BLOCK {
                log[lane] = S::Math::from_f64(totals.total[lane]).ln();
                scale[lane] = S::Math::from_f64(1.0 / totals.total[lane]);
            }
            for row in 0..self.rows {
                let block = if keeps { self.to.load(row) } else { self.from.load(row) };
                let block = if keeps || LOG { block } else { powers(block, largest) };
                let mut done = block;
                for lane in 0..BLOCK {
                    done[lane] =
                        if LOG { block[lane].sub(largest[lane]).sub(log[lane]) } else { block[lane].mul(scale[lane]) };
                }
                self.to.store(row, done);
            }
        }
    }
}

/// The gradient of [`Forward`].
pub struct Backward<S, const LOG: bool> {
    pub rows: usize,
    pub to: Columns<S>,
    pub grad: Columns<S>,
    pub output: Columns<S>,
}

impl<S: StoredFloat, const LOG: bool> Vectorised for Backward<S, LOG> {
    type Output = ();
    #[inline(always)]
    unsafe fn run(self) {
        // SAFETY: as in `Forward`.
        unsafe {
            let mut totals = Totals::new();
            for row in 0..self.rows {
                let (mut term, output) = (self.grad.load(row), self.output.load(row));
                for lane in 0..BLOCK {
                    term[lane] = if LOG { term[lane] } else { term[lane].mul(output[lane]) };
                }
                totals.add(row, term);
            }
            totals.settle();
            let mut total = [S::Math::ZERO; BLOCK];
            for (rounded, total) in total.iter_mut().zip(totals.total) {
                *rounded = S::Math::from_f64(total);
            }
            for row in 0..self.rows {
                let (mut grad, output) = (self.grad.load(row), self.output.load(row));
                for lane in 0..BLOCK {
                    grad[lane] = if LOG {
                        grad[lane].sub(output[lane].exp().mul(total[lane]))
                    } else {
                        grad[lane].sub(total[lane]).mul(output[lane])
                    };
                }
                self.to.store(row, grad);
            }
        }
    }
}
