//! What can be set about a node? Each with its unit, its default and the reason for it.

use super::facts::Facts;
use super::policy::{Acks, Reads};
use super::read_only::READ_ONLY_PATIENCE;
use super::whitelist::Whitelist;
use crate::bootstrap::FetchConfig;
use crate::jute::FRAME_BYTES_DEFAULT_MAX;
use std::collections::BTreeSet;
use std::time::Duration;
use zoolog_client::{ClientConfig, ClusterLog};
use zoolog_core::policy::Fetch;
use zoolog_core::{ClusterId, Gsn, Instant};

/// How much of what can be large is done at a time, so that nobody waits for all of it. Tests make these small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    /// Watch events that a turn tells one by one, beside those that only one connection hears; and those that are told in
    /// a step, of the others. Default 512.
    pub events: usize,
    /// Watches that are tidied up in a step. Default 4096.
    pub watches: usize,
    /// Children above which they are listed in pieces of half as many, together twice as many in a step. Default 4096.
    pub names: usize,
    /// Paths whose watches are set again in a step, of those who ask for that with requests of more than 8 times as many
    /// bytes. Default 2048.
    pub set_again: usize,
    /// Connections that a turn looks at when all are to be looked at: 4096 at most. Default 4096.
    pub connections: usize,
    /// Bytes of records that are applied before it is looked whether the turn is long by now; one record at least. Default
    /// 64 KiB.
    pub record_bytes: usize,
}

impl Default for Steps {
    fn default() -> Self {
        Self {
            events: 512,
            watches: 4096,
            names: 4096,
            set_again: 2048,
            connections: 4096,
            record_bytes: 64 << 10,
        }
    }
}

/// Settings of a [`Node`](crate::Node).
#[derive(Clone)]
pub struct NodeConfig {
    /// The node's number, for people: it appears in four-letter words.
    pub id: u32,
    /// The cluster it belongs to; 0 learns it from the log.
    pub cluster: ClusterId,
    /// The cluster's secret, from which session passwords are made: the same on every node.
    pub secret: [u8; 32],
    /// `ip:port` of the orderers.
    pub orderers: Vec<String>,
    /// ZooKeeper's tick in milliseconds, from which the bounds of session timeouts follow. Default 2000.
    pub tick_ms: u32,
    /// Shortest session timeout granted, in milliseconds; 0 means 2 ticks. Default 0.
    pub min_session_timeout_ms: u32,
    /// Longest session timeout granted, in milliseconds; 0 means 20 ticks. Default 0.
    pub max_session_timeout_ms: u32,
    /// Bytes behind the length of a client's frame at most (`jute.maxbuffer`), which the shell enforces with
    /// [`framing`](crate::framing). Default 0xfffff. A write that would not fit a record of the log is refused.
    pub max_frame_bytes: usize,
    /// Connections per client address; 0 is no limit. Default 60.
    pub max_connections_per_ip: u32,
    /// Connections in all. Default 65,536.
    pub max_connections: usize,
    /// Watches in all, or at each front: beyond it a connection that sets another is closed. Default 2,000,000.
    pub max_watches: usize,
    /// Requests of one connection that may wait for the log before its socket is no longer read.
    /// Default 1024.
    pub max_pending_requests: usize,
    /// Bytes of such requests. Default 16 MiB.
    pub max_pending_bytes: usize,
    /// The same of all connections together, or of those at each front: above it, those are not read from that have more
    /// than their part of it. Default 256 MiB.
    pub max_pending_bytes_of_all: usize,
    /// How much is done at a time.
    pub steps: Steps,
    /// How long a connection may be without a session before it is closed. Default 10 s.
    pub handshake_patience: Duration,
    /// Whether clients that said they would take it are served reads, and nothing else, while the log is away
    /// (`readonlymode.enabled`); only with reads of what is applied here. Default no.
    pub read_only: bool,
    /// How long the log must have been away for that. Default 2 s.
    pub read_only_patience: Duration,
    /// How long a client that has seen more than this node waits for it to catch up. Default 2 s.
    pub catch_up_patience: Duration,
    /// Between two looks for containers without children and nodes whose time to live is over
    /// (`znode.container.checkIntervalMs`). Default 60 s.
    pub container_check_interval: Duration,
    /// How many of these go in a minute at most (`znode.container.maxPerMinute`). Default 10,000.
    pub container_max_per_minute: u32,
    /// Whether nodes may have a time to live (`zookeeper.extendedTypesEnabled`). Default yes, unlike the original.
    pub extended_types: bool,
    /// Who may do everything: `super:` and the digest of `super:PASSWORD`
    /// (`zookeeper.DigestAuthenticationProvider.superDigest`). Default nobody.
    pub super_digest: Option<String>,
    /// Whether ACLs don't count for the clients of this node (`zookeeper.skipACL`). Default no.
    pub skip_acl: bool,
    /// Whether the writes of this node's clients are refused when they are over a hard quota
    /// (`zookeeper.enforceQuota`). Default no.
    pub enforce_quota: bool,
    /// Records applied since the last snapshot at which the next begins; 0: however many. Default 500,000.
    pub snapshot_records: u64,
    /// Bytes of such records at which it begins; 0: however many. Default 256 MiB.
    pub snapshot_bytes: u64,
    /// Where others get this node's snapshots, `host:port`, as [`Offer`](zoolog_core::wire::Offer) means it. Default
    /// nowhere.
    pub gives_at: Option<String>,
    /// How it gets another's, if it needs one.
    pub bootstrap: FetchConfig,
    /// Records after which a mark is put into the log, at which all nodes compare their states. Default 65,536: well before a
    /// snapshot could be taken of a state that is not the others'.
    pub mark_records: u64,
    /// Time after which it is put, if anything was applied. Default 10 s.
    pub mark_interval: Duration,
    /// Time in which all of the state in memory is looked at once. Default 10 min.
    pub check_pass: Duration,
    /// Records that an operator wants passed over, since applying them panics: unless the log says so already, a record that
    /// does is written before anything is applied. Default none.
    pub skip: BTreeSet<Gsn>,
    /// Four-letter words that are answered (`4lw.commands.whitelist`). Default those that change nothing and name no node
    /// of the tree, unlike the original.
    pub words: Whitelist,
    /// When writes are answered. Default once they are applied.
    pub acks: Acks,
    /// What reads show. Default what is applied here.
    pub reads: Reads,
    /// What it is told of its surroundings.
    pub facts: Facts,
    /// Settings of the log client; its `cluster` and `orderers` are set from the fields above.
    pub log: ClientConfig,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            id: 0,
            cluster: ClusterId(0),
            secret: [0; 32],
            orderers: Vec::new(),
            tick_ms: 2000,
            min_session_timeout_ms: 0,
            max_session_timeout_ms: 0,
            max_frame_bytes: FRAME_BYTES_DEFAULT_MAX,
            max_connections_per_ip: 60,
            max_connections: 65_536,
            max_watches: 2_000_000,
            max_pending_requests: 1024,
            max_pending_bytes: 16 << 20,
            max_pending_bytes_of_all: 256 << 20,
            steps: Steps::default(),
            handshake_patience: Duration::from_secs(10),
            read_only: false,
            read_only_patience: READ_ONLY_PATIENCE,
            catch_up_patience: Duration::from_secs(2),
            container_check_interval: Duration::from_secs(60),
            container_max_per_minute: 10_000,
            extended_types: true,
            super_digest: None,
            skip_acl: false,
            enforce_quota: false,
            snapshot_records: 500_000,
            snapshot_bytes: 256 << 20,
            gives_at: None,
            bootstrap: FetchConfig::default(),
            mark_records: 65_536,
            mark_interval: Duration::from_secs(10),
            check_pass: Duration::from_secs(600),
            skip: BTreeSet::new(),
            words: Whitelist::default(),
            acks: Acks::default(),
            reads: Reads::default(),
            facts: Facts::default(),
            log: ClientConfig::default(),
        }
    }
}

impl std::fmt::Debug for NodeConfig {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeConfig")
            .field("id", &self.id)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

fn ticks_or(given_ms: u32, tick_ms: u32, ticks: u32) -> u32 {
    if given_ms == 0 { tick_ms.saturating_mul(ticks) } else { given_ms }
}

impl NodeConfig {
    /// The log client of a node with these settings. Never use a seed twice in a cluster's life.
    pub fn log_client(&self, seed: u64, now: Instant) -> ClusterLog {
        ClusterLog::new(self.clone().bounded().log, seed, now)
    }

    /// The settings with those that could not work brought into their bounds.
    pub(super) fn bounded(mut self) -> Self {
        self.tick_ms = self.tick_ms.clamp(1, 3_600_000);
        self.max_pending_requests = self.max_pending_requests.max(1);
        self.max_pending_bytes = self.max_pending_bytes.max(2 * self.max_frame_bytes);
        self.steps.events = self.steps.events.max(1);
        self.steps.watches = self.steps.watches.max(1);
        self.steps.set_again = self.steps.set_again.max(1);
        self.steps.connections = self.steps.connections.max(1);
        self.container_max_per_minute = self.container_max_per_minute.max(1);
        self.container_check_interval = self.container_check_interval.max(Duration::from_millis(10));
        self.log.cluster = self.cluster;
        self.log.orderers = self.orderers.clone();
        // What becomes of a write is seen when it is applied.
        self.log.prompt_acks = self.hears_acks() || !self.skip.is_empty();
        self.mark_records = self.mark_records.max(1);
        self.mark_interval = self.mark_interval.max(Duration::from_millis(10));
        self
    }

    /// Whether it matters that a record is in the log before it is applied.
    pub(super) fn hears_acks(&self) -> bool {
        self.acks == Acks::Logged || self.log.fetch == Fetch::Lazy
    }

    /// Shortest session timeout granted, in milliseconds.
    pub fn min_timeout_ms(&self) -> u32 {
        ticks_or(self.min_session_timeout_ms, self.tick_ms, 2).clamp(1, i32::MAX as u32)
    }

    /// Longest session timeout granted, in milliseconds.
    pub fn max_timeout_ms(&self) -> u32 {
        let max = ticks_or(self.max_session_timeout_ms, self.tick_ms, 20);
        max.clamp(self.min_timeout_ms(), i32::MAX as u32)
    }

    /// The timeout granted to a client that wishes `wished_ms`.
    pub(super) fn grant_ms(&self, wished_ms: i32) -> u32 {
        u32::try_from(wished_ms).unwrap_or(0).clamp(self.min_timeout_ms(), self.max_timeout_ms())
    }
}
