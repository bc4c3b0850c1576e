//! The intermediate representation: instructions, in order, over buffers. A view is an operand's
//! offset, sizes and strides over a buffer, so aliases and mutation are explicit: two operands
//! alias where they reach the same bytes of the same buffer.

use std::fmt::Write;
use std::sync::{Arc, OnceLock};

use rustorch_kernels::dtype::DType;
use rustorch_kernels::finish;
use rustorch_kernels::ops::Row;
use rustorch_kernels::reduce::Launch;
use rustorch_kernels::view::Attrs;

use crate::fused::Fused;
use crate::plan::Held;
use crate::tiled::Tiled;

/// An index into [`Program::buffers`].
pub type BufferId = usize;

/// Where a buffer's bytes are when the program runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The caller's storage of this number.
    Input(usize),
    /// Storage of this number that is allocated for a result.
    Output(usize),
    /// An intermediate in the arena, from this byte; `plan` decides it.
    Arena(usize),
    /// An intermediate in a block of its own.
    Block,
    /// Bytes that were known when the graph was captured (a wrapped number).
    Constant(Box<[u64]>),
    /// Not used any more.
    Dead,
}

#[derive(Clone, Debug)]
pub struct Buffer {
    pub bytes: usize,
    pub place: Place,
}

/// A strided view of a buffer. An absent operand has no buffer and is not `present`; an empty
/// tensor's operand has no buffer and is, and so is what a reduction computes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Operand {
    pub present: bool,
    pub buffer: Option<BufferId>,
    /// In bytes, from the buffer's start.
    pub offset: usize,
    pub dtype: DType,
    pub sizes: Box<[i64]>,
    pub strides: Box<[i64]>,
}

impl Operand {
    pub fn numel(&self) -> usize {
        self.sizes.iter().product::<i64>() as usize
    }

    /// Whether its elements are never in memory.
    pub fn is_computed(&self) -> bool {
        self.present && self.buffer.is_none() && self.numel() != 0
    }

    /// The bytes that the view reaches, as a range of the buffer; None where sizes or strides are
    /// negative or too large.
    pub fn extent(offset: usize, dtype: DType, sizes: &[i64], strides: &[i64]) -> Option<std::ops::Range<usize>> {
        let mut last: i64 = 0;
        for (&size, &stride) in sizes.iter().zip(strides) {
            if size == 0 {
                return Some(offset..offset);
            }
            if size < 0 || stride < 0 {
                return None;
            }
            last = last.checked_add((size - 1).checked_mul(stride)?)?;
        }
        let bytes = (last as usize).checked_add(1)?.checked_mul(dtype.size())?;
        Some(offset..offset.checked_add(bytes)?)
    }

    pub fn range(&self) -> std::ops::Range<usize> {
        // Recording has checked it.
        Self::extent(self.offset, self.dtype, &self.sizes, &self.strides).unwrap_or(self.offset..self.offset)
    }
}

/// What an instruction runs.
#[derive(Clone)]
pub enum Kernel {
    /// One launch of a row.
    Row(&'static Row),
    /// Several pointwise rows in one loop.
    Fused(Box<Fused>),
    /// A reduction of what such a loop computes.
    Reduced(Box<Reduced>),
    /// A product or convolution, and what is computed of its result.
    Epilogue(Box<Epilogue>),
    /// Instructions that run some rows at a time.
    Tiled(Box<Tiled>),
}

/// A reduction that computes its elements. Its instruction's operands are the row's results, then the
/// fused kernel's operands.
#[derive(Clone)]
pub struct Reduced {
    pub row: &'static Row,
    pub fused: Fused,
    /// The row, with something else than memory to read.
    pub launch: Launch,
    /// What the row reads: the sizes and strides of the sink's elements.
    pub input: Operand,
    /// The fused kernel's stored operand that the row reads. It has no buffer where nothing else does.
    pub sink: usize,
}

/// A product or convolution with a fused kernel that reads its result. Its instruction's operands are the row's
/// result, what the fused kernel stores, what the row reads, and what the fused kernel loads but the result.
#[derive(Clone)]
pub struct Epilogue {
    pub row: &'static Row,
    /// The row, with someone to tell.
    pub launch: finish::Launch,
    pub fused: Fused,
    /// The fused kernel's operand that is the result.
    pub sink: usize,
    /// How many operands the row reads.
    pub inputs: usize,
    /// Whether something else reads the result. Where nothing does, it may lie in what the fused kernel stores.
    pub is_kept: bool,
}

/// One step of a program.
#[derive(Clone)]
pub struct Instruction {
    pub kernel: Kernel,
    pub operands: Vec<Operand>,
    pub ints: Vec<i64>,
    pub floats: Vec<f64>,
    /// The graph's node that it came from: an index into [`Program::origins`].
    pub origin: usize,
}

impl Instruction {
    pub fn attrs(&self) -> Attrs<'_> {
        Attrs { ints: &self.ints, floats: &self.floats }
    }

    /// How many of the first operands it writes.
    pub fn outputs(&self) -> usize {
        match &self.kernel {
            Kernel::Row(row) => self.row_outputs(row),
            Kernel::Fused(fused) => fused.outputs,
            Kernel::Reduced(reduced) => self.row_outputs(reduced.row) + reduced.fused.outputs,
            Kernel::Epilogue(epilogue) => 1 + epilogue.fused.outputs,
            Kernel::Tiled(tiled) => tiled.outputs,
        }
    }

    fn row_outputs(&self, row: &Row) -> usize {
        row.outputs.count(&self.attrs()).unwrap_or(0)
    }

    /// The graph's nodes that it came from.
    fn origins(&self) -> Vec<usize> {
        let mut origins = match &self.kernel {
            Kernel::Row(_) => vec![self.origin],
            Kernel::Fused(fused) => fused.origins.clone(),
            Kernel::Reduced(reduced) => [&reduced.fused.origins, &[self.origin][..]].concat(),
            Kernel::Epilogue(epilogue) => [&[self.origin][..], &epilogue.fused.origins].concat(),
            Kernel::Tiled(tiled) => tiled.parts.iter().flat_map(|part| part.instruction.origins()).collect(),
        };
        origins.dedup();
        origins
    }

    /// Gives buffers other numbers: each that at its index.
    pub fn rename(&mut self, numbers: &[BufferId]) {
        for buffer in self.operands.iter_mut().filter_map(|operand| operand.buffer.as_mut()) {
            *buffer = numbers[*buffer];
        }
        if let Kernel::Tiled(tiled) = &mut self.kernel {
            tiled.parts.iter_mut().for_each(|part| part.instruction.rename(numbers));
            tiled.locals.iter_mut().for_each(|local| local.buffer = numbers[local.buffer]);
        }
    }

    /// The names of the rows that it is made of.
    fn parts(&self) -> Vec<&'static str> {
        match &self.kernel {
            Kernel::Row(row) => vec![row.name],
            Kernel::Fused(fused) => fused.parts.clone(),
            Kernel::Reduced(reduced) => [&reduced.fused.parts, &[reduced.row.name][..]].concat(),
            Kernel::Epilogue(epilogue) => [&[epilogue.row.name][..], &epilogue.fused.parts].concat(),
            Kernel::Tiled(tiled) => tiled.parts.iter().flat_map(|part| part.instruction.parts()).collect(),
        }
    }

    /// The kernel's name: a row's, or those of a fused kernel's parts.
    pub fn name(&self) -> String {
        match &self.kernel {
            Kernel::Row(row) => row.name.to_string(),
            _ => format!("fused[{}]", self.parts().join("+")),
        }
    }

    pub fn read(&self) -> &[Operand] {
        &self.operands[self.outputs().min(self.operands.len())..]
    }

    pub fn written(&self) -> &[Operand] {
        &self.operands[..self.outputs()]
    }

    /// The operands whose elements it moves between memory and the cores.
    pub fn moved(&self) -> &[Operand] {
        match &self.kernel {
            // The result is read where it was left.
            Kernel::Epilogue(epilogue) if !epilogue.is_kept => self.operands.get(1..).unwrap_or_default(),
            _ => &self.operands,
        }
    }

    fn text(&self) -> String {
        let operands: Vec<String> = self.operands.iter().map(operand_text).collect();
        let (written, read) = operands.split_at(self.outputs().min(operands.len()));
        let mut text = format!("{} = {}({})", written.join(", "), self.name(), read.join(", "));
        if !self.ints.is_empty() {
            let _ = write!(text, " ints {:?}", self.ints);
        }
        if !self.floats.is_empty() {
            let _ = write!(text, " floats {:?}", self.floats);
        }
        let _ = match &self.kernel {
            Kernel::Row(_) => Ok(()),
            Kernel::Fused(fused) => write!(text, " {{ {} }}", fused.text()),
            Kernel::Reduced(reduced) => {
                let Reduced { row, fused, sink, .. } = reduced.as_ref();
                write!(text, " {{ {}; {} of operand {sink} }}", fused.text(), row.name)
            }
            Kernel::Epilogue(epilogue) => {
                let Epilogue { row, fused, sink, .. } = epilogue.as_ref();
                write!(text, " {{ operand {sink} = {}; {} }}", row.name, fused.text())
            }
            Kernel::Tiled(tiled) => {
                let parts: Vec<String> =
                    tiled.parts.iter().map(|part| format!("\n    {}", part.instruction.text())).collect();
                write!(text, " {{ {} of {} rows at a time:{}\n}}", tiled.tile, tiled.rows, parts.concat())
            }
        };
        text
    }
}

/// A graph, ready to run.
#[derive(Clone, Default)]
pub struct Program {
    pub buffers: Vec<Buffer>,
    pub instructions: Vec<Instruction>,
    pub origins: Vec<String>,
    /// See [`Program::source`].
    sources: OnceLock<Vec<Arc<str>>>,
    pub inputs: usize,
    pub outputs: usize,
    pub arena_bytes: usize,
    /// What a run takes and gives back, by instruction.
    pub held: Vec<Held>,
    /// The most that a run holds at once of intermediates, and of them and results.
    pub intermediate_bytes: usize,
    pub peak_bytes: usize,
    /// Counters of the generator that one run draws.
    pub random_counters: u64,
}

impl Program {
    /// The labels of the nodes that an instruction came from, by its number: for a profile of the
    /// finished program.
    pub fn source(&self, instruction: usize) -> Option<Arc<str>> {
        let sources = self.sources.get_or_init(|| {
            let label = |&origin: &usize| self.origins.get(origin).map_or("", String::as_str);
            self.instructions
                .iter()
                .map(|instruction| instruction.origins().iter().map(label).collect::<Vec<_>>().join("; ").into())
                .collect()
        });
        sources.get(instruction).cloned()
    }

    /// The inputs that some instruction writes.
    pub fn written_inputs(&self) -> Vec<usize> {
        let mut written: Vec<usize> = self
            .instructions
            .iter()
            .flat_map(Instruction::written)
            .filter_map(|operand| operand.buffer)
            .filter_map(|buffer| match self.buffers[buffer].place {
                Place::Input(number) => Some(number),
                _ => None,
            })
            .collect();
        written.sort_unstable();
        written.dedup();
        written
    }

    /// Keeps the instructions whose numbers `keep` wants.
    pub fn retain(&mut self, keep: impl Fn(usize) -> bool) {
        let mut numbers = 0..;
        self.instructions.retain(|_| numbers.next().is_none_or(&keep));
    }

    /// The instructions that write each buffer, one entry a written operand.
    pub fn writes(&self) -> Vec<Vec<usize>> {
        self.touching(Instruction::written)
    }

    /// The instructions that read each buffer.
    pub fn readers(&self) -> Vec<Vec<usize>> {
        self.touching(Instruction::read)
    }

    fn touching(&self, operands: impl Fn(&Instruction) -> &[Operand]) -> Vec<Vec<usize>> {
        let mut touching = vec![Vec::new(); self.buffers.len()];
        for (at, instruction) in self.instructions.iter().enumerate() {
            for buffer in operands(instruction).iter().filter_map(|operand| operand.buffer) {
                touching[buffer].push(at);
            }
        }
        touching
    }

    /// The program as text, for snapshots and for reading: one line a buffer, one an instruction.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (id, buffer) in self.buffers.iter().enumerate() {
            let place = match &buffer.place {
                Place::Input(number) => format!("input {number}"),
                Place::Output(number) => format!("output {number}"),
                Place::Arena(offset) => format!("arena {offset}"),
                Place::Block => "block".to_string(),
                Place::Constant(_) => "constant".to_string(),
                Place::Dead => continue,
            };
            let _ = writeln!(text, "b{id}: {} bytes, {place}", buffer.bytes);
        }
        for instruction in &self.instructions {
            text.push_str(&instruction.text());
            text.push('\n');
        }
        let _ = writeln!(text, "arena: {} bytes", self.arena_bytes);
        text
    }
}

fn operand_text(operand: &Operand) -> String {
    if !operand.present {
        return "none".to_string();
    }
    let Some(buffer) = operand.buffer else {
        let what = if operand.is_computed() { "computed" } else { "empty" };
        return format!("{what}:{}{:?}", operand.dtype, operand.sizes);
    };
    let mut text = format!("b{buffer}");
    if operand.offset != 0 {
        let _ = write!(text, "+{}", operand.offset);
    }
    let _ = write!(text, ":{}{:?}/{:?}", operand.dtype, operand.sizes, operand.strides);
    text
}
