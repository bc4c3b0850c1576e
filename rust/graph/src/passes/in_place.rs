//! In-place reuse: a result takes the memory of an operand that nothing reads afterwards, where its
//! instruction reads and writes the same elements in step.

use rustorch_kernels::ops::Entry;

use crate::liveness;
use crate::program::{BufferId, Instruction, Kernel, Place, Program};

pub fn run(program: &mut Program) {
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
            let mut merged = instruction.clone();
            merged.operands[output].buffer = Some(theirs);
            let prepared = match &mut merged.kernel {
                Kernel::Fused(fused) => fused.prepare(&merged.operands),
                Kernel::Reduced(reduced) => {
                    let results = instruction.outputs() - reduced.fused.outputs;
                    reduced.fused.prepare(&merged.operands[results..])
                }
                Kernel::Epilogue(epilogue) => epilogue.prepare(&merged.operands),
                Kernel::Row(_) | Kernel::Tiled(_) => Ok(()),
            };
            if prepared.is_err() {
                continue;
            }
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

/// The buffer that this output may take over: one that the instruction reads through the output's own
/// view, and touches through no other.
fn dying(
    program: &Program,
    instruction: &Instruction,
    output: usize,
    is_last: impl Fn(BufferId) -> bool,
) -> Option<BufferId> {
    let written = &instruction.operands[output];
    let mine = written.buffer?;
    let is_dense = written.range().len() == written.numel() * written.dtype.size();
    let in_step = match &instruction.kernel {
        Kernel::Row(row) => matches!(row.entry, Entry::Pointwise(_)),
        Kernel::Fused(_) => true,
        // The reduction asks for each element once; what it writes itself is another matter.
        Kernel::Reduced(reduced) => output >= instruction.outputs() - reduced.fused.outputs,
        Kernel::Epilogue(_) => output > 0,
        Kernel::Tiled(_) => false,
    };
    // What a product reads, it reads until all of its result is there.
    let inputs = match &instruction.kernel {
        Kernel::Epilogue(epilogue) => epilogue.operands(&instruction.operands)?.inputs,
        _ => &[],
    };
    let touches = |buffer: BufferId| instruction.operands.iter().filter(move |operand| operand.buffer == Some(buffer));
    if !in_step || !is_dense || touches(mine).count() != 1 {
        return None;
    }
    instruction.read().iter().filter_map(|operand| operand.buffer).find(|&theirs| {
        let same_view = touches(theirs).all(|operand| {
            (operand.offset, operand.dtype, &operand.sizes, &operand.strides)
                == (written.offset, written.dtype, &written.sizes, &written.strides)
        });
        let is_written = instruction.written().iter().any(|operand| operand.buffer == Some(theirs));
        let suffices = program.buffers[theirs].bytes >= program.buffers[mine].bytes;
        let is_input = inputs.iter().any(|operand| operand.buffer == Some(theirs));
        same_view && !is_input && !is_written && suffices && is_intermediate(program, theirs) && is_last(theirs)
    })
}
