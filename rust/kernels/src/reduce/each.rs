//! Reductions that take one element at a time: sums, products, extremes, tests, norms.

use std::marker::PhantomData;

use super::engine::{Rectangle, Reducer};
use super::source::{Fold, LANES};
use crate::convert::{Compute, Stored};
use crate::dtype::DType;
use crate::element::{Bool, Element, Float};

/// A reduction by elements. `combine` joins two accumulators of any counts.
pub trait Step: Copy + Send + Sync {
    type Item: Stored;
    type Acc: Copy + Send;
    type Out: Stored;
    /// Whether accumulators are whole numbers, which any order gives the same of.
    const IS_WHOLE: bool = false;
    /// The start of every accumulator.
    fn identity(&self) -> Self::Acc;
    fn step(&self, acc: Self::Acc, item: Self::Item) -> Self::Acc;
    fn combine(&self, left: Self::Acc, right: Self::Acc) -> Self::Acc;
    fn finish(&self, acc: Self::Acc, count: usize) -> Self::Out;
    /// How elements of f32 join accumulators of f32, where that is all that a step does.
    fn fold(&self) -> Option<Fold> {
        None
    }
    /// Whether reducing nothing gives the identity.
    fn has_empty(&self) -> bool {
        true
    }
}

/// The [`Reducer`] of a [`Step`].
#[derive(Clone, Copy)]
pub struct Each<P>(pub P);

impl<P: Step> Reducer for Each<P> {
    type Item = P::Item;
    type Acc = P::Acc;
    type First = P::Out;
    type Second = P::Out;
    // No longer chain of additions than PyTorch's sums have.
    const LEAF_ACROSS: usize = 16;

    fn empty(&self) -> Option<P::Acc> {
        self.0.has_empty().then(|| self.0.identity())
    }

    #[inline(always)]
    unsafe fn along(&self, from: *const P::Item, stride: isize, count: usize) -> P::Acc {
        // SAFETY: the caller's.
        unsafe { if stride == 1 { self.column(from, 1, count) } else { self.column(from, stride, count) } }
    }

    #[inline(always)]
    unsafe fn across(&self, rectangle: Rectangle<P::Item>, accs: *mut P::Acc) {
        // SAFETY: the caller's.
        unsafe {
            if rectangle.column_stride == 1 {
                self.columns(Rectangle { column_stride: 1, ..rectangle }, accs)
            } else {
                self.columns(rectangle, accs)
            }
        }
    }

    fn fold(&self) -> Option<Fold> {
        self.0.fold()
    }

    #[inline(always)]
    unsafe fn along_from(&self, others: P::Acc, from: *const P::Item, count: usize) -> P::Acc {
        // SAFETY: every index is below `count`.
        (0..count).fold(others, |acc, index| self.0.step(acc, unsafe { *from.add(index) }))
    }

    #[inline(always)]
    fn combine(&self, left: P::Acc, _: usize, right: P::Acc, _: usize) -> P::Acc {
        self.0.combine(left, right)
    }

    #[inline(always)]
    fn finish(&self, acc: P::Acc, count: usize) -> (P::Out, P::Out) {
        let out = self.0.finish(acc, count);
        (out, out)
    }
}

impl<P: Step> Each<P> {
    /// # Safety
    /// `from` is valid for `count` elements at `stride`.
    #[inline(always)]
    unsafe fn column(&self, from: *const P::Item, stride: isize, count: usize) -> P::Acc {
        // SAFETY: every index is below `count`.
        let item = |index: usize| unsafe { *from.offset(index as isize * stride) };
        // Of lanes of whole numbers the compiler would make vectors of several turns, gathered: it orders them itself.
        if count < LANES || P::IS_WHOLE {
            return (0..count).fold(self.0.identity(), |acc, index| self.0.step(acc, item(index)));
        }
        let mut lanes = [self.0.identity(); LANES];
        let mut done = 0;
        while done + LANES <= count {
            for (lane, acc) in lanes.iter_mut().enumerate() {
                *acc = self.0.step(*acc, item(done + lane));
            }
            done += LANES;
        }
        // Through memory: of lanes that are joined where they are, the compiler makes vectors as narrow as
        // the join's last one.
        let mut lanes = std::hint::black_box(lanes);
        let mut width = LANES / 2;
        while width > 0 {
            for lane in 0..width {
                lanes[lane] = self.0.combine(lanes[lane], lanes[lane + width]);
            }
            width /= 2;
        }
        (done..count).fold(lanes[0], |acc, index| self.0.step(acc, item(index)))
    }

    /// # Safety
    /// As [`Reducer::across`].
    #[inline(always)]
    unsafe fn columns(&self, rectangle: Rectangle<P::Item>, accs: *mut P::Acc) {
        let Rectangle { from, rows, row_stride, columns, column_stride } = rectangle;
        // SAFETY: every element is within the rectangle, every accumulator within the strip.
        unsafe {
            for column in 0..columns {
                accs.add(column).write(self.0.identity());
            }
            let mut row = 0;
            while row + 4 <= rows {
                let starts: [*const P::Item; 4] =
                    std::array::from_fn(|at| from.wrapping_offset((row + at) as isize * row_stride));
                for column in 0..columns {
                    let at = column as isize * column_stride;
                    let mut acc = *accs.add(column);
                    for start in starts {
                        acc = self.0.step(acc, *start.offset(at));
                    }
                    *accs.add(column) = acc;
                }
                row += 4;
            }
            for row in row..rows {
                let start = from.wrapping_offset(row as isize * row_stride);
                for column in 0..columns {
                    let item = *start.offset(column as isize * column_stride);
                    *accs.add(column) = self.0.step(*accs.add(column), item);
                }
            }
        }
    }
}

/// Of bool the lanes' vectors are the better ones.
const fn is_whole<T: Stored>() -> bool {
    !T::DTYPE.is_float() && !matches!(T::DTYPE, DType::Bool)
}

fn is_single<S: Stored, T: Stored>() -> bool {
    S::DTYPE == DType::F32 && T::DTYPE == DType::F32
}

/// Sums in `T`, of all or but for NaN; the mean where asked.
#[derive(Clone, Copy)]
pub struct Sum<S, T, const SKIP_NAN: bool = false> {
    pub mean: bool,
    pub types: PhantomData<(S, T)>,
}

impl<S: Stored, T: Compute + Stored, const SKIP_NAN: bool> Step for Sum<S, T, SKIP_NAN> {
    type Item = S;
    type Acc = T;
    type Out = T;
    const IS_WHOLE: bool = is_whole::<T>();
    #[inline(always)]
    fn identity(&self) -> T {
        T::ZERO
    }
    #[inline(always)]
    fn step(&self, acc: T, item: S) -> T {
        let item = T::load(item);
        acc.add(if SKIP_NAN && item.is_nan() { T::ZERO } else { item })
    }
    #[inline(always)]
    fn combine(&self, left: T, right: T) -> T {
        left.add(right)
    }
    #[inline(always)]
    fn finish(&self, acc: T, count: usize) -> T {
        if self.mean { T::from_scalar(Element::to_f64(acc) / count as f64, 0) } else { acc }
    }
    fn fold(&self) -> Option<Fold> {
        (is_single::<S, T>() && !SKIP_NAN).then_some(Fold::Add)
    }
}

#[derive(Clone, Copy)]
pub struct Product<S, T>(pub PhantomData<(S, T)>);

impl<S: Stored, T: Compute + Stored> Step for Product<S, T> {
    type Item = S;
    type Acc = T;
    type Out = T;
    const IS_WHOLE: bool = is_whole::<T>();
    #[inline(always)]
    fn identity(&self) -> T {
        T::ONE
    }
    #[inline(always)]
    fn step(&self, acc: T, item: S) -> T {
        acc.mul(T::load(item))
    }
    #[inline(always)]
    fn combine(&self, left: T, right: T) -> T {
        left.mul(right)
    }
    #[inline(always)]
    fn finish(&self, acc: T, _: usize) -> T {
        acc
    }
}

/// The largest value, or the smallest; NaN wins over both.
#[derive(Clone, Copy)]
pub struct Extreme<S, T, const LARGEST: bool>(pub PhantomData<(S, T)>);

impl<S: Stored, T: Compute + Stored, const LARGEST: bool> Step for Extreme<S, T, LARGEST> {
    type Item = S;
    type Acc = T;
    type Out = T;
    const IS_WHOLE: bool = is_whole::<T>();
    #[inline(always)]
    fn identity(&self) -> T {
        if LARGEST { T::LOWEST } else { T::HIGHEST }
    }
    #[inline(always)]
    fn step(&self, acc: T, item: S) -> T {
        self.combine(acc, T::load(item))
    }
    #[inline(always)]
    fn combine(&self, left: T, right: T) -> T {
        if LARGEST { left.max(right) } else { left.min(right) }
    }
    #[inline(always)]
    fn finish(&self, acc: T, _: usize) -> T {
        acc
    }
    fn fold(&self) -> Option<Fold> {
        is_single::<S, T>().then_some(if LARGEST { Fold::Max } else { Fold::Min })
    }
    fn has_empty(&self) -> bool {
        false
    }
}

/// Whether all elements are true, or any.
#[derive(Clone, Copy)]
pub struct Test<S, const ALL: bool>(pub PhantomData<S>);

impl<S: Stored, const ALL: bool> Step for Test<S, ALL> {
    type Item = S;
    type Acc = u8;
    type Out = Bool;
    const IS_WHOLE: bool = true;
    #[inline(always)]
    fn identity(&self) -> u8 {
        ALL as u8
    }
    #[inline(always)]
    fn step(&self, acc: u8, item: S) -> u8 {
        self.combine(acc, Bool::load(item).0)
    }
    #[inline(always)]
    fn combine(&self, left: u8, right: u8) -> u8 {
        if ALL { left & right } else { left | right }
    }
    #[inline(always)]
    fn finish(&self, acc: u8, _: usize) -> Bool {
        Bool(acc)
    }
}

/// How many elements are true.
#[derive(Clone, Copy)]
pub struct CountTrue<S>(pub PhantomData<S>);

impl<S: Stored> Step for CountTrue<S> {
    type Item = S;
    type Acc = i64;
    type Out = i64;
    const IS_WHOLE: bool = true;
    #[inline(always)]
    fn identity(&self) -> i64 {
        0
    }
    #[inline(always)]
    fn step(&self, acc: i64, item: S) -> i64 {
        acc + Bool::load(item).0 as i64
    }
    #[inline(always)]
    fn combine(&self, left: i64, right: i64) -> i64 {
        left + right
    }
    #[inline(always)]
    fn finish(&self, acc: i64, _: usize) -> i64 {
        acc
    }
}

/// A vector norm: what an element adds, and how the total ends.
pub trait Norm<T: Float>: Copy + Send + Sync {
    fn identity(&self) -> T {
        T::ZERO
    }
    fn step(&self, acc: T, magnitude: T) -> T;
    #[inline(always)]
    fn combine(&self, left: T, right: T) -> T {
        left.add(right)
    }
    #[inline(always)]
    fn finish(&self, acc: T) -> T {
        acc
    }
}

#[derive(Clone, Copy)]
pub struct SumMagnitudes;
impl<T: Float> Norm<T> for SumMagnitudes {
    #[inline(always)]
    fn step(&self, acc: T, magnitude: T) -> T {
        acc.add(magnitude)
    }
}

#[derive(Clone, Copy)]
pub struct Euclidean;
impl<T: Float> Norm<T> for Euclidean {
    #[inline(always)]
    fn step(&self, acc: T, magnitude: T) -> T {
        magnitude.mul(magnitude).add(acc)
    }
    #[inline(always)]
    fn finish(&self, acc: T) -> T {
        acc.sqrt()
    }
}

#[derive(Clone, Copy)]
pub struct LargestMagnitude;
impl<T: Float> Norm<T> for LargestMagnitude {
    #[inline(always)]
    fn step(&self, acc: T, magnitude: T) -> T {
        acc.max(magnitude)
    }
    #[inline(always)]
    fn combine(&self, left: T, right: T) -> T {
        left.max(right)
    }
}

#[derive(Clone, Copy)]
pub struct SmallestMagnitude;
impl<T: Float> Norm<T> for SmallestMagnitude {
    #[inline(always)]
    fn identity(&self) -> T {
        T::HIGHEST
    }
    #[inline(always)]
    fn step(&self, acc: T, magnitude: T) -> T {
        acc.min(magnitude)
    }
    #[inline(always)]
    fn combine(&self, left: T, right: T) -> T {
        left.min(right)
    }
}

#[derive(Clone, Copy)]
pub struct CountMagnitudes;
impl<T: Float> Norm<T> for CountMagnitudes {
    #[inline(always)]
    fn step(&self, acc: T, magnitude: T) -> T {
        acc.add(if magnitude == T::ZERO { T::ZERO } else { T::ONE })
    }
}

#[derive(Clone, Copy)]
pub struct Power(pub f64);
impl<T: Float> Norm<T> for Power {
    #[inline(always)]
    fn step(&self, acc: T, magnitude: T) -> T {
        acc.add(magnitude.pow(T::from_f64(self.0)))
    }
    #[inline(always)]
    fn finish(&self, acc: T) -> T {
        acc.pow(T::from_f64(1.0 / self.0))
    }
}

/// The [`Step`] of a [`Norm`].
#[derive(Clone, Copy)]
pub struct NormOf<S, T, N> {
    pub norm: N,
    pub types: PhantomData<(S, T)>,
}

impl<S: Stored, T: Compute + Float + Stored, N: Norm<T>> Step for NormOf<S, T, N> {
    type Item = S;
    type Acc = T;
    type Out = T;
    #[inline(always)]
    fn identity(&self) -> T {
        self.norm.identity()
    }
    #[inline(always)]
    fn step(&self, acc: T, item: S) -> T {
        self.norm.step(acc, T::load(item).abs())
    }
    #[inline(always)]
    fn combine(&self, left: T, right: T) -> T {
        self.norm.combine(left, right)
    }
    #[inline(always)]
    fn finish(&self, acc: T, _: usize) -> T {
        self.norm.finish(acc)
    }
}
