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
