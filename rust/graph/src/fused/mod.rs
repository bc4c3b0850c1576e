//! Fused kernels: several pointwise instructions as one loop, whose intermediates never leave the
//! first-level cache.
//!
//! A [`Fused`] kernel is a list of steps over *values*, each a block of elements. The steps run the
//! rows' own block loops, or machine code of the same operations ([`jit`]), so a fused kernel gives
//! the bits that its parts give one by one: a value of a half type is rounded to it, as its tensor
//! would be.

mod execute;
mod jit;
mod lanes;
mod ready;
mod schedule;

use std::fmt::Write;
use std::sync::Arc;

use rustorch_kernels::dtype::DType;
use rustorch_kernels::error::Result;
use rustorch_kernels::ops::Row;
use rustorch_kernels::ops::row::{INPUTS, Scalars};
use rustorch_kernels::reduce::Fold;
use smallvec::SmallVec;

use crate::program::Operand;
pub use execute::{Bases, Computed};
pub use jit::Direction;
pub use ready::Ready;

/// An index into [`Fused::values`].
pub type ValueId = usize;

/// One step over a block.
#[derive(Clone)]
pub enum Step {
    /// Reads an operand; the value has its dtype.
    Load { operand: usize, to: ValueId },
    /// A row's expression. The inputs have the block's input type, the result its output type.
    Apply { row: &'static Row, compute: DType, scalars: Scalars, inputs: SmallVec<[ValueId; INPUTS]>, to: ValueId },
    /// To the dtype of `to`.
    Cast { from: ValueId, to: ValueId },
    /// Writes an operand of the value's dtype.
    Store { from: ValueId, operand: usize },
}

impl Step {
    pub fn reads(&self) -> SmallVec<[ValueId; INPUTS]> {
        match self {
            Self::Load { .. } => SmallVec::new(),
            Self::Apply { inputs, .. } => inputs.clone(),
            Self::Cast { from, .. } | Self::Store { from, .. } => SmallVec::from_slice(&[*from]),
        }
    }

    pub fn makes(&self) -> Option<ValueId> {
        match self {
            Self::Load { to, .. } | Self::Apply { to, .. } | Self::Cast { to, .. } => Some(*to),
            Self::Store { .. } => None,
        }
    }
}

/// A fused kernel. Its instruction's operands are the stored ones, then the loaded ones, all over
/// one iteration space.
#[derive(Clone)]
pub struct Fused {
    /// The dtype of each value.
    pub values: Vec<DType>,
    pub steps: Vec<Step>,
    pub outputs: usize,
    /// The names of the rows that it came from, in order.
    pub parts: Vec<&'static str>,
    /// The graph's nodes that they came from, in order and each once: indices into
    /// [`crate::program::Program::origins`].
    pub origins: Vec<usize>,
    ready: Option<Arc<Ready>>,
}

impl Fused {
    pub fn new(values: Vec<DType>, steps: Vec<Step>, outputs: usize, parts: Vec<(&'static str, usize)>) -> Self {
        let (parts, mut origins): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        origins.dedup();
        Self { values, steps, outputs, parts, origins, ready: None }
    }

    /// Operations on each element.
    pub fn operations(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step, Step::Apply { .. })).count()
    }

    /// Lays out what a run needs, for operands of these shapes.
    pub fn prepare(&mut self, operands: &[Operand]) -> Result<()> {
        self.ready = Some(Arc::new(Ready::new(self, operands)?));
        Ok(())
    }

    /// As [`Fused::prepare`], for a reduction that folds the one stored operand.
    pub fn prepare_fold(&mut self, operands: &[Operand], fold: Fold, direction: Direction) -> Result<()> {
        self.ready = Some(Arc::new(Ready::new(self, operands)?.with_fold(self, fold, direction)));
        Ok(())
    }

    /// What [`Fused::prepare`] has laid out.
    pub fn ready(&self) -> Option<&Ready> {
        self.ready.as_deref()
    }

    /// The steps as text: `v2 = add(v0, v1); ..`
    pub fn text(&self) -> String {
        let mut text = String::new();
        for step in &self.steps {
            let separator = if text.is_empty() { "" } else { "; " };
            text.push_str(separator);
            let _ = match step {
                Step::Load { operand, to } => write!(text, "v{to} = operand {operand}"),
                Step::Store { from, operand } => write!(text, "operand {operand} = v{from}"),
                Step::Cast { from, to } => write!(text, "v{to} = {}(v{from})", self.values[*to]),
                Step::Apply { row, inputs, to, scalars, .. } => {
                    let inputs: Vec<String> = inputs.iter().map(|input| format!("v{input}")).collect();
                    let _ = write!(text, "v{to} = {}({})", row.name, inputs.join(", "));
                    if scalars.floats.iter().any(|&value| value != 0.0) {
                        let used = scalars.floats.iter().rposition(|&value| value != 0.0).map_or(0, |last| last + 1);
                        write!(text, " {:?}", &scalars.floats[..used])
                    } else {
                        Ok(())
                    }
                }
            };
        }
        text
    }
}
