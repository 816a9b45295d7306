//! How does a proposed cut travel in a raft entry? As differences, in as few bytes as each takes: with
//! thousands of lanes these entries are most of what orderers write and send.
//!
//! ```text
//! lanes: count, then per lane:  lane id less the one before, length
//! known: count, then per shard: shard id less the one before, cut number less the one before
//! ```
//! All are variable-length integers, 7 bits per byte, lowest first; differences wrap around.

use super::ProposedCut;
use zoolog_core::{CutNumber, LaneId, ShardId};

/// Bytes of the longest integer.
const VARINT_BYTES: usize = 10;

fn put(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// The next integer; `None` if there is none, or one that is longer than need be.
fn get(data: &mut &[u8]) -> Option<u64> {
    let mut n = 0u64;
    for (i, &byte) in data.iter().enumerate().take(VARINT_BYTES) {
        let bits = u64::from(byte & 0x7f);
        if i == VARINT_BYTES - 1 && bits > 1 {
            return None;
        }
        n |= bits << (7 * i);
        if byte < 0x80 {
            *data = &data[i + 1..];
            return (byte > 0 || i == 0).then_some(n);
        }
    }
    None
}

/// How many pairs follow, of at least two bytes each.
fn count(data: &mut &[u8]) -> Option<usize> {
    let n = usize::try_from(get(data)?).ok()?;
    (n <= data.len() / 2).then_some(n)
}

/// Writes it behind what is in `out`.
pub(super) fn encode(cut: &ProposedCut, out: &mut Vec<u8>) {
    out.reserve(16 + 8 * cut.lanes.len() + 4 * cut.known.len());
    put(out, cut.lanes.len() as u64);
    let mut before = 0u64;
    for (lane, len) in &cut.lanes {
        put(out, lane.0.wrapping_sub(before));
        put(out, *len);
        before = lane.0;
    }
    put(out, cut.known.len() as u64);
    let (mut shard, mut number) = (0u32, 0u64);
    for (id, known) in &cut.known {
        put(out, u64::from(id.0.wrapping_sub(shard)));
        // Zigzag: what all replicas hold goes back and forth a little from shard to shard.
        let step = known.0.wrapping_sub(number) as i64;
        put(out, ((step << 1) ^ (step >> 63)) as u64);
        (shard, number) = (id.0, known.0);
    }
}

/// A proposal from foreign bytes, which have to be exactly what [`encode`] makes of it.
pub(super) fn decode(mut data: &[u8]) -> Option<ProposedCut> {
    let data = &mut data;
    let mut cut = ProposedCut { lanes: Vec::with_capacity(count(data)?), known: Vec::new() };
    let mut before = 0u64;
    for _ in 0..cut.lanes.capacity() {
        before = before.wrapping_add(get(data)?);
        cut.lanes.push((LaneId(before), get(data)?));
    }
    let known = count(data)?;
    cut.known.reserve_exact(known);
    let (mut shard, mut number) = (0u32, 0u64);
    for _ in 0..known {
        shard = shard.wrapping_add(u32::try_from(get(data)?).ok()?);
        let step = get(data)?;
        number = number.wrapping_add((step >> 1) ^ (step & 1).wrapping_neg());
        cut.known.push((ShardId(shard), CutNumber(number)));
    }
    data.is_empty().then_some(cut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_length() -> impl Strategy<Value = u64> {
        prop_oneof![0u64..300, any::<u64>(), Just(u64::MAX)]
    }

    proptest! {
        #[test]
        fn a_proposal_comes_back_whatever_is_in_it(
            lanes in prop::collection::vec((any_length(), any_length()), 0..40),
            known in prop::collection::vec((any::<u32>(), any_length()), 0..40),
        ) {
            let cut = ProposedCut {
                lanes: lanes.into_iter().map(|(l, n)| (LaneId(l), n)).collect(),
                known: known.into_iter().map(|(s, n)| (ShardId(s), CutNumber(n))).collect(),
            };
            let mut data = Vec::new();
            encode(&cut, &mut data);
            prop_assert_eq!(decode(&data), Some(cut));
            for short in 0..data.len() {
                prop_assert_eq!(decode(&data[..short]), None);
            }
        }

        /// Two entries that say the same are the same: what raft compares are bytes.
        #[test]
        fn what_can_be_read_is_written_the_same(data in prop::collection::vec(0u8..9, 0..40)) {
            if let Some(cut) = decode(&data) {
                let mut again = Vec::new();
                encode(&cut, &mut again);
                prop_assert_eq!(again, data);
            }
        }
    }

    #[test]
    fn lanes_that_are_neighbours_take_a_byte_and_their_length() {
        let lanes = (0..1000).map(|s| (LaneId::new(ShardId(s / 2), (s % 2) as u8), 1 << 20)).collect();
        let known = (0..500).map(|s| (ShardId(s), CutNumber(70_000 + u64::from(s % 3)))).collect();
        let mut data = Vec::new();
        encode(&ProposedCut { lanes, known }, &mut data);
        assert!(data.len() < 6 * 1000, "{} bytes", data.len());
    }
}
