//! What did the writers send behind a batch that is lost? Windows are filled in the order of the lane, so what is
//! behind a lost batch of an own lane waits here until that one is mended.

use crate::writers::{Head, Writers};
use std::collections::BTreeMap;

/// Batches that wait for earlier ones, by LSN; no more than the log held behind its checkpoint.
#[derive(Debug, Default)]
pub(crate) struct Later {
    /// Batches before this LSN are in the windows.
    upto: u64,
    heads: BTreeMap<u64, Head>,
    /// Some batches never came into the windows: they were lost, and are trimmed everywhere by now. A writer that
    /// resends one of them can't be recognised.
    pub lacks: bool,
}

impl Later {
    /// What lies before `lsn` is in the windows: a checkpoint gave them, or they have taken it in by now.
    pub fn begin_at(&mut self, lsn: u64) {
        assert!(!self.is_waiting(), "LOG-3: batches wait that come before {lsn}");
        self.upto = lsn;
    }

    /// What is missing before `lsn` is trimmed.
    pub fn skip_to(&mut self, lsn: u64) {
        self.lacks |= lsn > self.upto;
        self.upto = self.upto.max(lsn);
    }

    /// The lane holds a batch there.
    pub fn put(&mut self, first_lsn: u64, head: Head) {
        if first_lsn >= self.upto {
            self.heads.insert(first_lsn, head);
        }
    }

    /// Brings into the windows of the lane, of which `committed` records are, what is next.
    pub fn drain(&mut self, windows: &mut Writers, committed: u64) {
        while let Some(head) = self.heads.remove(&self.upto) {
            windows.backed_up(&head, self.upto, committed);
            self.upto += u64::from(head.count());
        }
    }

    /// Brings in all there is: what is missing between is trimmed.
    pub fn drain_all(&mut self, windows: &mut Writers, committed: u64) {
        while let Some((&lsn, _)) = self.heads.first_key_value() {
            self.skip_to(lsn);
            self.heads.retain(|l, _| *l >= self.upto);
            self.drain(windows, committed);
        }
        if self.lacks {
            windows.missed_some();
        }
    }

    /// The lane ends at `lsn`: what comes there comes anew.
    pub fn cut_back(&mut self, lsn: u64) {
        self.heads.split_off(&lsn);
        self.upto = self.upto.min(lsn);
    }

    /// Whether windows wait for a lost batch.
    pub fn is_waiting(&self) -> bool {
        !self.heads.is_empty()
    }
}
