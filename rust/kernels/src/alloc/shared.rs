//! The part of the pool that threads share, under one lock.

use std::cell::UnsafeCell;
use std::collections::{BTreeMap, HashMap};
use std::ptr::NonNull;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use super::system::{self, HUGE_PAGE, limit, map, round_to_page, unmap};
use super::{HEADER, Header, List, classes};
use crate::fallible::Collected;

/// Blocks from this size on are large.
pub const LARGE_FROM: usize = HUGE_PAGE;
const SLAB: usize = HUGE_PAGE;

pub static SHARED: Shared = Shared { locked: AtomicBool::new(false), state: UnsafeCell::new(State::new()) };

/// A spin lock around the state: it is held for list operations only (never over a system call
/// that maps large memory), and it can be taken before a fork and given back on both sides.
pub struct Shared {
    locked: AtomicBool,
    state: UnsafeCell<State>,
}

// SAFETY: the state is reached under the lock alone.
unsafe impl Sync for Shared {}

struct State {
    free: [List; classes::COUNT],
    /// Where the next small block is carved, and the end of its slab.
    carve: (usize, usize),
    /// Blocks carved from each slab, by the slab's address.
    slabs: Option<HashMap<usize, usize>>,
    /// Live large blocks: length of the mapping and bytes asked for, by address.
    live: Option<HashMap<usize, (usize, usize)>>,
    /// Free large blocks: addresses by length of the mapping.
    large: BTreeMap<usize, Vec<usize>>,
    large_bytes: usize,
}

// SAFETY: the pointers are to blocks that the state owns.
unsafe impl Send for State {}

impl State {
    const fn new() -> Self {
        Self {
            free: [List::EMPTY; classes::COUNT],
            carve: (0, 0),
            slabs: None,
            live: None,
            large: BTreeMap::new(),
            large_bytes: 0,
        }
    }

    /// Carves a block of a small class, or None where the system has no slab to give.
    fn carve(&mut self, class: usize) -> Option<*mut Header> {
        let length = HEADER + classes::bytes(class);
        let (mut at, mut end) = self.carve;
        if end - at < length {
            let slab = map(SLAB, HUGE_PAGE)? as usize;
            // Its first header keeps blocks off the boundary where large ones begin.
            (at, end) = (slab, slab + SLAB);
            self.slabs.get_or_insert_default().insert(slab, 0);
        }
        self.carve = (at + length, end);
        *self.slabs.get_or_insert_default().entry(at / SLAB * SLAB).or_default() += 1;
        Some(new_header(at, class))
    }

    /// Takes every slab that is wholly free out of the lists.
    fn free_slabs(&mut self) -> Vec<usize> {
        let Some(slabs) = &mut self.slabs else { return Vec::new() };
        let mut free: HashMap<usize, usize> = HashMap::new();
        let slab_of = |header: *mut Header| header as usize / SLAB * SLAB;
        for list in &self.free[..classes::SMALL] {
            each(*list, |header| *free.entry(slab_of(header)).or_default() += 1);
        }
        let current = self.carve.1.saturating_sub(SLAB);
        let whole = |slab: usize| slab != current && free.get(&slab) == slabs.get(&slab);
        let released: Vec<usize> = slabs.keys().copied().filter(|&slab| whole(slab)).collected();
        for list in &mut self.free[..classes::SMALL] {
            let mut kept = List::EMPTY;
            each(*list, |header| {
                if !released.contains(&slab_of(header)) {
                    kept.push(header);
                }
            });
            *list = kept;
        }
        for slab in &released {
            slabs.remove(slab);
        }
        released
    }
}

/// Visits a list's headers; the visitor may relink them.
fn each(list: List, mut visit: impl FnMut(*mut Header)) {
    let mut at = list.first;
    while !at.is_null() {
        // SAFETY: headers in a list are valid.
        let next = unsafe { (*at).next };
        visit(at);
        at = next;
    }
}

fn new_header(at: usize, class: usize) -> *mut Header {
    let header = at as *mut Header;
    // SAFETY: the caller carved these bytes for it.
    unsafe { header.write(Header { class: class as u32, requested: 0, next: std::ptr::null_mut() }) };
    header
}

fn medium_length(class: usize) -> usize {
    round_to_page(HEADER + classes::bytes(class))
}

/// The length of a large block's mapping: eight steps an octave, so that near sizes share blocks.
fn large_length(bytes: usize) -> Option<usize> {
    let step = (1usize << bytes.checked_sub(1)?.ilog2()) / 8;
    bytes.checked_next_multiple_of(step).map(round_to_page)
}

impl Shared {
    fn lock(&self) {
        let mut spins = 0;
        while self.locked.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            spins += 1;
            if spins < 100 { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
    }

    fn unlock(&self) {
        self.locked.store(false, Ordering::Release);
    }

    fn with<R>(&self, body: impl FnOnce(&mut State) -> R) -> R {
        struct Unlock<'a>(&'a Shared);
        impl Drop for Unlock<'_> {
            fn drop(&mut self) {
                self.0.unlock();
            }
        }
        static AT_FORK: Once = Once::new();
        AT_FORK.call_once(|| {
            extern "C" fn before() {
                SHARED.lock();
            }
            extern "C" fn after() {
                SHARED.unlock();
            }
            // SAFETY: the handlers only take and give the lock.
            unsafe { libc::pthread_atfork(Some(before), Some(after), Some(after)) };
        });
        self.lock();
        let _unlock = Unlock(self);
        // SAFETY: the lock is held.
        body(unsafe { &mut *self.state.get() })
    }

    /// Moves up to `count` free blocks of a small class into `list`; at least one where memory is.
    pub fn take_small(&self, class: usize, list: &mut List, count: usize) {
        self.with(|state| {
            while list.length < count {
                let header = state.free[class].pop().or_else(|| state.carve(class));
                let Some(header) = header else { return };
                list.push(header);
            }
        });
    }

    pub fn take_medium(&self, class: usize) -> Option<*mut Header> {
        self.with(|state| state.free[class].pop())
            .or_else(|| Some(new_header(map(medium_length(class), 4 << 10)? as usize, class)))
    }

    /// Takes `count` blocks of `list` back.
    pub fn give(&self, class: usize, list: &mut List, count: usize) {
        if count == 0 {
            return;
        }
        self.with(|state| {
            for _ in 0..count {
                let Some(header) = list.pop() else { return };
                state.free[class].push(header);
            }
        });
    }

    pub fn take_large(&self, bytes: usize) -> Option<NonNull<u8>> {
        let length = large_length(bytes)?;
        let cached = self.with(|state| {
            // A quarter more than needed is better than a fresh mapping with its page faults.
            let (&found, addresses) = state.large.range_mut(length..=length + length / 4).next()?;
            let address = addresses.pop()?;
            if addresses.is_empty() {
                state.large.remove(&found);
            }
            state.large_bytes -= found;
            state.live.get_or_insert_default().insert(address, (found, bytes));
            Some(address)
        });
        let address = match cached {
            Some(address) => address,
            None => {
                let address = map(length, HUGE_PAGE)? as usize;
                self.with(|state| state.live.get_or_insert_default().insert(address, (length, bytes)));
                address
            }
        };
        NonNull::new(address as *mut u8)
    }

    /// Takes a large block back; gives the bytes that were asked for.
    pub fn give_large(&self, block: NonNull<u8>) -> usize {
        let address = block.as_ptr() as usize;
        let (length, requested, cached) = self.with(|state| {
            let live = state.live.as_mut().and_then(|live| live.remove(&address));
            let (length, requested) = live.expect("a freed large block is live");
            // More cache than this is better off with the system.
            let cached = state.large_bytes + length <= limit() / 4;
            if cached {
                state.large.entry(length).or_default().push(address);
                state.large_bytes += length;
            }
            (length, requested, cached)
        });
        if !cached {
            // SAFETY: the block was the caller's to free, and no list holds it.
            unsafe { system::unmap(block.as_ptr(), length) };
        }
        requested
    }

    /// Returns free mappings to the system.
    pub fn release(&self) {
        let (slabs, medium, large) = self.with(|state| {
            let slabs = state.free_slabs();
            let medium: [(usize, List); classes::COUNT - classes::SMALL] = std::array::from_fn(|at| {
                let class = classes::SMALL + at;
                (class, std::mem::replace(&mut state.free[class], List::EMPTY))
            });
            state.large_bytes = 0;
            (slabs, medium, std::mem::take(&mut state.large))
        });
        // SAFETY: all of these were taken out of the lists, so nothing refers to them.
        unsafe {
            for slab in slabs {
                unmap(slab as *mut u8, SLAB);
            }
            for (class, list) in medium {
                each(list, |header| unmap(header.cast(), medium_length(class)));
            }
            for (length, addresses) in large {
                for address in addresses {
                    unmap(address as *mut u8, length);
                }
            }
        }
    }
}
