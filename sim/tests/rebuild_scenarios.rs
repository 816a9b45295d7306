//! What happens when a server is lost for good? Its shards end, copies of them are made on the others, and when a second
//! one is lost every acknowledged record can still be read. Each scenario also asserts that the situation it is about
//! came up.

mod common;

use common::{ends_well, run_for};
use std::time::Duration;
use zoolog_core::view::{ShardState, View};
use zoolog_core::{Gsn, ServerId};
use zoolog_sim::cluster::roles;
use zoolog_sim::disk::Disk;
use zoolog_sim::node::Role;
use zoolog_sim::options::Options;
use zoolog_sim::schedule::NodeId;
use zoolog_sim::trace::TraceMode;
use zoolog_sim::world::World;

const MS: Duration = Duration::from_millis(1);
const TIMEOUT: Duration = Duration::from_millis(500);
const AFTER: Duration = Duration::from_millis(800);

/// One shard of two replicas on four servers, writers and a reader.
fn options(seed: u64) -> Options {
    let mut o = Options::calm(seed);
    (o.orderers, o.servers, o.shards, o.replicas) = (3, 4, 1, 2);
    (o.zk, o.zk_clients, o.writers, o.readers) = (0, 0, 3, 1);
    (o.fault_phase, o.write_every) = (12_000 * MS, 20 * MS);
    (o.failure_timeout, o.rebuild_after, o.rebuild_bytes_per_s) = (TIMEOUT, AFTER, 100_000);
    o.small_caches = true; // small answers, so that a copy takes many
    o
}

fn under_way(o: Options) -> World {
    let roles = roles(&o);
    let mut world = World::new(o, &roles, TraceMode::Off);
    world.start_all();
    let goes = world.run_while(4_000 * MS, |w| w.checks.durability.count() > 250);
    assert!(goes, "the world does not get under way: {:?}", world.violation);
    world
}

/// The server is gone, and its disk with it.
fn lose(world: &mut World, server: u32) {
    let id = world.node(Role::Server(server));
    world.crash_noticed(id, 2 * MS);
    world.nodes[id.0].held_down = true;
    world.nodes[id.0].disk = Disk::new(world.options.segment_bytes);
}

fn view(world: &World) -> View {
    world.checks.views.newest().expect("a view was stated").clone()
}

/// The servers that hold the first shard, which has a lost copy.
fn holders(world: &World) -> Vec<u32> {
    view(world).shards[0].replicas.iter().map(|r| r.slot.server.0).collect()
}

/// The server that makes a copy of the first shard.
fn maker(world: &World) -> Option<u32> {
    view(world).shards[0].rebuild.as_ref().map(|r| r.to.slot.server.0)
}

fn until(world: &mut World, what: &str, limit: Duration, done: impl FnMut(&World) -> bool) {
    let done = world.run_while(limit, done);
    assert!(done, "seed {}, {what}: {:?}, {:?}", world.options.seed, world.violation, view(world));
}

/// No finalized shard that holds something has a replica on that server.
fn is_replaced(world: &World, server: u32) -> bool {
    let v = view(world);
    let ended = v.shards.iter().filter(|s| s.state != ShardState::Live);
    let held = ended.filter(|s| s.replicas.iter().any(|r| r.slot.server == ServerId(server)));
    held.filter(|s| !matches!(&s.state, ShardState::Finalized(f) if f.first == f.end)).count() == 0
}

/// Whoever is left gives a reader that begins anew every record there is.
fn all_is_readable(world: &mut World) {
    let reader = world.node(Role::Reader(1));
    let tail = world.checks.cuts.end();
    assert!(tail > Gsn(80));
    world.crash_for(reader, 10 * MS);
    run_for(world, 20 * MS);
    let reads = |w: &World| w.checks.order.position(w.node(Role::Reader(1))).is_some_and(|at| at >= tail);
    until(world, "all is read", 60_000 * MS, reads);
}

fn leader(world: &World) -> NodeId {
    world.checks.cuts.leader().expect("a leader that announced a cut")
}

/// LOG-2 over a lifetime: one server is lost, copies are made, another of the first ones is lost.
#[test]
fn after_a_rebuild_another_loss_costs_nothing() {
    for seed in 1..5 {
        let mut world = under_way(options(seed));
        let (first, second) = (holders(&world)[0], holders(&world)[1]);
        lose(&mut world, first);
        until(&mut world, "a copy counts", 60_000 * MS, |w| w.checks.copies.counts().1 > 0);
        until(&mut world, "it is replaced", 60_000 * MS, |w| is_replaced(w, first));
        lose(&mut world, second);
        all_is_readable(&mut world);
        until(&mut world, "another counts", 60_000 * MS, |w| w.checks.copies.counts().1 > 1);
        until(&mut world, "so is that", 60_000 * MS, |w| is_replaced(w, second));
        all_is_readable(&mut world);
    }
}

/// Nobody waits for a server that comes back with an empty disk: it is turned away, and what it held is made anew.
#[test]
fn what_a_wiped_server_held_is_made_anew_without_waiting() {
    for seed in 51..54 {
        let mut o = options(seed);
        o.rebuild_after = 3_600_000 * MS;
        let mut world = under_way(o);
        let (first, second) = (holders(&world)[0], holders(&world)[1]);
        lose(&mut world, first);
        run_for(&mut world, 3_000 * MS);
        assert_eq!(
            (maker(&world), world.checks.copies.counts().1),
            (None, 0),
            "seed {seed}: it may come back"
        );
        let id = world.node(Role::Server(first));
        world.nodes[id.0].disk.number += 1;
        world.nodes[id.0].held_down = false;
        world.start_again(id);
        until(&mut world, "it is replaced", 20_000 * MS, |w| is_replaced(w, first));
        assert!(world.checks.copies.counts().1 > 0);
        lose(&mut world, second);
        all_is_readable(&mut world);
    }
}

/// What strikes while a copy is being made, a little later each time.
fn struck(seed: u64, step: u32, strike: impl Fn(&mut World, u32, u32)) -> (World, u32) {
    let mut world = under_way(options(seed));
    let lost = holders(&world)[0];
    let id = world.node(Role::Server(lost));
    world.crash_noticed(id, 2 * MS);
    world.nodes[id.0].held_down = true;
    until(&mut world, "a copy begins", 60_000 * MS, |w| maker(w).is_some());
    run_for(&mut world, step * 25 * MS);
    if let Some(maker) = maker(&world) {
        strike(&mut world, lost, maker);
    }
    (world, lost)
}

#[test]
fn a_maker_that_crashes_at_any_step_goes_on_where_it_was() {
    for step in 0..8 {
        let (mut world, lost) = struck(u64::from(step) + 1, step, |w, _, maker| {
            let id = w.node(Role::Server(maker));
            w.crash_for(id, 100 * MS);
        });
        until(&mut world, "it is replaced", 60_000 * MS, |w| is_replaced(w, lost));
        all_is_readable(&mut world);
        ends_well(&mut world);
    }
}

#[test]
fn a_leader_that_dies_between_any_two_steps_changes_nothing() {
    for step in 0..8 {
        let (mut world, lost) = struck(u64::from(step) + 11, step, |w, _, _| {
            let leader = leader(w);
            w.crash_for(leader, 300 * MS);
        });
        until(&mut world, "it is replaced", 60_000 * MS, |w| is_replaced(w, lost));
        all_is_readable(&mut world);
        ends_well(&mut world);
    }
}

/// Either it is in time, and nothing is made any more, or it is late, and holds nothing any more.
#[test]
fn a_lost_one_that_returns_at_any_step_is_either_kept_or_replaced() {
    let (mut kept, mut replaced) = (0, 0);
    for step in [0, 2, 8, 40, 120, 400, 600] {
        let (mut world, lost) = struck(21, step, |_, _, _| {});
        let id = world.node(Role::Server(lost));
        world.nodes[id.0].held_down = false;
        world.start_again(id);
        let settled = |w: &World| view(w).shards.iter().all(|s| s.rebuild.is_none());
        run_for(&mut world, 1_500 * MS);
        until(&mut world, "nothing is in the making", 60_000 * MS, settled);
        match holders(&world).contains(&lost) {
            true => kept += 1,
            false => replaced += 1,
        }
        all_is_readable(&mut world);
        ends_well(&mut world);
    }
    assert!(kept > 0 && replaced > 0, "{kept} kept, {replaced} replaced");
}

#[test]
fn another_makes_the_copy_when_its_maker_is_lost_too() {
    let (mut world, lost) = struck(31, 1, |w, _, maker| lose(w, maker));
    until(&mut world, "it is replaced", 60_000 * MS, |w| is_replaced(w, lost));
    all_is_readable(&mut world);
}

/// What is trimmed while it is copied need not be: the copy is whole without.
#[test]
fn a_log_that_is_trimmed_meanwhile_is_copied_from_where_it_begins() {
    let mut trimmed = 0;
    for seed in 41..45 {
        let mut o = options(seed);
        (o.trims, o.readers) = (true, 2);
        (o.retain_time, o.rebuild_bytes_per_s) = (None, 20_000);
        let mut world = under_way(o);
        let lost = holders(&world)[0];
        let id = world.node(Role::Server(lost));
        world.crash_noticed(id, 2 * MS);
        world.nodes[id.0].held_down = true;
        let settled = |w: &World| is_replaced(w, lost);
        run_for(&mut world, 1_000 * MS);
        until(&mut world, "it is replaced, or all of it trimmed", 60_000 * MS, settled);
        trimmed += u64::from(world.checks.trim.point() > Gsn(0));
        ends_well(&mut world);
    }
    assert!(trimmed > 0);
}
