//! Runs a program: one call, errors named by the graph's node.

use rustorch_kernels::error::{Error, Result};
use rustorch_kernels::ops::{self, Row};
use rustorch_kernels::profile;
use rustorch_kernels::view::{Attrs, View};
use smallvec::SmallVec;

use crate::epilogue;
use crate::fused::{Bases, Fused, Ready};
use crate::memory::{Memory, Results};
use crate::program::{Epilogue, Instruction, Kernel, Operand, Program, Reduced};
use crate::reduced::Extent;

/// The generator's state for one run.
#[derive(Clone, Copy, Default)]
pub struct Random {
    pub seed: u64,
    pub offset: u64,
}

/// Runs the program on storages at these addresses. `release` is told the number of each input when
/// the run has done with it.
///
/// # Safety
/// Each address is of memory that is valid for the program's input of that number until its release.
pub unsafe fn run(program: &Program, inputs: &[usize], release: &dyn Fn(usize), random: Random) -> Result<Results> {
    if inputs.len() != program.inputs {
        let message = format!("the program has {} inputs, got {}", program.inputs, inputs.len());
        return Err(Error::Runtime(message));
    }
    let mut memory = Memory::new(program, inputs, release)?;
    for (at, instruction) in program.instructions.iter().enumerate() {
        memory.before(at)?;
        let addresses = memory.addresses();
        let base = |operand: &Operand| operand.buffer.map_or(std::ptr::null_mut(), |id| addresses[id] as *mut u8);
        // SAFETY: recording checked every operand against its buffer; the caller promised the buffers.
        let launch = || unsafe {
            match &instruction.kernel {
                Kernel::Row(row) => launch(row, instruction, base, random),
                Kernel::Fused(fused) => launch_fused(fused, instruction, base),
                Kernel::Reduced(reduced) => launch_reduced(reduced, instruction, base),
                Kernel::Epilogue(epilogue) => launch_epilogue(epilogue, instruction, base),
                Kernel::Tiled(tiled) => watched(tiled.operations(), instruction, base, || tiled.run(base)),
            }
        };
        let done = if profile::is_on() { profile::within(program.source(at), launch) } else { launch() };
        done.map_err(|error| named(error, program, instruction.origin))?;
        memory.after(at);
    }
    memory.results()
}

unsafe fn launch(
    row: &Row,
    instruction: &Instruction,
    base: impl Fn(&Operand) -> *mut u8,
    random: Random,
) -> Result<()> {
    // SAFETY: the caller's promise.
    let views = unsafe { views(&instruction.operands, base) };
    let mut ints: SmallVec<[i64; 16]> = SmallVec::from_slice(&instruction.ints);
    if row.random {
        ints[0] = random.seed as i64;
        ints[1] += random.offset as i64;
    }
    ops::run(row, &views, &Attrs { ints: &ints, floats: &instruction.floats })
}

unsafe fn launch_fused(fused: &Fused, instruction: &Instruction, base: impl Fn(&Operand) -> *mut u8) -> Result<()> {
    let ready = ready(fused)?;
    let bases = bases(&instruction.operands, &base);
    // SAFETY: the caller's promise.
    let run = || unsafe { ready.run(&bases) };
    // SAFETY: as above.
    unsafe { watched(fused.operations() * ready.numel, instruction, base, run) }
}

unsafe fn launch_reduced(
    reduced: &Reduced,
    instruction: &Instruction,
    base: impl Fn(&Operand) -> *mut u8,
) -> Result<()> {
    let fused = &reduced.fused;
    let (results, operands) = instruction.operands.split_at(instruction.outputs() - fused.outputs);
    let (ready, bases) = (ready(fused)?, bases(operands, &base));
    let is_stored = operands[reduced.sink].buffer.is_some();
    let all = Extent { first: 0, sizes: &reduced.input.sizes };
    // SAFETY: the caller's promise.
    let run = || unsafe { reduced.run(views(results, &base), &instruction.attrs(), &bases, is_stored, all) };
    // SAFETY: as above.
    unsafe { watched(fused.operations() * ready.numel, instruction, &base, run) }
}

unsafe fn launch_epilogue(
    epilogue: &Epilogue,
    instruction: &Instruction,
    base: impl Fn(&Operand) -> *mut u8,
) -> Result<()> {
    let operands = epilogue.operands(&instruction.operands).ok_or_else(epilogue::missing)?;
    let address = |operand: &Operand| base(operand).wrapping_add(operand.offset);
    let mut bases: Bases = operands.stored.iter().chain(operands.loaded).map(address).collect();
    bases.insert(epilogue.sink, address(operands.result));
    let attrs = instruction.attrs();
    // SAFETY: the caller's promise.
    let views = unsafe { views(std::iter::once(operands.result).chain(operands.inputs), &base) };
    let mut operations = 0;
    if profile::is_on() {
        let of_fused = epilogue.fused.operations() * operands.result.numel();
        operations = (epilogue.row.flops)(&views[..1], &views[1..], &attrs) as usize + of_fused;
    }
    // SAFETY: as above.
    unsafe { watched(operations, instruction, &base, || epilogue.run(&views, &attrs, &bases)) }
}

/// Runs a kernel that the table does not have, in sight of a profile.
unsafe fn watched(
    operations: usize,
    instruction: &Instruction,
    base: impl Fn(&Operand) -> *mut u8,
    run: impl FnOnce() -> Result<()>,
) -> Result<()> {
    if !profile::is_on() {
        return run();
    }
    // SAFETY: the caller's promise.
    let views = unsafe { views(&instruction.operands, base) };
    profile::timed(instruction.name(), &views, run, || instruction.outputs(), |_, _| operations as u64)
}

/// A fused kernel as it was laid out for its operands.
pub fn ready(fused: &Fused) -> Result<&Ready> {
    fused.ready().ok_or_else(|| Error::Runtime("a fused kernel was not laid out".into()))
}

/// The addresses of a kernel's operands.
pub fn bases(operands: &[Operand], base: impl Fn(&Operand) -> *mut u8) -> Bases {
    operands.iter().map(|operand| base(operand).wrapping_add(operand.offset)).collect()
}

/// The operands in the memory of this run.
///
/// # Safety
/// The buffers are valid for the operands while the views are used.
unsafe fn views<'a>(
    operands: impl IntoIterator<Item = &'a Operand>,
    base: impl Fn(&Operand) -> *mut u8,
) -> SmallVec<[View<'a>; 8]> {
    let mut views = SmallVec::new();
    for operand in operands {
        views.push(if operand.present && !operand.is_computed() {
            let data = base(operand).wrapping_add(operand.offset);
            // SAFETY: the caller's promise.
            unsafe { View::new(data, operand.dtype, &operand.sizes, &operand.strides) }
        } else {
            View::absent()
        });
    }
    views
}

#[cold]
fn named(error: Error, program: &Program, origin: usize) -> Error {
    match program.origins.get(origin) {
        Some(label) => Error::In { source: Box::new(error), context: format!("compiled from {label}") },
        None => error,
    }
}
