//! The product of a few rows by a matrix, both dense along the depth (`x @ w.T` of a small batch): sums are
//! vectors along the depth, in place, and are joined at its end.

use super::Matrix;
use crate::error::Result;
use crate::isa::Level;
use crate::lanes::{Kernel, Lanes, Real, WIDEST, run_at};
use crate::scratch::Scratch;
use crate::value::Value;

/// Rows from which the copies of other ways are shared by enough.
const ROWS: usize = 32;
/// The least depth: a join costs about as much as four steps along it.
const SHALLOWEST: usize = 256;
/// Depth of a block: the operands' rows of a tile stay in the first-level cache.
const DEPTH: usize = 1024;
/// Depth past which sums are joined in f64, so that their error does not grow with it.
const DEEP: usize = 4 * DEPTH;
/// The most sums that are: others would take memory beside the product's own.
const FEW: usize = 4096;

/// Whether a product has this form.
pub fn is_worth<T: Copy>(out: &Matrix<T>, a: &Matrix<T>, b: &Matrix<T>) -> bool {
    let is_along = |a: &Matrix<T>, b: &Matrix<T>| a.col_stride == 1 && b.row_stride == 1;
    is_along(a, b) && a.cols >= SHALLOWEST && out.rows.min(out.cols) < ROWS
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
    if out.rows > out.cols {
        return multiply(level, &out.transposed(), &b.transposed(), &a.transposed(), alpha, accumulate);
    }
    if a.cols > DEEP && out.rows * out.cols <= FEW {
        return deep(level, out, a, b, alpha, accumulate);
    }
    run_at(level, Product { out: *out, a: *a, b: *b, alpha, accumulate });
    Ok(())
}

/// As [`multiply`], a part of the depth at a time.
fn deep<T: Real>(
    level: Level,
    out: &Matrix<T>,
    a: &Matrix<T>,
    b: &Matrix<T>,
    alpha: T,
    accumulate: bool,
) -> Result<()> {
    let count = out.rows * out.cols;
    let (parts, sums) = (Scratch::<T>::new(count)?, Scratch::<f64>::new(count)?);
    let part = Matrix::dense(parts.ptr(), out.rows, out.cols);
    // SAFETY: the scratches hold `count` elements; the parts lie within the operands.
    unsafe {
        let sums = std::slice::from_raw_parts_mut(sums.ptr(), count);
        sums.fill(0.0);
        for first in (0..a.cols).step_by(DEEP) {
            let depth = DEEP.min(a.cols - first);
            let (a, b) = (a.part(0, first, a.rows, depth), b.part(first, 0, depth, b.cols));
            run_at(level, Product { out: part, a, b, alpha: T::ONE, accumulate: false });
            for (at, sum) in sums.iter_mut().enumerate() {
                *sum += (*parts.ptr().add(at)).to_f64();
            }
        }
        for (at, &sum) in sums.iter().enumerate() {
            let product = T::from_f64(sum).mul(alpha);
            let to = out.at(at / out.cols, at % out.cols);
            *to = if accumulate { (*to).add(product) } else { product };
        }
    }
    Ok(())
}

struct Product<T> {
    out: Matrix<T>,
    a: Matrix<T>,
    b: Matrix<T>,
    alpha: T,
    accumulate: bool,
}

impl<T: Real> Kernel<T> for Product<T> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<L: Lanes<Elem = T>>(self) {
        // Tiles have as many elements as a vector.
        // SAFETY: the caller's, passed on.
        unsafe {
            match (L::WIDTH, self.out.rows) {
                (16, 3..) => self.tiles::<L, 4, 4>(),
                (16, _) => self.tiles::<L, 2, 8>(),
                (8, _) => self.tiles::<L, 2, 4>(),
                (4, _) => self.tiles::<L, 1, 4>(),
                _ => self.tiles::<L, 1, 1>(),
            }
        }
    }
}

impl<T: Real> Product<T> {
    /// # Safety
    /// The CPU has the level of `L`; the matrices are valid, `a` and `b` dense along the depth.
    #[inline(always)]
    unsafe fn tiles<L: Lanes<Elem = T>, const ROWS: usize, const COLS: usize>(&self) {
        let Self { out, a, b, .. } = *self;
        for first in (0..a.cols).step_by(DEPTH) {
            let depth = DEPTH.min(a.cols - first);
            let accumulate = self.accumulate || first > 0;
            for col in (0..out.cols).step_by(COLS) {
                // Of the last tile, some rows and columns are computed twice, and stored once.
                let right: [_; COLS] = std::array::from_fn(|at| b.at(first, (col + at).min(out.cols - 1)).cast_const());
                for row in (0..out.rows).step_by(ROWS) {
                    let left: [_; ROWS] =
                        std::array::from_fn(|at| a.at((row + at).min(out.rows - 1), first).cast_const());
                    // SAFETY: the caller's; the rows and columns are within the operands.
                    let sums = unsafe { sums::<L, ROWS, COLS>(&left, &right, depth) };
                    for at in row..(row + ROWS).min(out.rows) {
                        for to in col..(col + COLS).min(out.cols) {
                            let sum = sums[(at - row) * COLS + to - col].mul(self.alpha);
                            let to = out.at(at, to);
                            // SAFETY: within the output.
                            unsafe { *to = if accumulate { (*to).add(sum) } else { sum } };
                        }
                    }
                }
            }
        }
    }
}

/// The dot products of each row with each column: as many as a vector has elements.
///
/// # Safety
/// Each is valid for `depth` elements; the CPU has the level.
#[inline(always)]
unsafe fn sums<L: Lanes, const ROWS: usize, const COLS: usize>(
    left: &[*const L::Elem; ROWS],
    right: &[*const L::Elem; COLS],
    depth: usize,
) -> [L::Elem; WIDEST] {
    let whole = depth / L::WIDTH * L::WIDTH;
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [[L::splat(L::Elem::ZERO); COLS]; ROWS];
        for at in (0..whole).step_by(L::WIDTH) {
            add::<L, ROWS, COLS>(&mut sums, left, right, at, |from| L::load(from));
        }
        if whole < depth {
            add::<L, ROWS, COLS>(&mut sums, left, right, whole, |from| L::load_partial(from, depth - whole));
        }
        join::<L, ROWS, COLS>(sums)
    }
}

/// Adds the products of a vector of the depth.
///
/// # Safety
/// As for `sums`; `load` reads the elements that there are.
#[inline(always)]
unsafe fn add<L: Lanes, const ROWS: usize, const COLS: usize>(
    sums: &mut [[L::Vector; COLS]; ROWS],
    left: &[*const L::Elem; ROWS],
    right: &[*const L::Elem; COLS],
    at: usize,
    load: impl Fn(*const L::Elem) -> L::Vector,
) {
    // SAFETY: the caller's.
    unsafe {
        let right: [L::Vector; COLS] = std::array::from_fn(|col| load(right[col].add(at)));
        for row in 0..ROWS {
            let left = load(left[row].add(at));
            for col in 0..COLS {
                sums[row][col] = L::fma(left, right[col], sums[row][col]);
            }
        }
    }
}

/// The sum of each vector's elements, in the vectors' order. Each round adds pairs of vectors, whose elements
/// then lie in turns: the first with the middle one and so on, so that the last round has them in order.
///
/// # Safety
/// The CPU has the level, whose vectors have `ROWS * COLS` elements.
#[inline(always)]
unsafe fn join<L: Lanes, const ROWS: usize, const COLS: usize>(sums: [[L::Vector; COLS]; ROWS]) -> [L::Elem; WIDEST] {
    let mut joined = [L::Elem::ZERO; WIDEST];
    // SAFETY: the caller's.
    unsafe {
        let mut vectors: [L::Vector; WIDEST] =
            std::array::from_fn(|at| if at < ROWS * COLS { sums[at / COLS][at % COLS] } else { sums[0][0] });
        let mut half = L::WIDTH / 2;
        while half > 0 {
            for at in 0..half {
                let (first, second) = L::interleave(vectors[at], vectors[at + half]);
                vectors[at] = L::add(first, second);
            }
            half /= 2;
        }
        L::store(joined.as_mut_ptr(), vectors[0]);
    }
    joined
}
