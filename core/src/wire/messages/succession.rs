//! Where does a log begin that goes on where another has ended, and where does that end?

use crate::ids::*;

body! {
    /// The log goes on at a position, where another has ended. Decided once, and only while nothing is in it: said again it
    /// changes nothing. Without a position it is a question. Answered by `BeginIs`, once it is decided.
    Begin {
        /// Comes back.
        request: u64,
        /// First position of this log; the other's tail.
        first_gsn: Option<Gsn>,
    }
}

/// Where a log begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum BeginEnd {
    /// It waits to be told, and takes nothing before.
    Awaits,
    /// There, where another has ended: decided, for good.
    Begun(Gsn),
    /// It follows no other log: it began by itself, and ends there now.
    Own(Gsn),
}

body! {
    /// Where the log begins, as decided.
    BeginIs {
        /// Of the question.
        request: u64,
        /// Where.
        end: BeginEnd,
    }
}

body! {
    /// The log ends behind what is ordered when this is decided, for good, and goes on elsewhere. The first one that is decided
    /// counts. Answered by `SealedIs`, which says what that was.
    Seal {
        /// Comes back; never 0.
        request: u64,
        /// How to find the log that follows: 1 to 2048 bytes, no line breaks.
        successor: String,
    }
}

body! {
    /// The log has ended, for good.
    SealedIs {
        /// Of the question, `Seal` or `Tail`; 0 to subscribers, who didn't ask.
        request: u64,
        /// First position that is not in it, and the first one of the log that follows.
        tail: Gsn,
        /// What it was sealed for.
        successor: String,
    }
}
