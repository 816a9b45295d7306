//! What lies at a place of the log, and what lies behind it? Reads and checks, decides nothing.

use super::block::{BLOCK_HEADER_BYTES, BlockKind, Header, Opened, RecordIn, UNIT, check_content};
use super::index::{self, TRAILER_BYTES};
use super::table::There;
use super::{SEGMENT_BYTES_MAX, WalConfig, WalError, WalSource};
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// No honest segment number gets there; files that claim one are none of ours.
const SEGMENTS_MAX: u32 = 1 << 31;
/// A unit that was never written.
const ZEROS: [u8; UNIT] = [0; UNIT];
/// Units read at once when looking for blocks.
const SCAN_UNITS: usize = 256;

/// A block whose header and records are good.
#[derive(Clone, Debug)]
pub(super) struct Good {
    pub header: Header,
    pub bytes: Bytes,
    pub records: Vec<RecordIn>,
}

/// What was read at a place.
#[derive(Clone, Debug)]
pub(super) enum Found {
    Good(Good),
    /// The header is good, the content is not.
    Content(Header),
    /// There is no good header of this log.
    Other(Opened),
}

/// The good headers of a segment from some place on.
struct Headers {
    from: u32,
    good: Vec<Header>,
    /// One past the last unit that isn't zero.
    written_to: u32,
}

/// The files, with their sizes.
pub(super) struct Reader<'a> {
    source: &'a dyn WalSource,
    cfg: &'a WalConfig,
    /// Segment -> bytes, in whole units.
    pub sizes: BTreeMap<u32, u32>,
    /// What was looked through already: a log with many damaged places is still read only once.
    scanned: RefCell<BTreeMap<u32, Headers>>,
}

impl<'a> Reader<'a> {
    /// Lists the files.
    pub fn new(source: &'a dyn WalSource, cfg: &'a WalConfig) -> Result<Self, WalError> {
        let listed = source.segments().map_err(|error| WalError::Io { segment: None, offset: 0, error })?;
        let mut sizes = BTreeMap::new();
        for (segment, bytes) in listed.into_iter().filter(|s| (1..SEGMENTS_MAX).contains(&s.0)) {
            let bytes = bytes.min(u64::from(SEGMENT_BYTES_MAX)) as u32;
            if sizes.insert(segment, bytes - bytes % UNIT as u32).is_some() {
                return Err(WalError::Twice { segment });
            }
        }
        Ok(Self { source, cfg, sizes, scanned: RefCell::default() })
    }

    /// Case N: none is missing between others, from segment `floor` on. The first may be: it was released later.
    pub fn check_dense(&self, floor: u32) -> Result<(), WalError> {
        let mut before = None;
        for &segment in self.sizes.range(floor..).map(|(n, _)| n) {
            if let Some(before) = before
                && segment != before + 1
            {
                return Err(WalError::Missing { segment: before + 1 });
            }
            before = Some(segment);
        }
        Ok(())
    }

    /// The first segment from which on none is missing up to that one.
    pub fn dense_from(&self, segment: u32) -> u32 {
        let back = self.sizes.range(..=segment).rev().map(|(n, _)| *n);
        back.zip((0..=segment).rev())
            .take_while(|(there, wanted)| there == wanted)
            .last()
            .map_or(segment, |p| p.0)
    }

    /// Whether a segment behind that one was begun, and its first block can't be read.
    pub fn lost_opening(&self, segment: u32) -> Result<bool, WalError> {
        for &later in self.sizes.range(segment + 1..).map(|(n, _)| n) {
            if !matches!(self.at(later, 0)?, Found::Good(_)) && self.begun(later)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Bytes of a segment, 0 if it isn't there.
    pub fn size(&self, segment: u32) -> u32 {
        self.sizes.get(&segment).copied().unwrap_or(0)
    }

    /// Reads a range that lies within the file's size; shorter only if the file shrank meanwhile.
    fn bytes(&self, segment: u32, offset: u32, len: usize) -> Result<Vec<u8>, WalError> {
        let end = u64::from(offset) + len as u64;
        assert!(end <= u64::from(self.size(segment)), "read to {end} of segment {segment}");
        let mut buf = vec![0; len];
        let read = self.source.read(segment, u64::from(offset), &mut buf);
        let n =
            read.map_err(|error| WalError::Io { segment: Some(segment), offset: u64::from(offset), error })?;
        buf.truncate(n);
        Ok(buf)
    }

    /// What is at a place.
    pub fn at(&self, segment: u32, offset: u32) -> Result<Found, WalError> {
        let left = self.size(segment).saturating_sub(offset) as usize;
        if left < UNIT {
            return Ok(Found::Other(Opened::Zero));
        }
        let mut bytes = self.bytes(segment, offset, UNIT)?;
        if bytes.len() < UNIT {
            return Ok(Found::Other(Opened::Bad));
        }
        let header = match Header::read(&bytes, segment, offset, self.cfg) {
            Opened::Header(header) => header,
            // A unit of which only the header is zero is not untouched.
            Opened::Zero if bytes != ZEROS => return Ok(Found::Other(Opened::Bad)),
            other => return Ok(Found::Other(other)),
        };
        let len = header.bytes as usize;
        if len > left {
            return Ok(Found::Content(header));
        }
        if len > UNIT {
            bytes.extend_from_slice(&self.bytes(segment, offset + UNIT as u32, len - UNIT)?);
        }
        let bytes = Bytes::from(bytes);
        Ok(match check_content(&header, &bytes) {
            Ok(records) if kind_fits(&header, &records) => Found::Good(Good { header, bytes, records }),
            _ => Found::Content(header),
        })
    }

    /// The index block of a segment, if its end has a good one.
    pub fn index(&self, segment: u32) -> Result<Option<Good>, WalError> {
        let size = self.size(segment);
        if (size as usize) < UNIT {
            return Ok(None);
        }
        let end = self.bytes(segment, size - UNIT as u32, UNIT)?;
        let Some(offset) = end.last_chunk::<TRAILER_BYTES>().and_then(|t| index::read_trailer(t)) else {
            return Ok(None);
        };
        if !(offset as usize).is_multiple_of(UNIT) || offset >= size {
            return Ok(None);
        }
        Ok(match self.at(segment, offset)? {
            Found::Good(good)
                if good.header.kind == BlockKind::Index && good.header.end() == u64::from(size) =>
            {
                Some(good)
            }
            _ => None,
        })
    }

    /// Every good header from a place on, in order, to the end of the first segment in which one is
    /// `enough`. Of further segments only those are looked through whose front was written. Also whether
    /// there was anything but zeros.
    pub fn later(
        &self,
        segment: u32,
        offset: u32,
        enough: impl Fn(&Header) -> bool,
    ) -> Result<(Vec<Header>, bool), WalError> {
        let (mut found, mut written) = (Vec::new(), false);
        let mut scanned = self.scanned.borrow_mut();
        for &number in self.sizes.range(segment..).map(|(n, _)| n) {
            let from = if number == segment { offset } else { 0 };
            let known = match scanned.remove(&number) {
                Some(known) if known.from <= from => known,
                _ if number != segment && !self.begun(number)? => continue,
                _ => self.scan(number, from)?,
            };
            let known = scanned.entry(number).or_insert(known);
            let start = known.good.partition_point(|h| h.offset < from);
            found.extend_from_slice(&known.good[start..]);
            written |= known.written_to > from;
            if found.iter().any(&enough) {
                break;
            }
        }
        Ok((found, written))
    }

    /// Whether the front of a segment was ever written: nothing goes behind it before it is synced. Spares
    /// a start from reading all of a segment that only waits to be used.
    fn begun(&self, segment: u32) -> Result<bool, WalError> {
        let len = (self.size(segment) as usize).min(SCAN_UNITS * UNIT);
        Ok(self.bytes(segment, 0, len)?.chunks(UNIT).any(|unit| *unit != ZEROS[..unit.len()]))
    }

    fn scan(&self, segment: u32, from: u32) -> Result<Headers, WalError> {
        let (mut at, size) = (from, self.size(segment));
        let mut headers = Headers { from, good: Vec::new(), written_to: 0 };
        while at < size {
            let chunk = self.bytes(segment, at, ((size - at) as usize).min(SCAN_UNITS * UNIT))?;
            let (units, _) = chunk.as_chunks::<UNIT>();
            if units.is_empty() {
                break;
            }
            for unit in units {
                if unit != &ZEROS {
                    headers.written_to = at + UNIT as u32;
                    if let Opened::Header(h) =
                        Header::read(&unit[..BLOCK_HEADER_BYTES], segment, at, self.cfg)
                    {
                        headers.good.push(h);
                    }
                }
                at += UNIT as u32;
            }
        }
        Ok(headers)
    }
}

/// Whether a block has what its kind is for.
fn kind_fits(header: &Header, records: &[RecordIn]) -> bool {
    match header.kind {
        BlockKind::Open => records.is_empty() && header.blocks == 1,
        BlockKind::Records => true,
        BlockKind::Checkpoint => records.len() == 1 && header.blocks == 1 && header.offset == 0,
        BlockKind::Index => records.len() == 1 && header.blocks == 1,
    }
}

/// Whether `h` is the block behind `prev`, or how not. Behind `None` belongs the first block of a log.
pub(super) fn relation(prev: Option<&Header>, h: &Header) -> There {
    let Some(p) = prev else {
        let first = h.kind == BlockKind::Open && h.sequence == 0 && h.group == 1;
        return if first { There::Follows } else { There::Wrong };
    };
    if h.incarnation < p.incarnation {
        return There::Stale;
    }
    let next_group = h.block == 0 && p.group.checked_add(1) == Some(h.group);
    let in_order = if h.incarnation > p.incarnation {
        next_group && h.kind == BlockKind::Open
    } else if p.ends_group() {
        next_group && h.kind != BlockKind::Open
    } else {
        h.group == p.group && h.blocks == p.blocks && h.block == p.block + 1 && h.kind == p.kind
    };
    if in_order && p.sequence.checked_add(1) == Some(h.sequence) { There::Follows } else { There::Wrong }
}

/// A block that `h` follows: what recovery goes on from when it can't know the real one.
pub(super) fn predecessor(h: &Header) -> Header {
    let (opens, inside) = (h.kind == BlockKind::Open, h.block > 0);
    Header {
        kind: if inside { h.kind } else { BlockKind::Records },
        incarnation: h.incarnation - u64::from(opens),
        sequence: h.sequence.saturating_sub(1),
        group: if inside { h.group } else { h.group - 1 },
        block: if inside { h.block - 1 } else { 0 },
        blocks: if inside { h.blocks } else { 1 },
        ..*h
    }
}
