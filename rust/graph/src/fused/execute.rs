//! Runs a fused kernel, block by block.

use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use rustorch_kernels::error::{Error, Result};
use rustorch_kernels::isa::{self, Level};
use rustorch_kernels::ops::row::INPUTS;
use rustorch_kernels::reduce::{Fold, LANES, Runs, Source};
use rustorch_kernels::scratch::Scratch;
use rustorch_kernels::threads;
use smallvec::SmallVec;

use super::jit::{Direction, Machine, Use};
use super::ready::{BLOCK, BUFFER, Direct, Folding, Load, Place, Pointed, Reach, Ready, Segment, Work};

/// Elements of a task, about, where there are blocks and where there are none; fixed, so that the thread count
/// never moves a boundary.
const TASK: [usize; 2] = [16 * 1024, 64 * 1024];
/// What a step costs, in elements a nanosecond.
const ELEMENTS_PER_NANOSECOND: usize = 4;

/// The addresses of a kernel's operands.
pub type Bases = SmallVec<[*mut u8; 16]>;

/// The addresses of machine code's slots.
type Pointers = SmallVec<[*mut u8; 16]>;

/// Memory of a turn of one value.
#[repr(align(64))]
struct Turn<const BYTES: usize>([u8; BYTES]);

/// What machine code folds a run's elements into.
#[repr(align(64))]
struct Lanes(#[allow(dead_code, reason = "machine code reads it")] [f32; LANES]);

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
        let task = TASK[usize::from(self.direct.is_some())];
        let chunk = if self.row <= task { task / self.row * self.row } else { task };
        let starved = AtomicBool::new(false);
        threads::parallel_chunks(self.numel, chunk, self.nanoseconds(), |range| {
            let bases = &bases;
            let Ok(scratch) = self.scratch(level) else {
                return starved.store(true, Ordering::Relaxed);
            };
            // SAFETY: the range is within the iteration.
            unsafe {
                let mut task = Task::new(self, bases.0, scratch.as_ref(), level);
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
    pub unsafe fn run_range(&self, bases: &[*mut u8], range: Range<usize>) -> Result<()> {
        let scratch = self.scratch(isa::level())?;
        // SAFETY: the caller's promise.
        unsafe {
            let mut task = Task::new(self, bases, scratch.as_ref(), isa::level());
            task.begin();
            task.run(range);
        }
        Ok(())
    }

    /// As [`Ready::run_range`], for the elements of all runs, at the level of whoever launched the kernel.
    ///
    /// # Safety
    /// As there.
    pub unsafe fn run_runs(&self, bases: &[*mut u8], runs: Runs, level: Level) -> Result<()> {
        let scratch = self.scratch(level)?;
        // SAFETY: the caller's promise.
        unsafe {
            let mut task = Task::new(self, bases, scratch.as_ref(), level);
            task.begin();
            task.runs(runs);
        }
        Ok(())
    }

    /// Memory for a task's buffers, where there may be one that is used.
    fn scratch(&self, level: Level) -> Result<Option<Scratch<u8>>> {
        let is_needed = self.direct.is_none() || !self.uniform_loads.is_empty() || self.level != level;
        is_needed.then(|| Scratch::new(self.buffers * BUFFER)).transpose()
    }

    fn unless(&self, starved: bool) -> Result<()> {
        if starved { Err(Error::OutOfMemory { bytes: self.buffers * BUFFER }) } else { Ok(()) }
    }

    pub fn nanoseconds(&self) -> usize {
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
    /// The place in the sink of the first element that is asked for.
    first: usize,
    level: Level,
    starved: AtomicBool,
}

impl<'a> Computed<'a> {
    /// # Safety
    /// As for [`Ready::run`], but for the sink's address where it is not stored.
    pub unsafe fn new(ready: &'a Ready, bases: &'a [*mut u8], sink: usize, is_stored: bool, first: usize) -> Self {
        let (bases, starved) = (Shared(bases), AtomicBool::new(false));
        Self { ready, bases, sink, is_stored, first, level: isa::level(), starved }
    }

    /// The machine code that folds so.
    fn folding(&self, fold: Fold, direction: Direction) -> Option<&Folding> {
        let is_it = |folding: &&Folding| {
            (folding.fold, folding.direction, folding.machine.level) == (fold, direction, self.level)
        };
        self.ready.folding.as_ref().filter(is_it).filter(|_| !self.is_stored)
    }

    /// Memory for what machine code reads of buffers.
    fn fold_scratch(&self, direct: Option<&Direct>) -> Result<Option<Scratch<u8>>> {
        let is_needed = direct.is_none() || !self.ready.uniform_loads.is_empty();
        is_needed.then(|| Scratch::new(self.ready.buffers * BUFFER)).transpose()
    }

    /// Whether all was computed.
    pub fn finish(&self) -> Result<()> {
        self.ready.unless(self.starved.load(Ordering::Relaxed))
    }
}

impl Source for Computed<'_> {
    unsafe fn compute(&self, runs: Runs, to: Option<*mut u8>) {
        let Runs { start, length, count, step } = Runs { start: self.first + runs.start, ..runs };
        let (length, count) = if step == length { (length * count, 1) } else { (length, count) };
        let element = self.ready.lanes[self.sink].element;
        let Ok(scratch) = self.ready.scratch(self.level) else {
            if let Some(to) = to {
                // SAFETY: the caller's promise; `finish` says that these are not the elements.
                unsafe { to.write_bytes(0, length * count * element) };
            }
            return self.starved.store(true, Ordering::Relaxed);
        };
        let mut task = Task::new(self.ready, self.bases.0, scratch.as_ref(), self.level);
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

    unsafe fn fold(&self, fold: Fold, runs: Runs, results: *mut f32) -> usize {
        let ready = self.ready;
        let Some(Folding { machine, direct, .. }) = self.folding(fold, Direction::Along) else { return 0 };
        let runs = Runs { start: self.first + runs.start, ..runs };
        let done = runs.length / LANES * LANES;
        if done == 0 {
            return 0;
        }
        let Ok(scratch) = self.fold_scratch(direct.as_ref()) else { return 0 };
        let mut task = Task::new(ready, self.bases.0, scratch.as_ref(), self.level);
        if scratch.is_some() {
            // SAFETY: the caller's promise.
            unsafe { task.fill(BLOCK) };
        }
        if let Some(direct) = direct
            && runs.start % ready.row + done <= ready.row
            && let Some(mut steps) = ready.steps(&direct.reaches, runs.step)
        {
            let (mut before, mut after) = (Lanes([fold.identity(); LANES]), MaybeUninit::<Lanes>::uninit());
            let mut pointers = task.pointers(&direct.reaches, runs.start);
            pointers.extend([(&raw mut before).cast(), after.as_mut_ptr().cast(), results.cast()]);
            steps.extend([0, 0, size_of::<f32>() as isize]);
            // SAFETY: the caller's promise; each run is within a row, and all rows are as far from the next.
            unsafe { machine.run(done, &mut pointers, runs.count, &steps) };
            return done;
        }
        // Blocks end at multiples of a row: within a run, only where all lanes are full.
        let fits = |start: usize| {
            let at = start % ready.row;
            at + done <= ready.row || (ready.row.is_multiple_of(LANES) && at.is_multiple_of(LANES))
        };
        let starts = (0..runs.count).map(|run| runs.start + run * runs.step);
        if !starts.clone().all(fits) {
            return 0;
        }
        for (run, start) in starts.enumerate() {
            let mut lanes = Lanes([fold.identity(); LANES]);
            // SAFETY: as above; there is a result for each run.
            unsafe { task.fold(machine, direct.as_ref(), start..start + done, &mut lanes, results.add(run)) };
        }
        done
    }

    unsafe fn fold_across(&self, fold: Fold, runs: Runs, line: *mut f32) -> usize {
        let ready = self.ready;
        let Some(Folding { machine, direct: Some(direct), .. }) = self.folding(fold, Direction::Across) else {
            return 0;
        };
        let start = self.first + runs.start;
        let done = runs.length / machine.width() * machine.width();
        let Some(mut steps) = ready.steps(&direct.reaches, runs.step) else { return 0 };
        if done == 0 || start % ready.row + done > ready.row {
            return 0;
        }
        let Ok(scratch) = self.fold_scratch(Some(direct)) else { return 0 };
        let mut task = Task::new(ready, self.bases.0, scratch.as_ref(), self.level);
        if scratch.is_some() {
            // SAFETY: the caller's promise.
            unsafe { task.fill(1) };
        }
        let mut pointers = task.pointers(&direct.reaches, start);
        pointers.push(line.cast());
        steps.push(0);
        // SAFETY: the caller's promise; each run is within a row, and all rows are as far from the next.
        unsafe { machine.run(done, &mut pointers, runs.count, &steps) };
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
    fn new(ready: &'a Ready, bases: &[*mut u8], scratch: Option<&Scratch<u8>>, level: Level) -> Self {
        let scratch = scratch.map_or(std::ptr::null_mut(), Scratch::ptr);
        Self { ready, bases: bases.into(), scratch, level, at: SmallVec::new() }
    }
}

impl<'a> Task<'a> {
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

    /// The machine code that is all that there is to run, and where it finds its slots.
    fn direct(&self) -> Option<(&'a Machine, &'a Direct)> {
        let direct = self.ready.direct.as_ref().filter(|_| self.level == self.ready.level)?;
        Some((self.ready.segments.first()?.machine.as_ref()?, direct))
    }

    /// Computes what is the same in every element.
    ///
    /// # Safety
    /// The operands are valid.
    unsafe fn begin(&mut self) {
        let is_direct = self.direct().is_some();
        if !is_direct || !self.ready.uniform_loads.is_empty() {
            // SAFETY: passed on.
            unsafe { self.fill(if is_direct { 1 } else { BLOCK }) };
        }
    }

    /// As [`Self::begin`], so many times over.
    ///
    /// # Safety
    /// As there.
    unsafe fn fill(&mut self, count: usize) {
        let ready = self.ready;
        for &(operand, buffer) in &ready.uniform_loads {
            // SAFETY: one element, into a buffer of a block.
            unsafe { (ready.moves[operand].run)(self.level, count, self.bases[operand], 0, self.buffer(buffer), 1) };
        }
        self.at = ready.places.iter().map(|place| self.buffer(place.buffer())).collect();
        // SAFETY: their values have buffers of their own.
        unsafe { self.works(&ready.uniform, 0, count) };
    }

    /// # Safety
    /// The range is within the iteration.
    unsafe fn run(&mut self, range: Range<usize>) {
        let ready = self.ready;
        if let Some((machine, direct)) = self.direct() {
            let piece = |pointers: &mut Pointers, count: usize, rows: usize| {
                // SAFETY: as promised; the slots are where they are reached.
                unsafe {
                    if rows > 1 {
                        machine.run(count, pointers, rows, direct.steps.as_deref().unwrap_or(&[]));
                    } else {
                        self.turns(machine, pointers, count);
                    }
                }
            };
            return self.pieces(direct, range, piece);
        }
        let mut start = range.start;
        while start < range.end {
            let count = BLOCK.min(range.end - start).min(ready.row - start % ready.row);
            // SAFETY: as promised.
            unsafe { self.block(start, count) };
            start += count;
        }
    }

    /// As [`Self::run`], for each of the runs: where they move along one dimension, with one call.
    ///
    /// # Safety
    /// As there.
    unsafe fn runs(&mut self, Runs { start, length, count, step }: Runs) {
        let ready = self.ready;
        if count > 1
            && start % ready.row + length <= ready.row
            && let Some((machine, direct)) = self.direct()
            && let Some(steps) = ready.steps_from(&direct.reaches, start, step, count)
        {
            let whole = length / machine.width() * machine.width();
            let mut pointers = self.pointers(&direct.reaches, start);
            // SAFETY: as promised; each run is within a row, and all are as far from the next.
            unsafe {
                if whole > 0 {
                    machine.run(whole, &mut pointers.clone(), count, &steps);
                }
                for _ in 0..if whole < length { count } else { 0 } {
                    self.last_turn(machine, &pointers, whole, length - whole);
                    pointers.iter_mut().zip(&steps).for_each(|(at, &step)| *at = at.wrapping_offset(step));
                }
            }
            return;
        }
        for run in 0..count {
            let start = start + run * step;
            // SAFETY: as promised.
            unsafe { self.run(start..start + length) };
        }
    }

    /// Where slots are at element `start`.
    fn pointers(&self, reaches: &[Reach], start: usize) -> Pointers {
        let locate = |reach: &Reach| match *reach {
            Reach::Buffer(buffer) => self.buffer(buffer),
            Reach::Operand(operand) => self.bases[operand].wrapping_offset(self.ready.lanes[operand].offset(start)),
        };
        reaches.iter().map(locate).collect()
    }

    /// Calls `piece(pointers, count, rows)` for each part of a row in the range, or for whole rows together
    /// where they are alike.
    fn pieces(&self, direct: &Direct, range: Range<usize>, mut piece: impl FnMut(&mut Pointers, usize, usize)) {
        let row = self.ready.row;
        let are_alike = direct.is_even && direct.steps.is_some();
        let mut start = range.start;
        while start < range.end {
            let (left, of_row) = (range.end - start, start % row);
            let rows = if are_alike && of_row == 0 { (left / row).max(1) } else { 1 };
            let count = (row - of_row).min(left);
            piece(&mut self.pointers(&direct.reaches, start), count, rows);
            start += count * rows;
        }
    }

    /// Runs machine code for so many elements of its slots' blocks.
    ///
    /// # Safety
    /// The blocks are valid for them.
    unsafe fn turns(&self, machine: &Machine, blocks: &mut [*mut u8], count: usize) {
        let rest = count % machine.width();
        // SAFETY: as promised; the level is the machine's.
        unsafe {
            if rest < count {
                machine.run(count - rest, blocks, 1, &[]);
            }
            if rest > 0 {
                self.last_turn(machine, blocks, count - rest, rest);
            }
        }
    }

    /// Runs machine code for fewer elements than a turn has, in memory of its own.
    ///
    /// # Safety
    /// As above, for elements `done..done + count`.
    #[inline(never)]
    unsafe fn last_turn(&self, machine: &Machine, blocks: &[*mut u8], done: usize, count: usize) {
        const BYTES: usize = LANES * size_of::<f32>();
        let mut memory: SmallVec<[MaybeUninit<Turn<BYTES>>; 12]> = SmallVec::new();
        memory.resize_with(blocks.len(), MaybeUninit::uninit);
        let places = machine.slots.iter().zip(blocks).map(|(&(value, used), &block)| {
            let element = self.ready.elements[value];
            let done = if used == Use::ReadOne { 0 } else { done * element };
            (used, block.wrapping_add(done), count * element)
        });
        let mut pointers = Pointers::new();
        // SAFETY: a turn has at most `LANES` elements of at most four bytes.
        unsafe {
            for ((used, block, bytes), turn) in places.clone().zip(&mut memory) {
                if used == Use::Read {
                    block.cast_const().copy_to_nonoverlapping(turn.as_mut_ptr().cast(), bytes);
                }
                pointers.push(if used == Use::ReadOne { block } else { turn.as_mut_ptr().cast() });
            }
            machine.run(machine.width(), &mut pointers, 1, &[]);
            for ((used, block, bytes), &turn) in places.zip(&pointers) {
                if used == Use::Write {
                    turn.cast_const().copy_to_nonoverlapping(block, bytes);
                }
            }
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
    /// As there; rows are whole turns, and `result` is valid.
    unsafe fn fold(
        &mut self,
        machine: &Machine,
        direct: Option<&Direct>,
        range: Range<usize>,
        lanes: &mut Lanes,
        result: *mut f32,
    ) {
        // From the lanes to the lanes: the last piece's result is that of all.
        let lanes = std::ptr::from_mut(lanes).cast();
        let folded = [lanes, lanes, result.cast()];
        if let Some(direct) = direct {
            // All rows in the same lanes.
            let mut steps: Pointed = direct.steps.clone().unwrap_or_default();
            steps.extend(folded.map(|_| 0));
            return self.pieces(direct, range, |pointers, count, rows| {
                pointers.extend(folded);
                // SAFETY: as promised; the level is the machine's.
                unsafe { machine.run(count, pointers, rows, &steps) };
            });
        }
        let mut start = range.start;
        while start < range.end {
            let count = BLOCK.min(range.end - start).min(self.ready.row - start % self.ready.row);
            self.load(start, count, true);
            let mut blocks = self.blocks(machine, start);
            blocks.extend(folded);
            // SAFETY: as above.
            unsafe { machine.run(count, &mut blocks, 1, &[]) };
            start += count;
        }
    }

    /// Where machine code finds its slots in the block at `start`.
    fn blocks(&self, machine: &Machine, start: usize) -> Pointers {
        let block = |&(value, _): &(usize, Use)| match self.ready.places[value] {
            Place::Repeated { operand, .. } => {
                self.bases[operand].wrapping_offset(self.ready.lanes[operand].offset(start))
            }
            _ => self.at[value],
        };
        machine.slots.iter().map(block).collect()
    }

    /// Makes a block's operands ready to read, by machine code alone or by others too.
    fn load(&mut self, start: usize, count: usize, is_by_machine: bool) {
        let ready = self.ready;
        self.place(start, count);
        for &Load { operand, to, buffer, is_for_machine } in &ready.loads {
            let is_by_machine = is_by_machine || (is_for_machine && ready.level == self.level);
            let is_repeated = matches!(ready.places[to], Place::Repeated { .. });
            if self.at[to] != self.buffer(buffer) || (is_repeated && is_by_machine) {
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
        let ready = self.ready;
        self.load(start, count, false);
        for Segment { works, machine } in &ready.segments {
            // SAFETY: the values of a block are apart from each other, and as long as it.
            unsafe {
                match machine.as_ref().filter(|_| ready.level == self.level) {
                    Some(machine) => self.turns(machine, &mut self.blocks(machine, start), count),
                    None => self.works(works, start, count),
                }
            }
        }
    }

    /// Runs works for the block at `start`.
    unsafe fn works(&self, works: &[Work], start: usize, count: usize) {
        for work in works {
            match work {
                Work::Apply { block, inputs, to, scalars } => {
                    let mut from = [std::ptr::null(); INPUTS];
                    for (from, &value) in from.iter_mut().zip(inputs) {
                        *from = self.at[value].cast_const();
                    }
                    // SAFETY: blocks of the types that the steps say, apart from each other.
                    unsafe { (block.run)(self.level, count, from, self.at[*to], scalars) };
                }
                Work::Cast { cast, from, to } => {
                    // SAFETY: as above.
                    unsafe { (cast.run)(self.level, count, self.at[*from], 1, self.at[*to], 1) };
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
            Place::Buffer(_) | Place::Repeated { .. } => false,
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
