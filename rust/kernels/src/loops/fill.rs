//! Kernels that only write: one value, or an arithmetic sequence.

use half::{bf16, f16};

use super::iterate::Space;
use crate::convert::Stored;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::isa::{self, Level};
use crate::lanes::{Vectorised, vectorise_at};
use crate::match_stored;
use crate::threads;
use crate::view::{Attrs, View};

/// Elements of a task; fixed, so that the thread count never moves a boundary.
const TASK: usize = 64 * 1024;

/// `[out]`, of any dtype. Integers and bool take `ints[0]`, floats `floats[0]`, complex types
/// `floats[0]` and `floats[1]` (the imaginary part).
pub fn fill(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [out] = views else {
        return Err(Error::Runtime(format!("expected [out], got {} views", views.len())));
    };
    let int = || attrs.int(0);
    let float = |at| attrs.float(at);
    match out.dtype() {
        DType::U8 => write(out, int() as u8),
        DType::I8 => write(out, int() as i8),
        DType::I16 => write(out, int() as i16),
        DType::I32 => write(out, int() as i32),
        DType::I64 => write(out, int()),
        DType::Bool => write(out, (int() != 0) as u8),
        DType::F32 => write(out, float(0) as f32),
        DType::F64 => write(out, float(0)),
        DType::F16 => write(out, f16::from_f32(float(0) as f32)),
        DType::BF16 => write(out, bf16::from_f32(float(0) as f32)),
        DType::C64 => write(out, [float(0) as f32, float(1) as f32]),
        DType::C128 => write(out, [float(0), float(1)]),
    }
    Ok(())
}

/// Writes `value` everywhere; `T` has the size of the view's dtype.
fn write<T: Copy + Send + Sync>(out: &View<'_>, value: T) {
    let space = Space::of([out]);
    let level = isa::level();
    let stride = space.inner().strides[0];
    threads::parallel_chunks(space.numel, TASK, space.numel * size_of::<T>() / 16, |range| {
        space.rows(range.start, range.end, |[offset], count| {
            let row = out.bytes().cast::<T>().wrapping_offset(offset);
            // SAFETY: the row is within the view; tasks write disjoint rows.
            unsafe { write_row(level, row, stride, count, move |_| value) };
        });
    });
}

/// `[out]`, one dimension: element `i` is `start + i * step`. Floats take `floats[0..2]` (computed
/// in f64), integers `ints[0..2]` (wrapping).
pub fn arange(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [out] = views else {
        return Err(Error::Runtime(format!("expected [out], got {} views", views.len())));
    };
    out.expect_rank("out", 1)?;
    let stride = out.stride(0);
    let level = isa::level();
    match_stored!(out.dtype(), T => {
        threads::parallel_chunks(out.size(0), TASK, out.size(0), |range| {
            let row = out.bytes().cast::<T>().wrapping_offset(range.start as isize * stride);
            // SAFETY: the row is within the view; tasks write disjoint rows.
            unsafe {
                if out.dtype().is_float() {
                    let (start, step) = (attrs.float(0), attrs.float(1));
                    let value = move |at| T::from_f64(start + step * (range.start + at) as f64);
                    write_row(level, row, stride, range.len(), value);
                } else {
                    let (start, step) = (attrs.int(0), attrs.int(1));
                    let value = move |at| T::from_i64(start.wrapping_add(step.wrapping_mul((range.start + at) as i64)));
                    write_row(level, row, stride, range.len(), value);
                }
            }
        });
    });
    Ok(())
}

/// `[out]`, one dimension; floats `[first, last]`: equal steps, counted from the nearer end, so that
/// both ends come out exact.
pub fn linspace(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    spaced(views, attrs, |exponent| exponent)
}

/// `[out]`, one dimension; floats `[first, last, base]`: powers of the base, with the exponents of
/// `linspace`.
pub fn logspace(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let base = attrs.float(2);
    spaced(views, attrs, move |exponent| base.powf(exponent))
}

fn spaced(views: &[View<'_>], attrs: &Attrs<'_>, value: impl Fn(f64) -> f64 + Copy + Sync) -> Result<()> {
    let [out] = views else {
        return Err(Error::Runtime(format!("expected [out], got {} views", views.len())));
    };
    out.expect_rank("out", 1)?;
    let (first, last, count) = (attrs.float(0), attrs.float(1), out.size(0));
    let step = (last - first) / (count.max(2) - 1) as f64;
    let stride = out.stride(0);
    let level = isa::level();
    match_stored!(out.dtype(), T => {
        threads::parallel_chunks(count, TASK, count, |range| {
            let row = out.bytes().cast::<T>().wrapping_offset(range.start as isize * stride);
            let at = move |index: usize| {
                let index = range.start + index;
                // One step is the first number, as ATen has it.
                let near_start = index < count / 2 || count == 1;
                let number =
                    if near_start { first + step * index as f64 } else { last - step * (count - 1 - index) as f64 };
                T::from_f64(value(number))
            };
            // SAFETY: the row is within the view; tasks write disjoint rows.
            unsafe { write_row(level, row, stride, range.end - range.start, at) };
        });
    });
    Ok(())
}

/// # Safety
/// `to` is valid for writing `count` elements at `stride`.
unsafe fn write_row<T: Copy>(level: Level, to: *mut T, stride: isize, count: usize, value: impl Fn(usize) -> T) {
    struct Task<T, F> {
        to: *mut T,
        stride: isize,
        count: usize,
        value: F,
    }
    impl<T: Copy, F: Fn(usize) -> T> Vectorised for Task<T, F> {
        type Output = ();
        #[inline(always)]
        unsafe fn run(self) {
            let Self { to, stride, count, value } = self;
            // SAFETY: the caller promised `count` elements at this stride.
            unsafe {
                if stride == 1 {
                    for index in 0..count {
                        to.add(index).write(value(index));
                    }
                } else {
                    for index in 0..count {
                        to.offset(index as isize * stride).write(value(index));
                    }
                }
            }
        }
    }
    // SAFETY: the caller's promise is the task's.
    unsafe { vectorise_at(level, Task { to, stride, count, value }) }
}
