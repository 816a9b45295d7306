//! Is this a log as it was promised? One reader's view of all of it, from the first position on: pure rules, that
//! are shown each batch as it is delivered, and a digest by which readers are compared.

use super::super::append::Acked;
use crate::checks::Checks;
use crate::payload::{Origin, Payload};
use std::collections::{BTreeMap, BTreeSet};
use zoolog_client::Committed;
use zoolog_core::batch::{BatchKind, Placement};
use zoolog_core::{Gsn, LaneId, Lsn, Seq, WriterId};

/// Every acknowledged record is there.
pub const ALL_THERE: &str = "LOG-2: every acknowledged record is in the log";
/// Readers agree.
pub const ALIKE: &str = "LOG-1: all readers see the same";
const DENSE: &str = "LOG-1: positions are dense, each once";
const PLACE: &str = "LOG-1: each record lies where its acknowledgement said";
const ORDER: &str = "LOG-3: each writer's records are there once, in order";
const BATCHES: &str = "LOG-3: each writer's batches are numbered densely";
const CONTENT: &str = "LOG-4: records hold what was written";
const INVENTED: &str = "LOG-4: nothing is there that nobody wrote";
const LANES: &str = "LOG-4: each lane's batches follow each other, as its primary placed them";
const LEFT: &str = "LOG-7: no writer returns to a lane that it has left";

/// Positions per mark of the digest, so that a difference can be told closely.
const MARK: u64 = 1024;

/// Where a stretch of a writer's records was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Found {
    first_gsn: Gsn,
    first_counter: u64,
    count: u64,
}

/// How far one writer's records have been found.
#[derive(Debug)]
struct Track {
    next_seq: Seq,
    /// Counter of the next record.
    next: u64,
    /// The number it has in its records.
    index: Option<u32>,
    lane: LaneId,
    left: BTreeSet<LaneId>,
    found: Vec<Found>,
}

/// How far one lane has been found.
#[derive(Clone, Copy, Debug)]
pub struct LaneEnd {
    /// One past its last record.
    pub end: Lsn,
    /// Position of its last record.
    pub last_gsn: Gsn,
    last: Placement,
}

/// The rules, as far as one reader has come.
#[derive(Debug)]
pub struct Rules {
    /// Knows this run's records; `None` if somebody else wrote them.
    payload: Option<Payload>,
    /// Next position.
    at: Gsn,
    writers: BTreeMap<WriterId, Track>,
    lanes: BTreeMap<LaneId, LaneEnd>,
    digest: u64,
    marks: Vec<u64>,
    records: u64,
    checks: Checks,
}

impl Rules {
    /// At the log's first position.
    pub fn new(payload: Option<Payload>) -> Self {
        Self {
            payload,
            at: Gsn(0),
            writers: BTreeMap::new(),
            lanes: BTreeMap::new(),
            digest: 0,
            marks: Vec::new(),
            records: 0,
            checks: Checks::default(),
        }
    }

    /// The next position that is due.
    pub fn at(&self) -> Gsn {
        self.at
    }

    /// Records that somebody appended, so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Equal for equal logs.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// How far each lane goes.
    pub fn lanes(&self) -> &BTreeMap<LaneId, LaneEnd> {
        &self.lanes
    }

    /// Where the log was trimmed though nobody asked for it, or whatever else made the reader lose its place.
    pub fn lost(&mut self, until: Gsn, why: &str) {
        let at = self.at;
        self.checks.fail(DENSE, || format!("{at} to {until}: {why}"));
        self.at = until;
    }

    /// The next batch, or a part of one.
    pub fn committed(&mut self, c: &Committed) {
        let (at, from) = (self.at, c.from());
        if at != from {
            self.checks.fail(DENSE, || format!("{from} follows {at}"));
        }
        self.at = c.end();
        self.lane(c);
        self.take_in(c);
        if c.placed.batch.kind() == BatchKind::Data {
            self.writer(c);
        }
    }

    fn lane(&mut self, c: &Committed) {
        let placement = c.placed.placement;
        let lane = placement.lane;
        let end =
            LaneEnd { end: c.placed.end_lsn(), last_gsn: Gsn(c.end().0.saturating_sub(1)), last: placement };
        let before = self.lanes.insert(lane, end);
        if c.skip > 0 {
            if before.is_none_or(|b| b.last != placement) {
                self.checks.fail(LANES, || format!("{lane}: {} begins within another batch", c.from()));
            }
            return;
        }
        let (lsn, prev) = before.map_or((Lsn(0), 0), |b| (b.end, b.last.crc));
        if (placement.first_lsn, placement.prev) != (lsn, prev) {
            self.checks.fail(LANES, || {
                format!(
                    "{lane}: at {}, {} behind {:08x} where {lsn} behind {prev:08x} was due",
                    c.from(),
                    placement.first_lsn,
                    placement.prev
                )
            });
        }
    }

    fn take_in(&mut self, c: &Committed) {
        let batch = &c.placed.batch;
        let place = c.placed.placement;
        let head = [batch.writer().0 as u64, batch.seq().0, place.lane.0, place.first_lsn.0];
        let pieces = batch.records().enumerate().skip(c.skip as usize).take(c.take as usize);
        for (i, record) in pieces {
            let gsn = c.first_gsn.plus(i as u64);
            let words =
                head.into_iter().chain([gsn.0, u64::from(crc32c::crc32c(&record)), record.len() as u64]);
            self.digest = words.fold(self.digest, mix);
            if gsn.0 % MARK == MARK - 1 {
                self.marks.push(self.digest);
            }
        }
    }

    fn writer(&mut self, c: &Committed) {
        let (batch, lane) = (&c.placed.batch, c.placed.placement.lane);
        let writer = batch.writer();
        let track = self.writers.entry(writer).or_insert_with(|| Track {
            next_seq: Seq(0),
            next: 1,
            index: None,
            lane,
            left: BTreeSet::new(),
            found: Vec::new(),
        });
        if c.skip == 0 {
            if batch.seq() != track.next_seq {
                let due = track.next_seq;
                self.checks.fail(BATCHES, || {
                    format!("{writer}: batch {} at {} where {due} was due", batch.seq(), c.from())
                });
            }
            track.next_seq = batch.seq().next();
        }
        if lane != track.lane {
            track.left.insert(track.lane);
            track.lane = lane;
            if track.left.contains(&lane) {
                self.checks.fail(LEFT, || format!("{writer}: in {lane} again at {}", c.from()));
            }
        }
        let first = track.next;
        for (gsn, _, record) in c.records() {
            self.records += 1;
            let Some(payload) = &self.payload else { continue };
            match payload.read(&record) {
                Ok(Some(Origin { key: 0, writer: index, counter })) => {
                    let known = *track.index.get_or_insert(index);
                    if (index, counter) != (known, track.next) {
                        let next = track.next;
                        self.checks.fail(ORDER, || {
                            format!("{gsn}: {counter} of writer {index} where {next} of {known} was due")
                        });
                    }
                }
                Ok(origin) => self.checks.fail(CONTENT, || format!("{gsn}: {origin:?}")),
                Err(why) => self.checks.fail(CONTENT, || format!("{gsn}: {why:?}")),
            }
            track.next += 1;
        }
        let found = Found { first_gsn: c.from(), first_counter: first, count: track.next - first };
        match track.found.last_mut() {
            Some(last) if last.first_gsn.plus(last.count) == found.first_gsn => last.count += found.count,
            _ => track.found.push(found),
        }
    }

    /// Judges what was found by what the writers know: of each, what was acknowledged and how many records it
    /// appended.
    pub fn judge(&mut self, writers: &[(Acked, u64)]) {
        let mut ours = BTreeSet::new();
        for (acked, appended) in writers {
            ours.insert(acked.writer);
            let all: u64 = acked.batches.iter().map(|b| u64::from(b.count)).sum();
            let (found, index) = match self.writers.get(&acked.writer) {
                Some(track) => (track.next - 1, track.index),
                None => (0, None),
            };
            if found < all {
                self.checks.fail(ALL_THERE, || format!("writer {}: {found} of {all} found", acked.index));
            }
            if found > *appended || index.is_some_and(|i| i != acked.index) {
                self.checks.fail(INVENTED, || {
                    format!("writer {}: {found} found as {index:?}, {appended} were appended", acked.index)
                });
            }
            if let Some(track) = self.writers.get(&acked.writer) {
                places(acked, &track.found, &mut self.checks);
            }
        }
        for writer in self.writers.keys().filter(|w| self.payload.is_some() && !ours.contains(w)) {
            self.checks.fail(INVENTED, || format!("{writer} is none of ours"));
        }
    }

    /// Where the two differ first, as a range of positions.
    pub fn difference(&self, other: &Self) -> Option<(Gsn, Gsn)> {
        if (self.at, self.digest) == (other.at, other.digest) {
            return None;
        }
        let same = self.marks.iter().zip(&other.marks).take_while(|(a, b)| a == b).count() as u64;
        Some((Gsn(same * MARK), Gsn((same + 1) * MARK).min(self.at.max(other.at))))
    }

    /// What was checked.
    pub fn into_checks(mut self) -> Checks {
        for check in [DENSE, PLACE, ORDER, BATCHES, CONTENT, INVENTED, LANES, LEFT, ALL_THERE, ALIKE] {
            self.checks.pass(check, self.at.0);
        }
        self.checks
    }
}

/// That what was acknowledged lies where it was said to.
fn places(acked: &Acked, found: &[Found], checks: &mut Checks) {
    let mut stretches = found.iter().peekable();
    for batch in &acked.batches {
        let last = batch.first_counter + u64::from(batch.count) - 1;
        while stretches.next_if(|f| f.first_counter + f.count <= batch.first_counter).is_some() {}
        let Some(f) = stretches.peek() else { return }; // that they are missing was said
        let at = Gsn((f.first_gsn.0 + batch.first_counter).saturating_sub(f.first_counter));
        if at != batch.first_gsn || last >= f.first_counter + f.count {
            checks.fail(PLACE, || {
                format!(
                    "writer {}: records {} to {last} acknowledged at {}, found at {at}",
                    acked.index, batch.first_counter, batch.first_gsn
                )
            });
        }
    }
}

fn mix(digest: u64, word: u64) -> u64 {
    (digest.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests;
