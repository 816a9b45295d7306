//! How does a connection get its session? From the connect request to the answer, which goes out when the
//! record that gives the session to the connection has been applied here.

use super::Back;
use super::auth::Auth;
use super::connection::{Open, Phase, Slot};
use super::own::Owner;
use super::published::Item;
use super::served::SESSION;
use crate::jute::ConnectRequest;
use crate::jute::ConnectResponse;
use crate::jute::frame::LENGTH_BYTES;
use crate::state::State;
use crate::txn::{Op, Outcome};
use bytes::Bytes;
use std::time::Duration;
use zoolog_client::{AppendError, SharedLog};
use zoolog_core::{ConnId, Gsn, Instant};

/// Bytes of frames that may come before the session is there: clients wait for it, but need not.
const EARLY_BYTES_MAX: usize = 1 << 20;
/// Such frames.
const EARLY_FRAMES_MAX: usize = 4096;

/// What a connect request asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    /// Highest zxid the client has seen.
    pub(super) last_zxid: i64,
    /// What is granted.
    pub(super) timeout_ms: u32,
    /// To resume; 0 for a new one.
    pub(super) session: i64,
    /// As in the request.
    pub(super) read_only: Option<bool>,
    /// It was found to have seen more than this node has.
    behind: bool,
}

impl Ask {
    /// The flag in the answer: there only if asked for, and a session of the log is never read-only.
    fn flag(&self) -> Option<bool> {
        self.read_only.map(|_| false)
    }
}

impl<L: SharedLog> Back<L> {
    /// A client has connected.
    pub(super) fn on_accepted(&mut self, now: Instant, conn: ConnId, peer: String) {
        let limit = self.cfg.max_connections_per_ip;
        if self.conns.len() >= self.cfg.max_connections
            || (limit > 0 && self.conns.count_from_ip_of(&peer) >= limit)
        {
            self.note(format!("{peer} is refused: too many connections"));
            self.stats.refused += 1;
            self.close_unknown(conn);
            return;
        }
        self.stats.accepted += 1;
        let deadline = now + self.cfg.handshake_patience;
        let auth = Auth::of_peer(&peer, self.cfg.skip_acl);
        self.conns.insert(now, conn, peer, auth, deadline);
    }

    /// The first frame of a connection.
    pub(super) fn on_first_frame(&mut self, now: Instant, state: &State, slot: Slot, frame: &Bytes) {
        if super::framing::is_word(frame) {
            return self.on_word(now, state, slot, frame);
        }
        let asked = frame.get(LENGTH_BYTES..).map(ConnectRequest::decode);
        let Some(Ok(asked)) = asked else {
            return self.drop_conn(slot, "its connect request can't be read");
        };
        let ask = Ask {
            last_zxid: asked.last_zxid_seen,
            timeout_ms: self.cfg.grant_ms(asked.timeout_ms),
            session: asked.session,
            read_only: asked.read_only,
            behind: false,
        };
        // Before anything that the session's owner would notice: a wrong password must not disturb it.
        if ask.session != 0 && !self.passwords.check(ask.session, asked.password) {
            return self.refuse(slot, &ask);
        }
        self.conns.at(slot).phase = Phase::Waiting(ask);
        self.waiting.insert(slot);
        self.arm_read_only(now, slot, &ask);
        self.try_handshake(now, state, slot);
    }

    /// A frame that came while the session is on its way.
    pub(super) fn on_early_frame(&mut self, slot: Slot, frame: Bytes) {
        let conn = self.conns.at(slot);
        conn.early_bytes += frame.len();
        conn.early.push_back(frame);
        if conn.early_bytes > EARLY_BYTES_MAX || conn.early.len() > EARLY_FRAMES_MAX {
            return self.drop_conn(slot, "it sends requests without waiting for its session");
        }
        self.pause_or_resume(slot);
    }

    /// Proposes the connection's session, if this node may and can by now.
    pub(super) fn try_handshake(&mut self, now: Instant, state: &State, slot: Slot) {
        let Phase::Waiting(mut ask) = self.conns.at(slot).phase else {
            panic!("connection {slot} doesn't wait for its session");
        };
        if !self.serving {
            return;
        }
        if ask.last_zxid > state.zxid() {
            // It has seen more elsewhere: what is missing here may be on its way.
            if !ask.behind {
                ask.behind = true;
                let until = now + self.cfg.catch_up_patience;
                let conn = self.conns.at(slot);
                conn.phase = Phase::Waiting(ask);
                let until = conn.deadline().map_or(until, |d| d.min(until));
                self.conns.set_deadline(slot, Some(until));
            }
            return;
        }
        let timeout_ms = ask.timeout_ms;
        let op = match ask.session {
            0 => Op::CreateSession { timeout_ms },
            session => Op::Attach { session, timeout_ms },
        };
        let conn = self.conns.at(slot);
        let (id, ids) = (conn.id, conn.auth.address_id().into_iter().collect());
        match self.propose_as(now, Owner::Handshake(slot, id), None, ids, op) {
            Ok(()) => {
                self.waiting.remove(&slot);
                self.conns.at(slot).phase = Phase::Proposed(ask);
                if ask.behind {
                    self.conns.set_deadline(slot, Some(now + self.cfg.handshake_patience));
                }
            }
            Err(AppendError::Full | AppendError::DiskFull) => {}
            Err(e) => self.drop_conn(slot, &e.to_string()),
        }
    }

    /// Those that wait look again whether they still have to.
    pub(super) fn try_handshakes(&mut self, now: Instant, state: &State) {
        if !self.serving || self.waiting.is_empty() {
            return;
        }
        for slot in self.waiting.clone() {
            if !self.log.has_room() {
                return;
            }
            self.try_handshake(now, state, slot);
        }
    }

    /// The record that gives a connection its session was applied as `gsn`.
    pub(super) fn settle_handshake(
        &mut self,
        now: Instant,
        state: &State,
        slot: Slot,
        id: ConnId,
        gsn: Gsn,
        outcome: &Outcome,
    ) {
        let ask = self.conns.live(slot, id).map(|conn| match conn.phase {
            Phase::Proposed(ask) => ask,
            ref other => panic!("a session comes to connection {slot}, which is {other:?}"),
        });
        let (session, timeout_ms) = match (outcome, ask) {
            (Outcome::SessionCreated { session, timeout_ms }, _) => (*session, *timeout_ms),
            (Outcome::Attached { timeout_ms }, Some(ask)) => (ask.session, *timeout_ms),
            (Outcome::NoSuchSession, Some(ask)) => return self.refuse(slot, &ask),
            (Outcome::Rejected, Some(_)) => return self.drop_conn(slot, "its session was rejected"),
            (Outcome::Attached { .. } | Outcome::NoSuchSession | Outcome::Rejected, None) => return,
            (other, _) => panic!("a handshake came to {other:?}"),
        };
        // It is this node's to expire, even if the client has not waited for it.
        self.clocks.attached(now, session, timeout_ms, true, (gsn, gsn));
        self.hasten_pulse(now);
        let Some(ask) = ask else { return };
        self.conns.set_deadline(slot, None);
        let conn = self.conns.at(slot);
        let open = Open { session, attach: gsn, timeout_ms };
        conn.phase = Phase::Open(open);
        conn.heard_at = now;
        conn.vouched_at = self.own.vouched_at();
        if let Some(draft) = &mut self.draft {
            let (timeout, vouched_at) = (open.timeout(), conn.vouched_at);
            draft.push(Item::Opened { conn: id, timeout, vouched_at });
        }
        conn.shown_at = now;
        conn.early_bytes = 0;
        let early = std::mem::take(&mut conn.early);
        let before = self.by_session.insert(session, slot);
        assert!(
            before.is_none(),
            "session {session:#x} left connection {before:?} when it was attached anew"
        );
        if self.is_starving(now, slot) {
            return self.drop_conn(slot, super::session::STARVING);
        }
        let answer = ConnectResponse {
            timeout_ms: i32::try_from(timeout_ms).expect("granted timeouts fit an int"),
            session,
            password: self.passwords.of(session),
            read_only: ask.flag(),
        };
        answer.encode(self.conns.out(slot));
        self.conns.at(slot).served.answered(SESSION, 0, state.zxid(), now, Duration::ZERO);
        if self.draft.is_none() {
            self.turn.answered();
        }
        for frame in early {
            self.on_request(now, state, slot, frame);
        }
        self.pause_or_resume(slot);
    }

    /// "Your session is gone."
    fn refuse(&mut self, slot: Slot, ask: &Ask) {
        ConnectResponse::refusal(ask.flag()).encode(self.conns.out(slot));
        self.end_conn(slot);
    }

    /// Closes connections that have no session when their time is up.
    pub(super) fn expire_handshakes(&mut self, now: Instant, state: &State) {
        while let Some((_, slot)) = self.conns.next_deadline().filter(|d| d.0 <= now) {
            if self.look_at_read_only(now, state, slot) {
                continue;
            }
            self.stats.sessionless += 1;
            self.drop_conn(slot, "it has no session after all the time it was given");
        }
    }
}
