//! Subscriptions: from history to live, no gap, no repetition, within credit.

use crate::world::client::*;
use crate::world::*;
use std::collections::BTreeMap;
use zoolog_core::batch::PlacedBatch;
use zoolog_core::wire::*;
use zoolog_core::*;
use zoolog_shard::Bounds;

fn subscribe(world: &mut World, n: usize, from: &[u64], credit: u32) -> usize {
    let c = world.client(n);
    let from = from.iter().map(|&l| Lsn(l)).collect();
    world.send(c, encode(Subscribe { shard: ShardId(1), from, credit }));
    c
}

/// Takes the pushes of a client: each batch with its frame's payload length.
fn pushes(world: &mut World, c: usize) -> Vec<(LaneId, usize, Vec<PlacedBatch>)> {
    let inbox = std::mem::take(&mut world.clients[c].inbox);
    let push = |p: Packet| match p.message {
        Message::Push(m) => (m.lane, p.payload.len(), batches(p.payload)),
        other => panic!("a push was expected, not {other:?}"),
    };
    inbox.into_iter().map(push).collect()
}

/// Checks that each lane goes on at `next`, and moves it.
fn follow(next: &mut BTreeMap<LaneId, u64>, pushed: &[(LaneId, usize, Vec<PlacedBatch>)]) {
    for (lane, _, batches) in pushed {
        for b in batches {
            let at = next.entry(*lane).or_default();
            assert_eq!((b.placement.lane, b.placement.first_lsn.0), (*lane, *at), "a gap, or a repetition");
            *at = b.end_lsn().0;
        }
    }
}

fn write(world: &mut World, c: usize, index: u8, id: u128, seqs: std::ops::Range<u64>) {
    for s in seqs {
        world.send(c, append(lane(1, index), &batch(id, s, 1 + (s % 3) as u32, 120)));
        if s % 3 == 0 {
            world.settle();
        }
    }
    world.settle();
}

/// Shared-log defect 15: Subscribe never delivered.
#[test]
fn a_subscription_goes_from_history_to_live_without_gap_or_repetition() {
    let mut world = World::ready(1, &[&[0, 1]], &tiny());
    let (a, b) = (world.client(0), world.client(1));
    write(&mut world, a, 0, 41, 0..80);
    write(&mut world, b, 1, 42, 0..50);
    for n in 0..2 {
        let c = subscribe(&mut world, n, &[0, 0], 1 << 20);
        let mut next = BTreeMap::new();
        // Interleave what is read back with what is new.
        for round in 0..200 {
            let actions = world.actions();
            if actions.is_empty() {
                break;
            }
            let i = world.rng.below(actions.len() as u64) as usize;
            world.act(actions[i]);
            if n == 0 && round % 20 == 0 {
                let s = 80 + round / 20;
                world.send(a, append(lane(1, 0), &batch(41, s, 1, 120)));
            }
        }
        world.settle();
        let pushed = pushes(&mut world, c);
        assert!(pushed.iter().all(|p| p.1 <= 600 || p.2.len() == 1), "frames are bounded");
        follow(&mut next, &pushed);
        let ends: Vec<_> = (0..2).map(|i| next[&lane(1, i)]).collect();
        let lens: Vec<_> = (0..2).map(|i| world.orderer.len(lane(1, i))).collect();
        assert_eq!(ends, lens);
    }
}

#[test]
fn a_push_comes_before_the_cut_but_not_before_the_sync() {
    let mut world = World::ready(2, &[&[0, 1]], &Bounds::default());
    world.orderer.auto = false;
    let c = subscribe(&mut world, 1, &[0, 0], 1 << 20);
    let w = world.client(0);
    world.settle();
    world.send(w, append(lane(1, 0), &batch(9, 0, 1, 10)));
    while let Some(&a) = world.actions().iter().find(|a| **a != Action::Sync(1)) {
        world.act(a);
    }
    assert!(pushes(&mut world, c).is_empty());
    world.settle();
    assert_eq!(pushes(&mut world, c).len(), 1);
    assert!(world.orderer.cuts.is_empty());
}

#[test]
fn no_more_is_pushed_than_there_is_credit_for() {
    let mut world = World::ready(3, &[&[0, 1]], &tiny());
    let w = world.client(0);
    write(&mut world, w, 0, 41, 0..40);
    let c = subscribe(&mut world, 0, &[0, 0], 1000);
    let (mut next, mut total, mut granted) = (BTreeMap::new(), 0, 1000);
    for _ in 0..200 {
        world.settle();
        let pushed = pushes(&mut world, c);
        let bytes: usize = pushed.iter().map(|p| p.1).sum();
        total += bytes;
        assert!(total <= granted, "{total} bytes pushed, {granted} granted");
        follow(&mut next, &pushed);
        if next.get(&lane(1, 0)) == Some(&world.orderer.len(lane(1, 0))) {
            return;
        }
        granted += bytes.max(1);
        world.send(c, encode(Credit { lane: lane(1, 0), bytes: bytes.max(1) as u32 }));
    }
    panic!("it never got everything: {next:?}");
}

#[test]
fn a_batch_longer_than_all_the_credit_comes_when_the_room_is_free() {
    let mut world = World::ready(4, &[&[0, 1]], &Bounds::default());
    let w = world.client(0);
    world.send(w, append(lane(1, 0), &batch(41, 0, 1, 5000)));
    world.send(w, append(lane(1, 0), &batch(41, 1, 1, 5000)));
    world.settle();
    let c = subscribe(&mut world, 0, &[0, 0], 100);
    world.settle();
    let pushed = pushes(&mut world, c);
    assert_eq!(pushed.len(), 1, "one, and no other while it isn't consumed");
    world.send(c, encode(Credit { lane: lane(1, 0), bytes: pushed[0].1 as u32 }));
    world.settle();
    assert_eq!(pushes(&mut world, c).len(), 1);
}

#[test]
fn a_place_inside_a_batch_is_refused() {
    let mut world = World::ready(5, &[&[0, 1]], &Bounds::default());
    let w = world.client(0);
    world.send(w, append(lane(1, 0), &batch(41, 0, 3, 5)));
    world.settle();
    for (from, why) in [(vec![1, 0], RefusedWhy::Invalid), (vec![0], RefusedWhy::Invalid)] {
        let c = subscribe(&mut world, 0, &from, 1000);
        world.settle();
        assert_eq!(world.clients[c].refused(), Some(why));
        assert!(world.clients[c].closed);
    }
}
