//! The product of small matrices: nothing is copied (save a transposed `b`), a tile of the output
//! stays in registers while rows of `b` and elements of `a` stream past from where they lie.

use std::ops::Range;

use super::{Matrix, blocked};
use crate::error::Result;
use crate::isa::Level;
use crate::lanes::{Kernel, Lanes, Real, run_at};
use crate::scratch::Scratch;

/// The most multiply-adds: beyond, the rows of `b` no longer stay in the first-level cache.
const WORTH: usize = 1 << 18;
/// The rows of `b` up to which the output's rows are written one after another, some at a time, as `b` stays in
/// the cache: there is then little else to do than to write. In strips, rows that lie a power of two apart would
/// drive each other out of the cache.
const THIN: usize = 8;

/// Whether a product is small enough.
pub fn is_worth<T: Copy>(out: &Matrix<T>, a: &Matrix<T>) -> bool {
    out.rows * out.cols * a.cols <= WORTH || a.cols == 1
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

pub struct Product<T> {
    pub out: Matrix<T>,
    pub a: Matrix<T>,
    pub b: Matrix<T>,
    pub alpha: T,
    pub accumulate: bool,
}

impl<T: Real> Kernel<T> for Product<T> {
    type Output = Result<()>;
    #[inline(always)]
    unsafe fn run<L: Lanes<Elem = T>>(self) -> Result<()> {
        let Self { b, .. } = self;
        if b.col_stride == 1 {
            // SAFETY: the caller's, passed on.
            unsafe { self.strips::<L>() };
            return Ok(());
        }
        let copy = Scratch::<T>::new(b.rows * b.cols)?;
        // SAFETY: the scratch holds the copy, whose rows are dense.
        unsafe {
            blocked::pack::<L>(b, copy.ptr(), b.cols);
            Self { b: Matrix::dense(copy.ptr(), b.rows, b.cols), ..self }.strips::<L>();
        }
        Ok(())
    }
}

impl<T: Real> Product<T> {
    /// # Safety
    /// The CPU has the level of `L`; the matrices are valid, rows of the output and of `b` dense.
    #[inline(always)]
    pub unsafe fn strips<L: Lanes<Elem = T>>(&self) {
        let band = if self.b.rows <= THIN { 8 } else { self.out.rows.max(1) };
        for row in (0..self.out.rows).step_by(band) {
            // SAFETY: the rows are the output's.
            unsafe { self.band::<L>(row..(row + band).min(self.out.rows)) };
        }
    }

    /// # Safety
    /// As for `strips`; the rows are within the output.
    #[inline(always)]
    unsafe fn band<L: Lanes<Elem = T>>(&self, rows: Range<usize>) {
        let vectors = self.out.cols.div_ceil(L::WIDTH);
        let strips = vectors.div_ceil(3);
        let mut done = 0;
        for strip in 0..strips {
            // As even as can be: four vectors are two strips of two.
            let width = (vectors - done) / (strips - strip);
            // SAFETY: the strip is within the output.
            unsafe {
                match width {
                    1 => self.strip::<L, 1>(rows.clone(), done * L::WIDTH),
                    2 => self.strip::<L, 2>(rows.clone(), done * L::WIDTH),
                    _ => self.strip::<L, 3>(rows.clone(), done * L::WIDTH),
                }
            }
            done += width;
        }
    }

    /// # Safety
    /// As for `band`; `VECTORS` vectors from column `col`, the last of which may be partly outside.
    #[inline(always)]
    unsafe fn strip<L: Lanes<Elem = T>, const VECTORS: usize>(&self, rows: Range<usize>, col: usize) {
        let last = (self.out.cols - col - (VECTORS - 1) * L::WIDTH).min(L::WIDTH);
        let mut row = rows.start;
        while row < rows.end {
            // SAFETY: the tile's rows and columns that are written exist.
            unsafe {
                let tall = L::REGISTERS >= 32 && rows.end - row > 4;
                match (tall, last == L::WIDTH) {
                    (true, true) => self.tile::<L, 8, VECTORS, true>(row, col, last),
                    (true, false) => self.tile::<L, 8, VECTORS, false>(row, col, last),
                    (false, true) => self.tile::<L, 4, VECTORS, true>(row, col, last),
                    (false, false) => self.tile::<L, 4, VECTORS, false>(row, col, last),
                }
                row += if tall { 8 } else { 4 };
            }
        }
    }

    /// # Safety
    /// As for `strip`; rows beyond the output's end are computed from its last row and not written.
    #[inline(always)]
    unsafe fn tile<L: Lanes<Elem = T>, const ROWS: usize, const VECTORS: usize, const WHOLE: bool>(
        &self,
        row: usize,
        col: usize,
        last: usize,
    ) {
        let Self { out, a, b, .. } = self;
        let is_partial = |vector: usize| !WHOLE && vector + 1 == VECTORS;
        // SAFETY: rows are within `a`; columns within `b` and the output, the last vector's by `last`.
        unsafe {
            let load = |from: *const T, vector: usize| {
                let from = from.add(vector * L::WIDTH);
                if is_partial(vector) { L::load_partial(from, last) } else { L::load(from) }
            };
            let mut lines: [*const T; ROWS] =
                std::array::from_fn(|at| a.at((row + at).min(out.rows - 1), 0).cast_const());
            let mut line: *const T = b.at(0, col);
            let mut sums = [[L::splat(T::ZERO); VECTORS]; ROWS];
            for _ in 0..a.cols {
                let values: [L::Vector; VECTORS] = std::array::from_fn(|vector| load(line, vector));
                for at in 0..ROWS {
                    let factor = L::splat(*lines[at]);
                    for vector in 0..VECTORS {
                        sums[at][vector] = L::fma(values[vector], factor, sums[at][vector]);
                    }
                    lines[at] = lines[at].wrapping_offset(a.col_stride);
                }
                line = line.wrapping_offset(b.row_stride);
            }
            let alpha = L::splat(self.alpha);
            for at in 0..ROWS {
                // A test within a loop of fixed length, which leaves the sums in registers.
                if row + at >= out.rows {
                    break;
                }
                let to = out.at(row + at, col);
                for vector in 0..VECTORS {
                    let mut sum = L::mul(sums[at][vector], alpha);
                    if self.accumulate {
                        sum = L::add(load(to, vector), sum);
                    }
                    let to = to.add(vector * L::WIDTH);
                    if is_partial(vector) { L::store_partial(to, sum, last) } else { L::store(to, sum) }
                }
            }
        }
    }
}
