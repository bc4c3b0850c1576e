//! The one loop under every pointwise op: blocks of elements that fit the first-level cache,
//! loaded (cast, gathered) where an operand is not dense or of another type, computed by the row's
//! block loop, and stored (cast, scattered) likewise. Dense operands are used in place.

use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use smallvec::SmallVec;

use super::copy::Cast;
use super::iterate::Space;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::isa::{self, Level};
use crate::ops::Expression;
use crate::ops::row::{Block, INPUTS, Scalars, block_over};
use crate::threads;
use crate::view::{Attrs, View};

/// Elements of a block: with four operands of eight bytes it stays within half of a small L1.
pub const BLOCK: usize = 512;
/// Elements of a task; fixed, so that the thread count never moves a boundary.
const TASK: usize = 32 * 1024;

/// Views: output, then inputs, all of the output's shape (broadcast by zero strides). Ints: the
/// compute dtype's code, then the scalars as integers; floats: the scalars as floats.
pub fn launch(expression: &dyn Expression, views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let (compute, scalars) = arguments(attrs)?;
    let Some(block) = block_over(expression, compute) else {
        return Error::dtype(compute);
    };
    let (output, inputs) = views.split_first().ok_or_else(|| Error::Runtime("no operands".into()))?;
    if inputs.len() != block.arity {
        return Err(Error::Runtime(format!("expected {} inputs, got {}", block.arity, inputs.len())));
    }
    let refuses_zero = expression.divides() && !compute.is_float();
    if !refuses_zero && is_lines(&block, views) {
        return run_lines(&block, &scalars, views);
    }
    for input in inputs {
        if input.sizes() != output.sizes() {
            return Err(Error::Shape(format!(
                "the size of an input {:?} must match the output's {:?}",
                input.sizes(),
                output.sizes()
            )));
        }
    }
    if refuses_zero {
        refuse_zero(inputs[1], compute)?;
    }
    match inputs {
        [a] => run(&block, &scalars, [output, a]),
        [a, b] => run(&block, &scalars, [output, a, b]),
        [a, b, c] => run(&block, &scalars, [output, a, b, c]),
        [a, b, c, d] => run(&block, &scalars, [output, a, b, c, d]),
        _ => Err(Error::Runtime("a pointwise op has at most four inputs".into())),
    }
}

/// The compute dtype and the scalars of a launch.
#[inline(always)]
pub fn arguments(attrs: &Attrs<'_>) -> Result<(DType, Scalars)> {
    let compute = attrs.ints.first().and_then(|&code| DType::from_code(code as u8));
    let compute = compute.ok_or_else(|| Error::Runtime("the compute dtype is missing or unknown".into()))?;
    Ok((compute, Scalars::of(&attrs.ints[1..], attrs.floats)))
}

/// Refuses a divisor with a zero once it is cast to the integer type `compute`.
fn refuse_zero(divisor: View<'_>, compute: DType) -> Result<()> {
    // What a broadcast repeats is looked at once.
    let seen =
        |dim: usize| if divisor.stride(dim) == 0 { divisor.size(dim).min(1) as i64 } else { divisor.sizes()[dim] };
    let sizes: SmallVec<[i64; 6]> = SmallVec::from_iter((0..divisor.rank()).map(seen));
    let space = Space::new(&sizes, [divisor.strides()]);
    let cast = Cast::new(divisor.dtype(), compute)?;
    let level = isa::level();
    let stride = space.inner().strides[0];
    let found = AtomicBool::new(false);
    threads::parallel_chunks(space.numel, TASK, space.numel, |range| {
        let mut buffer = Buffer::new();
        let buffer: *mut u8 = buffer.0.as_mut_ptr().cast();
        space.rows(range.start, range.end, |[offset], count| {
            for start in (0..count).step_by(BLOCK) {
                let piece = BLOCK.min(count - start);
                let offset = (offset + start as isize * stride) * divisor.dtype().size() as isize;
                let from = divisor.bytes().wrapping_offset(offset);
                // SAFETY: the piece is within the view; the buffer holds a block, of which the
                // cast writes the part that is then read.
                let zero = unsafe {
                    (cast.run)(level, piece, from, stride, buffer, 1);
                    std::slice::from_raw_parts(buffer, piece * compute.size())
                        .chunks_exact(compute.size())
                        .any(|element| element.iter().all(|&byte| byte == 0))
                };
                if zero {
                    found.store(true, Ordering::Relaxed);
                }
            }
        });
    });
    if found.into_inner() { Err(Error::ZeroDivision) } else { Ok(()) }
}

/// How an operand's elements reach a block.
#[derive(Clone, Copy)]
struct Operand {
    data: *mut u8,
    size: usize,
    /// Dense along the innermost dimension, and of the block's type.
    dense_rows: bool,
    cast: Cast,
}

// SAFETY: an address and a shape; tasks write disjoint ranges of the output.
unsafe impl Send for Operand {}
// SAFETY: as above.
unsafe impl Sync for Operand {}

#[repr(align(64))]
struct Buffer([MaybeUninit<u64>; BLOCK]);

impl Buffer {
    const fn new() -> Self {
        Self([MaybeUninit::uninit(); BLOCK])
    }
}

/// Whether the views are lines of one length: dense and of the block's types, or (inputs) one element
/// repeated, of any type. The shim hands dense tensors and numbers over so, and then nothing is to be
/// merged or gathered.
fn is_lines(block: &Block, views: &[View<'_>]) -> bool {
    let is_line = |view: &View<'_>| view.rank() == 1 && view.size(0) == views[0].size(0);
    let (output, inputs) = (&views[0], &views[1..]);
    let is_dense = |view: &View<'_>, dtype| view.stride(0) == 1 && view.dtype() == dtype;
    // Those of a half type are rounded on their way.
    block.half.is_none()
        && is_line(output)
        && is_dense(output, block.output)
        && inputs.iter().all(|input| is_line(input) && (is_dense(input, block.input) || input.stride(0) == 0))
}

fn run_lines(block: &Block, scalars: &Scalars, views: &[View<'_>]) -> Result<()> {
    let level = isa::level();
    let count = views[0].size(0);
    if views[1..].iter().any(|view| view.stride(0) == 0) {
        return run_repeated(block, level, scalars, views, count);
    }
    run_dense(block, level, scalars, views, count);
    Ok(())
}

struct Inputs([*const u8; INPUTS]);

// SAFETY: addresses; what they point to is only read.
unsafe impl Sync for Inputs {}

/// Lines of which some repeat one element: a buffer of it is used again and again.
#[inline(never)]
fn run_repeated(block: &Block, level: Level, scalars: &Scalars, views: &[View<'_>], count: usize) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let repeats = |view: &View<'_>| view.stride(0) == 0;
    let mut buffers = [const { Buffer::new() }; INPUTS];
    let mut bases = Inputs([std::ptr::null(); INPUTS]);
    for ((input, buffer), base) in views[1..].iter().zip(&mut buffers).zip(&mut bases.0) {
        *base = input.bytes().cast_const();
        if repeats(input) {
            let buffer: *mut u8 = buffer.0.as_mut_ptr().cast();
            let cast = Cast::new(input.dtype(), block.input)?;
            // SAFETY: the input has an element, and the buffer holds a block.
            unsafe { (cast.run)(level, count.min(BLOCK), *base, 0, buffer, 1) };
            *base = buffer.cast_const();
        }
    }
    let bases = &bases;
    threads::parallel_chunks(count, TASK, count, |range| {
        for start in range.clone().step_by(BLOCK) {
            let piece = BLOCK.min(range.end - start);
            let mut inputs = bases.0;
            for (input, view) in inputs.iter_mut().zip(&views[1..]) {
                if !repeats(view) {
                    *input = input.wrapping_add(start * block.input.size());
                }
            }
            let output = views[0].bytes().wrapping_add(start * block.output.size());
            // SAFETY: dense operands of the block's types, valid over the whole line, and buffers
            // of a block.
            unsafe { (block.run)(level, piece, inputs, output, scalars) };
        }
    });
    Ok(())
}

/// The cast between an operand and its block; none where it is of the block's type.
fn cast_of(block: &Block, at: usize, view: &View<'_>) -> Result<(Cast, bool)> {
    let wanted = if at == 0 { block.output } else { block.input };
    let (from, to) = if at == 0 { (wanted, view.dtype()) } else { (view.dtype(), wanted) };
    let is_one = view.sizes().iter().zip(view.strides()).all(|(&size, &stride)| size == 1 || stride == 0);
    let is_kept = block.keeps_number && at == 2 && is_one;
    match block.half {
        Some(half) if half != view.dtype() && wanted.is_float() && !is_kept => {
            Ok((Cast::rounded(from, half, to)?, false))
        }
        _ => Ok((Cast::new(from, to)?, from == to)),
    }
}

/// How each operand reaches a block, with its stride along the rows.
fn operands<const OPERANDS: usize>(
    block: &Block,
    views: [&View<'_>; OPERANDS],
    strides: [isize; OPERANDS],
) -> Result<[Operand; OPERANDS]> {
    let mut operands = [None; OPERANDS];
    for (at, view) in views.iter().enumerate() {
        let (cast, is_same) = cast_of(block, at, view)?;
        let dense_rows = is_same && strides[at] == 1;
        operands[at] = Some(Operand { data: view.bytes(), size: view.dtype().size(), dense_rows, cast });
    }
    Ok(operands.map(|operand| operand.expect("set above")))
}

/// A range of operands that lie in one order without gaps (`iterate::alike`), on this thread.
pub(super) fn linear<const OPERANDS: usize>(
    block: &Block,
    level: Level,
    scalars: &Scalars,
    views: [&View<'_>; OPERANDS],
    range: Range<usize>,
) -> Result<()> {
    let strides = [1; OPERANDS];
    let operands = operands(block, views, strides)?;
    let all_in_place = operands.iter().all(|operand| operand.dense_rows);
    let step = if all_in_place { range.len().max(1) } else { BLOCK };
    for start in range.clone().step_by(step) {
        let count = step.min(range.end - start);
        piece_of_row(block, level, &operands, scalars, strides, [start as isize; OPERANDS], count);
    }
    Ok(())
}

/// One op over views of one shape.
pub(super) fn run<const OPERANDS: usize>(block: &Block, scalars: &Scalars, views: [&View<'_>; OPERANDS]) -> Result<()> {
    let level = isa::level();
    let space = Space::of(views);
    if space.numel == 0 {
        return Ok(());
    }
    let inner = space.inner();
    let operands = operands(block, views, inner.strides)?;
    if space.dims.len() == 1 && operands.iter().all(|operand| operand.dense_rows) {
        run_dense(block, level, scalars, &views.map(|view| *view), space.numel);
        return Ok(());
    }
    // Rows long enough are cut into blocks one by one, so that dense rows are used in place;
    // short ones are gathered, many to a block.
    let long_rows = inner.size >= BLOCK / 2;
    threads::parallel_chunks(space.numel, TASK, space.numel, |range| {
        if long_rows {
            space.rows(range.start, range.end, |offsets, count| {
                let mut done = 0;
                while done < count {
                    let piece = BLOCK.min(count - done);
                    let offsets: [isize; OPERANDS] =
                        std::array::from_fn(|at| offsets[at] + done as isize * inner.strides[at]);
                    piece_of_row(block, level, &operands, scalars, inner.strides, offsets, piece);
                    done += piece;
                }
            });
        } else {
            let mut start = range.start;
            while start < range.end {
                let end = (start + BLOCK).min(range.end);
                gathered(block, level, &space, &operands, scalars, start..end);
                start = end;
            }
        }
    });
    Ok(())
}

/// Views that are dense along the whole iteration, and of the block's types: used in place.
fn run_dense(block: &Block, level: Level, scalars: &Scalars, views: &[View<'_>], count: usize) {
    let chunk = |range: Range<usize>| {
        let at = |view: &View<'_>| view.bytes().wrapping_add(range.start * view.dtype().size());
        let mut inputs = [std::ptr::null(); INPUTS];
        for (input, view) in inputs.iter_mut().zip(&views[1..]) {
            *input = at(view).cast_const();
        }
        // SAFETY: dense operands of the block's types, valid over the whole iteration.
        unsafe { (block.run)(level, range.len(), inputs, at(&views[0]), scalars) };
    };
    if count <= TASK { chunk(0..count) } else { threads::parallel_chunks(count, TASK, count, chunk) }
}

/// One piece of one row: dense rows in place, the others through a buffer.
fn piece_of_row<const OPERANDS: usize>(
    block: &Block,
    level: Level,
    operands: &[Operand; OPERANDS],
    scalars: &Scalars,
    strides: [isize; OPERANDS],
    offsets: [isize; OPERANDS],
    count: usize,
) {
    let mut buffers = [const { Buffer::new() }; OPERANDS];
    let mut inputs = [std::ptr::null(); INPUTS];
    let address = |at: usize| operands[at].data.wrapping_offset(offsets[at] * operands[at].size as isize);
    for at in 1..OPERANDS {
        inputs[at - 1] = if operands[at].dense_rows {
            address(at).cast_const()
        } else {
            let buffer: *mut u8 = buffers[at].0.as_mut_ptr().cast();
            // SAFETY: the row piece is within the view; the buffer holds a block.
            unsafe { (operands[at].cast.run)(level, count, address(at), strides[at], buffer, 1) };
            buffer.cast_const()
        };
    }
    let target = if operands[0].dense_rows { address(0) } else { buffers[0].0.as_mut_ptr().cast() };
    // SAFETY: every pointer is a dense row within its view, or a buffer of a block.
    unsafe { (block.run)(level, count, inputs, target, scalars) };
    if !operands[0].dense_rows {
        // SAFETY: the row piece is within the output's view.
        unsafe { (operands[0].cast.run)(level, count, target, 1, address(0), strides[0]) };
    }
}

/// A block that spans short rows: gathered, computed, scattered.
fn gathered<const OPERANDS: usize>(
    block: &Block,
    level: Level,
    space: &Space<OPERANDS>,
    operands: &[Operand; OPERANDS],
    scalars: &Scalars,
    range: Range<usize>,
) {
    let mut buffers = [const { Buffer::new() }; OPERANDS];
    let strides = space.inner().strides;
    let mut bases: [*mut u8; OPERANDS] = [std::ptr::null_mut(); OPERANDS];
    for (base, buffer) in bases.iter_mut().zip(&mut buffers) {
        *base = buffer.0.as_mut_ptr().cast();
    }
    let mut filled = 0;
    space.rows(range.start, range.end, |offsets, count| {
        for at in 1..OPERANDS {
            let operand = &operands[at];
            let from = operand.data.wrapping_offset(offsets[at] * operand.size as isize);
            let to = bases[at].wrapping_add(filled * block.input.size());
            // SAFETY: the row piece is within the view; `filled + count` is at most a block.
            unsafe { (operand.cast.run)(level, count, from, strides[at], to, 1) };
        }
        filled += count;
    });
    let mut inputs = [std::ptr::null(); INPUTS];
    for (input, base) in inputs.iter_mut().zip(&bases[1..]) {
        *input = base.cast_const();
    }
    // SAFETY: the buffers hold `filled` elements of the block's types.
    unsafe { (block.run)(level, filled, inputs, bases[0], scalars) };
    let mut drained = 0;
    space.rows(range.start, range.end, |offsets, count| {
        let operand = &operands[0];
        let from = bases[0].wrapping_add(drained * block.output.size());
        let to = operand.data.wrapping_offset(offsets[0] * operand.size as isize);
        // SAFETY: the row piece is within the output's view.
        unsafe { (operand.cast.run)(level, count, from, 1, to, strides[0]) };
        drained += count;
    });
}
