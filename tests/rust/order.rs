//! Sorting and selection against the standard library's sort over whole elements.

mod support;

use std::cmp::Ordering;

use rustorch_kernels::ops::Op;
use support::{Flag, Item, Tensor, at_every_level, layouts, lines, noise, run};

/// NaN is above all else.
trait Order: Item {
    fn order(self, other: Self) -> Ordering;
    fn is_nan(self) -> bool {
        false
    }
}
macro_rules! whole {
    ($($type:ty),*) => {$(impl Order for $type {
        fn order(self, other: Self) -> Ordering {
            self.cmp(&other)
        }
    })*};
}
whole!(u8, i8, i16, i32, i64);
macro_rules! float {
    ($($type:ty),*) => {$(impl Order for $type {
        fn order(self, other: Self) -> Ordering {
            self.partial_cmp(&other).unwrap_or_else(|| self.is_nan().cmp(&other.is_nan()))
        }
        fn is_nan(self) -> bool {
            self != self
        }
    })*};
}
float!(f32, f64, half::bf16, half::f16);
impl Order for Flag {
    fn order(self, other: Self) -> Ordering {
        (self.0 != 0).cmp(&(other.0 != 0))
    }
}

/// Positions in order, equal elements as they lie.
fn sorted<T: Order>(line: &[T], descending: bool) -> Vec<usize> {
    let mut positions: Vec<usize> = (0..line.len()).collect();
    positions.sort_by(|&a, &b| if descending { line[b].order(line[a]) } else { line[a].order(line[b]) });
    positions
}

/// Bit patterns, so that the sign of a zero and a NaN count.
fn bits<T: Item>(values: &[T]) -> Vec<Vec<u8>> {
    let bytes = |value: &T| {
        // SAFETY: plain numbers, read as their bytes.
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast::<u8>(), size_of::<T>()) }.to_vec()
    };
    values.iter().map(bytes).collect()
}

fn check_sort<T: Order>(sizes: &[i64], value: impl Fn(usize) -> T) {
    let from = Tensor::new(sizes, value);
    for dim in 0..sizes.len() {
        for descending in [false, true] {
            let mut values = from.data.clone();
            let mut indices = vec![0; values.len()];
            for places in lines(sizes, dim) {
                let line: Vec<T> = places.iter().map(|&place| from.data[place]).collect();
                for (&to, position) in places.iter().zip(sorted(&line, descending)) {
                    values[to] = line[position];
                    indices[to] = position as i64;
                }
            }
            at_every_level(|_| {
                for from in layouts(&from) {
                    for (to, places) in
                        layouts(&Tensor::<T>::zeros(sizes)).iter().zip(layouts(&Tensor::<i64>::zeros(sizes)))
                    {
                        let views = [to.view(), places.view(), from.view()];
                        run(Op::sort, &views, &[dim as i64, descending as i64], &[]).unwrap();
                        assert_eq!(bits(&to.values()), bits(&values));
                        assert_eq!(places.values(), indices);
                    }
                }
            });
        }
    }
}

/// Every special float, and ties.
fn special(i: usize) -> f64 {
    let list = [0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e-40, -1e-40, -1.5];
    if i.is_multiple_of(3) { list[i / 3 % list.len()] } else { (noise(2)(i) * 8.0).round() }
}

#[test]
fn sorts_every_dtype_along_every_dimension() {
    for sizes in [&[7, 5][..], &[3, 1, 11], &[1], &[0], &[3, 0, 2], &[2, 700]] {
        check_sort(sizes, special);
        check_sort(sizes, |i| special(i) as f32);
        check_sort(sizes, |i| half::bf16::from_f64(special(i)));
        check_sort(sizes, |i| half::f16::from_f64(special(i)));
        check_sort(sizes, |i| (noise(3)(i) * 300.0) as i64 as u8);
        check_sort(sizes, |i| (noise(3)(i) * 128.0) as i8);
        check_sort(sizes, |i| (noise(3)(i) * 32768.0) as i16);
        check_sort(sizes, |i| (noise(3)(i) * 2147483648.0) as i32);
        check_sort(sizes, |i| [i64::MIN, i64::MAX, (noise(3)(i) * 9e18) as i64][i % 3]);
        check_sort(sizes, |i| Flag((noise(3)(i) > 0.0) as u8));
    }
}

#[test]
fn sorts_long_lines() {
    check_sort(&[100_003], |i| noise(4)(i) as f32);
    check_sort(&[20_011], |i| noise(4)(i));
    check_sort(&[20_011], |i| i as i32);
    check_sort(&[20_011], |i| -(i as i64));
}

#[test]
fn a_scalar_is_sorted() {
    let (values, indices) = (Tensor::<f32>::zeros(&[]), Tensor::<i64>::new(&[], |_| 5));
    let from = Tensor::new(&[], |_| 3.0f32);
    run(Op::sort, &[values.view(), indices.view(), from.view()], &[0, 0], &[]).unwrap();
    assert_eq!((values.data[0], indices.data[0]), (3.0, 0));
}

#[test]
fn the_first_few_of_each_line() {
    for sizes in [[1, 9], [40, 23], [3, 5000]] {
        let from = Tensor::new(&sizes, |i| special(i) as f32);
        let dense = &from.data;
        for dim in 0..2 {
            let length = sizes[dim];
            for count in [0, 1, length / 2, length] {
                for largest in [false, true] {
                    let mut out_sizes = sizes;
                    out_sizes[dim] = count;
                    let mut expected = vec![0; (out_sizes[0] * out_sizes[1]) as usize];
                    for (places, to) in lines(&sizes, dim).iter().zip(lines(&out_sizes, dim)) {
                        let line: Vec<f32> = places.iter().map(|&place| from.data[place]).collect();
                        for (to, position) in to.into_iter().zip(sorted(&line, largest)) {
                            expected[to] = position as i64;
                        }
                    }
                    at_every_level(|_| {
                        for from in layouts(&from) {
                            let values = Tensor::<f32>::zeros(&out_sizes);
                            let indices = Tensor::<i64>::zeros(&out_sizes).scattered(2);
                            let views = [values.view(), indices.view(), from.view()];
                            run(Op::topk, &views, &[dim as i64, largest as i64], &[]).unwrap();
                            assert_eq!(indices.values(), expected);
                            let picked: Vec<f32> = expected
                                .iter()
                                .enumerate()
                                .map(|(i, &position)| {
                                    let mut at = [i as i64 / out_sizes[1].max(1), i as i64 % out_sizes[1].max(1)];
                                    at[dim] = position;
                                    dense[(at[0] * sizes[1] + at[1]) as usize]
                                })
                                .collect();
                            assert_eq!(bits(&values.values()), bits(&picked));
                        }
                    });
                }
            }
        }
    }
}

/// Runs an op that picks one element of each line; `pick` gives the position in a line.
fn check_choice<T: Order>(op: Op, from: &Tensor<T>, scalar: i64, pick: impl Fn(&[T]) -> usize) {
    for dim in 0..from.sizes.len() {
        let mut sizes = from.sizes.clone();
        sizes[dim] = 1;
        let mut expected = Vec::new();
        for places in lines(&from.sizes, dim) {
            let line: Vec<T> = places.iter().map(|&place| from.data[place]).collect();
            let position = pick(&line);
            expected.push((bits(&[line[position]]), position as i64));
        }
        at_every_level(|_| {
            for from in layouts(from) {
                let (values, indices) = (Tensor::<T>::zeros(&sizes), Tensor::<i64>::zeros(&sizes));
                run(op, &[values.view(), indices.view(), from.view()], &[dim as i64, scalar], &[]).unwrap();
                let found: Vec<_> =
                    values.values().into_iter().map(|value| bits(&[value])).zip(indices.values()).collect();
                assert_eq!(found, expected, "{op:?} of {:?} along {dim}", from.sizes);
            }
        });
    }
}

fn check_choices<T: Order>(from: &Tensor<T>) {
    for k in [1, 2] {
        check_choice(Op::kth_value, from, k, |line| sorted(line, false)[k as usize - 1]);
    }
    check_choice(Op::median, from, 0, |line| {
        line.iter().position(|value| value.is_nan()).unwrap_or_else(|| sorted(line, false)[(line.len() - 1) / 2])
    });
    check_choice(Op::median, from, 1, |line| {
        let numbers = line.iter().filter(|value| !value.is_nan()).count();
        sorted(line, false)[numbers.saturating_sub(1) / 2]
    });
    check_choice(Op::mode, from, 0, |line| {
        let count = |value: T| line.iter().filter(|&&other| other == value).count();
        let ordered = sorted(line, false);
        let most = ordered.iter().map(|&at| count(line[at])).max().unwrap();
        let value = line[*ordered.iter().find(|&&at| count(line[at]) == most).unwrap()];
        // A line of NaNs alone: each is a run of its own, and the first is the mode.
        if most == 0 { ordered[0] } else { line.iter().rposition(|&other| other == value).unwrap() }
    });
}

#[test]
fn one_element_of_each_line() {
    for sizes in [[2, 3], [5, 64], [31, 1000]] {
        check_choices(&Tensor::new(&sizes, special));
        check_choices(&Tensor::new(&sizes, |i| special(i) as f32));
        check_choices(&Tensor::new(&sizes, |i| half::bf16::from_f64(special(i))));
        check_choices(&Tensor::new(&sizes, |i| half::f16::from_f64(special(i))));
        check_choices(&Tensor::new(&sizes, |i| (noise(3)(i) * 9.0) as i8));
        check_choices(&Tensor::new(&sizes, |i| (noise(3)(i) * 9.0) as i64));
        check_choices(&Tensor::new(&sizes, |i| (noise(3)(i) * 300.0) as i16));
    }
    check_choices(&Tensor::new(&[2, 3], |_| f32::NAN));
}

#[test]
fn refusals() {
    let (from, values) = (Tensor::<f32>::zeros(&[3, 4]), Tensor::<f32>::zeros(&[3, 1]));
    let indices = Tensor::<i64>::zeros(&[3, 1]);
    let views = [values.view(), indices.view(), from.view()];
    for k in [0, 5, -1] {
        assert!(run(Op::kth_value, &views, &[1, k], &[]).is_err());
    }
    assert!(run(Op::sort, &views, &[1, 0], &[]).is_err());
    assert!(run(Op::sort, &views, &[2, 0], &[]).is_err());
    assert!(run(Op::median, &views, &[0, 0], &[]).is_err());
    let wrong = Tensor::<i32>::zeros(&[3, 1]);
    assert!(run(Op::topk, &[values.view(), wrong.view(), from.view()], &[1, 0], &[]).is_err());
}
