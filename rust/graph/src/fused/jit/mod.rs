//! Machine code for runs of steps over f32 and bool: one loop with the values in registers, where
//! the interpreter would write each block to memory and read it again.
//!
//! It is used where the machine has AVX2 or AVX-512 and lets memory be made executable; `RUSTORCH_JIT=0`
//! turns it off. Steps that it does not know run their rows' block loops, before and after.

mod assemble;
mod micro;
mod pages;
mod registers;
mod rows;

use std::collections::HashMap;
use std::sync::OnceLock;

use rustorch_kernels::dtype::DType;
use rustorch_kernels::isa::Level;

use super::{Fused, Step, ValueId};
use micro::{Code, Id, Op, Slot};
use pages::Pages;

/// A compiled run of steps.
pub struct Machine {
    pages: Pages,
    pub level: Level,
    /// The values whose blocks it is called with.
    pub slots: Vec<ValueId>,
}

impl Machine {
    /// Elements of a vector: it runs whole vectors only.
    pub fn width(&self) -> usize {
        assemble::width(self.level)
    }

    /// # Safety
    /// `blocks` are the slots' blocks, of `vectors * width` elements at least; the CPU has the level.
    #[cfg(target_arch = "x86_64")]
    pub unsafe fn run(&self, vectors: usize, blocks: &[*mut u8]) {
        // SAFETY: `assemble` made this function for these arguments.
        unsafe {
            let code: unsafe extern "sysv64" fn(usize, *const *mut u8) = std::mem::transmute(self.pages.start());
            code(vectors, blocks.as_ptr());
        }
    }

    /// # Safety
    /// Never called: there is no machine code for another architecture.
    #[cfg(not(target_arch = "x86_64"))]
    pub unsafe fn run(&self, _vectors: usize, _blocks: &[*mut u8]) {}
}

fn is_on() -> bool {
    static ON: OnceLock<bool> = OnceLock::new();
    *ON.get_or_init(|| std::env::var_os("RUSTORCH_JIT").is_none_or(|value| value != "0"))
}

/// Whether a step can be a part of machine code.
pub fn knows(fused: &Fused, step: &Step) -> bool {
    let is_known = |value: &ValueId| matches!(fused.values[*value], DType::F32 | DType::Bool);
    if !step.reads().iter().all(is_known) || !step.makes().iter().all(is_known) {
        return false;
    }
    let mut code = Code::default();
    let inputs: Vec<Id> = step.reads().iter().enumerate().map(|(slot, _)| code.push(Op::Load(slot))).collect();
    translate(fused, step, &mut code, &inputs).is_some()
}

fn translate(fused: &Fused, step: &Step, code: &mut Code, inputs: &[Id]) -> Option<Id> {
    match step {
        Step::Apply { row, compute: DType::F32, scalars, .. } => {
            rows::float_row(row.name, code, inputs, scalars.floats.map(|value| value as f32))
        }
        Step::Apply { row, compute: DType::Bool, .. } => rows::mask_row(row.name, code, inputs),
        Step::Cast { from, to } => match (fused.values[*from], fused.values[*to]) {
            (DType::Bool, DType::F32) => Some(code.mask_to_float(inputs[0])),
            (DType::F32, DType::Bool) => Some(code.is_true(inputs[0])),
            _ => None,
        },
        _ => None,
    }
}

/// Machine code for `steps`, all of which it knows. `is_uniform` says which values are the same in
/// every element, `is_wanted` which results something outside of the steps reads.
pub fn compile(
    fused: &Fused,
    steps: &[&Step],
    level: Level,
    is_uniform: impl Fn(ValueId) -> bool,
    is_wanted: impl Fn(ValueId) -> bool,
) -> Option<Machine> {
    if !is_on() || level == Level::Scalar {
        return None;
    }
    let mut code = Code::default();
    let mut slots: Vec<ValueId> = Vec::new();
    let mut slot_of = |value: ValueId| -> Slot {
        slots.iter().position(|&known| known == value).unwrap_or_else(|| {
            slots.push(value);
            slots.len() - 1
        })
    };
    let mut ids: HashMap<ValueId, Id> = HashMap::new();
    for step in steps {
        let inputs: Vec<Id> = step
            .reads()
            .into_iter()
            .map(|value| {
                *ids.entry(value).or_insert_with(|| {
                    let slot = slot_of(value);
                    code.push(match fused.values[value] {
                        DType::Bool => Op::LoadMask(slot),
                        _ if is_uniform(value) => Op::Uniform(slot),
                        _ => Op::Load(slot),
                    })
                })
            })
            .collect();
        let made = translate(fused, step, &mut code, &inputs)?;
        let value = step.makes()?;
        ids.insert(value, made);
        if is_wanted(value) {
            let slot = slot_of(value);
            code.push(if fused.values[value] == DType::Bool {
                Op::StoreMask(slot, made)
            } else {
                Op::Store(slot, made)
            });
        }
    }
    let pages = Pages::new(&assemble::assemble(&code, level)?)?;
    Some(Machine { pages, level, slots })
}
