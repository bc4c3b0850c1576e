//! Pointwise instructions that were left alone and read one number along each row: machine code takes rows
//! together, where the row's own loop would be called for each of them.

use super::fuse;
use crate::program::{Instruction, Kernel, Operand, Program};

pub fn run(program: &mut Program) {
    for instruction in &mut program.instructions {
        if let Some(fused) = in_machine_code(instruction) {
            *instruction = fused;
        }
    }
}

fn in_machine_code(instruction: &Instruction) -> Option<Instruction> {
    if !matches!(instruction.kernel, Kernel::Row(_)) || !instruction.read().iter().any(is_spread) {
        return None;
    }
    let mut instruction = fuse::alone(instruction)?;
    let Kernel::Fused(fused) = &mut instruction.kernel else { return None };
    fused.prepare(&instruction.operands).ok()?;
    let has_rows = fused.ready().is_some_and(|ready| ready.takes_rows());
    has_rows.then_some(instruction)
}

/// Whether an operand's elements are the same along a row, but not all through.
fn is_spread(operand: &Operand) -> bool {
    operand.strides.last() == Some(&0) && operand.strides.iter().any(|&stride| stride != 0)
}
