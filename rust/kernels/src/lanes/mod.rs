//! SIMD lanes behind one trait, and the one dispatch that picks them at run time.
//!
//! A kernel is a struct with a generic, `#[inline(always)]` `run`; [`run_at`] compiles it once a
//! level. Inside, plain scalar loops are vectorised by the compiler with the level's features, and
//! register-blocked loops use [`Lanes`] explicitly.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;

use crate::isa::Level;

/// A vector of `WIDTH` floats.
pub trait Lanes: Copy + Send + Sync + 'static {
    type Elem: Real;
    type Vector: Copy;
    const WIDTH: usize;
    /// Vector registers that the level has; blocking factors follow it.
    const REGISTERS: usize;

    /// # Safety
    /// `from` is valid for `WIDTH` elements (any alignment); the CPU has the level. So for all below.
    unsafe fn load(from: *const Self::Elem) -> Self::Vector;
    /// # Safety
    /// `to` is valid for writing `WIDTH` elements.
    unsafe fn store(to: *mut Self::Elem, value: Self::Vector);
    /// The first `count <= WIDTH` elements; the rest are zero.
    /// # Safety
    /// `from` is valid for `count` elements.
    unsafe fn load_partial(from: *const Self::Elem, count: usize) -> Self::Vector;
    /// # Safety
    /// `to` is valid for writing `count <= WIDTH` elements.
    unsafe fn store_partial(to: *mut Self::Elem, value: Self::Vector, count: usize);
    /// # Safety
    /// The CPU has the level.
    unsafe fn splat(value: Self::Elem) -> Self::Vector;
    /// # Safety
    /// The CPU has the level.
    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// # Safety
    /// The CPU has the level.
    unsafe fn mul(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a * b + c`, rounded once.
    /// # Safety
    /// The CPU has the level.
    unsafe fn fma(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// The sum of the elements.
    /// # Safety
    /// The CPU has the level.
    unsafe fn sum(value: Self::Vector) -> Self::Elem;
    /// The elements of both in turns, `a[0], b[0], a[1], b[1], ..`: the first half and the second.
    /// # Safety
    /// The CPU has the level.
    unsafe fn interleave(a: Self::Vector, b: Self::Vector) -> (Self::Vector, Self::Vector);
}

/// The widest vector of any level.
pub const WIDEST: usize = 16;

/// Transposes the square of the first `WIDTH` vectors: each interleaving turns the bits of an
/// element's address (row, then column) by one place, so as many as a column has bits swap the two.
///
/// # Safety
/// The CPU has the level.
#[inline(always)]
pub unsafe fn transpose<L: Lanes>(square: [L::Vector; WIDEST]) -> [L::Vector; WIDEST] {
    let mut square = square;
    let mut step = 1;
    while step < L::WIDTH {
        let from = square;
        for pair in 0..L::WIDTH / 2 {
            // SAFETY: the caller's.
            (square[2 * pair], square[2 * pair + 1]) = unsafe { L::interleave(from[pair], from[pair + L::WIDTH / 2]) };
        }
        step *= 2;
    }
    square
}

/// Compiles an item for a level: its features, in one place.
macro_rules! compiled_for {
    (avx512 $($item:tt)*) => {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
        $($item)*
    };
    (avx2 $($item:tt)*) => {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
        $($item)*
    };
}
pub(crate) use compiled_for;

/// f32 or f64, with its lanes at each level.
pub trait Real: crate::element::Float {
    type Avx512: Lanes<Elem = Self>;
    type Avx2: Lanes<Elem = Self>;
    type Scalar: Lanes<Elem = Self>;
}

impl Real for f32 {
    #[cfg(target_arch = "x86_64")]
    type Avx512 = avx512::F32x16;
    #[cfg(target_arch = "x86_64")]
    type Avx2 = avx2::F32x8;
    #[cfg(not(target_arch = "x86_64"))]
    type Avx512 = scalar::Scalar<f32>;
    #[cfg(not(target_arch = "x86_64"))]
    type Avx2 = scalar::Scalar<f32>;
    type Scalar = scalar::Scalar<f32>;
}

impl Real for f64 {
    #[cfg(target_arch = "x86_64")]
    type Avx512 = avx512::F64x8;
    #[cfg(target_arch = "x86_64")]
    type Avx2 = avx2::F64x4;
    #[cfg(not(target_arch = "x86_64"))]
    type Avx512 = scalar::Scalar<f64>;
    #[cfg(not(target_arch = "x86_64"))]
    type Avx2 = scalar::Scalar<f64>;
    type Scalar = scalar::Scalar<f64>;
}

/// A computation generic over the lanes of `T`.
///
/// `run` is what a kernel writes; the others compile it for a level. They are methods of the
/// kernel, not functions of this file, because the Rust compiler keeps a method's code with its
/// type's module: an edit of one kernel compiles that kernel's code and no other's.
pub trait Kernel<T: Real>: Sized {
    type Output;
    /// Mark it `#[inline(always)]`: it is compiled inside a function with the level's features.
    ///
    /// # Safety
    /// The CPU has the level of `L`; the kernel's own pointers are valid.
    unsafe fn run<L: Lanes<Elem = T>>(self) -> Self::Output;

    compiled_for! { avx512
        /// # Safety
        /// The CPU has AVX-512; the kernel's own pointers are valid.
        unsafe fn run_avx512(self) -> Self::Output {
            // SAFETY: passed on.
            unsafe { self.run::<T::Avx512>() }
        }
    }
    compiled_for! { avx2
        /// # Safety
        /// The CPU has AVX2; the kernel's own pointers are valid.
        unsafe fn run_avx2(self) -> Self::Output {
            // SAFETY: passed on.
            unsafe { self.run::<T::Avx2>() }
        }
    }
}

/// Runs `kernel` compiled for `level`. Who makes a kernel promises that its pointers are valid.
#[inline]
pub fn run_at<T: Real, K: Kernel<T>>(level: Level, kernel: K) -> K::Output {
    // SAFETY: `isa` never gives a level that the machine lacks; pointers are the maker's promise.
    unsafe {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => kernel.run_avx512(),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => kernel.run_avx2(),
            _ => kernel.run::<T::Scalar>(),
        }
    }
}

/// A computation that is only vectorised by the compiler, for any element types. Its methods are
/// as [`Kernel`]'s.
pub trait Vectorised: Sized {
    type Output;
    /// Mark it `#[inline(always)]`.
    ///
    /// # Safety
    /// The kernel's own pointers are valid.
    unsafe fn run(self) -> Self::Output;

    compiled_for! { avx512
        /// # Safety
        /// The CPU has AVX-512; the kernel's own pointers are valid.
        unsafe fn run_avx512(self) -> Self::Output {
            // SAFETY: passed on.
            unsafe { self.run() }
        }
    }
    compiled_for! { avx2
        /// # Safety
        /// The CPU has AVX2; the kernel's own pointers are valid.
        unsafe fn run_avx2(self) -> Self::Output {
            // SAFETY: passed on.
            unsafe { self.run() }
        }
    }
}

/// Runs `task` compiled for `level`.
///
/// # Safety
/// What the task's own pointers ask.
#[inline]
pub unsafe fn vectorise_at<V: Vectorised>(level: Level, task: V) -> V::Output {
    // SAFETY: as in `run_at`.
    unsafe {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => task.run_avx512(),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => task.run_avx2(),
            _ => task.run(),
        }
    }
}
