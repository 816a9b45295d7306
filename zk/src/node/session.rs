//! How do sessions stay alive, and how do they end? The node logs whom it has heard from, stops answering when
//! it can't, and proposes the end of those that were silent. What it does to all of them now and then is in [`pulse`](super::pulse).
//!
//! All of it rests on one time: when the newest own record that has come back was appended
//! ([`Own::vouched_at`](super::own::Own::vouched_at)). Up to then the node was part of the cluster. It appends
//! something once per touch interval while there are sessions at all, so in health that time is never far back.

use super::Back;
use super::clocks::TOUCHES_PER_TIMEOUT;
use super::connection::Slot;
use super::own::Owner;
use crate::state::State;
use crate::txn::Op;
use std::time::Duration;
use zoolog_client::SharedLog;
use zoolog_core::{Gsn, Instant};

/// Sessions that are looked at in a turn; those that are left are due in the next.
const LOOKS_PER_TURN: usize = 4096;

/// A front says that it has heard a session once in this part of its timeout at least, if it has.
pub(super) const HEARD_PER_TIMEOUT: u32 = 16;

/// Why a connection is closed when the node may be cut off.
pub(super) const STARVING: &str = "this node could not reach the log for too long to answer for the session";

impl<L: SharedLog> Back<L> {
    /// Between two touches. `None` while there are no sessions.
    pub(super) fn touch_interval(&self) -> Option<Duration> {
        self.clocks.shortest_timeout().map(|t| (t / TOUCHES_PER_TIMEOUT).max(Duration::from_millis(1)))
    }

    /// Whether this node, as far as it knows, is cut off from the log or the session at `slot` expired: it must
    /// not answer. Others expire it a touch interval after its timeout at the earliest, counted from when they
    /// saw its newest touch.
    pub(super) fn is_starving(&self, now: Instant, slot: Slot) -> bool {
        let Some(interval) = self.touch_interval() else { return false };
        let conn = self.conns.get(slot).expect("the slot is taken");
        let timeout = conn.open().expect("sessions starve").timeout();
        now.since(self.own.vouched_at()) > interval + timeout / 3 || now.since(conn.vouched_at) >= timeout
    }

    /// Whether own records took longer than clocks may run without them.
    fn is_cut_off(&self, now: Instant) -> bool {
        self.touch_interval().is_some_and(|i| now.since(self.own.vouched_at()) > 2 * i)
    }

    /// An own record is about to be taken as come back: if it took too long, silence till now says nothing.
    pub(super) fn check_gap(&mut self, now: Instant) {
        if self.is_cut_off(now) {
            self.clocks.restart(now);
        }
    }

    /// Looks at the sessions whose time it is, and proposes the end of those that were silent.
    pub(super) fn look_at_sessions(&mut self, now: Instant, state: &State) {
        for _ in 0..LOOKS_PER_TURN {
            let Some(id) = self.clocks.pop_due(now) else { return };
            let session =
                state.session(id).unwrap_or_else(|| panic!("session {id:#x} has a clock, but is gone"));
            let seen = (session.attach, session.touch);
            let slot = self.by_session.get(&id).copied();
            // While its socket is not read, silence says nothing about the client, unless that is because the
            // client doesn't read either.
            let told_late = |timeout_ms: u32| match self.draft {
                Some(_) => Duration::from_millis(timeout_ms.into()) / HEARD_PER_TIMEOUT,
                None => Duration::ZERO,
            };
            let late = told_late(session.timeout_ms);
            let heard_at = |c: &super::connection::Conn| {
                if c.paused && !c.way.backlog { now } else { c.heard_at + late }
            };
            let heard_at = slot.map(|s| heard_at(self.conns.at(s)));
            if self.is_cut_off(now) {
                self.clocks.restart(now);
            }
            if self.clocks.look(now, id, seen, heard_at) {
                self.stats.expired += u64::from(!self.cfg.log.fetch.is_serial());
                // Silent: its client has given up, or will when it hears nothing.
                if let Some(slot) = slot {
                    self.drop_conn(slot, "its session timed out");
                }
                if self.cfg.log.fetch.is_serial() {
                    // It may be behind, and not have seen what others know: they decide.
                    continue;
                }
                let op = Op::Expire { session: id, attach: seen.0.0, touch: seen.1.0 };
                // If the log has no room, the clock looks again soon.
                let _ = self.propose(now, Owner::Nobody, None, op);
            }
        }
    }

    /// A session has come to a connection somewhere: whoever had it before is out.
    pub(super) fn session_moved(&mut self, now: Instant, state: &State, id: i64, attach: Gsn) {
        if let Some(&slot) = self.by_session.get(&id) {
            let open = *self.conns.at(slot).open().expect("a session's connection is open");
            assert!(open.attach < attach, "session {id:#x} is attached at {attach} after {}", open.attach);
            self.drop_conn(slot, "its session has moved to another connection");
        }
        if self.serving {
            let session = state.session(id).expect("it has just been attached");
            let seen = (session.attach, session.touch);
            self.clocks.attached(now, id, session.timeout_ms, false, seen);
            self.hasten_pulse(now);
        }
    }

    /// A session is gone; its connection, if here, hears nothing of it.
    pub(super) fn session_ended(&mut self, id: i64) {
        self.clocks.ended(id);
        if let Some(&slot) = self.by_session.get(&id) {
            self.cut_conn(slot);
        }
    }

    /// The node has caught up: every session gets its whole timeout from now on.
    pub(super) fn start_clocks(&mut self, now: Instant, state: &State) {
        self.clocks.restart(now);
        for (id, session) in state.sessions() {
            self.clocks.attached(now, id, session.timeout_ms, false, (session.attach, session.touch));
        }
        self.hasten_pulse(now);
    }

    /// The connection at `slot` serves no session any more.
    pub(super) fn detach(&mut self, slot: Slot) {
        let conn = self.conns.at(slot);
        if let Some(open) = conn.open().copied() {
            let heard_at = conn.heard_at;
            let was = self.by_session.remove(&open.session);
            assert_eq!(was, Some(slot), "session {:#x}", open.session);
            self.clocks.heard(open.session, heard_at);
        }
    }
}
