//! Pooling against plain loops, in both memory formats.

mod support;

use rustorch_kernels::ops::Op;
use rustorch_kernels::view::View;
use support::{Item, Tensor, assert_close, at_every_level, noise, run};

/// (kernel, stride, padding, dilation), each (height, width).
type Geometry = [i64; 8];

fn outputs(input: i64, geometry: &Geometry, axis: usize) -> i64 {
    let [kernel, stride, padding, dilation] = std::array::from_fn(|at| geometry[2 * at + axis]);
    (input + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1
}

/// The same elements, channels innermost.
fn channels_last<T: Item>(tensor: &Tensor<T>) -> Tensor<T> {
    let [n, c, h, w] = tensor.sizes[..] else { panic!("an image has four dimensions") };
    let mut last = Tensor { strides: vec![c * h * w, 1, w * c, c], ..Tensor::zeros(&[n, c, h, w]) };
    last.assign(&tensor.values());
    last
}

fn layouts<T: Item>(tensor: &Tensor<T>) -> [Tensor<T>; 3] {
    [tensor.clone(), channels_last(tensor), tensor.scattered(2)]
}

fn images(sizes: &[i64], seed: u64) -> Tensor<f32> {
    Tensor::new(sizes, |i| (noise(seed)(i) * 8.0).round() as f32)
}

/// Calls `tap(output, input, input position)` for every tap of every window, in C order.
fn taps(sizes: &[i64], geometry: &Geometry, mut tap: impl FnMut(usize, usize, i64)) -> [i64; 4] {
    let &[n, c, h, w] = sizes else { panic!("an image has four dimensions") };
    let &[kh, kw, sh, sw, ph, pw, dh, dw] = geometry;
    let (oh, ow) = (outputs(h, geometry, 0), outputs(w, geometry, 1));
    for plane in 0..n * c {
        for output in 0..oh * ow {
            for kernel in 0..kh * kw {
                let y = output / ow * sh - ph + kernel / kw * dh;
                let x = output % ow * sw - pw + kernel % kw * dw;
                if (0..h).contains(&y) && (0..w).contains(&x) {
                    let position = y * w + x;
                    tap((plane * oh * ow + output) as usize, (plane * h * w + position) as usize, position);
                }
            }
        }
    }
    [n, c, oh, ow]
}

const SHAPES: [([i64; 4], Geometry); 15] = [
    ([2, 3, 8, 10], [2, 2, 2, 2, 0, 0, 1, 1]),
    ([1, 37, 13, 11], [3, 3, 2, 2, 1, 1, 1, 1]),
    ([2, 5, 9, 300], [3, 3, 1, 1, 1, 1, 1, 1]),
    ([1, 2, 12, 17], [3, 2, 1, 3, 1, 0, 2, 3]),
    ([2, 140, 4, 4], [4, 4, 4, 4, 0, 0, 1, 1]),
    ([1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 1, 1]),
    ([0, 3, 4, 4], [2, 2, 2, 2, 0, 0, 1, 1]),
    // Along rows, in lanes: rows of every length that lanes are cut for, with padding and without.
    ([3, 2, 25, 26], [2, 2, 2, 2, 0, 0, 1, 1]),
    ([1, 2, 7, 71], [3, 3, 2, 2, 1, 1, 1, 1]),
    ([2, 3, 7, 5], [3, 3, 2, 2, 1, 1, 1, 1]),
    ([1, 2, 3, 3], [3, 3, 1, 1, 1, 1, 1, 1]),
    ([1, 2, 6, 38], [3, 3, 2, 1, 0, 0, 2, 1]),
    ([2, 1, 5, 18], [1, 2, 1, 2, 0, 1, 1, 1]),
    ([1, 2, 4, 1], [2, 3, 2, 1, 1, 1, 1, 1]),
    ([1, 1, 2, 2], [2, 2, 2, 2, 1, 1, 1, 1]),
];

#[test]
fn max_pooling_and_its_gradient() {
    for (sizes, geometry) in SHAPES {
        let mut input = images(&sizes, 1);
        if input.data.len() > 50 {
            (input.data[7], input.data[31]) = (f32::NAN, f32::NEG_INFINITY);
        }
        let mut best: Vec<Option<(f32, i64)>> = vec![];
        let out_sizes = taps(&sizes, &geometry, |output, from, position| {
            best.resize(best.len().max(output + 1), None);
            let value = input.data[from];
            if best[output].is_none_or(|(best, _)| value > best || value.is_nan()) {
                best[output] = Some((value, position));
            }
        });
        let expected: Vec<(f32, i64)> = best.into_iter().map(|best| best.unwrap()).collect();
        let grad = images(&out_sizes, 2);
        let (pixels, plane) = ((sizes[2] * sizes[3]) as usize, (out_sizes[2] * out_sizes[3]).max(1) as usize);
        let mut grad_in = vec![0.0; input.data.len()];
        for (at, (_, position)) in expected.iter().enumerate() {
            grad_in[at / plane * pixels + *position as usize] += grad.data[at] as f64;
        }
        let values: Vec<f64> = expected.iter().map(|&(value, _)| value as f64).collect();
        let positions: Vec<i64> = expected.iter().map(|&(_, position)| position).collect();
        at_every_level(|_| {
            for input in layouts(&input) {
                for out in layouts(&Tensor::<f32>::zeros(&out_sizes)) {
                    let indices = Tensor { strides: out.strides.clone(), ..out.clone().map_to_i64() };
                    run(Op::max_pool2d, &[out.view(), indices.view(), input.view()], &geometry, &[]).unwrap();
                    assert_close(&to_f64(&out), &values, 0.0, 0.0);
                    assert_eq!(indices.values(), positions, "{sizes:?}");
                    let grads = Tensor { sizes: sizes.to_vec(), ..input.clone() };
                    run(Op::max_pool2d_backward, &[grads.view(), grad.view(), indices.view()], &[], &[]).unwrap();
                    assert_close(&to_f64(&grads), &grad_in, 1e-6, 1e-6);
                }
            }
        });
    }
}

trait MapToI64 {
    fn map_to_i64(self) -> Tensor<i64>;
}
impl MapToI64 for Tensor<f32> {
    fn map_to_i64(self) -> Tensor<i64> {
        Tensor { data: vec![0; self.data.len()], offset: self.offset, sizes: self.sizes, strides: self.strides }
    }
}

fn to_f64(tensor: &Tensor<f32>) -> Vec<f64> {
    tensor.values().into_iter().map(f64::from).collect()
}

#[test]
fn average_pooling_and_its_gradient() {
    for (sizes, geometry) in SHAPES.into_iter().chain([([2, 20, 5, 40], [2, 33, 1, 2, 1, 3, 1, 1])]) {
        if geometry[6..] != [1, 1] {
            continue;
        }
        let input = images(&sizes, 3);
        for (include_padding, divisor) in [(false, 0), (true, 0), (true, 5)] {
            let mut sums: Vec<f64> = vec![];
            let mut counts: Vec<f64> = vec![];
            let out_sizes = taps(&sizes, &geometry, |output, from, _| {
                sums.resize(sums.len().max(output + 1), 0.0);
                counts.resize(sums.len(), 0.0);
                sums[output] += input.data[from] as f64;
                counts[output] += 1.0;
            });
            let divisors: Vec<f64> = counts
                .iter()
                .map(|&count| match (divisor, include_padding) {
                    (0, false) => count,
                    (0, true) => (geometry[0] * geometry[1]) as f64,
                    _ => divisor as f64,
                })
                .collect();
            let expected: Vec<f64> = sums.iter().zip(&divisors).map(|(sum, divisor)| sum / divisor).collect();
            let grad = images(&out_sizes, 4);
            let mut grad_in = vec![0.0; input.data.len()];
            taps(&sizes, &geometry, |output, from, _| grad_in[from] += grad.data[output] as f64 / divisors[output]);
            let ints: Vec<i64> = geometry[..6].iter().copied().chain([include_padding as i64, divisor]).collect();
            at_every_level(|_| {
                for input in layouts(&input) {
                    for out in layouts(&Tensor::<f32>::zeros(&out_sizes)) {
                        run(Op::avg_pool2d, &[out.view(), input.view()], &ints, &[]).unwrap();
                        assert_close(&to_f64(&out), &expected, 1e-5, 1e-5);
                    }
                    run(Op::avg_pool2d_backward, &[input.view(), grad.view()], &ints, &[]).unwrap();
                    assert_close(&to_f64(&input), &grad_in, 1e-5, 1e-5);
                }
            });
        }
    }
}

#[test]
fn adaptive_pooling_and_its_gradient() {
    for (sizes, out) in
        [([2, 3, 7, 7], [1, 1]), ([1, 35, 10, 13], [3, 5]), ([2, 2, 6, 40], [6, 4]), ([1, 2, 3, 3], [5, 4])]
    {
        let input = images(&sizes, 5);
        let [n, c, h, w] = sizes;
        let out_sizes = [n, c, out[0], out[1]];
        let grad = images(&out_sizes, 6);
        let mut expected = vec![];
        let mut grad_in = vec![0.0; input.data.len()];
        for at in 0..(n * c * out[0] * out[1]) {
            let (plane, y, x) = (at / out[0] / out[1], at / out[1] % out[0], at % out[1]);
            let rows = y * h / out[0]..((y + 1) * h + out[0] - 1) / out[0];
            let columns = x * w / out[1]..((x + 1) * w + out[1] - 1) / out[1];
            let count = (rows.clone().count() * columns.clone().count()) as f64;
            let mut sum = 0.0;
            for y in rows {
                for x in columns.clone() {
                    let from = (plane * h * w + y * w + x) as usize;
                    sum += input.data[from] as f64;
                    grad_in[from] += grad.data[at as usize] as f64 / count;
                }
            }
            expected.push(sum / count);
        }
        at_every_level(|_| {
            for input in layouts(&input) {
                for out in layouts(&Tensor::<f32>::zeros(&out_sizes)) {
                    run(Op::adaptive_avg_pool2d, &[out.view(), input.view()], &[], &[]).unwrap();
                    assert_close(&to_f64(&out), &expected, 1e-5, 1e-5);
                }
                run(Op::adaptive_avg_pool2d_backward, &[input.view(), grad.view()], &[], &[]).unwrap();
                assert_close(&to_f64(&input), &grad_in, 1e-5, 1e-5);
            }
        });
    }
}

#[test]
fn halves_and_integers() {
    let input = Tensor::<half::bf16>::new(&[1, 4, 4], |i| half::bf16::from_f32(i as f32));
    let (out, indices) = (Tensor::<half::bf16>::zeros(&[1, 2, 2]), Tensor::<i64>::zeros(&[1, 2, 2]));
    let geometry = [2, 2, 2, 2, 0, 0, 1, 1];
    run(Op::max_pool2d, &[out.view(), indices.view(), input.view()], &geometry, &[]).unwrap();
    assert_eq!(out.values().iter().map(|v| v.to_f32()).collect::<Vec<_>>(), [5.0, 7.0, 13.0, 15.0]);
    run(Op::avg_pool2d, &[out.view(), input.view()], &[2, 2, 2, 2, 0, 0, 1, 0], &[]).unwrap();
    assert_eq!(out.values().iter().map(|v| v.to_f32()).collect::<Vec<_>>(), [2.5, 4.5, 10.5, 12.5]);
    let input = Tensor::<i64>::new(&[1, 4, 4], |i| -(i as i64));
    let out = Tensor::<i64>::zeros(&[1, 2, 2]);
    run(Op::max_pool2d, &[out.view(), indices.view(), input.view()], &geometry, &[]).unwrap();
    assert_eq!(out.values(), [0, -2, -8, -10]);
    assert_eq!(indices.values(), [0, 2, 8, 10]);
}

#[test]
fn rows_of_other_dtypes() {
    let geometry = [3, 3, 2, 2, 1, 1, 1, 1];
    let sizes = [2, 3, 9, 41];
    let input = images(&sizes, 7);
    let out_sizes = [2, 3, 5, 21];
    let pooled = |out: &View<'_>, input: &View<'_>| {
        let indices = Tensor::<i64>::zeros(&out_sizes);
        run(Op::max_pool2d, &[*out, indices.view(), *input], &geometry, &[]).unwrap();
        indices.values()
    };
    let out = Tensor::<f32>::zeros(&out_sizes);
    let positions = pooled(&out.view(), &input.view());
    // The values are whole numbers, which every type has.
    at_every_level(|_| {
        let double = Tensor::<f64>::zeros(&out_sizes);
        let from = Tensor::<f64>::new(&sizes, |at| input.data[at].into());
        assert_eq!(pooled(&double.view(), &from.view()), positions);
        assert_eq!(double.values(), to_f64(&out));
        let half = Tensor::<half::bf16>::zeros(&out_sizes);
        let from = Tensor::<half::bf16>::new(&sizes, |at| half::bf16::from_f32(input.data[at]));
        assert_eq!(pooled(&half.view(), &from.view()), positions);
        assert_eq!(half.values().iter().map(|value| value.to_f64()).collect::<Vec<_>>(), to_f64(&out));
    });
}

#[test]
fn invalid_operands_are_refused() {
    let input = Tensor::<f32>::zeros(&[1, 4, 4]);
    let (out, indices) = (Tensor::<f32>::zeros(&[1, 2, 2]), Tensor::<i64>::new(&[1, 2, 2], |_| 99));
    let views = [out.view(), indices.view(), input.view()];
    assert!(run(Op::max_pool2d, &views, &[2, 2, 0, 2, 0, 0, 1, 1], &[]).is_err());
    assert!(run(Op::max_pool2d_backward, &[input.view(), out.view(), indices.view()], &[], &[]).is_err());
    let flat = Tensor::<f32>::zeros(&[4, 4]);
    assert!(run(Op::adaptive_avg_pool2d, &[out.view(), flat.view()], &[], &[]).is_err());
}
