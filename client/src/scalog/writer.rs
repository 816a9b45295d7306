//! How do our records get into the log, each once and in order? One writer, one lane at a time: batches with dense
//! numbers, sent in a pipeline, kept until they are acknowledged, and sent again, byte for byte and in
//! order, whenever their fate is in doubt. The primary recognises what it has. A lane is left only when it is settled
//! which of our batches are in it (`leaving`). Invariant LOG-3.

use super::cx::Cx;
use super::leaving::Leaving;
use super::links::{LinkId, Links};
use super::naming::Naming;
use super::order::POSITION_MAX;
use super::orderers::Orderers;
use crate::{AppendError, ClientConfig, LogEvent, WriterLost};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use zoolog_core::batch::{Batch, BatchBuilder, BatchKind, EPOCHS_MAX, PlacedBatch, first_seq};
use zoolog_core::limits::{BATCH_BYTES_TARGET, BATCH_RECORDS_MAX, RECORD_BYTES_MAX};
use zoolog_core::rng::Rng;
use zoolog_core::view::{ShardState, View};
use zoolog_core::wire::{
    self, Append, AppendRefused, AppendRefusedWhy, Appended, DiskRoom, ResolveEnd, Resolved, Room, Status,
    WriterIs, WriterRefused,
};
use zoolog_core::{Epoch, Gsn, Instant, LaneId, Seq, WriterId};

/// Pause before batches go out again that the primary can't take yet.
const RETRY_FIRST: Duration = Duration::from_millis(2);
/// The longest such pause.
const RETRY_MAX: Duration = Duration::from_millis(200);
/// Pause before a batch goes out again for which a disk had no room.
const FULL_RETRY: Duration = Duration::from_millis(500);
/// After this many refusals in a row as malformed, the batch itself must be at fault.
const MALFORMED_MAX: u32 = 3;
/// An unanswered pipeline is given this many times `stall_after` before its connection is made anew.
const STALLS_TO_REDIAL: u32 = 3;

#[derive(Debug)]
struct Pending {
    batch: Batch,
    acked: Option<Gsn>,
}

#[derive(Debug)]
pub(super) struct Writer {
    id: WriterId,
    /// Of a writer that has a name.
    naming: Option<Naming>,
    /// Of one that has none: counts how often every lane was closed for it.
    opening: Epoch,
    open: BatchBuilder,
    /// Number of the open batch.
    next: Seq,
    /// Closed batches, up to `next`, from the first that is not acknowledged.
    pending: VecDeque<Pending>,
    pending_bytes: usize,
    /// How many of `pending` went out on the current connection.
    sent: usize,
    /// One past the greatest number that ever went out.
    ever_sent: Seq,
    lane: Option<LaneId>,
    /// First number that this lane can have.
    start: Seq,
    link: Option<LinkId>,
    /// While it is being settled what is in the lane.
    leaving: Option<Leaving>,
    /// Lanes of the view that are over for this opening of ours; whether by a fence that we sent. If not their shards have
    /// ended, and the view that says so is on its way.
    closed: BTreeMap<LaneId, bool>,
    /// Since when there is no lane to go to, though the view has some.
    stranded_since: Option<Instant>,
    /// There is no lane to go to from here.
    last_lane: bool,
    /// Since when there is no connection on which the primary has answered anything.
    down_since: Option<Instant>,
    /// When it last answered anything.
    heard: Instant,
    /// When it was asked for a sign of life on this connection; it has answered nothing since.
    asked: Option<Instant>,
    /// Lanes given up before anything went out.
    skipped: u64,
    pause_until: Option<Instant>,
    /// How much room the disks of the lane have, as far as its primary said.
    room: DiskRoom,
    /// It was refused for want of room: one batch goes out at a time, until one is taken.
    probing: bool,
    refusals: u32,
    malformed: u32,
    /// Last time that something was acknowledged, or began to wait.
    moved: Instant,
    /// Last time that the connection was made anew for want of answers.
    kicked: Instant,
    /// One past the greatest position acknowledged.
    end: Gsn,
    /// Where the run of our own records begins that ends there.
    run: Gsn,
    /// The tail that a conditional append expected, and where what we have appended ends if nobody else comes between. It
    /// counts while something is pending.
    chain: Option<(Gsn, Gsn)>,
    lost: Option<WriterLost>,
    /// It takes nothing more: the log is to end.
    closing: bool,
    /// The log has ended: there is no lane to go to.
    ended: bool,
}

impl Writer {
    pub fn new(cfg: &ClientConfig, seed: u64, now: Instant) -> Self {
        let naming = cfg.name.clone().map(Naming::new);
        let drawn = Rng::new(seed, "writer").next_u128();
        Self {
            id: WriterId(if naming.is_some() { 0 } else { drawn }),
            naming,
            opening: Epoch(0),
            open: BatchBuilder::new(),
            next: cfg.first_seq,
            pending: VecDeque::new(),
            pending_bytes: 0,
            sent: 0,
            ever_sent: cfg.first_seq,
            lane: None,
            start: cfg.first_seq,
            link: None,
            leaving: None,
            closed: BTreeMap::new(),
            stranded_since: None,
            last_lane: false,
            down_since: None,
            heard: now,
            asked: None,
            skipped: 0,
            pause_until: None,
            room: DiskRoom::Ample,
            probing: false,
            refusals: 0,
            malformed: 0,
            moved: now,
            kicked: now,
            end: Gsn(0),
            run: Gsn(0),
            chain: None,
            lost: None,
            closing: false,
            ended: false,
        }
    }

    pub fn id(&self) -> WriterId {
        self.id
    }

    pub fn pending_batches(&self) -> usize {
        self.pending.len() + usize::from(!self.open.is_empty())
    }

    fn first(&self) -> Seq {
        Seq(self.next.0 - self.pending.len() as u64)
    }

    fn window_open(&self, cx: &Cx) -> bool {
        self.pending.len() < cx.cfg.window_batches && self.pending_bytes < cx.cfg.window_bytes
    }

    /// Whether it knows its numbers: at once if it has no name.
    fn is_open(&self) -> bool {
        self.naming.as_ref().is_none_or(Naming::is_open)
    }

    fn epoch(&self) -> Epoch {
        self.naming.as_ref().map_or(self.opening, |n| n.epoch)
    }

    pub fn has_room(&self, cx: &Cx) -> bool {
        let takes = self.lost.is_none() && !self.closing;
        takes && self.is_open() && (self.open.is_empty() || self.window_open(cx))
    }

    pub fn append(&mut self, cx: &Cx, record: &[u8]) -> Result<(Seq, u32), AppendError> {
        let takes = self.lost.is_none() && !self.closing;
        if self.room != DiskRoom::Ample && record.len() <= RECORD_BYTES_MAX && takes {
            return Err(AppendError::DiskFull);
        }
        self.append_vital(cx, record)
    }

    pub fn append_vital(&mut self, cx: &Cx, record: &[u8]) -> Result<(Seq, u32), AppendError> {
        if record.len() > RECORD_BYTES_MAX {
            return Err(AppendError::TooLong { bytes: record.len(), limit: RECORD_BYTES_MAX });
        }
        if self.lost.is_some() {
            return Err(AppendError::Closed);
        }
        if self.closing {
            return Err(AppendError::Sealed);
        }
        if !self.is_open() {
            return Err(AppendError::NotOpen);
        }
        if !self.open.has_room(record.len()) {
            if !self.window_open(cx) {
                return Err(AppendError::Full);
            }
            self.close_batch(cx, BatchKind::Data);
        }
        let index = self.open.count();
        self.open.push(record);
        Ok((self.next, index))
    }

    /// A batch of its own that counts only if what was ordered at or past `expected` before it is ours. As it is not
    /// sent yet, it comes behind `known`, the tail that we know; so where it comes if nobody else does is settled now, it can
    /// come no earlier, and comes later if somebody does.
    pub fn append_if(
        &mut self,
        cx: &Cx,
        known: Gsn,
        expected: Gsn,
        records: &[&[u8]],
    ) -> Result<Seq, AppendError> {
        if let Some(long) = records.iter().find(|r| r.len() > RECORD_BYTES_MAX) {
            return Err(AppendError::TooLong { bytes: long.len(), limit: RECORD_BYTES_MAX });
        }
        let bytes: usize = records.iter().map(|r| r.len() + 16).sum();
        let fits = records.len() == 1
            || (bytes <= BATCH_BYTES_TARGET && records.len() <= BATCH_RECORDS_MAX as usize);
        if records.is_empty() || !fits {
            return Err(AppendError::NoBatch { records: BATCH_RECORDS_MAX, bytes: BATCH_BYTES_TARGET });
        }
        if self.lost.is_some() {
            return Err(AppendError::Closed);
        }
        if self.closing {
            return Err(AppendError::Sealed);
        }
        if self.room != DiskRoom::Ample {
            return Err(AppendError::DiskFull);
        }
        if !self.is_open() {
            return Err(AppendError::NotOpen);
        }
        if !self.open.is_empty() && self.window_open(cx) {
            self.close_batch(cx, BatchKind::Data);
        }
        if !self.open.is_empty() || !self.window_open(cx) {
            return Err(AppendError::Full);
        }
        let at = self.position_if(known, expected)?;
        records.iter().for_each(|record| self.open.push(record));
        let seq = self.next;
        self.chain = Some((expected, at));
        self.close_batch(cx, BatchKind::OnlyAt(at));
        Ok(seq)
    }

    /// Where our next batch comes if nobody else's record is ordered at or past `expected` before it.
    fn position_if(&self, known: Gsn, expected: Gsn) -> Result<Gsn, AppendError> {
        let known = known.max(self.end);
        if expected > known {
            return Err(AppendError::Unsettled);
        }
        let from_run = self.run <= expected && expected <= self.end;
        if self.pending.is_empty() {
            // All that we have appended lies before our end.
            let at = if from_run { self.end } else { expected };
            return if at < known { Err(AppendError::Conflict { tail: known }) } else { Ok(at) };
        }
        match self.chain {
            _ if from_run => Ok(self.end.plus(self.pending.iter().map(|p| u64::from(p.batch.count())).sum())),
            _ if expected < self.run => Err(AppendError::Conflict { tail: known }),
            Some((since, at)) if since == expected => Ok(at),
            _ => Err(AppendError::Unsettled),
        }
    }

    /// It takes nothing more.
    pub fn close(&mut self) {
        self.closing = true;
    }

    /// The log has ended: no lane takes anything more, whatever our view says of them.
    pub fn end(&mut self) {
        (self.closing, self.ended) = (true, true);
    }

    /// Whether it has come to its end.
    pub fn is_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// Whether it is known of all that was appended whether it is in the log that has ended: what is not acknowledged is not.
    pub fn is_settled(&self) -> bool {
        self.ended && (self.lane.is_none() || self.pending.is_empty() || self.lost.is_some())
    }

    /// Takes over from the writer of a log that has ended what is not in that one, to bring it into this one: the same batches,
    /// of the same numbers, in that order.
    ///
    /// # Panics
    /// If it has appended something itself, or it is not settled there.
    pub fn inherit(&mut self, cx: &Cx, from: &mut Self) {
        assert!(self.pending.is_empty() && self.open.is_empty(), "{}: a writer that has begun", self.id);
        assert!(from.is_settled() && self.naming.is_none(), "{}: not settled, or named", from.id);
        if !from.open.is_empty() && from.lost.is_none() {
            from.close_batch(cx, BatchKind::Data);
        }
        // What a writer that was lost had under way may be in: nobody brings it along.
        self.lost = from.lost;
        if self.lost.is_some() {
            return;
        }
        let first = from.first();
        (self.next, self.start, self.ever_sent) = (first, first, first);
        for Pending { batch, acked } in from.pending.drain(..) {
            assert!(acked.is_none() && batch.seq() == self.next, "LOG-3: {} of {}", batch.seq(), from.id);
            let mut builder = BatchBuilder::new();
            batch.records().for_each(|record| builder.push(&record));
            let batch = builder.finish(batch.kind(), self.id, self.opening, self.next);
            self.pending_bytes += batch.bytes().len();
            self.pending.push_back(Pending { batch, acked: None });
            self.next = self.next.next();
        }
        from.pending_bytes = 0;
        (self.end, self.run, self.chain, self.moved) = (from.end, from.run, from.chain.take(), cx.now);
    }

    fn close_batch(&mut self, cx: &Cx, kind: BatchKind) {
        let count = u64::from(self.open.count());
        self.chain = self.chain.map(|(expected, end)| (expected, end.plus(count)));
        let batch = self.open.finish(kind, self.id, self.epoch(), self.next);
        if self.pending.is_empty() {
            self.moved = cx.now;
        }
        self.pending_bytes += batch.bytes().len();
        self.pending.push_back(Pending { batch, acked: None });
        self.next = self.next.next();
    }

    /// End of the turn: closes the open batch if the window allows, sends what has not gone out.
    pub fn flush(&mut self, cx: &mut Cx, links: &mut Links) {
        if !self.open.is_empty() && self.lost.is_none() && self.window_open(cx) {
            self.close_batch(cx, BatchKind::Data);
        }
        if self.leaving.as_ref().is_some_and(Leaving::is_undone) && self.placed(links) {
            self.leaving = None; // its primary is back, and nothing has closed the lane
        }
        let (Some(lane), Some(link), None) = (self.lane, self.link, self.pause_until) else { return };
        let ours = self.naming.as_ref().is_none_or(Naming::has_lane);
        if self.lost.is_some() || self.leaving.is_some() || !ours || !links.is_up(link) {
            return;
        }
        let full = self.pending_bytes > cx.cfg.window_bytes / 4;
        let upto = if self.probing { self.pending.len().min(1) } else { self.pending.len() };
        for (i, pending) in self.pending.iter().enumerate().take(upto).skip(self.sent) {
            // Acknowledgements that may be late must not come so late that the window fills.
            let prompt = cx.cfg.prompt_acks || full || i + 1 > cx.cfg.window_batches / 4;
            let append = Append { lane, start: self.start, prompt };
            links.send(cx, link, wire::encode_with(append, &[pending.batch.bytes()]));
        }
        self.sent = self.sent.max(upto);
        if self.sent > 0 {
            self.ever_sent = self.ever_sent.max(Seq(self.first().0 + self.sent as u64));
        }
    }

    /// Nothing of ours can be in the lane.
    fn untouched(&self) -> bool {
        self.ever_sent <= self.start
    }

    /// Whether the writer has a primary that is connected.
    pub fn placed(&self, links: &Links) -> bool {
        self.link.is_some_and(|l| links.is_up(l))
    }

    pub fn is_on(&self, link: LinkId) -> bool {
        self.link == Some(link)
    }

    /// Chooses the lane, or finds it again in a new view.
    pub fn place(&mut self, cx: &mut Cx, links: &mut Links, view: &View) {
        if let Some(naming) = &mut self.naming
            && naming.follow(view)
        {
            self.begin(cx);
        }
        if self.lost.is_some() || !self.is_open() {
            return;
        }
        let state = |lane: LaneId| view.shard(lane.shard()).map(|s| s.state == ShardState::Live);
        match self.lane.map(|lane| (lane, state(lane))) {
            Some((_, Some(true))) | None => {}
            Some(_) if self.untouched() => self.lane = None,
            // Nothing of ours is in doubt.
            Some((_, None)) if self.pending.is_empty() => self.lane = None,
            Some((_, Some(false))) if self.ended && self.pending.is_empty() => self.lane = None,
            Some((_, Some(false))) => self.leave(cx, false),
            // All of it is trimmed: nobody can tell any more.
            Some((_, None)) => return self.end_with(cx, WriterLost::Forgotten),
        }
        if self.lane.is_none() {
            self.leaving = None;
            self.closed.retain(|lane, _| view.shard(lane.shard()).is_some());
            if self.ended {
                (self.link, self.stranded_since) = (None, None);
                return;
            }
            let all = || view.live().flat_map(|s| s.lanes());
            let open = |closed: &BTreeMap<LaneId, bool>| -> Vec<LaneId> {
                all().filter(|lane| !closed.contains_key(lane)).collect()
            };
            let mut lanes = open(&self.closed);
            if lanes.is_empty() && all().next().is_some() {
                self.stranded(cx, all().all(|lane| self.closed[&lane]));
                lanes = open(&self.closed);
            }
            if lanes.is_empty() {
                self.link = None;
                return;
            }
            self.stranded_since = None;
            // The id is drawn evenly, so writers spread evenly over the lanes.
            let i = self.id.0.wrapping_add(u128::from(self.skipped)) % lanes.len() as u128;
            (self.lane, self.start) = (Some(lanes[i as usize]), self.first());
            if let Some(naming) = &mut self.naming {
                naming.claim();
            }
            // Of the new one nothing is known yet.
            self.probing = false;
            self.set_room(cx, DiskRoom::Ample);
        }
        let lane = self.lane.expect("just chosen");
        let mut all = view.live().flat_map(|s| s.lanes());
        self.last_lane = !all.any(|other| other != lane && !self.closed.contains_key(&other));
        let link = links.route(lane.shard()).get(usize::from(lane.index())).copied();
        if link != self.link {
            self.link = link;
            self.sent = 0;
            (self.asked, self.down_since) = (None, None);
        }
        if let Some(link) = link {
            links.want(cx, link);
            if !links.is_up(link) {
                self.down_since.get_or_insert(cx.now);
            }
        }
    }

    /// Every lane of the view is over for this opening of ours; whether a fence that we sent ended each of them. If so they
    /// are open to the next opening, which is ours to give if we have no name, and another's if we have one. If not we wait
    /// for the view that says which shards there are instead; not for ever: others may have fenced us.
    fn stranded(&mut self, cx: &mut Cx, fenced: bool) {
        let since = *self.stranded_since.get_or_insert(cx.now);
        match &self.naming {
            None if fenced || since + cx.cfg.request_timeout <= cx.now => self.open_again(),
            Some(_) if fenced => self.end_with(cx, WriterLost::NoLane),
            _ => {}
        }
    }

    /// The primary has answered something. That a connection is up doesn't tell that it would: a kernel accepts for a
    /// process that stands still. Nor do pushes: the network may swallow what goes the other way.
    pub fn heard(&mut self, cx: &Cx, link: LinkId) {
        if self.is_on(link) {
            self.heard = cx.now;
            (self.asked, self.down_since) = (None, None);
        }
    }

    /// Every lane was closed for this opening of ours; for the next they are open, also to what this one has left. None of
    /// that is in any lane, which is why it may get other bytes, and these differ in the opening only.
    fn open_again(&mut self) {
        tracing::warn!(writer = %self.id, opening = %self.opening, lanes = self.closed.len(), "all lanes are closed for this writer: it opens anew");
        self.closed.clear();
        self.opening = self.opening.next();
        for p in &mut self.pending {
            assert!(
                p.acked.is_none(),
                "writer {}: {} is in a lane and goes to another",
                self.id,
                p.batch.seq()
            );
            let mut builder = BatchBuilder::new();
            p.batch.records().for_each(|record| builder.push(&record));
            p.batch = builder.finish(p.batch.kind(), self.id, self.opening, p.batch.seq());
        }
    }

    /// The lane takes no more of ours, or its primary can't be reached: nothing goes out before it is settled what
    /// is in.
    fn leave(&mut self, cx: &mut Cx, fence: bool) {
        if self.leaving.is_none() {
            tracing::info!(writer = %self.id, lane = ?self.lane, fence, "leaving a lane");
            cx.metrics.left_lanes += 1;
            self.leaving = Some(Leaving::new(cx.now, self.epoch(), fence));
        }
    }

    /// Asks the ordering layer for a name, or a lane for it.
    pub fn ask_names(&mut self, cx: &mut Cx, orderers: &Orderers) {
        let lane = self.lane.filter(|_| self.leaving.is_none());
        if let Some(naming) = self.naming.as_mut().filter(|_| self.lost.is_none()) {
            naming.ask(cx, orderers, lane, self.end);
        }
    }

    /// The orderer is gone, and what it was asked with it.
    pub fn orderer_gone(&mut self) {
        self.naming.iter_mut().for_each(Naming::lost);
    }

    /// What the ordering layer decided about our name.
    pub fn named(&mut self, cx: &mut Cx, links: &mut Links, view: &View, m: &WriterIs) {
        let Some(naming) = self.naming.as_mut().filter(|_| self.lost.is_none()) else { return };
        if !naming.answered(m.request) {
            return;
        }
        match m.refused {
            WriterRefused::No => {}
            WriterRefused::Fenced => return self.end_with(cx, WriterLost::Fenced),
            WriterRefused::Invalid if !naming.is_opening() => {
                // The lane takes no appends any more, as our view will say.
                self.skipped += 1;
                self.lane = None;
                return self.place(cx, links, view);
            }
            WriterRefused::Invalid | WriterRefused::TooMany => return self.end_with(cx, WriterLost::NoName),
        }
        if !naming.is_opening() {
            if m.epoch == naming.epoch && m.lane == self.lane && self.lane.is_some() {
                naming.claimed();
            }
            return;
        }
        if m.epoch.0 == 0 || m.epoch.0 >= EPOCHS_MAX {
            tracing::error!(epoch = %m.epoch, "an opening that can't be");
            return;
        }
        self.id = m.writer;
        if !naming.opened(cx, view, m.epoch, m.lane, m.tail) {
            self.begin(cx);
            self.place(cx, links, view);
        }
    }

    /// The name is ours, and nothing more comes from whoever had it.
    fn begin(&mut self, cx: &mut Cx) {
        let Some(naming) = &self.naming else { return };
        let (writer, epoch, tail) = (self.id, naming.epoch, naming.tail);
        let first = first_seq(epoch);
        (self.next, self.start, self.ever_sent) = (first, first, first);
        if cx.cfg.expected_tail.is_some_and(|expected| tail != Some(expected)) {
            return self.end_with(cx, WriterLost::Conflict { tail });
        }
        cx.event(LogEvent::Opened { writer, epoch, tail });
    }

    /// An answer about the lane that we are leaving, or of whoever had our name.
    pub fn resolved(&mut self, cx: &mut Cx, links: &mut Links, view: &View, from: LinkId, m: &Resolved) {
        if let Some(naming) = self.naming.as_mut().filter(|_| m.writer == self.id)
            && naming.fenced(cx.now, m)
        {
            self.begin(cx);
            return self.place(cx, links, view);
        }
        let first = self.first();
        let Some(leaving) = self.leaving.as_mut().filter(|l| l.is_answer(m)) else { return };
        if m.writer != self.id || Some(m.lane) != self.lane {
            return;
        }
        let fenced = leaving.has_fenced();
        match m.end {
            ResolveEnd::Open | ResolveEnd::NotReady => return leaving.again(cx.now),
            // Who waits for nothing has nothing in doubt.
            ResolveEnd::Forgotten if self.pending.is_empty() => {}
            ResolveEnd::Forgotten => match leaving.forgotten(cx.now, from, links.route(m.lane.shard())) {
                true => return self.end_with(cx, WriterLost::Forgotten),
                false => return,
            },
            ResolveEnd::Final => {}
        }
        // What is in a lane is a stretch of our numbers from its start on: ours from the first that we still hold.
        let acks: Vec<_> = m.acks.iter().filter(|(seq, _)| *seq >= first).copied().collect();
        // Their positions ascend, and are those that we know; and none that we know is missing.
        let (mut end, mut can_be) = (self.end, acks.len() <= self.pending.len());
        for ((&(seq, gsn), p), n) in acks.iter().zip(&self.pending).zip(first.0..) {
            let sane = seq.0 == n && seq < self.ever_sent && gsn.0 <= POSITION_MAX;
            can_be &= sane && gsn >= end && p.acked.is_none_or(|known| known == gsn);
            end = if sane { gsn.plus(u64::from(p.batch.count())) } else { end };
        }
        can_be &= self.pending.iter().skip(acks.len()).all(|p| p.acked.is_none());
        if !can_be {
            tracing::error!(lane = %m.lane, acks = ?m.acks, %first, end = %self.end, "an answer that can't be about what is in a lane");
            return leaving.again(cx.now);
        }
        for (p, &(_, gsn)) in self.pending.iter_mut().zip(&acks) {
            p.acked = Some(gsn);
        }
        // A fence has closed it, or it has ended, whatever our view says of it.
        self.closed.insert(m.lane, fenced);
        if let Err(gsn) = self.advance(cx) {
            tracing::error!(%gsn, end = %self.end, "what is in a lane is out of order");
        }
        (self.lane, self.leaving, self.link, self.down_since) = (None, None, None, None);
        (self.sent, self.ever_sent, self.pause_until, self.moved) = (0, self.first(), None, cx.now);
        self.place(cx, links, view);
    }

    /// The connection to the primary has ended or could not be made: all that is pending goes out again on the
    /// next one. A writer that never sent anything may as well try another lane.
    pub fn link_lost(&mut self, cx: &mut Cx, links: &mut Links, view: &View) {
        self.sent = 0;
        (self.pause_until, self.asked) = (None, None);
        self.down_since.get_or_insert(cx.now);
        self.probing = false;
        // The next one says it anew.
        self.set_room(cx, DiskRoom::Ample);
        if self.untouched() && self.lost.is_none() {
            self.skipped += 1;
            self.lane = None;
            self.place(cx, links, view);
        }
    }

    /// The primary says how much room there is.
    pub fn room_is(&mut self, cx: &mut Cx, link: LinkId, m: &Room) {
        if !self.is_on(link) || self.lane != Some(m.lane) {
            return;
        }
        self.set_room(cx, m.room);
        if m.room != DiskRoom::Full && std::mem::take(&mut self.probing) {
            self.pause_until = None;
        }
    }

    fn set_room(&mut self, cx: &mut Cx, room: DiskRoom) {
        if std::mem::replace(&mut self.room, room) != room {
            cx.event(LogEvent::Room { room });
        }
    }

    /// Acknowledgements. Repeated ones are harmless, impossible ones cost the connection.
    pub fn appended(&mut self, cx: &mut Cx, links: &Links, link: LinkId, m: &Appended) {
        if m.writer != self.id || !self.is_on(link) {
            return;
        }
        for &(seq, gsn) in &m.acks {
            if seq < self.first() {
                continue;
            }
            let slot = if seq < self.ever_sent && gsn.0 <= POSITION_MAX {
                seq.since(self.first()) as usize
            } else {
                usize::MAX
            };
            match self.pending.get_mut(slot) {
                Some(p) if p.acked.is_none_or(|g| g == gsn) => p.acked = Some(gsn),
                _ => {
                    tracing::error!(primary = links.addr(link), %seq, %gsn, "an acknowledgement that can't be");
                    cx.condemned.insert(link);
                    return;
                }
            }
        }
        if let Err(gsn) = self.advance(cx) {
            tracing::error!(primary = links.addr(link), %gsn, end = %self.end, "acknowledged out of order");
            cx.condemned.insert(link);
        }
    }

    /// The subscription has shown a batch of ours. That is as good as an acknowledgement, and rests on the same:
    /// a cut says that it is durable on all replicas of its shard, and ordered. Its primary is one of them, so
    /// whatever becomes of the connection, of the primary's process or of our next resend, it will not ask for
    /// this batch again. One that is not, to the bit, what we have pending is left to its acknowledgement.
    pub fn committed(&mut self, cx: &mut Cx, first_gsn: Gsn, placed: &PlacedBatch) {
        let (seq, first) = (placed.batch.seq(), self.first());
        if cx.cfg.prompt_acks || seq < first || seq >= self.ever_sent || self.lost.is_some() {
            return;
        }
        let pending = self.pending.get_mut(seq.since(first) as usize);
        let same = |p: &&mut Pending| p.batch.crc() == placed.batch.crc() && p.acked.is_none();
        let Some(p) = pending.filter(same).filter(|_| self.lane == Some(placed.placement.lane)) else {
            return;
        };
        p.acked = Some(first_gsn);
        if let Err(gsn) = self.advance(cx) {
            tracing::error!(%gsn, end = %self.end, "a batch of ours is ordered before an earlier one");
        }
    }

    /// Lets go of what is acknowledged at the front of the window. `Err` with the position of a batch that can't
    /// be where it is said to be.
    fn advance(&mut self, cx: &mut Cx) -> Result<(), Gsn> {
        while let Some(gsn) = self.pending.front().and_then(|p| p.acked) {
            if gsn < self.end {
                self.pending.front_mut().expect("just seen").acked = None;
                return Err(gsn);
            }
            let (seq, p) = (self.first(), self.pending.pop_front().expect("just seen"));
            let count = p.batch.count();
            self.pending_bytes -= p.batch.bytes().len();
            self.sent = self.sent.saturating_sub(1);
            if gsn != self.end {
                self.run = gsn;
            }
            self.end = gsn.plus(u64::from(count));
            (self.moved, self.refusals, self.malformed) = (cx.now, 0, 0);
            self.probing = false;
            cx.event(match p.batch.kind() {
                BatchKind::OnlyAt(expected) if expected != gsn => {
                    LogEvent::Conflict { seq, expected, tail: gsn }
                }
                _ => LogEvent::Appended { seq, first_gsn: gsn, count },
            });
            if self.pending.is_empty() {
                self.chain = None;
            }
        }
        Ok(())
    }

    /// A batch was not taken, nor anything behind it.
    pub fn refused(&mut self, cx: &mut Cx, links: &Links, link: LinkId, m: &AppendRefused) {
        // While we pause, refusals of what was in the pipeline come in: they say nothing new.
        let quiet = self.pause_until.is_some() || self.leaving.is_some() || self.lost.is_some();
        if m.writer != self.id || Some(m.lane) != self.lane || !self.is_on(link) || quiet {
            return;
        }
        tracing::debug!(primary = links.addr(link), seq = %m.seq, why = ?m.why, expected = %m.expected, "append refused");
        cx.metrics.refused += 1;
        let mut resend = 0;
        match m.why {
            AppendRefusedWhy::Closed => return self.leave(cx, false),
            AppendRefusedWhy::Gap if m.expected < self.first() => {
                return self.end_with(cx, WriterLost::Forgotten);
            }
            AppendRefusedWhy::Gap => resend = m.expected.since(self.first()) as usize,
            AppendRefusedWhy::Malformed => {
                self.malformed += 1;
                if self.malformed >= MALFORMED_MAX {
                    return self.end_with(cx, WriterLost::Malformed);
                }
            }
            // For as long as it takes, and without sending everything again and again.
            AppendRefusedWhy::DiskFull => {
                (self.probing, self.kicked) = (true, cx.now);
                self.sent = 0;
                self.pause_until = Some(cx.now + cx.pause(FULL_RETRY, FULL_RETRY, 0));
                return;
            }
            AppendRefusedWhy::NotPrimary | AppendRefusedWhy::Recovering | AppendRefusedWhy::Window => {}
        }
        self.sent = self.sent.min(resend);
        let pause = cx.pause(RETRY_FIRST, RETRY_MAX, self.refusals);
        self.refusals = self.refusals.saturating_add(1);
        self.pause_until = Some(cx.now + pause);
    }

    fn end_with(&mut self, cx: &mut Cx, why: WriterLost) {
        tracing::warn!(writer = %self.id, %why, "writer lost");
        self.lost = Some(why);
        cx.event(LogEvent::WriterLost { why, unknown_from: self.first() });
    }

    /// This is not the log that it was to write to.
    pub fn has_no_successor(&mut self, cx: &mut Cx) {
        if self.lost.is_none() {
            self.end_with(cx, WriterLost::NoSuccessor);
        }
    }

    /// Since when acknowledgements are overdue, if they are.
    pub fn waiting_since(&self) -> Option<Instant> {
        let waits = !self.pending.is_empty() && self.lost.is_none();
        (waits && !self.is_settled()).then_some(self.moved)
    }

    fn kick_at(&self, cx: &Cx) -> Option<Instant> {
        Some(self.waiting_since()?.max(self.kicked) + cx.cfg.stall_after * STALLS_TO_REDIAL)
    }

    /// When the primary is to be asked for a sign of life: a log that stands still is no reason to leave it.
    fn ask_at(&self, cx: &Cx, links: &Links) -> Option<Instant> {
        let quiet = self.waiting_since()?.max(self.heard) + cx.cfg.stall_after;
        (self.placed(links) && self.asked.is_none() && self.leaving.is_none()).then_some(quiet)
    }

    pub fn tick(&mut self, cx: &mut Cx, links: &mut Links, view: &View) {
        if self.stranded_at(cx).is_some_and(|t| t <= cx.now) {
            self.place(cx, links, view);
        }
        if self.ask_at(cx, links).is_some_and(|t| t <= cx.now)
            && let Some(link) = self.link
        {
            self.asked = Some(cx.now);
            let request = cx.request();
            links.send_message(cx, link, Status { request });
        }
        if self.leave_at(cx, links).is_some_and(|t| t <= cx.now) {
            self.leave(cx, true);
        }
        let first = self.first();
        if let (Some(leaving), Some(lane)) = (&mut self.leaving, self.lane) {
            leaving.ask(cx, links, lane, self.id, first);
        }
        if let Some((lane, leaving)) = self.naming.as_mut().and_then(Naming::fencing) {
            leaving.ask(cx, links, lane, self.id, Seq(0));
        }
        if self.pause_until.is_some_and(|t| t <= cx.now) {
            self.pause_until = None;
        }
        if self.kick_at(cx).is_some_and(|t| t <= cx.now) {
            self.kicked = cx.now;
            if let Some(link) = self.link.filter(|&l| links.is_up(l)) {
                cx.condemned.insert(link);
            }
        }
    }

    /// When to wait no longer for a view with a lane for us.
    fn stranded_at(&self, cx: &Cx) -> Option<Instant> {
        let waits = self.lane.is_none() && self.naming.is_none() && self.lost.is_none();
        self.stranded_since.filter(|_| waits).map(|since| since + cx.cfg.request_timeout)
    }

    /// When to give up hope of the primary: it has acknowledged nothing for long, and can't be dialled, or says nothing. A
    /// writer with a name keeps its last lane: a fence there would end it, and its primary may come back, or its shard end.
    fn leave_at(&self, cx: &Cx, links: &Links) -> Option<Instant> {
        let keeps = self.naming.is_some() && self.last_lane;
        if self.leaving.is_some() || self.untouched() || keeps {
            return None;
        }
        let away = if self.placed(links) { self.asked } else { self.down_since };
        Some((away? + cx.cfg.request_timeout).max(self.waiting_since()? + cx.cfg.leave_after))
    }

    pub fn deadline(&self, cx: &Cx, links: &Links) -> Option<(Instant, &'static str)> {
        let leave = self.leave_at(cx, links).map(|t| (t, "leave a lane whose primary is away"));
        let ask = self.leaving.as_ref().map(|l| (l.due(), "ask what is in a lane"));
        let leave = super::cx::earlier(leave, ask);
        let leave = super::cx::earlier(leave, self.naming.as_ref().and_then(Naming::deadline));
        let stranded = self.stranded_at(cx).map(|t| (t, "no lane to go to"));
        let leave = super::cx::earlier(leave, stranded);
        let pause = self.pause_until.map(|t| (t, "resend refused batches"));
        let kick = self.kick_at(cx).map(|t| (t, "acknowledgements overdue"));
        let alive = self.ask_at(cx, links).map(|t| (t, "ask the primary for a sign of life"));
        super::cx::earlier(super::cx::earlier(leave, alive), super::cx::earlier(pause, kick))
    }
}
