//! Who is connected to the executor that applies? What each connection has in hand there, where it comes from, and by
//! when it must have its session.

use super::auth::Auth;
use super::handshake::Ask;
pub(super) use super::places::Slot;
use super::places::{Client, Places, SPARE_BYTES_MAX, Way};
use super::published::{Draft, Item};
use super::queue::Queue;
use super::served::Served;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::{Deref, DerefMut};
use std::time::Duration;
use zoolog_core::limits::OUT_BYTES_PAUSE;
use zoolog_core::{ConnId, Gsn, Instant, Output};

/// Where a connection is in its life.
#[derive(Debug)]
pub(super) enum Phase {
    /// Has said nothing yet.
    New,
    /// Has asked for a session; this node can't propose it yet.
    Waiting(Ask),
    /// The record that gives it its session is in the log's hands.
    Proposed(Ask),
    /// Has asked how the node is; the fronts are counting.
    Asking,
    /// Serves a session.
    Open(Open),
    /// Serves one that the log doesn't know, and only reads.
    ReadOnly(Open),
    /// To be closed; nothing counts any more.
    Closed,
}

/// A connection's session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    /// Its id.
    pub session: i64,
    /// GSN of the record that gave it to this connection.
    pub attach: Gsn,
    /// Agreed timeout.
    pub timeout_ms: u32,
}

impl Open {
    /// Agreed timeout.
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_millis(u64::from(self.timeout_ms))
    }
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
    /// Requests not answered yet.
    pub queue: Queue,
    /// Frames that came before the session was there.
    pub early: VecDeque<Bytes>,
    pub early_bytes: usize,
    /// When the client was last heard.
    pub heard_at: Instant,
    /// When a request of it was last answered from the queue.
    pub moved_at: Instant,
    /// When the newest record that shows its session alive, and has come back, was appended: until its
    /// timeout after that, nobody may have expired it.
    pub vouched_at: Instant,
    /// When the newest such record was appended, back or not.
    pub shown_at: Instant,
    /// Heard since the last touch or write that was sent to the log.
    pub untouched: bool,
    /// The client has said goodbye: what it sends now is ignored.
    pub leaving: bool,
    /// It should not be read from.
    pub paused: bool,
    /// Its first unsent write waits for its answers to be taken, not for room in the log.
    pub held: bool,
    /// Frames from it.
    pub received: u64,
    /// What is on its way to it.
    pub way: Way,
    /// What it was answered here.
    pub served: Served,
    /// When it came.
    pub began_at: Instant,
    /// Bytes that were published for it, and are not at its socket yet as far as is known here.
    pub published_bytes: usize,
    /// Bytes of its requests that are counted in what waits of all.
    pub counted_bytes: usize,
    /// Answers on their way.
    answers: u32,
    /// What is under way at its front is not gone on with.
    is_cut: bool,
    /// Without a session by then it is closed.
    deadline: Option<Instant>,
}

impl Conn {
    /// Its session.
    pub(super) fn open(&self) -> Option<&Open> {
        match &self.phase {
            Phase::Open(open) => Some(open),
            _ => None,
        }
    }

    /// Gives back what it doesn't need while nothing happens.
    pub(super) fn relax(&mut self) {
        self.queue.relax();
        if self.way.outgoing.out.is_empty() {
            self.way.outgoing.out = Vec::new();
        }
    }

    /// Bytes that leave at the end of the turn, or are on their way to its front.
    pub(super) fn out_bytes(&self) -> usize {
        self.way.outgoing.len() + self.published_bytes
    }

    /// What its requests take that are not answered.
    pub(super) fn pending_bytes(&self) -> usize {
        self.queue.bytes() + self.early_bytes + self.way.request_bytes()
    }

    /// By when it must have its session.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Keeps the socket from being read while too much waits, and lets it be read again at half of that; also
    /// while the client doesn't take its answers. Who waits for his own answers needs no more in hand than
    /// answers may take. Returns whether that changed.
    pub(super) fn set_pause(&mut self, max_requests: usize, max_bytes: usize) -> bool {
        let (n, bytes) = (self.queue.len(), self.pending_bytes());
        let max_bytes = if self.held { max_bytes.min(OUT_BYTES_PAUSE) } else { max_bytes };
        let over = match self.paused {
            false => n > max_requests || bytes > max_bytes,
            true => n > max_requests / 2 || bytes > max_bytes / 2,
        };
        let paused = self.way.backlog || over;
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
        self.open().is_some()
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

/// All connections: their places, where they come from, and by when they must have their sessions.
#[derive(Debug, Default)]
pub(super) struct Conns {
    places: Places<Conn>,
    per_ip: BTreeMap<String, u32>,
    /// Of those without a session.
    deadlines: BTreeSet<(Instant, Slot)>,
}

impl Deref for Conns {
    type Target = Places<Conn>;

    fn deref(&self) -> &Places<Conn> {
        &self.places
    }
}

impl DerefMut for Conns {
    fn deref_mut(&mut self) -> &mut Places<Conn> {
        &mut self.places
    }
}

fn ip_of(peer: &str) -> &str {
    peer.rsplit_once(':').map_or(peer, |(ip, _)| ip)
}

impl Conns {
    /// Connections from the same address as `peer`.
    pub(super) fn count_from_ip_of(&self, peer: &str) -> u32 {
        self.per_ip.get(ip_of(peer)).copied().unwrap_or(0)
    }

    /// Takes a new one in.
    pub(super) fn insert(
        &mut self,
        now: Instant,
        id: ConnId,
        peer: String,
        auth: Auth,
        deadline: Instant,
    ) -> Slot {
        *self.per_ip.entry(ip_of(&peer).to_string()).or_default() += 1;
        let slot = self.places.insert(Box::new(Conn {
            id,
            peer,
            phase: Phase::New,
            auth,
            queue: Queue::default(),
            early: VecDeque::new(),
            early_bytes: 0,
            deadline: None,
            heard_at: now,
            moved_at: now,
            vouched_at: now,
            shown_at: now,
            untouched: false,
            leaving: false,
            paused: false,
            held: false,
            received: 0,
            way: Way::default(),
            served: Served::default(),
            began_at: now,
            published_bytes: 0,
            counted_bytes: 0,
            answers: 0,
            is_cut: false,
        }));
        self.set_deadline(slot, Some(deadline));
        slot
    }

    /// By when the connection must have its session.
    pub(super) fn set_deadline(&mut self, slot: Slot, deadline: Option<Instant>) {
        if let Some(old) = std::mem::replace(&mut self.places.at(slot).deadline, deadline) {
            self.deadlines.remove(&(old, slot));
        }
        self.deadlines.extend(deadline.map(|at| (at, slot)));
    }

    /// The next such time, and whose it is.
    pub(super) fn next_deadline(&self) -> Option<(Instant, Slot)> {
        self.deadlines.first().copied()
    }

    /// Lets go of one that has ended. Its place is used again at once, or, if it is `kept`, after [`Places::release`].
    pub(super) fn remove(&mut self, slot: Slot, kept: bool) {
        self.set_deadline(slot, None);
        let conn = self.places.remove(slot, kept);
        let ip = ip_of(&conn.peer);
        match self.per_ip.get_mut(ip) {
            Some(1) => drop(self.per_ip.remove(ip)),
            Some(n) => *n -= 1,
            None => panic!("{ip} has a connection that was not counted"),
        }
    }

    /// The one at `slot`, if it is still the connection `id` and counts.
    pub(super) fn live(&mut self, slot: Slot, id: ConnId) -> Option<&mut Conn> {
        self.get_mut(slot).filter(|c| c.id == id && !c.is_closed())
    }

    /// Gives up what is under way to a connection, here and at its front.
    pub(super) fn cut(&mut self, slot: Slot) {
        self.places.cut(slot);
        self.places.at(slot).is_cut = true;
    }

    /// What all were answered is counted anew.
    pub(super) fn reset_served(&mut self) {
        self.each_mut().for_each(|c| c.served.reset(c.received, c.way.sent));
    }

    /// Where an answer to it goes: one frame is counted.
    pub(super) fn out(&mut self, slot: Slot) -> &mut Vec<u8> {
        self.out_for(slot).0
    }

    /// The same, with what the connection has proved, and its session.
    pub(super) fn out_for(&mut self, slot: Slot) -> (&mut Vec<u8>, &Auth, i64) {
        let conn = self.places.at(slot);
        conn.answers += 1;
        let session = conn.open().map_or(0, |o| o.session);
        let (out, auth) = self.places.out_for(slot);
        (out, auth, session)
    }

    /// Puts what the turn has brought into `draft`, for connections that are at fronts. To be called before anything is
    /// published that comes later.
    pub(super) fn publish(&mut self, draft: &mut Draft) {
        self.places.take_dirty(|conn| {
            let (answers, out) = (std::mem::take(&mut conn.answers), &mut conn.way.outgoing.out);
            // An answer that is made in pieces may have nothing yet.
            if !out.is_empty() || answers > 0 {
                draft.answered(conn.id, out, answers, conn.vouched_at);
                conn.published_bytes += out.len();
                out.clear();
                if out.capacity() > SPARE_BYTES_MAX {
                    *out = Vec::new();
                }
            }
            if conn.is_closed() {
                draft.push(Item::Closed { conn: conn.id, cut: conn.is_cut });
            } else if let Some(paused) = conn.way.pause_changed(conn.paused) {
                draft.push(Item::Paused { conn: conn.id, paused });
            }
        });
    }

    /// Puts what the turn has brought for its connections into `outputs`.
    pub(super) fn drain<E>(&mut self, outputs: &mut VecDeque<Output<E>>) {
        self.places.drain(outputs, |c| c.answers = 0);
    }
}
