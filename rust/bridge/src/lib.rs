//! The one door: every function here catches panics, returns a `Result`, and gives its error as
//! text whose first letter names the exception (see `csrc/bridge.h`).

mod checkpoint;
mod graph;
mod profile;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use rustorch_graph::record;
use rustorch_kernels::dtype::DType;
use rustorch_kernels::error::{Error, Kind, Result};
use rustorch_kernels::ops::{self, Op};
use rustorch_kernels::view::{Attrs, View};
use rustorch_kernels::{alloc, isa, threads, validate};

#[global_allocator]
static MEMORY: alloc::WithReserve = alloc::WithReserve;

#[cxx::bridge(namespace = "rustorch::ffi")]
mod ffi {
    /// A tensor operand: addresses of its data, sizes and strides (in elements), and the memory that
    /// its data has to lie in. Kernels see it as a `View`, in place.
    #[derive(Clone, Copy)]
    struct RawView {
        data: usize,
        sizes: usize,
        strides: usize,
        storage: usize,
        storage_bytes: usize,
        rank: u32,
        dtype: u8,
        present: bool,
        /// The tensor's own dtype, where `dtype` is an integer of the same size.
        named: u8,
        /// The `c10::DeviceType`, for the shim's own check.
        device: i8,
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
        /// The same, where the calling thread has one at hand; zero where it has not.
        fn pool_allocate_cached(bytes: usize) -> usize;
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
        /// Refuses a view that reaches out of its storage: for what other kernels than ours read.
        ///
        /// # Safety
        /// The view's sizes and strides are valid; its memory is not touched.
        unsafe fn check_bounds(view: &RawView) -> Result<()>;
        /// The pool asks the function at this address for its thread count.
        ///
        /// # Safety
        /// It is the address of an `extern "C" fn() -> usize` that may be called from any thread.
        unsafe fn follow_num_threads(address: usize);
        /// Programs of tensors on the CPU run on the host's workers, by the function at this address.
        ///
        /// # Safety
        /// It is the address of a function that does what `threads::Enter` says.
        unsafe fn join_host(address: usize);
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

// An operand of the shim is a view once its dtype is known to be one.
const _: () = {
    use std::mem::offset_of;
    type Raw = ffi::RawView;
    let raw = [
        offset_of!(Raw, data),
        offset_of!(Raw, sizes),
        offset_of!(Raw, strides),
        offset_of!(Raw, storage),
        offset_of!(Raw, storage_bytes),
        offset_of!(Raw, rank),
        offset_of!(Raw, dtype),
        offset_of!(Raw, present),
        offset_of!(Raw, named),
    ];
    let mut field = 0;
    while field < raw.len() {
        assert!(raw[field] == View::LAYOUT[field]);
        field += 1;
    }
    assert!(size_of::<Raw>() == size_of::<View<'_>>() && align_of::<Raw>() == align_of::<View<'_>>());
};

/// # Safety
/// The addresses are valid for the views' life: data as `View::new` asks, and `rank` sizes and strides.
unsafe fn operands(views: &[ffi::RawView]) -> Result<&[View<'_>]> {
    for view in views {
        if DType::from_code(view.dtype).is_none() {
            return Err(Error::Runtime(format!("unknown dtype code {}", view.dtype)));
        }
    }
    // SAFETY: the layouts are the same, every field's value is valid, and the addresses are the
    // caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(views.as_ptr().cast(), views.len()) })
}

unsafe fn launch(op: u32, views: &[ffi::RawView], ints: &[i64], floats: &[f64]) -> Result<(), Crossing> {
    guarded(|| {
        let row = Op::from_id(op).ok_or_else(|| Error::Runtime(format!("unknown op {op}")))?;
        // SAFETY: the caller's promise.
        let operands = unsafe { operands(views) }?;
        let attrs = Attrs { ints, floats };
        if record::active() { record::launch(row, operands, &attrs) } else { ops::launch(row, operands, &attrs) }
    })
}

unsafe fn check_bounds(view: &ffi::RawView) -> Result<(), Crossing> {
    // SAFETY: the caller's promise.
    guarded(|| validate::bounds(&unsafe { operands(std::slice::from_ref(view)) }?[0]).map(drop))
}

fn pool_allocate(bytes: usize) -> Result<usize, Crossing> {
    guarded(|| alloc::allocate(bytes).map(|block| block.as_ptr() as usize))
}

fn pool_allocate_cached(bytes: usize) -> usize {
    alloc::allocate_cached(bytes).map_or(0, |block| block.as_ptr() as usize)
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

unsafe fn follow_num_threads(address: usize) {
    // SAFETY: the caller's promise.
    threads::follow_num_threads(unsafe { std::mem::transmute::<usize, extern "C" fn() -> usize>(address) });
}

unsafe fn join_host(address: usize) {
    // SAFETY: the caller's promise.
    unsafe { threads::join_host(std::mem::transmute::<usize, threads::Enter>(address)) };
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
