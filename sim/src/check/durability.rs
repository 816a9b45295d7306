//! LOG-2: is every acknowledged batch in the log, at the GSN that the acknowledgement named?

use super::total_order::TotalOrder;
use super::{Verdict, promise};
use std::collections::BTreeMap;
use zoolog_core::batch::{BatchKind, PlacedBatch};
use zoolog_core::{Gsn, Seq, WriterId};

/// All acknowledgements that any primary ever sent.
#[derive(Debug, Default)]
pub struct Durability {
    acks: BTreeMap<(WriterId, Seq), (Gsn, u32)>,
}

impl Durability {
    /// A batch was acknowledged at `first`.
    pub fn acked(&mut self, writer: WriterId, seq: Seq, first: Gsn, count: u32, log: &TotalOrder) -> Verdict {
        let before = *self.acks.entry((writer, seq)).or_insert((first, count));
        let same = before == (first, count);
        promise!(
            "LOG-2",
            same,
            "batch {seq} of {writer:x?} acked at {first} ({count}), before at {before:?}"
        );
        for index in 0..count {
            if let Some(place) = log.at(first.plus(u64::from(index))) {
                let right = (place.writer, place.seq, place.index) == (writer, seq, index);
                promise!("LOG-2", right, "batch {seq} of {writer:x?} acked at {first}, where {place:?} lies");
            }
        }
        Ok(())
    }

    /// A reader got a batch at `first`.
    pub fn delivered(&self, first: Gsn, placed: &PlacedBatch) -> Verdict {
        if placed.batch.kind() == BatchKind::Fence {
            return Ok(()); // its number may be that of a batch elsewhere
        }
        let (writer, seq) = (placed.batch.writer(), placed.batch.seq());
        let Some(&(acked, _)) = self.acks.get(&(writer, seq)) else { return Ok(()) };
        promise!("LOG-2", acked == first, "batch {seq} of {writer:x?} read at {first}, acked at {acked}");
        Ok(())
    }

    /// All is quiet: every acknowledged batch was read; of what lies before `from` as much as anybody read.
    pub fn finally(&self, log: &TotalOrder, from: Gsn) -> Verdict {
        for (&(writer, seq), &(first, count)) in &self.acks {
            for index in 0..count {
                let gsn = first.plus(u64::from(index));
                if gsn < from && log.at(gsn).is_none() {
                    continue;
                }
                let there = log.at(gsn).is_some_and(|p| (p.writer, p.seq, p.index) == (writer, seq, index));
                promise!(
                    "LOG-2",
                    there,
                    "batch {seq} of {writer:x?}, acked at {first}, is not there: {:?}",
                    log.at(gsn)
                );
            }
        }
        Ok(())
    }

    /// The newest batch of each writer that was acknowledged.
    pub fn newest(&self) -> BTreeMap<WriterId, Seq> {
        self.acks.keys().copied().collect()
    }

    /// Batches acknowledged.
    pub fn count(&self) -> usize {
        self.acks.len()
    }
}
