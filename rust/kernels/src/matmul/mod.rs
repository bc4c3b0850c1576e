//! Matrix products: `out = beta * input + alpha * a @ b`, in batches, over any strides.
//!
//! A product is cut into cells of the output by its shape alone; each cell is one task. Operands
//! with a dense dimension are used in place, others (and the half types) are first copied dense.

#[allow(clippy::needless_range_loop, reason = "two indices over arrays of fixed sizes unroll into registers")]
mod blocked;
mod cell;
#[allow(clippy::needless_range_loop, reason = "as above")]
mod direct;
#[allow(clippy::needless_range_loop, reason = "as above")]
mod dots;
mod packed;
mod plain;
mod telling;
mod vector;

pub(crate) use packed::Packed;

use crate::convert::{Compute, Stored};
use crate::dtype::DType;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::finish::{self, Finish};
use crate::isa;
use crate::loops::copy;
use crate::scratch::Scratch;
use crate::threads;
use crate::value::Value;
use crate::view::{Attrs, View};
use cell::{Cell, Cells};
use half::{bf16, f16};
use telling::Telling;

/// A strided matrix of `T` somewhere in memory.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<T> {
    pub data: *mut T,
    pub rows: usize,
    pub cols: usize,
    pub row_stride: isize,
    pub col_stride: isize,
}

// SAFETY: an address and a shape; tasks write disjoint cells.
unsafe impl<T: Send> Send for Matrix<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Matrix<T> {}

impl<T: Copy> Matrix<T> {
    pub fn dense(data: *mut T, rows: usize, cols: usize) -> Self {
        Self { data, rows, cols, row_stride: cols as isize, col_stride: 1 }
    }

    pub fn transposed(self) -> Self {
        Self {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }

    pub fn at(&self, row: usize, col: usize) -> *mut T {
        self.data.wrapping_offset(row as isize * self.row_stride + col as isize * self.col_stride)
    }

    /// The part of `rows` by `cols` from (`row`, `col`).
    pub fn part(self, row: usize, col: usize, rows: usize, cols: usize) -> Self {
        Self { data: self.at(row, col), rows, cols, ..self }
    }

    /// One dimension is dense (a dimension of size one is, after this sets its stride).
    fn with_unit_stride(mut self) -> Option<Self> {
        if self.row_stride != 1 && self.col_stride != 1 {
            if self.rows == 1 {
                self.row_stride = 1;
            } else if self.cols == 1 {
                self.col_stride = 1;
            } else {
                return None;
            }
        }
        Some(self)
    }
}

/// Matrices of one shape at regular distances.
#[derive(Clone, Copy)]
struct Batch<T> {
    first: Matrix<T>,
    stride: isize,
}

impl<T: Copy> Batch<T> {
    fn of(view: &View<'_>) -> Self {
        let batched = view.rank() - 2;
        Self {
            first: Matrix {
                data: view.ptr(),
                rows: view.size(batched),
                cols: view.size(batched + 1),
                row_stride: view.stride(batched),
                col_stride: view.stride(batched + 1),
            },
            stride: if batched == 1 { view.stride(0) } else { 0 },
        }
    }

    fn at(&self, index: usize) -> Matrix<T> {
        Matrix { data: self.first.data.wrapping_offset(index as isize * self.stride), ..self.first }
    }
}

/// A type that matrices are stored in, and the type that their products are computed in.
trait Number: Stored {
    type Math: Compute + cell::Multiply;
}
macro_rules! numbers {
    ($($type:ty: $math:ty),*) => {$(impl Number for $type { type Math = $math; })*};
}
numbers!(u8: u8, i8: i8, i16: i16, i32: i32, i64: i64, f32: f32, f64: f64, bf16: f32, f16: f32);

/// `beta` and `alpha` of an update, in the type of the arithmetic.
#[derive(Clone, Copy)]
struct Scale<T> {
    beta: T,
    alpha: T,
}

/// `[out, a, b]`: (m, n) = (m, k) @ (k, n).
pub fn matmul(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    matmul_telling(views, attrs, None)
}

/// As [`matmul`]; see [`finish`].
pub fn matmul_telling(views: &[View<'_>], _attrs: &Attrs<'_>, finish: Option<&dyn Finish>) -> Result<()> {
    let [out, a, b] = views else { return operands("[out, a, b]", views) };
    launch(2, out, None, a, b, &ONE, finish)
}

/// `[out, a, b]`: (batch, m, n) = (batch, m, k) @ (batch, k, n).
pub fn batch_matmul(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    batch_matmul_telling(views, attrs, None)
}

/// As [`batch_matmul`]; see [`finish`].
pub fn batch_matmul_telling(views: &[View<'_>], _attrs: &Attrs<'_>, finish: Option<&dyn Finish>) -> Result<()> {
    let [out, a, b] = views else { return operands("[out, a, b]", views) };
    launch(3, out, None, a, b, &ONE, finish)
}

/// `[out, input, a, b]`, 2-D or 3-D, the input of the output's shape (broadcast by zero strides).
/// Ints and floats: beta, alpha. With a beta of zero the input is not read.
pub fn addmm(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    addmm_telling(views, attrs, None)
}

/// As [`addmm`]; see [`finish`].
pub fn addmm_telling(views: &[View<'_>], attrs: &Attrs<'_>, finish: Option<&dyn Finish>) -> Result<()> {
    let [out, input, a, b] = views else { return operands("[out, input, a, b]", views) };
    let rank = if out.rank() == 3 { 3 } else { 2 };
    launch(rank, out, Some(input), a, b, attrs, finish)
}

const ONE: Attrs<'static> = Attrs { ints: &[0, 1], floats: &[0.0, 1.0] };

fn operands<T>(wanted: &str, views: &[View<'_>]) -> Result<T> {
    Err(Error::Runtime(format!("expected {wanted}, got {} views", views.len())))
}

fn launch(
    rank: usize,
    out: &View<'_>,
    input: Option<&View<'_>>,
    a: &View<'_>,
    b: &View<'_>,
    scale: &Attrs<'_>,
    finish: Option<&dyn Finish>,
) -> Result<()> {
    for (name, view) in [("out", out), ("a", a), ("b", b)] {
        view.expect_rank(name, rank)?;
        view.expect_dtype(name, out.dtype())?;
    }
    let batched = rank - 2;
    let (m, n, k) = (out.size(batched), out.size(batched + 1), a.size(batched + 1));
    // The batch, where there is one, then rows and columns.
    let expect = |name, view: &View<'_>, rows, cols| view.expect_sizes(name, &[out.size(0), rows, cols][1 - batched..]);
    expect("a", a, m, k)?;
    expect("b", b, k, n)?;
    if let Some(input) = input {
        input.expect_dtype("input", out.dtype())?;
        expect("input", input, m, n)?;
    }
    finish::check(finish, out)?;
    match out.dtype() {
        DType::U8 => update::<u8>(out, input, a, b, scale, finish),
        DType::I8 => update::<i8>(out, input, a, b, scale, finish),
        DType::I16 => update::<i16>(out, input, a, b, scale, finish),
        DType::I32 => update::<i32>(out, input, a, b, scale, finish),
        DType::I64 => update::<i64>(out, input, a, b, scale, finish),
        DType::F32 => update::<f32>(out, input, a, b, scale, finish),
        DType::F64 => update::<f64>(out, input, a, b, scale, finish),
        DType::BF16 => update::<bf16>(out, input, a, b, scale, finish),
        DType::F16 => update::<f16>(out, input, a, b, scale, finish),
        other => Error::dtype(other),
    }
}

/// An input of a product in the type of the arithmetic, with a dense dimension: the operand
/// itself, or a copy that lives as long as this.
struct Prepared<T> {
    batch: Batch<T>,
    _copy: Option<Scratch<T>>,
}

fn prepare<S: Number>(view: &View<'_>) -> Result<Prepared<S::Math>> {
    if S::DTYPE == S::Math::DTYPE {
        let mut batch = Batch::of(view);
        if let Some(first) = batch.first.with_unit_stride() {
            batch.first = first;
            return Ok(Prepared { batch, _copy: None });
        }
    }
    // A broadcast batch is copied once.
    let shared = view.rank() == 3 && view.stride(0) == 0;
    let (sizes, strides) =
        if shared { (&view.sizes()[1..], &view.strides()[1..]) } else { (view.sizes(), view.strides()) };
    // SAFETY: a part of the view's own shape.
    let source = unsafe { view.reshaped(0, sizes, strides) };
    let copy = Scratch::<S::Math>::new(source.numel())?;
    let (rows, cols) = (sizes[sizes.len() - 2], sizes[sizes.len() - 1]);
    // A transposed operand stays transposed, so that the copy runs along memory.
    let turned = strides[strides.len() - 2].unsigned_abs() < strides[strides.len() - 1].unsigned_abs();
    let dense = [rows * cols, if turned { 1 } else { cols }, if turned { rows } else { 1 }];
    // SAFETY: the scratch holds this many elements.
    let target = unsafe { View::new(copy.ptr().cast(), S::Math::DTYPE, sizes, &dense[3 - sizes.len()..]) };
    copy::launch(&[target, source], &Attrs::default())?;
    let mut batch = Batch::of(&target);
    if shared {
        batch.stride = 0;
    }
    Ok(Prepared { batch, _copy: Some(copy) })
}

fn update<S: Number>(
    out: &View<'_>,
    input: Option<&View<'_>>,
    a: &View<'_>,
    b: &View<'_>,
    scale: &Attrs<'_>,
    finish: Option<&dyn Finish>,
) -> Result<()> {
    let scale = Scale {
        beta: S::Math::from_scalar(scale.float(0), scale.int(0)),
        alpha: S::Math::from_scalar(scale.float(1), scale.int(1)),
    };
    let input = input.filter(|_| scale.beta != S::Math::ZERO).map(Batch::<S>::of);
    let products = if out.rank() == 3 { out.size(0) } else { 1 };
    let target = Batch::<S>::of(out);
    let (rows, cols) = (target.first.rows, target.first.cols);
    if products == 0 || rows == 0 || cols == 0 {
        return Ok(());
    }
    let depth = if scale.alpha == S::Math::ZERO { 0 } else { a.size(a.rank() - 1) };
    let a = prepare::<S>(a)?;
    let b = prepare::<S>(b)?;
    let cells = Cells::of(products, rows, cols, depth);
    let level = isa::level();
    let refusal = std::sync::Mutex::new(None);
    let nanoseconds = cells.nanoseconds() + finish.map_or(0, Finish::nanoseconds);
    let telling = finish.map(|finish| Telling::new(finish, &target, products, &cells));
    threads::parallel(cells.tasks(), nanoseconds, |task| {
        let mut pending = telling.as_ref().map(|telling| (telling, telling.pending()));
        for (number, at) in cells.of_task(task) {
            let (product, row, col, rows, cols) = at;
            let cell = Cell {
                out: target.at(product).part(row, col, rows, cols),
                input: input.map(|input| input.at(product).part(row, col, rows, cols)),
                a: a.batch.at(product).part(row, 0, rows, depth),
                b: b.batch.at(product).part(0, col, depth, cols),
                scale,
            };
            if let Err(error) = cell.run(level) {
                *refusal.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(error);
            }
            if let Some((telling, pending)) = &mut pending {
                // SAFETY: this cell is done, and nothing else has its elements.
                unsafe { telling.cell(pending, number, at) };
            }
        }
        if let Some((_, mut pending)) = pending {
            // SAFETY: as above.
            unsafe { pending.done() };
        }
    });
    if let Some(telling) = telling {
        // SAFETY: all tasks have ended.
        unsafe { telling.end() };
    }
    refusal.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()).map_or(Ok(()), Err)
}
