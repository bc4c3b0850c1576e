//! Running sums and products along one dimension. Floats run in f64, integers in i64.

use super::dense_as;
use crate::convert::{Compute, Stored};
use crate::error::{Error, Result};
use crate::isa;
use crate::lanes::{Vectorised, vectorise_at};
use crate::loops::iterate::Space;
use crate::match_stored;
use crate::threads;
use crate::view::{Attrs, View};

/// Lines that run side by side: many where neighbours are dense, few where each line is its own stream.
const WIDE: usize = 128;
const NARROW: usize = 8;
/// Elements of a task.
const TASK: usize = 32 * 1024;

/// `[output, input]` of one shape; ints `[dim]`.
pub fn cumsum(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    launch::<false>(views, attrs)
}

/// `[output, input]` of one shape; ints `[dim]`.
pub fn cumprod(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    launch::<true>(views, attrs)
}

fn launch<const PRODUCT: bool>(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [output, input] = views else {
        return Err(Error::Runtime(format!("expected [output, input], got {} views", views.len())));
    };
    if output.sizes() != input.sizes() {
        return Err(Error::Shape(format!("the output {:?} has not the input's shape {input:?}", output.sizes())));
    }
    if output.numel() == 0 {
        return Ok(());
    }
    let dim = attrs.int(0) as usize;
    dense_as(input, output.dtype(), |input| {
        match_stored!(output.dtype(), S => run::<S, PRODUCT>(output, input, dim));
        Ok(())
    })
}

/// The type that a running total has.
trait Running: Stored {
    type Total: Compute;
}
macro_rules! running {
    ($($type:ty: $total:ty),*) => {$(
        impl Running for $type {
            type Total = $total;
        }
    )*};
}
running!(
    u8: i64, i8: i64, i16: i64, i32: i64, i64: i64, crate::element::Bool: i64, f32: f64, f64: f64, half::bf16: f64,
    half::f16: f64
);

struct Lines<S, const PRODUCT: bool> {
    from: *const S,
    to: *mut S,
    /// Input's and output's.
    line_strides: [isize; 2],
    strides: [isize; 2],
    lines: usize,
    length: usize,
}

impl<S: Running, const PRODUCT: bool> Vectorised for Lines<S, PRODUCT> {
    type Output = ();
    #[inline(always)]
    unsafe fn run(self) {
        // SAFETY: the caller's.
        unsafe { if self.line_strides == [1, 1] { self.scan([1, 1]) } else { self.scan(self.line_strides) } }
    }
}

impl<S: Running, const PRODUCT: bool> Lines<S, PRODUCT> {
    #[inline(always)]
    unsafe fn scan(&self, line_strides: [isize; 2]) {
        use crate::element::Element;
        let start = if PRODUCT { S::Total::ONE } else { S::Total::ZERO };
        let mut totals = [start; WIDE];
        for index in 0..self.length as isize {
            let from = self.from.wrapping_offset(index * self.strides[0]);
            let to = self.to.wrapping_offset(index * self.strides[1]);
            for (line, total) in totals[..self.lines].iter_mut().enumerate() {
                // SAFETY: within both views; in place, each element is read before it is written.
                unsafe {
                    let value = S::Total::load(*from.offset(line as isize * line_strides[0]));
                    *total = if PRODUCT { total.mul(value) } else { total.add(value) };
                    *to.offset(line as isize * line_strides[1]) = total.save();
                }
            }
        }
    }
}

fn run<S: Running, const PRODUCT: bool>(output: &View<'_>, input: &View<'_>, dim: usize) {
    let (length, strides) =
        if output.rank() == 0 { (1, [1, 1]) } else { (output.size(dim), [input.stride(dim), output.stride(dim)]) };
    let without = |list: &[i64]| -> Vec<i64> {
        list.iter().enumerate().filter(|&(at, _)| at != dim).map(|(_, &value)| value).collect()
    };
    let sizes = without(output.sizes());
    let space = Space::new(&sizes, [&without(input.strides()), &without(output.strides())]);
    let line_strides = space.inner().strides;
    let width = if line_strides[0].unsigned_abs() <= strides[0].unsigned_abs() { WIDE } else { NARROW };
    let level = isa::level();
    let lines_per_task = (TASK / length).next_multiple_of(width);
    threads::parallel_chunks(space.numel, lines_per_task, output.numel() * 2, |range| {
        space.rows(range.start, range.end, |offsets, count| {
            let mut done = 0;
            while done < count {
                let lines = width.min(count - done);
                let at = |operand: usize| offsets[operand] + done as isize * line_strides[operand];
                let task = Lines::<S, PRODUCT> {
                    from: input.ptr::<S>().cast_const().wrapping_offset(at(0)),
                    to: output.ptr::<S>().wrapping_offset(at(1)),
                    line_strides,
                    strides,
                    lines,
                    length,
                };
                // SAFETY: the lines are within both views; tasks have disjoint lines.
                unsafe { vectorise_at(level, task) };
                done += lines;
            }
        });
    });
}
