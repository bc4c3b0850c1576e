//! Elementary functions of `f64`.

#[inline(always)]
pub fn exp(x: f64) -> f64 {
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
