//! How is a state machine run over a log? [`Replicated`]: proposals go into the log, what the log delivers is applied, and who
//! waits for a position is told.
//!
//! - `apply`: what the log delivers. `comparing`: are the nodes' states the same. `behind`: when another's snapshot is needed.
//!   `turn`: all else.

mod apply;
mod behind;
pub use behind::Loading;
mod comparing;
mod turn;

use super::config::ReplicatedConfig;
use super::event::{Figures, ReplicatedEvent};
use super::image::Restored;
use super::lookahead::Lookahead;
use super::machine::StateMachine;
use super::proposals::{ProposalId, Proposals, ProposeError};
use super::queries::{Consistency, Queries, QueryError, QueryId};
use super::record::Writing;
use super::snapshots::Snapshots;
use crate::bootstrap::Fetch;
use crate::{AppendError, RequestId, SealError, SharedLog};
use apply::End;
use behind::Behind;
use comparing::Comparing;
use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use zoolog_core::{ClusterId, Gsn, Input, Instant, Machine, Output};

/// A state machine over a log, as a [`Machine`] without commands: its owner embeds it, and calls its methods. After any call
/// drain [`Machine::poll_output`].
#[derive(Debug)]
pub struct Replicated<S: StateMachine, L> {
    cfg: ReplicatedConfig,
    writing: Writing,
    log: L,
    state: S,
    /// First position that is not applied.
    applied: Gsn,
    skips: BTreeSet<Gsn>,
    /// What is done before anything is applied.
    lookahead: Option<Lookahead>,
    proposals: Proposals,
    queries: Queries,
    snapshots: Snapshots,
    behind: Behind<S>,
    comparing: Comparing,
    /// Whose snapshots they are; 0 until known.
    cluster: ClusterId,
    /// The question for the tail at the start, then its answer.
    boot_tail: (Option<RequestId>, Option<Gsn>),
    ready: bool,
    failed: Option<String>,
    figures: Figures,
    outbox: VecDeque<Output<ReplicatedEvent<S::Outcome>>>,
}

impl<S: StateMachine, L: SharedLog> Replicated<S, L> {
    /// Goes on from `restored` over that log, which has neither a subscription nor pending appends. The log's consumer, if it
    /// has one, is this node: what it still needs is reported.
    pub fn new(cfg: ReplicatedConfig, mut log: L, restored: Restored<S>) -> Self {
        let Restored { state, at, newest, second_newest, skips, beware } = restored;
        let wanted: BTreeSet<Gsn> = cfg.skip.difference(&skips).copied().collect();
        let lookahead = (beware || !wanted.is_empty()).then(|| Lookahead::new(at, skips.clone(), &wanted));
        if lookahead.is_none() {
            log.subscribe(at);
        }
        let boot_tail = (Some(log.tail()), None);
        if let Some(gsn) = second_newest {
            log.release(gsn);
        }
        let every = (cfg.snapshot_records, cfg.snapshot_bytes);
        // As its log's consumer should be called.
        let name = format!("{}/{:016x}", cfg.name, cfg.node);
        let behind = Behind::new(Fetch::new(cfg.fetch.clone(), ClusterId(0), name));
        let mut this = Self {
            writing: Writing::new(&cfg.name, S::VERSION),
            cfg,
            log,
            state,
            applied: at,
            skips,
            lookahead,
            proposals: Proposals::default(),
            queries: Queries::default(),
            snapshots: Snapshots::new(every, newest, second_newest),
            behind,
            comparing: Comparing::default(),
            cluster: ClusterId(0),
            boot_tail,
            ready: false,
            failed: None,
            figures: Figures::default(),
            outbox: VecDeque::new(),
        };
        this.offer();
        this
    }

    /// The state as of [`applied`](Self::applied).
    pub const fn state(&self) -> &S {
        &self.state
    }

    /// First position that is not applied.
    pub const fn applied(&self) -> Gsn {
        self.applied
    }

    /// Hash of the state, equal on all nodes that have come to the same position.
    pub fn state_hash(&self) -> u64 {
        self.state.state_hash()
    }

    /// The log below.
    pub const fn log(&self) -> &L {
        &self.log
    }

    /// Whether it has applied all that was in the log when it began.
    pub const fn is_ready(&self) -> bool {
        self.ready
    }

    /// Why it has ended, if it has. Its state is then not to be used.
    pub fn failure(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// Proposals that have no outcome yet.
    pub fn proposals(&self) -> usize {
        self.proposals.len()
    }

    /// What it has counted.
    pub const fn figures(&self) -> Figures {
        self.figures
    }

    /// As whom it writes: for who wants to write commands down elsewhere, such as on another thread.
    pub const fn writing(&self) -> Writing {
        self.writing
    }

    /// Proposes a command: [`ReplicatedEvent::Outcome`] follows. Those of successive calls are applied in that order.
    ///
    /// # Errors
    /// It is not in the log.
    pub fn propose(&mut self, command: &S::Command) -> Result<ProposalId, ProposeError> {
        let record = self.writing.command(command)?;
        self.propose_record(&record)
    }

    /// The same of a command that [`Writing::command`] has written.
    ///
    /// # Errors
    /// It is not in the log.
    pub fn propose_record(&mut self, record: &[u8]) -> Result<ProposalId, ProposeError> {
        if let Some(why) = &self.failed {
            return Err(ProposeError::Closed(why.clone()));
        }
        if self.proposals.len() >= self.cfg.proposals_max || self.behind.is_on() {
            return Err(ProposeError::Busy);
        }
        match self.log.append(record) {
            Ok(place) => Ok(self.proposals.push(place)),
            Err(AppendError::DiskFull) => Err(ProposeError::DiskFull),
            Err(AppendError::TooLong { bytes, limit }) => Err(ProposeError::TooLong { bytes, limit }),
            Err(e) if e.is_retryable() => Err(ProposeError::Busy),
            Err(e) => Err(ProposeError::Closed(e.to_string())),
        }
    }

    /// Wants to read: [`ReplicatedEvent::Readable`] follows when [`state`](Self::state) shows what was asked for.
    ///
    /// # Errors
    /// It won't.
    pub fn query(&mut self, consistency: Consistency) -> Result<QueryId, QueryError> {
        if let Some(why) = &self.failed {
            return Err(QueryError::Closed(why.clone()));
        }
        if self.queries.len() >= self.cfg.queries_max {
            return Err(QueryError::Busy);
        }
        Ok(self.queries.push(consistency, self.ready))
    }

    /// Takes a snapshot as soon as can be, unless nothing was applied since the last.
    pub const fn snapshot(&mut self) {
        self.snapshots.want();
    }

    /// Ends the log below, for all its nodes and for good, so that it goes on in `successor`:
    /// [`ReplicatedEvent::SealDone`] follows. Over a [`ChainLog`](crate::ChainLog) this node goes on by itself.
    ///
    /// # Errors
    /// It can't be.
    pub fn seal_log(&mut self, successor: &str) -> Result<RequestId, SealError> {
        self.log.seal(successor)
    }

    fn event(&mut self, event: ReplicatedEvent<S::Outcome>) {
        self.outbox.push_back(Output::Event(event));
    }

    fn note(&mut self, text: String) {
        self.event(ReplicatedEvent::Note(text));
    }

    /// The node must not go on.
    fn fail(&mut self, why: String) {
        self.end(End { why, beware: None, distrust: None });
    }

    fn end(&mut self, End { why, beware, distrust }: End) {
        if self.failed.is_some() {
            return;
        }
        for proposal in self.proposals.drain().collect::<Vec<_>>() {
            let result = Err(ProposeError::Unknown(why.clone()));
            self.event(ReplicatedEvent::Outcome { proposal, result });
        }
        self.failed = Some(why.clone());
        self.event(ReplicatedEvent::Failed { why, beware, distrust });
    }
}

/// Whose some connections are.
type Owned<S> = Fetch<Loading<S>>;

impl<S: StateMachine, L: SharedLog> Machine for Replicated<S, L> {
    type Command = Infallible;
    type Event = ReplicatedEvent<S::Outcome>;

    fn handle(&mut self, now: Instant, input: Input<Infallible>) {
        match input {
            Input::SnapshotSaved { gsn, last, result } => self.on_saved(now, gsn, last, result),
            Input::Connected { conn } if Owned::<S>::owns(conn) => self.behind.fetch.connected(now, conn),
            Input::Frame { conn, bytes } if Owned::<S>::owns(conn) => {
                self.behind.fetch.frame(now, conn, bytes)
            }
            Input::Closed { conn } if Owned::<S>::owns(conn) => self.behind.fetch.closed(now, conn),
            Input::Backlog { conn, .. } if Owned::<S>::owns(conn) => {}
            Input::Timer => {
                self.behind.fetch.tick(now);
                self.log.handle(now, Input::Timer);
            }
            other => {
                self.log.handle(now, other.try_map(|never| match never {}).expect("there are no commands"))
            }
        }
    }

    fn poll_output(&mut self, now: Instant) -> Option<Output<ReplicatedEvent<S::Outcome>>> {
        loop {
            if let Some(output) = self.outbox.pop_front() {
                return Some(output);
            }
            if self.failed.is_none()
                && let Some(output) = self.fetch_step()
            {
                return Some(output);
            }
            // What it has told its owner meanwhile comes first.
            if !self.outbox.is_empty() {
                continue;
            }
            match self.log.poll_output(now) {
                Some(Output::Event(event)) if self.failed.is_some() => drop(event),
                Some(output) => match output.try_map(Err) {
                    Ok(output) => return Some(output),
                    Err(event) => self.on_log(now, event),
                },
                None if self.end_turn(now) => {}
                None => return None,
            }
        }
    }

    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        if self.failed.is_some() {
            return self.log.next_deadline();
        }
        let own =
            [(self.behind.fetch.next_deadline(), "another's snapshot"), (self.comparing.next(), "mark")];
        let own = own.into_iter().filter_map(|(at, why)| Some((at?, why)));
        own.chain(self.log.next_deadline()).min()
    }

    fn sent(&mut self, now: Instant) {
        self.log.sent(now);
    }

    fn farewell(&mut self, now: Instant) -> bool {
        self.log.farewell(now)
    }

    fn may_checkpoint(&self) -> bool {
        self.log.may_checkpoint()
    }

    fn checkpoint(&self) -> bytes::Bytes {
        self.log.checkpoint()
    }
}
