//! What the compiler's tests share: captures over addresses that are never touched, and runs on
//! memory of the test's own.
#![allow(dead_code, reason = "each test file uses a part")]

use rustorch_graph::memory::Block;
use rustorch_graph::program::{Instruction, Place, Program};
use rustorch_graph::record;
use rustorch_graph::run::{Random, run};
use rustorch_kernels::dtype::DType;
use rustorch_kernels::error::Result;
use rustorch_kernels::view::View;

/// The address of a block of a capture: never read or written.
pub fn address(block: usize) -> usize {
    0x10_0000_0000 + block * 0x10_0000
}

/// A view of a block from its start.
pub fn view(block: usize, dtype: DType, sizes: &'static [i64], strides: &'static [i64]) -> View<'static> {
    // SAFETY: recording never touches the memory.
    unsafe { View::new(address(block) as *mut u8, dtype, sizes, strides) }
}

/// Announces `blocks` blocks of these bytes on a new capture.
pub fn begin(blocks: usize, bytes: usize) {
    record::begin().unwrap();
    for block in 0..blocks {
        record::block(address(block), bytes).unwrap();
    }
}

/// Ends the capture with the blocks that are its inputs and outputs.
pub fn finish(inputs: &[usize], outputs: &[usize]) -> Program {
    let addresses = |blocks: &[usize]| blocks.iter().map(|&block| address(block)).collect::<Vec<_>>();
    record::finish(&addresses(inputs), &addresses(outputs)).unwrap()
}

/// Runs a program; gives its outputs, of `count` elements each; what lies behind the last that is written
/// is zero.
pub fn execute<T: Copy + Default>(program: &Program, inputs: &[impl AsRef<[T]>], count: usize) -> Result<Vec<Vec<T>>> {
    let inputs: Vec<usize> = inputs.iter().map(|input| input.as_ref().as_ptr() as usize).collect();
    // SAFETY: the tests' inputs are as long as the program's.
    let results = unsafe { run(program, &inputs, &|_| (), Random::default()) }?;
    let result = |(number, block): (usize, &Option<Block>)| {
        let mut values = vec![T::default(); count];
        let block = block.as_ref().expect("a result with bytes");
        let written = program.instructions.iter().flat_map(Instruction::written);
        let is_this = |id: usize| program.buffers[id].place == Place::Output(number);
        let written = written.filter(|operand| operand.buffer.is_some_and(is_this));
        let end = written.map(|operand| operand.range().end).max().unwrap_or(0) / size_of::<T>();
        // SAFETY: the block holds at least the bytes that operands reach.
        unsafe { std::ptr::copy_nonoverlapping(block.address() as *const T, values.as_mut_ptr(), end.min(count)) };
        values
    };
    Ok(results.iter().enumerate().map(result).collect())
}

/// The kernels' names, in order.
pub fn names(program: &Program) -> Vec<String> {
    program.instructions.iter().map(|instruction| instruction.name()).collect()
}

/// What inputs and outputs of `count` elements of f32 hold after a run, where input number `input` begins with
/// `value(input, at)` at each place.
pub fn bits(program: &Program, count: usize, value: impl Fn(usize, usize) -> f32) -> Vec<u32> {
    let inputs: Vec<Vec<f32>> =
        (0..program.inputs).map(|input| (0..count).map(|at| value(input, at)).collect()).collect();
    let outputs: Vec<Vec<f32>> = execute(program, &inputs, count).unwrap();
    inputs.iter().chain(&outputs).flatten().map(|value| value.to_bits()).collect()
}
