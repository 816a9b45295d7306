//! What does an embedded log write to its disk? Batches, where it begins once it is trimmed; and the checkpoint that
//! opens a segment.

use bytes::Bytes;
use zoolog_core::Gsn;
use zoolog_core::batch::PlacedBatch;
use zoolog_core::wal::WalRecord;

/// A placed batch: key1 its first position, key2 0, aux its number of records.
pub(super) const BATCH: u8 = 1;
/// The log begins at key1; what lies before is forgotten.
pub(super) const TRIM: u8 = 2;
/// A log that begins behind another: key1 its first position. The first record of all, if there is one.
pub(super) const BASE: u8 = 3;

/// The record of a batch.
pub(super) fn batch_record(placed: &PlacedBatch) -> WalRecord {
    WalRecord {
        kind: BATCH,
        in_index: false,
        aux: placed.batch.count(),
        key1: placed.placement.first_lsn.0,
        key2: 0,
        data: vec![Bytes::copy_from_slice(&placed.placement.encode()), placed.batch.bytes().clone()],
    }
}

/// The record that only says where something is.
pub(super) fn mark(kind: u8, at: Gsn) -> WalRecord {
    WalRecord { kind, in_index: false, aux: 0, key1: at.0, key2: 0, data: Vec::new() }
}

/// The version of [`Checkpoint`] that this build writes.
const VERSION: u32 = 1;
/// Bytes of one.
const BYTES: usize = 40;

/// All that can't be read off the indexes of older segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// First position of the log's life.
    pub base: Gsn,
    /// First position that is kept.
    pub trim: Gsn,
    /// First position not assigned.
    pub tail: Gsn,
    /// Checksum of the newest batch's placement.
    pub last: u32,
}

impl Checkpoint {
    /// Its bytes: version, `last`, base, trim, tail, and zeros to 40.
    pub fn encode(&self) -> Bytes {
        let mut b = Vec::with_capacity(BYTES);
        b.extend_from_slice(&VERSION.to_le_bytes());
        b.extend_from_slice(&self.last.to_le_bytes());
        [self.base, self.trim, self.tail].iter().for_each(|gsn| b.extend_from_slice(&gsn.0.to_le_bytes()));
        b.resize(BYTES, 0);
        b.into()
    }

    /// What such bytes say.
    ///
    /// # Errors
    /// Text for a person: they are of another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let u32_at = |at: usize| bytes.get(at..at + 4).map(|b| u32::from_le_bytes(b.try_into().expect("4")));
        let gsn_at = |at: usize| Gsn(u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes")));
        match u32_at(0) {
            Some(VERSION) if bytes.len() == BYTES => {}
            Some(v) if v > VERSION => {
                return Err(format!(
                    "its checkpoint is of version {v}: written by a newer build; use that one"
                ));
            }
            _ => return Err("its checkpoint is not one of an embedded log".into()),
        }
        let last = u32_at(4).expect("long enough");
        Ok(Self { base: gsn_at(8), trim: gsn_at(16), tail: gsn_at(24), last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_comes_back_and_another_versions_is_refused() {
        let point = Checkpoint { base: Gsn(3), trim: Gsn(5), tail: Gsn(u64::MAX), last: 7 };
        let bytes = point.encode();
        assert_eq!(Checkpoint::decode(&bytes), Ok(point));
        (0..BYTES).for_each(|n| assert!(Checkpoint::decode(&bytes[..n]).is_err(), "{n}"));
        let mut newer = bytes.to_vec();
        newer[0] = 2;
        assert!(Checkpoint::decode(&newer).unwrap_err().contains("newer"));
    }
}
