//! Which instructions must run before which: those that reach the same bytes, one of them writing.

use crate::program::Program;

pub struct Dependencies {
    /// The earlier instructions that each must follow.
    pub of: Vec<Vec<usize>>,
}

impl Dependencies {
    pub fn of(program: &Program) -> Self {
        // The accesses of each buffer so far: instruction, range, whether it writes.
        let mut seen: Vec<Vec<(usize, std::ops::Range<usize>, bool)>> = vec![Vec::new(); program.buffers.len()];
        let mut of = Vec::with_capacity(program.instructions.len());
        for (at, instruction) in program.instructions.iter().enumerate() {
            let mut needed = Vec::new();
            let outputs = instruction.outputs();
            let accesses = instruction
                .operands
                .iter()
                .enumerate()
                .filter_map(|(index, operand)| Some((operand.buffer?, operand.range(), index < outputs)));
            let accesses: Vec<_> = accesses.collect();
            for (buffer, range, writes) in &accesses {
                for (other, reached, wrote) in &seen[*buffer] {
                    if (*writes || *wrote) && reached.start < range.end && range.start < reached.end {
                        needed.push(*other);
                    }
                }
            }
            for (buffer, range, writes) in accesses {
                seen[buffer].push((at, range, writes));
            }
            needed.sort_unstable();
            needed.dedup();
            of.push(needed);
        }
        Self { of }
    }
}
