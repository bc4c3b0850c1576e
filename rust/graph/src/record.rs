//! Capture: what the eager door would launch is written down instead of run.
//!
//! The shim runs a graph's nodes on tensors whose memory is only an address. Each block of such
//! memory is announced here, so an operand's address says which buffer it views. Nothing is read
//! or written, save a wrapped number's value, which becomes a constant.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use rustorch_kernels::error::{Error, Result};
use rustorch_kernels::ops::{self, Row};
use rustorch_kernels::view::{Attrs, View};

use crate::program::{Buffer, BufferId, Instruction, Kernel, Operand, Place, Program};

#[derive(Default)]
struct Recorder {
    program: Program,
    /// Blocks by their first address.
    blocks: BTreeMap<usize, BufferId>,
}

thread_local! {
    static RECORDER: RefCell<Option<Recorder>> = const { RefCell::new(None) };
    /// Whether there is one: a plain flag.
    static ACTIVE: Cell<bool> = const { Cell::new(false) };
}

/// How many threads capture. Every launch asks: mostly none does, and then its own flag, which costs
/// more, is not looked up.
static CAPTURES: AtomicUsize = AtomicUsize::new(0);

/// Whether this thread is capturing.
#[inline]
pub fn active() -> bool {
    CAPTURES.load(Relaxed) != 0 && ACTIVE.get()
}

/// Begins a capture on this thread.
pub fn begin() -> Result<()> {
    RECORDER.with_borrow_mut(|recorder| {
        if recorder.is_some() {
            return Err(Error::Runtime("a graph is being captured on this thread already".into()));
        }
        *recorder = Some(Recorder::default());
        ACTIVE.set(true);
        CAPTURES.fetch_add(1, Relaxed);
        Ok(())
    })
}

/// Ends the capture, whatever came of it.
pub fn abandon() {
    take();
}

fn take() -> Option<Recorder> {
    if ACTIVE.replace(false) {
        CAPTURES.fetch_sub(1, Relaxed);
    }
    RECORDER.take()
}

fn with<R>(body: impl FnOnce(&mut Recorder) -> Result<R>) -> Result<R> {
    RECORDER.with_borrow_mut(|recorder| match recorder {
        Some(recorder) => body(recorder),
        None => Err(Error::Runtime("no graph is being captured on this thread".into())),
    })
}

/// Announces a block of the capture's memory.
pub fn block(address: usize, bytes: usize) -> Result<()> {
    with(|recorder| {
        let id = recorder.program.buffers.len();
        recorder.program.buffers.push(Buffer { bytes, place: Place::Arena(0) });
        recorder.blocks.insert(address, id);
        Ok(())
    })
}

/// Names the graph's node that the next launches come from.
pub fn origin(label: &str) -> Result<()> {
    with(|recorder| {
        recorder.program.origins.push(label.to_string());
        Ok(())
    })
}

/// How many instructions there are: to roll back to, and to see whether a node launched any.
pub fn mark() -> Result<usize> {
    with(|recorder| Ok(recorder.program.instructions.len()))
}

/// Forgets the instructions after `mark`: their node runs by the eager door.
pub fn rollback(mark: usize) -> Result<()> {
    with(|recorder| {
        recorder.program.instructions.truncate(mark);
        Ok(())
    })
}

/// The offset of a random op: the counters that the capture drew before it.
pub fn random(counters: u64) -> Result<u64> {
    with(|recorder| {
        let before = recorder.program.random_counters;
        recorder.program.random_counters += counters;
        Ok(before)
    })
}

/// Checks a launch, and writes it down.
pub fn launch(row: &'static Row, views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    if let Some((row, views)) = ops::simpler_power(row, views, attrs) {
        return launch(row, &views, attrs);
    }
    ops::check(row, views, attrs)?;
    with(|recorder| {
        let operands = views.iter().map(|view| recorder.operand(view)).collect::<Result<Vec<_>>>()?;
        let instruction = Instruction {
            kernel: Kernel::Row(row),
            operands,
            ints: attrs.ints.to_vec(),
            floats: attrs.floats.to_vec(),
            origin: recorder.program.origins.len().saturating_sub(1),
        };
        for written in instruction.written() {
            if written.buffer.is_some_and(|id| matches!(recorder.program.buffers[id].place, Place::Constant(_))) {
                return Err(Error::Runtime(format!("{} would write to memory outside of the graph", row.name)));
            }
        }
        recorder.program.instructions.push(instruction);
        Ok(())
    })
}

impl Recorder {
    fn operand(&mut self, view: &View<'_>) -> Result<Operand> {
        let mut operand = Operand {
            present: view.is_present(),
            buffer: None,
            offset: 0,
            dtype: view.dtype(),
            sizes: view.sizes().into(),
            strides: view.strides().into(),
        };
        if !view.is_present() || view.numel() == 0 {
            return Ok(operand);
        }
        let address = view.bytes() as usize;
        if let Some((&start, &id)) = self.blocks.range(..=address).next_back()
            && address < start + self.program.buffers[id].bytes
        {
            operand.buffer = Some(id);
            operand.offset = address - start;
            let reach = Operand::extent(operand.offset, operand.dtype, &operand.sizes, &operand.strides);
            return match reach {
                Some(range) if range.end <= self.program.buffers[id].bytes => Ok(operand),
                _ => Err(Error::Runtime(format!("{view:?} reaches beyond its storage"))),
            };
        }
        operand.buffer = Some(self.constant(view)?);
        Ok(operand)
    }

    /// The value of a wrapped number. It keeps the view's strides, which all read one element.
    fn constant(&mut self, view: &View<'_>) -> Result<BufferId> {
        let one = view.sizes().iter().zip(view.strides()).all(|(&size, &stride)| size == 1 || stride == 0);
        if !one {
            return Err(Error::Runtime(format!("{view:?} is outside of the graph that is being captured")));
        }
        let mut value = [0u64; 2];
        // SAFETY: the view is valid memory outside of the capture, with one element of at most 16 bytes.
        unsafe { std::ptr::copy_nonoverlapping(view.bytes(), value.as_mut_ptr().cast(), view.dtype().size()) };
        self.program.buffers.push(Buffer { bytes: view.dtype().size(), place: Place::Constant(Box::new(value)) });
        Ok(self.program.buffers.len() - 1)
    }
}

/// Ends the capture: `inputs` and `outputs` are the first addresses of the blocks that hold them.
/// A block that is both an input and an output stays an input.
pub fn finish(inputs: &[usize], outputs: &[usize]) -> Result<Program> {
    let recorder = take().ok_or_else(|| Error::Runtime("no graph is being captured on this thread".into()))?;
    let mut program = recorder.program;
    let mut number = |addresses: &[usize], place: fn(usize) -> Place| -> Result<()> {
        for (index, address) in addresses.iter().enumerate() {
            // Storage without bytes has no address, and no operand views it.
            if *address == 0 {
                continue;
            }
            let id = recorder.blocks.get(address);
            let id = *id.ok_or_else(|| Error::Runtime("an input or output is no block of the capture".into()))?;
            if matches!(program.buffers[id].place, Place::Arena(_)) {
                program.buffers[id].place = place(index);
            }
        }
        Ok(())
    };
    number(inputs, Place::Input)?;
    number(outputs, Place::Output)?;
    program.inputs = inputs.len();
    program.outputs = outputs.len();
    Ok(program)
}
