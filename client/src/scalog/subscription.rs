//! What comes next? Every record from a position on, each position once, in order. The *plan* lists what
//! lies ahead: ranges to be fetched, and runs that cuts have put in order and pushes bring.
//!
//! Far behind the tail there is only a range, which grows as cuts come. Near the tail the subscription goes
//! *live*: the range stops at the seam, pushes begin exactly there, and each cut adds its runs. Cuts that
//! were missed are a range again; so is a run whose batches don't come. Invariants LOG-1, LOG-4.

use super::cx::Cx;
use super::fetch::{FetchId, Fetches, Step};
use super::links::LinkId;
use super::push::Pushes;
use super::repeats::Repeats;
use crate::{Committed, LogEvent};
use std::collections::VecDeque;
use zoolog_core::batch::{BatchKind, PlacedBatch};
use zoolog_core::cut::{Cut, Order, Run};
use zoolog_core::view::View;
use zoolog_core::{Gsn, Instant, WriterId};

/// How many pieces ahead late runs are looked for, so that they are fetched in parallel.
const LATE_AHEAD: usize = 64;

#[derive(Debug)]
enum Piece {
    /// A range; `expect` says what must come, if it replaces a run, and since when that is known.
    Fetch { id: FetchId, expect: Option<(Run, Instant)> },
    /// A run of one lane, shortened as it is delivered; known `since`.
    Run { run: Run, since: Instant },
}

/// What the range at the front of the plan has to offer.
enum Fetched {
    /// The batch, and since when its position is known.
    Batch(Gsn, PlacedBatch, Instant),
    /// It is complete, and off the plan.
    Done,
    Nothing,
}

#[derive(Debug)]
pub(super) struct Subscription {
    next: Gsn,
    /// The plan covers all up to here. May lie before `next` at first.
    planned: Gsn,
    plan: VecDeque<Piece>,
    live: bool,
    ended: bool,
    started: bool,
    pub pushes: Pushes,
    repeats: Repeats,
}

impl Subscription {
    pub fn new(cx: &mut Cx, from: Gsn) -> Self {
        Self {
            next: from,
            planned: from,
            plan: VecDeque::new(),
            live: false,
            ended: false,
            started: false,
            pushes: Pushes::new(cx),
            repeats: Repeats::default(),
        }
    }

    /// Withdraws its questions; it can't be used after that.
    pub fn close(&mut self, fetches: &mut Fetches) {
        for piece in self.plan.drain(..) {
            if let Piece::Fetch { id, .. } = piece {
                fetches.close(id);
            }
        }
        self.pushes.clear();
        self.ended = true;
    }

    /// The order is known, for the first time or again after a gap: what was missed is to be fetched.
    pub fn catch_up(&mut self, cx: &Cx, fetches: &mut Fetches, view: &View, order: &Order) {
        if self.ended {
            return;
        }
        if !self.started {
            // From here on every position up to `planned` is in the plan, or before `next`.
            (self.started, self.planned) = (true, self.next.min(order.tail));
        }
        self.plan_fetch(cx, fetches, view, order.tail);
        self.consider_live(cx, view, order);
    }

    /// Adds `planned..to` to the plan, as a range.
    fn plan_fetch(&mut self, cx: &Cx, fetches: &mut Fetches, view: &View, to: Gsn) {
        let from = self.planned.max(self.next.min(to));
        self.planned = self.planned.max(to);
        if from >= to {
            return;
        }
        match self.plan.back() {
            Some(&Piece::Fetch { id, expect: None }) => fetches.extend(cx, view, id, to),
            _ => {
                let id = match cx.cfg.fetch.is_serial() {
                    true => fetches.open_in_turn(cx, view, from, to),
                    false => fetches.open(cx, view, from, to, None),
                };
                self.plan.push_back(Piece::Fetch { id, expect: None });
            }
        }
    }

    /// All before `upto` is to be had now, by asking for it. It is assigned, and no batch lies across it.
    pub fn fetch(&mut self, cx: &Cx, fetches: &mut Fetches, view: &View, order: &mut Order, upto: Gsn) {
        if self.started && !self.ended && upto > self.planned {
            order.tail = order.tail.max(upto);
            self.plan_fetch(cx, fetches, view, upto);
        }
    }

    fn consider_live(&mut self, cx: &Cx, view: &View, order: &Order) {
        if cx.cfg.fetch.is_pulled() {
            return;
        }
        let near = order.tail.0.saturating_sub(self.next.0) <= cx.cfg.live_within_records;
        if self.started && !self.ended && !self.live && near {
            // The plan ends exactly at the tail, whose lane lengths we know: pushes begin there.
            assert_eq!(self.planned, order.tail, "the seam between history and pushes");
            self.live = true;
            self.pushes.follow(cx, view, order);
        }
    }

    /// The next cut; `order` is after it.
    pub fn cut(&mut self, cx: &mut Cx, fetches: &mut Fetches, view: &View, order: &Order, cut: &Cut) {
        if !self.started || self.ended {
            return;
        }
        assert_eq!(self.planned, cut.base, "cut {} doesn't follow the plan", cut.number);
        if self.live && self.plan.len() as u64 > cx.cfg.live_within_records.saturating_mul(2) {
            self.fall_back(cx, fetches, view);
        }
        if !self.live {
            self.plan_fetch(cx, fetches, view, order.tail);
            return self.consider_live(cx, view, order);
        }
        self.planned = order.tail;
        for run in cut.runs() {
            self.plan.push_back(Piece::Run { run, since: cx.now });
        }
    }

    /// Too much waits (more than what is near, so this is not undone at once): gives up the pushes and fetches instead, until the tail is near again.
    fn fall_back(&mut self, cx: &mut Cx, fetches: &mut Fetches, view: &View) {
        cx.metrics.fell_back += 1;
        let to = self.planned;
        let first = self.plan.iter().position(|p| matches!(p, Piece::Run { .. })).unwrap_or(self.plan.len());
        for piece in self.plan.split_off(first) {
            match piece {
                Piece::Run { run, .. } => self.planned = self.planned.min(run.first_gsn),
                Piece::Fetch { id, .. } => fetches.close(id),
            }
        }
        self.live = false;
        self.pushes.clear();
        self.plan_fetch(cx, fetches, view, to);
    }

    pub fn view_changed(&mut self, cx: &Cx, view: &View, order: &Order) {
        if self.live {
            self.pushes.follow(cx, view, order);
        }
    }

    pub fn link_lost(&mut self, cx: &mut Cx, order: &Order, link: LinkId) {
        self.pushes.link_lost(cx, order, link);
    }

    /// The next batch, if it is here.
    pub fn take(
        &mut self,
        cx: &mut Cx,
        fetches: &mut Fetches,
        view: &View,
        order: &Order,
        own: WriterId,
    ) -> Option<Committed> {
        loop {
            let (first, placed, ordered_at) = match self.plan.front_mut()? {
                Piece::Fetch { .. } => match self.take_fetched(cx, fetches, view) {
                    Fetched::Batch(first, placed, ordered_at) => (first, placed, ordered_at),
                    Fetched::Done => continue,
                    Fetched::Nothing => return None,
                },
                Piece::Run { run, since } => match self.pushes.take(run) {
                    Ok(Some(placed)) => {
                        let (first, count) = (run.first_gsn, u64::from(placed.batch.count()));
                        let since = *since;
                        (run.first_gsn, run.first_lsn) = (first.plus(count), run.first_lsn.plus(count));
                        run.count -= count;
                        if run.count == 0 {
                            self.plan.pop_front();
                        }
                        (first, placed, since)
                    }
                    Ok(None) => return None,
                    Err(what) => {
                        tracing::error!(lane = %run.lane, lsn = %run.first_lsn, what, "pushes contradict a cut");
                        cx.metrics.damaged += 1;
                        let (run, since) = (*run, *since);
                        self.instead(cx, fetches, view, 0, run, since);
                        self.pushes.rotate(cx, order, run.lane.shard());
                        return None;
                    }
                },
            };
            if let Some(committed) = self.deliver(cx, first, placed, own, ordered_at) {
                if !self.live {
                    self.consider_live(cx, view, order);
                }
                return Some(committed);
            }
        }
    }

    fn take_fetched(&mut self, cx: &mut Cx, fetches: &mut Fetches, view: &View) -> Fetched {
        let Some(&mut Piece::Fetch { id, ref mut expect }) = self.plan.front_mut() else {
            return Fetched::Done;
        };
        let (first, placed) = match fetches.step(cx, id) {
            Step::Wait => return Fetched::Nothing,
            Step::Trimmed(until) if until <= self.next => {
                // The plan begins before what is wanted: what is gone was none of it.
                let to = fetches.end(id);
                fetches.close(id);
                self.plan.pop_front();
                if self.next < to {
                    let id = match cx.cfg.fetch.is_serial() {
                        true => fetches.open_in_turn(cx, view, self.next, to),
                        false => fetches.open(cx, view, self.next, to, None),
                    };
                    self.plan.push_front(Piece::Fetch { id, expect: None });
                }
                return Fetched::Done;
            }
            Step::Trimmed(until) => {
                cx.event(LogEvent::Gap { from: self.next, until });
                self.close(fetches);
                return Fetched::Nothing;
            }
            Step::Done => {
                fetches.close(id);
                self.plan.pop_front();
                return Fetched::Done;
            }
            Step::Batch(first, placed) => (first, placed),
        };
        let (place, count) = (placed.placement, u64::from(placed.batch.count()));
        // Ranges end where cuts end, so no batch lies across; and a run has exactly one place for each.
        let across = first.plus(count) > fetches.end(id);
        let elsewhere = expect.is_some_and(|(run, _)| {
            first != run.first_gsn || place.lane != run.lane || place.first_lsn != run.first_lsn
        });
        if across || elsewhere {
            tracing::error!(%first, ?place, ?expect, "a read contradicts a cut");
            cx.metrics.damaged += 1;
            fetches.reject(cx, id, self.next);
            return Fetched::Nothing;
        }
        let mut ordered_at = cx.now;
        if let Some((run, since)) = expect {
            ordered_at = *since;
            (run.first_gsn, run.first_lsn) = (run.first_gsn.plus(count), run.first_lsn.plus(count));
            run.count -= count;
        }
        Fetched::Batch(first, placed, ordered_at)
    }

    /// The part of a batch that is wanted, if there is one.
    fn deliver(
        &mut self,
        cx: &mut Cx,
        first_gsn: Gsn,
        placed: PlacedBatch,
        own: WriterId,
        ordered_at: Instant,
    ) -> Option<Committed> {
        let count = u64::from(placed.batch.count());
        let end = first_gsn.plus(count);
        if end <= self.next {
            return None;
        }
        assert!(first_gsn <= self.next, "positions {}..{first_gsn} were skipped", self.next);
        let skip = self.next.since(first_gsn);
        self.next = end;
        let data = placed.batch.kind() != BatchKind::Fence;
        if data && self.repeats.is_repeat(placed.batch.writer(), placed.batch.seq()) {
            let (writer, seq) = (placed.batch.writer(), placed.batch.seq());
            tracing::error!(%writer, %seq, gsn = %first_gsn, "a batch is in the log twice, or out of order");
            cx.metrics.duplicates += 1;
        }
        cx.metrics.delivered += count - skip;
        let own = placed.batch.writer() == own;
        let take = (count - skip) as u32;
        Some(Committed { first_gsn, placed, skip: skip as u32, take, own, ordered_at })
    }

    /// Puts a fetch in the place of the run at `i`.
    fn instead(
        &mut self,
        cx: &mut Cx,
        fetches: &mut Fetches,
        view: &View,
        i: usize,
        run: Run,
        since: Instant,
    ) {
        let id = fetches.open(cx, view, run.first_gsn, run.first_gsn.plus(run.count), Some(run.lane.shard()));
        self.plan[i] = Piece::Fetch { id, expect: Some((run, since)) };
        self.pushes.pass(run.lane, run.first_lsn.plus(run.count));
    }

    /// Runs that are late are read elsewhere, and their shards' pushes are had from elsewhere.
    pub fn tick(&mut self, cx: &mut Cx, fetches: &mut Fetches, view: &View, order: &Order) {
        let mut shards = Vec::new();
        for i in 0..self.plan.len().min(LATE_AHEAD) {
            let Piece::Run { run, since } = self.plan[i] else { continue };
            // Runs behind a late one of the same lane are late for the same reason: `pass` tells.
            if self.pushes.late_at(cx, &run, since).is_some_and(|t| t <= cx.now) {
                cx.metrics.late += 1;
                self.instead(cx, fetches, view, i, run, since);
                if !shards.contains(&run.lane.shard()) {
                    shards.push(run.lane.shard());
                }
            }
        }
        for shard in shards {
            self.pushes.rotate(cx, order, shard);
        }
    }

    pub fn deadline(&self, cx: &Cx) -> Option<(Instant, &'static str)> {
        let late = match self.plan.front() {
            Some(Piece::Run { run, since }) => self.pushes.late_at(cx, run, *since),
            _ => None,
        };
        super::cx::earlier(late.map(|t| (t, "a committed batch is late")), self.pushes.deadline(cx))
    }
}
