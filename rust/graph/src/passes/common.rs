//! Common subexpressions: an instruction that computes what an earlier one has computed, of operands
//! that still hold what they held then, goes; its readers read the earlier result.

use std::collections::HashMap;

use crate::program::{BufferId, Instruction, Kernel, Operand, Place, Program};

/// What an instruction computes, but for where it puts it.
#[derive(PartialEq, Eq, Hash)]
struct Computation {
    row: *const rustorch_kernels::ops::Row,
    /// Each with how often its buffer was written before.
    read: Vec<(Operand, usize)>,
    /// Without their buffers.
    written: Vec<Operand>,
    ints: Vec<i64>,
    floats: Vec<u64>,
}

pub fn run(program: &mut Program) {
    share_constants(program);
    let writes = program.writes();
    let mut written_so_far = vec![0; program.buffers.len()];
    let mut renamed: Vec<BufferId> = (0..program.buffers.len()).collect();
    let mut earlier: HashMap<Computation, usize> = HashMap::new();
    let mut keep = Vec::with_capacity(program.instructions.len());
    for at in 0..program.instructions.len() {
        let instruction = &mut program.instructions[at];
        let outputs = instruction.outputs();
        for buffer in instruction.operands[outputs..].iter_mut().filter_map(|operand| operand.buffer.as_mut()) {
            *buffer = renamed[*buffer];
        }
        let computation = computation(&program.instructions[at], &written_so_far);
        if let Some(first) = computation.as_ref().and_then(|computation| earlier.get(computation))
            && let Some(pairs) = replacements(program, &writes, *first, at)
        {
            pairs.into_iter().for_each(|(mine, theirs)| renamed[mine] = theirs);
            keep.push(false);
            continue;
        }
        keep.push(true);
        for buffer in program.instructions[at].written().iter().filter_map(|operand| operand.buffer) {
            written_so_far[buffer] += 1;
        }
        earlier.extend(computation.map(|computation| (computation, at)));
    }
    program.retain(|at| keep[at]);
}

/// Each wrapped number was captured as a buffer of its own: equal ones become one.
fn share_constants(program: &mut Program) {
    let mut first: HashMap<(usize, &[u64]), BufferId> = HashMap::new();
    let shared: Vec<BufferId> = program
        .buffers
        .iter()
        .enumerate()
        .map(|(id, buffer)| match &buffer.place {
            Place::Constant(value) => *first.entry((buffer.bytes, &value[..])).or_insert(id),
            _ => id,
        })
        .collect();
    for instruction in &mut program.instructions {
        for buffer in instruction.operands.iter_mut().filter_map(|operand| operand.buffer.as_mut()) {
            *buffer = shared[*buffer];
        }
    }
}

/// None for what gives something else each time.
fn computation(instruction: &Instruction, written_so_far: &[usize]) -> Option<Computation> {
    let Kernel::Row(row) = instruction.kernel else { return None };
    if row.random {
        return None;
    }
    let version = |operand: &Operand| operand.buffer.map_or(0, |buffer| written_so_far[buffer]);
    Some(Computation {
        row,
        read: instruction.read().iter().map(|operand| (operand.clone(), version(operand))).collect(),
        written: instruction.written().iter().map(|operand| Operand { buffer: None, ..operand.clone() }).collect(),
        ints: instruction.ints.clone(),
        floats: instruction.floats.iter().map(|value| value.to_bits()).collect(),
    })
}

/// The buffers that `at` writes, each with the one of `first` that holds the same from then on; None
/// where the caller or another write needs them apart.
fn replacements(
    program: &Program,
    writes: &[Vec<usize>],
    first: usize,
    at: usize,
) -> Option<Vec<(BufferId, BufferId)>> {
    let (first_written, written) = (program.instructions[first].written(), program.instructions[at].written());
    let mut pairs = Vec::with_capacity(written.len());
    for (theirs, mine) in first_written.iter().zip(written) {
        let (Some(theirs), Some(mine)) = (theirs.buffer, mine.buffer) else {
            if theirs.buffer == mine.buffer {
                continue;
            }
            return None;
        };
        // Written here alone: so what the row might read of its output first is undefined anyway.
        let is_own = matches!(program.buffers[mine].place, Place::Arena(_)) && writes[mine] == [at];
        let stays =
            writes[theirs].last() == Some(&first) && program.buffers[theirs].bytes >= program.buffers[mine].bytes;
        let reads_itself = program.instructions[at].read().iter().any(|operand| operand.buffer == Some(mine));
        if !is_own || !stays || reads_itself {
            return None;
        }
        pairs.push((mine, theirs));
    }
    Some(pairs)
}
