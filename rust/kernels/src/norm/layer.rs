//! Layer normalisation over the rows of `[M, N]`.

use super::{expect_count, store, values};
use crate::convert::{Stored, StoredFloat};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::fallible::{Collected, filled};
use crate::isa;
use crate::lanes::{Real, Vectorised, vectorise_at};
use crate::lines::{LineScratch, Lines};
use crate::match_float;
use crate::reduce::engine::Shared;
use crate::reduce::moments::{Spread, pair_sums, spread};
use crate::threads;
use crate::value::Value;
use crate::view::{Attrs, View};

/// Elements of a task.
const TASK: usize = 16 * 1024;
/// The most parts that the parameters' gradients are summed in, and the fewest rows of one.
const PARTS: usize = 32;
const PART_ROWS: usize = 32;
/// Elements whose spread is taken at once.
const BLOCK: usize = 4096;

fn rows(views: &[&View<'_>]) -> Result<[usize; 2]> {
    views[0].expect_rank("the input", 2)?;
    let sizes = [views[0].size(0), views[0].size(1)];
    for view in &views[1..] {
        view.expect_sizes("an operand", &sizes)?;
        view.expect_dtype("an operand", views[0].dtype())?;
    }
    Ok(sizes)
}

/// A parameter in the compute type: one element a column, dense.
fn parameter<T: Real>(view: &View<'_>, columns: usize) -> Result<Option<Vec<T>>> {
    expect_count(view, "a parameter", columns)?;
    let list = view.optional().map(values).transpose()?;
    Ok(list.map(|list| list.into_iter().map(|value| T::from_scalar(value, 0)).collected()))
}

/// `[output, mean, rstd, input, weight?, bias?]`: input `[M, N]`, statistics of M elements,
/// parameters of N; floats `[eps]`.
pub fn layer_norm(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [output, mean, rstd, input, weight, bias] = views else {
        return Err(Error::Runtime(format!("expected 6 views, got {}", views.len())));
    };
    let [count, columns] = rows(&[input, output])?;
    expect_count(mean, "mean", count)?;
    expect_count(rstd, "rstd", count)?;
    match_float!(input.dtype(), S => {
        type T = <S as StoredFloat>::Math;
        let (weight, bias) = (parameter::<T>(weight, columns)?, parameter::<T>(bias, columns)?);
        let pointer = |list: &Option<Vec<T>>| list.as_ref().map(|list| list.as_ptr() as usize);
        let parameters = [pointer(&weight), pointer(&bias)];
        let level = isa::level();
        let from = Lines::<T>::new(input, columns, input.stride(1), level)?;
        let to = Lines::<T>::new(output, columns, output.stride(1), level)?;
        let [mut means, mut rstds] = [filled(count, 0.0), filled(count, 0.0)];
        let statistics = [Shared(means.as_mut_ptr()), Shared(rstds.as_mut_ptr())];
        let rows_per_task = (TASK / columns.max(1)).max(1);
        threads::parallel_chunks(count, rows_per_task, count * columns, |range| {
            let scratch = LineScratch::<T>::new(2, columns);
            let scratch = [scratch.line(0), scratch.line(1)];
            for row in range {
                let offset = |view: &View<'_>| row as isize * view.stride(0);
                // SAFETY: the row is within both views; each task has its own rows.
                unsafe {
                    let task = Forward::<T> {
                        count: columns,
                        to: to.target(offset(output), scratch[0]),
                        from: from.read(offset(input), scratch[1]),
                        parameters: parameters.map(|list| list.map(|list| list as *const T)),
                        eps: attrs.float(0),
                    };
                    let [mean, rstd] = vectorise_at(level, task);
                    to.finish(offset(output), scratch[0]);
                    *statistics[0].at(row) = mean;
                    *statistics[1].at(row) = rstd;
                }
            }
        });
        store(mean, &means)?;
        store(rstd, &rstds)
    })
}

struct Forward<T> {
    count: usize,
    to: *mut T,
    from: *const T,
    /// Weight and bias.
    parameters: [Option<*const T>; 2],
    eps: f64,
}

impl<T: Real + StoredFloat<Math = T>> Vectorised for Forward<T> {
    type Output = [f64; 2];
    #[inline(always)]
    unsafe fn run(self) -> [f64; 2] {
        let Self { count, to, from, parameters, eps } = self;
        // SAFETY: the row and the parameters have `count` elements.
        unsafe {
            let mut total = Spread::EMPTY;
            let mut done = 0;
            while done < count {
                let block = BLOCK.min(count - done);
                total = total.combine(done, spread(from.add(done), 1, block), block);
                done += block;
            }
            let rstd = 1.0 / (total.squares / count as f64 + eps).sqrt();
            let (centre, scale) = (T::from_scalar(total.mean, 0), T::from_scalar(rstd, 0));
            let normal = |index: usize| (*from.add(index)).sub(centre).mul(scale);
            match parameters {
                [Some(weight), Some(bias)] => {
                    (0..count).for_each(|at| *to.add(at) = normal(at).mul_add(*weight.add(at), *bias.add(at)));
                }
                [Some(weight), None] => (0..count).for_each(|at| *to.add(at) = normal(at).mul(*weight.add(at))),
                [None, Some(bias)] => (0..count).for_each(|at| *to.add(at) = normal(at).add(*bias.add(at))),
                [None, None] => (0..count).for_each(|at| *to.add(at) = normal(at)),
            }
            [total.mean, rstd]
        }
    }
}

/// `[grad_input?, grad_weight?, grad_bias?, grad_output, input, mean, rstd, weight?]`, shaped as in
/// the forward pass.
pub fn layer_norm_backward(views: &[View<'_>], _attrs: &Attrs<'_>) -> Result<()> {
    let [grad_input, grad_weight, grad_bias, grad, input, mean, rstd, weight] = views else {
        return Err(Error::Runtime(format!("expected 8 views, got {}", views.len())));
    };
    let [count, columns] = rows(&[input, grad, grad_input.optional().unwrap_or(input)])?;
    for (view, name) in [(mean, "mean"), (rstd, "rstd")] {
        expect_count(view, name, count)?;
    }
    for (view, name) in [(grad_weight, "grad_weight"), (grad_bias, "grad_bias")] {
        expect_count(view, name, columns)?;
    }
    let (mean, rstd) = (values(mean)?, values(rstd)?);
    match_float!(input.dtype(), S => {
        type T = <S as StoredFloat>::Math;
        let weight = parameter::<T>(weight, columns)?.unwrap_or_else(|| filled(columns, T::ONE));
        let level = isa::level();
        let lines = |view: &View<'_>| Lines::<T>::new(view, columns, view.stride(1), level);
        let (from, grads) = (lines(input)?, lines(grad)?);
        let to = grad_input.optional().map(lines).transpose()?;
        let wanted = grad_weight.is_present() || grad_bias.is_present();
        let part = PART_ROWS.max(count.div_ceil(PARTS));
        let parts = count.div_ceil(part);
        let mut partials = filled(if wanted { parts * 2 * columns } else { 0 }, T::ZERO);
        let shared = Shared(partials.as_mut_ptr());
        threads::parallel_chunks(count, part, count * columns * 2, |range| {
            let scratch = LineScratch::<T>::new(3, columns);
            let scratch = [scratch.line(0), scratch.line(1), scratch.line(2)];
            let sums = shared.at(range.start / part * 2 * columns);
            for row in range {
                let offset = |view: &View<'_>| row as isize * view.stride(0);
                // SAFETY: the row is within the views; each task has its own rows and sums.
                unsafe {
                    let task = Backward::<T> {
                        count: columns,
                        to: to.as_ref().map(|to| to.target(offset(grad_input), scratch[0])),
                        grad: grads.read(offset(grad), scratch[1]),
                        input: from.read(offset(input), scratch[2]),
                        weight: weight.as_ptr(),
                        sums: wanted.then(|| [sums, sums.wrapping_add(columns)]),
                        centre: T::from_scalar(mean[row], 0),
                        rstd: T::from_scalar(rstd[row], 0),
                    };
                    vectorise_at(level, task);
                    if let Some(to) = &to {
                        to.finish(offset(grad_input), scratch[0]);
                    }
                }
            }
        });
        for (which, view) in [grad_weight, grad_bias].into_iter().enumerate() {
            let sum = |column: usize| {
                let of = |part: usize| Element::to_f64(partials[(part * 2 + which) * columns + column]);
                (0..parts).map(of).sum()
            };
            if view.is_present() {
                store(view, &(0..columns).map(sum).collected())?;
            }
        }
        Ok(())
    })
}

struct Backward<T> {
    count: usize,
    to: Option<*mut T>,
    grad: *const T,
    input: *const T,
    weight: *const T,
    /// Of the weight's gradient and the bias's, added to.
    sums: Option<[*mut T; 2]>,
    centre: T,
    rstd: T,
}

impl<T: Real + Stored> Vectorised for Backward<T> {
    type Output = ();
    #[inline(always)]
    unsafe fn run(self) {
        let Self { count, to, grad, input, weight, sums, centre, rstd } = self;
        // SAFETY: the rows, the weight and the sums have `count` elements.
        unsafe {
            let normal = |index: usize| (*input.add(index)).sub(centre).mul(rstd);
            if let Some([of_weight, of_bias]) = sums {
                for index in 0..count {
                    let grad = *grad.add(index);
                    *of_weight.add(index) = grad.mul_add(normal(index), *of_weight.add(index));
                    *of_bias.add(index) = grad.add(*of_bias.add(index));
                }
            }
            let Some(to) = to else { return };
            let weighted = |index: usize| (*grad.add(index)).mul(*weight.add(index));
            let [mean, product] = pair_sums(count, |index| (weighted(index), normal(index)))
                .map(|total| T::from_scalar(total / count as f64, 0));
            for index in 0..count {
                let value = weighted(index).sub(mean).sub(normal(index).mul(product));
                *to.add(index) = value.mul(rstd);
            }
        }
    }
}
