//! Elements as unsigned integers of the same order.

use half::{bf16, f16};

use crate::convert::Stored;
use crate::element::Bool;

/// A type with an order: that of its keys. NaN is above all else, and the zeros are equal.
pub(crate) trait Ordered: Stored {
    /// Keys are below `2^KEY_BITS`.
    const KEY_BITS: u32;
    /// Exchanges the order and its reverse.
    const REVERSE: u64 = u64::MAX >> (64 - Self::KEY_BITS);
    fn key(self) -> u64;
    /// The element of a key; None where several elements share it.
    fn from_key(key: u64) -> Option<Self>;
    /// Whether the key is NaN's: such elements equal none, not even themselves.
    fn is_nan_key(_key: u64) -> bool {
        false
    }
}

macro_rules! unsigned {
    ($($type:ident),*) => {$(
        impl Ordered for $type {
            const KEY_BITS: u32 = $type::BITS;
            #[inline(always)]
            fn key(self) -> u64 {
                self as u64
            }
            #[inline(always)]
            fn from_key(key: u64) -> Option<Self> {
                Some(key as $type)
            }
        }
    )*};
}
unsigned!(u8);

macro_rules! signed {
    ($($type:ident as $bits:ident),*) => {$(
        impl Ordered for $type {
            const KEY_BITS: u32 = $type::BITS;
            #[inline(always)]
            fn key(self) -> u64 {
                (self ^ $type::MIN) as $bits as u64
            }
            #[inline(always)]
            fn from_key(key: u64) -> Option<Self> {
                Some(key as $type ^ $type::MIN)
            }
        }
    )*};
}
signed!(i8 as u8, i16 as u16, i32 as u32, i64 as u64);

impl Ordered for Bool {
    const KEY_BITS: u32 = 1;
    #[inline(always)]
    fn key(self) -> u64 {
        self.get() as u64
    }
    #[inline(always)]
    fn from_key(key: u64) -> Option<Self> {
        Some(Self::new(key != 0))
    }
}

macro_rules! float {
    ($($type:ident as $bits:ident),*) => {$(
        impl Ordered for $type {
            const KEY_BITS: u32 = $bits::BITS;
            #[inline(always)]
            fn key(self) -> u64 {
                const SIGN: $bits = 1 << ($bits::BITS - 1);
                let bits = self.to_bits();
                // Positive numbers go above the negative ones, whose order is turned round.
                let ordered = if bits & SIGN == 0 { bits | SIGN } else { !bits };
                let canonical = if bits << 1 == 0 { SIGN } else { ordered };
                (if self.is_nan() { $bits::MAX } else { canonical }) as u64
            }
            #[inline(always)]
            fn from_key(key: u64) -> Option<Self> {
                const SIGN: $bits = 1 << ($bits::BITS - 1);
                let ordered = key as $bits;
                let bits = if ordered & SIGN == 0 { !ordered } else { ordered ^ SIGN };
                (ordered != SIGN && ordered != $bits::MAX).then_some(Self::from_bits(bits))
            }
            #[inline(always)]
            fn is_nan_key(key: u64) -> bool {
                key == $bits::MAX as u64
            }
        }
    )*};
}
float!(f32 as u32, f64 as u64, bf16 as u16, f16 as u16);
