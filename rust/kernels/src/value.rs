//! What an op's expression may do to a value, free of branches: the same expression is computed over elements and
//! recorded over [`crate::trace::Traced`] ones.
//!
//! Comparisons give a mask and `select` chooses by it, so nothing depends on what a value is. Arithmetic is
//! PyTorch's: integers wrap, NaN propagates through `max` and `min`.

use std::ops::{BitAnd, BitOr, BitXor, Not};

/// The results of comparisons: `bool` for elements.
pub trait Mask:
    Copy + BitAnd<Output = Self> + BitOr<Output = Self> + BitXor<Output = Self> + Not<Output = Self>
{
}
impl<M> Mask for M where M: Copy + BitAnd<Output = M> + BitOr<Output = M> + BitXor<Output = M> + Not<Output = M> {}

/// Numbers and bool.
pub trait Value: Copy {
    type Mask: Mask;
    const ZERO: Self;
    const ONE: Self;
    /// The smallest value (minus infinity for floats): the identity of `max`.
    const LOWEST: Self;
    /// The largest value: the identity of `min`.
    const HIGHEST: Self;
    fn select(mask: Self::Mask, then: Self, otherwise: Self) -> Self;
    fn eq(self, other: Self) -> Self::Mask;
    fn ne(self, other: Self) -> Self::Mask;
    fn lt(self, other: Self) -> Self::Mask;
    fn le(self, other: Self) -> Self::Mask;
    fn gt(self, other: Self) -> Self::Mask;
    fn ge(self, other: Self) -> Self::Mask;
    /// Nowhere for what is not a float; so the next.
    fn is_nan(self) -> Self::Mask;
    fn is_infinite(self) -> Self::Mask;
    /// Less than zero; for floats, the sign bit.
    fn is_sign_negative(self) -> Self::Mask;
    #[inline(always)]
    fn is_true(self) -> Self::Mask {
        self.ne(Self::ZERO)
    }
    #[inline(always)]
    fn from_mask(mask: Self::Mask) -> Self {
        Self::select(mask, Self::ONE, Self::ZERO)
    }
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn neg(self) -> Self;
    fn abs(self) -> Self;
    /// -1, 0 or 1; 0 for NaN.
    #[inline(always)]
    fn sign(self) -> Self {
        Self::from_mask(self.gt(Self::ZERO)).sub(Self::from_mask(self.lt(Self::ZERO)))
    }
    fn floor(self) -> Self;
    fn ceil(self) -> Self;
    fn trunc(self) -> Self;
    fn round_even(self) -> Self;
    /// The first of two zeros, whatever their signs; so `min`.
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self::select(other.gt(self) | other.is_nan(), other, self)
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self::select(other.lt(self) | other.is_nan(), other, self)
    }
    /// To the power of a number.
    fn raised(self, exponent: Self) -> Self;
}

/// Integers and floats: what bool lacks.
pub trait Numeric: Value {
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
        self.fmod(divisor).with_sign_of(divisor)
    }
    /// Of what `fmod` leaves, what `remainder` does.
    #[inline(always)]
    fn with_sign_of(self, divisor: Self) -> Self {
        let other_side = self.ne(Self::ZERO) & (self.lt(Self::ZERO) ^ divisor.lt(Self::ZERO));
        Self::select(other_side, self.add(divisor), self)
    }
    fn pow(self, exponent: Self) -> Self;
}

/// Integers and bool.
pub trait Bitwise: Value {
    fn not(self) -> Self;
    fn and(self, other: Self) -> Self;
    fn or(self, other: Self) -> Self;
    fn xor(self, other: Self) -> Self;
    /// Zero where `count` is negative or no less than the width.
    fn shift_left(self, count: Self) -> Self;
    /// Filled with the sign, wholly so where `count` is negative or no less than the width.
    fn shift_right(self, count: Self) -> Self;
}

/// f32 and f64. The functions are in `math`, branch-free, so that loops over them are vectorised.
pub trait Floating: Numeric {
    const EPSILON: Self;
    const NAN: Self;
    /// Rounded to the type.
    fn from_f64(value: f64) -> Self;
    fn div(self, other: Self) -> Self;
    /// `self * a + b`, rounded once.
    fn mul_add(self, a: Self, b: Self) -> Self;
    fn sqrt(self) -> Self;
    fn copysign(self, sign: Self) -> Self;
    fn exp(self) -> Self;
    /// [`Floating::exp`] of what is not above zero: its bits, for less, but f32's subnormals are zero.
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
    fn erfinv(self) -> Self;
    /// The angle of the point `(x, self)`.
    fn atan2(self, x: Self) -> Self;
    fn hypot(self, other: Self) -> Self;
    /// Between a half and one, where the number is neither zero nor infinite.
    fn frexp_mantissa(self) -> Self;
    /// Zero where the number is not finite.
    fn frexp_exponent(self) -> Self;
    /// `1 / (1 + exp(-x))`
    #[inline(always)]
    fn sigmoid(self) -> Self {
        Self::ONE.div(Self::ONE.add(self.neg().exp()))
    }
}

/// A power of a float. Half powers are roots, which differ from powers at minus zero and minus infinity.
#[inline(always)]
pub fn raised<V: Floating>(base: V, exponent: V) -> V {
    let (half, root) = (V::from_f64(0.5), base.sqrt());
    let other = V::select(exponent.eq(half.neg()), V::ONE.div(root), base.pow(exponent));
    V::select(exponent.eq(half), root, other)
}

/// The quotient rounded to minus infinity, of a division that leaves `rest`.
#[inline(always)]
pub fn floor_of<T: Floating>(value: T, divisor: T, rest: T) -> T {
    let (half, zero) = (T::from_f64(0.5), T::ZERO);
    let other_side = rest.ne(zero) & (rest.lt(zero) ^ divisor.lt(zero));
    // Exact but for rounding, which the nearest whole number undoes.
    let quotient = value.sub(rest).div(divisor).sub(T::from_mask(other_side));
    let whole = quotient.floor();
    let nearest = T::select(quotient.sub(whole).gt(half), whole.add(T::ONE), whole);
    let signed = T::select(quotient.eq(zero), zero.copysign(value.div(divisor)), nearest);
    T::select(divisor.eq(zero), value.div(divisor), signed)
}

/// Floats whose bits an expression may read and make: f32.
pub trait Bits: Floating {
    type Word: Word<Mask = Self::Mask>;
    fn single(value: f32) -> Self;
    fn to_bits(self) -> Self::Word;
    fn from_bits(word: Self::Word) -> Self;
    /// The value of a word, as a signed number.
    fn whole(word: Self::Word) -> Self;
    /// `self * 2^whole`, rounded once; the low bits of `word` are `whole` and twice the exponent's bias. Both are
    /// given, as processors differ in which they take.
    fn scaled(self, whole: Self, word: Self::Word) -> Self;
}

/// 32 bits, as a whole number that wraps.
pub trait Word: Copy {
    type Mask;
    fn literal(value: u32) -> Self;
    fn select(mask: Self::Mask, then: Self, otherwise: Self) -> Self;
    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
    fn shifted_left<const COUNT: u32>(self) -> Self;
    /// Filled with the sign.
    fn shifted_right<const COUNT: u32>(self) -> Self;
}
