//! Distributions by their moments, and the promise that an element depends on seed, offset and
//! place alone.

mod support;

use rustorch_kernels::ops::Op;
use support::{Flag, Item, Tensor, at_every_level, run};

const COUNT: i64 = 1 << 18;
const SEED: [i64; 2] = [42, 7];

fn draw<T: Item>(op: Op, more: &[i64], floats: &[f64]) -> Tensor<T> {
    let out = Tensor::<T>::zeros(&[COUNT]);
    run(op, &[out.view()], &[&SEED[..], more].concat(), floats).unwrap();
    out
}

fn moments(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let count = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / count;
    (mean, values.map(|value| (value - mean).powi(2)).sum::<f64>() / count)
}

#[track_caller]
fn assert_moments(values: impl Iterator<Item = f64> + Clone, mean: f64, variance: f64) {
    let (actual_mean, actual_variance) = moments(values);
    assert!((actual_mean - mean).abs() < 0.01 * variance.sqrt().max(0.1), "mean {actual_mean}, not {mean}");
    assert!((actual_variance / variance - 1.0).abs() < 0.03, "variance {actual_variance}, not {variance}");
}

#[test]
fn moments_are_right() {
    at_every_level(|_| {
        let uniform = draw::<f32>(Op::uniform, &[], &[-1.0, 3.0]);
        assert!(uniform.data.iter().all(|&v| (-1.0..3.0).contains(&v)));
        assert_moments(uniform.data.iter().map(|&v| v as f64), 1.0, 16.0 / 12.0);
        let uniform = draw::<f64>(Op::uniform, &[], &[0.0, 1.0]);
        assert_moments(uniform.data.iter().copied(), 0.5, 1.0 / 12.0);
        let half = draw::<half::bf16>(Op::uniform, &[], &[0.0, 1.0]);
        assert!(half.data.iter().all(|&v| v.to_f32() < 1.0));
        let normal = draw::<f32>(Op::normal, &[], &[2.0, 3.0]);
        assert_moments(normal.data.iter().map(|&v| v as f64), 2.0, 9.0);
        let tail = normal.data.iter().filter(|&&v| v > 8.0).count() as f64 / COUNT as f64;
        assert!((tail - 0.02275).abs() < 0.002, "two deviations above: {tail}");
        assert_moments(draw::<f64>(Op::normal, &[], &[0.0, 1.0]).data.into_iter(), 0.0, 1.0);
        let exponential = draw::<f32>(Op::exponential, &[], &[2.0]);
        assert!(exponential.data.iter().all(|&v| v > 0.0));
        assert_moments(exponential.data.iter().map(|&v| v as f64), 0.5, 0.25);
        assert_moments(draw::<f64>(Op::log_normal, &[], &[0.0, 0.5]).data.into_iter(), 1.1331, 0.3647);
        let mut cauchy = draw::<f32>(Op::cauchy, &[], &[1.0, 2.0]).data;
        cauchy.sort_by(f32::total_cmp);
        for (quantile, expected) in [(0.25, -1.0), (0.5, 1.0), (0.75, 3.0)] {
            assert!((cauchy[(COUNT as f64 * quantile) as usize] - expected).abs() < 0.05);
        }
        let geometric = draw::<i64>(Op::geometric, &[], &[0.25]);
        assert!(geometric.data.iter().all(|&v| v >= 1));
        assert_moments(geometric.data.iter().map(|&v| v as f64), 4.0, 12.0);
        let bernoulli = draw::<Flag>(Op::bernoulli, &[], &[0.3]);
        assert_moments(bernoulli.data.iter().map(|&v| v.0 as f64), 0.3, 0.21);
    });
    for (p, all) in [(0.0, 0.0f32), (1.0, 1.0)] {
        assert!(draw::<f32>(Op::bernoulli, &[], &[p]).data.iter().all(|&v| v == all));
    }
}

#[test]
fn integers_cover_their_range() {
    let dice = draw::<i32>(Op::random, &[1, 6], &[]);
    for face in 1..=6 {
        let share = dice.data.iter().filter(|&&v| v == face).count() as f64 / COUNT as f64;
        assert!((share - 1.0 / 6.0).abs() < 0.005, "face {face}: {share}");
    }
    assert!(dice.data.iter().all(|v| (1..=6).contains(v)));
    let wide = draw::<i64>(Op::random, &[-(1 << 40), 1 << 41], &[]);
    assert!(wide.data.iter().all(|v| (-(1i64 << 40)..1 << 40).contains(v)));
    assert!(wide.data.iter().filter(|&&v| v < 0).count().abs_diff(COUNT as usize / 2) < 2000);
    let all = draw::<i64>(Op::random, &[i64::MIN, 0], &[]);
    assert!(all.data.iter().any(|&v| v > i64::MAX / 2) && all.data.iter().any(|&v| v < i64::MIN / 2));
}

#[test]
fn an_element_depends_on_seed_offset_and_place() {
    let reference = draw::<f32>(Op::normal, &[], &[0.0, 1.0]);
    at_every_level(|_| {
        // The mathematical functions may round differently from level to level, no more.
        let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-5 * (1.0 + b.abs()));
        let short = Tensor::<f32>::zeros(&[77, 13]).scattered(2);
        run(Op::normal, &[short.view()], &SEED, &[0.0, 1.0]).unwrap();
        assert!(close(&short.values(), &reference.data));
        // A later offset is a later part of the sequence: four words a counter.
        let later = Tensor::<f32>::zeros(&[1000]);
        run(Op::normal, &[later.view()], &[42, 7 + 25], &[0.0, 1.0]).unwrap();
        assert!(close(&later.values(), &reference.data[100..]));
    });
    let other = Tensor::<f32>::zeros(&[COUNT]);
    run(Op::normal, &[other.view()], &[43, 7], &[0.0, 1.0]).unwrap();
    assert!(other.data.iter().zip(&reference.data).filter(|(a, b)| a == b).count() < 100);
}

#[test]
fn bernoulli_of_a_tensor() {
    let p = Tensor::<f32>::new(&[3, 50_000], |i| [0.0, 0.25, 1.0][i / 50_000]);
    for (p, out) in [(p.clone(), Tensor::<f32>::zeros(&[3, 50_000])), (p.scattered(2), Tensor::zeros(&[3, 50_000]))] {
        run(Op::bernoulli_tensor, &[out.view(), p.view()], &SEED, &[]).unwrap();
        let shares: Vec<f32> = out.values().chunks(50_000).map(|row| row.iter().sum::<f32>() / 5e4).collect();
        assert!(shares[0] == 0.0 && (shares[1] - 0.25).abs() < 0.01 && shares[2] == 1.0, "{shares:?}");
    }
    let (out, bad) = (Tensor::<f32>::zeros(&[1]), Tensor::<f32>::new(&[1], |_| 1.5));
    assert!(run(Op::bernoulli_tensor, &[out.view(), bad.view()], &SEED, &[]).is_err());
}

#[test]
fn permutations_hold_every_number_once() {
    for count in [0, 1, 2, 1000] {
        let out = Tensor::<i64>::zeros(&[count]);
        run(Op::randperm, &[out.view()], &SEED, &[]).unwrap();
        let mut sorted = out.values();
        sorted.sort();
        assert_eq!(sorted, (0..count).collect::<Vec<_>>());
        assert!(count < 1000 || out.values() != sorted);
    }
}

#[test]
fn multinomial_follows_the_weights() {
    let weights = Tensor::<f32>::new(&[2, 4], |i| [0.0, 1.0, 2.0, 5.0, 1.0, 0.0, 0.0, 0.0][i]);
    let out = Tensor::<i64>::zeros(&[2, 40_000]);
    run(Op::multinomial, &[out.view(), weights.view()], &[42, 7, 1], &[]).unwrap();
    for (category, share) in [(0, 0.0), (1, 0.125), (2, 0.25), (3, 0.625)] {
        let drawn = out.data[..40_000].iter().filter(|&&v| v == category).count() as f64 / 4e4;
        assert!((drawn - share).abs() < 0.01);
    }
    assert!(out.data[40_000..].iter().all(|&v| v == 0));
    let out = Tensor::<i64>::zeros(&[1, 3]);
    let weights = Tensor::<f64>::new(&[1, 5], |i| [0.5, 0.0, 0.1, 0.0, 3.0][i]);
    run(Op::multinomial, &[out.view(), weights.view()], &[1, 2, 0], &[]).unwrap();
    let mut chosen = out.values();
    chosen.sort();
    assert_eq!(chosen, [0, 2, 4]);
    let out = Tensor::<i64>::zeros(&[1, 4]);
    assert!(run(Op::multinomial, &[out.view(), weights.view()], &[1, 2, 0], &[]).is_err());
}

#[test]
fn dropout_keeps_and_scales() {
    let input = Tensor::<f32>::new(&[100, 333], |i| i as f32 + 1.0);
    for (input, out) in [(input.clone(), Tensor::<f32>::zeros(&[100, 333])), (input.scattered(1), input.scattered(2))] {
        let mask = Tensor::<Flag>::zeros(&[100, 333]);
        run(Op::dropout, &[out.view(), mask.view(), input.view()], &SEED, &[0.2]).unwrap();
        let kept = mask.data.iter().filter(|m| m.0 != 0).count() as f64 / 33_300.0;
        assert!((kept - 0.8).abs() < 0.01);
        for ((out, mask), input) in out.values().iter().zip(&mask.data).zip(input.values()) {
            assert_eq!(*out, if mask.0 != 0 { input * (1.0 / 0.8f64) as f32 } else { 0.0 });
        }
        let grad_in = Tensor::<f32>::zeros(&[100, 333]);
        run(Op::dropout_backward, &[grad_in.view(), input.view(), mask.view()], &[], &[1.25]).unwrap();
        for ((grad_in, mask), grad) in grad_in.data.iter().zip(&mask.data).zip(input.values()) {
            assert_eq!(*grad_in, if mask.0 != 0 { grad * 1.25 } else { 0.0 });
        }
    }
}

#[test]
fn draws_until_accepted() {
    const NUMBER: i64 = 1 << 15;
    let sample = |op: Op, parameters: &[f64]| {
        let out = Tensor::<f32>::zeros(&[NUMBER]);
        let given: Vec<_> = parameters.iter().map(|&p| Tensor::new(&[NUMBER], |_| p as f32)).collect();
        let views: Vec<_> = std::iter::once(&out).chain(&given).map(Tensor::view).collect();
        run(op, &views, &SEED, &[]).unwrap();
        out.data.iter().map(|&v| f64::from(v)).collect::<Vec<_>>()
    };
    at_every_level(|_| {
        for rate in [0.5, 9.0, 11.0, 300.0] {
            let values = sample(Op::poisson, &[rate]);
            assert!(values.iter().all(|v| *v >= 0.0 && v.fract() == 0.0));
            assert_moments_within(&values, rate, rate, 0.03);
        }
        for (count, p) in [(10.0, 0.3), (100.0, 0.5), (1000.0, 0.9), (40.0, 0.01)] {
            let values = sample(Op::binomial, &[count, p]);
            assert!(values.iter().all(|v| (0.0..=count).contains(v) && v.fract() == 0.0));
            assert_moments_within(&values, count * p, count * p * (1.0 - p), 0.04);
        }
        for shape in [0.4, 1.0, 7.5, 200.0] {
            let values = sample(Op::standard_gamma, &[shape]);
            assert!(values.iter().all(|v| *v > 0.0));
            assert_moments_within(&values, shape, shape, 0.06);
        }
    });
    assert_eq!(sample(Op::poisson, &[0.0]), vec![0.0; NUMBER as usize]);
    // Shapes of which no draw would be accepted.
    let smallest = f64::from(f32::MIN_POSITIVE);
    for shape in [0.0, -0.9, -1e30, f64::NEG_INFINITY, f64::NAN] {
        assert_eq!(sample(Op::standard_gamma, &[shape]), vec![smallest; NUMBER as usize]);
    }
    assert_eq!(sample(Op::standard_gamma, &[f64::INFINITY]), vec![f64::INFINITY; NUMBER as usize]);
    // Out of bounds is the nearest bound, as on the CPU.
    for (count, p, expected) in [(7.0, 1.0, 7.0), (7.0, 1.5, 7.0), (7.0, -0.5, 0.0), (-1.0, 0.5, 0.0)] {
        assert_eq!(sample(Op::binomial, &[count, p]), vec![expected; NUMBER as usize]);
    }
    let out = Tensor::<f32>::zeros(&[1]);
    let bad = Tensor::<f32>::new(&[1], |_| -1.0);
    assert!(run(Op::poisson, &[out.view(), bad.view()], &SEED, &[]).is_err());
}

/// The mean within some of its own errors, the variance within a share.
#[track_caller]
fn assert_moments_within(values: &[f64], mean: f64, variance: f64, share: f64) {
    let (actual_mean, actual_variance) = moments(values.iter().copied());
    let error = (variance / values.len() as f64).sqrt();
    assert!((actual_mean - mean).abs() < 4.0 * error, "mean {actual_mean}, not {mean}");
    assert!((actual_variance / variance - 1.0).abs() < share, "variance {actual_variance}, not {variance}");
}

/// mt19937 by the book, one word at a time, from its state after seeding.
struct Book {
    words: Vec<u32>,
    next: usize,
}

impl Book {
    fn seeded(seed: u32) -> Self {
        let mut words = vec![seed];
        for at in 1..624u32 {
            let last = words[at as usize - 1];
            words.push(1_812_433_253u32.wrapping_mul(last ^ (last >> 30)).wrapping_add(at));
        }
        Self { words, next: 624 }
    }

    fn word(&mut self) -> u32 {
        if self.next == 624 {
            for at in 0..624 {
                let mixed = (self.words[at] & 0x8000_0000) | (self.words[(at + 1) % 624] & 0x7fff_ffff);
                let twisted = (mixed >> 1) ^ if mixed & 1 == 1 { 0x9908_b0df } else { 0 };
                self.words[at] = self.words[(at + 397) % 624] ^ twisted;
            }
            self.next = 0;
        }
        let mut word = self.words[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    /// As `bernoulli_` of PyTorch's CPU decides: 53 bits of two words, the high one first.
    fn keeps(&mut self, p: f64) -> bool {
        let number = (u64::from(self.word()) << 32) | u64::from(self.word());
        (number % (1 << 53)) as f64 / ((1u64 << 53) as f64) < p
    }

    fn state(&self) -> Tensor<i32> {
        Tensor::new(&[625], |at| if at < 624 { self.words[at] as i32 } else { self.next as i32 })
    }
}

#[test]
fn the_cpus_generator_draws_dropout_one_by_one() {
    assert_eq!(Book::seeded(5489).word(), 3_499_211_612, "the first word of mt19937's default seed");
    at_every_level(|_| {
        for (sizes, step) in [(&[7, 1009][..], 1), (&[1, 1], 1), (&[0, 5], 1), (&[31, 20], 2)] {
            let mut book = Book::seeded(3);
            let state = book.state();
            for p in [0.3, 0.0, 1.0] {
                let input = Tensor::<f64>::new(sizes, |i| i as f64 + 1.0).scattered(step);
                let (out, mask) = (Tensor::<f64>::zeros(sizes).scattered(step), Tensor::<Flag>::zeros(sizes));
                run(Op::mersenne_dropout, &[out.view(), mask.view(), state.view(), input.view()], &[], &[p]).unwrap();
                for ((out, mask), input) in out.values().into_iter().zip(&mask.data).zip(input.values()) {
                    let kept = book.keeps(1.0 - p);
                    assert_eq!((mask.0 != 0, out), (kept, if kept { input * (1.0 / (1.0 - p)) } else { 0.0 }));
                }
                assert_eq!(state.data, book.state().data, "what is drawn is written back");
            }
        }
        // A transposed mask is drawn in the order of its memory.
        let (mut book, strides) = (Book::seeded(9), vec![1, 3]);
        let (state, data) = (book.state(), vec![Flag(0); 15]);
        let mask = Tensor { data, offset: 0, sizes: vec![3, 5], strides };
        let (input, out) = (Tensor::<f32>::new(&[3, 5], |i| i as f32), Tensor::<f32>::zeros(&[3, 5]));
        run(Op::mersenne_dropout, &[out.view(), mask.view(), state.view(), input.view()], &[], &[0.5]).unwrap();
        for kept in &mask.data {
            assert_eq!(kept.0 != 0, book.keeps(0.5));
        }
        let (short, one) = (Tensor::<i32>::zeros(&[624]), Tensor::<f32>::zeros(&[1]));
        let (mask, other) = (Tensor::<Flag>::zeros(&[1]), Tensor::<f32>::zeros(&[1]));
        assert!(
            run(Op::mersenne_dropout, &[one.view(), mask.view(), short.view(), other.view()], &[], &[0.5]).is_err()
        );
        let mut beyond = Tensor::<i32>::zeros(&[625]);
        beyond.data[624] = 625;
        assert!(
            run(Op::mersenne_dropout, &[one.view(), mask.view(), beyond.view(), other.view()], &[], &[0.5]).is_err()
        );
    });
}
