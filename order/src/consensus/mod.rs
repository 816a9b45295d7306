//! How do orderers agree on entries? raft-rs behind one border: no type of it leaves this folder, no
//! foreign byte reaches it unchecked, and its chance is replaced by ours.

mod members;
mod message;
mod ready;
mod record;
mod storage;
mod thrifty;
mod timing;

pub(crate) use ready::{Committed, What, Work};
pub use record::RecordSummary;
pub(crate) use record::{Identity, RAFT, Restored, restore, summary};
pub(crate) use thrifty::{HOLD, Outgoing, Thrifty};
pub(crate) use timing::{TICK, Ticker};

use bytes::Bytes;
use raft::{Config, RawNode, ReadOnlyOption, SnapshotStatus, StateRole};
use ready::Waiting;
use record::{RaftRecord, SnapshotImage};
use std::collections::{BTreeMap, VecDeque};
use storage::Log;
use timing::{ELECTION_TICKS, ELECTION_TICKS_END, Elections, HEARTBEAT_TICKS};
use zoolog_core::{ClusterId, OrdererId};

/// Bytes of proposals that may wait for their quorum.
const UNCOMMITTED_BYTES: u64 = 16 << 20;
/// Bytes of entries in one message.
const MESSAGE_BYTES: u64 = 1 << 20;
/// Bytes of one round of committed entries.
const COMMITTED_BYTES: u64 = 4 << 20;
/// Ticks after which a snapshot that was sent and not confirmed is tried again.
const SNAPSHOT_TICKS: u32 = 300;
/// Unsaved bytes above which a ready is taken at once, so that no record gets too large for the log.
const UNSTABLE_BYTES: usize = 4 << 20;

/// One member's view of the agreement.
pub(crate) struct Consensus {
    node: RawNode<Log>,
    cluster: ClusterId,
    elections: Elections,
    waiting: VecDeque<Waiting>,
    next_token: u64,
    /// Members that a snapshot was sent to, and how many ticks ago.
    snapshots: BTreeMap<u64, u32>,
    /// How far the log is known to be committed by what was given to the write-ahead log, and by what is durable.
    recorded_commit: u64,
    durable_commit: u64,
}

impl Consensus {
    /// A member that goes on from `log`, of which everything up to `applied` is applied.
    ///
    /// # Errors
    /// What raft finds wrong with it.
    pub fn new(
        cluster: ClusterId,
        id: OrdererId,
        log: Log,
        applied: u64,
        seed: u64,
        incarnation: u64,
    ) -> Result<Self, String> {
        let config = Config {
            id: id.0,
            applied,
            election_tick: ELECTION_TICKS,
            heartbeat_tick: HEARTBEAT_TICKS,
            min_election_tick: ELECTION_TICKS,
            max_election_tick: ELECTION_TICKS_END,
            max_size_per_msg: MESSAGE_BYTES,
            max_inflight_msgs: 256,
            max_uncommitted_size: UNCOMMITTED_BYTES,
            max_committed_size_per_ready: COMMITTED_BYTES,
            check_quorum: true,
            pre_vote: true,
            batch_append: true,
            // Followers push nothing: they may learn with the next entry or heartbeat what is committed.
            skip_bcast_commit: true,
            read_only_option: ReadOnlyOption::Safe,
            ..Config::default()
        };
        config.validate().map_err(|e| e.to_string())?;
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = RawNode::new(&config, log, &logger).map_err(|e| e.to_string())?;
        let elections = Elections::new(seed, incarnation);
        let (waiting, snapshots) = (VecDeque::new(), BTreeMap::new());
        let commit = node.raft.raft_log.committed;
        let mut this = Self {
            node,
            cluster,
            elections,
            waiting,
            next_token: 1,
            snapshots,
            recorded_commit: commit,
            durable_commit: commit,
        };
        this.tame();
        Ok(this)
    }

    /// Replaces the election timeout that raft drew by ours. To be called whenever raft may have drawn.
    fn tame(&mut self) {
        let ours = self.elections.timeout(self.node.raft.term);
        if self.node.raft.randomized_election_timeout() != ours {
            self.node.raft.set_randomized_election_timeout(ours);
        }
    }

    /// Takes a message of a member.
    ///
    /// # Errors
    /// Why it was not taken; nothing has changed then.
    pub fn step(&mut self, from: OrdererId, payload: &Bytes) -> Result<(), String> {
        let m = message::decode(from, self.node.raft.id, payload)?;
        message::check(&self.node.raft, self.cluster, &m)?;
        // What raft itself turns down (a proposal, an answer of a stranger) is of no consequence.
        let _ = self.node.step(m);
        self.tame();
        Ok(())
    }

    /// Whether so much waits to be saved that it should be taken at once.
    pub fn is_full(&self) -> bool {
        self.node.raft.raft_log.unstable().entries_size > UNSTABLE_BYTES
    }

    /// Raft's clock moves on.
    pub fn tick(&mut self) {
        // While a snapshot is on its way to the disk raft's own bookkeeping has a hole, in which it must
        // not start an election.
        if self.waiting.iter().all(|w| w.snapshot.is_none()) {
            self.node.tick();
            self.tame();
        }
        self.watch_snapshots();
    }

    /// A snapshot that got lost on its way must not silence its receiver for ever.
    fn watch_snapshots(&mut self) {
        use raft::ProgressState;
        if !self.is_leader() {
            self.snapshots.clear();
            return;
        }
        let prs = self.node.raft.prs();
        let mut late = Vec::new();
        for id in self.node.store().members() {
            let pending = prs.get(id).is_some_and(|p| p.state == ProgressState::Snapshot);
            if !pending {
                self.snapshots.remove(&id);
                continue;
            }
            let ticks = self.snapshots.entry(id).or_default();
            *ticks += 1;
            if *ticks >= SNAPSHOT_TICKS {
                late.push(id);
            }
        }
        for id in late {
            self.snapshots.remove(&id);
            self.node.report_snapshot(id, SnapshotStatus::Failure);
        }
    }

    /// Messages to this member get lost.
    pub fn unreachable(&mut self, id: OrdererId) {
        self.node.report_unreachable(id.0);
        self.node.report_snapshot(id.0, SnapshotStatus::Failure);
    }

    /// Proposes an entry; its index if raft took it. Only proposals of a leader that stays are taken.
    pub fn propose(&mut self, data: Vec<u8>) -> Option<u64> {
        if !self.is_leader() || self.is_leaving() {
            return None;
        }
        self.node.propose(Vec::new(), data).ok()?;
        Some(self.node.raft.raft_log.last_index())
    }

    /// Starts a round that finds out what is committed now. May be lost silently: ask again after a while.
    pub fn read_index(&mut self, ctx: u64) {
        if self.is_leader() {
            self.node.read_index(ctx.to_le_bytes().to_vec());
        }
    }

    /// All entries up to this one were applied; raft may forget them.
    pub fn applied(&mut self, index: u64) {
        self.node.advance_apply_to(index);
        self.node.mut_store().compact(index);
        self.tame();
    }

    /// Whether a member needs the state as a whole.
    pub fn wants_snapshot(&self) -> bool {
        self.node.store().wants_snapshot()
    }

    /// The state as of `applied`.
    pub fn offer_snapshot(&mut self, applied: u64, state: Vec<u8>) {
        self.node.mut_store().offer(applied, state);
    }

    /// All that must be known to go on from `state`, which is as of `applied`.
    pub fn checkpoint(&self, applied: u64, state: Vec<u8>, identity: Identity) -> Bytes {
        let log = self.node.store();
        let term = log.term_of(applied).expect("the applied entry, or the one before the first, is here");
        let snapshot = SnapshotImage { index: applied, term, state };
        let mut hard = log.hard().clone();
        hard.commit = hard.commit.max(applied);
        let record = RaftRecord::new((applied > 0).then_some(snapshot), log.behind(applied), &hard);
        record.with(identity).encode()
    }

    /// Whether this member leads its term, as far as it knows.
    pub fn is_leader(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    /// Who leads, if that is known.
    pub fn leader(&self) -> Option<OrdererId> {
        Some(OrdererId(self.node.raft.leader_id)).filter(|id| id.0 != 0)
    }

    /// The last entry known to be committed.
    pub fn committed(&self) -> u64 {
        self.node.raft.raft_log.committed
    }

    /// The last entry that each member has confirmed to this leader.
    pub fn matched(&self) -> impl Iterator<Item = (OrdererId, u64)> + '_ {
        let prs = self.node.raft.prs();
        self.node.store().members().filter_map(|id| Some((OrdererId(id), prs.get(id)?.matched)))
    }

    /// The last entry of the log.
    pub fn last(&self) -> u64 {
        self.node.raft.raft_log.last_index()
    }

    /// The present term.
    pub fn term(&self) -> u64 {
        self.node.raft.term
    }
}
