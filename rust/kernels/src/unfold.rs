//! The patches of images as columns, and columns summed back into images.

use crate::convert::{Compute, Stored, StoredFloat};
use crate::error::{Error, Result};
use crate::fallible::filled;
use crate::match_float;
use crate::threads;
use crate::value::Value;
use crate::view::{Attrs, View};

/// (height, width) each.
#[derive(Clone, Copy)]
struct Patches {
    kernel: [usize; 2],
    dilation: [usize; 2],
    padding: [usize; 2],
    stride: [usize; 2],
    image: [usize; 2],
    /// Patches down and across.
    count: [usize; 2],
}

impl Patches {
    /// Checks the columns `[batch, channels * kernel, patches]` of images `[batch, channels, height,
    /// width]`.
    fn of(columns: &View<'_>, images: &View<'_>, attrs: &Attrs<'_>) -> Result<Self> {
        images.expect_rank("images", 4)?;
        columns.expect_rank("columns", 3)?;
        columns.expect_dtype("columns", images.dtype())?;
        let [kernel, dilation, padding, stride] = [0, 2, 4, 6].map(|at| attrs.sizes::<2>(at));
        if [kernel, dilation, stride].as_flattened().contains(&0) {
            return Err(Error::Runtime("kernel size, dilation and stride should be greater than zero".into()));
        }
        let image = [images.size(2), images.size(3)];
        let mut count = [0; 2];
        for dim in 0..2 {
            let reach = dilation[dim] * (kernel[dim] - 1) + 1;
            let room = (image[dim] + 2 * padding[dim]).checked_sub(reach);
            count[dim] = room.map_or(0, |room| room / stride[dim] + 1);
        }
        let sizes = [images.size(0), images.size(1) * kernel[0] * kernel[1], count[0] * count[1]];
        columns.expect_sizes("columns", &sizes)?;
        Ok(Self { kernel, dilation, padding, stride, image, count })
    }

    /// The pixel along `dim` that a patch's tap reads, where it is within the image.
    fn pixel(&self, dim: usize, patch: usize, tap: usize) -> Option<usize> {
        let at = (patch * self.stride[dim] + tap * self.dilation[dim]).checked_sub(self.padding[dim])?;
        (at < self.image[dim]).then_some(at)
    }

    /// Calls `body(column's row, patch, row, column)` for a channel's taps; no pixel is padding.
    fn each(&self, mut body: impl FnMut(usize, usize, Option<[usize; 2]>)) {
        for down in 0..self.kernel[0] {
            for across in 0..self.kernel[1] {
                for row in 0..self.count[0] {
                    let y = self.pixel(0, row, down);
                    for column in 0..self.count[1] {
                        let pixel = y.zip(self.pixel(1, column, across)).map(|(y, x)| [y, x]);
                        body(down * self.kernel[1] + across, row * self.count[1] + column, pixel);
                    }
                }
            }
        }
    }
}

/// An address that tasks write disjoint planes of.
struct Planes<'a, 'b>(&'b View<'a>);

impl Planes<'_, '_> {
    fn at<S>(&self, index: [usize; 2]) -> *mut S {
        let offset = index[0] as isize * self.0.stride(0) + index[1] as isize * self.0.stride(1);
        self.0.ptr::<S>().wrapping_offset(offset)
    }
}

/// `[columns, images]`; ints `[kernel, dilation, padding, stride]`, (height, width) each.
pub fn im2col(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [columns, images] = views else {
        return Err(Error::Runtime(format!("expected [columns, images], got {} views", views.len())));
    };
    let patches = Patches::of(columns, images, attrs)?;
    let (channels, taps) = (images.size(1), patches.kernel[0] * patches.kernel[1]);
    match_float!(images.dtype(), S => threads::parallel(images.size(0) * channels, columns.numel() * 2, |task| {
        let (batch, channel) = (task / channels, task % channels);
        let from = Planes(images).at::<S>([batch, channel]);
        patches.each(|tap, patch, pixel| {
            let to = Planes(columns).at::<S>([batch, channel * taps + tap]);
            // SAFETY: the pixel is the image's and the patch the column's; channels are disjoint.
            unsafe {
                let value = pixel.map_or(Stored::from_f64(0.0), |[y, x]| {
                    *from.wrapping_offset(y as isize * images.stride(2) + x as isize * images.stride(3))
                });
                *to.wrapping_offset(patch as isize * columns.stride(2)) = value;
            }
        });
    }));
    Ok(())
}

/// `[images, columns]`: pixels that patches share are summed; ints as `im2col`'s.
pub fn col2im(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [images, columns] = views else {
        return Err(Error::Runtime(format!("expected [images, columns], got {} views", views.len())));
    };
    let patches = Patches::of(columns, images, attrs)?;
    let (channels, taps) = (images.size(1), patches.kernel[0] * patches.kernel[1]);
    let [height, width] = patches.image;
    match_float!(images.dtype(), S => {
        type Math<S> = <S as StoredFloat>::Math;
        threads::parallel(images.size(0) * channels, columns.numel() * 2 + images.numel(), |task| {
            let (batch, channel) = (task / channels, task % channels);
            let mut sums = filled(height * width, <Math<S> as Value>::ZERO);
            patches.each(|tap, patch, pixel| {
                let Some([y, x]) = pixel else { return };
                let from = Planes(columns).at::<S>([batch, channel * taps + tap]);
                // SAFETY: the patch is the column's.
                let value = unsafe { *from.wrapping_offset(patch as isize * columns.stride(2)) };
                let sum = &mut sums[y * width + x];
                *sum = Value::add(*sum, <Math<S> as Compute>::load(value));
            });
            let to = Planes(images).at::<S>([batch, channel]);
            for (pixel, sum) in sums.into_iter().enumerate() {
                let offset = (pixel / width) as isize * images.stride(2) + (pixel % width) as isize * images.stride(3);
                // SAFETY: a pixel of the image; channels are disjoint.
                unsafe { *to.wrapping_offset(offset) = sum.save() };
            }
        });
    });
    Ok(())
}
