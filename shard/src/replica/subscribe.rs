//! Who wants batches as they become durable? Pushed before they are ordered, lane by lane, within credit.

use super::Replica;
use crate::effects::{Effects, Refusal, encode_batches};
use crate::lane::Lane;
use crate::loads::{Piece, Purpose, Stretch};
use bytes::Bytes;
use std::collections::BTreeSet;
use zoolog_core::batch::PlacedBatch;
use zoolog_core::machine::ConnId;
use zoolog_core::wire::{Push, RefusedWhy, Subscribe};
use zoolog_core::{LaneId, Lsn};

/// Credit beyond this is not counted: nobody has that much room.
const CREDIT_MAX: i64 = 1 << 32;

/// A subscription of the shard on one connection.
#[derive(Debug)]
pub(crate) struct Subscription {
    generation: u64,
    lanes: Vec<Wanted>,
}

#[derive(Debug)]
struct Wanted {
    next: u64,
    /// Bytes that may be pushed. Below 0 after a batch that is longer than all the credit given.
    credit: i64,
    /// The credit it began with: as much as the subscriber ever has room for.
    room: i64,
    loading: bool,
}

impl Wanted {
    /// Whether a push may hold `bytes`. A batch longer than all the subscriber's room is pushed when the
    /// room is free, or it would never be.
    fn affords(&self, bytes: i64) -> bool {
        self.credit > 0 && (self.credit >= bytes || self.credit >= self.room)
    }
}

/// Frames encoded in this turn: subscribers at the same place share them.
#[derive(Debug, Default)]
pub(crate) struct PushCache(Vec<(LaneId, u64, u64, Bytes)>);

impl PushCache {
    fn frame(&mut self, lane: LaneId, stretch: Stretch, batches: &[&PlacedBatch]) -> Bytes {
        let same = |f: &&(LaneId, u64, u64, Bytes)| (f.0, f.1, f.2) == (lane, stretch.from, stretch.to);
        if let Some((.., bytes)) = self.0.iter().find(same) {
            return bytes.clone();
        }
        let bytes = encode_batches(Push { lane }, batches);
        self.0.push((lane, stretch.from, stretch.to, bytes.clone()));
        bytes
    }
}

impl Replica {
    /// Begins a subscription, instead of an earlier one on this connection.
    ///
    /// # Errors
    /// The connection is to be refused: it doesn't name a place in each lane, or there are too many.
    pub fn subscribe(&mut self, conn: ConnId, m: &Subscribe) -> Result<(), Refusal> {
        if m.from.len() != self.lanes.len() {
            let text = format!("shard {} has {} lanes, not {}", self.shard, self.lanes.len(), m.from.len());
            return Err(Refusal::new(RefusedWhy::Invalid, text));
        }
        if self.subs.len() >= self.bounds.subscriptions && !self.subs.contains_key(&conn) {
            let text =
                format!("shard {} has {} subscribers here: ask another replica", self.shard, self.subs.len());
            return Err(Refusal::new(RefusedWhy::NotReady, text));
        }
        self.generation += 1;
        let credit = i64::from(m.credit);
        // What is being read back for an earlier subscription still counts: one job per lane.
        let earlier = self.subs.remove(&conn);
        let loading = |i: usize| earlier.as_ref().is_some_and(|s| s.lanes[i].loading);
        let wanted =
            |(i, from): (usize, &Lsn)| Wanted { next: from.0, credit, room: credit, loading: loading(i) };
        let lanes = m.from.iter().enumerate().map(wanted).collect();
        self.subs.insert(conn, Subscription { generation: self.generation, lanes });
        Ok(())
    }

    /// The subscriber has more room.
    pub fn credit(&mut self, conn: ConnId, lane: LaneId, bytes: u32) {
        let wanted = self.subs.get_mut(&conn).and_then(|s| s.lanes.get_mut(usize::from(lane.index())));
        if let Some(w) = wanted {
            w.credit = (w.credit + i64::from(bytes)).min(CREDIT_MAX);
        }
    }

    /// At the end of a turn: at most one frame per lane and subscriber, none for whom more waits to leave than
    /// should. Returns whether there is more to push at once, and the connections to be refused.
    pub fn pump_subscribers(
        &mut self,
        fx: &mut Effects,
        cache: &mut PushCache,
        backlogged: &BTreeSet<ConnId>,
    ) -> (bool, Vec<(ConnId, Refusal)>) {
        let (mut more, mut refused) = (false, Vec::new());
        if !self.is_sound() {
            return (more, refused);
        }
        for (&conn, sub) in self.subs.iter_mut().filter(|(conn, _)| !backlogged.contains(conn)) {
            for (lane, wanted) in self.lanes.iter().zip(&mut sub.lanes) {
                if wanted.next < lane.start {
                    // Trimmed under its feet: when it misses the batch it reads, and is told.
                    wanted.next = u64::MAX;
                }
                if wanted.loading || wanted.next >= lane.durable {
                    continue;
                }
                let (pieces, stretch, bytes) = match take(lane, wanted, self.bounds.push_bytes) {
                    Ok(Some(taken)) => taken,
                    Ok(None) => continue,
                    Err(refusal) => {
                        refused.push((conn, refusal));
                        break;
                    }
                };
                wanted.credit -= bytes;
                wanted.next = stretch.to;
                let ready: Option<Vec<&PlacedBatch>> = pieces.iter().map(Piece::ready).collect();
                if let Some(batches) = ready {
                    fx.send_bytes(conn, cache.frame(lane.id, stretch, &batches));
                    more |= wanted.next < lane.durable && wanted.credit > 0;
                } else {
                    wanted.loading = true;
                    let generation = sub.generation;
                    fx.load(Purpose::Push { conn, lane: lane.id, generation }, pieces);
                }
            }
        }
        (more, refused)
    }

    /// What a subscriber lacks was read back.
    ///
    /// # Errors
    /// The connection is to be refused: it can't be had here.
    pub fn push_loaded(
        &mut self,
        fx: &mut Effects,
        conn: ConnId,
        lane: LaneId,
        generation: u64,
        result: Result<Vec<PlacedBatch>, String>,
    ) -> Result<(), Refusal> {
        let Some(sub) = self.subs.get_mut(&conn) else { return Ok(()) };
        sub.lanes[usize::from(lane.index())].loading = false;
        if sub.generation != generation {
            return Ok(()); // that subscription is gone
        }
        let batches = result.map_err(|why| Refusal::new(RefusedWhy::Damaged, why))?;
        fx.send_bytes(conn, encode_batches(Push { lane }, &batches.iter().collect::<Vec<_>>()));
        Ok(())
    }
}

/// What a subscriber is to get next of `lane`: the batches, where they lie, and their bytes; nothing while
/// its credit doesn't reach.
fn take(
    lane: &Lane,
    wanted: &Wanted,
    bytes_max: usize,
) -> Result<Option<(Vec<Piece>, Stretch, i64)>, Refusal> {
    let (from, mut to, mut bytes, mut pieces) = (wanted.next, wanted.next, 0, Vec::new());
    while to < lane.durable {
        let Some(found) = lane.find(to) else {
            if pieces.is_empty() {
                return Err(Refusal::new(
                    RefusedWhy::Damaged,
                    format!("lane {} at {to} is lost here", lane.id),
                ));
            }
            break;
        };
        if found.first_lsn != to {
            let text =
                format!("lane {} at {to}: no batch starts there, one does at {}", lane.id, found.first_lsn);
            return Err(Refusal::new(RefusedWhy::Invalid, text));
        }
        let more = bytes + found.bytes as i64;
        let fits = pieces.is_empty() || (more <= bytes_max as i64 && wanted.credit >= more);
        if !fits || !wanted.affords(more) || found.end > lane.durable {
            break;
        }
        (bytes, to) = (more, found.end);
        pieces.push(found.piece);
    }
    Ok((!pieces.is_empty()).then_some((pieces, Stretch { from, to }, bytes)))
}
