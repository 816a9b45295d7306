//! How is a lost copy of a finalized shard made anew? A slot that holds nothing of it asks the replicas that are left,
//! one question at a time: which parts there are, then the batches that those cover, lane by lane, in order.
//!
//! # What is written
//! What comes enters lanes and parts as replication and cuts bring it to a backup: each batch behind the placement
//! before it, its writer's and its placement's checksum checked (LOG-4), each part once all that it covers is durable
//! (LOG-2). So a copy in the making is a prefix at every moment, and a start finds it as it finds any replica: it goes
//! on behind what is durable, and writes nothing twice.
//!
//! # What is trimmed meanwhile
//! Whom we ask may have trimmed what we lack. Then the copy begins anew behind that: first every lane learns which
//! placement it goes on behind, then all of them move at once, and a mark says where the shard begins now.
//!
//! # What bounds it
//! One question is under way, and the next waits until all of the answer is durable; the lane that the oldest missing
//! part waits for is asked first, so what is held in memory is one answer per lane and one part. It takes no more than
//! `rebuild_bytes_per_s`. Whoever is asked reads from its disk what its page of questions says, no faster than we ask.

use super::Replica;
use super::commit::SANE_MAX;
use crate::effects::{Effects, Refusal};
use crate::marks::{lane_record, trim_record};
use crate::writers::Head;
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;
use zoolog_core::batch::PlacedBatch;
use zoolog_core::cut::{ShardBase, ShardHistory, ShardPart};
use zoolog_core::machine::ConnId;
use zoolog_core::view::Final;
use zoolog_core::wire::{BatchesAre, BatchesWanted, DiskRoom, PartsHeld, PartsWanted, RefusedWhy};
use zoolog_core::{CutNumber, Instant, LaneId, Lsn, SlotId};

/// Who had nothing for us is asked again after that.
const AGAIN: Duration = Duration::from_millis(200);

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    /// Parts behind that one.
    Parts(CutNumber),
    /// Batches of that lane from there on.
    Batches { lane: u8, from: u64 },
}

/// A copy in the making.
#[derive(Debug)]
pub(crate) struct Copy {
    /// How long each lane is to be.
    lens: Vec<u64>,
    /// The replica that is asked.
    source: usize,
    asked: Option<(ConnId, Want)>,
    /// Parts that come next, oldest first, as the source said.
    plan: VecDeque<ShardPart>,
    /// Where the copy is to begin anew, and which placement each lane goes on behind, as far as known.
    base: Option<(ShardBase, Vec<Option<u32>>)>,
    /// Nothing is asked before that.
    not_before: Option<Instant>,
    /// Bytes that came since the start.
    pub bytes: u64,
    /// Whether it has all, as was last seen.
    done: bool,
}

impl Copy {
    /// Of a shard that ended so.
    pub fn new(end: &Final) -> Self {
        Self {
            lens: end.lens.clone(),
            source: 0,
            asked: None,
            plan: VecDeque::new(),
            base: None,
            not_before: None,
            bytes: 0,
            done: false,
        }
    }

    /// What was planned no longer holds.
    fn plan_anew(&mut self) {
        self.plan.clear();
        self.base = None;
    }
}

impl Replica {
    /// Whether it is a copy in the making: it takes no part in anything else.
    pub fn is_copy(&self) -> bool {
        self.copy.is_some()
    }

    /// (records durable here, or trimmed; records there are), while a copy is being made.
    pub fn copied(&self) -> Option<(u64, u64, u64)> {
        let copy = self.copy.as_ref()?;
        Some((self.lanes.iter().map(|l| l.durable).sum(), copy.lens.iter().sum(), copy.bytes))
    }

    /// At the end of a turn: goes on, over the connection that `conn` gives for a slot. Whether there are marks that
    /// nothing else will take to the disk.
    pub fn tend_copy(
        &mut self,
        fx: &mut Effects,
        now: Instant,
        conn: impl Fn(SlotId) -> Option<ConnId>,
    ) -> bool {
        let Some(mut copy) = self.copy.take() else { return false };
        let mut urgent = false;
        if self.broken.is_none() {
            self.take_planned(fx, &mut copy);
            let is_news = !copy.done && self.is_complete();
            copy.done = self.is_complete();
            urgent = is_news && !fx.marks.is_empty();
            if is_news {
                tracing::info!(shard = %self.shard, bytes = copy.bytes, "a lost copy is rebuilt here");
            }
            self.ask(fx, now, &mut copy, conn);
        }
        self.copy = Some(copy);
        urgent
    }

    /// Parts all of whose records are durable by now.
    fn take_planned(&mut self, fx: &mut Effects, copy: &mut Copy) {
        let is_here = |r: &Self, p: &ShardPart| p.lens.iter().zip(&r.lanes).all(|(to, l)| *to <= l.durable);
        while copy.base.is_none() && copy.plan.front().is_some_and(|p| is_here(self, p)) {
            let part = copy.plan.pop_front().expect("just seen");
            if let Err(e) = self.take_part(fx, part) {
                // Whoever said so contradicts the batches that it or another gave us.
                tracing::warn!(shard = %self.shard, %e, "a part that doesn't fit: asking another replica");
                copy.plan_anew();
                copy.source += 1;
            }
        }
    }

    fn ask(
        &mut self,
        fx: &mut Effects,
        now: Instant,
        copy: &mut Copy,
        conn: impl Fn(SlotId) -> Option<ConnId>,
    ) {
        copy.not_before.take_if(|at| *at <= now);
        let settled = self.lanes.iter().all(|l| l.accepted == l.durable);
        let is_full = self.disk == DiskRoom::Full;
        if copy.done || is_full || copy.asked.is_some() || copy.not_before.is_some() || !settled {
            return;
        }
        let n = self.slots.len();
        let others = (0..n).map(|i| (copy.source + i) % n).filter(|i| *i != usize::from(self.index));
        let mut up = others.filter_map(|i| Some((i, conn(self.slots[i])?)));
        let Some((source, to)) = up.next() else { return }; // asked once somebody is there
        if source != copy.source {
            // What one has trimmed another may have: plans are of one replica.
            copy.plan_anew();
            copy.source = source;
        }
        let (want, upto) = self.next_want(fx, copy);
        match want {
            Want::Parts(after) => fx.send(to, PartsWanted { shard: self.shard, after }),
            Want::Batches { lane, from } => {
                let lane = LaneId::new(self.shard, lane);
                fx.send(to, BatchesWanted { lane, from: Lsn(from), to: Lsn(upto) });
            }
        }
        copy.asked = Some((to, want));
    }

    /// What to ask for next, and how far batches are wanted.
    fn next_want(&mut self, fx: &mut Effects, copy: &mut Copy) -> (Want, u64) {
        if let Some((base, lasts)) = &copy.base {
            let lacking = self
                .lanes
                .iter()
                .zip(&base.lens)
                .zip(lasts)
                .position(|((lane, start), last)| last.is_none() && lane.accepted < *start);
            if let Some(i) = lacking {
                return (Want::Batches { lane: i as u8, from: self.lanes[i].accepted }, base.lens[i]);
            }
            let (base, lasts) = copy.base.take().expect("just seen");
            self.begin_behind(fx, base, &lasts);
            self.take_planned(fx, copy);
        }
        let next = copy.plan.front().and_then(|p| {
            let i = self.lanes.iter().zip(&p.lens).position(|(lane, to)| lane.accepted < *to)?;
            let upto = copy.plan.back().expect("there is a front").lens[i];
            Some((Want::Batches { lane: i as u8, from: self.lanes[i].accepted }, upto))
        });
        next.unwrap_or((Want::Parts(self.history.number()), 0))
    }

    /// What lies before `base` is trimmed where we copy from: the copy begins there.
    fn begin_behind(&mut self, fx: &mut Effects, base: ShardBase, lasts: &[Option<u32>]) {
        tracing::info!(shard = %self.shard, from = %base.end, "what is missing of a copy is trimmed: going on behind it");
        self.trim_is(base.end);
        self.known = self.known.max(base.end);
        for ((lane, writers), (&start, last)) in
            self.lanes.iter_mut().zip(&mut self.writers).zip(base.lens.iter().zip(lasts))
        {
            lane.committed = start;
            if lane.accepted < start {
                let last = last.expect("asked for");
                lane.adopt(start, last);
                writers.missed_some();
                fx.marks.push(lane_record(lane.id, start, last));
            } else {
                lane.trim(start);
            }
        }
        fx.marks.push(trim_record(self.shard, self.trim, &base));
        (self.marked, self.emitted, self.part_durable) = (base.number, base.number, base.number);
        self.places = Default::default();
        self.history = ShardHistory::behind(base);
        (self.moved, self.freed) = (true, true);
    }

    /// Whether that slot owes an answer.
    pub fn copy_owed_by(&self, slot: SlotId) -> bool {
        self.copy.as_ref().is_some_and(|c| c.asked.is_some() && self.slots[c.source] == slot)
    }

    /// When to ask again.
    pub fn copy_deadline(&self) -> Option<Instant> {
        self.copy.as_ref()?.not_before
    }

    pub(super) fn copy_closed(&mut self, conn: ConnId) {
        if let Some(copy) = &mut self.copy
            && copy.asked.take_if(|a| a.0 == conn).is_some()
        {
            copy.source += 1;
        }
    }

    /// The source has nothing for us: another is asked, after a pause.
    fn ask_another(&mut self, now: Instant) {
        if let Some(copy) = &mut self.copy {
            copy.source += 1;
            copy.plan_anew();
            copy.not_before = Some(now + AGAIN);
        }
    }

    /// Whether the answer over `conn` is to the question under way.
    fn copy_answered(&mut self, conn: ConnId, want: Want) -> bool {
        self.copy.as_mut().is_some_and(|c| c.asked.take_if(|a| *a == (conn, want)).is_some())
    }

    /// A replica that is left says which parts there are.
    ///
    /// # Errors
    /// The connection is to be refused: they make no sense.
    pub fn copy_parts(&mut self, fx: &Effects, conn: ConnId, m: PartsHeld) -> Result<(), Refusal> {
        if !self.copy_answered(conn, Want::Parts(m.after)) || m.after != self.history.number() {
            return Ok(());
        }
        let Some(copy) = &mut self.copy else { return Ok(()) };
        let (mut number, mut end) = (m.after, self.history.end());
        let mut fits = |n: CutNumber, lens: &[u64], base: u64| {
            let sane = n > number && n.0 < SANE_MAX && base >= end.0 && base < SANE_MAX;
            (number, end) = (n, zoolog_core::Gsn(base));
            sane && lens.len() == copy.lens.len() && lens.iter().zip(&copy.lens).all(|(l, max)| l <= max)
        };
        let starts = m.base.iter().all(|b| fits(b.number, &b.lens, b.end.0));
        if !starts || !m.parts.iter().all(|p| fits(p.number, &p.lens, p.base.0)) {
            copy.source += 1;
            let text =
                format!("parts of shard {} behind {}, which ended as {:?}", m.shard, m.after, copy.lens);
            return Err(Refusal::new(RefusedWhy::Damaged, text));
        }
        if m.base.is_none() && m.parts.is_empty() {
            self.ask_another(fx.now);
            return Ok(());
        }
        copy.base = m.base.map(|b| (b, vec![None; copy.lens.len()]));
        copy.plan = m.parts.into();
        Ok(())
    }

    /// A replica that is left gives batches.
    ///
    /// # Errors
    /// The connection is to be refused: they are not what is missing.
    pub fn copy_batches(
        &mut self,
        fx: &mut Effects,
        conn: ConnId,
        m: &BatchesAre,
        mut payload: Bytes,
        bytes_per_s: u64,
    ) -> Result<(), Refusal> {
        let i = usize::from(m.lane.index());
        if !self.copy_answered(conn, Want::Batches { lane: m.lane.index(), from: m.from.0 }) {
            return Ok(());
        }
        let now = fx.now;
        let wrong = |r: &mut Self, text: String| {
            r.ask_another(now);
            Err(Refusal::new(RefusedWhy::Damaged, text))
        };
        let came = payload.len() as u64;
        let mut batches = Vec::new();
        while !payload.is_empty() {
            match PlacedBatch::check_next(&mut payload) {
                Ok(placed) => batches.push(placed),
                Err(e) => return wrong(self, format!("lane {}: {e}", m.lane)),
            }
        }
        let Some(copy) = &mut self.copy else { return Ok(()) };
        if came > 0 && bytes_per_s > 0 {
            let pause = came.saturating_mul(1_000_000_000) / bytes_per_s;
            copy.not_before = Some(now + Duration::from_nanos(pause));
        }
        copy.bytes += came;
        if m.start > m.from || copy.base.is_some() {
            return self.copy_base(now, i, m, batches.first());
        }
        if batches.is_empty() {
            self.ask_another(now);
            return Ok(());
        }
        let upto = copy.lens[i];
        for placed in batches {
            if let Some(why) = self.lanes[i].refusal(&placed) {
                return wrong(self, why);
            }
            if placed.end_lsn().0 > upto {
                return wrong(
                    self,
                    format!("lane {} ended at {upto}, a batch ends at {}", m.lane, placed.end_lsn()),
                );
            }
            let (lane, windows) = (&mut self.lanes[i], &mut self.writers[i]);
            windows.backed_up(&Head::of(&placed.batch), placed.placement.first_lsn.0, lane.committed);
            lane.accept(placed.clone());
            fx.staged.push(placed);
        }
        Ok(())
    }

    /// What was asked for is trimmed there: what the lane goes on behind.
    fn copy_base(
        &mut self,
        now: Instant,
        i: usize,
        m: &BatchesAre,
        first: Option<&PlacedBatch>,
    ) -> Result<(), Refusal> {
        let Some(copy) = &mut self.copy else { return Ok(()) };
        let known = copy.base.as_mut().filter(|(base, _)| base.lens[i] == m.start.0);
        let Some((_, lasts)) = known else {
            copy.plan_anew(); // more was trimmed meanwhile: the parts say where it begins now
            return Ok(());
        };
        let is_first = |b: &&PlacedBatch| (b.placement.lane, b.placement.first_lsn) == (m.lane, m.start);
        match first.filter(is_first) {
            Some(b) => lasts[i] = Some(b.placement.prev),
            None if m.len == m.start => lasts[i] = Some(m.last),
            None => self.ask_another(now), // it couldn't read it
        }
        Ok(())
    }
}
