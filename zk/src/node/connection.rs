//! Who is connected? The node's table of client connections, what each has in hand, and what is to be sent to
//! it at the end of the turn.

use super::auth::Auth;
use super::handshake::Ask;
use super::listing::{Budget, Listing, Outgoing, parent_and_name};
use super::owed::Owed;
use super::published::{Draft, Item};
use super::queue::Queue;
use super::served::Served;
use crate::jute::{EventType, responses};
use crate::state::State;
use crate::txn::{Change, Readers};
use crate::watch::Told;
use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use zoolog_core::limits::{OUT_BYTES_MAX, OUT_BYTES_PAUSE};
use zoolog_core::{ConnId, Gsn, Instant, Output};

/// Bytes that a buffer with answers may be longer than these.
const SPARE_BYTES_MAX: usize = 64 << 10;
/// How many of those that may be owed an event are looked at for each that is told.
const LOOKS_PER_EVENT: usize = 16;

/// A connection's place in the table; used again after the connection has gone.
pub(super) type Slot = u32;

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
    /// It takes its answers more slowly than they are made.
    pub backlog: bool,
    /// Its first unsent write waits for its answers to be taken, not for room in the log.
    pub held: bool,
    /// Frames from and to it.
    pub received: u64,
    pub sent: u64,
    /// What it was answered here.
    pub served: Served,
    /// When it came.
    pub began_at: Instant,
    /// Bytes that were published for it, and are not at its socket yet as far as is known here.
    pub published_bytes: usize,
    /// Bytes of its requests that are counted in what waits of all.
    pub counted_bytes: usize,
    /// Answers in `out`.
    answers: u32,
    /// Without a session by then it is closed.
    deadline: Option<Instant>,
    told_paused: bool,
    dirty: bool,
    outgoing: Outgoing,
    /// Up to which event of those that many are told.
    told: u64,
}

impl Conn {
    /// Its session.
    pub(super) fn open(&self) -> Option<&Open> {
        match &self.phase {
            Phase::Open(open) => Some(open),
            _ => None,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Bytes that leave at the end of the turn, or are on their way to its front.
    pub(super) fn out_bytes(&self) -> usize {
        self.outgoing.len() + self.published_bytes
    }

    /// What its requests take that are not answered.
    pub(super) fn pending_bytes(&self) -> usize {
        self.queue.bytes() + self.early_bytes
    }

    /// Whether an answer is under way, of which a piece goes out in each step.
    pub(super) fn is_listing(&self) -> bool {
        self.outgoing.is_listing()
    }

    /// Whether the answer under way waits for the client to take what is there.
    fn waits_to_list(&self) -> bool {
        self.backlog && !self.is_closed() && !self.outgoing.must_go_on()
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
        let paused = self.backlog || over;
        std::mem::replace(&mut self.paused, paused) != paused
    }
}

/// All connections.
#[derive(Debug)]
pub(super) struct Conns {
    slots: Vec<Option<Box<Conn>>>,
    free: Vec<Slot>,
    by_id: HashMap<ConnId, Slot, FixedState>,
    per_ip: BTreeMap<String, u32>,
    /// Those with something to be done at the end of the turn, each once, in order.
    dirty: Vec<Slot>,
    /// With answers under way, in the order in which they are gone on with. May hold some that have none any more.
    listing: VecDeque<Slot>,
    owed: Owed,
    /// Of those without a session.
    deadlines: BTreeSet<(Instant, Slot)>,
}

fn ip_of(peer: &str) -> &str {
    peer.rsplit_once(':').map_or(peer, |(ip, _)| ip)
}

impl Conns {
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_id: HashMap::with_hasher(FixedState::default()),
            per_ip: BTreeMap::new(),
            dirty: Vec::new(),
            listing: VecDeque::new(),
            owed: Owed::default(),
            deadlines: BTreeSet::new(),
        }
    }

    /// How many there are, those about to be closed included.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

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
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            Slot::try_from(self.slots.len() - 1).expect("connections are bounded far below")
        });
        *self.per_ip.entry(ip_of(&peer).to_string()).or_default() += 1;
        let before = self.by_id.insert(id, slot);
        assert!(before.is_none(), "connection {id:?} was accepted twice");
        self.slots[slot as usize] = Some(Box::new(Conn {
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
            backlog: false,
            held: false,
            received: 0,
            sent: 0,
            served: Served::default(),
            began_at: now,
            published_bytes: 0,
            counted_bytes: 0,
            answers: 0,
            told_paused: false,
            dirty: false,
            outgoing: Outgoing::default(),
            told: self.owed.newest(),
        }));
        self.set_deadline(slot, Some(deadline));
        slot
    }

    /// By when the connection must have its session.
    pub(super) fn set_deadline(&mut self, slot: Slot, deadline: Option<Instant>) {
        let conn = self.slots[slot as usize].as_deref_mut().expect("the slot is taken");
        if let Some(old) = std::mem::replace(&mut conn.deadline, deadline) {
            self.deadlines.remove(&(old, slot));
        }
        self.deadlines.extend(deadline.map(|at| (at, slot)));
    }

    /// The next such time, and whose it is.
    pub(super) fn next_deadline(&self) -> Option<(Instant, Slot)> {
        self.deadlines.first().copied()
    }

    /// Lets go of one that has ended. Its place is used again at once, or, if it is `kept`, after [`Conns::release`].
    pub(super) fn remove(&mut self, slot: Slot, kept: bool) {
        self.set_deadline(slot, None);
        let conn = self.slots[slot as usize].take().expect("a connection ends once");
        self.by_id.remove(&conn.id);
        let ip = ip_of(&conn.peer);
        match self.per_ip.get_mut(ip) {
            Some(1) => drop(self.per_ip.remove(ip)),
            Some(n) => *n -= 1,
            None => panic!("{ip} has a connection that was not counted"),
        }
        if !kept {
            self.free.push(slot);
        }
    }

    /// Nothing else of the node knows the place any more.
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

    /// The one at `slot`, if it is still the connection `id` and counts.
    pub(super) fn live(&mut self, slot: Slot, id: ConnId) -> Option<&mut Conn> {
        self.get_mut(slot).filter(|c| c.id == id && !c.is_closed())
    }

    /// The one that is known to be there.
    pub(super) fn at(&mut self, slot: Slot) -> &mut Conn {
        self.get_mut(slot).expect("the slot is taken")
    }

    /// Gives back what the connections don't need while nothing happens.
    pub(super) fn relax(&mut self) {
        self.slots.iter_mut().flatten().for_each(|c| {
            c.queue.relax();
            if c.outgoing.out.is_empty() {
                c.outgoing.out = Vec::new();
            }
        });
    }

    /// What all were answered is counted anew.
    pub(super) fn reset_served(&mut self) {
        self.slots.iter_mut().flatten().for_each(|c| c.served.reset(c.received, c.sent));
    }

    /// All, by slot.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &Conn)> {
        self.slots.iter().zip(0..).filter_map(|(c, slot)| Some((slot, c.as_deref()?)))
    }

    /// Something is to be done for it at the end of the turn.
    pub(super) fn mark(&mut self, slot: Slot) {
        let conn = self.slots[slot as usize].as_deref_mut().expect("the slot is taken");
        if !conn.dirty {
            conn.dirty = true;
            self.dirty.push(slot);
        }
    }

    /// Where a frame to it goes: one frame is counted.
    pub(super) fn out(&mut self, slot: Slot) -> &mut Vec<u8> {
        self.out_for(slot).0
    }

    /// The same, with what the connection has proved, and its session.
    pub(super) fn out_for(&mut self, slot: Slot) -> (&mut Vec<u8>, &Auth, i64) {
        self.mark(slot);
        self.pay(slot);
        let conn = self.at(slot);
        conn.sent += 1;
        conn.answers += 1;
        let session = conn.open().map_or(0, |o| o.session);
        let out = conn.outgoing.to();
        if out.capacity() == 0 {
            out.reserve(256);
        }
        (out, &conn.auth, session)
    }

    /// Tells the connection what it is owed, before anything else. Returns how many events those were.
    fn pay(&mut self, slot: Slot) -> usize {
        if self.owed.is_empty() {
            return 0;
        }
        let conn = self.slots[slot as usize].as_deref_mut().expect("the slot is taken");
        let told = std::mem::replace(&mut conn.told, self.owed.newest());
        let mut events = 0;
        if told < conn.told && conn.open().is_some() {
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

    /// Whether [`Conns::tell_some`] or [`Conns::list_some`] have something to do.
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
                let listens = |c: &Conn| c.open().is_some() && c.auth.hears(kind, readers);
                if self.get(slot).is_some_and(listens) {
                    responses::event(self.out(slot), zxid, kind, path);
                }
            }
            Told::Crowd(lists) => self.owed.push((zxid, kind), path, readers, lists),
        }
    }

    /// The same for connections that are at fronts. To be called before anything is published that comes later.
    pub(super) fn publish(&mut self, draft: &mut Draft) {
        for slot in self.dirty.drain(..) {
            // Some have ended since, and their places may be used again.
            let Some(conn) = self.slots[slot as usize].as_deref_mut().filter(|c| c.dirty) else { continue };
            conn.dirty = false;
            let (answers, out) = (std::mem::take(&mut conn.answers), &mut conn.outgoing.out);
            if !out.is_empty() {
                draft.answered(conn.id, out, answers, conn.vouched_at);
                conn.published_bytes += out.len();
                out.clear();
                if out.capacity() > SPARE_BYTES_MAX {
                    *out = Vec::new();
                }
            }
            if conn.is_closed() {
                draft.push(Item::Closed { conn: conn.id });
            } else if conn.paused != conn.told_paused {
                conn.told_paused = conn.paused;
                draft.push(Item::Paused { conn: conn.id, paused: conn.paused });
            }
        }
    }

    /// Puts what the turn has brought for its connections into `outputs`: per connection one buffer, then
    /// whether to read on, then its end.
    pub(super) fn drain<E>(&mut self, outputs: &mut VecDeque<Output<E>>) {
        for slot in self.dirty.drain(..) {
            let Some(conn) = self.slots[slot as usize].as_deref_mut().filter(|c| c.dirty) else { continue };
            (conn.dirty, conn.answers) = (false, 0);
            let (id, out) = (conn.id, &mut conn.outgoing.out);
            if !out.is_empty() {
                // A buffer that grew for a long answer may be twice as long, and may be kept for a while.
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
