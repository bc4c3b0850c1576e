//! The product of large matrices: blocks of both are copied into panels in the order in which the
//! register tile reads them, so that one panel of `b` stays in the first-level cache while the
//! panels of `a` stream past it from the second.

use super::Matrix;
use crate::error::Result;
use crate::isa::Level;
use crate::lanes::{Kernel, Lanes, Real, WIDEST, run_at, transpose};
use crate::scratch::Scratch;
use crate::value::Value;

/// Depth of a block: a panel of `b` takes most of the first-level cache.
const DEPTH: usize = 192;
/// Multiply-adds, rows and columns from which the copies cost less than they save.
const WORTH: usize = 1 << 22;
const ROWS: usize = 32;
const COLS: usize = 192;

/// Whether a product is large enough.
pub fn is_worth<T: Copy>(out: &Matrix<T>, a: &Matrix<T>) -> bool {
    let out = if out.col_stride == 1 { *out } else { out.transposed() };
    out.rows >= ROWS && out.cols >= COLS && out.rows * out.cols * a.cols >= WORTH
}

/// See [`super::cell::Multiply::multiply`].
pub fn multiply<T: Real>(
    level: Level,
    out: &Matrix<T>,
    a: &Matrix<T>,
    b: &Matrix<T>,
    alpha: T,
    accumulate: bool,
) -> Result<()> {
    if out.col_stride != 1 {
        return multiply(level, &out.transposed(), &b.transposed(), &a.transposed(), alpha, accumulate);
    }
    run_at(level, Product { out: *out, a: *a, b: *b, alpha, accumulate })
}

struct Product<T> {
    out: Matrix<T>,
    a: Matrix<T>,
    b: Matrix<T>,
    alpha: T,
    accumulate: bool,
}

impl<T: Real> Kernel<T> for Product<T> {
    type Output = Result<()>;
    #[inline(always)]
    unsafe fn run<L: Lanes<Elem = T>>(self) -> Result<()> {
        // SAFETY: the caller's, passed on.
        // The sums, a row of `b` and a factor stay in registers; with sixteen, one is left over, which the
        // compiler needs to move them.
        unsafe { if L::REGISTERS >= 32 { self.blocks::<L, 8, 3>() } else { self.blocks::<L, 6, 2>() } }
    }
}

impl<T: Real> Product<T> {
    /// # Safety
    /// The CPU has the level of `L`; the matrices are valid, rows of the output dense.
    #[inline(always)]
    unsafe fn blocks<L: Lanes<Elem = T>, const ROWS: usize, const VECTORS: usize>(&self) -> Result<()> {
        let Self { out, a, b, .. } = *self;
        let width = VECTORS * L::WIDTH;
        let left = Scratch::<T>::new(a.rows.next_multiple_of(ROWS) * DEPTH)?;
        let right = Scratch::<T>::new(width * DEPTH)?;
        let mut first = 0;
        while first < a.cols {
            let depth = DEPTH.min(a.cols - first);
            let accumulate = self.accumulate || first > 0;
            // SAFETY: the panels hold a block each, padded to whole tiles; the tiles' parts of the
            // output are within it.
            unsafe {
                let mut row = 0;
                while row < a.rows {
                    let part = a.part(row, first, ROWS.min(a.rows - row), depth).transposed();
                    pack::<L>(part, left.ptr().add(row * depth), ROWS);
                    row += ROWS;
                }
                let mut col = 0;
                while col < b.cols {
                    let cols = width.min(b.cols - col);
                    pack::<L>(b.part(first, col, depth, cols), right.ptr(), width);
                    let mut row = 0;
                    while row < a.rows {
                        let target = out.part(row, col, ROWS.min(a.rows - row), cols);
                        let panel = left.ptr().add(row * depth);
                        tile::<L, ROWS, VECTORS>(depth, panel, right.ptr(), &target, self.alpha, accumulate);
                        row += ROWS;
                    }
                    col += cols;
                }
            }
            first += depth;
        }
        Ok(())
    }
}

/// Copies a block row by row into a panel of rows of `width`, filled up with zeros.
///
/// # Safety
/// The block is valid and has a dense dimension; the panel is valid for `block.rows` rows.
#[inline(always)]
pub unsafe fn pack<L: Lanes>(block: Matrix<L::Elem>, to: *mut L::Elem, width: usize) {
    // SAFETY: the caller's; what is read and written is within the block and the panel.
    unsafe {
        let load = |from: *const L::Elem, count: usize| {
            if count >= L::WIDTH { L::load(from) } else { L::load_partial(from, count) }
        };
        for col in (0..width).step_by(L::WIDTH) {
            let room = (width - col).min(L::WIDTH);
            let store = |row: usize, value: L::Vector| {
                let to = to.add(row * width + col);
                if room == L::WIDTH { L::store(to, value) } else { L::store_partial(to, value, room) }
            };
            let cols = block.cols.saturating_sub(col).min(room);
            if block.col_stride == 1 {
                for row in 0..block.rows {
                    store(row, load(block.at(row, col), cols));
                }
                continue;
            }
            for row in (0..block.rows).step_by(L::WIDTH) {
                let rows = (block.rows - row).min(L::WIDTH);
                let mut square = [L::splat(L::Elem::ZERO); WIDEST];
                // Tests within loops of fixed length, which leave the square in registers.
                for at in 0..L::WIDTH {
                    if at < cols {
                        square[at] = load(block.at(row, col + at), rows);
                    }
                }
                let square = transpose::<L>(square);
                for at in 0..L::WIDTH {
                    if at < rows {
                        store(row + at, square[at]);
                    }
                }
            }
        }
    }
}

/// # Safety
/// The panels have `depth` rows; `out` is at most the tile's size, its rows dense.
#[inline(always)]
unsafe fn tile<L: Lanes, const ROWS: usize, const VECTORS: usize>(
    depth: usize,
    left: *const L::Elem,
    right: *const L::Elem,
    out: &Matrix<L::Elem>,
    alpha: L::Elem,
    accumulate: bool,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [[L::splat(L::Elem::ZERO); VECTORS]; ROWS];
        let (mut left, mut right) = (left, right);
        for _ in 0..depth {
            let values: [L::Vector; VECTORS] = std::array::from_fn(|vector| L::load(right.add(vector * L::WIDTH)));
            for row in 0..ROWS {
                let factor = L::splat(*left.add(row));
                for vector in 0..VECTORS {
                    sums[row][vector] = L::fma(values[vector], factor, sums[row][vector]);
                }
            }
            left = left.add(ROWS);
            right = right.add(VECTORS * L::WIDTH);
        }
        let alpha = L::splat(alpha);
        let whole = out.rows == ROWS && out.cols == VECTORS * L::WIDTH;
        for row in 0..ROWS {
            for vector in 0..VECTORS {
                let sum = L::mul(sums[row][vector], alpha);
                let to = out.at(row, vector * L::WIDTH);
                if whole {
                    L::store(to, if accumulate { L::add(L::load(to), sum) } else { sum });
                } else if row < out.rows {
                    let count = out.cols.saturating_sub(vector * L::WIDTH).min(L::WIDTH);
                    let sum = if accumulate { L::add(L::load_partial(to, count), sum) } else { sum };
                    L::store_partial(to, sum, count);
                }
            }
        }
    }
}
