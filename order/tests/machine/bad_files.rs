//! What does an orderer do with a log that is not as it left it? It may have promised what is not there any more, so it doesn't
//! start, and says which file is wrong and how. The list of docs/BAD_INPUT.md; invariants SYS-1, LOG-2.

use crate::driver::{CLUSTER, config};
use bytes::Bytes;
use std::time::Duration;
use zoolog_core::wal::{GroupPlan, MemoryDisk, OnDamage, Wal, WalConfig, WalRecord, WalSource, recover};
use zoolog_core::{ClusterId, Input, Instant, Machine, Output, Token};
use zoolog_order::Orderer;

fn wal_config(cluster: ClusterId, node: u64) -> WalConfig {
    let cfg = WalConfig::new(cluster, node, OnDamage::Refuse);
    WalConfig { first_segment_bytes: 16 << 10, segment_bytes: 24 << 10, ..cfg }
}

fn write(disk: &mut MemoryDisk, wal: &mut Wal) -> Option<GroupPlan> {
    while let Some((number, bytes)) = wal.wants_segment() {
        disk.create(number, bytes);
        wal.segment_ready(number, bytes);
    }
    let plan = wal.group()?;
    let mut buffer = vec![0; plan.len];
    wal.fill(&plan, &mut buffer);
    disk.write(plan.segment, plan.offset, &buffer);
    Some(plan)
}

/// Starts the only orderer of a cluster on that disk; it lives until it has led for a while.
fn start(disk: &mut MemoryDisk, lives: u64) -> Result<(), String> {
    let (recovered, mut wal) = recover(disk, &wal_config(CLUSTER, 1)).map_err(|e| e.to_string())?;
    let mut now = Instant(lives << 40);
    let mut machine = Orderer::new(config(1), &recovered, lives, now).map_err(|e| e.to_string())?;
    let mut led = 0;
    for _ in 0..10_000 {
        while let Some(output) = machine.poll_output(now) {
            match output {
                Output::Persist { token, records } => wal.append(token, records),
                Output::Release { segment } => wal.release(segment).into_iter().for_each(|n| disk.delete(n)),
                _ => {}
            }
        }
        while let Some(plan) = write(disk, &mut wal) {
            for (token, positions) in wal.completed(plan) {
                machine.handle(now, Input::Persisted { token, positions });
            }
        }
        led += u32::from(machine.is_leading());
        if led > 50 {
            return Ok(());
        }
        now = now + Duration::from_millis(10);
        machine.handle(now, Input::Timer);
    }
    Err("it never led".into())
}

/// A log of three lives.
fn written() -> MemoryDisk {
    let mut disk = MemoryDisk::new();
    for life in 1..=3 {
        start(&mut disk, life).expect("its own log");
    }
    disk
}

fn is_refused(change: impl FnOnce(&mut MemoryDisk), words: &[&str]) {
    let whole = written();
    let mut disk = whole.clone();
    change(&mut disk);
    let before = disk.segments().unwrap();
    let said = start(&mut disk, 9).expect_err("a log that is not as it was");
    assert!(words.iter().all(|w| said.contains(w)), "{words:?} in {said}");
    assert_eq!(disk.segments().unwrap(), before, "nothing was written");
    start(&mut whole.clone(), 10).expect("the files as they were");
}

fn first(disk: &mut MemoryDisk) -> &mut Vec<u8> {
    disk.bytes_mut(1).expect("the first segment")
}

/// The first segment of a log of that cluster and node, with that in it.
fn foreign(cluster: ClusterId, node: u64, records: Vec<WalRecord>) -> Vec<u8> {
    let mut disk = MemoryDisk::new();
    let (_, mut wal) = recover(&disk, &wal_config(cluster, node)).unwrap();
    if !records.is_empty() {
        wal.append(Token(1), records);
    }
    while let Some(plan) = write(&mut disk, &mut wal) {
        wal.completed(plan);
    }
    first(&mut disk).clone()
}

#[test]
fn a_truncated_or_zero_filled_log_of_an_orderer_is_refused_by_name() {
    let words = ["wal-0000000001.seg is damaged", "replace this node"];
    is_refused(|disk| first(disk).truncate(4096), &words);
    is_refused(|disk| first(disk)[4096..8192].fill(0), &words);
    is_refused(|disk| first(disk)[4200] ^= 1, &words);
}

#[test]
fn swapped_duplicated_and_missing_log_files_of_an_orderer_are_refused_by_name() {
    let duplicate = |disk: &mut MemoryDisk| {
        let one = first(disk).clone();
        disk.put(2, one);
    };
    is_refused(duplicate, &["wal-0000000002.seg holds segment 1", "swapped or copied"]);
    let renamed = |disk: &mut MemoryDisk| {
        let one = first(disk).clone();
        disk.put(3, one);
        (1..3).for_each(|n| disk.delete(n));
    };
    is_refused(renamed, &["wal-0000000003.seg holds segment 1"]);
    let missing = |disk: &mut MemoryDisk| disk.put(9, vec![0; 24 << 10]);
    is_refused(missing, &["is missing"]);
}

#[test]
fn a_log_file_of_another_cluster_or_orderer_is_refused_by_name() {
    let words = ["wal-0000000001.seg belongs to cluster", "this node to"];
    is_refused(|disk| *first(disk) = foreign(ClusterId(5), 1, vec![]), &words);
    is_refused(
        |disk| *first(disk) = foreign(CLUSTER, 2, vec![]),
        &["belongs to node 0x2", "this is node 0x1"],
    );
}

#[test]
fn a_log_file_of_a_newer_version_is_refused_by_name() {
    let newer = |disk: &mut MemoryDisk| {
        let header = &mut first(disk)[..96];
        header[4] = 9;
        let crc = crc32c::crc32c(&header[..92]);
        header[92..].copy_from_slice(&crc.to_le_bytes());
    };
    is_refused(newer, &["wal-0000000001.seg at byte 0 has format version 9", "newer build"]);
}

/// The files are whole, and what is in them is none of an orderer's.
#[test]
fn a_log_of_another_kind_is_refused_in_words() {
    let record = |kind, data: &'static [u8]| WalRecord {
        kind,
        in_index: false,
        aux: 0,
        key1: 0,
        key2: 0,
        data: vec![Bytes::from_static(data)],
    };
    for (records, words) in [
        (vec![record(77, b"a batch, say")], "a record of kind 77"),
        (vec![record(1, b"")], ""),
        (vec![record(1, b"\xff\xff\xff\xff rubbish")], ""),
    ] {
        is_refused(
            |disk| {
                disk.segments().unwrap().into_iter().for_each(|(n, _)| disk.delete(n));
                disk.put(1, foreign(CLUSTER, 1, records));
            },
            &[words],
        );
    }
}
