//! Elementary functions of `f32`.

#[inline(always)]
pub fn exp(x: f32) -> f32 {
    x.exp()
}

#[inline(always)]
pub fn exp2(x: f32) -> f32 {
    x.exp2()
}

#[inline(always)]
pub fn exp_m1(x: f32) -> f32 {
    x.exp_m1()
}

#[inline(always)]
pub fn ln(x: f32) -> f32 {
    x.ln()
}

#[inline(always)]
pub fn ln_1p(x: f32) -> f32 {
    x.ln_1p()
}

#[inline(always)]
pub fn log2(x: f32) -> f32 {
    x.log2()
}

#[inline(always)]
pub fn log10(x: f32) -> f32 {
    x.log10()
}

#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    x.tanh()
}

#[inline(always)]
pub fn sin(x: f32) -> f32 {
    x.sin()
}

#[inline(always)]
pub fn cos(x: f32) -> f32 {
    x.cos()
}

#[inline(always)]
pub fn erf(x: f32) -> f32 {
    libm::erff(x)
}

#[inline(always)]
pub fn pow(x: f32, exponent: f32) -> f32 {
    x.powf(exponent)
}

#[inline(always)]
pub fn tan(x: f32) -> f32 {
    x.tan()
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
pub fn atan(x: f32) -> f32 {
    x.atan()
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
    libm::acoshf(x)
}

#[inline(always)]
pub fn atanh(x: f32) -> f32 {
    libm::atanhf(x)
}

#[inline(always)]
pub fn erfc(x: f32) -> f32 {
    libm::erfcf(x)
}

#[inline(always)]
pub fn atan2(y: f32, x: f32) -> f32 {
    y.atan2(x)
}

#[inline(always)]
pub fn hypot(x: f32, y: f32) -> f32 {
    x.hypot(y)
}
