//! LOG-3: do a writer's batches appear in the order it sent them, each exactly once?

use super::total_order::TotalOrder;
use super::{Verdict, promise};
use std::collections::BTreeMap;
use zoolog_core::batch::first_seq;
use zoolog_core::{Epoch, Gsn, LaneId, Seq, WriterId};

/// How far the log was walked, and where each writer stands there.
#[derive(Debug, Default)]
pub struct Writers {
    walked: Gsn,
    last: BTreeMap<WriterId, (Seq, u32)>,
    /// The newest opening whose use of a lane a fence has ended.
    fenced: BTreeMap<(WriterId, LaneId), Epoch>,
}

impl Writers {
    /// The last batch of a writer that is in the log, as far as it was read without a hole.
    pub fn last(&self, writer: WriterId) -> Option<Seq> {
        self.last.get(&writer).map(|&(seq, _)| seq)
    }

    /// Walks on over what was read without a hole.
    pub fn advance(&mut self, log: &TotalOrder) -> Verdict {
        while let Some(p) = log.at(self.walked) {
            let over =
                self.fenced.get(&(p.writer, p.lane)).is_some_and(|epoch| p.epoch <= *epoch && !p.fence);
            promise!("LOG-3", !over, "at {}: {p:?} behind a fence of that writer in that lane", self.walked);
            if p.fence {
                let fenced = self.fenced.entry((p.writer, p.lane)).or_insert(p.epoch);
                *fenced = p.epoch.max(*fenced);
                self.walked = self.walked.next();
                continue;
            }
            let here = (p.seq, p.index);
            // A later opening begins anew, with numbers above all of the one before.
            let begins = here == (first_seq(p.epoch), 0);
            let follows = match self.last.get(&p.writer) {
                None => begins,
                Some(&(seq, index)) => {
                    here == (seq, index + 1) || here == (seq.next(), 0) || (begins && p.seq > seq)
                }
            };
            let last = self.last.get(&p.writer);
            promise!("LOG-3", follows, "at {}: {p:?} after {last:?} of the same writer", self.walked);
            self.last.insert(p.writer, here);
            self.walked = self.walked.next();
        }
        Ok(())
    }
}
