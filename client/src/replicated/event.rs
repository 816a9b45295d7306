//! What does a node tell its owner?

use super::proposals::{ProposalId, ProposeError};
use super::queries::QueryId;
use crate::{RequestId, SealError, Sealed};
use zoolog_core::{ClusterId, Gsn};

/// A command that was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied<O> {
    /// Its position in the log, the same for everybody.
    pub gsn: Gsn,
    /// What it came to.
    pub outcome: O,
}

/// What a [`Replicated`](super::Replicated) tells its owner.
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
    /// [`Replicated::state`](super::Replicated::state) now shows what this read asked for: once for each, if the node doesn't end before.
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
    /// The log goes on elsewhere from there on: worth remembering for the next start, before anything else is done.
    Moved(Sealed),
    /// Nothing of the log that ended there is needed here any more: likewise.
    Left(Gsn),
    /// The answer to [`Replicated::seal_log`](super::Replicated::seal_log).
    SealDone {
        /// Which one.
        request: RequestId,
        /// Where the log has ended, or why it hasn't.
        result: Result<Sealed, SealError>,
    },
    /// For the log of the program.
    Note(String),
    /// It has ended, and takes nothing more. What it had proposed was told before.
    Failed {
        /// Why, where, and what to do.
        why: String,
        /// The command that it could not do, or should not have done. Who starts again from a state that has this, or none of
        /// what lies behind it, says [`Restored::beware`](super::Restored::beware).
        beware: Option<Gsn>,
        /// Its state differs from others', or may: a snapshot newer than this is not to be started from again.
        distrust: Option<Gsn>,
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
    /// Marks at which the nodes' states were compared.
    pub marks: u64,
}
