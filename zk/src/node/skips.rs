//! What becomes of records that can't be applied? One that nobody can decode is rejected, and named. One on which applying
//! panics ends the node, which says which it was; an operator may have it passed over: a record behind it says so, and who
//! has ended, or is told to, looks for such records before he applies anything (ZK-5).

use super::back::End;
use super::own::Owner;
use super::{Back, NodeEvent};
use crate::snapshot::{Beware, Restored};
use crate::state::{State, encode, skips};
use crate::txn::{Op, Outcome, Txn};
use std::collections::BTreeSet;
use zoolog_client::replicated::{Lookahead, LookaheadNext};
use zoolog_client::{Committed, ReadEnd, RequestId, SharedLog};
use zoolog_core::{Gsn, Instant, Output, Seq};

/// The first so many rejected records are named; later ones whenever their number has doubled.
const NAMED: u64 = 16;

/// The node has ended.
#[derive(Debug)]
pub(super) struct Ended;

/// Records to be passed over, and the search for them.
#[derive(Debug)]
pub(super) struct Skips {
    found: BTreeSet<Gsn>,
    search: Option<Lookahead>,
    /// Records that were rejected.
    rejected: u64,
}

impl Skips {
    /// Of a node that starts from `restored`, and is to have `wanted` passed over.
    pub(super) fn new(wanted: &BTreeSet<Gsn>, restored: &Restored) -> Self {
        let state = &restored.state;
        let wanted: BTreeSet<Gsn> = wanted.iter().copied().filter(|gsn| !state.has_skipped(*gsn)).collect();
        let searches = restored.look_ahead || !wanted.is_empty();
        let search = searches.then(|| Lookahead::new(state.applied(), BTreeSet::new(), &wanted));
        Self { found: BTreeSet::new(), search, rejected: 0 }
    }

    /// Whether nothing is to be applied yet.
    pub(super) const fn is_searching(&self) -> bool {
        self.search.is_some()
    }

    /// Whether the record at `gsn` is to be passed over.
    pub(super) fn has(&self, gsn: Gsn) -> bool {
        !self.found.is_empty() && self.found.contains(&gsn)
    }

    /// The log ends there.
    pub(super) const fn ends_at(&mut self, tail: Gsn) {
        if let Some(search) = &mut self.search {
            search.ends_at(tail);
        }
    }

    /// That own batch is in the log.
    pub(super) fn appended(&mut self, seq: Seq) {
        if let Some(search) = &mut self.search {
            search.appended(seq);
        }
    }
}

impl<L: SharedLog> Back<L> {
    /// Gets on with the search. Returns whether the log was given something.
    pub(super) fn look_ahead(&mut self, now: Instant) -> bool {
        let Some(search) = &mut self.skips.search else { return false };
        match search.next() {
            LookaheadNext::Wait => return false,
            LookaheadNext::Read(from, to, bytes) => search.asked(self.log.read(from, to, bytes)),
            LookaheadNext::Write(gsn) => {
                let (wall, op) = (self.wall.at(now), Op::Skip { gsn: gsn.0 });
                let record = encode(&Txn { session: 0, attach: 0, wall, ids: Vec::new(), op });
                match self.log.append_vital(&record) {
                    Ok(place) => {
                        search.wrote(gsn, place.0);
                        self.own.push(now, place, Owner::Nobody);
                    }
                    // Tried again at the end of the next turn.
                    Err(e) if e.is_retryable() => return false,
                    Err(e) => self.fail(format!("that {gsn} is passed over could not be written: {e}")),
                }
            }
            LookaheadNext::Done(at) => {
                self.skips.found = self.skips.search.take().expect("it is there").found;
                self.play(at);
            }
        }
        true
    }

    /// Part of the log was read.
    pub(super) fn on_searched(
        &mut self,
        request: RequestId,
        batches: &[Committed],
        (covers, end): (Gsn, ReadEnd),
    ) {
        let Some(search) = &mut self.skips.search else { return };
        if let Err(why) = search.read(request, batches, (covers, end), skips) {
            self.fail(why);
        }
    }

    /// The record at `gsn` is not applied.
    pub(super) fn pass_over(&mut self, state: &mut State, gsn: Gsn) -> Outcome {
        self.note(format!("the record at {gsn} is passed over, as one behind it says"));
        state.pass_over(gsn)
    }

    /// Applying the record at `gsn` panicked.
    pub(super) fn panicked(&mut self, now: Instant, gsn: Gsn, said: &str) -> Ended {
        let why = format!(
            "applying the record at {gsn} panicked: {said}. This node stops, and would stop there again at each start. \
             Start a build that doesn't panic on it, or have all nodes pass over it: `zoolog admin skip {gsn}`"
        );
        let beware = Beware { upto: None, command: Some(gsn) };
        self.end(now, End { why, beware, ..End::default() });
        Ended
    }

    /// The record at `gsn` says that the one at `skipped` is to be passed over.
    pub(super) fn on_skip(&mut self, now: Instant, state: &State, gsn: Gsn, skipped: Gsn) {
        if state.has_skipped(skipped) {
            return;
        }
        if skipped >= gsn {
            return self
                .note(format!("the record at {gsn} would have {skipped} passed over, which lies behind it"));
        }
        let why = format!(
            "the record at {skipped} was to be passed over, as the one at {gsn} says, and this node has applied it: at its \
             next start it goes back before {skipped}"
        );
        let beware = Beware { upto: None, command: Some(skipped) };
        self.end(now, End { why, beware, heals: true, told: false });
    }

    /// The record at `gsn` was rejected, as on every node.
    pub(super) fn name_rejected(&mut self, state: &State, gsn: Gsn, record: &[u8]) {
        // Of a fence, or of what was to lie elsewhere, there is only the place.
        if record.is_empty() || state.has_skipped(gsn) {
            return;
        }
        self.skips.rejected += 1;
        let n = self.skips.rejected;
        if n <= NAMED || n.is_power_of_two() {
            let (why, bytes) = (state.why_rejected(record), record.len());
            let text = format!(
                "the record at {gsn} ({bytes} bytes) is rejected, on every node: {why} (number {n} since the start)"
            );
            self.outbox.push_back(Output::Event(NodeEvent::Note(text)));
        }
    }
}
