//! The gradients: one task a head of keys and values, which computes the scores again from the
//! log-sum-exps.

use super::block::{Block, load, store};
use super::forward::power;
use super::product::{Rows, product};
use super::{Geometry, Heads, Inputs, KEYS, LANES, QUERIES, converted};
use crate::convert::StoredFloat;
use crate::element::Float;
use crate::isa::{self, Level};
use crate::lanes::{Kernel, Lanes, run_at};
use crate::matmul::Matrix;
use crate::scratch::Scratch;
use crate::threads;
use crate::value::{Floating, Value};

/// Multiply-adds of the forward pass that cost a nanosecond here.
const SPEED: usize = 12;
/// A log-sum-exp further from zero has rounded off too much of the logarithm of the sum: of a row that a mask moves
/// far down at every key, all of it.
const FAR: f64 = 256.0;

pub struct Problem<S: StoredFloat> {
    pub inputs: Inputs<S>,
    pub out: Heads<S>,
    pub grad: Heads<S>,
    pub grad_query: Heads<S>,
    pub grad_key: Heads<S>,
    pub grad_value: Heads<S>,
    pub grad_mask: Option<Heads<S>>,
}

// SAFETY: addresses and shapes; tasks write disjoint heads.
unsafe impl<S: StoredFloat> Sync for Problem<S> {}

impl<S: StoredFloat> Problem<S> {
    pub fn run(&self) {
        let Geometry { batch, heads, group, .. } = self.inputs.geometry;
        let kept = heads / group;
        let level = isa::level();
        threads::parallel(batch * kept, self.inputs.geometry.work() / SPEED, |task| {
            run_at(level, Pass { problem: self, batch: task / kept, kept: task % kept, level });
        });
    }
}

struct Pass<'a, S: StoredFloat> {
    problem: &'a Problem<S>,
    batch: usize,
    kept: usize,
    level: Level,
}

/// A block's working memory. Names that end in `turned` are `[column][query]`.
struct Room<T> {
    queries: *mut T,
    queries_turned: *mut T,
    grads: *mut T,
    grads_turned: *mut T,
    grad_query_turned: *mut T,
    scores: *mut T,
    grad_scores: *mut T,
    keys: *mut T,
    values: *mut T,
    grad_key: Rows<T>,
    grad_value: Rows<T>,
}

impl<S: StoredFloat> Kernel<S::Math> for Pass<'_, S> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<L: Lanes<Elem = S::Math>>(self) {
        let Self { problem, batch, kept, level } = self;
        let geometry = &problem.inputs.geometry;
        let Geometry { keys, queries, width, value_width, group, .. } = *geometry;
        let [pitch, value_pitch] = [width, value_width].map(|width| width.next_multiple_of(LANES));
        let pieces = [
            QUERIES * pitch,
            width * QUERIES,
            QUERIES * value_pitch,
            value_width * QUERIES,
            width * QUERIES,
            KEYS * QUERIES,
            KEYS * QUERIES,
            KEYS * width,
            KEYS * value_width,
            keys * pitch,
            keys * value_pitch,
        ];
        // A task cannot refuse but by a panic, which `launch` turns into an error.
        let memory = Scratch::<S::Math>::new(pieces.iter().sum()).expect("working memory for a head's gradients");
        let mut next = memory.ptr();
        let mut starts = [next; 11];
        for (start, piece) in starts.iter_mut().zip(pieces) {
            *start = next;
            next = next.wrapping_add(piece);
        }
        let room = Room {
            queries: starts[0],
            queries_turned: starts[1],
            grads: starts[2],
            grads_turned: starts[3],
            grad_query_turned: starts[4],
            scores: starts[5],
            grad_scores: starts[6],
            keys: starts[7],
            values: starts[8],
            grad_key: Rows { data: starts[9], pitch },
            grad_value: Rows { data: starts[10], pitch: value_pitch },
        };
        // SAFETY: `attention_backward` checked the shapes; the scratch holds the pieces.
        unsafe {
            let totals = std::slice::from_raw_parts_mut(room.grad_key.data, keys * (pitch + value_pitch));
            totals.fill(Value::ZERO);
            for head in kept * group..(kept + 1) * group {
                for first in (0..queries).step_by(QUERIES) {
                    let block = Block::of(geometry, batch, head, first, level);
                    problem.block::<L>(&block, kept, &room);
                }
            }
            save(problem.grad_key.at(batch, kept), room.grad_key);
            save(problem.grad_value.at(batch, kept), room.grad_value);
        }
    }
}

/// # Safety
/// The rows hold the matrix's.
#[inline(always)]
unsafe fn save<S: StoredFloat>(to: Matrix<S>, from: Rows<S::Math>) {
    for row in 0..to.rows {
        for col in 0..to.cols {
            // SAFETY: the caller's.
            unsafe { *to.at(row, col) = S::save(*from.data.add(row * from.pitch + col)) };
        }
    }
}

/// Copies a block's rows, times `scale`, padded with zeros to `pitch`.
///
/// # Safety
/// The matrix has the block's rows; `to` has room for them.
#[inline(always)]
unsafe fn pad<S: StoredFloat>(block: &Block, from: Matrix<S>, scale: S::Math, to: *mut S::Math, pitch: usize) {
    for lane in 0..block.count {
        for col in 0..pitch {
            // SAFETY: the caller's.
            unsafe {
                let value =
                    if col < from.cols { (*from.at(block.first + lane, col)).load().mul(scale) } else { Value::ZERO };
                *to.add(lane * pitch + col) = value;
            }
        }
    }
}

impl<S: StoredFloat> Problem<S> {
    /// The shares of one block of queries.
    ///
    /// # Safety
    /// The CPU has the level of `L`; the room's pieces are as large as `run` makes them.
    #[inline(always)]
    unsafe fn block<L: Lanes<Elem = S::Math>>(&self, block: &Block, kept: usize, room: &Room<S::Math>) {
        let geometry = &self.inputs.geometry;
        let Geometry { width, value_width, .. } = *geometry;
        let (lanes, one) = (block.lanes, <S::Math as Value>::ONE);
        let rows = |data| Rows { data, pitch: lanes };
        let scale = S::Math::from_f64(geometry.scale);
        let (key, value) = (self.inputs.key.at(block.batch, kept), self.inputs.value.at(block.batch, kept));
        let [query, grad, out, grad_query] = [&self.inputs.query, &self.grad, &self.out, &self.grad_query]
            .map(|heads| heads.at(block.batch, block.head));
        let mask = self.inputs.mask.map(|mask| mask.at(block.batch, block.head));
        let grad_mask = self.grad_mask.map(|mask| mask.at(block.batch, block.head));
        let mut logsumexp = [<S::Math as Value>::ZERO; QUERIES];
        // Each query's gradient times its output, summed.
        let mut shares = logsumexp;
        // What a query's powers, relative to its log-sum-exp, are multiplied by.
        let mut scales = [one; QUERIES];
        // SAFETY: every block lies within its operand, and the room holds it.
        unsafe {
            block.turn(query, scale, room.queries_turned);
            block.turn(grad, one, room.grads_turned);
            pad(block, query, scale, room.queries, room.grad_key.pitch);
            pad(block, grad, one, room.grads, room.grad_value.pitch);
            for lane in 0..block.count {
                let row = block.first + lane;
                logsumexp[lane] = *self.inputs.logsumexp(block.batch, block.head, row);
                for col in 0..value_width {
                    let term = (*grad.at(row, col)).load().mul((*out.at(row, col)).load());
                    shares[lane] = shares[lane].add(term);
                }
            }
            std::slice::from_raw_parts_mut(room.grad_query_turned, width * lanes).fill(Value::ZERO);
            let end = geometry.seen(block.first, block.count);
            let is_far = |logsumexp: &S::Math| logsumexp.abs() > S::Math::from_f64(FAR);
            if logsumexp.iter().any(is_far) {
                // Once more the largest scores and the sums, each by itself.
                let mut largest = [<S::Math as Value>::LOWEST; QUERIES];
                let mut totals = [<S::Math as Value>::ZERO; QUERIES];
                for first in (0..end).step_by(KEYS) {
                    let count = KEYS.min(end - first);
                    let keys = converted(key.part(first, 0, count, width), room.keys);
                    product::<L>(rows(room.scores), keys, rows(room.queries_turned), lanes, false);
                    block.mask(rows(room.scores), first..first + count, mask, geometry.causal);
                    for at in (0..lanes).step_by(LANES) {
                        power(room.scores, count, lanes, at, &mut largest, &mut totals, room.scores, 0);
                    }
                }
                for lane in 0..block.count {
                    if is_far(&logsumexp[lane]) {
                        (logsumexp[lane], scales[lane]) = (largest[lane], one.div(totals[lane]));
                    }
                }
            }
            for first in (0..end).step_by(KEYS) {
                let count = KEYS.min(end - first);
                let keys = converted(key.part(first, 0, count, width), room.keys);
                let values = converted(value.part(first, 0, count, value_width), room.values);
                product::<L>(rows(room.scores), keys, rows(room.queries_turned), lanes, false);
                block.mask(rows(room.scores), first..first + count, mask, geometry.causal);
                product::<L>(rows(room.grad_scores), values, rows(room.grads_turned), lanes, false);
                for row in 0..count {
                    let factors = self.inputs.dropout.map(|dropout| dropout.factors(geometry, block, first + row));
                    step(
                        room.scores,
                        room.grad_scores,
                        row * lanes,
                        lanes,
                        (&logsumexp, &scales),
                        &shares,
                        factors.as_ref(),
                    );
                }
                if let Some(grad_mask) = grad_mask {
                    for row in 0..count {
                        for lane in 0..block.count {
                            let share = *room.grad_scores.add(row * lanes + lane);
                            *grad_mask.at(block.first + lane, first + row) = S::save(share);
                        }
                    }
                }
                let per_key =
                    |data| Matrix { data, rows: count, cols: block.count, row_stride: lanes as isize, col_stride: 1 };
                let at = |to: Rows<S::Math>| Rows { data: to.data.add(first * to.pitch), pitch: to.pitch };
                for (to, scores, data) in
                    [(room.grad_value, room.scores, room.grads), (room.grad_key, room.grad_scores, room.queries)]
                {
                    let pitch = to.pitch;
                    product::<L>(at(to), per_key(scores), Rows { data, pitch }, pitch, true);
                }
                let turned = rows(room.grad_query_turned);
                product::<L>(turned, keys.transposed(), rows(room.grad_scores), lanes, true);
            }
            if let Some(grad_mask) = grad_mask {
                // Keys that a causal block does not see.
                for lane in 0..block.count {
                    for col in end..geometry.keys {
                        *grad_mask.at(block.first + lane, col) = S::save(Value::ZERO);
                    }
                }
            }
            for lane in 0..block.count {
                for col in 0..width {
                    let value = (*room.grad_query_turned.add(col * lanes + lane)).mul(scale);
                    *grad_query.at(block.first + lane, col) = S::save(value);
                }
            }
        }
    }
}

/// One key's row of scores becomes the powers that the values were weighted by, and the row of
/// their gradients becomes that of the scores.
///
/// # Safety
/// Both hold `lanes` numbers from `start` on.
#[inline(always)]
unsafe fn step<T: Float>(
    scores: *mut T,
    grads: *mut T,
    start: usize,
    lanes: usize,
    (logsumexp, scales): (&[T; QUERIES], &[T; QUERIES]),
    shares: &[T; QUERIES],
    factors: Option<&[T; QUERIES]>,
) {
    for at in (0..lanes).step_by(LANES) {
        // SAFETY: the caller's.
        unsafe {
            let (mut power, mut grad) = (load(scores, start + at), load(grads, start + at));
            let (base, share) = (load(logsumexp.as_ptr(), at), load(shares.as_ptr(), at));
            let scale = load(scales.as_ptr(), at);
            let mut dropped = [T::ZERO; LANES];
            let factor = factors.map_or([T::ONE; LANES], |factors| load(factors.as_ptr(), at));
            for lane in 0..LANES {
                power[lane] = power[lane].sub(base[lane]).exp().mul(scale[lane]);
                dropped[lane] = power[lane].mul(factor[lane]);
                grad[lane] = power[lane].mul(grad[lane].mul(factor[lane]).sub(share[lane]));
            }
            store(scores, start + at, dropped);
            store(grads, start + at, grad);
        }
    }
}
