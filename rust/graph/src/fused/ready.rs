//! A fused kernel laid out for its operands: where each value of a block is, and which loop makes it.

use rustorch_kernels::dtype::DType;
use rustorch_kernels::error::{Error, Result};
use rustorch_kernels::isa::{self, Level};
use rustorch_kernels::loops::copy::Cast;
use rustorch_kernels::ops::Entry;
use rustorch_kernels::ops::row::{Block, INPUTS, Scalars};
use rustorch_kernels::reduce::Fold;
use smallvec::SmallVec;

use super::jit::{self, Direction, Machine, Use};
use super::lanes::Lane;
use super::schedule::Schedule;
use super::{Fused, Step, ValueId};
use crate::program::Operand;

/// Elements of a block: the values that are alive together stay in a small L1, and what is done once a
/// block does not show.
pub const BLOCK: usize = 1024;
/// Shorter runs than this are gathered, many to a block, and not used in place: where machine code runs all
/// steps, which takes a row in no time, and else.
const SHORT: [usize; 2] = [64, 256];
/// Bytes of a value's buffer; not a multiple of 4096, so that buffers do not compete for the same
/// cache sets.
pub const BUFFER: usize = BLOCK * 8 + 192;

/// Where a value's block is.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// A buffer of this number.
    Buffer(usize),
    /// In the operand's own memory, where the block is dense there; else in the buffer.
    Operand { operand: usize, buffer: usize },
    /// One element in the operand's own memory, the same along a row: machine code reads it there, others
    /// find it in the buffer, as often as the block is long.
    Repeated { operand: usize, buffer: usize },
}

impl Place {
    pub fn buffer(self) -> usize {
        match self {
            Self::Buffer(buffer) | Self::Operand { buffer, .. } | Self::Repeated { buffer, .. } => buffer,
        }
    }
}

pub enum Work {
    Apply {
        block: Block,
        inputs: SmallVec<[ValueId; INPUTS]>,
        to: ValueId,
        scalars: Scalars,
    },
    Cast {
        cast: Cast,
        from: ValueId,
        to: ValueId,
    },
    /// From a block to the operand's memory.
    Store {
        from: ValueId,
        operand: usize,
    },
}

/// Works that run as one: by machine code where there is any, or one by one.
pub struct Segment {
    pub works: Vec<Work>,
    pub machine: Option<Machine>,
}

/// An operand to gather into a buffer, where it is not used in its own memory.
pub struct Load {
    pub operand: usize,
    pub to: ValueId,
    pub buffer: usize,
    /// Whether nothing but machine code reads it.
    pub is_for_machine: bool,
}

/// Where machine code finds a value, without any block in between.
#[derive(Clone, Copy, Debug)]
pub enum Reach {
    /// The same for all: in a buffer.
    Buffer(usize),
    /// In the operand's memory.
    Operand(usize),
}

/// Where machine code finds all of its slots.
pub struct Direct {
    pub reaches: Vec<Reach>,
    /// The bytes from row to row, where they are the same for all rows.
    pub steps: Option<Pointed>,
    /// Whether a row is whole turns.
    pub is_even: bool,
}

/// Machine code that folds what is stored instead of storing it, and where that finds its slots.
pub struct Folding {
    pub fold: Fold,
    pub direction: Direction,
    pub machine: Machine,
    pub direct: Option<Direct>,
}

/// A number for each of machine code's slots.
pub type Pointed = SmallVec<[isize; 16]>;

/// See [`Fused::prepare`].
pub struct Ready {
    pub numel: usize,
    /// Blocks do not straddle multiples of it, so that rows are used in place.
    pub row: usize,
    pub lanes: Vec<Lane>,
    /// Moves of each operand's own dtype.
    pub moves: Vec<Cast>,
    pub loads: Vec<Load>,
    /// The operands that repeat one element, each with its buffer, and what is computed of them:
    /// once a task.
    pub uniform_loads: Vec<(usize, usize)>,
    pub uniform: Vec<Work>,
    pub segments: Vec<Segment>,
    pub places: Vec<Place>,
    /// Bytes of one element of each value.
    pub elements: Vec<usize>,
    pub buffers: usize,
    /// Where the machine code finds its slots, where it is all that runs.
    pub direct: Option<Direct>,
    pub folding: Option<Folding>,
    /// That the machine code is for.
    pub level: Level,
}

impl Ready {
    pub fn new(fused: &Fused, operands: &[Operand]) -> Result<Self> {
        let first = operands.first().ok_or_else(|| Error::Runtime("a fused kernel without operands".into()))?;
        let lanes: Vec<Lane> =
            operands.iter().map(|operand| Lane::new(&operand.sizes, &operand.strides, operand.dtype.size())).collect();
        let moves =
            operands.iter().map(|operand| Cast::new(operand.dtype, operand.dtype)).collect::<Result<Vec<_>>>()?;
        let numel = first.numel();
        let level = isa::level();
        let is_step = |step: &&Step| !matches!(step, Step::Load { .. } | Step::Store { .. });
        let is_whole = jit::is_on(level) && fused.steps.iter().filter(is_step).all(|step| jit::knows(fused, step));
        let short = SHORT[usize::from(!is_whole)];
        let row = lanes
            .iter()
            .filter(|lane| !lane.is_uniform())
            .map(|lane| lane.dense_run().max(lane.repeated_run()))
            .filter(|&run| run >= short)
            .min()
            .unwrap_or(numel)
            .max(1);
        let is_repeated =
            |lane: &Lane| !lane.is_uniform() && lane.repeated_run() > 0 && lane.repeated_run().is_multiple_of(row);
        let schedule =
            Schedule::new(fused, |operand| lanes[operand].is_uniform(), |operand| is_repeated(&lanes[operand]))?;
        let mut layout = Layout::new(fused, operands, &lanes, &schedule, short);
        for &at in &schedule.loads {
            if let Step::Load { operand, to } = fused.steps[at] {
                let buffer = operands[operand].buffer;
                let is_written = operands[..fused.outputs].iter().any(|stored| stored.buffer == buffer);
                if schedule.is_repeated[to] {
                    layout.repeat(operand, to, schedule.is_for_machine(fused, to));
                } else {
                    layout.load(operand, to, is_written && is_copied(fused, to));
                }
            }
        }
        let mut uniform = Vec::new();
        for &at in &schedule.uniform {
            layout.make_apart(&fused.steps[at]);
            uniform.push(work(fused, &fused.steps[at])?);
        }
        let mut segments = Vec::with_capacity(schedule.segments.len());
        for (number, segment) in schedule.segments.into_iter().enumerate() {
            let mut works = Vec::with_capacity(segment.steps.len());
            for &at in &segment.steps {
                layout.make(&fused.steps[at]);
                works.push(work(fused, &fused.steps[at])?);
            }
            // Only now, so that no result of a segment takes the memory of one of its inputs.
            for &at in &segment.steps {
                layout.release(&fused.steps[at], number);
            }
            segments.push(Segment { works, machine: segment.machine });
        }
        let Layout { loads, uniform_loads, places, buffers, .. } = layout;
        let elements = fused.values.iter().map(|dtype| dtype.size()).collect();
        let mut ready = Self {
            numel,
            row,
            lanes,
            moves,
            loads,
            uniform_loads,
            uniform,
            segments,
            places,
            elements,
            buffers,
            direct: None,
            folding: None,
            level,
        };
        ready.direct = ready.all_direct();
        Ok(ready)
    }

    /// Where the one segment of machine code finds its slots, if nothing else is to run.
    fn all_direct(&self) -> Option<Direct> {
        let (first, rest) = self.segments.split_first()?;
        let is_there = |work: &Work| {
            let Work::Store { from, operand } = *work else { return false };
            matches!(self.places[from], Place::Operand { operand: own, .. } if own == operand)
        };
        let is_done = rest.iter().flat_map(|segment| &segment.works).all(is_there);
        let is_loaded = |value: ValueId| self.loads.iter().any(|load| load.to == value);
        // What is loaded and stored as it is would not be made.
        let is_made = rest.iter().flat_map(|segment| &segment.works).all(|work| match *work {
            Work::Store { from, .. } => !is_loaded(from),
            _ => false,
        });
        if is_done && is_made { self.reaches(first.machine.as_ref()?) } else { None }
    }

    /// Where machine code finds its slots, if none of them is in a buffer for some blocks.
    fn reaches(&self, machine: &Machine) -> Option<Direct> {
        let reach = |&(value, used): &(ValueId, Use)| match self.places[value] {
            Place::Repeated { operand, .. } => Some(Reach::Operand(operand)),
            Place::Operand { operand, .. } => {
                let lane = &self.lanes[operand];
                let run = lane.dense_run();
                (lane.is_line() || (run > 0 && run.is_multiple_of(self.row))).then_some(Reach::Operand(operand))
            }
            Place::Buffer(buffer) => (used == Use::ReadOne).then_some(Reach::Buffer(buffer)),
        };
        let reaches: Vec<Reach> = machine.slots.iter().map(reach).collect::<Option<_>>()?;
        let steps = self.steps(&reaches, self.row);
        Some(Direct { reaches, steps, is_even: self.row.is_multiple_of(machine.width()) })
    }

    /// The bytes that slots move by so many elements, where they are the same from all rows.
    pub fn steps(&self, reaches: &[Reach], by: usize) -> Option<Pointed> {
        let step = |reach: &Reach| match *reach {
            Reach::Buffer(_) => Some(0),
            Reach::Operand(operand) => self.lanes[operand].step(self.row, by),
        };
        reaches.iter().map(step).collect()
    }

    /// As [`Self::steps`], for elements `start`, `start + by` and so on, of which there are `count`.
    pub fn steps_from(&self, reaches: &[Reach], start: usize, by: usize, count: usize) -> Option<Pointed> {
        let step = |reach: &Reach| match *reach {
            Reach::Buffer(_) => Some(0),
            Reach::Operand(operand) => self.lanes[operand].step_from(start, by, count),
        };
        reaches.iter().map(step).collect()
    }

    /// With machine code for `fold`, if there can be any: for all steps, whose one result is stored.
    pub fn with_fold(mut self, fused: &Fused, fold: Fold, direction: Direction) -> Self {
        let is_uniform = |value: ValueId| self.is_uniform(fused, value);
        let is_same = |value: ValueId| matches!(self.places[value], Place::Repeated { .. }) || is_uniform(value);
        let is_step = |step: &&Step| {
            !matches!(step, Step::Load { .. } | Step::Store { .. }) && !step.makes().is_some_and(is_uniform)
        };
        let steps: Vec<&Step> = fused.steps.iter().filter(is_step).collect();
        let mut stored = fused.steps.iter().filter_map(|step| match step {
            Step::Store { from, .. } => Some(*from),
            _ => None,
        });
        if let (Some(value), None) = (stored.next(), stored.next())
            && fused.values[value] == DType::F32
            && steps.iter().all(|step| jit::knows(fused, step))
        {
            let machine = jit::compile_fold(fused, &steps, self.level, is_same, (fold, value), direction);
            self.folding = machine.map(|machine| {
                let direct = self.reaches(&machine);
                Folding { fold, direction, machine, direct }
            });
        }
        self
    }

    /// Whether a value is the same in every element.
    fn is_uniform(&self, fused: &Fused, value: ValueId) -> bool {
        let made = fused.steps.iter().find(|step| step.makes() == Some(value));
        made.is_some_and(|step| match step {
            Step::Load { operand, .. } => self.lanes[*operand].is_uniform(),
            step => step.reads().iter().all(|&read| self.is_uniform(fused, read)),
        })
    }
}

impl Ready {
    /// Whether machine code does it all, many rows at a time.
    pub fn takes_rows(&self) -> bool {
        self.direct.as_ref().is_some_and(|direct| direct.is_even && direct.steps.is_some())
    }

    /// How many steps machine code runs.
    pub fn machine_steps(&self) -> usize {
        let compiled = self.segments.iter().filter(|segment| segment.machine.is_some());
        compiled.map(|segment| segment.works.len()).sum()
    }
}

fn work(fused: &Fused, step: &Step) -> Result<Work> {
    Ok(match step {
        Step::Apply { row, compute, scalars, inputs, to } => {
            let Entry::Pointwise(expression) = row.entry else {
                return Err(Error::Runtime(format!("{} is not pointwise", row.name)));
            };
            let Some(block) = expression.block(*compute) else { return Error::dtype(*compute) };
            Work::Apply { block, inputs: inputs.clone(), to: *to, scalars: *scalars }
        }
        Step::Cast { from, to } => {
            Work::Cast { cast: Cast::new(fused.values[*from], fused.values[*to])?, from: *from, to: *to }
        }
        Step::Store { from, operand } => Work::Store { from: *from, operand: *operand },
        Step::Load { .. } => return Err(Error::Runtime("a load is no work".into())),
    })
}

/// Whether `value` may be made in the memory of the operand that it is stored to: no load sees that
/// memory, or one sees the same elements and no step, in this order, reads them after `value` is made.
fn is_free(fused: &Fused, operands: &[Operand], order: &[usize], operand: usize, value: ValueId) -> bool {
    let stored = &operands[operand];
    let made = order.iter().position(|&at| fused.steps[at].makes() == Some(value));
    let after = made.map_or(&[][..], |made| &order[made + 1..]);
    let is_read_after = |number: usize| {
        fused.steps.iter().any(|step| match *step {
            Step::Load { operand, to } if operand == number => {
                after.iter().any(|&at| fused.steps[at].reads().contains(&to))
            }
            _ => false,
        })
    };
    let (stores, loads) = operands.split_at(fused.outputs);
    let mut seen = loads.iter().enumerate().filter(|(_, loaded)| loaded.buffer == stored.buffer).peekable();
    if seen.peek().is_none() {
        return true;
    }
    let is_stored_once = stores.iter().filter(|other| other.buffer == stored.buffer).count() == 1;
    is_stored_once && seen.all(|(at, loaded)| loaded == stored && !is_read_after(fused.outputs + at))
}

/// Whether a value is stored as it is.
fn is_copied(fused: &Fused, value: ValueId) -> bool {
    fused.steps.iter().any(|step| matches!(*step, Step::Store { from, .. } if from == value))
}

/// Gives values buffers, by their lives.
struct Layout<'a> {
    lanes: &'a [Lane],
    /// The last segment that reads a value; none for what keeps its buffer.
    last: Vec<Option<usize>>,
    /// The operand that a value may be made in: its store, where [`is_free`] says so.
    target: Vec<Option<usize>>,
    places: Vec<Place>,
    free: Vec<usize>,
    buffers: usize,
    loads: Vec<Load>,
    uniform_loads: Vec<(usize, usize)>,
}

impl<'a> Layout<'a> {
    fn new(fused: &Fused, operands: &[Operand], lanes: &'a [Lane], schedule: &Schedule, short: usize) -> Self {
        let mut last = vec![None; fused.values.len()];
        let mut target = vec![None; fused.values.len()];
        let order: Vec<usize> = schedule.segments.iter().flat_map(|segment| segment.steps.iter().copied()).collect();
        for (number, segment) in schedule.segments.iter().enumerate() {
            for &at in &segment.steps {
                for value in fused.steps[at].reads() {
                    last[value] = Some(number);
                }
                if let Step::Store { from, operand } = fused.steps[at] {
                    let is_dense = lanes[operand].dense_run() >= short.min(operands[operand].numel());
                    if is_dense && is_free(fused, operands, &order, operand, from) {
                        target[from] = Some(operand);
                    }
                }
            }
        }
        Self {
            lanes,
            last,
            target,
            places: vec![Place::Buffer(0); fused.values.len()],
            free: Vec::new(),
            buffers: 0,
            loads: Vec::new(),
            uniform_loads: Vec::new(),
        }
    }

    /// A buffer that no other value takes.
    fn own_buffer(&mut self, value: ValueId) -> usize {
        self.last[value] = None;
        self.buffers += 1;
        self.buffers - 1
    }

    fn load(&mut self, operand: usize, to: ValueId, apart: bool) {
        // Loads are made before a block's steps, so theirs are buffers of their own.
        let buffer = self.own_buffer(to);
        self.places[to] = if self.lanes[operand].is_uniform() {
            self.uniform_loads.push((operand, buffer));
            Place::Buffer(buffer)
        } else {
            self.loads.push(Load { operand, to, buffer, is_for_machine: false });
            // Apart: a store writes over what another one is to store as it is.
            if apart { Place::Buffer(buffer) } else { Place::Operand { operand, buffer } }
        };
    }

    fn repeat(&mut self, operand: usize, to: ValueId, is_for_machine: bool) {
        let buffer = self.own_buffer(to);
        self.places[to] = Place::Repeated { operand, buffer };
        self.loads.push(Load { operand, to, buffer, is_for_machine });
    }

    fn make_apart(&mut self, step: &Step) {
        if let Some(to) = step.makes() {
            self.places[to] = Place::Buffer(self.own_buffer(to));
        }
    }

    fn make(&mut self, step: &Step) {
        let Some(to) = step.makes() else { return };
        let buffer = self.free.pop().unwrap_or_else(|| {
            self.buffers += 1;
            self.buffers - 1
        });
        self.places[to] = match self.target[to] {
            Some(operand) => Place::Operand { operand, buffer },
            None => Place::Buffer(buffer),
        };
    }

    /// Frees the buffers of values that this segment was the last to read.
    fn release(&mut self, step: &Step, segment: usize) {
        for value in step.reads() {
            if self.last[value] == Some(segment) {
                self.last[value] = None;
                self.free.push(self.places[value].buffer());
            }
        }
    }
}
