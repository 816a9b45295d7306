//! When does a write wait for its session's own answers? Reads before a write are answered when it is applied, at
//! the latest, whether or not their answers have anywhere to go. So a write goes to the log only while what
//! is before it has short answers, and its client takes what it has been given.
//!
//! # What a connection's answers take
//! In a turn: reads that wait for nothing are answered up to [`TURN_BYTES_MAX`] and one answer more, those before
//! writes in the log's hands bring [`AHEAD_BYTES_MAX`] as far as can be foretold. Together that is
//! [`OUT_BYTES_PAUSE`] and one answer. From the shell's [`Input::Backlog`](zoolog_core::Input::Backlog) until its
//! end nothing more is added but what is in the log's hands already.
//!
//! What can't be foretold is that others make a node longer while the write is in flight. Therefore no read
//! counts for less than [`READ_BYTES_MIN`]: a write has 32 reads before it at most, however short.

use super::Back;
use super::again;
use super::apply::DEFER;
use super::connection::{Conn, Slot};
use super::queue::What;
use super::share::weight;
use crate::jute::Request;
use crate::state::State;
use zoolog_client::SharedLog;
use zoolog_core::Instant;
use zoolog_core::limits::OUT_BYTES_PAUSE;

/// Bytes of answers in one turn above which no read that waits for nothing else is answered in it.
pub(super) const TURN_BYTES_MAX: usize = OUT_BYTES_PAUSE / 2;
/// Bytes of answers, foretold or made in this turn, above which a write behind them is held back.
pub(super) const AHEAD_BYTES_MAX: usize = OUT_BYTES_PAUSE / 2;
/// Bytes that the answer to a read of data or children counts for at least.
pub(super) const READ_BYTES_MIN: usize = AHEAD_BYTES_MAX / 32;
/// Bytes of any reply beside data, names and paths, at most: lengths, header and Stat.
pub(super) const REPLY_BYTES: usize = 128;
/// Bytes that a child's name is taken for.
const NAME_BYTES: usize = 64;
/// Bytes of answer for each of a `setWatches`, at most: an empty path takes 4, its event 40.
const EVENTS_PER_WATCH_BYTE: usize = 10;

/// Bytes of the answer to a read, from what the state holds now. `largest_write` are the bytes of the largest
/// write before it, which may be to the same node.
pub(super) fn foretell(state: &State, session: i64, op: i32, body: &[u8], largest_write: usize) -> usize {
    let data_bytes = |path: &str| {
        let now = state.stat(path).map_or(0, |s| usize::try_from(s.data_length).unwrap_or(0));
        now.max(largest_write).max(READ_BYTES_MIN)
    };
    let names_bytes = |path: &str| {
        let names = state.stat(path).map_or(0, |s| usize::try_from(s.num_children).unwrap_or(0));
        (names * NAME_BYTES).max(READ_BYTES_MIN)
    };
    REPLY_BYTES
        + match Request::decode(op, body) {
            Ok(Request::GetData { path, .. }) => data_bytes(&path),
            Ok(Request::GetChildren { path, .. }) => names_bytes(&path),
            Ok(Request::SetWatches(_) | Request::SetWatches2(_)) => EVENTS_PER_WATCH_BYTE * body.len(),
            Ok(Request::GetAcl { path }) => state
                .look(&path)
                .map_or(0, |n| n.acl().iter().map(|a| NAME_BYTES + a.id.scheme.len() + a.id.id.len()).sum()),
            Ok(Request::GetEphemerals { .. }) => {
                state.session(session).map_or(0, |s| (s.ephemeral_count() * NAME_BYTES).max(READ_BYTES_MIN))
            }
            Ok(Request::WhoAmI) => READ_BYTES_MIN,
            Ok(Request::MultiRead(parts)) => parts
                .iter()
                .map(|part| match part {
                    Request::GetData { path, .. } => REPLY_BYTES + data_bytes(path),
                    Request::GetChildren { path, .. } => REPLY_BYTES + names_bytes(path),
                    _ => REPLY_BYTES,
                })
                .sum(),
            _ => 0,
        }
}

impl Conn {
    /// Whether a read that waits for nothing else may be answered in this turn.
    pub(super) fn may_answer(&self) -> bool {
        !self.way.backlog && !self.way.is_busy() && self.out_bytes() <= TURN_BYTES_MAX
    }

    /// Whether its first write that is not sent may go to the log, as far as its answers are concerned.
    pub(super) fn may_send(&self) -> bool {
        !self.way.backlog
            && !self.way.is_setting_again()
            && self.queue.answer_bytes_ahead() + self.out_bytes() <= AHEAD_BYTES_MAX
    }
}

impl<L: SharedLog> Back<L> {
    /// Bytes that the answer to a request counts for. `path_bytes` of it are echoed.
    pub(super) fn answer_bytes(&self, state: &State, slot: Slot, what: &What, path_bytes: usize) -> usize {
        let conn = self.conns.get(slot).expect("the slot is taken");
        match what {
            // It is answered at once.
            What::Read(op, frame)
                if conn.queue.is_empty()
                    && conn.may_answer()
                    && self.share.has_room_for(weight(*op, frame, self.cfg.steps.set_again)) =>
            {
                0
            }
            // No write goes ahead of it.
            What::Read(op, frame) if again::is_long(*op, frame, self.cfg.steps.set_again) => {
                AHEAD_BYTES_MAX + 1
            }
            What::Read(op, frame) => {
                let session = conn.open().map_or(0, |o| o.session);
                let body = &frame[super::submit::BODY_AT..];
                foretell(state, session, *op, body, conn.queue.largest_write())
            }
            What::Sync(_, path) => REPLY_BYTES + path.len(),
            What::Refused(_) | What::OfConn(_) => REPLY_BYTES,
            What::Round(_) => 0,
            What::Write(_) | What::Unsent(..) => REPLY_BYTES + path_bytes,
        }
    }

    /// The connection's first write that is not sent waits for its answers.
    pub(super) fn hold(&mut self, now: Instant, slot: Slot) {
        let conn = self.conns.at(slot);
        conn.held = true;
        if conn.out_bytes() > 0 && !conn.way.backlog {
            self.defer(now, slot);
        }
    }

    /// Answers have gone: a write that waited for that is sent at the end of the turn, if that was enough.
    pub(super) fn release_held(&mut self, now: Instant, slot: Slot) {
        let conn = self.conns.at(slot);
        if !conn.held {
        } else if conn.may_send() {
            conn.held = false;
            self.blocked.push_back(slot);
        } else {
            self.hold(now, slot);
        }
    }

    /// Goes on with the connection when this turn's answers are out.
    pub(super) fn defer(&mut self, now: Instant, slot: Slot) {
        self.deferred.insert(slot);
        self.deferred_at.get_or_insert(now + DEFER);
    }
}
