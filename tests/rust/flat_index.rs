//! Indices into all elements, masks filled in order, counts and repeats, against plain loops.

mod support;

use rustorch_kernels::error::Kind;
use rustorch_kernels::ops::Op;
use rustorch_kernels::view::View;
use support::{Flag, Tensor, at_every_level, layouts, noise, run};

#[test]
fn takes_and_puts_by_position() {
    let sizes = [7, 5, 3];
    let from = Tensor::<f32>::new(&sizes, |i| noise(5)(i) as f32);
    let index = Tensor::<i64>::new(&[11, 4], |i| (i as i64 * 37) % 105 - if i.is_multiple_of(3) { 105 } else { 0 });
    let place = |i: usize| index.data[i].rem_euclid(105) as usize;
    let source = Tensor::<f32>::new(&[11, 4], |i| noise(6)(i) as f32);
    let taken: Vec<f32> = (0..44).map(|i| from.data[place(i)]).collect();
    let (mut put, mut added) = (from.data.clone(), from.data.clone());
    for i in 0..44 {
        put[place(i)] = source.data[i];
        added[place(i)] += source.data[i];
    }
    at_every_level(|_| {
        for (from, index) in layouts(&from).into_iter().zip(layouts(&index).into_iter().rev()) {
            let out = Tensor::<f32>::zeros(&[11, 4]).scattered(2);
            run(Op::take, &[out.view(), from.view(), index.view()], &[], &[]).unwrap();
            assert_eq!(out.values(), taken);
            for (accumulate, expected) in [(0, &put), (1, &added)] {
                let to = from.clone();
                run(Op::put, &[to.view(), index.view(), source.view()], &[accumulate], &[]).unwrap();
                assert_eq!(&to.values(), expected);
            }
        }
    });
    for bad in [105, -106] {
        let index = Tensor::<i64>::new(&[3], |i| if i == 2 { bad } else { 0 });
        let out = Tensor::<f32>::zeros(&[3]);
        for (op, views) in
            [(Op::take, [out.view(), from.view(), index.view()]), (Op::put, [from.view(), index.view(), out.view()])]
        {
            let error = run(op, &views, &[0], &[]).unwrap_err();
            assert_eq!(error.kind(), Kind::Index);
            assert!(error.to_string().contains(&format!("index {bad} on a tensor of 105 elements")));
        }
    }
}

#[test]
fn fills_a_mask_in_order() {
    for sizes in [&[7, 13][..], &[1], &[200_000], &[3, 0, 2]] {
        let mask = Tensor::<Flag>::new(sizes, |i| Flag((noise(4)(i) > 0.3) as u8));
        let to = Tensor::<i16>::new(sizes, |_| -1);
        let found = mask.data.iter().filter(|flag| flag.0 != 0).count() as i64;
        let source = Tensor::<i16>::new(&[found + 2], |i| i as i16);
        let mut next = source.data.iter();
        let expected: Vec<i16> =
            mask.data.iter().map(|flag| if flag.0 != 0 { *next.next().unwrap() } else { -1 }).collect();
        at_every_level(|_| {
            for (to, mask) in layouts(&to).into_iter().zip(layouts(&mask).into_iter().rev()) {
                run(Op::masked_scatter, &[to.view(), mask.view(), source.scattered(2).view()], &[], &[]).unwrap();
                assert_eq!(to.values(), expected);
            }
        });
        if found > 0 {
            let few = Tensor::<i16>::zeros(&[found - 1]);
            assert!(run(Op::masked_scatter, &[to.view(), mask.view(), few.view()], &[], &[]).is_err());
            assert!(to.values().iter().all(|&value| value == -1), "nothing is written");
        }
    }
}

#[test]
fn coordinates_of_a_fixed_number() {
    let from = Tensor::<i32>::new(&[3, 4], |i| (i % 5 == 0) as i32);
    let all = [0, 0, 1, 1, 2, 2];
    for rows in [0, 1, 3, 6] {
        let out = Tensor::<i64>::zeros(&[rows, 2]).scattered(2);
        run(Op::nonzero, &[out.view(), from.view()], &[-7], &[]).unwrap();
        let expected: Vec<i64> = (0..rows as usize * 2).map(|i| *all.get(i).unwrap_or(&-7)).collect();
        assert_eq!(out.values(), expected);
    }
}

#[test]
fn counts_and_repeats() {
    let from = Tensor::<i16>::new(&[1000], |i| (noise(3)(i) * 9.9).abs() as i16);
    let weights = Tensor::<f64>::new(&[1000], noise(7));
    let (mut counts, mut sums) = (vec![0i64; 12], vec![0.0; 12]);
    for (number, weight) in from.data.iter().zip(&weights.data) {
        counts[*number as usize] += 1;
        sums[*number as usize] += weight;
    }
    at_every_level(|_| {
        let (out, weighted) = (Tensor::<i64>::zeros(&[12]).scattered(2), Tensor::<f64>::zeros(&[12]));
        run(Op::bincount, &[out.view(), from.scattered(3).view(), View::absent()], &[], &[]).unwrap();
        assert_eq!(out.values(), counts);
        run(Op::bincount, &[weighted.view(), from.view(), weights.scattered(2).view()], &[], &[]).unwrap();
        assert_eq!(weighted.values(), sums);
    });
    let small = Tensor::<i64>::zeros(&[3]);
    assert!(run(Op::bincount, &[small.view(), from.view(), View::absent()], &[], &[]).is_err());

    let mut total = 0;
    let ends = Tensor::<i64>::new(&[12], |i| {
        total += counts[i];
        total
    });
    let expected: Vec<i32> = counts.iter().enumerate().flat_map(|(i, &count)| vec![i as i32; count as usize]).collect();
    at_every_level(|_| {
        let out = Tensor::<i32>::zeros(&[total]).scattered(2);
        run(Op::repeat_interleave, &[out.view(), ends.view()], &[], &[]).unwrap();
        assert_eq!(out.values(), expected);
    });
    let short = Tensor::<i32>::zeros(&[total - 1]);
    assert!(run(Op::repeat_interleave, &[short.view(), ends.view()], &[], &[]).is_err());
    let falling = Tensor::<i64>::new(&[2], |i| [3, 1][i]);
    assert!(run(Op::repeat_interleave, &[Tensor::<i32>::zeros(&[1]).view(), falling.view()], &[], &[]).is_err());
}

#[test]
fn slices_are_reduced() {
    let start = Tensor::<f32>::new(&[4, 5], |i| noise(5)(i) as f32);
    let index = Tensor::<i64>::new(&[6], |i| [3, 0, 3, 1, 3, 0][i]);
    let source = Tensor::<f32>::new(&[6, 5], |i| noise(8)(i) as f32);
    type Update = fn(f32, f32) -> f32;
    let cases: [(i64, Update); 4] = [(1, |a, b| a * b), (2, |a, b| a + b), (3, f32::max), (4, f32::min)];
    for (code, update) in cases {
        for include_self in [false, true] {
            let mut expected: Vec<(Option<f32>, f32)> =
                start.data.iter().map(|&v| (include_self.then_some(v), include_self as i32 as f32)).collect();
            for i in 0..30 {
                let (value, count) = &mut expected[index.data[i / 5] as usize * 5 + i % 5];
                *value = Some(value.map_or(source.data[i], |value| update(value, source.data[i])));
                *count += 1.0;
            }
            let expected: Vec<f64> = expected
                .iter()
                .zip(&start.data)
                .map(|(&(value, count), &own)| match value {
                    Some(value) if code == 2 => (value / count) as f64,
                    Some(value) => value as f64,
                    None => own as f64,
                })
                .collect();
            at_every_level(|_| {
                for (to, source) in layouts(&start).into_iter().zip(layouts(&source).into_iter().rev()) {
                    let views = [to.view(), index.view(), source.view()];
                    run(Op::index_reduce, &views, &[0, code, include_self as i64], &[]).unwrap();
                    let values: Vec<f64> = to.values().into_iter().map(f64::from).collect();
                    support::assert_close(&values, &expected, 1e-6, 1e-6);
                }
            });
        }
    }
}
