//! The schedules that the design guards against, one by one, told on calm worlds in which only the fault in
//! question happens. Each also asserts that the situation it is about really came up.

mod common;

use common::{ends_well, run_for};
use std::collections::BTreeSet;
use std::time::Duration;
use zoolog_core::{Instant, Seq, WriterId};
use zoolog_sim::cluster::roles;
use zoolog_sim::node::Role;
use zoolog_sim::options::Options;
use zoolog_sim::schedule::NodeId;
use zoolog_sim::trace::TraceMode;
use zoolog_sim::world::World;

const MS: Duration = Duration::from_millis(1);

/// One shard of two replicas, `writers` writers and a reader that reads everything; writing for 3 s.
fn log_options(seed: u64, writers: u32) -> Options {
    let mut o = Options::calm(seed);
    (o.orderers, o.servers, o.shards, o.replicas) = (3, 2, 1, 2);
    (o.zk, o.zk_clients, o.writers, o.readers) = (0, 0, writers, 1);
    (o.small_caches, o.fault_phase, o.write_every) = (false, 3_000 * MS, 5 * MS);
    o
}

/// The world of these options, under way: some batches are acknowledged.
fn under_way(o: Options) -> World {
    let roles = roles(&o);
    let mut world = World::new(o, &roles, TraceMode::Collect);
    world.start_all();
    let goes = world.run_while(2_000 * MS, |w| w.checks.durability.count() > 10);
    assert!(goes, "the world does not get under way: {:?}", world.violation);
    world
}

/// Primary and backup of the one shard's lane that writer 1 appends to.
fn primary_and_backup(world: &World) -> (NodeId, NodeId) {
    let writer = world.node(Role::Writer(1));
    let servers = [1, 2].map(|n| world.node(Role::Server(n)));
    let primary =
        *servers.iter().find(|s| !world.network.links_between(writer, **s).is_empty()).expect("a primary");
    let backup = *servers.iter().find(|s| **s != primary).expect("a backup");
    (primary, backup)
}

fn leader(world: &World) -> NodeId {
    world.checks.cuts.leader().expect("a leader that announced a cut")
}

fn orderers(world: &World) -> [NodeId; 3] {
    [1, 2, 3].map(|n| world.node(Role::Orderer(n)))
}

/// Ordered pairs from any of `a` to any of `b`.
fn pairs(a: &[NodeId], b: &[NodeId]) -> BTreeSet<(NodeId, NodeId)> {
    a.iter().flat_map(|&x| b.iter().map(move |&y| (x, y))).filter(|(x, y)| x != y).collect()
}

/// Both ways.
fn between(a: &[NodeId], b: &[NodeId]) -> BTreeSet<(NodeId, NodeId)> {
    pairs(a, b).union(&pairs(b, a)).copied().collect()
}

/// Whether some line of the trace from `start` on has all of these words.
fn traced(world: &World, start: usize, words: &[&str]) -> bool {
    world.trace.text()[start..].lines().any(|l| words.iter().all(|w| l.contains(w)))
}

/// The only writer, and the last batch it has sent.
fn sent(world: &World) -> (WriterId, Seq) {
    world.checks.content.last_sent().into_iter().next().expect("a writer that sent something")
}

#[test]
fn in_fine_weather_everything_is_read_and_acknowledged() {
    let mut world = under_way(log_options(1, 3));
    ends_well(&mut world);
    assert!(world.checks.durability.count() > 100, "{} acks", world.checks.durability.count());
}

/// Section 3.2: a lane never shrinks and no LSN is written twice.
#[test]
fn a_primary_that_dies_behind_its_backup_adopts_what_the_backup_has() {
    let mut adopted = 0;
    for seed in 1..8 {
        let mut world = under_way(log_options(seed, 1));
        let (primary, _) = primary_and_backup(&world);
        world.nodes[primary.0].disk_factor = 1_000;
        run_for(&mut world, 100 * MS);
        let mark = world.trace.text().len();
        world.crash_for(primary, 30 * MS);
        world.nodes[primary.0].disk_factor = 1;
        ends_well(&mut world);
        adopted += usize::from(traced(
            &world,
            mark,
            &[&world.nodes[primary.0].name.clone(), "-> shard", "FetchLane"],
        ));
    }
    assert!(adopted > 0, "no seed left the primary behind");
}

/// Section 3.2, the other way round: the backup is brought up to date before anything new is taken.
#[test]
fn a_backup_that_dies_behind_its_primary_is_sent_what_it_lacks() {
    for seed in 1..4 {
        let mut world = under_way(log_options(seed, 1));
        let (_, backup) = primary_and_backup(&world);
        world.nodes[backup.0].disk_factor = 1_000;
        run_for(&mut world, 100 * MS);
        let acks = world.checks.durability.count();
        world.crash_for(backup, 30 * MS);
        world.nodes[backup.0].disk_factor = 1;
        run_for(&mut world, 1_000 * MS);
        assert!(world.checks.durability.count() > acks, "seed {seed}: appends do not go on");
        ends_well(&mut world);
    }
}

/// Section 3.2: what is durable on all replicas commits though nobody sends it again.
#[test]
fn records_written_and_not_ordered_survive_a_power_cut_of_the_whole_shard() {
    let mut world = under_way(log_options(3, 1));
    let (primary, backup) = primary_and_backup(&world);
    let cut = between(&[primary, backup], &orderers(&world));
    let partition = world.network.block(cut);
    run_for(&mut world, 150 * MS);
    let ((writer, last), acked) = (sent(&world), world.checks.durability.count());
    assert!(last.0 as usize > acked, "nothing is written and not ordered");
    // The writer stops for good, so that only the disks can bring the records back.
    let id = world.node(Role::Writer(1));
    world.crash(id);
    world.nodes[id.0].held_down = true;
    run_for(&mut world, 150 * MS);
    world.crash_for(primary, 20 * MS);
    world.crash_for(backup, 40 * MS);
    world.network.heal(&mut world.schedule, partition);
    run_for(&mut world, 2_000 * MS);
    assert_eq!(world.checks.writers.last(writer), Some(last), "durable everywhere, and not in the log");
    ends_well(&mut world);
}

/// Section 3.2: entries are proposals; what was not committed leaves no hole and no second cut.
#[test]
fn a_leader_that_dies_between_proposing_and_committing_leaves_no_trace_in_the_order() {
    for seed in 1..4 {
        let mut world = under_way(log_options(seed, 2));
        let old = leader(&world);
        let others: Vec<NodeId> = orderers(&world).into_iter().filter(|o| *o != old).collect();
        let partition = world.network.block(pairs(&[old], &others));
        // What was on its way may still commit.
        run_for(&mut world, 15 * MS);
        let (cuts, sent_before) = (world.checks.cuts.count(), sent(&world).1);
        run_for(&mut world, 65 * MS);
        assert_eq!(world.checks.cuts.count(), cuts, "cuts without a quorum");
        assert!(sent(&world).1 > sent_before, "nothing to propose");
        world.crash_for(old, 2_500 * MS);
        world.network.heal(&mut world.schedule, partition);
        run_for(&mut world, 1_500 * MS);
        assert_ne!(leader(&world), old, "seed {seed}: nobody took over");
        assert!(world.checks.cuts.count() > cuts, "seed {seed}: no cuts under the new leader");
        ends_well(&mut world);
    }
}

/// LOG-2: an acknowledgement implies a quorum of orderers.
#[test]
fn a_leader_cut_off_from_the_other_orderers_acknowledges_nothing() {
    let mut world = under_way(log_options(5, 1));
    let old = leader(&world);
    let (primary, backup) = primary_and_backup(&world);
    let others: Vec<NodeId> = orderers(&world).into_iter().filter(|o| *o != old).collect();
    let mut cut = between(&[old], &others);
    cut.extend(between(&[primary, backup, world.node(Role::Writer(1))], &others));
    let partition = world.network.block(cut);
    run_for(&mut world, 20 * MS);
    let acks = world.checks.durability.count();
    run_for(&mut world, 700 * MS);
    assert_eq!(world.checks.durability.count(), acks, "acknowledged by a minority");
    world.network.heal(&mut world.schedule, partition);
    ends_well(&mut world);
}

/// LOG-2: one replica's copy is not enough.
#[test]
fn nothing_is_acknowledged_while_a_replica_is_away() {
    let mut world = under_way(log_options(6, 1));
    let (_, backup) = primary_and_backup(&world);
    world.crash(backup);
    world.nodes[backup.0].held_down = true;
    run_for(&mut world, 50 * MS);
    let acks = world.checks.durability.count();
    run_for(&mut world, 1_000 * MS);
    assert_eq!(world.checks.durability.count(), acks, "acknowledged with one copy");
    ends_well(&mut world);
}

/// Section 3.2: the newest registration fences older ones; what they said late is void.
#[test]
fn reports_of_an_earlier_life_that_arrive_late_count_for_nothing() {
    for seed in 1..4 {
        let mut world = under_way(log_options(seed, 1));
        let (leader, (_, backup)) = (leader(&world), primary_and_backup(&world));
        let links = world.network.links_between(backup, leader);
        assert!(!links.is_empty(), "the backup reports to the leader");
        links.iter().for_each(|l| world.network.freeze(*l));
        run_for(&mut world, 40 * MS);
        world.crash_noticed(backup, 3_000 * MS);
        world.crash_for(backup, MS);
        run_for(&mut world, MS);
        world.schedule.after(20 * MS, zoolog_sim::schedule::Event::Start(backup));
        run_for(&mut world, 300 * MS);
        let mark = world.trace.text().len();
        links.iter().for_each(|l| world.network.thaw(&mut world.schedule, *l));
        run_for(&mut world, 50 * MS);
        let name = world.nodes[leader.0].name.clone();
        let backup_name = world.nodes[backup.0].name.clone();
        assert!(traced(&world, mark, &[&name, "<-", &backup_name, "Report"]), "no late report, seed {seed}");
        ends_well(&mut world);
    }
}

/// Section 3.2: `damaged: repair first`. A replica that lost its disk can't make committed records vanish.
#[test]
fn a_replica_that_lost_its_disk_is_refused_and_the_log_stands_rather_than_lies() {
    // Nobody takes its place meanwhile.
    let mut world = under_way(Options { failure_timeout: Duration::ZERO, ..log_options(8, 1) });
    let (_, backup) = primary_and_backup(&world);
    world.crash(backup);
    let mut another = zoolog_sim::disk::Disk::new(256 << 10);
    another.number = 1;
    let disk = std::mem::replace(&mut world.nodes[backup.0].disk, another);
    let start = world.trace.text().len();
    world.schedule.after(10 * MS, zoolog_sim::schedule::Event::Start(backup));
    run_for(&mut world, 100 * MS);
    let acks = world.checks.durability.count();
    run_for(&mut world, 1_000 * MS);
    assert!(traced(&world, start, &["Dismissed"]), "nobody refused it");
    assert_eq!(world.checks.durability.count(), acks, "acknowledged by a replica without its past");
    // The operator finds the disk again.
    world.crash(backup);
    world.nodes[backup.0].disk = disk;
    ends_well(&mut world);
}

/// Section 3.1, 5: cuts are applied strictly in number order; who misses one fetches it.
#[test]
fn a_replica_that_missed_cuts_fetches_them_before_it_acknowledges() {
    let mut world = under_way(log_options(9, 2));
    let (leader, (primary, _)) = (leader(&world), primary_and_backup(&world));
    let links = world.network.links_between(primary, leader);
    links.iter().for_each(|l| world.network.freeze(*l));
    run_for(&mut world, 60 * MS);
    let mark = world.trace.text().len();
    for link in links {
        world.network.break_link(&mut world.schedule, link, MS);
    }
    run_for(&mut world, 500 * MS);
    let name = world.nodes[primary.0].name.clone();
    assert!(traced(&world, mark, &[&name, "<-", "PartsAre"]), "it was not told what it missed");
    ends_well(&mut world);
}

/// Section 3.2: a backup drops frames of a stream that a newer `Sync` has fenced.
#[test]
fn frames_of_an_older_stream_that_arrive_after_a_newer_sync_are_dropped() {
    for seed in 1..4 {
        let mut world = under_way(log_options(seed, 1));
        let (primary, backup) = primary_and_backup(&world);
        let old = world.network.links_between(primary, backup);
        assert!(!old.is_empty(), "the primary replicates");
        old.iter().for_each(|l| world.network.freeze(*l));
        run_for(&mut world, 40 * MS);
        for link in &old {
            world.network.break_end(&mut world.schedule, *link, 0);
        }
        run_for(&mut world, 300 * MS);
        let (mark, acks) = (world.trace.text().len(), world.checks.durability.count());
        old.iter().for_each(|l| world.network.thaw(&mut world.schedule, *l));
        run_for(&mut world, 100 * MS);
        let (name, peer) = (world.nodes[backup.0].name.clone(), world.nodes[primary.0].name.clone());
        assert!(traced(&world, mark, &[&name, "<-", &peer, "Replicate"]), "no late frame, seed {seed}");
        assert!(world.checks.durability.count() > acks, "appends stand, seed {seed}");
        ends_well(&mut world);
    }
}

/// The same across a crash: what a life that is over had sent, and not made durable itself, comes late.
#[test]
fn frames_of_an_earlier_life_of_the_primary_are_dropped() {
    let mut late = 0;
    for seed in 1..9 {
        let mut world = under_way(log_options(seed, 1));
        let (primary, backup) = primary_and_backup(&world);
        let old = world.network.links_between(primary, backup);
        old.iter().for_each(|l| world.network.freeze(*l));
        world.nodes[primary.0].disk_factor = 1_000;
        run_for(&mut world, 30 * MS);
        world.crash_noticed(primary, 3_000 * MS);
        world.nodes[primary.0].disk_factor = 1;
        world.schedule.after(MS, zoolog_sim::schedule::Event::Start(primary));
        let mark = world.trace.text().len();
        let (name, peer) = (world.nodes[backup.0].name.clone(), world.nodes[primary.0].name.clone());
        let synced = world.run_while(1_000 * MS, |w| traced(w, mark, &[&name, "->", &peer, "Synced"]));
        assert!(synced, "seed {seed}: the new life does not ask");
        let mark = world.trace.text().len();
        old.iter().for_each(|l| world.network.thaw(&mut world.schedule, *l));
        run_for(&mut world, 5 * MS);
        let earlier = [&*name, "<-", &*peer, "Replicate", "Incarnation(1)"];
        late += usize::from(traced(&world, mark, &earlier));
        ends_well(&mut world);
    }
    assert!(late > 0, "no frame of the earlier life came late");
}

/// LOG-3: a batch sent again is acknowledged where it is, not stored again.
#[test]
fn a_batch_sent_again_after_its_acknowledgement_was_lost_is_in_the_log_once() {
    for seed in 1..4 {
        let mut world = under_way(log_options(seed, 1));
        let writer = world.node(Role::Writer(1));
        let (primary, _) = primary_and_backup(&world);
        let (link, mark) = (world.network.links_between(writer, primary)[0], world.trace.text().len());
        // The appends arrive, the answers don't.
        let partition = world.network.block(pairs(&[primary], &[writer]));
        run_for(&mut world, 60 * MS);
        world.network.break_link(&mut world.schedule, link, MS);
        run_for(&mut world, 5 * MS);
        world.network.heal(&mut world.schedule, partition);
        run_for(&mut world, 300 * MS);
        let resent = world.trace.text()[mark..]
            .lines()
            .filter(|l| l.contains("-> shard") && l.contains("Append"))
            .count();
        assert!(resent > 0, "nothing was sent again, seed {seed}");
        ends_well(&mut world);
    }
}

/// Section 3.3: from history to what is pushed, without a gap or a repetition, again and again.
#[test]
fn readers_that_start_anywhere_cross_the_seam_between_history_and_the_present() {
    for (seed, small) in [(1, false), (2, true), (3, true)] {
        let mut o = log_options(seed, 3);
        (o.readers, o.small_caches, o.write_every) = (4, small, 2 * MS);
        let mut world = under_way(o);
        ends_well(&mut world);
        let starts = world.trace.text().matches("Subscribed").count();
        assert!(starts > 6, "seed {seed}: only {starts} subscriptions");
    }
}

/// Everything at once loses power, several times.
#[test]
fn what_was_acknowledged_survives_power_cuts_of_everything() {
    for seed in 1..4 {
        let mut world = under_way(log_options(seed, 2));
        for round in 0..3 {
            for id in world.service() {
                world.crash_for(id, (10 + round) * MS);
            }
            run_for(&mut world, 700 * MS);
        }
        ends_well(&mut world);
        assert!(world.now() > Instant(3_000_000_000));
    }
}
