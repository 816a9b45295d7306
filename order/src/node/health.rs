//! Which replicas fail their shards? What the leader of one term has heard, and since when it hasn't.
//!
//! A replica fails when it is *silent*, or when it *stalls*: others of its shard hold what it doesn't hold durably, and
//! that doesn't change. Either holds the whole shard up, since a record counts when all replicas have it. What looks
//! like it and isn't:
//! - A cluster that starts: slots read their logs before they speak. They are given time, as long as this orderer is
//!   young itself.
//! - A leader that was paused: while it was away it heard nobody. Looks that come late move all clocks on by as much,
//!   and start them anew if it was away for long.
//! - A disk that stands still for all: no other replicas are fit to take over, so nothing is given up.
//!
//! Two servers that both speak, and one of which doesn't get what the other has, don't reach each other. They are kept
//! apart for a while; but nobody knows when that has passed, so it is a preference and no more, except while it is seen.

use crate::config::Failures;
use crate::sequencer::{Board, pair};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use zoolog_core::view::{ShardState, ShardView, View};
use zoolog_core::{Instant, ServerId, ShardId, SlotId};

/// Looks per timeout.
const LOOKS: u32 = 10;
/// A lane that doesn't serve has this many timeouts: its primary may be fetching what others hold.
const SYNC_TIMEOUTS: u32 = 5;
/// A slot whose disk has stood still for this part of the timeout is not fit for a new shard: when all disks stall
/// together, they don't do so at the same instant.
const UNFIT: u32 = 4;
/// One that nothing was ever in has this many: there is nothing to fetch.
const FIRST_SYNC_TIMEOUTS: u32 = 2;
/// The pause after giving shards up is at most this many timeouts.
const BACKOFF_MAX: u32 = 16;
/// And so many while the log stands still: there is nothing to lose.
const BACKOFF_MAX_STILL: u32 = 4;
/// For this many timeouts servers are kept apart that didn't reach each other, where there are others.
const APART_TIMEOUTS: u32 = 60;
/// Who is not heard for this part of the timeout says nothing about whom it reaches.
const QUIET: u32 = 2;

/// What a look found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Diagnosis {
    /// Shards that can't go on.
    pub failed: BTreeSet<ShardId>,
    /// Slots that no new shard should rest on.
    pub unfit: BTreeSet<SlotId>,
    /// Pairs of servers that don't reach each other now.
    pub torn: BTreeSet<(ServerId, ServerId)>,
    /// Whether something is committed in a shard that can go on.
    pub moves: bool,
}

/// When a slot was heard.
#[derive(Clone, Copy, Debug)]
struct Heard {
    last: Instant,
    /// Since when without falling quiet.
    since: Instant,
}

/// What one leader knows of its slots' lives.
#[derive(Debug)]
pub(super) struct Health {
    settings: Failures,
    /// Who has not spoken in this term counts as silent from then on.
    patience: Instant,
    looked: Instant,
    /// When each slot that has spoken in this term was heard.
    heard: BTreeMap<SlotId, Heard>,
    marks: BTreeMap<ShardId, Marks>,
    /// Pairs of servers that didn't reach each other, and when that was seen last.
    apart: BTreeMap<(ServerId, ServerId), Instant>,
    /// Times in a row that shards were given up, and when that was done last.
    backoff: Option<(u32, Instant)>,
}

/// Since when nothing has changed in a shard.
#[derive(Debug)]
struct Marks {
    /// Since when it is looked at.
    born: Instant,
    /// Committed records, and since when they are as many.
    committed: (u64, Instant),
    /// Of each replica and lane: durable records, and since when they are as many while there are more elsewhere.
    durable: Vec<(u64, Instant)>,
    /// Of each lane: since when it doesn't serve and nothing of it changes.
    serving: Vec<Instant>,
    /// Of each replica: since when it has not spoken.
    spoken: Vec<Instant>,
}

impl Marks {
    fn new(n: usize, now: Instant) -> Self {
        Self {
            born: now,
            committed: (0, now),
            durable: vec![(0, now); n * n],
            serving: vec![now; n],
            spoken: vec![now; n],
        }
    }

    fn clocks(&mut self) -> impl Iterator<Item = &mut Instant> {
        let durable = self.durable.iter_mut().map(|d| &mut d.1);
        durable.chain(&mut self.serving).chain(&mut self.spoken).chain([&mut self.committed.1])
    }
}

impl Health {
    /// From the time at which a leader came into office, of an orderer that was made at `made`.
    pub fn new(settings: Failures, now: Instant, made: Instant) -> Self {
        let young = now.since(made) < settings.start_grace;
        let patience = if young { made + settings.start_grace } else { now };
        let (heard, marks, apart) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self {
            settings,
            patience: patience.max(now + settings.timeout),
            looked: now,
            heard,
            marks,
            apart,
            backoff: None,
        }
    }

    /// A slot has reported.
    pub fn heard(&mut self, now: Instant, slot: SlotId) {
        let quiet = self.settings.timeout / QUIET;
        let heard = self.heard.entry(slot).or_insert(Heard { last: now, since: now });
        if now.since(heard.last) > quiet {
            heard.since = now;
        }
        heard.last = now;
    }

    /// Whether it is time to look.
    pub fn is_due(&self, now: Instant) -> bool {
        now.since(self.looked) >= self.period()
    }

    fn period(&self) -> Duration {
        (self.settings.timeout / LOOKS).max(crate::consensus::TICK)
    }

    /// Looks at all shards of the view that take appends.
    pub fn look(
        &mut self,
        now: Instant,
        view: &View,
        boards: &[Board],
        committed: impl Fn(ShardId) -> Vec<u64>,
    ) -> Diagnosis {
        self.forgive(now);
        let mut found = Diagnosis::default();
        if self.settings.timeout.is_zero() {
            return found;
        }
        let apart = self.settings.timeout * APART_TIMEOUTS;
        self.apart.retain(|_, seen| now.since(*seen) < apart);
        self.marks.retain(|id, _| view.shard(*id).is_some_and(|s| s.state == ShardState::Live));
        for (shard, board) in view.shards.iter().zip(boards).filter(|(s, _)| s.state == ShardState::Live) {
            assert!(shard.id == board.id(), "boards lie as the view's shards do");
            self.look_at(now, shard, board, &committed(shard.id), &mut found);
        }
        self.apart.extend(found.torn.iter().map(|pair| (*pair, now)));
        found
    }

    /// Time in which we didn't look is nobody's silence.
    fn forgive(&mut self, now: Instant) {
        let away = now.since(self.looked);
        self.looked = now;
        let period = self.period();
        if away <= period * 2 {
            return;
        }
        let anew = away > self.settings.timeout / 2;
        let all = self
            .heard
            .values_mut()
            .flat_map(|h| [&mut h.last, &mut h.since])
            .chain(self.marks.values_mut().flat_map(Marks::clocks))
            .chain([&mut self.patience]);
        all.for_each(|clock| {
            *clock = if anew { now.max(*clock) } else { (*clock + away).min(now.max(*clock)) }
        });
        if anew {
            self.patience = self.patience.max(now + self.settings.timeout);
        }
    }

    /// Whether the slot has been silent for too long.
    fn is_silent(&self, now: Instant, slot: SlotId) -> bool {
        match self.heard.get(&slot) {
            Some(heard) => now.since(heard.last) >= self.settings.timeout,
            None => now >= self.patience,
        }
    }

    /// Whether nothing has come from the slot for so long that nothing should rest on it.
    pub fn is_gone(&self, now: Instant, slot: SlotId) -> bool {
        !self.settings.timeout.is_zero() && self.is_silent(now, slot)
    }

    /// Whether both have spoken all the time for so long that what one lacks must be the way between them.
    fn both_speak(&self, now: Instant, a: SlotId, b: SlotId) -> bool {
        let timeout = self.settings.timeout;
        let speaks = |h: &Heard| now.since(h.last) <= timeout / QUIET && now.since(h.since) >= timeout;
        [a, b].iter().all(|slot| self.heard.get(slot).is_some_and(speaks))
    }

    fn look_at(
        &mut self,
        now: Instant,
        shard: &ShardView,
        board: &Board,
        committed: &[u64],
        found: &mut Diagnosis,
    ) {
        let (n, timeout) = (shard.replicas.len(), self.settings.timeout);
        let mut marks = self.marks.remove(&shard.id).unwrap_or_else(|| Marks::new(n, now));
        let slot = |r: usize| shard.replicas[r].slot;
        for r in 0..n {
            if self.is_silent(now, slot(r)) {
                found.unfit.insert(slot(r));
                found.failed.insert(shard.id);
            }
            if board.has_spoken(r) || !self.heard.contains_key(&slot(r)) {
                marks.spoken[r] = now;
            } else if now.since(marks.spoken[r]) >= timeout * SYNC_TIMEOUTS {
                // It speaks, but not of this shard.
                found.failed.insert(shard.id);
            }
        }
        if (0..n).all(|r| board.has_spoken(r)) {
            (0..n).for_each(|lane| {
                self.look_at_lane(now, shard, board, lane, committed[lane], &mut marks, found)
            });
            if !found.failed.contains(&shard.id) && (0..n).all(|r| board.is_serving(r)) {
                // All of it answered each other since it was formed.
                let servers = || shard.replicas.iter().map(|r| r.slot.server);
                let met =
                    |p: &(ServerId, ServerId)| servers().any(|s| s == p.0) && servers().any(|s| s == p.1);
                self.apart.retain(|p, seen| *seen >= marks.born || !met(p));
            }
        } else {
            marks.serving.fill(now);
            marks.durable.iter_mut().for_each(|d| d.1 = now);
        }
        let sum: u64 = committed.iter().sum();
        if sum != marks.committed.0 {
            marks.committed = (sum, now);
        }
        found.moves |= !found.failed.contains(&shard.id) && sum > 0 && now.since(marks.committed.1) < timeout;
        self.marks.insert(shard.id, marks);
    }

    #[expect(clippy::too_many_arguments, reason = "one look at one lane, of which all this is part")]
    fn look_at_lane(
        &mut self,
        now: Instant,
        shard: &ShardView,
        board: &Board,
        lane: usize,
        committed: u64,
        marks: &mut Marks,
        found: &mut Diagnosis,
    ) {
        let (n, timeout) = (shard.replicas.len(), self.settings.timeout);
        let slot = |r: usize| shard.replicas[r].slot;
        let torn = |h: &Self, r: usize| {
            let pair = pair(slot(lane).server, slot(r).server);
            h.both_speak(now, slot(lane), slot(r)).then_some(pair)
        };
        let most = (0..n).map(|r| board.durable(r, lane)).max().unwrap_or(committed);
        let mut changed = board.is_serving(lane);
        for r in 0..n {
            let (durable, mark) = (board.durable(r, lane), &mut marks.durable[r * n + lane]);
            changed |= durable != mark.0;
            let lacks = durable < most || board.is_behind(r, lane);
            if !lacks || durable != mark.0 {
                *mark = (durable, now);
                continue;
            }
            let stands = now.since(mark.1);
            if board.is_behind(r, lane) && stands >= timeout / UNFIT {
                found.unfit.insert(slot(r));
            }
            if stands >= timeout {
                found.failed.insert(shard.id);
                if !board.is_behind(r, lane) {
                    // All that reached it is durable there: the rest doesn't reach it.
                    found.torn.extend(torn(self, r));
                }
            }
        }
        let patience = if most == 0 { FIRST_SYNC_TIMEOUTS } else { SYNC_TIMEOUTS };
        if changed {
            marks.serving[lane] = now;
        } else if now.since(marks.serving[lane]) >= timeout * patience {
            found.failed.insert(shard.id);
            found.torn.extend((0..n).filter(|r| *r != lane).filter_map(|r| torn(self, r)));
        }
    }

    /// Servers to be kept apart where there are others, and when it was seen last that they don't reach each other.
    pub fn apart(&self) -> &BTreeMap<(ServerId, ServerId), Instant> {
        &self.apart
    }

    /// When shards may be given up again; `moves`: while the log goes on elsewhere.
    fn due(&self, moves: bool) -> Option<Instant> {
        let (times, last) = self.backoff?;
        let max = if moves { BACKOFF_MAX } else { BACKOFF_MAX_STILL };
        Some(last + self.settings.timeout * (1u32 << (times - 1).min(31)).min(max))
    }

    /// Whether shards may be given up again; `moves`: the log goes on elsewhere.
    pub fn may_act(&self, now: Instant, moves: bool) -> bool {
        self.due(moves).is_none_or(|due| now >= due)
    }

    /// Shards are being given up: each time in a row the pause before the next doubles.
    pub fn acted(&mut self, now: Instant) {
        let calm = self.settings.timeout * BACKOFF_MAX;
        let is_calm = self.due(true).is_none_or(|due| now >= due && now.since(due) >= calm);
        let times = self.backoff.filter(|_| !is_calm).map_or(0, |b| b.0);
        self.backoff = Some((times.saturating_add(1), now));
    }
}
