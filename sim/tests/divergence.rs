//! A ZooKeeper node whose state is not what the log says is found, stops, rebuilds itself and serves again; and the others
//! go on.

mod common;

use common::{ends_well, run_for};
use std::time::Duration;
use zoolog_sim::cluster::roles;
use zoolog_sim::node::Role;
use zoolog_sim::options::Options;
use zoolog_sim::schedule::NodeId;
use zoolog_sim::trace::TraceMode;
use zoolog_sim::world::World;

const MS: Duration = Duration::from_millis(1);

/// What `State::flip_a_bit` makes of these: a bit that changes in a ctime, and an honest change of one that no record has
/// asked for. Neither shows in what clients check.
const BIT: u64 = 3;
const HONEST: u64 = 4;

/// Calm, three ZooKeeper nodes, marks each 50 records; memory is looked at once in `pass`.
fn options(seed: u64, pass: Duration) -> Options {
    let mut o = Options::calm(seed);
    (o.zk, o.zk_clients, o.writers, o.readers) = (3, 3, 0, 1);
    (o.fault_phase, o.session_timeout_ms) = (6_000 * MS, 1_200);
    (o.request_every, o.request_depth) = (5 * MS, 4);
    (o.snapshot_records, o.mark_records, o.mark_interval) = (200, 50, 500 * MS);
    o.check_pass = pass;
    o
}

fn under_way(o: Options) -> World {
    let roles = roles(&o);
    let mut world = World::new(o, &roles, TraceMode::Collect);
    world.start_all();
    let goes = world.run_while(3_000 * MS, |w| w.checks.registers.counts().0 > 30);
    assert!(goes, "the world does not get under way: {:?}", world.violation);
    world
}

fn lives(world: &World) -> Vec<u64> {
    (1..=3).map(|n| world.nodes[world.node(Role::Zk(n)).0].life).collect()
}

/// Corrupts the second node. How many records it took to find, if that was within `limit`.
fn found(world: &mut World, choice: u64, limit: Duration) -> Option<u64> {
    let victim: NodeId = world.node(Role::Zk(2));
    let before = world.tail();
    assert!(world.corrupt(victim, choice));
    let found = world.run_while(limit, |w| !w.checks.convergence.is_suspect(victim));
    assert_eq!(world.violation, None, "seed {}", world.options.seed);
    found.then(|| world.tail().0 - before.0)
}

#[test]
fn a_state_that_differs_is_found_at_the_marks_and_only_that_node_rebuilds_itself() {
    for seed in 1..=6 {
        // Nobody looks at memory: only what the nodes say of themselves shows it.
        let mut world = under_way(options(seed, Duration::from_secs(3_600)));
        run_for(&mut world, 1_500 * MS);
        let before = lives(&world);
        let records = found(&mut world, HONEST + 5 * seed, 4_000 * MS).expect("it is found");
        assert!(records < 400, "seed {seed}: after {records} records, with marks each 50 or 500 ms");
        ends_well(&mut world);
        let after = lives(&world);
        assert!(after[0] == before[0] && after[2] == before[2], "seed {seed}: a healthy node stopped");
        assert!(after[1] > before[1], "seed {seed}");
    }
}

#[test]
fn a_bit_that_changes_in_memory_is_found_before_it_is_saved() {
    for seed in 1..=6 {
        let mut world = under_way(options(seed, 800 * MS));
        run_for(&mut world, 500 * MS);
        let before = lives(&world);
        let records = found(&mut world, BIT + 5 * seed, 2_500 * MS).expect("it is found");
        assert!(records < 2_000, "seed {seed}: {records}");
        ends_well(&mut world);
        let after = lives(&world);
        assert!(after[0] == before[0] && after[2] == before[2], "seed {seed}: a healthy node stopped");
    }
}

/// Or the others would prove nothing.
#[test]
fn without_marks_and_without_looking_nothing_is_found() {
    let mut o = options(3, Duration::from_secs(3_600));
    (o.mark_records, o.mark_interval, o.snapshot_records) = (u64::MAX, Duration::from_secs(3_600), 0);
    let mut world = under_way(o);
    assert_eq!(found(&mut world, HONEST + 15, 3_000 * MS), None);
}

#[test]
fn under_faults_too_a_damaged_node_comes_back_right() {
    let (mut corrupted, mut found) = (0, 0);
    for seed in 1..=12 {
        let mut o = Options::draw(seed);
        if o.zk == 0 {
            continue;
        }
        o.check_pass = 500 * MS;
        let roles = roles(&o);
        let mut world = World::new(o, &roles, TraceMode::Collect);
        world.start_all();
        world.storm();
        for at in 1..=3 {
            run_for(&mut world, 1_000 * MS);
            let victim = world.node(Role::Zk(1 + at % 2));
            corrupted += u64::from(world.corrupt(victim, BIT + 5 * (seed + u64::from(at))));
        }
        ends_well(&mut world);
        found += world.trace.text().matches("Failed(\"this node's memory").count();
    }
    // Others went down with what the weather did to their nodes first.
    assert!(corrupted > 10 && found as u64 > corrupted / 3, "{found} of {corrupted}");
}
