//! The elementary functions of `math/single.rs`: the same operations in the same order, so the same bits.

use rustorch_kernels::math::single::{
    ERF_BOUNDS, ERF_FAR, ERF_NEAR, EXP_BOUNDS, EXP_TAIL, LN_2, LN_2_HIGH, LN_2_LOW, LN_2_REST, LN_LIFT, LN_SPLIT,
    LN_TAIL, ROUND, TANH_BOUNDS, TANH_TAIL,
};

use super::micro::{Binary, Code, Compare, Id, Op, Product, Shift};

/// The bits of a float's mantissa, and what is added to its exponent.
const MANTISSA: u32 = 23;
const BIAS: u32 = 127;

fn polynomial(code: &mut Code, x: Id, coefficients: &[f32]) -> Id {
    let ids: Vec<Id> = coefficients.iter().map(|&coefficient| code.constant(coefficient)).collect();
    ids.iter().rev().copied().reduce(|sum, coefficient| code.mul_add(sum, x, coefficient)).unwrap_or(x)
}

/// `exp(x) = value * 2^whole`; `shifted` has the whole number, and twice the bias, in its low bits.
struct Parts {
    value: Id,
    whole: Id,
    shifted: Id,
}

fn exp_parts(code: &mut Code, x: Id) -> Parts {
    let (per_power, round) = (code.constant(std::f32::consts::LOG2_E), code.constant(ROUND));
    let shifted = code.mul_add(x, per_power, round);
    let whole = code.sub(shifted, round);
    let (high, low) = (code.constant(-LN_2), code.constant(-LN_2_REST));
    let high = code.mul_add(whole, high, x);
    let low = code.mul(whole, low);
    let rest = code.add(high, low);
    let tail = polynomial(code, rest, &EXP_TAIL);
    let unit = code.constant(1.0);
    let one = code.add(unit, high);
    let lost = code.sub(unit, one);
    let lost = code.add(lost, high);
    let lost = code.add(lost, low);
    let square = code.mul(rest, rest);
    let small = code.mul_add(square, tail, lost);
    Parts { value: code.add(one, small), whole, shifted }
}

/// `2^exponent` of bits that have the exponent with its bias below whatever is above.
fn biased_power(code: &mut Code, bits: Id) -> Id {
    code.push(Op::Shifted(Shift::Left, bits, MANTISSA))
}

/// `2^exponent`, with the bias once more.
fn power_of_two(code: &mut Code, bits: Id) -> Id {
    let bias = code.bits(BIAS << MANTISSA);
    let shifted = biased_power(code, bits);
    code.two(Binary::IntSub, shifted, bias)
}

/// `bound` where `x` is above; NaN passes.
fn at_most(code: &mut Code, x: Id, bound: f32) -> Id {
    let bound = code.constant(bound);
    code.two(Binary::Min, bound, x)
}

pub fn exp(code: &mut Code, x: Id) -> Id {
    let [low, high] = EXP_BOUNDS;
    let x = at_most(code, x, high);
    let low = code.constant(low);
    let x = code.two(Binary::Max, low, x);
    let Parts { value, whole, shifted } = exp_parts(code, x);
    if code.wide {
        // One rounding, as where the two steps below are needed.
        return code.two(Binary::Scale, value, whole);
    }
    let half = code.push(Op::Shifted(Shift::Right, shifted, 1));
    let rest = code.two(Binary::IntSub, shifted, half);
    let (half, rest) = (biased_power(code, half), biased_power(code, rest));
    let value = code.mul(value, half);
    code.mul(value, rest)
}

pub fn ln(code: &mut Code, x: Id) -> Id {
    const LIFTED: u32 = 25;
    let (smallest, lift) = (code.constant(f32::MIN_POSITIVE), code.constant(LN_LIFT));
    let subnormal = code.test(Compare::Less, x, smallest);
    let lifted = code.mul(x, lift);
    let scaled = code.select(subnormal, lifted, x);
    let split = code.bits(LN_SPLIT as u32);
    let above = code.two(Binary::IntSub, scaled, split);
    let exponent = code.push(Op::Shifted(Shift::Right, above, MANTISSA));
    let power = code.push(Op::Shifted(Shift::Left, exponent, MANTISSA));
    let (mantissa, one) = (code.two(Binary::IntSub, scaled, power), code.constant(1.0));
    let rest = code.sub(mantissa, one);
    let (by, none) = (code.bits(LIFTED), code.bits(0));
    let lifted = code.select(subnormal, by, none);
    let exponent = code.two(Binary::IntSub, exponent, lifted);
    let exponent = code.push(Op::ToFloat(exponent));
    let square = code.mul(rest, rest);
    let tail = polynomial(code, rest, &LN_TAIL);
    let cube = code.mul(rest, square);
    let tail = code.mul(cube, tail);
    let (high, low) = (code.constant(LN_2_HIGH), code.constant(LN_2_LOW));
    let low = code.mul_add(exponent, low, tail);
    let minus_half = code.constant(-0.5);
    let sum = code.mul_add(square, minus_half, low);
    let sum = code.add(rest, sum);
    let value = code.mul_add(exponent, high, sum);
    let [infinity, zero, pole, nan] =
        [f32::INFINITY, 0.0, f32::NEG_INFINITY, f32::NAN].map(|value| code.constant(value));
    let is_infinite = code.test(Compare::Equal, x, infinity);
    let value = code.select(is_infinite, x, value);
    let is_zero = code.test(Compare::Equal, x, zero);
    let value = code.select(is_zero, pole, value);
    let is_positive = code.test(Compare::GreaterOrEqual, x, zero);
    code.select(is_positive, value, nan)
}

pub fn tanh(code: &mut Code, x: Id) -> Id {
    let [split, bound] = TANH_BOUNDS;
    let magnitude = code.abs(x);
    let square = code.mul(x, x);
    let tail = polynomial(code, square, &TANH_TAIL);
    let tail = code.mul(square, tail);
    let small = code.mul_add(x, tail, x);
    let bounded = at_most(code, magnitude, bound);
    let doubled = code.add(bounded, bounded);
    let Parts { value, shifted, .. } = exp_parts(code, doubled);
    let power = power_of_two(code, shifted);
    let (one, two) = (code.constant(1.0), code.constant(2.0));
    let divisor = code.mul_add(value, power, one);
    let rest = code.sub(one, divisor);
    let rest = code.mul_add(value, power, rest);
    let quotient = code.div(two, divisor);
    let lost = code.push(Op::Three(Product::From, quotient, divisor, two));
    let lost = code.push(Op::Three(Product::From, quotient, rest, lost));
    let difference = code.sub(one, quotient);
    let error = code.sub(one, difference);
    let error = code.sub(error, quotient);
    let minus_half = code.constant(-0.5);
    let slope = code.mul(minus_half, quotient);
    let error = code.mul_add(lost, slope, error);
    let large = code.add(difference, error);
    nearer(code, x, (magnitude, split), small, large)
}

pub fn erf(code: &mut Code, x: Id) -> Id {
    let [split, bound] = ERF_BOUNDS;
    let magnitude = code.abs(x);
    let square = code.mul(x, x);
    let tail = polynomial(code, square, &ERF_NEAR);
    let small = code.mul_add(x, tail, x);
    let bounded = at_most(code, magnitude, bound);
    let tail = polynomial(code, bounded, &ERF_FAR);
    let exponent = code.push(Op::Three(Product::Sub, bounded, tail, bounded));
    let Parts { value, shifted, .. } = exp_parts(code, exponent);
    let power = power_of_two(code, shifted);
    let one = code.constant(1.0);
    let large = code.push(Op::Three(Product::From, value, power, one));
    nearer(code, x, (magnitude, split), small, large)
}

/// `small` where the magnitude is below the split, else `large`; with the sign of `x`.
fn nearer(code: &mut Code, x: Id, (magnitude, split): (Id, f32), small: Id, large: Id) -> Id {
    let split = code.constant(split);
    let is_small = code.test(Compare::Less, magnitude, split);
    let value = code.select(is_small, small, large);
    code.copy_sign(value, x)
}

/// `1 / (1 + exp(-x))`
pub fn sigmoid(code: &mut Code, x: Id) -> Id {
    let divisor = one_plus_exp_neg(code, x);
    let one = code.constant(1.0);
    code.div(one, divisor)
}

pub fn one_plus_exp_neg(code: &mut Code, x: Id) -> Id {
    let negative = code.neg(x);
    let exponential = exp(code, negative);
    let one = code.constant(1.0);
    code.add(one, exponential)
}
