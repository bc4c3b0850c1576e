//! The graph compiler's side of the door: capture and programs.

use rustorch_graph::program::Program as Ir;
use rustorch_graph::run::{Memory, Random};
use rustorch_graph::{passes, record};
use rustorch_kernels::error::Result;

use crate::arena::Arena;
use crate::{Crossing, guarded};

#[cxx::bridge(namespace = "rustorch::ffi")]
mod ffi {
    extern "Rust" {
        /// A captured graph, optimised and ready to run, from any thread.
        type Program;

        fn capture_begin() -> Result<()>;
        fn capture_abandon() -> Result<()>;
        fn capture_block(address: usize, bytes: usize) -> Result<()>;
        fn capture_origin(label: &str) -> Result<()>;
        fn capture_mark() -> Result<usize>;
        fn capture_rollback(mark: usize) -> Result<()>;
        fn capture_random(counters: u64) -> Result<u64>;
        fn capture_finish(inputs: &[usize], outputs: &[usize]) -> Result<Box<Program>>;

        /// # Safety
        /// The addresses are of the inputs' and outputs' storages, as captured.
        unsafe fn run(self: &Program, inputs: &[usize], outputs: &[usize], seed: u64, offset: u64) -> Result<()>;
        fn written_inputs(self: &Program) -> Result<Vec<usize>>;
        fn random_counters(self: &Program) -> u64;
        fn arena_bytes(self: &Program) -> usize;
        fn instruction_count(self: &Program) -> usize;
        fn text(self: &Program) -> Result<String>;
    }
}

struct Program(Ir);

fn capture_begin() -> Result<(), Crossing> {
    guarded(record::begin)
}

fn capture_abandon() -> Result<(), Crossing> {
    guarded(|| {
        record::abandon();
        Ok(())
    })
}

fn capture_block(address: usize, bytes: usize) -> Result<(), Crossing> {
    guarded(|| record::block(address, bytes))
}

fn capture_origin(label: &str) -> Result<(), Crossing> {
    guarded(|| record::origin(label))
}

fn capture_mark() -> Result<usize, Crossing> {
    guarded(record::mark)
}

fn capture_rollback(mark: usize) -> Result<(), Crossing> {
    guarded(|| record::rollback(mark))
}

fn capture_random(counters: u64) -> Result<u64, Crossing> {
    guarded(|| record::random(counters))
}

fn capture_finish(inputs: &[usize], outputs: &[usize]) -> Result<Box<Program>, Crossing> {
    guarded(|| {
        let mut ir = record::finish(inputs, outputs)?;
        passes::optimise(&mut ir);
        Ok(Box::new(Program(ir)))
    })
}

impl Program {
    unsafe fn run(&self, inputs: &[usize], outputs: &[usize], seed: u64, offset: u64) -> Result<(), Crossing> {
        guarded(|| {
            let arena = Arena::new(self.0.arena_bytes)?;
            let memory = Memory { inputs, outputs, arena: arena.address() };
            // SAFETY: the caller's promise, and an arena of the program's size.
            unsafe { rustorch_graph::run::run(&self.0, memory, Random { seed, offset }) }
        })
    }

    fn written_inputs(&self) -> Result<Vec<usize>, Crossing> {
        guarded(|| Ok(self.0.written_inputs()))
    }

    fn random_counters(&self) -> u64 {
        self.0.random_counters
    }

    fn arena_bytes(&self) -> usize {
        self.0.arena_bytes
    }

    fn instruction_count(&self) -> usize {
        self.0.instructions.len()
    }

    fn text(&self) -> Result<String, Crossing> {
        guarded(|| Ok(self.0.text()))
    }
}
