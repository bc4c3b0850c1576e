//! Counts made of elements, and elements made of counts: bincount and repeat_interleave.

use super::read::expect;
use crate::convert::Stored;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::fallible::filled;
use crate::threads;
use crate::view::{Attrs, View};
use crate::{match_float, match_stored};

/// Numbers of a task.
const TASK: usize = 16 * 1024;

/// `[out (1-D), self (1-D, integers), weights? (1-D)]`: for each number below the output's size, how
/// often it occurs (an i64), or the sum of its weights in order. No number is outside.
pub fn bincount(views: &[View<'_>], _attrs: &Attrs<'_>) -> Result<()> {
    let [out, from, weights] = expect(views)?;
    out.expect_rank("out", 1)?;
    from.expect_rank("self", 1)?;
    let (bins, count, stride) = (out.size(0), from.size(0), from.stride(0));
    let mut numbers = filled(count, 0usize);
    match_stored!(from.dtype(), S => {
        for (at, number) in numbers.iter_mut().enumerate() {
            // SAFETY: `at` is below the size.
            let value = unsafe { *from.ptr::<S>().wrapping_offset(at as isize * stride) }.to_i64();
            *number = usize::try_from(value).ok().filter(|&value| value < bins).ok_or(Error::Index {
                index: value,
                dim: 0,
                size: bins as i64,
            })?;
        }
    });
    let step = out.stride(0);
    let Some(weights) = weights.optional() else {
        out.expect_dtype("out", DType::I64)?;
        let mut counts = filled(bins, 0i64);
        for number in numbers {
            counts[number] += 1;
        }
        for (bin, count) in counts.into_iter().enumerate() {
            // SAFETY: a bin of the output.
            unsafe { *out.ptr::<i64>().wrapping_offset(bin as isize * step) = count };
        }
        return Ok(());
    };
    weights.expect_dtype("weights", out.dtype())?;
    weights.expect_sizes("weights", &[count])?;
    match_float!(out.dtype(), S => {
        let mut sums = filled(bins, S::from_f64(0.0));
        for (at, number) in numbers.into_iter().enumerate() {
            // SAFETY: `at` is below the weights' size.
            let weight = unsafe { *weights.ptr::<S>().wrapping_offset(at as isize * weights.stride(0)) };
            sums[number] += weight;
        }
        for (bin, sum) in sums.into_iter().enumerate() {
            // SAFETY: a bin of the output.
            unsafe { *out.ptr::<S>().wrapping_offset(bin as isize * step) = sum };
        }
    });
    Ok(())
}

/// `[out (1-D), ends (1-D, i64)]`, `ends` the running sums of how often each position is repeated, the
/// last of them the output's size.
pub fn repeat_interleave(views: &[View<'_>], _attrs: &Attrs<'_>) -> Result<()> {
    let [out, ends] = expect(views)?;
    out.expect_rank("out", 1)?;
    ends.expect_rank("ends", 1)?;
    ends.expect_dtype("ends", DType::I64)?;
    let (count, size) = (ends.size(0), out.size(0));
    // SAFETY: `at` is below the count.
    let end = |at: usize| unsafe { *ends.ptr::<i64>().wrapping_offset(at as isize * ends.stride(0)) };
    let mut last = 0;
    for at in 0..count {
        if end(at) < last {
            return Err(Error::Runtime("repeats can not be negative".into()));
        }
        last = end(at);
    }
    if last != size as i64 {
        return Err(Error::Runtime(format!("allocated size {size} does not match the sum of repeats {last}")));
    }
    let step = out.stride(0);
    match_stored!(out.dtype(), S => threads::parallel_chunks(count, TASK, count * 2 + size, |range| {
        let mut place = if range.start == 0 { 0 } else { end(range.start - 1) };
        for at in range {
            while place < end(at) {
                // SAFETY: no end is above the output's size.
                unsafe { *out.ptr::<S>().wrapping_offset(place as isize * step) = S::from_i64(at as i64) };
                place += 1;
            }
        }
    }));
    Ok(())
}
