//! Fake quantization against its definition, in f64.

mod support;

use rustorch_kernels::ops::Op;
use rustorch_kernels::view::View;
use support::{Flag, Item, Tensor, assert_close, at_every_level, layouts, noise, run};

/// `x` as the nearest of the numbers `(q - zero) * scale`, and whether one is near.
fn said(x: f64, scale: f64, zero: f64, [first, last]: [f64; 2]) -> (f64, bool) {
    let whole = zero + (x / scale).round_ties_even();
    ((whole.clamp(first, last) - zero) * scale, (first..=last).contains(&whole))
}

#[test]
fn numbers_are_those_that_an_integer_says() {
    fn check<T: Item>(cast: fn(f64) -> T, wide: fn(T) -> f64, bound: f64) {
        for sizes in [&[3, 5, 7][..], &[1], &[0, 4], &[61, 1030]] {
            // Away from halves, where the types round apart.
            let input = Tensor::new(sizes, |at| cast(((noise(1)(at) * 200.0).round() + 0.25) * 0.125));
            for input in layouts(&input) {
                let (out, mask) = (Tensor::new(sizes, |_| cast(7.0)), Tensor::<Flag>::zeros(sizes).scattered(2));
                let absent = View::absent();
                let views = [out.view(), mask.view(), input.view(), absent, absent, absent];
                run(Op::fake_quantize, &views, &[-8, 100, 0, 3], &[0.125]).unwrap();
                let expected: Vec<_> =
                    input.values().into_iter().map(|x| said(wide(x), 0.125, 3.0, [-8.0, 100.0])).collect();
                let values: Vec<f64> = expected.iter().map(|&(value, _)| value).collect();
                let actual: Vec<f64> = out.values().into_iter().map(wide).collect();
                assert_close(&actual, &values, bound, 0.0);
                assert!(mask.values().iter().zip(&expected).all(|(flag, &(_, inside))| flag.0 == u8::from(inside)));

                let (scale, zero) = (Tensor::new(&[1], |_| 0.125f32), Tensor::new(&[1], |_| 3i32));
                for enabled in [1i64, 0] {
                    let enabled = Tensor::new(&[1], |_| enabled);
                    let views = [out.view(), mask.view(), input.view(), scale.view(), zero.view(), enabled.view()];
                    run(Op::fake_quantize, &views, &[-8, 100, 0, 0], &[0.0]).unwrap();
                    let values = if enabled.values() == [0] {
                        assert!(mask.values().iter().all(|flag| flag.0 == 1));
                        input.values().into_iter().map(wide).collect()
                    } else {
                        values.clone()
                    };
                    let actual: Vec<f64> = out.values().into_iter().map(wide).collect();
                    assert_close(&actual, &values, bound, 0.0);
                }
            }
        }
    }
    at_every_level(|_| {
        check::<f32>(|x| x as f32, f64::from, 0.0);
        check::<f64>(|x| x, |x| x, 0.0);
        check::<half::f16>(half::f16::from_f64, half::f16::to_f64, 0.0);
        check::<half::bf16>(half::bf16::from_f64, half::bf16::to_f64, 4e-3);
    });
}

#[test]
fn a_channel_has_numbers_of_its_own() {
    const SIZES: [i64; 3] = [4, 5, 6];
    let input = Tensor::new(&SIZES, |at| ((noise(1)(at) * 200.0).round() + 0.25) as f32 * 0.125);
    let scales = [0.125f32, 0.25, 0.5, 1.0, 2.0];
    let zeros = [-3i32, 0, 7, 1, 100];
    let along = |channel: usize| channel / 6 % 5;
    at_every_level(|_| {
        for input in layouts(&input) {
            let (out, mask) = (Tensor::<f32>::zeros(&SIZES), Tensor::<Flag>::zeros(&SIZES));
            let scale = Tensor::new(&[5, 1], |at| scales[at]).expanded(&SIZES);
            let whole = Tensor::new(&[5, 1], |at| zeros[at]).expanded(&SIZES);
            let float = Tensor::new(&[5, 1], |at| zeros[at] as f32).expanded(&SIZES);
            let expected: Vec<(f64, bool)> = input
                .values()
                .into_iter()
                .enumerate()
                .map(|(at, x)| {
                    let (scale, zero) = (scales[along(at)], zeros[along(at)]);
                    said(x.into(), scale.into(), zero.into(), [-8.0, 100.0])
                })
                .collect();
            for zero in [whole.view(), float.view()] {
                let views = [out.view(), mask.view(), input.view(), scale.view(), zero, View::absent()];
                run(Op::fake_quantize, &views, &[-8, 100, 1, 0], &[0.0]).unwrap();
                let wrong =
                    out.values().into_iter().zip(mask.values()).zip(&expected).find(
                        |&((value, flag), &(wanted, inside))| f64::from(value) != wanted || (flag.0 == 1) != inside,
                    );
                assert_eq!(wrong, None);
            }
            let views = [out.view(), mask.view(), input.view(), scale.view(), whole.view(), View::absent()];
            assert!(run(Op::fake_quantize, &views, &[-8, 99, 1, 0], &[0.0]).is_err());
        }
    });
}

#[test]
fn gradients_of_what_is_learnt() {
    const SIZES: [i64; 2] = [7, 9];
    let x = Tensor::new(&SIZES, |at| (noise(1)(at) * 20.0) as f32);
    let grad = Tensor::new(&SIZES, |at| noise(2)(at) as f32);
    let (scale, zero) = (0.5f32, 2.0f32);
    let [scales, zeros] = [scale, zero].map(|number| Tensor::new(&[1], |_| number).expanded(&SIZES));
    at_every_level(|_| {
        for (x, grad) in layouts(&x).iter().zip(layouts(&grad)) {
            let out: [Tensor<f32>; 3] = std::array::from_fn(|_| Tensor::zeros(&SIZES).scattered(1));
            let views = [&out[0], &out[1], &out[2], &grad, x, &scales, &zeros].map(Tensor::view);
            run(Op::fake_quantize_learnable_backward, &views, &[-10, 20], &[0.25]).unwrap();
            let values = out.map(|tensor| tensor.values());
            for (at, (x, grad)) in x.values().into_iter().zip(grad.values()).enumerate() {
                let (x, grad) = (f64::from(x), f64::from(grad));
                let whole = 2.0 + (x / 0.5).round_ties_even();
                let expected = match whole {
                    whole if whole < -10.0 => [0.0, grad * -12.0 * 0.25, -grad * 0.5 * 0.25],
                    whole if whole > 20.0 => [0.0, grad * 18.0 * 0.25, -grad * 0.5 * 0.25],
                    whole => [grad, grad * ((whole - 2.0) * 0.5 - x) / 0.5 * 0.25, 0.0],
                };
                let actual = [0, 1, 2].map(|kind| f64::from(values[kind][at]));
                assert_close(&actual, &expected, 1e-5, 1e-6);
            }
        }
    });
}

#[test]
fn the_range_moves_and_chooses() {
    let low = [0.0f32, -1.0, -2.0, 0.5, 0.0, -1e-7, f32::NEG_INFINITY];
    let high = [0.0f32, 3.0, -1.0, 2.0, 1e-9, 1e-7, 1.0];
    let column = |values: &[f32]| Tensor::new(&[values.len() as i64], |at| values[at]);
    let (running_low, running_high) = (column(&[f32::INFINITY, -3.0]), column(&[f32::NEG_INFINITY, 1.0]));
    let (seen_low, seen_high) = (column(&[-2.0, -1.0]), column(&[5.0, 3.0]));
    let views = [&running_low, &running_high, &seen_low, &seen_high].map(Tensor::view);
    run(Op::moving_range, &views, &[], &[0.25]).unwrap();
    assert_eq!((running_low.values(), running_high.values()), (vec![-2.0, -2.5], vec![5.0, 1.5]));

    for symmetric in [0, 1] {
        let (scale, zero) = (Tensor::<f32>::zeros(&[6]), Tensor::<i32>::zeros(&[6]));
        let (low, high) = (column(&low[..6]), column(&high[..6]));
        let views = [scale.view(), zero.view(), low.view(), high.view()];
        run(Op::choose_quantization, &views, &[-128, 127, symmetric], &[]).unwrap();
        for (((scale, zero), low), high) in
            scale.values().iter().zip(zero.values()).zip(low.values()).zip(high.values())
        {
            // Zero is said exactly, and the range is covered but for the rounding of the zero point.
            assert!((-128..=127).contains(&zero));
            let [first, last] = [-128, 127].map(|whole| f64::from(whole - zero) * f64::from(*scale));
            assert!(first <= f64::from(low.min(0.0)) + f64::from(*scale), "{first} {low} {scale} {zero}");
            assert!(last >= f64::from(high.max(0.0)) - f64::from(*scale), "{last} {high} {scale} {zero}");
        }
        if symmetric == 1 {
            assert_eq!(zero.values()[1], 0);
        }
    }
    let one = |value: f32| column(&[value]);
    let (scale, zero) = (Tensor::<f32>::zeros(&[1]), Tensor::<i32>::zeros(&[1]));
    for (low, high, range) in [(1.0, 0.0, [0, 255]), (f32::NAN, 0.0, [0, 255]), (0.0, 1.0, [5, 5])] {
        let (low, high) = (one(low), one(high));
        let views = [scale.view(), zero.view(), low.view(), high.view()];
        assert!(run(Op::choose_quantization, &views, &[range[0], range[1], 0], &[]).is_err());
    }
}
