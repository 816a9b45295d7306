//! How many bytes lie behind a GSN? What slots say of the lanes they are primary of, added up: soft state of the
//! leader. What nobody has said yet counts nothing, so it errs towards keeping: a new leader trims nothing by bytes
//! before the slots have spoken.

use super::State;
use std::collections::BTreeMap;
use zoolog_core::wire::LaneHeld;
use zoolog_core::{Gsn, LaneId, SlotId};

/// Points that a slot may name per lane.
pub(crate) const POINTS_MAX: usize = 64;
/// No honest lane is longer.
const BYTES_MAX: u64 = 1 << 56;

/// What was said, by lane.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sizes {
    lanes: BTreeMap<LaneId, Vec<(Gsn, u64)>>,
}

impl Sizes {
    /// Takes what a slot says of some lanes.
    ///
    /// # Errors
    /// When it makes no sense, or there never was such a shard.
    pub fn take(&mut self, state: &State, slot: SlotId, lanes: Vec<LaneHeld>) -> Result<(), String> {
        for LaneHeld { lane, from } in lanes {
            let shard = state.view().shard(lane.shard());
            let unknown = shard
                .map_or(lane.shard() >= state.next_shard, |s| s.replicas.len() <= usize::from(lane.index()));
            if unknown {
                return Err(format!("slot {slot} says how much lane {lane} holds, which there is not"));
            }
            // Its shard has left the view, or another has taken its place: it has yet to hear of that.
            if shard.is_none_or(|s| s.replica_in(slot).is_none()) {
                continue;
            }
            let sane = from.len() <= POINTS_MAX && from.iter().all(|(_, bytes)| *bytes < BYTES_MAX);
            if !sane || !from.is_sorted_by(|a, b| a.0 < b.0 && a.1 >= b.1) {
                return Err(format!("slot {slot}: what lane {lane} holds does not shrink towards its end"));
            }
            self.lanes.insert(lane, from);
        }
        Ok(())
    }

    /// Forgets lanes that are in no shard any more.
    pub fn follow(&mut self, state: &State) {
        self.lanes.retain(|lane, _| state.view().shard(lane.shard()).is_some());
    }

    /// Bytes at or past `gsn`, or fewer.
    pub fn behind(&self, gsn: Gsn) -> u64 {
        let of = |from: &Vec<(Gsn, u64)>| from.get(from.partition_point(|p| p.0 < gsn)).map_or(0, |p| p.1);
        self.lanes.values().map(of).sum()
    }

    /// The greatest known GSN at or past which there are `bytes`, at least; 0 if there are none such.
    pub fn point(&self, bytes: u64) -> Gsn {
        // From the end of the log towards its beginning, each point adds what its lane has up to the next one.
        let lanes = self.lanes.values();
        let steps = lanes.flat_map(|from| {
            let next = from.iter().skip(1).map(|p| p.1).chain([0]);
            from.iter().zip(next).map(|(&(gsn, bytes), next)| (gsn, bytes - next))
        });
        let mut steps: Vec<(Gsn, u64)> = steps.collect();
        steps.sort_unstable_by(|a, b| b.cmp(a));
        let mut sum = 0;
        for (gsn, more) in steps {
            sum += more;
            if sum >= bytes {
                return gsn;
            }
        }
        Gsn(0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{formed, slot};
    use super::*;
    use proptest::prelude::*;
    use zoolog_core::ShardId;

    #[test]
    fn what_makes_no_sense_is_refused() {
        let (s, mut sizes) = (formed(3, 1, 2), Sizes::default());
        let shard = &s.view().shards[0];
        let (here, there) =
            (shard.replicas[0].slot, (0..3).map(slot).find(|s| shard.replica_in(*s).is_none()).unwrap());
        let lane = |n, i| LaneId::new(ShardId(n), i);
        let mut say = |slot, lane, from: &[(u64, u64)]| {
            let from = from.iter().map(|(g, b)| (Gsn(*g), *b)).collect();
            sizes.take(&s, slot, vec![LaneHeld { lane, from }])
        };
        assert!(say(here, lane(1, 0), &[(1, 50), (7, 40)]).is_ok());
        assert!(
            say(there, lane(1, 0), &[(1, 90), (7, 80)]).is_ok(),
            "another has its place, which it has yet to hear"
        );
        assert!(say(here, lane(9, 0), &[]).is_err() && say(here, lane(1, 2), &[]).is_err(), "no such lane");
        assert!(
            say(here, lane(1, 0), &[(7, 40), (7, 40)]).is_err()
                && say(here, lane(1, 0), &[(1, 4), (2, 5)]).is_err()
        );
        assert!(say(here, lane(1, 0), &[(1, u64::MAX)]).is_err());
        assert!(say(here, lane(1, 0), &(0..65).map(|i| (i, 100 - i)).collect::<Vec<_>>()).is_err());
        assert_eq!(sizes.behind(Gsn(2)), 40);
    }

    proptest! {
        /// A point that is given has at least that many bytes behind it, and no later point that is known has.
        #[test]
        fn a_point_has_the_bytes_behind_it(
            lanes in prop::collection::vec(prop::collection::vec((1u64..20, 1u64..1000), 0..12), 0..5), wanted in 1u64..8000,
        ) {
            let mut sizes = Sizes::default();
            for (i, steps) in lanes.iter().enumerate() {
                let (mut gsn, mut left, mut from) = (0, steps.iter().map(|s| s.1).sum::<u64>(), Vec::new());
                for (apart, bytes) in steps {
                    gsn += apart;
                    from.push((Gsn(gsn), left));
                    left -= bytes;
                }
                sizes.lanes.insert(LaneId::new(ShardId(i as u32), 0), from);
            }
            let point = sizes.point(wanted);
            prop_assert!(point == Gsn(0) || sizes.behind(point) >= wanted);
            let later = sizes.lanes.values().flatten().map(|p| p.0).filter(|g| *g > point);
            for gsn in later {
                prop_assert!(sizes.behind(gsn) < wanted);
            }
        }
    }
}
