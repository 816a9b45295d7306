//! What do the replicas of a shard say to each other?

use crate::ids::*;

body! {
    /// The payload is placed batches of one lane, each behind the one before.
    Replicate {
        /// The lane.
        lane: LaneId,
        /// The primary's start.
        incarnation: Incarnation,
        /// Of the `Sync` that opened this stream.
        stream: u64,
    }
}

body! {
    /// Opens a stream of a lane to a backup. The backup drops frames of all older streams, syncs what it has
    /// accepted, and answers `Synced`; or `Refused` if it has seen a newer incarnation or stream.
    Sync {
        /// The lane; its primary is the sender.
        lane: LaneId,
        /// The primary's start.
        incarnation: Incarnation,
        /// Greater for each stream that the primary opens in one incarnation.
        stream: u64,
    }
}

body! {
    /// What a backup holds of a lane, durably.
    Synced {
        /// The lane.
        lane: LaneId,
        /// Of the `Sync`.
        incarnation: Incarnation,
        /// Of the `Sync`.
        stream: u64,
        /// Records.
        len: u64,
        /// Checksum of its last placement, 0 if it has none.
        last: u32,
    }
}

body! {
    /// Give me placed batches of a lane from an LSN on, as many as fit a frame.
    FetchLane {
        /// The lane.
        lane: LaneId,
        /// Of the `Sync` this belongs to.
        incarnation: Incarnation,
        /// Of the `Sync` this belongs to.
        stream: u64,
        /// First LSN wanted: where a batch starts.
        from: Lsn,
    }
}

body! {
    /// The payload is placed batches of a lane, contiguous from `from`; empty if there are none.
    LaneIs {
        /// The lane.
        lane: LaneId,
        /// Of the question.
        incarnation: Incarnation,
        /// Of the question.
        stream: u64,
        /// Of the question.
        from: Lsn,
    }
}

body! {
    /// What you lack of this lane was trimmed: go on from here. Your own records of it, all of them before
    /// `from`, will not be read any more; the stream continues at `from`.
    LaneBase {
        /// The lane.
        lane: LaneId,
        /// The primary's start.
        incarnation: Incarnation,
        /// Of the `Sync` that opened this stream.
        stream: u64,
        /// First LSN of what follows.
        from: Lsn,
        /// Checksum of the placement before it.
        last: u32,
    }
}
