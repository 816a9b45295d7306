//! What is held back so that fewer are woken: appends to a follower that isn't needed, cuts and acknowledgements
//! that nobody waits for. Told on calm worlds in which something happens just while they are held.

mod common;

use common::run_for;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use zoolog_sim::cluster::roles;
use zoolog_sim::node::Role;
use zoolog_sim::options::Options;
use zoolog_sim::schedule::NodeId;
use zoolog_sim::trace::TraceMode;
use zoolog_sim::world::World;

const MS: Duration = Duration::from_millis(1);

/// Three orderers and slots, and two writers: the second one takes its acknowledgements late.
fn options(seed: u64) -> Options {
    let mut o = Options::calm(seed);
    (o.orderers, o.servers, o.shards, o.replicas) = (3, 3, 3, 2);
    (o.zk, o.zk_clients, o.writers, o.readers) = (0, 0, 2, 1);
    (o.small_caches, o.fault_phase, o.write_every) = (false, 3_000 * MS, 2 * MS);
    (o.delay, o.sync) = (Duration::from_micros(50), Duration::from_micros(200));
    o
}

fn under_way(o: Options) -> World {
    let roles = roles(&o);
    let mut world = World::new(o, &roles, TraceMode::Collect);
    world.start_all();
    let goes = world.run_while(3_000 * MS, |w| w.checks.cuts.count() > 50);
    assert!(goes, "the world does not get under way: {:?}", world.violation);
    world
}

/// And nobody was told cuts out of order.
fn ends_well(world: &mut World) {
    common::ends_well(world);
    assert!(!world.trace.text().contains("Contradiction"), "seed {}: cuts out of order", world.options.seed);
}

fn leader_and_followers(world: &World) -> (NodeId, Vec<NodeId>) {
    let leader = world.checks.cuts.leader().expect("a leader that announced a cut");
    let all = [1, 2, 3].map(|n| world.node(Role::Orderer(n)));
    (leader, all.into_iter().filter(|o| *o != leader).collect())
}

/// How often a line from `start` on has all of these words.
fn lines(world: &World, start: usize, words: &[&str]) -> usize {
    world.trace.text()[start..].lines().filter(|l| words.iter().all(|w| l.contains(w))).count()
}

/// One of the two followers is the one that appends go to at once: whichever fails, cuts go on.
#[test]
fn a_prompt_follower_that_stops_or_dies_while_appends_are_held_back_is_replaced_at_once() {
    for (seed, which, dies) in [(1, 0, false), (1, 1, false), (2, 0, true), (2, 1, true)] {
        let mut world = under_way(options(seed));
        let (_, followers) = leader_and_followers(&world);
        let (id, cuts) = (followers[which], world.checks.cuts.count());
        if dies {
            world.crash_for(id, 300 * MS);
        } else {
            world.nodes[id.0].stalled_until = world.now() + 300 * MS;
        }
        run_for(&mut world, 60 * MS);
        let more = world.checks.cuts.count() - cuts;
        assert!(more > 15, "seed {seed}, follower {which}: {more} cuts in 60 ms");
        run_for(&mut world, 500 * MS);
        ends_well(&mut world);
    }
}

/// What a leader held back when it died or was cut off was no promise to anybody.
#[test]
fn a_leader_that_goes_while_it_holds_messages_back_leaves_everything_in_order() {
    for seed in 1..3 {
        let mut o = options(seed);
        o.fault_phase = 7_000 * MS;
        let mut world = under_way(o);
        for round in 0..2 {
            let (leader, others) = leader_and_followers(&world);
            let cuts = world.checks.cuts.count();
            if round == 0 {
                world.crash_for(leader, 200 * MS);
            } else {
                let pairs = others.iter().flat_map(|&o| [(leader, o), (o, leader)]);
                world.cut_off(pairs.collect::<BTreeSet<_>>(), 400 * MS);
            }
            run_for(&mut world, 2_500 * MS);
            let more = world.checks.cuts.count() - cuts;
            assert!(more > 50, "seed {seed}, round {round}: {more} cuts, nobody took over");
        }
        ends_well(&mut world);
    }
}

/// When, in microseconds, the leader sent which cut to whom. A cut told in few bytes gives the low byte of its number only:
/// the rest is that of what was told before.
fn cuts_sent(world: &World) -> BTreeMap<String, Vec<(u64, u64)>> {
    let mut sent: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
    let mut told: BTreeMap<String, u64> = BTreeMap::new();
    let number_behind = |line: &str, words: &str| {
        let digits = line.split_once(words)?.1.split(|c: char| !c.is_ascii_digit()).next()?;
        Some(digits.parse::<u64>().expect("a number"))
    };
    for line in world.trace.text().lines().filter(|l| l.contains("-> ")) {
        let to = line.split("-> ").nth(1).and_then(|s| s.split(' ').next()).expect("a peer");
        let last = told.get(to).copied();
        let (number, is_cut) = if let Some(low) = number_behind(line, "Grown { number: ") {
            let last = last.expect("the order before it was told");
            (last + u64::from((low as u8).wrapping_sub(last as u8)), true)
        } else if line.contains("CutIs(") || line.contains("OrderIs(") {
            (number_behind(line, "number: CutNumber(").expect("a number"), line.contains("CutIs("))
        } else {
            continue;
        };
        told.insert(to.into(), number);
        if is_cut {
            let at = line.split_whitespace().next().and_then(|s| s.parse::<f64>().ok()).expect("a time");
            sent.entry(to.into()).or_default().push((number, (at * 1e6) as u64));
        }
    }
    sent
}

/// Subscribers get cuts at once, slots late unless they wait; nobody later than he may, all in order.
#[test]
fn cuts_come_in_order_to_all_and_late_to_those_only_who_do_not_wait() {
    for seed in 1..3 {
        let mut world = under_way(options(seed));
        run_for(&mut world, 500 * MS);
        let sent = cuts_sent(&world);
        let reader: BTreeMap<u64, u64> = sent["reader-1"].iter().copied().collect();
        let (mut late, mut prompt) = (0, 0);
        for n in 1..=3 {
            let slot = &sent[&format!("shard-{n}")];
            assert!(slot.is_sorted_by(|a, b| a.0 < b.0), "seed {seed}, slot {n}: {slot:?}");
            for (number, at) in slot.iter().filter(|c| reader.contains_key(&c.0)) {
                let delay = at.saturating_sub(reader[number]);
                assert!(delay < 5_500, "seed {seed}: cut {number} came {delay} us late to slot {n}");
                late += u32::from(delay > 1_000);
                prompt += u32::from(delay == 0);
            }
        }
        assert!(late > 50 && prompt > 50, "seed {seed}: {late} late, {prompt} at once");
        ends_well(&mut world);
    }
}

/// A quarter of the window is enough for late acknowledgements: beyond it they are asked for.
#[test]
fn a_writer_that_takes_its_acknowledgements_late_is_not_stopped_by_a_full_window() {
    let mut asked = 0;
    for seed in 1..3 {
        let mut o = options(seed);
        (o.write_every, o.delay) = (Duration::from_micros(60), Duration::from_millis(1));
        o.fault_phase = 1_000 * MS;
        let mut world = under_way(o);
        run_for(&mut world, 600 * MS);
        let late = lines(&world, 0, &["writer-2 ", "-> shard", "Append(", "prompt: false"]);
        asked += lines(&world, 0, &["writer-2 ", "-> shard", "Append(", "prompt: true"]);
        assert!(late > 30, "seed {seed}: {late} late");
        assert_eq!(lines(&world, 0, &["writer-1 ", "Append(", "prompt: false"]), 0);
        ends_well(&mut world);
    }
    assert!(asked > 50, "{asked} asked for prompt acknowledgements");
}

/// LOG-3: what was committed and not acknowledged yet is sent again, recognised, and acknowledged once.
#[test]
fn a_writer_that_reconnects_while_its_acknowledgements_are_held_back_goes_on() {
    for seed in 1..3 {
        let mut world = under_way(options(seed));
        let writer = world.node(Role::Writer(2));
        for _ in 0..20 {
            let links: Vec<_> = [1, 2, 3]
                .iter()
                .flat_map(|n| world.network.links_between(writer, world.node(Role::Server(*n))))
                .collect();
            for link in links {
                world.network.break_link(&mut world.schedule, link, MS);
            }
            run_for(&mut world, 45 * MS);
        }
        ends_well(&mut world);
    }
}

/// A ZooKeeper node takes what it applies for acknowledged, whatever becomes of its connections meanwhile.
#[test]
fn nodes_whose_connections_break_while_acknowledgements_are_held_back_lose_nothing() {
    for seed in 1..3 {
        let mut o = options(seed);
        (o.zk, o.zk_clients, o.writers) = (2, 3, 0);
        (o.session_timeout_ms, o.request_every, o.request_depth) = (1_500, 3 * MS, 4);
        let mut world = under_way(o);
        for round in 0..20u32 {
            let zk = world.node(Role::Zk(1 + round % 2));
            let slot = world.node(Role::Server(1 + round % 3));
            for link in world.network.links_between(zk, slot) {
                world.network.break_link(&mut world.schedule, link, MS);
            }
            if round == 10 {
                world.crash_for(slot, 30 * MS);
            }
            run_for(&mut world, 70 * MS);
        }
        ends_well(&mut world);
    }
}
