//! Where does a log begin that goes on where another has ended?

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
