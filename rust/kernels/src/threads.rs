//! The one thread pool: spins briefly, then parks; survives `fork`; never decides a result.
//! Launches between a host's own parallel work run on its workers instead ([`host`]). Workers treat
//! denormal numbers as the launching thread does (`torch.set_flush_denormal`).
//!
//! Work is cut into tasks by its size alone, so results do not depend on the thread count. A task
//! that panics makes [`parallel`] panic on the calling thread, after the other tasks have ended.

mod host;

use std::any::Any;
use std::cell::Cell;
use std::ffi::c_void;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, Once, OnceLock};
use std::thread::Thread;

pub use host::{Enter, join_host, on_host};

/// Threads that a launch may use, the caller's included.
static THREADS: AtomicUsize = AtomicUsize::new(1);
/// Says so in its place, where somebody else keeps the count.
static COUNT: OnceLock<extern "C" fn() -> usize> = OnceLock::new();
/// The pool of this process; null before its first use and in a forked child.
static POOL: AtomicPtr<Pool> = AtomicPtr::new(std::ptr::null_mut());

/// Below this much work for each thread, a hand-off costs more than it saves.
const NANOSECONDS_PER_THREAD: usize = 5_000;
/// Loops that an idle worker spins (some tens of microseconds) before it parks.
const SPINS: usize = 4_000;

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Sets how many threads a launch may use.
pub fn set_num_threads(count: usize) {
    THREADS.store(count.max(1), Ordering::Relaxed);
}

/// Lets `count` say how many threads a launch may use. It is asked on the launching thread, and only
/// where there is work for more than one, so that small launches do not pay for it.
pub fn follow_num_threads(count: extern "C" fn() -> usize) {
    // Whoever comes second has the same count to offer.
    let _ = COUNT.set(count);
}

pub fn num_threads() -> usize {
    COUNT.get().map_or_else(|| THREADS.load(Ordering::Relaxed), |count| count().max(1))
}

/// The bits of MXCSR that say that denormal numbers are zero, as results (FTZ) and as operands (DAZ).
const FLUSHES: u32 = 0x8040;

/// The control word of this thread's floating-point unit.
fn float_mode() -> u32 {
    let mut mode = 0u32;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: it writes four bytes to a number of four.
    unsafe {
        std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut mode, options(nostack, preserves_flags));
    }
    mode
}

/// Flushes denormal numbers on this thread as where `mode` was read.
fn flush_as(mode: u32) {
    let own = float_mode();
    if (own ^ mode) & FLUSHES != 0 {
        let wanted = (own & !FLUSHES) | (mode & FLUSHES);
        #[cfg(target_arch = "x86_64")]
        // SAFETY: it reads four bytes of a number of four, in which no exception is unmasked that was masked.
        unsafe {
            std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const wanted, options(nostack, preserves_flags));
        }
    }
}

struct Job<'a> {
    body: &'a (dyn Fn(usize) + Sync),
    /// The launching thread's.
    float_mode: u32,
    tasks: usize,
    next: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Job<'_> {
    fn work(&self) {
        loop {
            let task = self.next.fetch_add(1, Ordering::Relaxed);
            if task >= self.tasks {
                return;
            }
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| (self.body)(task))) {
                self.next.store(self.tasks, Ordering::Relaxed);
                self.panic.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(payload);
            }
        }
    }
}

/// What the caller and one worker share. `job` is null (idle), a job (offered) or `RUNNING`.
struct Slot {
    job: AtomicPtr<Job<'static>>,
    parked: AtomicBool,
    thread: Thread,
}

const RUNNING: *mut Job<'static> = std::ptr::without_provenance_mut(1);

struct Pool {
    busy: AtomicBool,
    slots: Mutex<Vec<&'static Slot>>,
}

/// Has a forked child know that it is one: the parent's workers do not exist there.
fn watch_forks() {
    static AT_FORK: Once = Once::new();
    extern "C" fn in_child() {
        // Start afresh at the next use.
        POOL.store(std::ptr::null_mut(), Ordering::Release);
        INSIDE.set(false);
        host::in_child();
    }
    AT_FORK.call_once(|| {
        // SAFETY: the handler only stores to atomics and a thread-local.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
}

fn pool() -> &'static Pool {
    let current = POOL.load(Ordering::Acquire);
    if !current.is_null() {
        // SAFETY: a published pool is leaked, so it lives for ever.
        return unsafe { &*current };
    }
    watch_forks();
    let fresh = Box::into_raw(Box::new(Pool { busy: AtomicBool::new(false), slots: Mutex::default() }));
    match POOL.compare_exchange(std::ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire) {
        // SAFETY: published above, never freed.
        Ok(_) => unsafe { &*fresh },
        Err(other) => {
            // SAFETY: `fresh` was not published; `other` was, by another thread.
            unsafe {
                drop(Box::from_raw(fresh));
                &*other
            }
        }
    }
}

fn spawn_worker() -> Option<&'static Slot> {
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::Builder::new()
        .name("rustorch".into())
        .spawn(move || {
            let slot: &'static Slot = Box::leak(Box::new(Slot {
                job: AtomicPtr::default(),
                parked: AtomicBool::new(false),
                thread: std::thread::current(),
            }));
            INSIDE.set(true);
            if send.send(slot).is_ok() {
                serve(slot);
            }
        })
        .ok()?;
    receive.recv().ok()
}

fn serve(slot: &'static Slot) -> ! {
    let mut idle = 0;
    loop {
        let job = slot.job.load(Ordering::Acquire);
        if !job.is_null() && slot.job.compare_exchange(job, RUNNING, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            // SAFETY: the caller keeps the job alive until this slot is null again.
            let offered = unsafe { &*job };
            flush_as(offered.float_mode);
            offered.work();
            slot.job.store(std::ptr::null_mut(), Ordering::Release);
            idle = 0;
            continue;
        }
        idle += 1;
        if idle < SPINS {
            std::hint::spin_loop();
            continue;
        }
        slot.parked.store(true, Ordering::SeqCst);
        if slot.job.load(Ordering::SeqCst).is_null() {
            std::thread::park();
        }
        slot.parked.store(false, Ordering::SeqCst);
        idle = 0;
    }
}

/// Runs `body(task)` for every task below `tasks`, on as many threads as `nanoseconds` (an
/// estimate of the whole work) is worth. Called from inside a task, it runs inline.
#[inline]
pub fn parallel(tasks: usize, nanoseconds: usize, body: impl Fn(usize) + Sync) {
    // Not generic below this line, so that the callers' code is compiled with the callers.
    share(tasks, nanoseconds, &body);
}

fn share(tasks: usize, nanoseconds: usize, body: &(dyn Fn(usize) + Sync)) {
    let worth = tasks.min(nanoseconds / NANOSECONDS_PER_THREAD);
    // Asked once a launch: the answer is PyTorch's.
    let all = if worth <= 1 || INSIDE.get() { 1 } else { num_threads() };
    let threads = worth.min(all);
    if threads <= 1 {
        return (0..tasks).for_each(body);
    }
    let pool = pool();
    if pool.busy.swap(true, Ordering::Acquire) {
        // Another thread has the pool: waiting would cost more than doing the work here.
        return (0..tasks).for_each(body);
    }
    let panic = {
        let job = Job { body, float_mode: float_mode(), tasks, next: AtomicUsize::new(0), panic: Mutex::new(None) };
        match host::door(all) {
            Some(enter) => run_on_host(enter, all, &job),
            None => run(pool, threads, &job),
        }
        job.panic.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
    };
    pool.busy.store(false, Ordering::Release);
    if let Some(payload) = panic {
        resume_unwind(payload);
    }
}

/// Works on `job` with the host's team, which is entered whole: those that find no task leave at once.
fn run_on_host(enter: Enter, threads: usize, job: &Job<'_>) {
    extern "C" fn work(job: *mut c_void) {
        // SAFETY: the caller keeps the job alive until every thread has left.
        let job = unsafe { &*job.cast::<Job<'static>>().cast_const() };
        let own_mode = float_mode();
        let was_inside = INSIDE.replace(true);
        flush_as(job.float_mode);
        job.work();
        flush_as(own_mode);
        INSIDE.set(was_inside);
    }
    // SAFETY: whoever registered it promised what `Enter` asks; `work` does not unwind, since a job
    // catches what its tasks throw.
    unsafe { enter(work, std::ptr::from_ref(job).cast_mut().cast(), threads as u32, 0) };
}

fn run(pool: &Pool, threads: usize, job: &Job<'_>) {
    // Only the thread that holds `busy` locks this, so it never waits.
    let mut slots = pool.slots.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    while slots.len() < threads - 1 {
        match spawn_worker() {
            Some(slot) => slots.push(slot),
            None => break,
        }
    }
    let helpers = &slots[..slots.len().min(threads - 1)];
    let offered = std::ptr::from_ref(job).cast::<Job<'static>>().cast_mut();
    for slot in helpers {
        slot.job.store(offered, Ordering::SeqCst);
        if slot.parked.load(Ordering::SeqCst) {
            slot.thread.unpark();
        }
    }
    INSIDE.set(true);
    job.work();
    INSIDE.set(false);
    for slot in helpers {
        // A worker that has not begun (it was parked) is not waited for: the offer is withdrawn.
        if slot.job.compare_exchange(offered, std::ptr::null_mut(), Ordering::AcqRel, Ordering::Acquire).is_ok() {
            continue;
        }
        let mut spins = 0;
        while !slot.job.load(Ordering::Acquire).is_null() {
            spins += 1;
            if spins < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
    }
}

/// Cuts `0..count` into chunks of `chunk` (the last may be shorter) and runs them in parallel.
/// `nanoseconds` estimates the whole.
#[inline]
pub fn parallel_chunks(count: usize, chunk: usize, nanoseconds: usize, body: impl Fn(Range<usize>) + Sync) {
    share_chunks(count, chunk, nanoseconds, &body);
}

fn share_chunks(count: usize, chunk: usize, nanoseconds: usize, body: &(dyn Fn(Range<usize>) + Sync)) {
    let chunk = chunk.max(1);
    share(count.div_ceil(chunk), nanoseconds, &|task| {
        let start = task * chunk;
        body(start..(start + chunk).min(count));
    });
}
