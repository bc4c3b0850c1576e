//! Reductions that compute what they reduce: the bits of a reduction of memory, for every shape of leaf.

mod captured;

use captured::names;
use rustorch_graph::program::{Kernel, Program};
use rustorch_graph::{passes, plan, record};
use rustorch_kernels::dtype::DType;
use rustorch_kernels::isa::{self, Level};
use rustorch_kernels::ops::Op;
use rustorch_kernels::view::{Attrs, View};

/// Inner, outer and middle dimensions; narrow and wide; cut into parts; rows that end within a block, and with all
/// lanes full.
const SHAPES: [&[i64]; 9] =
    [&[300, 700], &[5000, 5], &[3, 64, 1000], &[1, 900], &[129, 1], &[262_144], &[130, 2000], &[1], &[600, 96]];

fn dense(block: usize, sizes: &[i64]) -> View<'static> {
    let mut strides = vec![1; sizes.len()];
    for dim in (1..sizes.len()).rev() {
        strides[dim - 1] = strides[dim] * sizes[dim];
    }
    captured::view(block, DType::F32, sizes.to_vec().leak(), strides.leak())
}

fn apply(op: Op, views: &[View<'static>]) {
    let attrs = Attrs { ints: &[DType::F32 as i64, 1], floats: &[2.0] };
    record::launch(op.row(), views, &attrs).unwrap();
}

/// Blocks 0 and 1 in; `op` over `chain(a * b)`, reduced where `kept` has one, in block 4; the caller wants
/// what is reduced as well, or not.
fn capture(chain: Op, op: Op, sizes: &[i64], kept: &[i64], is_stored: bool) -> Program {
    captured::begin(5, 4 * sizes.iter().product::<i64>() as usize);
    let matrix = |block| dense(block, sizes);
    apply(Op::mul, &[matrix(2), matrix(0), matrix(1)]);
    apply(chain, &[matrix(3), matrix(2)]);
    apply(op, &[dense(4, kept), matrix(3)]);
    captured::finish(&[0, 1], if is_stored { &[4, 3] } else { &[4] })
}

fn execute(program: &Program, count: usize) -> Vec<u32> {
    let value = |input: usize, at: usize| match at % 40_009 {
        40_000 => f32::NAN,
        _ => ((at * (input + 3)) % 1009) as f32 / 300.0 - 1.7,
    };
    let inputs: Vec<Vec<f32>> = (0..2).map(|input| (0..count).map(|at| value(input, at)).collect()).collect();
    let outputs: Vec<Vec<f32>> = captured::execute(program, &inputs, count).unwrap();
    // One NaN is as good as another.
    let bits = |value: &f32| if value.is_nan() { f32::NAN.to_bits() } else { value.to_bits() };
    outputs.iter().flatten().map(bits).collect()
}

#[test]
fn a_reduction_of_a_chain_has_the_bits_of_one_of_memory() {
    for sizes in SHAPES {
        let count = sizes.iter().product::<i64>() as usize;
        for reduced in 1..1u32 << sizes.len() {
            let kept: Vec<i64> =
                sizes.iter().enumerate().map(|(dim, &size)| if reduced >> dim & 1 == 1 { 1 } else { size }).collect();
            for (chain, op, is_stored) in [
                (Op::tanh, Op::sum, false),
                (Op::tanh, Op::mean, true),
                (Op::tanh, Op::amax, false),
                (Op::tanh, Op::norm, true),
                // What machine code does as a whole, it folds too.
                (Op::neg, Op::sum, false),
                (Op::relu, Op::mean, false),
                (Op::neg, Op::amax, false),
                (Op::abs, Op::amin, false),
                (Op::neg, Op::sum, true),
            ] {
                let mut plain = capture(chain, op, sizes, &kept, is_stored);
                let mut fused = plain.clone();
                plan::run(&mut plain);
                passes::optimise(&mut fused);
                assert_eq!(names(&fused), [format!("fused[mul+{}+{}]", chain.row().name, op.row().name)]);
                assert_eq!(fused.intermediate_bytes, 0);
                for level in Level::available() {
                    let (expected, actual) = isa::at(level, || (execute(&plain, count), execute(&fused, count)));
                    assert!(expected == actual, "{} of {sizes:?} to {kept:?}, {}", op.row().name, level.name());
                }
            }
        }
    }
}

#[test]
fn sums_and_extremes_of_what_machine_code_computes_are_folded_by_it() {
    let has_fold_to = |chain, op, kept: &[i64]| {
        let mut program = capture(chain, op, &[300, 700], kept, false);
        passes::optimise(&mut program);
        let Kernel::Reduced(reduced) = &program.instructions[0].kernel else { panic!("not joined") };
        reduced.fused.ready().is_some_and(|ready| ready.folding.is_some())
    };
    let has_fold = |chain, op| has_fold_to(chain, op, &[300, 1]);
    for level in Level::available().filter(|&level| level != Level::Scalar) {
        isa::at(level, || {
            assert!(has_fold_to(Op::neg, Op::sum, &[1, 700]) && has_fold_to(Op::exp, Op::amax, &[1, 1]));
            assert!(has_fold(Op::neg, Op::sum) && has_fold(Op::relu, Op::mean));
            assert!(has_fold(Op::abs, Op::amax) && has_fold(Op::neg, Op::amin));
            assert!(has_fold(Op::tanh, Op::sum));
            assert!(!has_fold(Op::log1p, Op::sum) && !has_fold(Op::neg, Op::norm));
        });
    }
}

#[test]
fn a_reduction_stays_behind_what_else_it_waits_for() {
    // What it writes is read before, and its producer's result as well.
    let sizes = &[30, 70];
    captured::begin(6, 4 * 30 * 70);
    apply(Op::mul, &[dense(2, sizes), dense(0, sizes), dense(1, sizes)]);
    apply(Op::sum, &[dense(3, &[1, 70]), dense(2, sizes)]);
    apply(Op::amax, &[dense(4, &[1, 1]), dense(3, &[1, 70])]);
    apply(Op::sum, &[dense(3, &[30, 1]), dense(2, sizes)]);
    let mut program = captured::finish(&[0, 1], &[3, 4]);
    let mut plain = program.clone();
    plan::run(&mut plain);
    passes::optimise(&mut program);
    assert_eq!(names(&program), ["fused[mul+sum]", "amax", "sum"]);
    assert!(execute(&plain, 2100) == execute(&program, 2100));
}

#[test]
fn the_text_of_a_reduction_shows_what_it_computes() {
    let sizes = &[30, 70];
    captured::begin(4, 4 * 30 * 70);
    apply(Op::mul, &[dense(2, sizes), dense(0, sizes), dense(1, sizes)]);
    apply(Op::sum, &[dense(3, &[1, 70]), dense(2, sizes)]);
    let mut program = captured::finish(&[0, 1], &[3]);
    passes::optimise(&mut program);
    let expected = "\
b0: 8400 bytes, input 0
b1: 8400 bytes, input 1
b3: 8400 bytes, output 0
b3:float32[1, 70]/[70, 1], computed:float32[30, 70] = fused[mul+sum](b0:float32[30, 70]/[70, 1], \
b1:float32[30, 70]/[70, 1]) ints [6, 1] floats [2.0] { v0 = operand 1; v1 = operand 2; v2 = mul(v0, v1) [2.0]; \
operand 0 = v2; sum of operand 0 }
arena: 0 bytes
";
    assert_eq!(program.text(), expected);
}
