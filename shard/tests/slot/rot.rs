//! Rot: bytes change on one replica's disk while it is down. It may refuse to start, or to serve, but what
//! it serves is right (LOG-4), and nothing panics (SYS-1).

use crate::world::writer::Writer;
use crate::world::*;
use std::collections::BTreeMap;
use zoolog_core::wal::WalSource;
use zoolog_core::wire::*;
use zoolog_core::*;

fn write_much(world: &mut World) -> u64 {
    let mut writers: Vec<_> = [(1, 0u8), (1, 1), (2, 0), (2, 1)]
        .map(|(s, i)| Writer::new(world, u128::from(s * 2 + u32::from(i)) + 70, s, i))
        .into();
    for _ in 0..25 {
        for w in &mut writers {
            (0..3).for_each(|_| w.act(world, true));
        }
        world.settle();
        writers.iter_mut().for_each(|w| w.listen(world));
    }
    world.orderer.tail.0
}

#[test]
fn what_a_rotten_disk_serves_is_right_or_nothing() {
    let (mut refused, mut unavailable, mut complete) = (0, 0, 0);
    for seed in 1..=60 {
        let mut world = World::ready(seed, &[&[0, 1], &[1, 0]], &tiny());
        let tail = Gsn(write_much(&mut world));
        world.crash(0);
        world.settle();
        let segments = world.nodes[0].disk.segments().unwrap();
        for _ in 0..world.rng.between(1, 4) {
            let (number, _) = segments[world.rng.below(segments.len() as u64) as usize];
            let bytes = world.nodes[0].disk.bytes_mut(number).unwrap();
            let used = bytes.iter().rposition(|&b| b != 0).unwrap_or(0) as u64 + 1;
            let at = world.rng.below(used) as usize;
            world.nodes[0].disk.bytes_mut(number).unwrap()[at] ^= 1 << world.rng.below(8);
        }
        world.orderer.forget(slot_id(0));
        let now = world.now;
        if world.nodes[0].start(now).is_err() {
            refused += 1;
            continue;
        }
        world.turn(0, Vec::new());
        world.run(3000);
        for shard in 1..=2 {
            let (truth, ..) = world.read(1, shard, Gsn(0), tail, 4000);
            let truth: BTreeMap<_, _> = truth.into_iter().collect();
            let mut from = Gsn(0);
            while from < tail {
                let (served, covers, end) = world.read(0, shard, from, tail, 4000);
                assert!(
                    served.iter().all(|(gsn, b)| truth.get(gsn) == Some(b)),
                    "seed {seed}: a wrong record"
                );
                let expected = truth.range(from..covers).filter(|(g, _)| **g >= from).count();
                let got = served.iter().filter(|(g, _)| *g >= from && *g < covers).count();
                assert_eq!(got, expected, "seed {seed}: a record is skipped before {covers}, {end:?}");
                match end {
                    ReadEnd::Complete => complete += 1,
                    _ => unavailable += 1,
                }
                from = if end == ReadEnd::Complete { tail } else { covers.max(from).next() };
            }
        }
    }
    assert!(
        unavailable > 0 && complete > 0,
        "{refused} refused, {unavailable} unavailable, {complete} complete"
    );
}
