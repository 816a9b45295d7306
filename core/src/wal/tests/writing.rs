//! The writer: groups, rolls, room, read-back, release.

use super::*;

#[test]
fn the_first_group_is_the_open_alone_even_when_records_wait() {
    let cfg = small();
    let mut disk = MemoryDisk::new();
    let (recovered, mut wal) = recover(&disk, &cfg).unwrap();
    assert_eq!((recovered.incarnation, wal.incarnation()), (1, 1));
    wal.append(Token(1), vec![record(1, false, &data(1, 10))]);
    assert!(wal.has_work() && wal.group().is_none(), "no segment is ready");
    assert_eq!(wal.wants_segment(), Some((1, cfg.first_segment_bytes)));
    disk.create(1, cfg.first_segment_bytes);
    wal.segment_ready(1, cfg.first_segment_bytes);
    let plan = wal.group().unwrap();
    assert_eq!((plan.segment, plan.offset, plan.len), (1, 0, UNIT));
    assert!(wal.group().is_none(), "one group in flight");
    assert!(wal.completed(plan).is_empty());
    assert_eq!(wal.wants_segment(), Some((2, cfg.segment_bytes)), "the next is wanted ahead of time");
    let plan = wal.group().unwrap();
    assert_eq!(wal.completed(plan)[0].0, Token(1));
    assert!(!wal.has_work());
}

#[test]
fn records_are_read_back_alone_and_checked() {
    let mut b = Bench::new(small());
    b.put((0..40).map(|k| (k, false, (k * 211) as usize % 3000)).collect());
    b.put(vec![(100, false, 3 * UNIT), (101, false, 0)]);
    for (_, pos, data) in &b.done {
        let (offset, len) = pos.range();
        let bytes = b.disk.read_range(pos.segment, offset, len).unwrap();
        assert_eq!(verify_record(*pos, &bytes).unwrap(), data);
        let shifted = WalPos { offset: pos.offset + 8, ..*pos };
        assert!(verify_record(shifted, &bytes).is_err());
        assert!(verify_record(WalPos { segment: pos.segment + 1, ..*pos }, &bytes).is_err());
        assert!(verify_record(*pos, &bytes.slice(..8)).is_err());
    }
}

#[test]
fn an_append_without_records_completes_behind_the_others() {
    let mut b = Bench::new(small());
    b.append(vec![(1, false, 5)]);
    b.append(vec![]);
    b.segments();
    let plan = b.wal.group().unwrap();
    assert_eq!(b.wal.completed(plan).iter().map(|c| c.0).collect::<Vec<_>>(), [Token(1), Token(2)]);
    b.wal.append(Token(3), vec![]);
    let plan = b.wal.group().unwrap();
    assert_eq!(b.wal.completed(plan).len(), 1);
}

#[test]
fn a_group_takes_whole_appends_up_to_its_bound() {
    let mut b = Bench::new(WalConfig { group_bytes: 3 * UNIT as u32, ..small() });
    for k in 0..5 {
        b.append(vec![(k, false, UNIT)]);
    }
    b.append(vec![(9, false, 6 * UNIT)]);
    let mut groups = Vec::new();
    while b.wal.has_work() {
        let plan = b.wal.group().unwrap();
        b.write(&plan);
        let before = b.done.len();
        b.finish(plan);
        groups.push(b.done.len() - before);
    }
    assert_eq!(groups, [1, 1, 1, 1, 1, 0, 1], "two units each; then a seal, for six don't fit the segment");
    assert_eq!(b.done.last().unwrap().0, 9);
}

#[test]
fn a_checkpoint_is_wanted_at_three_quarters_and_opens_the_next_segment() {
    let mut b = Bench::new(small());
    let mut keys = 0;
    while !b.wal.wants_checkpoint() {
        b.put(vec![(keys, keys % 2 == 0, 100)]);
        keys += 1;
    }
    assert_eq!(b.done.last().unwrap().1.segment, 1, "it is wanted before it is needed");
    b.append(vec![(keys, false, 7)]);
    b.roll(b"state");
    assert!(!b.wal.wants_checkpoint());
    assert_eq!(b.done.last().unwrap().1.segment, 1, "what was appended before the checkpoint lies before it");
    b.put(vec![(1000, false, 9)]);
    let b = b.reopen();
    assert_eq!(b.recovered.checkpoint.as_deref(), Some(&b"state"[..]));
    assert_eq!(Bench::keys(&b.recovered.sealed), (0..=keys).collect::<Vec<_>>());
    assert!(b.recovered.sealed.iter().all(|e| e.data.is_some() == (e.key1 % 2 == 0 && e.key1 < keys)));
    b.recovered.sealed.iter().for_each(|e| check_entry(e, |k| Some(if k == keys { 7 } else { 100 })));
    assert_eq!(b.tail(), [1000]);
    assert_eq!(b.recovered.incarnation, 2);
}

#[test]
fn appends_never_fail_for_want_of_room_though_no_checkpoint_comes() {
    let mut b = Bench::new(small());
    for k in 0..400 {
        b.put(vec![(k, k % 3 == 0, (k as usize * 997) % 9000)]);
    }
    assert!(b.done.last().unwrap().1.segment > 5);
    assert!(b.wal.wants_checkpoint());
    let mut b = b.reopen();
    assert_eq!(b.tail(), (0..400).collect::<Vec<_>>());
    b.recovered.tail.iter().for_each(|e| check_entry(e, |k| Some((k as usize * 997) % 9000)));
    assert!(b.recovered.damage.is_empty());
    assert!(b.wal.wants_checkpoint(), "still");
    b.roll(b"at last");
    let b = b.reopen();
    assert_eq!((b.recovered.sealed.len(), b.recovered.tail.len()), (400, 0));
}

#[test]
fn an_append_larger_than_any_segment_gets_one_that_is_large_enough() {
    let mut b = Bench::new(small());
    b.put(vec![(1, false, 1 << 20)]);
    b.put((2..300).map(|k| (k, true, 3000)).collect());
    let b = b.reopen();
    assert_eq!(b.tail(), (1..300).collect::<Vec<_>>());
}

#[test]
fn a_checkpoint_larger_than_any_segment_gets_one_twice_its_size() {
    let mut b = Bench::new(small());
    b.put(vec![(1, false, 10)]);
    b.segments();
    let state = data(5, 1 << 20);
    b.roll(&state);
    assert!(!b.wal.wants_checkpoint(), "else it would be wanted forever");
    b.put(vec![(2, false, 10)]);
    let mut b = b.reopen();
    assert_eq!(b.recovered.checkpoint, Some(state.clone()));
    assert_eq!((Bench::keys(&b.recovered.sealed), b.tail()), (vec![1], vec![2]));
    b.roll(&state);
    assert_eq!(b.reopen().recovered.checkpoint, Some(state));
}

#[test]
fn an_idle_block_is_written_once() {
    let mut b = Bench::new(small());
    b.put(vec![(1, false, 10)]);
    let plan = b.wal.idle_block().expect("after work");
    assert!(b.wal.idle_block().is_none(), "in flight");
    b.write(&plan);
    b.finish(plan);
    assert!(b.wal.idle_block().is_none(), "said already");
    b.append(vec![(2, false, 10)]);
    assert!(b.wal.idle_block().is_none(), "there is work");
    b.run();
    assert!(b.wal.idle_block().is_some());
}

#[test]
fn nothing_is_released_that_recovery_needs() {
    let mut b = Bench::new(WalConfig { on_damage: OnDamage::Refuse, ..small() });
    b.put(vec![(1, false, 10)]);
    assert!(b.wal.release(2).is_empty(), "no checkpoint yet");
    b.wal.start_segment(Bytes::from_static(b"one"));
    assert!(b.wal.release(2).is_empty(), "not durable yet");
    b.run();
    assert_eq!(b.wal.release(0), [1], "what was asked for before");
    assert!(b.wal.release(2).is_empty(), "only once");
    b.disk.delete(1);
    b.roll(b"two");
    b.roll(b"three");
    assert!(b.wal.release(3).is_empty(), "no checkpoint says so yet");
    b.roll(b"four");
    assert_eq!(b.wal.release(0), [2]);
    b.disk.delete(2);
    let mut b = b.reopen();
    assert_eq!(b.recovered.checkpoint.as_deref(), Some(&b"four"[..]));
    assert!(b.wal.release(9).is_empty());
    b.roll(b"five");
    assert_eq!(b.wal.release(0), [3, 4, 5], "all before the newest checkpoint");
}

/// Where damage can be mended, the segment with the checkpoint before the newest stays, over restarts too; but only if it is
/// the one before: not a row of segments.
#[test]
fn the_second_newest_checkpoint_is_kept_if_that_takes_one_segment() {
    let mut b = Bench::new(small());
    b.put(vec![(1, false, 10)]);
    b.wal.release(9);
    b.roll(b"two");
    assert!(b.wal.release(0).is_empty(), "the log's first segment needs no checkpoint");
    b.roll(b"three");
    assert_eq!(b.wal.release(0), [1]);
    b.disk.delete(1);
    let mut b = b.reopen();
    assert!(b.wal.release(9).is_empty());
    b.roll(b"four");
    assert_eq!(b.wal.release(0), [2]);
    b.disk.delete(2);
    // The next segments open without one: there was no time.
    while b.done.last().is_none_or(|d| d.1.segment < 6) {
        b.put(vec![(2, false, 2000)]);
    }
    assert!(b.wal.release(9).is_empty());
    b.roll(b"seven");
    assert_eq!(b.wal.release(9), [3, 4, 5, 6]);
}

#[test]
#[should_panic(expected = "completion with no group in flight")]
fn a_completion_out_of_turn_is_a_defect_of_the_shell() {
    let mut b = Bench::new(small());
    let mut other = Bench::new(small());
    let plan = other.put_unsynced(vec![(1, false, 1)]);
    b.wal.completed(plan);
}

#[test]
fn files_are_named_and_recognised() {
    assert_eq!(segment_file_name(7), "wal-0000000007.seg");
    assert_eq!(segment_number("wal-0000000007.seg"), Some(7));
    for other in ["wal-7.seg", "wal-0000000007.seg.tmp", "x", "wal-+000000007.seg", "wal-.seg"] {
        assert_eq!(segment_number(other), None, "{other}");
    }
}

#[test]
fn a_directory_is_read_like_the_disk_in_memory() {
    let mut b = Bench::new(small());
    for k in 0..60 {
        b.put(vec![(k, k % 2 == 0, 2000)]);
        if b.wal.wants_checkpoint() {
            b.roll(&k.to_le_bytes());
        }
    }
    let dir = tempfile::tempdir().unwrap();
    for (number, bytes) in b.disk.segments().unwrap() {
        let content = b.disk.read_range(number, 0, bytes as usize).unwrap();
        std::fs::write(dir.path().join(segment_file_name(number)), content).unwrap();
    }
    std::fs::write(dir.path().join("LOCK"), b"").unwrap();
    let (from_dir, _) = recover(&FsSource::new(dir.path()), &b.cfg).unwrap();
    let (from_memory, _) = recover(&b.disk, &b.cfg).unwrap();
    assert_eq!(from_dir.tail, from_memory.tail);
    assert_eq!(from_dir.sealed, from_memory.sealed);
    assert_eq!(from_dir.checkpoint, from_memory.checkpoint);
    assert!(matches!(
        recover(&FsSource::new(dir.path().join("none")), &b.cfg),
        Err(WalError::Io { segment: None, .. })
    ));
}

/// Numbers of starts ascend; they are not dense.
#[test]
fn a_log_whose_numbers_leap_is_read_as_any_other() {
    let mut b = Bench::new(small());
    b.put(vec![(1, false, 100)]);
    for (key, number) in [(2, 700), (3, 701), (4, 9 << 40)] {
        let (mut recovered, mut wal) = recover(&b.disk, &b.cfg).unwrap();
        wal.take_number(&mut recovered, number);
        assert_eq!((recovered.incarnation, wal.incarnation()), (number, number));
        b = Bench { recovered, wal, ..b };
        b.put(vec![(key, false, 100)]);
    }
    let b = b.reopen();
    assert_eq!((b.tail(), b.recovered.incarnation), (vec![1, 2, 3, 4], (9 << 40) + 1));
    assert_eq!(b.recovered.damage, []);
}

#[test]
#[should_panic(expected = "start 1 of a log that is at 2")]
fn a_log_takes_no_number_that_it_has_had() {
    let b = Bench::new(small());
    let (mut recovered, mut wal) = recover(&b.disk, &b.cfg).unwrap();
    wal.take_number(&mut recovered, 1);
}
