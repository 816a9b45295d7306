//! placeholder
use bytes::Bytes;

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
