//! Which sessions live? Each with what its ephemerals and its expiry rest on, and a hash over all of them.

use crate::tree::{Slot, hash_words};
use std::collections::{BTreeMap, BTreeSet};
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
    /// Where its ephemerals are.
    pub(super) ephemerals: BTreeSet<Slot>,
}

impl Session {
    /// Number of its ephemerals.
    pub fn ephemeral_count(&self) -> usize {
        self.ephemerals.len()
    }

    /// Its share of the hash. Its ephemerals are in the tree's.
    fn hash(&self, id: i64) -> u64 {
        hash_words(&[id as u64, u64::from(self.timeout_ms), self.attach.0, self.touch.0])
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
    pub fn create(&mut self, gsn: Gsn, timeout_ms: u32) -> i64 {
        let id = session_id(gsn);
        let session = Session { timeout_ms, attach: gsn, touch: gsn, ephemerals: BTreeSet::new() };
        self.hash = self.hash.wrapping_add(session.hash(id));
        let old = self.all.insert(id, session);
        assert!(old.is_none(), "session {id:#x} is made twice");
        id
    }

    /// Adds a session as a snapshot has it; whether it is the only one of its id.
    pub fn restore(&mut self, id: i64, timeout_ms: u32, attach: Gsn, touch: Gsn) -> bool {
        let session = Session { timeout_ms, attach, touch, ephemerals: BTreeSet::new() };
        self.hash = self.hash.wrapping_add(session.hash(id));
        self.all.insert(id, session).is_none()
    }

    /// Gives a restored session an ephemeral; whether there is that session.
    pub fn restore_ephemeral(&mut self, id: i64, slot: Slot) -> bool {
        self.all.get_mut(&id).is_some_and(|session| session.ephemerals.insert(slot))
    }

    fn change(&mut self, id: i64, f: impl FnOnce(&mut Session) -> bool) -> bool {
        let Some(session) = self.all.get_mut(&id) else { return false };
        let before = session.hash(id);
        let done = f(session);
        self.hash = self.hash.wrapping_sub(before).wrapping_add(session.hash(id));
        done
    }

    /// Moves a session to the connection of the `Attach` at `gsn`; whether there is one.
    pub fn attach(&mut self, id: i64, gsn: Gsn, timeout_ms: u32) -> bool {
        self.change(id, |s| {
            (s.timeout_ms, s.attach, s.touch) = (timeout_ms, gsn, gsn);
            true
        })
    }

    /// Notes that the session was alive, if `attach` is still what it rests on; whether it is.
    pub fn touch(&mut self, id: i64, attach: Gsn, gsn: Gsn) -> bool {
        self.change(id, |s| {
            let current = s.attach == attach;
            if current {
                s.touch = gsn;
            }
            current
        })
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
        let build = |timeout_ms, attach, touch| {
            let mut all = Sessions::default();
            let id = all.create(Gsn(1), timeout_ms);
            all.change(id, |s| {
                (s.attach, s.touch) = (Gsn(attach), Gsn(touch));
                true
            });
            assert_eq!(all.hash(), all.hash_from_scratch());
            all.hash()
        };
        let hashes = [build(5, 2, 3), build(6, 2, 3), build(5, 3, 3), build(5, 2, 4), build(5, 3, 2)];
        assert_eq!(BTreeSet::from(hashes).len(), hashes.len());
    }

    #[test]
    fn a_touch_is_void_for_another_attach() {
        let mut all = Sessions::default();
        let id = all.create(Gsn(1), 5);
        assert!(!all.touch(id, Gsn(0), Gsn(2)) && !all.touch(id + 1, Gsn(1), Gsn(2)));
        assert_eq!(all.get(id).map(|s| s.touch), Some(Gsn(1)));
        assert!(all.touch(id, Gsn(1), Gsn(2)));
        assert_eq!(all.get(id).map(|s| s.touch), Some(Gsn(2)));
    }
}
