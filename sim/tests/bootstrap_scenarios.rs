//! ZooKeeper nodes that lose all they have, or their place in the log, while the log is trimmed: they serve again by
//! themselves, with the state of the others (ZK-5).

mod common;

use common::{ends_well, run_for};
use std::time::Duration;
use zoolog_core::Gsn;
use zoolog_sim::cluster::roles;
use zoolog_sim::node::Role;
use zoolog_sim::options::Options;
use zoolog_sim::schedule::{Event, NodeId};
use zoolog_sim::trace::TraceMode;
use zoolog_sim::world::World;

const MS: Duration = Duration::from_millis(1);

/// Three ZooKeeper nodes that take snapshots often, and three clients.
fn options(seed: u64) -> Options {
    let mut o = Options::calm(seed);
    (o.orderers, o.servers, o.shards, o.replicas) = (3, 2, 1, 2);
    (o.zk, o.zk_clients, o.writers, o.readers, o.trims) = (3, 3, 0, 1, true);
    (o.fault_phase, o.session_timeout_ms, o.snapshot_records) = (20_000 * MS, 1_200, 40);
    (o.request_every, o.request_depth, o.zk_fronts) = (5 * MS, 4, [0, 2][(seed % 2) as usize]);
    o
}

/// The world of these options, with a log that is trimmed already.
fn trimmed(o: Options) -> World {
    let roles = roles(&o);
    let mut world = World::new(o, &roles, TraceMode::Off);
    world.start_all();
    let goes = world.run_while(15_000 * MS, |w| w.checks.trim.point() > Gsn(100));
    assert!(goes, "nothing is trimmed: {:?}", world.violation);
    world
}

fn zk(world: &World, n: u32) -> NodeId {
    world.node(Role::Zk(n))
}

fn serves(world: &World, id: NodeId) -> bool {
    world.nodes[id.0].running.as_ref().is_some_and(|r| r.process.is_serving())
}

/// Waits until a node serves again.
fn is_back(world: &mut World, id: NodeId, seed: u64) {
    let back = world.run_while(60_000 * MS, |w| serves(w, id));
    let told = || {
        let name = &*world.nodes[id.0].name;
        let text = world.trace.text();
        let lines = text.lines().filter(|l| l.contains(name) && l.contains("** Note"));
        lines.rev().take(8).map(String::from).collect::<Vec<_>>().join("\n")
    };
    assert!(back, "seed {seed}: {} doesn't serve: {:?}\n{}", world.nodes[id.0].name, world.violation, told());
}

#[test]
fn a_node_that_lost_everything_serves_again_though_the_log_is_trimmed() {
    for seed in 1..5 {
        let mut world = trimmed(options(seed));
        for n in [2, 3, 1] {
            let id = zk(&world, n);
            assert!(world.wipe(id, 20 * MS), "seed {seed}: another has what it had");
            is_back(&mut world, id, seed);
            run_for(&mut world, 300 * MS);
        }
        assert!(world.fetched >= 3, "seed {seed}: {} snapshots of others", world.fetched);
        ends_well(&mut world);
    }
}

/// Nobody crashes: the node is cut off from the log for longer than that waits for it.
#[test]
fn a_running_node_whose_place_was_trimmed_serves_again_in_the_same_life() {
    for seed in 1..4 {
        let mut world = trimmed(Options {
            consumer_max_age: Some(1_000 * MS),
            fault_phase: 30_000 * MS,
            ..options(seed)
        });
        let id = zk(&world, 2);
        let (life, fetched) = (world.nodes[id.0].life, world.fetched);
        let around = world.around_node(id);
        for link in world.network.links_across(&around) {
            world.network.break_link(&mut world.schedule, link, 20 * MS);
        }
        let partition = world.network.block(around);
        let before = world.checks.convergence.applied(id);
        let gone = world.run_while(20_000 * MS, |w| w.checks.trim.point() > before.plus(50));
        assert!(gone, "seed {seed}: it is waited for: {:?}", world.violation);
        world.network.heal(&mut world.schedule, partition);
        let got = world.run_while(20_000 * MS, |w| w.fetched > fetched);
        assert!(got, "seed {seed}: it has got nothing: {:?}", world.violation);
        is_back(&mut world, id, seed);
        assert_eq!(world.nodes[id.0].life, life, "seed {seed}: it went on by itself");
        ends_well(&mut world);
    }
}

/// Whoever gives it its snapshot dies in the middle, pieces are read otherwise than they were written, and meanwhile
/// the log is trimmed on.
#[test]
fn peers_that_die_in_mid_transfer_and_damaged_pieces_only_take_time() {
    let (mut broken, mut misread) = (0, 0);
    for seed in 1..5 {
        let mut world = trimmed(Options { misread_percent: 3, ..options(seed) });
        world.trace.set(TraceMode::Collect);
        let id = zk(&world, 2);
        for round in 0..4u32 {
            assert!(world.wipe(id, 10 * MS), "seed {seed}");
            // They die one after the other, each in some stage of what it is asked for.
            for n in [1, 3] {
                run_for(&mut world, (25 + 13 * round + 7 * n) * MS);
                let peer = zk(&world, n);
                world.crash_noticed(peer, 2 * MS);
                world.schedule.after(150 * MS, Event::Start(peer));
            }
            let point = world.checks.trim.point();
            is_back(&mut world, id, seed);
            run_for(&mut world, 400 * MS);
            assert!(world.checks.trim.point() >= point, "seed {seed}");
        }
        broken += world.trace.text().lines().filter(|l| l.contains("goes on at byte")).count();
        misread += world.misread;
        ends_well(&mut world);
    }
    assert!(broken > 0 && misread > 0, "{broken} transfers were gone on with, {misread} pieces were damaged");
}

/// The snapshot of the only node that has one is gone from the disk of all others: it is not trimmed past, and who lacks it
/// holds the log where it will go on.
#[test]
fn what_follows_the_snapshot_that_is_fetched_stays_in_the_log() {
    for seed in 1..4 {
        let mut world = trimmed(options(seed));
        let ids = [2, 3].map(|n| zk(&world, n));
        for id in ids {
            assert!(world.wipe(id, 5 * MS), "seed {seed}: the first has it");
        }
        // No other may be lost now.
        let first = zk(&world, 1);
        assert!(!world.wipe(first, 5 * MS), "seed {seed}: nobody else has it");
        for id in ids {
            is_back(&mut world, id, seed);
        }
        run_for(&mut world, 2_000 * MS);
        ends_well(&mut world);
    }
}

/// What was synced of the file is not got again, and what of it was not is found out.
#[test]
fn a_node_that_dies_in_mid_transfer_goes_on_where_it_was() {
    let (mut begun, mut on) = (0, 0);
    for seed in 1..5 {
        let mut world = trimmed(options(seed));
        world.trace.set(TraceMode::Collect);
        let id = zk(&world, 2);
        for _ in 0..3 {
            assert!(world.wipe(id, 10 * MS), "seed {seed}");
            for _ in 0..3 {
                let there = |w: &World| w.nodes[id.0].snapshots.part_bytes() > 3_000 || serves(w, id);
                let goes = world.run_while(30_000 * MS, there);
                assert!(goes, "seed {seed}: nothing comes: {:?}", world.violation);
                if serves(&world, id) {
                    break;
                }
                world.crash_noticed(id, 2 * MS);
                world.schedule.after(20 * MS, Event::Start(id));
                // As long as it takes to begin, and a little.
                run_for(&mut world, 40 * MS);
            }
            is_back(&mut world, id, seed);
            run_for(&mut world, 300 * MS);
        }
        begun += world.gone_on;
        let text = world.trace.text();
        on += text.lines().filter(|l| l.contains("goes on at byte")).count();
        ends_well(&mut world);
    }
    assert!(begun > 10 && on > 5, "{begun} lives began with some of a file, {on} times it was gone on with");
}

#[test]
fn a_wiped_node_gets_a_snapshot_rather_than_play_a_log_that_is_whole_if_that_is_cheaper() {
    let (mut got, mut played) = (0, 0);
    for seed in 1..7 {
        let o = Options { snapshot_records: 250, ..options(seed) };
        let roles = roles(&o);
        let mut world = World::new(o, &roles, TraceMode::Off);
        world.start_all();
        let first = zk(&world, 1);
        let offers = |w: &World| w.nodes[first.0].snapshots.newest_good().is_some();
        assert!(world.run_while(15_000 * MS, offers), "seed {seed}: no snapshot: {:?}", world.violation);
        for n in [2, 3, 2] {
            if world.checks.trim.point() > Gsn(0) {
                break;
            }
            let (id, fetched) = (zk(&world, n), world.fetched);
            assert!(world.wipe(id, 20 * MS), "seed {seed}: nothing is trimmed");
            is_back(&mut world, id, seed);
            if world.checks.trim.point() == Gsn(0) {
                let count = if world.fetched > fetched { &mut got } else { &mut played };
                *count += 1;
            }
        }
        ends_well(&mut world);
    }
    assert!(got > 0 && played > 0, "{got} got a snapshot, {played} played the log");
}
