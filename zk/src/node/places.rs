//! Who has which place, and what is on its way to him? The table of connections, as far as it is the same where connections
//! are served by the executor that applies and at a front: places, what is to be sent at the end of the turn, events
//! and long answers that go out in steps.

use super::again::SetAgain;
use super::auth::Auth;
use super::listing::{Budget, Listing, Moved, Outgoing, parent_and_name};
use super::owed::Owed;
use super::reads::{Leave, Reads};
use crate::jute::{EventType, responses};
use crate::state::State;
use crate::txn::{Change, Readers};
use crate::watch::{Told, TooMany, Watches};
use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::collections::VecDeque;
use zoolog_core::limits::OUT_BYTES_MAX;
use zoolog_core::{ConnId, Output};

/// Bytes that a buffer with answers may be longer than these.
pub(super) const SPARE_BYTES_MAX: usize = 64 << 10;
/// How many of those that may be owed an event are looked at for each that is told.
const LOOKS_PER_EVENT: usize = 16;

/// A connection's place in the table; used again after the connection has gone.
pub(super) type Slot = u32;

/// What is on its way to a client.
#[derive(Debug, Default)]
pub(super) struct Way {
    /// Frames to it.
    pub sent: u64,
    /// It takes its answers more slowly than they are made.
    pub backlog: bool,
    pub outgoing: Outgoing,
    /// Watches that are being set again, over turns. Nothing else is said to it meanwhile but events and answers to pings.
    again: Option<Box<SetAgain>>,
    told_paused: bool,
    dirty: bool,
    /// Up to which event of those that many are told.
    told: u64,
}

impl Way {
    /// Whether an answer is under way, of which a piece goes out in each step.
    pub(super) fn is_listing(&self) -> bool {
        self.outgoing.is_listing()
    }

    /// Whether watches are being set again.
    pub(super) fn is_setting_again(&self) -> bool {
        self.again.is_some()
    }

    /// Whether what is under way must be done before a request is answered.
    pub(super) fn is_busy(&self) -> bool {
        self.is_listing() || self.is_setting_again()
    }

    /// Bytes of a request that is under way.
    pub(super) fn request_bytes(&self) -> usize {
        self.again.as_ref().map_or(0, |again| again.bytes())
    }

    /// Puts what may leave into `outputs`.
    fn send<E>(&mut self, conn: ConnId, outputs: &mut VecDeque<Output<E>>) {
        let out = &mut self.outgoing.out;
        if !out.is_empty() {
            // A buffer that grew for a long answer may be twice as long, and may be kept for a while.
            if out.capacity() - out.len() > SPARE_BYTES_MAX {
                out.shrink_to_fit();
            }
            outputs.push_back(Output::Send { conn, bytes: Bytes::from(std::mem::take(out)) });
        }
    }

    /// The new state, if it is not known outside whether the connection is read from.
    pub(super) fn pause_changed(&mut self, paused: bool) -> Option<bool> {
        (std::mem::replace(&mut self.told_paused, paused) != paused).then_some(paused)
    }
}

/// One client connection, whatever else is kept of it.
pub(super) trait Client {
    /// Whose it is.
    fn id(&self) -> ConnId;
    /// To be closed; nothing counts any more.
    fn is_closed(&self) -> bool;
    /// Whether events are for it.
    fn hears_events(&self) -> bool;
    /// Whether it should not be read from.
    fn is_paused(&self) -> bool;
    /// What it has proved.
    fn auth(&self) -> &Auth;
    /// What is on its way to it.
    fn way(&self) -> &Way;
    /// The same, to change, beside what it has proved.
    fn way_and_auth(&mut self) -> (&mut Way, &Auth);

    /// Whether the answer under way waits for the client to take what is there.
    fn waits_to_list(&self) -> bool {
        self.way().backlog && !self.is_closed() && !self.way().outgoing.must_go_on()
    }
}

/// All connections of an executor.
#[derive(Debug)]
pub(super) struct Places<C> {
    slots: Vec<Option<Box<C>>>,
    free: Vec<Slot>,
    by_id: HashMap<ConnId, Slot, FixedState>,
    /// Those with something to be done at the end of the turn, each once, in order.
    dirty: Vec<Slot>,
    /// With answers under way, in the order in which they are gone on with. May hold some that have none any more.
    listing: VecDeque<Slot>,
    /// Whose watches are being set again, likewise.
    again: VecDeque<Slot>,
    owed: Owed,
}

impl<C> Default for Places<C> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_id: HashMap::default(),
            dirty: Vec::new(),
            listing: VecDeque::new(),
            again: VecDeque::new(),
            owed: Owed::default(),
        }
    }
}

impl<C: Client> Places<C> {
    /// How many there are, those about to be closed included.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// One past the last place that was ever taken.
    pub(super) fn end(&self) -> Slot {
        Slot::try_from(self.slots.len()).expect("connections are bounded far below")
    }

    /// Takes a new one in.
    pub(super) fn insert(&mut self, mut conn: Box<C>) -> Slot {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            Slot::try_from(self.slots.len() - 1).expect("connections are bounded far below")
        });
        let id = conn.id();
        let before = self.by_id.insert(id, slot);
        assert!(before.is_none(), "connection {id:?} was accepted twice");
        // What happened before it came is not for it.
        conn.way_and_auth().0.told = self.owed.newest();
        self.slots[slot as usize] = Some(conn);
        slot
    }

    /// Lets go of one that has ended. Its place is used again at once, or, if it is `kept`, after [`Places::release`].
    pub(super) fn remove(&mut self, slot: Slot, kept: bool) -> Box<C> {
        let conn = self.slots[slot as usize].take().expect("a connection ends once");
        self.by_id.remove(&conn.id());
        if !kept {
            self.free.push(slot);
        }
        conn
    }

    /// Nothing else knows the place any more.
    pub(super) fn release(&mut self, slot: Slot) {
        if self.slots[slot as usize].is_none() {
            self.free.push(slot);
        }
    }

    pub(super) fn slot(&self, id: ConnId) -> Option<Slot> {
        self.by_id.get(&id).copied()
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&C> {
        self.slots.get(slot as usize)?.as_deref()
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut C> {
        self.slots.get_mut(slot as usize)?.as_deref_mut()
    }

    /// The one that is known to be there.
    pub(super) fn at(&mut self, slot: Slot) -> &mut C {
        self.get_mut(slot).expect("the slot is taken")
    }

    /// All, by slot.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &C)> {
        self.slots.iter().zip(0..).filter_map(|(c, slot)| Some((slot, c.as_deref()?)))
    }

    /// The same, to change.
    pub(super) fn each_mut(&mut self) -> impl Iterator<Item = &mut C> {
        self.slots.iter_mut().flatten().map(|c| &mut **c)
    }

    /// Something is to be done for it at the end of the turn.
    pub(super) fn mark(&mut self, slot: Slot) {
        let conn = self.slots[slot as usize].as_deref_mut().expect("the slot is taken");
        let way = conn.way_and_auth().0;
        if !way.dirty {
            way.dirty = true;
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
        let (way, auth) = self.at(slot).way_and_auth();
        way.sent += 1;
        let out = way.outgoing.to();
        if out.capacity() == 0 {
            out.reserve(256);
        }
        (out, auth)
    }

    /// Tells the connection what it is owed, before anything else. Returns how many events those were.
    pub(super) fn pay(&mut self, slot: Slot) -> usize {
        if self.owed.is_empty() {
            return 0;
        }
        let conn = self.slots[slot as usize].as_deref_mut().expect("the slot is taken");
        let hears_events = conn.hears_events();
        let (way, auth) = conn.way_and_auth();
        let told = std::mem::replace(&mut way.told, self.owed.newest());
        let mut events = 0;
        if told < way.told && hears_events {
            for crowd in self.owed.to(slot, told) {
                if auth.hears(crowd.kind, crowd.readers.as_ref()) {
                    responses::event(way.outgoing.to(), crowd.zxid, crowd.kind, &crowd.path);
                    way.sent += 1;
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
                let listens = |c: &C| c.hears_events() && c.auth().hears(kind, readers);
                if self.get(slot).is_some_and(listens) {
                    responses::event(self.out_for(slot).0, zxid, kind, path);
                }
            }
            Told::Crowd(lists) => self.owed.push((zxid, kind), path, readers, lists),
        }
    }

    /// An answer of the connection is to be gone on with.
    pub(super) fn begin_listing(&mut self, slot: Slot, listing: Listing) {
        self.at(slot).way_and_auth().0.outgoing.begin(listing);
        if !self.listing.contains(&slot) {
            self.listing.push_back(slot);
        }
    }

    /// The tree has changed: answers under way stay as they were begun.
    pub(super) fn tree_changed(&mut self, change: &Change) {
        let (path, came, was) = match change {
            _ if self.listing.is_empty() => return,
            Change::Created { path, .. } => (path, true, None),
            Change::Deleted { path, ephemeral, .. } => (path, false, *ephemeral),
            _ => return,
        };
        let Some((parent, name)) = parent_and_name(path) else { return };
        let moved = Moved { path, parent, name, came, was };
        for &slot in &self.listing {
            if let Some(conn) = self.slots[slot as usize].as_deref_mut() {
                conn.way_and_auth().0.outgoing.changed(&moved);
            }
        }
    }

    /// Goes on with the answers under way, a piece of each in turn. Every change up to `state` was told. Returns whose
    /// are done, and whose have become too long to keep.
    pub(super) fn list_some(&mut self, state: &State, names: usize) -> Vec<(Slot, bool)> {
        let (mut budget, mut found, mut waiting) = (Budget::of_step(names), Vec::new(), 0);
        while waiting < self.listing.len() && !budget.is_used_up() {
            let slot = self.listing.pop_front().expect("there are more than wait");
            let Some(conn) = self.get_mut(slot).filter(|c| c.way().is_listing()) else { continue };
            if conn.way().outgoing.len() > OUT_BYTES_MAX {
                found.push((slot, false));
                continue;
            }
            if conn.waits_to_list() {
                waiting += 1;
                self.listing.push_back(slot);
                continue;
            }
            waiting = 0;
            let way = conn.way_and_auth().0;
            way.outgoing.go_on(state, &mut budget);
            match way.is_listing() {
                true => self.listing.push_back(slot),
                false => found.push((slot, true)),
            }
            self.mark(slot);
        }
        found
    }

    /// The connection's watches are to be set again, over turns.
    pub(super) fn begin_again(&mut self, slot: Slot, again: SetAgain) {
        let way = self.at(slot).way_and_auth().0;
        assert!(!way.is_busy(), "a request behind another that is under way was begun");
        way.again = Some(Box::new(again));
        self.again.push_back(slot);
    }

    /// Goes on with watches that are set again: so many paths, a quarter of that for each connection in turn. Every change up to
    /// `state` was told. Returns what is done, its reply given, and who can't go on.
    pub(super) fn set_some_again(
        &mut self,
        state: &State,
        watches: &mut Watches,
        paths: usize,
    ) -> Vec<(Slot, Result<SetAgain, TooMany>)> {
        let (mut left, mut ended, mut waiting) = (paths, Vec::new(), 0);
        while left > 0 && waiting < self.again.len() {
            let slot = self.again.pop_front().expect("there are more than wait");
            let Some(conn) = self.get_mut(slot).filter(|c| c.way().is_setting_again()) else { continue };
            if conn.way().backlog {
                waiting += 1;
                self.again.push_back(slot);
                continue;
            }
            waiting = 0;
            // First what has happened to what it watches already, or to what was set in an earlier step.
            self.pay(slot);
            self.mark(slot);
            let (way, auth) = self.at(slot).way_and_auth();
            let mut again = way.again.take().expect("just seen");
            let mut piece = left.min(paths.div_ceil(4));
            left -= piece;
            let watches = Leave::Here(&mut *watches, slot);
            let mut reads = Reads { state, watches, auth, session: 0, names_at_once: 0 };
            match again.go_on(&mut reads, way.outgoing.to(), &mut piece) {
                Ok(false) => {
                    way.again = Some(again);
                    self.again.push_back(slot);
                }
                Ok(true) => {
                    responses::empty(self.out_for(slot).0, again.xid, state.zxid());
                    ended.push((slot, Ok(*again)));
                }
                Err(e) => ended.push((slot, Err(e))),
            }
            left += piece;
        }
        ended
    }

    /// The connection has ended: no more of its watches are set.
    pub(super) fn end_again(&mut self, slot: Slot) {
        self.at(slot).way_and_auth().0.again = None;
    }

    /// Whether something is under way: [`Places::tell_some`], [`Places::list_some`] or [`Places::set_some_again`] have something to
    /// do. Asked several times a turn.
    #[inline]
    pub(super) fn is_behind(&self) -> bool {
        !self.owed.is_empty()
            || (!self.listing.is_empty() && self.some_may_list())
            || (!self.again.is_empty() && self.some_may_set_again())
    }

    fn some_may_set_again(&self) -> bool {
        let sets = |c: &C| !c.way().is_setting_again() || !c.way().backlog;
        self.again.iter().any(|slot| self.get(*slot).is_none_or(sets))
    }

    fn some_may_list(&self) -> bool {
        let lists = |c: &C| !c.way().is_listing() || !c.waits_to_list();
        self.listing.iter().any(|slot| self.get(*slot).is_none_or(lists))
    }

    /// Gives up the connection's answers that are under way. If it is closed, it need not wait for them any more.
    pub(super) fn cut(&mut self, slot: Slot) {
        let way = self.at(slot).way_and_auth().0;
        if way.is_listing() {
            way.outgoing.cut();
            self.mark(slot);
        }
    }

    /// Those with something to be done, each once; from now on there is nothing for them.
    pub(super) fn take_dirty(&mut self, mut each: impl FnMut(&mut C)) {
        for slot in self.dirty.drain(..) {
            // Some have ended since, and their places may be used again.
            let Some(conn) = self.slots[slot as usize].as_deref_mut() else { continue };
            if std::mem::take(&mut conn.way_and_auth().0.dirty) {
                each(conn);
            }
        }
    }

    /// Puts what the turn has brought for its connections into `outputs`: per connection one buffer, then whether to
    /// read on, then its end. Each is looked at `first`.
    pub(super) fn drain<E>(&mut self, outputs: &mut VecDeque<Output<E>>, mut first: impl FnMut(&mut C)) {
        self.take_dirty(|c| {
            first(c);
            let (conn, closed, paused) = (c.id(), c.is_closed(), c.is_paused());
            let way = c.way_and_auth().0;
            way.send(conn, outputs);
            if closed {
                // Behind the answer that is under way.
                if !way.is_listing() {
                    outputs.push_back(Output::Close { conn });
                }
            } else if let Some(paused) = way.pause_changed(paused) {
                outputs.push_back(match paused {
                    true => Output::Pause { conn },
                    false => Output::Resume { conn },
                });
            }
        });
    }
}
