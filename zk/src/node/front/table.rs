//! Who is connected to this front? What each connection has waiting, has with the other executor, and is to be sent at
//! the end of the turn.

use super::Slot;
use crate::node::auth::Auth;
use crate::node::places::{Client, Places, Way};
use crate::node::served::Served;
use bytes::Bytes;
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::time::Duration;
use zoolog_core::{ConnId, Instant, Output};

/// Bytes counted for a request beside its frame.
const ENTRY_BYTES: usize = 128;
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
    /// Serves a session that only reads, with the other executor.
    ReadOnly,
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
    /// As far as it is counted in what waits of all.
    pub counted_bytes: usize,
    /// When the newest record that shows its session alive, and has come back, was appended.
    pub vouched_at: Instant,
    /// When the other executor was last told that the client was heard.
    pub told_heard_at: Instant,
    /// The other executor wants it not to be read from.
    pub told_to_pause: bool,
    /// Frames from it.
    pub received: u64,
    /// What is on its way to it.
    pub way: Way,
    /// What it was answered here.
    pub served: Served,
    paused: bool,
    /// Of what is on its way, what was published.
    took: usize,
}

impl Conn {
    /// A frame came.
    pub(super) fn push(&mut self, now: Instant, frame: Bytes) {
        self.pending_bytes += frame.len() + ENTRY_BYTES;
        self.waiting.push_back((now, frame));
    }

    /// What its requests take that are not answered.
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending_bytes + self.way.request_bytes()
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

    /// It has a session that only reads.
    pub(super) fn open_read_only(&mut self) {
        self.phase = Phase::ReadOnly;
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
        self.way.outgoing.len()
    }

    /// Keeps the socket from being read while too much waits, and lets it be read again at half of that. Returns
    /// whether that changed.
    pub(super) fn set_pause(&mut self, max_requests: usize, max_bytes: usize) -> bool {
        let (n, bytes) = (self.waiting.len() + self.passed_on.len(), self.pending_bytes());
        let over = match self.paused {
            false => n > max_requests || bytes > max_bytes,
            true => n > max_requests / 2 || bytes > max_bytes / 2,
        };
        let paused = self.way.backlog || self.told_to_pause || over;
        std::mem::replace(&mut self.paused, paused) != paused
    }
}

impl Client for Conn {
    fn id(&self) -> ConnId {
        self.id
    }

    fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    fn hears_events(&self) -> bool {
        !self.is_closed()
    }

    fn is_paused(&self) -> bool {
        self.paused
    }

    fn auth(&self) -> &Auth {
        &self.auth
    }

    fn way(&self) -> &Way {
        &self.way
    }

    fn way_and_auth(&mut self) -> (&mut Way, &Auth) {
        (&mut self.way, &self.auth)
    }
}

/// All connections of a front.
#[derive(Debug, Default)]
pub(super) struct Table {
    places: Places<Conn>,
}

impl Deref for Table {
    type Target = Places<Conn>;

    fn deref(&self) -> &Places<Conn> {
        &self.places
    }
}

impl DerefMut for Table {
    fn deref_mut(&mut self) -> &mut Places<Conn> {
        &mut self.places
    }
}

impl Table {
    /// Takes a new one in.
    pub(super) fn insert(&mut self, now: Instant, id: ConnId, peer: String, auth: Auth) {
        self.places.insert(Box::new(Conn {
            id,
            peer,
            phase: Phase::New,
            auth,
            waiting: VecDeque::new(),
            pings: 0,
            passed_on: VecDeque::new(),
            is_settled: false,
            pending_bytes: 0,
            counted_bytes: 0,
            vouched_at: now,
            told_heard_at: now,
            told_to_pause: false,
            received: 0,
            way: Way::default(),
            served: Served::default(),
            paused: false,
            took: 0,
        }));
    }

    /// What all were answered is counted anew.
    pub(super) fn reset_served(&mut self) {
        self.each_mut().for_each(|c| c.served.reset(c.received, c.way.sent));
    }

    /// Answers to what was passed on have come. One that is to be closed needs none.
    pub(super) fn answered(&mut self, slot: Slot, bytes: &[u8], answers: u32, vouched_at: Instant) {
        if self.at(slot).is_closed() {
            return;
        }
        self.pay(slot);
        let conn = self.at(slot);
        conn.vouched_at = conn.vouched_at.max(vouched_at);
        for _ in 0..answers {
            let bytes = conn.passed_on.pop_front().expect("it was passed on");
            conn.pending_bytes -= bytes;
        }
        conn.took += bytes.len();
        conn.way.sent += u64::from(answers);
        conn.way.outgoing.to().extend_from_slice(bytes);
        if conn.waiting.is_empty() && conn.passed_on.is_empty() {
            (conn.waiting, conn.passed_on) = (VecDeque::new(), VecDeque::new());
        }
        self.mark(slot);
    }

    /// Puts what the turn has brought for its connections into `outputs`. `took` hears how many bytes of each buffer had
    /// been published.
    pub(super) fn drain<E>(
        &mut self,
        outputs: &mut VecDeque<Output<E>>,
        mut took: impl FnMut(ConnId, usize),
    ) {
        self.places.drain(outputs, |conn| {
            // What is behind an answer under way has not gone yet.
            if conn.took > 0 && !conn.way.is_listing() {
                took(conn.id, std::mem::take(&mut conn.took));
            }
        });
    }
}
