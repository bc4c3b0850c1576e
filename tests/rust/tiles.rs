//! Tiles: which instructions run some rows at a time, and that their bits are those of all rows at once.

mod captured;

use captured::names;
use rustorch_graph::program::Program;
use rustorch_graph::{passes, plan, record};
use rustorch_kernels::dtype::DType;
use rustorch_kernels::isa::{self, Level};
use rustorch_kernels::ops::Op;
use rustorch_kernels::view::{Attrs, View};

const ROWS: i64 = 301;
const COLUMNS: i64 = 701;
const COUNT: usize = (ROWS * COLUMNS) as usize;

fn matrix(block: usize) -> View<'static> {
    captured::view(block, DType::F32, &[ROWS, COLUMNS], &[COLUMNS, 1])
}

/// A value a row.
fn column(block: usize) -> View<'static> {
    captured::view(block, DType::F32, &[ROWS, 1], &[1, 1])
}

/// The same, for all of the row's elements.
fn spread(block: usize) -> View<'static> {
    captured::view(block, DType::F32, &[ROWS, COLUMNS], &[1, 0])
}

fn flat(block: usize) -> View<'static> {
    captured::view(block, DType::F32, &[COUNT as i64], &[1])
}

fn apply(op: Op, views: &[View<'static>]) {
    let attrs = Attrs { ints: &[DType::F32 as i64, 1], floats: &[1.0] };
    record::launch(op.row(), views, &attrs).unwrap();
}

fn softmax(out: usize, input: usize) {
    let attrs = Attrs { ints: &[1, 0], floats: &[] };
    record::launch(Op::softmax.row(), &[matrix(out), matrix(input)], &attrs).unwrap();
}

fn capture(blocks: usize, inputs: &[usize], outputs: &[usize], body: impl FnOnce()) -> Program {
    captured::begin(blocks, 4 * COUNT);
    body();
    captured::finish(inputs, outputs)
}

/// What the inputs and outputs hold after a run.
fn execute(program: &Program) -> Vec<u32> {
    captured::bits(program, COUNT, |input, at| ((at * (input + 3)) % 1009) as f32 / 300.0 - 1.7)
}

/// All passes, with the bits of the program as it was, at every level.
fn optimised(program: &Program) -> Program {
    let (mut plain, mut after) = (program.clone(), program.clone());
    plan::run(&mut plain);
    passes::optimise(&mut after);
    for level in Level::available() {
        let (expected, actual) = isa::at(level, || (execute(&plain), execute(&after)));
        assert!(expected == actual, "{:?} at {}", names(&after), level.name());
    }
    after
}

#[test]
fn a_softmax_written_by_hand_runs_in_tiles() {
    let program = capture(8, &[0], &[7], || {
        apply(Op::amax, &[column(1), matrix(0)]);
        apply(Op::sub, &[matrix(2), matrix(0), spread(1)]);
        apply(Op::exp, &[flat(3), flat(2)]);
        apply(Op::sum, &[column(4), matrix(3)]);
        apply(Op::div, &[matrix(7), matrix(3), spread(4)]);
    });
    let after = optimised(&program);
    assert_eq!(names(&after), ["fused[amax+sub+exp+sum+div]"]);
    assert_eq!(after.intermediate_bytes, 0);
    let expected = "\
b0: 844004 bytes, input 0
b7: 844004 bytes, output 0
b7:float32[301, 701]/[701, 1] = fused[amax+sub+exp+sum+div](b0:float32[301, 701]/[701, 1]) \
{ 46 of 301 rows at a time:
    b1:float32[301, 1]/[1, 1] = amax(b0:float32[301, 701]/[701, 1]) ints [6, 1] floats [1.0]
    b3:float32[301, 701]/[701, 1] = fused[sub+exp](b0:float32[301, 701]/[701, 1], b1:float32[301, 701]/[1, 0]) \
{ v0 = operand 1; v1 = operand 2; v2 = sub(v0, v1) [1.0]; v3 = exp(v2) [1.0]; operand 0 = v3 }
    b4:float32[301, 1]/[1, 1] = sum(b3:float32[301, 701]/[701, 1]) ints [6, 1] floats [1.0]
    b7:float32[301, 701]/[701, 1] = fused[div](b3:float32[301, 701]/[701, 1], b4:float32[301, 701]/[1, 0]) \
{ v0 = operand 1; v1 = operand 2; v2 = div(v0, v1) [1.0]; operand 0 = v2 }
}
arena: 0 bytes
";
    assert_eq!(after.text(), expected);
}

#[test]
fn a_reduction_in_a_tile_computes_what_it_reads() {
    // x / sqrt(sum(x * x)): the squares have no memory, not even a tile's.
    let program = capture(5, &[0], &[4], || {
        apply(Op::mul, &[flat(1), flat(0), flat(0)]);
        apply(Op::sum, &[column(2), matrix(1)]);
        apply(Op::sqrt, &[column(3), column(2)]);
        apply(Op::div, &[matrix(4), matrix(0), spread(3)]);
    });
    let after = optimised(&program);
    assert_eq!(names(&after), ["fused[mul+sum+sqrt+div]"]);
    let text = after.text();
    assert!(text.contains("= fused[mul+sum](") && text.contains("; sum of operand 0 }"), "{text}");
    assert!(!text.contains("b1:"), "{text}");
    // What something else reads as well is stored once, and reduced from there.
    let program = capture(5, &[0], &[4], || {
        apply(Op::mul, &[flat(1), flat(0), flat(0)]);
        apply(Op::sum, &[column(2), matrix(1)]);
        apply(Op::div, &[matrix(4), matrix(1), spread(2)]);
    });
    let text = optimised(&program).text();
    assert!(text.contains("= fused[mul](") && text.contains("= sum(b1:"), "{text}");
}

#[test]
fn a_softmax_takes_what_is_computed_before_and_after_into_its_tiles() {
    let program = capture(6, &[0, 1], &[4, 5], || {
        apply(Op::mul, &[flat(2), flat(0), flat(1)]);
        softmax(3, 2);
        apply(Op::sub, &[flat(4), flat(3), flat(1)]);
        apply(Op::neg, &[flat(5), flat(3)]);
    });
    let after = optimised(&program);
    assert_eq!(names(&after), ["fused[mul+softmax+sub+neg]"]);
}

#[test]
fn rows_that_are_written_in_place_stay_in_order() {
    // x -= mean(x); y = x / norm(x); x *= y
    let program = capture(5, &[0], &[4], || {
        apply(Op::mean, &[column(1), matrix(0)]);
        apply(Op::sub, &[matrix(0), matrix(0), spread(1)]);
        record::launch(Op::norm.row(), &[column(2), matrix(0)], &Attrs { ints: &[], floats: &[2.0] }).unwrap();
        apply(Op::div, &[matrix(4), matrix(0), spread(2)]);
        apply(Op::mul, &[matrix(0), matrix(0), matrix(4)]);
    });
    assert_eq!(names(&optimised(&program)), ["fused[mean+sub+norm+div+mul]"]);
}

#[test]
fn what_reads_other_rows_ends_a_tile() {
    // The second reduction is over rows, and what comes after needs it.
    let row = |block| captured::view(block, DType::F32, &[1, COLUMNS], &[COLUMNS, 1]);
    let spread_row = |block| captured::view(block, DType::F32, &[ROWS, COLUMNS], &[0, 1]);
    let program = capture(7, &[0], &[6], || {
        apply(Op::sum, &[column(1), matrix(0)]);
        apply(Op::div, &[matrix(2), matrix(0), spread(1)]);
        apply(Op::sum, &[row(3), matrix(2)]);
        apply(Op::sub, &[matrix(4), matrix(2), spread_row(3)]);
        apply(Op::amax, &[column(5), matrix(4)]);
        apply(Op::sub, &[matrix(6), matrix(4), spread(5)]);
    });
    assert_eq!(names(&optimised(&program)), ["fused[sum+div]", "sum", "fused[sub+amax+sub]"]);
}

#[test]
fn rows_of_another_view_of_the_same_memory_are_not_cut() {
    // The result of a row is written to the next row's first element.
    let shifted = |block: usize| {
        let address = captured::address(block) + 4 * COLUMNS as usize;
        // SAFETY: recording never touches the memory.
        unsafe { View::new(address as *mut u8, DType::F32, &[ROWS - 1, 1], &[COLUMNS, 1]) }
    };
    let upper = |block| captured::view(block, DType::F32, &[ROWS - 1, COLUMNS], &[COLUMNS, 1]);
    let spread = |block| captured::view(block, DType::F32, &[ROWS - 1, COLUMNS], &[1, 0]);
    let kept = |block| captured::view(block, DType::F32, &[ROWS - 1, 1], &[1, 1]);
    let program = capture(5, &[0], &[4], || {
        apply(Op::sum, &[kept(1), upper(0)]);
        apply(Op::neg, &[shifted(0), kept(1)]);
        apply(Op::div, &[upper(4), upper(0), spread(1)]);
    });
    let after = optimised(&program);
    assert!(names(&after).iter().all(|name| !name.contains("sum+")), "{:?}", names(&after));
}
