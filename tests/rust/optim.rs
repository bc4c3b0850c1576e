//! Optimizer steps against the textbook formulas in f64.

mod support;

use rustorch_kernels::ops::Op;
use rustorch_kernels::view::View;
use support::{Tensor, assert_close, at_every_level, noise, run};

const SIZES: [&[i64]; 4] = [&[7], &[40_000], &[0], &[13, 11]];

fn tensors(seed: u64, positive: bool) -> Vec<Tensor<f32>> {
    let value = |v: f64| if positive { v.abs() } else { v };
    SIZES.iter().map(|sizes| Tensor::new(sizes, |i| value(noise(seed)(i)) as f32)).collect()
}

/// The last tensor of each list in another layout, so that the operands differ in theirs.
fn hostile(mut list: Vec<Tensor<f32>>) -> Vec<Tensor<f32>> {
    let last = list.pop().unwrap();
    list.push(last.scattered(2));
    list
}

fn flat(list: &[Tensor<f32>]) -> Vec<f64> {
    list.iter().flat_map(Tensor::values).map(f64::from).collect()
}

fn views<'a>(lists: &[&'a [Tensor<f32>]]) -> Vec<View<'a>> {
    lists.iter().flat_map(|list| list.iter().map(Tensor::view)).collect()
}

#[test]
fn sgd() {
    let (lr, dampening, decay) = (0.1, 0.2, 0.01);
    for (momentum, nesterov, first, maximize, scale) in [
        (0.0, false, false, false, 0.0),
        (0.9, false, true, false, 0.0),
        (0.9, false, false, true, 0.0),
        (0.9, true, false, false, 4.0),
    ] {
        let (parameters, grads, buffers) = (tensors(1, false), tensors(2, false), tensors(3, false));
        let step = |p: f64, g: f64, b: f64| {
            let g = if scale == 0.0 { g } else { g / scale } * if maximize { -1.0 } else { 1.0 } + decay * p;
            if momentum == 0.0 {
                return (p - lr * g, b);
            }
            let b = if first { g } else { momentum * b + (1.0 - dampening) * g };
            (p - lr * if nesterov { g + momentum * b } else { b }, b)
        };
        let (p, g, b) = (flat(&parameters), flat(&grads), flat(&buffers));
        let expected: Vec<(f64, f64)> = (0..p.len()).map(|i| step(p[i], g[i], b[i])).collect();
        at_every_level(|_| {
            let (parameters, grads, buffers) = (hostile(parameters.clone()), grads.clone(), buffers.clone());
            let lists: &[&[Tensor<f32>]] =
                if momentum == 0.0 { &[&parameters, &grads] } else { &[&parameters, &buffers, &grads] };
            let ints = [0, nesterov as i64, maximize as i64, first as i64];
            run(Op::fused_sgd, &views(lists), &ints, &[lr, momentum, dampening, decay, scale]).unwrap();
            assert_close(&flat(&parameters), &expected.iter().map(|e| e.0).collect::<Vec<_>>(), 1e-5, 1e-6);
            assert_close(&flat(&buffers), &expected.iter().map(|e| e.1).collect::<Vec<_>>(), 1e-5, 1e-6);
            let unscaled: Vec<f64> = g.iter().map(|g| if scale == 0.0 { *g } else { g / scale }).collect();
            assert_close(&flat(&grads), &unscaled, 1e-6, 0.0);
        });
    }
}

#[test]
fn adam_and_adamw() {
    let (lr, beta1, beta2, eps, decay) = (0.01f64, 0.9f64, 0.99f64, 1e-8, 0.1);
    let steps = [1.0, 5.0, 9.0, 100.0];
    for (amsgrad, decoupled, maximize) in [(false, false, false), (true, false, false), (false, true, true)] {
        let (parameters, grads) = (tensors(1, false), tensors(2, false));
        let (first, second, largest) = (tensors(3, false), tensors(4, true), tensors(5, true));
        let lists = [&parameters, &grads, &first, &second, &largest].map(|list| flat(list));
        let steps_of: Vec<f64> = SIZES
            .iter()
            .zip(steps)
            .flat_map(|(sizes, step)| vec![step; sizes.iter().product::<i64>() as usize])
            .collect();
        let expected: Vec<[f64; 4]> = (0..lists[0].len())
            .map(|i| {
                let [mut p, g, m, v, x] = std::array::from_fn(|list| lists[list][i]);
                let mut g = if maximize { -g } else { g };
                if decoupled {
                    p *= 1.0 - lr * decay
                } else {
                    g += decay * p
                }
                let m = beta1 * m + (1.0 - beta1) * g;
                let v = beta2 * v + (1.0 - beta2) * g * g;
                let x = x.max(v);
                let root = if amsgrad { x } else { v }.sqrt() / (1.0 - beta2.powf(steps_of[i])).sqrt();
                [p - lr / (1.0 - beta1.powf(steps_of[i])) * m / (root + eps), m, v, x]
            })
            .collect();
        at_every_level(|_| {
            let (parameters, grads) = (parameters.clone(), hostile(grads.clone()));
            let (first, second, largest) = (first.clone(), second.clone(), hostile(largest.clone()));
            let mut lists: Vec<&[Tensor<f32>]> = vec![&parameters, &first, &second];
            if amsgrad {
                lists.push(&largest);
            }
            lists.push(&grads);
            let floats = [&[lr, beta1, beta2, decay, eps, 0.0], &steps[..]].concat();
            let ints = [0, amsgrad as i64, maximize as i64, decoupled as i64];
            run(Op::fused_adam, &views(&lists), &ints, &floats).unwrap();
            for (at, list) in [&parameters, &first, &second].into_iter().enumerate() {
                assert_close(&flat(list), &expected.iter().map(|e| e[at]).collect::<Vec<_>>(), 1e-4, 1e-6);
            }
            if amsgrad {
                assert_close(&flat(&largest), &expected.iter().map(|e| e[3]).collect::<Vec<_>>(), 1e-5, 1e-6);
            }
        });
    }
}

#[test]
fn adagrad() {
    let (lr, lr_decay, decay, eps) = (0.1, 0.5, 0.01, 1e-10);
    let steps = [1.0, 2.0, 3.0, 4.0];
    let (parameters, grads, sums) = (tensors(1, false), tensors(2, false), tensors(3, true));
    let (p, g, s) = (flat(&parameters), flat(&grads), flat(&sums));
    let steps_of: Vec<f64> =
        SIZES.iter().zip(steps).flat_map(|(sizes, step)| vec![step; sizes.iter().product::<i64>() as usize]).collect();
    let expected: Vec<f64> = (0..p.len())
        .map(|i| {
            let g = g[i] + decay * p[i];
            p[i] - lr / (1.0 + (steps_of[i] - 1.0) * lr_decay) * g / ((s[i] + g * g).sqrt() + eps)
        })
        .collect();
    at_every_level(|_| {
        let (parameters, sums) = (parameters.clone(), sums.clone());
        let floats = [&[lr, lr_decay, decay, eps, 0.0], &steps[..]].concat();
        run(Op::fused_adagrad, &views(&[&parameters, &sums, &grads]), &[0, 0], &floats).unwrap();
        assert_close(&flat(&parameters), &expected, 1e-5, 1e-6);
    });
}

#[test]
fn steps_do_not_depend_on_the_thread_count() {
    let step = || {
        let (parameters, grads, first, second) =
            (tensors(1, false), tensors(2, false), tensors(3, false), tensors(4, true));
        let floats = [0.1, 0.9, 0.99, 0.0, 1e-8, 0.0, 3.0, 3.0, 3.0, 3.0];
        run(Op::fused_adam, &views(&[&parameters, &first, &second, &grads]), &[0, 0, 0, 0], &floats).unwrap();
        flat(&parameters)
    };
    rustorch_kernels::threads::set_num_threads(1);
    let alone = step();
    rustorch_kernels::threads::set_num_threads(2);
    assert_eq!(step(), alone);
}

#[test]
fn mismatched_lists_are_refused() {
    let (a, b) = (tensors(1, false), tensors(2, false));
    let floats = [0.1, 0.0, 0.0, 0.0, 0.0];
    assert!(run(Op::fused_sgd, &views(&[&a, &b[..3]]), &[0, 0, 0, 0], &floats).is_err());
    let wrong: Vec<Tensor<f32>> = b.iter().rev().cloned().collect();
    assert!(run(Op::fused_sgd, &views(&[&a, &wrong]), &[0, 0, 0, 0], &floats).is_err());
    assert_eq!(flat(&a), flat(&tensors(1, false)));
    let empty: [View<'_>; 0] = [];
    run(Op::fused_sgd, &empty, &[0, 0, 0, 0], &floats).unwrap();
}

#[test]
fn unscaling_finds_overflow() {
    let (found, inverse) = (Tensor::<f32>::zeros(&[1]), Tensor::<f32>::new(&[], |_| 0.5));
    let grads = hostile(tensors(1, false));
    let before = flat(&grads);
    run(Op::amp_unscale, &[views(&[&grads]), vec![found.view(), inverse.view()]].concat(), &[5], &[]).unwrap();
    assert_eq!(found.data[0], 0.0);
    assert_close(&flat(&grads), &before.iter().map(|g| g / 2.0).collect::<Vec<_>>(), 0.0, 0.0);
    for bad in [f32::NAN, f32::INFINITY] {
        let mut grads = tensors(1, false);
        grads[1].data[39_999] = bad;
        let found = Tensor::<f32>::zeros(&[1]);
        run(Op::amp_unscale, &[views(&[&grads]), vec![found.view(), inverse.view()]].concat(), &[5], &[]).unwrap();
        assert_eq!(found.data[0], 1.0);
    }
}

#[test]
fn the_scale_grows_and_backs_off() {
    let (scale, tracker) = (Tensor::<f32>::new(&[], |_| 8.0), Tensor::<i32>::new(&[], |_| 1));
    for (overflow, expected_scale, expected_tracker) in [(0.0, 8.0, 2), (0.0, 16.0, 0), (1.0, 8.0, 0)] {
        let found = Tensor::<f32>::new(&[], |_| overflow);
        run(Op::amp_update_scale, &[scale.view(), tracker.view(), found.view()], &[3], &[2.0, 0.5]).unwrap();
        assert_eq!((scale.data[0], tracker.data[0]), (expected_scale, expected_tracker));
    }
}
