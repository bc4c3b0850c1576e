//! Running sums, products and extremes along one dimension. Totals of floats run in f64, of integers
//! in i64.

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use super::dense_as;
use crate::convert::{Compute, Stored};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::fallible::Collected;
use crate::index::{Arithmetic, expect};
use crate::isa;
use crate::lanes::{Vectorised, vectorise_at};
use crate::loops::iterate::Space;
use crate::threads;
use crate::value::{Floating, Value};
use crate::view::{Attrs, View};
use crate::{match_float, match_stored};

/// Lines that run side by side: many where neighbours are dense, few where each line is its own stream.
const WIDE: usize = 128;
const NARROW: usize = 8;
/// Elements of a dense line that are read, and written, at once.
const PIECE: usize = 16;
/// Elements of a task.
const TASK: usize = 32 * 1024;

/// `[output, input]` of one shape; ints `[dim]`.
pub fn cumsum(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    total::<false>(views, attrs)
}

/// `[output, input]` of one shape; ints `[dim]`.
pub fn cumprod(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    total::<true>(views, attrs)
}

fn total<const PRODUCT: bool>(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [output, input] = expect(views)?;
    dense_as(
        &input,
        output.dtype(),
        |input| match_stored!(output.dtype(), S => launch::<Total<S, PRODUCT>>([&output, &output, input], attrs)),
    )
}

/// `[output, input]` of one shape, floating; ints `[dim]`: the logarithm of the running sum of
/// exponentials.
pub fn logcumsumexp(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [output, input] = expect(views)?;
    dense_as(
        &input,
        output.dtype(),
        |input| match_float!(output.dtype(), S => launch::<LogSumExp<S>>([&output, &output, input], attrs)),
    )
}

/// `[values, positions (i64), input]` of one shape; ints `[dim]`: the largest element so far, the
/// latest of equal ones, and its position. NaN is larger than all.
pub fn cummax(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    extreme::<true>(views, attrs)
}

/// As `cummax`, for the smallest element; NaN is smaller than all.
pub fn cummin(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    extreme::<false>(views, attrs)
}

fn extreme<const LARGEST: bool>(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [values, positions, input] = expect(views)?;
    values.expect_dtype("values", input.dtype())?;
    positions.expect_dtype("positions", DType::I64)?;
    match_stored!(input.dtype(), S => launch::<Extreme<S, LARGEST>>([&values, &positions, &input], attrs))
}

/// What runs along a line, and what it leaves at each element.
trait Scan: Send + Sync {
    type Item: Stored;
    type State: Copy;
    /// Written to the second output; the first one's type is the items'.
    type Second: Stored;
    const START: Self::State;
    /// Whether there is a second output.
    const PAIR: bool;
    fn step(state: Self::State, item: Self::Item, position: usize) -> Self::State;
    fn first(state: Self::State) -> Self::Item;
    fn second(state: Self::State) -> Self::Second;
}

struct Total<S, const PRODUCT: bool>(PhantomData<S>);

impl<S: Running, const PRODUCT: bool> Scan for Total<S, PRODUCT> {
    type Item = S;
    type State = S::Total;
    type Second = S;
    const START: S::Total = if PRODUCT { S::Total::ONE } else { S::Total::ZERO };
    const PAIR: bool = false;
    #[inline(always)]
    fn step(total: S::Total, item: S, _: usize) -> S::Total {
        let value = S::Total::load(item);
        if PRODUCT { total.mul(value) } else { total.add(value) }
    }
    #[inline(always)]
    fn first(total: S::Total) -> S {
        total.save()
    }
    #[inline(always)]
    fn second(total: S::Total) -> S {
        total.save()
    }
}

struct LogSumExp<S>(PhantomData<S>);

impl<S: Stored> Scan for LogSumExp<S> {
    type Item = S;
    type State = f64;
    type Second = S;
    const START: f64 = f64::NEG_INFINITY;
    const PAIR: bool = false;
    #[inline(always)]
    fn step(total: f64, item: S, _: usize) -> f64 {
        let value = item.to_f64();
        let (low, high) = (Value::min(total, value), Value::max(total, value));
        // Equal infinities have no difference.
        let difference = if low == high { 0.0 } else { low - high };
        let sum = high + Floating::ln_1p(Floating::exp(difference));
        if low == high && low.is_infinite() { low } else { sum }
    }
    #[inline(always)]
    fn first(total: f64) -> S {
        S::from_f64(total)
    }
    #[inline(always)]
    fn second(total: f64) -> S {
        S::from_f64(total)
    }
}

struct Extreme<S, const LARGEST: bool>(PhantomData<S>);

impl<S: Arithmetic, const LARGEST: bool> Scan for Extreme<S, LARGEST> {
    type Item = S;
    type State = (S::Math, i64);
    type Second = i64;
    const START: (S::Math, i64) = (if LARGEST { S::Math::LOWEST } else { S::Math::HIGHEST }, 0);
    const PAIR: bool = true;
    #[inline(always)]
    fn step((best, at): (S::Math, i64), item: S, position: usize) -> (S::Math, i64) {
        let value = S::Math::load(item);
        let better = if LARGEST { value >= best } else { value <= best };
        let replaces = better | Value::is_nan(value);
        (if replaces { value } else { best }, if replaces { position as i64 } else { at })
    }
    #[inline(always)]
    fn first((best, _): (S::Math, i64)) -> S {
        best.save()
    }
    #[inline(always)]
    fn second((_, at): (S::Math, i64)) -> i64 {
        at
    }
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

struct Lines<P: Scan> {
    from: *const P::Item,
    to: *mut P::Item,
    second: *mut P::Second,
    /// The first output's, the second's and the input's.
    line_strides: [isize; 3],
    strides: [isize; 3],
    lines: usize,
    length: usize,
}

impl<P: Scan> Vectorised for Lines<P> {
    type Output = ();
    #[inline(always)]
    unsafe fn run(self) {
        let mut states = [P::START; WIDE];
        // SAFETY: the caller's; `along` has done whole pieces of every line, and `scan` does the rest.
        unsafe {
            if self.lines == 1 {
                self.scan_one();
            } else if self.line_strides == [1; 3] {
                self.scan([1; 3], &mut states, 0);
            } else {
                let is_along = self.lines == NARROW && self.strides == [1; 3];
                let done = if is_along { self.along(&mut states) } else { 0 };
                self.scan(self.line_strides, &mut states, done);
            }
        }
    }
}

impl<P: Scan> Lines<P> {
    /// Runs along dense lines, as far as whole pieces go: gives how far. The lines of a matrix often lie a power
    /// of two apart, so that one's elements push the other's out of the cache, and a load waits for a store that
    /// only looks like its own: pieces of each meet less often.
    #[inline(always)]
    unsafe fn along(&self, states: &mut [P::State; WIDE]) -> usize {
        let at =
            |operand: usize, line: usize, index: usize| line as isize * self.line_strides[operand] + index as isize;
        let mut running: [P::State; NARROW] = std::array::from_fn(|line| states[line]);
        let mut done = 0;
        while done + PIECE <= self.length {
            // SAFETY: the pieces are within the views; in place, each is read before it is written.
            unsafe {
                let items: [[P::Item; PIECE]; NARROW] = std::array::from_fn(|line| {
                    self.from.offset(at(2, line, done)).cast::<[P::Item; PIECE]>().read_unaligned()
                });
                let mut firsts = [[MaybeUninit::<P::Item>::uninit(); PIECE]; NARROW];
                let mut seconds = [[MaybeUninit::<P::Second>::uninit(); PIECE]; NARROW];
                for index in 0..PIECE {
                    for line in 0..NARROW {
                        running[line] = P::step(running[line], items[line][index], done + index);
                        firsts[line][index].write(P::first(running[line]));
                        if P::PAIR {
                            seconds[line][index].write(P::second(running[line]));
                        }
                    }
                }
                for line in 0..NARROW {
                    self.to.offset(at(0, line, done)).cast::<[_; PIECE]>().write_unaligned(firsts[line]);
                    if P::PAIR {
                        self.second.offset(at(1, line, done)).cast::<[_; PIECE]>().write_unaligned(seconds[line]);
                    }
                }
            }
            done += PIECE;
        }
        states[..NARROW].copy_from_slice(&running);
        done
    }

    /// Of one line the state stays in registers.
    #[inline(always)]
    unsafe fn scan_one(&self) {
        let mut state = P::START;
        for index in 0..self.length {
            let at = |operand: usize| index as isize * self.strides[operand];
            // SAFETY: within the views; in place, each element is read before it is written.
            unsafe {
                state = P::step(state, *self.from.offset(at(2)), index);
                *self.to.offset(at(0)) = P::first(state);
                if P::PAIR {
                    *self.second.offset(at(1)) = P::second(state);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn scan(&self, line_strides: [isize; 3], states: &mut [P::State; WIDE], first: usize) {
        for index in first..self.length {
            let at = |operand: usize| index as isize * self.strides[operand];
            let to = self.to.wrapping_offset(at(0));
            let second = self.second.wrapping_offset(at(1));
            let from = self.from.wrapping_offset(at(2));
            for (line, state) in states[..self.lines].iter_mut().enumerate() {
                let at = |operand: usize| line as isize * line_strides[operand];
                // SAFETY: within the views; in place, each element is read before it is written.
                unsafe {
                    *state = P::step(*state, *from.offset(at(2)), index);
                    *to.offset(at(0)) = P::first(*state);
                    if P::PAIR {
                        *second.offset(at(1)) = P::second(*state);
                    }
                }
            }
        }
    }
}

/// Runs along `ints[0]` of the input, the last of the views; an op of one output gives it twice.
fn launch<P: Scan>(views: [&View<'_>; 3], attrs: &Attrs<'_>) -> Result<()> {
    let [output, second, input] = views;
    if output.sizes() != input.sizes() || second.sizes() != input.sizes() {
        return Err(Error::Shape(format!("the outputs {output:?} and {second:?} have not the shape of {input:?}")));
    }
    if output.numel() == 0 {
        return Ok(());
    }
    let dim = attrs.int(0) as usize;
    let (length, strides) =
        if output.rank() == 0 { (1, [1; 3]) } else { (output.size(dim), views.map(|view| view.stride(dim))) };
    let without = |list: &[i64]| -> Vec<i64> {
        list.iter().enumerate().filter(|&(at, _)| at != dim).map(|(_, &value)| value).collected()
    };
    let sizes = without(output.sizes());
    let others = views.map(|view| without(view.strides()));
    let space = Space::new(&sizes, std::array::from_fn(|at| others[at].as_slice()));
    let line_strides = space.inner().strides;
    let width = if line_strides[2].unsigned_abs() <= strides[2].unsigned_abs() { WIDE } else { NARROW };
    let level = isa::level();
    let lines_per_task = (TASK / length).next_multiple_of(width);
    threads::parallel_chunks(space.numel, lines_per_task, output.numel() * 2, |range| {
        space.rows(range.start, range.end, |offsets, count| {
            let mut done = 0;
            while done < count {
                let lines = width.min(count - done);
                let at = |operand: usize| offsets[operand] + done as isize * line_strides[operand];
                let task = Lines::<P> {
                    to: output.ptr::<P::Item>().wrapping_offset(at(0)),
                    second: second.bytes().cast::<P::Second>().wrapping_offset(at(1)),
                    from: input.ptr::<P::Item>().cast_const().wrapping_offset(at(2)),
                    line_strides,
                    strides,
                    lines,
                    length,
                };
                // SAFETY: the lines are within the views; tasks have disjoint lines.
                unsafe { vectorise_at(level, task) };
                done += lines;
            }
        });
    });
    Ok(())
}
