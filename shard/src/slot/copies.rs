//! Which copies are made here, and which are given up? The slot's side of rebuilding: a view names the shards of which
//! this slot makes a copy; what it holds of a finalized shard in which it has no place any more is forgotten, in memory at
//! once, and on the disk by a mark, so that a copy made here later isn't taken for it.

use super::Slot;
use crate::marks::{Item, forget_record};
use zoolog_core::view::{ReplicaView, ShardView, View};
use zoolog_core::{Instant, ShardId, SlotId};

/// The shard as a slot sees it that makes a copy: with its own place taken; and whether it does.
pub(super) fn seen_from(shard: &ShardView, slot: SlotId) -> Option<(u8, bool, Vec<ReplicaView>)> {
    if let Some(index) = shard.replica_in(slot) {
        return Some((index, false, shard.replicas.clone()));
    }
    let index = shard.rebuilt_in(slot)?;
    let mut replicas = shard.replicas.clone();
    *replicas.get_mut(usize::from(index))? = shard.rebuild.as_ref()?.to.clone();
    Some((index, true, replicas))
}

/// Whether that slot has a place in the shard.
pub(super) fn has_place(view: &View, shard: ShardId, slot: SlotId) -> bool {
    view.shard(shard).is_some_and(|s| s.replica_in(slot).is_some() || s.rebuilt_in(slot).is_some())
}

impl Slot {
    /// Forgets what is held here of a shard that the view still has: what of it is on its way to the log counts for
    /// nothing when it arrives.
    pub(super) fn forget_shard(&mut self, shard: ShardId) {
        if self.replicas.remove(&shard).is_some() {
            tracing::info!(%shard, "another copy has taken the place of this one: it is given up");
        }
        self.images.retain(|id| id != shard);
        let fx = &mut self.fx;
        fx.mended.retain(|b| b.placement.lane.shard() != shard);
        fx.staged.retain(|b| b.placement.lane.shard() != shard);
        fx.marks.retain(|(item, _)| item.shard() != Some(shard));
        for item in self.inflight.iter_mut().flat_map(|i| &mut i.items) {
            if item.shard() == Some(shard) {
                *item = Item::Forget;
            }
        }
        fx.marks.push(forget_record(shard));
        self.trim.left_some();
    }

    /// At the end of a turn: goes on with the copies.
    pub(super) fn tend_copies(&mut self, now: Instant) {
        if !self.replicas.values().any(|r| r.is_copy()) {
            return;
        }
        let peers = &self.peers;
        for replica in self.replicas.values_mut() {
            self.trim.urgent |= replica.tend_copy(&mut self.fx, now, |slot| peers.get(&slot)?.conn_if_up());
            if std::mem::take(&mut replica.freed) {
                self.trim.left_some();
            }
        }
    }

    pub(super) fn copies_deadline(&self) -> Option<(Instant, &'static str)> {
        let due = self.replicas.values().filter_map(|r| r.copy_deadline()).min();
        due.map(|at| (at, "go on with a copy"))
    }
}
