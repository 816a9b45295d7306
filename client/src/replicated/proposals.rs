//! What has this node proposed that it has not heard of again? In the order of proposing, which is the order in which the
//! log brings them back (LOG-3).

use std::collections::VecDeque;
use zoolog_core::{Gsn, Seq};

/// Names a proposal until its outcome. Never used twice in a node's life; ascending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProposalId(pub u64);

/// What became of a command that has no outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// As many proposals wait as may, or as much as the log takes at a time. It is not in the log: try again.
    #[error("as many proposals are under way as may be: try again when some have their outcome")]
    Busy,
    /// A disk that would hold it is short of room. It is not in the log: try again later.
    #[error("the log's disks are short of room: try again later")]
    DiskFull,
    /// It is longer than a record may be. It is not in the log.
    #[error("a command of {bytes} bytes, the limit is {limit}")]
    TooLong {
        /// With its header.
        bytes: usize,
        /// Allowed.
        limit: usize,
    },
    /// rkyv can't write it. It is not in the log.
    #[error("a command that can't be written down: {0}")]
    Unwritable(String),
    /// This node has ended, or is ending. It is not in the log.
    #[error("the node has ended: {0}")]
    Closed(String),
    /// It is in the log, and did nothing: no node can decode it.
    #[error("the command at {gsn} can't be decoded: {why}")]
    Rejected {
        /// Where.
        gsn: Gsn,
        /// What is wrong with it.
        why: String,
    },
    /// It is in the log, and did nothing: it was to be skipped.
    #[error("the command at {gsn} was skipped by an operator")]
    Skipped {
        /// Where.
        gsn: Gsn,
    },
    /// The node ended before it heard of the command again: it is in the log or not, and then it will be applied or not.
    /// The state tells; propose it again only if twice does no harm.
    #[error("whether it was applied is not known: {0}")]
    Unknown(String),
}

impl ProposeError {
    /// Whether the same command may be proposed again, soon, and is certainly not applied twice then.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Busy | Self::DiskFull)
    }

    /// Whether nobody knows if the command was, or will be, applied. All other errors say that it was not, and won't be.
    pub const fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }
}

/// Proposals in the log's hands.
#[derive(Debug, Default)]
pub(super) struct Proposals {
    /// Without an id: something that the node itself has to say.
    sent: VecDeque<(Seq, u32, Option<ProposalId>)>,
    next: u64,
    /// The last of those that are nobody's any more.
    forgotten: Option<(Seq, u32)>,
}

impl Proposals {
    pub fn len(&self) -> usize {
        self.sent.len()
    }

    /// The log has taken one, as (batch, index).
    pub fn push(&mut self, (seq, index): (Seq, u32)) -> ProposalId {
        let id = ProposalId(self.next);
        self.next += 1;
        self.sent.push_back((seq, index, Some(id)));
        id
    }

    /// The same of what is nobody's.
    pub fn push_own(&mut self, (seq, index): (Seq, u32)) {
        self.sent.push_back((seq, index, None));
    }

    /// That record of ours was delivered. Invariant LOG-3: in the order in which they were appended, each once.
    pub fn take(&mut self, seq: Seq, index: u32) -> Option<ProposalId> {
        if self.forgotten.is_some_and(|last| (seq, index) <= last) {
            return None;
        }
        let next = self.sent.pop_front().unwrap_or_else(|| panic!("own record {seq}.{index} was never sent"));
        assert_eq!((next.0, next.1), (seq, index), "own records come back in order");
        next.2
    }

    /// The same, and the node goes on: what still comes back of them is nobody's.
    pub fn forget(&mut self) -> impl Iterator<Item = ProposalId> + use<> {
        if let Some((seq, index, _)) = self.sent.back() {
            self.forgotten = Some((*seq, *index));
        }
        self.drain()
    }

    /// All of which nothing was heard.
    pub fn drain(&mut self) -> impl Iterator<Item = ProposalId> + use<> {
        std::mem::take(&mut self.sent).into_iter().filter_map(|(_, _, id)| id)
    }
}
