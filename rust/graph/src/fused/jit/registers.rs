//! Registers for straight-line code: what the loop does not change keeps its own, the rest by lives.
//! Constants for which none is left are read from memory where they are used.

use super::micro::{Code, Id, Op};

/// Where an op's result is; none for stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Vector(usize),
    Mask(usize),
    /// The number of a constant in [`Allocation::pool`].
    Pool(usize),
    None,
}

pub struct Allocation {
    pub of: Vec<Place>,
    /// The constants that have registers: the first of the pool.
    pub kept: Vec<Id>,
    /// Ops that run before the loop.
    pub before: Vec<Id>,
    pub inside: Vec<Id>,
    /// Ops that run after the loop.
    pub after: Vec<Id>,
    /// The constants' bits.
    pub pool: Vec<u32>,
}

struct Free {
    vectors: Vec<usize>,
    masks: Vec<usize>,
    /// Where masks are vectors (AVX2), one set serves both.
    shared: bool,
}

impl Free {
    fn take(&mut self, is_mask: bool) -> Option<Place> {
        if is_mask && !self.shared {
            return self.masks.pop().map(Place::Mask);
        }
        let register = self.vectors.pop()?;
        Some(if is_mask { Place::Mask(register) } else { Place::Vector(register) })
    }

    fn give(&mut self, place: Place) {
        match place {
            Place::Mask(number) if !self.shared => self.masks.push(number),
            Place::Mask(number) | Place::Vector(number) => self.vectors.push(number),
            Place::Pool(_) | Place::None => {}
        }
    }
}

/// Straight-line code in the order in which it runs: before the loop, a turn of it, after it.
struct Order {
    before: Vec<Id>,
    inside: Vec<Id>,
    after: Vec<Id>,
    constants: Vec<Id>,
    /// The last op that reads each; none for what nothing reads, or what the next turn reads again.
    last: Vec<Option<Id>>,
    lasts: Vec<bool>,
}

impl Order {
    fn new(code: &Code) -> Self {
        let fixed = code.fixed();
        let is_before = |id: Id| fixed[id] || matches!(code.ops[id], Op::Accumulator(..));
        let (constants, order): (Vec<Id>, Vec<Id>) =
            code.order().into_iter().partition(|&id| code.ops[id].is_constant());
        let (before, order): (Vec<Id>, Vec<Id>) = order.into_iter().partition(|&id| is_before(id));
        let (after, inside): (Vec<Id>, Vec<Id>) = order.into_iter().partition(|&id| code.is_after(id));
        let mut last = vec![None; code.ops.len()];
        let mut lasts: Vec<bool> = code.ops.iter().map(|op| matches!(op, Op::Accumulator(..))).collect();
        for &id in before.iter().chain(&inside).chain(&after) {
            for input in code.ops[id].inputs() {
                last[input] = Some(id);
                lasts[input] |= !is_before(id) && is_before(input);
            }
        }
        Self { before, inside, after, constants, last, lasts }
    }

    /// Calls `step(op, ended inputs, whether nothing reads its result)` in order.
    fn walk(&self, code: &Code, mut step: impl FnMut(Id, &[Id], bool) -> Option<()>) -> Option<()> {
        for &id in self.before.iter().chain(&self.inside).chain(&self.after) {
            let is_ended =
                |input: &Id| self.last[*input] == Some(id) && !self.lasts[*input] && !code.ops[*input].is_constant();
            let mut ended: Vec<Id> = code.ops[id].inputs().filter(is_ended).collect();
            ended.sort_unstable();
            ended.dedup();
            step(id, &ended, self.last[id].is_none() && !self.lasts[id])?;
        }
        Some(())
    }

    /// The most vector registers that are taken at once, but for constants.
    fn peak(&self, code: &Code, shared: bool) -> usize {
        let counts = |id: Id| usize::from(!code.ops[id].is_store() && (shared || !code.ops[id].is_mask()));
        let (mut taken, mut peak) = (0, 0);
        self.walk(code, |id, ended, is_unread| {
            taken -= ended.iter().map(|&input| counts(input)).sum::<usize>();
            taken += counts(id);
            peak = peak.max(taken);
            taken -= if is_unread { counts(id) } else { 0 };
            Some(())
        });
        peak
    }
}

/// None where the code needs more registers than there are.
pub fn allocate(code: &Code, vectors: usize, masks: Option<usize>) -> Option<Allocation> {
    let order = Order::new(code);
    let mut spare = vectors.checked_sub(order.peak(code, masks.is_none()))?;
    let mut free = Free {
        vectors: (0..vectors).rev().collect(),
        // The first mask register means no mask.
        masks: (1..=masks.unwrap_or(0)).rev().collect(),
        shared: masks.is_none(),
    };
    let mut of = vec![Place::None; code.ops.len()];
    let mut constants = order.constants.clone();
    constants.sort_unstable();
    let run: Vec<&Op> =
        [&order.before, &order.inside, &order.after].into_iter().flatten().map(|&id| &code.ops[id]).collect();
    let uses = |constant: Id| -> usize {
        let reads = |op: &Op| op.inputs().filter(|&input| input == constant).count();
        // Most instructions take memory as their last operand only.
        let leads = |op: &Op| usize::from(op.inputs().next() == Some(constant));
        run.iter().map(|op| reads(op) + 4 * leads(op)).sum()
    };
    constants.sort_by_cached_key(|&id| std::cmp::Reverse(uses(id)));
    let mut kept = Vec::new();
    let mut pool = Vec::new();
    for id in constants {
        if let Op::Constant(bits) = code.ops[id] {
            of[id] = Place::Pool(pool.len());
            pool.push(bits);
        }
        if spare > 0 {
            spare -= 1;
            of[id] = free.take(false)?;
            kept.push(id);
        }
    }
    order.walk(code, |id, ended, is_unread| {
        // A result may take an ended input's register: every instruction reads before it writes.
        ended.iter().for_each(|&input| free.give(of[input]));
        let op = &code.ops[id];
        if !op.is_store() {
            of[id] = free.take(op.is_mask())?;
            if is_unread {
                free.give(of[id]);
            }
        }
        Some(())
    })?;
    let Order { before, inside, after, .. } = order;
    Some(Allocation { of, kept, before, inside, after, pool })
}
