//! Optimizer steps over lists of tensors: one launch a step, one pass over memory. Every element
//! is computed on its own, so results depend on neither threads nor layout.

mod amp;
mod rules;
mod step;

pub use amp::{unscale, update_scale};
pub use rules::{adagrad, adam, sgd};
