//! Has this batch been delivered before? It can't have been; this is the check that says so. Invariant LOG-3.

use std::collections::BTreeMap;
use zoolog_core::{Seq, WriterId};

/// Writers remembered.
const WRITERS_MAX: usize = 4096;

/// The newest batch of each writer seen of late.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    newest: BTreeMap<WriterId, Seq>,
}

impl Repeats {
    /// Whether `seq` is at or before one of that writer seen already. Not to be asked of fences: their numbers are used
    /// again, in the next lane.
    pub fn is_repeat(&mut self, writer: WriterId, seq: Seq) -> bool {
        if self.newest.len() >= WRITERS_MAX && !self.newest.contains_key(&writer) {
            // A backstop may forget; it must not grow.
            self.newest.clear();
        }
        match self.newest.insert(writer, seq) {
            Some(before) if before >= seq => {
                self.newest.insert(writer, before);
                true
            }
            _ => false,
        }
    }
}
