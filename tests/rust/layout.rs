//! The memory order of intermediate images: what lies with channels innermost, and that it computes the same.

mod captured;

use captured::{begin, execute, finish, view};
use rustorch_graph::program::Program;
use rustorch_graph::{passes, plan, record};
use rustorch_kernels::dtype::DType;
use rustorch_kernels::ops::Op;
use rustorch_kernels::view::{Attrs, View};

const SIZES: &[i64] = &[2, 8, 6, 6];
const STRIDES: &[i64] = &[288, 36, 6, 1];
const COUNT: usize = 576;

fn image(block: usize) -> View<'static> {
    view(block, DType::F32, SIZES, STRIDES)
}

fn flat(block: usize) -> View<'static> {
    view(block, DType::F32, &[COUNT as i64], &[1])
}

fn convolve(out: usize, input: usize, weight: View<'static>, [padding, groups]: [i64; 2]) {
    let ints = [2, 1, 1, padding, padding, 1, 1, groups];
    let attrs = Attrs { ints: &ints, floats: &[] };
    record::launch(Op::conv_forward.row(), &[image(out), image(input), weight, View::absent()], &attrs).unwrap();
}

fn depthwise(out: usize, input: usize, weight: usize) {
    convolve(out, input, view(weight, DType::F32, &[8, 1, 3, 3], &[9, 9, 3, 1]), [1, 8]);
}

fn one_element(out: usize, input: usize, weight: usize) {
    convolve(out, input, view(weight, DType::F32, &[8, 8, 1, 1], &[8, 1, 1, 1]), [0, 1]);
}

fn full(out: usize, input: usize, weight: usize) {
    convolve(out, input, view(weight, DType::F32, &[8, 8, 3, 3], &[72, 9, 3, 1]), [1, 1]);
}

fn apply(op: Op, views: &[View<'static>]) {
    let attrs = Attrs { ints: &[DType::F32 as i64, 1], floats: &[1.0] };
    record::launch(op.row(), views, &attrs).unwrap();
}

fn mean(out: usize, input: View<'static>) {
    let means = view(out, DType::F32, &[2, 8, 1, 1], &[8, 1, 1, 1]);
    record::launch(Op::mean.row(), &[means, input], &Attrs { ints: &[], floats: &[] }).unwrap();
}

fn listing(program: &Program) -> String {
    let names = [(":float32[2, 8, 6, 6]/[288, 36, 6, 1]", " first"), (":float32[2, 8, 6, 6]/[288, 1, 48, 8]", " last")];
    let text = names.iter().fold(program.text(), |text, (long, short)| text.replace(long, short));
    text.lines().filter(|line| line.contains(" = ")).map(|line| format!("{line}\n")).collect()
}

/// Runs the pass, and holds what the program computes against what it did before.
fn rewritten(before: &Program) -> Program {
    let inputs: Vec<Vec<f32>> = (0..before.inputs)
        .map(|input| (0..COUNT).map(|at| (at * (2 * input + 3) % 19) as f32 / 9.0 - 1.0).collect())
        .collect();
    let run = |program: &Program| {
        let mut program = program.clone();
        plan::run(&mut program);
        execute::<f32>(&program, &inputs, COUNT).unwrap()
    };
    let mut after = before.clone();
    passes::layout::run(&mut after);
    for (one, other) in run(before).iter().flatten().zip(run(&after).iter().flatten()) {
        assert!((one - other).abs() <= 1e-4 * (1.0 + one.abs()), "{one} became {other}");
    }
    after
}

#[test]
fn images_around_depthwise_convolutions_lie_with_channels_innermost() {
    begin(8, COUNT * 4);
    one_element(3, 0, 1);
    apply(Op::relu, &[flat(4), flat(3)]);
    depthwise(5, 4, 2);
    apply(Op::add, &[flat(6), flat(5), flat(4)]);
    mean(7, image(6));
    let before = finish(&[0, 1, 2], &[7]);
    let text = "\
b3 first = conv_forward(b0 first, b1:float32[8, 8, 1, 1]/[8, 1, 1, 1], none) ints [2, 1, 1, 0, 0, 1, 1, 1]
b4:float32[576]/[1] = relu(b3:float32[576]/[1]) ints [6, 1] floats [1.0]
b5 first = conv_forward(b4 first, b2:float32[8, 1, 3, 3]/[9, 9, 3, 1], none) ints [2, 1, 1, 1, 1, 1, 1, 8]
b6:float32[576]/[1] = add(b5:float32[576]/[1], b4:float32[576]/[1]) ints [6, 1] floats [1.0]
b7:float32[2, 8, 1, 1]/[8, 1, 1, 1] = mean(b6 first)
";
    assert_eq!(listing(&before), text);
    let text = "\
b3 last = conv_forward(b0 first, b1:float32[8, 8, 1, 1]/[8, 1, 1, 1], none) ints [2, 1, 1, 0, 0, 1, 1, 1]
b4 last = relu(b3 last) ints [6, 1] floats [1.0]
b5 last = conv_forward(b4 last, b2:float32[8, 1, 3, 3]/[9, 9, 3, 1], none) ints [2, 1, 1, 1, 1, 1, 1, 8]
b6 last = add(b5 last, b4 last) ints [6, 1] floats [1.0]
b7:float32[2, 8, 1, 1]/[8, 1, 1, 1] = mean(b6 last)
";
    assert_eq!(listing(&rewritten(&before)), text);
}

#[test]
fn results_and_arguments_keep_their_order() {
    begin(7, COUNT * 4);
    depthwise(3, 0, 1);
    apply(Op::add, &[flat(4), flat(3), flat(0)]);
    depthwise(5, 4, 1);
    depthwise(6, 5, 1);
    let after = rewritten(&finish(&[0, 1], &[6]));
    let text = "\
b3 last = conv_forward(b0 first, b1:float32[8, 1, 3, 3]/[9, 9, 3, 1], none) ints [2, 1, 1, 1, 1, 1, 1, 8]
b4 last = add(b3 last, b0 first) ints [6, 1] floats [1.0]
b5 last = conv_forward(b4 last, b1:float32[8, 1, 3, 3]/[9, 9, 3, 1], none) ints [2, 1, 1, 1, 1, 1, 1, 8]
b6 first = conv_forward(b5 last, b1:float32[8, 1, 3, 3]/[9, 9, 3, 1], none) ints [2, 1, 1, 1, 1, 1, 1, 8]
";
    let cheap = "\
b3 first = conv_forward(b0 first, b1:float32[8, 1, 3, 3]/[9, 9, 3, 1], none) ints [2, 1, 1, 1, 1, 1, 1, 8]
b4:float32[576]/[1] = add(b3:float32[576]/[1], b0:float32[576]/[1]) ints [6, 1] floats [1.0]
b5 first = conv_forward(b4 first, b1:float32[8, 1, 3, 3]/[9, 9, 3, 1], none) ints [2, 1, 1, 1, 1, 1, 1, 8]
b6 first = conv_forward(b5 first, b1:float32[8, 1, 3, 3]/[9, 9, 3, 1], none) ints [2, 1, 1, 1, 1, 1, 1, 8]
";
    // One depthwise convolution between two that read or write the caller's order does not pay for them.
    assert_eq!(listing(&after), cheap);
    begin(9, COUNT * 4);
    depthwise(3, 0, 1);
    apply(Op::add, &[flat(4), flat(3), flat(0)]);
    for at in 4..7 {
        depthwise(at + 1, at, 1);
    }
    for at in 4..7 {
        depthwise(at, at + 1, 1);
    }
    depthwise(5, 4, 1);
    depthwise(6, 5, 1);
    depthwise(8, 6, 1);
    let after = listing(&rewritten(&finish(&[0, 1], &[8])));
    assert!(after.starts_with(&text[..text.find("b5").unwrap()]), "{after}");
    assert!(after.lines().last().unwrap().starts_with("b8 first = conv_forward(b6 last"), "{after}");
}

#[test]
fn other_convolutions_keep_rows_innermost() {
    begin(7, COUNT * 4);
    full(3, 0, 1);
    depthwise(4, 3, 2);
    full(5, 4, 1);
    mean(6, image(5));
    let before = finish(&[0, 1, 2], &[6]);
    assert_eq!(rewritten(&before).text(), before.text());
}

#[test]
fn an_image_that_is_seen_in_parts_stays() {
    begin(7, COUNT * 4);
    one_element(3, 0, 1);
    depthwise(4, 3, 2);
    depthwise(5, 4, 2);
    depthwise(4, 5, 2);
    let half = view(4, DType::F32, &[2, 4, 6, 6], STRIDES);
    let result = view(6, DType::F32, &[2, 4, 6, 6], &[144, 36, 6, 1]);
    apply(Op::relu, &[result, half]);
    let before = finish(&[0, 1, 2], &[6]);
    let after = listing(&rewritten(&before));
    assert!(!after.contains("b4 last"), "{after}");
}
