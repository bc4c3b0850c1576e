//! Maps along the spatial dimensions: a few against plain loops, and every gradient against what it
//! is the transpose of.

mod support;

use rustorch_kernels::ops::Op;
use support::{Item, Tensor, assert_close, at_every_level, noise, run};

const SHAPES: [(&[i64], &[i64]); 5] = [
    (&[2, 3, 7], &[2, 3, 11]),
    (&[1, 2, 5, 6], &[1, 2, 3, 13]),
    (&[3, 4, 9], &[3, 8, 9]),
    (&[1, 1, 3, 4, 5], &[1, 1, 5, 2, 17]),
    (&[0, 2, 3, 3], &[0, 2, 5, 5]),
];

fn made<T: Item>(sizes: &[i64], seed: u64, cast: impl Fn(f64) -> T) -> Tensor<T> {
    Tensor::new(sizes, |at| cast(noise(seed)(at)))
}

fn dot(a: &Tensor<f64>, b: &Tensor<f64>) -> f64 {
    a.values().iter().zip(b.values()).map(|(a, b)| a * b).sum()
}

/// `backward` is the transpose of `forward`: `<forward(x), y> = <x, backward(y)>`.
fn check_transposed(ops: [Op; 2], sizes: (&[i64], &[i64]), ints: &[i64], floats: &[f64]) {
    let (input, grad) = (made(sizes.0, 1, |x| x), made(sizes.1, 2, |x| x));
    for scattered in [false, true] {
        let place = |tensor: &Tensor<f64>| if scattered { tensor.scattered(2) } else { tensor.clone() };
        let (input, grad) = (place(&input), place(&grad));
        let (out, grad_in) = (place(&Tensor::zeros(sizes.1)), place(&Tensor::zeros(sizes.0)));
        run(ops[0], &[out.view(), input.view()], ints, floats).unwrap();
        run(ops[1], &[grad_in.view(), grad.view()], ints, floats).unwrap();
        assert_close(&[dot(&out, &grad)], &[dot(&input, &grad_in)], 1e-10, 1e-12);
    }
}

#[test]
fn gradients_are_transposed() {
    at_every_level(|_| {
        for (from, to) in SHAPES {
            let spatial = if from == [3, 4, 9] { 2 } else { from.len() - 2 };
            for mode in 0..=6 {
                for corners in [0, 1] {
                    let scales = vec![0.0; spatial];
                    check_transposed([Op::upsample, Op::upsample_backward], (from, to), &[mode, corners], &scales);
                    check_transposed([Op::upsample, Op::upsample_backward], (to, from), &[mode, corners], &scales);
                }
            }
            let ops = [Op::adaptive_average, Op::adaptive_average_backward];
            check_transposed(ops, (from, to), &[spatial as i64], &[]);
            check_transposed(ops, (to, from), &[spatial as i64], &[]);
        }
        for reflect in [0, 1] {
            let sizes: (&[i64], &[i64]) = (&[2, 1, 5, 4], &[2, 1, 10, 6]);
            check_transposed([Op::pad, Op::pad_backward], sizes, &[reflect, 4, 1], &[]);
        }
        for last in [[0, 0], [1, 0], [0, 5], [1, -3]] {
            let ints = [&[3, 2, 2, 2, 1, 3, 1, 0, 1][..], &last].concat();
            let sizes: (&[i64], &[i64]) = (&[2, 5, 6, 7], &[2, 3, 5, 3]);
            check_transposed([Op::average_windows, Op::average_windows_backward], sizes, &ints, &[]);
        }
    });
}

#[test]
fn values() {
    let input = made(&[2, 5, 6], 1, |x| x as f32);
    let values: Vec<f64> = input.values().into_iter().map(f64::from).collect();
    let at = |plane: usize, y: usize, x: usize| values[(plane * 5 + y) * 6 + x];
    at_every_level(|_| {
        for scattered in [false, true] {
            let input = if scattered { input.scattered(3) } else { input.clone() };
            let result = |op: Op, sizes: &[i64], ints: &[i64], floats: &[f64]| -> Vec<f64> {
                let out = Tensor::<f32>::zeros(sizes);
                run(op, &[out.view(), input.view()], ints, floats).unwrap();
                out.values().into_iter().map(f64::from).collect()
            };
            let each = |rows: usize, columns: usize, value: &dyn Fn(usize, usize, usize) -> f64| -> Vec<f64> {
                let pixels = rows * columns;
                (0..2 * pixels).map(|i| value(i / pixels, i / columns % rows, i % columns)).collect()
            };
            let nearest = each(10, 3, &|plane, y, x| at(plane, y / 2, x * 2));
            assert_close(&result(Op::upsample, &[2, 10, 3], &[0, 0], &[0.0; 2]), &nearest, 0.0, 0.0);
            // Twice as many columns: positions a quarter before and after each.
            let linear = each(5, 12, &|plane, y, x| {
                let near = x / 2;
                let other = if x % 2 == 0 { near.saturating_sub(1) } else { (near + 1).min(5) };
                0.75 * at(plane, y, near) + 0.25 * at(plane, y, other)
            });
            assert_close(&result(Op::upsample, &[2, 5, 12], &[2, 0], &[0.0; 2]), &linear, 1e-6, 1e-6);
            let mirror = |i: i64, n: i64| {
                (if i < 0 {
                    -i
                } else if i >= n {
                    2 * n - 2 - i
                } else {
                    i
                }) as usize
            };
            let reflected = each(8, 11, &|plane, y, x| at(plane, mirror(y as i64 - 1, 5), mirror(x as i64 - 3, 6)));
            assert_close(&result(Op::pad, &[2, 8, 11], &[1, 1, 3], &[]), &reflected, 0.0, 0.0);
            let replicated = each(6, 5, &|plane, y, x| at(plane, (y as i64 - 2).clamp(0, 4) as usize, (x + 1).min(5)));
            assert_close(&result(Op::pad, &[2, 6, 5], &[0, 2, -1], &[]), &replicated, 0.0, 0.0);
            let averaged = each(2, 3, &|plane, y, x| {
                (0..4).map(|tap| at(plane, 2 * y + tap / 2, 2 * x + tap % 2)).sum::<f64>() / 4.0
            });
            let ints = [2, 2, 2, 2, 0, 0, 1, 0];
            assert_close(&result(Op::average_windows, &[2, 2, 3], &ints, &[]), &averaged, 1e-6, 1e-6);
        }
    });
}

#[test]
fn what_does_not_fit_is_refused() {
    let (out, input) = (Tensor::<f32>::zeros(&[2, 9]), Tensor::<f32>::zeros(&[2, 4]));
    assert!(run(Op::pad, &[out.view(), input.view()], &[1, 5], &[]).is_err());
    assert!(run(Op::pad, &[out.view(), Tensor::<f32>::zeros(&[3, 4]).view()], &[0, 5], &[]).is_err());
    assert!(run(Op::upsample, &[out.view(), Tensor::<f32>::zeros(&[2, 0]).view()], &[0, 0], &[0.0]).is_err());
    assert!(run(Op::average_windows, &[out.view(), input.view()], &[0, 1, 0, 1, 0], &[]).is_err());
}

#[test]
fn integers_are_moved() {
    fn check<T: Item>(cast: fn(i64) -> T) {
        for (from, to) in SHAPES {
            let spatial = if from == [3, 4, 9] { 2 } else { from.len() - 2 };
            let input = Tensor::new(from, |at| cast(at as i64 * 7 % 251));
            let number = Tensor::new(from, |at| (at as i64 * 7 % 251) as f32);
            for mode in [0, 1] {
                let (out, wide) = (Tensor::new(to, |_| cast(0)).scattered(2), Tensor::<f32>::zeros(to));
                let scales = vec![0.0; spatial];
                run(Op::upsample, &[out.view(), input.scattered(1).view()], &[mode, 0], &scales).unwrap();
                run(Op::upsample, &[wide.view(), number.view()], &[mode, 0], &scales).unwrap();
                let expected: Vec<T> = wide.values().into_iter().map(|value| cast(value as i64)).collect();
                assert_eq!(out.values(), expected);
            }
        }
        let input = Tensor::new(&[2, 3, 4], |at| cast(at as i64));
        let out = Tensor::new(&[2, 4, 7], |_| cast(0));
        run(Op::pad, &[out.view(), input.view()], &[1, 1, 2], &[]).unwrap();
        let row = |row: i64| [2, 1, 0, 1, 2, 3, 2].map(|column| cast(row * 4 + column));
        let expected: Vec<T> = [1, 0, 1, 2, 4, 3, 4, 5].into_iter().flat_map(row).collect();
        assert_eq!(out.values(), expected);
    }
    at_every_level(|_| {
        check::<u8>(|x| x as u8);
        check::<i16>(|x| x as i16);
        check::<i32>(|x| x as i32);
        check::<i64>(|x| x);
    });
}

#[test]
fn bytes_are_weighed() {
    let sizes = [2, 3, 17, 13];
    let input = Tensor::new(&sizes, |at| (128.0 + 127.0 * noise(3)(at)) as u8);
    let number = Tensor::new(&sizes, |at| f64::from(input.data[at]));
    at_every_level(|_| {
        for mode in 2..=6 {
            for size in [[31, 7], [5, 40], [17, 20], [3, 13]] {
                let to = [2, 3, size[0], size[1]];
                let (out, wide) = (Tensor::<u8>::zeros(&to).scattered(2), Tensor::<f64>::zeros(&to));
                run(Op::upsample, &[out.view(), input.scattered(1).view()], &[mode, 0], &[0.0, 0.0]).unwrap();
                run(Op::upsample, &[wide.view(), number.view()], &[mode, 0], &[0.0, 0.0]).unwrap();
                let actual: Vec<f64> = out.values().into_iter().map(f64::from).collect();
                let expected: Vec<f64> = wide.values().into_iter().map(|value| value.clamp(0.0, 255.0)).collect();
                // Rounded once a dimension; weights below zero carry the first rounding on. What is clipped after the
                // first dimension differs more, where weights overshoot.
                let bound = if mode == 2 || mode == 4 { 1.05 } else { 20.0 };
                assert_close(&actual, &expected, 0.0, bound);
            }
        }
        let out = Tensor::<i32>::zeros(&[1, 1, 4, 4]);
        let input = Tensor::<i32>::zeros(&[1, 1, 2, 2]);
        assert!(run(Op::upsample, &[out.view(), input.view()], &[2, 0], &[0.0, 0.0]).is_err());
    });
}
