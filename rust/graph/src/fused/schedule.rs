//! The order of a fused kernel's steps: those that machine code can run stand together.

use rustorch_kernels::error::Result;
use rustorch_kernels::isa;

use super::jit::{self, Machine};
use super::{Fused, Step, ValueId};

/// Steps, by number, that run as one.
pub struct Segment {
    pub steps: Vec<usize>,
    pub machine: Option<Machine>,
}

pub struct Schedule {
    pub loads: Vec<usize>,
    /// Steps whose values are the same in every element: run once a task.
    pub uniform: Vec<usize>,
    pub segments: Vec<Segment>,
    /// By value.
    pub is_uniform: Vec<bool>,
    /// By value: what an operand repeats along each row.
    pub is_repeated: Vec<bool>,
}

impl Schedule {
    /// Tells which operands repeat one element: all through, or along each row.
    pub fn new(
        fused: &Fused,
        is_operand_uniform: impl Fn(usize) -> bool,
        is_operand_repeated: impl Fn(usize) -> bool,
    ) -> Result<Self> {
        let mut schedule = Self {
            loads: Vec::new(),
            uniform: Vec::new(),
            segments: Vec::new(),
            is_uniform: vec![false; fused.values.len()],
            is_repeated: vec![false; fused.values.len()],
        };
        let mut waiting: Vec<usize> = Vec::new();
        let mut stores: Vec<usize> = Vec::new();
        let mut is_made = vec![false; fused.values.len()];
        for (at, step) in fused.steps.iter().enumerate() {
            let (is_uniform, list) = match step {
                Step::Load { operand, .. } => (is_operand_uniform(*operand), &mut schedule.loads),
                // Stores come last: what they write may be what a load reads.
                Step::Store { .. } => (false, &mut stores),
                _ if step.reads().iter().all(|&value| schedule.is_uniform[value]) => (true, &mut schedule.uniform),
                _ => (false, &mut waiting),
            };
            list.push(at);
            if let &Step::Load { operand, to } = step {
                schedule.is_repeated[to] = !is_uniform && is_operand_repeated(operand);
            }
            if let Some(value) = step.makes() {
                schedule.is_uniform[value] = is_uniform;
                is_made[value] = is_uniform || matches!(step, Step::Load { .. });
            }
        }
        let is_known: Vec<bool> = fused.steps.iter().map(|step| jit::knows(fused, step)).collect();
        while !waiting.is_empty() {
            let known = take_ready(fused, &mut waiting, &mut is_made, |at| is_known[at]);
            if !known.is_empty() {
                schedule.compile(fused, &known);
            }
            for at in take_ready(fused, &mut waiting, &mut is_made, |at| !is_known[at]) {
                schedule.segments.push(Segment { steps: vec![at], machine: None });
            }
        }
        schedule.segments.extend(stores.into_iter().map(|at| Segment { steps: vec![at], machine: None }));
        Ok(schedule)
    }

    /// Whether a value is one in a row.
    fn is_same(&self, value: ValueId) -> bool {
        self.is_uniform[value] || self.is_repeated[value]
    }

    /// Whether nothing but machine code reads a value.
    pub fn is_for_machine(&self, fused: &Fused, value: ValueId) -> bool {
        let others = self.segments.iter().filter(|segment| segment.machine.is_none());
        !others.flat_map(|segment| &segment.steps).any(|&at| fused.steps[at].reads().contains(&value))
    }

    /// Machine code for these steps, or for halves of them where registers do not suffice.
    fn compile(&mut self, fused: &Fused, steps: &[usize]) {
        let parts: Vec<&Step> = steps.iter().map(|&at| &fused.steps[at]).collect();
        let is_wanted = |value: ValueId| {
            fused.steps.iter().enumerate().any(|(at, step)| !steps.contains(&at) && step.reads().contains(&value))
        };
        let machine = jit::compile(fused, &parts, isa::level(), |value| self.is_same(value), is_wanted);
        if machine.is_none() && steps.len() > 3 && jit::is_on(isa::level()) {
            let (first, second) = steps.split_at(steps.len() / 2);
            self.compile(fused, first);
            self.compile(fused, second);
        } else {
            self.segments.push(Segment { steps: steps.to_vec(), machine });
        }
    }
}

/// Takes the waiting steps that satisfy `accept` and whose inputs are made, in order.
fn take_ready(
    fused: &Fused,
    waiting: &mut Vec<usize>,
    is_made: &mut [bool],
    accept: impl Fn(usize) -> bool,
) -> Vec<usize> {
    let mut taken = Vec::new();
    waiting.retain(|&at| {
        let step = &fused.steps[at];
        let is_ready = accept(at) && step.reads().iter().all(|&value| is_made[value]);
        if is_ready {
            taken.push(at);
            step.makes().into_iter().for_each(|value| is_made[value] = true);
        }
        !is_ready
    });
    taken
}
