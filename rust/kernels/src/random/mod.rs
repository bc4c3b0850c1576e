//! Random numbers: Philox4x32-10, counter-based. The value of element `i` (in C order) depends on
//! the seed, the offset and `i` alone, never on threads, strides or the SIMD level's width.
//!
//! Word `w` of a launch is lane `w % 4` of counter `offset + w / 4`; an op takes one or two words
//! an element, as its function says, so a launch consumes `ceil(numel * words / 4)` counters.

mod dropout;
mod fill;
mod mersenne;
mod permute;
mod philox;
mod rejection;

pub use dropout::{dropout, dropout_backward};
pub use fill::{bernoulli, bernoulli_tensor, cauchy, exponential, geometric, log_normal, normal, random, uniform};
pub use mersenne::dropout as mersenne_dropout;
pub use permute::{multinomial, randperm};
pub(crate) use philox::fill as fill_words;
pub use rejection::{binomial, poisson, standard_gamma};

use crate::error::{Error, Result};
use crate::view::Attrs;

/// The part of Philox's sequence that a launch draws from.
#[derive(Clone, Copy)]
pub(crate) struct Stream {
    pub seed: u64,
    pub offset: u64,
}

impl Stream {
    pub(crate) fn of(attrs: &Attrs<'_>) -> Result<Self> {
        match attrs.ints {
            [seed, offset, ..] => Ok(Self { seed: *seed as u64, offset: *offset as u64 }),
            _ => Err(Error::Runtime("expected a seed and an offset".into())),
        }
    }
}
