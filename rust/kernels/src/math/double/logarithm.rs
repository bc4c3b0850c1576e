//! The logarithm and what is made of it.

use super::{BIAS, LN_2, LN_2_REST, MANTISSA, polynomial};

/// Mantissas are taken between the square root of one half, whose bits these are, and its double.
const SPLIT: u64 = 0x3fe6_a09e_667f_3bcd;
/// `2^54`: makes a subnormal normal.
const LIFT: f64 = 18_014_398_509_481_984.0;
const LIFTED: f64 = 54.0;
/// `2^52`: its low bits are a whole number's.
const WHOLE: u64 = 0x4330_0000_0000_0000;
/// `(ln((1 + s) / (1 - s)) / s - 2) / s^2`, over `s^2`
const TAIL: [f64; 8] = [
    0.666_666_666_666_666_6,
    0.400_000_000_000_008_8,
    0.285_714_285_708_019_54,
    0.222_222_223_920_890_08,
    0.181_817_956_000_607_93,
    0.153_862_418_819_385_95,
    0.132_687_147_923_480_96,
    0.130_872_361_966_596_2,
];
/// The nearest to `ln(2)` of few bits, so that its product with an exponent is exact, and what it lacks.
const LN_2_HIGH: f64 = 0.693_147_180_369_123_8;
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// `ln(x) = exponent * ln(2) + high + low`.
struct Parts {
    exponent: f64,
    high: f64,
    low: f64,
}

impl Parts {
    /// Of a positive `x + lacks`.
    #[inline(always)]
    fn of(x: f64, lacks: f64) -> Self {
        let is_subnormal = x < f64::MIN_POSITIVE;
        let bits = if is_subnormal { x * LIFT } else { x }.to_bits();
        let biased = bits.wrapping_sub(SPLIT).wrapping_add(BIAS << MANTISSA) >> MANTISSA;
        let exponent = f64::from_bits(WHOLE | biased) - f64::from_bits(WHOLE | BIAS);
        let exponent = if is_subnormal { exponent - LIFTED } else { exponent };
        let rest = f64::from_bits(bits.wrapping_sub(biased.wrapping_sub(BIAS) << MANTISSA)) - 1.0;
        // Of numbers so large that the power is none, nothing is lacking.
        let down = f64::from_bits((2 * BIAS).wrapping_sub(biased) << MANTISSA);
        let rest_lacks = lacks * if biased < 2 * BIAS { down } else { 0.0 };
        let ratio = rest / (2.0 + rest);
        let square = ratio * ratio;
        let half_square = 0.5 * rest * rest;
        let small = ratio * square.mul_add(polynomial(square, TAIL), half_square);
        let high = rest - half_square;
        // What the difference and the square lose.
        let lost = rest - high - half_square - 0.5 * rest.mul_add(rest, -(rest * rest));
        // A rest that lacks something has a logarithm that lacks it over one and the rest.
        Self { exponent, high, low: small + lost + rest_lacks * (1.0 - rest) }
    }

    #[inline(always)]
    fn natural(&self) -> f64 {
        self.exponent.mul_add(LN_2_HIGH, self.high + self.exponent.mul_add(LN_2_LOW, self.low))
    }

    /// In another base, whose `ln(base)` has this reciprocal, and of which two has the logarithm `[nearest, lacks]`.
    #[inline(always)]
    fn in_base(&self, [factor, factor_rest]: [f64; 2], [two, two_rest]: [f64; 2]) -> f64 {
        let product = self.high * factor;
        let low = self.high.mul_add(factor, -product) + self.high.mul_add(factor_rest, self.low * factor);
        let whole = self.exponent * two;
        let whole_low = self.exponent.mul_add(two, -whole) + self.exponent * two_rest;
        let sum = whole + product;
        // The exponent's part is the larger, or zero.
        sum + (whole - sum + product + low + whole_low)
    }
}

/// A logarithm's values at zero, infinity, and where it has none.
#[inline(always)]
fn limits(x: f64, value: f64) -> f64 {
    let value = if x == f64::INFINITY { x } else { value };
    let value = if x == 0.0 { f64::NEG_INFINITY } else { value };
    if x >= 0.0 { value } else { f64::NAN }
}

#[inline(always)]
pub fn ln(x: f64) -> f64 {
    limits(x, Parts::of(x, 0.0).natural())
}

#[inline(always)]
pub fn log2(x: f64) -> f64 {
    const FACTOR: [f64; 2] = [std::f64::consts::LOG2_E, 2.035_527_374_093_103_3e-17];
    limits(x, Parts::of(x, 0.0).in_base(FACTOR, [1.0, 0.0]))
}

#[inline(always)]
pub fn log10(x: f64) -> f64 {
    const FACTOR: [f64; 2] = [std::f64::consts::LOG10_E, 1.098_319_650_216_765e-17];
    const TWO: [f64; 2] = [std::f64::consts::LOG10_2, -2.803_728_127_785_170_4e-18];
    limits(x, Parts::of(x, 0.0).in_base(FACTOR, TWO))
}

/// Without what a sum of one lacks: of a finite `x > -1`.
#[inline(always)]
fn ln_1p_finite(x: f64) -> f64 {
    let sum = 1.0 + x;
    let lacks = if x < 1.0 { x - (sum - 1.0) } else { 1.0 - (sum - x) };
    Parts::of(sum, lacks).natural()
}

#[inline(always)]
pub fn ln_1p(x: f64) -> f64 {
    let value = limits(1.0 + x, ln_1p_finite(x));
    // So small, it is the number itself, and zero has its sign.
    if x.abs() < 1e-17 { x } else { value }
}

/// Of magnitudes past which one more is nothing, `ln(2 x)`; of others `ln(1 + below)`.
#[inline(always)]
fn ln_double_or(x: f64, below: f64) -> f64 {
    let is_large = x > LARGE;
    let value = ln_1p_finite(if is_large { x } else { below });
    if is_large { value + (LN_2 + LN_2_REST) } else { value }
}

const LARGE: f64 = 1e18;

#[inline(always)]
pub fn asinh(x: f64) -> f64 {
    let magnitude = x.abs();
    let square = magnitude * magnitude;
    let value = ln_double_or(magnitude, magnitude + square / (1.0 + (square + 1.0).sqrt()));
    let value = if magnitude < 1e-9 { magnitude } else { value };
    let value = if magnitude == f64::INFINITY { magnitude } else { value };
    value.copysign(x)
}

#[inline(always)]
pub fn acosh(x: f64) -> f64 {
    let more = x - 1.0;
    let value = ln_double_or(x, more + (more * (more + 2.0)).sqrt());
    let value = if more == 0.0 { 0.0 } else { value };
    let value = if x == f64::INFINITY { x } else { value };
    if x >= 1.0 { value } else { f64::NAN }
}

#[inline(always)]
pub fn atanh(x: f64) -> f64 {
    let magnitude = x.abs();
    // The quotient's own error counts for little where it is large.
    let value = 0.5 * ln_1p_finite(2.0 * magnitude / (1.0 - magnitude));
    let value = if magnitude < 1e-9 { magnitude } else { value };
    let value = if magnitude == 1.0 { f64::INFINITY } else { value };
    let value = if magnitude <= 1.0 { value } else { f64::NAN };
    value.copysign(x)
}
