//! Epilogues: a product or convolution runs the pointwise kernel that reads its result, part by part, while
//! that is in the cache. The result itself is stored where something else reads it too; else it lies where
//! the kernel's own result will.

use rustorch_kernels::finish;
use rustorch_kernels::index::contiguous_strides;

use super::dependencies::Dependencies;
use super::fuse;
use super::reductions::is_dense;
use crate::program::{Epilogue, Instruction, Kernel, Operand, Place, Program};

pub fn run(program: &mut Program) {
    let (writes, readers) = (program.writes(), program.readers());
    let dependencies = Dependencies::of(program);
    let mut users = vec![Vec::new(); program.instructions.len()];
    for (at, needed) in dependencies.of.iter().enumerate() {
        needed.iter().for_each(|&other| users[other].push(at));
    }
    // Where each instruction runs: joined ones have moved.
    let mut place: Vec<usize> = (0..program.instructions.len()).collect();
    for at in 0..program.instructions.len() {
        let tells = |&other: &usize| matches!(program.instructions[other].kernel, Kernel::Row(row) if finish::row(row).is_some());
        let read = program.instructions[at].read().iter().filter_map(|operand| operand.buffer);
        let written_once = read.filter_map(|buffer| match writes[buffer][..] {
            [writer] if writer < at => Some(writer),
            _ => None,
        });
        let mut products: Vec<usize> = written_once.filter(tells).collect();
        // The last one, before which the others are done.
        products.sort_unstable();
        let Some(product) = products.pop().filter(|&product| place[product] == product) else { continue };
        // One of the two moves: the kernel up, if all else that it waits for runs before the product, or the
        // product down, if nothing in between waits for it.
        let is_ready = |&needed: &usize| needed == product || place[needed] < product;
        let (stays, goes) = match () {
            () if dependencies.of[at].iter().all(is_ready) => (product, at),
            () if users[product].iter().all(|&user| user == at || place[user] > at) => (at, product),
            () => continue,
        };
        let Some(buffer) = program.instructions[product].operands[0].buffer else { continue };
        let is_kept = readers[buffer] != [at] || !matches!(program.buffers[buffer].place, Place::Arena(_));
        if let Some(both) = join(&program.instructions[product], &program.instructions[at], is_kept) {
            program.instructions[stays] = both;
            place[goes] = stays;
        }
    }
    program.retain(|at| place[at] == at);
}

/// The product with the kernel of its result, if that reads it in the order of its memory and writes nothing that
/// the product touches.
fn join(product: &Instruction, kernel: &Instruction, is_kept: bool) -> Option<Instruction> {
    let Kernel::Row(row) = product.kernel else { return None };
    let launch = finish::row(row)?;
    let kernel = match kernel.kernel {
        Kernel::Fused(_) => kernel.clone(),
        Kernel::Row(_) => fuse::alone(kernel)?,
        _ => return None,
    };
    let Kernel::Fused(fused) = kernel.kernel else { return None };
    let (result, inputs) = product.operands.split_first()?;
    let (stored, loaded) = kernel.operands.split_at(fused.outputs);
    let mut sinks = (0..loaded.len()).filter(|&at| loaded[at].buffer == result.buffer);
    let (Some(sink), None) = (sinks.next(), sinks.next()) else { return None };
    let read = &loaded[sink];
    let is_whole = read.range() == result.range() && read.dtype == result.dtype && read.numel() == result.numel();
    if !is_whole || !is_dense(result) || !in_order(read) {
        return None;
    }
    let touches = |operand: &Operand| product.operands.iter().any(|touched| touched.buffer == operand.buffer);
    if stored.iter().any(touches) {
        return None;
    }
    // Where the kernel's result will be, if nothing reads what is there and the kernel gets by without more memory.
    let is_free = |stored: &&Operand| {
        let uses = kernel.operands.iter().filter(|operand| operand.buffer == stored.buffer).count();
        stored.dtype == result.dtype && in_order(stored) && uses == 1
    };
    let mut result = result.clone();
    if let Some(stored) = stored.iter().find(is_free).filter(|_| !is_kept) {
        (result.buffer, result.offset) = (stored.buffer, stored.offset);
    }
    let others = loaded.iter().enumerate().filter(|(at, _)| *at != sink).map(|(_, operand)| operand);
    let operands: Vec<Operand> = std::iter::once(&result).chain(stored).chain(inputs).chain(others).cloned().collect();
    let (sink, inputs) = (fused.outputs + sink, inputs.len());
    let mut epilogue = Epilogue { row, launch, fused: *fused, sink, inputs, is_kept };
    epilogue.prepare(&operands).ok()?;
    Some(Instruction { kernel: Kernel::Epilogue(Box::new(epilogue)), operands, ..product.clone() })
}

/// Whether a view's elements lie side by side, in the order of its dimensions.
fn in_order(operand: &Operand) -> bool {
    let strides = operand.sizes.iter().zip(&operand.strides).zip(contiguous_strides(&operand.sizes));
    strides.into_iter().all(|((&size, &stride), expected)| size == 1 || stride == expected)
}
