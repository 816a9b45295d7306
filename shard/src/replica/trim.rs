//! What is no longer needed here? Below the trim point whole parts are dropped, and the batches they cover; what
//! is left says which segments of the log must stay.
//!
//! The trim point is decided by the orderers, so it counts as soon as it is known: reads below it are answered
//! with it at once. Dropping follows, part by part, and never passes what is durable here: a replica holds all that
//! is committed, so no backup is ever sent to a place before it, unless its disk lost what it had; that one is
//! told to go on from where this one begins. Segments are released last, once where the shard begins is durable.

use super::Replica;
use super::sync::Phase;
use crate::effects::{Effects, Refusal};
use crate::marks::{Item, lane_record, trim_record};
use std::collections::BTreeMap;
use zoolog_core::cut::{ShardBase, ShardHistory};
use zoolog_core::machine::ConnId;
use zoolog_core::wal::WalRecord;
use zoolog_core::wire::{LaneBase, RefusedWhy};
use zoolog_core::{CutNumber, Gsn, Lsn};

/// No honest LSN gets here.
const LSN_MAX: u64 = 1 << 56;

/// In which segments the marks of parts lie: the newest part of each. Those that were lost and written again lie
/// behind newer ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places(BTreeMap<u32, CutNumber>);

impl Places {
    /// The mark of part `number` lies in `segment`.
    pub fn note(&mut self, number: CutNumber, segment: u32) {
        let newest = self.0.entry(segment).or_default();
        *newest = number.max(*newest);
    }

    /// Forgets marks up to that of part `number`.
    pub(super) fn forget(&mut self, number: CutNumber) {
        self.0.retain(|_, newest| *newest > number);
    }

    /// The oldest segment that holds a mark.
    pub fn oldest_segment(&self) -> Option<u32> {
        self.0.first_key_value().map(|p| *p.0)
    }
}

impl Replica {
    /// The trim point is at least there.
    pub fn trim_is(&mut self, trim: Gsn) {
        self.trim = self.trim.max(trim);
    }

    /// Drops what lies wholly below the trim point and is durable, marks included. Whether there was anything.
    pub fn drop_trimmed(&mut self) -> bool {
        if self.history.parts().front().is_none_or(|p| p.base >= self.trim)
            || !self.is_sound()
            || self.mend.awaits_windows()
        {
            return false;
        }
        self.keep_positions();
        if !self.history.trim(self.trim, self.part_durable) {
            return false;
        }
        for lane in &mut self.lanes {
            lane.trim(self.history.start(lane.id.index()));
        }
        self.places.forget(self.history.base().map_or(CutNumber(0), |b| b.number));
        true
    }

    /// Writers may yet ask where batches are whose parts go now.
    fn keep_positions(&mut self) {
        let (shard, history, trim) = (self.shard, &self.history, self.trim);
        let gone = history.parts().partition_point(|p| p.base < trim);
        let Some(last) = gone.checked_sub(1).map(|i| &history.parts()[i]) else { return };
        for ((i, lane), writers) in (0u8..).zip(&self.lanes).zip(&mut self.writers) {
            let gsn = |lsn| history.gsn(shard, i, Lsn(lsn));
            writers.keep_positions(lane.start, last.lens[usize::from(i)], gsn);
        }
    }

    /// The oldest segment it needs; `None` if it needs no durable one.
    pub fn oldest_segment(&self) -> Option<u32> {
        let lanes = self.lanes.iter().filter_map(|l| l.oldest_segment());
        lanes.chain(self.places.oldest_segment()).min()
    }

    /// The newest segment that holds something of it, about.
    pub fn newest_segment(&self) -> Option<u32> {
        self.lanes.iter().filter_map(|l| l.newest_segment()).max()
    }

    /// The mark that says where it begins, if it was trimmed.
    pub fn trim_mark(&self) -> Option<(Item, WalRecord)> {
        self.history.base().map(|base| trim_record(self.shard, self.trim, base))
    }

    /// What a restart finds: the parts up to where the shard begins were read, and are dropped now; or some of them
    /// are lost, and it begins there all the same.
    pub(super) fn restore_trim(&mut self, trim: Gsn, base: ShardBase) {
        self.trim_is(trim);
        if self.broken.is_none() && self.history.number() < base.number {
            self.mend.open = true;
            self.rebase(base);
        }
        self.drop_trimmed();
    }

    /// The shard begins behind `base`: what of it is older is trimmed everywhere, and some of that is missing here.
    pub(super) fn rebase(&mut self, base: ShardBase) {
        assert!(
            base.number > self.history.number(),
            "shard {}: from {:?} back to {base:?}",
            self.shard,
            self.history.number()
        );
        let number = base.number;
        self.trim_is(base.end);
        self.known = self.known.max(base.end);
        self.history = ShardHistory::behind(base);
        (self.marked, self.emitted) = (self.marked.max(number), self.emitted.max(number));
        self.part_durable = self.part_durable.max(number);
        self.places.forget(number);
        self.rejoin();
        for (i, lane) in self.lanes.iter_mut().enumerate() {
            let start = self.history.start(i as u8);
            lane.committed = self.history.len(i as u8);
            // A lane that doesn't reach there goes on behind it once a peer says which placement that follows.
            if lane.durable >= start {
                lane.trim(start);
            }
        }
    }

    /// The primary's side of a backup whose records all lie before where the lane begins: tells it to go on from
    /// there. False if that has to be read back first.
    pub(super) fn send_base(&mut self, fx: &mut Effects, i: usize) -> bool {
        let lane = self.own_lane();
        let first = lane.cached_from(lane.start).next();
        let prev = match first {
            _ if lane.start == lane.accepted => lane.last,
            Some(b) if b.placement.first_lsn.0 == lane.start => b.placement.prev,
            _ => return false,
        };
        let (id, start, incarnation) = (lane.id, lane.start, self.own.incarnation);
        let stream = self.own.backups[i].as_mut().and_then(|b| b.stream.as_mut()).expect("a stream");
        stream.phase = Phase::Streaming { sent: start, prev, loading: false };
        let (conn, stream) = (stream.conn, stream.number);
        fx.send(conn, LaneBase { lane: id, incarnation, stream, from: Lsn(start), last: prev });
        true
    }

    /// The backup's side: what it lacks of the lane is trimmed, it goes on from the base.
    ///
    /// # Errors
    /// The connection is to be refused: another stream's frame, or it makes no sense.
    pub fn lane_base(&mut self, fx: &mut Effects, conn: ConnId, m: &LaneBase) -> Result<(), Refusal> {
        let i = usize::from(m.lane.index());
        let invalid = |text: String| Err(Refusal::new(RefusedWhy::Invalid, text));
        if i >= self.lanes.len() || i == usize::from(self.index) {
            return invalid(format!("a base of lane {}, which is not backed up here", m.lane));
        }
        self.inbound[i].check(conn, m.incarnation, m.stream)?;
        let lane = &mut self.lanes[i];
        let settled = self.inbound[i].answered() && lane.durable == lane.accepted;
        if !settled || m.from.0 <= lane.accepted || m.from.0 >= LSN_MAX {
            return invalid(format!(
                "lane {} of {} records, told to go on from {}",
                m.lane, lane.accepted, m.from
            ));
        }
        tracing::warn!(lane = %m.lane, held = lane.accepted, from = %m.from, "what is missing here is trimmed: going on behind it");
        lane.adopt(m.from.0, m.last);
        self.writers[i].missed_some();
        // Durable with, or before, the first batch behind it. What it skips nobody reads any more.
        fx.marks.push(lane_record(m.lane, m.from.0, m.last));
        self.moved = true;
        self.check_damage(fx);
        Ok(())
    }
}
