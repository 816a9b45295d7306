//! What do replicas push to us? One stream per shard, from one of its replicas at a time; batches wait
//! here, lane by lane, until a cut takes them. Bounded by credit.

use super::cx::Cx;
use super::links::{LinkId, Links};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use zoolog_core::batch::PlacedBatch;
use zoolog_core::cut::{Order, Run};
use zoolog_core::limits::BATCH_BYTES_MAX;
use zoolog_core::view::{Final, ShardState, View};
use zoolog_core::wire::{Credit, Push, Subscribe};
use zoolog_core::{Instant, LaneId, Lsn, ShardId};

/// Pause before a shard is subscribed to again after bad pushes, first and longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(200));

#[derive(Debug)]
struct Lane {
    id: LaneId,
    /// Contiguous, up to `next`.
    batches: VecDeque<PlacedBatch>,
    bytes: usize,
    /// First LSN that has not come.
    next: Lsn,
    /// Nothing before this LSN is needed any more.
    taken: Lsn,
    /// The lane ends there, for good: what a replica pushes beyond it has yet to hear of that.
    end: Option<u64>,
    /// Checksum of the placement just before `next`, if known.
    last: Option<u32>,
    /// Bytes taken that the replica has no new credit for yet.
    owed: usize,
    /// Last time that the lane moved: until a while after it, missing batches may be on their way.
    moved: Instant,
}

impl Lane {
    fn new(id: LaneId, at: u64, now: Instant) -> Self {
        let (batches, at) = (VecDeque::new(), Lsn(at));
        // The first placement of a lane refers to 0.
        let last = (at == Lsn(0)).then_some(0);
        Self { id, batches, bytes: 0, next: at, taken: at, end: None, last, owed: 0, moved: now }
    }

    fn pop(&mut self) -> PlacedBatch {
        let placed = self.batches.pop_front().expect("callers have looked");
        self.bytes -= placed.encoded_len();
        self.owed += placed.encoded_len();
        placed
    }

    /// Drops what lies at or beyond `len`: its stream has ended, and nothing says that it will be committed.
    fn truncate(&mut self, len: u64) {
        while self.next.0 > len {
            let Some(placed) = self.batches.pop_back() else { break };
            self.bytes -= placed.encoded_len();
            self.next = placed.placement.first_lsn;
            self.last = Some(placed.placement.prev);
        }
        if self.next < self.taken || self.next.0 > len {
            // All that came is taken, or was never kept: go on where the committed part ends.
            self.next = self.taken.max(Lsn(len.min(self.next.0)));
            self.last = (self.next == Lsn(0)).then_some(0);
        }
    }
}

/// Why a pushed batch can't be used.
enum Bad {
    /// It is damaged or contradicts the lane.
    Damaged(&'static str),
    /// It belongs to a stream that has ended.
    Stray,
}

#[derive(Debug)]
struct ShardStream {
    link: Option<LinkId>,
    lanes: Vec<Lane>,
    /// Streams that ended so far; moves the choice of replica on.
    ended: usize,
    /// Streams that ended since the last good push.
    fails: u32,
    retry_at: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Pushes {
    shards: BTreeMap<ShardId, ShardStream>,
    /// Which replica this client prefers: differs between clients.
    first_choice: usize,
    /// Whether some lane may be owed credit.
    credit_due: bool,
}

impl Pushes {
    pub fn new(cx: &mut Cx) -> Self {
        Self { first_choice: cx.rng.below(1 << 16) as usize, ..Self::default() }
    }

    /// Follows every live shard of the view, those that are new from their committed lengths on.
    pub fn follow(&mut self, cx: &Cx, view: &View, order: &Order) {
        self.shards.retain(|&id, _| view.shard(id).is_some());
        for shard in &view.shards {
            match (&shard.state, self.shards.get_mut(&shard.id)) {
                (ShardState::Live, None) => {
                    let lanes = shard.lanes().map(|l| Lane::new(l, order.len(l), cx.now)).collect();
                    let stream = ShardStream { link: None, lanes, ended: 0, fails: 0, retry_at: cx.now };
                    self.shards.insert(shard.id, stream);
                }
                (ShardState::Finalized(Final { lens, .. }), Some(stream)) => {
                    for (lane, &len) in stream.lanes.iter_mut().zip(lens) {
                        lane.end = Some(len);
                        lane.truncate(len);
                    }
                }
                _ => {}
            }
        }
    }

    /// Stops following.
    pub fn clear(&mut self) {
        self.shards.clear();
    }

    /// Subscribes where no stream is open, and returns credit.
    pub fn flush(&mut self, cx: &mut Cx, links: &mut Links) {
        let credit = cx.cfg.subscribe_credit_bytes as usize;
        for (&shard, stream) in &mut self.shards {
            if stream.link.is_none() && stream.retry_at <= cx.now {
                let start = self.first_choice.wrapping_add(shard.0 as usize).wrapping_add(stream.ended);
                if let Some(link) = links.pick(cx, shard, start) {
                    stream.open(cx, links, shard, link, credit);
                }
            }
        }
        if !std::mem::take(&mut self.credit_due) {
            return;
        }
        for stream in self.shards.values_mut() {
            let Some(link) = stream.link else { continue };
            for lane in stream.lanes.iter_mut().filter(|l| l.owed >= credit / 8) {
                links.send_message(cx, link, Credit { lane: lane.id, bytes: lane.owed as u32 });
                (lane.owed, lane.moved) = (0, cx.now);
            }
        }
    }

    /// Ends the stream of one shard; the next comes from another replica, if there is one.
    pub fn rotate(&mut self, cx: &mut Cx, order: &Order, shard: ShardId) {
        let Some(stream) = self.shards.get_mut(&shard) else { return };
        cx.metrics.resubscribed += 1;
        stream.end(order);
        let round = stream.fails / stream.lanes.len().max(1) as u32;
        (stream.ended, stream.fails) = (stream.ended.wrapping_add(1), stream.fails.saturating_add(1));
        // The first round over all replicas is quick.
        let pause = if round == 0 { Duration::ZERO } else { cx.pause(RETRY.0, RETRY.1, round) };
        stream.retry_at = cx.now + pause;
    }

    pub fn link_lost(&mut self, cx: &mut Cx, order: &Order, link: LinkId) {
        let lost: Vec<_> =
            self.shards.iter().filter(|(_, s)| s.link == Some(link)).map(|(id, _)| *id).collect();
        for shard in lost {
            self.rotate(cx, order, shard);
        }
    }

    pub fn pushed(
        &mut self,
        cx: &mut Cx,
        links: &Links,
        order: &Order,
        link: LinkId,
        m: &Push,
        mut payload: Bytes,
    ) {
        let shard = m.lane.shard();
        let Some(stream) = self.shards.get_mut(&shard).filter(|s| s.link == Some(link)) else { return };
        let Some(lane) = stream.lanes.get_mut(usize::from(m.lane.index())) else { return };
        let bound = 2 * cx.cfg.subscribe_credit_bytes as usize + BATCH_BYTES_MAX;
        let mut bad = None;
        while !payload.is_empty() && bad.is_none() {
            bad = lane.take_in(&mut payload).err();
            if lane.bytes > bound {
                bad = Some(Bad::Damaged("pushed beyond its credit"));
            }
        }
        self.credit_due |= lane.owed > 0;
        match bad {
            None => (lane.moved, stream.fails) = (cx.now, 0),
            Some(Bad::Stray) => cx.metrics.strays += 1,
            Some(Bad::Damaged(what)) => {
                tracing::warn!(replica = links.addr(link), lane = %m.lane, what, "bad push");
                cx.metrics.damaged += 1;
                self.rotate(cx, order, shard);
            }
        }
    }

    fn lane_mut(&mut self, lane: LaneId) -> Option<&mut Lane> {
        self.shards.get_mut(&lane.shard())?.lanes.get_mut(usize::from(lane.index()))
    }

    fn lane(&self, lane: LaneId) -> Option<&Lane> {
        self.shards.get(&lane.shard())?.lanes.get(usize::from(lane.index()))
    }

    /// The next batch of a committed run, if it is here. `Err` if what is here contradicts the run.
    pub fn take(&mut self, run: &Run) -> Result<Option<PlacedBatch>, &'static str> {
        let Some(lane) = self.lane_mut(run.lane) else { return Ok(None) };
        while lane.batches.front().is_some_and(|b| b.end_lsn() <= run.first_lsn) {
            lane.pop();
        }
        let Some(front) = lane.batches.front() else { return Ok(None) };
        if front.placement.first_lsn > run.first_lsn {
            return Ok(None);
        }
        if front.placement.first_lsn < run.first_lsn || front.end_lsn() > run.first_lsn.plus(run.count) {
            return Err("a batch that is partly in a cut");
        }
        let placed = lane.pop();
        lane.taken = placed.end_lsn();
        self.credit_due = true;
        Ok(Some(placed))
    }

    /// When a run counts as late, if it is not wholly here.
    pub fn late_at(&self, cx: &Cx, run: &Run, since: Instant) -> Option<Instant> {
        let Some(lane) = self.lane(run.lane) else { return Some(since) };
        let first = lane.batches.front().map_or(lane.next, |b| b.placement.first_lsn);
        let here = first <= run.first_lsn && run.first_lsn.plus(run.count) <= lane.next;
        (!here).then(|| since.max(lane.moved) + cx.cfg.late_push)
    }

    /// The lane's records before `lsn` come from elsewhere.
    pub fn pass(&mut self, lane: LaneId, lsn: Lsn) {
        if let Some(lane) = self.lane_mut(lane) {
            lane.taken = lane.taken.max(lsn);
            while lane.batches.front().is_some_and(|b| b.end_lsn() <= lsn) {
                lane.pop();
            }
            self.credit_due = true;
        }
    }

    /// Most bytes that any lane holds.
    pub fn fullest(&self) -> usize {
        self.shards.values().flat_map(|s| s.lanes.iter().map(|l| l.bytes)).max().unwrap_or(0)
    }

    pub fn deadline(&self, cx: &Cx) -> Option<(Instant, &'static str)> {
        let closed = self.shards.values().filter(|s| s.link.is_none() && s.retry_at > cx.now);
        closed.map(|s| (s.retry_at, "subscribe again")).min_by_key(|d| d.0)
    }
}

impl ShardStream {
    fn open(&mut self, cx: &mut Cx, links: &mut Links, shard: ShardId, link: LinkId, credit: usize) {
        self.link = Some(link);
        // What waits here is part of each lane's credit; the message has one figure for all.
        let fullest = self.lanes.iter().map(|l| l.bytes).max().unwrap_or(0).min(credit);
        for lane in &mut self.lanes {
            if lane.next < lane.taken {
                (lane.next, lane.last) = (lane.taken, None);
            }
            (lane.owed, lane.moved) = (0, cx.now);
        }
        let from = self.lanes.iter().map(|l| l.next).collect();
        links.send_message(cx, link, Subscribe { shard, from, credit: (credit - fullest) as u32 });
        for lane in self.lanes.iter().filter(|l| l.bytes < fullest) {
            links.send_message(cx, link, Credit { lane: lane.id, bytes: (fullest - lane.bytes) as u32 });
        }
    }

    fn end(&mut self, order: &Order) {
        self.link = None;
        for lane in &mut self.lanes {
            lane.truncate(order.len(lane.id));
        }
    }
}

impl Lane {
    /// Takes the batch at the front of `payload` in, if it is the lane's next.
    fn take_in(&mut self, payload: &mut Bytes) -> Result<(), Bad> {
        let placed = PlacedBatch::check_next(payload).map_err(|_| Bad::Damaged("a batch is damaged"))?;
        let place = placed.placement;
        if place.lane != self.id {
            return Err(Bad::Damaged("a batch of another lane"));
        }
        let Some(end) = place.first_lsn.0.checked_add(u64::from(placed.batch.count())) else {
            return Err(Bad::Damaged("an LSN beyond all"));
        };
        if end <= self.next.0 {
            // From before the stream was opened anew on this connection: we have it, or don't need it.
            return Ok(());
        }
        if self.end.is_some_and(|end| place.first_lsn.0 >= end) {
            return Ok(()); // no cut will ever take it
        }
        if place.first_lsn > self.next {
            return Err(Bad::Stray);
        }
        if place.first_lsn < self.next || self.last.is_some_and(|last| last != place.prev) {
            return Err(Bad::Damaged("a batch that doesn't follow the one before"));
        }
        (self.next, self.last) = (Lsn(end), Some(place.crc));
        if end <= self.taken.0 {
            self.owed += placed.encoded_len();
        } else {
            self.bytes += placed.encoded_len();
            self.batches.push_back(placed);
        }
        Ok(())
    }
}
