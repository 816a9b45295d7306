//! How does a replica get back what its disk lost? It asks the other replicas of its shard, and says to the leader
//! that it lives.

use crate::cut::{ShardBase, ShardPart};
use crate::ids::*;

body! {
    /// Give me placed batches of a lane that I lost, as many as fit a frame.
    BatchesWanted {
        /// The lane; whichever replica is asked.
        lane: LaneId,
        /// First LSN wanted: where a batch starts.
        from: Lsn,
        /// LSN behind the last one wanted: where a batch ends.
        to: Lsn,
    }
}

body! {
    /// The payload is placed batches of the lane, contiguous from the greater of `from` and `start`; empty if the
    /// first one isn't here either. Behind `start` it is one at most, beyond what was asked for perhaps: it says
    /// which placement comes before.
    BatchesAre {
        /// The lane.
        lane: LaneId,
        /// Of the question.
        from: Lsn,
        /// First LSN that was not trimmed here.
        start: Lsn,
        /// Records of the lane, durable here.
        len: Lsn,
        /// Checksum of the last placement of the lane here.
        last: u32,
    }
}

body! {
    /// Give me the parts of a shard that I lost.
    PartsWanted {
        /// The shard.
        shard: ShardId,
        /// Those behind this cut's.
        after: CutNumber,
    }
}

body! {
    /// The parts that this replica holds.
    PartsHeld {
        /// The shard.
        shard: ShardId,
        /// Of the question.
        after: CutNumber,
        /// What precedes the first part if parts behind `after` were trimmed here.
        base: Option<ShardBase>,
        /// The parts, oldest first, none between them missing; no more than fit a frame.
        parts: Vec<ShardPart>,
    }
}

body! {
    /// I live, and am mending what my disk lost: of these shards nothing is reported until it is done.
    Recovering {
        /// Which slot.
        slot: SlotId,
        /// Its start.
        incarnation: Incarnation,
        /// The shards; none: it is done.
        shards: Vec<ShardId>,
    }
}

body! {
    /// Parts that you lack, all replicas said to hold: get them from another one. Those behind `known` follow once you
    /// have it and register again.
    PartsGone {
        /// The shard.
        shard: ShardId,
        /// The newest part that is not kept any more.
        known: CutNumber,
    }
}
