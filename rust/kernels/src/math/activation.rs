//! Activations, losses and their derivatives: the formulas that are too long for a row.

use crate::ops::row::SCALARS;
use crate::value::Floating;

/// `sqrt(1/2)`
pub const HALF_ROOT: f64 = std::f64::consts::FRAC_1_SQRT_2;
/// `sqrt(2/pi)`
pub const ROOT_TWO_OVER_PI: f64 = std::f64::consts::FRAC_2_SQRT_PI * HALF_ROOT;
/// The cubic term of the tanh form of GELU.
pub const CUBIC: f64 = 0.044715;

/// See each op's page in PyTorch's documentation for what it means.
pub trait Activation: Floating {
    #[inline(always)]
    fn constant(value: f64) -> Self {
        Self::from_f64(value)
    }

    /// From the nearer end, so that both ends come out exact.
    #[inline(always)]
    fn lerp(self, end: Self, weight: Self) -> Self {
        let span = end.sub(self);
        let from_start = self.add(weight.mul(span));
        let from_end = end.sub(span.mul(Self::ONE.sub(weight)));
        Self::select(weight.abs().lt(Self::constant(0.5)), from_start, from_end)
    }

    #[inline(always)]
    fn log_add_exp(self, other: Self) -> Self {
        let sum = self.max(other).add(self.sub(other).abs().neg().exp().ln_1p());
        Self::select(self.is_infinite() & self.eq(other), self, sum)
    }

    #[inline(always)]
    fn log_add_exp2(self, other: Self) -> Self {
        let rest = self.sub(other).abs().neg().exp2().ln_1p();
        let sum = self.max(other).add(rest.mul(Self::constant(std::f64::consts::LOG2_E)));
        Self::select(self.is_infinite() & self.eq(other), self, sum)
    }

    #[inline(always)]
    fn half_turns(self) -> Self {
        self.mul(Self::constant(std::f64::consts::PI))
    }

    #[inline(always)]
    fn sinc(self) -> Self {
        let angle = self.half_turns();
        Self::select(self.eq(Self::ZERO), Self::ONE, angle.sin().div(angle))
    }

    #[inline(always)]
    fn angle(self) -> Self {
        let angle = Self::select(self.lt(Self::ZERO), Self::constant(std::f64::consts::PI), Self::ZERO);
        Self::select(self.is_nan(), self, angle)
    }

    #[inline(always)]
    fn round_decimals(self, decimals: Self) -> Self {
        let scale = Self::constant(10.0).pow(decimals.abs());
        let before = self.div(scale).round_even().mul(scale);
        let after = self.mul(scale).round_even().div(scale);
        Self::select(decimals.lt(Self::ZERO), before, after)
    }

    #[inline(always)]
    fn entr(self) -> Self {
        let inside = Self::select(self.lt(Self::ZERO), Self::LOWEST, Self::ZERO);
        let inside = Self::select(self.gt(Self::ZERO), self.mul(self.ln()).neg(), inside);
        Self::select(self.is_nan(), self, inside)
    }

    #[inline(always)]
    fn logit(self, eps: Self) -> Self {
        // The bounds cross where eps is above a half: the lower one is asked first, as PyTorch asks.
        let high = Self::ONE.sub(eps);
        let below_high = Self::select(self.gt(high), high, self);
        let clamped = Self::select(self.lt(eps), eps, below_high);
        let inside = Self::select(eps.lt(Self::ZERO), self, clamped);
        inside.div(Self::ONE.sub(inside)).ln()
    }

    #[inline(always)]
    fn logit_backward(self, grad: Self, eps: Self) -> Self {
        let none = eps.lt(Self::ZERO);
        let (low, outside) = (Self::select(none, Self::ZERO, eps), Self::select(none, Self::NAN, Self::ZERO));
        let inside = grad.div(self.mul(Self::ONE.sub(self)));
        Self::select(self.lt(low) | self.gt(Self::ONE.sub(low)), outside, inside)
    }

    #[inline(always)]
    fn nan_to_num(self, nan: Self, positive: Self, negative: Self) -> Self {
        let bounded = Self::select(self.eq(Self::HIGHEST), positive, self);
        let bounded = Self::select(self.eq(Self::LOWEST), negative, bounded);
        Self::select(self.is_nan(), nan, bounded)
    }

    #[inline(always)]
    fn relu6_of_plus_three(self) -> Self {
        self.add(Self::constant(3.0)).max(Self::ZERO).min(Self::constant(6.0))
    }

    #[inline(always)]
    fn hardswish_backward(self, grad: Self) -> Self {
        let slope = self.div(Self::constant(3.0)).add(Self::constant(0.5));
        let inside = Self::select(self.lt(Self::constant(3.0)), grad.mul(slope), grad);
        Self::select(self.le(Self::constant(-3.0)), Self::ZERO, inside)
    }

    #[inline(always)]
    fn elu(self, alpha: Self, scale: Self, input_scale: Self) -> Self {
        let negative = self.mul(input_scale).exp_m1().mul(alpha.mul(scale));
        Self::select(self.lt(Self::ZERO), negative, self.mul(scale))
    }

    /// `scalars`: alpha, scale, input_scale, and whether `self` is elu's result.
    #[inline(always)]
    fn elu_backward(self, grad: Self, scalars: [Self; SCALARS]) -> Self {
        let [alpha, scale, input_scale, is_result] = scalars;
        let negative = alpha.mul(scale);
        let of_result = self.add(negative);
        let of_input = negative.mul(self.mul(input_scale).exp());
        let slope = input_scale.mul(Self::select(is_result.is_true(), of_result, of_input));
        grad.mul(Self::select(self.le(Self::ZERO), slope, scale))
    }

    #[inline(always)]
    fn silu_backward(self, grad: Self) -> Self {
        let sigmoid = self.sigmoid();
        grad.mul(sigmoid).mul(Self::ONE.add(self.mul(Self::ONE.sub(sigmoid))))
    }

    /// The distribution function of the standard normal.
    #[inline(always)]
    fn normal_cdf(self) -> Self {
        Self::constant(0.5).mul(Self::ONE.add(self.mul(Self::constant(HALF_ROOT)).erf()))
    }

    #[inline(always)]
    fn gelu_backward_none(self, grad: Self) -> Self {
        let exponential = self.mul(self).mul(Self::constant(-0.5)).exp();
        let density = exponential.mul(Self::constant(0.5 * ROOT_TWO_OVER_PI));
        grad.mul(self.normal_cdf().add(self.mul(density)))
    }

    #[inline(always)]
    fn gelu_inner(self) -> Self {
        let cube = self.mul(self).mul(self);
        Self::constant(ROOT_TWO_OVER_PI).mul(self.add(Self::constant(CUBIC).mul(cube)))
    }

    #[inline(always)]
    fn gelu_tanh(self) -> Self {
        Self::constant(0.5).mul(self).mul(Self::ONE.add(self.gelu_inner().tanh()))
    }

    #[inline(always)]
    fn gelu_backward_tanh(self, grad: Self) -> Self {
        let tanh = self.gelu_inner().tanh();
        let half = Self::constant(0.5);
        let inner_slope = Self::ONE.add(Self::constant(3.0 * CUBIC).mul(self.mul(self)));
        let inner_slope = Self::constant(ROOT_TWO_OVER_PI).mul(inner_slope);
        let right = half.mul(self).mul(Self::ONE.sub(tanh.mul(tanh))).mul(inner_slope);
        grad.mul(half.mul(Self::ONE.add(tanh)).add(right))
    }

    /// `tanh(ln(1 + exp(x)))` by one exponential: `e (e + 2) / (e (e + 2) + 2)`.
    #[inline(always)]
    fn tanh_softplus(self) -> Self {
        let exponential = self.exp();
        let product = exponential.mul_add(exponential, exponential.add(exponential));
        let tanh = product.div(product.add(Self::constant(2.0)));
        Self::select(self.gt(Self::constant(20.0)), Self::ONE, tanh)
    }

    #[inline(always)]
    fn mish_backward(self, grad: Self) -> Self {
        let tanh = self.tanh_softplus();
        let slope = self.sigmoid().mul(Self::ONE.sub(tanh.mul(tanh)));
        grad.mul(tanh.add(self.mul(slope)))
    }

    #[inline(always)]
    fn softplus(self, beta: Self, threshold: Self) -> Self {
        let scaled = self.mul(beta);
        let soft = scaled.exp().ln_1p().div(beta);
        Self::select(scaled.gt(threshold), self, soft)
    }

    #[inline(always)]
    fn softplus_backward(self, grad: Self, beta: Self, threshold: Self) -> Self {
        let scaled = self.mul(beta);
        Self::select(scaled.gt(threshold), grad, grad.mul(scaled.sigmoid()))
    }

    #[inline(always)]
    fn softshrink(self, lambda: Self) -> Self {
        // A zero with the number's sign, and no number of none.
        let inside = self.mul(Self::ZERO);
        let inside = Self::select(self.lt(lambda.neg()), self.add(lambda), inside);
        Self::select(self.gt(lambda), self.sub(lambda), inside)
    }

    /// Of a difference's magnitude.
    #[inline(always)]
    fn smooth_l1(self, beta: Self) -> Self {
        let half = Self::constant(0.5);
        let inside = half.mul(self).mul(self).div(beta);
        Self::select(self.lt(beta), inside, self.sub(half.mul(beta)))
    }

    /// Of a difference.
    #[inline(always)]
    fn smooth_l1_backward(self, grad: Self, beta: Self) -> Self {
        let inside = Self::select(self.ge(beta), grad, grad.mul(self).div(beta));
        Self::select(self.le(beta.neg()), grad.neg(), inside)
    }

    /// Of a difference's magnitude.
    #[inline(always)]
    fn huber(self, delta: Self) -> Self {
        let half = Self::constant(0.5);
        let outside = delta.mul(self.sub(half.mul(delta)));
        Self::select(self.le(delta), half.mul(self).mul(self), outside)
    }

    /// Logarithms are bounded, so that a target of zero or one gives a finite loss.
    #[inline(always)]
    fn binary_cross_entropy(self, target: Self) -> Self {
        let bound = Self::constant(-100.0);
        let of_one = self.ln().max(bound);
        let of_zero = self.neg().ln_1p().max(bound);
        target.sub(Self::ONE).mul(of_zero).sub(target.mul(of_one))
    }

    #[inline(always)]
    fn binary_cross_entropy_backward(self, target: Self, grad: Self) -> Self {
        let variance = Self::ONE.sub(self).mul(self).max(Self::constant(1e-12));
        grad.mul(self.sub(target)).div(variance)
    }
}

impl<T: Floating> Activation for T {}
