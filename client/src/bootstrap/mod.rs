//! How does a node get the state that it lacks? From another node's snapshot, over the network, if the log that would tell
//! it is trimmed, or would take clearly longer to play. What the state is of doesn't matter here: a ZooKeeper, or any replicated
//! structure.
//!
//! - [`Fetch`]: the side that lacks it: who offers one, which one, piece by piece, on the disk and into memory at once.
//! - [`Begun`]: what an earlier life of it had got.
//! - [`Load`]: what makes a state of a snapshot's bytes.
//! - [`Serve`]: the side that has it: a machine of its own, on a thread of its own, with a port of its own (`Giving`, feature
//!   `rt`).
//!
//! ```text
//! node -> leader       Offer{name, addr, gsn}           with each new snapshot, and to each new leader
//! node -> leader       FindOffers                       OffersAre{trim, offers}
//! node -> other node   Hello, SnapshotWanted{bytes: 0}  SnapshotIs{which}
//! node -> other node   SnapshotWanted{which, from, bytes}, several at a time
//!                                                       SnapshotIs{which, from, crc} and the piece
//! ```
//! A file is named by its position, its length and the checksum of all its bytes: whoever has the same can go on where another
//! has stopped. Pieces are checked one by one, the file's own checksums as they come, the state's hash and what lies on the
//! disk at the end; before that nothing of it is used, and the file has no name (invariant ZK-5). Nodes of several structures may
//! use one log: whose an offer is says its name, `STRUCTURE/NODE`, or one without `/` of ZooKeeper nodes.
//!
//! The node is a registered consumer when it asks, so that the log from the trim point it is told of stays until it has let
//! go of it: what follows the snapshot will be there.

mod begun;
mod fetch;
#[cfg(feature = "rt")]
mod giving;
mod pace;
mod serve;

pub use begun::Begun;
pub use fetch::{Act, Fetch, FetchConfig, Load};
#[cfg(feature = "rt")]
pub use giving::Giving;
pub use serve::{Serve, ServeConfig};

use std::fmt;
use zoolog_core::Gsn;

/// Bytes of a piece that may be asked for.
pub const PIECE_BYTES_MAX: u32 = 1 << 20;

/// Bytes of a snapshot that are got in the time that a record of the log takes to be played, whatever is in it: a snapshot is
/// loaded at several hundred megabytes a second, a log is played at about a million records a second.
const RECORD_BYTES: u64 = 256;

/// Whether a snapshot at `gsn`, of so many `bytes` if that is known, is to be got by a node that would play the log from `have` on
/// otherwise.
///
/// How much that is, is estimated: so many bytes per record; and who has nothing plays at least as much as the snapshot is long,
/// for the log from its beginning on has told all that the snapshot says. If that is less than `log_bytes`, the log is played:
/// it takes a moment, and costs no other node anything. If it is more, the snapshot must not be longer.
pub fn cheaper(log_bytes: u64, have: Gsn, gsn: Gsn, bytes: Option<u64>) -> bool {
    let records = gsn.0.saturating_sub(have.0);
    let least = if have == Gsn(0) { bytes.unwrap_or(u64::MAX) } else { 0 };
    let log = records.saturating_mul(RECORD_BYTES).max(least);
    records > 0 && log >= log_bytes && bytes.is_none_or(|bytes| bytes <= log)
}

/// How far a node is with another's snapshot, or was in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Whether it is at it now.
    pub on: bool,
    /// Whose it is: the name of that node.
    pub from: String,
    /// The snapshot's position.
    pub gsn: Gsn,
    /// Bytes of it that have come, those of earlier lives and connections included.
    pub bytes: u64,
    /// Bytes of all of it.
    pub of_bytes: u64,
    /// Bytes per second over this connection so far, loading them included.
    pub bytes_per_s: u64,
    /// What that is limited to; 0: nothing.
    pub limit_bytes_per_s: u64,
    /// How many were got as a whole since the start.
    pub done: u64,
}

impl Progress {
    /// Whose it is, without what could be mistaken for something else where it is printed: another node has said it.
    pub fn peer(&self) -> String {
        self.from.chars().filter(|c| !c.is_control() && !matches!(c, '"' | '\\')).collect()
    }
}

impl fmt::Display for Progress {
    /// A JSON object.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = self.peer();
        let Self { on, gsn, bytes, of_bytes, bytes_per_s, limit_bytes_per_s, done, .. } = self;
        write!(
            f,
            "{{\"on\":{on},\"from\":\"{from}\",\"gsn\":{gsn},\"bytes\":{bytes},\"of_bytes\":{of_bytes},\
             \"bytes_per_s\":{bytes_per_s},\"limit_bytes_per_s\":{limit_bytes_per_s},\"done\":{done}}}"
        )
    }
}
