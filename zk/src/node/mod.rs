//! What is a ZooKeeper node? One machine: client connections on one side, the log on the other, the replicated
//! state between them.
//!
//! Accepted connections speak ZooKeeper's protocol; whatever concerns dialled ones is handed to the log client
//! inside, whose outputs pass through and whose events drive the state. One turn: requests come in and become
//! records of one batch, the log's deliveries are applied, and each connection gets all its answers at once.
//!
//! A [`Node`] is its [`Back`], which does all that, and the state, which it lends to it. With several executors a
//! back has the log and the state, and clients are at [`Front`]s: see [`Published`] for what they say to each other, and
//! [`Team`] for all of it together.
//!
//! # Rooms
//! `back`: what it has in hand; `front`, `fronts`, `published`, `team`: the same with connections elsewhere;
//! `handshake`: a connection gets its session; `submit`, `writes`, `auth`: a request arrives; `queue`: it waits;
//! `held`, `listing`, `owed`: writes, long answers and events wait for answers to be taken; `again`: many watches are set again in steps; `pending`: how much waits in all; `share`: how much a turn reads;
//! `policy`: what its owner may choose about answers;
//! `reads`, `watching`, `reply`: it is answered; `sweep`: nodes go by themselves; `apply`: the log delivers; `session`, `clocks`: sessions live
//! and end, `pulse`: what is done for all of them now and then; `syncs`: rounds of `sync`; `own`: records in flight; `connection`: the table of connections, `places`: what of it fronts have too;
//! `marks`: are the nodes' states the same; `scrub`: is memory what it was; `skips`: records that are passed over, or end the node; `snapshots`: when they are taken; `behind`: when another's is needed; `words`, `status`, `report`, `served`: how the node is, `whitelist`, `facts`: what of it is told; `turn`: what is measured of a turn; `framing`, `password`, `config`.

mod again;
mod apply;
mod auth;
mod back;
mod behind;
mod clocks;
mod config;
mod connection;
mod ephemerals;
mod facts;
mod framing;
mod front;
mod fronts;
mod handshake;
mod held;
mod listing;
mod marks;
mod owed;
mod own;
mod password;
mod pending;
mod places;
mod policy;
mod published;
mod pulse;
mod queue;
mod read_only;
mod reads;
mod reply;
mod report;
mod scrub;
mod served;
mod session;
mod share;
mod skips;
mod snapshots;
mod status;
mod submit;
mod sweep;
mod syncs;
mod team;
mod turn;
mod watching;
mod whitelist;
mod words;
mod writes;

#[cfg(test)]
mod tests;

pub use back::{Back, Learned, Replacement, Step};
pub use config::{NodeConfig, Steps};
pub use facts::{Facts, Gauges, Mode};
pub use framing::framing;
pub use front::Front;
pub use published::{Published, Said, conn_of, front_of};
pub use report::{About, Connection, LIST_MAX, Report, Reset, Session};
pub use served::Served;
pub use status::{Counts, NodeStatus};
pub use team::Team;
pub use whitelist::{DEFAULT_WORDS, WORDS, Whitelist};
pub use words::{
    BUILT_ON, Figure, NOT_SERVING, TRACE_MASK, VERSION, latencies, mode, monitored, summary_lines,
    total_lines, totals,
};

use crate::snapshot::{Beware, Restored};
use crate::state::{Outline, State};
use std::sync::Arc;
use zoolog_client::{ClusterLog, Sealed, SharedLog};
use zoolog_core::{Gsn, Input, Instant, Machine, Output};

/// What the owner of a node may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeCommand {
    /// How are you? Answered by [`NodeEvent::Status`].
    Status,
    /// Say this of yourself. Answered by [`NodeEvent::Report`] with the same number; ask again only then.
    Report {
        /// Of the question.
        ask: u64,
        /// What is to be said.
        about: About,
    },
    /// Throw your state and your snapshots away, and begin anew from another node's: [`Back::rebuild`].
    Rebuild {
        /// Why, for people.
        why: &'static str,
    },
}

/// What a node tells its owner.
#[derive(Clone, Debug)]
pub enum NodeEvent {
    /// It plays the log before it serves, as far as that went when it asked. Comes before each time that it serves.
    Plays {
        /// Bytes of memory that this may take, if each record makes a node like those that there are.
        bytes: u64,
    },
    /// It has applied all that was committed when it started, and serves clients from now on. Comes once; a node that had to
    /// get another's snapshot while it ran says in a note that it serves again.
    Ready,
    /// The answer to [`NodeCommand::Status`].
    Status(Box<NodeStatus>),
    /// The answer to [`NodeCommand::Report`].
    Report(u64, Arc<Report>),
    /// Something a person may want to know: which connection was closed and why, a log that stands still.
    Note(String),
    /// The orderers are these from now on: worth remembering for the next start.
    Orderers(Vec<String>),
    /// The log goes on elsewhere from there on: worth remembering for the next start, before anything else is done.
    Moved(Sealed),
    /// Nothing of the log that ended there is needed here any more: likewise.
    Left(Gsn),
    /// It is about to fail, and the next life must know this before it starts: it comes with [`Restored`].
    Beware(Beware),
    /// It is about to fail since its state differs: the next life, given this, can tell where. It comes with [`Restored`].
    Outline(Box<Outline>),
    /// It is about to fail, and to start it anew at once heals it, without a person.
    Heals,
    /// It can't go on and has closed its connections: start it anew.
    Failed(String),
}

/// A ZooKeeper node on the log `L`, all of it on one thread. See the [module](self).
#[derive(Debug)]
pub struct Node<L = ClusterLog> {
    back: Back<L>,
    state: State,
}

impl Node<ClusterLog> {
    /// A node that has done nothing yet, on the sharded log. It reads the log from its start, and serves when
    /// it has applied all that is there. Never use a seed twice in a cluster's life.
    pub fn new(cfg: NodeConfig, seed: u64, now: Instant) -> Self {
        Self::restore(cfg, seed, now, Restored::default())
    }

    /// The same, but from a snapshot: it reads the log from the snapshot's position on.
    pub fn restore(cfg: NodeConfig, seed: u64, now: Instant, restored: Restored) -> Self {
        let log = cfg.log_client(seed, now);
        Self::restore_with_log(cfg, log, now, restored)
    }
}

impl<L: SharedLog> Node<L> {
    /// A node on the given log, which has neither a subscription nor pending appends.
    pub fn with_log(cfg: NodeConfig, log: L, now: Instant) -> Self {
        Self::restore_with_log(cfg, log, now, Restored::default())
    }

    /// The same, but from a snapshot.
    pub fn restore_with_log(cfg: NodeConfig, log: L, now: Instant, mut restored: Restored) -> Self {
        Self { back: Back::new(cfg, log, now, &mut restored), state: restored.state }
    }

    /// The replicated state, as far as it is applied here.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The log below.
    pub fn log(&self) -> &L {
        self.back.log()
    }

    /// Whether it has caught up and serves clients.
    pub fn is_serving(&self) -> bool {
        self.back.is_serving()
    }

    /// As [`State::flip_a_bit`].
    #[doc(hidden)]
    pub fn flip_a_bit(&mut self, choice: u64) -> String {
        self.state.flip_a_bit(choice)
    }

    /// How it is, as of the last input.
    pub fn status(&self) -> NodeStatus {
        self.back.status(&self.state)
    }
}

impl<L: SharedLog> Machine for Node<L> {
    type Command = NodeCommand;
    type Event = NodeEvent;

    fn handle(&mut self, now: Instant, input: Input<NodeCommand>) {
        match input {
            Input::SnapshotSaved { gsn, last, result } => {
                self.back.snapshot_saved(now, &mut self.state, gsn, last, result);
            }
            input => self.back.handle(now, &self.state, input),
        }
    }

    fn poll_output(&mut self, now: Instant) -> Option<Output<NodeEvent>> {
        loop {
            match self.back.step(now) {
                Step::Output(output) => return Some(output),
                Step::Apply(committed) => self.back.apply(now, &mut self.state, &committed),
                Step::Learn(learned) => self.back.learn(now, &self.state, learned),
                Step::GoOn => self.back.go_on(now, &self.state),
                Step::Replace(new) => self.back.replace(now, &mut self.state, new),
                Step::Nothing => return None,
            }
        }
    }

    fn sent(&mut self, now: Instant) {
        self.back.sent(now);
    }

    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        self.back.next_deadline()
    }

    fn checkpoint(&self) -> bytes::Bytes {
        self.back.log().checkpoint()
    }
}
