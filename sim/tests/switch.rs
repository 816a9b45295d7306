//! The exchange of the log underneath a running structure: an embedded log is sealed, a cluster goes on where it ends. The node
//! dies after each number of turns since the seal was asked for, so between every two steps, and orderers and servers with it;
//! the seal is asked for again until it is done. Whatever was told to anybody is there once, at the position that was told;
//! positions go on; who joins later comes to the same state (LOG-11).

#[path = "common/ledger.rs"]
mod ledger;

use ledger::{Absent, Member, NAME, Seen};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;
use zoolog_client::{ChainLog, ClientConfig, LocalConfig, LocalLog, LogClient, Sealed};
use zoolog_core::rng::Rng;
use zoolog_core::{Instant, Seq};
use zoolog_sim::cluster::{self, Birth, roles};
use zoolog_sim::disk::CLUSTER;
use zoolog_sim::node::Role;
use zoolog_sim::options::Options;
use zoolog_sim::trace::TraceMode;
use zoolog_sim::world::World;

/// The node that begins embedded.
const FIRST: Role = Role::Embedded(1);
/// The one that joins in the cluster.
const SECOND: Role = Role::Writer(1);

type Chain = ChainLog<LocalLog, LogClient>;

fn orderers() -> Vec<String> {
    [1, 2, 3].map(|n| Role::Orderer(n).addr()).to_vec()
}

fn client(role: Role) -> ClientConfig {
    let consumer = Some(format!("{NAME}/{}", role.name()));
    ClientConfig { cluster: CLUSTER, orderers: orderers(), consumer, ..ClientConfig::default() }
}

fn chain(birth: &Birth<'_>, seen: &Rc<RefCell<Seen>>) -> Chain {
    let recovered = birth.recovered.as_ref().expect("it has a disk");
    let cfg = LocalConfig { cache_bytes: 1 << 10, window_batches: 4, ..LocalConfig::new(CLUSTER) };
    let first = LocalLog::new(cfg, recovered, birth.seed).expect("a crash harms no log");
    let (ended, seed, seen) = (first.sealed(), birth.seed, seen.clone());
    {
        let mut seen = seen.borrow_mut();
        seen.found_sealed += u64::from(ended.is_some());
        seen.undone += u64::from(ended.is_none() && seen.asked);
    }
    let follow = move |now: Instant, sealed: &Sealed, first_seq: Seq| {
        assert_eq!(sealed.successor, orderers().join(","));
        seen.borrow_mut().ended(sealed);
        let cfg = ClientConfig { first_seq, succeeds: Some(sealed.tail), ..client(FIRST) };
        LogClient::new(cfg, seed ^ 1 << 63, now)
    };
    ChainLog::new(first, ended, Box::new(follow), birth.now)
}

/// What a scenario has come to.
struct Told {
    seen: Seen,
    lives: u64,
}

/// The log is exchanged; its node dies after so many turns since that was asked for, and then so many microseconds; and again
/// later if it `dies_twice`. With it, if `others_too`, an orderer and a server.
fn scenario(seed: u64, (turns, more_us): (u64, u64), dies_twice: bool, others_too: bool) -> Told {
    let mut o = Options::calm(seed);
    (o.trims, o.trims_by_hand) = (true, true);
    (o.orderers, o.servers, o.shards, o.replicas) = (3, 3, 2, 2);
    (o.zk, o.zk_clients, o.writers, o.readers) = (0, 0, 1, 0);
    o.successor = true;
    o.segment_bytes = 64 << 10;
    let mut all = roles(&o);
    all.push(FIRST);
    let mut rng = Rng::new(seed, "scenario");
    let mut world = World::new(o, &all, TraceMode::Off);
    let seen = Rc::new(RefCell::new(Seen::default()));
    let shared = seen.clone();
    world.builder = Box::new(move |birth| match birth.role {
        FIRST => Ok(Box::new(Member::new(&birth, chain(&birth, &shared), &shared))),
        SECOND => {
            // It joins with a snapshot of the first, taken in the cluster.
            let mut s = shared.borrow_mut();
            let from = s.files.get(&FIRST).and_then(|f| f.last_key_value()).map(|(gsn, f)| (*gsn, f.clone()));
            match from.filter(|(gsn, _)| s.last_end().is_some_and(|tail| tail <= *gsn)) {
                None => Ok(Box::new(Absent)),
                Some((gsn, file)) => {
                    s.files.entry(SECOND).or_default().entry(gsn).or_insert(file);
                    drop(s);
                    let log = LogClient::new(client(SECOND), birth.seed, birth.now);
                    Ok(Box::new(Member::new(&birth, log, &shared)))
                }
            }
        }
        _ => cluster::build(birth),
    });
    world.start_all();
    let first = world.node(FIRST);
    let (ms, us) = (Duration::from_millis, Duration::from_micros);
    let until = |world: &mut World, limit: Duration, done: &dyn Fn(&Seen) -> bool| {
        let met = world.run_while(limit, |_| done(&seen.borrow()));
        assert_eq!(world.violation, None, "seed {seed}, {turns} turns");
        assert!(met, "seed {seed}, {turns} turns: it never came to it");
    };
    until(&mut world, Duration::from_secs(5), &|s| s.told.len() > 150);
    seen.borrow_mut().seal = Some((FIRST, orderers().join(",")));
    // Step by step up to the turn after which it dies.
    let end = world.now() + ms(1_500);
    while seen.borrow().turns < turns && world.now() < end {
        let next = world.now() + us(20);
        world.run_until(next);
    }
    let next = world.now() + us(more_us);
    world.run_until(next);
    if others_too {
        let (orderer, server) = (Role::Orderer(rng.between(1, 4)), Role::Server(rng.between(1, 4) as u32));
        let (orderer, server) = (world.node(orderer), world.node(server));
        world.crash_for(orderer, ms(rng.between(5, 400)));
        world.crash_for(server, ms(rng.between(5, 200)));
    }
    world.crash_for(first, ms(rng.between(2, 60)));
    if dies_twice {
        let again = seen.borrow().turns + rng.below(60);
        let end = world.now() + ms(800);
        while seen.borrow().turns < again && world.now() < end {
            let next = world.now() + us(20);
            world.run_until(next);
        }
        world.crash_for(first, ms(rng.between(2, 60)));
    }
    until(&mut world, Duration::from_secs(30), &|s| s.after > 100);
    // It takes a snapshot there, with which another joins.
    let joins = |s: &Seen| {
        let newest = s.files.get(&FIRST).and_then(|f| f.last_key_value());
        newest.is_some_and(|(gsn, _)| s.last_end().is_some_and(|tail| tail <= *gsn))
    };
    until(&mut world, Duration::from_secs(10), &joins);
    let second = world.node(SECOND);
    world.crash_for(second, ms(1));
    until(&mut world, Duration::from_secs(10), &|s| s.at.contains_key(&SECOND));
    seen.borrow_mut().enough = true;
    let same = |s: &Seen| {
        s.pending.get(&FIRST) == Some(&0) && s.at.get(&FIRST).map(|a| a.0) == s.at.get(&SECOND).map(|a| a.0)
    };
    until(&mut world, Duration::from_secs(10), &same);
    let lives = world.nodes[first.0].life;
    drop(world);
    let seen = Rc::into_inner(seen).expect("the world is gone").into_inner();
    check(&seen);
    Told { seen, lives }
}

/// The promises.
fn check(seen: &Seen) {
    let tail = seen.last_end().expect("it was sealed");
    let (at, ledger) = &seen.at[&FIRST];
    assert_eq!(&seen.at[&SECOND].1, ledger, "who joins comes to the same");
    for (gsn, number) in &seen.told {
        assert_eq!(ledger.0.get(number), Some(&gsn.0), "LOG-2: {number} was told to be at {gsn}");
    }
    for number in &seen.refused {
        assert_eq!(ledger.0.get(number), None, "{number} was refused");
    }
    // Nothing but what was proposed, and each position once.
    let positions: BTreeSet<u64> = ledger.0.values().copied().collect();
    assert_eq!(positions.len(), ledger.0.len(), "LOG-1: each position once");
    assert!(ledger.0.keys().all(|n| *n < seen.unique));
    assert!(positions.last().is_some_and(|last| *last < at.0));
    // All of the first log are commands: positions before the end are dense, and go on behind it.
    assert_eq!(positions.range(..tail.0).count() as u64, tail.0, "LOG-1: dense up to the end");
    assert!(positions.contains(&tail.0), "LOG-11: the log that follows begins there");
}

#[test]
fn whatever_turn_the_node_dies_in_one_log_is_in_charge() {
    let (mut found, mut undone, mut lives, mut reads, mut compared) = (0, 0, 0, 0, 0);
    // After each turn; and while the seal is on its way to the disk.
    let turns = (0..60).map(|turns| (turns, 0));
    let moments = (0..60).map(|i| (1, i * 12));
    for (seed, at) in (0..).zip(turns.chain(moments)) {
        let told = scenario(seed, at, seed % 3 == 0, seed % 2 == 1);
        found += told.seen.found_sealed;
        undone += told.seen.undone;
        lives += told.lives;
        reads += told.seen.reads;
        compared += told.seen.compared - told.seen.hashes.len() as u64;
    }
    assert!(found > 60 && undone > 10 && lives > 240, "{found} {undone} {lives}");
    assert!(reads > 5_000 && compared > 200, "{reads} {compared}");
}
