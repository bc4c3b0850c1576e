//! The memory of a program's intermediates: a block of the device's pool, for one run.

use std::ptr::NonNull;

use rustorch_kernels::alloc;
use rustorch_kernels::error::Result;

/// A block, freed when dropped; none where a program has no intermediates.
pub struct Arena(Option<NonNull<u8>>);

impl Arena {
    pub fn new(bytes: usize) -> Result<Self> {
        if bytes == 0 {
            return Ok(Self(None));
        }
        alloc::allocate(bytes).map(|block| Self(Some(block)))
    }

    pub fn address(&self) -> *mut u8 {
        self.0.map_or(std::ptr::null_mut(), NonNull::as_ptr)
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        if let Some(block) = self.0 {
            // SAFETY: `new` allocated it; nothing keeps it after the run.
            unsafe { alloc::free(block) };
        }
    }
}
