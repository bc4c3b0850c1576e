//! The memory plan: intermediates that are not alive together share bytes of one arena.

use crate::liveness;
use crate::program::{Place, Program};

/// Alignment of a buffer, and the distance that keeps equal-sized buffers from falling on the
/// same cache sets (addresses that differ by a multiple of 4096 bytes compete).
const ALIGNMENT: usize = 64;
const STAGGER: usize = 256;
const PAGE: usize = 4096;

/// Gives every intermediate an offset: the largest first, each at the lowest gap that is free
/// during its life (greedy by size; Pisarchyk and Lee, "Efficient memory management for deep
/// neural net inference", 2020).
pub fn run(program: &mut Program) {
    let intervals = liveness::intervals(program);
    let mut order: Vec<usize> = (0..program.buffers.len())
        .filter(|&id| matches!(program.buffers[id].place, Place::Arena(_)) && intervals[id].is_some())
        .collect();
    order.sort_by_key(|&id| (std::cmp::Reverse(program.buffers[id].bytes), id));
    // Placed buffers: (offset, end, first, last), sorted by offset.
    let mut placed: Vec<(usize, usize, usize, usize)> = Vec::new();
    for id in order {
        let Some((first, last)) = intervals[id] else { continue };
        let bytes = padded(program.buffers[id].bytes);
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
    for (id, interval) in intervals.iter().enumerate() {
        if interval.is_none() && matches!(program.buffers[id].place, Place::Arena(_)) {
            program.buffers[id].place = Place::Dead;
        }
    }
}

fn padded(bytes: usize) -> usize {
    let aligned = bytes.next_multiple_of(ALIGNMENT).max(ALIGNMENT);
    if aligned >= PAGE && aligned.is_multiple_of(PAGE) { aligned + STAGGER } else { aligned }
}
