//! What did the log hold? Lanes, parts and writers' windows, from the indexes of sealed segments, the
//! checkpoint, and the records behind it, in this order.

use crate::config::Bounds;
use crate::lane::{Entry, Lane};
use crate::marks::{self, Checkpoint, LaneMark};
use crate::writers::Writers;
use std::collections::{BTreeMap, BTreeSet};
use zoolog_core::batch::PlacedBatch;
use zoolog_core::cut::{ShardHistory, ShardPart};
use zoolog_core::view::View;
use zoolog_core::wal::{Recovered, WalEntry};
use zoolog_core::{CutNumber, Incarnation, LaneId, ShardId, SlotId};

/// What recovery found and no replica has claimed yet.
#[derive(Debug, Default)]
pub(crate) struct Images {
    /// The newest view.
    pub view: Option<View>,
    /// Lanes, with the newest incarnation that had opened a stream of it to us.
    pub lanes: BTreeMap<LaneId, (Lane, Incarnation)>,
    /// Parts, and why they are not all there, if so.
    pub histories: BTreeMap<ShardId, (ShardHistory, Option<String>)>,
    /// Windows of the writers of own lanes.
    pub writers: BTreeMap<LaneId, Writers>,
}

/// No honest LSN gets here.
const LSN_MAX: u64 = 1 << 56;

impl Images {
    /// Reads what was recovered.
    ///
    /// # Errors
    /// A text, if something is not what this build would have written.
    pub fn read(recovered: &Recovered, slot: SlotId, bounds: &Bounds) -> Result<Self, String> {
        let checkpoint = match &recovered.checkpoint {
            Some(bytes) if !bytes.is_empty() => Checkpoint::from_bytes(bytes)?,
            _ => Checkpoint::default(),
        };
        for d in &recovered.damage {
            tracing::warn!(
                segment = d.segment,
                offset = d.offset,
                bytes = d.bytes,
                why = d.why,
                "damage in the log"
            );
        }
        let mut images = Self { view: checkpoint.view, ..Self::default() };
        for entry in recovered.tail.iter().filter(|e| e.kind == marks::VIEW) {
            let data = entry.data.as_ref().ok_or("a view without data")?;
            images.view = Some(marks::decode_view(data).ok_or("a malformed view")?);
        }
        for entry in &recovered.sealed {
            images.take(entry, bounds, None)?;
        }
        let mut stated = BTreeMap::new();
        for m in checkpoint.lanes {
            stated.insert(m.lane, m.len);
            let (lane, fence) = images.lane(m.lane, bounds);
            lane.recovered_len(m.len, m.last, m.placed_by);
            *fence = m.fence;
        }
        for (shard, part) in &checkpoint.parts {
            images.expect_part(*shard, part);
        }
        for (lane, windows) in checkpoint.writers {
            images.windows(lane, bounds).restore(windows);
        }
        let own = images.own_lanes(slot);
        for entry in &recovered.tail {
            images.take(entry, bounds, Some((&own, &stated)))?;
        }
        Ok(images)
    }

    fn own_lanes(&self, slot: SlotId) -> Option<BTreeSet<LaneId>> {
        let shards = &self.view.as_ref()?.shards;
        Some(shards.iter().filter_map(|s| Some(LaneId::new(s.id, s.replica_in(slot)?))).collect())
    }

    fn lane(&mut self, id: LaneId, bounds: &Bounds) -> &mut (Lane, Incarnation) {
        self.lanes.entry(id).or_insert_with(|| (Lane::new(id, bounds.cache_bytes), Incarnation(0)))
    }

    fn windows(&mut self, id: LaneId, bounds: &Bounds) -> &mut Writers {
        self.writers.entry(id).or_insert_with(|| Writers::new(bounds.writers, bounds.remembered))
    }

    /// Takes one entry; `behind` are the own lanes, if known, and the checkpoint's lengths, for entries behind
    /// the checkpoint.
    fn take(&mut self, entry: &WalEntry, bounds: &Bounds, behind: Behind<'_>) -> Result<(), String> {
        match entry.kind {
            marks::BATCH => self.take_batch(entry, bounds, behind),
            marks::CUT => self.take_cut(entry),
            marks::VIEW => Ok(()),
            other => Err(format!("a record of kind {other} in segment {}", entry.pos.segment)),
        }
    }

    fn take_batch(&mut self, entry: &WalEntry, bounds: &Bounds, behind: Behind<'_>) -> Result<(), String> {
        let id = LaneId(entry.key1);
        if entry.key2 >= LSN_MAX || entry.aux == 0 {
            return Err(format!("lane {id}: {} records at {}", entry.aux, entry.key2));
        }
        let placed = match (&entry.data, behind) {
            (Some(data), Some(_)) => {
                let placed =
                    PlacedBatch::check_next(&mut data.clone()).map_err(|e| format!("lane {id}: {e}"))?;
                let p = &placed.placement;
                if (p.lane, p.first_lsn.0, placed.batch.count()) != (id, entry.key2, entry.aux) {
                    return Err(format!(
                        "lane {id} at {}: the batch is of {} at {}",
                        entry.key2, p.lane, p.first_lsn
                    ));
                }
                Some(placed)
            }
            _ => None,
        };
        let at = Entry { first_lsn: entry.key2, count: entry.aux, pos: entry.pos };
        let (lane, _) = self.lane(id, bounds);
        if entry.key2 > lane.durable {
            tracing::warn!(lane = %id, from = lane.durable, to = entry.key2, "records are lost here");
        }
        let is_new = lane.recovered(at, placed.clone());
        if let (true, Some(placed), Some((own, stated))) = (is_new, placed, behind) {
            let is_own = own.as_ref().is_none_or(|o| o.contains(&id));
            if is_own && entry.key2 >= stated.get(&id).copied().unwrap_or(0) {
                self.windows(id, bounds).took(&placed.batch, entry.key2);
            }
        }
        Ok(())
    }

    fn take_cut(&mut self, entry: &WalEntry) -> Result<(), String> {
        let shard =
            ShardId(u32::try_from(entry.key1).map_err(|_| format!("a cut mark of shard {}", entry.key1))?);
        let part = entry.data.as_ref().and_then(|d| marks::decode_part(d)).ok_or("a malformed cut mark")?;
        let (history, broken) = self.histories.entry(shard).or_default();
        let last = history.last().map_or(CutNumber(0), |p| p.number);
        if broken.is_some() || part.number <= last {
            return Ok(());
        }
        // A part whose predecessor is lost would give wrong GSNs to what that one had added.
        if marks::low(last) != entry.aux {
            *broken = Some(format!("the cut marks between {last} and {} are lost", part.number));
        } else if let Err(e) = history.push(part) {
            *broken = Some(e.to_string());
        }
        Ok(())
    }

    fn expect_part(&mut self, shard: ShardId, part: &ShardPart) {
        let (history, broken) = self.histories.entry(shard).or_default();
        if history.last() != Some(part) && broken.is_none() {
            let last = history.last().map_or(CutNumber(0), |p| p.number);
            *broken = Some(format!("the cut marks between {last} and {} are lost", part.number));
        }
    }

    /// Adds what nobody claimed to a checkpoint, so that it isn't forgotten.
    pub fn add_to(&self, checkpoint: &mut Checkpoint) {
        checkpoint.lanes.extend(self.lanes.values().map(|(lane, fence)| lane_mark(lane, *fence)));
        let last =
            |(&shard, (h, _)): (&ShardId, &(ShardHistory, Option<String>))| Some((shard, h.last()?.clone()));
        checkpoint.parts.extend(self.histories.iter().filter_map(last));
        checkpoint.writers.extend(self.writers.iter().map(|(&lane, w)| (lane, w.marks())));
    }
}

/// Own lanes if a view says which they are, and the lengths that the checkpoint states.
type Behind<'a> = Option<(&'a Option<BTreeSet<LaneId>>, &'a BTreeMap<LaneId, u64>)>;

fn lane_mark(lane: &Lane, fence: Incarnation) -> LaneMark {
    LaneMark { lane: lane.id, len: lane.accepted, last: lane.last, placed_by: lane.placed_by, fence }
}

impl super::Replica {
    /// Adds this replica to a checkpoint.
    pub fn add_to(&self, checkpoint: &mut Checkpoint) {
        for (lane, inbound) in self.lanes.iter().zip(&self.inbound) {
            checkpoint.lanes.push(lane_mark(lane, inbound.newest.0));
        }
        let parts = self.history.parts();
        let emitted = parts.partition_point(|p| p.number <= self.emitted);
        if let Some(part) = emitted.checked_sub(1).and_then(|i| parts.get(i)) {
            checkpoint.parts.push((self.shard, part.clone()));
        }
        checkpoint.writers.push((self.own_lane().id, self.own.writers.marks()));
    }
}
