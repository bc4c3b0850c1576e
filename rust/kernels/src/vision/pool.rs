//! The largest or the mean of the whole pixels of regions, by bins.

use crate::convert::Stored;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::fallible::{Collected, reserved};
use crate::threads;
use crate::validate::indices::Legal;
use crate::view::{Attrs, View};
use crate::vision::align::{bins, by_channel};
use crate::vision::plane::Planes;
use crate::vision::region::{Region, expect_own_channels, expect_rois, regions};
use crate::vision::{Own, cut, match_own};

/// Planes of bins of a task.
const TASK: usize = 8;

/// The pixels of a region: from the first to before the last of each bin, down and across.
struct Pixels {
    image: usize,
    spans: [Vec<[i32; 2]>; 2],
}

/// Which pixels are a bin's.
#[derive(Clone, Copy)]
struct Rule {
    /// Regions end with the pixel of their last corner, rather than before it.
    ends_within: bool,
    /// Pixels at the bottom and right edges that are nobody's.
    left_out: i32,
    /// Corners are rounded in f32.
    in_single: bool,
}

/// torchvision's means leave the last row and column out, and their gradients do not.
const LARGEST: Rule = Rule { ends_within: true, left_out: 0, in_single: false };
const MEAN: Rule = Rule { ends_within: false, left_out: 1, in_single: false };
const MEAN_BACKWARD: Rule = Rule { ends_within: false, left_out: 0, in_single: true };

impl Rule {
    fn pixels<T: Own>(self, region: &Region<T>, size: [usize; 2], bins: [usize; 2]) -> Pixels {
        let whole = |corner: T| {
            let corner = if self.in_single { f64::from(corner.to_f32()) } else { corner.to_f64() };
            cut(corner.round())
        };
        let spans = [0, 1].map(|dim| {
            let [start, end] = region.corners.map(|corner| whole(corner[dim]));
            let length = end.wrapping_sub(start).wrapping_add(i32::from(self.ends_within)).max(1);
            let bin_size = T::whole(length.into()) / T::whole(bins[dim] as i64);
            let last = (size[dim] as i32).wrapping_sub(self.left_out);
            let clip = |pixel: f64| cut(pixel).wrapping_add(start).max(0).min(last);
            let edge = |bin: usize| (T::whole(bin as i64) * bin_size).to_f64();
            (0..bins[dim]).map(|bin| [clip(edge(bin).floor()), clip(edge(bin + 1).ceil())]).collected()
        });
        Pixels { image: region.image, spans }
    }
}

impl Pixels {
    /// The pixels of a bin; none where it is empty.
    fn of(&self, [row, column]: [usize; 2]) -> impl Iterator<Item = [usize; 2]> + use<> {
        let [rows, columns] = [self.spans[0][row], self.spans[1][column]].map(|[first, end]| first..end);
        rows.flat_map(move |row| columns.clone().map(move |column| [row as usize, column as usize]))
    }

    /// How many pixels a bin has; zero where it is empty.
    fn count(&self, [row, column]: [usize; 2]) -> i64 {
        let [rows, columns] = [self.spans[0][row], self.spans[1][column]].map(|[first, end]| i64::from(end - first));
        if rows <= 0 || columns <= 0 { 0 } else { rows * columns }
    }
}

/// The pixels of all regions, and how many there are.
fn pixels<T: Own>(
    rule: Rule,
    rois: &View<'_>,
    input: &Planes<T>,
    bin_sizes: [usize; 2],
    scale: f64,
) -> Result<(Vec<Pixels>, usize)> {
    let mut all = reserved(rois.size(0));
    for region in regions::<T>(rois, input.batch, scale)? {
        all.push(rule.pixels(&region, input.size, bin_sizes));
    }
    let count = all.iter().flat_map(|pixels| bins(bin_sizes).map(|bin| pixels.count(bin) as usize)).sum();
    Ok((all, count))
}

/// `[out, argmax (i32), input, rois]`: `[K, channels, ..]` both, `[batch, channels, ..]`, `[K, 5]`; floats `[scale]`. The
/// place of the largest is that in its plane, in C order, or -1.
pub fn roi_pool(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [out, argmax, input, rois] = views else {
        return Err(Error::Runtime(format!("expected [out, argmax, input, rois], got {} views", views.len())));
    };
    expect_rois(rois, out, input)?;
    argmax.expect_dtype("argmax", DType::I32)?;
    match_own!(input.dtype(), T => {
        let (from, to, places) =
            (Planes::<T>::of("input", input)?, Planes::<T>::of("out", out)?, Planes::<i32>::of("argmax", argmax)?);
        for (name, view) in [("out", out), ("argmax", argmax)] {
            view.expect_sizes(name, &[rois.size(0), from.channels, to.size[0], to.size[1]])?;
        }
        if out.numel() == 0 {
            return Ok(());
        }
        let (regions, work) = pixels::<T>(LARGEST, rois, &from, to.size, attrs.float(0))?;
        let (channels, width) = (from.channels, from.size[1]);
        threads::parallel_chunks(regions.len() * channels, TASK, work * channels, |range| {
            for at in range {
                let (region, channel) = (at / channels, at % channels);
                let pixels = &regions[region];
                let plane = from.plane(pixels.image, channel);
                for bin in bins(to.size) {
                    let is_empty = pixels.count(bin) == 0;
                    let mut largest = T::from_f64(if is_empty { 0.0 } else { f64::from(f32::MIN) });
                    let mut place = -1;
                    for pixel in pixels.of(bin) {
                        // SAFETY: a region's pixels are its image's.
                        let value = unsafe { plane.get(pixel) };
                        if value > largest {
                            (largest, place) = (value, (pixel[0] * width + pixel[1]) as i32);
                        }
                    }
                    // SAFETY: the bin is this task's.
                    unsafe {
                        to.plane(region, channel).put(bin, largest);
                        places.plane(region, channel).put(bin, place);
                    }
                }
            }
        });
    });
    Ok(())
}

/// `[grad_input, grad, rois, argmax (i32)]`, floats `[scale]`.
pub fn roi_pool_backward(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [grad_input, grad, rois, argmax] = views else {
        return Err(Error::Runtime(format!("expected 4 views, got {}", views.len())));
    };
    expect_rois(rois, grad, grad_input)?;
    argmax.expect_dtype("argmax", DType::I32)?;
    match_own!(grad.dtype(), T => {
        let (from, to) = (Planes::<T>::of("grad", grad)?, Planes::<T>::of("grad_input", grad_input)?);
        for (name, view) in [("grad", grad), ("argmax", argmax)] {
            view.expect_sizes(name, &[rois.size(0), to.channels, from.size[0], from.size[1]])?;
        }
        let places = Planes::<i32>::of("argmax", argmax)?;
        let size = (to.size[0] * to.size[1]) as i64;
        Legal::below(size).ignoring(-1).check(argmax, |index| Error::Index { index, dim: 2, size })?;
        let regions = match grad.numel() {
            0 => Vec::new(),
            _ => regions::<T>(rois, to.batch, attrs.float(0))?,
        };
        let (channels, width) = (to.channels, to.size[1]);
        threads::parallel(to.batch * channels, 2 * grad.numel() + grad_input.numel(), |task| {
            let (image, channel) = (task / channels, task % channels);
            let plane = to.plane(image, channel);
            // SAFETY: the plane is this task's, and the places are in it.
            unsafe {
                plane.fill(to.size, T::zero());
                for (at, _) in regions.iter().enumerate().filter(|(_, region)| region.image == image) {
                    for bin in bins(from.size) {
                        if let Ok(place) = usize::try_from(places.plane(at, channel).get(bin)) {
                            plane.add([place / width, place % width], from.plane(at, channel).get(bin));
                        }
                    }
                }
            }
        });
    });
    Ok(())
}

/// `[out, channel_mapping (i32), input, rois]`: bin `i` of each region's `[channels, ..]` has the mean of channel `i` of
/// the input; floats `[scale]`.
pub fn ps_roi_pool(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
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
        let (regions, work) = pixels::<T>(MEAN, rois, &from, to.size, attrs.float(0))?;
        threads::parallel_chunks(regions.len() * to.channels, TASK, work * to.channels, |range| {
            for at in range {
                let (region, channel) = (at / to.channels, at % to.channels);
                let pixels = &regions[region];
                for (own, bin) in (channel * to.size[0] * to.size[1]..).zip(bins(to.size)) {
                    let (plane, count) = (from.plane(pixels.image, own), pixels.count(bin));
                    // SAFETY: a region's pixels are its image's.
                    let sum = pixels.of(bin).fold(T::zero(), |sum, pixel| sum + unsafe { plane.get(pixel) });
                    let mean = if count == 0 { T::zero() } else { sum / T::whole(count) };
                    // SAFETY: the bin is this task's.
                    unsafe {
                        to.plane(region, channel).put(bin, mean);
                        channels.plane(region, channel).put(bin, own as i32);
                    }
                }
            }
        });
    });
    Ok(())
}

/// `[grad_input, grad, rois, channel_mapping (i32)]`, floats `[scale]`.
pub fn ps_roi_pool_backward(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [grad_input, grad, rois, mapping] = views else {
        return Err(Error::Runtime(format!("expected 4 views, got {}", views.len())));
    };
    expect_rois(rois, grad, grad_input)?;
    match_own!(grad.dtype(), T => {
        let (from, to) = (Planes::<T>::of("grad", grad)?, Planes::<T>::of("grad_input", grad_input)?);
        let (regions, work) = match grad.numel() {
            0 => (Vec::new(), 0),
            _ => pixels::<T>(MEAN_BACKWARD, rois, &to, from.size, attrs.float(0))?,
        };
        by_channel(&to, &from, mapping, work * from.channels + grad_input.numel(), |plane, image, [channel, row, column]| {
            let bin = [row, column];
            for (at, pixels) in regions.iter().enumerate().filter(|(_, pixels)| pixels.image == image) {
                let count = T::whole(pixels.count(bin));
                for pixel in pixels.of(bin) {
                    // SAFETY: the plane is this task's, and a region's pixels are its image's.
                    unsafe { plane.add(pixel, from.plane(at, channel).get(bin) / count) };
                }
            }
        })?;
    });
    Ok(())
}
