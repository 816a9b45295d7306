//! What happens to a request when it arrives? A ping is answered, a read served unless something of its session
//! is before it, a write made a record of the log; what must wait goes into the session's queue.

use super::Back;
use super::auth::OfConn;
use super::connection::Slot;
use super::own::Owner;
use super::places::Client as _;
use super::policy::{Acks, Reads, early_answer, reads_tree};
use super::queue::{Entry, What, WriteOp};
use super::writes::{self, Asked};
use crate::jute::frame::LENGTH_BYTES;
use crate::jute::{ErrorCode, OpCode, Reader, Request, RequestHeader, responses, xid};
use crate::state::{State, encode, encode_with};
use crate::txn::{AuthId, Op, Txn};
use bytes::Bytes;
use zoolog_client::{AppendError, DiskRoom, SharedLog};
use zoolog_core::{Instant, limits};

/// Bytes of length and header, before a request's record.
pub(super) const BODY_AT: usize = LENGTH_BYTES + 8;

/// A connection may have this many times the requests that may wait for the log, and 4 times the bytes, before
/// it is closed rather than paused.
const HARD_FACTOR: usize = 64;

/// Bytes that a connection whose writes wait for room gives the log before the next one's turn,
const SHARE_BYTES: usize = 64 << 10;
/// and what each record counts for beside its own.
const RECORD_COST_BYTES: usize = 512;

/// What becomes of a connection whose writes waited.
enum Then {
    /// None of them waits any more.
    Done,
    /// The next waits for answers to be taken.
    Hold,
    /// It has had its share.
    NextTurn,
}

/// The session a record is written for: id, and GSN of what its connection rests on.
type For = Option<(i64, u64)>;

impl<L: SharedLog> Back<L> {
    /// A request of a connection with a session.
    pub(super) fn on_request(&mut self, now: Instant, state: &State, slot: Slot, frame: Bytes) {
        let Some(conn) = self.conns.get_mut(slot).filter(|c| !c.is_closed() && !c.leaving) else { return };
        conn.heard_at = now;
        conn.untouched = true;
        let Some(body) = frame.get(BODY_AT..) else {
            return self.drop_conn(slot, "a request without a header");
        };
        if self.is_starving(now, slot) {
            return self.drop_conn(slot, super::session::STARVING);
        }
        self.hasten_touch(now, slot);
        let header =
            RequestHeader::decode(&mut Reader::new(&frame[LENGTH_BYTES..])).expect("8 bytes are there");
        let (mut path_bytes, mut early) = (0, None);
        let op = OpCode::from_code(header.op);
        if self.cfg.reads != Reads::Session
            && op.is_some_and(reads_tree)
            && !self.enqueue_ahead(now, state, slot, header.xid)
        {
            return;
        }
        let what = match op {
            Some(OpCode::Ping) => {
                let zxid = state.zxid();
                responses::empty(self.conns.out(slot), xid::PING, zxid);
                return;
            }
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
            ) => What::Read(header.op, frame.clone()),
            Some(OpCode::Sync) => match Request::decode(header.op, body) {
                Ok(Request::Sync { path }) => What::Sync(self.syncs.join(slot), path.into_owned()),
                _ => What::Refused(ErrorCode::MarshallingError),
            },
            Some(
                OpCode::Create
                | OpCode::Create2
                | OpCode::CreateContainer
                | OpCode::CreateTtl
                | OpCode::Delete
                | OpCode::SetData
                | OpCode::SetAcl
                | OpCode::Multi
                | OpCode::CloseSession,
            ) => match writes::asked(&self.cfg, header.op, body) {
                Ok(Asked { kind, op, echo_bytes }) => {
                    path_bytes = echo_bytes;
                    if self.cfg.acks == Acks::Logged {
                        early = early_answer(kind, &op);
                    }
                    match self.submit(now, state, slot, kind, op) {
                        Some(what) => what,
                        None => return,
                    }
                }
                Err(error) => What::Refused(error),
            },
            Some(OpCode::Auth) => self.on_auth(slot, body),
            Some(OpCode::Sasl) => What::OfConn(OfConn::Sasl),
            Some(OpCode::Reconfig) => What::Refused(ErrorCode::ReconfigDisabled),
            Some(OpCode::Check | OpCode::DeleteContainer) | None => What::Refused(ErrorCode::Unimplemented),
        };
        let answer_bytes = self.answer_bytes(state, slot, &what, path_bytes);
        let entry = Entry { xid: header.xid, at: now, bytes: frame.len(), answer_bytes, what, early };
        self.enqueue(now, state, slot, entry);
    }

    /// Puts into the queue what a read waits for that is to show all that was answered before it. Returns whether its
    /// connection is still open.
    fn enqueue_ahead(&mut self, now: Instant, state: &State, slot: Slot, xid: i32) -> bool {
        // While the disks are short of room, reads go on.
        let what = match self.cfg.reads {
            Reads::Log if self.room == DiskRoom::Ample => {
                self.submit(now, state, slot, WriteOp::Mark, Op::Nothing)
            }
            _ => Some(What::Round(self.syncs.join(slot))),
        };
        let Some(what) = what else { return false };
        self.conns.at(slot).queue.push(Entry { xid, at: now, bytes: 0, answer_bytes: 0, what, early: None });
        true
    }

    /// Puts a request into its queue and answers what can be answered.
    fn enqueue(&mut self, now: Instant, state: &State, slot: Slot, entry: Entry) {
        let (requests, bytes) = (self.cfg.max_pending_requests, self.cfg.max_pending_bytes);
        let conn = self.conns.at(slot);
        let first = conn.queue.is_empty();
        conn.queue.push(entry);
        if first {
            self.pump(now, state, slot);
        } else {
            // It waits for what is before it, which may be answered already.
            self.log.want(self.logged_end);
        }
        let conn = self.conns.at(slot);
        // The shell may hand over what it had read before the pause, but not without end.
        if conn.queue.len() > HARD_FACTOR * requests || conn.queue.bytes() > 4 * bytes {
            return self.drop_conn(slot, "far more requests wait than it may have");
        }
        self.pause_or_resume(slot);
    }

    /// Gives a write of the connection's session to the log, or keeps it until there is room, there and for
    /// the answers before it. `None` if the connection was closed instead.
    fn submit(&mut self, now: Instant, state: &State, slot: Slot, kind: WriteOp, op: Op) -> Option<What> {
        let conn = self.conns.at(slot);
        let open = *conn.open().expect("only sessions submit");
        let (id, after_unsent, hold) = (conn.id, conn.queue.has_unsent(), !conn.may_send());
        conn.leaving |= kind == WriteOp::CloseSession;
        let (session, attach, ids) = (open.session, open.attach.0, conn.auth.ids());
        let record =
            encode_with(self.record_flags(state), &Txn { session, attach, wall: self.wall.at(now), ids, op });
        if record.len() > limits::RECORD_BYTES_MAX {
            return Some(What::Refused(ErrorCode::BadArguments));
        }
        // Sessions live on while the disks are short of room, and may end: so reads go on. Nothing else is written.
        let vital = kind == WriteOp::CloseSession;
        if self.room != DiskRoom::Ample && !vital {
            return Some(What::Refused(ErrorCode::SystemError));
        }
        let appended = match (after_unsent || hold, vital) {
            (true, _) => Err(AppendError::Full),
            (false, true) => self.log.append_vital(&record),
            (false, false) => self.log.append(&record),
        };
        match appended {
            Ok(place) => {
                self.own.push(now, place, Owner::Request(slot, id));
                // Applying it shows that the session is alive.
                let conn = self.conns.at(slot);
                (conn.untouched, conn.shown_at) = (false, now);
                Some(What::Write(kind))
            }
            Err(AppendError::Full | AppendError::DiskFull) => {
                match (after_unsent, hold) {
                    (true, _) => {}
                    (false, true) => self.hold(now, slot),
                    (false, false) => self.blocked.push_back(slot),
                }
                Some(What::Unsent(kind, record))
            }
            Err(e) => {
                self.drop_conn(slot, &e.to_string());
                None
            }
        }
    }

    /// Gives the log what it had no room for, connection by connection, to each a share in its turn: nobody waits for
    /// all that another has. Returns whether it took any.
    pub(super) fn submit_blocked(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some(&slot) = self.blocked.front() {
            let (mut then, mut share_bytes) = (Then::Done, SHARE_BYTES);
            if let Some(conn) = self.conns.get_mut(slot) {
                conn.held = false;
                while let Some(record) = conn.queue.first_unsent() {
                    if !conn.may_send() {
                        then = Then::Hold;
                        break;
                    }
                    if share_bytes == 0 {
                        then = Then::NextTurn;
                        break;
                    }
                    let bytes = record.len() + RECORD_COST_BYTES;
                    match self.log.append(record) {
                        Ok(place) => self.own.push(now, place, Owner::Request(slot, conn.id)),
                        Err(_) => {
                            if share_bytes < SHARE_BYTES {
                                // It had something: who waits behind it is first when there is room again.
                                self.blocked.rotate_left(1);
                            }
                            return any;
                        }
                    }
                    share_bytes = share_bytes.saturating_sub(bytes);
                    conn.queue.first_unsent_is_sent();
                    conn.shown_at = now;
                    any = true;
                }
            }
            self.blocked.pop_front();
            match then {
                Then::Done => {}
                Then::Hold => self.hold(now, slot),
                Then::NextTurn => self.blocked.push_back(slot),
            }
            self.pause_or_resume(slot);
        }
        any
    }

    /// Has the connection's socket read, or not.
    pub(super) fn pause_or_resume(&mut self, slot: Slot) {
        let (requests, bytes) = (self.cfg.max_pending_requests, self.cfg.max_pending_bytes);
        self.count_pending(slot);
        let bytes = self.pending.share(bytes);
        let Some(conn) = self.conns.get_mut(slot).filter(|c| !c.is_closed()) else { return };
        if conn.set_pause(requests, bytes) {
            self.conns.mark(slot);
        }
    }

    /// What waits of the connection may have changed. At fronts it is counted there.
    pub(super) fn count_pending(&mut self, slot: Slot) {
        let Some(conn) = self.conns.get_mut(slot).filter(|_| self.draft.is_none()) else { return };
        let now = conn.pending_bytes();
        let before = std::mem::replace(&mut conn.counted_bytes, now);
        if before != now && self.pending.changed(before, now) {
            let slots: Vec<Slot> = self.conns.iter().map(|(slot, _)| slot).collect();
            slots.into_iter().for_each(|slot| self.pause_or_resume(slot));
        }
    }

    /// Appends a record of the node, or of a session.
    ///
    /// # Errors
    /// As the log's.
    pub(super) fn propose(&mut self, now: Instant, owner: Owner, of: For, op: Op) -> Result<(), AppendError> {
        self.propose_as(now, owner, of, Vec::new(), op)
    }

    /// The same, for who is `ids`.
    ///
    /// # Errors
    /// As the log's.
    pub(super) fn propose_as(
        &mut self,
        now: Instant,
        owner: Owner,
        of: For,
        ids: Vec<AuthId>,
        op: Op,
    ) -> Result<(), AppendError> {
        let (session, attach) = of.unwrap_or((0, 0));
        let record = encode(&Txn { session, attach, wall: self.wall.at(now), ids, op });
        let place = self.log.append_vital(&record)?;
        self.own.push(now, place, owner);
        Ok(())
    }
}
