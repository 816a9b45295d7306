//! How does a thread ask the kernel for I/O? Through one io_uring: requests are gathered during a turn and go in
//! with the one syscall that also waits; a request keeps what the kernel works on (buffer, descriptor) until its
//! completion is reaped, whatever became of its owner.

use super::aligned::Aligned;
use crate::machine::{ConnId, Token};
use crate::wal::{GroupPlan, WalPos};
use bytes::BytesMut;
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use slab::Slab;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Requests gathered before they must go in.
const SUBMISSIONS: u32 = 256;
/// Completions that fit without the kernel's overflow list.
const COMPLETIONS: u32 = 4096;
/// The completion that nobody waits for.
const NOBODY: u64 = u64::MAX;
/// How long a dial may take.
const DIAL_TIMEOUT: Timespec = Timespec::new().sec(2);
/// How long the kernel may take to give up requests at the end.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// A request under way, and what it keeps alive.
#[derive(Debug)]
pub(super) enum Op {
    /// Another thread wrote to the thread's event descriptor.
    Wake { event: Arc<OwnedFd>, count: Box<u64> },
    /// A connection came in. The result is its descriptor.
    Accept { listener: Rc<OwnedFd> },
    /// A connection that was dialled is up, or not.
    Connect { conn: ConnId, socket: Rc<OwnedFd>, addr: Box<socket2::SockAddr> },
    /// Bytes arrived behind those of `buf`. The result is their number.
    Recv { conn: ConnId, socket: Rc<OwnedFd>, buf: BytesMut },
    /// A socket takes bytes again.
    Writable { conn: ConnId, socket: Rc<OwnedFd> },
    /// A group of the log was written. The result is the number of bytes.
    WriteGroup { file: Rc<File>, buf: Aligned, plan: Box<GroupPlan> },
    /// A record was read back. The result is the number of bytes.
    Load { file: Rc<File>, buf: Aligned, token: Token, pos: WalPos },
    /// A piece of a segment of so many bytes was read. The result is the number of bytes.
    ReadSegment { file: Rc<File>, buf: Aligned, token: Token, offset: u32, size: u32 },
}

/// A request that came back.
#[derive(Debug)]
pub(super) struct Done {
    /// Which node of the thread asked.
    pub node: usize,
    pub op: Op,
    /// As a syscall's: not negative, or the negative error number.
    pub result: i32,
}

impl Done {
    /// The result as a number of bytes or a descriptor.
    pub fn outcome(&self) -> std::io::Result<usize> {
        usize::try_from(self.result).map_err(|_| std::io::Error::from_raw_os_error(-self.result))
    }
}

/// The io_uring of one thread.
pub(super) struct Ring {
    uring: IoUring,
    /// Requests under way, and whose they are.
    ops: Slab<(usize, Op)>,
}

impl Ring {
    /// Made on the thread that uses it.
    ///
    /// # Errors
    /// Text for a person.
    pub fn new() -> Result<Self, String> {
        // Best first: completions only when asked for, on the one thread that asks (Linux 6.1); then without
        // interrupts between cores (5.19); then as it was. With the flag the kernel says that completions can be asked
        // for: without it a thread that has something to do, and so does not wait, would never ask.
        let single = |b: &mut io_uring::Builder| {
            b.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
        };
        let cooperative = |b: &mut io_uring::Builder| {
            b.setup_coop_taskrun().setup_taskrun_flag();
        };
        let plain = |_: &mut io_uring::Builder| {};
        let ways: [&dyn Fn(&mut io_uring::Builder); 3] = [&single, &cooperative, &plain];
        let mut failed = None;
        for way in ways {
            let mut builder = IoUring::builder();
            way(builder.setup_cqsize(COMPLETIONS));
            match builder.build(SUBMISSIONS) {
                Ok(uring) if uring.params().is_feature_ext_arg() => {
                    return Ok(Self { uring, ops: Slab::new() });
                }
                Ok(_) => {
                    failed = Some("it can't wait with a timeout: Linux 5.11 or newer is needed".to_string())
                }
                Err(e) => failed = Some(e.to_string()),
            }
        }
        Err(format!("can't make an io_uring: {}", failed.unwrap_or_default()))
    }

    /// Asks for `op` on behalf of `node`.
    pub fn ask(&mut self, node: usize, mut op: Op) {
        let place = self.ops.vacant_entry();
        let entry = entry_of(&mut op).user_data(place.key() as u64);
        let link = matches!(op, Op::Connect { .. });
        place.insert((node, op));
        if link {
            let limit = opcode::LinkTimeout::new(&DIAL_TIMEOUT).build().user_data(NOBODY);
            self.push(&[entry.flags(squeue::Flags::IO_LINK), limit]);
        } else {
            self.push(&[entry]);
        }
    }

    fn push(&mut self, entries: &[squeue::Entry]) {
        // SAFETY: what the entries point to belongs to `ops` (its heap part doesn't move) until they complete,
        // or is a constant.
        while unsafe { self.uring.submission().push_multiple(entries) }.is_err() {
            if let Err(e) = self.uring.submit() {
                assert!(is_passing(&e), "io_uring takes no requests: {e}");
            }
        }
    }

    /// Submits what was asked for, and waits until something is done or `at_most` has passed (zero: not at all).
    ///
    /// # Errors
    /// When the ring is unusable.
    pub fn enter(&mut self, at_most: Duration) -> Result<(), String> {
        let timeout = Timespec::from(at_most);
        let args = SubmitArgs::new().timespec(&timeout);
        let want = usize::from(!at_most.is_zero());
        match self.uring.submitter().submit_with_args(want, &args) {
            Ok(_) => Ok(()),
            Err(e) if is_passing(&e) => Ok(()),
            Err(e) => Err(format!("io_uring: {e}")),
        }
    }

    /// Whether the kernel has something that it would complete if it were entered.
    pub fn has_more(&mut self) -> bool {
        self.uring.submission().taskrun()
    }

    /// Moves what is done into `done`.
    pub fn reap(&mut self, done: &mut Vec<Done>) {
        for entry in self.uring.completion() {
            if entry.user_data() == NOBODY {
                continue;
            }
            debug_assert!(!cqueue::more(entry.flags()));
            let (node, op) = self.ops.remove(entry.user_data() as usize);
            done.push(Done { node, op, result: entry.result() });
        }
    }
}

/// Takes back everything under way: whatever ends the thread, a panic too, the kernel must have no hand on memory that
/// is about to be given back.
impl Drop for Ring {
    fn drop(&mut self) {
        let under_way: Vec<u64> = self.ops.iter().map(|(key, _)| key as u64).collect();
        for request in under_way {
            self.push(&[opcode::AsyncCancel::new(request).build().user_data(NOBODY)]);
        }
        let since = super::clock::now();
        let mut done = Vec::new();
        while !self.ops.is_empty() && super::clock::now().since(since) < END_PATIENCE {
            if self.enter(Duration::from_millis(10)).is_err() {
                break;
            }
            self.reap(&mut done);
        }
        if !self.ops.is_empty() {
            tracing::warn!(
                "{} requests of an io_uring did not end; their memory is left to them",
                self.ops.len()
            );
            std::mem::forget(std::mem::take(&mut self.ops));
        }
    }
}

/// Time passed, a signal came, or too much is under way for now.
fn is_passing(e: &std::io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN))
}

fn fd(of: &impl AsRawFd) -> Fd {
    Fd(of.as_raw_fd())
}

/// What the kernel is told of a request. Its pointers lead to the heap.
fn entry_of(op: &mut Op) -> squeue::Entry {
    match op {
        Op::Wake { event, count } => {
            opcode::Read::new(fd(&**event), std::ptr::from_mut(&mut **count).cast(), 8).build()
        }
        Op::Accept { listener } => {
            opcode::Accept::new(fd(&**listener), std::ptr::null_mut(), std::ptr::null_mut())
                .flags(libc::SOCK_CLOEXEC)
                .build()
        }
        Op::Connect { socket, addr, .. } => {
            opcode::Connect::new(fd(&**socket), addr.as_ptr().cast(), addr.len()).build()
        }
        Op::Recv { socket, buf, .. } => {
            let room = buf.spare_capacity_mut();
            opcode::Recv::new(fd(&**socket), room.as_mut_ptr().cast(), room.len() as u32).build()
        }
        Op::Writable { socket, .. } => opcode::PollAdd::new(fd(&**socket), libc::POLLOUT as u32).build(),
        Op::WriteGroup { file, buf, plan } => {
            opcode::Write::new(fd(&**file), buf.as_ptr(), plan.len as u32).offset(plan.offset).build()
        }
        Op::Load { file, buf, pos, .. } => {
            let (at, len) = pos.range();
            opcode::Read::new(fd(&**file), buf.as_mut_ptr(), len as u32).offset(at).build()
        }
        Op::ReadSegment { file, buf, offset, .. } => {
            let len = buf.len() as u32;
            opcode::Read::new(fd(&**file), buf.as_mut_ptr(), len).offset(u64::from(*offset)).build()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    /// Found by `scripts/heavy.py`: whoever asked while a node was busy for 30 ms was not heard before it was idle.
    #[test]
    fn what_has_arrived_is_seen_by_who_does_not_wait() {
        let mut ring = Ring::new().unwrap();
        let (mut there, here) = UnixStream::pair().unwrap();
        let socket = Rc::new(OwnedFd::from(here));
        let mut done = Vec::new();
        for n in 1..=100 {
            let buf = BytesMut::with_capacity(64);
            ring.ask(0, Op::Recv { conn: ConnId(n), socket: socket.clone(), buf });
            ring.enter(Duration::ZERO).unwrap();
            ring.reap(&mut done);
            assert!(done.is_empty(), "nothing was sent");
            there.write_all(b"hello").unwrap();
            // The second time sees what the first has the kernel do.
            for _ in 0..2 {
                ring.enter(Duration::ZERO).unwrap();
                ring.reap(&mut done);
            }
            assert_eq!(done.pop().map(|d| d.result), Some(5), "after {n} of them");
        }
    }
}
