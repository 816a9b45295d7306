//! May this batch enter the lane? The primary's side of an append, up to placing it.

use super::{Pending, Replica};
use crate::effects::Effects;
use crate::writers::Judged;
use zoolog_core::batch::{Batch, PlacedBatch};
use zoolog_core::machine::ConnId;
use zoolog_core::wire::{AppendRefusedWhy, DiskRoom};
use zoolog_core::{LaneId, Lsn, Seq, WriterId};

impl Replica {
    /// Takes a writer's batch into the own lane, or answers a resent one. The writer has nothing before `start`
    /// in the lane, and waits for the answer if `prompt`.
    ///
    /// # Errors
    /// Why it isn't taken, and the number that would be.
    pub fn append(
        &mut self,
        fx: &mut Effects,
        conn: ConnId,
        (start, prompt): (Seq, bool),
        batch: Batch,
    ) -> Result<(), (AppendRefusedWhy, Seq)> {
        let (writer, seq) = (batch.writer(), batch.seq());
        if !self.live {
            return Err((AppendRefusedWhy::Closed, seq));
        }
        if !self.own.serving || !self.is_sound() {
            return Err((AppendRefusedWhy::Recovering, seq));
        }
        if start > seq {
            return Err((AppendRefusedWhy::Malformed, start));
        }
        match self.own_writers().judge(&batch, start) {
            Judged::Refused(why, expected) => return Err((why, expected)),
            Judged::Known(first_lsn, gsn) => {
                self.own_writers().seen_on(writer, conn);
                let gsn = gsn.or_else(|| self.history.gsn(self.shard, self.index, Lsn(first_lsn)));
                if let Some(gsn) = gsn {
                    fx.acks.entry((conn, writer)).or_default().push((seq, gsn));
                }
            }
            Judged::New if self.room() == DiskRoom::Full => return Err((AppendRefusedWhy::DiskFull, seq)),
            Judged::New => {
                let (incarnation, lane) = (self.own.incarnation, self.own_lane());
                let placed = PlacedBatch::place(lane.id, incarnation, Lsn(lane.accepted), lane.last, batch);
                self.enter(fx, placed, prompt);
                self.own_writers().seen_on(writer, conn);
            }
        }
        Ok(())
    }

    /// Puts a placed batch at the end of the own lane: a new one, or one adopted from a backup.
    pub(super) fn enter(&mut self, fx: &mut Effects, placed: PlacedBatch, prompt: bool) {
        let (batch, first_lsn) = (&placed.batch, placed.placement.first_lsn.0);
        self.own_writers().took(batch, first_lsn);
        let bytes = placed.encoded_len();
        self.own.uncommitted_bytes += bytes;
        self.own.awaited += usize::from(prompt);
        self.own.pending.push_back(Pending {
            writer: batch.writer(),
            epoch: batch.epoch(),
            seq: batch.seq(),
            first_lsn,
            end: placed.end_lsn().0,
            bytes,
            prompt,
            at: Some(fx.now),
        });
        self.own_lane_mut().accept(placed.clone());
        fx.staged.push(placed);
    }

    /// Whether the own lane has batch `seq` of that writer, or one behind it.
    pub fn has_taken(&self, writer: WriterId, seq: Seq) -> bool {
        self.writers[usize::from(self.index)].next(writer).is_some_and(|next| next > seq)
    }

    /// Whether its writers are to be slowed.
    pub fn is_full(&self) -> bool {
        self.own.uncommitted_bytes > self.bounds.uncommitted_bytes
    }

    /// Whether the primary of `lane`, which is backed up here, is to be slowed: it should have slowed its
    /// own writers long before.
    pub fn is_backup_full(&self, lane: LaneId) -> bool {
        let bound = self.bounds.cache_bytes + 2 * self.bounds.uncommitted_bytes;
        self.lanes.get(usize::from(lane.index())).is_some_and(|l| l.cached_bytes() > bound)
    }

    /// Whether that primary may go on.
    pub fn has_backup_room(&self, lane: LaneId) -> bool {
        let bound = self.bounds.cache_bytes + self.bounds.uncommitted_bytes;
        self.lanes.get(usize::from(lane.index())).is_none_or(|l| l.cached_bytes() <= bound)
    }

    /// Whether slowed writers may go on.
    pub fn has_room(&self) -> bool {
        self.own.uncommitted_bytes <= self.bounds.uncommitted_bytes / 2
    }
}
