//! Lanes for any CPU: four elements in an array.

use std::marker::PhantomData;

use super::{Lanes, Real};

#[derive(Clone, Copy)]
pub struct Scalar<T>(PhantomData<T>);

const WIDTH: usize = 4;

impl<T: Real> Lanes for Scalar<T> {
    type Elem = T;
    type Vector = [T; WIDTH];
    const WIDTH: usize = WIDTH;
    const REGISTERS: usize = 16;

    #[inline(always)]
    unsafe fn load(from: *const T) -> Self::Vector {
        // SAFETY: the caller's.
        unsafe { from.cast::<Self::Vector>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(to: *mut T, value: Self::Vector) {
        // SAFETY: the caller's.
        unsafe { to.cast::<Self::Vector>().write_unaligned(value) }
    }
    #[inline(always)]
    unsafe fn load_partial(from: *const T, count: usize) -> Self::Vector {
        // SAFETY: `from` is valid for `count` elements.
        std::array::from_fn(|lane| if lane < count { unsafe { *from.add(lane) } } else { T::ZERO })
    }
    #[inline(always)]
    unsafe fn store_partial(to: *mut T, value: Self::Vector, count: usize) {
        for (lane, &value) in value.iter().enumerate().take(count) {
            // SAFETY: `to` is valid for `count` elements.
            unsafe { *to.add(lane) = value };
        }
    }
    #[inline(always)]
    unsafe fn splat(value: T) -> Self::Vector {
        [value; WIDTH]
    }
    #[inline(always)]
    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector {
        std::array::from_fn(|lane| a[lane].add(b[lane]))
    }
    #[inline(always)]
    unsafe fn mul(a: Self::Vector, b: Self::Vector) -> Self::Vector {
        std::array::from_fn(|lane| a[lane].mul(b[lane]))
    }
    #[inline(always)]
    unsafe fn fma(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
        std::array::from_fn(|lane| a[lane].mul_add(b[lane], c[lane]))
    }
    #[inline(always)]
    unsafe fn sum(value: Self::Vector) -> T {
        (value[0].add(value[1])).add(value[2].add(value[3]))
    }
    #[inline(always)]
    unsafe fn interleave(a: Self::Vector, b: Self::Vector) -> (Self::Vector, Self::Vector) {
        ([a[0], b[0], a[1], b[1]], [a[2], b[2], a[3], b[3]])
    }
}
