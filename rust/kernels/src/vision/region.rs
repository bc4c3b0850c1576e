//! Regions of images: rows `[image, left, top, right, bottom]`.

use crate::error::{Error, Result};
use crate::fallible::reserved;
use crate::view::View;
use crate::vision::{Own, cut};

/// A region as it was given: its image, and its corners times the scale of the image.
pub struct Region<T> {
    pub image: usize,
    /// (top, left), then (bottom, right).
    pub corners: [[T; 2]; 2],
}

/// The regions of `rois`; refuses a region of an image that there is not.
pub fn regions<T: Own>(rois: &View<'_>, images: usize, scale: f64) -> Result<Vec<Region<T>>> {
    let scale = T::from_f64(scale);
    let number = |row: usize, column: usize| {
        let offset = row as isize * rois.stride(0) + column as isize * rois.stride(1);
        // SAFETY: within the view, whose sizes and dtype were checked.
        unsafe { *rois.ptr::<T>().wrapping_offset(offset) }
    };
    let mut regions = reserved(rois.size(0));
    for row in 0..rois.size(0) {
        let image = cut(number(row, 0).to_f64());
        let corner = |x: usize| [number(row, x + 1) * scale, number(row, x) * scale];
        match usize::try_from(image) {
            Ok(image) if image < images => regions.push(Region { image, corners: [corner(1), corner(3)] }),
            _ => return Err(Error::Index { index: image.into(), dim: 0, size: images as i64 }),
        }
    }
    Ok(regions)
}

/// Checks rois of `[K, 5]` for `[K, .., .., ..]` bins.
pub fn expect_rois(rois: &View<'_>, bins: &View<'_>, like: &View<'_>) -> Result<()> {
    bins.expect_rank("bins", 4)?;
    bins.expect_dtype("bins", like.dtype())?;
    rois.expect_dtype("rois", like.dtype())?;
    rois.expect_sizes("rois", &[bins.size(0), 5])
}

/// The channels of which each bin of `[K, channels, height, width]` has its own: `channels * height * width` of them.
pub fn expect_own_channels(bins: &View<'_>, channels: usize) -> Result<()> {
    let own: i64 = bins.sizes()[1..].iter().product();
    if own == channels as i64 {
        return Ok(());
    }
    Err(Error::Shape(format!("{channels} channels are not one for each bin of {:?}", bins.sizes())))
}
