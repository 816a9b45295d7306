//! How does a slot talk to the leader of the orderers? It finds it, registers, reports, and takes views,
//! parts and cuts, in order and without a gap, or it registers anew.

use super::Slot;
use super::conns::Kind;
use super::watch::{Verdict, Watch, backoff};
use crate::effects::Refusal;
use crate::event::SlotEvent;
use crate::replica::{Replica, check_sane};
use std::time::Duration;
use zoolog_core::cut::{Cut, CutError, CutLane};
use zoolog_core::machine::ConnId;
use zoolog_core::view::View;
use zoolog_core::wire::{CutsWanted, Hello, Message, PartsAre, RefusedWhy, Register, Report, Role, Status};
use zoolog_core::{CutNumber, Gsn, Instant};

/// Failed attempts in a row after which a hint is no longer followed at once.
const HINTS_MAX: u32 = 10;
/// Orderers we remember: more than there can be.
const KNOWN_MAX: usize = 16;
/// Who reads what is only just being ordered will read on for a while.
const READERS: Duration = Duration::from_millis(100);

/// The connection to the leader, or the search for it.
#[derive(Debug, Default)]
pub(crate) struct Leader {
    /// The connection, if one is up or being made.
    pub conn: Option<ConnId>,
    /// Whether it is up.
    up: bool,
    /// Whether the leader took our registration.
    pub registered: bool,
    /// The last cut it sent in this registration.
    number: Option<CutNumber>,
    /// Where the order ends after it.
    tail: Option<Gsn>,
    /// Who the leader is, as another orderer said.
    hint: Option<String>,
    /// When the registration was taken.
    since: Instant,
    /// The orderers, as a leader said last: tried before those of the settings.
    known: Vec<String>,
    /// Which orderer to try next.
    next: usize,
    /// Who was dialled last.
    addr: String,
    fails: u32,
    /// Which cuts we said that we want at once.
    told: CutsWanted,
    /// When the last report went out.
    reported: Instant,
    /// When the lengths that moved may be reported, if they wait for that.
    report_at: Option<Instant>,
    /// Until when readers count as waiting for every cut.
    read_until: Option<Instant>,
    retry_at: Option<Instant>,
    watch: Watch,
}

impl Slot {
    /// Looks for the leader at once.
    pub(super) fn find_leader(&mut self, now: Instant) {
        self.leader.retry_at = Some(now);
    }

    fn dial_leader(&mut self, now: Instant) {
        let (leader, configured) = (&mut self.leader, &self.cfg.orderers);
        let (known, next) = (&leader.known, &mut leader.next);
        let mut turn = || {
            let i = *next % (known.len() + configured.len());
            *next = next.wrapping_add(1);
            known.iter().chain(configured).nth(i).expect("one of them")
        };
        let addr = leader.hint.take().unwrap_or_else(|| {
            // Whoever was lost just now is not the one to begin with.
            let addr = turn();
            if *addr == leader.addr { turn().clone() } else { addr.clone() }
        });
        leader.addr.clone_from(&addr);
        leader.retry_at = None;
        leader.watch = Watch::dialled(now);
        let conn = self.dial(addr, Kind::Leader);
        self.leader.conn = Some(conn);
    }

    /// The dialled orderer is there: says who we are.
    pub(super) fn leader_connected(&mut self, now: Instant, conn: ConnId) {
        self.leader.up = true;
        self.leader.watch.heard(now);
        (self.leader.number, self.leader.tail) = (None, None);
        // Until our first report it takes us to want all.
        self.leader.told = CutsWanted::All;
        self.hello(conn);
        let parts = self.replicas.iter().map(|(&id, r)| (id, r.newest_part())).collect();
        self.replicas.values_mut().for_each(|r| r.seen = None);
        self.fx.send(
            conn,
            Register {
                slot: self.cfg.slot,
                incarnation: self.incarnation,
                addr: self.cfg.addr.clone(),
                domain: self.cfg.domain.clone(),
                stamp: self.cfg.stamp,
                parts,
            },
        );
    }

    /// The connection is gone, or is to be: tries again after a pause.
    pub(super) fn leader_gone(&mut self, now: Instant) {
        let leader = &mut self.leader;
        let lasted = leader.registered && now.since(leader.since) >= self.cfg.bounds.silence;
        if lasted {
            leader.fails = 0;
        }
        // Whom another one named is asked soon, unless they send us in circles.
        let named = leader.hint.is_some() && leader.fails < HINTS_MAX;
        // Round by round over all of them: an election takes less time than a long pause.
        let rounds = leader.fails / (leader.known.len() + self.cfg.orderers.len()).max(1) as u32;
        leader.retry_at = Some(now + backoff(if named { 0 } else { rounds }));
        leader.fails = leader.fails.saturating_add(1);
        (leader.conn, leader.up) = (None, false);
        if std::mem::take(&mut leader.registered) {
            self.fx.event(SlotEvent::LeaderLost);
        }
    }

    /// A message from the orderer.
    ///
    /// # Errors
    /// The connection is to be closed.
    pub(super) fn on_leader(&mut self, now: Instant, conn: ConnId, message: Message) -> Result<(), Refusal> {
        self.leader.watch.heard(now);
        match message {
            Message::ViewIs(m) => {
                self.take_view(now, m.view)?;
                if !std::mem::replace(&mut self.leader.registered, true) {
                    self.leader.since = now;
                    self.forget_told();
                    self.replicas.values_mut().for_each(|r| r.moved = true);
                    self.fx.event(SlotEvent::Registered { view: self.view.number });
                }
            }
            Message::CutIs(m) => {
                if let Err(e) = self.take_cut(&m.cut) {
                    return Err(self.contradiction(m.cut.number, e));
                }
            }
            Message::PartsAre(m) => {
                let number = m.number;
                if let Err(e) = self.take_parts(m) {
                    return Err(self.contradiction(number, e));
                }
            }
            Message::TrimIs(m) => self.trim_is(m.gsn),
            Message::OrderersAre(m) => {
                let addrs = m.orderers.into_iter().map(|o| o.addr);
                let known: Vec<String> = addrs.filter(|a| a.len() <= 256).take(KNOWN_MAX).collect();
                if self.leader.known != known {
                    self.fx.event(SlotEvent::Orderers { addrs: known.clone() });
                    self.leader.known = known;
                }
            }
            Message::PartsGone(m) => {
                if let Some(replica) = self.replicas.get_mut(&m.shard) {
                    replica.parts_gone(&mut self.fx, m.known);
                }
            }
            Message::NotLeader(m) => {
                self.leader.hint = m.leader.filter(|a| a.len() <= 256);
                self.close(now, conn);
            }
            Message::Refused(m) => {
                tracing::warn!(why = ?m.why, text = %m.text, "the orderer refused us");
                if m.why == RefusedWhy::Dismissed {
                    self.fx.event(SlotEvent::Dismissed { why: m.text });
                }
                self.close(now, conn);
            }
            Message::StatusIs(_) => {}
            other => return Err(super::unexpected(&other)),
        }
        Ok(())
    }

    fn contradiction(&mut self, number: CutNumber, e: CutError) -> Refusal {
        let what = e.to_string();
        self.fx.event(SlotEvent::Contradiction { number, what: what.clone() });
        Refusal::new(RefusedWhy::Invalid, what)
    }

    fn take_cut(&mut self, cut: &Cut) -> Result<(), CutError> {
        check_sane(cut)?;
        let wrong = |what| Err(CutError::Contradiction { number: cut.number, what });
        if !self.leader.registered || cut.view > self.view.number {
            return wrong("its view is not known here");
        }
        match self.leader.number {
            Some(have) if cut.number <= have => return Err(CutError::Old { have, got: cut.number }),
            Some(have) if cut.number != have.next() => return Err(CutError::Gap { have, got: cut.number }),
            _ => {}
        }
        if self.leader.tail.is_some_and(|tail| cut.base != tail) {
            return wrong("where it begins");
        }
        // A view precedes the first cut that belongs to it, and no shard leaves one that may still grow.
        let known = |lanes: &[CutLane]| {
            let last = lanes.last().expect("not empty").lane;
            let shard = self.view.shard(last.shard());
            shard.is_some_and(|s| usize::from(last.index()) < s.replicas.len())
        };
        if !cut.lanes.chunk_by(|a, b| a.lane.shard() == b.lane.shard()).all(known) {
            return wrong("a lane of no shard");
        }
        for replica in self.replicas.values_mut() {
            replica.take_cut(&mut self.fx, cut)?;
        }
        (self.leader.number, self.leader.tail) = (Some(cut.number), Some(cut.end()));
        Ok(())
    }

    fn take_parts(&mut self, m: PartsAre) -> Result<(), CutError> {
        let (number, tail) = (m.number, m.tail);
        let Some(replica) = self.replicas.get_mut(&m.shard) else {
            return Err(CutError::Contradiction { number, what: "its shard is not served here" });
        };
        replica.take_parts(&mut self.fx, m)?;
        if self.leader.number <= Some(number) {
            (self.leader.number, self.leader.tail) = (Some(number), Some(tail));
        }
        Ok(())
    }

    fn take_view(&mut self, now: Instant, view: View) -> Result<(), Refusal> {
        if view.number <= self.view.number {
            return Ok(());
        }
        self.adopt_view(now, view).map_err(|text| Refusal::new(RefusedWhy::Invalid, text))?;
        self.fx.mark_view(crate::marks::view_record(&self.view));
        let number = self.leader.number;
        for replica in
            self.replicas.values_mut().filter(|r| r.seen.is_none() && r.is_unborn() && !r.is_copy())
        {
            // A shard that this view brings: no cut so far has anything of it.
            replica.seen = number;
        }
        Ok(())
    }

    /// Which cuts we wait for. Every batch that somebody waits for is counted from before the report by which
    /// the leader learns that it is durable here, so the cut that orders it is never sent late.
    fn cuts_wanted(&mut self, now: Instant) -> CutsWanted {
        if std::mem::take(&mut self.read_ahead) {
            self.leader.read_until = Some(now + READERS);
        }
        self.leader.read_until.take_if(|until| *until <= now);
        match self.replicas.values().any(|r| r.own.awaited > 0) {
            _ if self.leader.read_until.is_some() => CutsWanted::All,
            true => CutsWanted::Own,
            false => CutsWanted::Late,
        }
    }

    /// At the end of a turn: one report, of the shards whose durable lengths moved; or because readers wait.
    pub(super) fn report(&mut self, now: Instant) {
        let cuts = self.cuts_wanted(now);
        let Some(conn) = self.leader.conn.filter(|_| self.leader.registered) else { return };
        // A sign of life also says of what more was taken than is durable: that doesn't move, and should.
        let alive = now.since(self.leader.reported) >= self.cfg.bounds.alive_every;
        // Before it said what is committed we can't know whether we have it; of what has ended the view says.
        let due = self.is_report_due(now);
        let may = |r: &Replica| (r.seen.is_some() || r.is_copy() || r.is_complete()) && r.may_report();
        let news = |r: &&mut Replica| due && may(r) && (r.moved || (alive && r.is_unsettled()));
        let moved = self.replicas.values_mut().filter(news).map(|r| {
            r.moved = false;
            r.report()
        });
        let shards: Vec<_> = moved.collect();
        let hurry = cuts == CutsWanted::All && self.leader.told != cuts;
        if !shards.is_empty() || hurry || alive {
            (self.leader.told, self.leader.reported) = (cuts, now);
            self.reporting = self.unreported.take();
            self.fx.send(conn, Report { slot: self.cfg.slot, incarnation: self.incarnation, cuts, shards });
        }
    }

    /// Whether lengths that moved may be reported now; if not, notes when.
    fn is_report_due(&mut self, now: Instant) -> bool {
        let step = u64::try_from(self.cfg.bounds.report_every.as_nanos()).unwrap_or(u64::MAX);
        if step == 0 || !self.replicas.values().any(|r| r.moved) {
            self.leader.report_at = None;
            return true;
        }
        let next = Instant((now.0 / step + 1).saturating_mul(step));
        let due = *self.leader.report_at.get_or_insert(next) <= now;
        if due {
            // Those that may not report yet have moved still: they wait for the next time.
            self.leader.report_at = None;
        }
        due
    }

    /// Dials, asks or gives up when it is time, and notes what the leader owes us.
    pub(super) fn tend_leader(&mut self, now: Instant) {
        if self.leader.retry_at.is_some_and(|at| at <= now) {
            self.dial_leader(now);
        }
        let Some(conn) = self.leader.conn else { return };
        // It always owes a sign of life: who doesn't notice that it is gone is soon taken for dead by the next one.
        self.leader.watch.owes(now, true);
        match self.leader.watch.look(now, self.cfg.bounds.leader_silence) {
            Verdict::Fine => {}
            Verdict::Ask if self.leader.up => self.fx.send(conn, Status { request: 0 }),
            Verdict::Ask => {}
            Verdict::Dead => {
                tracing::warn!("the orderer is silent, trying another");
                self.close(now, conn);
            }
        }
    }

    pub(super) fn leader_deadline(&self) -> Option<(Instant, &'static str)> {
        let retry = self.leader.retry_at.map(|at| (at, "dial an orderer"));
        let watch = self.leader.conn.and_then(|_| self.leader.watch.deadline(self.cfg.bounds.leader_silence));
        let alive = self.leader.conn.filter(|_| self.leader.registered);
        let alive = alive.map(|_| (self.leader.reported + self.cfg.bounds.alive_every, "a sign of life"));
        let report = alive.and(self.leader.report_at).map(|at| (at, "report"));
        [retry, watch.map(|at| (at, "the leader is silent")), alive, report].into_iter().flatten().min()
    }

    pub(super) fn hello(&mut self, conn: ConnId) {
        let (node, slot) = (u64::from(self.cfg.slot.server.0), self.cfg.slot.index);
        let (cluster, incarnation) = (self.cfg.cluster, self.incarnation);
        self.fx.send(conn, Hello { role: Role::Slot, cluster, node, slot, incarnation });
    }
}
