//! softmax and log_softmax against plain loops.

mod support;

use half::bf16;
use rustorch_kernels::ops::Op;
use support::{Item, Tensor, assert_close, at_every_level, noise, run};

const SHAPES: &[&[i64]] =
    &[&[], &[1], &[5], &[3, 10], &[0, 4], &[4, 0], &[2, 3, 17], &[7, 1000], &[33, 64], &[2, 1031], &[5, 37, 4]];

/// The starts of the lines along `dim`, their length and their step, in C order.
fn lines(sizes: &[i64], dim: usize) -> (Vec<usize>, usize, usize) {
    let length = sizes.get(dim).copied().unwrap_or(1) as usize;
    let inner = sizes.iter().skip(dim + 1).product::<i64>() as usize;
    let numel = sizes.iter().product::<i64>() as usize;
    ((0..numel).filter(|at| (at / inner).is_multiple_of(length)).collect(), length, inner)
}

fn softmax(values: &[f64], sizes: &[i64], dim: usize, log: bool) -> Vec<f64> {
    let mut result = values.to_vec();
    let (starts, length, step) = lines(sizes, dim);
    for start in starts {
        let line: Vec<f64> = (0..length).map(|at| values[start + at * step]).collect();
        let largest = line.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = line.iter().map(|x| (x - largest).exp()).sum();
        for (at, x) in line.iter().enumerate() {
            let shifted = x - largest;
            result[start + at * step] = if log { shifted - sum.ln() } else { shifted.exp() / sum };
        }
    }
    result
}

fn backward(grad: &[f64], output: &[f64], sizes: &[i64], dim: usize, log: bool) -> Vec<f64> {
    let mut result = grad.to_vec();
    let (starts, length, step) = lines(sizes, dim);
    for start in starts {
        let places = || (0..length).map(|at| start + at * step);
        let sum: f64 = places().map(|at| grad[at] * if log { 1.0 } else { output[at] }).sum();
        for at in places() {
            result[at] = if log { grad[at] - output[at].exp() * sum } else { (grad[at] - sum) * output[at] };
        }
    }
    result
}

fn check<T: Item>(from: impl Fn(f64) -> T, to_f64: impl Fn(T) -> f64, tolerance: f64) {
    let all = |tensor: &Tensor<T>| -> Vec<f64> { tensor.values().into_iter().map(&to_f64).collect() };
    for &sizes in SHAPES {
        for (dim, log) in (0..sizes.len().max(1)).flat_map(|dim| [(dim, false), (dim, true)]) {
            let ints = [dim as i64, log as i64];
            let input = Tensor::new(sizes, |i| from(noise(1)(i) * 20.0));
            let expected = softmax(&all(&input), sizes, dim, log);
            let output = Tensor::new(sizes, |i| from(expected[i]));
            let grad = Tensor::new(sizes, |i| from(noise(2)(i)));
            let expected_grad = backward(&all(&grad), &all(&output), sizes, dim, log);
            at_every_level(|_| {
                for (input, grad) in [(input.clone(), grad.scattered(2)), (input.scattered(1), grad.clone())] {
                    for result in [Tensor::zeros(sizes), Tensor::zeros(sizes).scattered(1)] {
                        run(Op::softmax, &[result.view(), input.view()], &ints, &[]).unwrap();
                        assert_close(&all(&result), &expected, tolerance, tolerance);
                        let views = [result.view(), grad.view(), output.view()];
                        run(Op::softmax_backward, &views, &ints, &[]).unwrap();
                        assert_close(&all(&result), &expected_grad, tolerance * 20.0, tolerance * 20.0);
                    }
                }
            });
        }
    }
}

#[test]
fn softmax_f32() {
    check(|x| x as f32, f64::from, 2e-6);
}

#[test]
fn softmax_f64() {
    check(|x| x, |x| x, 1e-13);
}

#[test]
fn softmax_bf16() {
    check(bf16::from_f64, bf16::to_f64, 1e-2);
}

#[test]
fn masked_and_infinite_rows() {
    const LOW: f32 = f32::NEG_INFINITY;
    let input =
        Tensor::new(&[4, 3], |i| [0.0, LOW, 0.0, LOW, LOW, LOW, f32::INFINITY, 0.0, 0.0, f32::NAN, 0.0, 0.0][i]);
    let nan = f64::NAN;
    let low = f64::NEG_INFINITY;
    let half = -(2f64.ln());
    let expected = [0.5, 0.0, 0.5, nan, nan, nan, nan, nan, nan, nan, nan, nan];
    let expected_log = [half, low, half, nan, nan, nan, nan, nan, nan, nan, nan, nan];
    at_every_level(|_| {
        for (log, expected) in [(0, expected), (1, expected_log)] {
            let output = Tensor::<f32>::zeros(&[4, 3]);
            run(Op::softmax, &[output.view(), input.view()], &[1, log], &[]).unwrap();
            let actual: Vec<f64> = output.values().into_iter().map(f64::from).collect();
            assert_close(&actual, &expected, 1e-6, 0.0);
        }
    });
}

#[test]
fn long_rows_in_place() {
    let sizes = [2, 50257];
    let input = Tensor::new(&sizes, |i| (noise(7)(i) * 5.0) as f32);
    let values: Vec<f64> = input.values().into_iter().map(f64::from).collect();
    for log in [false, true] {
        let output = input.clone();
        run(Op::softmax, &[output.view(), output.view()], &[1, log as i64], &[]).unwrap();
        let actual: Vec<f64> = output.values().into_iter().map(f64::from).collect();
        assert_close(&actual, &softmax(&values, &sizes, 1, log), 1e-6, 0.0);
    }
}

#[test]
fn half_inputs_with_float_outputs() {
    let input = Tensor::new(&[3, 50], |i| bf16::from_f64(noise(1)(i)));
    let values: Vec<f64> = input.values().into_iter().map(f64::from).collect();
    let output = Tensor::<f32>::zeros(&[3, 50]);
    run(Op::softmax, &[output.view(), input.view()], &[1, 0], &[]).unwrap();
    let actual: Vec<f64> = output.values().into_iter().map(f64::from).collect();
    assert_close(&actual, &softmax(&values, &[3, 50], 1, false), 1e-6, 0.0);
}

#[test]
fn mismatches_are_refused() {
    let input = Tensor::<f32>::zeros(&[4, 5]);
    let (wide, integer) = (Tensor::<f32>::zeros(&[4, 6]), Tensor::<i32>::zeros(&[4, 5]));
    assert!(run(Op::softmax, &[wide.view(), input.view()], &[1, 0], &[]).is_err());
    assert!(run(Op::softmax, &[input.view(), integer.view()], &[1, 0], &[]).is_err());
    assert!(run(Op::softmax, &[input.view(), input.view()], &[2, 0], &[]).is_err());
}
