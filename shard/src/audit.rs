//! What do the records of a stopped slot's log say? For people who look at it: read with the eyes that a start has.

use crate::marks::{self, Checkpoint};
use crate::{Bounds, Slot, SlotConfig};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use zoolog_core::batch::PlacedBatch;
use zoolog_core::cut::{ShardBase, ShardPart};
use zoolog_core::view::View;
use zoolog_core::wal::{Recovered, WalEntry};
use zoolog_core::{ClusterId, Gsn, Instant, LaneId, Lsn, ShardId, SlotId, ViewNumber};

/// What a record of a slot's log is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A batch, checked.
    Batch(PlacedBatch),
    /// A part of a cut.
    Cut {
        /// The shard.
        shard: ShardId,
        /// The part.
        part: ShardPart,
    },
    /// A view.
    View(View),
    /// A shard begins there, what lies before being trimmed.
    Trim {
        /// The shard.
        shard: ShardId,
        /// The trim point.
        trim: Gsn,
        /// What precedes its first part.
        base: ShardBase,
    },
    /// A lane goes on there, what lies between being trimmed.
    Lane {
        /// The lane.
        lane: LaneId,
        /// Where.
        start: Lsn,
    },
    /// A lane ended there when a start found damage: what lies before this in the log is of it only before that.
    End {
        /// The lane.
        lane: LaneId,
        /// Its length.
        len: Lsn,
    },
    /// What precedes this of a shard counts for nothing.
    Forget {
        /// The shard.
        shard: ShardId,
    },
}

impl Mark {
    /// Reads a record.
    ///
    /// # Errors
    /// A text, if it is not what this build writes: the bytes are as they were written, but make no sense.
    pub fn read(entry: &WalEntry) -> Result<Self, String> {
        let mut data = entry.data.clone().ok_or("a record without its data")?;
        let shard = || u32::try_from(entry.key1).map(ShardId).map_err(|_| format!("shard {}", entry.key1));
        let mark = match entry.kind {
            marks::BATCH | marks::MEND => {
                let placed = PlacedBatch::check_next(&mut data).map_err(|e| e.to_string())?;
                let (place, count) = (placed.placement, placed.batch.count());
                let said = (entry.key1, entry.key2, entry.aux);
                if said != (place.lane.0, place.first_lsn.0, count) || !data.is_empty() {
                    return Err("a batch that is not the one its record says".into());
                }
                Self::Batch(placed)
            }
            marks::CUT => {
                let part = marks::decode_part(&data).ok_or("a malformed cut mark")?;
                Self::Cut { shard: shard()?, part }
            }
            marks::VIEW => Self::View(marks::decode_view(&data).ok_or("a malformed view")?),
            marks::TRIM => {
                let base = marks::decode_base(&data).ok_or("a malformed trim mark")?;
                Self::Trim { shard: shard()?, trim: Gsn(entry.key2), base }
            }
            marks::LANE => Self::Lane { lane: LaneId(entry.key1), start: Lsn(entry.key2) },
            marks::END => Self::End { lane: LaneId(entry.key1), len: Lsn(entry.key2) },
            marks::FORGET => Self::Forget { shard: shard()? },
            other => return Err(format!("a record of kind {other}, which this build doesn't know")),
        };
        Ok(mark)
    }

    /// The lane it is about, if it is about one only.
    pub fn lane(&self) -> Option<LaneId> {
        match self {
            Self::Batch(placed) => Some(placed.placement.lane),
            Self::Lane { lane, .. } | Self::End { lane, .. } => Some(*lane),
            _ => None,
        }
    }

    /// The shard it is about, if it is about one only.
    pub fn shard(&self) -> Option<ShardId> {
        match self {
            Self::Cut { shard, .. } | Self::Trim { shard, .. } | Self::Forget { shard } => Some(*shard),
            other => other.lane().map(LaneId::shard),
        }
    }
}

/// What a checkpoint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointSummary {
    /// The newest view.
    pub view: ViewNumber,
    /// The shards in it.
    pub shards: BTreeSet<ShardId>,
    /// Of each lane: its first record that is not trimmed, and its length.
    pub lanes: Vec<(LaneId, Range<u64>)>,
    /// Writers that are remembered.
    pub writers: usize,
}

impl CheckpointSummary {
    /// Reads a checkpoint; `None` if it is that of a slot that has nothing yet.
    ///
    /// # Errors
    /// A text, if it is not what this build writes.
    pub fn read(bytes: &Bytes) -> Result<Option<Self>, String> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let checkpoint = Checkpoint::from_bytes(bytes)?;
        Ok(Some(Self {
            view: checkpoint.view.as_ref().map_or(ViewNumber(0), |v| v.number),
            shards: checkpoint.view.iter().flat_map(shards_of).collect(),
            lanes: checkpoint.lanes.iter().map(|m| (m.lane, m.start..m.len)).collect(),
            writers: checkpoint.writers.iter().map(|(_, w)| w.len()).sum(),
        }))
    }
}

fn shards_of(view: &View) -> impl Iterator<Item = ShardId> + '_ {
    view.shards.iter().map(|s| s.id)
}

/// Which records of each lane a log holds, and which are missing between them. Lanes of shards that the newest view
/// doesn't have any more don't count: whatever is left of them, nobody needs.
#[derive(Clone, Debug, Default)]
pub struct Lanes {
    lanes: BTreeMap<LaneId, Held>,
    /// Of the newest view, with its number; `None` before any.
    shards: Option<(ViewNumber, BTreeSet<ShardId>)>,
}

#[derive(Clone, Debug, Default)]
struct Held {
    /// What lies before was trimmed.
    start: u64,
    /// What is there, disjoint: first LSN -> one past the last. Few, unless something is missing.
    there: BTreeMap<u64, u64>,
}

impl Lanes {
    /// Takes note of a record.
    pub fn take(&mut self, mark: &Mark) {
        match mark {
            Mark::Batch(placed) => {
                let held = self.lanes.entry(placed.placement.lane).or_default();
                held.add(placed.placement.first_lsn.0, placed.end_lsn().0);
            }
            Mark::Lane { lane, start } => {
                let held = self.lanes.entry(*lane).or_default();
                held.start = held.start.max(start.0);
            }
            Mark::End { lane, len } => self.lanes.entry(*lane).or_default().end_at(len.0),
            Mark::Trim { shard, base, .. } => {
                for (index, start) in (0..=u8::MAX).zip(&base.lens) {
                    let held = self.lanes.entry(LaneId::new(*shard, index)).or_default();
                    held.start = held.start.max(*start);
                }
            }
            Mark::View(view) => self.view(view.number, shards_of(view).collect()),
            // What is left of it is of a copy that another has taken the place of.
            Mark::Forget { shard } => self.lanes.retain(|lane, _| lane.shard() != *shard),
            Mark::Cut { .. } => {}
        }
    }

    fn view(&mut self, number: ViewNumber, shards: BTreeSet<ShardId>) {
        if number > ViewNumber(0) && self.shards.as_ref().is_none_or(|(known, _)| *known <= number) {
            self.shards = Some((number, shards));
        }
    }

    fn counting(&self) -> impl Iterator<Item = (&LaneId, &Held)> {
        let counts = |lane: &LaneId| self.shards.as_ref().is_none_or(|(_, s)| s.contains(&lane.shard()));
        self.lanes.iter().filter(move |(lane, _)| counts(lane))
    }

    /// Takes note of a checkpoint: what it says a lane has, or has no more, is no longer told by records alone.
    pub fn checkpoint(&mut self, summary: &CheckpointSummary) {
        self.view(summary.view, summary.shards.clone());
        for (lane, range) in &summary.lanes {
            let held = self.lanes.entry(*lane).or_default();
            held.start = held.start.max(range.start);
            if range.end > range.start {
                // Nothing at its end: only that it goes as far as this.
                held.there.entry(range.end).or_insert(range.end);
            }
        }
    }

    /// Every lane, with what is missing between the first record that is not trimmed and the last: ranges of LSNs.
    pub fn missing(&self) -> impl Iterator<Item = (LaneId, Vec<Range<u64>>)> + '_ {
        self.counting().map(|(lane, held)| (*lane, held.missing()))
    }

    /// Every lane with its LSNs, from the first that is not trimmed to one past the last.
    pub fn spans(&self) -> impl Iterator<Item = (LaneId, Range<u64>)> + '_ {
        self.counting().map(|(lane, held)| {
            (*lane, held.start..held.there.values().max().copied().unwrap_or(0).max(held.start))
        })
    }
}

impl Held {
    /// The lane had so many records, whichever of them are there.
    fn end_at(&mut self, len: u64) {
        let beyond = self.there.split_off(&len);
        if let Some((_, to)) = self.there.iter_mut().next_back() {
            *to = len.min(*to);
        }
        let had = !beyond.is_empty() || !self.there.is_empty();
        if had && self.there.values().next_back() != Some(&len) {
            self.there.insert(len, len);
        }
    }

    /// Batches mostly come in order, so the last piece mostly grows.
    fn add(&mut self, mut from: u64, mut to: u64) {
        while let Some((&f, &t)) = self.there.range(..=to).next_back().filter(|(_, t)| **t >= from) {
            self.there.remove(&f);
            (from, to) = (from.min(f), to.max(t));
        }
        self.there.insert(from, to);
    }

    fn missing(&self) -> Vec<Range<u64>> {
        let mut at = self.start;
        let mut missing = Vec::new();
        for (&from, &to) in &self.there {
            if from > at {
                missing.push(at..from);
            }
            at = at.max(to);
        }
        missing
    }
}

/// How a slot would start on what was recovered: its status, as JSON.
///
/// # Errors
/// Why it would not.
pub fn start(cluster: ClusterId, slot: SlotId, recovered: Recovered) -> Result<String, String> {
    let cfg = SlotConfig {
        cluster,
        slot,
        stamp: 0,
        addr: "audit:0".into(),
        domain: "audit".into(),
        orderers: vec!["audit:0".into()],
        bounds: Bounds::default(),
    };
    Slot::new(cfg, recovered, Instant(0)).map(|slot| slot.status()).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zoolog_core::batch::{BatchBuilder, BatchKind};
    use zoolog_core::view::{ShardState, ShardView};
    use zoolog_core::wal::WalPos;
    use zoolog_core::{CutNumber, Epoch, Incarnation, Seq, WriterId};

    const LANE: LaneId = LaneId::new(ShardId(3), 1);

    fn placed(first_lsn: u64, count: u64) -> PlacedBatch {
        let mut builder = BatchBuilder::new();
        (0..count).for_each(|i| builder.push(&i.to_le_bytes()));
        let batch = builder.finish(BatchKind::Data, WriterId(5), Epoch(0), Seq(1));
        PlacedBatch::place(LANE, Incarnation(1), Lsn(first_lsn), 0, batch)
    }

    fn entry(record: zoolog_core::wal::WalRecord) -> WalEntry {
        let data: Bytes = record.data.concat().into();
        let pos = WalPos { segment: 1, offset: 0, len: data.len() as u32 };
        let (kind, aux, key1, key2) = (record.kind, record.aux, record.key1, record.key2);
        WalEntry { kind, aux, key1, key2, pos, data: Some(data) }
    }

    #[test]
    fn every_kind_of_record_is_read_as_it_was_written() {
        let part = ShardPart { number: CutNumber(7), base: Gsn(40), lens: vec![3, 9] };
        let base = ShardBase { number: CutNumber(7), end: Gsn(40), lens: vec![3, 9] };
        let shard = ShardId(3);
        let all = [
            (marks::batch_record(&placed(9, 2)).1, Mark::Batch(placed(9, 2))),
            (marks::cut_record(shard, CutNumber(6), &part).1, Mark::Cut { shard, part }),
            (marks::view_record(&View::default()).1, Mark::View(View::default())),
            (
                marks::trim_record(shard, Gsn(41), &base).1,
                Mark::Trim { shard, trim: Gsn(41), base: base.clone() },
            ),
            (marks::lane_record(LANE, 12, 0).1, Mark::Lane { lane: LANE, start: Lsn(12) }),
            (marks::mend_record(&placed(9, 2)).1, Mark::Batch(placed(9, 2))),
            (marks::end_record(LANE, 11, 5, Incarnation(2)).1, Mark::End { lane: LANE, len: Lsn(11) }),
            (marks::forget_record(shard).1, Mark::Forget { shard }),
        ];
        for (record, want) in all {
            let mut entry = entry(record);
            let mark = Mark::read(&entry).unwrap();
            assert_eq!((mark.shard(), &mark), (want.shard(), &want));
            entry.kind = 99;
            assert!(Mark::read(&entry).unwrap_err().contains("kind 99"));
        }
        let mut other = entry(marks::batch_record(&placed(9, 2)).1);
        other.key2 = 10;
        assert!(Mark::read(&other).is_err(), "a batch elsewhere than its record says");
    }

    #[test]
    fn lanes_of_shards_that_are_gone_from_the_view_do_not_count() {
        let shard =
            |id| ShardView { id: ShardId(id), replicas: vec![], state: ShardState::Live, rebuild: None };
        let view = |number, ids: &[u32]| {
            Mark::View(View { number: ViewNumber(number), shards: ids.iter().copied().map(shard).collect() })
        };
        let mut lanes = Lanes::default();
        lanes.take(&Mark::Batch(placed(4, 2)));
        let missing = |lanes: &Lanes| lanes.missing().flat_map(|(_, m)| m).flatten().collect::<Vec<u64>>();
        assert_eq!(missing(&lanes), [0, 1, 2, 3], "as long as no view is known");
        lanes.take(&view(2, &[3, 4]));
        assert_eq!(missing(&lanes), [0, 1, 2, 3]);
        lanes.take(&view(3, &[4]));
        assert_eq!((missing(&lanes), lanes.spans().count()), (vec![], 0));
        lanes.take(&view(1, &[3]));
        assert_eq!(lanes.spans().count(), 0, "an older view is no news");
    }

    #[test]
    fn what_a_checkpoint_says_a_lane_has_and_no_batch_shows_is_missing() {
        let mut lanes = Lanes::default();
        lanes.take(&Mark::Batch(placed(10, 5)));
        let (view, shards) = (ViewNumber(1), BTreeSet::from([ShardId(3)]));
        lanes.checkpoint(&CheckpointSummary { view, shards, lanes: vec![(LANE, 10..20)], writers: 0 });
        let missing: Vec<u64> = lanes.missing().flat_map(|(_, m)| m).flatten().collect();
        assert_eq!(missing, [15, 16, 17, 18, 19]);
        lanes.take(&Mark::Batch(placed(15, 5)));
        lanes.take(&Mark::Batch(placed(20, 1)));
        assert_eq!(lanes.missing().collect::<Vec<_>>(), [(LANE, vec![])]);
        assert_eq!(lanes.spans().collect::<Vec<_>>(), [(LANE, 10..21)]);
    }

    /// A lane that lost its end has another one from then on, whatever was read of it before.
    #[test]
    fn a_lane_ends_where_a_start_said_so() {
        let end = |len| Mark::End { lane: LANE, len: Lsn(len) };
        let missing = |lanes: &Lanes| lanes.missing().flat_map(|(_, m)| m).flatten().collect::<Vec<u64>>();
        let mut lanes = Lanes::default();
        lanes.take(&Mark::Batch(placed(0, 4)));
        lanes.take(&Mark::Batch(placed(6, 2)));
        assert_eq!(missing(&lanes), [4, 5]);
        lanes.take(&end(4));
        assert_eq!((missing(&lanes), lanes.spans().next()), (vec![], Some((LANE, 0..4))));
        lanes.take(&Mark::Batch(placed(4, 1)));
        lanes.take(&end(7));
        assert_eq!(missing(&lanes), [5, 6], "it had them, and has them no more");
        lanes.take(&Mark::Batch(placed(5, 2)));
        assert_eq!((missing(&lanes), lanes.spans().next()), (vec![], Some((LANE, 0..7))));
    }

    proptest! {
        /// In whatever order batches lie, what is missing is what no batch has.
        #[test]
        fn what_is_missing_is_what_was_not_taken(
            there in prop::collection::vec(any::<bool>(), 1..40), start in 0u64..50, seed in any::<u64>(),
        ) {
            let mut taken: Vec<u64> = (0u64..).zip(&there).filter(|(_, t)| **t).map(|(i, _)| i).collect();
            let last = taken.last().copied();
            let mut rng = zoolog_core::rng::Rng::new(seed, "order");
            for i in (1..taken.len()).rev() {
                taken.swap(i, rng.below(i as u64 + 1) as usize);
            }
            let mut lanes = Lanes::default();
            // Batches of two records, each beginning at an even LSN.
            taken.iter().for_each(|i| lanes.take(&Mark::Batch(placed(2 * i, 2))));
            lanes.take(&Mark::Lane { lane: LANE, start: Lsn(start) });
            let missing: Vec<u64> = lanes.missing().flat_map(|(_, m)| m).flatten().collect();
            let want = last.map_or(Vec::new(), |last| {
                (start..2 * last).filter(|lsn| !there[(lsn / 2) as usize]).collect()
            });
            prop_assert_eq!(missing, want);
        }
    }
}
