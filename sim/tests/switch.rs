//! The exchange of the log underneath a running structure: an embedded log is sealed, a cluster goes on where it ends. The node
//! dies after each number of turns since the seal was asked for, so between every two steps, and orderers and servers with it;
//! the seal is asked for again until it is done. Whatever was told to anybody is there once, at the position that was told;
//! positions go on; who joins later comes to the same state (LOG-11).

use bytes::Bytes;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;
use zoolog_client::replicated::rkyv::{Archive, Archived, Deserialize, Serialize};
use zoolog_client::replicated::{
    Applied, Consistency, Image, Loader, ProposalId, ProposeError, QueryId, Replicated, ReplicatedConfig,
    ReplicatedEvent, Restored, StateMachine, unarchive,
};
use zoolog_client::{ChainLog, ClientConfig, LocalConfig, LocalLog, LogClient, Sealed, SharedLog};
use zoolog_core::rng::Rng;
use zoolog_core::{Gsn, Input, Instant, Machine, Output, Seq};
use zoolog_sim::cluster::{self, Birth, roles};
use zoolog_sim::disk::CLUSTER;
use zoolog_sim::node::Role;
use zoolog_sim::observe::Observation;
use zoolog_sim::options::Options;
use zoolog_sim::process::{Process, map_event};
use zoolog_sim::trace::TraceMode;
use zoolog_sim::world::World;

const NAME: &str = "simulated";
/// The node that begins embedded.
const FIRST: Role = Role::Embedded(1);
/// The one that joins in the cluster.
const SECOND: Role = Role::Writer(1);

type Chain = ChainLog<LocalLog, LogClient>;

/// Where each number was entered.
#[derive(Clone, Debug, Default, PartialEq, Archive, Serialize, Deserialize)]
struct Ledger(BTreeMap<u64, u64>);

impl StateMachine for Ledger {
    type Command = u64;
    type Outcome = u64;
    fn apply(&mut self, gsn: Gsn, number: &Archived<u64>) -> u64 {
        let before = self.0.insert(number.to_native(), gsn.0);
        assert_eq!(before, None, "LOG-3: {number} is applied twice");
        self.0.len() as u64
    }
    fn snapshot(&self) -> Image {
        Image::archive(self)
    }
    fn restore(image: &[u8]) -> Result<Self, String> {
        unarchive(image)
    }
}

/// What all nodes together have shown, and what is wanted of them.
#[derive(Default)]
struct Seen {
    unique: u64,
    /// Numbers by position: of outcomes that anybody was told.
    told: BTreeMap<Gsn, u64>,
    /// Numbers that were refused: in no log.
    refused: BTreeSet<u64>,
    hashes: BTreeMap<Gsn, u64>,
    compared: u64,
    reads: u64,
    /// Of each node that was restored from one, how often.
    restored: u64,
    files: BTreeMap<Role, BTreeMap<Gsn, Vec<u8>>>,
    /// The state of each node at the end of its last turn, and where it stands.
    at: BTreeMap<Role, (Gsn, Ledger)>,
    /// Where the first log ended, as it was told to who had it sealed, and to the node that goes on.
    sealed: Option<Gsn>,
    /// Lives in which the node found its log sealed at the start; and those in which it was not, though that was asked for.
    found_sealed: u64,
    undone: u64,
    asked: bool,
    /// Whether the log is to be sealed now.
    switch: bool,
    /// Turns of the first node since it asked for that.
    turns: u64,
    /// Outcomes from behind the first log's end.
    after: u64,
    /// Nothing more is proposed.
    enough: bool,
    pending: usize,
}

struct Member<L: SharedLog> {
    node: Replicated<Ledger, L>,
    role: Role,
    rng: Rng,
    seen: Rc<RefCell<Seen>>,
    writing: Vec<u8>,
    pending: VecDeque<(ProposalId, u64)>,
    reads: BTreeMap<QueryId, Option<Gsn>>,
    next: Instant,
    /// Whether it has asked for the seal in this life.
    asked: bool,
    out: VecDeque<Output<Observation>>,
}

fn restore(seen: &Rc<RefCell<Seen>>, role: Role) -> Restored<Ledger> {
    let mut seen = seen.borrow_mut();
    let files = seen.files.entry(role).or_default();
    let mut newest = files.iter().rev();
    let Some((_, bytes)) = newest.next() else { return Restored::default() };
    let mut loader = Loader::new::<Ledger>(CLUSTER, NAME);
    loader.push(bytes).expect("it was answered");
    let restored = loader.finish().expect("it was answered");
    let restored = Restored { second_newest: newest.next().map(|(gsn, _)| *gsn), ..restored };
    seen.restored += 1;
    restored
}

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
        let before = seen.borrow_mut().sealed.replace(sealed.tail);
        assert!(before.is_none_or(|tail| tail == sealed.tail), "LOG-11: it ended at {before:?}");
        let cfg = ClientConfig { first_seq, succeeds: Some(sealed.tail), ..client(FIRST) };
        LogClient::new(cfg, seed ^ 1 << 63, now)
    };
    ChainLog::new(first, ended, Box::new(follow), birth.now)
}

impl<L: SharedLog> Member<L> {
    fn new(birth: &Birth<'_>, log: L, seen: &Rc<RefCell<Seen>>) -> Self {
        let restored = restore(seen, birth.role);
        let cfg = ReplicatedConfig { snapshot_records: 80, snapshot_bytes: 0, ..ReplicatedConfig::new(NAME) };
        Self {
            node: Replicated::new(cfg, log, restored),
            role: birth.role,
            rng: Rng::new(birth.seed, "member"),
            seen: seen.clone(),
            writing: Vec::new(),
            pending: VecDeque::new(),
            reads: BTreeMap::new(),
            next: birth.now,
            asked: false,
            out: VecDeque::new(),
        }
    }

    fn work(&mut self, now: Instant) {
        if now < self.next {
            return;
        }
        self.next = now + Duration::from_micros(self.rng.between(300, 4_000));
        let mut seen = self.seen.borrow_mut();
        if self.role == FIRST && seen.switch && !self.asked {
            (self.asked, seen.asked) = (true, true);
            let request = self.node.seal_log(&orderers().join(",")).expect("an embedded log can be");
            assert!(request.0 >> 63 == 1);
        }
        if seen.enough {
            return;
        }
        for _ in 0..self.rng.between(1, 4) {
            let unique = seen.unique;
            seen.unique += 1;
            match self.node.propose(&unique) {
                Ok(id) => self.pending.push_back((id, unique)),
                Err(e) => {
                    assert!(e.is_retryable(), "{e}");
                    seen.refused.insert(unique);
                }
            }
        }
        let told = seen.told.last_key_value().map(|(gsn, _)| *gsn);
        if let Ok(id) = self.node.query(Consistency::Linearizable) {
            self.reads.insert(id, told);
        }
    }

    fn on_event(&mut self, event: ReplicatedEvent<u64>) {
        let mut seen = self.seen.borrow_mut();
        match event {
            ReplicatedEvent::Outcome { proposal, result } => {
                let (id, number) = self.pending.pop_front().expect("it was proposed");
                assert_eq!(id, proposal, "each once, in order");
                match result {
                    Ok(Applied { gsn, .. }) => {
                        let before = seen.told.insert(gsn, number);
                        assert_eq!(before, None, "LOG-1: two outcomes at {gsn}");
                        seen.after += u64::from(seen.sealed.is_some_and(|tail| tail <= gsn));
                    }
                    Err(ProposeError::Unknown(_)) => {}
                    Err(e) => panic!("{e}"),
                }
            }
            ReplicatedEvent::Readable { query } => {
                let shows = self.reads.remove(&query).expect("asked, and once");
                assert!(shows.is_none_or(|gsn| self.node.applied() > gsn), "it doesn't show {shows:?}");
                seen.reads += 1;
            }
            ReplicatedEvent::SealDone { result, .. } => {
                let tail = result.expect("for the same, whoever asks").tail;
                let before = seen.sealed.replace(tail);
                assert!(before.is_none_or(|before| before == tail), "LOG-11: it ended at {before:?}");
            }
            ReplicatedEvent::Failed { why, .. } => panic!("{} ends: {why}", self.role.name()),
            ReplicatedEvent::Note(text) => self.out.push_back(Output::Event(Observation::Note(text))),
            ReplicatedEvent::Ready
            | ReplicatedEvent::Snapshot { .. }
            | ReplicatedEvent::Cluster { .. }
            | ReplicatedEvent::Orderers { .. } => {}
        }
    }

    /// As the shell does it, but at once.
    fn save(&mut self, now: Instant, gsn: Gsn, bytes: &Bytes, last: bool) {
        self.writing.extend_from_slice(bytes);
        if last {
            let file = std::mem::take(&mut self.writing);
            let mut seen = self.seen.borrow_mut();
            let files = seen.files.get_mut(&self.role).expect("since the start");
            files.insert(gsn, file);
            while files.len() > 3 {
                files.pop_first();
            }
        }
        self.node.handle(now, Input::SnapshotSaved { gsn, last, result: Ok(()) });
    }

    /// The end of a turn: nodes at equal positions have equal states.
    fn compare(&mut self) {
        let (at, hash) = (self.node.applied(), self.node.state_hash());
        let mut seen = self.seen.borrow_mut();
        seen.turns += u64::from(self.asked);
        if self.role == FIRST {
            seen.pending = self.pending.len();
        }
        if seen.at.get(&self.role).is_some_and(|before| before.0 == at) {
            return;
        }
        seen.at.insert(self.role, (at, self.node.state().clone()));
        let before = *seen.hashes.entry(at).or_insert(hash);
        seen.compared += 1;
        assert_eq!(before, hash, "{} differs at {at}", self.role.name());
    }
}

impl<L: SharedLog> Process for Member<L> {
    fn handle(&mut self, now: Instant, input: Input<Infallible>) {
        let timer = matches!(input, Input::Timer);
        self.node.handle(now, input);
        if timer {
            self.work(now);
        }
    }

    fn poll_output(&mut self, now: Instant) -> Option<Output<Observation>> {
        loop {
            if let Some(output) = self.out.pop_front() {
                return Some(output);
            }
            match self.node.poll_output(now) {
                Some(Output::Event(event)) => self.on_event(event),
                Some(Output::SaveSnapshot { gsn, bytes, last }) => self.save(now, gsn, &bytes, last),
                Some(output) => return Some(map_event(output, |_| unreachable!("taken above"))),
                None => {
                    self.compare();
                    return None;
                }
            }
        }
    }

    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        let own = (!self.seen.borrow().enough || self.seen.borrow().switch && !self.asked)
            .then_some((self.next, "the next command"));
        own.into_iter().chain(self.node.next_deadline()).min()
    }

    fn may_checkpoint(&self) -> bool {
        self.node.may_checkpoint()
    }

    fn checkpoint(&self) -> Bytes {
        self.node.checkpoint()
    }
}

/// A node that is yet to join.
struct Absent;

impl Process for Absent {
    fn handle(&mut self, _: Instant, _: Input<Infallible>) {}
    fn poll_output(&mut self, _: Instant) -> Option<Output<Observation>> {
        None
    }
    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        None
    }
    fn checkpoint(&self) -> Bytes {
        Bytes::new()
    }
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
            match from.filter(|(gsn, _)| s.sealed.is_some_and(|tail| tail <= *gsn)) {
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
    seen.borrow_mut().switch = true;
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
        newest.is_some_and(|(gsn, _)| s.sealed.is_some_and(|tail| tail <= *gsn))
    };
    until(&mut world, Duration::from_secs(10), &joins);
    let second = world.node(SECOND);
    world.crash_for(second, ms(1));
    until(&mut world, Duration::from_secs(10), &|s| s.at.contains_key(&SECOND));
    seen.borrow_mut().enough = true;
    let same = |s: &Seen| s.pending == 0 && s.at.get(&FIRST).map(|a| a.0) == s.at.get(&SECOND).map(|a| a.0);
    until(&mut world, Duration::from_secs(10), &same);
    let lives = world.nodes[first.0].life;
    drop(world);
    let seen = Rc::into_inner(seen).expect("the world is gone").into_inner();
    check(&seen);
    Told { seen, lives }
}

/// The promises.
fn check(seen: &Seen) {
    let tail = seen.sealed.expect("it was sealed");
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
