//! What does a node do besides keeping the state? Requests become records of the log, its deliveries are applied,
//! sessions live and end. The state is lent to it, call by call: to be read, or, where it may change, to be written.

use super::apply::DEFER;
use super::behind::Behind;
use super::clocks::Clocks;
use super::connection::{Conns, Phase, Slot};
use super::fronts::{Asker, Counting};
use super::marks::Marks;
use super::own::{Own, Owner};
use super::password::Passwords;
use super::pending::Pending;
use super::places::Client as _;
use super::published::{Draft, Item};
use super::pulse::Pulse;
use super::scrub::Scrub;
use super::share::Share;
use super::skips::Skips;
use super::snapshots::Snapshots;
use super::status::{Counts, Stats};
use super::sweep::Sweeper;
use super::syncs::Syncs;
use super::turn::Turn;
use super::{NodeCommand, NodeConfig, NodeEvent, framing};
use crate::bootstrap::Fetch;
use crate::snapshot::{Beware, Restored};
use crate::state::{APPLY_VERSION_MAX, Outline, State};
use crate::txn::{Change, Op};
use crate::watch::Watches;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use zoolog_client::{ClusterLog, Committed, DiskRoom, LogEvent, RequestId, SharedLog};
use zoolog_core::{ConnId, Gsn, Input, Instant, Output, Seq, WallMs};

/// Until a node that has failed says so, if it has just told the log something.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// How a node ends.
#[derive(Debug, Default)]
pub(super) struct End {
    pub why: String,
    /// What its next life must know.
    pub beware: Beware,
    /// The next life, begun at once, will be without what has ended this one.
    pub heals: bool,
    /// The log was just told something, and that is to go out before.
    pub told: bool,
}

/// What a [`Back`] does next.
#[derive(Debug)]
pub enum Step {
    /// This is to be carried out.
    Output(Output<NodeEvent>),
    /// A batch was delivered: it, or the next piece of it, is to be applied, with [`Back::apply`], before anything else.
    Apply(Committed),
    /// This is to be taken in, with [`Back::learn`], before anything else.
    Learn(Learned),
    /// What is done in steps is to be gone on with, with [`Back::go_on`], before anything else.
    GoOn,
    /// Another state takes the place of the one that is lent: [`Back::replace`], before anything else.
    Replace(Replacement),
    /// The turn is over.
    Nothing,
}

/// A state that takes the place of the one that was lent.
#[derive(Debug)]
pub struct Replacement {
    pub(super) state: Box<State>,
    /// Whether the log is played from there; if not, there is nothing to be read until another comes.
    pub(super) restored: bool,
}

/// What the log said that may let requests go on which wait for a position, or for no more than to be in the log.
#[derive(Clone, Copy, Debug)]
pub struct Learned(News);

#[derive(Clone, Copy, Debug)]
enum News {
    /// The answer to a question for the tail.
    Tail(RequestId, Gsn),
    /// Own records up to those of this batch are in the log, which end there.
    Logged(Seq, Gsn),
}

/// What the wall clock said, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wall {
    ms: WallMs,
    said_at: Instant,
}

impl Wall {
    pub(super) fn at(self, now: Instant) -> WallMs {
        WallMs(self.ms.0 + now.since(self.said_at).as_millis() as u64)
    }
}

/// What a node does but for the state itself, which whoever drives it keeps and lends. It is the same whether
/// clients are connected here, or at [`Front`](super::Front)s.
#[derive(Debug)]
pub struct Back<L = ClusterLog> {
    pub(super) cfg: NodeConfig,
    pub(super) log: L,
    pub(super) conns: Conns,
    /// Of connections that are here.
    pub(super) pending: Pending,
    /// Of connections that are here.
    pub(super) watches: Watches,
    /// What connections that are at fronts will hear next. Without fronts there is none, and they are here.
    pub(super) draft: Option<Draft>,
    /// Whether a batch was applied since something was published.
    pub(super) unpublished: bool,
    /// What fronts have counted, as of the last question; and who waits for answers to which.
    pub(super) counted: Counts,
    pub(super) counting: VecDeque<Counting>,
    pub(super) asks: u64,
    pub(super) passwords: Passwords,
    /// Connection of each session that is served here.
    pub(super) by_session: BTreeMap<i64, Slot>,
    /// Connections that have asked for a session that could not be proposed yet.
    pub(super) waiting: BTreeSet<Slot>,
    /// Connections with writes that the log had no room for, or that were held and are not any more, in the
    /// order in which that began. May hold some that have none any more.
    pub(super) blocked: VecDeque<Slot>,
    /// Connections whose requests had no room in a turn's answers, and when to go on with them.
    pub(super) deferred: BTreeSet<Slot>,
    pub(super) deferred_at: Option<Instant>,
    /// Who comes first among them: who had no turn the last time.
    pub(super) deferred_from: Slot,
    /// What is left of the batch that was delivered last: it is applied in pieces.
    pub(super) rest: Option<Committed>,
    /// When to go on with what the log has delivered, if a turn had no time for it.
    pub(super) deliver_at: Option<Instant>,
    /// When to go on with what is done in steps, if there is something.
    pub(super) go_on_at: Option<Instant>,
    /// Bytes of answers to reads in this turn.
    pub(super) share: Share,
    pub(super) own: Own,
    /// Where the newest own batch ends that is known to be in the log. Kept only where that matters.
    pub(super) logged_end: Gsn,
    pub(super) syncs: Syncs,
    pub(super) snapshots: Snapshots,
    pub(super) behind: Behind,
    pub(super) sweeper: Sweeper,
    pub(super) marks: Marks,
    pub(super) scrub: Scrub,
    pub(super) skips: Skips,
    /// Of an earlier life that differed, until this one comes there.
    pub(super) outline: Option<Outline>,
    pub(super) clocks: Clocks,
    pub(super) pulse: Pulse,
    /// From where on the log is played, and since when.
    pub(super) plays: (Gsn, Instant),
    /// The question for the tail at the start, then its answer.
    pub(super) boot_tail: (Option<RequestId>, Option<Gsn>),
    pub(super) serving: bool,
    /// Those with a session that only reads, because the log is away; how many ever had one.
    pub(super) read_only: BTreeSet<Slot>,
    pub(super) read_only_made: u32,
    /// When the log last delivered something.
    pub(super) applied_at: Instant,
    /// Whether it was told that it serves.
    pub(super) was_ready: bool,
    pub(super) failed: bool,
    /// It has failed, and this is said of it then: what it has told the log last goes out before.
    last_words: Option<(Instant, String)>,
    /// Newer rules were proposed.
    pub(super) rules_proposed: bool,
    pub(super) order_tail: Gsn,
    /// How much room the disks below the log have. Unless it is ample, clients' writes are refused.
    pub(super) room: DiskRoom,
    pub(super) stats: Stats,
    /// Frames from and to clients when these were last counted anew.
    pub(super) counted_from: (u64, u64),
    pub(super) turn: Turn,
    /// The shell was asked to read the clock.
    pub(super) timing: bool,
    pub(super) wall: Wall,
    pub(super) started: Instant,
    pub(super) now: Instant,
    pub(super) outbox: VecDeque<Output<NodeEvent>>,
    /// Empty between records; kept for its memory.
    pub(super) changes: Vec<Change>,
}

impl<L: SharedLog> Back<L> {
    /// On the given log, which has neither a subscription nor pending appends. `restored` says what the state is that
    /// will be lent; what it holds besides is taken.
    pub fn new(cfg: NodeConfig, mut log: L, now: Instant, restored: &mut Restored) -> Self {
        let cfg = cfg.bounded();
        let snapshots = Snapshots::new(&cfg, restored, now);
        let pending = Pending::new(cfg.max_pending_bytes_of_all);
        let name = cfg.log.consumer.clone().unwrap_or_default();
        let mut fetch = Fetch::new(cfg.bootstrap.clone(), cfg.cluster, name);
        restored.begun.take().into_iter().for_each(|begun| fetch.has_begun(begun));
        let behind = Behind::new(fetch, now);
        let skips = Skips::new(&cfg.skip, restored);
        let boot_tail = (Some(log.tail()), None);
        let mut back = Self {
            passwords: Passwords::new(&cfg.secret),
            watches: Watches::new(cfg.max_watches, cfg.steps.events),
            draft: None,
            unpublished: false,
            counted: Counts::default(),
            counting: VecDeque::new(),
            asks: 0,
            cfg,
            log,
            conns: Conns::default(),
            pending,
            by_session: BTreeMap::new(),
            waiting: BTreeSet::new(),
            blocked: VecDeque::new(),
            deferred: BTreeSet::new(),
            deferred_at: None,
            deferred_from: 0,
            rest: None,
            deliver_at: None,
            go_on_at: None,
            share: Share::default(),
            own: Own::new(now),
            logged_end: Gsn(0),
            syncs: Syncs::new(),
            snapshots,
            behind,
            sweeper: Sweeper::default(),
            marks: Marks::default(),
            scrub: Scrub::default(),
            skips,
            outline: restored.outline.clone(),
            clocks: Clocks::new(),
            pulse: Pulse::new(now),
            plays: (Gsn(0), now),
            boot_tail,
            serving: false,
            read_only: BTreeSet::new(),
            read_only_made: 0,
            applied_at: now,
            was_ready: false,
            failed: false,
            last_words: None,
            rules_proposed: false,
            order_tail: Gsn(0),
            room: DiskRoom::Ample,
            stats: Stats::default(),
            counted_from: (0, 0),
            turn: Turn::new(now),
            timing: false,
            wall: Wall { ms: WallMs(0), said_at: now },
            started: now,
            now,
            outbox: VecDeque::new(),
            changes: Vec::new(),
        };
        if !back.skips.is_searching() {
            back.play_or_look(restored);
        }
        back.release_log();
        back.offer();
        back
    }

    /// The log below.
    pub fn log(&self) -> &L {
        &self.log
    }

    /// Whether it has caught up and serves clients.
    pub fn is_serving(&self) -> bool {
        self.serving
    }

    /// The newest mark at which most nodes had this one's state.
    #[cfg(test)]
    pub(super) fn agreed(&self) -> Option<Gsn> {
        self.marks.votes.agreed()
    }

    /// How often all of the state in memory was looked at.
    #[cfg(test)]
    pub(super) fn scrub_passes(&self) -> u64 {
        self.scrub.passes()
    }

    pub(super) fn on_frame(&mut self, now: Instant, state: &State, conn: ConnId, frame: Bytes) {
        let Some(slot) = self.conns.slot(conn) else { return };
        let conn = self.conns.at(slot);
        conn.received += 1;
        self.stats.received += 1;
        if self.draft.is_none() {
            self.stats.received_bytes += frame.len() as u64;
        }
        self.turn.frame(!framing::is_word(&frame));
        match conn.phase {
            Phase::New => self.on_first_frame(now, state, slot, &frame),
            Phase::Waiting(_) | Phase::Proposed(_) => self.on_early_frame(slot, frame),
            Phase::Open(_) => self.on_request(now, state, slot, frame),
            Phase::ReadOnly(_) => self.on_read_only_request(now, state, slot, &frame),
            Phase::Asking | Phase::Closed => {}
        }
    }

    pub(super) fn on_closed(&mut self, conn: ConnId) {
        let Some(slot) = self.conns.slot(conn) else { return };
        self.end_conn(slot);
        self.stats.sent_before += self.conns.at(slot).way.sent;
        self.conns.remove(slot, self.watches.is_forgetting(slot));
    }

    /// Whether there is something that is done in steps, and not now but later.
    fn is_behind(&self) -> bool {
        self.watches.is_untidy() || self.conns.is_behind()
    }

    /// Does a step of everything that nobody must wait for as a whole: watches of connections that have gone are
    /// forgotten, events that many are owed are told, long answers are gone on with, watches are set again.
    pub fn go_on(&mut self, now: Instant, state: &State) {
        let (conns, steps) = (&mut self.conns, self.cfg.steps);
        self.watches.tidy(steps.watches, |slot| conns.release(slot));
        conns.tell_some(steps.events);
        for (slot, done) in conns.list_some(state, steps.names) {
            if done {
                self.pump(now, state, slot);
            } else {
                self.drop_conn(slot, "its answers are too long to keep");
            }
        }
        for (slot, ended) in self.conns.set_some_again(state, &mut self.watches, steps.set_again) {
            match ended {
                Ok(again) => self.has_set_again(now, state, slot, &again),
                Err(e) => self.drop_conn(slot, &e.to_string()),
            }
        }
        self.go_on_at = Some(now + DEFER);
    }

    fn on_timer(&mut self, now: Instant, state: &State) {
        if self.failed {
            if let Some((_, why)) = self.last_words.take_if(|(at, _)| *at <= now) {
                self.outbox.push_back(Output::Event(NodeEvent::Failed(why)));
            }
            return;
        }
        self.deliver_at = None;
        self.go_on_at = self.go_on_at.filter(|at| *at > now);
        self.expire_handshakes(now, state);
        self.try_handshakes(now, state);
        self.beat(now);
        self.look_at_sessions(now, state);
        self.sweep(now, state);
        self.mark_in_time(now);
        self.scrub(now, state);
        self.raise_rules(now, state);
        self.pump_deferred(now, state);
        self.behind.fetch.tick(now);
        self.tell_progress(now);
    }

    /// Closes a connection for a reason that a person may want to know.
    pub(super) fn drop_conn(&mut self, slot: Slot, why: &str) {
        let conn = self.conns.at(slot);
        if !conn.is_closed() {
            let note = format!("connection from {} is closed: {why}", conn.peer);
            self.note(note);
            self.stats.dropped += 1;
            self.cut_conn(slot);
        }
    }

    /// Closes a connection without going on with an answer that is under way, here or at its front, even if it is to be
    /// closed behind that already.
    pub(super) fn cut_conn(&mut self, slot: Slot) {
        self.conns.cut(slot);
        self.end_conn(slot);
        if self.draft.is_some() {
            // Its front may have been told before that it is to end behind its answers.
            self.conns.mark(slot);
        }
    }

    /// Closes a connection, after what it is being sent; nothing of it counts any more.
    pub(super) fn end_conn(&mut self, slot: Slot) {
        if self.conns.at(slot).is_closed() {
            return;
        }
        self.detach(slot);
        self.conns.end_again(slot);
        self.watches.forget(slot);
        self.waiting.remove(&slot);
        self.read_only.remove(&slot);
        self.deferred.remove(&slot);
        self.conns.set_deadline(slot, None);
        self.conns.mark(slot);
        let conn = self.conns.at(slot);
        conn.phase = Phase::Closed;
        conn.queue.clear();
        conn.early.clear();
        conn.early_bytes = 0;
        self.count_pending(slot);
    }

    /// Closes a connection that was not taken in.
    pub(super) fn close_unknown(&mut self, conn: ConnId) {
        match &mut self.draft {
            None => self.outbox.push_back(Output::Close { conn }),
            Some(draft) => draft.push(Item::Closed { conn, cut: false }),
        }
    }

    /// A request of a connection, which came then, was answered.
    pub(super) fn count_answer(
        &mut self,
        now: Instant,
        stage: usize,
        slot: Slot,
        (op, xid, zxid): (&'static str, i32, i64),
        at: Instant,
    ) {
        let took = now.since(at);
        self.stats.answered(stage, took);
        self.conns.at(slot).served.answered(op, xid, zxid, now, took);
        if self.draft.is_none() {
            self.turn.answered();
        }
    }

    pub(super) fn note(&mut self, text: String) {
        self.outbox.push_back(Output::Event(NodeEvent::Note(text)));
    }

    /// The log can't go on: clients go elsewhere, the owner starts the node anew.
    pub(super) fn fail(&mut self, why: String) {
        self.end(self.now, End { why, ..End::default() });
    }

    /// The same, with what the next life must know. If the log was just told something, that is given time to go out.
    pub(super) fn end(&mut self, now: Instant, end: End) {
        let End { why, beware, heals, told } = end;
        if std::mem::replace(&mut self.failed, true) {
            return;
        }
        self.serving = false;
        self.boot_tail = (None, None);
        let slots: Vec<Slot> = self.conns.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.cut_conn(slot);
        }
        if beware != Beware::default() {
            self.outbox.push_back(Output::Event(NodeEvent::Beware(beware)));
        }
        if heals {
            self.outbox.push_back(Output::Event(NodeEvent::Heals));
        }
        match told {
            false => self.outbox.push_back(Output::Event(NodeEvent::Failed(why))),
            true => {
                self.note(why.clone());
                self.last_words = Some((now + LAST_WORDS, why));
            }
        }
    }

    /// A service that began by older rules follows this build's from now on; older nodes stop.
    pub(super) fn raise_rules(&mut self, now: Instant, state: &State) {
        if self.serving && !self.rules_proposed && state.apply_version() < APPLY_VERSION_MAX {
            let op = Op::RaiseApplyVersion { to: APPLY_VERSION_MAX };
            self.rules_proposed = self.propose(now, Owner::Nobody, None, op).is_ok();
        }
    }

    /// What can be done only when the turn's inputs are in. Returns whether the log was given something.
    fn end_turn(&mut self, now: Instant) -> bool {
        if self.failed {
            return false;
        }
        let mut any = self.submit_blocked(now) | self.touch_if_hastened(now) | self.look_ahead(now);
        if self.syncs.should_ask() {
            self.syncs.asked(self.log.tail());
            any = true;
        }
        any
    }

    /// Takes one input, any but [`Input::SnapshotSaved`].
    ///
    /// # Panics
    /// On that one.
    pub fn handle(&mut self, now: Instant, state: &State, input: Input<NodeCommand>) {
        self.begin_turn(now);
        match input {
            Input::Accepted { conn, peer } => self.on_accepted(now, conn, peer),
            Input::Connected { conn } if Fetch::owns(conn) => self.behind.fetch.connected(now, conn),
            Input::Frame { conn, bytes } if Fetch::owns(conn) => self.behind.fetch.frame(now, conn, bytes),
            Input::Closed { conn } if Fetch::owns(conn) => self.behind.fetch.closed(now, conn),
            Input::Backlog { conn, .. } if Fetch::owns(conn) => {}
            Input::Frame { conn, bytes } if !conn.is_dialled() => self.on_frame(now, state, conn, bytes),
            Input::Closed { conn } if !conn.is_dialled() => self.on_closed(conn),
            Input::Frame { conn, bytes } => {
                self.turn.frame(false);
                self.log.handle(now, Input::Frame { conn, bytes });
            }
            Input::Closed { conn } => self.log.handle(now, Input::Closed { conn }),
            Input::Backlog { conn, high } if !conn.is_dialled() => self.on_backlog(now, state, conn, high),
            Input::Backlog { conn, high } => self.log.handle(now, Input::Backlog { conn, high }),
            Input::Connected { conn } => self.log.handle(now, Input::Connected { conn }),
            Input::Persisted { token, positions } => {
                self.log.handle(now, Input::Persisted { token, positions });
            }
            Input::Loaded { token, result } => self.log.handle(now, Input::Loaded { token, result }),
            Input::SegmentRead { token, result } => {
                self.log.handle(now, Input::SegmentRead { token, result });
            }
            Input::SnapshotSaved { gsn, .. } => {
                panic!("what follows from the snapshot at {gsn} changes the state")
            }
            Input::SnapshotFound { .. } | Input::SnapshotRead { .. } => {
                panic!("a node gives no snapshots, who does is `Serve`")
            }
            Input::DiskSpace { room, free_bytes } => {
                self.log.handle(now, Input::DiskSpace { room, free_bytes });
            }
            Input::Timer => {
                self.on_timer(now, state);
                self.log.handle(now, Input::Timer);
            }
            Input::WallClock(ms) => {
                self.wall = Wall { ms, said_at: now };
                self.log.handle(now, Input::WallClock(ms));
            }
            Input::Command(NodeCommand::Status) => {
                let status = Box::new(self.status(state));
                self.outbox.push_back(Output::Event(NodeEvent::Status(status)));
            }
            Input::Command(NodeCommand::Report { ask, about }) => {
                self.ask(now, state, Asker::Owner { ask }, about);
            }
            Input::Command(NodeCommand::Rebuild { why }) => self.rebuild(why),
        }
    }

    pub(super) fn begin_turn(&mut self, now: Instant) {
        self.now = now;
        if self.turn.input(now) {
            self.own.take_fresh();
            self.watches.turn();
            self.share.begin();
        }
    }

    /// Takes [`Input::SnapshotSaved`].
    pub fn snapshot_saved(
        &mut self,
        now: Instant,
        state: &mut State,
        gsn: Gsn,
        last: bool,
        result: Result<(), String>,
    ) {
        self.begin_turn(now);
        self.on_snapshot_saved(now, state, gsn, last, result);
    }

    /// What it does next in the turn, as [`Machine::poll_output`](zoolog_core::Machine::poll_output).
    pub fn step(&mut self, now: Instant) -> Step {
        loop {
            if let Some(output) = self.outbox.pop_front() {
                return Step::Output(output);
            }
            if std::mem::take(&mut self.timing) {
                self.turn.lap(now, &mut self.stats.stages);
            } else if self.turn.wants_clock() {
                self.timing = true;
                return Step::Output(Output::ReadClock);
            }
            if let Some(step) = self.fetch_step() {
                return step;
            }
            let is_long = self.turn.is_long(now);
            self.deliver_at = is_long.then_some(now);
            if self.rest.is_some()
                && !is_long
                && let Some(piece) = self.next_piece()
            {
                return Step::Apply(piece);
            }
            let told = if is_long { None } else { self.log.poll_output(now) };
            match told {
                Some(Output::Event(event)) if self.failed => drop(event),
                Some(Output::Event(LogEvent::Committed(committed))) => {
                    self.rest = Some(committed);
                    if let Some(piece) = self.next_piece() {
                        return Step::Apply(piece);
                    }
                }
                Some(Output::Event(LogEvent::Tail { request, gsn })) => {
                    return Step::Learn(Learned(News::Tail(request, gsn)));
                }
                Some(Output::Event(LogEvent::Appended { seq, first_gsn, count }))
                    if self.cfg.hears_acks() =>
                {
                    self.skips.appended(seq);
                    return Step::Learn(Learned(News::Logged(seq, first_gsn.plus(u64::from(count)))));
                }
                Some(Output::Event(event)) => self.on_log(event),
                Some(Output::ReadClock) => return Step::Output(Output::ReadClock),
                Some(Output::Dial { conn, addr }) => return Step::Output(Output::Dial { conn, addr }),
                Some(Output::Send { conn, bytes }) => return Step::Output(Output::Send { conn, bytes }),
                Some(Output::Close { conn }) => return Step::Output(Output::Close { conn }),
                Some(Output::Pause { conn }) => return Step::Output(Output::Pause { conn }),
                Some(Output::Resume { conn }) => return Step::Output(Output::Resume { conn }),
                Some(Output::Persist { token, records }) => {
                    return Step::Output(Output::Persist { token, records });
                }
                Some(Output::Load { token, pos }) => return Step::Output(Output::Load { token, pos }),
                Some(Output::ReadSegment { token, segment, offset, bytes }) => {
                    return Step::Output(Output::ReadSegment { token, segment, offset, bytes });
                }
                Some(Output::Release { segment }) => return Step::Output(Output::Release { segment }),
                Some(
                    output @ (Output::SaveSnapshot { .. }
                    | Output::SavePart { .. }
                    | Output::DropSnapshots { .. }
                    | Output::FindSnapshot { .. }
                    | Output::ReadSnapshot { .. }),
                ) => panic!("a log has no snapshots, yet it wants {output:?}"),
                None if self.go_on_at.is_none_or(|at| at <= now) && self.is_behind() => return Step::GoOn,
                None if self.end_turn(now) => {}
                None => {
                    if !self.is_behind() {
                        self.go_on_at = None;
                    }
                    self.turn.end();
                    match &mut self.draft {
                        None => self.conns.drain(&mut self.outbox),
                        Some(draft) => self.conns.publish(draft),
                    }
                    return self.outbox.pop_front().map_or(Step::Nothing, Step::Output);
                }
            }
        }
    }

    /// What is to be applied next of what was delivered: a whole batch, mostly.
    fn next_piece(&mut self) -> Option<Committed> {
        if self.failed || self.behind.fetch.is_on() {
            // What it would be applied to is thrown away.
            self.rest = None;
        }
        let bytes = self.cfg.steps.record_bytes;
        let front = self.rest.as_mut()?.take_front(bytes);
        front.or_else(|| self.rest.take())
    }

    /// Applies a batch, or a piece of one, that [`Back::step`] gave.
    pub fn apply(&mut self, now: Instant, state: &mut State, committed: &Committed) {
        // It may have waited for its turn meanwhile.
        if self.failed {
            return;
        }
        self.on_committed(now, state, committed);
        if let Some(draft) = &mut self.draft {
            self.conns.publish(draft);
            draft.applied(state.zxid());
            // Until it serves there are no sessions: nobody reads, nobody watches.
            self.unpublished |= self.serving;
        }
    }

    /// Takes in what [`Back::step`] gave.
    pub fn learn(&mut self, now: Instant, state: &State, learned: Learned) {
        match learned.0 {
            News::Tail(request, gsn) => self.on_tail(now, state, request, gsn),
            News::Logged(seq, end) => self.on_logged(now, state, seq, end),
        }
    }

    /// As [`Machine::sent`](zoolog_core::Machine::sent).
    pub fn sent(&mut self, now: Instant) {
        let submitted = self.own.take_fresh();
        self.turn.sent(now, submitted, &mut self.stats.stages);
        self.log.sent(now);
    }

    /// As [`Machine::next_deadline`](zoolog_core::Machine::next_deadline).
    pub fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        let own = [
            (self.conns.next_deadline().map(|d| d.0), "handshake"),
            (self.clocks.next_look(), "session expiry"),
            (self.pulse.next(), "touch"),
            (self.sweeper.next(), "sweep"),
            (self.marks.next(), "mark"),
            (self.scrub.next(), "look at memory"),
            (self.deferred_at, "deferred reads"),
            (self.deliver_at, "what was delivered"),
            (self.go_on_at, "what is done in steps"),
            (self.behind.fetch.next_deadline(), "another's snapshot"),
        ];
        let words = [(self.last_words.as_ref().map(|w| w.0), "last words")];
        let own = if self.failed { words.iter() } else { own.iter() };
        let own = own.filter_map(|&(at, why)| Some((at?, why)));
        own.chain(self.log.next_deadline()).min_by_key(|d| d.0)
    }
}
