//! What time is it? The only reader of the clocks in this program.

use std::time::Duration;

/// Monotonic nanoseconds since [`Clock::start`].
#[derive(Clone, Copy, Debug)]
pub struct Clock(std::time::Instant);

#[allow(clippy::disallowed_methods)] // a load generator measures time: this is where it does
impl Clock {
    /// Starts at 0.
    pub fn start() -> Self {
        Self(std::time::Instant::now())
    }

    /// Nanoseconds since the start.
    pub fn now_ns(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}

/// Wall-clock milliseconds since 1970.
#[allow(clippy::disallowed_methods)] // stamps the report
pub fn wall_ms() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// A duration in whole nanoseconds.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds that the calling thread has been on a processor.
pub fn thread_cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec that lives across the call.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    if result == 0 { time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64 } else { 0 }
}
