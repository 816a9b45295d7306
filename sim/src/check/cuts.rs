//! LOG-1, at its root: is there one cut of each number, with its base behind the cut before, and does every
//! record lie where the cuts say?

use super::{Verdict, promise};
use crate::schedule::NodeId;
use std::collections::BTreeMap;
use zoolog_core::batch::PlacedBatch;
use zoolog_core::cut::{Cut, Run};
use zoolog_core::wire::Grown;
use zoolog_core::{CutNumber, Gsn, LaneId};

/// All cuts that any leader announced.
#[derive(Debug, Default)]
pub struct Cuts {
    cuts: BTreeMap<CutNumber, Cut>,
    runs: BTreeMap<Gsn, Run>,
    /// Where the log ends after each cut of which that is known, be it by the next one, or because a leader said so: a
    /// cut that was applied while nobody listened is never announced.
    ends: BTreeMap<CutNumber, Gsn>,
    lens: BTreeMap<LaneId, u64>,
    leader: Option<NodeId>,
    /// The last cut that each orderer spoke of as a whole: one said in few bytes is near.
    near: BTreeMap<NodeId, CutNumber>,
    /// Cuts that were said in few bytes, and not as a whole so far.
    grown: BTreeMap<CutNumber, Grown>,
}

impl Cuts {
    /// A node sent a cut.
    pub fn announced(&mut self, from: NodeId, cut: &Cut) -> Verdict {
        self.leader = Some(from);
        self.asked(from, cut.number);
        if let Some(grown) = self.grown.remove(&cut.number) {
            promise!("LOG-1", Grown::of(cut).as_ref() == Some(&grown), "{grown:?} is said of {cut:?}");
        }
        if let Some(before) = self.cuts.get(&cut.number) {
            promise!("LOG-1", before == cut, "node {} announces {cut:?}, before it was {before:?}", from.0);
            return Ok(());
        }
        let grows = cut.lanes.iter().all(|l| l.from < l.to) && !cut.lanes.is_empty();
        promise!("LOG-1", grows, "cut {cut:?} adds nothing to a lane it names");
        let below = self.cuts.range(..cut.number).next_back();
        let above = self.cuts.range(cut.number..).next();
        for (a, b) in below.map(|(_, c)| (c, cut)).into_iter().chain(above.map(|(_, c)| (cut, c))) {
            let next = a.number.next() == b.number;
            let right = if next { a.end() == b.base } else { a.end() < b.base };
            promise!("LOG-1", right, "cuts don't follow each other: {a:?}, {b:?}");
        }
        self.runs.extend(cut.runs().map(|r| (r.first_gsn, r)));
        for lane in &cut.lanes {
            let len = self.lens.entry(lane.lane).or_default();
            *len = lane.to.max(*len);
        }
        self.cuts.insert(cut.number, cut.clone());
        self.stated(CutNumber(cut.number.0.saturating_sub(1)), cut.base)?;
        self.stated(cut.number, cut.end())
    }

    /// A node said what the order is, up to that cut.
    pub fn asked(&mut self, from: NodeId, number: CutNumber) {
        let near = self.near.entry(from).or_default();
        *near = number.max(*near);
    }

    /// A node sent what a cut adds.
    pub fn grown(&mut self, from: NodeId, grown: Grown) -> Verdict {
        let near = self.near.get(&from).copied().unwrap_or_default();
        // The newest, and only that, is said to all who follow cuts; slots may get it as a whole later.
        let ahead = (0..128).map(|n| CutNumber(near.0 + n)).find(|n| grown.may_be(*n));
        promise!("LOG-1", ahead.is_some(), "{grown:?} is no cut behind {near}, which node {} said", from.0);
        let number = ahead.expect("just seen");
        let same = match self.cuts.get(&number) {
            Some(cut) => Grown::of(cut).as_ref() == Some(&grown),
            None => *self.grown.entry(number).or_insert_with(|| grown.clone()) == grown,
        };
        self.asked(from, number);
        promise!("LOG-1", same, "{grown:?} is said of {number}, of which {:?}", self.cuts.get(&number));
        Ok(())
    }

    /// A leader says, or it follows from a cut, that the log ends at `end` after the cut of that number.
    pub fn stated(&mut self, number: CutNumber, end: Gsn) -> Verdict {
        let known = *self.ends.entry(number).or_insert(end);
        promise!("LOG-1", known == end, "the log ends at {end} after {number}; before it was {known}");
        let below = self.ends.range(..number).next_back();
        let above = self.ends.range(number.next()..).next();
        let ascends = below.is_none_or(|(_, &e)| e < end) && above.is_none_or(|(_, &e)| end < e);
        promise!(
            "LOG-1",
            ascends,
            "the log ends at {end} after {number}, and there are {below:?} and {above:?}"
        );
        Ok(())
    }

    /// A reader got a batch whose first record is at `first`.
    pub fn delivered(&self, first: Gsn, placed: &PlacedBatch) -> Verdict {
        // A cut that was applied while nobody listened was never announced.
        let Some((_, run)) = self.runs.range(..=first).next_back() else { return Ok(()) };
        let at = first.since(run.first_gsn);
        if at >= run.count {
            return Ok(());
        }
        let (lane, lsn) = (run.lane, run.first_lsn.plus(at));
        let p = &placed.placement;
        let right = (p.lane, p.first_lsn) == (lane, lsn);
        promise!("LOG-1", right, "{p:?} was delivered at {first}, where the cuts put lane {lane} LSN {lsn}");
        let whole = at + u64::from(placed.batch.count()) <= run.count;
        promise!("LOG-1", whole, "the batch at {first}, {p:?}, is not wholly inside one cut: {run:?}");
        Ok(())
    }

    /// Who announced the last cut.
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// How many records of a lane are committed, as far as was announced.
    pub fn committed(&self, lane: LaneId) -> u64 {
        self.lens.get(&lane).copied().unwrap_or(0)
    }

    /// How many cuts there were.
    pub fn count(&self) -> usize {
        self.cuts.len()
    }

    /// First GSN past the newest cut that anybody was told of.
    pub fn end(&self) -> Gsn {
        self.ends.values().next_back().copied().unwrap_or_default()
    }
}
