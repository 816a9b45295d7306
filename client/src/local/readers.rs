//! Who reads an embedded log? The subscription, batch by batch as they become durable, and range reads. None is told of
//! anything that is not durable, and none skips what can't be read: it waits, and says so.

use super::LocalConfig;
use super::cursor::{Cursor, Next};
use super::index::Index;
use crate::{Committed, LogEvent, RequestId};
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;
use zoolog_core::batch::PlacedBatch;
use zoolog_core::wal::WalPos;
use zoolog_core::wire::ReadEnd;
use zoolog_core::{Gsn, Instant, Token, WriterId};

/// Reads that run at a time; others wait their turn.
const RUNNING_MAX: usize = 16;
/// Between attempts at what could not be read.
const RETRY: Duration = Duration::from_secs(1);
/// What stands still when it can't.
const STALL: &str = "reading the log's disk";

#[derive(Debug)]
struct Reading {
    request: RequestId,
    cursor: Cursor,
    /// The answer so far is exact up to here.
    covers: Gsn,
    to: Gsn,
    max_bytes: usize,
    batches: Vec<Committed>,
    bytes: usize,
}

#[derive(Debug, Default)]
pub(super) struct Readers {
    subscription: Option<Cursor>,
    /// Where it is to begin, until the end of the turn.
    begins: Option<Gsn>,
    running: VecDeque<Reading>,
    waiting: VecDeque<Reading>,
    retry_at: Option<Instant>,
    stalled: bool,
    events: VecDeque<LogEvent>,
}

/// What of the batch lies in `from..to`.
fn part(now: Instant, first_gsn: Gsn, placed: PlacedBatch, from: Gsn, to: Gsn, own: WriterId) -> Committed {
    let end = first_gsn.plus(u64::from(placed.batch.count())).min(to);
    let skip = from.0.saturating_sub(first_gsn.0);
    let take = end.since(first_gsn) - skip;
    let own = placed.batch.writer() == own;
    Committed { first_gsn, placed, skip: skip as u32, take: take as u32, own, ordered_at: now }
}

impl Readers {
    pub fn subscribe(&mut self, from: Gsn) {
        self.subscription = None;
        self.begins = Some(from);
    }

    pub fn ask(&mut self, request: RequestId, from: Gsn, to: Gsn, max_bytes: usize) {
        let (cursor, covers) = (Cursor::new(from), from);
        self.waiting.push_back(Reading {
            request,
            cursor,
            covers,
            to,
            max_bytes,
            batches: Vec::new(),
            bytes: 0,
        });
    }

    pub fn pop_event(&mut self) -> Option<LogEvent> {
        self.events.pop_front()
    }

    /// The next batch of the subscription.
    pub fn deliver(&mut self, now: Instant, own: WriterId) -> Option<Committed> {
        let cursor = self.subscription.as_mut()?;
        let from = cursor.next;
        match cursor.take() {
            Next::Wait => None,
            Next::Batch(first, placed) => {
                if std::mem::take(&mut self.stalled) {
                    self.events.push_back(LogEvent::Resumed { what: STALL });
                }
                Some(part(now, first, placed, from, Gsn(u64::MAX), own))
            }
            Next::Unreadable => {
                if !std::mem::replace(&mut self.stalled, true) {
                    self.events.push_back(LogEvent::Stalled { what: STALL });
                }
                self.retry_at.get_or_insert(now + RETRY);
                None
            }
        }
    }

    /// Moves everybody on, as far as it goes; `load` asks for a record.
    pub fn flush(
        &mut self,
        now: Instant,
        cfg: &LocalConfig,
        index: &Index,
        own: WriterId,
        load: &mut impl FnMut(WalPos) -> Token,
    ) {
        let trim = index.point.trim;
        if let Some(from) = self.begins.take() {
            self.subscription = Some(Cursor::new(from));
        }
        if let Some(from) = self.subscription.as_ref().map(|s| s.next).filter(|next| *next < trim) {
            self.subscription = None;
            self.events.push_back(LogEvent::Gap { from, until: trim });
        }
        if let Some(subscription) = &mut self.subscription {
            subscription.fill(index, Gsn(u64::MAX), cfg.prefetch_bytes, &mut *load);
        }
        while self.running.len() < RUNNING_MAX
            && let Some(reading) = self.waiting.pop_front()
        {
            self.running.push_back(reading);
        }
        for _ in 0..self.running.len() {
            let mut reading = self.running.pop_front().expect("as many as counted");
            match reading.advance(now, cfg, index, own, load) {
                None => self.running.push_back(reading),
                Some(end) => {
                    let Reading { request, batches, covers, .. } = reading;
                    self.events.push_back(LogEvent::ReadDone { request, batches, covers, end });
                }
            }
        }
    }

    pub fn loaded(&mut self, now: Instant, token: Token, result: Result<Bytes, String>) {
        let mut cursors = self.subscription.iter_mut().chain(self.running.iter_mut().map(|r| &mut r.cursor));
        // Who asked may have gone.
        let Some(cursor) = cursors.find(|c| c.awaits(token)) else { return };
        if let Err(why) = cursor.loaded(token, result) {
            tracing::error!(
                why,
                "a batch of the log can't be read: is the disk failing? Tried again each second"
            );
            self.retry_at.get_or_insert(now + RETRY);
        }
    }

    pub fn tick(&mut self, now: Instant) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.subscription.iter_mut().for_each(Cursor::retry);
        }
    }

    pub fn deadline(&self) -> Option<(Instant, &'static str)> {
        self.retry_at.map(|at| (at, "what could not be read is tried again"))
    }
}

impl Reading {
    fn advance(
        &mut self,
        now: Instant,
        cfg: &LocalConfig,
        index: &Index,
        own: WriterId,
        load: &mut impl FnMut(WalPos) -> Token,
    ) -> Option<ReadEnd> {
        if self.covers > self.to || self.max_bytes == 0 {
            return Some(ReadEnd::Invalid);
        }
        if self.covers < index.point.trim && self.covers < self.to {
            if !self.batches.is_empty() {
                return Some(ReadEnd::More); // trimmed meanwhile; the next read is told
            }
            self.covers = index.point.trim;
            return Some(ReadEnd::Trimmed);
        }
        loop {
            if self.covers >= self.to {
                return Some(ReadEnd::Complete);
            }
            let ahead = cfg.prefetch_bytes.min(self.max_bytes.saturating_sub(self.bytes));
            self.cursor.fill(index, self.to, ahead, &mut *load);
            match self.cursor.take() {
                Next::Batch(first, placed) => {
                    self.bytes += placed.batch.bytes().len();
                    let committed = part(now, first, placed, self.covers, self.to, own);
                    self.covers = committed.end();
                    self.batches.push(committed);
                    if self.bytes >= self.max_bytes && self.covers < self.to {
                        return Some(ReadEnd::More);
                    }
                }
                Next::Unreadable => return Some(ReadEnd::Unavailable),
                Next::Wait if self.covers >= index.durable() => return Some(ReadEnd::NotYet),
                Next::Wait => return None,
            }
        }
    }
}
