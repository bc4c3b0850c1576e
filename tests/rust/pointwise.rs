//! Every pointwise row, on hostile layouts against itself one element at a time; special values,
//! casts, refusals. The values are in formulas.rs.

mod support;

use rustorch_kernels::dtype::DType;
use rustorch_kernels::error::{Error, Kind};
use rustorch_kernels::isa::Level;
use rustorch_kernels::loops::iterate::Space;
use rustorch_kernels::ops::row::{Block, INPUTS, SCALARS, Scalars};
use rustorch_kernels::ops::{Op, Row, launch};
use rustorch_kernels::view::{Attrs, View};
use support::{Flag, Item, Tensor, at_every_level, noise, pointwise_rows, run};

const F32: i64 = DType::F32 as i64;
const COMPUTED: [DType; 8] =
    [DType::F32, DType::F64, DType::U8, DType::I8, DType::I16, DType::I32, DType::I64, DType::Bool];

/// An element type with values worth computing on.
trait Values: Item {
    fn value(seed: u64, index: usize) -> Self;
    fn same(self, other: Self) -> bool;
}
macro_rules! values {
    (float $($type:ident)*) => {$(
        impl Values for $type {
            fn value(seed: u64, index: usize) -> Self {
                const SPECIAL: [$type; 8] =
                    [0.0, -0.0, 1.0, -1.0, $type::INFINITY, $type::NEG_INFINITY, $type::NAN, $type::MIN_POSITIVE];
                let pick = (noise(seed + 77)(index).abs() * 40.0) as usize;
                SPECIAL.get(pick).copied().unwrap_or(noise(seed)(index) as $type * 4.0)
            }
            fn same(self, other: Self) -> bool {
                self.to_bits() == other.to_bits() || (self.is_nan() && other.is_nan())
            }
        }
    )*};
    (whole $($type:ident)*) => {$(
        impl Values for $type {
            /// Never zero: it may be a divisor.
            fn value(seed: u64, index: usize) -> Self {
                const SPECIAL: [$type; 3] = [$type::MAX, $type::MAX / 2 + 1, 1];
                let pick = (noise(seed + 77)(index).abs() * 20.0) as usize;
                let small = (noise(seed)(index) * 9.0) as i64;
                SPECIAL.get(pick).copied().unwrap_or(if small == 0 { 3 } else { small as $type })
            }
            fn same(self, other: Self) -> bool {
                self == other
            }
        }
    )*};
}
values!(float f32 f64);
values!(whole u8 i8 i16 i32 i64);
impl Values for Flag {
    fn value(seed: u64, index: usize) -> Self {
        Self((noise(seed)(index) > 0.0) as u8)
    }
    fn same(self, other: Self) -> bool {
        self == other
    }
}

const SCALAR_VALUES: ([f64; SCALARS], [i64; SCALARS]) = ([0.75, 1.5, 0.5, 0.0], [3, 5, 1, 0]);

/// The row's result for each element by a call of its own.
fn one_by_one<T: Values, O: Values>(level: Level, block: &Block, inputs: &[Vec<T>]) -> Vec<O> {
    let scalars = Scalars { floats: SCALAR_VALUES.0, ints: SCALAR_VALUES.1 };
    (0..inputs[0].len())
        .map(|index| {
            let mut pointers = [std::ptr::null(); INPUTS];
            for (pointer, input) in pointers.iter_mut().zip(inputs) {
                *pointer = std::ptr::from_ref(&input[index]).cast();
            }
            let mut output = O::default();
            // SAFETY: each pointer is one element of the block's types.
            unsafe { (block.run)(level, 1, pointers, std::ptr::from_mut(&mut output).cast(), &scalars) };
            output
        })
        .collect()
}

#[track_caller]
fn assert_same<O: Values>(row: &Row, sizes: &[i64], actual: &[O], expected: &[O]) {
    assert_eq!(actual.len(), expected.len());
    for (index, (&actual, &expected)) in actual.iter().zip(expected).enumerate() {
        assert!(
            actual.same(expected),
            "{} {:?} {sizes:?} at {index}: {actual:?} is not {expected:?}",
            row.name,
            O::DTYPE
        );
    }
}

fn every_layout<T: Values, O: Values>(row: &Row, block: &Block) {
    for sizes in [&[][..], &[1], &[0], &[3, 0, 2], &[3, 5, 7], &[1031], &[2, 301]] {
        let inputs: Vec<Tensor<T>> =
            (0..block.arity).map(|seed| Tensor::new(sizes, |i| T::value(seed as u64, i))).collect();
        let values: Vec<Vec<T>> = inputs.iter().map(Tensor::values).collect();
        let ints = [&[block.input as i64][..], &SCALAR_VALUES.1].concat();
        let attrs = Attrs { ints: &ints, floats: &SCALAR_VALUES.0 };
        for level in Level::available() {
            rustorch_kernels::isa::at(level, || {
                let expected: Vec<O> = one_by_one(level, block, &values);
                for step in 0..3 {
                    // Layout by operand: 0 dense, 1 reversed dimensions, 2 gaps.
                    let laid = |tensor: &Tensor<T>, at: usize| match (step + at) % 3 {
                        0 => tensor.clone(),
                        step => tensor.scattered(step as i64),
                    };
                    let operands: Vec<Tensor<T>> = inputs.iter().enumerate().map(|(at, t)| laid(t, at)).collect();
                    let out = if step == 0 { Tensor::<O>::zeros(sizes) } else { Tensor::zeros(sizes).scattered(1) };
                    let mut views = vec![out.view()];
                    views.extend(operands.iter().map(Tensor::view));
                    launch(row, &views, &attrs).unwrap();
                    assert_same(row, sizes, &out.values(), &expected);
                }
            });
        }
    }
}

fn in_place_and_broadcast<T: Values>(row: &Row, block: &Block) {
    let sizes = [3, 700];
    let ints = [&[block.input as i64][..], &SCALAR_VALUES.1].concat();
    let attrs = Attrs { ints: &ints, floats: &SCALAR_VALUES.0 };
    let level = rustorch_kernels::isa::level();
    let first = Tensor::new(&sizes, |i| T::value(5, i));
    // The others are one row, repeated.
    let others: Vec<Tensor<T>> =
        (1..block.arity).map(|seed| Tensor::new(&[700], |i| T::value(seed as u64, i)).expanded(&sizes)).collect();
    let mut values = vec![first.values()];
    values.extend(others.iter().map(Tensor::values));
    let expected: Vec<T> = one_by_one(level, block, &values);
    for target in [first.clone(), first.scattered(2)] {
        let mut views = vec![target.view(), target.view()];
        views.extend(others.iter().map(Tensor::view));
        launch(row, &views, &attrs).unwrap();
        assert_same(row, &sizes, &target.values(), &expected);
    }
}

macro_rules! by_dtype {
    ($dtype:expr, $type:ident => $body:expr) => {
        match $dtype {
            DType::F32 => {
                type $type = f32;
                $body
            }
            DType::F64 => {
                type $type = f64;
                $body
            }
            DType::U8 => {
                type $type = u8;
                $body
            }
            DType::I8 => {
                type $type = i8;
                $body
            }
            DType::I16 => {
                type $type = i16;
                $body
            }
            DType::I32 => {
                type $type = i32;
                $body
            }
            DType::I64 => {
                type $type = i64;
                $body
            }
            _ => {
                type $type = Flag;
                $body
            }
        }
    };
}

#[test]
fn every_row_on_every_layout() {
    let mut blocks = 0;
    for (row, expression) in pointwise_rows() {
        for compute in COMPUTED {
            let Some(block) = expression.block(compute) else { continue };
            blocks += 1;
            by_dtype!(compute, T => {
                if block.output == compute {
                    every_layout::<T, T>(row, &block);
                    in_place_and_broadcast::<T>(row, &block);
                } else {
                    every_layout::<T, Flag>(row, &block);
                }
            });
        }
    }
    assert!(blocks > 300, "{blocks} blocks");
}

#[test]
fn threads_and_levels_agree_on_arithmetic() {
    let sizes = [517, 257];
    let a = Tensor::new(&sizes, |i| f32::value(1, i));
    let b = Tensor::new(&sizes, |i| f32::value(2, i)).scattered(1);
    let expected: Vec<f32> = a.values().iter().zip(b.values()).map(|(a, b)| a - 2.0 * b).collect();
    at_every_level(|_| {
        let out = Tensor::<f32>::zeros(&sizes);
        run(Op::sub, &[out.view(), a.view(), b.view()], &[F32, 2], &[2.0]).unwrap();
        assert_same(Op::sub.row(), &sizes, &out.values(), &expected);
    });
}

/// Runs a row on f32 columns (one for each input) and returns its values.
fn column<const COUNT: usize>(op: Op, inputs: &[[f32; COUNT]], floats: &[f64]) -> [f32; COUNT] {
    let sizes = [COUNT as i64];
    let inputs: Vec<Tensor<f32>> = inputs.iter().map(|input| Tensor::new(&sizes, |i| input[i])).collect();
    let out = Tensor::<f32>::zeros(&sizes);
    let views: Vec<View> = std::iter::once(&out).chain(&inputs).map(Tensor::view).collect();
    let ints: Vec<i64> = std::iter::once(F32).chain(floats.iter().map(|&float| float as i64)).collect();
    run(op, &views, &ints, floats).unwrap();
    out.values().try_into().unwrap()
}

#[track_caller]
fn assert_column<const COUNT: usize>(actual: [f32; COUNT], expected: [f32; COUNT]) {
    for (actual, expected) in actual.into_iter().zip(expected) {
        assert!(actual.same(expected), "{actual} is not {expected}");
    }
}

const NAN: f32 = f32::NAN;
const INF: f32 = f32::INFINITY;

#[test]
fn nan_and_infinity_as_in_pytorch() {
    assert_column(column(Op::relu, &[[NAN, -0.0, -INF, INF]], &[]), [NAN, -0.0, 0.0, INF]);
    assert_column(column(Op::sign, &[[NAN, -0.0, -3.0, INF]], &[]), [0.0, 0.0, -1.0, 1.0]);
    assert_column(column(Op::maximum, &[[NAN, 1.0, 2.0], [1.0, NAN, 3.0]], &[]), [NAN, NAN, 3.0]);
    assert_column(column(Op::fmax, &[[NAN, 1.0, NAN], [1.0, NAN, NAN]], &[]), [1.0, 1.0, NAN]);
    assert_column(column(Op::clamp, &[[NAN, 1.0, 5.0]], &[2.0, 1.0]), [NAN, 1.0, 1.0]);
    assert_column(column(Op::clamp_min, &[[1.0]], &[f64::NAN]), [NAN]);
    assert_column(column(Op::threshold, &[[NAN, 1.0, 2.0]], &[1.0, 7.0]), [NAN, 7.0, 2.0]);
    assert_column(column(Op::threshold_backward, &[[5.0, 5.0, 5.0], [NAN, 0.0, 1.0]], &[0.0]), [5.0, 0.0, 5.0]);
    assert_column(column(Op::round, &[[2.5, 3.5, -0.5]], &[]), [2.0, 4.0, -0.0]);
    let ones = [1.0; 4];
    assert_column(column(Op::hardswish_backward, &[ones, [-3.0, 3.0, NAN, -4.0]], &[]), [0.0, 1.0, 1.0, 0.0]);
    assert_column(column(Op::hardsigmoid_backward, &[ones, [-3.0, 3.0, NAN, 9.0]], &[]), [0.0; 4]);
    assert_column(column(Op::hardtanh_backward, &[ones, [-1.0, 1.0, NAN, 0.0]], &[-1.0, 1.0]), [0.0, 0.0, 1.0, 1.0]);
    assert_column(column(Op::softshrink, &[[NAN, 0.5, 2.0, -2.0]], &[0.5]), [NAN, 0.0, 1.5, -1.5]);
    assert_column(column(Op::hardshrink, &[[NAN, 0.5, 2.0, -0.5]], &[0.5]), [NAN, 0.0, 2.0, 0.0]);
    assert_column(column(Op::heaviside, &[[-1.0, 0.0, 1.0, NAN], [5.0; 4]], &[]), [0.0, 5.0, 1.0, 0.0]);
    assert_column(column(Op::xlogy, &[[0.0, 0.0, 1.0, NAN], [NAN, 0.0, 0.0, 1.0]], &[]), [NAN, 0.0, -INF, NAN]);
    assert_column(column(Op::logaddexp, &[[INF, -INF, -INF, NAN], [INF, -INF, 1.0, 1.0]], &[]), [INF, -INF, 1.0, NAN]);
    assert_column(column(Op::logit, &[[1.0, 0.0, 2.0, -1.0]], &[-1.0]), [INF, -INF, NAN, NAN]);
    assert_column(column(Op::logit_backward, &[ones, [1.0, 0.0, 2.0, NAN]], &[-1.0]), [INF, INF, NAN, NAN]);
    assert_column(column(Op::logit_backward, &[ones, [1.0, 0.0, 0.5, NAN]], &[0.1]), [0.0, 0.0, 4.0, NAN]);
    assert_column(column(Op::silu, &[[INF, NAN, -INF]], &[]), [INF, NAN, NAN]);
    assert_column(column(Op::mish, &[[INF, NAN, 30.0]], &[]), [INF, NAN, 30.0]);
    assert_column(column(Op::nan_to_num, &[[NAN, INF, -INF, 2.0]], &[7.0, 8.0, 9.0]), [7.0, 8.0, 9.0, 2.0]);
    assert_column(column(Op::copysign, &[[1.0, 1.0], [-0.0, -NAN]], &[]), [-1.0, -1.0]);
    assert_column(
        column(Op::remainder, &[[5.0, -5.0, 5.0, 1.0, INF, 1.0, -1.0], [3.0, 3.0, -3.0, 0.0, 3.0, INF, INF]], &[]),
        [2.0, 1.0, -1.0, NAN, NAN, 1.0, INF],
    );
    assert_column(
        column(Op::div_floor, &[[-7.0, 7.0, 1.0, -1.0, 0.0, NAN, -1.0], [2.0, -2.0, 0.0, 0.0, 0.0, 1.0, INF]], &[]),
        [-4.0, -4.0, INF, -INF, NAN, NAN, -1.0],
    );
    assert_column(column(Op::huber_backward, &[[1.0; 3], [2.0, -2.0, 0.5], [0.0; 3]], &[1.0, 1.0]), [1.0, -1.0, 0.5]);
    assert_column(column(Op::smooth_l1_backward, &[[1.0], [1.0], [1.0]], &[1.0, 0.0]), [-1.0]);
}

#[test]
fn integers_wrap_and_round_as_in_pytorch() {
    fn binary<T: Item + Values, const COUNT: usize>(op: Op, a: [T; COUNT], b: [T; COUNT], expected: [T; COUNT]) {
        let sizes = [COUNT as i64];
        at_every_level(|_| {
            let out = Tensor::<T>::zeros(&sizes);
            let (a, b) = (Tensor::new(&sizes, |i| a[i]), Tensor::new(&sizes, |i| b[i]));
            run(op, &[out.view(), a.view(), b.view()], &[T::DTYPE as i64, 1], &[1.0]).unwrap();
            assert_eq!(out.values(), expected, "{op:?}");
        });
    }
    binary::<u8, 2>(Op::add, [250, 1], [10, 2], [4, 3]);
    binary::<i64, 2>(Op::mul, [i64::MAX, 3], [2, 4], [-2, 12]);
    binary::<i64, 4>(Op::div_floor, [-7, 7, i64::MIN, -6], [2, -2, -1, 3], [-4, -4, i64::MIN, -2]);
    binary::<i32, 3>(Op::div_trunc, [-7, 7, i32::MIN], [2, -2, -1], [-3, -3, i32::MIN]);
    binary::<i32, 4>(Op::remainder, [5, -5, 5, -5], [3, 3, -3, -3], [2, 1, -1, -2]);
    binary::<i32, 4>(Op::fmod, [5, -5, 5, -5], [3, 3, -3, -3], [2, -2, 2, -2]);
    binary::<u8, 2>(Op::remainder, [200, 7], [150, 4], [50, 3]);
    binary::<i64, 7>(
        Op::pow,
        [2, -1, 1, -1, 0, 3, 3],
        [-1, -3, -5, -2, -1, 3, 41],
        [0, -1, 1, 1, 0, 27, 3i64.wrapping_pow(41)],
    );
    binary::<i64, 3>(Op::bitwise_left_shift, [1, 1, 1], [64, -1, 3], [0, 0, 8]);
    binary::<i64, 3>(Op::bitwise_right_shift, [-8, -8, 8], [64, -1, 1], [-1, -1, 4]);
    binary::<u8, 2>(Op::bitwise_right_shift, [200, 200], [9, 3], [0, 25]);
    binary::<i16, 1>(Op::bitwise_xor, [0x0ff0], [0x00ff], [0x0f0f]);
    binary::<Flag, 2>(Op::add, [Flag(1), Flag(0)], [Flag(1), Flag(1)], [Flag(1), Flag(1)]);
    binary::<Flag, 2>(Op::bitwise_or, [Flag(7), Flag(0)], [Flag(0), Flag(0)], [Flag(1), Flag(0)]);
}

#[test]
fn a_zero_divisor_is_refused_before_anything_is_written() {
    let sizes = [3, 401];
    let a = Tensor::new(&sizes, |i| i as i64);
    for op in [Op::div_floor, Op::div_trunc, Op::remainder, Op::fmod] {
        for (at, fails) in [(0, true), (1202, true), (0, false)] {
            let b = Tensor::new(&sizes, |i| if fails && i == at { 0i64 } else { 5 });
            for b in [b.clone(), b.scattered(2)] {
                let out = Tensor::new(&sizes, |_| -1i64);
                let result = run(op, &[out.view(), a.view(), b.view()], &[DType::I64 as i64], &[]);
                assert_eq!(result.is_err(), fails);
                if let Err(error) = result {
                    assert_eq!(error.kind(), Kind::Runtime);
                    assert!(matches!(&error, Error::In { source, .. } if **source == Error::ZeroDivision));
                    assert!(out.values().iter().all(|&value| value == -1));
                }
            }
        }
        // 256 is zero in the type that it is computed in.
        let (out, one) = (Tensor::<u8>::zeros(&[2]), Tensor::new(&[2], |_| 1u8));
        let wide = Tensor::new(&[], |_| 256i64).expanded(&[2]);
        assert!(run(op, &[out.view(), one.view(), wide.view()], &[DType::U8 as i64], &[]).is_err());
        // Floats divide by zero.
        assert!(column(op, &[[1.0], [0.0]], &[])[0].is_finite().eq(&false));
    }
}

#[test]
fn operands_of_other_types_are_cast_to_the_compute_type() {
    let sizes = [9, 83];
    let ints = Tensor::new(&sizes, |i| i as i64 - 300);
    let halves = Tensor::new(&sizes, |i| half::bf16::from_f64(noise(3)(i)));
    let floats = Tensor::new(&sizes, |i| noise(4)(i) as f32);
    at_every_level(|_| {
        // i64 and f32 in f32, stored as f32.
        let out = Tensor::<f32>::zeros(&sizes);
        run(Op::mul, &[out.view(), ints.view(), floats.view()], &[F32], &[]).unwrap();
        let expected: Vec<f32> = ints.values().iter().zip(floats.values()).map(|(&a, b)| a as f32 * b).collect();
        assert_eq!(out.values(), expected);
        // bf16 in and out, computed in f32; operands are rounded to bf16.
        let out = Tensor::<half::bf16>::zeros(&sizes).scattered(1);
        run(Op::div, &[out.view(), halves.view(), floats.view()], &[DType::BF16 as i64], &[]).unwrap();
        let quotients = halves
            .values()
            .into_iter()
            .zip(floats.values())
            .map(|(a, b)| a.to_f32() / half::bf16::from_f32(b).to_f32());
        assert_eq!(out.values(), quotients.map(half::bf16::from_f32).collect::<Vec<_>>());
        // A test's bool stored as f32.
        let out = Tensor::<f32>::zeros(&sizes);
        run(Op::lt, &[out.view(), ints.view(), floats.view()], &[F32], &[]).unwrap();
        let expected: Vec<f32> =
            ints.values().iter().zip(floats.values()).map(|(&a, b)| (a as f32 * 1.0 < b) as u8 as f32).collect();
        assert_eq!(out.values(), expected);
        // A condition of bool over f16 values.
        let condition = Tensor::new(&sizes, |i| Flag((i % 3 == 0) as u8));
        let a = Tensor::new(&sizes, |i| half::f16::from_f64(noise(5)(i)));
        let out = Tensor::<half::f16>::zeros(&sizes);
        let zero = Tensor::new(&[], |_| half::f16::ZERO).expanded(&sizes);
        let views = [out.view(), condition.view(), a.view(), zero.view()];
        run(Op::where_self, &views, &[DType::F16 as i64], &[]).unwrap();
        let kept = a.values().into_iter().enumerate().map(|(i, a)| if i % 3 == 0 { a } else { half::f16::ZERO });
        assert_eq!(out.values(), kept.collect::<Vec<_>>());
    });
}

#[test]
fn what_a_row_lacks_is_refused() {
    let a = Tensor::new(&[2], |_| 1i64);
    let error = run(Op::exp, &[a.view(), a.view()], &[DType::I64 as i64], &[]).unwrap_err();
    assert_eq!(error.kind(), Kind::NotImplemented);
    let b = Tensor::new(&[3], |_| 1i64);
    assert!(run(Op::mul, &[a.view(), a.view(), b.view()], &[DType::I64 as i64], &[]).is_err());
    assert!(run(Op::mul, &[a.view(), a.view()], &[DType::I64 as i64], &[]).is_err());
}

#[test]
fn tests_and_comparisons() {
    let values = [-INF, -1.5, -0.0, 0.0, 0.5, 1.5, INF, NAN, -NAN];
    let others = [-INF, 1.5, 0.0, NAN, 0.5, -2.0, 1.0, NAN, 0.0];
    let run_flags = |op: Op, inputs: &[[f32; 9]]| -> Vec<bool> {
        let inputs: Vec<Tensor<f32>> = inputs.iter().map(|input| Tensor::new(&[9], |i| input[i])).collect();
        let out = Tensor::<Flag>::zeros(&[9]);
        let views: Vec<View> = std::iter::once(out.view()).chain(inputs.iter().map(Tensor::view)).collect();
        run(op, &views, &[F32, 0], &[0.5]).unwrap();
        out.values().into_iter().map(|flag| flag.0 == 1).collect()
    };
    type Unary = fn(f32) -> bool;
    let unary: &[(Op, Unary)] = &[
        (Op::isnan, f32::is_nan),
        (Op::isinf, f32::is_infinite),
        (Op::isposinf, |x| x == INF),
        (Op::isneginf, |x| x == -INF),
        (Op::signbit, f32::is_sign_negative),
        (Op::logical_not, |x| x == 0.0),
        (Op::eq_scalar, |x| x == 0.5),
        (Op::ne_scalar, |x| x != 0.5),
        (Op::lt_scalar, |x| x < 0.5),
        (Op::le_scalar, |x| x <= 0.5),
        (Op::gt_scalar, |x| x > 0.5),
        (Op::ge_scalar, |x| x >= 0.5),
    ];
    for &(op, test) in unary {
        assert_eq!(run_flags(op, &[values]), values.map(test), "{op:?}");
    }
    type Binary = fn(f32, f32) -> bool;
    let binary: &[(Op, Binary)] = &[
        (Op::eq, |a, b| a == b),
        (Op::ne, |a, b| a != b),
        (Op::lt, |a, b| a < b),
        (Op::le, |a, b| a <= b),
        (Op::gt, |a, b| a > b),
        (Op::ge, |a, b| a >= b),
        (Op::logical_and, |a, b| a != 0.0 && b != 0.0),
        (Op::logical_or, |a, b| a != 0.0 || b != 0.0),
        (Op::logical_xor, |a, b| (a != 0.0) != (b != 0.0)),
    ];
    for &(op, test) in binary {
        let expected: Vec<bool> = values.iter().zip(others).map(|(&a, b)| test(a, b)).collect();
        assert_eq!(run_flags(op, &[values, others]), expected, "{op:?}");
    }
}

#[test]
fn fill_writes_every_dtype_and_layout() {
    fn check<T: Item>(value: T) {
        for sizes in [&[][..], &[0], &[5], &[3, 7], &[300, 257]] {
            at_every_level(|_| {
                for out in [Tensor::<T>::zeros(sizes), Tensor::<T>::zeros(sizes).scattered(2)] {
                    run(Op::fill, &[out.view()], &[3], &[3.0, 0.0]).unwrap();
                    assert!(out.values().iter().all(|&written| written == value));
                    let written = out.data.iter().filter(|&&element| element == value).count();
                    assert_eq!(written, out.values().len(), "outside of the view");
                }
            });
        }
    }
    check(3u8);
    check(3i8);
    check(3i16);
    check(3i32);
    check(3i64);
    check(3f32);
    check(3f64);
    check(half::f16::from_f32(3.0));
    check(half::bf16::from_f32(3.0));
    check(Flag(1));
    let mut pair = [0f32; 4];
    // SAFETY: two complex numbers.
    let view = unsafe { View::new(pair.as_mut_ptr().cast(), DType::C64, &[2], &[1]) };
    run(Op::fill, &[view], &[0], &[1.5, -2.0]).unwrap();
    assert_eq!(pair, [1.5, -2.0, 1.5, -2.0]);
}

#[test]
fn arange_counts() {
    for count in [0, 1, 5, 100_003] {
        at_every_level(|_| {
            for out in [Tensor::<f32>::zeros(&[count]), Tensor::zeros(&[count]).scattered(3)] {
                run(Op::arange, &[out.view()], &[], &[-1.0, 0.1]).unwrap();
                let expected: Vec<f32> = (0..count).map(|i| (-1.0 + 0.1 * i as f64) as f32).collect();
                assert_eq!(out.values(), expected);
            }
            let out = Tensor::<i64>::zeros(&[count]);
            run(Op::arange, &[out.view()], &[i64::MAX - 1, 2], &[]).unwrap();
            let expected: Vec<i64> = (0..count).map(|i| (i64::MAX - 1).wrapping_add(i.wrapping_mul(2))).collect();
            assert_eq!(out.values(), expected);
        });
    }
    let out = Tensor::<f32>::zeros(&[2, 2]);
    assert!(run(Op::arange, &[out.view()], &[], &[0.0, 1.0]).is_err());
}

#[test]
fn spaced_numbers_end_where_they_should() {
    at_every_level(|_| {
        for count in [0, 1, 2, 50, 1001] {
            let out = Tensor::<f32>::zeros(&[count]).scattered(2);
            run(Op::linspace, &[out.view()], &[], &[-1.0, 0.3]).unwrap();
            let values = out.values();
            let expected = |i: usize| -1.0 + 1.3 * i as f64 / (count - 1).max(1) as f64;
            assert!(values.iter().enumerate().all(|(i, &value)| (f64::from(value) - expected(i)).abs() < 1e-6));
            assert!(count < 2 || (values[0], values[count as usize - 1]) == (-1.0, 0.3));
        }
        let out = Tensor::<i64>::zeros(&[5]);
        run(Op::logspace, &[out.view()], &[], &[0.0, 4.0, 3.0]).unwrap();
        assert_eq!(out.values(), [1, 3, 9, 27, 81]);
        run(Op::linspace, &[out.view()], &[], &[0.0, 10.0]).unwrap();
        assert_eq!(out.values(), [0, 2, 5, 7, 10]);
    });
}

#[test]
fn a_space_gives_each_element_once_and_an_empty_one_gives_no_row() {
    let steps = |sizes: &[i64], strides: &[i64]| {
        let space = Space::new(sizes, [strides]);
        let mut offsets = Vec::new();
        space.rows(0, space.numel, |[start], count| {
            let stride = space.inner().strides[0];
            offsets.extend((0..count as isize).map(|step| start + step * stride));
        });
        offsets.sort_unstable();
        offsets
    };
    assert_eq!(steps(&[3, 2], &[1, 4]), [0, 1, 2, 4, 5, 6]);
    assert_eq!(steps(&[], &[]), [0]);
    for empty in [[0, 3], [3, 0], [0, 0]] {
        assert_eq!(steps(&empty, &[5, 1]), []);
    }
}
