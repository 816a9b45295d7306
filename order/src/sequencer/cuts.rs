//! What does a proposed cut become? Number, base and clipping are computed here, when it is applied.

use super::{Applied, GSN_MAX, ProposedCut, State};
use std::collections::BTreeMap;
use zoolog_core::cut::{Cut, CutLane, ShardPart};
use zoolog_core::view::ShardState;
use zoolog_core::{CutNumber, LaneId, ShardId};

impl State {
    pub(super) fn cut(&mut self, proposed: ProposedCut) -> Applied {
        for (shard, number) in proposed.known {
            self.forget(shard, number);
        }
        let mut grown: BTreeMap<LaneId, u64> = BTreeMap::new();
        for (lane, len) in proposed.lanes {
            if len > self.order.len(lane) && self.takes(lane) {
                let to = grown.entry(lane).or_insert(len);
                *to = len.max(*to);
            }
        }
        if grown.is_empty() {
            return Applied::Nothing("a cut that adds nothing");
        }
        // Summed in 128 bits: a slot's lengths are foreign numbers, up to the largest there are.
        let added: u128 = grown.iter().map(|(l, to)| u128::from(to - self.order.len(*l))).sum();
        if u128::from(self.order.tail.0) + added > u128::from(GSN_MAX) {
            return Applied::Nothing("a cut beyond the last GSN");
        }
        let lanes =
            grown.iter().map(|(&lane, &to)| CutLane { lane, from: self.order.len(lane), to }).collect();
        let cut =
            Cut { number: self.order.number.next(), base: self.order.tail, view: self.view.number, lanes };
        self.order.apply(&cut).unwrap_or_else(|e| panic!("our own cut {cut:?} doesn't follow: {e}"));
        self.keep_parts(&cut);
        Applied::Cut(cut)
    }

    /// Whether a lane may grow: it exists, its shard takes appends, and its parts find room.
    fn takes(&self, lane: LaneId) -> bool {
        let Some(shard) = self.view.shard(lane.shard()) else { return false };
        let (kept, room) = self.parts_kept(shard.id);
        shard.state == ShardState::Live && usize::from(lane.index()) < shard.replicas.len() && kept < room
    }

    fn keep_parts(&mut self, cut: &Cut) {
        let mut last: Option<ShardId> = None;
        for run in cut.runs() {
            let shard = run.lane.shard();
            // The lanes of a shard are neighbours: its first run starts its part.
            if last != Some(shard) {
                let part = ShardPart { number: cut.number, base: run.first_gsn, lens: self.lens(shard) };
                self.parts.entry(shard).or_default().parts.push_back(part);
            }
            last = Some(shard);
        }
    }

    /// Drops the parts that all replicas hold.
    fn forget(&mut self, shard: ShardId, number: CutNumber) {
        let number = number.min(self.order.number);
        if let Some(keep) = self.parts.get_mut(&shard)
            && number > keep.known
        {
            keep.known = number;
            let dropped = keep.parts.partition_point(|p| p.number <= number);
            keep.parts.drain(..dropped);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::formed;
    use super::super::{Command, FormView, PARTS_MAX};
    use super::*;
    use proptest::prelude::*;
    use zoolog_core::{Gsn, ViewNumber};

    fn lane(shard: u32, index: u8) -> LaneId {
        LaneId::new(ShardId(shard), index)
    }

    fn propose(state: &mut State, lanes: &[(LaneId, u64)], known: &[(ShardId, CutNumber)]) -> Applied {
        state.apply(&Command::Cut(ProposedCut { lanes: lanes.to_vec(), known: known.to_vec() }).encode())
    }

    /// Defect 19: positions advanced when proposed. Here a proposal that is late, repeated or mixed up
    /// leaves GSNs dense and each used once.
    #[test]
    fn a_late_or_repeated_proposal_makes_no_hole_and_no_duplicate() {
        let mut s = formed(3, 3, 2);
        let Applied::Cut(one) = propose(&mut s, &[(lane(1, 0), 5), (lane(2, 1), 2)], &[]) else { panic!() };
        assert_eq!((one.number, one.base, one.end()), (CutNumber(1), Gsn(0), Gsn(7)));
        assert!(matches!(propose(&mut s, &[(lane(1, 0), 5), (lane(2, 1), 1)], &[]), Applied::Nothing(_)));
        let Applied::Cut(two) = propose(&mut s, &[(lane(1, 0), 4), (lane(1, 1), 1), (lane(1, 1), 3)], &[])
        else {
            panic!()
        };
        assert_eq!((two.number, two.base), (CutNumber(2), Gsn(7)));
        assert_eq!(two.lanes, [CutLane { lane: lane(1, 1), from: 0, to: 3 }]);
    }

    #[test]
    fn unknown_lanes_are_dropped_and_the_rest_counts() {
        let mut s = formed(3, 3, 2);
        let Applied::Cut(cut) = propose(&mut s, &[(lane(9, 0), 5), (lane(1, 2), 5), (lane(3, 1), 1)], &[])
        else {
            panic!()
        };
        assert_eq!(cut.lanes, [CutLane { lane: lane(3, 1), from: 0, to: 1 }]);
    }

    #[test]
    fn absurd_lengths_change_nothing() {
        let mut s = formed(3, 3, 2);
        let before = s.clone();
        let absurd: Vec<_> = (1..4).flat_map(|i| [(lane(i, 0), u64::MAX), (lane(i, 1), u64::MAX)]).collect();
        assert!(matches!(
            propose(&mut s, &absurd, &[(ShardId(1), CutNumber(u64::MAX))]),
            Applied::Nothing(_)
        ));
        assert_eq!(s, before);
    }

    #[test]
    fn parts_are_kept_until_known_and_no_longer() {
        let mut s = formed(3, 3, 2);
        for i in 1..=5 {
            propose(&mut s, &[(lane(1, 0), i)], &[]);
        }
        assert_eq!(s.parts_after(ShardId(1), CutNumber(0)).unwrap().len(), 5);
        propose(&mut s, &[(lane(2, 0), 1)], &[(ShardId(1), CutNumber(3))]);
        assert_eq!(s.parts_after(ShardId(1), CutNumber(2)), None, "dropped: the asker must be damaged");
        let rest = s.parts_after(ShardId(1), CutNumber(4)).unwrap();
        assert_eq!(
            rest.iter().map(|p| (p.number, p.base, p.lens.clone())).collect::<Vec<_>>(),
            [(CutNumber(5), Gsn(4), vec![5, 0])]
        );
    }

    /// Replicas that make no part durable slow their own shard only, and nothing grows without bound.
    #[test]
    fn kept_parts_are_bounded_per_shard() {
        let mut s = formed(3, 3, 2);
        let room = PARTS_MAX / 3;
        for i in 0..room as u64 {
            assert!(matches!(propose(&mut s, &[(lane(1, 0), i + 1)], &[]), Applied::Cut(_)));
        }
        assert!(matches!(propose(&mut s, &[(lane(1, 0), room as u64 + 1)], &[]), Applied::Nothing(_)));
        assert!(matches!(propose(&mut s, &[(lane(2, 0), 1)], &[]), Applied::Cut(_)));
        let number = CutNumber(room as u64);
        let again = propose(&mut s, &[(lane(1, 0), room as u64 + 1)], &[(ShardId(1), number)]);
        assert!(matches!(again, Applied::Cut(_)));
    }

    proptest! {
        /// LOG-1: whatever is proposed, cuts are numbered and based densely, lanes only grow, and the parts
        /// of a shard are what its cuts say.
        #[test]
        fn any_proposals_make_a_dense_order(
            proposals in prop::collection::vec(
                (prop::collection::vec((0u32..5, 0u8..3, 0u64..40), 0..6), prop::collection::vec((0u32..5, 0u64..60), 0..3)),
                0..60,
            )
        ) {
            let mut s = formed(3, 3, 2);
            let (mut number, mut tail) = (CutNumber(0), Gsn(0));
            for (lanes, known) in proposals {
                let lanes: Vec<_> = lanes.into_iter().map(|(s, i, n)| (lane(s, i), n)).collect();
                let known: Vec<_> = known.into_iter().map(|(s, n)| (ShardId(s), CutNumber(n))).collect();
                if let Applied::Cut(cut) = propose(&mut s, &lanes, &known) {
                    prop_assert_eq!((cut.number, cut.base, cut.view), (number.next(), tail, ViewNumber(1)));
                    for run in cut.runs() {
                        prop_assert_eq!(s.order.len(run.lane), run.first_lsn.0 + run.count);
                    }
                    number = cut.number;
                    tail = cut.end();
                }
            }
            prop_assert_eq!((s.last_cut(), s.tail()), (number, tail));
        }

        /// Entries are foreign bytes once they are on disk: nothing in one may panic an orderer.
        #[test]
        fn garbled_entries_change_nothing(mut data in prop::collection::vec(any::<u8>(), 0..80), first in 0u8..3) {
            let mut s = formed(3, 3, 2);
            let before = s.clone();
            if let Some(b) = data.first_mut() {
                *b = first;
            }
            if Command::decode(&data).is_none() {
                prop_assert!(matches!(s.apply(&data), Applied::Nothing(_)));
                prop_assert_eq!(s, before);
            }
        }
    }

    #[test]
    fn a_view_made_for_another_view_is_refused() {
        let mut s = formed(3, 3, 2);
        let form = FormView { expected: ViewNumber(0), shards: vec![] };
        assert!(matches!(s.apply(&Command::FormView(form).encode()), Applied::Nothing(_)));
        assert_eq!(s.view.number, ViewNumber(1));
    }
}
