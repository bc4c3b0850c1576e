//! Tells which outputs of a gather are final.

use std::ops::Range;

use super::Images;
use crate::finish::{self, Finish};
use crate::reduce::Runs;

/// How an output lies in memory.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    /// Plane after plane.
    Planes,
    /// The channels of each position side by side.
    Channels,
    /// Image after image.
    Images,
    Other,
}

#[derive(Clone, Copy)]
pub struct Report<'a> {
    finish: &'a dyn Finish,
    order: Order,
    count: usize,
    channels: usize,
    positions: usize,
}

impl<'a> Report<'a> {
    pub fn new<S>(finish: &'a dyn Finish, out: &Images<S>) -> Self {
        let (count, channels) = ((out.count, out.count_stride), (out.channels, out.channel_stride));
        let [depth, row, col] = [0, 1, 2].map(|dim: usize| (out.size[dim], out.stride[dim]));
        let image = out.channels * out.positions();
        let order = match () {
            () if finish::is_dense([col, row, depth, channels, count]) => Order::Planes,
            () if finish::is_dense([channels, col, row, depth, count]) => Order::Channels,
            () if out.count == 1 || out.count_stride == image as isize => Order::Images,
            () => Order::Other,
        };
        Self { finish, order, count: out.count, channels: out.channels, positions: out.positions() }
    }

    /// The same, where the output is plane after plane.
    pub fn of_planes(self) -> Option<Self> {
        (self.order == Order::Planes).then_some(self)
    }

    /// The same, where the channels of a position are side by side.
    pub fn of_channels(self) -> Option<Self> {
        (self.order == Order::Channels).then_some(self)
    }

    /// Tells of some positions of some channels of an image of planes.
    ///
    /// # Safety
    /// As for [`Finish::finish`].
    pub unsafe fn part(&self, image: usize, channels: Range<usize>, positions: Range<usize>) {
        let start = (image * self.channels + channels.start) * self.positions + positions.start;
        let (length, count, step) = (positions.len(), channels.len(), self.positions);
        let runs = if length == step {
            Runs { start, length: length * count, count: 1, step: length * count }
        } else {
            Runs { start, length, count, step }
        };
        // SAFETY: the caller's.
        unsafe { self.finish.finish(runs) };
    }

    /// Tells of planes, counted through images and channels.
    ///
    /// # Safety
    /// As for [`Finish::finish`].
    pub unsafe fn planes(&self, planes: Range<usize>) {
        let (start, length) = (planes.start * self.positions, planes.len() * self.positions);
        // SAFETY: the caller's.
        unsafe { self.finish.finish(Runs { start, length, count: 1, step: length }) };
    }

    /// Tells of all channels of positions, counted through the images, where those are side by side.
    ///
    /// # Safety
    /// As for [`Finish::finish`].
    pub unsafe fn positions(&self, positions: Range<usize>) {
        let (start, length) = (positions.start * self.channels, positions.len() * self.channels);
        // SAFETY: the caller's.
        unsafe { self.finish.finish(Runs { start, length, count: 1, step: length }) };
    }

    /// Tells of whole images, or of all where they do not lie one after the other and these are the last.
    ///
    /// # Safety
    /// As for [`Finish::finish`]; all images before these are final.
    pub unsafe fn images(&self, images: Range<usize>) {
        let image = self.channels * self.positions;
        let total = self.count * image;
        // SAFETY: the caller's.
        unsafe {
            match self.order {
                Order::Other if images.end < self.count => {}
                Order::Other => finish::tell(self.finish, 0..total, total),
                _ => finish::tell(self.finish, images.start * image..images.end * image, total),
            }
        }
    }
}
