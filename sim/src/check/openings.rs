//! LOG-8: is the tail that the opening of a name is told one past the last record of the openings before it? Those append
//! nothing more by then, so it is so for ever. A program that takes a name and expects a tail rests on that. An opening
//! that hears it late may be told where one after it has come to: then it appends nothing itself.

use super::total_order::{Place, TotalOrder};
use super::{Verdict, promise};
use std::collections::BTreeMap;
use zoolog_core::{Epoch, Gsn, WriterId};

/// What each opening was told.
#[derive(Debug, Default)]
pub struct Openings {
    told: BTreeMap<(WriterId, Epoch), Option<Gsn>>,
}

impl Openings {
    /// An opening of a name was told its tail, when the log went to `end`; whether anything was trimmed by then.
    pub fn opened(
        &mut self,
        key: (WriterId, Epoch),
        tail: Option<Gsn>,
        log: &TotalOrder,
        (end, trimmed): (Gsn, bool),
    ) -> Verdict {
        let (writer, epoch) = key;
        let before = self.told.insert(key, tail);
        promise!(
            "LOG-8",
            before.is_none_or(|before| before == tail),
            "opening {epoch} of {writer:x?} is told {tail:?}, before {before:?}"
        );
        // One that hears it when a later one has been told, whose fence is what the replicas remember, need not be told any
        // more: nothing that it appends will count (seed 17750).
        let is_late = self.told.range((writer, Epoch(epoch.0 + 1))..).next().is_some_and(|t| t.0.0 == writer);
        let Some(tail) = tail else {
            promise!(
                "LOG-8",
                trimmed || is_late,
                "opening {epoch} of {writer:x?} isn't told its tail, all of the log is there"
            );
            return Ok(());
        };
        promise!(
            "LOG-8",
            tail <= end,
            "opening {epoch} of {writer:x?} is told {tail}, the log goes to {end}"
        );
        let last = tail.0.checked_sub(1).and_then(|last| log.at(Gsn(last)));
        promise!(
            "LOG-8",
            last.is_none_or(|p| is_of_another(p, key)),
            "opening {epoch} of {writer:x?} is told {tail}, before that lies {last:?}"
        );
        Ok(())
    }

    /// All is quiet: the log was read to its end, and from `from` on without a hole.
    pub fn finally(&self, log: &TotalOrder, from: Gsn) -> Verdict {
        // By writer and opening, one past its last record.
        let mut ends: BTreeMap<(WriterId, Epoch), Gsn> = BTreeMap::new();
        for gsn in (0..log.end().0).map(Gsn) {
            if let Some(p) = log.at(gsn).filter(|p| !p.fence) {
                ends.insert((p.writer, p.epoch), gsn.next());
            }
        }
        for (&(writer, epoch), &told) in &self.told {
            let Some(told) = told else { continue };
            let earlier = ends.range((writer, Epoch(0))..(writer, epoch)).map(|(_, end)| *end);
            let end = earlier.max().unwrap_or_default();
            let unread = end < told && told <= from;
            let last = told.0.checked_sub(1).and_then(|last| log.at(Gsn(last)));
            let is_late = end < told && last.is_some_and(|p| is_of_another(p, (writer, epoch)));
            let appends = ends.contains_key(&(writer, epoch));
            promise!(
                "LOG-8",
                end == told || unread || (is_late && !appends),
                "opening {epoch} of {writer:x?} was told {told}, those before it end at {end}"
            );
        }
        Ok(())
    }
}

/// Whether that is a record of the same name, of another opening.
fn is_of_another(p: &Place, (writer, epoch): (WriterId, Epoch)) -> bool {
    p.writer == writer && p.epoch != epoch && !p.fence
}
