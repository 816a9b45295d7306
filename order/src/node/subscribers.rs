//! Who hears of cuts? Slots and subscribers, each from a stated point on, without a gap; a cut is encoded
//! once for all of them, and once more for those that follow them all and take it in few bytes.

use super::Orderer;
use super::conns::Who;
use crate::sequencer::Refusal;
use bytes::Bytes;
use zoolog_core::cut::{Cut, CutLane};
use zoolog_core::wire::{self, CutIs, Grown, OrderIs, RefusedWhy};
use zoolog_core::{ConnId, Instant, Output};

/// Subscribers besides the slots; what one more costs the leader is a frame per cut.
const SUBSCRIBERS_MAX: usize = 256;

impl Orderer {
    pub(super) fn watch_cuts(&mut self, conn: ConnId, request: u64) {
        let Some(lead) = &mut self.lead else { return };
        let client = |c: &&ConnId| self.conns.get(c).is_some_and(|c| c.who == Who::Client);
        let subscribers = lead.pushing.iter().filter(client).count();
        if subscribers + lead.watchers.len() >= SUBSCRIBERS_MAX {
            let text = "too many subscribers: ask a replica";
            return self.refuse(conn, Refusal::new(RefusedWhy::NotReady, text));
        }
        lead.watchers.push((conn, request));
    }

    /// The same without the cuts.
    pub(super) fn watch_views(&mut self, conn: ConnId, request: u64) {
        self.watch_cuts(conn, request);
        if let Some(lead) = &mut self.lead {
            lead.without_cuts.insert(conn);
        }
    }

    /// The same, but each cut in few bytes.
    pub(super) fn watch_growth(&mut self, conn: ConnId, request: u64) {
        self.watch_cuts(conn, request);
        if let Some(lead) = &mut self.lead {
            lead.in_few_bytes.insert(conn);
        }
    }

    /// Answers who has asked for cuts.
    pub(super) fn admit_watchers(&mut self) {
        // An order that is yet to begin elsewhere is none that anybody should go on from.
        if self.waits_to_begin() {
            return;
        }
        let Some(lead) = &mut self.lead else { return };
        let watchers = std::mem::take(&mut lead.watchers);
        lead.pushing.extend(watchers.iter().map(|(conn, _)| *conn));
        for (conn, request) in watchers {
            let state = &self.state;
            let answer = OrderIs {
                request,
                cluster: self.cfg.cluster.of_order(self.cfg.generation),
                generation: self.cfg.generation,
                number: state.last_cut(),
                tail: state.tail(),
                view: state.view().clone(),
                lanes: state.lanes().map(|(lane, to)| CutLane { lane, from: 0, to }).collect(),
            };
            self.send(conn, wire::encode(answer));
            self.send(conn, wire::encode(self.orderers_are()));
            if let Some(sealed) = self.sealed_is(0) {
                self.send(conn, sealed);
            }
        }
    }

    pub(super) fn subscriber_gone(&mut self, conn: ConnId) {
        if let Some(lead) = &mut self.lead {
            lead.pushing.remove(&conn);
            lead.without_cuts.remove(&conn);
            lead.in_few_bytes.remove(&conn);
            lead.watchers.retain(|(c, _)| *c != conn);
            lead.late.forget(conn);
        }
    }

    /// Sends to everybody who hears of cuts.
    pub(super) fn push(&mut self, bytes: &Bytes) {
        let pushing: Vec<ConnId> = self.lead.iter().flat_map(|l| l.pushing.iter().copied()).collect();
        for conn in pushing {
            self.send(conn, bytes.clone());
        }
    }

    /// Sends a cut: at once to subscribers and to slots that wait for it, later to other slots.
    pub(super) fn push_cut(&mut self, now: Instant, cut: Cut) {
        let Some(lead) = &mut self.lead else { return };
        let waiting = lead.reports.wanting(&self.state, &cut);
        assert_eq!(cut.view, self.state.view().number, "a cut belongs to the view that everybody was sent");
        let grown = if lead.in_few_bytes.is_empty() { None } else { Grown::of(&cut).map(wire::encode) };
        let bytes = wire::encode(CutIs { cut });
        let is_slot = |conn: &ConnId| self.conns.get(conn).is_some_and(|c| matches!(c.who, Who::Slot(..)));
        let may_wait = |conn: &ConnId| is_slot(conn) && !waiting.contains(conn);
        let hears = |conn: &ConnId| !lead.without_cuts.contains(conn);
        let (later, at_once): (Vec<ConnId>, Vec<ConnId>) =
            lead.pushing.iter().copied().filter(hears).partition(may_wait);
        if !at_once.is_empty() {
            self.cuts_sending.get_or_insert((now, 0)).1 += 1;
        }
        for conn in at_once {
            let takes_few = self.lead.as_ref().is_some_and(|l| l.in_few_bytes.contains(&conn));
            let frame = grown.as_ref().filter(|_| takes_few).unwrap_or(&bytes);
            self.send(conn, frame.clone());
        }
        let Some(lead) = self.lead.as_mut().filter(|_| !later.is_empty()) else { return };
        lead.late.push(bytes);
        later.into_iter().for_each(|conn| lead.late.hold(now, conn));
        if lead.late.is_full() {
            self.send_late_cuts();
        }
    }

    /// Sends the cuts that are held back for `conn`.
    pub(super) fn send_late(&mut self, conn: ConnId) {
        if let Some(lead) = &mut self.lead {
            let cuts = lead.late.take(conn).into_iter();
            self.out.extend(cuts.map(|bytes| Output::Send { conn, bytes }));
        }
    }

    /// Sends all cuts that are held back.
    pub(super) fn send_late_cuts(&mut self) {
        for conn in self.lead.as_ref().map_or(Vec::new(), |l| l.late.waiting()) {
            self.send_late(conn);
        }
    }
}
