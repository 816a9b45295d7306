//! What becomes of a lost copy of a finalized shard? One slot at a time makes a new one, which then takes the lost
//! one's place: three steps of the view, each made for the view before it.

use super::{Applied, RebuildStep, RebuildWhat, State};
use zoolog_core::view::{Rebuild, ReplicaView, ShardState};
use zoolog_core::{ShardId, SlotId};

impl State {
    pub(super) fn rebuild(&mut self, step: RebuildStep) -> Applied {
        let RebuildStep { expected, shard, what } = step;
        if expected != self.view.number {
            return Applied::Nothing("a copy made for another view");
        }
        let Some(i) = self.position(&mut 0, shard) else {
            return Applied::Nothing("a copy of a shard that is not in the view");
        };
        let shard = &mut self.view.shards[i];
        match what {
            RebuildWhat::Begin { index, slot } => {
                let fits = usize::from(index) < shard.replicas.len()
                    && shard.state != ShardState::Live
                    && shard.replicas.iter().all(|r| r.slot.server != slot.server);
                let Some(entry) = self.slots.get(&slot).filter(|_| fits) else {
                    return Applied::Nothing("a copy where none can be");
                };
                let to = ReplicaView { slot, addr: entry.addr.clone() };
                let fresh = Some(Rebuild { index, to });
                if shard.rebuild == fresh {
                    return Applied::Nothing("a copy that is being made already");
                }
                shard.rebuild = fresh;
            }
            RebuildWhat::Cancel => {
                if shard.rebuild.take().is_none() {
                    return Applied::Nothing("no copy is being made");
                }
            }
            RebuildWhat::Finish => {
                let Some(Rebuild { index, to }) = shard.rebuild.take() else {
                    return Applied::Nothing("no copy is being made");
                };
                shard.replicas[usize::from(index)] = to;
            }
        }
        self.view.number = self.view.number.next();
        Applied::Formed { formed: Vec::new(), finalized: Vec::new() }
    }

    /// Shards of which that slot is making a copy.
    pub fn rebuilt_in(&self, slot: SlotId) -> impl Iterator<Item = ShardId> + '_ {
        self.view.shards.iter().filter(move |s| s.rebuilt_in(slot).is_some()).map(|s| s.id)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{formed, slot};
    use super::super::{Command, FormView, place_copy};
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use zoolog_core::ClusterId;

    fn step(s: &mut State, shard: u32, what: RebuildWhat) -> Applied {
        let step = RebuildStep { expected: s.view.number, shard: ShardId(shard), what };
        s.apply(&Command::Rebuild(step).encode())
    }

    fn end(s: &mut State, shard: u32) {
        let finalize = vec![ShardId(shard)];
        let form = FormView { expected: s.view.number, finalize, shards: vec![] };
        s.apply(&Command::FormView(form).encode());
    }

    /// The server that has no replica of the shard, of three.
    fn other(s: &State, shard: u32) -> SlotId {
        let held = &s.view.shard(ShardId(shard)).unwrap().replicas;
        (0..3).map(slot).find(|s| held.iter().all(|r| r.slot != *s)).unwrap()
    }

    #[test]
    fn a_copy_takes_the_place_of_the_lost_one() {
        let mut s = formed(3, 3, 2);
        end(&mut s, 1);
        let (to, stays) = (other(&s, 1), s.view.shards[0].replicas[1].clone());
        assert!(matches!(step(&mut s, 1, RebuildWhat::Begin { index: 0, slot: to }), Applied::Formed { .. }));
        let shard = s.view.shard(ShardId(1)).unwrap();
        assert_eq!(
            (shard.rebuilt_in(to), shard.replica_in(to)),
            (Some(0), None),
            "it counts for nothing yet"
        );
        assert_eq!(s.rebuilt_in(to).collect::<Vec<_>>(), [ShardId(1)]);
        assert_eq!(State::decode(ClusterId(5), &s.encode()).unwrap(), s, "a new leader knows");
        assert!(matches!(step(&mut s, 1, RebuildWhat::Finish), Applied::Formed { .. }));
        let shard = s.view.shard(ShardId(1)).unwrap();
        assert_eq!((shard.replica_in(to), &shard.replicas[1], &shard.rebuild), (Some(0), &stays, &None));
    }

    #[test]
    fn what_makes_no_sense_changes_nothing() {
        let mut s = formed(3, 3, 2);
        end(&mut s, 1);
        let (to, held) = (other(&s, 1), s.view.shards[0].replicas[1].slot);
        let begin = |index, slot| RebuildWhat::Begin { index, slot };
        for (shard, what) in [
            (2, begin(0, other(&s, 2))), // it takes appends
            (9, begin(0, to)),
            (1, begin(2, to)),
            (1, begin(0, held)),
            (1, begin(0, slot(7))),
            (1, RebuildWhat::Cancel),
            (1, RebuildWhat::Finish),
        ] {
            let before = s.clone();
            assert!(matches!(step(&mut s, shard, what), Applied::Nothing(_)), "{what:?} of {shard}");
            assert_eq!(s, before);
        }
        step(&mut s, 1, begin(0, to));
        assert!(matches!(step(&mut s, 1, begin(0, to)), Applied::Nothing(_)));
        let late = RebuildStep {
            expected: zoolog_core::ViewNumber(s.view.number.0 - 1),
            shard: ShardId(1),
            what: RebuildWhat::Finish,
        };
        assert!(matches!(s.apply(&Command::Rebuild(late).encode()), Applied::Nothing(_)), "another view");
        assert!(matches!(step(&mut s, 1, RebuildWhat::Cancel), Applied::Formed { .. }));
        assert_eq!(s.view.shards[0].rebuild, None);
    }

    #[test]
    fn a_copy_is_made_where_none_is_and_least_is() {
        let mut s = formed(4, 1, 2);
        end(&mut s, 1);
        let fit: BTreeSet<SlotId> = s.slots.keys().copied().collect();
        let shard = &s.view.shards[0];
        let free: Vec<SlotId> =
            fit.iter().copied().filter(|f| shard.replicas.iter().all(|r| r.slot != *f)).collect();
        assert_eq!(place_copy(&s.slots, &fit, &s.view, shard, 0), Some(free[0]));
        s.slots.get_mut(&free[0]).unwrap().domain = "one".into();
        let stays = s.view.shards[0].replicas[1].slot;
        s.slots.get_mut(&stays).unwrap().domain = "one".into();
        let shard = &s.view.shards[0];
        assert_eq!(place_copy(&s.slots, &fit, &s.view, shard, 0), Some(free[1]), "another domain");
        assert_eq!(place_copy(&s.slots, &fit, &s.view, shard, 1), Some(free[0]), "what is lost counts not");
        let taken: BTreeSet<SlotId> = shard.replicas.iter().map(|r| r.slot).collect();
        assert_eq!(place_copy(&s.slots, &taken, &s.view, shard, 0), None);
    }

    proptest! {
        /// ORD-5, ORD-10 (asserted after each): whatever is proposed, copies are on different servers, and none is in
        /// the making of a shard that takes appends.
        #[test]
        fn any_steps_keep_the_copies_apart(
            steps in prop::collection::vec((0u8..5, 1u32..5, 0u8..3, 0u32..5), 0..60),
        ) {
            let mut s = formed(4, 4, 2);
            for (what, shard, index, on) in steps {
                match what {
                    0 => end(&mut s, shard),
                    1 | 2 => drop(step(&mut s, shard, RebuildWhat::Begin { index, slot: slot(on) })),
                    3 => drop(step(&mut s, shard, RebuildWhat::Cancel)),
                    _ => drop(step(&mut s, shard, RebuildWhat::Finish)),
                }
                prop_assert!(s.view.shards.iter().all(|s| s.replicas.len() == 2));
                prop_assert_eq!(&State::decode(ClusterId(5), &s.encode()).unwrap(), &s);
            }
        }
    }
}
