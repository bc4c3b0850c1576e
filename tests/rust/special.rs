//! The special functions against what defines them: integrals, derivatives, recurrences, inverses.

mod support;

use std::f64::consts::PI;

use rustorch_kernels::dtype::DType;
use rustorch_kernels::ops::Op;
use rustorch_kernels::view::View;
use support::{Tensor, assert_close, at_every_level, run};

/// A row over f64 columns. Every level gives the same bits, and f32 the same value, rounded.
#[track_caller]
fn column(op: Op, inputs: &[&[f64]], floats: &[f64]) -> Vec<f64> {
    let sizes = [inputs[0].len() as i64];
    let tensors: Vec<Tensor<f64>> = inputs.iter().map(|input| Tensor::new(&sizes, |i| input[i])).collect();
    let first = std::cell::RefCell::new(None::<Vec<f64>>);
    at_every_level(|_| {
        let out = Tensor::<f64>::zeros(&sizes);
        let views: Vec<View> = std::iter::once(&out).chain(&tensors).map(Tensor::view).collect();
        run(op, &views, &[DType::F64 as i64, 0], floats).unwrap();
        let values = out.values();
        let mut first = first.borrow_mut();
        let known = first.get_or_insert_with(|| values.clone());
        assert!(values.iter().zip(known.iter()).all(|(a, b)| a.to_bits() == b.to_bits()), "{op:?}");

        let narrow: Vec<Tensor<f32>> = inputs.iter().map(|input| Tensor::new(&sizes, |i| input[i] as f32)).collect();
        let out = Tensor::<f32>::zeros(&sizes);
        let views: Vec<View> = std::iter::once(&out).chain(&narrow).map(Tensor::view).collect();
        run(op, &views, &[DType::F32 as i64, 0], floats).unwrap();
        let rounded: Vec<Tensor<f64>> = narrow.iter().map(|t| Tensor::new(&sizes, |i| f64::from(t.data[i]))).collect();
        let exact = Tensor::<f64>::zeros(&sizes);
        let views: Vec<View> = std::iter::once(&exact).chain(&rounded).map(Tensor::view).collect();
        run(op, &views, &[DType::F64 as i64, 0], floats).unwrap();
        let of_rounded: Vec<f64> = exact.values().iter().map(|&value| f64::from(value as f32)).collect();
        let narrow: Vec<f64> = out.values().into_iter().map(f64::from).collect();
        // The reflection of trigamma is done in f32.
        let relative = if op == Op::polygamma { 1e-5 } else { 0.0 };
        assert_close(&narrow, &of_rounded, relative, 0.0);
    });
    first.into_inner().unwrap()
}

/// The integral by Simpson's rule.
fn integral(from: f64, to: f64, f: impl Fn(f64) -> f64) -> f64 {
    const STEPS: usize = 20_000;
    let width = (to - from) / STEPS as f64;
    let weight = |i: usize| if i == 0 || i == STEPS { 1.0 } else { 2.0 + 2.0 * (i % 2) as f64 };
    (0..=STEPS).map(|i| weight(i) * f(from + width * i as f64)).sum::<f64>() * width / 3.0
}

const POINTS: [f64; 12] = [-7.3, -2.5, -0.4, 0.01, 0.3, 0.5, 1.0, 1.5, 3.0, 9.7, 10.0, 123.4];

#[test]
fn digamma_and_its_derivatives() {
    let next: Vec<f64> = POINTS.iter().map(|x| x + 1.0).collect();
    // Each step adds one term, which near zero is nearly all of the value before it.
    for order in 0..5 {
        let op = |x: &[f64]| column(Op::polygamma, &[x], &[order as f64]);
        let (at, after) = (op(&POINTS), op(&next));
        let factorial: f64 = (1..=order).map(f64::from).product();
        let term = |x: f64| if order % 2 == 0 { 1.0 } else { -1.0 } * factorial / x.powi(order + 1);
        let expected: Vec<f64> = after.iter().zip(POINTS).map(|(y, x)| y - term(x)).collect();
        assert_close(&at, &expected, 1e-8, 1e-8);
    }
    assert_close(&column(Op::digamma, &[&POINTS], &[]), &column(Op::polygamma, &[&POINTS], &[0.0]), 0.0, 0.0);
    assert_close(&column(Op::digamma, &[&[1.0, 0.5]], &[]), &[-0.5772156649015329, -1.9635100260214235], 1e-14, 0.0);
    assert_close(&column(Op::polygamma, &[&[1.0, 0.5]], &[1.0]), &[PI * PI / 6.0, PI * PI / 2.0], 1e-9, 0.0);
    assert_close(&column(Op::polygamma, &[&[1.0]], &[2.0]), &[-2.0 * 1.2020569031595942], 1e-14, 0.0);
    let edges = column(Op::digamma, &[&[0.0, -0.0, -3.0, f64::NAN, f64::INFINITY]], &[]);
    assert_close(&edges, &[f64::NEG_INFINITY, f64::INFINITY, f64::NAN, f64::NAN, f64::INFINITY], 0.0, 0.0);
}

#[test]
fn zeta() {
    assert_close(
        &column(Op::zeta, &[&[2.0, 4.0], &[1.0, 1.0]], &[]),
        &[PI.powi(2) / 6.0, PI.powi(4) / 90.0],
        1e-14,
        0.0,
    );
    // Each step takes one term away, below zero as above.
    let q = [-1_000_000.5, -3.5, -0.5, 0.5, 7.5, 1e6];
    for x in [3.0, 4.0] {
        let s = [x; 6];
        let (at, after) = (column(Op::zeta, &[&s, &q], &[]), column(Op::zeta, &[&s, &q.map(|q| q + 1.0)], &[]));
        let expected: Vec<f64> = after.iter().zip(q).map(|(y, q)| y + q.powf(-x)).collect();
        assert_close(&at, &expected, 1e-12, 1e-25);
    }
    let edges = column(Op::zeta, &[&[1.0, 0.5, 2.0, 2.5], &[2.0, 2.0, -1.0, -1.5]], &[]);
    assert_close(&edges, &[f64::INFINITY, f64::NAN, f64::INFINITY, f64::NAN], 0.0, 0.0);
}

#[test]
fn incomplete_gamma() {
    let pairs: Vec<(f64, f64)> = [1.0, 1.5, 2.5, 10.0, 60.0, 250.0]
        .iter()
        .flat_map(|&a| [0.05, 0.3, 0.9, 1.0, 1.1, 3.0].map(|ratio| (a, a * ratio)))
        .chain([(1.2, 0.4), (1.9, 1.05), (1.0, 40.0)])
        .collect();
    let (a, x): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let lower: Vec<f64> = pairs
        .iter()
        // The square root's substitution takes the edge off orders below two.
        .map(|&(a, x)| {
            integral(0.0, x.sqrt(), |t| {
                if t == 0.0 {
                    if a == 0.5 { 2.0 } else { 0.0 }
                } else {
                    2.0 * ((2.0 * a - 1.0) * t.ln() - t * t - libm::lgamma(a)).exp()
                }
            })
        })
        .collect();
    assert_close(&column(Op::igamma, &[&a, &x], &[]), &lower, 1e-8, 1e-9);
    let upper: Vec<f64> = lower.iter().map(|lower| 1.0 - lower).collect();
    assert_close(&column(Op::igammac, &[&a, &x], &[]), &upper, 1e-8, 1e-9);
    let (a, x) = ([0.0, 0.0, -1.0, 2.0, 2.0, f64::INFINITY], [1.0, 0.0, 1.0, 0.0, f64::INFINITY, 1.0]);
    assert_close(&column(Op::igamma, &[&a, &x], &[]), &[1.0, f64::NAN, f64::NAN, 0.0, 1.0, 0.0], 0.0, 0.0);
    assert_close(&column(Op::igammac, &[&a, &x], &[]), &[0.0, f64::NAN, f64::NAN, 1.0, 0.0, 1.0], 0.0, 0.0);
}

#[test]
fn of_the_normal_distribution() {
    let y = [-0.999999, -0.9, -0.7, -0.3, 0.0, 1e-9, 0.5, 0.71, 0.99];
    let back: Vec<f64> = column(Op::erfinv, &[&y], &[]).into_iter().map(libm::erf).collect();
    assert_close(&back, &y, 1e-14, 1e-16);
    let edges = column(Op::erfinv, &[&[-1.0, 1.0, 1.5, f64::NAN]], &[]);
    assert_close(&edges, &[f64::NEG_INFINITY, f64::INFINITY, f64::NAN, f64::NAN], 0.0, 0.0);

    let cdf = |x: f64| 0.5 * libm::erfc(-x / 2f64.sqrt());
    let p = [1e-200, 1e-20, 1e-5, 0.1, 0.14, 0.5, 0.7, 0.9, 0.99999];
    let back: Vec<f64> = column(Op::ndtri, &[&p], &[]).into_iter().map(cdf).collect();
    assert_close(&back, &p, 1e-11, 0.0);
    let edges = column(Op::ndtri, &[&[0.0, 1.0, -0.1, 1.1]], &[]);
    assert_close(&edges, &[f64::NEG_INFINITY, f64::INFINITY, f64::NAN, f64::NAN], 0.0, 0.0);

    let x = [-30.0, -5.0, -1.0, 0.0, 0.5, 4.0, 9.99, 10.01, 25.0];
    // erfcx(x) = 2 / sqrt(pi) * the integral of exp(-t^2 - 2 x t) from 0.
    let expected: Vec<f64> = x[1..]
        .iter()
        .map(|&x| {
            let far = if x < 0.0 { 14.0 } else { 7.0 / (1.0 + x / 3.0) };
            2.0 / PI.sqrt() * integral(0.0, far, |t| (-t * t - 2.0 * x * t).exp())
        })
        .collect();
    let erfcx = column(Op::erfcx, &[&x], &[]);
    assert_eq!(erfcx[0], f64::INFINITY);
    assert_close(&erfcx[1..], &expected, 1e-10, 0.0);
    let x = [-8.0, -2.0, -1.0, 0.0, 1.0, 5.0];
    let expected: Vec<f64> = x.iter().map(|&x| cdf(x).ln()).collect();
    assert_close(&column(Op::log_ndtr, &[&x], &[]), &expected, 1e-9, 1e-16);
}

#[test]
fn bessel() {
    let x = [-20.0, -8.0, -0.5, 0.0, 1.0, 7.9, 8.1, 30.0];
    for (plain, scaled, order) in [(Op::i0, Op::i0e, 0.0), (Op::i1, Op::i1e, 1.0)] {
        let expected: Vec<f64> = x
            .iter()
            .map(|&x: &f64| integral(0.0, PI, |t| (x * t.cos() - x.abs()).exp() * (order * t).cos()) / PI)
            .collect();
        assert_close(&column(scaled, &[&x], &[]), &expected, 1e-12, 1e-15);
        let grown: Vec<f64> = expected.iter().zip(x).map(|(value, x)| value * x.abs().exp()).collect();
        assert_close(&column(plain, &[&x], &[]), &grown, 1e-12, 1e-15);
    }
}

#[test]
fn neighbours_of_floats_on_their_bits() {
    let pairs = [(1.0f32, 2.0), (1.0, 0.0), (0.0, -1.0), (-0.0, 1.0), (1e-45, -1.0), (-1e-45, 1.0), (0.0, -0.0)];
    let pairs = [&pairs[..], &[(f32::MAX, f32::INFINITY), (f32::NEG_INFINITY, 0.0), (3.0, 3.0)]].concat();
    let expected: Vec<f32> = pairs
        .iter()
        .map(|&(from, to)| {
            if from == to {
                to
            } else if to > from {
                from.next_up()
            } else {
                from.next_down()
            }
        })
        .collect();
    let bits = |value: f32| value.to_bits() as i32;
    let sizes = [pairs.len() as i64];
    at_every_level(|_| {
        let out = Tensor::<i32>::zeros(&sizes);
        let (a, b) = (Tensor::new(&sizes, |i| bits(pairs[i].0)), Tensor::new(&sizes, |i| bits(pairs[i].1)));
        let ints = [DType::I32 as i64, i64::from(bits(f32::INFINITY))];
        run(Op::nextafter, &[out.view(), a.view(), b.view()], &ints, &[0.0]).unwrap();
        assert_eq!(out.values(), expected.iter().map(|&value| bits(value)).collect::<Vec<_>>());
    });
}

#[test]
fn divisors_and_multiples() {
    let a = [12i64, -12, 0, 7, 0, i64::MIN, 1 << 40];
    let b = [18i64, 18, 5, 0, 0, 6, 3 << 38];
    at_every_level(|_| {
        for (op, expected) in [
            // The lowest number has no magnitude: its sign stays, as on the CPU.
            (Op::gcd, [6, 6, 5, 7, 0, -2, 1 << 38]),
            (Op::lcm, [36, 36, 0, 0, 0, (i64::MIN / 2).wrapping_mul(6).wrapping_abs(), 3 << 40]),
        ] {
            let out = Tensor::<i64>::zeros(&[7]);
            let (a, b) = (Tensor::new(&[7], |i| a[i]), Tensor::new(&[7], |i| b[i]));
            run(op, &[out.view(), a.view(), b.view()], &[DType::I64 as i64], &[]).unwrap();
            assert_eq!(out.values(), expected, "{op:?}");
        }
    });
}

#[test]
fn draws_move_with_their_distribution() {
    // Minus the slope of the distribution function by its parameter, over the density. PyTorch's approximations, which
    // these are, are good to three digits or so.
    let mut points = Vec::new();
    for alpha in [0.05, 0.3, 0.9, 2.0, 5.0, 7.9, 8.1, 20.0, 60.0] {
        for part in [0.02, 0.3, 0.8, 0.91, 1.0, 1.09, 1.2, 1.7] {
            points.push((alpha, alpha * part));
        }
    }
    let [alphas, draws]: [Vec<f64>; 2] = [points.iter().map(|p| p.0).collect(), points.iter().map(|p| p.1).collect()];
    let moved = |by: f64| -> Vec<f64> { alphas.iter().map(|alpha| alpha * (1.0 + by)).collect() };
    // Of either tail the smaller one has the digits.
    let slope = |op: Op, sign: f64| -> Vec<f64> {
        let [up, down] = [1e-4, -1e-4].map(|by| column(op, &[&moved(by), &draws], &[]));
        up.iter().zip(down).zip(&alphas).map(|((up, down), alpha)| sign * (up - down) / (2e-4 * alpha)).collect()
    };
    let (below, above) = (slope(Op::igamma, -1.0), slope(Op::igammac, 1.0));
    let logarithms = column(Op::lgamma, &[&alphas], &[]);
    let expected: Vec<f64> = (0..points.len())
        .map(|at| {
            let (alpha, x) = points[at];
            let density = ((alpha - 1.0) * x.ln() - x - logarithms[at]).exp();
            (if x < alpha { below[at] } else { above[at] }) / density
        })
        .collect();
    assert_close(&column(Op::standard_gamma_grad, &[&alphas, &draws], &[]), &expected, 4e-3, 1e-12);

    let mut points = Vec::new();
    for (alpha, beta) in [(2.0, 3.0), (2.5, 1.5), (4.0, 5.0), (7.0, 8.0), (20.0, 30.0), (3.0, 40.0)] {
        let mean = alpha / (alpha + beta);
        points.extend([0.3, 0.7, 1.0, 1.02, 1.3].map(|part| (f64::min(mean * part, 0.97), alpha, beta)));
    }
    points.extend([(0.001, 1.5, 2.0), (0.999, 1.5, 2.0), (0.02, 2.0, 1.0)]);
    let expected: Vec<f64> = points
        .iter()
        .map(|&(x, alpha, beta)| {
            let density = |alpha: f64| move |t: f64| t.powf(alpha - 1.0) * (1.0 - t).powf(beta - 1.0);
            let share = |alpha: f64| integral(0.0, x, density(alpha)) / integral(0.0, 1.0, density(alpha));
            let whole = integral(0.0, 1.0, density(alpha));
            -(share(alpha + 1e-4) - share(alpha - 1e-4)) / 2e-4 / (density(alpha)(x) / whole) / (1.0 - x)
        })
        .collect();
    let columns: [Vec<f64>; 3] = [
        points.iter().map(|p| p.0).collect(),
        points.iter().map(|p| p.1).collect(),
        points.iter().map(|p| p.1 + p.2).collect(),
    ];
    let actual = column(Op::dirichlet_grad, &[&columns[0], &columns[1], &columns[2]], &[]);
    assert_close(&actual, &expected, 4e-3, 1e-6);
    let edges = column(Op::standard_gamma_grad, &[&[1.0, 0.0, f64::NAN, 2.0], &[0.0, 0.5, 0.5, f64::NAN]], &[]);
    assert!(edges[0] == 0.0 && edges[1] == f64::INFINITY && edges[2] == 0.0 && edges[3].is_nan());
}
