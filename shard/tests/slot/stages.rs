//! Do the histograms of a slot say what happened? Each stage counts its batches, from the event to the event that
//! it names.

use crate::append::deliver_to;
use crate::world::client::*;
use crate::world::*;
use std::time::Duration;
use zoolog_core::wire::*;
use zoolog_core::*;
use zoolog_shard::Bounds;

/// What node `n` says of its stages: (name, count, median in microseconds).
fn stages(world: &mut World, n: usize, reset: bool) -> Vec<(String, u64, u64)> {
    let c = world.client(n);
    world.send(c, encode(Stages { request: 3, reset }));
    world.settle();
    let Some(Packet { message: Message::StatusIs(m), .. }) = world.clients[c].inbox.pop() else {
        panic!("an answer")
    };
    assert_eq!(m.request, 3);
    let number = |field: &str| field.rsplit(':').next().unwrap().parse().unwrap();
    let stage = |object: &str| {
        let fields: Vec<&str> = object.split(',').collect();
        (fields[0].split('"').nth(3).unwrap().to_string(), number(fields[1]), number(fields[2]))
    };
    m.json.trim_matches(['[', ']', '{', '}']).split("},{").map(stage).collect()
}

fn check(found: &[(String, u64, u64)], wanted: [(&str, u64, u64); 5]) {
    for ((name, count, us), wanted) in found.iter().zip(wanted) {
        assert_eq!((name.as_str(), *count), (wanted.0, wanted.1), "{found:?}");
        assert!(us.abs_diff(wanted.2) * 100 <= wanted.2, "{name}: {us} us, not {}", wanted.2);
    }
    assert_eq!(found.len(), 5);
}

#[test]
fn a_slot_measures_its_syncs_and_what_its_writers_wait_for() {
    let mut world = World::ready(1, &[&[0, 1]], &Bounds::default());
    world.orderer.auto = false;
    let (w, l) = (world.client(0), lane(1, 0));
    world.settle();
    // The first is waited for, the second not.
    world.send(w, append(l, &batch(9, 0, 3, 10)));
    let second = batch(9, 1, 1, 10);
    world.send(w, encode_with(Append { lane: l, start: Seq(0), prompt: false }, &[second.bytes()]));
    let at = |world: &mut World, ms: u64| world.now = Instant(1) + Duration::from_millis(ms);
    at(&mut world, 300);
    deliver_to(&mut world, 0);
    at(&mut world, 301);
    deliver_to(&mut world, 1);
    at(&mut world, 304);
    for n in [0, 1] {
        while world.actions().contains(&Action::Sync(n)) {
            world.act(Action::Sync(n));
        }
    }
    world.settle();
    at(&mut world, 310);
    world.cut();
    world.settle();
    assert_eq!(world.clients[w].acks().len(), 2);
    let primary = [
        ("primary_wal", 2, 4_000),
        ("backup_wal", 0, 0),
        ("order", 1, 6_000),
        ("ack", 1, 10_000),
        ("report", 2, 250),
    ];
    check(&stages(&mut world, 0, true), primary);
    check(&stages(&mut world, 0, false), primary.map(|(name, ..)| (name, 0, 0)));
    let backup =
        [("primary_wal", 0, 0), ("backup_wal", 2, 3_000), ("order", 0, 0), ("ack", 0, 0), ("report", 2, 250)];
    check(&stages(&mut world, 1, false), backup);
    check(&stages(&mut world, 1, false), backup);
}

/// A resent batch that is known already was measured when it came first.
#[test]
fn a_resent_batch_is_not_measured_again() {
    let mut world = World::ready(4, &[&[0, 1]], &Bounds::default());
    for _ in 0..3 {
        let w = world.client(0);
        world.send(w, append(lane(1, 0), &batch(9, 0, 1, 1)));
        world.settle();
        assert_eq!(world.clients[w].acks().len(), 1);
    }
    let counts: Vec<u64> = stages(&mut world, 0, false).iter().map(|s| s.1).collect();
    assert_eq!(counts, [1, 0, 1, 1, 1]);
}
