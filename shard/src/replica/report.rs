//! What does this replica hold durably? Its local cut, which moves when a sync completes.

use super::Replica;
use crate::effects::Effects;
use zoolog_core::wal::WalPos;
use zoolog_core::wire::ShardReport;
use zoolog_core::{CutNumber, Gsn, LaneId, Lsn};

impl Replica {
    /// A batch of `lane` is durable.
    pub fn batch_durable(&mut self, fx: &mut Effects, lane: LaneId, first_lsn: u64, count: u32, pos: WalPos) {
        let i = usize::from(lane.index());
        if self.lanes[i].is_beyond_end(first_lsn) {
            return; // the shard was finalized while it was on its way to the disk
        }
        self.lanes[i].made_durable(first_lsn, count, pos);
        self.moved = true;
        if i == usize::from(self.index) {
            if !self.mend.open && self.live {
                self.own.synced.upto(first_lsn + u64::from(count), fx.now);
            }
            // Committed already if it was adopted to repair what was lost here.
            self.check_damage(fx);
            self.settle(fx);
        } else {
            self.answer_sync(fx, i);
        }
    }

    /// The mark of the part of cut `number` is durable: the orderers need not keep it for us.
    pub fn part_mark_durable(&mut self, number: CutNumber, segment: u32) {
        if number <= self.part_durable && self.history.base().is_some_and(|b| b.number >= number) {
            return; // a copy in the making has begun anew behind it
        }
        assert!(
            number > self.part_durable && number <= self.marked,
            "shard {}: the mark of cut {number} became durable, after {}, handed out were {}",
            self.shard,
            self.part_durable,
            self.marked
        );
        self.part_durable = number;
        // A finalized shard has no other news with which this could go out.
        self.moved |= !self.live;
        self.places.note(number, segment);
        self.advance_durable_parts();
    }

    /// Goes on over parts behind the newest durable one that were durable before, or are trimmed.
    pub(super) fn advance_durable_parts(&mut self) {
        self.part_durable = self.part_durable.max(self.history.base().map_or(CutNumber(0), |b| b.number));
        while let Some(next) = self.rejoined.first().copied() {
            let parts = self.history.parts();
            let at = parts.partition_point(|p| p.number <= self.part_durable);
            if next > self.part_durable && parts.get(at).is_none_or(|p| p.number != next) {
                break;
            }
            self.part_durable = self.part_durable.max(next);
            self.rejoined.pop_first();
        }
    }

    /// Whether it takes appends and something about that is not as it is to be: not durable yet, or not serving.
    pub fn is_unsettled(&self) -> bool {
        self.live && (!self.own.serving || self.lanes.iter().any(|l| l.accepted > l.durable))
    }

    /// How many bytes of lane `i` lie at or past which GSN.
    pub fn held(&self, i: usize) -> Vec<(Gsn, u64)> {
        let at = |(lsn, bytes): (u64, u64)| {
            let last = self.history.gsn(self.shard, i as u8, Lsn(lsn.checked_sub(1)?))?;
            Some((last.plus(1), bytes))
        };
        self.lanes[i].sizes().filter_map(at).collect()
    }

    /// Its figures now.
    pub fn report(&self) -> ShardReport {
        ShardReport {
            shard: self.shard,
            accepted: self.lanes.iter().map(|l| l.accepted).collect(),
            durable: self.lanes.iter().map(|l| l.durable).collect(),
            part: self.part_durable,
            serving: self.own.serving || !self.live,
        }
    }
}
