//! LOG-4: was every delivered record appended, with these bytes, by that writer? And does a writer that
//! sends a batch again send the same bytes?

use super::{Verdict, promise};
use bytes::Bytes;
use std::collections::BTreeMap;
use zoolog_core::batch::{Batch, PlacedBatch};
use zoolog_core::{LaneId, Seq, WriterId};

/// All batches that were ever sent to be appended.
#[derive(Debug, Default)]
pub struct Content {
    sent: BTreeMap<(WriterId, Seq), (LaneId, Batch)>,
    records: BTreeMap<(WriterId, Seq, u32), Bytes>,
}

impl Content {
    /// A writer sends a batch.
    pub fn appended(&mut self, lane: LaneId, payload: Bytes) -> Verdict {
        let Ok(batch) = Batch::check(payload) else {
            promise!("LOG-4", false, "a writer sends to lane {lane} what is no batch");
            return Ok(());
        };
        let key = (batch.writer(), batch.seq());
        if let Some((to, before)) = self.sent.get(&key) {
            promise!(
                "LOG-4",
                before == &batch,
                "batch {} of {:x?} is sent again with other bytes",
                key.1,
                key.0
            );
            promise!("LOG-3", *to == lane, "batch {} of {:x?} goes to lane {lane} after {to}", key.1, key.0);
            return Ok(());
        }
        self.sent.insert(key, (lane, batch));
        Ok(())
    }

    /// A workload writer handed over a record.
    pub fn record(&mut self, writer: WriterId, seq: Seq, index: u32, record: Bytes) {
        self.records.insert((writer, seq, index), record);
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
        let Some((to, sent)) = self.sent.get(&(writer, seq)) else {
            promise!("LOG-4", false, "{name} got batch {seq} of {writer:x?}, which nobody sent");
            return Ok(());
        };
        promise!("LOG-4", sent == &placed.batch, "{name} got batch {seq} of {writer:x?} with other bytes");
        promise!("LOG-4", *to == lane, "{name} got batch {seq} of {writer:x?} in lane {lane}, sent to {to}");
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
