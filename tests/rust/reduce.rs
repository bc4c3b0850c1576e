//! Reductions and running totals against plain loops.

mod support;

use half::{bf16, f16};
use rustorch_kernels::error::{Error, Kind};
use rustorch_kernels::ops::Op;
use support::{Flag, Item, Tensor, assert_close, at_every_level, noise, run};

/// Shapes, and the dimensions to reduce.
const CASES: &[(&[i64], &[usize])] = &[
    (&[], &[]),
    (&[1], &[0]),
    (&[7], &[0]),
    (&[5, 7], &[]),
    (&[5, 7], &[0]),
    (&[5, 7], &[1]),
    (&[5, 7], &[0, 1]),
    (&[131, 67], &[0]),
    (&[67, 131], &[1]),
    (&[3, 300, 5], &[1]),
    (&[7, 3, 37], &[0, 2]),
    (&[2, 70, 3, 11], &[1, 2]),
    (&[2, 70, 3, 11], &[0, 3]),
    (&[9001], &[0]),
    (&[4, 9001], &[1]),
    (&[1, 5, 1], &[0, 2]),
];

fn kept(sizes: &[i64], dims: &[usize]) -> Vec<i64> {
    sizes.iter().enumerate().map(|(dim, &size)| if dims.contains(&dim) { 1 } else { size }).collect()
}

/// The elements of each output, in C order.
fn groups(values: &[f64], sizes: &[i64], dims: &[usize]) -> Vec<Vec<f64>> {
    let out_sizes = kept(sizes, dims);
    let mut groups = vec![Vec::new(); out_sizes.iter().product::<i64>() as usize];
    for (linear, &value) in values.iter().enumerate() {
        let (mut rest, mut place, mut scale) = (linear as i64, 0, 1);
        for dim in (0..sizes.len()).rev() {
            let at = rest % sizes[dim];
            rest /= sizes[dim];
            if out_sizes[dim] != 1 {
                place += at * scale;
            }
            scale *= out_sizes[dim];
        }
        groups[place as usize].push(value);
    }
    groups
}

fn layouts<T: Item>(tensor: &Tensor<T>) -> Vec<Tensor<T>> {
    let mut all = vec![tensor.clone(), tensor.scattered(1), tensor.scattered(3)];
    if let rank @ 2.. = tensor.sizes.len() {
        let mut swapped = Tensor::zeros(&tensor.clone().transposed(0, rank - 1).sizes).transposed(0, rank - 1);
        swapped.assign(&tensor.values());
        all.push(swapped);
    }
    all
}

/// Compares an op of one output with `expected(elements)` over all cases and layouts.
fn compare<I: Item, O: Item>(
    op: Op,
    floats: &[f64],
    from: impl Fn(f64) -> I,
    to_f64: impl Fn(I) -> f64,
    out_f64: impl Fn(O) -> f64,
    expected: impl Fn(&[f64]) -> f64,
    tolerance: f64,
) {
    for &(sizes, dims) in CASES {
        let input = Tensor::new(sizes, |i| from(noise(5)(i)));
        let values: Vec<f64> = input.values().into_iter().map(&to_f64).collect();
        let expected: Vec<f64> = groups(&values, sizes, dims).iter().map(|group| expected(group)).collect();
        at_every_level(|_| {
            for input in layouts(&input) {
                for output in [Tensor::<O>::zeros(&kept(sizes, dims)), Tensor::zeros(&kept(sizes, dims)).scattered(2)] {
                    run(op, &[output.view(), input.view()], &[], floats).unwrap();
                    let actual: Vec<f64> = output.values().into_iter().map(&out_f64).collect();
                    assert_close(&actual, &expected, tolerance, tolerance * 4.0);
                }
            }
        });
    }
}

fn compare_f32(op: Op, floats: &[f64], expected: impl Fn(&[f64]) -> f64, tolerance: f64) {
    compare::<f32, f32>(op, floats, |x| x as f32, f64::from, f64::from, expected, tolerance);
}

fn largest(group: &[f64]) -> f64 {
    group.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

fn smallest(group: &[f64]) -> f64 {
    group.iter().copied().fold(f64::INFINITY, f64::min)
}

#[test]
fn totals_of_floats() {
    let mean = |group: &[f64]| group.iter().sum::<f64>() / group.len() as f64;
    compare_f32(Op::sum, &[], |group| group.iter().sum(), 1e-6);
    compare_f32(Op::mean, &[], mean, 1e-6);
    let holes = |x: f64| if x > 0.5 { f32::NAN } else { x as f32 };
    let numbers = |group: &[f64]| group.iter().filter(|x| !x.is_nan()).sum();
    compare::<f32, f32>(Op::nansum, &[], holes, f64::from, f64::from, numbers, 1e-6);
    compare::<f64, f64>(Op::sum, &[], |x| x, |x| x, |x| x, |group| group.iter().sum(), 1e-13);
    compare::<bf16, bf16>(Op::mean, &[], bf16::from_f64, bf16::to_f64, bf16::to_f64, mean, 4e-3);
    compare::<f16, f32>(Op::sum, &[], f16::from_f64, f16::to_f64, f64::from, |group| group.iter().sum(), 1e-5);
}

#[test]
fn totals_of_integers() {
    let scaled = |x: f64| (x * 100.0) as i32;
    compare::<i32, i64>(Op::sum, &[], scaled, f64::from, |x| x as f64, |group| group.iter().sum(), 0.0);
    compare::<i32, f32>(Op::sum, &[], scaled, f64::from, f64::from, |group| group.iter().sum(), 1e-6);
    let flag = |x: f64| Flag((x > 0.3) as u8);
    compare::<Flag, i64>(Op::sum, &[], flag, |x| f64::from(x.0), |x| x as f64, |group| group.iter().sum(), 0.0);
    compare::<f32, i64>(
        Op::sum,
        &[],
        |x| (x * 9.0) as f32,
        f64::from,
        |x| x as f64,
        |group| group.iter().map(|x| x.trunc()).sum(),
        0.0,
    );
    // Wraps, as PyTorch does.
    let input = Tensor::new(&[2], |_| i64::MAX);
    let output = Tensor::<i64>::zeros(&[1]);
    run(Op::sum, &[output.view(), input.view()], &[], &[]).unwrap();
    assert_eq!(output.values(), [-2]);
}

#[test]
fn products_and_extremes() {
    compare_f32(Op::prod, &[], |group| group.iter().product(), 1e-5);
    compare::<i8, i64>(
        Op::prod,
        &[],
        |x| if x < -0.9 { -1 } else { 1 },
        f64::from,
        |x| x as f64,
        |group| group.iter().product(),
        0.0,
    );
    compare_f32(Op::amax, &[], largest, 0.0);
    compare_f32(Op::amin, &[], smallest, 0.0);
    let byte = |x: f64| (x * 100.0 + 100.0) as u8;
    compare::<u8, u8>(Op::amax, &[], byte, f64::from, f64::from, largest, 0.0);
    compare::<bf16, bf16>(Op::amin, &[], bf16::from_f64, bf16::to_f64, bf16::to_f64, smallest, 0.0);
}

#[test]
fn tests_and_counts() {
    let rare = |x: f64| if x > 0.999 { x as f32 } else { 0.0 };
    let common = |x: f64| if x > 0.999 { 0.0 } else { x as f32 };
    let to = |x: Flag| f64::from(x.0);
    let any = |group: &[f64]| f64::from(group.iter().any(|&x| x != 0.0));
    let all = |group: &[f64]| f64::from(group.iter().all(|&x| x != 0.0));
    compare::<f32, Flag>(Op::any, &[], rare, f64::from, to, any, 0.0);
    compare::<f32, Flag>(Op::all, &[], common, f64::from, to, all, 0.0);
    compare::<f32, i64>(
        Op::count_nonzero,
        &[],
        common,
        f64::from,
        |x| x as f64,
        |group| group.iter().filter(|&&x| x != 0.0).count() as f64,
        0.0,
    );
    // A bool's byte may be any; -0.0 is false and NaN is true.
    let output = Tensor::<Flag>::zeros(&[1]);
    let bytes = Tensor::new(&[3], |i| Flag(2 + i as u8));
    run(Op::all, &[output.view(), bytes.view()], &[], &[]).unwrap();
    assert_eq!(output.values(), [Flag(1)]);
    let zeros = Tensor::new(&[40], |_| -0.0f32);
    run(Op::any, &[output.view(), zeros.view()], &[], &[]).unwrap();
    assert_eq!(output.values(), [Flag(0)]);
    let nan = Tensor::new(&[40], |_| f32::NAN);
    run(Op::all, &[output.view(), nan.view()], &[], &[]).unwrap();
    assert_eq!(output.values(), [Flag(1)]);
}

#[test]
fn norms() {
    let power = |p: f64| move |group: &[f64]| group.iter().map(|x| x.abs().powf(p)).sum::<f64>().powf(1.0 / p);
    for p in [1.0, 2.0, 3.0, 0.5, -1.5] {
        compare_f32(Op::norm, &[p], power(p), 2e-5);
    }
    let magnitudes = |group: &[f64]| -> Vec<f64> { group.iter().map(|x| x.abs()).collect() };
    compare_f32(Op::norm, &[0.0], |group| group.iter().filter(|&&x| x != 0.0).count() as f64, 0.0);
    compare_f32(Op::norm, &[f64::INFINITY], |group| largest(&magnitudes(group)), 0.0);
    compare_f32(Op::norm, &[f64::NEG_INFINITY], |group| smallest(&magnitudes(group)), 0.0);
}

fn spread(group: &[f64], correction: f64) -> (f64, f64) {
    let count = group.len() as f64;
    let mean = group.iter().sum::<f64>() / count;
    let squares: f64 = group.iter().map(|x| (x - mean) * (x - mean)).sum();
    (squares / (count - correction).max(0.0), mean)
}

#[test]
fn variances() {
    for &(sizes, dims) in CASES {
        for (correction, root) in [(1.0, false), (0.0, true)] {
            // Far from zero, where a sum of squares would cancel.
            let input = Tensor::new(sizes, |i| (noise(8)(i) + 1000.0) as f32);
            let values: Vec<f64> = input.values().into_iter().map(f64::from).collect();
            let (variance, mean): (Vec<f64>, Vec<f64>) =
                groups(&values, sizes, dims).iter().map(|group| spread(group, correction)).unzip();
            let variance: Vec<f64> = if root { variance.iter().map(|v| v.sqrt()).collect() } else { variance };
            at_every_level(|_| {
                for input in layouts(&input) {
                    let outputs = [Tensor::<f32>::zeros(&kept(sizes, dims)), Tensor::zeros(&kept(sizes, dims))];
                    let views = [outputs[0].view(), outputs[1].view(), input.view()];
                    run(Op::variance, &views, &[root as i64], &[correction]).unwrap();
                    let [actual, means] = outputs.map(|o| o.values().into_iter().map(f64::from).collect::<Vec<_>>());
                    assert_close(&actual, &variance, 1e-5, 0.0);
                    assert_close(&means, &mean, 1e-6, 0.0);
                }
            });
        }
    }
}

#[test]
fn positions_of_extremes() {
    for &(sizes, dims) in CASES {
        // Few distinct values, so that there are ties; some NaN.
        for nan in [false, true] {
            let input = Tensor::new(sizes, |i| {
                let x = noise(9)(i);
                if nan && x > 0.98 { f32::NAN } else { (x * 20.0).round() as f32 }
            });
            let values: Vec<f64> = input.values().into_iter().map(f64::from).collect();
            for (op, sign) in [(Op::max_position, 1.0), (Op::min_position, -1.0)] {
                let best = |group: &Vec<f64>| {
                    group.iter().position(|x| x.is_nan()).unwrap_or_else(|| {
                        let best = largest(&group.iter().map(|x| x * sign).collect::<Vec<_>>());
                        group.iter().position(|&x| x * sign == best).unwrap()
                    })
                };
                let groups = groups(&values, sizes, dims);
                let positions: Vec<i64> = groups.iter().map(|group| best(group) as i64).collect();
                let expected: Vec<f64> = groups.iter().map(|group| group[best(group)]).collect();
                at_every_level(|_| {
                    for input in layouts(&input) {
                        let found = Tensor::<f32>::zeros(&kept(sizes, dims));
                        let at = Tensor::<i64>::zeros(&kept(sizes, dims)).scattered(2);
                        run(op, &[found.view(), at.view(), input.view()], &[], &[]).unwrap();
                        assert_eq!(at.values(), positions, "{sizes:?} over {dims:?}");
                        let found: Vec<f64> = found.values().into_iter().map(f64::from).collect();
                        assert_close(&found, &expected, 0.0, 0.0);
                    }
                });
            }
        }
    }
}

#[test]
fn large_sums_are_exact_and_do_not_depend_on_threads() {
    for (sizes, dims) in
        [(&[3_000_017][..], &[0][..]), (&[300_007, 3], &[0]), (&[2, 500_009], &[1]), (&[40_009, 40], &[0])]
    {
        let input = Tensor::new(sizes, |i| (noise(3)(i) + 1.0) as f32);
        let values: Vec<f64> = input.values().into_iter().map(f64::from).collect();
        let groups = groups(&values, sizes, dims);
        let expected: Vec<f64> = groups.iter().map(|group| group.iter().sum()).collect();
        let result = |threads| {
            rustorch_kernels::threads::set_num_threads(threads);
            let output = Tensor::<f32>::zeros(&kept(sizes, dims));
            run(Op::sum, &[output.view(), input.view()], &[], &[]).unwrap();
            output.values()
        };
        let alone = result(1);
        assert_eq!(alone, result(2));
        let actual: Vec<f64> = alone.into_iter().map(f64::from).collect();
        assert_close(&actual, &expected, 3e-7, 0.0);
        // The parts of a cut range keep their positions.
        let last = Tensor::new(sizes, |i| if i + 3 >= values.len() { 1.0 } else { 0.0f32 });
        let at = Tensor::<i64>::zeros(&kept(sizes, dims));
        let absent = rustorch_kernels::view::View::absent();
        run(Op::max_position, &[absent, at.view(), last.view()], &[], &[]).unwrap();
        let reduced = sizes[dims[0]];
        let expected = if sizes.len() == 1 { reduced - 3 } else { reduced - 1 };
        assert_eq!(*at.values().last().unwrap(), if dims[0] == 1 { reduced - 3 } else { expected });
    }
}

#[test]
fn expanded_inputs() {
    let input = Tensor::new(&[1, 5], |i| i as f32).expanded(&[300, 5]);
    let output = Tensor::<f32>::zeros(&[1, 5]);
    run(Op::sum, &[output.view(), input.view()], &[], &[]).unwrap();
    assert_eq!(output.values(), [0.0, 300.0, 600.0, 900.0, 1200.0]);
    let input = Tensor::new(&[3, 1], |i| i as f32).expanded(&[3, 1000]);
    let output = Tensor::<f32>::zeros(&[3, 1]);
    run(Op::mean, &[output.view(), input.view()], &[], &[]).unwrap();
    assert_eq!(output.values(), [0.0, 1.0, 2.0]);
}

#[test]
fn nothing_to_reduce() {
    let input = Tensor::<f32>::zeros(&[0, 3]);
    let output = Tensor::new(&[1, 3], |_| 7.0f32);
    for (op, expected) in [(Op::sum, 0.0), (Op::prod, 1.0)] {
        run(op, &[output.view(), input.view()], &[], &[]).unwrap();
        assert_eq!(output.values(), [expected; 3]);
    }
    run(Op::mean, &[output.view(), input.view()], &[], &[]).unwrap();
    assert!(output.values().iter().all(|x| x.is_nan()));
    let refused = run(Op::amax, &[output.view(), input.view()], &[], &[]);
    assert!(matches!(refused, Err(Error::In { source, .. }) if source.kind() == Kind::Runtime));
    // Reduced in the other dimension nothing is left.
    let output = Tensor::<f32>::zeros(&[0, 1]);
    run(Op::amax, &[output.view(), input.view()], &[], &[]).unwrap();
}

#[test]
fn nan_and_infinity() {
    let input = Tensor::new(&[100], |i| if i == 63 { f32::NAN } else { i as f32 });
    let output = Tensor::<f32>::zeros(&[1]);
    for op in [Op::sum, Op::mean, Op::prod, Op::amax, Op::amin] {
        at_every_level(|_| {
            run(op, &[output.view(), input.view()], &[], &[]).unwrap();
            assert!(output.values()[0].is_nan());
        });
    }
    let input = Tensor::new(&[100], |i| if i == 63 { f32::INFINITY } else { i as f32 });
    run(Op::sum, &[output.view(), input.view()], &[], &[]).unwrap();
    assert_eq!(output.values(), [f32::INFINITY]);
}

#[test]
fn wrong_shapes_are_refused() {
    let input = Tensor::<f32>::zeros(&[4, 5]);
    for sizes in [&[4][..], &[5, 1], &[2, 5], &[1, 1, 1]] {
        let output = Tensor::<f32>::zeros(sizes);
        assert!(run(Op::sum, &[output.view(), input.view()], &[], &[]).is_err());
    }
}

#[test]
fn running_totals() {
    for sizes in [&[][..], &[1], &[9], &[0, 4], &[5, 0], &[3, 4, 5], &[300, 7], &[7, 300], &[2, 90, 31]] {
        for dim in 0..sizes.len().max(1) {
            let input = Tensor::new(sizes, |i| (noise(4)(i) + 1.5) as f32);
            let length = sizes.get(dim).copied().unwrap_or(1) as usize;
            let inner: usize = sizes.iter().skip(dim + 1).product::<i64>() as usize;
            for (op, product) in [(Op::cumsum, false), (Op::cumprod, true)] {
                let mut expected: Vec<f64> = input.values().into_iter().map(f64::from).collect();
                for at in 0..expected.len() {
                    if !(at / inner).is_multiple_of(length) {
                        let before = expected[at - inner];
                        expected[at] = if product { expected[at] * before } else { expected[at] + before };
                    }
                }
                at_every_level(|_| {
                    for input in layouts(&input) {
                        let output = Tensor::<f32>::zeros(sizes).scattered(1);
                        run(op, &[output.view(), input.view()], &[dim as i64], &[]).unwrap();
                        let actual: Vec<f64> = output.values().into_iter().map(f64::from).collect();
                        let expected: Vec<f64> = expected.iter().map(|&x| f64::from(x as f32)).collect();
                        assert_close(&actual, &expected, 1e-6, 0.0);
                        run(op, &[input.view(), input.view()], &[dim as i64], &[]).unwrap();
                        assert_eq!(input.values(), output.values(), "in place");
                    }
                });
            }
        }
    }
    let flags = Tensor::new(&[5], |i| Flag((i % 2) as u8));
    let output = Tensor::<i64>::zeros(&[5]);
    run(Op::cumsum, &[output.view(), flags.view()], &[0], &[]).unwrap();
    assert_eq!(output.values(), [0, 1, 1, 2, 2]);
}

#[test]
fn segments() {
    let lengths = Tensor::<i64>::new(&[2, 4], |i| [2, 0, 3, 1, 1, 4, 0, 0][i]);
    let data = Tensor::<f32>::new(&[2, 6, 3], |i| if i % 7 == 0 { 0.0 } else { noise(3)(i) as f32 });
    let value = |outer: i64, along: i64, inner: i64| f64::from(data.data[((outer * 6 + along) * 3 + inner) as usize]);
    let formulas: [fn(&[f64]) -> f64; 5] = [
        |items| items.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        |items| items.iter().sum::<f64>() / items.len() as f64,
        |items| items.iter().copied().fold(f64::INFINITY, f64::min),
        |items| items.iter().sum(),
        |items| items.iter().product(),
    ];
    for (reduction, formula) in formulas.iter().enumerate() {
        let mut expected = Vec::new();
        let mut slopes = vec![0.0; 36];
        for outer in 0..2 {
            let mut start = 0;
            for segment in 0..4 {
                let length = lengths.data[(outer * 4 + segment) as usize];
                for inner in 0..3 {
                    let items: Vec<f64> = (start..start + length).map(|along| value(outer, along, inner)).collect();
                    expected.push(formula(&items));
                    for at in 0..items.len() {
                        let moved = |by: f64| {
                            let mut items = items.clone();
                            items[at] += by;
                            formula(&items)
                        };
                        let place = ((outer * 6 + start + at as i64) * 3 + inner) as usize;
                        slopes[place] = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                    }
                }
                start += length;
            }
        }
        at_every_level(|_| {
            let (out, ints) = (Tensor::<f32>::zeros(&[2, 4, 3]).scattered(1), [reduction as i64, 0]);
            let data = data.scattered(2);
            run(Op::segment_reduce, &[out.view(), data.view(), lengths.view()], &ints, &[0.0]).unwrap();
            let values: Vec<f64> = out.values().into_iter().map(f64::from).collect();
            assert_close(&values, &expected, 1e-6, 1e-6);
            let (back, ones) = (Tensor::<f32>::zeros(&[2, 6, 3]), Tensor::<f32>::new(&[2, 4, 3], |_| 1.0));
            let views = [back.view(), ones.view(), out.view(), data.view(), lengths.view()];
            run(Op::segment_reduce_backward, &views, &ints, &[0.0]).unwrap();
            let values: Vec<f64> = back.values().into_iter().map(f64::from).collect();
            assert_close(&values, &slopes, 1e-4, 1e-4);
        });
    }
    let out = Tensor::<f32>::zeros(&[2, 4, 3]);
    for bad in [7, -1] {
        let lengths = Tensor::<i64>::new(&[2, 4], |_| bad);
        assert!(run(Op::segment_reduce, &[out.view(), data.view(), lengths.view()], &[3, 0], &[0.0]).is_err());
    }
}
