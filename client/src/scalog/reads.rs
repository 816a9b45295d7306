//! How are the owner's range reads answered? Each is a fetch of what is known to be assigned, gathered up
//! to the bytes wanted; a few run at a time, the others wait their turn.

use super::cx::Cx;
use super::fetch::{FetchId, Fetches, Step};
use crate::{Committed, LogEvent, RequestId};
use std::collections::VecDeque;
use zoolog_core::cut::Order;
use zoolog_core::view::View;
use zoolog_core::wire::ReadEnd;
use zoolog_core::{Gsn, Instant, WriterId};

/// Reads that run at a time.
const RUNNING_MAX: usize = 16;

#[derive(Debug)]
struct Reading {
    request: RequestId,
    /// The answer so far is exact up to here.
    covers: Gsn,
    to: Gsn,
    max_bytes: usize,
    fetch: Option<FetchId>,
    batches: Vec<Committed>,
    bytes: usize,
    moved: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Reads {
    running: VecDeque<Reading>,
    waiting: VecDeque<Reading>,
}

impl Reads {
    pub fn ask(&mut self, cx: &Cx, request: RequestId, from: Gsn, to: Gsn, max_bytes: usize) {
        let (covers, fetch, batches, bytes, moved) = (from, None, Vec::new(), 0, cx.now);
        self.waiting.push_back(Reading { request, covers, to, max_bytes, fetch, batches, bytes, moved });
    }

    /// Moves every running read on, and starts others. Answers those that are done.
    pub fn flush(
        &mut self,
        cx: &mut Cx,
        fetches: &mut Fetches,
        view: &View,
        order: Option<&Order>,
        own: WriterId,
    ) {
        while self.running.len() < RUNNING_MAX {
            let Some(mut reading) = self.waiting.pop_front() else { break };
            reading.moved = cx.now;
            if reading.covers > reading.to || reading.max_bytes == 0 {
                let (request, covers) = (reading.request, reading.covers);
                let (batches, end) = (Vec::new(), ReadEnd::Invalid);
                cx.event(LogEvent::ReadDone { request, batches, covers, end });
                continue;
            }
            self.running.push_back(reading);
        }
        for _ in 0..self.running.len() {
            let mut reading = self.running.pop_front().expect("as many as counted");
            let end = match order {
                Some(order) => reading.advance(cx, fetches, view, order, own),
                None => None,
            };
            let overdue = reading.moved + cx.cfg.read_patience <= cx.now;
            match end.or(overdue.then_some(ReadEnd::Unavailable)) {
                None => self.running.push_back(reading),
                Some(end) => {
                    if let Some(id) = reading.fetch {
                        fetches.close(id);
                    }
                    let Reading { request, batches, covers, .. } = reading;
                    cx.event(LogEvent::ReadDone { request, batches, covers, end });
                }
            }
        }
    }

    pub fn deadline(&self, cx: &Cx) -> Option<(Instant, &'static str)> {
        let due = self.running.iter().map(|r| r.moved + cx.cfg.read_patience);
        due.min().map(|t| (t, "a read makes no progress"))
    }
}

impl Reading {
    fn advance(
        &mut self,
        cx: &mut Cx,
        fetches: &mut Fetches,
        view: &View,
        order: &Order,
        own: WriterId,
    ) -> Option<ReadEnd> {
        let known = self.to.min(order.tail);
        if self.covers < known {
            match self.fetch {
                None => self.fetch = Some(fetches.open(cx, view, self.covers, known, None)),
                Some(id) => fetches.extend(cx, view, id, known),
            }
        }
        while let Some(id) = self.fetch {
            match fetches.step(cx, id) {
                Step::Wait => return None,
                Step::Done => break,
                Step::Trimmed(until) => {
                    if self.batches.is_empty() {
                        self.covers = until;
                        return Some(ReadEnd::Trimmed);
                    }
                    return Some(ReadEnd::More);
                }
                Step::Batch(first_gsn, placed) => {
                    self.moved = cx.now;
                    let end = first_gsn.plus(u64::from(placed.batch.count())).min(fetches.end(id));
                    let skip = self.covers.0.saturating_sub(first_gsn.0);
                    let take = end.since(first_gsn) - skip;
                    self.bytes += placed.batch.bytes().len();
                    self.covers = end;
                    let own = placed.batch.writer() == own;
                    let (skip, take) = (skip as u32, take as u32);
                    let ordered_at = cx.now;
                    self.batches.push(Committed { first_gsn, placed, skip, take, own, ordered_at });
                    if self.bytes >= self.max_bytes && self.covers < self.to {
                        return Some(ReadEnd::More);
                    }
                }
            }
        }
        if self.covers >= self.to {
            Some(ReadEnd::Complete)
        } else if self.covers < self.to.min(cx.tail_seen) {
            // Assigned, but the cut that says where it lies is still on its way.
            None
        } else {
            Some(ReadEnd::NotYet)
        }
    }
}
