//! A convolution's weights in the order in which the register tiles read them: for each block of
//! output channels, the channels of one input and tap side by side.

use super::Target;
use crate::convert::StoredFloat;
use crate::element::Element;
use crate::error::Result;
use crate::scratch::Scratch;
use crate::threads;

/// Output channels of one register tile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Block {
    pub first: usize,
    /// Channels that there are.
    pub valid: usize,
    /// Rows of the tile: the channels, and zeros up to a size that tiles have.
    pub rows: usize,
}

/// Cuts `channels` into blocks of `rows`, the last one as small as holds the rest.
pub fn blocks(channels: usize, rows: usize) -> Vec<Block> {
    (0..channels)
        .step_by(rows)
        .map(|first| {
            let valid = rows.min(channels - first);
            Block { first, valid, rows: valid.next_power_of_two() }
        })
        .collect()
}

/// Where a weight lies: the strides of a group, of an output and of an input channel, and the
/// offset of each tap.
pub struct Source<'a, S> {
    pub data: *const S,
    pub group: isize,
    pub output: isize,
    pub input: isize,
    pub taps: &'a [isize],
}

/// The weights of every group.
pub struct Weights<T> {
    data: Scratch<T>,
    group: usize,
    depth: usize,
}

impl<T: crate::lanes::Real> Weights<T> {
    pub fn pack<S: StoredFloat<Math = T>>(
        source: &Source<'_, S>,
        groups: usize,
        inputs: usize,
        blocks: &[Block],
    ) -> Result<Self> {
        let depth = inputs * source.taps.len();
        let rows = blocks.last().map_or(0, |last| last.first + last.rows);
        let group = rows * depth;
        let data = Scratch::<T>::new(groups * group)?;
        let to = Target(data.ptr());
        let from = Target(source.data.cast_mut());
        let (taps, strides) = (source.taps, (source.group, source.output, source.input));
        threads::parallel(groups * blocks.len(), groups * group, |task| {
            let (at, block) = (task / blocks.len(), blocks[task % blocks.len()]);
            let first = at as isize * strides.0 + block.first as isize * strides.1;
            let from = from.get().cast_const().wrapping_offset(first);
            let to = to.get().wrapping_add(at * group + block.first * depth);
            // SAFETY: the block's part of the scratch belongs to this task; the source has every
            // channel and tap.
            unsafe {
                match block.rows {
                    8 => interleave::<S, 8>(from, to, block, strides, inputs, taps),
                    4 => interleave::<S, 4>(from, to, block, strides, inputs, taps),
                    2 => interleave::<S, 2>(from, to, block, strides, inputs, taps),
                    _ => interleave::<S, 1>(from, to, block, strides, inputs, taps),
                }
            }
        });
        Ok(Self { data, group, depth })
    }

    /// The weights of a block from the input channels' position `depth` on.
    pub fn of(&self, group: usize, block: &Block, depth: usize) -> *const T {
        self.data.ptr().wrapping_add(group * self.group + block.first * self.depth + depth * block.rows)
    }
}

/// # Safety
/// `to` holds `ROWS` weights for each input and tap; `from` has the block's valid channels.
unsafe fn interleave<S: StoredFloat, const ROWS: usize>(
    from: *const S,
    mut to: *mut S::Math,
    block: Block,
    (_, output, input): (isize, isize, isize),
    inputs: usize,
    taps: &[isize],
) {
    for channel in 0..inputs as isize {
        for &tap in taps {
            let from = from.wrapping_offset(channel * input + tap);
            for row in 0..ROWS {
                // SAFETY: the caller's.
                unsafe {
                    let valid = row < block.valid;
                    *to = if valid { (*from.offset(row as isize * output)).load() } else { S::Math::ZERO };
                    to = to.add(1);
                }
            }
        }
    }
}
