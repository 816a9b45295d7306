//! Any schedule: messages, syncs and read-backs in any order, links cut, nodes crashed between any two
//! outputs. Invariants LOG-1 to LOG-4.

use crate::world::client::*;
use crate::world::writer::{Writer, inner_links};
use crate::world::*;
use std::collections::BTreeMap;
use zoolog_core::batch::{BatchKind, PlacedBatch};
use zoolog_core::wire::*;
use zoolog_core::*;

/// A subscriber that resumes where it was; all pushes ever seen, from any replica, agree.
struct Follower {
    node: usize,
    shard: ShardId,
    client: Option<usize>,
    next: Vec<u64>,
}

type Pushed = BTreeMap<(LaneId, u64), u32>;

impl Follower {
    fn act(&mut self, world: &mut World, pushed: &mut Pushed) {
        if let Some(c) = self.client {
            for p in std::mem::take(&mut world.clients[c].inbox) {
                let Message::Push(m) = p.message else { continue };
                let bytes = p.payload.len() as u32;
                for b in batches(p.payload) {
                    let next = &mut self.next[usize::from(m.lane.index())];
                    assert_eq!(b.placement.first_lsn.0, *next, "lane {} at node {}", m.lane, self.node);
                    *next = b.end_lsn().0;
                    let old = pushed.insert((m.lane, b.placement.first_lsn.0), b.placement.crc);
                    assert!(
                        old.is_none_or(|o| o == b.placement.crc),
                        "LSN {} was written twice",
                        b.placement.first_lsn
                    );
                }
                world.send(c, encode(Credit { lane: m.lane, bytes }));
            }
            if world.clients[c].closed {
                self.client = None;
            }
        } else if world.nodes[self.node].slot.is_some() {
            let c = world.client(self.node);
            let from = self.next.iter().map(|&l| Lsn(l)).collect();
            world.send(c, encode(Subscribe { shard: self.shard, from, credit: 3000 }));
            self.client = Some(c);
        }
    }
}

/// What goes wrong, beyond any order of messages, syncs and read-backs.
#[derive(Clone, Copy, PartialEq)]
enum Trouble {
    None,
    /// Links are cut, nodes crash.
    Faults,
    /// Moreover shards end and writers leave lanes.
    Ends,
}

fn step(world: &mut World, writers: &mut [Writer], trouble: Trouble) {
    let calm = trouble == Trouble::None;
    match world.rng.below(100) {
        0..=79 => {
            let actions = world.actions();
            if !actions.is_empty() {
                let i = world.rng.below(actions.len() as u64) as usize;
                world.act(actions[i]);
            }
        }
        80..=88 => {
            let i = world.rng.below(writers.len() as u64) as usize;
            writers[i].act(world, true);
        }
        89..=94 => world.cut(),
        95..=97 => {
            let ms = world.rng.between(1, 60);
            world.now = world.now + std::time::Duration::from_millis(ms);
            world.hurry();
            if trouble == Trouble::Ends {
                end(world, writers);
            }
        }
        98 if !calm => {
            let links = inner_links(world);
            if world.rng.chance(50) && !links.is_empty() {
                let i = world.rng.below(links.len() as u64) as usize;
                world.cut_link(links[i]);
            } else {
                let i = world.rng.below(writers.len() as u64) as usize;
                writers[i].hang_up(world);
            }
        }
        99 if !calm => {
            let n = world.rng.below(world.nodes.len() as u64) as usize;
            if world.nodes[n].slot.is_some() {
                world.crash(n);
            } else {
                world.start(n);
            }
        }
        _ => {
            world.hurry();
        }
    }
    writers.iter_mut().for_each(|w| w.listen(world));
}

/// Now and then a shard ends, of which some slots hear at once, or a writer has enough of its lane.
fn end(world: &mut World, writers: &mut [Writer]) {
    let live: Vec<u32> = world.orderer.view.live().map(|s| s.id.0).collect();
    if world.rng.chance(6) && live.len() > 1 {
        let shard = live[world.rng.below(live.len() as u64) as usize];
        let told = world.rng.below(16);
        let out = world.orderer.finalize(shard, |s| told & 1 << s.server.0 != 0);
        world.take_from_orderer(out);
    } else if world.rng.chance(6) {
        let i = world.rng.below(writers.len() as u64) as usize;
        writers[i].fence();
    }
}

/// Everything is up again: every batch gets acknowledged.
fn heal(world: &mut World, writers: &mut [Writer]) {
    for n in 0..world.nodes.len() {
        if world.nodes[n].slot.is_none() {
            world.start(n);
        }
    }
    world.orderer.auto = true;
    let out = world.orderer.view_again(|_| true);
    world.take_from_orderer(out);
    for _ in 0..300 {
        world.run(100);
        writers.iter_mut().for_each(|w| w.listen(world));
        if writers.iter().all(|w| w.unacked.is_empty()) {
            return;
        }
        writers.iter_mut().for_each(|w| w.act(world, false));
    }
    let stuck: Vec<_> = writers.iter().map(|w| (w.id, w.unacked.len())).collect();
    panic!("no progress after everything healed: {stuck:?}; {}", world.status(0));
}

fn check(world: &mut World, shards: &[&[usize]], writers: &[Writer], pushed: &Pushed) {
    let tail = world.orderer.tail;
    let mut order: BTreeMap<Gsn, PlacedBatch> = BTreeMap::new();
    for (i, nodes) in shards.iter().enumerate() {
        let all: Vec<_> = nodes
            .iter()
            .map(|&n| {
                let (all, covers, end) = world.read(n, i as u32 + 1, Gsn(0), tail, 4000);
                assert_eq!((covers, end), (tail, ReadEnd::Complete));
                all
            })
            .collect();
        assert!(all.windows(2).all(|w| w[0] == w[1]), "LOG-1: all replicas of shard {} read the same", i + 1);
        order.extend(all.into_iter().next().unwrap());
    }
    let mut at = Gsn(0);
    for (&gsn, b) in &order {
        assert_eq!(gsn, at, "LOG-1: dense");
        at = gsn.plus(u64::from(b.batch.count()));
        let key = (b.placement.lane, b.placement.first_lsn.0);
        assert!(pushed.get(&key).is_none_or(|&crc| crc == b.placement.crc), "LOG-4: pushed, then changed");
    }
    assert_eq!(at, tail);
    for w in writers {
        let of = |b: &PlacedBatch| b.batch.writer() == WriterId(w.id) && b.batch.kind() == BatchKind::Data;
        let mine: Vec<_> = order.iter().filter(|(_, b)| of(b)).collect();
        let seqs: Vec<u64> = mine.iter().map(|(_, b)| b.batch.seq().0).collect();
        assert_eq!(seqs, (0..w.next).collect::<Vec<_>>(), "LOG-3: in order, each once");
        for (gsn, b) in mine {
            assert_eq!(w.acked.get(&b.batch.seq().0), Some(gsn), "LOG-2: acknowledged at its place");
            let head = format!("{}:{}:0:", w.id, b.batch.seq());
            assert!(b.batch.records().next().unwrap().starts_with(head.as_bytes()), "LOG-4: its own content");
        }
    }
}

fn run(seed: u64, shards: &[&[usize]], steps: usize) {
    let trouble = if seed.is_multiple_of(8) { Trouble::None } else { Trouble::Faults };
    run_with(seed, shards, steps, trouble);
}

/// How often lanes were left.
fn run_with(seed: u64, shards: &[&[usize]], steps: usize, trouble: Trouble) -> usize {
    let mut world = World::new(seed, shards, &tiny());
    world.orderer.auto = false;
    let mut writers = Vec::new();
    for (i, nodes) in shards.iter().enumerate() {
        for index in 0..nodes.len() {
            let id = 1000 + writers.len() as u128;
            writers.push(Writer::new(&world, id, i as u32 + 1, index as u8));
        }
    }
    let mut followers: Vec<_> = shards
        .iter()
        .enumerate()
        .flat_map(|(i, nodes)| {
            nodes.iter().map(move |&node| Follower {
                node,
                shard: ShardId(i as u32 + 1),
                client: None,
                next: vec![0; nodes.len()],
            })
        })
        .collect();
    let mut pushed = Pushed::new();
    for _ in 0..steps {
        step(&mut world, &mut writers, trouble);
        followers.iter_mut().for_each(|f| f.act(&mut world, &mut pushed));
    }
    heal(&mut world, &mut writers);
    followers.iter_mut().for_each(|f| f.act(&mut world, &mut pushed));
    check(&mut world, shards, &writers, &pushed);
    assert!(
        writers.iter().any(|w| w.next > 0 && w.node() < world.nodes.len()),
        "something must have been written"
    );
    writers.iter().map(|w| w.left).sum()
}

#[test]
fn any_schedule_of_two_slots_that_share_two_shards() {
    (1..=60).for_each(|seed| run(seed, &[&[0, 1], &[1, 0]], 1500));
}

#[test]
fn any_schedule_of_three_slots_with_a_shard_for_each_pair() {
    (1..=40).for_each(|seed| run(seed, &[&[0, 1], &[1, 2], &[2, 0]], 2500));
}

#[test]
fn any_schedule_of_a_shard_of_one_replica() {
    (1..=20).for_each(|seed| run(seed, &[&[0]], 600));
}

#[test]
fn any_schedule_of_a_shard_of_three_replicas() {
    (1..=40).for_each(|seed| run(seed, &[&[0, 1, 2]], 2000));
}

/// LOG-3, LOG-7: shards end under writers, and writers leave lanes that live on, whatever else goes wrong.
#[test]
fn any_schedule_in_which_shards_end_and_writers_move() {
    let (two, three): (&[&[usize]], &[&[usize]]) =
        (&[&[0, 1], &[1, 0], &[0, 1]], &[&[0, 1], &[1, 2], &[2, 0]]);
    let left: usize = (1..=60)
        .map(|seed| run_with(seed, if seed % 2 == 0 { two } else { three }, 2500, Trouble::Ends))
        .sum();
    assert!(left > 200, "lanes were left {left} times");
}

#[test]
fn the_same_seed_makes_the_same_history() {
    let history = |seed| {
        let mut world = World::new(seed, &[&[0, 1]], &tiny());
        let mut writers = vec![Writer::new(&world, 1, 1, 0), Writer::new(&world, 2, 1, 1)];
        (0..1500).for_each(|_| step(&mut world, &mut writers, Trouble::Faults));
        heal(&mut world, &mut writers);
        (
            world.orderer.cuts.clone(),
            world.links.len(),
            world.now,
            (0..2).map(|n| world.status(n)).collect::<Vec<_>>(),
        )
    };
    assert_eq!(history(5), history(5));
}
