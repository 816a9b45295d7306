//! Who waits until the state has come to a position? Reads, each at the consistency it asked for.

use crate::RequestId;
use std::collections::{BTreeSet, VecDeque};
use zoolog_core::Gsn;

/// What a read is to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// What is applied here, and all of what this node's outcomes and earlier reads have shown. Costs nothing.
    Session,
    /// The same, and the command at this position: what another node's outcome said, say.
    Since(Gsn),
    /// All that anybody was told of before the read was asked for. Costs a question to the log, which the reads of one turn
    /// share.
    Linearizable,
}

/// Names a read until it may be done. Never used twice in a node's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId(pub u64);

/// Why nothing can be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// As many wait as may: try again.
    #[error("as many reads wait as may: try again when some are done")]
    Busy,
    /// This node has ended, or is ending.
    #[error("the node has ended: {0}")]
    Closed(String),
    /// Of a handle's read: it panicked. The node goes on.
    #[error("the read panicked")]
    Panicked,
}

impl QueryError {
    /// Whether the same may be asked again, soon.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Busy)
    }
}

/// Reads that wait. Of several that may be done, those that need less come first, then in the order of asking.
#[derive(Debug, Default)]
pub(super) struct Queries {
    next: u64,
    /// First position that need not be applied, and who waits for that.
    waiting: BTreeSet<(Gsn, QueryId)>,
    /// Until the node has caught up.
    early: Vec<QueryId>,
    /// For the end of the turn, to ask for the tail.
    asking: Vec<QueryId>,
    asked: VecDeque<(RequestId, Vec<QueryId>)>,
    len: usize,
}

impl Queries {
    pub fn len(&self) -> usize {
        self.len
    }

    /// One more, on a node that has caught up or hasn't.
    pub fn push(&mut self, consistency: Consistency, is_ready: bool) -> QueryId {
        let id = QueryId(self.next);
        self.next += 1;
        self.len += 1;
        match consistency {
            Consistency::Session if !is_ready => self.early.push(id),
            Consistency::Session => drop(self.waiting.insert((Gsn(0), id))),
            Consistency::Since(gsn) => drop(self.waiting.insert((Gsn(gsn.0.saturating_add(1)), id))),
            Consistency::Linearizable => self.asking.push(id),
        }
        id
    }

    /// Whether the log is to be asked for its tail.
    pub fn should_ask(&self) -> bool {
        !self.asking.is_empty()
    }

    /// It was asked.
    pub fn asked(&mut self, request: RequestId) {
        self.asked.push_back((request, std::mem::take(&mut self.asking)));
    }

    /// It has answered some request, ours or not.
    pub fn answered(&mut self, request: RequestId, tail: Gsn) {
        if let Some(at) = self.asked.iter().position(|(r, _)| *r == request) {
            let (_, ids) = self.asked.remove(at).expect("it is there");
            self.waiting.extend(ids.into_iter().map(|id| (tail, id)));
        }
    }

    /// The node has caught up.
    pub fn ready(&mut self) {
        self.waiting.extend(std::mem::take(&mut self.early).into_iter().map(|id| (Gsn(0), id)));
    }

    /// The next that may be done when all before `applied` is applied.
    pub fn pop(&mut self, applied: Gsn) -> Option<QueryId> {
        let first = *self.waiting.first().filter(|(needs, _)| *needs <= applied)?;
        self.waiting.remove(&first);
        self.len -= 1;
        Some(first.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_waits_for_what_it_asked_for() {
        let mut q = Queries::default();
        let early = q.push(Consistency::Session, false);
        let since = q.push(Consistency::Since(Gsn(4)), false);
        let never = q.push(Consistency::Since(Gsn(u64::MAX)), true);
        let linear = q.push(Consistency::Linearizable, false);
        assert_eq!(q.pop(Gsn(4)), None);
        assert!(q.should_ask());
        q.asked(RequestId(9));
        assert!(!q.should_ask());
        let later = q.push(Consistency::Linearizable, false);
        q.answered(RequestId(8), Gsn(1));
        q.answered(RequestId(9), Gsn(6));
        assert_eq!((q.pop(Gsn(5)), q.pop(Gsn(5))), (Some(since), None));
        q.ready();
        assert_eq!((q.pop(Gsn(6)), q.pop(Gsn(6)), q.pop(Gsn(6))), (Some(early), Some(linear), None));
        assert_eq!(q.len(), 2, "{never:?} and {later:?}");
    }
}
