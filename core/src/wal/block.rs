//! What are the bytes of a block, and of a record in it?
//!
//! ```text
//! block   (96)  magic u32 | version u16 | kind u8 | 0 u8 | cluster u128 | node u64 | incarnation u64 |
//!               sequence u64 | group u64 | synced_through u64 | segment u32 | offset u32 | bytes u32 |
//!               content u32 | block u32 | blocks u32 | records crc u32 | header crc u32
//! content       records, each: len u32 | kind u8 | flags u8 | 0 u16 | aux u32 | crc u32 | key1 u64 |
//!               key2 u64 | data | zeros to 8
//! then          zeros to 4096; an index block has its trailer in the last 16 bytes
//! ```
//! All little-endian. The header's CRC-32C covers the header before it; a record's covers where the record
//! lies (segment, offset of its header), its header without the crc, and its data; the records crc covers the
//! headers of all records. So each byte is summed once, and each record can be checked alone.
//!
//! Magic, version, cluster and the place of the header's crc stay the same in every version, so that an
//! older build can tell a newer one's block from damage.

use super::{WalConfig, WalPos};
use crate::ids::ClusterId;
use bytes::Bytes;

/// Blocks begin at multiples of this, and are as long.
pub const UNIT: usize = 4096;
/// Bytes of a block's header.
pub const BLOCK_HEADER_BYTES: usize = 96;
/// Bytes of a record's header.
pub const RECORD_HEADER_BYTES: usize = 32;
/// The version this build writes, and the newest it reads.
pub const VERSION: u16 = 1;
/// No honest counter gets there; so adding one to what a disk says never overflows.
const NUMBER_MAX: u64 = 1 << 62;
const MAGIC: u32 = 0x4c41_575a; // "ZWAL"
const IN_INDEX: u8 = 1;

/// What a block is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// First of an incarnation; empty.
    Open = 1,
    /// Records of the machine; none after idle, when it only carries `synced_through`.
    Records = 2,
    /// One record, the checkpoint; only at the start of a segment.
    Checkpoint = 3,
    /// One record, the index of the segment; only at its end.
    Index = 4,
}

/// A block's header, its magic, version and checksum being right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it is for.
    pub kind: BlockKind,
    /// Whose it is.
    pub cluster: ClusterId,
    /// Whose it is.
    pub node: u64,
    /// The open of the log that wrote it, from 1.
    pub incarnation: u64,
    /// Number of the block, dense over the log, from 0.
    pub sequence: u64,
    /// The write it was part of, dense over the log, from 1.
    pub group: u64,
    /// Every group up to this was synced before this block was written; 0: none.
    pub synced_through: u64,
    /// Where it lies.
    pub segment: u32,
    /// Where it lies.
    pub offset: u32,
    /// Of the whole block, a multiple of [`UNIT`].
    pub bytes: u32,
    /// Bytes of the records.
    pub content: u32,
    /// Which of its group, from 0.
    pub block: u32,
    /// How many the group has, at least 1.
    pub blocks: u32,
    /// CRC-32C of the records' headers.
    pub records_crc: u32,
}

/// What the first bytes of a block turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// A header, of this log and for this place.
    Header(Header),
    /// Nothing was ever written here.
    Zero,
    /// No header of this place, or damaged.
    Bad,
    /// A good one of this log, for another place: (segment, offset).
    Elsewhere(u32, u32),
    /// Another cluster's.
    Cluster(ClusterId),
    /// Another node's, same cluster.
    Node(u64),
    /// A newer build's.
    Newer(u16),
}

pub(super) fn u16_at(b: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(b[at..at + 2].try_into().expect("2 bytes"))
}
pub(super) fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(b[at..at + 4].try_into().expect("4 bytes"))
}
pub(super) fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(b[at..at + 8].try_into().expect("8 bytes"))
}

/// Rounds up to what records are aligned to.
pub(super) const fn pad8(n: u64) -> u64 {
    (n + 7) & !7
}

/// Rounds up to what blocks are aligned to.
pub(super) const fn pad_unit(n: u64) -> u64 {
    n.next_multiple_of(UNIT as u64)
}

/// Bytes that a record of `len` bytes takes in a block.
pub(super) const fn framed(len: usize) -> u64 {
    RECORD_HEADER_BYTES as u64 + pad8(len as u64)
}

impl Header {
    /// Writes it to the first bytes of `out`.
    pub(super) fn write(&self, out: &mut [u8]) {
        out[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        out[4..6].copy_from_slice(&VERSION.to_le_bytes());
        out[6] = self.kind as u8;
        out[7] = 0;
        out[8..24].copy_from_slice(&self.cluster.0.to_le_bytes());
        let longs = [self.node, self.incarnation, self.sequence, self.group, self.synced_through];
        for (i, v) in longs.into_iter().enumerate() {
            out[24 + 8 * i..32 + 8 * i].copy_from_slice(&v.to_le_bytes());
        }
        let words =
            [self.segment, self.offset, self.bytes, self.content, self.block, self.blocks, self.records_crc];
        for (i, v) in words.into_iter().enumerate() {
            out[64 + 4 * i..68 + 4 * i].copy_from_slice(&v.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out[..92]);
        out[92..96].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads what should be the header of a block at (`segment`, `offset`), from at least
    /// [`BLOCK_HEADER_BYTES`] bytes.
    pub fn read(b: &[u8], segment: u32, offset: u32, cfg: &WalConfig) -> Opened {
        let b = &b[..BLOCK_HEADER_BYTES];
        if b.iter().all(|&x| x == 0) {
            return Opened::Zero;
        }
        if u32_at(b, 0) != MAGIC || crc32c::crc32c(&b[..92]) != u32_at(b, 92) {
            return Opened::Bad;
        }
        let version = u16_at(b, 4);
        if version > VERSION {
            return Opened::Newer(version);
        }
        let cluster = ClusterId(u128::from_le_bytes(b[8..24].try_into().expect("16 bytes")));
        let kind = match b[6] {
            1 => BlockKind::Open,
            2 => BlockKind::Records,
            3 => BlockKind::Checkpoint,
            4 => BlockKind::Index,
            _ => return Opened::Bad,
        };
        let header = Header {
            kind,
            cluster,
            node: u64_at(b, 24),
            incarnation: u64_at(b, 32),
            sequence: u64_at(b, 40),
            group: u64_at(b, 48),
            synced_through: u64_at(b, 56),
            segment: u32_at(b, 64),
            offset: u32_at(b, 68),
            bytes: u32_at(b, 72),
            content: u32_at(b, 76),
            block: u32_at(b, 80),
            blocks: u32_at(b, 84),
            records_crc: u32_at(b, 88),
        };
        if cluster != cfg.cluster {
            return Opened::Cluster(cluster);
        }
        if header.node != cfg.node {
            return Opened::Node(header.node);
        }
        let place = (header.segment, header.offset);
        if place != (segment, offset) {
            return Opened::Elsewhere(place.0, place.1);
        }
        if header.fits() { Opened::Header(header) } else { Opened::Bad }
    }

    /// Whether its numbers make sense.
    fn fits(&self) -> bool {
        let whole = BLOCK_HEADER_BYTES as u64 + u64::from(self.content);
        (self.bytes as usize).is_multiple_of(UNIT)
            && u64::from(self.bytes) >= whole
            && self.block < self.blocks
            && self.group > self.synced_through
            && (1..=NUMBER_MAX).contains(&self.incarnation)
            && self.sequence.max(self.group) <= NUMBER_MAX
    }

    /// One past its last byte.
    pub fn end(&self) -> u64 {
        u64::from(self.offset) + u64::from(self.bytes)
    }

    /// Whether no further block of its group follows.
    pub fn ends_group(&self) -> bool {
        self.block + 1 == self.blocks
    }
}

/// A record's header without its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub kind: u8,
    pub in_index: bool,
    pub aux: u32,
    pub key1: u64,
    pub key2: u64,
    pub len: u32,
}

impl RecordHeader {
    /// Writes the header of a record at `pos`, whose data is in place behind it; `out` is both.
    pub fn write(&self, segment: u32, offset: u32, out: &mut [u8]) {
        out[0..4].copy_from_slice(&self.len.to_le_bytes());
        out[4] = self.kind;
        out[5] = if self.in_index { IN_INDEX } else { 0 };
        out[6..8].fill(0);
        out[8..12].copy_from_slice(&self.aux.to_le_bytes());
        out[16..24].copy_from_slice(&self.key1.to_le_bytes());
        out[24..32].copy_from_slice(&self.key2.to_le_bytes());
        let crc = record_crc(segment, offset, out);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads and checks the record at the front of `b`, which must hold all of it.
    fn check(b: &[u8], segment: u32, offset: u32) -> Result<Self, &'static str> {
        if b.len() < RECORD_HEADER_BYTES {
            return Err("a record's header is cut off");
        }
        let len = u32_at(b, 0);
        let Some(whole) = b.get(..RECORD_HEADER_BYTES + len as usize) else {
            return Err("a record is longer than what holds it");
        };
        if record_crc(segment, offset, whole) != u32_at(b, 12) {
            return Err("a record's checksum is wrong");
        }
        let (kind, in_index, aux) = (b[4], b[5] & IN_INDEX != 0, u32_at(b, 8));
        Ok(Self { kind, in_index, aux, key1: u64_at(b, 16), key2: u64_at(b, 24), len })
    }
}

fn record_crc(segment: u32, offset: u32, whole: &[u8]) -> u32 {
    let mut front = [0u8; 20];
    front[..4].copy_from_slice(&segment.to_le_bytes());
    front[4..8].copy_from_slice(&offset.to_le_bytes());
    front[8..].copy_from_slice(&whole[..12]);
    crc32c::crc32c_append(crc32c::crc32c(&front), &whole[16..])
}

/// A record within a block that was checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordIn {
    pub header: RecordHeader,
    /// Of its header, from the start of the block.
    pub at: usize,
}

impl RecordIn {
    /// Its data, as a part of the block's bytes.
    pub fn data(&self, block: &Bytes) -> Bytes {
        let start = self.at + RECORD_HEADER_BYTES;
        block.slice(start..start + self.header.len as usize)
    }
}

/// Checks the records of a block, of which all bytes are given.
pub(super) fn check_content(header: &Header, block: &[u8]) -> Result<Vec<RecordIn>, &'static str> {
    let end = BLOCK_HEADER_BYTES + header.content as usize;
    if block.len() < end {
        return Err("the block is cut off");
    }
    let (mut at, mut crc, mut records) = (BLOCK_HEADER_BYTES, 0u32, Vec::new());
    while at < end {
        let offset = header.offset + at as u32;
        let record = RecordHeader::check(&block[at..end], header.segment, offset)?;
        crc = crc32c::crc32c_append(crc, &block[at..at + RECORD_HEADER_BYTES]);
        records.push(RecordIn { header: record, at });
        at += framed(record.len as usize) as usize;
    }
    if at != end || crc != header.records_crc {
        return Err("the block's records don't add up");
    }
    Ok(records)
}

/// Finds and checks one record in `bytes`, which were read at [`WalPos::range`]; gives its data, without a
/// copy.
///
/// # Errors
/// When that is not the record: the bytes are damaged, or from elsewhere.
pub fn verify_record(pos: WalPos, bytes: &Bytes) -> Result<Bytes, super::WalError> {
    let (start, _) = pos.range();
    let at = (u64::from(pos.offset) - start) as usize;
    let damaged = |why| super::WalError::Record { segment: pos.segment, offset: pos.offset, why };
    let from = bytes.get(at..).ok_or_else(|| damaged("the read came back short"))?;
    let header = RecordHeader::check(from, pos.segment, pos.offset).map_err(damaged)?;
    if header.len != pos.len {
        return Err(damaged("its length is another"));
    }
    Ok(RecordIn { header, at }.data(bytes))
}
