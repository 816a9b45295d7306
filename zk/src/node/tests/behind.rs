//! A node that has lost its place in the log, or is told that its state is good for nothing: it gets another's snapshot, by
//! itself, and nobody is served meanwhile.

use super::world::{MS, World, create, get, set};
use crate::snapshot::{Loader, Restored};
use zoolog_client::LogEvent;
use zoolog_core::{ClusterId, Gsn, WriterId};

/// Node 0 with some nodes in its tree, a client of it, and a snapshot of then; more was written since.
fn world() -> (World, usize, Gsn, Vec<u8>) {
    let mut world = World::new(0);
    world.cfg.snapshot_records = 10;
    world.start(1000);
    let (client, _) = world.connect(0);
    for i in 0..10 {
        world.call(client, 1, &create(&format!("/n{i}"), 0));
    }
    let (gsn, file) = world.save_all(0).expect("a snapshot is due");
    world.cfg.snapshot_records = 0;
    world.call(client, 2, &set("/n3", b"later"));
    world.call(client, 2, &create("/mine", 1));
    (world, client, gsn, file)
}

/// The next node that asks the log is told that it begins at `until`.
fn gap(world: &mut World, until: Gsn) {
    world.hub.borrow_mut().gap = Some(LogEvent::Gap { from: Gsn(0), until });
}

/// All is saved, and the node serves.
fn gets_it(world: &mut World, node: usize, gsn: Gsn, file: &[u8]) {
    let mut saved = None;
    for _ in 0..100 {
        saved = world.save_all(node).or(saved);
        world.advance(10 * MS);
        if saved.is_some() && world.node(node).status().serving {
            break;
        }
    }
    assert_eq!(saved, Some((gsn, file.to_vec())), "it is on its disk, byte for byte");
    let status = world.node(node).status();
    assert!(status.serving && status.snapshot == Some(gsn), "{status} {:?}", world.notes(node));
}

/// A node that has played the log from its beginning has the same state.
fn is_like_a_new_one(world: &mut World, node: usize) {
    let fresh = world.start(1000);
    assert!(world.is_ready(fresh));
    assert_eq!(world.hash(node), world.hash(fresh));
}

#[test]
pub(super) fn an_empty_node_whose_log_is_trimmed_begins_with_anothers_snapshot() {
    let (mut world, client, gsn, file) = world();
    world.give(gsn, &file);
    world.hub.borrow_mut().gap_of = Some(WriterId(2));
    gap(&mut world, gsn);
    let node = world.start(1000);
    assert!(!world.is_ready(node), "nothing is served from nothing");
    gets_it(&mut world, node, gsn, &file);
    assert!(world.is_ready(node));
    assert_eq!(world.given(), file.len() as u64, "once");
    assert_eq!(world.hash(node), world.hash(0));
    let (other, _) = world.connect(node);
    assert_eq!(world.call(other, 1, &get("/n3", false)).data(), b"later");
    world.call(other, 2, &create("/by-other", 0));
    assert_eq!(world.call(client, 3, &get("/by-other", false)).data(), b"new");
    assert_eq!(world.node(node).log().released, Gsn(0), "one snapshot lets go of nothing");
}

#[test]
pub(super) fn a_node_that_falls_behind_leaves_its_clients_and_goes_on_from_anothers_snapshot() {
    let (mut world, _, gsn, file) = world();
    world.kill(0);
    let node = world.start(1000);
    let (client, session) = world.connect(node);
    world.call(client, 1, &create("/ephemeral", 1));
    world.call(client, 2, &get("/n3", true));
    world.give(gsn, &file);
    gap(&mut world, gsn);
    world.run();
    assert!(world.is_closed(client), "it can't be answered for any more");
    let status = world.node(node).status();
    assert!(!status.serving && status.znodes < 8, "what it knew is forgotten: {status}");
    let waiting = world.dial(node);
    assert!(!world.is_closed(waiting));
    gets_it(&mut world, node, gsn, &file);
    assert!(world.notes(node).iter().any(|n| n.contains("serving again")), "{:?}", world.notes(node));
    is_like_a_new_one(&mut world, node);
    // The session is as alive as it was, and so is what belongs to it.
    let again = world.ask(node, 0, 4000, Some(&session));
    assert!(!world.answer(again).expect("an answer").is_refusal());
    assert_eq!(world.call(again, 1, &get("/ephemeral", false)).data(), b"new");
    world.advance_pinging(8000 * MS, &[again]);
    assert_eq!(world.node(node).status().sessions, 1, "others were silent, this one was not");
    is_like_a_new_one(&mut world, node);
}

#[test]
pub(super) fn what_it_had_in_the_logs_hands_counts_and_is_answered_to_nobody() {
    let (mut world, _, gsn, file) = world();
    world.kill(0);
    let node = world.start(1000);
    let (client, _) = world.connect(node);
    world.hub.borrow_mut().hold = true;
    world.send(client, 1, &create("/in-flight", 0));
    world.send(client, 2, &create("/in-flight-too", 0));
    world.give(gsn, &file);
    gap(&mut world, gsn);
    world.run();
    assert!(world.is_closed(client) && world.got(client).is_empty());
    world.hub.borrow_mut().hold = false;
    world.run();
    gets_it(&mut world, node, gsn, &file);
    let (other, _) = world.connect(node);
    assert_eq!(world.call(other, 1, &get("/in-flight", false)).data(), b"new");
    assert_eq!(world.call(other, 2, &create("/after", 0)).path(), "/after");
    is_like_a_new_one(&mut world, node);
}

#[test]
pub(super) fn a_snapshot_that_it_was_taking_is_given_up() {
    let (mut world, _, gsn, file) = world();
    world.kill(0);
    world.cfg.snapshot_records = 5;
    let node = world.start(1000);
    let own = world.piece(node).expect("one is due").0;
    world.give(gsn, &file);
    gap(&mut world, gsn);
    world.run();
    assert_eq!(world.piece(node).map(|p| p.0), Some(own), "the disk has one piece at a time");
    world.answer_piece(node, Ok(()));
    gets_it(&mut world, node, gsn, &file);
    is_like_a_new_one(&mut world, node);
}

#[test]
pub(super) fn without_an_offer_it_waits_and_serves_nobody() {
    let (mut world, _, gsn, file) = world();
    world.kill(0);
    world.hub.borrow_mut().offers = Some((gsn, Vec::new()));
    gap(&mut world, gsn);
    let node = world.start(1000);
    for _ in 0..30 {
        world.advance(1000 * MS);
        assert!(!world.is_ready(node) && world.failed(node).is_none());
    }
    let told = world.notes(node).iter().filter(|n| n.contains("no other node")).count();
    assert!((1..4).contains(&told), "{:?}", world.notes(node));
    assert!(world.word(node, "srvr").contains("not currently serving"));
    world.give(gsn, &file);
    world.advance(6000 * MS);
    gets_it(&mut world, node, gsn, &file);
    is_like_a_new_one(&mut world, node);
}

#[test]
pub(super) fn a_disk_that_does_not_take_it_is_tried_again() {
    let (mut world, _, gsn, file) = world();
    world.kill(0);
    world.give(gsn, &file);
    gap(&mut world, gsn);
    let node = world.start(1000);
    world.answer_piece(node, Err("no room".into()));
    assert!(world.notes(node).iter().any(|n| n.contains("no room")), "{:?}", world.notes(node));
    world.advance(5000 * MS);
    assert!(world.piece(node).is_none() && !world.is_ready(node));
    world.advance(10_000 * MS);
    gets_it(&mut world, node, gsn, &file);
}

#[test]
pub(super) fn a_node_told_to_rebuild_drops_its_own_and_gets_anothers() {
    let (mut world, _, gsn, file) = world();
    world.kill(0);
    world.give(gsn, &file);
    let mut loader = Loader::new(ClusterId(0));
    loader.push(&file).expect("a good file");
    let restored = Restored::from_snapshot(loader.finish().expect("a good file"), Some(Gsn(1)));
    let node = world.start_from(1000, restored);
    let (client, _) = world.connect(node);
    let before = world.node(node).status();
    world.rebuild(node);
    assert!(world.is_closed(client) && world.has_dropped(node));
    assert_eq!(world.node(node).status().snapshot, None);
    gets_it(&mut world, node, gsn, &file);
    assert!(world.node(node).status().applied >= before.applied, "it serves no less than before");
    is_like_a_new_one(&mut world, node);
}

#[test]
pub(super) fn a_node_told_to_rebuild_plays_a_log_that_is_whole() {
    let (mut world, _, _, _) = world();
    world.kill(0);
    let node = world.start(1000);
    world.hub.borrow_mut().offers = Some((Gsn(0), Vec::new()));
    let (client, session) = world.connect(node);
    world.rebuild(node);
    assert!(world.is_closed(client) && world.has_dropped(node));
    world.advance(10 * MS);
    assert!(world.node(node).status().serving, "{:?}", world.notes(node));
    is_like_a_new_one(&mut world, node);
    let again = world.ask(node, 0, 4000, Some(&session));
    assert!(!world.answer(again).expect("an answer").is_refusal());
}

#[test]
pub(super) fn what_it_has_is_offered() {
    let mut world = World::new(0);
    (world.cfg.snapshot_records, world.cfg.gives_at) = (10, Some("10.0.0.1:2888".into()));
    world.start(1000);
    let (client, _) = world.connect(0);
    assert_eq!(world.node(0).log().offered, None, "there is none yet");
    for i in 0..10 {
        world.call(client, 1, &create(&format!("/n{i}"), 0));
    }
    let (gsn, file) = world.save_all(0).expect("a snapshot is due");
    assert_eq!(world.node(0).log().offered, Some(("10.0.0.1:2888".into(), gsn)));
    let mut loader = Loader::new(ClusterId(0));
    loader.push(&file).expect("a good file");
    let state = loader.finish().expect("a good file");
    let again = world.start_from(1000, Restored::from_snapshot(state, None));
    assert_eq!(world.node(again).log().offered, Some(("10.0.0.1:2888".into(), gsn)));
    // Found by the simulator (seed 201): what came from another was not offered, and that other lost its own.
    world.give(gsn, &file);
    world.hub.borrow_mut().gap_of = Some(WriterId(3));
    gap(&mut world, gsn);
    let third = world.start(1000);
    gets_it(&mut world, third, gsn, &file);
    assert_eq!(world.node(third).log().offered, Some(("10.0.0.1:2888".into(), gsn)));
}

/// The log is whole, and others offer their snapshots all the same.
fn give_though_whole(world: &mut World, gsn: Gsn, file: &[u8]) {
    world.give(gsn, file);
    if let Some((trim, _)) = &mut world.hub.borrow_mut().offers {
        *trim = Gsn(0);
    }
}

#[test]
pub(super) fn an_empty_node_gets_anothers_snapshot_rather_than_play_a_long_log() {
    let (mut world, _, gsn, file) = world();
    give_though_whole(&mut world, gsn, &file);
    world.cfg.bootstrap.log_bytes = 256 * 5;
    let node = world.start(1000);
    assert!(!world.is_ready(node), "it has nothing yet");
    let p = world.node(node).status().bootstrap;
    assert!(p.on && p.of_bytes == file.len() as u64 && p.from == "giver", "{p}");
    gets_it(&mut world, node, gsn, &file);
    assert!(world.is_ready(node));
    assert_eq!(world.given(), file.len() as u64);
    assert_eq!(world.hash(node), world.hash(0));
    let p = world.node(node).status().bootstrap;
    assert_eq!((p.on, p.bytes, p.done), (false, file.len() as u64, 1));
    assert!(world.word(node, "mntr").contains("zk_bootstraps\t1\n"));
}

#[test]
pub(super) fn a_node_with_an_old_state_gets_anothers_snapshot_and_keeps_its_own_until_then() {
    let (mut world, client, gsn, file) = world();
    let old = || Restored::from_snapshot(loader_state(&file), None);
    let (mut newer, mut newer_file) = (gsn, Vec::new());
    for _ in 0..500 {
        world.call(client, 3, &set("/n3", b"much later"));
        if let Some((gsn, file)) = world.save_all(0) {
            (newer, newer_file) = (gsn, file);
        }
        if newer > gsn.plus(50) {
            break;
        }
    }
    assert!(newer > gsn.plus(50));
    give_though_whole(&mut world, newer, &newer_file);
    world.cfg.bootstrap.log_bytes = 256 * 50;
    let node = world.start_from(1000, old());
    let status = world.node(node).status();
    assert!(!status.serving && status.bootstrap.on && status.applied == gsn, "{status}");
    gets_it(&mut world, node, newer, &newer_file);
    world.cfg.bootstrap.log_bytes = 0;
    is_like_a_new_one(&mut world, node);
    // It is not worth it for less.
    world.cfg.bootstrap.log_bytes = 256 * 500;
    let given = world.given();
    let node = world.start_from(1000, old());
    assert!(world.is_ready(node) && world.given() == given);
    world.cfg.bootstrap.log_bytes = 0;
    is_like_a_new_one(&mut world, node);
}

fn loader_state(file: &[u8]) -> crate::state::State {
    let mut loader = Loader::new(ClusterId(0));
    loader.push(file).expect("a good file");
    loader.finish().expect("a good file")
}

#[test]
pub(super) fn a_node_that_could_play_the_log_does_so_when_its_disk_takes_no_snapshot_of_anothers() {
    let (mut world, _, gsn, file) = world();
    give_though_whole(&mut world, gsn, &file);
    world.cfg.bootstrap.log_bytes = 256 * 5;
    let node = world.start(1000);
    assert!(!world.is_ready(node));
    world.answer_piece(node, Err("no room".into()));
    assert!(world.is_ready(node), "{:?}", world.notes(node));
    assert!(world.piece(node).is_none());
    world.cfg.bootstrap.log_bytes = 0;
    is_like_a_new_one(&mut world, node);
}
