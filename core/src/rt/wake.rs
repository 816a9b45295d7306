//! How do other threads reach a thread that sleeps in its ring? An event descriptor that the ring reads.

use super::ring::{Op, Ring};
use super::segments::SegmentError;
use crate::ids::Gsn;
use crate::machine::{ConnId, Token};
use crate::wire::SnapshotAt;
use bytes::Bytes;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};

/// Wakes one thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    pub(super) fn new() -> Result<Self, String> {
        // SAFETY: a plain syscall; the descriptor is ours alone.
        let event = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if event < 0 {
            return Err(format!("can't make an event descriptor: {}", std::io::Error::last_os_error()));
        }
        // SAFETY: just made, owned by nobody else.
        Ok(Self(Arc::new(unsafe { OwnedFd::from_raw_fd(event) })))
    }

    /// Makes the thread look.
    pub fn wake(&self) {
        let one = 1u64;
        // SAFETY: writes eight bytes of a local. It fails only when 2^64 wakes are unread, which wakes too.
        unsafe { libc::write(self.0.as_raw_fd(), std::ptr::from_ref(&one).cast(), 8) };
    }

    /// Has the ring listen for the next wake.
    pub(super) fn listen(&self, ring: &mut Ring) {
        ring.ask(usize::MAX, Op::Wake { event: self.0.clone(), count: Box::new(0) });
    }
}

/// Asks running nodes to end.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<StopState>);

#[derive(Debug, Default)]
struct StopState {
    stopped: AtomicBool,
    threads: Mutex<Vec<Waker>>,
}

impl Stop {
    /// Asks for the end.
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::SeqCst);
        self.0.threads.lock().expect("no panic under this lock").iter().for_each(Waker::wake);
    }

    /// Whether it was asked for.
    pub fn is_stopped(&self) -> bool {
        self.0.stopped.load(Ordering::SeqCst)
    }

    /// Has a thread woken at the end.
    pub(super) fn tell(&self, thread: Waker) {
        self.0.threads.lock().expect("no panic under this lock").push(thread.clone());
        if self.is_stopped() {
            thread.wake();
        }
    }
}

/// Work that blocks, done elsewhere.
#[derive(Debug)]
pub(super) enum Finished {
    /// A segment of the log was made, of so many bytes.
    Segment { number: u32, bytes: u32, result: Result<(), SegmentError> },
    /// A piece of a snapshot was saved, or couldn't be.
    Snapshot { gsn: Gsn, last: bool, result: Result<(), String> },
    /// A snapshot to be given to others was looked for.
    Found { found: Option<SnapshotAt> },
    /// A piece of one was read.
    Piece { token: Token, result: Result<Bytes, String> },
    /// Where a name leads.
    Resolved { conn: ConnId, result: Result<std::net::SocketAddr, String> },
}

/// Where a node has blocking work done: a thread each, since there is little of it.
#[derive(Clone, Debug)]
pub(super) struct Elsewhere {
    pub node: usize,
    pub results: mpsc::Sender<(usize, Finished)>,
    pub waker: Waker,
}

impl Elsewhere {
    /// Does `work` on a thread of its own and brings back what came of it.
    pub fn run(&self, work: impl FnOnce() -> Finished + Send + 'static) {
        let elsewhere = self.clone();
        let done = move || elsewhere.tell(work());
        std::thread::Builder::new().name("blocking".into()).spawn(done).expect("a thread");
    }

    /// Brings to the node what came of its work.
    pub fn tell(&self, finished: Finished) {
        let _ = self.results.send((self.node, finished)); // nobody listens any more at the end
        self.waker.wake();
    }

    /// Does `work` on a thread of its own.
    pub fn run_silently(&self, work: impl FnOnce() + Send + 'static) {
        std::thread::Builder::new().name("blocking".into()).spawn(work).expect("a thread");
    }
}
