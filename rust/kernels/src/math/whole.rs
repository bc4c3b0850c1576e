//! Functions of integers.

use crate::element::{Integral, Number};

/// Integers: what is both a number and a row of bits.
pub trait Whole: Integral + Number {
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

    /// Of floats as bits (sign and magnitude), the neighbour of `self` on the side of `target`.
    /// Magnitudes above `infinity` are NaN.
    #[inline(always)]
    fn next_after(self, target: Self, infinity: Self) -> Self {
        let magnitude = |bits: Self| bits.and(Self::HIGHEST);
        // Ordered as the floats are; both zeros are zero.
        let place = |bits: Self| if bits < Self::ZERO { magnitude(bits).neg() } else { bits };
        let (from, to) = (place(self), place(target));
        let next = if to > from { from.add(Self::ONE) } else { from.sub(Self::ONE) };
        let sign = Self::HIGHEST.not();
        // From one upwards and from minus one, zero keeps the sign of where it came from.
        let negative = next < Self::ZERO || (next == Self::ZERO && self < Self::ZERO);
        let bits = if negative { next.neg().or(sign) } else { next };
        let arrived = if from == to { target } else { bits };
        let arrived = if magnitude(target) > infinity { target } else { arrived };
        if magnitude(self) > infinity { self } else { arrived }
    }
}
impl Whole for u8 {}
impl Whole for i8 {}
impl Whole for i16 {}
impl Whole for i32 {}
impl Whole for i64 {}
