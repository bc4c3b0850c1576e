//! The register tile of convolutions with channels as lanes: a matrix product whose vectors are
//! found through offsets.
//!
//! `sums[row][lane] += sum over k of factors[k][row] * panel[steps[k] + lane]`. Forward, the rows
//! are output positions and the lanes output channels; for the weights' gradient the rows are
//! output channels, the lanes input channels and the steps positions.

use crate::lanes::{Lanes, Real};

/// Rows of the tallest tile; factors are readable for so many.
pub const fn most_rows(registers: usize) -> usize {
    if registers >= 32 { 12 } else { 6 }
}

/// Vectors of a panel: two where the channels fill more than one.
pub fn vectors(channels: usize, lanes: usize) -> usize {
    if channels > lanes { 2 } else { 1 }
}

pub struct Product<T> {
    /// Each step's factors lie side by side.
    pub factors: *const T,
    pub factor_pitch: usize,
    pub panel: *const T,
    pub steps: *const isize,
    pub depth: usize,
    pub vectors: usize,
    pub sums: *mut T,
    /// Elements between rows of sums.
    pub sum_pitch: usize,
}

impl<T: Real> Product<T> {
    /// Adds to the sums of `rows <= most_rows` rows.
    ///
    /// # Safety
    /// The factors are valid for `most_rows` elements a step, the panel for its vectors at every
    /// step, the sums for the rows; the CPU has the level.
    #[inline(always)]
    pub unsafe fn run<L: Lanes<Elem = T>>(&self, rows: usize) {
        // SAFETY: the caller's.
        unsafe {
            match (self.vectors, rows) {
                (2, 9..) => self.tile::<L, 12, 2>(rows),
                (2, 7..) => self.tile::<L, 8, 2>(rows),
                (2, 5..) => self.tile::<L, 6, 2>(rows),
                (2, 3..) => self.tile::<L, 4, 2>(rows),
                (2, _) => self.tile::<L, 2, 2>(rows),
                (_, 9..) => self.tile::<L, 12, 1>(rows),
                (_, 7..) => self.tile::<L, 8, 1>(rows),
                (_, 5..) => self.tile::<L, 6, 1>(rows),
                (_, 3..) => self.tile::<L, 4, 1>(rows),
                (_, _) => self.tile::<L, 2, 1>(rows),
            }
        }
    }

    /// # Safety
    /// As for `run`.
    #[inline(always)]
    unsafe fn tile<L: Lanes<Elem = T>, const ROWS: usize, const VECTORS: usize>(&self, rows: usize) {
        // SAFETY: the caller's; sums of rows that there are not are dropped.
        unsafe {
            let mut sums = [[L::splat(T::ZERO); VECTORS]; ROWS];
            let mut factors = self.factors;
            for step in 0..self.depth {
                let panel = self.panel.wrapping_offset(*self.steps.add(step));
                let values: [L::Vector; VECTORS] = std::array::from_fn(|at| L::load(panel.add(at * L::WIDTH)));
                for row in 0..ROWS {
                    let factor = L::splat(*factors.add(row));
                    for at in 0..VECTORS {
                        sums[row][at] = L::fma(values[at], factor, sums[row][at]);
                    }
                }
                factors = factors.wrapping_add(self.factor_pitch);
            }
            for row in 0..ROWS {
                if row < rows {
                    for at in 0..VECTORS {
                        let to = self.sums.add(row * self.sum_pitch + at * L::WIDTH);
                        L::store(to, L::add(L::load(to), sums[row][at]));
                    }
                }
            }
        }
    }
}

/// Cuts `count` rows into tiles as even as they can be.
pub fn tile_height(count: usize, most: usize) -> usize {
    count.div_ceil(count.div_ceil(most).max(1)).max(1)
}
