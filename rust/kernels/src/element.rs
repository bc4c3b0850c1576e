//! Arithmetic over element types, as PyTorch defines it: integers wrap, NaN propagates through
//! `max` and `min`, casts from float to integer go through i64.

use crate::dtype::DType;

/// A type that a kernel computes in.
pub trait Element: Copy + PartialEq + PartialOrd + Send + Sync + 'static {
    const DTYPE: DType;
    const ZERO: Self;
    const ONE: Self;
    /// The smallest value (minus infinity for floats): the identity of `max`.
    const LOWEST: Self;
    /// The largest value: the identity of `min`.
    const HIGHEST: Self;
    /// A launch's scalar: floats take the first form, integers the second.
    fn from_scalar(float: f64, int: i64) -> Self;
    fn to_f64(self) -> f64;
    fn to_i64(self) -> i64;
    fn is_nan(self) -> bool {
        false
    }
    fn is_infinite(self) -> bool {
        false
    }
    /// Less than zero; for floats, the sign bit.
    #[inline(always)]
    fn is_sign_negative(self) -> bool {
        self < Self::ZERO
    }
    #[inline(always)]
    fn is_true(self) -> bool {
        self != Self::ZERO
    }
    #[inline(always)]
    fn from_bool(value: bool) -> Self {
        if value { Self::ONE } else { Self::ZERO }
    }
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn neg(self) -> Self;
    fn abs(self) -> Self;
    /// -1, 0 or 1; 0 for NaN.
    #[inline(always)]
    fn sign(self) -> Self {
        Self::from_bool(self > Self::ZERO).sub(Self::from_bool(self < Self::ZERO))
    }
    #[inline(always)]
    fn floor(self) -> Self {
        self
    }
    #[inline(always)]
    fn ceil(self) -> Self {
        self
    }
    #[inline(always)]
    fn trunc(self) -> Self {
        self
    }
    #[inline(always)]
    fn round_even(self) -> Self {
        self
    }
    /// The first of two zeros, whatever their signs; so `min`.
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        if other > self || other.is_nan() { other } else { self }
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        if other < self || other.is_nan() { other } else { self }
    }
    /// To the power of a number.
    fn raised(self, exponent: Self) -> Self;
}

macro_rules! integer {
    ($($type:ident $dtype:ident $abs:ident),*) => {$(
        impl Element for $type {
            const DTYPE: DType = DType::$dtype;
            const ZERO: Self = 0;
            const ONE: Self = 1;
            const LOWEST: Self = $type::MIN;
            const HIGHEST: Self = $type::MAX;
            #[inline(always)]
            fn from_scalar(_float: f64, int: i64) -> Self {
                int as $type
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn to_i64(self) -> i64 {
                self as i64
            }
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }
            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                self.wrapping_mul(other)
            }
            #[inline(always)]
            fn neg(self) -> Self {
                self.wrapping_neg()
            }
            #[inline(always)]
            fn abs(self) -> Self {
                integer!($abs self)
            }
            #[inline(always)]
            fn raised(self, exponent: Self) -> Self {
                Number::pow(self, exponent)
            }
        }
    )*};
    (signed $value:ident) => { $value.wrapping_abs() };
    (unsigned $value:ident) => { $value };
}
integer!(u8 U8 unsigned, i8 I8 signed, i16 I16 signed, i32 I32 signed, i64 I64 signed);

/// PyTorch's bool: one byte. Any byte but zero reads as true (a file may hold others), so it is
/// not a Rust `bool`.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Bool(pub u8);

impl Bool {
    #[inline(always)]
    pub const fn new(value: bool) -> Self {
        Self(value as u8)
    }
    #[inline(always)]
    pub const fn get(self) -> bool {
        self.0 != 0
    }
}

impl PartialEq for Bool {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl PartialOrd for Bool {
    #[inline(always)]
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.get().partial_cmp(&other.get())
    }
}

impl Element for Bool {
    const DTYPE: DType = DType::Bool;
    const ZERO: Self = Self(0);
    const ONE: Self = Self(1);
    const LOWEST: Self = Self(0);
    const HIGHEST: Self = Self(1);
    #[inline(always)]
    fn from_scalar(_float: f64, int: i64) -> Self {
        Self::new(int != 0)
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self.get() as u8 as f64
    }
    #[inline(always)]
    fn to_i64(self) -> i64 {
        self.get() as i64
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self::new(self.get() | other.get())
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self::new(self.get() ^ other.get())
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self::new(self.get() & other.get())
    }
    #[inline(always)]
    fn neg(self) -> Self {
        self
    }
    #[inline(always)]
    fn abs(self) -> Self {
        self
    }
    #[inline(always)]
    fn raised(self, exponent: Self) -> Self {
        Self::new(self.get() | !exponent.get())
    }
}

/// Integers and floats: what bool lacks.
pub trait Number: Element {
    /// The quotient, rounded to minus infinity. For integers, here and below, a zero divisor gives
    /// zero: an op refuses it before its loop.
    fn div_floor(self, divisor: Self) -> Self;
    /// The quotient, rounded to zero.
    fn div_trunc(self, divisor: Self) -> Self;
    /// What `div_trunc` leaves: it has the dividend's sign.
    fn fmod(self, divisor: Self) -> Self;
    /// What `div_floor` leaves: it has the divisor's sign.
    #[inline(always)]
    fn remainder(self, divisor: Self) -> Self {
        let rest = self.fmod(divisor);
        let other_side = rest != Self::ZERO && (rest < Self::ZERO) != (divisor < Self::ZERO);
        if other_side { rest.add(divisor) } else { rest }
    }
    fn pow(self, exponent: Self) -> Self;
}

/// Integers and bool.
pub trait Integral: Element {
    fn not(self) -> Self;
    fn and(self, other: Self) -> Self;
    fn or(self, other: Self) -> Self;
    fn xor(self, other: Self) -> Self;
    /// Zero where `count` is negative or no less than the width.
    fn shift_left(self, count: Self) -> Self;
    /// Filled with the sign, wholly so where `count` is negative or no less than the width.
    fn shift_right(self, count: Self) -> Self;
}

macro_rules! whole_number {
    ($($type:ident),*) => {$(
        impl Number for $type {
            #[inline(always)]
            fn div_floor(self, divisor: Self) -> Self {
                let rest = self.fmod(divisor);
                let other_side = rest != 0 && rest.is_sign_negative() != divisor.is_sign_negative();
                self.div_trunc(divisor).wrapping_sub(other_side as $type)
            }
            #[inline(always)]
            fn div_trunc(self, divisor: Self) -> Self {
                if divisor == 0 { 0 } else { self.wrapping_div(divisor) }
            }
            #[inline(always)]
            fn fmod(self, divisor: Self) -> Self {
                if divisor == 0 { 0 } else { self.wrapping_rem(divisor) }
            }
            #[inline(always)]
            fn pow(self, exponent: Self) -> Self {
                if exponent.is_sign_negative() {
                    // One over a whole number, rounded to zero.
                    let odd = if exponent & 1 == 1 { self } else { 1 };
                    return if self == 1 || self == Self::ZERO.not() { odd } else { 0 };
                }
                let (mut result, mut base, mut rest) = (1, self, exponent);
                while rest != 0 {
                    if rest & 1 == 1 {
                        result = base.mul(result);
                    }
                    base = base.mul(base);
                    rest >>= 1;
                }
                result
            }
        }

        impl Integral for $type {
            #[inline(always)]
            fn not(self) -> Self {
                !self
            }
            #[inline(always)]
            fn and(self, other: Self) -> Self {
                self & other
            }
            #[inline(always)]
            fn or(self, other: Self) -> Self {
                self | other
            }
            #[inline(always)]
            fn xor(self, other: Self) -> Self {
                self ^ other
            }
            #[inline(always)]
            fn shift_left(self, count: Self) -> Self {
                let within = !count.is_sign_negative() && count < $type::BITS as $type;
                if within { self.wrapping_shl(count as u32) } else { 0 }
            }
            #[inline(always)]
            fn shift_right(self, count: Self) -> Self {
                let within = !count.is_sign_negative() && count < $type::BITS as $type;
                let sign = if self.is_sign_negative() { Self::ZERO.not() } else { 0 };
                if within { self.wrapping_shr(count as u32) } else { sign }
            }
        }
    )*};
}
whole_number!(u8, i8, i16, i32, i64);

impl Integral for Bool {
    #[inline(always)]
    fn not(self) -> Self {
        Self::new(!self.get())
    }
    #[inline(always)]
    fn and(self, other: Self) -> Self {
        Self::new(self.get() & other.get())
    }
    #[inline(always)]
    fn or(self, other: Self) -> Self {
        Self::new(self.get() | other.get())
    }
    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Self::new(self.get() ^ other.get())
    }
    #[inline(always)]
    fn shift_left(self, count: Self) -> Self {
        Self::new(self.get() & !count.get())
    }
    #[inline(always)]
    fn shift_right(self, count: Self) -> Self {
        self.shift_left(count)
    }
}

/// f32 and f64. The transcendental functions are in `math`, branch-free, so that loops over them
/// are vectorised.
pub trait Float: Number {
    const EPSILON: Self;
    const NAN: Self;
    fn from_f64(value: f64) -> Self;
    fn div(self, other: Self) -> Self;
    fn mul_add(self, a: Self, b: Self) -> Self;
    fn sqrt(self) -> Self;
    fn copysign(self, sign: Self) -> Self;
    fn is_finite(self) -> bool;
    fn exp(self) -> Self;
    /// [`Float::exp`] of what is not above zero: its bits, for less.
    fn exp_of_negative(self) -> Self;
    fn exp2(self) -> Self;
    fn exp_m1(self) -> Self;
    fn ln(self) -> Self;
    fn ln_1p(self) -> Self;
    fn log2(self) -> Self;
    fn log10(self) -> Self;
    fn tanh(self) -> Self;
    fn erf(self) -> Self;
    fn sin(self) -> Self;
    fn cos(self) -> Self;
    /// Too far from zero for `sin` and `cos`; the next three are right there.
    fn is_far(self) -> bool;
    fn sin_far(self) -> Self;
    fn cos_far(self) -> Self;
    fn tan_far(self) -> Self;
    fn tan(self) -> Self;
    fn asin(self) -> Self;
    fn acos(self) -> Self;
    fn atan(self) -> Self;
    fn sinh(self) -> Self;
    fn cosh(self) -> Self;
    fn asinh(self) -> Self;
    fn acosh(self) -> Self;
    fn atanh(self) -> Self;
    fn erfc(self) -> Self;
    /// The angle of the point `(x, self)`.
    fn atan2(self, x: Self) -> Self;
    fn hypot(self, other: Self) -> Self;
    /// `1 / (1 + exp(-x))`
    #[inline(always)]
    fn sigmoid(self) -> Self {
        Self::ONE.div(Self::ONE.add(self.neg().exp()))
    }
}

macro_rules! float {
    ($type:ident, $dtype:ident, $math:ident) => {
        impl Element for $type {
            const DTYPE: DType = DType::$dtype;
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const LOWEST: Self = $type::NEG_INFINITY;
            const HIGHEST: Self = $type::INFINITY;
            #[inline(always)]
            fn from_scalar(float: f64, _int: i64) -> Self {
                float as $type
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn to_i64(self) -> i64 {
                self as i64
            }
            #[inline(always)]
            fn is_nan(self) -> bool {
                self != self
            }
            #[inline(always)]
            fn is_infinite(self) -> bool {
                $type::is_infinite(self)
            }
            #[inline(always)]
            fn is_sign_negative(self) -> bool {
                $type::is_sign_negative(self)
            }
            #[inline(always)]
            fn floor(self) -> Self {
                $type::floor(self)
            }
            #[inline(always)]
            fn ceil(self) -> Self {
                $type::ceil(self)
            }
            #[inline(always)]
            fn trunc(self) -> Self {
                $type::trunc(self)
            }
            #[inline(always)]
            fn round_even(self) -> Self {
                $type::round_ties_even(self)
            }
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                self + other
            }
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                self - other
            }
            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                self * other
            }
            #[inline(always)]
            fn neg(self) -> Self {
                -self
            }
            #[inline(always)]
            fn abs(self) -> Self {
                $type::abs(self)
            }
            /// Half powers are roots, which differ from powers at minus zero and minus infinity.
            #[inline(always)]
            fn raised(self, exponent: Self) -> Self {
                if exponent == 0.5 {
                    self.sqrt()
                } else if exponent == -0.5 {
                    1.0 / self.sqrt()
                } else {
                    Number::pow(self, exponent)
                }
            }
        }

        impl Number for $type {
            #[inline(always)]
            fn div_floor(self, divisor: Self) -> Self {
                let rest = self % divisor;
                let other_side = rest != 0.0 && (rest < 0.0) != (divisor < 0.0);
                // Exact but for rounding, which the nearest whole number undoes.
                let quotient = (self - rest) / divisor - if other_side { 1.0 } else { 0.0 };
                let whole = $type::floor(quotient);
                let nearest = if quotient - whole > 0.5 { whole + 1.0 } else { whole };
                let signed = if quotient == 0.0 { $type::copysign(0.0, self / divisor) } else { nearest };
                if divisor == 0.0 { self / divisor } else { signed }
            }
            #[inline(always)]
            fn div_trunc(self, divisor: Self) -> Self {
                $type::trunc(self / divisor)
            }
            #[inline(always)]
            fn fmod(self, divisor: Self) -> Self {
                self % divisor
            }
            #[inline(always)]
            fn pow(self, exponent: Self) -> Self {
                crate::math::$math::pow(self, exponent)
            }
        }

        impl Float for $type {
            const EPSILON: Self = $type::EPSILON;
            const NAN: Self = $type::NAN;
            #[inline(always)]
            fn from_f64(value: f64) -> Self {
                value as $type
            }
            #[inline(always)]
            fn div(self, other: Self) -> Self {
                self / other
            }
            #[inline(always)]
            fn mul_add(self, a: Self, b: Self) -> Self {
                $type::mul_add(self, a, b)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                $type::sqrt(self)
            }
            #[inline(always)]
            fn copysign(self, sign: Self) -> Self {
                $type::copysign(self, sign)
            }
            #[inline(always)]
            fn is_finite(self) -> bool {
                $type::is_finite(self)
            }
            float!(
                forward $math: exp, exp_of_negative, exp2, exp_m1, ln, ln_1p, log2, log10, tanh, erf, sin, cos, tan, asin,
                acos, atan, sinh, cosh, asinh, acosh, atanh, erfc
            );
            #[inline(always)]
            fn is_far(self) -> bool {
                $type::abs(self) > crate::math::$math::FAR
            }
            fn sin_far(self) -> Self {
                $type::sin(self)
            }
            fn cos_far(self) -> Self {
                $type::cos(self)
            }
            fn tan_far(self) -> Self {
                $type::tan(self)
            }
            #[inline(always)]
            fn atan2(self, x: Self) -> Self {
                crate::math::$math::atan2(self, x)
            }
            #[inline(always)]
            fn hypot(self, other: Self) -> Self {
                crate::math::$math::hypot(self, other)
            }
        }
    };
    (forward $math:ident: $($function:ident),*) => {$(
        #[inline(always)]
        fn $function(self) -> Self {
            crate::math::$math::$function(self)
        }
    )*};
}
float!(f32, F32, single);
float!(f64, F64, double);
