//! Reductions of pointwise results: the reduction computes the elements that it wants, block by block.
//! They reach memory only where something else reads them too. It folds them in the order in which it
//! would read them, so the bits stay.

use rustorch_kernels::finish::lies_dense;
use rustorch_kernels::ops::{Op, Row};
use rustorch_kernels::reduce::{self, Fold};

use super::dependencies::Dependencies;
use super::fuse;
use crate::fused::Direction;
use crate::program::{Instruction, Kernel, Operand, Place, Program, Reduced};

/// Reductions that may cast their elements to the result's dtype first.
const TOTALS: [Op; 5] = [Op::sum, Op::nansum, Op::mean, Op::prod, Op::norm];

pub fn run(program: &mut Program) {
    let (writes, readers) = (program.writes(), program.readers());
    let dependencies = Dependencies::of(program);
    let mut first_user = vec![usize::MAX; program.instructions.len()];
    for (at, needed) in dependencies.of.iter().enumerate().rev() {
        needed.iter().for_each(|&other| first_user[other] = at);
    }
    let mut dropped = vec![false; program.instructions.len()];
    for at in 0..program.instructions.len() {
        let Some(input) = reduced_input(&program.instructions[at]) else { continue };
        let Some(buffer) = input.buffer else { continue };
        let [producer] = writes[buffer][..] else { continue };
        if producer >= at || dropped[producer] {
            continue;
        }
        // One of the two moves: the producer down, if nothing in between waits for it, or the reduction
        // up, if it waits for nothing else.
        let (stays, goes) = match () {
            () if first_user[producer] == at => (at, producer),
            () if dependencies.of[at] == [producer] => (producer, at),
            () => continue,
        };
        let is_stored = readers[buffer] != [at] || !matches!(program.buffers[buffer].place, Place::Arena(_));
        if let Some(both) = join(&program.instructions[producer], &program.instructions[at], is_stored) {
            program.instructions[stays] = both;
            dropped[goes] = true;
        }
    }
    program.retain(|at| !dropped[at]);
}

fn row(instruction: &Instruction) -> Option<&'static Row> {
    match instruction.kernel {
        Kernel::Row(row) => Some(row),
        _ => None,
    }
}

/// How a reduction joins elements of f32, where machine code may do it.
fn fold(row: &Row) -> Option<Fold> {
    match () {
        () if row.is(Op::sum) || row.is(Op::mean) => Some(Fold::Add),
        () if row.is(Op::amax) => Some(Fold::Max),
        () if row.is(Op::amin) => Some(Fold::Min),
        () => None,
    }
}

/// Whether elements that lie side by side have one result, as far as that shows in the shapes.
fn direction(input: &Operand, results: &[Operand]) -> Direction {
    let is_inner = |dim: &usize| input.strides[*dim] == 1 && input.sizes[*dim] != 1;
    let kept = (0..input.sizes.len()).find(is_inner).zip(results.iter().find(|result| result.present));
    if kept.is_some_and(|(dim, result)| result.sizes[dim] != 1) { Direction::Across } else { Direction::Along }
}

/// What a reduction reads, where that may be computed instead.
pub fn reduced_input(instruction: &Instruction) -> Option<&Operand> {
    let row = row(instruction)?;
    reduce::row(row.name)?;
    let (input, outputs) = instruction.operands.split_last()?;
    let is_total = TOTALS.iter().any(|&op| row.is(op));
    let fits = !is_total || reduce::sums_directly(input.dtype, outputs.first()?.dtype);
    (fits && !input.dtype.is_complex() && is_dense(input)).then_some(input)
}

/// Whether a view's elements lie side by side, in whichever order of its dimensions.
pub fn is_dense(operand: &Operand) -> bool {
    lies_dense(&operand.sizes, &operand.strides)
}

/// The reduction of what the producer writes, if that is all that the reduction reads.
pub fn join(producer: &Instruction, reduction: &Instruction, is_stored: bool) -> Option<Instruction> {
    let mut producer = match producer.kernel {
        Kernel::Fused(_) => producer.clone(),
        // A copy into another order has a kernel of its own that is better at it.
        Kernel::Row(row) if !row.is(Op::copy) => fuse::alone(producer)?,
        _ => return None,
    };
    let Kernel::Fused(mut fused) = producer.kernel else { return None };
    let (input, results) = reduction.operands.split_last()?;
    let sink = producer.operands[..fused.outputs].iter().position(|operand| operand.buffer == input.buffer)?;
    let written = &mut producer.operands[sink];
    // In the order of its elements in memory, which the reduction counts by.
    let in_order = written.strides.is_sorted_by(|a, b| a >= b) && is_dense(written);
    if !in_order || written.offset != input.offset || written.dtype != input.dtype || written.range() != input.range() {
        return None;
    }
    if !is_stored {
        (written.buffer, written.offset) = (None, 0);
    }
    let touches = |result: &Operand| {
        result.buffer.is_some() && producer.operands.iter().any(|operand| operand.buffer == result.buffer)
    };
    if results.iter().any(touches) {
        return None;
    }
    match fold(row(reduction)?) {
        Some(fold) if !is_stored => fused.prepare_fold(&producer.operands, fold, direction(input, results)).ok()?,
        _ => fused.prepare(&producer.operands).ok()?,
    }
    let input = Operand { buffer: None, offset: 0, ..input.clone() };
    let row = row(reduction)?;
    let reduced = Reduced { row, launch: reduce::row(row.name)?, fused: *fused, input, sink };
    Some(Instruction {
        kernel: Kernel::Reduced(Box::new(reduced)),
        operands: results.iter().cloned().chain(producer.operands).collect(),
        ..reduction.clone()
    })
}
