//! The memory pool: alignment, reuse, statistics, refusal, threads, fork.

use std::ptr::NonNull;
use std::sync::Mutex;

use rustorch_kernels::alloc::{self, ALIGNMENT, Statistics};
use rustorch_kernels::error::{Error, Kind};

/// The statistics are of the process, so the tests take turns.
static TURN: Mutex<()> = Mutex::new(());

fn in_turn(test: impl FnOnce()) {
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    test();
}

fn allocate(bytes: usize) -> NonNull<u8> {
    alloc::allocate(bytes).unwrap_or_else(|error| panic!("allocate({bytes}): {error}"))
}

fn free_all(blocks: impl IntoIterator<Item = NonNull<u8>>) {
    for block in blocks {
        free(block);
    }
}

fn free(block: NonNull<u8>) -> usize {
    // SAFETY: the tests free what they allocated, once.
    unsafe { alloc::free(block) }
}

/// Writes the whole block and reads it back.
fn fill(block: NonNull<u8>, bytes: usize, value: u8) {
    // SAFETY: the block holds `bytes`.
    unsafe {
        block.as_ptr().write_bytes(value, bytes);
        assert_eq!(block.as_ptr().read(), value);
        assert_eq!(block.as_ptr().add(bytes - 1).read(), value);
    }
}

const SIZES: [usize; 22] = [
    1,
    40,
    63,
    64,
    65,
    511,
    512,
    513,
    577,
    4096,
    5000,
    32 << 10,
    (32 << 10) + 1,
    100_003,
    (1 << 20) - 1,
    1 << 20,
    (2 << 20) - 64,
    (2 << 20) - 1,
    2 << 20,
    (2 << 20) + 1,
    5_000_011,
    16 << 20,
];

#[test]
fn blocks_are_aligned_whole_and_apart() {
    in_turn(|| {
        let blocks: Vec<_> =
            SIZES.iter().flat_map(|&bytes| [(allocate(bytes), bytes), (allocate(bytes), bytes)]).collect();
        for (at, &(block, bytes)) in blocks.iter().enumerate() {
            assert_eq!(block.as_ptr() as usize % ALIGNMENT, 0, "{bytes} bytes");
            fill(block, bytes, at as u8);
        }
        for (at, &(block, bytes)) in blocks.iter().enumerate() {
            // SAFETY: the block holds `bytes`.
            let held = unsafe { std::slice::from_raw_parts(block.as_ptr(), bytes) };
            assert!(held.iter().all(|&byte| byte == at as u8), "{bytes} bytes were written by another block");
        }
        for (block, bytes) in blocks {
            assert_eq!(free(block), bytes);
        }
    });
}

#[test]
fn every_size_near_a_class_boundary_fits() {
    in_turn(|| {
        for octave in 6..21 {
            for eighth in 8..16 {
                let middle: usize = (eighth << octave) / 8;
                for bytes in [middle - 1, middle, middle + 1] {
                    let block = allocate(bytes);
                    fill(block, bytes, 7);
                    assert_eq!(free(block), bytes);
                }
            }
        }
    });
}

#[test]
fn large_blocks_begin_on_a_huge_page() {
    in_turn(|| {
        let block = allocate(3 << 20);
        assert_eq!(block.as_ptr() as usize % (2 << 20), 0);
        free(block);
    });
}

#[test]
fn freed_memory_is_used_again() {
    in_turn(|| {
        for bytes in SIZES {
            let first = allocate(bytes);
            free(first);
            let reserved = alloc::statistics().reserved_bytes.current;
            let second = allocate(bytes);
            assert_eq!(first, second, "{bytes} bytes");
            assert_eq!(alloc::statistics().reserved_bytes.current, reserved);
            free(second);
        }
    });
}

#[test]
fn statistics_are_exact() {
    in_turn(|| {
        alloc::reset_accumulated();
        alloc::reset_peak();
        let Statistics { bytes: before, blocks: blocks_before, .. } = alloc::statistics();
        let blocks = [allocate(100), allocate(3_000_000)];
        let during = alloc::statistics();
        assert_eq!(during.bytes.current - before.current, 3_000_100);
        assert_eq!(during.bytes.allocated, 3_000_100);
        assert_eq!(during.blocks.current - blocks_before.current, 2);
        assert_eq!(during.large_bytes.allocated, 3_000_000);
        assert_eq!(during.large_blocks.allocated, 1);
        assert!(during.reserved_bytes.current >= during.bytes.current);
        free_all(blocks);
        let after = alloc::statistics();
        assert_eq!(after.bytes.current, before.current);
        assert_eq!(after.bytes.peak, before.current + 3_000_100);
        assert_eq!(after.bytes.freed, 3_000_100);
        alloc::reset_peak();
        assert_eq!(alloc::statistics().bytes.peak, before.current);
        alloc::reset_accumulated();
        let reset = alloc::statistics();
        assert_eq!((reset.bytes.allocated, reset.bytes.freed), (0, 0));
        assert_eq!(reset.bytes.current, before.current);
    });
}

#[test]
fn adopted_memory_counts() {
    in_turn(|| {
        let before = alloc::statistics();
        alloc::adopt(1000);
        let during = alloc::statistics();
        assert_eq!(during.bytes.current, before.bytes.current + 1000);
        assert_eq!(during.reserved_bytes.current, before.reserved_bytes.current + 1000);
        alloc::disown(1000);
        assert_eq!(alloc::statistics().bytes.current, before.bytes.current);
    });
}

#[test]
fn emptying_the_cache_returns_what_is_free_and_only_that() {
    in_turn(|| {
        alloc::empty_cache();
        let kept = allocate(20_000);
        fill(kept, 20_000, 9);
        let reserved = alloc::statistics().reserved_bytes.current;
        let many: Vec<_> = (0..400).map(|_| allocate(30_000)).collect();
        let others = [allocate(500_000), allocate(9_000_000)];
        assert!(alloc::statistics().reserved_bytes.current > reserved + 400 * 30_000);
        free_all(many);
        free_all(others);
        alloc::empty_cache();
        let after = alloc::statistics().reserved_bytes.current;
        // The slab that is being carved may stay.
        assert!(after <= reserved + (2 << 20), "{after} bytes stay of {reserved}");
        fill(kept, 20_000, 10);
        free(kept);
    });
}

#[test]
fn what_cannot_be_had_is_refused_with_its_size() {
    in_turn(|| {
        let before = alloc::statistics();
        for bytes in [1 << 60, usize::MAX - 5, usize::MAX] {
            let error = alloc::allocate(bytes).expect_err("no machine has this much");
            assert!(matches!(error, Error::OutOfMemory { bytes: asked } if asked == bytes));
            assert_eq!(error.kind(), Kind::OutOfMemory);
            assert!(error.to_string().contains(" out of memory."), "{error}");
        }
        let after = alloc::statistics();
        assert_eq!(after.out_of_memory, before.out_of_memory + 3);
        assert_eq!(after.retries, before.retries + 3);
        assert_eq!(after.bytes.current, before.bytes.current);
        let block = allocate(64);
        free(block);
    });
}

#[test]
fn cached_memory_is_given_back_before_a_refusal() {
    in_turn(|| {
        // Two blocks of 1/8 of the limit, cached (untouched, so no memory is used); then one of
        // 9/10, for which there is room only when those are returned.
        let limit = alloc::limit();
        if limit > 1 << 46 {
            return;
        }
        let blocks = [allocate(limit / 8), allocate(limit / 8)];
        free_all(blocks);
        let Ok(block) = alloc::allocate(limit / 10 * 9) else {
            // The system itself may refuse, being busy; what matters is that the cache is gone.
            assert!(alloc::statistics().reserved_bytes.current < (limit / 8) as u64);
            return;
        };
        free(block);
        alloc::empty_cache();
    });
}

#[test]
fn threads_free_what_others_allocated() {
    in_turn(|| {
        let before = alloc::statistics().bytes.current;
        std::thread::scope(|scope| {
            let (send, receive) = std::sync::mpsc::channel::<(usize, usize)>();
            scope.spawn(move || {
                for round in 0..20_000 {
                    let bytes = SIZES[round % 15];
                    let block = allocate(bytes);
                    // SAFETY: the block holds a byte at least.
                    unsafe { block.as_ptr().write(round as u8) };
                    send.send((block.as_ptr() as usize, round)).expect("the other thread listens");
                }
            });
            scope.spawn(move || {
                for (address, round) in receive {
                    let block = NonNull::new(address as *mut u8).expect("blocks are not null");
                    // SAFETY: the sender wrote it and gave it away.
                    assert_eq!(unsafe { block.as_ptr().read() }, round as u8);
                    assert_eq!(free(block), SIZES[round % 15]);
                }
            });
        });
        assert_eq!(alloc::statistics().bytes.current, before);
    });
}

#[test]
fn a_forked_child_allocates_while_threads_of_the_parent_do() {
    in_turn(|| {
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        let blocks: Vec<_> = (0..200).map(|_| allocate(20_000)).collect();
                        free_all(blocks);
                    }
                });
            }
            for _ in 0..20 {
                // SAFETY: the child only uses the pool and ends itself.
                let child = unsafe { libc::fork() };
                if child == 0 {
                    let blocks: [_; 50] = std::array::from_fn(|_| allocate(20_000));
                    blocks.iter().for_each(|&block| fill(block, 20_000, 3));
                    free_all(blocks);
                    // SAFETY: ends the child without running the parent's exit handlers.
                    unsafe { libc::_exit(0) };
                }
                let mut status = 0;
                // SAFETY: `child` is ours to wait for.
                assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
                assert_eq!(status, 0);
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    });
}

/// Not a benchmark: it catches a lock or a system call on the way of small blocks.
#[test]
fn small_blocks_are_cheap() {
    in_turn(|| {
        const ROUNDS: u32 = 10_000;
        let best = (0..50)
            .map(|_| {
                let start = std::time::Instant::now();
                for _ in 0..ROUNDS {
                    free(std::hint::black_box(allocate(40)));
                }
                start.elapsed() / ROUNDS
            })
            .min()
            .expect("there were rounds");
        println!("allocate and free: {best:?}");
        assert!(best.as_nanos() < 500, "{best:?}");
    });
}
