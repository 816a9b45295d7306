//! Is a log whole, and what is in it? Reads every block of every segment, with the eyes of
//! [`recover`](mod@super::recover), which reads only what a start needs. Writes nothing, refuses nothing: what recovery
//! would refuse is a finding here, and as much as possible of the rest is read all the same.

use super::block::{BlockKind, Header};
use super::index;
use super::recover::{Step, Walk, floor, foreign_file, newest_checkpoint};
use super::scan::{Found, Good, Reader, predecessor};
use super::table::Case;
use super::{Damage, OnDamage, WalConfig, WalEntry, WalError, WalSource};
use bytes::Bytes;
use std::ops::ControlFlow;

/// What comes by, in the order of the log.
#[derive(Debug)]
pub enum Seen<'a> {
    /// A block of the log; what is in it follows.
    Block(&'a Header),
    /// The checkpoint in it.
    Checkpoint(&'a Bytes),
    /// A record in it, with its data.
    Entry(&'a WalEntry),
    /// Bytes between two blocks that were durable, and can't be read any more.
    Damage(&'a Damage),
    /// A record that was in damaged bytes: what the index of its segment says of it.
    Lost(&'a WalEntry),
}

/// A file of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its number.
    pub number: u32,
    /// Its length.
    pub bytes: u32,
    /// Blocks of the log in it.
    pub blocks: u64,
    /// Records in them.
    pub records: u64,
    /// Whether the log needs it: not if it is released and only not deleted yet.
    pub is_needed: bool,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Audit {
    /// The files, in order.
    pub segments: Vec<Segment>,
    /// What a start would be refused for: whose files, or which are missing, or not in their place.
    pub refusals: Vec<WalError>,
    /// What can't be read any more.
    pub damage: Vec<Damage>,
    /// The newest start of the log.
    pub incarnation: u64,
    /// Where and how the log ends; `None` if it was not read to its end.
    pub end: Option<(u32, u32, Case)>,
}

impl Audit {
    /// Whether nothing is wrong with it.
    pub fn is_whole(&self) -> bool {
        self.refusals.is_empty() && self.damage.is_empty()
    }
}

/// Reads a log from its first block to its last. `visit` sees what comes by, and may break off.
///
/// # Errors
/// Only if the files can't be read.
pub fn audit(
    source: &dyn WalSource,
    cfg: &WalConfig,
    visit: &mut dyn FnMut(Seen<'_>) -> ControlFlow<()>,
) -> Result<Audit, WalError> {
    let cfg = WalConfig { on_damage: OnDamage::Report, ..cfg.clone() };
    let reader = Reader::new(source, &cfg)?;
    let base = match reader.sizes.keys().next_back() {
        Some(&last) => newest_checkpoint(&reader, last)?,
        None => None,
    };
    let floor = floor(&reader, base.as_ref())?;
    let mut audit = Audit::default();
    for (&number, &bytes) in &reader.sizes {
        let is_needed = number >= floor;
        audit.segments.push(Segment { number, bytes, blocks: 0, records: 0, is_needed });
        audit.refuse(foreign_file(&reader, number, &cfg))?;
    }
    let needed: Vec<u32> = reader.sizes.range(floor..).map(|(n, _)| *n).collect();
    for pair in needed.windows(2) {
        for segment in pair[0] + 1..pair[1] {
            audit.refusals.push(WalError::Missing { segment });
        }
    }
    let Some(&first) = needed.first() else { return Ok(audit) };
    if base.is_none() && first > 1 {
        audit.refusals.push(WalError::NoCheckpoint { first });
    }
    if audit.refusals.is_empty() {
        Reading { reader: &reader, audit: &mut audit, visit, here: Here::default() }.run(first, &cfg)?;
    }
    Ok(audit)
}

impl Audit {
    /// Notes what a start would be refused for.
    fn refuse<T>(&mut self, result: Result<T, WalError>) -> Result<Option<T>, WalError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(e @ WalError::Io { .. }) => Err(e),
            Err(e) => {
                self.refusals.push(e);
                Ok(None)
            }
        }
    }

    fn segment(&mut self, number: u32) -> Option<&mut Segment> {
        let i = self.segments.binary_search_by_key(&number, |s| s.number).ok()?;
        self.segments.get_mut(i)
    }
}

/// What was read of the segment that the walk is in.
#[derive(Default)]
struct Here {
    /// Offset and length of its records.
    records: Vec<(u32, u32)>,
    is_damaged: bool,
}

struct Reading<'a> {
    reader: &'a Reader<'a>,
    audit: &'a mut Audit,
    visit: &'a mut dyn FnMut(Seen<'_>) -> ControlFlow<()>,
    here: Here,
}

impl Reading<'_> {
    fn run(mut self, first: u32, cfg: &WalConfig) -> Result<(), WalError> {
        let reader = self.reader;
        let mut walk = Walk::new(reader, cfg);
        if let Found::Good(Good { header, .. }) = reader.at(first, 0)? {
            walk.prev = Some(predecessor(&header)).filter(|_| header.sequence > 0);
        }
        walk.go_to(first, 0);
        loop {
            let segment = walk.segment;
            let step = walk.step(true);
            let Some(step) = self.audit.refuse(step)? else { return Ok(()) };
            self.audit.incarnation = self.audit.incarnation.max(walk.newest);
            let mut flow = self.show(&step, &mut walk);
            let ended = matches!(step, Step::Ended(_));
            for passed in segment..walk.segment + u32::from(ended) {
                if flow.is_continue() {
                    // Of those between, if there are any, nothing could be read.
                    self.here.is_damaged |= passed > segment;
                    flow = self.compare(passed)?;
                }
            }
            if flow.is_break() {
                return Ok(());
            }
            if let Step::Ended(case) = step {
                self.audit.end = Some((walk.segment, walk.offset, case));
                return Ok(());
            }
        }
    }

    /// Shows what a step came by.
    fn show(&mut self, step: &Step, walk: &mut Walk<'_>) -> ControlFlow<()> {
        for damage in walk.damage.drain(..) {
            self.here.is_damaged = true;
            (self.visit)(Seen::Damage(&damage))?;
            self.audit.damage.push(damage);
        }
        let Step::Took(good) = step else { return ControlFlow::Continue(()) };
        (self.visit)(Seen::Block(&good.header))?;
        let entries = std::mem::take(&mut walk.entries);
        if let Some(segment) = self.audit.segment(good.header.segment) {
            segment.blocks += 1;
            segment.records += entries.len() as u64;
        }
        if good.header.kind == BlockKind::Checkpoint {
            (self.visit)(Seen::Checkpoint(&good.records[0].data(&good.bytes)))?;
        }
        for entry in &entries {
            self.here.records.push((entry.pos.offset, entry.pos.len));
            (self.visit)(Seen::Entry(entry))?;
        }
        ControlFlow::Continue(())
    }

    /// A segment is behind us: does its index, if it has one, list the records that were read? Those that it lists
    /// and that were not are lost.
    fn compare(&mut self, segment: u32) -> Result<ControlFlow<()>, WalError> {
        let here = std::mem::take(&mut self.here);
        let Some(seal) = self.reader.index(segment)? else { return Ok(ControlFlow::Continue(())) };
        let mut listed = Vec::new();
        let data = seal.records[0].data(&seal.bytes);
        let sound = index::read_entries(segment, &data, &mut listed).is_ok();
        let same = listed.iter().map(|e| (e.pos.offset, e.pos.len)).eq(here.records.iter().copied());
        if sound && same {
            return Ok(ControlFlow::Continue(()));
        }
        if !here.is_damaged {
            let (offset, bytes) = (seal.header.offset, seal.header.bytes);
            let damage =
                Damage { segment, offset, bytes, why: "the index lists other records than the segment has" };
            let flow = (self.visit)(Seen::Damage(&damage));
            self.audit.damage.push(damage);
            return Ok(flow);
        }
        let read = |e: &WalEntry| here.records.binary_search(&(e.pos.offset, e.pos.len)).is_ok();
        Ok(listed.iter().filter(|e| !read(e)).try_for_each(|e| (self.visit)(Seen::Lost(e))))
    }
}
