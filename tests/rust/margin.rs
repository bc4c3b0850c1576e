//! Margin losses against plain loops, and temporal classification against every path there is.

mod support;

use rustorch_kernels::ops::Op;
use rustorch_kernels::view::View;
use support::{Tensor, assert_close, at_every_level, noise, run};

/// How `f` of the values moves with each of them.
fn slopes(values: &[f64], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let moved = |at: usize, step: f64| {
        let mut values = values.to_vec();
        values[at] += step;
        f(&values)
    };
    (0..values.len()).map(|at| (moved(at, 1e-6) - moved(at, -1e-6)) / 2e-6).collect()
}

fn reduced(losses: &[f64], reduction: i64) -> Vec<f64> {
    let sum: f64 = losses.iter().sum();
    match reduction {
        0 => losses.to_vec(),
        1 => vec![sum / losses.len() as f64],
        _ => vec![sum],
    }
}

#[test]
fn margins() {
    let (samples, classes) = (5usize, 4usize);
    let input = Tensor::new(&[5, 4], |at| noise(1)(at) * 2.0);
    let target = Tensor::new(&[5], |at| (at as i64 * 3) % 4);
    let lists = Tensor::new(&[5, 4], |at| [3i64, 0, -1, 1, -1, 0, 1, 2, 0, 1, 2, 3, 2, -1, 2, 2, 1, 3, 0, -1][at]);
    let weight = Tensor::new(&[4], |at| 0.5 + at as f64);
    for reduction in 0..3 {
        let sizes: &[i64] = if reduction == 0 { &[5] } else { &[] };
        let grad = Tensor::new(sizes, |at| 1.0 + at as f64);
        let weighted = |losses: &[f64]| {
            reduced(losses, reduction).iter().zip(grad.values()).map(|(loss, grad)| loss * grad).sum::<f64>()
        };
        for (p, with_weight) in [(1, false), (2, true)] {
            let margin = 0.7;
            let losses = |x: &[f64]| -> Vec<f64> {
                (0..samples)
                    .map(|n| {
                        let class = target.values()[n] as usize;
                        let scale = if with_weight { weight.values()[class] } else { 1.0 };
                        let terms = (0..classes)
                            .filter(|&other| other != class)
                            .map(|other| (margin - x[n * classes + class] + x[n * classes + other]).max(0.0).powi(p));
                        terms.sum::<f64>() * scale / classes as f64
                    })
                    .collect()
            };
            let expected = slopes(&input.values(), |x| weighted(&losses(x)));
            at_every_level(|_| {
                for input in [input.clone(), input.scattered(2)] {
                    let weight = if with_weight { weight.view() } else { View::absent() };
                    let (out, grad_input) = (Tensor::zeros(sizes), Tensor::zeros(&[5, 4]).scattered(1));
                    let ints = [i64::from(p), reduction];
                    run(Op::multi_margin, &[out.view(), input.view(), target.view(), weight], &ints, &[margin])
                        .unwrap();
                    assert_close(&out.values(), &reduced(&losses(&input.values()), reduction), 1e-12, 1e-12);
                    let views = [grad_input.view(), grad.view(), input.view(), target.view(), weight];
                    run(Op::multi_margin_backward, &views, &ints, &[margin]).unwrap();
                    assert_close(&grad_input.values(), &expected, 1e-6, 1e-7);
                }
            });
        }
        let losses = |x: &[f64]| -> Vec<f64> {
            (0..samples)
                .map(|n| {
                    let list: Vec<usize> = lists.values()[n * classes..][..classes]
                        .iter()
                        .take_while(|&&class| class >= 0)
                        .map(|&class| class as usize)
                        .collect();
                    let x = &x[n * classes..][..classes];
                    let others = |class: &usize| !list.contains(class);
                    let sum: f64 = list
                        .iter()
                        .map(|&class| {
                            (0..classes).filter(others).map(|o| (1.0 - x[class] + x[o]).max(0.0)).sum::<f64>()
                        })
                        .sum();
                    sum / classes as f64
                })
                .collect()
        };
        let expected = slopes(&input.values(), |x| weighted(&losses(x)));
        at_every_level(|_| {
            let (out, grad_input) = (Tensor::zeros(sizes), Tensor::zeros(&[5, 4]));
            let flags = Tensor::<f64>::zeros(&[5, 4]);
            let views = [out.view(), flags.view(), input.view(), lists.view()];
            run(Op::multilabel_margin, &views, &[reduction], &[]).unwrap();
            assert_close(&out.values(), &reduced(&losses(&input.values()), reduction), 1e-12, 1e-12);
            assert_eq!(flags.values()[..4], [1.0, 0.0, 0.0, 1.0]);
            let views = [grad_input.view(), grad.view(), input.view(), lists.view()];
            run(Op::multilabel_margin_backward, &views, &[reduction], &[]).unwrap();
            assert_close(&grad_input.values(), &expected, 1e-6, 1e-7);
        });
    }
    let (out, wrong) = (Tensor::<f64>::zeros(&[]), Tensor::new(&[5], |_| 4i64));
    assert!(run(Op::multi_margin, &[out.view(), input.view(), wrong.view(), View::absent()], &[1, 1], &[1.0]).is_err());
}

#[test]
fn what_is_no_number_is_in_no_margin() {
    let input = Tensor::new(&[2, 3], |at| [f64::NAN, 1.0, 2.0, 1.0, f64::NAN, 0.5][at]);
    let (target, lists) = (Tensor::new(&[2], |_| 0i64), Tensor::new(&[2, 3], |at| if at % 3 == 0 { 0i64 } else { -1 }));
    // Of the first sample every difference is none; of the second, 1 - 1 + 0.5 is one.
    let expected = [0.0, 0.5 / 3.0];
    let (out, flags, grad) = (Tensor::<f64>::zeros(&[2]), Tensor::<f64>::zeros(&[2, 3]), Tensor::new(&[2], |_| 3.0f64));
    let grads = [0.0, 0.0, 0.0, -1.0, 0.0, 1.0];
    let absent = View::absent();
    run(Op::multi_margin, &[out.view(), input.view(), target.view(), absent], &[1, 0], &[1.0]).unwrap();
    assert_eq!(out.values(), expected);
    let grad_input = Tensor::<f64>::zeros(&[2, 3]);
    let views = [grad_input.view(), grad.view(), input.view(), target.view(), absent];
    run(Op::multi_margin_backward, &views, &[1, 0], &[1.0]).unwrap();
    assert_eq!(grad_input.values(), grads);
    run(Op::multilabel_margin, &[out.view(), flags.view(), input.view(), lists.view()], &[0], &[]).unwrap();
    assert_eq!(out.values(), expected);
    let views = [grad_input.view(), grad.view(), input.view(), lists.view()];
    run(Op::multilabel_margin_backward, &views, &[0], &[]).unwrap();
    assert_eq!(grad_input.values(), grads);
}

/// What a path says: repeats are one, blanks (class 0) are nothing.
fn said(path: &[usize]) -> Vec<i64> {
    let mut labels = vec![];
    for (step, &class) in path.iter().enumerate() {
        if class != 0 && (step == 0 || path[step - 1] != class) {
            labels.push(class as i64);
        }
    }
    labels
}

#[test]
fn every_path_counts() {
    let (steps, classes) = (5usize, 3usize);
    let input_lengths = [5i64, 4, 5];
    let targets: [&[i64]; 3] = [&[1, 1], &[2], &[]];
    let probs = Tensor::new(&[5, 3, 3], |at| -1.0 - noise(1)(at).abs());
    let losses = |values: &[f64]| -> Vec<f64> {
        (0..3)
            .map(|sample| {
                let length = input_lengths[sample] as usize;
                let paths = (0..classes.pow(length as u32)).map(|number| {
                    (0..length).map(|step| number / classes.pow(step as u32) % classes).collect::<Vec<_>>()
                });
                let total: f64 = paths
                    .filter(|path| said(path) == targets[sample])
                    .map(|path| {
                        let at = |(step, &class): (usize, &usize)| values[(step * 3 + sample) * classes + class];
                        path.iter().enumerate().map(at).sum::<f64>().exp()
                    })
                    .sum();
                -total.ln()
            })
            .collect()
    };
    let grad = Tensor::new(&[3], |at| 1.0 + at as f64);
    let raw = slopes(&probs.values(), |x| losses(x).iter().zip(grad.values()).map(|(l, g)| l * g).sum());
    // The gradient is that of a log softmax before it: shares that sum to nothing.
    let expected: Vec<f64> = raw
        .iter()
        .enumerate()
        .map(|(at, slope)| {
            let (step, sample) = (at / classes / 3, at / classes % 3);
            let seen = step < input_lengths[sample] as usize;
            slope + if seen { probs.values()[at].exp() * grad.values()[sample] } else { 0.0 }
        })
        .collect();
    let ints = [&[0i64, 0][..], &input_lengths, &[2, 1, 0]].concat();
    at_every_level(|_| {
        let joined = Tensor::new(&[3], |at| [1i64, 1, 2][at]);
        let padded = Tensor::new(&[3, 2], |at| [1i32, 1, 2, 0, 0, 0][at]).scattered(2);
        for (probs, targets) in [(probs.clone(), joined.view()), (probs.scattered(2), padded.view())] {
            let (loss, alpha) = (Tensor::zeros(&[3]), Tensor::<f64>::zeros(&[3, steps as i64, 5]));
            run(Op::ctc_loss, &[loss.view(), alpha.view(), probs.view(), targets], &ints, &[]).unwrap();
            assert_close(&loss.values(), &losses(&probs.values()), 1e-10, 1e-12);
            let grad_probs = Tensor::zeros(&[5, 3, 3]).scattered(1);
            let views = [grad_probs.view(), grad.view(), probs.view(), targets, loss.view(), alpha.view()];
            run(Op::ctc_loss_backward, &views, &ints, &[]).unwrap();
            assert_close(&grad_probs.values(), &expected, 1e-5, 1e-6);
        }
    });
    let (loss, alpha) = (Tensor::<f64>::zeros(&[3]), Tensor::<f64>::zeros(&[3, 5, 5]));
    let targets = Tensor::new(&[3], |_| 1i64);
    let too_long = [&[0i64, 0][..], &[6, 4, 5], &[1, 1, 1]].concat();
    assert!(run(Op::ctc_loss, &[loss.view(), alpha.view(), probs.view(), targets.view()], &too_long, &[]).is_err());
}
