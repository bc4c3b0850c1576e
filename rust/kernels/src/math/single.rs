//! Elementary functions of `f32`, branch-free: a loop over them is vectorised at every level.
//!
//! The hottest ones stay in f32 (within one unit in the last place); the others go through f64,
//! where a short polynomial leaves an error of little more than the final rounding. Polynomials are
//! minimax fits of the function named beside them.

mod wide;

pub use wide::{FAR, atan, atanh, cos, exp_m1, exp2, ln_1p, log2, log10, pow, sin, tan};

/// Adding it rounds to a whole number, which is then in the low bits.
pub const ROUND: f32 = 12_582_912.0;
pub const LN_2_HIGH: f32 = 0.693_145_75;
pub const LN_2_LOW: f32 = 1.428_606_8e-6;
/// Beyond these, `exp` is infinite or zero.
pub const EXP_BOUNDS: [f32; 2] = [-104.5, 89.0];
/// `(exp(r) - 1 - r) / r^2`
pub const EXP_TAIL: [f32; 5] = [0.499_999_94, 0.166_665_2, 0.041_668_393, 0.008_368_781, 0.001_381_446_6];
/// The bits of the square root of one half: `ln` takes mantissas between it and its double.
pub const LN_SPLIT: i32 = 0x3f35_04f3;
/// `2^25`: makes a subnormal normal.
pub const LN_LIFT: f32 = 33_554_432.0;
/// `(ln(1 + r) - r + r^2 / 2) / r^3`
pub const LN_TAIL: [f32; 9] = [
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
pub const TANH_BOUNDS: [f32; 2] = [0.93, 10.0];
/// `(tanh(r) / r - 1) / r^2`, over `r^2`
pub const TANH_TAIL: [f32; 8] = [
    -0.333_333_28,
    0.133_332_1,
    -0.053_953_93,
    0.021_788_118,
    -0.008_602_502,
    0.003_087_453,
    -0.000_846_645_4,
    0.000_122_858_33,
];
/// Up to the first, `erf` is a polynomial; past the second it is one.
pub const ERF_BOUNDS: [f32; 2] = [0.925, 4.0];
/// `erf(r) / r - 1`, over `r^2`
pub const ERF_NEAR: [f32; 6] =
    [0.128_379_15, -0.376_124_95, 0.112_818_025, -0.026_765_568, 0.004_990_981, -0.000_597_689_6];
/// `ln(erfc(r)) / r + 1`
pub const ERF_FAR: [f32; 7] =
    [-0.128_648_5, -0.635_151_3, -0.106_236_875, 0.023_762_064, -0.003_642_459_2, 0.000_322_803_9, -1.123_131e-5];

/// `coefficients[0] + coefficients[1] x + ..`
#[inline(always)]
fn polynomial<const COUNT: usize>(x: f32, coefficients: [f32; COUNT]) -> f32 {
    let mut sum = coefficients[COUNT - 1];
    for &coefficient in coefficients[..COUNT - 1].iter().rev() {
        sum = sum.mul_add(x, coefficient);
    }
    sum
}

/// `2^exponent` for normal results.
#[inline(always)]
fn power_of_two(exponent: i32) -> f32 {
    f32::from_bits((exponent.wrapping_add(127) as u32) << 23)
}

/// `exp(x) = value * 2^exponent`, for `|x|` below some thousands.
#[inline(always)]
fn exp_parts(x: f32) -> (f32, i32) {
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let whole = shifted - ROUND;
    // The high part is exact; what is small is added to it once, so that little is lost before the last rounding.
    let high = whole.mul_add(-LN_2_HIGH, x);
    let low = whole * -LN_2_LOW;
    let rest = high + low;
    let tail = polynomial(rest, EXP_TAIL);
    let value = (rest * rest).mul_add(tail, low) + high + 1.0;
    (value, (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32))
}

#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let [low, high] = EXP_BOUNDS;
    // NaN passes.
    let x = if x > high { high } else { x };
    let x = if x < low { low } else { x };
    let (value, exponent) = exp_parts(x);
    // In two steps: into infinity, and into the subnormals with one rounding.
    let half = exponent >> 1;
    value * power_of_two(half) * power_of_two(exponent.wrapping_sub(half))
}

/// `exp(x)` for `x <= 0`, or NaN.
#[inline(always)]
pub fn exp_of_negative(x: f32) -> f32 {
    // So many powers of two more, and every result is normal.
    const LIFT: i32 = 64;
    let [low, _] = EXP_BOUNDS;
    let x = if x < low { low } else { x };
    let (value, exponent) = exp_parts(x);
    // Into the subnormals with one rounding, as `exp`; the lifted power is exact.
    value * power_of_two(exponent.wrapping_add(LIFT)) * power_of_two(-LIFT)
}

#[inline(always)]
pub fn ln(x: f32) -> f32 {
    let subnormal = x < f32::MIN_POSITIVE;
    let scaled = if subnormal { x * LN_LIFT } else { x };
    let bits = scaled.to_bits() as i32;
    let exponent = bits.wrapping_sub(LN_SPLIT) >> 23;
    let rest = f32::from_bits(bits.wrapping_sub(exponent << 23) as u32) - 1.0;
    let exponent = (exponent - if subnormal { 25 } else { 0 }) as f32;
    let square = rest * rest;
    let tail = polynomial(rest, LN_TAIL);
    let low = exponent.mul_add(LN_2_LOW, rest * square * tail);
    let sum = rest + square.mul_add(-0.5, low);
    logarithm_limits(x, exponent.mul_add(LN_2_HIGH, sum))
}

/// A logarithm's values at zero, infinity, and where it has none.
#[inline(always)]
fn logarithm_limits(x: f32, value: f32) -> f32 {
    let value = if x == f32::INFINITY { x } else { value };
    let value = if x == 0.0 { f32::NEG_INFINITY } else { value };
    if x >= 0.0 { value } else { f32::NAN }
}

#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let [split, bound] = TANH_BOUNDS;
    let magnitude = x.abs();
    let square = x * x;
    let tail = polynomial(square, TANH_TAIL);
    let small = x.mul_add(square * tail, x);
    let bounded = if magnitude > bound { bound } else { magnitude };
    let (value, exponent) = exp_parts(bounded + bounded);
    let large = 1.0 - 2.0 / value.mul_add(power_of_two(exponent), 1.0);
    // The sign of zero too.
    (if magnitude < split { small } else { large }).copysign(x)
}

#[inline(always)]
pub fn erf(x: f32) -> f32 {
    let [split, bound] = ERF_BOUNDS;
    let magnitude = x.abs();
    let tail = polynomial(x * x, ERF_NEAR);
    let small = x.mul_add(tail, x);
    let bounded = if magnitude > bound { bound } else { magnitude };
    let tail = polynomial(bounded, ERF_FAR);
    let (value, exponent) = exp_parts(bounded.mul_add(tail, -bounded));
    let large = value.mul_add(-power_of_two(exponent), 1.0);
    (if magnitude < split { small } else { large }).copysign(x)
}

#[inline(always)]
pub fn asin(x: f32) -> f32 {
    x.asin()
}

#[inline(always)]
pub fn acos(x: f32) -> f32 {
    x.acos()
}

#[inline(always)]
pub fn sinh(x: f32) -> f32 {
    x.sinh()
}

#[inline(always)]
pub fn cosh(x: f32) -> f32 {
    x.cosh()
}

#[inline(always)]
pub fn asinh(x: f32) -> f32 {
    libm::asinhf(x)
}

#[inline(always)]
pub fn acosh(x: f32) -> f32 {
    // libm's has values below one as well.
    if x < 1.0 { f32::NAN } else { libm::acoshf(x) }
}

#[inline(always)]
pub fn erfc(x: f32) -> f32 {
    // In f64, of which few digits are lost.
    libm::erfc(f64::from(x)) as f32
}

#[inline(always)]
pub fn atan2(y: f32, x: f32) -> f32 {
    y.atan2(x)
}

#[inline(always)]
pub fn hypot(x: f32, y: f32) -> f32 {
    x.hypot(y)
}
