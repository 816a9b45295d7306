//! Which shard has which positions? For a consumer that is told of no cuts, and asks one shard after the other: a
//! bounded table of the stretches that are still missing, and who is known not to have them. It is filled from answers,
//! each of which says all that one shard has in a stretch, and shrinks as stretches are found.
//!
//! Positions are dense. So who answers with all of a stretch ends the search there, and where a shard has nothing,
//! another has.

use std::collections::VecDeque;
use zoolog_core::{Gsn, ShardId};

/// A stretch of positions whose records are not here.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Missing {
    from: Gsn,
    to: Gsn,
    /// Who has none of them.
    not: Vec<ShardId>,
}

/// What to do next about what is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Ask this shard for that stretch.
    Ask(ShardId, Gsn, Gsn),
    /// Nobody has the first position that is missing.
    Nowhere,
    /// Nothing is missing.
    Nothing,
}

/// The table.
#[derive(Debug)]
pub(super) struct Locations {
    limit: usize,
    /// Ascending, apart, none empty; some shard was asked for each.
    missing: VecDeque<Missing>,
    /// Nothing is known from here on,
    until: Gsn,
    /// and it matters up to there.
    goal: Gsn,
    /// Who had something last: he probably has what follows.
    likely: Option<ShardId>,
}

impl Locations {
    /// Of at most `limit` stretches, and of nothing yet, from `from` on. `likely` had something before that.
    pub fn new(limit: usize, from: Gsn, likely: Option<ShardId>) -> Self {
        Self { limit: limit.max(1), missing: VecDeque::new(), until: from, goal: from, likely }
    }

    /// Who had something last.
    pub fn likely(&self) -> Option<ShardId> {
        self.likely
    }

    /// How many stretches it has.
    pub fn len(&self) -> usize {
        self.missing.len()
    }

    /// What lies before `goal` is wanted, too.
    pub fn extend(&mut self, goal: Gsn) {
        self.goal = self.goal.max(goal);
    }

    /// Forgets all, and begins again at `from`.
    pub fn reset(&mut self, from: Gsn) {
        self.missing.clear();
        (self.until, self.goal, self.likely) = (from, self.goal.max(from), None);
    }

    /// What to ask next, of these shards.
    pub fn next(&self, shards: impl Iterator<Item = ShardId> + Clone) -> Next {
        let choose = |not: &[ShardId]| {
            let mut may = shards.clone().filter(|s| !not.contains(s));
            let first = may.next()?;
            Some(may.chain([first]).find(|s| Some(*s) == self.likely).unwrap_or(first))
        };
        let (not, from, to) = match self.missing.front() {
            Some(m) => (m.not.as_slice(), m.from, m.to),
            None if self.until < self.goal => (&[][..], self.until, self.goal),
            None => return Next::Nothing,
        };
        choose(not).map_or(Next::Nowhere, |shard| Next::Ask(shard, from, to))
    }

    /// A shard has exactly `held` (first, end, ascending) in `from..covers`. Returns from where on all that was
    /// learned must be forgotten, by whoever keeps the records too, because there was no room for it.
    pub fn learned(&mut self, shard: ShardId, from: Gsn, covers: Gsn, held: &[(Gsn, Gsn)]) -> Option<Gsn> {
        if !held.is_empty() {
            self.likely = Some(shard);
        }
        let mut all = std::mem::take(&mut self.missing);
        if from <= self.until && self.until < covers {
            all.push_back(Missing { from: self.until, to: covers, not: Vec::new() });
            self.until = covers;
        }
        for m in all {
            let (a, b) = (m.from.max(from), m.to.min(covers));
            if a >= b {
                self.missing.push_back(m);
                continue;
            }
            let mut not = m.not.clone();
            not.push(shard);
            let mut add = |from: Gsn, to: Gsn, not: &[ShardId]| {
                if from < to {
                    self.missing.push_back(Missing { from, to, not: not.to_vec() });
                }
            };
            add(m.from, a, &m.not);
            let mut at = a;
            for &(first, end) in held.iter().filter(|(first, end)| *first < b && *end > a) {
                add(at, first.min(b), &not);
                at = at.max(end);
            }
            add(at, b, &not);
            add(b, m.to, &m.not);
        }
        let mut forget = None;
        while self.missing.len() > self.limit {
            let last = self.missing.pop_back().expect("more than the limit");
            self.until = last.from;
            forget = Some(last.from);
        }
        forget
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn who_has_all_of_it_is_the_only_one_asked() {
        let shards = [ShardId(1), ShardId(2), ShardId(3)];
        let mut l = Locations::new(10, Gsn(5), None);
        l.extend(Gsn(50));
        assert_eq!(l.next(shards.into_iter()), Next::Ask(ShardId(1), Gsn(5), Gsn(50)));
        assert_eq!(l.learned(ShardId(1), Gsn(5), Gsn(50), &[]), None);
        assert_eq!(l.next(shards.into_iter()), Next::Ask(ShardId(2), Gsn(5), Gsn(50)));
        // A batch begins before what is wanted.
        assert_eq!(l.learned(ShardId(2), Gsn(5), Gsn(50), &[(Gsn(3), Gsn(20)), (Gsn(20), Gsn(50))]), None);
        assert_eq!((l.next(shards.into_iter()), l.len()), (Next::Nothing, 0));
        l.extend(Gsn(60));
        assert_eq!(l.next(shards.into_iter()), Next::Ask(ShardId(2), Gsn(50), Gsn(60)));
    }

    #[test]
    fn a_position_that_nobody_has_is_told() {
        let shards = [ShardId(1), ShardId(2)];
        let mut l = Locations::new(10, Gsn(0), None);
        l.extend(Gsn(9));
        l.learned(ShardId(1), Gsn(0), Gsn(9), &[(Gsn(0), Gsn(4))]);
        l.learned(ShardId(2), Gsn(4), Gsn(9), &[(Gsn(5), Gsn(9))]);
        assert_eq!((l.next(shards.into_iter()), l.len()), (Next::Nowhere, 1));
        l.reset(Gsn(4));
        assert!(matches!(l.next(shards.into_iter()), Next::Ask(..)));
    }

    proptest! {
        /// Batches of so many records are in these shards; answers are cut short now and then. Whatever the limit, each
        /// position is found where it is, and the table is never longer.
        #[test]
        fn everything_is_found_where_it_is(
            batches in prop::collection::vec((0u32..4, 1u64..5), 1..60),
            limit in 1usize..8,
            shorts in prop::collection::vec(1u64..40, 1..20),
        ) {
            let mut at = 0;
            let all: Vec<_> = batches.iter().map(|&(shard, n)| {
                at += n;
                (ShardId(shard), Gsn(at - n), Gsn(at))
            }).collect();
            let end = Gsn(at);
            let mut found: Vec<Option<ShardId>> = vec![None; at as usize];
            let mut l = Locations::new(limit, Gsn(0), None);
            l.extend(end);
            for step in 0.. {
                prop_assert!(step < 20_000, "it gets on");
                let (shard, from, to) = match l.next((0..4).map(ShardId)) {
                    Next::Ask(shard, from, to) => (shard, from, to),
                    Next::Nothing => break,
                    Next::Nowhere => return Err(TestCaseError::fail("everything is somewhere")),
                };
                // Ends where a batch does, as replicas' answers do.
                let short = from.plus(shorts[step % shorts.len()]).min(to);
                let covers = all.iter().map(|b| b.2).find(|e| *e >= short).expect("it ends").min(to);
                let held: Vec<_> = all.iter()
                    .filter(|b| b.0 == shard && b.1 < covers && b.2 > from)
                    .map(|b| (b.1, b.2)).collect();
                for (a, b) in &held {
                    (a.max(&from).0..b.min(&covers).0).for_each(|p| {
                        assert_eq!(found[p as usize], None, "position {p} is asked for twice");
                        found[p as usize] = Some(shard);
                    });
                }
                if let Some(forget) = l.learned(shard, from, covers, &held) {
                    found[forget.0 as usize..].fill(None);
                }
                prop_assert!(l.len() <= limit);
            }
            for (shard, first, end) in all {
                prop_assert!((first.0..end.0).all(|p| found[p as usize] == Some(shard)));
            }
        }
    }
}
