//! In-place reuse, where an instruction reads and writes the same elements in step: a result that is copied to an
//! input in the end is written there at once, and others take the memory of an operand that nothing reads afterwards.

use rustorch_kernels::ops::{Entry, Op};

use crate::liveness;
use crate::program::{BufferId, Instruction, Kernel, Operand, Place, Program};

pub fn run(program: &mut Program) {
    let mut at = 0;
    while at < program.instructions.len() {
        if !write_back(program, at) {
            at += 1;
        }
    }
    reuse(program);
}

/// Removes the instruction, if it copies an intermediate to an input that may have the result from the start: where
/// nothing touches the input between, and nothing writes to it while the intermediate is read.
fn write_back(program: &mut Program, at: usize) -> bool {
    let copy = &program.instructions[at];
    let Kernel::Row(row) = &copy.kernel else { return false };
    let (true, [to, from]) = (row.is(Op::copy), copy.operands.as_slice()) else { return false };
    let (Some(theirs), Some(mine)) = (to.buffer, from.buffer) else { return false };
    let is_input = matches!(program.buffers[theirs].place, Place::Input(_));
    let suffices = program.buffers[theirs].bytes >= program.buffers[mine].bytes;
    if !is_input || !suffices || !is_intermediate(program, mine) || !is_same_view(to, from) || !is_dense(to) {
        return false;
    }
    let touches = |instruction: &Instruction, buffer| instruction.operands.iter().any(|one| one.buffer == Some(buffer));
    let writes = |instruction: &Instruction, buffer| instruction.written().iter().any(|one| one.buffer == Some(buffer));
    let mut writers = (0..program.instructions.len()).filter(|&one| writes(&program.instructions[one], mine));
    let (Some(writer), None) = (writers.next(), writers.next()) else { return false };
    let last = program.instructions.iter().rposition(|one| touches(one, mine)).unwrap_or(at);
    let is_free = writer < at
        && !program.instructions[writer + 1..at].iter().any(|one| touches(one, theirs))
        && !program.instructions[at + 1..last.max(at) + 1].iter().any(|one| writes(one, theirs));
    let instruction = &program.instructions[writer];
    let output = instruction.written().iter().position(|one| one.buffer == Some(mine));
    let Some(output) = output.filter(|&output| is_free && are_same_bytes(&instruction.operands[output], to)) else {
        return false;
    };
    let reads_in_step = !touches(instruction, theirs) || can_take(instruction, output, theirs);
    let Some(merged) =
        (reads_in_step && is_in_step(instruction, output)).then(|| in_memory_of(instruction, output, theirs)).flatten()
    else {
        return false;
    };
    program.instructions[writer] = merged;
    program.instructions.remove(at);
    let mut renamed: Vec<BufferId> = (0..program.buffers.len()).collect();
    renamed[mine] = theirs;
    program.instructions.iter_mut().for_each(|instruction| instruction.rename(&renamed));
    true
}

fn reuse(program: &mut Program) {
    let mut intervals = liveness::intervals(program);
    let mut renamed: Vec<BufferId> = (0..program.buffers.len()).collect();
    for at in 0..program.instructions.len() {
        program.instructions[at].rename(&renamed);
        for output in 0..program.instructions[at].outputs() {
            let instruction = &program.instructions[at];
            let Some(mine) = instruction.operands[output].buffer else { continue };
            if intervals[mine].is_none_or(|(first, _)| first != at) || !is_intermediate(program, mine) {
                continue;
            }
            let is_last = |buffer: BufferId| intervals[buffer].is_some_and(|(_, last)| last == at);
            let Some(theirs) = dying(program, instruction, output, is_last) else { continue };
            let Some(merged) = in_memory_of(instruction, output, theirs) else { continue };
            program.instructions[at] = merged;
            renamed[mine] = theirs;
            let last = intervals[mine].take().map(|(_, last)| last);
            if let (Some(interval), Some(last)) = (&mut intervals[theirs], last) {
                interval.1 = last;
            }
        }
    }
}

fn is_intermediate(program: &Program, buffer: BufferId) -> bool {
    matches!(program.buffers[buffer].place, Place::Arena(_))
}

/// The instruction with an output in another buffer.
fn in_memory_of(instruction: &Instruction, output: usize, buffer: BufferId) -> Option<Instruction> {
    let mut merged = instruction.clone();
    merged.operands[output].buffer = Some(buffer);
    let prepared = match &mut merged.kernel {
        Kernel::Fused(fused) => fused.prepare(&merged.operands),
        Kernel::Reduced(reduced) => {
            let results = instruction.outputs() - reduced.fused.outputs;
            reduced.fused.prepare(&merged.operands[results..])
        }
        Kernel::Epilogue(epilogue) => epilogue.prepare(&merged.operands),
        Kernel::Row(_) | Kernel::Tiled(_) => Ok(()),
    };
    prepared.ok().map(|()| merged)
}

fn is_same_view(a: &Operand, b: &Operand) -> bool {
    (a.offset, a.dtype, &a.sizes, &a.strides) == (b.offset, b.dtype, &b.sizes, &b.strides)
}

/// Whether both have every element of the same bytes, in whatever order and type: a copy moves bits.
fn are_same_bytes(a: &Operand, b: &Operand) -> bool {
    a.range() == b.range() && is_dense(a) && is_dense(b)
}

fn is_dense(operand: &Operand) -> bool {
    operand.range().len() == operand.numel() * operand.dtype.size()
}

/// Whether an output's elements are written in step with those that are read.
fn is_in_step(instruction: &Instruction, output: usize) -> bool {
    match &instruction.kernel {
        Kernel::Row(row) => matches!(row.entry, Entry::Pointwise(_)),
        Kernel::Fused(_) => true,
        // The reduction asks for each element once; what it writes itself is another matter.
        Kernel::Reduced(reduced) => output >= instruction.outputs() - reduced.fused.outputs,
        Kernel::Epilogue(_) => output > 0,
        Kernel::Tiled(_) => false,
    }
}

/// Whether an output may lie in a buffer that the instruction reads: through the output's own view alone.
fn can_take(instruction: &Instruction, output: usize, theirs: BufferId) -> bool {
    let written = &instruction.operands[output];
    // What a product reads, it reads until all of its result is there.
    let inputs = match &instruction.kernel {
        Kernel::Epilogue(epilogue) => match epilogue.operands(&instruction.operands) {
            Some(operands) => operands.inputs,
            None => return false,
        },
        _ => &[],
    };
    let is_theirs = |operand: &&Operand| operand.buffer == Some(theirs);
    instruction.operands.iter().filter(is_theirs).all(|operand| is_same_view(operand, written))
        && !instruction.written().iter().any(|operand| is_theirs(&operand))
        && !inputs.iter().any(|operand| is_theirs(&operand))
}

/// The buffer that this output may take over, which nothing reads afterwards.
fn dying(
    program: &Program,
    instruction: &Instruction,
    output: usize,
    is_last: impl Fn(BufferId) -> bool,
) -> Option<BufferId> {
    let written = &instruction.operands[output];
    let mine = written.buffer?;
    let touched = instruction.operands.iter().filter(|operand| operand.buffer == Some(mine)).count();
    if !is_in_step(instruction, output) || !is_dense(written) || touched != 1 {
        return None;
    }
    instruction.read().iter().filter_map(|operand| operand.buffer).find(|&theirs| {
        let suffices = program.buffers[theirs].bytes >= program.buffers[mine].bytes;
        suffices && is_intermediate(program, theirs) && is_last(theirs) && can_take(instruction, output, theirs)
    })
}
