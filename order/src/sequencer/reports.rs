//! What do the replicas hold? The leader's soft state, of one term: registrations made with it, the newest
//! figures of each, and from them the next proposal.

use super::{GSN_MAX, ProposedCut, State};
use std::collections::{BTreeMap, BTreeSet};
use zoolog_core::view::ShardView;
use zoolog_core::wire::{RefusedWhy, Report, ShardReport};
use zoolog_core::{ConnId, CutNumber, Incarnation, LaneId, ShardId, SlotId};

/// Why a conversation ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub why: RefusedWhy,
    pub text: String,
}

impl Refusal {
    pub fn new(why: RefusedWhy, text: impl Into<String>) -> Self {
        Self { why, text: text.into() }
    }
}

/// What one replica of a shard said last.
#[derive(Clone, Debug)]
struct Held {
    durable: Vec<u64>,
    part: CutNumber,
}

/// One registration.
#[derive(Clone, Debug)]
struct Live {
    conn: Option<ConnId>,
    incarnation: Incarnation,
    shards: BTreeMap<ShardId, Held>,
}

/// All registrations of this term.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reports {
    live: BTreeMap<SlotId, Live>,
    /// Longest length proposed per lane, while proposals are in flight.
    proposed: BTreeMap<LaneId, u64>,
    /// Shards whose minimum may have moved.
    moved: BTreeSet<ShardId>,
}

impl Reports {
    /// The slot is registered, over `conn`. What it said before counts no more. Returns the connection this
    /// one replaces.
    pub fn register(&mut self, slot: SlotId, incarnation: Incarnation, conn: ConnId) -> Option<ConnId> {
        let fresh = Live { conn: Some(conn), incarnation, shards: BTreeMap::new() };
        self.live.insert(slot, fresh).and_then(|old| old.conn).filter(|old| *old != conn)
    }

    /// The connection that speaks for the slot.
    pub fn conn(&self, slot: SlotId) -> Option<ConnId> {
        self.live.get(&slot).and_then(|l| l.conn)
    }

    /// Slots with a connection.
    pub fn connected(&self) -> BTreeSet<SlotId> {
        self.live.iter().filter(|(_, l)| l.conn.is_some()).map(|(s, _)| *s).collect()
    }

    /// The connection is gone. What was said over it stays true: it is durable.
    pub fn closed(&mut self, slot: SlotId, conn: ConnId) {
        if let Some(live) = self.live.get_mut(&slot)
            && live.conn == Some(conn)
        {
            live.conn = None;
        }
    }

    /// Takes a report. One of an older connection or incarnation changes nothing.
    ///
    /// # Errors
    /// When it contradicts the view, itself, or what is committed.
    pub fn take(&mut self, state: &State, conn: ConnId, report: Report) -> Result<(), Refusal> {
        let slot = report.slot;
        let Some(live) = self.live.get_mut(&slot) else { return Ok(()) };
        if live.conn != Some(conn) || live.incarnation != report.incarnation {
            return Ok(());
        }
        for r in report.shards {
            check(state, &self.proposed, slot, &r, live.shards.get(&r.shard))?;
            self.moved.insert(r.shard);
            live.shards.insert(r.shard, Held { durable: r.durable, part: r.part });
        }
        Ok(())
    }

    /// The next proposal, `None` if there is no news. Costs nothing when no report came.
    pub fn proposal(&mut self, state: &State) -> Option<ProposedCut> {
        let mut cut = ProposedCut::default();
        let mut pressing = false;
        let mut still = BTreeSet::new();
        for &id in &self.moved {
            let Some(shard) = state.view.shard(id) else { continue };
            let Some((lens, part)) = self.minimum(shard) else { continue };
            let (kept, room) = state.parts_kept(id);
            let grown = shard.lanes().zip(&lens).filter(|(lane, len)| {
                **len > state.order.len(*lane).max(self.proposed.get(lane).copied().unwrap_or(0))
            });
            let before = cut.lanes.len();
            if kept < room {
                cut.lanes.extend(grown.map(|(lane, len)| (lane, *len)));
            }
            let news = part > state.known(id);
            if news {
                cut.known.push((id, part));
            }
            // Known parts travel with news of their shard, and alone only before the room for them is gone.
            pressing |= news && kept * 2 > room;
            if cut.lanes.len() > before || news {
                still.insert(id);
            }
        }
        self.moved = still;
        (!cut.lanes.is_empty() || pressing).then_some(cut)
    }

    /// The proposal is in raft's hands.
    pub fn proposed(&mut self, cut: &ProposedCut) {
        self.proposed.extend(cut.lanes.iter().copied());
        self.moved.clear();
    }

    /// No proposal is in flight any more: what was not committed of them may be proposed anew.
    pub fn settled(&mut self) {
        self.proposed.clear();
    }

    /// Per lane the shortest durable length, and the oldest newest part; only when all replicas reported.
    fn minimum(&self, shard: &ShardView) -> Option<(Vec<u64>, CutNumber)> {
        let mut min: Option<(Vec<u64>, CutNumber)> = None;
        for replica in &shard.replicas {
            let held = self.live.get(&replica.slot)?.shards.get(&shard.id)?;
            let (lens, part) = min.get_or_insert_with(|| (held.durable.clone(), held.part));
            lens.iter_mut().zip(&held.durable).for_each(|(m, d)| *m = (*m).min(*d));
            *part = (*part).min(held.part);
        }
        min
    }
}

/// Whether a replica can hold what it says it holds.
fn check(
    state: &State,
    proposed: &BTreeMap<LaneId, u64>,
    slot: SlotId,
    r: &ShardReport,
    before: Option<&Held>,
) -> Result<(), Refusal> {
    let invalid = |text: String| Err(Refusal::new(RefusedWhy::Invalid, text));
    let damaged = |text: String| Err(Refusal::new(RefusedWhy::Damaged, text));
    let id = r.shard;
    let Some(shard) = state.view.shard(id).filter(|s| s.replica_in(slot).is_some()) else {
        return invalid(format!("slot {slot} reports for shard {id}, of which it has no replica"));
    };
    let lanes = shard.replicas.len();
    if r.durable.len() != lanes || r.accepted.len() != lanes {
        return invalid(format!("shard {id} has {lanes} lanes, slot {slot} reports {r:?}"));
    }
    if r.durable.iter().zip(&r.accepted).any(|(d, a)| d > a || *a > GSN_MAX) {
        return invalid(format!("slot {slot} holds more than it accepted, or than fits: {r:?}"));
    }
    if r.part > state.last_cut() {
        return invalid(format!(
            "slot {slot} knows part {} of shard {id}, the last cut is {}",
            r.part,
            state.last_cut()
        ));
    }
    if r.part < state.known(id) {
        return damaged(format!(
            "slot {slot} lost part {} of shard {id}, it knows {}",
            state.known(id),
            r.part
        ));
    }
    for (i, lane) in shard.lanes().enumerate() {
        // A proposal in flight rests on what replicas said to be durable: less than that is as bad as less
        // than what is committed.
        let promised = state.order.len(lane).max(proposed.get(&lane).copied().unwrap_or(0));
        let said = before.and_then(|b| b.durable.get(i)).copied().unwrap_or(0);
        if r.durable[i] < promised.max(said) {
            let text = format!(
                "slot {slot} holds {} records of lane {lane}, {promised} are committed and it said {said} before: repair it first",
                r.durable[i]
            );
            return damaged(text);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Command;
    use super::super::tests::{formed, slot};
    use super::*;
    use proptest::prelude::*;

    fn report(slot: SlotId, incarnation: u64, shard: u32, durable: &[u64], part: u64) -> Report {
        let r = ShardReport {
            shard: ShardId(shard),
            accepted: durable.to_vec(),
            durable: durable.to_vec(),
            part: CutNumber(part),
        };
        Report { slot, incarnation: Incarnation(incarnation), shards: vec![r] }
    }

    /// A state with one shard of slots 0 and 1, both registered over connections 0 and 1.
    fn two() -> (State, Reports) {
        let mut r = Reports::default();
        (0..2).for_each(|i| assert_eq!(r.register(slot(i), Incarnation(1), ConnId(u64::from(i))), None));
        (formed(2, 1, 2), r)
    }

    fn say(s: &State, r: &mut Reports, who: u32, durable: [u64; 2]) -> Result<(), Refusal> {
        r.take(s, ConnId(u64::from(who)), report(slot(who), 1, 1, &durable, 0))
    }

    fn commit(s: &mut State, cut: ProposedCut) {
        s.apply(&Command::Cut(cut).encode());
    }

    /// Defect 24, and LOG-2: the minimum over exactly the shard's replicas, and only once all have spoken.
    #[test]
    fn a_lane_counts_only_when_all_replicas_of_its_shard_reported() {
        let (s, mut r) = two();
        say(&s, &mut r, 0, [5, 3]).unwrap();
        assert_eq!(r.proposal(&s), None);
        say(&s, &mut r, 1, [4, 7]).unwrap();
        let lane = |i| LaneId::new(ShardId(1), i);
        assert_eq!(r.proposal(&s).unwrap().lanes, [(lane(0), 4), (lane(1), 3)]);
    }

    #[test]
    fn nothing_is_proposed_twice_while_in_flight() {
        let (mut s, mut r) = two();
        say(&s, &mut r, 0, [5, 5]).unwrap();
        say(&s, &mut r, 1, [5, 5]).unwrap();
        let cut = r.proposal(&s).unwrap();
        assert_eq!(r.proposal(&s).as_ref(), Some(&cut), "asking changes nothing");
        r.proposed(&cut);
        say(&s, &mut r, 1, [5, 5]).unwrap();
        assert_eq!(r.proposal(&s), None);
        commit(&mut s, cut);
        r.settled();
        say(&s, &mut r, 0, [6, 5]).unwrap();
        assert_eq!(r.proposal(&s), None);
    }

    #[test]
    fn less_than_committed_or_said_before_is_refused_as_damaged() {
        let (mut s, mut r) = two();
        say(&s, &mut r, 0, [5, 5]).unwrap();
        assert_eq!(say(&s, &mut r, 0, [5, 4]).unwrap_err().why, RefusedWhy::Damaged);
        say(&s, &mut r, 1, [5, 5]).unwrap();
        let cut = r.proposal(&s).unwrap();
        r.proposed(&cut);
        r.register(slot(1), Incarnation(1), ConnId(1));
        assert_eq!(say(&s, &mut r, 1, [5, 4]).unwrap_err().why, RefusedWhy::Damaged, "it was promised");
        commit(&mut s, cut);
        r.settled();
        r.register(slot(1), Incarnation(1), ConnId(1));
        assert_eq!(say(&s, &mut r, 1, [0, 0]).unwrap_err().why, RefusedWhy::Damaged);
        say(&s, &mut r, 1, [5, 5]).unwrap();
    }

    #[test]
    fn a_new_registration_replaces_and_an_older_connection_is_not_heard() {
        let (s, mut r) = two();
        say(&s, &mut r, 0, [5, 5]).unwrap();
        say(&s, &mut r, 1, [9, 9]).unwrap();
        assert_eq!(r.register(slot(0), Incarnation(2), ConnId(7)), Some(ConnId(0)));
        assert_eq!(r.proposal(&s), None, "the new start has not spoken");
        say(&s, &mut r, 0, [6, 6]).unwrap();
        r.take(&s, ConnId(7), report(slot(0), 1, 1, &[6, 6], 0)).unwrap();
        assert_eq!(r.proposal(&s), None, "neither the old connection nor the old incarnation counts");
        r.take(&s, ConnId(7), report(slot(0), 2, 1, &[2, 1], 0)).unwrap();
        assert_eq!(r.proposal(&s).unwrap().lanes.iter().map(|l| l.1).collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn parts_known_everywhere_travel_with_the_next_cut() {
        let (mut s, mut r) = two();
        for i in 0..2 {
            say(&s, &mut r, i, [5, 5]).unwrap();
        }
        let cut = r.proposal(&s).unwrap();
        assert_eq!(cut.known, []);
        r.proposed(&cut);
        commit(&mut s, cut);
        r.settled();
        for i in 0..2u32 {
            r.take(&s, ConnId(i.into()), report(slot(i), 1, 1, &[5, 5], 1)).unwrap();
        }
        assert_eq!(r.proposal(&s), None, "old news alone make no entry");
        for i in 0..2u32 {
            r.take(&s, ConnId(i.into()), report(slot(i), 1, 1, &[6, 5], 1)).unwrap();
        }
        let cut = r.proposal(&s).unwrap();
        assert_eq!(cut.known, [(ShardId(1), CutNumber(1))]);
        commit(&mut s, cut);
        r.register(slot(0), Incarnation(2), ConnId(9));
        let lost = r.take(&s, ConnId(9), report(slot(0), 2, 1, &[6, 5], 0)).unwrap_err();
        assert_eq!(lost.why, RefusedWhy::Damaged);
    }

    #[test]
    fn senseless_reports_are_refused() {
        let (s, mut r) = two();
        for (shard, durable, part) in [
            (2, vec![1, 1], 0),
            (1, vec![1], 0),
            (1, vec![1, 1, 1], 0),
            (1, vec![u64::MAX, 0], 0),
            (1, vec![1, 1], 9),
        ] {
            let e = r.take(&s, ConnId(0), report(slot(0), 1, shard, &durable, part)).unwrap_err();
            assert_eq!(e.why, RefusedWhy::Invalid, "{e:?}");
        }
        let mut more = report(slot(0), 1, 1, &[2, 2], 0);
        more.shards[0].accepted = vec![1, 2];
        assert_eq!(r.take(&s, ConnId(0), more).unwrap_err().why, RefusedWhy::Invalid);
    }

    proptest! {
        /// LOG-2: no proposal exceeds what any replica said to be durable.
        #[test]
        fn a_proposal_never_exceeds_the_minimum(says in prop::collection::vec((0u32..2, 0u64..9, 0u64..9), 1..40)) {
            let (mut s, mut r) = two();
            let mut held = [[0u64; 2]; 2];
            for (who, a, b) in says {
                let mine = &mut held[who as usize];
                *mine = [mine[0] + a, mine[1] + b];
                say(&s, &mut r, who, *mine).unwrap();
                if let Some(cut) = r.proposal(&s) {
                    for (lane, len) in &cut.lanes {
                        prop_assert!(held.iter().all(|h| *len <= h[usize::from(lane.index())]));
                    }
                    r.proposed(&cut);
                    commit(&mut s, cut);
                    r.settled();
                }
            }
        }
    }
}
