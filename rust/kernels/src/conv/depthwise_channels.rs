//! Depthwise convolutions of images whose channels are dense: channels as lanes, the input read in place.
//! A tap that would read padding is left out.

use std::ops::Range;

use smallvec::SmallVec;

use super::axis::{Outputs, Source};
use super::gather::Setup;
use super::report::Report;
use super::{Images, Target};
use crate::convert::StoredFloat;
use crate::element::Element;
use crate::error::Result;
use crate::isa::Level;
use crate::lanes::{Kernel, Lanes, run_at};
use crate::scratch::Scratch;
use crate::threads;
use crate::value::Value;

/// Multiply-adds of a task, and in a nanosecond: an estimate, for the decision to use more threads.
const TASK: usize = 1 << 16;
const WORK_PER_NANOSECOND: usize = 24;
/// Positions side by side that share each load of weights.
const TOGETHER: usize = 8;

/// Whether images are laid out for this, and stored as they are computed.
pub fn suits<S: StoredFloat>(images: &[&Images<S>]) -> bool {
    S::DTYPE == S::Math::DTYPE && images.iter().all(|images| images.channel_stride == 1)
}

/// One spatial dimension: output `first + step * j` reads the input at `j * stride + base` for each tap.
struct Axis {
    first: usize,
    step: usize,
    count: usize,
    stride: isize,
    /// The kernel's index and the base of each tap.
    taps: SmallVec<[(usize, isize); 8]>,
    /// Of the input.
    size: isize,
}

impl Axis {
    fn new(source: &Source, outputs: &Outputs, size: usize) -> Self {
        let taps = outputs.taps.iter().map(|tap| {
            let at = tap.shift * source.step + source.residues[tap.phase];
            (tap.kernel, at as isize - source.low as isize)
        });
        let Outputs { first, step, count, .. } = *outputs;
        Self { first, step, count, stride: source.step as isize, taps: SmallVec::from_iter(taps), size: size as isize }
    }

    /// The taps of an output that read the input: the kernel's index, and where.
    fn taps(&self, output: usize) -> impl Iterator<Item = (usize, isize)> {
        let start = output as isize * self.stride;
        let read = self.taps.iter().map(move |&(kernel, base)| (kernel, start + base));
        read.filter(|(_, at)| (0..self.size).contains(at))
    }

    /// The outputs all of whose taps read the input.
    fn inner(&self) -> Range<usize> {
        let low = self.taps.iter().map(|tap| tap.1).min().unwrap_or(0);
        let high = self.taps.iter().map(|tap| tap.1).max().unwrap_or(0);
        let first = (-low).max(0) as usize;
        let first = first.div_ceil(self.stride as usize).min(self.count);
        let end = (self.size - high + self.stride - 1).max(0) / self.stride;
        first..(end as usize).clamp(first, self.count)
    }
}

/// What a position of a row reads: an offset into the input, and one into the kernel's taps.
type Taps = SmallVec<[(isize, usize); 32]>;

/// Depths, rows and columns of outputs that share their taps, and their place in the images.
struct Class<S> {
    axes: [Axis; 3],
    out: Images<S>,
    from: Images<S>,
    kernel: [usize; 3],
}

impl<S: StoredFloat> Class<S> {
    fn rows(&self) -> usize {
        self.out.count * self.axes[0].count * self.axes[1].count
    }

    /// The first output of a row, and what its first position would read with each tap of a column: the offsets
    /// in the input where lines begin, with the taps before them.
    fn row(&self, row: usize) -> (*mut S, SmallVec<[(isize, usize); 8]>) {
        let [depths, rows, cols] = &self.axes;
        let (image, depth, row) = (row / rows.count / depths.count, row / rows.count % depths.count, row % rows.count);
        let mut lines = SmallVec::new();
        for (outer, down) in depths.taps(depth) {
            for (inner, along) in rows.taps(row) {
                let offset = down * self.from.stride[0] + along * self.from.stride[1];
                let tap = (outer * self.kernel[1] + inner) * self.kernel[2];
                lines.push((image as isize * self.from.count_stride + offset, tap));
            }
        }
        let at = [depths.first + depth * depths.step, rows.first + row * rows.step, cols.first];
        (self.out.data.wrapping_offset(image as isize * self.out.count_stride + self.out.offset(at)), lines)
    }

    /// The columns from one on that read through the same taps, and those taps for the first of them. No loop
    /// over them with a closure: that would not be compiled for the level.
    fn run(&self, lines: &[(isize, usize)], col: usize) -> (Range<usize>, Taps) {
        let cols = &self.axes[2];
        let inner = cols.inner();
        let run = if inner.contains(&col) { col..inner.end } else { col..col + 1 };
        let mut taps = Taps::new();
        for &(line, tap) in lines {
            taps.extend(cols.taps(col).map(|(kernel, at)| (line + at * self.from.stride[2], tap + kernel)));
        }
        (run, taps)
    }
}

/// The offset of each tap within a channel's weights.
fn offsets<S>(kernel: &Images<S>) -> impl Iterator<Item = isize> {
    let [depths, rows, cols] = kernel.size;
    (0..depths * rows * cols).map(move |tap| kernel.offset([tap / cols / rows, tap / cols % rows, tap % cols]))
}

/// The weights of each tap side by side, in the type of the arithmetic.
fn weights<S: StoredFloat>(kernel: &Images<S>, channels: usize, channel_stride: isize) -> Result<Scratch<S::Math>> {
    let panel = Scratch::<S::Math>::new(channels * kernel.positions())?;
    for (tap, offset) in offsets(kernel).enumerate() {
        for channel in 0..channels {
            // SAFETY: within the kernel and the panel.
            unsafe {
                let from = kernel.data.wrapping_offset(channel as isize * channel_stride + offset);
                *panel.ptr().add(tap * channels + channel) = (*from).load();
            }
        }
    }
    Ok(panel)
}

/// A gather of one input channel for each output channel.
pub fn gather<S: StoredFloat>(
    level: Level,
    setup: &Setup<'_, S>,
    bias: Option<&Scratch<S::Math>>,
    report: Option<Report<'_>>,
) -> Result<()> {
    let Setup { out, from, kernel, strides, .. } = setup;
    // Outputs of several classes lie in turns.
    let is_whole = |axes: &[Outputs; 3]| (0..3).all(|dim| axes[dim].count == out.size[dim]);
    let by_rows = report.and_then(Report::of_channels).filter(|_| setup.classes.iter().all(is_whole));
    let channels = out.channels;
    let weights = weights(kernel, channels, strides.0)?;
    for axes in &setup.classes {
        let axes = [0, 1, 2].map(|dim: usize| Axis::new(&setup.sources[dim], &axes[dim], from.size[dim]));
        let taps: usize = axes.iter().map(|axis| axis.taps.len()).product();
        let class = Class { axes, out: *out, from: *from, kernel: kernel.size };
        let row = class.axes[2].count * channels * (taps + 1);
        let work = class.rows() * row;
        threads::parallel_chunks(class.rows(), (TASK / row.max(1)).max(1), work / WORK_PER_NANOSECOND, |rows| {
            let bias = bias.map_or(std::ptr::null(), |bias| bias.ptr().cast_const());
            run_at(level, Task { class: &class, channels, weights: &weights, bias, rows: rows.clone() });
            if let Some(report) = by_rows {
                // SAFETY: these rows of outputs are this task's own, and done.
                unsafe { report.positions(rows.start * out.size[2]..rows.end * out.size[2]) };
            }
        });
    }
    if let Some(report) = report.filter(|_| by_rows.is_none()) {
        // SAFETY: all are done.
        unsafe { report.images(0..out.count) };
    }
    Ok(())
}

/// Some rows of outputs, counted through images and depths.
struct Task<'a, S: StoredFloat> {
    class: &'a Class<S>,
    channels: usize,
    weights: &'a Scratch<S::Math>,
    bias: *const S::Math,
    rows: Range<usize>,
}

impl<S: StoredFloat> Kernel<S::Math> for Task<'_, S> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<L: Lanes<Elem = S::Math>>(self) {
        let Class { axes: [_, _, cols], out, from, .. } = self.class;
        let (to_step, from_step) = (cols.step as isize * out.stride[2], cols.stride * from.stride[2]);
        for row in self.rows.clone() {
            let (start, lines) = self.class.row(row);
            let mut col = 0;
            while col < cols.count {
                let (run, taps) = self.class.run(&lines, col);
                let mut at = 0;
                while at < run.len() {
                    let to = start.wrapping_offset((run.start + at) as isize * to_step);
                    let source = from.data.cast_const().wrapping_offset(at as isize * from_step);
                    // SAFETY: `suits` said that elements are stored as they are computed; each tap of these
                    // positions is within the input, and this task alone writes the row.
                    at += unsafe {
                        let (to, source) = (to.cast(), source.cast());
                        match run.len() - at {
                            TOGETHER.. => self.positions::<L, TOGETHER>(&taps, source, from_step, to, to_step),
                            4.. => self.positions::<L, 4>(&taps, source, from_step, to, to_step),
                            _ => self.positions::<L, 1>(&taps, source, from_step, to, to_step),
                        }
                    };
                }
                col = run.end;
            }
        }
    }
}

impl<S: StoredFloat> Task<'_, S> {
    /// Computes positions side by side; gives their number.
    ///
    /// # Safety
    /// `source` and the taps' offsets are of the first position's channels in the input, `to` of those in the
    /// output; the CPU has the level.
    #[inline(always)]
    unsafe fn positions<L: Lanes<Elem = S::Math>, const COUNT: usize>(
        &self,
        taps: &Taps,
        source: *const S::Math,
        from_step: isize,
        to: *mut S::Math,
        to_step: isize,
    ) -> usize {
        let weights = self.weights.ptr().cast_const();
        for channel in (0..self.channels).step_by(L::WIDTH) {
            let count = (self.channels - channel).min(L::WIDTH);
            // SAFETY: the caller's; `count` channels are left.
            unsafe {
                if count == L::WIDTH {
                    let load = |from: *const S::Math| L::load(from);
                    let sums = self.sums::<L, COUNT>(taps, source, from_step, weights, channel, load);
                    for at in 0..COUNT {
                        L::store(to.wrapping_offset(at as isize * to_step).add(channel), sums[at]);
                    }
                } else {
                    let load = |from: *const S::Math| L::load_partial(from, count);
                    let sums = self.sums::<L, COUNT>(taps, source, from_step, weights, channel, load);
                    for at in 0..COUNT {
                        L::store_partial(to.wrapping_offset(at as isize * to_step).add(channel), sums[at], count);
                    }
                }
            }
        }
        COUNT
    }

    /// # Safety
    /// As for `positions`; `load` reads the channels that there are.
    #[inline(always)]
    unsafe fn sums<L: Lanes<Elem = S::Math>, const COUNT: usize>(
        &self,
        taps: &Taps,
        source: *const S::Math,
        from_step: isize,
        weights: *const S::Math,
        channel: usize,
        load: impl Fn(*const S::Math) -> L::Vector,
    ) -> [L::Vector; COUNT] {
        // SAFETY: the caller's.
        unsafe {
            let first = if self.bias.is_null() { L::splat(S::Math::ZERO) } else { load(self.bias.add(channel)) };
            let mut sums = [first; COUNT];
            for &(offset, tap) in taps {
                let weight = load(weights.add(tap * self.channels + channel));
                let source = source.wrapping_offset(offset + channel as isize);
                for at in 0..COUNT {
                    sums[at] = L::fma(weight, load(source.wrapping_offset(at as isize * from_step)), sums[at]);
                }
            }
            sums
        }
    }
}

/// The gradient of the weights: sums of each image, then of the images in their order.
pub fn weight_grad<S: StoredFloat>(
    level: Level,
    kernel: &Images<S>,
    input: &Images<S>,
    gradient: &Images<S>,
    axes: &[(Source, Outputs); 3],
) -> Result<()> {
    let (channels, taps) = (kernel.count, kernel.positions());
    let axes = [0, 1, 2].map(|dim: usize| Axis::new(&axes[dim].0, &axes[dim].1, input.size[dim]));
    let class = Class { axes, out: *gradient, from: *input, kernel: kernel.size };
    let images = gradient.count;
    let sums = Scratch::<S::Math>::new((images * taps * channels).max(1))?;
    let blocks = channels.div_ceil(crate::lanes::WIDEST);
    let work = images * channels * gradient.positions() * (taps + 1);
    let to = Target(sums.ptr());
    threads::parallel(images * blocks, work / WORK_PER_NANOSECOND, |task| {
        let (image, first) = (task / blocks, task % blocks * crate::lanes::WIDEST);
        let block = first..(first + crate::lanes::WIDEST).min(channels);
        let sums = to.get().wrapping_add(image * taps * channels);
        run_at(level, Weights { class: &class, image, channels, block, taps, sums });
    });
    for (tap, offset) in offsets(kernel).enumerate() {
        for channel in 0..channels {
            // SAFETY: each sum was written by its task; the offset is within the gradient.
            unsafe {
                let of = |image: usize| *sums.ptr().add((image * taps + tap) * channels + channel);
                let total = (0..images).fold(S::Math::ZERO, |total, image| total.add(of(image)));
                *kernel.data.wrapping_offset(channel as isize * kernel.count_stride + offset) = S::save(total);
            }
        }
    }
    Ok(())
}

/// One image's sums for some channels.
struct Weights<'a, S: StoredFloat> {
    class: &'a Class<S>,
    image: usize,
    channels: usize,
    block: Range<usize>,
    taps: usize,
    sums: *mut S::Math,
}

impl<S: StoredFloat> Kernel<S::Math> for Weights<'_, S> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<L: Lanes<Elem = S::Math>>(self) {
        let Class { axes: [depths, rows, _], .. } = self.class;
        let rows = depths.count * rows.count;
        for channel in self.block.clone().step_by(L::WIDTH) {
            let count = (self.block.end - channel).min(L::WIDTH);
            // SAFETY: the task's own sums of channels that there are; what is read is within the images.
            unsafe {
                for tap in 0..self.taps {
                    L::store_partial(self.at(tap, channel), L::splat(S::Math::ZERO), count);
                }
                for row in self.image * rows..(self.image + 1) * rows {
                    if count == L::WIDTH {
                        self.row::<L>(row, channel, count, |from| L::load(from));
                    } else {
                        self.row::<L>(row, channel, count, |from| L::load_partial(from, count));
                    }
                }
            }
        }
    }
}

impl<S: StoredFloat> Weights<'_, S> {
    fn at(&self, tap: usize, channel: usize) -> *mut S::Math {
        self.sums.wrapping_add(tap * self.channels + channel)
    }

    /// Adds a row's part to the sums of `count` channels.
    ///
    /// # Safety
    /// The channels and the row are within the images; the CPU has the level.
    #[inline(always)]
    unsafe fn row<L: Lanes<Elem = S::Math>>(
        &self,
        row: usize,
        channel: usize,
        count: usize,
        load: impl Fn(*const S::Math) -> L::Vector + Copy,
    ) {
        let (start, lines) = self.class.row(row);
        let mut col = 0;
        while col < self.class.axes[2].count {
            let (run, taps) = self.class.run(&lines, col);
            let mut tap = 0;
            while tap < taps.len() {
                // SAFETY: the caller's.
                tap += unsafe {
                    match taps.len() - tap {
                        9.. => self.add::<L, 9>(start, &run, &taps[tap..], channel, count, load),
                        5.. => self.add::<L, 5>(start, &run, &taps[tap..], channel, count, load),
                        3.. => self.add::<L, 3>(start, &run, &taps[tap..], channel, count, load),
                        _ => self.add::<L, 1>(start, &run, &taps[tap..], channel, count, load),
                    }
                };
            }
            col = run.end;
        }
    }

    /// Adds a run's part to the sums of the first taps; gives their number.
    ///
    /// # Safety
    /// There are as many taps; otherwise as for `row`.
    #[inline(always)]
    unsafe fn add<L: Lanes<Elem = S::Math>, const TAPS: usize>(
        &self,
        start: *mut S,
        run: &Range<usize>,
        taps: &[(isize, usize)],
        channel: usize,
        count: usize,
        load: impl Fn(*const S::Math) -> L::Vector,
    ) -> usize {
        let Class { axes: [_, _, cols], out, from, .. } = self.class;
        let (step, source_step) = (cols.step as isize * out.stride[2], cols.stride * from.stride[2]);
        // SAFETY: the caller's; `suits` said that elements are stored as they are computed.
        unsafe {
            let mut gradient = start.wrapping_offset(run.start as isize * step).cast::<S::Math>().wrapping_add(channel);
            let input = from.data.cast::<S::Math>().cast_const().wrapping_add(channel);
            let mut sources: [*const S::Math; TAPS] = std::array::from_fn(|tap| input.wrapping_offset(taps[tap].0));
            let mut sums = [L::splat(S::Math::ZERO); TAPS];
            for _ in run.clone() {
                let value = load(gradient);
                for tap in 0..TAPS {
                    sums[tap] = L::fma(value, load(sources[tap]), sums[tap]);
                    sources[tap] = sources[tap].wrapping_offset(source_step);
                }
                gradient = gradient.wrapping_offset(step);
            }
            for tap in 0..TAPS {
                let to = self.at(taps[tap].1, channel);
                L::store_partial(to, L::add(L::load_partial(to, count), sums[tap]), count);
            }
        }
        TAPS
    }
}
