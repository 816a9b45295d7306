//! Which of a writer's batches are in, now that it has to leave the lane? Any replica of the shard can tell, once nothing
//! more can come: the shard is finalized, or a fence is committed. Invariant LOG-3.

use super::Replica;
use crate::effects::Effects;
use crate::writers::Fate;
use zoolog_core::batch::{Batch, BatchKind, PlacedBatch};
use zoolog_core::wire::{Resolve, ResolveEnd, Resolved};
use zoolog_core::{ConnId, Gsn, Lsn, Seq};

impl Replica {
    /// Answers a writer.
    pub fn resolve(&self, m: &Resolve) -> Resolved {
        let (end, acks) = self.fate(m);
        let known = matches!(end, ResolveEnd::Final | ResolveEnd::Forgotten);
        let tail = if known { self.tail_of(m) } else { None };
        let newest = self.writers.get(usize::from(m.lane.index())).and_then(|w| w.newest(m.writer));
        Resolved { request: m.request, lane: m.lane, writer: m.writer, end, acks, tail, newest }
    }

    /// One past the writer's last record in the lane.
    fn tail_of(&self, m: &Resolve) -> Option<Gsn> {
        let i = usize::from(m.lane.index());
        let (lsn, count, kept) = self.writers[i].last(m.writer, self.lanes[i].committed)?;
        let first = kept.or_else(|| self.history.gsn(self.shard, m.lane.index(), Lsn(lsn)))?;
        Some(first.plus(u64::from(count)))
    }

    fn fate(&self, m: &Resolve) -> (ResolveEnd, Vec<(Seq, Gsn)>) {
        let i = usize::from(m.lane.index());
        let (Some(lane), Some(writers)) = (self.lanes.get(i), self.writers.get(i)) else {
            return (ResolveEnd::NotReady, Vec::new());
        };
        if !self.is_sound() || self.mend.open || (!self.live && !self.is_complete()) {
            return (ResolveEnd::NotReady, Vec::new());
        }
        if self.live && !writers.is_closed(m.writer, m.epoch, lane.committed) {
            return (ResolveEnd::Open, Vec::new());
        }
        let Fate::In(batches) = writers.fate(m.writer, m.epoch, m.from, lane.committed) else {
            return (ResolveEnd::Forgotten, Vec::new());
        };
        let gsn = |lsn| self.history.gsn(self.shard, m.lane.index(), Lsn(lsn));
        let known = batches.into_iter().map(|(seq, lsn, kept)| Some((seq, kept.or_else(|| gsn(lsn))?)));
        match known.collect::<Option<Vec<_>>>() {
            Some(acks) => (ResolveEnd::Final, acks),
            // It is in, and its part was trimmed: where it is can't be said any more.
            None => (ResolveEnd::Forgotten, Vec::new()),
        }
    }

    /// The primary's side of a fence: it enters the lane like a batch, unless the lane is over for its writer already.
    pub fn fence(&mut self, fx: &mut Effects, batch: Batch) {
        if !self.live || !self.own.serving || !self.is_sound() || batch.kind() != BatchKind::Fence {
            return; // asked for again until it is settled
        }
        if self.own_writers().takes_fence(&batch) {
            let (incarnation, lane) = (self.own.incarnation, self.own_lane());
            let placed = PlacedBatch::place(lane.id, incarnation, Lsn(lane.accepted), lane.last, batch);
            self.enter(fx, placed, true);
        }
    }

    /// Where a fence for that lane, which is backed up here, is to be passed on to.
    pub fn primary_of(&self, lane: usize) -> Option<ConnId> {
        self.inbound.get(lane).and_then(super::sync::Inbound::conn)
    }
}
