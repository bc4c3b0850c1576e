//! The element types: arithmetic over them, as PyTorch defines it. Integers wrap, NaN propagates through
//! `max` and `min`, casts from float to integer go through i64.

use crate::dtype::DType;
use crate::value::{Bits, Bitwise, Floating, Numeric, Value, Word, floor_of, raised};

/// A type that a kernel computes in.
pub trait Element: Value<Mask = bool> + PartialEq + PartialOrd + Send + Sync + 'static {
    const DTYPE: DType;
    /// A launch's scalar: floats take the first form, integers the second.
    fn from_scalar(float: f64, int: i64) -> Self;
    fn to_f64(self) -> f64;
    fn to_i64(self) -> i64;
}

/// Integers and floats: what bool lacks.
pub trait Number: Element + Numeric {
    /// Whether the quotient has more digits than `fmod`, `remainder` and `div_floor` are right for, as they are over
    /// floats up to `2^50`; the next three are right there.
    #[inline(always)]
    fn is_long_quotient(self, _divisor: Self) -> bool {
        false
    }
    fn long_fmod(self, divisor: Self) -> Self {
        self.fmod(divisor)
    }
    fn long_remainder(self, divisor: Self) -> Self {
        self.long_fmod(divisor).with_sign_of(divisor)
    }
    fn long_div_floor(self, divisor: Self) -> Self {
        self.div_floor(divisor)
    }
}

/// Integers and bool.
pub trait Integral: Element + Bitwise {}
impl<T: Element + Bitwise> Integral for T {}

/// f32 and f64.
pub trait Float: Number + Floating {
    fn is_finite(self) -> bool;
    /// Too far from zero for `sin` and `cos`; the next three are right there.
    fn is_far(self) -> bool;
    fn sin_far(self) -> Self;
    fn cos_far(self) -> Self;
    fn tan_far(self) -> Self;
}

/// What every element type does alike.
macro_rules! comparisons {
    () => {
        type Mask = bool;
        #[inline(always)]
        fn select(mask: bool, then: Self, otherwise: Self) -> Self {
            if mask { then } else { otherwise }
        }
        #[inline(always)]
        fn eq(self, other: Self) -> bool {
            self == other
        }
        #[inline(always)]
        fn ne(self, other: Self) -> bool {
            self != other
        }
        #[inline(always)]
        fn lt(self, other: Self) -> bool {
            self < other
        }
        #[inline(always)]
        fn le(self, other: Self) -> bool {
            self <= other
        }
        #[inline(always)]
        fn gt(self, other: Self) -> bool {
            self > other
        }
        #[inline(always)]
        fn ge(self, other: Self) -> bool {
            self >= other
        }
    };
}

/// What a whole number, or bool, does of what floats do.
macro_rules! whole {
    () => {
        #[inline(always)]
        fn is_nan(self) -> bool {
            false
        }
        #[inline(always)]
        fn is_infinite(self) -> bool {
            false
        }
        #[inline(always)]
        fn is_sign_negative(self) -> bool {
            self < Self::ZERO
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
    };
}

macro_rules! integer {
    ($($type:ident $dtype:ident $abs:ident),*) => {$(
        impl Element for $type {
            const DTYPE: DType = DType::$dtype;
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
        }

        impl Value for $type {
            const ZERO: Self = 0;
            const ONE: Self = 1;
            const LOWEST: Self = $type::MIN;
            const HIGHEST: Self = $type::MAX;
            comparisons!();
            whole!();
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
                Numeric::pow(self, exponent)
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
}

impl Value for Bool {
    const ZERO: Self = Self(0);
    const ONE: Self = Self(1);
    const LOWEST: Self = Self(0);
    const HIGHEST: Self = Self(1);
    comparisons!();
    whole!();
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

macro_rules! whole_number {
    ($($type:ident),*) => {$(
        impl Number for $type {}

        impl Numeric for $type {
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

        impl Bitwise for $type {
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

impl Bitwise for Bool {
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

macro_rules! float {
    ($type:ident, $dtype:ident, $math:ident) => {
        impl Element for $type {
            const DTYPE: DType = DType::$dtype;
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
        }

        impl Value for $type {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const LOWEST: Self = $type::NEG_INFINITY;
            const HIGHEST: Self = $type::INFINITY;
            comparisons!();
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
            #[inline(always)]
            fn raised(self, exponent: Self) -> Self {
                raised(self, exponent)
            }
        }

        impl Numeric for $type {
            #[inline(always)]
            fn div_floor(self, divisor: Self) -> Self {
                floor_of(self, divisor, self.fmod(divisor))
            }
            #[inline(always)]
            fn div_trunc(self, divisor: Self) -> Self {
                $type::trunc(self / divisor)
            }
            #[inline(always)]
            fn fmod(self, divisor: Self) -> Self {
                crate::math::double::remains(self as f64, divisor as f64) as $type
            }
            #[inline(always)]
            fn pow(self, exponent: Self) -> Self {
                crate::math::$math::pow(self, exponent)
            }
        }

        impl Floating for $type {
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
            float!(
                forward $math: exp, exp_of_negative, exp2, exp_m1, ln, ln_1p, log2, log10, tanh, erf, sin, cos, tan, asin,
                acos, atan, sinh, cosh, asinh, acosh, atanh, erfc, erfinv
            );
            #[inline(always)]
            fn atan2(self, x: Self) -> Self {
                crate::math::$math::atan2(self, x)
            }
            #[inline(always)]
            fn hypot(self, other: Self) -> Self {
                crate::math::$math::hypot(self, other)
            }
            #[inline(always)]
            fn frexp_mantissa(self) -> Self {
                crate::math::double::frexp_mantissa(self as f64) as $type
            }
            #[inline(always)]
            fn frexp_exponent(self) -> Self {
                crate::math::double::frexp_exponent(self as f64) as $type
            }
        }

        impl Number for $type {
            #[inline(always)]
            fn is_long_quotient(self, divisor: Self) -> bool {
                crate::math::double::is_long_quotient(self as f64, divisor as f64)
            }
            fn long_fmod(self, divisor: Self) -> Self {
                self % divisor
            }
            fn long_div_floor(self, divisor: Self) -> Self {
                floor_of(self, divisor, self % divisor)
            }
        }

        impl Float for $type {
            #[inline(always)]
            fn is_finite(self) -> bool {
                $type::is_finite(self)
            }
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

impl Bits for f32 {
    type Word = u32;
    #[inline(always)]
    fn single(value: f32) -> Self {
        value
    }
    #[inline(always)]
    fn to_bits(self) -> u32 {
        self.to_bits()
    }
    #[inline(always)]
    fn from_bits(word: u32) -> Self {
        f32::from_bits(word)
    }
    #[inline(always)]
    fn whole(word: u32) -> Self {
        word as i32 as f32
    }
    /// In two steps, each with its bias: into infinity, and into the subnormals with one rounding.
    #[inline(always)]
    fn scaled(self, _whole: Self, word: u32) -> Self {
        let half = word >> 1;
        self * f32::from_bits(half << 23) * f32::from_bits(word.wrapping_sub(half) << 23)
    }
}

impl Word for u32 {
    type Mask = bool;
    #[inline(always)]
    fn literal(value: u32) -> Self {
        value
    }
    #[inline(always)]
    fn select(mask: bool, then: Self, otherwise: Self) -> Self {
        if mask { then } else { otherwise }
    }
    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        self.wrapping_add(other)
    }
    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        self.wrapping_sub(other)
    }
    #[inline(always)]
    fn shifted_left<const COUNT: u32>(self) -> Self {
        self << COUNT
    }
    #[inline(always)]
    fn shifted_right<const COUNT: u32>(self) -> Self {
        ((self as i32) >> COUNT) as u32
    }
}
