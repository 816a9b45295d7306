//! Nodes whose state is not what the log says are found; records that can't be applied are survived.

use super::world::{World, create, exists, get, set};
use crate::snapshot::{Beware, Restored};
use crate::state::apply::PANICS_AT;
use crate::state::{State, encode};
use crate::txn::{Op, Txn};
use std::time::Duration;
use zoolog_core::{Gsn, WallMs};

const S: Duration = Duration::from_secs(1);

/// What [`World::flip_a_bit`] makes of this: an honest change of a node that no record has asked for.
const HONEST: u64 = 4;
/// A bit of the ctime of the fifth node: the first that a test makes, here `/a`.
const CTIME_OF_A: u64 = 3 + 5 * 4;

fn record(op: Op) -> Vec<u8> {
    encode(&Txn { session: 0, attach: 0, wall: WallMs(0), ids: Vec::new(), op })
}

/// Nodes that serve, a client of each, and `/a`.
fn world(nodes: usize) -> (World, Vec<usize>) {
    let mut world = World::new(0);
    world.cfg.check_pass = 3600 * S;
    (0..nodes).for_each(|id| {
        world.cfg.id = id as u32;
        world.start(1000);
    });
    let clients: Vec<usize> = (0..nodes).map(|node| world.connect(node).0).collect();
    world.call(clients[0], 1, &create("/a", 0));
    (world, clients)
}

/// Some writes, and time for marks.
fn goes_on(world: &mut World, clients: &[usize], seconds: u32) {
    for _ in 0..seconds {
        let alive: Vec<usize> = clients.iter().copied().filter(|c| !world.is_closed(*c)).collect();
        if let Some(client) = alive.first() {
            world.call_through_pongs(*client, &set("/a", b"more"));
        }
        world.advance_pinging(S, &alive);
    }
}

/// A node with the state that the log gives, started as its owner would after a life that ended so.
fn again(world: &mut World, id: u32, beware: Beware) -> usize {
    world.cfg.id = id;
    let look_ahead = beware.command.is_some();
    world.start_from(1000, Restored { look_ahead, ..Restored::default() })
}

#[test]
fn a_record_that_cannot_be_decoded_is_rejected_on_every_node_and_named_once() {
    let (mut world, clients) = world(2);
    let mut damaged = record(Op::Delete { path: "/a".into(), version: -1 });
    damaged.truncate(damaged.len() - 8);
    let newer = [&[2u8, 0, 0, 0, 0, 0, 0, 0][..], b"who knows"].concat();
    let at: Vec<Gsn> =
        [&damaged[..], &newer, b"x", b"a record of somebody else"].map(|r| world.append(r)).to_vec();
    world.call(clients[0], 2, &set("/a", b"later"));
    assert_eq!(world.call(clients[1], 1, &get("/a", false)).data(), b"later");
    assert_eq!(world.hash(0), world.hash(1));
    for node in [0, 1] {
        assert_eq!(world.failed(node), None);
        for (gsn, why) in at.iter().zip(["can't be decoded", "version 2", "too short", "something else's"]) {
            let named = format!("the record at {gsn} (");
            let lines: Vec<_> = world.notes(node).iter().filter(|n| n.contains(&named)).collect();
            assert!(lines.len() == 1 && lines[0].contains(why), "{gsn}: {lines:?}");
        }
    }
}

#[test]
fn of_many_rejected_records_only_some_are_named() {
    let (mut world, _) = world(1);
    for _ in 0..100 {
        world.append(b"nonsense");
    }
    let named = world.notes(0).iter().filter(|n| n.contains("is rejected")).count();
    assert_eq!(named, 16 + 2, "the first 16, the 32nd and the 64th");
}

#[test]
fn a_record_on_which_applying_panics_ends_every_node_at_every_start_until_it_is_passed_over() {
    let (mut world, clients) = world(2);
    let bad = world.hub.borrow().tail();
    PANICS_AT.set(Some(bad));
    world.send(clients[0], 5, &set("/a", b"bad"));
    for node in [0, 1] {
        let why = world.failed(node).expect("it has ended");
        assert!(why.contains(&format!("record at {bad} panicked")), "{why}");
        assert!(why.contains(&format!("zoolog admin skip {bad}")), "{why}");
        assert!(world.is_closed(clients[node]), "nobody is served by half of a state");
        assert_eq!(world.beware(node), Beware { upto: None, command: Some(bad) });
        world.kill(node);
    }
    // Who starts again looks for a skip, finds none, and comes there again.
    let third = again(&mut world, 0, Beware { upto: None, command: Some(bad) });
    assert!(world.failed(third).expect("it has ended again").contains(&format!("record at {bad} panicked")));
    world.kill(third);
    let by = world.append(&record(Op::Skip { gsn: bad.0 }));
    let nodes = [0, 1].map(|id| again(&mut world, id, Beware { upto: None, command: Some(bad) }));
    // One that was never told to look ends there, and is told then.
    let fresh = again(&mut world, 2, Beware::default());
    assert_eq!(world.beware(fresh), Beware { upto: None, command: Some(bad) });
    for node in nodes {
        assert!(world.is_ready(node), "{:?}", world.failed(node));
        assert!(world.node(node).state().has_skipped(bad));
        let note = format!("the record at {bad} is passed over");
        assert!(world.notes(node).iter().any(|n| n.contains(&note)), "said at {by}");
    }
    assert_eq!(world.hash(nodes[0]), world.hash(nodes[1]));
    let (client, _) = world.connect(nodes[0]);
    assert_eq!(world.call(client, 1, &get("/a", false)).data(), b"new", "it did nothing");
    PANICS_AT.set(None);
}

#[test]
fn a_node_that_is_told_to_writes_down_what_is_passed_over_and_others_find_it() {
    let (mut world, clients) = world(1);
    let bad = world.hub.borrow().tail();
    PANICS_AT.set(Some(bad));
    world.send(clients[0], 5, &set("/a", b"bad"));
    world.kill(0);
    world.cfg.skip.insert(bad);
    let first = again(&mut world, 0, Beware::default());
    assert!(world.is_ready(first), "{:?}", world.failed(first));
    let tail = world.hub.borrow().tail();
    assert_eq!(tail, bad.plus(2), "the bad one, and what says so");
    // Once more: it is there already.
    world.kill(first);
    let second = again(&mut world, 0, Beware::default());
    assert!(world.is_ready(second));
    assert_eq!(world.hub.borrow().tail(), tail);
    world.cfg.skip.clear();
    let other = again(&mut world, 1, Beware { upto: None, command: Some(bad) });
    assert!(world.is_ready(other));
    assert_eq!(world.hash(second), world.hash(other));
    PANICS_AT.set(None);
}

#[test]
fn who_has_applied_what_others_pass_over_goes_back_before_it() {
    let (mut world, clients) = world(2);
    let bad = world.hub.borrow().tail();
    world.call(clients[0], 5, &set("/a", b"bad"));
    world.append(&record(Op::Skip { gsn: bad.0 }));
    for node in [0, 1] {
        let why = world.failed(node).expect("it has ended");
        assert!(why.contains(&format!("goes back before {bad}")), "{why}");
        assert_eq!(world.beware(node), Beware { upto: None, command: Some(bad) });
    }
    let beware = world.beware(0);
    let node = again(&mut world, 0, beware);
    assert!(world.is_ready(node));
    let (client, _) = world.connect(node);
    assert_eq!(world.call(client, 1, &get("/a", false)).data(), b"new");
}

#[test]
fn a_skip_of_what_lies_behind_it_says_nothing() {
    let (mut world, clients) = world(1);
    let later = world.hub.borrow().tail().plus(3);
    world.append(&record(Op::Skip { gsn: later.0 }));
    for i in 0..5 {
        world.call(clients[0], 10 + i, &set("/a", b"x"));
    }
    assert_eq!(world.failed(0), None);
    let node = again(&mut world, 1, Beware { upto: None, command: Some(Gsn(0)) });
    assert!(world.is_ready(node));
    assert_eq!(world.hash(0), world.hash(node));
}

#[test]
fn nodes_that_agree_go_on_and_an_idle_log_gets_no_marks() {
    let (mut world, clients) = world(3);
    goes_on(&mut world, &clients, 40);
    for node in 0..3 {
        assert_eq!(world.failed(node), None);
        assert!(world.back(node).agreed() > Some(Gsn(0)), "marks came, and all had the same");
        assert!(!world.notes(node).iter().any(|n| n.contains("another")), "{:?}", world.notes(node));
    }
    clients.iter().for_each(|client| world.hang_up(*client));
    world.advance(60 * S);
    let tail = world.hub.borrow().tail();
    world.advance(600 * S);
    assert_eq!(world.hub.borrow().tail(), tail, "nothing happens, so nothing is said");
}

#[test]
fn one_of_three_that_differs_stops_and_says_since_when() {
    let (mut world, clients) = world(3);
    goes_on(&mut world, &clients, 25);
    let agreed = world.back(1).agreed().expect("a mark");
    world.flip_a_bit(1, HONEST);
    let begun = world.hub.borrow().tail();
    goes_on(&mut world, &clients, 25);
    let why = world.failed(1).expect("it has stopped");
    assert!(why.contains("most nodes have another state") && why.contains("ZK-5"), "{why}");
    assert!(world.is_closed(clients[1]));
    let upto = world.beware(1).upto.expect("what is good");
    assert!(upto >= agreed.next() && upto <= begun, "{agreed} {upto} {begun}");
    for node in [0, 2] {
        assert_eq!(world.failed(node), None);
        assert!(!world.is_closed(clients[node]));
    }
    // From the log it has the right state, and reads what it once said without ending.
    world.kill(1);
    world.cfg.id = 1;
    let outline = world.outline(1).expect("of the state with which it ended");
    assert_eq!(outline.to_string().parse(), Ok(outline.clone()));
    let node = world.start_from(1000, Restored { outline: Some(outline), ..Restored::default() });
    assert!(world.is_ready(node));
    assert!(world.notes(node).iter().any(|n| n.ends_with("differed in: /")), "{:?}", world.notes(node));
    goes_on(&mut world, &clients, 25);
    assert_eq!((world.failed(node), world.hash(node)), (None, world.hash(0)));
}

#[test]
fn of_two_that_differ_both_stop_and_rebuild_themselves() {
    let (mut world, clients) = world(2);
    world.flip_a_bit(0, HONEST);
    goes_on(&mut world, &clients, 30);
    for node in [0, 1] {
        assert!(world.failed(node).expect("it has stopped").contains("nobody can tell"));
        world.kill(node);
    }
    let nodes = [0, 1].map(|id| again(&mut world, id, Beware::default()));
    let clients = nodes.map(|node| world.connect(node).0);
    goes_on(&mut world, &clients, 30);
    for node in nodes {
        assert_eq!(world.failed(node), None);
    }
    assert_eq!(world.hash(nodes[0]), world.hash(nodes[1]));
}

#[test]
fn of_two_that_differ_the_one_whose_memory_is_damaged_stops_alone() {
    let (mut world, clients) = world(2);
    let what = world.flip_a_bit(0, CTIME_OF_A);
    assert!(what.contains("/a"), "{what}");
    // It shows once the node changes.
    goes_on(&mut world, &clients, 30);
    let why = world.failed(0).expect("it has stopped");
    assert!(why.contains("memory is damaged"), "{why}");
    assert_eq!(world.beware(0), Beware::default(), "snapshots say for themselves whether they are good");
    assert_eq!(world.failed(1), None, "{:?}", world.notes(1));
    goes_on(&mut world, &clients, 30);
    assert_eq!(world.failed(1), None);
}

#[test]
fn a_lone_node_finds_what_changed_in_its_memory_though_nobody_uses_it() {
    for choice in [1, 2, 3] {
        let mut world = World::new(0);
        world.cfg.check_pass = 60 * S;
        world.start(1000);
        let (client, _) = world.connect(0);
        world.call(client, 1, &create("/a", 0));
        world.advance_pinging(130 * S, &[client]);
        assert!(world.back(0).scrub_passes() >= 2);
        assert_eq!(world.failed(0), None);
        let what = world.flip_a_bit(0, choice + 5 * 4);
        assert_eq!(world.call_through_pongs(client, &exists("/", false)), 0, "nobody sees it");
        world.advance_pinging(61 * S, &[client]);
        assert!(world.failed(0).is_some_and(|why| why.contains("damaged")), "{what}");
        assert!(world.is_closed(client));
    }
}

#[test]
fn damaged_memory_never_becomes_a_snapshot() {
    // Data of a node, too: what is saved is not what was stored.
    for choice in [0, 1, 2, 3] {
        let mut world = World::new(0);
        (world.cfg.snapshot_records, world.cfg.check_pass) = (10, 3600 * S);
        world.start(1000);
        let (client, _) = world.connect(0);
        world.call(client, 1, &create("/a", 0));
        world.flip_a_bit(0, choice + 5 * 4);
        for i in 0..20 {
            world.send(client, 2 + i, &create(&format!("/b{i}"), 0));
        }
        assert!(world.failed(0).is_some_and(|why| why.contains("damaged")), "choice {choice}");
        assert_eq!(world.piece(0), None);
    }
}

#[test]
fn what_a_state_has_passed_over_is_in_its_snapshot() {
    use crate::snapshot::{Loader, Pace, Taking};
    let mut state = State::new();
    let mut changes = Vec::new();
    state.apply(Gsn(0), &record(Op::Nothing), &mut changes);
    state.pass_over(Gsn(1));
    state.apply(Gsn(2), &record(Op::Nothing), &mut changes);
    let mut taking = Taking::begin(&mut state, zoolog_core::ClusterId(1), Pace::default());
    let (bytes, last) = taking.next(&mut state);
    assert!(last && taking.damage().is_none());
    let mut loader = Loader::new(zoolog_core::ClusterId(1));
    loader.push(&bytes).expect("good");
    let back = loader.finish().expect("good");
    assert_eq!((back.has_skipped(Gsn(1)), back.has_skipped(Gsn(2))), (true, false));
    assert_eq!(back.hash(), state.hash());
    // One that lies behind it has gone by before; one that has it, may be used all the same.
    let beware = Beware { upto: None, command: Some(Gsn(1)) };
    assert!(beware.permits(Gsn(3), |gsn| back.has_skipped(gsn)) && beware.permits(Gsn(1), |_| false));
    assert!(!beware.permits(Gsn(3), |_| false));
    assert!(!Beware { upto: Some(Gsn(2)), command: None }.permits(Gsn(3), |_| true));
}

#[test]
fn what_a_life_ended_with_comes_back_from_its_file() {
    let text = Beware { upto: Some(Gsn(7)), command: Some(Gsn(9)) }.to_string();
    assert_eq!(text.parse(), Ok(Beware { upto: Some(Gsn(7)), command: Some(Gsn(9)) }));
    assert_eq!("".parse(), Ok(Beware::default()));
}
