//! The passes one by one: the text of a program before and after each.

mod captured;

use captured::{begin, execute, finish, view};
use rustorch_graph::program::Program;
use rustorch_graph::{passes, plan, record};
use rustorch_kernels::dtype::DType;
use rustorch_kernels::ops::Op;
use rustorch_kernels::view::{Attrs, View};

const COUNT: i64 = 100;
const BYTES: usize = 4 * COUNT as usize;

fn vector(block: usize) -> View<'static> {
    view(block, DType::F32, &[COUNT], &[1])
}

fn apply(op: Op, out: usize, inputs: &[usize], alpha: f64) {
    let views: Vec<_> = std::iter::once(out).chain(inputs.iter().copied()).map(vector).collect();
    record::launch(op.row(), &views, &Attrs { ints: &[DType::F32 as i64, 1], floats: &[alpha] }).unwrap();
}

fn fill(out: usize, value: f64) {
    record::launch(Op::fill.row(), &[vector(out)], &Attrs { ints: &[0], floats: &[value, 0.0] }).unwrap();
}

/// The instructions alone, with the dtype and sizes that all share left out.
fn listing(program: &Program) -> String {
    let text = program.text().replace(":float32[100]/[1]", "").replace(":float32[100]/[0]", " everywhere");
    text.lines().filter(|line| line.contains(" = ")).map(|line| format!("{line}\n")).collect()
}

/// Runs a pass, and compares what the program computes before and after.
fn rewritten(program: &Program, pass: fn(&mut Program)) -> Program {
    let inputs: Vec<Vec<f32>> = (0..program.inputs)
        .map(|input| (0..COUNT).map(|at| (at * (2 * input as i64 + 1) % 17) as f32 / 3.0 - 2.0).collect())
        .collect();
    let run = |mut program: Program| {
        plan::run(&mut program);
        let mut inputs = inputs.clone();
        let outputs: Vec<Vec<f32>> = execute(&program, &inputs, COUNT as usize).unwrap();
        inputs.extend(outputs);
        inputs.iter().flatten().map(|value| value.to_bits()).collect::<Vec<_>>()
    };
    let mut after = program.clone();
    pass(&mut after);
    assert_eq!(run(program.clone()), run(after.clone()));
    after
}

#[test]
fn a_result_that_was_computed_before_is_read_again() {
    begin(7, BYTES);
    apply(Op::add, 2, &[0, 1], 1.0);
    apply(Op::add, 3, &[0, 1], 1.0);
    apply(Op::tanh, 4, &[2], 1.0);
    apply(Op::tanh, 5, &[3], 1.0);
    apply(Op::mul, 6, &[4, 5], 1.0);
    let after = rewritten(&finish(&[0, 1], &[6]), passes::common::run);
    let expected = "\
b2 = add(b0, b1) ints [6, 1] floats [1.0]
b4 = tanh(b2) ints [6, 1] floats [1.0]
b6 = mul(b4, b4) ints [6, 1] floats [1.0]
";
    assert_eq!(listing(&after), expected);
}

#[test]
fn results_that_differ_or_are_needed_twice_stay() {
    begin(7, BYTES);
    apply(Op::add, 2, &[0, 1], 1.0);
    apply(Op::add, 3, &[0, 1], 2.0); // Another attribute.
    apply(Op::add, 4, &[0, 1], 1.0); // A result of the caller's.
    apply(Op::neg, 0, &[0], 1.0); // Writes what the others read.
    apply(Op::add, 5, &[0, 1], 1.0);
    apply(Op::neg, 2, &[2], 1.0); // Writes the earlier result.
    apply(Op::mul, 6, &[2, 3], 1.0);
    apply(Op::mul, 6, &[6, 5], 1.0);
    let before = finish(&[0, 1], &[4, 6]);
    let mut after = before.clone();
    passes::common::run(&mut after);
    assert_eq!(after.text(), before.text());
}

#[test]
fn a_fill_that_pointwise_steps_read_becomes_a_number() {
    begin(6, BYTES);
    fill(1, 3.0);
    fill(2, 0.5);
    apply(Op::mul, 3, &[1, 2], 1.0); // Known as well.
    apply(Op::add, 4, &[0, 3], 2.0);
    let before = finish(&[0], &[4]);
    let after = rewritten(&before, |program| {
        passes::constants::run(program);
        passes::dead_code::run(program);
    });
    assert_eq!(listing(&after), "b4 = add(b0, b8 everywhere) ints [6, 1] floats [2.0]\n");
}

#[test]
fn a_fill_that_is_written_again_stays() {
    begin(4, BYTES);
    fill(1, 3.0);
    apply(Op::add, 1, &[1, 0], 1.0);
    apply(Op::mul, 2, &[0, 1], 1.0);
    let before = finish(&[0], &[2]);
    let mut after = before.clone();
    passes::constants::run(&mut after);
    assert_eq!(listing(&after), listing(&before));
}

#[test]
fn a_result_takes_the_memory_of_what_dies() {
    begin(5, BYTES);
    apply(Op::add, 2, &[0, 1], 1.0);
    apply(Op::tanh, 3, &[2], 1.0);
    apply(Op::mul, 4, &[3, 0], 1.0);
    let after = rewritten(&finish(&[0, 1], &[4]), passes::in_place::run);
    let expected = "\
b2 = add(b0, b1) ints [6, 1] floats [1.0]
b2 = tanh(b2) ints [6, 1] floats [1.0]
b4 = mul(b2, b0) ints [6, 1] floats [1.0]
";
    assert_eq!(listing(&after), expected);
}

#[test]
fn a_result_that_is_copied_to_an_input_is_written_there() {
    let copy = |to: View<'static>, from: View<'static>| {
        record::launch(Op::copy.row(), &[to, from], &Attrs { ints: &[], floats: &[] }).unwrap();
    };
    begin(5, BYTES);
    apply(Op::mul, 2, &[0, 1], 1.0);
    apply(Op::tanh, 3, &[2], 1.0);
    // Of their bits, as the device copies.
    let bits = |block| view(block, DType::I32, &[COUNT], &[1]);
    copy(bits(0), bits(2));
    apply(Op::add, 4, &[3, 2], 1.0);
    let after = rewritten(&finish(&[0, 1], &[4]), passes::in_place::run);
    let expected = "\
b0 = mul(b0, b1) ints [6, 1] floats [1.0]
b3 = tanh(b0) ints [6, 1] floats [1.0]
b4 = add(b3, b0) ints [6, 1] floats [1.0]
";
    assert_eq!(listing(&after), expected);

    // The old value is read after the new one is there; the new one after the input has another; it lies the other
    // way round; or the result is the caller's, too.
    let kept: [&dyn Fn(); 3] = [
        &|| {
            apply(Op::mul, 2, &[0, 1], 1.0);
            apply(Op::add, 4, &[0, 2], 1.0);
            copy(vector(0), vector(2));
        },
        &|| {
            apply(Op::mul, 2, &[0, 1], 1.0);
            copy(vector(0), vector(2));
            apply(Op::neg, 0, &[1], 1.0);
            apply(Op::add, 4, &[0, 2], 1.0);
        },
        &|| {
            apply(Op::mul, 4, &[0, 1], 1.0);
            copy(vector(0), vector(4));
        },
    ];
    for launches in kept {
        begin(5, BYTES);
        launches();
        let before = finish(&[0, 1], &[4]);
        let after = rewritten(&before, passes::in_place::run);
        assert_eq!(after.instructions.len(), before.instructions.len(), "{}", listing(&after));
    }
    const SIDE: i64 = 10;
    let square = |block, strides| view(block, DType::F32, &[SIDE, SIDE], strides);
    begin(5, BYTES);
    let attrs = Attrs { ints: &[DType::F32 as i64, 1], floats: &[1.0] };
    let row = &[SIDE, 1];
    record::launch(Op::mul.row(), &[square(2, row), square(0, row), square(1, row)], &attrs).unwrap();
    copy(square(0, &[1, SIDE]), square(2, row));
    let after = rewritten(&finish(&[0, 1], &[]), passes::in_place::run);
    assert_eq!(after.instructions.len(), 2, "{}", listing(&after));
}

#[test]
fn what_is_stored_on_the_way_to_a_reduction_takes_the_memory_of_what_dies() {
    begin(6, BYTES);
    apply(Op::tanh, 2, &[0], 1.0);
    apply(Op::mul, 3, &[2, 1], 1.0);
    let sum = view(4, DType::F32, &[1], &[1]);
    record::launch(Op::sum.row(), &[sum, vector(3)], &Attrs { ints: &[], floats: &[] }).unwrap();
    apply(Op::mul, 5, &[3, 0], 1.0);
    let after = rewritten(&finish(&[0, 1], &[4, 5]), |program| {
        passes::reductions::run(program);
        passes::in_place::run(program);
    });
    let expected = "\
b2 = tanh(b0) ints [6, 1] floats [1.0]
b4:float32[1]/[1], b2 = fused[mul+sum](b2, b1) { v0 = operand 1; v1 = operand 2; v2 = mul(v0, v1) [1.0]; \
operand 0 = v2; sum of operand 0 }
b5 = mul(b2, b0) ints [6, 1] floats [1.0]
";
    assert_eq!(listing(&after), expected);
}

#[test]
fn a_fused_kernel_that_reads_on_is_right_in_place() {
    let one = |block| view(block, DType::F32, &[1], &[1]);
    let spread = |block| view(block, DType::F32, &[COUNT], &[0]);
    let add = |out, input, sum| {
        let attrs = Attrs { ints: &[DType::F32 as i64, 1], floats: &[1.0] };
        record::launch(Op::add.row(), &[vector(out), vector(input), spread(sum)], &attrs).unwrap();
    };
    let sum = |out, input| {
        record::launch(Op::sum.row(), &[one(out), vector(input)], &Attrs { ints: &[], floats: &[] }).unwrap();
    };
    begin(8, BYTES);
    apply(Op::tanh, 2, &[0], 1.0);
    sum(3, 2);
    add(4, 2, 3);
    apply(Op::mul, 5, &[4, 2], 1.0); // Reads what its kernel has a new value in the place of.
    sum(6, 4);
    add(7, 5, 6);
    let program = finish(&[0, 1], &[7]);
    let mut after = rewritten(&program, |program| {
        passes::fuse::run(program);
        passes::in_place::run(program);
    });
    let expected = "\
b2 = tanh(b0) ints [6, 1] floats [1.0]
b3:float32[1]/[1] = sum(b2)
b2, b5 = fused[add+mul](b2, b3 everywhere) { v0 = operand 2; v1 = operand 3; v2 = add(v0, v1) [1.0]; \
v3 = mul(v2, v0) [1.0]; operand 0 = v2; operand 1 = v3 }
b6:float32[1]/[1] = sum(b2)
b7 = add(b5, b6 everywhere) ints [6, 1] floats [1.0]
";
    assert_eq!(listing(&after), expected);
    plan::run(&mut after);
    let mut without_reuse = program;
    passes::fuse::run(&mut without_reuse);
    plan::run(&mut without_reuse);
    assert!(after.intermediate_bytes < without_reuse.intermediate_bytes, "{}", after.intermediate_bytes);
}
