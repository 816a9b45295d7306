//! Ranges that nobody means: reversed, empty, beyond the tail, trimmed, of no bytes.

use super::*;

/// A stage with a dozen batches, and some of shard 2's between them.
fn filled() -> Stage {
    let mut stage = Stage::new(&tiny());
    let other = stage.world.client(1);
    for seq in 0..12 {
        stage.world.send(other, append(lane(2, 0), &batch(50, seq, 1, 40)));
        stage.world.settle();
        stage.unharmed();
    }
    stage
}

/// Asks either replica, with and without the batch across the beginning: covers and end are those, and there is no batch.
fn answers(stage: &mut Stage, shard: u32, (from, to): (u64, u64), max_bytes: u32, covers: u64, end: ReadEnd) {
    for (n, begun_within) in [(0, false), (0, true), (1, false), (1, true)] {
        let world = &mut stage.world;
        let c = world.client(n);
        let (shard, from, to) = (ShardId(shard), Gsn(from), Gsn(to));
        let (m, found) = world.ask(c, Read { request: 9, shard, from, to, max_bytes, begun_within });
        assert_eq!((m.request, m.from, m.covers, m.end), (9, from, Gsn(covers), end), "{from}..{to} at {n}");
        assert!(found.is_empty(), "{from}..{to} at {n}: {found:?}");
        assert!(!world.clients[c].closed);
    }
}

const MAX: u64 = u64::MAX;

#[test]
fn a_reversed_range_is_invalid() {
    let mut stage = filled();
    let tail = stage.world.orderer.tail.0;
    for (from, to) in [(1, 0), (tail, 0), (tail + 5, tail), (MAX, 0), (MAX, MAX - 1), (1 << 63, 5)] {
        answers(&mut stage, 1, (from, to), 1 << 20, from, ReadEnd::Invalid);
    }
    stage.unharmed();
}

#[test]
fn an_empty_range_is_complete_with_nothing_in_it() {
    let mut stage = filled();
    let tail = stage.world.orderer.tail.0;
    for at in [0, 1, tail / 2, tail] {
        answers(&mut stage, 1, (at, at), 1 << 20, at, ReadEnd::Complete);
    }
    stage.unharmed();
}

#[test]
fn a_limit_of_zero_bytes_is_invalid() {
    let mut stage = filled();
    let tail = stage.world.orderer.tail.0;
    for (from, to) in [(0, tail), (0, 0), (tail, tail + 9), (5, 1)] {
        answers(&mut stage, 1, (from, to), 0, from, ReadEnd::Invalid);
    }
    stage.unharmed();
}

/// Positions that would be negative if they were signed are as far beyond the tail as any others.
#[test]
fn a_range_beyond_the_tail_or_with_negative_looking_numbers_is_not_yet() {
    let mut stage = filled();
    let tail = stage.world.orderer.tail.0;
    for from in [tail, tail + 1, 1 << 56, 1 << 62, 1 << 63, MAX - 1] {
        answers(&mut stage, 1, (from, MAX), 1 << 20, from, ReadEnd::NotYet);
    }
    // What is there of it comes.
    let (all, covers, end) = stage.world.read(0, 1, Gsn(0), Gsn(MAX), u32::MAX);
    assert_eq!((all.len() as u64, covers, end), (stage.written, Gsn(tail), ReadEnd::NotYet));
    stage.unharmed();
}

#[test]
fn a_trimmed_range_is_called_so_and_says_up_to_where() {
    let mut stage = filled();
    let trim = stage.world.orderer.tail.0 / 2;
    stage.world.trim(Gsn(trim));
    for (from, to) in [(0, trim), (0, 1), (0, MAX), (trim - 1, trim + 4), (0, 0)] {
        answers(&mut stage, 1, (from, to), 1 << 20, trim, ReadEnd::Trimmed);
    }
    answers(&mut stage, 1, (trim - 1, 0), 1 << 20, trim - 1, ReadEnd::Invalid);
    stage.unharmed();
}

/// Another replica may know it: this one doesn't.
#[test]
fn a_read_of_a_wrong_shard_is_unavailable() {
    let mut stage = filled();
    for shard in [0, 99, u32::MAX] {
        answers(&mut stage, shard, (0, 5), 1 << 20, 0, ReadEnd::Unavailable);
    }
    stage.unharmed();
}
