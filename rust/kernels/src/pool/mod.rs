//! Max and average pooling over images of any strides. The loops run in lanes along the width, or
//! along the channels where those are dense (channels-last).

mod average;
mod max;
mod rows;
mod strips;
mod windows;

pub use average::{adaptive_average, adaptive_average_backward, average, average_backward};
pub use max::{max, max_backward};
pub use windows::{adaptive_max, fractional_max, max_pool3d, unpool};

use crate::error::{Error, Result};
use crate::threads;
use crate::view::View;

/// Channels of a channels-last backward task.
const CHANNELS: usize = 16;

/// Images as (batch, channels, height, width); a 3-D tensor is a batch of one.
#[derive(Clone, Copy)]
struct Images {
    sizes: [usize; 4],
    strides: [isize; 4],
}

impl Images {
    fn of(view: &View<'_>, name: &str) -> Result<Self> {
        if !matches!(view.rank(), 3 | 4) {
            return Err(Error::Shape(format!("{name}: Expected 3D or 4D (batch mode) tensor, got {:?}", view.sizes())));
        }
        let added = 4 - view.rank();
        let images = Self {
            sizes: std::array::from_fn(|dim| if dim < added { 1 } else { view.size(dim - added) }),
            strides: std::array::from_fn(|dim| if dim < added { 0 } else { view.stride(dim - added) }),
        };
        if images.sizes[2] * images.sizes[3] > i32::MAX as usize {
            return Err(Error::Shape(format!("{name}: an image of {:?} has too many pixels", view.sizes())));
        }
        Ok(images)
    }

    fn numel(&self) -> usize {
        self.sizes.iter().product()
    }

    fn offset(&self, at: [usize; 4]) -> isize {
        at.iter().zip(self.strides).map(|(&at, stride)| at as isize * stride).sum()
    }

    fn channels_are_dense(&self) -> bool {
        self.strides[1] == 1 && self.sizes[1] > 1 && self.strides[3] != 1
    }

    fn planes_are_dense(&self) -> bool {
        (self.strides[3] == 1 || self.sizes[3] == 1)
            && (self.strides[2] == self.sizes[3] as isize || self.sizes[2] == 1)
    }

    fn expect_batch_of(&self, other: &Self, name: &str) -> Result<()> {
        if self.sizes[..2] == other.sizes[..2] {
            return Ok(());
        }
        Err(Error::Shape(format!(
            "expected {name} of batch and channels {:?}, got {:?}",
            &other.sizes[..2],
            self.sizes
        )))
    }
}

/// Calls `body(image, first channel, channels)` for the blocks of channels that a backward pass
/// gathers its sums for: single ones, or a block where channels are dense.
fn for_each_block(images: &Images, nanoseconds: usize, body: impl Fn(usize, usize, usize) + Sync) {
    let channels = images.sizes[1];
    let block = if images.channels_are_dense() { CHANNELS } else { 1 };
    let blocks = channels.div_ceil(block);
    threads::parallel(images.sizes[0] * blocks, nanoseconds, |task| {
        let first = task % blocks * block;
        body(task / blocks, first, block.min(channels - first));
    });
}
