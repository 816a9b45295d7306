//! What must hold after every entry? Numbered checks: a foreign state is refused by them, our own panics.
//!
//! - ORD-1: cut numbers are dense: an entry makes at most the next.
//! - ORD-2: the tail is the sum of all committed lane lengths: GSNs are dense (LOG-1).
//! - ORD-3: lanes never shrink, and only lanes of known shards have a length.
//! - ORD-4: the kept parts of a shard ascend in number, GSN and lengths, lie behind `known` and end at the
//!   shard's committed lengths.
//! - ORD-5: shard ids ascend and were never used twice; a shard's replicas are on different servers.

use super::{Applied, GSN_MAX, SHARDS_MAX, SLOTS_MAX, State};
use std::collections::BTreeSet;
use zoolog_core::{CutNumber, Gsn, ShardId};

/// With this many cuts between full checks, checking costs a large cluster next to nothing.
const FULL_EVERY: u64 = 1024;
/// Up to this many lanes a full check is as cheap as a partial one.
const FEW_LANES: usize = 32;

pub(super) fn after_entry(state: &State, before: (CutNumber, Gsn), applied: &Applied) {
    let (number, tail) = before;
    match applied {
        Applied::Cut(cut) => {
            let order = &state.order;
            assert!(
                cut.number == number.next() && order.number == cut.number,
                "ORD-1: cut {} after {number}, state at {}",
                cut.number,
                order.number
            );
            assert!(
                cut.base == tail && order.tail == cut.end() && order.tail > tail,
                "ORD-2: cut {cut:?} on tail {tail} gives {}",
                order.tail
            );
            let mut shards: Vec<ShardId> = cut.lanes.iter().map(|l| l.lane.shard()).collect();
            shards.dedup();
            shards.into_iter().for_each(|s| parts(state, s, true).unwrap_or_else(|e| panic!("{e}")));
            if order.lens.len() <= FEW_LANES || cut.number.0.is_multiple_of(FULL_EVERY) {
                sum(state).unwrap_or_else(|e| panic!("{e}"));
            }
        }
        _ => assert!(
            (state.order.number, state.order.tail) == before,
            "ORD-1: {applied:?} moved the order from {before:?} to {:?}",
            (state.order.number, state.order.tail)
        ),
    }
    if matches!(applied, Applied::Formed(_) | Applied::Registered { view_changed: true, .. }) {
        all(state).unwrap_or_else(|e| panic!("{e}"));
    }
}

/// Everything, of a state that came from elsewhere.
pub(super) fn all(state: &State) -> Result<(), String> {
    bounds(state)?;
    sum(state)?;
    shards(state)?;
    if let Some(stray) = state.parts.keys().find(|s| state.view.shard(**s).is_none()) {
        return Err(format!("ORD-4: parts of the unknown shard {stray}"));
    }
    state.view.shards.iter().try_for_each(|s| parts(state, s.id, false))
}

/// Each cut adds a record and each number has room to grow, so no counter of ours can overflow.
fn bounds(state: &State) -> Result<(), String> {
    let (number, tail, view) = (state.order.number, state.order.tail, state.view.number);
    if number.0 > tail.0 || tail.0 > GSN_MAX || view.0 > GSN_MAX || state.next_shard.0 > u32::MAX / 2 {
        return Err(format!("ORD-1: cut {number}, tail {tail}, view {view}, shard {}", state.next_shard));
    }
    if state.slots.len() > SLOTS_MAX || state.view.shards.len() > SHARDS_MAX {
        return Err(format!("ORD-5: {} slots, {} shards", state.slots.len(), state.view.shards.len()));
    }
    Ok(())
}

fn sum(state: &State) -> Result<(), String> {
    let sum: u128 = state.order.lens.values().map(|n| u128::from(*n)).sum();
    if sum != u128::from(state.order.tail.0) {
        return Err(format!("ORD-2: lanes hold {sum} records, the tail is {}", state.order.tail));
    }
    let known = |lane: &zoolog_core::LaneId| {
        state.view.shard(lane.shard()).is_some_and(|s| usize::from(lane.index()) < s.replicas.len())
    };
    match state.order.lens.keys().find(|l| !known(l)) {
        Some(stray) => Err(format!("ORD-3: a length for the unknown lane {stray}")),
        None => Ok(()),
    }
}

fn shards(state: &State) -> Result<(), String> {
    let shards = &state.view.shards;
    if !shards.is_sorted_by(|a, b| a.id < b.id) || shards.last().is_some_and(|s| s.id >= state.next_shard) {
        let ids: Vec<_> = shards.iter().map(|s| s.id).collect();
        return Err(format!("ORD-5: shard ids {ids:?} before {}", state.next_shard));
    }
    for shard in shards {
        let servers: BTreeSet<_> = shard.replicas.iter().map(|r| r.slot.server).collect();
        if servers.len() != shard.replicas.len() || servers.is_empty() {
            return Err(format!("ORD-5: shard {} has replicas {:?}", shard.id, shard.replicas));
        }
    }
    Ok(())
}

/// The parts of one shard: all of them, or only the newest two, which is all that a cut can spoil.
fn parts(state: &State, shard: ShardId, newest: bool) -> Result<(), String> {
    let Some(keep) = state.parts.get(&shard) else { return Ok(()) };
    let lens = state.lens(shard);
    let wrong = |what: &str| {
        let ends = (keep.parts.front(), keep.parts.back());
        Err(format!("ORD-4: {what}: shard {shard}, known {}, parts {ends:?}, lengths {lens:?}", keep.known))
    };
    if keep.known > state.order.number {
        return wrong("known is ahead of the last cut");
    }
    if keep.parts.front().is_some_and(|p| p.number <= keep.known) {
        return wrong("a known part is kept");
    }
    if keep.parts.back().is_some_and(|p| p.lens != lens || p.number > state.order.number) {
        return wrong("the last part is not the committed lengths");
    }
    let skip = if newest { keep.parts.len().saturating_sub(2) } else { 0 };
    let pairs = keep.parts.iter().skip(skip).zip(keep.parts.iter().skip(skip + 1));
    for (a, b) in pairs {
        let grows = a.lens.len() == b.lens.len() && a.lens.iter().zip(&b.lens).all(|(x, y)| x <= y);
        if a.number >= b.number || a.base >= b.base || !grows || a.lens == b.lens {
            return wrong("parts don't ascend");
        }
    }
    Ok(())
}
