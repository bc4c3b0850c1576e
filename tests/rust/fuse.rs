//! Fusion: which instructions become one kernel, what it stores, and that its bits are those of its parts.

mod captured;

use captured::names;
use captured::view;
use rustorch_graph::program::{Kernel, Program};
use rustorch_graph::{passes, plan, record};
use rustorch_kernels::dtype::DType;
use rustorch_kernels::isa::{self, Level};
use rustorch_kernels::ops::Op;
use rustorch_kernels::profile::{self, Watch};
use rustorch_kernels::view::{Attrs, View};

const ROWS: i64 = 7;
const COLUMNS: i64 = 301;
const BYTES: usize = 8 * (ROWS * COLUMNS) as usize;

fn matrix(block: usize) -> View<'static> {
    view(block, DType::F32, &[ROWS, COLUMNS], &[COLUMNS, 1])
}

fn row(block: usize) -> View<'static> {
    view(block, DType::F32, &[ROWS, COLUMNS], &[0, 1])
}

fn column(block: usize) -> View<'static> {
    view(block, DType::F32, &[ROWS, COLUMNS], &[1, 0])
}

fn flat(block: usize) -> View<'static> {
    view(block, DType::F32, &[ROWS * COLUMNS], &[1])
}

fn apply(op: Op, views: &[View<'static>]) {
    let attrs = Attrs { ints: &[DType::F32 as i64, 1], floats: &[1.0] };
    record::launch(op.row(), views, &attrs).unwrap();
}

fn capture(blocks: usize, inputs: &[usize], outputs: &[usize], body: impl FnOnce()) -> Program {
    captured::begin(blocks, BYTES);
    body();
    captured::finish(inputs, outputs)
}

/// What the inputs and outputs hold after a run, for inputs that depend on their number.
fn execute(program: &Program) -> Vec<Vec<f32>> {
    let count = BYTES / 4;
    let value = |input: usize, at: usize| ((at * (input + 3)) % 17) as f32 / 3.0 - 2.0;
    let inputs: Vec<Vec<f32>> =
        (0..program.inputs).map(|input| (0..count).map(|at| value(input, at)).collect()).collect();
    let outputs = captured::execute(program, &inputs, count).unwrap();
    inputs.into_iter().chain(outputs).collect()
}

/// Fuses, and compares the bits with those of the program as it was, at every level.
fn fused(program: &Program) -> Program {
    let mut plain = program.clone();
    plan::run(&mut plain);
    let mut fused = program.clone();
    passes::fuse::run(&mut fused);
    passes::dead_code::run(&mut fused);
    plan::run(&mut fused);
    for level in Level::available() {
        let (expected, actual) = isa::at(level, || (execute(&plain), execute(&fused)));
        for (expected, actual) in expected.iter().zip(&actual) {
            assert!(expected.iter().zip(actual).all(|(a, b)| a.to_bits() == b.to_bits()), "{}", level.name());
        }
    }
    fused
}

#[test]
fn a_chain_with_broadcasts_is_one_kernel_that_stores_its_result_alone() {
    let program = capture(6, &[0, 1, 2], &[5], || {
        apply(Op::add, &[matrix(3), matrix(0), row(1)]);
        apply(Op::mul, &[matrix(4), matrix(3), column(2)]);
        apply(Op::tanh, &[matrix(5), matrix(4)]);
    });
    let after = fused(&program);
    assert_eq!(names(&after), ["fused[add+mul+tanh]"]);
    assert_eq!(after.intermediate_bytes, 0);
    assert_eq!(
        after.text(),
        "\
b0: 16856 bytes, input 0
b1: 16856 bytes, input 1
b2: 16856 bytes, input 2
b5: 16856 bytes, output 0
b5:float32[7, 301]/[301, 1] = fused[add+mul+tanh](b0:float32[7, 301]/[301, 1], b1:float32[7, 301]/[0, 1], \
b2:float32[7, 301]/[1, 0]) { v0 = operand 1; v1 = operand 2; v2 = add(v0, v1) [1.0]; v3 = operand 3; \
v4 = mul(v2, v3) [1.0]; v5 = tanh(v4) [1.0]; operand 0 = v5 }
arena: 0 bytes
"
    );
}

#[test]
fn a_reshaped_view_is_the_same_elements() {
    let program = capture(4, &[0], &[3], || {
        apply(Op::exp, &[flat(2), flat(0)]);
        apply(Op::sigmoid, &[matrix(3), matrix(2)]);
    });
    assert_eq!(names(&fused(&program)), ["fused[exp+sigmoid]"]);
}

#[test]
fn a_transposed_reader_is_not_fused_with_its_writer() {
    let transposed = |block| view(block, DType::F32, &[COLUMNS, ROWS], &[1, COLUMNS]);
    let dense = |block| view(block, DType::F32, &[COLUMNS, ROWS], &[ROWS, 1]);
    let program = capture(3, &[0], &[2], || {
        apply(Op::exp, &[matrix(1), matrix(0)]);
        apply(Op::neg, &[dense(2), transposed(1)]);
    });
    assert_eq!(names(&fused(&program)), ["exp", "neg"]);
}

#[test]
fn nothing_is_fused_around_an_instruction_in_between() {
    // The sum reads what exp makes, and mul needs the sum.
    let one = |block| view(block, DType::F32, &[1, 1], &[1, 1]);
    let spread = |block| view(block, DType::F32, &[ROWS, COLUMNS], &[0, 0]);
    let program = capture(4, &[0], &[3], || {
        apply(Op::exp, &[matrix(1), matrix(0)]);
        record::launch(Op::sum.row(), &[one(2), matrix(1)], &Attrs { ints: &[], floats: &[] }).unwrap();
        apply(Op::div, &[matrix(3), matrix(1), spread(2)]);
    });
    assert_eq!(names(&fused(&program)), ["exp", "sum", "div"]);
}

#[test]
fn writes_in_place_keep_their_order() {
    // x *= w; y = x + w; x += y: the input is written twice, stored once.
    let program = capture(3, &[0, 1], &[2], || {
        apply(Op::mul, &[matrix(0), matrix(0), matrix(1)]);
        apply(Op::add, &[matrix(2), matrix(0), matrix(1)]);
        apply(Op::add, &[matrix(0), matrix(0), matrix(2)]);
    });
    let mut after = program.clone();
    passes::fuse::run(&mut after);
    assert_eq!(names(&after), ["fused[mul+add+add]"]);
    let Kernel::Fused(kernel) = &after.instructions[0].kernel else { panic!("not fused") };
    assert_eq!(kernel.outputs, 2);
}

#[test]
fn tensors_that_are_swapped_are_read_before_they_are_written() {
    let program = capture(4, &[0, 1], &[3], || {
        let copy = |to, from| {
            record::launch(Op::copy.row(), &[matrix(to), matrix(from)], &Attrs { ints: &[], floats: &[] }).unwrap();
        };
        copy(2, 0);
        copy(0, 1);
        copy(1, 2);
        apply(Op::sub, &[matrix(3), matrix(0), matrix(1)]);
    });
    assert_eq!(names(&fused(&program)), ["fused[copy+copy+copy+sub]"]);
}

#[test]
fn half_types_are_rounded_as_their_tensors_would_be() {
    let half = |block| view(block, DType::BF16, &[ROWS, COLUMNS], &[COLUMNS, 1]);
    let program = capture(4, &[0], &[3], || {
        apply(Op::exp, &[half(1), matrix(0)]);
        apply(Op::sigmoid, &[half(2), half(1)]);
        apply(Op::neg, &[matrix(3), half(2)]);
    });
    assert_eq!(names(&fused(&program)), ["fused[exp+sigmoid+neg]"]);
}

#[test]
fn a_profile_shows_a_fused_kernel_with_the_nodes_that_it_came_from() {
    let program = capture(6, &[0, 1, 2], &[5], || {
        for (label, op, views) in
            [("first", Op::add, [matrix(3), matrix(0), row(1)]), ("second", Op::mul, [matrix(5), matrix(3), column(2)])]
        {
            record::origin(label).unwrap();
            apply(op, &views);
        }
    });
    let mut program = program;
    passes::optimise(&mut program);
    profile::start(Watch::Timeline);
    execute(&program);
    profile::stop(Watch::Timeline);
    let events = profile::take_events();
    // Other tests of this file may run in between.
    let event = events.iter().find(|event| event.kernel.source.as_deref() == Some("first; second")).unwrap();
    assert_eq!(event.kernel.name, "fused[add+mul]");
    assert_eq!(event.totals.flops, 2 * (ROWS * COLUMNS) as u64);
    // A matrix written and one read, a row and a column.
    assert_eq!(event.totals.bytes, 4 * (2 * ROWS * COLUMNS + ROWS + COLUMNS) as u64);
    assert_eq!((event.written.len(), event.read.len()), (1, 3));
}
