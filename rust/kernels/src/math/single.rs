//! Elementary functions of `f32`, branch-free: a loop over them is vectorised at every level.
//!
//! The hottest ones stay in f32 (within one unit in the last place); the others go through f64,
//! where a short polynomial leaves an error of little more than the final rounding. Polynomials are
//! minimax fits of the function named beside them.

mod wide;

pub use wide::{FAR, atan, atanh, cos, exp_m1, exp2, ln_1p, log2, log10, pow, sin, tan};

/// Adding it rounds to a whole number, which is then in the low bits, with the bias of two exponents.
pub const ROUND: f32 = 12_582_912.0 + 254.0;
/// Of few bits: its product with an exponent is exact.
pub const LN_2_HIGH: f32 = 0.693_145_75;
pub const LN_2_LOW: f32 = 1.428_606_8e-6;
/// The nearest to `ln(2)`, and what it lacks.
pub const LN_2: f32 = std::f32::consts::LN_2;
pub const LN_2_REST: f32 = -1.904_654_3e-9;
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
pub const TANH_BOUNDS: [f32; 2] = [0.6, 10.0];
/// `(tanh(r) / r - 1) / r^2`, over `r^2`
pub const TANH_TAIL: [f32; 5] = [-0.333_333_3, 0.133_329_15, -0.053_873_95, 0.021_110_96, -0.006_269_119_7];
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

/// `exp(x) = value * 2^exponent`, for `|x|` below some thousands.
struct Parts {
    value: f32,
    /// The exponent and twice its bias, in the low bits.
    bits: u32,
}

impl Parts {
    #[inline(always)]
    fn of(x: f32) -> Parts {
        let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
        let whole = shifted - ROUND;
        // Exact: a multiple of the smaller operand's last place, and below one half.
        let high = whole.mul_add(-LN_2, x);
        let low = whole * -LN_2_REST;
        let rest = high + low;
        let tail = polynomial(rest, EXP_TAIL);
        // What the sum of the largest two loses goes with what is small, which is added to it once.
        let one = 1.0 + high;
        let lost = (1.0 - one) + high + low;
        Parts { value: one + (rest * rest).mul_add(tail, lost), bits: shifted.to_bits() }
    }

    /// `2^(exponent + more)`, of a normal result.
    #[inline(always)]
    fn power(&self, more: i32) -> f32 {
        f32::from_bits((self.bits << 23).wrapping_add_signed((more - 127) << 23))
    }
}

#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let [low, high] = EXP_BOUNDS;
    // NaN passes.
    let x = if x > high { high } else { x };
    let x = if x < low { low } else { x };
    let Parts { value, bits } = Parts::of(x);
    // In two steps, each with its bias: into infinity, and into the subnormals with one rounding.
    let half = bits >> 1;
    value * f32::from_bits(half << 23) * f32::from_bits(bits.wrapping_sub(half) << 23)
}

/// `exp(x)` for `x <= 0`, or NaN.
#[inline(always)]
pub fn exp_of_negative(x: f32) -> f32 {
    // So many powers of two more, and every result is normal.
    const LIFT: i32 = 64;
    let [low, _] = EXP_BOUNDS;
    let x = if x < low { low } else { x };
    let parts = Parts::of(x);
    // Into the subnormals with one rounding, as `exp`; the lifted power is exact.
    parts.value * parts.power(LIFT) * f32::from_bits(((127 - LIFT) as u32) << 23)
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
    let parts = Parts::of(bounded + bounded);
    let power = parts.power(0);
    // One less `2 / (1 + exp(2 x))`, with what the divisor, the quotient and the difference lose.
    let divisor = parts.value.mul_add(power, 1.0);
    let rest = parts.value.mul_add(power, 1.0 - divisor);
    let quotient = 2.0 / divisor;
    let lost = (-quotient).mul_add(rest, (-quotient).mul_add(divisor, 2.0));
    let difference = 1.0 - quotient;
    let large = difference + lost.mul_add(-0.5 * quotient, (1.0 - difference) - quotient);
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
    let parts = Parts::of(bounded.mul_add(tail, -bounded));
    let large = parts.value.mul_add(-parts.power(0), 1.0);
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
