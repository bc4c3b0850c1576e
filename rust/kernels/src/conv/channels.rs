//! A gather with output channels as lanes: for images too small, or too cut up by a stride, to
//! fill vectors with their positions, and for outputs whose channels are dense.

use super::axis::Outputs;
use super::gather::{Setup, facts};
use super::planes::{Planes, SourceOf};
use super::product::{self, Product};
use super::report::Report;
use super::weights::Source;
use super::{Images, Target};
use crate::convert::StoredFloat;
use crate::error::Result;
use crate::fallible::{Collected, reserved};
use crate::isa::Level;
use crate::lanes::{Kernel, Lanes, run_at};
use crate::scratch::Scratch;
use crate::threads;
use crate::value::Value;

/// Inputs times taps whose panel stays in the first-level cache beside the source.
const DEPTH: usize = 192;
/// Positions of a task, about: they share each panel.
const TASK_POSITIONS: usize = 120;
/// Output channels of a task: they share the positions' gathered sources.
const TASK_CHANNELS: usize = 256;
/// The fewest tasks, where there are channels enough.
const TASKS: usize = 16;
/// Elements of a packing step: a cache line of f32.
const LINE: usize = 16;
/// Multiply-adds a nanosecond: an estimate, for the decision to use more threads.
const WORK_PER_NANOSECOND: usize = 48;

/// The weights as panels: for each group and each of its blocks of channels, each input and tap's
/// weights of the block side by side, zeros after the last channel.
struct Panels<S: StoredFloat> {
    /// Laid out ahead, where more than one task uses them.
    ahead: Option<Scratch<S::Math>>,
    from: Target<S>,
    /// Of a group and an output channel of the weights.
    strides: (isize, isize),
    /// Of each input and tap.
    offsets: Vec<isize>,
    outputs: usize,
    /// Lanes of a panel.
    width: usize,
    blocks: usize,
}

impl<S: StoredFloat> Panels<S> {
    fn new(from: &Source<'_, S>, inputs: usize, outputs: usize, width: usize) -> Self {
        let offsets = (0..inputs as isize).flat_map(|at| from.taps.iter().map(move |tap| at * from.input + tap));
        Self {
            ahead: None,
            from: Target(from.data.cast_mut()),
            strides: (from.group, from.output),
            offsets: offsets.collected(),
            outputs,
            width,
            blocks: outputs.div_ceil(width),
        }
    }

    fn depth(&self) -> usize {
        self.offsets.len()
    }

    fn lay_out_ahead(&mut self, groups: usize) -> Result<()> {
        let (tasks, each) = (groups * self.blocks, self.depth() * self.width);
        let panels = Scratch::<S::Math>::new(tasks * each)?;
        let to = Target(panels.ptr());
        threads::parallel(tasks, tasks * each, |task| {
            let to = to.get().wrapping_add(task * each);
            // SAFETY: the panel belongs to this task.
            unsafe { self.lay_out(task / self.blocks, task % self.blocks, 0..self.depth(), to) };
        });
        self.ahead = Some(panels);
        Ok(())
    }

    /// # Safety
    /// `to` holds the panel's lanes for each step.
    unsafe fn lay_out(&self, group: usize, block: usize, steps: std::ops::Range<usize>, to: *mut S::Math) {
        let (width, valid) = (self.width, self.width.min(self.outputs - block * self.width));
        let first = group as isize * self.strides.0 + (block * width) as isize * self.strides.1;
        let from = self.from.get().cast_const().wrapping_offset(first);
        // A cache line of each channel at a time: their distance may be a multiple of a page.
        for begin in steps.clone().step_by(LINE) {
            let offsets = &self.offsets[begin..(begin + LINE).min(steps.end)];
            let to = to.wrapping_add((begin - steps.start) * width);
            for lane in 0..width {
                let from = from.wrapping_offset(lane as isize * self.strides.1);
                for (at, &offset) in offsets.iter().enumerate() {
                    // SAFETY: the caller's; the source has every valid channel and tap.
                    unsafe {
                        *to.add(at * width + lane) =
                            if lane < valid { (*from.offset(offset)).load() } else { S::Math::ZERO };
                    }
                }
            }
        }
    }
}

/// Where one position of an image reads and writes: elements from the image's start.
#[derive(Clone, Copy)]
struct At {
    input: isize,
    output: isize,
}

/// Outputs that share their taps.
struct Class<S: StoredFloat> {
    positions: Vec<At>,
    taps: Vec<isize>,
    /// From a position to each input and tap.
    steps: Vec<isize>,
    panels: Panels<S>,
    /// From a panel's start to each step of a pass.
    along: Vec<isize>,
}

/// See [`super::gather`], whose setup this takes.
pub fn run<S: StoredFloat>(
    level: Level,
    setup: &Setup<'_, S>,
    bias: Option<&Scratch<S::Math>>,
    report: Option<Report<'_>>,
) -> Result<()> {
    let Setup { groups, out, from, .. } = setup;
    let (lanes, _) = facts::<S::Math>(level);
    let (outputs, inputs) = (out.channels / groups, from.channels / groups);
    let width = product::vectors(outputs, lanes) * lanes;
    // Nothing is read but what a position's tap names: any planes will do.
    let source = SourceOf::new(*from, setup.sources.clone(), |_| true)?;
    let mut classes = Vec::new();
    for class in &setup.classes {
        let (weights, taps) = setup.taps(class, &source.shape);
        let mut panels = Panels::new(&setup.weights(&weights), inputs, outputs, width);
        let positions = positions(class, &source.shape, out);
        if source.batch * positions.len() > TASK_POSITIONS {
            panels.lay_out_ahead(*groups)?;
        }
        let along = (0..DEPTH.min(panels.depth())).map(|step| (step * width) as isize).collected();
        classes.push(Class { positions, taps, steps: Vec::new(), panels, along });
    }
    let of_channels = report.filter(|_| setup.is_one_class()).and_then(Report::of_channels);
    let mut first = 0;
    while first < out.count {
        let count = source.batch.min(out.count - first);
        let planes = source.planes(level, first, count);
        let mut is_told = false;
        for class in &mut classes {
            if class.steps.is_empty() {
                let channel = |at: usize| at as isize * planes.channel_stride;
                class.steps =
                    (0..inputs).flat_map(|at| class.taps.iter().map(move |tap| channel(at) + tap)).collected();
            }
            let pass = Pass { groups: *groups, inputs, outputs, class, planes: &planes, out, first, bias };
            is_told = pass.run(level, count, of_channels)?;
        }
        if let Some(report) = report.filter(|_| !is_told) {
            // SAFETY: the images up to these are done.
            unsafe { report.images(first..first + count) };
        }
        first += count;
    }
    Ok(())
}

fn positions<S>(class: &[Outputs; 3], shape: &super::planes::Shape, out: &Images<S>) -> Vec<At> {
    let [depths, rows, cols] = class;
    let mut positions = reserved(depths.count * rows.count * cols.count);
    for depth in 0..depths.count as isize {
        for row in 0..rows.count as isize {
            for col in 0..cols.count as isize {
                let along = |axis: &Outputs, at: isize| axis.first as isize + axis.step as isize * at;
                let output = [along(depths, depth), along(rows, row), along(cols, col)];
                positions.push(At {
                    input: depth * shape.depth_pitch + row * shape.row_pitch + col,
                    output: output.iter().zip(out.stride).map(|(at, stride)| at * stride).sum(),
                });
            }
        }
    }
    positions
}

/// One class of outputs of some images.
struct Pass<'a, S: StoredFloat> {
    groups: usize,
    inputs: usize,
    outputs: usize,
    class: &'a Class<S>,
    planes: &'a Planes<S::Math>,
    out: &'a Images<S>,
    /// The output's image that the planes begin with.
    first: usize,
    bias: Option<&'a Scratch<S::Math>>,
}

impl<S: StoredFloat> Pass<'_, S> {
    /// Gives whether its outputs were told of.
    fn run(&self, level: Level, count: usize, report: Option<Report<'_>>) -> Result<bool> {
        let panels = &self.class.panels;
        let total = count * self.class.positions.len();
        let chunks = total.div_ceil(TASK_POSITIONS).max(1);
        let chunk = total.div_ceil(chunks).max(1);
        let chunks = total.div_ceil(chunk);
        let fewest = TASKS.div_ceil(self.groups * chunks);
        let wide = (TASK_CHANNELS / panels.width).min(panels.blocks.div_ceil(fewest)).max(1);
        let across = panels.blocks.div_ceil(wide);
        let report = report.filter(|_| self.groups * across == 1);
        let work = total * self.out.channels * panels.depth().max(1);
        let (_, registers) = facts::<S::Math>(level);
        // Tiles are as even as they can be, so there are no more of them than of the tallest.
        let gathered = DEPTH * chunk.next_multiple_of(product::most_rows(registers));
        let panel = DEPTH * panels.width;
        let room = chunk * panels.width * wide + panel + gathered;
        let refusal = std::sync::Mutex::new(None);
        threads::parallel(self.groups * across * chunks, work / WORK_PER_NANOSECOND, |task| {
            let (part, at) = (task % chunks, task / chunks);
            let (group, block) = (at / across, at % across * wide);
            let positions = part * chunk..((part + 1) * chunk).min(total);
            match Scratch::<S::Math>::new(room) {
                Ok(room) => {
                    let blocks = block..(block + wide).min(panels.blocks);
                    let [factors, panel, sums] =
                        [0, gathered, gathered + panel].map(|at| Target(room.ptr().wrapping_add(at)));
                    run_at(level, Task { pass: self, group, blocks, positions, factors, panel, sums, report });
                }
                Err(error) => *refusal.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(error),
            }
        });
        refusal.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()).map_or(Ok(report.is_some()), Err)
    }
}

/// Some positions, counted over the images, for some blocks of a group's channels.
struct Task<'a, S: StoredFloat> {
    pass: &'a Pass<'a, S>,
    group: usize,
    blocks: std::ops::Range<usize>,
    positions: std::ops::Range<usize>,
    /// Room for the positions' gathered sources, a panel, and the positions' sums of each block.
    factors: Target<S::Math>,
    panel: Target<S::Math>,
    sums: Target<S::Math>,
    /// Of positions whose channels are all this task's.
    report: Option<Report<'a>>,
}

impl<S: StoredFloat> Kernel<S::Math> for Task<'_, S> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<L: Lanes<Elem = S::Math>>(self) {
        let Pass { class, planes, out, .. } = *self.pass;
        let panels = &class.panels;
        let (mut rows, mut targets) = (Vec::new(), Vec::new());
        for position in self.positions.clone() {
            let (image, at) = (position / class.positions.len(), class.positions[position % class.positions.len()]);
            rows.push(image as isize * planes.image_stride + at.input);
            targets.push((self.pass.first + image) as isize * out.count_stride + at.output);
        }
        let inputs = (self.group * self.pass.inputs) as isize * planes.channel_stride;
        let source = planes.data.get().cast_const().wrapping_offset(inputs);
        let pitch = product::most_rows(L::REGISTERS);
        let tall = product::tile_height(rows.len(), pitch);
        let sums = |block: usize| self.sums.get().wrapping_add((block - self.blocks.start) * rows.len() * panels.width);
        let channel = |block: usize| self.group * self.pass.outputs + block * panels.width;
        let valid = |block: usize| panels.width.min(self.pass.outputs - block * panels.width);
        // SAFETY: the planes hold every position and tap of these channels, the panels every
        // block; this task alone has these sums and writes these outputs.
        unsafe {
            for block in self.blocks.clone() {
                for at in 0..rows.len() * panels.width {
                    let lane = at % panels.width;
                    let bias = self.pass.bias.filter(|_| lane < valid(block));
                    *sums(block).add(at) = bias.map_or(S::Math::ZERO, |bias| *bias.ptr().add(channel(block) + lane));
                }
            }
            for step in (0..panels.depth()).step_by(DEPTH) {
                let steps = &class.steps[step..(step + DEPTH).min(panels.depth())];
                let factors = |row: usize| self.factors.get().wrapping_add(row / tall * pitch * steps.len());
                for (tile, rows) in rows.chunks(tall).enumerate() {
                    collect::<L>(source, rows, steps, factors(tile * tall), pitch);
                }
                for block in self.blocks.clone() {
                    let panel = match &panels.ahead {
                        Some(ahead) => {
                            let at = (self.group * panels.blocks + block) * panels.depth() + step;
                            ahead.ptr().wrapping_add(at * panels.width)
                        }
                        None => {
                            panels.lay_out(self.group, block, step..step + steps.len(), self.panel.get());
                            self.panel.get()
                        }
                    };
                    for first in (0..rows.len()).step_by(tall) {
                        let product = Product {
                            factors: factors(first).cast_const(),
                            factor_pitch: pitch,
                            panel: panel.cast_const(),
                            steps: class.along.as_ptr(),
                            depth: steps.len(),
                            vectors: panels.width / L::WIDTH,
                            sums: sums(block).add(first * panels.width),
                            sum_pitch: panels.width,
                        };
                        product.run::<L>(tall.min(rows.len() - first));
                    }
                }
            }
            for block in self.blocks.clone() {
                let to = out.data.wrapping_offset(channel(block) as isize * out.channel_stride);
                store(sums(block), panels.width, valid(block), to, out.channel_stride, &targets);
            }
            if let Some(report) = &self.report {
                let first = self.pass.first * class.positions.len();
                report.positions(first + self.positions.start..first + self.positions.end);
            }
        }
    }
}

/// Lays the sources of a tile's rows side by side, step by step.
///
/// # Safety
/// The source is valid at every row and step; `to` holds `pitch` elements a step.
#[inline(always)]
unsafe fn collect<L: Lanes>(source: *const L::Elem, rows: &[isize], steps: &[isize], to: *mut L::Elem, pitch: usize) {
    let mut first = 0;
    while first < rows.len() {
        // Positions side by side in a row of the source are copied as one.
        let most = L::WIDTH.min(rows.len() - first);
        let run = (1..most).find(|&at| rows[first + at] != rows[first] + at as isize).unwrap_or(most);
        let from = source.wrapping_offset(rows[first]);
        for (at, &step) in steps.iter().enumerate() {
            // SAFETY: the caller's.
            unsafe {
                let (from, to) = (from.wrapping_offset(step), to.add(at * pitch + first));
                if run == 1 {
                    *to = *from;
                } else {
                    L::store_partial(to, L::load_partial(from, run), run);
                }
            }
        }
        first += run;
    }
    for at in 0..steps.len() {
        for row in rows.len()..pitch {
            // SAFETY: the caller's.
            unsafe { *to.add(at * pitch + row) = L::Elem::ZERO };
        }
    }
}

/// Writes `valid` channels of each position.
///
/// # Safety
/// The sums are `width` a position; the outputs are valid at every target and channel.
#[inline(always)]
unsafe fn store<S: StoredFloat>(
    sums: *const S::Math,
    width: usize,
    valid: usize,
    to: *mut S,
    channel_stride: isize,
    targets: &[isize],
) {
    // SAFETY: the caller's.
    unsafe {
        if channel_stride == 1 {
            for (row, &target) in targets.iter().enumerate() {
                let (from, to) = (sums.add(row * width), to.wrapping_offset(target));
                (0..valid).for_each(|lane| *to.add(lane) = S::save(*from.add(lane)));
            }
            return;
        }
        for lane in 0..valid {
            let to = to.wrapping_offset(lane as isize * channel_stride);
            for (row, &target) in targets.iter().enumerate() {
                *to.wrapping_offset(target) = S::save(*sums.add(row * width + lane));
            }
        }
    }
}
