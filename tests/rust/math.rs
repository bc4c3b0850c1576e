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
        // But for subnormal ones, which are zero.
        let (exact, actual) = (single::exp(value), single::exp_of_negative(value));
        let expected = if exact < f32::MIN_POSITIVE { 0.0 } else { exact };
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

#[test]
fn by_way_of_f64() {
    sweep(Op::tan, 1.0, f64::tan);
    sweep(Op::atan, 0.52, f64::atan);
    sweep(Op::atanh, 0.52, f64::atanh);
    sweep(Op::asin, 0.52, f64::asin);
    sweep(Op::acos, 0.52, f64::acos);
    sweep(Op::sinh, 0.52, f64::sinh);
    sweep(Op::cosh, 0.52, f64::cosh);
    sweep(Op::asinh, 0.52, f64::asinh);
    // The standard library's loses digits near one.
    sweep(Op::acosh, 0.52, |x| if x < 1.0 { f64::NAN } else { libm::acosh(x) });
    sweep(Op::erfc, 0.58, libm::erfc);
}

/// f64 against the system's functions, which are within one unit: of all exponents, and where most numbers are.
#[track_caller]
fn sweep_double(op: Op, bound: f64, reference: fn(f64) -> f64) {
    const STEP: usize = 0x000d_1b17_5a3c_0000;
    let mut values: Vec<f64> = (0..u64::MAX).step_by(STEP).map(f64::from_bits).collect();
    values.extend([0.0, -0.0, 1.0, -1.0, 0.5, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 5e-324, -5e-324]);
    values.extend([
        f64::MIN_POSITIVE,
        f64::MAX,
        f64::MIN,
        709.782_712,
        709.79,
        -745.13,
        -745.14,
        710.475,
        1024.0,
        -1074.5,
    ]);
    values.extend((0..100_000).map(|index| noise(1)(index) * 20.0));
    values.extend((0..100_000).map(|index| noise(2)(index) * 1.2));
    values.extend((0..100_000).map(|index| 1.0 + noise(3)(index) * 1e-3));
    // Near whole quarter turns, to which little is left.
    values.extend((0..100_000).map(|index| index as f64 * std::f64::consts::FRAC_PI_2));
    let count = values.len() as i64;
    let input = Tensor::new(&[count], |index| values[index]);
    for level in Level::available() {
        let out = Tensor::<f64>::zeros(&[count]);
        isa::at(level, || run(op, &[out.view(), input.view()], &[DType::F64 as i64], &[])).unwrap();
        for (&value, actual) in values.iter().zip(out.values()) {
            let expected = reference(value);
            let alike =
                actual == expected && (expected != 0.0 || actual.is_sign_negative() == expected.is_sign_negative());
            let unit = f64::from_bits(expected.abs().to_bits() + 1) - expected.abs();
            let near = (actual - expected).abs() <= bound * unit;
            assert!(
                alike || near || (actual.is_nan() && expected.is_nan()),
                "{op:?} at {}: {value:e} gives {actual:e}, not {expected:e}: {} units",
                level.name(),
                (actual - expected).abs() / unit
            );
        }
    }
}

#[test]
fn double_exponentials() {
    sweep_double(Op::exp, 1.6, f64::exp);
    sweep_double(Op::exp2, 1.6, f64::exp2);
    sweep_double(Op::expm1, 2.0, f64::exp_m1);
    sweep_double(Op::tanh, 2.5, f64::tanh);
    sweep_double(Op::sinh, 3.0, f64::sinh);
    sweep_double(Op::cosh, 2.0, f64::cosh);
}

#[test]
fn double_logarithms() {
    sweep_double(Op::log, 1.6, f64::ln);
    sweep_double(Op::log1p, 1.8, f64::ln_1p);
    sweep_double(Op::log2, 1.6, f64::log2);
    sweep_double(Op::log10, 2.0, f64::log10);
    sweep_double(Op::asinh, 2.5, libm::asinh);
    sweep_double(Op::acosh, 3.0, |x| if x < 1.0 { f64::NAN } else { libm::acosh(x) });
    sweep_double(Op::atanh, 2.5, libm::atanh);
}

#[test]
fn double_angles() {
    sweep_double(Op::sin, 1.6, f64::sin);
    sweep_double(Op::cos, 1.6, f64::cos);
    sweep_double(Op::tan, 2.8, f64::tan);
    sweep_double(Op::asin, 1.6, f64::asin);
    sweep_double(Op::acos, 1.6, f64::acos);
    sweep_double(Op::atan, 2.2, f64::atan);
}

#[test]
fn double_error_function() {
    sweep_double(Op::erf, 2.5, libm::erf);
    // The plan's error is 3.7 units.
    sweep_double(Op::erfc, 6.0, libm::erfc);
}

/// Every pair of what is special, and of numbers of every size, of both types, against the processor's own remainder.
#[test]
fn remainders() {
    let special = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        3.0,
        -2.5,
        0.1,
        1e-310,
        -5e-324,
        1e308,
        -1e17,
        1e-20,
        7.0,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        1e15,
        1e16,
        4503599627370497.0,
    ];
    let mut pairs: Vec<(f64, f64)> = special.iter().flat_map(|&x| special.map(|y| (x, y))).collect();
    for index in 0..200_000 {
        let size = 10f64.powf(noise(3)(index) * 12.0);
        pairs.push((noise(1)(index) * size, noise(2)(index)));
        // Quotients that are whole, or nearly.
        pairs.push((noise(4)(index) * 3.0 * ((index % 1000) as f64), noise(4)(index) * 3.0));
    }
    fn check<T: support::Item + Into<f64>>(
        pairs: &[(f64, f64)],
        narrow: fn(f64) -> T,
        rest: fn(T, T) -> T,
        dtype: DType,
    ) {
        let count = pairs.len() as i64;
        let (left, right) =
            (Tensor::new(&[count], |at| narrow(pairs[at].0)), Tensor::new(&[count], |at| narrow(pairs[at].1)));
        for level in Level::available() {
            let out = Tensor::<T>::zeros(&[count]);
            isa::at(level, || run(Op::fmod, &[out.view(), left.view(), right.view()], &[dtype as i64], &[])).unwrap();
            for (&(x, y), actual) in pairs.iter().zip(out.values()) {
                let expected = rest(narrow(x), narrow(y));
                let (actual, wanted): (f64, f64) = (actual.into(), expected.into());
                let same = actual.to_bits() == wanted.to_bits() || (actual.is_nan() && wanted.is_nan());
                assert!(same, "{x:e} % {y:e} is {wanted:e}, not {actual:e}, at {}", level.name());
            }
        }
    }
    check::<f64>(&pairs, |x| x, |x, y| x % y, DType::F64);
    check::<f32>(&pairs, |x| x as f32, |x, y| x % y, DType::F32);
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

/// Long lines are converted by instructions, the rest by the same formulas as above.
#[test]
fn lines_of_halves_convert_at_every_level() {
    let halves: Vec<half::f16> = (0..=u16::MAX).map(half::f16::from_bits).collect();
    // Ties, their neighbours, and all magnitudes; no multiple of a vector.
    let mut singles: Vec<f32> = (0..=u32::MAX).step_by(60_013).map(f32::from_bits).collect();
    let ties = halves.iter().map(|half| half.to_f32().to_bits() | 0x1000);
    singles.extend(ties.flat_map(|bits| [bits, bits + 1, bits - 1]).map(f32::from_bits));
    singles.push(f32::INFINITY);
    let (short, long) = ([halves.len() as i64], [singles.len() as i64]);
    for level in Level::available() {
        let narrow = Tensor::<half::f16>::zeros(&long);
        let from = Tensor::new(&long, |at| singles[at]);
        isa::at(level, || run(Op::copy, &[narrow.view(), from.view()], &[], &[])).unwrap();
        for (&single, half) in singles.iter().zip(narrow.values()) {
            let expected = half::f16::from_f32(single);
            let same = half.to_bits() == expected.to_bits() || (half.is_nan() && expected.is_nan());
            assert!(same, "{single:e} at {}: {half:?}, not {expected:?}", level.name());
        }
        let wide = Tensor::<f32>::zeros(&short);
        let from = Tensor::new(&short, |at| halves[at]);
        isa::at(level, || run(Op::copy, &[wide.view(), from.view()], &[], &[])).unwrap();
        for (&half, single) in halves.iter().zip(wide.values()) {
            let expected = half.to_f32();
            assert!(single == expected || (single.is_nan() && expected.is_nan()), "{half:?}: {single:e}");
        }
    }
}
