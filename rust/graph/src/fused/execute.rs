//! Runs a fused kernel, block by block.

use std::sync::atomic::{AtomicBool, Ordering};

use rustorch_kernels::error::{Error, Result};
use rustorch_kernels::isa::{self, Level};
use rustorch_kernels::ops::row::INPUTS;
use rustorch_kernels::reduce::{Fold, LANES, Runs, Source};
use rustorch_kernels::scratch::Scratch;
use rustorch_kernels::threads;
use smallvec::SmallVec;

use super::jit::Machine;
use super::ready::{BLOCK, BUFFER, Load, Place, Ready, Segment, Work};

/// Elements of a task, about; fixed, so that the thread count never moves a boundary.
const TASK: usize = 16 * 1024;
/// What a step costs, in elements a nanosecond.
const ELEMENTS_PER_NANOSECOND: usize = 4;

/// The addresses of a kernel's operands.
pub type Bases = SmallVec<[*mut u8; 16]>;

struct Shared<'a>(&'a [*mut u8]);

// SAFETY: addresses; tasks write disjoint ranges of the outputs.
unsafe impl Sync for Shared<'_> {}

impl Ready {
    /// # Safety
    /// `bases` are the addresses of the operands' first elements; they are valid for the shapes
    /// that the kernel was laid out for.
    pub unsafe fn run(&self, bases: &[*mut u8]) -> Result<()> {
        let bases = Shared(bases);
        let level = isa::level();
        let chunk = if self.row <= TASK { TASK / self.row * self.row } else { TASK };
        let starved = AtomicBool::new(false);
        threads::parallel_chunks(self.numel, chunk, self.nanoseconds(), |range| {
            let bases = &bases;
            let Ok(scratch) = self.scratch() else {
                return starved.store(true, Ordering::Relaxed);
            };
            // SAFETY: the range is within the iteration.
            unsafe {
                let mut task = Task::new(self, bases.0, &scratch, level);
                task.begin();
                task.run(range);
            }
        });
        self.unless(starved.into_inner())
    }

    /// As [`Ready::run`], for elements of this range and on this thread.
    ///
    /// # Safety
    /// As there.
    pub unsafe fn run_range(&self, bases: &[*mut u8], range: std::ops::Range<usize>) -> Result<()> {
        let scratch = self.scratch()?;
        // SAFETY: the caller's promise.
        unsafe {
            let mut task = Task::new(self, bases, &scratch, isa::level());
            task.begin();
            task.run(range);
        }
        Ok(())
    }

    fn scratch(&self) -> Result<Scratch<u8>> {
        Scratch::new(self.buffers * BUFFER)
    }

    fn unless(&self, starved: bool) -> Result<()> {
        if starved { Err(Error::OutOfMemory { bytes: self.buffers * BUFFER }) } else { Ok(()) }
    }

    fn nanoseconds(&self) -> usize {
        let steps: usize = self.segments.iter().map(|segment| segment.works.len()).sum();
        self.numel * (steps + self.loads.len()) / ELEMENTS_PER_NANOSECOND
    }
}

/// A kernel whose stored operand `sink` is computed as a reduction asks for it; that operand is dense.
pub struct Computed<'a> {
    ready: &'a Ready,
    bases: Shared<'a>,
    sink: usize,
    /// Whether the sink has memory.
    is_stored: bool,
    level: Level,
    starved: AtomicBool,
}

impl<'a> Computed<'a> {
    /// # Safety
    /// As for [`Ready::run`], but for the sink's address where it is not stored.
    pub unsafe fn new(ready: &'a Ready, bases: &'a [*mut u8], sink: usize, is_stored: bool) -> Self {
        Self { ready, bases: Shared(bases), sink, is_stored, level: isa::level(), starved: AtomicBool::new(false) }
    }

    /// Whether all was computed.
    pub fn finish(&self) -> Result<()> {
        self.ready.unless(self.starved.load(Ordering::Relaxed))
    }
}

impl Source for Computed<'_> {
    unsafe fn compute(&self, runs: Runs, to: Option<*mut u8>) {
        let Runs { start, length, count, step } = runs;
        let (length, count) = if step == length { (length * count, 1) } else { (length, count) };
        let element = self.ready.lanes[self.sink].element;
        let Ok(scratch) = self.ready.scratch() else {
            if let Some(to) = to {
                // SAFETY: the caller's promise; `finish` says that these are not the elements.
                unsafe { to.write_bytes(0, length * count * element) };
            }
            return self.starved.store(true, Ordering::Relaxed);
        };
        let mut task = Task::new(self.ready, self.bases.0, &scratch, self.level);
        // SAFETY: the caller's promise.
        unsafe { task.begin() };
        for run in 0..count {
            let first = start + run * step;
            if let Some(to) = to {
                // The address at which element `first` is the run's place.
                task.bases[self.sink] = to.wrapping_add(run * length * element).wrapping_sub(first * element);
            }
            // SAFETY: the run is within the iteration, and its place holds it.
            unsafe { task.run(first..first + length) };
        }
    }

    unsafe fn fold(&self, fold: Fold, runs: Runs, lanes: *mut f32) -> usize {
        let ready = self.ready;
        let machine = match &ready.fold {
            Some((known, machine)) if *known == fold && machine.level == self.level && !self.is_stored => machine,
            _ => return 0,
        };
        let done = runs.length / LANES * LANES;
        // Blocks end at multiples of a row: within a run, only where all lanes are full.
        let fits = |start: usize| {
            let at = start % ready.row;
            at + done <= ready.row || (ready.row.is_multiple_of(LANES) && at.is_multiple_of(LANES))
        };
        let starts = (0..runs.count).map(|run| runs.start + run * runs.step);
        if !starts.clone().all(fits) {
            return 0;
        }
        let Ok(scratch) = ready.scratch() else { return 0 };
        let mut task = Task::new(ready, self.bases.0, &scratch, self.level);
        // SAFETY: the caller's promise.
        unsafe { task.begin() };
        for (run, start) in starts.enumerate() {
            // SAFETY: as above; the lanes of all runs are valid.
            unsafe { task.fold(machine, start..start + done, lanes.add(run * LANES)) };
        }
        done
    }

    fn is_stored(&self) -> bool {
        self.is_stored
    }

    fn nanoseconds(&self) -> usize {
        self.ready.nanoseconds()
    }
}

struct Task<'a> {
    ready: &'a Ready,
    bases: Bases,
    scratch: *mut u8,
    level: Level,
    /// Where each value of the current block is.
    at: SmallVec<[*mut u8; 32]>,
}

impl<'a> Task<'a> {
    fn new(ready: &'a Ready, bases: &[*mut u8], scratch: &Scratch<u8>, level: Level) -> Self {
        Self {
            ready,
            bases: bases.into(),
            scratch: scratch.ptr(),
            level,
            at: SmallVec::from_elem(std::ptr::null_mut(), ready.places.len()),
        }
    }
}

impl Task<'_> {
    fn buffer(&self, number: usize) -> *mut u8 {
        self.scratch.wrapping_add(number * BUFFER)
    }

    /// The operand's own memory at `start`, where `count` elements are dense there.
    #[inline]
    fn in_place(&self, operand: usize, start: usize, count: usize) -> Option<*mut u8> {
        let lane = &self.ready.lanes[operand];
        let base = self.bases[operand];
        if lane.is_line() {
            return Some(base.wrapping_add(start * lane.element));
        }
        let run = lane.dense_run();
        (run > 0 && run - start % run >= count).then(|| base.wrapping_offset(lane.offset(start)))
    }

    /// Computes what is the same in every element.
    ///
    /// # Safety
    /// The operands are valid.
    unsafe fn begin(&mut self) {
        let ready = self.ready;
        for &(operand, buffer) in &ready.uniform_loads {
            // SAFETY: one element, into a buffer of a block.
            unsafe { (ready.moves[operand].run)(self.level, BLOCK, self.bases[operand], 0, self.buffer(buffer), 1) };
        }
        for (value, place) in ready.places.iter().enumerate() {
            self.at[value] = self.buffer(place.buffer());
        }
        // SAFETY: their values have buffers of their own.
        unsafe { self.works(&ready.uniform, 0, 0, BLOCK) };
    }

    /// # Safety
    /// The range is within the iteration.
    unsafe fn run(&mut self, range: std::ops::Range<usize>) {
        let ready = self.ready;
        let mut start = range.start;
        while start < range.end {
            let count = BLOCK.min(range.end - start).min(ready.row - start % ready.row);
            // SAFETY: as promised.
            unsafe { self.block(start, count) };
            start += count;
        }
    }

    /// Says where each value of a block is.
    fn place(&mut self, start: usize, count: usize) {
        for (value, place) in self.ready.places.iter().enumerate() {
            if let Place::Operand { operand, buffer } = *place {
                self.at[value] = self.in_place(operand, start, count).unwrap_or_else(|| self.buffer(buffer));
            }
        }
    }

    /// As [`Self::run`], by machine code that folds.
    ///
    /// # Safety
    /// As there; blocks are whole turns, and `lanes` is valid.
    unsafe fn fold(&mut self, machine: &Machine, range: std::ops::Range<usize>, lanes: *mut f32) {
        let mut start = range.start;
        while start < range.end {
            let count = BLOCK.min(range.end - start).min(self.ready.row - start % self.ready.row);
            self.load(start, count);
            let mut blocks: SmallVec<[*mut u8; 16]> = machine.slots.iter().map(|&value| self.at[value]).collect();
            blocks.push(lanes.cast());
            // SAFETY: as promised; the level is the machine's.
            unsafe { machine.run(count / machine.width(), &blocks) };
            start += count;
        }
    }

    /// Makes a block's operands ready to read.
    fn load(&mut self, start: usize, count: usize) {
        let ready = self.ready;
        self.place(start, count);
        for &Load { operand, to, buffer } in &ready.loads {
            if self.at[to] != self.buffer(buffer) {
                continue;
            }
            let (lane, move_row) = (&ready.lanes[operand], ready.moves[operand]);
            let mut to = self.buffer(buffer);
            lane.rows(start, count, |offset, stride, piece| {
                let from = self.bases[operand].wrapping_offset(offset);
                // SAFETY: a piece of a row of the operand; the buffer holds a block.
                unsafe { (move_row.run)(self.level, piece, from, stride / lane.element as isize, to, 1) };
                to = to.wrapping_add(piece * lane.element);
            });
        }
    }

    unsafe fn block(&mut self, start: usize, count: usize) {
        self.load(start, count);
        for segment in &self.ready.segments {
            // SAFETY: the values of a block are apart from each other, and as long as it.
            unsafe {
                let done = self.machine(segment, count);
                if done < count {
                    self.works(&segment.works, start, done, count - done);
                }
            }
        }
    }

    /// Runs a segment's machine code; gives how many elements it did.
    unsafe fn machine(&self, segment: &Segment, count: usize) -> usize {
        let Some(machine) = segment.machine.as_ref().filter(|machine| machine.level == self.level) else { return 0 };
        let vectors = count / machine.width();
        if vectors > 0 {
            let blocks: SmallVec<[*mut u8; 16]> = machine.slots.iter().map(|&value| self.at[value]).collect();
            // SAFETY: as promised; the level is this one.
            unsafe { machine.run(vectors, &blocks) };
        }
        vectors * machine.width()
    }

    /// Runs works for elements `done..done + count` of the block at `start`.
    unsafe fn works(&self, works: &[Work], start: usize, done: usize, count: usize) {
        let at = |value: usize| self.at[value].wrapping_add(done * self.ready.elements[value]);
        for work in works {
            match work {
                Work::Apply { block, inputs, to, scalars } => {
                    let mut from = [std::ptr::null(); INPUTS];
                    for (from, &value) in from.iter_mut().zip(inputs) {
                        *from = at(value).cast_const();
                    }
                    // SAFETY: blocks of the types that the steps say, apart from each other.
                    unsafe { (block.run)(self.level, count, from, at(*to), scalars) };
                }
                Work::Cast { cast, from, to } => {
                    // SAFETY: as above.
                    unsafe { (cast.run)(self.level, count, at(*from), 1, at(*to), 1) };
                }
                Work::Store { from, operand } => self.store(*from, *operand, start, count),
            }
        }
    }

    fn store(&self, value: usize, operand: usize, start: usize, count: usize) {
        let (lane, move_row) = (&self.ready.lanes[operand], self.ready.moves[operand]);
        let mut from = self.at[value];
        let is_there = match self.ready.places[value] {
            Place::Operand { operand: own, buffer } => own == operand && from != self.buffer(buffer),
            Place::Buffer(_) => false,
        };
        if is_there {
            return;
        }
        lane.rows(start, count, |offset, stride, piece| {
            let to = self.bases[operand].wrapping_offset(offset);
            // SAFETY: a piece of a row of the operand; the value's block holds it.
            unsafe { (move_row.run)(self.level, piece, from, 1, to, stride / lane.element as isize) };
            from = from.wrapping_add(piece * lane.element);
        });
    }
}
