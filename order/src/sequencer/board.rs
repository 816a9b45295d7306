//! What have the replicas of one shard said? Their lengths side by side, and what all of them hold.

use super::reports::Refusal;
use super::{GSN_MAX, State};
use zoolog_core::wire::{RefusedWhy, ShardReport};
use zoolog_core::{CutNumber, LaneId, ShardId, SlotId};

/// The figures of one shard.
#[derive(Clone, Debug)]
pub(crate) struct Board {
    id: ShardId,
    /// Whether the shard takes appends. What its replicas hold beyond its final lengths counts for nothing.
    pub live: bool,
    /// The slot of each replica, by number.
    slots: Vec<u32>,
    /// Durable length of each lane at the first replica, at the second and so on; then the longest proposed.
    lens: Vec<u64>,
    /// Newest part that each replica holds; `None` until it has spoken.
    parts: Vec<Option<CutNumber>>,
    /// Of each replica: a bit per lane of which it has taken more than it holds durably.
    behind: Vec<u8>,
    /// Of each replica: whether the lane that it is primary of takes appends.
    serving: Vec<bool>,
    /// The round that what is proposed is of. That of another has been decided.
    round: u64,
}

impl Board {
    /// A shard of which nothing was said yet.
    pub fn new(id: ShardId, slots: Vec<u32>) -> Self {
        let n = slots.len();
        Self {
            id,
            live: true,
            lens: vec![0; n * (n + 1)],
            parts: vec![None; n],
            behind: vec![0; n],
            serving: vec![true; n],
            round: 0,
            slots,
        }
    }

    pub fn id(&self) -> ShardId {
        self.id
    }

    /// The slot of each replica, by number.
    pub fn slots(&self) -> &[u32] {
        &self.slots
    }

    fn lanes(&self) -> usize {
        self.slots.len()
    }

    /// Which replica is in that slot.
    pub fn replica(&self, slot: u32) -> Option<usize> {
        self.slots.iter().position(|s| *s == slot)
    }

    /// Takes over what the replicas said that are still the same, of the same shard with others in place of some.
    pub fn inherit(&mut self, old: &Board) {
        let n = self.lanes();
        for replica in (0..n).filter(|r| old.slots.get(*r) == self.slots.get(*r)) {
            let at = replica * n;
            self.lens[at..][..n].copy_from_slice(&old.lens[at..][..n]);
            self.parts[replica] = old.parts[replica];
            (self.behind[replica], self.serving[replica]) = (old.behind[replica], old.serving[replica]);
        }
    }

    /// Whether the replica has said that it holds all records of a finalized shard, as long as that. Parts that it may
    /// lack are kept for it.
    pub fn is_whole(&self, replica: usize, lens: &[u64]) -> bool {
        let held = &self.lens[replica * self.lanes()..][..self.lanes()];
        self.has_spoken(replica) && held == lens
    }

    /// What the replica said counts no more.
    pub fn silence(&mut self, replica: usize) {
        let n = self.lanes();
        self.lens[replica * n..][..n].fill(0);
        self.parts[replica] = None;
        (self.behind[replica], self.serving[replica]) = (0, true);
    }

    /// Takes what the replica says, once it was checked.
    pub fn take(&mut self, replica: usize, r: &ShardReport) {
        let n = self.lanes();
        self.lens[replica * n..][..n].copy_from_slice(&r.durable);
        self.parts[replica] = Some(r.part);
        let lanes = r.durable.iter().zip(&r.accepted).enumerate();
        self.behind[replica] = lanes.fold(0, |bits, (i, (d, a))| bits | u8::from(d < a) << i);
        self.serving[replica] = r.serving;
    }

    /// Whether the replica has spoken.
    pub fn has_spoken(&self, replica: usize) -> bool {
        self.parts[replica].is_some()
    }

    /// Records of lane `i` that the replica holds durably.
    pub fn durable(&self, replica: usize, i: usize) -> u64 {
        self.lens[replica * self.lanes() + i]
    }

    /// Whether the replica has taken more of lane `i` than it holds durably.
    pub fn is_behind(&self, replica: usize, i: usize) -> bool {
        self.behind[replica] & (1 << i) != 0
    }

    /// Whether the lane that the replica is primary of takes appends, as far as it has said.
    pub fn is_serving(&self, replica: usize) -> bool {
        self.serving[replica]
    }

    /// The oldest newest part; `None` unless all replicas have spoken.
    pub fn part(&self) -> Option<CutNumber> {
        let first = *self.parts.first()?;
        self.parts.iter().try_fold(first?, |min, part| part.map(|p| p.min(min)))
    }

    /// What is proposed of lane `i`, in this round.
    fn proposed(&self, i: usize, round: u64) -> u64 {
        let n = self.lanes();
        if self.round == round { self.lens[n * n + i] } else { 0 }
    }

    /// Lane `i` is proposed at that length.
    pub fn propose(&mut self, i: usize, len: u64, round: u64) {
        let n = self.lanes();
        let proposed = &mut self.lens[n * n..];
        if self.round != round {
            proposed.fill(0);
            self.round = round;
        }
        proposed[i] = len.max(proposed[i]);
    }

    /// Lanes that all replicas hold more of than is committed or proposed, and how much. To be asked only when all
    /// have spoken.
    pub fn grown(&self, committed: &[u64], round: u64) -> impl Iterator<Item = (LaneId, u64)> {
        let n = self.lanes();
        (0..if self.live { n } else { 0 }).filter_map(move |i| {
            let least = self.lens[..n * n].iter().skip(i).step_by(n).copied().min()?;
            let news = least > committed[i] && least > self.proposed(i, round);
            news.then(|| (LaneId::new(self.id, i as u8), least))
        })
    }

    /// Whether the replica, in `slot`, can hold what it says it holds.
    ///
    /// # Errors
    /// When it contradicts the view, itself, or what is committed.
    pub fn check(
        &self,
        state: &State,
        (at, replica, slot): (usize, usize, SlotId),
        r: &ShardReport,
        round: u64,
    ) -> Result<(), Refusal> {
        let invalid = |text: String| Err(Refusal::new(RefusedWhy::Invalid, text));
        let damaged = |text: String| Err(Refusal::new(RefusedWhy::Damaged, text));
        let (id, lanes, parts) = (self.id, self.lanes(), &state.parts[at]);
        if r.durable.len() != lanes || r.accepted.len() != lanes {
            return invalid(format!("shard {id} has {lanes} lanes, slot {slot} reports {r:?}"));
        }
        if r.durable.iter().zip(&r.accepted).any(|(d, a)| d > a || *a > GSN_MAX) {
            return invalid(format!("slot {slot} holds more than it accepted, or than fits: {r:?}"));
        }
        let last = state.last_cut();
        if r.part > last {
            let text = format!("slot {slot} knows part {} of shard {id}, the last cut is {last}", r.part);
            return invalid(text);
        }
        if r.part < parts.known {
            let known = parts.known;
            return damaged(format!("slot {slot} lost part {known} of shard {id}, it knows {}", r.part));
        }
        for (i, &durable) in r.durable.iter().enumerate() {
            // A proposal in flight rests on what replicas said to be durable: less than that is as bad as less
            // than what is committed.
            let (proposed, said) = match self.live {
                true => (self.proposed(i, round), self.lens[replica * lanes + i]),
                // It has let go of what isn't committed.
                false => (0, 0),
            };
            let promised = parts.lens[i].max(proposed);
            if durable < promised.max(said) {
                let lane = LaneId::new(id, i as u8);
                return damaged(format!(
                    "slot {slot} holds {durable} records of lane {lane}, {promised} are committed and it said {said} before: repair it first"
                ));
            }
        }
        Ok(())
    }
}
