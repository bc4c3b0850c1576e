//! Elementary functions, written so that a loop over them is vectorised at every SIMD level.

pub mod activation;
pub mod double;
pub mod single;
pub mod special;
pub mod whole;

/// The sum, from zero on: the standard library's starts from -0, which it gives of nothing.
#[inline(always)]
pub fn total(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(0.0, |sum, value| sum + value)
}
