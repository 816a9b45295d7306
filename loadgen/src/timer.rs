//! How does the loop wake between two milliseconds? A timerfd: epoll's own time-outs are whole milliseconds,
//! too coarse for a fixed rate.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Becomes readable at a time that was set.
#[derive(Debug)]
pub struct Timer(OwnedFd);

impl Timer {
    /// One that is not set.
    ///
    /// # Errors
    /// If the process is out of file descriptors.
    pub fn new() -> io::Result<Self> {
        // SAFETY: a plain syscall without pointers.
        let fd =
            unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The descriptor to poll.
    pub fn fd(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// Rings once, `after_ns` from now (at least one nanosecond); replaces an earlier setting.
    ///
    /// # Errors
    /// Never for legal times.
    pub fn set(&self, after_ns: u64) -> io::Result<()> {
        let after = after_ns.max(1);
        let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let value = libc::timespec {
            tv_sec: (after / 1_000_000_000) as libc::time_t,
            tv_nsec: (after % 1_000_000_000) as libc::c_long,
        };
        let spec = libc::itimerspec { it_interval: none, it_value: value };
        // SAFETY: `spec` lives across the call; the old value is not asked for.
        let result = unsafe { libc::timerfd_settime(self.fd(), 0, &spec, std::ptr::null_mut()) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
