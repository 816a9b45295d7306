//! What do the machine's clocks say? The only place that reads them.

use crate::time::{Instant, WallMs};
use std::sync::OnceLock;

/// Monotonic nanoseconds since this process first asked.
#[allow(clippy::disallowed_methods, reason = "the one reader of the monotonic clock")]
pub fn now() -> Instant {
    static START: OnceLock<std::time::Instant> = OnceLock::new();
    let start = *START.get_or_init(std::time::Instant::now);
    // One second in the past, so that "long ago" can be expressed.
    Instant(start.elapsed().as_nanos() as u64 + 1_000_000_000)
}

/// Milliseconds since 1970.
#[allow(clippy::disallowed_methods, reason = "the one reader of the wall clock")]
pub fn wall() -> WallMs {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    WallMs(since.map_or(0, |d| d.as_millis() as u64))
}
