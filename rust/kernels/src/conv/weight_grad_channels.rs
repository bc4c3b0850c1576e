//! The weight gradient with input channels as lanes: for each tap, a product of the output's
//! gradient and the input, summed over positions. Sums need no adding up across lanes, and small
//! images fill vectors as well as large ones.

use super::gather::facts;
use super::planes::{Planes, SourceOf};
use super::product::{self, Product};
use super::weight_grad::{Sums, store};
use super::{Images, Target};
use crate::convert::StoredFloat;
use crate::error::Result;
use crate::fallible::{Collected, reserved};
use crate::isa::Level;
use crate::lanes::{Kernel, Lanes, Real, run_at};
use crate::scratch::Scratch;
use crate::threads;
use crate::value::Value;

/// Bytes of input and gradient that all tasks pass over before the next images.
const CACHE_BYTES: usize = 1 << 20;
/// Positions that are worth a pass over all sums.
const MANY_POSITIONS: usize = 512;
/// Positions whose panel stays in the first-level cache.
const POSITIONS: usize = 256;
/// The fewest tasks, where there are output channels enough.
const TASKS: usize = 16;
/// Elements of a packing step: a cache line of f32.
const LINE: usize = 16;
/// Multiply-adds a nanosecond: an estimate, for the decision to use more threads.
const WORK_PER_NANOSECOND: usize = 48;

/// Whether input channels fill vectors.
pub fn suits(inputs: usize, lanes: usize) -> bool {
    inputs > lanes
}

/// The shape of the computation.
struct Shape {
    groups: usize,
    outputs: usize,
    inputs: usize,
    /// Elements of one channel of the planes.
    plane: usize,
    /// Lanes of a panel, and panels of a group.
    width: usize,
    blocks: usize,
    /// Rows of a tile, and tiles of a group.
    tall: usize,
    tiles: usize,
}

/// See [`super::weight_grad`]. The sums are `[group][block of inputs][output][tap][lane]`, so that what
/// becomes a run of the gradient is read as one.
pub fn run<S: StoredFloat>(
    level: Level,
    groups: usize,
    kernel: &Images<S>,
    gradient: &Images<S>,
    source: &SourceOf<S>,
    taps: &[isize],
) -> Result<()> {
    let (lanes, registers) = facts::<S::Math>(level);
    let (outputs, inputs) = (kernel.count / groups, kernel.channels);
    let width = product::vectors(inputs, lanes) * lanes;
    let tall = product::most_rows(registers);
    let (blocks, tiles) = (inputs.div_ceil(width), outputs.div_ceil(tall));
    let shape = Shape { groups, outputs, inputs, plane: source.shape.channel(), width, blocks, tall, tiles };
    let sums = Scratch::<S::Math>::new(groups * blocks * taps.len() * outputs * width)?;

    let positions = positions(gradient, &source.shape, width);
    let (panels, factors) = (groups * blocks * shape.plane * width, groups * tiles * positions.len() * tall);
    let image = (panels + factors) * size_of::<S::Math>();
    let step = (CACHE_BYTES / image.max(1)).max(MANY_POSITIONS.div_ceil(positions.len().max(1)));
    let step = step.clamp(1, source.batch.min(gradient.count).max(1));
    let panels = Scratch::<S::Math>::new(step * panels)?;
    let factors = Scratch::<S::Math>::new(step * factors)?;
    // At least one pass, which sets the sums to zero.
    for first in (0..gradient.count.max(1)).step_by(step) {
        let count = step.min(gradient.count - first);
        let planes = source.planes(level, first, count);
        lay_out_panels(&shape, &planes, count, &panels);
        lay_out_factors(&shape, gradient, first, count, &factors);
        let image = (groups * blocks * shape.plane * width) as isize;
        let steps: Vec<isize> =
            (0..count as isize).flat_map(|at| positions.iter().map(move |position| at * image + position)).collected();
        let pass = Pass { shape: &shape, panels: &panels, factors: &factors, steps: &steps, taps, first: first == 0 };
        pass.run(level, &sums);
    }
    let layout = Sums { run: width, input: 1, tap: width };
    store(kernel, &sums, &layout, |output, block| {
        let (group, row) = (output / outputs, output % outputs);
        ((group * blocks + block) * outputs + row) * taps.len() * width
    });
    Ok(())
}

/// Where each position of the gradient reads the planes of a panel.
fn positions<S>(gradient: &Images<S>, shape: &super::planes::Shape, width: usize) -> Vec<isize> {
    let [depths, rows, cols] = gradient.size.map(|size| size as isize);
    let mut positions = reserved(gradient.positions());
    for depth in 0..depths {
        for row in 0..rows {
            let line = depth * shape.depth_pitch + row * shape.row_pitch;
            positions.extend((0..cols).map(|col| (line + col) * width as isize));
        }
    }
    positions
}

/// The input's planes with channels side by side: `[image][group][block][element][lane]`.
fn lay_out_panels<T: Real>(shape: &Shape, planes: &Planes<T>, count: usize, to: &Scratch<T>) {
    let Shape { groups, inputs, plane, width, blocks, .. } = *shape;
    let total = count * groups * blocks;
    let to = Target(to.ptr());
    threads::parallel(total, total * plane * width / 4, |task| {
        let (image, group, block) = (task / (groups * blocks), task / blocks % groups, task % blocks);
        let valid = width.min(inputs - block * width);
        let channel = (group * inputs + block * width) as isize * planes.channel_stride;
        let from = planes.data.get().wrapping_offset(image as isize * planes.image_stride + channel);
        let to = to.get().wrapping_add(task * plane * width);
        for first in (0..plane).step_by(LINE) {
            let elements = first..(first + LINE).min(plane);
            for lane in 0..width {
                let from = from.wrapping_offset(lane as isize * planes.channel_stride);
                for at in elements.clone() {
                    // SAFETY: the panel belongs to this task; the planes have every valid channel.
                    unsafe { *to.add(at * width + lane) = if lane < valid { *from.add(at) } else { T::ZERO } };
                }
            }
        }
    });
}

/// The gradient with output channels side by side: `[group][tile][image][position][row]`.
fn lay_out_factors<S: StoredFloat>(
    shape: &Shape,
    gradient: &Images<S>,
    first: usize,
    count: usize,
    to: &Scratch<S::Math>,
) {
    let Shape { groups, outputs, tall, tiles, .. } = *shape;
    let [depths, rows, cols] = gradient.size;
    let each = gradient.positions() * tall;
    let total = groups * tiles * count;
    let to = Target(to.ptr());
    threads::parallel(total, total * each / 4, |task| {
        let (group, tile, image) = (task / (tiles * count), task / count % tiles, task % count);
        let valid = tall.min(outputs - tile * tall);
        let from = super::planes::start(gradient, first + image, group * outputs + tile * tall);
        let mut to = to.get().wrapping_add(task * each);
        for line in 0..depths * rows {
            let (depth, row) = ((line / rows) as isize, (line % rows) as isize);
            let from = from.wrapping_offset(depth * gradient.stride[0] + row * gradient.stride[1]);
            for first in (0..cols).step_by(LINE) {
                let columns = first..(first + LINE).min(cols);
                for row in 0..tall {
                    let from = from.wrapping_offset(row as isize * gradient.channel_stride);
                    for col in columns.clone() {
                        // SAFETY: the task's part of the factors; the gradient has every valid
                        // channel and position.
                        unsafe {
                            let value = if row < valid {
                                (*from.offset(col as isize * gradient.stride[2])).load()
                            } else {
                                S::Math::ZERO
                            };
                            *to.add(col * tall + row) = value;
                        }
                    }
                }
            }
            to = to.wrapping_add(cols * tall);
        }
    });
}

/// Some images' part of every sum.
struct Pass<'a, T> {
    shape: &'a Shape,
    panels: &'a Scratch<T>,
    factors: &'a Scratch<T>,
    /// From a panel's start to each image and position.
    steps: &'a [isize],
    taps: &'a [isize],
    /// The sums are to begin with these images.
    first: bool,
}

impl<T: Real> Pass<'_, T> {
    fn run(&self, level: Level, sums: &Scratch<T>) {
        let Shape { groups, blocks, tiles, width, outputs, .. } = *self.shape;
        let products = groups * blocks * self.taps.len();
        let parts = TASKS.div_ceil(products).min(tiles);
        let part = tiles.div_ceil(parts);
        let parts = tiles.div_ceil(part);
        let work = products * outputs * width * self.steps.len();
        let sums = Target(sums.ptr());
        threads::parallel(products * parts, work / WORK_PER_NANOSECOND, |task| {
            let tiles = task % parts * part..((task % parts + 1) * part).min(tiles);
            run_at(level, Task { pass: self, product: task / parts, tiles, sums });
        });
    }
}

/// Some output channels of one tap and block of input channels.
struct Task<'a, T> {
    pass: &'a Pass<'a, T>,
    /// Group, block and tap.
    product: usize,
    tiles: std::ops::Range<usize>,
    sums: Target<T>,
}

impl<T: Real> Kernel<T> for Task<'_, T> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<L: Lanes<Elem = T>>(self) {
        let Pass { shape, panels, factors, steps, taps, first } = *self.pass;
        let Shape { outputs, plane, width, blocks, tall, tiles, .. } = *shape;
        let (panel, tap) = (self.product / taps.len(), self.product % taps.len());
        let group = panel / blocks;
        let pitch = taps.len() * width;
        let sums = self.sums.get().wrapping_add(panel * outputs * pitch + tap * width);
        let rows = |tile: usize| tall.min(outputs - tile * tall);
        // SAFETY: this task alone has the sums of these tiles; panels and factors hold every
        // position from each tap on.
        unsafe {
            if first {
                for tile in self.tiles.clone() {
                    for row in 0..rows(tile) {
                        std::slice::from_raw_parts_mut(sums.add((tile * tall + row) * pitch), width).fill(T::ZERO);
                    }
                }
            }
            for position in (0..steps.len()).step_by(POSITIONS) {
                let steps = &steps[position..(position + POSITIONS).min(steps.len())];
                for tile in self.tiles.clone() {
                    let all = (group * tiles + tile) * self.pass.steps.len();
                    let product = Product {
                        factors: factors.ptr().wrapping_add((all + position) * tall).cast_const(),
                        factor_pitch: tall,
                        panel: panels
                            .ptr()
                            .wrapping_add(panel * plane * width)
                            .cast_const()
                            .wrapping_offset(taps[tap] * width as isize),
                        steps: steps.as_ptr(),
                        depth: steps.len(),
                        vectors: width / L::WIDTH,
                        sums: sums.add(tile * tall * pitch),
                        sum_pitch: pitch,
                    };
                    product.run::<L>(rows(tile));
                }
            }
        }
    }
}
