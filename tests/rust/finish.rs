//! What products and convolutions tell of their results: each element once, when it is final.

mod support;

use std::sync::atomic::{AtomicU32, Ordering};

use half::bf16;
use rustorch_kernels::finish::{self, Finish};
use rustorch_kernels::ops::{OPS, Op};
use rustorch_kernels::reduce::Runs;
use rustorch_kernels::threads;
use rustorch_kernels::view::Attrs;
use support::{Item, Tensor, at_every_level, noise, run};

/// Keeps what elements hold when they are told of, and overwrites them: so who touches them again, is seen.
struct Listener<T> {
    memory: *mut T,
    told: Vec<AtomicU32>,
    kept: *mut T,
    mark: T,
}

// SAFETY: elements are told of once, which `told` counts.
unsafe impl<T> Sync for Listener<T> {}

impl<T: Item> Finish for Listener<T> {
    unsafe fn finish(&self, runs: Runs) {
        for run in 0..runs.count {
            for at in 0..runs.length {
                let at = runs.start + run * runs.step + at;
                self.told[at].fetch_add(1, Ordering::Relaxed);
                // SAFETY: indexing `told` has checked the place; all three are as long.
                unsafe {
                    *self.kept.add(at) = *self.memory.add(at);
                    *self.memory.add(at) = self.mark;
                }
            }
        }
    }

    fn nanoseconds(&self) -> usize {
        1 << 20
    }
}

trait Value: Item {
    fn from(value: f64) -> Self;
}
macro_rules! values {
    ($($type:ty: $from:expr),*) => {$(impl Value for $type {
        fn from(value: f64) -> Self { $from(value) }
    })*};
}
values!(f32: |v| v as f32, f64: |v| v, bf16: bf16::from_f64, i32: |v: f64| (v * 100.0) as i32);

fn tensor<T: Value>(sizes: &[i64], seed: u64) -> Tensor<T> {
    let mut noise = noise(seed);
    Tensor::new(sizes, |index| T::from(noise(index)))
}

/// A dense tensor whose memory has the dimensions in this order, outermost first.
fn ordered<T: Value>(sizes: &[i64], order: &[usize]) -> Tensor<T> {
    let mut tensor = Tensor::<T>::zeros(sizes);
    let mut stride = 1;
    for &dim in order.iter().rev() {
        tensor.strides[dim] = stride;
        stride *= sizes[dim].max(1);
    }
    tensor
}

fn check<T: Value>(op: Op, out: &Tensor<T>, inputs: &[&Tensor<T>], ints: &[i64], floats: &[f64]) {
    let launch = finish::row(op.row()).expect("a row that tells");
    let (expected, actual) = (out.clone(), out.clone());
    let [plain, telling] = [&expected, &actual]
        .map(|out| std::iter::once(out).chain(inputs.iter().copied()).map(|tensor| tensor.view()).collect::<Vec<_>>());
    run(op, &plain, ints, floats).unwrap();
    let kept = vec![T::default(); out.data.len()];
    let listener = Listener {
        memory: actual.data.as_ptr().cast_mut(),
        told: out.data.iter().map(|_| AtomicU32::new(0)).collect(),
        kept: kept.as_ptr().cast_mut(),
        mark: T::from(77.0),
    };
    launch(&telling, &Attrs { ints, floats }, Some(&listener)).unwrap();
    let what = format!("{op:?} of {:?} to {:?}/{:?}", inputs[0].sizes, out.sizes, out.strides);
    assert!(listener.told.iter().all(|told| told.load(Ordering::Relaxed) == 1), "{what}: each once");
    assert!(kept == expected.data, "{what}: final values");
    assert!(actual.data.iter().all(|&value| value == listener.mark), "{what}: touched later");
}

fn everywhere(body: impl Fn()) {
    at_every_level(|_| body());
    threads::set_num_threads(5);
    body();
}

fn check_products<T: Value>(m: i64, n: i64, k: i64) {
    let (a, b, input) = (tensor::<T>(&[m, k], 1), tensor::<T>(&[k, n], 2), tensor::<T>(&[m, n], 3));
    let bias = tensor::<T>(&[n], 4).expanded(&[m, n]);
    for order in [[0, 1], [1, 0]] {
        let out = ordered::<T>(&[m, n], &order);
        check(Op::matmul, &out, &[&a, &b], &[], &[]);
        check(Op::addmm, &out, &[&input, &a, &b], &[3, 2], &[3.0, 2.0]);
        check(Op::addmm, &out, &[&bias, &a, &b], &[1, 1], &[1.0, 1.0]);
    }
}

#[test]
fn products() {
    let shapes = [(1, 1, 1), (5, 7, 3), (1, 2053, 300), (2053, 1, 300), (64, 512, 131), (197, 193, 67), (31, 1031, 9)];
    everywhere(|| {
        for (m, n, k) in shapes.into_iter().chain([(0, 3, 2), (3, 0, 2), (17, 3, 0)]) {
            check_products::<f32>(m, n, k);
            check_products::<bf16>(m, n, k);
            check_products::<i32>(m, n, k);
        }
        check_products::<f64>(67, 129, 33);
    });
}

#[test]
fn batches_of_products() {
    everywhere(|| {
        for (batch, m, n, k) in [(1, 5, 3, 2), (301, 3, 5, 2), (7, 65, 97, 31), (64, 1, 48, 20), (0, 2, 2, 2)] {
            let (a, b) = (tensor::<f32>(&[batch, m, k], 1), tensor::<f32>(&[batch, k, n], 2));
            let input = tensor::<f32>(&[batch, m, n], 3);
            for order in [[0, 1, 2], [1, 0, 2], [0, 2, 1], [1, 2, 0], [2, 1, 0]] {
                let out = ordered::<f32>(&[batch, m, n], &order);
                check(Op::batch_matmul, &out, &[&a, &b], &[], &[]);
                check(Op::addmm, &out, &[&input, &a, &b], &[1, 1], &[1.0, 0.5]);
            }
        }
    });
}

/// Images, channels in and out, groups; then each spatial dimension's input, kernel, stride, padding, dilation.
fn check_convolution<T: Value>([images, inputs, outputs, groups]: [i64; 4], spatial: &[[i64; 5]]) {
    let of = |at: usize| spatial.iter().map(move |dim| dim[at]);
    let ints: Vec<i64> =
        [spatial.len() as i64].into_iter().chain(of(2)).chain(of(3)).chain(of(4)).chain([groups]).collect();
    let sized = |outer: [i64; 2], inner: Vec<i64>| [&outer[..], &inner].concat();
    let size = |dim: &[i64; 5]| (dim[0] + 2 * dim[3] - dim[4] * (dim[1] - 1) - 1) / dim[2] + 1;
    let input = tensor::<T>(&sized([images, inputs], of(0).collect()), 1);
    let weight = tensor::<T>(&sized([outputs, inputs / groups], of(1).collect()), 2);
    let grad = tensor::<T>(&sized([images, outputs], spatial.iter().map(size).collect()), 3);
    let (bias, input_bias) = (tensor::<T>(&[outputs], 4), tensor::<T>(&[inputs], 5));
    let last: Vec<usize> = std::iter::once(0).chain(2..2 + spatial.len()).chain([1]).collect();
    let first: Vec<usize> = (0..2 + spatial.len()).collect();
    let backwards: Vec<usize> = first.iter().rev().copied().collect();
    for order in [first, last, backwards] {
        check(Op::conv_forward, &ordered::<T>(&grad.sizes, &order), &[&input, &weight, &bias], &ints, &[]);
        check(Op::conv_input_grad, &ordered::<T>(&input.sizes, &order), &[&grad, &weight, &input_bias], &ints, &[]);
    }
}

#[test]
fn convolutions() {
    everywhere(|| {
        check_convolution::<f32>([1, 1, 1, 1], &[[1, 1, 1, 0, 1]]);
        // Large planes, cut into parts; planes with gaps between rows; a padded and an exact source.
        check_convolution::<f32>([1, 3, 67, 1], &[[61, 3, 1, 1, 1], [53, 3, 1, 1, 1]]);
        check_convolution::<f32>([2, 5, 64, 1], &[[40, 1, 1, 0, 1], [64, 1, 1, 0, 1]]);
        check_convolution::<f32>([3, 4, 18, 2], &[[29, 3, 2, 1, 1], [31, 5, 2, 2, 1]]);
        // Small planes: images turned inwards, channels as lanes.
        check_convolution::<f32>([37, 16, 24, 1], &[[7, 3, 1, 1, 1], [7, 3, 1, 1, 1]]);
        check_convolution::<f32>([5, 33, 130, 1], &[[4, 3, 2, 1, 1], [5, 3, 1, 1, 1]]);
        // One channel a group; dilation; one and three dimensions; half types.
        check_convolution::<f32>([2, 13, 13, 13], &[[28, 3, 1, 1, 1], [28, 3, 1, 1, 1]]);
        check_convolution::<f32>([3, 9, 9, 9], &[[15, 5, 2, 2, 1], [17, 3, 2, 1, 1]]);
        check_convolution::<f32>([2, 6, 8, 2], &[[33, 3, 1, 2, 2], [30, 2, 1, 0, 3]]);
        check_convolution::<f64>([4, 3, 10, 1], &[[301, 9, 4, 1, 1]]);
        check_convolution::<f32>([2, 3, 6, 1], &[[5, 2, 1, 1, 1], [6, 3, 2, 1, 1], [9, 3, 1, 1, 1]]);
        check_convolution::<bf16>([2, 3, 9, 1], &[[19, 3, 1, 1, 1], [23, 3, 2, 1, 1]]);
        check_convolution::<f32>([0, 3, 4, 1], &[[8, 3, 1, 1, 1], [8, 3, 1, 1, 1]]);
    });
}

#[test]
fn others_do_not_tell_and_gaps_are_refused() {
    let telling = OPS.iter().filter(|row| finish::row(row).is_some()).map(|row| row.name);
    let expected = ["matmul", "batch_matmul", "addmm", "conv_forward", "conv_input_grad"];
    assert_eq!(telling.collect::<Vec<_>>(), expected);
    let (a, out) = (tensor::<f32>(&[3, 3], 1), tensor::<f32>(&[3, 3], 2).scattered(2));
    let listener =
        Listener { memory: std::ptr::null_mut::<f32>(), told: Vec::new(), kept: std::ptr::null_mut(), mark: 0.0 };
    let launch = finish::row(Op::matmul.row()).unwrap();
    launch(&[out.view(), a.view(), a.view()], &Attrs::default(), Some(&listener)).unwrap_err();
}
