//! What happens when the log delivers? Each record is applied, watches fire, own requests are answered, and
//! what waited for the position reached goes on.

use super::again::{self, SetAgain};
use super::connection::Slot;
use super::own::Owner;
use super::places::Client as _;
use super::policy::Acks;
use super::published::Item;
use super::queue::{Entry, What, WriteOp};
use super::reads::{Leave, Reads};
use super::served::{abbreviation, abbreviation_of};
use super::share::weight;
use super::skips::Ended;
use super::submit::BODY_AT;
use super::{Back, NodeEvent, reply, status};
use crate::jute::{OpCode, responses};
use crate::state::{APPLY_VERSION_MAX, State};
use crate::txn::{Change, Outcome};
use std::time::Duration;
use zoolog_client::{Committed, DiskRoom, LogEvent, RequestId, Sealed, SharedLog};
use zoolog_core::guard::guarded;
use zoolog_core::limits::OUT_BYTES_MAX;
use zoolog_core::{ConnId, Gsn, Instant, Output, Seq};

/// About what a node takes in memory beside its path and data.
const NODE_BYTES: u64 = 200;

/// Until requests that would make a turn's answers too long are gone on with.
pub(super) const DEFER: Duration = Duration::from_millis(1);

impl<L: SharedLog> Back<L> {
    /// The log's answer to the question for its tail.
    pub(super) fn on_tail(&mut self, now: Instant, state: &State, request: RequestId, gsn: Gsn) {
        self.order_tail = self.order_tail.max(gsn);
        if self.boot_tail.0 == Some(request) {
            self.boot_tail = (None, Some(gsn));
            let records = gsn.0.saturating_sub(state.applied().0);
            let node = state.data_bytes() / (state.znode_count() as u64).max(1) + NODE_BYTES;
            self.outbox.push_back(Output::Event(NodeEvent::Plays { bytes: records.saturating_mul(node) }));
            self.skips.ends_at(gsn);
        }
        self.syncs.answer(request, gsn);
        self.log.want(gsn);
        self.reached(now, state);
    }

    /// The log tells something that concerns neither the state nor what waits for it.
    pub(super) fn on_log(&mut self, event: LogEvent) {
        match event {
            LogEvent::Progress { tail } => self.order_tail = self.order_tail.max(tail),
            LogEvent::Stalled { what } => self.note(format!("the log stands still: {what}")),
            LogEvent::Resumed { what } => self.note(format!("the log moves again: {what}")),
            LogEvent::Gap { from, until } => self.on_gap(from, until),
            LogEvent::Offers { request, trim, offers } => self.on_offers(request, trim, offers),
            LogEvent::WriterLost { why, unknown_from } => {
                self.fail(format!("writes from batch {unknown_from} on may be lost: {why}"));
            }
            LogEvent::Orderers { addrs } => self.outbox.push_back(Output::Event(NodeEvent::Orderers(addrs))),
            LogEvent::Ready { cluster, .. } => self.snapshots.cluster = cluster,
            LogEvent::Room { room } => self.room_is(room),
            LogEvent::Moved(Sealed { tail, successor }) => {
                self.note(format!("the log goes on at {successor}, from {tail} on"));
                self.snapshots.moved(tail);
                self.outbox.push_back(Output::Event(NodeEvent::Moved(Sealed { tail, successor })));
            }
            LogEvent::Left(tail) => self.outbox.push_back(Output::Event(NodeEvent::Left(tail))),
            LogEvent::Sealed(Sealed { tail, successor }) => {
                self.fail(format!(
                    "the log has ended at {tail}, and goes on at {successor}: start this node there"
                ));
            }
            LogEvent::ReadDone { request, batches, covers, end } => {
                self.on_searched(request, &batches, (covers, end));
            }
            LogEvent::Appended { seq, .. } => self.skips.appended(seq),
            LogEvent::Committed(_) | LogEvent::Tail { .. } => panic!("{event:?} concerns the state"),
            // They answer what was never asked.
            LogEvent::Conflict { .. }
            | LogEvent::Opened { .. }
            | LogEvent::AppendFailed { .. }
            | LogEvent::TrimDone { .. }
            | LogEvent::SealDone { .. } => {}
        }
    }

    /// There is little room below the log, or enough again.
    fn room_is(&mut self, room: DiskRoom) {
        let said = std::mem::replace(&mut self.room, room);
        match room {
            DiskRoom::Ample if said != room => self.note("the log's disks have room again: writes are taken".into()),
            DiskRoom::Low | DiskRoom::Full if said == DiskRoom::Ample => self.note(
                "the log's disks are short of room: writes are refused with SystemError, reads and sessions go on".into(),
            ),
            _ => {}
        }
    }

    /// The next batch of the log, or the next piece of it: it is applied.
    pub(super) fn on_committed(&mut self, now: Instant, state: &mut State, committed: &Committed) {
        assert_eq!(committed.from(), state.applied(), "the log delivers densely");
        self.end_read_only();
        self.applied_at = now;
        let seq = committed.placed.batch.seq();
        if !committed.placed.batch.holds_at(committed.first_gsn) {
            // It has a place in the order, and says nothing to this state.
            let mut all = committed.from().0..committed.end().0;
            if all.any(|gsn| self.apply_one(now, state, Gsn(gsn), b"", None).is_err()) {
                return;
            }
        }
        if let Some(since) = self.own.oldest_at().filter(|_| committed.own && committed.skip == 0) {
            self.stats.stages.record(status::LOG, now.since(since), 1);
        }
        let records = u64::from(committed.take);
        self.stats.stages.record(status::DELIVER, now.since(committed.ordered_at), records);
        self.turn.applied(records);
        let mut bytes = 0;
        for (gsn, index, record) in committed.records() {
            let owner = committed.own.then(|| {
                self.check_gap(now);
                self.own.take(seq, index)
            });
            if self.apply_one(now, state, gsn, &record, owner).is_err() {
                return;
            }
            self.snapshots.applied(record.len());
            bytes += record.len() as u64;
        }
        let version = state.apply_version();
        if version > APPLY_VERSION_MAX {
            return self
                .fail(format!("the state follows rules of version {version}, newer than this build's"));
        }
        self.mark_if_due(now, records, bytes);
        self.snapshot_if_due(now, state);
        self.arm_sweeper(now, state);
        self.reached(now, state);
    }

    /// Applies a record, or passes over it.
    ///
    /// # Errors
    /// The node has ended with it.
    fn apply_one(
        &mut self,
        now: Instant,
        state: &mut State,
        gsn: Gsn,
        record: &[u8],
        owner: Option<Owner>,
    ) -> Result<(), Ended> {
        if let Some(Owner::Request(slot, id)) = owner {
            self.serve_up_to_write(now, state, slot, id);
        }
        let mut changes = std::mem::take(&mut self.changes);
        let applied = match self.skips.has(gsn) {
            false => guarded(|| state.apply(gsn, record, &mut changes)),
            true => Ok(self.pass_over(state, gsn)),
        };
        let outcome = match applied {
            Ok(outcome) => outcome,
            Err(said) => return Err(self.panicked(now, gsn, &said)),
        };
        let zxid = state.zxid();
        let (mut ended, mut swept) = (None, 0);
        for change in changes.drain(..) {
            match change {
                Change::SessionAttached { session, attach } => {
                    self.session_moved(now, state, session, Gsn(attach))
                }
                Change::SessionEnded { session } => ended = Some(session),
                Change::OverQuota { path } if owner.is_some() => {
                    self.note(format!("the quota of {path} is exceeded"));
                }
                Change::OverQuota { .. } => {}
                Change::Created { .. } | Change::Deleted { .. } | Change::DataChanged { .. } => {
                    swept += usize::from(matches!(change, Change::Deleted { .. }));
                    self.tell_watchers(zxid, change);
                }
            }
        }
        self.changes = changes;
        match owner {
            Some(Owner::Request(slot, id)) => self.settle(now, state, slot, id, &outcome),
            Some(Owner::Handshake(slot, id)) => self.settle_handshake(now, state, slot, id, gsn, &outcome),
            Some(Owner::Touch) => self.settle_touch(),
            Some(Owner::Sweep) => self.settle_sweep(now, state, swept),
            Some(Owner::Mark) => self.settle_mark(),
            Some(Owner::Nobody) | None => {}
        }
        if let Some(session) = ended {
            self.session_ended(session);
        }
        match outcome {
            Outcome::Word(word) => self.on_said(now, state, gsn, word),
            Outcome::Rejected => self.name_rejected(state, gsn, record),
            _ => {}
        }
        if self.outline.as_ref().is_some_and(|outline| outline.at <= state.applied()) {
            self.compare_outline(state);
        }
        if self.failed { Err(Ended) } else { Ok(()) }
    }

    /// Events go out before the reply of the write that caused them, and any later one (ZK-3): here, or where the
    /// watchers are.
    fn tell_watchers(&mut self, zxid: i64, change: Change) {
        let conns = &mut self.conns;
        match &mut self.draft {
            None => {
                let readers = change.readers();
                conns.tree_changed(&change);
                self.watches.fire(&change, |told, kind, path| conns.event(told, zxid, kind, path, readers));
            }
            Some(_) if !self.serving => {}
            Some(draft) => {
                conns.publish(draft);
                draft.push(Item::Changed { zxid, change });
            }
        }
    }

    /// Answers what the connection has before its next write, which is about to be applied: a sync among it has
    /// seen enough, since all that was committed when it came lies before a write that was sent later.
    fn serve_up_to_write(&mut self, now: Instant, state: &State, slot: Slot, id: ConnId) {
        while let Some(conn) = self.conns.live(slot, id) {
            if conn.out_bytes() > OUT_BYTES_MAX {
                return self.drop_conn(slot, "its answers are too long to keep");
            }
            assert!(!conn.way.is_setting_again(), "a write went ahead of watches that are set again");
            if matches!(conn.queue.front(), Some(Entry { what: What::Write(_), .. })) {
                return;
            }
            let entry = conn.queue.pop().expect("the connection's write is in its queue");
            self.answer(now, state, slot, entry);
        }
    }

    /// Answers the write at the front of the connection's queue, and what waited for it.
    fn settle(&mut self, now: Instant, state: &State, slot: Slot, id: ConnId, outcome: &Outcome) {
        let Some(conn) = self.conns.live(slot, id) else { return };
        let answered = conn.queue.front_is_answered();
        let entry = conn.queue.pop().expect("the connection's write is in its queue");
        let What::Write(op) = entry.what else { panic!("{entry:?} is not the write that was applied") };
        conn.moved_at = now;
        conn.vouched_at = conn.vouched_at.max(self.own.vouched_at());
        if self.is_starving(now, slot) {
            return self.drop_conn(slot, super::session::STARVING);
        }
        if *outcome == Outcome::Stale {
            return self.drop_conn(slot, "its session has moved or ended");
        }
        if answered {
            self.stats.failed_late += u64::from(matches!(outcome, Outcome::Failed(_)));
        } else if op != WriteOp::Mark {
            let zxid = state.zxid();
            reply::outcome(self.conns.out(slot), entry.xid, zxid, op, outcome);
            let what = (abbreviation(&entry.what), entry.xid, zxid);
            self.count_answer(now, status::WRITE, slot, what, entry.at);
        }
        if op == WriteOp::CloseSession {
            return self.end_conn(slot);
        }
        self.pump(now, state, slot);
    }

    /// Own records up to those of batch `seq` are in the log, before `end`: what need not wait for more is answered.
    pub(super) fn on_logged(&mut self, now: Instant, state: &State, seq: Seq, end: Gsn) {
        self.logged_end = end;
        let mut waited_for = false;
        while let Some(owner) = self.own.next_logged(seq) {
            match owner {
                Owner::Request(slot, id) => {
                    let Some(conn) = self.conns.live(slot, id) else { continue };
                    conn.queue.is_logged();
                    self.answer_early(now, state, slot);
                    waited_for |= self.conns.live(slot, id).is_some_and(|c| !c.queue.is_all_answered());
                }
                Owner::Handshake(..) | Owner::Touch => waited_for = true,
                Owner::Sweep | Owner::Mark | Owner::Nobody => {}
            }
        }
        if waited_for {
            self.log.want(end);
        }
    }

    /// Answers writes that are in the log, as far as nothing before them waits, by where this node is: what such a write
    /// comes to is not known here, and where it will be shown lies ahead of everything that its client has been told.
    fn answer_early(&mut self, now: Instant, state: &State, slot: Slot) {
        let zxid = state.zxid();
        loop {
            let Some(conn) = self.conns.get_mut(slot).filter(|c| !c.is_closed()) else { return };
            let Some((entry, op)) = conn.queue.answer_early() else { return };
            let (xid, at) = (entry.xid, entry.at);
            let what = (abbreviation(&entry.what), xid, zxid);
            let path = entry.early.clone().unwrap_or_default();
            conn.moved_at = now;
            if self.is_starving(now, slot) {
                return self.drop_conn(slot, super::session::STARVING);
            }
            let out = self.conns.out(slot);
            match op {
                WriteOp::Create => responses::path(out, xid, zxid, &path),
                _ => responses::empty(out, xid, zxid),
            }
            self.count_answer(now, status::WRITE, slot, what, at);
        }
    }

    /// Answers from the front of the connection's queue until something there has to wait.
    pub(super) fn pump(&mut self, now: Instant, state: &State, slot: Slot) {
        while let Some(conn) = self.conns.get_mut(slot).filter(|c| !c.is_closed()) {
            // Whatever its answer is, there is room for it, and it comes next.
            let takes = !conn.way.backlog && !conn.way.is_setting_again();
            let (ready, backlog) = match conn.queue.front().map(|e| &e.what) {
                None | Some(What::Write(_) | What::Unsent(..)) => (false, true),
                Some(What::Round(round)) => (self.syncs.is_done(*round), true),
                Some(What::Sync(round, _)) => (takes && self.syncs.is_done(*round), true),
                Some(What::Refused(_) | What::OfConn(_)) => (takes, true),
                Some(What::Read(op, frame)) => {
                    // Behind an answer that is under way it goes on with the last piece.
                    let weight = weight(*op, frame, self.cfg.steps.set_again);
                    let may = conn.may_answer() && self.share.has_room_for(weight);
                    (may, conn.way.backlog || conn.way.is_busy())
                }
            };
            if !ready {
                if !backlog {
                    self.defer(now, slot);
                }
                if self.cfg.acks == Acks::Logged {
                    self.answer_early(now, state, slot);
                }
                self.release_held(now, slot);
                return self.pause_or_resume(slot);
            }
            let entry = conn.queue.pop().expect("there is a front");
            self.answer(now, state, slot, entry);
        }
    }

    /// Answers a request that is not a write, from the state as it is.
    fn answer(&mut self, now: Instant, state: &State, slot: Slot, entry: Entry) {
        if matches!(entry.what, What::Round(_)) {
            return; // the read behind it is answered
        }
        let (xid, zxid, op) = (entry.xid, state.zxid(), abbreviation(&entry.what));
        let (paths, conn) = (self.cfg.steps.set_again, self.conns.at(slot));
        conn.moved_at = now;
        let id = conn.id;
        if let What::Read(op, frame) = &entry.what
            && self.draft.is_none()
            && again::is_long(*op, frame, paths)
            && let Ok(again) = SetAgain::begin(entry.at, frame)
        {
            self.share.spend(0, weight(*op, frame, paths));
            return self.conns.begin_again(slot, again);
        }
        let (out, auth, session) = self.conns.out_for(slot);
        let before = out.len();
        match entry.what {
            What::Read(op, frame) => {
                let watches = match &mut self.draft {
                    None => Leave::Here(&mut self.watches, slot),
                    Some(draft) => Leave::AtFront(draft, id),
                };
                let names_at_once = self.cfg.steps.names;
                let reads = Reads { state, watches, auth, session, names_at_once };
                let answered = reads.answer(out, xid, op, &frame[BODY_AT..]);
                self.share.spend(out.len() - before, weight(op, &frame, paths));
                match (answered, &mut self.draft) {
                    (Ok(None), _) => {}
                    (Ok(Some(listing)), None) => self.conns.begin_listing(slot, listing),
                    (Ok(Some(listing)), Some(draft)) => {
                        self.conns.publish(draft);
                        draft.push(Item::Lists { conn: id, listing: Box::new(listing) });
                    }
                    (Err(e), _) => return self.drop_conn(slot, &e.to_string()),
                }
            }
            What::Sync(_, path) => responses::path(out, xid, zxid, &path),
            What::Refused(error) => responses::error(out, xid, zxid, error),
            What::OfConn(of) => {
                of.answer(out, xid, zxid);
                self.settle_of_conn(slot, of);
            }
            What::Write(_) | What::Unsent(..) | What::Round(_) => panic!("{entry:?} is not answered here"),
        }
        self.count_answer(now, status::READ, slot, (op, xid, zxid), entry.at);
    }

    /// The connection's watches are set again, and it has the reply: what waited behind goes on.
    pub(super) fn has_set_again(&mut self, now: Instant, state: &State, slot: Slot, again: &SetAgain) {
        self.conns.at(slot).moved_at = now;
        let op = OpCode::from_code(again.op).map_or("NA", abbreviation_of);
        self.count_answer(now, status::READ, slot, (op, again.xid, state.zxid()), again.at);
        self.pump(now, state, slot);
    }

    /// A client takes its answers too slowly for more of them, or has caught up.
    pub(super) fn on_backlog(&mut self, now: Instant, state: &State, id: ConnId, high: bool) {
        let Some(slot) = self.conns.slot(id) else { return };
        let conn = self.conns.at(slot);
        conn.way.backlog = high;
        if high || conn.open().is_none() {
            return self.pause_or_resume(slot);
        }
        // Who takes his answers is there; what he has sent meanwhile is not read yet.
        (conn.heard_at, conn.moved_at, conn.untouched) = (now, now, true);
        if self.is_starving(now, slot) {
            return self.drop_conn(slot, super::session::STARVING);
        }
        self.hasten_touch(now, slot);
        self.pump(now, state, slot);
    }

    /// Goes on with the requests that a turn's answers had no room for.
    pub(super) fn pump_deferred(&mut self, now: Instant, state: &State) {
        if self.deferred_at.is_none_or(|at| at > now) {
            return;
        }
        self.deferred_at = None;
        let mut all: Vec<Slot> = std::mem::take(&mut self.deferred).into_iter().collect();
        let first = all.partition_point(|slot| *slot < self.deferred_from);
        all.rotate_left(first);
        // Whoever had no turn is first in the next.
        let mut turned_away = None;
        for (i, slot) in all.iter().enumerate() {
            if !self.share.has_room() {
                self.deferred_from = turned_away.unwrap_or(*slot);
                all[i..].iter().for_each(|slot| self.defer(now, *slot));
                return;
            }
            self.pump(now, state, *slot);
            if turned_away.is_none() && self.deferred.contains(slot) {
                turned_away = Some(*slot);
            }
        }
        self.deferred_from = turned_away.unwrap_or(self.deferred_from);
    }

    /// More is applied, or known to be all there was: syncs are done, handshakes go on, the node is ready.
    fn reached(&mut self, now: Instant, state: &State) {
        let applied = state.applied();
        let knows = self.boot_tail.1.is_some_and(|tail| tail <= applied) && !self.behind.fetch.is_on();
        if !self.serving && knows {
            self.serving = true;
            self.behind.fetch.forget();
            self.end_read_only();
            self.start_clocks(now, state);
            self.start_scrub(now);
            self.arm_sweeper(now, state);
            let again = std::mem::replace(&mut self.was_ready, true);
            let (from, since) = self.plays;
            self.note(format!(
                "serving{} at {applied}: {} records of the log in {} ms",
                if again { " again," } else { "" },
                applied.0.saturating_sub(from.0),
                now.since(since).as_millis()
            ));
            if !again {
                self.outbox.push_back(Output::Event(NodeEvent::Ready));
            }
        }
        self.raise_rules(now, state);
        self.try_handshakes(now, state);
        if self.syncs.applied(applied) {
            while let Some(slot) = self.syncs.pop_ready() {
                self.pump(now, state, slot);
            }
        }
    }
}
