//! From a group of instructions to one fused kernel.

use std::collections::HashMap;

use rustorch_kernels::dtype::DType;

use super::iteration::{Access, Sizes};
use super::member::{Expression, Member};
use crate::fused::{Fused, Step, ValueId};
use crate::program::{Instruction, Kernel, Operand};

#[derive(Default)]
struct Builder {
    values: Vec<DType>,
    steps: Vec<Step>,
    /// The newest value of a view.
    held: HashMap<Access, ValueId>,
    casts: HashMap<(ValueId, DType), ValueId>,
    loads: Vec<Access>,
    /// What was written, in order of the first write.
    written: Vec<Access>,
}

impl Builder {
    fn value(&mut self, dtype: DType) -> ValueId {
        self.values.push(dtype);
        self.values.len() - 1
    }

    fn read(&mut self, access: &Access) -> ValueId {
        if let Some(&value) = self.held.get(access) {
            return value;
        }
        let to = self.value(access.dtype);
        // The operand's number is known once the stores are.
        self.steps.push(Step::Load { operand: self.loads.len(), to });
        self.loads.push(access.clone());
        self.held.insert(access.clone(), to);
        to
    }

    fn cast(&mut self, from: ValueId, dtype: DType) -> ValueId {
        if self.values[from] == dtype {
            return from;
        }
        if let Some(&value) = self.casts.get(&(from, dtype)) {
            return value;
        }
        let to = self.value(dtype);
        self.steps.push(Step::Cast { from, to });
        self.casts.insert((from, dtype), to);
        to
    }

    fn add(&mut self, member: &Member, sizes: &Sizes) {
        let inputs: Vec<ValueId> =
            member.inputs.iter().map(|input| self.read(&input.over(&member.sizes, sizes))).collect();
        let made = match member.expression {
            Expression::Copy => inputs[0],
            Expression::Apply { row, compute, block, scalars } => {
                let is_one = |input: &Access| {
                    member.sizes.iter().zip(&input.strides).all(|(&size, &stride)| size == 1 || stride == 0)
                };
                let inputs = inputs.iter().enumerate().map(|(at, &input)| {
                    let is_kept = block.keeps_number && at == 1 && is_one(&member.inputs[at]);
                    let rounded = block.half.filter(|_| !is_kept).map_or(input, |half| self.cast(input, half));
                    self.cast(rounded, block.input)
                });
                let inputs = inputs.collect();
                let to = self.value(block.output);
                self.steps.push(Step::Apply { row, compute, scalars, inputs, to });
                block.half.filter(|_| block.output.is_float()).map_or(to, |half| self.cast(to, half))
            }
        };
        let output = member.output.over(&member.sizes, sizes);
        let value = self.cast(made, output.dtype);
        self.held.insert(output.clone(), value);
        if !self.written.contains(&output) {
            self.written.push(output);
        }
    }

    /// Drops the steps whose values nothing needs.
    fn prune(&mut self) {
        let mut wanted = vec![false; self.values.len()];
        let mut kept: Vec<Step> = Vec::with_capacity(self.steps.len());
        for step in self.steps.drain(..).rev() {
            if step.makes().is_none_or(|value| wanted[value]) {
                step.reads().iter().for_each(|&value| wanted[value] = true);
                kept.push(step);
            }
        }
        kept.reverse();
        self.steps = kept;
    }
}

/// The instruction that does what `members` do, over `sizes`; `is_wanted` tells whether something
/// else needs what a view holds at the end. None where nothing is needed.
pub fn build(
    members: &[&Member],
    instructions: &[&Instruction],
    sizes: &Sizes,
    is_wanted: impl Fn(&Access) -> bool,
) -> Option<Instruction> {
    let mut builder = Builder::default();
    for member in members {
        builder.add(member, sizes);
    }
    let stored: Vec<Access> = builder.written.iter().filter(|access| is_wanted(access)).cloned().collect();
    for (operand, access) in stored.iter().enumerate() {
        builder.steps.push(Step::Store { from: builder.held[access], operand });
    }
    builder.prune();
    // Operands: what is stored, then what is still loaded.
    let mut operands: Vec<Access> = stored;
    let outputs = operands.len();
    for step in &mut builder.steps {
        if let Step::Load { operand, .. } = step {
            operands.push(builder.loads[*operand].clone());
            *operand = operands.len() - 1;
        }
    }
    let operands: Vec<Operand> = operands
        .into_iter()
        .map(|access| Operand {
            present: true,
            buffer: Some(access.buffer),
            offset: access.offset,
            dtype: access.dtype,
            sizes: sizes.as_slice().into(),
            strides: access.strides.into(),
        })
        .collect();
    if outputs == 0 {
        return None;
    }
    let parts = instructions.iter().map(|instruction| (part(instruction), instruction.origin)).collect();
    let fused = Fused::new(builder.values, builder.steps, outputs, parts);
    Some(Instruction {
        kernel: Kernel::Fused(Box::new(fused)),
        operands,
        ints: Vec::new(),
        floats: Vec::new(),
        origin: instructions.last()?.origin,
    })
}

fn part(instruction: &Instruction) -> &'static str {
    match &instruction.kernel {
        Kernel::Row(row) => row.name,
        _ => "fused",
    }
}
