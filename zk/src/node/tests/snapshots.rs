//! When snapshots are taken, what follows from good and bad ones, and starting from them.

use super::world::{MS, World, create, delete, get, set};
use crate::snapshot::{Loader, Restored};
use zoolog_client::LogEvent;
use zoolog_core::{ClusterId, Gsn, Instant};

/// A node that takes a snapshot every 10 records, and a client of it.
fn world() -> (World, usize) {
    let mut world = World::new(0);
    world.cfg.snapshot_records = 10;
    world.start(1000);
    let (client, _) = world.connect(0);
    (world, client)
}

/// Creates nodes until the node wants a snapshot saved. Returns how many.
fn until_due(world: &mut World, client: usize, round: usize) -> usize {
    for i in 0..100 {
        if world.piece(0).is_some() {
            return i;
        }
        world.call(client, 1, &create(&format!("/r{round}-{i}"), 0));
    }
    panic!("no snapshot is due");
}

/// Saves all pieces; the file, and its position.
fn save_all(world: &mut World) -> (Gsn, Vec<u8>) {
    let mut file = Vec::new();
    loop {
        let (gsn, bytes, last) = world.answer_piece(0, Ok(()));
        file.extend_from_slice(&bytes);
        if last {
            assert_eq!(world.piece(0), None);
            return (gsn, file);
        }
    }
}

fn restored(file: &[u8], second_newest: Option<Gsn>) -> Restored {
    let mut loader = Loader::new(ClusterId(0));
    loader.push(file).expect("a good file");
    Restored::from_snapshot(loader.finish().expect("a good file"), second_newest)
}

#[test]
pub(super) fn a_node_that_starts_from_a_snapshot_is_the_same_as_one_that_has_applied_everything() {
    let (mut world, client) = world();
    until_due(&mut world, client, 0);
    let (gsn, file) = save_all(&mut world);
    world.call(client, 1, &set("/r0-0", b"later"));
    world.call(client, 1, &delete("/r0-1"));
    let fresh = restored(&file, None);
    assert_eq!((fresh.newest, fresh.state.applied()), (Some(gsn), gsn));
    let second = world.start_from(1000, fresh);
    assert!(world.is_ready(second));
    assert_eq!(world.hash(second), world.hash(0));
    assert_eq!(world.node(second).status().snapshot, Some(gsn));
    let (other, _) = world.connect(second);
    assert_eq!(world.call(other, 1, &get("/r0-0", false)).data(), b"later");
    world.call(other, 2, &create("/by-second", 0));
    assert_eq!(world.call(client, 2, &get("/by-second", false)).data(), b"new");
    assert_eq!(world.hash(second), world.hash(0));
}

#[test]
pub(super) fn sessions_that_a_snapshot_holds_live_on_or_expire() {
    let (mut world, client) = world();
    let (silent, _) = world.connect(0);
    world.call(silent, 1, &create("/ephemeral", 1));
    until_due(&mut world, client, 0);
    let (_, file) = save_all(&mut world);
    world.kill(0);
    let node = world.start_from(1000, restored(&file, None));
    assert_eq!(world.node(node).status().sessions, 2);
    let (watcher, _) = world.connect(node);
    assert_eq!(world.call(watcher, 1, &get("/ephemeral", false)).data(), b"new");
    world.advance_pinging(7000 * MS, &[watcher]);
    assert_eq!(world.node(node).status().sessions, 1, "the others' timeout is over");
    assert_eq!(world.node(node).status().ephemerals, 0);
}

#[test]
pub(super) fn the_log_is_let_go_before_the_second_newest_good_snapshot() {
    let (mut world, client) = world();
    let mut saved = Vec::new();
    for round in 0..4 {
        until_due(&mut world, client, round);
        saved.push(save_all(&mut world));
        let second_newest = saved.iter().rev().nth(1).map_or(Gsn(0), |s| s.0);
        assert_eq!(world.node(0).log().released, second_newest);
    }
    let (newest, second) = (saved[3].0, saved[2].0);
    let node = world.start_from(1000, restored(&saved[3].1, Some(second)));
    assert_eq!(world.node(node).log().released, second, "what was good before the start counts");
    assert_eq!(world.node(node).status().snapshot, Some(newest));
    let alone = world.start_from(1000, restored(&saved[3].1, None));
    assert_eq!(world.node(alone).log().released, Gsn(0), "one is none");
}

#[test]
pub(super) fn one_is_taken_at_a_time_and_the_next_after_as_many_records_and_bytes() {
    let (mut world, client) = world();
    until_due(&mut world, client, 0);
    let (gsn, ..) = *world.piece(0).expect("a piece");
    for i in 0..12 {
        world.call(client, 1, &create(&format!("/meanwhile{i}"), 0));
        assert_eq!(world.piece(0).map(|p| p.0), Some(gsn));
    }
    let (_, file) = save_all(&mut world);
    assert_eq!(restored(&file, None).state.stat("/meanwhile0").ok(), None, "it is of its position");
    // Twelve were applied meanwhile, more than it takes; but they are shorter than the snapshot.
    let since = |world: &World| world.back(0).snapshots.since;
    assert!(since(&world).0 > 10 && since(&world).1 < file.len() as u64, "{:?}", since(&world));
    let mut before = since(&world);
    for i in 0.. {
        world.call(client, 1, &create(&format!("/behind{i}"), 0));
        if world.piece(0).is_some() {
            break;
        }
        assert!(since(&world).1 < file.len() as u64, "{:?} of {}", since(&world), file.len());
        before = since(&world);
    }
    assert!(before.1 + 500 > file.len() as u64, "{before:?} of {}: it began too early", file.len());
    assert!(world.piece(0).expect("a piece").0 > gsn);
}

#[test]
pub(super) fn many_bytes_make_a_snapshot_due_as_well_and_zeros_none() {
    let (mut world, _) = world();
    (world.cfg.snapshot_records, world.cfg.snapshot_bytes) = (0, 3000);
    let by_bytes = world.start(1000);
    (world.cfg.snapshot_records, world.cfg.snapshot_bytes) = (0, 0);
    let never = world.start(1000);
    let (client, _) = world.connect(never);
    for i in 0..60 {
        world.call(client, 1, &create(&format!("/n{i}"), 0));
    }
    assert!(world.piece(by_bytes).is_some() && world.piece(never).is_none());
}

#[test]
pub(super) fn a_failure_is_told_and_not_repeated_for_a_minute() {
    let (mut world, client) = world();
    until_due(&mut world, client, 0);
    let before = world.notes(0).len();
    let (gsn, ..) = world.answer_piece(0, Err("no room".into()));
    let note = world.notes(0)[before..].join("\n");
    assert!(note.contains(&format!("no snapshot was taken at {gsn}: no room")), "{note}");
    let failed_at = world.now;
    while world.now < Instant(failed_at.0 + 59_000_000_000) {
        world.advance_pinging(1000 * MS, &[client]);
        world.call_through_pongs(client, &set("/r0-0", b"x"));
        assert_eq!(world.piece(0), None);
    }
    world.advance_pinging(2000 * MS, &[client]);
    let (later, file) = save_all(&mut world);
    assert!(later > gsn && restored(&file, None).state.applied() == later);
    assert_eq!(world.node(0).log().released, Gsn(0), "the one that failed doesn't count");
}

#[test]
pub(super) fn a_gap_in_the_log_ends_the_node_and_names_the_cure() {
    let (mut world, _) = world();
    world.kill(0);
    let gap = LogEvent::Gap { from: Gsn(1), until: Gsn(9) };
    world.hub.borrow_mut().gap = Some(gap);
    world.start(1000);
    let why = world.failed(1).expect("it can't go on");
    assert!(
        why.contains("from 1 to 9 was trimmed") && why.contains("copy DIR/snapshots of another"),
        "{why}"
    );
}
