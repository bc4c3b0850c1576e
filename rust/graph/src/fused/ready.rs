//! A fused kernel laid out for its operands: where each value of a block is, and which loop makes it.

use rustorch_kernels::error::{Error, Result};
use rustorch_kernels::loops::copy::Cast;
use rustorch_kernels::ops::Entry;
use rustorch_kernels::ops::row::{Block, INPUTS, Scalars};
use smallvec::SmallVec;

use super::lanes::Lane;
use super::{Fused, Step, ValueId};
use crate::program::Operand;

/// Elements of a block: the values that are alive together stay in a small L1.
pub const BLOCK: usize = 512;
/// Shorter runs than this are gathered, many to a block, and not used in place.
pub const SHORT: usize = BLOCK / 2;
/// Bytes of a value's buffer; not a multiple of 4096, so that buffers do not compete for the same
/// cache sets.
pub const BUFFER: usize = BLOCK * 8 + 192;

/// Where a value's block is.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// A buffer of this number.
    Buffer(usize),
    /// In the operand's own memory, where the block is dense there; else in the buffer.
    Operand { operand: usize, buffer: usize },
    /// A buffer that holds the same value in every block: filled once a task.
    Uniform { operand: usize, buffer: usize },
}

pub enum Work {
    Apply {
        block: Block,
        inputs: SmallVec<[ValueId; INPUTS]>,
        to: ValueId,
        scalars: Scalars,
    },
    Cast {
        cast: Cast,
        from: ValueId,
        to: ValueId,
    },
    /// From a buffer to the operand's memory.
    Store {
        from: ValueId,
        operand: usize,
    },
}

/// See [`Fused::prepare`].
pub struct Ready {
    pub numel: usize,
    /// Blocks do not straddle multiples of it, so that rows are used in place.
    pub row: usize,
    pub lanes: Vec<Lane>,
    /// Moves of each operand's own dtype.
    pub moves: Vec<Cast>,
    /// The operands to gather where they are not dense, and into which buffer.
    pub loads: Vec<(usize, usize)>,
    pub uniforms: Vec<(usize, usize)>,
    pub places: Vec<Place>,
    pub work: Vec<Work>,
    pub buffers: usize,
}

impl Ready {
    pub fn new(fused: &Fused, operands: &[Operand]) -> Result<Self> {
        let first = operands.first().ok_or_else(|| Error::Runtime("a fused kernel without operands".into()))?;
        let lanes: Vec<Lane> =
            operands.iter().map(|operand| Lane::new(&operand.sizes, &operand.strides, operand.dtype.size())).collect();
        let moves =
            operands.iter().map(|operand| Cast::new(operand.dtype, operand.dtype)).collect::<Result<Vec<_>>>()?;
        let numel = first.numel();
        let row = lanes
            .iter()
            .filter(|lane| !lane.is_uniform())
            .map(Lane::dense_run)
            .filter(|&run| run >= SHORT)
            .min()
            .unwrap_or(numel);
        let mut layout = Layout::new(fused, operands, &lanes);
        let mut work = Vec::with_capacity(fused.steps.len());
        for (index, step) in fused.steps.iter().enumerate() {
            match step {
                Step::Load { operand, to } => layout.load(*operand, *to),
                Step::Apply { row, compute, scalars, inputs, to } => {
                    let Entry::Pointwise(expression) = row.entry else {
                        return Err(Error::Runtime(format!("{} is not pointwise", row.name)));
                    };
                    let Some(block) = expression.block(*compute) else { return Error::dtype(*compute) };
                    layout.make(*to);
                    work.push(Work::Apply { block, inputs: inputs.clone(), to: *to, scalars: *scalars });
                }
                Step::Cast { from, to } => {
                    layout.make(*to);
                    let cast = Cast::new(fused.values[*from], fused.values[*to])?;
                    work.push(Work::Cast { cast, from: *from, to: *to });
                }
                Step::Store { from, operand } => work.push(Work::Store { from: *from, operand: *operand }),
            }
            layout.release(step, index);
        }
        let Layout { loads, uniforms, places, buffers, .. } = layout;
        Ok(Self { numel, row, lanes, moves, loads, uniforms, places, work, buffers })
    }
}

/// Gives values buffers, by their lives.
struct Layout<'a> {
    lanes: &'a [Lane],
    /// Values that loads make: their buffers are theirs alone.
    is_loaded: Vec<bool>,
    /// The last step that reads a value.
    last: Vec<usize>,
    /// The operand that a value may be made in: its only store, and no load sees that memory.
    target: Vec<Option<usize>>,
    places: Vec<Place>,
    free: Vec<usize>,
    buffers: usize,
    loads: Vec<(usize, usize)>,
    uniforms: Vec<(usize, usize)>,
}

impl<'a> Layout<'a> {
    fn new(fused: &Fused, operands: &[Operand], lanes: &'a [Lane]) -> Self {
        let mut last = vec![0; fused.values.len()];
        let mut target = vec![None; fused.values.len()];
        for (index, step) in fused.steps.iter().enumerate() {
            for value in step.reads() {
                last[value] = index;
            }
            if let Step::Store { from, operand } = step {
                let buffer = operands[*operand].buffer;
                let is_loaded = operands[fused.outputs..].iter().any(|loaded| loaded.buffer == buffer);
                if !is_loaded && lanes[*operand].dense_run() >= SHORT.min(operands[*operand].numel()) {
                    target[*from] = Some(*operand);
                }
            }
        }
        let mut is_loaded = vec![false; fused.values.len()];
        for step in &fused.steps {
            if let Step::Load { to, .. } = step {
                is_loaded[*to] = true;
            }
        }
        Self {
            lanes,
            is_loaded,
            last,
            target,
            places: vec![Place::Buffer(0); fused.values.len()],
            free: Vec::new(),
            buffers: 0,
            loads: Vec::new(),
            uniforms: Vec::new(),
        }
    }

    fn buffer(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.buffers += 1;
            self.buffers - 1
        })
    }

    fn load(&mut self, operand: usize, to: ValueId) {
        // Loads are made before a block's steps, so theirs are buffers of their own.
        let buffer = self.buffers;
        self.buffers += 1;
        self.places[to] = if self.lanes[operand].is_uniform() {
            self.uniforms.push((operand, buffer));
            Place::Uniform { operand, buffer }
        } else {
            self.loads.push((operand, buffer));
            Place::Operand { operand, buffer }
        };
    }

    fn make(&mut self, to: ValueId) {
        let buffer = self.buffer();
        self.places[to] = match self.target[to] {
            Some(operand) => Place::Operand { operand, buffer },
            None => Place::Buffer(buffer),
        };
    }

    /// Frees the buffers of values that this step was the last to read.
    fn release(&mut self, step: &Step, index: usize) {
        let mut reads = step.reads();
        reads.sort_unstable();
        reads.dedup();
        for value in reads {
            if self.last[value] != index || self.is_loaded[value] {
                continue;
            }
            if let Place::Buffer(buffer) | Place::Operand { buffer, .. } = self.places[value] {
                self.free.push(buffer);
            }
        }
    }
}
