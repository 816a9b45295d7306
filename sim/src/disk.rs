//! What does a disk keep? The real write-ahead log over segments in memory that tell synced bytes from
//! written ones; a crash keeps, loses or tears the latter.

use crate::node::Role;
use bytes::Bytes;
use std::collections::BTreeMap;
use zoolog_core::rng::Rng;
use zoolog_core::starts;
use zoolog_core::wal::{
    GroupPlan, MemoryDisk, OnDamage, Recovered, Wal, WalConfig, WalPos, WalRecord, WalSource, recover,
    verify_record,
};
use zoolog_core::{ClusterId, LaneId, Token};

/// The cluster that all simulations are about.
pub const CLUSTER: ClusterId = ClusterId(0x5117);

/// A node's disk; survives its crashes.
#[derive(Debug)]
pub struct Disk {
    memory: MemoryDisk,
    segment_bytes: u32,
    /// Bytes of segments that fit on it, if that is limited.
    pub capacity: Option<u64>,
    /// Deleted, with what was in it; a crash may bring it back.
    deleted: BTreeMap<u32, Vec<u8>>,
    /// Whether bytes of it changed that were synced.
    pub is_rotten: bool,
    /// Batches of which a copy rotted, by lane and first LSN: the newest segment that one lay in.
    pub lost: BTreeMap<(LaneId, u64), u32>,
    /// The newest segment whose checkpoint rotted.
    pub rotten_checkpoint: Option<u32>,
    /// Which of its node's disks it is: what the stamp of its log tells.
    pub number: u64,
    /// The file beside a slot's log, with the number of its newest start.
    pub start: Option<Vec<u8>>,
}

impl Disk {
    /// An empty disk whose log will have segments of that size.
    pub fn new(segment_bytes: u32) -> Self {
        Self {
            memory: MemoryDisk::new(),
            segment_bytes,
            capacity: None,
            deleted: BTreeMap::new(),
            is_rotten: false,
            lost: BTreeMap::new(),
            rotten_checkpoint: None,
            number: 0,
            start: None,
        }
    }

    /// The power goes.
    pub fn crash(&mut self, rng: &mut Rng) {
        self.memory.crash(rng);
        for (segment, bytes) in std::mem::take(&mut self.deleted) {
            if rng.chance(50) {
                self.memory.put(segment, bytes);
            }
        }
    }

    /// Deletes a segment. What was deleted by an earlier call is gone for good; of these, in any order, a crash
    /// may leave some.
    fn delete(&mut self, segments: Vec<u32>) {
        if !segments.is_empty() {
            self.deleted.clear();
        }
        for segment in segments {
            if let Some(bytes) = self.memory.bytes_mut(segment) {
                self.deleted.insert(segment, std::mem::take(bytes));
            }
            self.memory.delete(segment);
        }
    }

    /// How many segments there are.
    pub fn segments(&self) -> usize {
        self.memory.segments().map_or(0, |s| s.len())
    }

    /// Bytes that its segments take.
    pub fn used(&self) -> u64 {
        self.memory.segments().map_or(0, |s| s.iter().map(|s| s.1).sum())
    }

    /// Bytes that still fit on it.
    pub fn free(&self) -> u64 {
        self.capacity.map_or(u64::MAX, |most| most.saturating_sub(self.used()))
    }

    /// Makes a segment, number and bytes, unless there is no room for it. Whether it did.
    pub fn create(&mut self, segment: (u32, u32)) -> bool {
        let room = self.free() >= u64::from(segment.1);
        if room {
            self.memory.create(segment.0, segment.1);
        }
        room
    }

    /// A piece of a segment, and the bytes of that.
    pub fn piece(&self, segment: u32, offset: u32, bytes: u32) -> Option<(Bytes, u32)> {
        let size = self.memory.segments().ok()?.iter().find(|s| s.0 == segment)?.1;
        Some((self.memory.read_range(segment, offset.into(), bytes as usize)?, size as u32))
    }

    /// The number of the newest start, as the file says that is beside the log, if it can be read.
    pub fn newest_start(&self) -> Option<u64> {
        starts::from_file(self.start.as_deref()?)
    }

    /// Whether the log of a slot tells of its newest start, so that the file can be done without.
    pub fn log_tells_start(&self, role: Role) -> bool {
        let found = self.config(role).and_then(|cfg| recover(&self.memory, &cfg).ok());
        let next = found.map(|(recovered, _)| recovered.incarnation);
        matches!(role, Role::Server(_)) && self.newest_start().is_some_and(|newest| next == Some(newest + 1))
    }

    /// How its log is laid out, if a node of that role has one.
    pub fn config(&self, role: Role) -> Option<WalConfig> {
        let (node, on_damage) = match role {
            Role::Orderer(n) => (n, OnDamage::Refuse),
            Role::Server(n) => (1000 + u64::from(n), OnDamage::Report),
            Role::Embedded(n) => (2000 + u64::from(n), OnDamage::Refuse),
            _ => return None,
        };
        let mut cfg = WalConfig::new(CLUSTER, node, on_damage);
        cfg.first_segment_bytes = self.segment_bytes;
        cfg.segment_bytes = self.segment_bytes;
        cfg.block_bytes = 16 << 10;
        cfg.group_bytes = 1 << 20;
        Some(cfg)
    }

    /// The bytes.
    pub fn memory(&self) -> &MemoryDisk {
        &self.memory
    }

    /// The bytes, for scenarios that damage them.
    pub fn memory_mut(&mut self) -> &mut MemoryDisk {
        &mut self.memory
    }
}

/// An open log on a [`Disk`]: what the real shell does around a [`Wal`], one group in flight.
#[derive(Debug)]
pub struct Store {
    wal: Wal,
    recovered: Option<Recovered>,
    in_flight: Option<GroupPlan>,
    preparing: Option<(u32, u32)>,
}

impl Store {
    /// Reads a disk, and gives a slot's start its number.
    ///
    /// # Errors
    /// When the log refuses it, or finds damage where none was done.
    pub fn open(disk: &mut Disk, role: Role, random: u64) -> Result<Self, String> {
        let cfg = disk.config(role).ok_or_else(|| format!("{role:?} has no log"))?;
        let (mut recovered, mut wal) = recover(&disk.memory, &cfg).map_err(|e| e.to_string())?;
        if !recovered.damage.is_empty() && !disk.is_rotten {
            return Err(format!("damage where none was done: {:?}", recovered.damage));
        }
        if matches!(role, Role::Server(_)) {
            // Synced before the log's first group is written, as the real shell does.
            let number = starts::number(recovered.incarnation, disk.newest_start(), random);
            disk.start = Some(starts::to_file(number).into_bytes());
            wal.take_number(&mut recovered, number);
        }
        Ok(Self { wal, recovered: Some(recovered), in_flight: None, preparing: None })
    }

    /// Whether the first block is synced, so that the machine may begin.
    pub fn is_open(&self) -> bool {
        self.wal.is_open()
    }

    /// What was found, once.
    pub fn recovered(&mut self) -> Option<Recovered> {
        self.recovered.take()
    }

    /// Queues records.
    pub fn append(&mut self, token: Token, records: Vec<WalRecord>) {
        self.wal.append(token, records);
    }

    /// The segment to be made now, if one is wanted and not being made.
    pub fn wants_segment(&mut self) -> Option<(u32, u32)> {
        let wanted = self.wal.wants_segment()?;
        (self.preparing != Some(wanted)).then(|| {
            self.preparing = Some(wanted);
            wanted
        })
    }

    /// There was no room for that segment: it is wanted again.
    pub fn segment_refused(&mut self) {
        self.preparing = None;
    }

    /// A segment was made.
    pub fn segment_ready(&mut self, segment: (u32, u32)) {
        if self.preparing == Some(segment) {
            self.preparing = None;
        }
        self.wal.segment_ready(segment.0, segment.1);
    }

    /// Whether the log should roll.
    pub fn wants_checkpoint(&self) -> bool {
        self.wal.wants_checkpoint()
    }

    /// Rolls the log.
    pub fn start_segment(&mut self, checkpoint: Bytes) {
        self.wal.start_segment(checkpoint);
    }

    /// Writes the next group, if none is in flight and there is one. Whether it did: a sync must follow.
    pub fn write_group(&mut self, disk: &mut Disk) -> bool {
        if self.in_flight.is_some() {
            return false;
        }
        let plan = self.wal.group();
        self.write(disk, plan)
    }

    /// Writes the block of a second without work. Whether it did.
    pub fn write_idle_block(&mut self, disk: &mut Disk) -> bool {
        if self.in_flight.is_some() {
            return false;
        }
        let plan = self.wal.idle_block();
        self.write(disk, plan)
    }

    fn write(&mut self, disk: &mut Disk, plan: Option<GroupPlan>) -> bool {
        let Some(plan) = plan else { return false };
        let mut buffer = vec![0xEE; plan.len];
        self.wal.fill(&plan, &mut buffer);
        disk.memory.write(plan.segment, plan.offset, &buffer);
        self.in_flight = Some(plan);
        true
    }

    /// The group in flight is durable: who waited for it.
    pub fn group_synced(&mut self, disk: &mut Disk) -> Vec<(Token, Vec<WalPos>)> {
        let plan = self.in_flight.take().expect("a sync of a group in flight");
        disk.memory.sync_range(plan.segment, plan.offset, plan.len);
        for &segment in &plan.also_sync {
            disk.memory.sync(segment);
        }
        let done = self.wal.completed(plan);
        disk.delete(self.wal.release(0));
        done
    }

    /// Deletes what is no longer needed.
    pub fn release(&mut self, disk: &mut Disk, before: u32) {
        disk.delete(self.wal.release(before));
    }

    /// Reads a record back.
    ///
    /// # Errors
    /// When it isn't there or isn't right.
    pub fn read(&self, disk: &Disk, pos: WalPos) -> Result<Bytes, String> {
        let (offset, len) = pos.range();
        let bytes = disk.memory.read_range(pos.segment, offset, len).ok_or("no such segment")?;
        verify_record(pos, &bytes).map_err(|e| format!("{e:?}"))
    }
}
