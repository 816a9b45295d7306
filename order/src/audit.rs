//! What do the records of a stopped orderer's log say? For people who look at it: read with the eyes that a start has.

use crate::consensus::{self, RAFT, RecordSummary};
use bytes::Bytes;
use zoolog_core::wal::{Recovered, WalEntry};
use zoolog_core::{ClusterId, CutNumber, Gsn, ViewNumber};

/// What raft has in a record, or a checkpoint.
pub type Record = RecordSummary;

/// Reads a record.
///
/// # Errors
/// A text, if it is not what this build writes: the bytes are as they were written, but make no sense.
pub fn record(entry: &WalEntry) -> Result<Record, String> {
    match &entry.data {
        Some(data) if entry.kind == RAFT => consensus::summary(data),
        Some(_) => Err(format!("a record of kind {}, which this build doesn't know", entry.kind)),
        None => Err("a record without its data".into()),
    }
}

/// Reads a checkpoint; `None` if it is that of an orderer to whom nothing has happened yet.
///
/// # Errors
/// A text, if it is not what this build writes.
pub fn checkpoint(bytes: &Bytes) -> Result<Option<Record>, String> {
    if bytes.is_empty() { Ok(None) } else { consensus::summary(bytes).map(Some) }
}

/// How an orderer would start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// Its last raft entry, and the term of it.
    pub last: (u64, u64),
    /// The entry that its checkpoint is as of: what follows it is applied after the start.
    pub applied: u64,
    /// The last cut then.
    pub cut: CutNumber,
    /// First position that was not assigned then.
    pub tail: Gsn,
    /// The view then.
    pub view: ViewNumber,
}

/// How an orderer would start on what was recovered.
///
/// # Errors
/// Why it would not.
pub fn start(cluster: ClusterId, recovered: &Recovered) -> Result<Started, String> {
    for entry in &recovered.tail {
        record(entry)?;
    }
    let tail = recovered.tail.iter().filter_map(|e| e.data.as_deref());
    let restored = consensus::restore(cluster, recovered.checkpoint.as_deref(), tail)?;
    let last = restored.log.last();
    Ok(Started {
        last: (last, restored.log.term_of(last).unwrap_or(0)),
        applied: restored.applied,
        cut: restored.state.last_cut(),
        tail: restored.state.tail(),
        view: restored.state.view().number,
    })
}
