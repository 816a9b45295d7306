//! The slot of a data server as one machine: several replicas, one port, one write-ahead log. This file
//! dispatches; each conversation has its own.

mod clients;
mod conns;
mod copies;
mod mending;
mod orderer;
mod peers;
mod room;
mod scrub;
mod status;
mod trim;
mod turn;
mod watch;

use crate::config::{SlotConfig, SlotError};
use crate::effects::{Effects, Refusal};
use crate::event::SlotEvent;
use crate::marks::Checkpoint;
use crate::replica::Replica;
use crate::replica::recover::Images;
use crate::stages::REPORT;
use bytes::Bytes;
use conns::{Conn, Hold, Kind, admit};
use orderer::Leader;
use peers::Peer;
use room::Space;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use trim::Trim;
use turn::Inflight;
use zoolog_core::limits::REPLICAS_MAX;
use zoolog_core::machine::{ConnId, Input, Machine, Output};
use zoolog_core::view::{ShardState, ShardView, View};
use zoolog_core::wal::Recovered;
use zoolog_core::wire::{self, Message, RefusedWhy};
use zoolog_core::{ClusterId, Incarnation, Instant, ShardId, SlotId};

/// The slot of a data server. See the [crate] for what it does, [`Machine`] for how it is driven.
#[derive(Debug)]
pub struct Slot {
    cfg: SlotConfig,
    incarnation: Incarnation,
    view: View,
    replicas: BTreeMap<ShardId, Replica>,
    /// What the log held of shards that no view has named yet.
    images: Images,
    leader: Leader,
    trim: Trim,
    space: Space,
    /// Shards that the leader knows to be mended here.
    recovering: Vec<ShardId>,
    scrub: scrub::Scrub,
    peers: BTreeMap<SlotId, Peer>,
    conns: BTreeMap<ConnId, Conn>,
    held: BTreeSet<(Hold, ConnId)>,
    /// Connections over which as much waits to leave as may: nothing is pushed or read for them meanwhile.
    backlogged: BTreeSet<ConnId>,
    inflight: VecDeque<Inflight>,
    unsynced_bytes: usize,
    fx: Effects,
    /// Connections dialled so far.
    dials: u64,
    /// Streams opened so far.
    streams: u64,
    /// Whether inputs came since the last `poll_output` that gave nothing.
    in_turn: bool,
    /// There is more to push at once.
    hurry: Option<Instant>,
    /// In this turn somebody asked for what is not ordered yet, as far as is known here.
    read_ahead: bool,
    /// Since when durable lengths have moved that are not reported, and those that this turn reports.
    unreported: Option<Instant>,
    reporting: Option<Instant>,
}

impl Slot {
    /// A slot with what its log held.
    ///
    /// # Errors
    /// When the settings make no sense, or the log holds what this build can't read.
    pub fn new(cfg: SlotConfig, recovered: Recovered, now: Instant) -> Result<Self, SlotError> {
        if cfg.orderers.is_empty() {
            return Err(SlotError::Config("no orderers are given"));
        }
        if cfg.cluster == ClusterId(0) {
            return Err(SlotError::Config("cluster 0 is none"));
        }
        let log_error = |what| SlotError::Log { slot: cfg.slot, what };
        let mut images = Images::read(&recovered, &cfg.bounds).map_err(log_error)?;
        let (view, ended_in) = (images.view.take(), recovered.end.0);
        let mut slot = Self {
            incarnation: Incarnation(recovered.incarnation),
            view: View::default(),
            replicas: BTreeMap::new(),
            images,
            leader: Leader::default(),
            trim: Trim::default(),
            space: Space::default(),
            recovering: Vec::new(),
            scrub: scrub::Scrub::new(ended_in),
            peers: BTreeMap::new(),
            conns: BTreeMap::new(),
            held: BTreeSet::new(),
            backlogged: BTreeSet::new(),
            inflight: VecDeque::new(),
            unsynced_bytes: 0,
            fx: Effects::default(),
            dials: 0,
            streams: 0,
            in_turn: true,
            hurry: None,
            read_ahead: false,
            unreported: None,
            reporting: None,
            cfg,
        };
        if let Some(view) = view {
            slot.adopt_view(now, view).map_err(|what| SlotError::Log { slot: slot.cfg.slot, what })?;
        }
        slot.find_leader(now);
        Ok(slot)
    }

    /// Which slot it is.
    pub fn id(&self) -> SlotId {
        self.cfg.slot
    }

    /// Takes a view: makes the replicas it puts here, and follows their peers.
    fn adopt_view(&mut self, now: Instant, view: View) -> Result<(), String> {
        if !view.shards.is_sorted_by(|a, b| a.id < b.id) {
            return Err(format!("view {}: its shards are not in order", view.number));
        }
        for shard in &view.shards {
            let Some((index, is_copy, replicas)) = copies::seen_from(shard, self.cfg.slot) else { continue };
            if shard.replicas.len() > REPLICAS_MAX {
                return Err(format!(
                    "view {}: shard {} has {} replicas",
                    view.number,
                    shard.id,
                    shard.replicas.len()
                ));
            }
            let slots = replicas.iter().map(|r| r.slot);
            let has_ended = shard.state != ShardState::Live;
            if let Some(known) = self.replicas.get(&shard.id)
                && (replicas.len() != known.slots.len()
                    || !has_ended && !slots.eq(known.slots.iter().copied()))
            {
                return Err(format!(
                    "view {}: shard {} has other replicas than before",
                    view.number, shard.id
                ));
            }
            // Its place is another; or a copy in the making, which counts for nothing yet, has lost something: it is made
            // anew.
            let moved = self.replicas.get(&shard.id).is_some_and(|known| known.index != index);
            if moved || (is_copy && self.images.lacks(shard.id)) {
                self.forget_shard(shard.id);
            }
            let (incarnation, bounds) = (self.incarnation, &self.cfg.bounds);
            let images = &mut self.images;
            let seen = ShardView { replicas, ..shard.clone() };
            let fx = &mut self.fx;
            let make = || {
                let replica = Replica::new(&seen, (index, is_copy), incarnation, bounds, images);
                if replica.mend.open {
                    replica.state_ends(fx);
                }
                replica
            };
            let replica = self.replicas.entry(shard.id).or_insert_with(make);
            if has_ended {
                replica.follow_replicas(&seen.replicas, is_copy);
            }
            replica.trim_is(self.trim.point);
            replica.disk = self.space.room;
            if let ShardState::Finalized(end) = &shard.state {
                replica.finalize(&mut self.fx, end);
            }
            replica.check_damage(&mut self.fx);
            replica.try_to_serve(&mut self.fx);
        }
        self.view = view;
        self.leave_dropped();
        self.follow_peers(now);
        Ok(())
    }

    /// Forgets the replicas of shards that have left the view: all of them is trimmed. What the log still holds of
    /// them goes with its segments; a view precedes what rests on it there, so no shard is unnamed that is yet to come.
    fn leave_dropped(&mut self) {
        let (view, slot) = (&self.view, self.cfg.slot);
        let unclaimed = self.images.shards();
        let held = self.replicas.keys().copied().chain(unclaimed);
        let given_up: BTreeSet<ShardId> =
            held.filter(|id| view.shard(*id).is_some() && !copies::has_place(view, *id, slot)).collect();
        given_up.into_iter().for_each(|id| self.forget_shard(id));
        let view = &self.view;
        let replicas = self.replicas.len();
        self.replicas.retain(|id, _| view.shard(*id).is_some());
        if self.replicas.len() < replicas || self.images.retain(|id| copies::has_place(view, id, slot)) {
            self.trim.left_some();
        }
    }

    fn on_frame(&mut self, now: Instant, conn: ConnId, bytes: Bytes) {
        let Some(c) = self.conns.get_mut(&conn).filter(|c| !c.closing) else { return };
        let kind = c.kind;
        let packet = match wire::decode(bytes) {
            Ok(packet) => packet,
            Err(e) => {
                tracing::warn!(conn = conn.0, ?kind, %e, "closing a connection");
                self.close(now, conn);
                return;
            }
        };
        let (message, payload) = (packet.message, packet.payload);
        let result = match kind {
            Kind::Stranger => match message {
                Message::Hello(m) => admit(&m, self.cfg.cluster).map(|kind| c.kind = kind),
                other => Err(unexpected(&other)),
            },
            Kind::Client => self.on_client(conn, message, payload),
            Kind::Primary(slot) => self.on_primary(conn, slot, message, payload),
            Kind::Backup(slot) => self.on_backup(now, conn, slot, message, payload),
            Kind::Leader => self.on_leader(now, conn, message),
            Kind::Guest => match message {
                Message::Status(m) => {
                    self.answer_status(conn, m.request);
                    Ok(())
                }
                other => Err(unexpected(&other)),
            },
        };
        if let Err(refusal) = result {
            self.refuse(now, conn, refusal);
        }
        self.finish_jobs(now);
    }

    fn on_accepted(&mut self, now: Instant, conn: ConnId) {
        let old = self.conns.insert(conn, Conn::new(Kind::Stranger));
        assert!(old.is_none(), "connection {conn:?} was accepted twice");
        if self.conns.len() > self.cfg.bounds.connections {
            tracing::warn!(connections = self.conns.len(), "too many connections, closing the newest");
            self.close(now, conn);
        }
    }

    fn on_connected(&mut self, now: Instant, conn: ConnId) {
        match self.conns.get(&conn).filter(|c| !c.closing).map(|c| c.kind) {
            Some(Kind::Leader) => self.leader_connected(now, conn),
            Some(Kind::Backup(slot)) => self.peer_connected(now, slot, conn),
            _ => {}
        }
    }
}

fn unexpected(message: &Message) -> Refusal {
    Refusal::new(RefusedWhy::Unexpected, format!("{} has no place on this connection", message.name()))
}

impl Machine for Slot {
    type Command = ();
    type Event = SlotEvent;

    fn handle(&mut self, now: Instant, input: Input<()>) {
        self.in_turn = true;
        self.fx.now = now;
        match input {
            Input::Accepted { conn, .. } => self.on_accepted(now, conn),
            Input::Connected { conn } => self.on_connected(now, conn),
            Input::Frame { conn, bytes } => self.on_frame(now, conn, bytes),
            Input::Closed { conn } => self.closed(now, conn),
            Input::Persisted { token, positions } => self.persisted(token, &positions),
            Input::Loaded { token, result } => {
                self.fx.loaded(token, result);
                self.finish_jobs(now);
            }
            Input::SegmentRead { token, result } => self.segment_read(now, token, result),
            Input::SnapshotSaved { .. } | Input::SnapshotFound { .. } | Input::SnapshotRead { .. } => {
                panic!("a slot has no snapshots, yet {input:?} came")
            }
            Input::DiskSpace { room, free_bytes } => self.disk_space(room, free_bytes),
            Input::Backlog { conn, high } => self.backlog(conn, high),
            Input::Timer | Input::WallClock(_) | Input::Command(()) => {}
        }
    }

    fn poll_output(&mut self, now: Instant) -> Option<Output<SlotEvent>> {
        if std::mem::take(&mut self.in_turn) {
            self.fx.now = now;
            self.end_turn(now);
        }
        self.fx.out.pop_front()
    }

    fn sent(&mut self, now: Instant) {
        if let Some(since) = self.reporting.take() {
            self.fx.stages.record(REPORT, now.since(since), 1);
        }
    }

    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        let hurry = self.hurry.map(|at| (at, "more to push"));
        let all = [
            hurry,
            self.leader_deadline(),
            self.peer_deadline(),
            self.mending_deadline(),
            self.scrub_deadline(),
            self.copies_deadline(),
        ];
        all.into_iter().flatten().min()
    }

    fn may_checkpoint(&self) -> bool {
        !self.replicas.values().any(Replica::lacks_windows) && !self.images.lacks_windows()
    }

    fn checkpoint(&self) -> Bytes {
        assert!(self.fx.staged.is_empty(), "a checkpoint in the middle of a turn");
        let mut checkpoint = Checkpoint { view: Some(self.view.clone()), ..Checkpoint::default() };
        self.replicas.values().for_each(|r| r.add_to(&mut checkpoint));
        self.images.add_to(&mut checkpoint);
        checkpoint.to_bytes()
    }
}
