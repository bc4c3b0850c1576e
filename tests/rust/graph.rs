//! Capture, passes, plan and runner, without torch: launches over announced addresses.

mod captured;

use captured::{begin, execute, finish, view};
use rustorch_graph::program::{Place, Program};
use rustorch_graph::{explain, passes, plan, record};
use rustorch_kernels::dtype::DType;
use rustorch_kernels::error::Error;
use rustorch_kernels::ops::Op;
use rustorch_kernels::view::{Attrs, View};

const F32: i64 = DType::F32 as i64;
const COUNT: i64 = 1000;
const BYTES: usize = 4 * COUNT as usize;

fn vector(block: usize) -> View<'static> {
    view(block, DType::F32, &[COUNT], &[1])
}

fn add(out: usize, a: usize, b: usize) {
    let attrs = Attrs { ints: &[F32, 1], floats: &[1.0] };
    record::launch(Op::add.row(), &[vector(out), vector(a), vector(b)], &attrs).unwrap();
}

/// out = ((a + b) + b) + a through two intermediates, with one dead instruction.
fn chain() -> Program {
    begin(6, BYTES);
    record::origin("chain").unwrap();
    add(2, 0, 1);
    add(3, 2, 1);
    add(5, 0, 0);
    add(4, 3, 0);
    finish(&[0, 1], &[4])
}

#[test]
fn a_captured_chain_runs() {
    let mut program = chain();
    passes::optimise(&mut program);
    let a: Vec<f32> = (0..COUNT).map(|i| i as f32).collect();
    let b: Vec<f32> = (0..COUNT).map(|i| 0.5 * i as f32).collect();
    let outputs = execute(&program, &[&a, &b], COUNT as usize).unwrap();
    for i in 0..COUNT as usize {
        assert_eq!(outputs[0][i], ((a[i] + b[i]) + b[i]) + a[i]);
    }
}

#[test]
fn dead_code_goes_and_the_arena_is_shared() {
    let mut program = chain();
    assert_eq!(program.instructions.len(), 4);
    passes::dead_code::run(&mut program);
    plan::run(&mut program);
    assert_eq!(program.instructions.len(), 3);
    assert_eq!(program.buffers[5].place, Place::Dead);
    // Buffers 2 and 3 are alive together during the second instruction only.
    assert!(program.arena_bytes <= 2 * (BYTES + 64), "{}", program.arena_bytes);
}

#[test]
fn the_text_of_a_program_is_stable() {
    let mut program = chain();
    passes::dead_code::run(&mut program);
    plan::run(&mut program);
    let expected = "\
b0: 4000 bytes, input 0
b1: 4000 bytes, input 1
b2: 4000 bytes, arena 0
b3: 4000 bytes, arena 4032
b4: 4000 bytes, output 0
b2:float32[1000]/[1] = add(b0:float32[1000]/[1], b1:float32[1000]/[1]) ints [6, 1] floats [1.0]
b3:float32[1000]/[1] = add(b2:float32[1000]/[1], b1:float32[1000]/[1]) ints [6, 1] floats [1.0]
b4:float32[1000]/[1] = add(b3:float32[1000]/[1], b0:float32[1000]/[1]) ints [6, 1] floats [1.0]
arena: 8064 bytes
";
    assert_eq!(program.text(), expected);
}

#[test]
fn totals_count_what_kernels_move() {
    let mut program = chain();
    assert_eq!(explain::totals(&program), explain::Totals { instructions: 4, moved: 12 * BYTES });
    passes::optimise(&mut program);
    let after = explain::totals(&program);
    assert_eq!(after.instructions, 1);
    assert!(after.moved < 6 * BYTES, "{after:?}");
    // A column that a broadcast repeats is read once a row.
    begin(3, BYTES);
    let column = view(0, DType::F32, &[10, 100], &[1, 0]);
    let [out, wide] = [2, 1].map(|block| view(block, DType::F32, &[10, 100], &[100, 1]));
    record::launch(Op::add.row(), &[out, column, wide], &Attrs { ints: &[F32, 1], floats: &[1.0] }).unwrap();
    assert_eq!(explain::totals(&finish(&[0, 1], &[2])).moved, 4 * 10 + 2 * BYTES);
}

#[test]
fn the_drawing_of_a_program_is_stable() {
    let mut program = chain();
    passes::dead_code::run(&mut program);
    let expected = "  \
  pb0 [label=\"input 0\\n4000 bytes\", shape=ellipse];
  pb1 [label=\"input 1\\n4000 bytes\", shape=ellipse];
  pi0 [label=\"add\\nfloat32[1000]\", tooltip=\"chain\"];
  pb0 -> pi0 [label=\"4000 B\"];
  pb1 -> pi0 [label=\"4000 B\"];
  pi1 [label=\"add\\nfloat32[1000]\", tooltip=\"chain\"];
  pi0 -> pi1 [label=\"4000 B\"];
  pb1 -> pi1 [label=\"4000 B\"];
  pi2 [label=\"add\\nfloat32[1000]\", tooltip=\"chain\"];
  pi1 -> pi2 [label=\"4000 B\"];
  pb0 -> pi2 [label=\"4000 B\"];
  pb4 [label=\"output 0\\n4000 bytes\", shape=ellipse];
  pi2 -> pb4;
";
    assert_eq!(explain::dot(&program, "p"), expected);
}

#[test]
fn a_view_beyond_its_storage_is_refused() {
    begin(1, BYTES);
    let long = view(0, DType::F32, &[COUNT + 1], &[1]);
    let refused = record::launch(Op::add.row(), &[long, long, long], &Attrs { ints: &[F32, 1], floats: &[1.0] });
    record::abandon();
    assert!(matches!(refused, Err(Error::Runtime(_))));
}

#[test]
fn a_wrapped_number_becomes_a_constant() {
    begin(2, BYTES);
    {
        let number = 2.5f32;
        // SAFETY: a live value, broadcast by a zero stride.
        let number =
            unsafe { View::new(std::ptr::from_ref(&number).cast::<u8>().cast_mut(), DType::F32, &[COUNT], &[0]) };
        record::launch(Op::add.row(), &[vector(1), vector(0), number], &Attrs { ints: &[F32, 1], floats: &[1.0] })
            .unwrap();
    }
    let mut program = finish(&[0], &[1]);
    passes::optimise(&mut program);
    let input = vec![1.0f32; COUNT as usize];
    let outputs = execute(&program, &[&input], COUNT as usize).unwrap();
    assert!(outputs[0].iter().all(|&value| value == 3.5));
}

#[test]
fn an_error_names_the_node() {
    begin(3, BYTES);
    record::origin("model.py:12 in forward").unwrap();
    let attrs = Attrs { ints: &[DType::C64 as i64, 1], floats: &[1.0] };
    record::launch(Op::add.row(), &[vector(2), vector(0), vector(1)], &attrs).unwrap();
    let program = finish(&[0, 1], &[2]);
    let input = vec![1.0f32; COUNT as usize];
    let error = execute(&program, &[&input, &input], COUNT as usize).unwrap_err();
    assert!(error.to_string().contains("model.py:12 in forward"), "{error}");
}
