//! What does a session wait for? Its requests that are not answered yet, in the order in which they came and
//! will be answered.
//!
//! A write stands here from its arrival until apply has its outcome; reads behind it wait for that. Whatever
//! stands before a write is answered just before that write is applied, at the latest.

use crate::jute::ErrorCode;
use bytes::Bytes;
use std::collections::VecDeque;
use zoolog_core::Instant;

/// Bytes counted for a request beside its frame: what it takes in the queue.
const ENTRY_BYTES: usize = 128;

/// Which write it is: what its reply looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteOp {
    /// The reply is the path.
    Create,
    /// The reply is the path and the Stat.
    Create2,
    /// The reply is empty.
    Delete,
    /// The reply is the Stat.
    SetData,
    /// The reply is empty, and the connection ends.
    CloseSession,
}

/// What a request waits for, and what answers it.
#[derive(Debug)]
pub(super) enum What {
    /// In the log's hands.
    Write(WriteOp),
    /// A record that the log had no room for yet.
    Unsent(WriteOp, Vec<u8>),
    /// Answered from the state when its turn comes: the operation, and the whole frame.
    Read(i32, Bytes),
    /// Waits for its round; the path comes back.
    Sync(u64, String),
    /// Refused, as soon as everything before it is answered.
    Refused(ErrorCode),
}

/// One request.
#[derive(Debug)]
pub(super) struct Entry {
    /// The client's number for it.
    pub xid: i32,
    /// When it came.
    pub at: Instant,
    /// Bytes of its frame.
    pub bytes: usize,
    /// The rest.
    pub what: What,
}

/// The requests of one connection.
#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// How many have left at the front.
    popped: u64,
    /// Numbers of the unsent ones, counted from the first that ever was in.
    unsent: VecDeque<u64>,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// What the requests take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + ENTRY_BYTES * self.entries.len()
    }

    /// Whether a write waits for room in the log; later writes must then wait too.
    pub(super) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.bytes += entry.bytes;
        if matches!(entry.what, What::Unsent(..)) {
            self.unsent.push_back(self.popped + self.entries.len() as u64);
        }
        self.entries.push_back(entry);
    }

    pub(super) fn front(&self) -> Option<&Entry> {
        self.entries.front()
    }

    pub(super) fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.bytes;
        if self.unsent.front() == Some(&self.popped) {
            self.unsent.pop_front();
        }
        self.popped += 1;
        Some(entry)
    }

    /// The first record that waits for room in the log.
    pub(super) fn first_unsent(&self) -> Option<&[u8]> {
        let at = self.unsent.front()? - self.popped;
        match &self.entries[at as usize].what {
            What::Unsent(_, record) => Some(record),
            other => panic!("{other:?} is not unsent"),
        }
    }

    /// That record is in the log's hands now.
    pub(super) fn first_unsent_is_sent(&mut self) {
        let at = self.unsent.pop_front().expect("a record was just sent") - self.popped;
        let entry = &mut self.entries[at as usize];
        match entry.what {
            What::Unsent(op, _) => entry.what = What::Write(op),
            ref other => panic!("{other:?} is not unsent"),
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(what: What) -> Entry {
        Entry { xid: 1, at: Instant(0), bytes: 10, what }
    }

    #[test]
    fn unsent_writes_are_sent_in_order_and_the_sums_stay_right() {
        let mut q = Queue::default();
        q.push(entry(What::Write(WriteOp::Delete)));
        q.push(entry(What::Unsent(WriteOp::Create, vec![1])));
        q.push(entry(What::Read(4, Bytes::new())));
        q.push(entry(What::Unsent(WriteOp::SetData, vec![2])));
        assert_eq!((q.len(), q.bytes(), q.first_unsent()), (4, 40 + 4 * ENTRY_BYTES, Some(&[1u8][..])));
        q.first_unsent_is_sent();
        assert_eq!(q.first_unsent(), Some(&[2u8][..]));
        q.first_unsent_is_sent();
        assert!(!q.has_unsent() && q.first_unsent().is_none());
        let order: Vec<_> = std::iter::from_fn(|| q.pop()).map(|e| format!("{:?}", e.what)).collect();
        assert_eq!(order, ["Write(Delete)", "Write(Create)", "Read(4, b\"\")", "Write(SetData)"]);
        assert_eq!((q.bytes(), q.is_empty()), (0, true));
    }
}
