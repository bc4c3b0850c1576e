//! Small memory for when the system has none left: the words of the error that says so, the list of a launch's
//! operands. Without it, Rust would end the process where such a small thing cannot be had.
//!
//! Lists that follow a tensor's data ask `fallible` instead, and are refused.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a piece: one request gets one piece.
const PIECE: usize = 4096;
const PIECES: usize = 64;

/// Aligned as a piece, whose alignment no request exceeds.
#[repr(align(4096))]
struct Memory(UnsafeCell<[u8; PIECE * PIECES]>);

// SAFETY: who holds a piece's bit of `TAKEN` has it alone.
unsafe impl Sync for Memory {}

/// Zeroed memory of the program's image: it takes address space, and pages only where it is used.
static MEMORY: Memory = Memory(UnsafeCell::new([0; PIECE * PIECES]));
/// A bit a piece.
static TAKEN: AtomicU64 = AtomicU64::new(0);

fn take(layout: Layout) -> *mut u8 {
    if layout.size() > PIECE || layout.align() > PIECE {
        return std::ptr::null_mut();
    }
    let mut taken = TAKEN.load(Ordering::Relaxed);
    while taken != u64::MAX {
        let piece = taken.trailing_ones();
        match TAKEN.compare_exchange_weak(taken, taken | 1 << piece, Ordering::Acquire, Ordering::Relaxed) {
            // SAFETY: a piece within the memory.
            Ok(_) => return unsafe { MEMORY.0.get().cast::<u8>().add(piece as usize * PIECE) },
            Err(now) => taken = now,
        }
    }
    std::ptr::null_mut()
}

/// The number of the piece at an address; None where it is the system's.
fn piece_of(address: *mut u8) -> Option<usize> {
    let offset = (address as usize).wrapping_sub(MEMORY.0.get() as usize);
    (offset < PIECE * PIECES).then_some(offset / PIECE)
}

/// The system's allocator, with some small memory in reserve.
pub struct WithReserve;

// SAFETY: what is given is the system's or a piece of the reserve that nobody else has, and goes back to where it came
// from.
unsafe impl GlobalAlloc for WithReserve {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let address = unsafe { System.alloc(layout) };
        if address.is_null() { take(layout) } else { address }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let address = unsafe { System.alloc_zeroed(layout) };
        if !address.is_null() {
            return address;
        }
        let piece = take(layout);
        if !piece.is_null() {
            // SAFETY: the piece holds the layout's bytes, and is ours.
            unsafe { piece.write_bytes(0, layout.size()) };
        }
        piece
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        match piece_of(address) {
            Some(piece) => drop(TAKEN.fetch_and(!(1 << piece), Ordering::Release)),
            // SAFETY: the caller's promise; it is not the reserve's.
            None => unsafe { System.dealloc(address, layout) },
        }
    }

    unsafe fn realloc(&self, address: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if piece_of(address).is_some() && size <= PIECE {
            return address;
        }
        if piece_of(address).is_none() {
            // SAFETY: the caller's promise; it is not the reserve's.
            let moved = unsafe { System.realloc(address, layout, size) };
            if !moved.is_null() {
                return moved;
            }
        }
        // SAFETY: the caller's promise: `size` is no more than an address can reach.
        let fresh = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !fresh.is_null() {
            // SAFETY: both hold that many bytes, and are apart.
            unsafe {
                fresh.copy_from_nonoverlapping(address, layout.size().min(size));
                self.dealloc(address, layout);
            }
        }
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_apart_and_come_back() {
        let layout = Layout::from_size_align(100, 64).unwrap();
        let pieces: Vec<*mut u8> = (0..PIECES).map(|_| take(layout)).collect();
        assert!(take(layout).is_null());
        for (at, &piece) in pieces.iter().enumerate() {
            assert_eq!(piece_of(piece), Some(at));
            assert_eq!(piece as usize % 64, 0);
            // SAFETY: a piece of ours.
            unsafe {
                piece.write_bytes(at as u8, 100);
                let grown = WithReserve.realloc(piece, layout, PIECE);
                assert_eq!(grown, piece);
                let moved = WithReserve.realloc(grown, Layout::from_size_align(PIECE, 64).unwrap(), 2 * PIECE);
                assert!(piece_of(moved).is_none() && *moved.add(99) == at as u8);
                WithReserve.dealloc(moved, Layout::from_size_align(2 * PIECE, 64).unwrap());
            }
        }
        assert_eq!(TAKEN.load(Ordering::Relaxed), 0);
        assert!(take(Layout::from_size_align(PIECE + 1, 1).unwrap()).is_null());
    }
}
