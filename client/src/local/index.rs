//! Where does which position lie? Every batch that is kept, in order: on the disk, the newest in memory as well.

use super::marks::{self, BASE, BATCH, Checkpoint, SEAL, TRIM};
use bytes::Bytes;
use std::collections::VecDeque;
use zoolog_core::Gsn;
use zoolog_core::batch::PlacedBatch;
use zoolog_core::wal::{Recovered, WalEntry, WalPos};

/// One batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Position of its first record.
    pub first: Gsn,
    /// How many it has.
    pub count: u32,
    /// Where it lies, once it is durable.
    pub pos: Option<WalPos>,
}

impl Entry {
    /// One past its last record.
    pub fn end(&self) -> Gsn {
        self.first.plus(u64::from(self.count))
    }
}

/// What an embedded log holds. Positions from `trim` to `tail` are in it without a hole; the first batch may begin
/// before `trim`. 32 bytes a batch: bounded by what is kept of the log.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// As a segment that begins now would say it.
    pub point: Checkpoint,
    /// Where the log goes on, once it is decided that it ends.
    pub successor: Option<String>,
    entries: VecDeque<Entry>,
    /// How many of `entries` are durable.
    durable: usize,
    /// The newest batches, up to the tail.
    cache: VecDeque<PlacedBatch>,
    cache_bytes: usize,
}

impl Index {
    /// Of what a log held; its base is `base` if it held nothing.
    ///
    /// # Errors
    /// Text for a person, if it isn't what such a log holds.
    pub fn recover(recovered: &Recovered, base: Gsn) -> Result<Self, String> {
        let fresh = Checkpoint { base, trim: base, tail: base, last: 0 };
        let stored = recovered.checkpoint.as_deref().filter(|b| !b.is_empty());
        let (point, successor) = stored.map_or(Ok((fresh, None)), Checkpoint::decode)?;
        let mut index = Self { point, successor, ..Self::default() };
        let entry = |e: &WalEntry| Entry { first: Gsn(e.key1), count: e.aux, pos: Some(e.pos) };
        for e in recovered.sealed.iter().filter(|e| e.kind == BATCH).map(entry) {
            if index.entries.back().is_some_and(|last| last.end() != e.first) {
                return Err(format!("batches are missing before position {}", e.first));
            }
            index.entries.push_back(e);
        }
        if index.entries.back().is_some_and(|e| e.end() != point.tail) {
            return Err(format!("batches are missing before position {}", point.tail));
        }
        for e in &recovered.tail {
            match e.kind {
                BATCH if index.successor.is_some() => {
                    return Err(format!("there is a batch at {}, behind the log's end", e.key1));
                }
                SEAL if Gsn(e.key1) == index.point.tail => {
                    let bytes = e.data.as_ref().ok_or("the log's end came without its bytes")?;
                    index.successor = Some(marks::successor(bytes)?);
                }
                BATCH => {
                    let mut bytes = e.data.clone().ok_or("a batch came without its bytes")?;
                    let placed = check(&mut bytes, entry(e).first)?;
                    if placed.placement.prev != index.point.last || entry(e).first != index.point.tail {
                        return Err(format!("the batch at {} doesn't follow the one before", e.key1));
                    }
                    index.entries.push_back(entry(e));
                    index.point.tail = entry(e).end();
                    index.point.last = placed.placement.crc;
                }
                TRIM => index.point.trim = index.point.trim.max(Gsn(e.key1)),
                BASE => {
                    let at = Gsn(e.key1);
                    index.point = Checkpoint { base: at, trim: at, tail: at, last: 0 };
                }
                kind => return Err(format!("a record of kind {kind} is not one of an embedded log")),
            }
        }
        index.durable = index.entries.len();
        index.forget();
        let first = index.entries.front().map_or(index.point.tail, |e| e.first);
        if first > index.point.trim || index.point.trim > index.point.tail {
            return Err(format!("it begins at {first}, but should at {}", index.point.trim));
        }
        Ok(index)
    }

    /// One past the last position that is durable.
    pub fn durable(&self) -> Gsn {
        match self.durable {
            0 => self.entries.front().map_or(self.point.tail, |e| e.first),
            n => self.entries[n - 1].end(),
        }
    }

    /// Puts a batch behind all others; it is not durable yet.
    pub fn push(&mut self, placed: PlacedBatch) {
        let entry = Entry { first: self.point.tail, count: placed.batch.count(), pos: None };
        assert_eq!(Gsn(placed.placement.first_lsn.0), entry.first, "batches lie densely");
        (self.point.tail, self.point.last) = (entry.end(), placed.placement.crc);
        self.entries.push_back(entry);
        self.cache_bytes += placed.encoded_len();
        self.cache.push_back(placed);
    }

    /// The oldest batch that was not durable is, and lies there.
    pub fn persisted(&mut self, pos: WalPos) -> Entry {
        let entry = &mut self.entries[self.durable];
        entry.pos = Some(pos);
        self.durable += 1;
        *entry
    }

    /// Keeps so many bytes of durable batches in memory.
    pub fn shrink(&mut self, bytes: usize) {
        let pending = self.entries.len() - self.durable;
        while self.cache_bytes > bytes && self.cache.len() > pending {
            let placed = self.cache.pop_front().expect("more than none");
            self.cache_bytes -= placed.encoded_len();
        }
    }

    /// The durable batch in which that position is, and its bytes if they are in memory.
    pub fn find(&self, gsn: Gsn) -> Option<(Entry, Option<&PlacedBatch>)> {
        let i = self.entries.partition_point(|e| e.end() <= gsn);
        let entry = self.entries.get(i).filter(|e| i < self.durable && e.first <= gsn)?;
        let cached = (i + self.cache.len()).checked_sub(self.entries.len()).and_then(|i| self.cache.get(i));
        Some((*entry, cached))
    }

    /// What lies before that position is trimmed. The first segment that is still needed, unless no batch is kept.
    pub fn trim(&mut self, to: Gsn) -> Option<u32> {
        self.point.trim = self.point.trim.max(to);
        self.forget();
        self.first_segment()
    }

    /// The first segment in which a batch lies that is kept.
    pub fn first_segment(&self) -> Option<u32> {
        self.entries.front().and_then(|e| e.pos).map(|pos| pos.segment)
    }

    /// The segment in which the batch with that position lies.
    pub fn segment_of(&self, gsn: Gsn) -> Option<u32> {
        self.find(gsn).and_then(|(e, _)| e.pos).map(|pos| pos.segment)
    }

    fn forget(&mut self) {
        while self.durable > 0 && self.entries.front().is_some_and(|e| e.end() <= self.point.trim) {
            if self.cache.len() == self.entries.len() {
                let placed = self.cache.pop_front().expect("as many as entries");
                self.cache_bytes -= placed.encoded_len();
            }
            self.entries.pop_front();
            self.durable -= 1;
        }
    }
}

/// The batch in a record, which must be the one at `first`.
pub(super) fn check(bytes: &mut Bytes, first: Gsn) -> Result<PlacedBatch, String> {
    let placed = PlacedBatch::check_next(bytes).map_err(|e| format!("the batch at {first}: {e}"))?;
    match bytes.is_empty() && placed.placement.first_lsn.0 == first.0 {
        true => Ok(placed),
        false => Err(format!("the record of the batch at {first} holds another")),
    }
}
