//! What do slots and the leader say to each other? A registration becomes an entry; once that is applied the
//! slot gets view and missed parts, then every cut; its reports feed the next ones.

use super::Orderer;
use super::conns::Who;
use crate::sequencer::{Command, Refusal, Registration};
use tracing::info;
use zoolog_core::wire::{
    self, CutsWanted, PartsAre, PartsGone, Recovering, RefusedWhy, Register, Report, ViewIs,
};
use zoolog_core::{ConnId, CutNumber, Incarnation, Instant, ShardId, SlotId};

/// Reports that may arrive before the registration is decided.
const EARLY_REPORTS: usize = 16;
/// Shards that one slot may name.
const NAMED_SHARDS_MAX: usize = crate::sequencer::SHARDS_MAX;

/// A slot that waits for its registration.
pub(super) struct Newcomer {
    conn: ConnId,
    registration: Registration,
    parts: Vec<(ShardId, CutNumber)>,
    /// Whether raft has taken the entry.
    proposed: bool,
    early: Vec<Report>,
}

impl Orderer {
    pub(super) fn register(&mut self, conn: ConnId, slot: SlotId, started: Incarnation, r: Register) {
        let invalid = |text: String| Refusal::new(RefusedWhy::Invalid, text);
        if (r.slot, r.incarnation) != (slot, started) {
            let text = format!("slot {slot} of start {started} registers {} of {}", r.slot, r.incarnation);
            return self.refuse(conn, invalid(text));
        }
        if r.parts.len() > NAMED_SHARDS_MAX {
            return self.refuse(conn, invalid(format!("parts of {} shards", r.parts.len())));
        }
        let Some(lead) = &mut self.lead else { return };
        let registration =
            Registration { slot, incarnation: started, addr: r.addr, domain: r.domain, stamp: r.stamp };
        let waits = lead.newcomers.get(&slot).map(|n| (n.conn, n.registration.incarnation));
        // Accepted connections are numbered in order: of one start, the later is the living one.
        let current = lead.reports.conn(slot).map(|c| (c, self.state.incarnation(slot).unwrap_or_default()));
        let stale = |(c, i): (ConnId, Incarnation)| i > started || (i == started && c > conn);
        if waits.is_some_and(stale) || current.is_some_and(stale) {
            let text = format!("a newer connection speaks for slot {slot}");
            return self.refuse(conn, Refusal::new(RefusedWhy::Stale, text));
        }
        let newcomer = Newcomer { conn, registration, parts: r.parts, proposed: false, early: Vec::new() };
        let replaced = lead.newcomers.insert(slot, newcomer);
        if let Some(old) = replaced.filter(|old| old.conn != conn) {
            let text = format!("slot {slot} registered over another connection");
            self.refuse(old.conn, Refusal::new(RefusedWhy::Stale, text));
        }
    }

    /// Proposes what newcomers need, and lets in who needs nothing.
    pub(super) fn admit_newcomers(&mut self, now: Instant) {
        let Some(lead) = &mut self.lead else { return };
        let mut known = Vec::new();
        let (mut older, mut foreign) = (Vec::new(), Vec::new());
        for (slot, n) in &mut lead.newcomers {
            let incarnation = n.registration.incarnation;
            match self.state.incarnation(*slot) {
                _ if self.state.has_other_log(*slot, n.registration.stamp) => {
                    foreign.push((*slot, incarnation));
                }
                Some(newest) if newest > incarnation => older.push((*slot, incarnation, newest)),
                _ if self.state.is_registered(&n.registration) => known.push(*slot),
                _ if n.proposed => {}
                _ => {
                    let entry = Command::Register(n.registration.clone()).encode();
                    n.proposed = self.consensus.propose(entry).is_some();
                }
            }
        }
        for slot in known {
            self.admit(now, slot);
        }
        for (slot, incarnation) in foreign {
            self.other_log_came(now, slot);
            self.turn_away(slot, incarnation, RefusedWhy::Dismissed, other_log(slot));
        }
        for (slot, incarnation, newest) in older {
            self.turn_away(slot, incarnation, RefusedWhy::Dismissed, older_start(slot, incarnation, newest));
        }
    }

    /// The slot's registration was decided against.
    pub(super) fn turn_away(
        &mut self,
        slot: SlotId,
        incarnation: Incarnation,
        why: RefusedWhy,
        text: String,
    ) {
        let Some(lead) = &mut self.lead else { return };
        if lead.newcomers.get(&slot).is_some_and(|n| n.registration.incarnation == incarnation)
            && let Some(n) = lead.newcomers.remove(&slot)
        {
            self.refuse(n.conn, Refusal::new(why, text));
        }
    }

    /// The slot is registered: it is told where things stand, and hears every cut from here on.
    fn admit(&mut self, now: Instant, slot: SlotId) {
        let Some(lead) = &mut self.lead else { return };
        let Some(n) = lead.newcomers.remove(&slot) else { return };
        let (conn, incarnation) = (n.conn, n.registration.incarnation);
        let replaced = lead.reports.register(slot, incarnation, conn);
        lead.views.rebuilds.is_back(slot);
        lead.pushing.insert(conn);
        if let Some(old) = replaced {
            let text = format!("slot {slot} registered over another connection");
            self.refuse(old, Refusal::new(RefusedWhy::Stale, text));
        }
        info!(%slot, %incarnation, addr = n.registration.addr, "slot registered");
        self.send(conn, wire::encode(ViewIs { view: self.state.view().clone() }));
        self.send(conn, wire::encode(self.orderers_are()));
        let shards: Vec<ShardId> = self.state.shards_of(slot).collect();
        for shard in shards {
            let knows = n.parts.iter().find(|(s, _)| *s == shard).map_or(CutNumber(0), |(_, number)| *number);
            if let Err(refusal) = self.send_parts(conn, slot, shard, knows) {
                return self.refuse(conn, refusal);
            }
        }
        self.tell_trim(conn);
        for report in n.early {
            self.report(now, conn, slot, incarnation, report);
        }
    }

    /// Sends the parts of `shard` behind the one the slot knows.
    pub(super) fn send_parts(
        &mut self,
        conn: ConnId,
        slot: SlotId,
        shard: ShardId,
        knows: CutNumber,
    ) -> Result<(), Refusal> {
        let number = self.state.last_cut();
        if knows > number {
            let text = format!("slot {slot} knows part {knows} of shard {shard}, the last cut is {number}");
            return Err(Refusal::new(RefusedWhy::Invalid, text));
        }
        let Some(parts) = self.state.parts_after(shard, knows) else {
            // All its replicas said to hold them: this one lost them, the others have them.
            let known = self.state.known_part(shard);
            tracing::warn!(%slot, %shard, %knows, %known, "parts are lost there: sent to the other replicas");
            self.send(conn, wire::encode(PartsGone { shard, known }));
            return Ok(());
        };
        let lens = self.state.lens(shard);
        self.send(conn, wire::encode(PartsAre { shard, parts, lens, number, tail: self.state.tail() }));
        Ok(())
    }

    pub(super) fn report(
        &mut self,
        now: Instant,
        conn: ConnId,
        slot: SlotId,
        started: Incarnation,
        report: Report,
    ) {
        if (report.slot, report.incarnation) != (slot, started) {
            let text = format!(
                "slot {slot} of start {started} reports for {} of {}",
                report.slot, report.incarnation
            );
            return self.refuse(conn, Refusal::new(RefusedWhy::Invalid, text));
        }
        if report.shards.len() > NAMED_SHARDS_MAX {
            let text = format!("a report of {} shards", report.shards.len());
            return self.refuse(conn, Refusal::new(RefusedWhy::Invalid, text));
        }
        let Some(lead) = &mut self.lead else { return };
        if let Some(n) = lead.newcomers.get_mut(&slot).filter(|n| n.conn == conn) {
            if n.early.len() < EARLY_REPORTS {
                n.early.push(report);
            } else {
                let text = "too many reports before the registration was decided";
                self.refuse(conn, Refusal::new(RefusedWhy::NotReady, text));
            }
            return;
        }
        if lead.reports.conn(slot) != Some(conn) {
            let text = "a report before a registration";
            return self.refuse(conn, Refusal::new(RefusedWhy::Unexpected, text));
        }
        let all = report.cuts == CutsWanted::All;
        if let Err(refusal) = lead.reports.take(&self.state, conn, report) {
            return self.refuse(conn, refusal);
        }
        lead.views.health.heard(now, slot);
        if all {
            self.send_late(conn);
        }
    }

    /// A slot mends what it lost: it lives, though it reports nothing of these shards. Shards that it has nothing of,
    /// or not any more, don't matter.
    pub(super) fn recovering(
        &mut self,
        now: Instant,
        conn: ConnId,
        slot: SlotId,
        started: Incarnation,
        r: Recovering,
    ) {
        if (r.slot, r.incarnation) != (slot, started) || r.shards.len() > NAMED_SHARDS_MAX {
            let text =
                format!("slot {slot} of start {started} can't be recovering {} shards so", r.shards.len());
            return self.refuse(conn, Refusal::new(RefusedWhy::Invalid, text));
        }
        let known: Vec<ShardId> = self.state.shards_of(slot).filter(|s| r.shards.contains(s)).collect();
        let Some(lead) = &mut self.lead else { return };
        if lead.reports.conn(slot) == Some(conn) {
            lead.reports.recovering(slot, known);
            lead.views.health.heard(now, slot);
        }
    }

    pub(super) fn slot_gone(&mut self, conn: ConnId, slot: SlotId) {
        let Some(lead) = &mut self.lead else { return };
        if lead.reports.conn(slot) == Some(conn) {
            lead.watch.slot_gone(slot);
        }
        lead.reports.closed(slot, conn);
        if lead.newcomers.get(&slot).is_some_and(|n| n.conn == conn) {
            lead.newcomers.remove(&slot);
        }
    }
}

/// What to do about a log that is not the one known.
fn other_log(slot: SlotId) -> String {
    let server = slot.server;
    format!(
        "server {server} is known with another data directory (slot {}): what that one held is not in this one. Start \
         it on its old data directory; or, if that is lost, start a new server: an empty directory and a `server` id \
         never used before",
        slot.index
    )
}

/// What to do about a start whose number is not above all that the slot had: its disk lost what says so, twice, or is an older
/// copy. What else it lost is no other than what any start may have lost unseen, and is had from the other replicas.
pub(super) fn older_start(slot: SlotId, incarnation: Incarnation, newest: Incarnation) -> String {
    format!(
        "start {newest} of slot {slot} is registered, this one is {incarnation}: the newest blocks of its log and its \
         file `start` were lost, or an older copy of its data directory was put in place. Start it again: each start \
         takes a higher number, until it is the highest"
    )
}

impl Who {
    /// Slots and clients: they are here for the leader's sake.
    pub(super) fn is_guest(&self) -> bool {
        matches!(self, Who::Slot(..) | Who::Client)
    }
}
