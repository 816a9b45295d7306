//! Rot: bytes change on one replica's disk. It is mended from the others; meanwhile what it serves is right or
//! nothing (LOG-4), it states nothing it can't back (LOG-2; the scripted orderer looks), and nothing panics (SYS-1).

use crate::world::client::{Placed, append, batch, lane};
use crate::world::writer::Writer;
use crate::world::*;
use std::collections::BTreeMap;
use std::time::Duration;
use zoolog_core::machine::Input;
use zoolog_core::wal::{OnDamage, WalConfig, WalSource, recover};
use zoolog_core::wire::*;
use zoolog_core::*;
use zoolog_shard::{Bounds, SlotEvent};

fn writers(world: &World, shards: u32) -> Vec<Writer> {
    (1..=shards)
        .flat_map(|s| [(s, 0u8), (s, 1)])
        .map(|(s, i)| Writer::new(world, u128::from(s * 2 + u32::from(i)) + 70, s, i))
        .collect()
}

fn write(world: &mut World, writers: &mut [Writer], rounds: usize) {
    for _ in 0..rounds {
        for w in writers.iter_mut() {
            (0..3).for_each(|_| w.act(world, true));
        }
        world.settle();
        writers.iter_mut().for_each(|w| w.listen(world));
    }
}

/// What all writers sent is acknowledged, at the latest after some attempts.
fn all_acknowledged(world: &mut World, writers: &mut [Writer]) {
    for _ in 0..200 {
        for w in writers.iter_mut() {
            w.act(world, false);
        }
        world.run(50);
        writers.iter_mut().for_each(|w| w.listen(world));
        if writers.iter().all(|w| w.unacked.is_empty()) {
            return;
        }
    }
    let left: Vec<_> = writers.iter().map(|w| (w.id, w.unacked.len())).collect();
    panic!("not acknowledged: {left:?}\n{}\n{}", world.status(0), world.status(1));
}

/// Damages `n` places of a node's disk, anywhere it was written to: a bit, or all of a unit or several.
fn rot(world: &mut World, node: usize, n: u64) {
    let segments = world.nodes[node].disk.segments().unwrap();
    for _ in 0..n {
        let (number, _) = segments[world.rng.below(segments.len() as u64) as usize];
        let (kind, units) = (world.rng.below(4), world.rng.between(1, 3) as usize);
        let bytes = world.nodes[node].disk.bytes_mut(number).unwrap();
        let used = bytes.iter().rposition(|&b| b != 0).unwrap_or(0) + 1;
        let at = world.rng.below(used as u64) as usize;
        let bit = 1 << world.rng.below(8);
        let bytes = world.nodes[node].disk.bytes_mut(number).unwrap();
        let (unit, end) = (at / 4096 * 4096, bytes.len());
        match kind {
            0 => bytes[unit..(unit + units * 4096).min(end)].fill(0),
            1 => bytes[unit..(unit + units * 4096).min(end)].fill(0xA5),
            _ => bytes[at] ^= bit,
        }
    }
}

/// Reads a shard from the node, page by page; None where it answers that it can't serve.
fn served(world: &mut World, node: usize, shard: u32, truth: &BTreeMap<Gsn, Placed>) -> (usize, usize) {
    let (mut from, mut complete, mut unavailable) = (world.orderer.trim, 0, 0);
    let tail = world.orderer.tail;
    while from < tail {
        let (read, covers, end) = world.read(node, shard, from, tail, 4000);
        for (gsn, b) in &read {
            assert_eq!(truth.get(gsn).map(|t| &t.1), Some(b), "node {node}: a wrong record at {gsn}");
        }
        let expected = truth.range(from..covers).count();
        let got = read.iter().filter(|(g, _)| *g >= from && *g < covers).count();
        assert_eq!(got, expected, "node {node}: a record is skipped before {covers}, {end:?}");
        match end {
            ReadEnd::Complete => complete += 1,
            _ => unavailable += 1,
        }
        from = if end == ReadEnd::Complete { tail } else { covers.max(from).next() };
    }
    (complete, unavailable)
}

fn truth(world: &mut World, node: usize, shard: u32) -> BTreeMap<Gsn, Placed> {
    let (tail, trim) = (world.orderer.tail, world.orderer.trim);
    let (all, covers, end) = world.read(node, shard, trim, tail, 4000);
    assert_eq!((covers, end), (tail, ReadEnd::Complete));
    all.into_iter().map(|p| (p.0, p)).collect()
}

/// Damages the newest unit of a node's log whose loss its next start will notice.
fn damage_the_end(world: &mut World, node: usize) -> bool {
    let disk = world.nodes[node].disk.clone();
    let mut units: Vec<(u32, u64)> = disk
        .segments()
        .unwrap()
        .iter()
        .flat_map(|&(n, bytes)| (0..bytes / 4096).map(move |u| (n, u)))
        .collect();
    units.sort_unstable_by(|a, b| b.cmp(a));
    for (segment, unit) in units {
        let mut damaged = disk.clone();
        damaged.bytes_mut(segment).unwrap()[unit as usize * 4096 + 20] ^= 1;
        let cfg = WalConfig::new(CLUSTER, node as u64 + 1, OnDamage::Report);
        if recover(&damaged, &cfg).is_ok_and(|(found, _)| !found.damage.is_empty()) {
            world.nodes[node].disk = damaged;
            return true;
        }
    }
    false
}

fn count(world: &World, node: usize, is: impl Fn(&SlotEvent) -> bool) -> usize {
    world.nodes[node].events.iter().filter(|e| is(e)).count()
}

/// The property: whatever is damaged while a node is down, if it starts at all it becomes whole again, and stays it.
#[test]
fn a_rotten_disk_is_mended_from_the_other_replica() {
    let (mut refused, mut mended, mut met) = (0, 0, 0);
    for seed in 1..=40 {
        let mut world = World::ready(seed, &[&[0, 1], &[1, 0]], &tiny());
        let mut all = writers(&world, 2);
        write(&mut world, &mut all, 20);
        if seed % 3 == 0 {
            // So that there are segments less, and parts that nobody keeps.
            let gsn = Gsn(world.orderer.tail.0 / 2);
            world.trim(gsn);
        }
        write(&mut world, &mut all, 5);
        if seed % 2 == 0 {
            // Some of it was never committed.
            world.orderer.auto = false;
            write(&mut world, &mut all, 2);
        }
        world.crash(0);
        world.settle();
        let damage = world.rng.between(1, 4);
        rot(&mut world, 0, damage);
        world.orderer.forget(slot_id(0));
        world.orderer.auto = true;
        let now = world.now;
        if world.nodes[0].start(now).is_err() {
            refused += 1;
            continue;
        }
        world.turn(0, Vec::new());
        // Before anything is mended, while it is, and after.
        for ms in [0, 30, 3000] {
            world.run(ms);
            for shard in 1..=2 {
                let truth = truth(&mut world, 1, shard);
                served(&mut world, 0, shard, &truth);
            }
        }
        world.run(2000);
        all_acknowledged(&mut world, &mut all);
        for shard in 1..=2 {
            let truth = truth(&mut world, 1, shard);
            let (_, unavailable) = served(&mut world, 0, shard, &truth);
            assert_eq!(unavailable, 0, "seed {seed}: not mended: {}", world.status(0));
        }
        mended += count(&world, 0, |e| matches!(e, SlotEvent::Mended { .. }));
        met += count(&world, 0, |e| matches!(e, SlotEvent::Rotten { .. }));
        assert_eq!(count(&world, 0, |e| matches!(e, SlotEvent::Lost { .. })), 0, "seed {seed}");
        // It goes on from what it has written, without the other's help, over rolls and with more on top.
        write(&mut world, &mut all, 10);
        world.crash(0);
        world.settle();
        world.start(0);
        world.run(2000);
        all_acknowledged(&mut world, &mut all);
        for shard in 1..=2 {
            let truth = truth(&mut world, 1, shard);
            assert_eq!(served(&mut world, 0, shard, &truth).1, 0, "seed {seed}: {}", world.status(0));
        }
    }
    assert!(
        mended > 10 && met > 20 && refused < 20,
        "{refused} refused, {mended} mended, {met} met by a read"
    );
}

/// A cold block turns bad while the node runs: the read is answered `Unavailable` once, the next one is served.
#[test]
fn a_read_that_meets_rot_has_it_mended_in_the_background() {
    let mut world = World::ready(7, &[&[0, 1]], &tiny());
    let mut all = writers(&world, 1);
    write(&mut world, &mut all, 20);
    let truth = truth(&mut world, 1, 1);
    let bytes = world.nodes[0].disk.bytes_mut(1).unwrap();
    (0..3).for_each(|unit| bytes[unit * 4096 + 4096 + 300] ^= 1);
    let (_, unavailable) = served(&mut world, 0, 1, &truth);
    assert!(unavailable > 0, "it was met");
    world.settle();
    assert_eq!(served(&mut world, 0, 1, &truth).1, 0, "{}", world.status(0));
    assert!(count(&world, 0, |e| matches!(e, SlotEvent::Rotten { .. })) > 0);
    assert_eq!(count(&world, 0, |e| matches!(e, SlotEvent::Damaged { .. })), 0, "nothing was held back");
    write(&mut world, &mut all, 2);
    all_acknowledged(&mut world, &mut all);
}

/// A full disk takes no mended batches, as it takes no appends; once there is room they come, asked for or not before.
#[test]
fn what_is_lost_on_a_full_disk_waits_for_room() {
    for late in [false, true] {
        let mut world = World::ready(11, &[&[0, 1]], &tiny());
        let mut all = writers(&world, 1);
        write(&mut world, &mut all, 20);
        let truth = truth(&mut world, 1, 1);
        let bytes = world.nodes[0].disk.bytes_mut(1).unwrap();
        (0..3).for_each(|unit| bytes[unit * 4096 + 4096 + 300] ^= 1);
        let disk = |world: &mut World, room| {
            world.turn(0, vec![Input::DiskSpace { room, free_bytes: 1 }]);
        };
        let before = world.nodes[0].persists.len();
        if late {
            // It fills up when what was lost is on its way.
            let c = world.client(0);
            let (shard, to) = (ShardId(1), world.orderer.tail);
            let read = Read { request: 1, shard, from: Gsn(0), to, max_bytes: 4000, begun_within: false };
            world.send(c, wire::encode(read));
            while count(&world, 0, |e| matches!(e, SlotEvent::Rotten { .. })) == 0 {
                let action = world.actions()[0];
                world.act(action);
            }
        }
        disk(&mut world, DiskRoom::Full);
        assert!(served(&mut world, 0, 1, &truth).1 > 0, "it was met");
        world.run(5000);
        assert!(served(&mut world, 0, 1, &truth).1 > 0, "{}", world.status(0));
        assert_eq!(world.nodes[0].persists.len(), before, "nothing is written");
        assert_eq!(count(&world, 0, |e| matches!(e, SlotEvent::Lost { .. })), 0, "nobody is blamed for it");
        disk(&mut world, DiskRoom::Low);
        world.settle();
        assert_eq!(served(&mut world, 0, 1, &truth).1, 0, "{}", world.status(0));
        assert!(world.nodes[0].persists.len() > before);
    }
}

/// What nobody reads is found by the scrubber, once round, at the rate that is set; and is mended.
#[test]
fn the_scrubber_finds_cold_rot_and_has_it_mended() {
    let bounds = Bounds { scrub_bytes_per_s: 64 << 10, scrub_pause: Duration::from_secs(8), ..tiny() };
    let mut world = World::ready(9, &[&[0, 1]], &bounds);
    let mut all = writers(&world, 1);
    write(&mut world, &mut all, 20);
    let segments = world.nodes[0].disk.segments().unwrap().len() as u64;
    assert!(segments > 4);
    for (segment, unit) in [(1, 1), (1, 2), (2, 3)] {
        world.nodes[0].disk.bytes_mut(segment).unwrap()[unit * 4096 + 200] ^= 16;
    }
    // At 64 KiB/s a segment of 24 KiB, read at most twice over, takes less than a second.
    world.run(900);
    assert!(world.status(0).contains("\"passes\":0"), "{}", world.status(0));
    world.run(1000 * segments + 1000);
    assert!(world.status(0).contains("\"passes\":1,\"damaged_blocks\":3"), "{}", world.status(0));
    assert!(world.status(1).contains("\"passes\":1,\"damaged_blocks\":0"), "{}", world.status(1));
    let rotten = count(&world, 0, |e| matches!(e, SlotEvent::Rotten { .. }));
    assert!(
        rotten > 0 && world.status(0).contains(&format!("\"mended_batches\":{rotten}")),
        "{}",
        world.status(0)
    );
    // Now the copies at the other place are all right, and this one's are needed.
    world.crash(1);
    world.settle();
    let tail = world.orderer.tail;
    assert_eq!(world.read(0, 1, Gsn(0), tail, 4000).2, ReadEnd::Complete);
    // The blocks are still bad, but nothing that is needed lies in them.
    world.run(12_000);
    assert_eq!(count(&world, 0, |e| matches!(e, SlotEvent::Rotten { .. })), rotten);
}

/// Segments that were finished by starts after the newest batch are scrubbed too (seed 6694 of the simulator).
#[test]
fn the_scrubber_looks_at_all_that_was_finished_before_this_start() {
    let bounds = Bounds { scrub_bytes_per_s: 64 << 10, scrub_pause: Duration::from_secs(1), ..tiny() };
    let mut world = World::ready(9, &[&[0, 1]], &bounds);
    let mut all = writers(&world, 1);
    write(&mut world, &mut all, 4);
    all_acknowledged(&mut world, &mut all);
    let newest = |world: &mut World| {
        let segments = world.nodes[0].disk.segments().unwrap();
        let mut written = |n: u32| world.nodes[0].disk.bytes_mut(n).unwrap().iter().any(|&b| b != 0);
        segments.into_iter().map(|(n, _)| n).filter(|n| written(*n)).max().unwrap()
    };
    let with_batches = newest(&mut world);
    while newest(&mut world) < with_batches + 3 {
        world.crash(0);
        world.run(10);
        world.start(0);
        world.run(500);
    }
    let bytes = world.nodes[0].disk.bytes_mut(with_batches).unwrap();
    (1..bytes.len() / 4096 - 1).for_each(|unit| bytes[unit * 4096 + 200] ^= 16);
    world.run(60_000);
    let rotten = count(&world, 0, |e| matches!(e, SlotEvent::Rotten { .. }));
    assert!(
        rotten > 0 && world.status(0).contains(&format!("\"mended_batches\":{rotten}")),
        "{rotten} {}",
        world.status(0)
    );
}

/// The same damage in both: never a wrong byte, no appends over it, and somebody is told.
#[test]
fn what_no_replica_has_is_said_and_never_made_up() {
    let mut world = World::ready(8, &[&[0, 1]], &tiny());
    let mut all = writers(&world, 1);
    write(&mut world, &mut all, 20);
    let truth = truth(&mut world, 1, 1);
    for n in 0..2 {
        world.nodes[n].disk.bytes_mut(1).unwrap()[4096..12288].fill(0x5A);
    }
    let first = served(&mut world, 0, 1, &truth).1;
    world.run(5000);
    let (_, unavailable) = served(&mut world, 0, 1, &truth);
    assert!(first > 0 && unavailable > 0);
    let told = count(&world, 0, |e| matches!(e, SlotEvent::Lost { .. }));
    assert!((1..=3).contains(&told), "said, but not over and over: {told}");
    assert!(world.status(0).contains("\"state\":\"damaged\""), "{}", world.status(0));
}

/// LOG-3: the windows of writers are filled in order, mended batches included.
#[test]
fn a_writer_whose_batches_were_lost_finds_them_where_they_were() {
    for batches in 3..=8 {
        let mut world = World::ready(batches, &[&[0, 1]], &tiny());
        world.orderer.auto = false;
        let w = world.client(0);
        let sent: Vec<_> = (0..batches).map(|s| batch(9, s, 2, 900)).collect();
        for b in &sent {
            world.send(w, append(lane(1, 0), b));
            world.settle(); // a block of its own each
        }
        world.crash(0);
        world.settle();
        assert!(damage_the_end(&mut world, 0), "there is a block with proof behind it");
        world.orderer.forget(slot_id(0));
        world.orderer.auto = true;
        world.start(0);
        world.run(3000);
        assert_eq!(world.orderer.tail, Gsn(2 * batches), "{}", world.status(0));
        let w = world.client(0);
        for b in sent.iter().chain([&batch(9, batches, 1, 20)]) {
            world.send(w, append(lane(1, 0), b));
        }
        world.settle();
        let acks: Vec<_> = (0..=batches).map(|s| (Seq(s), Gsn(2 * s))).collect();
        assert_eq!(world.clients[w].acks(), acks, "of {batches}");
        assert_eq!(world.orderer.tail, Gsn(2 * batches + 1), "and none is there twice");
    }
}

/// LOG-4: a block that could not be read at one start, and can at the next, doesn't come between what took its place.
#[test]
fn what_was_lost_and_reappears_stays_lost() {
    let mut world = World::ready(6, &[&[0, 1], &[0]], &tiny());
    let w = world.client(0);
    let (mut n, rolls) = (0, world.nodes[0].rolls);
    while world.nodes[0].rolls == rolls {
        world.send(w, append(lane(1, 0), &batch(9, n, 1, 300)));
        world.settle();
        n += 1;
    }
    world.crash(1);
    // Durable in one copy, and behind it something of another shard that says so.
    world.send(w, append(lane(1, 0), &batch(9, n, 3, 300)));
    world.settle();
    let other = world.client(0);
    world.send(other, append(lane(2, 0), &batch(10, 0, 1, 300)));
    world.settle();
    world.crash(0);
    world.settle();
    let whole = world.nodes[0].disk.clone();
    let cfg = WalConfig::new(CLUSTER, 1, OnDamage::Report);
    let (found, _) = recover(&whole, &cfg).unwrap();
    let lost = found.tail.iter().filter(|e| e.key1 == lane(1, 0).0 && e.key2 >= n);
    let lost: Vec<_> = lost.map(|e| (e.pos.segment, e.pos.range())).collect();
    for (segment, (offset, len)) in &lost {
        let at = *offset as usize;
        world.nodes[0].disk.bytes_mut(*segment).unwrap()[at..at + len].fill(0);
    }
    world.orderer.forget(slot_id(0));
    (0..2).for_each(|n| world.start(n));
    world.run(3000);
    assert!(count(&world, 0, |e| matches!(e, SlotEvent::Mended { .. })) > 0, "it was noticed");
    let w = world.client(0);
    (n..n + 4).for_each(|s| world.send(w, append(lane(1, 0), &batch(9, s, 1, 20))));
    world.settle();
    assert_eq!(world.clients[w].acks().len(), 4, "their writer never knew that one was taken");
    world.crash(0);
    world.settle();
    for (segment, (offset, len)) in lost {
        let at = offset as usize;
        let before = whole.clone().bytes_mut(segment).unwrap()[at..at + len].to_vec();
        world.nodes[0].disk.bytes_mut(segment).unwrap()[at..at + len].copy_from_slice(&before);
    }
    world.start(0);
    world.run(3000);
    let truth = truth(&mut world, 1, 1);
    assert_eq!(served(&mut world, 0, 1, &truth).1, 0, "{}", world.status(0));
    let w = world.client(0);
    (n..n + 5).for_each(|s| world.send(w, append(lane(1, 0), &batch(9, s, 1, 20))));
    world.settle();
    let acks: Vec<_> = world.clients[w].acks().into_iter().map(|a| a.0.0).collect();
    assert_eq!(acks, (n..n + 5).collect::<Vec<_>>(), "and its window is the newer one");
}

/// A lane whose end is gone places nothing before it knows what is committed, however the others answer.
#[test]
fn a_primary_that_found_damage_waits_for_the_leader() {
    let mut world = World::ready(5, &[&[0, 1]], &tiny());
    let mut all = writers(&world, 1);
    write(&mut world, &mut all, 20);
    world.crash(0);
    world.settle();
    assert!(damage_the_end(&mut world, 0), "there is a block with proof behind it");
    world.orderer.forget(slot_id(0));
    world.orderer.up = false;
    let links: Vec<usize> =
        (0..world.links.len()).filter(|&l| world.links[l].ends[1] == End::Orderer).collect();
    links.into_iter().for_each(|l| world.cut_link(l));
    world.start(0);
    world.run(3000);
    let w = world.client(0);
    world.send(w, append(lane(1, 0), &batch(500, 0, 1, 20)));
    world.settle();
    assert_eq!(world.clients[w].append_refusals(), [(Seq(0), AppendRefusedWhy::Recovering, Seq(0))]);
    assert!(world.status(0).contains("\"state\":\"mending\""), "{}", world.status(0));
    world.orderer.up = true;
    world.run(3000);
    assert!(world.status(0).contains("\"state\":\"serving\""), "{}", world.status(0));
    assert_eq!(world.orderer.recovering.get(&slot_id(0)), Some(&vec![]), "it was said, and taken back");
    all_acknowledged(&mut world, &mut all);
}
