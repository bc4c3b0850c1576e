//! Distinct elements, look-ups and histograms against plain loops.

mod support;

use rustorch_kernels::ops::Op;
use rustorch_kernels::view::View;
use support::{Flag, Item, Tensor, at_every_level, layouts, noise, run};

/// Runs `unique`; gives where each is first, the inverse and the counts.
fn unique<T: Item>(from: &Tensor<T>, dim: i64, consecutive: bool) -> [Vec<i64>; 3] {
    let slices = if dim < 0 { from.sizes.iter().product() } else { from.sizes[dim as usize] };
    let longs = || Tensor::<i64>::zeros(&[slices]);
    let (count, first, inverse, counts) = (Tensor::<i64>::zeros(&[]), longs(), longs(), longs());
    let views = [count.view(), first.view(), inverse.view(), counts.view(), from.view()];
    run(Op::unique, &views, &[dim, consecutive as i64], &[]).unwrap();
    let found = count.data[0] as usize;
    [first.data[..found].to_vec(), inverse.data, counts.data[..found].to_vec()]
}

/// The same by comparing every slice with those before it.
fn plain<K: PartialEq + PartialOrd>(slices: &[K], consecutive: bool) -> [Vec<i64>; 3] {
    let mut first: Vec<usize> = Vec::new();
    for (at, slice) in slices.iter().enumerate() {
        let seen = if consecutive { at > 0 && slices[at - 1] == *slice } else { slices[..at].contains(slice) };
        if !seen {
            first.push(at);
        }
    }
    if !consecutive {
        first.sort_by(|&a, &b| slices[a].partial_cmp(&slices[b]).unwrap());
    }
    let of = |at: usize| {
        if consecutive {
            first.iter().rposition(|&start| start <= at).unwrap()
        } else {
            first.iter().position(|&start| slices[start] == slices[at]).unwrap()
        }
    };
    let inverse: Vec<i64> = (0..slices.len()).map(|at| of(at) as i64).collect();
    let counts = (0..first.len()).map(|one| inverse.iter().filter(|&&i| i == one as i64).count() as i64).collect();
    [first.iter().map(|&at| at as i64).collect(), inverse, counts]
}

#[test]
fn distinct_elements_and_slices() {
    fn check<T: Item + PartialOrd>(value: impl Fn(usize) -> T) {
        for sizes in [[1, 1], [0, 3], [7, 13], [40, 25]] {
            let from = Tensor::new(&sizes, &value);
            for consecutive in [false, true] {
                let elements = plain(&from.data, consecutive);
                let rows: Vec<&[T]> = from.data.chunks(sizes[1] as usize).collect();
                let slices = plain(&rows, consecutive);
                at_every_level(|_| {
                    for from in layouts(&from) {
                        assert_eq!(unique(&from, -1, consecutive), elements);
                        if sizes[0] > 0 {
                            assert_eq!(unique(&from, 0, consecutive), slices);
                        }
                    }
                });
            }
        }
    }
    check(|i| (noise(2)(i) * 4.0).round());
    check(|i| (noise(2)(i) * 3.0).round() as f32);
    check(|i| half::f16::from_f64((noise(2)(i) * 3.0).round()));
    check(|i| (noise(2)(i) * 4.0) as i8);
    check(|i| (noise(2)(i) * 4.0) as i64);
    // Rows that repeat.
    check(|i| (i / 26 % 2) as u8);
    // NaN is like no other, not even in a row.
    let from = Tensor::<f32>::new(&[4], |i| [f32::NAN, 1.0, f32::NAN, 1.0][i]);
    assert_eq!(unique(&from, -1, false), [vec![1, 0, 2], vec![1, 0, 2, 0], vec![2, 1, 1]]);
    let rows = Tensor::<f32>::new(&[2, 2], |i| [1.0, f32::NAN][i % 2]);
    assert_eq!(unique(&rows, 0, true)[2], [1, 1]);
    let flags = Tensor::<Flag>::new(&[3], |i| Flag([1, 0, 7][i]));
    assert_eq!(unique(&flags, -1, false), [vec![1, 0], vec![1, 0, 1], vec![1, 2]]);
}

#[test]
fn searches_sorted_lines() {
    let mut boundaries = Tensor::<f32>::new(&[3, 50], |i| (noise(2)(i) * 9.0).round() as f32);
    let unsorted = boundaries.clone();
    let mut sorter = Tensor::<i64>::zeros(&[3, 50]);
    for row in 0..3 {
        let mut order: Vec<usize> = (0..50).collect();
        order.sort_by(|&a, &b| unsorted.data[row * 50 + a].total_cmp(&unsorted.data[row * 50 + b]));
        for (place, &from) in order.iter().enumerate() {
            sorter.data[row * 50 + place] = from as i64;
            boundaries.data[row * 50 + place] = unsorted.data[row * 50 + from];
        }
    }
    let values = Tensor::<f32>::new(&[3, 31], |i| if i == 40 { f32::NAN } else { (noise(3)(i) * 10.0).round() as f32 });
    for right in [false, true] {
        let found = |line: &[f32], value: f32| {
            line.iter().filter(|&&edge| !(if right { edge > value } else { edge >= value })).count() as i64
        };
        let by_row: Vec<i64> = (0..93).map(|i| found(&boundaries.data[i / 31 * 50..][..50], values.data[i])).collect();
        let by_first: Vec<i64> = values.data.iter().map(|&value| found(&boundaries.data[..50], value)).collect();
        let first = Tensor::<f32>::new(&[50], |i| boundaries.data[i]);
        at_every_level(|_| {
            for values in layouts(&values) {
                let out = Tensor::<i64>::zeros(&[3, 31]).scattered(2);
                let (apart, order) = (boundaries.scattered(2), sorter.scattered(3));
                let views = [out.view(), apart.view(), values.view(), View::absent()];
                run(Op::searchsorted, &views, &[right as i64], &[]).unwrap();
                assert_eq!(out.values(), by_row);
                let narrow = Tensor::<i32>::zeros(&[3, 31]);
                let views = [narrow.view(), unsorted.view(), values.view(), order.view()];
                run(Op::searchsorted, &views, &[right as i64], &[]).unwrap();
                assert_eq!(narrow.values().into_iter().map(i64::from).collect::<Vec<_>>(), by_row);
                let views = [out.view(), first.view(), values.view(), View::absent()];
                run(Op::searchsorted, &views, &[right as i64], &[]).unwrap();
                assert_eq!(out.values(), by_first);
            }
        });
    }
    sorter.data[7] = 50;
    let out = Tensor::<i64>::zeros(&[3, 31]);
    let views = [out.view(), unsorted.view(), values.view(), sorter.view()];
    assert!(run(Op::searchsorted, &views, &[0], &[]).is_err());
}

#[test]
fn finds_members() {
    let elements = Tensor::<f32>::new(&[9, 7], |i| if i == 3 { f32::NAN } else { (noise(2)(i) * 9.0).round() as f32 });
    for count in [0, 1, 20] {
        let tests =
            Tensor::<f32>::new(&[count], |i| if i == 5 { f32::NAN } else { (noise(9)(i) * 9.0).round() as f32 });
        for invert in [false, true] {
            let expected: Vec<Flag> =
                elements.data.iter().map(|value| Flag((tests.data.contains(value) != invert) as u8)).collect();
            at_every_level(|_| {
                for elements in layouts(&elements) {
                    let out = Tensor::<Flag>::zeros(&[9, 7]).scattered(2);
                    let tests = tests.scattered(2);
                    let views = [out.view(), elements.view(), tests.view()];
                    run(Op::isin, &views, &[invert as i64], &[]).unwrap();
                    assert_eq!(out.values(), expected);
                }
            });
        }
    }
}

#[test]
fn counts_points_in_cells() {
    let points = Tensor::<f64>::new(&[500, 2], |i| if i == 9 { f64::NAN } else { (noise(2)(i) * 24.0).round() / 20.0 });
    let edges =
        [Tensor::<f64>::new(&[6], |i| i as f64 * 0.4 - 1.0), Tensor::<f64>::new(&[5], |i| i as f64 * 0.5 - 1.0)];
    let weights = Tensor::<f64>::new(&[500], noise(4));
    let bin = |value: f64, edges: &[f64]| {
        let last = edges.len() - 1;
        (0..last).find(|&at| value >= edges[at] && (value < edges[at + 1] || (at + 1 == last && value == edges[last])))
    };
    for weighted in [false, true] {
        let mut expected = vec![0.0; 20];
        for row in 0..500 {
            let cell = bin(points.data[row * 2], &edges[0].data).zip(bin(points.data[row * 2 + 1], &edges[1].data));
            if let Some((x, y)) = cell {
                expected[x * 4 + y] += if weighted { weights.data[row] } else { 1.0 };
            }
        }
        at_every_level(|_| {
            for points in layouts(&points) {
                // By search, and by the place between the outermost edges and then nearby.
                for find in [2, 1] {
                    let out = Tensor::<f64>::zeros(&[5, 4]).scattered(2);
                    let scattered = weights.scattered(2);
                    let given = if weighted { scattered.view() } else { View::absent() };
                    let views = [out.view(), points.view(), given, edges[0].view(), edges[1].view()];
                    run(Op::histogram, &views, &[find], &[]).unwrap();
                    assert_eq!(out.values(), expected);
                }
            }
        });
    }
    let out = Tensor::<f64>::zeros(&[5, 4]);
    assert!(run(Op::histogram, &[out.view(), points.view(), View::absent(), edges[0].view()], &[2], &[]).is_err());
}
