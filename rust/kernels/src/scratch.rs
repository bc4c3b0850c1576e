//! Working memory for one launch: aligned, uninitialised, kept by its thread for the next launch.

use std::alloc::{Layout, alloc, dealloc};
use std::cell::RefCell;
use std::marker::PhantomData;
use std::ptr::NonNull;

use crate::error::{Error, Result};

/// A cache line, and the widest vector.
const ALIGN: usize = 64;
/// Buffers that a thread keeps.
const KEPT: usize = 8;
/// Bytes that a thread keeps; a larger scratch goes back to the system.
const KEPT_BYTES: usize = 64 << 20;

struct Block {
    data: NonNull<u8>,
    bytes: usize,
}

impl Block {
    fn layout(bytes: usize) -> Option<Layout> {
        Layout::from_size_align(bytes, ALIGN).ok()
    }

    fn new(bytes: usize) -> Result<Self> {
        let layout = Self::layout(bytes).ok_or(Error::OutOfMemory { bytes })?;
        // SAFETY: the layout's size is never zero (see `Scratch::new`).
        let data = NonNull::new(unsafe { alloc(layout) }).ok_or(Error::OutOfMemory { bytes })?;
        Ok(Self { data, bytes })
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(layout) = Self::layout(self.bytes) {
            // SAFETY: allocated by `new` with this layout.
            unsafe { dealloc(self.data.as_ptr(), layout) };
        }
    }
}

thread_local! {
    static FREE: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) };
}

/// Room for elements of `T`. Its contents are whatever the last user left.
pub struct Scratch<T> {
    block: Option<Block>,
    element: PhantomData<T>,
}

// SAFETY: plain memory, owned.
unsafe impl<T: Send> Send for Scratch<T> {}
// SAFETY: it hands out an address only; who writes where is the kernel's partition.
unsafe impl<T: Sync> Sync for Scratch<T> {}

impl<T: Copy> Scratch<T> {
    pub fn new(count: usize) -> Result<Self> {
        let overflow = Error::OutOfMemory { bytes: usize::MAX };
        let bytes = count.checked_mul(size_of::<T>()).ok_or(overflow)?.max(1);
        // The smallest free buffer that fits, unless it is far too large.
        let kept = FREE.with_borrow_mut(|free| {
            let fits = |block: &Block| block.bytes >= bytes && block.bytes / 4 <= bytes.max(4096);
            let best = (0..free.len()).filter(|&at| fits(&free[at])).min_by_key(|&at| free[at].bytes)?;
            Some(free.swap_remove(best))
        });
        let block = match kept {
            Some(block) => block,
            // A multiple of a page, so that nearly equal sizes share buffers.
            None => Block::new(bytes.checked_next_multiple_of(4096).ok_or(Error::OutOfMemory { bytes })?)?,
        };
        Ok(Self { block: Some(block), element: PhantomData })
    }

    pub fn ptr(&self) -> *mut T {
        self.block.as_ref().map_or(std::ptr::null_mut(), |block| block.data.as_ptr().cast())
    }
}

impl<T> Drop for Scratch<T> {
    fn drop(&mut self) {
        let Some(block) = self.block.take() else { return };
        // The thread may be ending, and its list gone: then the buffer is simply freed.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            let held: usize = free.iter().map(|block| block.bytes).sum();
            if free.len() < KEPT && held + block.bytes <= KEPT_BYTES {
                free.push(block);
            }
        });
    }
}
