//! Nodes of a replicated structure that shows what became of every command: numbers, each entered once. And what all of them
//! together have shown.

#![allow(dead_code, reason = "each test file uses its part of it")]

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
use zoolog_client::{SealError, Sealed, SharedLog};
use zoolog_core::rng::Rng;
use zoolog_core::{Gsn, Input, Instant, Machine, Output};
use zoolog_sim::cluster::Birth;
use zoolog_sim::disk::CLUSTER;
use zoolog_sim::node::Role;
use zoolog_sim::observe::Observation;
use zoolog_sim::process::{Process, map_event};

/// Of the structure.
pub const NAME: &str = "simulated";

/// Where each number was entered.
#[derive(Clone, Debug, Default, PartialEq, Archive, Serialize, Deserialize)]
pub struct Ledger(pub BTreeMap<u64, u64>);

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
pub struct Seen {
    pub unique: u64,
    /// Numbers by position: of outcomes that anybody was told.
    pub told: BTreeMap<Gsn, u64>,
    /// Numbers that were refused: in no log.
    pub refused: BTreeSet<u64>,
    pub hashes: BTreeMap<Gsn, u64>,
    pub compared: u64,
    pub reads: u64,
    /// How often a node began with a snapshot.
    pub restored: u64,
    pub files: BTreeMap<Role, BTreeMap<Gsn, Vec<u8>>>,
    /// The state of each node at the end of its last turn, and where it stands.
    pub at: BTreeMap<Role, (Gsn, Ledger)>,
    /// Where logs ended, by what they were sealed for: as it was told to who had them sealed, and to nodes that go on.
    pub ends: BTreeMap<String, Gsn>,
    /// Lives in which the node found its log sealed at the start; and those in which it was not, though that was asked for.
    pub found_sealed: u64,
    pub undone: u64,
    pub asked: bool,
    /// Who is to have the log sealed now, and for what.
    pub seal: Option<(Role, String)>,
    /// Turns of nodes since they asked for that.
    pub turns: u64,
    /// Outcomes from behind the last end.
    pub after: u64,
    /// How many times rarer than usual something is proposed; 0 as 1.
    pub rarer: u32,
    /// Nothing more is proposed.
    pub enough: bool,
    /// What each node has under way.
    pub pending: BTreeMap<Role, usize>,
}

impl Seen {
    /// A log ended there.
    pub fn ended(&mut self, sealed: &Sealed) {
        let before = *self.ends.entry(sealed.successor.clone()).or_insert(sealed.tail);
        assert_eq!(before, sealed.tail, "LOG-11: a log ends once");
    }

    /// Where the last one did.
    pub fn last_end(&self) -> Option<Gsn> {
        self.ends.values().max().copied()
    }
}

pub struct Member<L: SharedLog> {
    node: Replicated<Ledger, L>,
    role: Role,
    rng: Rng,
    seen: Rc<RefCell<Seen>>,
    writing: Vec<u8>,
    pending: VecDeque<(ProposalId, u64)>,
    reads: BTreeMap<QueryId, Option<Gsn>>,
    next: Instant,
    /// What it has asked for in this life that the log be sealed for.
    asked: Option<String>,
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

impl<L: SharedLog> Member<L> {
    /// One that begins with its newest snapshot.
    pub fn new(birth: &Birth<'_>, log: L, seen: &Rc<RefCell<Seen>>) -> Self {
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
            asked: None,
            out: VecDeque::new(),
        }
    }

    fn is_to_ask(&self, seen: &Seen) -> Option<String> {
        let (role, successor) = seen.seal.as_ref()?;
        (*role == self.role && self.asked.as_ref() != Some(successor)).then(|| successor.clone())
    }

    fn work(&mut self, now: Instant) {
        if now < self.next {
            return;
        }
        let mut seen = self.seen.borrow_mut();
        self.next = now + Duration::from_micros(self.rng.between(300, 4_000)) * seen.rarer.max(1);
        if let Some(successor) = self.is_to_ask(&seen) {
            match self.node.seal_log(&successor) {
                Ok(request) => assert!(request.0 >> 63 == 1),
                Err(e) => assert_eq!(e, SealError::Passed, "it is there already"),
            }
            (self.asked, seen.asked) = (Some(successor), true);
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
                        seen.after += u64::from(seen.last_end().is_some_and(|tail| tail <= gsn));
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
            ReplicatedEvent::SealDone { result: Ok(sealed), .. } => seen.ended(&sealed),
            // Who began anew may have asked the log before, which ended earlier: once more, where it goes on.
            ReplicatedEvent::SealDone { result: Err(SealError::Another(sealed)), .. } => {
                assert!(
                    seen.ends.contains_key(&sealed.successor),
                    "LOG-11: sealed for {sealed:?}, by nobody"
                );
                seen.ended(&sealed);
                self.asked = None;
            }
            ReplicatedEvent::SealDone { result: Err(e), .. } => panic!("{e}"),
            ReplicatedEvent::Failed { why, .. } => panic!("{} ends: {why}", self.role.name()),
            ReplicatedEvent::Note(text) if moved(&text).is_some() => {
                seen.ended(&moved(&text).expect("just seen"));
            }
            ReplicatedEvent::Note(text) => self.out.push_back(Output::Event(Observation::Note(text))),
            ReplicatedEvent::Ready
            | ReplicatedEvent::Snapshot { .. }
            | ReplicatedEvent::Cluster { .. }
            | ReplicatedEvent::Moved(_)
            | ReplicatedEvent::Left(_)
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
        seen.turns += u64::from(self.asked.is_some());
        seen.pending.insert(self.role, self.pending.len());
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
        let seen = self.seen.borrow();
        let works = !seen.enough || self.is_to_ask(&seen).is_some();
        let own = works.then_some((self.next, "the next command"));
        own.into_iter().chain(self.node.next_deadline()).min()
    }

    fn may_checkpoint(&self) -> bool {
        self.node.may_checkpoint()
    }

    fn checkpoint(&self) -> Bytes {
        self.node.checkpoint()
    }
}

/// Whether a node says that its log goes on elsewhere: whoever moves knows where the one before has ended.
fn moved(text: &str) -> Option<Sealed> {
    let said = text.strip_prefix("the log goes on at ")?.strip_suffix(" on")?;
    let (successor, tail) = said.rsplit_once(", from ")?;
    Some(Sealed { tail: Gsn(tail.parse().ok()?), successor: successor.into() })
}

/// A node that is yet to join.
pub struct Absent;

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
