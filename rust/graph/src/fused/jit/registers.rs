//! Registers for straight-line code: what the loop does not change keeps its own, the rest by lives.

use super::micro::{Code, Id};

/// Where an op's result is; none for stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    Vector(usize),
    Mask(usize),
    None,
}

pub struct Allocation {
    pub of: Vec<Register>,
    /// Ops that run before the loop.
    pub before: Vec<Id>,
    pub inside: Vec<Id>,
}

struct Free {
    vectors: Vec<usize>,
    masks: Vec<usize>,
    /// Where masks are vectors (AVX2), one set serves both.
    shared: bool,
}

impl Free {
    fn take(&mut self, is_mask: bool) -> Option<Register> {
        if is_mask && !self.shared {
            return self.masks.pop().map(Register::Mask);
        }
        let register = self.vectors.pop()?;
        Some(if is_mask { Register::Mask(register) } else { Register::Vector(register) })
    }

    fn give(&mut self, register: Register) {
        match register {
            Register::Mask(number) if !self.shared => self.masks.push(number),
            Register::Mask(number) | Register::Vector(number) => self.vectors.push(number),
            Register::None => {}
        }
    }
}

/// None where the code needs more registers than there are.
pub fn allocate(code: &Code, vectors: usize, masks: Option<usize>) -> Option<Allocation> {
    let (before, inside): (Vec<Id>, Vec<Id>) = (0..code.ops.len()).partition(|&id| code.ops[id].is_before());
    let mut last = vec![None; code.ops.len()];
    for &id in &inside {
        for input in code.ops[id].inputs() {
            last[input] = Some(id);
        }
    }
    let mut free = Free {
        vectors: (0..vectors).rev().collect(),
        // The first mask register means no mask.
        masks: (1..=masks.unwrap_or(0)).rev().collect(),
        shared: masks.is_none(),
    };
    let mut of = vec![Register::None; code.ops.len()];
    for &id in &before {
        of[id] = free.take(false)?;
    }
    for &id in &inside {
        let op = &code.ops[id];
        let mut ended: Vec<Id> =
            op.inputs().filter(|&input| last[input] == Some(id) && !code.ops[input].is_before()).collect();
        ended.sort_unstable();
        ended.dedup();
        // A result may take an ended input's register: every instruction reads before it writes.
        ended.iter().for_each(|&input| free.give(of[input]));
        if !op.is_store() {
            of[id] = free.take(op.is_mask())?;
            if last[id].is_none() {
                free.give(of[id]);
            }
        }
    }
    Some(Allocation { of, before, inside })
}
