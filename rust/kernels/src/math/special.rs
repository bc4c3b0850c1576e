//! Special functions, in f64 whatever the type: most have regions, series and loops of their own, so that few
//! are vectorised, and narrower types get a result that is right to their last place.

mod coefficients;
mod incomplete_gamma;
mod sample_grad;

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, PI};

use super::activation::Activation;
use super::double;
use crate::element::Float;
use coefficients as c;

macro_rules! special {
    ($($(#[$doc:meta])* $name:ident($x:ident $(, $argument:ident)*);)*) => {
        /// The functions, for every float.
        pub trait Special: Float {$(
            $(#[$doc])*
            #[inline(always)]
            fn $name(self $(, $argument: Self)*) -> Self {
                Self::from_f64($name(self.to_f64() $(, $argument.to_f64())*))
            }
        )*
            /// The `order`-th derivative of digamma. The first one is reflected in the type itself: at a
            /// pole its sine is the type's rounding of pi, as PyTorch has it.
            fn polygamma(self, order: Self) -> Self {
                if order == Self::ONE && self < Self::from_f64(0.5) {
                    let angle = self.half_turns();
                    let sine = if angle.is_far() { angle.sin_far() } else { angle.sin() };
                    let pole = Self::from_f64(PI * PI).div(sine.mul(sine));
                    return pole.sub(Self::from_f64(trigamma(1.0 - self.to_f64())));
                }
                Self::from_f64(polygamma(self.to_f64(), order.to_f64()))
            }
        }
    };
}
special! {
    /// The logarithm of the gamma function's magnitude.
    lgamma(x);
    digamma(x);
    /// The lower regularised incomplete gamma function of order `self`.
    igamma(a, x);
    /// The upper one.
    igammac(a, x);
    /// Hurwitz' zeta function.
    zeta(x, q);
    /// `exp(x^2) erfc(x)`
    erfcx(x);
    /// The logarithm of the normal distribution function.
    log_ndtr(x);
    /// The normal quantile.
    ndtri(x);
    /// The modified Bessel functions of order zero and one, and both times `exp(-|x|)`.
    i0(x);
    i0e(x);
    i1(x);
    i1e(x);
    /// How a draw `x` of the gamma distribution of shape `self` moves with the shape.
    standard_gamma_grad(alpha, x);
    /// How a share `self` of the Dirichlet distribution moves with its `alpha`, of which there are `total`.
    dirichlet_grad(x, alpha, total);
}
impl<T: Float> Special for T {}

/// Coefficients with the highest degree first.
fn polynomial(x: f64, coefficients: &[f64]) -> f64 {
    coefficients.iter().fold(0.0, |sum, coefficient| sum * x + coefficient)
}

/// A Chebyshev series by Clenshaw's recurrence.
#[inline(always)]
fn chebyshev<const COUNT: usize>(x: f64, coefficients: &[f64; COUNT]) -> f64 {
    let (mut last, mut before, mut first) = (0.0, 0.0, 0.0);
    for coefficient in coefficients {
        (first, before, last) = (before, last, x * last - before + coefficient);
    }
    0.5 * (last - first)
}

fn lgamma(x: f64) -> f64 {
    libm::lgamma(x)
}

fn digamma(x: f64) -> f64 {
    if x == 0.0 {
        return f64::INFINITY.copysign(-x);
    }
    if x < 0.0 {
        // The reflection, with the tangent of the fraction, which is exact. A whole number has none.
        let part = x.fract();
        return if part == 0.0 { f64::NAN } else { digamma(1.0 - x) - PI / (PI * part).tan() };
    }
    let (mut shift, mut x) = (0.0, x);
    while x < 10.0 {
        shift -= 1.0 / x;
        x += 1.0;
    }
    // The asymptotic series: Bernoulli numbers over their index.
    const SERIES: [f64; 8] =
        [1.0 / 12.0, -691.0 / 32760.0, 1.0 / 132.0, -1.0 / 240.0, 1.0 / 252.0, -1.0 / 120.0, 1.0 / 12.0, 0.0];
    let series = polynomial((x * x).recip(), &SERIES);
    shift + x.ln() - 0.5 / x - series
}

/// For arguments of a half and more.
fn trigamma(x: f64) -> f64 {
    let (mut sum, mut x) = (0.0, x);
    for _ in 0..6 {
        sum += 1.0 / (x * x);
        x += 1.0;
    }
    let square = 1.0 / (x * x);
    sum + (1.0 + 0.5 / x + square * (1.0 / 6.0 - square * (1.0 / 30.0 - square / 42.0))) / x
}

fn polygamma(x: f64, order: f64) -> f64 {
    if order == 0.0 {
        return digamma(x);
    }
    if order == 1.0 {
        return trigamma(x);
    }
    let sign = if order % 2.0 == 1.0 { 1.0 } else { -1.0 };
    sign * libm::lgamma(order + 1.0).exp() * zeta(order + 1.0, x)
}

fn zeta(x: f64, q: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    if x < 1.0 {
        return f64::NAN;
    }
    if q <= 0.0 {
        if q == q.floor() {
            return f64::INFINITY;
        }
        if x != x.floor() {
            return f64::NAN;
        }
        // One of the terms is the power of a fraction.
        if x.is_infinite() {
            return f64::INFINITY;
        }
        // The terms below zero are those of another such series, with the sign of an odd power.
        let part = q - q.floor();
        let sign = if x % 2.0 == 0.0 { 1.0 } else { -1.0 };
        // The distance to the whole number above, which is exact where it is small.
        return zeta(x, part) + sign * zeta(x, q.ceil() - q) - sign * zeta(x, 1.0 - q);
    }
    // The first terms, then Euler and Maclaurin's formula for the rest.
    let (mut at, mut term, mut sum) = (q, 0.0, q.powf(-x));
    for _ in 0..9 {
        at += 1.0;
        term = at.powf(-x);
        sum += term;
        if term < f64::EPSILON / 2.0 * sum {
            return sum;
        }
    }
    sum += term * at / (x - 1.0) - 0.5 * term;
    const BERNOULLI: [f64; 12] = [
        12.0,
        -720.0,
        30240.0,
        -1209600.0,
        47900160.0,
        -1.307674368e12 / 691.0,
        7.47242496e10,
        -1.067062284288e16 / 3617.0,
        5.109094217170944e18 / 43867.0,
        -8.028576626982912e20 / 174611.0,
        1.5511210043330986e23 / 854513.0,
        -1.6938241367317437e27 / 236364091.0,
    ];
    let (mut rising, mut step) = (1.0, 0.0);
    for bernoulli in BERNOULLI {
        rising *= x + step;
        term /= at;
        let correction = rising * term / bernoulli;
        sum += correction;
        if correction.abs() < f64::EPSILON / 2.0 * sum.abs() {
            break;
        }
        rising *= x + step + 1.0;
        term /= at;
        step += 2.0;
    }
    sum
}

fn igamma(a: f64, x: f64) -> f64 {
    incomplete_gamma::lower(a, x)
}

fn igammac(a: f64, x: f64) -> f64 {
    incomplete_gamma::upper(a, x)
}

fn standard_gamma_grad(alpha: f64, x: f64) -> f64 {
    sample_grad::standard_gamma(alpha, x)
}

fn dirichlet_grad(x: f64, alpha: f64, total: f64) -> f64 {
    sample_grad::dirichlet(x, alpha, total)
}

fn erfcx(x: f64) -> f64 {
    if x < 0.0 {
        return if x < -26.7 { f64::INFINITY } else { 2.0 * (x * x).exp() - erfcx(-x) };
    }
    if x < 10.0 {
        // The square's rounding error matters once it is exponentiated.
        let square = x * x;
        return square.exp() * (1.0 + x.mul_add(x, -square)) * libm::erfc(x);
    }
    // The asymptotic series of `sqrt(pi) x erfcx(x)`, in `1 / 2x^2`.
    let step = 0.5 / (x * x);
    const SERIES: [f64; 13] = [
        316_234_143_225.0,
        -13_749_310_575.0,
        654_729_075.0,
        -34_459_425.0,
        2_027_025.0,
        -135_135.0,
        10_395.0,
        -945.0,
        105.0,
        -15.0,
        3.0,
        -1.0,
        1.0,
    ];
    let series = polynomial(step, &SERIES);
    0.5 * FRAC_2_SQRT_PI / x * series
}

fn log_ndtr(x: f64) -> f64 {
    let scaled = x * FRAC_1_SQRT_2;
    if x < -1.0 {
        return (erfcx(-scaled) / 2.0).ln() - scaled * scaled;
    }
    (-libm::erfc(scaled) / 2.0).ln_1p()
}

fn ndtri(y: f64) -> f64 {
    if y == 0.0 {
        return f64::NEG_INFINITY;
    }
    if y == 1.0 {
        return f64::INFINITY;
    }
    if !(0.0..=1.0).contains(&y) {
        return f64::NAN;
    }
    let tail = (-2.0f64).exp();
    let upper = y > 1.0 - tail;
    let y = if upper { 1.0 - y } else { y };
    if y > tail {
        let centred = y - 0.5;
        let square = centred * centred;
        let ratio = polynomial(square, &c::QUANTILE_P0) / polynomial(square, &c::QUANTILE_Q0);
        return (centred + centred * square * ratio) / (FRAC_2_SQRT_PI / 2.0 * FRAC_1_SQRT_2);
    }
    let x = (-2.0 * y.ln()).sqrt();
    let inverse = 1.0 / x;
    let ratio = if x < 8.0 {
        polynomial(inverse, &c::QUANTILE_P1) / polynomial(inverse, &c::QUANTILE_Q1)
    } else {
        polynomial(inverse, &c::QUANTILE_P2) / polynomial(inverse, &c::QUANTILE_Q2)
    };
    let quantile = x - x.ln() / x - inverse * ratio;
    if upper { quantile } else { -quantile }
}

// The Bessel functions take both of their series and choose, so that loops over them are vectorised.

#[inline(always)]
fn i0(x: f64) -> f64 {
    double::exp(x.abs()) * i0e(x)
}

#[inline(always)]
fn i0e(x: f64) -> f64 {
    let size = x.abs();
    let near = chebyshev(size / 2.0 - 2.0, &c::I0_NEAR);
    let far = chebyshev(32.0 / size - 2.0, &c::I0_FAR) / size.sqrt();
    if size <= 8.0 { near } else { far }
}

#[inline(always)]
fn i1(x: f64) -> f64 {
    double::exp(x.abs()) * i1e(x)
}

#[inline(always)]
fn i1e(x: f64) -> f64 {
    let size = x.abs();
    let near = chebyshev(size / 2.0 - 2.0, &c::I1_NEAR) * size;
    let far = chebyshev(32.0 / size - 2.0, &c::I1_FAR) / size.sqrt();
    let value = if size <= 8.0 { near } else { far };
    if x < 0.0 { -value } else { value }
}
