//! How does the log of a cluster go on in another cluster? [`ClusterLog`]: the client of the one until that is sealed, from there
//! on the client of the other, and so on, as one [`SharedLog`]. `relay` has what the two say.
//!
//! # Who is in charge
//! As in a [`ChainLog`](super::ChainLog): the entry that ends the order is the only step that counts. What was not ordered by
//! then is in no log: the client of the one finds out what that is, as when any shard ends, and the other begins with it: the same
//! batches, of the same numbers, in the same order, ahead of all else that is appended there.
//!
//! # What its owner sees
//! A pause, as there. The client of the log before stays until the owner has released all of that, and its orderers know: so it
//! is where who lags goes on, and those orderers can tell who still needs it. An owner that releases nothing keeps it. One
//! that starts anew begins with the last cluster that it was told of if it has kept the [`Way`](super::Way), and speaks to those before only
//! as long as they don't know that it needs them no more; else with the cluster that its settings name, and comes from there to the last.

use super::Successor;
use super::relay::Past;
use crate::log::Fetching;
use crate::{AppendError, ClientConfig, LogClient, LogCommand, LogEvent, Metrics, RequestId, SealError};
use crate::{Sealed, SharedLog};
use bytes::Bytes;
use std::collections::{BTreeSet, VecDeque};
use zoolog_core::rng::Rng;
use zoolog_core::{ConnId, Gsn, Input, Instant, Machine, Output, Seq, WriterId};

/// The log of a cluster, and of those that follow it.
#[derive(Debug)]
pub struct ClusterLog {
    /// Of all its clients, but for where their cluster is.
    pub(super) cfg: ClientConfig,
    /// What their seeds come from.
    pub(super) seeds: Rng,
    /// The newest: appends go there.
    pub(super) log: LogClient,
    /// Those before, as long as somebody may need them, oldest first.
    pub(super) past: Vec<Past>,
    /// Where the newest has ended, while the owner was not given all of it.
    pub(super) sealed: Option<Sealed>,
    /// The newest has ended, and what follows it is nothing that could be used from here.
    pub(super) stuck: bool,
    /// First position that the subscription was not given; `None` without one.
    pub(super) at: Option<Gsn>,
    /// Where the past log ends whose subscription that is; `None`: it is the newest's.
    pub(super) of_past: Option<Gsn>,
    /// Questions of the newest that wait for their answers, and that it alone can answer.
    pub(super) asked: BTreeSet<RequestId>,
    /// Questions for the tail that the log that follows is to answer.
    pub(super) tails: Vec<RequestId>,
    /// What others are offered.
    pub(super) offer: Option<(String, Gsn)>,
    /// First position that the owner still needs.
    pub(super) released: Gsn,
    /// The owner was told that it is ready.
    pub(super) ready: bool,
    /// It goes on in another cluster than it began in.
    pub(super) moved: bool,
    /// What stands still, as the owner was told.
    pub(super) stalled: BTreeSet<&'static str>,
    /// Appends go to another log since this turn: whoever was refused may try again.
    pub(super) opened: bool,
    pub(super) out: VecDeque<Output<LogEvent>>,
}

impl ClusterLog {
    /// The log of the cluster that the settings name, and of those that follow: it begins with the last that is known. Never use a seed
    /// twice in their life.
    ///
    /// # Panics
    /// If the settings name the writer: a name is one cluster's. Use a [`LogClient`].
    pub fn new(mut cfg: ClientConfig, seed: u64, now: Instant) -> Self {
        assert!(cfg.name.is_none(), "a named writer doesn't go on in another cluster by itself");
        let way = std::mem::take(&mut cfg.way);
        let mut log = Self {
            log: LogClient::new(cfg.clone(), seed, now),
            seeds: Rng::new(seed, "clusters that follow"),
            cfg,
            past: Vec::new(),
            sealed: None,
            stuck: false,
            at: None,
            of_past: None,
            asked: BTreeSet::new(),
            tails: Vec::new(),
            offer: None,
            released: Gsn(0),
            ready: false,
            moved: false,
            stalled: BTreeSet::new(),
            opened: false,
            out: VecDeque::new(),
        };
        way.into_iter().for_each(|passed| log.pass(passed, now));
        log
    }

    /// The client of the cluster that appends go to.
    pub const fn newest(&self) -> &LogClient {
        &self.log
    }

    /// The client of the cluster before, as long as it is kept.
    pub fn before(&self) -> Option<&LogClient> {
        self.past.last().map(|p| &p.log)
    }

    /// What has happened so far, in the newest cluster.
    pub fn metrics(&self) -> Metrics {
        self.log.metrics()
    }

    /// The order is known up to here; `None` before the first answer of a leader.
    pub fn known_tail(&self) -> Option<Gsn> {
        self.log.known_tail()
    }

    /// The past log, if what lies there is one's.
    pub(super) fn at_past(&mut self, gsn: Gsn) -> Option<&mut Past> {
        self.past.iter_mut().find(|p| gsn < p.tail)
    }

    /// Who appends while the log is exchanged is to try again.
    const fn pausing(&self, error: AppendError) -> AppendError {
        match error {
            AppendError::Sealed if !self.stuck => AppendError::Full,
            other => other,
        }
    }

    fn command(&mut self, now: Instant, command: LogCommand) {
        match command {
            LogCommand::Append { ref records } => {
                for (first, record) in records.iter().enumerate() {
                    if let Err(error) = self.append(record) {
                        return self.out.push_back(Output::Event(LogEvent::AppendFailed { first, error }));
                    }
                }
            }
            LogCommand::AppendIf { expected_tail, ref records } => {
                let records: Vec<&[u8]> = records.iter().map(|r| &r[..]).collect();
                if let Err(error) = self.append_if(expected_tail, &records) {
                    self.out.push_back(Output::Event(LogEvent::AppendFailed { first: 0, error }));
                }
            }
            LogCommand::Subscribe { from } => self.subscribe(from),
            LogCommand::Release { upto } => self.release(upto),
            LogCommand::Tail { .. } => self.log.handle(now, Input::Command(command)),
            LogCommand::Read { tag, from, .. } => self.ask(now, RequestId(tag), from, command),
            // All before it: who asks for what lies behind the past log means that as well, see `forget_past`.
            LogCommand::Trim { tag, gsn } => {
                self.ask(now, RequestId(tag), Gsn(gsn.0.saturating_sub(1)), command)
            }
        }
    }

    /// A question of the owner's own number, about that position.
    fn ask(&mut self, now: Instant, request: RequestId, about: Gsn, command: LogCommand) {
        let asked = self.at_past(about).map(|past| {
            past.asked.insert(request);
            past.log.handle(now, Input::Command(command.clone()));
        });
        if asked.is_none() {
            self.asked.insert(request);
            self.log.handle(now, Input::Command(command));
        }
    }

    fn of_conn(&mut self, conn: ConnId) -> &mut LogClient {
        let past = self.past.iter_mut().map(|p| &mut p.log).find(|log| log.owns(conn));
        past.unwrap_or(&mut self.log)
    }
}

impl SharedLog for ClusterLog {
    fn append(&mut self, record: &[u8]) -> Result<(Seq, u32), AppendError> {
        self.log.append(record).map_err(|e| self.pausing(e))
    }

    fn append_vital(&mut self, record: &[u8]) -> Result<(Seq, u32), AppendError> {
        self.log.append_vital(record).map_err(|e| self.pausing(e))
    }

    fn append_if(&mut self, expected_tail: Gsn, records: &[&[u8]]) -> Result<Seq, AppendError> {
        self.log.append_if(expected_tail, records).map_err(|e| self.pausing(e))
    }

    fn writer(&self) -> WriterId {
        self.log.writer()
    }

    fn pending_batches(&self) -> usize {
        self.log.pending_batches()
    }

    fn has_room(&self) -> bool {
        self.log.has_room()
    }

    fn subscribe(&mut self, from: Gsn) {
        self.at = Some(from);
        self.of_past = self.at_past(from).map(|past| {
            past.log.subscribe(from);
            past.tail
        });
        if self.of_past.is_none() {
            self.log.subscribe(from);
        }
    }

    fn read(&mut self, from: Gsn, to: Gsn, max_bytes: usize) -> RequestId {
        if let Some(past) = self.at_past(from) {
            let request = past.log.read(from, to, max_bytes);
            past.asked.insert(request);
            return request;
        }
        let request = self.log.read(from, to, max_bytes);
        self.asked.insert(request);
        request
    }

    fn tail(&mut self) -> RequestId {
        self.log.tail()
    }

    fn want(&mut self, upto: Gsn) {
        self.past.iter_mut().for_each(|past| past.log.want(upto.min(past.tail)));
        self.log.want(upto);
    }

    fn refresh(&mut self) {
        self.log.refresh();
    }

    fn fetching(&self) -> Fetching {
        self.log.fetching()
    }

    fn trim(&mut self, gsn: Gsn) -> RequestId {
        if let Some(past) = self.at_past(Gsn(gsn.0.saturating_sub(1))) {
            let request = past.log.trim(gsn);
            past.asked.insert(request);
            return request;
        }
        let request = self.log.trim(gsn);
        self.asked.insert(request);
        request
    }

    fn release(&mut self, upto: Gsn) {
        self.released = self.released.max(upto);
        self.past.iter_mut().for_each(|past| past.log.release(upto.min(past.tail)));
        self.log.release(upto);
    }

    fn gives_offers(&self) -> bool {
        self.log.gives_offers()
    }

    fn offer(&mut self, addr: &str, gsn: Gsn) {
        // Who lags may still be in the past.
        self.past.iter_mut().for_each(|past| past.log.offer(addr, gsn));
        self.log.offer(addr, gsn);
        self.offer = Some((addr.into(), gsn));
    }

    fn find_offers(&mut self) -> Option<RequestId> {
        self.log.find_offers()
    }

    fn base_gsn(&self) -> Gsn {
        self.cfg.succeeds.unwrap_or_default()
    }

    /// Of the newest log: never for the cluster in which that is.
    fn seal(&mut self, successor: &str) -> Result<RequestId, SealError> {
        let named = successor.parse::<Successor>().ok().map(|s| s.generation);
        if self.moved && named.is_some_and(|named| self.log.cluster().1.is_some_and(|ours| named <= ours)) {
            return Err(SealError::Passed);
        }
        self.log.seal(successor)
    }
}

impl Machine for ClusterLog {
    type Command = LogCommand;
    type Event = LogEvent;

    fn handle(&mut self, now: Instant, input: Input<LogCommand>) {
        self.opened = false;
        match input {
            Input::Command(command) => self.command(now, command),
            Input::Connected { conn } | Input::Frame { conn, .. } | Input::Closed { conn } => {
                self.of_conn(conn).handle(now, input);
            }
            Input::Timer => {
                self.past.iter_mut().for_each(|past| past.log.handle(now, Input::Timer));
                self.log.handle(now, input);
            }
            other => self.log.handle(now, other),
        }
    }

    fn poll_output(&mut self, now: Instant) -> Option<Output<LogEvent>> {
        loop {
            if let Some(output) = self.out.pop_front() {
                return Some(output);
            }
            let mut past = self.past.iter_mut().enumerate();
            let said = past.find_map(|(i, past)| Some((i, past.log.poll_output(now)?)));
            match said.map(|(i, output)| output.try_map(|event| Err((i, event)))) {
                Some(Ok(output)) => return Some(output),
                Some(Err((i, event))) => {
                    if let Some(event) = self.past_says(i, event) {
                        return Some(Output::Event(event));
                    }
                    continue;
                }
                None => {}
            }
            match self.log.poll_output(now).map(|output| output.try_map(Err)) {
                Some(Ok(output)) => return Some(output),
                Some(Err(event)) => {
                    if let Some(event) = self.newest_says(event) {
                        return Some(Output::Event(event));
                    }
                }
                None if self.go_on(now) => {}
                None => return None,
            }
        }
    }

    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        if self.opened {
            return Some((Instant(0), "the log that follows takes appends"));
        }
        let past = self.past.iter().filter_map(|p| p.log.next_deadline());
        past.chain(self.log.next_deadline()).min()
    }

    fn sent(&mut self, now: Instant) {
        self.past.iter_mut().for_each(|past| past.log.sent(now));
        self.log.sent(now);
    }

    fn farewell(&mut self, now: Instant) -> bool {
        self.log.farewell(now)
    }

    fn checkpoint(&self) -> Bytes {
        self.log.checkpoint()
    }
}
