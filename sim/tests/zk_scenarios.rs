//! The schedules around sessions that the design guards against, told on calm worlds.

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

/// Two ZooKeeper nodes and `clients` clients with sessions of 1.2 s, at work for 5 s.
fn zk_options(seed: u64, clients: u32) -> Options {
    let mut o = Options::calm(seed);
    (o.zk, o.zk_clients, o.writers, o.readers) = (2, clients, 0, 1);
    (o.fault_phase, o.session_timeout_ms) = (5_000 * MS, 1_200);
    (o.request_every, o.request_depth) = (5 * MS, 4);
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

/// The ZooKeeper node that a client is connected to, if it is to one, and the other.
fn served_by(world: &World, client: NodeId) -> Option<(NodeId, NodeId)> {
    let zk = [1, 2].map(|n| world.node(Role::Zk(n)));
    let here = zk.iter().position(|&z| !world.network.links_between(client, z).is_empty())?;
    Some((zk[here], zk[1 - here]))
}

fn pairs(a: &[NodeId], b: &[NodeId]) -> BTreeSet<(NodeId, NodeId)> {
    a.iter().flat_map(|&x| b.iter().map(move |&y| (x, y))).filter(|(x, y)| x != y).collect()
}

fn both_ways(a: &[NodeId], b: &[NodeId]) -> BTreeSet<(NodeId, NodeId)> {
    pairs(a, b).union(&pairs(b, a)).copied().collect()
}

/// Everything below the ZooKeeper nodes.
fn the_log(world: &World) -> Vec<NodeId> {
    let below = |id: &NodeId| !matches!(world.nodes[id.0].role, Role::Zk(_));
    world.service().into_iter().filter(below).collect()
}

fn lines(world: &World, start: usize, words: &[&str]) -> usize {
    world.trace.text()[start..].lines().filter(|l| words.iter().all(|w| l.contains(w))).count()
}

#[test]
fn in_fine_weather_no_session_expires_and_all_nodes_agree() {
    let mut world = under_way(zk_options(1, 3));
    ends_well(&mut world);
    assert!(world.checks.convergence.compared() > 100, "{}", world.checks.convergence.compared());
}

/// Section 4.3: each txn carries its connection's attach GSN; apply rejects older ones.
#[test]
fn writes_in_flight_when_their_session_moves_are_not_done_after_it() {
    let mut late = 0;
    for seed in 1..10 {
        let mut world = under_way(zk_options(seed, 1));
        let client = world.node(Role::ZkClient(1));
        let Some((old, _)) = served_by(&world, client) else { continue };
        let before = world.checks.registers.unseen_versions();
        // Requests don't reach the node, answers to earlier ones still come.
        let requests = world.network.block(pairs(&[client], &[old]));
        run_for(&mut world, 60 * MS);
        // The node learns nothing of the log any more, so it can't know that the session moves.
        let cuts = world.network.block(pairs(&the_log(&world), &[old]));
        let (links, broke) = (world.network.links_between(client, old), world.trace.text().len());
        links.iter().for_each(|l| world.network.break_end(&mut world.schedule, *l, 0));
        run_for(&mut world, 250 * MS);
        if lines(&world, broke, &["client-1", "Connect { resumed: true }", "reply: Ok"]) == 0 {
            // It dials the old node again, in vain: the session has not moved, late writes count.
            continue;
        }
        let mark = world.trace.text().len();
        world.network.heal(&mut world.schedule, requests);
        run_for(&mut world, 50 * MS);
        let name = world.nodes[old.0].name.clone();
        late += usize::from(
            lines(&world, mark, &[&name, "<- client-1"]) > 0 && lines(&world, mark, &[&name, "Append"]) > 0,
        );
        world.network.heal(&mut world.schedule, cuts);
        run_for(&mut world, 300 * MS);
        ends_well(&mut world);
        let unseen = world.checks.registers.unseen_versions() - before;
        assert_eq!(unseen, 0, "seed {seed}: writes of the old connection were done");
    }
    assert!(late > 0, "in no seed a late write reached the log");
}

/// Section 4.3: `Expire` is conditional on attach and last touch; whoever wins, all agree.
#[test]
fn a_session_that_comes_back_as_it_expires_is_either_alive_or_over_for_all() {
    let (mut expired, mut lived) = (0, 0);
    for seed in 1..16 {
        let mut world = under_way(zk_options(seed, 2));
        let client = world.node(Role::ZkClient(1));
        let zk = [1, 2].map(|n| world.node(Role::Zk(n)));
        let before = world.checks.expiry.expired();
        world.cut_off(both_ways(&[client], &zk), 900 * MS + seed as u32 * 50 * MS);
        run_for(&mut world, 3_000 * MS);
        if world.checks.expiry.expired() > before {
            expired += 1
        } else {
            lived += 1
        }
        ends_well(&mut world);
    }
    assert!(expired > 0 && lived > 0, "{expired} expired, {lived} lived: not at the border");
}

/// Section 4.3: a node that could not commit a touch for a third of a session's timeout stops answering it.
#[test]
fn a_node_cut_off_from_the_log_stops_answering_pings_too() {
    for seed in 1..4 {
        let mut world = under_way(zk_options(seed, 3));
        let node = world.node(Role::Zk(1));
        let log = the_log(&world);
        let partition = world.network.block(both_ways(&[node], &log));
        run_for(&mut world, 600 * MS);
        let mark = world.trace.text().len();
        run_for(&mut world, 1_200 * MS);
        assert_eq!(lines(&world, mark, &[" zk-1 ", "-> client"]), 0, "seed {seed}: it still answers");
        world.network.heal(&mut world.schedule, partition);
        ends_well(&mut world);
    }
}

/// ZK-4: nobody has to say goodbye.
#[test]
fn the_ephemerals_of_a_client_that_died_are_gone_after_its_timeout() {
    let mut had = 0;
    for seed in 1..6 {
        let mut world = under_way(zk_options(seed, 2));
        let client = world.node(Role::ZkClient(1));
        run_for(&mut world, 500 * MS);
        world.crash(client);
        world.nodes[client.0].held_down = true;
        // Its owner dies, too: any other node may see to it.
        if seed > 3 {
            let node = world.node(Role::Zk(1));
            world.crash(node);
            world.nodes[node.0].held_down = true;
        }
        run_for(&mut world, 3_500 * MS);
        let now = world.now();
        had += world.checks.expiry.must_be_over(1, now);
        ends_well(&mut world);
    }
    assert!(had > 0, "it had no ephemerals");
}

/// ZK-5: a node that starts again plays the log and comes to the same state.
#[test]
fn nodes_that_die_and_replay_agree_with_those_that_lived() {
    for seed in 1..4 {
        let mut world = under_way(zk_options(seed, 3));
        for round in 0..4 {
            let node = world.node(Role::Zk(1 + round % 2));
            world.crash_for(node, 30 * MS);
            run_for(&mut world, 600 * MS);
        }
        let compared = world.checks.convergence.compared();
        ends_well(&mut world);
        assert!(world.checks.convergence.compared() > compared, "seed {seed}: nothing compared");
    }
}

/// The leader of the orderers and the servers die while sessions go on.
#[test]
fn sessions_survive_crashes_below_them_that_are_shorter_than_a_third_of_their_timeout() {
    let mut world = under_way(zk_options(2, 3));
    let before = world.checks.expiry.expired();
    for n in 1..=3 {
        let server = world.node(Role::Server(n));
        world.crash_noticed(server, 2 * MS);
        world.schedule.after(40 * MS, zoolog_sim::schedule::Event::Start(server));
        run_for(&mut world, 500 * MS);
    }
    ends_well(&mut world);
    assert_eq!(world.checks.expiry.expired(), before, "a session expired");
}
