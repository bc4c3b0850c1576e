//! Instructions over the same rows, run for some rows at a time: what one leaves for the next is read
//! while it is in the cache, and what nothing else reads never has more memory than those rows.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use rustorch_kernels::error::{Error, Result};
use rustorch_kernels::ops::{Entry, Row};
use rustorch_kernels::scratch::Scratch;
use rustorch_kernels::threads;
use rustorch_kernels::view::View;
use smallvec::SmallVec;

use crate::fused::Fused;
use crate::program::{BufferId, Instruction, Kernel, Operand, Reduced};
use crate::reduced::Extent;
use crate::run;

/// What a task costs, in elements a nanosecond.
const ELEMENTS_PER_NANOSECOND: usize = 2;

/// One instruction, cut into rows.
#[derive(Clone)]
pub struct Part {
    /// Its operands have the rows as their first dimension.
    pub instruction: Instruction,
    /// Elements of a row of its iteration.
    pub width: usize,
}

/// Memory of some rows of a buffer that nothing outside of the tile reads.
#[derive(Clone, Copy)]
pub struct Local {
    pub buffer: BufferId,
    /// Of the first of the rows at hand, in the scratch memory of a tile.
    pub scratch: usize,
    /// Of the first row in the buffer, and from row to row, in bytes.
    pub offset: usize,
    pub step: usize,
}

/// See the module. Its instruction's operands are those of its parts that are in memory.
#[derive(Clone)]
pub struct Tiled {
    pub rows: usize,
    /// Rows at a time; fixed, so that the thread count never moves a boundary.
    pub tile: usize,
    pub parts: Vec<Part>,
    pub locals: Vec<Local>,
    pub scratch_bytes: usize,
    pub outputs: usize,
}

impl Tiled {
    /// # Safety
    /// `base` gives the addresses of the operands' buffers, which are valid for them.
    pub unsafe fn run(&self, base: impl Fn(&Operand) -> *mut u8 + Sync) -> Result<()> {
        let elements: usize = self.parts.iter().map(|part| part.width * self.rows).sum();
        let failure = Mutex::new(None);
        threads::parallel_chunks(self.rows, self.tile, elements / ELEMENTS_PER_NANOSECOND, |rows| {
            // SAFETY: the caller's promise; tasks have rows of their own.
            let done = Scratch::<u8>::new(self.scratch_bytes).and_then(|scratch| unsafe {
                let base = |operand: &Operand| match self.local(operand.buffer) {
                    Some(local) => scratch
                        .ptr()
                        .wrapping_add(local.scratch)
                        .wrapping_sub(local.offset)
                        .wrapping_sub(rows.start * local.step),
                    None => base(operand),
                };
                self.parts.iter().try_for_each(|part| part.run(rows.clone(), base))
            });
            if let Err(error) = done {
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        });
        failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    fn local(&self, buffer: Option<BufferId>) -> Option<&Local> {
        self.locals.iter().find(|local| Some(local.buffer) == buffer)
    }

    pub fn operations(&self) -> usize {
        let fused = |part: &Part| match &part.instruction.kernel {
            Kernel::Fused(fused) => fused.operations(),
            Kernel::Reduced(reduced) => reduced.fused.operations() + 1,
            _ => 1,
        };
        self.parts.iter().map(|part| fused(part) * part.width * self.rows).sum()
    }
}

impl Part {
    /// # Safety
    /// As for [`Tiled::run`], for these rows.
    unsafe fn run(&self, rows: Range<usize>, base: impl Fn(&Operand) -> *mut u8) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe {
            match &self.instruction.kernel {
                Kernel::Row(row) => self.launch(row, rows, base),
                Kernel::Fused(fused) => self.run_fused(fused, rows, base),
                Kernel::Reduced(reduced) => self.run_reduced(reduced, rows, base),
                Kernel::Epilogue(_) | Kernel::Tiled(_) => Err(Error::Runtime("a tile of tiles".into())),
            }
        }
    }

    unsafe fn run_fused(&self, fused: &Fused, rows: Range<usize>, base: impl Fn(&Operand) -> *mut u8) -> Result<()> {
        let bases = run::bases(&self.instruction.operands, base);
        // SAFETY: the caller's promise.
        unsafe { run::ready(fused)?.run_range(&bases, rows.start * self.width..rows.end * self.width) }
    }

    unsafe fn run_reduced(
        &self,
        reduced: &Reduced,
        rows: Range<usize>,
        base: impl Fn(&Operand) -> *mut u8,
    ) -> Result<()> {
        let outputs = self.instruction.outputs() - reduced.fused.outputs;
        let (results, operands) = self.instruction.operands.split_at(outputs);
        let (bases, is_stored) = (run::bases(operands, &base), operands[reduced.sink].buffer.is_some());
        let (sizes, input) = (of_rows(results, &rows), of_rows(std::slice::from_ref(&reduced.input), &rows));
        let extent = Extent { first: rows.start * self.width, sizes: &input[0] };
        // SAFETY: the caller's promise.
        unsafe {
            let views = views(results, &sizes, rows.start, &base);
            reduced.run(views, &self.instruction.attrs(), &bases, is_stored, extent)
        }
    }

    unsafe fn launch(&self, row: &Row, rows: Range<usize>, base: impl Fn(&Operand) -> *mut u8) -> Result<()> {
        let sizes = of_rows(&self.instruction.operands, &rows);
        // SAFETY: the caller's promise.
        let views = unsafe { views(&self.instruction.operands, &sizes, rows.start, &base) };
        match row.entry {
            Entry::Kernel(run) => run(&views, &self.instruction.attrs()),
            Entry::Pointwise(_) => Err(Error::Runtime("a tile of a pointwise row that is not fused".into())),
        }
    }
}

type Sizes = SmallVec<[SmallVec<[i64; 6]>; 8]>;

/// The operands' sizes, for so many rows.
fn of_rows(operands: &[Operand], rows: &Range<usize>) -> Sizes {
    let mut sizes = Sizes::new();
    for operand in operands {
        let mut list = SmallVec::from_slice(&operand.sizes);
        if let Some(first) = list.first_mut() {
            *first = rows.len() as i64;
        }
        sizes.push(list);
    }
    sizes
}

/// The operands from a row on, in the memory of this run.
///
/// # Safety
/// The buffers are valid for the operands while the views are used.
unsafe fn views<'a>(
    operands: &'a [Operand],
    sizes: &'a Sizes,
    row: usize,
    base: impl Fn(&Operand) -> *mut u8,
) -> SmallVec<[View<'a>; 8]> {
    let mut views = SmallVec::new();
    for (operand, sizes) in operands.iter().zip(sizes) {
        views.push(if operand.present {
            let step = operand.strides.first().map_or(0, |&stride| stride as usize * operand.dtype.size());
            let data = base(operand).wrapping_add(operand.offset + row * step);
            // SAFETY: the caller's promise.
            unsafe { View::new(data, operand.dtype, sizes, &operand.strides) }
        } else {
            View::absent()
        });
    }
    views
}
