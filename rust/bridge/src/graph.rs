//! The graph compiler's side of the door: capture and programs.

use rustorch_graph::program::{Instruction, Program as Ir};
use rustorch_graph::run::{Memory, Random};
use rustorch_graph::{explain, passes, record};
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
        fn capture_finish(inputs: &[usize], outputs: &[usize], keep_text: bool) -> Result<Box<Program>>;

        /// # Safety
        /// The addresses are of the inputs' and outputs' storages, as captured.
        unsafe fn run(self: &Program, inputs: &[usize], outputs: &[usize], seed: u64, offset: u64) -> Result<()>;
        fn written_inputs(self: &Program) -> Result<Vec<usize>>;
        fn random_counters(self: &Program) -> u64;
        fn arena_bytes(self: &Program) -> usize;
        fn instruction_count(self: &Program) -> usize;
        fn kernel_names(self: &Program) -> Result<Vec<String>>;
        /// Bytes that kernels read and write.
        fn moved_bytes(self: &Program) -> Result<usize>;
        /// Kernels and moved bytes as captured, before the passes.
        fn captured_totals(self: &Program) -> [usize; 2];
        fn text(self: &Program) -> Result<String>;
        fn captured_text(self: &Program) -> String;
        fn dot(self: &Program, name: &str) -> Result<String>;
    }
}

struct Program {
    ir: Ir,
    captured: explain::Totals,
    /// The program before the passes, where someone wants to read it.
    captured_text: String,
}

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

fn capture_finish(inputs: &[usize], outputs: &[usize], keep_text: bool) -> Result<Box<Program>, Crossing> {
    guarded(|| {
        let mut ir = record::finish(inputs, outputs)?;
        let captured = explain::totals(&ir);
        let captured_text = if keep_text { ir.text() } else { String::new() };
        passes::optimise(&mut ir);
        Ok(Box::new(Program { ir, captured, captured_text }))
    })
}

impl Program {
    unsafe fn run(&self, inputs: &[usize], outputs: &[usize], seed: u64, offset: u64) -> Result<(), Crossing> {
        guarded(|| {
            let arena = Arena::new(self.ir.arena_bytes)?;
            let memory = Memory { inputs, outputs, arena: arena.address() };
            // SAFETY: the caller's promise, and an arena of the program's size.
            unsafe { rustorch_graph::run::run(&self.ir, memory, Random { seed, offset }) }
        })
    }

    fn written_inputs(&self) -> Result<Vec<usize>, Crossing> {
        guarded(|| Ok(self.ir.written_inputs()))
    }

    fn random_counters(&self) -> u64 {
        self.ir.random_counters
    }

    fn arena_bytes(&self) -> usize {
        self.ir.arena_bytes
    }

    fn instruction_count(&self) -> usize {
        self.ir.instructions.len()
    }

    fn kernel_names(&self) -> Result<Vec<String>, Crossing> {
        guarded(|| Ok(self.ir.instructions.iter().map(Instruction::name).collect()))
    }

    fn moved_bytes(&self) -> Result<usize, Crossing> {
        guarded(|| Ok(explain::totals(&self.ir).moved))
    }

    fn captured_totals(&self) -> [usize; 2] {
        [self.captured.instructions, self.captured.moved]
    }

    fn captured_text(&self) -> String {
        self.captured_text.clone()
    }

    fn dot(&self, name: &str) -> Result<String, Crossing> {
        guarded(|| Ok(explain::dot(&self.ir, name)))
    }

    fn text(&self) -> Result<String, Crossing> {
        guarded(|| Ok(self.ir.text()))
    }
}
