//! Tests of the log: each case of the decision table by name, the writer, and whole lives with crashes.

mod audits;
mod bad_files;
mod cases;
mod lives;
mod scrub;
mod writing;

use super::*;
use crate::machine::Token;
use crate::rng::Rng;

/// A log on a disk in memory.
pub(super) struct Bench {
    pub cfg: WalConfig,
    pub disk: MemoryDisk,
    pub wal: Wal,
    pub recovered: Recovered,
    pub token: u64,
    /// Every record that was completed, in order: (key1, position, data).
    pub done: Vec<(u64, WalPos, Bytes)>,
    /// Records appended and not completed.
    waiting: Vec<(Token, Vec<(u64, Bytes)>)>,
}

/// Small enough that segments roll.
pub(super) fn small() -> WalConfig {
    WalConfig {
        first_segment_bytes: 16 * UNIT as u32,
        segment_bytes: 32 * UNIT as u32,
        block_bytes: UNIT as u32 - 96,
        group_bytes: 1 << 20,
        ..WalConfig::new(ClusterId(7), 3, OnDamage::Report)
    }
}

pub(super) fn record(key: u64, in_index: bool, data: &Bytes) -> WalRecord {
    // Two parts, so that gathering is tested.
    let half = data.len() / 2;
    let parts = vec![data.slice(..half), data.slice(half..)];
    WalRecord { kind: (key % 5) as u8, in_index, aux: key as u32 ^ 9, key1: key, key2: !key, data: parts }
}

/// Recognisable bytes for a key.
pub(super) fn data(key: u64, len: usize) -> Bytes {
    let mut rng = Rng::new(key, "wal test data");
    (0..len.div_ceil(8)).flat_map(|_| rng.next_u64().to_le_bytes()).take(len).collect::<Vec<_>>().into()
}

impl Bench {
    pub fn new(cfg: WalConfig) -> Self {
        Self::on(cfg, MemoryDisk::new()).unwrap()
    }

    /// Opens what is on `disk`, first group included.
    pub fn on(cfg: WalConfig, disk: MemoryDisk) -> Result<Self, WalError> {
        let (recovered, wal) = recover(&disk, &cfg)?;
        let mut bench = Self { cfg, disk, wal, recovered, token: 0, done: Vec::new(), waiting: Vec::new() };
        bench.run();
        assert!(bench.wal.is_open());
        Ok(bench)
    }

    pub fn reopen(self) -> Self {
        Self::on(self.cfg, self.disk).unwrap()
    }

    pub fn segments(&mut self) {
        while let Some((number, bytes)) = self.wal.wants_segment() {
            self.disk.create(number, bytes);
            self.wal.segment_ready(number, bytes);
        }
    }

    pub fn append(&mut self, records: Vec<(u64, bool, usize)>) {
        self.token += 1;
        let made: Vec<_> = records.iter().map(|&(k, i, len)| (k, i, data(k, len))).collect();
        self.waiting.push((Token(self.token), made.iter().map(|(k, _, d)| (*k, d.clone())).collect()));
        self.wal.append(Token(self.token), made.iter().map(|(k, i, d)| record(*k, *i, d)).collect());
    }

    /// Writes a plan without syncing; the buffer held garbage.
    pub fn write(&mut self, plan: &GroupPlan) {
        assert!(plan.len.is_multiple_of(UNIT) && plan.offset.is_multiple_of(UNIT as u64));
        let mut buffer = vec![0xee; plan.len];
        self.wal.fill(plan, &mut buffer);
        self.disk.write(plan.segment, plan.offset, &buffer);
    }

    pub fn finish(&mut self, plan: GroupPlan) {
        self.disk.sync_range(plan.segment, plan.offset, plan.len);
        plan.also_sync.iter().for_each(|&n| self.disk.sync(n));
        for (token, positions) in self.wal.completed(plan) {
            let (expected, records) = self.waiting.remove(0);
            assert_eq!(token, expected);
            assert_eq!(positions.len(), records.len());
            for ((key, data), pos) in records.into_iter().zip(positions) {
                self.done.push((key, pos, data));
            }
        }
    }

    /// Writes everything that waits.
    pub fn run(&mut self) {
        self.segments();
        while let Some(plan) = self.wal.group() {
            self.write(&plan);
            self.finish(plan);
            self.segments();
        }
    }

    /// One append, one group of its own.
    pub fn put(&mut self, records: Vec<(u64, bool, usize)>) {
        self.append(records);
        self.run();
    }

    pub fn roll(&mut self, checkpoint: &[u8]) {
        self.wal.start_segment(Bytes::copy_from_slice(checkpoint));
        self.run();
    }

    /// The last write is not synced: what it was.
    pub fn put_unsynced(&mut self, records: Vec<(u64, bool, usize)>) -> GroupPlan {
        self.append(records);
        let plan = self.wal.group().expect("a group");
        self.write(&plan);
        plan
    }

    pub fn keys(entries: &[WalEntry]) -> Vec<u64> {
        entries.iter().map(|e| e.key1).collect()
    }

    pub fn tail(&self) -> Vec<u64> {
        Self::keys(&self.recovered.tail)
    }
}

/// Checks what was recovered against what is known to have been written under its key.
pub(super) fn check_entry(e: &WalEntry, len_of: impl Fn(u64) -> Option<usize>) {
    let len = len_of(e.key1).unwrap_or_else(|| panic!("a record nobody wrote: {e:?}"));
    assert_eq!((e.kind, e.aux, e.key2), ((e.key1 % 5) as u8, e.key1 as u32 ^ 9, !e.key1));
    assert_eq!(e.pos.len as usize, len);
    if let Some(d) = &e.data {
        assert_eq!(d, &data(e.key1, len));
    }
}
