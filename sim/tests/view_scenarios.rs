//! What happens when a server fails for longer than it may? Its shards end, others take their place, writers move, and
//! nothing is lost or twice. Each scenario also asserts that the situation it is about came up.

mod common;

use common::{ends_well, run_for};
use std::collections::BTreeSet;
use std::time::Duration;
use zoolog_core::Instant;
use zoolog_sim::cluster::roles;
use zoolog_sim::node::Role;
use zoolog_sim::options::Options;
use zoolog_sim::schedule::NodeId;
use zoolog_sim::trace::TraceMode;
use zoolog_sim::world::World;

const MS: Duration = Duration::from_millis(1);
const TIMEOUT: Duration = Duration::from_millis(1_000);

/// Three shards of two replicas on three servers, writers and a reader; writing for `ms`.
fn options(seed: u64, ms: u32) -> Options {
    let mut o = Options::calm(seed);
    (o.orderers, o.servers, o.shards, o.replicas) = (3, 3, 3, 2);
    (o.zk, o.zk_clients, o.writers, o.readers) = (0, 0, 4, 1);
    (o.small_caches, o.fault_phase, o.write_every) = (false, ms * MS, 20 * MS);
    o.failure_timeout = TIMEOUT;
    o
}

fn under_way(o: Options) -> World {
    let roles = roles(&o);
    let mut world = World::new(o, &roles, TraceMode::Collect);
    world.start_all();
    let goes = world.run_while(2_000 * MS, |w| w.checks.durability.count() > 20);
    assert!(goes, "the world does not get under way: {:?}", world.violation);
    world
}

fn crash_for_good(world: &mut World, role: Role) {
    let id = world.node(role);
    world.crash(id);
    world.nodes[id.0].held_down = true;
}

fn between(a: &[NodeId], b: &[NodeId]) -> BTreeSet<(NodeId, NodeId)> {
    let pairs = a.iter().flat_map(|&x| b.iter().flat_map(move |&y| [(x, y), (y, x)]));
    pairs.filter(|(x, y)| x != y).collect()
}

fn all_but(world: &World, which: impl Fn(Role) -> bool) -> Vec<NodeId> {
    (0..world.nodes.len()).map(NodeId).filter(|n| which(world.nodes[n.0].role)).collect()
}

fn leader(world: &World) -> NodeId {
    world.checks.cuts.leader().expect("a leader that announced a cut")
}

/// LOG-5: one of three servers is gone; within a second after the timeout all writers go on.
#[test]
fn a_server_that_is_gone_stops_nobody_for_long() {
    for seed in 1..3 {
        let mut world = under_way(options(seed, 4_000));
        crash_for_good(&mut world, Role::Server(2));
        run_for(&mut world, TIMEOUT / 2);
        assert_eq!(world.checks.views.finalized(), 0, "seed {seed}: too early");
        run_for(&mut world, TIMEOUT / 2 + 1_000 * MS);
        assert_eq!(world.checks.views.finalized(), 2, "seed {seed}: two of three shards rest on it");
        let before = world.checks.durability.newest();
        run_for(&mut world, 500 * MS);
        let after = world.checks.durability.newest();
        assert_eq!(after.len(), 4);
        let stuck: Vec<_> = after.iter().filter(|(w, seq)| before.get(*w) == Some(*seq)).collect();
        assert!(stuck.is_empty(), "seed {seed}: {stuck:?} have not moved on");
        ends_well(&mut world);
    }
}

/// When the first shard ended, as the first orderer saw it.
fn ended_at(world: &World) -> Option<f64> {
    let line = world.trace.text().lines().find(|l| l.contains("finalized: [ShardId"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// LOG-3: the leader dies around the decision; whichever leader decides, a shard ends once.
#[test]
fn a_leader_that_dies_while_a_shard_ends_changes_nothing() {
    let mut world = under_way(options(1, 4_000));
    crash_for_good(&mut world, Role::Server(1));
    assert!(world.run_while(3_000 * MS, |w| w.checks.views.finalized() > 0), "it never ends");
    let when = ended_at(&world).expect("somebody saw it");
    let mut decided = 0;
    for at in 0..6 {
        // Once more, the same world, and the leader dies shortly before or after that.
        let mut world = under_way(options(1, 4_000));
        crash_for_good(&mut world, Role::Server(1));
        let until = when + (f64::from(at) - 4.0) * 0.0007;
        world.run_until(Instant((until * 1e9) as u64));
        decided += usize::from(ended_at(&world).is_some());
        let leader = leader(&world);
        world.crash_for(leader, 300 * MS);
        run_for(&mut world, 2_500 * MS);
        assert!(world.checks.views.finalized() >= 2, "{at}");
        ends_well(&mut world);
    }
    assert!(decided > 0 && decided < 6, "{decided} of 6 leaders died after the decision");
}

/// LOG-3, LOG-5: a writer that can't reach its primary, or isn't heard by it, or doesn't hear it, while the shard lives,
/// fences the lane through the backup.
#[test]
fn a_writer_cut_off_from_its_primary_goes_elsewhere_behind_a_fence() {
    type Cut = fn(NodeId, NodeId) -> BTreeSet<(NodeId, NodeId)>;
    let cuts: [Cut; 3] =
        [|w, p| between(&[w], &[p]), |w, p| BTreeSet::from([(w, p)]), |w, p| BTreeSet::from([(p, w)])];
    for (i, cut) in cuts.into_iter().enumerate() {
        let mut fences = 0;
        for seed in 1..4 {
            let mut o = options(seed, 6_500);
            o.writers = 2;
            let mut world = under_way(o);
            let writer = world.node(Role::Writer(1));
            let servers = [1, 2, 3].map(|n| world.node(Role::Server(n)));
            let primary =
                servers.into_iter().find(|s| !world.network.links_between(writer, *s).is_empty()).unwrap();
            let partition = world.network.block(cut(writer, primary));
            let acked = world.checks.durability.count();
            run_for(&mut world, 6_000 * MS);
            assert_eq!(world.checks.views.finalized(), 0, "the shard lives");
            assert!(world.checks.durability.count() > acked);
            fences += usize::from(world.checks.content.fences() > 0);
            world.network.heal(&mut world.schedule, partition);
            ends_well(&mut world);
        }
        assert!(fences >= 2, "cut {i}: {fences} of 3 writers sent a fence");
    }
}

/// A server that reaches the orderers and no other server holds up what it shares, and is left out.
#[test]
fn servers_that_lose_sight_of_each_other_end_what_they_share() {
    let mut world = under_way(options(2, 8_000));
    let lost = world.node(Role::Server(3));
    let others = [1, 2].map(|n| world.node(Role::Server(n)));
    let partition = world.network.block(between(&[lost], &others));
    run_for(&mut world, 4_000 * MS);
    assert!(world.checks.views.finalized() >= 2);
    let before = world.checks.durability.count();
    run_for(&mut world, 500 * MS);
    assert!(world.checks.durability.count() > before + 20, "all go on");
    world.network.heal(&mut world.schedule, partition);
    ends_well(&mut world);
}

/// No false alarm: a leader that stands still for two seconds, a disk that stalls everywhere, a power cut of all.
#[test]
fn what_only_looks_like_failure_ends_nothing() {
    for seed in 1..3 {
        let mut world = under_way(options(seed, 6_500));
        let leader = leader(&world);
        world.nodes[leader.0].stalled_until = world.now() + 2_000 * MS;
        run_for(&mut world, 4_000 * MS);
        assert_eq!(world.checks.views.finalized(), 0, "seed {seed}: the leader stood still");
        for server in 1..4 {
            let id = world.node(Role::Server(server));
            world.nodes[id.0].disk_factor = 5_000;
        }
        run_for(&mut world, 2_500 * MS);
        assert_eq!(world.checks.views.finalized(), 0, "seed {seed}: all disks stood still");
        ends_well(&mut world);
    }
    let mut world = under_way(options(4, 6_000));
    let all = all_but(&world, |r| matches!(r, Role::Orderer(_) | Role::Server(_)));
    for id in all {
        let slow = world.nodes[id.0].role == Role::Server(2);
        world.crash_for(id, if slow { 1_800 * MS } else { 50 * MS });
    }
    run_for(&mut world, 4_000 * MS);
    assert_eq!(world.checks.views.finalized(), 0, "a start, with one that reads its log for longer");
    ends_well(&mut world);
}

/// Everything of a shard that was written and not ordered goes elsewhere, once, when the whole shard dies.
#[test]
fn a_shard_that_dies_with_what_was_not_ordered_loses_nothing_acknowledged() {
    let mut o = options(5, 8_000);
    (o.servers, o.shards) = (4, 2);
    let mut world = under_way(o);
    let servers: Vec<NodeId> = (1..5).map(|n| world.node(Role::Server(n))).collect();
    let orderers = all_but(&world, |r| matches!(r, Role::Orderer(_)));
    // Two of four servers write and can't report, and then die; one of them is there again later.
    let pair = [servers[0], servers[1]];
    let partition = world.network.block(between(&pair, &orderers));
    run_for(&mut world, 150 * MS);
    crash_for_good(&mut world, Role::Server(1));
    world.crash_for(pair[1], 2_500 * MS);
    world.network.heal(&mut world.schedule, partition);
    run_for(&mut world, 5_000 * MS);
    assert!(world.checks.views.finalized() > 0);
    ends_well(&mut world);
}

/// No false alarm: the leader is cut off from everybody, without a word, and slots take their time to find the next.
#[test]
fn a_leader_that_is_cut_off_takes_no_shard_with_it() {
    for seed in 1..5 {
        let mut o = options(seed, 12_000);
        // Some lanes are written all the time, others now and then.
        (o.writers, o.write_every) = (2, 100 * MS);
        let roles = roles(&o);
        let mut world = World::new(o, &roles, TraceMode::Collect);
        world.start_all();
        run_for(&mut world, 4_000 * MS);
        assert!(world.checks.durability.count() > 5);
        let old = leader(&world);
        let others: Vec<NodeId> = all_but(&world, |_| true).into_iter().filter(|n| *n != old).collect();
        let partition = world.network.block(between(&[old], &others));
        run_for(&mut world, 6_000 * MS);
        assert_ne!(leader(&world), old, "seed {seed}");
        assert_eq!(world.checks.views.finalized(), 0, "seed {seed}: the servers are well");
        world.network.heal(&mut world.schedule, partition);
        ends_well(&mut world);
    }
}

/// LOG-5: one after another, servers lose sight of each other, stand still, die and come back; then the one that was in
/// none of it is cut off. The others reach each other: the log goes on within the timeout and the pause after each.
#[test]
fn what_struck_others_before_does_not_stop_the_log_when_one_more_is_cut_off() {
    for seed in 1..4 {
        let mut o = options(seed, 60_000);
        (o.servers, o.writers) = (4, 8);
        let mut world = under_way(o);
        let servers = [1, 2, 3, 4].map(|n| world.node(Role::Server(n)));
        for (a, b) in [(0, 2), (0, 1), (1, 2)] {
            let partition = world.network.block(between(&[servers[a]], &[servers[b]]));
            run_for(&mut world, 4_000 * MS);
            world.network.heal(&mut world.schedule, partition);
            run_for(&mut world, 1_000 * MS);
        }
        for a in [1, 0, 2] {
            world.crash_for(servers[a], 2_000 * MS);
            run_for(&mut world, 4_000 * MS);
        }
        // The pause after giving shards up again and again is over.
        run_for(&mut world, 17_000 * MS);
        let ended = world.checks.views.finalized();
        assert!(ended > 2, "seed {seed}: {ended}");
        let all = all_but(&world, |_| true);
        let partition = world.network.block(between(&[servers[3]], &all));
        run_for(&mut world, TIMEOUT + 1_500 * MS);
        let before = world.checks.durability.newest();
        run_for(&mut world, 1_500 * MS);
        let after = world.checks.durability.newest();
        let stuck: Vec<_> = after.iter().filter(|(w, seq)| before.get(*w) == Some(*seq)).collect();
        assert!(stuck.is_empty(), "seed {seed}: {stuck:?} have not moved on");
        world.network.heal(&mut world.schedule, partition);
        ends_well(&mut world);
    }
}

/// LOG-5: whichever two of four servers still reach each other, and whatever was seen of them before, they are found.
#[test]
fn whichever_two_servers_reach_each_other_the_log_goes_on() {
    let mut longest = Duration::ZERO;
    for seed in 1..4 {
        let mut o = options(seed, 260_000);
        (o.servers, o.writers, o.write_every) = (4, 3, 100 * MS);
        let mut world = under_way(o);
        let servers = [1, 2, 3, 4].map(|n| world.node(Role::Server(n)));
        for step in 0..8 {
            let (a, b) = [(0, 1), (2, 3), (1, 2), (0, 3), (0, 2), (1, 3)][(step * 5 + seed as usize) % 6];
            let good = between(&[servers[a]], &[servers[b]]);
            let cut = between(&servers, &servers).difference(&good).copied().collect();
            let partition = world.network.block(cut);
            // What is on its way arrives.
            run_for(&mut world, 500 * MS);
            let (began, before) = (world.now(), world.checks.durability.count());
            let goes_on = |w: &World| w.checks.durability.count() > before + 20;
            let found = world.run_while(30_000 * MS, goes_on);
            assert!(
                found,
                "seed {seed}, step {step}: {} and {} are not found: {:?}",
                a + 1,
                b + 1,
                world.violation
            );
            longest = longest.max(world.now() - began);
            run_for(&mut world, 1_000 * MS);
            world.network.heal(&mut world.schedule, partition);
            run_for(&mut world, 500 * MS);
        }
        world.run_until(Instant(0) + 260_000 * MS);
        ends_well(&mut world);
    }
    assert!(longest > 3 * TIMEOUT, "nothing was in the way: {longest:?}");
}
