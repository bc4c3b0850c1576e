//! What the compiler's tests share: captures over addresses that are never touched, and runs on
//! memory of the test's own.
#![allow(dead_code, reason = "each test file uses a part")]

use rustorch_graph::program::Program;
use rustorch_graph::record;
use rustorch_graph::run::{Memory, Random, run};
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

/// Runs a program; gives its outputs, of `count` elements each.
pub fn execute<T: Copy + Default>(program: &Program, inputs: &[impl AsRef<[T]>], count: usize) -> Result<Vec<Vec<T>>> {
    let mut outputs = vec![vec![T::default(); count]; program.outputs];
    let mut arena = vec![0u64; program.arena_bytes / 8 + 8];
    let memory = Memory {
        inputs: &inputs.iter().map(|input| input.as_ref().as_ptr() as usize).collect::<Vec<_>>(),
        outputs: &outputs.iter_mut().map(|output| output.as_mut_ptr() as usize).collect::<Vec<_>>(),
        arena: arena.as_mut_ptr().cast(),
    };
    // SAFETY: the tests' buffers are as long as the program's.
    unsafe { run(program, memory, Random::default()) }?;
    Ok(outputs)
}
