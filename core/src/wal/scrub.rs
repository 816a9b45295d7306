//! Is a finished segment still what was written? Checks one piece by piece, every block of it, and says where it is
//! not; what that means for the owner's records the owner knows. Reads nothing itself, decides nothing.
//!
//! The index at the end says up to where there are blocks. A segment without a readable one (it was left full and not
//! sealed, or the index is what is damaged) is checked up to the first place behind which there is no block.

use super::block::{BlockKind, Header, Opened, UNIT, check_content, u64_at};
use super::index::{self, TRAILER_BYTES};
use super::{Damage, OnDamage, WalConfig};
use crate::ids::ClusterId;

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Give [`SegmentCheck::take`] this range; less if the file ends before.
    Read {
        /// First byte.
        offset: u32,
        /// How many, a multiple of [`UNIT`].
        bytes: u32,
    },
    /// All is checked.
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// The end of the file says where the index is.
    Trailer,
    /// The index, from there.
    Index(u32),
    /// The blocks, from there.
    Blocks(u32),
    Done,
}

/// The check of one segment.
#[derive(Debug)]
pub struct SegmentCheck {
    segment: u32,
    /// Of the file.
    size: u32,
    /// Bytes read at a time, unless a block is longer.
    window: u32,
    /// What is read next, beyond the window.
    need: u32,
    at: At,
    /// Where the blocks end, if the index says so.
    end: Option<u32>,
    /// Damage that ends where the next good block begins, if one follows.
    bad: Option<(u32, &'static str)>,
    found: Vec<Damage>,
}

impl SegmentCheck {
    /// Begins to check a segment of `size` bytes, in pieces of about `window` bytes.
    pub fn new(segment: u32, size: u32, window: u32) -> Self {
        let window = window.max(UNIT as u32) / UNIT as u32 * UNIT as u32;
        let size = size / UNIT as u32 * UNIT as u32;
        let at = if size == 0 { At::Done } else { At::Trailer };
        Self { segment, size, window, need: 0, at, end: None, bad: None, found: Vec::new() }
    }

    /// What to do next.
    pub fn step(&self) -> Step {
        let read = |offset: u32, bytes: u32| Step::Read { offset, bytes: bytes.min(self.size - offset) };
        match self.at {
            At::Trailer => read(self.size - UNIT as u32, UNIT as u32),
            At::Index(offset) => read(offset, self.size),
            At::Blocks(offset) => read(offset, self.window.max(self.need)),
            At::Done => Step::Done,
        }
    }

    /// Takes what the last step asked for.
    pub fn take(&mut self, bytes: &[u8]) {
        match self.at {
            At::Trailer => {
                let offset = bytes.last_chunk::<TRAILER_BYTES>().and_then(|t| index::read_trailer(t));
                let fits = |o: &u32| (*o as usize).is_multiple_of(UNIT) && *o < self.size;
                self.at = match offset.filter(fits) {
                    Some(offset) => At::Index(offset),
                    None => {
                        // Zeros: never sealed. Anything else was a trailer once, or can't be read.
                        if bytes.len() < UNIT || bytes.iter().any(|b| *b != 0) {
                            self.report(self.size - UNIT as u32, self.size, "the index's end");
                        }
                        At::Blocks(0)
                    }
                };
            }
            At::Index(offset) => {
                let index = header(bytes, self.segment, offset)
                    .filter(|h| h.kind == BlockKind::Index && h.bytes as usize == bytes.len());
                let end = index.and_then(|h| {
                    let records = check_content(&h, bytes).ok()?;
                    u32::try_from(records.first()?.header.key1).ok()
                });
                match end.filter(|e| *e <= offset) {
                    Some(end) => self.end = Some(end),
                    None => self.report(offset, self.size, "the index"),
                }
                self.at = At::Blocks(0);
            }
            At::Blocks(offset) => self.blocks(offset, bytes),
            At::Done => {}
        }
    }

    /// What is damaged, as far as it was checked; each place once.
    pub fn found(&mut self) -> Vec<Damage> {
        std::mem::take(&mut self.found)
    }

    fn blocks(&mut self, offset: u32, bytes: &[u8]) {
        let limit = self.end.unwrap_or(self.size);
        let (mut at, had) = (0, bytes.len());
        self.need = 0;
        while offset + (at as u32) < limit {
            let here = offset + at as u32;
            let Some(unit) = bytes.get(at..at + UNIT) else {
                if at == 0 {
                    // The file ends, or could not be read, where its length says there is more.
                    self.bad = self.bad.or(Some((here, "nothing can be read")));
                    return self.finish(limit);
                }
                self.at = At::Blocks(here);
                return;
            };
            let Some(h) = header(unit, self.segment, here) else {
                if self.end.is_none() && unit.iter().all(|b| *b == 0) && self.bad.is_none() {
                    return self.finish(here);
                }
                self.bad = self.bad.or(Some((here, "a block's header")));
                at += UNIT;
                continue;
            };
            let len = h.bytes as usize;
            if at + len > had && at + len <= (self.size - offset) as usize {
                if at == 0 && had < len && self.window.max(had as u32) as usize >= len {
                    self.bad = self.bad.or(Some((here, "nothing can be read")));
                    return self.finish(limit);
                }
                (self.at, self.need) = (At::Blocks(here), h.bytes);
                return;
            }
            if let Some((from, why)) = self.bad.take() {
                self.report(from, here, why);
            }
            match bytes.get(at..at + len).map(|block| check_content(&h, block)) {
                Some(Ok(_)) => {}
                _ => self.report(here, here + h.bytes, "a block's content"),
            }
            at += len;
        }
        self.finish(limit);
    }

    /// What is bad up to the end is damage only if the index says that there were blocks.
    fn finish(&mut self, limit: u32) {
        if let Some((from, why)) = self.bad.take().filter(|_| self.end.is_some()) {
            self.report(from, limit, why);
        }
        self.at = At::Done;
    }

    fn report(&mut self, from: u32, to: u32, why: &'static str) {
        self.found.push(Damage { segment: self.segment, offset: from, bytes: to.saturating_sub(from), why });
    }
}

/// The header at the front of `bytes`, whoever's log it is: the start has seen to that.
fn header(bytes: &[u8], segment: u32, offset: u32) -> Option<Header> {
    if bytes.len() < UNIT {
        return None;
    }
    let cluster = ClusterId(u128::from_le_bytes(bytes[8..24].try_into().ok()?));
    let cfg = WalConfig::new(cluster, u64_at(bytes, 24), OnDamage::Report);
    match Header::read(bytes, segment, offset, &cfg) {
        Opened::Header(h) => Some(h),
        _ => None,
    }
}
