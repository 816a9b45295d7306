//! Trimming under faults, one schedule after the other, on calm worlds in which only the fault in question
//! happens. Each also asserts that the situation it is about really came up.

mod common;

use common::{ends_well, run_for};
use std::time::Duration;
use zoolog_core::Gsn;
use zoolog_sim::cluster::{build, roles};
use zoolog_sim::node::Role;
use zoolog_sim::options::Options;
use zoolog_sim::schedule::{Event, NodeId};
use zoolog_sim::trace::TraceMode;
use zoolog_sim::world::World;

const MS: Duration = Duration::from_millis(1);

/// One shard of two replicas with small segments, two writers, and readers of which the first is a consumer.
fn options(seed: u64, readers: u32) -> Options {
    let mut o = Options::calm(seed);
    (o.orderers, o.servers, o.shards, o.replicas) = (3, 2, 1, 2);
    (o.zk, o.zk_clients, o.writers, o.readers, o.trims) = (0, 0, 2, readers, true);
    (o.small_caches, o.fault_phase, o.write_every) = (seed.is_multiple_of(2), 4_000 * MS, 8 * MS);
    o.segment_bytes = 64 << 10;
    o
}

/// The world of these options, under way: something is trimmed already.
fn trimming(mut world: World) -> World {
    world.start_all();
    let goes = world.run_while(3_000 * MS, |w| w.checks.trim.point() > Gsn(100));
    assert!(goes, "nothing is trimmed: {:?}", world.violation);
    world
}

fn world(o: Options) -> World {
    let roles = roles(&o);
    World::new(o, &roles, TraceMode::Collect)
}

fn servers(world: &World) -> [NodeId; 2] {
    [1, 2].map(|n| world.node(Role::Server(n)))
}

/// A log that is trimmed keeps its size: segments go, of slots and of orderers, and readers that come too late
/// are told so.
#[test]
fn a_trimmed_log_keeps_its_size_and_late_readers_are_told() {
    for seed in 1..5 {
        let mut world = trimming(world(options(seed, 3)));
        ends_well(&mut world);
        let end = world.checks.order.end();
        assert!(
            world.checks.trim.point().0 * 2 > end.0,
            "seed {seed}: {} of {end}",
            world.checks.trim.point()
        );
        assert!(world.checks.trim.gaps() > 0, "seed {seed}: nobody came too late");
        for id in servers(&world) {
            let (left, made) = (world.nodes[id.0].disk.segments(), lines(&world, id, "log rolls"));
            let released = lines(&world, id, "-> Release below");
            let text = format!("seed {seed}: {left} segments left of {made}, {released} releases");
            assert!(left * 2 < made && released > 2, "{text}");
        }
    }
}

/// Lines of the trace about a node, with those words.
fn lines(world: &World, id: NodeId, words: &str) -> usize {
    let name = &world.nodes[id.0].name;
    world.trace.text().lines().filter(|l| l.contains(&**name) && l.contains(words)).count()
}

/// A backup is down while the consumer goes on to the end, and the trim point with it. It comes back, serves what
/// is left, and takes appends. All that is trimmed it held already: nothing was committed without it.
#[test]
fn a_backup_that_was_down_while_the_trim_point_moved_comes_back() {
    let mut moves = 0;
    for seed in 1..7 {
        let mut world = trimming(world(options(seed, 2)));
        let down = servers(&world)[(seed % 2) as usize];
        world.crash(down);
        world.nodes[down.0].held_down = true;
        let before = world.checks.trim.point();
        run_for(&mut world, 1_500 * MS);
        let moved = world.checks.trim.point();
        moves += usize::from(moved > before);
        let acks = world.checks.durability.count();
        world.nodes[down.0].held_down = false;
        world.schedule.after(MS, Event::Start(down));
        ends_well(&mut world);
        assert!(world.checks.durability.count() > acks, "seed {seed}: no appends after it came back");
        assert!(world.checks.trim.point() > moved, "seed {seed}: nothing more was trimmed");
    }
    assert!(moves > 2, "the trim point moved in {moves} of 6");
}

/// Everything loses power again and again while the log is trimmed, segments are deleted, and deletions are left
/// half done.
#[test]
fn what_is_not_trimmed_survives_power_cuts_of_everything() {
    for seed in 1..7 {
        let mut world = trimming(world(options(seed, 2)));
        for round in 0..6u32 {
            run_for(&mut world, (150 + 37 * round) * MS);
            for id in world.service() {
                world.crash_for(id, (10 + round) * MS);
            }
            let point = world.checks.trim.point();
            run_for(&mut world, 400 * MS);
            assert!(world.checks.trim.point() >= point);
        }
        ends_well(&mut world);
    }
}

/// A leader dies: its successor knows consumers and trim point, and tells the slots.
#[test]
fn a_new_leader_goes_on_trimming() {
    for seed in 1..4 {
        let mut world = trimming(world(options(seed, 1)));
        let old = world.checks.cuts.leader().expect("a leader");
        let before = world.checks.trim.point();
        world.crash_for(old, 1_500 * MS);
        let on = world.run_while(3_000 * MS, |w| w.checks.trim.point().0 > before.0 + 50);
        assert!(on, "seed {seed}: the trim point stays at {before}: {:?}", world.violation);
        ends_well(&mut world);
    }
}

/// A consumer that registers late can't ask for what is gone: it is told where the log begins. From then on it
/// holds the trim point back, even while it is down.
#[test]
fn a_late_consumer_gets_a_gap_and_then_holds_the_log_back() {
    for seed in 1..4 {
        let mut world = world(options(seed, 2));
        // The second reader is a consumer too, and comes late.
        world.builder = Box::new(|mut birth| match birth.role {
            Role::Reader(2) => {
                birth.role = Role::Reader(1);
                let second = Options { consumer_prefix: "second-".into(), ..birth.options.clone() };
                build(zoolog_sim::cluster::Birth { options: &second, ..birth })
            }
            _ => build(birth),
        });
        let late = world.node(Role::Reader(2));
        world.nodes[late.0].held_down = true;
        let mut world = trimming(world);
        let before = world.checks.trim.point();
        world.nodes[late.0].held_down = false;
        world.schedule.after(MS, Event::Start(late));
        let told = world.run_while(2_000 * MS, |w| w.checks.trim.gaps() > 0);
        assert!(told, "seed {seed}: it was not told that {before} is the beginning: {:?}", world.violation);
        let on = world.run_while(4_000 * MS, |w| w.checks.trim.needs(late) > Some(before));
        assert!(on, "seed {seed}: it never got anywhere: {:?}", world.violation);
        run_for(&mut world, 300 * MS);
        // It goes away: nothing beyond what it released may be trimmed, for as long as it is registered.
        world.crash(late);
        world.nodes[late.0].held_down = true;
        run_for(&mut world, 1_500 * MS);
        let held = world.checks.trim.needs(late).expect("a consumer");
        let (point, first) = (world.checks.trim.point(), world.node(Role::Reader(1)));
        assert!(point <= held && world.checks.trim.needs(first) > Some(held), "seed {seed}: {point}, {held}");
        world.nodes[late.0].held_down = false;
        world.schedule.after(MS, Event::Start(late));
        ends_well(&mut world);
    }
}
