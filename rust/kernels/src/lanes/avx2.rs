//! Eight f32 or four f64 a vector.

use std::arch::x86_64::*;

use super::Lanes;

macro_rules! lanes {
    ($name:ident, $elem:ty, $int:ty, $vector:ty, $width:literal, $loadu:ident, $storeu:ident, $maskload:ident,
     $maskstore:ident, $set1:ident, $add:ident, $mul:ident, $fmadd:ident, $unpacklo:ident, $unpackhi:ident,
     $permute:ident) => {
        #[derive(Clone, Copy)]
        pub struct $name;

        impl $name {
            /// All ones in the first `count` lanes.
            #[inline(always)]
            unsafe fn mask(count: usize) -> __m256i {
                const ONES_THEN_ZEROS: [$int; 2 * $width] = {
                    let mut lanes = [0; 2 * $width];
                    let mut lane = 0;
                    while lane < $width {
                        lanes[lane] = -1;
                        lane += 1;
                    }
                    lanes
                };
                // SAFETY: WIDTH lanes from WIDTH - count stay within the 2 * WIDTH of the array.
                unsafe { _mm256_loadu_si256(ONES_THEN_ZEROS.as_ptr().add($width - count).cast()) }
            }
        }

        impl Lanes for $name {
            type Elem = $elem;
            type Vector = $vector;
            const WIDTH: usize = $width;
            const REGISTERS: usize = 16;

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
                unsafe { $maskload(from, Self::mask(count)) }
            }
            #[inline(always)]
            unsafe fn store_partial(to: *mut $elem, value: $vector, count: usize) {
                // SAFETY: masked lanes are not touched.
                unsafe { $maskstore(to, Self::mask(count), value) }
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
                let mut lanes = [0.0; $width];
                // SAFETY: `lanes` has WIDTH elements.
                unsafe { $storeu(lanes.as_mut_ptr(), value) };
                let mut step = $width / 2;
                while step > 0 {
                    for lane in 0..step {
                        lanes[lane] += lanes[lane + step];
                    }
                    step /= 2;
                }
                lanes[0]
            }
            #[inline(always)]
            unsafe fn interleave(a: $vector, b: $vector) -> ($vector, $vector) {
                // Within halves of a vector first, then the halves are put in order.
                // SAFETY: the caller's.
                unsafe {
                    let (low, high) = ($unpacklo(a, b), $unpackhi(a, b));
                    ($permute::<0x20>(low, high), $permute::<0x31>(low, high))
                }
            }
        }
    };
}

lanes!(
    F32x8,
    f32,
    i32,
    __m256,
    8,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_maskload_ps,
    _mm256_maskstore_ps,
    _mm256_set1_ps,
    _mm256_add_ps,
    _mm256_mul_ps,
    _mm256_fmadd_ps,
    _mm256_unpacklo_ps,
    _mm256_unpackhi_ps,
    _mm256_permute2f128_ps
);
lanes!(
    F64x4,
    f64,
    i64,
    __m256d,
    4,
    _mm256_loadu_pd,
    _mm256_storeu_pd,
    _mm256_maskload_pd,
    _mm256_maskstore_pd,
    _mm256_set1_pd,
    _mm256_add_pd,
    _mm256_mul_pd,
    _mm256_fmadd_pd,
    _mm256_unpacklo_pd,
    _mm256_unpackhi_pd,
    _mm256_permute2f128_pd
);
