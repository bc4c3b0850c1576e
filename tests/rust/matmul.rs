//! Matrix products against plain loops, over layouts, dtypes and odd sizes.

mod support;

use half::{bf16, f16};
use rustorch_kernels::error::{Error, Kind};
use rustorch_kernels::ops::Op;
use support::{Item, Tensor, assert_close, at_every_level, noise, run};

trait Number: Item {
    fn from(value: f64) -> Self;
    fn to(self) -> f64;
}
macro_rules! numbers {
    ($($type:ty: $from:expr, $to:expr);*) => {$(impl Number for $type {
        fn from(value: f64) -> Self { $from(value) }
        fn to(self) -> f64 { $to(self) }
    })*};
}
numbers!(
    f32: |v| v as f32, |v| v as f64; f64: |v| v, |v| v; bf16: bf16::from_f64, bf16::to_f64; f16: f16::from_f64, f16::to_f64;
    i64: |v: f64| (v * 100.0) as i64, |v| v as f64; i32: |v: f64| (v * 100.0) as i32, |v| v as f64
);

fn tensor<T: Number>(sizes: &[i64], seed: u64) -> Tensor<T> {
    let mut noise = noise(seed);
    Tensor::new(sizes, |index| T::from(noise(index)))
}

fn doubles<T: Number>(tensor: &Tensor<T>) -> Vec<f64> {
    tensor.values().into_iter().map(T::to).collect()
}

fn product(a: &[f64], b: &[f64], m: usize, n: usize, k: usize) -> Vec<f64> {
    let mut out = vec![0.0; m * n];
    for row in 0..m {
        for depth in 0..k {
            for col in 0..n {
                out[row * n + col] += a[row * k + depth] * b[depth * n + col];
            }
        }
    }
    out
}

/// The layouts of a matrix: dense, transposed, spread by two strides, and a broken mix.
fn layouts<T: Number>(dense: &Tensor<T>) -> Vec<Tensor<T>> {
    let [rows, cols] = dense.sizes[..] else { panic!("a matrix") };
    let mut turned = Tensor::<T>::zeros(&[cols, rows]).transposed(0, 1);
    turned.assign(&dense.values());
    vec![dense.clone(), turned, dense.scattered(1), dense.scattered(3)]
}

fn check<T: Number>(m: i64, n: i64, k: i64, tolerance: f64) {
    let a = tensor::<T>(&[m, k], 1);
    let b = tensor::<T>(&[k, n], 2);
    let input = tensor::<T>(&[m, n], 3);
    let expected = product(&doubles(&a), &doubles(&b), m as usize, n as usize, k as usize);
    let scaled: Vec<f64> = expected.iter().zip(doubles(&input)).map(|(sum, input)| 3.0 * input + 2.0 * sum).collect();
    at_every_level(|_| {
        for a in layouts(&a) {
            for b in layouts(&b) {
                for out in layouts(&Tensor::<T>::zeros(&[m, n])) {
                    run(Op::matmul, &[out.view(), a.view(), b.view()], &[], &[]).unwrap();
                    assert_close(&doubles(&out), &expected, tolerance, tolerance);
                    run(Op::addmm, &[out.view(), input.view(), a.view(), b.view()], &[3, 2], &[3.0, 2.0]).unwrap();
                    assert_close(&doubles(&out), &scaled, tolerance, tolerance * 4.0);
                }
            }
        }
    });
}

#[test]
fn every_dtype_and_layout() {
    for (m, n, k) in
        [(1, 1, 1), (5, 7, 3), (1, 37, 19), (41, 1, 67), (17, 33, 13), (2, 97, 131), (3, 61, 270), (29, 50, 300)]
    {
        check::<f32>(m, n, k, 1e-5);
        check::<f64>(m, n, k, 1e-12);
        check::<bf16>(m, n, k, 2e-2);
        check::<f16>(m, n, k, 2e-3);
        check::<i64>(m, n, k, 0.0);
        check::<i32>(m, n, k, 0.0);
    }
}

#[test]
fn products_of_many_cells_and_outer_products() {
    let outer = [(512, 512, 1), (701, 1031, 1), (13, 3, 1), (67, 259, 8)];
    for (m, n, k) in [(193, 257, 131), (1, 1031, 300), (1031, 1, 300), (9, 2050, 700), (5, 66, 1100), (90, 13, 1030)]
        .into_iter()
        .chain(outer)
    {
        let a = tensor::<f32>(&[m, k], 1);
        let b = tensor::<f32>(&[k, n], 2);
        let expected = product(&doubles(&a), &doubles(&b), m as usize, n as usize, k as usize);
        at_every_level(|_| {
            for a in layouts(&a) {
                for b in layouts(&b) {
                    let out = Tensor::<f32>::zeros(&[m, n]);
                    run(Op::matmul, &[out.view(), a.view(), b.view()], &[], &[]).unwrap();
                    assert_close(&doubles(&out), &expected, 1e-4, 1e-4);
                }
            }
        });
    }
}

#[test]
fn small_integers_wrap() {
    let a = Tensor::<i8>::new(&[3, 200], |index| index as i8);
    let b = Tensor::<i8>::new(&[200, 5], |index| (index * 7) as i8);
    let mut expected = vec![0i8; 15];
    for row in 0..3 {
        for col in 0..5 {
            for depth in 0..200 {
                let term = a.data[row * 200 + depth].wrapping_mul(b.data[depth * 5 + col]);
                expected[row * 5 + col] = expected[row * 5 + col].wrapping_add(term);
            }
        }
    }
    at_every_level(|_| {
        let out = Tensor::<i8>::zeros(&[3, 5]);
        run(Op::matmul, &[out.view(), a.view(), b.view()], &[], &[]).unwrap();
        assert_eq!(out.values(), expected);
    });
}

#[test]
fn batches_with_broadcast_operands() {
    for (batch, m, n, k) in [(0, 2, 3, 4), (1, 2, 3, 4), (7, 6, 5, 9), (33, 16, 20, 12), (3, 1, 40, 50)] {
        let a = tensor::<f32>(&[batch, m, k], 1);
        let b = tensor::<f32>(&[k, n], 2);
        let shared = b.clone().expanded(&[batch, k, n]);
        let mut expected = Vec::new();
        for values in doubles(&a).chunks((m * k) as usize) {
            expected.extend(product(values, &doubles(&b), m as usize, n as usize, k as usize));
        }
        at_every_level(|_| {
            for a in [a.clone(), a.scattered(2)] {
                for b in [shared.clone(), b.scattered(2).expanded(&[batch, k, n])] {
                    for out in [Tensor::<f32>::zeros(&[batch, m, n]), Tensor::zeros(&[batch, m, n]).scattered(2)] {
                        run(Op::batch_matmul, &[out.view(), a.view(), b.view()], &[], &[]).unwrap();
                        assert_close(&doubles(&out), &expected, 1e-5, 1e-5);
                    }
                }
            }
        });
    }
}

#[test]
fn addmm_broadcasts_its_input_and_ignores_it_at_beta_zero() {
    let a = tensor::<f32>(&[6, 11], 1);
    let b = tensor::<f32>(&[11, 5], 2);
    let sums = product(&doubles(&a), &doubles(&b), 6, 5, 11);
    at_every_level(|_| {
        for input in [
            tensor::<f32>(&[5], 3).expanded(&[6, 5]),
            tensor::<f32>(&[6, 1], 4).expanded(&[6, 5]),
            tensor::<f32>(&[], 5).expanded(&[6, 5]),
        ] {
            let out = Tensor::<f32>::zeros(&[6, 5]);
            run(Op::addmm, &[out.view(), input.view(), a.view(), b.view()], &[1, 1], &[1.0, 1.0]).unwrap();
            let expected: Vec<f64> = sums.iter().zip(doubles(&input)).map(|(sum, input)| sum + input).collect();
            assert_close(&doubles(&out), &expected, 1e-5, 1e-5);
        }
        let poison = Tensor::new(&[6, 5], |_| f32::NAN);
        let out = poison.clone();
        run(Op::addmm, &[out.view(), poison.view(), a.view(), b.view()], &[0, 1], &[0.0, 1.0]).unwrap();
        assert_close(&doubles(&out), &sums, 1e-5, 1e-5);
        let poisoned = Tensor::<f32>::zeros(&[6, 5]);
        run(Op::addmm, &[poisoned.view(), poison.view(), a.view(), b.view()], &[1, 1], &[1.0, 1.0]).unwrap();
        assert!(poisoned.values().iter().all(|value| value.is_nan()));
    });
}

#[test]
fn addmm_in_place_and_over_no_depth() {
    at_every_level(|_| {
        let a = tensor::<bf16>(&[4, 9], 1);
        let b = tensor::<bf16>(&[9, 3], 2);
        let out = tensor::<bf16>(&[4, 3], 3);
        let before = doubles(&out);
        run(Op::addmm, &[out.view(), out.view(), a.view(), b.view()], &[2, 1], &[2.0, 1.0]).unwrap();
        let sums = product(&doubles(&a), &doubles(&b), 4, 3, 9);
        let expected: Vec<f64> = sums.iter().zip(&before).map(|(sum, before)| sum + 2.0 * before).collect();
        assert_close(&doubles(&out), &expected, 1e-2, 1e-2);

        let (a, b) = (Tensor::<f32>::zeros(&[4, 0]), Tensor::<f32>::zeros(&[0, 3]));
        let out = tensor::<f32>(&[4, 3], 5);
        let before = doubles(&out);
        run(Op::addmm, &[out.view(), out.view(), a.view(), b.view()], &[2, 1], &[2.0, 1.0]).unwrap();
        assert_close(&doubles(&out), &before.iter().map(|value| 2.0 * value).collect::<Vec<_>>(), 0.0, 0.0);
        run(Op::matmul, &[out.view(), a.view(), b.view()], &[], &[]).unwrap();
        assert_eq!(out.values(), [0.0; 12]);
    });
}

#[test]
fn nan_and_infinity_reach_their_rows_only() {
    at_every_level(|_| {
        let mut a = tensor::<f32>(&[3, 40], 1);
        a.data[45] = f32::NAN;
        let b = tensor::<f32>(&[40, 50], 2);
        let out = Tensor::<f32>::zeros(&[3, 50]);
        run(Op::matmul, &[out.view(), a.view(), b.view()], &[], &[]).unwrap();
        for (index, value) in out.values().into_iter().enumerate() {
            assert_eq!(value.is_nan(), index / 50 == 1, "element {index}");
        }
    });
}

#[test]
fn results_do_not_depend_on_the_thread_count() {
    let a = tensor::<f32>(&[300, 500], 1);
    let b = tensor::<f32>(&[500, 400], 2);
    let of = |threads| {
        rustorch_kernels::threads::set_num_threads(threads);
        let out = Tensor::<f32>::zeros(&[300, 400]);
        run(Op::matmul, &[out.view(), a.view(), b.view()], &[], &[]).unwrap();
        out.values()
    };
    assert_eq!(of(1), of(2));
}

#[test]
fn mismatches_are_refused() {
    let a = Tensor::<f32>::zeros(&[2, 3]);
    let b = Tensor::<f32>::zeros(&[4, 5]);
    let out = Tensor::<f32>::zeros(&[2, 5]);
    let refused = run(Op::matmul, &[out.view(), a.view(), b.view()], &[], &[]).unwrap_err();
    assert_eq!(refused.kind(), Kind::Runtime);
    assert!(refused.to_string().contains("expected b of shape [3, 5]"), "{refused}");
    let other = Tensor::<f64>::zeros(&[3, 5]);
    assert!(run(Op::matmul, &[out.view(), a.view(), other.view()], &[], &[]).is_err());
    let [out, flags] = [0, 1].map(|_| Tensor::<support::Flag>::zeros(&[1, 1]));
    let refused = run(Op::matmul, &[out.view(), flags.view(), flags.view()], &[], &[]).unwrap_err();
    assert!(matches!(refused, Error::In { .. }) && refused.kind() == Kind::NotImplemented);
}

#[test]
fn large_products_of_every_layout() {
    let (m, n, k) = (75, 205, 300);
    let (a, b) = (tensor::<f64>(&[m, k], 1), tensor::<f64>(&[k, n], 2));
    let input = tensor::<f64>(&[m, n], 3);
    let sums = product(&doubles(&a), &doubles(&b), m as usize, n as usize, k as usize);
    let expected: Vec<f64> = sums.iter().zip(doubles(&input)).map(|(sum, input)| 0.5 * input + 2.0 * sum).collect();
    at_every_level(|_| {
        for a in layouts(&a) {
            for b in layouts(&b) {
                for out in layouts(&Tensor::<f64>::zeros(&[m, n])) {
                    run(Op::addmm, &[out.view(), input.view(), a.view(), b.view()], &[0, 2], &[0.5, 2.0]).unwrap();
                    assert_close(&doubles(&out), &expected, 1e-12, 1e-11);
                }
            }
        }
    });
}
