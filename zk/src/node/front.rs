//! What does a connection executor do? It has clients' connections and their watches. Reads that wait for nothing it
//! answers itself, from the state as it is; everything else it passes on to the executor that applies, in order, and
//! from there, through what is published, come the answers. See [`published`](super::published).
//!
//! # A connection's order
//! Its frames wait in a queue. The first is answered here if nothing of the connection is with the other executor and
//! its client takes its answers; or passed on. A read behind a write that is not answered is passed on too: it is
//! answered right behind that write, before any later one; only what looks for watches or removes them waits here, where
//! they are. So answers come in the order of requests, and a write is
//! passed on only when every read before it was answered or passed on.

mod table;

use super::NodeEvent;
use super::again::{self, SetAgain};
use super::apply::DEFER;
use super::auth::Auth;
use super::config::{NodeConfig, Steps};
use super::framing::is_word;
use super::held::TURN_BYTES_MAX;
use super::pending::Pending;
use super::places::{Client as _, Slot};
use super::policy::{self, Acks, Reads as ReadPolicy};
use super::published::{Item, Published, Said, conn_of, front_of, local};
use super::reads::{Leave, Reads};
use super::report::{About, LIST_MAX, Reset};
use super::served::abbreviation_of;
use super::session::{HEARD_PER_TIMEOUT, STARVING};
use super::share::{Share, weight};
use super::status::{self, Counts, Stats};
use super::submit::BODY_AT;
use super::turn::Turn;
use crate::jute::frame::LENGTH_BYTES;
use crate::jute::{OpCode, Reader, RequestHeader, responses, xid};
use crate::state::State;
use crate::watch::Watches;
use bytes::Bytes;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;
use table::{Phase, Table};
use zoolog_core::{ConnId, Input, Instant, Output};

/// Connections of a node, and what they watch.
#[derive(Debug)]
pub struct Front {
    /// Which one it is.
    index: u16,
    max_pending_requests: usize,
    max_pending_bytes: usize,
    pending: Pending,
    steps: Steps,
    skip_acl: bool,
    /// What reads show: unless it is what is applied here, they go the way of writes.
    reads: ReadPolicy,
    /// When writes are answered: if before they are applied, reads behind them go their way, too.
    acks: Acks,
    conns: Table,
    watches: Watches,
    /// What was taken of what was published: zxid of the newest record,
    zxid: i64,
    /// when the newest record of this node that has come back was appended, and how often sessions are touched.
    vouched_at: Instant,
    touch_interval: Option<Duration>,
    /// With frames that may be looked at.
    ready: BTreeSet<Slot>,
    /// Whose answers had no room in a turn, and when to go on with them.
    deferred: BTreeSet<Slot>,
    deferred_at: Option<Instant>,
    /// Who comes first: who had no turn the last time.
    ready_from: Slot,
    /// Bytes of answers to reads in this turn.
    share: Share,
    /// When to go on with what is done in steps, if there is something.
    go_on_at: Option<Instant>,
    said: Vec<Said>,
    stats: Stats,
    turn: Turn,
    timing: bool,
    outbox: VecDeque<Output<NodeEvent>>,
}

impl Front {
    /// Number `index` of a node.
    pub fn new(cfg: &NodeConfig, index: u16, now: Instant) -> Self {
        let cfg = cfg.clone().bounded();
        Self {
            index,
            max_pending_requests: cfg.max_pending_requests,
            max_pending_bytes: cfg.max_pending_bytes,
            pending: Pending::new(cfg.max_pending_bytes_of_all),
            steps: cfg.steps,
            skip_acl: cfg.skip_acl,
            reads: cfg.reads,
            acks: cfg.acks,
            conns: Table::default(),
            watches: Watches::new(cfg.max_watches, cfg.steps.events),
            zxid: 0,
            vouched_at: now,
            touch_interval: None,
            ready: BTreeSet::new(),
            deferred: BTreeSet::new(),
            deferred_at: None,
            ready_from: 0,
            share: Share::default(),
            go_on_at: None,
            said: Vec::new(),
            stats: Stats::default(),
            turn: Turn::new(now),
            timing: false,
            outbox: VecDeque::new(),
        }
    }

    /// Takes one input: of clients' connections, or the time.
    pub fn handle<C>(&mut self, now: Instant, input: Input<C>) {
        self.begin_turn(now);
        self.go_on_at = self.go_on_at.filter(|at| *at > now);
        match input {
            Input::Accepted { conn, peer } => {
                let auth = Auth::of_peer(&peer, self.skip_acl);
                self.conns.insert(now, conn, peer.clone(), auth);
                self.said.push(Said::Accepted { conn: conn_of(self.index, conn), peer });
            }
            Input::Frame { conn, bytes } => self.on_frame(now, conn, bytes),
            Input::Closed { conn } => self.on_closed(conn),
            Input::Backlog { conn, high } => self.on_backlog(conn, high),
            _ if self.deferred_at.is_some_and(|at| at <= now) => {
                self.deferred_at = None;
                self.ready.append(&mut self.deferred);
            }
            _ => {}
        }
    }

    fn begin_turn(&mut self, now: Instant) {
        if self.turn.input(now) {
            self.watches.turn();
        }
    }

    fn on_frame(&mut self, now: Instant, id: ConnId, frame: Bytes) {
        let Some(slot) = self.conns.slot(id) else { return };
        self.stats.received += 1;
        self.stats.received_bytes += frame.len() as u64;
        let conn = self.conns.at(slot);
        conn.received += 1;
        match conn.phase {
            Phase::Closed => return,
            // Not in the queue: it is not answered in order with requests. But not before what was published is taken.
            Phase::Open { .. } if op_of(&frame) == Some(OpCode::Ping) => conn.pings += 1,
            _ => conn.push(now, frame),
        }
        self.heard(now, slot);
        self.ready.insert(slot);
        self.pause_or_resume(slot);
    }

    fn on_closed(&mut self, id: ConnId) {
        let Some(slot) = self.conns.slot(id) else { return };
        self.pass_on_last(slot);
        self.end_conn(slot);
        self.stats.sent_before += self.conns.at(slot).way.sent;
        self.conns.remove(slot, self.watches.is_forgetting(slot));
        self.said.push(Said::Closed { conn: conn_of(self.index, id) });
    }

    fn on_backlog(&mut self, id: ConnId, high: bool) {
        let Some(slot) = self.conns.slot(id) else { return };
        self.conns.at(slot).way.backlog = high;
        self.said.push(Said::Backlog { conn: conn_of(self.index, id), high });
        if !high {
            self.ready.insert(slot);
        }
        self.pause_or_resume(slot);
    }

    /// Whether [`Front::serve`] has something to do, for which it needs the state.
    pub fn wants_state(&self) -> bool {
        !self.ready.is_empty() || self.wants_to_go_on()
    }

    /// Whether there is something that is done in steps, and it is time.
    fn wants_to_go_on(&self) -> bool {
        self.go_on_at.is_none() && (self.watches.is_untidy() || self.conns.is_behind())
    }

    /// Does a step of everything that nobody must wait for as a whole, as [`Back::go_on`](super::Back::go_on).
    fn go_on(&mut self, now: Instant, state: &State) {
        let (conns, steps) = (&mut self.conns, self.steps);
        self.watches.tidy(steps.watches, |slot| conns.release(slot));
        conns.tell_some(steps.events);
        for (slot, done) in conns.list_some(state, steps.names) {
            if done {
                self.ready.insert(slot);
            } else {
                self.drop_conn(slot, "its answers are too long to keep");
            }
        }
        for (slot, ended) in self.conns.set_some_again(state, &mut self.watches, steps.set_again) {
            match ended {
                Ok(again) => {
                    let op = OpCode::from_code(again.op).expect("it was looked at");
                    self.answered(now, slot, (op, again.xid), again.at);
                    self.ready.insert(slot);
                }
                Err(e) => self.drop_conn(slot, &e.to_string()),
            }
        }
        self.go_on_at = Some(now + DEFER);
    }

    /// Takes in what was published next.
    pub fn take(&mut self, now: Instant, published: &Published) {
        self.begin_turn(now);
        let mut from = 0;
        for item in &published.items {
            match item {
                Item::Changed { zxid, change } => {
                    let (conns, zxid) = (&mut self.conns, *zxid);
                    let readers = change.readers();
                    conns.tree_changed(change);
                    self.watches.fire(change, |told, kind, path| {
                        conns.event(told, zxid, kind, path, readers);
                    });
                }
                Item::Answered { conn, end, answers, vouched_at } => {
                    let bytes = &published.bytes[std::mem::replace(&mut from, *end)..*end];
                    let Some(slot) = self.mine(*conn) else { continue };
                    self.conns.answered(slot, bytes, *answers, *vouched_at);
                    if matches!(self.conns.at(slot).phase, Phase::Open { .. }) {
                        (0..*answers).for_each(|_| self.turn.answered());
                    }
                    self.ready.insert(slot);
                }
                Item::Lists { conn, listing } => {
                    let Some(slot) = self.mine(*conn) else { continue };
                    if !self.conns.at(slot).is_closed() {
                        self.conns.begin_listing(slot, (**listing).clone());
                    }
                }
                Item::Watched { conn, kind, path } => {
                    let Some(slot) = self.mine(*conn) else { continue };
                    if self.conns.at(slot).is_closed() {
                        continue;
                    }
                    if let Err(e) = self.watches.set(slot, *kind, path) {
                        self.drop_conn(slot, &e.to_string());
                    }
                }
                Item::Proved { conn, ids } => {
                    let Some(slot) = self.mine(*conn) else { continue };
                    self.conns.at(slot).auth.set_proved(ids);
                }
                Item::Opened { conn, timeout, vouched_at } => {
                    let Some(slot) = self.mine(*conn) else { continue };
                    self.conns.at(slot).open(now, *timeout, *vouched_at);
                }
                Item::ReadOnly { conn } => {
                    let Some(slot) = self.mine(*conn) else { continue };
                    self.conns.at(slot).open_read_only();
                    self.ready.insert(slot);
                }
                Item::Vouched { conn, at } => {
                    let Some(slot) = self.mine(*conn) else { continue };
                    let conn = self.conns.at(slot);
                    conn.vouched_at = conn.vouched_at.max(*at);
                }
                Item::Paused { conn, paused } => {
                    let Some(slot) = self.mine(*conn) else { continue };
                    self.conns.at(slot).told_to_pause = *paused;
                    self.pause_or_resume(slot);
                }
                Item::Closed { conn, cut } => {
                    if let Some(slot) = self.mine(*conn) {
                        if *cut {
                            self.conns.cut(slot);
                        }
                        self.end_conn(slot);
                    }
                }
                Item::Counting { ask, about } => self.count(*ask, *about),
            }
        }
        assert!(published.zxid >= self.zxid, "{} was published after {}", published.zxid, self.zxid);
        self.zxid = published.zxid;
        self.vouched_at = published.vouched_at;
        self.touch_interval = published.touch_interval;
    }

    /// The place of one of our connections that is still there.
    fn mine(&self, conn: ConnId) -> Option<Slot> {
        if front_of(conn) == self.index { self.conns.slot(local(conn)) } else { None }
    }

    fn count(&mut self, ask: u64, about: About) {
        let (watched, unlisted) = match about.watches {
            true => self.watches.lists(LIST_MAX),
            false => (Vec::new(), 0),
        };
        let conn = |slot: Slot| self.conns.get(slot).map(|c| conn_of(self.index, c.id));
        let named = |(slot, paths)| Some((conn(slot)?, paths));
        let listed = if about.connections { LIST_MAX } else { 0 };
        let conns = self.conns.iter().take(listed);
        let counts = Counts {
            stats: self.stats.clone(),
            watches: self.watches.count(),
            waiting: self.waiting_count(),
            watchers: self.watches.watchers(),
            paths: self.watches.paths(),
            sent: self.conns.iter().map(|(_, c)| c.way.sent).sum(),
            conns: conns
                .map(|(_, c)| (conn_of(self.index, c.id), c.received, c.way.sent, c.served))
                .collect(),
            watched: watched.into_iter().filter_map(named).collect(),
            unlisted,
        };
        self.said.push(Said::Counts { ask, counts: Box::new(counts) });
        self.stats.reset(about.reset);
        if about.reset == Reset::Connections {
            self.conns.reset_served();
        }
    }

    /// Answers what can be answered, and passes on the rest. Everything that was published before the state became
    /// what it is must have been taken: `state` is as of then.
    pub fn serve(&mut self, now: Instant, state: &State) {
        self.share.begin();
        while let Some(slot) = self.ready.range(self.ready_from..).next().or(self.ready.first()).copied() {
            self.ready.remove(&slot);
            if !self.share.has_room() {
                // Whoever has no turn is first in the next.
                self.ready_from = slot;
                self.deferred.insert(slot);
                self.deferred.append(&mut self.ready);
                self.deferred_at.get_or_insert(now + DEFER);
                break;
            }
            self.ready_from = slot + 1;
            self.serve_one(now, state, slot);
            self.pause_or_resume(slot);
        }
        if self.wants_to_go_on() {
            self.go_on(now, state);
        }
    }

    fn serve_one(&mut self, now: Instant, state: &State, slot: Slot) {
        self.answer_pings(now, slot);
        while let Some(conn) = self.conns.get_mut(slot) {
            let Some((at, frame)) = conn.waiting.front() else { return };
            let (at, timeout) = (
                *at,
                match conn.phase {
                    Phase::New => {
                        conn.phase = Phase::Joining;
                        self.pass_on(slot);
                        continue;
                    }
                    Phase::ReadOnly => {
                        self.pass_on(slot);
                        continue;
                    }
                    Phase::Joining | Phase::Closed => return,
                    Phase::Open { timeout } => timeout,
                },
            );
            if conn.is_starving(now, timeout, self.vouched_at, self.touch_interval) {
                return self.drop_conn(slot, STARVING);
            }
            if conn.way.is_setting_again() {
                return; // until its end
            }
            let op = op_of(frame).filter(|op| is_read(*op));
            let is_long = op.is_some_and(|op| again::is_long(op.code(), frame, self.steps.set_again));
            if conn.passed_on() > 0 && (is_long || op.is_some_and(is_of_watches)) {
                return; // until that is answered: nobody else knows the watches
            }
            let settled =
                self.reads == ReadPolicy::Session && (self.acks == Acks::Applied || conn.is_settled);
            let here = |op: &OpCode| settled || !policy::reads_tree(*op);
            let op = op.filter(|op| conn.passed_on() == 0 && here(op));
            if op.is_none() {
                self.pass_on(slot);
                continue;
            }
            if conn.way.backlog || conn.way.is_listing() {
                return; // until its end
            }
            let op = op.expect("a read");
            let weight = weight(op.code(), frame, self.steps.set_again);
            if conn.out_bytes() > TURN_BYTES_MAX || !self.share.has_room_for(weight) {
                self.deferred.insert(slot);
                self.deferred_at.get_or_insert(now + DEFER);
                return;
            }
            assert_eq!(
                self.zxid,
                state.zxid(),
                "ZK-3: all that was published is taken before the state is read"
            );
            let frame = conn.pop().expect("there is a front");
            if is_long && let Ok(again) = SetAgain::begin(at, &frame) {
                self.share.spend(0, weight);
                self.conns.begin_again(slot, again);
                continue;
            }
            let header =
                RequestHeader::decode(&mut Reader::new(&frame[LENGTH_BYTES..])).expect("it was decoded");
            let (out, auth) = self.conns.out_for(slot);
            let before = out.len();
            let watches = Leave::Here(&mut self.watches, slot);
            let reads = Reads { state, watches, auth, session: 0, names_at_once: self.steps.names };
            let answered = reads.answer(out, header.xid, header.op, &frame[BODY_AT..]);
            self.share.spend(out.len() - before, weight);
            match answered {
                Ok(None) => {}
                Ok(Some(listing)) => self.conns.begin_listing(slot, listing),
                Err(e) => return self.drop_conn(slot, &e.to_string()),
            }
            self.answered(now, slot, (op, header.xid), at);
        }
    }

    /// A request that came then was answered here.
    fn answered(&mut self, now: Instant, slot: Slot, (op, xid): (OpCode, i32), at: Instant) {
        self.heard(now, slot);
        self.turn.frame(true);
        self.turn.answered();
        let took = now.since(at);
        self.stats.answered(status::READ, took);
        self.conns.at(slot).served.answered(abbreviation_of(op), xid, self.zxid, now, took);
    }

    fn answer_pings(&mut self, now: Instant, slot: Slot) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let (pings, Phase::Open { timeout }) = (std::mem::take(&mut conn.pings), conn.phase) else { return };
        if pings == 0 {
            return;
        }
        if conn.is_starving(now, timeout, self.vouched_at, self.touch_interval) {
            return self.drop_conn(slot, STARVING);
        }
        for _ in 0..pings {
            responses::empty(self.conns.out(slot), xid::PING, self.zxid);
        }
    }

    /// Passes the connection's first frame on.
    fn pass_on(&mut self, slot: Slot) {
        let conn = self.conns.at(slot);
        let bytes = conn.pass_on();
        conn.is_settled = self.acks == Acks::Logged && op_of(&bytes).is_some_and(policy::reads_tree);
        self.said.push(Said::Frame { conn: conn_of(self.index, conn.id), bytes });
    }

    /// The connection broke: what came whole before that counts, a goodbye above all. Nobody hears what reads find.
    fn pass_on_last(&mut self, slot: Slot) {
        let conn = self.conns.at(slot);
        if !matches!(conn.phase, Phase::Open { .. }) {
            return;
        }
        let id = conn_of(self.index, conn.id);
        while let Some(frame) = conn.pop() {
            if !op_of(&frame).is_some_and(is_read) {
                self.said.push(Said::Frame { conn: id, bytes: frame });
            }
        }
    }

    /// The client is there; the executor that applies hears of it now and then.
    fn heard(&mut self, now: Instant, slot: Slot) {
        let conn = self.conns.at(slot);
        if let Phase::Open { timeout } = conn.phase
            && now.since(conn.told_heard_at) >= timeout / HEARD_PER_TIMEOUT
        {
            conn.told_heard_at = now;
            self.said.push(Said::Heard { conn: conn_of(self.index, conn.id), at: now });
        }
    }

    fn pause_or_resume(&mut self, slot: Slot) {
        let (requests, bytes) = (self.max_pending_requests, self.max_pending_bytes);
        self.count_pending(slot);
        let bytes = self.pending.share(bytes);
        if let Some(conn) = self.conns.get_mut(slot).filter(|c| !c.is_closed())
            && conn.set_pause(requests, bytes)
        {
            self.conns.mark(slot);
        }
    }

    /// What waits of the connection may have changed.
    fn count_pending(&mut self, slot: Slot) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let now = conn.pending_bytes();
        let before = std::mem::replace(&mut conn.counted_bytes, now);
        if before != now && self.pending.changed(before, now) {
            let slots: Vec<Slot> = self.conns.iter().map(|(slot, _)| slot).collect();
            slots.into_iter().for_each(|slot| self.pause_or_resume(slot));
        }
    }

    fn drop_conn(&mut self, slot: Slot, why: &str) {
        let conn = self.conns.at(slot);
        if !conn.is_closed() {
            let note = format!("connection from {} is closed: {why}", conn.peer);
            self.outbox.push_back(Output::Event(NodeEvent::Note(note)));
            self.stats.dropped += 1;
            self.conns.cut(slot);
            self.end_conn(slot);
        }
    }

    /// Closes a connection, behind what it is being sent.
    fn end_conn(&mut self, slot: Slot) {
        let conn = self.conns.at(slot);
        if conn.is_closed() {
            return;
        }
        conn.close();
        self.conns.end_again(slot);
        self.count_pending(slot);
        self.watches.forget(slot);
        self.ready.remove(&slot);
        self.deferred.remove(&slot);
        self.conns.mark(slot);
    }

    /// What it does next in the turn, behind [`Front::take`] and [`Front::serve`].
    pub fn poll_output(&mut self, now: Instant) -> Option<Output<NodeEvent>> {
        if std::mem::take(&mut self.timing) {
            self.turn.lap(now, &mut self.stats.stages);
        } else if self.turn.wants_clock() {
            self.timing = true;
            return Some(Output::ReadClock);
        }
        if self.outbox.is_empty() {
            if !self.watches.is_untidy() && !self.conns.is_behind() {
                self.go_on_at = None;
            }
            self.turn.end();
            let (index, said) = (self.index, &mut self.said);
            self.conns.drain(&mut self.outbox, |conn, bytes| {
                said.push(Said::Took { conn: conn_of(index, conn), bytes });
            });
        }
        self.outbox.pop_front()
    }

    /// What it has to say, at the end of a turn. No more than its connections have waiting; whoever has more than he may
    /// is not read from.
    pub fn say(&mut self) -> Vec<Said> {
        std::mem::take(&mut self.said)
    }

    /// Whether it has something to do in a turn, whatever was published.
    pub fn wants_turn(&self) -> bool {
        self.wants_state() || !self.said.is_empty() || !self.outbox.is_empty() || self.conns.is_dirty()
    }

    /// How many requests were neither answered nor passed on yet.
    pub fn waiting_count(&self) -> usize {
        self.conns.iter().map(|(_, c)| c.waiting.len()).sum()
    }

    /// How many watches its clients have left.
    pub fn watch_count(&self) -> usize {
        self.watches.count()
    }

    /// As [`Machine::sent`](zoolog_core::Machine::sent).
    pub fn sent(&mut self, now: Instant) {
        self.turn.sent(now, 0, &mut self.stats.stages);
    }

    /// As [`Machine::next_deadline`](zoolog_core::Machine::next_deadline).
    pub fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        let all = [(self.deferred_at, "deferred reads"), (self.go_on_at, "what is done in steps")];
        all.into_iter().filter_map(|(at, why)| Some((at?, why))).min_by_key(|d| d.0)
    }
}

/// What a frame asks for, if it is a request that can be told.
fn op_of(frame: &Bytes) -> Option<OpCode> {
    let header = frame.get(LENGTH_BYTES..BODY_AT).filter(|_| !is_word(frame))?;
    OpCode::from_code(RequestHeader::decode(&mut Reader::new(header)).ok()?.op)
}

fn is_read(op: OpCode) -> bool {
    matches!(
        op,
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
            | OpCode::GetAllChildrenNumber
            | OpCode::WhoAmI
            | OpCode::MultiRead
    )
}

const fn is_of_watches(op: OpCode) -> bool {
    matches!(op, OpCode::CheckWatches | OpCode::RemoveWatches)
}
