//! What does a proposed cut become? Number, base and clipping are computed here, when it is applied.

use super::{Applied, GSN_MAX, ProposedCut, State};
use zoolog_core::cut::{Cut, CutLane};
use zoolog_core::view::ShardState;
use zoolog_core::{Gsn, LaneId, ShardId};

impl State {
    pub(super) fn cut(&mut self, proposed: ProposedCut) -> Applied {
        let ProposedCut { mut lanes, known } = proposed;
        let mut at = 0;
        for (shard, number) in known {
            if let Some(i) = self.position(&mut at, shard) {
                self.parts[i].forget(number.min(self.number));
            }
        }
        // A leader lists lanes in order, each once. What anything else lists comes to the same.
        if !lanes.is_sorted_by(|a, b| a.0 < b.0) {
            lanes.sort_unstable();
        }
        let lanes = self.grown(&lanes);
        if lanes.is_empty() {
            return Applied::Nothing("a cut that adds nothing");
        }
        // Summed in 128 bits: a slot's lengths are foreign numbers, up to the largest there are.
        let added: u128 = lanes.iter().map(|l| u128::from(l.to - l.from)).sum();
        if u128::from(self.tail.0) + added > u128::from(GSN_MAX) {
            return Applied::Nothing("a cut beyond the last GSN");
        }
        let cut = Cut { number: self.number.next(), base: self.tail, view: self.view.number, lanes };
        self.grow(&cut);
        Applied::Cut(cut)
    }

    /// What of proposed lengths, which ascend, is new: of lanes that exist, of shards that take appends and have
    /// room for one more part.
    fn grown(&self, proposed: &[(LaneId, u64)]) -> Vec<CutLane> {
        let mut lanes: Vec<CutLane> = Vec::with_capacity(proposed.len());
        let (mut at, room) = (0, self.room());
        let mut of: Option<(ShardId, Option<&[u64]>)> = None;
        for &(lane, to) in proposed {
            let shard = lane.shard();
            if of.is_none_or(|(last, _)| last != shard) {
                let takes = |i: &usize| {
                    self.view.shards[*i].state == ShardState::Live && self.parts[*i].kept() < room
                };
                let i = self.position(&mut at, shard).filter(takes);
                of = Some((shard, i.map(|i| &self.parts[i].lens[..])));
            }
            let from = of.and_then(|(_, lens)| lens?.get(usize::from(lane.index())).copied());
            let Some(from) = from.filter(|from| to > *from) else { continue };
            match lanes.last_mut() {
                Some(last) if last.lane == lane => last.to = to,
                _ => lanes.push(CutLane { lane, from, to }),
            }
        }
        lanes
    }

    /// Takes the cut over: lengths, parts, number and tail.
    fn grow(&mut self, cut: &Cut) {
        let (mut at, mut next) = (0, cut.base);
        for shard in cut.lanes.chunk_by(|a, b| a.lane.shard() == b.lane.shard()) {
            let i = self.position(&mut at, shard[0].lane.shard()).expect("a shard that was found before");
            let (parts, base) = (&mut self.parts[i], next);
            for l in shard {
                let len = &mut parts.lens[usize::from(l.lane.index())];
                assert!(*len == l.from && l.from < l.to, "our own cut: {l:?}, its length is {len}");
                *len = l.to;
                next = Gsn(next.0 + (l.to - l.from));
            }
            parts.keep(cut.number, base, next);
        }
        (self.number, self.tail) = (cut.number, next);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::formed;
    use super::super::{Command, FormView, PARTS_MAX};
    use super::*;
    use proptest::prelude::*;
    use zoolog_core::{CutNumber, ViewNumber};

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
                        let len = s.lens(run.lane.shard())[usize::from(run.lane.index())];
                        prop_assert_eq!(len, run.first_lsn.0 + run.count);
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
        let form = FormView { expected: ViewNumber(0), finalize: vec![], shards: vec![] };
        assert!(matches!(s.apply(&Command::FormView(form).encode()), Applied::Nothing(_)));
        assert_eq!(s.view.number, ViewNumber(1));
    }
}
