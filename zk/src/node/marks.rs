//! Do all nodes have the same state? Now and then a node puts a mark into the log: behind it every node notes the hash of its
//! state, and logs that. Who differs from most stops (invariant ZK-5).
//!
//! What is said of a mark counts until the next one: then it is decided, by everybody for himself. A node counts itself by
//! the state it has now, whatever it said in an earlier life, so that one that reads old marks again is judged by what it is.
//! Where as many say one thing as another, nobody can tell who is wrong: all of them stop, and rebuild themselves from the
//! log, which is right.

use super::back::End;
use super::own::Owner;
use super::{Back, NodeConfig, NodeEvent};
use crate::snapshot::Beware;
use crate::state::State;
use crate::txn::{Op, Word};
use std::collections::BTreeMap;
use std::time::Duration;
use zoolog_client::SharedLog;
use zoolog_core::{Gsn, Instant, Output};

/// Bytes of records after which a mark is due.
const MARK_BYTES: u64 = 64 << 20;
/// Nodes that are heard of a mark.
const NODES_MAX: usize = 64;
/// Nodes that put marks at different times.
const TURNS: u32 = 8;
/// Until the next attempt when the log has no room.
const RETRY: Duration = Duration::from_millis(100);
/// Parts of a state that are named at most.
const PARTS_NAMED: usize = 20;
/// Until the next mark once somebody differs.
const SOON: Duration = Duration::from_millis(200);

/// A mark that is not decided.
#[derive(Debug)]
struct Open {
    at: Gsn,
    /// Of the state here, behind it.
    hash: u64,
    /// This node has said so, in this life.
    told: bool,
    /// What others have said, by node.
    said: BTreeMap<u32, u64>,
}

/// How the nodes stand to each other at a mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// The mark.
    pub at: Gsn,
    /// Of the state here.
    pub hash: u64,
    /// Nodes with this state, this one included.
    pub with: usize,
    /// Nodes with the state that most of the others have.
    pub most: usize,
    /// Nodes that differ, and what they have.
    pub against: Vec<(u32, u64)>,
}

/// What is decided of a mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nobody differs.
    Same,
    /// Others differ from more that don't.
    OthersAreWrong(Standing),
    /// This node differs from more than have its state.
    Wrong(Standing),
    /// As many have this state as have another.
    Undecided(Standing),
}

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
    open: Option<Open>,
    /// Nodes that have spoken of the mark before the open one, this one included.
    spoke: usize,
    /// The newest mark at which another node had the same state, and no more others a different one.
    agreed: Option<Gsn>,
}

impl Open {
    fn verdict(&self) -> Verdict {
        let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
        self.said.values().for_each(|hash| *counts.entry(*hash).or_default() += 1);
        let with = 1 + counts.remove(&self.hash).unwrap_or(0);
        let most = counts.values().copied().max().unwrap_or(0);
        if most == 0 {
            return Verdict::Same;
        }
        let against = self.said.iter().filter(|s| *s.1 != self.hash).map(|(node, hash)| (*node, *hash));
        let standing = Standing { at: self.at, hash: self.hash, with, most, against: against.collect() };
        match with.cmp(&most) {
            std::cmp::Ordering::Greater => Verdict::OthersAreWrong(standing),
            std::cmp::Ordering::Less => Verdict::Wrong(standing),
            // Of what it never said, as when it reads old marks, nobody was told.
            std::cmp::Ordering::Equal if self.told => Verdict::Undecided(standing),
            std::cmp::Ordering::Equal => Verdict::OthersAreWrong(standing),
        }
    }
}

impl Marks {
    /// When something is to be done next.
    pub(super) const fn next(&self) -> Option<Instant> {
        self.due_at
    }

    /// The newest mark at which this node was one of most.
    pub(super) const fn agreed(&self) -> Option<Gsn> {
        self.agreed
    }

    /// That mark is behind what was applied, where the state has that hash; `told` says whether others hear so. What is
    /// decided of the one before.
    fn mark(&mut self, at: Gsn, hash: u64, told: bool) -> Verdict {
        let open = self.open.replace(Open { at, hash, told, said: BTreeMap::new() });
        let Some(open) = open else { return Verdict::Same };
        let verdict = open.verdict();
        self.spoke = open.said.len() + 1;
        let agrees = open.said.values().any(|hash| *hash == open.hash);
        if agrees && matches!(verdict, Verdict::Same | Verdict::OthersAreWrong(_)) {
            self.agreed = Some(open.at);
        }
        verdict
    }

    /// Another node says what it has at a mark, or takes it back. Something else than most have, if that is certain already;
    /// and whether it differs.
    fn heard(&mut self, node: u32, at: Gsn, hash: Option<u64>) -> (Option<Verdict>, bool) {
        let Some(open) = self.open.as_mut().filter(|open| open.at == at) else { return (None, false) };
        match hash {
            None => drop(open.said.remove(&node)),
            Some(hash) if open.said.len() < NODES_MAX => drop(open.said.insert(node, hash)),
            Some(_) => {}
        }
        let verdict = open.verdict();
        let differs = hash.is_some_and(|hash| hash != open.hash);
        // More than half of all that there are, as far as known: whatever the others will say.
        let all = self.spoke.max(open.said.len() + 1);
        let certain = self.spoke > 0
            && match &verdict {
                Verdict::Wrong(standing) => standing.most > all / 2,
                _ => false,
            };
        (certain.then_some(verdict), differs)
    }

    /// The open mark, if this node has said something of it.
    fn told(&self) -> Option<Gsn> {
        self.open.as_ref().filter(|open| open.told).map(|open| open.at)
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
                let verdict = self.marks.mark(gsn, hash, told);
                (self.marks.since, self.marks.due_at) = ((0, 0), None);
                self.judge(now, state, verdict);
            }
            Word::Hashed { node, .. } if node == self.cfg.id => {}
            Word::Hashed { node, at, hash } => {
                let (verdict, differs) = self.marks.heard(node, at, hash);
                if differs && self.marks.told().is_some() {
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
        let (standing, decided) = match verdict {
            Verdict::Same => return,
            Verdict::OthersAreWrong(standing) => {
                let (others, at) = (names(&standing.against), standing.at);
                return self.note(format!("the state of {others} is another than here at the mark at {at}"));
            }
            Verdict::Wrong(standing) => (standing, true),
            Verdict::Undecided(standing) => (standing, false),
        };
        let agreed = self.marks.agreed();
        let since = agreed.map_or("since this node's start".to_owned(), |gsn| format!("behind {gsn}"));
        let (others, at, hash) = (names(&standing.against), standing.at, standing.hash);
        let theirs = standing.against.first().map_or(0, |other| other.1);
        let who = match decided {
            true => "most nodes have another state than this one",
            false => {
                "as many nodes have another state as have this one's, so that nobody can tell who is right"
            }
        };
        let why = format!(
            "{who}: at the mark at {at} its hash is {hash:016x} here, and {theirs:016x} at {others} (ZK-5). What \
             differs came {since}, at {at} at the latest. This node stops, and rebuilds itself at its next start: from a \
             snapshot that was the same, and the log. If it happens again at the same place, compare the nodes' versions"
        );
        let outline = Box::new(state.outline());
        self.outbox.push_back(Output::Event(NodeEvent::Outline(outline)));
        // What the mark at g says is of the state up to g. One that never agreed began wrong, if it is wrong; if that is not
        // certain, what it began with is not thrown away: nobody else may have another.
        let began = self.snapshots.began_with();
        let upto = match (agreed, decided) {
            (Some(agreed), _) => Some(agreed.next()),
            (None, true) => Some(Gsn(began.map_or(0, |began| began.0.saturating_sub(1)))),
            (None, false) => began,
        };
        self.stop_as_wrong(now, why, Beware { upto, command: None }, decided);
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
        let told = self.marks.told().filter(|_| certainly && !self.failed);
        let take_back = |at: Gsn| Op::Hashed { node, at: at.0, hash: None };
        let said = told.is_some_and(|at| self.propose(now, Owner::Nobody, None, take_back(at)).is_ok());
        self.end(now, End { why, beware, heals: true, told: said });
    }
}

fn names(nodes: &[(u32, u64)]) -> String {
    let all: Vec<_> = nodes.iter().map(|(node, _)| format!("node {node}")).collect();
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Gsn = Gsn(9);

    /// What node 0, with hash 1, makes of what nodes 1, 2, ... say.
    fn decided(said: &[u64], told: bool) -> Verdict {
        let mut marks = Marks::default();
        marks.mark(AT, 1, told);
        for (hash, node) in said.iter().zip(1..) {
            assert_eq!(marks.heard(node, AT, Some(*hash)).0, None, "nothing is certain at the first mark");
        }
        marks.mark(Gsn(20), 1, told)
    }

    #[test]
    fn most_are_right_and_of_equals_nobody_is() {
        assert_eq!(decided(&[], true), Verdict::Same);
        assert_eq!(decided(&[1, 1], true), Verdict::Same);
        assert!(matches!(decided(&[2], true), Verdict::Undecided(_)));
        assert!(matches!(decided(&[2, 2], true), Verdict::Wrong(_)));
        assert!(matches!(decided(&[1, 2], true), Verdict::OthersAreWrong(_)));
        assert!(matches!(decided(&[2, 3], true), Verdict::Undecided(_)), "each has its own");
        assert!(matches!(decided(&[1, 2, 3], true), Verdict::OthersAreWrong(_)));
        assert!(matches!(decided(&[1, 2, 2], true), Verdict::Undecided(_)));
    }

    #[test]
    fn who_only_reads_an_old_mark_is_not_stopped_by_one_that_differed_then() {
        assert!(matches!(decided(&[2], false), Verdict::OthersAreWrong(_)));
        assert!(matches!(decided(&[2, 2], false), Verdict::Wrong(_)));
    }

    #[test]
    fn what_is_taken_back_does_not_count() {
        let mut marks = Marks::default();
        marks.mark(AT, 1, true);
        assert!(marks.heard(1, AT, Some(2)).1);
        assert_eq!(marks.heard(1, AT, None), (None, false));
        assert_eq!(marks.mark(Gsn(20), 1, true), Verdict::Same);
    }

    #[test]
    fn of_a_mark_that_is_decided_nothing_is_heard() {
        let mut marks = Marks::default();
        marks.mark(AT, 1, true);
        marks.mark(Gsn(20), 1, true);
        assert_eq!(marks.heard(1, AT, Some(2)), (None, false));
        assert_eq!(marks.mark(Gsn(30), 1, true), Verdict::Same);
    }

    #[test]
    fn once_the_nodes_are_known_a_majority_against_one_is_certain() {
        let mut marks = Marks::default();
        marks.mark(AT, 1, true);
        (1..=4).for_each(|node| assert_eq!(marks.heard(node, AT, Some(1)), (None, false)));
        marks.mark(Gsn(20), 1, true);
        assert_eq!(marks.agreed(), Some(AT));
        assert_eq!(marks.heard(1, Gsn(20), Some(2)).0, None);
        assert_eq!(marks.heard(2, Gsn(20), Some(2)).0, None, "two of five");
        assert!(matches!(marks.heard(3, Gsn(20), Some(2)).0, Some(Verdict::Wrong(_))));
        assert_eq!(marks.agreed(), Some(AT));
    }
}
