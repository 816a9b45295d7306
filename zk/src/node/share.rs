//! How much may the reads of one turn cost? So much that a turn stays short; the others wait for the next, a millisecond
//! later. What costs much beside its answer has a bound of its own: many who ask for such things wait for each other,
//! and nobody who asks for little waits for them.

use super::again;
use crate::jute::OpCode;

/// Bytes of answers to reads, of all connections, above which a turn answers no more of those that may wait; the same for
/// what requests weigh.
const TURN_READ_BYTES_MAX: usize = 4 << 20;
/// What a byte of a request that sets many watches weighs,
const SET_WATCHES_WEIGHT: usize = 128;
/// and of one that is only begun, to be done in steps,
const BEGUN_WEIGHT: usize = 2;
/// and of one that reads many nodes at once, each of which takes 14 bytes of it at least.
const MULTI_READ_WEIGHT: usize = 16;

/// What a read costs beside its answer, in bytes of answers that cost about as much. Watches are set again in steps of so
/// many `paths`.
pub(super) fn weight(op: i32, frame: &[u8], paths: usize) -> usize {
    match OpCode::from_code(op) {
        Some(OpCode::SetWatches | OpCode::SetWatches2) => match again::is_long(op, frame, paths) {
            true => BEGUN_WEIGHT * frame.len(),
            false => SET_WATCHES_WEIGHT * frame.len(),
        },
        Some(OpCode::MultiRead) => MULTI_READ_WEIGHT * frame.len(),
        _ => 0,
    }
}

/// What the reads of this turn have cost.
#[derive(Debug, Default)]
pub(super) struct Share {
    bytes: usize,
    weight: usize,
}

impl Share {
    /// A new turn.
    pub(super) fn begin(&mut self) {
        *self = Self::default();
    }

    /// Whether reads that weigh nothing may be answered.
    pub(super) fn has_room(&self) -> bool {
        self.bytes <= TURN_READ_BYTES_MAX
    }

    /// Whether one of that weight may be.
    pub(super) fn has_room_for(&self, weight: usize) -> bool {
        self.has_room() && (weight == 0 || self.weight <= TURN_READ_BYTES_MAX)
    }

    /// One was answered, with so many bytes.
    pub(super) fn spend(&mut self, bytes: usize, weight: usize) {
        self.bytes += bytes;
        self.weight += weight;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_heavy_keeps_nobody_waiting_who_asks_for_little() {
        let mut share = Share::default();
        share.spend(10, TURN_READ_BYTES_MAX + 1);
        assert!(share.has_room() && share.has_room_for(0) && !share.has_room_for(1));
        share.spend(TURN_READ_BYTES_MAX, 0);
        assert!(!share.has_room() && !share.has_room_for(0) && !share.has_room_for(1));
        share.begin();
        assert!(share.has_room_for(0) && share.has_room_for(usize::MAX));
    }
}
