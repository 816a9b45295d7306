//! How does a log go on in another, underneath whoever uses it? [`ChainLog`]: an embedded log until it is sealed, from there
//! on the log that follows, as one [`SharedLog`].
//!
//! - here: which of the two each call and event concerns. `logs`: what the two say.
//! - `cluster`: a log that goes on from one cluster to the next, and `relay`: what those say. `successor`: how the next is named;
//!   `way`: which were passed, for the next start.
//! - `control` (feature `rt`): how somebody else has the log sealed while it is in use.
//!
//! # Who is in charge
//! The seal of the first log is the only step that counts, and the only one that can't be undone: before it is durable the
//! first log is in charge, from then on the second. All that comes after it can be done again by anybody, as often as he likes:
//! the second log is told where it begins before it is asked anything (which changes nothing the second time), and takes nothing
//! before.
//!
//! # What its owner sees
//! A pause. Appends are refused with [`AppendError::Full`] from the seal until the owner has been given all of the first log and
//! of his own appends in it; then [`LogEvent::Moved`] comes, and appends go to the second log, as another writer. None is sent
//! again: a seal takes all that was appended before it into the first log. The subscription goes on without a gap; positions
//! before the seal are read from the first log, as long as that is there.

mod cluster;
#[cfg(feature = "rt")]
mod control;
mod logs;
mod relay;
mod successor;
mod way;

pub use cluster::ClusterLog;
#[cfg(feature = "rt")]
pub use control::{Control, control_seal};
pub use successor::Successor;
pub use way::{Passed, Way};

use crate::log::Fetching;
use crate::{AppendError, LogCommand, LogEvent, RequestId, SealError, Sealed, SharedLog};
use bytes::Bytes;
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use zoolog_core::{Gsn, Input, Instant, Machine, Output, Seq, WriterId};

/// Makes the log that goes on where one has ended. Its writer's batches are numbered from there on: no number comes twice.
pub type Follow<B> = Box<dyn FnMut(Instant, &Sealed, Seq) -> B>;

/// The second log.
#[derive(Debug)]
struct Next<B> {
    log: B,
    /// Where the first one ended.
    sealed: Sealed,
    /// Whether appends go there.
    takes: bool,
}

/// A log that goes on in another once it is sealed. Of the first log no input may concern connections, of the second none the
/// disk; so the two don't get in each other's way.
pub struct ChainLog<A, B> {
    first: A,
    follow: Follow<B>,
    next: Option<Next<B>>,
    /// First position that the subscription was not given; `None` without one.
    at: Option<Gsn>,
    /// Behind the greatest number of a batch in the first log.
    next_seq: Seq,
    /// Whether that subscription is the first log's.
    of_first: bool,
    /// First position that the owner still needs, if he ever said so.
    released: Option<Gsn>,
    /// Questions to the first log whose answers concern nobody.
    hidden: BTreeSet<RequestId>,
    /// The first log was asked something since it was last drained.
    touched: bool,
    /// Appends go to the second log since this turn: whoever was refused may try again.
    opened: bool,
    out: VecDeque<Output<LogEvent>>,
    #[cfg(feature = "rt")]
    control: Option<Control>,
}

impl<A: fmt::Debug, B: fmt::Debug> fmt::Debug for ChainLog<A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, next, at, of_first, .. } = self;
        let mut s = f.debug_struct("ChainLog");
        s.field("first", first).field("next", next).field("at", at).field("of_first", of_first);
        s.finish_non_exhaustive()
    }
}

impl<A: SharedLog, B: SharedLog> ChainLog<A, B> {
    /// On that log, which has neither a subscription nor pending appends, and has ended there, if it has. `follow` makes what
    /// follows it, at most once.
    pub fn new(first: A, ended: Option<Sealed>, follow: Follow<B>, now: Instant) -> Self {
        let mut chain = Self {
            first,
            follow,
            next: None,
            at: None,
            next_seq: Seq(0),
            of_first: false,
            released: None,
            hidden: BTreeSet::new(),
            touched: true,
            opened: false,
            out: VecDeque::new(),
            #[cfg(feature = "rt")]
            control: None,
        };
        if let Some(sealed) = ended {
            chain.follow(now, sealed);
        }
        chain
    }

    /// The same; whoever reaches `control` may have the log sealed.
    #[cfg(feature = "rt")]
    #[must_use]
    pub fn controlled(mut self, control: Control) -> Self {
        self.control = Some(control);
        self
    }

    /// The first log.
    pub const fn first(&self) -> &A {
        &self.first
    }

    /// The second log, and where it begins, once the first is sealed.
    pub fn second(&self) -> Option<(&B, Gsn)> {
        self.next.as_ref().map(|n| (&n.log, n.sealed.tail))
    }

    /// Whether appends go to the second log.
    pub fn has_moved(&self) -> bool {
        self.taking().is_some()
    }

    fn taking(&self) -> Option<&Next<B>> {
        self.next.as_ref().filter(|n| n.takes)
    }

    fn taking_mut(&mut self) -> Option<&mut B> {
        self.next.as_mut().filter(|n| n.takes).map(|n| &mut n.log)
    }

    fn has_numbered(&mut self, seq: Seq) {
        self.next_seq = self.next_seq.max(seq.next());
    }

    /// The second log, if what lies there is its.
    fn at_second(&mut self, gsn: Gsn) -> Option<&mut B> {
        self.next.as_mut().filter(|n| n.sealed.tail <= gsn).map(|n| &mut n.log)
    }

    fn command(&mut self, now: Instant, command: LogCommand) {
        let concerned = match &command {
            LogCommand::Append { .. } | LogCommand::AppendIf { .. } if self.next.is_some() => {
                let Some(log) = self.taking_mut() else {
                    let refused = LogEvent::AppendFailed { first: 0, error: AppendError::Full };
                    return self.out.push_back(Output::Event(refused));
                };
                Some(log)
            }
            LogCommand::Append { .. } | LogCommand::AppendIf { .. } => None,
            LogCommand::Subscribe { from } => return self.subscribe(*from),
            LogCommand::Release { upto } => return self.release(*upto),
            LogCommand::Read { from, .. } => self.at_second(*from),
            LogCommand::Trim { gsn, .. } => self.second_if_beyond(*gsn),
            LogCommand::Tail { .. } => self.next.as_mut().map(|n| &mut n.log),
        };
        if let Some(log) = concerned {
            return log.handle(now, Input::Command(command));
        }
        self.touched = true;
        self.first.handle(now, Input::Command(command));
    }

    /// The second log, if something of it would be trimmed.
    fn second_if_beyond(&mut self, gsn: Gsn) -> Option<&mut B> {
        self.next.as_mut().filter(|n| n.sealed.tail < gsn).map(|n| &mut n.log)
    }
}

/// Bit of the numbers that methods give out, which tells the second log's from the first's.
const SECOND: u64 = 1 << 62;
/// Bit of all of them, see [`RequestId`].
const METHOD_REQUEST: u64 = 1 << 63;

/// What the second log calls so, and the other way round. The owner's own numbers stay.
const fn renamed(request: RequestId) -> RequestId {
    if request.0 & METHOD_REQUEST == 0 { request } else { RequestId(request.0 ^ SECOND) }
}

impl<A: SharedLog, B: SharedLog> SharedLog for ChainLog<A, B> {
    fn append(&mut self, record: &[u8]) -> Result<(Seq, u32), AppendError> {
        if let Some(log) = self.taking_mut() {
            return log.append(record);
        }
        self.touched = true;
        let taken = self.first.append(record).map_err(pausing)?;
        self.has_numbered(taken.0);
        Ok(taken)
    }

    fn append_vital(&mut self, record: &[u8]) -> Result<(Seq, u32), AppendError> {
        if let Some(log) = self.taking_mut() {
            return log.append_vital(record);
        }
        self.touched = true;
        let taken = self.first.append_vital(record).map_err(pausing)?;
        self.has_numbered(taken.0);
        Ok(taken)
    }

    fn append_if(&mut self, expected_tail: Gsn, records: &[&[u8]]) -> Result<Seq, AppendError> {
        if let Some(log) = self.taking_mut() {
            return log.append_if(expected_tail, records);
        }
        self.touched = true;
        let taken = self.first.append_if(expected_tail, records).map_err(pausing)?;
        self.has_numbered(taken);
        Ok(taken)
    }

    fn writer(&self) -> WriterId {
        self.taking().map_or_else(|| self.first.writer(), |n| n.log.writer())
    }

    fn pending_batches(&self) -> usize {
        self.first.pending_batches() + self.next.as_ref().map_or(0, |n| n.log.pending_batches())
    }

    fn has_room(&self) -> bool {
        self.taking().map_or_else(|| self.first.has_room(), |n| n.log.has_room())
    }

    fn subscribe(&mut self, from: Gsn) {
        self.at = Some(from);
        self.of_first = self.next.as_ref().is_none_or(|n| from < n.sealed.tail);
        if self.of_first {
            self.touched = true;
            self.first.subscribe(from);
        } else if let Some(log) = self.at_second(from) {
            log.subscribe(from);
        }
    }

    fn read(&mut self, from: Gsn, to: Gsn, max_bytes: usize) -> RequestId {
        if let Some(log) = self.at_second(from) {
            return renamed(log.read(from, to, max_bytes));
        }
        self.touched = true;
        self.first.read(from, to, max_bytes)
    }

    fn tail(&mut self) -> RequestId {
        if let Some(next) = &mut self.next {
            return renamed(next.log.tail());
        }
        self.touched = true;
        self.first.tail()
    }

    fn want(&mut self, upto: Gsn) {
        if let Some(log) = self.taking_mut() {
            log.want(upto);
        }
    }

    fn refresh(&mut self) {
        if let Some(log) = self.taking_mut() {
            log.refresh();
        }
    }

    fn fetching(&self) -> Fetching {
        self.taking().map_or_else(|| self.first.fetching(), |n| n.log.fetching())
    }

    fn trim(&mut self, gsn: Gsn) -> RequestId {
        if let Some(log) = self.second_if_beyond(gsn) {
            return renamed(log.trim(gsn));
        }
        self.touched = true;
        self.first.trim(gsn)
    }

    fn release(&mut self, upto: Gsn) {
        self.released = self.released.max(Some(upto));
        self.touched = true;
        self.first.release(upto);
        if let Some(next) = &mut self.next {
            next.log.release(upto);
        }
    }

    fn gives_offers(&self) -> bool {
        self.next.as_ref().is_some_and(|n| n.log.gives_offers())
    }

    fn offer(&mut self, addr: &str, gsn: Gsn) {
        // The first log has nobody to tell.
        if let Some(next) = &mut self.next {
            next.log.offer(addr, gsn);
        }
    }

    fn find_offers(&mut self) -> Option<RequestId> {
        self.next.as_mut().and_then(|n| n.log.find_offers()).map(renamed)
    }

    fn base_gsn(&self) -> Gsn {
        self.first.base_gsn()
    }

    /// Of a log that has ended it is the second log that may be sealed, if that can be.
    fn seal(&mut self, successor: &str) -> Result<RequestId, SealError> {
        self.touched = true;
        self.first.seal(successor)
    }
}

/// Who appends while the log is exchanged is to try again.
const fn pausing(error: AppendError) -> AppendError {
    match error {
        AppendError::Sealed => AppendError::Full,
        other => other,
    }
}

impl<A: SharedLog, B: SharedLog> Machine for ChainLog<A, B> {
    type Command = LogCommand;
    type Event = LogEvent;

    fn handle(&mut self, now: Instant, input: Input<LogCommand>) {
        self.opened = false;
        match input {
            Input::Command(command) => self.command(now, command),
            Input::Timer | Input::WallClock(_) => {
                if let Some(next) = &mut self.next {
                    next.log.handle(now, same(&input));
                }
                self.first.handle(now, input);
            }
            Input::Accepted { .. }
            | Input::Connected { .. }
            | Input::Frame { .. }
            | Input::Closed { .. }
            | Input::Backlog { .. } => {
                // The first log has none; so there are some only once there is a second.
                if let Some(next) = &mut self.next {
                    next.log.handle(now, input);
                }
            }
            Input::Persisted { .. }
            | Input::Loaded { .. }
            | Input::SegmentRead { .. }
            | Input::DiskSpace { .. }
            | Input::SnapshotSaved { .. }
            | Input::SnapshotFound { .. }
            | Input::SnapshotRead { .. } => self.first.handle(now, input),
        }
    }

    fn poll_output(&mut self, now: Instant) -> Option<Output<LogEvent>> {
        loop {
            self.hear_control();
            if let Some(output) = self.out.pop_front() {
                return Some(output);
            }
            self.touched = false;
            match self.first.poll_output(now).map(|output| output.try_map(Err)) {
                Some(Ok(output)) => return Some(output),
                Some(Err(event)) => {
                    if let Some(event) = self.first_says(now, event) {
                        return Some(Output::Event(event));
                    }
                    continue;
                }
                None => {}
            }
            if self.hand_over() {
                continue;
            }
            let next = self.next.as_mut()?;
            match next.log.poll_output(now).map(|output| output.try_map(Err)) {
                Some(Ok(output)) => return Some(output),
                Some(Err(event)) => {
                    if let Some(event) = self.second_says(event) {
                        return Some(Output::Event(event));
                    }
                }
                None if self.touched || !self.out.is_empty() => {}
                None => return None,
            }
        }
    }

    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        if self.opened {
            return Some((Instant(0), "the log that follows takes appends"));
        }
        if self.is_called() {
            return Some((Instant(0), "somebody wants the log sealed"));
        }
        let second = self.next.as_ref().and_then(|n| n.log.next_deadline());
        self.first.next_deadline().into_iter().chain(second).min()
    }

    fn sent(&mut self, now: Instant) {
        self.first.sent(now);
        if let Some(next) = &mut self.next {
            next.log.sent(now);
        }
    }

    fn farewell(&mut self, now: Instant) -> bool {
        let first = self.first.farewell(now);
        self.next.as_mut().is_some_and(|n| n.log.farewell(now)) || first
    }

    fn may_checkpoint(&self) -> bool {
        self.first.may_checkpoint()
    }

    fn checkpoint(&self) -> Bytes {
        self.first.checkpoint()
    }
}

/// One of the inputs that concern everybody, once more.
fn same(input: &Input<LogCommand>) -> Input<LogCommand> {
    match input {
        Input::WallClock(ms) => Input::WallClock(*ms),
        _ => Input::Timer,
    }
}
