//! Strips of outputs in lanes, and the input that each tap of the window gives them.

use super::Images;
use crate::error::{Error, Result};
use crate::threads;
use crate::view::Attrs;

/// Lanes of a strip.
pub(super) const STRIP: usize = 128;
/// Outputs of a task.
pub(super) const TASK: usize = 4 * 1024;

/// A pooling window: (height, width) each.
#[derive(Clone, Copy)]
pub(super) struct Window {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub padding: [usize; 2],
    pub dilation: [usize; 2],
}

impl Window {
    pub fn of(attrs: &Attrs<'_>, dilated: bool) -> Result<Self> {
        let dilation = if dilated { attrs.sizes(6) } else { [1, 1] };
        let window = Self { kernel: attrs.sizes(0), stride: attrs.sizes(2), padding: attrs.sizes(4), dilation };
        if [window.kernel, window.stride, window.dilation].as_flattened().contains(&0) {
            return Err(Error::Runtime("kernel size, stride and dilation should be greater than zero".into()));
        }
        Ok(window)
    }
}

/// Outputs that are computed side by side: neighbours in a row, or channels of one pixel.
#[derive(Clone, Copy)]
pub(super) struct Strip {
    /// The first lane's output.
    pub at: [usize; 4],
    pub count: usize,
    pub along_channels: bool,
}

impl Strip {
    /// The stride from lane to lane.
    pub fn lane(&self, images: &Images) -> isize {
        images.strides[if self.along_channels { 1 } else { 3 }]
    }
}

/// What one tap gives the lanes `from..to`.
pub(super) struct Tap {
    /// The input's offset for lane 0 (which may not have one) and from lane to lane.
    pub offset: isize,
    pub stride: isize,
    pub from: usize,
    pub to: usize,
    /// The pixel's number for lane 0, and from lane to lane.
    pub position: i32,
    pub step: i32,
}

/// Calls `body` for strips that cover the outputs, in parallel.
pub(super) fn for_each_strip(outputs: &Images, along_channels: bool, nanoseconds: usize, body: impl Fn(Strip) + Sync) {
    let [batch, channels, height, width] = outputs.sizes;
    let (units, lanes) =
        if along_channels { (batch * height * width, channels) } else { (batch * channels * height, width) };
    let chunk = (TASK / lanes.max(1)).max(1);
    threads::parallel_chunks(units, chunk, nanoseconds, |range| {
        for unit in range {
            for start in (0..lanes).step_by(STRIP) {
                let at = if along_channels {
                    [unit / width / height, start, unit / width % height, unit % width]
                } else {
                    [unit / height / channels, unit / height % channels, unit % height, start]
                };
                body(Strip { at, count: STRIP.min(lanes - start), along_channels });
            }
        }
    });
}

/// Calls `body` for every tap of the strip's windows that reaches into the image, in C order.
#[inline(always)]
pub(super) fn for_each_tap(strip: &Strip, window: &Window, input: &Images, mut body: impl FnMut(Tap)) {
    let [image, channel, out_row, out_column] = strip.at;
    let [height, width] = [input.sizes[2] as isize, input.sizes[3] as isize];
    let base = input.offset([image, channel, 0, 0]);
    let start = |axis: usize, at: usize| (at * window.stride[axis]) as isize - window.padding[axis] as isize;
    let across = window.stride[1] as isize;
    for row_tap in 0..window.kernel[0] {
        let row = start(0, out_row) + (row_tap * window.dilation[0]) as isize;
        if row < 0 || row >= height {
            continue;
        }
        for column_tap in 0..window.kernel[1] {
            let column = start(1, out_column) + (column_tap * window.dilation[1]) as isize;
            let (from, to, stride, step) = if strip.along_channels {
                let inside = (0..width).contains(&column);
                (0, if inside { strip.count } else { 0 }, input.strides[1], 0)
            } else {
                let from = if column < 0 { (across - 1 - column) / across } else { 0 };
                let to = if column < width { (width - 1 - column) / across + 1 } else { 0 };
                (from as usize, (to as usize).min(strip.count), across * input.strides[3], across)
            };
            if from < to {
                let offset = base + row * input.strides[2] + column * input.strides[3];
                let position = (row * width + column) as i32;
                body(Tap { offset, stride, from, to, position, step: step as i32 });
            }
        }
    }
}
