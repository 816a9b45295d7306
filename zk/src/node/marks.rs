//! Do all nodes have the same state? Now and then a node puts a mark into the log: behind it every node notes the hash of its
//! state, and logs that. Who differs from most stops (invariant ZK-5).
//!
//! What follows from what nodes say is decided in [`zoolog_client::votes`], as for any replicated structure; here is when a mark is
//! put, and what becomes of a node that must stop.

use super::back::End;
use super::own::Owner;
use super::{Back, NodeConfig, NodeEvent};
use crate::snapshot::Beware;
use crate::state::State;
use crate::txn::{Op, Word};
use std::time::Duration;
use zoolog_client::SharedLog;
use zoolog_client::votes::{Verdict, Votes};
use zoolog_core::{Gsn, Instant, Output};

/// Bytes of records after which a mark is due.
const MARK_BYTES: u64 = 64 << 20;
/// Nodes that put marks at different times.
const TURNS: u32 = 8;
/// Until the next attempt when the log has no room.
const RETRY: Duration = Duration::from_millis(100);
/// Parts of a state that are named at most.
const PARTS_NAMED: usize = 20;
/// Until the next mark once somebody differs.
const SOON: Duration = Duration::from_millis(200);

/// Marks, and what is said of them.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// Records and their bytes since the newest mark, marks and what is said of them apart.
    since: (u64, u64),
    /// Records of the batch being applied that say something to nodes.
    words: u64,
    /// When to put the next, if anything was applied since the newest.
    due_at: Option<Instant>,
    in_flight: bool,
    pub votes: Votes,
}

impl Marks {
    /// When something is to be done next.
    pub(super) const fn next(&self) -> Option<Instant> {
        self.due_at
    }
}

/// After how many records this node puts a mark, and when: one after the other, so that mostly the first one does.
fn pace(cfg: &NodeConfig) -> (u64, Duration) {
    let turn = cfg.id % TURNS;
    let records = cfg.mark_records.saturating_add(cfg.mark_records / 32 * u64::from(turn));
    (records, cfg.mark_interval + cfg.mark_interval / 32 * turn)
}

impl<L: SharedLog> Back<L> {
    /// A batch was applied: is it time for a mark?
    pub(super) fn mark_if_due(&mut self, now: Instant, records: u64, bytes: u64) {
        let marks = &mut self.marks;
        let words = std::mem::take(&mut marks.words);
        marks.since = (marks.since.0 + records.saturating_sub(words), marks.since.1 + bytes);
        if marks.in_flight || !self.serving || marks.since.0 == 0 {
            return;
        }
        let (records_max, interval) = pace(&self.cfg);
        if marks.due_at.is_none() {
            marks.due_at = Some(now + interval);
        }
        if marks.since.0 >= records_max || marks.since.1 >= MARK_BYTES {
            self.put_mark(now);
        }
    }

    /// The time for a mark may have come.
    pub(super) fn mark_in_time(&mut self, now: Instant) {
        if self.marks.due_at.is_some_and(|at| at <= now) {
            self.marks.due_at = None;
            if self.serving && !self.marks.in_flight {
                self.put_mark(now);
            }
        }
    }

    fn put_mark(&mut self, now: Instant) {
        match self.propose(now, Owner::Mark, None, Op::Mark) {
            Ok(()) => (self.marks.in_flight, self.marks.due_at) = (true, None),
            Err(_) => self.marks.due_at = Some(now + RETRY),
        }
    }

    /// A mark of this node has come back.
    pub(super) fn settle_mark(&mut self) {
        self.marks.in_flight = false;
    }

    /// The record at `gsn` has said something to nodes.
    pub(super) fn on_said(&mut self, now: Instant, state: &State, gsn: Gsn, word: Word) {
        // It changes nothing, and makes no mark due.
        self.marks.words += 1;
        match word {
            Word::Mark => {
                let (hash, node) = (state.hash(), self.cfg.id);
                let say = Op::Hashed { node, at: gsn.0, hash: Some(hash) };
                let told = self.serving && self.propose(now, Owner::Nobody, None, say).is_ok();
                let verdict = self.marks.votes.mark(gsn, hash, told);
                (self.marks.since, self.marks.due_at) = ((0, 0), None);
                self.judge(now, state, verdict);
            }
            Word::Hashed { node, .. } if node == self.cfg.id => {}
            Word::Hashed { node, at, hash } => {
                let (verdict, differs) = self.marks.votes.heard(node.into(), at, hash);
                if differs && self.marks.votes.told().is_some() {
                    // Whose memory is damaged will know before it is decided.
                    self.scrub.hurry(now);
                    self.marks.due_at = Some(now + SOON);
                }
                if let Some(verdict) = verdict {
                    self.judge(now, state, verdict);
                }
            }
            Word::Skip { gsn: skipped } => self.on_skip(now, state, gsn, skipped),
        }
    }

    fn judge(&mut self, now: Instant, state: &State, verdict: Verdict) {
        let differs = match self.marks.votes.judge(&verdict, self.snapshots.began_with()) {
            Ok(others) => return others.into_iter().for_each(|text| self.note(text)),
            Err(differs) => differs,
        };
        let outline = Box::new(state.outline());
        self.outbox.push_back(Output::Event(NodeEvent::Outline(outline)));
        let beware = Beware { upto: differs.trusted, command: None };
        self.stop_as_wrong(now, differs.why, beware, differs.certainly);
    }

    /// The state comes to where an earlier life ended with another one: what has become of it?
    pub(super) fn compare_outline(&mut self, state: &State) {
        let Some(outline) = self.outline.take().filter(|outline| outline.at == state.applied()) else {
            return;
        };
        let mut parts = state.differing(&outline);
        let more = parts.len().saturating_sub(PARTS_NAMED);
        parts.truncate(PARTS_NAMED);
        let (at, parts) = (outline.at, parts.join(", "));
        self.note(match (parts.is_empty(), more) {
            (true, _) => {
                format!("the state at {at} is the one with which this node has ended: it differs again")
            }
            (false, 0) => format!("the state with which this node has ended at {at} differed in: {parts}"),
            (false, n) => {
                format!("the state with which this node has ended at {at} differed in: {parts}, and {n} more")
            }
        });
    }

    /// This node's state is not what it should be: it serves nobody from now on. If it is the one that is `certainly` wrong,
    /// it says so, lest others take its word for something.
    pub(super) fn stop_as_wrong(&mut self, now: Instant, why: String, beware: Beware, certainly: bool) {
        let node = self.cfg.id;
        let told = self.marks.votes.told().filter(|_| certainly && !self.failed);
        let take_back = |at: Gsn| Op::Hashed { node, at: at.0, hash: None };
        let said = told.is_some_and(|at| self.propose(now, Owner::Nobody, None, take_back(at)).is_ok());
        self.end(now, End { why, beware, heals: true, told: said });
    }
}
