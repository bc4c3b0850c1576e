//! Integers: elements that are moved, whatever they mean, and bytes weighed as PyTorch weighs those of images, by whole
//! weights, rounded after each dimension.

use super::taps::Taps;
use crate::error::{Error, Result};
use crate::fallible::{Collected, filled, push};
use crate::threads;
use crate::view::View;

/// The address of a plane: of the dimensions before the last `spatial` ones.
fn plane_of<T>(view: &View<'_>, spatial: usize, mut plane: usize) -> *mut T {
    let mut offset = 0;
    for dim in (0..view.rank() - spatial).rev() {
        offset += (plane % view.size(dim)) as isize * view.stride(dim);
        plane /= view.size(dim);
    }
    view.ptr::<T>().wrapping_offset(offset)
}

fn planes(view: &View<'_>, spatial: usize) -> usize {
    view.sizes()[..view.rank() - spatial].iter().product::<i64>() as usize
}

/// Each output is its only tap's input.
pub fn select(out: &View<'_>, input: &View<'_>, taps: &[Taps<f32>]) -> Result<()> {
    match out.dtype().size() {
        1 => select_typed::<u8>(out, input, taps),
        2 => select_typed::<u16>(out, input, taps),
        4 => select_typed::<u32>(out, input, taps),
        8 => select_typed::<u64>(out, input, taps),
        _ => return Error::dtype(out.dtype()),
    }
    Ok(())
}

fn select_typed<T: Copy>(out: &View<'_>, input: &View<'_>, taps: &[Taps<f32>]) {
    let (spatial, rank) = (taps.len(), out.rank());
    // Each dimension's steps in the input and in the output; dimensions that there are not have one step.
    let steps: [Vec<[isize; 2]>; 3] = std::array::from_fn(|at| match (at + spatial).checked_sub(3) {
        None => [[0, 0]].into_iter().collected(),
        Some(at) => {
            let [from, to] = [input, out].map(|view| view.stride(rank - spatial + at));
            let step = |output: usize| [taps[at].row(output).0[0] as isize * from, output as isize * to];
            (0..taps[at].outputs()).map(step).collected()
        }
    });
    threads::parallel(planes(out, spatial), out.numel(), |plane| {
        let (from, to) = (plane_of::<T>(input, spatial, plane), plane_of::<T>(out, spatial, plane));
        for [z_from, z_to] in &steps[0] {
            for [y_from, y_to] in &steps[1] {
                for [x_from, x_to] in &steps[2] {
                    // SAFETY: taps are within the input, outputs within the output's plane, which is this task's.
                    unsafe {
                        *to.wrapping_offset(z_to + y_to + x_to) = *from.wrapping_offset(z_from + y_from + x_from)
                    };
                }
            }
        }
    });
}

/// Weights of 16 bits with as many digits behind the point as the largest leaves.
struct Weights {
    digits: u32,
    rows: Vec<Vec<(usize, i32)>>,
}

impl Weights {
    fn of(taps: &Taps<f64>) -> Self {
        // What of an output is the same input is one weight.
        let merged = |output: usize| {
            let (indices, weights) = taps.row(output);
            let mut row: Vec<(usize, f64)> = Vec::new();
            for (&index, &weight) in indices.iter().zip(weights) {
                match row.last_mut() {
                    Some((last, sum)) if *last == index as usize => *sum += weight,
                    _ => push(&mut row, (index as usize, weight)),
                }
            }
            row
        };
        let rows: Vec<_> = (0..taps.outputs()).map(merged).collected();
        let largest = rows.iter().flatten().map(|&(_, weight)| weight).fold(0.0, f64::max);
        let digits = (0..22).find(|digits| 0.5 + largest * f64::from(1 << (digits + 1)) >= 32768.0).unwrap_or(22);
        let whole = |weight: f64| {
            let scaled = weight * f64::from(1 << digits);
            (if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
        };
        let rows = rows.into_iter().map(|row| row.into_iter().map(|(at, weight)| (at, whole(weight))).collected());
        Self { digits, rows: rows.collected() }
    }

    /// An output, of which `value(input)` gives the inputs.
    #[inline(always)]
    fn output(&self, output: usize, value: impl Fn(usize) -> u8) -> u8 {
        let half = if self.digits == 0 { 0 } else { 1 << (self.digits - 1) };
        let sum = self.rows[output].iter().fold(half, |sum, &(at, weight)| sum + i32::from(value(at)) * weight);
        (sum >> self.digits).clamp(0, 255) as u8
    }
}

/// Bytes in two dimensions: each row first, then the columns; a dimension that keeps its size is left as it is.
pub fn weigh(out: &View<'_>, input: &View<'_>, taps: &[Taps<f64>]) -> Result<()> {
    let [down, across] = taps else { return Error::dtype(input.dtype()) };
    let [by_row, by_column] = [down, across].map(|taps| (taps.inputs() != taps.outputs()).then(|| Weights::of(taps)));
    let (height, width) = (down.inputs(), across.outputs());
    let at = |view: &View<'_>, row: usize, column: usize| {
        let rank = view.rank();
        row as isize * view.stride(rank - 2) + column as isize * view.stride(rank - 1)
    };
    let work = planes(out, 2) * (height + down.outputs()) * width * 4;
    threads::parallel(planes(out, 2), work, |plane| {
        let (from, to) = (plane_of::<u8>(input, 2, plane), plane_of::<u8>(out, 2, plane));
        let mut rows = filled(height * width, 0);
        for row in 0..height {
            // SAFETY: a pixel of the input's plane.
            let pixel = |column: usize| unsafe { *from.wrapping_offset(at(input, row, column)) };
            for column in 0..width {
                rows[row * width + column] =
                    by_column.as_ref().map_or_else(|| pixel(column), |weights| weights.output(column, pixel));
            }
        }
        for row in 0..down.outputs() {
            for column in 0..width {
                let pixel = |row: usize| rows[row * width + column];
                let value = by_row.as_ref().map_or_else(|| pixel(row), |weights| weights.output(row, pixel));
                // SAFETY: a pixel of the output's plane, which is this task's.
                unsafe { *to.wrapping_offset(at(out, row, column)) = value };
            }
        }
    });
    Ok(())
}
