//! What does a sealed segment say about its records, so that a restart need not read them all?
//!
//! ```text
//! entries   key1 u64 | key2 u64 | offset u32 | len u32 | aux u32 | kind u8 | flags u8 | 0 u16
//!           and, with flag 1, the record's data, zeros to 8
//! trailer   (16, the last bytes of the file)  magic u32 | offset of the index block u32 | 0 u64
//! ```
//! The entries are the data of the one record of an index block, which ends where the segment ends.
//! The trailer is only a pointer: the block's own checksums say whether it is the index.

use super::block::{BLOCK_HEADER_BYTES, RECORD_HEADER_BYTES, pad_unit, pad8, u32_at, u64_at};
use super::{WalEntry, WalPos};
use bytes::{BufMut, Bytes, BytesMut};

const ENTRY_BYTES: usize = 32;
/// Bytes of the trailer.
pub(super) const TRAILER_BYTES: usize = 16;
const TRAILER_MAGIC: u32 = 0x5849_575a; // "ZWIX"
const WITH_DATA: u8 = 1;

/// Bytes that the index needs for one more record.
pub(super) fn entry_bytes(in_index: bool, len: usize) -> u64 {
    ENTRY_BYTES as u64 + if in_index { pad8(len as u64) } else { 0 }
}

/// Bytes of the index block around `entries` bytes of entries.
pub(super) fn block_bytes(entries: u64) -> u64 {
    pad_unit(BLOCK_HEADER_BYTES as u64 + RECORD_HEADER_BYTES as u64 + pad8(entries) + TRAILER_BYTES as u64)
}

/// The index of a segment that is being written.
#[derive(Debug, Default)]
pub(super) struct IndexBuilder {
    entries: BytesMut,
    count: u32,
}

impl IndexBuilder {
    /// Bytes of the entries so far.
    pub fn bytes(&self) -> u64 {
        self.entries.len() as u64
    }

    /// How many records it has.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Adds a record. `data` if the index repeats it, in parts.
    pub fn push(&mut self, kind: u8, aux: u32, key1: u64, key2: u64, pos: WalPos, data: Option<&[Bytes]>) {
        let mut entry = [0u8; ENTRY_BYTES];
        entry[..8].copy_from_slice(&key1.to_le_bytes());
        entry[8..16].copy_from_slice(&key2.to_le_bytes());
        entry[16..20].copy_from_slice(&pos.offset.to_le_bytes());
        entry[20..24].copy_from_slice(&pos.len.to_le_bytes());
        entry[24..28].copy_from_slice(&aux.to_le_bytes());
        entry[28] = kind;
        entry[29] = if data.is_some() { WITH_DATA } else { 0 };
        self.entries.put_slice(&entry);
        for part in data.unwrap_or_default() {
            self.entries.put_slice(part);
        }
        let padding = pad8(self.bytes()) - self.bytes();
        self.entries.put_bytes(0, padding as usize);
        self.count += 1;
    }

    /// The entries, for the record of the index block.
    pub fn finish(self) -> Bytes {
        self.entries.freeze()
    }
}

/// Reads the entries of `segment`'s index, checked bytes.
///
/// # Errors
/// When they don't add up: another build's mistake, since the checksums were right.
pub(super) fn read_entries(
    segment: u32,
    entries: &Bytes,
    out: &mut Vec<WalEntry>,
) -> Result<(), &'static str> {
    let (mut at, start) = (0usize, out.len());
    while at < entries.len() {
        let Some(e) = entries.get(at..at + ENTRY_BYTES) else {
            out.truncate(start);
            return Err("the index's entries don't add up");
        };
        let pos = WalPos { segment, offset: u32_at(e, 16), len: u32_at(e, 20) };
        at += ENTRY_BYTES;
        let data = if e[29] & WITH_DATA != 0 {
            let end = at + pos.len as usize;
            if end > entries.len() {
                out.truncate(start);
                return Err("the index's entries don't add up");
            }
            let data = entries.slice(at..end);
            at += pad8(u64::from(pos.len)) as usize;
            Some(data)
        } else {
            None
        };
        out.push(WalEntry {
            kind: e[28],
            aux: u32_at(e, 24),
            key1: u64_at(e, 0),
            key2: u64_at(e, 8),
            pos,
            data,
        });
    }
    Ok(())
}

/// Writes the trailer to the last bytes of a segment, of which `out` is the end.
pub(super) fn write_trailer(index_offset: u32, out: &mut [u8]) {
    let at = out.len() - TRAILER_BYTES;
    out[at..at + 4].copy_from_slice(&TRAILER_MAGIC.to_le_bytes());
    out[at + 4..at + 8].copy_from_slice(&index_offset.to_le_bytes());
    out[at + 8..].fill(0);
}

/// Where the index block of the segment begins whose last bytes are `end`, if they say so.
pub(super) fn read_trailer(end: &[u8]) -> Option<u32> {
    let t = &end[end.len().checked_sub(TRAILER_BYTES)?..];
    (u32_at(t, 0) == TRAILER_MAGIC && u64_at(t, 8) == 0).then(|| u32_at(t, 4))
}
