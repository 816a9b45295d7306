//! How is the node? Counters it keeps along, and a snapshot of everything people and tests ask for.

use super::Back;
use super::report::Reset;
use super::served::Served;
use crate::bootstrap::Progress;
use crate::state::State;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use zoolog_client::{DiskRoom, SharedLog};
use zoolog_core::stages::Stages;
use zoolog_core::{ConnId, Gsn};

/// A client's write, from its frame to its answer.
pub(super) const WRITE: usize = 0;
/// Another request, likewise.
pub(super) const READ: usize = 1;
/// From a turn's begin until all its inputs are taken: requests are read, answered if they wait for nothing, and
/// writes appended.
pub(super) const DECODE: usize = 2;
/// From then until the records that were appended are offered to their primary's socket.
pub(super) const SUBMIT: usize = 3;
/// What the log takes of a write, from the append to the delivery.
pub(super) const LOG: usize = 4;
/// From the cut that orders a batch until it is about to be applied.
pub(super) const DELIVER: usize = 5;
/// A batch is applied, its watches fire, and what waited for it is answered.
pub(super) const APPLY: usize = 6;
/// From then, or from when the inputs were taken, until the turn's answers are offered to their sockets.
pub(super) const REPLY: usize = 7;
const STAGES: [&str; 8] =
    ["zk_write", "zk_read", "zk_decode", "zk_submit", "zk_log", "zk_deliver", "zk_apply", "zk_reply"];

/// Counters since the start.
#[derive(Clone, Debug)]
pub(super) struct Stats {
    pub stages: Stages,
    /// Frames from clients, and their bytes.
    pub received: u64,
    pub received_bytes: u64,
    /// Frames to clients on connections that have ended.
    pub sent_before: u64,
    /// Connections that were taken in, and that were refused because there were too many.
    pub accepted: u64,
    pub refused: u64,
    /// Connections that were closed without a session, when their time was up.
    pub sessionless: u64,
    /// Connections that were closed by this node for what their clients did, or failed to do.
    pub dropped: u64,
    /// Proofs of identity that were none.
    pub auth_failed: u64,
    /// Sessions that this node found silent for longer than their timeout.
    pub expired: u64,
    /// Writes that were answered as in the log, and refused when they were applied.
    pub failed_late: u64,
    answered: u64,
    total_us: u64,
    min_ms: Option<u64>,
    max_ms: u64,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            stages: Stages::new(&STAGES),
            received: 0,
            received_bytes: 0,
            sent_before: 0,
            accepted: 0,
            refused: 0,
            sessionless: 0,
            dropped: 0,
            auth_failed: 0,
            expired: 0,
            failed_late: 0,
            answered: 0,
            total_us: 0,
            min_ms: None,
            max_ms: 0,
        }
    }
}

/// What a front has counted.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub(super) stats: Stats,
    pub(super) watches: usize,
    /// Requests that neither were answered nor passed on.
    pub(super) waiting: usize,
    /// Connections that watch something.
    pub(super) watchers: usize,
    /// Paths that are watched; a path that is watched at two fronts counts twice.
    pub(super) paths: usize,
    /// Frames to clients that are connected.
    pub(super) sent: u64,
    /// Per connection, if that was asked for, frames from it and to it, and what was answered there.
    pub(super) conns: Vec<(ConnId, u64, u64, Served)>,
    /// What connections watch, if that was asked for, and how many paths were too many to be listed.
    pub(super) watched: Vec<(ConnId, Vec<Arc<str>>)>,
    pub(super) unlisted: usize,
}

impl Counts {
    /// Takes another front's in.
    pub(super) fn add(&mut self, other: &Self) {
        self.stats.add(&other.stats);
        self.watches += other.watches;
        self.waiting += other.waiting;
        self.watchers += other.watchers;
        self.paths += other.paths;
        self.sent += other.sent;
        self.conns.extend_from_slice(&other.conns);
        self.watched.extend_from_slice(&other.watched);
        self.unlisted += other.unlisted;
    }
}

impl Stats {
    pub(super) fn add(&mut self, other: &Self) {
        self.stages.add(&other.stages);
        self.received += other.received;
        self.received_bytes += other.received_bytes;
        self.sent_before += other.sent_before;
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.sessionless += other.sessionless;
        self.dropped += other.dropped;
        self.auth_failed += other.auth_failed;
        self.expired += other.expired;
        self.failed_late += other.failed_late;
        self.answered += other.answered;
        self.total_us += other.total_us;
        self.min_ms = [self.min_ms, other.min_ms].into_iter().flatten().min();
        self.max_ms = self.max_ms.max(other.max_ms);
    }

    /// Begins anew, as far as a question for them wants that.
    pub(super) fn reset(&mut self, reset: Reset) {
        match reset {
            Reset::Stages => self.stages.reset(),
            Reset::Server => (self.answered, self.total_us, self.min_ms, self.max_ms) = (0, 0, None, 0),
            Reset::Nothing | Reset::Connections => {}
        }
    }

    /// A request was answered after that long.
    pub(super) fn answered(&mut self, stage: usize, took: Duration) {
        self.stages.record(stage, took, 1);
        let ms = took.as_millis() as u64;
        self.answered += 1;
        self.total_us += took.as_micros() as u64;
        self.min_ms = Some(self.min_ms.map_or(ms, |m| m.min(ms)));
        self.max_ms = self.max_ms.max(ms);
    }
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeStatus {
    /// Its number.
    pub id: u32,
    /// Whether it has caught up and serves clients.
    pub serving: bool,
    /// First GSN not applied yet.
    pub applied: Gsn,
    /// First GSN not assigned yet, as far as known.
    pub order_tail: Gsn,
    /// How much room the disks below the log have.
    pub log_room: DiskRoom,
    /// Hash of the state at `applied`.
    pub hash: u64,
    /// Position of the newest snapshot that is known to be good.
    pub snapshot: Option<Gsn>,
    /// Live sessions, of all nodes.
    pub sessions: usize,
    /// Its client connections.
    pub connections: usize,
    /// Nodes of the tree.
    pub znodes: usize,
    /// Ephemeral ones.
    pub ephemerals: usize,
    /// Bytes of paths and data.
    pub data_bytes: u64,
    /// Watches set here.
    pub watches: usize,
    /// Requests not answered yet.
    pub outstanding: usize,
    /// Own records that the log has not delivered yet.
    pub in_flight: usize,
    /// Frames from clients.
    pub received: u64,
    /// Frames to clients.
    pub sent: u64,
    /// Milliseconds from a request's arrival to its answer: least, mean, most.
    pub latency_ms: (u64, f64, u64),
    /// Time since the node was made.
    pub uptime: Duration,
    /// How far it is with another's snapshot, or was.
    pub bootstrap: Progress,
}

impl fmt::Display for NodeStatus {
    /// A JSON object.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{{\"id\":{},\"serving\":{},\"applied\":{},\"order_tail\":{},\"log_room\":\"{}\",\"hash\":\"{:016x}\",\"snapshot\":{},\"sessions\":{},\
             \"connections\":{},\"znodes\":{},\"ephemerals\":{},\"data_bytes\":{},\"watches\":{},\
             \"outstanding\":{},\"in_flight\":{},\"received\":{},\"sent\":{},\"uptime_ms\":{},\"bootstrap\":{}}}",
            self.id,
            self.serving,
            self.applied,
            self.order_tail,
            self.log_room.name(),
            self.hash,
            self.snapshot.map_or(0, |gsn| gsn.0),
            self.sessions,
            self.connections,
            self.znodes,
            self.ephemerals,
            self.data_bytes,
            self.watches,
            self.outstanding,
            self.in_flight,
            self.received,
            self.sent,
            self.uptime.as_millis(),
            self.bootstrap
        )
    }
}

impl<L: SharedLog> Back<L> {
    /// Frames from clients and to them since the start, as far as known: fronts say it when they are asked.
    pub(super) fn frames(&self) -> (u64, u64) {
        let (s, at_fronts) = (&self.stats, &self.counted);
        match self.draft {
            // Each frame is counted where it came in.
            Some(_) => (at_fronts.stats.received, at_fronts.stats.sent_before + at_fronts.sent),
            None => (s.received, s.sent_before + self.conns.iter().map(|(_, c)| c.way.sent).sum::<u64>()),
        }
    }

    /// How it is, as of the last input.
    pub fn status(&self, state: &State) -> NodeStatus {
        let (s, at_fronts) = (&self.stats, &self.counted.stats);
        let answered = (s.answered + at_fronts.answered).max(1);
        let mean_ms = (s.total_us + at_fronts.total_us) as f64 / 1000.0 / answered as f64;
        let min_ms = [s.min_ms, at_fronts.min_ms].into_iter().flatten().min();
        let (received, sent) = self.frames();
        NodeStatus {
            id: self.cfg.id,
            serving: self.serving,
            applied: state.applied(),
            order_tail: self.order_tail.max(state.applied()),
            log_room: self.room,
            hash: state.hash(),
            snapshot: self.snapshots.newest(),
            sessions: state.sessions().len(),
            connections: self.conns.len(),
            znodes: state.znode_count(),
            ephemerals: state.ephemeral_count(),
            data_bytes: state.data_bytes(),
            watches: self.watches.count() + self.counted.watches,
            outstanding: self.conns.iter().map(|(_, c)| c.queue.len()).sum::<usize>() + self.counted.waiting,
            in_flight: self.own.len(),
            received: received - self.counted_from.0,
            sent: sent - self.counted_from.1,
            latency_ms: (min_ms.unwrap_or(0), mean_ms, s.max_ms.max(at_fronts.max_ms)),
            uptime: self.now.since(self.started),
            bootstrap: self.behind.fetch.progress(),
        }
    }
}
