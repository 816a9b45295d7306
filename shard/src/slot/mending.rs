//! Who is asked for what is lost, and who is told? The slot's side of mending: connections to the other replicas, and
//! word to the leader of the shards of which nothing is reported meanwhile.

use super::Slot;
use crate::effects::Refusal;
use bytes::Bytes;
use zoolog_core::machine::ConnId;
use zoolog_core::wire::{Message, Recovering, RefusedWhy};
use zoolog_core::{Instant, LaneId, ShardId, SlotId};

impl Slot {
    /// At the end of a turn: asks other replicas for what is missing.
    pub(super) fn tend_mending(&mut self, now: Instant) {
        let peers = &self.peers;
        let mut again = false;
        for replica in self.replicas.values_mut() {
            replica.tend_mending(&mut self.fx, now, |slot| peers.get(&slot)?.conn_if_up());
            again |= std::mem::take(&mut replica.mend.register_again) && replica.seen.is_none();
        }
        if let Some(conn) = self.leader.conn.filter(|_| again && self.leader.registered) {
            // It tells what follows the parts we lacked.
            self.close(now, conn);
        }
    }

    /// Tells the leader which shards are being mended, when that changes. That we live it hears anyway.
    pub(super) fn tell_recovering(&mut self) {
        let Some(conn) = self.leader.conn.filter(|_| self.leader.registered) else {
            self.recovering.clear(); // the next one is told anew
            return;
        };
        let shards = || self.replicas.iter().filter(|(_, r)| !r.may_report()).map(|(&id, _)| id);
        if !shards().eq(self.recovering.iter().copied()) {
            self.recovering = shards().collect();
            let (slot, incarnation, shards) = (self.cfg.slot, self.incarnation, self.recovering.clone());
            self.fx.send(conn, Recovering { slot, incarnation, shards });
        }
    }

    pub(super) fn mending_deadline(&self) -> Option<(Instant, &'static str)> {
        let again = self.replicas.values().filter_map(|r| r.mend.deadline());
        again.min().map(|at| (at, "ask for what is lost"))
    }

    /// Another replica lost something.
    ///
    /// # Errors
    /// The connection is to be refused.
    pub(super) fn on_wanted(&mut self, conn: ConnId, slot: SlotId, message: &Message) -> Result<(), Refusal> {
        let shard = match message {
            Message::BatchesWanted(m) => m.lane.shard(),
            Message::PartsWanted(m) => m.shard,
            other => return Err(super::unexpected(other)),
        };
        let Some(replica) = self.replicas.get_mut(&shard) else {
            return Err(Refusal::new(RefusedWhy::NotReady, format!("shard {shard} is not known here yet")));
        };
        if !replica.slots.contains(&slot) {
            let text = format!("slot {slot} has no replica of shard {shard}");
            return Err(Refusal::new(RefusedWhy::Invalid, text));
        }
        match message {
            Message::BatchesWanted(m) => replica.batches_wanted(&mut self.fx, conn, m)?,
            Message::PartsWanted(m) => replica.parts_wanted(&mut self.fx, conn, m),
            _ => {}
        }
        Ok(())
    }

    /// Another replica gives what it has.
    ///
    /// # Errors
    /// The connection is to be refused.
    pub(super) fn on_given(&mut self, conn: ConnId, message: Message, payload: Bytes) -> Result<(), Refusal> {
        let fx = &mut self.fx;
        let replica =
            |shard: ShardId| Refusal::new(RefusedWhy::Invalid, format!("shard {shard} is not ours"));
        match message {
            Message::BatchesAre(m) => {
                let shard = LaneId::shard(m.lane);
                let r = self.replicas.get_mut(&shard).filter(|r| usize::from(m.lane.index()) < r.lanes.len());
                r.ok_or_else(|| replica(shard))?.batches_are(fx, conn, &m, payload)
            }
            Message::PartsHeld(m) => {
                let r = self.replicas.get_mut(&m.shard);
                r.ok_or_else(|| replica(m.shard))?.parts_held(fx, conn, m)
            }
            other => Err(super::unexpected(&other)),
        }
    }
}
