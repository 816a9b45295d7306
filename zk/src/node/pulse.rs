//! What is done for every connection, twice in each touch interval? Those that can't be answered for are closed, those that were heard
//! are touched, and what they don't need while nothing happens is given back. There may be a hundred thousand of them: a turn looks at
//! some thousands, the next a millisecond later at those behind, and each turn's share of those that were heard is a record
//! of its own. So neither a round nor applying what it has logged keeps anybody waiting.

use super::Back;
use super::apply::DEFER;
use super::connection::{Open, Slot};
use super::own::Owner;
use super::published::Item;
use super::session::STARVING;
use crate::txn::Op;
use std::collections::VecDeque;
use zoolog_client::SharedLog;
use zoolog_core::{ConnId, Instant};

/// Sessions in one touch record at most, and connections that a turn of a round looks at at most.
const TOUCH_SESSIONS_MAX: usize = 4096;

/// A look at all connections, as far as it has come.
#[derive(Debug)]
struct Round {
    began_at: Instant,
    /// The first place that was not looked at.
    next: Slot,
    /// Whether those that were heard are touched in it.
    touches: bool,
    /// Whether any was, and whether the log took all of it.
    any: bool,
    took_all: bool,
}

/// When connections are looked at, and who is touched.
#[derive(Debug)]
pub(super) struct Pulse {
    /// When the next round begins, or goes on.
    at: Option<Instant>,
    round: Option<Round>,
    /// When the last round began that has touched all that were heard.
    touched_at: Instant,
    /// Those to be touched at the end of the turn.
    hastened: Vec<(Slot, ConnId)>,
    /// Whom each touch that is not back is for, oldest first.
    touching: VecDeque<Vec<(Slot, ConnId)>>,
}

impl Pulse {
    pub(super) fn new(now: Instant) -> Self {
        let (hastened, touching) = (Vec::new(), VecDeque::new());
        Self { at: None, round: None, touched_at: now, hastened, touching }
    }

    pub(super) const fn next(&self) -> Option<Instant> {
        self.at
    }

    /// There are no sessions any more, and nobody waits for what was touched.
    pub(super) fn stop(&mut self) {
        (self.at, self.round) = (None, None);
        self.hastened.clear();
        self.touching.clear();
    }
}

impl<L: SharedLog> Back<L> {
    /// The session at `slot` was heard: if it was silent for long before, its next touch must not wait, lest
    /// others find it silent too long before that touch has come back.
    pub(super) fn hasten_touch(&mut self, now: Instant, slot: Slot) {
        let conn = self.conns.at(slot);
        let timeout = conn.open().expect("sessions are touched").timeout();
        if now.since(conn.shown_at.max(conn.vouched_at)) > timeout / 2 {
            self.pulse.hastened.push((slot, conn.id));
        }
    }

    /// Touches at the end of a turn those that it heard from after a long silence, if none of their writes shows them alive.
    /// Returns whether it did.
    pub(super) fn touch_if_hastened(&mut self, now: Instant) -> bool {
        if self.pulse.hastened.is_empty() {
            return false;
        }
        let mut hastened = std::mem::take(&mut self.pulse.hastened);
        hastened.sort_unstable();
        hastened.dedup();
        let heard = |(slot, id): (Slot, ConnId)| {
            let conn = self.conns.live(slot, id)?;
            conn.untouched.then(|| Some((slot, id, *conn.open()?)))?
        };
        let heard: Vec<_> = hastened.into_iter().filter_map(heard).collect();
        heard.chunks(TOUCH_SESSIONS_MAX).all(|some| self.touch(now, some)) && !heard.is_empty()
    }

    /// There are sessions: the pulse must run, and at their pace.
    pub(super) fn hasten_pulse(&mut self, now: Instant) {
        if let Some(interval) = self.touch_interval().filter(|_| self.serving) {
            let at = now + interval / 2;
            self.pulse.at = Some(self.pulse.at.map_or(at, |p| p.min(at)));
        }
    }

    /// Runs twice per touch interval, in steps: closes what can't be answered for, and touches what was heard.
    pub(super) fn beat(&mut self, now: Instant) {
        if self.pulse.at.is_none_or(|at| at > now) {
            return;
        }
        let Some(interval) = self.touch_interval() else {
            (self.pulse.at, self.pulse.round) = (None, None);
            return;
        };
        let quiet = |since: Instant| now.since(since) + interval / 4 >= interval;
        let mut round = match self.pulse.round.take() {
            Some(round) => round,
            None => {
                // However long nobody waits for anything, or a fetch is put off: sessions are looked after.
                self.log.refresh();
                let touches = quiet(self.pulse.touched_at);
                Round { began_at: now, next: 0, touches, any: false, took_all: true }
            }
        };
        let until =
            self.conns.end().min(round.next + self.cfg.steps.connections.min(TOUCH_SESSIONS_MAX) as Slot);
        let heard = self.look_at_connections(now, round.next..until);
        round.next = until;
        if round.touches && !heard.is_empty() {
            round.any = true;
            round.took_all &= self.touch(now, &heard);
        }
        if until < self.conns.end() {
            self.pulse.at = Some(now + DEFER);
            self.pulse.round = Some(round);
            return;
        }
        // Without anybody heard, an empty touch says that the node is there, if nothing else has lately. It is
        // due a little early rather than half an interval late.
        if round.touches && !round.any && quiet(self.own.proposed_at()) {
            round.any = true;
            round.took_all = self.touch(now, &[]);
        }
        if round.any && round.took_all {
            self.pulse.touched_at = round.began_at;
        }
        self.pulse.at = Some((round.began_at + interval / 2).max(now + DEFER));
    }

    /// Closes those of these connections that this node can't answer for, or whose requests have made no progress, and
    /// has the others give back what they don't need. Returns which were heard.
    fn look_at_connections(
        &mut self,
        now: Instant,
        slots: std::ops::Range<Slot>,
    ) -> Vec<(Slot, ConnId, Open)> {
        let mut heard = Vec::new();
        for slot in slots {
            let Some(conn) = self.conns.get_mut(slot) else { continue };
            conn.relax();
            let Some(open) = conn.open().copied() else { continue };
            let patience = open.timeout() * 2 / 3;
            // Watches that are set again go on, in steps.
            let goes_on = conn.way.is_setting_again() && !conn.way.backlog;
            let stands = |conn: &super::connection::Conn| {
                conn.queue.front().is_some_and(|e| now.since(e.at.max(conn.moved_at)) > patience)
            };
            let (is_stuck, was_heard, id) = (!goes_on && stands(conn), conn.untouched, conn.id);
            if self.is_starving(now, slot) {
                self.drop_conn(slot, STARVING);
            } else if is_stuck {
                self.drop_conn(slot, "its requests have made no progress for two thirds of its timeout");
            } else if was_heard {
                heard.push((slot, id, open));
            }
        }
        heard
    }

    /// Logs that these sessions were heard from, or, without any, that this node is there. Returns whether the log took
    /// it. If not, they are touched with what is heard later.
    fn touch(&mut self, now: Instant, heard: &[(Slot, ConnId, Open)]) -> bool {
        let sessions = heard.iter().map(|(_, _, open)| (open.session, open.attach.0)).collect();
        if self.propose(now, Owner::Touch, None, Op::Touch { sessions }).is_err() {
            return false;
        }
        for (slot, ..) in heard {
            let conn = self.conns.at(*slot);
            (conn.untouched, conn.shown_at) = (false, now);
        }
        self.pulse.touching.push_back(heard.iter().map(|(slot, id, _)| (*slot, *id)).collect());
        true
    }

    /// The oldest touch has come back.
    pub(super) fn settle_touch(&mut self) {
        let at = self.own.vouched_at();
        for (slot, id) in self.pulse.touching.pop_front().expect("a touch that comes back was sent") {
            if let Some(conn) = self.conns.live(slot, id) {
                conn.vouched_at = conn.vouched_at.max(at);
                if let Some(draft) = &mut self.draft {
                    draft.push(Item::Vouched { conn: id, at });
                }
            }
        }
    }
}
