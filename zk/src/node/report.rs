//! What is a node asked about itself, and what does it say? Figures and lists for four-letter words, which are answered
//! on the client port, and for its owner, who makes other things of them.
//!
//! Lists are cut off at [`LIST_MAX`] entries: a question costs the executor that applies a few milliseconds at most,
//! however much there is.

use super::Back;
use super::served::Served;
use super::status::NodeStatus;
use crate::state::State;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use zoolog_client::{Fetching, SharedLog};
use zoolog_core::Instant;
use zoolog_core::stages::{Stages, Summary};

/// Entries of a list at most: connections, sessions, paths.
pub const LIST_MAX: usize = 10_000;

/// What a question begins anew, once it is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reset {
    /// Nothing.
    #[default]
    Nothing,
    /// The stages' histograms.
    Stages,
    /// Latencies and numbers of frames, of the whole node.
    Server,
    /// The same of each connection.
    Connections,
}

/// What is to be said besides figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// What the executors with connections have counted.
    pub counts: bool,
    /// Every connection.
    pub connections: bool,
    /// What each session watches here.
    pub watches: bool,
    /// Every session, and its ephemerals.
    pub sessions: bool,
    /// What begins anew.
    pub reset: Reset,
}

/// A client connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Connection {
    /// `ip:port`.
    pub peer: String,
    /// Whether it is read from.
    pub reading: bool,
    /// Requests that are not answered.
    pub queued: usize,
    /// Frames from it.
    pub received: u64,
    /// Frames to it.
    pub sent: u64,
    /// Its session, and the timeout in milliseconds.
    pub session: Option<(i64, u32)>,
    /// Since when it has been there, milliseconds since 1970.
    pub since_ms: u64,
    /// When its client has been silent for the session's timeout, or the handshake's patience is over, likewise.
    pub expires_ms: u64,
    /// What it was answered.
    pub served: Served,
}

/// A session that lives, at whatever node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: i64,
    /// Agreed timeout.
    pub timeout_ms: u32,
    /// Paths of its ephemerals, in order.
    pub ephemerals: Vec<String>,
}

/// What a node says of itself.
#[derive(Clone, Debug)]
pub struct Report {
    /// How it is.
    pub status: NodeStatus,
    /// Frames from clients, bytes.
    pub received_bytes: u64,
    /// Connections that were taken in.
    pub accepted: u64,
    /// Connections that were refused because there were too many.
    pub refused: u64,
    /// Connections that were closed without a session when their time was up.
    pub sessionless: u64,
    /// Connections that were closed for what their clients did, or failed to do.
    pub dropped: u64,
    /// Proofs of identity that were none.
    pub auth_failed: u64,
    /// Sessions that this node found silent for longer than their timeout.
    pub expired: u64,
    /// Writes that were answered as in the log, and refused when they were applied.
    pub failed_late: u64,
    /// What fetching the log's records has come to.
    pub fetching: Fetching,
    /// Latencies of the stages of a request.
    pub stages: Stages,
    /// How long snapshots took; without quantiles.
    pub snapshots: Summary,
    /// Connections that watch something.
    pub watchers: usize,
    /// Paths that are watched.
    pub watched_paths: usize,
    /// Bytes that a snapshot being taken holds because nodes have changed since it began.
    pub snapshot_aside_bytes: usize,
    /// Version of the rules by which records are applied.
    pub apply_version: u32,
    /// Whether the log is away, and whoever takes that is served reads only.
    pub read_only: bool,
    /// Connections, if asked for.
    pub connections: Vec<Connection>,
    /// Sessions, if asked for.
    pub sessions: Vec<Session>,
    /// What sessions watch here, if asked for, each path once.
    pub watches: BTreeMap<i64, BTreeSet<Arc<str>>>,
    /// What had no place in these lists.
    pub left_out: usize,
}

impl Report {
    /// The same the other way round.
    pub fn watches_by_path(&self) -> BTreeMap<&str, BTreeSet<i64>> {
        let mut paths: BTreeMap<&str, BTreeSet<i64>> = BTreeMap::new();
        for (session, watched) in &self.watches {
            for path in watched {
                paths.entry(path).or_default().insert(*session);
            }
        }
        paths
    }
}

impl<L: SharedLog> Back<L> {
    /// What it says, from what is known by now.
    pub(super) fn report(&self, now: Instant, state: &State, about: About) -> Report {
        let mut all = self.stats.clone();
        all.add(&self.counted.stats);
        let mut report = Report {
            status: self.status(state),
            received_bytes: all.received_bytes,
            accepted: all.accepted,
            refused: all.refused,
            sessionless: all.sessionless,
            dropped: all.dropped,
            auth_failed: all.auth_failed,
            expired: all.expired,
            failed_late: all.failed_late,
            fetching: self.log.fetching(),
            stages: all.stages,
            snapshots: self.snapshots.times(),
            watchers: self.watches.watchers() + self.counted.watchers,
            watched_paths: self.watches.paths() + self.counted.paths,
            snapshot_aside_bytes: state.image_bytes(),
            apply_version: state.apply_version(),
            read_only: self.is_read_only(now, state),
            connections: Vec::new(),
            sessions: Vec::new(),
            watches: BTreeMap::new(),
            left_out: 0,
        };
        if about.connections {
            self.list_connections(now, &mut report);
        }
        if about.watches {
            self.list_watches(&mut report);
        }
        if about.sessions {
            list_sessions(state, &mut report);
        }
        report
    }

    fn list_connections(&self, now: Instant, report: &mut Report) {
        let at_fronts: BTreeMap<_, _> = self.counted.conns.iter().map(|c| (c.0, c)).collect();
        let wall_ms = self.wall.at(now).0;
        for (_, c) in self.conns.iter().take(LIST_MAX) {
            let (received, sent, there) = match at_fronts.get(&c.id) {
                Some((_, received, sent, there)) => (*received, *sent, *there),
                None => (c.received, c.way.sent, c.served),
            };
            let (received, sent) = there.since_reset(received, sent);
            let served = if at_fronts.contains_key(&c.id) { c.served.and(&there) } else { there };
            let open = c.open();
            let expires = open.map(|o| c.heard_at + o.timeout()).or(c.deadline()).unwrap_or(now);
            report.connections.push(Connection {
                peer: c.peer.clone(),
                reading: !c.paused,
                queued: c.queue.len(),
                received,
                sent,
                session: open.map(|o| (o.session, o.timeout_ms)),
                since_ms: wall_ms.saturating_sub(now.since(c.began_at).as_millis() as u64),
                expires_ms: wall_ms.saturating_add(expires.since(now).as_millis() as u64),
                served,
            });
        }
        report.left_out += self.conns.len().saturating_sub(LIST_MAX);
    }

    fn list_watches(&self, report: &mut Report) {
        let (here, unlisted) = self.watches.lists(LIST_MAX);
        let here = here.into_iter().filter_map(|(slot, paths)| Some((self.conns.get(slot)?, paths)));
        let there = self.counted.watched.iter().filter_map(|(conn, paths)| {
            let slot = self.conns.slot(*conn)?;
            Some((self.conns.get(slot)?, paths.clone()))
        });
        for (conn, paths) in here.chain(there) {
            if let Some(open) = conn.open() {
                report.watches.entry(open.session).or_default().extend(paths);
            }
        }
        report.left_out += unlisted + self.counted.unlisted;
    }

    /// The figures that a question begins anew do so.
    pub(super) fn reset(&mut self, reset: Reset) {
        self.stats.reset(reset);
        self.counted.stats.reset(reset);
        match reset {
            Reset::Server => self.counted_from = self.frames(),
            Reset::Connections => self.conns.reset_served(),
            Reset::Nothing | Reset::Stages => {}
        }
    }
}

fn list_sessions(state: &State, report: &mut Report) {
    let mut room = LIST_MAX;
    for (id, session) in state.sessions() {
        if room == 0 {
            report.left_out += 1 + session.ephemeral_count();
            continue;
        }
        room -= 1;
        let ephemerals = state.some_ephemerals(id, room);
        room -= ephemerals.len();
        report.left_out += session.ephemeral_count() - ephemerals.len();
        report.sessions.push(Session { id, timeout_ms: session.timeout_ms, ephemerals });
    }
}
