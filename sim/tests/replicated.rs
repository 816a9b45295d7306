//! Replicated structures over the real orderers and slots, in storms: the three examples, and a ledger that knows what was applied
//! to it. Every node's state is compared at every position, across its lives and with the others'.

use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::fmt::Debug;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use zoolog_client::bootstrap::{Begun, FetchConfig, Serve, ServeConfig};
use zoolog_client::replicated::rkyv::{Archive, Archived, Deserialize, Serialize};
use zoolog_client::replicated::{
    Applied, Consistency, Image, Loader, ProposalId, ProposeError, QueryId, Replicated, ReplicatedConfig,
    ReplicatedEvent, Restored, StateMachine, unarchive,
};
use zoolog_client::{ClientConfig, LogClient};
use zoolog_core::rng::Rng;
use zoolog_core::wire::SnapshotAt;
use zoolog_core::{ConnId, Gsn, Input, Instant, Machine, Output};
use zoolog_sim::cluster::{self, roles};
use zoolog_sim::disk::CLUSTER;
use zoolog_sim::node::{GIVING, Role};
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

/// A ledger that one node keeps wrongly, once.
#[derive(Debug, Default, Archive, Serialize, Deserialize)]
struct Drifting(BTreeMap<u64, u64>);

/// The node that does so.
const DRIFTS: u32 = 2;

thread_local! {
    /// Which node's turn it is.
    static NODE: Cell<u32> = const { Cell::new(0) };
    /// What it will do wrong.
    static DRIFT_AT: Cell<Option<u64>> = const { Cell::new(None) };
}

impl StateMachine for Drifting {
    type Command = u64;
    type Outcome = u64;
    fn apply(&mut self, gsn: Gsn, number: &Archived<u64>) -> u64 {
        let number = number.to_native();
        let wrong = NODE.get() == DRIFTS && DRIFT_AT.get() == Some(number);
        self.0.insert(number, if wrong { DRIFT_AT.take().unwrap_or_default() } else { gsn.0 });
        self.0.len() as u64
    }
    fn snapshot(&self) -> Image {
        Image::archive(self)
    }
    fn restore(image: &[u8]) -> Result<Self, String> {
        unarchive(image)
    }
}

impl Drawn for Drifting {
    fn draw(_: &mut Rng, unique: u64, _: Instant) -> u64 {
        unique
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
    /// What each node has of another's snapshot, as far as it was synced.
    parts: BTreeMap<u32, (SnapshotAt, Vec<u8>)>,
    /// Bytes with which a life began, of another's snapshot, and went on.
    resumed: u64,
    /// Nodes that have caught up once, and so are consumers: from then on nothing is let go that they need.
    ready: BTreeSet<u32>,
    /// What the snapshots have let go of in the end.
    trimmed: Gsn,
    /// Where each node stands.
    at: BTreeMap<u32, Gsn>,
    /// Times that a node went on from another's snapshot.
    fetched: u64,
    /// This one may differ, and says so.
    may_differ: Option<u32>,
    /// It has.
    differed: Vec<String>,
    /// Marks that were compared.
    marks: u64,
}

/// A node, and what is asked of it.
struct Member<S: Drawn> {
    node: Replicated<S, LogClient>,
    id: u32,
    rng: Rng,
    seen: Rc<RefCell<Seen>>,
    /// For real it is on another thread.
    serve: Serve,
    writing: (Gsn, Vec<u8>),
    /// Bytes of another's snapshot that an earlier life has got, until it is known whether it goes on there.
    begun: u64,
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
        let cfg = ReplicatedConfig {
            snapshot_records: 60,
            snapshot_bytes: 0,
            node: u64::from(id),
            mark_records: 70,
            gives_at: Some(birth.role.giving_addr()),
            fetch: FetchConfig { bytes_per_s: 0, piece_bytes: 40, window: 2, ..FetchConfig::default() },
            ..ReplicatedConfig::new(NAME)
        };
        let part = seen.borrow_mut().parts.remove(&id).filter(|(of, _)| of.gsn > restored.at);
        let mut node = Replicated::new(cfg, log, restored);
        let begun = part.as_ref().map_or(0, |(_, bytes)| bytes.len() as u64);
        let mut writing = (Gsn(0), Vec::new());
        if let Some((of, bytes)) = part {
            let mut begun = Begun::of_structure(of, CLUSTER, NAME);
            bytes.chunks(100).try_for_each(|chunk| begun.push(chunk)).expect("it was taken before");
            node.has_begun(begun);
            writing = (of.gsn, bytes.clone());
            seen.borrow_mut().parts.insert(id, (of, bytes));
        }
        Self {
            node,
            id,
            rng: Rng::new(birth.seed, "member"),
            seen: seen.clone(),
            serve: Serve::new(ServeConfig { cluster: CLUSTER, bytes_per_s: 0, fetchers_max: 2 }),
            writing,
            begun,
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
        if now < self.next || self.node.failure().is_some() {
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
            ReplicatedEvent::Failed { why, distrust, .. } => {
                assert_eq!(seen.may_differ.take(), Some(self.id), "node {} ends: {why}", self.id);
                let files = seen.files.get_mut(&self.id).expect("since the start");
                files.retain(|gsn, _| distrust.is_none_or(|upto| *gsn <= upto));
                self.out.push_back(Output::Event(Observation::Failed(why.replace("ZK-5", "it differs"))));
                seen.differed.push(why);
            }
            ReplicatedEvent::Note(text) => {
                let wrong = ["rejected", "passed over"].iter().any(|wrong| text.contains(wrong));
                let differs = text.contains("another than here");
                assert!(
                    !wrong && (!differs || !seen.differed.is_empty() || seen.may_differ.is_some()),
                    "{text}"
                );
                seen.fetched += u64::from(text.starts_with("it goes on at"));
                if text.contains(&format!("goes on at byte {}:", self.begun)) {
                    seen.resumed += std::mem::take(&mut self.begun);
                }
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
            | ReplicatedEvent::Moved(_)
            | ReplicatedEvent::Left(_)
            | ReplicatedEvent::Orderers { .. } => {}
        }
    }

    /// As the shell does it, but at once.
    fn save(&mut self, now: Instant, gsn: Gsn, bytes: &Bytes, last: bool) {
        // As long as the storm lasts: another's snapshot in its many pieces would never be whole else.
        let fails = self.rng.chance(3) && now < self.calm_at;
        if self.writing.0 != gsn {
            self.writing = (gsn, Vec::new());
        }
        self.writing.1.extend_from_slice(bytes);
        if last || fails {
            let file = std::mem::take(&mut self.writing).1;
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

    /// The newest snapshot, or the one that is wanted.
    fn find(&mut self, now: Instant, like: Option<SnapshotAt>) {
        let about = |(gsn, file): (&Gsn, &Vec<u8>)| SnapshotAt {
            gsn: *gsn,
            bytes: file.len() as u64,
            crc: crc32c::crc32c(file),
        };
        let found = {
            let seen = self.seen.borrow();
            let all: Vec<SnapshotAt> = seen.files[&self.id].iter().map(about).collect();
            all.iter().find(|at| Some(**at) == like).or(all.last()).copied()
        };
        self.serve.handle(now, Input::SnapshotFound { found });
    }

    fn piece(&self, of: SnapshotAt, from: u64, bytes: u32) -> Result<Bytes, String> {
        let seen = self.seen.borrow();
        let file = seen.files[&self.id].get(&of.gsn).ok_or("it is gone")?;
        Ok(Bytes::copy_from_slice(&file[from as usize..][..bytes as usize]))
    }

    /// The end of a turn: nodes at equal positions have equal states.
    fn compare(&mut self) {
        let (at, hash) = (self.node.applied(), self.node.state_hash());
        let mut seen = self.seen.borrow_mut();
        seen.marks = seen.marks.max(self.node.figures().marks);
        if seen.may_differ == Some(self.id) || self.node.failure().is_some() {
            return;
        }
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
        NODE.set(self.id);
        let timer = matches!(input, Input::Timer);
        match &input {
            Input::Accepted { conn, .. }
            | Input::Frame { conn, .. }
            | Input::Closed { conn }
            | Input::Backlog { conn, .. }
                if is_giving(*conn) =>
            {
                return self.serve.handle(now, input);
            }
            Input::Timer => self.serve.handle(now, Input::Timer),
            _ => {}
        }
        self.node.handle(now, input);
        if timer {
            self.work(now);
        }
    }

    fn poll_output(&mut self, now: Instant) -> Option<Output<Observation>> {
        NODE.set(self.id);
        loop {
            if let Some(output) = self.out.pop_front() {
                return Some(output);
            }
            match self.serve.poll_output(now) {
                Some(Output::FindSnapshot { like }) => {
                    self.find(now, like);
                    continue;
                }
                Some(Output::ReadSnapshot { token, of, from, bytes }) => {
                    let result = self.piece(of, from, bytes);
                    self.serve.handle(now, Input::SnapshotRead { token, result });
                    continue;
                }
                Some(output) => return Some(map_event(output, Observation::Note)),
                None => {}
            }
            match self.node.poll_output(now) {
                Some(Output::Event(event)) => self.on_event(event),
                Some(Output::SaveSnapshot { gsn, bytes, last }) => self.save(now, gsn, &bytes, last),
                Some(Output::SavePart { of, from, bytes, last }) => {
                    if from == 0 {
                        self.writing = (of.gsn, Vec::new());
                    }
                    assert_eq!(
                        (self.writing.0, self.writing.1.len() as u64),
                        (of.gsn, from),
                        "piece behind piece"
                    );
                    self.save(now, of.gsn, &bytes, last);
                    // Each piece is synced; one that fails, and the last, leave nothing that could be gone on with.
                    let synced = (self.writing.0 == of.gsn && !last).then(|| self.writing.1.clone());
                    let mut seen = self.seen.borrow_mut();
                    seen.parts.remove(&self.id);
                    synced.and_then(|bytes| seen.parts.insert(self.id, (of, bytes)));
                }
                Some(Output::DropSnapshots { .. }) => {
                    self.writing = (Gsn(0), Vec::new());
                    self.seen.borrow_mut().parts.remove(&self.id);
                }
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
        own.into_iter().chain(self.node.next_deadline()).chain(self.serve.next_deadline()).min()
    }

    fn checkpoint(&self) -> Bytes {
        Bytes::new()
    }
}

/// Whether somebody wants snapshots over it.
const fn is_giving(conn: ConnId) -> bool {
    !conn.is_dialled() && conn.0 & GIVING != 0
}

/// Three nodes of a structure, which are the world's writers, and three servers.
fn options(seed: u64) -> Options {
    let mut o = Options::calm(seed);
    (o.orderers, o.servers, o.shards, o.replicas) = (3, 3, 2, 2);
    (o.zk, o.zk_clients, o.writers, o.readers) = (0, 0, NODES as u32, 1);
    o.trims = true;
    o.fault_phase = Duration::from_secs(3);
    o.segment_bytes = 64 << 10;
    o
}

/// A storm over them; then all must be well, and they the same.
fn storm<S: Drawn>(seed: u64) -> Seen {
    let mut o = options(seed);
    let ms = |n| Some(Duration::from_millis(n));
    (o.crash_every, o.partition_every, o.reset_every) = (ms(350), ms(1_500), ms(400));
    (o.stall_every, o.slow_disk_every) = (ms(900), ms(1_500));
    through::<S>(o, Seen::default(), |_| {})
}

/// Through what the options say, and what else is done when it begins.
fn through<S: Drawn>(o: Options, seen: Seen, happens: impl FnOnce(&mut World)) -> Seen {
    through_and::<S>(o, seen, |world, _| happens(world))
}

/// The same, by who looks at what is seen.
fn through_and<S: Drawn>(
    o: Options,
    seen: Seen,
    happens: impl FnOnce(&mut World, &Rc<RefCell<Seen>>),
) -> Seen {
    let seed = o.seed;
    let roles = roles(&o);
    let mut world = World::new(o, &roles, TraceMode::Off);
    let seen = Rc::new(RefCell::new(seen));
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
    happens(&mut world, &seen);
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

/// Nodes that are away for longer than the log is kept for them: down, or cut off from all others.
#[test]
fn a_node_behind_the_log_goes_on_from_anothers_snapshot() {
    let mut fetched = [0, 0];
    for (seed, is_dead) in (40..).zip([true, false, true, false, false]) {
        let mut o = options(seed);
        o.consumer_max_age = Some(Duration::from_millis(300));
        o.fault_phase = Duration::from_secs(6);
        let seen = through::<map::Map>(o, Seen::default(), |world| {
            world.run_until(Instant(0) + Duration::from_secs(1));
            let (away, long) = (world.node(Role::Writer(3)), Duration::from_secs(3));
            if is_dead {
                world.crash_for(away, long);
            } else {
                // Some of its connections break; while that to the leader doesn't, it is not away.
                let around = world.around_node(away);
                world.cut_off(around, long);
            }
        });
        fetched[usize::from(is_dead)] += seen.fetched;
        assert!(seen.told.len() > 500 && seen.marks > 3, "{} {}", seen.told.len(), seen.marks);
    }
    assert!(fetched.iter().all(|n| *n > 0), "who was cut off, and who was dead: {fetched:?}");
}

/// Who dies while it gets another's snapshot goes on with it where it was.
#[test]
fn a_node_that_dies_while_it_gets_anothers_snapshot_goes_on_with_it() {
    let mut resumed = 0;
    for seed in 61..65 {
        let mut o = options(seed);
        o.consumer_max_age = Some(Duration::from_millis(300));
        o.fault_phase = Duration::from_secs(6);
        let seen = through_and::<map::Map>(o, Seen::default(), |world, seen| {
            world.run_until(Instant(0) + Duration::from_secs(1));
            let away = world.node(Role::Writer(3));
            world.crash_for(away, Duration::from_secs(3));
            let patience = Duration::from_secs(5);
            if world.run_while(patience, |_| seen.borrow().parts.contains_key(&3)) {
                world.crash_for(away, Duration::from_millis(20));
            }
        });
        assert!(seen.fetched > 0 && seen.told.len() > 300, "{} {}", seen.fetched, seen.told.len());
        resumed += seen.resumed;
    }
    assert!(resumed > 0, "what was here was gone on with");
}

/// Whose state differs ends, and is the same again after its next start; nobody else ends.
#[test]
fn a_node_that_differs_ends_and_begins_from_what_was_the_same() {
    for seed in [50, 51] {
        DRIFT_AT.set(Some(400));
        let seen = Seen { may_differ: Some(DRIFTS), ..Seen::default() };
        let seen = through::<Drifting>(options(seed), seen, |_| {});
        let [why] = &seen.differed[..] else { panic!("seed {seed}: {:?}", seen.differed) };
        assert!(why.contains("most nodes have another state") && why.contains("behind"), "{why}");
        assert!(seen.compared > 300, "and it was compared afterwards: {}", seen.compared);
    }
}
