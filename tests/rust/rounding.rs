//! What a value becomes on its way: floats cut to integers, operands and results of half types rounded
//! to them, the sign of a zero among equal ones.

mod support;

use half::{bf16, f16};
use rustorch_kernels::convert::Stored;
use rustorch_kernels::dtype::DType;
use rustorch_kernels::ops::Op;
use support::{Item, Tensor, at_every_level, run};

/// What x86 makes of a float: whole numbers cut towards zero; NaN and what does not fit is the lowest one.
fn cut(value: f64, bits: u32) -> i64 {
    let end = 2f64.powi(bits as i32 - 1);
    if value.trunc() >= -end && value.trunc() < end { value.trunc() as i64 } else { -end as i64 }
}

fn check_cuts<From: Item + Stored, To: Item + Stored>(bits: u32) {
    const VALUES: [f64; 26] = [
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        1e30,
        -1e30,
        3e9,
        -3e9,
        2147483647.0,
        2147483648.0,
        -2147483648.0,
        -2147483649.0,
        -2147483648.5,
        4294967295.0,
        4294967296.0,
        300.0,
        -300.0,
        65536.0,
        -70000.0,
        1e10,
        9.3e18,
        -9.3e18,
        9223372036854775808.0,
        255.9,
        -0.9,
        128.0,
        -129.0,
    ];
    let sizes = [7, VALUES.len() as i64];
    let from = Tensor::<From>::new(&sizes, |at| From::from_f64(VALUES[at % VALUES.len()]));
    let cuts = from.values().into_iter().map(|value| To::from_i64(cut(value.to_f64(), bits)));
    let expected: Vec<To> = cuts.collect();
    at_every_level(|_| {
        for from in [from.clone(), from.scattered(2)] {
            for to in [Tensor::<To>::zeros(&sizes), Tensor::<To>::zeros(&sizes).scattered(1)] {
                run(Op::copy, &[to.view(), from.view()], &[], &[]).unwrap();
                assert_eq!(to.values(), expected, "{} to {}", <From as Item>::DTYPE, <To as Item>::DTYPE);
            }
        }
    });
}

#[test]
fn floats_become_integers_as_on_x86() {
    fn of<From: Item + Stored>() {
        check_cuts::<From, u8>(64);
        check_cuts::<From, i8>(32);
        check_cuts::<From, i16>(32);
        check_cuts::<From, i32>(32);
        check_cuts::<From, i64>(64);
    }
    of::<f32>();
    of::<f64>();
    of::<bf16>();
    of::<f16>();
}

#[test]
fn operands_and_results_of_half_types_are_rounded() {
    fn check<Half: Item + Stored>(rounded: f32) {
        let compute = <Half as Item>::DTYPE as i64;
        let sizes = [3, 700];
        let a = Tensor::<Half>::new(&sizes, |at| Half::from_f32(at as f32 * 0.125 - 100.0));
        let whole = Tensor::new(&sizes, |at| if at % 2 == 0 { 2049i64 } else { 257 });
        let number = Tensor::new(&[], |_| 2049i64).expanded(&sizes);
        let half_of = |value: f32| Half::from_f32(value).to_f32();
        at_every_level(|_| {
            for (a, whole) in [(a.clone(), whole.clone()), (a.scattered(1), whole.scattered(3))] {
                let pairs = a.values().into_iter().map(Stored::to_f32).zip(whole.values());
                let out = Tensor::<f64>::zeros(&sizes);
                run(Op::add, &[out.view(), a.view(), whole.view()], &[compute, 1], &[1.0]).unwrap();
                let sums = pairs.clone().map(|(a, b)| half_of(a + half_of(b as f32)));
                assert_eq!(out.values(), sums.map(f64::from).collect::<Vec<_>>());
                // The same integers are equal once they are rounded.
                let equal = Tensor::<f32>::zeros(&sizes);
                run(Op::eq, &[equal.view(), whole.view(), number.view()], &[compute], &[]).unwrap();
                let same = whole.values().into_iter().map(|b| f32::from(half_of(b as f32) == rounded));
                assert_eq!(equal.values(), same.collect::<Vec<_>>());
                // A product keeps a number that is its second operand, no other.
                let out = Tensor::<Half>::zeros(&sizes);
                run(Op::mul, &[out.view(), a.view(), number.view()], &[compute], &[]).unwrap();
                let kept: Vec<Half> = pairs.clone().map(|(a, _)| Half::from_f32(a * 2049.0)).collect();
                assert_eq!(out.values(), kept);
                run(Op::mul, &[out.view(), number.view(), a.view()], &[compute], &[]).unwrap();
                let cut: Vec<Half> = pairs.map(|(a, _)| Half::from_f32(a * rounded)).collect();
                assert_eq!(out.values(), cut);
            }
        });
    }
    check::<bf16>(2048.0);
    check::<f16>(2048.0);
}

#[test]
fn the_first_of_equal_zeros_is_the_larger_and_the_smaller() {
    let first = Tensor::new(&[67], |at| if at % 2 == 0 { 0.0f32 } else { -0.0 });
    let second = Tensor::new(&[67], |at| if at % 2 == 0 { -0.0f32 } else { 0.0 });
    let signs = |tensor: &Tensor<f32>| tensor.values().iter().map(|value| value.is_sign_negative()).collect::<Vec<_>>();
    at_every_level(|_| {
        for op in [Op::maximum, Op::minimum, Op::fmax, Op::fmin, Op::clamp_min_tensor, Op::clamp_max_tensor] {
            let out = Tensor::<f32>::zeros(&[67]);
            run(op, &[out.view(), first.view(), second.view()], &[DType::F32 as i64], &[]).unwrap();
            assert_eq!(signs(&out), signs(&first), "{op:?}");
        }
        for op in [Op::clamp_min, Op::clamp_max, Op::clamp, Op::hardtanh] {
            let out = Tensor::<f32>::zeros(&[67]);
            run(op, &[out.view(), first.view()], &[DType::F32 as i64, 0, 0], &[0.0, 0.0]).unwrap();
            assert_eq!(signs(&out), signs(&first), "{op:?}");
        }
    });
}
