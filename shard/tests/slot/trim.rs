//! Trimming: what lies below the trim point is answered as such, its memory and segments go, and nothing else is
//! any different, through restarts, and for a replica that has lost what the others have trimmed.

use crate::world::client::*;
use crate::world::*;
use zoolog_core::wal::WalSource;
use zoolog_core::wire::*;
use zoolog_core::*;
use zoolog_shard::Bounds;

/// Batches `from..to` of a writer, each acknowledged before the next few are sent.
fn write(world: &mut World, index: u8, writer: u128, from: u64, to: u64) {
    let c = world.client(usize::from(index));
    for seq in from..to {
        world.send(c, append(lane(1, index), &batch(writer, seq, 2, 150)));
        if seq % 3 == 0 {
            world.settle();
        }
    }
    world.settle();
    let acks = world.clients[c].acks();
    assert_eq!(acks.len() as u64, to - from, "all acknowledged");
}

/// What a replica has of the shard from the trim point on; what lies before it must be answered as trimmed.
fn readable(world: &mut World, n: usize) -> Vec<Placed> {
    let (trim, tail) = (world.orderer.trim, world.orderer.tail);
    for from in [0, trim.0 / 2, trim.0.saturating_sub(1)].map(Gsn).into_iter().filter(|g| *g < trim) {
        let (got, covers, end) = world.read(n, 1, from, tail, 1 << 20);
        assert_eq!((got.len(), covers, end), (0, trim, ReadEnd::Trimmed), "from {from}");
    }
    let (all, covers, end) = world.read(n, 1, trim, tail, 900);
    assert_eq!((covers, end), (tail, ReadEnd::Complete));
    assert!(all.first().is_none_or(|(gsn, b)| *gsn <= trim && gsn.plus(u64::from(b.batch.count())) > trim));
    all
}

fn segments(world: &World, n: usize) -> Vec<u32> {
    world.nodes[n].disk.segments().unwrap().iter().map(|s| s.0).collect()
}

fn number_in(status: &str, field: &str) -> u64 {
    let at = status.find(&format!("\"{field}\":")).expect("the field") + field.len() + 3;
    status[at..].chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

#[test]
fn what_lies_below_the_trim_point_goes_from_memory_and_disk_and_the_rest_stays() {
    let mut world = World::ready(1, &[&[0, 1]], &tiny());
    write(&mut world, 0, 31, 0, 300);
    assert!(segments(&world, 0).len() > 4, "{:?}", segments(&world, 0));
    let whole = readable(&mut world, 0);
    world.trim(Gsn(401));
    write(&mut world, 1, 32, 0, 40);
    write(&mut world, 0, 31, 300, 340);
    for n in 0..2 {
        let (left, status) = (segments(&world, n), world.status(n));
        assert!(world.nodes[n].released > 3 && left[0] > 2, "{left:?}, released {}", world.nodes[n].released);
        assert_eq!(number_in(&status, "trim"), 401);
        assert!((390..=400).contains(&number_in(&status, "start")), "{status}");
        assert!(number_in(&status, "batches") < 150, "{status}");
        let got = readable(&mut world, n);
        let same: Vec<&Placed> =
            whole.iter().filter(|(gsn, b)| gsn.0 + u64::from(b.batch.count()) > 401).collect();
        assert!(got.iter().zip(same).all(|(a, b)| a == b));
    }
    assert_eq!(readable(&mut world, 0), readable(&mut world, 1));
}

/// The log goes on for long at a bounded size, and through restarts at any moment.
#[test]
fn a_log_that_is_trimmed_keeps_its_size_and_survives_crashes_at_any_moment() {
    for seed in 0..12 {
        let mut world = World::ready(seed, &[&[0, 1]], &tiny());
        for round in 0..12u64 {
            write(&mut world, 0, 31, round * 25, round * 25 + 25);
            write(&mut world, 1, 32, round * 25, round * 25 + 25);
            let (trim, tail) = (world.orderer.trim, world.orderer.tail);
            let to = trim.0 + world.rng.below(tail.0 - trim.0 + 1);
            let out = world.orderer.trim_to(Gsn(to));
            world.take_from_orderer(out);
            // Something is under way when the power goes.
            let c = world.client(0);
            let after = round * 25 + 25;
            world.send(c, append(lane(1, 0), &batch(31, after, 2, 150)));
            for _ in 0..world.rng.below(40) {
                let actions = world.actions();
                let Some(&action) = actions.get(world.rng.below(actions.len().max(1) as u64) as usize) else {
                    break;
                };
                world.act(action);
            }
            for n in 0..2 {
                if world.rng.chance(50) {
                    world.crash(n);
                    world.start(n);
                }
            }
            world.run(1500);
            let (a, b) = (readable(&mut world, 0), readable(&mut world, 1));
            assert_eq!(a, b, "seed {seed}, round {round}");
        }
        world.trim(world.orderer.tail);
        write(&mut world, 0, 31, 300, 330);
        for n in 0..2 {
            let left = segments(&world, n);
            assert!(left.len() <= 16 && left[0] > 100, "seed {seed}: {left:?}");
        }
    }
}

/// LOG-3: a batch whose acknowledgement got lost is answered with its position though nobody can read it any
/// more, before and after a restart.
#[test]
fn a_resent_batch_that_is_trimmed_is_acknowledged_where_it_was() {
    let mut world = World::ready(2, &[&[0, 1]], &tiny());
    write(&mut world, 0, 31, 0, 200);
    let tail = world.orderer.tail;
    world.trim(tail);
    write(&mut world, 0, 32, 0, 60);
    world.trim(world.orderer.tail);
    write(&mut world, 0, 32, 60, 90);
    assert!(segments(&world, 0)[0] > 2);
    for restart in [false, true, true] {
        if restart {
            world.crash(0);
            world.start(0);
            world.run(1000);
        }
        let c = world.client(0);
        for seq in [3, 150, 199] {
            world.send(c, append(lane(1, 0), &batch(31, seq, 2, 150)));
        }
        world.settle();
        let expected: Vec<_> = [3, 150, 199].map(|s| (Seq(s), Gsn(2 * s))).into();
        assert_eq!(world.clients[c].acks(), expected, "restart: {restart}");
        assert_eq!(readable(&mut world, 0), readable(&mut world, 1));
    }
}

/// A subscriber below the trim point is pushed nothing wrong: it finds out by reading.
#[test]
fn a_subscription_below_the_trim_point_is_silent_and_others_go_on() {
    let mut world = World::ready(3, &[&[0, 1]], &tiny());
    write(&mut world, 0, 31, 0, 100);
    world.trim(Gsn(120));
    let (below, beyond) = (world.client(1), world.client(1));
    for (c, from) in [(below, 4), (beyond, 200)] {
        world
            .send(c, encode(Subscribe { shard: ShardId(1), from: vec![Lsn(from), Lsn(0)], credit: 1 << 20 }));
    }
    write(&mut world, 0, 31, 100, 120);
    assert!(world.clients[below].inbox.is_empty() && !world.clients[below].closed);
    assert!(!world.clients[beyond].inbox.is_empty());
}

/// A backup whose disk lost all that the others have trimmed meanwhile, and more, goes on from where they begin.
#[test]
fn a_backup_that_lost_more_than_is_left_goes_on_from_the_base() {
    for (idle, restart) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut world = World::ready(4, &[&[0, 1]], &tiny());
        write(&mut world, 0, 31, 0, 20);
        world.crash(1);
        let old = world.nodes[1].disk.clone();
        world.start(1);
        world.run(1000);
        write(&mut world, 0, 31, 20, 200);
        let trim = if idle { world.orderer.tail } else { Gsn(300) };
        world.trim(trim);
        if !idle {
            write(&mut world, 0, 31, 200, 260);
        }
        world.crash(1);
        world.nodes[1].disk = old;
        world.nodes[1].released = 0;
        world.orderer.forget(slot_id(1));
        world.start(1);
        world.run(3000);
        if restart {
            world.crash(1);
            world.start(1);
            world.run(3000);
        }
        write(&mut world, 0, 33, 0, 30);
        assert_eq!(readable(&mut world, 0), readable(&mut world, 1), "idle {idle}, restart {restart}");
        world.crash(1);
        world.start(1);
        world.run(3000);
        write(&mut world, 1, 34, 0, 30);
        assert_eq!(readable(&mut world, 0), readable(&mut world, 1), "idle {idle}, restart {restart}");
    }
}

/// The trim point may come before the cuts that it rests on, or again, or older: only the greatest counts.
#[test]
fn the_trim_point_comes_in_any_order() {
    let mut world = World::ready(5, &[&[0, 1]], &Bounds::default());
    write(&mut world, 0, 31, 0, 30);
    for gsn in [40, 10, 40] {
        let bytes = encode(TrimIs { gsn: Gsn(gsn) });
        let links: Vec<usize> =
            (0..world.links.len()).filter(|&l| world.links[l].ends[1] == End::Orderer).collect();
        world.orderer.trim = Gsn(40);
        let frames = links.into_iter().map(|l| (l, bytes.clone())).collect();
        world.take_from_orderer(orderer::Out { frames, close: Vec::new() });
        world.settle();
        readable(&mut world, 0);
        readable(&mut world, 1);
    }
}
