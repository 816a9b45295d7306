//! Which of a shard's parts are missing here? Parts hang on each other by their numbers: where a cut mark was lost,
//! those behind it are put aside until what belongs between is here again, since without it they would give their
//! records wrong GSNs.

use crate::marks::low;
use std::collections::BTreeMap;
use zoolog_core::CutNumber;
use zoolog_core::cut::{CutError, ShardHistory, ShardPart};

/// What is known of parts that are missing.
#[derive(Debug, Default)]
pub(crate) struct Gap {
    /// Parts whose predecessor is missing, each with the low half of that one's number.
    orphans: BTreeMap<CutNumber, (u32, ShardPart)>,
    /// The newest part that was known here once, or that others say to have.
    until: CutNumber,
}

impl Gap {
    /// The part of cut `number` was known here once.
    pub fn expect(&mut self, number: CutNumber) {
        self.until = self.until.max(number);
    }

    /// Puts a part aside.
    pub fn put(&mut self, before: u32, part: ShardPart) {
        self.expect(part.number);
        self.orphans.insert(part.number, (before, part));
    }

    /// The newest part that must be here.
    pub fn until(&self) -> CutNumber {
        self.until
    }

    /// Whether something is missing behind `history`.
    pub fn is_open(&self, history: &ShardHistory) -> bool {
        history.number() < self.until
    }

    /// Adds the parts that hang on the history's newest one by now; the cuts of those.
    ///
    /// # Errors
    /// When they contradict what came between.
    pub fn rejoin(&mut self, history: &mut ShardHistory) -> Result<Vec<CutNumber>, CutError> {
        let mut joined = Vec::new();
        while let Some((&number, (before, part))) = self.orphans.first_key_value() {
            if number <= history.number() {
                let (known, given) = (history.parts().iter().find(|p| p.number == number), part);
                if known.is_some_and(|k| k != given) {
                    return Err(CutError::Contradiction { number, what: "another part of the same cut" });
                }
            } else if *before == low(history.number()) {
                history.push(part.clone())?;
                joined.push(number);
            } else {
                break;
            }
            self.orphans.pop_first();
        }
        Ok(joined)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zoolog_core::Gsn;

    fn part(number: u64) -> ShardPart {
        ShardPart { number: CutNumber(number), base: Gsn(1000 * number), lens: vec![number, 2 * number] }
    }

    proptest! {
        /// Whatever marks are lost, and in whatever order they come back, no part is ever behind another than its own
        /// predecessor, and once all are back the history is whole.
        #[test]
        fn parts_join_only_behind_their_own_predecessor(
            numbers in prop::collection::btree_set(1u64..60, 2..20), lost in prop::collection::vec(any::<bool>(), 20),
        ) {
            let all: Vec<u64> = numbers.into_iter().collect();
            let (mut history, mut gap) = (ShardHistory::default(), Gap::default());
            let before = |i: usize| i.checked_sub(1).map_or(0, |p| all[p]);
            let mut missing = Vec::new();
            for (i, &number) in all.iter().enumerate() {
                gap.expect(CutNumber(number));
                if lost[i] {
                    missing.push(number);
                } else if history.number().0 == before(i) {
                    history.push(part(number)).unwrap();
                } else {
                    gap.put(before(i) as u32, part(number));
                }
            }
            let last = *all.last().unwrap();
            prop_assert_eq!(gap.is_open(&history), history.number().0 < last);
            for number in missing {
                prop_assert!(history.number().0 < number);
                history.push(part(number)).unwrap();
                gap.rejoin(&mut history).unwrap();
                let held: Vec<u64> = history.parts().iter().map(|p| p.number.0).collect();
                prop_assert_eq!(&held[..], &all[..held.len()], "a part is skipped");
            }
            gap.rejoin(&mut history).unwrap();
            prop_assert!(!gap.is_open(&history));
        }
    }

    #[test]
    fn another_part_of_the_same_cut_is_a_contradiction() {
        let (mut history, mut gap) = (ShardHistory::default(), Gap::default());
        gap.put(1, ShardPart { base: Gsn(2001), ..part(2) });
        history.push(part(1)).unwrap();
        history.push(part(2)).unwrap();
        assert!(matches!(gap.rejoin(&mut history), Err(CutError::Contradiction { .. })));
    }
}
