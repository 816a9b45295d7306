//! Is an answer to a read sound? Every batch whole, within what was asked, in order. Invariant LOG-4.

use bytes::Bytes;
use std::collections::BTreeMap;
use zoolog_core::batch::PlacedBatch;
use zoolog_core::wire::{Read, ReadEnd, ReadIs};
use zoolog_core::{Gsn, LaneId, Lsn};

/// The batches of the answer, each with the position of its first record.
///
/// # Errors
/// What is wrong with the first that isn't in its place.
pub(super) fn batches(
    asked: &Read,
    m: &ReadIs,
    mut payload: Bytes,
) -> Result<Vec<(Gsn, PlacedBatch)>, &'static str> {
    if m.shard != asked.shard || m.from != asked.from || m.covers < m.from {
        return Err("it answers another question");
    }
    let limits_kept = match m.end {
        ReadEnd::Complete => m.covers == asked.to,
        ReadEnd::More => m.from < m.covers && m.covers < asked.to,
        ReadEnd::NotYet => m.covers <= asked.to,
        ReadEnd::Trimmed => m.from < m.covers && m.gsns.is_empty(),
        ReadEnd::Unavailable => m.covers <= asked.to,
        // We ask for nothing of the kind.
        ReadEnd::Invalid => false,
    };
    if !limits_kept {
        return Err("its range and its end don't fit");
    }
    let mut chain: BTreeMap<LaneId, (Lsn, u32)> = BTreeMap::new();
    let (mut batches, mut end) = (Vec::with_capacity(m.gsns.len()), Gsn(0));
    for &first in &m.gsns {
        let placed = PlacedBatch::check_next(&mut payload).map_err(|_| "a batch is damaged")?;
        let (place, count) = (placed.placement, u64::from(placed.batch.count()));
        if place.lane.shard() != m.shard {
            return Err("a batch of another shard");
        }
        let behind = Gsn(first.0.checked_add(count).ok_or("a position beyond all")?);
        let begins_before = asked.begun_within && first < m.from;
        if first < end || first >= m.covers || behind <= m.from || begins_before {
            return Err("a batch outside the range, or out of order");
        }
        if place.first_lsn.0.checked_add(count).is_none() {
            return Err("an LSN beyond all");
        }
        let follows = |&(lsn, crc): &(Lsn, u32)| place.first_lsn == lsn && place.prev == crc;
        if !chain.get(&place.lane).is_none_or(follows) {
            return Err("a lane's batches don't follow each other");
        }
        chain.insert(place.lane, (placed.end_lsn(), place.crc));
        end = behind;
        batches.push((first, placed));
    }
    if !payload.is_empty() {
        return Err("bytes behind the last batch");
    }
    Ok(batches)
}
