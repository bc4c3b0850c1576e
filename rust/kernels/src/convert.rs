//! Casts between element types, a block at a time, with PyTorch's rules: float to integer by
//! truncation, anything but zero to true, f32 to the half types by round-to-even.

use half::{bf16, f16};

use crate::dtype::DType;
use crate::element::{Bool, Element};

/// A type that elements are stored in; arithmetic types and the half types.
pub trait Stored: Copy + Send + Sync + 'static {
    const DTYPE: DType;
    fn to_f32(self) -> f32;
    fn to_f64(self) -> f64;
    fn to_i64(self) -> i64;
    fn from_f32(value: f32) -> Self;
    fn from_f64(value: f64) -> Self;
    fn from_i64(value: i64) -> Self;
    /// To any other, by the widest type of its kind.
    fn cast<To: Stored>(self) -> To;
}

/// Whole numbers that floats are cut to as x86 cuts them: NaN and what does not fit give the lowest.
trait Whole: Sized {
    fn of_f32(value: f32) -> Self;
    fn of_f64(value: f64) -> Self;
}

macro_rules! whole {
    ($type:ident: $($name:ident $float:ident),*) => {
        impl Whole for $type {$(
            #[inline(always)]
            fn $name(value: $float) -> Self {
                const LOWEST: $float = $type::MIN as $float;
                let fits = value > LOWEST - 1.0 && value < -LOWEST;
                let inside = if fits { value } else { LOWEST };
                // SAFETY: a number that fits once its fraction is cut off.
                unsafe { inside.to_int_unchecked() }
            }
        )*}
    };
}
whole!(i32: of_f32 f32, of_f64 f64);
whole!(i64: of_f32 f32, of_f64 f64);

/// Integers; floats are cut to the type beside them first, as PyTorch does.
macro_rules! stored_integer {
    ($($type:ident $dtype:ident $through:ident),*) => {$(
        impl Stored for $type {
            const DTYPE: DType = DType::$dtype;
            #[inline(always)]
            fn to_f32(self) -> f32 {
                self as f32
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
            fn from_f32(value: f32) -> Self {
                $through::of_f32(value) as $type
            }
            #[inline(always)]
            fn from_f64(value: f64) -> Self {
                $through::of_f64(value) as $type
            }
            #[inline(always)]
            fn from_i64(value: i64) -> Self {
                value as $type
            }
            #[inline(always)]
            fn cast<To: Stored>(self) -> To {
                To::from_i64(self as i64)
            }
        }
    )*};
}
stored_integer!(u8 U8 i64, i8 I8 i32, i16 I16 i32, i32 I32 i32, i64 I64 i64);

macro_rules! stored_float {
    ($($type:ident $dtype:ident $cut:ident $from:ident),*) => {$(
        impl Stored for $type {
            const DTYPE: DType = DType::$dtype;
            #[inline(always)]
            fn to_f32(self) -> f32 {
                self as f32
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn to_i64(self) -> i64 {
                i64::$cut(self)
            }
            #[inline(always)]
            fn from_f32(value: f32) -> Self {
                value as $type
            }
            #[inline(always)]
            fn from_f64(value: f64) -> Self {
                value as $type
            }
            #[inline(always)]
            fn from_i64(value: i64) -> Self {
                value as $type
            }
            #[inline(always)]
            fn cast<To: Stored>(self) -> To {
                To::$from(self)
            }
        }
    )*};
}
stored_float!(f32 F32 of_f32 from_f32, f64 F64 of_f64 from_f64);

impl Stored for Bool {
    const DTYPE: DType = DType::Bool;
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self.get() as u8 as f32
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
    fn from_f32(value: f32) -> Self {
        Self::new(value != 0.0)
    }
    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        Self::new(value != 0.0)
    }
    #[inline(always)]
    fn from_i64(value: i64) -> Self {
        Self::new(value != 0)
    }
    #[inline(always)]
    fn cast<To: Stored>(self) -> To {
        To::from_i64(Stored::to_i64(self))
    }
}

impl Stored for bf16 {
    const DTYPE: DType = DType::BF16;
    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits((self.to_bits() as u32) << 16)
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self.to_f32() as f64
    }
    #[inline(always)]
    fn to_i64(self) -> i64 {
        i64::of_f32(self.to_f32())
    }
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        // Branch-free, so that loops over it are vectorised.
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
        Self::from_bits(if value.is_nan() { 0x7fc0 } else { rounded as u16 })
    }
    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        // PyTorch rounds twice, through f32.
        Self::from_f32(value as f32)
    }
    #[inline(always)]
    fn from_i64(value: i64) -> Self {
        Self::from_f32(value as f32)
    }
    #[inline(always)]
    fn cast<To: Stored>(self) -> To {
        To::from_f32(self.to_f32())
    }
}

impl Stored for f16 {
    const DTYPE: DType = DType::F16;
    #[inline(always)]
    fn to_f32(self) -> f32 {
        // Branch-free: exponent and mantissa moved, then rescaled; subnormals come out exact.
        let bits = self.to_bits() as u32;
        let sign = (bits & 0x8000) << 16;
        let magnitude = bits & 0x7fff;
        let scaled = f32::from_bits(magnitude << 13) * f32::from_bits((254 - 15) << 23);
        let special = f32::from_bits((magnitude << 13) | 0x7f80_0000);
        let value = if magnitude >= 0x7c00 { special } else { scaled };
        f32::from_bits(value.to_bits() | sign)
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self.to_f32() as f64
    }
    #[inline(always)]
    fn to_i64(self) -> i64 {
        i64::of_f32(self.to_f32())
    }
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        let bits = value.to_bits();
        let sign = (bits >> 16) & 0x8000;
        let magnitude = bits & 0x7fff_ffff;
        // Normal results: rebias the exponent and round to even on the 13 dropped bits.
        let rebiased = magnitude.wrapping_sub(112 << 23);
        let normal = rebiased.wrapping_add(0x0fff + ((rebiased >> 13) & 1)) >> 13;
        // Subnormal results: adding 0.5 lets the FPU shift and round the mantissa.
        let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0x3f00_0000);
        let small = if magnitude < (113 << 23) { subnormal } else { normal };
        let large = if magnitude >= 0x477f_f000 { 0x7c00 } else { small };
        let result = if magnitude > 0x7f80_0000 { 0x7e00 } else { large };
        Self::from_bits((result | sign) as u16)
    }
    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        Self::from_f32(value as f32)
    }
    #[inline(always)]
    fn from_i64(value: i64) -> Self {
        Self::from_f32(value as f32)
    }
    #[inline(always)]
    fn cast<To: Stored>(self) -> To {
        To::from_f32(self.to_f32())
    }
}

/// A type that kernels compute in, converted from and to stored ones.
pub trait Compute: Element {
    fn load<S: Stored>(value: S) -> Self;
    fn save<S: Stored>(self) -> S;
}

macro_rules! compute {
    ($($type:ident by $from:ident $to:ident),*) => {$(
        impl Compute for $type {
            #[inline(always)]
            fn load<S: Stored>(value: S) -> Self {
                value.$from()
            }
            #[inline(always)]
            fn save<S: Stored>(self) -> S {
                S::$to(self)
            }
        }
    )*};
    (through $($type:ident),*) => {$(
        impl Compute for $type {
            #[inline(always)]
            fn load<S: Stored>(value: S) -> Self {
                value.cast()
            }
            #[inline(always)]
            fn save<S: Stored>(self) -> S {
                S::from_i64(Stored::to_i64(self))
            }
        }
    )*};
}
compute!(f32 by to_f32 from_f32, f64 by to_f64 from_f64, i64 by to_i64 from_i64);
compute!(through u8, i8, i16, i32);

impl Compute for Bool {
    #[inline(always)]
    fn load<S: Stored>(value: S) -> Self {
        Self::new(value.to_f64() != 0.0)
    }
    #[inline(always)]
    fn save<S: Stored>(self) -> S {
        S::from_i64(Stored::to_i64(self))
    }
}

/// Calls `$body` with `$type` bound to the stored type of `$dtype`; complex types are refused.
#[macro_export]
macro_rules! match_stored {
    ($dtype:expr, $type:ident => $body:expr) => {
        match $dtype {
            $crate::dtype::DType::U8 => {
                type $type = u8;
                $body
            }
            $crate::dtype::DType::I8 => {
                type $type = i8;
                $body
            }
            $crate::dtype::DType::I16 => {
                type $type = i16;
                $body
            }
            $crate::dtype::DType::I32 => {
                type $type = i32;
                $body
            }
            $crate::dtype::DType::I64 => {
                type $type = i64;
                $body
            }
            $crate::dtype::DType::F32 => {
                type $type = f32;
                $body
            }
            $crate::dtype::DType::F64 => {
                type $type = f64;
                $body
            }
            $crate::dtype::DType::Bool => {
                type $type = $crate::element::Bool;
                $body
            }
            $crate::dtype::DType::BF16 => {
                type $type = half::bf16;
                $body
            }
            $crate::dtype::DType::F16 => {
                type $type = half::f16;
                $body
            }
            other => return $crate::error::Error::dtype(other),
        }
    };
}

/// Calls `$body` with `$type` bound to the floating type of `$dtype` (f32, f64, bf16, f16).
#[macro_export]
macro_rules! match_float {
    ($dtype:expr, $type:ident => $body:expr) => {
        match $dtype {
            $crate::dtype::DType::F32 => {
                type $type = f32;
                $body
            }
            $crate::dtype::DType::F64 => {
                type $type = f64;
                $body
            }
            $crate::dtype::DType::BF16 => {
                type $type = half::bf16;
                $body
            }
            $crate::dtype::DType::F16 => {
                type $type = half::f16;
                $body
            }
            other => return $crate::error::Error::dtype(other),
        }
    };
}

/// The float that arithmetic on a stored float is done in: f32, or f64 for f64.
pub trait StoredFloat: Stored {
    type Math: Compute + crate::lanes::Real;
    #[inline(always)]
    fn load(self) -> Self::Math {
        Self::Math::load(self)
    }
    #[inline(always)]
    fn save(value: Self::Math) -> Self {
        value.save()
    }
}
impl StoredFloat for f32 {
    type Math = f32;
}
impl StoredFloat for bf16 {
    type Math = f32;
}
impl StoredFloat for f16 {
    type Math = f32;
}
impl StoredFloat for f64 {
    type Math = f64;
}
