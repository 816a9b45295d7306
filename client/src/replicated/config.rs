//! What can be set about a replicated structure? Each with its default and the reason for it.

use crate::bootstrap::FetchConfig;
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
    /// Which node this is: another number than all others of the structure have, and the same in all its lives. 0, the
    /// default: it takes no part in comparing states. A `ReplicatedNode` draws one at its first start.
    pub node: u64,
    /// The nodes compare their states after so many commands (each node's `state_hash` is asked for); 0: this one never has
    /// them do it. Default 100,000.
    pub mark_records: u64,
    /// `host:port` where other nodes get this one's snapshots; whoever runs it sees to that, as a `ReplicatedNode` does.
    /// Default `None`: they don't.
    pub gives_at: Option<String>,
    /// How others' snapshots are got.
    pub fetch: FetchConfig,
    /// Of a `ReplicatedNode`: `ip:port` where it gives its snapshots to others; empty, the default: at any free port, of this
    /// machine only if all orderers are on it; `none`: nowhere.
    pub snapshot_listen: String,
    /// Host that others are told; empty, the default: where it listens, or is seen to be.
    pub snapshot_advertise: String,
    /// Bytes of snapshots per second that it gives, to all together; 0: as many as there are. Default 256 MiB.
    pub snapshot_bytes_per_s: u64,
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
            node: 0,
            mark_records: 100_000,
            gives_at: None,
            fetch: FetchConfig::default(),
            snapshot_listen: String::new(),
            snapshot_advertise: String::new(),
            snapshot_bytes_per_s: 256 << 20,
        }
    }
}
