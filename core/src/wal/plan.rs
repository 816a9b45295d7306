//! What bytes does one write carry? The plan of a group: its blocks, and where every record goes.

use super::block::{
    BLOCK_HEADER_BYTES, BlockKind, Header, RECORD_HEADER_BYTES, RecordHeader, UNIT, framed, pad_unit,
};
use super::index::write_trailer;
use super::{WalPos, WalRecord};
use crate::machine::Token;

/// How many bytes the blocks of a group take, as records come in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Bytes at which a block is closed.
    target: u64,
    /// Bytes of closed blocks.
    closed: u64,
    /// Content of the open block; 0: none is open.
    open: u64,
}

impl Layout {
    pub fn new(block_bytes: u32) -> Self {
        Self { target: u64::from(block_bytes), closed: 0, open: 0 }
    }

    /// Adds a record; gives the place of its header from the start of the group, and the content of the
    /// block it closed, if any.
    pub fn push(&mut self, len: usize) -> (u64, Option<u64>) {
        let at = self.closed + BLOCK_HEADER_BYTES as u64 + self.open;
        self.open += framed(len);
        if self.open < self.target {
            return (at, None);
        }
        (at, self.close())
    }

    /// Closes the open block; gives its content.
    pub fn close(&mut self) -> Option<u64> {
        let content = std::mem::take(&mut self.open);
        if content > 0 {
            self.closed += pad_unit(BLOCK_HEADER_BYTES as u64 + content);
        }
        (content > 0).then_some(content)
    }

    /// Bytes if nothing more comes. A group without a record has one empty block.
    pub fn total(mut self) -> u64 {
        self.close();
        self.closed.max(UNIT as u64)
    }
}

/// The records of one append, and who waits for them.
#[derive(Debug)]
pub(super) struct Batch {
    /// `None` for the log's own.
    pub token: Option<Token>,
    pub records: Vec<WalRecord>,
    /// Of each record, once planned.
    pub positions: Vec<WalPos>,
}

#[derive(Debug)]
struct BlockPlan {
    records: usize,
    content: u32,
    bytes: u32,
}

/// One write of the log: `len` bytes at `offset` of a segment, all multiples of [`UNIT`]. Hand it back to
/// [`Wal::completed`](super::Wal::completed) once it is written *and synced*.
#[derive(Debug)]
#[must_use = "a group that is planned must be written"]
pub struct GroupPlan {
    /// Which segment.
    pub segment: u32,
    /// Where in it.
    pub offset: u64,
    /// How many bytes.
    pub len: usize,
    /// Segments to be synced as a whole before this group is completed. Only an open's first group may ask for it:
    /// what a dead process wrote there was found, but perhaps never synced.
    pub also_sync: Vec<u32>,
    /// Of the first block; the others follow from it.
    pub(super) first: Header,
    pub(super) batches: Vec<Batch>,
    blocks: Vec<BlockPlan>,
}

impl GroupPlan {
    /// Lays out `batches` from `first`'s place on; `first`'s bytes, content and number of blocks are set here.
    pub(super) fn new(mut first: Header, mut batches: Vec<Batch>, block_bytes: u32) -> Self {
        let mut layout = Layout::new(block_bytes);
        let (mut blocks, mut records) = (Vec::new(), 0);
        let planned = |content: u64, records| BlockPlan {
            records,
            content: content as u32,
            bytes: pad_unit(BLOCK_HEADER_BYTES as u64 + content) as u32,
        };
        for batch in &mut batches {
            for record in &batch.records {
                let (at, closed) = layout.push(record.len());
                let pos = WalPos {
                    segment: first.segment,
                    offset: first.offset + at as u32,
                    len: record.len() as u32,
                };
                batch.positions.push(pos);
                records += 1;
                if let Some(content) = closed {
                    blocks.push(planned(content, std::mem::take(&mut records)));
                }
            }
        }
        if let Some(content) = layout.close() {
            blocks.push(planned(content, records));
        }
        if blocks.is_empty() {
            blocks.push(planned(0, 0));
        }
        if first.kind == BlockKind::Index {
            blocks[0].bytes = first.bytes;
        }
        first.blocks = blocks.len() as u32;
        let len = blocks.iter().map(|b| b.bytes as usize).sum();
        Self {
            segment: first.segment,
            offset: u64::from(first.offset),
            len,
            also_sync: Vec::new(),
            first,
            batches,
            blocks,
        }
    }

    /// How many blocks it has.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Writes all of it into `out`, which has exactly `len` bytes; whatever was there is overwritten.
    pub(super) fn fill(&self, out: &mut [u8]) {
        assert_eq!(out.len(), self.len, "buffer of a group of {} bytes", self.len);
        let mut header = self.first;
        let mut records = self.batches.iter().flat_map(|b| &b.records);
        let mut rest = out;
        for (i, plan) in self.blocks.iter().enumerate() {
            let (block, behind) = rest.split_at_mut(plan.bytes as usize);
            rest = behind;
            header.block = i as u32;
            header.content = plan.content;
            header.bytes = plan.bytes;
            let (mut at, mut crc) = (BLOCK_HEADER_BYTES, 0);
            for record in records.by_ref().take(plan.records) {
                let offset = header.offset + at as u32;
                let end = at + framed(record.len()) as usize;
                write_record(record, header.segment, offset, &mut block[at..end]);
                crc = crc32c::crc32c_append(crc, &block[at..at + RECORD_HEADER_BYTES]);
                at = end;
            }
            assert_eq!(at, BLOCK_HEADER_BYTES + plan.content as usize, "content of block {i}");
            block[at..].fill(0);
            if header.kind == BlockKind::Index {
                write_trailer(header.offset, block);
            }
            header.records_crc = crc;
            header.write(block);
            header.offset += plan.bytes;
            header.sequence += 1;
        }
        assert!(
            rest.is_empty() && records.next().is_none(),
            "a group of {} bytes not laid out whole",
            self.len
        );
    }
}

/// Writes header, data and padding of one record; `out` is exactly that long.
fn write_record(record: &WalRecord, segment: u32, offset: u32, out: &mut [u8]) {
    let mut at = RECORD_HEADER_BYTES;
    for part in &record.data {
        out[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    out[at..].fill(0);
    let header = RecordHeader {
        kind: record.kind,
        in_index: record.in_index,
        aux: record.aux,
        key1: record.key1,
        key2: record.key2,
        len: (at - RECORD_HEADER_BYTES) as u32,
    };
    header.write(segment, offset, &mut out[..at]);
}
