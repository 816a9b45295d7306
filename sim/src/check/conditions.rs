//! LOG-10: does a conditional batch count only if nothing but its writer's own was ordered since the tail that it expected,
//! and does everybody decide alike?

use super::total_order::TotalOrder;
use super::{Verdict, promise};
use std::collections::BTreeMap;
use zoolog_core::batch::{BatchKind, PlacedBatch};
use zoolog_core::{Gsn, Seq, WriterId};

/// Whether a batch counts, and where it lies.
type Fate = (bool, Gsn);

/// What was wanted of conditional batches, and what came of them.
#[derive(Debug, Default)]
pub struct Conditions {
    /// The tail that each expected.
    asked: BTreeMap<(WriterId, Seq), Gsn>,
    /// As its writer, or any reader, was told.
    fates: BTreeMap<(WriterId, Seq), Fate>,
}

impl Conditions {
    /// A writer hands over a conditional batch.
    pub fn asked(&mut self, writer: WriterId, seq: Seq, expected: Gsn) {
        self.asked.insert((writer, seq), expected);
    }

    /// A writer was told what came of a batch, conditional or not.
    pub fn told(&mut self, writer: WriterId, seq: Seq, holds: bool, gsn: Gsn) -> Verdict {
        if !self.asked.contains_key(&(writer, seq)) {
            promise!(
                "LOG-10",
                holds,
                "batch {seq} of {writer:x?} has no condition, and was told to have failed it"
            );
            return Ok(());
        }
        self.is(writer, seq, (holds, gsn))
    }

    /// A reader got a batch whose first record is at `first`.
    pub fn delivered(&mut self, first: Gsn, placed: &PlacedBatch) -> Verdict {
        let batch = &placed.batch;
        if !matches!(batch.kind(), BatchKind::OnlyAt(_)) {
            return Ok(());
        }
        self.is(batch.writer(), batch.seq(), (batch.holds_at(first), first))
    }

    fn is(&mut self, writer: WriterId, seq: Seq, fate: Fate) -> Verdict {
        let known = *self.fates.entry((writer, seq)).or_insert(fate);
        promise!(
            "LOG-10",
            known == fate,
            "conditional batch {seq} of {writer:x?}: {fate:?}, others were told {known:?}"
        );
        Ok(())
    }

    /// What anybody has read lies between is the writer's own.
    pub fn finally(&self, log: &TotalOrder) -> Verdict {
        for (&(writer, seq), &(holds, at)) in &self.fates {
            let Some(&expected) = self.asked.get(&(writer, seq)).filter(|_| holds) else { continue };
            let mut between = (expected.0..at.0).filter_map(|g| log.at(Gsn(g)));
            let other = between.find(|p| p.writer != writer);
            promise!(
                "LOG-10",
                expected <= at && other.is_none(),
                "batch {seq} of {writer:x?} counts at {at}, expected {expected}, between lies {other:?}"
            );
        }
        Ok(())
    }

    /// (batches that count, those that don't).
    pub fn counts(&self) -> (usize, usize) {
        let holding = self.fates.values().filter(|f| f.0).count();
        (holding, self.fates.len() - holding)
    }
}
