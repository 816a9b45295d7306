//! Which bytes rot? Synced bytes of one server's disk change, while it runs or while it is down. Always the same
//! server's in a seed, and only what its peers hold too: the promises are about R-1 copies lost, not about all.

use crate::disk::Disk;
use crate::node::Role;
use crate::schedule::NodeId;
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use zoolog_core::rng::Rng;
use zoolog_core::wal::{MemoryDisk, Recovered, UNIT, WalEntry, WalSource, recover, verify_record};
use zoolog_core::{LaneId, ServerId, SlotId};

/// A batch, or another copy of one: the owner's kinds of records.
const BATCHES: [u8; 2] = [1, 6];
/// What precedes it of a shard counts for nothing: the owner's kind of record.
const FORGET: u8 = 8;

impl World {
    /// Some bytes of that server's disk change; perhaps as it crashes, so that its start finds them.
    pub(crate) fn rot(&mut self, server: u32) {
        let role = Role::Server(server);
        let Some(id) = self.nodes.iter().position(|n| n.role == role).map(NodeId) else { return };
        if self.weather.chance(50) {
            let down = self.pause(Duration::from_millis(50));
            self.crash_for(id, down);
        }
        for _ in 0..self.weather.between(1, 3) {
            self.damage(id);
        }
    }

    /// A committed batch in a finished segment of the bad disk of which no copy can be read, if there is one: the
    /// scrubber mends all of them. Where the log is trimmed such a batch may not be needed any more, so that nobody can
    /// tell. Nobody needs what is left of a shard in which the server has no place any more, or had none meanwhile:
    /// another's copy took its place, or the one it made was given up.
    pub fn unmended(&self) -> Option<String> {
        let (server, _) = self.options.rot.filter(|_| self.rotted > 0 && !self.options.trims)?;
        let node = &self.nodes[self.node(Role::Server(server)).0];
        let memory = node.disk.memory();
        let (found, _) = recover(memory, &node.disk.config(node.role)?).ok()?;
        let newest = memory.segments().ok()?.last()?.0;
        // The newest one may be a spare, which nothing was written to.
        let is_cold = |e: &WalEntry| e.pos.segment + 2 < newest;
        let (view, slot) = (self.checks.views.newest()?, SlotId { server: ServerId(server), index: 0 });
        let is_here = |shard| view.shard(shard).is_some_and(|s| s.replica_in(slot).is_some());
        let mut copies: BTreeMap<(LaneId, u64), bool> = BTreeMap::new();
        for e in found.sealed.iter().chain(&found.tail) {
            if e.kind == FORGET {
                copies.retain(|(lane, _), _| u64::from(lane.shard().0) != e.key1);
            }
            let lane = LaneId(e.key1);
            let is_batch = BATCHES.contains(&e.kind) && is_here(lane.shard());
            if is_batch && e.key2 + u64::from(e.aux) <= self.checks.cuts.committed(lane) {
                *copies.entry((lane, e.key2)).or_default() |= !is_cold(e) || is_whole(memory, e);
            }
        }
        // What lay in a block that can't be read any more is not listed. The scrubber looks there once it is cold.
        let unlisted = node.disk.lost.iter().filter(|(_, segment)| **segment + 2 >= newest);
        for (batch, _) in unlisted {
            copies.remove(batch);
        }
        let bad = copies.iter().find(|(_, readable)| !**readable)?.0;
        Some(format!("{}: no copy of the batch of lane {} at {} can be read", node.name, bad.0, bad.1))
    }

    /// Changes some bytes in one place of a disk, if that is a place that may rot. Whether it did.
    pub fn damage(&mut self, id: NodeId) -> bool {
        let runs = self.nodes[id.0].is_up();
        let node = &mut self.nodes[id.0];
        let mut files = Rng::new(self.options.seed, &format!("rot of files, {}", self.rotted));
        if files.chance(10) && node.disk.log_tells_start(node.role) {
            let file = node.disk.start.as_mut().expect("a slot has started");
            let at = files.below(file.len() as u64) as usize;
            file[at] ^= 1 << files.below(8);
            self.rotted += 1;
            self.note(id, || format!("rots: byte {at} of the file of its newest start"));
        }
        let node = &mut self.nodes[id.0];
        let (cuts, may_trim) = (&self.checks.cuts, self.options.trims);
        let done =
            damaged(&node.disk, node.role, &mut self.weather, (runs, may_trim), |lane| cuts.committed(lane));
        let Some(Damaged { memory, lost, checkpoint, what }) = done else { return false };
        *node.disk.memory_mut() = memory;
        node.disk.is_rotten = true;
        for e in lost {
            let newest = node.disk.lost.entry((LaneId(e.key1), e.key2)).or_default();
            *newest = e.pos.segment.max(*newest);
        }
        node.disk.rotten_checkpoint = node.disk.rotten_checkpoint.max(checkpoint);
        self.rotted += 1;
        self.note(id, || format!("rots: {what}"));
        true
    }
}

/// A disk that was damaged.
struct Damaged {
    memory: MemoryDisk,
    /// Batches that can't be had from it any more, copies of one each by itself.
    lost: Vec<WalEntry>,
    /// The segment whose checkpoint was the newest, if it can't be read any more.
    checkpoint: Option<u32>,
    /// What was done to it.
    what: String,
}

/// A damaged copy of the disk.
fn damaged(
    disk: &Disk,
    role: Role,
    rng: &mut Rng,
    (runs, may_trim): (bool, bool),
    committed: impl Fn(LaneId) -> u64,
) -> Option<Damaged> {
    let cfg = disk.config(role)?;
    let (before, _) = recover(disk.memory(), &cfg).ok()?;
    let mut memory = disk.memory().clone();
    let used: Vec<(u32, usize)> =
        memory.segments().ok()?.iter().filter_map(|s| written(&mut memory, s.0)).collect();
    let newest = *used.last()?;
    // The end of the log as often as all that is cold.
    let (segment, end) = if rng.chance(50) { newest } else { used[rng.below(used.len() as u64) as usize] };
    let at = rng.below(end as u64) as usize;
    let bytes = memory.bytes_mut(segment)?;
    let what = match rng.below(3) {
        0 => {
            bytes[at] ^= 1 << rng.below(8);
            format!("a bit of byte {at} of segment {segment}")
        }
        1 => {
            let from = at / UNIT * UNIT;
            bytes[from..from + UNIT].fill(0);
            format!("zeros at {from} of segment {segment}")
        }
        _ => {
            let (from, to) = (at / 512 * 512, (at + 9000).min(end));
            bytes[from..to].iter_mut().for_each(|b| *b = b.wrapping_mul(7).wrapping_add(3));
            format!("{} bytes at {from} of segment {segment}", to - from)
        }
    };
    let (after, _) = recover(&memory, &cfg).ok()?;
    // Whether the very last group was synced nobody can tell: the log may forget its newest start, if that is known from
    // elsewhere. One that forgets all of them begins anew, as another one.
    let is_known = disk.newest_start().is_some_and(|newest| newest + 1 >= before.incarnation);
    if after.incarnation < before.incarnation && (!is_known || after.incarnation == 1) {
        return None;
    }
    // A writer's window knows the batches behind the newest checkpoint from nowhere else. Once such a batch is trimmed
    // everywhere, its lane takes no appends any more.
    let in_windows = after.tail.len() < before.tail.len() || after.checkpoint != before.checkpoint;
    if may_trim && in_windows {
        return None;
    }
    // A log that runs deletes what its newest checkpoint doesn't need, and keeps the segment before that for the case that
    // it rots. Both are more than it can bear.
    let hits = |before: &Recovered, after: &Recovered| before.checkpoint_in != after.checkpoint_in;
    let checkpoint = before.checkpoint_in.filter(|_| hits(&before, &after));
    if runs && let Some(newest) = before.checkpoint_in {
        let is_first = disk.rotten_checkpoint.is_none_or(|rotten| rotten + 2 <= newest);
        let older = |memory: &MemoryDisk| {
            let mut memory = memory.clone();
            used.iter().filter(|(n, _)| *n >= newest).for_each(|(n, _)| memory.delete(*n));
            recover(&memory, &cfg).ok().and_then(|r| r.0.checkpoint_in)
        };
        let bears = match checkpoint {
            Some(newest) => is_first && older(&memory) == Some(newest - 1),
            None => segment + 1 != newest || older(&memory) == older(disk.memory()),
        };
        if !bears {
            return None;
        }
    }
    let lost = lost(&before, &after, &memory);
    let end = |e: &WalEntry| e.key2 + u64::from(e.aux);
    let is_held_by_others = lost.iter().all(|e| end(e) <= committed(LaneId(e.key1)));
    let what = format!("{what}, {} batches", lost.len());
    is_held_by_others.then_some(Damaged { memory, lost, checkpoint, what })
}

/// Whether that record can be read.
fn is_whole(memory: &MemoryDisk, e: &WalEntry) -> bool {
    let (offset, len) = e.pos.range();
    memory.read_range(e.pos.segment, offset, len).is_some_and(|b| verify_record(e.pos, &b).is_ok())
}

/// A segment that was written to, and up to where.
fn written(memory: &mut MemoryDisk, segment: u32) -> Option<(u32, usize)> {
    let last = memory.bytes_mut(segment)?.iter().rposition(|b| *b != 0)?;
    Some((segment, last + 1))
}

/// Batches that can't be had any more.
fn lost(before: &Recovered, after: &Recovered, memory: &MemoryDisk) -> Vec<WalEntry> {
    let batches = |r: &Recovered| -> Vec<WalEntry> {
        r.sealed.iter().chain(&r.tail).filter(|e| BATCHES.contains(&e.kind)).cloned().collect()
    };
    let left: BTreeSet<(u64, u64)> = batches(after).iter().map(|e| (e.key1, e.key2)).collect();
    let is_bad = |e: &WalEntry| !left.contains(&(e.key1, e.key2)) || !is_whole(memory, e);
    batches(before).into_iter().filter(is_bad).collect()
}
