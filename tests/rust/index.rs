//! Reads and writes through index tensors against plain loops over coordinates.

mod support;

use rustorch_kernels::error::Kind;
use rustorch_kernels::ops::Op;
use rustorch_kernels::view::View;
use support::{Flag, Item, Tensor, at_every_level, contiguous_strides, layouts, noise, run};

fn coordinates(linear: usize, sizes: &[i64]) -> Vec<usize> {
    let strides = contiguous_strides(sizes);
    strides.iter().zip(sizes).map(|(stride, size)| (linear as i64 / stride % size) as usize).collect()
}

fn linear(at: &[usize], sizes: &[i64]) -> usize {
    at.iter().zip(contiguous_strides(sizes)).map(|(&at, stride)| at * stride as usize).sum()
}

fn numbers(sizes: &[i64]) -> Tensor<f32> {
    Tensor::new(sizes, |i| noise(5)(i) as f32)
}

fn indices(sizes: &[i64], size: i64) -> Tensor<i64> {
    Tensor::new(sizes, |i| (i as i64 * 7 + i as i64 / 3) % size)
}

#[test]
fn gather_along_every_dimension() {
    let from = numbers(&[6, 5, 11]);
    for (dim, sizes) in [(0, [9, 5, 7]), (1, [6, 3, 11]), (2, [2, 5, 40]), (1, [6, 0, 11])] {
        let index = indices(&sizes, from.sizes[dim]);
        let picked = |i: usize| {
            let mut at = coordinates(i, &sizes);
            at[dim] = index.data[i] as usize;
            from.data[linear(&at, &from.sizes)]
        };
        let expected: Vec<f32> = (0..index.data.len()).map(picked).collect();
        at_every_level(|_| {
            for (from, index) in layouts(&from).into_iter().zip(layouts(&index).into_iter().rev()) {
                for out in layouts(&Tensor::<f32>::zeros(&sizes)) {
                    run(Op::gather, &[out.view(), from.view(), index.view()], &[dim as i64], &[]).unwrap();
                    assert_eq!(out.values(), expected);
                }
            }
        });
    }
}

#[test]
fn index_select_of_every_size_of_element() {
    fn check<T: Item>(value: impl Fn(usize) -> T) {
        let from = Tensor::new(&[7, 6, 5], value);
        for dim in 0..3 {
            let index = Tensor::<i32>::new(&[9], |i| (i * 4 % from.sizes[dim] as usize) as i32);
            let mut sizes = from.sizes.clone();
            sizes[dim] = 9;
            let picked = |i: usize| {
                let mut at = coordinates(i, &sizes);
                at[dim] = index.data[at[dim]] as usize;
                from.data[linear(&at, &from.sizes)]
            };
            let out = Tensor::<T>::zeros(&sizes);
            let expected: Vec<T> = (0..out.data.len()).map(picked).collect();
            for from in layouts(&from) {
                run(Op::index_select, &[out.view(), from.view(), index.view()], &[dim as i64], &[]).unwrap();
                assert_eq!(out.values(), expected);
            }
        }
    }
    check(|i| i as f64);
    check(|i| i as i16);
    check(|i| i as u8);
    check(|i| Flag((i % 3 == 0) as u8));
    check(|i| half::bf16::from_f32(i as f32));
}

#[test]
fn a_scalar_is_indexed_as_one_element() {
    let (out, from, index) = (Tensor::<f32>::zeros(&[]), Tensor::new(&[], |_| 3.0f32), Tensor::<i64>::zeros(&[]));
    run(Op::gather, &[out.view(), from.view(), index.view()], &[0], &[]).unwrap();
    assert_eq!(out.values(), [3.0]);
}

#[test]
fn indexing_with_several_tensors() {
    let from = numbers(&[4, 5, 6]);
    let rows = Tensor::<i64>::new(&[3, 1], |i| [0, -1, 2][i]);
    let columns = Tensor::<i64>::new(&[2], |i| [-5, 4][i]);
    let wrap = |at: i64, size: i64| (if at < 0 { at + size } else { at }) as usize;
    // Neighbours: their place is where the first stood.
    let out = Tensor::<f32>::zeros(&[4, 3, 2]);
    run(Op::index, &[out.view(), from.view(), View::absent(), rows.view(), columns.view()], &[], &[]).unwrap();
    for i in 0..24 {
        let at = coordinates(i, &[4, 3, 2]);
        let expected = [at[0], wrap(rows.data[at[1]], 5), wrap(columns.data[at[2]], 6)];
        assert_eq!(out.data[i], from.data[linear(&expected, &from.sizes)]);
    }
    // Apart: in front.
    let out = Tensor::<f32>::zeros(&[3, 2, 5]);
    let rows = Tensor::<i64>::new(&[3, 1], |i| [0, -1, 2][i]);
    run(Op::index, &[out.view(), from.view(), rows.view(), View::absent(), columns.view()], &[], &[]).unwrap();
    for i in 0..30 {
        let at = coordinates(i, &[3, 2, 5]);
        let expected = [wrap(rows.data[at[0]], 4), at[2], wrap(columns.data[at[1]], 6)];
        assert_eq!(out.data[i], from.data[linear(&expected, &from.sizes)]);
    }
}

#[test]
fn scatter_and_its_reductions() {
    let sizes = [5, 40, 3];
    let index = indices(&[4, 33, 3], 40);
    let from = Tensor::<f32>::new(&[4, 35, 3], |i| ((i * 37) % 64) as f32 / 8.0 - 3.0);
    let start = Tensor::<f32>::new(&sizes, |i| (i % 7) as f32);
    type Update = fn(f32, f32) -> f32;
    let cases: [(i64, f32, Update); 5] = [
        (0, 0.0, |a, b| a + b),
        (1, 1.0, |a, b| a * b),
        (2, 0.0, |a, b| a + b),
        (3, f32::NEG_INFINITY, f32::max),
        (4, f32::INFINITY, f32::min),
    ];
    for (code, identity, update) in cases {
        for include_self in [true, false] {
            let mut expected: Vec<Option<f32>> = start.data.iter().map(|&v| include_self.then_some(v)).collect();
            let mut counts = vec![include_self as usize; start.data.len()];
            for i in 0..index.data.len() {
                let at = coordinates(i, &index.sizes);
                let to = linear(&[at[0], index.data[i] as usize, at[2]], &sizes);
                let value = from.data[linear(&at, &from.sizes)];
                expected[to] = Some(update(expected[to].unwrap_or(identity), value));
                counts[to] += 1;
            }
            let expected: Vec<f64> = expected
                .iter()
                .enumerate()
                .map(|(i, v)| match v {
                    Some(v) if code == 2 => *v as f64 / counts[i] as f64,
                    Some(v) => *v as f64,
                    None => start.data[i] as f64,
                })
                .collect();
            at_every_level(|_| {
                for (to, index) in layouts(&start).into_iter().zip(layouts(&index).into_iter().rev()) {
                    let ints = [1, code, include_self as i64];
                    run(Op::scatter_reduce, &[to.view(), index.view(), from.view()], &ints, &[]).unwrap();
                    let values: Vec<f64> = to.values().into_iter().map(f64::from).collect();
                    support::assert_close(&values, &expected, 1e-6, 1e-6);
                }
            });
        }
    }
    let mut expected = start.data.clone();
    for i in 0..index.data.len() {
        let at = coordinates(i, &index.sizes);
        expected[linear(&[at[0], index.data[i] as usize, at[2]], &sizes)] = from.data[linear(&at, &from.sizes)];
    }
    at_every_level(|_| {
        for to in layouts(&start) {
            run(Op::scatter, &[to.view(), index.view(), from.view()], &[1], &[]).unwrap();
            assert_eq!(to.values(), expected);
        }
    });
    let to = start.clone();
    run(Op::scatter_value, &[to.view(), index.view()], &[1, 0], &[2.5]).unwrap();
    assert_eq!(to.values().iter().filter(|&&v| v == 2.5).count(), {
        let mut touched: Vec<usize> = (0..index.data.len())
            .map(|i| {
                let at = coordinates(i, &index.sizes);
                linear(&[at[0], index.data[i] as usize, at[2]], &sizes)
            })
            .collect();
        touched.sort();
        touched.dedup();
        touched.len()
    });
}

#[test]
fn nan_wins_a_reduction() {
    let to = Tensor::<f32>::new(&[2], |_| 1.0);
    let index = Tensor::<i64>::new(&[3], |i| [0, 1, 0][i]);
    let from = Tensor::<f32>::new(&[3], |i| [f32::NAN, 5.0, 9.0][i]);
    run(Op::scatter_reduce, &[to.view(), index.view(), from.view()], &[0, 3, 1], &[]).unwrap();
    assert!(to.data[0].is_nan());
    assert_eq!(to.data[1], 5.0);
}

#[test]
fn sums_into_halves_are_rounded_once() {
    let to = Tensor::<half::bf16>::zeros(&[1]);
    let index = Tensor::<i64>::zeros(&[512]);
    let from = Tensor::<half::bf16>::new(&[512], |_| half::bf16::ONE);
    run(Op::index_add, &[to.view(), index.view(), from.view()], &[0, 1], &[1.0]).unwrap();
    assert_eq!(to.data[0].to_f32(), 512.0);
}

#[test]
fn index_add_and_copy_by_slices() {
    for dim in 0..3 {
        let start = numbers(&[6, 70, 9]);
        let index = indices(&[13], start.sizes[dim]);
        let mut sizes = start.sizes.clone();
        sizes[dim] = 13;
        let from = Tensor::<f32>::new(&sizes, |i| noise(9)(i) as f32);
        let (mut added, mut copied) = (start.data.clone(), start.data.clone());
        for i in 0..from.data.len() {
            let mut at = coordinates(i, &sizes);
            at[dim] = index.data[at[dim]] as usize;
            let to = linear(&at, &start.sizes);
            added[to] += 2.0 * from.data[i];
            copied[to] = from.data[i];
        }
        at_every_level(|_| {
            for (to, from) in layouts(&start).into_iter().zip(layouts(&from)) {
                run(Op::index_add, &[to.view(), index.view(), from.view()], &[dim as i64, 2], &[2.0]).unwrap();
                assert_eq!(to.values(), added, "the order of additions is the index's");
            }
            for to in layouts(&start) {
                run(Op::index_copy, &[to.view(), index.view(), from.view()], &[dim as i64], &[]).unwrap();
                assert_eq!(to.values(), copied);
            }
        });
    }
}

#[test]
fn index_put_and_fill() {
    let rows = Tensor::<i64>::new(&[4], |i| [1, -1, 1, 0][i]);
    let values = Tensor::<i32>::new(&[1], |_| 5);
    let to = Tensor::<i32>::zeros(&[3, 2]);
    run(Op::index_put, &[to.view(), values.view(), rows.view()], &[1], &[]).unwrap();
    assert_eq!(to.values(), [5, 5, 10, 10, 5, 5]);
    run(Op::index_put, &[to.view(), values.view(), rows.view()], &[0], &[]).unwrap();
    assert_eq!(to.values(), [5; 6]);
    let some = Tensor::<i64>::new(&[1], |_| -2);
    run(Op::index_fill, &[to.view(), some.view()], &[1, 9], &[9.0]).unwrap();
    assert_eq!(to.values(), [9, 5, 9, 5, 9, 5]);
}

#[test]
fn nothing_is_written_before_every_index_is_checked() {
    let to = Tensor::<f32>::new(&[3], |_| 1.0);
    let from = Tensor::<f32>::new(&[3], |_| 2.0);
    let index = Tensor::<i64>::new(&[3], |i| [0, 1, 5][i]);
    for (op, ints) in [(Op::scatter, vec![0]), (Op::scatter_reduce, vec![0, 0, 1])] {
        let error = run(op, &[to.view(), index.view(), from.view()], &ints, &[]).unwrap_err();
        assert_eq!(error.kind(), Kind::Runtime);
        assert!(error.to_string().contains("index 5 is out of bounds for dimension 0 with size 3"));
    }
    let error = run(Op::index_add, &[to.view(), index.view(), from.view()], &[0, 1], &[1.0]).unwrap_err();
    assert_eq!(error.kind(), Kind::Index);
    let matrix = Tensor::<f32>::new(&[3, 1], |_| 1.0);
    let rows = Tensor::<f32>::new(&[3, 1], |_| 2.0);
    let error = run(Op::index_add, &[matrix.view(), index.view(), rows.view()], &[0, 1], &[1.0]).unwrap_err();
    assert_eq!(error.kind(), Kind::Runtime);
    assert_eq!(matrix.values(), [1.0; 3]);
    let error = run(Op::index_put, &[to.view(), from.view(), index.view()], &[0], &[]).unwrap_err();
    assert_eq!(error.kind(), Kind::Index);
    assert_eq!(to.values(), [1.0; 3]);
    let negative = Tensor::<i64>::new(&[1], |_| -4);
    assert!(run(Op::index, &[from.view(), to.view(), negative.view()], &[], &[]).is_err());
}

#[test]
fn embedding_and_its_gradient() {
    let weight = numbers(&[10, 70]);
    let tokens = indices(&[3, 20], 10);
    let picked: Vec<f32> = tokens.data.iter().flat_map(|&t| weight.data[t as usize * 70..][..70].to_vec()).collect();
    let grad = Tensor::<f32>::new(&[3, 20, 70], |i| noise(3)(i) as f32);
    let counts: Vec<f64> = (0..10).map(|row| tokens.data.iter().filter(|&&t| t == row).count() as f64).collect();
    at_every_level(|_| {
        let out = Tensor::<f32>::zeros(&[3, 20, 70]);
        run(Op::embedding, &[out.view(), weight.scattered(2).view(), tokens.scattered(1).view()], &[], &[]).unwrap();
        assert_eq!(out.values(), picked);
        for by_frequency in [false, true] {
            let mut expected = vec![0.0; 700];
            for (i, &token) in tokens.data.iter().enumerate() {
                for column in 0..70 {
                    let scale = if by_frequency { counts[token as usize] } else { 1.0 };
                    let kept = if token == 4 { 0.0 } else { 1.0 };
                    expected[token as usize * 70 + column] += kept * grad.data[i * 70 + column] as f64 / scale;
                }
            }
            for grad in layouts(&grad) {
                for out in layouts(&Tensor::<f32>::zeros(&[10, 70])) {
                    let views = [out.view(), grad.view(), tokens.view()];
                    run(Op::embedding_backward, &views, &[4, by_frequency as i64], &[]).unwrap();
                    let values: Vec<f64> = out.values().into_iter().map(f64::from).collect();
                    support::assert_close(&values, &expected, 1e-5, 1e-5);
                }
            }
        }
    });
}

#[test]
fn finding_and_picking_what_is_true() {
    for sizes in [&[0][..], &[1], &[7, 13], &[200_000], &[3, 0, 2]] {
        let mask = Tensor::<Flag>::new(sizes, |i| Flag((noise(4)(i) > 0.3) as u8));
        let from = Tensor::<i16>::new(sizes, |i| i as i16);
        let found: Vec<usize> = (0..mask.data.len()).filter(|&i| mask.data[i].0 != 0).collect();
        at_every_level(|_| {
            for mask in layouts(&mask) {
                let count = Tensor::<i64>::zeros(&[]);
                run(Op::count_true, &[count.view(), mask.view()], &[], &[]).unwrap();
                assert_eq!(count.data[0] as usize, found.len());
                let places = Tensor::<i64>::zeros(&[found.len() as i64, sizes.len() as i64]);
                run(Op::nonzero, &[places.view(), mask.view()], &[-1], &[]).unwrap();
                let expected: Vec<i64> =
                    found.iter().flat_map(|&i| coordinates(i, sizes)).map(|at| at as i64).collect();
                assert_eq!(places.values(), expected);
                let picked = Tensor::<i16>::zeros(&[found.len() as i64]);
                run(Op::masked_select, &[picked.view(), from.scattered(2).view(), mask.view()], &[], &[]).unwrap();
                assert_eq!(picked.values(), found.iter().map(|&i| from.data[i]).collect::<Vec<_>>());
            }
        });
    }
    let halves = Tensor::<half::f16>::new(&[3], |i| half::f16::from_f32([0.0, -0.0, f32::NAN][i]));
    let count = Tensor::<i64>::zeros(&[]);
    run(Op::count_true, &[count.view(), halves.view()], &[], &[]).unwrap();
    assert_eq!(count.data[0], 1);
}

#[test]
fn flips_and_rolls() {
    let from = Tensor::<i64>::new(&[4, 5, 3], |i| i as i64);
    let out = Tensor::<i64>::zeros(&[4, 5, 3]);
    for from in layouts(&from) {
        run(Op::flip, &[out.view(), from.view()], &[0, 2], &[]).unwrap();
        for (i, &value) in out.data.iter().enumerate() {
            let at = coordinates(i, &from.sizes);
            assert_eq!(value as usize, linear(&[3 - at[0], at[1], 2 - at[2]], &from.sizes));
        }
        run(Op::roll, &[out.view(), from.view()], &[1, -7, 0, 1], &[]).unwrap();
        for (i, &value) in out.data.iter().enumerate() {
            let at = coordinates(i, &from.sizes);
            assert_eq!(value as usize, linear(&[(at[0] + 3) % 4, (at[1] + 7) % 5, at[2]], &from.sizes));
        }
    }
    let empty = Tensor::<f32>::zeros(&[0, 3]);
    run(Op::flip, &[empty.view(), empty.view()], &[0, 1], &[]).unwrap();
    run(Op::roll, &[empty.view(), empty.view()], &[0, 2], &[]).unwrap();
}

#[test]
fn triangles() {
    let from = Tensor::<i32>::new(&[2, 4, 6], |i| i as i32 + 1);
    for diagonal in [-9, -1, 0, 2, 9] {
        for from in layouts(&from) {
            for out in layouts(&Tensor::<i32>::zeros(&[2, 4, 6])) {
                for (op, lower) in [(Op::tril, true), (Op::triu, false)] {
                    run(op, &[out.view(), from.view()], &[diagonal], &[]).unwrap();
                    for (i, &value) in out.values().iter().enumerate() {
                        let at = coordinates(i, &from.sizes);
                        let above = at[2] as i64 - at[1] as i64;
                        let kept = if lower { above <= diagonal } else { above >= diagonal };
                        assert_eq!(value, if kept { i as i32 + 1 } else { 0 });
                    }
                }
            }
        }
    }
}
