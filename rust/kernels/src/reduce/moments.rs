//! Mean and variance: two passes over each leaf while it is in the cache, leaves joined by Chan's
//! formula. As exact as Welford's algorithm, without its division for each element.

use std::marker::PhantomData;

use super::each::{Each, Sum};
use super::engine::{Rectangle, Reducer, STRIP};
use crate::convert::StoredFloat;
use crate::element::{Element, Float};
use crate::value::{Floating, Value};

/// First result: the variance (or its root), second: the mean.
#[derive(Clone, Copy)]
pub struct Moments<S> {
    /// Taken from the count in the variance's divisor.
    pub correction: f64,
    pub root: bool,
    pub types: PhantomData<S>,
}

/// The mean, and the sum of squared distances from it.
#[derive(Clone, Copy)]
pub struct Spread {
    pub mean: f64,
    pub squares: f64,
}

impl Spread {
    pub const EMPTY: Self = Self { mean: 0.0, squares: 0.0 };

    /// From the sums of distances, and of their squares, from a value near the mean.
    #[inline(always)]
    fn from_distances(near: f64, distances: f64, squares: f64, count: usize) -> Self {
        let shift = distances / count as f64;
        // Rounding must not make it negative.
        let squares = squares - shift * distances;
        Self { mean: near + shift, squares: if squares < 0.0 { 0.0 } else { squares } }
    }

    #[inline(always)]
    pub fn combine(self, count: usize, other: Self, other_count: usize) -> Self {
        let share = other_count as f64 / (count + other_count) as f64;
        let distance = other.mean - self.mean;
        Self {
            mean: self.mean + distance * share,
            squares: self.squares + other.squares + distance * distance * share * count as f64,
        }
    }
}

impl<S: StoredFloat> Reducer for Moments<S>
where
    S::Math: StoredFloat,
{
    type Item = S;
    type Acc = Spread;
    type First = S::Math;
    type Second = S::Math;

    fn empty(&self) -> Option<Spread> {
        Some(Spread { mean: f64::NAN, squares: f64::NAN })
    }

    #[inline(always)]
    unsafe fn along(&self, from: *const S, stride: isize, count: usize) -> Spread {
        // SAFETY: the caller's.
        unsafe { if stride == 1 { spread(from, 1, count) } else { spread(from, stride, count) } }
    }

    #[inline(always)]
    unsafe fn across(&self, rectangle: Rectangle<S>, accs: *mut Spread) {
        let Rectangle { from, rows, row_stride, columns, column_stride } = rectangle;
        let zero = S::Math::ZERO;
        let (mut near, mut distances, mut squares) = ([zero; STRIP], [zero; STRIP], [zero; STRIP]);
        let mut totals = [[0.0; STRIP]; 2];
        // SAFETY: the caller's rectangle, and one accumulator a column.
        unsafe {
            let sum = Each(Sum::<S, S::Math> { mean: false, types: PhantomData });
            sum.across(rectangle, near.as_mut_ptr());
            let scale = S::Math::from_f64(1.0 / rows as f64);
            near.iter_mut().take(columns).for_each(|near| *near = near.mul(scale));
            for row in 0..rows {
                let start = from.wrapping_offset(row as isize * row_stride);
                let mut pass = |stride: isize| {
                    for column in 0..columns {
                        let distance = (*start.offset(column as isize * stride)).load().sub(near[column]);
                        distances[column] = distances[column].add(distance);
                        squares[column] = distance.mul_add(distance, squares[column]);
                    }
                };
                if column_stride == 1 {
                    pass(1)
                } else {
                    pass(column_stride)
                }
                if row % CHAIN == CHAIN - 1 || row == rows - 1 {
                    for (totals, sums) in totals.iter_mut().zip([&mut distances, &mut squares]) {
                        for (total, sum) in totals.iter_mut().zip(sums).take(columns) {
                            *total += sum.to_f64();
                            *sum = zero;
                        }
                    }
                }
            }
            for column in 0..columns {
                let (near, distances, squares) = (near[column].to_f64(), totals[0][column], totals[1][column]);
                accs.add(column).write(if has_digits::<S::Math>(squares) {
                    Spread::from_distances(near, distances, squares, rows)
                } else {
                    let start = from.wrapping_offset(column as isize * column_stride);
                    wide_spread(start, row_stride, rows)
                });
            }
        }
    }

    #[inline(always)]
    fn combine(&self, left: Spread, left_count: usize, right: Spread, right_count: usize) -> Spread {
        left.combine(left_count, right, right_count)
    }

    #[inline(always)]
    fn finish(&self, acc: Spread, count: usize) -> (S::Math, S::Math) {
        let variance = acc.squares / (count as f64 - self.correction).max(0.0);
        let first = if self.root { variance.sqrt() } else { variance };
        (S::Math::from_f64(first), S::Math::from_f64(acc.mean))
    }
}

/// The spread of `count > 0` elements in one block.
///
/// # Safety
/// `from` is valid for `count` elements at `stride`.
#[inline(always)]
pub unsafe fn spread<S: StoredFloat>(from: *const S, stride: isize, count: usize) -> Spread
where
    S::Math: StoredFloat,
{
    // SAFETY: the caller's.
    unsafe {
        let sum = Each(Sum::<S, S::Math> { mean: false, types: PhantomData }).along(from, stride, count);
        let near = S::Math::from_f64(sum.to_f64() / count as f64);
        let [distances, squares] = pair_sums(count, |index| {
            let distance = (*from.offset(index as isize * stride)).load().sub(near);
            (distance, distance)
        });
        if has_digits::<S::Math>(squares) {
            Spread::from_distances(near.to_f64(), distances, squares, count)
        } else {
            wide_spread(from, stride, count)
        }
    }
}

/// Whether a sum of squares in `T` is one: neither has it overflown, nor are squares lost below what `T` has.
#[inline(always)]
fn has_digits<T: Element>(squares: f64) -> bool {
    size_of::<T>() == size_of::<f64>() || (squares > 1e-29 && squares < f64::INFINITY)
}

/// As [`spread`], in f64.
///
/// # Safety
/// As there.
#[cold]
#[inline(never)]
unsafe fn wide_spread<S: StoredFloat>(from: *const S, stride: isize, count: usize) -> Spread {
    // SAFETY: the caller's.
    let element = |index: usize| unsafe { *from.offset(index as isize * stride) }.to_f64();
    let near = (0..count).map(element).sum::<f64>() / count as f64;
    let (mut distances, mut squares) = (0.0, 0.0);
    for index in 0..count {
        let distance = element(index) - near;
        distances += distance;
        squares += distance * distance;
    }
    Spread::from_distances(near, distances, squares, count)
}

/// Rows whose distances are summed before they join the f64 sums.
const CHAIN: usize = 8;
/// Independent sums of a row.
const LANES: usize = 32;
/// Elements that are summed before they join the f64 sums.
const SUMMED: usize = 2048;

/// The sums of `a` and of `a * b` over `terms(0..count)`.
#[inline(always)]
pub fn pair_sums<T: Float>(count: usize, terms: impl Fn(usize) -> (T, T)) -> [f64; 2] {
    let mut totals = [0.0; 2];
    let mut start = 0;
    while start < count {
        let end = (start + SUMMED).min(count);
        let (mut sums, mut products) = ([T::ZERO; LANES], [T::ZERO; LANES]);
        let mut add = |at: usize, width: usize| {
            for (lane, (sum, product)) in sums.iter_mut().zip(&mut products).enumerate().take(width) {
                let (a, b) = terms(at + lane);
                *sum = sum.add(a);
                *product = a.mul_add(b, *product);
            }
        };
        let mut at = start;
        while at + LANES <= end {
            add(at, LANES);
            at += LANES;
        }
        add(at, end - at);
        for (total, lanes) in totals.iter_mut().zip([sums, products]) {
            *total += lanes.into_iter().map(Element::to_f64).sum::<f64>();
        }
        start = end;
    }
    totals
}
