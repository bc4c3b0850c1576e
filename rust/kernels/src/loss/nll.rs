//! The negative log likelihood, over classes in dimension 1 of `[N, C, ...]`.

use crate::convert::{Stored, StoredFloat};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::fallible::filled;
use crate::loops::iterate::Space;
use crate::match_float;
use crate::reduce::dense_as;
use crate::reduce::engine::Shared;
use crate::threads;
use crate::validate::indices::Legal;
use crate::view::{Attrs, View};

/// Positions of a task.
const TASK: usize = 8 * 1024;
/// Elements of a task that fills with zero.
const FILL: usize = 64 * 1024;

/// PyTorch's codes: none, mean, sum.
const NONE: i64 = 0;
const MEAN: i64 = 1;

struct Classes<'a> {
    /// `[N, C, ...]`: the log probabilities, or their gradient.
    scores: &'a View<'a>,
    target: &'a View<'a>,
    weight: Option<&'a View<'a>>,
    ignored: i64,
}

impl Classes<'_> {
    /// The space of the target, the scores without their classes, and a third operand.
    fn space(&self, third: &[i64]) -> Space<3> {
        let mut scores = self.scores.strides().to_vec();
        scores.remove(1);
        Space::new(self.target.sizes(), [self.target.strides(), &scores, third])
    }

    fn check(&self) -> Result<()> {
        let mut sizes = self.scores.sizes().to_vec();
        if sizes.len() < 2 {
            return Err(Error::Shape(format!("expected scores of shape [N, C, ...], got {sizes:?}")));
        }
        let classes = sizes.remove(1);
        if sizes != self.target.sizes() {
            return Err(Error::Shape(format!("expected a target of shape {sizes:?}, got {:?}", self.target.sizes())));
        }
        if let Some(weight) = self.weight {
            weight.expect_sizes("the weight", &[classes as usize])?;
            weight.expect_dtype("the weight", self.scores.dtype())?;
        }
        self.target.expect_dtype("the target", DType::I64)?;
        Legal::below(classes).ignoring(self.ignored).check(self.target, Error::Target)
    }

    /// Calls `body(offset of the class's score, offset in the third operand, class's weight)` for
    /// the positions in `range` of the space; ignored ones have no class.
    fn each<S: StoredFloat>(
        &self,
        space: &Space<3>,
        range: std::ops::Range<usize>,
        mut body: impl FnMut(Option<isize>, isize, f64),
    ) {
        let [target_step, score_step, third_step] = space.inner().strides;
        space.rows(range.start, range.end, |[target, score, third], count| {
            for index in 0..count as isize {
                // SAFETY: the space is the target's; the classes were checked.
                let class = unsafe { *self.target.ptr::<i64>().offset(target + index * target_step) };
                let third = third + index * third_step;
                if class == self.ignored {
                    body(None, third, 0.0);
                    continue;
                }
                // SAFETY: as above; the weight has an element a class.
                let weight = self.weight.map_or(1.0, |weight| unsafe {
                    (*weight.ptr::<S>().offset(class as isize * weight.stride(0))).to_f64()
                });
                body(Some(score + index * score_step + class as isize * self.scores.stride(1)), third, weight);
            }
        });
    }
}

/// `[output, total_weight, input, target, weight?]`; ints `[reduction, ignored class]`. The output
/// has the target's shape, or one element where it is reduced.
pub fn nll_loss(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [output, total_weight, input, target, weight] = views else {
        return Err(Error::Runtime(format!("expected 5 views, got {}", views.len())));
    };
    let reduction = attrs.int(0);
    dense_as(target, DType::I64, |target| {
        let classes = Classes { scores: input, target, weight: weight.optional(), ignored: attrs.int(1) };
        classes.check()?;
        output.expect_dtype("the output", input.dtype())?;
        total_weight.expect_one("the total weight", input.dtype())?;
        match_float!(input.dtype(), S => {
            if reduction == NONE {
                if output.sizes() != target.sizes() {
                    return Err(Error::Shape("the output has not the target's shape".into()));
                }
                one_by_one::<S>(&classes, output);
                // SAFETY: an element of the input's dtype.
                unsafe { *total_weight.ptr::<S>() = S::from_f64(0.0) };
            } else {
                output.expect_one("the output", input.dtype())?;
                let [loss, weights] = reduced::<S>(&classes);
                let loss = if reduction == MEAN { loss / weights } else { loss };
                // SAFETY: both have one element of the input's dtype.
                unsafe {
                    *output.ptr::<S>() = S::from_f64(loss);
                    *total_weight.ptr::<S>() = S::from_f64(weights);
                }
            }
        });
        Ok(())
    })
}

fn one_by_one<S: StoredFloat>(classes: &Classes<'_>, output: &View<'_>) {
    let space = classes.space(output.strides());
    threads::parallel_chunks(space.numel, TASK, space.numel * 8, |range| {
        classes.each::<S>(&space, range, |score, at, weight| {
            // SAFETY: positions within the scores and the output, each written once.
            unsafe {
                let loss = score.map_or(0.0, |score| -(*classes.scores.ptr::<S>().offset(score)).to_f64() * weight);
                *output.ptr::<S>().offset(at) = S::from_f64(loss);
            }
        });
    });
}

/// The sums of losses and of weights.
fn reduced<S: StoredFloat>(classes: &Classes<'_>) -> [f64; 2] {
    let space = classes.space(&filled(classes.target.rank(), 0));
    let mut partials = filled(space.numel.div_ceil(TASK), [0.0; 2]);
    let shared = Shared(partials.as_mut_ptr());
    threads::parallel_chunks(space.numel, TASK, space.numel * 8, |range| {
        let part = range.start / TASK;
        let mut sums = [0.0; 2];
        classes.each::<S>(&space, range, |score, _, weight| {
            if let Some(score) = score {
                // SAFETY: a position within the scores.
                sums[0] -= unsafe { (*classes.scores.ptr::<S>().offset(score)).to_f64() } * weight;
                sums[1] += weight;
            }
        });
        // SAFETY: each task has its own partial.
        unsafe { *shared.at(part) = sums };
    });
    partials.iter().fold([0.0; 2], |total, partial| [total[0] + partial[0], total[1] + partial[1]])
}

/// `[grad_input, grad_output, target, weight?, total_weight]`; ints `[reduction, ignored class]`.
pub fn nll_loss_backward(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [grad_input, grad, target, weight, total_weight] = views else {
        return Err(Error::Runtime(format!("expected 5 views, got {}", views.len())));
    };
    let reduction = attrs.int(0);
    dense_as(target, DType::I64, |target| {
        let classes = Classes { scores: grad_input, target, weight: weight.optional(), ignored: attrs.int(1) };
        classes.check()?;
        grad.expect_dtype("the gradient", grad_input.dtype())?;
        let none = filled(target.rank(), 0);
        let strides = if reduction == NONE { grad.strides() } else { &none[..] };
        if reduction != NONE {
            grad.expect_one("the gradient", grad_input.dtype())?;
        } else if grad.sizes() != target.sizes() {
            return Err(Error::Shape("the gradient has not the target's shape".into()));
        }
        match_float!(grad_input.dtype(), S => {
            let scale = if reduction == MEAN {
                total_weight.expect_one("the total weight", grad_input.dtype())?;
                // SAFETY: an element of the dtype.
                -1.0 / unsafe { (*total_weight.ptr::<S>()).to_f64() }
            } else {
                -1.0
            };
            clear::<S>(grad_input);
            let space = classes.space(strides);
            threads::parallel_chunks(space.numel, TASK, space.numel * 8, |range| {
                classes.each::<S>(&space, range, |score, at, weight| {
                    if let Some(score) = score {
                        // SAFETY: positions within both; a class's place is written once.
                        unsafe {
                            let grad = (*grad.ptr::<S>().offset(at)).to_f64();
                            *grad_input.ptr::<S>().offset(score) = S::from_f64(scale * weight * grad);
                        }
                    }
                });
            });
        });
        Ok(())
    })
}

fn clear<S: Stored>(view: &View<'_>) {
    let space = Space::of([view]);
    let stride = space.inner().strides[0];
    threads::parallel_chunks(space.numel, FILL, space.numel / 8, |range| {
        space.rows(range.start, range.end, |[offset], count| {
            let start = view.ptr::<S>().wrapping_offset(offset);
            // SAFETY: a row of the view; all-zero bits are zero in every float type.
            unsafe {
                if stride == 1 {
                    std::ptr::write_bytes(start, 0, count);
                } else {
                    (0..count as isize).for_each(|index| *start.offset(index * stride) = S::from_f64(0.0));
                }
            }
        });
    });
}
