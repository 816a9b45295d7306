//! What does an embedded log write to its disk? Batches, where it begins once it is trimmed; and the checkpoint that
//! opens a segment.

use crate::SUCCESSOR_BYTES_MAX;
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
/// The log has ended: key1 its tail, the data where it goes on. No batch follows.
pub(super) const SEAL: u8 = 4;

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

/// The record that ends the log.
pub(super) fn seal_record(tail: Gsn, successor: &str) -> WalRecord {
    WalRecord { data: vec![Bytes::copy_from_slice(successor.as_bytes())], ..mark(SEAL, tail) }
}

/// Where the log goes on, as such a record or a checkpoint has it.
pub(super) fn successor(bytes: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(bytes).ok().filter(|t| (1..=SUCCESSOR_BYTES_MAX).contains(&t.len()));
    Ok(text.ok_or("it was sealed for something that can't be read")?.to_string())
}

/// The version of [`Checkpoint`] of a log that goes on,
const VERSION: u32 = 1;
/// and of one that has ended.
const SEALED: u32 = 2;
/// Bytes of one; where the log goes on comes behind them.
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
    /// Its bytes: version, `last`, base, trim, tail, and zeros to 40; behind them where the log goes on, if it has ended.
    pub fn encode(&self, successor: Option<&str>) -> Bytes {
        let mut b = Vec::with_capacity(BYTES);
        let version = if successor.is_some() { SEALED } else { VERSION };
        b.extend_from_slice(&version.to_le_bytes());
        b.extend_from_slice(&self.last.to_le_bytes());
        [self.base, self.trim, self.tail].iter().for_each(|gsn| b.extend_from_slice(&gsn.0.to_le_bytes()));
        b.resize(BYTES, 0);
        b.extend_from_slice(successor.unwrap_or_default().as_bytes());
        b.into()
    }

    /// What such bytes say, and where the log goes on, if it has ended.
    ///
    /// # Errors
    /// Text for a person: they are of another version.
    pub fn decode(bytes: &[u8]) -> Result<(Self, Option<String>), String> {
        let u32_at = |at: usize| bytes.get(at..at + 4).map(|b| u32::from_le_bytes(b.try_into().expect("4")));
        let gsn_at = |at: usize| Gsn(u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes")));
        let successor = match u32_at(0) {
            Some(VERSION) if bytes.len() == BYTES => None,
            Some(SEALED) if bytes.len() > BYTES => Some(successor(&bytes[BYTES..])?),
            Some(v) if v > SEALED => {
                return Err(format!(
                    "its checkpoint is of version {v}: written by a newer build; use that one"
                ));
            }
            _ => return Err("its checkpoint is not one of an embedded log".into()),
        };
        let last = u32_at(4).expect("long enough");
        Ok((Self { base: gsn_at(8), trim: gsn_at(16), tail: gsn_at(24), last }, successor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_comes_back_and_another_versions_is_refused() {
        let point = Checkpoint { base: Gsn(3), trim: Gsn(5), tail: Gsn(u64::MAX), last: 7 };
        let bytes = point.encode(None);
        assert_eq!(Checkpoint::decode(&bytes), Ok((point, None)));
        let ended = point.encode(Some("a:1"));
        assert_eq!(Checkpoint::decode(&ended), Ok((point, Some("a:1".to_string()))));
        (0..=BYTES).for_each(|n| assert!(Checkpoint::decode(&ended[..n]).is_err(), "{n}"));
        (0..BYTES).for_each(|n| assert!(Checkpoint::decode(&bytes[..n]).is_err(), "{n}"));
        let mut newer = bytes.to_vec();
        newer[0] = 3;
        assert!(Checkpoint::decode(&newer).unwrap_err().contains("newer"));
    }
}
