//! The device's memory pool: caching, 64-byte aligned, counted, safe across `fork`.
//!
//! Three sizes of block, told apart by address and header alone:
//! - **small** (to 32 KiB): carved from 2 MiB slabs; free ones wait in a cache of each thread, and
//!   behind it in the shared lists;
//! - **medium** (below 2 MiB): a mapping each; free ones wait in the shared lists;
//! - **large**: a mapping each that begins at a 2 MiB boundary, on huge pages. Nothing else does,
//!   so the address tells; free ones wait sorted by length.
//!
//! A small or medium block lies behind a header of one cache line.

mod reserve;
mod shared;
mod statistics;
mod system;

use std::cell::RefCell;
use std::ptr::NonNull;

pub use reserve::WithReserve;
pub use statistics::{Count, Statistics};
pub use system::{limit, memory_info};

use crate::error::{Error, Result};
use shared::{LARGE_FROM, SHARED};

/// Every block begins at a multiple of this.
pub const ALIGNMENT: usize = 64;
const HEADER: usize = ALIGNMENT;

/// Block sizes of small and medium blocks: multiples of 64 to 512, then eight steps an octave.
mod classes {
    pub const COUNT: usize = 8 + 8 * 12;
    pub const SMALL: usize = 8 + 8 * 6;

    /// The class whose blocks hold `bytes`.
    #[inline]
    pub fn of(bytes: usize) -> usize {
        if bytes <= 512 {
            return bytes.saturating_sub(1) / 64;
        }
        let octave = (bytes - 1).ilog2() as usize;
        let step = (bytes - 1) >> (octave - 3) & 7;
        8 + (octave - 9) * 8 + step
    }

    /// The bytes that a block of the class holds.
    #[inline]
    pub const fn bytes(class: usize) -> usize {
        if class < 8 {
            return (class + 1) * 64;
        }
        let octave = (class - 8) / 8 + 9;
        let step = (class - 8) % 8;
        (9 + step) << (octave - 3)
    }
}

/// What lies before a small or medium block. A free block's `next` links it into its list.
#[repr(C, align(64))]
struct Header {
    class: u32,
    requested: u64,
    next: *mut Header,
}

impl Header {
    fn block(header: *mut Self) -> NonNull<u8> {
        // SAFETY: a block lies behind its header, in the same mapping.
        unsafe { NonNull::new_unchecked(header.cast::<u8>().add(HEADER)) }
    }

    /// # Safety
    /// `block` came from [`allocate`] and is neither large nor freed.
    unsafe fn of(block: NonNull<u8>) -> *mut Self {
        // SAFETY: as above: its header lies before it.
        unsafe { block.as_ptr().sub(HEADER).cast() }
    }
}

/// A list of free blocks of one class.
#[derive(Clone, Copy)]
struct List {
    first: *mut Header,
    length: usize,
}

impl List {
    const EMPTY: Self = Self { first: std::ptr::null_mut(), length: 0 };

    #[inline]
    fn pop(&mut self) -> Option<*mut Header> {
        let first = NonNull::new(self.first)?.as_ptr();
        // SAFETY: a header in a list is valid, and the list alone refers to it.
        self.first = unsafe { (*first).next };
        self.length -= 1;
        Some(first)
    }

    #[inline]
    fn push(&mut self, header: *mut Header) {
        // SAFETY: the caller gives up a valid header.
        unsafe { (*header).next = self.first };
        self.first = header;
        self.length += 1;
    }
}

/// Free small blocks of this thread.
struct Cache([List; classes::SMALL]);

impl Cache {
    /// The most blocks of a class that a thread keeps: some 128 KiB of them.
    const fn capacity(class: usize) -> usize {
        let fit = (128 << 10) / classes::bytes(class);
        if fit > 64 { 64 } else { fit }
    }

    fn flush(&mut self) {
        for (class, list) in self.0.iter_mut().enumerate() {
            SHARED.give(class, list, list.length);
        }
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.flush();
    }
}

thread_local! {
    static CACHE: RefCell<Cache> = const { RefCell::new(Cache([List::EMPTY; classes::SMALL])) };
}

/// A block of `bytes`, 64-byte aligned, uninitialised. Where the system refuses, cached memory is
/// given back to it and the allocation tried again.
pub fn allocate(bytes: usize) -> Result<NonNull<u8>> {
    let block = take(bytes).or_else(|| {
        statistics::retried();
        empty_cache();
        take(bytes)
    });
    let Some(block) = block else {
        statistics::refused();
        return Err(Error::OutOfMemory { bytes });
    };
    statistics::allocated(bytes);
    Ok(block)
}

/// A block that waits in the cache of this thread: the short way, which neither locks nor panics.
/// None says nothing about memory, but that [`allocate`] is to be asked.
#[inline]
pub fn allocate_cached(bytes: usize) -> Option<NonNull<u8>> {
    let class = classes::of(bytes);
    if class >= classes::SMALL {
        return None;
    }
    let header = CACHE.try_with(|cache| cache.try_borrow_mut().ok()?.0[class].pop()).ok()??;
    // SAFETY: the block is ours now.
    unsafe { (*header).requested = bytes as u64 };
    statistics::allocated(bytes);
    Some(Header::block(header))
}

fn take(bytes: usize) -> Option<NonNull<u8>> {
    if bytes >= LARGE_FROM {
        return SHARED.take_large(bytes);
    }
    let class = classes::of(bytes);
    let header = if class < classes::SMALL { take_small(class) } else { SHARED.take_medium(class) }?;
    // SAFETY: the block is ours now.
    unsafe { (*header).requested = bytes as u64 };
    Some(Header::block(header))
}

#[inline]
fn take_small(class: usize) -> Option<*mut Header> {
    CACHE
        .try_with(|cache| {
            let list = &mut cache.borrow_mut().0[class];
            list.pop().or_else(|| {
                SHARED.take_small(class, list, Cache::capacity(class).div_ceil(2));
                list.pop()
            })
        })
        .unwrap_or_else(|_| {
            // The thread is ending and its cache is gone.
            let mut list = List::EMPTY;
            SHARED.take_small(class, &mut list, 1);
            list.pop()
        })
}

/// Gives a block back to the pool; tells how many bytes had been asked for.
///
/// # Safety
/// `block` came from [`allocate`], is not used any more and is freed once.
pub unsafe fn free(block: NonNull<u8>) -> usize {
    if (block.as_ptr() as usize).is_multiple_of(LARGE_FROM) {
        let requested = SHARED.give_large(block);
        statistics::freed(requested);
        return requested;
    }
    // SAFETY: the caller's promise.
    let header = unsafe { Header::of(block) };
    // SAFETY: as above.
    let (class, requested) = unsafe { ((*header).class as usize, (*header).requested as usize) };
    statistics::freed(requested);
    let mut one = List::EMPTY;
    one.push(header);
    if class >= classes::SMALL {
        SHARED.give(class, &mut one, 1);
        return requested;
    }
    let cached = CACHE.try_with(|cache| {
        let list = &mut cache.borrow_mut().0[class];
        let capacity = Cache::capacity(class);
        if list.length >= capacity {
            SHARED.give(class, list, capacity.div_ceil(2));
        }
        list.push(header);
    });
    if cached.is_err() {
        SHARED.give(class, &mut one, 1);
    }
    requested
}

/// Returns to the system what no tensor holds. Blocks in the caches of other threads stay.
pub fn empty_cache() {
    // A cache that is borrowed belongs to an allocation under way on this thread; it stays.
    let _ = CACHE.try_with(|cache| cache.try_borrow_mut().map(|mut cache| cache.flush()));
    SHARED.release();
}

/// Counts memory that the device holds but the pool did not give (results of CPU kernels).
pub fn adopt(bytes: usize) {
    statistics::reserved(bytes);
    statistics::allocated(bytes);
}

/// The end of [`adopt`].
pub fn disown(bytes: usize) {
    statistics::freed(bytes);
    statistics::released(bytes);
}

pub fn statistics() -> Statistics {
    statistics::read()
}

/// Sets every peak to what is in use now.
pub fn reset_peak() {
    statistics::reset_peak();
}

/// Sets the totals of what was allocated and freed to zero.
pub fn reset_accumulated() {
    statistics::reset_accumulated();
}
