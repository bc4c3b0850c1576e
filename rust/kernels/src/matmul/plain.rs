//! The product of integers, and of floats on a CPU without AVX2: rows of the output, updated by
//! rows of `b`, four at a time.

use super::Matrix;
use crate::element::Element;
use crate::error::Result;
use crate::isa::Level;
use crate::lanes::{Vectorised, vectorise_at};
use crate::scratch::Scratch;

/// Rows of `b` that one pass over an output row adds.
const STEP: usize = 4;

/// See [`super::cell::Multiply::multiply`].
pub fn multiply<T: Element>(
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
    let mut rows = *b;
    let copy;
    if b.col_stride != 1 {
        copy = Scratch::new(b.rows * b.cols)?;
        rows = Matrix::dense(copy.ptr(), b.rows, b.cols);
        for col in 0..b.cols {
            for row in 0..b.rows {
                // SAFETY: within `b` and its dense copy.
                unsafe { *rows.at(row, col) = *b.at(row, col) };
            }
        }
    }
    // SAFETY: the matrices are valid for their shapes and strides.
    unsafe { vectorise_at(level, Rows { out: *out, a: *a, b: rows, alpha, accumulate }) };
    Ok(())
}

struct Rows<T> {
    out: Matrix<T>,
    a: Matrix<T>,
    b: Matrix<T>,
    alpha: T,
    accumulate: bool,
}

impl<T: Element> Vectorised for Rows<T> {
    type Output = ();
    #[inline(always)]
    unsafe fn run(self) {
        let Self { out, a, b, alpha, accumulate } = self;
        for row in 0..out.rows {
            // SAFETY: the row of the output is dense; every index is within its matrix.
            unsafe {
                let target = out.at(row, 0);
                if !accumulate {
                    for col in 0..out.cols {
                        *target.add(col) = T::ZERO;
                    }
                }
                let mut depth = 0;
                while depth + STEP <= a.cols {
                    let factors: [T; STEP] = std::array::from_fn(|at| (*a.at(row, depth + at)).mul(alpha));
                    let lines: [*mut T; STEP] = std::array::from_fn(|at| b.at(depth + at, 0));
                    for col in 0..out.cols {
                        let mut sum = *target.add(col);
                        for at in 0..STEP {
                            sum = sum.add(factors[at].mul(*lines[at].add(col)));
                        }
                        *target.add(col) = sum;
                    }
                    depth += STEP;
                }
                while depth < a.cols {
                    let factor = (*a.at(row, depth)).mul(alpha);
                    let line = b.at(depth, 0);
                    for col in 0..out.cols {
                        *target.add(col) = (*target.add(col)).add(factor.mul(*line.add(col)));
                    }
                    depth += 1;
                }
            }
        }
    }
}
