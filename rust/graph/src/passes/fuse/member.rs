//! What the fusion pass knows of one instruction.

use rustorch_kernels::dtype::DType;
use rustorch_kernels::loops::pointwise;
use rustorch_kernels::ops::row::{Block, Scalars, block_over};
use rustorch_kernels::ops::{Entry, Op, Row};
use rustorch_kernels::view::Attrs;

use super::iteration::{self, Access, Sizes};
use crate::program::{BufferId, Instruction, Kernel};

/// What a member computes, element by element.
#[derive(Clone, Copy)]
pub enum Expression {
    Apply {
        row: &'static Row,
        compute: DType,
        block: Block,
        scalars: Scalars,
    },
    /// A copy, or a cast.
    Copy,
}

/// An instruction that can be a part of a fused kernel.
#[derive(Clone)]
pub struct Member {
    pub expression: Expression,
    pub sizes: Sizes,
    pub output: Access,
    pub inputs: Vec<Access>,
}

impl Member {
    /// None where the instruction is not pointwise, or cannot run block by block: an integer
    /// division looks at all of its divisor first.
    pub fn of(instruction: &Instruction) -> Option<Self> {
        let Kernel::Row(row) = instruction.kernel else { return None };
        let [output, inputs @ ..] = instruction.operands.as_slice() else { return None };
        if !output.present || output.buffer.is_none() || inputs.iter().any(|input| input.sizes != output.sizes) {
            return None;
        }
        let expression = match row.entry {
            Entry::Pointwise(expression) => {
                let attrs = Attrs { ints: &instruction.ints, floats: &instruction.floats };
                let (compute, scalars) = pointwise::arguments(&attrs).ok()?;
                let block = block_over(expression, compute)?;
                let compute = compute.compute();
                if block.arity != inputs.len() || (expression.divides() && !compute.is_float()) {
                    return None;
                }
                Expression::Apply { row, compute, block, scalars }
            }
            Entry::Kernel(_) if row.is(Op::copy) => {
                let convertible = |dtype: DType| !dtype.is_complex();
                if inputs.len() != 1 || !convertible(inputs[0].dtype) || !convertible(output.dtype) {
                    return None;
                }
                Expression::Copy
            }
            Entry::Kernel(_) => return None,
        };
        let order = iteration::order(output)?;
        Some(Self {
            expression,
            sizes: order.iter().map(|&dim| output.sizes[dim]).collect(),
            output: iteration::access(output, &order)?,
            inputs: inputs.iter().map(|input| iteration::access(input, &order)).collect::<Option<_>>()?,
        })
    }

    /// Whether it reads all of a buffer's elements in the order in which it writes, and both are side by side.
    pub fn reads_in_order(&self, buffer: BufferId) -> bool {
        let strides = iteration::expand(&[self.sizes.iter().product()], &[1], &self.sizes);
        self.output.strides == strides
            && self.inputs.iter().any(|input| input.buffer == buffer && input.strides == strides)
    }
}
