//! Functions of integers.

use crate::element::{Integral, Number};
use crate::value::{Bitwise, Numeric};

/// Divisors of integers.
pub trait Divisors: Integral + Number {
    /// The greatest common divisor, by Euclid.
    fn gcd(self, other: Self) -> Self {
        let (mut divisor, mut rest) = (self.abs(), other.abs());
        while divisor != Self::ZERO {
            (divisor, rest) = (rest.fmod(divisor), divisor);
        }
        rest
    }

    fn lcm(self, other: Self) -> Self {
        // Where both are zero, so is the divisor, by which nothing is divided.
        let quotient = self.div_trunc(self.gcd(other));
        if size_of::<Self>() < size_of::<i32>() {
            // C++ multiplies narrow integers as wider ones, and cuts the magnitude.
            return Self::from_scalar(0.0, (quotient.to_i64() * other.to_i64()).abs());
        }
        quotient.mul(other).abs()
    }
}
impl<T: Integral + Number> Divisors for T {}

/// Integers: what is both a number and a row of bits.
pub trait Whole: Bitwise + Numeric {
    /// Of floats as bits (sign and magnitude), the neighbour of `self` on the side of `target`.
    /// Magnitudes above `infinity` are NaN.
    #[inline(always)]
    fn next_after(self, target: Self, infinity: Self) -> Self {
        let magnitude = |bits: Self| bits.and(Self::HIGHEST);
        // Ordered as the floats are; both zeros are zero.
        let place = |bits: Self| Self::select(bits.lt(Self::ZERO), magnitude(bits).neg(), bits);
        let (from, to) = (place(self), place(target));
        let next = Self::select(to.gt(from), from.add(Self::ONE), from.sub(Self::ONE));
        let sign = Self::HIGHEST.not();
        // From one upwards and from minus one, zero keeps the sign of where it came from.
        let negative = next.lt(Self::ZERO) | (next.eq(Self::ZERO) & self.lt(Self::ZERO));
        let bits = Self::select(negative, next.neg().or(sign), next);
        let arrived = Self::select(from.eq(to), target, bits);
        let arrived = Self::select(magnitude(target).gt(infinity), target, arrived);
        Self::select(magnitude(self).gt(infinity), self, arrived)
    }
}
impl<T: Bitwise + Numeric> Whole for T {}
