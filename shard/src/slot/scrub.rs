//! Is what lies cold on the disk still there? Finished segments are read one after the other, slowly, and every block
//! is checked; batches in a damaged one are read each by itself, and those that can't be are mended as when a reader
//! meets them.
//!
//! # What it costs
//! One read is under way at most, of a quarter of a MiB unless a block is longer; pauses keep it at
//! [`scrub_bytes_per_s`](crate::Bounds::scrub_bytes_per_s) on average, and while the log has something to write it
//! waits up to eight times as long. Between passes it rests. A slot without finished segments does nothing at all.
//!
//! # What it doesn't mend
//! Indexes and checkpoints of finished segments: a start does without an index, and begins at an older checkpoint if it
//! must; both are counted in the status. Cut marks: they are in memory, in the index a second time, and other replicas
//! have them.

use super::Slot;
use crate::loads::{Piece, Purpose};
use crate::replica::Replica;
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;
use zoolog_core::machine::{Output, Token};
use zoolog_core::wal::WalPos;
use zoolog_core::wal::scrub::{SegmentCheck, Step};
use zoolog_core::{Instant, LaneId, Lsn};

/// Bytes read at a time.
const WINDOW_BYTES: u32 = 256 << 10;
/// Batches of a damaged block that are read at a time.
const SUSPECTS: usize = 16;
/// How often a read waits for the log to have nothing to write.
const PATIENCE: u32 = 8;
/// A unit, by which the length of a segment is found out.
const PROBE_BYTES: u32 = 4096;

/// Where the scrubber is, and what it found.
#[derive(Debug, Default)]
pub(super) struct Scrub {
    /// When it goes on; `None` before the first finished segment.
    at: Option<Instant>,
    /// The newest segment when we last looked for a finished one: there is none as long as it stays.
    looked: Option<u32>,
    /// What is read.
    reading: Option<Token>,
    /// Suspects are being read.
    comparing: bool,
    /// Segments that are left of this pass: the next one, and the first that isn't checked.
    left: Option<(u32, u32)>,
    check: Option<SegmentCheck>,
    /// Batches in damaged blocks.
    suspects: VecDeque<(LaneId, Lsn, WalPos)>,
    waited: u32,
    /// Passes that were finished.
    passes: u64,
    /// Bytes read in this pass, and damaged blocks found.
    bytes: u64,
    damaged: u64,
    /// Damaged blocks found in the pass before.
    damaged_before: u64,
    /// The segment in which the log ended at this start.
    ended_in: u32,
}

impl Scrub {
    /// Not begun, of a log that ended in that segment when it was opened.
    pub(super) fn new(ended_in: u32) -> Self {
        Self { ended_in, ..Self::default() }
    }
}

impl Slot {
    /// At the end of a turn: reads on, if it is time.
    pub(super) fn tend_scrub(&mut self, now: Instant) {
        let bounds = &self.cfg.bounds;
        if bounds.scrub_bytes_per_s == 0 || self.scrub.reading.is_some() || self.scrub.comparing {
            return;
        }
        let Some(at) = self.scrub.at else {
            if self.scrub.looked.replace(self.trim.newest) == Some(self.trim.newest) {
                return;
            }
            self.scrub.at = self.cold().map(|_| now + bounds.scrub_pause / 8);
            return;
        };
        if now < at {
            return;
        }
        if self.unsynced_bytes > 0 && self.scrub.waited < PATIENCE {
            self.scrub.waited += 1;
            self.scrub.at = Some(now + self.takes(WINDOW_BYTES));
            return;
        }
        self.scrub.waited = 0;
        if !self.scrub.suspects.is_empty() {
            return self.compare();
        }
        let Some((segment, _)) = self.scrub.left else { return self.begin_pass(now) };
        let (offset, bytes) = match self.scrub.check.as_ref().map(SegmentCheck::step) {
            None => (0, PROBE_BYTES),
            Some(Step::Read { offset, bytes }) => (offset, bytes),
            Some(Step::Done) => unreachable!("then the next segment is begun"),
        };
        let token = self.fx.token();
        self.scrub.reading = Some(token);
        self.fx.out.push_back(Output::ReadSegment { token, segment, offset, bytes });
    }

    fn begin_pass(&mut self, now: Instant) {
        self.scrub.left = self.cold();
        (self.scrub.bytes, self.scrub.damaged) = (0, 0);
        if self.scrub.left.is_none() {
            self.scrub.at = Some(now + self.cfg.bounds.scrub_pause);
        }
    }

    /// The oldest segment that is needed, and the newest, if that isn't the same.
    fn cold(&self) -> Option<(u32, u32)> {
        let replicas = self.replicas.values();
        let oldest = replicas.clone().filter_map(Replica::oldest_segment).min()?;
        let newest = replicas.filter_map(Replica::newest_segment).max()?;
        // The log may have gone on behind the newest batch, before this start and since.
        let newest = newest.max(self.scrub.ended_in).max(self.trim.newest);
        (oldest < newest).then_some((oldest, newest))
    }

    /// A piece was read, or can't be.
    pub(super) fn segment_read(&mut self, now: Instant, token: Token, result: Result<(Bytes, u32), String>) {
        assert!(self.scrub.reading.take() == Some(token), "{token:?} was read, nobody asked");
        let Some((segment, _)) = self.scrub.left else { return };
        let mut read = PROBE_BYTES;
        match (result, &mut self.scrub.check) {
            (Ok((_, size)), check @ None) => *check = Some(SegmentCheck::new(segment, size, WINDOW_BYTES)),
            (Ok((bytes, _)), Some(check)) => {
                read = bytes.len() as u32;
                self.scrub.bytes += bytes.len() as u64;
                check.take(&bytes);
                for d in check.found() {
                    tracing::warn!(slot = %self.cfg.slot, segment, offset = d.offset, bytes = d.bytes, why = d.why, "the scrubber found damage");
                    self.scrub.damaged += 1;
                    self.suspect(segment, u64::from(d.offset)..u64::from(d.offset) + u64::from(d.bytes));
                }
            }
            (Err(why), _) => {
                // Released meanwhile, unless something of it is still needed.
                if self.cold().is_some_and(|(oldest, _)| oldest <= segment) {
                    tracing::warn!(slot = %self.cfg.slot, segment, why, "the scrubber can't read a segment");
                    self.scrub.damaged += 1;
                    self.suspect(segment, 0..u64::MAX);
                }
                self.next_segment();
            }
        }
        if self.scrub.check.as_ref().is_some_and(|c| c.step() == Step::Done) {
            self.next_segment();
        }
        let pause = if self.scrub.left.is_some() { self.takes(read) } else { self.cfg.bounds.scrub_pause };
        self.scrub.at = Some(now + pause);
    }

    fn next_segment(&mut self) {
        self.scrub.check = None;
        self.scrub.left = self.scrub.left.map(|(s, end)| (s + 1, end)).filter(|(s, end)| s < end);
        if self.scrub.left.is_none() {
            self.scrub.passes += 1;
            self.scrub.damaged_before = self.scrub.damaged;
        }
    }

    /// How long reading so much takes at the rate that is set.
    fn takes(&self, bytes: u32) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.cfg.bounds.scrub_bytes_per_s.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).min(self.cfg.bounds.scrub_pause)
    }

    /// The batches that lie there are to be read one by one.
    fn suspect(&mut self, segment: u32, offsets: std::ops::Range<u64>) {
        for lane in self.replicas.values().flat_map(|r| &r.lanes) {
            let entries = lane.entries_in(segment, offsets.clone());
            self.scrub.suspects.extend(entries.map(|e| (lane.id, Lsn(e.first_lsn), e.pos)));
        }
    }

    fn compare(&mut self) {
        let n = self.scrub.suspects.len().min(SUSPECTS);
        let suspects = self.scrub.suspects.drain(..n);
        // Those that were trimmed or mended meanwhile lie elsewhere, or nowhere.
        let still = suspects.filter(|(lane, lsn, pos)| {
            let replica = self.replicas.get(&lane.shard());
            let lane = replica.and_then(|r| r.lanes.get(usize::from(lane.index())));
            lane.is_some_and(|l| l.lies_at(lsn.0) == Some(*pos))
        });
        let pieces = still.map(|(lane, first_lsn, pos)| Piece::At { lane, first_lsn, pos }).collect();
        self.scrub.comparing = true;
        self.fx.load(Purpose::Scrub, pieces);
    }

    /// Suspects were read; those that could not be are known by now.
    pub(super) fn compared(&mut self) {
        self.scrub.comparing = false;
    }

    pub(super) fn scrub_deadline(&self) -> Option<(Instant, &'static str)> {
        let waits = self.scrub.reading.is_none() && !self.scrub.comparing;
        self.scrub.at.filter(|_| waits && self.cfg.bounds.scrub_bytes_per_s > 0).map(|at| (at, "scrub"))
    }

    /// For the status: passes finished, damaged blocks found in the last one, where this one is.
    pub(super) fn scrub_status(&self) -> String {
        let s = &self.scrub;
        let segment = s.left.map_or("null".into(), |l| l.0.to_string());
        format!(
            "{{\"passes\":{},\"damaged_blocks\":{},\"segment\":{segment},\"bytes\":{},\"found\":{}}}",
            s.passes, s.damaged_before, s.bytes, s.damaged
        )
    }
}
