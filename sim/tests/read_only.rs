//! Whom does a node serve that is cut off from the log, and is it as it was said? Nodes cut off from orderers and servers, but not
//! from clients that would take a read-only session.

mod common;

use common::{ends_well, run_for};
use std::collections::BTreeSet;
use std::time::Duration;
use zoolog_sim::cluster::roles;
use zoolog_sim::node::Role;
use zoolog_sim::options::Options;
use zoolog_sim::schedule::NodeId;
use zoolog_sim::trace::TraceMode;
use zoolog_sim::world::World;

const MS: Duration = Duration::from_millis(1);

fn world(seed: u64, fronts: u16) -> World {
    let mut o = Options::calm(seed);
    (o.zk, o.zk_clients, o.zk_lookers, o.writers, o.readers) = (2, 3, 2, 0, 1);
    (o.fault_phase, o.session_timeout_ms, o.zk_fronts) = (6_000 * MS, 1_500, fronts);
    (o.request_every, o.request_depth, o.read_only) = (5 * MS, 4, Some(200 * MS));
    let mut world = World::new(o.clone(), &roles(&o), TraceMode::Off);
    world.start_all();
    world
}

/// That ZooKeeper node, and those that it can't reach for a while: the log's.
fn from_the_log(world: &World, one: u32) -> BTreeSet<(NodeId, NodeId)> {
    let one = world.node(Role::Zk(one));
    let of_log = |id: &NodeId| matches!(world.nodes[id.0].role, Role::Orderer(_) | Role::Server(_));
    world.service().into_iter().filter(of_log).flat_map(|id| [(one, id), (id, one)]).collect()
}

#[test]
fn what_a_node_shows_that_is_cut_off_is_one_position_and_over_when_it_is_back() {
    for (seed, fronts) in [(1, 0), (2, 0), (3, 1), (4, 3)] {
        let mut w = world(seed, fronts);
        run_for(&mut w, 1_000 * MS);
        for (i, one) in [1, 2, 1].into_iter().enumerate() {
            let before = w.checks.registers.shown();
            let pairs = from_the_log(&w, one);
            w.cut_off(pairs, 1_200 * MS);
            run_for(&mut w, 1_700 * MS);
            let shown = w.checks.registers.shown() - before;
            assert!(shown > 10, "seed {seed}: node {one} has shown {shown} things, the {i}th time");
        }
        ends_well(&mut w);
        let shown = w.checks.registers.shown();
        run_for(&mut w, 500 * MS);
        assert_eq!(w.checks.registers.shown(), shown, "nobody is cut off any more");
    }
}
