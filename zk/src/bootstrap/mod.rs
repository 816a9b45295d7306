//! How does a node get the state that it lacks? From another node's snapshot, over the network, if the log that would tell
//! it is trimmed.
//!
//! - [`Fetch`]: the side that lacks it: who offers one, which one, piece by piece, on the disk and into memory at once.
//! - [`Serve`]: the side that has it: a machine of its own, on a thread of its own, with a port of its own.
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
//! disk at the end; before that nothing of it is used, and the file has no name (invariant ZK-5).
//!
//! The node is a registered consumer when it asks, so that the log from the trim point it is told of stays until it has let
//! go of it: what follows the snapshot will be there.

mod fetch;
mod pace;
mod serve;

#[cfg(test)]
mod tests;

pub use fetch::{Act, Fetch, FetchConfig};
pub use serve::{Serve, ServeConfig};

/// Bytes of a piece that may be asked for.
pub const PIECE_BYTES_MAX: u32 = 1 << 20;
