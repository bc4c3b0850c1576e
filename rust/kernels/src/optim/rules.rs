//! SGD, Adam, AdamW and Adagrad, as torch's fused CPU steps compute them.

use super::step::{Grads, Rule, lists, run};
use crate::element::Float;
use crate::error::{Error, Result};
use crate::view::{Attrs, View};

/// The number of tensors whose step counts follow the other floats.
fn steps<'a>(attrs: &Attrs<'a>, after: usize, count: usize) -> Result<&'a [f64]> {
    attrs.floats.get(after..after + count).ok_or_else(|| {
        Error::Runtime(format!("expected {count} step counts, got {}", attrs.floats.len().saturating_sub(after)))
    })
}

/// A scale of zero stands for none.
fn grads(scale: f64, maximize: bool) -> Grads {
    Grads { scale: (scale != 0.0).then_some(scale), maximize }
}

/// The gradient with weight decay; without one, an infinite parameter stays out of it.
#[inline(always)]
fn decayed<T: Float>(grad: T, parameter: T, decay: T) -> T {
    let decayed = grad.add(parameter.mul(decay));
    if decay == T::ZERO { grad } else { decayed }
}

/// Views: parameters, momentum buffers where momentum is not zero, gradients. Ints `[written
/// views, nesterov, maximize, is_first_step]`; floats `[lr, momentum, dampening, weight_decay,
/// grad_scale (0: none)]`.
pub fn sgd(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let &[lr, momentum, dampening, weight_decay, grad_scale] = attrs.floats else {
        return Err(Error::Runtime("expected five floats".into()));
    };
    let grads = grads(grad_scale, attrs.flag(2));
    let (nesterov, first_step) = (attrs.flag(1), attrs.flag(3));
    let rule = Sgd { lr, momentum, dampening, weight_decay, nesterov, first_step };
    if momentum == 0.0 {
        return run(&lists(views, 2)?, grads, &PlainSgd(rule));
    }
    run(&lists(views, 3)?, grads, &rule)
}

#[derive(Clone, Copy)]
struct Sgd {
    lr: f64,
    momentum: f64,
    dampening: f64,
    weight_decay: f64,
    nesterov: bool,
    first_step: bool,
}

#[derive(Clone, Copy)]
struct SgdFactors<T> {
    lr: T,
    momentum: T,
    fresh: T,
    weight_decay: T,
    nesterov: bool,
    first_step: bool,
}

impl Sgd {
    fn factors<T: Float>(&self) -> SgdFactors<T> {
        SgdFactors {
            lr: T::from_f64(self.lr),
            momentum: T::from_f64(self.momentum),
            fresh: T::from_f64(1.0 - self.dampening),
            weight_decay: T::from_f64(self.weight_decay),
            nesterov: self.nesterov,
            first_step: self.first_step,
        }
    }
}

impl Rule<1> for Sgd {
    type Tensor<T: Float> = SgdFactors<T>;
    fn tensor<T: Float>(&self, _tensor: usize) -> SgdFactors<T> {
        self.factors()
    }
    #[inline(always)]
    fn apply<T: Float>(factors: &SgdFactors<T>, parameter: T, grad: T, [buffer]: &mut [T; 1]) -> T {
        let grad = decayed(grad, parameter, factors.weight_decay);
        *buffer = if factors.first_step { grad } else { buffer.mul(factors.momentum).add(grad.mul(factors.fresh)) };
        let direction = if factors.nesterov { grad.add(buffer.mul(factors.momentum)) } else { *buffer };
        parameter.sub(direction.mul(factors.lr))
    }
}

struct PlainSgd(Sgd);

impl Rule<0> for PlainSgd {
    type Tensor<T: Float> = SgdFactors<T>;
    fn tensor<T: Float>(&self, _tensor: usize) -> SgdFactors<T> {
        self.0.factors()
    }
    #[inline(always)]
    fn apply<T: Float>(factors: &SgdFactors<T>, parameter: T, grad: T, _states: &mut [T; 0]) -> T {
        let grad = decayed(grad, parameter, factors.weight_decay);
        parameter.sub(grad.mul(factors.lr))
    }
}

/// Views: parameters, first and second moments, with amsgrad the maxima of the second, gradients.
/// Ints `[written views, amsgrad, maximize, decoupled (AdamW)]`; floats `[lr, beta1, beta2,
/// weight_decay, eps, grad_scale (0: none)]`, then each tensor's step.
pub fn adam(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let &[lr, beta1, beta2, weight_decay, eps, grad_scale, ..] = attrs.floats else {
        return Err(Error::Runtime("expected six floats and the steps".into()));
    };
    let grads = grads(grad_scale, attrs.flag(2));
    let amsgrad = attrs.flag(1);
    let lists = lists(views, if amsgrad { 5 } else { 4 })?;
    let steps = steps(attrs, 6, lists[0].len())?;
    let rule = Adam { lr, beta1, beta2, weight_decay, eps, decoupled: attrs.flag(3), steps };
    if amsgrad { run(&lists, grads, &AmsGrad(rule)) } else { run(&lists, grads, &rule) }
}

#[derive(Clone, Copy)]
struct Adam<'a> {
    lr: f64,
    beta1: f64,
    beta2: f64,
    weight_decay: f64,
    eps: f64,
    decoupled: bool,
    steps: &'a [f64],
}

#[derive(Clone, Copy)]
struct AdamFactors<T> {
    step_size: T,
    fresh1: T,
    beta2: T,
    fresh2: T,
    /// The root of the second moment's bias correction.
    correction: T,
    eps: T,
    /// Added to the gradient, times the parameter.
    decay: T,
    /// What is left of the parameter before the step.
    kept: T,
}

impl Adam<'_> {
    fn factors<T: Float>(&self, tensor: usize) -> AdamFactors<T> {
        let step = self.steps[tensor];
        let (decay, kept) =
            if self.decoupled { (0.0, 1.0 - self.lr * self.weight_decay) } else { (self.weight_decay, 1.0) };
        AdamFactors {
            step_size: T::from_f64(self.lr / (1.0 - self.beta1.powf(step))),
            fresh1: T::from_f64(1.0 - self.beta1),
            beta2: T::from_f64(self.beta2),
            fresh2: T::from_f64(1.0 - self.beta2),
            correction: T::from_f64((1.0 - self.beta2.powf(step)).sqrt()),
            eps: T::from_f64(self.eps),
            decay: T::from_f64(decay),
            kept: T::from_f64(kept),
        }
    }
}

/// The parameter and the gradient after weight decay, and the updated moments.
#[inline(always)]
fn moments<T: Float>(factors: &AdamFactors<T>, parameter: T, grad: T, first: &mut T, second: &mut T) -> T {
    let grad = decayed(grad, parameter, factors.decay);
    // A lerp from the nearer end, as torch rounds it.
    *first = if factors.fresh1.abs() < T::from_f64(0.5) {
        factors.fresh1.mul_add(grad.sub(*first), *first)
    } else {
        factors.fresh1.sub(T::ONE).mul_add(grad.sub(*first), grad)
    };
    *second = second.mul(factors.beta2).add(factors.fresh2.mul(grad).mul(grad));
    parameter.mul(factors.kept)
}

#[inline(always)]
fn descend<T: Float>(factors: &AdamFactors<T>, parameter: T, first: T, second: T) -> T {
    let denominator = second.sqrt().div(factors.correction).add(factors.eps);
    parameter.sub(factors.step_size.mul(first).div(denominator))
}

impl Rule<2> for Adam<'_> {
    type Tensor<T: Float> = AdamFactors<T>;
    fn tensor<T: Float>(&self, tensor: usize) -> AdamFactors<T> {
        self.factors(tensor)
    }
    #[inline(always)]
    fn apply<T: Float>(factors: &AdamFactors<T>, parameter: T, grad: T, [first, second]: &mut [T; 2]) -> T {
        let parameter = moments(factors, parameter, grad, first, second);
        descend(factors, parameter, *first, *second)
    }
}

struct AmsGrad<'a>(Adam<'a>);

impl Rule<3> for AmsGrad<'_> {
    type Tensor<T: Float> = AdamFactors<T>;
    fn tensor<T: Float>(&self, tensor: usize) -> AdamFactors<T> {
        self.0.factors(tensor)
    }
    #[inline(always)]
    fn apply<T: Float>(factors: &AdamFactors<T>, parameter: T, grad: T, [first, second, largest]: &mut [T; 3]) -> T {
        let parameter = moments(factors, parameter, grad, first, second);
        *largest = largest.max(*second);
        descend(factors, parameter, *first, *largest)
    }
}

/// Views: parameters, sums of squares, gradients. Ints `[written views, maximize]`; floats `[lr,
/// lr_decay, weight_decay, eps, grad_scale (0: none)]`, then each tensor's step.
pub fn adagrad(views: &[View<'_>], attrs: &Attrs<'_>) -> Result<()> {
    let &[lr, lr_decay, weight_decay, eps, grad_scale, ..] = attrs.floats else {
        return Err(Error::Runtime("expected five floats and the steps".into()));
    };
    let lists = lists(views, 3)?;
    let steps = steps(attrs, 5, lists[0].len())?;
    run(&lists, grads(grad_scale, attrs.flag(1)), &Adagrad { lr, lr_decay, weight_decay, eps, steps })
}

struct Adagrad<'a> {
    lr: f64,
    lr_decay: f64,
    weight_decay: f64,
    eps: f64,
    steps: &'a [f64],
}

#[derive(Clone, Copy)]
struct AdagradFactors<T> {
    lr: T,
    decay: T,
    eps: T,
}

impl Rule<1> for Adagrad<'_> {
    type Tensor<T: Float> = AdagradFactors<T>;
    fn tensor<T: Float>(&self, tensor: usize) -> AdagradFactors<T> {
        AdagradFactors {
            lr: T::from_f64(self.lr / (1.0 + (self.steps[tensor] - 1.0) * self.lr_decay)),
            decay: T::from_f64(self.weight_decay),
            eps: T::from_f64(self.eps),
        }
    }
    #[inline(always)]
    fn apply<T: Float>(factors: &AdagradFactors<T>, parameter: T, grad: T, [sum]: &mut [T; 1]) -> T {
        let grad = decayed(grad, parameter, factors.decay);
        *sum = sum.add(grad.mul(grad));
        parameter.sub(factors.lr.mul(grad).div(sum.sqrt().add(factors.eps)))
    }
}
