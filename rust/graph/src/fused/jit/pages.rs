//! Memory for machine code: written first, then executable, never both.

use std::ptr::NonNull;

/// Machine code, callable until it is dropped.
pub struct Pages {
    start: NonNull<libc::c_void>,
    bytes: usize,
}

// SAFETY: the pages are read-only once they are made.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    /// None where the system refuses memory, or refuses to make it executable.
    pub fn new(code: &[u8]) -> Option<Self> {
        let bytes = code.len().max(1);
        // SAFETY: a fresh private mapping.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return None;
        }
        let pages = Self { start: NonNull::new(start)?, bytes };
        // SAFETY: the mapping is as long as the code, and nobody else knows it.
        let done = unsafe {
            std::ptr::copy_nonoverlapping(code.as_ptr(), start.cast(), code.len());
            libc::mprotect(start, bytes, libc::PROT_READ | libc::PROT_EXEC)
        };
        (done == 0).then_some(pages)
    }

    pub fn start(&self) -> *const u8 {
        self.start.as_ptr().cast_const().cast()
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: our mapping, of this length.
        unsafe { libc::munmap(self.start.as_ptr(), self.bytes) };
    }
}
