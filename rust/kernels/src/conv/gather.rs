//! Forward and input gradient: the two ways to set up a gather, and its loops.

use super::axis::{self, Outputs};
use super::planes::{Planes, Shape, SourceOf};
use super::positions::{Layout, Positions};
use super::tile::{self, Tile};
use super::weights::{self, Block, Weights};
use super::{Geometry, Images, Target, channels};
use crate::convert::StoredFloat;
use crate::error::Result;
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
/// Tasks that positions are split for, where images and channels are few.
const TASKS: usize = 16;
/// Multiply-adds a nanosecond: an estimate, for the decision to use more threads.
const WORK_PER_NANOSECOND: usize = 48;

/// See [`super::forward`].
pub fn forward<S: StoredFloat>(
    geometry: &Geometry,
    out: &View<'_>,
    input: &View<'_>,
    weight: &View<'_>,
    bias: Option<&View<'_>>,
) -> Result<()> {
    let (out, input, kernel) = (Images::<S>::of(out), Images::<S>::of(input), Images::<S>::of(weight));
    let axes: [_; 3] = std::array::from_fn(|dim| {
        let Geometry { stride, padding, dilation, .. } = geometry;
        axis::forward(out.size[dim], kernel.size[dim], stride[dim], padding[dim], dilation[dim])
    });
    let [depth, rows, cols] = &axes;
    let sources = [depth.0.clone(), rows.0.clone(), cols.0.clone()];
    let classes = vec![[depth.1.clone(), rows.1.clone(), cols.1.clone()]];
    let outputs = kernel.count / geometry.groups;
    let strides = (outputs as isize * kernel.count_stride, kernel.count_stride, kernel.channel_stride);
    run(Setup { groups: geometry.groups, out, from: input, kernel: &kernel, strides, classes }, sources, bias)
}

/// See [`super::input_grad`].
pub fn input_grad<S: StoredFloat>(
    geometry: &Geometry,
    grad_input: &View<'_>,
    grad_output: &View<'_>,
    weight: &View<'_>,
    bias: Option<&View<'_>>,
) -> Result<()> {
    let (out, from) = (Images::<S>::of(grad_input), Images::<S>::of(grad_output));
    let kernel = Images::<S>::of(weight);
    let axes: [_; 3] = std::array::from_fn(|dim| {
        let Geometry { stride, padding, dilation, .. } = geometry;
        axis::input_grad(out.size[dim], kernel.size[dim], stride[dim], padding[dim], dilation[dim])
    });
    let [depth, rows, cols] = &axes;
    let sources = [depth.0.clone(), rows.0.clone(), cols.0.clone()];
    let mut classes = Vec::new();
    for depth in &depth.1 {
        for row in &rows.1 {
            for col in &cols.1 {
                classes.push([depth.clone(), row.clone(), col.clone()]);
            }
        }
    }
    let inputs = kernel.count / geometry.groups;
    let strides = (inputs as isize * kernel.count_stride, kernel.channel_stride, kernel.count_stride);
    run(Setup { groups: geometry.groups, out, from, kernel: &kernel, strides, classes }, sources, bias)
}

/// Outputs that share their taps, and what the tiles need to compute them.
struct Class<T> {
    positions: Positions,
    /// Positions of each tile.
    tiles: Vec<std::ops::Range<usize>>,
    taps: usize,
    /// Input channels that a tile sums at once, and the offsets of their taps.
    inputs: usize,
    offsets: Vec<isize>,
    weights: Weights<T>,
    /// From the first output to this class's first.
    first: isize,
    lane_stride: isize,
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
fn layout<S>(class: &[Outputs; 3], shape: &Shape, out: &Images<S>, exact: bool) -> Layout {
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
}

impl<S> Setup<'_, S> {
    /// The taps of a class: offsets into the weights, and into the source's planes.
    pub fn taps(&self, class: &[Outputs; 3], shape: &Shape) -> (Vec<isize>, Vec<isize>) {
        let (mut weights, mut offsets) = (Vec::new(), Vec::new());
        for &depth in &class[0].taps {
            for &row in &class[1].taps {
                for &col in &class[2].taps {
                    let at = [depth.kernel, row.kernel, col.kernel];
                    weights.push((0..3).map(|dim| at[dim] as isize * self.kernel.stride[dim]).sum());
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

    /// Whether vectors of output channels are fuller than those of positions.
    fn prefers_channels(&self, lanes: usize) -> bool {
        let outputs = self.out.channels / self.groups;
        let full = |count: usize| count as f64 / count.next_multiple_of(lanes) as f64;
        let [depth, rows, cols] = std::array::from_fn(|dim| self.classes[0][dim].count);
        // Along rows, or along planes with the gaps that a padded source has between rows.
        let along = full(cols).max(full(rows * cols) * cols as f64 / (cols + 2) as f64);
        let dense = self.out.channel_stride == 1 && depth * rows * cols > 1;
        outputs * 2 > lanes && full(outputs) * if dense { 2.0 } else { CHANNELS_COST } > along
    }
}

fn run<S: StoredFloat>(mut setup: Setup<'_, S>, sources: [axis::Source; 3], bias: Option<&View<'_>>) -> Result<()> {
    let Setup { groups, out, from, .. } = setup;
    if out.count * out.channels * out.positions() == 0 {
        return Ok(());
    }
    let level = isa::level();
    let (lanes, registers) = facts::<S::Math>(level);
    setup.classes.retain(|class| class.iter().all(|axis| axis.count > 0));
    let bias = bias.map(|bias| widened::<S>(bias)).transpose()?;
    if setup.prefers_channels(lanes) {
        return channels::run(level, &setup, sources, bias.as_ref());
    }
    let (outputs, inputs) = (out.channels / groups, from.channels / groups);
    let blocks = weights::blocks(outputs, tile::rows(registers));
    let width = tile::width(registers, blocks[0].rows);
    let fits = |shape: &Shape| setup.classes.iter().all(|class| layout(class, shape, &out, true).fits(lanes));
    let source = SourceOf::new(from, sources, fits)?;

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
                offsets: Vec::new(),
                weights: Weights::pack(&weights, groups, inputs, &blocks)?,
                first: (0..3).map(|dim| class[dim].first as isize * out.stride[dim]).sum(),
                lane_stride: class[2].step as isize * out.stride[2],
            },
        ));
    }

    let mut first = 0;
    while first < out.count {
        let count = source.batch.min(out.count - first);
        let planes = source.planes(level, first, count);
        for (taps, class) in &mut prepared {
            if class.offsets.is_empty() {
                let channel = |at: usize| at as isize * planes.channel_stride;
                class.offsets =
                    (0..class.inputs).flat_map(|at| taps.iter().map(move |tap| channel(at) + tap)).collect();
            }
            let gather =
                Gather { groups, inputs, blocks: &blocks, class, planes: &planes, out: &out, bias: bias.as_ref() };
            gather.run(level, first, count)?;
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
        let refusal = std::sync::Mutex::new(None);
        threads::parallel(outer * parts, work / WORK_PER_NANOSECOND, |task| {
            let (part_at, image) = (task % parts, task / parts % count);
            let (chunk_at, group) = (task / parts / count % chunks, task / parts / count / chunks);
            let partial = match Scratch::<S::Math>::new(room) {
                Ok(partial) => partial,
                Err(error) => {
                    *refusal.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(error);
                    return;
                }
            };
            let blocks = &self.blocks[chunk_at * chunk..((chunk_at + 1) * chunk).min(self.blocks.len())];
            let tiles = &class.tiles[part_at * part..((part_at + 1) * part).min(class.tiles.len())];
            run_at(
                level,
                Task {
                    gather: self,
                    image,
                    target: first + image,
                    group,
                    blocks,
                    tiles,
                    partial: Target(partial.ptr()),
                },
            );
        });
        refusal.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()).map_or(Ok(()), Err)
    }
}

/// Some tiles of one image and group, for some blocks of output channels.
struct Task<'a, S: StoredFloat> {
    gather: &'a Gather<'a, S>,
    /// The image among the planes, and in the output.
    image: usize,
    target: usize,
    group: usize,
    blocks: &'a [Block],
    tiles: &'a [std::ops::Range<usize>],
    partial: Target<S::Math>,
}

impl<S: StoredFloat> Kernel<S::Math> for Task<'_, S> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<L: Lanes<Elem = S::Math>>(self) {
        let Gather { inputs, class, planes, out, bias, .. } = *self.gather;
        let outputs = out.channels / self.gather.groups;
        let source = planes.data.get().cast_const().wrapping_offset(
            self.image as isize * planes.image_stride + (self.group * inputs) as isize * planes.channel_stride,
        );
        for tile in self.tiles {
            let mut channel = 0;
            loop {
                let channels = class.inputs.min(inputs - channel);
                let next = channel + channels;
                for block in self.blocks {
                    let to = self.group * outputs + block.first;
                    let offset = self.target as isize * out.count_stride + to as isize * out.channel_stride;
                    let tile = Tile::<S> {
                        depth: channels * class.taps,
                        weights: class.weights.of(self.group, block, channel * class.taps),
                        offsets: class.offsets.as_ptr(),
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
                    // SAFETY: the planes hold every position and tap of these channels, the packed
                    // weights every block; this task alone writes these outputs.
                    unsafe { tile.run::<L>() };
                }
                channel = next;
                if channel >= inputs {
                    break;
                }
            }
        }
    }
}
