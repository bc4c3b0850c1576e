//! Runs a product or convolution together with the fused kernel of its result: part by part, while that is in
//! the cache.

use std::sync::{Mutex, PoisonError};

use rustorch_kernels::error::{Error, Result};
use rustorch_kernels::finish::Finish;
use rustorch_kernels::index::contiguous_strides;
use rustorch_kernels::isa::{self, Level};
use rustorch_kernels::reduce::Runs;
use rustorch_kernels::view::{Attrs, View};

use crate::fused::{Bases, Ready};
use crate::program::{Epilogue, Operand};
use crate::run;

/// An epilogue's operands, by what they are to it.
#[derive(Clone, Copy)]
pub struct Operands<'a> {
    pub result: &'a Operand,
    pub stored: &'a [Operand],
    /// What the row reads.
    pub inputs: &'a [Operand],
    /// What the fused kernel loads, but for the result.
    pub loaded: &'a [Operand],
}

impl Epilogue {
    pub fn operands<'a>(&self, operands: &'a [Operand]) -> Option<Operands<'a>> {
        let (result, rest) = operands.split_first()?;
        let (stored, rest) = rest.split_at_checked(self.fused.outputs)?;
        let (inputs, loaded) = rest.split_at_checked(self.inputs)?;
        Some(Operands { result, stored, inputs, loaded })
    }

    /// The fused kernel's operands; the result in the order of its memory.
    pub fn of_fused(&self, Operands { result, stored, loaded, .. }: Operands<'_>) -> Vec<Operand> {
        let sizes = stored.first().map_or(&result.sizes, |stored| &stored.sizes);
        let sink =
            Operand { sizes: sizes.clone(), strides: contiguous_strides(sizes).as_slice().into(), ..result.clone() };
        let mut operands = [stored, loaded].concat();
        operands.insert(self.sink, sink);
        operands
    }

    /// Lays the fused kernel out for these operands of the instruction.
    pub fn prepare(&mut self, operands: &[Operand]) -> Result<()> {
        let operands = self.operands(operands).ok_or_else(missing)?;
        let operands = self.of_fused(operands);
        self.fused.prepare(&operands)
    }

    /// # Safety
    /// `views` are the row's, `bases` the addresses of the fused kernel's operands; all are valid.
    pub unsafe fn run(&self, views: &[View<'_>], attrs: &Attrs<'_>, bases: &Bases) -> Result<()> {
        let running =
            Running { ready: run::ready(&self.fused)?, bases, level: isa::level(), refusal: Mutex::new(None) };
        (self.launch)(views, attrs, Some(&running))?;
        running.refusal.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

pub fn missing() -> Error {
    Error::Runtime("an epilogue lacks operands".into())
}

/// The fused kernel of a run.
struct Running<'a> {
    ready: &'a Ready,
    bases: &'a Bases,
    level: Level,
    refusal: Mutex<Option<Error>>,
}

// SAFETY: addresses; each element is computed once, by the task that tells of it.
unsafe impl Sync for Running<'_> {}

impl Finish for Running<'_> {
    unsafe fn finish(&self, runs: Runs) {
        // SAFETY: the elements of the result are final, and the other operands were before it began.
        if let Err(error) = unsafe { self.ready.run_runs(self.bases, runs, self.level) } {
            *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
    }

    fn nanoseconds(&self) -> usize {
        self.ready.nanoseconds()
    }
}
