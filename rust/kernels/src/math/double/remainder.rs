//! What divisions leave, and what floats are made of.

use super::{BIAS, MANTISSA};

/// Quotients from here on have more digits than [`remains`] is right for.
const LONG: f64 = 1_125_899_906_842_624.0;

/// Whether the quotient is too long for [`remains`].
#[inline(always)]
pub fn is_long_quotient(x: f64, divisor: f64) -> bool {
    (x / divisor).abs() >= LONG
}

/// What the quotient rounded to zero leaves of `x`, with its sign; exact.
#[inline(always)]
pub fn remains(x: f64, divisor: f64) -> f64 {
    let whole = (x / divisor).trunc();
    let rest = (-whole).mul_add(divisor, x);
    // The quotient was rounded to the next whole number.
    let is_over = (rest < 0.0 && x > 0.0) || (rest > 0.0 && x < 0.0);
    let rest = if is_over { rest + divisor.abs().copysign(x) } else { rest };
    let rest = if divisor.abs() == f64::INFINITY && x.abs() != f64::INFINITY { x } else { rest };
    let rest = if divisor == 0.0 { f64::NAN } else { rest };
    if rest == 0.0 { rest.copysign(x) } else { rest }
}

/// The exponent's bits of a number that is not subnormal, and what was added to them.
#[inline(always)]
fn lifted(x: f64) -> (f64, f64) {
    // 2^54
    const LIFT: f64 = 18_014_398_509_481_984.0;
    if x.abs() < f64::MIN_POSITIVE { (x * LIFT, 54.0) } else { (x, 0.0) }
}

const EXPONENT: u64 = 0x7ff << MANTISSA;

#[inline(always)]
pub fn frexp_mantissa(x: f64) -> f64 {
    let (normal, _) = lifted(x);
    let mantissa = f64::from_bits(normal.to_bits() & !EXPONENT | (BIAS - 1) << MANTISSA);
    if x == 0.0 || x.is_nan() || x.abs() == f64::INFINITY { x } else { mantissa }
}

#[inline(always)]
pub fn frexp_exponent(x: f64) -> f64 {
    // 2^52: its low bits are a whole number's.
    const WHOLE: u64 = 0x4330_0000_0000_0000;
    let (normal, lift) = lifted(x);
    let biased = normal.abs().to_bits() >> MANTISSA;
    let exponent = f64::from_bits(WHOLE | biased) - f64::from_bits(WHOLE | (BIAS - 1)) - lift;
    if x == 0.0 || x.is_nan() || x.abs() == f64::INFINITY { 0.0 } else { exponent }
}
