//! What the machine can do at most: the roof under which a profile's kernels are measured.

use std::hint::black_box;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Instant;

use super::locked;
use crate::fallible::filled;
use crate::isa::{self, Level};
use crate::lanes::{self, Lanes};
use crate::threads;

/// The peaks of this machine at a SIMD level and with a number of threads.
#[derive(Clone, Copy, Debug)]
pub struct Roofline {
    /// Multiplications and additions of f32, a second.
    pub flops: f64,
    /// Bytes to and from memory, a second.
    pub bytes: f64,
}

/// The last measurement, with what it was made for.
static MEASURED: Mutex<Option<(Level, usize, Roofline)>> = Mutex::new(None);

/// The machine's peaks, measured at the first call (some tenths of a second).
pub fn roofline() -> Roofline {
    let (level, threads) = (isa::level(), threads::num_threads());
    let mut measured = locked(&MEASURED);
    match *measured {
        Some((for_level, for_threads, roofline)) if (for_level, for_threads) == (level, threads) => roofline,
        _ => {
            let roofline = Roofline { flops: peak_flops(level, threads), bytes: peak_bytes(threads) };
            *measured = Some((level, threads, roofline));
            roofline
        }
    }
}

/// The best of some runs: what disturbs a run makes it slower, never faster.
fn best(amount: f64, run: impl Fn()) -> f64 {
    const RUNS: usize = 7;
    let seconds = (0..RUNS).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    });
    amount / seconds.fold(f64::INFINITY, f64::min)
}

/// Independent chains of fused multiply-adds: enough to hide the latency of each.
struct Chains {
    rounds: usize,
}

const CHAINS: usize = 12;

impl lanes::Kernel<f32> for Chains {
    type Output = f32;

    #[inline(always)]
    unsafe fn run<L: Lanes<Elem = f32>>(self) -> f32 {
        // SAFETY: the CPU has the level.
        unsafe {
            let (factor, term) = (L::splat(black_box(0.999)), L::splat(black_box(0.001)));
            let mut chains = [L::splat(1.0); CHAINS];
            for _ in 0..self.rounds {
                for chain in &mut chains {
                    *chain = L::fma(*chain, factor, term);
                }
            }
            chains.iter().map(|&chain| L::sum(chain)).sum()
        }
    }
}

fn width(level: Level) -> usize {
    match level {
        Level::Avx512 => 16,
        Level::Avx2 => 8,
        Level::Scalar => 1,
    }
}

fn peak_flops(level: Level, threads: usize) -> f64 {
    const ROUNDS: usize = 200_000;
    // Tasks by the dozen, so that a thread that wakes late still has its share.
    let tasks = threads * 12;
    let amount = (tasks * ROUNDS * CHAINS * width(level) * 2) as f64;
    best(amount, || {
        threads::parallel(tasks, usize::MAX, |_| {
            black_box(lanes::run_at(level, Chains { rounds: ROUNDS }));
        });
    })
}

fn peak_bytes(threads: usize) -> f64 {
    /// More than caches hold.
    const BYTES: usize = 64 << 20;
    let from = filled(BYTES, 1_u8);
    let mut to = filled(BYTES, 2_u8);
    let target = AtomicPtr::new(to.as_mut_ptr());
    best(2.0 * BYTES as f64, || {
        threads::parallel_chunks(BYTES, BYTES.div_ceil(threads * 8), usize::MAX, |range| {
            let target = target.load(Ordering::Relaxed).wrapping_add(range.start);
            // SAFETY: ranges are apart from each other, and within both buffers.
            unsafe { from.as_ptr().add(range.start).copy_to_nonoverlapping(target, range.len()) };
        });
        black_box(&from);
    })
}
