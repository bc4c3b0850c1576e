//! A matrix times a vector: every element of the matrix is read once, so the loops follow its
//! memory, along rows (dot products) or along columns (scaled sums).

use super::Matrix;
use crate::error::Result;
use crate::isa::Level;
use crate::lanes::{Kernel, Lanes, Real, run_at};
use crate::scratch::Scratch;

/// Rows, or columns, that one pass reads side by side.
const SIDE: usize = 4;
/// Elements of a row that are summed before they join the row's sum, in f64: so its error does not grow with the
/// row.
const PIECE: usize = 1 << 12;
/// Rows of a pass over columns: the sums stay in the first-level cache.
const BLOCK: usize = 1024;

/// `out = alpha * a @ b` or `out += alpha * a @ b`, `b` and `out` of one column.
pub fn multiply<T: Real>(
    level: Level,
    out: &Matrix<T>,
    a: &Matrix<T>,
    b: &Matrix<T>,
    alpha: T,
    accumulate: bool,
) -> Result<()> {
    let factors = Scratch::<T>::new(a.cols)?;
    for row in 0..a.cols {
        // SAFETY: `b` has as many rows as `a` has columns, and so has the scratch.
        unsafe { *factors.ptr().add(row) = *b.at(row, 0) };
    }
    let sums = Scratch::<T>::new(a.rows)?;
    run_at(level, Product { sums: sums.ptr(), a: *a, factors: factors.ptr() });
    for row in 0..a.rows {
        // SAFETY: `out` has as many rows as `a`.
        unsafe {
            let product = (*sums.ptr().add(row)).mul(alpha);
            let target = out.at(row, 0);
            *target = if accumulate { (*target).add(product) } else { product };
        }
    }
    Ok(())
}

struct Product<T> {
    sums: *mut T,
    a: Matrix<T>,
    factors: *const T,
}

impl<T: Real> Kernel<T> for Product<T> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<L: Lanes<Elem = T>>(self) {
        // SAFETY: the caller's, passed on; `a` has a dense dimension.
        unsafe { if self.a.col_stride == 1 { self.along_rows::<L>() } else { self.along_columns::<L>() } }
    }
}

impl<T: Real> Product<T> {
    /// # Safety
    /// The CPU has the level of `L`; the columns of a row are dense.
    #[inline(always)]
    unsafe fn along_rows<L: Lanes<Elem = T>>(&self) {
        let mut row = 0;
        // SAFETY: rows below `a.rows`; the sums have as many.
        unsafe {
            while row + SIDE <= self.a.rows {
                self.dots::<L, SIDE>(row);
                row += SIDE;
            }
            while row < self.a.rows {
                self.dots::<L, 1>(row);
                row += 1;
            }
        }
    }

    /// # Safety
    /// As for `along_rows`; `row + ROWS` is at most the number of rows.
    #[inline(always)]
    unsafe fn dots<L: Lanes<Elem = T>, const ROWS: usize>(&self, row: usize) {
        let count = self.a.cols;
        let lines: [*mut T; ROWS] = std::array::from_fn(|at| self.a.at(row + at, 0));
        // SAFETY: each line and the factors have `count` elements.
        unsafe {
            let mut totals = [0.0; ROWS];
            let mut at = 0;
            while at < count {
                let end = (at + PIECE).min(count);
                self.piece::<L, ROWS>(&lines, at, end, &mut totals);
                at = end;
            }
            for (line, total) in totals.into_iter().enumerate() {
                *self.sums.add(row + line) = T::from_f64(total);
            }
        }
    }

    /// # Safety
    /// The CPU has the level of `L`; each line and the factors have the elements from `at` to `end`.
    #[inline(always)]
    unsafe fn piece<L: Lanes<Elem = T>, const ROWS: usize>(
        &self,
        lines: &[*mut T; ROWS],
        mut at: usize,
        end: usize,
        totals: &mut [f64; ROWS],
    ) {
        // SAFETY: the caller's.
        unsafe {
            let mut even = [L::splat(T::ZERO); ROWS];
            let mut odd = [L::splat(T::ZERO); ROWS];
            while at + 2 * L::WIDTH <= end {
                let first = L::load(self.factors.add(at));
                let second = L::load(self.factors.add(at + L::WIDTH));
                for line in 0..ROWS {
                    even[line] = L::fma(L::load(lines[line].add(at)), first, even[line]);
                    odd[line] = L::fma(L::load(lines[line].add(at + L::WIDTH)), second, odd[line]);
                }
                at += 2 * L::WIDTH;
            }
            while at < end {
                let left = L::WIDTH.min(end - at);
                let factor = L::load_partial(self.factors.add(at), left);
                for line in 0..ROWS {
                    even[line] = L::fma(L::load_partial(lines[line].add(at), left), factor, even[line]);
                }
                at += left;
            }
            for line in 0..ROWS {
                totals[line] += L::sum(L::add(even[line], odd[line])).to_f64();
            }
        }
    }

    /// # Safety
    /// The CPU has the level of `L`; the rows of a column are dense.
    #[inline(always)]
    unsafe fn along_columns<L: Lanes<Elem = T>>(&self) {
        let mut row = 0;
        while row < self.a.rows {
            let count = BLOCK.min(self.a.rows - row);
            // SAFETY: `row + count` rows exist; columns below `a.cols`.
            unsafe {
                for at in 0..count {
                    *self.sums.add(row + at) = T::ZERO;
                }
                let mut col = 0;
                while col + SIDE <= self.a.cols {
                    self.scaled::<L, SIDE>(row, count, col);
                    col += SIDE;
                }
                while col < self.a.cols {
                    self.scaled::<L, 1>(row, count, col);
                    col += 1;
                }
            }
            row += count;
        }
    }

    /// Adds `COLS` scaled columns to the sums of `count` rows.
    ///
    /// # Safety
    /// As for `along_columns`; the rows and columns exist.
    #[inline(always)]
    unsafe fn scaled<L: Lanes<Elem = T>, const COLS: usize>(&self, row: usize, count: usize, col: usize) {
        let lines: [*mut T; COLS] = std::array::from_fn(|at| self.a.at(row, col + at));
        // SAFETY: each line and the sums have `count` elements from `row`.
        unsafe {
            let sums = self.sums.add(row);
            let factors: [L::Vector; COLS] = std::array::from_fn(|at| L::splat(*self.factors.add(col + at)));
            let mut at = 0;
            while at + L::WIDTH <= count {
                let mut sum = L::load(sums.add(at));
                for line in 0..COLS {
                    sum = L::fma(L::load(lines[line].add(at)), factors[line], sum);
                }
                L::store(sums.add(at), sum);
                at += L::WIDTH;
            }
            if at < count {
                let left = count - at;
                let mut sum = L::load_partial(sums.add(at), left);
                for line in 0..COLS {
                    sum = L::fma(L::load_partial(lines[line].add(at), left), factors[line], sum);
                }
                L::store_partial(sums.add(at), sum, left);
            }
        }
    }
}
