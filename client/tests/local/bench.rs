//! An embedded log, or a machine around one, with its disk, as a shell would run it: turns, groups that are synced when the
//! test says so, crashes.

#![allow(dead_code, reason = "each test uses its part of it")]

use bytes::Bytes;
use std::collections::VecDeque;
use zoolog_client::{LocalConfig, LocalLog};
use zoolog_core::rng::Rng;
use zoolog_core::wal::{
    GroupPlan, MemoryDisk, OnDamage, Recovered, Wal, WalConfig, WalPos, WalSource, recover, verify_record,
};
use zoolog_core::{ClusterId, Gsn, Input, Instant, Machine, Output, Token};

pub const CLUSTER: ClusterId = ClusterId(77);
const MS: std::time::Duration = std::time::Duration::from_millis(1);

pub struct Bench<M: Machine = LocalLog> {
    pub log: M,
    pub disk: MemoryDisk,
    wal: Wal,
    plan: Option<GroupPlan>,
    loads: VecDeque<(Token, WalPos)>,
    pub events: VecDeque<M::Event>,
    /// Pieces of snapshots that are to be saved.
    pub pieces: VecDeque<(Gsn, Bytes, bool)>,
    pub now: Instant,
    /// Reads of the disk fail.
    pub unreadable: bool,
    pub loaded: usize,
    pub rolls: usize,
}

/// Settings that come to their bounds soon.
pub fn tiny() -> LocalConfig {
    LocalConfig {
        window_bytes: 4 << 10,
        window_batches: 4,
        cache_bytes: 1 << 10,
        prefetch_bytes: 2 << 10,
        ..LocalConfig::new(CLUSTER)
    }
}

impl Bench {
    pub fn new(cfg: LocalConfig) -> Self {
        Self::open(cfg, MemoryDisk::new(), 1, Instant(1)).expect("an empty disk")
    }

    /// Starts on that disk.
    pub fn open(cfg: LocalConfig, disk: MemoryDisk, seed: u64, now: Instant) -> Result<Self, String> {
        Self::open_with(disk, now, |recovered| LocalLog::new(cfg, recovered, seed))
    }

    /// The power goes, and comes back.
    pub fn crash(self, cfg: LocalConfig, rng: &mut Rng) -> Self {
        let (disk, now) = self.cut_power(rng);
        Self::open(cfg, disk, rng.next_u64(), now).expect("a crash harms no log")
    }
}

impl<M: Machine> Bench<M> {
    /// What `make` makes of what is on that disk, started.
    pub fn open_with(
        disk: MemoryDisk,
        now: Instant,
        make: impl FnOnce(&Recovered) -> Result<M, String>,
    ) -> Result<Self, String> {
        let mut wal_cfg = WalConfig::new(CLUSTER, 1, OnDamage::Refuse);
        (wal_cfg.first_segment_bytes, wal_cfg.segment_bytes) = (16 << 10, 24 << 10);
        let (recovered, wal) = recover(&disk, &wal_cfg).map_err(|e| e.to_string())?;
        let log = make(&recovered)?;
        let (plan, loads, events, pieces) = (None, VecDeque::new(), VecDeque::new(), VecDeque::new());
        let mut bench =
            Self { log, disk, wal, plan, loads, events, pieces, now, unreadable: false, loaded: 0, rolls: 0 };
        bench.begin();
        bench.sync();
        Ok(bench)
    }

    /// The power goes: what is left of the disk, and when.
    pub fn cut_power(self, rng: &mut Rng) -> (MemoryDisk, Instant) {
        let Self { mut disk, now, .. } = self;
        disk.crash(rng);
        (disk, now + MS)
    }

    /// Gives it that, and carries out what it wants, up to where the disk must sync.
    pub fn turn(&mut self, input: Option<Input<M::Command>>) {
        self.now = self.now + MS;
        input.into_iter().for_each(|i| self.log.handle(self.now, i));
        while let Some(output) = self.log.poll_output(self.now) {
            match output {
                Output::Persist { token, records } => self.wal.append(token, records),
                Output::Load { token, pos } => self.loads.push_back((token, pos)),
                Output::Event(event) => self.events.push_back(event),
                Output::Release { segment } => {
                    let gone = self.wal.release(segment);
                    gone.into_iter().for_each(|n| self.disk.delete(n));
                }
                Output::SaveSnapshot { gsn, bytes, last } => self.pieces.push_back((gsn, bytes, last)),
                Output::SavePart { .. }
                | Output::DropSnapshots { .. }
                | Output::FindSnapshot { .. }
                | Output::ReadSnapshot { .. } => {
                    panic!("who gives and gets no snapshots wants nothing like this")
                }
                Output::Dial { .. }
                | Output::Send { .. }
                | Output::Close { .. }
                | Output::Pause { .. }
                | Output::Resume { .. }
                | Output::ReadSegment { .. }
                | Output::ReadClock => panic!("an embedded log wants nothing like this"),
            }
        }
        if self.wal.wants_checkpoint() {
            self.wal.start_segment(self.log.checkpoint());
            self.rolls += 1;
        }
        self.begin();
    }

    fn begin(&mut self) {
        while let Some((number, bytes)) = self.wal.wants_segment() {
            self.disk.create(number, bytes);
            self.wal.segment_ready(number, bytes);
        }
        if self.plan.is_none()
            && let Some(plan) = self.wal.group()
        {
            let mut buffer = vec![0; plan.len];
            self.wal.fill(&plan, &mut buffer);
            self.disk.write(plan.segment, plan.offset, &buffer);
            self.plan = Some(plan);
        }
    }

    /// The group under way is durable.
    pub fn sync(&mut self) -> bool {
        let Some(plan) = self.plan.take() else { return false };
        self.disk.sync_range(plan.segment, plan.offset, plan.len);
        plan.also_sync.iter().for_each(|s| self.disk.sync(*s));
        for (token, positions) in self.wal.completed(plan) {
            self.log.handle(self.now, Input::Persisted { token, positions });
        }
        let gone = self.wal.release(0);
        gone.into_iter().for_each(|n| self.disk.delete(n));
        self.turn(None);
        true
    }

    /// One read of the disk is done.
    pub fn load(&mut self) -> bool {
        let Some((token, pos)) = self.loads.pop_front() else { return false };
        self.loaded += 1;
        let result = self.read(pos);
        self.turn(Some(Input::Loaded { token, result }));
        true
    }

    fn read(&self, pos: WalPos) -> Result<Bytes, String> {
        if self.unreadable {
            return Err("a bad sector".into());
        }
        let (offset, len) = pos.range();
        let bytes = self.disk.read_range(pos.segment, offset, len).ok_or("no such segment")?;
        verify_record(pos, &bytes).map_err(|e| format!("{e:?}"))
    }

    /// Until nothing is left to do.
    pub fn settle(&mut self) {
        self.turn(None);
        while self.sync() || self.load() {}
    }

    pub fn segments(&self) -> usize {
        self.disk.segments().expect("memory").len()
    }
}
