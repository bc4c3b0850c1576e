//! Which SIMD level runs: found once, lowered by `RUSTORCH_ISA`, lowered for a scope by tests.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// A SIMD level; a higher one has everything that a lower one has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Scalar,
    Avx2,
    Avx512,
}

impl Level {
    pub const ALL: [Self; 3] = [Self::Scalar, Self::Avx2, Self::Avx512];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// The levels that this machine has, lowest first.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|&level| level <= machine())
    }
}

/// The highest level that the machine has.
pub fn machine() -> Level {
    static MACHINE: OnceLock<Level> = OnceLock::new();
    *MACHINE.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c")
                && is_x86_feature_detected!("bmi2");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            if avx2 && avx512 {
                return Level::Avx512;
            }
            if avx2 {
                return Level::Avx2;
            }
        }
        Level::Scalar
    })
}

fn process() -> Level {
    static PROCESS: OnceLock<Level> = OnceLock::new();
    *PROCESS.get_or_init(|| {
        let asked = std::env::var("RUSTORCH_ISA").unwrap_or_default();
        let level = Level::ALL.into_iter().find(|level| level.name() == asked);
        if level.is_none() && !asked.is_empty() {
            eprintln!("rustorch: RUSTORCH_ISA={asked} is none of scalar, avx2, avx512; it is ignored");
        }
        level.unwrap_or(Level::Avx512).min(machine())
    })
}

thread_local! {
    static SCOPED: Cell<Option<Level>> = const { Cell::new(None) };
}
/// Whether any thread ever asked for a level: mostly none did, and then none looks its own up.
static EVER_SCOPED: AtomicBool = AtomicBool::new(false);

/// The level of a kernel that is launched on this thread now.
#[inline]
pub fn level() -> Level {
    let scoped = if EVER_SCOPED.load(Relaxed) { SCOPED.get() } else { None };
    scoped.unwrap_or_else(process)
}

/// Runs `body` with kernels at `level` (or lower, where the machine lacks it): for tests.
pub fn at<R>(level: Level, body: impl FnOnce() -> R) -> R {
    struct Restore(Option<Level>);
    impl Drop for Restore {
        fn drop(&mut self) {
            SCOPED.set(self.0);
        }
    }
    EVER_SCOPED.store(true, Relaxed);
    let _restore = Restore(SCOPED.replace(Some(level.min(machine()))));
    body()
}
