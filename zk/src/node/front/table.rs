//! Who is connected to this front? What each connection has waiting, has with the other executor, and is to be sent at
//! the end of the turn.

use super::Slot;
use crate::jute::{EventType, responses};
use crate::node::auth::Auth;
use crate::node::listing::{Budget, Listing, Outgoing, parent_and_name};
use crate::node::owed::Owed;
use crate::node::served::Served;
use crate::state::State;
use crate::txn::{Change, Readers};
use crate::watch::Told;
use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::time::Duration;
use zoolog_core::limits::OUT_BYTES_MAX;
use zoolog_core::{ConnId, Instant, Output};

/// Bytes counted for a request beside its frame.
const ENTRY_BYTES: usize = 128;
/// Bytes that a buffer with answers may be longer than these.
const SPARE_BYTES_MAX: usize = 64 << 10;
/// How many of those that may be owed an event are looked at for each that is told.
const LOOKS_PER_EVENT: usize = 16;

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
    /// As far as it is counted in what waits of all.
    pub counted_bytes: usize,
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
    outgoing: Outgoing,
    /// Of that, what was published.
    took: usize,
    /// Up to which event of those that many are told.
    told: u64,
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

    /// What its requests take that are not answered.
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending_bytes
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
        self.outgoing.len()
    }

    /// Whether an answer is under way, of which a piece goes out in each step.
    pub(super) fn is_listing(&self) -> bool {
        self.outgoing.is_listing()
    }

    /// Whether the answer under way waits for the client to take what is there.
    fn waits_to_list(&self) -> bool {
        self.backlog && !self.is_closed() && !self.outgoing.must_go_on()
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
    /// With answers under way, in the order in which they are gone on with. May hold some that have none any more.
    listing: VecDeque<Slot>,
    owed: Owed,
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
            counted_bytes: 0,
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
            outgoing: Outgoing::default(),
            took: 0,
            told: self.owed.newest(),
        }));
    }

    /// Lets go of one that has ended. Its place is used again at once, or, if it is `kept`, after [`Table::release`].
    pub(super) fn remove(&mut self, slot: Slot, kept: bool) {
        let conn = self.slots[slot as usize].take().expect("a connection ends once");
        self.by_id.remove(&conn.id);
        if !kept {
            self.free.push(slot);
        }
    }

    /// Nothing else of the front knows the place any more.
    pub(super) fn release(&mut self, slot: Slot) {
        if self.slots[slot as usize].is_none() {
            self.free.push(slot);
        }
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

    /// The places of all.
    pub(super) fn slots(&self) -> Vec<Slot> {
        self.by_id.values().copied().collect()
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
        self.pay(slot);
        let conn = self.at(slot);
        conn.sent += 1;
        let out = conn.outgoing.to();
        if out.capacity() == 0 {
            out.reserve(256);
        }
        (out, &conn.auth)
    }

    /// Tells the connection what it is owed, before anything else. Returns how many events those were.
    fn pay(&mut self, slot: Slot) -> usize {
        if self.owed.is_empty() {
            return 0;
        }
        let conn = self.slots[slot as usize].as_deref_mut().expect("the slot is taken");
        let told = std::mem::replace(&mut conn.told, self.owed.newest());
        let mut events = 0;
        if told < conn.told && !conn.is_closed() {
            for crowd in self.owed.to(slot, told) {
                if conn.auth.hears(crowd.kind, crowd.readers.as_ref()) {
                    responses::event(conn.outgoing.to(), crowd.zxid, crowd.kind, &crowd.path);
                    conn.sent += 1;
                    events += 1;
                }
            }
        }
        if events > 0 {
            self.mark(slot);
        }
        events
    }

    /// Tells those that are owed something, up to about so many events. Whoever is told is told all that he is owed.
    pub(super) fn tell_some(&mut self, events: usize) {
        let (mut events, mut looks) = (events, LOOKS_PER_EVENT * events);
        while events > 0
            && looks > 0
            && let Some(slot) = self.owed.next()
        {
            looks -= 1;
            if self.get(slot).is_some() {
                events = events.saturating_sub(self.pay(slot));
            }
        }
    }

    /// An answer of the connection is to be gone on with.
    pub(super) fn begin_listing(&mut self, slot: Slot, listing: Listing) {
        self.at(slot).outgoing.begin(listing);
        if !self.listing.contains(&slot) {
            self.listing.push_back(slot);
        }
    }

    /// The tree has changed: answers under way stay as they were begun.
    pub(super) fn tree_changed(&mut self, change: &Change) {
        let (path, came) = match change {
            _ if self.listing.is_empty() => return,
            Change::Created { path, .. } => (path, true),
            Change::Deleted { path, .. } => (path, false),
            _ => return,
        };
        let Some((parent, name)) = parent_and_name(path) else { return };
        for &slot in &self.listing {
            if let Some(conn) = self.slots[slot as usize].as_deref_mut() {
                conn.outgoing.changed(parent, name, came);
            }
        }
    }

    /// Goes on with the answers under way, a piece of each in turn. Every change up to `state` was told. Returns whose
    /// are done, and whose have become too long to keep.
    pub(super) fn list_some(&mut self, state: &State, names: usize) -> Vec<(Slot, bool)> {
        let (mut budget, mut found, mut waiting) = (Budget::of_step(names), Vec::new(), 0);
        while waiting < self.listing.len() && !budget.is_used_up() {
            let slot = self.listing.pop_front().expect("there are more than wait");
            let Some(conn) = self.get_mut(slot).filter(|c| c.is_listing()) else { continue };
            if conn.outgoing.len() > OUT_BYTES_MAX {
                found.push((slot, false));
                continue;
            }
            if conn.waits_to_list() {
                waiting += 1;
                self.listing.push_back(slot);
                continue;
            }
            waiting = 0;
            conn.outgoing.go_on(state, &mut budget);
            match conn.is_listing() {
                true => self.listing.push_back(slot),
                false => found.push((slot, true)),
            }
            self.mark(slot);
        }
        found
    }

    /// Whether [`Table::tell_some`] or [`Table::list_some`] have something to do.
    pub(super) fn is_behind(&self) -> bool {
        let lists = |c: &Conn| !c.is_listing() || !c.waits_to_list();
        !self.owed.is_empty() || self.listing.iter().any(|slot| self.get(*slot).is_none_or(lists))
    }

    /// Gives up the connection's answers that are under way.
    pub(super) fn cut(&mut self, slot: Slot) {
        self.at(slot).outgoing.cut();
    }

    /// Queues a watch event for those that still count and may read the node, now or soon.
    pub(super) fn event(
        &mut self,
        told: Told,
        zxid: i64,
        kind: EventType,
        path: &str,
        readers: Option<&Readers>,
    ) {
        match told {
            Told::One(slot) => {
                let listens = |c: &Conn| !c.is_closed() && c.auth.hears(kind, readers);
                if self.get(slot).is_some_and(listens) {
                    responses::event(self.out(slot), zxid, kind, path);
                }
            }
            Told::Crowd(lists) => self.owed.push((zxid, kind), path, readers, lists),
        }
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
        conn.sent += u64::from(answers);
        conn.outgoing.to().extend_from_slice(bytes);
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
            // Some have ended since, and their places may be used again.
            let Some(conn) = self.slots[slot as usize].as_deref_mut().filter(|c| c.dirty) else { continue };
            conn.dirty = false;
            let id = conn.id;
            // What is behind an answer under way has not gone yet.
            if conn.took > 0 && !conn.is_listing() {
                took(id, std::mem::take(&mut conn.took));
            }
            let out = &mut conn.outgoing.out;
            if !out.is_empty() {
                if out.capacity() - out.len() > SPARE_BYTES_MAX {
                    out.shrink_to_fit();
                }
                let bytes = Bytes::from(std::mem::take(out));
                outputs.push_back(Output::Send { conn: id, bytes });
            }
            if conn.is_closed() {
                // Behind the answer that is under way.
                if !conn.is_listing() {
                    outputs.push_back(Output::Close { conn: id });
                }
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
