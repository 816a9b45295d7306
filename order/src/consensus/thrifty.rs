//! To which followers must an append go at once? As many as make a quorum with the leader: those that were
//! quickest to answer. To the others appends go late, many in one piece, so that they are woken a few times
//! per second rather than for each entry.
//!
//! # Why that is right
//! Raft lets a network delay any message: what is held back here is a slow link to that follower, no more. It
//! is held for [`HOLD`] at most, in order, and whatever else goes to the same follower (heartbeats, votes,
//! snapshots, answers) first sends what is held, so messages to one follower never change places. What is
//! committed is still what a quorum has synced. While commitment is slower than [`PATIENCE`], for whatever
//! reason, nothing is held back from anybody.
//!
//! # Who is quick
//! A *trial* sends everything at once and counts who was there when the commit index moved. After
//! [`TRIAL_COMMITS`] of those the quickest are chosen, for [`CHOICE_COMMITS`]; then there is the next trial, so
//! that a better one is found. A trial also begins with each term, when a chosen one is lost, and when
//! nothing was committed for [`PATIENCE`].

use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use zoolog_core::{Instant, OrdererId};

/// How long an append is held back at most.
pub(crate) const HOLD: Duration = Duration::from_millis(5);
/// How long an entry may wait for its quorum before all followers get everything.
const PATIENCE: Duration = Duration::from_millis(3);
/// Messages held back for one follower at most.
const HELD_MESSAGES: usize = 32;
/// Bytes held back for one follower at most.
const HELD_BYTES: usize = 64 << 10;
/// Moves of the commit index that a trial watches.
const TRIAL_COMMITS: u64 = 8;
/// Moves of the commit index for which a choice stands.
const CHOICE_COMMITS: u64 = 512;
/// Entries whose age is watched: more than raft lets be under way to one follower.
const WATCHED: usize = 1024;

/// A message to a member, in raft's encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub to: OrdererId,
    pub bytes: Bytes,
    /// For an append: the last entry it carries or refers to.
    pub append: Option<u64>,
}

#[derive(Debug, Default)]
struct Stream {
    held: Vec<Bytes>,
    bytes: usize,
    /// Last entry that it has confirmed.
    matched: u64,
    /// How often in this trial it was there when the commit index moved.
    quick: u64,
    /// Whether appends go to it at once.
    prompt: bool,
}

/// What is held back for whom. Nothing, on a member that doesn't lead.
#[derive(Debug)]
pub(crate) struct Thrifty {
    streams: BTreeMap<OrdererId, Stream>,
    /// Followers that make a quorum with the leader.
    needed: usize,
    trial: bool,
    /// Moves of the commit index in this trial, or since the choice.
    moves: u64,
    committed: u64,
    /// Entries without a quorum, and when the first append with them came by.
    unsure: VecDeque<(u64, Instant)>,
    /// Since when the oldest message is held.
    since: Option<Instant>,
}

impl Thrifty {
    /// For a member with these peers.
    pub fn new(peers: impl Iterator<Item = OrdererId>) -> Self {
        let streams: BTreeMap<_, _> = peers.map(|id| (id, Stream::default())).collect();
        let needed = streams.len().div_ceil(2);
        let (unsure, since) = (VecDeque::new(), None);
        Self { streams, needed, trial: true, moves: 0, committed: 0, unsure, since }
    }

    /// These peers vote from now on; to others everything goes at once. What was held goes out, and a trial begins.
    pub fn members(&mut self, peers: impl Iterator<Item = OrdererId>, out: &mut Vec<(OrdererId, Bytes)>) {
        self.release(out);
        self.streams = peers.map(|id| (id, Stream::default())).collect();
        self.needed = self.streams.len().div_ceil(2);
        self.begin_trial(out);
    }

    /// This member leads from now on, or doesn't any more: what was held goes out, and a trial begins.
    pub fn role_changed(&mut self, out: &mut Vec<(OrdererId, Bytes)>) {
        self.unsure.clear();
        self.committed = 0;
        self.streams.values_mut().for_each(|s| s.matched = 0);
        self.begin_trial(out);
    }

    fn begin_trial(&mut self, out: &mut Vec<(OrdererId, Bytes)>) {
        (self.trial, self.moves) = (true, 0);
        self.streams.values_mut().for_each(|s| (s.quick, s.prompt) = (0, true));
        self.release(out);
    }

    /// Chooses the quickest of the trial; of equals the lowest ids.
    fn choose(&mut self) {
        let mut ids: Vec<_> = self.streams.iter().map(|(id, s)| (u64::MAX - s.quick, *id)).collect();
        ids.sort_unstable();
        let chosen: Vec<OrdererId> = ids.into_iter().take(self.needed).map(|(_, id)| id).collect();
        self.streams.iter_mut().for_each(|(id, s)| s.prompt = chosen.contains(id));
        (self.trial, self.moves) = (false, 0);
    }

    /// A message wants to leave: it goes to `out`, behind what was held for the same member, or is held.
    pub fn offer(&mut self, now: Instant, m: Outgoing, out: &mut Vec<(OrdererId, Bytes)>) {
        if let Some(index) = m.append
            && index > self.committed
            && self.unsure.len() < WATCHED
            && self.unsure.back().is_none_or(|(last, _)| *last < index)
        {
            self.unsure.push_back((index, now));
        }
        let trial = self.trial;
        let Some(stream) = self.streams.get_mut(&m.to) else { return out.push((m.to, m.bytes)) };
        // One that lags is not to lag more.
        let near = m.append.is_some_and(|index| index <= stream.matched + 2 * HELD_MESSAGES as u64);
        if near && !trial && !stream.prompt {
            stream.bytes += m.bytes.len();
            stream.held.push(m.bytes);
            self.since.get_or_insert(now);
            if stream.held.len() >= HELD_MESSAGES || stream.bytes >= HELD_BYTES {
                stream.release(m.to, out);
                self.forget_empty();
            }
            return;
        }
        stream.release(m.to, out);
        out.push((m.to, m.bytes));
        self.forget_empty();
    }

    /// What the leader knows by now: the commit index, and the last entry each member has confirmed.
    pub fn progress(&mut self, committed: u64, matched: impl Iterator<Item = (OrdererId, u64)>) {
        for (id, index) in matched {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.matched = index;
            }
        }
        if committed <= self.committed {
            return;
        }
        self.committed = committed;
        while self.unsure.front().is_some_and(|(index, _)| *index <= committed) {
            self.unsure.pop_front();
        }
        self.moves += 1;
        if !self.trial {
            return;
        }
        self.streams.values_mut().for_each(|s| s.quick += u64::from(s.matched >= committed));
        if self.moves >= TRIAL_COMMITS {
            self.choose();
        }
    }

    /// The connection to a member is gone, and what was held for it.
    pub fn lost(&mut self, id: OrdererId, out: &mut Vec<(OrdererId, Bytes)>) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.held.clear();
        stream.bytes = 0;
        if stream.prompt {
            self.begin_trial(out);
        }
        self.forget_empty();
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<(OrdererId, Bytes)>) {
        let overdue = self.unsure.front().is_some_and(|(_, at)| *at + PATIENCE <= now);
        if !self.trial && (overdue || self.moves >= CHOICE_COMMITS) {
            self.begin_trial(out);
        } else if self.since.is_some_and(|at| at + HOLD <= now) {
            self.release(out);
        }
    }

    /// When something is due.
    pub fn deadline(&self) -> Option<(Instant, &'static str)> {
        let held = (self.since? + HOLD, "appends are held back");
        let overdue = self.unsure.front().map(|(_, at)| (*at + PATIENCE, "an entry waits for its quorum"));
        Some(overdue.map_or(held, |o| o.min(held)))
    }

    /// Sends everything that is held.
    pub fn release(&mut self, out: &mut Vec<(OrdererId, Bytes)>) {
        self.streams.iter_mut().for_each(|(id, s)| s.release(*id, out));
        self.since = None;
    }

    fn forget_empty(&mut self) {
        if self.streams.values().all(|s| s.held.is_empty()) {
            self.since = None;
        }
    }
}

impl Stream {
    fn release(&mut self, id: OrdererId, out: &mut Vec<(OrdererId, Bytes)>) {
        self.bytes = 0;
        out.extend(self.held.drain(..).map(|bytes| (id, bytes)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn us(n: u64) -> Instant {
        Instant(n * 1000)
    }

    fn ids(n: u64) -> impl Iterator<Item = OrdererId> {
        (1..=n).map(OrdererId)
    }

    fn append(to: u64, index: u64) -> Outgoing {
        Outgoing { to: OrdererId(to), bytes: Bytes::from(vec![index as u8; 9]), append: Some(index) }
    }

    /// Three followers-to-be... of `n` peers, `quick` confirmed every entry of the trial.
    fn chosen(n: u64, quick: &[u64]) -> (Thrifty, u64) {
        let mut t = Thrifty::new(ids(n));
        let mut out = Vec::new();
        for index in 1..=TRIAL_COMMITS {
            ids(n).for_each(|id| t.offer(us(index), append(id.0, index), &mut out));
            t.progress(index, ids(n).map(|id| (id, if quick.contains(&id.0) { index } else { index - 1 })));
        }
        assert_eq!(out.len() as u64, n * TRIAL_COMMITS, "a trial holds nothing back");
        (t, TRIAL_COMMITS)
    }

    fn to(out: &[(OrdererId, Bytes)]) -> Vec<u64> {
        out.iter().map(|(id, _)| id.0).collect()
    }

    #[test]
    fn the_quickest_get_appends_at_once_and_the_others_late_in_one_piece() {
        for (n, quick) in [(2, vec![2]), (4, vec![2, 4])] {
            let (mut t, last) = chosen(n, &quick);
            let mut out = Vec::new();
            for i in 1..=3 {
                ids(n).for_each(|id| t.offer(us(1000 * i), append(id.0, last + i), &mut out));
                t.progress(last + i, quick.iter().map(|id| (OrdererId(*id), last + i)));
            }
            assert_eq!(to(&out), quick.repeat(3));
            assert_eq!(t.deadline(), Some((us(6000), "appends are held back")));
            out.clear();
            t.tick(us(5999), &mut out);
            assert!(out.is_empty());
            t.tick(us(6000), &mut out);
            assert_eq!(out.len(), 3 * (n as usize - quick.len()));
            assert!(
                out.chunks(3).all(|c| c.iter().all(|m| m.0 == c[0].0) && c[0].1 < c[1].1 && c[1].1 < c[2].1)
            );
            assert_eq!(t.deadline(), None);
        }
    }

    #[test]
    fn a_quorum_that_does_not_come_opens_all_ways_and_the_roles_change() {
        let (mut t, last) = chosen(2, &[1]);
        let mut out = Vec::new();
        (1..=2).for_each(|id| t.offer(us(1000), append(id, last + 1), &mut out));
        assert_eq!(to(&out), [1]);
        assert_eq!(t.deadline(), Some((us(4000), "an entry waits for its quorum")));
        t.tick(us(4000), &mut out);
        assert_eq!(to(&out), [1, 2]);
        for index in last + 1..=last + TRIAL_COMMITS {
            (1..=2).for_each(|id| t.offer(us(4000 + index), append(id, index + 1), &mut out));
            t.progress(index, [(OrdererId(2), index)].into_iter());
        }
        out.clear();
        (1..=2).for_each(|id| t.offer(us(5000), append(id, last + TRIAL_COMMITS + 2), &mut out));
        assert_eq!(to(&out), [2]);
    }

    #[test]
    fn a_lost_connection_takes_what_was_held_for_it_along_and_a_chosen_one_is_replaced() {
        let (mut t, last) = chosen(2, &[1]);
        let mut out = Vec::new();
        (1..=2).for_each(|id| t.offer(us(1000), append(id, last + 1), &mut out));
        t.lost(OrdererId(1), &mut out);
        assert_eq!(to(&out), [1, 2]);
        let (mut t, last) = chosen(2, &[1]);
        out.clear();
        (1..=2).for_each(|id| t.offer(us(1000), append(id, last + 1), &mut out));
        t.lost(OrdererId(2), &mut out);
        t.release(&mut out);
        assert_eq!(to(&out), [1]);
    }

    proptest! {
        /// Whatever happens, what goes to one member over one connection leaves in the order it came, nothing
        /// twice, nothing but appends waits, and nothing longer, or more of it, than the bounds say.
        #[test]
        fn order_is_kept_and_bounds_hold(
            steps in prop::collection::vec((0u64..2000, 1u64..3, 0u8..12, 0usize..9000), 1..200)
        ) {
            let (mut t, mut index) = chosen(2, &[1]);
            let (mut now, mut number) = (us(10_000), 0u32);
            let (mut out, mut sent) = (Vec::new(), BTreeMap::<u64, Vec<(u32, Instant)>>::new());
            let mut done = BTreeMap::<u64, usize>::new();
            for (wait, peer, what, size) in steps {
                // A shell comes when it was asked to.
                let next = now + Duration::from_micros(wait);
                now = t.deadline().map_or(next, |(at, _)| next.min(at.max(now)));
                t.tick(now, &mut out);
                match what {
                    0 => t.lost(OrdererId(peer), &mut out),
                    1..4 => t.progress(index, [(OrdererId(peer), index)].into_iter()),
                    _ => {
                        number += 1;
                        index += u64::from(what > 6);
                        let mut bytes = number.to_le_bytes().to_vec();
                        bytes.resize(4 + size, 0);
                        let append = (what > 5).then_some(index);
                        let m = Outgoing { to: OrdererId(peer), bytes: bytes.into(), append };
                        sent.entry(peer).or_default().push((number, now));
                        t.offer(now, m, &mut out);
                        if append.is_none() {
                            prop_assert!(out.last().is_some_and(|(id, _)| id.0 == peer));
                        }
                    }
                }
                for (id, bytes) in out.drain(..) {
                    let n = u32::from_le_bytes(bytes[..4].try_into().unwrap());
                    let at = done.entry(id.0).or_default();
                    let list = &sent[&id.0];
                    let skipped = list[*at..].iter().position(|(s, _)| *s == n);
                    prop_assert!(skipped.is_some(), "out of order or twice: {n}");
                    *at += skipped.unwrap() + 1;
                    prop_assert!(now.since(list[*at - 1].1) <= HOLD);
                }
                prop_assert!(t.streams.values().all(|s| s.held.len() < HELD_MESSAGES && s.bytes < HELD_BYTES));
                prop_assert_eq!(t.since.is_some(), t.streams.values().any(|s| !s.held.is_empty()));
            }
        }
    }
}
