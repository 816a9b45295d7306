//! LOG-3: do a writer's batches appear in the order it sent them, each exactly once?

use super::total_order::TotalOrder;
use super::{Verdict, promise};
use std::collections::{BTreeMap, BTreeSet};
use zoolog_core::{Gsn, LaneId, Seq, WriterId};

/// How far the log was walked, and where each writer stands there.
#[derive(Debug, Default)]
pub struct Writers {
    walked: Gsn,
    last: BTreeMap<WriterId, (Seq, u32)>,
    fenced: BTreeSet<(WriterId, LaneId)>,
}

impl Writers {
    /// The last batch of a writer that is in the log, as far as it was read without a hole.
    pub fn last(&self, writer: WriterId) -> Option<Seq> {
        self.last.get(&writer).map(|&(seq, _)| seq)
    }

    /// Walks on over what was read without a hole.
    pub fn advance(&mut self, log: &TotalOrder) -> Verdict {
        while let Some(p) = log.at(self.walked) {
            let over = self.fenced.contains(&(p.writer, p.lane));
            promise!("LOG-3", !over, "at {}: {p:?} behind a fence of that writer in that lane", self.walked);
            if p.fence {
                self.fenced.insert((p.writer, p.lane));
                self.walked = self.walked.next();
                continue;
            }
            let here = (p.seq, p.index);
            let follows = match self.last.get(&p.writer) {
                None => here == (Seq(0), 0),
                Some(&(seq, index)) => here == (seq, index + 1) || here == (seq.next(), 0),
            };
            let last = self.last.get(&p.writer);
            promise!("LOG-3", follows, "at {}: {p:?} after {last:?} of the same writer", self.walked);
            self.last.insert(p.writer, here);
            self.walked = self.walked.next();
        }
        Ok(())
    }
}
