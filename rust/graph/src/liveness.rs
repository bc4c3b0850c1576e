//! When each buffer is first and last touched.

use crate::program::Program;

/// The first and last instruction that touch a buffer; None where none does.
pub fn intervals(program: &Program) -> Vec<Option<(usize, usize)>> {
    let mut intervals = vec![None; program.buffers.len()];
    for (index, instruction) in program.instructions.iter().enumerate() {
        for buffer in instruction.operands.iter().filter_map(|operand| operand.buffer) {
            let interval = intervals[buffer].get_or_insert((index, index));
            interval.1 = index;
        }
    }
    intervals
}
