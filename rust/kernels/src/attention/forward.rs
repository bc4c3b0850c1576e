//! The forward pass: one task a block of queries.

use super::block::{Block, load, store};
use super::product::{Rows, product};
use super::{Geometry, Heads, Inputs, KEYS, LANES, QUERIES, converted};
use crate::convert::StoredFloat;
use crate::element::Float;
use crate::isa;
use crate::lanes::{Kernel, Lanes, run_at};
use crate::scratch::Scratch;
use crate::threads;
use crate::value::{Floating, Value};

/// Multiply-adds a nanosecond, to estimate the work.
const SPEED: usize = 32;

pub struct Problem<S: StoredFloat> {
    pub inputs: Inputs<S>,
    pub out: Heads<S>,
}

// SAFETY: addresses and shapes; tasks write disjoint queries.
unsafe impl<S: StoredFloat> Sync for Problem<S> {}

impl<S: StoredFloat> Problem<S> {
    pub fn run(&self) {
        let geometry = &self.inputs.geometry;
        if geometry.is_empty() {
            return;
        }
        let blocks = geometry.queries.div_ceil(QUERIES);
        let level = isa::level();
        threads::parallel(geometry.batch * geometry.heads * blocks, geometry.work() / SPEED, |task| {
            let head = task / blocks;
            let (batch, head) = (head / geometry.heads, head % geometry.heads);
            let block = Block::of(geometry, batch, head, task % blocks * QUERIES, level);
            run_at(level, Pass { problem: self, block });
        });
    }
}

struct Pass<'a, S: StoredFloat> {
    problem: &'a Problem<S>,
    block: Block,
}

impl<S: StoredFloat> Kernel<S::Math> for Pass<'_, S> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<L: Lanes<Elem = S::Math>>(self) {
        let Self { problem, block } = self;
        let geometry = &problem.inputs.geometry;
        let Geometry { width, value_width, .. } = *geometry;
        let lanes = block.lanes;
        let wide = width.max(value_width);
        // A task cannot refuse but by a panic, which `launch` turns into an error.
        let memory = Scratch::<S::Math>::new((width + value_width + KEYS) * lanes + KEYS * wide)
            .expect("working memory for a block of queries");
        let queries = memory.ptr();
        let sums = queries.wrapping_add(width * lanes);
        let scores = sums.wrapping_add(value_width * lanes);
        let spare = scores.wrapping_add(KEYS * lanes);
        let kept = block.head / geometry.group;
        let (key, value) = (problem.inputs.key.at(block.batch, kept), problem.inputs.value.at(block.batch, kept));
        let mask = problem.inputs.mask.map(|mask| mask.at(block.batch, block.head));
        let zero = <S::Math as Value>::ZERO;
        let mut largest = [<S::Math as Value>::LOWEST; QUERIES];
        let mut totals = [zero; QUERIES];
        // SAFETY: every block lies within its operand, as `attention` checked, and the scratch
        // holds what it is cut into above.
        unsafe {
            let query = problem.inputs.query.at(block.batch, block.head);
            block.turn(query, S::Math::from_f64(geometry.scale), queries);
            std::slice::from_raw_parts_mut(sums, value_width * lanes).fill(zero);
            let end = geometry.seen(block.first, block.count);
            for first in (0..end).step_by(KEYS) {
                let count = KEYS.min(end - first);
                let rows = |data| Rows { data, pitch: lanes };
                let keys = converted(key.part(first, 0, count, width), spare);
                product::<L>(rows(scores), keys, rows(queries), lanes, false);
                block.mask(rows(scores), first..first + count, mask, geometry.causal);
                for at in (0..lanes).step_by(LANES) {
                    power(scores, count, lanes, at, &mut largest, &mut totals, sums, value_width);
                }
                if let Some(dropout) = &problem.inputs.dropout {
                    for row in 0..count {
                        let factors = dropout.factors::<S::Math>(geometry, &block, first + row);
                        for (lane, &factor) in factors.iter().enumerate().take(lanes) {
                            let score = scores.add(row * lanes + lane);
                            *score = (*score).mul(factor);
                        }
                    }
                }
                let values = converted(value.part(first, 0, count, value_width), spare).transposed();
                product::<L>(rows(sums), values, rows(scores), lanes, true);
            }
            let out = problem.out.at(block.batch, block.head);
            for lane in 0..block.count {
                let empty = largest[lane] == Value::LOWEST;
                let (base, total) = if empty { (zero, Value::ONE) } else { (largest[lane], totals[lane]) };
                let scale = <S::Math as Value>::ONE.div(total);
                for col in 0..value_width {
                    *out.at(block.first + lane, col) = S::save((*sums.add(col * lanes + lane)).mul(scale));
                }
                *problem.inputs.logsumexp(block.batch, block.head, block.first + lane) = base.add(total.ln());
            }
        }
    }
}

/// Makes powers of the scores of one column of lanes, relative to their largest so far; the sums
/// made before are brought down to it.
///
/// # Safety
/// The scores hold `count` rows of `lanes`, the sums `value_width`; `at` is one of the columns.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "one step of the pass above")]
pub unsafe fn power<T: Float>(
    scores: *mut T,
    count: usize,
    lanes: usize,
    at: usize,
    largest: &mut [T; QUERIES],
    totals: &mut [T; QUERIES],
    sums: *mut T,
    value_width: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        let before = load(largest.as_ptr(), at);
        let mut after = before;
        for row in 0..count {
            let score = load(scores, row * lanes + at);
            for lane in 0..LANES {
                after[lane] = after[lane].max(score[lane]);
            }
        }
        store(largest.as_mut_ptr(), at, after);
        // A query that has seen no key yet: minus infinity less itself is no number.
        let mut base = after;
        let mut fade = [T::ZERO; LANES];
        for lane in 0..LANES {
            base[lane] = if after[lane] == T::LOWEST { T::ZERO } else { after[lane] };
            fade[lane] = before[lane].sub(base[lane]).exp_of_negative();
        }
        let mut total = load(totals.as_ptr(), at);
        for lane in 0..LANES {
            total[lane] = total[lane].mul(fade[lane]);
        }
        for row in 0..count {
            let mut score = load(scores, row * lanes + at);
            for lane in 0..LANES {
                score[lane] = score[lane].sub(base[lane]).exp_of_negative();
                total[lane] = total[lane].add(score[lane]);
            }
            store(scores, row * lanes + at, score);
        }
        store(totals.as_mut_ptr(), at, total);
        for col in 0..value_width {
            let mut sum = load(sums, col * lanes + at);
            for lane in 0..LANES {
                sum[lane] = sum[lane].mul(fade[lane]);
            }
            store(sums, col * lanes + at, sum);
        }
    }
}
