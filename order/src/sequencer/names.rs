//! Who writes under a name? Names, the newest opening of each, and the lane it uses.

use super::{Applied, State, is_name};
use zoolog_core::batch::EPOCHS_MAX;
use zoolog_core::view::ShardState;
use zoolog_core::wire::WriterRefused;
use zoolog_core::{Epoch, Gsn, LaneId, WriterId};

/// Names that may ever be opened; more are refused.
pub const NAMES_MAX: usize = 1 << 14;

/// What is known of a name.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Named {
    /// Who writes under it, in all its openings.
    pub writer: WriterId,
    /// The newest opening.
    pub epoch: Epoch,
    /// The lane that an opening claimed last.
    pub lane: Option<LaneId>,
    /// One past its last record, as the opening that claimed the lane said.
    pub tail: Gsn,
}

/// What became of a request about a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameIs {
    /// It is as wanted. For an opening, lane and tail are those of the one before.
    Given(Named),
    /// It is refused.
    Refused(WriterRefused),
}

impl State {
    /// A new opening of a name. Whoever had it gets no lane any more.
    pub(super) fn open_writer(&mut self, name: String) -> Applied {
        if !is_name(&name) {
            return Applied::Name(NameIs::Refused(WriterRefused::Invalid));
        }
        if let Some(known) = self.names.get_mut(&name) {
            if known.epoch.0 + 1 >= EPOCHS_MAX {
                return Applied::Name(NameIs::Refused(WriterRefused::Invalid));
            }
            known.epoch = Epoch(known.epoch.0 + 1);
            return Applied::Name(NameIs::Given(known.clone()));
        }
        if self.names.len() >= NAMES_MAX {
            return Applied::Name(NameIs::Refused(WriterRefused::TooMany));
        }
        // No name ever goes, so their number is one that no other has: nor has one of a log before this one, all of whose
        // records lie before this one's first.
        let before = self.succession.first_gsn().0 << NAMES_MAX.ilog2();
        let writer = WriterId::named(before | self.names.len() as u64);
        let new = Named { writer, epoch: Epoch(1), lane: None, tail: Gsn(0) };
        self.names.insert(name, new.clone());
        Applied::Name(NameIs::Given(new))
    }

    /// An opening is about to use a lane.
    pub(super) fn claim_lane(&mut self, name: &str, epoch: Epoch, lane: LaneId, tail: Gsn) -> Applied {
        let shard = self.view.shard(lane.shard());
        let open = shard
            .is_some_and(|s| s.state == ShardState::Live && usize::from(lane.index()) < s.replicas.len());
        let order = self.tail;
        Applied::Name(match self.names.get_mut(name) {
            Some(known) if known.epoch > epoch => NameIs::Refused(WriterRefused::Fenced),
            Some(known) if known.epoch == epoch && open => {
                (known.lane, known.tail) = (Some(lane), tail.min(order).max(known.tail));
                NameIs::Given(known.clone())
            }
            _ => NameIs::Refused(WriterRefused::Invalid),
        })
    }

    /// Every name that was ever opened.
    pub fn names(&self) -> impl Iterator<Item = (&str, &Named)> + '_ {
        self.names.iter().map(|(name, n)| (name.as_str(), n))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{formed, slot};
    use super::super::{Command, FormView};
    use super::*;
    use zoolog_core::{ClusterId, ShardId};

    fn open(s: &mut State, name: &str) -> NameIs {
        match s.apply(&Command::OpenWriter(name.into()).encode()) {
            Applied::Name(n) => n,
            other => panic!("{other:?}"),
        }
    }

    fn claim(s: &mut State, epoch: u32, shard: u32) -> NameIs {
        let lane = LaneId::new(ShardId(shard), 1);
        let (name, epoch, tail) = ("a".into(), Epoch(epoch), Gsn(99));
        match s.apply(&Command::ClaimLane { name, epoch, lane, tail }.encode()) {
            Applied::Name(n) => n,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_opening_learns_the_lane_of_the_one_before_and_ends_its_claims() {
        let mut s = formed(3, 3, 2);
        let NameIs::Given(first) = open(&mut s, "a") else { panic!() };
        assert_eq!((first.epoch, first.lane), (Epoch(1), None));
        let NameIs::Given(other) = open(&mut s, "b") else { panic!() };
        assert_ne!(other.writer, first.writer);
        assert_eq!(claim(&mut s, 2, 1), NameIs::Refused(WriterRefused::Invalid), "an opening to come");
        assert!(matches!(claim(&mut s, 1, 1), NameIs::Given(_)));
        let NameIs::Given(second) = open(&mut s, "a") else { panic!() };
        assert_eq!((second.writer, second.epoch), (first.writer, Epoch(2)));
        assert_eq!(second.lane, Some(LaneId::new(ShardId(1), 1)));
        assert_eq!(second.tail, Gsn(0), "no tail beyond the order's");
        assert_eq!(claim(&mut s, 1, 2), NameIs::Refused(WriterRefused::Fenced));
        assert_eq!(State::decode(ClusterId(5), &s.encode()).unwrap(), s);
    }

    #[test]
    fn only_lanes_that_take_appends_are_given_and_only_names_that_are_some() {
        let mut s = formed(3, 3, 2);
        assert_eq!(open(&mut s, ""), NameIs::Refused(WriterRefused::Invalid));
        open(&mut s, "a");
        assert_eq!(claim(&mut s, 1, 9), NameIs::Refused(WriterRefused::Invalid));
        let form =
            FormView { expected: s.view.number, finalize: vec![ShardId(1)], shards: vec![vec![slot(0)]] };
        s.apply(&Command::FormView(form).encode());
        assert_eq!(claim(&mut s, 1, 1), NameIs::Refused(WriterRefused::Invalid));
        assert_eq!(claim(&mut s, 1, 4), NameIs::Refused(WriterRefused::Invalid), "it has one lane");
        assert!(matches!(claim(&mut s, 1, 2), NameIs::Given(_)));
    }
}
