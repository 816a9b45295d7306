//! What does a crash leave on a disk? Segments in memory that tell synced bytes from written ones, for tests
//! and the simulator.

use super::{UNIT, WalSource};
use crate::rng::Rng;
use std::collections::BTreeMap;
use std::io;

/// Bytes that a disk writes all or nothing of.
const SECTOR_BYTES: usize = 512;

/// A disk with one log. What is read is what was written last, synced or not, until [`crash`](Self::crash).
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    segments: BTreeMap<u32, Segment>,
}

#[derive(Clone, Debug, Default)]
struct Segment {
    bytes: Vec<u8>,
    /// Unit number -> what was synced there.
    unsynced: BTreeMap<usize, Vec<u8>>,
}

impl MemoryDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates segment `number`, zero-filled and synced, in place of what was there.
    pub fn create(&mut self, number: u32, bytes: u32) {
        let segment = Segment { bytes: vec![0; bytes as usize], unsynced: BTreeMap::new() };
        self.segments.insert(number, segment);
    }

    /// Deletes a segment, durably.
    pub fn delete(&mut self, number: u32) {
        self.segments.remove(&number);
    }

    /// Writes, without syncing.
    ///
    /// # Panics
    /// When the segment doesn't exist, or the write is unaligned or leaves it.
    pub fn write(&mut self, number: u32, offset: u64, data: &[u8]) {
        let segment = self.segments.get_mut(&number).expect("a write to a segment that exists");
        let start = offset as usize;
        assert!(
            start.is_multiple_of(UNIT)
                && data.len().is_multiple_of(UNIT)
                && start + data.len() <= segment.bytes.len(),
            "write of {} bytes at {offset} of segment {number} of {} bytes",
            data.len(),
            segment.bytes.len()
        );
        for (i, new) in data.chunks(UNIT).enumerate() {
            let at = start + i * UNIT;
            let old = &segment.bytes[at..at + UNIT];
            segment.unsynced.entry(at / UNIT).or_insert_with(|| old.to_vec());
            segment.bytes[at..at + UNIT].copy_from_slice(new);
        }
    }

    /// Makes everything written to the segment durable.
    pub fn sync(&mut self, number: u32) {
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.unsynced.clear();
        }
    }

    /// Makes a range of what was written to the segment durable, as a write with O_DSYNC does.
    pub fn sync_range(&mut self, number: u32, offset: u64, len: usize) {
        let units = offset as usize / UNIT..(offset as usize + len).div_ceil(UNIT);
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.unsynced.retain(|unit, _| !units.contains(unit));
        }
    }

    /// The power goes: each unit that was not synced keeps what was written, keeps what was there before, or
    /// is torn at a sector.
    pub fn crash(&mut self, rng: &mut Rng) {
        for segment in self.segments.values_mut() {
            // One crash in four loses nothing or everything: whole groups must survive or vanish too.
            let mode = rng.below(8);
            for (unit, old) in std::mem::take(&mut segment.unsynced) {
                let now = &mut segment.bytes[unit * UNIT..(unit + 1) * UNIT];
                match if mode < 2 { mode } else { rng.below(3) } {
                    0 => now.copy_from_slice(&old),
                    1 => {}
                    _ => {
                        for (now, old) in now.chunks_mut(SECTOR_BYTES).zip(old.chunks(SECTOR_BYTES)) {
                            if rng.chance(50) {
                                now.copy_from_slice(old);
                            }
                        }
                    }
                }
            }
        }
    }

    /// The bytes of a segment, to be looked at or damaged; resizing it stands for a cut-off file.
    pub fn bytes_mut(&mut self, number: u32) -> Option<&mut Vec<u8>> {
        self.segments.get_mut(&number).map(|s| &mut s.bytes)
    }

    /// Puts a segment there as it is.
    pub fn put(&mut self, number: u32, bytes: Vec<u8>) {
        self.segments.insert(number, Segment { bytes, unsynced: BTreeMap::new() });
    }

    /// Reads a range of a segment as far as it exists, for read-backs.
    pub fn read_range(&self, number: u32, offset: u64, len: usize) -> Option<bytes::Bytes> {
        let segment = &self.segments.get(&number)?.bytes;
        let start = usize::try_from(offset).ok()?.min(segment.len());
        let end = start.saturating_add(len).min(segment.len());
        Some(bytes::Bytes::copy_from_slice(&segment[start..end]))
    }
}

impl WalSource for MemoryDisk {
    fn segments(&self) -> io::Result<Vec<(u32, u64)>> {
        Ok(self.segments.iter().map(|(&n, s)| (n, s.bytes.len() as u64)).collect())
    }

    fn read(&self, segment: u32, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let segment = self.segments.get(&segment).ok_or(io::ErrorKind::NotFound)?;
        let start = usize::try_from(offset).map_or(segment.bytes.len(), |o| o.min(segment.bytes.len()));
        let n = buf.len().min(segment.bytes.len() - start);
        buf[..n].copy_from_slice(&segment.bytes[start..start + n]);
        Ok(n)
    }
}
