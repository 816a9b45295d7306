//! The log goes on from cluster to cluster underneath those who use it, while nodes of both die, are cut off and come back: whatever
//! was told to anybody is there once, at the position that was told; what was refused is nowhere; all come to the same state
//! (LOG-11, LOG-3). Under ZooKeeper nodes their checkers watch (ZK-1 to ZK-5).

#[path = "common/ledger.rs"]
mod ledger;

use ledger::{Member, NAME, Seen};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;
use zoolog_client::{ClientConfig, ClusterLog, LogClient};
use zoolog_core::Gsn;
use zoolog_core::rng::Rng;
use zoolog_sim::cluster::{self, orderers_of, roles, successor};
use zoolog_sim::disk::CLUSTER;
use zoolog_sim::node::{CLUSTER_STEP, Role};
use zoolog_sim::options::Options;
use zoolog_sim::process::Plain;
use zoolog_sim::run::run_with;
use zoolog_sim::trace::TraceMode;
use zoolog_sim::world::World;

const MS: Duration = Duration::from_millis(1);
const MEMBERS: u32 = 3;

/// Clusters whose log is exchanged underneath a structure of three nodes.
struct Scenario {
    world: World,
    seen: Rc<RefCell<Seen>>,
    seed: u64,
}

impl Scenario {
    fn new(mut o: Options, clusters: u32) -> Self {
        o.clusters = clusters;
        (o.zk, o.zk_clients, o.writers, o.readers) = (0, 0, MEMBERS, 0);
        (o.trims, o.trims_by_hand) = (true, true);
        let mut all = roles(&o);
        all.retain(|role| !matches!(role, Role::Switcher(_)));
        // As whoever carries it out does: the consumers of the one are made known to the other before.
        let later = (1..clusters).flat_map(|c| (1..=MEMBERS).map(move |n| Role::Switcher(c * 10 + n)));
        all.extend(later);
        let seed = o.seed;
        let mut world = World::new(o, &all, TraceMode::Off);
        let seen = Rc::new(RefCell::new(Seen { rarer: 8, ..Seen::default() }));
        let shared = seen.clone();
        world.builder = Box::new(move |birth| match birth.role {
            Role::Writer(_) => {
                // Whoever begins anew does so with the first cluster, as its settings say.
                let orderers = orderers_of(birth.options, 0);
                let consumer = Some(format!("{NAME}/{}", birth.role.name()));
                let cfg = ClientConfig { cluster: CLUSTER, orderers, consumer, ..ClientConfig::default() };
                let log = ClusterLog::new(cfg, birth.seed, birth.now);
                Ok(Box::new(Member::new(&birth, log, &shared)))
            }
            Role::Switcher(n) => {
                let (cluster, member) = (n / 10, Role::Writer(n % 10));
                let (orderers, generation) = (orderers_of(birth.options, cluster), Some(cluster));
                let consumer = Some(format!("{NAME}/{}", member.name()));
                let usual = ClientConfig::default();
                let cfg = ClientConfig { cluster: CLUSTER, generation, orderers, consumer, ..usual };
                Ok(Box::new(Plain(LogClient::new(cfg, birth.seed, birth.now))))
            }
            _ => cluster::build(birth),
        });
        world.start_all();
        Self { world, seen, seed }
    }

    fn until(&mut self, what: &str, limit: Duration, done: impl Fn(&Seen) -> bool) {
        let seen = self.seen.clone();
        let met = self.world.run_while(limit, |_| done(&seen.borrow()));
        assert_eq!(self.world.violation, None, "seed {}, {what}", self.seed);
        assert!(met, "seed {}: it never came to it: {what}", self.seed);
    }

    /// That member has the log go on in that cluster.
    fn seal(&mut self, member: u32, cluster: u32) {
        let text = successor(&self.world.options, cluster);
        let mut seen = self.seen.borrow_mut();
        (seen.turns, seen.after) = (0, 0);
        seen.seal = Some((Role::Writer(member), text));
    }

    fn crash(&mut self, role: Role, down: Duration) {
        let id = self.world.node(role);
        self.world.crash_for(id, down);
    }

    /// All are behind the last end, and something is.
    fn all_moved(&mut self, ends: usize) {
        self.until("all go on behind the end", Duration::from_secs(60), |s| {
            let end = s.last_end().filter(|_| s.ends.len() == ends);
            let behind = |role: Role| s.at.get(&role).is_some_and(|at| end.is_some_and(|end| end < at.0));
            s.after > 60 && (1..=MEMBERS).map(Role::Writer).all(behind)
        });
    }

    /// All come to rest at the same.
    fn finish(mut self) -> Seen {
        self.seen.borrow_mut().enough = true;
        self.until("all come to the same", Duration::from_secs(60), |s| {
            let at = |n: u32| s.at.get(&Role::Writer(n)).map(|at| at.0);
            s.pending.values().all(|n| *n == 0) && (2..=MEMBERS).all(|n| at(n) == at(1))
        });
        drop(self.world);
        let seen = Rc::into_inner(self.seen).expect("the world is gone").into_inner();
        check(&seen, self.seed);
        seen
    }
}

/// The promises.
fn check(seen: &Seen, seed: u64) {
    let (at, ledger) = &seen.at[&Role::Writer(1)];
    for n in 2..=MEMBERS {
        assert_eq!(&seen.at[&Role::Writer(n)].1, ledger, "seed {seed}: all come to the same");
    }
    for (gsn, number) in &seen.told {
        assert_eq!(
            ledger.0.get(number),
            Some(&gsn.0),
            "seed {seed}, LOG-2: {number} was told to be at {gsn}"
        );
    }
    for number in &seen.refused {
        assert_eq!(ledger.0.get(number), None, "seed {seed}: {number} was refused");
    }
    let positions: BTreeSet<u64> = ledger.0.values().copied().collect();
    assert_eq!(positions.len(), ledger.0.len(), "seed {seed}, LOG-1: each position once");
    assert!(ledger.0.keys().all(|n| *n < seen.unique) && positions.last().is_some_and(|last| *last < at.0));
}

fn calm(seed: u64) -> Options {
    let mut o = Options::calm(seed);
    (o.orderers, o.servers, o.shards, o.replicas) = (3, 3, 2, 2);
    o.segment_bytes = 64 << 10;
    o
}

/// The log is exchanged twice. Each time, so many turns after that was asked for and then so many microseconds, somebody dies:
/// who asked for it, orderers or servers of the one or the other cluster, or several of them.
fn exchanged(seed: u64, (turns, more_us): (u64, u64)) -> Seen {
    let mut s = Scenario::new(calm(seed), 3);
    let mut rng = Rng::new(seed, "scenario");
    s.until("something is there", Duration::from_secs(10), |s| s.told.len() > 100);
    for cluster in 1..3 {
        let member = 1 + (seed as u32 + cluster) % MEMBERS;
        s.seal(member, cluster);
        let end = s.world.now() + 1_500 * MS;
        while s.seen.borrow().turns < turns && s.world.now() < end {
            let next = s.world.now() + Duration::from_micros(20);
            s.world.run_until(next);
        }
        let next = s.world.now() + Duration::from_micros(more_us);
        s.world.run_until(next);
        for _ in 0..=rng.below(3) {
            let first = (cluster - 1 + rng.below(2) as u32) * CLUSTER_STEP;
            let n = first + rng.between(1, 4) as u32;
            let down = rng.between(5, 300) as u32 * MS;
            match rng.below(4) {
                0 => s.crash(Role::Orderer(u64::from(n)), down),
                1 => s.crash(Role::Server(n), down),
                2 => s.crash(Role::Writer(member), down),
                _ => s.crash(Role::Writer(rng.between(1, 4) as u32), down),
            }
        }
        s.all_moved(cluster as usize);
    }
    s.finish()
}

#[test]
fn whoever_dies_after_whichever_turn_one_log_is_in_charge() {
    let (mut told, mut compared, mut restored) = (0, 0, 0);
    let turns = (0..30).map(|turns| (turns, 0));
    let moments = (0..30).map(|i| (1, i * 37));
    for (seed, at) in (0..).zip(turns.chain(moments)) {
        let seen = exchanged(seed, at);
        assert_eq!(seen.ends.len(), 2);
        told += seen.told.len();
        restored += seen.restored;
        compared += seen.compared - seen.hashes.len() as u64;
    }
    assert!(told > 10_000 && compared > 500 && restored > 20, "{told} {compared} {restored}");
}

/// While everything goes wrong that a seed has go wrong.
#[test]
fn in_any_weather_what_was_told_is_there_once() {
    for seed in 1..25 {
        let mut o = Options::draw(seed);
        (o.change_every, o.joiners, o.wipe_every, o.rot) = (None, 0, None, None);
        (o.consumer_max_age, o.retain_bytes, o.retain_time) = (None, None, None);
        o.policy = zoolog_sim::options::Policy::USUAL;
        let storm = o.fault_phase;
        let mut s = Scenario::new(o, 2);
        s.world.storm();
        s.world.run_until(zoolog_core::Instant(0) + storm / 2);
        s.seal(1 + seed as u32 % MEMBERS, 1);
        s.world.run_until(zoolog_core::Instant(0) + storm);
        s.world.heal();
        s.all_moved(1);
        let seen = s.finish();
        assert!(seen.told.keys().next_back() > seen.last_end().as_ref(), "seed {seed}: it goes on");
    }
}

/// A node that was down while all the others went on finds its way from the first cluster to the last, and comes to the same; and
/// the first lets go of its records only when all have passed them.
#[test]
fn who_missed_it_finds_the_way_and_the_old_log_waits_for_it() {
    for seed in 1..5 {
        let mut s = Scenario::new(calm(seed), 3);
        s.until("something is there", Duration::from_secs(10), |s| s.told.len() > 100);
        let away = s.world.node(Role::Writer(3));
        s.world.crash_for(away, 3_000 * MS);
        for cluster in 1..3 {
            s.seal(cluster, cluster);
            s.until("the others go on", Duration::from_secs(5), |s| {
                let behind = |n| s.at.get(&Role::Writer(n)).is_some_and(|at| s.last_end() < Some(at.0));
                s.ends.len() == cluster as usize && s.after > 60 && behind(1) && behind(2)
            });
        }
        let first_end = *s.seen.borrow().ends.values().min().expect("two");
        let trimmed = |s: &Scenario| s.world.checks.trim.point();
        assert!(!s.world.nodes[away.0].is_up() && trimmed(&s) < first_end, "it waits for who is away");
        s.all_moved(2);
        // Once all have snapshots from behind the end, nothing of the first log is needed.
        let met = s.world.run_while(Duration::from_secs(30), |w| w.checks.trim.point() >= first_end);
        assert!(met, "seed {seed}: the first log is held at {}, its end is {first_end}", trimmed(&s));
        s.finish();
    }
}

/// ZooKeeper's promises, while the log is exchanged in a storm.
#[test]
fn a_zookeeper_goes_on_in_the_next_cluster_in_any_weather() {
    let mut moved = 0;
    for seed in 1..25 {
        let mut o = Options::draw(seed);
        (o.writers, o.readers, o.zk, o.zk_clients) = (0, 0, o.zk.max(2), o.zk_clients.max(3));
        (o.change_every, o.joiners, o.wipe_every, o.consumer_max_age) = (None, 0, None, None);
        o.clusters = 2 + u32::from(seed % 4 == 0);
        let outcome = run_with(o, TraceMode::Off);
        assert_eq!(outcome.failure, None, "seed {seed}: {}", outcome.summary);
        moved += 1;
    }
    assert_eq!(moved, 24);
}

/// Positions go on: what is before the end is of the one log, what is behind it of the other.
#[test]
fn positions_go_on_without_a_hole_where_nobody_dies() {
    let mut s = Scenario::new(calm(9), 2);
    s.until("something is there", Duration::from_secs(10), |s| s.told.len() > 200);
    s.seal(2, 1);
    s.all_moved(1);
    let seen = s.finish();
    let (at, ledger) = &seen.at[&Role::Writer(1)];
    let positions: BTreeSet<u64> = ledger.0.values().copied().collect();
    assert_eq!(positions.len() as u64, at.0, "LOG-1: dense from the start to the end");
    let end = seen.last_end().expect("it was sealed");
    assert!(Gsn(0) < end && end < *at && positions.contains(&end.0));
    assert_eq!(seen.unique - seen.refused.len() as u64, at.0, "each that was taken is there");
}
