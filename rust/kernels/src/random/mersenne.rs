//! The generator of PyTorch's CPU, mt19937, drawn from as its CPU kernels draw: one number after
//! the other. A program of a model on the CPU draws here, so that its masks are those of CPU eager.

use super::dropout::{Blocks, Draws, apply, expect_masked};
use crate::convert::StoredFloat;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::fallible::Collected;
use crate::view::{Attrs, View};

/// Words of the generator's state.
pub const WORDS: usize = 624;
/// The state as an operand: its words, and how many of them have been drawn.
pub const STATE: usize = WORDS + 1;
const SHIFT: usize = 397;
/// Elements that are drawn at a time.
const BLOCK: usize = 256;
/// Bits of a number between zero and one in f64.
const BITS: u32 = f64::MANTISSA_DIGITS;

/// The generator, over the state's memory.
struct Mersenne<'a> {
    words: &'a mut [u32; WORDS],
    next: usize,
}

impl Mersenne<'_> {
    /// The next block of words.
    fn refill(&mut self) {
        fn twist(high: u32, low: u32) -> u32 {
            (((high & 0x8000_0000) | (low & 0x7fff_ffff)) >> 1) ^ ((low & 1).wrapping_neg() & 0x9908_b0df)
        }
        let words = &mut *self.words;
        for at in 0..WORDS - SHIFT {
            words[at] = words[at + SHIFT] ^ twist(words[at], words[at + 1]);
        }
        for at in WORDS - SHIFT..WORDS - 1 {
            words[at] = words[at + SHIFT - WORDS] ^ twist(words[at], words[at + 1]);
        }
        words[WORDS - 1] = words[SHIFT - 1] ^ twist(words[WORDS - 1], words[0]);
        self.next = 0;
    }

    fn fill(&mut self, mut out: &mut [u32]) {
        while !out.is_empty() {
            if self.next == WORDS {
                self.refill();
            }
            let count = out.len().min(WORDS - self.next);
            let (now, later) = out.split_at_mut(count);
            for (to, &word) in now.iter_mut().zip(&self.words[self.next..]) {
                let mut word = word;
                word ^= word >> 11;
                word ^= (word << 7) & 0x9d2c_5680;
                word ^= (word << 15) & 0xefc6_0000;
                *to = word ^ (word >> 18);
            }
            self.next += count;
            out = later;
        }
    }
}

/// `[out, mask (bool), state (i32), input]`, floats `[p]`: dropout whose mask is what `bernoulli_` of
/// PyTorch's CPU draws: two words an element, in the order of the mask's memory. The state is written back.
pub fn dropout(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let &[out, mask, state, input] = views else {
        return Err(Error::Runtime(format!("expected four operands, got {}", views.len())));
    };
    state.expect_dtype("the generator's state", DType::I32)?;
    if state.sizes() != [STATE as i64] || !state.is_contiguous() {
        return Err(Error::Shape(format!("the generator's state has {STATE} words, got {:?}", state.sizes())));
    }
    // SAFETY: dense and of `STATE` words, as just checked; no other operand of a program is the state.
    let words = unsafe { std::slice::from_raw_parts_mut(state.ptr::<u32>(), STATE) };
    let Some((words, [next])) = words.split_first_chunk_mut::<WORDS>() else {
        return Err(Error::Runtime("the generator's state is too short".into()));
    };
    if *next as usize > WORDS {
        return Err(Error::Runtime(format!("the generator's state has drawn {next} of {WORDS} words")));
    }
    let mut generator = Mersenne { words, next: *next as usize };
    let views = expect_masked(&[out, mask, input], 1)?;
    let mut order: Vec<usize> = (0..mask.rank()).collected();
    order.sort_by_key(|&dim| std::cmp::Reverse(mask.stride(dim)));
    let shapes = views.map(|view| [view.sizes(), view.strides()].map(|dims| permuted(dims, &order)));
    let in_order = |at: usize| {
        // SAFETY: the same elements, their dimensions in another order.
        unsafe { View::new(views[at].bytes(), views[at].dtype(), &shapes[at][0], &shapes[at][1]) }
    };
    apply(&[in_order(0), in_order(1), in_order(2)], attrs.float(0), &mut generator)?;
    *next = generator.next as u32;
    Ok(())
}

fn permuted(dims: &[i64], order: &[usize]) -> Vec<i64> {
    order.iter().map(|&dim| dims[dim]).collected()
}

impl Draws for &mut Mersenne<'_> {
    fn draw<S: StoredFloat>(&mut self, numel: usize, kept: f64, blocks: &Blocks<S>) {
        // `x / 2^53 < kept`, in whole numbers.
        let below = (kept * (1u64 << BITS) as f64).ceil() as u64;
        let mut words = [0; 2 * BLOCK];
        for start in (0..numel).step_by(BLOCK) {
            let count = BLOCK.min(numel - start);
            self.fill(&mut words[..2 * count]);
            blocks.keep(start, count, |at| {
                let number = (u64::from(words[2 * at]) << 32) | u64::from(words[2 * at + 1]);
                (number & ((1 << BITS) - 1)) < below
            });
        }
    }
}
