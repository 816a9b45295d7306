//! What does a cut add to those before it? The same as in `CutIs`, for who has followed all of them, in as few bytes as go.

use crate::cut::{Cut, CutError, CutLane, Order};
use crate::ids::*;
use crate::limits::REPLICAS_MAX;

/// A committed cut, for who knows the order before it and the view it belongs to: which lanes grew, and by how much. Where
/// they, and it, begin he knows; that he knows the same as who says it, [`Grown::behind`] checks.
///
/// As bytes: low byte of its number; `check`, 4 bytes; for each lane its code's distance from the lane's before (the first: from
/// 0), and the records, both as LEB128. A lane's code is shard << 3 | index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grown {
    /// Low byte of its number: who misses one notices.
    number: u8,
    /// Of all that the cut says, positions and lengths included.
    check: u32,
    /// As in a cut, but with all lanes empty before it.
    lanes: Vec<CutLane>,
}

/// Bytes of it at most: what fits a short frame.
pub(in crate::wire) const GROWN_BYTES_MAX: usize = u8::MAX as usize;
/// Bits of a lane's code that say which replica of the shard is its primary.
const INDEX_BITS: u32 = 3;
const _: () = assert!(REPLICAS_MAX <= 1 << INDEX_BITS);

fn code(lane: LaneId) -> u64 {
    u64::from(lane.shard().0) << INDEX_BITS | u64::from(lane.index())
}

/// One number made of all numbers of a cut. It keeps out accidents, not forgers.
fn check(cut: &Cut) -> u32 {
    let mix = |h: u64, n: u64| (h.rotate_left(23) ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let head = [cut.number.0, cut.base.0, cut.view.0].into_iter().fold(0, mix);
    let all = cut.lanes.iter().fold(head, |h, l| mix(mix(mix(h, l.lane.0), l.from), l.to));
    (all >> 32) as u32
}

/// Puts `n` behind `out`, seven bits a byte, the lowest first.
fn put(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// How many bytes [`put`] takes.
const fn bytes_of(n: u64) -> usize {
    (u64::BITS - (n | 1).leading_zeros()).div_ceil(7) as usize
}

/// Takes a number from the front; `None` if there is none, or one beyond 64 bits.
fn take(rest: &mut &[u8]) -> Option<u64> {
    let mut n = 0u64;
    for shift in (0..u64::BITS).step_by(7) {
        let (&byte, behind) = rest.split_first()?;
        *rest = behind;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        n |= bits << shift;
        if byte < 0x80 {
            return Some(n);
        }
    }
    None
}

impl Grown {
    /// What the cut adds. `None` if that is too much for so few bytes: it is to be said as a whole.
    pub fn of(cut: &Cut) -> Option<Self> {
        let (mut bytes, mut before) = (5, 0);
        for l in &cut.lanes {
            if usize::from(l.lane.index()) >= REPLICAS_MAX || l.from >= l.to {
                return None;
            }
            let code = code(l.lane);
            bytes += bytes_of(code.checked_sub(before)?) + bytes_of(l.to - l.from);
            if bytes > GROWN_BYTES_MAX {
                return None;
            }
            before = code;
        }
        let lanes = cut.lanes.iter().map(|l| CutLane { from: 0, to: l.to - l.from, ..*l }).collect();
        Some(Self { number: cut.number.0 as u8, check: check(cut), lanes })
    }

    /// The cut that adds this to the order.
    ///
    /// # Errors
    /// When it was said to somebody who knows another order, or another view: cuts between are missing, or it is forged.
    pub fn behind(self, order: &Order, view: ViewNumber) -> Result<Cut, CutError> {
        let number = order.number.next();
        let ahead = self.number.wrapping_sub(order.number.0 as u8);
        if ahead != 1 {
            let got = CutNumber(order.number.0.saturating_add(u64::from(ahead)));
            return Err(CutError::Gap { have: order.number, got });
        }
        let wrong = |what| CutError::Contradiction { number, what };
        let mut lanes = self.lanes;
        for l in &mut lanes {
            l.from = order.len(l.lane);
            l.to = l.to.checked_add(l.from).ok_or(wrong("a lane's length after it"))?;
        }
        let cut = Cut { number, base: order.tail, view, lanes };
        if check(&cut) == self.check { Ok(cut) } else { Err(wrong("what was before it")) }
    }

    /// Whether it may be the cut of that number.
    pub const fn may_be(&self, number: CutNumber) -> bool {
        self.number == number.0 as u8
    }

    /// Puts it behind `out`.
    pub(in crate::wire) fn pack(&self, mut out: Vec<u8>) -> Vec<u8> {
        out.push(self.number);
        out.extend_from_slice(&self.check.to_le_bytes());
        let mut before = 0;
        for l in &self.lanes {
            let code = code(l.lane);
            put(&mut out, code - before);
            put(&mut out, l.to);
            before = code;
        }
        out
    }

    /// What those bytes say; `None` if they are not what [`Grown::pack`] makes of anything.
    pub(in crate::wire) fn unpack(bytes: &[u8]) -> Option<Self> {
        let (&number, rest) = bytes.split_first()?;
        let (check, mut rest) = rest.split_first_chunk::<4>()?;
        // Two numbers a lane, each of which ends with a byte below 0x80.
        let numbers = rest.iter().filter(|byte| **byte < 0x80).count();
        let (mut lanes, mut before) = (Vec::with_capacity(numbers / 2), None::<u64>);
        while !rest.is_empty() {
            let distance = take(&mut rest)?;
            let code = match before {
                None => distance,
                Some(before) => before.checked_add(distance).filter(|c| *c > before)?,
            };
            let shard = u32::try_from(code >> INDEX_BITS).ok()?;
            let lane = LaneId::new(ShardId(shard), (code & ((1 << INDEX_BITS) - 1)) as u8);
            let to = take(&mut rest).filter(|n| *n > 0)?;
            lanes.push(CutLane { lane, from: 0, to });
            before = Some(code);
        }
        (!lanes.is_empty()).then_some(Self { number, check: u32::from_le_bytes(*check), lanes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{self, Message};
    use proptest::prelude::*;

    fn lane(i: usize) -> LaneId {
        // Shards near each other and far from each other, up to the last there can be.
        let shards = [1, 2, 15, 16, 300, 70_000, u32::MAX];
        LaneId::new(ShardId(shards[i / 8]), (i % 8) as u8)
    }

    /// The cut behind `order` in which those lanes grow.
    fn next(order: &Order, view: u64, grow: &[(usize, u64)]) -> Cut {
        let mut lanes: Vec<_> = grow.iter().map(|&(i, n)| (lane(i), n)).collect();
        lanes.sort();
        lanes.dedup_by_key(|l| l.0);
        let lane =
            |(lane, n): (LaneId, u64)| CutLane { lane, from: order.len(lane), to: order.len(lane) + n };
        let lanes = lanes.into_iter().map(lane).collect();
        Cut { number: order.number.next(), base: order.tail, view: ViewNumber(view), lanes }
    }

    fn sent(grown: Grown) -> Grown {
        match wire::decode(wire::encode(grown)).unwrap().message {
            Message::Grown(grown) => grown,
            other => panic!("{other:?}"),
        }
    }

    fn growth() -> impl Strategy<Value = Vec<(usize, u64)>> {
        prop::collection::vec((0usize..56, prop_oneof![1u64..200, 1u64..(1 << 40)]), 1..40)
    }

    proptest! {
        /// LOG-1: who has all cuts before it gets the cut, whatever they are; who misses some, knows other lengths, or another
        /// view, gets none.
        #[test]
        fn a_cut_comes_back_behind_the_order_before_it_and_behind_no_other(
            first in 0u64..1 << 40, cuts in prop::collection::vec(growth(), 1..20), miss in 0usize..20, view in 1u64..5,
        ) {
            let mut truth = Order { number: CutNumber(first), tail: Gsn(first * 3), ..Order::default() };
            let (mut follower, mut missed) = (truth.clone(), None);
            for (i, grow) in cuts.iter().enumerate() {
                let cut = next(&truth, view, grow);
                truth.apply(&cut).unwrap();
                let Some(grown) = Grown::of(&cut) else {
                    prop_assert!(cut.lanes.len() > 12, "{:?} fits", cut);
                    follower.apply(&cut).unwrap();
                    continue;
                };
                prop_assert!(grown.may_be(cut.number));
                let grown = sent(grown);
                prop_assert!(grown.clone().behind(&follower, ViewNumber(view + 1)).is_err());
                let mut other = follower.clone();
                *other.lens.entry(cut.lanes[0].lane).or_default() += 1;
                prop_assert!(grown.clone().behind(&other, ViewNumber(view)).is_err());
                if i == miss {
                    missed = Some((follower.clone(), grown.clone()));
                }
                let got = grown.behind(&follower, ViewNumber(view)).unwrap();
                prop_assert_eq!(&got, &cut);
                follower.apply(&got).unwrap();
                prop_assert_eq!(&follower, &truth);
                if let Some((before, _)) = missed.as_ref().filter(|_| i > miss) {
                    let grown = Grown::of(&cut).unwrap();
                    let what = grown.behind(before, ViewNumber(view));
                    prop_assert!(matches!(what, Err(CutError::Gap { .. })), "{:?}", what);
                }
            }
            if let Some((_, again)) = missed {
                prop_assert!(again.behind(&truth, ViewNumber(view)).is_err(), "the same again is no news");
            }
        }

        /// Up to `u64::MAX` of what a number can be, and no sum of them overflows.
        #[test]
        fn nothing_that_bytes_say_panics(bytes in prop::collection::vec(any::<u8>(), 0..60), len in any::<u64>()) {
            if let Some(grown) = Grown::unpack(&bytes) {
                let again = Grown::unpack(&grown.pack(Vec::new()));
                prop_assert_eq!(again.as_ref(), Some(&grown));
                prop_assert!(grown.lanes.is_sorted_by(|a, b| a.lane < b.lane));
                let lens = grown.lanes.iter().map(|l| (l.lane, len)).collect();
                let order = Order { number: CutNumber(len), tail: Gsn(len), lens };
                if len < u64::MAX {
                    let _ = grown.behind(&order, ViewNumber(1));
                }
            }
        }
    }

    /// What `streamed` costs: docs/POLICIES.md.
    #[test]
    fn three_lanes_take_a_frame_of_24_bytes() {
        let order = Order { number: CutNumber(1 << 30), tail: Gsn(1 << 40), ..Order::default() };
        for (lanes, bytes) in [(vec![0], 16), (vec![0, 9], 24), (vec![0, 9, 17], 24), (vec![32, 33, 34], 24)]
        {
            let grow: Vec<_> = lanes.iter().map(|i| (*i, 300)).collect();
            let cut = next(&order, 7, &grow);
            assert_eq!(wire::encode(Grown::of(&cut).unwrap()).len(), bytes, "{cut:?}");
            assert!(wire::encode(wire::CutIs { cut }).len() >= 72);
        }
    }
}
