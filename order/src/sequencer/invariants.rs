//! What must hold after every entry? Numbered checks: a foreign state is refused by them, our own panics.
//!
//! - ORD-1: cut numbers are dense: an entry makes at most the next.
//! - ORD-2: the tail is the sum of all committed lane lengths, those of shards that left the view included: GSNs are
//!   dense (LOG-1).
//! - ORD-3: lanes never shrink, and only lanes of known shards have a length.
//! - ORD-4: the kept parts of a shard ascend in number, GSN and lengths, lie behind `known` and end at the
//!   shard's committed lengths.
//! - ORD-5: shard ids ascend and were never used twice; a shard's replicas are on different servers.
//! - ORD-7: a finalized shard keeps its lengths for ever, and has its GSNs where it says; some shard takes appends once
//!   one ever did; what leaves the view is finalized and trimmed.
//! - ORD-10: only a finalized shard has a copy in the making, of a replica that it has, on a server that has no other.
//! - ORD-6: the trim point never moves back, and never passes the tail or a consumer's position.
//! - ORD-8: the clock of leaders never runs back; its marks ascend in time and tail; only consumers are away.
//! - ORD-11: a log that follows another begins once, where it was told, with all before that trimmed; until then it is empty.
//! - ORD-12: a log ends once: from then on no shard takes appends, nothing is cut, and its tail is where it ended.
//! - ORD-9: at most one orderer comes and at most one goes at a time, somebody votes, and no id is above the newest;
//!   raft's set of members is what follows from the state's (asserted where it is changed).

use super::{
    Applied, CONSUMERS_MAX, GSN_MAX, Members, NAMES_MAX, ORDERERS_MAX, SHARDS_MAX, SLOTS_MAX, Standing,
    State, Succession, is_addr, is_name,
};
use std::collections::BTreeSet;
use zoolog_core::view::{ShardState, ShardView};
use zoolog_core::{CutNumber, Gsn};

/// With this many cuts between full checks, checking costs a large cluster next to nothing.
const FULL_EVERY: u64 = 1024;
/// Up to this many shards a full check is as cheap as a partial one.
const FEW_SHARDS: usize = 16;

pub(super) fn after_entry(state: &State, before: (CutNumber, Gsn), applied: &Applied) {
    let (number, tail) = before;
    match applied {
        Applied::Cut(cut) => {
            assert!(state.seal.is_none(), "ORD-12: cut {cut:?} of a log that ended as {:?}", state.seal);
            assert!(
                cut.number == number.next() && state.number == cut.number,
                "ORD-1: cut {} after {number}, state at {}",
                cut.number,
                state.number
            );
            assert!(
                cut.base == tail && state.tail == cut.end() && state.tail > tail,
                "ORD-2: cut {cut:?} on tail {tail} gives {}",
                state.tail
            );
            let (mut at, mut last) = (0, None);
            for shard in cut.lanes.iter().map(|l| l.lane.shard()) {
                if last == Some(shard) {
                    continue;
                }
                last = Some(shard);
                let i = state.position(&mut at, shard);
                let i = i.unwrap_or_else(|| panic!("ORD-3: cut {cut:?} has the unknown shard {shard}"));
                parts(state, i, true).unwrap_or_else(|e| panic!("{e}"));
            }
            let few = state.parts.len() <= FEW_SHARDS || cfg!(debug_assertions);
            if few || cut.number.0.is_multiple_of(FULL_EVERY) {
                sum(state).unwrap_or_else(|e| panic!("{e}"));
            }
        }
        Applied::Begun(gsn) => {
            let begins = number == CutNumber(0) && tail == Gsn(0) && state.number == number;
            assert!(
                begins && state.tail == *gsn && state.trim == *gsn && state.view.shards.is_empty(),
                "ORD-11: begun at {gsn}, from {before:?} to {:?}, trim {}",
                (state.number, state.tail),
                state.trim
            );
        }
        _ => assert!(
            (state.number, state.tail) == before,
            "ORD-1: {applied:?} moved the order from {before:?} to {:?}",
            (state.number, state.tail)
        ),
    }
    if matches!(
        applied,
        Applied::Formed { .. }
            | Applied::Trimmed(_)
            | Applied::Begun(_)
            | Applied::Sealed(_)
            | Applied::Registered { view_changed: true, .. }
    ) {
        all(state).unwrap_or_else(|e| panic!("{e}"));
    }
}

/// What an entry may do to the trim point, which was `before`.
pub(super) fn trim_after(state: &State, before: Gsn, applied: &Applied) {
    match applied {
        Applied::Trimmed(gsn) => {
            assert!(
                *gsn == state.trim && state.trim > before,
                "ORD-6: trimmed to {gsn}, from {before} to {}",
                state.trim
            );
            consumers(state).unwrap_or_else(|e| panic!("{e}"));
        }
        Applied::Begun(_) => {}
        _ => assert!(state.trim == before, "ORD-6: {applied:?} moved trim from {before} to {}", state.trim),
    }
}

/// What a tick may do to the clock, which showed `before`.
pub(super) fn clock_after(state: &State, before: u64) {
    let clock_ms = state.retention.clock_ms;
    assert!(clock_ms >= before, "ORD-8: the clock goes from {before} to {clock_ms}");
    state.retention.check(state.tail, &state.consumers).unwrap_or_else(|e| panic!("{e}"));
}

fn consumers(state: &State) -> Result<(), String> {
    let (trim, tail) = (state.trim, state.tail);
    if trim > tail {
        return Err(format!("ORD-6: trimmed to {trim}, the tail is {tail}"));
    }
    if state.consumers.len() > CONSUMERS_MAX {
        return Err(format!("ORD-6: {} consumers", state.consumers.len()));
    }
    let stray = |(name, at): &(&String, &Gsn)| !is_name(name) || **at < trim || **at > tail;
    match state.consumers.iter().find(stray) {
        Some((name, at)) => Err(format!("ORD-6: consumer {name:?} at {at}, trim {trim}, tail {tail}")),
        None => Ok(()),
    }
}

/// Who the orderers are. There are none only before an orderer has heard of any.
pub(super) fn members(m: &Members) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("ORD-9: {what}: {m:?}"));
    let of = |standing| m.list.iter().filter(move |(_, x)| x.standing == standing).map(|(id, _)| *id);
    let (mut learners, mut leaving) = (of(Standing::Learner), of(Standing::Leaving));
    let (learner, goes) = (learners.next(), leaving.next());
    if learners.next().is_some() || leaving.next().is_some() || (learner.is_some() && goes.is_some()) {
        return wrong("several changes at a time");
    }
    if m.list.len() > ORDERERS_MAX || m.changes > GSN_MAX || m.newest.0 > GSN_MAX {
        return wrong("too many");
    }
    if m.list.iter().any(|(id, x)| id.0 == 0 || *id > m.newest || !is_addr(&x.addr)) {
        return wrong("an id or address that is none");
    }
    if of(Standing::Voter).next().is_none() && !m.list.is_empty() {
        return wrong("nobody votes");
    }
    if m.parting
        .as_ref()
        .is_some_and(|(id, addr)| m.list.contains_key(id) || *id > m.newest || !is_addr(addr))
    {
        return wrong("who goes is still there, or never was");
    }
    let fits = match (m.replacing, learner, goes) {
        (None, _, None) => true,
        (Some((new, old)), Some(l), None) => new == l && of(Standing::Voter).any(|v| v == old),
        (Some((new, old)), None, Some(g)) => old == g && of(Standing::Voter).any(|v| v == new),
        _ => false,
    };
    // Those of before must be somebody, too.
    let before = m.conf().outgoing.len();
    if !fits || (goes.is_some() && before == 0) { wrong("who comes does not fit who goes") } else { Ok(()) }
}

/// Everything, of a state that came from elsewhere.
pub(super) fn all(state: &State) -> Result<(), String> {
    bounds(state)?;
    sum(state)?;
    shards(state)?;
    consumers(state)?;
    succession(state)?;
    ended(state)?;
    state.retention.check(state.tail, &state.consumers)?;
    members(&state.members)?;
    (0..state.parts.len()).try_for_each(|i| parts(state, i, false))
}

fn succession(state: &State) -> Result<(), String> {
    let (tail, trim) = (state.tail, state.trim);
    let fits = match state.succession {
        Succession::Own => true,
        Succession::Awaits => state.view.shards.is_empty() && tail == Gsn(0),
        Succession::Begun(gsn) => tail >= gsn && trim >= gsn && state.gone >= gsn.0,
    };
    match fits {
        true => Ok(()),
        false => {
            Err(format!("ORD-11: {:?}, but the tail is {tail}, the trim point {trim}", state.succession))
        }
    }
}

fn ended(state: &State) -> Result<(), String> {
    let Some(seal) = &state.seal else { return Ok(()) };
    let fits = seal.tail == state.tail && state.succession != Succession::Awaits && seal.is_sound();
    match fits && state.view.live().next().is_none() {
        true => Ok(()),
        false => Err(format!("ORD-12: ended as {seal:?}, but the tail is {}, {:?}", state.tail, state.view)),
    }
}

/// Each cut adds a record and each number has room to grow, so no counter of ours can overflow.
fn bounds(state: &State) -> Result<(), String> {
    let (number, tail, view) = (state.number, state.tail, state.view.number);
    if number.0 > tail.0 || tail.0 > GSN_MAX || view.0 > GSN_MAX || state.next_shard.0 > u32::MAX / 2 {
        return Err(format!("ORD-1: cut {number}, tail {tail}, view {view}, shard {}", state.next_shard));
    }
    if state.names.len() > NAMES_MAX {
        return Err(format!("ORD-5: {} named writers", state.names.len()));
    }
    if state.slots.len() > SLOTS_MAX || state.view.shards.len() > SHARDS_MAX {
        return Err(format!("ORD-5: {} slots, {} shards", state.slots.len(), state.view.shards.len()));
    }
    Ok(())
}

fn sum(state: &State) -> Result<(), String> {
    let lens = state.parts.iter().flat_map(|p| &p.lens);
    let sum: u128 = lens.chain([&state.gone]).map(|n| u128::from(*n)).sum();
    if sum != u128::from(state.tail.0) {
        return Err(format!("ORD-2: lanes hold {sum} records, the tail is {}", state.tail));
    }
    let lanes = |s: &ShardView| s.replicas.len();
    if !state.view.shards.iter().map(lanes).eq(state.parts.iter().map(|p| p.lens.len())) {
        let (shards, known) = (state.view.shards.len(), state.parts.len());
        return Err(format!("ORD-3: lengths of {known} shards for a view of {shards}, or of other lanes"));
    }
    Ok(())
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
        if let Some(r) = &shard.rebuild {
            let fits = usize::from(r.index) < shard.replicas.len() && !servers.contains(&r.to.slot.server);
            if !fits || shard.state == ShardState::Live || !state.slots.contains_key(&r.to.slot) {
                return Err(format!("ORD-10: of shard {} {:?} is made of {r:?}", shard.id, shard.replicas));
            }
        }
    }
    if !shards.is_empty() && state.view.live().next().is_none() && state.seal.is_none() {
        return Err("ORD-7: no shard takes appends".into());
    }
    for (shard, parts) in shards.iter().zip(&state.parts) {
        let ShardState::Finalized(f) = &shard.state else { continue };
        let span = parts.span.unwrap_or((f.first, f.first));
        if f.lens != parts.lens || span != (f.first, f.end) || f.end > state.tail || f.first > f.end {
            return Err(format!("ORD-7: shard {} ended as {f:?}, it has {:?}", shard.id, parts.span));
        }
    }
    Ok(())
}

/// The parts of the `i`th shard: all of them, or only the newest two, which is all that a cut can spoil.
fn parts(state: &State, i: usize, newest: bool) -> Result<(), String> {
    let (keep, shard) = (&state.parts[i], state.view.shards[i].id);
    let lens = &keep.lens;
    let wrong = |what: &str| {
        let ends = (keep.heads().front(), keep.heads().back());
        Err(format!("ORD-4: {what}: shard {shard}, known {}, parts {ends:?}, lengths {lens:?}", keep.known))
    };
    if keep.known > state.number {
        return wrong("known is ahead of the last cut");
    }
    let Some(last) = keep.kept().checked_sub(1) else { return Ok(()) };
    if keep.heads()[0].0 <= keep.known {
        return wrong("a known part is kept");
    }
    if !keep.ends(last).eq(lens.iter().copied()) || keep.heads()[last].0 > state.number {
        return wrong("the last part is not the committed lengths");
    }
    for b in if newest { last } else { 1 }.max(1)..=last {
        let a = b - 1;
        let (older, newer) = (keep.heads()[a], keep.heads()[b]);
        let grows = keep.ends(a).zip(keep.ends(b)).all(|(x, y)| x <= y) && !keep.ends(a).eq(keep.ends(b));
        if older.0 >= newer.0 || older.1 >= newer.1 || !grows {
            return wrong("parts don't ascend");
        }
    }
    Ok(())
}
