//! The register tile of a gather: output channels by vectors of positions.

use super::positions::{Piece, Position};
use super::weights::Block;
use crate::convert::StoredFloat;
use crate::element::Element;
use crate::lanes::Lanes;
use crate::value::Value;

/// The most vectors of a tile.
pub const MOST: usize = 6;
/// Steps that are added one to another. A longer sum is one of such sums: its error grows with a chain's length.
const CHAIN: usize = 128;

/// Rows of a full tile: with its [`width`] they fill the registers, but for the operands and one more, since
/// the compiler loads the next row's weight before it has done with a row.
pub const fn rows(registers: usize) -> usize {
    if registers >= 32 { 8 } else { 6 }
}

/// Vectors of a tile of so many rows: enough sums to hide an addition's latency.
pub const fn width(registers: usize, rows: usize) -> usize {
    match rows {
        8.. => 3,
        4.. if registers < 32 => 2,
        3 if registers < 32 => 3,
        _ => MOST,
    }
}

/// Cuts `count` vectors into tiles of at most `most`, of the widths that there are.
pub fn cut(count: usize, most: usize) -> Vec<std::ops::Range<usize>> {
    let mut tiles = Vec::new();
    let mut first = 0;
    while first < count {
        let width = match count - first {
            left if left >= most => most,
            4 => 2,
            left => left.min(3),
        };
        tiles.push(first..first + width);
        first += width;
    }
    tiles
}

/// One input channel and tap: from a position to the source, and from a row to the weight.
#[derive(Clone, Copy)]
pub struct Step {
    pub source: isize,
    pub weight: isize,
}

/// What a tile computes.
pub struct Tile<'a, S: StoredFloat> {
    /// The block's weights, and the elements between its rows.
    pub weights: *const S::Math,
    pub weight_row: isize,
    /// Inputs and taps.
    pub steps: &'a [Step],
    /// The source's plane.
    pub source: *const S::Math,
    pub positions: &'a [Position],
    pub pieces: &'a [Piece],
    pub block: Block,
    /// The block's biases, or null.
    pub bias: *const S::Math,
    /// These are not the first input channels: the sums go on from those of the earlier ones.
    pub resume: bool,
    /// These are not the last input channels: the sums are kept, not written to the output.
    pub suspend: bool,
    /// Room for the sums: a tile's rows of `MOST` vectors.
    pub partial: *mut S::Math,
    /// The block's first channel of the output.
    pub out: *mut S,
    pub channel_stride: isize,
    pub lane_stride: isize,
}

impl<S: StoredFloat> Tile<'_, S> {
    /// # Safety
    /// The pointers are valid for the depth, positions and channels; the CPU has the level.
    #[inline(always)]
    pub unsafe fn run<L: Lanes<Elem = S::Math>>(&self) {
        // SAFETY: the caller's; the widths and rows are those that `cut` and `blocks` give.
        unsafe {
            match (self.block.rows, self.positions.len()) {
                (8, 3) => self.sized::<L, 8, 3>(),
                (8, 2) => self.sized::<L, 8, 2>(),
                (8, 1) => self.sized::<L, 8, 1>(),
                (6, 2) => self.sized::<L, 6, 2>(),
                (6, 1) => self.sized::<L, 6, 1>(),
                (4, 6) => self.sized::<L, 4, 6>(),
                (4, 3) => self.sized::<L, 4, 3>(),
                (4, 2) => self.sized::<L, 4, 2>(),
                (4, 1) => self.sized::<L, 4, 1>(),
                (3, 6) => self.sized::<L, 3, 6>(),
                (3, 3) => self.sized::<L, 3, 3>(),
                (3, 2) => self.sized::<L, 3, 2>(),
                (3, 1) => self.sized::<L, 3, 1>(),
                (2, 6) => self.sized::<L, 2, 6>(),
                (2, 3) => self.sized::<L, 2, 3>(),
                (2, 2) => self.sized::<L, 2, 2>(),
                (2, 1) => self.sized::<L, 2, 1>(),
                (1, 6) => self.sized::<L, 1, 6>(),
                (1, 3) => self.sized::<L, 1, 3>(),
                (1, 2) => self.sized::<L, 1, 2>(),
                (1, 1) => self.sized::<L, 1, 1>(),
                other => unreachable!("no tile of {other:?}"),
            }
        }
    }

    /// A block of one row.
    ///
    /// # Safety
    /// As for `run`.
    #[inline(always)]
    pub unsafe fn alone<L: Lanes<Elem = S::Math>>(&self) {
        // SAFETY: the caller's; the widths are those that `cut` gives.
        unsafe {
            match self.positions.len() {
                6 => self.sized::<L, 1, 6>(),
                3 => self.sized::<L, 1, 3>(),
                2 => self.sized::<L, 1, 2>(),
                _ => self.sized::<L, 1, 1>(),
            }
        }
    }

    /// # Safety
    /// As for `run`.
    #[inline(always)]
    unsafe fn sized<L: Lanes<Elem = S::Math>, const ROWS: usize, const VECTORS: usize>(&self) {
        let partial = |row: usize, vector: usize| self.partial.wrapping_add((row * MOST + vector) * L::WIDTH);
        // SAFETY: the caller's.
        unsafe {
            let from: [*const S::Math; VECTORS] =
                std::array::from_fn(|vector| self.source.wrapping_offset(self.positions[vector].input));
            let mut goes_on = self.resume;
            let mut left = self.steps;
            // Once also without a step: a position that no tap reaches has a sum, of nothing.
            loop {
                let (steps, after) = left.split_at(CHAIN.min(left.len()));
                let mut sums = [[L::splat(S::Math::ZERO); VECTORS]; ROWS];
                if !goes_on && !self.bias.is_null() {
                    for row in 0..ROWS {
                        sums[row] = [L::splat(*self.bias.add(row)); VECTORS];
                    }
                }
                for step in steps {
                    let values: [L::Vector; VECTORS] =
                        std::array::from_fn(|vector| L::load(from[vector].wrapping_offset(step.source)));
                    let weights = self.weights.wrapping_offset(step.weight);
                    for row in 0..ROWS {
                        let weight = L::splat(*weights.wrapping_offset(row as isize * self.weight_row));
                        for vector in 0..VECTORS {
                            sums[row][vector] = L::fma(values[vector], weight, sums[row][vector]);
                        }
                    }
                }
                // Through memory, so that the sums have fixed registers while they are added to.
                for row in 0..ROWS {
                    for vector in 0..VECTORS {
                        let to = partial(row, vector);
                        let sum = sums[row][vector];
                        L::store(to, if goes_on { L::add(L::load(to), sum) } else { sum });
                    }
                }
                if after.is_empty() {
                    break;
                }
                (left, goes_on) = (after, true);
            }
            if self.suspend {
                return;
            }
            for row in 0..ROWS {
                let out = self.out.wrapping_offset(row as isize * self.channel_stride);
                for (vector, position) in self.positions.iter().enumerate() {
                    self.store::<L>(out, position, partial(row, vector));
                }
            }
        }
    }

    /// # Safety
    /// `out` is the channel's first output; the position's pieces are within it. The sums are a
    /// vector's.
    #[inline(always)]
    unsafe fn store<L: Lanes<Elem = S::Math>>(&self, out: *mut S, position: &Position, sums: *const S::Math) {
        let pieces = &self.pieces[position.first_piece..position.first_piece + position.pieces];
        let dense = S::DTYPE == S::Math::DTYPE && self.lane_stride == 1;
        // SAFETY: the caller's.
        unsafe {
            for piece in pieces {
                let from = sums.add(piece.lane);
                let to = out.offset(piece.out);
                if dense && piece.count == L::WIDTH {
                    L::store(to.cast(), L::load(from));
                } else if dense {
                    L::store_partial(to.cast(), L::load_partial(from, piece.count), piece.count);
                } else {
                    scatter(from, piece.count, to, self.lane_stride);
                }
            }
        }
    }
}

/// Not inlined: its conversions would take registers from the tile's sums.
///
/// # Safety
/// `from` is valid for `count` elements, `to` for as many at its stride.
#[inline(never)]
unsafe fn scatter<S: StoredFloat>(from: *const S::Math, count: usize, to: *mut S, stride: isize) {
    for at in 0..count {
        // SAFETY: the caller's.
        unsafe { *to.offset(at as isize * stride) = S::save(*from.add(at)) };
    }
}
