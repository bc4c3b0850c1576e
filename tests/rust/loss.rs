//! The negative log likelihood against plain loops.

mod support;

use rustorch_kernels::error::{Error, Kind};
use rustorch_kernels::ops::Op;
use rustorch_kernels::view::View;
use support::{Tensor, assert_close, at_every_level, noise, run};

const IGNORED: i64 = -100;

struct Case {
    scores: Tensor<f32>,
    target: Tensor<i64>,
    weight: Option<Tensor<f32>>,
    /// For each position: the class's place in the scores, and its weight.
    places: Vec<Option<(usize, f64)>>,
}

fn case(sizes: &[i64], weighted: bool) -> Case {
    let (samples, classes) = (sizes[0] as usize, sizes[1] as usize);
    let space = sizes[2..].iter().product::<i64>() as usize;
    let mut target_sizes = sizes.to_vec();
    target_sizes.remove(1);
    let scores = Tensor::new(sizes, |i| (noise(3)(i) - 1.0) as f32);
    let target = Tensor::new(&target_sizes, |i| if i % 7 == 3 { IGNORED } else { (i * 5 % classes) as i64 });
    let weight = weighted.then(|| Tensor::new(&[sizes[1]], |i| 0.5 + i as f32));
    let values = target.values();
    let weights = weight.as_ref().map(|weight| weight.values());
    let place = |at: usize| {
        let class = values[at];
        let place = (at / space * classes + class as usize) * space + at % space;
        let weight = weights.as_ref().map_or(1.0, |weights| f64::from(weights[class as usize]));
        (class != IGNORED).then_some((place, weight))
    };
    let places = (0..samples * space).map(|at| if values[at] == IGNORED { None } else { place(at) }).collect();
    Case { scores, target, weight, places }
}

#[test]
fn forward_and_backward() {
    for (sizes, weighted) in [
        (&[1, 1][..], false),
        (&[9, 4], false),
        (&[9, 4], true),
        (&[3, 5, 4, 2], true),
        (&[0, 3], false),
        (&[2000, 11], true),
        (&[2, 3, 70, 71], false),
    ] {
        let Case { scores, target, weight, places } = case(sizes, weighted);
        let values = scores.values();
        let weights: f64 = places.iter().flatten().map(|(_, weight)| weight).sum();
        let losses: Vec<f64> =
            places.iter().map(|place| place.map_or(0.0, |(at, weight)| -f64::from(values[at]) * weight)).collect();
        for reduction in [0, 1, 2] {
            let total: f64 = losses.iter().sum();
            let expected = match reduction {
                0 => losses.clone(),
                1 => vec![total / weights],
                _ => vec![total],
            };
            let out_sizes = if reduction == 0 { target.sizes.clone() } else { vec![] };
            let grad = Tensor::new(&out_sizes, |i| (noise(4)(i) + 2.0) as f32);
            let grads = grad.values();
            let mut expected_grad = vec![0.0; values.len()];
            for (at, place) in places.iter().enumerate() {
                if let Some((place, weight)) = place {
                    let grad = f64::from(grads[if reduction == 0 { at } else { 0 }]);
                    expected_grad[*place] = -weight * grad / if reduction == 1 { weights } else { 1.0 };
                }
            }
            at_every_level(|_| {
                let layouts = [(scores.clone(), target.scattered(2)), (scores.scattered(1), target.clone())];
                for (scores, target) in layouts {
                    let weight = weight.as_ref().map_or(View::absent(), |weight| weight.view());
                    let output = Tensor::<f32>::zeros(&out_sizes);
                    let total_weight = Tensor::<f32>::zeros(&[]);
                    let ints = [reduction, IGNORED];
                    let views = [output.view(), total_weight.view(), scores.view(), target.view(), weight];
                    run(Op::nll_loss, &views, &ints, &[]).unwrap();
                    let actual: Vec<f64> = output.values().into_iter().map(f64::from).collect();
                    assert_close(&actual, &expected, 1e-6, 0.0);
                    let expected_weight = if reduction == 0 { 0.0 } else { weights };
                    assert_close(&[f64::from(total_weight.values()[0])], &[expected_weight], 1e-6, 0.0);

                    let grad_input = scores.clone();
                    let views = [grad_input.view(), grad.view(), target.view(), weight, total_weight.view()];
                    run(Op::nll_loss_backward, &views, &ints, &[]).unwrap();
                    let actual: Vec<f64> = grad_input.values().into_iter().map(f64::from).collect();
                    assert_close(&actual, &expected_grad, 1e-6, 0.0);
                }
            });
        }
    }
}

#[test]
fn targets_out_of_range_are_refused_before_anything_is_written() {
    for class in [4, -1] {
        let scores = Tensor::new(&[2, 4], |_| 1.0f32);
        let target = Tensor::new(&[2], |i| if i == 1 { class } else { 0 });
        let outputs = [Tensor::new(&[2], |_| 7.0f32), Tensor::new(&[], |_| 7.0f32)];
        let views = [outputs[0].view(), outputs[1].view(), scores.view(), target.view(), View::absent()];
        let Err(Error::In { source, .. }) = run(Op::nll_loss, &views, &[0, IGNORED], &[]) else {
            panic!("an invalid class was accepted");
        };
        assert_eq!(source.kind(), Kind::Index);
        assert_eq!(source.to_string(), format!("Target {class} is out of bounds."));
        assert_eq!(outputs[0].values(), [7.0; 2]);
        let views = [scores.view(), outputs[0].view(), target.view(), View::absent(), outputs[1].view()];
        assert!(run(Op::nll_loss_backward, &views, &[0, IGNORED], &[]).is_err());
        assert_eq!(scores.values(), [1.0; 8]);
    }
}

#[test]
fn what_has_not_one_element_is_refused() {
    let scores = Tensor::new(&[2, 4], |_| 1.0f32);
    let target = Tensor::new(&[2], |_| 0i64);
    let one = Tensor::<f32>::zeros(&[]);
    for wrong in [&[0][..], &[2], &[1, 3]].map(Tensor::<f32>::zeros) {
        for wrong in [wrong.view(), View::absent()] {
            let absent = View::absent();
            for [grad, total] in [[wrong, one.view()], [one.view(), wrong]] {
                let views = [scores.view(), grad, target.view(), absent, total];
                assert!(run(Op::nll_loss_backward, &views, &[1, IGNORED], &[]).is_err());
            }
            for [output, total] in [[wrong, one.view()], [one.view(), wrong]] {
                let views = [output, total, scores.view(), target.view(), absent];
                assert!(run(Op::nll_loss, &views, &[1, IGNORED], &[]).is_err());
            }
        }
    }
    assert_eq!(scores.values(), [1.0; 8]);
}

#[test]
fn byte_targets() {
    let scores = Tensor::new(&[3, 2], |i| i as f32);
    let target = Tensor::new(&[3], |i| (i % 2) as u8);
    let outputs = [Tensor::<f32>::zeros(&[3]), Tensor::<f32>::zeros(&[])];
    let views = [outputs[0].view(), outputs[1].view(), scores.view(), target.view(), View::absent()];
    run(Op::nll_loss, &views, &[0, IGNORED], &[]).unwrap();
    assert_eq!(outputs[0].values(), [0.0, -3.0, -4.0]);
}
