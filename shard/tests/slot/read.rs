//! Reading by GSN: exact, from either replica, across lanes, segments and pages.

use crate::world::client::*;
use crate::world::*;
use zoolog_core::wire::*;
use zoolog_core::*;
use zoolog_shard::Bounds;

/// Two writers on the two lanes of shard 1, one on shard 2, over many cuts; returns the number of records.
fn fill(world: &mut World, rounds: u64) -> u64 {
    let writers: Vec<_> = [(0, 1, 0, 31u128), (1, 1, 1, 32), (1, 2, 0, 33)]
        .map(|(n, s, i, id)| (world.client(n), lane(s, i), id))
        .into();
    for seq in 0..rounds {
        for (i, &(c, lane, id)) in writers.iter().enumerate() {
            if (seq + i as u64).is_multiple_of(3) {
                continue;
            }
            let next = (0..seq).filter(|s| !(s + i as u64).is_multiple_of(3)).count() as u64;
            world.send(c, append(lane, &batch(id, next, 1 + (seq % 3) as u32, 150)));
        }
        if seq % 4 != 0 {
            world.settle();
        }
    }
    world.settle();
    world.orderer.tail.0
}

/// What the cuts say a shard's batches are, by (lane, LSN), in order.
fn expected(world: &World, shard: u32) -> Vec<(Gsn, LaneId, Lsn)> {
    let runs = world.orderer.cuts.iter().flat_map(|c| c.runs().collect::<Vec<_>>());
    let mine = runs.filter(|r| r.lane.shard() == ShardId(shard));
    mine.flat_map(|r| (0..r.count).map(move |i| (r.first_gsn.plus(i), r.lane, r.first_lsn.plus(i)))).collect()
}

/// Shared-log defects 1, 2, 3 and 11: records after a roll off by one or unreadable, lanes mixed up.
#[test]
fn every_record_is_read_at_its_gsn_from_either_replica() {
    let mut world = World::ready(1, &[&[0, 1], &[1, 0]], &tiny());
    let tail = Gsn(fill(&mut world, 90));
    for restart in [false, true] {
        if restart {
            (0..2).for_each(|n| world.crash(n));
            world.settle();
            (0..2).for_each(|n| world.start(n));
            world.run(1000);
        }
        assert!(restart || world.nodes[0].rolls >= 1, "segments must have rolled");
        for shard in 1..=2 {
            let want = expected(&world, shard);
            for n in 0..2 {
                for max_bytes in [1, 700, 1 << 20] {
                    let (all, covers, end) = world.read(n, shard, Gsn(0), tail, max_bytes);
                    assert_eq!((covers, end), (tail, ReadEnd::Complete));
                    let mut got = Vec::new();
                    for (gsn, b) in &all {
                        let p = &b.placement;
                        (0..u64::from(b.batch.count()))
                            .for_each(|i| got.push((gsn.plus(i), p.lane, p.first_lsn.plus(i))));
                    }
                    assert_eq!(got, want, "shard {shard} at node {n}, pages of {max_bytes}");
                }
            }
        }
    }
}

#[test]
fn any_range_gives_exactly_its_records() {
    let mut world = World::ready(2, &[&[0, 1], &[1, 0]], &tiny());
    let tail = fill(&mut world, 20);
    let want = expected(&world, 1);
    for from in (0..tail).step_by(3) {
        for to in (from..=tail).step_by(5) {
            let (all, covers, end) = world.read(0, 1, Gsn(from), Gsn(to), 700);
            assert_eq!((covers, end), (Gsn(to), ReadEnd::Complete));
            let inside = |g: Gsn| g.0 >= from && g.0 < to;
            let got: Vec<_> = all
                .iter()
                .flat_map(|(g, b)| (0..u64::from(b.batch.count())).map(|i| g.plus(i)))
                .filter(|&g| inside(g))
                .collect();
            let want: Vec<_> = want.iter().map(|w| w.0).filter(|&g| inside(g)).collect();
            assert_eq!(got, want, "{from}..{to}");
        }
    }
}

/// Shared-log defect 15: reads turned errors, and what is not there yet, into an empty success.
#[test]
fn what_is_not_known_is_said_not_guessed() {
    let mut world = World::ready(3, &[&[0, 1], &[1, 0]], &Bounds::default());
    let tail = Gsn(fill(&mut world, 5));
    let (_, covers, end) = world.read(0, 1, Gsn(0), tail.plus(10), 1 << 20);
    assert_eq!((covers, end), (tail, ReadEnd::NotYet));
    let (none, covers, end) = world.read(0, 1, tail.plus(3), tail.plus(10), 1 << 20);
    assert_eq!((none.len(), covers, end), (0, tail.plus(3), ReadEnd::NotYet));
    let (none, _, end) = world.read(0, 9, Gsn(0), tail, 1 << 20);
    assert_eq!((none.len(), end), (0, ReadEnd::Unavailable));
    // Records of others move what is known of this shard, too: it has none there.
    let c = world.client(1);
    world.send(c, append(lane(2, 0), &batch(99, 0, 4, 5)));
    world.settle();
    let (_, covers, end) = world.read(0, 1, Gsn(0), tail.plus(4), 1 << 20);
    assert_eq!((covers, end), (tail.plus(4), ReadEnd::Complete));
    // And so it is after a restart, though no cut came since.
    world.crash(0);
    world.settle();
    world.start(0);
    world.run(1000);
    let (_, covers, end) = world.read(0, 1, Gsn(0), tail.plus(4), 1 << 20);
    assert_eq!((covers, end), (tail.plus(4), ReadEnd::Complete));
}

/// Two ranges that meet, the second without what began before it, have each batch once between them.
#[test]
fn ranges_that_meet_within_a_batch_share_it_out() {
    let mut world = World::ready(6, &[&[0, 1], &[1, 0]], &tiny());
    let tail = Gsn(fill(&mut world, 40));
    let (all, ..) = world.read(0, 1, Gsn(0), tail, 1 << 20);
    let all: Vec<_> = all.into_iter().map(|(gsn, _)| gsn).collect();
    let c = world.client(0);
    let max_bytes = u32::MAX;
    let mut across = 0;
    for split in (0..=tail.0).map(Gsn) {
        let mut found = Vec::new();
        for (from, to, begun_within) in [(Gsn(0), split, false), (split, tail, true)] {
            let (mut at, mut within) = (from, begun_within);
            while at < to {
                let question =
                    Read { request: 1, shard: ShardId(1), from: at, to, max_bytes, begun_within: within };
                let (m, _) = world.ask(c, question);
                assert!(m.gsns.iter().all(|&g| !within || g >= at), "{:?} of {at}..{to}", m.gsns);
                assert!(m.covers > at && matches!(m.end, ReadEnd::Complete | ReadEnd::More));
                found.extend(m.gsns);
                (at, within) = (m.covers, true);
            }
        }
        across += u32::from(found.iter().all(|&g| g != split));
        assert_eq!(found, all, "split at {split}");
    }
    assert!(across > 10, "some splits lie within a batch");
}

/// LOG-4: rot on the disk is an error, never a record.
#[test]
fn a_damaged_record_is_never_served() {
    let mut world = World::ready(4, &[&[0, 1], &[1, 0]], &tiny());
    let tail = Gsn(fill(&mut world, 60));
    let (whole, ..) = world.read(1, 1, Gsn(0), tail, 1 << 20);
    let disk = world.nodes[0].disk.bytes_mut(1).expect("the first segment");
    let at = disk.windows(5).position(|w| w == b"31:0:").expect("the first record");
    disk[at + 2] ^= 1;
    let (read, _, end) = world.read(0, 1, Gsn(0), tail, 1 << 20);
    assert_eq!((read.len(), end), (0, ReadEnd::Unavailable));
    assert_eq!(world.read(1, 1, Gsn(0), tail, 1 << 20).0, whole, "the other replica still serves it");
}

/// Shared-log defect 4: concurrent reads shared buffers.
#[test]
fn many_reads_at_once_get_their_own_answers_and_no_more_run_than_may() {
    let bounds = Bounds { reads: 3, ..tiny() };
    let mut world = World::ready(5, &[&[0, 1], &[1, 0]], &bounds);
    let tail = fill(&mut world, 60);
    let want = expected(&world, 1);
    let c = world.client(0);
    for from in 0..tail {
        let (request, from, to) = (from, Gsn(from), Gsn(from + 1));
        world.send(
            c,
            encode(Read { request, shard: ShardId(1), from, to, max_bytes: 1 << 20, begun_within: false }),
        );
    }
    while !world.actions().is_empty() {
        let actions = world.actions();
        let i = world.rng.below(actions.len() as u64) as usize;
        world.act(actions[i]);
        assert!(world.nodes[0].loads.len() <= 3, "{} loads", world.nodes[0].loads.len());
    }
    let inbox = std::mem::take(&mut world.clients[c].inbox);
    assert_eq!(inbox.len() as u64, tail);
    for p in inbox {
        let Message::ReadIs(m) = p.message else { panic!("an answer") };
        assert_eq!((m.from.0, m.covers.0, m.end), (m.request, m.request + 1, ReadEnd::Complete));
        let found = batches(p.payload).pop().map(|b| (b.placement.lane, b.placement.first_lsn, b.end_lsn()));
        match want.iter().find(|w| w.0 == m.from) {
            Some(&(_, lane, lsn)) => assert!(found.is_some_and(|f| f.0 == lane && f.1 <= lsn && lsn < f.2)),
            None => assert_eq!(found, None),
        }
    }
}
