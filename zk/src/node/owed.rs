//! Which events have connections not been told yet? When more watch a node than a turn can tell, what happened stands
//! here, and they are told in steps, in the order of their numbers; but each, at the latest, before anything else is
//! said to it (ZK-3). So a client sees the event before any state, and any reply, that comes after it.

use super::connection::Slot;
use crate::jute::EventType;
use crate::txn::Readers;
use crate::watch::Watchers;
use std::collections::VecDeque;

/// An event that many are to be told.
#[derive(Debug)]
pub(super) struct Crowd {
    pub zxid: i64,
    pub kind: EventType,
    pub path: Box<str>,
    pub readers: Option<Readers>,
    /// Whom: each who is in one of them, once.
    lists: Vec<Watchers>,
    /// Up to which number of which list they were told.
    at: (usize, Slot),
}

impl Crowd {
    fn owes(&self, slot: Slot) -> bool {
        self.lists.iter().any(|l| l.contains(slot))
    }

    /// The next who is in the lists; may come more than once.
    fn next(&mut self) -> Option<Slot> {
        while let Some(list) = self.lists.get(self.at.0) {
            if let Some(slot) = list.at_or_after(self.at.1) {
                self.at.1 = slot + 1;
                return Some(slot);
            }
            self.at = (self.at.0 + 1, 0);
        }
        None
    }
}

/// All such events, the oldest first, numbered from 1. A connection remembers up to which number it was told.
#[derive(Debug, Default)]
pub(super) struct Owed {
    crowds: VecDeque<Crowd>,
    newest: u64,
}

impl Owed {
    /// Number of the newest there ever was: a new connection is owed nothing up to it.
    pub(super) const fn newest(&self) -> u64 {
        self.newest
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.crowds.is_empty()
    }

    /// One more.
    pub(super) fn push(
        &mut self,
        (zxid, kind): (i64, EventType),
        path: &str,
        readers: Option<&Readers>,
        lists: Vec<Watchers>,
    ) {
        let (path, readers) = (path.into(), readers.cloned());
        self.crowds.push_back(Crowd { zxid, kind, path, readers, lists, at: (0, 0) });
        self.newest += 1;
    }

    /// What is owed to who was told everything up to number `told`, in order.
    pub(super) fn to(&self, slot: Slot, told: u64) -> impl Iterator<Item = &Crowd> {
        let done = self.newest - self.crowds.len() as u64;
        let skip = usize::try_from(told.saturating_sub(done)).expect("no more than there are");
        self.crowds.iter().skip(skip).filter(move |crowd| crowd.owes(slot))
    }

    /// The next who is to be told, whether or not he was meanwhile; with the last, its event is done.
    pub(super) fn next(&mut self) -> Option<Slot> {
        loop {
            let next = self.crowds.front_mut()?.next();
            if next.is_some() {
                return next;
            }
            self.crowds.pop_front();
        }
    }
}
