//! Epilogues: which kernels run with the product or convolution before them, and that all bits stay.

mod captured;

use captured::{begin, finish, names, view};
use rustorch_graph::program::Program;
use rustorch_graph::{passes, plan, record};
use rustorch_kernels::dtype::DType;
use rustorch_kernels::isa::{self, Level};
use rustorch_kernels::ops::Op;
use rustorch_kernels::threads;
use rustorch_kernels::view::{Attrs, View};

/// Elements of the largest tensor of a test.
const COUNT: usize = 150_000;
const SIZE: i64 = 197;

fn square(block: usize) -> View<'static> {
    view(block, DType::F32, &[SIZE, SIZE], &[SIZE, 1])
}

/// One row for all.
fn row(block: usize) -> View<'static> {
    view(block, DType::F32, &[SIZE, SIZE], &[0, 1])
}

fn flat(block: usize) -> View<'static> {
    view(block, DType::F32, &[SIZE * SIZE], &[1])
}

fn apply(op: Op, views: &[View<'static>]) {
    let attrs = Attrs { ints: &[DType::F32 as i64, 1], floats: &[1.0, 0.5, 0.25, 0.0] };
    record::launch(op.row(), views, &attrs).unwrap();
}

fn matmul(out: usize, a: usize, b: usize) {
    record::launch(Op::matmul.row(), &[square(out), square(a), square(b)], &Attrs::default()).unwrap();
}

fn capture(blocks: usize, inputs: &[usize], outputs: &[usize], body: impl FnOnce()) -> Program {
    begin(blocks, 4 * COUNT);
    body();
    finish(inputs, outputs)
}

/// The instructions alone, with the dtype and sizes of squares left out.
fn listing(program: &Program) -> String {
    let text = program.text().replace(":float32[197, 197]/[197, 1]", "").replace(":float32[38809]/[1]", "");
    text.lines().filter(|line| line.contains(" = ")).map(|line| format!("{line}\n")).collect()
}

/// What the inputs and outputs hold after a run.
fn execute(program: &Program) -> Vec<u32> {
    captured::bits(program, COUNT, |input, at| ((at * (2 * input + 3)) % 1009) as f32 / 500.0 - 0.9)
}

/// All passes, with the bits of the program as it was, at every level and for several thread counts.
fn optimised(program: &Program) -> Program {
    let (mut plain, mut after) = (program.clone(), program.clone());
    plan::run(&mut plain);
    passes::optimise(&mut after);
    for level in Level::available() {
        threads::set_num_threads(1);
        let expected = isa::at(level, || execute(&plain));
        for count in [1, 2, 5] {
            threads::set_num_threads(count);
            let actual = isa::at(level, || execute(&after));
            assert!(expected == actual, "{:?} at {}", names(&after), level.name());
        }
    }
    after
}

#[test]
fn a_kernel_runs_with_the_product_that_it_reads() {
    let program = capture(7, &[0, 1, 2], &[6], || {
        matmul(3, 0, 1);
        apply(Op::add, &[square(4), square(3), row(2)]);
        apply(Op::gelu_none, &[flat(5), flat(4)]);
        apply(Op::mul, &[flat(6), flat(5), flat(5)]);
    });
    let mut before = program.clone();
    passes::fuse::run(&mut before);
    let expected = "\
b3 = matmul(b0, b1)
b6 = fused[add+gelu_none+mul](b3, b2:float32[197, 197]/[0, 1]) { v0 = operand 1; v1 = operand 2; \
v2 = add(v0, v1) [1.0, 0.5, 0.25]; v3 = gelu_none(v2) [1.0, 0.5, 0.25]; v4 = mul(v3, v3) [1.0, 0.5, 0.25]; operand 0 = v4 }
";
    assert_eq!(listing(&before), expected);
    passes::epilogues::run(&mut before);
    let expected = "\
b6, b6 = fused[matmul+add+gelu_none+mul](b0, b1, b2:float32[197, 197]/[0, 1]) { operand 1 = matmul; v0 = operand 1; \
v1 = operand 2; v2 = add(v0, v1) [1.0, 0.5, 0.25]; v3 = gelu_none(v2) [1.0, 0.5, 0.25]; \
v4 = mul(v3, v3) [1.0, 0.5, 0.25]; operand 0 = v4 }
";
    assert_eq!(listing(&before), expected);
    assert_eq!(optimised(&program).peak_bytes, 4 * COUNT);
}

#[test]
fn a_result_that_is_read_again_is_kept() {
    let program = capture(6, &[0, 1], &[4, 5], || {
        matmul(3, 0, 1);
        apply(Op::tanh, &[square(4), square(3)]);
        matmul(5, 3, 1);
    });
    let after = optimised(&program);
    assert_eq!(names(&after), ["fused[matmul+tanh]", "matmul"]);
    let expected = "b3, b4 = fused[matmul+tanh](b0, b1) { operand 1 = matmul; v0 = operand 1; ";
    assert!(listing(&after).starts_with(expected), "{}", listing(&after));
}

#[test]
fn a_residual_that_the_product_reads_is_not_overwritten() {
    let program = capture(7, &[0, 1], &[6], || {
        apply(Op::tanh, &[square(2), square(0)]);
        matmul(3, 2, 1);
        apply(Op::add, &[square(4), square(3), square(2)]);
        apply(Op::relu, &[square(5), square(4)]);
        matmul(6, 5, 1);
    });
    assert_eq!(names(&optimised(&program)), ["tanh", "fused[matmul+add+relu]", "matmul"]);
}

#[test]
fn a_residual_of_which_nothing_else_is_left_is() {
    let program = capture(8, &[0, 1], &[7], || {
        apply(Op::tanh, &[square(2), square(0)]);
        matmul(3, 0, 1);
        matmul(6, 2, 1);
        apply(Op::tanh, &[square(4), square(3)]);
        apply(Op::mul, &[square(5), square(6), square(2)]);
        apply(Op::add, &[square(7), square(4), square(5)]);
    });
    assert_eq!(names(&optimised(&program)), ["tanh", "matmul", "fused[matmul+tanh+mul+add]"]);
}

#[test]
fn a_result_of_another_type_has_its_own_memory() {
    let half = |block| view(block, DType::BF16, &[SIZE, SIZE], &[SIZE, 1]);
    let program = capture(5, &[0, 1], &[4], || {
        matmul(2, 0, 1);
        apply(Op::relu, &[square(3), square(2)]);
        record::launch(Op::copy.row(), &[half(4), square(3)], &Attrs::default()).unwrap();
    });
    let after = optimised(&program);
    assert_eq!(names(&after), ["fused[matmul+relu+copy]"]);
    assert!(listing(&after).starts_with("b2, b4:bfloat16"), "{}", listing(&after));
}

#[test]
fn what_does_not_follow_the_memory_or_writes_what_is_read_stays() {
    let turned = |block| view(block, DType::F32, &[SIZE, SIZE], &[1, SIZE]);
    let transposes = capture(4, &[0, 1], &[3], || {
        matmul(2, 0, 1);
        apply(Op::relu, &[square(3), turned(2)]);
    });
    assert_eq!(names(&optimised(&transposes)), ["matmul", "relu"]);
    let writes_input = capture(4, &[0, 1], &[2], || {
        matmul(2, 0, 1);
        apply(Op::add, &[square(0), square(0), square(2)]);
    });
    assert_eq!(names(&optimised(&writes_input)), ["matmul", "add"]);
    let writes_result = capture(4, &[0, 1], &[2], || {
        matmul(2, 0, 1);
        apply(Op::relu, &[square(2), square(2)]);
    });
    assert_eq!(names(&optimised(&writes_result)), ["matmul", "relu"]);
    // The second product waits for what the first kernel makes, and the kernel for the second product.
    let waits = capture(7, &[0, 1], &[3, 5], || {
        matmul(2, 0, 1);
        matmul(4, 2, 1);
        apply(Op::tanh, &[square(3), square(2)]);
        apply(Op::add, &[square(5), square(4), square(3)]);
    });
    assert_eq!(names(&optimised(&waits)), ["matmul", "fused[matmul+tanh+add]"]);
}

#[test]
fn a_kernel_of_an_input_that_it_updates_runs_with_the_product() {
    let program = capture(5, &[0, 1, 2], &[4], || {
        matmul(3, 0, 1);
        apply(Op::add, &[square(2), square(2), square(3)]);
        apply(Op::relu, &[square(4), square(2)]);
    });
    let after = optimised(&program);
    assert_eq!(names(&after), ["fused[matmul+add+relu]"]);
    assert!(listing(&after).starts_with("b4, b2, b4 = "), "{}", listing(&after));
}

const PLANES: [i64; 4] = [3, 17, 33, 37];
const LAST: [i64; 4] = [17 * 33 * 37, 1, 17 * 37, 17];
const FIRST: [i64; 4] = [17 * 33 * 37, 33 * 37, 37, 1];

fn images(block: usize, strides: &'static [i64; 4]) -> View<'static> {
    view(block, DType::F32, &PLANES, strides)
}

fn channels(block: usize) -> View<'static> {
    view(block, DType::F32, &[17], &[1])
}

/// Block 1 holds the weights; a bias of each channel.
fn convolve(out: usize, input: usize, strides: &'static [i64; 4], groups: i64, bias: usize) {
    let weight = match groups {
        1 => view(1, DType::F32, &[17, 17, 3, 3], &[153, 9, 3, 1]),
        _ => view(1, DType::F32, &[17, 1, 3, 3], &[9, 9, 3, 1]),
    };
    let attrs = Attrs { ints: &[2, 1, 1, 1, 1, 1, 1, groups], floats: &[] };
    let views = [images(out, strides), images(input, strides), weight, channels(bias)];
    record::launch(Op::conv_forward.row(), &views, &attrs).unwrap();
}

#[test]
fn convolutions_run_what_follows_in_every_layout() {
    for (strides, groups) in [(&FIRST, 1), (&LAST, 1), (&FIRST, 17)] {
        let program = capture(8, &[0, 1, 2, 3], &[7], || {
            let spread = view(2, DType::F32, &PLANES, &[0, 1, 0, 0]);
            convolve(4, 0, strides, groups, 2);
            apply(Op::mul, &[images(5, strides), images(4, strides), spread]);
            apply(Op::add, &[images(6, strides), images(5, strides), images(3, strides)]);
            apply(Op::relu, &[images(7, strides), images(6, strides)]);
        });
        assert_eq!(names(&optimised(&program)), ["fused[conv_forward+mul+add+relu]"]);
    }
}

/// `[output, save_mean, save_invstd, running_mean, running_var, input, weight, bias]`, all parameters in block 3.
fn normalise(out: usize, input: usize, strides: &'static [i64; 4], training: i64) {
    let saved = |at: usize| if training == 1 { channels(at) } else { View::absent() };
    let views = [
        images(out, strides),
        saved(8),
        saved(9),
        channels(2),
        channels(3),
        images(input, strides),
        channels(0),
        channels(1),
    ];
    let attrs = Attrs { ints: &[training], floats: &[0.1, 2.0] };
    record::launch(Op::batch_norm.row(), &views, &attrs).unwrap();
}

#[test]
fn a_batch_norm_joins_what_follows() {
    for strides in [&FIRST, &LAST] {
        for training in [0, 1] {
            let outputs: &[usize] = if training == 1 { &[7, 8, 9] } else { &[7] };
            let program = capture(10, &[0, 1, 2, 3], outputs, || {
                convolve(4, 0, strides, 1, 1);
                normalise(5, 4, strides, training);
                apply(Op::relu, &[images(7, strides), images(5, strides)]);
            });
            let expected: &[&str] = match training {
                0 => &["batch_norm_coefficients", "fused[conv_forward+sub+mul_add+relu]"],
                _ => &["conv_forward", "batch_norm_coefficients", "fused[sub+mul_add+relu]"],
            };
            assert_eq!(names(&optimised(&program)), expected);
        }
    }
}

#[test]
fn a_batch_norm_that_nothing_joins_stays() {
    let program = capture(10, &[0, 1, 2, 3], &[5, 8, 9], || {
        convolve(4, 0, &FIRST, 1, 1);
        normalise(5, 4, &FIRST, 1);
    });
    assert_eq!(names(&optimised(&program)), ["conv_forward", "batch_norm"]);
    let ends = capture(10, &[0, 1, 2, 3], &[5], || {
        convolve(4, 0, &FIRST, 1, 1);
        normalise(5, 4, &FIRST, 0);
    });
    assert_eq!(names(&optimised(&ends)), ["batch_norm_coefficients", "fused[conv_forward+sub+mul_add]"]);
}
