//! Forward and input gradient: the two ways to set up a gather, and its loops.

use super::axis::{self, Outputs};
use super::planes::{Planes, Shape, SourceOf};
use super::positions::{Layout, Positions};
use super::report::Report;
use super::tile::{self, Step, Tile};
use super::weights::{self, Block, Weights};
use super::{Geometry, Images, Target, channels, depthwise, depthwise_channels, pointwise};
use crate::convert::StoredFloat;
use crate::error::Result;
use crate::finish::Finish;
use crate::isa::{self, Level};
use crate::lanes::{Kernel, Lanes, Real, run_at};
use crate::scratch::Scratch;
use crate::threads;
use crate::view::View;

/// Inputs times taps whose sources and weights stay in the first-level cache.
const DEPTH: usize = 144;
/// Bytes of weights that stay in the second-level cache.
const WEIGHT_BYTES: usize = 512 << 10;
/// The most output channels of a task.
const TASK_CHANNELS: usize = 64;
/// What output channels as lanes give of the speed of positions as lanes, where both are full: their
/// results are turned round to be written.
const CHANNELS_COST: f64 = 0.5;
/// Bytes of source of the images that are laid out as one.
const IMAGES_BYTES: usize = 2 << 20;
/// How much fuller vectors must be for images to be turned inwards: to turn their results back takes
/// about as long as so many multiply-adds of each vector, and a bit more.
const WORTH_TURNING: (f64, f64) = (40.0, 1.1);
/// Tasks that positions are split for, where images and channels are few.
const TASKS: usize = 16;
/// Multiply-adds that are worth a task of their own.
const TASK_WORK: usize = 1 << 20;
/// Outputs that are told of at once: they are in the second-level cache; and the positions that each channel's
/// begin at a multiple of.
const TOLD: usize = 16 << 10;
const TOLD_AT: usize = 32;
/// Multiply-adds a nanosecond: an estimate, for the decision to use more threads.
const WORK_PER_NANOSECOND: usize = 48;

/// See [`super::forward`].
pub fn forward<S: StoredFloat>(
    geometry: &Geometry,
    out: &View<'_>,
    input: &View<'_>,
    weight: &View<'_>,
    bias: Option<&View<'_>>,
    finish: Option<&dyn Finish>,
) -> Result<()> {
    let (out, input, kernel) = (Images::<S>::of(out), Images::<S>::of(input), Images::<S>::of(weight));
    by_images(geometry, [out, input, kernel], bias, finish, |geometry, out, input, kernel| {
        let axes: [_; 3] = std::array::from_fn(|dim| {
            let Geometry { stride, padding, dilation, .. } = geometry;
            axis::forward(out.size[dim], kernel.size[dim], stride[dim], padding[dim], dilation[dim])
        });
        let sources = [0, 1, 2].map(|dim: usize| axes[dim].0.clone());
        let classes = Vec::from([axes.map(|axis| axis.1)]);
        let outputs = kernel.count / geometry.groups;
        let strides = (outputs as isize * kernel.count_stride, kernel.count_stride, kernel.channel_stride);
        Setup { groups: geometry.groups, out, from: input, kernel, strides, classes, sources }
    })
}

/// See [`super::input_grad`].
pub fn input_grad<S: StoredFloat>(
    geometry: &Geometry,
    grad_input: &View<'_>,
    grad_output: &View<'_>,
    weight: &View<'_>,
    bias: Option<&View<'_>>,
    finish: Option<&dyn Finish>,
) -> Result<()> {
    let (out, from) = (Images::<S>::of(grad_input), Images::<S>::of(grad_output));
    let kernel = Images::<S>::of(weight);
    by_images(geometry, [out, from, kernel], bias, finish, |geometry, out, from, kernel| {
        let axes: [_; 3] = std::array::from_fn(|dim| {
            let Geometry { stride, padding, dilation, .. } = geometry;
            axis::input_grad(out.size[dim], kernel.size[dim], stride[dim], padding[dim], dilation[dim])
        });
        let sources = [0, 1, 2].map(|dim: usize| axes[dim].0.clone());
        let mut classes = Vec::new();
        for depth in &axes[0].1 {
            for row in &axes[1].1 {
                for col in &axes[2].1 {
                    classes.push([depth.clone(), row.clone(), col.clone()]);
                }
            }
        }
        let inputs = kernel.count / geometry.groups;
        let strides = (inputs as isize * kernel.count_stride, kernel.channel_stride, kernel.count_stride);
        Setup { groups: geometry.groups, out, from, kernel, strides, classes, sources }
    })
}

/// Runs the gather that `setup` gives over all images; where several images fill vectors better than one
/// does, with the images as the innermost dimension of one.
fn by_images<S: StoredFloat>(
    geometry: &Geometry,
    [out, from, kernel]: [Images<S>; 3],
    bias: Option<&View<'_>>,
    finish: Option<&dyn Finish>,
    setup: impl for<'a> Fn(&Geometry, Images<S>, Images<S>, &'a Images<S>) -> Setup<'a, S>,
) -> Result<()> {
    if out.count * out.channels * out.positions() == 0 {
        return Ok(());
    }
    let (lanes, _) = facts::<S::Math>(isa::level());
    let plain = setup(geometry, out, from, &kernel);
    if pointwise::gather(geometry, &plain, bias, finish)? {
        return Ok(());
    }
    if geometry.rank == 3 || out.count == 1 || out.channel_stride == 1 {
        return run(plain, bias, finish);
    }
    let bytes = from.channels * from.positions() * size_of::<S::Math>();
    let together = (IMAGES_BYTES / bytes.max(1)).max(lanes).min(out.count);
    let (geometry, kernel) = (geometry.inwards(), kernel.turned());
    let turned = |first: usize| {
        let images = first..(first + together).min(out.count);
        setup(&geometry, out.inwards(images.clone()), from.inwards(images), &kernel)
    };
    let depth = (from.channels / plain.groups * kernel.positions()) as f64;
    if turned(0).filled(lanes) < plain.filled(lanes) * (WORTH_TURNING.1 + WORTH_TURNING.0 / depth) {
        return run(plain, bias, finish);
    }
    let report = finish.map(|finish| Report::new(finish, &out));
    for first in (0..out.count).step_by(together) {
        run(turned(first), bias, None)?;
        if let Some(report) = report {
            // SAFETY: the images up to these are done.
            unsafe { report.images(first..(first + together).min(out.count)) };
        }
    }
    Ok(())
}

/// The part of vectors of `lanes` that `count` elements fill.
fn filled(count: usize, lanes: usize) -> f64 {
    count as f64 / count.next_multiple_of(lanes).max(1) as f64
}

/// Outputs that share their taps, and what the tiles need to compute them.
struct Class<T> {
    positions: Positions,
    /// Positions of each tile.
    tiles: Vec<std::ops::Range<usize>>,
    taps: usize,
    /// Input channels that a tile sums at once, and the steps of their taps.
    inputs: usize,
    steps: Vec<Step>,
    weights: Weights<T>,
    /// From the first output to this class's first.
    first: isize,
    lane_stride: isize,
}

impl<T> Class<T> {
    /// The position that a vector begins with, of all outputs of a plane; of none, their number.
    fn position(&self, vector: usize, all: usize) -> usize {
        let first = self.positions.vectors.get(vector).map(|vector| self.positions.pieces[vector.first_piece].out);
        first.map_or(all, |first| first as usize)
    }
}

/// The elements of a vector and the registers at a level.
struct Facts;
impl<T: Real> Kernel<T> for Facts {
    type Output = (usize, usize);
    #[inline(always)]
    unsafe fn run<L: Lanes<Elem = T>>(self) -> (usize, usize) {
        (L::WIDTH, L::REGISTERS)
    }
}

/// (elements of a vector, registers)
pub fn facts<T: Real>(level: Level) -> (usize, usize) {
    run_at::<T, _>(level, Facts)
}

/// The outputs of a class as the source and the output lay them out.
pub fn layout<S>(class: &[Outputs; 3], shape: &Shape, out: &Images<S>, exact: bool) -> Layout {
    Layout {
        count: std::array::from_fn(|dim| class[dim].count),
        depth_pitch: shape.depth_pitch,
        row_pitch: shape.row_pitch,
        out: std::array::from_fn(|dim| class[dim].step as isize * out.stride[dim]),
        exact,
    }
}

/// A gather: what is computed of what.
pub struct Setup<'a, S> {
    pub groups: usize,
    pub out: Images<S>,
    pub from: Images<S>,
    pub kernel: &'a Images<S>,
    /// Of a group, an output and an input channel of the weights.
    pub strides: (isize, isize, isize),
    /// Outputs that share their taps.
    pub classes: Vec<[Outputs; 3]>,
    pub sources: [axis::Source; 3],
}

impl<S> Setup<'_, S> {
    /// The taps of a class: offsets into the weights, and into the source's planes.
    pub fn taps(&self, class: &[Outputs; 3], shape: &Shape) -> (Vec<isize>, Vec<isize>) {
        let (mut weights, mut offsets) = (Vec::new(), Vec::new());
        for &depth in &class[0].taps {
            for &row in &class[1].taps {
                for &col in &class[2].taps {
                    let at = [depth.kernel, row.kernel, col.kernel];
                    weights.push(self.kernel.offset(at));
                    offsets.push(shape.tap([depth, row, col]));
                }
            }
        }
        (weights, offsets)
    }

    pub fn weights<'a>(&self, taps: &'a [isize]) -> weights::Source<'a, S> {
        let (group, output, input) = self.strides;
        weights::Source { data: self.kernel.data.cast_const(), group, output, input, taps }
    }

    /// The part of their vectors that positions fill: along rows, or along planes with the gaps that a
    /// padded source has between rows.
    fn filled(&self, lanes: usize) -> f64 {
        let [_, rows, cols] = std::array::from_fn(|dim| self.classes[0][dim].count);
        let plane = rows.saturating_sub(1) * self.sources[2].extent + cols;
        filled(cols, lanes).max(filled(plane, lanes) * (rows * cols) as f64 / plane.max(1) as f64)
    }

    /// Whether all outputs of a plane are of one class, one after the other.
    pub fn is_one_class(&self) -> bool {
        let [class] = self.classes.as_slice() else { return false };
        class.iter().map(|axis| axis.count).product::<usize>() == self.out.positions()
    }

    /// Whether vectors of output channels are fuller than those of positions.
    fn prefers_channels(&self, lanes: usize) -> bool {
        let outputs = self.out.channels / self.groups;
        let positions: usize = self.classes[0].iter().map(|axis| axis.count).product();
        let cost = if self.out.channel_stride == 1 && positions > 1 { 2.0 } else { CHANNELS_COST };
        outputs * 2 > lanes && filled(outputs, lanes) * cost > self.filled(lanes)
    }
}

fn run<S: StoredFloat>(mut setup: Setup<'_, S>, bias: Option<&View<'_>>, finish: Option<&dyn Finish>) -> Result<()> {
    let Setup { groups, out, from, .. } = setup;
    let report = finish.map(|finish| Report::new(finish, &out));
    let level = isa::level();
    let (lanes, registers) = facts::<S::Math>(level);
    setup.classes.retain(|class| class.iter().all(|axis| axis.count > 0));
    for axes in &mut setup.classes {
        for (dim, axis) in axes.iter_mut().enumerate() {
            axis.drop_padding(&setup.sources[dim], from.size[dim]);
        }
    }
    let bias = bias.map(|bias| widened::<S>(bias)).transpose()?;
    if groups > 1 && out.channels == groups && from.channels == groups {
        if depthwise_channels::suits(&[&out, &from]) {
            return depthwise_channels::gather(level, &setup, bias.as_ref(), report);
        }
        return depthwise::gather(level, &setup, bias.as_ref(), report);
    }
    if setup.prefers_channels(lanes) {
        return channels::run(level, &setup, bias.as_ref(), report);
    }
    let (outputs, inputs) = (out.channels / groups, from.channels / groups);
    let blocks = weights::blocks(outputs, tile::rows(registers));
    let width = tile::width(registers, blocks[0].rows);
    let fits = |shape: &Shape| setup.classes.iter().all(|class| layout(class, shape, &out, true).fits(lanes));
    let source = SourceOf::new(from, setup.sources.clone(), fits)?;

    let mut prepared = Vec::new();
    for class in &setup.classes {
        let (taps, offsets) = setup.taps(class, &source.shape);
        let weights = setup.weights(&taps);
        let positions = layout(class, &source.shape, &out, source.exact).positions(lanes);
        let block = (DEPTH / taps.len().max(1)).clamp(1, inputs.max(1));
        prepared.push((
            offsets,
            Class {
                tiles: tile::cut(positions.vectors.len(), width),
                positions,
                taps: taps.len(),
                inputs: block,
                steps: Vec::new(),
                weights: Weights::new(&weights, groups, outputs, inputs)?,
                first: (0..3).map(|dim| class[dim].first as isize * out.stride[dim]).sum(),
                lane_stride: class[2].step as isize * out.stride[2],
            },
        ));
    }

    // What cannot be told part by part is told of image by image.
    let of_parts = report.filter(|_| setup.is_one_class()).and_then(Report::of_planes);
    let mut first = 0;
    while first < out.count {
        let count = source.batch.min(out.count - first);
        let planes = source.planes(level, first, count);
        for (taps, class) in &mut prepared {
            if class.steps.is_empty() {
                for channel in 0..class.inputs {
                    class.steps.extend(taps.iter().enumerate().map(|(tap, offset)| Step {
                        source: channel as isize * planes.channel_stride + offset,
                        weight: class.weights.step(channel, tap),
                    }));
                }
            }
            let gather = Gather {
                groups,
                inputs,
                blocks: &blocks,
                class,
                planes: &planes,
                out: &out,
                bias: bias.as_ref(),
                report: of_parts,
            };
            gather.run(level, first, count)?;
        }
        if let Some(report) = report.filter(|_| of_parts.is_none()) {
            // SAFETY: the images up to these are done.
            unsafe { report.images(first..first + count) };
        }
        first += count;
    }
    Ok(())
}

/// A bias, dense and in the type of the arithmetic.
fn widened<S: StoredFloat>(bias: &View<'_>) -> Result<Scratch<S::Math>> {
    let dense = Scratch::<S::Math>::new(bias.size(0))?;
    for at in 0..bias.size(0) {
        // SAFETY: within the bias and its copy.
        unsafe { *dense.ptr().add(at) = (*bias.ptr::<S>().offset(at as isize * bias.stride(0))).load() };
    }
    Ok(dense)
}

/// One class of outputs of some images.
struct Gather<'a, S: StoredFloat> {
    groups: usize,
    /// Input channels of a group.
    inputs: usize,
    blocks: &'a [Block],
    class: &'a Class<S::Math>,
    planes: &'a Planes<S::Math>,
    out: &'a Images<S>,
    bias: Option<&'a Scratch<S::Math>>,
    /// Of planes whose outputs are all of this class.
    report: Option<Report<'a>>,
}

impl<S: StoredFloat> Gather<'_, S> {
    fn run(&self, level: Level, first: usize, count: usize) -> Result<()> {
        let Self { class, .. } = self;
        let depth = self.inputs * class.taps;
        // Blocks of output channels whose weights stay in the cache for all images.
        let rows = self.blocks[0].rows;
        let heaviest = WEIGHT_BYTES / (depth.max(1) * size_of::<S::Math>());
        let chunk = (heaviest.clamp(rows, TASK_CHANNELS.max(rows)) / rows).min(self.blocks.len());
        let chunks = self.blocks.len().div_ceil(chunk);
        let outer = self.groups * chunks * count;
        let parts = TASKS.div_ceil(outer).min(class.tiles.len()).max(1);
        let part = class.tiles.len().div_ceil(parts).max(1);
        let parts = class.tiles.len().div_ceil(part);
        let (lanes, _) = facts::<S::Math>(level);
        let vectors = class.positions.vectors.len();
        let work = count * self.out.channels * depth.max(1) * vectors * lanes;
        let room = chunk * rows * tile::MOST * lanes;
        let units = outer * parts;
        let together = TASK_WORK / (work / units).max(1);
        let cut = Cut { chunk, chunks, part, parts, count };
        let refusal = std::sync::Mutex::new(None);
        threads::parallel_chunks(
            units,
            together.clamp(1, units.div_ceil(TASKS)),
            work / WORK_PER_NANOSECOND,
            |units| match Scratch::<S::Math>::new(room) {
                Ok(partial) => {
                    let partial = Target(partial.ptr());
                    run_at(level, Task { gather: self, first, cut, units, partial });
                }
                Err(error) => *refusal.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(error),
            },
        );
        refusal.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()).map_or(Ok(()), Err)
    }
}

/// How a gather is cut into units: blocks of output channels of a chunk, tiles of a part, images.
#[derive(Clone, Copy)]
struct Cut {
    chunk: usize,
    chunks: usize,
    part: usize,
    parts: usize,
    count: usize,
}

/// Some units, one after the other.
struct Task<'a, S: StoredFloat> {
    gather: &'a Gather<'a, S>,
    /// The image of the output that the planes begin with.
    first: usize,
    cut: Cut,
    units: std::ops::Range<usize>,
    partial: Target<S::Math>,
}

impl<S: StoredFloat> Kernel<S::Math> for Task<'_, S> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<L: Lanes<Elem = S::Math>>(self) {
        let Cut { chunk, chunks, part, parts, count } = self.cut;
        let Gather { blocks, class, .. } = *self.gather;
        for at in self.units {
            let image = at / parts % count;
            let (chunk_at, part_at) = (at / parts / count % chunks * chunk, at % parts * part);
            let unit = Unit {
                gather: self.gather,
                image,
                target: self.first + image,
                group: at / parts / count / chunks,
                blocks: &blocks[chunk_at..(chunk_at + chunk).min(blocks.len())],
                tiles: &class.tiles[part_at..(part_at + part).min(class.tiles.len())],
                partial: self.partial,
            };
            // SAFETY: the caller's.
            unsafe { unit.run::<L>() };
        }
    }
}

/// Some tiles of one image and group, for some blocks of output channels.
struct Unit<'a, S: StoredFloat> {
    gather: &'a Gather<'a, S>,
    /// The image among the planes, and in the output.
    image: usize,
    target: usize,
    group: usize,
    blocks: &'a [Block],
    tiles: &'a [std::ops::Range<usize>],
    partial: Target<S::Math>,
}

impl<S: StoredFloat> Unit<'_, S> {
    /// # Safety
    /// The CPU has the level; no other unit of these images, blocks and tiles runs.
    #[inline(always)]
    unsafe fn run<L: Lanes<Elem = S::Math>>(&self) {
        let Gather { inputs, class, planes, out, bias, .. } = *self.gather;
        let outputs = out.channels / self.gather.groups;
        let source = planes.data.get().cast_const().wrapping_offset(
            self.image as isize * planes.image_stride + (self.group * inputs) as isize * planes.channel_stride,
        );
        let mut told = Told::new(self);
        for tile in self.tiles {
            let mut channel = 0;
            loop {
                let channels = class.inputs.min(inputs - channel);
                let next = channel + channels;
                for block in self.blocks {
                    let to = self.group * outputs + block.first;
                    let offset = self.target as isize * out.count_stride + to as isize * out.channel_stride;
                    let tile = Tile::<S> {
                        weights: class.weights.of(self.group, block.first, channel),
                        weight_row: class.weights.output,
                        steps: &class.steps[..channels * class.taps],
                        source: source.wrapping_offset(channel as isize * planes.channel_stride),
                        positions: &class.positions.vectors[tile.clone()],
                        pieces: &class.positions.pieces,
                        block: *block,
                        bias: bias.map_or(std::ptr::null(), |bias| bias.ptr().wrapping_add(to).cast_const()),
                        resume: channel > 0,
                        suspend: next < inputs,
                        partial: self
                            .partial
                            .get()
                            .wrapping_add((block.first - self.blocks[0].first) * tile::MOST * L::WIDTH),
                        out: out.data.wrapping_offset(offset + class.first),
                        channel_stride: out.channel_stride,
                        lane_stride: class.lane_stride,
                    };
                    // SAFETY: the planes hold every position and tap of these channels, the weights
                    // every block; this task alone writes these outputs.
                    unsafe { tile.run::<L>() };
                }
                channel = next;
                if channel >= inputs {
                    break;
                }
            }
            if let Some(told) = &mut told {
                // SAFETY: the tiles up to this one are done, and no other task writes them.
                unsafe { told.up_to(tile.end) };
            }
        }
    }
}

/// What of a unit was told of.
struct Told<'a, S: StoredFloat> {
    unit: &'a Unit<'a, S>,
    report: Report<'a>,
    channels: std::ops::Range<usize>,
    /// Positions that are yet to tell of begin here.
    from: usize,
}

impl<'a, S: StoredFloat> Told<'a, S> {
    fn new(unit: &'a Unit<'a, S>) -> Option<Self> {
        let Gather { report, out, groups, class, .. } = unit.gather;
        let (report, first, last) = (*report.as_ref()?, unit.blocks.first()?, unit.blocks.last()?);
        let channel = unit.group * (out.channels / groups);
        let channels = channel + first.first..channel + last.first + last.rows;
        let from = class.position(unit.tiles.first()?.start, out.positions());
        Some(Self { unit, report, channels, from })
    }

    /// The vectors before this one are done.
    ///
    /// # Safety
    /// They are, and nothing touches their outputs any more.
    unsafe fn up_to(&mut self, vector: usize) {
        let Gather { out, class, .. } = self.unit.gather;
        let end = class.position(vector, out.positions());
        let is_last = self.unit.tiles.last().is_some_and(|last| last.end == vector);
        let to = if is_last { end } else { end / TOLD_AT * TOLD_AT };
        if to > self.from && (is_last || (to - self.from) * self.channels.len() >= TOLD) {
            // SAFETY: the caller's.
            unsafe { self.report.part(self.unit.target, self.channels.clone(), self.from..to) };
            self.from = to;
        }
    }
}
