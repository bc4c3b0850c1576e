//! Margin losses over the classes of a sample: one target class, or a list of them.

use crate::convert::Stored;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::fallible::{Collected, filled};
use crate::match_float;
use crate::math::total;
use crate::reduce::engine::Shared;
use crate::threads;
use crate::validate::indices::Legal;
use crate::view::{Attrs, View};

/// PyTorch's codes: none, mean, sum.
const NONE: i64 = 0;
const MEAN: i64 = 1;
/// Numbers of a task.
const TASK: usize = 4 * 1024;

/// Scores `[samples, classes]` and what their reduction multiplies each sample by.
#[derive(Clone, Copy)]
struct Samples<'a> {
    scores: &'a View<'a>,
    count: usize,
    classes: usize,
    reduction: i64,
}

impl<'a> Samples<'a> {
    fn of(scores: &'a View<'a>, reduction: i64) -> Result<Self> {
        scores.expect_rank("input", 2)?;
        Ok(Self { scores, count: scores.size(0), classes: scores.size(1), reduction })
    }

    fn check_targets(&self, targets: &[i64], legal: impl Fn(i64) -> Legal) -> Result<()> {
        legal(self.classes as i64).check_all(targets.iter().copied(), |class| {
            Error::Runtime(format!("target out of range: {class} of {} classes", self.classes))
        })
    }

    /// What a sample's sum over the classes is multiplied by.
    fn share(&self) -> f64 {
        let samples = if self.reduction == MEAN { self.count as f64 } else { 1.0 };
        1.0 / (self.classes as f64 * samples)
    }

    fn score<S: Stored>(&self, sample: usize, class: usize) -> f64 {
        let offset = sample as isize * self.scores.stride(0) + class as isize * self.scores.stride(1);
        // SAFETY: samples and classes are the view's.
        unsafe { (*self.scores.ptr::<S>().offset(offset)).to_f64() }
    }

    fn check_out(&self, out: &View<'_>) -> Result<()> {
        out.expect_dtype("the loss", self.scores.dtype())?;
        if self.reduction == NONE { out.expect_sizes("the loss", &[self.count]) } else { one_number(out) }
    }

    /// Stores each sample's loss, or their sum.
    fn store<S: Stored>(&self, out: &View<'_>, loss: impl Fn(usize) -> f64 + Sync) {
        let mut losses = filled(self.count, 0.0);
        let shared = Shared(losses.as_mut_ptr());
        self.each(|sample| {
            // SAFETY: a sample's own place.
            unsafe { *shared.at(sample) = loss(sample) };
        });
        if self.reduction == NONE {
            for (sample, &loss) in losses.iter().enumerate() {
                // SAFETY: the output has an element for each sample.
                unsafe { *out.ptr::<S>().offset(sample as isize * out.stride(0)) = S::from_f64(loss) };
            }
        } else {
            // SAFETY: the output has one element.
            unsafe { *out.ptr::<S>() = S::from_f64(total(losses.iter().copied())) };
        }
    }

    /// The gradient of each sample's loss.
    fn grad<S: Stored>(&self, grad: &View<'_>, sample: usize) -> f64 {
        let offset = if self.reduction == NONE { sample as isize * grad.stride(0) } else { 0 };
        // SAFETY: an element for each sample, or the one.
        unsafe { (*grad.ptr::<S>().offset(offset)).to_f64() }
    }

    fn each(&self, body: impl Fn(usize) + Sync) {
        let chunk = (TASK / self.classes.max(1)).max(1);
        threads::parallel_chunks(self.count, chunk, self.count * self.classes * 2, |range| range.for_each(&body));
    }

    fn store_row<S: Stored>(&self, to: &View<'_>, sample: usize, row: &[f64]) {
        for (class, &value) in row.iter().enumerate() {
            let offset = sample as isize * to.stride(0) + class as isize * to.stride(1);
            // SAFETY: of the scores' shape; a sample's row is its task's.
            unsafe { *to.ptr::<S>().offset(offset) = S::from_f64(value) };
        }
    }
}

fn one_number(view: &View<'_>) -> Result<()> {
    if view.numel() == 1 {
        return Ok(());
    }
    Err(Error::Shape(format!("expected one number, got {:?}", view.sizes())))
}

/// The classes of a 1-D or 2-D view, by rows.
fn classes_of(target: &View<'_>, width: usize) -> Result<Vec<i64>> {
    target.expect_dtype("target", DType::I64)?;
    let rows = target.size(0);
    let stride = if target.rank() == 2 { target.stride(1) } else { 0 };
    let at = |row: usize, column: usize| row as isize * target.stride(0) + column as isize * stride;
    // SAFETY: rows and columns are the view's.
    Ok((0..rows * width)
        .map(|index| unsafe { *target.ptr::<i64>().offset(at(index / width, index % width)) })
        .collected())
}

struct MultiMargin<'a> {
    samples: Samples<'a>,
    target: Vec<i64>,
    weight: Option<&'a View<'a>>,
    power: i64,
    margin: f64,
}

impl<'a> MultiMargin<'a> {
    fn of(scores: &'a View<'a>, target: &View<'_>, weight: &'a View<'a>, attrs: &Attrs<'_>) -> Result<Self> {
        let samples = Samples::of(scores, attrs.int(1))?;
        target.expect_sizes("target", &[samples.count])?;
        let target = classes_of(target, 1)?;
        samples.check_targets(&target, Legal::below)?;
        let weight = weight.optional();
        if let Some(weight) = weight {
            weight.expect_sizes("weight", &[samples.classes])?;
            weight.expect_dtype("weight", scores.dtype())?;
        }
        let power = attrs.int(0);
        if !matches!(power, 1 | 2) {
            return Err(Error::Runtime(format!("only p == 1 and p == 2 supported, got {power}")));
        }
        Ok(Self { samples, target, weight, power, margin: attrs.float(0) })
    }

    fn weight<S: Stored>(&self, sample: usize) -> f64 {
        let class = self.target[sample] as isize;
        // SAFETY: targets are classes, of which the weight has one element each.
        self.weight.map_or(1.0, |weight| unsafe { (*weight.ptr::<S>().offset(class * weight.stride(0))).to_f64() })
    }

    /// How far each other class comes into the target's margin.
    fn excess<S: Stored>(&self, sample: usize) -> impl Iterator<Item = (usize, f64)> + '_ {
        let target = self.target[sample] as usize;
        let score = self.samples.score::<S>(sample, target);
        (0..self.samples.classes)
            .filter(move |&class| class != target)
            .map(move |class| (class, self.margin - score + self.samples.score::<S>(sample, class)))
            // As on the CPU, what is no number is in no margin.
            .filter(|&(_, excess)| excess > 0.0)
    }
}

/// `[out, input, target, weight?]`: `[samples]` or one number, `[samples, classes]`, `[samples]` of
/// i64, `[classes]`; ints `[p, reduction]`, floats `[margin]`.
pub fn multi_margin(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [out, input, target, weight] = views else {
        return Err(Error::Runtime(format!("expected 4 views, got {}", views.len())));
    };
    let loss = MultiMargin::of(input, target, weight, attrs)?;
    loss.samples.check_out(out)?;
    match_float!(input.dtype(), S => loss.samples.store::<S>(out, |sample| {
        let sum = total(loss.excess::<S>(sample).map(|(_, excess)| excess.powi(loss.power as i32)));
        sum * loss.weight::<S>(sample) * loss.samples.share()
    }));
    Ok(())
}

/// `[grad_input, grad, input, target, weight?]`, scalars as `multi_margin`'s.
pub fn multi_margin_backward(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [grad_input, grad, input, target, weight] = views else {
        return Err(Error::Runtime(format!("expected 5 views, got {}", views.len())));
    };
    let loss = MultiMargin::of(input, target, weight, attrs)?;
    loss.samples.check_out(grad)?;
    grad_input.expect_dtype("grad_input", input.dtype())?;
    grad_input.expect_sizes("grad_input", &[loss.samples.count, loss.samples.classes])?;
    match_float!(input.dtype(), S => loss.samples.each(|sample| {
        let mut row = filled(loss.samples.classes, 0.0);
        let scale = loss.samples.grad::<S>(grad, sample) * loss.weight::<S>(sample) * loss.samples.share();
        let mut total = 0.0;
        for (class, excess) in loss.excess::<S>(sample) {
            row[class] = scale * if loss.power == 1 { 1.0 } else { 2.0 * excess };
            total += row[class];
        }
        row[loss.target[sample] as usize] = -total;
        loss.samples.store_row::<S>(grad_input, sample, &row);
    }));
    Ok(())
}

struct Multilabel<'a> {
    samples: Samples<'a>,
    target: Vec<i64>,
}

impl<'a> Multilabel<'a> {
    fn of(scores: &'a View<'a>, target: &View<'_>, attrs: &Attrs<'_>) -> Result<Self> {
        let samples = Samples::of(scores, attrs.int(0))?;
        target.expect_sizes("target", &[samples.count, samples.classes])?;
        let target = classes_of(target, samples.classes)?;
        samples.check_targets(&target, |classes| Legal::below(classes).ignoring(-1))?;
        Ok(Self { samples, target })
    }

    /// A sample's targets, up to the first that is negative, and which classes are targets.
    fn targets(&self, sample: usize) -> (impl Iterator<Item = usize> + '_, Vec<bool>) {
        let classes = self.samples.classes;
        let list = move || {
            self.target[sample * classes..(sample + 1) * classes]
                .iter()
                .take_while(|&&class| class >= 0)
                .map(|&class| class as usize)
        };
        let mut is_target = filled(classes, false);
        list().for_each(|class| is_target[class] = true);
        (list(), is_target)
    }

    /// Calls `body(target, other class, how far it comes into the margin)`.
    fn each_excess<S: Stored>(&self, sample: usize, mut body: impl FnMut(usize, usize, f64)) {
        let (targets, is_target) = self.targets(sample);
        for target in targets {
            let score = self.samples.score::<S>(sample, target);
            for class in (0..self.samples.classes).filter(|&class| !is_target[class]) {
                let excess = 1.0 - score + self.samples.score::<S>(sample, class);
                if excess > 0.0 {
                    body(target, class, excess);
                }
            }
        }
    }
}

/// `[out, is_target, input, target]`: `[samples]` or one number, and thrice `[samples, classes]`, the
/// targets of i64, ended by a negative one; ints `[reduction]`.
pub fn multilabel_margin(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [out, is_target, input, target] = views else {
        return Err(Error::Runtime(format!("expected 4 views, got {}", views.len())));
    };
    let loss = Multilabel::of(input, target, attrs)?;
    let Samples { count, classes, .. } = loss.samples;
    loss.samples.check_out(out)?;
    is_target.expect_dtype("is_target", input.dtype())?;
    is_target.expect_sizes("is_target", &[count, classes])?;
    match_float!(input.dtype(), S => {
        loss.samples.each(|sample| {
            let (_, flags) = loss.targets(sample);
            let row: Vec<f64> = flags.into_iter().map(f64::from).collected();
            loss.samples.store_row::<S>(is_target, sample, &row);
        });
        loss.samples.store::<S>(out, |sample| {
            let mut sum = 0.0;
            loss.each_excess::<S>(sample, |_, _, excess| sum += excess);
            sum * loss.samples.share()
        });
    });
    Ok(())
}

/// `[grad_input, grad, input, target]`, ints as `multilabel_margin`'s.
pub fn multilabel_margin_backward(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let [grad_input, grad, input, target] = views else {
        return Err(Error::Runtime(format!("expected 4 views, got {}", views.len())));
    };
    let loss = Multilabel::of(input, target, attrs)?;
    loss.samples.check_out(grad)?;
    grad_input.expect_dtype("grad_input", input.dtype())?;
    grad_input.expect_sizes("grad_input", &[loss.samples.count, loss.samples.classes])?;
    match_float!(input.dtype(), S => loss.samples.each(|sample| {
        let mut row = filled(loss.samples.classes, 0.0);
        let scale = loss.samples.grad::<S>(grad, sample) * loss.samples.share();
        loss.each_excess::<S>(sample, |target, class, _| {
            row[target] -= scale;
            row[class] += scale;
        });
        loss.samples.store_row::<S>(grad_input, sample, &row);
    }));
    Ok(())
}
