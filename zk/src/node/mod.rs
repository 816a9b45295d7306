//! What is a ZooKeeper node? One machine: client connections on one side, the log on the other, the replicated
//! state between them.
//!
//! Accepted connections speak ZooKeeper's protocol; whatever concerns dialled ones is handed to the log client
//! inside, whose outputs pass through and whose events drive the state. One turn: requests come in and become
//! records of one batch, the log's deliveries are applied, and each connection gets all its answers at once.
//!
//! # Rooms
//! `handshake`: a connection gets its session; `submit`: a request arrives; `queue`: it waits; `held`: writes wait
//! for answers to be taken;
//! `reads`, `reply`: it is answered; `apply`: the log delivers; `session`, `clocks`: sessions live
//! and end; `syncs`: rounds of `sync`; `own`: records in flight; `connection`: the table of connections;
//! `snapshots`: when they are taken; `words`, `status`: how the node is; `turn`: what is measured of a turn; `framing`, `password`, `config`.

mod apply;
mod clocks;
mod config;
mod connection;
mod framing;
mod handshake;
mod held;
mod own;
mod password;
mod queue;
mod reads;
mod reply;
mod session;
mod snapshots;
mod status;
mod submit;
mod syncs;
mod turn;
mod words;

#[cfg(test)]
mod tests;

pub use config::NodeConfig;
pub use framing::framing;
pub use status::NodeStatus;
pub use words::VERSION;

use crate::snapshot::Restored;
use crate::state::State;
use crate::txn::Change;
use crate::watch::Watches;
use bytes::Bytes;
use clocks::Clocks;
use connection::{Conns, Phase, Slot};
use own::Own;
use password::Passwords;
use snapshots::Snapshots;
use status::Stats;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use syncs::Syncs;
use turn::Turn;
use zoolog_client::{LogClient, RequestId, SharedLog};
use zoolog_core::{ConnId, Gsn, Input, Instant, Machine, Output, WallMs};

/// What the owner of a node may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeCommand {
    /// How are you? Answered by [`NodeEvent::Status`].
    Status,
}

/// What a node tells its owner.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeEvent {
    /// It has applied all that was committed when it started, and serves clients from now on. Comes once.
    Ready,
    /// The answer to [`NodeCommand::Status`].
    Status(Box<NodeStatus>),
    /// Something a person may want to know: which connection was closed and why, a log that stands still.
    Note(String),
    /// It can't go on and has closed its connections: start it anew.
    Failed(String),
}

/// What the wall clock said, and when.
#[derive(Clone, Copy, Debug)]
struct Wall {
    ms: WallMs,
    said_at: Instant,
}

impl Wall {
    fn at(self, now: Instant) -> WallMs {
        WallMs(self.ms.0 + now.since(self.said_at).as_millis() as u64)
    }
}

/// A ZooKeeper node on the log `L`. See the [module](self).
#[derive(Debug)]
pub struct Node<L = LogClient> {
    cfg: NodeConfig,
    log: L,
    state: State,
    conns: Conns,
    watches: Watches,
    passwords: Passwords,
    /// Connection of each session that is served here.
    by_session: BTreeMap<i64, Slot>,
    /// Connections that have asked for a session that could not be proposed yet.
    waiting: BTreeSet<Slot>,
    /// Connections with writes that the log had no room for, or that were held and are not any more, in the
    /// order in which that began. May hold some that have none any more.
    blocked: VecDeque<Slot>,
    /// Connections whose requests had no room in a turn's answers, and when to go on with them.
    deferred: BTreeSet<Slot>,
    deferred_at: Option<Instant>,
    own: Own,
    syncs: Syncs,
    snapshots: Snapshots,
    clocks: Clocks,
    pulse_at: Option<Instant>,
    touched_at: Instant,
    /// Whether to touch at the end of the turn.
    touch_now: bool,
    /// Whom each touch that is not back is for, oldest first.
    touching: VecDeque<Vec<(Slot, ConnId)>>,
    /// The question for the tail at the start, then its answer.
    boot_tail: (Option<RequestId>, Option<Gsn>),
    serving: bool,
    failed: bool,
    order_tail: Gsn,
    stats: Stats,
    turn: Turn,
    /// The shell was asked to read the clock.
    timing: bool,
    wall: Wall,
    started: Instant,
    now: Instant,
    outbox: VecDeque<Output<NodeEvent>>,
    /// Empty between records; kept for its memory.
    changes: Vec<Change>,
}

impl Node<LogClient> {
    /// A node that has done nothing yet, on the sharded log. It reads the log from its start, and serves when
    /// it has applied all that is there. Never use a seed twice in a cluster's life.
    pub fn new(cfg: NodeConfig, seed: u64, now: Instant) -> Self {
        Self::restore(cfg, seed, now, Restored::default())
    }

    /// The same, but from a snapshot: it reads the log from the snapshot's position on.
    pub fn restore(cfg: NodeConfig, seed: u64, now: Instant, restored: Restored) -> Self {
        let cfg = cfg.bounded();
        let log = LogClient::new(cfg.log.clone(), seed, now);
        Self::restore_with_log(cfg, log, now, restored)
    }
}

impl<L: SharedLog> Node<L> {
    /// A node on the given log, which has neither a subscription nor pending appends.
    pub fn with_log(cfg: NodeConfig, log: L, now: Instant) -> Self {
        Self::restore_with_log(cfg, log, now, Restored::default())
    }

    /// The same, but from a snapshot.
    pub fn restore_with_log(cfg: NodeConfig, mut log: L, now: Instant, restored: Restored) -> Self {
        let cfg = cfg.bounded();
        let snapshots = Snapshots::new(&cfg, &restored, now);
        let state = restored.state;
        log.subscribe(state.applied());
        let boot_tail = (Some(log.tail()), None);
        let mut node = Self {
            passwords: Passwords::new(&cfg.secret),
            watches: Watches::new(cfg.max_watches),
            cfg,
            log,
            state,
            conns: Conns::new(),
            by_session: BTreeMap::new(),
            waiting: BTreeSet::new(),
            blocked: VecDeque::new(),
            deferred: BTreeSet::new(),
            deferred_at: None,
            own: Own::new(now),
            syncs: Syncs::new(),
            snapshots,
            clocks: Clocks::new(),
            pulse_at: None,
            touched_at: now,
            touch_now: false,
            touching: VecDeque::new(),
            boot_tail,
            serving: false,
            failed: false,
            order_tail: Gsn(0),
            stats: Stats::default(),
            turn: Turn::new(now),
            timing: false,
            wall: Wall { ms: WallMs(0), said_at: now },
            started: now,
            now,
            outbox: VecDeque::new(),
            changes: Vec::new(),
        };
        node.release_log();
        node
    }

    /// The replicated state, as far as it is applied here.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The log below.
    pub fn log(&self) -> &L {
        &self.log
    }

    /// Whether it has caught up and serves clients.
    pub fn is_serving(&self) -> bool {
        self.serving
    }

    fn on_frame(&mut self, now: Instant, conn: ConnId, frame: Bytes) {
        let Some(slot) = self.conns.slot(conn) else { return };
        let conn = self.conns.at(slot);
        conn.received += 1;
        self.stats.received += 1;
        self.turn.frame(!framing::is_word(&frame));
        match conn.phase {
            Phase::New => self.on_first_frame(now, slot, &frame),
            Phase::Waiting(_) | Phase::Proposed(_) => self.on_early_frame(slot, frame),
            Phase::Open(_) => self.on_request(now, slot, frame),
            Phase::Closed => {}
        }
    }

    fn on_closed(&mut self, conn: ConnId) {
        let Some(slot) = self.conns.slot(conn) else { return };
        self.end_conn(slot);
        self.stats.sent_before += self.conns.at(slot).sent;
        self.conns.remove(slot);
    }

    fn on_timer(&mut self, now: Instant) {
        self.expire_handshakes(now);
        self.try_handshakes(now);
        self.pulse(now);
        self.look_at_sessions(now);
        self.pump_deferred(now);
    }

    /// Closes a connection for a reason that a person may want to know.
    fn drop_conn(&mut self, slot: Slot, why: &str) {
        let conn = self.conns.at(slot);
        if !conn.is_closed() {
            let note = format!("connection from {} is closed: {why}", conn.peer);
            self.note(note);
            self.end_conn(slot);
        }
    }

    /// Closes a connection, after what it is being sent; nothing of it counts any more.
    fn end_conn(&mut self, slot: Slot) {
        if self.conns.at(slot).is_closed() {
            return;
        }
        self.detach(slot);
        self.watches.forget(slot);
        self.waiting.remove(&slot);
        self.deferred.remove(&slot);
        self.conns.set_deadline(slot, None);
        self.conns.mark(slot);
        let conn = self.conns.at(slot);
        conn.phase = Phase::Closed;
        conn.queue.clear();
        conn.early.clear();
    }

    /// Closes a connection that was not taken in.
    fn close_unknown(&mut self, conn: ConnId) {
        self.outbox.push_back(Output::Close { conn });
    }

    fn note(&mut self, text: String) {
        self.outbox.push_back(Output::Event(NodeEvent::Note(text)));
    }

    /// The log can't go on: clients go elsewhere, the owner starts the node anew.
    fn fail(&mut self, why: String) {
        if std::mem::replace(&mut self.failed, true) {
            return;
        }
        self.serving = false;
        self.boot_tail = (None, None);
        let slots: Vec<Slot> = self.conns.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.end_conn(slot);
        }
        self.outbox.push_back(Output::Event(NodeEvent::Failed(why)));
    }

    /// What can be done only when the turn's inputs are in. Returns whether the log was given something.
    fn end_turn(&mut self, now: Instant) -> bool {
        let mut any = self.submit_blocked(now) | self.touch_if_hastened(now);
        if self.syncs.should_ask() {
            self.syncs.asked(self.log.tail());
            any = true;
        }
        any
    }
}

impl<L: SharedLog> Machine for Node<L> {
    type Command = NodeCommand;
    type Event = NodeEvent;

    fn handle(&mut self, now: Instant, input: Input<NodeCommand>) {
        self.now = now;
        if self.turn.input(now) {
            self.own.take_fresh();
        }
        match input {
            Input::Accepted { conn, peer } => self.on_accepted(now, conn, peer),
            Input::Frame { conn, bytes } if !conn.is_dialled() => self.on_frame(now, conn, bytes),
            Input::Closed { conn } if !conn.is_dialled() => self.on_closed(conn),
            Input::Frame { conn, bytes } => {
                self.turn.frame(false);
                self.log.handle(now, Input::Frame { conn, bytes });
            }
            Input::Closed { conn } => self.log.handle(now, Input::Closed { conn }),
            Input::Backlog { conn, high } if !conn.is_dialled() => self.on_backlog(now, conn, high),
            Input::Backlog { conn, high } => self.log.handle(now, Input::Backlog { conn, high }),
            Input::Connected { conn } => self.log.handle(now, Input::Connected { conn }),
            Input::Persisted { token, positions } => {
                self.log.handle(now, Input::Persisted { token, positions });
            }
            Input::Loaded { token, result } => self.log.handle(now, Input::Loaded { token, result }),
            Input::SnapshotSaved { gsn, last, result } => self.on_snapshot_saved(now, gsn, last, result),
            Input::Timer => {
                self.on_timer(now);
                self.log.handle(now, Input::Timer);
            }
            Input::WallClock(ms) => {
                self.wall = Wall { ms, said_at: now };
                self.log.handle(now, Input::WallClock(ms));
            }
            Input::Command(NodeCommand::Status) => {
                let status = Box::new(self.status());
                self.outbox.push_back(Output::Event(NodeEvent::Status(status)));
            }
        }
    }

    fn poll_output(&mut self, now: Instant) -> Option<Output<NodeEvent>> {
        loop {
            if let Some(output) = self.outbox.pop_front() {
                return Some(output);
            }
            if std::mem::take(&mut self.timing) {
                self.turn.lap(now, &mut self.stats.stages);
            } else if self.turn.wants_clock() {
                self.timing = true;
                return Some(Output::ReadClock);
            }
            match self.log.poll_output(now) {
                Some(Output::Event(event)) if self.failed => drop(event),
                Some(Output::Event(event)) => self.on_log(now, event),
                Some(Output::ReadClock) => return Some(Output::ReadClock),
                Some(Output::Dial { conn, addr }) => return Some(Output::Dial { conn, addr }),
                Some(Output::Send { conn, bytes }) => return Some(Output::Send { conn, bytes }),
                Some(Output::Close { conn }) => return Some(Output::Close { conn }),
                Some(Output::Pause { conn }) => return Some(Output::Pause { conn }),
                Some(Output::Resume { conn }) => return Some(Output::Resume { conn }),
                Some(Output::Persist { token, records }) => return Some(Output::Persist { token, records }),
                Some(Output::Load { token, pos }) => return Some(Output::Load { token, pos }),
                Some(Output::Release { segment }) => return Some(Output::Release { segment }),
                Some(Output::SaveSnapshot { gsn, .. }) => panic!("the log saves a snapshot at {gsn}"),
                None if self.end_turn(now) => {}
                None => {
                    self.turn.end();
                    self.conns.drain(&mut self.outbox);
                    return self.outbox.pop_front();
                }
            }
        }
    }

    fn sent(&mut self, now: Instant) {
        let submitted = self.own.take_fresh();
        self.turn.sent(now, submitted, &mut self.stats.stages);
        self.log.sent(now);
    }

    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        let own = [
            (self.conns.next_deadline().map(|d| d.0), "handshake"),
            (self.clocks.next_look(), "session expiry"),
            (self.pulse_at, "touch"),
            (self.deferred_at, "deferred reads"),
        ];
        let own = own.into_iter().filter_map(|(at, why)| Some((at?, why)));
        own.chain(self.log.next_deadline()).min_by_key(|d| d.0)
    }
}
