//! What do the replicas hold? The leader's soft state, of one term: registrations made with it, the newest
//! figures of each, and from them the next proposal.

use super::board::Board;
use super::{ProposedCut, State};
use std::collections::{BTreeMap, BTreeSet};
use zoolog_core::cut::Cut;
use zoolog_core::view::ShardState;
use zoolog_core::wire::{CutsWanted, RefusedWhy, Report, ShardReport};
use zoolog_core::{ConnId, CutNumber, Incarnation, ShardId, SlotId, ViewNumber};

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

/// How far a copy in the making is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Copy {
    /// Where it is made.
    pub slot: SlotId,
    /// Records of each lane that it holds durably.
    pub durable: Vec<u64>,
    /// Newest part that it holds durably.
    pub part: CutNumber,
}

/// One registration.
#[derive(Clone, Debug)]
struct Live {
    conn: Option<ConnId>,
    incarnation: Incarnation,
    /// Which cuts it wants at once.
    cuts: CutsWanted,
    /// Shards that it mends, and doesn't report meanwhile.
    recovering: Vec<ShardId>,
}

/// All registrations of this term. Slots have numbers here and shards their positions in the view, so that a
/// report and a cut touch what they name and nothing else.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reports {
    numbers: BTreeMap<SlotId, u32>,
    /// By number of the slot. Those without connection have not registered, or are gone.
    live: Vec<Live>,
    /// The view that `boards` are of.
    view: ViewNumber,
    /// By position in the view.
    boards: Vec<Board>,
    /// Of each copy in the making: its slot, and how far it is.
    copies: BTreeMap<ShardId, Copy>,
    /// A bit per shard that reports have come for since its last proposal.
    moved: Vec<u64>,
    /// Reports have brought something to propose.
    wanted: bool,
    /// Counts the times at which nothing was in flight.
    round: u64,
}

impl Reports {
    fn number(&mut self, slot: SlotId) -> u32 {
        *self.numbers.entry(slot).or_insert_with(|| {
            self.live.push(Live {
                conn: None,
                incarnation: Incarnation(0),
                cuts: CutsWanted::All,
                recovering: Vec::new(),
            });
            (self.live.len() - 1) as u32
        })
    }

    /// Takes over a view that has changed. What was said of a shard that is still the same stays.
    fn follow(&mut self, state: &State) {
        if self.view == state.view.number {
            return;
        }
        self.view = state.view.number;
        let moved: BTreeSet<ShardId> = set_bits(&self.moved).map(|i| self.boards[i].id()).collect();
        let mut old: BTreeMap<ShardId, Board> =
            std::mem::take(&mut self.boards).into_iter().map(|b| (b.id(), b)).collect();
        self.copies.retain(|id, c| {
            state.view.shard(*id).is_some_and(|s| s.rebuild.as_ref().is_some_and(|r| r.to.slot == c.slot))
        });
        self.moved = vec![0; state.view.shards.len().div_ceil(64)];
        for (i, shard) in state.view.shards.iter().enumerate() {
            let slots: Vec<u32> = shard.replicas.iter().map(|r| self.number(r.slot)).collect();
            let known = match old.get(&shard.id) {
                Some(b) if b.slots() == slots => old.remove(&shard.id),
                _ => None,
            };
            if known.is_some() && moved.contains(&shard.id) {
                self.moved[i / 64] |= 1 << (i % 64);
            }
            let mut board = known.unwrap_or_else(|| Board::new(shard.id, slots));
            if let Some(before) = old.remove(&shard.id).filter(|b| b.slots().len() == shard.replicas.len()) {
                board.inherit(&before);
            }
            board.live = shard.state == ShardState::Live;
            self.boards.push(board);
        }
    }

    /// The slot is registered, over `conn`. What it said before counts no more. Returns the connection this
    /// one replaces.
    pub fn register(&mut self, slot: SlotId, incarnation: Incarnation, conn: ConnId) -> Option<ConnId> {
        let number = self.number(slot);
        for board in &mut self.boards {
            if let Some(replica) = board.replica(number) {
                board.silence(replica);
            }
        }
        self.copies.retain(|_, c| c.slot != slot);
        let fresh = Live { conn: Some(conn), incarnation, cuts: CutsWanted::All, recovering: Vec::new() };
        let old = std::mem::replace(&mut self.live[number as usize], fresh);
        old.conn.filter(|old| *old != conn)
    }

    /// The slot lives, and mends these shards.
    pub fn recovering(&mut self, slot: SlotId, shards: Vec<ShardId>) {
        let number = self.number(slot);
        self.live[number as usize].recovering = shards;
    }

    /// Slots that mend something, and which shards.
    pub fn mending(&self) -> impl Iterator<Item = (SlotId, &[ShardId])> {
        let live = self.numbers.iter().map(|(slot, n)| (*slot, &self.live[*n as usize]));
        live.filter(|(_, l)| l.conn.is_some() && !l.recovering.is_empty())
            .map(|(s, l)| (s, &l.recovering[..]))
    }

    /// The connection that speaks for the slot.
    pub fn conn(&self, slot: SlotId) -> Option<ConnId> {
        self.numbers.get(&slot).and_then(|n| self.live[*n as usize].conn)
    }

    /// Slots with a connection.
    pub fn connected(&self) -> BTreeSet<SlotId> {
        let connected = |n: u32| self.live[n as usize].conn.is_some();
        self.numbers.iter().filter(|(_, n)| connected(**n)).map(|(s, _)| *s).collect()
    }

    /// The connection is gone. What was said over it stays true: it is durable.
    pub fn closed(&mut self, slot: SlotId, conn: ConnId) {
        if let Some(&n) = self.numbers.get(&slot)
            && let live = &mut self.live[n as usize]
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
        self.follow(state);
        let slot = report.slot;
        let Some(&number) = self.numbers.get(&slot) else { return Ok(()) };
        let live = &mut self.live[number as usize];
        if live.conn != Some(conn) || live.incarnation != report.incarnation {
            return Ok(());
        }
        live.cuts = report.cuts;
        let (mut at, room) = (0, state.room());
        for r in &report.shards {
            let place = state.position(&mut at, r.shard);
            let place = place.and_then(|i| Some((i, self.boards[i].replica(number)?)));
            if place.is_none() && r.shard < state.next_shard {
                // It has left the view, or another copy took the place of this one, which the slot has yet to hear;
                // or it is a copy in the making.
                self.take_copy(state, slot, r)?;
                continue;
            }
            let Some((i, replica)) = place else {
                let text = format!("slot {slot} reports for shard {}, of which it has no replica", r.shard);
                return Err(Refusal::new(RefusedWhy::Invalid, text));
            };
            let board = &mut self.boards[i];
            board.check(state, (i, replica, slot), r, self.round)?;
            board.take(replica, r);
            self.moved[i / 64] |= 1 << (i % 64);
            let Some(part) = board.part().filter(|_| !self.wanted) else { continue };
            let kept = &state.parts[i];
            let has_room = kept.kept() < room;
            let grown = has_room && board.grown(&kept.lens, self.round).next().is_some();
            self.wanted = grown || (part > kept.known && is_pressing(kept.kept(), room));
        }
        Ok(())
    }

    /// Takes what a slot says of a shard of which it has no replica: a copy in the making counts.
    fn take_copy(&mut self, state: &State, slot: SlotId, r: &ShardReport) -> Result<(), Refusal> {
        let Some(shard) = state.view.shard(r.shard).filter(|s| s.rebuilt_in(slot).is_some()) else {
            return Ok(());
        };
        let lens = state.lens(shard.id);
        let sane = r.durable.len() == lens.len() && r.durable.iter().zip(&lens).all(|(d, l)| d <= l);
        if !sane || r.part > state.last_cut() {
            let text =
                format!("slot {slot} makes a copy of shard {}, which ended as {lens:?}: {r:?}", shard.id);
            return Err(Refusal::new(RefusedWhy::Invalid, text));
        }
        self.copies.insert(shard.id, Copy { slot, durable: r.durable.clone(), part: r.part });
        Ok(())
    }

    /// How far the copy of that shard is that is in the making, if it has said.
    pub fn copy(&self, shard: ShardId) -> Option<&Copy> {
        self.copies.get(&shard)
    }

    /// The connections over which a cut is waited for.
    pub fn wanting(&mut self, state: &State, cut: &Cut) -> BTreeSet<ConnId> {
        self.follow(state);
        let all = self.live.iter().filter(|l| l.cuts == CutsWanted::All).filter_map(|l| l.conn);
        let mut conns: BTreeSet<ConnId> = all.collect();
        let wants_own = |l: &Live| l.cuts == CutsWanted::Own && l.conn.is_some();
        let mut own: Vec<bool> = self.live.iter().map(wants_own).collect();
        let mut left = own.iter().filter(|own| **own).count();
        let mut at = 0;
        for lanes in cut.lanes.chunk_by(|a, b| a.lane.shard() == b.lane.shard()) {
            if left == 0 {
                break;
            }
            let Some(i) = state.position(&mut at, lanes[0].lane.shard()) else { continue };
            for lane in lanes {
                let Some(&primary) = self.boards[i].slots().get(usize::from(lane.lane.index())) else {
                    continue;
                };
                if std::mem::take(&mut own[primary as usize]) {
                    conns.extend(self.live[primary as usize].conn);
                    left -= 1;
                }
            }
        }
        conns
    }

    /// What was said of each shard, in the view's order.
    pub fn boards(&mut self, state: &State) -> &[Board] {
        self.follow(state);
        &self.boards
    }

    /// Whether reports have brought something to propose.
    pub fn wants(&self) -> bool {
        self.wanted
    }

    /// The next proposal, `None` if there is no news. Costs as much as there are shards that reports came for.
    pub fn proposal(&mut self, state: &State) -> Option<ProposedCut> {
        self.follow(state);
        let shards = self.moved.iter().map(|w| w.count_ones() as usize).sum();
        let mut cut =
            ProposedCut { lanes: Vec::with_capacity(2 * shards), known: Vec::with_capacity(shards) };
        let (mut pressing, room) = (false, state.room());
        for word in 0..self.moved.len() {
            for bit in set_bits(&[self.moved[word]]) {
                let i = word * 64 + bit;
                let (board, kept) = (&self.boards[i], &state.parts[i]);
                let before = (cut.lanes.len(), cut.known.len());
                if let Some(part) = board.part() {
                    if kept.kept() < room {
                        cut.lanes.extend(board.grown(&kept.lens, self.round));
                    }
                    if part > kept.known {
                        cut.known.push((board.id(), part));
                        // Known parts travel with news of lanes, and alone only before the room for them is gone.
                        pressing |= is_pressing(kept.kept(), room);
                    }
                }
                if before == (cut.lanes.len(), cut.known.len()) {
                    self.moved[word] &= !(1 << bit);
                }
            }
        }
        self.wanted = !cut.lanes.is_empty() || pressing;
        self.wanted.then_some(cut)
    }

    /// The proposal is in raft's hands.
    pub fn proposed(&mut self, state: &State, cut: &ProposedCut) {
        let mut at = 0;
        for lanes in cut.lanes.chunk_by(|a, b| a.0.shard() == b.0.shard()) {
            let Some(i) = state.position(&mut at, lanes[0].0.shard()) else { continue };
            for (lane, len) in lanes {
                self.boards[i].propose(usize::from(lane.index()), *len, self.round);
            }
        }
        self.moved.fill(0);
        self.wanted = false;
    }

    /// No proposal is in flight any more: what was not committed of them may be proposed anew.
    pub fn settled(&mut self) {
        self.round += 1;
    }
}

/// Whether known parts can't wait for news of lanes.
fn is_pressing(kept: usize, room: usize) -> bool {
    kept * 2 > room
}

/// Positions of the bits that are set, ascending.
fn set_bits(words: &[u64]) -> impl Iterator<Item = usize> + '_ {
    words.iter().enumerate().flat_map(|(i, &word)| {
        let mut rest = word;
        std::iter::from_fn(move || {
            let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
            rest &= rest - 1;
            Some(i * 64 + bit)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{formed, slot};
    use super::super::{Command, FormView};
    use super::*;
    use proptest::prelude::*;
    use zoolog_core::cut::CutLane;
    use zoolog_core::wire::ShardReport;
    use zoolog_core::{Gsn, LaneId};

    fn report(slot: SlotId, incarnation: u64, shard: u32, durable: &[u64], part: u64) -> Report {
        let r = ShardReport {
            shard: ShardId(shard),
            accepted: durable.to_vec(),
            durable: durable.to_vec(),
            part: CutNumber(part),
            serving: true,
        };
        Report { slot, incarnation: Incarnation(incarnation), cuts: CutsWanted::Own, shards: vec![r] }
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

    /// What was on its way when the view changed costs no connection.
    #[test]
    fn a_report_of_a_shard_that_has_left_the_view_is_passed_over() {
        let (mut s, mut r) = two();
        let form = FormView {
            expected: s.view.number,
            finalize: vec![ShardId(1)],
            shards: vec![vec![slot(0), slot(1)]],
        };
        s.apply(&Command::FormView(form).encode());
        let mut both = report(slot(0), 1, 1, &[0, 0], 0);
        both.shards.push(report(slot(0), 1, 2, &[3, 0], 0).shards.remove(0));
        r.take(&s, ConnId(0), both.clone()).unwrap();
        s.apply(&Command::DropShards(vec![ShardId(1)]).encode());
        assert!(s.view.shard(ShardId(1)).is_none());
        both.shards[1].durable[0] = 4;
        both.shards[1].accepted[0] = 4;
        r.take(&s, ConnId(0), both).unwrap();
        r.take(&s, ConnId(1), report(slot(1), 1, 2, &[4, 0], 0)).unwrap();
        assert_eq!(r.proposal(&s).unwrap().lanes, [(LaneId::new(ShardId(2), 0), 4)], "the rest counts");
        let unknown = r.take(&s, ConnId(0), report(slot(0), 1, 3, &[0, 0], 0));
        assert_eq!(unknown.unwrap_err().why, RefusedWhy::Invalid);
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
        r.proposed(&s, &cut);
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
        r.proposed(&s, &cut);
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
        r.proposed(&s, &cut);
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
    fn a_cut_is_waited_for_by_primaries_of_its_lanes_and_by_those_who_want_all() {
        let (s, mut r) = two();
        let cut = |index: u8| {
            let lanes = vec![CutLane { lane: LaneId::new(ShardId(1), index), from: 0, to: 1 }];
            Cut { number: CutNumber(1), base: Gsn(0), view: ViewNumber(1), lanes }
        };
        assert_eq!(r.wanting(&s, &cut(0)).len(), 2, "who has said nothing gets all");
        let primary = ConnId(s.view.shards[0].replicas[0].slot.server.0.into());
        let backup = ConnId(1 - primary.0);
        for (cuts, of_own, of_other) in [
            (CutsWanted::Late, vec![], vec![]),
            (CutsWanted::Own, vec![primary], vec![backup]),
            (CutsWanted::All, vec![ConnId(0), ConnId(1)], vec![ConnId(0), ConnId(1)]),
        ] {
            for i in 0..2 {
                r.take(
                    &s,
                    ConnId(i),
                    Report { cuts, shards: vec![], ..report(slot(i as u32), 1, 1, &[], 0) },
                )
                .unwrap();
            }
            assert_eq!(r.wanting(&s, &cut(0)).into_iter().collect::<Vec<_>>(), of_own);
            assert_eq!(r.wanting(&s, &cut(1)).into_iter().collect::<Vec<_>>(), of_other);
        }
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
                    r.proposed(&s, &cut);
                    commit(&mut s, cut);
                    r.settled();
                }
            }
        }
    }
}
