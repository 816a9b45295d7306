//! What does a writer say to a primary?

use crate::ids::*;

body! {
    /// The payload is one batch.
    Append {
        /// The lane; its primary must be the receiver.
        lane: LaneId,
        /// The first batch this writer has in this lane: lower ones are elsewhere, or were never.
        start: Seq,
        /// Whether its writer waits for the acknowledgement of this batch, and so of all before it. If not, it
        /// may come some milliseconds later: the writer expects to learn in another way what became of it.
        prompt: bool,
    }
}

body! {
    /// Batches that are durable on all replicas and ordered.
    Appended {
        /// Their writer.
        writer: WriterId,
        /// (seq, GSN of the first record), ascending.
        acks: Vec<(Seq, Gsn)>,
    }
}

plain_enum! {
    /// Why a batch was not taken. Nothing of it is in the lane, nor of any later one on this connection.
    AppendRefusedWhy {
        /// The bytes are not a valid batch.
        Malformed,
        /// Earlier batches of this writer are missing; resend from `expected`.
        Gap,
        /// The lane's primary is elsewhere, or the shard unknown here.
        NotPrimary,
        /// The primary is bringing its backups up to date; resend after a pause.
        Recovering,
        /// The writer has more in flight than the window allows.
        Window,
        /// The lane is finalized or the writer fenced: resolve, then go elsewhere.
        Closed,
        /// A disk that holds the lane is full: resend one batch now and then until it is taken.
        DiskFull,
    }
}

body! {
    /// A batch was not taken.
    AppendRefused {
        /// The lane.
        lane: LaneId,
        /// Its writer.
        writer: WriterId,
        /// Its number.
        seq: Seq,
        /// Why.
        why: AppendRefusedWhy,
        /// The number that would be taken, for `Gap`.
        expected: Seq,
    }
}
