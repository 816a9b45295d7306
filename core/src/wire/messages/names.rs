//! Who writes under a name? One opening at a time: each fences the one before, in whatever lane that was.

use crate::ids::*;

body! {
    /// I am the writer of that name from now on: earlier openings get no lane any more. Answered by `WriterIs`.
    OpenWriter {
        /// Comes back.
        request: u64,
        /// 1 to 64 bytes.
        name: String,
    }
}

body! {
    /// My opening of that name is about to use this lane, and no other from now on. Answered by `WriterIs`.
    ClaimLane {
        /// Comes back.
        request: u64,
        /// The name.
        name: String,
        /// The opening.
        epoch: Epoch,
        /// The lane.
        lane: LaneId,
        /// One past the last record of the name, as far as the writer knows.
        tail: Gsn,
    }
}

plain_enum! {
    /// Why a name, or a lane for it, is not given.
    WriterRefused {
        /// It is given.
        No,
        /// A later opening has the name.
        Fenced,
        /// There are too many names.
        TooMany,
        /// It is no name, or no lane that takes appends; or the name was opened too often.
        Invalid,
    }
}

body! {
    /// What was decided about a name.
    WriterIs {
        /// Of the question.
        request: u64,
        /// Whether it was refused, and then nothing of the rest counts.
        refused: WriterRefused,
        /// Who writes under the name.
        writer: WriterId,
        /// The opening.
        epoch: Epoch,
        /// The lane that the name has now; for an opening, the one before it had: it is to be fenced.
        lane: Option<LaneId>,
        /// One past the last record of the name, as that opening last said.
        tail: Gsn,
    }
}
