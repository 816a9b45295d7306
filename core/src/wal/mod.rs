//! How does a node remember? The one write-ahead log, of slots and of orderers, as pure code: it says what
//! to write where, and what bytes found on a disk mean. Two shells do the I/O: the executors' and the
//! simulator's.
//!
//! # A shell's life
//! ```text
//! let (recovered, mut wal) = recover(&source, &cfg)?;        // before anything else, synchronously
//! loop {
//!     wal.wants_segment()  -> create it: reading as zeros, file and directory synced; wal.segment_ready(..)
//!     wal.group()          -> Some(plan): wal.fill(&plan, buffer); write it at (plan.segment, plan.offset);
//!                             fdatasync (of plan.also_sync too, if any);
//!                             for (token, positions) in wal.completed(plan): Input::Persisted
//!     // between turns, with the machine's outputs drained into wal.append(..):
//!     wal.wants_checkpoint() -> wal.start_segment(machine.checkpoint())
//!     // a second after the last completion, with nothing to do:
//!     wal.idle_block()     -> Some(plan): as above
//!     // Output::Release{segment}:  for n in wal.release(segment): delete it, in this order; after each completed
//!     //                            group once more, with wal.release(0)
//!     // Output::Load{pos}:         read pos.range(), then verify_record(pos, bytes)
//! }
//! ```
//! The first group is the log's own: a block with this open's incarnation. The machine is made from
//! [`Recovered`], but fed only once that group is completed. A write or sync that fails ends the log: it is
//! never retried.
//!
//! # Layout
//! A log is numbered **segments** ([`segment_file_name`]), each a row of **blocks** at multiples of
//! [`UNIT`] bytes ([`block`]). What one write and one sync carry is a **group** of blocks. A block holds
//! whole **records**, each with its own checksum, so that one can be read back alone. A segment opens with
//! the machine's checkpoint and ends, when sealed, with the index of its records.
//!
//! # The rule of room
//! An append never fails for want of room:
//! 1. From three quarters on (index included) the log asks for a checkpoint; there is time until it comes.
//! 2. A group is only put where the segment's index still fits behind it, so that sealing always succeeds.
//! 3. What doesn't fit any more is not split: the segment is sealed without waiting for the checkpoint and
//!    the next one begins *without* one. Recovery then starts at an older checkpoint and reads both.
//! 4. A log with segments to give back rolls before its time: only what a later checkpoint says is not needed may go,
//!    and an idle log, or one on a full disk, would never get there. It does so only if the next segment is there.
//! 5. A segment is made as large as what must go into it first: [`Wal::wants_segment`] may name the same
//!    number again with more bytes.
//!
//! # Files
//! [`block`] and `index` are the bytes; [`writer`] and [`plan`] write them; [`table`] judges what is found,
//! `scan` finds it, [`recover`](mod@recover) goes through a log. [`audit`](mod@audit) reads all of it, for people. [`fs`]
//! reads a directory, [`memory`] is a disk that can crash.

pub mod audit;
pub mod block;
pub mod error;
pub mod fs;
mod index;
pub mod memory;
pub mod plan;
pub mod recover;
mod scan;
pub mod scrub;
pub mod table;
#[cfg(test)]
mod tests;
pub mod writer;

pub use audit::{Audit, Seen, Segment, audit};
pub use block::{UNIT, verify_record};
pub use error::WalError;
pub use fs::FsSource;
pub use memory::MemoryDisk;
pub use plan::GroupPlan;
pub use recover::{Recovered, recover};
pub use table::Case;
pub use writer::Wal;

use crate::ids::ClusterId;
use bytes::Bytes;
use std::io;

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WalPos {
    /// Segment number.
    pub segment: u32,
    /// Byte offset of the record's header within the segment.
    pub offset: u32,
    /// Bytes of the record's data.
    pub len: u32,
}

impl WalPos {
    /// (offset, bytes) to read of the segment, both multiples of [`UNIT`], for [`verify_record`].
    pub fn range(&self) -> (u64, usize) {
        let unit = UNIT as u64;
        let start = u64::from(self.offset) / unit * unit;
        let end = u64::from(self.offset) + block::RECORD_HEADER_BYTES as u64 + u64::from(self.len);
        (start, (end.div_ceil(unit) * unit - start) as usize)
    }
}

/// A record to be appended: `key1`, `key2`, `aux` and the position go to the segment's index.
#[derive(Clone, Debug)]
pub struct WalRecord {
    /// The owner's own kind.
    pub kind: u8,
    /// Whether the index of a sealed segment repeats the data (for small records only).
    pub in_index: bool,
    /// For the owner.
    pub aux: u32,
    /// For the owner.
    pub key1: u64,
    /// For the owner.
    pub key2: u64,
    /// The data, in parts that are written one behind the other.
    pub data: Vec<Bytes>,
}

impl WalRecord {
    /// Bytes of the data.
    pub fn len(&self) -> usize {
        self.data.iter().map(Bytes::len).sum()
    }

    /// Whether there is no data.
    pub fn is_empty(&self) -> bool {
        self.data.iter().all(Bytes::is_empty)
    }
}

/// A record that was found again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalEntry {
    /// As appended.
    pub kind: u8,
    /// As appended.
    pub aux: u32,
    /// As appended.
    pub key1: u64,
    /// As appended.
    pub key2: u64,
    /// Where it lies.
    pub pos: WalPos,
    /// The data, checked: always there behind the checkpoint, in sealed segments for `in_index` records only.
    pub data: Option<Bytes>,
}

/// What the log does when it finds damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDamage {
    /// [`recover()`] fails: an orderer must not go on with a hole in what it promised.
    Refuse,
    /// [`recover()`] lists it: a slot has it repaired by a peer.
    Report,
}

/// Bytes that were durable and can't be read any more. The records in them are lost here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub segment: u32,
    /// First byte.
    pub offset: u32,
    /// How many bytes; 0 if it is the rest of a file that is too short.
    pub bytes: u32,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Whose log it is, and how large its parts are.
#[derive(Clone, Debug)]
pub struct WalConfig {
    /// The cluster; another one's files are refused.
    pub cluster: ClusterId,
    /// The node (and slot); another one's files are refused.
    pub node: u64,
    /// Bytes of segment 1, small so that a first start is quick. A multiple of [`UNIT`].
    pub first_segment_bytes: u32,
    /// Bytes of later segments, unless more is needed. A multiple of [`UNIT`].
    pub segment_bytes: u32,
    /// Bytes at which a block is closed; one record may make it longer.
    pub block_bytes: u32,
    /// Bytes of a group beyond which nothing more is taken in; one append may make it longer.
    pub group_bytes: u32,
    /// What to do about damage.
    pub on_damage: OnDamage,
}

impl WalConfig {
    /// The sizes that nodes use.
    pub fn new(cluster: ClusterId, node: u64, on_damage: OnDamage) -> Self {
        Self {
            cluster,
            node,
            first_segment_bytes: 8 << 20,
            segment_bytes: 64 << 20,
            block_bytes: 1 << 20,
            group_bytes: 16 << 20,
            on_damage,
        }
    }

    fn check(&self) {
        for bytes in [self.first_segment_bytes, self.segment_bytes] {
            assert!(
                (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&bytes) && bytes.is_multiple_of(UNIT as u32),
                "segments of {bytes} bytes: not a multiple of {UNIT} from {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX}"
            );
        }
        assert!(self.group_bytes <= APPEND_BYTES_MAX, "groups of {} bytes", self.group_bytes);
    }
}

/// Bytes of the smallest segment: room for the first block, a record and the index.
pub const SEGMENT_BYTES_MIN: u32 = 4 * UNIT as u32;
/// Bytes of the largest: offsets have 32 bits.
pub const SEGMENT_BYTES_MAX: u32 = 3 << 30;
/// Bytes of what one append may carry, and of a checkpoint: machines are bounded far below it.
pub const APPEND_BYTES_MAX: u32 = 1 << 30;

// Twice the largest checkpoint, its headers and an index must fit the largest segment.
const _: () = assert!(2 * (APPEND_BYTES_MAX as u64 + (1 << 20)) <= SEGMENT_BYTES_MAX as u64);

/// Where a log's bytes are read from at its start. Every answer is bounded by the files' real sizes.
pub trait WalSource {
    /// (number, bytes of the file) of every segment there is, in any order.
    ///
    /// # Errors
    /// When they can't be listed.
    fn segments(&self) -> io::Result<Vec<(u32, u64)>>;

    /// Reads into `buf` from `offset` of a segment; how much it read, which is less than asked for at the
    /// end of the file only.
    ///
    /// # Errors
    /// When it can't be read.
    fn read(&self, segment: u32, offset: u64, buf: &mut [u8]) -> io::Result<usize>;
}

/// What a segment's file is called.
pub fn segment_file_name(number: u32) -> String {
    format!("wal-{number:010}.seg")
}

/// The segment whose file has that name, if one has.
pub fn segment_number(file_name: &str) -> Option<u32> {
    let digits = file_name.strip_prefix("wal-")?.strip_suffix(".seg")?;
    let number = digits.parse().ok()?;
    (segment_file_name(number) == file_name).then_some(number)
}
