//! Images as planes: one a batch and channel.

use crate::error::Result;
use crate::view::View;

/// A `[batch, channels, height, width]` view, whose dtype is `T`'s.
#[derive(Clone, Copy)]
pub struct Planes<T> {
    data: *mut T,
    pub batch: usize,
    pub channels: usize,
    pub size: [usize; 2],
    strides: [isize; 4],
}

// SAFETY: an address and a shape; tasks write disjoint planes or pixels.
unsafe impl<T> Send for Planes<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Planes<T> {}

impl<T> Planes<T> {
    pub fn of(name: &str, view: &View<'_>) -> Result<Self> {
        view.expect_rank(name, 4)?;
        Ok(Self {
            data: view.ptr(),
            batch: view.size(0),
            channels: view.size(1),
            size: [view.size(2), view.size(3)],
            strides: std::array::from_fn(|dim| view.stride(dim)),
        })
    }

    pub fn plane(&self, batch: usize, channel: usize) -> Plane<T> {
        let [along_batch, along_channels, down, across] = self.strides;
        let offset = batch as isize * along_batch + channel as isize * along_channels;
        Plane { data: self.data.wrapping_offset(offset), strides: [down, across] }
    }
}

/// One plane's pixels.
#[derive(Clone, Copy)]
pub struct Plane<T> {
    data: *mut T,
    strides: [isize; 2],
}

impl<T: Copy> Plane<T> {
    fn at(self, [row, column]: [usize; 2]) -> *mut T {
        self.data.wrapping_offset(row as isize * self.strides[0] + column as isize * self.strides[1])
    }

    /// # Safety
    /// The pixel is the plane's, and nobody else writes it.
    #[inline(always)]
    pub unsafe fn get(self, pixel: [usize; 2]) -> T {
        // SAFETY: the caller's.
        unsafe { *self.at(pixel) }
    }

    /// # Safety
    /// The pixel is the plane's, and nobody else reads or writes it.
    #[inline(always)]
    pub unsafe fn put(self, pixel: [usize; 2], value: T) {
        // SAFETY: the caller's.
        unsafe { *self.at(pixel) = value }
    }

    /// # Safety
    /// As for `put`, of all pixels of a plane of this size.
    pub unsafe fn fill(self, size: [usize; 2], value: T) {
        for row in 0..size[0] {
            for column in 0..size[1] {
                // SAFETY: the caller's.
                unsafe { self.put([row, column], value) };
            }
        }
    }
}

impl<T: Copy + std::ops::Add<Output = T>> Plane<T> {
    /// # Safety
    /// As for `put`.
    #[inline(always)]
    pub unsafe fn add(self, pixel: [usize; 2], value: T) {
        // SAFETY: the caller's.
        unsafe { self.put(pixel, self.get(pixel) + value) }
    }
}
