//! What the pool asks of the operating system.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::statistics;

pub const HUGE_PAGE: usize = 2 << 20;
const PAGE: usize = 4 << 10;

pub fn round_to_page(bytes: usize) -> usize {
    bytes.div_ceil(PAGE) * PAGE
}

/// Maps `bytes` (a multiple of the page), or None where the system or the limit refuses.
/// `align` is the page or the huge page; the latter asks for huge pages.
pub fn map(bytes: usize, align: usize) -> Option<*mut u8> {
    let fits = statistics::reserved_now().checked_add(bytes).is_some_and(|reserved| reserved <= limit());
    if !fits {
        return None;
    }
    let slack = if align > PAGE { align } else { 0 };
    let length = bytes.checked_add(slack)?;
    // SAFETY: a fresh private mapping touches nothing that exists.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if address == libc::MAP_FAILED {
        return None;
    }
    let start = address as usize;
    let aligned = start.next_multiple_of(align);
    // SAFETY: both ends are within the mapping and outside what is kept; the advice is about what is kept.
    unsafe {
        if aligned > start {
            libc::munmap(address, aligned - start);
        }
        let end = aligned + bytes;
        if start + length > end {
            libc::munmap(end as *mut libc::c_void, start + length - end);
        }
        if align == HUGE_PAGE {
            libc::madvise(aligned as *mut libc::c_void, bytes, libc::MADV_HUGEPAGE);
        }
    }
    statistics::reserved(bytes);
    Some(aligned as *mut u8)
}

/// # Safety
/// `[start, start + bytes)` was mapped by [`map`] and nothing refers to it any more.
pub unsafe fn unmap(start: *mut u8, bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe { libc::munmap(start.cast(), bytes) };
    statistics::released(bytes);
}

/// The most bytes that the pool reserves: the memory and swap of the machine or of the control
/// group, whichever is less. Beyond it, allocation fails instead of waking the kernel's killer.
pub fn limit() -> usize {
    static LIMIT: AtomicUsize = AtomicUsize::new(0);
    let known = LIMIT.load(Ordering::Relaxed);
    if known != 0 {
        return known;
    }
    let machine = meminfo("MemTotal:").zip(meminfo("SwapTotal:")).map_or(usize::MAX, |(memory, swap)| memory + swap);
    let group = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok())
        .unwrap_or(usize::MAX);
    let limit = machine.min(group).max(1);
    LIMIT.store(limit, Ordering::Relaxed);
    limit
}

/// Free bytes and all bytes of the device, which is the host.
pub fn memory_info() -> (usize, usize) {
    let total = limit();
    let available = meminfo("MemAvailable:").unwrap_or(total);
    (available.min(total), total)
}

fn meminfo(field: &str) -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with(field))?;
    let kibibytes: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes << 10)
}
