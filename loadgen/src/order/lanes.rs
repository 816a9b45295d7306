//! How long is each emulated lane, what of it is ordered, and how long did that take? Cuts are held against what
//! was reported.

use crate::checks::Checks;
use hdrhistogram::Histogram;
use std::collections::VecDeque;
use zoolog_core::cut::Cut;
use zoolog_core::view::View;
use zoolog_core::wire::ShardReport;
use zoolog_core::{CutNumber, Gsn, LaneId, ShardId};

const NUMBER: &str = "cuts come by number, none missing, each based on the tail";
const LENGTH: &str = "a lane grows from what was committed, up to what was reported at most";

/// Records of one lane that were reported together.
#[derive(Clone, Copy, Debug)]
struct Grown {
    /// Length of the lane with them.
    to: u64,
    intended_ns: u64,
    sent_ns: u64,
}

#[derive(Debug)]
struct Lane {
    id: LaneId,
    reported: u64,
    committed: u64,
    waiting: VecDeque<Grown>,
}

/// One run of records that a cut ordered, all reported together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ordered {
    /// When they were meant to be reported.
    pub intended_ns: u64,
    /// When they were.
    pub sent_ns: u64,
    /// How many.
    pub records: u64,
}

/// All lanes, shard by shard.
#[derive(Debug)]
pub struct Lanes {
    lanes: Vec<Lane>,
    replicas: usize,
    /// Place of each shard, by its id.
    places: Vec<Option<usize>>,
    /// Newest cut with records of each shard.
    parts: Vec<CutNumber>,
    last: CutNumber,
    tail: Gsn,
    next: usize,
    /// What was found wrong, and how often it was looked at.
    pub checks: Checks,
    made: u64,
}

impl Lanes {
    /// The lanes of `view`, of which `lens` are committed, as of the cut `last`.
    pub fn new(view: &View, lens: impl Fn(LaneId) -> u64, last: CutNumber, tail: Gsn) -> Self {
        let mut places = Vec::new();
        let mut lanes = Vec::new();
        for (place, shard) in view.shards.iter().enumerate() {
            let id = shard.id.0 as usize;
            places.resize(places.len().max(id + 1), None);
            places[id] = Some(place);
            lanes.extend(shard.lanes().map(|lane| {
                let len = lens(lane);
                Lane { id: lane, reported: len, committed: len, waiting: VecDeque::new() }
            }));
        }
        let replicas = view.shards.first().map_or(1, |s| s.replicas.len());
        let parts = vec![last; view.shards.len()];
        Self { lanes, replicas, places, parts, last, tail, next: 0, checks: Checks::default(), made: 0 }
    }

    /// Lets the next `changed` lanes grow by `records` each; the places of their shards, ascending within a turn
    /// around all lanes, none twice.
    pub fn grow(
        &mut self,
        changed: usize,
        records: u64,
        intended_ns: u64,
        sent_ns: u64,
        shards: &mut Vec<usize>,
    ) {
        shards.clear();
        for _ in 0..changed.min(self.lanes.len()) {
            let at = self.next;
            self.next = (at + 1) % self.lanes.len();
            let lane = &mut self.lanes[at];
            lane.reported += records;
            lane.waiting.push_back(Grown { to: lane.reported, intended_ns, sent_ns });
            let shard = at / self.replicas;
            if shards.last() != Some(&shard) && shards.first() != Some(&shard) {
                shards.push(shard);
            }
        }
    }

    /// Brings a replica's report of the shard at `place` up to date.
    pub fn fill(&self, place: usize, report: &mut ShardReport) {
        let lanes = &self.lanes[place * self.replicas..(place + 1) * self.replicas];
        for ((accepted, durable), lane) in report.accepted.iter_mut().zip(&mut report.durable).zip(lanes) {
            (*accepted, *durable) = (lane.reported, lane.reported);
        }
        report.part = self.parts[place];
    }

    /// Place of a shard.
    pub fn place(&self, shard: ShardId) -> Option<usize> {
        self.places.get(shard.0 as usize).copied().flatten()
    }

    /// Whether all that was reported is ordered.
    pub fn is_settled(&self) -> bool {
        self.lanes.iter().all(|l| l.committed == l.reported)
    }

    /// Takes a cut; tells what it orders, run by run. Returns when the oldest of it was reported.
    pub fn cut(&mut self, cut: &Cut, mut ordered: impl FnMut(Ordered)) -> Option<u64> {
        self.made += 1;
        if cut.number != self.last.next() || cut.base != self.tail {
            let (last, tail) = (self.last, self.tail);
            self.checks
                .fail(NUMBER, || format!("cut {} at {} after {last} and {tail}", cut.number, cut.base));
        }
        (self.last, self.tail) = (cut.number, cut.end());
        let mut oldest = None;
        // Lanes that were reported together come out together: one run for all of them.
        let mut run: Option<Ordered> = None;
        for grown in &cut.lanes {
            let Some(place) = self.place(grown.lane.shard()) else {
                self.checks
                    .fail(LENGTH, || format!("cut {} has lane {} of no shard", cut.number, grown.lane));
                continue;
            };
            self.parts[place] = cut.number;
            let lane = &mut self.lanes[place * self.replicas + usize::from(grown.lane.index())];
            if lane.committed != grown.from || grown.to > lane.reported {
                let Lane { id, committed, reported, .. } = lane;
                self.checks.fail(LENGTH, || {
                    format!("cut {}: {grown:?}, lane {id} has {committed} of {reported}", cut.number)
                });
            }
            while let Some(front) = lane.waiting.front().copied().filter(|g| g.to <= grown.to) {
                lane.waiting.pop_front();
                let records = front.to.saturating_sub(lane.committed);
                lane.committed = front.to;
                oldest = Some(oldest.map_or(front.sent_ns, |ns: u64| ns.min(front.sent_ns)));
                match &mut run {
                    Some(r) if (r.intended_ns, r.sent_ns) == (front.intended_ns, front.sent_ns) => {
                        r.records += records;
                    }
                    _ => {
                        let Grown { intended_ns, sent_ns, .. } = front;
                        run.replace(Ordered { intended_ns, sent_ns, records })
                            .into_iter()
                            .for_each(&mut ordered);
                    }
                }
            }
            lane.committed = grown.to;
        }
        run.into_iter().for_each(ordered);
        oldest
    }

    /// All that was checked.
    pub fn finish(mut self) -> Checks {
        [NUMBER, LENGTH].into_iter().for_each(|check| self.checks.pass(check, self.made));
        self.checks
    }
}

/// What cuts cost and how long they took, over the measured window.
#[derive(Debug)]
pub struct Cuts {
    /// How many.
    pub count: u64,
    /// Bytes of their frames.
    pub bytes: u64,
    /// Lanes they listed.
    pub lanes: u64,
    /// Nanoseconds from the oldest report that a cut covers to its arrival.
    pub latency: Histogram<u64>,
}

impl Default for Cuts {
    fn default() -> Self {
        let latency = Histogram::new_with_bounds(1, 600_000_000_000, 3).expect("bounds are fixed");
        Self { count: 0, bytes: 0, lanes: 0, latency }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zoolog_core::cut::CutLane;
    use zoolog_core::view::{ReplicaView, ShardState, ShardView};
    use zoolog_core::{ServerId, SlotId, ViewNumber};

    fn view(shards: u32) -> View {
        let replica =
            |server| ReplicaView { slot: SlotId { server: ServerId(server), index: 0 }, addr: String::new() };
        let shard = |id| ShardView {
            id: ShardId(id),
            replicas: vec![replica(0), replica(1)],
            state: ShardState::Live,
            rebuild: None,
        };
        View { number: ViewNumber(1), shards: (1..=shards).map(shard).collect() }
    }

    fn lanes() -> Lanes {
        Lanes::new(&view(3), |_| 0, CutNumber(0), Gsn(0))
    }

    fn cut(number: u64, base: u64, lanes: &[(u32, u8, u64, u64)]) -> Cut {
        let lane = |&(shard, index, from, to): &(u32, u8, u64, u64)| CutLane {
            lane: LaneId::new(ShardId(shard), index),
            from,
            to,
        };
        Cut {
            number: CutNumber(number),
            base: Gsn(base),
            view: ViewNumber(1),
            lanes: lanes.iter().map(lane).collect(),
        }
    }

    #[test]
    fn lanes_grow_in_turn_and_their_shards_are_reported_once() {
        let (mut l, mut shards) = (lanes(), Vec::new());
        l.grow(3, 10, 0, 0, &mut shards);
        assert_eq!(shards, [0, 1]);
        l.grow(3, 10, 0, 0, &mut shards);
        assert_eq!(shards, [1, 2]);
        l.grow(99, 10, 0, 0, &mut shards);
        assert_eq!(shards, [0, 1, 2], "all, and none twice");
        let mut report = ShardReport {
            shard: ShardId(1),
            accepted: vec![0; 2],
            durable: vec![0; 2],
            part: CutNumber(0),
            serving: true,
        };
        l.fill(0, &mut report);
        assert_eq!((report.durable, report.accepted), (vec![20, 20], vec![20, 20]));
    }

    #[test]
    fn what_a_cut_orders_is_told_by_when_it_was_reported() {
        let (mut l, mut shards) = (lanes(), Vec::new());
        l.grow(6, 10, 100, 110, &mut shards);
        l.grow(6, 10, 200, 210, &mut shards);
        let mut runs = Vec::new();
        let oldest = l.cut(&cut(1, 0, &[(1, 0, 0, 10), (1, 1, 0, 10), (2, 0, 0, 20)]), |o| runs.push(o));
        let run = |intended_ns, sent_ns, records| Ordered { intended_ns, sent_ns, records };
        assert_eq!((oldest, &runs[..]), (Some(110), &[run(100, 110, 30), run(200, 210, 10)][..]));
        assert!(!l.is_settled());
        l.cut(
            &cut(2, 40, &[(1, 0, 10, 20), (1, 1, 10, 20), (2, 1, 0, 20), (3, 0, 0, 20), (3, 1, 0, 20)]),
            |_| {},
        );
        assert!(l.is_settled());
        assert_eq!(l.parts, [CutNumber(2); 3]);
        assert!(!l.finish().any_failed());
    }

    #[test]
    fn wrong_cuts_are_caught() {
        for (wrong, check) in [
            (cut(2, 0, &[(1, 0, 0, 10)]), NUMBER),
            (cut(1, 5, &[(1, 0, 0, 10)]), NUMBER),
            (cut(1, 0, &[(1, 0, 5, 10)]), LENGTH),
            (cut(1, 0, &[(1, 0, 0, 11)]), LENGTH),
            (cut(1, 0, &[(9, 0, 0, 10)]), LENGTH),
        ] {
            let mut l = lanes();
            l.grow(6, 10, 0, 0, &mut Vec::new());
            l.cut(&wrong, |_| {});
            assert!(l.finish().failed.contains_key(check), "{wrong:?}");
        }
    }
}
