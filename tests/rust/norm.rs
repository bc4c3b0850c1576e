//! Batch, group and layer normalisation against plain loops.

mod support;

use half::bf16;
use rustorch_kernels::ops::Op;
use rustorch_kernels::view::View;
use support::{Item, Tensor, assert_close, at_every_level, noise, run};

const EPS: f64 = 1e-5;

fn wide<T: Item + Into<f64>>(tensor: &Tensor<T>) -> Vec<f64> {
    tensor.values().into_iter().map(Into::into).collect()
}

/// Normalises the elements of each set, and takes gradients back through it.
struct Reference {
    mean: Vec<f64>,
    variance: Vec<f64>,
    output: Vec<f64>,
    grad_input: Vec<f64>,
    grad_weight: Vec<f64>,
    grad_bias: Vec<f64>,
}

/// `set(i)` is the statistics' index of element `i`, `parameter(i)` its weight's.
fn reference(
    input: &[f64],
    grad: &[f64],
    weight: &[f64],
    bias: &[f64],
    sets: usize,
    set: impl Fn(usize) -> usize,
    parameter: impl Fn(usize) -> usize,
) -> Reference {
    let mut members = vec![Vec::new(); sets];
    (0..input.len()).for_each(|at| members[set(at)].push(at));
    let count = |set: usize| members[set].len() as f64;
    let over = |set: usize, value: &dyn Fn(usize) -> f64| members[set].iter().map(|&at| value(at)).sum::<f64>();
    let mean: Vec<f64> = (0..sets).map(|set| over(set, &|at| input[at]) / count(set)).collect();
    let variance: Vec<f64> =
        (0..sets).map(|set| over(set, &|at| (input[at] - mean[set]).powi(2)) / count(set)).collect();
    let rstd: Vec<f64> = variance.iter().map(|variance| 1.0 / (variance + EPS).sqrt()).collect();
    let normal = |at: usize| (input[at] - mean[set(at)]) * rstd[set(at)];
    let weighted = |at: usize| grad[at] * weight[parameter(at)];
    let (mut grad_weight, mut grad_bias) = (vec![0.0; weight.len()], vec![0.0; weight.len()]);
    for at in 0..input.len() {
        grad_weight[parameter(at)] += grad[at] * normal(at);
        grad_bias[parameter(at)] += grad[at];
    }
    let means: Vec<[f64; 2]> = (0..sets)
        .map(|set| [over(set, &weighted), over(set, &|at| weighted(at) * normal(at))].map(|sum| sum / count(set)))
        .collect();
    Reference {
        output: (0..input.len()).map(|at| normal(at) * weight[parameter(at)] + bias[parameter(at)]).collect(),
        grad_input: (0..input.len())
            .map(|at| rstd[set(at)] * (weighted(at) - means[set(at)][0] - normal(at) * means[set(at)][1]))
            .collect(),
        mean,
        variance,
        grad_weight,
        grad_bias,
    }
}

fn layouts(tensor: &Tensor<f32>) -> Vec<Tensor<f32>> {
    let mut all = vec![tensor.clone(), tensor.scattered(2)];
    if tensor.sizes.len() > 2 {
        // Channels last.
        let rank = tensor.sizes.len();
        let mut order: Vec<usize> = vec![0];
        order.extend(2..rank);
        order.push(1);
        let mut last = tensor.clone();
        let mut stride = 1;
        for &dim in order.iter().rev() {
            last.strides[dim] = stride;
            stride *= tensor.sizes[dim];
        }
        last.assign(&tensor.values());
        all.push(last);
    }
    all
}

const SHAPES: &[&[i64]] = &[&[5, 3], &[2, 4, 7], &[3, 6, 5, 11], &[2, 12, 70, 33], &[1, 2, 1, 9], &[300, 64]];

#[test]
fn batch_norm() {
    for &sizes in SHAPES {
        let channels = sizes[1] as usize;
        let space = sizes[2..].iter().product::<i64>() as usize;
        let input = Tensor::new(sizes, |i| (noise(1)(i) * 3.0 + 50.0) as f32);
        let grad = Tensor::new(sizes, |i| noise(2)(i) as f32);
        let weight = Tensor::new(&[sizes[1]], |i| noise(3)(i) as f32 + 1.5);
        let bias = Tensor::new(&[sizes[1]], |i| noise(4)(i) as f32);
        let channel = |at: usize| at / space % channels;
        let [x, g, w, b] = [&input, &grad, &weight, &bias].map(wide);
        let expected = reference(&x, &g, &w, &b, channels, channel, channel);
        let count = (x.len() / channels) as f64;
        at_every_level(|_| {
            for (input, grad) in layouts(&input).into_iter().zip(layouts(&grad).into_iter().rev()) {
                let output = Tensor::<f32>::zeros(sizes);
                let vector = |value: f32| Tensor::new(&[sizes[1]], |_| value);
                let (mean, invstd, running_mean, running_var) = (vector(0.0), vector(0.0), vector(2.0), vector(3.0));
                let views = [
                    output.view(),
                    mean.view(),
                    invstd.view(),
                    running_mean.view(),
                    running_var.view(),
                    input.view(),
                    weight.view(),
                    bias.view(),
                ];
                run(Op::batch_norm, &views, &[1], &[0.1, EPS]).unwrap();
                assert_close(&wide(&output), &expected.output, 1e-5, 1e-5);
                assert_close(&wide(&mean), &expected.mean, 1e-6, 0.0);
                let deviations: Vec<f64> = expected.variance.iter().map(|v| 1.0 / (v + EPS).sqrt()).collect();
                assert_close(&wide(&invstd), &deviations, 1e-5, 0.0);
                let blended: Vec<f64> = expected.mean.iter().map(|mean| 0.9 * 2.0 + 0.1 * mean).collect();
                assert_close(&wide(&running_mean), &blended, 1e-6, 0.0);
                let unbiased = |v: &f64| 0.9 * 3.0 + 0.1 * v * count / (count - 1.0);
                assert_close(
                    &wide(&running_var),
                    &expected.variance.iter().map(unbiased).collect::<Vec<_>>(),
                    1e-5,
                    0.0,
                );

                let grads = [Tensor::<f32>::zeros(sizes).scattered(1), Tensor::zeros(&[1])];
                let (grad_weight, grad_bias) = (vector(0.0), vector(0.0));
                let views = [
                    grads[0].view(),
                    grad_weight.view(),
                    grad_bias.view(),
                    grad.view(),
                    input.view(),
                    weight.view(),
                    mean.view(),
                    invstd.view(),
                ];
                run(Op::batch_norm_backward, &views, &[1], &[EPS]).unwrap();
                assert_close(&wide(&grads[0]), &expected.grad_input, 1e-4, 1e-5);
                assert_close(&wide(&grad_weight), &expected.grad_weight, 1e-4, 1e-3);
                assert_close(&wide(&grad_bias), &expected.grad_bias, 1e-5, 1e-4);
            }
        });
    }
}

#[test]
fn batch_norm_with_running_statistics() {
    let sizes = [3, 4, 5];
    let input = Tensor::new(&sizes, |i| noise(1)(i) as f32);
    let grad = Tensor::new(&sizes, |i| noise(2)(i) as f32);
    let (mean, variance) = (Tensor::new(&[4], |i| i as f32 * 0.1), Tensor::new(&[4], |i| i as f32 + 0.5));
    let output = Tensor::<f32>::zeros(&sizes);
    let absent = View::absent();
    let views = [output.view(), absent, absent, mean.view(), variance.view(), input.view(), absent, absent];
    run(Op::batch_norm, &views, &[0], &[0.1, EPS]).unwrap();
    let channel = |at: usize| at / 5 % 4;
    let invstd = |at: usize| 1.0 / (wide(&variance)[channel(at)] + EPS).sqrt();
    let expected: Vec<f64> = (0..60).map(|at| (wide(&input)[at] - wide(&mean)[channel(at)]) * invstd(at)).collect();
    assert_close(&wide(&output), &expected, 1e-5, 1e-6);
    assert_eq!(wide(&mean), [0.0, 1.0, 2.0, 3.0].map(|i: f64| f64::from(i as f32 * 0.1)));

    let grad_input = Tensor::<f32>::zeros(&sizes);
    let views = [grad_input.view(), absent, absent, grad.view(), input.view(), absent, mean.view(), variance.view()];
    run(Op::batch_norm_backward, &views, &[0], &[EPS]).unwrap();
    let expected: Vec<f64> = (0..60).map(|at| wide(&grad)[at] * invstd(at)).collect();
    assert_close(&wide(&grad_input), &expected, 1e-5, 1e-6);

    let refused = [output.view(), absent, absent, absent, absent, input.view(), absent, absent];
    assert!(run(Op::batch_norm, &refused, &[0], &[0.1, EPS]).is_err());
}

#[test]
fn group_norm() {
    for &sizes in SHAPES {
        let channels = sizes[1] as usize;
        let space = sizes[2..].iter().product::<i64>() as usize;
        for groups in [1, channels, 2, 3] {
            if !channels.is_multiple_of(groups) || channels / groups * space < 2 {
                continue;
            }
            let sets = sizes[0] as usize * groups;
            let input = Tensor::new(sizes, |i| (noise(1)(i) + 5.0) as f32);
            let grad = Tensor::new(sizes, |i| noise(2)(i) as f32);
            let weight = Tensor::new(&[sizes[1]], |i| noise(3)(i) as f32 + 1.5);
            let bias = Tensor::new(&[sizes[1]], |i| noise(4)(i) as f32);
            let [x, g, w, b] = [&input, &grad, &weight, &bias].map(wide);
            let per_set = x.len() / sets;
            let expected = reference(&x, &g, &w, &b, sets, |at| at / per_set, |at| at / space % channels);
            at_every_level(|_| {
                for (input, grad) in layouts(&input).into_iter().zip(layouts(&grad)) {
                    let output = Tensor::<f32>::zeros(sizes);
                    let statistics = [0, 1].map(|_| Tensor::<f32>::zeros(&[sizes[0], groups as i64]));
                    let [mean, rstd] = statistics.each_ref().map(|tensor| tensor.view());
                    let views = [output.view(), mean, rstd, input.view(), weight.view(), bias.view()];
                    run(Op::group_norm, &views, &[groups as i64], &[EPS]).unwrap();
                    assert_close(&wide(&output), &expected.output, 2e-5, 2e-5);
                    let grads = [0, 1].map(|_| Tensor::<f32>::zeros(&[sizes[1]]));
                    let views = [
                        output.view(),
                        grads[0].view(),
                        grads[1].view(),
                        grad.view(),
                        input.view(),
                        mean,
                        rstd,
                        weight.view(),
                    ];
                    run(Op::group_norm_backward, &views, &[groups as i64], &[]).unwrap();
                    assert_close(&wide(&output), &expected.grad_input, 1e-3, 1e-4);
                    assert_close(&wide(&grads[0]), &expected.grad_weight, 1e-4, 1e-3);
                    assert_close(&wide(&grads[1]), &expected.grad_bias, 1e-5, 1e-4);
                }
            });
        }
    }
    let input = Tensor::<f32>::zeros(&[2, 4, 3]);
    let statistics = Tensor::<f32>::zeros(&[2, 3]);
    let absent = View::absent();
    let views = [input.view(), statistics.view(), statistics.view(), input.view(), absent, absent];
    assert!(run(Op::group_norm, &views, &[3], &[EPS]).is_err());
    let (grad, saved) = (Tensor::<f32>::zeros(&[2, 4, 3]), Tensor::<f32>::zeros(&[2, 2]));
    for [mean, rstd] in [[absent, saved.view()], [saved.view(), absent]] {
        let views = [grad.view(), absent, absent, input.view(), input.view(), mean, rstd, absent];
        assert!(run(Op::group_norm_backward, &views, &[2], &[]).is_err());
    }
}

#[test]
fn layer_norm() {
    for &sizes in &[[1, 1], [5, 3], [3, 768], [70, 33], [2, 9001], [0, 4]] {
        let columns = sizes[1] as usize;
        let input = Tensor::new(&sizes, |i| (noise(1)(i) + 5.0) as f32);
        let grad = Tensor::new(&sizes, |i| noise(2)(i) as f32);
        let weight = Tensor::new(&[sizes[1]], |i| noise(3)(i) as f32 + 1.5);
        let bias = Tensor::new(&[sizes[1]], |i| noise(4)(i) as f32);
        let [x, g, w, b] = [&input, &grad, &weight, &bias].map(wide);
        for (weighted, biased) in [(true, true), (true, false), (false, true), (false, false)] {
            let w = if weighted { w.clone() } else { vec![1.0; columns] };
            let b = if biased { b.clone() } else { vec![0.0; columns] };
            let expected = reference(&x, &g, &w, &b, sizes[0] as usize, |at| at / columns, |at| at % columns);
            let optional = |tensor: &Tensor<f32>, given: bool| if given { tensor.clone() } else { Tensor::zeros(&[0]) };
            let (weight, bias) = (optional(&weight, weighted), optional(&bias, biased));
            let present = |tensor: &Tensor<f32>| tensor.sizes != [0];
            at_every_level(|_| {
                for (input, grad) in [(input.clone(), grad.scattered(1)), (input.scattered(2), grad.clone())] {
                    let output = Tensor::<f32>::zeros(&sizes).scattered(1);
                    let statistics = [0, 1].map(|_| Tensor::<f32>::zeros(&[sizes[0], 1]));
                    let [mean, rstd] = statistics.each_ref().map(|tensor| tensor.view());
                    let weight_view = if present(&weight) { weight.view() } else { View::absent() };
                    let bias_view = if present(&bias) { bias.view() } else { View::absent() };
                    let views = [output.view(), mean, rstd, input.view(), weight_view, bias_view];
                    run(Op::layer_norm, &views, &[], &[EPS]).unwrap();
                    assert_close(&wide(&output), &expected.output, 1e-5, 1e-4);
                    assert_close(&wide(&statistics[0]), &expected.mean, 1e-6, 0.0);
                    let grads = [0, 1].map(|_| Tensor::<f32>::zeros(&[sizes[1]]));
                    let views = [
                        output.view(),
                        grads[0].view(),
                        grads[1].view(),
                        grad.view(),
                        input.view(),
                        mean,
                        rstd,
                        weight_view,
                    ];
                    run(Op::layer_norm_backward, &views, &[], &[]).unwrap();
                    assert_close(&wide(&output), &expected.grad_input, 1e-3, 1e-4);
                    assert_close(&wide(&grads[0]), &expected.grad_weight, 1e-4, 1e-4);
                    assert_close(&wide(&grads[1]), &expected.grad_bias, 1e-5, 1e-5);
                }
            });
        }
    }
}

#[test]
fn half_inputs_have_statistics_and_parameters_in_f32() {
    let sizes = [4, 100];
    let input = Tensor::new(&sizes, |i| bf16::from_f64(noise(1)(i) + 3.0));
    let weight = Tensor::new(&[100], |_| 2.0f32);
    let x: Vec<f64> = input.values().into_iter().map(f64::from).collect();
    let expected = reference(&x, &x, &[2.0; 100], &[0.0; 100], 4, |at| at / 100, |at| at % 100);
    let output = Tensor::<bf16>::zeros(&sizes);
    let statistics = [0, 1].map(|_| Tensor::<f32>::zeros(&[4]));
    let [mean, rstd] = statistics.each_ref().map(|tensor| tensor.view());
    let views = [output.view(), mean, rstd, input.view(), weight.view(), View::absent()];
    run(Op::layer_norm, &views, &[], &[EPS]).unwrap();
    let actual: Vec<f64> = output.values().into_iter().map(f64::from).collect();
    assert_close(&actual, &expected.output, 1e-2, 1e-2);
    assert_close(&wide(&statistics[0]), &expected.mean, 1e-6, 0.0);

    let channels = [0, 1].map(|_| Tensor::<f32>::zeros(&[100]));
    let [mean, spread] = channels.each_ref().map(|tensor| tensor.view());
    let absent = View::absent();
    let views = [output.view(), mean, spread, absent, absent, input.view(), absent, absent];
    run(Op::batch_norm, &views, &[1], &[0.1, EPS]).unwrap();
    let expected = reference(&x, &x, &[1.0; 100], &[0.0; 100], 100, |at| at % 100, |at| at % 100);
    let actual: Vec<f64> = output.values().into_iter().map(f64::from).collect();
    assert_close(&actual, &expected.output, 1e-2, 1e-2);
}

#[test]
fn coefficients_give_the_bits_of_batch_norm() {
    let (samples, count) = (5, 7);
    let dense = Tensor::<f32>::new(&[samples, count, 3, 4], |index| noise(1)(index) as f32 * 3.0 + 1.0);
    let parameters = |seed: u64| Tensor::<f32>::new(&[count], |index| noise(seed)(index) as f32 + 1.5);
    let (weight, bias) = (parameters(2), parameters(3));
    at_every_level(|_| {
        for input in layouts(&dense) {
            for training in [0, 1] {
                let run_with = |op: Op, outputs: &[&Tensor<f32>], input: View<'_>| {
                    let kept = [parameters(4), parameters(5), parameters(6), parameters(7)];
                    let views: Vec<View<'_>> = outputs
                        .iter()
                        .copied()
                        .chain(&kept)
                        .map(|tensor| tensor.view())
                        .chain([input, weight.view(), bias.view()])
                        .collect();
                    run(op, &views, &[training], &[0.1, EPS]).unwrap();
                    kept.iter().flat_map(|tensor| tensor.data.iter().map(|value| value.to_bits())).collect::<Vec<_>>()
                };
                let output = input.clone();
                let kept = run_with(Op::batch_norm, &[&output], input.view());
                let [centre, scale, constant] = [0; 3].map(|_| Tensor::<f32>::zeros(&[count]));
                let read = if training == 1 { input.view() } else { View::absent() };
                assert_eq!(run_with(Op::batch_norm_coefficients, &[&centre, &scale, &constant], read), kept);
                let of_input = |(at, value): (usize, f32)| {
                    let channel = at / 12 % count as usize;
                    (value - centre.data[channel]).mul_add(scale.data[channel], constant.data[channel]).to_bits()
                };
                let expected: Vec<u32> = input.values().into_iter().enumerate().map(of_input).collect();
                assert_eq!(output.values().iter().map(|value| value.to_bits()).collect::<Vec<_>>(), expected);
            }
        }
    });
}

#[test]
fn channels_are_mapped() {
    for &sizes in SHAPES {
        let space = sizes[2..].iter().product::<i64>() as usize;
        let channel = |at: usize| at / space % sizes[1] as usize;
        let input = Tensor::new(sizes, |i| noise(1)(i) as f32);
        let grad = Tensor::new(sizes, |i| noise(2)(i) as f32);
        // Statistics may be wider than what they are of.
        let [centre, of_grad, of_input, constant] =
            [3, 4, 5, 6].map(|seed| Tensor::<f64>::new(&[sizes[1]], |i| noise(seed)(i)));
        let normal = |at: usize| {
            (f64::from(input.data[at]) - centre.data[channel(at)]) * of_input.data[channel(at)]
                + constant.data[channel(at)]
        };
        let all: Vec<f64> =
            (0..input.data.len()).map(|at| f64::from(grad.data[at]) * of_grad.data[channel(at)] + normal(at)).collect();
        let without_grad: Vec<f64> = (0..input.data.len()).map(normal).collect();
        at_every_level(|_| {
            for (input, grad) in layouts(&input).into_iter().zip(layouts(&grad).into_iter().rev()) {
                let output = Tensor::<f32>::zeros(sizes).scattered(1);
                let (absent, rest) =
                    (View::absent(), [centre.view(), of_grad.view(), of_input.view(), constant.view()]);
                let views = [&[output.view(), grad.view(), input.view()][..], &rest].concat();
                run(Op::map_channels, &views, &[], &[]).unwrap();
                assert_close(&wide(&output), &all, 1e-5, 1e-6);
                let views = [output.view(), absent, input.view(), rest[0], absent, rest[2], rest[3]];
                run(Op::map_channels, &views, &[], &[]).unwrap();
                assert_close(&wide(&output), &without_grad, 1e-5, 1e-6);
            }
        });
    }
    let tensor = Tensor::<f32>::zeros(&[2, 3]);
    let (all, few) = (Tensor::<f32>::zeros(&[3]), Tensor::<f32>::zeros(&[2]));
    let refused = |centre: View<'_>, of_input: View<'_>| {
        let views = [tensor.view(), View::absent(), tensor.view(), centre, View::absent(), of_input, View::absent()];
        run(Op::map_channels, &views, &[], &[]).is_err()
    };
    assert!(refused(few.view(), all.view()) && refused(all.view(), few.view()) && refused(View::absent(), all.view()));
}

#[test]
fn a_constant_channel_without_eps_is_taken_to_the_bias() {
    let (input, bias) = (Tensor::new(&[4, 2], |_| 3.0f32), Tensor::new(&[2], |i| i as f32));
    let (output, invstd) = (Tensor::<f32>::zeros(&[4, 2]), Tensor::<f32>::zeros(&[2]));
    let absent = View::absent();
    let views = [output.view(), absent, invstd.view(), absent, absent, input.view(), absent, bias.view()];
    run(Op::batch_norm, &views, &[1], &[0.1, 0.0]).unwrap();
    assert_eq!(output.values(), [0.0, 1.0].repeat(4));
    assert_eq!(invstd.values(), [0.0, 0.0]);
}
