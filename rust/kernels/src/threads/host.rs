//! Threads of the program around us: torch's OpenMP workers.
//!
//! Between two of our programs, a model on the CPU runs PyTorch's own kernels (its loss, its
//! optimizer), and their workers then spin for milliseconds, waiting for more, on the cores that our
//! pool needs. Launches of such a model therefore run on those workers. They are a team of each thread
//! that launches; a team is entered whole, so that its size never changes.
//!
//! OpenMP ends the process where a thread cannot start, so a team is entered only once as many threads
//! were seen to start; and it hangs in a forked child, where our own pool serves.

use std::cell::Cell;
use std::ffi::c_void;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Runs a function on so many threads at once, the calling one among them, and returns when it has
/// returned on all: libgomp's `GOMP_parallel`, which LLVM's and Intel's OpenMP have as well. The last
/// argument is zero.
pub type Enter = unsafe extern "C" fn(extern "C" fn(*mut c_void), *mut c_void, u32, u32);

static ENTER: OnceLock<Enter> = OnceLock::new();
/// In a forked child there are no workers behind the host's team.
static FORKED: AtomicBool = AtomicBool::new(false);

thread_local! {
    static WANTED: Cell<bool> = const { Cell::new(false) };
    static TEAM: Cell<Team> = const { Cell::new(Team::Unknown) };
}

/// What is known of this thread's team.
#[derive(Clone, Copy)]
enum Team {
    Unknown,
    /// So many threads can be had, this one included.
    Startable(usize),
    /// So many could not.
    Refused(usize),
}

/// Lets launches run on the host's workers, within [`on_host`].
///
/// # Safety
/// `enter` does what [`Enter`] says, from any thread.
pub unsafe fn join_host(enter: Enter) {
    // Whoever comes second has the same workers to offer.
    let _ = ENTER.set(enter);
}

/// Runs `body`, whose launches go to the host's workers where `wanted` and where there are some.
pub fn on_host<R>(wanted: bool, body: impl FnOnce() -> R) -> R {
    /// Sets it back when a panic passes too.
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            WANTED.set(self.0);
        }
    }
    let _restore = Restore(WANTED.replace(wanted));
    body()
}

/// What a forked child has to know.
pub(super) fn in_child() {
    FORKED.store(true, Ordering::Relaxed);
}

/// The door to the host's workers, where launches of this thread are to take it with `threads`.
pub(super) fn door(threads: usize) -> Option<Enter> {
    if !WANTED.get() || FORKED.load(Ordering::Relaxed) {
        return None;
    }
    let enter = *ENTER.get()?;
    let team = match TEAM.get() {
        Team::Startable(count) if count >= threads => return Some(enter),
        Team::Refused(count) if count <= threads => return None,
        _ if can_start(threads - 1) => Team::Startable(threads),
        _ => Team::Refused(threads),
    };
    TEAM.set(team);
    matches!(team, Team::Startable(_)).then_some(enter)
}

/// Whether `count` more threads can be had at once. Their stacks, of the size that OpenMP's threads
/// have, are kept by the C library, so that those find them.
fn can_start(count: usize) -> bool {
    let stack = default_stack_bytes();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Arc::new(std::sync::Mutex::new(wait));
    let mut threads = Vec::new();
    while threads.len() < count {
        let wait = wait.clone();
        let body = move || {
            // Until the sender is dropped.
            let _ = wait.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).recv();
        };
        match std::thread::Builder::new().stack_size(stack).spawn(body) {
            Ok(thread) => threads.push(thread),
            Err(_) => break,
        }
    }
    drop(go);
    let started = threads.len();
    for thread in threads {
        // It cannot panic.
        let _ = thread.join();
    }
    started == count
}

/// The size of a thread's stack, where its maker does not say.
fn default_stack_bytes() -> usize {
    const USUAL: usize = 8 << 20;
    let mut attributes = std::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
    let mut bytes = 0;
    // SAFETY: the attributes are made by the first call, read by the second and freed by the third.
    unsafe {
        if libc::pthread_attr_init(attributes.as_mut_ptr()) != 0 {
            return USUAL;
        }
        if libc::pthread_attr_getstacksize(attributes.as_ptr(), &raw mut bytes) != 0 {
            bytes = USUAL;
        }
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
    }
    bytes
}
