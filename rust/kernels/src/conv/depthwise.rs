//! Depthwise convolutions: each channel has a kernel of its own. One channel of one image at a time is
//! laid out, which leaves it in the first-level cache, and computed from there.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::axis::{Outputs, Source};
use super::gather::{Setup, facts, layout};
use super::planes::{Pack, SLACK, Shape, start};
use super::positions::Positions;
use super::report::Report;
use super::tile::{self, Step, Tile};
use super::weight_grad::{Spread, SpreadOne};
use super::weights::Block;
use super::{Geometry, Images};
use crate::convert::StoredFloat;
use crate::error::{Error, Result};
use crate::fallible::{Collected, reserved};
use crate::isa::Level;
use crate::lanes::{Kernel, Lanes, run_at};
use crate::scratch::Scratch;
use crate::threads;

/// Multiply-adds of a task.
const TASK: usize = 1 << 18;
/// Multiply-adds a nanosecond: an estimate, for the decision to use more threads.
const WORK_PER_NANOSECOND: usize = 24;

/// Planes that are laid out before they are computed, where they are small: what was just stored, a row
/// at a time, cannot be loaded by vectors at once.
const GROUP: usize = 8;
/// Elements of a group of planes: most of the first-level cache.
const GROUP_ELEMENTS: usize = 6 << 10;

/// Whether a convolution has a kernel for each channel.
pub fn is_one(geometry: &Geometry, outputs: usize, inputs: usize) -> bool {
    geometry.groups > 1 && outputs == geometry.groups && inputs == geometry.groups
}

/// Outputs of a channel that share their taps.
struct Class {
    positions: Positions,
    tiles: Vec<Range<usize>>,
    steps: Vec<Step>,
    /// Of each tap, within a channel's weights.
    weights: Vec<isize>,
    /// From the channel's first output to this class's first.
    first: isize,
}

/// Runs tasks of some of `count` parts, each with `room` elements of its own.
fn for_each_part<T: Copy + Send>(
    count: usize,
    work: usize,
    room: usize,
    body: impl Fn(Range<usize>, *mut T) + Sync,
) -> Result<()> {
    let refusal: Mutex<Option<Error>> = Mutex::new(None);
    let chunk = (TASK * count / work.max(1)).max(1);
    threads::parallel_chunks(count, chunk, work / WORK_PER_NANOSECOND, |part| match Scratch::<T>::new(room) {
        Ok(scratch) => body(part, scratch.ptr()),
        Err(error) => *refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(error),
    });
    refusal.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// A gather of one input channel for each output channel.
pub fn gather<S: StoredFloat>(
    level: Level,
    setup: &Setup<'_, S>,
    bias: Option<&Scratch<S::Math>>,
    report: Option<Report<'_>>,
) -> Result<()> {
    let of_planes = report.and_then(Report::of_planes);
    let (lanes, registers) = facts::<S::Math>(level);
    let shape = Shape::new(setup.sources.clone());
    let phases = setup.classes.iter().map(|class| class[2].step).max().unwrap_or(1);
    let [depths, rows, cols] = setup.out.size;
    // Classes of columns are computed side by side, and put together row by row.
    let pitch = cols.div_ceil(phases);
    let row = (phases * pitch) as isize;
    let out = if phases == 1 { setup.out } else { Images { stride: [rows as isize * row, row, 1], ..setup.out } };
    let classes = setup.classes.iter().map(|class| {
        let (weights, offsets) = setup.taps(class, &shape);
        let positions = if phases == 1 { layout(class, &shape, &out, false) } else { beside(class, &shape, &out) };
        let positions = positions.positions(lanes);
        let steps = offsets.into_iter().enumerate().map(|(tap, source)| Step { source, weight: tap as isize });
        let [depth, row, col] = [0, 1, 2].map(|dim: usize| class[dim].first as isize);
        let across = if phases == 1 { out.stride[2] } else { pitch as isize };
        Class {
            tiles: tile::cut(positions.vectors.len(), tile::width(registers, 1)),
            positions,
            steps: steps.collected(),
            weights,
            first: depth * out.stride[0] + row * out.stride[1] + col * across,
        }
    });
    let classes: Vec<_> = classes.collected();
    let taps = classes.iter().map(|class| class.steps.len()).max().unwrap_or(0);
    let vectors: usize = classes.iter().map(|class| class.positions.vectors.len() * (class.steps.len() + 1)).sum();
    let planes = setup.out.count * setup.out.channels;
    let work = planes * (vectors * lanes + shape.channel());
    let group = (GROUP_ELEMENTS / shape.channel().max(1)).clamp(1, GROUP);
    let sources = group * shape.channel();
    // The source's planes, weights and sums; then a plane of results, in what it is stored in.
    let own = sources + SLACK + taps + tile::MOST * lanes;
    let results = if phases == 1 { 0 } else { depths * rows * phases * pitch };
    for_each_part::<S::Math>(planes, work, own + results, |planes, memory| {
        let task = Task {
            setup,
            shape: &shape,
            classes: &classes,
            bias: bias.map_or(std::ptr::null(), |bias| bias.ptr().cast_const()),
            planes,
            group,
            lane_stride: out.stride[2],
            memory,
            weights: memory.wrapping_add(sources + SLACK),
            partial: memory.wrapping_add(sources + SLACK + taps),
            results: (phases > 1).then(|| Results { data: memory.wrapping_add(own).cast(), phases, pitch }),
            report: of_planes,
        };
        run_at(level, task);
    })?;
    if let Some(report) = report.filter(|_| of_planes.is_none()) {
        // SAFETY: all images are done.
        unsafe { report.images(0..setup.out.count) };
    }
    Ok(())
}

/// The layout of a class whose columns lie side by side.
fn beside<S>(class: &[Outputs; 3], shape: &Shape, out: &Images<S>) -> super::positions::Layout {
    let mut layout = layout(class, shape, out, false);
    layout.out[2] = 1;
    layout
}

/// A plane of results: in each row, one phase of the columns after the other.
struct Results<S> {
    data: *mut S,
    phases: usize,
    pitch: usize,
}

struct Task<'a, 'k, S: StoredFloat> {
    setup: &'a Setup<'k, S>,
    shape: &'a Shape,
    classes: &'a [Class],
    bias: *const S::Math,
    /// Counted through images and channels.
    planes: Range<usize>,
    /// Planes that are laid out at once.
    group: usize,
    lane_stride: isize,
    memory: *mut S::Math,
    weights: *mut S::Math,
    partial: *mut S::Math,
    results: Option<Results<S>>,
    report: Option<Report<'a>>,
}

impl<S: StoredFloat> Kernel<S::Math> for Task<'_, '_, S> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<L: Lanes<Elem = S::Math>>(self) {
        let Setup { out, from, kernel, strides, .. } = self.setup;
        let channel_of = |plane: usize| (plane / out.channels, plane % out.channels);
        let size = self.shape.channel();
        // SAFETY: the memory has room for a group's planes, their slack, the taps' weights and a tile's
        // sums; the planes are the task's own.
        unsafe {
            for first in self.planes.clone().step_by(self.group) {
                let group = first..(first + self.group).min(self.planes.end);
                for plane in group.clone() {
                    let (image, channel) = channel_of(plane);
                    let to = self.memory.add((plane - first) * size);
                    Pack { images: from, image, channel, shape: self.shape, to }.run::<L>();
                }
                super::planes::fill::<L>(self.memory.add(group.len() * size), SLACK);
                for plane in group.clone() {
                    let (image, channel) = channel_of(plane);
                    let weights = kernel.data.cast_const().wrapping_offset(channel as isize * strides.0);
                    let target = start(out, image, channel);
                    self.compute::<L>(self.memory.add((plane - first) * size), weights, channel, target);
                }
                if let Some(report) = &self.report {
                    report.planes(group);
                }
            }
        }
    }
}

impl<S: StoredFloat> Task<'_, '_, S> {
    /// # Safety
    /// The source is a plane of the group's, the weights and the target its channel's.
    #[inline(always)]
    unsafe fn compute<L: Lanes<Elem = S::Math>>(
        &self,
        source: *const S::Math,
        weights: *const S,
        channel: usize,
        target: *mut S,
    ) {
        let to = self.results.as_ref().map_or(target, |results| results.data);
        // SAFETY: the caller's.
        unsafe {
            for class in self.classes {
                for (tap, &offset) in class.weights.iter().enumerate() {
                    *self.weights.add(tap) = (*weights.offset(offset)).load();
                }
                for tile in &class.tiles {
                    let tile = Tile::<S> {
                        weights: self.weights,
                        weight_row: 0,
                        steps: &class.steps,
                        source,
                        positions: &class.positions.vectors[tile.clone()],
                        pieces: &class.positions.pieces,
                        block: Block { first: 0, rows: 1 },
                        bias: if self.bias.is_null() { self.bias } else { self.bias.add(channel) },
                        resume: false,
                        suspend: false,
                        partial: self.partial,
                        out: to.wrapping_offset(class.first),
                        channel_stride: 0,
                        lane_stride: self.lane_stride,
                    };
                    tile.alone::<L>();
                }
            }
            if let Some(results) = &self.results {
                results.join(&self.setup.out, target);
            }
        }
    }
}

impl<S: StoredFloat> Results<S> {
    /// Writes the plane to a channel of the output.
    ///
    /// # Safety
    /// The results are a whole plane of `out`, of which `to` is a channel.
    #[inline(always)]
    unsafe fn join(&self, out: &Images<S>, to: *mut S) {
        const PAIRS: usize = 8;
        let [depths, rows, cols] = out.size;
        for line in 0..depths * rows {
            let (depth, row) = (line / rows, line % rows);
            let to = to.wrapping_offset(depth as isize * out.stride[0] + row as isize * out.stride[1]);
            let from = self.data.wrapping_add(line * self.phases * self.pitch);
            // SAFETY: a row of the results and of the output.
            unsafe {
                let mut done = 0;
                if self.phases == 2 && out.stride[2] == 1 {
                    let other = from.add(self.pitch);
                    while done + 2 * PAIRS <= cols {
                        let first = from.add(done / 2).cast::<[S; PAIRS]>().read_unaligned();
                        let second = other.add(done / 2).cast::<[S; PAIRS]>().read_unaligned();
                        let pairs: [[S; 2]; PAIRS] = std::array::from_fn(|at| [first[at], second[at]]);
                        to.add(done).cast::<[[S; 2]; PAIRS]>().write_unaligned(pairs);
                        done += 2 * PAIRS;
                    }
                }
                for phase in 0..self.phases.min(cols) {
                    let from = from.add(phase * self.pitch);
                    for col in (done + phase..cols).step_by(self.phases) {
                        *to.offset(col as isize * out.stride[2]) = *from.add(col / self.phases);
                    }
                }
            }
        }
    }
}

/// The gradient of the weights.
pub fn weight_grad<S: StoredFloat>(
    level: Level,
    kernel: &Images<S>,
    input: &Images<S>,
    gradient: &Images<S>,
    axes: &[(Source, Outputs); 3],
) -> Result<()> {
    let (lanes, _) = facts::<S::Math>(level);
    let shape = Shape::new([0, 1, 2].map(|dim: usize| axes[dim].0.clone()));
    let mut taps = reserved(kernel.positions());
    for &depth in &axes[0].1.taps {
        for &row in &axes[1].1.taps {
            for &col in &axes[2].1.taps {
                let at = [depth, row, col];
                taps.push((shape.tap(at), kernel.offset(at.map(|tap| tap.kernel))));
            }
        }
    }
    let images = if gradient.positions() == 0 { 0 } else { input.count };
    let spread = Spread::new(gradient, &shape, lanes);
    let plane = shape.channel() + spread.length + SLACK;
    let work = kernel.count * images.max(1) * (spread.length * (taps.len() + 1) + shape.channel());
    for_each_part::<S::Math>(kernel.count, work, plane + spread.length + taps.len() * lanes, |channels, memory| {
        let task = WeightTask {
            kernel,
            input,
            gradient,
            shape: &shape,
            spread: &spread,
            taps: &taps,
            images,
            channels,
            plane: memory,
            gradients: memory.wrapping_add(plane),
            sums: memory.wrapping_add(plane + spread.length),
        };
        run_at(level, task);
    })
}

struct WeightTask<'a, S: StoredFloat> {
    kernel: &'a Images<S>,
    input: &'a Images<S>,
    gradient: &'a Images<S>,
    shape: &'a Shape,
    spread: &'a Spread,
    /// Each tap's offset within the plane, and within a channel's gradient.
    taps: &'a [(isize, isize)],
    images: usize,
    channels: Range<usize>,
    plane: *mut S::Math,
    gradients: *mut S::Math,
    /// A vector for each tap.
    sums: *mut S::Math,
}

impl<S: StoredFloat> Kernel<S::Math> for WeightTask<'_, S> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<L: Lanes<Elem = S::Math>>(self) {
        // SAFETY: the memory has room for a plane that a run of vectors may reach over, a spread gradient
        // and the sums; the channels are the task's own.
        unsafe {
            let after = self.shape.channel();
            super::planes::fill::<L>(self.plane.add(after), self.spread.length + SLACK);
            for channel in self.channels.clone() {
                super::planes::fill::<L>(self.sums, self.taps.len() * L::WIDTH);
                for image in 0..self.images {
                    let Self { input, gradient, shape, spread, .. } = self;
                    Pack { images: input, image, channel, shape, to: self.plane }.run::<L>();
                    SpreadOne { spread, gradient, image, channel, to: self.gradients }.run::<L>();
                    let mut tap = 0;
                    while tap < self.taps.len() {
                        tap += match self.taps.len() - tap {
                            9.. => self.add::<L, 9>(tap),
                            5.. => self.add::<L, 5>(tap),
                            3.. => self.add::<L, 3>(tap),
                            _ => self.add::<L, 1>(tap),
                        };
                    }
                }
                let to = self.kernel.data.wrapping_offset(channel as isize * self.kernel.count_stride);
                for (tap, (_, offset)) in self.taps.iter().enumerate() {
                    *to.offset(*offset) = S::save(L::sum(L::load(self.sums.add(tap * L::WIDTH))));
                }
            }
        }
    }
}

impl<S: StoredFloat> WeightTask<'_, S> {
    /// Adds an image's part to the sums of some taps; gives their number.
    ///
    /// # Safety
    /// There are as many taps; the CPU has the level.
    #[inline(always)]
    unsafe fn add<L: Lanes<Elem = S::Math>, const TAPS: usize>(&self, first: usize) -> usize {
        // SAFETY: the caller's; a run from any tap on ends within the plane or what was cleared after it.
        unsafe {
            let sources: [*const S::Math; TAPS] =
                std::array::from_fn(|tap| self.plane.cast_const().wrapping_offset(self.taps[first + tap].0));
            let kept: [*mut S::Math; TAPS] = std::array::from_fn(|tap| self.sums.add((first + tap) * L::WIDTH));
            let mut sums: [L::Vector; TAPS] = std::array::from_fn(|tap| L::load(kept[tap]));
            for at in (0..self.spread.length).step_by(L::WIDTH) {
                let gradient = L::load(self.gradients.add(at));
                for tap in 0..TAPS {
                    sums[tap] = L::fma(gradient, L::load(sources[tap].add(at)), sums[tap]);
                }
            }
            for tap in 0..TAPS {
                L::store(kept[tap], sums[tap]);
            }
        }
        TAPS
    }
}
