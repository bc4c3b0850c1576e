//! The cut of a product into cells, and one cell's arithmetic.

use super::{Matrix, Number, Scale, blocked, direct, dots, plain, vector};
use crate::convert::Compute;
use crate::element::Element;
use crate::error::Result;
use crate::isa::Level;
use crate::scratch::Scratch;
use crate::value::Value;

/// Multiply-adds of a cell below which it is not cut further: some microseconds.
const CELL_WORK: usize = 1 << 19;
/// Cells of a large product: each copies its rows and columns, so they are few and square.
const CELLS: usize = 8;
/// Multiply-adds that a task gathers from small products.
const TASK_WORK: usize = 1 << 18;
/// Multiply-adds a nanosecond: an estimate, for the decision to use more threads.
const WORK_PER_NANOSECOND: usize = 64;
/// A product with one row or column reads each element once: it runs at the memory's speed.
const VECTOR_WORK: usize = 1 << 16;
const VECTOR_WORK_PER_NANOSECOND: usize = 8;

/// The cut of `products` equal products into tasks, by shape alone.
pub struct Cells {
    products: usize,
    rows: usize,
    cols: usize,
    cell_rows: usize,
    cell_cols: usize,
    /// Cells of one task.
    group: usize,
    nanoseconds: usize,
}

impl Cells {
    pub fn of(products: usize, rows: usize, cols: usize, depth: usize) -> Self {
        let depth = depth.max(1);
        let work = products * rows * cols * depth;
        let is_vector = rows == 1 || cols == 1;
        let smallest = if is_vector { VECTOR_WORK } else { CELL_WORK.max(work / CELLS) };
        // Halves are rounded to whole register tiles, which the slack is for.
        let most = if is_vector { smallest } else { 2 * smallest + smallest / 4 };
        let (lowest, narrowest) = if is_vector { (128, 384) } else { (64, 96) };
        let (mut cell_rows, mut cell_cols) = (rows, cols);
        while cell_rows * cell_cols * depth > most {
            if cell_cols > narrowest && (cell_cols >= 2 * cell_rows || cell_rows <= lowest) {
                cell_cols = cell_cols.div_ceil(2).next_multiple_of(48);
            } else if cell_rows > lowest {
                cell_rows = cell_rows.div_ceil(2).next_multiple_of(16);
            } else {
                break;
            }
        }
        let group = (TASK_WORK / (cell_rows * cell_cols * depth)).max(1);
        let speed = if is_vector { VECTOR_WORK_PER_NANOSECOND } else { WORK_PER_NANOSECOND };
        Self { products, rows, cols, cell_rows, cell_cols, group, nanoseconds: work / speed }
    }

    /// Cells of a product: down and across.
    pub fn grid(&self) -> [usize; 2] {
        [self.rows.div_ceil(self.cell_rows), self.cols.div_ceil(self.cell_cols)]
    }

    fn count(&self) -> usize {
        self.products * self.grid().iter().product::<usize>()
    }

    pub fn tasks(&self) -> usize {
        self.count().div_ceil(self.group)
    }

    pub fn nanoseconds(&self) -> usize {
        self.nanoseconds
    }

    /// The number and (product, first row, first column, rows, columns) of each cell of a task.
    pub fn of_task(&self, task: usize) -> impl Iterator<Item = (usize, (usize, usize, usize, usize, usize))> {
        let [down, across] = self.grid();
        let first = task * self.group;
        (first..(first + self.group).min(self.count())).map(move |cell| {
            let (row, col) = (cell / across % down * self.cell_rows, cell % across * self.cell_cols);
            let rows = self.cell_rows.min(self.rows - row);
            let cols = self.cell_cols.min(self.cols - col);
            (cell, (cell / across / down, row, col, rows, cols))
        })
    }
}

/// `out = beta * input + alpha * a @ b` over one cell; no input where beta is zero.
pub struct Cell<S: Number> {
    pub out: Matrix<S>,
    pub input: Option<Matrix<S>>,
    pub a: Matrix<S::Math>,
    pub b: Matrix<S::Math>,
    pub scale: Scale<S::Math>,
}

impl<S: Number> Cell<S> {
    pub fn run(&self, level: Level) -> Result<()> {
        let Self { out, input, a, b, scale } = self;
        if a.cols == 0 {
            self.combine(None);
            return Ok(());
        }
        if S::DTYPE == S::Math::DTYPE
            && let Some(out) = out.with_unit_stride()
        {
            let target = Matrix {
                data: out.data.cast::<S::Math>(),
                rows: out.rows,
                cols: out.cols,
                row_stride: out.row_stride,
                col_stride: out.col_stride,
            };
            if input.is_some() {
                self.combine(None);
            }
            return Multiply::multiply(level, &target, a, b, scale.alpha, input.is_some());
        }
        let product = Scratch::<S::Math>::new(out.rows * out.cols)?;
        let dense = Matrix::dense(product.ptr(), out.rows, out.cols);
        Multiply::multiply(level, &dense, a, b, scale.alpha, false)?;
        self.combine(Some(dense));
        Ok(())
    }

    /// `out = beta * input + product`, either of which may be missing.
    fn combine(&self, product: Option<Matrix<S::Math>>) {
        let Self { out, input, scale, .. } = self;
        let same = input.is_some_and(|input| {
            std::ptr::eq(input.data, out.data)
                && input.row_stride == out.row_stride
                && input.col_stride == out.col_stride
        });
        if same && product.is_none() && scale.beta == S::Math::ONE {
            return;
        }
        // Along the output's memory.
        let turned = out.row_stride.unsigned_abs() < out.col_stride.unsigned_abs() && out.rows > 1;
        let turn = |turned: bool| if turned { out.transposed() } else { *out };
        let out = turn(turned);
        let input = input.map(|input| if turned { input.transposed() } else { input });
        let product = product.map(|product| if turned { product.transposed() } else { product });
        if product.is_none()
            && let Some(input) = input
            && out.col_stride == 1
            && input.col_stride == 1
        {
            for row in 0..out.rows {
                let (from, to) = (input.at(row, 0), out.at(row, 0));
                for col in 0..out.cols {
                    // SAFETY: dense rows within both, which are apart or the same.
                    unsafe { *to.add(col) = S::Math::load(*from.add(col)).mul(scale.beta).save() };
                }
            }
            return;
        }
        for row in 0..out.rows {
            for col in 0..out.cols {
                // SAFETY: the cell is within every operand that is present; the input may be the
                // output itself, in which case element by element is the in-place order.
                unsafe {
                    let mut value = S::Math::ZERO;
                    if let Some(input) = input {
                        value = S::Math::load(*input.at(row, col)).mul(scale.beta);
                    }
                    if let Some(product) = product {
                        value = value.add(*product.at(row, col));
                    }
                    *out.at(row, col) = value.save();
                }
            }
        }
    }
}

/// A type that products are computed in.
pub trait Multiply: Element {
    /// `out = alpha * a @ b`, or `out += alpha * a @ b`. The output has a dense dimension, so have
    /// the inputs, and the depth is not zero.
    fn multiply(
        level: Level,
        out: &Matrix<Self>,
        a: &Matrix<Self>,
        b: &Matrix<Self>,
        alpha: Self,
        accumulate: bool,
    ) -> Result<()>;
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl Multiply for $type {
            fn multiply(
                level: Level,
                out: &Matrix<Self>,
                a: &Matrix<Self>,
                b: &Matrix<Self>,
                alpha: Self,
                accumulate: bool,
            ) -> Result<()> {
                plain::multiply(level, out, a, b, alpha, accumulate)
            }
        }
    )*};
}
integers!(u8, i8, i16, i32, i64);

macro_rules! floats {
    ($($type:ty: $engine:ident),*) => {$(
        impl Multiply for $type {
            fn multiply(
                level: Level,
                out: &Matrix<Self>,
                a: &Matrix<Self>,
                b: &Matrix<Self>,
                alpha: Self,
                accumulate: bool,
            ) -> Result<()> {
                if out.cols == 1 {
                    return vector::multiply(level, out, a, b, alpha, accumulate);
                }
                if out.rows == 1 {
                    let (out, a, b) = (out.transposed(), a.transposed(), b.transposed());
                    return vector::multiply(level, &out, &b, &a, alpha, accumulate);
                }
                if level > Level::Scalar && dots::is_worth(out, a, b) {
                    return dots::multiply(level, out, a, b, alpha, accumulate);
                }
                if level > Level::Scalar && direct::is_worth(out, a) {
                    return direct::multiply(level, out, a, b, alpha, accumulate);
                }
                if level > Level::Scalar && (blocked::is_worth(out, a) || !has_engine()) {
                    return blocked::multiply(level, out, a, b, alpha, accumulate);
                }
                #[cfg(target_arch = "x86_64")]
                if level > Level::Scalar {
                    engine(private_gemm_x86::DType::$engine, level, out, a, b, &alpha, accumulate);
                    return Ok(());
                }
                plain::multiply(level, out, a, b, alpha, accumulate)
            }
        }
    )*};
}
floats!(f32: F32, f64: F64);

/// Whether this thread has the address space for the gemm crate's panels, which the crate makes once for each thread
/// and without which it ends the process: twice the last cache of the processor.
fn has_engine() -> bool {
    const PANELS: usize = 1 << 30;
    thread_local! {
        static FOUND: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    }
    if !FOUND.get() {
        FOUND.set(Vec::<u8>::new().try_reserve_exact(PANELS).is_ok());
    }
    FOUND.get()
}

/// The register-blocked product of the gemm crate, on this thread.
#[cfg(target_arch = "x86_64")]
fn engine<T: Copy>(
    dtype: private_gemm_x86::DType,
    level: Level,
    out: &Matrix<T>,
    a: &Matrix<T>,
    b: &Matrix<T>,
    alpha: &T,
    accumulate: bool,
) {
    use private_gemm_x86::{Accum, DstKind, IType, InstrSet, gemm};
    let instructions = if level == Level::Avx512 { InstrSet::Avx512 } else { InstrSet::Avx256 };
    let accumulate = if accumulate { Accum::Add } else { Accum::Replace };
    // SAFETY: the matrices are valid for their shapes and strides, of the type that `dtype` names,
    // and the CPU has the level.
    unsafe {
        gemm(
            dtype,
            IType::U64,
            instructions,
            out.rows,
            out.cols,
            a.cols,
            out.data.cast(),
            out.row_stride,
            out.col_stride,
            std::ptr::null(),
            std::ptr::null(),
            DstKind::Full,
            accumulate,
            a.data.cast_const().cast(),
            a.row_stride,
            a.col_stride,
            false,
            std::ptr::null(),
            0,
            b.data.cast_const().cast(),
            b.row_stride,
            b.col_stride,
            false,
            std::ptr::from_ref(alpha).cast(),
            1,
        );
    }
}
