//! What is a snapshot? The exact replicated state at one position of the log, in a file: a node that starts
//! from it needs the log only from there on.
//!
//! - [`Taking`]: the file piece by piece, while records go on being applied.
//! - [`Loader`]: the state again, from the bytes of a file however they are cut.
//!
//! Around the pieces is the frame of [`zoolog_core::snapshot`]; in each piece, behind a byte that says which,
//! one of:
//!
//! | byte | piece | holds |
//! |---|---|---|
//! | 1 | head | apply version u32, nodes u64, sessions u64, ACLs u64 |
//! | 2 | ACLs | number u32, entries u32, and per entry: permissions u32, lengths u32 of scheme and id, both |
//! | 3 | sessions, once | id u64, timeout u32 in ms, GSN of attach u64, GSN of touch u64 |
//! | 4 | nodes | slot, parent, ACL, length of name, length of data or ffffffff: u32 each; version, aversion: u32 each; created, owner, czxid, mzxid, pzxid, ctime, mtime: u64 each; name, data |
//! | 5 | foot | state hash u64, and once more nodes, sessions, ACLs |
//! | 6 | sessions | as 3, then of the connection's address: 0, 4 or 6, and 16 bytes of it, lowest first |
//!
//! There is one head, first, and one foot, last; nodes come in the order of their slots, behind all ACLs, of
//! which the open one, number 0, is not written. What is not in the file follows from it: children from
//! parents, hashes of paths and data, ephemerals of sessions. The state's hash is computed from what was read
//! and compared before anything is used (invariant ZK-5).

mod loader;
mod taking;

pub use loader::Loader;
pub use taking::{Pace, Taking};

use crate::state::State;
use zoolog_core::Gsn;

/// First bytes of pieces.
mod kind {
    pub const HEAD: u8 = 1;
    pub const ACLS: u8 = 2;
    /// As they were written before they had addresses.
    pub const OLD_SESSIONS: u8 = 3;
    pub const NODES: u8 = 4;
    pub const FOOT: u8 = 5;
    pub const SESSIONS: u8 = 6;
}

/// What a node starts from.
#[derive(Debug, Default)]
pub struct Restored {
    /// The state in the newest good snapshot, as [`Loader::finish`] gave it.
    pub state: State,
    /// Position of that snapshot; `None` if there was none, and the state is that of a new service.
    pub newest: Option<Gsn>,
    /// Position of the next older one that is good: what lies before it in the log, nobody here needs any more.
    pub second_newest: Option<Gsn>,
}

impl Restored {
    /// From the state of a snapshot.
    pub fn from_snapshot(state: State, second_newest: Option<Gsn>) -> Self {
        Self { newest: Some(state.applied()), state, second_newest }
    }
}

#[cfg(test)]
mod tests;
