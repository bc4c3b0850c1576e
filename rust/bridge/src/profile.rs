//! The profiler's side of the door.

use rustorch_kernels::profile::roofline::roofline;
use rustorch_kernels::profile::{self, Watch};

use crate::{Crossing, guarded};

#[cxx::bridge(namespace = "rustorch::ffi")]
mod ffi {
    /// Sums over a kernel's launches (`profile::Totals`); `source` is empty outside of compiled graphs.
    struct KernelTotals {
        name: String,
        source: String,
        calls: u64,
        nanoseconds: u64,
        bytes: u64,
        flops: u64,
    }

    struct KernelShape {
        sizes: Vec<i64>,
        dtype: &'static str,
    }

    /// One launch (`profile::Event`), of one call.
    struct KernelEvent {
        totals: KernelTotals,
        start: u64,
        written: Vec<KernelShape>,
        read: Vec<KernelShape>,
        thread: u64,
        correlation: u64,
    }

    /// What the machine can do at most, a second.
    struct Peaks {
        flops: f64,
        bytes: f64,
    }

    extern "Rust" {
        /// Begins and ends to sum; and to keep every launch as well.
        fn profile_start_totals();
        fn profile_stop_totals();
        fn profile_start_timeline();
        fn profile_stop_timeline();
        fn profile_totals() -> Result<Vec<KernelTotals>>;
        fn profile_take_events() -> Result<Vec<KernelEvent>>;
        /// Ties this thread's next launches to an event of PyTorch's profiler.
        fn profile_push_correlation(id: u64);
        fn profile_pop_correlation();
        /// Measured at the first call.
        fn profile_roofline() -> Result<Peaks>;
    }
}

fn profile_start_totals() {
    profile::start(Watch::Totals);
}

fn profile_stop_totals() {
    profile::stop(Watch::Totals);
}

fn profile_start_timeline() {
    profile::start(Watch::Timeline);
}

fn profile_stop_timeline() {
    profile::stop(Watch::Timeline);
}

fn crossing(kernel: profile::Kernel, totals: profile::Totals) -> ffi::KernelTotals {
    let profile::Totals { calls, nanoseconds, bytes, flops } = totals;
    let source = kernel.source.map_or_else(String::new, |source| source.to_string());
    ffi::KernelTotals { name: kernel.name.into_owned(), source, calls, nanoseconds, bytes, flops }
}

fn profile_totals() -> Result<Vec<ffi::KernelTotals>, Crossing> {
    guarded(|| Ok(profile::totals().into_iter().map(|(kernel, totals)| crossing(kernel, totals)).collect()))
}

fn profile_take_events() -> Result<Vec<ffi::KernelEvent>, Crossing> {
    let shapes = |shapes: Vec<profile::Shape>| {
        shapes.into_iter().map(|shape| ffi::KernelShape { sizes: shape.sizes, dtype: shape.dtype.name() }).collect()
    };
    guarded(|| {
        let events = profile::take_events().into_iter().map(|event| ffi::KernelEvent {
            totals: crossing(event.kernel, event.totals),
            start: event.start,
            written: shapes(event.written),
            read: shapes(event.read),
            thread: event.thread,
            correlation: event.correlation,
        });
        Ok(events.collect())
    })
}

fn profile_push_correlation(id: u64) {
    profile::push_correlation(id);
}

fn profile_pop_correlation() {
    profile::pop_correlation();
}

fn profile_roofline() -> Result<ffi::Peaks, Crossing> {
    guarded(|| {
        let peaks = roofline();
        Ok(ffi::Peaks { flops: peaks.flops, bytes: peaks.bytes })
    })
}
