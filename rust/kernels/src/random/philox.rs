//! Philox4x32-10 (Salmon et al., 2011), many counters at a time.

use super::Stream;
use crate::isa::Level;
use crate::lanes::{Vectorised, vectorise_at};

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;
/// Counters that are computed side by side.
const SIDE_BY_SIDE: usize = 32;

/// The four words of one counter.
#[inline(always)]
pub(super) fn block(seed: u64, counter: u64) -> [u32; 4] {
    nested(seed, counter, 0)
}

/// The four words at `place` of the sequence that a counter has of its own.
#[inline(always)]
pub(super) fn nested(seed: u64, counter: u64, place: u32) -> [u32; 4] {
    let mut words = [counter as u32, (counter >> 32) as u32, place, 0];
    let mut key = [seed as u32, (seed >> 32) as u32];
    for _ in 0..ROUNDS {
        let first = u64::from(words[0]) * u64::from(MULTIPLIERS[0]);
        let second = u64::from(words[2]) * u64::from(MULTIPLIERS[1]);
        words = [
            (second >> 32) as u32 ^ words[1] ^ key[0],
            second as u32,
            (first >> 32) as u32 ^ words[3] ^ key[1],
            first as u32,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    words
}

/// Fills `words` from the launch's word `start`, a multiple of four.
pub(crate) fn fill(level: Level, stream: Stream, start: u64, words: &mut [u32]) {
    struct Fill<'a> {
        seed: u64,
        counter: u64,
        words: &'a mut [u32],
    }
    impl Vectorised for Fill<'_> {
        type Output = ();
        #[inline(always)]
        unsafe fn run(self) {
            let mut counter = self.counter;
            let mut groups = self.words.chunks_exact_mut(4 * SIDE_BY_SIDE);
            for group in groups.by_ref() {
                let mut blocks = [[0; 4]; SIDE_BY_SIDE];
                for (lane, words) in blocks.iter_mut().enumerate() {
                    *words = block(self.seed, counter.wrapping_add(lane as u64));
                }
                group.copy_from_slice(blocks.as_flattened());
                counter = counter.wrapping_add(SIDE_BY_SIDE as u64);
            }
            for words in groups.into_remainder().chunks_mut(4) {
                words.copy_from_slice(&block(self.seed, counter)[..words.len()]);
                counter = counter.wrapping_add(1);
            }
        }
    }
    debug_assert_eq!(start % 4, 0);
    // SAFETY: the task holds a slice, no pointers.
    unsafe { vectorise_at(level, Fill { seed: stream.seed, counter: stream.offset.wrapping_add(start / 4), words }) }
}

#[cfg(test)]
mod tests {
    use super::block;

    #[test]
    fn known_answers() {
        // The paper's reference vectors for counter and key of all zero and (low half) all one bits.
        assert_eq!(block(0, 0), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
    }
}
