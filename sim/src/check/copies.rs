//! LOG-9: does a copy take the place of a lost one only when it is whole? It was in the making in the view before, and
//! its slot has said in a report that all of the shard is durable there. Until then the replicas stay who they were.

use super::{Verdict, promise};
use std::collections::{BTreeMap, BTreeSet};
use zoolog_core::view::{ShardState, View};
use zoolog_core::wire::Report;
use zoolog_core::{ShardId, SlotId, ViewNumber};

/// Copies that were in the making: of which replica, where.
type Makers = BTreeSet<(u8, SlotId)>;

/// All that was said about copies.
#[derive(Debug, Default)]
pub struct Copies {
    newest: ViewNumber,
    /// The replicas of each finalized shard, and the copies that any view had in the making since they were those.
    known: BTreeMap<ShardId, (Vec<SlotId>, Makers)>,
    /// Whole copies, as their slots said.
    whole: BTreeSet<(ShardId, SlotId)>,
    /// Final lengths.
    lens: BTreeMap<ShardId, Vec<u64>>,
    begun: u64,
    finished: u64,
}

impl Copies {
    /// A node states a view. Views come in any order; what they say is compared with the newest before.
    pub fn stated(&mut self, view: &View) -> Verdict {
        if view.number <= self.newest {
            return Ok(());
        }
        // Views between were not seen: a copy may have begun, counted, and another begun.
        let skipped = self.newest != ViewNumber(0) && view.number != self.newest.next();
        self.newest = view.number;
        for shard in &view.shards {
            let ShardState::Finalized(end) = &shard.state else { continue };
            self.lens.insert(shard.id, end.lens.clone());
            let slots: Vec<SlotId> = shard.replicas.iter().map(|r| r.slot).collect();
            let (before, makers) =
                self.known.entry(shard.id).or_insert_with(|| (slots.clone(), BTreeSet::new()));
            for (i, (old, new)) in before.iter().zip(&slots).enumerate().filter(|(_, (o, n))| o != n) {
                self.finished += 1;
                promise!(
                    "LOG-9",
                    skipped || makers.contains(&(i as u8, *new)),
                    "view {}: {new} takes the place of {old} in shard {}, and made no copy",
                    view.number,
                    shard.id
                );
                promise!(
                    "LOG-9",
                    self.whole.contains(&(shard.id, *new)),
                    "view {}: {new} takes the place of {old} in shard {}, and never said that it has all of it",
                    view.number,
                    shard.id
                );
            }
            if *before != slots {
                (*before, *makers) = (slots, BTreeSet::new());
            }
            if let Some(r) = &shard.rebuild
                && makers.insert((r.index, r.to.slot))
            {
                self.begun += 1;
                // What it may have said of an older copy counts no more: that was given up.
                self.whole.remove(&(shard.id, r.to.slot));
            }
        }
        Ok(())
    }

    /// Whether reports are of interest.
    pub fn is_any_begun(&self) -> bool {
        self.begun > 0
    }

    /// A slot says what it holds.
    pub fn reported(&mut self, report: &Report) {
        for r in &report.shards {
            if self.lens.get(&r.shard) == Some(&r.durable) {
                self.whole.insert((r.shard, report.slot));
            }
        }
    }

    /// Copies that were begun, and those that took a place.
    pub fn counts(&self) -> (u64, u64) {
        (self.begun, self.finished)
    }
}
