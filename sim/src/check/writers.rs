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
    last: BTreeMap<WriterId, (Seq, u32, u64)>,
    /// The newest opening whose use of a lane a fence has ended.
    fenced: BTreeMap<(WriterId, LaneId), Epoch>,
    /// Stretches that were trimmed before anybody had read them.
    holes: u64,
}

impl Writers {
    /// The last batch of a writer that is in the log, as far as it was read without a hole.
    pub fn last(&self, writer: WriterId) -> Option<Seq> {
        self.last.get(&writer).map(|&(seq, ..)| seq)
    }

    /// Walks on over what was read without a hole, and over what is not there before `gone`.
    pub fn advance(&mut self, log: &TotalOrder, gone: Gsn) -> Verdict {
        loop {
            let Some(p) = log.at(self.walked) else {
                let next = (self.walked.0..gone.0).map(Gsn).find(|g| log.at(*g).is_some());
                let Some(next) = next else { return Ok(()) };
                (self.walked, self.holes) = (next, self.holes + 1);
                continue;
            };
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
                // A writer without a name keeps its numbers when it opens anew, be it before its first batch is in.
                None => self.holes > 0 || begins || here == (Seq(0), 0),
                Some(&(seq, index, holes)) if holes < self.holes => here > (seq, index),
                Some(&(seq, index, _)) => {
                    here == (seq, index + 1) || here == (seq.next(), 0) || (begins && p.seq > seq)
                }
            };
            let last = self.last.get(&p.writer);
            promise!("LOG-3", follows, "at {}: {p:?} after {last:?} of the same writer", self.walked);
            self.last.insert(p.writer, (p.seq, p.index, self.holes));
            self.walked = self.walked.next();
        }
    }
}
