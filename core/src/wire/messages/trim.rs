//! What may be forgotten? Consumers and the trim point.

use crate::ids::*;

body! {
    /// Keep what I may still need: automatic trimming stays at or below every consumer's position. Registers
    /// the name, or moves it on; a position never moves back. Answered by `ConsumerIs` once it is decided, or
    /// by `Refused` when there are too many consumers or the name is none.
    Consumer {
        /// Comes back.
        request: u64,
        /// Its name: 1 to 64 bytes.
        name: String,
        /// First GSN it still needs.
        upto: Gsn,
    }
}

body! {
    /// Where a consumer is, as decided.
    ConsumerIs {
        /// Of the question.
        request: u64,
        /// Its position; `None` if there is no consumer of that name any more. Never below `trim`.
        upto: Option<Gsn>,
        /// The trim point: what lies before it can't be read any more.
        trim: Gsn,
    }
}

body! {
    /// That consumer will not come back: it holds the trim point back no longer. Answered by `ConsumerIs`.
    ForgetConsumer {
        /// Comes back.
        request: u64,
        /// Its name.
        name: String,
    }
}

body! {
    /// The trim point, as decided: nothing below it will be read any more. Only ever grows.
    TrimIs {
        /// First GSN that is still readable.
        gsn: Gsn,
    }
}

body! {
    /// Forget everything before `gsn`, for everybody. Decided as a whole: if it may not all go, nothing does.
    /// Answered by `TrimAnswer` once it is decided.
    Trim {
        /// Comes back.
        request: u64,
        /// First GSN that must stay.
        gsn: Gsn,
    }
}

/// What became of a `Trim`.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum TrimEnd {
    /// Everything before `gsn` is gone, now or since earlier.
    Done,
    /// Nothing was trimmed: this consumer, the slowest, still needs what lies behind this position of it.
    HeldBack(String, Gsn),
    /// Nothing was trimmed: there is no such position yet, this is the first that is not assigned.
    BeyondTail(Gsn),
}

body! {
    /// What became of a `Trim`, as decided.
    TrimAnswer {
        /// Of the question.
        request: u64,
        /// Whether, and why not.
        end: TrimEnd,
        /// The trim point before it was decided.
        before: Gsn,
        /// The trim point since.
        trim: Gsn,
    }
}
