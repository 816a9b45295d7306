//! What does bad input come to at an embedded log? The list of docs/BAD_INPUT.md, each entry a test that names it: a typed
//! answer, or a start that is refused in words; nothing lost, nothing made up. Invariants SYS-1, LOG-4.

use super::*;
use crate::bench::CLUSTER;
use zoolog_core::limits::RECORD_BYTES_MAX;
use zoolog_core::wal::{MemoryDisk, OnDamage, WalConfig, WalRecord, WalSource, recover};
use zoolog_core::{ClusterId, Instant, Token};

const MAX: u64 = u64::MAX;
const RECORDS: u64 = 60;

/// A log of several segments.
fn filled() -> Bench {
    let mut b = Bench::new(tiny());
    fill(&mut b, 0, RECORDS, 300);
    assert!(b.segments() > 4);
    b
}

/// It takes appends, and gives back all that it should.
fn unharmed(b: &mut Bench) {
    let tail = b.log.durable().0;
    append(b, tail, 1, 50);
    b.settle();
    let (all, covers, end) = read(b, b.log.trimmed().0, tail + 1, usize::MAX);
    assert_eq!((covers, end), (tail + 1, ReadEnd::Complete));
    assert!(all.iter().map(|r| r.0).eq(b.log.trimmed().0..=tail));
    assert!(all.iter().all(|(gsn, bytes)| bytes[..8] == gsn.to_le_bytes()), "nothing else");
    b.events.clear();
}

#[test]
fn a_reversed_range_or_a_limit_of_zero_is_invalid() {
    let mut b = filled();
    for (from, to, max) in
        [(9, 3, 100), (MAX, 0, 100), (RECORDS + 1, RECORDS, 100), (3, 9, 0), (0, 0, 0), (MAX, MAX, 0)]
    {
        assert_eq!(read(&mut b, from, to, max), (vec![], from, ReadEnd::Invalid), "{from}..{to}, {max}");
    }
    unharmed(&mut b);
}

#[test]
fn an_empty_range_is_complete_with_nothing_in_it() {
    let mut b = filled();
    for at in [0, 7, RECORDS, RECORDS + 5, 1 << 63, MAX] {
        assert_eq!(read(&mut b, at, at, 100), (vec![], at, ReadEnd::Complete), "{at}");
    }
    unharmed(&mut b);
}

#[test]
fn a_range_beyond_the_tail_or_with_negative_looking_numbers_is_not_yet() {
    let mut b = filled();
    for from in [RECORDS, RECORDS + 1, 1 << 62, 1 << 63, MAX - 1] {
        assert_eq!(read(&mut b, from, MAX, 100), (vec![], from, ReadEnd::NotYet), "{from}");
    }
    let (all, covers, end) = read(&mut b, 0, MAX, usize::MAX);
    assert_eq!((all.len() as u64, covers, end), (RECORDS, RECORDS, ReadEnd::NotYet));
    unharmed(&mut b);
}

#[test]
fn a_trimmed_range_is_called_so_and_a_subscription_to_it_ends_with_a_gap() {
    let mut b = filled();
    b.log.trim(Gsn(20));
    b.settle();
    for (from, to) in [(0, 5), (0, 20), (19, 30), (0, MAX)] {
        assert_eq!(read(&mut b, from, to, 100), (vec![], 20, ReadEnd::Trimmed), "{from}..{to}");
    }
    b.log.subscribe(Gsn(3));
    b.settle();
    assert!(b.events.contains(&LogEvent::Gap { from: Gsn(3), until: Gsn(20) }), "{:?}", b.events);
    unharmed(&mut b);
}

#[test]
fn a_trim_ahead_of_the_tail_is_answered_with_the_tail_and_trims_nothing() {
    let mut b = filled();
    for gsn in [RECORDS + 1, 1 << 63, MAX] {
        let request = b.log.trim(Gsn(gsn));
        b.settle();
        let result = Err(TrimError::BeyondTail { tail: Gsn(RECORDS) });
        assert!(b.events.contains(&LogEvent::TrimDone { request, result }), "{gsn}");
    }
    assert_eq!(b.log.trimmed(), Gsn(0));
    unharmed(&mut b);
}

#[test]
fn a_record_above_the_limit_is_refused_and_the_next_taken() {
    let mut b = filled();
    let long = vec![0; RECORD_BYTES_MAX + 1];
    let refused = AppendError::TooLong { bytes: long.len(), limit: RECORD_BYTES_MAX };
    assert_eq!(b.log.append(&long), Err(refused));
    assert_eq!(b.log.append_vital(&long), Err(refused));
    let records = vec![record(RECORDS, 20), long.into(), record(RECORDS + 1, 20)];
    b.turn(Some(Input::Command(LogCommand::Append { records })));
    b.settle();
    let failed = b
        .events
        .iter()
        .filter(|e| matches!(e, LogEvent::AppendFailed { first: 1, error } if *error == refused));
    assert_eq!((failed.count(), b.log.durable()), (1, Gsn(RECORDS + 1)), "what came before it is in");
    unharmed(&mut b);
}

/// Only the newest counts, whatever it asks for; reads that nobody takes part in are answered each.
#[test]
fn a_hundred_thousand_subscriptions_are_one() {
    let mut b = filled();
    for i in 0..100_000u64 {
        b.log.subscribe(Gsn(i.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        if i % 1000 == 0 {
            b.turn(None);
        }
    }
    b.log.subscribe(Gsn(MAX));
    b.settle();
    b.events.clear();
    append(&mut b, RECORDS, 1, 20);
    b.settle();
    assert_eq!(delivered(&mut b.events), [], "nothing lies beyond all");
    b.log.subscribe(Gsn(0));
    b.settle();
    let all = delivered(&mut b.events);
    assert!(all.iter().flat_map(Committed::records).map(|r| r.0.0).eq(0..=RECORDS));
    unharmed(&mut b);
}

fn numbers(disk: &MemoryDisk) -> Vec<u32> {
    disk.segments().unwrap().iter().map(|s| s.0).collect()
}

/// The start is refused with these words; on the files as they were it starts, with all that it had.
fn is_refused(change: impl FnOnce(&mut MemoryDisk), words: &[&str]) {
    let Bench { disk: whole, .. } = filled();
    let mut disk = whole.clone();
    change(&mut disk);
    let said = match Bench::open(tiny(), disk, 2, Instant(1 << 40)) {
        Err(said) => said,
        Ok(b) => panic!("started with {} of {RECORDS} records, {words:?} were expected", b.log.durable()),
    };
    assert!(words.iter().all(|w| said.contains(w)), "{words:?} in {said}");
    let mut b = Bench::open(tiny(), whole, 3, Instant(1 << 40)).expect("the files as they were");
    assert_eq!(b.log.durable(), Gsn(RECORDS));
    unharmed(&mut b);
}

#[test]
fn a_truncated_file_of_an_embedded_log_is_refused_by_name() {
    for keep in [0, 4096, 9000] {
        is_refused(|disk| disk.bytes_mut(2).unwrap().truncate(keep), &["wal-0000000002.seg is damaged"]);
    }
}

#[test]
fn a_zero_filled_file_of_an_embedded_log_is_refused_by_name() {
    is_refused(|disk| disk.bytes_mut(2).unwrap().fill(0), &["wal-0000000002.seg is damaged"]);
}

#[test]
fn swapped_duplicated_and_missing_files_of_an_embedded_log_are_refused_by_name() {
    let swap = |disk: &mut MemoryDisk| {
        let (two, three) = (disk.bytes_mut(2).unwrap().clone(), disk.bytes_mut(3).unwrap().clone());
        disk.put(2, three);
        disk.put(3, two);
    };
    is_refused(swap, &["wal-0000000002.seg holds segment 3", "swapped or copied"]);
    let duplicate = |disk: &mut MemoryDisk| {
        let (one, last) = (disk.bytes_mut(1).unwrap().clone(), *numbers(disk).last().unwrap());
        disk.put(last + 1, one);
    };
    is_refused(duplicate, &["holds segment 1", "swapped or copied"]);
    is_refused(|disk| disk.delete(2), &["wal-0000000002.seg is missing"]);
}

/// The first segment of a log of that cluster and node, with that record in it.
fn foreign(cluster: ClusterId, node: u64, record: Option<WalRecord>) -> Vec<u8> {
    let (mut disk, mut cfg) = (MemoryDisk::new(), WalConfig::new(cluster, node, OnDamage::Refuse));
    cfg.first_segment_bytes = 16 << 10;
    let mut wal = recover(&disk, &cfg).unwrap().1;
    let (number, bytes) = wal.wants_segment().unwrap();
    disk.create(number, bytes);
    wal.segment_ready(number, bytes);
    record.into_iter().for_each(|r| wal.append(Token(1), vec![r]));
    while let Some(plan) = wal.group() {
        let mut buffer = vec![0; plan.len];
        wal.fill(&plan, &mut buffer);
        disk.write(plan.segment, plan.offset, &buffer);
        wal.completed(plan);
    }
    disk.bytes_mut(number).unwrap().clone()
}

#[test]
fn a_file_of_another_cluster_or_node_is_refused_by_name() {
    let words = ["wal-0000000001.seg belongs to cluster"];
    is_refused(|disk| disk.put(1, foreign(ClusterId(5), 1, None)), &words);
    is_refused(|disk| disk.put(1, foreign(CLUSTER, 9, None)), &["wal-0000000001.seg belongs to node 0x9"]);
}

/// A data server's log, say, under the number of this one.
#[test]
fn a_log_of_another_kind_is_refused_in_words() {
    let other =
        |kind, key1, data: Vec<Bytes>| WalRecord { kind, in_index: false, aux: 1, key1, key2: 0, data };
    for (record, words) in [
        (other(77, 0, vec![]), "a record of kind 77 is not one of an embedded log"),
        (other(1, 0, vec![Bytes::from_static(b"rubbish")]), "the batch at"),
        (other(2, MAX, vec![]), "it begins at"),
    ] {
        is_refused(
            |disk| {
                numbers(disk).into_iter().for_each(|n| disk.delete(n));
                disk.put(1, foreign(CLUSTER, 1, Some(record)));
            },
            &[words],
        );
    }
}

#[test]
fn a_file_of_a_newer_version_is_refused_by_name() {
    is_refused(
        |disk| {
            let header = &mut disk.bytes_mut(1).unwrap()[..96];
            header[4] = 9;
            let crc = crc32c::crc32c(&header[..92]);
            header[92..].copy_from_slice(&crc.to_le_bytes());
        },
        &["wal-0000000001.seg at byte 0 has format version 9", "newer build"],
    );
}
