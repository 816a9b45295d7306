//! How do sessions stay alive, and how do they end? The node logs whom it has heard from, stops answering when
//! it can't, and proposes the end of those that were silent.
//!
//! All of it rests on one time: when the newest own record that has come back was appended
//! ([`Own::vouched_at`](super::own::Own::vouched_at)). Up to then the node was part of the cluster. It appends
//! something once per touch interval while there are sessions at all, so in health that time is never far back.

use super::Node;
use super::clocks::TOUCHES_PER_TIMEOUT;
use super::connection::Slot;
use super::own::Owner;
use crate::txn::Op;
use std::time::Duration;
use zoolog_client::SharedLog;
use zoolog_core::{Gsn, Instant};

/// Sessions in one touch record at most: half a megabyte of them.
const TOUCH_SESSIONS_MAX: usize = 32_768;

/// Why a connection is closed when the node may be cut off.
pub(super) const STARVING: &str = "this node could not reach the log for too long to answer for the session";

impl<L: SharedLog> Node<L> {
    /// Between two touches. `None` while there are no sessions.
    pub(super) fn touch_interval(&self) -> Option<Duration> {
        self.clocks.shortest_timeout().map(|t| (t / TOUCHES_PER_TIMEOUT).max(Duration::from_millis(1)))
    }

    /// Whether this node may have been replaced, as far as it knows, for a session of that timeout: it must
    /// not answer. Well before any other node would expire the session.
    pub(super) fn is_starving(&self, now: Instant, timeout_ms: u32) -> bool {
        let Some(interval) = self.touch_interval() else { return false };
        let third = Duration::from_millis(u64::from(timeout_ms)) / 3;
        now.since(self.own.vouched_at()) > interval + third
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

    /// There are sessions: the pulse must run, and at their pace.
    pub(super) fn hasten_pulse(&mut self, now: Instant) {
        if let Some(interval) = self.touch_interval().filter(|_| self.serving) {
            let at = now + interval / 2;
            self.pulse_at = Some(self.pulse_at.map_or(at, |p| p.min(at)));
        }
    }

    /// Runs twice per touch interval: closes what can't be answered for, and touches what was heard.
    pub(super) fn pulse(&mut self, now: Instant) {
        if self.pulse_at.is_none_or(|at| at > now) {
            return;
        }
        let Some(interval) = self.touch_interval() else {
            self.pulse_at = None;
            return;
        };
        self.pulse_at = Some(now + interval / 2);
        self.close_stuck(now);
        // A touch is due a little early rather than half an interval late.
        if now.since(self.touched_at) + interval / 4 >= interval {
            self.touch(now, interval);
        }
    }

    /// Closes connections that this node can't answer for, or whose requests have made no progress.
    fn close_stuck(&mut self, now: Instant) {
        let mut stuck = Vec::new();
        for (slot, conn) in self.conns.iter() {
            let Some(open) = conn.open() else { continue };
            let patience = Duration::from_millis(u64::from(open.timeout_ms)) * 2 / 3;
            if self.is_starving(now, open.timeout_ms) {
                stuck.push((slot, STARVING));
            } else if conn.queue.front().is_some_and(|e| now.since(e.at) > patience) {
                stuck.push((slot, "its requests have made no progress for two thirds of its timeout"));
            }
        }
        for (slot, why) in stuck {
            self.drop_conn(slot, why);
        }
    }

    /// Logs which sessions were heard from. Without any, an empty touch says that the node is there, unless
    /// something else has said so lately.
    fn touch(&mut self, now: Instant, interval: Duration) {
        let untouched = |c: &super::connection::Conn| c.open().filter(|_| c.untouched).copied();
        let heard: Vec<_> = self.conns.iter().filter_map(|(slot, c)| Some((slot, untouched(c)?))).collect();
        if heard.is_empty() && now.since(self.own.proposed_at()) + interval / 4 < interval {
            return;
        }
        for chunk in heard.chunks(TOUCH_SESSIONS_MAX).chain(heard.is_empty().then_some(&[][..])) {
            let sessions = chunk.iter().map(|(_, open)| (open.session, open.attach.0)).collect();
            if self.propose(now, Owner::Node, None, Op::Touch { sessions }).is_err() {
                return; // At the next pulse, those that are left.
            }
            for (slot, _) in chunk {
                self.conns.at(*slot).untouched = false;
            }
        }
        self.touched_at = now;
    }

    /// Looks at the sessions whose time it is, and proposes the end of those that were silent.
    pub(super) fn look_at_sessions(&mut self, now: Instant) {
        while let Some(id) = self.clocks.pop_due(now) {
            let session = self.state.session(id).unwrap_or_else(|| panic!("session {id:#x} has a clock, but is gone"));
            let seen = (session.attach, session.touch);
            let slot = self.by_session.get(&id).copied();
            let heard_at = slot.map(|s| self.conns.at(s).heard_at);
            if self.is_cut_off(now) {
                self.clocks.restart(now);
            }
            if self.clocks.look(now, id, seen, heard_at) {
                // Silent: its client has given up, or will when it hears nothing.
                if let Some(slot) = slot {
                    self.drop_conn(slot, "its session timed out");
                }
                let op = Op::Expire { session: id, attach: seen.0.0, touch: seen.1.0 };
                // If the log has no room, the clock looks again soon.
                let _ = self.propose(now, Owner::Node, None, op);
            }
        }
    }

    /// A session has come to a connection somewhere: whoever had it before is out.
    pub(super) fn session_moved(&mut self, now: Instant, id: i64, attach: Gsn) {
        if let Some(&slot) = self.by_session.get(&id) {
            let open = *self.conns.at(slot).open().expect("a session's connection is open");
            assert!(open.attach < attach, "session {id:#x} is attached at {attach} after {}", open.attach);
            self.drop_conn(slot, "its session has moved to another connection");
        }
        if self.serving {
            let session = self.state.session(id).expect("it has just been attached");
            let seen = (session.attach, session.touch);
            self.clocks.attached(now, id, session.timeout_ms, false, seen);
            self.hasten_pulse(now);
        }
    }

    /// A session is gone; its connection, if here, hears nothing of it.
    pub(super) fn session_ended(&mut self, id: i64) {
        self.clocks.ended(id);
        if let Some(&slot) = self.by_session.get(&id) {
            self.end_conn(slot);
        }
    }

    /// The node has caught up: every session gets its whole timeout from now on.
    pub(super) fn start_clocks(&mut self, now: Instant) {
        self.clocks.restart(now);
        for (id, session) in self.state.sessions() {
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
