//! What the passes share about a block of queries: its rows turned into lanes, its mask, its
//! dropout.

use super::product::Rows;
use super::{Dropout, Geometry, LANES, QUERIES};
use crate::convert::StoredFloat;
use crate::element::Element;
use crate::isa::Level;
use crate::matmul::Matrix;
use crate::random;
use crate::value::Value;

/// Numbers that are computed side by side.
pub type Lane<T> = [T; LANES];

/// The lanes from `at` on of a row.
///
/// # Safety
/// The row has them.
#[inline(always)]
pub unsafe fn load<T: Element>(row: *const T, at: usize) -> Lane<T> {
    // SAFETY: the caller's.
    unsafe { row.add(at).cast::<Lane<T>>().read_unaligned() }
}

/// # Safety
/// As [`load`], for writing.
#[inline(always)]
pub unsafe fn store<T: Element>(row: *mut T, at: usize, lanes: Lane<T>) {
    // SAFETY: the caller's.
    unsafe { row.add(at).cast::<Lane<T>>().write_unaligned(lanes) }
}

/// A block of queries of one head.
#[derive(Clone, Copy)]
pub struct Block {
    pub batch: usize,
    pub head: usize,
    pub first: usize,
    pub count: usize,
    /// The queries rounded up to whole lanes.
    pub lanes: usize,
    pub level: Level,
}

impl Block {
    pub fn of(geometry: &Geometry, batch: usize, head: usize, first: usize, level: Level) -> Self {
        let count = QUERIES.min(geometry.queries - first);
        Self { batch, head, first, count, lanes: count.next_multiple_of(LANES), level }
    }

    /// Writes the block's rows of `from`, times `scale`, as `[column][query]`; missing queries are
    /// zero.
    ///
    /// # Safety
    /// The matrix holds the block's rows; `to` holds its columns, of `lanes` each.
    #[inline(always)]
    pub unsafe fn turn<S: StoredFloat>(&self, from: Matrix<S>, scale: S::Math, to: *mut S::Math) {
        for col in 0..from.cols {
            // SAFETY: the caller's.
            unsafe {
                let to = to.add(col * self.lanes);
                for lane in 0..self.count {
                    *to.add(lane) = (*from.at(self.first + lane, col)).load().mul(scale);
                }
                for lane in self.count..self.lanes {
                    *to.add(lane) = Value::ZERO;
                }
            }
        }
    }

    /// Adds the mask to the scores of `keys` keys from `first_key` on, and hides the keys that come
    /// after their query.
    ///
    /// # Safety
    /// The mask and the scores hold the block's queries and keys.
    #[inline(always)]
    pub unsafe fn mask<S: StoredFloat>(
        &self,
        scores: Rows<S::Math>,
        keys: std::ops::Range<usize>,
        mask: Option<Matrix<S>>,
        causal: bool,
    ) {
        for (row, key) in keys.enumerate() {
            let scores = scores.data.wrapping_add(row * scores.pitch);
            if let Some(mask) = mask {
                for lane in 0..self.count {
                    // SAFETY: the caller's.
                    unsafe {
                        let term = (*mask.at(self.first + lane, key)).load();
                        *scores.add(lane) = (*scores.add(lane)).add(term);
                    }
                }
            }
            if causal && key > self.first {
                for lane in 0..(key - self.first).min(self.count) {
                    // SAFETY: the caller's.
                    unsafe { *scores.add(lane) = Value::LOWEST };
                }
            }
        }
    }
}

impl Dropout {
    /// What a key's scores of a block are multiplied by: zero, or one over the share that is kept.
    pub fn factors<T: crate::element::Float>(&self, geometry: &Geometry, block: &Block, key: usize) -> [T; QUERIES] {
        let row = (block.batch * geometry.heads + block.head) * geometry.keys + key;
        let start = row * self.pitch + block.first;
        let mut words = [0; QUERIES];
        random::fill_words(block.level, self.stream, start as u64, &mut words[..block.count.next_multiple_of(4)]);
        let scale = T::from_f64(self.scale);
        words.map(|word| if u64::from(word) < self.below { scale } else { T::ZERO })
    }
}
