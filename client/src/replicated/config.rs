//! What can be set about a replicated structure? Each with its default and the reason for it.

use std::collections::BTreeSet;
use zoolog_core::Gsn;

/// Settings of a [`Replicated`](super::Replicated).
#[derive(Clone, Debug)]
pub struct ReplicatedConfig {
    /// Of the structure, the same on all nodes: records of others in the same log are passed over.
    pub name: String,
    /// A snapshot is taken after so many records; 0: not for that reason. Default 100,000.
    pub snapshot_records: u64,
    /// Or after so many bytes of records; 0: not for that reason. Default 64 MiB. Never before as many were applied as the
    /// last snapshot had.
    pub snapshot_bytes: u64,
    /// Proposals that may wait for their outcome; whoever proposes one more is told [`ProposeError::Busy`](super::ProposeError::Busy), as when the log
    /// takes no more. Default 65,536.
    pub proposals_max: usize,
    /// Reads that may wait; beyond it [`QueryError::Busy`](super::QueryError::Busy). Default 65,536.
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
