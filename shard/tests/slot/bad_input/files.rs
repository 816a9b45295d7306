//! Logs that are not as the slot left them: it starts and has what it lost mended by its peers, or it says at the start which
//! file is wrong and how. Neither is anything made up or lost, nor does anybody else have to wait.

use super::*;
use zoolog_core::wal::{MemoryDisk, OnDamage, Wal, WalConfig, WalSource, recover};

/// A stage whose slot 0 is down, its log of several segments.
fn stopped() -> Stage {
    let mut stage = Stage::new(&tiny());
    (0..130).for_each(|_| stage.unharmed());
    let segments = numbers(&stage.world.nodes[0].disk);
    assert!(segments.len() >= 4, "{segments:?}");
    stage.world.crash(0);
    stage.world.settle();
    stage
}

fn numbers(disk: &MemoryDisk) -> Vec<u32> {
    disk.segments().unwrap().iter().map(|s| s.0).collect()
}

/// Those who have nothing to do with slot 0 go on.
fn others_go_on(stage: &mut Stage, writer: u128) {
    let world = &mut stage.world;
    let w = world.client(1);
    world.send(w, append(lane(3, 0), &batch(writer, 0, 1, 20)));
    world.settle();
    assert_eq!(world.clients[w].acks().len(), 1);
}

/// The slot begins, all comes back, and nothing is lost.
fn all_is_well(stage: &mut Stage) {
    let now = stage.world.now;
    stage.world.nodes[0].start(now).expect("a log that can be started on");
    stage.world.turn(0, Vec::new());
    stage.world.run(4000);
    stage.writer = stage.world.client(0);
    stage.unharmed();
    for n in 0..2 {
        let status = stage.world.status(n);
        assert!(!status.contains("\"damaged\":true"), "node {n}: {status}");
    }
}

/// The start is refused with these words; with the files as they were all is well.
fn is_refused(change: impl FnOnce(&mut MemoryDisk), words: &[&str]) {
    let mut stage = stopped();
    let whole = stage.world.nodes[0].disk.clone();
    change(&mut stage.world.nodes[0].disk);
    let now = stage.world.now;
    let said = stage.world.nodes[0].start(now).expect_err("files that are wrong");
    assert!(words.iter().all(|w| said.contains(w)), "{words:?} in {said}");
    assert!(stage.world.nodes[0].slot.is_none());
    others_go_on(&mut stage, 81);
    stage.world.nodes[0].disk = whole;
    all_is_well(&mut stage);
}

/// It starts, and gets back what it lost.
fn is_mended(change: impl FnOnce(&mut MemoryDisk)) {
    let mut stage = stopped();
    change(&mut stage.world.nodes[0].disk);
    stage.world.orderer.forget(slot_id(0));
    others_go_on(&mut stage, 81);
    all_is_well(&mut stage);
    others_go_on(&mut stage, 82);
    // And the next start finds all of it.
    stage.world.crash(0);
    stage.world.settle();
    all_is_well(&mut stage);
}

/// What a slot of that cluster and number has written at its first start.
fn first_segment(cluster: ClusterId, node: u64) -> Vec<u8> {
    let (mut disk, mut cfg) = (MemoryDisk::new(), WalConfig::new(cluster, node, OnDamage::Report));
    cfg.first_segment_bytes = 16 << 10;
    let mut wal: Wal = recover(&disk, &cfg).unwrap().1;
    let (number, bytes) = wal.wants_segment().unwrap();
    disk.create(number, bytes);
    wal.segment_ready(number, bytes);
    let plan = wal.group().unwrap();
    let mut buffer = vec![0; plan.len];
    wal.fill(&plan, &mut buffer);
    disk.write(plan.segment, plan.offset, &buffer);
    disk.bytes_mut(number).unwrap().clone()
}

#[test]
fn a_truncated_log_file_of_a_slot_is_mended_by_its_peers() {
    for (which, keep) in [(1, 0), (1, 4096), (1, 9000), (2, 5000)] {
        is_mended(|disk| {
            let number = numbers(disk)[which];
            disk.bytes_mut(number).unwrap().truncate(keep);
        });
    }
}

#[test]
fn a_zero_filled_log_file_of_a_slot_is_mended_by_its_peers() {
    for which in [0, 1, 2] {
        is_mended(|disk| {
            let number = numbers(disk)[which];
            disk.bytes_mut(number).unwrap().fill(0);
        });
    }
}

#[test]
fn swapped_log_files_of_a_slot_are_refused_by_name() {
    let words = ["wal-0000000002.seg holds segment 3", "swapped or copied"];
    is_refused(
        |disk| {
            let (two, three) = (disk.bytes_mut(2).unwrap().clone(), disk.bytes_mut(3).unwrap().clone());
            disk.put(2, three);
            disk.put(3, two);
        },
        &words,
    );
}

#[test]
fn a_duplicated_log_file_of_a_slot_is_refused_by_name() {
    is_refused(
        |disk| {
            let (one, last) = (disk.bytes_mut(1).unwrap().clone(), *numbers(disk).last().unwrap());
            disk.put(last + 1, one);
        },
        &["holds segment 1", "swapped or copied"],
    );
}

#[test]
fn a_missing_log_file_of_a_slot_is_refused_by_name() {
    is_refused(|disk| disk.delete(2), &["wal-0000000002.seg is missing"]);
}

#[test]
fn a_log_file_of_another_cluster_or_another_slot_is_refused_by_name() {
    let words = ["wal-0000000001.seg belongs to cluster", "0000004d"];
    is_refused(|disk| disk.put(1, first_segment(ClusterId(5), 1)), &words);
    let words = ["wal-0000000001.seg belongs to node 0x2", "this is node 0x1"];
    is_refused(|disk| disk.put(1, first_segment(CLUSTER, 2)), &words);
}

fn newer(disk: &mut MemoryDisk) {
    let header = &mut disk.bytes_mut(1).unwrap()[..96];
    assert_eq!(&header[..6], b"ZWAL\x01\x00");
    header[4] = 9;
    let crc = crc32c::crc32c(&header[..92]);
    header[92..].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn a_log_file_of_a_newer_version_is_refused_by_name() {
    is_refused(newer, &["wal-0000000001.seg at byte 0 has format version 9", "newer build"]);
}
