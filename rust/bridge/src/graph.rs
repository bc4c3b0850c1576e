//! The graph compiler's side of the door: capture and programs.

use rustorch_graph::memory::Block;
use rustorch_graph::program::{Instruction, Program as Ir};
use rustorch_graph::run::Random;
use rustorch_graph::{explain, passes, record};
use rustorch_kernels::error::Result;
use rustorch_kernels::{ops, threads};

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

        /// Writes the addresses of the results' storages, which are blocks of the pool, to `outputs`.
        ///
        /// # Safety
        /// The addresses are of the inputs' storages, as captured. `release` is that of an
        /// `extern "C" fn(context: usize, input: usize)`, after which an input may be gone.
        unsafe fn run(
            self: &Program,
            inputs: &[usize],
            outputs: &mut [usize],
            random: [u64; 2],
            release: usize,
            context: usize,
            on_host: bool,
        ) -> Result<()>;
        fn written_inputs(self: &Program) -> Result<Vec<usize>>;
        fn random_counters(self: &Program) -> u64;
        /// The most that a run holds at once: of intermediates, and of them and results.
        fn peaks(self: &Program) -> [usize; 2];
        fn instruction_count(self: &Program) -> usize;
        fn kernel_names(self: &Program) -> Result<Vec<String>>;
        /// Bytes that kernels read and write.
        fn moved_bytes(self: &Program) -> Result<usize>;
        /// Kernels and moved bytes as captured, before the passes.
        fn captured_totals(self: &Program) -> [usize; 2];
        fn text(self: &Program) -> Result<String>;
        fn captured_text(self: &Program) -> String;
        fn dot(self: &Program, name: &str) -> Result<String>;

        /// The pointwise ops that cost more than it takes to write an element and read it again.
        fn dear_ops() -> Vec<String>;
    }
}

fn dear_ops() -> Vec<String> {
    ops::OPS.iter().filter(|row| row.is_dear()).map(|row| row.name.to_string()).collect()
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
    unsafe fn run(
        &self,
        inputs: &[usize],
        outputs: &mut [usize],
        [seed, offset]: [u64; 2],
        release: usize,
        context: usize,
        on_host: bool,
    ) -> Result<(), Crossing> {
        guarded(|| {
            // SAFETY: the caller's promise.
            let release = unsafe { std::mem::transmute::<usize, extern "C" fn(usize, usize)>(release) };
            let release = |input| release(context, input);
            let random = Random { seed, offset };
            let results = threads::on_host(on_host, || {
                // SAFETY: the caller's promise.
                unsafe { rustorch_graph::run::run(&self.ir, inputs, &release, random) }
            })?;
            for (output, block) in outputs.iter_mut().zip(results) {
                *output = block.map_or(0, Block::into_address);
            }
            Ok(())
        })
    }

    fn written_inputs(&self) -> Result<Vec<usize>, Crossing> {
        guarded(|| Ok(self.ir.written_inputs()))
    }

    fn random_counters(&self) -> u64 {
        self.ir.random_counters
    }

    fn peaks(&self) -> [usize; 2] {
        [self.ir.intermediate_bytes, self.ir.peak_bytes]
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
