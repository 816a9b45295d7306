//! What does an orderer do with an input? The machine: it dispatches; each conversation has its own file.

mod apply;
mod birth;
mod conns;
mod consumers;
mod handover;
mod health;
mod late;
mod lead;
mod members;
mod names;
mod offers;
mod peers;
mod rebuild;
mod retention;
mod roster;
mod sealing;
mod slots;
mod status;
mod subscribers;
mod succession;
mod tail;
mod trims;
mod views;

use crate::config::{OrderError, OrdererConfig};
use crate::consensus::{self, Consensus, RAFT, Restored, Thrifty, Ticker};
use crate::sequencer::{Standing, State};
use birth::Birth;
use bytes::Bytes;
use conns::Conn;
use handover::Leaving;
use lead::Lead;
use peers::Peers;
use std::collections::{BTreeMap, VecDeque};
use tail::Tails;
use zoolog_core::stages::{Pending, Stages};
use zoolog_core::wal::{Recovered, WalPos};
use zoolog_core::wire::DiskRoom;
use zoolog_core::{ConnId, Gsn, Incarnation, Input, Instant, Machine, Output, ShardId, Token, ViewNumber};

/// What an orderer tells its owner, for logs and tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderEvent {
    /// It leads from now on, and has applied all that was committed before.
    BecameLeader {
        /// The term.
        term: u64,
    },
    /// It does not lead any more.
    SteppedDown {
        /// The term it led.
        term: u64,
    },
    /// Shards were added, or ended.
    ViewFormed {
        /// The new view.
        view: ViewNumber,
        /// The new shards.
        shards: Vec<ShardId>,
        /// Those that take no appends any more.
        finalized: Vec<ShardId>,
    },
    /// A consumer held the log back for too long, or by too much, and is dropped.
    ConsumerDropped {
        /// Its name.
        name: String,
        /// Where it was.
        position: Gsn,
    },
    /// It took over the whole state from the leader, having lagged too far.
    CaughtUp {
        /// The raft entry that the state is as of.
        index: u64,
    },
    /// The orderers are others.
    MembersChanged {
        /// All of them, by id.
        members: Vec<(u64, Standing)>,
    },
    /// It was removed, or has lost its data directory: it must never take part again, and does nothing any more.
    Dismissed {
        /// Why, and what to do.
        why: String,
    },
}

/// One member of the ordering layer.
pub struct Orderer {
    cfg: OrdererConfig,
    incarnation: Incarnation,
    /// When this start began.
    made: Instant,
    birth: Birth,
    state: State,
    /// The entry that `state` is as of.
    applied: u64,
    consensus: Consensus,
    ticker: Ticker,
    /// While this member leads.
    lead: Option<Lead>,
    conns: BTreeMap<ConnId, Conn>,
    /// When each accepted connection must have said hello, oldest first.
    silent: VecDeque<(Instant, ConnId)>,
    peers: Peers,
    thrifty: Thrifty,
    tails: Tails,
    /// Records on their way to the disk.
    persisting: Pending<Token>,
    /// How long its stages take.
    stages: Stages,
    /// Cuts of this turn that are about to be sent, and when the first of them was applied.
    cuts_sending: Option<(Instant, u64)>,
    /// How much room its disk has, and the bytes; `None` before that was said.
    disk: Option<(DiskRoom, u64)>,
    /// First segment seen by this start, and the newest: what lies before a checkpoint of ours can go.
    segments: Option<(u32, u32)>,
    out: VecDeque<Output<OrderEvent>>,
    /// It was asked to end.
    leaving: Option<Leaving>,
    /// It must not take part any more.
    dismissed: bool,
    /// Something came in since the last turn was settled.
    fresh: bool,
}

impl Orderer {
    /// An orderer that goes on from what was found in its log.
    ///
    /// # Errors
    /// When the settings contradict each other, or what was found is not its own.
    pub fn new(
        cfg: OrdererConfig,
        recovered: &Recovered,
        seed: u64,
        now: Instant,
    ) -> Result<Self, OrderError> {
        cfg.check()?;
        let mut tail = Vec::with_capacity(recovered.tail.len());
        for entry in &recovered.tail {
            match &entry.data {
                Some(data) if entry.kind == RAFT => tail.push(&data[..]),
                _ => {
                    let text = format!(
                        "a record of kind {} at {:?}, without data or not ours",
                        entry.kind, entry.pos
                    );
                    return Err(OrderError::Recovered(text));
                }
            }
        }
        let checkpoint = recovered.checkpoint.as_deref();
        let mut found =
            consensus::restore(cfg.cluster, checkpoint, tail.into_iter()).map_err(OrderError::Recovered)?;
        let birth = match found.identity.take() {
            Some(identity) => Birth::found(identity),
            None if found.log.last() > 0 || found.applied > 0 => {
                return Err(OrderError::Recovered("a log that doesn't say whose it is".into()));
            }
            None => {
                cfg.check_first()?;
                let first = if cfg.joins { Vec::new() } else { cfg.peers.clone() };
                if !first.is_empty() {
                    found.found(&first);
                }
                Birth::drawn(seed, cfg.id, first)
            }
        };
        let Restored { log, state, applied, .. } = found;
        let consensus = Consensus::new(cfg.cluster, cfg.id, log, applied, seed, recovered.incarnation)
            .map_err(OrderError::Recovered)?;
        let mut this = Self {
            incarnation: Incarnation(recovered.incarnation),
            made: now,
            birth,
            state,
            applied,
            consensus,
            ticker: Ticker::new(now),
            lead: None,
            conns: BTreeMap::new(),
            silent: VecDeque::new(),
            peers: Peers::new(seed, recovered.incarnation),
            thrifty: Thrifty::new(std::iter::empty()),
            tails: Tails::default(),
            persisting: Pending::default(),
            stages: Stages::new(&status::STAGES),
            cuts_sending: None,
            disk: None,
            segments: None,
            out: VecDeque::new(),
            leaving: None,
            dismissed: false,
            fresh: true,
            cfg,
        };
        if let Some(why) = this.birth.identity.dismissed {
            return Err(OrderError::Dismissed(why));
        }
        if !this.birth.may_speak() {
            this.write_identity();
        }
        this.members_changed(now);
        Ok(this)
    }

    /// The replicated state, as far as it is applied here.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Whether this member leads and has applied everything that was committed before its term.
    pub fn is_leading(&self) -> bool {
        self.lead.as_ref().is_some_and(|l| l.ready)
    }

    /// Whether it must not take part any more. It does nothing then, and has no timers.
    pub fn is_dismissed(&self) -> bool {
        self.dismissed
    }

    /// The raft entry that [`Orderer::state`] is as of.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    fn send(&mut self, conn: ConnId, bytes: Bytes) {
        self.send_late(conn);
        self.out.push_back(Output::Send { conn, bytes });
    }

    fn timer(&mut self, now: Instant) {
        for _ in 0..self.ticker.due(now) {
            if self.birth.takes_part() {
                self.consensus.tick();
            }
            self.tick(now);
        }
    }

    /// What is not worth timers of its own.
    fn tick(&mut self, now: Instant) {
        if self.birth.may_speak() {
            self.out.extend(self.peers.redial(now));
        }
        self.tend_members(now);
        self.close_silent(now);
        self.retry_tails(now);
    }

    /// An orderer's log doesn't grow: it is rolled, and what a checkpoint stands for goes. So there is nothing to
    /// refuse while its disk is short of room; it says so, for somebody to look after it.
    fn disk_space(&mut self, room: DiskRoom, free_bytes: u64) {
        let before = self.disk.replace((room, free_bytes)).map_or(DiskRoom::Ample, |d| d.0);
        if room > before {
            tracing::warn!(free_bytes, room = room.name(), "the disk of this orderer's log is short of room");
        }
    }

    fn persisted(&mut self, now: Instant, token: Token, positions: &[WalPos]) {
        self.persisting.end(token, now, &mut self.stages, status::RAFT_WAL);
        self.identity_persisted(token);
        let messages = self.consensus.persisted(token);
        self.send_raft(now, messages);
        let Some(segment) = positions.iter().map(|p| p.segment).max() else { return };
        match self.segments {
            None => self.segments = Some((segment, segment)),
            // The log has rolled since our start: a checkpoint of ours is durable ahead of this record, and
            // stands for everything in the segments before.
            Some((first, newest)) if segment > newest => {
                self.segments = Some((first, segment));
                self.out.push_back(Output::Release { segment });
            }
            Some(_) => {}
        }
    }

    /// Does what has become possible since the last turn, until nothing more has.
    fn settle(&mut self, now: Instant) {
        loop {
            self.follow_role(now);
            self.lead_on(now);
            let Some(work) = self.consensus.next_work() else { break };
            self.carry_out(now, work);
        }
        self.send_held(now);
        if self.consensus.wants_snapshot() && self.consensus.is_leader() {
            self.consensus.offer_snapshot(self.applied, self.state.encode());
        }
    }
}

impl Machine for Orderer {
    type Command = ();
    type Event = OrderEvent;

    fn handle(&mut self, now: Instant, input: Input<()>) {
        if self.dismissed {
            match input {
                Input::Accepted { conn, .. } => self.out.push_back(Output::Close { conn }),
                Input::Persisted { token, .. } => self.identity_persisted(token),
                _ => {}
            }
            return;
        }
        self.fresh = true;
        match input {
            Input::Accepted { conn, peer } => self.accepted(now, conn, peer),
            Input::Connected { conn } => self.connected(now, conn),
            Input::Frame { conn, bytes } => self.frame(now, conn, bytes),
            Input::Closed { conn } => self.closed(now, conn),
            Input::Persisted { token, positions } => self.persisted(now, token, &positions),
            Input::Loaded { token, .. } | Input::SegmentRead { token, .. } => {
                panic!("an orderer loads nothing, yet {token:?} was loaded")
            }
            Input::SnapshotSaved { .. } | Input::SnapshotFound { .. } | Input::SnapshotRead { .. } => {
                panic!("an orderer has no files of snapshots, yet {input:?} came")
            }
            Input::DiskSpace { room, free_bytes } => self.disk_space(room, free_bytes),
            Input::Backlog { .. } | Input::Timer | Input::WallClock(_) | Input::Command(()) => {}
        }
        // After the input: a heartbeat that has come must count before the time that passed without one.
        self.timer(now);
        // Else everything waits for the end of the turn, so that many inputs make one entry, one record.
        if self.consensus.is_full() {
            self.settle(now);
        }
    }

    fn poll_output(&mut self, now: Instant) -> Option<Output<OrderEvent>> {
        if self.fresh && !self.dismissed {
            self.fresh = false;
            self.settle(now);
        }
        self.out.pop_front()
    }

    fn sent(&mut self, now: Instant) {
        if let Some((since, cuts)) = self.cuts_sending.take() {
            self.stages.record(status::CUT_SEND, now.since(since), cuts);
        }
    }

    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        if self.dismissed {
            return None;
        }
        let tick = (self.ticker.next(), "raft tick");
        let cut = self.lead.as_ref().and_then(|l| l.cut_due).map(|due| (due, "cut"));
        let late = self.lead.as_ref().and_then(|l| l.late.due()).map(|due| (due, "cuts are held back"));
        let ready = self.lead.as_ref().filter(|l| l.ready);
        let consumers = ready.and_then(|l| l.consumers.due()).map(|due| (due, "consumers moved"));
        [cut, late, consumers, self.thrifty.deadline()].into_iter().flatten().chain([tick]).min()
    }

    fn checkpoint(&self) -> Bytes {
        self.consensus.checkpoint(self.applied, self.state.encode(), self.birth.identity.clone())
    }

    fn farewell(&mut self, now: Instant) -> bool {
        !self.dismissed && self.say_farewell(now)
    }
}
