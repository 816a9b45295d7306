//! Disks that fill up, logs that are kept for a while, and consumers that don't come back, one schedule after the other
//! on calm worlds. Each also asserts that the situation it is about really came up.

mod common;

use common::{ends_well, run_for};
use std::sync::atomic::Ordering;
use std::time::Duration;
use zoolog_core::Gsn;
use zoolog_core::wire::DiskRoom;
use zoolog_sim::cluster::roles;
use zoolog_sim::node::Role;
use zoolog_sim::options::Options;
use zoolog_sim::schedule::{Event, NodeId};
use zoolog_sim::trace::TraceMode;
use zoolog_sim::world::World;

const MS: Duration = Duration::from_millis(1);
/// As many as a test may take time for; other schedules come with the seeds of CI.
const SEEDS: std::ops::Range<u64> = 1..2;

/// One shard of two replicas with small segments, two writers, and readers of which the first is a consumer. Disks
/// keep four segments in reserve.
fn options(seed: u64, readers: u32) -> Options {
    let mut o = Options::calm(seed);
    (o.orderers, o.servers, o.shards, o.replicas) = (3, 2, 1, 2);
    (o.zk, o.zk_clients, o.writers, o.readers, o.trims) = (0, 0, 2, readers, true);
    (o.small_caches, o.fault_phase, o.write_every) = (seed.is_multiple_of(2), 14_000 * MS, 12 * MS);
    (o.segment_bytes, o.disk_reserve_bytes) = (64 << 10, 4 * (64 << 10));
    // What is short of room is nobody's failure.
    o.failure_timeout = Duration::ZERO;
    o
}

/// Two ZooKeeper nodes and three clients on top.
fn with_zk(seed: u64) -> Options {
    let mut o = options(seed, 1);
    (o.zk, o.zk_clients, o.session_timeout_ms) = (2, 3, 1_200);
    (o.request_every, o.request_depth, o.snapshot_records) = (5 * MS, 4, 60);
    o
}

fn under_way(o: Options, records: usize) -> World {
    let roles = roles(&o);
    // Lines take most of the time: who reads some has them collected from there on.
    let mut world = World::new(o, &roles, TraceMode::Off);
    world.start_all();
    let goes = world.run_while(6_000 * MS, |w| w.checks.durability.count() > records);
    assert!(goes, "the world does not get under way: {:?}", world.violation);
    world
}

fn servers(world: &World) -> [NodeId; 2] {
    [1, 2].map(|n| world.node(Role::Server(n)))
}

fn lives(world: &World) -> Vec<u64> {
    world.nodes.iter().map(|n| n.life).collect()
}

fn lines(world: &World, id: NodeId, words: &str) -> usize {
    let name = &world.nodes[id.0].name;
    world.trace.text().lines().filter(|l| l.contains(&**name) && l.contains(words)).count()
}

/// One of the two disks of a shard is full: appends are refused, what is there is read to the end, and all goes on once
/// there is room, with nobody restarted.
#[test]
fn appends_stop_on_a_full_disk_reads_go_on_and_room_brings_them_back() {
    for seed in SEEDS {
        let mut world = under_way(options(seed, 2), 100);
        let id = servers(&world)[(seed % 2) as usize];
        let before = lives(&world);
        // A trim may give segments back meanwhile: then it fills up again.
        for _ in 0..5 {
            world.fill_disk(id, 1);
            run_for(&mut world, 1_000 * MS);
            if world.nodes[id.0].room == DiskRoom::Full {
                break;
            }
        }
        assert_eq!(world.nodes[id.0].room, DiskRoom::Full, "seed {seed}");
        // What was under way comes in.
        run_for(&mut world, 500 * MS);
        let (refused, acks) = (world.checks.refused, world.checks.durability.count());
        assert!(refused > 0, "seed {seed}: nothing was refused");
        run_for(&mut world, 2_000 * MS);
        assert_eq!(world.checks.durability.count(), acks, "seed {seed}: something was appended");
        let reader = world.node(Role::Reader(1));
        assert_eq!(world.checks.order.position(reader), Some(world.tail()), "seed {seed}: reads stand still");
        world.nodes[id.0].disk.capacity = None;
        let on = world.run_while(3_000 * MS, |w| w.checks.durability.count() > acks + 50);
        assert!(on, "seed {seed}: appends did not come back: {:?}", world.violation);
        assert_eq!(lives(&world), before, "seed {seed}: somebody was restarted");
        ends_well(&mut world);
    }
}

/// Nothing is let go until the disks are full: the trim that comes then gives room, though nothing is appended that
/// could carry its marks, and service comes back by itself.
#[test]
fn a_trim_gives_room_on_full_disks_and_service_comes_back() {
    for seed in SEEDS {
        let mut world = under_way(Options { fault_phase: 20_000 * MS, ..options(seed, 1) }, 20);
        world.options.registered.store(false, Ordering::Relaxed);
        run_for(&mut world, 3_000 * MS);
        for id in servers(&world) {
            world.fill_disk(id, 1);
        }
        run_for(&mut world, 2_500 * MS);
        for id in servers(&world) {
            let disk = &world.nodes[id.0].disk;
            let left = (disk.used(), disk.free());
            assert_eq!(world.nodes[id.0].room, DiskRoom::Full, "seed {seed}: used and free {left:?}");
        }
        let (acks, point) = (world.checks.durability.count(), world.checks.trim.point());
        run_for(&mut world, 1_000 * MS);
        assert_eq!(
            (world.checks.durability.count(), world.checks.trim.point()),
            (acks, point),
            "seed {seed}"
        );
        world.options.registered.store(true, Ordering::Relaxed);
        let on = world.run_while(8_000 * MS, |w| w.checks.durability.count() > acks + 50);
        assert!(on, "seed {seed}: appends did not come back: {:?}", world.violation);
        assert!(world.checks.trim.point() > point, "seed {seed}");
        for id in servers(&world) {
            assert!(world.nodes[id.0].disk.capacity.is_some(), "seed {seed}: on the same small disk");
        }
        ends_well(&mut world);
    }
}

/// An orderer's log doesn't grow: on a disk with no room for anything more it goes on, leader or not.
#[test]
fn an_orderer_lives_on_in_the_room_it_has() {
    for seed in SEEDS {
        let mut world = under_way(options(seed, 1), 100);
        for n in 1..=3 {
            let id = world.node(Role::Orderer(n));
            world.fill_disk(id, 0);
        }
        let acks = world.checks.durability.count();
        world.trace.set(TraceMode::Collect);
        run_for(&mut world, 12_000 * MS);
        assert!(lines(&world, world.node(Role::Orderer(1)), "log rolls") > 1, "seed {seed}: no roll");
        assert!(world.checks.durability.count() > acks + 200, "seed {seed}: it stands still");
        ends_well(&mut world);
    }
}

/// Disks that are low: ZooKeeper's clients can't write, but they read, and no session ends.
#[test]
fn on_low_disks_sessions_live_and_reads_go_on() {
    for seed in SEEDS {
        // With segments so large that what keeps sessions alive doesn't fill the rest.
        let segment_bytes = 1 << 20;
        let disk_reserve_bytes = 4 * u64::from(segment_bytes);
        let mut world = under_way(Options { segment_bytes, disk_reserve_bytes, ..with_zk(seed) }, 100);
        let goes = world.run_while(4_000 * MS, |w| w.checks.registers.counts().0 > 40);
        assert!(goes, "seed {seed}: {:?}", world.violation);
        for id in servers(&world) {
            world.fill_disk(id, 3);
        }
        run_for(&mut world, 1_500 * MS);
        let ((writes, reads), expired) = (world.checks.registers.counts(), world.checks.expiry.expired());
        run_for(&mut world, 3_000 * MS);
        for id in servers(&world) {
            assert_eq!(world.nodes[id.0].room, DiskRoom::Low, "seed {seed}");
        }
        let (more_writes, more_reads) = world.checks.registers.counts();
        assert!(more_writes <= writes + 2, "seed {seed}: {} writes on low disks", more_writes - writes);
        assert!(more_reads > reads + 50, "seed {seed}: {} reads", more_reads - reads);
        assert_eq!(world.checks.expiry.expired(), expired, "seed {seed}: a session ended");
        ends_well(&mut world);
        assert!(world.checks.registers.counts().0 > more_writes, "seed {seed}: no write after that");
    }
}

/// A ZooKeeper node that was away for longer than the log waits for it: it says so instead of serving, and with another
/// node's snapshot it is well again. One that was away for less goes on from its own.
#[test]
fn a_node_whose_place_was_trimmed_says_so_and_goes_on_from_anothers_snapshot() {
    let mut fetched = 0;
    for seed in SEEDS {
        // With writes to the end of it, and no longer.
        for (away, dropped, fault_phase) in [(700 * MS, false, 5_000 * MS), (4_000 * MS, true, 8_000 * MS)] {
            let o = Options { consumer_max_age: Some(2_000 * MS), fault_phase, ..with_zk(seed) };
            let mut world = under_way(o, 100);
            let snapshots = world.run_while(8_000 * MS, |w| w.checks.trim.point() > Gsn(300));
            assert!(snapshots, "seed {seed}: nothing is trimmed: {:?}", world.violation);
            let node = world.node(Role::Zk(2));
            world.crash(node);
            world.nodes[node.0].held_down = true;
            run_for(&mut world, away);
            assert_eq!(world.checks.trim.counts().0 > 0, dropped, "seed {seed}, away for {away:?}");
            world.nodes[node.0].held_down = false;
            world.schedule.after(MS, Event::Start(node));
            world.trace.set(TraceMode::Collect);
            run_for(&mut world, 1_500 * MS);
            world.trace.set(TraceMode::Off);
            let (text, ready) = (world.trace.text(), "Ready");
            let own: Vec<&str> = text.lines().filter(|l| l.contains("zk-2") && l.contains("**")).collect();
            let failed = own.iter().position(|l| l.contains("was trimmed"));
            let served = own.iter().position(|l| l.contains(ready));
            assert!(served.is_some() && failed.is_none_or(|f| Some(f) < served), "seed {seed}: {own:?}");
            assert_eq!(failed.is_some(), world.fetched > 0, "seed {seed}");
            fetched += world.fetched;
            assert!(dropped || world.fetched == 0, "seed {seed}: it was waited for");
            ends_well(&mut world);
        }
    }
    assert!(fetched > 0, "it got another's snapshot {fetched} times");
}

/// Records are kept for their time though the consumer has let go of them, then they go. A new leader doesn't let them
/// go any sooner.
#[test]
fn records_are_kept_for_their_time_whoever_leads() {
    for seed in SEEDS {
        let o = Options { retain_time: Some(3_000 * MS), ..options(seed, 1) };
        let mut world = under_way(o, 50);
        // What is there now may go 3 s from now.
        let (tail, since) = (world.tail(), world.now());
        let mut changes = 0;
        while world.now().since(since) < 2_900 * MS {
            run_for(&mut world, 700 * MS);
            if changes < 2 {
                let leader = world.checks.cuts.leader().expect("a leader");
                world.crash_for(leader, 1_000 * MS);
                changes += 1;
            }
            let early = world.now().since(since) < 2_900 * MS && world.checks.trim.point() >= tail;
            assert!(
                !early,
                "seed {seed}: trimmed to {} after {:?}",
                world.checks.trim.point(),
                world.now().since(since)
            );
        }
        let gone = world.run_while(15_000 * MS, |w| w.checks.trim.point() >= tail);
        assert!(gone, "seed {seed}: never trimmed: {}, {:?}", world.checks.trim.point(), world.violation);
        ends_well(&mut world);
    }
}

/// Only so many bytes are kept once nobody needs them; a consumer that is there is waited for all the same.
#[test]
fn no_more_bytes_are_kept_than_wanted_and_needed() {
    for seed in SEEDS {
        let o = Options { retain_bytes: Some(100_000), ..options(seed, 1) };
        let mut world = under_way(o, 600);
        run_for(&mut world, 4_000 * MS);
        let (point, tail) = (world.checks.trim.point().0, world.tail().0);
        assert!(point > 0 && point < tail, "seed {seed}: {point} of {tail}");
        // It lets go of nothing more: what is kept for it grows.
        world.options.registered.store(false, Ordering::Relaxed);
        run_for(&mut world, 1_500 * MS);
        let held = world.checks.trim.needs(world.node(Role::Reader(1))).expect("a consumer");
        run_for(&mut world, 2_500 * MS);
        assert!(world.checks.trim.point() <= held, "seed {seed}: trimmed past {held}");
        world.options.registered.store(true, Ordering::Relaxed);
        ends_well(&mut world);
    }
}

/// A consumer that vanishes holds the log for as long as is set, and no longer. When it comes back it is told what it has
/// missed.
#[test]
fn a_consumer_that_vanishes_is_given_up_and_told_when_it_returns() {
    for seed in SEEDS {
        let o =
            Options { consumer_max_age: Some(2_000 * MS), retain_time: Some(300 * MS), ..options(seed, 2) };
        let mut world = under_way(o, 100);
        let id = world.node(Role::Reader(1));
        let there = world.run_while(3_000 * MS, |w| w.checks.trim.needs(id) > Some(Gsn(50)));
        assert!(there, "seed {seed}: {:?}", world.violation);
        world.crash(id);
        world.nodes[id.0].held_down = true;
        let held = world.checks.trim.needs(id).expect("a consumer");
        run_for(&mut world, 1_900 * MS);
        assert_eq!(world.checks.trim.counts().0, 0, "seed {seed}: given up too soon");
        assert!(world.checks.trim.point() <= held, "seed {seed}");
        run_for(&mut world, 3_000 * MS);
        assert_eq!(world.checks.trim.counts().0, 1, "seed {seed}: not given up");
        assert!(world.checks.trim.point() > held, "seed {seed}: {} is held", world.checks.trim.point());
        let gaps = world.checks.trim.gaps();
        world.nodes[id.0].held_down = false;
        world.schedule.after(MS, Event::Start(id));
        run_for(&mut world, 1_500 * MS);
        assert!(world.checks.trim.gaps() > gaps, "seed {seed}: it was not told");
        ends_well(&mut world);
    }
}
