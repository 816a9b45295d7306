//! Where are a lane's batches? The newest in memory, the durable ones in the log, found by LSN; and what of them
//! was durable once and can't be read any more.

use crate::loads::Piece;
use crate::sizes::Sizes;
use std::collections::{BTreeMap, VecDeque};
use zoolog_core::batch::PlacedBatch;
use zoolog_core::wal::WalPos;
use zoolog_core::{Incarnation, LaneId, Lsn};

/// A durable batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its first LSN.
    pub first_lsn: u64,
    /// Its records.
    pub count: u32,
    /// Where it lies.
    pub pos: WalPos,
}

impl Entry {
    /// First LSN behind it.
    pub fn end(&self) -> u64 {
        self.first_lsn + u64::from(self.count)
    }
}

/// A batch found by an LSN in it.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Its first LSN.
    pub first_lsn: u64,
    /// First LSN behind it.
    pub end: u64,
    /// Its bytes, placement included, or a little more.
    pub bytes: usize,
    /// The batch, or where to load it from.
    pub piece: Piece,
}

/// One replica's copy of a lane. Lengths count records; committed <= durable <= accepted unless the copy
/// is damaged.
#[derive(Debug)]
pub(crate) struct Lane {
    /// Which.
    pub id: LaneId,
    /// Taken, durable or not.
    pub accepted: u64,
    /// Held durably here.
    pub durable: u64,
    /// Ordered, as far as this replica knows.
    pub committed: u64,
    /// Checksum of the last accepted placement, 0 if there is none.
    pub last: u32,
    /// Incarnation in the last accepted placement.
    pub placed_by: Incarnation,
    /// Records that were trimmed: what is held begins there.
    pub start: u64,
    /// The lane ends there, for good.
    end: Option<u64>,
    /// The durable batches from `start` on, by LSN. Damage may have left holes.
    index: VecDeque<Entry>,
    /// How many bytes of them lie behind which LSN.
    sizes: Sizes,
    /// What was durable and can't be read any more, from which LSN to which: holes of the index, and entries whose
    /// copy is damaged. Ranges don't touch.
    lost: BTreeMap<u64, u64>,
    /// Whether mended copies lie behind what follows them: positions don't ascend with LSNs then.
    disordered: bool,
    /// The newest batches, contiguous up to `accepted`.
    cache: VecDeque<PlacedBatch>,
    cached_bytes: usize,
    cache_bytes_max: usize,
}

impl Lane {
    /// An empty lane that keeps `cache_bytes_max` bytes of committed batches in memory.
    pub fn new(id: LaneId, cache_bytes_max: usize) -> Self {
        Self {
            id,
            accepted: 0,
            durable: 0,
            committed: 0,
            last: 0,
            placed_by: Incarnation(0),
            start: 0,
            end: None,
            index: VecDeque::new(),
            sizes: Sizes::default(),
            lost: BTreeMap::new(),
            disordered: false,
            cache: VecDeque::new(),
            cached_bytes: 0,
            cache_bytes_max,
        }
    }

    /// Why `placed` can't be the lane's next batch, if it can't.
    pub fn refusal(&self, placed: &PlacedBatch) -> Option<String> {
        let p = &placed.placement;
        if p.lane != self.id {
            return Some(format!("a batch of lane {} in lane {}", p.lane, self.id));
        }
        if p.first_lsn.0 != self.accepted {
            return Some(format!(
                "lane {} has {} records, the batch starts at {}",
                self.id, self.accepted, p.first_lsn
            ));
        }
        if p.prev != self.last || p.incarnation < self.placed_by {
            return Some(format!(
                "lane {} at {}: behind {:#010x} of incarnation {}, the batch says {:#010x} of {}",
                self.id, self.accepted, self.last, self.placed_by, p.prev, p.incarnation
            ));
        }
        None
    }

    /// Takes the next batch, which the caller checked or placed; it has yet to become durable.
    pub fn accept(&mut self, placed: PlacedBatch) {
        if let Some(why) = self.refusal(&placed) {
            panic!("a batch was accepted that doesn't fit: {why}");
        }
        self.accepted = placed.end_lsn().0;
        self.last = placed.placement.crc;
        self.placed_by = placed.placement.incarnation;
        self.remember(placed);
    }

    fn remember(&mut self, placed: PlacedBatch) {
        self.cached_bytes += placed.encoded_len();
        self.cache.push_back(placed);
        self.evict();
    }

    /// Forgets the oldest cached batches beyond the bound, but none that isn't durable and committed: those
    /// may have to be sent again.
    pub fn evict(&mut self) {
        let settled = self.committed.min(self.durable);
        while self.cached_bytes > self.cache_bytes_max
            && self.cache.front().is_some_and(|b| b.end_lsn().0 <= settled)
        {
            let gone = self.cache.pop_front().expect("there is a front");
            self.cached_bytes -= gone.encoded_len();
        }
    }

    /// The oldest batch that wasn't durable is now, at `pos`.
    pub fn made_durable(&mut self, first_lsn: u64, count: u32, pos: WalPos) {
        assert!(
            first_lsn == self.durable && first_lsn + u64::from(count) <= self.accepted,
            "lane {}: {count} records at {first_lsn} became durable, known durable are {}, accepted {}",
            self.id,
            self.durable,
            self.accepted
        );
        self.index.push_back(Entry { first_lsn, count, pos });
        self.durable += u64::from(count);
        self.sizes.add(self.durable, u64::from(pos.len));
        self.evict();
    }

    /// Takes a batch that recovery found in the log, in the order of LSNs; `placed` if its bytes are known.
    /// False if it is known already.
    pub fn recovered(&mut self, entry: Entry, placed: Option<PlacedBatch>) -> bool {
        if entry.first_lsn < self.durable {
            return false;
        }
        if entry.first_lsn > self.durable || placed.is_none() {
            self.cache.clear();
            self.cached_bytes = 0;
        }
        self.lose(self.durable, entry.first_lsn);
        self.index.push_back(entry);
        self.sizes.add(entry.end(), u64::from(entry.pos.len));
        (self.durable, self.accepted) = (entry.end(), entry.end());
        if let Some(placed) = placed {
            self.last = placed.placement.crc;
            self.placed_by = placed.placement.incarnation;
            self.remember(placed);
        }
        true
    }

    /// States the length and last placement that a checkpoint gives, or the mark of a start: entries that end before
    /// it are lost, those behind it were lost by then, and are not of the lane any more.
    pub fn recovered_len(&mut self, len: u64, last: u32, placed_by: Incarnation) {
        if len < self.start {
            return;
        }
        self.lose(self.durable, len);
        self.found(len, u64::MAX);
        self.index.truncate(self.index.partition_point(|e| e.end() <= len));
        self.sizes.cut_back(len);
        (self.durable, self.accepted) = (len, len);
        (self.last, self.placed_by) = (last, placed_by);
        if self.cache.back().is_some_and(|b| b.end_lsn().0 != len) {
            self.cache.clear();
            self.cached_bytes = 0;
        }
    }

    /// An empty lane begins at `start`: what lies before it was trimmed.
    pub fn begin_at(&mut self, start: u64) {
        assert!(self.accepted == 0, "lane {} of {} records begins at {start}", self.id, self.accepted);
        (self.start, self.accepted, self.durable) = (start, start, start);
    }

    /// The lane ends at `end`, where a batch ends: what lies beyond is forgotten, whatever is still on its way to the
    /// disk.
    pub fn end_at(&mut self, end: u64) {
        assert!(self.end.is_none_or(|e| e == end), "lane {}: ends at {end}, after {:?}", self.id, self.end);
        self.end = Some(end);
        while let Some(last) = self.cache.back().filter(|b| b.end_lsn().0 > end) {
            self.cached_bytes -= last.encoded_len();
            self.last = last.placement.prev;
            self.cache.pop_back();
        }
        while self.index.back().is_some_and(|e| e.end() > end) {
            self.index.pop_back();
        }
        self.found(end, u64::MAX);
        (self.accepted, self.durable) = (self.accepted.min(end), self.durable.min(end));
    }

    /// Whether the lane has ended before that LSN.
    pub fn is_beyond_end(&self, lsn: u64) -> bool {
        self.end.is_some_and(|end| lsn >= end)
    }

    /// Forgets the batches wholly below `start`, where one begins or none is yet. They are committed, durable
    /// and trimmed.
    pub fn trim(&mut self, start: u64) {
        if start <= self.start {
            return;
        }
        assert!(
            start <= self.committed.min(self.durable),
            "lane {}: trimmed to {start}, {} committed, {} durable",
            self.id,
            self.committed,
            self.durable
        );
        self.start = start;
        self.sizes.trim(start);
        let gone = self.index.partition_point(|e| e.end() <= start);
        self.index.drain(..gone);
        self.found(0, start);
        while self.cache.front().is_some_and(|b| b.end_lsn().0 <= start) {
            let gone = self.cache.pop_front().expect("there is a front");
            self.cached_bytes -= gone.encoded_len();
        }
    }

    /// Goes on from `start`, behind a placement with the checksum `last`: what is held here and what was missed
    /// before it is trimmed.
    pub fn adopt(&mut self, start: u64, last: u32) {
        assert!(
            self.durable == self.accepted && start > self.accepted,
            "lane {} of {} records, {} durable, goes on from {start}",
            self.id,
            self.accepted,
            self.durable
        );
        self.index.clear();
        self.sizes.trim(u64::MAX);
        self.lost.clear();
        self.cache.clear();
        self.cached_bytes = 0;
        (self.start, self.accepted, self.durable, self.last) = (start, start, start, last);
    }

    /// The oldest segment that holds a batch of it.
    pub fn oldest_segment(&self) -> Option<u32> {
        if self.disordered {
            return self.index.iter().map(|e| e.pos.segment).min();
        }
        self.index.front().map(|e| e.pos.segment)
    }

    /// (LSN, committed bytes from there on, or somewhat fewer), ascending by LSN, at few LSNs behind `start`.
    pub fn sizes(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.sizes.points(self.committed)
    }

    /// Changes with [`sizes`](Self::sizes), unless `committed` does.
    pub fn sizes_version(&self) -> u64 {
        self.sizes.version()
    }

    /// Notes that `from..to` can't be read here.
    fn lose(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        let (mut from, mut to) = (from, to);
        let touching: Vec<(u64, u64)> =
            self.lost.range(..=to).rev().take_while(|r| *r.1 >= from).map(|(&f, &t)| (f, t)).collect();
        for (f, t) in touching {
            self.lost.remove(&f);
            (from, to) = (from.min(f), to.max(t));
        }
        self.lost.insert(from, to);
    }

    /// Notes that `from..to` is not lost.
    fn found(&mut self, from: u64, to: u64) {
        let met: Vec<(u64, u64)> =
            self.lost.range(..to).rev().take_while(|r| *r.1 > from).map(|(&f, &t)| (f, t)).collect();
        for (f, t) in met {
            self.lost.remove(&f);
            if f < from {
                self.lost.insert(f, from);
            }
            if t > to {
                self.lost.insert(to, t);
            }
        }
    }

    /// The durable copy of the batch at `first_lsn`, if it is still the one at `pos`, can't be read. Whether that is
    /// news.
    pub fn rotted(&mut self, first_lsn: u64, pos: WalPos) -> bool {
        let Some(e) = self.entry(first_lsn).filter(|e| e.first_lsn == first_lsn && e.pos == pos).copied()
        else {
            return false;
        };
        let news = !self.is_lost(first_lsn);
        self.lose(e.first_lsn, e.end());
        news
    }

    /// A copy of a lost batch is durable at `entry`'s place. One that is not lost any more, or was trimmed, changes
    /// nothing.
    ///
    /// # Errors
    /// A text, when it is not cut as what is known here.
    pub fn mended(&mut self, entry: Entry) -> Result<bool, String> {
        if entry.end() <= self.start || entry.first_lsn >= self.durable {
            return Ok(false);
        }
        let at = self.index.partition_point(|e| e.end() <= entry.first_lsn);
        match self.index.get_mut(at).filter(|e| e.first_lsn < entry.end()) {
            Some(known) if (known.first_lsn, known.count) == (entry.first_lsn, entry.count) => *known = entry,
            Some(known) => {
                return Err(format!(
                    "lane {}: a mended batch of {} at {}, one of {} at {} is known",
                    self.id, entry.count, entry.first_lsn, known.count, known.first_lsn
                ));
            }
            None => self.index.insert(at, entry),
        }
        self.found(entry.first_lsn, entry.end());
        self.disordered = true;
        Ok(true)
    }

    /// Where the durable copy of the batch at `first_lsn` lies, if it isn't known to be lost.
    pub fn lies_at(&self, first_lsn: u64) -> Option<WalPos> {
        let found = self.entry(first_lsn).filter(|e| e.first_lsn == first_lsn && !self.is_lost(first_lsn));
        found.map(|e| e.pos)
    }

    /// The newest segment that holds a batch of it, about.
    pub fn newest_segment(&self) -> Option<u32> {
        self.index.back().map(|e| e.pos.segment)
    }

    /// Why `placed` can't be a batch that is lost here, if it can't: batches are cut otherwise.
    pub fn not_cut_as(&self, placed: &PlacedBatch) -> Option<String> {
        let (first, end) = (placed.placement.first_lsn.0, placed.end_lsn().0);
        let known =
            self.index.get(self.index.partition_point(|e| e.end() <= first)).filter(|e| e.first_lsn < end)?;
        (known.first_lsn != first || known.end() != end).then(|| {
            let (f, e) = (known.first_lsn, known.end());
            format!("lane {}: a batch from {first} to {end}, here it was from {f} to {e}", self.id)
        })
    }

    /// Whether that LSN is known to be lost here.
    pub fn is_lost(&self, lsn: u64) -> bool {
        self.lost.range(..=lsn).next_back().is_some_and(|r| *r.1 > lsn)
    }

    /// What is lost, in order.
    pub fn lost(&self) -> impl Iterator<Item = (u64, u64)> {
        self.lost.iter().map(|(&f, &t)| (f, t))
    }

    /// The durable batches whose copies lie in that segment between these offsets.
    pub fn entries_in(&self, segment: u32, offsets: std::ops::Range<u64>) -> impl Iterator<Item = Entry> {
        let within = move |e: &&Entry| {
            let (start, end) = (u64::from(e.pos.offset), u64::from(e.pos.offset) + 32 + u64::from(e.pos.len));
            e.pos.segment == segment && start < offsets.end && end > offsets.start
        };
        self.index.iter().filter(within).copied()
    }

    /// Durable batches known.
    pub fn batches(&self) -> usize {
        self.index.len()
    }

    /// First LSN that is cached; `accepted` if none is.
    pub fn cache_start(&self) -> u64 {
        self.cache.front().map_or(self.accepted, |b| b.placement.first_lsn.0)
    }

    /// Bytes cached.
    pub fn cached_bytes(&self) -> usize {
        self.cached_bytes
    }

    /// LSN behind the newest cached batch.
    pub fn cache_end(&self) -> Option<u64> {
        self.cache.back().map(|b| b.end_lsn().0)
    }

    /// The cached batches from the one that holds `lsn` on; none if that one isn't cached.
    pub fn cached_from(&self, lsn: u64) -> impl Iterator<Item = &PlacedBatch> {
        let at = if lsn < self.cache_start() {
            self.cache.len()
        } else {
            self.cache.partition_point(|b| b.end_lsn().0 <= lsn)
        };
        self.cache.range(at..)
    }

    /// The batch that holds `lsn`, durable or not. `None` if it is beyond the end, or lost.
    pub fn find(&self, lsn: u64) -> Option<Found> {
        if let Some(b) = self.cached_from(lsn).next() {
            return Some(Found {
                first_lsn: b.placement.first_lsn.0,
                end: b.end_lsn().0,
                bytes: b.encoded_len(),
                piece: Piece::Ready(b.clone()),
            });
        }
        if self.is_lost(lsn) {
            return None;
        }
        let e = self.entry(lsn)?;
        let piece = Piece::At { lane: self.id, first_lsn: Lsn(e.first_lsn), pos: e.pos };
        Some(Found { first_lsn: e.first_lsn, end: e.end(), bytes: e.pos.len as usize, piece })
    }

    fn entry(&self, lsn: u64) -> Option<&Entry> {
        let at = self.index.partition_point(|e| e.end() <= lsn);
        self.index.get(at).filter(|e| e.first_lsn <= lsn)
    }

    /// Whether no durable batch lies on both sides of `lsn`.
    pub fn is_boundary(&self, lsn: u64) -> bool {
        self.entry(lsn).is_none_or(|e| e.first_lsn == lsn)
    }

    /// The batches from `lsn` to `to`, of `bytes_max` bytes unless the first is longer, and at most
    /// `batches_max`; and the LSN behind them. They end before what is lost.
    pub fn pieces(&self, lsn: u64, to: u64, bytes_max: usize, batches_max: usize) -> (Vec<Piece>, u64) {
        let (mut out, mut at, mut bytes) = (Vec::new(), lsn, 0);
        while at < to && out.len() < batches_max {
            let Some(found) = self.find(at).filter(|f| f.first_lsn == at && f.end <= to) else { break };
            if !out.is_empty() && bytes + found.bytes > bytes_max {
                break;
            }
            bytes += found.bytes;
            at = found.end;
            out.push(found.piece);
        }
        (out, at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zoolog_core::batch::{BatchBuilder, BatchKind};
    use zoolog_core::{Epoch, Seq, ShardId, WriterId};

    const LANE: LaneId = LaneId::new(ShardId(1), 0);

    fn next(lane: &Lane, count: u64) -> PlacedBatch {
        let mut b = BatchBuilder::new();
        (0..count).for_each(|i| b.push(&i.to_le_bytes()));
        let batch = b.finish(BatchKind::Data, WriterId(1), Epoch(0), Seq(lane.accepted));
        PlacedBatch::place(LANE, Incarnation(1), Lsn(lane.accepted), lane.last, batch)
    }

    proptest! {
        /// Every accepted LSN is found, in the batch that holds it, wherever rolls and evictions fell
        /// (shared-log defects 1 to 3: records after a roll read one off, or not at all).
        #[test]
        fn every_lsn_is_found_in_its_batch(
            counts in prop::collection::vec(1u64..5, 1..40), durable in 0usize..40, committed in 0usize..40, per_segment in 1u32..6,
        ) {
            let mut lane = Lane::new(LANE, 600);
            let mut starts = Vec::new();
            for &n in &counts {
                starts.push(lane.accepted);
                lane.accept(next(&lane, n));
            }
            for (i, &n) in counts.iter().enumerate().take(durable) {
                let pos = WalPos { segment: i as u32 / per_segment, offset: i as u32 % per_segment, len: 100 };
                if i < committed {
                    lane.committed = starts[i] + n;
                }
                lane.made_durable(starts[i], n as u32, pos);
            }
            for (i, &n) in counts.iter().enumerate() {
                for lsn in starts[i]..starts[i] + n {
                    let found = lane.find(lsn).expect("accepted");
                    prop_assert_eq!((found.first_lsn, found.end), (starts[i], starts[i] + n));
                    if let Piece::At { pos, .. } = found.piece {
                        prop_assert!(i < durable && i < committed, "only settled batches are forgotten");
                        prop_assert_eq!((pos.segment, pos.offset), (i as u32 / per_segment, i as u32 % per_segment));
                    }
                    prop_assert_eq!(lane.is_boundary(lsn), lsn == starts[i] || i >= durable);
                }
            }
            prop_assert!(lane.find(lane.accepted).is_none());
            let (pieces, end) = lane.pieces(0, lane.accepted, usize::MAX, usize::MAX);
            prop_assert_eq!((pieces.len(), end), (counts.len(), lane.accepted));
        }
    }

    proptest! {
        /// What was not trimmed is found as before, what was is not, and the lane goes on.
        #[test]
        fn a_trimmed_lane_finds_the_rest(counts in prop::collection::vec(1u64..5, 1..40), trimmed in 0usize..40, cache in 0usize..900) {
            let mut lane = Lane::new(LANE, cache);
            let mut starts = Vec::new();
            for (i, &n) in counts.iter().enumerate() {
                starts.push(lane.accepted);
                lane.accept(next(&lane, n));
                lane.committed = lane.accepted;
                let pos = WalPos { segment: i as u32 / 4, offset: i as u32, len: 100 };
                lane.made_durable(starts[i], n as u32, pos);
            }
            let start = starts.get(trimmed).copied().unwrap_or(lane.accepted);
            lane.trim(start);
            for lsn in 0..lane.accepted {
                prop_assert_eq!(lane.find(lsn).map(|f| f.first_lsn <= lsn && lsn < f.end), (lsn >= start).then_some(true));
            }
            let first = (trimmed < counts.len()).then_some(trimmed as u32 / 4);
            prop_assert_eq!((lane.oldest_segment(), lane.batches()), (first, counts.len().saturating_sub(trimmed)));
            lane.accept(next(&lane, 2));
            prop_assert!(lane.find(lane.accepted - 1).is_some());
        }
    }

    /// A copy that is far behind goes on from where the others begin.
    #[test]
    fn a_lane_goes_on_from_a_base() {
        let mut lane = Lane::new(LANE, 1 << 20);
        lane.accept(next(&lane, 2));
        lane.made_durable(0, 2, WalPos { segment: 1, offset: 96, len: 100 });
        lane.adopt(40, 77);
        assert!(lane.find(1).is_none() && lane.find(40).is_none());
        assert_eq!(
            (lane.accepted, lane.durable, lane.cached_bytes(), lane.oldest_segment()),
            (40, 40, 0, None)
        );
        lane.accept(next(&lane, 3));
        assert_eq!(lane.find(41).unwrap().first_lsn, 40);
    }

    #[test]
    fn a_batch_that_does_not_follow_is_refused() {
        let mut lane = Lane::new(LANE, 1 << 20);
        let first = next(&lane, 2);
        lane.accept(first.clone());
        assert!(lane.refusal(&first).unwrap().contains("starts at 0"));
        let mut foreign = next(&lane, 1);
        assert!(lane.refusal(&foreign).is_none());
        foreign.placement.prev ^= 1;
        assert!(lane.refusal(&foreign).unwrap().contains("behind"));
    }
}
