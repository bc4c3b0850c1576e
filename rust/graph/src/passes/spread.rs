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
    let result = instruction.written().first()?;
    if !matches!(instruction.kernel, Kernel::Row(_))
        || !instruction.read().iter().any(|operand| is_spread(operand, result))
    {
        return None;
    }
    let mut instruction = fuse::alone(instruction)?;
    let Kernel::Fused(fused) = &mut instruction.kernel else { return None };
    fused.prepare(&instruction.operands).ok()?;
    let has_rows = fused.ready().is_some_and(|ready| ready.takes_rows());
    has_rows.then_some(instruction)
}

/// Whether an operand's elements are the same along a row, but not all through. A row is what lies side by side in
/// the result, whichever dimension that is.
fn is_spread(operand: &Operand, result: &Operand) -> bool {
    let inner = (0..result.sizes.len()).find(|&dim| result.strides[dim] == 1 && result.sizes[dim] != 1);
    inner.is_some_and(|dim| operand.strides.get(dim) == Some(&0)) && operand.strides.iter().any(|&stride| stride != 0)
}
