//! Replicated structures over the real orderers and slots, in storms: the three examples, and a ledger that knows what was applied
//! to it. Every node's state is compared at every position, across its lives and with the others'.

use bytes::Bytes;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::fmt::Debug;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use zoolog_client::replicated::rkyv::{Archive, Archived, Deserialize, Serialize};
use zoolog_client::replicated::{
    Applied, Consistency, Image, Loader, ProposalId, ProposeError, QueryId, Replicated, ReplicatedConfig,
    ReplicatedEvent, Restored, StateMachine, unarchive,
};
use zoolog_client::{ClientConfig, LogClient};
use zoolog_core::rng::Rng;
use zoolog_core::{Gsn, Input, Instant, Machine, Output};
use zoolog_sim::cluster::{self, roles};
use zoolog_sim::disk::CLUSTER;
use zoolog_sim::node::Role;
use zoolog_sim::observe::Observation;
use zoolog_sim::options::Options;
use zoolog_sim::process::{Process, map_event};
use zoolog_sim::run::settle;
use zoolog_sim::trace::TraceMode;
use zoolog_sim::world::World;

#[allow(dead_code, reason = "what the command line asks")]
#[path = "../../client/examples/lock/state.rs"]
mod lock;
#[allow(dead_code, reason = "what the command line asks")]
#[path = "../../client/examples/map/state.rs"]
mod map;
#[allow(dead_code, reason = "what the command line asks")]
#[path = "../../client/examples/queue/state.rs"]
mod queue;

const NODES: usize = 3;
const NAME: &str = "simulated";

/// A structure that the simulator knows how to use.
trait Drawn: StateMachine<Outcome: Debug> {
    /// A command; `unique` is drawn once in the world.
    fn draw(rng: &mut Rng, unique: u64, now: Instant) -> Self::Command;
}

/// Where each number was entered.
#[derive(Debug, Default, Archive, Serialize, Deserialize)]
struct Ledger(BTreeMap<u64, u64>);

impl StateMachine for Ledger {
    type Command = u64;
    type Outcome = u64;
    fn apply(&mut self, gsn: Gsn, number: &Archived<u64>) -> u64 {
        let before = self.0.insert(number.to_native(), gsn.0);
        assert_eq!(before, None, "{number} is applied twice");
        self.0.len() as u64
    }
    fn snapshot(&self) -> Image {
        Image::archive(self)
    }
    fn restore(image: &[u8]) -> Result<Self, String> {
        unarchive(image)
    }
}

impl Drawn for Ledger {
    fn draw(_: &mut Rng, unique: u64, _: Instant) -> u64 {
        unique
    }
}

impl Drawn for map::Map {
    fn draw(rng: &mut Rng, unique: u64, _: Instant) -> map::Command {
        let key = rng.below(9).to_string();
        match rng.below(3) {
            0 => map::Command::Delete { key },
            1 => map::Command::Swap { key, old: rng.below(unique + 1).to_string(), new: unique.to_string() },
            _ => map::Command::Put { key, value: unique.to_string() },
        }
    }
}

impl Drawn for queue::Queue {
    fn draw(rng: &mut Rng, unique: u64, now: Instant) -> queue::Command {
        let worker = rng.below(3).to_string();
        match rng.below(3) {
            0 => queue::Command::Add { work: unique.to_string() },
            1 => queue::Command::Take { worker, now_ms: now.0 / 1_000_000, lease_ms: rng.below(300) },
            _ => queue::Command::Done { worker, number: rng.below(unique + 1) },
        }
    }
}

impl Drawn for lock::Locks {
    fn draw(rng: &mut Rng, unique: u64, now: Instant) -> lock::Command {
        let name = rng.below(2).to_string();
        let token = rng.below(unique + 1);
        match rng.below(3) {
            0 => {
                let owner = rng.below(3).to_string();
                lock::Command::Lock { name, owner, now_ms: now.0 / 1_000_000, lease_ms: rng.below(300) }
            }
            1 => lock::Command::Unlock { name, token },
            _ => lock::Command::Write { name, token, text: unique.to_string() },
        }
    }
}

/// What all nodes together have shown.
#[derive(Default)]
struct Seen {
    unique: u64,
    /// Hash of the state by position: of every node that stood there at the end of a turn.
    hashes: BTreeMap<Gsn, u64>,
    compared: u64,
    /// Positions of outcomes that anybody was told.
    told: BTreeSet<Gsn>,
    /// Proposals without an outcome when their node died.
    unknown: u64,
    reads: u64,
    restored: u64,
    /// Files of each node's snapshots.
    files: BTreeMap<u32, BTreeMap<Gsn, Vec<u8>>>,
    /// Nodes that have caught up once, and so are consumers: from then on nothing is let go that they need.
    ready: BTreeSet<u32>,
    /// What the snapshots have let go of in the end.
    trimmed: Gsn,
    /// Where each node stands.
    at: BTreeMap<u32, Gsn>,
}

/// A node, and what is asked of it.
struct Member<S: Drawn> {
    node: Replicated<S, LogClient>,
    id: u32,
    rng: Rng,
    seen: Rc<RefCell<Seen>>,
    writing: Vec<u8>,
    pending: VecDeque<ProposalId>,
    /// Reads, and the last position that anybody had been told of when they were asked for.
    reads: BTreeMap<QueryId, Option<Gsn>>,
    next: Instant,
    calm_at: Instant,
    last_words: u32,
    /// The world's reader lets go of the log only then.
    all_ready: Arc<AtomicBool>,
    done: bool,
    out: VecDeque<Output<Observation>>,
}

fn restore<S: StateMachine>(files: &BTreeMap<Gsn, Vec<u8>>) -> Restored<S> {
    let mut newest = files.iter().rev();
    let Some((_, bytes)) = newest.next() else { return Restored::default() };
    let mut loader = Loader::new::<S>(CLUSTER, NAME);
    loader.push(bytes).expect("it was answered");
    let restored = loader.finish().expect("it was answered");
    Restored { second_newest: newest.next().map(|(gsn, _)| *gsn), ..restored }
}

impl<S: Drawn> Member<S> {
    fn new(
        birth: &cluster::Birth<'_>,
        id: u32,
        seen: &Rc<RefCell<Seen>>,
        all_ready: &Arc<AtomicBool>,
    ) -> Self {
        let orderers = (1..=birth.options.orderers).map(|n| Role::Orderer(u64::from(n)).addr()).collect();
        let consumer = Some(format!("{NAME}/{id}"));
        let client = ClientConfig { cluster: CLUSTER, orderers, consumer, ..ClientConfig::default() };
        let log = LogClient::new(client, birth.seed, birth.now);
        let restored = restore::<S>(seen.borrow_mut().files.entry(id).or_default());
        seen.borrow_mut().restored += u64::from(restored.newest.is_some());
        let cfg = ReplicatedConfig { snapshot_records: 60, snapshot_bytes: 0, ..ReplicatedConfig::new(NAME) };
        Self {
            node: Replicated::new(cfg, log, restored),
            id,
            rng: Rng::new(birth.seed, "member"),
            seen: seen.clone(),
            writing: Vec::new(),
            pending: VecDeque::new(),
            reads: BTreeMap::new(),
            next: birth.now,
            calm_at: Instant(0) + birth.options.fault_phase,
            last_words: 3,
            all_ready: all_ready.clone(),
            done: false,
            out: VecDeque::new(),
        }
    }

    fn work(&mut self, now: Instant) {
        if now < self.next {
            return;
        }
        self.next = now + Duration::from_micros(self.rng.between(1_000, 25_000));
        let calm = now >= self.calm_at;
        if calm && self.last_words == 0 {
            return;
        }
        for _ in 0..self.rng.between(1, 5) {
            let unique = self.seen.borrow().unique;
            let command = S::draw(&mut self.rng, unique, now);
            match self.node.propose(&command) {
                Ok(id) => {
                    self.pending.push_back(id);
                    self.seen.borrow_mut().unique += 1;
                    self.last_words -= u32::from(calm && self.last_words > 0);
                }
                Err(e) => assert!(e.is_retryable(), "{e}"),
            }
        }
        if self.seen.borrow().ready.len() == NODES && self.rng.chance(10) {
            self.node.snapshot();
        }
        let told = self.seen.borrow().told.last().copied();
        let (consistency, shows) = match self.rng.below(3) {
            0 => (Consistency::Linearizable, told),
            1 => (Consistency::Since(told.unwrap_or_default()), told),
            _ => (Consistency::Session, None),
        };
        if let Ok(id) = self.node.query(consistency) {
            self.reads.insert(id, shows);
        }
    }

    fn on_event(&mut self, event: ReplicatedEvent<S::Outcome>) {
        let mut seen = self.seen.borrow_mut();
        match event {
            ReplicatedEvent::Outcome { proposal, result } => {
                assert_eq!(self.pending.pop_front(), Some(proposal), "each once, in order");
                match result {
                    Ok(Applied { gsn, .. }) => {
                        assert!(seen.told.insert(gsn), "two outcomes at {gsn}");
                        assert!(self.node.applied() > gsn, "told before it was applied");
                    }
                    Err(ProposeError::Unknown(_)) => seen.unknown += 1,
                    Err(e) => panic!("{e}"),
                }
            }
            ReplicatedEvent::Readable { query } => {
                let shows = self.reads.remove(&query).expect("asked, and once");
                assert!(shows.is_none_or(|gsn| self.node.applied() > gsn), "it doesn't show {shows:?}");
                seen.reads += 1;
            }
            ReplicatedEvent::Failed { why, .. } => panic!("node {} ends: {why}", self.id),
            ReplicatedEvent::Note(text) => {
                assert!(text.contains("no room") || text.contains("the log "), "{text}");
                self.out.push_back(Output::Event(Observation::Note(text)));
            }
            ReplicatedEvent::Ready => {
                seen.ready.insert(self.id);
                if seen.ready.len() == NODES {
                    self.all_ready.store(true, Ordering::Relaxed);
                }
            }
            ReplicatedEvent::SealDone { .. } => panic!("nobody asked for it"),
            ReplicatedEvent::Snapshot { .. }
            | ReplicatedEvent::Cluster { .. }
            | ReplicatedEvent::Orderers { .. } => {}
        }
    }

    /// As the shell does it, but at once.
    fn save(&mut self, now: Instant, gsn: Gsn, bytes: &Bytes, last: bool) {
        let fails = self.rng.chance(3);
        self.writing.extend_from_slice(bytes);
        if last || fails {
            let file = std::mem::take(&mut self.writing);
            let mut seen = self.seen.borrow_mut();
            let files = seen.files.get_mut(&self.id).expect("since the start");
            if !fails {
                files.insert(gsn, file);
                while files.len() > 3 {
                    files.pop_first();
                }
            }
        }
        let result = if fails { Err("no room".into()) } else { Ok(()) };
        self.node.handle(now, Input::SnapshotSaved { gsn, last, result });
    }

    /// The end of a turn: nodes at equal positions have equal states.
    fn compare(&mut self) {
        let (at, hash) = (self.node.applied(), self.node.state_hash());
        let mut seen = self.seen.borrow_mut();
        if seen.at.insert(self.id, at) == Some(at) {
            return;
        }
        let before = *seen.hashes.entry(at).or_insert(hash);
        seen.compared += 1;
        assert_eq!(before, hash, "node {} differs at {at}", self.id);
    }
}

impl<S: Drawn> Process for Member<S> {
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
                    let ends = !self.done && self.last_words == 0 && self.pending.is_empty();
                    if ends && self.node.is_ready() {
                        self.done = true;
                        self.out.push_back(Output::Event(Observation::Done));
                    } else {
                        return None;
                    }
                }
            }
        }
    }

    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        let own = (self.last_words > 0).then_some((self.next, "the next command"));
        own.into_iter().chain(self.node.next_deadline()).min()
    }

    fn checkpoint(&self) -> Bytes {
        Bytes::new()
    }
}

/// A storm over three nodes of a structure, which are the world's writers; then all must be well, and they the same.
fn storm<S: Drawn>(seed: u64) -> Seen {
    let mut o = Options::calm(seed);
    (o.orderers, o.servers, o.shards, o.replicas) = (3, 3, 2, 2);
    (o.zk, o.zk_clients, o.writers, o.readers) = (0, 0, NODES as u32, 1);
    o.trims = true;
    o.fault_phase = Duration::from_secs(3);
    o.segment_bytes = 64 << 10;
    let ms = |n| Some(Duration::from_millis(n));
    (o.crash_every, o.partition_every, o.reset_every) = (ms(350), ms(1_500), ms(400));
    (o.stall_every, o.slow_disk_every) = (ms(900), ms(1_500));
    let roles = roles(&o);
    let mut world = World::new(o, &roles, TraceMode::Off);
    let seen = Rc::new(RefCell::new(Seen::default()));
    let (shared, all_ready) = (seen.clone(), Arc::new(AtomicBool::new(false)));
    world.builder = Box::new(move |birth| match birth.role {
        Role::Writer(id) => Ok(Box::new(Member::<S>::new(&birth, id, &shared, &all_ready))),
        _ => {
            let options = Options { registered: all_ready.clone(), ..birth.options.clone() };
            cluster::build(cluster::Birth { options: &options, ..birth })
        }
    });
    world.start_all();
    world.storm();
    let calm = Instant(0) + world.options.fault_phase;
    world.run_until(calm);
    settle(&mut world);
    assert_eq!(world.violation, None, "seed {seed}");
    let tail = world.tail();
    let end = world.now() + Duration::from_secs(2);
    world.run_until(end);
    let trimmed = world.checks.trim.point();
    drop(world);
    let mut seen = Rc::into_inner(seen).expect("the world is gone").into_inner();
    seen.trimmed = trimmed;
    assert!(
        seen.at.len() == NODES && seen.at.values().all(|at| *at >= tail),
        "seed {seed}: {:?}, {tail}",
        seen.at
    );
    seen
}

fn storms<S: Drawn>(seeds: std::ops::Range<u64>) {
    let (mut told, mut compared, mut unknown, mut reads, mut restored, mut trimmed) = (0, 0, 0, 0, 0, 0);
    for seed in seeds {
        let seen = storm::<S>(seed);
        told += seen.told.len();
        compared += seen.compared - seen.hashes.len() as u64;
        unknown += seen.unique - seen.told.len() as u64;
        reads += seen.reads;
        restored += seen.restored;
        trimmed += seen.trimmed.0;
    }
    // What the storms are about came up.
    assert!(
        told > 1_000 && compared > 300 && unknown > 0 && reads > 500 && restored > 3 && trimmed > 0,
        "{told} {compared} {unknown} {reads} {restored} {trimmed}"
    );
}

#[test]
fn a_ledger_has_every_entry_once() {
    storms::<Ledger>(1..4);
}

#[test]
fn the_map_is_the_same_everywhere() {
    storms::<map::Map>(10..13);
}

#[test]
fn the_queue_is_the_same_everywhere() {
    storms::<queue::Queue>(20..23);
}

#[test]
fn the_locks_are_the_same_everywhere() {
    storms::<lock::Locks>(30..33);
}
