//! What the pool counts. Bytes are those asked for; reserved bytes are those held of the system,
//! rounding and cache included.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A quantity that goes up and down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub current: u64,
    pub peak: u64,
    /// All that was ever added and taken, since the last reset.
    pub allocated: u64,
    pub freed: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Bytes and number of live allocations.
    pub bytes: Count,
    pub blocks: Count,
    /// The same, of allocations of 1 MiB and more.
    pub large_bytes: Count,
    pub large_blocks: Count,
    /// Bytes and number of the mappings held.
    pub reserved_bytes: Count,
    pub segments: Count,
    /// Allocations that succeeded or failed only after the cache was emptied; those that failed.
    pub retries: u64,
    pub out_of_memory: u64,
}

/// Two totals that only grow, so that adding is one atomic instruction, and their difference.
#[repr(align(64))]
struct Counter {
    added: AtomicU64,
    taken: AtomicU64,
    peak: AtomicU64,
    added_before_reset: AtomicU64,
    taken_before_reset: AtomicU64,
}

impl Counter {
    const fn new() -> Self {
        Self {
            added: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            added_before_reset: AtomicU64::new(0),
            taken_before_reset: AtomicU64::new(0),
        }
    }

    #[inline]
    fn add(&self, amount: u64) {
        let added = self.added.fetch_add(amount, Relaxed) + amount;
        // Another thread may have freed since: then the peak was not higher than what it shows.
        let current = added.saturating_sub(self.taken.load(Relaxed));
        if current > self.peak.load(Relaxed) {
            self.peak.fetch_max(current, Relaxed);
        }
    }

    #[inline]
    fn take(&self, amount: u64) {
        self.taken.fetch_add(amount, Relaxed);
    }

    fn current(&self) -> u64 {
        let taken = self.taken.load(Relaxed);
        self.added.load(Relaxed).saturating_sub(taken)
    }

    fn read(&self) -> Count {
        let (added, taken) = (self.added.load(Relaxed), self.taken.load(Relaxed));
        Count {
            current: added.saturating_sub(taken),
            peak: self.peak.load(Relaxed),
            allocated: added.saturating_sub(self.added_before_reset.load(Relaxed)),
            freed: taken.saturating_sub(self.taken_before_reset.load(Relaxed)),
        }
    }

    fn reset_peak(&self) {
        self.peak.store(self.current(), Relaxed);
    }

    fn reset_accumulated(&self) {
        self.added_before_reset.store(self.added.load(Relaxed), Relaxed);
        self.taken_before_reset.store(self.taken.load(Relaxed), Relaxed);
    }
}

static BYTES: Counter = Counter::new();
static BLOCKS: Counter = Counter::new();
static LARGE_BYTES: Counter = Counter::new();
static LARGE_BLOCKS: Counter = Counter::new();
static RESERVED: Counter = Counter::new();
static SEGMENTS: Counter = Counter::new();
static RETRIES: AtomicU64 = AtomicU64::new(0);
static OUT_OF_MEMORY: AtomicU64 = AtomicU64::new(0);

/// PyTorch's line between its small and large pools.
const LARGE: usize = 1 << 20;

#[inline]
pub fn allocated(bytes: usize) {
    BYTES.add(bytes as u64);
    BLOCKS.add(1);
    if bytes >= LARGE {
        LARGE_BYTES.add(bytes as u64);
        LARGE_BLOCKS.add(1);
    }
}

#[inline]
pub fn freed(bytes: usize) {
    BYTES.take(bytes as u64);
    BLOCKS.take(1);
    if bytes >= LARGE {
        LARGE_BYTES.take(bytes as u64);
        LARGE_BLOCKS.take(1);
    }
}

pub fn reserved(bytes: usize) {
    RESERVED.add(bytes as u64);
    SEGMENTS.add(1);
}

pub fn released(bytes: usize) {
    RESERVED.take(bytes as u64);
    SEGMENTS.take(1);
}

pub fn reserved_now() -> usize {
    RESERVED.current() as usize
}

pub fn retried() {
    RETRIES.fetch_add(1, Relaxed);
}

pub fn refused() {
    OUT_OF_MEMORY.fetch_add(1, Relaxed);
}

pub fn read() -> Statistics {
    Statistics {
        bytes: BYTES.read(),
        blocks: BLOCKS.read(),
        large_bytes: LARGE_BYTES.read(),
        large_blocks: LARGE_BLOCKS.read(),
        reserved_bytes: RESERVED.read(),
        segments: SEGMENTS.read(),
        retries: RETRIES.load(Relaxed),
        out_of_memory: OUT_OF_MEMORY.load(Relaxed),
    }
}

const ALL: [&Counter; 6] = [&BYTES, &BLOCKS, &LARGE_BYTES, &LARGE_BLOCKS, &RESERVED, &SEGMENTS];

pub fn reset_peak() {
    ALL.iter().for_each(|counter| counter.reset_peak());
}

pub fn reset_accumulated() {
    ALL.iter().for_each(|counter| counter.reset_accumulated());
    RETRIES.store(0, Relaxed);
    OUT_OF_MEMORY.store(0, Relaxed);
}
