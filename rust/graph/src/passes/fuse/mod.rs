//! Fusion: pointwise instructions over the same elements become one kernel, whose intermediates
//! never reach memory unless something else reads them.

mod build;
mod groups;
pub(super) mod iteration;
mod member;

use crate::passes::dependencies::Dependencies;
use crate::program::{Instruction, Kernel, Place, Program};
use groups::{Group, Groups};
use iteration::Access;
pub use member::Member;

pub fn run(program: &mut Program) {
    let members: Vec<Option<Member>> = program.instructions.iter().map(Member::of).collect();
    let dependencies = Dependencies::of(program);
    let groups = Groups::new(&members, &dependencies);
    let readers = program.readers();
    let mut instructions = Vec::with_capacity(program.instructions.len());
    let order = groups.in_order();
    debug_assert_eq!(order.iter().map(|group| group.members.len()).sum::<usize>(), members.len(), "a cycle of groups");
    for group in order {
        match fused(program, &members, &readers, group) {
            Some(instruction) => instructions.extend(instruction),
            None => instructions.extend(group.members.iter().map(|&at| program.instructions[at].clone())),
        }
    }
    program.instructions = instructions;
}

/// One pointwise instruction as a fused kernel, which is not laid out yet.
pub fn alone(instruction: &Instruction) -> Option<Instruction> {
    let member = Member::of(instruction)?;
    build::build(&[&member], &[instruction], &member.sizes, |_| true)
}

/// The group's instruction, or nothing where no one needs it; None where it is not to be fused.
fn fused(
    program: &Program,
    members: &[Option<Member>],
    readers: &[Vec<usize>],
    group: &Group,
) -> Option<Option<Instruction>> {
    let sizes = group.sizes.as_ref()?;
    if group.members.len() < 2 {
        return None;
    }
    let parts: Vec<&Member> = group.members.iter().map(|&at| members[at].as_ref()).collect::<Option<_>>()?;
    let instructions: Vec<&Instruction> = group.members.iter().map(|&at| &program.instructions[at]).collect();
    let is_wanted = |access: &Access| is_read_elsewhere(program, readers, group, access);
    let Some(mut instruction) = build::build(&parts, &instructions, sizes, is_wanted) else { return Some(None) };
    if let Kernel::Fused(fused) = &mut instruction.kernel {
        fused.prepare(&instruction.operands).ok()?;
    }
    Some(Some(instruction))
}

/// Whether the caller, or an instruction outside of the group, reads what the group leaves there.
fn is_read_elsewhere(program: &Program, readers: &[Vec<usize>], group: &Group, access: &Access) -> bool {
    let first = group.members.first().copied().unwrap_or(0);
    matches!(program.buffers[access.buffer].place, Place::Input(_) | Place::Output(_))
        || readers[access.buffer].iter().any(|&at| at >= first && !group.members.contains(&at))
}
