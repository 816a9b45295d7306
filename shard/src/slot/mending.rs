//! Who is asked for what is lost, and who is told? The slot's side of mending: connections to the other replicas, and
//! word to the leader of the shards of which nothing is reported meanwhile.

use super::Slot;
use crate::effects::Refusal;
use bytes::Bytes;
use zoolog_core::machine::ConnId;
use zoolog_core::wire::{BatchesAre, Message, PartsHeld, Recovering, RefusedWhy};
use zoolog_core::{Instant, LaneId, Lsn, SlotId};

impl Slot {
    /// At the end of a turn: asks other replicas for what is missing.
    pub(super) fn tend_mending(&mut self, now: Instant) {
        let peers = &self.peers;
        let mut again = false;
        // A copy in the making asks for itself (copies.rs).
        for replica in self.replicas.values_mut().filter(|r| !r.is_copy()) {
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
        // One of us has yet to hear of a view. The connection serves other shards, too.
        let replica =
            self.replicas.get_mut(&shard).filter(|_| super::copies::has_place(&self.view, shard, slot));
        let Some(replica) = replica else {
            self.lend_nothing(conn, message);
            return Ok(());
        };
        match message {
            Message::BatchesWanted(m) => replica.batches_wanted(&mut self.fx, conn, m)?,
            Message::PartsWanted(m) => replica.parts_wanted(&mut self.fx, conn, m),
            _ => {}
        }
        Ok(())
    }

    fn lend_nothing(&mut self, conn: ConnId, question: &Message) {
        match question {
            Message::BatchesWanted(m) => {
                let (lane, from, none) = (m.lane, m.from, Lsn(0));
                self.fx.send(conn, BatchesAre { lane, from, start: none, len: none, last: 0 });
            }
            Message::PartsWanted(m) => {
                let (shard, after) = (m.shard, m.after);
                self.fx.send(conn, PartsHeld { shard, after, base: None, parts: Vec::new() });
            }
            _ => {}
        }
    }

    /// Another replica gives what it has.
    ///
    /// # Errors
    /// The connection is to be refused.
    pub(super) fn on_given(&mut self, conn: ConnId, message: Message, payload: Bytes) -> Result<(), Refusal> {
        let (fx, rate) = (&mut self.fx, self.cfg.bounds.rebuild_bytes_per_s);
        let shard = match &message {
            Message::BatchesAre(m) => LaneId::shard(m.lane),
            Message::PartsHeld(m) => m.shard,
            other => return Err(super::unexpected(other)),
        };
        let Some(replica) = self.replicas.get_mut(&shard) else {
            return Ok(()); // its place here was given up meanwhile
        };
        match message {
            Message::BatchesAre(m) if usize::from(m.lane.index()) < replica.lanes.len() => {
                match replica.is_copy() {
                    true => replica.copy_batches(fx, conn, &m, payload, rate),
                    false => replica.batches_are(fx, conn, &m, payload),
                }
            }
            Message::PartsHeld(m) if replica.is_copy() => replica.copy_parts(fx, conn, m),
            Message::PartsHeld(m) => replica.parts_held(fx, conn, m),
            _ => Err(Refusal::new(RefusedWhy::Invalid, format!("shard {shard} has no such lane"))),
        }
    }
}
