//! Elementary functions of `f64`, branch-free: a loop over them is vectorised at every level. Their errors are within
//! one or two units in the last place (`tests/test_accuracy.py`). Polynomials are minimax fits of the function named
//! beside them; the plans are those of fdlibm (Sun Microsystems, 1993), in parts that `mul_add` makes exact.

mod circular;
mod error;
mod exponential;
mod logarithm;
mod remainder;

pub use circular::{ASIN_SHORT, ATAN_SHORT, acos_by, angle_by, asin_by};
pub use circular::{FAR, acos, asin, atan, atan2, cos, sin, tan};
pub use error::{erf, erfc, erfinv};
pub use error::{erfc_short, erfinv_short};
pub use exponential::{cosh, exp, exp_m1, exp_of_negative, exp2, sinh, tanh};
pub use logarithm::{acosh, asinh, atanh, ln, ln_1p, log2, log10};
pub use remainder::{frexp_exponent, frexp_mantissa, is_long_quotient, remains};

/// Bits of the mantissa, and what is added to an exponent.
const MANTISSA: u32 = 52;
const BIAS: u64 = 1023;
/// Adding it rounds to a whole number, which is then in the low bits.
const ROUND: f64 = 6_755_399_441_055_744.0;
/// The nearest to `ln(2)`, and what it lacks.
const LN_2: f64 = std::f64::consts::LN_2;
const LN_2_REST: f64 = 2.319_046_813_846_299_6e-17;

/// What a function is right to: f64's, or as many as an f32 has.
#[derive(Clone, Copy)]
pub enum Digits {
    All,
    Short,
}

/// `coefficients[0] + coefficients[1] x + ..`
#[inline(always)]
pub fn polynomial<const COUNT: usize>(x: f64, coefficients: [f64; COUNT]) -> f64 {
    let mut sum = coefficients[COUNT - 1];
    for &coefficient in coefficients[..COUNT - 1].iter().rev() {
        sum = sum.mul_add(x, coefficient);
    }
    sum
}

/// The nearest whole number and its low bits.
#[inline(always)]
pub fn round(x: f64) -> (f64, u64) {
    let shifted = x + ROUND;
    (shifted - ROUND, shifted.to_bits())
}

/// `2^whole`, of a normal result, for the low bits of `whole`.
#[inline(always)]
pub fn power(whole: u64) -> f64 {
    f64::from_bits(whole.wrapping_add(BIAS) << MANTISSA)
}

#[inline(always)]
fn bounded(x: f64, low: f64, high: f64) -> f64 {
    // NaN passes.
    let x = if x > high { high } else { x };
    if x < low { low } else { x }
}

#[inline(always)]
pub fn pow(x: f64, exponent: f64) -> f64 {
    x.powf(exponent)
}

/// Both are scaled where squares would be infinite or lose digits.
#[inline(always)]
pub fn hypot(x: f64, y: f64) -> f64 {
    const LARGE: f64 = 1e150;
    const SMALL: f64 = 1e-140;
    const DOWN: f64 = f64::from_bits((BIAS - 600) << MANTISSA);
    const UP: f64 = f64::from_bits((BIAS + 600) << MANTISSA);
    let (x, y) = (x.abs(), y.abs());
    let (more, less) = if x > y { (x, y) } else { (y, x) };
    let (scale, back) = if more > LARGE { (DOWN, UP) } else { (1.0, 1.0) };
    let (scale, back) = if more < SMALL { (UP, DOWN) } else { (scale, back) };
    let (a, b) = (more * scale, less * scale);
    let square = b * b;
    let sum = a.mul_add(a, square);
    let root = sum.sqrt();
    // What the squares, their sum and the root lose.
    let lost = b.mul_add(b, -square) + a.mul_add(a, square - sum);
    let rest = (-root).mul_add(root, sum) + lost;
    let correction = 0.5 * rest / root;
    let result = if root > 0.0 && root < f64::INFINITY { root + correction } else { root } * back;
    let result = if x.is_nan() || y.is_nan() { f64::NAN } else { result };
    if x == f64::INFINITY || y == f64::INFINITY { f64::INFINITY } else { result }
}
