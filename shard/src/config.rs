//! What does a slot need to know, and how much may it hold?

use std::time::Duration;
use zoolog_core::{ClusterId, SlotId};

/// Settings of a slot.
#[derive(Clone, Debug)]
pub struct SlotConfig {
    /// The cluster it belongs to; connections of others are refused.
    pub cluster: ClusterId,
    /// Who it is.
    pub slot: SlotId,
    /// Drawn at random when its log was begun: the cluster takes no other log under this slot's id.
    pub stamp: u64,
    /// `ip:port` at which peers and clients reach it.
    pub addr: String,
    /// Servers of one domain fail together.
    pub domain: String,
    /// `ip:port` of the orderers; at least one.
    pub orderers: Vec<String>,
    /// How much it holds at most.
    pub bounds: Bounds,
}

/// Bounds of a slot. When one fills, a sender is slowed or refused.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Bytes of uncommitted batches per lane above which its writers are no longer read from; they are
    /// again at half.
    pub uncommitted_bytes: usize,
    /// Bytes of batches handed to the write-ahead log and not durable yet, above which the connection
    /// that brings more is no longer read from; it is again at half.
    pub unsynced_bytes: usize,
    /// Bytes of a lane's newest batches kept in memory. Uncommitted ones are kept beyond it.
    pub cache_bytes: usize,
    /// Payload bytes of one `Replicate` or `LaneIs`, unless one batch is longer.
    pub replicate_bytes: usize,
    /// Payload bytes of one `Push`, unless one batch is longer.
    pub push_bytes: usize,
    /// Payload bytes of one answer to `Read`, unless one batch is longer.
    pub read_bytes: usize,
    /// Batches of one answer to `Read`, and of any other piece read back from the write-ahead log.
    pub read_batches: usize,
    /// Reads in progress per connection, above which it is no longer read from.
    pub reads: usize,
    /// Subscribers of a shard; more are refused, so that they ask another replica. Each may have about 2 MiB waiting to
    /// leave.
    pub subscriptions: usize,
    /// Writers remembered per lane.
    pub writers: usize,
    /// Batches remembered per lane, over all writers, to recognise them when they are resent.
    pub remembered: usize,
    /// Bytes of finished segments that are read and checked per second; 0: none.
    pub scrub_bytes_per_s: u64,
    /// Pause between two passes over them; the first comes after an eighth of it.
    pub scrub_pause: Duration,
    /// Open connections; more are closed at once.
    pub connections: usize,
    /// Bytes per second that a copy made in place of a lost one takes from the replicas that are left; 0: no bound.
    pub rebuild_bytes_per_s: u64,
    /// Silence of a node that owes us something, after which it is asked for a sign of life, and after as
    /// long again given up.
    pub silence: Duration,
    /// The leader of the orderers gets a sign of life at least this often.
    pub alive_every: Duration,
    /// Lengths that moved are reported on a grid of this width; zero: at once, with each sync. Others are for repeating
    /// the experiments of systems that report so.
    pub report_every: Duration,
    /// Silence of that leader after which it is asked for one, and after as long again given up. Twice this, and finding
    /// the next one, must take less than a failure timeout: from its election on, that one takes silence for death.
    pub leader_silence: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            uncommitted_bytes: 32 << 20,
            unsynced_bytes: 64 << 20,
            cache_bytes: 16 << 20,
            replicate_bytes: 1 << 20,
            push_bytes: 256 << 10,
            read_bytes: 2 << 20,
            read_batches: 4096,
            reads: 16,
            subscriptions: 1024,
            writers: 4096,
            remembered: 128 << 10,
            scrub_bytes_per_s: 0,
            scrub_pause: Duration::from_secs(60),
            connections: 4096,
            rebuild_bytes_per_s: 32 << 20,
            silence: Duration::from_secs(1),
            alive_every: Duration::from_millis(200),
            report_every: Duration::ZERO,
            leader_silence: Duration::from_millis(400),
        }
    }
}

/// Why a slot can't start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// Its settings make no sense.
    #[error("slot settings: {0}")]
    Config(&'static str),
    /// Its write-ahead log holds a checkpoint or record that this build can't read.
    #[error("write-ahead log of slot {slot}: {what}; was it written by a newer build?")]
    Log {
        /// The slot.
        slot: SlotId,
        /// What is wrong.
        what: String,
    },
}
