//! Convolutions and their gradients against plain loops.

mod support;

use half::bf16;
use rustorch_kernels::error::Kind;
use rustorch_kernels::ops::Op;
use rustorch_kernels::view::View;
use support::{Item, Tensor, assert_close, at_every_level, noise, run};

trait Real: Item {
    fn from(value: f64) -> Self;
    fn to(self) -> f64;
}
macro_rules! reals {
    ($($type:ty: $from:expr, $to:expr);*) => {$(impl Real for $type {
        fn from(value: f64) -> Self { $from(value) }
        fn to(self) -> f64 { $to(self) }
    })*};
}
reals!(f32: |v| v as f32, |v| v as f64; f64: |v| v, |v| v; bf16: bf16::from_f64, bf16::to_f64);

/// A convolution's shape: images, channels in and out, groups, then each spatial dimension's
/// input, kernel, stride, padding and dilation.
#[derive(Clone, Debug)]
struct Case {
    images: i64,
    inputs: i64,
    outputs: i64,
    groups: i64,
    spatial: Vec<[i64; 5]>,
}

fn case(images: i64, inputs: i64, outputs: i64, groups: i64, spatial: &[[i64; 5]]) -> Case {
    Case { images, inputs, outputs, groups, spatial: spatial.to_vec() }
}

impl Case {
    fn ints(&self) -> Vec<i64> {
        let of = |at: usize| self.spatial.iter().map(move |dim| dim[at]);
        [self.spatial.len() as i64].into_iter().chain(of(2)).chain(of(3)).chain(of(4)).chain([self.groups]).collect()
    }

    fn input(&self) -> Vec<i64> {
        [self.images, self.inputs].into_iter().chain(self.spatial.iter().map(|dim| dim[0])).collect()
    }

    fn weight(&self) -> Vec<i64> {
        let kernel = self.spatial.iter().map(|dim| dim[1]);
        [self.outputs, self.inputs / self.groups].into_iter().chain(kernel).collect()
    }

    fn output(&self) -> Vec<i64> {
        let size = |dim: &[i64; 5]| (dim[0] + 2 * dim[3] - dim[4] * (dim[1] - 1) - 1) / dim[2] + 1;
        [self.images, self.outputs].into_iter().chain(self.spatial.iter().map(size)).collect()
    }

    /// Calls `each(output, input, weight)` with the linear indices of every product of the sum.
    fn products(&self, mut each: impl FnMut(usize, usize, usize)) {
        let three = |sizes: &[i64]| -> [i64; 3] {
            let missing = 3 - self.spatial.len();
            std::array::from_fn(|dim| if dim < missing { 1 } else { sizes[2 + dim - missing] })
        };
        let missing = 3 - self.spatial.len();
        let at = |dim: usize| if dim < missing { [1, 1, 1, 0, 1] } else { self.spatial[dim - missing] };
        let (from, kernel, to) = (three(&self.input()), three(&self.weight()), three(&self.output()));
        let (inputs, outputs) = (self.inputs / self.groups, self.outputs / self.groups);
        let linear = |sizes: [i64; 3], index: [i64; 3]| (index[0] * sizes[1] + index[1]) * sizes[2] + index[2];
        let indices = |sizes: [i64; 3]| {
            (0..sizes[0] * sizes[1] * sizes[2])
                .map(move |at| [at / (sizes[1] * sizes[2]), at / sizes[2] % sizes[1], at % sizes[2]])
        };
        for image in 0..self.images {
            for output in 0..self.outputs {
                for position in indices(to) {
                    for input in 0..inputs {
                        for tap in indices(kernel) {
                            let read: [i64; 3] = std::array::from_fn(|dim| {
                                position[dim] * at(dim)[2] + tap[dim] * at(dim)[4] - at(dim)[3]
                            });
                            if (0..3).any(|dim| read[dim] < 0 || read[dim] >= from[dim]) {
                                continue;
                            }
                            let plane = |channels: i64, channel: i64, sizes: [i64; 3]| {
                                (image * channels + channel) * sizes.iter().product::<i64>()
                            };
                            let channel = output / outputs * inputs + input;
                            each(
                                (plane(self.outputs, output, to) + linear(to, position)) as usize,
                                (plane(self.inputs, channel, from) + linear(from, read)) as usize,
                                ((output * inputs + input) * kernel.iter().product::<i64>() + linear(kernel, tap))
                                    as usize,
                            );
                        }
                    }
                }
            }
        }
    }
}

fn tensor<T: Real>(sizes: &[i64], seed: u64) -> Tensor<T> {
    let mut noise = noise(seed);
    Tensor::new(sizes, |index| T::from(noise(index)))
}

fn doubles<T: Real>(tensor: &Tensor<T>) -> Vec<f64> {
    tensor.values().into_iter().map(T::to).collect()
}

/// Dense; channels last (the outer dimensions and then the last ones reversed); spread.
fn layouts<T: Real>(dense: &Tensor<T>) -> Vec<Tensor<T>> {
    let mut last = dense.clone();
    let channels = last.sizes[1];
    let mut stride = channels;
    for dim in (2..last.sizes.len()).rev() {
        last.strides[dim] = stride;
        stride *= last.sizes[dim];
    }
    last.strides[0] = stride;
    last.strides[1] = 1;
    last.assign(&dense.values());
    vec![dense.clone(), last, dense.scattered(2)]
}

fn check<T: Real>(case: &Case, tolerance: f64) {
    let input = tensor::<T>(&case.input(), 1);
    let weight = tensor::<T>(&case.weight(), 2);
    let gradient = tensor::<T>(&case.output(), 3);
    let bias = tensor::<T>(&[case.outputs], 4);
    let input_bias = tensor::<T>(&[case.inputs], 5);
    let (x, w, g) = (doubles(&input), doubles(&weight), doubles(&gradient));

    let plane = |sizes: &[i64]| sizes[2..].iter().product::<i64>() as usize;
    let biased = |sizes: &[i64], bias: &[f64]| -> Vec<f64> {
        let numel = sizes.iter().product::<i64>() as usize;
        (0..numel).map(|at| bias[at / plane(sizes) % bias.len()]).collect()
    };
    let mut out = biased(&case.output(), &doubles(&bias));
    let mut grad_input = biased(&case.input(), &doubles(&input_bias));
    let mut grad_weight = vec![0.0; w.len()];
    case.products(|to, from, tap| {
        out[to] += x[from] * w[tap];
        grad_input[from] += g[to] * w[tap];
        grad_weight[tap] += x[from] * g[to];
    });
    let mut grad_bias = vec![0.0; case.outputs as usize];
    for (at, value) in g.iter().enumerate() {
        grad_bias[at / plane(&case.output()) % case.outputs as usize] += value;
    }

    let ints = case.ints();
    let launch = |op: Op, result: &Tensor<T>, operands: &[View<'_>], expected: &[f64], scale: f64| {
        let views: Vec<_> = [result.view()].into_iter().chain(operands.iter().copied()).collect();
        run(op, &views, &ints, &[]).unwrap_or_else(|error| panic!("{case:?}: {error}"));
        assert_close(&doubles(result), expected, tolerance, tolerance * scale);
    };
    at_every_level(|_| {
        for layout in 0..3 {
            let of = |tensor: &Tensor<T>| layouts(tensor).swap_remove(layout);
            let (input, weight, gradient) = (of(&input), of(&weight), of(&gradient));
            let result = of(&Tensor::zeros(&case.output()));
            launch(Op::conv_forward, &result, &[input.view(), weight.view(), bias.view()], &out, 4.0);
            let result = of(&Tensor::zeros(&case.input()));
            let operands = [gradient.view(), weight.view(), input_bias.view()];
            launch(Op::conv_input_grad, &result, &operands, &grad_input, 4.0);
            let result = of(&Tensor::zeros(&case.weight()));
            launch(Op::conv_weight_grad, &result, &[input.view(), gradient.view()], &grad_weight, 16.0);
            let result = Tensor::zeros(&[case.outputs]);
            launch(Op::conv_bias_grad, &result, &[gradient.view()], &grad_bias, 16.0);
        }
    });
}

/// The same spatial dimension twice.
fn square(size: i64, kernel: i64, stride: i64, padding: i64, dilation: i64) -> [[i64; 5]; 2] {
    [[size, kernel, stride, padding, dilation]; 2]
}

#[test]
fn two_dimensions() {
    for case in [
        case(1, 1, 1, 1, &square(1, 1, 1, 0, 1)),
        case(2, 1, 3, 1, &square(5, 3, 1, 1, 1)),
        case(2, 3, 10, 1, &square(28, 3, 1, 1, 1)),
        case(1, 5, 17, 1, &square(20, 3, 1, 0, 1)),
        case(3, 40, 9, 1, &square(7, 3, 1, 1, 1)),
        case(2, 4, 6, 1, &square(13, 5, 2, 2, 1)),
        case(2, 4, 6, 1, &square(14, 3, 2, 1, 1)),
        case(1, 3, 8, 1, &square(23, 7, 2, 3, 1)),
        case(1, 3, 4, 1, &square(17, 3, 3, 1, 2)),
        case(1, 3, 4, 1, &square(17, 2, 2, 0, 3)),
        case(2, 6, 5, 1, &square(11, 1, 1, 0, 1)),
        case(2, 6, 5, 1, &square(11, 1, 2, 0, 1)),
        case(2, 4, 3, 1, &[[9, 3, 2, 1, 1], [30, 2, 1, 0, 2]]),
        case(1, 2, 3, 1, &square(4, 3, 1, 5, 1)),
        case(1, 2, 2, 1, &square(6, 2, 4, 0, 1)),
    ] {
        check::<f32>(&case, 1e-4);
    }
}

#[test]
fn many_input_channels_are_summed_in_blocks() {
    check::<f32>(&case(2, 70, 19, 1, &square(6, 3, 1, 1, 1)), 1e-4);
    check::<f32>(&case(1, 300, 3, 1, &square(9, 1, 1, 0, 1)), 1e-4);
}

#[test]
fn groups_and_depthwise() {
    check::<f32>(&case(2, 6, 9, 3, &square(8, 3, 1, 1, 1)), 1e-4);
    check::<f32>(&case(2, 7, 7, 7, &square(19, 3, 1, 1, 1)), 1e-4);
    check::<f32>(&case(2, 5, 10, 5, &square(15, 5, 2, 2, 1)), 1e-4);
    for channels in [2, 9] {
        for spatial in [
            square(1, 3, 1, 1, 1),
            square(2, 3, 2, 1, 1),
            square(7, 3, 1, 1, 1),
            square(14, 3, 2, 1, 1),
            square(33, 3, 2, 1, 1),
            square(37, 5, 2, 2, 1),
            square(13, 5, 1, 2, 1),
            square(16, 3, 3, 0, 2),
            square(40, 2, 2, 0, 1),
            square(9, 4, 1, 3, 1),
            [[6, 3, 1, 1, 1], [45, 3, 2, 1, 1]],
            [[21, 3, 2, 1, 1], [9, 2, 1, 0, 1]],
            [[5, 1, 1, 0, 1], [64, 7, 2, 3, 2]],
        ] {
            check::<f32>(&case(3, channels, channels, channels, &spatial), 1e-4);
        }
    }
    for spatial in [square(9, 3, 1, 1, 1), square(21, 3, 2, 1, 1), square(13, 5, 2, 2, 1), square(2, 3, 1, 1, 2)] {
        check::<f32>(&case(2, 37, 37, 37, &spatial), 1e-4);
    }
    check::<f32>(&case(20, 3, 3, 3, &square(1, 3, 1, 1, 1)), 1e-4);
    check::<f32>(&case(2, 4, 4, 4, &[[100, 9, 2, 4, 1]]), 1e-4);
    check::<f32>(&case(2, 3, 3, 3, &[[4, 2, 2, 1, 1], [5, 3, 1, 1, 1], [9, 3, 2, 1, 1]]), 1e-4);
    check::<f64>(&case(2, 3, 3, 3, &square(17, 3, 2, 1, 1)), 1e-11);
    check::<bf16>(&case(2, 3, 3, 3, &square(17, 3, 2, 1, 1)), 1e-2);
}

#[test]
fn one_and_three_dimensions() {
    check::<f32>(&case(2, 3, 5, 1, &[[100, 9, 1, 4, 1]]), 1e-4);
    check::<f32>(&case(2, 3, 5, 1, &[[33, 4, 3, 1, 2]]), 1e-4);
    check::<f32>(&case(1, 2, 3, 1, &[[5, 3, 1, 1, 1], [6, 2, 2, 0, 1], [20, 3, 1, 1, 1]]), 1e-4);
    check::<f32>(&case(2, 4, 4, 2, &[[4, 2, 2, 1, 1], [4, 3, 1, 0, 1], [4, 1, 1, 0, 1]]), 1e-4);
}

#[test]
fn channels_fill_vectors_where_images_do_not() {
    check::<f32>(&case(17, 20, 37, 1, &square(1, 3, 1, 1, 1)), 1e-4);
    check::<f32>(&case(3, 33, 20, 1, &square(2, 3, 1, 1, 1)), 1e-4);
    check::<f32>(&case(2, 16, 50, 1, &square(5, 3, 2, 1, 1)), 1e-4);
    check::<f32>(&case(2, 40, 66, 2, &square(3, 2, 1, 1, 1)), 1e-4);
    check::<f32>(&case(1, 18, 17, 1, &square(4, 2, 4, 0, 1)), 1e-4);
    check::<f32>(&case(70, 16, 16, 1, &square(1, 1, 1, 0, 1)), 1e-4);
    check::<f64>(&case(3, 18, 20, 1, &square(2, 3, 1, 1, 1)), 1e-11);
    check::<bf16>(&case(3, 18, 20, 1, &square(2, 3, 1, 1, 1)), 1e-2);
}

#[test]
fn kernels_of_one_element() {
    check::<f32>(&case(3, 20, 37, 1, &square(9, 1, 1, 0, 1)), 1e-4);
    check::<f32>(&case(2, 37, 4, 1, &square(8, 1, 1, 0, 3)), 1e-4);
    check::<f32>(&case(1, 16, 48, 1, &[[70, 1, 1, 0, 1]]), 1e-4);
    check::<f32>(&case(2, 5, 9, 1, &[[3, 1, 1, 0, 1], [4, 1, 1, 0, 1], [7, 1, 1, 0, 1]]), 1e-4);
    check::<f64>(&case(3, 20, 37, 1, &square(9, 1, 1, 0, 1)), 1e-11);
    check::<bf16>(&case(3, 20, 37, 1, &square(9, 1, 1, 0, 1)), 1e-2);
}

#[test]
fn other_dtypes() {
    check::<f64>(&case(2, 5, 9, 1, &square(12, 3, 1, 1, 1)), 1e-11);
    check::<f64>(&case(2, 4, 4, 4, &square(12, 3, 2, 1, 1)), 1e-11);
    check::<bf16>(&case(2, 5, 9, 1, &square(12, 3, 1, 1, 1)), 1e-2);
}

#[test]
fn empty_batches_and_channels() {
    at_every_level(|_| {
        let ints = [2, 1, 1, 1, 1, 1, 1, 1];
        let (input, weight) = (Tensor::<f32>::zeros(&[0, 3, 5, 5]), tensor::<f32>(&[4, 3, 3, 3], 1));
        let out = Tensor::<f32>::zeros(&[0, 4, 5, 5]);
        run(Op::conv_forward, &[out.view(), input.view(), weight.view(), View::absent()], &ints, &[]).unwrap();
        let grad_weight = tensor::<f32>(&[4, 3, 3, 3], 2);
        run(Op::conv_weight_grad, &[grad_weight.view(), input.view(), out.view()], &ints, &[]).unwrap();
        assert!(grad_weight.values().iter().all(|&value| value == 0.0));

        let (input, weight) = (Tensor::<f32>::zeros(&[2, 0, 5, 5]), Tensor::<f32>::zeros(&[4, 0, 3, 3]));
        let bias = tensor::<f32>(&[4], 3);
        let out = Tensor::<f32>::zeros(&[2, 4, 5, 5]);
        run(Op::conv_forward, &[out.view(), input.view(), weight.view(), bias.view()], &ints, &[]).unwrap();
        assert!(out.values().iter().enumerate().all(|(at, &value)| value == bias.data[at / 25 % 4]));
    });
}

#[test]
fn nan_reaches_the_outputs_that_read_it() {
    let mut input = tensor::<f32>(&[1, 2, 9, 20], 1);
    input.data[3 * 20 + 10] = f32::NAN;
    let weight = tensor::<f32>(&[3, 2, 3, 3], 2);
    at_every_level(|_| {
        let out = Tensor::<f32>::zeros(&[1, 3, 9, 20]);
        let ints = [2, 1, 1, 1, 1, 1, 1, 1];
        run(Op::conv_forward, &[out.view(), input.view(), weight.view(), View::absent()], &ints, &[]).unwrap();
        for (at, value) in out.values().into_iter().enumerate() {
            let (row, col) = (at / 20 % 9, at % 20);
            assert_eq!(value.is_nan(), row.abs_diff(3) <= 1 && col.abs_diff(10) <= 1, "at {row}, {col}");
        }
    });
}

#[test]
fn results_do_not_depend_on_the_thread_count() {
    let case = case(5, 16, 24, 1, &square(28, 3, 1, 1, 1));
    let (input, weight) = (tensor::<f32>(&case.input(), 1), tensor::<f32>(&case.weight(), 2));
    let gradient = tensor::<f32>(&case.output(), 3);
    let of = |threads| {
        rustorch_kernels::threads::set_num_threads(threads);
        let out = Tensor::<f32>::zeros(&case.output());
        run(Op::conv_forward, &[out.view(), input.view(), weight.view(), View::absent()], &case.ints(), &[]).unwrap();
        let sums = Tensor::<f32>::zeros(&case.weight());
        run(Op::conv_weight_grad, &[sums.view(), input.view(), gradient.view()], &case.ints(), &[]).unwrap();
        (out.values(), sums.values())
    };
    assert_eq!(of(1), of(2));
}

#[test]
fn mismatches_are_refused() {
    let input = Tensor::<f32>::zeros(&[1, 3, 5, 5]);
    let weight = Tensor::<f32>::zeros(&[4, 3, 3, 3]);
    let refused = |out: &[i64], weight: &Tensor<f32>, ints: &[i64]| {
        let out = Tensor::<f32>::zeros(out);
        let views = [out.view(), input.view(), weight.view(), View::absent()];
        run(Op::conv_forward, &views, ints, &[]).unwrap_err()
    };
    let ints = [2, 1, 1, 0, 0, 1, 1, 1];
    let text = refused(&[1, 4, 4, 4], &weight, &ints).to_string();
    assert!(text.contains("do not give output"), "{text}");
    assert_eq!(refused(&[1, 5, 3, 3], &weight, &ints).kind(), Kind::Runtime);
    assert_eq!(refused(&[1, 4, 3, 3], &Tensor::zeros(&[4, 2, 3, 3]), &ints).kind(), Kind::Runtime);
    assert_eq!(refused(&[1, 4, 3, 3], &weight, &[2, 0, 1, 0, 0, 1, 1, 1]).kind(), Kind::Runtime);
    assert_eq!(refused(&[1, 4, 3, 3], &weight, &[2, 1, 1]).kind(), Kind::Runtime);
}
