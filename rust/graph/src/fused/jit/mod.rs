//! Machine code for runs of steps over f32, the half types and bool: one loop with the values in registers, where
//! the interpreter would write each block to memory and read it again.
//!
//! It is used where the machine has AVX2 or AVX-512 and lets memory be made executable; `RUSTORCH_JIT=0`
//! turns it off. Steps that it does not know run their rows' block loops, before and after.

mod assemble;
mod encodings;
mod lower;
mod micro;
mod pages;
mod registers;

use std::collections::HashMap;
use std::sync::OnceLock;

use rustorch_kernels::dtype::DType;
use rustorch_kernels::isa::Level;
use rustorch_kernels::ops::Entry;
use rustorch_kernels::reduce::{Fold, LANES};

use super::{Fused, Step, ValueId};
use micro::{Code, Half, Id, Op, Slot};
use pages::Pages;

/// What machine code does with the memory of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    Read,
    /// Reads one element, which all others are like.
    ReadOne,
    Write,
}

/// A line of the cache, of constants.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[allow(dead_code, reason = "machine code reads it")] [u32; 16]);

/// A compiled run of steps.
pub struct Machine {
    pages: Pages,
    pool: Vec<Line>,
    pub level: Level,
    /// The values whose blocks it is called with; then comes, where it folds, what it folds into (see [`Direction`]).
    pub slots: Vec<(ValueId, Use)>,
    /// Vectors of a turn.
    vectors: usize,
}

impl Machine {
    /// Elements of a turn: it runs whole turns only.
    pub fn width(&self) -> usize {
        self.vectors * assemble::width(self.level)
    }

    /// Runs rows of so many elements; from row to row, pointers move by the bytes of `steps`. They may have moved
    /// afterwards.
    ///
    /// # Safety
    /// `pointers` are the slots' memory and what it folds into, if it does; they are valid for whole turns, of
    /// which a row has one at least, and for a row or more; the CPU has the level.
    #[cfg(target_arch = "x86_64")]
    pub unsafe fn run(&self, elements: usize, pointers: &mut [*mut u8], rows: usize, steps: &[isize]) {
        debug_assert!(rows == 1 || steps.len() == pointers.len());
        type Function = unsafe extern "sysv64" fn(usize, *mut *mut u8, *const Line, usize, *const isize);
        // SAFETY: `assemble` made this function for these arguments.
        unsafe {
            let code: Function = std::mem::transmute(self.pages.start());
            code(elements, pointers.as_mut_ptr(), self.pool.as_ptr(), rows, steps.as_ptr());
        }
    }

    /// # Safety
    /// Never called: there is no machine code for another architecture.
    #[cfg(not(target_arch = "x86_64"))]
    pub unsafe fn run(&self, _elements: usize, _pointers: &mut [*mut u8], _rows: usize, _steps: &[isize]) {}
}

/// Whether there may be machine code for this level.
pub fn is_on(level: Level) -> bool {
    static ON: OnceLock<bool> = OnceLock::new();
    level != Level::Scalar && *ON.get_or_init(|| std::env::var_os("RUSTORCH_JIT").is_none_or(|value| value != "0"))
}

/// Whether a step can be a part of machine code.
pub fn knows(fused: &Fused, step: &Step) -> bool {
    let is_known = |value: &ValueId| {
        let dtype = fused.values[*value];
        matches!(dtype, DType::F32 | DType::Bool) || Half::of(dtype).is_some()
    };
    if !step.reads().iter().all(is_known) || !step.makes().iter().all(is_known) {
        return false;
    }
    let mut code = Code::new(true);
    let inputs: Vec<Id> = step.reads().iter().enumerate().map(|(slot, _)| code.push(Op::Load(slot, 0))).collect();
    translate(fused, step, &mut code, &inputs).is_some()
}

fn translate(fused: &Fused, step: &Step, code: &mut Code, inputs: &[Id]) -> Option<Id> {
    match step {
        Step::Apply { row, compute, scalars, .. } => {
            let Entry::Pointwise(expression) = row.entry else { return None };
            lower::lower(expression.trace(*compute)?, code, inputs, scalars)
        }
        Step::Cast { from, to } => {
            let (from, to, input) = (fused.values[*from], fused.values[*to], inputs[0]);
            Some(match (from, Half::of(to)) {
                _ if from == to => input,
                (DType::Bool, _) => code.mask_to_float(input),
                (_, Some(half)) => code.round(half, input),
                _ if to == DType::Bool => code.is_true(input),
                _ => input,
            })
        }
        _ => None,
    }
}

/// Machine code for `steps`, all of which it knows. `is_uniform` says which values are the same in
/// every element of a call, `is_wanted` which results something outside of the steps reads.
pub fn compile(
    fused: &Fused,
    steps: &[&Step],
    level: Level,
    is_uniform: impl Fn(ValueId) -> bool,
    is_wanted: impl Fn(ValueId) -> bool,
) -> Option<Machine> {
    // As many vectors a turn as there are registers for.
    std::iter::successors(Some(LANES / assemble::width(level)), |&vectors| (vectors > 1).then_some(vectors / 2))
        .find_map(|vectors| {
            let mut code = Code::new(level == Level::Avx512);
            let mut slots = Vec::new();
            for number in 0..vectors {
                vector(fused, steps, &mut code, &mut slots, number, &is_uniform, &is_wanted)?;
            }
            machine(code, slots, vectors, level)
        })
}

/// What elements side by side are folded into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Lanes, in turns. They are read from one memory and written to another; the lanes together go to a third.
    Along,
    /// Elements side by side.
    Across,
}

fn join(code: &mut Code, fold: Fold, left: Id, right: Id) -> Id {
    match fold {
        Fold::Add => code.add(left, right),
        Fold::Max => code.max(left, right),
        Fold::Min => code.min(left, right),
    }
}

/// All lanes of these vectors together, in the first: the halves with each other, and so on.
fn join_lanes(code: &mut Code, fold: Fold, mut vectors: Vec<Id>, width: usize) -> Option<Id> {
    while vectors.len() > 1 {
        let right = vectors.split_off(vectors.len() / 2);
        vectors = vectors.into_iter().zip(right).map(|(left, right)| join(code, fold, left, right)).collect();
    }
    let halves = std::iter::successors(Some(width / 2), |&half| Some(half / 2)).take_while(|&half| half > 0);
    vectors.pop().map(|all| {
        halves.fold(all, |left, half| {
            let right = code.push(Op::From(half, left));
            join(code, fold, left, right)
        })
    })
}

/// Machine code that makes `value` by `steps` and folds it into [`LANES`] lanes and those into one, or into a line.
pub fn compile_fold(
    fused: &Fused,
    steps: &[&Step],
    level: Level,
    is_uniform: impl Fn(ValueId) -> bool,
    (fold, value): (Fold, ValueId),
    direction: Direction,
) -> Option<Machine> {
    let all = LANES / assemble::width(level);
    // Vector by vector, registers go further; lanes need them all.
    let ways = match direction {
        Direction::Along => [(all, true), (all, false)],
        Direction::Across => [(all, true), (1, false)],
    };
    ways.into_iter().find_map(|(vectors, in_turns)| {
        let mut code = Code::new(level == Level::Avx512);
        code.in_turns = in_turns;
        let mut slots = Vec::new();
        let mut all_lanes = Vec::new();
        for number in 0..vectors {
            let ids = vector(fused, steps, &mut code, &mut slots, number, &is_uniform, |_| false)?;
            let slot = slots.len();
            let lanes = code.push(match direction {
                Direction::Along => Op::Accumulator(slot, number),
                Direction::Across => Op::Load(slot, number),
            });
            let element = *ids.get(&value)?;
            let next = join(&mut code, fold, lanes, element);
            code.push(match direction {
                Direction::Along => Op::Keep(lanes, next),
                Direction::Across => Op::Store(slot, number, next),
            });
            all_lanes.push(lanes);
        }
        if direction == Direction::Along {
            code.end_loop();
            let joined = join_lanes(&mut code, fold, all_lanes, assemble::width(level))?;
            code.push(Op::StoreFirst(slots.len() + 2, joined));
        }
        machine(code, slots, vectors, level)
    })
}

fn slot_of(slots: &mut Vec<(ValueId, Use)>, value: ValueId, used: Use) -> Slot {
    slots.iter().position(|&known| known == (value, used)).unwrap_or_else(|| {
        slots.push((value, used));
        slots.len() - 1
    })
}

/// The code of the steps for a turn's vector of this number, which stores what is wanted: the results by
/// value.
fn vector(
    fused: &Fused,
    steps: &[&Step],
    code: &mut Code,
    slots: &mut Vec<(ValueId, Use)>,
    number: usize,
    is_uniform: impl Fn(ValueId) -> bool,
    is_wanted: impl Fn(ValueId) -> bool,
) -> Option<HashMap<ValueId, Id>> {
    let mut ids: HashMap<ValueId, Id> = HashMap::new();
    code.begin_vector();
    for step in steps {
        let mut inputs = Vec::new();
        for value in step.reads() {
            let id = *ids.entry(value).or_insert_with(|| {
                let used = if is_uniform(value) { Use::ReadOne } else { Use::Read };
                let slot = slot_of(slots, value, used);
                let dtype = fused.values[value];
                code.push(match (dtype, Half::of(dtype), used) {
                    (DType::Bool, _, Use::ReadOne) => Op::UniformMask(slot),
                    (DType::Bool, _, _) => Op::LoadMask(slot, number),
                    (_, Some(half), Use::ReadOne) => Op::UniformHalf(half, slot),
                    (_, Some(half), _) => Op::LoadHalf(half, slot, number),
                    (_, None, Use::ReadOne) => Op::Uniform(slot),
                    _ => Op::Load(slot, number),
                })
            });
            inputs.push(id);
        }
        let made = translate(fused, step, code, &inputs)?;
        let value = step.makes()?;
        ids.insert(value, made);
        if is_wanted(value) {
            let slot = slot_of(slots, value, Use::Write);
            code.push(match (fused.values[value], Half::of(fused.values[value])) {
                (DType::Bool, _) => Op::StoreMask(slot, number, made),
                (_, Some(half)) => Op::StoreHalf(half, slot, number, made),
                _ => Op::Store(slot, number, made),
            });
        }
    }
    Some(ids)
}

fn machine(code: Code, slots: Vec<(ValueId, Use)>, vectors: usize, level: Level) -> Option<Machine> {
    if !is_on(level) {
        return None;
    }
    let assembled = assemble::assemble(&code, vectors, level)?;
    let copies = if code.wide { 1 } else { assemble::width(level) };
    let mut words = assembled.pool.iter().flat_map(|&bits| std::iter::repeat_n(bits, copies)).peekable();
    let mut pool = Vec::new();
    while words.peek().is_some() {
        pool.push(Line(std::array::from_fn(|_| words.next().unwrap_or(0))));
    }
    Some(Machine { pages: Pages::new(&assembled.code)?, pool, level, slots, vectors })
}
