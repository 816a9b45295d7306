//! How do lane lengths become positions in the total order, and back? (Scalog NSDI'20, section 3.)
//!
//! Cut `k` adds, lane by lane in the order of lane ids, the records `from..to`; the first of them gets the
//! GSN `base(k)`, and `base(k + 1)` is `base(k)` plus all that `k` adds. A shard's lanes are neighbours in
//! that order, so what a cut adds to one shard is one contiguous *run* of GSNs: a replica needs of a cut
//! only its [`ShardPart`].

use crate::ids::{CutNumber, Gsn, LaneId, Lsn, ShardId, ViewNumber};
use std::collections::{BTreeMap, VecDeque};

/// A committed cut: what it adds to the order.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Cut {
    /// Its number.
    pub number: CutNumber,
    /// GSN of the first record it adds.
    pub base: Gsn,
    /// The view it belongs to; a receiver that doesn't know it fetches it first.
    pub view: ViewNumber,
    /// The lanes that grew, by id, ascending; never empty.
    pub lanes: Vec<CutLane>,
}

/// How a cut lengthens a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct CutLane {
    /// The lane.
    pub lane: LaneId,
    /// Committed length before.
    pub from: u64,
    /// Committed length after; greater.
    pub to: u64,
}

/// Records of one lane that a cut put at consecutive GSNs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The lane.
    pub lane: LaneId,
    /// First of them.
    pub first_lsn: Lsn,
    /// How many.
    pub count: u64,
    /// Position of the first.
    pub first_gsn: Gsn,
}

/// What a cut says about one shard.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ShardPart {
    /// The cut.
    pub number: CutNumber,
    /// GSN of the first record the cut adds to this shard.
    pub base: Gsn,
    /// Committed length of each of the shard's lanes after the cut.
    pub lens: Vec<u64>,
}

/// Where a shard's history begins once its oldest parts are trimmed: what the last of those said.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ShardBase {
    /// Its cut.
    pub number: CutNumber,
    /// One past the GSN of its last record.
    pub end: Gsn,
    /// Committed length of each of the shard's lanes after it.
    pub lens: Vec<u64>,
}

/// Why a cut doesn't fit behind what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CutError {
    /// Cuts between are missing: fetch them.
    #[error("cut {got} after cut {have}: those between are missing")]
    Gap {
        /// Known.
        have: CutNumber,
        /// Came.
        got: CutNumber,
    },
    /// Already known.
    #[error("cut {got} is not news after cut {have}")]
    Old {
        /// Known.
        have: CutNumber,
        /// Came.
        got: CutNumber,
    },
    /// It contradicts what is known, or itself.
    #[error("cut {number} contradicts what is known: {what}")]
    Contradiction {
        /// Which.
        number: CutNumber,
        /// In what.
        what: &'static str,
    },
}

impl Cut {
    /// What it adds, lane by lane.
    pub fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        let mut next = self.base;
        self.lanes.iter().map(move |l| {
            let count = l.to.saturating_sub(l.from);
            let run = Run { lane: l.lane, first_lsn: Lsn(l.from), count, first_gsn: next };
            next = Gsn(next.0.saturating_add(count));
            run
        })
    }

    /// First GSN behind it.
    pub fn end(&self) -> Gsn {
        Gsn(self.lanes.iter().fold(self.base.0, |g, l| g.saturating_add(l.to.saturating_sub(l.from))))
    }

    /// What it says about `shard`, whose lanes had the committed lengths `lens` before; `None` if nothing.
    ///
    /// # Errors
    /// When it starts from other lengths: cuts between are missing, or it is forged.
    pub fn part(&self, shard: ShardId, lens: &[u64]) -> Result<Option<ShardPart>, CutError> {
        let mut part: Option<ShardPart> = None;
        for run in self.runs().filter(|r| r.lane.shard() == shard) {
            let p = part.get_or_insert_with(|| ShardPart {
                number: self.number,
                base: run.first_gsn,
                lens: lens.to_vec(),
            });
            let wrong = |what| CutError::Contradiction { number: self.number, what };
            let len = p.lens.get_mut(usize::from(run.lane.index())).ok_or(wrong("a lane too many"))?;
            if *len != run.first_lsn.0 {
                return Err(wrong("a lane's length before it"));
            }
            *len += run.count;
        }
        Ok(part)
    }
}

/// The order so far, as far as one follower knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// The last cut.
    pub number: CutNumber,
    /// First GSN not yet assigned.
    pub tail: Gsn,
    /// Committed length of each lane; lanes without records may be missing.
    pub lens: BTreeMap<LaneId, u64>,
}

impl Order {
    /// Committed length of `lane`.
    pub fn len(&self, lane: LaneId) -> u64 {
        self.lens.get(&lane).copied().unwrap_or(0)
    }

    /// Takes the next cut. On an error nothing has changed.
    ///
    /// # Errors
    /// When it is not the next, or contradicts this.
    pub fn apply(&mut self, cut: &Cut) -> Result<(), CutError> {
        let (have, got) = (self.number, cut.number);
        if got <= have {
            return Err(CutError::Old { have, got });
        }
        if got != have.next() {
            return Err(CutError::Gap { have, got });
        }
        let wrong = |what| Err(CutError::Contradiction { number: got, what });
        if cut.base != self.tail {
            return wrong("its base is not the tail");
        }
        if cut.lanes.is_empty() || !cut.lanes.is_sorted_by(|a, b| a.lane < b.lane) {
            return wrong("its lanes are none, or out of order");
        }
        if cut.lanes.iter().any(|l| l.from >= l.to || self.len(l.lane) != l.from) {
            return wrong("a lane's length before it");
        }
        self.lens.extend(cut.lanes.iter().map(|l| (l.lane, l.to)));
        self.number = got;
        self.tail = cut.end();
        Ok(())
    }
}

/// The parts of one shard, in order, from where they are not trimmed: GSN <-> (lane, LSN) by arithmetic and
/// binary search.
#[derive(Clone, Debug, Default)]
pub struct ShardHistory {
    base: Option<ShardBase>,
    parts: VecDeque<ShardPart>,
}

impl ShardHistory {
    /// A history whose parts up to `base` were trimmed.
    pub fn behind(base: ShardBase) -> Self {
        Self { base: Some(base), parts: VecDeque::new() }
    }

    /// What precedes the parts held, if some were trimmed.
    pub fn base(&self) -> Option<&ShardBase> {
        self.base.as_ref()
    }

    /// The newest part held.
    pub fn last(&self) -> Option<&ShardPart> {
        self.parts.back()
    }

    /// The parts held.
    pub fn parts(&self) -> &VecDeque<ShardPart> {
        &self.parts
    }

    /// The cut of the newest part, held or trimmed; 0 if there was none.
    pub fn number(&self) -> CutNumber {
        self.last().map(|p| p.number).or(self.base.as_ref().map(|b| b.number)).unwrap_or_default()
    }

    /// Lane lengths after the newest part; none if there was none.
    fn lens(&self) -> &[u64] {
        self.last().map(|p| &p.lens[..]).unwrap_or_else(|| self.before(0))
    }

    /// How many lanes the shard has, as far as parts say.
    pub fn lanes(&self) -> Option<usize> {
        Some(self.lens().len()).filter(|n| *n > 0)
    }

    /// Committed length of lane `index`.
    pub fn len(&self, index: u8) -> u64 {
        self.lens().get(usize::from(index)).copied().unwrap_or(0)
    }

    /// Records of lane `index` that were trimmed: its parts begin there.
    pub fn start(&self, index: u8) -> u64 {
        self.base.as_ref().and_then(|b| b.lens.get(usize::from(index)).copied()).unwrap_or(0)
    }

    /// Adds the next part.
    ///
    /// # Errors
    /// When it is not beyond the newest, in number, GSN and lengths.
    pub fn push(&mut self, part: ShardPart) -> Result<(), CutError> {
        let (number, wrong) =
            (part.number, |what| Err(CutError::Contradiction { number: part.number, what }));
        let (have, lens) = (self.number(), self.lens());
        if self.lanes().is_some() {
            if number <= have {
                return Err(CutError::Old { have, got: number });
            }
            if part.lens.len() != lens.len() || part.lens.iter().zip(lens).any(|(n, o)| n < o) {
                return wrong("a lane shrinks");
            }
            if part.base < self.end() {
                return wrong("its GSNs are taken");
            }
        }
        if part.lens.iter().sum::<u64>() <= lens.iter().sum::<u64>() {
            return wrong("it adds nothing");
        }
        self.parts.push_back(part);
        Ok(())
    }

    /// Drops the oldest parts that lie wholly below `trim`, but none beyond cut `upto`. Whether there were any.
    pub fn trim(&mut self, trim: Gsn, upto: CutNumber) -> bool {
        let mut dropped = false;
        while let Some(part) = self.parts.front() {
            let end = part.base.plus(self.added(0));
            if end > trim || part.number > upto {
                break;
            }
            let part = self.parts.pop_front().expect("just seen");
            self.base = Some(ShardBase { number: part.number, end, lens: part.lens });
            dropped = true;
        }
        dropped
    }

    /// Lane lengths before part `i`; none before the very first.
    fn before(&self, i: usize) -> &[u64] {
        match i.checked_sub(1) {
            Some(i) => &self.parts[i].lens,
            None => self.base.as_ref().map_or(&[], |b| &b.lens),
        }
    }

    /// The runs of part `i`, in GSN order.
    pub fn runs(&self, shard: ShardId, i: usize) -> impl Iterator<Item = Run> + '_ {
        let (part, before) = (&self.parts[i], self.before(i));
        let mut next = part.base;
        part.lens.iter().enumerate().filter_map(move |(index, &to)| {
            let from = before.get(index).copied().unwrap_or(0);
            (to > from).then(|| {
                let lane = LaneId::new(shard, index as u8);
                let run = Run { lane, first_lsn: Lsn(from), count: to - from, first_gsn: next };
                next = next.plus(to - from);
                run
            })
        })
    }

    /// How many records part `i` adds.
    pub fn added(&self, i: usize) -> u64 {
        self.parts[i].lens.iter().sum::<u64>() - self.before(i).iter().sum::<u64>()
    }

    /// First GSN behind the newest part.
    pub fn end(&self) -> Gsn {
        match self.parts.len() {
            0 => self.base.as_ref().map_or(Gsn(0), |b| b.end),
            n => self.parts[n - 1].base.plus(self.added(n - 1)),
        }
    }

    /// Index of the first part that holds a GSN at or past `gsn`.
    pub fn part_from(&self, gsn: Gsn) -> usize {
        let i = self.parts.partition_point(|p| p.base <= gsn);
        match i.checked_sub(1) {
            Some(prev) if self.parts[prev].base.0 + self.added(prev) > gsn.0 => prev,
            _ => i,
        }
    }

    /// Where the record at `lsn` of lane `index` is in the total order, if it is committed and its part is held.
    pub fn gsn(&self, shard: ShardId, index: u8, lsn: Lsn) -> Option<Gsn> {
        let i = self.parts.partition_point(|p| p.lens[usize::from(index)] <= lsn.0);
        if i == self.parts.len() || lsn.0 < self.start(index) {
            return None;
        }
        self.runs(shard, i)
            .find(|r| r.lane.index() == index)
            .map(|r| r.first_gsn.plus(lsn.since(r.first_lsn)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Cuts over 3 shards of 2 lanes from random growth.
    fn cuts(growth: Vec<[u64; 6]>) -> Vec<Cut> {
        let lane = |i: usize| LaneId::new(ShardId((i / 2) as u32 + 1), (i % 2) as u8);
        let (mut lens, mut base, mut out) = ([0u64; 6], Gsn(0), Vec::new());
        for g in growth {
            let lanes: Vec<_> = (0..6)
                .filter(|&i| g[i] > 0)
                .map(|i| CutLane { lane: lane(i), from: lens[i], to: lens[i] + g[i] })
                .collect();
            if lanes.is_empty() {
                continue;
            }
            (0..6).for_each(|i| lens[i] += g[i]);
            let cut = Cut { number: CutNumber(out.len() as u64 + 1), base, view: ViewNumber(1), lanes };
            base = cut.end();
            out.push(cut);
        }
        out
    }

    proptest! {
        /// LOG-1: every record gets exactly one GSN, dense, and shard parts agree with whole cuts.
        #[test]
        fn positions_are_dense_and_reversible(growth in prop::collection::vec(prop::array::uniform6(0u64..4), 0..30)) {
            let mut order = Order::default();
            let mut shards: BTreeMap<ShardId, ShardHistory> = BTreeMap::new();
            let mut seen = Vec::new();
            for cut in cuts(growth) {
                order.apply(&cut).unwrap();
                for run in cut.runs() {
                    (0..run.count).for_each(|i| seen.push((run.first_gsn.plus(i), run.lane, run.first_lsn.plus(i))));
                }
                for id in (1..=3).map(ShardId) {
                    let h = shards.entry(id).or_default();
                    let lens = [h.len(0), h.len(1)];
                    if let Some(part) = cut.part(id, &lens).unwrap() {
                        h.push(part).unwrap();
                    }
                }
            }
            prop_assert!(seen.iter().enumerate().all(|(i, s)| s.0 == Gsn(i as u64)));
            prop_assert_eq!(order.tail.0, seen.len() as u64);
            for &(gsn, lane, lsn) in &seen {
                let h = &shards[&lane.shard()];
                prop_assert_eq!(h.gsn(lane.shard(), lane.index(), lsn), Some(gsn));
                let i = h.part_from(gsn);
                let run = h.runs(lane.shard(), i).find(|r| r.first_gsn <= gsn && gsn < r.first_gsn.plus(r.count));
                let run = run.expect("the part holds it");
                prop_assert_eq!((run.lane, run.first_lsn.plus(gsn.since(run.first_gsn))), (lane, lsn));
            }
            for (id, h) in &shards {
                for index in 0..2 {
                    prop_assert_eq!(h.gsn(*id, index, Lsn(h.len(index))), None);
                }
            }
        }

        /// What is left of a trimmed history says the same as before, and nothing of what is gone; it goes on
        /// as if nothing had been dropped.
        #[test]
        fn a_trimmed_history_agrees_with_the_whole_one(
            growth in prop::collection::vec(prop::array::uniform6(0u64..4), 1..30), trim in 0u64..200, upto in 0u64..40, at in 0usize..30,
        ) {
            let (id, mut whole, mut short) = (ShardId(2), ShardHistory::default(), ShardHistory::default());
            for (i, cut) in cuts(growth).iter().enumerate() {
                if let Some(part) = cut.part(id, &[whole.len(0), whole.len(1)]).unwrap() {
                    whole.push(part.clone()).unwrap();
                    short.push(part).unwrap();
                }
                if i == at {
                    short.trim(Gsn(trim), CutNumber(upto));
                }
                prop_assert_eq!((short.end(), short.number()), (whole.end(), whole.number()));
            }
            let base = short.base().cloned();
            let (first, number) = base.map_or((Gsn(0), CutNumber(0)), |b| (b.end, b.number));
            prop_assert!(first.0 <= trim && number.0 <= upto);
            for index in 0..2 {
                prop_assert_eq!(short.len(index), whole.len(index));
                for lsn in 0..whole.len(index) {
                    let expected = whole.gsn(id, index, Lsn(lsn)).filter(|_| lsn >= short.start(index));
                    prop_assert_eq!(short.gsn(id, index, Lsn(lsn)), expected);
                    prop_assert!(expected.is_none_or(|g| g >= first));
                }
            }
        }
    }

    /// A skipped cut must never move positions (shared-log defect: GSNs from the cuts one happened to get).
    #[test]
    fn a_gap_is_refused_not_guessed() {
        let c = cuts(vec![[1, 0, 0, 0, 0, 0]; 3]);
        let mut order = Order::default();
        order.apply(&c[0]).unwrap();
        let before = order.clone();
        assert_eq!(order.apply(&c[2]), Err(CutError::Gap { have: CutNumber(1), got: CutNumber(3) }));
        assert_eq!(order.apply(&c[0]), Err(CutError::Old { have: CutNumber(1), got: CutNumber(1) }));
        let mut forged = c[1].clone();
        forged.base = Gsn(5);
        assert!(matches!(order.apply(&forged), Err(CutError::Contradiction { .. })));
        assert_eq!(order, before);
    }
}
