//! What became of a writer's batches in a lane that it has to leave?

use crate::ids::*;

body! {
    /// Which of my batches, from number `from` on, are in this lane for good? Asked of any replica of the shard, when
    /// it is finalized or the lane is fenced for the writer. Answered by `Resolved`.
    Resolve {
        /// Comes back.
        request: u64,
        /// The lane.
        lane: LaneId,
        /// Whose batches.
        writer: WriterId,
        /// The writer's opening.
        epoch: Epoch,
        /// The first number asked for.
        from: Seq,
    }
}

plain_enum! {
    /// What an answer to `Resolve` is worth.
    ResolveEnd {
        /// Those named are in the lane, others are not and never will be.
        Final,
        /// The writer may still use the lane: nothing is final.
        Open,
        /// This replica doesn't know yet, or can't be relied on: ask again, or another.
        NotReady,
        /// Nobody remembers: the writer was idle for so long that its window was dropped.
        Forgotten,
    }
}

body! {
    /// The answer to `Resolve`.
    Resolved {
        /// Of the question.
        request: u64,
        /// The lane.
        lane: LaneId,
        /// Of the question.
        writer: WriterId,
        /// What it is worth.
        end: ResolveEnd,
        /// (number, GSN of the first record) of batches that are committed, ascending.
        acks: Vec<(Seq, Gsn)>,
        /// One past the last record of the writer that is in the lane, whatever its opening; `None` if there is
        /// none, or its position isn't known any more.
        tail: Option<Gsn>,
        /// The newest opening of the writer that has anything in the lane, as far as is known here: of earlier ones nothing is
        /// remembered. `None` if there is none.
        newest: Option<Epoch>,
    }
}

body! {
    /// The payload is a fence: a batch of kind `Fence` of this writer, in its opening or a later one. A replica that is
    /// not the lane's primary passes it on. No answer; `Resolve` tells when it is committed.
    Fence {
        /// The lane.
        lane: LaneId,
    }
}
