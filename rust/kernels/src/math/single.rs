//! Elementary functions of `f32`, branch-free: a loop over them is vectorised at every level.
//!
//! The hottest ones stay in f32 (within one unit in the last place) and are written over values, so that machine
//! code is made of the same lines; the others go through f64,
//! where a short polynomial leaves an error of little more than the final rounding. Polynomials are
//! minimax fits of the function named beside them.

mod wide;

use crate::value::{Bits, Floating, Word};
pub use wide::{
    FAR, acos, acosh, asin, asinh, atan, atan2, atanh, cos, cosh, erfc, erfinv, exp_m1, exp2, hypot, ln_1p, log2,
    log10, pow, sin, sinh, tan,
};

/// Bits of the mantissa, and what is added to an exponent.
const MANTISSA: u32 = 23;
const BIAS: i32 = 127;
/// Adding it rounds to a whole number, which is then in the low bits, with the bias of two exponents.
const ROUND: f32 = 12_582_912.0 + 254.0;
/// Of few bits: its product with an exponent is exact.
const LN_2_HIGH: f32 = 0.693_145_75;
const LN_2_LOW: f32 = 1.428_606_8e-6;
/// The nearest to `ln(2)`, and what it lacks.
const LN_2: f32 = std::f32::consts::LN_2;
const LN_2_REST: f32 = -1.904_654_3e-9;
/// Beyond these, `exp` is infinite or zero.
const EXP_BOUNDS: [f32; 2] = [-104.5, 89.0];
/// The logarithm of the smallest normal number, rounded up.
const LEAST_NORMAL: f32 = -87.336_54;
/// `(exp(r) - 1 - r) / r^2`
const EXP_TAIL: [f32; 5] = [0.499_999_94, 0.166_665_2, 0.041_668_393, 0.008_368_781, 0.001_381_446_6];
/// The bits of the square root of one half: `ln` takes mantissas between it and its double.
const LN_SPLIT: u32 = 0x3f35_04f3;
/// `2^25`: makes a subnormal normal.
const LN_LIFT: f32 = 33_554_432.0;
const LN_LIFTED: u32 = 25;
/// `(ln(1 + r) - r + r^2 / 2) / r^3`
const LN_TAIL: [f32; 9] = [
    0.333_333_1,
    -0.249_999_87,
    0.200_022_27,
    -0.166_692_53,
    0.142_186_64,
    -0.123_843_35,
    0.118_729_256,
    -0.117_898_64,
    0.069_155_395,
];
/// Up to the first, `tanh` is a polynomial; past the second it is one.
const TANH_BOUNDS: [f32; 2] = [0.6, 10.0];
/// `(tanh(r) / r - 1) / r^2`, over `r^2`
const TANH_TAIL: [f32; 5] = [-0.333_333_3, 0.133_329_15, -0.053_873_95, 0.021_110_96, -0.006_269_119_7];
/// Up to the first, `erf` is a polynomial; past the second it is one.
const ERF_BOUNDS: [f32; 2] = [0.925, 4.0];
/// `erf(r) / r - 1`, over `r^2`
const ERF_NEAR: [f32; 6] =
    [0.128_379_15, -0.376_124_95, 0.112_818_025, -0.026_765_568, 0.004_990_981, -0.000_597_689_6];
/// `ln(erfc(r)) / r + 1`
const ERF_FAR: [f32; 7] =
    [-0.128_648_5, -0.635_151_3, -0.106_236_875, 0.023_762_064, -0.003_642_459_2, 0.000_322_803_9, -1.123_131e-5];

/// `coefficients[0] + coefficients[1] x + ..`
#[inline(always)]
fn polynomial<V: Bits, const COUNT: usize>(x: V, coefficients: [f32; COUNT]) -> V {
    let mut sum = V::single(coefficients[COUNT - 1]);
    for &coefficient in coefficients[..COUNT - 1].iter().rev() {
        sum = sum.mul_add(x, V::single(coefficient));
    }
    sum
}

/// `exp(x) = value * 2^whole`, for `|x|` below some thousands.
struct Parts<V: Bits> {
    value: V,
    whole: V,
    /// The exponent and twice its bias, in the low bits.
    word: V::Word,
}

impl<V: Bits> Parts<V> {
    #[inline(always)]
    fn of(x: V) -> Self {
        let shifted = x.mul_add(V::single(std::f32::consts::LOG2_E), V::single(ROUND));
        let whole = shifted.sub(V::single(ROUND));
        // Exact: a multiple of the smaller operand's last place, and below one half.
        let high = whole.mul_add(V::single(-LN_2), x);
        let low = whole.mul(V::single(-LN_2_REST));
        let rest = high.add(low);
        let tail = polynomial(rest, EXP_TAIL);
        // What the sum of the largest two loses goes with what is small, which is added to it once.
        let one = V::ONE.add(high);
        let lost = V::ONE.sub(one).add(high).add(low);
        let value = one.add(rest.mul(rest).mul_add(tail, lost));
        Parts { value, whole, word: shifted.to_bits() }
    }

    /// `2^(whole + more)`, of a normal result.
    #[inline(always)]
    fn power(&self, more: i32) -> V {
        let bias = V::Word::literal(((more - BIAS) as u32) << MANTISSA);
        V::from_bits(self.word.shifted_left::<MANTISSA>().plus(bias))
    }
}

#[inline(always)]
pub fn exp<V: Bits>(x: V) -> V {
    let [low, high] = EXP_BOUNDS.map(V::single);
    // NaN passes.
    let x = V::select(x.gt(high), high, x);
    let x = V::select(x.lt(low), low, x);
    let Parts { value, whole, word } = Parts::of(x);
    value.scaled(whole, word)
}

/// `exp(x)` for `x <= 0`, or NaN; zero where that is subnormal, with which processors compute a hundred times slower.
#[inline(always)]
pub fn exp_of_negative<V: Bits>(x: V) -> V {
    let low = V::single(LEAST_NORMAL);
    let is_less = x.lt(low);
    let parts = Parts::of(V::select(is_less, low, x));
    V::select(is_less, V::ZERO, parts.value.mul(parts.power(0)))
}

#[inline(always)]
pub fn ln<V: Bits>(x: V) -> V {
    let subnormal = x.lt(V::single(f32::MIN_POSITIVE));
    let bits = V::select(subnormal, x.mul(V::single(LN_LIFT)), x).to_bits();
    let exponent = bits.minus(V::Word::literal(LN_SPLIT)).shifted_right::<MANTISSA>();
    let rest = V::from_bits(bits.minus(exponent.shifted_left::<MANTISSA>())).sub(V::ONE);
    let lifted = V::Word::select(subnormal, V::Word::literal(LN_LIFTED), V::Word::literal(0));
    let exponent = V::whole(exponent.minus(lifted));
    let square = rest.mul(rest);
    let tail = polynomial(rest, LN_TAIL);
    let low = exponent.mul_add(V::single(LN_2_LOW), rest.mul(square).mul(tail));
    let sum = rest.add(square.mul_add(V::single(-0.5), low));
    logarithm_limits(x, exponent.mul_add(V::single(LN_2_HIGH), sum))
}

/// A logarithm's values at zero, infinity, and where it has none.
#[inline(always)]
fn logarithm_limits<V: Floating>(x: V, value: V) -> V {
    let value = V::select(x.eq(V::HIGHEST), x, value);
    let value = V::select(x.eq(V::ZERO), V::LOWEST, value);
    V::select(x.ge(V::ZERO), value, V::NAN)
}

#[inline(always)]
pub fn tanh<V: Bits>(x: V) -> V {
    let [split, bound] = TANH_BOUNDS.map(V::single);
    let magnitude = x.abs();
    let square = x.mul(x);
    let tail = polynomial(square, TANH_TAIL);
    let small = x.mul_add(square.mul(tail), x);
    let bounded = V::select(magnitude.gt(bound), bound, magnitude);
    let parts = Parts::of(bounded.add(bounded));
    let power = parts.power(0);
    // One less `2 / (1 + exp(2 x))`, with what the divisor, the quotient and the difference lose.
    let two = V::single(2.0);
    let divisor = parts.value.mul_add(power, V::ONE);
    let rest = parts.value.mul_add(power, V::ONE.sub(divisor));
    let quotient = two.div(divisor);
    let minus = quotient.neg();
    let lost = minus.mul_add(rest, minus.mul_add(divisor, two));
    let difference = V::ONE.sub(quotient);
    let rounding = V::ONE.sub(difference).sub(quotient);
    let large = difference.add(lost.mul_add(V::single(-0.5).mul(quotient), rounding));
    // The sign of zero too.
    V::select(magnitude.lt(split), small, large).copysign(x)
}

#[inline(always)]
pub fn erf<V: Bits>(x: V) -> V {
    let [split, bound] = ERF_BOUNDS.map(V::single);
    let magnitude = x.abs();
    let tail = polynomial(x.mul(x), ERF_NEAR);
    let small = x.mul_add(tail, x);
    let bounded = V::select(magnitude.gt(bound), bound, magnitude);
    let tail = polynomial(bounded, ERF_FAR);
    let parts = Parts::of(bounded.mul_add(tail, bounded.neg()));
    let large = parts.value.mul_add(parts.power(0).neg(), V::ONE);
    V::select(magnitude.lt(split), small, large).copysign(x)
}
