//! The passes, in order. Each is a file, and rewrites a program into one that computes the same.

pub mod common;
pub mod constants;
pub mod dead_code;
mod dependencies;
pub mod epilogues;
pub mod fuse;
pub mod in_place;
pub mod layout;
pub mod norms;
pub mod reductions;
pub mod spread;
pub mod tiles;

use crate::program::Program;

/// Every pass, then the memory plan.
pub fn optimise(program: &mut Program) {
    dead_code::run(program);
    constants::run(program);
    common::run(program);
    layout::run(program);
    norms::run(program);
    fuse::run(program);
    dead_code::run(program);
    tiles::run(program);
    reductions::run(program);
    epilogues::run(program);
    spread::run(program);
    in_place::run(program);
    crate::plan::run(program);
}
