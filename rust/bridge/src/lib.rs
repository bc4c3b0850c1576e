//! The one door: every function here catches panics, returns a `Result`, and gives its error as
//! text whose first letter names the exception (see `csrc/bridge.h`).

mod arena;
mod checkpoint;
mod graph;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use rustorch_graph::record;
use rustorch_kernels::dtype::DType;
use rustorch_kernels::error::{Error, Kind, Result};
use rustorch_kernels::ops::{self, Op};
use rustorch_kernels::view::{Attrs, View};
use rustorch_kernels::{alloc, isa, threads};
use smallvec::SmallVec;

#[cxx::bridge(namespace = "rustorch::ffi")]
mod ffi {
    /// A tensor operand: addresses of its data, sizes and strides (in elements).
    #[derive(Clone, Copy)]
    struct RawView {
        data: usize,
        sizes: usize,
        strides: usize,
        rank: u32,
        dtype: u8,
        present: bool,
    }

    /// A quantity of the memory pool (`alloc::Count`).
    struct PoolCount {
        current: u64,
        peak: u64,
        allocated: u64,
        freed: u64,
    }

    /// What the memory pool counts (`alloc::Statistics`).
    struct PoolStatistics {
        bytes: PoolCount,
        blocks: PoolCount,
        large_bytes: PoolCount,
        large_blocks: PoolCount,
        reserved_bytes: PoolCount,
        segments: PoolCount,
        retries: u64,
        out_of_memory: u64,
    }

    extern "Rust" {
        /// The address of a fresh block.
        fn pool_allocate(bytes: usize) -> Result<usize>;
        /// Frees a block; gives the bytes that had been asked for.
        ///
        /// # Safety
        /// The address came from `pool_allocate` and is freed once.
        unsafe fn pool_free(address: usize) -> usize;
        fn pool_empty_cache();
        fn pool_statistics() -> PoolStatistics;
        fn pool_reset_peak();
        fn pool_reset_accumulated();
        /// Counts memory that came from elsewhere, and no longer.
        fn pool_adopt(bytes: usize);
        fn pool_disown(bytes: usize);
        /// Free bytes, or all bytes, of the device.
        fn pool_free_bytes() -> usize;
        fn pool_total_bytes() -> usize;

        /// Runs an op of the table; on a thread that captures a graph, writes it down instead.
        ///
        /// # Safety
        /// Every view reaches memory that is valid for the call.
        unsafe fn launch(op: u32, views: &[RawView], ints: &[i64], floats: &[f64]) -> Result<()>;
        /// Sets the pool's thread count.
        fn set_num_threads(count: usize);
        /// The SIMD level in use: scalar, avx2 or avx512.
        fn simd_level() -> &'static str;
        /// The table's names, in the order of their ids.
        fn op_names() -> Vec<String>;
        /// Panics inside the door, to prove that a panic arrives as an exception.
        fn debug_panic(message: &str) -> Result<()>;
    }
}

/// An error on its way to C++: the kind's letter, then the text.
struct Crossing(Error);

impl std::fmt::Display for Crossing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let letter = match self.0.kind() {
            Kind::Runtime => 'R',
            Kind::Index => 'I',
            Kind::Value => 'V',
            Kind::NotImplemented => 'N',
            Kind::OutOfMemory => 'M',
        };
        write!(formatter, "{letter}{}", self.0)
    }
}

/// Runs `body`; a panic becomes an error.
fn guarded<R>(body: impl FnOnce() -> Result<R>) -> Result<R, Crossing> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| Err(Error::from_panic(payload))).map_err(Crossing)
}

impl ffi::RawView {
    /// # Safety
    /// The addresses are valid for the view's life.
    unsafe fn view<'a>(&self) -> Result<View<'a>> {
        if !self.present {
            return Ok(View::absent());
        }
        let dtype = DType::from_code(self.dtype);
        let dtype = dtype.ok_or_else(|| Error::Runtime(format!("unknown dtype code {}", self.dtype)))?;
        let dims = |address: usize| {
            if self.rank == 0 {
                return &[][..];
            }
            // SAFETY: a tensor's sizes and strides are `rank` integers that outlive the call.
            unsafe { std::slice::from_raw_parts(address as *const i64, self.rank as usize) }
        };
        // SAFETY: the caller's promise.
        Ok(unsafe { View::new(self.data as *mut u8, dtype, dims(self.sizes), dims(self.strides)) })
    }
}

unsafe fn launch(op: u32, views: &[ffi::RawView], ints: &[i64], floats: &[f64]) -> Result<(), Crossing> {
    guarded(|| {
        let row = Op::from_id(op).ok_or_else(|| Error::Runtime(format!("unknown op {op}")))?;
        let mut operands: SmallVec<[View<'_>; 8]> = SmallVec::with_capacity(views.len());
        for view in views {
            // SAFETY: the caller's promise.
            operands.push(unsafe { view.view() }?);
        }
        let attrs = Attrs { ints, floats };
        if record::active() { record::launch(row, &operands, &attrs) } else { ops::launch(row, &operands, &attrs) }
    })
}

fn pool_allocate(bytes: usize) -> Result<usize, Crossing> {
    guarded(|| alloc::allocate(bytes).map(|block| block.as_ptr() as usize))
}

unsafe fn pool_free(address: usize) -> usize {
    // SAFETY: the caller's promise.
    NonNull::new(address as *mut u8).map_or(0, |block| unsafe { alloc::free(block) })
}

fn pool_empty_cache() {
    alloc::empty_cache();
}

fn pool_statistics() -> ffi::PoolStatistics {
    let count = |count: alloc::Count| ffi::PoolCount {
        current: count.current,
        peak: count.peak,
        allocated: count.allocated,
        freed: count.freed,
    };
    let statistics = alloc::statistics();
    ffi::PoolStatistics {
        bytes: count(statistics.bytes),
        blocks: count(statistics.blocks),
        large_bytes: count(statistics.large_bytes),
        large_blocks: count(statistics.large_blocks),
        reserved_bytes: count(statistics.reserved_bytes),
        segments: count(statistics.segments),
        retries: statistics.retries,
        out_of_memory: statistics.out_of_memory,
    }
}

fn pool_reset_peak() {
    alloc::reset_peak();
}

fn pool_reset_accumulated() {
    alloc::reset_accumulated();
}

fn pool_adopt(bytes: usize) {
    alloc::adopt(bytes);
}

fn pool_disown(bytes: usize) {
    alloc::disown(bytes);
}

fn pool_free_bytes() -> usize {
    alloc::memory_info().0
}

fn pool_total_bytes() -> usize {
    alloc::memory_info().1
}

fn set_num_threads(count: usize) {
    threads::set_num_threads(count);
}

fn simd_level() -> &'static str {
    isa::level().name()
}

fn op_names() -> Vec<String> {
    ops::OPS.iter().map(|row| row.name.to_string()).collect()
}

fn debug_panic(message: &str) -> Result<(), Crossing> {
    guarded(|| panic!("{message}"))
}
