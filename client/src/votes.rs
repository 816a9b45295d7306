//! Do nodes that apply the same log have the same state? Marks lie in the log; behind each every node notes the hash of its state,
//! and logs that. Who differs from most must stop.
//!
//! What is said of a mark counts until the next one: then it is decided, by everybody for himself. A node counts itself by
//! the state it has now, whatever it said in an earlier life, so that one that reads old marks again is judged by what it is.
//! Where as many say one thing as another, nobody can tell who is wrong: all of them stop, and rebuild themselves from the
//! log, which is right.
//!
//! Here is only what follows from what was said. When a mark is put, and what becomes of who must stop, is the business of who
//! keeps the state.

use std::collections::BTreeMap;
use zoolog_core::Gsn;

/// Nodes that are heard of a mark.
const NODES_MAX: usize = 64;

/// A mark that is not decided.
#[derive(Debug)]
struct Open {
    at: Gsn,
    /// Of the state here, behind it.
    hash: u64,
    /// This node has said so, in this life.
    told: bool,
    /// What others have said, by node.
    said: BTreeMap<u64, u64>,
}

/// How the nodes stand to each other at a mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The mark.
    pub at: Gsn,
    /// Of the state here.
    pub hash: u64,
    /// Nodes with this state, this one included.
    pub with: usize,
    /// Nodes with the state that most of the others have.
    pub most: usize,
    /// Nodes that differ, and what they have.
    pub against: Vec<(u64, u64)>,
}

impl Standing {
    /// Nodes that differ, for a person.
    pub fn others(&self) -> String {
        let all: Vec<_> = self.against.iter().map(|(node, _)| node_name(*node)).collect();
        all.join(", ")
    }
}

/// A number of its own choice, or a drawn one.
fn node_name(node: u64) -> String {
    if node > u64::from(u32::MAX) { format!("node {node:016x}") } else { format!("node {node}") }
}

/// What is decided of a mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody differs.
    Same,
    /// Others differ from more that don't.
    OthersAreWrong(Standing),
    /// This node differs from more than have its state.
    Wrong(Standing),
    /// As many have this state as have another.
    Undecided(Standing),
}

/// Why a node must stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differs {
    /// At which mark, from whom, and since when at the earliest.
    pub why: String,
    /// A snapshot newer than this may be of a state that is not what the log says; `None`: any may be used.
    pub trusted: Option<Gsn>,
    /// It is this node that is wrong, not perhaps the others.
    pub certainly: bool,
}

/// What is said of marks.
#[derive(Debug, Default)]
pub struct Votes {
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

impl Votes {
    /// The newest mark at which this node was one of most.
    pub const fn agreed(&self) -> Option<Gsn> {
        self.agreed
    }

    /// The open mark, if this node has said something of it.
    pub fn told(&self) -> Option<Gsn> {
        self.open.as_ref().filter(|open| open.told).map(|open| open.at)
    }

    /// That mark is behind what was applied, where the state has that hash; `told` says whether others hear so. What is
    /// decided of the one before.
    pub fn mark(&mut self, at: Gsn, hash: u64, told: bool) -> Verdict {
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
    pub fn heard(&mut self, node: u64, at: Gsn, hash: Option<u64>) -> (Option<Verdict>, bool) {
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

    /// What a verdict means for a node whose life began with the snapshot at `began`: whether it must stop. Others that are
    /// wrong are only named.
    ///
    /// # Errors
    /// It must.
    pub fn judge(&self, verdict: &Verdict, began: Option<Gsn>) -> Result<Option<String>, Differs> {
        let (standing, certainly) = match verdict {
            Verdict::Same => return Ok(None),
            Verdict::OthersAreWrong(standing) => {
                let (others, at) = (standing.others(), standing.at);
                return Ok(Some(format!("the state of {others} is another than here at the mark at {at}")));
            }
            Verdict::Wrong(standing) => (standing, true),
            Verdict::Undecided(standing) => (standing, false),
        };
        let since = self.agreed.map_or("since this node's start".to_owned(), |gsn| format!("behind {gsn}"));
        let (others, at, hash) = (standing.others(), standing.at, standing.hash);
        let theirs = standing.against.first().map_or(0, |other| other.1);
        let who = match certainly {
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
        // What the mark at g says is of the state up to g. One that never agreed began wrong, if it is wrong; if that is not
        // certain, what it began with is not thrown away: nobody else may have another.
        let trusted = match (self.agreed, certainly) {
            (Some(agreed), _) => Some(agreed.next()),
            (None, true) => Some(Gsn(began.map_or(0, |began| began.0.saturating_sub(1)))),
            (None, false) => began,
        };
        Err(Differs { why, trusted, certainly })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Gsn = Gsn(9);

    /// What node 0, with hash 1, makes of what nodes 1, 2, ... say.
    fn decided(said: &[u64], told: bool) -> Verdict {
        let mut votes = Votes::default();
        votes.mark(AT, 1, told);
        for (hash, node) in said.iter().zip(1..) {
            assert_eq!(votes.heard(node, AT, Some(*hash)).0, None, "nothing is certain at the first mark");
        }
        votes.mark(Gsn(20), 1, told)
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
        let mut votes = Votes::default();
        votes.mark(AT, 1, true);
        assert!(votes.heard(1, AT, Some(2)).1);
        assert_eq!(votes.heard(1, AT, None), (None, false));
        assert_eq!(votes.mark(Gsn(20), 1, true), Verdict::Same);
    }

    #[test]
    fn of_a_mark_that_is_decided_nothing_is_heard() {
        let mut votes = Votes::default();
        votes.mark(AT, 1, true);
        votes.mark(Gsn(20), 1, true);
        assert_eq!(votes.heard(1, AT, Some(2)), (None, false));
        assert_eq!(votes.mark(Gsn(30), 1, true), Verdict::Same);
    }

    #[test]
    fn once_the_nodes_are_known_a_majority_against_one_is_certain() {
        let mut votes = Votes::default();
        votes.mark(AT, 1, true);
        (1..=4).for_each(|node| assert_eq!(votes.heard(node, AT, Some(1)), (None, false)));
        votes.mark(Gsn(20), 1, true);
        assert_eq!(votes.agreed(), Some(AT));
        assert_eq!(votes.heard(1, Gsn(20), Some(2)).0, None);
        assert_eq!(votes.heard(2, Gsn(20), Some(2)).0, None, "two of five");
        assert!(matches!(votes.heard(3, Gsn(20), Some(2)).0, Some(Verdict::Wrong(_))));
        assert_eq!(votes.agreed(), Some(AT));
    }

    /// Which snapshots a node may start from again that had to stop.
    #[test]
    fn what_was_agreed_on_is_trusted_and_what_nobody_can_judge_is_kept() {
        let stops = |agrees_first: bool, said: &[u64], began| {
            let mut votes = Votes::default();
            votes.mark(AT, 1, true);
            if agrees_first {
                votes.heard(1, AT, Some(1));
            }
            votes.mark(Gsn(20), 1, true);
            for (hash, node) in said.iter().zip(1..) {
                votes.heard(node, Gsn(20), Some(*hash));
            }
            let verdict = votes.mark(Gsn(30), 1, true);
            votes.judge(&verdict, began).map_err(|d| (d.trusted, d.certainly))
        };
        assert_eq!(stops(true, &[2, 2], Some(Gsn(5))), Err((Some(Gsn(10)), true)));
        assert_eq!(stops(true, &[2], Some(Gsn(5))), Err((Some(Gsn(10)), false)));
        assert_eq!(stops(false, &[2, 2], Some(Gsn(5))), Err((Some(Gsn(4)), true)));
        assert_eq!(stops(false, &[2, 2], None), Err((Some(Gsn(0)), true)));
        assert_eq!(stops(false, &[2], Some(Gsn(5))), Err((Some(Gsn(5)), false)));
        assert_eq!(stops(true, &[1], None), Ok(None));
        let named = stops(true, &[1, 2], None).expect("it goes on");
        assert!(named.is_some_and(|text| text.contains("node 2 ")));
    }
}
