//! A convolution's weights, as the register tiles of a gather read them: in place, row by row.

use super::Target;
use crate::convert::StoredFloat;
use crate::error::Result;
use crate::fallible::Collected;
use crate::scratch::Scratch;
use crate::threads;

/// Output channels of one register tile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Block {
    pub first: usize,
    pub rows: usize,
}

/// Cuts `channels` into blocks of `most`, the rest into blocks of smaller powers of two, or three.
pub fn blocks(channels: usize, most: usize) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut first = 0;
    while first < channels {
        let rows = match channels - first {
            left if left >= most => most,
            3 => 3,
            left => 1 << left.ilog2(),
        };
        blocks.push(Block { first, rows });
        first += rows;
    }
    blocks
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

/// The weights of every group in the type of the arithmetic: in place, or widened.
pub struct Weights<T> {
    data: Target<T>,
    _widened: Option<Scratch<T>>,
    group: isize,
    /// From an output channel's weight to the next one's.
    pub output: isize,
    input: isize,
    pub taps: Vec<isize>,
}

impl<T: crate::lanes::Real> Weights<T> {
    pub fn new<S: StoredFloat<Math = T>>(
        source: &Source<'_, S>,
        groups: usize,
        outputs: usize,
        inputs: usize,
    ) -> Result<Self> {
        if S::DTYPE == T::DTYPE {
            return Ok(Self {
                data: Target(source.data.cast_mut().cast()),
                _widened: None,
                group: source.group,
                output: source.output,
                input: source.input,
                taps: source.taps.to_vec(),
            });
        }
        let taps = source.taps.len();
        let each = inputs * taps;
        let widened = Scratch::<T>::new(groups * outputs * each)?;
        let (from, to) = (Target(source.data.cast_mut()), Target(widened.ptr()));
        let &Source { group, output, input, taps: offsets, .. } = source;
        threads::parallel(groups * outputs, groups * outputs * each, |row| {
            let first = (row / outputs) as isize * group + (row % outputs) as isize * output;
            for at in 0..inputs {
                let from = from.get().wrapping_offset(first + at as isize * input);
                for (tap, &offset) in offsets.iter().enumerate() {
                    // SAFETY: the source has every channel and tap; the row is this task's.
                    unsafe { *to.get().add(row * each + at * taps + tap) = (*from.offset(offset)).load() };
                }
            }
        });
        Ok(Self {
            data: Target(widened.ptr()),
            _widened: Some(widened),
            group: (outputs * each) as isize,
            output: each as isize,
            input: taps as isize,
            taps: (0..taps as isize).collected(),
        })
    }

    /// The weights of a group's output channel from an input channel on.
    pub fn of(&self, group: usize, output: usize, input: usize) -> *const T {
        let offset = group as isize * self.group + output as isize * self.output + input as isize * self.input;
        self.data.get().wrapping_offset(offset)
    }

    /// From an input channel's first weight to that of the input channel `input` further on, at a tap.
    pub fn step(&self, input: usize, tap: usize) -> isize {
        input as isize * self.input + self.taps[tap]
    }
}
