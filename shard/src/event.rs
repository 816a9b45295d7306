//! What does a slot tell its owner? Turning points, for logs and tests.

use zoolog_core::{CutNumber, Incarnation, LaneId, Lsn, ShardId, ViewNumber};

/// A turning point in a slot's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotEvent {
    /// The leader of the orderers took its registration.
    Registered {
        /// The view it answered with.
        view: ViewNumber,
    },
    /// The orderers are these from now on: worth remembering for the next start.
    Orderers {
        /// `host:port` of each.
        addrs: Vec<String>,
    },
    /// The connection to the leader is gone; a new one is sought.
    LeaderLost,
    /// All backups of a lane are in step: it takes appends.
    Serving {
        /// The lane.
        lane: LaneId,
        /// The primary's start.
        incarnation: Incarnation,
        /// Its records, those adopted from backups included.
        len: u64,
        /// How many of them were adopted.
        adopted: u64,
    },
    /// A replica holds less than what is committed, or contradicts its peers: it serves nothing until it
    /// is mended.
    Damaged {
        /// Its shard.
        shard: ShardId,
        /// What is wrong.
        what: String,
    },
    /// The copy of a batch on the disk can't be read: another replica is asked for it.
    Rotten {
        /// Its lane.
        lane: LaneId,
        /// Its first LSN.
        first_lsn: Lsn,
        /// What is wrong.
        why: String,
    },
    /// What a replica had lost before this start is here again.
    Mended {
        /// Its shard.
        shard: ShardId,
        /// How many batches were mended since the start.
        batches: u64,
    },
    /// Something was lost that no replica has.
    Lost {
        /// Its shard.
        shard: ShardId,
        /// What.
        what: String,
    },
    /// The cluster knows another data directory under this slot's id, or a later start of it. It must not go on.
    Dismissed {
        /// What the leader said, for people.
        why: String,
    },
    /// What the leader says of a shard doesn't fit what is known: it was asked again.
    Contradiction {
        /// The cut or part.
        number: CutNumber,
        /// What is wrong.
        what: String,
    },
}
