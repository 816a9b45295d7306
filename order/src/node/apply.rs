//! What follows from what raft says? Records are persisted, messages sent, entries applied, and the leader
//! tells everybody concerned.

use super::Orderer;
use super::slots::older_start;
use super::status::RAFT;
use crate::consensus::{Committed, What, Work};
use crate::node::OrderEvent;
use crate::sequencer::{Applied, State};
use tracing::warn;
use zoolog_core::wire::{self, RefusedWhy, ViewIs};
use zoolog_core::{CutNumber, Instant, Output, ShardId, SlotId};

impl Orderer {
    pub(super) fn carry_out(&mut self, now: Instant, work: Work) {
        if let Some((token, record)) = work.persist {
            self.persisting.begin(token, now, 1);
            self.out.push_back(Output::Persist { token, records: vec![record] });
        }
        self.send_raft(now, work.messages);
        if let Some((index, image)) = work.snapshot {
            self.state = State::decode(self.cfg.cluster, &image)
                .unwrap_or_else(|e| panic!("a snapshot that was checked when it came: {e}"));
            self.applied = index;
            self.out.push_back(Output::Event(OrderEvent::CaughtUp { index }));
            self.members_changed(now);
        }
        let last = work.entries.last().map(|e| e.index);
        for entry in work.entries {
            self.apply(now, entry);
        }
        if let Some(index) = last {
            self.consensus.applied(index);
        }
        for (ctx, index) in work.reads {
            self.tails.answered(ctx, index);
        }
        self.finish_tails();
    }

    fn apply(&mut self, now: Instant, entry: Committed) {
        let Committed { index, term, what } = entry;
        assert_eq!(index, self.applied + 1, "entries are applied one by one");
        self.applied = index;
        match what {
            What::Nothing => self.change_decided(index, Err("it came at the wrong time: ask again")),
            What::Members(change) => self.apply_change(now, index, &change),
            What::LeaveJoint => self.apply_leave(now),
            What::Proposal(data) => self.apply_proposal(now, index, &data),
        }
        self.view_decided(index);
        if let Some(lead) = &mut self.lead {
            lead.rafting.end(index, now, &mut self.stages, RAFT);
        }
        if let Some(lead) = &mut self.lead
            && lead.applied(index, term)
        {
            self.out.push_back(Output::Event(OrderEvent::BecameLeader { term }));
        }
    }

    fn apply_change(&mut self, now: Instant, index: u64, change: &[u8]) {
        let outcome = match self.state.change_members(change) {
            Ok(steps) => {
                self.consensus.change_members(&steps, &self.state.members().conf());
                let members = self.state.members().iter().map(|(id, m)| (id.0, m.standing)).collect();
                self.out.push_back(Output::Event(OrderEvent::MembersChanged { members }));
                Ok(())
            }
            Err(why) => {
                tracing::debug!(index, why, "change of the orderers without effect");
                Err(why)
            }
        };
        // The answer first: who is removed hears nothing more.
        self.change_decided(index, outcome);
        self.members_changed(now);
    }

    fn apply_leave(&mut self, now: Instant) {
        if self.state.leave_joint() {
            self.consensus.change_members(&[], &self.state.members().conf());
            let members = self.state.members().iter().map(|(id, m)| (id.0, m.standing)).collect();
            self.out.push_back(Output::Event(OrderEvent::MembersChanged { members }));
            self.members_changed(now);
        }
    }

    fn apply_proposal(&mut self, now: Instant, index: u64, data: &[u8]) {
        let (view, before) = (self.state.view().number, self.state.trim());
        let applied = self.state.apply(data);
        self.consumers_applied(index, &applied);
        self.name_decided(index, &applied);
        self.trims_applied(index, &applied, before);
        self.begin_applied(index);
        // Before who asked is told: a view first, as ever.
        if let Applied::Sealed(_) = &applied {
            self.push_view(&[]);
            self.push_seal();
        }
        self.seal_applied(index);
        // An address or the trim point may have changed it. With new shards it goes out below.
        let formed = matches!(applied, Applied::Formed { .. } | Applied::Sealed(_));
        if self.state.view().number != view && !formed {
            self.push_view(&[]);
        }
        self.members_applied(now, index, &applied);
        match applied {
            Applied::Members | Applied::Name(_) => {}
            Applied::Begun(gsn) => tracing::info!(%gsn, "the log goes on where another has ended"),
            Applied::Trimmed(gsn) => tracing::debug!(index, %gsn, "trimmed"),
            Applied::NotTrimmed(why) => tracing::debug!(index, ?why, "not trimmed"),
            Applied::Nothing(why) => tracing::debug!(index, why, "entry without effect"),
            // Who waits for it is let in once all that is committed is applied.
            Applied::Registered { .. } => {}
            Applied::NotRegistered { slot, incarnation, why } => {
                let (refused, text) = match self.state.incarnation(slot).filter(|i| *i > incarnation) {
                    Some(newest) => (RefusedWhy::Dismissed, older_start(slot, incarnation, newest)),
                    None => (RefusedWhy::Invalid, format!("slot {slot} is not registered: {why}")),
                };
                self.turn_away(slot, incarnation, refused, text);
            }
            Applied::Sealed(finalized) => {
                let (view, shards) = (self.state.view().number, Vec::new());
                self.out.push_back(Output::Event(OrderEvent::ViewFormed { view, shards, finalized }));
            }
            Applied::Formed { formed, finalized } => {
                let view = self.state.view().number;
                self.push_view(&formed);
                let event = OrderEvent::ViewFormed { view, shards: formed, finalized };
                self.out.push_back(Output::Event(event));
            }
            Applied::Cut(cut) => {
                if self.is_leading() {
                    self.push_cut(now, cut);
                }
            }
        }
    }

    /// Sends the view to all who hear of cuts, and the parts (none yet) of new shards to their slots.
    fn push_view(&mut self, new: &[ShardId]) {
        if !self.is_leading() {
            return;
        }
        let bytes = wire::encode(ViewIs { view: self.state.view().clone() });
        self.push(&bytes);
        for &shard in new {
            let slots: Vec<SlotId> = self
                .state
                .view()
                .shard(shard)
                .map_or(Vec::new(), |s| s.replicas.iter().map(|r| r.slot).collect());
            for slot in slots {
                let Some(conn) = self.lead.as_ref().and_then(|l| l.reports.conn(slot)) else { continue };
                if let Err(refusal) = self.send_parts(conn, slot, shard, CutNumber(0)) {
                    warn!(%slot, %shard, text = refusal.text, "parts of a new shard");
                    self.refuse(conn, refusal);
                }
            }
        }
    }
}
