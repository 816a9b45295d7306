//! Copies in place of lost ones: whole, in the same order, at the same positions, whatever crashes, is trimmed or comes
//! back meanwhile; and what was given up leaves nothing behind that a later copy is taken for.

use crate::world::client::*;
use crate::world::*;
use zoolog_core::machine::Input;
use zoolog_core::wal::WalSource;
use zoolog_core::wire::*;
use zoolog_core::*;
use zoolog_shard::Bounds;

/// Batches `from..to` of a writer, each acknowledged before the next few are sent.
fn write(world: &mut World, shard: u32, index: u8, from: u64, to: u64) {
    let node = usize::from(index) + shard as usize - 1;
    let c = world.client(node);
    let writer = 100 * u128::from(shard) + u128::from(index);
    for seq in from..to {
        world.send(c, append(lane(shard, index), &batch(writer, seq, 2, 150)));
        if seq % 3 == 0 {
            world.settle();
        }
    }
    world.settle();
    assert_eq!(world.clients[c].acks().len() as u64, to - from, "all acknowledged");
}

/// Nothing is slowed down: time doesn't pass in the middle of things.
fn quick() -> Bounds {
    Bounds { rebuild_bytes_per_s: 0, ..tiny() }
}

/// Shard 1 on nodes 0 and 1, shard 2 on nodes 1 and 2. Shard 1 is written to by both its primaries, and ends.
fn ended(seed: u64, bounds: &Bounds, batches: u64) -> World {
    let mut world = World::ready(seed, &[&[0, 1], &[1, 2]], bounds);
    write(&mut world, 1, 0, 0, batches);
    write(&mut world, 1, 1, 0, batches);
    let out = world.orderer.finalize(1, |_| true);
    world.take_from_orderer(out);
    world.settle();
    world
}

fn records(world: &mut World, n: usize) -> Vec<Placed> {
    let (trim, tail) = (world.orderer.trim, world.orderer.tail);
    let (all, covers, end) = world.read(n, 1, trim, tail, 1 << 20);
    assert_eq!((covers, end), (tail, ReadEnd::Complete), "from {trim}");
    all
}

fn begin(world: &mut World, index: u8, node: usize) {
    let out = world.orderer.copy(1, Some((index, node)));
    world.take_from_orderer(out);
}

fn give_up(world: &mut World) {
    let out = world.orderer.copy(1, None);
    world.take_from_orderer(out);
}

/// Until the copy is whole; then it counts.
fn finish(world: &mut World) {
    for _ in 0..400 {
        if world.orderer.is_copied(1) {
            let out = world.orderer.copy_counts(1);
            world.take_from_orderer(out);
            world.settle();
            return;
        }
        world.run(50);
    }
    panic!("not copied: {:?}, {}", world.orderer.copies, world.status(2));
}

/// The segment that is written to, or the next, which is made ahead.
fn segments(world: &World, n: usize) -> u32 {
    world.nodes[n].disk.segments().unwrap().last().map_or(0, |s| s.0 - 1)
}

#[test]
fn a_copy_holds_every_record_where_it_was_and_tells_writers_what_is_in() {
    let mut world = ended(1, &quick(), 60);
    let whole = records(&mut world, 1);
    assert_eq!(whole.len(), 120);
    world.crash(0);
    begin(&mut world, 0, 2);
    while world.orderer.copies.get(&ShardId(1)).is_none_or(|c| c.1 < CutNumber(20)) {
        let action = world.actions()[0];
        world.act(action);
    }
    let (_, _, end) = world.read(2, 1, Gsn(0), Gsn(10), 1 << 20);
    assert_ne!(end, ReadEnd::Complete, "a half copy answers nothing as if it were whole");
    finish(&mut world);
    assert_eq!(records(&mut world, 2), whole);
    for (writer, index) in [(100, 0), (101, 1)] {
        let l = lane(1, index);
        let there = world.resolve(1, l, writer, Seq(55));
        assert_eq!((there.end, there.acks.len()), (ResolveEnd::Final, 5), "{there:?}");
        let here = world.resolve(2, l, writer, Seq(55));
        assert_eq!(
            (here.end, here.acks, here.tail),
            (there.end, there.acks, there.tail),
            "a writer may ask the copy"
        );
    }
    // Through a restart, without anybody to ask.
    world.crash(1);
    world.crash(2);
    world.start(2);
    world.run(500);
    assert_eq!(records(&mut world, 2), whole);
}

/// It goes on where it was: what is durable is not asked for, nor written, again.
#[test]
fn a_copy_survives_crashes_at_any_moment_and_writes_nothing_twice() {
    let (mut crashes, mut resumed) = (0, 0);
    for seed in 0..16 {
        let mut world = ended(seed, &quick(), 30);
        let whole = records(&mut world, 1);
        world.crash(0);
        begin(&mut world, 0, 2);
        for _ in 0..6 {
            for _ in 0..world.rng.below(60) {
                let actions = world.actions();
                let Some(&action) = actions.get(world.rng.below(actions.len().max(1) as u64) as usize) else {
                    break;
                };
                world.act(action);
            }
            let middle = world.orderer.copies.contains_key(&ShardId(1)) && !world.orderer.is_copied(1);
            for n in [1, 2] {
                if world.rng.chance(40) {
                    resumed += u32::from(middle && n == 2);
                    world.crash(n);
                    world.start(n);
                    crashes += 1;
                }
            }
            world.run(300);
        }
        finish(&mut world);
        assert_eq!(records(&mut world, 2), whole, "seed {seed}");
        let status = world.status(2);
        assert!(status.contains("\"batches\":30"), "each batch once: {status}");
        world.crash(1);
        world.crash(2);
        world.start(2);
        world.run(500);
        assert_eq!(records(&mut world, 2), whole, "seed {seed}");
    }
    assert!(crashes > 30 && resumed > 5, "{crashes} crashes, {resumed} times in the middle");
}

#[test]
fn what_is_trimmed_before_or_meanwhile_is_not_copied() {
    for seed in 0..20 {
        let mut world = ended(seed, &quick(), 60);
        if seed % 2 == 0 {
            world.trim(Gsn(61));
        }
        world.crash(0);
        begin(&mut world, 0, 2);
        for _ in 0..world.rng.below(200) {
            let actions = world.actions();
            let Some(&action) = actions.get(world.rng.below(actions.len().max(1) as u64) as usize) else {
                break;
            };
            world.act(action);
        }
        world.trim(Gsn(141));
        if seed % 3 == 0 {
            world.crash(2);
            world.start(2);
        }
        finish(&mut world);
        assert_eq!(records(&mut world, 2), records(&mut world, 1), "seed {seed}");
        let (got, covers, end) = world.read(2, 1, Gsn(3), Gsn(150), 1 << 20);
        assert_eq!((got.len(), covers, end), (0, Gsn(141), ReadEnd::Trimmed));
        let before = records(&mut world, 2);
        world.crash(2);
        world.start(2);
        world.run(500);
        assert_eq!(records(&mut world, 2), before, "seed {seed}");
        // It goes like any other replica.
        let out = world.orderer.drop_shard(1);
        world.take_from_orderer(out);
        world.settle();
    }
}

#[test]
fn a_copy_begun_behind_what_is_trimmed_says_so_to_writers() {
    let mut world = ended(3, &quick(), 60);
    world.trim(Gsn(61));
    world.crash(0);
    begin(&mut world, 0, 2);
    finish(&mut world);
    let got = world.resolve(2, lane(1, 0), 100, Seq(0));
    assert_eq!((got.end, got.acks.len()), (ResolveEnd::Forgotten, 0), "what came before may have been in");
}

/// The lost one is back: what was copied is forgotten, and its room is given back.
#[test]
fn a_copy_that_is_given_up_leaves_nothing_behind() {
    let mut given_back = 0;
    for seed in 0..20 {
        let mut world = ended(seed, &quick(), 100);
        let whole = records(&mut world, 1);
        begin(&mut world, 0, 2);
        let steps = world.rng.below(900);
        for _ in 0..steps {
            let actions = world.actions();
            let Some(&action) = actions.get(world.rng.below(actions.len().max(1) as u64) as usize) else {
                break;
            };
            world.act(action);
        }
        give_up(&mut world);
        world.settle();
        assert!(!world.status(2).contains("\"1/"), "{}", world.status(2));
        let newest = segments(&world, 2);
        write(&mut world, 2, 1, 0, 20);
        let oldest = world.nodes[2].disk.segments().unwrap()[0].0;
        assert!(oldest + 3 >= newest, "segment {oldest} is still there, {newest} was the newest then");
        given_back += u32::from(newest > 6);
        if world.rng.chance(50) {
            world.crash(2);
            world.start(2);
            world.run(300);
        }
        // Made once more, it is whole: what is left of the first on the disk is not taken for it.
        begin(&mut world, 0, 2);
        let steps = world.rng.below(400);
        for _ in 0..steps {
            let actions = world.actions();
            let Some(&action) = actions.get(world.rng.below(actions.len().max(1) as u64) as usize) else {
                break;
            };
            world.act(action);
        }
        world.crash(2);
        world.start(2);
        world.run(300);
        finish(&mut world);
        assert_eq!(records(&mut world, 2), whole, "seed {seed}");
        world.crash(2);
        world.start(2);
        world.run(500);
        assert_eq!(records(&mut world, 2), whole, "seed {seed}");
    }
    assert!(given_back > 5, "{given_back}");
}

/// The lost one comes back when the copy counts: it gives its own up. When the other is lost, it makes a copy again.
#[test]
fn who_comes_back_late_gives_up_its_copy_and_may_make_one_later() {
    for seed in 0..6 {
        let mut world = ended(seed, &quick(), 60);
        let whole = records(&mut world, 1);
        world.crash(0);
        begin(&mut world, 0, 2);
        finish(&mut world);
        world.start(0);
        world.run(500);
        assert!(!world.status(0).contains("\"1/"), "{}", world.status(0));
        if world.rng.chance(50) {
            world.crash(0);
            world.start(0);
            world.run(500);
        }
        world.crash(1);
        begin(&mut world, 1, 0);
        finish(&mut world);
        assert_eq!(records(&mut world, 0), whole);
        world.crash(0);
        world.crash(2);
        world.start(0);
        world.run(500);
        assert_eq!(records(&mut world, 0), whole);
    }
}

#[test]
fn no_more_is_copied_per_second_than_is_allowed() {
    let bounds = Bounds { rebuild_bytes_per_s: 10_000, ..tiny() };
    let mut world = ended(1, &bounds, 100);
    world.crash(0);
    begin(&mut world, 0, 2);
    let bytes = |w: &World| {
        let status = w.status(2);
        let copies = &status[status.find("\"copies\":").expect("the field")..];
        let at = copies.find("\"bytes\":").expect("a copy") + 8;
        copies[at..].chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u64>().unwrap()
    };
    world.run(1000);
    let first = bytes(&world);
    assert!((4_000..=11_500).contains(&first), "{first}");
    world.run(1000);
    assert!((14_000..=22_000).contains(&bytes(&world)), "{} then {}", first, bytes(&world));
    finish(&mut world);
}

/// LOG-4: one of the replicas that are left can't read a batch: the copy has it from the other.
#[test]
fn what_one_replica_can_not_give_another_does() {
    let mut world = World::ready(5, &[&[0, 1, 2], &[2, 3]], &tiny());
    write(&mut world, 1, 0, 0, 40);
    let out = world.orderer.finalize(1, |_| true);
    world.take_from_orderer(out);
    world.settle();
    let whole = records(&mut world, 2);
    world.crash(0);
    world.crash(1);
    begin(&mut world, 0, 3);
    world.run(100);
    world.crash(2);
    world.start(1);
    world.run(2000);
    finish(&mut world);
    assert_eq!(records(&mut world, 3), whole);
}

/// A copy takes the room that others' appends would be refused: it waits as they do.
#[test]
fn a_copy_waits_while_its_disk_is_full() {
    let mut world = ended(12, &quick(), 60);
    world.crash(0);
    world.turn(2, vec![Input::DiskSpace { room: DiskRoom::Full, free_bytes: 1 }]);
    world.settle();
    let before = segments(&world, 2);
    begin(&mut world, 0, 2);
    world.run(5000);
    let so_far = world.orderer.copies.get(&ShardId(1)).map_or(0, |c| c.1.0);
    assert_eq!((so_far, segments(&world, 2)), (0, before), "{}", world.status(2));
    assert!(!world.orderer.is_copied(1));
    world.turn(2, vec![Input::DiskSpace { room: DiskRoom::Ample, free_bytes: 1 << 40 }]);
    finish(&mut world);
    assert_eq!(records(&mut world, 2).len(), 120);
}
