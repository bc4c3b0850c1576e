//! The largest or smallest element and where it is: NaN wins, ties go to the first.

use std::marker::PhantomData;

use super::each::{Each, Extreme};
use super::engine::{Rectangle, Reducer, STRIP};
use crate::convert::{Compute, Stored};

/// Elements that are compared at once in the search for the found value.
const BLOCK: usize = 64;

/// First result: the value; second: its position in C order among the reduced elements.
#[derive(Clone, Copy)]
pub struct Position<S, T, const LARGEST: bool>(pub PhantomData<(S, T)>);

impl<S: Stored, T: Compute, const LARGEST: bool> Position<S, T, LARGEST> {
    /// Whether `challenger` replaces `holder`, which came before it.
    #[inline(always)]
    fn beats(challenger: T, holder: T) -> bool {
        let better = if LARGEST { challenger > holder } else { challenger < holder };
        better | (challenger.is_nan() & !holder.is_nan())
    }
}

impl<S: Stored, T: Compute + Stored, const LARGEST: bool> Reducer for Position<S, T, LARGEST> {
    type Item = S;
    type Acc = (T, usize);
    type First = T;
    type Second = i64;
    const ORDERED: bool = true;

    fn empty(&self) -> Option<(T, usize)> {
        None
    }

    #[inline(always)]
    unsafe fn along(&self, from: *const S, stride: isize, count: usize) -> (T, usize) {
        // SAFETY: the caller's; every index is below `count`.
        unsafe {
            let best = Each(Extreme::<S, T, LARGEST>(PhantomData)).along(from, stride, count);
            let found = |index: usize| {
                let value = T::load(*from.offset(index as isize * stride));
                (value == best) | (value.is_nan() & best.is_nan())
            };
            let mut start = 0;
            while start + BLOCK <= count {
                let mut any = false;
                for index in start..start + BLOCK {
                    any |= found(index);
                }
                if any {
                    break;
                }
                start += BLOCK;
            }
            while start + 1 < count && !found(start) {
                start += 1;
            }
            (best, start)
        }
    }

    #[inline(always)]
    unsafe fn across(&self, rectangle: Rectangle<S>, accs: *mut (T, usize)) {
        let Rectangle { from, rows, row_stride, columns, column_stride } = rectangle;
        let mut values = [T::ZERO; STRIP];
        let mut positions = [0u32; STRIP];
        let load = |row: usize, column: usize| {
            let offset = row as isize * row_stride + column as isize * column_stride;
            // SAFETY: the caller's rectangle.
            T::load(unsafe { *from.offset(offset) })
        };
        for (column, value) in values.iter_mut().enumerate().take(columns) {
            *value = load(0, column);
        }
        for row in 1..rows {
            for (column, (holder, position)) in values.iter_mut().zip(&mut positions).enumerate().take(columns) {
                let value = load(row, column);
                let beats = Self::beats(value, *holder);
                *holder = if beats { value } else { *holder };
                *position = if beats { row as u32 } else { *position };
            }
        }
        for (column, (value, position)) in values.into_iter().zip(positions).enumerate().take(columns) {
            // SAFETY: one accumulator a column.
            unsafe { accs.add(column).write((value, position as usize)) };
        }
    }

    #[inline(always)]
    fn combine(&self, left: (T, usize), left_count: usize, right: (T, usize), _: usize) -> (T, usize) {
        if Self::beats(right.0, left.0) { (right.0, left_count + right.1) } else { left }
    }

    #[inline(always)]
    fn finish(&self, acc: (T, usize), _: usize) -> (T, i64) {
        (acc.0, acc.1 as i64)
    }
}
