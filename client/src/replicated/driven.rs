//! How does a node hear what its handles want? Its machine, with their queues: looked into at the beginning of a turn, and when
//! something has made room.

use super::event::ReplicatedEvent;
use super::handle::{Asking, Proposing, QUEUE_MAX, Reading, Reply, Shared, view};
use super::machine::StateMachine;
use super::node::Replicated;
use super::proposals::{ProposalId, ProposeError};
use super::queries::{QueryError, QueryId};
use crate::{Sealed, SharedLog};
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use zoolog_core::{ClusterId, Gsn, Input, Instant, Machine, Output};

/// What is of interest to the program besides answers.
#[derive(Debug)]
pub(super) enum News {
    Cluster(ClusterId),
    Orderers(Vec<String>),
    Moved(Sealed),
    Left(Gsn),
    Ready,
    Snapshot(Gsn),
    Note(String),
    /// Why, and what to beware of at the next start: a command, and snapshots newer than a position.
    Failed(String, Option<Gsn>, Option<Gsn>),
}

/// A node that is driven by handles.
pub(super) struct Driven<S: StateMachine, L: SharedLog> {
    node: Replicated<S, L>,
    shared: Arc<Shared>,
    proposals: Receiver<Proposing<S::Outcome>>,
    asks: Receiver<Asking<S>>,
    /// The proposal that the log has no room for yet; others wait behind it.
    held: Option<Proposing<S::Outcome>>,
    replies: VecDeque<(ProposalId, Reply<S::Outcome>)>,
    reading: BTreeMap<QueryId, Reading<S>>,
    /// Something happened since the queues were looked into.
    stirred: bool,
    /// It takes nothing more, and waits for the outcomes of what it has.
    leaving: bool,
}

impl<S: StateMachine, L: SharedLog> Driven<S, L> {
    pub fn new(
        node: Replicated<S, L>,
        shared: Arc<Shared>,
        proposals: Receiver<Proposing<S::Outcome>>,
        asks: Receiver<Asking<S>>,
    ) -> Self {
        let (held, replies, reading) = (None, VecDeque::new(), BTreeMap::new());
        Self { node, shared, proposals, asks, held, replies, reading, stirred: true, leaving: false }
    }

    /// As much of the queues as a turn may, and the node takes.
    fn take_in(&mut self) {
        if self.leaving {
            return;
        }
        // Cleared before looking: what comes in meanwhile wakes again.
        self.shared.filled.store(false, Ordering::SeqCst);
        let (mut proposed, mut asked) = (0, 0);
        while proposed < QUEUE_MAX
            && let Some(next) = self.held.take().or_else(|| self.proposals.try_recv().ok())
        {
            proposed += 1;
            match self.node.propose_record(&next.record) {
                Ok(id) => {
                    self.shared.bytes.fetch_sub(next.record.len(), Ordering::SeqCst);
                    self.replies.push_back((id, next.reply));
                }
                Err(ProposeError::Busy) => {
                    self.held = Some(next);
                    break;
                }
                Err(e) => self.refuse(next, e),
            }
        }
        while asked < QUEUE_MAX
            && let Ok(next) = self.asks.try_recv()
        {
            asked += 1;
            match next {
                Asking::Snapshot => self.node.snapshot(),
                Asking::Read(consistency, reading) => match self.node.query(consistency) {
                    Ok(id) => drop(self.reading.insert(id, reading)),
                    Err(e) => reading(Err(e)),
                },
            }
        }
        if proposed == QUEUE_MAX || asked == QUEUE_MAX {
            self.shared.filled.store(true, Ordering::SeqCst);
        }
    }

    fn refuse(&self, proposing: Proposing<S::Outcome>, error: ProposeError) {
        self.shared.bytes.fetch_sub(proposing.record.len(), Ordering::SeqCst);
        // Who asked may be gone; so below.
        let _ = proposing.reply.send(Err(error));
    }

    fn on_event(&mut self, event: ReplicatedEvent<S::Outcome>) -> Option<News> {
        Some(match event {
            ReplicatedEvent::Outcome { proposal, result } => {
                let (id, reply) = self.replies.pop_front().expect("it was proposed");
                assert_eq!(id, proposal, "outcomes come in the order of proposing");
                let _ = reply.send(result);
                self.stirred = true;
                return None;
            }
            ReplicatedEvent::Readable { query } => {
                let reading = self.reading.remove(&query).expect("it was asked");
                reading(Ok(view(&self.node)));
                return None;
            }
            ReplicatedEvent::Cluster { id } => News::Cluster(id),
            ReplicatedEvent::Orderers { addrs } => News::Orderers(addrs),
            ReplicatedEvent::Moved(sealed) => News::Moved(sealed),
            ReplicatedEvent::Left(tail) => News::Left(tail),
            ReplicatedEvent::Ready => News::Ready,
            ReplicatedEvent::Snapshot { gsn } => News::Snapshot(gsn),
            // Nobody asks for it here: that is done over the log's directory.
            ReplicatedEvent::SealDone { .. } => return None,
            ReplicatedEvent::Note(text) => News::Note(text),
            ReplicatedEvent::Failed { why, beware, distrust } => {
                self.close(&why);
                News::Failed(why, beware, distrust)
            }
        })
    }

    /// Nothing more is taken, and who waits is told.
    fn close(&mut self, why: &str) {
        // The first reason stays.
        let _ = self.shared.ended.set(why.to_string());
        let why = self.shared.why();
        while let Some(next) = self.held.take().or_else(|| self.proposals.try_recv().ok()) {
            self.refuse(next, ProposeError::Closed(why.clone()));
        }
        while let Ok(next) = self.asks.try_recv() {
            if let Asking::Read(_, reading) = next {
                reading(Err(QueryError::Closed(why.clone())));
            }
        }
        for (_, reply) in self.replies.drain(..) {
            let _ = reply.send(Err(ProposeError::Unknown(why.clone())));
        }
        while let Some((_, reading)) = self.reading.pop_first() {
            reading(Err(QueryError::Closed(why.clone())));
        }
    }
}

impl<S: StateMachine, L: SharedLog> Drop for Driven<S, L> {
    fn drop(&mut self) {
        self.close("it was stopped");
    }
}

impl<S: StateMachine, L: SharedLog> Machine for Driven<S, L> {
    type Command = Infallible;
    type Event = News;

    fn handle(&mut self, now: Instant, input: Input<Infallible>) {
        self.stirred = true;
        self.node.handle(now, input);
    }

    fn poll_output(&mut self, now: Instant) -> Option<Output<News>> {
        loop {
            if std::mem::take(&mut self.stirred) {
                self.take_in();
            }
            match self.node.poll_output(now)?.try_map(Err) {
                Ok(output) => return Some(output),
                Err(event) => {
                    if let Some(news) = self.on_event(event) {
                        return Some(Output::Event(news));
                    }
                }
            }
        }
    }

    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        if self.shared.filled.load(Ordering::SeqCst) && !self.leaving {
            return Some((Instant(0), "what handles want"));
        }
        self.node.next_deadline()
    }

    fn sent(&mut self, now: Instant) {
        self.node.sent(now);
    }

    fn farewell(&mut self, now: Instant) -> bool {
        self.leaving = true;
        !self.replies.is_empty() || self.node.farewell(now)
    }

    fn may_checkpoint(&self) -> bool {
        self.node.may_checkpoint()
    }

    fn checkpoint(&self) -> bytes::Bytes {
        self.node.checkpoint()
    }
}
