//! Elementary functions of `f64`.

/// `sin` and `cos` are right everywhere.
pub const FAR: f64 = f64::INFINITY;

#[inline(always)]
pub fn exp(x: f64) -> f64 {
    x.exp()
}

#[inline(always)]
pub fn exp_of_negative(x: f64) -> f64 {
    x.exp()
}

#[inline(always)]
pub fn exp2(x: f64) -> f64 {
    x.exp2()
}

#[inline(always)]
pub fn exp_m1(x: f64) -> f64 {
    x.exp_m1()
}

#[inline(always)]
pub fn ln(x: f64) -> f64 {
    x.ln()
}

#[inline(always)]
pub fn ln_1p(x: f64) -> f64 {
    x.ln_1p()
}

#[inline(always)]
pub fn log2(x: f64) -> f64 {
    x.log2()
}

#[inline(always)]
pub fn log10(x: f64) -> f64 {
    x.log10()
}

#[inline(always)]
pub fn tanh(x: f64) -> f64 {
    x.tanh()
}

#[inline(always)]
pub fn sin(x: f64) -> f64 {
    x.sin()
}

#[inline(always)]
pub fn cos(x: f64) -> f64 {
    x.cos()
}

#[inline(always)]
pub fn erf(x: f64) -> f64 {
    libm::erf(x)
}

#[inline(always)]
pub fn pow(x: f64, exponent: f64) -> f64 {
    x.powf(exponent)
}

#[inline(always)]
pub fn tan(x: f64) -> f64 {
    x.tan()
}

#[inline(always)]
pub fn asin(x: f64) -> f64 {
    x.asin()
}

#[inline(always)]
pub fn acos(x: f64) -> f64 {
    x.acos()
}

#[inline(always)]
pub fn atan(x: f64) -> f64 {
    x.atan()
}

#[inline(always)]
pub fn sinh(x: f64) -> f64 {
    x.sinh()
}

#[inline(always)]
pub fn cosh(x: f64) -> f64 {
    x.cosh()
}

#[inline(always)]
pub fn asinh(x: f64) -> f64 {
    libm::asinh(x)
}

#[inline(always)]
pub fn acosh(x: f64) -> f64 {
    // libm's has values below one as well.
    if x < 1.0 { f64::NAN } else { libm::acosh(x) }
}

#[inline(always)]
pub fn atanh(x: f64) -> f64 {
    libm::atanh(x)
}

#[inline(always)]
pub fn erfc(x: f64) -> f64 {
    libm::erfc(x)
}

#[inline(always)]
pub fn atan2(y: f64, x: f64) -> f64 {
    y.atan2(x)
}

#[inline(always)]
pub fn hypot(x: f64, y: f64) -> f64 {
    x.hypot(y)
}
