//! How do slots reach each other? A slot dials every slot that backs up a lane of its own: one connection
//! for all shards they share. What comes in over others' connections makes it a backup.

use super::Slot;
use super::conns::{Hold, Kind};
use super::watch::{Verdict, Watch, backoff};
use crate::effects::Refusal;
use crate::replica::Replica;
use bytes::Bytes;
use std::collections::BTreeMap;
use zoolog_core::machine::ConnId;
use zoolog_core::wire::{Message, RefusedWhy, Status};
use zoolog_core::{Instant, LaneId, SlotId};

/// A slot that backs up lanes of ours.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    addr: String,
    conn: Option<ConnId>,
    up: bool,
    /// Since when it is.
    since: Instant,
    fails: u32,
    retry_at: Option<Instant>,
    watch: Watch,
}

impl Peer {
    /// The connection, if it is there.
    pub fn conn_if_up(&self) -> Option<ConnId> {
        self.conn.filter(|_| self.up)
    }
}

impl Slot {
    /// Dials whom the view names, hangs up on whom it doesn't.
    pub(super) fn follow_peers(&mut self, now: Instant) {
        let mut wanted: BTreeMap<SlotId, String> = BTreeMap::new();
        for shard in self.view.shards.iter().filter(|s| self.replicas.contains_key(&s.id)) {
            for r in shard.replicas.iter().filter(|r| r.slot != self.cfg.slot) {
                wanted.insert(r.slot, r.addr.clone());
            }
        }
        let (mut hang_up, mut gone) = (Vec::new(), Vec::new());
        for (&slot, peer) in &self.peers {
            match wanted.get(&slot) {
                Some(addr) if *addr == peer.addr => {}
                Some(_) => hang_up.extend(peer.conn),
                None => {
                    hang_up.extend(peer.conn);
                    gone.push(slot);
                }
            }
        }
        gone.iter().for_each(|slot| drop(self.peers.remove(slot)));
        for (slot, addr) in wanted {
            let peer = self.peers.entry(slot).or_default();
            if peer.addr.is_empty() {
                peer.retry_at = Some(now);
            }
            peer.addr = addr;
        }
        hang_up.into_iter().for_each(|conn| self.close(now, conn));
    }

    pub(super) fn peer_connected(&mut self, now: Instant, slot: SlotId, conn: ConnId) {
        if let Some(peer) = self.peers.get_mut(&slot) {
            (peer.up, peer.since) = (true, now);
            peer.watch.heard(now);
            self.hello(conn);
        }
    }

    pub(super) fn peer_gone(&mut self, now: Instant, slot: SlotId) {
        if let Some(peer) = self.peers.get_mut(&slot) {
            let lasted = peer.up && now.since(peer.since) >= self.cfg.bounds.silence;
            if lasted {
                peer.fails = 0;
            }
            (peer.conn, peer.up) = (None, false);
            peer.retry_at = Some(now + backoff(peer.fails));
            peer.fails = peer.fails.saturating_add(1);
        }
    }

    /// Dials, opens streams, asks or gives up, when it is time.
    pub(super) fn tend_peers(&mut self, now: Instant) {
        let slots: Vec<SlotId> = self.peers.keys().copied().collect();
        for slot in slots {
            self.tend_peer(now, slot);
        }
    }

    fn tend_peer(&mut self, now: Instant, slot: SlotId) {
        let peer = &self.peers[&slot];
        let (conn, up) = (peer.conn, peer.up);
        if peer.retry_at.is_some_and(|at| at <= now) {
            let conn = self.dial(peer.addr.clone(), Kind::Backup(slot));
            let peer = self.peers.get_mut(&slot).expect("a peer");
            (peer.conn, peer.retry_at, peer.watch) = (Some(conn), None, Watch::dialled(now));
            return;
        }
        let Some(conn) = conn else { return };
        if up {
            for replica in self.replicas.values_mut().filter(|r| r.lacks_stream(slot)) {
                self.streams += 1;
                replica.open_stream(&mut self.fx, slot, conn, self.streams);
            }
        }
        let owed = |r: &Replica| r.is_owed_by(slot) || r.mending_owed_by(slot) || r.copy_owed_by(slot);
        let owes = !up || self.replicas.values().any(owed);
        let silence = self.cfg.bounds.silence;
        let watch = &mut self.peers.get_mut(&slot).expect("a peer").watch;
        watch.owes(now, owes);
        match watch.look(now, silence) {
            Verdict::Fine => {}
            Verdict::Ask if up => self.fx.send(conn, Status { request: 0 }),
            Verdict::Ask => {}
            Verdict::Dead => {
                tracing::warn!(%slot, "a backup is silent, dialling again");
                self.close(now, conn);
            }
        }
    }

    pub(super) fn peer_deadline(&self) -> Option<(Instant, &'static str)> {
        let silence = self.cfg.bounds.silence;
        let due = |p: &Peer| {
            let watch = p.conn.and_then(|_| p.watch.deadline(silence));
            [p.retry_at.map(|at| (at, "dial a backup")), watch.map(|at| (at, "a backup is silent"))]
                .into_iter()
                .flatten()
                .min()
        };
        self.peers.values().filter_map(due).min()
    }

    /// A message from a slot we dialled.
    ///
    /// # Errors
    /// The connection is to be refused.
    pub(super) fn on_backup(
        &mut self,
        now: Instant,
        conn: ConnId,
        slot: SlotId,
        message: Message,
        payload: Bytes,
    ) -> Result<(), Refusal> {
        let peer = self.peers.get_mut(&slot).filter(|p| p.conn == Some(conn));
        if let Some(peer) = peer {
            peer.watch.heard(now);
        }
        let fx = &mut self.fx;
        match message {
            Message::Synced(m) => match self.replicas.get_mut(&m.lane.shard()) {
                Some(r) if r.own_lane().id == m.lane => r.synced(fx, conn, &m),
                _ => Err(Refusal::new(RefusedWhy::Invalid, format!("lane {} is not ours", m.lane))),
            },
            Message::LaneIs(m) => match self.replicas.get_mut(&m.lane.shard()) {
                Some(r) => r.lane_is(fx, conn, &m, payload),
                None => Err(Refusal::new(RefusedWhy::Invalid, format!("lane {} is not ours", m.lane))),
            },
            Message::Fence(m) => self.on_fence(&m, payload),
            Message::Room(m) => match self.replicas.get_mut(&m.lane.shard()) {
                Some(r) if r.own_lane().id == m.lane => {
                    r.backup_has(slot, m.room);
                    Ok(())
                }
                _ => Err(Refusal::new(RefusedWhy::Invalid, format!("lane {} is not ours", m.lane))),
            },
            Message::Refused(m) => {
                tracing::warn!(%slot, why = ?m.why, text = %m.text, "a backup refused us");
                self.close(now, conn);
                Ok(())
            }
            Message::StatusIs(_) => Ok(()),
            other => self.on_given(conn, other, payload),
        }
    }

    /// A message from a slot that dialled us.
    ///
    /// # Errors
    /// The connection is to be refused.
    pub(super) fn on_primary(
        &mut self,
        conn: ConnId,
        slot: SlotId,
        message: Message,
        payload: Bytes,
    ) -> Result<(), Refusal> {
        let lane = match &message {
            Message::Sync(m) => m.lane,
            Message::Replicate(m) => m.lane,
            Message::FetchLane(m) => m.lane,
            Message::LaneBase(m) => m.lane,
            Message::Status(m) => {
                self.answer_status(conn, m.request);
                return Ok(());
            }
            other => return self.on_wanted(conn, slot, other),
        };
        self.check_primary(lane, slot)?;
        let replica = self.replicas.get_mut(&lane.shard()).expect("checked");
        let brings = matches!(message, Message::Replicate(_));
        let fx = &mut self.fx;
        match message {
            Message::Sync(m) => replica.sync(fx, conn, &m)?,
            Message::Replicate(m) => replica.replicate(fx, conn, &m, payload)?,
            Message::FetchLane(m) => replica.fetch_lane(fx, conn, &m)?,
            Message::LaneBase(m) => {
                replica.lane_base(fx, conn, &m)?;
                self.trim.urgent = true;
            }
            _ => {}
        }
        // Only what brings batches is slowed: a primary that lost them must get them back from a full backup.
        let is_full = brings && replica.is_backup_full(lane);
        if self.unsynced_bytes > self.cfg.bounds.unsynced_bytes {
            self.hold(conn, Hold::Disk);
        }
        if is_full {
            self.hold(conn, Hold::Backup(lane));
        }
        Ok(())
    }

    fn check_primary(&self, lane: LaneId, slot: SlotId) -> Result<(), Refusal> {
        let Some(replica) = self.replicas.get(&lane.shard()) else {
            return Err(Refusal::new(
                RefusedWhy::NotReady,
                format!("shard {} is not known here yet", lane.shard()),
            ));
        };
        if replica.slots.get(usize::from(lane.index())) == Some(&slot) {
            return Ok(());
        }
        Err(Refusal::new(RefusedWhy::Invalid, format!("slot {slot} is not the primary of lane {lane}")))
    }
}
