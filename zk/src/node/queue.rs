//! What does a session wait for? Its requests that are not answered yet, in the order in which they came and
//! will be answered.
//!
//! A write stands here from its arrival until apply has its outcome; reads behind it wait for that. Whatever
//! stands before a write is answered just before that write is applied, at the latest.

use super::auth::OfConn;
use crate::jute::ErrorCode;
use bytes::Bytes;
use std::collections::VecDeque;
use zoolog_core::Instant;

/// Bytes counted for a request beside its frame: what it takes in the queue.
const ENTRY_BYTES: usize = 128;

/// Writes with frames of so many bytes are remembered for what they may do to the answers behind them.
const LARGE_BYTES: usize = super::held::READ_BYTES_MIN;

/// Which write it is: what its reply looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteOp {
    /// The reply is the path.
    Create,
    /// The reply is the path and the Stat.
    Create2,
    /// The reply is empty.
    Delete,
    /// The reply is the Stat; `setACL`, too.
    SetData,
    /// The reply is one per part.
    Multi,
    /// There is none: it is there for the read behind it.
    Mark,
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
    /// Waits for its round, for the read behind it; there is no reply.
    Round(u64),
    /// Refused, as soon as everything before it is answered.
    Refused(ErrorCode),
    /// Of the connection itself.
    OfConn(OfConn),
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
    /// Bytes that its answer counts for.
    pub answer_bytes: usize,
    /// The rest.
    pub what: What,
    /// Of a write that is answered once it is in the log: the path that its reply repeats, if it repeats one.
    pub early: Option<Box<str>>,
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
    /// What the answers before the first unsent write count for; without one, all answers.
    answer_bytes_ahead: usize,
    /// Numbers and frame bytes of large writes, each larger than all that came after it.
    large: VecDeque<(u64, usize)>,
    /// How many of the writes are known to be in the log: the first ones.
    logged: usize,
    /// How many entries, all of them writes at the front, are answered already and wait to be applied.
    answered: usize,
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

    /// Bytes of the answers that will be made before the first unsent write may be applied, as foretold.
    pub(super) fn answer_bytes_ahead(&self) -> usize {
        self.answer_bytes_ahead
    }

    /// Bytes of the largest write that waits, 0 if all are small.
    pub(super) fn largest_write(&self) -> usize {
        self.large.front().map_or(0, |l| l.1)
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.bytes += entry.bytes;
        let number = self.popped + self.entries.len() as u64;
        if matches!(entry.what, What::Unsent(..)) {
            self.unsent.push_back(number);
        }
        if self.unsent.is_empty() {
            self.answer_bytes_ahead += entry.answer_bytes;
        }
        if matches!(entry.what, What::Write(_) | What::Unsent(..)) && entry.bytes >= LARGE_BYTES {
            while self.large.back().is_some_and(|l| l.1 <= entry.bytes) {
                self.large.pop_back();
            }
            self.large.push_back((number, entry.bytes));
        }
        self.entries.push_back(entry);
    }

    pub(super) fn front(&self) -> Option<&Entry> {
        self.entries.front()
    }

    pub(super) fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        if self.logged > 0 && matches!(entry.what, What::Write(_)) {
            (self.logged, self.answered) = (self.logged - 1, self.answered.saturating_sub(1));
        }
        self.bytes -= entry.bytes;
        assert_ne!(self.unsent.front(), Some(&self.popped), "{entry:?} is answered before it is sent");
        self.answer_bytes_ahead -= entry.answer_bytes;
        if self.large.front().is_some_and(|l| l.0 == self.popped) {
            self.large.pop_front();
        }
        self.popped += 1;
        Some(entry)
    }

    /// The oldest write that is in the log's hands, and not known to be in the log, is.
    pub(super) fn is_logged(&mut self) {
        self.logged += 1;
    }

    /// Whether the entry at the front is answered already.
    pub(super) fn front_is_answered(&self) -> bool {
        self.answered > 0
    }

    /// Whether all that it holds is answered, and only to be applied.
    pub(super) fn is_all_answered(&self) -> bool {
        self.answered == self.entries.len()
    }

    /// The write whose turn it is to be answered, if it may be before it is applied and is in the log. It counts as
    /// answered from then on.
    pub(super) fn answer_early(&mut self) -> Option<(&Entry, WriteOp)> {
        let entry = self.entries.get(self.answered).filter(|e| e.early.is_some())?;
        match entry.what {
            What::Write(op) if self.logged > self.answered => {
                self.answered += 1;
                Some((entry, op))
            }
            _ => None,
        }
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
        let until = self.unsent.front().map_or(self.entries.len(), |n| (n - self.popped) as usize);
        let sent = self.entries.range(at as usize..until);
        self.answer_bytes_ahead += sent.map(|e| e.answer_bytes).sum::<usize>();
    }

    /// Gives memory back that a burst of requests has left.
    pub(super) fn relax(&mut self) {
        if self.entries.is_empty() && self.entries.capacity() > 0 {
            self.entries = VecDeque::new();
            self.unsent = VecDeque::new();
            self.large = VecDeque::new();
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(what: What) -> Entry {
        Entry { xid: 1, at: Instant(0), bytes: 10, answer_bytes: 7, what, early: None }
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

    #[test]
    fn writes_are_answered_early_in_order_and_not_before_a_read_that_waits_for_one() {
        let early = |what| Entry { early: Some("/a".into()), ..entry(what) };
        let mut q = Queue::default();
        q.push(early(What::Write(WriteOp::Create)));
        q.push(early(What::Write(WriteOp::Delete)));
        q.push(entry(What::Read(4, Bytes::new())));
        q.push(early(What::Write(WriteOp::Create)));
        q.push(entry(What::Write(WriteOp::SetData)));
        let next = |q: &mut Queue| q.answer_early().map(|(_, op)| op);
        assert_eq!(next(&mut q), None, "none is in the log");
        (0..4).for_each(|_| q.is_logged());
        assert_eq!((next(&mut q), next(&mut q)), (Some(WriteOp::Create), Some(WriteOp::Delete)));
        assert_eq!(next(&mut q), None, "a read comes first");
        assert!(q.front_is_answered() && !q.is_all_answered());
        q.pop();
        q.pop();
        assert!(!q.front_is_answered());
        q.pop(); // the read
        assert_eq!((next(&mut q), next(&mut q)), (Some(WriteOp::Create), None), "the last must be applied");
        q.pop();
        assert!(!q.front_is_answered());
        q.pop();
        assert!(q.is_all_answered() && q.is_empty());
    }

    proptest! {
        /// Steps: push a read or a write with these bytes of frame and answer, send the first unsent, or pop.
        #[test]
        fn what_is_kept_along_is_what_a_look_at_all_entries_would_find(
            steps in prop::collection::vec((0u8..5, 0usize..3 * LARGE_BYTES, 0usize..1000), 0..200),
        ) {
            let mut q = Queue::default();
            for (kind, bytes, answer_bytes) in steps {
                let write = WriteOp::SetData;
                let what = match kind {
                    0 => Some(What::Read(4, Bytes::new())),
                    1 if q.has_unsent() => Some(What::Unsent(write, vec![])),
                    1 => Some(What::Write(write)),
                    2 => Some(What::Unsent(write, vec![])),
                    _ => None,
                };
                let front_is_unsent = matches!(q.front(), Some(Entry { what: What::Unsent(..), .. }));
                match what {
                    Some(what) => q.push(Entry { xid: 1, at: Instant(0), bytes, answer_bytes, what, early: None }),
                    None if kind == 3 && q.has_unsent() => q.first_unsent_is_sent(),
                    None if kind == 4 && !front_is_unsent => drop(q.pop()),
                    None => {}
                }
                let unsent = |e: &&Entry| matches!(e.what, What::Unsent(..));
                let ahead = q.entries.iter().take_while(|e| !unsent(e)).map(|e| e.answer_bytes).sum::<usize>();
                prop_assert_eq!(q.answer_bytes_ahead(), ahead);
                let writes = q.entries.iter().filter(|e| !matches!(e.what, What::Read(..)));
                let largest = writes.map(|e| e.bytes).filter(|b| *b >= LARGE_BYTES).max();
                prop_assert_eq!(q.largest_write(), largest.unwrap_or(0));
                prop_assert_eq!(q.has_unsent(), q.entries.iter().any(|e| unsent(&e)));
            }
        }
    }
}
