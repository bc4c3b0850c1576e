//! Dense f16 from and to f32 by the processor's own instructions, which every level but the scalar one has.

use crate::isa::Level;

/// Rounds so many elements to f16, to the nearest and of two to the even one: gives how many it did, whole vectors.
///
/// # Safety
/// Both sides are valid for `count` elements, and disjoint or identical; the CPU has the level.
pub unsafe fn round(level: Level, count: usize, from: *const f32, to: *mut u16) -> usize {
    // SAFETY: the caller's.
    unsafe {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => x86::round_avx512(count, from, to),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => x86::round_avx2(count, from, to),
            _ => 0,
        }
    }
}

/// Widens so many elements of f16: gives how many it did, whole vectors.
///
/// # Safety
/// As [`round`].
pub unsafe fn widen(level: Level, count: usize, from: *const u16, to: *mut f32) -> usize {
    // SAFETY: the caller's.
    unsafe {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => x86::widen_avx512(count, from, to),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => x86::widen_avx2(count, from, to),
            _ => 0,
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use crate::lanes::compiled_for;

    const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT;

    /// A loop over whole vectors of `$width` elements.
    macro_rules! over_vectors {
        ($level:ident $name:ident $from:ty, $to:ty, $width:literal, |$source:ident, $target:ident| $body:expr) => {
            compiled_for! { $level
                /// # Safety
                /// Both sides are valid for `count` elements; the CPU has the level.
                pub unsafe fn $name(count: usize, from: *const $from, to: *mut $to) -> usize {
                    let mut done = 0;
                    while done + $width <= count {
                        // SAFETY: a vector from there on is within both sides.
                        unsafe {
                            let ($source, $target) = (from.add(done), to.add(done));
                            $body;
                        }
                        done += $width;
                    }
                    done
                }
            }
        };
    }
    over_vectors!(avx512 round_avx512 f32, u16, 16, |source, target| {
        _mm256_storeu_si256(target.cast(), _mm512_cvtps_ph::<NEAREST>(_mm512_loadu_ps(source)))
    });
    over_vectors!(avx2 round_avx2 f32, u16, 8, |source, target| {
        _mm_storeu_si128(target.cast(), _mm256_cvtps_ph::<NEAREST>(_mm256_loadu_ps(source)))
    });
    over_vectors!(avx512 widen_avx512 u16, f32, 16, |source, target| {
        _mm512_storeu_ps(target, _mm512_cvtph_ps(_mm256_loadu_si256(source.cast())))
    });
    over_vectors!(avx2 widen_avx2 u16, f32, 8, |source, target| {
        _mm256_storeu_ps(target, _mm256_cvtph_ps(_mm_loadu_si128(source.cast())))
    });
}
