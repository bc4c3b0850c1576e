//! The source of a gather, laid out in planes: padded, split into the phases of its stride,
//! converted to the type of the arithmetic. A source that lies so already is used in place.

use super::axis::{self, Tap};
use super::{Images, Target};
use crate::convert::StoredFloat;
use crate::element::Element;
use crate::error::Result;
use crate::isa::Level;
use crate::lanes::{Kernel, Lanes, run_at};
use crate::scratch::Scratch;
use crate::threads;
use crate::value::Value;

/// Bytes of source that are laid out at once.
const BATCH_BYTES: usize = 1 << 20;
/// Elements that a vector may reach over the end of the last plane.
pub const SLACK: usize = 64;
/// Elements of a row that are split into phases at once.
const PAIRS: usize = 8;
/// Elements of a packing task.
const TASK: usize = 1 << 14;

/// How a source is laid out.
#[derive(Clone, Debug)]
pub struct Shape {
    pub axes: [axis::Source; 3],
    pub depth_pitch: isize,
    pub row_pitch: isize,
    /// Elements between phases.
    plane: isize,
}

impl Shape {
    pub fn new(axes: [axis::Source; 3]) -> Self {
        let [depth, rows, cols] = [0, 1, 2].map(|dim: usize| axes[dim].extent as isize);
        Self { axes, depth_pitch: rows * cols, row_pitch: cols, plane: depth * rows * cols }
    }

    /// Elements of one channel.
    pub fn channel(&self) -> usize {
        self.axes.iter().map(|axis| axis.residues.len()).product::<usize>() * self.plane as usize
    }

    /// From a channel's start to the first position that a tap reads.
    pub fn tap(&self, [depth, row, col]: [Tap; 3]) -> isize {
        let phase = (depth.phase * self.axes[1].residues.len() + row.phase) * self.axes[2].residues.len() + col.phase;
        phase as isize * self.plane
            + depth.shift as isize * self.depth_pitch
            + row.shift as isize * self.row_pitch
            + col.shift as isize
    }
}

/// Some images of the source in planes.
pub struct Planes<T> {
    pub data: Target<T>,
    pub image_stride: isize,
    pub channel_stride: isize,
}

/// The source of a launch: in place, or laid out batch by batch.
pub struct SourceOf<S: StoredFloat> {
    images: Images<S>,
    pub shape: Shape,
    /// Used in place: nothing may be read beyond its planes.
    pub exact: bool,
    /// Images that are laid out at once.
    pub batch: usize,
    scratch: Option<Scratch<S::Math>>,
}

impl<S: StoredFloat> SourceOf<S> {
    /// `may_use_in_place` judges the shape that the source would have in place.
    pub fn new(images: Images<S>, axes: [axis::Source; 3], may_use_in_place: impl Fn(&Shape) -> bool) -> Result<Self> {
        let mut shape = Shape::new(axes);
        let unpadded = (0..3).all(|dim| {
            let axis = &shape.axes[dim];
            axis.step == 1 && axis.low == 0 && axis.extent <= images.size[dim]
        });
        if unpadded && S::DTYPE == S::Math::DTYPE && (images.stride[2] == 1 || images.size[2] == 1) {
            let mut in_place = shape.clone();
            in_place.depth_pitch = images.stride[0];
            in_place.row_pitch = if images.size[1] == 1 { shape.axes[2].extent as isize } else { images.stride[1] };
            if in_place.row_pitch >= shape.axes[2].extent as isize && may_use_in_place(&in_place) {
                shape = in_place;
                return Ok(Self { images, shape, exact: true, batch: images.count.max(1), scratch: None });
            }
        }
        let image = images.channels * shape.channel();
        let batch = (BATCH_BYTES / size_of::<S::Math>() / image.max(1)).clamp(1, images.count.max(1));
        let scratch = Scratch::<S::Math>::new(batch * image + SLACK)?;
        // SAFETY: the slack is within the scratch. It is read, and multiplied by zeros or dropped.
        unsafe {
            for at in 0..SLACK {
                *scratch.ptr().add(batch * image + at) = S::Math::ZERO;
            }
        }
        Ok(Self { images, shape, exact: false, batch, scratch: Some(scratch) })
    }

    /// The images `first..first + count` in planes; the last call's planes are gone.
    pub fn planes(&self, level: Level, first: usize, count: usize) -> Planes<S::Math> {
        let Self { images, shape, .. } = self;
        let Some(scratch) = &self.scratch else {
            let data = images.data.wrapping_offset(first as isize * images.count_stride);
            return Planes {
                data: Target(data.cast()),
                image_stride: images.count_stride,
                channel_stride: images.channel_stride,
            };
        };
        let channel = shape.channel();
        let planes = Planes {
            data: Target(scratch.ptr()),
            image_stride: (images.channels * channel) as isize,
            channel_stride: channel as isize,
        };
        let target = planes.data;
        let total = count * images.channels;
        let chunk = (TASK / channel.max(1)).max(1);
        threads::parallel_chunks(total, chunk, total * channel / 4, |range| {
            for at in range {
                let (image, from) = (first + at / images.channels, at % images.channels);
                let to = target.get().wrapping_add(at * channel);
                run_at(level, Pack { images, image, channel: from, shape, to });
            }
        });
        planes
    }
}

/// Lays out one channel of one image.
pub struct Pack<'a, S: StoredFloat> {
    pub images: &'a Images<S>,
    pub image: usize,
    pub channel: usize,
    pub shape: &'a Shape,
    pub to: *mut S::Math,
}

impl<S: StoredFloat> Kernel<S::Math> for Pack<'_, S> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<L: Lanes<Elem = S::Math>>(self) {
        let Self { images, image, channel, shape, mut to } = self;
        let from = start(images, image, channel);
        let [depths, rows, cols] = &shape.axes;
        let plane = rows.extent * cols.extent;
        // Where rows are short, all is cleared at once rather than what lies around each.
        let is_narrow = cols.extent < 2 * L::WIDTH;
        // Where a residue's phase lies inside of the source, and the source's line at a position of it.
        let phase = |axis: &axis::Source, residue, dim: usize| inside(axis, residue, images.size[dim]);
        let line = |axis: &axis::Source, residue: usize, at: usize, dim: usize| {
            ((at * axis.step + residue) as isize - axis.low as isize) * images.stride[dim]
        };
        for &depth_residue in &depths.residues {
            let inner_depths = phase(depths, depth_residue, 0);
            for &row_residue in &rows.residues {
                let inner_rows = phase(rows, row_residue, 1);
                for &col_residue in &cols.residues {
                    let (begin, end) = phase(cols, col_residue, 2);
                    let stride = cols.step as isize * images.stride[2];
                    for depth in 0..depths.extent {
                        let (first, last) =
                            if (inner_depths.0..inner_depths.1).contains(&depth) { inner_rows } else { (0, 0) };
                        let from = from
                            .wrapping_offset(line(depths, depth_residue, depth, 0) + line(cols, col_residue, begin, 2));
                        // SAFETY: the rows are within the channel's planes; the part of a row from
                        // `begin` to `end` reads within the source's row.
                        unsafe {
                            let begun = if is_narrow { plane } else { first * cols.extent };
                            fill::<L>(to, begun);
                            for row in first..last {
                                let to = to.add(row * cols.extent);
                                let from = from.wrapping_offset(line(rows, row_residue, row, 1));
                                if !is_narrow {
                                    fill::<L>(to, begin);
                                    fill::<L>(to.add(end), cols.extent - end);
                                }
                                copy::<L, S>(from, stride, to.add(begin), end - begin);
                            }
                            let done = begun.max(last * cols.extent);
                            fill::<L>(to.add(done), plane - done);
                            to = to.add(plane);
                        }
                    }
                }
            }
        }
    }
}

pub fn start<S>(images: &Images<S>, image: usize, channel: usize) -> *mut S {
    let offset = image as isize * images.count_stride + channel as isize * images.channel_stride;
    images.data.wrapping_offset(offset)
}

/// The positions of a phase that lie inside of the source.
#[inline(always)]
fn inside(axis: &axis::Source, residue: usize, size: usize) -> (usize, usize) {
    let begin = axis.low.saturating_sub(residue).div_ceil(axis.step);
    let end = (size + axis.low).saturating_sub(residue).div_ceil(axis.step).min(axis.extent);
    (begin.min(end), end)
}

/// # Safety
/// `to` is valid for `count` elements.
#[inline(always)]
pub unsafe fn fill<L: Lanes>(to: *mut L::Elem, count: usize) {
    let mut at = 0;
    while at < count {
        let piece = L::WIDTH.min(count - at);
        // SAFETY: below `count`.
        unsafe { L::store_partial(to.add(at), L::splat(L::Elem::ZERO), piece) };
        at += piece;
    }
}

/// # Safety
/// `from` is valid for `count` elements at its stride, `to` for `count` dense ones.
#[inline(always)]
pub unsafe fn copy<L: Lanes<Elem = S::Math>, S: StoredFloat>(
    from: *const S,
    stride: isize,
    to: *mut S::Math,
    count: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        match stride {
            1 if S::DTYPE == S::Math::DTYPE => {
                let from: *const S::Math = from.cast();
                let mut at = 0;
                while at + L::WIDTH <= count {
                    L::store(to.add(at), L::load(from.add(at)));
                    at += L::WIDTH;
                }
                if at < count {
                    L::store_partial(to.add(at), L::load_partial(from.add(at), count - at), count - at);
                }
            }
            1 => (0..count).for_each(|at| *to.add(at) = (*from.add(at)).load()),
            2 => {
                // Pairs, but for the last, whose second element may be outside.
                let mut at = 0;
                while at + PAIRS < count {
                    let pairs = from.add(2 * at).cast::<[[S; 2]; PAIRS]>().read_unaligned();
                    to.add(at).cast::<[S::Math; PAIRS]>().write_unaligned(pairs.map(|pair| pair[0].load()));
                    at += PAIRS;
                }
                (at..count).for_each(|at| *to.add(at) = (*from.add(2 * at)).load());
            }
            _ => (0..count).for_each(|at| *to.add(at) = (*from.offset(at as isize * stride)).load()),
        }
    }
}

/// The sum of one channel of one image: rows in the type of the arithmetic, their sums in f64.
pub fn sum<S: StoredFloat>(level: Level, images: &Images<S>, image: usize, channel: usize) -> f64 {
    run_at(level, Sum { images, image, channel })
}

struct Sum<'a, S> {
    images: &'a Images<S>,
    image: usize,
    channel: usize,
}

impl<S: StoredFloat> Kernel<S::Math> for Sum<'_, S> {
    type Output = f64;
    #[inline(always)]
    unsafe fn run<L: Lanes<Elem = S::Math>>(self) -> f64 {
        let images = self.images;
        let [depth, mut rows, mut cols] = images.size;
        if images.stride[1] == cols as isize * images.stride[2] {
            (rows, cols) = (1, rows * cols);
        }
        let from = start(images, self.image, self.channel);
        let mut total = 0.0;
        for plane in 0..depth as isize {
            for row in 0..rows as isize {
                let line = from.wrapping_offset(plane * images.stride[0] + row * images.stride[1]);
                // SAFETY: the row has `cols` elements at its stride.
                unsafe { total += line_sum::<L, S>(line, images.stride[2], cols) };
            }
        }
        total
    }
}

/// # Safety
/// `line` is valid for `count` elements at its stride.
#[inline(always)]
unsafe fn line_sum<L: Lanes<Elem = S::Math>, S: StoredFloat>(line: *const S, stride: isize, count: usize) -> f64 {
    // SAFETY: the caller's.
    unsafe {
        if stride != 1 || S::DTYPE != S::Math::DTYPE {
            return (0..count as isize).map(|at| (*line.offset(at * stride)).to_f64()).sum();
        }
        let line: *const S::Math = line.cast();
        let mut sums = [L::splat(S::Math::ZERO); 4];
        let mut at = 0;
        while at + 4 * L::WIDTH <= count {
            for (step, sum) in sums.iter_mut().enumerate() {
                *sum = L::add(*sum, L::load(line.add(at + step * L::WIDTH)));
            }
            at += 4 * L::WIDTH;
        }
        while at < count {
            let piece = L::WIDTH.min(count - at);
            sums[0] = L::add(sums[0], L::load_partial(line.add(at), piece));
            at += piece;
        }
        Element::to_f64(L::sum(L::add(L::add(sums[0], sums[1]), L::add(sums[2], sums[3]))))
    }
}
