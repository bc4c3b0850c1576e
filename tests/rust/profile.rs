//! Profiles: what is counted, when, and for whom.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use rustorch_kernels::dtype::DType;
use rustorch_kernels::ops::{self, Op};
use rustorch_kernels::profile::{self, Kernel, Totals, Watch};
use rustorch_kernels::view::{Attrs, View};

/// Profiles are the process's: the tests take turns.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// What a kernel's totals grew by.
fn taken(before: &HashMap<Kernel, Totals>, name: &str) -> Totals {
    let of = |totals: &HashMap<Kernel, Totals>| {
        let mut found = totals.iter().filter(|(kernel, _)| kernel.name == name).map(|(_, &totals)| totals);
        found.next().unwrap_or_default()
    };
    let (then, now) = (of(before), of(&profile::totals()));
    Totals {
        calls: now.calls - then.calls,
        nanoseconds: now.nanoseconds - then.nanoseconds,
        bytes: now.bytes - then.bytes,
        flops: now.flops - then.flops,
    }
}

struct Dense {
    data: Vec<f32>,
    sizes: Vec<i64>,
    strides: Vec<i64>,
}

fn dense(sizes: &[i64]) -> Dense {
    let mut strides = vec![1; sizes.len()];
    for dim in (1..sizes.len()).rev() {
        strides[dim - 1] = strides[dim] * sizes[dim];
    }
    Dense { data: vec![0.5; sizes.iter().product::<i64>() as usize], sizes: sizes.to_vec(), strides }
}

impl Dense {
    fn view(&mut self) -> View<'_> {
        // SAFETY: the memory is as long as the sizes say.
        unsafe { View::new(self.data.as_mut_ptr().cast(), DType::F32, &self.sizes, &self.strides) }
    }
}

/// Launches an op on fresh dense operands of these sizes (an empty list: absent).
fn launch(op: Op, operands: &[&[i64]], ints: &[i64], floats: &[f64]) -> Result<(), rustorch_kernels::error::Error> {
    let mut tensors: Vec<Dense> = operands.iter().map(|sizes| dense(sizes)).collect();
    let views: Vec<View<'_>> =
        tensors.iter_mut().map(|tensor| if tensor.sizes.is_empty() { View::absent() } else { tensor.view() }).collect();
    ops::launch(op.row(), &views, &Attrs { ints, floats })
}

/// The totals of one launch.
fn counted(op: Op, operands: &[&[i64]], ints: &[i64], floats: &[f64]) -> Totals {
    let _turn = turn();
    let before = profile::totals();
    profile::start(Watch::Totals);
    let done = launch(op, operands, ints, floats);
    profile::stop(Watch::Totals);
    done.unwrap();
    taken(&before, op.row().name)
}

fn pointwise_ints() -> [i64; 2] {
    [DType::F32 as i64, 1]
}

#[test]
fn a_pointwise_op_counts_its_elements_and_the_bytes_of_its_operands() {
    let totals = counted(Op::add, &[&[7, 13], &[7, 13], &[7, 13]], &pointwise_ints(), &[1.0]);
    assert_eq!((totals.calls, totals.flops, totals.bytes), (1, 7 * 13, 3 * 7 * 13 * 4));
    assert!(totals.nanoseconds > 0);
}

#[test]
fn a_repeated_element_counts_once() {
    let _turn = turn();
    let before = profile::totals();
    let mut out = dense(&[5, 11]);
    let mut row = dense(&[11]);
    let (sizes, strides) = ([5, 11], [0, 1]);
    profile::start(Watch::Totals);
    // SAFETY: a stride of zero repeats the row.
    let repeated = unsafe { View::new(row.data.as_mut_ptr().cast(), DType::F32, &sizes, &strides) };
    let attrs = Attrs { ints: &pointwise_ints(), floats: &[1.0] };
    ops::launch(Op::mul.row(), &[out.view(), repeated, repeated], &attrs).unwrap();
    profile::stop(Watch::Totals);
    assert_eq!(taken(&before, "mul").bytes, (5 * 11 + 11 + 11) * 4);
}

#[test]
fn products_count_two_a_term() {
    assert_eq!(counted(Op::matmul, &[&[5, 7], &[5, 3], &[3, 7]], &[], &[]).flops, 2 * 5 * 7 * 3);
    let batch = counted(Op::batch_matmul, &[&[4, 5, 7], &[4, 5, 3], &[4, 3, 7]], &[], &[]);
    assert_eq!(batch.flops, 2 * 4 * 5 * 7 * 3);
    let addmm = counted(Op::addmm, &[&[5, 7], &[5, 7], &[5, 3], &[3, 7]], &[1, 1], &[1.0, 1.0]);
    assert_eq!(addmm.flops, 2 * 5 * 7 * 3);
    assert_eq!(counted(Op::matmul, &[&[0, 7], &[0, 3], &[3, 7]], &[], &[]).flops, 0);
}

#[test]
fn a_convolution_counts_the_same_in_its_three_directions() {
    // 2 images, 4 to 6 channels in 2 groups, 5x5 by 3x3.
    let ints = [2, 1, 1, 0, 0, 1, 1, 2];
    let (image, weight, output): (&[i64], &[i64], &[i64]) = (&[2, 4, 5, 5], &[6, 2, 3, 3], &[2, 6, 3, 3]);
    let expected = 2 * (2 * 6 * 3 * 3) * (2 * 3 * 3);
    assert_eq!(counted(Op::conv_forward, &[output, image, weight, &[6]], &ints, &[]).flops, expected);
    assert_eq!(counted(Op::conv_input_grad, &[image, output, weight, &[4]], &ints, &[]).flops, expected);
    assert_eq!(counted(Op::conv_weight_grad, &[weight, image, output], &ints, &[]).flops, expected);
}

#[test]
fn attention_counts_the_pairs_that_it_looks_at() {
    let (batch, heads, queries, keys, width) = (2, 3, 5, 4, 8);
    let query: &[i64] = &[batch, heads, queries, width];
    let key: &[i64] = &[batch, heads, keys, width];
    let operands: [&[i64]; 6] = [query, &[batch, heads, queries], query, key, key, &[]];
    let count = |causal| counted(Op::attention, &operands, &[0, 0, causal], &[0.3]).flops;
    let pair = 2 * (width + width) * batch * heads;
    assert_eq!(count(0), (pair * queries * keys) as u64);
    assert_eq!(count(1), (pair * (1 + 2 + 3 + 4 + 4)) as u64);
}

#[test]
fn movers_count_no_arithmetic_and_reductions_each_element() {
    let copy = counted(Op::copy, &[&[9, 3], &[9, 3]], &[], &[]);
    assert_eq!((copy.flops, copy.bytes), (0, 2 * 27 * 4));
    assert_eq!(counted(Op::sum, &[&[9, 1], &[9, 3]], &[], &[]).flops, 27);
}

#[test]
fn nothing_is_counted_when_no_one_watches_or_a_launch_is_refused() {
    let _turn = turn();
    let before = profile::totals();
    assert!(!profile::is_on());
    launch(Op::matmul, &[&[2, 2], &[2, 2], &[2, 2]], &[], &[]).unwrap();
    profile::start(Watch::Totals);
    assert!(launch(Op::matmul, &[&[2, 2], &[2, 3], &[2, 2]], &[], &[]).is_err());
    profile::stop(Watch::Totals);
    assert_eq!(taken(&before, "matmul").calls, 0);
    // An end too many is no harm.
    profile::stop(Watch::Totals);
    assert!(!profile::is_on());
}

#[test]
fn a_timeline_has_each_launch_with_its_shapes_thread_and_correlation() {
    let _turn = turn();
    profile::take_events();
    profile::start(Watch::Timeline);
    let run = |correlation| {
        profile::push_correlation(correlation);
        launch(Op::matmul, &[&[5, 7], &[5, 3], &[3, 7]], &[], &[]).unwrap();
        profile::pop_correlation();
    };
    run(11);
    std::thread::spawn(move || run(12)).join().unwrap();
    profile::stop(Watch::Timeline);
    let events = profile::take_events();
    assert_eq!(events.iter().map(|event| event.correlation).collect::<Vec<_>>(), [11, 12]);
    assert_ne!(events[0].thread, events[1].thread);
    assert!(events[0].start + events[0].totals.nanoseconds <= events[1].start);
    for event in &events {
        assert_eq!((event.kernel.name.as_ref(), event.totals.flops), ("matmul", 2 * 5 * 7 * 3));
        let sizes = |shapes: &[profile::Shape]| shapes.iter().map(|shape| shape.sizes.clone()).collect::<Vec<_>>();
        assert_eq!(sizes(&event.written), [[5, 7]]);
        assert_eq!(sizes(&event.read), [[5, 3], [3, 7]]);
        assert_eq!(event.read[0].dtype, DType::F32);
    }
    assert!(profile::take_events().is_empty());
}

#[test]
fn watches_overlap() {
    let _turn = turn();
    profile::start(Watch::Totals);
    profile::start(Watch::Totals);
    profile::start(Watch::Timeline);
    profile::stop(Watch::Totals);
    assert!(profile::is_on());
    profile::stop(Watch::Timeline);
    let before = profile::totals();
    launch(Op::matmul, &[&[2, 2], &[2, 2], &[2, 2]], &[], &[]).unwrap();
    assert_eq!(taken(&before, "matmul").calls, 1);
    profile::stop(Watch::Totals);
    assert!(!profile::is_on());
}

#[test]
fn the_roof_is_above_what_a_plain_loop_does() {
    let roof = profile::roofline::roofline();
    // Any machine of this century: a GFLOP/s and a GB/s; and no machine a thousand times that a thread.
    assert!(roof.flops > 1e8 && roof.flops < 1e15, "{roof:?}");
    assert!(roof.bytes > 1e8 && roof.bytes < 1e13, "{roof:?}");
}

#[test]
#[ignore = "for counting the instructions of a small op with no one watching: docs/profiling.md"]
fn small_launches() {
    let [mut out, mut a, mut b] = [(); 3].map(|()| dense(&[10]));
    let views = [out.view(), a.view(), b.view()];
    for _ in 0..10_000 {
        ops::launch(Op::add.row(), &views, &Attrs { ints: &pointwise_ints(), floats: &[1.0] }).unwrap();
    }
}
