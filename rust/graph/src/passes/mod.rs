//! The passes, in order. Each is a file, and rewrites a program into one that computes the same.

mod dead_code;

use crate::program::Program;

/// Every pass, then the memory plan.
pub fn optimise(program: &mut Program) {
    dead_code::run(program);
    crate::plan::run(program);
}
