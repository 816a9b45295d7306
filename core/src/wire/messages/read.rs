//! What does a reader or subscriber say to a replica?

use crate::ids::*;

body! {
    /// Give me the shard's committed records in `from..to`.
    Read {
        /// Comes back.
        request: u64,
        /// The shard.
        shard: ShardId,
        /// First GSN.
        from: Gsn,
        /// One past the last GSN.
        to: Gsn,
        /// Payload bytes wanted at most; one batch comes even if it is longer.
        max_bytes: u32,
        /// Leave out a batch that begins before `from`: it came with what is before. Else the batch that holds
        /// `from` comes whole.
        begun_within: bool,
    }
}

plain_enum! {
    /// How an answer to `Read` ended.
    ReadEnd {
        /// It covers the whole range asked for.
        Complete,
        /// It was cut short by `max_bytes`: ask on from `covers`.
        More,
        /// What lies beyond `covers` is not committed yet, as far as this replica knows.
        NotYet,
        /// What lies before `covers` was trimmed; nothing is returned.
        Trimmed,
        /// This replica can't serve it now; try another.
        Unavailable,
        /// The range ends before it begins, or no byte of it is wanted: there is no answer to that.
        Invalid,
    }
}

body! {
    /// The payload is placed batches in GSN order: all of the shard's that have records in
    /// `from..covers`. Records of the first and last that lie outside are to be ignored.
    ReadIs {
        /// Of the question.
        request: u64,
        /// The shard.
        shard: ShardId,
        /// Of the question.
        from: Gsn,
        /// The answer is exact for `from..covers`.
        covers: Gsn,
        /// Why it ends there.
        end: ReadEnd,
        /// GSN of the first record of each batch.
        gsns: Vec<Gsn>,
    }
}

body! {
    /// Push me the batches of these lanes of a shard as they become durable at you. Supersedes an earlier
    /// subscription of the shard on this connection.
    Subscribe {
        /// The shard.
        shard: ShardId,
        /// Where to start in each lane: LSNs where a batch starts or that are not taken yet.
        from: Vec<Lsn>,
        /// Payload bytes per lane that may be pushed before more `Credit` comes.
        credit: u32,
    }
}

body! {
    /// You may push this much more of a lane.
    Credit {
        /// The lane.
        lane: LaneId,
        /// Payload bytes.
        bytes: u32,
    }
}

body! {
    /// The payload is placed batches of one lane, contiguous with the push before.
    Push {
        /// The lane.
        lane: LaneId,
    }
}
