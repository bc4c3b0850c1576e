//! What a run holds, and from when to when.

mod captured;

use std::cell::RefCell;
use std::sync::Mutex;

use captured::{begin, finish, view};
use rustorch_graph::program::Program;
use rustorch_graph::run::{Random, run};
use rustorch_graph::{passes, plan, record};
use rustorch_kernels::alloc;
use rustorch_kernels::dtype::DType;
use rustorch_kernels::ops::Op;
use rustorch_kernels::view::{Attrs, View};

const INPUTS: usize = 4;
const BLOCKS: usize = 20;
/// The pool's statistics are the process's: one test at a time counts.
static COUNTING: Mutex<()> = Mutex::new(());
/// Elements of a buffer: of one in the arena, and of one that is a block of its own.
const COUNTS: [i64; 2] = [100, 2000];

fn spread(block: usize, count: i64, stride: &'static [i64]) -> View<'static> {
    view(block, DType::F32, if count == COUNTS[0] { &[COUNTS[0]] } else { &[COUNTS[1]] }, stride)
}

fn vector(block: usize, count: i64) -> View<'static> {
    spread(block, count, &[1])
}

fn apply(op: Op, count: i64, out: usize, inputs: &[usize]) {
    let views: Vec<_> = std::iter::once(out).chain(inputs.iter().copied()).map(|block| vector(block, count)).collect();
    record::launch(op.row(), &views, &Attrs { ints: &[DType::F32 as i64, 1], floats: &[1.0] }).unwrap();
}

/// Sums a block, and adds the sum to its elements.
fn spread_sum(count: i64, out: usize, sum: usize, input: usize) {
    let one = view(sum, DType::F32, &[1], &[1]);
    record::launch(Op::sum.row(), &[one, vector(input, count)], &Attrs { ints: &[], floats: &[] }).unwrap();
    let attrs = Attrs { ints: &[DType::F32 as i64, 1], floats: &[1.0] };
    let views = [vector(out, count), vector(input, count), spread(sum, count, &[0])];
    record::launch(Op::add.row(), &views, &attrs).unwrap();
}

/// A sequence of pseudo-random numbers.
struct Sequence(u64);

impl Sequence {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % limit
    }
}

/// A program of random steps that write new blocks, known blocks and inputs; its results are the last
/// block and one before.
fn random(seed: u64) -> (Program, i64) {
    let mut sequence = Sequence(seed);
    let count = COUNTS[sequence.below(2)];
    begin(BLOCKS, 4 * count as usize);
    let mut known: Vec<usize> = (0..INPUTS).collect();
    let mut next = INPUTS;
    while next + 2 < BLOCKS {
        let inputs = [known[sequence.below(known.len())], known[sequence.below(known.len())]];
        // Now and then something that holds a value already, an input too.
        let out = if sequence.below(8) == 0 { known[sequence.below(known.len())] } else { next };
        match sequence.below(6) {
            // To an input, as a graph that updates one ends.
            5 => {
                let attrs = Attrs { ints: &[], floats: &[] };
                let to = vector(sequence.below(INPUTS), count);
                record::launch(Op::copy.row(), &[to, vector(inputs[0], count)], &attrs).unwrap();
                continue;
            }
            0 => apply(Op::add, count, out, &inputs),
            1 => apply(Op::mul, count, out, &inputs),
            2 => apply(Op::tanh, count, out, &inputs[..1]),
            3 => apply(Op::neg, count, out, &inputs[..1]),
            _ => {
                spread_sum(count, next + 1, next, inputs[0]);
                known.push(next + 1);
                next += 2;
                continue;
            }
        }
        if out == next {
            known.push(next);
            next += 1;
        }
    }
    let last = known.len() - 1;
    let earlier = INPUTS + sequence.below(last - INPUTS);
    (finish(&(0..INPUTS).collect::<Vec<_>>(), &[known[earlier], known[last]]), count)
}

/// Runs a program; gives the bits of its inputs at their release and of its results, and how often each
/// input was released. What is released is overwritten.
fn execute(program: &Program, count: i64) -> (Vec<Vec<u32>>, Vec<usize>) {
    let count = count as usize;
    let inputs: Vec<Vec<f32>> = (0..INPUTS)
        .map(|input| (0..count).map(|at| (at * (2 * input + 1) % 17) as f32 / 8.0 - 1.0).collect())
        .collect();
    let inputs = RefCell::new(inputs);
    let addresses: Vec<usize> = inputs.borrow_mut().iter_mut().map(|input| input.as_mut_ptr() as usize).collect();
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let found = RefCell::new((vec![Vec::new(); INPUTS], vec![0; INPUTS]));
    let release = |input: usize| {
        let input_now = &mut inputs.borrow_mut()[input];
        let (contents, times) = &mut *found.borrow_mut();
        contents[input] = bits(input_now);
        times[input] += 1;
        input_now.fill(f32::NAN);
    };
    // SAFETY: the inputs are as long as the program's, and stay until its end.
    let results = unsafe { run(program, &addresses, &release, Random::default()) }.unwrap();
    let (mut contents, times) = found.into_inner();
    for block in results.iter().flatten() {
        // SAFETY: each result is of `count` elements.
        contents.push(bits(unsafe { std::slice::from_raw_parts(block.address() as *const f32, count) }));
    }
    (contents, times)
}

#[test]
fn what_is_let_go_is_not_read_again_and_nothing_is_held_for_long() {
    let _alone = COUNTING.lock();
    for seed in 0..400 {
        let (mut plain, count) = random(seed);
        let mut optimised = plain.clone();
        plan::run(&mut plain);
        passes::optimise(&mut optimised);
        let (expected, times) = execute(&plain, count);
        assert_eq!(times, [1; INPUTS], "seed {seed}");
        let before = alloc::statistics().bytes.current;
        alloc::reset_peak();
        let (actual, times) = execute(&optimised, count);
        let after = alloc::statistics().bytes;
        assert_eq!(times, [1; INPUTS], "seed {seed}");
        assert!(expected == actual, "seed {seed}:\n{}", optimised.text());
        assert_eq!(after.current, before, "seed {seed}");
        assert_eq!(after.peak - before, optimised.peak_bytes as u64, "seed {seed}:\n{}", optimised.text());
    }
}

#[test]
fn large_intermediates_are_held_from_their_first_use_to_their_last() {
    let count = COUNTS[1];
    begin(7, 4 * count as usize);
    spread_sum(count, 3, 2, 0);
    spread_sum(count, 5, 4, 3);
    apply(Op::tanh, count, 6, &[5]);
    let mut program = finish(&[0, 1], &[6]);
    plan::run(&mut program);
    let held: Vec<_> = program.held.iter().map(|held| (&held.taken[..], &held.given[..])).collect();
    let expected: [(&[usize], &[usize]); 5] =
        [(&[2], &[1]), (&[3], &[0, 2]), (&[4], &[]), (&[5], &[3, 4]), (&[6], &[5])];
    assert_eq!(held, expected);
    assert_eq!((program.intermediate_bytes, program.peak_bytes), (3 * 8000, 3 * 8000));
}

#[test]
fn a_run_that_fails_frees_what_it_holds_and_releases_nothing_more() {
    let _alone = COUNTING.lock();
    let count = COUNTS[1];
    begin(6, 8 * count as usize);
    apply(Op::tanh, count, 2, &[0]);
    let index = view(1, DType::I64, &[COUNTS[1]], &[1]);
    let attrs = Attrs { ints: &[0], floats: &[] };
    record::launch(Op::gather.row(), &[vector(3, count), vector(2, count), index], &attrs).unwrap();
    apply(Op::mul, count, 4, &[3, 0]);
    let mut program = finish(&[0, 1], &[4]);
    plan::run(&mut program);
    let (input, index) = (vec![0f32; count as usize], vec![count; count as usize]);
    let addresses = [input.as_ptr() as usize, index.as_ptr() as usize];
    let before = alloc::statistics().bytes.current;
    let released = RefCell::new(Vec::new());
    // SAFETY: the inputs are as long as the program's.
    let done = unsafe { run(&program, &addresses, &|input| released.borrow_mut().push(input), Random::default()) };
    assert!(done.is_err());
    assert!(released.into_inner().is_empty());
    assert_eq!(alloc::statistics().bytes.current, before);
}
