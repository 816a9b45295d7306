//! How long does each stage of an append take here? What a slot measures, and when what waits was durable.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use zoolog_core::Instant;
use zoolog_core::stages::Stages;

/// A batch is placed here as the primary, until its sync is complete.
pub(crate) const PRIMARY_WAL: usize = 0;
/// A batch came from its primary, until its sync is complete.
pub(crate) const BACKUP_WAL: usize = 1;
/// A batch that its writer waits for is durable here as the primary, until its cut is applied here.
pub(crate) const ORDER: usize = 2;
/// A batch that its writer waits for is placed, until `Appended` is sent.
pub(crate) const ACK: usize = 3;

/// Durable lengths have moved, until the report that says so is offered to the orderer's socket.
pub(crate) const REPORT: usize = 4;

/// The stages of a slot.
#[derive(Debug)]
pub(crate) struct SlotStages(Stages);

impl Default for SlotStages {
    fn default() -> Self {
        Self(Stages::new(&["primary_wal", "backup_wal", "order", "ack", "report"]))
    }
}

impl Deref for SlotStages {
    type Target = Stages;

    fn deref(&self) -> &Stages {
        &self.0
    }
}

impl DerefMut for SlotStages {
    fn deref_mut(&mut self) -> &mut Stages {
        &mut self.0
    }
}

/// When which part of a lane became durable: an entry per sync that some batch still waits behind. There are no
/// more of them than batches that wait for their cut.
#[derive(Debug, Default)]
pub(crate) struct Synced(VecDeque<(u64, Instant)>);

impl Synced {
    /// The lane is durable up to `end`.
    pub fn upto(&mut self, end: u64, now: Instant) {
        match self.0.back_mut().filter(|(_, at)| *at == now) {
            Some(last) => last.0 = end,
            None => self.0.push_back((end, now)),
        }
    }

    /// When the batch that ends at `end` became durable, if that was seen. Asked in the order of the lane.
    pub fn take(&mut self, end: u64) -> Option<Instant> {
        while self.0.front().is_some_and(|(upto, _)| *upto < end) {
            self.0.pop_front();
        }
        self.0.front().map(|(_, at)| *at)
    }

    /// How many syncs are remembered.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_batch_is_dated_by_the_sync_that_covered_it() {
        let mut synced = Synced::default();
        synced.upto(3, Instant(10));
        synced.upto(5, Instant(10));
        synced.upto(9, Instant(20));
        assert_eq!((synced.take(3), synced.take(5), synced.len()), (Some(Instant(10)), Some(Instant(10)), 2));
        assert_eq!((synced.take(9), synced.len()), (Some(Instant(20)), 1));
        assert_eq!((synced.take(10), synced.len()), (None, 0));
    }
}
