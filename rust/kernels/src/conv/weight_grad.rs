//! The weight gradient: for every output channel, input channel and tap, the sum over images and
//! positions of the output's gradient times the input. Sums are vectors along the positions, and
//! are added up across their lanes once a batch of images. Where input channels fill vectors,
//! [`super::weight_grad_channels`] does it with them as lanes.

use super::axis;
use super::planes::{Planes, Shape, SourceOf};
use super::{Geometry, Images, Target, depthwise, depthwise_channels, weight_grad_channels};
use crate::convert::StoredFloat;
use crate::error::Result;
use crate::fallible::{Collected, reserved};
use crate::isa;
use crate::lanes::{Kernel, Lanes, Real, run_at};
use crate::scratch::Scratch;
use crate::threads;
use crate::value::Value;
use crate::view::View;

/// Bytes of input and gradient that all tiles pass over before the next images.
const CACHE_BYTES: usize = 1 << 20;
/// Tasks that the output channels and the inputs' taps are cut into.
const TASKS: usize = 32;
/// Multiply-adds a nanosecond: an estimate, for the decision to use more threads.
const WORK_PER_NANOSECOND: usize = 48;

/// See [`super::weight_grad`].
pub fn run<S: StoredFloat>(
    geometry: &Geometry,
    grad_weight: &View<'_>,
    input: &View<'_>,
    grad_output: &View<'_>,
) -> Result<()> {
    let (kernel, input) = (Images::<S>::of(grad_weight), Images::<S>::of(input));
    let gradient = Images::<S>::of(grad_output);
    if kernel.count * kernel.channels * kernel.positions() == 0 {
        return Ok(());
    }
    if super::pointwise::weight_grad(geometry, &kernel, &input, &gradient)? {
        return Ok(());
    }
    let level = isa::level();
    let (lanes, _) = super::gather::facts::<S::Math>(level);
    let axes: [_; 3] = std::array::from_fn(|dim| {
        let Geometry { stride, padding, dilation, .. } = geometry;
        axis::forward(gradient.size[dim], kernel.size[dim], stride[dim], padding[dim], dilation[dim])
    });
    if depthwise::is_one(geometry, kernel.count, input.channels) {
        if depthwise_channels::suits(&[&input, &gradient]) {
            return depthwise_channels::weight_grad(level, &kernel, &input, &gradient, &axes);
        }
        return depthwise::weight_grad(level, &kernel, &input, &gradient, &axes);
    }
    let [depth, rows, cols] = &axes;
    // A run of positions ends with a vector that reaches over the planes: they are always laid out.
    let source = SourceOf::new(input, [depth.0.clone(), rows.0.clone(), cols.0.clone()], |_| false)?;
    let mut taps = Vec::new();
    for &depth in &depth.1.taps {
        for &row in &rows.1.taps {
            for &col in &cols.1.taps {
                taps.push(source.shape.tap([depth, row, col]));
            }
        }
    }
    let (groups, inputs) = (geometry.groups, kernel.channels);
    if weight_grad_channels::suits(inputs, lanes) {
        return weight_grad_channels::run(level, groups, &kernel, &gradient, &source, &taps);
    }
    let spread = Spread::new(&gradient, &source.shape, lanes);
    let outputs = kernel.count / groups;
    let across = inputs * taps.len();
    let sums = Scratch::<S::Math>::new(kernel.count * across)?;
    for at in 0..kernel.count * across {
        // SAFETY: within the scratch.
        unsafe { *sums.ptr().add(at) = S::Math::ZERO };
    }
    let gradients = Scratch::<S::Math>::new(source.batch * gradient.channels * spread.length)?;

    let mut first = 0;
    while first < input.count && gradient.positions() > 0 {
        let count = source.batch.min(input.count - first);
        let planes = source.planes(level, first, count);
        spread.all(level, &gradient, first, count, &gradients);
        let channel = |at: usize| at as isize * planes.channel_stride;
        let offsets: Vec<isize> = (0..inputs).flat_map(|at| taps.iter().map(move |tap| channel(at) + tap)).collected();
        let image = (input.channels * planes.channel_stride as usize + gradient.channels * spread.length)
            * size_of::<S::Math>();
        let step = (CACHE_BYTES / image.max(1)).clamp(1, count);
        // The table of sums, cut into blocks of tiles.
        let down = outputs.div_ceil(4).min(TASKS.div_ceil(groups)).max(1);
        let tall = outputs.div_ceil(down).next_multiple_of(4);
        let down = outputs.div_ceil(tall);
        let right = TASKS.div_ceil(groups * down).min(across.div_ceil(36)).max(1);
        let wide = across.div_ceil(right).next_multiple_of(18);
        let right = across.div_ceil(wide);
        let work = kernel.count * across * count * spread.length;
        let to = Target(sums.ptr());
        threads::parallel(groups * down * right, work / WORK_PER_NANOSECOND, |task| {
            let (group, block) = (task / (down * right), task % (down * right));
            let (row, col) = (block / right * tall, block % right * wide);
            let block = Block {
                gradients: gradients.ptr().wrapping_add(group * outputs * spread.length),
                gradient_stride: spread.length,
                gradient_image: gradient.channels * spread.length,
                planes: &planes,
                channel: group * inputs,
                offsets: &offsets,
                vectors: spread.length / lanes,
                images: count,
                step,
                rows: row..(row + tall).min(outputs),
                cols: col..(col + wide).min(across),
                sums: to.get().wrapping_add(group * outputs * across),
                across,
            };
            run_at(level, block);
        });
        first += count;
    }
    let layout = Sums { run: inputs, input: taps.len(), tap: 1 };
    store(&kernel, &sums, &layout, |output, _| output * across);
    Ok(())
}

/// Where the sums of an output channel and some inputs side by side lie.
pub struct Sums {
    /// Inputs of a run.
    pub run: usize,
    /// Elements from an input's sum to the next one's, and from a tap's.
    pub input: usize,
    pub tap: usize,
}

/// Writes the weights' gradient; `first` gives the index of the first sum of an output channel and a run.
pub fn store<S: StoredFloat>(
    kernel: &Images<S>,
    sums: &Scratch<S::Math>,
    layout: &Sums,
    first: impl Fn(usize, usize) -> usize + Sync,
) {
    let [depths, rows, cols] = kernel.size;
    let mut taps = reserved(kernel.positions());
    for depth in 0..depths as isize {
        for row in 0..rows as isize {
            let line = depth * kernel.stride[0] + row * kernel.stride[1];
            taps.extend((0..cols as isize).map(|col| line + col * kernel.stride[2]));
        }
    }
    let (sums, to) = (Target(sums.ptr()), Target(kernel.data));
    threads::parallel(kernel.count, kernel.count * kernel.channels * taps.len(), |output| {
        let to = to.get().wrapping_offset(output as isize * kernel.count_stride);
        for run in 0..kernel.channels.div_ceil(layout.run) {
            let from = sums.get().wrapping_add(first(output, run));
            let begin = run * layout.run;
            let inputs = layout.run.min(kernel.channels - begin);
            let to = to.wrapping_offset(begin as isize * kernel.channel_stride);
            // SAFETY: within the gradient, of which each task writes one output channel; the sums have
            // one for each of its elements.
            unsafe {
                if taps.len() == 1 && layout.input == 1 && kernel.channel_stride == 1 {
                    (0..inputs).for_each(|input| *to.add(input) = S::save(*from.add(input)));
                    continue;
                }
                for input in 0..inputs {
                    let from = from.add(input * layout.input);
                    let to = to.offset(input as isize * kernel.channel_stride);
                    for (tap, &offset) in taps.iter().enumerate() {
                        *to.offset(offset) = S::save(*from.add(tap * layout.tap));
                    }
                }
            }
        }
    });
}

/// The layout of the output's gradient: rows as far apart as the input's planes have them, with
/// zeros between, so that one run of vectors passes over both.
pub struct Spread {
    depth_pitch: usize,
    row_pitch: usize,
    /// Elements of a channel: whole vectors.
    pub length: usize,
}

impl Spread {
    pub fn new<S>(gradient: &Images<S>, shape: &Shape, lanes: usize) -> Self {
        let [depth, rows, cols] = gradient.size;
        let (depth_pitch, row_pitch) = (shape.depth_pitch as usize, shape.row_pitch as usize);
        let run = depth.saturating_sub(1) * depth_pitch + rows.saturating_sub(1) * row_pitch + cols;
        Self { depth_pitch, row_pitch, length: run.next_multiple_of(lanes) }
    }

    fn all<S: StoredFloat>(
        &self,
        level: isa::Level,
        gradient: &Images<S>,
        first: usize,
        count: usize,
        to: &Scratch<S::Math>,
    ) {
        let channels = count * gradient.channels;
        let to = Target(to.ptr());
        threads::parallel_chunks(channels, ((1 << 14) / self.length).max(1), channels * self.length / 4, |range| {
            for at in range {
                let (image, channel) = (first + at / gradient.channels, at % gradient.channels);
                let to = to.get().wrapping_add(at * self.length);
                run_at(level, SpreadOne { spread: self, gradient, image, channel, to });
            }
        });
    }
}

/// One channel of one image.
pub struct SpreadOne<'a, S: StoredFloat> {
    pub spread: &'a Spread,
    pub gradient: &'a Images<S>,
    pub image: usize,
    pub channel: usize,
    pub to: *mut S::Math,
}

impl<S: StoredFloat> Kernel<S::Math> for SpreadOne<'_, S> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<L: Lanes<Elem = S::Math>>(self) {
        let Self { spread, gradient, to, .. } = self;
        let [depths, rows, cols] = gradient.size;
        let from = super::planes::start(gradient, self.image, self.channel);
        let mut done = 0;
        for depth in 0..depths {
            for row in 0..rows {
                let line = depth as isize * gradient.stride[0] + row as isize * gradient.stride[1];
                let begin = depth * spread.depth_pitch + row * spread.row_pitch;
                // SAFETY: the rows and the gaps between them are within the channel's length.
                unsafe {
                    super::planes::fill::<L>(to.add(done), begin - done);
                    super::planes::copy::<L, S>(from.wrapping_offset(line), gradient.stride[2], to.add(begin), cols);
                }
                done = begin + cols;
            }
        }
        // SAFETY: the channel's last part.
        unsafe { super::planes::fill::<L>(to.add(done), spread.length - done) };
    }
}

/// A block of the table of sums: output channels by inputs' taps.
struct Block<'a, T> {
    /// The group's gradient, spread.
    gradients: *const T,
    gradient_stride: usize,
    gradient_image: usize,
    planes: &'a Planes<T>,
    /// The group's first input channel.
    channel: usize,
    offsets: &'a [isize],
    /// Vectors of a channel of the gradient.
    vectors: usize,
    images: usize,
    /// Images that all tiles pass over before the next ones.
    step: usize,
    rows: std::ops::Range<usize>,
    cols: std::ops::Range<usize>,
    /// The group's sums.
    sums: *mut T,
    across: usize,
}

impl<T: Real> Kernel<T> for Block<'_, T> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<L: Lanes<Elem = T>>(self) {
        let tallest = if L::REGISTERS >= 32 { 4 } else { 2 };
        for first in (0..self.images).step_by(self.step) {
            let images = first..(first + self.step).min(self.images);
            let mut col = self.cols.start;
            while col < self.cols.end {
                let left = self.cols.end - col;
                let mut row = self.rows.start;
                let mut width = 1;
                while row < self.rows.end {
                    let height = match self.rows.end - row {
                        left if left >= tallest => tallest,
                        left => left.min(2),
                    };
                    // One output channel (a depthwise convolution) needs more taps side by side.
                    let lone = self.rows.len() == 1;
                    width = if lone && left >= 9 {
                        9
                    } else if left >= 6 {
                        6
                    } else if left >= 3 {
                        3
                    } else {
                        1
                    };
                    // SAFETY: the rows and columns are within the block; the pointers the caller's.
                    unsafe {
                        match (height, width) {
                            (4, 6) => self.tile::<L, 4, 6>(row, col, &images),
                            (4, 3) => self.tile::<L, 4, 3>(row, col, &images),
                            (4, _) => self.tile::<L, 4, 1>(row, col, &images),
                            (2, 6) => self.tile::<L, 2, 6>(row, col, &images),
                            (2, 3) => self.tile::<L, 2, 3>(row, col, &images),
                            (2, _) => self.tile::<L, 2, 1>(row, col, &images),
                            (_, 9) => self.tile::<L, 1, 9>(row, col, &images),
                            (_, 6) => self.tile::<L, 1, 6>(row, col, &images),
                            (_, 3) => self.tile::<L, 1, 3>(row, col, &images),
                            _ => self.tile::<L, 1, 1>(row, col, &images),
                        }
                    }
                    row += height;
                }
                col += width;
            }
        }
    }
}

impl<T: Real> Block<'_, T> {
    /// Adds the images' part to `ROWS` by `COLS` sums.
    ///
    /// # Safety
    /// The sums are within the block, the images within the planes; the CPU has the level.
    #[inline(always)]
    unsafe fn tile<L: Lanes<Elem = T>, const ROWS: usize, const COLS: usize>(
        &self,
        row: usize,
        col: usize,
        images: &std::ops::Range<usize>,
    ) {
        let channel = self.channel as isize * self.planes.channel_stride;
        // SAFETY: the gradient has `vectors` vectors a channel; the planes have as many positions
        // from each tap on, or slack.
        unsafe {
            let mut sums = [[L::splat(T::ZERO); COLS]; ROWS];
            for image in images.clone() {
                let gradients = self.gradients.add(image * self.gradient_image + row * self.gradient_stride);
                let gradients: [*const T; ROWS] = std::array::from_fn(|at| gradients.add(at * self.gradient_stride));
                let plane = self.planes.data.get().wrapping_offset(image as isize * self.planes.image_stride + channel);
                let sources: [*const T; COLS] =
                    std::array::from_fn(|at| plane.wrapping_offset(self.offsets[col + at]).cast_const());
                for at in (0..self.vectors * L::WIDTH).step_by(L::WIDTH) {
                    let gradient: [L::Vector; ROWS] = std::array::from_fn(|row| L::load(gradients[row].add(at)));
                    for col in 0..COLS {
                        let source = L::load(sources[col].add(at));
                        for row in 0..ROWS {
                            sums[row][col] = L::fma(gradient[row], source, sums[row][col]);
                        }
                    }
                }
            }
            for at in 0..ROWS {
                for other in 0..COLS {
                    let sum = self.sums.add((row + at) * self.across + col + other);
                    *sum = (*sum).add(L::sum(sums[at][other]));
                }
            }
        }
    }
}
