//! Are ranges read wholly, in order, several windows at a time, whatever answers come?

use crate::bench::*;
use proptest::prelude::*;
use zoolog_client::{LogEvent, ReadEnd, SharedLog};
use zoolog_core::batch::PlacedBatch;
use zoolog_core::rng::Rng;
use zoolog_core::wire::*;
use zoolog_core::*;

#[test]
fn shards_that_contradict_each_other_are_asked_again_and_nothing_is_skipped() {
    let mut b = Bench::new(config(), 29);
    b.client.read(Gsn(0), Gsn(2), 1000);
    b.drain();
    b.follow(&|r| order_is(r, 1, 2, view(1, 2), &[(lane(1, 0), 2)]));
    connect_all(&mut b);
    for (conn, m) in reads(&mut b) {
        let (request, shard, from, covers, end) = (m.request, m.shard, m.from, m.to, ReadEnd::Complete);
        b.say(conn, ReadIs { request, shard, from, covers, end, gsns: vec![] });
    }
    assert!(!b.events().iter().any(|e| matches!(e, LogEvent::ReadDone { .. })), "never an empty success");
    b.ms(10);
    assert_eq!(reads(&mut b).len(), 2);
    // In the end it says so.
    b.ms(11_000);
    assert!(
        b.events().iter().any(
            |e| matches!(e, LogEvent::ReadDone { end: ReadEnd::Unavailable, covers, .. } if covers.0 == 0)
        )
    );
}

#[test]
fn two_batches_at_one_position_are_not_both_believed() {
    let mut b = Bench::new(config(), 31);
    b.client.read(Gsn(0), Gsn(4), 10_000);
    b.drain();
    b.follow(&|r| order_is(r, 2, 4, view(1, 2), &[(lane(1, 0), 2), (lane(2, 0), 2)]));
    connect_all(&mut b);
    let done = |b: &mut Bench| b.events().iter().filter(|e| matches!(e, LogEvent::ReadDone { .. })).count();
    let answer = |b: &mut Bench, second: u64| {
        for (conn, m) in reads(b) {
            let (request, shard, from, covers, end) = (m.request, m.shard, m.from, m.to, ReadEnd::Complete);
            let gsn = if shard == ShardId(1) { 0 } else { second };
            let skip = from.0.saturating_sub(gsn).min(2);
            let gsns = if skip < 2 { vec![Gsn(gsn)] } else { vec![] };
            let all = batches(LaneId::new(shard, 0), 1, &[2]);
            let message = ReadIs { request, shard, from, covers, end, gsns };
            b.say_with(conn, message, &all[..usize::from(skip < 2)]);
        }
    };
    // The second shard's batch overlaps the first's.
    answer(&mut b, 1);
    assert_eq!((done(&mut b), b.client.metrics().damaged), (0, 1));
    b.ms(10);
    connect_all(&mut b);
    answer(&mut b, 2);
    assert_eq!(done(&mut b), 1);
}

#[test]
fn a_replica_that_does_not_answer_is_left_after_a_second() {
    let mut b = Bench::new(config(), 30);
    b.client.read(Gsn(0), Gsn(1), 1000);
    b.drain();
    b.follow(&|r| order_is(r, 1, 1, view(1, 1), &[(lane(1, 0), 1)]));
    connect_all(&mut b);
    let (first, _) = reads(&mut b)[0].clone();
    b.ms(900);
    assert_eq!(reads(&mut b), []);
    b.ms(300);
    connect_all(&mut b);
    let (second, _) = reads(&mut b)[0].clone();
    assert!(b.closing.contains(&first) && b.up[&first] != b.up[&second]);
}

/// A reader of `0..tail` of one shard whose batches have one record each; the bench and the batches.
fn reader(tail: u64, seed: u64) -> (Bench, Vec<PlacedBatch>) {
    let mut b = Bench::new(config(), seed);
    b.client.read(Gsn(0), Gsn(tail), usize::MAX);
    b.drain();
    b.follow(&|r| order_is(r, 1, tail, view(1, 1), &[(lane(1, 0), tail)]));
    connect_all(&mut b);
    (b, batches(lane(1, 0), 1, &vec![1; tail as usize]))
}

/// Answers a question as a replica does that gives at most `most` batches at a time.
fn answer(b: &mut Bench, all: &[PlacedBatch], conn: ConnId, m: &Read, most: u64) {
    let to = m.to.min(m.from.plus(most));
    let end = if to == m.to { ReadEnd::Complete } else { ReadEnd::More };
    let gsns = (m.from.0..to.0).map(Gsn).collect();
    let message = ReadIs { request: m.request, shard: m.shard, from: m.from, covers: to, end, gsns };
    b.say_with(conn, message, &all[m.from.0 as usize..to.0 as usize]);
}

/// The positions that the one read has brought, once it is done.
fn brought(b: &mut Bench) -> Option<Vec<u64>> {
    b.events().into_iter().find_map(|e| match e {
        LogEvent::ReadDone { batches, covers, end, .. } => {
            assert_eq!((batches.last().map(|c| c.end()), end), (Some(covers), ReadEnd::Complete));
            Some(batches.iter().map(|c| c.from().0).collect())
        }
        _ => None,
    })
}

#[test]
fn once_it_is_known_how_much_fits_an_answer_several_windows_are_asked_for_at_a_time() {
    let tail = 100_000;
    let (mut b, all) = reader(tail, 33);
    let [(conn, first)] = &reads(&mut b)[..] else { panic!("one question") };
    assert_eq!((first.from, first.to), (Gsn(0), Gsn(tail)));
    answer(&mut b, &all, *conn, first, 8192);
    connect_all(&mut b);
    let mut asked = reads(&mut b);
    assert!(asked.len() > 1 && asked[0].0 != asked[asked.len() - 1].0, "of both replicas: {asked:?}");
    asked.sort_by_key(|(_, m)| m.from);
    assert!(asked.windows(2).all(|w| w[0].1.to == w[1].1.from), "one behind the other: {asked:?}");
    assert_eq!(asked[0].1.from, Gsn(8192));
    assert!(asked.iter().all(|(_, m)| m.begun_within && m.to.since(m.from) < 20_000));
    // The last ones are answered first, in pieces.
    let mut rounds = 0;
    while !asked.is_empty() {
        rounds += 1;
        assert!(rounds < 1000, "no end");
        for (conn, m) in asked.drain(..).rev() {
            answer(&mut b, &all, conn, &m, 3000);
        }
        connect_all(&mut b);
        asked = reads(&mut b);
    }
    assert_eq!(brought(&mut b), Some((0..tail).collect()));
    assert_eq!((b.client.metrics().damaged, b.client.metrics().reread), (0, 0));
}

/// LOG-4: answers are sound in themselves, but don't fit each other.
#[test]
fn windows_whose_lanes_do_not_follow_each_other_are_asked_for_again() {
    let tail = 50_000;
    let (mut b, all) = reader(tail, 34);
    let other = batches(lane(1, 0), 2, &vec![1; tail as usize]);
    let (conn, first) = reads(&mut b)[0].clone();
    answer(&mut b, &all, conn, &first, 8192);
    connect_all(&mut b);
    for (i, (conn, m)) in reads(&mut b).into_iter().enumerate() {
        let source = if i == 1 { &other } else { &all };
        answer(&mut b, source, conn, &m, tail);
    }
    assert_eq!((brought(&mut b), b.client.metrics().damaged), (None, 1));
    for _ in 0..100 {
        b.ms(5);
        connect_all(&mut b);
        for (conn, m) in reads(&mut b) {
            answer(&mut b, &all, conn, &m, tail);
        }
    }
    assert_eq!(brought(&mut b), Some((0..tail).collect()));
    assert_eq!(b.client.metrics().damaged, 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// Whatever order answers come in, however long they are, whatever is lost.
    #[test]
    fn every_position_comes_once_and_in_order(seed: u64) {
        let (mut r, tail) = (Rng::new(seed, "answers"), 40_000);
        let (mut b, all) = reader(tail, seed);
        let mut asked = Vec::new();
        for _ in 0..5000 {
            connect_all(&mut b);
            asked.extend(reads(&mut b));
            if asked.is_empty() {
                b.ms(1 + r.below(20));
                continue;
            }
            let (conn, m) = asked.swap_remove(r.below(asked.len() as u64) as usize);
            if r.chance(5) {
                let (request, shard, from) = (m.request, m.shard, m.from);
                let (covers, end) = (from, ReadEnd::Unavailable);
                b.say(conn, ReadIs { request, shard, from, covers, end, gsns: vec![] });
            } else {
                let most = r.between(1, 9000);
                answer(&mut b, &all, conn, &m, most);
            }
        }
        prop_assert_eq!(brought(&mut b), Some((0..tail).collect()));
        prop_assert_eq!(b.client.metrics().damaged, 0);
    }
}
