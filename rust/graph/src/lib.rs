//! The graph compiler: a graph is captured as the launches that the eager door would make
//! ([`record`]), which become a [`program::Program`] of instructions over buffers; passes rewrite
//! it, [`plan`] decides where its intermediates lie and how long memory is held, and [`run`] executes it
//! in one call.
//!
//! Both doors share the C++ shim's shape rules and the kernels, so a compiled graph computes what
//! eager computes, and an op that is added to the table is in both.

mod epilogue;
pub mod explain;
pub mod fused;
pub mod liveness;
pub mod memory;
pub mod passes;
pub mod plan;
pub mod program;
pub mod record;
mod reduced;
pub mod run;
pub mod tiled;
