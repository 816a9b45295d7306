//! How are a hundred thousand ephemerals of one session told? In pieces, over turns, and yet as of when they were asked for:
//! where they are in the tree is copied at once; their paths are made piece by piece, and of those that go meanwhile when
//! they do. What comes meanwhile is not among them.

use super::listing::Budget;
use crate::jute::responses::Paths;
use crate::state::State;
use crate::tree::Slot;
use crate::txn::Ephemeral;
use std::collections::BTreeSet;

/// The answer, under way.
#[derive(Clone, Debug)]
pub(super) struct Ephemerals {
    session: i64,
    /// What paths must begin with, if not all are wanted.
    prefix: Option<Box<str>>,
    /// Where those are that were not looked at, in order: the last is next.
    left: Vec<Slot>,
    /// Of these, those that have gone since, and are written. Another node may be in their places.
    gone: BTreeSet<Slot>,
    /// As far as it is written.
    paths: Paths,
}

impl Ephemerals {
    /// Begins it with where all of the session's are, in order.
    pub(super) fn begin(
        (xid, zxid): (i32, i64),
        session: i64,
        prefix: Option<&str>,
        slots: Vec<Slot>,
    ) -> Self {
        assert!(slots.is_sorted(), "they are searched");
        let (gone, paths) = (BTreeSet::new(), Paths::begin(xid, zxid));
        Self { session, prefix: prefix.map(Box::from), left: slots, gone, paths }
    }

    /// Bytes that it keeps until it is whole.
    pub(super) fn bytes(&self) -> usize {
        self.paths.bytes()
    }

    /// An ephemeral has gone.
    pub(super) fn gone(&mut self, path: &str, was: Ephemeral) {
        if was.session == self.session
            && self.left.binary_search(&was.slot).is_ok()
            && self.gone.insert(was.slot)
        {
            self.write(path);
        }
    }

    /// Writes the next piece; behind the last, the answer goes to `out`. Whether it was the last.
    pub(super) fn go_on(&mut self, out: &mut Vec<u8>, state: &State, budget: &mut Budget) -> bool {
        let mut piece = budget.piece();
        while piece.has_room()
            && let Some(slot) = self.left.pop()
        {
            let before = self.bytes();
            if !self.gone.remove(&slot) {
                self.write(&state.path_of(slot));
            }
            piece.spend(self.bytes() - before);
        }
        budget.spend(&piece);
        if !self.left.is_empty() {
            return false;
        }
        std::mem::take(&mut self.paths).end(out);
        true
    }

    fn write(&mut self, path: &str) {
        if self.prefix.as_deref().is_none_or(|prefix| path.starts_with(prefix)) {
            self.paths.push(path);
        }
    }
}
