//! What kernels take while someone profiles: time, bytes and floating-point operations.
//!
//! [`crate::ops::launch`] and the runner of programs ask [`is_on`] once a launch: off, that is one load
//! and one branch. On, a launch adds to its kernel's totals, and leaves an [`Event`] where a timeline
//! is wanted. Both are kept a thread, so that threads do not wait for each other.

pub mod roofline;

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Instant, SystemTime};

use crate::dtype::DType;
use crate::error::Result;
use crate::fallible::Collected;
use crate::view::View;

/// What someone profiles for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Sums a kernel.
    Totals,
    /// Every launch with its moment and its shapes.
    Timeline,
}

/// A kernel as a profile shows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kernel {
    pub name: Cow<'static, str>,
    /// The nodes of a compiled graph that it came from, with the user's lines.
    pub source: Option<Arc<str>>,
}

/// Sums over a kernel's launches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub calls: u64,
    pub nanoseconds: u64,
    pub bytes: u64,
    pub flops: u64,
}

/// One launch.
#[derive(Clone, Debug)]
pub struct Event {
    pub kernel: Kernel,
    /// Since the Unix epoch, in nanoseconds.
    pub start: u64,
    pub totals: Totals,
    pub written: Vec<Shape>,
    pub read: Vec<Shape>,
    /// The thread that launched it: a number of ours.
    pub thread: u64,
    /// What [`push_correlation`] said last on this thread, or zero.
    pub correlation: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    pub sizes: Vec<i64>,
    pub dtype: DType,
}

#[derive(Default)]
struct Buffer {
    thread: u64,
    totals: HashMap<Kernel, Totals>,
    events: Vec<Event>,
}

const TOTALS: u8 = 1;
const TIMELINE: u8 = 2;

/// Which of `TOTALS` and `TIMELINE` someone wants.
static ON: AtomicU8 = AtomicU8::new(0);
/// How many want the one, and the other.
static WATCHERS: Mutex<(usize, usize)> = Mutex::new((0, 0));
/// Every thread's buffer; those of threads that have ended stay, for what they hold.
static BUFFERS: Mutex<Vec<Arc<Mutex<Buffer>>>> = Mutex::new(Vec::new());

thread_local! {
    static BUFFER: Arc<Mutex<Buffer>> = {
        let mut buffers = locked(&BUFFERS);
        let buffer = Arc::new(Mutex::new(Buffer { thread: buffers.len() as u64, ..Buffer::default() }));
        buffers.push(Arc::clone(&buffer));
        buffer
    };
    static SOURCE: RefCell<Option<Arc<str>>> = const { RefCell::new(None) };
    static CORRELATIONS: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn watch(change: impl FnOnce(&mut (usize, usize))) {
    let mut watchers = locked(&WATCHERS);
    change(&mut watchers);
    let on = if watchers.0 > 0 { TOTALS } else { 0 } | if watchers.1 > 0 { TIMELINE } else { 0 };
    ON.store(on, Ordering::Relaxed);
}

/// Begins to watch; [`stop`] ends it. Watches may overlap.
pub fn start(wanted: Watch) {
    watch(|watchers| match wanted {
        Watch::Totals => watchers.0 += 1,
        Watch::Timeline => watchers.1 += 1,
    });
}

pub fn stop(wanted: Watch) {
    watch(|watchers| match wanted {
        Watch::Totals => watchers.0 = watchers.0.saturating_sub(1),
        Watch::Timeline => watchers.1 = watchers.1.saturating_sub(1),
    });
}

/// Whether someone profiles.
#[inline(always)]
pub fn is_on() -> bool {
    ON.load(Ordering::Relaxed) != 0
}

/// Every kernel's sums since the process began, over the times when someone watched: a profile is
/// the difference of two.
pub fn totals() -> HashMap<Kernel, Totals> {
    let mut sums: HashMap<Kernel, Totals> = HashMap::new();
    for buffer in locked(&BUFFERS).iter() {
        for (kernel, totals) in &locked(buffer).totals {
            sums.entry(kernel.clone()).or_default().add(totals);
        }
    }
    sums
}

/// Takes the launches of the timeline so far, in the order of their beginning.
pub fn take_events() -> Vec<Event> {
    let mut events: Vec<Event> =
        locked(&BUFFERS).iter().flat_map(|buffer| std::mem::take(&mut locked(buffer).events)).collected();
    events.sort_by_key(|event| event.start);
    events
}

/// Ties this thread's next launches to an event of another profiler.
pub fn push_correlation(id: u64) {
    CORRELATIONS.with_borrow_mut(|ids| ids.push(id));
}

pub fn pop_correlation() {
    CORRELATIONS.with_borrow_mut(Vec::pop);
}

/// Runs `body`, whose launches came from `source`.
pub fn within<R>(source: Option<Arc<str>>, body: impl FnOnce() -> R) -> R {
    let before = SOURCE.replace(source);
    let done = body();
    SOURCE.set(before);
    done
}

impl Totals {
    fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.nanoseconds += other.nanoseconds;
        self.bytes += other.bytes;
        self.flops += other.flops;
    }
}

/// The bytes of the elements that a view has; one that is repeated (a stride of zero) counts once.
fn bytes(view: &View<'_>) -> u64 {
    if !view.is_present() {
        return 0;
    }
    let distinct = view.sizes().iter().zip(view.strides()).filter(|&(&size, &stride)| stride != 0 || size == 0);
    distinct.map(|(&size, _)| size as u64).product::<u64>() * view.dtype().size() as u64
}

/// Runs a launch and notes what it took, where it succeeds. The first `outputs` views are written;
/// `flops` is asked after the launch, which has checked the views.
#[cold]
pub fn timed(
    name: impl Into<Cow<'static, str>>,
    views: &[View<'_>],
    launch: impl FnOnce() -> Result<()>,
    outputs: impl FnOnce() -> usize,
    flops: impl FnOnce(&[View<'_>], &[View<'_>]) -> u64,
) -> Result<()> {
    let start = SystemTime::now();
    let clock = Instant::now();
    launch()?;
    let nanoseconds = clock.elapsed().as_nanos() as u64;
    let (written, read) = views.split_at(outputs().min(views.len()));
    let totals = Totals { calls: 1, nanoseconds, bytes: views.iter().map(bytes).sum(), flops: flops(written, read) };
    let kernel = Kernel { name: name.into(), source: SOURCE.with_borrow(Clone::clone) };
    let on = ON.load(Ordering::Relaxed);
    BUFFER.with(|buffer| {
        let mut buffer = locked(buffer);
        if on & TIMELINE != 0 {
            let shapes = |views: &[View<'_>]| {
                let present = views.iter().filter(|view| view.is_present());
                present.map(|view| Shape { sizes: view.sizes().to_vec(), dtype: view.dtype() }).collected()
            };
            let event = Event {
                kernel: kernel.clone(),
                start: start.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64),
                totals,
                written: shapes(written),
                read: shapes(read),
                thread: buffer.thread,
                correlation: CORRELATIONS.with_borrow(|ids| ids.last().copied().unwrap_or(0)),
            };
            buffer.events.push(event);
        }
        if on & TOTALS != 0 {
            buffer.totals.entry(kernel).or_default().add(&totals);
        }
    });
    Ok(())
}
