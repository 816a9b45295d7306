//! What is a snapshot? The exact replicated state at one position of the log, in a file: a node that starts
//! from it needs the log only from there on.
//!
//! - [`Taking`]: the file piece by piece, while records go on being applied.
//! - [`Loader`]: the state again, from the bytes of a file however they are cut.
//! - `load_together` (feature `server`): the same by several threads, as a node does that starts.
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
//! | 7 | skipped, if any | position u64 of each record that was passed over because a later one says so |
//! | 6 | sessions | as 3, then of the connection's address: 0, 4 or 6, and 16 bytes of it, lowest first |
//!
//! There is one head, first, and one foot, last; nodes come in the order of their slots, behind all ACLs, of
//! which the open one, number 0, is not written. What is not in the file follows from it: children from
//! parents, hashes of paths and data, ephemerals of sessions. The state's hash is computed from what was read
//! and compared before anything is used (invariant ZK-5).

mod loader;
mod taking;
#[cfg(any(feature = "server", test))]
mod together;

pub use loader::Loader;
pub use taking::{Pace, Taking};
#[cfg(any(feature = "server", test))]
pub use together::load_together;

use crate::bootstrap::Begun;
use crate::state::{Outline, State};
use std::fmt;
use std::str::FromStr;
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
    pub const SKIPPED: u8 = 7;
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
    /// Whether the log is to be searched for skips before anything is applied: an earlier life ended with a record.
    pub look_ahead: bool,
    /// Of the state with which an earlier life ended that differed from others': when this one comes to that position, it says
    /// where.
    pub outline: Option<Outline>,
    /// What an earlier life had got of another node's snapshot.
    pub begun: Option<Begun>,
}

impl Restored {
    /// From the state of a snapshot.
    pub fn from_snapshot(state: State, second_newest: Option<Gsn>) -> Self {
        Self { newest: Some(state.applied()), state, second_newest, ..Self::default() }
    }
}

/// With what a life of a node ended, for the next one to know before it starts. By default nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beware {
    /// A snapshot newer than this position may be of a state that is not what the log says.
    pub upto: Option<Gsn>,
    /// The record there could not be applied, or should not have been: a snapshot that has done so is of no use, and the
    /// log is to be searched for what says that it is passed over.
    pub command: Option<Gsn>,
}

impl Beware {
    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let least = |a: Option<Gsn>, b: Option<Gsn>| a.into_iter().chain(b).min();
        Self { upto: least(self.upto, other.upto), command: least(self.command, other.command) }
    }

    /// Whether a snapshot at `gsn` may be used; `has_skipped` says which records its state has passed over.
    pub fn permits(&self, gsn: Gsn, has_skipped: impl Fn(Gsn) -> bool) -> bool {
        self.upto.is_none_or(|upto| gsn <= upto)
            && self.command.is_none_or(|command| gsn <= command || has_skipped(command))
    }

    /// What is left of it once snapshots were sorted out, and the life begins whose second newest one is there: a command
    /// that lies before all that this may fall back on is done with.
    #[must_use]
    pub fn left(&self, second_newest: Option<Gsn>) -> Self {
        let command = self.command.filter(|gsn| second_newest.is_none_or(|second| second <= *gsn));
        Self { upto: None, command }
    }
}

impl fmt::Display for Beware {
    /// As a file holds it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.upto.iter().try_for_each(|gsn| writeln!(f, "upto {gsn}"))?;
        self.command.iter().try_for_each(|gsn| writeln!(f, "command {gsn}"))
    }
}

impl FromStr for Beware {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut this = Self::default();
        for line in text.lines() {
            let (what, gsn) =
                line.split_once(' ').ok_or_else(|| format!("`{line}` is not `WHAT POSITION`"))?;
            let gsn = gsn.trim().parse().map(Gsn).map_err(|_| format!("`{gsn}` is no position"))?;
            match what {
                "upto" => this.upto = Some(gsn),
                "command" => this.command = Some(gsn),
                other => return Err(format!("`{other}` is neither `upto` nor `command`")),
            }
        }
        Ok(this)
    }
}

#[cfg(test)]
mod tests;
