//! Whom does a node serve that is cut off from the log? If it is set to (`readonlymode.enabled`), clients that said they
//! would take it (`readOnly` in their connect request), with reads of what was applied last, and with nothing else.
//!
//! Such a session is no record and no part of the state: no node keeps it alive, or ends it. It lasts as long as its
//! connection, and ends at the latest when anything more is applied here. So nothing of what it reads changes as long as it
//! lasts, and no watch that it leaves is ever due: none is kept. Its client sets its watches again at the next server, as
//! after every lost connection, and is told there of what it missed (ZK-3).

use super::Back;
use super::connection::{Open, Phase, Slot};
use super::handshake::Ask;
use super::policy::Reads as ReadPolicy;
use super::published::Item;
use super::queue::What;
use super::reads::{Leave, Reads};
use super::served::SESSION;
use super::status;
use super::submit::BODY_AT;
use crate::jute::frame::LENGTH_BYTES;
use crate::jute::{ConnectResponse, ErrorCode, OpCode, Reader, RequestHeader, responses, xid};
use crate::state::State;
use bytes::Bytes;
use std::time::Duration;
use zoolog_client::SharedLog;
use zoolog_core::{Gsn, Instant};

/// Top byte of the ids of sessions that no log knows; those of the others have another.
const TOP_BYTE: u64 = 2;

/// Whether no log knows the session.
fn is_unlogged(session: i64) -> bool {
    session as u64 >> 56 == TOP_BYTE
}

impl<L: SharedLog> Back<L> {
    /// Whether whoever asks so may have a read-only session, if nothing else is to be had.
    fn takes_read_only(&self, ask: &Ask) -> bool {
        self.cfg.read_only && self.cfg.reads == ReadPolicy::Session && ask.read_only == Some(true)
    }

    /// Whether the log gives this node nothing: not even its own records come back, or it waits to begin. A node that has
    /// nothing, because it is new or gets its state from another one, shows nothing either.
    pub(super) fn is_read_only(&self, now: Instant, state: &State) -> bool {
        if state.applied() == Gsn(0) || self.behind.fetch.is_on() {
            return false;
        }
        let long = |at: Instant| now.since(at) >= self.cfg.read_only_patience;
        let waits = self.own.oldest_at().map_or(!self.serving, long);
        self.cfg.read_only && !self.failed && waits && long(self.applied_at)
    }

    /// When to look whether a connection that asks so can only have a read-only session.
    pub(super) fn arm_read_only(&mut self, now: Instant, slot: Slot, ask: &Ask) {
        let Some(deadline) = self.conns.at(slot).deadline().filter(|_| self.takes_read_only(ask)) else {
            return;
        };
        self.conns.set_deadline(slot, Some(deadline.min(now + self.cfg.read_only_patience)));
    }

    /// A connection without a session of the log is to be looked at. Returns whether it stays, or was ended here.
    pub(super) fn look_at_read_only(&mut self, now: Instant, state: &State, slot: Slot) -> bool {
        let conn = self.conns.at(slot);
        let (heard_at, patience_over) = (conn.heard_at, conn.began_at + self.cfg.handshake_patience);
        let ask = match conn.phase {
            Phase::ReadOnly(open) if heard_at + open.timeout() <= now => {
                self.drop_conn(slot, "its read-only session timed out");
                return true;
            }
            Phase::ReadOnly(open) => {
                self.conns.set_deadline(slot, Some(heard_at + open.timeout()));
                return true;
            }
            Phase::Waiting(ask) | Phase::Proposed(ask) => ask,
            _ => return false,
        };
        // Who has seen more than there is here must not be shown less.
        if !self.takes_read_only(&ask) || ask.last_zxid > state.zxid() {
            return false;
        }
        if self.is_read_only(now, state) {
            self.open_read_only(now, state, slot, &ask);
        } else if now < patience_over {
            self.conns.set_deadline(slot, Some(patience_over.min(now + self.cfg.read_only_patience)));
        } else {
            return false;
        }
        true
    }

    fn open_read_only(&mut self, now: Instant, state: &State, slot: Slot, ask: &Ask) {
        let session = match ask.session {
            0 => {
                self.read_only_made = self.read_only_made.wrapping_add(1);
                let node = u64::from(self.cfg.id & 0x00ff_ffff);
                (TOP_BYTE << 56 | node << 32 | u64::from(self.read_only_made)) as i64
            }
            known if is_unlogged(known) || state.session(known).is_some() => known,
            // It may be new, or over: others know.
            _ => return self.drop_conn(slot, "this node is cut off, and does not know its session"),
        };
        let open = Open { session, attach: Gsn(0), timeout_ms: ask.timeout_ms };
        self.waiting.remove(&slot);
        self.read_only.insert(slot);
        self.conns.set_deadline(slot, Some(now + open.timeout()));
        let conn = self.conns.at(slot);
        (conn.phase, conn.heard_at, conn.early_bytes) = (Phase::ReadOnly(open), now, 0);
        let (id, early) = (conn.id, std::mem::take(&mut conn.early));
        if let Some(draft) = &mut self.draft {
            draft.push(Item::ReadOnly { conn: id });
        }
        let answer = ConnectResponse {
            timeout_ms: i32::try_from(open.timeout_ms).expect("granted timeouts fit an int"),
            session,
            password: self.passwords.of(session),
            read_only: Some(true),
        };
        answer.encode(self.conns.out(slot));
        self.count_answer(now, status::READ, slot, (SESSION, 0, state.zxid()), now);
        for frame in early {
            self.on_read_only_request(now, state, slot, &frame);
        }
        self.pause_or_resume(slot);
    }

    /// A request of a connection with a read-only session: it waits for nothing.
    pub(super) fn on_read_only_request(&mut self, now: Instant, state: &State, slot: Slot, frame: &Bytes) {
        let Some(conn) = self.conns.get_mut(slot).filter(|c| !c.leaving) else { return };
        let Phase::ReadOnly(open) = conn.phase else { return };
        conn.heard_at = now;
        let Some(body) = frame.get(BODY_AT..) else {
            return self.drop_conn(slot, "a request without a header");
        };
        let header =
            RequestHeader::decode(&mut Reader::new(&frame[LENGTH_BYTES..])).expect("8 bytes are there");
        let (op, zxid) = (OpCode::from_code(header.op), state.zxid());
        let label = op.map_or("NA", super::served::abbreviation_of);
        let of_conn = match op {
            Some(OpCode::Auth) => Some(self.on_auth(slot, body)),
            Some(OpCode::Sasl) => Some(What::OfConn(super::auth::OfConn::Sasl)),
            _ => None,
        };
        let (out, auth, _) = self.conns.out_for(slot);
        match op {
            Some(OpCode::Ping) => return responses::empty(out, xid::PING, zxid),
            Some(
                OpCode::Exists
                | OpCode::GetData
                | OpCode::GetChildren
                | OpCode::GetChildren2
                | OpCode::SetWatches
                | OpCode::SetWatches2
                | OpCode::AddWatch
                | OpCode::CheckWatches
                | OpCode::RemoveWatches
                | OpCode::GetAcl
                | OpCode::GetEphemerals
                | OpCode::GetAllChildrenNumber
                | OpCode::WhoAmI
                | OpCode::MultiRead,
            ) => {
                // Nothing else goes on that a long list could hold up.
                let reads = Reads {
                    state,
                    watches: Leave::Nowhere,
                    auth,
                    session: open.session,
                    names_at_once: usize::MAX,
                };
                let rest = reads.answer(out, header.xid, header.op, body);
                assert!(matches!(rest, Ok(None)), "no watch is kept and no list cut up: {rest:?}");
            }
            Some(OpCode::CloseSession) => {
                responses::empty(out, header.xid, zxid);
                return self.end_conn(slot);
            }
            Some(OpCode::Auth | OpCode::Sasl) => match of_conn {
                Some(What::OfConn(of)) => {
                    of.answer(out, header.xid, zxid);
                    self.settle_of_conn(slot, of);
                }
                _ => responses::error(out, header.xid, zxid, ErrorCode::MarshallingError),
            },
            Some(OpCode::Check | OpCode::DeleteContainer) | None => {
                responses::error(out, header.xid, zxid, ErrorCode::Unimplemented);
            }
            Some(
                OpCode::Create
                | OpCode::Create2
                | OpCode::CreateContainer
                | OpCode::CreateTtl
                | OpCode::Delete
                | OpCode::SetData
                | OpCode::SetAcl
                | OpCode::Multi
                | OpCode::Sync
                | OpCode::Reconfig,
            ) => responses::error(out, header.xid, zxid, ErrorCode::NotReadOnly),
        }
        self.count_answer(now, status::READ, slot, (label, header.xid, zxid), now);
        self.pause_or_resume(slot);
    }

    /// More is about to be applied, or nothing is missing any more: read-only sessions are over.
    pub(super) fn end_read_only(&mut self) {
        for slot in std::mem::take(&mut self.read_only) {
            self.drop_conn(slot, "the log is there again: its session was read-only");
        }
    }
}

/// How long a node hears nothing from the log until it counts as cut off.
pub(super) const READ_ONLY_PATIENCE: Duration = Duration::from_secs(2);
