//! Attention against plain loops in f64, forward and backward.

mod support;

use rustorch_kernels::ops::Op;
use rustorch_kernels::view::View;
use support::{Tensor, assert_close, at_every_level, noise, run};

/// (batch, heads, heads of keys, queries, keys, width, width of values)
type Shape = [usize; 7];
const SHAPES: [Shape; 6] = [
    [1, 1, 1, 1, 1, 1, 1],
    [2, 4, 2, 5, 7, 3, 6],
    [1, 2, 2, 64, 64, 16, 16],
    [1, 2, 1, 131, 70, 9, 33],
    [1, 1, 1, 3, 200, 8, 8],
    [1, 3, 3, 67, 0, 4, 4],
];

struct Reference {
    out: Vec<f64>,
    logsumexp: Vec<f64>,
    grads: [Vec<f64>; 4],
}

fn values<T: Copy + Into<f64> + support::Item>(tensor: &Tensor<T>) -> Vec<f64> {
    tensor.values().into_iter().map(Into::into).collect()
}

/// One score after another.
#[allow(clippy::too_many_arguments, reason = "the operands of attention")]
fn reference(
    [batch, heads, kept, queries, keys, width, value_width]: Shape,
    [query, key, value]: [&[f64]; 3],
    mask: Option<&[f64]>,
    causal: bool,
    scale: f64,
    grad: &[f64],
) -> Reference {
    let mut result = Reference {
        out: vec![0.0; batch * heads * queries * value_width],
        logsumexp: vec![0.0; batch * heads * queries],
        grads: [
            vec![0.0; query.len()],
            vec![0.0; key.len()],
            vec![0.0; value.len()],
            vec![0.0; batch * heads * queries * keys],
        ],
    };
    for row in 0..batch * heads * queries {
        let (head, q) = (row / queries, row % queries);
        let shared = head / heads * kept + head % heads / (heads / kept);
        let at = |k: usize, width: usize| (shared * keys + k) * width;
        let scores: Vec<f64> = (0..keys)
            .map(|k| {
                let dot: f64 = (0..width).map(|e| query[row * width + e] * key[at(k, width) + e]).sum();
                let hidden = causal && k > q;
                if hidden { f64::NEG_INFINITY } else { dot * scale + mask.map_or(0.0, |mask| mask[row * keys + k]) }
            })
            .collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if largest == f64::NEG_INFINITY {
            continue;
        }
        let total: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
        result.logsumexp[row] = largest + total.ln();
        let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp() / total).collect();
        let out = &mut result.out[row * value_width..][..value_width];
        for (k, weight) in weights.iter().enumerate() {
            (0..value_width).for_each(|e| out[e] += weight * value[at(k, value_width) + e]);
        }
        let grad = &grad[row * value_width..][..value_width];
        let share: f64 = grad.iter().zip(out.iter()).map(|(a, b)| a * b).sum();
        for (k, weight) in weights.iter().enumerate() {
            let moved: f64 = (0..value_width).map(|e| grad[e] * value[at(k, value_width) + e]).sum();
            let step = weight * (moved - share);
            result.grads[3][row * keys + k] = step;
            for (e, grad) in grad.iter().enumerate() {
                result.grads[2][at(k, value_width) + e] += weight * grad;
            }
            for e in 0..width {
                result.grads[0][row * width + e] += step * scale * key[at(k, width) + e];
                result.grads[1][at(k, width) + e] += step * scale * query[row * width + e];
            }
        }
    }
    result
}

fn sizes([batch, heads, kept, queries, keys, width, value_width]: Shape) -> [Vec<i64>; 5] {
    let list = |sizes: [usize; 4]| sizes.map(|size| size as i64).to_vec();
    [
        list([batch, heads, queries, width]),
        list([batch, kept, keys, width]),
        list([batch, kept, keys, value_width]),
        list([batch, heads, queries, value_width]),
        list([batch, heads, queries, keys]),
    ]
}

#[test]
fn forward_and_backward() {
    for shape in SHAPES {
        for (causal, masked) in [(false, false), (true, false), (false, true)] {
            let [query_sizes, key_sizes, value_sizes, out_sizes, score_sizes] = sizes(shape);
            let made = |sizes: &[i64], seed: u64| Tensor::new(sizes, |at| noise(seed)(at) as f32);
            let (query, key, value) = (made(&query_sizes, 1), made(&key_sizes, 2), made(&value_sizes, 3));
            let mut mask = Tensor::new(&score_sizes, |at| noise(4)(at) as f32 * 3.0);
            // One query sees nothing, one sees all keys from as far as a number goes, and one key is seen by none.
            let keys = shape[4];
            for (at, value) in mask.data.iter_mut().enumerate() {
                if at / keys == 1 || at % keys == 2 {
                    *value = f32::NEG_INFINITY;
                } else if at / keys == 3 {
                    *value = f32::MIN;
                }
            }
            let grad = made(&out_sizes, 5);
            let scale = 0.3;
            let mask_values = values(&mask);
            let expected = reference(
                shape,
                [&values(&query), &values(&key), &values(&value)],
                masked.then_some(&mask_values),
                causal,
                scale,
                &values(&grad),
            );
            at_every_level(|_| {
                for scattered in [false, true] {
                    let place = |tensor: &Tensor<f32>| if scattered { tensor.scattered(2) } else { tensor.clone() };
                    let [query, key, value, mask, grad] = [&query, &key, &value, &mask, &grad].map(place);
                    let mask_view = if masked { mask.view() } else { View::absent() };
                    let out = place(&Tensor::zeros(&out_sizes));
                    let logsumexp = place(&Tensor::zeros(&out_sizes[..3]));
                    let ints = [0, 0, i64::from(causal)];
                    let views = [out.view(), logsumexp.view(), query.view(), key.view(), value.view(), mask_view];
                    run(Op::attention, &views, &ints, &[scale]).unwrap();
                    assert_close(&values(&out), &expected.out, 1e-4, 1e-5);
                    assert_close(&values(&logsumexp), &expected.logsumexp, 1e-5, 1e-5);
                    let grads = [&query_sizes, &key_sizes, &value_sizes, &score_sizes]
                        .map(|sizes| place(&Tensor::zeros(sizes)));
                    let [grad_query, grad_key, grad_value, grad_mask] = grads.each_ref().map(Tensor::view);
                    let grad_mask = if masked { grad_mask } else { View::absent() };
                    let none = View::absent();
                    let views = [
                        grad_query,
                        grad_key,
                        grad_value,
                        grad_mask,
                        grad.view(),
                        query.view(),
                        key.view(),
                        value.view(),
                        mask_view,
                        out.view(),
                        logsumexp.view(),
                        none,
                        none,
                    ];
                    run(Op::attention_backward, &views, &ints, &[scale, 0.0]).unwrap();
                    for (at, grad) in grads.iter().enumerate().take(if masked { 4 } else { 3 }) {
                        assert_close(&values(grad), &expected.grads[at], 1e-4, 1e-5);
                    }
                }
            });
        }
    }
}

#[test]
fn halves_and_doubles() {
    let shape = [1, 2, 1, 70, 66, 12, 12];
    let [query_sizes, key_sizes, value_sizes, out_sizes, _] = sizes(shape);
    let made = |sizes: &[i64], seed: u64| Tensor::new(sizes, |at| half::bf16::from_f64(noise(seed)(at)));
    let (query, key, value) = (made(&query_sizes, 1), made(&key_sizes, 2), made(&value_sizes, 3));
    let wide = |tensor: &Tensor<half::bf16>| Tensor::new(&tensor.sizes, |at| tensor.values()[at].to_f64());
    let [wide_query, wide_key, wide_value] = [&query, &key, &value].map(wide);
    at_every_level(|_| {
        let (out, logsumexp) = (Tensor::<half::bf16>::zeros(&out_sizes), Tensor::<f32>::zeros(&out_sizes[..3]));
        let views = [out.view(), logsumexp.view(), query.view(), key.view(), value.view(), View::absent()];
        run(Op::attention, &views, &[0, 0, 1], &[0.25]).unwrap();
        let (wide_out, wide_sums) = (Tensor::<f64>::zeros(&out_sizes), Tensor::<f64>::zeros(&out_sizes[..3]));
        let views =
            [wide_out.view(), wide_sums.view(), wide_query.view(), wide_key.view(), wide_value.view(), View::absent()];
        run(Op::attention, &views, &[0, 0, 1], &[0.25]).unwrap();
        assert_close(&values(&out), &wide_out.values(), 1e-2, 1e-2);
        assert_close(&values(&logsumexp), &wide_sums.values(), 1e-5, 1e-5);
    });
}

#[test]
fn dropout_keeps_its_share_and_the_gradient_drops_the_same() {
    // With values and scores of one, an output counts what was kept.
    let sizes = [1, 2, 65, 1];
    let ones = Tensor::new(&sizes, |_| 1.0f32);
    let keys = Tensor::new(&[1, 2, 300, 1], |_| 1.0f32);
    at_every_level(|_| {
        let (out, logsumexp) = (Tensor::<f32>::zeros(&sizes), Tensor::<f32>::zeros(&sizes[..3]));
        let state = Tensor::<i64>::zeros(&[2]);
        let views = [out.view(), logsumexp.view(), state.view(), ones.view(), keys.view(), keys.view(), View::absent()];
        run(Op::attention_dropout, &views, &[7, 11, 0], &[1.0, 0.25]).unwrap();
        assert_eq!(state.values(), [7, 11]);
        let mean = values(&out).iter().sum::<f64>() / 130.0;
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
        assert!(values(&out).iter().any(|value| (value - 1.0).abs() > 0.01));
        // Summed over its keys, the gradient of the values is the output.
        let [grad_query, grad_key, grad_value] =
            [&sizes, &[1, 2, 300, 1], &[1, 2, 300, 1]].map(|s| Tensor::<f32>::zeros(s));
        let [seed, offset] = [7i64, 11].map(|value| Tensor::new(&[], |_| value));
        let none = View::absent();
        let views = [
            grad_query.view(),
            grad_key.view(),
            grad_value.view(),
            none,
            ones.view(),
            ones.view(),
            keys.view(),
            keys.view(),
            none,
            out.view(),
            logsumexp.view(),
            seed.view(),
            offset.view(),
        ];
        run(Op::attention_backward, &views, &[0, 0, 0], &[1.0, 0.25]).unwrap();
        let total: f64 = values(&grad_value).iter().sum();
        let kept: f64 = values(&out).iter().sum();
        assert!((total - kept).abs() < 1e-2, "{total} {kept}");
    });
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let make = |sizes: &[i64]| Tensor::<f32>::zeros(sizes);
    let (query, key, value) = (make(&[1, 2, 3, 4]), make(&[1, 2, 5, 4]), make(&[1, 2, 5, 4]));
    let (out, sums) = (make(&[1, 2, 3, 4]), make(&[1, 2, 3]));
    let attempt = |query: &Tensor<f32>, key: &Tensor<f32>, value: &Tensor<f32>, out: &Tensor<f32>, mask: View<'_>| {
        let views = [out.view(), sums.view(), query.view(), key.view(), value.view(), mask];
        run(Op::attention, &views, &[0, 0, 0], &[1.0]).is_err()
    };
    let none = View::absent();
    assert!(!attempt(&query, &key, &value, &out, none));
    assert!(attempt(&query, &make(&[1, 2, 5, 3]), &value, &out, none));
    assert!(attempt(&query, &key, &make(&[1, 2, 4, 4]), &out, none));
    assert!(attempt(&make(&[1, 3, 3, 4]), &key, &value, &out, none));
    assert!(attempt(&query, &key, &value, &make(&[1, 2, 3, 5]), none));
    assert!(attempt(&query, &key, &value, &out, make(&[1, 2, 3, 6]).view()));
}
