//! Max pooling by windows, and values put back at their indices, against plain loops.

mod support;

use rustorch_kernels::ops::Op;
use support::{Tensor, assert_close, at_every_level, noise, run};

/// The largest of the elements that `inside` takes, first in C order, and its index.
fn largest(plane: &[f32], inside: impl Fn(usize) -> bool) -> (f32, i64) {
    let mut best = (f32::NEG_INFINITY, -1);
    for (index, &value) in plane.iter().enumerate().filter(|&(index, _)| inside(index)) {
        if best.1 < 0 || value > best.0 || value.is_nan() {
            best = (value, index as i64);
        }
    }
    best
}

fn compare(out: &Tensor<f32>, indices: &Tensor<i64>, expected: &[(f32, i64)]) {
    let values: Vec<f64> = out.values().into_iter().map(f64::from).collect();
    let wanted: Vec<f64> = expected.iter().map(|&(value, _)| f64::from(value)).collect();
    assert_close(&values, &wanted, 0.0, 0.0);
    assert_eq!(indices.values(), expected.iter().map(|&(_, index)| index).collect::<Vec<_>>());
}

#[test]
fn volumes() {
    let [depth, height, width] = [4, 5, 6];
    let mut input = Tensor::new(&[2, 3, 4, 5, 6], |at| noise(1)(at) as f32);
    input.data[7] = f32::NAN;
    input.data[200] = f32::INFINITY;
    // (kernel, stride, padding, dilation) of each dimension.
    let geometries: [[[i64; 3]; 4]; 2] =
        [[[2, 2, 2], [2, 2, 2], [0, 0, 0], [1, 1, 1]], [[3, 2, 2], [1, 2, 3], [1, 1, 0], [1, 2, 3]]];
    for [kernel, stride, padding, dilation] in geometries {
        let sizes = [depth, height, width];
        let count: [i64; 3] = std::array::from_fn(|dim| {
            (sizes[dim] + 2 * padding[dim] - dilation[dim] * (kernel[dim] - 1) - 1) / stride[dim] + 1
        });
        let ints: Vec<i64> = [kernel, stride, padding, dilation].concat();
        let seen = |dim: usize, output: i64, at: i64| {
            let from = at + padding[dim] - output * stride[dim];
            from >= 0 && from % dilation[dim] == 0 && from / dilation[dim] < kernel[dim]
        };
        let volume = (depth * height * width) as usize;
        let expected: Vec<(f32, i64)> = (0..6 * count.iter().product::<i64>())
            .map(|i| {
                let [z, y, x] = [i / count[2] / count[1] % count[0], i / count[2] % count[1], i % count[2]];
                let plane = (i / count.iter().product::<i64>()) as usize;
                largest(&input.values()[plane * volume..][..volume], |index| {
                    let index = index as i64;
                    seen(0, z, index / width / height)
                        && seen(1, y, index / width % height)
                        && seen(2, x, index % width)
                })
            })
            .collect();
        let out_sizes = [&[2, 3][..], &count].concat();
        at_every_level(|_| {
            for input in [input.clone(), input.scattered(2)] {
                let (out, indices) = (Tensor::zeros(&out_sizes), Tensor::zeros(&out_sizes).scattered(1));
                run(Op::max_pool3d, &[out.view(), indices.view(), input.view()], &ints, &[]).unwrap();
                compare(&out, &indices, &expected);
            }
        });
    }
}

#[test]
fn adaptive() {
    let input = Tensor::new(&[3, 7, 5], |at| noise(2)(at) as f32);
    for [rows, columns] in [[1usize, 1], [2, 3], [9, 5]] {
        let inside = |output: usize, outputs: usize, size: usize, at: usize| {
            at >= output * size / outputs && at < ((output + 1) * size).div_ceil(outputs)
        };
        let expected: Vec<(f32, i64)> = (0..3 * rows * columns)
            .map(|i| {
                let [plane, row, column] = [i / columns / rows, i / columns % rows, i % columns];
                largest(&input.values()[plane * 35..][..35], |at| {
                    inside(row, rows, 7, at / 5) && inside(column, columns, 5, at % 5)
                })
            })
            .collect();
        let sizes = [3, rows as i64, columns as i64];
        at_every_level(|_| {
            for input in [input.clone(), input.scattered(3)] {
                let (out, indices) = (Tensor::zeros(&sizes).scattered(2), Tensor::zeros(&sizes));
                run(Op::adaptive_max_pool, &[out.view(), indices.view(), input.view()], &[2], &[]).unwrap();
                compare(&out, &indices, &expected);
            }
        });
    }
}

#[test]
fn fractional_windows_lie_within_and_cover() {
    let input = Tensor::new(&[1, 2, 9, 8], |at| at as f32);
    let samples = Tensor::new(&[1, 2, 2], |at| [0.1f32, 0.9, 0.5, 0.0][at]);
    let (out, indices) = (Tensor::<f32>::zeros(&[1, 2, 4, 3]), Tensor::<i64>::zeros(&[1, 2, 4, 3]));
    let views = [out.view(), indices.view(), input.view(), samples.view()];
    run(Op::fractional_max_pool, &views, &[2, 3], &[]).unwrap();
    for (at, index) in indices.values().into_iter().enumerate() {
        // Rising values: the largest is a window's last pixel; the last window ends with the plane.
        assert_eq!(out.values()[at], (at / 12 * 72) as f32 + index as f32);
        let [row, column] = [at / 3 % 4, at % 3];
        assert!(row < 3 || index / 8 == 8, "{index}");
        assert!(column < 2 || index % 8 == 7, "{index}");
    }
    let small = Tensor::<f32>::zeros(&[1, 2, 4, 8]);
    assert!(
        run(Op::fractional_max_pool, &[out.view(), indices.view(), small.view(), samples.view()], &[2, 3], &[])
            .is_err()
    );
}

#[test]
fn unpooling_and_its_sums() {
    let values = Tensor::new(&[2, 4], |at| at as f32 + 1.0);
    let indices = Tensor::new(&[2, 4], |at| [5i64, 0, 5, 2, 1, 1, 3, 4][at]);
    at_every_level(|_| {
        for add in [0, 1] {
            let out = Tensor::new(&[2, 6], |_| 9.0f32).scattered(2);
            let views = [out.view(), values.view(), indices.view()];
            run(Op::unpool, &views, &[1, add], &[]).unwrap();
            let [last, met] = if add == 1 { [4.0, 11.0] } else { [3.0, 6.0] };
            assert_eq!(out.values(), [2.0, 0.0, 4.0, 0.0, 0.0, last, 0.0, met, 0.0, 7.0, 8.0, 0.0]);
        }
    });
    let out = Tensor::new(&[2, 5], |_| 9.0f32);
    assert!(run(Op::unpool, &[out.view(), values.view(), indices.view()], &[1, 0], &[]).is_err());
    assert_eq!(out.values(), [9.0; 10]);
}
