//! What did this log hold? Goes through its segments with the [`table`](super::table) in hand.
//!
//! From the newest segment that opens with a good checkpoint it reads every block to the end of the log;
//! of older segments only their indexes.

use super::block::{BlockKind, Header, Opened, UNIT, VERSION};
use super::index::{self, IndexBuilder};
use super::scan::{Found, Good, Reader, predecessor, relation};
use super::table::{Case, Later, There, Verdict, judge};
use super::writer::{Current, Resume};
use super::{Damage, OnDamage, Wal, WalConfig, WalEntry, WalError, WalPos, WalSource};
use bytes::Bytes;
use std::collections::BTreeMap;

/// What a log held when it was opened.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The number of this open, greater than any that the log tells of; perhaps not greater than any before
    /// ([`Wal::take_number`]). It is durable once the log's first group is.
    pub incarnation: u64,
    /// The newest readable checkpoint; `None` if there was none yet.
    pub checkpoint: Option<Bytes>,
    /// The segment that opens with it.
    pub checkpoint_in: Option<u32>,
    /// The records of segments older than that checkpoint, in order.
    pub sealed: Vec<WalEntry>,
    /// The records behind that checkpoint, with their data, in order.
    pub tail: Vec<WalEntry>,
    /// What can't be read any more; empty under [`OnDamage::Refuse`].
    pub damage: Vec<Damage>,
    /// Where and how the log ended: a case whose verdict is clean or torn.
    pub end: (u32, u32, Case),
}

impl Recovered {
    /// What a node has that never wrote: nothing.
    pub fn empty(incarnation: u64) -> Self {
        let end = (1, 0, Case::H);
        let (sealed, tail, damage) = (Vec::new(), Vec::new(), Vec::new());
        Self { incarnation, checkpoint: None, checkpoint_in: None, sealed, tail, damage, end }
    }
}

/// Reads a log and opens it. An empty source is a new log.
///
/// # Errors
/// When it can't be used as it is; each error names the cure. Nothing is written in any case.
pub fn recover(source: &dyn WalSource, cfg: &WalConfig) -> Result<(Recovered, Wal), WalError> {
    let reader = Reader::new(source, cfg)?;
    let Some((&first, &last)) = reader.sizes.keys().next().zip(reader.sizes.keys().next_back()) else {
        let at = fresh(1, None);
        return Ok((Recovered::empty(1), Wal::new(cfg.clone(), at)));
    };
    refuse_foreign(&reader, cfg)?;
    let base = newest_checkpoint(&reader, last)?;
    let floor = floor(&reader, base.as_ref())?;
    reader.check_dense(floor)?;
    let leftovers: Vec<u32> = reader.sizes.range(..floor).map(|(n, _)| *n).collect();
    let first = first.max(floor);
    if base.is_none() && first > 1 {
        return Err(WalError::NoCheckpoint { first });
    }
    let mut walk = Walk::new(&reader, cfg);
    let start = base.as_ref().map_or(first, |b| b.header.segment);
    for segment in first..start {
        walk.older(segment)?;
    }
    let sealed = std::mem::take(&mut walk.entries);
    let checkpoint = base.as_ref().map(|b| b.records[0].data(&b.bytes));
    walk.prev = base.as_ref().map(|b| predecessor(&b.header));
    let case = walk.go_from(start, u32::MAX, true)?;
    let (incarnation, end) = (walk.newest + 1, (walk.segment, walk.offset, case));
    let checkpoint_in = base.as_ref().map(|b| b.header.segment);
    let mut at = walk.resume(first, checkpoint_in)?;
    // Also if no checkpoint says so that can be read: the next one will.
    (at.stated, at.leftovers) = (floor, leftovers);
    at.keeps = match checkpoint_in {
        Some(newest) => keeps(&reader, newest)?,
        None => 0,
    };
    let (tail, damage) = (walk.entries, walk.damage);
    let recovered = Recovered { incarnation, checkpoint, checkpoint_in, sealed, tail, damage, end };
    Ok((recovered, Wal::new(cfg.clone(), at)))
}

/// The first segment that must be there. What lies before is not looked at, whatever a release that was cut short has left
/// of it: the checkpoint in use says that it was released; or a newer one did, which can't be read any more. What that
/// said isn't known, so then anything may be missing before the one in use.
pub(super) fn floor(reader: &Reader, base: Option<&Good>) -> Result<u32, WalError> {
    let Some(base) = base else { return Ok(0) };
    let (stated, base) = (stated(base), base.header.segment);
    let is_newest = !reader.lost_opening(base)?;
    Ok(if is_newest { stated } else { stated.max(reader.dense_from(base)) })
}

/// Segments from that one on are kept beside what the newest checkpoint needs, as [`Wal::release`] says.
fn keeps(reader: &Reader, newest: u32) -> Result<u32, WalError> {
    let Some(before) = newest.checked_sub(1).filter(|n| reader.size(*n) > 0) else { return Ok(newest) };
    let is_start = before == 1
        || matches!(reader.at(before, 0)?, Found::Good(g) if g.header.kind == BlockKind::Checkpoint);
    Ok(if is_start { before } else { newest })
}

/// The first segment that a checkpoint says is still needed. What its owner had released when it made that checkpoint
/// is not looked at: a release that was cut short may have left any of it.
pub(super) fn stated(checkpoint: &Good) -> u32 {
    checkpoint.records[0].header.key1.min(checkpoint.header.segment.into()) as u32
}

/// A log that begins with `next`.
fn fresh(next: u32, next_ready: Option<u32>) -> Resume {
    Resume {
        incarnation: 1,
        sequence: 0,
        group: 1,
        synced_through: 0,
        current: None,
        next,
        next_ready,
        oldest: next,
        checkpoint: None,
        keeps: 0,
        stated: 0,
        leftovers: Vec::new(),
        unsynced: Vec::new(),
    }
}

/// Cases B, C, D and S at the start of any file: a directory mixed up, or a build too old.
fn refuse_foreign(reader: &Reader, cfg: &WalConfig) -> Result<(), WalError> {
    for &segment in reader.sizes.keys() {
        foreign_file(reader, segment, cfg)?;
    }
    Ok(())
}

/// As the start of the file shows.
pub(super) fn foreign_file(reader: &Reader, segment: u32, cfg: &WalConfig) -> Result<(), WalError> {
    match reader.at(segment, 0)? {
        // Nothing but a whole file begins with the block that begins another.
        Found::Other(Opened::Elsewhere(found, 0)) => Err(WalError::Misplaced { segment, found }),
        Found::Other(opened) => foreign(opened, segment, 0, cfg),
        Found::Good(_) | Found::Content(_) => Ok(()),
    }
}

fn foreign(opened: Opened, segment: u32, offset: u32, cfg: &WalConfig) -> Result<(), WalError> {
    match opened {
        Opened::Cluster(found) => Err(WalError::Cluster { segment, found, ours: cfg.cluster }),
        Opened::Node(found) => Err(WalError::Node { segment, found, ours: cfg.node }),
        Opened::Newer(found) => Err(WalError::Version { segment, offset, found, ours: VERSION }),
        Opened::Header(_) | Opened::Zero | Opened::Bad | Opened::Elsewhere(..) => Ok(()),
    }
}

/// Case P: the newest segment that opens with a good checkpoint.
pub(super) fn newest_checkpoint(reader: &Reader, last: u32) -> Result<Option<Good>, WalError> {
    for &segment in reader.sizes.range(..=last).rev().map(|(n, _)| n) {
        if let Found::Good(good) = reader.at(segment, 0)?
            && good.header.kind == BlockKind::Checkpoint
        {
            return Ok(Some(good));
        }
    }
    Ok(None)
}

/// What a step came to.
#[derive(Debug)]
pub(super) enum Step {
    /// A block of the log, taken.
    Took(Good),
    /// Something else, passed: the end of a segment, or damage.
    Passed,
    /// The log ends here.
    Ended(Case),
}

/// Goes from block to block.
pub(super) struct Walk<'a> {
    reader: &'a Reader<'a>,
    cfg: &'a WalConfig,
    /// The place.
    pub segment: u32,
    pub offset: u32,
    /// The block before it.
    pub prev: Option<Header>,
    /// Of the blocks taken.
    pub entries: Vec<WalEntry>,
    /// Of the segment it is in.
    index: IndexBuilder,
    /// Whether a checkpoint, or nothing, precedes the records of the segment it is in.
    based: bool,
    pub damage: Vec<Damage>,
    /// Newest incarnation of any block seen, part of the log or not.
    pub newest: u64,
    /// Highest `synced_through` of the log's blocks.
    synced_through: u64,
    /// Last group in each segment.
    groups: BTreeMap<u32, u64>,
}

impl<'a> Walk<'a> {
    pub fn new(reader: &'a Reader<'a>, cfg: &'a WalConfig) -> Self {
        Self {
            reader,
            cfg,
            segment: 0,
            offset: 0,
            prev: None,
            entries: Vec::new(),
            index: IndexBuilder::default(),
            based: false,
            damage: Vec::new(),
            newest: 0,
            synced_through: 0,
            groups: BTreeMap::new(),
        }
    }

    /// The entries of a segment before the checkpoint: from its index, or, case Q, from its blocks.
    fn older(&mut self, segment: u32) -> Result<(), WalError> {
        match self.take_index(segment)? {
            Some(seal) => {
                self.note(&seal);
                self.prev = Some(seal);
            }
            None => {
                if let Found::Good(first) = self.reader.at(segment, 0)? {
                    self.prev = Some(predecessor(&first.header)).filter(|_| first.header.sequence > 0);
                }
                self.go_from(segment, segment, false)?;
                if self.segment == segment {
                    let (offset, why) = (self.offset, "the segment ends early");
                    let bytes = self.reader.size(segment).saturating_sub(offset);
                    self.report(Damage { segment, offset, bytes, why })?;
                    return Ok(());
                }
            }
        }
        let next = match self.reader.at(segment + 1, 0)? {
            Found::Good(Good { header, .. }) | Found::Content(header) => header,
            Found::Other(_) => return Ok(()),
        };
        if relation(self.prev.as_ref(), &next) != There::Follows {
            let (offset, why) = (self.reader.size(segment), "blocks are missing between two segments");
            self.report(Damage { segment, offset, bytes: 0, why })?;
        }
        Ok(())
    }

    /// Takes a segment's entries from its index, if that is good.
    fn take_index(&mut self, segment: u32) -> Result<Option<Header>, WalError> {
        let Some(seal) = self.reader.index(segment)? else { return Ok(None) };
        let entries = seal.records[0].data(&seal.bytes);
        let read = index::read_entries(segment, &entries, &mut self.entries);
        Ok(read.is_ok().then_some(seal.header))
    }

    /// Goes from the start of `segment` until the log ends or leaves `last`. Data of records that their
    /// index doesn't repeat is only kept `with_data`.
    fn go_from(&mut self, segment: u32, last: u32, with_data: bool) -> Result<Case, WalError> {
        self.go_to(segment, 0);
        while self.segment <= last {
            if let Step::Ended(case) = self.step(with_data)? {
                return Ok(case);
            }
        }
        Ok(Case::E)
    }

    /// Judges what is at the place, and goes on as the verdict says.
    pub(super) fn step(&mut self, with_data: bool) -> Result<Step, WalError> {
        let found = self.reader.at(self.segment, self.offset)?;
        let (case, verdict) = self.judge(&found)?;
        match (verdict, found) {
            (Verdict::Take, Found::Good(good)) => {
                self.take(&good, with_data);
                return Ok(Step::Took(good));
            }
            (Verdict::Take, _) => unreachable!("only a good block follows"),
            (Verdict::NextSegment, _) => self.leave()?,
            (Verdict::Refuse, Found::Other(opened)) => {
                foreign(opened, self.segment, self.offset, self.cfg)?;
                unreachable!("only foreign headers are refused");
            }
            (Verdict::Refuse, _) => unreachable!("only foreign headers are refused"),
            (Verdict::Damage, found) => self.pass_damage(&found)?,
            (Verdict::Clean | Verdict::Torn, found) => {
                self.check_cut_off(&found)?;
                return Ok(Step::Ended(case));
            }
        }
        Ok(Step::Passed)
    }

    /// Case T. Where a log ends there is room for the index of its segment (the rule of room), and no block goes
    /// beyond its file. If not, the file is not as long as it was.
    fn check_cut_off(&mut self, found: &Found) -> Result<(), WalError> {
        let (segment, offset, size) = (self.segment, self.offset, self.reader.size(self.segment));
        if !self.reader.sizes.contains_key(&segment) {
            return Ok(());
        }
        let longer = match found {
            Found::Content(h) => {
                relation(self.prev.as_ref(), h) == There::Follows && h.end() > u64::from(size)
            }
            _ => false,
        };
        let room = u64::from(offset) + index::block_bytes(self.index.bytes()) <= u64::from(size);
        if longer || (offset > 0 && !room) {
            let why = "the file is cut off";
            self.report(Damage { segment, offset, bytes: size.saturating_sub(offset), why })?;
        }
        Ok(())
    }

    pub fn go_to(&mut self, segment: u32, offset: u32) {
        if offset == 0 || segment != self.segment {
            self.index = IndexBuilder::default();
            self.based = false;
        }
        (self.segment, self.offset) = (segment, offset);
    }

    fn note(&mut self, h: &Header) {
        self.newest = self.newest.max(h.incarnation);
        self.synced_through = self.synced_through.max(h.synced_through);
        self.groups.insert(h.segment, h.group);
    }

    /// Collects what the table asks for, no more than it needs, and asks it.
    fn judge(&mut self, found: &Found) -> Result<(Case, Verdict), WalError> {
        let there = match found {
            Found::Good(good) => relation(self.prev.as_ref(), &good.header),
            Found::Content(_) => There::BadContent,
            Found::Other(Opened::Zero) => There::Nothing,
            Found::Other(Opened::Bad | Opened::Header(_) | Opened::Elsewhere(..)) => There::BadHeader,
            Found::Other(Opened::Cluster(_)) => There::Cluster,
            Found::Other(Opened::Node(_)) => There::Node,
            Found::Other(Opened::Newer(_)) => There::Newer,
        };
        if matches!(there, There::Follows | There::Cluster | There::Node | There::Newer) {
            return Ok(judge(there, false, false, Later::Nothing));
        }
        let sealed = self.seal()?.is_some();
        let continues = !sealed && self.continues()?;
        if sealed || continues {
            return Ok(judge(there, sealed, continues, Later::Nothing));
        }
        let (later, written) = self.later(found)?;
        let expected = self.expected(found);
        let verdict = match later.iter().any(|h| proves(&expected, h)) {
            true => Later::Proof,
            false if later.is_empty() => Later::Nothing,
            false => Later::Unproven,
        };
        let nothing_good = self.prev.is_none() && self.newest == 0 && verdict != Later::Proof;
        if nothing_good && written {
            // Case R. The very first group is one unit: whatever is behind it wasn't torn.
            return Err(WalError::Unreadable { segment: self.segment });
        }
        Ok(judge(there, sealed, continues, verdict))
    }

    /// The segment's index, if it is the block that belongs here.
    fn seal(&self) -> Result<Option<Header>, WalError> {
        let seal = self.reader.index(self.segment)?.map(|good| good.header);
        let fits = |h: &Header| h.offset >= self.offset && relation(self.prev.as_ref(), h) == There::Follows;
        Ok(seal.filter(fits))
    }

    /// Whether the log was reopened in the next segment, this one being full.
    fn continues(&self) -> Result<bool, WalError> {
        let Some(next) = self.segment.checked_add(1).filter(|n| self.reader.size(*n) > 0) else {
            return Ok(false);
        };
        Ok(match self.reader.at(next, 0)? {
            Found::Good(good) => {
                good.header.kind == BlockKind::Open
                    && relation(self.prev.as_ref(), &good.header) == There::Follows
            }
            _ => false,
        })
    }

    /// What belongs at the place, as far as it is known: its incarnation at least, its sequence, its group at
    /// least.
    fn expected(&self, found: &Found) -> (u64, u64, u64) {
        if let Found::Content(h) = found
            && relation(self.prev.as_ref(), h) == There::Follows
        {
            return (h.incarnation, h.sequence, h.group);
        }
        match &self.prev {
            None => (0, 0, 1),
            Some(p) => {
                let group = if p.ends_group() { p.group.saturating_add(1) } else { p.group };
                (p.incarnation, p.sequence.saturating_add(1), group)
            }
        }
    }

    /// The blocks behind the place that could be the log's, and whether anything was written there.
    fn later(&mut self, found: &Found) -> Result<(Vec<Header>, bool), WalError> {
        let expected = self.expected(found);
        // Within a block that belongs here nothing newer was written. Any other may be a leftover that newer
        // ones were written over, from its second unit on.
        let skip = match found {
            Found::Content(h) if relation(self.prev.as_ref(), h) == There::Follows => h.bytes,
            _ => UNIT as u32,
        };
        let from = self.offset.saturating_add(skip);
        let (headers, written) = self.reader.later(self.segment, from, |h| proves(&expected, h))?;
        let here = match found {
            Found::Good(good) => Some(good.header),
            Found::Content(h) => Some(*h),
            Found::Other(_) => None,
        };
        for h in here.iter().chain(&headers) {
            self.newest = self.newest.max(h.incarnation);
        }
        let good = here.filter(|_| matches!(found, Found::Good(_)));
        let live = |h: &Header| h.incarnation >= expected.0 && h.sequence > expected.1;
        Ok((good.into_iter().chain(headers).filter(live).collect(), written))
    }

    fn take(&mut self, good: &Good, with_data: bool) {
        let h = good.header;
        self.note(&h);
        self.based |= h.kind == BlockKind::Checkpoint || h.sequence == 0;
        if h.kind == BlockKind::Records {
            for record in &good.records {
                let r = record.header;
                let pos = WalPos { segment: h.segment, offset: h.offset + record.at as u32, len: r.len };
                let data = record.data(&good.bytes);
                let repeated = r.in_index.then(|| std::slice::from_ref(&data));
                self.index.push(r.kind, r.aux, r.key1, r.key2, pos, repeated);
                let data = (with_data || r.in_index).then_some(data);
                self.entries.push(WalEntry {
                    kind: r.kind,
                    aux: r.aux,
                    key1: r.key1,
                    key2: r.key2,
                    pos,
                    data,
                });
            }
        }
        self.prev = Some(h);
        if h.kind == BlockKind::Index {
            self.go_to(h.segment.saturating_add(1), 0);
        } else {
            self.go_to(h.segment, h.end() as u32);
        }
    }

    /// Goes to the next segment, the seal of this one being the block before it.
    fn leave(&mut self) -> Result<(), WalError> {
        if let Some(seal) = self.seal()? {
            self.note(&seal);
            self.prev = Some(seal);
        }
        self.go_to(self.segment.saturating_add(1), 0);
        Ok(())
    }

    /// Reports what is lost and goes on at the first block behind it that belongs to the log.
    fn pass_damage(&mut self, found: &Found) -> Result<(), WalError> {
        let expected = self.expected(found);
        let (later, _) = self.later(found)?;
        let resume = first_live(&later, &expected);
        let why = match found {
            Found::Good(_) => "another block than belongs there",
            Found::Content(_) => "a block's content",
            Found::Other(Opened::Zero) => "nothing where a block was",
            Found::Other(_) => "a block's header",
        };
        let mut from = self.offset;
        for segment in self.segment..=resume.segment {
            let to = if segment == resume.segment { resume.offset } else { self.reader.size(segment) };
            if to > from || segment < resume.segment {
                let damage = Damage { segment, offset: from, bytes: to.saturating_sub(from), why };
                self.report(damage)?;
            }
            from = 0;
        }
        if (resume.segment, resume.offset) == (self.segment, self.offset) {
            // A good block is here, those before it are gone without a trace.
            self.report(Damage { segment: self.segment, offset: self.offset, bytes: 0, why })?;
        }
        self.prev = Some(predecessor(&resume));
        self.go_to(resume.segment, resume.offset);
        Ok(())
    }

    fn report(&mut self, damage: Damage) -> Result<(), WalError> {
        let Damage { segment, offset, bytes, why } = damage;
        if self.cfg.on_damage == OnDamage::Refuse {
            return Err(WalError::Damaged { segment, offset, bytes, why });
        }
        self.damage.push(damage);
        Ok(())
    }

    /// Where writing goes on.
    fn resume(&mut self, oldest: u32, checkpoint: Option<u32>) -> Result<Resume, WalError> {
        let index = std::mem::take(&mut self.index);
        let size = self.reader.size(self.segment);
        let room =
            u64::from(self.offset) + UNIT as u64 + index::block_bytes(index.bytes()) <= u64::from(size);
        let going_on = self.offset > 0 && room;
        let current = going_on.then(|| Current {
            number: self.segment,
            bytes: size,
            at: self.offset,
            index,
            based: self.based,
        });
        let next = if self.offset > 0 { self.segment + 1 } else { self.segment };
        let next_ready = match self.reader.at(next, 0)? {
            Found::Other(Opened::Zero) if self.reader.size(next) > 0 => Some(self.reader.size(next)),
            _ => None,
        };
        let (sequence, group) = match &self.prev {
            None => (0, 1),
            Some(p) => (p.sequence + 1, p.group + 1),
        };
        let unsynced = self.groups.iter().filter(|g| *g.1 > self.synced_through).map(|g| *g.0).collect();
        Ok(Resume {
            incarnation: self.newest + 1,
            sequence,
            group,
            // Not more: what was found was perhaps never synced, and this open is not yet either.
            synced_through: self.synced_through,
            current,
            next,
            next_ready,
            oldest,
            checkpoint,
            keeps: 0,
            stated: 0,
            leftovers: Vec::new(),
            unsynced,
        })
    }
}

/// Whether `h` says that what belongs at a place was synced.
fn proves(&(incarnation, sequence, group): &(u64, u64, u64), h: &Header) -> bool {
    h.incarnation >= incarnation && h.sequence > sequence && h.synced_through >= group
}

/// The first of `later` from which the log goes on to the first proof in it. Going back from the proof,
/// blocks of its incarnation are the log's up to the one that opened it, and older ones only before that.
fn first_live(later: &[Header], expected: &(u64, u64, u64)) -> Header {
    let proof = later.iter().position(|h| proves(expected, h)).expect("damage is said by a later block");
    let mut live = later[proof];
    for h in later[..proof].iter().rev() {
        let older = live.kind == BlockKind::Open && h.incarnation < live.incarnation;
        if h.sequence < live.sequence && (h.incarnation == live.incarnation || older) {
            live = *h;
        }
    }
    live
}
