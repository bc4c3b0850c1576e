//! Distances between rows in the p-norm, and their gradients.

use crate::convert::{Compute, Stored, StoredFloat};
use crate::element::Float;
use crate::error::{Error, Result};
use crate::isa;
use crate::lanes::{Vectorised, vectorise_at};
use crate::lines::{LineScratch, Lines};
use crate::match_float;
use crate::threads;
use crate::value::Value;
use crate::view::{Attrs, View};

/// Numbers that are computed side by side.
const LANES: usize = 16;

#[derive(Clone, Copy)]
enum Norm<T> {
    Zero,
    One,
    Two,
    /// The largest difference; of `pdist`, where any is no number, no number; `cdist` passes over those.
    Largest {
        known: bool,
    },
    Power(T),
}

impl<T: Float> Norm<T> {
    fn of(p: f64, known: bool) -> Result<Self> {
        match p {
            p if p < 0.0 || p.is_nan() => Err(Error::Runtime("distances only support non-negative p values".into())),
            0.0 => Ok(Self::Zero),
            1.0 => Ok(Self::One),
            2.0 => Ok(Self::Two),
            f64::INFINITY => Ok(Self::Largest { known }),
            p => Ok(Self::Power(T::from_f64(p))),
        }
    }

    /// What a difference adds to the sum.
    #[inline(always)]
    fn term(self, sum: T, difference: T) -> T {
        let size = difference.abs();
        match self {
            Self::Zero => sum.add(if size.is_nan() { size } else { T::from_mask(size != T::ZERO) }),
            Self::One => sum.add(size),
            Self::Two => sum.add(difference.mul(difference)),
            Self::Largest { .. } => self.join(sum, size),
            Self::Power(p) => sum.add(size.pow(p)),
        }
    }

    #[inline(always)]
    fn join(self, a: T, b: T) -> T {
        match self {
            Self::Largest { known: true } => {
                if a < b {
                    b
                } else {
                    a
                }
            }
            Self::Largest { known: false } => a.max(b),
            _ => a.add(b),
        }
    }

    #[inline(always)]
    fn finish(self, sum: T) -> T {
        match self {
            Self::Zero | Self::One | Self::Largest { .. } => sum,
            Self::Two => sum.sqrt(),
            Self::Power(p) => sum.pow(T::ONE.div(p)),
        }
    }

    /// How the distance moves with the difference.
    #[inline(always)]
    fn slope(self, difference: T, distance: T) -> T {
        let size = difference.abs();
        let sign = if size.is_nan() { size } else { difference.sign() };
        let none = distance == T::ZERO;
        match self {
            Self::Zero => T::ZERO,
            Self::One => sign,
            Self::Two => {
                if none {
                    T::ZERO
                } else {
                    difference.div(distance)
                }
            }
            Self::Largest { .. } => {
                // How far it is from the largest; infinities are no number apart.
                let apart = size.sub(distance);
                if apart == T::ZERO {
                    sign
                } else if apart.is_nan() {
                    apart
                } else {
                    sign.mul(T::ZERO)
                }
            }
            Self::Power(p) => {
                if none || (difference == T::ZERO && (p < T::ONE || !distance.is_nan())) {
                    T::ZERO
                } else {
                    sign.mul(size.div(distance).pow(p.sub(T::ONE)))
                }
            }
        }
    }
}

/// The distance of two dense rows.
struct Distance<T> {
    rows: [*const T; 2],
    count: usize,
    norm: Norm<T>,
}

impl<T: Float> Vectorised for Distance<T> {
    type Output = T;
    #[inline(always)]
    unsafe fn run(self) -> T {
        let Self { rows: [a, b], count, norm } = self;
        let mut lanes = [T::ZERO; LANES];
        let whole = count / LANES * LANES;
        // SAFETY: the rows have `count` numbers.
        unsafe {
            for at in (0..whole).step_by(LANES) {
                for (lane, sum) in lanes.iter_mut().enumerate() {
                    *sum = norm.term(*sum, (*a.add(at + lane)).sub(*b.add(at + lane)));
                }
            }
            for at in whole..count {
                lanes[at - whole] = norm.term(lanes[at - whole], (*a.add(at)).sub(*b.add(at)));
            }
        }
        let sum = lanes.into_iter().reduce(|a, b| norm.join(a, b)).unwrap_or(T::ZERO);
        norm.finish(sum)
    }
}

/// Adds one distance's share to a row's gradient.
struct Share<T> {
    to: *mut T,
    rows: [*const T; 2],
    count: usize,
    norm: Norm<T>,
    grad: T,
    distance: T,
}

impl<T: Float> Vectorised for Share<T> {
    type Output = ();
    #[inline(always)]
    unsafe fn run(self) {
        for at in 0..self.count {
            // SAFETY: the rows have `count` numbers.
            unsafe {
                let difference = (*self.rows[0].add(at)).sub(*self.rows[1].add(at));
                let to = self.to.add(at);
                *to = (*to).add(self.grad.mul(self.norm.slope(difference, self.distance)));
            }
        }
    }
}

/// The rows of a `[batch, rows, width]` operand.
struct Rows<'a, T> {
    view: &'a View<'a>,
    lines: Lines<T>,
}

impl<'a, T: Compute + Stored> Rows<'a, T> {
    fn of(view: &'a View<'a>) -> Result<Self> {
        let lines = Lines::new(view, view.size(2), view.stride(2), isa::level())?;
        Ok(Self { view, lines })
    }

    fn offset(&self, batch: usize, row: usize) -> isize {
        batch as isize * self.view.stride(0) + row as isize * self.view.stride(1)
    }
}

/// One number of a view.
///
/// # Safety
/// The offset is within it.
unsafe fn number<S: StoredFloat>(view: &View<'_>, offset: isize) -> S::Math {
    // SAFETY: the caller's.
    unsafe { (*view.ptr::<S>().wrapping_offset(offset)).load() }
}

fn check(out: &View<'_>, a: &View<'_>, b: &View<'_>) -> Result<[usize; 4]> {
    a.expect_rank("x1", 3)?;
    b.expect_rank("x2", 3)?;
    let [batch, rows, width] = std::array::from_fn(|dim| a.size(dim));
    let others = b.size(1);
    b.expect_sizes("x2", &[batch, others, width])?;
    b.expect_dtype("x2", a.dtype())?;
    out.expect_dtype("the distances", a.dtype())?;
    out.expect_sizes("the distances", &[batch, rows, others])?;
    Ok([batch, rows, others, width])
}

/// `[out, x1, x2]`: `[batch, rows, others]`, `[batch, rows, width]`, `[batch, others, width]`; floats
/// `[p]`.
pub fn cdist(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [out, a, b] = views else {
        return Err(Error::Runtime(format!("expected [out, x1, x2], got {} views", views.len())));
    };
    let [batch, rows, others, width] = check(out, a, b)?;
    let level = isa::level();
    match_float!(a.dtype(), S => {
        type T = <S as StoredFloat>::Math;
        let norm = Norm::<T>::of(attrs.float(0), true)?;
        let (a, b) = (Rows::<T>::of(a)?, Rows::<T>::of(b)?);
        threads::parallel(batch * rows, batch * rows * others * (width + 8) / 2, |task| {
            let (batch, row) = (task / rows, task % rows);
            let scratch = LineScratch::<T>::new(2, width);
            // SAFETY: rows of the operands; a row of the distances is this task's.
            unsafe {
                let mine = a.lines.read(a.offset(batch, row), scratch.line(0));
                for other in 0..others {
                    let theirs = b.lines.read(b.offset(batch, other), scratch.line(1));
                    let distance = vectorise_at(level, Distance { rows: [mine, theirs], count: width, norm });
                    let place = batch as isize * out.stride(0) + row as isize * out.stride(1)
                        + other as isize * out.stride(2);
                    *out.ptr::<S>().wrapping_offset(place) = distance.save();
                }
            }
        });
    });
    Ok(())
}

/// `[grad_x1, grad, x1, x2, distances]`, shapes and scalars as `cdist`'s.
pub fn cdist_backward(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [grad_a, grad, a, b, distances] = views else {
        return Err(Error::Runtime(format!("expected 5 views, got {}", views.len())));
    };
    let [batch, rows, others, width] = check(distances, a, b)?;
    check(grad, a, b)?;
    grad_a.expect_dtype("grad_x1", a.dtype())?;
    grad_a.expect_sizes("grad_x1", &[batch, rows, width])?;
    let level = isa::level();
    match_float!(a.dtype(), S => {
        type T = <S as StoredFloat>::Math;
        let norm = Norm::<T>::of(attrs.float(0), true)?;
        let (a, b, to) = (Rows::<T>::of(a)?, Rows::<T>::of(b)?, Rows::<T>::of(grad_a)?);
        threads::parallel(batch * rows, batch * rows * others * (width + 8), |task| {
            let (batch, row) = (task / rows, task % rows);
            let scratch = LineScratch::<T>::new(3, width);
            let place = |view: &View<'_>, other: usize| {
                batch as isize * view.stride(0) + row as isize * view.stride(1) + other as isize * view.stride(2)
            };
            // SAFETY: rows of the operands; a row of the gradient is this task's.
            unsafe {
                let mine = a.lines.read(a.offset(batch, row), scratch.line(0));
                let sums = scratch.line(2);
                std::slice::from_raw_parts_mut(sums, width).fill(Value::ZERO);
                for other in 0..others {
                    let theirs = b.lines.read(b.offset(batch, other), scratch.line(1));
                    let grad = number::<S>(grad, place(grad, other));
                    let distance = number::<S>(distances, place(distances, other));
                    vectorise_at(level, Share { to: sums, rows: [mine, theirs], count: width, norm, grad, distance });
                }
                store(&to, to.offset(batch, row), sums, width);
            }
        });
    });
    Ok(())
}

/// # Safety
/// The row is the operand's, and `from` holds it.
unsafe fn store<T: Compute + Stored>(to: &Rows<'_, T>, offset: isize, from: *mut T, width: usize) {
    let target = to.lines.target(offset, from);
    // SAFETY: the caller's; where the line is not in place, `finish` moves it.
    unsafe {
        if !std::ptr::eq(target, from) {
            target.copy_from_nonoverlapping(from, width);
        }
        to.lines.finish(offset, from);
    }
}

/// The place of a pair of rows among those of `rows`.
fn pair(rows: usize, a: usize, b: usize) -> usize {
    let (first, second) = if a < b { (a, b) } else { (b, a) };
    first * (2 * rows - first - 1) / 2 + second - first - 1
}

fn check_pairs(out: &View<'_>, input: &View<'_>) -> Result<[usize; 2]> {
    input.expect_rank("self", 3)?;
    let [rows, width] = [input.size(1), input.size(2)];
    out.expect_dtype("the distances", input.dtype())?;
    out.expect_sizes("the distances", &[rows * rows.saturating_sub(1) / 2])?;
    Ok([rows, width])
}

/// `[out, self]`: the distances of all pairs of rows of `[1, rows, width]`, in order; floats `[p]`.
pub fn pdist(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [out, input] = views else {
        return Err(Error::Runtime(format!("expected [out, self], got {} views", views.len())));
    };
    let [rows, width] = check_pairs(out, input)?;
    let level = isa::level();
    match_float!(input.dtype(), S => {
        type T = <S as StoredFloat>::Math;
        let norm = Norm::<T>::of(attrs.float(0), false)?;
        let input = Rows::<T>::of(input)?;
        threads::parallel(rows, rows * rows * (width + 8) / 4, |row| {
            let scratch = LineScratch::<T>::new(2, width);
            // SAFETY: rows of the operand; each pair is one task's.
            unsafe {
                let mine = input.lines.read(input.offset(0, row), scratch.line(0));
                for other in row + 1..rows {
                    let theirs = input.lines.read(input.offset(0, other), scratch.line(1));
                    let distance = vectorise_at(level, Distance { rows: [mine, theirs], count: width, norm });
                    let place = pair(rows, row, other) as isize * out.stride(0);
                    *out.ptr::<S>().wrapping_offset(place) = distance.save();
                }
            }
        });
    });
    Ok(())
}

/// `[grad_self, grad, self, distances]`, shapes and scalars as `pdist`'s.
pub fn pdist_backward(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [grad_input, grad, input, distances] = views else {
        return Err(Error::Runtime(format!("expected 4 views, got {}", views.len())));
    };
    let [rows, width] = check_pairs(distances, input)?;
    check_pairs(grad, input)?;
    grad_input.expect_dtype("grad_self", input.dtype())?;
    grad_input.expect_sizes("grad_self", &[1, rows, width])?;
    let level = isa::level();
    match_float!(input.dtype(), S => {
        type T = <S as StoredFloat>::Math;
        let norm = Norm::<T>::of(attrs.float(0), false)?;
        let (input, to) = (Rows::<T>::of(input)?, Rows::<T>::of(grad_input)?);
        threads::parallel(rows, rows * rows * (width + 8), |row| {
            let scratch = LineScratch::<T>::new(3, width);
            // SAFETY: rows of the operands; a row of the gradient is this task's.
            unsafe {
                let mine = input.lines.read(input.offset(0, row), scratch.line(0));
                let sums = scratch.line(2);
                std::slice::from_raw_parts_mut(sums, width).fill(Value::ZERO);
                for other in (0..rows).filter(|&other| other != row) {
                    let theirs = input.lines.read(input.offset(0, other), scratch.line(1));
                    let place = pair(rows, row, other) as isize;
                    let grad = number::<S>(grad, place * grad.stride(0));
                    let distance = number::<S>(distances, place * distances.stride(0));
                    vectorise_at(level, Share { to: sums, rows: [mine, theirs], count: width, norm, grad, distance });
                }
                store(&to, to.offset(0, row), sums, width);
            }
        });
    });
    Ok(())
}
