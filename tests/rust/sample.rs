//! Grids and patches against plain loops; what is a transpose, against what it transposes.

mod support;

use rustorch_kernels::ops::Op;
use rustorch_kernels::view::View;
use support::{Tensor, assert_close, at_every_level, noise, run};

fn made(sizes: &[i64], seed: u64) -> Tensor<f64> {
    Tensor::new(sizes, |at| noise(seed)(at) * 1.3)
}

fn dot(a: &Tensor<f64>, b: &Tensor<f64>) -> f64 {
    a.values().iter().zip(b.values()).map(|(a, b)| a * b).sum()
}

#[test]
fn bilinear_samples() {
    let (input, grid) = (made(&[2, 3, 4, 5], 1), made(&[2, 6, 1, 2], 2));
    let (values, places) = (input.values(), grid.values());
    let pixel = |plane: usize, y: i64, x: i64| {
        let inside = (0..4).contains(&y) && (0..5).contains(&x);
        if inside { values[plane * 20 + (y * 5 + x) as usize] } else { 0.0 }
    };
    let expected: Vec<f64> = (0..36)
        .map(|at| {
            let (plane, place) = (at / 6, at / 18 * 6 + at % 6);
            let x = ((places[2 * place] + 1.0) * 5.0 - 1.0) / 2.0;
            let y = ((places[2 * place + 1] + 1.0) * 4.0 - 1.0) / 2.0;
            let (left, top) = (x.floor(), y.floor());
            let mut sum = 0.0;
            for (row, share) in [(top, 1.0 - (y - top)), (top + 1.0, y - top)] {
                sum += share * (1.0 - (x - left)) * pixel(plane, row as i64, left as i64);
                sum += share * (x - left) * pixel(plane, row as i64, left as i64 + 1);
            }
            sum
        })
        .collect();
    at_every_level(|_| {
        for (input, grid) in [(input.clone(), grid.clone()), (input.scattered(2), grid.scattered(3))] {
            let out = Tensor::zeros(&[2, 3, 6, 1]).scattered(2);
            run(Op::grid_sample, &[out.view(), input.view(), grid.view()], &[0, 0, 0], &[]).unwrap();
            assert_close(&out.values(), &expected, 1e-12, 1e-12);
        }
    });
}

#[test]
fn gradients_of_grids() {
    const STEP: f64 = 1e-6;
    for (input_sizes, grid_sizes, out_sizes) in [
        (&[2i64, 3, 4, 5][..], &[2i64, 3, 2, 2][..], &[2i64, 3, 3, 2][..]),
        (&[1, 2, 3, 4, 3], &[1, 2, 2, 1, 3], &[1, 2, 2, 2, 1]),
    ] {
        let (input, grid, grad) = (made(input_sizes, 1), made(grid_sizes, 2), made(out_sizes, 3));
        for mode in 0..3 {
            for padding in 0..3 {
                let ints = [mode, padding, i64::from(padding == 1)];
                let sampled = |input: &Tensor<f64>, grid: &Tensor<f64>| {
                    let out = Tensor::zeros(out_sizes);
                    run(Op::grid_sample, &[out.view(), input.view(), grid.view()], &ints, &[]).unwrap();
                    dot(&out, &grad)
                };
                let (grad_input, grad_grid) = (Tensor::zeros(input_sizes), Tensor::zeros(grid_sizes).scattered(2));
                let views = [grad_input.view(), grad_grid.view(), grad.view(), input.view(), grid.view()];
                run(Op::grid_sample_backward, &views, &ints, &[]).unwrap();
                // Linear in the input.
                assert_close(&[dot(&grad_input, &input)], &[sampled(&input, &grid)], 1e-10, 1e-12);
                if mode == 1 {
                    assert!(grad_grid.values().iter().all(|&value| value == 0.0));
                    continue;
                }
                let moved = |at: usize, step: f64| {
                    let mut grid = grid.clone();
                    grid.data[at] += step;
                    sampled(&input, &grid)
                };
                let expected: Vec<f64> =
                    (0..grid.data.len()).map(|at| (moved(at, STEP) - moved(at, -STEP)) / (2.0 * STEP)).collect();
                assert_close(&grad_grid.values(), &expected, 1e-5, 1e-6);
            }
        }
    }
}

#[test]
fn patches() {
    let images = made(&[2, 3, 5, 6], 1);
    // (height, width) each: kernel, dilation, padding, stride.
    let ints = [2, 3, 2, 1, 1, 2, 2, 3];
    let (rows, columns) = (3i64, 3i64);
    let sizes = [2, 3 * 6, rows * columns];
    let values = images.values();
    let expected: Vec<f64> = (0..sizes.iter().product::<i64>())
        .map(|i| {
            let (patch, line) = (i % 9, i / 9);
            let (plane, tap) = (line / 6, line % 6);
            let y = patch / columns * 2 - 1 + tap / 3 * 2;
            let x = patch % columns * 3 - 2 + tap % 3;
            let inside = (0..5).contains(&y) && (0..6).contains(&x);
            if inside { values[(plane * 30 + y * 6 + x) as usize] } else { 0.0 }
        })
        .collect();
    at_every_level(|_| {
        for images in [images.clone(), images.scattered(2)] {
            let out = Tensor::zeros(&sizes).scattered(2);
            run(Op::im2col, &[out.view(), images.view()], &ints, &[]).unwrap();
            assert_close(&out.values(), &expected, 0.0, 0.0);
            let (given, back) = (made(&sizes, 3), Tensor::zeros(&[2, 3, 5, 6]).scattered(1));
            run(Op::col2im, &[back.view(), given.view()], &ints, &[]).unwrap();
            assert_close(&[dot(&back, &images)], &[dot(&out, &given)], 1e-12, 1e-12);
        }
    });
    let out = Tensor::<f64>::zeros(&[2, 18, 8]);
    assert!(run(Op::im2col, &[out.view(), images.view()], &ints, &[]).is_err());
}

#[test]
fn bags() {
    let (width, table) = (3, made(&[6, 3], 1));
    let tokens = [1i64, 5, 2, 2, 0, 4, 2];
    let starts = [0usize, 3, 3, 7];
    let weights = made(&[7], 2);
    let row = |token: usize| table.values()[tokens[token] as usize * width..][..width].to_vec();
    for mode in 0..3 {
        for padding in [-1i64, 2] {
            let mut expected = vec![0.0; 3 * width];
            for bag in 0..3 {
                let used: Vec<usize> = (starts[bag]..starts[bag + 1]).filter(|&at| tokens[at] != padding).collect();
                for column in 0..width {
                    let terms = used.iter().map(|&token| match mode {
                        0 => row(token)[column] * weights.values()[token],
                        1 => row(token)[column] / used.len() as f64,
                        _ => row(token)[column],
                    });
                    expected[bag * width + column] = if mode < 2 {
                        terms.sum()
                    } else if used.is_empty() {
                        0.0
                    } else {
                        terms.fold(f64::NEG_INFINITY, f64::max)
                    };
                }
            }
            let (indices, offsets) = (Tensor::new(&[7], |at| tokens[at]), Tensor::new(&[4], |at| starts[at] as i32));
            at_every_level(|_| {
                for table in [table.clone(), table.scattered(2)] {
                    let out = Tensor::zeros(&[3, 3]).scattered(1);
                    let (bags, counts) = (Tensor::<i64>::zeros(&[7]), Tensor::<i64>::zeros(&[3]));
                    let largest = Tensor::<i64>::zeros(&[3, 3]);
                    let weight = if mode == 0 { weights.view() } else { View::absent() };
                    let most = if mode == 2 { largest.view() } else { View::absent() };
                    let views = [
                        out.view(),
                        bags.view(),
                        counts.view(),
                        most,
                        table.view(),
                        indices.view(),
                        offsets.view(),
                        weight,
                    ];
                    run(Op::embedding_bag, &views, &[mode, 1, padding], &[]).unwrap();
                    assert_close(&out.values(), &expected, 1e-12, 1e-12);
                    assert_eq!(bags.values(), [0, 0, 0, 2, 2, 2, 2]);
                    // Linear in the table where nothing is chosen, and the choice stays for a maximum.
                    let (grad, grad_table) = (made(&[3, 3], 5), Tensor::zeros(&[6, 3]));
                    let views =
                        [grad_table.view(), grad.view(), indices.view(), bags.view(), counts.view(), most, weight];
                    run(Op::embedding_bag_backward, &views, &[mode, 0, padding], &[]).unwrap();
                    assert_close(&[dot(&grad_table, &table)], &[dot(&out, &grad)], 1e-12, 1e-12);
                    if mode == 0 {
                        let grad_weights = Tensor::zeros(&[7]);
                        let views = [grad_weights.view(), grad.view(), table.view(), indices.view(), bags.view()];
                        run(Op::embedding_bag_weights_backward, &views, &[padding], &[]).unwrap();
                        assert_close(&[dot(&grad_weights, &weights)], &[dot(&out, &grad)], 1e-12, 1e-12);
                    }
                }
            });
        }
    }
}

#[test]
fn rows_of_too_large_a_norm_are_scaled() {
    let table = Tensor::new(&[3, 2], |at| [3.0, 4.0, 0.3, 0.4, 6.0, 8.0][at]);
    let indices = Tensor::new(&[3], |at| [0i64, 1, 0][at]);
    run(Op::embedding_renorm, &[table.view(), indices.view()], &[], &[1.0, 2.0]).unwrap();
    assert_close(&table.values(), &[0.6, 0.8, 0.3, 0.4, 6.0, 8.0], 1e-6, 0.0);
    let outside = Tensor::new(&[1], |_| 3i64);
    assert!(run(Op::embedding_renorm, &[table.view(), outside.view()], &[], &[1.0, 2.0]).is_err());
}

/// A row of five pixels, or a volume of them, sampled at one place: `x` is given, the other numbers are in the middle.
fn sampled_at(x: f64, spatial: usize, mode: i64, padding: i64) -> (f64, Vec<f64>, Vec<f64>) {
    let mut sizes = vec![1; spatial + 2];
    sizes[spatial + 1] = 5;
    let input = Tensor::new(&sizes, |at| 1.0 + at as f64);
    let mut grid_sizes = vec![1; spatial + 2];
    grid_sizes[spatial + 1] = spatial as i64;
    let grid = Tensor::new(&grid_sizes, |at| if at == 0 { x } else { 0.0 });
    let one = vec![1; spatial + 2];
    let (out, grad) = (Tensor::<f64>::zeros(&one), Tensor::new(&one, |_| 1.0));
    let ints = [mode, padding, 0];
    run(Op::grid_sample, &[out.view(), input.view(), grid.view()], &ints, &[]).unwrap();
    let (grad_input, grad_grid) = (Tensor::<f64>::zeros(&sizes), Tensor::<f64>::zeros(&grid_sizes));
    let views = [grad_input.view(), grad_grid.view(), grad.view(), input.view(), grid.view()];
    run(Op::grid_sample_backward, &views, &ints, &[]).unwrap();
    (out.values()[0], grad_input.values(), grad_grid.values())
}

#[test]
fn places_that_are_nowhere() {
    for x in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for mode in [0, 1, 2] {
            for padding in [0, 1, 2] {
                let (value, pixels, moves) = sampled_at(x, 2, mode, padding);
                let is_edge = padding == 1 && !x.is_nan();
                // Infinities lie beyond an edge, forward; the first pixel stands for the rest.
                let pixel = if is_edge && x > 0.0 { 4 } else { 0 };
                match (mode, padding) {
                    (1, 0) => assert_eq!((value, pixels, moves), (0.0, vec![0.0; 5], vec![0.0; 2])),
                    (0, 0) | (2, _) => {
                        assert!(value.is_nan(), "{x} {mode} {padding}");
                        assert!(moves[1].is_nan());
                        // Linear weights move alike wherever the place is.
                        assert_eq!(moves[0].is_nan(), mode == 2);
                    }
                    _ => {
                        assert_eq!(value, 1.0 + pixel as f64, "{x} {mode} {padding}");
                        let expected: Vec<f64> = (0..5).map(|at| f64::from(u8::from(at == pixel))).collect();
                        assert_eq!(pixels, expected);
                        assert_eq!(moves[0], 0.0);
                    }
                }
                if mode == 2 {
                    continue; // There is none of volumes.
                }
                let (value, pixels, moves) = sampled_at(x, 3, mode, padding);
                let pixel = if is_edge && x < 0.0 { 0 } else { 4 };
                let expected = if padding == 0 { 0.0 } else { 1.0 + pixel as f64 };
                assert_eq!(value, expected, "{x} {mode} {padding}");
                // Backward, nowhere is outside.
                let expected = (0..5).map(|at| f64::from(u8::from(is_edge && at == pixel)));
                assert_eq!(pixels, expected.collect::<Vec<_>>());
                assert_eq!(moves[0], 0.0);
            }
        }
    }
}
