//! What do all conversations of the client share? Time, chance, numbering, and the way out.

use super::links::LinkId;
use crate::{ClientConfig, LogEvent, Metrics};
use bytes::Bytes;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;
use zoolog_core::rng::Rng;
use zoolog_core::wire::{self, Hello, Message, Role};
use zoolog_core::{ClusterId, ConnId, Gsn, Incarnation, Instant, Output};

/// So many bits number the connections of one client, of several that one owner has one after the other.
const CONNS_BITS: u32 = 40;

/// Shared by all conversations; passed down with each call.
#[derive(Debug)]
pub(super) struct Cx {
    pub cfg: ClientConfig,
    pub now: Instant,
    pub out: VecDeque<Output<LogEvent>>,
    pub metrics: Metrics,
    pub rng: Rng,
    /// As configured, or as learned.
    pub cluster: ClusterId,
    /// As configured, or as learned.
    pub generation: Option<u32>,
    /// The greatest tail anybody told us: what lies before it is assigned, even if its cut has not come yet.
    pub tail_seen: Gsn,
    /// Connections to be ended once the current input is dealt with.
    pub condemned: BTreeSet<LinkId>,
    conns: u64,
    requests: u64,
}

impl Cx {
    pub fn new(cfg: ClientConfig, seed: u64, now: Instant) -> Self {
        Self {
            cluster: cfg.cluster,
            generation: cfg.generation,
            cfg,
            now,
            out: VecDeque::new(),
            metrics: Metrics::default(),
            rng: Rng::new(seed, "client"),
            tail_seen: Gsn(0),
            condemned: BTreeSet::new(),
            conns: 0,
            requests: 0,
        }
    }

    /// Dials `addr` under a number never used before.
    pub fn dial(&mut self, addr: &str) -> ConnId {
        self.conns += 1;
        let conn = ConnId::dialled(self.conns);
        self.out.push_back(Output::Dial { conn, addr: addr.to_owned() });
        conn
    }

    pub fn send(&mut self, conn: ConnId, bytes: Bytes) {
        self.out.push_back(Output::Send { conn, bytes });
    }

    pub fn send_message(&mut self, conn: ConnId, message: impl Into<Message>) {
        self.send(conn, wire::encode(message));
    }

    pub fn close(&mut self, conn: ConnId) {
        self.out.push_back(Output::Close { conn });
    }

    pub fn event(&mut self, event: LogEvent) {
        self.out.push_back(Output::Event(event));
    }

    /// Numbers of connections that `other`, in whose place we come, never used, nor will.
    pub fn numbers_after(&mut self, other: &Self) {
        self.conns = ((other.conns >> CONNS_BITS) + 1) << CONNS_BITS;
    }

    /// A number for a question on the wire, never used before.
    pub fn request(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    /// First on every connection.
    pub fn hello(&mut self, conn: ConnId) {
        // Who doesn't know both is let in as a stranger, once.
        let cluster = match (self.cluster, self.generation) {
            (ClusterId(0), _) | (_, None) => ClusterId(0),
            (order, Some(generation)) => order.at(generation),
        };
        let incarnation = Incarnation(0);
        self.send_message(conn, Hello { role: Role::Client, cluster, node: 0, slot: 0, incarnation });
    }

    /// `base` doubled for each failure, at most `max`, with a quarter of jitter, so that clients that lost
    /// one server together don't come back together.
    pub fn pause(&mut self, base: Duration, max: Duration, fails: u32) -> Duration {
        let pause = base.saturating_mul(1 << fails.min(16)).min(max);
        let quarter = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX) / 4;
        pause + Duration::from_nanos(self.rng.below(quarter + 1))
    }

    /// The pause before a lost connection is dialled again.
    pub fn redial_pause(&mut self, fails: u32) -> Duration {
        let (base, max) = self.cfg.redial;
        self.pause(base, max, fails)
    }
}

/// The earlier of two timers.
pub(super) fn earlier(
    a: Option<(Instant, &'static str)>,
    b: Option<(Instant, &'static str)>,
) -> Option<(Instant, &'static str)> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.0 < a.0 { b } else { a }),
        (a, b) => a.or(b),
    }
}
