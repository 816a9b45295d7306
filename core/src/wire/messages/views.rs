//! What may an operator ask of the view? Shards to be ended, how many there are to be.

use crate::ids::*;

body! {
    /// That shard shall take no appends any more; another is formed in its place if there are servers for it.
    /// Answered by `Decided`.
    Finalize {
        /// Comes back.
        request: u64,
        /// Which.
        shard: ShardId,
    }
}

body! {
    /// So many shards shall take appends; those that lack are formed when there are servers for them, none is ended.
    /// Answered by `Decided`.
    WantShards {
        /// Comes back.
        request: u64,
        /// How many, at least 1.
        shards: u32,
    }
}

body! {
    /// In place of a replica that a finalized shard has lost a copy shall be made elsewhere, now. Answered by `Decided`
    /// once it is being made.
    RebuildShard {
        /// Comes back.
        request: u64,
        /// Which.
        shard: ShardId,
    }
}

body! {
    /// What became of a request of an operator.
    Decided {
        /// Of the question.
        request: u64,
        /// The view now, which has what was asked for if `refused` is empty.
        view: ViewNumber,
        /// Whether asking again may help; of no meaning unless refused.
        retry: bool,
        /// Why it was refused; empty if it was done.
        refused: String,
    }
}
