//! What did the log hold? Lanes, parts and writers' windows, from the indexes of sealed segments, the
//! checkpoint, and the records behind it, in this order.

use super::gap::Gap;
use super::later::Later;
use super::trim::Places;
use crate::config::Bounds;
use crate::lane::{Entry, Lane};
use crate::marks::{self, Checkpoint, LaneMark};
use crate::writers::{Head, Writers};
use std::collections::BTreeMap;
use zoolog_core::batch::PlacedBatch;
use zoolog_core::cut::{ShardBase, ShardHistory};
use zoolog_core::view::View;
use zoolog_core::wal::{Recovered, WalEntry};
use zoolog_core::{CutNumber, Gsn, Incarnation, LaneId, Lsn, ShardId};

/// What was found of a shard's parts.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    /// The parts, up to the first that is missing.
    pub history: ShardHistory,
    /// What is missing.
    pub gap: Gap,
    /// Why they can't be trusted, if so.
    pub broken: Option<String>,
    /// Where their marks lie.
    pub places: Places,
}

/// What recovery found and no replica has claimed yet.
#[derive(Debug, Default)]
pub(crate) struct Images {
    /// The newest view.
    pub view: Option<View>,
    /// Lanes, with the newest incarnation that had opened a stream of it to us.
    pub lanes: BTreeMap<LaneId, (Lane, Incarnation)>,
    /// Parts.
    pub parts: BTreeMap<ShardId, Parts>,
    /// Where shards begin that were trimmed, and the trim point then.
    pub trims: BTreeMap<ShardId, (Gsn, ShardBase)>,
    /// Windows of the writers of each lane.
    pub writers: BTreeMap<LaneId, Writers>,
    /// Batches that are behind a lost one of their lane, and not in the windows yet.
    pub later: BTreeMap<LaneId, Later>,
    /// Whether the log lost something that was durable.
    pub damaged: bool,
}

/// No honest LSN gets here.
const LSN_MAX: u64 = 1 << 56;

impl Images {
    /// Reads what was recovered.
    ///
    /// # Errors
    /// A text, if something is not what this build would have written.
    pub fn read(recovered: &Recovered, bounds: &Bounds) -> Result<Self, String> {
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
        let damaged = !recovered.damage.is_empty();
        let (checkpoint, sealed, tail) = without_forgotten(checkpoint, recovered);
        let mut images = Self { view: checkpoint.view.clone(), damaged, ..Self::default() };
        for entry in tail.iter().filter(|e| e.kind == marks::VIEW) {
            let data = entry.data.as_ref().ok_or("a view without data")?;
            images.view = Some(marks::decode_view(data).ok_or("a malformed view")?);
        }
        images.begin(&checkpoint, &tail, bounds)?;
        for entry in sealed {
            images.take(entry, bounds, None)?;
        }
        let mut stated = BTreeMap::new();
        for m in checkpoint.lanes {
            stated.insert(m.lane, m.len);
            images.later.entry(m.lane).or_default().begin_at(m.len);
            let (lane, fence) = images.lane(m.lane, bounds);
            lane.recovered_len(m.len, m.last, m.placed_by);
            *fence = m.fence;
        }
        for (shard, part) in &checkpoint.parts {
            images.parts.entry(*shard).or_default().gap.expect(part.number);
        }
        for (lane, windows) in checkpoint.writers {
            images.windows(lane, bounds).restore(windows);
        }
        for lane in checkpoint.forgot {
            images.windows(lane, bounds).missed_some();
        }
        for entry in tail {
            images.take(entry, bounds, Some(&stated))?;
        }
        for (shard, part) in &checkpoint.parts {
            images.parts.entry(*shard).or_default().compare(part);
        }
        Ok(images)
    }

    /// Before any entry: where shards and lanes begin, what lies before that being trimmed and its segments gone,
    /// or to be ignored. That is the newest trim mark's place, but at most the checkpoint's: the marks and
    /// batches behind the checkpoint are all there, and writers' windows need their positions.
    fn begin(&mut self, checkpoint: &Checkpoint, tail: &[&WalEntry], bounds: &Bounds) -> Result<(), String> {
        for (shard, trim, base) in &checkpoint.trims {
            self.trims.insert(*shard, (*trim, base.clone()));
        }
        for entry in tail.iter().filter(|e| e.kind == marks::TRIM) {
            let base =
                entry.data.as_ref().and_then(|d| marks::decode_base(d)).ok_or("a malformed trim mark")?;
            let shard = shard_of(entry)?;
            let sane = [base.number.0, base.end.0].iter().chain(&base.lens).all(|n| *n < LSN_MAX);
            if !sane {
                return Err(format!("shard {shard} begins at {base:?}"));
            }
            if self.trims.get(&shard).is_none_or(|(_, known)| known.number <= base.number) {
                self.trims.insert(shard, (Gsn(entry.key2), base));
            }
        }
        for (shard, newest) in &checkpoint.parts {
            let Some((_, base)) = self.trims.get(shard) else { continue };
            let base = if base.number <= newest.number { base } else { newest };
            let history = ShardHistory::behind(base.clone());
            self.parts.insert(*shard, Parts { history, ..Parts::default() });
        }
        for m in &checkpoint.lanes {
            let parts = self.parts.get(&m.lane.shard());
            let start = parts.map_or(0, |p| p.history.start(m.lane.index())).min(m.len).max(m.start);
            if start >= LSN_MAX || self.lanes.contains_key(&m.lane) {
                return Err(format!("lane {} begins at {start}, or twice", m.lane));
            }
            self.lane(m.lane, bounds).0.begin_at(start);
        }
        Ok(())
    }

    fn lane(&mut self, id: LaneId, bounds: &Bounds) -> &mut (Lane, Incarnation) {
        self.lanes.entry(id).or_insert_with(|| (Lane::new(id, bounds.cache_bytes), Incarnation(0)))
    }

    fn windows(&mut self, id: LaneId, bounds: &Bounds) -> &mut Writers {
        self.writers.entry(id).or_insert_with(|| Writers::new(bounds.writers, bounds.remembered))
    }

    /// Takes one entry; `behind` are the checkpoint's lengths, for entries behind the checkpoint.
    fn take(&mut self, entry: &WalEntry, bounds: &Bounds, behind: Behind<'_>) -> Result<(), String> {
        match entry.kind {
            marks::BATCH => self.take_batch(entry, bounds, behind),
            marks::CUT => self.take_cut(entry),
            marks::TRIM if behind.is_some() && !self.damaged => self.take_trim(entry),
            marks::VIEW | marks::TRIM | marks::FORGET => Ok(()),
            marks::MEND => self.take_mended(entry, bounds, behind),
            marks::END => self.take_end(entry, bounds, behind.is_some()),
            // What it says is in the checkpoint, unless it comes behind that.
            marks::LANE if behind.is_some() => {
                let id = LaneId(entry.key1);
                let (lane, _) = self.lane(id, bounds);
                if entry.key2 > lane.accepted && entry.key2 < LSN_MAX {
                    lane.adopt(entry.key2, entry.aux);
                    self.windows(id, bounds).missed_some();
                    self.later.entry(id).or_default().skip_to(entry.key2);
                }
                Ok(())
            }
            marks::LANE => Ok(()),
            other => Err(format!("a record of kind {other} in segment {}", entry.pos.segment)),
        }
    }

    fn take_batch(&mut self, entry: &WalEntry, bounds: &Bounds, behind: Behind<'_>) -> Result<(), String> {
        let placed = checked(entry, behind.is_some())?;
        let id = LaneId(entry.key1);
        let at = Entry { first_lsn: entry.key2, count: entry.aux, pos: entry.pos };
        let (lane, _) = self.lane(id, bounds);
        if entry.key2 > lane.durable {
            tracing::warn!(lane = %id, from = lane.durable, to = entry.key2, "records are lost here");
        }
        if lane.recovered(at, placed.clone()) {
            self.note_written(placed, bounds, behind);
        }
        Ok(())
    }

    /// A copy of a batch whose first one was damaged.
    fn take_mended(&mut self, entry: &WalEntry, bounds: &Bounds, behind: Behind<'_>) -> Result<(), String> {
        let placed = checked(entry, behind.is_some())?;
        let at = Entry { first_lsn: entry.key2, count: entry.aux, pos: entry.pos };
        let (lane, _) = self.lane(LaneId(entry.key1), bounds);
        let was_lost = lane.is_lost(at.first_lsn);
        if lane.mended(at)? && was_lost {
            self.note_written(placed, bounds, behind);
        }
        Ok(())
    }

    /// Where a lane ended when a start found damage.
    fn take_end(&mut self, entry: &WalEntry, bounds: &Bounds, is_behind: bool) -> Result<(), String> {
        let (id, len) = (LaneId(entry.key1), entry.key2);
        let placed_by = entry.data.as_ref().and_then(|d| d.first_chunk::<8>());
        let placed_by = placed_by.filter(|_| len < LSN_MAX).ok_or(format!("a malformed end of lane {id}"))?;
        let (lane, _) = self.lane(id, bounds);
        lane.recovered_len(len, entry.aux, Incarnation(u64::from_le_bytes(*placed_by)));
        if is_behind {
            self.later.entry(id).or_default().cut_back(len);
            if let Some(windows) = self.writers.get_mut(&id) {
                windows.forget_from(len);
            }
        }
        Ok(())
    }

    /// A batch behind the checkpoint goes into its writer's window: those before it first. What is pending of it is
    /// counted once it is known which lane is our own.
    fn note_written(&mut self, placed: Option<PlacedBatch>, bounds: &Bounds, behind: Behind<'_>) {
        let (Some(placed), Some(stated)) = (placed, behind) else { return };
        let (id, lsn) = (placed.placement.lane, placed.placement.first_lsn.0);
        if lsn < stated.get(&id).copied().unwrap_or(0) {
            return;
        }
        let later = self.later.entry(id).or_default();
        later.put(lsn, Head::of(&placed.batch));
        let windows = self.writers.entry(id);
        later.drain(windows.or_insert_with(|| Writers::new(bounds.writers, bounds.remembered)), 0);
    }

    fn take_cut(&mut self, entry: &WalEntry) -> Result<(), String> {
        let shard = shard_of(entry)?;
        let part = entry.data.as_ref().and_then(|d| marks::decode_part(d)).ok_or("a malformed cut mark")?;
        let parts = self.parts.entry(shard).or_default();
        let last = parts.history.number();
        if parts.broken.is_some() || part.number <= last {
            return Ok(());
        }
        parts.places.note(part.number, entry.pos.segment);
        parts.gap.expect(part.number);
        // A part whose predecessor is lost would give wrong GSNs to what that one had added.
        if marks::low(last) != entry.aux {
            parts.gap.put(entry.aux, part);
            return Ok(());
        }
        let pushed = parts.history.push(part).and_then(|()| parts.gap.rejoin(&mut parts.history));
        if let Err(e) = pushed {
            parts.broken = Some(e.to_string());
        }
        Ok(())
    }

    /// A copy in the making goes on behind what was trimmed before it came here: parts before that never come. In any
    /// other replica, of a log that lost nothing, those are here already.
    fn take_trim(&mut self, entry: &WalEntry) -> Result<(), String> {
        let base = entry.data.as_ref().and_then(|d| marks::decode_base(d)).ok_or("a malformed trim mark")?;
        let parts = self.parts.entry(shard_of(entry)?).or_default();
        if parts.broken.is_none() && parts.history.number() < base.number {
            (parts.history, parts.places) = (ShardHistory::behind(base), Places::default());
        }
        Ok(())
    }

    /// Whether something is missing of what the log once held of that shard.
    pub fn lacks(&self, shard: ShardId) -> bool {
        let of = || self.lanes.iter().filter(move |(lane, _)| lane.shard() == shard);
        let parts = self.parts.get(&shard);
        (self.damaged && (of().next().is_some() || parts.is_some()))
            || of().any(|(_, (lane, _))| lane.lost().next().is_some())
            || parts.is_some_and(|p| p.broken.is_some() || p.gap.is_open(&p.history))
    }

    /// Whether the windows of lanes that nobody claimed lack batches.
    pub fn lacks_windows(&self) -> bool {
        self.later.values().any(Later::is_waiting)
    }

    /// Forgets what is of other shards than those `kept`; whether there was anything.
    pub fn retain(&mut self, kept: impl Fn(ShardId) -> bool) -> bool {
        let before = self.lanes.len() + self.parts.len();
        self.lanes.retain(|lane, _| kept(lane.shard()));
        self.writers.retain(|lane, _| kept(lane.shard()));
        self.parts.retain(|shard, _| kept(*shard));
        self.trims.retain(|shard, _| kept(*shard));
        self.later.retain(|lane, _| kept(lane.shard()));
        self.lanes.len() + self.parts.len() < before
    }

    /// The shards of which something is here that nobody claimed.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.lanes.keys().map(|l| l.shard()).chain(self.parts.keys().copied())
    }

    /// The oldest segment with something that nobody claimed.
    pub fn oldest_segment(&self) -> Option<u32> {
        let lanes = self.lanes.values().filter_map(|(lane, _)| lane.oldest_segment());
        lanes.chain(self.parts.values().filter_map(|p| p.places.oldest_segment())).min()
    }

    /// Adds what nobody claimed to a checkpoint, so that it isn't forgotten.
    pub fn add_to(&self, checkpoint: &mut Checkpoint) {
        checkpoint.lanes.extend(self.lanes.values().map(|(lane, fence)| lane_mark(lane, *fence)));
        let last =
            |(&shard, p): (&ShardId, &Parts)| Some((shard, newest_of(&p.history, CutNumber(u64::MAX))?));
        checkpoint.parts.extend(self.parts.iter().filter_map(last));
        checkpoint.trims.extend(self.trims.iter().map(|(&shard, (trim, base))| (shard, *trim, base.clone())));
        self.writers.iter().for_each(|(&lane, w)| add_writers(checkpoint, lane, w, |_| None));
    }
}

impl Parts {
    /// Compares with what a checkpoint says of a part, if that is here.
    fn compare(&mut self, stated: &ShardBase) {
        let held = newest_of(&self.history, stated.number).filter(|b| b.number == stated.number);
        let is_older = self.history.base().is_some_and(|b| b.number > stated.number);
        let missing = self.history.number() < stated.number;
        if self.broken.is_none() && !missing && !is_older && held.as_ref() != Some(stated) {
            self.broken = Some(format!("its cut marks contradict the checkpoint's part {}", stated.number));
        }
    }
}

/// The batch that an entry is, if its data is at hand; checked to be what the entry says.
fn checked(entry: &WalEntry, with_data: bool) -> Result<Option<PlacedBatch>, String> {
    let id = LaneId(entry.key1);
    if entry.key2 >= LSN_MAX || entry.aux == 0 {
        return Err(format!("lane {id}: {} records at {}", entry.aux, entry.key2));
    }
    let Some(data) = entry.data.as_ref().filter(|_| with_data) else { return Ok(None) };
    let placed = PlacedBatch::check_next(&mut data.clone()).map_err(|e| format!("lane {id}: {e}"))?;
    let p = &placed.placement;
    if (p.lane, p.first_lsn.0, placed.batch.count()) != (id, entry.key2, entry.aux) {
        return Err(format!("lane {id} at {}: the batch is of {} at {}", entry.key2, p.lane, p.first_lsn));
    }
    Ok(Some(placed))
}

/// A log without what was forgotten: the checkpoint, the entries before and those behind it.
fn without_forgotten(
    mut checkpoint: Checkpoint,
    recovered: &Recovered,
) -> (Checkpoint, Vec<&WalEntry>, Vec<&WalEntry>) {
    // Of each shard, the place of the last mark.
    let marks_in = |entries: &[WalEntry]| -> BTreeMap<u64, usize> {
        let marks = entries.iter().enumerate().filter(|(_, e)| e.kind == marks::FORGET);
        marks.map(|(i, e)| (e.key1, i)).collect()
    };
    let (before, behind) = (marks_in(&recovered.sealed), marks_in(&recovered.tail));
    let gone = |shard: ShardId| behind.contains_key(&u64::from(shard.0));
    checkpoint.lanes.retain(|m| !gone(m.lane.shard()));
    checkpoint.parts.retain(|p| !gone(p.0));
    checkpoint.trims.retain(|t| !gone(t.0));
    checkpoint.writers.retain(|w| !gone(w.0.shard()));
    checkpoint.forgot.retain(|lane| !gone(lane.shard()));
    let shard = |e: &WalEntry| match e.kind {
        marks::CUT | marks::TRIM | marks::FORGET => e.key1,
        marks::VIEW => u64::MAX,
        _ => u64::from(LaneId(e.key1).shard().0),
    };
    let counts = |(i, e): &(usize, &WalEntry)| before.get(&shard(e)).is_none_or(|at| *i > *at);
    let sealed = recovered.sealed.iter().enumerate().filter(counts);
    let sealed = sealed.map(|(_, e)| e).filter(|e| !behind.contains_key(&shard(e)));
    let counts = |(i, e): &(usize, &WalEntry)| behind.get(&shard(e)).is_none_or(|at| *i > *at);
    let tail = recovered.tail.iter().enumerate().filter(counts).map(|(_, e)| e);
    (checkpoint, sealed.collect(), tail.collect())
}

/// The lengths that the checkpoint states, for entries behind it.
type Behind<'a> = Option<&'a BTreeMap<LaneId, u64>>;

fn lane_mark(lane: &Lane, fence: Incarnation) -> LaneMark {
    let (id, start, len) = (lane.id, lane.start, lane.accepted);
    LaneMark { lane: id, start, len, last: lane.last, placed_by: lane.placed_by, fence }
}

fn add_writers(
    checkpoint: &mut Checkpoint,
    lane: LaneId,
    writers: &Writers,
    gsn: impl Fn(u64) -> Option<Gsn>,
) {
    checkpoint.writers.push((lane, writers.marks(gsn)));
    if writers.has_forgotten() {
        checkpoint.forgot.push(lane);
    }
}

fn shard_of(entry: &WalEntry) -> Result<ShardId, String> {
    u32::try_from(entry.key1).map(ShardId).map_err(|_| format!("a mark of shard {}", entry.key1))
}

/// The newest part up to that of cut `upto`, held or trimmed, as what lies behind it would begin with.
fn newest_of(history: &ShardHistory, upto: CutNumber) -> Option<ShardBase> {
    let parts = history.parts();
    match parts.partition_point(|p| p.number <= upto).checked_sub(1) {
        Some(i) => {
            let p = &parts[i];
            Some(ShardBase { number: p.number, end: p.base.plus(history.added(i)), lens: p.lens.clone() })
        }
        None => history.base().cloned(),
    }
}

impl super::Replica {
    /// Adds this replica to a checkpoint.
    pub fn add_to(&self, checkpoint: &mut Checkpoint) {
        for (lane, inbound) in self.lanes.iter().zip(&self.inbound) {
            checkpoint.lanes.push(lane_mark(lane, inbound.newest.0));
        }
        if let Some(newest) = newest_of(&self.history, self.emitted) {
            checkpoint.parts.push((self.shard, newest));
        }
        if let Some(base) = self.history.base() {
            checkpoint.trims.push((self.shard, self.trim, base.clone()));
        }
        for (lane, writers) in self.lanes.iter().zip(&self.writers) {
            let gsn = |lsn| self.history.gsn(self.shard, lane.id.index(), Lsn(lsn));
            add_writers(checkpoint, lane.id, writers, gsn);
        }
    }
}
