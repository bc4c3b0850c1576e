//! Running extremes and logarithms of sums against plain loops.

mod support;

use rustorch_kernels::ops::Op;
use support::{Item, Tensor, at_every_level, layouts, lines, noise, run};

fn special(i: usize) -> f64 {
    match i % 17 {
        5 => f64::INFINITY,
        9 => f64::NEG_INFINITY,
        13 if i > 100 => f64::NAN,
        _ => (noise(2)(i) * 8.0).round(),
    }
}

fn check_extremes<T: Item>(value: impl Fn(usize) -> T, number: impl Fn(T) -> f64) {
    for sizes in [[7, 5, 3], [1, 300, 2], [2, 0, 3], [3, 4, 40]] {
        let from = Tensor::new(&sizes, &value);
        for dim in 0..3 {
            for (op, largest) in [(Op::cummax, true), (Op::cummin, false)] {
                let (mut values, mut positions) = (from.data.clone(), vec![0i64; from.data.len()]);
                for places in lines(&sizes, dim) {
                    let (mut best, mut at) = (places.first().map(|&place| from.data[place]), 0);
                    for (position, &place) in places.iter().enumerate() {
                        let (new, held) = (number(from.data[place]), number(best.unwrap()));
                        if new.is_nan() || (if largest { new >= held } else { new <= held }) {
                            (best, at) = (Some(from.data[place]), position as i64);
                        }
                        values[place] = best.unwrap();
                        positions[place] = at;
                    }
                }
                let values: Vec<f64> = values.into_iter().map(&number).collect();
                at_every_level(|_| {
                    for from in layouts(&from) {
                        let (to, places) = (Tensor::<T>::zeros(&sizes).scattered(2), Tensor::<i64>::zeros(&sizes));
                        run(op, &[to.view(), places.view(), from.view()], &[dim as i64], &[]).unwrap();
                        let found: Vec<f64> = to.values().into_iter().map(&number).collect();
                        support::assert_close(&found, &values, 0.0, 0.0);
                        assert_eq!(places.values(), positions);
                    }
                });
            }
        }
    }
}

#[test]
fn running_extremes() {
    check_extremes(special, |x| x);
    check_extremes(|i| special(i) as f32, f64::from);
    check_extremes(|i| half::bf16::from_f64(special(i)), f64::from);
    check_extremes(|i| (noise(3)(i) * 90.0) as i8, f64::from);
    check_extremes(|i| (noise(3)(i) * 9e9) as i64, |x| x as f64);
}

#[test]
fn running_logarithms_of_sums() {
    for sizes in [[7, 5, 3], [2, 300, 2], [2, 0, 3]] {
        let from = Tensor::<f32>::new(&sizes, |i| special(i) as f32);
        for dim in 0..3 {
            let mut expected = vec![0.0f64; from.data.len()];
            for places in lines(&sizes, dim) {
                let mut total = f64::NEG_INFINITY;
                for place in places {
                    let value = from.data[place] as f64;
                    let high = if total.is_nan() || value.is_nan() { f64::NAN } else { total.max(value) };
                    total =
                        if high.is_finite() { ((total - high).exp() + (value - high).exp()).ln() + high } else { high };
                    expected[place] = total;
                }
            }
            at_every_level(|_| {
                for from in layouts(&from) {
                    let to = Tensor::<f32>::zeros(&sizes).scattered(2);
                    run(Op::logcumsumexp, &[to.view(), from.view()], &[dim as i64], &[]).unwrap();
                    let found: Vec<f64> = to.values().into_iter().map(f64::from).collect();
                    support::assert_close(&found, &expected, 1e-6, 1e-6);
                }
            });
        }
    }
    let numbers = Tensor::<i64>::zeros(&[3]);
    assert!(run(Op::logcumsumexp, &[numbers.view(), numbers.view()], &[0], &[]).is_err());
}
