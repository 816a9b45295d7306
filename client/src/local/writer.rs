//! How do the owner's records become batches of an embedded log? One open batch, closed at the end of a turn as long as
//! the window allows, so that batches grow with load.

use super::LocalConfig;
use super::marks::Checkpoint;
use crate::AppendError;
use std::collections::VecDeque;
use zoolog_core::batch::{Batch, BatchBuilder, BatchKind, PlacedBatch};
use zoolog_core::limits::RECORD_BYTES_MAX;
use zoolog_core::rng::Rng;
use zoolog_core::wire::DiskRoom;
use zoolog_core::{Epoch, Incarnation, LaneId, Lsn, Seq, ShardId, WriterId};

/// The one writer.
#[derive(Debug)]
pub(super) struct Writer {
    pub id: WriterId,
    incarnation: Incarnation,
    pub room: DiskRoom,
    /// Nothing more is taken.
    pub ends: bool,
    open: BatchBuilder,
    /// Number of the open batch.
    next: Seq,
    /// Closed because no more belonged in, while the window was open: they wait for the end of the turn.
    full: VecDeque<Batch>,
    /// Bytes of each closed batch that is not durable, oldest first.
    pending: VecDeque<usize>,
    pending_bytes: usize,
}

impl Writer {
    pub fn new(seed: u64, incarnation: Incarnation) -> Self {
        Self {
            id: WriterId(Rng::new(seed, "writer").next_u128()),
            incarnation,
            room: DiskRoom::Ample,
            ends: false,
            open: BatchBuilder::new(),
            next: Seq(0),
            full: VecDeque::new(),
            pending: VecDeque::new(),
            pending_bytes: 0,
        }
    }

    fn window_open(&self, cfg: &LocalConfig) -> bool {
        self.pending.len() < cfg.window_batches && self.pending_bytes < cfg.window_bytes
    }

    pub fn has_room(&self, cfg: &LocalConfig) -> bool {
        !self.ends && (self.open.has_room(RECORD_BYTES_MAX) || self.window_open(cfg))
    }

    pub fn pending_batches(&self) -> usize {
        self.pending.len() + usize::from(!self.open.is_empty())
    }

    pub fn append(
        &mut self,
        cfg: &LocalConfig,
        record: &[u8],
        vital: bool,
    ) -> Result<(Seq, u32), AppendError> {
        if self.ends {
            return Err(AppendError::Sealed);
        }
        if record.len() > RECORD_BYTES_MAX {
            return Err(AppendError::TooLong { bytes: record.len(), limit: RECORD_BYTES_MAX });
        }
        if !vital && self.room != DiskRoom::Ample {
            return Err(AppendError::DiskFull);
        }
        if !self.open.has_room(record.len()) {
            if !self.window_open(cfg) {
                return Err(AppendError::Full);
            }
            self.finish();
        }
        let index = self.open.count();
        self.open.push(record);
        Ok((self.next, index))
    }

    fn finish(&mut self) {
        let batch = self.open.finish(BatchKind::Data, self.id, Epoch(0), self.next);
        self.next = self.next.next();
        let bytes = batch.bytes().len();
        self.pending.push_back(bytes);
        self.pending_bytes += bytes;
        self.full.push_back(batch);
    }

    /// The next batch of the turn, placed behind `point`. Of a log that ends all goes out.
    pub fn close(&mut self, cfg: &LocalConfig, point: Checkpoint) -> Option<PlacedBatch> {
        if self.full.is_empty() && !self.open.is_empty() && (self.ends || self.window_open(cfg)) {
            self.finish();
        }
        let batch = self.full.pop_front()?;
        let lane = LaneId::new(ShardId(0), 0);
        Some(PlacedBatch::place(lane, self.incarnation, Lsn(point.tail.0), point.last, batch))
    }

    /// The oldest closed batch is durable: its number.
    pub fn persisted(&mut self) -> Seq {
        let closed = self.pending.len() as u64;
        self.pending_bytes -= self.pending.pop_front().expect("a batch that is durable was closed");
        Seq(self.next.0 - closed)
    }
}
