//! SIMD lanes behind one trait, and the one dispatch that picks them at run time.
//!
//! A kernel is a struct with a generic, `#[inline(always)]` `run`; [`dispatch`] compiles it once a
//! level. Inside, plain scalar loops are vectorised by the compiler with the level's features, and
//! register-blocked loops use [`Lanes`] explicitly.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;

use crate::isa::{self, Level};

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
}

/// f32 or f64.
pub trait Real: crate::element::Float {
    /// Runs `kernel` compiled for `level`.
    fn run_at<K: Kernel<Self>>(level: Level, kernel: K) -> K::Output;
}

/// A computation generic over the lanes of `T`.
pub trait Kernel<T: Real> {
    type Output;
    /// Mark it `#[inline(always)]`: it is compiled inside a function with the level's features.
    ///
    /// # Safety
    /// The CPU has the level of `L`; the kernel's own pointers are valid.
    unsafe fn run<L: Lanes<Elem = T>>(self) -> Self::Output;
}

/// Runs `kernel` at the current level.
///
/// # Safety
/// What the kernel's own pointers ask.
pub unsafe fn dispatch<T: Real, K: Kernel<T>>(kernel: K) -> K::Output {
    T::run_at(isa::level(), kernel)
}

macro_rules! real {
    ($elem:ty, $avx512:ty, $avx2:ty, $scalar:ty) => {
        impl Real for $elem {
            #[cfg(target_arch = "x86_64")]
            fn run_at<K: Kernel<Self>>(level: Level, kernel: K) -> K::Output {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
                unsafe fn avx512<K: Kernel<$elem>>(kernel: K) -> K::Output {
                    // SAFETY: run_at calls this where the machine has AVX-512.
                    unsafe { kernel.run::<$avx512>() }
                }
                #[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
                unsafe fn avx2<K: Kernel<$elem>>(kernel: K) -> K::Output {
                    // SAFETY: run_at calls this where the machine has AVX2.
                    unsafe { kernel.run::<$avx2>() }
                }
                // SAFETY: `isa` never gives a level that the machine lacks; pointers are the caller's promise.
                unsafe {
                    match level {
                        Level::Avx512 => avx512(kernel),
                        Level::Avx2 => avx2(kernel),
                        Level::Scalar => kernel.run::<$scalar>(),
                    }
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            fn run_at<K: Kernel<Self>>(_level: Level, kernel: K) -> K::Output {
                // SAFETY: scalar code needs nothing of the CPU; pointers are the caller's promise.
                unsafe { kernel.run::<$scalar>() }
            }
        }
    };
}
#[cfg(target_arch = "x86_64")]
real!(f32, avx512::F32x16, avx2::F32x8, scalar::Scalar<f32>);
#[cfg(target_arch = "x86_64")]
real!(f64, avx512::F64x8, avx2::F64x4, scalar::Scalar<f64>);
#[cfg(not(target_arch = "x86_64"))]
real!(f32, (), (), scalar::Scalar<f32>);
#[cfg(not(target_arch = "x86_64"))]
real!(f64, (), (), scalar::Scalar<f64>);

/// A computation that is only vectorised by the compiler, for any element types.
pub trait Vectorised {
    type Output;
    /// Mark it `#[inline(always)]`.
    ///
    /// # Safety
    /// The kernel's own pointers are valid.
    unsafe fn run(self) -> Self::Output;
}

/// Runs `task` compiled for `level`.
///
/// # Safety
/// What the task's own pointers ask.
pub unsafe fn vectorise_at<V: Vectorised>(level: Level, task: V) -> V::Output {
    struct Adapter<V>(V);
    impl<V: Vectorised> Kernel<f32> for Adapter<V> {
        type Output = V::Output;
        #[inline(always)]
        unsafe fn run<L: Lanes<Elem = f32>>(self) -> V::Output {
            // SAFETY: passed on.
            unsafe { self.0.run() }
        }
    }
    f32::run_at(level, Adapter(task))
}
