//! What if a server's disk loses the record of its newest start? No number is used by two lives, and the server serves again by
//! itself: whichever of the places rots that tell the number, and however often it started without writing anything else. The
//! worlds here have just as many servers as one shard needs, so that nothing is acknowledged while one is not back.

mod common;

use common::{ends_well, run_for};
use std::time::Duration;
use zoolog_core::wal::{UNIT, WalSource, recover};
use zoolog_sim::cluster::roles;
use zoolog_sim::node::Role;
use zoolog_sim::options::Options;
use zoolog_sim::schedule::NodeId;
use zoolog_sim::trace::TraceMode;
use zoolog_sim::world::World;

const MS: Duration = Duration::from_millis(1);
/// The bad disk's.
const BAD: Role = Role::Server(1);

fn under_way(seed: u64, random_starts: bool) -> (World, NodeId) {
    let mut o = Options::calm(seed);
    (o.orderers, o.servers, o.shards, o.replicas) = (3, 2, 1, 2);
    (o.zk, o.zk_clients, o.writers, o.readers) = (0, 0, 3, 1);
    (o.fault_phase, o.write_every, o.failure_timeout) = (6_000 * MS, 10 * MS, Duration::ZERO);
    o.random_starts = random_starts;
    let roles = roles(&o);
    let mut world = World::new(o, &roles, TraceMode::Collect);
    world.start_all();
    let goes = world.run_while(4_000 * MS, |w| w.checks.durability.count() > 20);
    assert!(goes, "the world does not get under way: {:?}", world.violation);
    let id = world.node(BAD);
    (world, id)
}

/// It dies, and stays down.
fn die(world: &mut World, id: NodeId) {
    world.crash_noticed(id, 2 * MS);
    world.nodes[id.0].held_down = true;
    run_for(world, 20 * MS);
}

/// It starts, is registered, and then runs on for that long.
fn live(world: &mut World, id: NodeId, on: Duration) -> u64 {
    let (mark, name) = (world.trace.text().len(), world.nodes[id.0].name.clone());
    world.nodes[id.0].held_down = false;
    world.start_again(id);
    let is_registered = |w: &World| {
        let mut lines = w.trace.text()[mark..].lines();
        lines.any(|l| l.contains(&format!("{name} ")) && l.contains("** ") && l.contains("Registered {"))
    };
    let done = world.run_while(10_000 * MS, is_registered);
    assert!(done, "seed {}: it is not registered again: {:?}", world.options.seed, world.violation);
    run_for(world, on);
    world.checks.starts.newest(id).expect("it has started")
}

/// Where its log ends, as a start would find it: segment and offset. And the number that the log alone would give that.
fn end_of_log(world: &World, id: NodeId) -> (u32, usize, u64) {
    let disk = &world.nodes[id.0].disk;
    let (found, _) =
        recover(disk.memory(), &disk.config(BAD).expect("a log")).expect("a log that can be used");
    (found.end.0, found.end.1 as usize, found.incarnation)
}

/// Bytes there change, up to so many, and to the end of all that was written.
fn destroy(world: &mut World, id: NodeId, (segment, offset): (u32, usize), bytes: usize) {
    let disk = &mut world.nodes[id.0].disk;
    disk.is_rotten = true;
    let newest = disk.memory().segments().expect("its segments").last().expect("a segment").0;
    let mut left = bytes;
    for n in segment..=newest {
        let Some(all) = disk.memory_mut().bytes_mut(n) else { continue };
        let from = if n == segment { offset } else { 0 };
        let to = all.len().min(from.saturating_add(left));
        let written = all[from..to].iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        all[from..from + written].iter_mut().for_each(|b| *b = b.wrapping_mul(7).wrapping_add(3));
        left -= to - from;
    }
}

/// After so many starts, each of which lived that long, all that the log tells of them is lost.
fn after_losing_the_tail(seed: u64, starts: u32, on: Duration) {
    let (mut world, id) = under_way(seed, false);
    die(&mut world, id);
    let (segment, offset, next) = end_of_log(&world, id);
    let mut newest = 0;
    for _ in 0..starts {
        newest = live(&mut world, id, on);
        die(&mut world, id);
    }
    destroy(&mut world, id, (segment, offset), usize::MAX);
    assert_eq!(end_of_log(&world, id).2, next, "seed {seed}: the log still tells of start {newest}");
    let acks = world.checks.durability.count();
    let number = live(&mut world, id, Duration::ZERO);
    assert!(number > newest, "seed {seed}: {number} follows {newest}");
    let serves = world.run_while(10_000 * MS, |w| w.checks.durability.count() > acks + 20);
    assert!(serves, "seed {seed}: nothing is acknowledged any more, {:?}", world.violation);
    ends_well(&mut world);
}

/// Its number would be that of the life before, whose reports and streams the others know.
#[test]
fn a_server_whose_log_forgets_its_newest_start_takes_another_number() {
    for seed in 1..7 {
        for on in [0, 30, 2_500] {
            after_losing_the_tail(seed, 1, on * MS);
        }
    }
}

/// Its number would be older than the one registered: refused for ever.
#[test]
fn a_server_whose_log_forgets_several_starts_serves_again() {
    for seed in 11..15 {
        for starts in 2..5 {
            after_losing_the_tail(seed, starts, 5 * MS);
        }
    }
}

/// What follows says the number, too; and that the record was synced, so what else lay there is mended.
#[test]
fn a_record_of_a_start_that_is_lost_in_the_middle_costs_no_number() {
    for seed in 21..25 {
        let (mut world, id) = under_way(seed, false);
        die(&mut world, id);
        let (segment, offset, _) = end_of_log(&world, id);
        let newest = live(&mut world, id, 1_500 * MS);
        die(&mut world, id);
        destroy(&mut world, id, (segment, offset), UNIT);
        assert_eq!(end_of_log(&world, id).2, newest + 1, "seed {seed}");
        assert!(live(&mut world, id, 300 * MS) > newest);
        ends_well(&mut world);
    }
}

#[test]
fn a_server_whose_file_of_its_newest_start_is_lost_goes_by_its_log() {
    for seed in 31..33 {
        for file in [None, Some(b"7 7".to_vec())] {
            let (mut world, id) = under_way(seed, false);
            let newest = world.checks.starts.newest(id).unwrap();
            die(&mut world, id);
            world.nodes[id.0].disk.start = file;
            assert!(live(&mut world, id, 300 * MS) > newest);
            ends_well(&mut world);
        }
    }
}

/// Both places are lost, or the whole directory is an older copy: it ends and is started anew until its number is the
/// highest, and none of them was ever used before.
#[test]
fn a_server_that_forgets_its_newest_starts_altogether_is_refused_until_its_number_is_the_highest() {
    let mut refused = 0;
    for seed in 41..49 {
        let (mut world, id) = under_way(seed, true);
        die(&mut world, id);
        let (segment, offset, _) = end_of_log(&world, id);
        let file = world.nodes[id.0].disk.start.clone();
        let mut newest = 0;
        for _ in 0..2 {
            newest = live(&mut world, id, 5 * MS);
            die(&mut world, id);
        }
        destroy(&mut world, id, (segment, offset), usize::MAX);
        world.nodes[id.0].disk.start = if seed % 2 == 0 { file } else { None };
        let (mark, acks) = (world.trace.text().len(), world.checks.durability.count());
        assert!(live(&mut world, id, Duration::ZERO) > newest, "seed {seed}");
        let name = format!("{} ", world.nodes[id.0].name);
        let lines = world.trace.text()[mark..].lines().filter(|l| l.contains(&name));
        refused += lines.filter(|l| l.contains("is started anew: start ")).count();
        let serves = world.run_while(10_000 * MS, |w| w.checks.durability.count() > acks + 20);
        assert!(serves, "seed {seed}: nothing is acknowledged any more, {:?}", world.violation);
        ends_well(&mut world);
    }
    assert!(refused > 0, "none was refused");
}
