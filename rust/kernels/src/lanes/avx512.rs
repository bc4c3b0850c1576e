//! Sixteen f32 or eight f64 a vector.

use std::arch::x86_64::*;

use super::Lanes;

macro_rules! lanes {
    ($name:ident, $elem:ty, $vector:ty, $width:literal, $mask:ty, $loadu:ident, $storeu:ident, $maskz_loadu:ident,
     $mask_storeu:ident, $set1:ident, $add:ident, $mul:ident, $fmadd:ident, $reduce:ident, $index:ty, $permute:ident) => {
        #[derive(Clone, Copy)]
        pub struct $name;

        impl Lanes for $name {
            type Elem = $elem;
            type Vector = $vector;
            const WIDTH: usize = $width;
            const REGISTERS: usize = 32;

            #[inline(always)]
            unsafe fn load(from: *const $elem) -> $vector {
                // SAFETY: the caller's.
                unsafe { $loadu(from) }
            }
            #[inline(always)]
            unsafe fn store(to: *mut $elem, value: $vector) {
                // SAFETY: the caller's.
                unsafe { $storeu(to, value) }
            }
            #[inline(always)]
            unsafe fn load_partial(from: *const $elem, count: usize) -> $vector {
                // SAFETY: masked lanes are not touched.
                unsafe { $maskz_loadu(((1u32 << count) - 1) as $mask, from) }
            }
            #[inline(always)]
            unsafe fn store_partial(to: *mut $elem, value: $vector, count: usize) {
                // SAFETY: masked lanes are not touched.
                unsafe { $mask_storeu(to, ((1u32 << count) - 1) as $mask, value) }
            }
            #[inline(always)]
            unsafe fn splat(value: $elem) -> $vector {
                // SAFETY: the caller's.
                unsafe { $set1(value) }
            }
            #[inline(always)]
            unsafe fn add(a: $vector, b: $vector) -> $vector {
                // SAFETY: the caller's.
                unsafe { $add(a, b) }
            }
            #[inline(always)]
            unsafe fn mul(a: $vector, b: $vector) -> $vector {
                // SAFETY: the caller's.
                unsafe { $mul(a, b) }
            }
            #[inline(always)]
            unsafe fn fma(a: $vector, b: $vector, c: $vector) -> $vector {
                // SAFETY: the caller's.
                unsafe { $fmadd(a, b, c) }
            }
            #[inline(always)]
            unsafe fn sum(value: $vector) -> $elem {
                // SAFETY: the caller's.
                unsafe { $reduce(value) }
            }
            #[inline(always)]
            unsafe fn interleave(a: $vector, b: $vector) -> ($vector, $vector) {
                /// Lanes of `a`, and behind them of `b`, in turns.
                const fn turns(first: $index) -> [$index; $width] {
                    let mut lanes = [0; $width];
                    let mut lane = 0;
                    while lane < $width {
                        lanes[lane] = first + lane as $index / 2 + (lane as $index % 2) * $width;
                        lane += 1;
                    }
                    lanes
                }
                const LOW: [$index; $width] = turns(0);
                const HIGH: [$index; $width] = turns($width / 2);
                // SAFETY: the caller's; the arrays fill a vector.
                unsafe {
                    let (low, high) =
                        (_mm512_loadu_si512(LOW.as_ptr().cast()), _mm512_loadu_si512(HIGH.as_ptr().cast()));
                    ($permute(a, low, b), $permute(a, high, b))
                }
            }
        }
    };
}

lanes!(
    F32x16,
    f32,
    __m512,
    16,
    __mmask16,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_maskz_loadu_ps,
    _mm512_mask_storeu_ps,
    _mm512_set1_ps,
    _mm512_add_ps,
    _mm512_mul_ps,
    _mm512_fmadd_ps,
    _mm512_reduce_add_ps,
    i32,
    _mm512_permutex2var_ps
);
lanes!(
    F64x8,
    f64,
    __m512d,
    8,
    __mmask8,
    _mm512_loadu_pd,
    _mm512_storeu_pd,
    _mm512_maskz_loadu_pd,
    _mm512_mask_storeu_pd,
    _mm512_set1_pd,
    _mm512_add_pd,
    _mm512_mul_pd,
    _mm512_fmadd_pd,
    _mm512_reduce_add_pd,
    i64,
    _mm512_permutex2var_pd
);
