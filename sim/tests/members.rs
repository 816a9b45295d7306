//! Orderers come and go while records are written: each step of a change struck by each fault, on calm worlds in which
//! nothing else happens. Each also asserts that the situation it is about really came up.

mod common;

use common::{ends_well, run_for};
use std::collections::BTreeSet;
use std::time::Duration;
use zoolog_core::wire::{NewOrderer, OrdererChange};
use zoolog_core::{Instant, OrdererId};
use zoolog_sim::cluster::{self, roles};
use zoolog_sim::disk::Disk;
use zoolog_sim::node::Role;
use zoolog_sim::options::Options;
use zoolog_sim::schedule::{Event, NodeId};
use zoolog_sim::trace::TraceMode;
use zoolog_sim::work::operator::Operator;
use zoolog_sim::world::World;

const MS: Duration = Duration::from_millis(1);
/// The operator begins.
const BEGIN: Instant = Instant(1_200_000_000);

fn addr(n: u64) -> String {
    Role::Orderer(n).addr()
}

fn add(n: u64, replaces: Option<u64>) -> OrdererChange {
    OrdererChange::Add(NewOrderer { id: OrdererId(n), addr: addr(n), replaces: replaces.map(OrdererId) })
}

/// Three orderers, `joiners` more that wait, two servers, writers and a reader, and an operator with this script. Under
/// way: it is just before the operator begins.
fn world(seed: u64, joiners: u32, script: Vec<OrdererChange>) -> World {
    let mut o = Options::calm(seed);
    (o.orderers, o.joiners, o.servers, o.shards, o.replicas) = (3, joiners, 2, 1, 2);
    (o.zk, o.zk_clients, o.writers, o.readers) = (0, 0, 2, 1);
    (o.small_caches, o.fault_phase, o.write_every) = (false, 8_000 * MS, 5 * MS);
    let mut all = roles(&o);
    all.push(Role::Operator);
    let mut world = World::new(o, &all, TraceMode::Collect);
    world.builder = Box::new(move |birth| match birth.role {
        Role::Operator => {
            let addrs = (1..=u64::from(3 + joiners)).map(addr).collect();
            Ok(Box::new(Operator::scripted(addrs, birth.seed, BEGIN.max(birth.now), script.clone())))
        }
        _ => cluster::build(birth),
    });
    world.start_all();
    world.run_until(BEGIN);
    assert!(world.checks.durability.count() > 10, "the world does not get under way: {:?}", world.violation);
    world
}

fn orderer(world: &World, n: u64) -> NodeId {
    world.node(Role::Orderer(n))
}

fn leader(world: &World) -> NodeId {
    world.checks.cuts.leader().expect("a leader that announced a cut")
}

/// Whether some line of the trace from `start` on has all of these words.
fn traced(world: &World, start: usize, words: &[&str]) -> bool {
    world.trace.text()[start..].lines().any(|l| words.iter().all(|w| l.contains(w)))
}

/// Runs until the trace has such a line, to a tenth of a millisecond.
fn run_to(world: &mut World, start: usize, words: &[&str]) {
    let (end, mut seen) = (world.now() + 5_000 * MS, start);
    while !traced(world, seen, words) {
        assert!(world.now() < end, "seed {}: never {words:?}", world.options.seed);
        seen = world.trace.text().len();
        run_for(world, MS / 10);
    }
}

/// Runs until that many changes were decided.
fn decided(world: &mut World, n: u64) {
    let done = world.run_while(10_000 * MS, |w| w.checks.decided >= n);
    assert!(
        done,
        "seed {}: {} of {n} changes, {:?}",
        world.options.seed, world.checks.decided, world.violation
    );
}

/// Appends are acknowledged.
fn goes_on(world: &mut World) {
    let acks = world.checks.durability.count();
    let goes = world.run_while(2_000 * MS, |w| w.checks.durability.count() > acks + 3);
    assert!(goes, "seed {}: appends stand, {:?}", world.options.seed, world.violation);
}

#[test]
fn all_first_orderers_are_replaced_under_load_and_nobody_loses_them() {
    for seed in 1..4 {
        let script = (1..=3).map(|old| add(old + 3, Some(old))).collect();
        let mut world = world(seed, 3, script);
        decided(&mut world, 3);
        for old in 1..=3 {
            run_to(&mut world, 0, &[&format!("order-{old} "), "Dismissed {"]);
            let id = orderer(&world, old);
            world.crash(id);
        }
        goes_on(&mut world);
        // Everybody must find the next leader among those that came later.
        let old = leader(&world);
        world.crash_for(old, 2_000 * MS);
        goes_on(&mut world);
        ends_well(&mut world);
    }
}

/// Crash at each step: the new one learns, the set is joint, the old one is out, and the leader, the new or the old one
/// dies in that moment.
#[test]
fn whoever_dies_at_whichever_step_the_order_goes_on() {
    let steps: [&[&str]; 4] = [
        &["MembersChanged", "(4, Learner)"],
        &["MembersChanged", "(2, Leaving)"],
        &["MembersChanged", "[(1, Voter), (3, Voter), (4, Voter)]"],
        &["order-2 ", "Dismissed {"],
    ];
    for (i, step) in steps.iter().enumerate() {
        for victim in 0..3u64 {
            let mut world = world(1 + i as u64 * 3 + victim, 1, vec![add(4, Some(2))]);
            run_to(&mut world, 0, step);
            let id = match victim {
                0 => leader(&world),
                1 => orderer(&world, 4),
                _ => orderer(&world, 2),
            };
            world.crash_for(id, (50 + 100 * victim as u32) * MS);
            goes_on(&mut world);
            decided(&mut world, 1);
            run_to(&mut world, 0, &["order-2 ", "Dismissed {"]);
            ends_well(&mut world);
        }
    }
}

/// The leader dies between proposing the change and its being committed: it is made by the next one, or not at all, and
/// asked for again.
#[test]
fn a_change_that_was_proposed_and_not_committed_leaves_no_half_member() {
    for seed in 1..6 {
        let mut world = world(seed, 1, vec![add(4, None)]);
        let old = leader(&world);
        let others: BTreeSet<(NodeId, NodeId)> =
            (1..=3).map(|n| orderer(&world, n)).filter(|o| *o != old).map(|o| (old, o)).collect();
        let partition = world.network.block(others);
        let start = world.trace.text().len();
        let name = world.nodes[old.0].name.clone();
        run_to(&mut world, start, &[&name, "<- operator", "ChangeOrderers"]);
        run_for(&mut world, 30 * MS);
        assert_eq!(world.checks.decided, 0, "decided without a quorum");
        world.crash_for(old, 500 * MS);
        world.network.heal(&mut world.schedule, partition);
        decided(&mut world, 1);
        goes_on(&mut world);
        run_to(&mut world, 0, &["MembersChanged", "(4, Voter)"]);
        ends_well(&mut world);
    }
}

/// The snapshot gets lost on its way to the learner, or comes when nobody is there any more.
#[test]
fn a_learner_whose_snapshot_is_lost_gets_another() {
    for seed in 1..6 {
        let mut world = world(seed, 1, vec![add(4, None)]);
        let (new, name) = (orderer(&world, 4), "order-4 ");
        run_to(&mut world, 0, &["MembersChanged", "(4, Learner)"]);
        let mut cuts = 0;
        for _ in 0..6 {
            let from = leader(&world);
            let to_new = world.network.links_between(from, new);
            for link in to_new {
                world.network.break_link(&mut world.schedule, link, MS);
                cuts += 1;
            }
            run_for(&mut world, 7 * MS);
        }
        assert!(cuts > 0, "no connection was cut");
        world.crash_for(new, 20 * MS);
        run_to(&mut world, 0, &[name, "CaughtUp"]);
        run_to(&mut world, 0, &["MembersChanged", "(4, Voter)"]);
        ends_well(&mut world);
    }
}

/// LOG-2: two of three are away: nothing is ordered, nothing acknowledged, and afterwards nothing is missing.
#[test]
fn without_a_majority_of_orderers_cuts_stop_and_nothing_is_lost() {
    let mut world = world(7, 0, vec![]);
    let old = leader(&world);
    let others: Vec<NodeId> = (1..=3).map(|n| orderer(&world, n)).filter(|o| *o != old).collect();
    for id in &others {
        world.crash(*id);
        world.nodes[id.0].held_down = true;
    }
    run_for(&mut world, 20 * MS);
    let (acks, cuts) = (world.checks.durability.count(), world.checks.cuts.count());
    run_for(&mut world, 1_500 * MS);
    assert_eq!((world.checks.durability.count(), world.checks.cuts.count()), (acks, cuts));
    ends_well(&mut world);
    assert!(world.checks.durability.count() > acks);
}

/// An orderer whose disk was emptied has no voice under its old id; one under a new id takes its place.
#[test]
fn an_orderer_that_lost_its_disk_is_dismissed_and_replaced() {
    for seed in 1..4 {
        let mut world = world(seed, 1, vec![add(4, Some(2))]);
        let lost = orderer(&world, 2);
        world.crash(lost);
        world.nodes[lost.0].disk = Disk::new(256 << 10);
        let start = world.trace.text().len();
        world.schedule.after(10 * MS, Event::Start(lost));
        run_to(&mut world, start, &["order-2 ", "Dismissed {"]);
        goes_on(&mut world);
        decided(&mut world, 1);
        run_to(&mut world, start, &["MembersChanged", "[(1, Voter), (3, Voter), (4, Voter)]"]);
        ends_well(&mut world);
    }
}

/// What only the leader and the lost disk held, committed: the lost one must not elect somebody who lacks it.
#[test]
fn an_emptied_orderer_elects_nobody_who_lags() {
    for seed in 1..4 {
        let mut world = world(seed, 0, vec![]);
        let first = leader(&world);
        let rest: Vec<NodeId> = (1..=3).map(|n| orderer(&world, n)).filter(|o| *o != first).collect();
        let [lags, lost] = rest[..] else { panic!("three orderers") };
        let around = world.around_node(lags);
        let partition = world.network.block(around);
        run_for(&mut world, 500 * MS);
        for id in [first, lost] {
            world.crash(id);
        }
        world.nodes[first.0].held_down = true;
        world.nodes[lost.0].disk = Disk::new(256 << 10);
        world.network.heal(&mut world.schedule, partition);
        let (start, cuts) = (world.trace.text().len(), world.checks.cuts.count());
        world.schedule.after(10 * MS, Event::Start(lost));
        run_to(&mut world, start, &["Dismissed {"]);
        run_for(&mut world, 1_500 * MS);
        assert!(!traced(&world, start, &["BecameLeader"]), "seed {seed}: elected by an empty disk");
        assert_eq!(world.checks.cuts.count(), cuts);
        ends_well(&mut world);
    }
}

/// A leader's process is killed: its connections end at once, and after half a second at most appends are acknowledged
/// again. Handing over takes a fraction of that.
#[test]
fn a_killed_leader_is_missed_for_half_a_second_at_most() {
    let mut gaps = Vec::new();
    for seed in 1..21 {
        let mut world = world(seed, 0, vec![]);
        run_for(&mut world, 1_000 * MS);
        let (old, acks, from) = (leader(&world), world.checks.durability.count(), world.now());
        world.crash_noticed(old, MS);
        run_for(&mut world, 10 * MS);
        let acks = acks.max(world.checks.durability.count());
        while world.checks.durability.count() == acks {
            run_for(&mut world, MS);
            assert!(world.now() < from + 5_000 * MS, "seed {seed}: appends stand");
        }
        gaps.push(world.now().since(from).as_millis());
    }
    assert!(
        gaps.iter().all(|ms| (50..=500).contains(ms)),
        "milliseconds without an acknowledgement: {gaps:?}"
    );
    eprintln!("{gaps:?}");
}
