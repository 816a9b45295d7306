//! What has this node given to the log, and for whom? Its records in the order in which they were appended,
//! which is the order in which they come back.

use super::connection::Slot;
use std::collections::VecDeque;
use zoolog_core::{ConnId, Instant, Seq};

/// Whom the outcome of a record is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The next write in the queue of this connection.
    Request(Slot, ConnId),
    /// A connection that waits for its session.
    Handshake(Slot, ConnId),
    /// The connections of the node's oldest touch that is not back.
    Touch,
    /// The sweeper.
    Sweep,
    /// Who puts marks.
    Mark,
    /// Nobody: an expiry.
    Nobody,
}

#[derive(Debug)]
struct Sent {
    seq: Seq,
    index: u32,
    at: Instant,
    owner: Owner,
}

/// Records in the log's hands. Bounded by the log's own window.
#[derive(Debug)]
pub(super) struct Own {
    sent: VecDeque<Sent>,
    /// How many of them are known to be in the log: the first ones. Kept only where that matters.
    logged: usize,
    /// How many were appended since it was asked last.
    fresh: u64,
    /// When the newest record was appended.
    proposed_at: Instant,
    /// When the newest record that has come back was appended: up to then, this node was certainly part of
    /// the cluster.
    vouched_at: Instant,
    /// The record that was appended last.
    last: Option<(Seq, u32)>,
    /// The last record that nobody waits for any more, nor for those before it: some of them may not come
    /// back, and others once more.
    forgotten: Option<(Seq, u32)>,
}

impl Own {
    pub(super) fn new(now: Instant) -> Self {
        let (sent, proposed_at, vouched_at) = (VecDeque::new(), now, now);
        Self { sent, logged: 0, fresh: 0, proposed_at, vouched_at, last: None, forgotten: None }
    }

    /// Nobody waits for what was appended so far: some of it may never be delivered here, some of it once more.
    pub(super) fn forget(&mut self) {
        self.forgotten = self.last;
        self.sent.clear();
        self.logged = 0;
    }

    pub(super) fn len(&self) -> usize {
        self.sent.len()
    }

    pub(super) fn proposed_at(&self) -> Instant {
        self.proposed_at
    }

    pub(super) fn vouched_at(&self) -> Instant {
        self.vouched_at
    }

    /// When the oldest record that has not come back was appended.
    pub(super) fn oldest_at(&self) -> Option<Instant> {
        self.sent.front().map(|s| s.at)
    }

    /// The log has taken a record as (batch, index).
    pub(super) fn push(&mut self, now: Instant, (seq, index): (Seq, u32), owner: Owner) {
        self.sent.push_back(Sent { seq, index, at: now, owner });
        self.last = Some((seq, index));
        self.proposed_at = now;
        self.fresh += 1;
    }

    /// All records of the batch are in the log, and of those before it. Returns whom the next one is for that was not
    /// known to be; to be called until there is none.
    pub(super) fn next_logged(&mut self, seq: Seq) -> Option<Owner> {
        let next = self.sent.get(self.logged).filter(|s| s.seq <= seq)?;
        self.logged += 1;
        Some(next.owner)
    }

    /// How many were appended since this was asked last.
    pub(super) fn take_fresh(&mut self) -> u64 {
        std::mem::take(&mut self.fresh)
    }

    /// That record has come back, committed. Invariant LOG-3: in the order in which they were appended.
    pub(super) fn take(&mut self, seq: Seq, index: u32) -> Owner {
        if self.forgotten.is_some_and(|last| (seq, index) <= last) {
            return Owner::Nobody;
        }
        let next = self.sent.pop_front().unwrap_or_else(|| panic!("own record {seq}.{index} was never sent"));
        assert_eq!((next.seq, next.index), (seq, index), "own records come back in order");
        self.vouched_at = next.at;
        self.logged = self.logged.saturating_sub(1);
        next.owner
    }
}
