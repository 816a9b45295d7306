//! What does another replica lack? Batches and parts for one whose disk lost its own: any replica that holds them
//! answers, one question of a connection at a time.

use super::Replica;
use crate::effects::{Effects, Refusal, encode_batches};
use crate::loads::Purpose;
use bytes::Bytes;
use zoolog_core::Lsn;
use zoolog_core::batch::PlacedBatch;
use zoolog_core::machine::ConnId;
use zoolog_core::wire::{BatchesAre, BatchesWanted, PartsHeld, PartsWanted, RefusedWhy};

/// Parts of one answer.
const PARTS: usize = 1024;

impl Replica {
    /// Another replica asks for batches.
    ///
    /// # Errors
    /// The connection is to be refused.
    pub fn batches_wanted(
        &mut self,
        fx: &mut Effects,
        conn: ConnId,
        m: &BatchesWanted,
    ) -> Result<(), Refusal> {
        let Some(lane) = self.lanes.get(usize::from(m.lane.index())).filter(|_| m.from < m.to) else {
            let text = format!("no batches of lane {} from {} to {}", m.lane, m.from, m.to);
            return Err(Refusal::new(RefusedWhy::Invalid, text));
        };
        if !self.lending.insert(conn) {
            return Err(Refusal::new(RefusedWhy::Unexpected, "a question before the last one is answered"));
        }
        let bounds = &self.bounds;
        let (pieces, _) = if lane.start > m.from.0 {
            lane.pieces(lane.start, lane.durable, 0, 1)
        } else {
            lane.pieces(m.from.0, m.to.0.min(lane.durable), bounds.replicate_bytes, bounds.read_batches)
        };
        let (start, len) = (Lsn(lane.start), Lsn(lane.durable));
        // What isn't durable yet is cached, and says what comes before.
        let last = lane.cached_from(lane.durable).next().map_or(lane.last, |b| b.placement.prev);
        let answer = BatchesAre { lane: m.lane, from: m.from, start, len, last };
        fx.load(Purpose::Lend { conn, answer }, pieces);
        Ok(())
    }

    /// What was asked for was read back; nothing of it if some can't be read.
    pub fn lent(&mut self, conn: ConnId, answer: BatchesAre, batches: &[PlacedBatch]) -> Bytes {
        self.lending.remove(&conn);
        encode_batches(answer, &batches.iter().collect::<Vec<_>>())
    }

    /// Another replica asks for parts.
    pub fn parts_wanted(&self, fx: &mut Effects, conn: ConnId, m: &PartsWanted) {
        let parts = self.history.parts();
        let from = parts.partition_point(|p| p.number <= m.after);
        let base = self.history.base().filter(|b| b.number > m.after).cloned();
        let parts = parts.iter().skip(from).take(PARTS).cloned().collect();
        fx.send(conn, PartsHeld { shard: m.shard, after: m.after, base, parts });
    }
}
