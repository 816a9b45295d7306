//! Which sessions live? Each with what its ephemerals and its expiry rest on, and a hash over all of them.

use crate::tree::{Slot, hash_words};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use zoolog_core::Gsn;

/// Top byte of every session id: small and not zero, so that ids are positive and none of those that
/// ZooKeeper gives a meaning.
const TOP_BYTE: u64 = 1;

/// The id of the session that the `CreateSession` at `gsn` makes: never used twice. Panics beyond 2^56.
pub fn session_id(gsn: Gsn) -> i64 {
    assert!(gsn.0 < 1 << 56, "GSN {gsn} leaves no room for a session id's top byte");
    (TOP_BYTE << 56 | gsn.0) as i64
}

/// A session that lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Agreed timeout.
    pub timeout_ms: u32,
    /// GSN of the `CreateSession` or `Attach` that its connection rests on.
    pub attach: Gsn,
    /// GSN of the last record that showed it alive: its attach, a touch or any request.
    pub touch: Gsn,
    /// Where its connection comes from, as far as known.
    pub address: Option<IpAddr>,
    /// Its share of the hash, which every request needs twice.
    address_hash: u64,
    /// Where its ephemerals are.
    pub(super) ephemerals: BTreeSet<Slot>,
}

impl Session {
    /// Without ephemerals; attached and touched then.
    pub(super) fn new(id: i64, timeout_ms: u32, at: (Gsn, Gsn), address: Option<IpAddr>) -> Self {
        let (attach, touch) = at;
        let ephemerals = BTreeSet::new();
        let mut session = Self { timeout_ms, attach, touch, address: None, address_hash: 0, ephemerals };
        session.set_address(id, address);
        session
    }

    /// Number of its ephemerals.
    pub fn ephemeral_count(&self) -> usize {
        self.ephemerals.len()
    }

    /// Its share of the hash. Its ephemerals are in the tree's.
    fn hash(&self, id: i64) -> u64 {
        let hash = hash_words(&[id as u64, u64::from(self.timeout_ms), self.attach.0, self.touch.0]);
        hash.wrapping_add(self.address_hash)
    }

    fn set_address(&mut self, id: i64, address: Option<IpAddr>) {
        self.address = address;
        self.address_hash = match address {
            None => 0,
            Some(IpAddr::V4(a)) => hash_words(&[id as u64, 4, u64::from(a.to_bits()), 0]),
            Some(IpAddr::V6(a)) => {
                hash_words(&[id as u64, 6, a.to_bits() as u64, (a.to_bits() >> 64) as u64])
            }
        };
    }
}

/// All sessions.
#[derive(Debug, Default)]
pub struct Sessions {
    all: BTreeMap<i64, Session>,
    hash: u64,
}

impl Sessions {
    /// The session of that id.
    pub fn get(&self, id: i64) -> Option<&Session> {
        self.all.get(&id)
    }

    /// All, by id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (i64, &Session)> {
        self.all.iter().map(|(&id, s)| (id, s))
    }

    /// Hash over all of them, kept up to date by every change.
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// The same, computed anew.
    pub fn hash_from_scratch(&self) -> u64 {
        self.all.iter().fold(0, |sum, (&id, s)| sum.wrapping_add(s.hash(id)))
    }

    /// Adds the session that the record at `gsn` makes.
    pub fn create(&mut self, gsn: Gsn, timeout_ms: u32, address: Option<IpAddr>) -> i64 {
        let id = session_id(gsn);
        let session = Session::new(id, timeout_ms, (gsn, gsn), address);
        self.hash = self.hash.wrapping_add(session.hash(id));
        let old = self.all.insert(id, session);
        assert!(old.is_none(), "session {id:#x} is made twice");
        id
    }

    /// Adds a session as a snapshot has it, without ephemerals; whether it is the only one of its id.
    pub fn restore(&mut self, id: i64, session: Session) -> bool {
        self.hash = self.hash.wrapping_add(session.hash(id));
        self.all.insert(id, session).is_none()
    }

    /// Gives a restored session an ephemeral; whether there is that session.
    pub fn restore_ephemeral(&mut self, id: i64, slot: Slot) -> bool {
        self.all.get_mut(&id).is_some_and(|session| session.ephemerals.insert(slot))
    }

    /// Changes the session of that id, if there is one and `when` says so.
    fn change(
        &mut self,
        id: i64,
        when: impl FnOnce(&Session) -> bool,
        f: impl FnOnce(&mut Session),
    ) -> Option<&Session> {
        let session = self.all.get_mut(&id).filter(|s| when(s))?;
        let before = session.hash(id);
        f(session);
        self.hash = self.hash.wrapping_sub(before).wrapping_add(session.hash(id));
        Some(session)
    }

    /// Moves a session to the connection of the `Attach` at `gsn`; whether there is one.
    pub fn attach(&mut self, id: i64, gsn: Gsn, timeout_ms: u32, address: Option<IpAddr>) -> bool {
        let moved = |s: &mut Session| {
            (s.timeout_ms, s.attach, s.touch) = (timeout_ms, gsn, gsn);
            s.set_address(id, address);
        };
        self.change(id, |_| true, moved).is_some()
    }

    /// Notes that the session was alive, if `attach` is still what it rests on: then, it.
    pub fn touch(&mut self, id: i64, attach: Gsn, gsn: Gsn) -> Option<&Session> {
        self.change(id, |s| s.attach == attach, |s| s.touch = gsn)
    }

    /// Takes a session out, with its ephemerals still in the tree.
    pub fn remove(&mut self, id: i64) -> Option<Session> {
        let session = self.all.remove(&id)?;
        self.hash = self.hash.wrapping_sub(session.hash(id));
        Some(session)
    }

    /// A new ephemeral of a session that lives.
    pub fn add_ephemeral(&mut self, id: i64, slot: Slot) {
        let session =
            self.all.get_mut(&id).unwrap_or_else(|| panic!("session {id:#x} of an ephemeral is gone"));
        assert!(session.ephemerals.insert(slot), "session {id:#x} has slot {slot} already");
    }

    /// An ephemeral that was deleted.
    pub fn remove_ephemeral(&mut self, id: i64, slot: Slot) {
        let session =
            self.all.get_mut(&id).unwrap_or_else(|| panic!("session {id:#x} of an ephemeral is gone"));
        assert!(session.ephemerals.remove(&slot), "session {id:#x} never had slot {slot}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_shows_in_the_hash() {
        let from = |timeout_ms, attach, touch, address| {
            let mut all = Sessions::default();
            let id = all.create(Gsn(1), timeout_ms, address);
            all.change(id, |_| true, |s| (s.attach, s.touch) = (Gsn(attach), Gsn(touch)));
            assert_eq!(all.hash(), all.hash_from_scratch());
            all.hash()
        };
        let build = |timeout_ms, attach, touch| from(timeout_ms, attach, touch, None);
        let at = |address: &str| from(5, 2, 3, address.parse().ok());
        let hashes = [
            build(5, 2, 3),
            build(6, 2, 3),
            build(5, 3, 3),
            build(5, 2, 4),
            build(5, 3, 2),
            at("0.0.0.1"),
            at("0.0.0.2"),
            at("::1"),
            at("1::"),
        ];
        assert_eq!(BTreeSet::from(hashes).len(), hashes.len());
    }

    #[test]
    fn a_touch_is_void_for_another_attach() {
        let mut all = Sessions::default();
        let id = all.create(Gsn(1), 5, None);
        assert!(all.touch(id, Gsn(0), Gsn(2)).is_none());
        assert!(all.touch(id + 1, Gsn(1), Gsn(2)).is_none());
        assert_eq!(all.get(id).map(|s| s.touch), Some(Gsn(1)));
        assert!(all.touch(id, Gsn(1), Gsn(2)).is_some());
        assert_eq!(all.get(id).map(|s| s.touch), Some(Gsn(2)));
    }
}
