//! Constants: what gives the same value in every element, of numbers known at capture, is computed now;
//! the pointwise instructions that read it read the number, which a fused kernel keeps in a register.

use rustorch_kernels::ops::{self, Entry, Op, Row};
use rustorch_kernels::view::{Attrs, View};

use crate::program::{Buffer, Instruction, Kernel, Operand, Place, Program};

pub fn run(program: &mut Program) {
    let writes = program.writes();
    let readers = program.readers();
    for at in 0..program.instructions.len() {
        let Some(value) = value(program, &program.instructions[at]) else { continue };
        let filled = program.instructions[at].operands[0].clone();
        let Some(buffer) = filled.buffer.filter(|&buffer| writes[buffer] == [at]) else { continue };
        let range = filled.range();
        if range.len() != filled.numel() * filled.dtype.size() {
            continue;
        }
        let constant = program.buffers.len();
        program.buffers.push(Buffer { bytes: filled.dtype.size(), place: Place::Constant(value) });
        for &reader in readers[buffer].iter().filter(|&&reader| reader > at) {
            let instruction = &mut program.instructions[reader];
            if elementwise(instruction).is_none() {
                continue;
            }
            for operand in &mut instruction.operands[1..] {
                let reach = operand.range();
                let is_within = range.start <= reach.start && reach.end <= range.end;
                if operand.buffer == Some(buffer) && operand.dtype == filled.dtype && is_within {
                    let strides = vec![0; operand.sizes.len()].into();
                    *operand = Operand { buffer: Some(constant), offset: 0, strides, ..operand.clone() };
                }
            }
        }
    }
}

/// The row of an instruction whose first operand is its output, each element of which is made of the
/// same element of its inputs.
fn elementwise(instruction: &Instruction) -> Option<&'static Row> {
    let Kernel::Row(row) = instruction.kernel else { return None };
    let is_elementwise = matches!(row.entry, Entry::Pointwise(_)) || row.is(Op::copy) || row.is(Op::fill);
    (is_elementwise && !row.random && instruction.outputs() == 1).then_some(row)
}

/// What the instruction writes to every element, where all that it reads is constant: the row's own
/// kernel, run on one element. A launch that fails is left to fail when the program runs.
fn value(program: &Program, instruction: &Instruction) -> Option<Box<[u64]>> {
    let row = elementwise(instruction)?;
    let [output, inputs @ ..] = instruction.operands.as_slice() else { return None };
    let mut value = Box::new([0u64; 2]);
    // SAFETY: an element has at most 16 bytes.
    let mut views = vec![unsafe { View::new(value.as_mut_ptr().cast(), output.dtype, &[], &[]) }];
    for input in inputs {
        let Place::Constant(number) = &program.buffers[input.buffer?].place else { return None };
        // SAFETY: a constant's one element, which is read only.
        views.push(unsafe { View::new(number.as_ptr().cast::<u8>().cast_mut(), input.dtype, &[], &[]) });
    }
    ops::launch(row, &views, &Attrs { ints: &instruction.ints, floats: &instruction.floats }).ok()?;
    Some(value)
}
