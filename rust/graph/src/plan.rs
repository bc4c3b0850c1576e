//! The memory plan: what a run holds, and from when to when. A large intermediate is a block of the pool
//! from its first use to its last, a result from its first, and an input until its last: so a run holds
//! what eager would. Small intermediates that are not alive together share bytes of one arena.

use crate::liveness;
use crate::program::{BufferId, Place, Program};

/// Alignment of a buffer.
const ALIGNMENT: usize = 64;
/// An intermediate from this size on is a block of its own: the pool's ways are then a small part of what
/// is done with it.
const BLOCK_FROM: usize = 4096;

/// What a run takes before an instruction, and gives back after it.
#[derive(Clone, Debug, Default)]
pub struct Held {
    pub taken: Vec<BufferId>,
    pub given: Vec<BufferId>,
}

pub fn run(program: &mut Program) {
    let intervals = liveness::intervals(program);
    for (buffer, interval) in program.buffers.iter_mut().zip(&intervals) {
        if matches!(buffer.place, Place::Arena(_)) {
            match interval {
                None => buffer.place = Place::Dead,
                Some(_) if buffer.bytes >= BLOCK_FROM => buffer.place = Place::Block,
                Some(_) => {}
            }
        }
    }
    lay_out(program, &intervals);
    hold(program, &intervals);
}

/// Gives every intermediate of the arena an offset: the largest first, each at the lowest gap that is free
/// during its life (greedy by size; Pisarchyk and Lee, "Efficient memory management for deep
/// neural net inference", 2020).
fn lay_out(program: &mut Program, intervals: &[Option<(usize, usize)>]) {
    let mut order: Vec<BufferId> =
        (0..program.buffers.len()).filter(|&id| matches!(program.buffers[id].place, Place::Arena(_))).collect();
    order.sort_by_key(|&id| (std::cmp::Reverse(program.buffers[id].bytes), id));
    // Placed buffers: (offset, end, first, last), sorted by offset.
    let mut placed: Vec<(usize, usize, usize, usize)> = Vec::new();
    for id in order {
        let Some((first, last)) = intervals[id] else { continue };
        let bytes = program.buffers[id].bytes.next_multiple_of(ALIGNMENT).max(ALIGNMENT);
        let mut offset = 0;
        for &(start, end, other_first, other_last) in &placed {
            if other_first > last || other_last < first {
                continue;
            }
            if offset + bytes <= start {
                break;
            }
            offset = offset.max(end);
        }
        program.buffers[id].place = Place::Arena(offset);
        let at = placed.partition_point(|other| other.0 <= offset);
        placed.insert(at, (offset, offset + bytes, first, last));
    }
    program.arena_bytes = placed.iter().map(|buffer| buffer.1).max().unwrap_or(0);
}

/// Says when memory is taken and given back, and finds the most that is held at once.
fn hold(program: &mut Program, intervals: &[Option<(usize, usize)>]) {
    let mut held = vec![Held::default(); program.instructions.len()];
    for (id, (buffer, interval)) in program.buffers.iter().zip(intervals).enumerate() {
        // What nothing uses is done with from the beginning.
        let (first, last) = interval.unwrap_or_default();
        if matches!(buffer.place, Place::Block | Place::Output(_)) && interval.is_some() {
            held[first].taken.push(id);
        }
        if matches!(buffer.place, Place::Block | Place::Input(_)) && last < held.len() {
            held[last].given.push(id);
        }
    }
    let bytes = |ids: &[BufferId], is_counted: fn(&Place) -> bool| -> usize {
        let buffers = ids.iter().map(|&id| &program.buffers[id]);
        buffers.filter(|buffer| is_counted(&buffer.place)).map(|buffer| buffer.bytes).sum()
    };
    let is_result = |place: &Place| matches!(place, Place::Output(_));
    let is_block = |place: &Place| matches!(place, Place::Block);
    let (mut intermediates, mut results) = (program.arena_bytes, 0);
    (program.intermediate_bytes, program.peak_bytes) = (intermediates, intermediates);
    for held in &held {
        intermediates += bytes(&held.taken, is_block);
        results += bytes(&held.taken, is_result);
        program.intermediate_bytes = program.intermediate_bytes.max(intermediates);
        program.peak_bytes = program.peak_bytes.max(intermediates + results);
        intermediates -= bytes(&held.given, is_block);
    }
    program.held = held;
}
