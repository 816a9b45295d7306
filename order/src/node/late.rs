//! Which cuts may come late? A slot whose writers don't wait for their answers need not be woken for each cut:
//! what it is told late, it is told in one piece. Cuts that are held back are kept once, for all slots.
//!
//! Each slot gets its cuts in the order of their numbers, and each before anything else that is said to it
//! later: whoever sends over a connection first takes what is held for it.

use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use zoolog_core::{ConnId, Instant};

/// Cuts held back at most.
const HELD_CUTS: usize = 64;
/// Bytes of cuts held back at most.
const HELD_BYTES: usize = 64 << 10;

/// Cuts that some slots have not been sent yet.
#[derive(Debug, Default)]
pub(super) struct Late {
    /// Encoded, oldest first.
    cuts: VecDeque<Bytes>,
    bytes: usize,
    /// How many were dropped from the front of `cuts`, ever.
    dropped: u64,
    /// First cut that each slot lacks, counted as `dropped` does. Only those that lack some.
    lacks: BTreeMap<ConnId, u64>,
    /// Since when the oldest is held.
    since: Option<Instant>,
}

impl Late {
    /// Keeps a cut, for those that [`Late::hold`] names next.
    pub fn push(&mut self, cut: Bytes) {
        self.bytes += cut.len();
        self.cuts.push_back(cut);
    }

    /// The newest cut, and whatever follows, is held back from `conn`.
    pub fn hold(&mut self, now: Instant, conn: ConnId) {
        assert!(!self.cuts.is_empty(), "there is no cut to hold back");
        let newest = self.dropped + self.cuts.len() as u64 - 1;
        self.lacks.entry(conn).or_insert(newest);
        self.since.get_or_insert(now);
    }

    /// What `conn` lacks, oldest first; it lacks nothing from now on.
    pub fn take(&mut self, conn: ConnId) -> Vec<Bytes> {
        let Some(first) = self.lacks.remove(&conn) else { return Vec::new() };
        let skip = usize::try_from(first - self.dropped).expect("a deque's index");
        let cuts = self.cuts.iter().skip(skip).cloned().collect();
        self.tidy();
        cuts
    }

    /// Drops what nobody lacks any more, once that is everything.
    pub fn tidy(&mut self) {
        if self.lacks.is_empty() {
            self.dropped += self.cuts.len() as u64;
            self.cuts.clear();
            (self.bytes, self.since) = (0, None);
        }
    }

    /// The connection is gone.
    pub fn forget(&mut self, conn: ConnId) {
        self.lacks.remove(&conn);
        self.tidy();
    }

    /// Who lacks something.
    pub fn waiting(&self) -> Vec<ConnId> {
        self.lacks.keys().copied().collect()
    }

    /// Whether no more may be held.
    pub fn is_full(&self) -> bool {
        self.cuts.len() >= HELD_CUTS || self.bytes >= HELD_BYTES
    }

    /// When they must be sent.
    pub fn due(&self) -> Option<Instant> {
        self.since.map(|since| since + crate::consensus::HOLD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whoever is held back when, gets every cut once and in order.
        #[test]
        fn everybody_gets_all_in_order(steps in prop::collection::vec((0u64..3, prop::bool::ANY), 1..200)) {
            let (mut late, mut got) = (Late::default(), [const { Vec::<u8>::new() }; 3]);
            let mut number = 0u8;
            for (who, at_once) in steps {
                number = number.wrapping_add(1);
                let cut = Bytes::from(vec![number]);
                late.push(cut.clone());
                for (i, list) in got.iter_mut().enumerate() {
                    let conn = ConnId(i as u64);
                    if i as u64 == who && at_once {
                        let before = late.take(conn);
                        list.extend(before.iter().map(|b| b[0]).filter(|n| *n != number));
                        list.push(number);
                    } else {
                        late.hold(Instant(5), conn);
                    }
                }
                late.tidy();
                if late.is_full() {
                    for conn in late.waiting() {
                        got[conn.0 as usize].extend(late.take(conn).iter().map(|b| b[0]));
                    }
                    prop_assert_eq!((late.due(), late.cuts.len()), (None, 0));
                }
                prop_assert!(late.cuts.len() <= HELD_CUTS);
            }
            for (i, list) in got.iter_mut().enumerate() {
                list.extend(late.take(ConnId(i as u64)).iter().map(|b| b[0]));
            }
            let all: Vec<u8> = (0..got[0].len()).map(|i| (i + 1) as u8).collect();
            prop_assert!(got.iter().all(|list| *list == all));
        }
    }
}
