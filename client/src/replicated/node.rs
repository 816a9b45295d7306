//! How is a state machine run over a log? [`Replicated`]: proposals go into the log, what the log delivers is applied, and who
//! waits for a position is told.

use super::image::{Restored, SKIPS_MAX, Taking};
use super::lookahead::{Lookahead, Next};
use super::machine::StateMachine;
use super::proposals::{ProposalId, Proposals, ProposeError};
use super::queries::{Consistency, Queries, QueryError, QueryId};
use super::record::{Entry, Writing};
use super::snapshots::{Saved, Snapshots};
use crate::{AppendError, Committed, LogEvent, RequestId, SharedLog};
use rkyv::Archived;
use std::any::Any;
use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use zoolog_core::{ClusterId, Gsn, Input, Instant, Machine, Output};

/// The first so many rejected commands are named; later ones whenever their number has doubled.
const NAMED: u64 = 16;

/// Settings of a [`Replicated`].
#[derive(Clone, Debug)]
pub struct ReplicatedConfig {
    /// Of the structure, the same on all nodes: records of others in the same log are passed over.
    pub name: String,
    /// A snapshot is taken after so many records; 0: not for that reason. Default 100,000.
    pub snapshot_records: u64,
    /// Or after so many bytes of records; 0: not for that reason. Default 64 MiB. Never before as many were applied as the
    /// last snapshot had.
    pub snapshot_bytes: u64,
    /// Proposals that may wait for their outcome; whoever proposes one more is told [`ProposeError::Busy`], as when the log
    /// takes no more. Default 65,536.
    pub proposals_max: usize,
    /// Reads that may wait; beyond it [`QueryError::Busy`]. Default 65,536.
    pub queries_max: usize,
    /// Commands that an operator wants skipped, since applying them panics: unless the log says so already, an entry that
    /// does is written before anything is applied. Needed on one node, once; all others find the entry when they meet
    /// the command. Default none.
    pub skip: BTreeSet<Gsn>,
}

impl ReplicatedConfig {
    /// The defaults, for the structure of that name.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_string(),
            snapshot_records: 100_000,
            snapshot_bytes: 64 << 20,
            proposals_max: 1 << 16,
            queries_max: 1 << 16,
            skip: BTreeSet::new(),
        }
    }
}

/// A command that was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied<O> {
    /// Its position in the log, the same for everybody.
    pub gsn: Gsn,
    /// What it came to.
    pub outcome: O,
}

/// What a [`Replicated`] tells its owner.
#[derive(Debug)]
pub enum ReplicatedEvent<O> {
    /// It has applied all that was in the log when it began; comes once.
    Ready,
    /// What became of a proposal: once for each, in their order.
    Outcome {
        /// Which.
        proposal: ProposalId,
        /// What it came to; or what became of it.
        result: Result<Applied<O>, ProposeError>,
    },
    /// [`Replicated::state`] now shows what this read asked for: once for each, if the node doesn't end before.
    Readable {
        /// Which.
        query: QueryId,
    },
    /// A snapshot is complete.
    Snapshot {
        /// First position that it doesn't hold.
        gsn: Gsn,
    },
    /// The log is this cluster's; comes once.
    Cluster {
        /// Which.
        id: ClusterId,
    },
    /// The orderers are these from now on: worth remembering for the next start.
    Orderers {
        /// `host:port` of each.
        addrs: Vec<String>,
    },
    /// For the log of the program.
    Note(String),
    /// It has ended, and takes nothing more. What it had proposed was told before.
    Failed {
        /// Why, where, and what to do.
        why: String,
        /// The command that it could not do, or should not have done. Who starts again from a state that has this, or none of
        /// what lies behind it, says [`Restored::beware`].
        beware: Option<Gsn>,
    },
}

/// What a node counts, since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Commands applied.
    pub applied: u64,
    /// Commands that can't be decoded.
    pub rejected: u64,
    /// Commands passed over because an operator said so.
    pub skipped: u64,
    /// Records of others.
    pub foreign: u64,
}

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
        Self {
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
            cluster: ClusterId(0),
            boot_tail,
            ready: false,
            failed: None,
            figures: Figures::default(),
            outbox: VecDeque::new(),
        }
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
        if self.proposals.len() >= self.cfg.proposals_max {
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

    fn event(&mut self, event: ReplicatedEvent<S::Outcome>) {
        self.outbox.push_back(Output::Event(event));
    }

    fn note(&mut self, text: String) {
        self.event(ReplicatedEvent::Note(text));
    }

    /// The node must not go on.
    fn fail(&mut self, why: String) {
        self.fail_at(why, None);
    }

    fn fail_at(&mut self, why: String, beware: Option<Gsn>) {
        if self.failed.is_some() {
            return;
        }
        for proposal in self.proposals.drain().collect::<Vec<_>>() {
            let result = Err(ProposeError::Unknown(why.clone()));
            self.event(ReplicatedEvent::Outcome { proposal, result });
        }
        self.failed = Some(why.clone());
        self.event(ReplicatedEvent::Failed { why, beware });
    }

    fn on_log(&mut self, now: Instant, event: LogEvent) {
        match event {
            LogEvent::Committed(committed) => self.on_committed(now, &committed),
            LogEvent::Tail { request, gsn } => {
                if self.boot_tail.0 == Some(request) {
                    self.boot_tail = (None, Some(gsn));
                    if let Some(lookahead) = &mut self.lookahead {
                        lookahead.ends_at(gsn);
                    }
                }
                self.queries.answered(request, gsn);
            }
            LogEvent::Gap { from, until } => self.fail(format!(
                "the log from {from} to {until} was trimmed before this node applied it: copy the newest \
                 snapshot of another node here and start again"
            )),
            LogEvent::WriterLost { why, .. } => {
                self.fail(format!("the log takes nothing more from this node: {why}; start it again"));
            }
            LogEvent::Ready { cluster, .. } => {
                self.cluster = cluster;
                self.event(ReplicatedEvent::Cluster { id: cluster });
            }
            LogEvent::Orderers { addrs } => self.event(ReplicatedEvent::Orderers { addrs }),
            LogEvent::Stalled { what } => self.note(format!("the log stands still: {what}")),
            LogEvent::Resumed { what } => self.note(format!("the log moves again: {what}")),
            LogEvent::Appended { seq, .. } => {
                if let Some(lookahead) = &mut self.lookahead {
                    lookahead.appended(seq);
                }
            }
            LogEvent::ReadDone { request, batches, covers, end } => {
                let writing = self.writing;
                let read = self.lookahead.as_mut().map(|l| l.read(request, &batches, (covers, end), writing));
                if let Some(Err(why)) = read {
                    self.fail(why);
                }
            }
            // These say nothing, or answer what was never asked.
            LogEvent::Conflict { .. }
            | LogEvent::Opened { .. }
            | LogEvent::AppendFailed { .. }
            | LogEvent::TrimDone { .. }
            | LogEvent::Room { .. }
            | LogEvent::Progress { .. } => {}
        }
    }

    /// The next batch of the log: it is applied.
    fn on_committed(&mut self, now: Instant, committed: &Committed) {
        assert_eq!(committed.from(), self.applied, "the log delivers densely");
        let seq = committed.placed.batch.seq();
        for (gsn, index, record) in committed.records() {
            let own = committed.own.then(|| self.proposals.take(seq, index)).flatten();
            let (result, end) = match self.on_record(gsn, &record) {
                Ok(result) => (result.map(|outcome| Applied { gsn, outcome }), None),
                Err(end) => (Err(ProposeError::Unknown(end.0.clone())), Some(end)),
            };
            if let Some(proposal) = own {
                self.event(ReplicatedEvent::Outcome { proposal, result });
            }
            if let Some((why, beware)) = end {
                return self.fail_at(why, beware);
            }
            self.applied = gsn.next();
            self.snapshots.applied(record.len());
        }
        // Of a fence, or of what was to lie elsewhere, there is only the place.
        self.applied = committed.end();
        self.snapshot_if_due(now);
    }

    /// Applies a record.
    ///
    /// # Errors
    /// Why the node must not go on, and the command that is to blame, if one is.
    fn on_record(&mut self, gsn: Gsn, record: &[u8]) -> Result<Result<S::Outcome, ProposeError>, End> {
        match Entry::read(record, self.writing) {
            Entry::Foreign => {
                self.figures.foreign += 1;
                Ok(Err(ProposeError::Rejected { gsn, why: "it is of another structure".into() }))
            }
            Entry::Command(_) if self.skips.contains(&gsn) => {
                self.figures.skipped += 1;
                self.note(format!("the command at {gsn} is passed over, as an entry behind it says"));
                Ok(Err(ProposeError::Skipped { gsn }))
            }
            Entry::Command(archive) => {
                match rkyv::access::<Archived<S::Command>, rkyv::rancor::Error>(archive) {
                    Ok(command) => self.apply(gsn, command).map(Ok).map_err(|why| (why, Some(gsn))),
                    Err(why) => Ok(Err(self.reject(gsn, why.to_string()))),
                }
            }
            Entry::Skip(skipped) if skipped >= gsn => {
                Ok(Err(self.reject(gsn, format!("it would have {skipped} skipped, which lies behind it"))))
            }
            Entry::Skip(skipped) if self.skips.contains(&skipped) => Ok(Err(ProposeError::Skipped { gsn })),
            Entry::Skip(skipped) => Err((
                format!(
                    "the command at {skipped} was to be skipped, as the entry at {gsn} says, and this node has \
                     applied it: start it again, from a snapshot that is not newer than {skipped}"
                ),
                Some(skipped),
            )),
            Entry::Malformed(why) => Ok(Err(self.reject(gsn, why.to_string()))),
            Entry::Newer { found: (format, version, kind) } => Err((
                format!(
                    "the command at {gsn} is of format {format}, version {version}, kind {kind}: a newer build wrote \
                     it, and this one can't do what that does. Bring this node up to that build"
                ),
                None,
            )),
        }
    }

    fn apply(&mut self, gsn: Gsn, command: &Archived<S::Command>) -> Result<S::Outcome, String> {
        self.figures.applied += 1;
        let state = &mut self.state;
        // What it leaves behind when it panics is not looked at again: the node ends.
        catch_unwind(AssertUnwindSafe(|| state.apply(gsn, command))).map_err(|panic| {
            format!(
                "the state machine `{}` panicked on the command at {gsn}: {}. It would do so again: start a build \
                 that doesn't, or have {gsn} skipped",
                self.cfg.name,
                said(&*panic)
            )
        })
    }

    /// A command that nobody can decode, alike on all nodes.
    fn reject(&mut self, gsn: Gsn, why: String) -> ProposeError {
        self.figures.rejected += 1;
        let n = self.figures.rejected;
        if n <= NAMED || n.is_power_of_two() {
            self.note(format!("the command at {gsn} is rejected, on every node: {why} (number {n} so far)"));
        }
        ProposeError::Rejected { gsn, why }
    }

    /// Begins a snapshot of the state as it is, if it is time for one. Not before it is known whose it is: the log may
    /// deliver before it says so.
    fn snapshot_if_due(&mut self, now: Instant) {
        if self.cluster == ClusterId(0) || !self.snapshots.is_due(now, self.applied) {
            return;
        }
        // Of skips that lie far behind, the entries that say so do too.
        while self.skips.len() > SKIPS_MAX {
            self.skips.pop_first();
        }
        let taking = Taking::begin(&self.state, self.applied, &self.skips, self.cluster, self.writing);
        self.snapshots.begin(taking);
        self.save_piece();
    }

    fn save_piece(&mut self) {
        let (gsn, bytes, last) = self.snapshots.next();
        self.outbox.push_back(Output::SaveSnapshot { gsn, bytes: bytes.into(), last });
    }

    fn on_saved(&mut self, now: Instant, gsn: Gsn, last: bool, result: Result<(), String>) {
        if self.failed.is_some() {
            return;
        }
        match self.snapshots.saved(now, gsn, last, &result) {
            Saved::Goes => self.save_piece(),
            Saved::Complete(needed) => {
                if let Some(needed) = needed {
                    self.log.release(needed);
                }
                self.event(ReplicatedEvent::Snapshot { gsn });
            }
            Saved::Failed => {
                let why = result.err().unwrap_or_default();
                self.note(format!("no snapshot was taken at {gsn}: {why}; the log stays as long as needed"));
            }
        }
    }

    /// Gets on with the search for skips. Returns whether the log was given something.
    fn look_ahead(&mut self) -> bool {
        let Some(lookahead) = &mut self.lookahead else { return false };
        match lookahead.next() {
            Next::Wait => return false,
            Next::Read(from, to, bytes) => lookahead.asked(self.log.read(from, to, bytes)),
            Next::Write(gsn) => match self.log.append_vital(&self.writing.skip(gsn)) {
                Ok(place) => {
                    lookahead.wrote(gsn, place.0);
                    self.proposals.push_own(place);
                }
                // Tried again at the end of the next turn.
                Err(e) if e.is_retryable() => return false,
                Err(e) => self.fail(format!("the skip of {gsn} could not be written: {e}")),
            },
            Next::Done => {
                self.skips = self.lookahead.take().expect("it is there").found;
                self.log.subscribe(self.applied);
            }
        }
        true
    }

    /// What can be done only when the turn's inputs are in. Returns whether there is more to carry out.
    fn end_turn(&mut self, now: Instant) -> bool {
        if self.failed.is_some() {
            return false;
        }
        let looked = self.look_ahead();
        if !self.ready && self.boot_tail.1.is_some_and(|tail| tail <= self.applied) {
            self.ready = true;
            self.queries.ready();
            self.event(ReplicatedEvent::Ready);
        }
        while let Some(query) = self.queries.pop(self.applied) {
            self.event(ReplicatedEvent::Readable { query });
        }
        // One that is wanted before anything follows, or whose time comes after a failure.
        self.snapshot_if_due(now);
        let asks = self.queries.should_ask();
        if asks {
            self.queries.asked(self.log.tail());
        }
        looked || asks || !self.outbox.is_empty()
    }
}

/// Why a node must not go on, and the command that is to blame.
type End = (String, Option<Gsn>);

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("it didn't say why")
}

impl<S: StateMachine, L: SharedLog> Machine for Replicated<S, L> {
    type Command = Infallible;
    type Event = ReplicatedEvent<S::Outcome>;

    fn handle(&mut self, now: Instant, input: Input<Infallible>) {
        match input {
            Input::SnapshotSaved { gsn, last, result } => self.on_saved(now, gsn, last, result),
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
        self.log.next_deadline()
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
