//! softmax and log_softmax along any dimension, and their gradients.

mod columns;

use crate::convert::{Compute, Stored, StoredFloat};
use crate::element::{Element, Float};
use crate::error::{Error, Result};
use crate::isa;
use crate::lanes::{Vectorised, vectorise_at};
use crate::lines::{LineScratch, Lines};
use crate::loops::iterate::Space;
use crate::match_float;
use crate::threads;
use crate::view::{Attrs, View};
use columns::Columns;
use smallvec::SmallVec;

/// Elements that are computed side by side.
const BLOCK: usize = 16;
/// Elements whose sum is taken in the compute type before it joins the f64 total.
const SUMMED: usize = 1024;
/// Elements of a task.
const TASK: usize = 16 * 1024;
/// Lines of a task, where gathering neighbours shares cache lines.
const NEIGHBOURS: usize = 16;

/// `[output, input]` of one shape, floating; ints `[dim, log]`. Computed in the output's dtype.
pub fn softmax(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [output, input] = views else {
        return Err(Error::Runtime(format!("expected [output, input], got {} views", views.len())));
    };
    match_float!(output.dtype(), S => {
        if attrs.flag(1) { forward::<S, true>([output, input], attrs) } else { forward::<S, false>([output, input], attrs) }
    })
}

fn forward<S: StoredFloat<Math: Compute + Stored>, const LOG: bool>(
    views: [&View<'_>; 2],
    attrs: &Attrs<'_>,
) -> Result<()> {
    over_lines::<S, 2>(
        views,
        attrs.int(0),
        |level, count, [to, from]| {
            // SAFETY: the driver gives dense lines of `count` elements.
            unsafe { vectorise_at(level, Forward::<S::Math, LOG> { count, to, from }) }
        },
        |level, rows, [to, from]| {
            // SAFETY: the driver gives columns of so many rows.
            unsafe { vectorise_at(level, columns::Forward::<S, LOG> { rows, to, from }) }
        },
    )
}

/// `[grad_input, grad_output, output]` of one shape, floating; ints `[dim, log]`.
pub fn softmax_backward(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [grad_input, grad, output] = views else {
        return Err(Error::Runtime(format!("expected 3 views, got {}", views.len())));
    };
    match_float!(output.dtype(), S => {
        let views = [grad_input, grad, output];
        if attrs.flag(1) { backward::<S, true>(views, attrs) } else { backward::<S, false>(views, attrs) }
    })
}

fn backward<S: StoredFloat<Math: Compute + Stored>, const LOG: bool>(
    views: [&View<'_>; 3],
    attrs: &Attrs<'_>,
) -> Result<()> {
    over_lines::<S, 3>(
        views,
        attrs.int(0),
        |level, count, [to, grad, output]| {
            // SAFETY: the driver gives dense lines of `count` elements.
            unsafe { vectorise_at(level, Backward::<S::Math, LOG> { count, to, grad, output }) }
        },
        |level, rows, [to, grad, output]| {
            // SAFETY: the driver gives columns of so many rows.
            unsafe { vectorise_at(level, columns::Backward::<S, LOG> { rows, to, grad, output }) }
        },
    )
}

/// Calls `line(level, length, pointers)` for each line along `dim`, or `block(level, length, columns)` for so many that
/// lie side by side in all operands; the first operand is written.
fn over_lines<S: StoredFloat<Math: Compute + Stored>, const OPERANDS: usize>(
    views: [&View<'_>; OPERANDS],
    dim: i64,
    line: impl Fn(isa::Level, usize, [*mut S::Math; OPERANDS]) + Sync,
    block: impl Fn(isa::Level, usize, [Columns<S>; OPERANDS]) + Sync,
) -> Result<()> {
    let sizes = views[0].sizes();
    for view in &views[1..] {
        if view.sizes() != sizes {
            return Err(Error::Shape(format!("expected shape {sizes:?}, got {:?}", view.sizes())));
        }
        if !view.dtype().is_float() {
            return Error::dtype(view.dtype());
        }
    }
    let dim = dim as usize;
    if dim >= sizes.len().max(1) {
        return Err(Error::Index { index: dim as i64, dim: 0, size: sizes.len() as i64 });
    }
    if views[0].numel() == 0 {
        return Ok(());
    }
    let length = sizes.get(dim).map_or(1, |&size| size as usize);
    let without = |list: &[i64]| -> SmallVec<[i64; 6]> {
        SmallVec::from_iter(list.iter().enumerate().filter(|&(at, _)| at != dim).map(|(_, &value)| value))
    };
    let strides = views.map(|view| without(view.strides()));
    let space = Space::<OPERANDS>::new(&without(sizes), std::array::from_fn(|at| &strides[at][..]));
    let level = isa::level();
    let mut operands = [const { None }; OPERANDS];
    for (operand, view) in operands.iter_mut().zip(views) {
        let stride = view.strides().get(dim).map_or(1, |&stride| stride as isize);
        *operand = Some(Lines::<S::Math>::new(view, length, stride, level)?);
    }
    let operands = operands.map(|operand| operand.expect("set above"));
    let lines_per_task = (TASK / length).max(NEIGHBOURS);
    let steps = space.inner().strides;
    let strides = views.map(|view| view.strides().get(dim).map_or(1, |&stride| stride as isize));
    let is_beside = steps == [1; OPERANDS] && length > 1 && views.iter().all(|view| view.dtype() == S::DTYPE);
    threads::parallel_chunks(space.numel, lines_per_task, space.numel * length, |range| {
        let scratch = LineScratch::<S::Math>::new(OPERANDS, length);
        let scratch: [*mut S::Math; OPERANDS] = std::array::from_fn(|at| scratch.line(at));
        space.rows(range.start, range.end, |offsets, count| {
            let blocks = if is_beside { count / BLOCK } else { 0 };
            for index in 0..blocks as isize {
                let first = |at: usize| views[at].ptr::<S>().wrapping_offset(offsets[at] + index * BLOCK as isize);
                block(level, length, std::array::from_fn(|at| Columns { first: first(at), stride: strides[at] }));
            }
            for index in (blocks * BLOCK) as isize..count as isize {
                let at = |operand: usize| offsets[operand] + index * steps[operand];
                let pointers = std::array::from_fn(|operand| {
                    if operand == 0 {
                        return operands[0].target(at(0), scratch[0]);
                    }
                    // SAFETY: the space keeps lines within the views; scratch holds a line.
                    unsafe { operands[operand].read(at(operand), scratch[operand]).cast_mut() }
                });
                line(level, length, pointers);
                // SAFETY: as above; tasks have disjoint lines.
                unsafe { operands[0].finish(at(0), scratch[0]) };
            }
        });
    });
    Ok(())
}

// The loops below are functions that are always inlined, not closures: a closure that stays a call
// would be compiled without the level's instructions.

// Whole blocks have loops of their own: what may call `memcpy`, as a part of a block does, has the lanes of
// sums in memory.

/// The block at `at` of a line that ends at `end`; what is past the end is `fill`.
///
/// # Safety
/// The line is valid for `end` elements, and `at < end`; the block is within it where it is whole.
#[inline(always)]
unsafe fn load<T: Element, const WHOLE: bool>(line: *const T, at: usize, end: usize, fill: T) -> [T; BLOCK] {
    // SAFETY: the caller's.
    unsafe {
        if WHOLE {
            return line.add(at).cast::<[T; BLOCK]>().read_unaligned();
        }
        let mut block = [fill; BLOCK];
        for (lane, value) in block.iter_mut().enumerate().take(end - at) {
            *value = *line.add(at + lane);
        }
        block
    }
}

/// Stores the part of a block that is before the line's end.
///
/// # Safety
/// As [`load`], for writing.
#[inline(always)]
unsafe fn store<T: Element, const WHOLE: bool>(line: *mut T, at: usize, end: usize, block: [T; BLOCK]) {
    // SAFETY: the caller's.
    unsafe {
        if WHOLE {
            return line.add(at).cast::<[T; BLOCK]>().write_unaligned(block);
        }
        for (lane, value) in block.into_iter().enumerate().take(end - at) {
            *line.add(at + lane) = value;
        }
    }
}

/// Lanes at the end of their loop: else the compiler keeps them all through it as they are joined afterwards, two
/// to a register or one.
#[inline(always)]
fn settled<L>(lanes: L) -> L {
    std::hint::black_box(lanes)
}

/// At the end of a loop's turn: else the compiler takes many blocks at a time, and gathers a lane of each.
#[inline(always)]
fn one_block() {
    std::hint::black_box(());
}

#[inline(always)]
fn sum<T: Element>(lanes: [T; BLOCK]) -> T {
    let mut lanes = settled(lanes);
    let mut width = BLOCK / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = lanes[lane].add(lanes[lane + width]);
        }
        width /= 2;
    }
    lanes[0]
}

#[inline(always)]
fn larger<T: Element>(lanes: &mut [T; BLOCK], block: [T; BLOCK]) {
    for (lane, value) in lanes.iter_mut().zip(block) {
        *lane = if value > *lane { value } else { *lane };
    }
}

struct Forward<T, const LOG: bool> {
    count: usize,
    to: *mut T,
    from: *mut T,
}

impl<T: Float, const LOG: bool> Forward<T, LOG> {
    /// The largest number. NaN is left to the powers: it makes their sum NaN, and so all results.
    #[inline(always)]
    unsafe fn largest(&self) -> T {
        const TOGETHER: usize = 4;
        let mut lanes = [[T::LOWEST; BLOCK]; TOGETHER];
        let mut at = 0;
        while at + TOGETHER * BLOCK <= self.count {
            for lanes in &mut lanes {
                // SAFETY: within the line.
                larger(lanes, unsafe { load::<T, true>(self.from, at, self.count, T::LOWEST) });
                at += BLOCK;
            }
        }
        while at + BLOCK <= self.count {
            // SAFETY: as above.
            larger(&mut lanes[0], unsafe { load::<T, true>(self.from, at, self.count, T::LOWEST) });
            at += BLOCK;
        }
        if at < self.count {
            // SAFETY: as above.
            larger(&mut lanes[0], unsafe { load::<T, false>(self.from, at, self.count, T::LOWEST) });
        }
        let [mut first, second, third, mut fourth] = settled(lanes);
        larger(&mut first, second);
        larger(&mut fourth, third);
        larger(&mut first, fourth);
        let mut width = BLOCK / 2;
        while width > 0 {
            for lane in 0..width {
                first[lane] = if first[lane + width] > first[lane] { first[lane + width] } else { first[lane] };
            }
            width /= 2;
        }
        first[0]
    }

    /// The sum of the powers; softmax keeps them in the output.
    #[inline(always)]
    unsafe fn powers(&self, largest: T) -> f64 {
        let mut total = 0.0;
        let mut at = 0;
        while at < self.count {
            let end = (at + SUMMED).min(self.count);
            let mut lanes = [T::ZERO; BLOCK];
            // SAFETY: within the lines.
            unsafe {
                while at + BLOCK <= end {
                    self.power::<true>(at, end, largest, &mut lanes);
                    at += BLOCK;
                }
                if at < end {
                    self.power::<false>(at, end, largest, &mut lanes);
                }
            }
            total += sum(lanes).to_f64();
            at = end;
        }
        total
    }

    #[inline(always)]
    unsafe fn power<const WHOLE: bool>(&self, at: usize, end: usize, largest: T, lanes: &mut [T; BLOCK]) {
        // SAFETY: the caller's; in place, the block is read before it is written.
        unsafe {
            let mut block = load::<T, WHOLE>(self.from, at, end, T::LOWEST);
            for lane in 0..BLOCK {
                block[lane] = block[lane].sub(largest).exp_of_negative();
                lanes[lane] = lanes[lane].add(block[lane]);
            }
            if !LOG {
                store::<T, WHOLE>(self.to, at, end, block);
            }
        }
    }

    #[inline(always)]
    unsafe fn finish<const WHOLE: bool>(&self, at: usize, largest: T, log: T, scale: T) {
        // SAFETY: the caller's.
        unsafe {
            let mut block = load::<T, WHOLE>(if LOG { self.from } else { self.to }, at, self.count, T::ZERO);
            for value in &mut block {
                *value = if LOG { value.sub(largest).sub(log) } else { value.mul(scale) };
            }
            store::<T, WHOLE>(self.to, at, self.count, block);
        }
    }
}

impl<T: Float, const LOG: bool> Vectorised for Forward<T, LOG> {
    type Output = ();
    #[inline(always)]
    unsafe fn run(self) {
        // SAFETY: dense lines of `count` elements.
        unsafe {
            let largest = self.largest();
            let total = self.powers(largest);
            let (log, scale) = (T::from_f64(total).ln(), T::from_f64(1.0 / total));
            let mut at = 0;
            while at + BLOCK <= self.count {
                self.finish::<true>(at, largest, log, scale);
                one_block();
                at += BLOCK;
            }
            if at < self.count {
                self.finish::<false>(at, largest, log, scale);
            }
        }
    }
}

struct Backward<T, const LOG: bool> {
    count: usize,
    to: *mut T,
    grad: *mut T,
    output: *mut T,
}

impl<T: Float, const LOG: bool> Backward<T, LOG> {
    /// The sum of the gradients, weighted by the outputs for softmax.
    #[inline(always)]
    unsafe fn total(&self) -> f64 {
        let mut total = 0.0;
        let mut at = 0;
        while at < self.count {
            let end = (at + SUMMED).min(self.count);
            let mut lanes = [T::ZERO; BLOCK];
            // SAFETY: within the lines.
            unsafe {
                while at + BLOCK <= end {
                    self.term::<true>(at, end, &mut lanes);
                    at += BLOCK;
                }
                if at < end {
                    self.term::<false>(at, end, &mut lanes);
                }
            }
            total += sum(lanes).to_f64();
            at = end;
        }
        total
    }

    #[inline(always)]
    unsafe fn term<const WHOLE: bool>(&self, at: usize, end: usize, lanes: &mut [T; BLOCK]) {
        // SAFETY: the caller's.
        let (grad, output) =
            unsafe { (load::<T, WHOLE>(self.grad, at, end, T::ZERO), load::<T, WHOLE>(self.output, at, end, T::ZERO)) };
        for lane in 0..BLOCK {
            let term = if LOG { grad[lane] } else { grad[lane].mul(output[lane]) };
            lanes[lane] = lanes[lane].add(term);
        }
    }

    #[inline(always)]
    unsafe fn finish<const WHOLE: bool>(&self, at: usize, total: T) {
        // SAFETY: the caller's; in place, the block is read before it is written.
        unsafe {
            let mut grad = load::<T, WHOLE>(self.grad, at, self.count, T::ZERO);
            let output = load::<T, WHOLE>(self.output, at, self.count, T::ZERO);
            for lane in 0..BLOCK {
                grad[lane] = if LOG {
                    grad[lane].sub(output[lane].exp().mul(total))
                } else {
                    grad[lane].sub(total).mul(output[lane])
                };
            }
            store::<T, WHOLE>(self.to, at, self.count, grad);
        }
    }
}

impl<T: Float, const LOG: bool> Vectorised for Backward<T, LOG> {
    type Output = ();
    #[inline(always)]
    unsafe fn run(self) {
        // SAFETY: dense lines of `count` elements; in place, each block is read before it is written.
        unsafe {
            let total = T::from_f64(self.total());
            let mut at = 0;
            while at + BLOCK <= self.count {
                self.finish::<true>(at, total);
                one_block();
                at += BLOCK;
            }
            if at < self.count {
                self.finish::<false>(at, total);
            }
        }
    }
}
