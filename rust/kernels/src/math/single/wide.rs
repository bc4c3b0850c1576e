//! Functions of `f32` by way of `f64`.

use super::logarithm_limits;
use crate::math::double::{self, polynomial, power, round};

/// Past this no power of two is an f32: results are infinite or zero.
const BOUND: f64 = 200.0;
/// Below this `sin` and `cos` are right; above, whole turns need more of pi.
pub const FAR: f32 = 1_073_741_824.0;

#[inline(always)]
fn bounded(x: f64) -> f64 {
    let x = if x > BOUND { BOUND } else { x };
    if x < -BOUND { -BOUND } else { x }
}

#[inline(always)]
fn exp2_bounded(x: f64) -> f64 {
    let x = bounded(x);
    let (whole, bits) = round(x);
    let rest = x - whole;
    // (2^r - 1) / r
    let slope = polynomial(
        rest,
        [
            0.6931471805416248,
            0.24022651076301743,
            0.05550410962690339,
            0.009618036837857382,
            0.0013333430679782232,
            0.00015467135600063262,
            1.5314973400897764e-5,
        ],
    );
    rest.mul_add(slope, 1.0) * power(bits)
}

#[inline(always)]
pub fn exp2(x: f32) -> f32 {
    exp2_bounded(x as f64) as f32
}

/// `exp(x) - 1`, up to [`BOUND`].
#[inline(always)]
fn exp_less_one(x: f64) -> f64 {
    let wide = bounded(x);
    let (whole, bits) = round(wide * std::f64::consts::LOG2_E);
    let rest = whole.mul_add(-std::f64::consts::LN_2, wide);
    // (exp(r) - 1 - r) / r^2
    let tail = polynomial(
        rest,
        [
            0.5000000068036943,
            0.16666665864597496,
            0.04166629363552831,
            0.008333497673685231,
            0.0013944758518919414,
            0.00019790243818337664,
        ],
    );
    let value = (rest * rest).mul_add(tail, rest);
    let scale = power(bits);
    value.mul_add(scale, scale - 1.0)
}

#[inline(always)]
pub fn exp_m1(x: f32) -> f32 {
    let result = exp_less_one(x as f64) as f32;
    // Keeps the sign of zero.
    if x == 0.0 { x } else { result }
}

#[inline(always)]
pub fn sinh(x: f32) -> f32 {
    let less_one = exp_less_one((x as f64).abs());
    let value = 0.5 * (less_one + less_one / (less_one + 1.0));
    (value as f32).copysign(x)
}

#[inline(always)]
pub fn cosh(x: f32) -> f32 {
    let power = exp_less_one((x as f64).abs()) + 1.0;
    (0.5 * (power + 1.0 / power)) as f32
}

/// `ln(x) = exponent * ln(2) + ln(1 + rest)`, for a normal `x > 0`.
#[inline(always)]
fn logarithm_parts(x: f64) -> (f64, f64) {
    // The square root of one half: mantissas are taken between it and its double.
    const SPLIT: u64 = 0x3fe6_a09e_667f_3bcd;
    const BIAS: u64 = 1023;
    // 2^52: its low bits are a whole number's.
    const WHOLE: u64 = 0x4330_0000_0000_0000;
    let bits = x.to_bits();
    let biased = bits.wrapping_sub(SPLIT).wrapping_add(BIAS << 52) >> 52;
    let exponent = f64::from_bits(WHOLE | biased) - f64::from_bits(WHOLE | BIAS);
    let rest = f64::from_bits(bits.wrapping_sub(biased.wrapping_sub(BIAS) << 52)) - 1.0;
    (exponent, rest)
}

/// `ln(1 + x)` for `1 + x` between the square roots of one half and two.
#[inline(always)]
fn ln_1p_near(x: f64) -> f64 {
    // (ln(1 + r) - r) / r^2
    let tail = polynomial(
        x,
        [
            -0.5000000001455163,
            0.33333334090593636,
            -0.24999996396640664,
            0.19999893398154403,
            -0.16666832466679746,
            0.14290686305894063,
            -0.12499786915482151,
            0.11009540774876968,
            -0.09900889403953769,
            0.09994127031682125,
            -0.09980411129153521,
            0.055111863636661394,
        ],
    );
    (x * x).mul_add(tail, x)
}

#[inline(always)]
pub fn log2(x: f32) -> f32 {
    let (exponent, rest) = logarithm_parts(x as f64);
    logarithm_limits(x, ln_1p_near(rest).mul_add(std::f64::consts::LOG2_E, exponent) as f32)
}

#[inline(always)]
pub fn log10(x: f32) -> f32 {
    let (exponent, rest) = logarithm_parts(x as f64);
    let high = exponent * std::f64::consts::LOG10_2;
    logarithm_limits(x, ln_1p_near(rest).mul_add(std::f64::consts::LOG10_E, high) as f32)
}

/// `ln(1 + x)` for a finite `x > -1`.
#[inline(always)]
fn ln_1p_finite(x: f64) -> f64 {
    let (exponent, rest) = logarithm_parts(1.0 + x);
    // Near one the argument itself is exact, where one plus it is not.
    let rest = if exponent == 0.0 { x } else { rest };
    exponent.mul_add(std::f64::consts::LN_2, ln_1p_near(rest))
}

#[inline(always)]
pub fn ln_1p(x: f32) -> f32 {
    let value = ln_1p_finite(x as f64) as f32;
    let value = if x == f32::INFINITY { x } else { value };
    let value = if x == -1.0 { f32::NEG_INFINITY } else { value };
    let value = if x >= -1.0 { value } else { f32::NAN };
    if x == 0.0 { x } else { value }
}

/// `|x|^y` times the sign that a negative `x` leaves, with C's limits.
#[inline(always)]
pub fn pow(x: f32, y: f32) -> f32 {
    let base = x.abs();
    let (exponent, rest) = logarithm_parts(base as f64);
    let power = y as f64 * ln_1p_near(rest).mul_add(std::f64::consts::LOG2_E, exponent);
    let magnitude = exp2_bounded(power) as f32;
    let limit = if (base == 0.0) == (y < 0.0) { f32::INFINITY } else { 0.0 };
    let magnitude = if base == 0.0 || base == f32::INFINITY { limit } else { magnitude };
    let magnitude = if base == 1.0 { 1.0 } else { magnitude };
    let whole = y.trunc() == y;
    let odd = whole && (0.5 * y).trunc() != 0.5 * y;
    let signed = if odd { magnitude.copysign(x) } else { magnitude };
    let undefined = x < 0.0 && !whole && base != f32::INFINITY;
    let value = if undefined || x.is_nan() || y.is_nan() { f32::NAN } else { signed };
    if x == 1.0 || y == 0.0 { 1.0 } else { value }
}

/// The sine and cosine of what whole quarter turns leave of `x`, and the quarter turns' low bits.
#[inline(always)]
fn quarter_turns(x: f32) -> (f64, f64, u64) {
    // Pi / 2 in two parts.
    const HIGH: f64 = std::f64::consts::FRAC_PI_2;
    const LOW: f64 = 6.123233995736766e-17;
    let x = x as f64;
    let (whole, bits) = round(x * std::f64::consts::FRAC_2_PI);
    let rest = whole.mul_add(-LOW, whole.mul_add(-HIGH, x));
    let square = rest * rest;
    // (sin(r) / r - 1) / r^2 and (cos(r) - 1 + r^2 / 2) / r^4, over r^2
    let tail =
        polynomial(square, [-0.1666666664142652, 0.008333329362280083, -0.00019839327136451188, 2.718237275738285e-6]);
    let sine = (rest * square).mul_add(tail, rest);
    let tail =
        polynomial(square, [0.041666666622477, -0.0013888883722609313, 2.4799511759123787e-5, -2.720954733761606e-7]);
    let cosine = (square * square).mul_add(tail, square.mul_add(-0.5, 1.0));
    (sine, cosine, bits)
}

#[inline(always)]
pub fn sin(x: f32) -> f32 {
    let (sine, cosine, turns) = quarter_turns(x);
    let value = if turns & 1 == 0 { sine } else { cosine };
    let value = f64::from_bits(value.to_bits() ^ ((turns & 2) << 62)) as f32;
    if x == 0.0 { x } else { value }
}

#[inline(always)]
pub fn cos(x: f32) -> f32 {
    let (sine, cosine, turns) = quarter_turns(x);
    let value = if turns & 1 == 0 { cosine } else { sine };
    f64::from_bits(value.to_bits() ^ ((turns.wrapping_add(1) & 2) << 62)) as f32
}

/// Right up to [`FAR`], as `sin` and `cos`.
#[inline(always)]
pub fn tan(x: f32) -> f32 {
    let (sine, cosine, turns) = quarter_turns(x);
    let is_odd = turns & 1 == 1;
    let (above, below) = if is_odd { (-cosine, sine) } else { (sine, cosine) };
    let value = (above / below) as f32;
    if x == 0.0 { x } else { value }
}

#[inline(always)]
pub fn atan(x: f32) -> f32 {
    let magnitude = (x as f64).abs();
    let is_large = magnitude > 1.0;
    let ratio = if is_large { 1.0 / magnitude } else { magnitude };
    let square = ratio * ratio;
    // (atan(r) / r - 1) / r^2, over r^2
    let tail = polynomial(
        square,
        [
            -0.33333327433821025,
            0.19999692628705887,
            -0.14280130984251382,
            0.11060246185285805,
            -0.08818854569495077,
            0.06759586593220382,
            -0.044946651956041465,
            0.02276051804798391,
            -0.007422721818101496,
            0.0011348952857898062,
        ],
    );
    let angle = (ratio * square).mul_add(tail, ratio);
    let angle = if is_large { std::f64::consts::FRAC_PI_2 - angle } else { angle };
    // The sign of zero too.
    (angle as f32).copysign(x)
}

#[inline(always)]
pub fn atanh(x: f32) -> f32 {
    let magnitude = (x as f64).abs();
    let value = 0.5 * ln_1p_finite(2.0 * magnitude / (1.0 - magnitude));
    let value = if magnitude == 1.0 { f64::INFINITY } else { value };
    let value = if magnitude <= 1.0 { value } else { f64::NAN };
    (value as f32).copysign(x)
}

#[inline(always)]
pub fn asinh(x: f32) -> f32 {
    let magnitude = (x as f64).abs();
    let square = magnitude * magnitude;
    let value = ln_1p_finite(magnitude + square / (1.0 + (square + 1.0).sqrt()));
    // Infinity, and no number.
    let value = if magnitude < f64::INFINITY { value } else { magnitude };
    // The sign of zero too.
    (value as f32).copysign(x)
}

#[inline(always)]
pub fn acosh(x: f32) -> f32 {
    let more = x as f64 - 1.0;
    let value = ln_1p_finite(more + (more * (more + 2.0)).sqrt()) as f32;
    let value = if x == f32::INFINITY { x } else { value };
    if x >= 1.0 { value } else { f32::NAN }
}

#[inline(always)]
pub fn asin(x: f32) -> f32 {
    double::asin_by(x as f64, double::ASIN_SHORT, double::Digits::Short) as f32
}

#[inline(always)]
pub fn acos(x: f32) -> f32 {
    double::acos_by(x as f64, double::ASIN_SHORT, double::Digits::Short) as f32
}

#[inline(always)]
pub fn atan2(y: f32, x: f32) -> f32 {
    (double::angle_by(y as f64, x as f64, double::ATAN_SHORT) as f32).copysign(y)
}

#[inline(always)]
pub fn erfc(x: f32) -> f32 {
    double::erfc_short(x as f64) as f32
}

#[inline(always)]
pub fn erfinv(x: f32) -> f32 {
    double::erfinv_short(x as f64) as f32
}

#[inline(always)]
pub fn hypot(x: f32, y: f32) -> f32 {
    let (wide, high) = (x as f64, y as f64);
    let value = wide.mul_add(wide, high * high).sqrt() as f32;
    // An infinite side beside one that is no number.
    if x.abs() == f32::INFINITY || y.abs() == f32::INFINITY { f32::INFINITY } else { value }
}
