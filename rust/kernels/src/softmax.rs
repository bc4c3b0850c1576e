//! softmax and log_softmax along any dimension, and their gradients.

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
        type T = <S as StoredFloat>::Math;
        if attrs.flag(1) {
            over_lines::<T, 2>([output, input], attrs.int(0), |level, count, [to, from]| {
                // SAFETY: the driver gives dense lines of `count` elements.
                unsafe { vectorise_at(level, Forward::<T, true> { count, to, from }) }
            })
        } else {
            over_lines::<T, 2>([output, input], attrs.int(0), |level, count, [to, from]| {
                // SAFETY: as above.
                unsafe { vectorise_at(level, Forward::<T, false> { count, to, from }) }
            })
        }
    })
}

/// `[grad_input, grad_output, output]` of one shape, floating; ints `[dim, log]`.
pub fn softmax_backward(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [grad_input, grad, output] = views else {
        return Err(Error::Runtime(format!("expected 3 views, got {}", views.len())));
    };
    match_float!(output.dtype(), S => {
        type T = <S as StoredFloat>::Math;
        let log = attrs.flag(1);
        over_lines::<T, 3>([grad_input, grad, output], attrs.int(0), |level, count, [to, grad, output]| {
            // SAFETY: the driver gives dense lines of `count` elements.
            unsafe {
                if log {
                    vectorise_at(level, Backward::<T, true> { count, to, grad, output })
                } else {
                    vectorise_at(level, Backward::<T, false> { count, to, grad, output })
                }
            }
        })
    })
}

/// Calls `line(level, length, pointers)` for each line along `dim`; the first operand is written.
fn over_lines<T: Compute + Stored, const OPERANDS: usize>(
    views: [&View<'_>; OPERANDS],
    dim: i64,
    line: impl Fn(isa::Level, usize, [*mut T; OPERANDS]) + Sync,
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
    let without = |list: &[i64]| -> smallvec::SmallVec<[i64; 6]> {
        list.iter().enumerate().filter(|&(at, _)| at != dim).map(|(_, &value)| value).collect()
    };
    let strides = views.map(|view| without(view.strides()));
    let space = Space::<OPERANDS>::new(&without(sizes), std::array::from_fn(|at| &strides[at][..]));
    let level = isa::level();
    let mut operands = [const { None }; OPERANDS];
    for (operand, view) in operands.iter_mut().zip(views) {
        let stride = view.strides().get(dim).map_or(1, |&stride| stride as isize);
        *operand = Some(Lines::<T>::new(view, length, stride, level)?);
    }
    let operands = operands.map(|operand| operand.expect("set above"));
    let lines_per_task = (TASK / length).max(NEIGHBOURS);
    let steps = space.inner().strides;
    threads::parallel_chunks(space.numel, lines_per_task, space.numel * length, |range| {
        let scratch = LineScratch::<T>::new(OPERANDS, length);
        let scratch: [*mut T; OPERANDS] = std::array::from_fn(|at| scratch.line(at));
        space.rows(range.start, range.end, |offsets, count| {
            for index in 0..count as isize {
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

/// Calls `body(start, block)` for blocks of the `COUNT` lines; the last block ends in `fill`.
///
/// # Safety
/// The lines are valid for `count` elements.
#[inline(always)]
unsafe fn blocks<T: Element, const COUNT: usize>(
    lines: [*const T; COUNT],
    start: usize,
    end: usize,
    fill: T,
    mut body: impl FnMut(usize, [[T; BLOCK]; COUNT], usize),
) {
    let mut at = start;
    while at + BLOCK <= end {
        // SAFETY: a whole block is within the line.
        body(at, lines.map(|line| unsafe { line.add(at).cast::<[T; BLOCK]>().read_unaligned() }), BLOCK);
        at += BLOCK;
    }
    if at < end {
        let mut padded = [[fill; BLOCK]; COUNT];
        for (padded, line) in padded.iter_mut().zip(lines) {
            for (lane, value) in padded[..end - at].iter_mut().enumerate() {
                // SAFETY: below the line's end.
                *value = unsafe { *line.add(at + lane) };
            }
        }
        body(at, padded, end - at);
    }
}

/// # Safety
/// `to` is valid for writing `count <= BLOCK` elements.
#[inline(always)]
unsafe fn store<T: Element>(to: *mut T, block: [T; BLOCK], count: usize) {
    // SAFETY: the caller's.
    unsafe {
        if count == BLOCK {
            to.cast::<[T; BLOCK]>().write_unaligned(block);
        } else {
            for (lane, value) in block.into_iter().enumerate().take(count) {
                *to.add(lane) = value;
            }
        }
    }
}

#[inline(always)]
fn fold<T: Element>(mut lanes: [T; BLOCK], join: impl Fn(T, T) -> T) -> T {
    let mut width = BLOCK / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = join(lanes[lane], lanes[lane + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// The f64 sum of what `term` gives for each block.
///
/// # Safety
/// As [`blocks`].
#[inline(always)]
unsafe fn total<T: Element, const COUNT: usize>(
    lines: [*const T; COUNT],
    count: usize,
    fill: T,
    mut term: impl FnMut(usize, [[T; BLOCK]; COUNT], usize) -> [T; BLOCK],
) -> f64 {
    let mut total = 0.0;
    let mut start = 0;
    while start < count {
        let end = (start + SUMMED).min(count);
        let mut lanes = [T::ZERO; BLOCK];
        // SAFETY: the caller's.
        unsafe {
            blocks(lines, start, end, fill, |at, values, width| {
                let terms = term(at, values, width);
                for lane in 0..BLOCK {
                    lanes[lane] = lanes[lane].add(terms[lane]);
                }
            });
        }
        total += fold(lanes, T::add).to_f64();
        start = end;
    }
    total
}

struct Forward<T, const LOG: bool> {
    count: usize,
    to: *mut T,
    from: *mut T,
}

impl<T: Float, const LOG: bool> Vectorised for Forward<T, LOG> {
    type Output = ();
    #[inline(always)]
    unsafe fn run(self) {
        let Self { count, to, from } = self;
        let from = from.cast_const();
        // SAFETY: dense lines of `count` elements; where they are the same line, each block is read
        // before it is written.
        unsafe {
            let mut lanes = [T::LOWEST; BLOCK];
            blocks([from], 0, count, T::LOWEST, |_, [block], _| {
                for lane in 0..BLOCK {
                    lanes[lane] = lanes[lane].max(block[lane]);
                }
            });
            let largest = fold(lanes, T::max);
            let sum = total([from], count, T::LOWEST, |at, [block], width| {
                let terms = block.map(|value| value.sub(largest).exp());
                if !LOG {
                    store(to.add(at), terms, width);
                }
                terms
            });
            if LOG {
                let log = T::from_f64(sum).ln();
                blocks([from], 0, count, T::ZERO, |at, [block], width| {
                    store(to.add(at), block.map(|value| value.sub(largest).sub(log)), width);
                });
            } else {
                let scale = T::from_f64(1.0 / sum);
                blocks([to.cast_const()], 0, count, T::ZERO, |at, [block], width| {
                    store(to.add(at), block.map(|value| value.mul(scale)), width);
                });
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

impl<T: Float, const LOG: bool> Vectorised for Backward<T, LOG> {
    type Output = ();
    #[inline(always)]
    unsafe fn run(self) {
        let Self { count, to, grad, output } = self;
        let lines = [grad.cast_const(), output.cast_const()];
        // SAFETY: as in the forward pass.
        unsafe {
            let sum = total(lines, count, T::ZERO, |_, [grad, output], _| {
                if LOG { grad } else { std::array::from_fn(|lane| grad[lane].mul(output[lane])) }
            });
            let sum = T::from_f64(sum);
            blocks(lines, 0, count, T::ZERO, |at, [grad, output], width| {
                let block = std::array::from_fn(|lane| {
                    if LOG {
                        grad[lane].sub(output[lane].exp().mul(sum))
                    } else {
                        grad[lane].sub(sum).mul(output[lane])
                    }
                });
                store(to.add(at), block, width);
            });
        }
    }
}
