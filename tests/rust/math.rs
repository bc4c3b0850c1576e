//! The elementary functions over all of f32 against f64, with bounds in units in the last place;
//! f64 against the system's functions; the half types bit for bit.

mod support;

use rustorch_kernels::convert::Stored;
use rustorch_kernels::dtype::DType;
use rustorch_kernels::isa::{self, Level};
use rustorch_kernels::math::single;
use rustorch_kernels::ops::Op;
use support::{Tensor, noise, run};

/// Every `STEP`th bit pattern: all exponents, both signs, infinities and NaNs.
const STEP: usize = 4099;

fn patterns() -> Vec<f32> {
    let mut all: Vec<f32> = (0..=u32::MAX).step_by(STEP).map(f32::from_bits).collect();
    all.extend([0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 10.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN]);
    all.extend([f32::MIN_POSITIVE, -f32::MIN_POSITIVE, f32::MAX, f32::MIN, f32::EPSILON, 1e-45, -1e-45]);
    all.extend([88.72283, 88.72284, -87.33655, -103.97208, -103.97209, 9.0, 0.93, 0.925, 4.0]);
    // The sweep is thin where most numbers are used.
    all.extend((0..200_000).map(|index| (noise(1)(index) * 20.0) as f32));
    all.extend((0..100_000).map(|index| (1.0 + noise(2)(index) * 0.5) as f32));
    all
}

fn unary(op: Op, input: &Tensor<f32>) -> Vec<f32> {
    let out = Tensor::<f32>::zeros(&input.sizes);
    run(op, &[out.view(), input.view()], &[DType::F32 as i64], &[]).unwrap();
    out.values()
}

/// How far `actual` is from `expected` in f32's units in the last place there.
fn distance(actual: f32, expected: f64) -> f64 {
    let rounded = expected as f32;
    if actual.is_nan() || expected.is_nan() {
        return if actual.is_nan() && expected.is_nan() { 0.0 } else { f64::INFINITY };
    }
    if actual == rounded {
        let zeros_differ = actual == 0.0 && expected == 0.0 && actual.is_sign_negative() != expected.is_sign_negative();
        return if zeros_differ { f64::INFINITY } else { (actual as f64 - expected).abs().min(1.0) / unit(expected) };
    }
    // Infinity stands for the number that would follow the largest.
    let finite = |value: f32| if value.is_infinite() { 2f64.powi(128).copysign(value as f64) } else { value as f64 };
    let expected = expected.clamp(-(2f64.powi(128)), 2f64.powi(128));
    (finite(actual) - expected).abs() / unit(expected)
}

fn unit(value: f64) -> f64 {
    let exponent = ((value.abs().to_bits() >> 52) as i32 - 1023).clamp(-126, 127);
    2f64.powi(exponent - 23)
}

#[track_caller]
fn sweep(op: Op, bound: f64, reference: fn(f64) -> f64) {
    let values = patterns();
    let expected: Vec<f64> = values.iter().map(|&value| reference(value as f64)).collect();
    let count = values.len() as i64;
    let input = Tensor::new(&[count], |index| values[index]);
    for level in Level::available() {
        let actual = isa::at(level, || unary(op, &input));
        let mut worst = (0.0, 0);
        for (index, (&actual, &expected)) in actual.iter().zip(&expected).enumerate() {
            let distance = distance(actual, expected);
            if distance > worst.0 {
                worst = (distance, index);
            }
        }
        let (distance, at) = worst;
        println!("{op:?} {}: {distance:.3} at {:e}", level.name(), values[at]);
        assert!(
            distance <= bound,
            "{op:?} at {}: {:e} ({:#x}) gives {:e}, not {:e}: {distance} units",
            level.name(),
            values[at],
            values[at].to_bits(),
            actual[at],
            expected[at]
        );
    }
}

#[test]
fn exponentials() {
    sweep(Op::exp, 1.0, f64::exp);
    sweep(Op::exp2, 0.52, f64::exp2);
    sweep(Op::expm1, 0.52, f64::exp_m1);
}

#[test]
fn the_exponential_of_a_negative_number_has_the_bits_of_any() {
    let negative = patterns().into_iter().filter(|value| value.is_nan() || *value <= 0.0);
    for value in negative.chain((0..100_000).map(|at| at as f32 / -900.0)) {
        let (expected, actual) = (single::exp(value), single::exp_of_negative(value));
        let same = expected.to_bits() == actual.to_bits() || (expected.is_nan() && actual.is_nan());
        assert!(same, "exp({value:e}) is {expected:e}, not {actual:e}");
    }
}

#[test]
fn logarithms() {
    sweep(Op::log, 1.0, f64::ln);
    sweep(Op::log1p, 0.52, f64::ln_1p);
    sweep(Op::log2, 0.52, f64::log2);
    sweep(Op::log10, 0.52, f64::log10);
}

#[test]
fn tanh_and_error_function() {
    sweep(Op::tanh, 1.0, f64::tanh);
    sweep(Op::erf, 1.02, libm::erf);
}

#[test]
fn sine_and_cosine() {
    sweep(Op::sin, 1.0, f64::sin);
    sweep(Op::cos, 1.0, f64::cos);
}

/// 1 + exp(-x) overflows where the result is subnormal: PyTorch gives zero there too.
#[test]
fn sigmoid() {
    sweep(Op::sigmoid, 2.5, |x| if x < -88.722_839 { 0.0 } else { 1.0 / (1.0 + (-x).exp()) });
}

#[test]
fn power() {
    let mut pairs: Vec<(f32, f32)> = Vec::new();
    let special = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        2.0,
        -2.0,
        3.0,
        -3.0,
        0.5,
        -0.5,
        2.5,
        -2.5,
        16_777_217.0,
        1e30,
        -1e30,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        f32::MIN_POSITIVE,
        1e-45,
        f32::MAX,
    ];
    pairs.extend(special.iter().flat_map(|&x| special.map(|y| (x, y))));
    for index in 0..300_000 {
        let base = f32::from_bits((noise(3)(index).abs() * 2_139_095_039.0) as u32);
        pairs.push((base, (noise(4)(index) * 4.0) as f32));
        let near = (noise(5)(index) * 10.0) as f32;
        pairs.push((near.abs(), (noise(6)(index) * 30.0) as f32));
        pairs.push((near, (noise(7)(index) * 20.0).trunc() as f32));
    }
    let count = pairs.len() as i64;
    let bases = Tensor::new(&[count], |index| pairs[index].0);
    let exponents = Tensor::new(&[count], |index| pairs[index].1);
    for level in Level::available() {
        let out = Tensor::<f32>::zeros(&[count]);
        let views = [out.view(), bases.view(), exponents.view()];
        isa::at(level, || run(Op::pow, &views, &[DType::F32 as i64], &[])).unwrap();
        for (&(base, exponent), actual) in pairs.iter().zip(out.values()) {
            let expected = (base as f64).powf(exponent as f64);
            let distance = distance(actual, expected);
            assert!(distance <= 0.6, "{base:e} ^ {exponent:e}: {actual:e} is not {expected:e}: {distance} units");
        }
    }
}

#[test]
fn half_types_convert_as_the_half_crate_does() {
    for bits in 0..=u16::MAX {
        let half = half::f16::from_bits(bits);
        let brain = half::bf16::from_bits(bits);
        for (ours, theirs) in [(Stored::to_f32(half), half.to_f32()), (Stored::to_f32(brain), brain.to_f32())] {
            assert!(ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan()), "{bits:#x}");
        }
        if !half.is_nan() {
            assert_eq!(<half::f16 as Stored>::from_f32(half.to_f32()).to_bits(), bits);
        }
        if !brain.is_nan() {
            assert_eq!(<half::bf16 as Stored>::from_f32(brain.to_f32()).to_bits(), bits);
        }
    }
    // Odd, so that ties and their neighbours are among them.
    let ties = (0..=u16::MAX)
        .map(|bits| half::f16::from_bits(bits).to_f32().to_bits())
        .flat_map(|bits| [bits | 0x1000, (bits | 0x1000) + 1, (bits | 0x1000) - 1]);
    for bits in (0..=u32::MAX).step_by(241).chain(ties) {
        let value = f32::from_bits(bits);
        let (ours, theirs) = (<half::f16 as Stored>::from_f32(value), half::f16::from_f32(value));
        assert!(ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan()), "{value:e}");
        let (ours, theirs) = (<half::bf16 as Stored>::from_f32(value), half::bf16::from_f32(value));
        assert!(ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan()), "{value:e}");
    }
}
