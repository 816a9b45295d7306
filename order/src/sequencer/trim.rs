//! What may be forgotten? The consumers and what each still needs, and the trim point that follows from them.

use super::{Applied, CONSUMERS_MAX, State};
use zoolog_core::Gsn;
use zoolog_core::limits::CONSUMER_NAME_BYTES_MAX;
use zoolog_core::wire::TrimEnd;

/// A consumer, and what it says it still needs.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ConsumerAt {
    /// Its name.
    pub name: String,
    /// First GSN it needs.
    pub upto: Gsn,
}

/// Whether a consumer may be called so.
pub(crate) fn is_name(name: &str) -> bool {
    (1..=CONSUMER_NAME_BYTES_MAX).contains(&name.len())
}

impl State {
    /// Registers consumers, or moves them on. One that is new starts at the trim point at least: what lies before
    /// it is gone. None moves back, and none beyond the tail.
    pub(super) fn move_consumers(&mut self, list: Vec<ConsumerAt>) -> Applied {
        let tail = self.tail;
        for ConsumerAt { name, upto } in list {
            let room = self.consumers.len() < CONSUMERS_MAX || self.consumers.contains_key(&name);
            if !room || !is_name(&name) {
                continue; // whoever asked sees that it isn't there
            }
            self.retention.absent_ms.remove(&name);
            let at = self.consumers.entry(name).or_insert(self.trim);
            *at = upto.min(tail).max(*at);
        }
        self.advance_trim()
    }

    /// Takes a consumer off the list: it holds nothing back any more.
    pub(super) fn forget_consumer(&mut self, name: &str) -> Applied {
        self.retention.absent_ms.remove(name);
        if self.consumers.remove(name).is_none() {
            return Applied::Nothing("a consumer that is not there");
        }
        self.advance_trim()
    }

    /// Somebody asks to forget everything before `gsn`: all of it, or nothing. Retention is no reason to refuse, it
    /// is for what happens by itself.
    pub(super) fn trim_by_hand(&mut self, gsn: Gsn) -> Applied {
        if gsn > self.tail {
            return Applied::NotTrimmed(TrimEnd::BeyondTail(self.tail));
        }
        if let Some((name, &at)) = self.consumers.iter().min_by_key(|(_, at)| **at)
            && at < gsn
        {
            return Applied::NotTrimmed(TrimEnd::HeldBack(name.clone(), at));
        }
        if gsn <= self.trim {
            return Applied::Nothing("it is trimmed already");
        }
        self.trim = gsn;
        Applied::Trimmed(gsn)
    }

    /// The trim point follows the slowest consumer, as far as retention allows. Without any consumer retention alone
    /// decides; without either it stays where it is: nobody has said that something isn't needed.
    pub(super) fn advance_trim(&mut self) -> Applied {
        let slowest = self.consumers.values().min().copied();
        match [slowest, self.retention.keep_from].into_iter().flatten().min() {
            Some(upto) if upto > self.trim => {
                self.trim = upto;
                Applied::Trimmed(upto)
            }
            _ => Applied::Nothing("the trim point stays"),
        }
    }

    /// First GSN that is still readable.
    pub fn trim(&self) -> Gsn {
        self.trim
    }

    /// Every consumer and its position, by name.
    pub fn consumers(&self) -> impl Iterator<Item = (&str, Gsn)> + '_ {
        self.consumers.iter().map(|(name, at)| (name.as_str(), *at))
    }

    /// Where that consumer is.
    pub fn consumer(&self, name: &str) -> Option<Gsn> {
        self.consumers.get(name).copied()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::formed;
    use super::super::{Command, ProposedCut};
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use zoolog_core::{ClusterId, LaneId, ShardId};

    pub fn grown(tail: u64) -> State {
        let mut s = formed(3, 3, 2);
        grow(&mut s, tail);
        s
    }

    pub fn grow(s: &mut State, tail: u64) {
        let cut = ProposedCut { lanes: vec![(LaneId::new(ShardId(1), 0), tail)], known: vec![] };
        s.apply(&Command::Cut(cut).encode());
    }

    pub fn report(s: &mut State, name: &str, upto: u64) -> Applied {
        let at = ConsumerAt { name: name.into(), upto: Gsn(upto) };
        s.apply(&Command::Consumers(vec![at]).encode())
    }

    fn forget(s: &mut State, name: &str) -> Applied {
        s.apply(&Command::ForgetConsumer(name.into()).encode())
    }

    #[test]
    fn the_slowest_consumer_decides_and_nobody_decides_nothing() {
        let mut s = grown(100);
        assert_eq!(s.trim(), Gsn(0));
        report(&mut s, "a", 0);
        assert_eq!(report(&mut s, "b", 60), Applied::Nothing("the trim point stays"));
        assert_eq!(report(&mut s, "a", 40), Applied::Trimmed(Gsn(40)));
        assert_eq!(forget(&mut s, "a"), Applied::Trimmed(Gsn(60)));
        forget(&mut s, "b");
        assert_eq!((s.trim(), s.consumers().count()), (Gsn(60), 0), "it stays where it was");
    }

    #[test]
    fn by_hand_all_of_it_goes_or_nothing() {
        let mut s = grown(100);
        let trim = |s: &mut State, gsn| s.apply(&Command::Trim(Gsn(gsn)).encode());
        assert_eq!(trim(&mut s, 101), Applied::NotTrimmed(TrimEnd::BeyondTail(Gsn(100))));
        assert_eq!(trim(&mut s, u64::MAX), Applied::NotTrimmed(TrimEnd::BeyondTail(Gsn(100))));
        assert_eq!(trim(&mut s, 10), Applied::Trimmed(Gsn(10)));
        report(&mut s, "a", 30);
        report(&mut s, "b", 40);
        let held = TrimEnd::HeldBack("a".into(), Gsn(30));
        assert_eq!(trim(&mut s, 31), Applied::NotTrimmed(held));
        assert_eq!(s.trim(), Gsn(30), "where the consumers have moved it to");
        assert!(
            matches!(trim(&mut s, 30), Applied::Nothing(_)) && matches!(trim(&mut s, 0), Applied::Nothing(_))
        );
        forget(&mut s, "a");
        forget(&mut s, "b");
        assert_eq!(trim(&mut s, 100), Applied::Trimmed(Gsn(100)), "up to the tail");
    }

    #[test]
    fn a_latecomer_starts_at_the_trim_point_and_one_that_returns_where_it_was() {
        let mut s = grown(100);
        report(&mut s, "a", 50);
        report(&mut s, "late", 3);
        assert_eq!((s.consumer("late"), s.trim()), (Some(Gsn(50)), Gsn(50)));
        report(&mut s, "a", 20);
        assert_eq!(s.consumer("a"), Some(Gsn(50)), "never back");
        report(&mut s, "a", 1 << 60);
        assert_eq!(s.consumer("a"), Some(Gsn(100)), "never beyond the tail");
    }

    #[test]
    fn names_and_their_number_are_bounded() {
        let mut s = grown(10);
        report(&mut s, "", 1);
        report(&mut s, &"x".repeat(65), 1);
        assert_eq!(s.consumers().count(), 0);
        for i in 0..CONSUMERS_MAX {
            report(&mut s, &format!("c{i}"), 1);
        }
        report(&mut s, "one more", 9);
        assert_eq!((s.consumers().count(), s.consumer("one more")), (CONSUMERS_MAX, None));
        report(&mut s, "c7", 9);
        assert_eq!(s.consumer("c7"), Some(Gsn(9)), "those that are there still move");
        forget(&mut s, "c3");
        report(&mut s, "one more", 9);
        assert_eq!(s.consumer("one more"), Some(Gsn(9)));
    }

    proptest! {
        /// Whatever is reported, in whatever order: trim and positions never move back, and the trim point is
        /// never beyond a consumer or the tail, except where one was forgotten.
        #[test]
        fn the_trim_point_only_grows_and_passes_no_consumer(
            steps in prop::collection::vec((0u8..5, 0u64..120, prop::bool::weighted(0.1)), 0..60),
        ) {
            let mut s = grown(100);
            let mut before: BTreeMap<String, Gsn> = BTreeMap::new();
            for (who, upto, gone) in steps {
                let (name, trim) = (format!("c{who}"), s.trim());
                if gone {
                    forget(&mut s, &name);
                    before.remove(&name);
                } else {
                    report(&mut s, &name, upto);
                }
                prop_assert!(s.trim() >= trim && s.trim() <= s.tail());
                for (name, at) in s.consumers() {
                    prop_assert!(at >= s.trim() && at <= s.tail());
                    prop_assert!(before.get(name).is_none_or(|b| *b <= at));
                }
                before = s.consumers().map(|(n, at)| (n.to_string(), at)).collect();
                prop_assert_eq!(&State::decode(ClusterId(5), &s.encode()).unwrap(), &s);
            }
        }
    }
}
