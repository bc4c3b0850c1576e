//! The two passes over `[N, C, ...]` that batch and group normalisation are made of, forward and
//! backward: a linear map with coefficients for each channel, and sums for each channel.
//!
//! Coefficients are one more strided operand of the iteration (stride zero over space), so that
//! channels first, channels last and any other layout take the same path.

use crate::convert::StoredFloat;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::fallible::{Collected, filled};
use crate::index::contiguous_strides;
use crate::isa;
use crate::lanes::{Vectorised, vectorise_at};
use crate::loops::iterate::Space;
use crate::reduce::engine::Shared;
use crate::reduce::moments::pair_sums;
use crate::threads;
use crate::value::{Floating, Value};
use crate::view::View;

/// Elements of a task of the linear map.
const TASK: usize = 32 * 1024;
/// The most parts that sums are taken in, and the fewest elements of one.
const PARTS: usize = 32;
const PART: usize = 32 * 1024;

/// Coefficients for each channel, or for each channel of each sample.
pub struct Channels {
    pub samples: usize,
    pub channels: usize,
    pub per_sample: bool,
}

impl Channels {
    pub fn of(view: &View<'_>, per_sample: bool) -> Result<Self> {
        if view.rank() < 2 {
            return Err(Error::Shape(format!("expected an input of shape [N, C, ...], got {:?}", view.sizes())));
        }
        Ok(Self { samples: view.size(0), channels: view.size(1), per_sample })
    }

    /// How many sets of coefficients there are.
    pub fn count(&self) -> usize {
        if self.per_sample { self.samples * self.channels } else { self.channels }
    }

    fn strides(&self, rank: usize) -> Vec<i64> {
        let mut strides = filled(rank, 0);
        strides[0] = if self.per_sample { self.channels as i64 } else { 0 };
        strides[1] = 1;
        strides
    }
}

/// `grad * of_grad + (input - centre) * of_input + constant`, `centre` and so on for each channel.
pub struct Map<'a> {
    pub centre: &'a [f64],
    pub of_grad: &'a [f64],
    pub of_input: &'a [f64],
    pub constant: &'a [f64],
}

fn same_shape(views: &[&View<'_>]) -> Result<()> {
    for view in &views[1..] {
        if view.sizes() != views[0].sizes() {
            return Err(Error::Shape(format!("expected shape {:?}, got {:?}", views[0].sizes(), view.sizes())));
        }
        view.expect_dtype("an operand", views[0].dtype())?;
    }
    Ok(())
}

/// Applies the map; without a gradient its term is left out.
pub fn apply<S: StoredFloat>(
    channels: &Channels,
    map: &Map<'_>,
    output: &View<'_>,
    grad: Option<&View<'_>>,
    input: &View<'_>,
) -> Result<()> {
    same_shape(&[output, grad.unwrap_or(input), input])?;
    let coefficients = [map.centre, map.of_grad, map.of_input, map.constant]
        .map(|list| list.iter().map(|&value| S::Math::from_f64(value)).collected());
    let coefficient_strides = channels.strides(output.rank());
    let strides = [output.strides(), grad.unwrap_or(input).strides(), input.strides(), &coefficient_strides];
    let space = Space::new(output.sizes(), strides);
    let level = isa::level();
    let strides = space.inner().strides;
    threads::parallel_chunks(space.numel, TASK, space.numel * S::DTYPE.size() / 4, |range| {
        space.rows(range.start, range.end, |offsets, count| {
            let row = Row::<S> {
                count,
                output: output.ptr::<S>().wrapping_offset(offsets[0]),
                grad: grad.map(|grad| grad.ptr::<S>().cast_const().wrapping_offset(offsets[1])),
                input: input.ptr::<S>().cast_const().wrapping_offset(offsets[2]),
                coefficients: coefficients.each_ref().map(|list| list.as_ptr().wrapping_offset(offsets[3])),
                strides,
            };
            // SAFETY: the row is within the views and the coefficients; tasks write disjoint rows.
            unsafe { vectorise_at(level, row) };
        });
    });
    Ok(())
}

struct Row<S: StoredFloat> {
    count: usize,
    output: *mut S,
    grad: Option<*const S>,
    input: *const S,
    /// Centre, of the gradient, of the input, constant.
    coefficients: [*const S::Math; 4],
    strides: [isize; 4],
}

impl<S: StoredFloat> Vectorised for Row<S> {
    type Output = ();
    #[inline(always)]
    unsafe fn run(self) {
        // SAFETY: the caller's.
        unsafe {
            match self.strides {
                [1, 1, 1, 0] => self.map([1, 1, 1, 0]),
                [1, 1, 1, 1] => self.map([1, 1, 1, 1]),
                strides => self.map(strides),
            }
        }
    }
}

impl<S: StoredFloat> Row<S> {
    #[inline(always)]
    unsafe fn map(&self, strides: [isize; 4]) {
        // SAFETY: every index is below `count`.
        unsafe {
            let at = |operand: usize, index: usize| index as isize * strides[operand];
            let fixed = self.coefficients.map(|list| *list);
            let coefficient = |list: usize, index: usize| {
                if strides[3] == 0 { fixed[list] } else { *self.coefficients[list].offset(at(3, index)) }
            };
            let of_input = |index: usize| {
                let distance = (*self.input.offset(at(2, index))).load().sub(coefficient(0, index));
                distance.mul_add(coefficient(2, index), coefficient(3, index))
            };
            match self.grad {
                None => {
                    for index in 0..self.count {
                        *self.output.offset(at(0, index)) = S::save(of_input(index));
                    }
                }
                Some(grad) => {
                    for index in 0..self.count {
                        let grad = (*grad.offset(at(1, index))).load();
                        let value = grad.mul_add(coefficient(1, index), of_input(index));
                        *self.output.offset(at(0, index)) = S::save(value);
                    }
                }
            }
        }
    }
}

/// For each channel, the sums of `grad` and of `grad * (input - centre)`.
pub fn sums<S: StoredFloat>(
    channels: &Channels,
    centre: &[f64],
    grad: &View<'_>,
    input: &View<'_>,
) -> Result<[Vec<f64>; 2]> {
    same_shape(&[grad, input])?;
    let centre: Vec<S::Math> = centre.iter().map(|&value| S::Math::from_f64(value)).collected();
    let sum_strides = channels.strides(grad.rank());
    let space = Space::new(grad.sizes(), [input.strides(), grad.strides(), &sum_strides]);
    let count = channels.count();
    let part = PART.max(space.numel.div_ceil(PARTS));
    let parts = space.numel.div_ceil(part);
    let mut partials = filled(parts * 2 * count, 0.0);
    let shared = Shared(partials.as_mut_ptr());
    let level = isa::level();
    let strides = space.inner().strides;
    threads::parallel_chunks(space.numel, part, space.numel * S::DTYPE.size() / 4, |range| {
        let sums = [0, 1].map(|which| shared.at((range.start / part * 2 + which) * count));
        space.rows(range.start, range.end, |offsets, count| {
            let row = SumRow::<S> {
                count,
                input: input.ptr::<S>().cast_const().wrapping_offset(offsets[0]),
                grad: grad.ptr::<S>().cast_const().wrapping_offset(offsets[1]),
                centre: centre.as_ptr().wrapping_offset(offsets[2]),
                sums: sums.map(|sum| sum.wrapping_offset(offsets[2])),
                strides,
            };
            // SAFETY: the row is within the views and the sums; each part has its own sums.
            unsafe { vectorise_at(level, row) };
        });
    });
    Ok([0, 1].map(|which| {
        (0..count).map(|at| (0..parts).map(|part| partials[(part * 2 + which) * count + at]).sum()).collected()
    }))
}

struct SumRow<S: StoredFloat> {
    count: usize,
    input: *const S,
    grad: *const S,
    centre: *const S::Math,
    sums: [*mut f64; 2],
    strides: [isize; 3],
}

impl<S: StoredFloat> Vectorised for SumRow<S> {
    type Output = ();
    #[inline(always)]
    unsafe fn run(self) {
        // SAFETY: the caller's.
        unsafe {
            match self.strides {
                [1, 1, 0] => self.along([1, 1]),
                [a, b, 0] => self.along([a, b]),
                [1, 1, 1] => self.across([1, 1, 1]),
                strides => self.across(strides),
            }
        }
    }
}

impl<S: StoredFloat> SumRow<S> {
    /// All of one channel.
    #[inline(always)]
    unsafe fn along(&self, strides: [isize; 2]) {
        // SAFETY: every index is below `count`.
        unsafe {
            let centre = *self.centre;
            let terms = |index: usize| {
                let grad = (*self.grad.offset(index as isize * strides[1])).load();
                let input = (*self.input.offset(index as isize * strides[0])).load();
                (grad, input.sub(centre))
            };
            for (sum, total) in self.sums.into_iter().zip(pair_sums(self.count, terms)) {
                *sum += total;
            }
        }
    }

    /// A channel each.
    #[inline(always)]
    unsafe fn across(&self, strides: [isize; 3]) {
        // SAFETY: every index is below `count`.
        unsafe {
            for index in 0..self.count as isize {
                let grad = (*self.grad.offset(index * strides[1])).load();
                let channel = index * strides[2];
                let distance = (*self.input.offset(index * strides[0])).load().sub(*self.centre.offset(channel));
                *self.sums[0].offset(channel) += grad.to_f64();
                *self.sums[1].offset(channel) += grad.mul(distance).to_f64();
            }
        }
    }
}

/// The variance and mean of `input`, with sizes `[N or 1, C or groups, 1, ...]` as given.
pub fn statistics(input: &View<'_>, sizes: &[i64]) -> Result<[Vec<f64>; 2]> {
    let count = sizes.iter().product::<i64>() as usize;
    let [mut variance, mut mean] = [filled(count, 0.0f64), filled(count, 0.0f64)];
    let strides = contiguous_strides(sizes);
    let [variance_view, mean_view] = [&mut variance, &mut mean].map(|list| {
        // SAFETY: the vectors have an element a statistic.
        unsafe { View::new(list.as_mut_ptr().cast(), crate::dtype::DType::F64, sizes, &strides) }
    });
    let attrs = crate::view::Attrs { ints: &[0], floats: &[0.0] };
    crate::reduce::variance(&[variance_view, mean_view, *input], &attrs)?;
    Ok([variance, mean])
}
