//! When has a `sync` seen enough? Rounds: all syncs of a turn share one question for the log's tail; a round is
//! done when the node has applied everything before the answer.

use std::collections::{BTreeSet, VecDeque};
use zoolog_client::RequestId;
use zoolog_core::Gsn;

/// Rounds asked at a time. A sync must not share a question asked before it, so one runs and one waits; the
/// bound keeps a log that doesn't answer from gathering them.
const ASKED_MAX: usize = 2;

/// Syncs that wait.
#[derive(Debug)]
pub(super) struct Syncs {
    /// The round that a sync arriving now joins; not asked yet.
    open: u64,
    /// Whether one has joined it.
    wanted: bool,
    asked: VecDeque<(RequestId, u64)>,
    /// Ascending in both.
    answered: VecDeque<(Gsn, u64)>,
    /// Rounds up to here are done.
    done: u64,
    /// (round, connection). May hold connections that have gone or were served by other means.
    waiters: BTreeSet<(u64, u32)>,
}

impl Syncs {
    pub(super) fn new() -> Self {
        Self {
            open: 1,
            wanted: false,
            asked: VecDeque::new(),
            answered: VecDeque::new(),
            done: 0,
            waiters: BTreeSet::new(),
        }
    }

    /// A sync has arrived on the connection at `slot`. Returns its round.
    pub(super) fn join(&mut self, slot: u32) -> u64 {
        self.wanted = true;
        self.waiters.insert((self.open, slot));
        self.open
    }

    /// Whether the round is done.
    pub(super) fn is_done(&self, round: u64) -> bool {
        round <= self.done
    }

    /// Whether the open round should be asked now.
    pub(super) fn should_ask(&self) -> bool {
        self.wanted && self.asked.len() < ASKED_MAX
    }

    /// The open round was asked under this number.
    pub(super) fn asked(&mut self, request: RequestId) {
        self.asked.push_back((request, self.open));
        self.open += 1;
        self.wanted = false;
    }

    /// The log's tail was `gsn`. An answer to a later round answers the earlier ones as well.
    pub(super) fn answer(&mut self, request: RequestId, gsn: Gsn) {
        if let Some(at) = self.asked.iter().position(|a| a.0 == request) {
            let round = self.asked[at].1;
            self.asked.drain(..=at);
            self.answered.push_back((gsn, round));
        }
    }

    /// Everything before `applied` is applied. Returns whether that completed a round.
    pub(super) fn applied(&mut self, applied: Gsn) -> bool {
        let before = self.done;
        while let Some(&(gsn, round)) = self.answered.front()
            && gsn <= applied
        {
            self.done = round;
            self.answered.pop_front();
        }
        self.done > before
    }

    /// A connection that waits for a round that is done.
    pub(super) fn pop_ready(&mut self) -> Option<u32> {
        let first = *self.waiters.first()?;
        if first.0 > self.done {
            return None;
        }
        self.waiters.remove(&first);
        Some(first.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_never_shares_a_question_asked_before_it() {
        let mut s = Syncs::new();
        let first = s.join(1);
        assert!(s.should_ask());
        s.asked(RequestId(10));
        let second = s.join(2);
        assert_ne!(first, second);
        s.answer(RequestId(10), Gsn(5));
        assert!(!s.applied(Gsn(4)));
        assert!(s.applied(Gsn(5)));
        assert!(s.is_done(first) && !s.is_done(second));
        assert_eq!((s.pop_ready(), s.pop_ready()), (Some(1), None));
    }

    #[test]
    fn a_later_answer_completes_earlier_rounds_and_questions_stay_few() {
        let mut s = Syncs::new();
        for n in 0..2 {
            s.join(n);
            assert!(s.should_ask());
            s.asked(RequestId(u64::from(n)));
        }
        s.join(7);
        assert!(!s.should_ask(), "two questions run already");
        s.answer(RequestId(1), Gsn(9));
        s.answer(RequestId(0), Gsn(3));
        assert!(s.should_ask());
        assert!(s.applied(Gsn(9)));
        assert_eq!((s.pop_ready(), s.pop_ready(), s.pop_ready()), (Some(0), Some(1), None));
    }
}
