//! Elementary functions, written so that a loop over them is vectorised at every SIMD level.

pub mod activation;
pub mod double;
pub mod single;
pub mod special;
pub mod whole;
