//! Regions averaged over samples between pixels, by bins: of each channel, or of a channel of its own for each bin.

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::fallible::{Collected, filled, push, reserved};
use crate::threads;
use crate::validate::indices::Legal;
use crate::view::{Attrs, View};
use crate::vision::plane::{Plane, Planes};
use crate::vision::region::{Region, expect_own_channels, expect_rois, regions};
use crate::vision::{Own, cut, match_own};

/// Planes of bins of a task.
const TASK: usize = 8;
/// About what a sample takes.
const NANOSECONDS: usize = 4;

/// A sample along one dimension: the pixels before and after it, and what it takes of each.
#[derive(Clone, Copy)]
struct Tap<T> {
    pixels: [usize; 2],
    parts: [T; 2],
}

impl<T: Own> Tap<T> {
    /// None outside of the image, where NaN is as well.
    fn at(place: T, size: usize) -> Option<Self> {
        let inside = (-1.0..=size as f64).contains(&place.to_f64());
        if !inside || size == 0 {
            return None;
        }
        let place = if place <= T::zero() { T::zero() } else { place };
        let last = size - 1;
        let first = (place.to_f64() as usize).min(last);
        let (place, next) = if first == last { (T::whole(last as i64), last) } else { (place, first + 1) };
        let past = place - T::whole(first as i64);
        Some(Self { pixels: [first, next], parts: [T::from_f64(1.0 - past.to_f64()), past] })
    }
}

/// The samples of a region along one dimension, bin after bin; those outside of the image are left out.
struct Along<T> {
    /// In a bin, those outside included; none where it is not above zero.
    count: i32,
    taps: Vec<Tap<T>>,
    ends: Vec<usize>,
}

impl<T: Own> Along<T> {
    fn new(start: T, length: T, bins: usize, size: usize, ratio: i64) -> Self {
        let bin_size = length / T::whole(bins as i64);
        let count = if ratio > 0 { i32::try_from(ratio).unwrap_or(i32::MAX) } else { cut(bin_size.to_f64().ceil()) };
        let (mut taps, mut ends) = (Vec::new(), reserved(bins));
        for bin in 0..bins {
            let bin_start = start + T::whole(bin as i64) * bin_size;
            for sample in 0..count {
                let middle = T::from_f64(f64::from(sample as f32 + 0.5));
                let place = bin_start + middle * bin_size / T::whole(count.into());
                if let Some(tap) = Tap::at(place, size) {
                    push(&mut taps, tap);
                }
            }
            ends.push(taps.len());
        }
        Self { count, taps, ends }
    }

    fn bin(&self, bin: usize) -> &[Tap<T>] {
        let start = if bin == 0 { 0 } else { self.ends[bin - 1] };
        &self.taps[start..self.ends[bin]]
    }
}

/// A region's samples.
struct Samples<T> {
    image: usize,
    rows: Along<T>,
    columns: Along<T>,
}

/// How regions are sampled.
struct Rule {
    ratio: i64,
    /// Pixels are points at whole numbers, half a pixel before where they are otherwise; regions may then be empty.
    aligned: bool,
    bins: [usize; 2],
    size: [usize; 2],
}

impl<T: Own> Samples<T> {
    fn of(region: &Region<T>, rule: &Rule) -> Self {
        let shift = T::from_f64(if rule.aligned { 0.5 } else { 0.0 });
        let [rows, columns] = [0, 1].map(|dim| {
            let [start, end] = region.corners.map(|corner| corner[dim] - shift);
            let length = end - start;
            let length = if !rule.aligned && length < T::whole(1) { T::whole(1) } else { length };
            Along::new(start, length, rule.bins[dim], rule.size[dim], rule.ratio)
        });
        Self { image: region.image, rows, columns }
    }

    /// Of a bin, those outside of the image included.
    fn count(&self) -> i64 {
        i64::from(self.rows.count) * i64::from(self.columns.count)
    }

    /// Calls `body([pixel; 4], [part; 4])` for each sample of a bin.
    #[inline(always)]
    fn each(&self, [row, column]: [usize; 2], mut body: impl FnMut([[usize; 2]; 4], [T; 4])) {
        for y in self.rows.bin(row) {
            for x in self.columns.bin(column) {
                let corners = [[0, 0], [0, 1], [1, 0], [1, 1]];
                body(corners.map(|[a, b]| [y.pixels[a], x.pixels[b]]), corners.map(|[a, b]| y.parts[a] * x.parts[b]));
            }
        }
    }

    /// # Safety
    /// The plane is of the image that the samples were made for.
    #[inline(always)]
    unsafe fn sum(&self, plane: Plane<T>, bin: [usize; 2]) -> T {
        let mut sum = T::zero();
        self.each(bin, |pixels, parts| {
            // SAFETY: taps are the image's.
            let values = pixels.map(|pixel| unsafe { plane.get(pixel) });
            let [a, b, c, d] = std::array::from_fn(|corner| parts[corner] * values[corner]);
            sum = sum + (a + b + c + d);
        });
        sum
    }

    /// # Safety
    /// As for `sum`; nobody else reads or writes the plane.
    #[inline(always)]
    unsafe fn spread(&self, plane: Plane<T>, bin: [usize; 2], grad: T) {
        let count = T::whole(self.count());
        self.each(bin, |pixels, parts| {
            for (pixel, part) in pixels.into_iter().zip(parts) {
                // SAFETY: taps are the image's.
                unsafe { plane.add(pixel, grad * part / count) };
            }
        });
    }
}

/// The samples of all regions of `rois`, of images of `batch` and `size`, in bins as those of `bins`.
fn samples<T: Own>(
    rois: &View<'_>,
    bins: &View<'_>,
    (batch, size): (usize, [usize; 2]),
    (ratio, aligned): (i64, bool),
    scale: f64,
) -> Result<Vec<Samples<T>>> {
    let rule = Rule { ratio, aligned, bins: [bins.size(2), bins.size(3)], size };
    let regions = regions::<T>(rois, batch, scale)?;
    Ok(regions.iter().map(|region| Samples::of(region, &rule)).collected())
}

/// The samples of all bins of a channel.
fn work<T>(samples: &[Samples<T>]) -> usize {
    samples.iter().map(|samples| samples.rows.taps.len() * samples.columns.taps.len()).sum::<usize>() * NANOSECONDS
}

/// Bins of a plane.
pub(super) fn bins([height, width]: [usize; 2]) -> impl Iterator<Item = [usize; 2]> {
    (0..height).flat_map(move |row| (0..width).map(move |column| [row, column]))
}

/// `[out, input, rois]`: `[K, channels, ..]`, `[batch, channels, ..]`, `[K, 5]`; ints `[samples a bin and dimension
/// (not above zero: about one a pixel), aligned]`, floats `[scale]`.
pub fn roi_align(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [out, input, rois] = views else {
        return Err(Error::Runtime(format!("expected [out, input, rois], got {} views", views.len())));
    };
    expect_rois(rois, out, input)?;
    match_own!(input.dtype(), T => {
        let (from, to) = (Planes::<T>::of("input", input)?, Planes::<T>::of("out", out)?);
        out.expect_sizes("out", &[rois.size(0), from.channels, to.size[0], to.size[1]])?;
        if out.numel() == 0 {
            return Ok(());
        }
        let rule = (attrs.int(0), attrs.flag(1));
        let samples = samples::<T>(rois, out, (from.batch, from.size), rule, attrs.float(0))?;
        let channels = from.channels;
        threads::parallel_chunks(samples.len() * channels, TASK, work(&samples) * channels, |range| {
            for at in range {
                let (region, channel) = (at / channels, at % channels);
                let samples = &samples[region];
                let (plane, binned) = (from.plane(samples.image, channel), to.plane(region, channel));
                let count = T::whole(samples.count().max(1));
                for bin in bins(to.size) {
                    // SAFETY: the samples are of this image; the bin is this task's.
                    unsafe { binned.put(bin, samples.sum(plane, bin) / count) };
                }
            }
        });
    });
    Ok(())
}

/// `[grad_input, grad, rois]`, scalars as `roi_align`'s.
pub fn roi_align_backward(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [grad_input, grad, rois] = views else {
        return Err(Error::Runtime(format!("expected [grad_input, grad, rois], got {} views", views.len())));
    };
    expect_rois(rois, grad, grad_input)?;
    match_own!(grad.dtype(), T => {
        let (from, to) = (Planes::<T>::of("grad", grad)?, Planes::<T>::of("grad_input", grad_input)?);
        grad.expect_sizes("grad", &[rois.size(0), to.channels, from.size[0], from.size[1]])?;
        let rule = (attrs.int(0), attrs.flag(1));
        let samples = match grad.numel() {
            0 => Vec::new(),
            _ => samples::<T>(rois, grad, (to.batch, to.size), rule, attrs.float(0))?,
        };
        let channels = to.channels;
        // A plane is one task's, which adds what each region gives it in the regions' order.
        threads::parallel(to.batch * channels, work(&samples) * channels + grad_input.numel(), |task| {
            let (image, channel) = (task / channels, task % channels);
            let plane = to.plane(image, channel);
            // SAFETY: the plane is this task's, and the samples are of its size.
            unsafe {
                plane.fill(to.size, T::zero());
                for (region, samples) in samples.iter().enumerate().filter(|(_, samples)| samples.image == image) {
                    let grads = from.plane(region, channel);
                    for bin in bins(from.size) {
                        samples.spread(plane, bin, grads.get(bin));
                    }
                }
            }
        });
    });
    Ok(())
}

/// `[out, channel_mapping (i32), input, rois]`: bin `i` of each region's `[channels, ..]` samples channel `i` of the
/// input, aligned; ints `[samples a bin and dimension]`, floats `[scale]`.
pub fn ps_roi_align(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [out, mapping, input, rois] = views else {
        return Err(Error::Runtime(format!("expected 4 views, got {}", views.len())));
    };
    expect_rois(rois, out, input)?;
    mapping.expect_dtype("channel_mapping", DType::I32)?;
    match_own!(input.dtype(), T => {
        let (from, to) = (Planes::<T>::of("input", input)?, Planes::<T>::of("out", out)?);
        let channels = Planes::<i32>::of("channel_mapping", mapping)?;
        mapping.expect_sizes("channel_mapping", &[to.batch, to.channels, to.size[0], to.size[1]])?;
        if out.numel() == 0 {
            return Ok(());
        }
        expect_own_channels(out, from.channels)?;
        let samples = samples::<T>(rois, out, (from.batch, from.size), (attrs.int(0), true), attrs.float(0))?;
        threads::parallel_chunks(samples.len() * to.channels, TASK, work(&samples) * to.channels, |range| {
            for at in range {
                let (region, channel) = (at / to.channels, at % to.channels);
                let samples = &samples[region];
                let count = T::whole(samples.count());
                let own = (channel * to.size[0] * to.size[1]..).zip(bins(to.size));
                for (own, bin) in own {
                    let plane = from.plane(samples.image, own);
                    // SAFETY: the samples are of this image; the bin is this task's.
                    unsafe {
                        to.plane(region, channel).put(bin, samples.sum(plane, bin) / count);
                        channels.plane(region, channel).put(bin, own as i32);
                    }
                }
            }
        });
    });
    Ok(())
}

/// `[grad_input, grad, rois, channel_mapping (i32)]`, scalars as `ps_roi_align`'s.
pub fn ps_roi_align_backward(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [grad_input, grad, rois, mapping] = views else {
        return Err(Error::Runtime(format!("expected 4 views, got {}", views.len())));
    };
    expect_rois(rois, grad, grad_input)?;
    match_own!(grad.dtype(), T => {
        let (from, to) = (Planes::<T>::of("grad", grad)?, Planes::<T>::of("grad_input", grad_input)?);
        let samples = match grad.numel() {
            0 => Vec::new(),
            _ => samples::<T>(rois, grad, (to.batch, to.size), (attrs.int(0), true), attrs.float(0))?,
        };
        let nanoseconds = work(&samples) * from.channels + grad_input.numel();
        by_channel(&to, &from, mapping, nanoseconds, |plane, image, [channel, row, column]| {
            for (region, samples) in samples.iter().enumerate().filter(|(_, samples)| samples.image == image) {
                // SAFETY: the plane is this task's, and the samples are of its size.
                unsafe {
                    let grad = from.plane(region, channel).get([row, column]);
                    samples.spread(plane, [row, column], grad);
                }
            }
        })?;
    });
    Ok(())
}

/// Clears each plane of `to` and calls `add(plane, image, [channel, row, column])` with the bin whose channel it is by
/// `mapping`, which is checked: forward, all regions have the same one, with a channel for each bin.
pub(super) fn by_channel<T: Own>(
    to: &Planes<T>,
    bins_of: &Planes<T>,
    mapping: &View<'_>,
    nanoseconds: usize,
    add: impl Fn(Plane<T>, usize, [usize; 3]) + Sync,
) -> Result<()> {
    let [height, width] = bins_of.size;
    mapping.expect_dtype("channel_mapping", DType::I32)?;
    mapping.expect_sizes("channel_mapping", &[bins_of.batch, bins_of.channels, height, width])?;
    let size = to.channels as i64;
    Legal::below(size).check(mapping, |index| Error::Index { index, dim: 1, size })?;
    let channels = Planes::<i32>::of("channel_mapping", mapping)?;
    // SAFETY: a bin of the mapping's.
    let own = |region: usize, [channel, row, column]: [usize; 3]| unsafe {
        channels.plane(region, channel).get([row, column]) as usize
    };
    let mut bin_of: Vec<Option<[usize; 3]>> = filled(to.channels, None);
    for channel in 0..if bins_of.batch > 0 { bins_of.channels } else { 0 } {
        for [row, column] in bins(bins_of.size) {
            let bin = [channel, row, column];
            let is_alike = (1..bins_of.batch).all(|region| own(region, bin) == own(0, bin));
            if !is_alike || bin_of[own(0, bin)].replace(bin).is_some() {
                return Err(Error::Runtime("channel_mapping has no channel for each bin".into()));
            }
        }
    }
    threads::parallel(to.batch * to.channels, nanoseconds, |task| {
        let (image, own) = (task / to.channels, task % to.channels);
        let plane = to.plane(image, own);
        // SAFETY: the plane is this task's.
        unsafe { plane.fill(to.size, T::zero()) };
        if let Some(bin) = bin_of[own] {
            add(plane, image, bin);
        }
    });
    Ok(())
}
