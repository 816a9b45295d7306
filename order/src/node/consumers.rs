//! What do consumers and the leader say to each other? Registrations and positions are gathered and become
//! one entry now and then; each is answered once that is applied. Slots hear of the trim point as it moves.

use super::Orderer;
use crate::sequencer::{Applied, Command, ConsumerAt, Refusal, is_name};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use zoolog_core::limits::{CONSUMER_NAME_BYTES_MAX, CONSUMERS_MAX};
use zoolog_core::wire::{self, Consumer, ConsumerIs, ForgetConsumer, RefusedWhy, TrimIs};
use zoolog_core::{ConnId, Gsn, Instant, SlotId};

/// Entries with positions are at least this far apart.
const EVERY: Duration = Duration::from_millis(100);
/// Questions that may wait for an entry.
const ASKED_MAX: usize = 4096;

/// Somebody who waits for an answer.
struct Asked {
    conn: ConnId,
    request: u64,
    name: String,
    /// Whether the name must be there then: it was to be registered, not forgotten.
    registers: bool,
}

/// What one leader knows of consumers beyond what is decided.
#[derive(Default)]
pub(super) struct Gathered {
    /// Positions to be proposed.
    moved: BTreeMap<String, Gsn>,
    /// Names to be taken off.
    forgotten: Vec<String>,
    /// Who waits for the next entry.
    waiting: Vec<Asked>,
    /// Who waits for an entry that is proposed: its index.
    proposed: VecDeque<(u64, Vec<Asked>)>,
    /// Over which connection each consumer last spoke that is there.
    here: BTreeMap<String, ConnId>,
    last: Option<Instant>,
    /// Raft took nothing: not before then.
    hold_until: Option<Instant>,
}

impl Gathered {
    /// When the next entry is due, if one is wanted.
    pub fn due(&self) -> Option<Instant> {
        let wanted = !self.moved.is_empty() || !self.forgotten.is_empty();
        let due = self.last.map_or(Instant(0), |last| last + EVERY);
        wanted.then(|| self.hold_until.map_or(due, |hold| due.max(hold)))
    }

    /// Whether that consumer has a connection to us.
    pub fn is_here(&self, name: &str) -> bool {
        self.here.contains_key(name)
    }

    /// Those that have one.
    pub fn here(&self) -> impl Iterator<Item = &str> {
        self.here.keys().map(String::as_str)
    }

    /// Whether some name is about to be taken off.
    fn forgets(&self) -> bool {
        let under_way = self.proposed.iter().flat_map(|p| &p.1).any(|a| !a.registers);
        under_way || !self.forgotten.is_empty()
    }

    fn is_full(&self) -> bool {
        self.waiting.len() + self.proposed.iter().map(|p| p.1.len()).sum::<usize>() >= ASKED_MAX
    }
}

impl Orderer {
    /// A consumer registers, or says how far it is.
    pub(super) fn consumer(&mut self, conn: ConnId, m: Consumer) {
        let Consumer { request, name, upto } = m;
        if !is_name(&name) {
            let text = format!("a consumer's name of {} bytes, 1 to {CONSUMER_NAME_BYTES_MAX}", name.len());
            return self.refuse(conn, Refusal::new(RefusedWhy::Invalid, text));
        }
        let Some(lead) = &mut self.lead else { return };
        let g = &mut lead.consumers;
        if g.is_full() || (g.moved.len() >= CONSUMERS_MAX && !g.moved.contains_key(&name)) {
            let text = "too many consumers speak at once";
            return self.refuse(conn, Refusal::new(RefusedWhy::NotReady, text));
        }
        if g.here.len() < CONSUMERS_MAX || g.here.contains_key(&name) {
            g.here.insert(name.clone(), conn);
        }
        let asked = Asked { conn, request, name: name.clone(), registers: true };
        // Decided already: nothing to wait for. Not so while we don't know all that was decided.
        let there = lead.ready && self.state.consumer(&name).is_some_and(|at| at >= upto);
        if there && !g.forgets() && !lead.watch.drops() {
            return self.answer_consumer(asked);
        }
        let at = g.moved.entry(name).or_insert(upto);
        *at = upto.max(*at);
        g.waiting.push(asked);
    }

    /// Somebody says that a consumer is gone for good.
    pub(super) fn forget_consumer(&mut self, conn: ConnId, m: ForgetConsumer) {
        let Some(lead) = &mut self.lead else { return };
        let g = &mut lead.consumers;
        if g.is_full() || g.forgotten.len() >= CONSUMERS_MAX || !is_name(&m.name) {
            let text = "too many consumers speak at once, or that is no name";
            return self.refuse(conn, Refusal::new(RefusedWhy::NotReady, text));
        }
        g.moved.remove(&m.name);
        if !g.forgotten.contains(&m.name) {
            g.forgotten.push(m.name.clone());
        }
        g.waiting.push(Asked { conn, request: m.request, name: m.name, registers: false });
    }

    /// A client is gone, and the consumers that spoke over its connection with it.
    pub(super) fn consumer_gone(&mut self, conn: ConnId) {
        if let Some(lead) = &mut self.lead {
            lead.consumers.here.retain(|_, c| *c != conn);
        }
    }

    /// Makes an entry of what was gathered, if it is time.
    pub(super) fn propose_consumers(&mut self, now: Instant) {
        let Some(lead) = &mut self.lead else { return };
        let g = &mut lead.consumers;
        if g.due().is_none_or(|due| now < due) {
            return;
        }
        let mut index = None;
        // What is to be forgotten goes first: who registers anew after that is there.
        while let Some(name) = g.forgotten.last() {
            match self.consensus.propose(Command::ForgetConsumer(name.clone()).encode()) {
                Some(at) => index = Some(at),
                None => break,
            }
            g.forgotten.pop();
        }
        if g.forgotten.is_empty() && !g.moved.is_empty() {
            let list = g.moved.iter().map(|(name, &upto)| ConsumerAt { name: name.clone(), upto });
            index = match self.consensus.propose(Command::Consumers(list.collect()).encode()) {
                Some(at) => {
                    g.moved.clear();
                    Some(at)
                }
                None => index,
            };
        }
        if let Some(index) = index.filter(|_| g.due().is_none()) {
            g.proposed.push_back((index, std::mem::take(&mut g.waiting)));
            (g.last, g.hold_until) = (Some(now), None);
        } else {
            g.hold_until = Some(now + crate::consensus::TICK);
        }
    }

    /// An entry was applied: answers who waited for it, and tells the slots if the trim point has moved.
    pub(super) fn consumers_applied(&mut self, index: u64, applied: &Applied) {
        if let Applied::Trimmed(gsn) | Applied::Begun(gsn) = *applied {
            self.push_trim(gsn);
        }
        let Some(lead) = &mut self.lead else { return };
        let mut answered = Vec::new();
        let proposed = &mut lead.consumers.proposed;
        while proposed.front().is_some_and(|p| p.0 <= index) {
            answered.extend(proposed.pop_front().expect("just seen").1);
        }
        answered.into_iter().for_each(|asked| self.answer_consumer(asked));
    }

    fn answer_consumer(&mut self, asked: Asked) {
        let Asked { conn, request, name, registers } = asked;
        if !self.conns.get(&conn).is_some_and(|c| c.who.is_guest()) {
            return;
        }
        let upto = self.state.consumer(&name);
        if upto.is_none() && registers && self.state.consumers().count() >= CONSUMERS_MAX {
            let text = format!("{CONSUMERS_MAX} consumers are registered: forget one of them first");
            return self.refuse(conn, Refusal::new(RefusedWhy::NotReady, text));
        }
        self.send(conn, wire::encode(ConsumerIs { request, upto, trim: self.state.trim() }));
    }

    fn push_trim(&mut self, gsn: Gsn) {
        let Some(lead) = self.lead.as_ref().filter(|l| l.ready) else { return };
        let slots: Vec<SlotId> = lead.reports.connected().into_iter().collect();
        let conns: Vec<ConnId> = slots.iter().filter_map(|s| lead.reports.conn(*s)).collect();
        let bytes = wire::encode(TrimIs { gsn });
        conns.into_iter().for_each(|conn| self.send(conn, bytes.clone()));
    }

    /// Tells a slot that was let in where the trim point is.
    pub(super) fn tell_trim(&mut self, conn: ConnId) {
        let gsn = self.state.trim();
        if gsn > Gsn(0) {
            self.send(conn, wire::encode(TrimIs { gsn }));
        }
    }
}
