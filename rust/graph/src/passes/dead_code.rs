//! Dead code: an instruction that only writes intermediates that nothing reads afterwards. One that writes
//! nothing is a check of values, and stays.

use crate::program::{Place, Program};

pub fn run(program: &mut Program) {
    // A buffer is wanted where a later instruction reads it; the caller's are always wanted.
    let mut wanted: Vec<bool> =
        program.buffers.iter().map(|buffer| matches!(buffer.place, Place::Input(_) | Place::Output(_))).collect();
    let mut keep = vec![false; program.instructions.len()];
    for (index, instruction) in program.instructions.iter().enumerate().rev() {
        let written = instruction.written();
        keep[index] =
            written.is_empty() || written.iter().filter_map(|operand| operand.buffer).any(|buffer| wanted[buffer]);
        if keep[index] {
            for buffer in instruction.operands.iter().filter_map(|operand| operand.buffer) {
                wanted[buffer] = true;
            }
        }
    }
    program.retain(|at| keep[at]);
    for (buffer, wanted) in program.buffers.iter_mut().zip(wanted) {
        if !wanted {
            buffer.place = Place::Dead;
        }
    }
}
