//! Who is connected to this front? What each connection has waiting, has with the other executor, and is to be sent at
//! the end of the turn.

use super::Slot;
use crate::jute::{EventType, responses};
use crate::node::auth::Auth;
use crate::node::served::Served;
use crate::txn::Readers;
use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::time::Duration;
use zoolog_core::{ConnId, Instant, Output};

/// Bytes counted for a request beside its frame.
const ENTRY_BYTES: usize = 128;
/// Bytes that a buffer with answers may be longer than these.
const SPARE_BYTES_MAX: usize = 64 << 10;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    /// Has said nothing yet.
    New,
    /// What it said first was passed on.
    Joining,
    /// Serves a session with that timeout.
    Open {
        /// Agreed timeout.
        timeout: Duration,
    },
    /// To be closed; nothing counts any more.
    Closed,
}

/// One client connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub id: ConnId,
    /// `ip:port`.
    pub peer: String,
    pub phase: Phase,
    /// What it has proved.
    pub auth: Auth,
    /// Frames not looked at yet, and when each came.
    pub waiting: VecDeque<(Instant, Bytes)>,
    /// Pings that are not answered.
    pub pings: u32,
    /// Bytes of each frame that was passed on and is not answered.
    passed_on: VecDeque<usize>,
    /// The last frame that was passed on reads the tree: once it is answered, all before it is applied.
    pub is_settled: bool,
    /// What both take.
    pending_bytes: usize,
    /// When the newest record that shows its session alive, and has come back, was appended.
    pub vouched_at: Instant,
    /// When the other executor was last told that the client was heard.
    pub told_heard_at: Instant,
    /// It takes its answers more slowly than they are made.
    pub backlog: bool,
    /// The other executor wants it not to be read from.
    pub told_to_pause: bool,
    /// Frames from and to it.
    pub received: u64,
    pub sent: u64,
    /// What it was answered here.
    pub served: Served,
    paused: bool,
    told_paused: bool,
    dirty: bool,
    out: Vec<u8>,
    /// Of `out`, what was published.
    took: usize,
}

impl Conn {
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// A frame came.
    pub(super) fn push(&mut self, now: Instant, frame: Bytes) {
        self.pending_bytes += frame.len() + ENTRY_BYTES;
        self.waiting.push_back((now, frame));
    }

    /// Takes the first frame, to be answered here.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let (_, frame) = self.waiting.pop_front()?;
        self.pending_bytes -= frame.len() + ENTRY_BYTES;
        Some(frame)
    }

    /// Takes the first frame, to be passed on.
    pub(super) fn pass_on(&mut self) -> Bytes {
        let (_, frame) = self.waiting.pop_front().expect("a frame waits");
        self.passed_on.push_back(frame.len() + ENTRY_BYTES);
        frame
    }

    /// Frames that were passed on and are not answered.
    pub(super) fn passed_on(&self) -> usize {
        self.passed_on.len()
    }

    /// It has its session.
    pub(super) fn open(&mut self, now: Instant, timeout: Duration, vouched_at: Instant) {
        self.phase = Phase::Open { timeout };
        (self.vouched_at, self.told_heard_at) = (vouched_at, now);
    }

    /// Nothing of it counts any more, but what it is being sent.
    pub(super) fn close(&mut self) {
        self.phase = Phase::Closed;
        self.waiting.clear();
        self.passed_on.clear();
        self.pending_bytes = 0;
    }

    /// As [`Back::is_starving`](crate::node::Back).
    pub(super) fn is_starving(
        &self,
        now: Instant,
        timeout: Duration,
        node_vouched_at: Instant,
        touch_interval: Option<Duration>,
    ) -> bool {
        touch_interval.is_some_and(|interval| {
            now.since(node_vouched_at) > interval + timeout / 3 || now.since(self.vouched_at) >= timeout
        })
    }

    /// Bytes that leave at the end of the turn.
    pub(super) fn out_bytes(&self) -> usize {
        self.out.len()
    }

    /// Keeps the socket from being read while too much waits, and lets it be read again at half of that. Returns
    /// whether that changed.
    pub(super) fn set_pause(&mut self, max_requests: usize, max_bytes: usize) -> bool {
        let n = self.waiting.len() + self.passed_on.len();
        let over = match self.paused {
            false => n > max_requests || self.pending_bytes > max_bytes,
            true => n > max_requests / 2 || self.pending_bytes > max_bytes / 2,
        };
        let paused = self.backlog || self.told_to_pause || over;
        std::mem::replace(&mut self.paused, paused) != paused
    }
}

/// All connections of a front.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Vec<Option<Box<Conn>>>,
    free: Vec<Slot>,
    by_id: HashMap<ConnId, Slot, FixedState>,
    /// Those with something to be done at the end of the turn, each once, in order.
    dirty: Vec<Slot>,
}

impl Table {
    /// Takes a new one in.
    pub(super) fn insert(&mut self, now: Instant, id: ConnId, peer: String, auth: Auth) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            Slot::try_from(self.slots.len() - 1).expect("connections are bounded far below")
        });
        let before = self.by_id.insert(id, slot);
        assert!(before.is_none(), "connection {id:?} was accepted twice");
        self.slots[slot as usize] = Some(Box::new(Conn {
            id,
            peer,
            phase: Phase::New,
            auth,
            waiting: VecDeque::new(),
            pings: 0,
            passed_on: VecDeque::new(),
            is_settled: false,
            pending_bytes: 0,
            vouched_at: now,
            told_heard_at: now,
            backlog: false,
            told_to_pause: false,
            received: 0,
            sent: 0,
            served: Served::default(),
            paused: false,
            told_paused: false,
            dirty: false,
            out: Vec::new(),
            took: 0,
        }));
    }

    /// Lets go of one that has ended.
    pub(super) fn remove(&mut self, slot: Slot) {
        let conn = self.slots[slot as usize].take().expect("a connection ends once");
        self.by_id.remove(&conn.id);
        if conn.dirty {
            self.dirty.retain(|s| *s != slot);
        }
        self.free.push(slot);
    }

    pub(super) fn slot(&self, id: ConnId) -> Option<Slot> {
        self.by_id.get(&id).copied()
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Conn> {
        self.slots.get(slot as usize)?.as_deref()
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Conn> {
        self.slots.get_mut(slot as usize)?.as_deref_mut()
    }

    /// The one that is known to be there.
    pub(super) fn at(&mut self, slot: Slot) -> &mut Conn {
        self.get_mut(slot).expect("the slot is taken")
    }

    /// All, by slot.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Conn> {
        self.slots.iter().flatten().map(|c| &**c)
    }

    /// What all were answered is counted anew.
    pub(super) fn reset_served(&mut self) {
        self.slots.iter_mut().flatten().for_each(|c| c.served.reset(c.received, c.sent));
    }

    /// Something is to be done for it at the end of the turn.
    pub(super) fn mark(&mut self, slot: Slot) {
        let conn = self.slots[slot as usize].as_deref_mut().expect("the slot is taken");
        if !conn.dirty {
            conn.dirty = true;
            self.dirty.push(slot);
        }
    }

    /// Whether something is to be done at the end of the turn.
    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Where a frame to it goes: one frame is counted.
    pub(super) fn out(&mut self, slot: Slot) -> &mut Vec<u8> {
        self.out_for(slot).0
    }

    /// The same, with what the connection has proved.
    pub(super) fn out_for(&mut self, slot: Slot) -> (&mut Vec<u8>, &Auth) {
        self.mark(slot);
        let conn = self.at(slot);
        conn.sent += 1;
        if conn.out.capacity() == 0 {
            conn.out.reserve(256);
        }
        (&mut conn.out, &conn.auth)
    }

    /// Queues a watch event, if the connection may read the node.
    pub(super) fn event(
        &mut self,
        slot: Slot,
        zxid: i64,
        kind: EventType,
        path: &str,
        readers: Option<&Readers>,
    ) {
        if self.at(slot).auth.hears(kind, readers) {
            responses::event(self.out(slot), zxid, kind, path);
        }
    }

    /// Answers to what was passed on have come. One that is to be closed needs none.
    pub(super) fn answered(&mut self, slot: Slot, bytes: &[u8], answers: u32, vouched_at: Instant) {
        let conn = self.at(slot);
        if conn.is_closed() {
            return;
        }
        conn.vouched_at = conn.vouched_at.max(vouched_at);
        for _ in 0..answers {
            let bytes = conn.passed_on.pop_front().expect("it was passed on");
            conn.pending_bytes -= bytes;
        }
        conn.took += bytes.len();
        conn.sent += u64::from(answers);
        conn.out.extend_from_slice(bytes);
        if conn.waiting.is_empty() && conn.passed_on.is_empty() {
            (conn.waiting, conn.passed_on) = (VecDeque::new(), VecDeque::new());
        }
        self.mark(slot);
    }

    /// Puts what the turn has brought for its connections into `outputs`: per connection one buffer, then whether to
    /// read on, then its end. `took` hears how many bytes of each buffer had been published.
    pub(super) fn drain<E>(
        &mut self,
        outputs: &mut VecDeque<Output<E>>,
        mut took: impl FnMut(ConnId, usize),
    ) {
        for slot in self.dirty.drain(..) {
            let conn = self.slots[slot as usize].as_deref_mut().expect("a dirty slot is taken");
            conn.dirty = false;
            let id = conn.id;
            if conn.took > 0 {
                took(id, std::mem::take(&mut conn.took));
            }
            if !conn.out.is_empty() {
                if conn.out.capacity() - conn.out.len() > SPARE_BYTES_MAX {
                    conn.out.shrink_to_fit();
                }
                let bytes = Bytes::from(std::mem::take(&mut conn.out));
                outputs.push_back(Output::Send { conn: id, bytes });
            }
            if conn.is_closed() {
                outputs.push_back(Output::Close { conn: id });
            } else if conn.paused != conn.told_paused {
                conn.told_paused = conn.paused;
                outputs.push_back(match conn.paused {
                    true => Output::Pause { conn: id },
                    false => Output::Resume { conn: id },
                });
            }
        }
    }
}
