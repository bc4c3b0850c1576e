//! Distances against plain loops, and their gradients against finite differences.

mod support;

use rustorch_kernels::ops::Op;
use support::{Tensor, assert_close, at_every_level, noise, run};

const NORMS: [f64; 6] = [0.0, 0.8, 1.0, 2.0, 3.5, f64::INFINITY];

fn distance(a: &[f64], b: &[f64], p: f64) -> f64 {
    let sizes = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    if p == 0.0 {
        sizes.filter(|&size| size != 0.0).count() as f64
    } else if p.is_infinite() {
        sizes.fold(0.0, f64::max)
    } else {
        sizes.map(|size| size.powf(p)).sum::<f64>().powf(1.0 / p)
    }
}

fn made(sizes: &[i64], seed: u64) -> Tensor<f64> {
    Tensor::new(sizes, |at| noise(seed)(at))
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn of_two_tensors() {
    for [batch, rows, others, width] in [[1, 1, 1, 1], [2, 3, 4, 5], [1, 4, 3, 37], [2, 0, 3, 4], [1, 2, 2, 0]] {
        let (a, b) = (made(&[batch, rows, width], 1), made(&[batch, others, width], 2));
        let grad = made(&[batch, rows, others], 3);
        for p in NORMS {
            let all = |a: &[f64]| -> Vec<f64> {
                let (rows, others, width) = (rows as usize, others as usize, width as usize);
                let line = |values: &[f64], at: usize| values[at * width..][..width].to_vec();
                (0..batch as usize * rows * others)
                    .map(|i| {
                        let (pair, other) = (i / others, i % others);
                        distance(&line(a, pair), &line(&b.values(), pair / rows * others + other), p)
                    })
                    .collect()
            };
            let expected = all(&a.values());
            let moved = |at: usize, step: f64| {
                let mut values = a.values();
                values[at] += step;
                dot(&all(&values), &grad.values())
            };
            let slopes: Vec<f64> = (0..a.data.len()).map(|at| (moved(at, 1e-7) - moved(at, -1e-7)) / 2e-7).collect();
            at_every_level(|_| {
                for (a, b) in [(a.clone(), b.clone()), (a.scattered(2), b.scattered(3))] {
                    let out = Tensor::zeros(&[batch, rows, others]).scattered(1);
                    run(Op::cdist, &[out.view(), a.view(), b.view()], &[], &[p]).unwrap();
                    assert_close(&out.values(), &expected, 1e-10, 1e-12);
                    let grad_a = Tensor::zeros(&[batch, rows, width]).scattered(2);
                    let views = [grad_a.view(), grad.view(), a.view(), b.view(), out.view()];
                    run(Op::cdist_backward, &views, &[], &[p]).unwrap();
                    assert_close(&grad_a.values(), &slopes, 1e-4, 1e-5);
                }
            });
        }
    }
}

#[test]
fn of_pairs() {
    let (input, grad) = (made(&[1, 5, 19], 1), made(&[10], 2));
    for p in NORMS {
        let all = |values: &[f64]| -> Vec<f64> {
            let line = |row: usize| &values[row * 19..][..19];
            (0..5).flat_map(|a| (a + 1..5).map(move |b| (a, b))).map(|(a, b)| distance(line(a), line(b), p)).collect()
        };
        let expected = all(&input.values());
        let moved = |at: usize, step: f64| {
            let mut values = input.values();
            values[at] += step;
            dot(&all(&values), &grad.values())
        };
        let slopes: Vec<f64> = (0..95).map(|at| (moved(at, 1e-7) - moved(at, -1e-7)) / 2e-7).collect();
        at_every_level(|_| {
            for input in [input.clone(), input.scattered(2)] {
                let out = Tensor::zeros(&[10]);
                run(Op::pdist, &[out.view(), input.view()], &[], &[p]).unwrap();
                assert_close(&out.values(), &expected, 1e-10, 1e-12);
                let grad_input = Tensor::zeros(&[1, 5, 19]);
                let views = [grad_input.view(), grad.view(), input.view(), out.view()];
                run(Op::pdist_backward, &views, &[], &[p]).unwrap();
                assert_close(&grad_input.values(), &slopes, 1e-4, 1e-5);
            }
        });
    }
    let out = Tensor::<f64>::zeros(&[9]);
    assert!(run(Op::pdist, &[out.view(), input.view()], &[], &[2.0]).is_err());
    assert!(run(Op::pdist, &[Tensor::<f64>::zeros(&[10]).view(), input.view()], &[], &[-1.0]).is_err());
}

#[test]
fn of_what_is_no_number() {
    let rows = |first: f64| Tensor::new(&[1, 1, 20], move |at| if at == 17 { first } else { at as f64 });
    let (plain, infinite, none) = (rows(3.0), rows(f64::INFINITY), rows(f64::NAN));
    for p in NORMS {
        at_every_level(|_| {
            for (a, b) in [(&infinite, &plain), (&plain, &infinite), (&none, &plain), (&infinite, &infinite)] {
                let (a_has, b_has) = (a.values()[17], b.values()[17]);
                let is_none = (a_has - b_has).is_nan();
                let out = Tensor::<f64>::zeros(&[1, 1, 1]);
                run(Op::cdist, &[out.view(), a.view(), b.view()], &[], &[p]).unwrap();
                let expected = match p {
                    // The largest of those that are numbers: the CPU's comparisons pass over the others.
                    f64::INFINITY if is_none => 0.0,
                    _ if is_none => f64::NAN,
                    0.0 => 1.0,
                    _ => f64::INFINITY,
                };
                let distance: f64 = out.values()[0];
                assert!(distance == expected || distance.is_nan() && expected.is_nan(), "{p}: {distance}");
                let pair = Tensor::new(&[1, 2, 20], |at| if at < 20 { a.data[at] } else { b.data[at - 20] });
                let out = Tensor::<f64>::zeros(&[1]);
                run(Op::pdist, &[out.view(), pair.view()], &[], &[p]).unwrap();
                assert_eq!(out.values()[0].is_nan(), is_none, "{p}");
            }
        });
    }
}
