//! How much room is there, and who must know? The slot's own disk and those of its lanes' backups. While one is low,
//! writers are told so and hold back by themselves; while one is full nothing new is taken. Reads, trims and what
//! is under way go on. The leader hears how much the slot holds, and how its disk is.

use super::Slot;
use super::conns::Kind;
use std::collections::BTreeMap;
use std::time::Duration;
use zoolog_core::wire::{DiskRoom, Held, LaneHeld, Room};
use zoolog_core::{Gsn, Instant, LaneId};

/// The leader is told what is held at most so often.
const EVERY: Duration = Duration::from_secs(1);

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct Space {
    /// Of the slot's own disk.
    pub room: DiskRoom,
    /// Bytes that its log may still take; `None` before that was said.
    pub free_bytes: Option<u64>,
    /// What the leader was last told: when, of the disk, and of each lane.
    told_at: Option<Instant>,
    told: Option<(DiskRoom, u64)>,
    lanes: BTreeMap<LaneId, Told>,
}

/// What the leader was last told of a lane.
#[derive(Debug, Default)]
struct Told {
    /// What it was found by: what has not changed need not be looked at.
    version: (u64, u64),
    from: Vec<(Gsn, u64)>,
}

impl Slot {
    /// The shell says how much room there is.
    pub(super) fn disk_space(&mut self, room: DiskRoom, free_bytes: u64) {
        let before = std::mem::replace(&mut self.space.room, room);
        self.space.free_bytes = Some(free_bytes);
        if room == before {
            return;
        }
        if room > before {
            tracing::warn!(slot = %self.cfg.slot, room = room.name(), free_bytes, "the disk is short of room: appends are held back or refused until there is more");
        } else {
            tracing::info!(slot = %self.cfg.slot, room = room.name(), free_bytes, "there is more room on the disk");
        }
        for replica in self.replicas.values_mut() {
            replica.disk = room;
            replica.tell_primaries(&mut self.fx);
        }
    }

    /// At the end of a turn: writers hear of lanes whose room has changed.
    pub(super) fn tell_writers(&mut self) {
        for (&shard, replica) in &mut self.replicas {
            let room = replica.room();
            if std::mem::replace(&mut replica.told_room, room) == room {
                continue;
            }
            let lane = replica.own_lane().id;
            let writers = self.conns.iter_mut().filter(|(_, c)| c.kind == Kind::Client && !c.closing);
            for (&conn, c) in writers.filter(|(_, c)| c.writes.is_some_and(|(s, _)| s == shard)) {
                c.writes = Some((shard, room));
                self.fx.send(conn, Room { lane, room });
            }
        }
    }

    /// The leader is another, or has forgotten what it was told.
    pub(super) fn forget_told(&mut self) {
        (self.space.told, self.space.told_at) = (None, None);
        self.space.lanes.clear();
    }

    /// At the end of a turn: tells the leader what is held, if that has changed and it is time.
    pub(super) fn tell_held(&mut self, now: Instant) {
        let Some(conn) = self.leader.conn.filter(|_| self.leader.registered) else { return };
        let space = &mut self.space;
        let disk = (space.room, space.free_bytes.unwrap_or(0));
        let room_moved = space.told.map_or(DiskRoom::Ample, |t| t.0) != disk.0;
        if !room_moved && space.told_at.is_some_and(|at| now.since(at) < EVERY) {
            return;
        }
        let short = disk.0 != DiskRoom::Ample && space.told != Some(disk);
        let mut lanes = Vec::new();
        for replica in self.replicas.values().filter(|r| !r.is_copy()) {
            // Those of a finalized shard's other lanes too: their primaries may be gone.
            let mine = |i: usize| i == usize::from(replica.index) || !replica.live;
            for (i, lane) in replica.lanes.iter().enumerate().filter(|(i, _)| mine(*i)) {
                let version = (lane.sizes_version(), lane.committed);
                let told = space.lanes.entry(lane.id).or_default();
                if told.version == version {
                    continue;
                }
                let from = replica.held(i);
                if told.from != from {
                    lanes.push(LaneHeld { lane: lane.id, from: from.clone() });
                }
                *told = Told { version, from };
            }
        }
        space.told_at = Some(now);
        if room_moved || short || !lanes.is_empty() {
            space.told = Some(disk);
            let (room, free_bytes) = disk;
            self.fx.send(conn, Held { slot: self.cfg.slot, room, free_bytes, lanes });
        }
    }
}
