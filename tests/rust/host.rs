//! Launches on the workers of the program around: here a host that starts threads for each call.

use std::cell::Cell;
use std::collections::HashSet;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ThreadId;

use rustorch_kernels::threads;

const THREADS: usize = 3;
const LONG: usize = 1_000_000_000;

static ENTERED: AtomicUsize = AtomicUsize::new(0);
/// The tests share the host, the pool and the count of threads.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

thread_local! {
    static OF_HOST: Cell<bool> = const { Cell::new(false) };
}

extern "C" fn enter(body: extern "C" fn(*mut c_void), data: *mut c_void, threads: u32, flags: u32) {
    assert_eq!((threads as usize, flags), (THREADS, 0));
    ENTERED.fetch_add(1, Ordering::SeqCst);
    let data = data.expose_provenance();
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(move || {
                OF_HOST.set(true);
                body(std::ptr::with_exposed_provenance_mut(data));
            });
        }
        body(std::ptr::with_exposed_provenance_mut(data));
    });
}

fn join() -> std::sync::MutexGuard<'static, ()> {
    let guard = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    // SAFETY: `enter` calls the body on as many threads as it is asked for, and waits for them.
    unsafe { threads::join_host(enter) };
    threads::set_num_threads(THREADS);
    ENTERED.store(0, Ordering::SeqCst);
    guard
}

/// Tasks that wait for one another, so that as many threads as there are take one each.
fn meet(tasks: usize) -> (HashSet<ThreadId>, usize) {
    let (seen, of_host, arrived) = (Mutex::new(HashSet::new()), AtomicUsize::new(0), AtomicUsize::new(0));
    threads::parallel(tasks, LONG, |_| {
        seen.lock().unwrap().insert(std::thread::current().id());
        of_host.fetch_add(usize::from(OF_HOST.get()), Ordering::SeqCst);
        arrived.fetch_add(1, Ordering::SeqCst);
        while arrived.load(Ordering::SeqCst) < tasks {
            std::thread::yield_now();
        }
    });
    (seen.into_inner().unwrap(), of_host.into_inner())
}

#[test]
fn launches_run_on_the_host_only_where_wanted() {
    let _guard = join();
    let (threads, of_host) = threads::on_host(true, || meet(THREADS));
    assert_eq!((threads.len(), of_host, ENTERED.load(Ordering::SeqCst)), (THREADS, THREADS - 1, 1));
    let (threads, of_host) = threads::on_host(true, || threads::on_host(false, || meet(THREADS)));
    assert_eq!((threads.len(), of_host), (THREADS, 0));
    let (threads, of_host) = meet(THREADS);
    assert_eq!((threads.len(), of_host, ENTERED.load(Ordering::SeqCst)), (THREADS, 0, 1));
}

#[test]
fn small_and_nested_work_stays_on_its_thread() {
    let _guard = join();
    threads::on_host(true, || {
        threads::parallel(THREADS, 1, |_| assert!(!OF_HOST.get()));
        assert_eq!(ENTERED.load(Ordering::SeqCst), 0);
        threads::parallel(THREADS, LONG, |_| {
            let outer = std::thread::current().id();
            threads::parallel(THREADS, LONG, |_| assert_eq!(std::thread::current().id(), outer));
        });
    });
    assert_eq!(ENTERED.load(Ordering::SeqCst), 1);
}

#[test]
fn every_task_runs_once() {
    let _guard = join();
    for tasks in [2, 3, 7, 1000] {
        let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
        threads::on_host(true, || {
            threads::parallel(tasks, LONG, |task| {
                counts[task].fetch_add(1, Ordering::SeqCst);
            });
        });
        assert!(counts.iter().all(|count| count.load(Ordering::SeqCst) == 1));
    }
}

#[test]
fn a_panic_reaches_the_caller_and_the_next_launch_is_well() {
    let _guard = join();
    let payload = catch_unwind(AssertUnwindSafe(|| {
        threads::on_host(true, || threads::parallel(100, LONG, |task| assert!(task != 40, "task {task}")));
    }));
    assert_eq!(*payload.unwrap_err().downcast::<String>().unwrap(), "task 40");
    let (threads, of_host) = meet(THREADS);
    assert_eq!((threads.len(), of_host), (THREADS, 0), "a panic passed on what was wanted within");
    let (_, of_host) = threads::on_host(true, || meet(THREADS));
    assert_eq!(of_host, THREADS - 1);
}

#[test]
fn a_forked_child_has_a_pool_of_its_own() {
    let _guard = join();
    threads::on_host(true, || meet(THREADS));
    // SAFETY: the child uses what the library promises to work there, and leaves without unwinding.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let done = catch_unwind(|| threads::on_host(true, || meet(THREADS)));
        let well = done.is_ok_and(|(threads, of_host)| threads.len() == THREADS && of_host == 0);
        // SAFETY: as above.
        unsafe { libc::_exit(i32::from(!well)) };
    }
    let mut status = 0;
    // SAFETY: waits for the child made above.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!((waited, status), (child, 0));
}
