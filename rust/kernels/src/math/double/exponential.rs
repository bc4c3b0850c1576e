//! The exponential and what is made of it.

use super::{BIAS, LN_2, LN_2_REST, MANTISSA, ROUND, bounded, polynomial, power, round};

/// Beyond these, `exp` is zero or infinite.
const BOUNDS: [f64; 2] = [-746.0, 710.0];
/// `(exp(r) - 1 - r) / r^2`
const TAIL: [f64; 10] = [
    0.500_000_000_000_000_1,
    0.166_666_666_666_666_69,
    0.041_666_666_666_623_824,
    0.008_333_333_333_330_039,
    0.001_388_888_891_736_708_1,
    0.000_198_412_698_631_715_57,
    2.480_152_105_786_820_4e-5,
    2.755_726_827_690_569_6e-6,
    2.762_020_159_103_154_7e-7,
    2.510_047_250_569_499_6e-8,
];

/// `exp(x) = (1 + high + small) * 2^whole`.
struct Parts {
    /// What whole powers of two leave of the exponent, but for its last digits.
    high: f64,
    /// The rest of `exp` of it.
    small: f64,
    /// The exponent, in the low bits.
    whole: u64,
}

impl Parts {
    #[inline(always)]
    fn of(x: f64) -> Self {
        let (whole, bits) = round(x * std::f64::consts::LOG2_E);
        // Exact: a multiple of the smaller operand's last place, and below one half.
        Self::of_rest(whole.mul_add(-LN_2, x), whole * -LN_2_REST, bits)
    }

    #[inline(always)]
    fn of_rest(high: f64, low: f64, whole: u64) -> Self {
        let rest = high + low;
        Self { high, small: (rest * rest).mul_add(polynomial(rest, TAIL), low), whole }
    }

    /// `1 + high + small`, rounded once or little more.
    #[inline(always)]
    fn value(&self) -> f64 {
        let one = 1.0 + self.high;
        one + (1.0 - one + self.high + self.small)
    }

    /// `exp(x) * 2^more`, in two steps: into infinity, and into the subnormals with one rounding.
    #[inline(always)]
    fn scaled(&self, more: i64) -> f64 {
        // Twice the bias keeps it positive, as the shift is.
        let exponent = self.whole.wrapping_add_signed(more + 2 * BIAS as i64) & WORD;
        let half = exponent >> 1;
        self.value() * f64::from_bits(half << MANTISSA) * f64::from_bits((exponent - half) << MANTISSA)
    }

    /// Half of `exp(x) - 1`, in a sum of two: half of it, as the power itself may be infinite.
    #[inline(always)]
    fn half_less_one(&self) -> (f64, f64) {
        let half = power(self.whole.wrapping_sub(1));
        let value = self.high + self.small;
        let lost = self.high - value + self.small;
        let whole = half - 0.5;
        let sum = value.mul_add(half, whole);
        // The first is the larger, or zero.
        (sum, value.mul_add(half, whole - sum) + lost * half)
    }

    /// `exp(x) - 1`, for an exponent below the largest.
    #[inline(always)]
    fn less_one(&self) -> f64 {
        let (sum, rest) = self.half_less_one();
        2.0 * (sum + rest)
    }
}

/// The low bits of a number that was rounded by [`ROUND`].
const WORD: u64 = 0xffff;
const _: () = assert!(ROUND.to_bits() & WORD == 0);

#[inline(always)]
pub fn exp(x: f64) -> f64 {
    let [low, high] = BOUNDS;
    Parts::of(bounded(x, low, high)).scaled(0)
}

#[inline(always)]
pub fn exp_of_negative(x: f64) -> f64 {
    exp(x)
}

/// With as many digits as an f32 has, for a normal result.
#[inline(always)]
pub fn exp_short(x: f64) -> f64 {
    // (exp(r) - 1 - r) / r^2
    const TAIL: [f64; 6] = [
        0.500_000_001_353_873,
        0.166_666_666_817_042_15,
        0.041_666_464_197_405_69,
        0.008_333_310_844_647_862,
        0.001_393_373_071_579_208_3,
        0.000_198_910_804_639_988_43,
    ];
    let (whole, bits) = round(x * std::f64::consts::LOG2_E);
    let rest = whole.mul_add(-LN_2, x);
    (rest * rest).mul_add(polynomial(rest, TAIL), 1.0 + rest) * power(bits)
}

#[inline(always)]
pub fn exp2(x: f64) -> f64 {
    let x = bounded(x, -1077.0, 1025.0);
    let (whole, bits) = round(x);
    let rest = x - whole;
    let high = rest * LN_2;
    Parts::of_rest(high, rest.mul_add(LN_2, -high) + rest * LN_2_REST, bits).scaled(0)
}

#[inline(always)]
pub fn exp_m1(x: f64) -> f64 {
    let result = Parts::of(bounded(x, -60.0, BOUNDS[1])).less_one();
    // Keeps the sign of zero.
    if x == 0.0 { x } else { result }
}

#[inline(always)]
pub fn tanh(x: f64) -> f64 {
    let (half, rest) = Parts::of(bounded(-2.0 * x.abs(), -60.0, 0.0)).half_less_one();
    // With what the divisor and the quotient lose.
    let divisor = 1.0 + half;
    let divisor_rest = 1.0 - divisor + half + rest;
    let quotient = half / divisor;
    let lost = (-quotient).mul_add(divisor, half) + (-quotient).mul_add(divisor_rest, rest);
    let value = lost.mul_add(f64::from(1.0 / divisor as f32), quotient);
    // The sign of zero too.
    value.copysign(x)
}

#[inline(always)]
pub fn sinh(x: f64) -> f64 {
    let magnitude = x.abs();
    let parts = Parts::of(bounded(magnitude, 0.0, 712.0));
    let half = parts.scaled(-1);
    let large = half - 0.25 / half;
    // Of the small, of which `half` loses digits; the bound keeps the power finite.
    let less_one = Parts::of(bounded(magnitude, 0.0, 2.0)).less_one();
    let small = 0.5 * (less_one + less_one / (less_one + 1.0));
    (if magnitude < 1.0 { small } else { large }).copysign(x)
}

#[inline(always)]
pub fn cosh(x: f64) -> f64 {
    let half = Parts::of(bounded(x.abs(), 0.0, 712.0)).scaled(-1);
    half + 0.25 / half
}
