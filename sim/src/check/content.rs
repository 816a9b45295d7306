//! LOG-4: was every delivered record appended, with these bytes, by that writer? And does a writer that
//! sends a batch again send the same bytes? LOG-3: does it send one to another lane only when the first is over for it?

use super::views::Views;
use super::{Verdict, promise};
use bytes::Bytes;
use std::collections::BTreeMap;
use zoolog_core::batch::{Batch, BatchKind, PlacedBatch};
use zoolog_core::{Epoch, LaneId, Seq, WriterId};

/// All batches that were ever sent to be appended.
#[derive(Debug, Default)]
pub struct Content {
    sent: BTreeMap<(WriterId, Seq), (BTreeMap<LaneId, Epoch>, Batch)>,
    /// Fences that were sent, by writer, lane and opening.
    fences: BTreeMap<(WriterId, LaneId, Epoch), Batch>,
    records: BTreeMap<(WriterId, Seq, u32), Bytes>,
}

impl Content {
    /// A writer sends a batch.
    pub fn appended(&mut self, lane: LaneId, payload: Bytes, views: &Views) -> Verdict {
        let Ok(batch) = Batch::check(payload) else {
            promise!("LOG-4", false, "a writer sends to lane {lane} what is no batch");
            return Ok(());
        };
        let (key, epoch) = ((batch.writer(), batch.seq()), batch.epoch());
        if let Some((to, before)) = self.sent.get_mut(&key) {
            // In a later opening it is the same but for that.
            let again = epoch > before.epoch() && batch.records().eq(before.records());
            promise!(
                "LOG-4",
                before == &batch || again,
                "batch {} of {:x?} is sent again with other bytes",
                key.1,
                key.0
            );
            let fences = &self.fences;
            let fenced =
                |at: (LaneId, Epoch)| fences.keys().any(|(w, l, e)| (*w, *l) == (key.0, at.0) && *e >= at.1);
            let over =
                |at: (LaneId, Epoch)| at == (lane, epoch) || views.is_final(at.0.shard()) || fenced(at);
            let all_over = to.iter().all(|(&lane, &epoch)| over((lane, epoch)));
            promise!("LOG-3", all_over, "batch {} of {:x?} goes to lane {lane} after {to:?}", key.1, key.0);
            to.insert(lane, epoch);
            *before = batch;
            return Ok(());
        }
        self.sent.insert(key, (BTreeMap::from([(lane, epoch)]), batch));
        Ok(())
    }

    /// A writer sends a fence, or somebody passes it on.
    pub fn fenced(&mut self, lane: LaneId, payload: Bytes) -> Verdict {
        let Ok(batch) = Batch::check(payload) else {
            promise!("LOG-4", false, "a writer sends to lane {lane} a fence that is no batch");
            return Ok(());
        };
        self.fences.insert((batch.writer(), lane, batch.epoch()), batch);
        Ok(())
    }

    /// A workload writer handed over a record.
    pub fn record(&mut self, writer: WriterId, seq: Seq, index: u32, record: Bytes) {
        self.records.insert((writer, seq, index), record);
    }

    /// How many fences were sent, each writer's in a lane counting once.
    pub fn fences(&self) -> usize {
        self.fences.len()
    }

    /// The last batch each writer has sent.
    pub fn last_sent(&self) -> BTreeMap<WriterId, Seq> {
        self.sent.keys().copied().collect()
    }

    /// How many records a batch has that was sent.
    pub fn count(&self, writer: WriterId, seq: Seq) -> Option<u32> {
        self.sent.get(&(writer, seq)).map(|(_, b)| b.count())
    }

    /// A reader got a batch.
    pub fn delivered(&mut self, name: &str, placed: &PlacedBatch) -> Verdict {
        let (writer, seq, lane) = (placed.batch.writer(), placed.batch.seq(), placed.placement.lane);
        if placed.batch.kind() == BatchKind::Fence {
            let sent = self.fences.get(&(writer, lane, placed.batch.epoch()));
            promise!(
                "LOG-4",
                sent == Some(&placed.batch),
                "{name} got a fence of {writer:x?} in {lane}, sent: {sent:?}"
            );
            return Ok(());
        }
        let Some((to, sent)) = self.sent.get(&(writer, seq)) else {
            promise!("LOG-4", false, "{name} got batch {seq} of {writer:x?}, which nobody sent");
            return Ok(());
        };
        promise!("LOG-4", sent == &placed.batch, "{name} got batch {seq} of {writer:x?} with other bytes");
        promise!(
            "LOG-4",
            to.contains_key(&lane),
            "{name} got batch {seq} of {writer:x?} in lane {lane}, sent to {to:?}"
        );
        for (index, record) in placed.batch.records().enumerate() {
            if let Some(meant) = self.records.remove(&(writer, seq, index as u32)) {
                promise!(
                    "LOG-4",
                    meant == record,
                    "{name} got another record {index} in batch {seq} of {writer:x?}"
                );
            }
        }
        Ok(())
    }
}
