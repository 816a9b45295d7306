//! How do the thread that steers and the machines that load agree? One window, and counters.

use crate::args::RunArgs;
use crate::clock::nanos;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// When to load and when to measure, in nanoseconds of the runtime's clock.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// The load begins.
    pub start_ns: u64,
    /// Measuring begins.
    pub measure_ns: u64,
    /// Both end.
    pub end_ns: u64,
}

impl Window {
    /// The one that `args` asks for, from `start_ns` on.
    pub fn from(start_ns: u64, args: &RunArgs) -> Self {
        let measure_ns = start_ns + nanos(args.warmup);
        Self { start_ns, measure_ns, end_ns: measure_ns + nanos(args.duration).max(1) }
    }
}

/// Shared by all.
#[derive(Debug)]
pub struct Control {
    window: OnceLock<Window>,
    cut_ns: AtomicU64,
    ready: AtomicU32,
    answered: AtomicU64,
}

impl Default for Control {
    fn default() -> Self {
        let (cut_ns, answered) = (AtomicU64::new(u64::MAX), AtomicU64::new(0));
        Self { window: OnceLock::new(), cut_ns, ready: AtomicU32::new(0), answered }
    }
}

impl Control {
    /// One more client has reached the log.
    pub fn is_ready(&self) {
        self.ready.fetch_add(1, Ordering::Relaxed);
    }

    /// Clients that have reached the log.
    pub fn ready(&self) -> u32 {
        self.ready.load(Ordering::Relaxed)
    }

    /// Begins the load.
    pub fn open(&self, window: Window) {
        assert!(self.window.set(window).is_ok(), "one window per run");
    }

    /// The window, once there is one.
    pub fn window(&self) -> Option<Window> {
        self.window.get().copied()
    }

    /// Ends the load early, unless it was ended earlier.
    pub fn cut(&self, now_ns: u64) {
        self.cut_ns.fetch_min(now_ns, Ordering::Relaxed);
    }

    /// When the load was ended early, if it was.
    pub fn was_cut(&self) -> Option<u64> {
        Some(self.cut_ns.load(Ordering::Relaxed)).filter(|&ns| ns != u64::MAX)
    }

    /// Whether the load is over at `now_ns`.
    pub fn is_over(&self, now_ns: u64) -> bool {
        self.was_cut().is_some() || self.window().is_some_and(|w| now_ns >= w.end_ns)
    }

    /// `n` more records are through.
    pub fn add_answered(&self, n: u64) {
        self.answered.fetch_add(n, Ordering::Relaxed);
    }

    /// Records that are through.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }
}
