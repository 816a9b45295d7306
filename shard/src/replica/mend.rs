//! How does a replica get back what its disk lost? It asks the other replicas of its shard, one question at a time.
//!
//! # What is missing
//! - **parts**: a cut mark was in a damaged block (`gap.rs`);
//! - **lost ranges** of lanes, the own one or others' (`lane.rs`): batches whose block is gone, or whose copy turned
//!   out to be unreadable when it was read, by somebody or by the scrubber;
//! - **the end** of a lane, when more is committed than is here.
//!
//! # What is written
//! A lost batch is written again, behind everything else ([`MEND`](crate::marks::MEND)); nothing is overwritten in
//! place, so that a crash can't make it worse. It must be the same batch: its writer's and its placement's checksum
//! are right, it is cut as this replica's index says, it follows the placement before it and is followed by the one
//! behind it where those can be read here: the placements' chain covers all their bytes. A lane's end grows as by
//! replication, each batch behind the placement before it. No LSN gets other bytes than it had (LOG-1, LOG-4).
//!
//! # What is held back meanwhile
//! Damage found at the start may hide that a lane was longer. Such a replica is **open** until it heard from the
//! leader what is committed and has all of it and of what it once had: it reports nothing of the shard (LOG-2: a
//! length it can't back is not stated), says to the leader that it lives, takes no appends, and lets the shell make
//! no checkpoint, because the windows of its writers may lack batches (LOG-3). It serves what it can read, and
//! answers its peers. Damage found later holds nothing back but the batches concerned: reads of those are answered
//! `Unavailable`, other replicas have them.
//!
//! # While the disk is full
//! No batch is asked for and none is written again, as none is appended: what is lost is on other disks, and would take
//! the room that trimming and rolling the log need. Parts are: they are marks, like those of the cuts that go on. It goes on once
//! there is room.
//!
//! # When nobody has it
//! All replicas were asked and none had it: said once, loudly, and asked again every second. The rest is served.

use super::Replica;
use super::later::Later;
use super::sync::Phase;
use crate::effects::{Effects, Refusal};
use crate::event::SlotEvent;
use crate::lane::Entry;
use crate::loads::{Piece, Purpose};
use crate::marks::{end_record, lane_record};
use crate::writers::Head;
use bytes::Bytes;
use std::time::Duration;
use zoolog_core::batch::PlacedBatch;
use zoolog_core::machine::ConnId;
use zoolog_core::wal::WalPos;
use zoolog_core::wire::{BatchesAre, BatchesWanted, DiskRoom, PartsHeld, PartsWanted, RefusedWhy};
use zoolog_core::{CutNumber, Instant, LaneId, Lsn, SlotId};

/// Between attempts at what no replica has.
const AGAIN: Duration = Duration::from_secs(1);

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    /// Parts behind that one.
    Parts(CutNumber),
    /// Batches of that lane.
    Batches { lane: u8, from: u64, to: u64 },
}

/// A question under way.
#[derive(Debug)]
struct Asked {
    /// Index of the replica.
    of: usize,
    conn: ConnId,
    want: Want,
    /// The answer came, and is being compared with its neighbours.
    checking: bool,
}

/// What a replica knows of its mending.
#[derive(Debug, Default)]
pub(crate) struct Mend {
    /// Damage was found at the start, and it isn't known yet that all is here again.
    pub open: bool,
    asked: Option<Asked>,
    /// By index, the replicas that don't have what is wanted now.
    lacking: Vec<bool>,
    /// What they lack.
    wanted: Option<Want>,
    retry_at: Option<Instant>,
    /// Why it can't be mended, as far as is known.
    pub hopeless: Option<String>,
    /// By lane, where the others' copies begin: before that all is trimmed.
    gone_below: Vec<u64>,
    /// Batches on their way to the log.
    writing: usize,
    /// By lane, batches that aren't in the windows yet.
    later: Vec<Later>,
    /// Parts came from another replica: the leader is to be asked for what follows.
    pub register_again: bool,
    /// Batches mended since the start.
    pub batches: u64,
}

impl Mend {
    /// Of a replica with so many lanes.
    pub fn new(lanes: usize, open: bool, later: Vec<Later>) -> Self {
        Self { open, later, lacking: vec![false; lanes], gone_below: vec![0; lanes], ..Self::default() }
    }

    /// Whether windows lack batches that are to come.
    pub fn awaits_windows(&self) -> bool {
        self.later.iter().any(Later::is_waiting)
    }

    /// Whether lane `own` may never take appends again: what its writers would resend can't be told from what they
    /// send anew (LOG-3). The shard is to be finalized.
    pub fn is_crippled(&self, own: u8) -> bool {
        self.later[usize::from(own)].lacks
    }

    /// After the start, with lanes of that length, it turns out that something is missing. What came since the start went
    /// into the windows directly: only what comes from here on waits for what lies before it.
    fn open_late(&mut self, lens: impl Iterator<Item = u64>) {
        if !std::mem::replace(&mut self.open, true) {
            self.later.iter_mut().zip(lens).for_each(|(later, len)| later.begin_at(len));
        }
    }

    /// The lanes end there.
    pub fn end_at(&mut self, lens: &[u64]) {
        self.later.iter_mut().zip(lens).for_each(|(later, len)| later.cut_back(*len));
    }

    /// When to try again.
    pub fn deadline(&self) -> Option<Instant> {
        self.retry_at
    }
}

impl Replica {
    /// Whether a checkpoint would hold windows that lack batches, and not say so.
    pub fn lacks_windows(&self) -> bool {
        self.mend.awaits_windows() || (self.live && self.mend.is_crippled(self.index))
    }

    /// Whether parts are missing.
    pub fn lacks_parts(&self) -> bool {
        self.gap.is_open(&self.history)
    }

    /// Whether it may say what it holds.
    pub fn may_report(&self) -> bool {
        !self.mend.open && self.is_sound()
    }

    fn want(&self) -> Option<Want> {
        if self.lacks_parts() {
            return Some(Want::Parts(self.history.number()));
        }
        let lanes = || self.lanes.iter().zip(&self.mend.gone_below).enumerate();
        let lost = lanes().find_map(|(i, (lane, gone))| {
            let (from, to) = lane.lost().map(|(f, t)| (f.max(*gone), t)).find(|(f, t)| f < t)?;
            Some(Want::Batches { lane: i as u8, from, to })
        });
        // What a primary adopts from its backups comes by itself.
        let adopts = self.own.backups.iter().flatten().filter_map(|b| b.stream.as_ref());
        let adopts = adopts.into_iter().any(|s| matches!(s.phase, Phase::Answered { fetching: Some(_), .. }));
        let end = || {
            let is_short = |i: usize, lane: &crate::lane::Lane| {
                lane.committed > lane.accepted
                    && lane.durable == lane.accepted
                    && (i != usize::from(self.index) || !adopts)
            };
            let (i, (lane, _)) = lanes().find(|(i, (lane, _))| is_short(*i, lane))?;
            Some(Want::Batches { lane: i as u8, from: lane.accepted, to: lane.committed })
        };
        lost.or_else(end)
    }

    /// At the end of a turn: asks for what is missing, over the connection that `conn` gives for a slot.
    pub fn tend_mending(&mut self, fx: &mut Effects, now: Instant, conn: impl Fn(SlotId) -> Option<ConnId>) {
        if self.mend.asked.is_some() || self.mend.writing > 0 || self.broken.is_some() {
            return;
        }
        let Some(want) = self.want() else {
            (self.mend.wanted, self.mend.retry_at, self.mend.hopeless) = (None, None, None);
            return self.try_to_close(fx);
        };
        if self.mend.wanted != Some(want) {
            (self.mend.wanted, self.mend.retry_at) = (Some(want), None);
            self.mend.lacking.fill(false);
        }
        let waits_for_room = self.disk == DiskRoom::Full && matches!(want, Want::Batches { .. });
        if waits_for_room || self.mend.retry_at.is_some_and(|at| now < at) {
            return;
        }
        self.mend.retry_at = None;
        let own = usize::from(self.index);
        let mut untold = (0..self.slots.len()).filter(|&i| i != own && !self.mend.lacking[i]).peekable();
        if untold.peek().is_none() {
            return self.despair(fx, now, want);
        }
        // Who can't be reached now is asked once it can be.
        let Some((of, conn)) = untold.find_map(|i| Some((i, conn(self.slots[i])?))) else { return };
        match want {
            Want::Parts(after) => fx.send(conn, PartsWanted { shard: self.shard, after }),
            Want::Batches { lane, from, to } => {
                let lane = LaneId::new(self.shard, lane);
                fx.send(conn, BatchesWanted { lane, from: Lsn(from), to: Lsn(to) });
            }
        }
        self.mend.asked = Some(Asked { of, conn, want, checking: false });
    }

    fn despair(&mut self, fx: &mut Effects, now: Instant, want: Want) {
        let shard = self.shard;
        let what = match want {
            Want::Parts(after) => format!("the cut marks of shard {shard} behind {after} are lost"),
            Want::Batches { lane, from, to } => {
                format!("records {from} to {to} of lane {} are lost", LaneId::new(shard, lane))
            }
        };
        let what = format!("{what} here, and no other replica has them");
        if self.mend.hopeless.as_ref() != Some(&what) {
            fx.event(SlotEvent::Lost { shard, what: what.clone() });
        }
        self.mend.hopeless = Some(what);
        self.mend.lacking.fill(false);
        self.mend.retry_at = Some(now + AGAIN);
    }

    /// Whether that slot owes an answer.
    pub fn mending_owed_by(&self, slot: SlotId) -> bool {
        self.mend.asked.as_ref().is_some_and(|a| !a.checking && self.slots[a.of] == slot)
    }

    pub(super) fn mending_closed(&mut self, conn: ConnId) {
        self.mend.asked.take_if(|a| a.conn == conn && !a.checking);
        self.lending.remove(&conn);
    }

    /// Takes the question that is being answered over `conn`, if it is that one.
    fn answered(&mut self, conn: ConnId, is: impl Fn(Want) -> bool) -> Option<Asked> {
        self.mend.asked.take_if(|a| a.conn == conn && !a.checking && is(a.want))
    }

    /// Parts came from another replica.
    ///
    /// # Errors
    /// The connection is to be refused: they contradict what is known, or each other.
    pub fn parts_held(&mut self, fx: &mut Effects, conn: ConnId, m: PartsHeld) -> Result<(), Refusal> {
        let Some(asked) = self.answered(conn, |w| w == Want::Parts(m.after)) else { return Ok(()) };
        let before = self.history.number();
        if before != m.after || !self.lacks_parts() {
            return Ok(()); // the leader gave them meanwhile
        }
        self.mend.lacking[asked.of] = true;
        let wrong = |text: String| Err(Refusal::new(RefusedWhy::Damaged, text));
        if let Some(base) = m.base {
            let sane = base.lens.len() == self.lanes.len()
                && base.lens.iter().all(|l| *l < super::commit::SANE_MAX)
                && base.end.0 < super::commit::SANE_MAX;
            if !sane {
                return wrong(format!("shard {} begins at {base:?}", self.shard));
            }
            if base.number > before {
                self.rebase(base);
                fx.marks.extend(self.trim_mark());
            }
        }
        for part in m.parts {
            if part.number <= self.history.number() {
                continue;
            }
            if let Err(e) = self.take_part(fx, part) {
                return wrong(e.to_string());
            }
        }
        fx.at_once = true;
        if self.history.number() > before {
            self.mend.wanted = None; // others may have more
        }
        self.mend.register_again = !self.lacks_parts();
        self.check_damage(fx);
        Ok(())
    }

    /// The leader doesn't keep parts that are missing here.
    pub fn parts_gone(&mut self, fx: &mut Effects, known: CutNumber) {
        if known <= self.history.number() {
            // Another replica was quicker: what follows is to be had now.
            self.mend.register_again = self.seen.is_none();
        } else {
            self.gap.expect(known);
            self.mend.open_late(self.lanes.iter().map(|l| l.accepted));
            self.own.serving = false;
            // To be opened again: what they said may be old by then.
            self.own.backups.iter_mut().flatten().for_each(|b| b.stream = None);
            self.check_damage(fx);
        }
    }

    /// Batches came from another replica.
    ///
    /// # Errors
    /// The connection is to be refused: they are not what was lost.
    pub fn batches_are(
        &mut self,
        fx: &mut Effects,
        conn: ConnId,
        m: &BatchesAre,
        mut payload: Bytes,
    ) -> Result<(), Refusal> {
        let i = usize::from(m.lane.index());
        let is =
            |w| matches!(w, Want::Batches { lane, from, .. } if usize::from(lane) == i && from == m.from.0);
        let Some(mut asked) = self.answered(conn, is) else { return Ok(()) };
        let Want::Batches { from, to, .. } = asked.want else { unreachable!("asked for batches") };
        if self.disk == DiskRoom::Full {
            return Ok(()); // since it was asked for: it is again once there is room
        }
        // Until it turns out that it has them.
        self.mend.lacking[asked.of] = true;
        let mut batches = Vec::new();
        while !payload.is_empty() {
            let placed = PlacedBatch::check_next(&mut payload);
            batches.push(placed.map_err(|e| damaged(format!("lane {}: {e}", m.lane)))?);
        }
        if m.start.0 > from {
            return self.gone(fx, m, batches.first());
        }
        if batches.is_empty() {
            return Ok(());
        }
        let mut at = from;
        for placed in &batches {
            let (p, end) = (&placed.placement, placed.end_lsn().0);
            if p.lane != m.lane || p.first_lsn.0 != at || (end > to && to <= self.lanes[i].durable) {
                let text =
                    format!("lane {} at {at}: a batch of {} from {} to {end}", m.lane, p.lane, p.first_lsn);
                return Err(damaged(text));
            }
            at = end;
        }
        if from >= self.lanes[i].accepted {
            return self.grow(fx, i, batches);
        }
        if let Some(why) = batches.iter().find_map(|b| self.lanes[i].not_cut_as(b)) {
            return Err(damaged(why));
        }
        // The neighbours' placements say whether it is what was here.
        let lane = &self.lanes[i];
        let before = from.checked_sub(1).filter(|l| *l >= lane.start).and_then(|l| lane.find(l));
        let behind = lane.find(at).filter(|f| f.first_lsn == at);
        let sides = (before.is_some(), behind.is_some());
        let pieces = before.into_iter().chain(behind).map(|f| f.piece).collect();
        asked.checking = true;
        self.mend.asked = Some(asked);
        fx.load(Purpose::Mend { lane: m.lane, batches, sides }, pieces);
        Ok(())
    }

    /// What was asked for is trimmed elsewhere: it won't be read any more.
    fn gone(&mut self, fx: &mut Effects, m: &BatchesAre, first: Option<&PlacedBatch>) -> Result<(), Refusal> {
        let i = usize::from(m.lane.index());
        let lane = &mut self.lanes[i];
        let start = m.start.0;
        if start >= super::commit::SANE_MAX {
            return Err(damaged(format!("lane {} begins at {start}", m.lane)));
        }
        if start <= lane.durable {
            self.mend.gone_below[i] = start;
            return Ok(());
        }
        let first = first.filter(|b| (b.placement.lane, b.placement.first_lsn) == (m.lane, m.start));
        let last = match first {
            Some(b) => b.placement.prev,
            None if m.len == m.start => m.last,
            None => return Ok(()), // it couldn't read it; another may
        };
        if lane.durable < lane.accepted || start <= lane.accepted {
            return Ok(()); // more came meanwhile
        }
        tracing::warn!(lane = %m.lane, held = lane.accepted, from = start, "what is missing here is trimmed: going on behind it");
        lane.adopt(start, last);
        self.mend.lacking.fill(false);
        self.mend.later[i].skip_to(start);
        self.writers[i].missed_some();
        fx.marks.push(lane_record(m.lane, start, last));
        fx.at_once = true;
        Ok(())
    }

    /// A lane's end grows by what is committed and was missing.
    fn grow(&mut self, fx: &mut Effects, i: usize, batches: Vec<PlacedBatch>) -> Result<(), Refusal> {
        for placed in batches {
            if let Some(why) = self.lanes[i].refusal(&placed) {
                return Err(damaged(why));
            }
            self.mend.batches += 1;
            self.mend.lacking.fill(false);
            if i == usize::from(self.index) && !self.mend.open {
                self.enter(fx, placed, false);
                continue;
            }
            self.enters_window(&placed);
            self.lanes[i].accept(placed.clone());
            fx.staged.push(placed);
        }
        Ok(())
    }

    /// What was lost goes into its writer's window, when those before it are there.
    fn enters_window(&mut self, placed: &PlacedBatch) {
        let (i, lsn) = (usize::from(placed.placement.lane.index()), placed.placement.first_lsn.0);
        let (head, committed) = (Head::of(&placed.batch), self.lanes[i].committed);
        if self.mend.open {
            self.mend.later[i].put(lsn, head);
            self.mend.later[i].drain(&mut self.writers[i], committed);
        } else if lsn >= self.lanes[i].accepted {
            self.writers[i].backed_up(&head, lsn, committed);
        }
    }

    /// After a start that found damage: where the lanes end now goes into the log before anything else does.
    pub fn state_ends(&self, fx: &mut Effects) {
        let ends = self.lanes.iter().map(|l| end_record(l.id, l.accepted, l.last, l.placed_by));
        fx.marks.extend(ends);
    }

    /// The neighbours of what came were read.
    pub fn compared(
        &mut self,
        fx: &mut Effects,
        lane: LaneId,
        batches: Vec<PlacedBatch>,
        sides: (bool, bool),
        result: Result<Vec<PlacedBatch>, String>,
    ) {
        let Some(asked) = self.mend.asked.take_if(|a| a.checking) else { return };
        // A neighbour that can't be read is lost by now: then it isn't compared with. On a full disk nothing is written.
        let Some(neighbours) = result.ok().filter(|_| self.disk != DiskRoom::Full) else {
            self.mend.lacking[asked.of] = false;
            return;
        };
        let mut chain = Vec::with_capacity(batches.len() + 2);
        let mut neighbours = neighbours.iter();
        chain.extend(neighbours.next().filter(|_| sides.0));
        chain.extend(&batches);
        let behind = if sides.0 { neighbours.next() } else { neighbours.next_back() };
        chain.extend(behind.filter(|_| sides.1));
        if let Some(w) = chain.windows(2).find(|w| w[1].placement.prev != w[0].placement.crc) {
            tracing::warn!(%lane, at = %w[1].placement.first_lsn, "a copy from another replica is not what was here");
            return; // it counts as lacking
        }
        self.mend.lacking.fill(false);
        batches.into_iter().for_each(|b| self.write_again(fx, b));
    }

    fn write_again(&mut self, fx: &mut Effects, placed: PlacedBatch) {
        self.enters_window(&placed);
        self.mend.writing += 1;
        fx.mended.push(placed);
    }

    /// A new copy of a lost batch is durable.
    pub fn mend_durable(&mut self, lane: LaneId, entry: Entry) {
        self.mend.writing -= 1;
        let lane = &mut self.lanes[usize::from(lane.index())];
        let mended = lane.mended(entry).unwrap_or_else(|why| panic!("checked before it was written: {why}"));
        self.mend.batches += u64::from(mended);
    }

    /// A copy on the disk turned out to be unreadable.
    pub fn rotted(&mut self, fx: &mut Effects, lane: LaneId, first_lsn: u64, pos: WalPos, why: &str) {
        let here = &mut self.lanes[usize::from(lane.index())];
        if !here.rotted(first_lsn, pos) {
            return;
        }
        fx.event(SlotEvent::Rotten { lane, first_lsn: Lsn(first_lsn), why: why.to_string() });
        // Perhaps it is still in memory.
        if self.disk != DiskRoom::Full
            && let Some(Piece::Ready(placed)) = here.find(first_lsn).map(|f| f.piece)
        {
            self.write_again(fx, placed);
        }
    }

    /// Whether all is here again, and known to be: then it takes part as before.
    fn try_to_close(&mut self, fx: &mut Effects) {
        let heard = self.seen.is_some() && self.part_durable >= self.gap.until();
        if !self.mend.open || !heard || !self.is_sound() {
            return;
        }
        self.mend.open = false;
        for ((later, windows), lane) in self.mend.later.iter_mut().zip(&mut self.writers).zip(&self.lanes) {
            later.drain_all(windows, lane.committed);
        }
        if self.live && self.mend.is_crippled(self.index) {
            let what = format!(
                "batches of lane {} that its writers may send again are lost, and trimmed elsewhere: it takes no appends",
                self.own_lane().id
            );
            fx.event(SlotEvent::Lost { shard: self.shard, what });
        }
        self.recount();
        self.moved = true;
        fx.event(SlotEvent::Mended { shard: self.shard, batches: self.mend.batches });
        self.check_damage(fx);
        self.settle(fx);
        self.try_to_serve(fx);
    }

    /// Adds the parts that were put aside and hang on the newest by now: their marks are durable.
    pub(super) fn rejoin(&mut self) {
        match self.gap.rejoin(&mut self.history) {
            Ok(joined) => {
                if let Some(&newest) = joined.last() {
                    self.marked = self.marked.max(newest);
                }
                self.rejoined.extend(joined);
                self.advance_durable_parts();
            }
            Err(e) => self.broken = Some(e.to_string()),
        }
    }
}

fn damaged(text: String) -> Refusal {
    Refusal::new(RefusedWhy::Damaged, text)
}
