//! Who is to be an orderer? What is asked of the leader, what it may grant without losing the quorum of those that
//! answer, and what it does of its own accord: it welcomes, promotes, hands over.

use super::Orderer;
use crate::sequencer::{Applied, Change, Command};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tracing::info;
use zoolog_core::wire::{self, ChangeOrderers, ChangeOutcome, NewOrderer, OrdererChange, OrderersChanged};
use zoolog_core::{ConnId, Instant, OrdererId};

/// Who was heard within this time answers.
pub(super) const ANSWERS_WITHIN: Duration = Duration::from_secs(1);
/// A learner that lacks at most so many entries has caught up.
const CAUGHT_UP_ENTRIES: u64 = 256;

/// What a leader knows of changes under way.
#[derive(Default)]
pub(super) struct Changing {
    /// Who waits for the change that is proposed: the entry, and whom to tell.
    asked: Option<(u64, ConnId, u64)>,
    /// Births of orderers that are not decided on.
    pub welcomes: BTreeMap<OrdererId, u64>,
    /// Entries of ours that are not applied yet: births, addresses.
    welcoming: Option<u64>,
    moving: Option<u64>,
    parting: Option<u64>,
    /// Who goes, and the entry that enough must know before it may.
    parts: Option<(OrdererId, u64)>,
    /// Who is to lead instead.
    pub heir: Option<OrdererId>,
    /// When each other was last heard.
    pub heard: BTreeMap<OrdererId, Instant>,
}

fn later(text: impl Into<String>) -> ChangeOutcome {
    ChangeOutcome::Later(text.into())
}

pub(super) fn refused(text: impl Into<String>) -> ChangeOutcome {
    ChangeOutcome::Refused(text.into())
}

impl Orderer {
    /// Whether a change of these voters leaves enough of them that answer. `comes` counts as one that does.
    fn keeps_quorum(
        &self,
        now: Instant,
        comes: Option<OrdererId>,
        goes: Option<OrdererId>,
    ) -> Result<(), String> {
        let Some(lead) = &self.lead else { return Err("this orderer leads no more".into()) };
        let own = self.cfg.id;
        let answers = |id: &OrdererId| {
            *id == own || lead.changing.heard.get(id).is_some_and(|at| now.since(*at) < ANSWERS_WITHIN)
        };
        let then: BTreeSet<OrdererId> =
            self.state.members().voters().filter(|id| Some(*id) != goes).chain(comes).collect();
        let living = then.iter().filter(|id| Some(**id) == comes || answers(id)).count();
        let quorum = then.len() / 2 + 1;
        if living >= quorum {
            return Ok(());
        }
        let silent: Vec<String> =
            then.iter().filter(|id| Some(**id) != comes && !answers(id)).map(|id| id.to_string()).collect();
        Err(format!(
            "of the {} orderers there would be then {quorum} must answer, but {living} would: bring back {} first",
            then.len(),
            silent.join(", ")
        ))
    }

    /// Somebody wants other orderers.
    pub(super) fn change_orderers(&mut self, now: Instant, conn: ConnId, m: ChangeOrderers) {
        let request = m.request;
        if let Some(outcome) = self.try_change(now, conn, m) {
            self.send(conn, wire::encode(OrderersChanged { request, outcome }));
        }
    }

    /// The outcome, if it is known already.
    fn try_change(&mut self, now: Instant, conn: ConnId, m: ChangeOrderers) -> Option<ChangeOutcome> {
        let lead = self.lead.as_ref()?;
        if !lead.ready || lead.changing.asked.is_some() || self.consensus.is_transferring() {
            return Some(later("an election or another change is under way"));
        }
        let members = self.state.members();
        let change = match m.change {
            OrdererChange::Transfer(id) => return Some(self.transfer(now, id)),
            OrdererChange::Add(ref new) if members.get(new.id).is_some_and(|m| m.addr == new.addr) => {
                return Some(ChangeOutcome::Done);
            }
            OrdererChange::Remove(id) if members.was_removed(id) => return Some(ChangeOutcome::Done),
            OrdererChange::Add(NewOrderer { id, addr, replaces }) => Change::Add { id, addr, replaces },
            OrdererChange::Remove(id) if id == self.cfg.id => {
                return Some(refused(format!(
                    "orderer {id} leads: hand over first with `zoolog admin orderers transfer ID`"
                )));
            }
            OrdererChange::Remove(id) => Change::Remove { id },
        };
        let steps = match members.steps(&change) {
            Ok(steps) => steps,
            Err(why) => return Some(self.explained(why)),
        };
        let kept = match &change {
            Change::Add { id, replaces, .. } => self.keeps_quorum(now, Some(*id), *replaces),
            Change::Remove { id } if members.learner() == Some(*id) => Ok(()),
            Change::Remove { id } | Change::Promote { id } => self.keeps_quorum(now, None, Some(*id)),
        };
        if let Err(text) = kept {
            return Some(refused(text));
        }
        let data = members.propose(change);
        let Some(index) = self.consensus.propose_members(&steps, data) else {
            return Some(later("another change is under way, or too much waits for the quorum"));
        };
        if let Some(lead) = &mut self.lead {
            lead.changing.asked = Some((index, conn, m.request));
        }
        None
    }

    fn explained(&self, why: &str) -> ChangeOutcome {
        let members = self.state.members();
        match why {
            "another change is under way" => later(match members.learner() {
                Some(id) => format!("orderer {id} is being added: wait until it votes, or remove it"),
                None => why.to_string(),
            }),
            "it is no member, or about to be none" if members.parting().is_some() => later(why),
            "an id is never used twice" => {
                let newest = members.newest();
                refused(format!("{why}: take one above {newest}, such as {}", newest.next()))
            }
            "an orderer has not introduced itself yet" => later(why),
            _ => refused(why),
        }
    }

    /// The entry was decided, whatever became of it.
    pub(super) fn change_decided(&mut self, index: u64, outcome: Result<(), &'static str>) {
        let Some(lead) = &mut self.lead else { return };
        let Some((_, conn, request)) = lead.changing.asked.take_if(|(at, ..)| *at <= index) else { return };
        if self.conns.get(&conn).is_some_and(|c| c.who.is_guest()) {
            let outcome = match outcome {
                Ok(()) => ChangeOutcome::Done,
                Err(why) => later(why),
            };
            self.send(conn, wire::encode(OrderersChanged { request, outcome }));
        }
    }

    /// An entry is applied that was not a change of the members: one of ours may have become nothing.
    pub(super) fn members_applied(&mut self, now: Instant, index: u64, applied: &Applied) {
        if *applied == Applied::Members {
            self.members_changed(now);
        }
        if let Some(lead) = &mut self.lead {
            let done = |at: &mut u64| *at <= index;
            lead.changing.welcoming.take_if(done);
            lead.changing.moving.take_if(done);
            lead.changing.parting.take_if(done);
        }
    }

    /// What a ready leader does of its own accord, tick by tick.
    pub(super) fn tend_members(&mut self, now: Instant) {
        if self.lead.is_none() || self.consensus.is_transferring() {
            return;
        }
        // Elected before it knew that it is none any more: raft takes no proposals of it.
        if self.state.members().get(self.cfg.id).is_none() {
            self.hand_over_to_best(now);
            return;
        }
        if !self.is_leading() {
            return;
        }
        self.welcome();
        self.tell_moved();
        self.let_go();
        let members = self.state.members();
        if self.consensus.is_changing() {
            return;
        }
        // Raft leaves a joint set by itself, but not in every change of leaders.
        if members.is_joint() {
            self.consensus.propose_leave();
        } else if let Some(id) = members.learner() {
            self.promote(now, id);
        }
    }

    fn welcome(&mut self) {
        let Some(lead) = &mut self.lead else { return };
        if lead.changing.welcoming.is_some() || self.state.members().iter().all(|(_, m)| m.birth != 0) {
            return;
        }
        let mut known = lead.changing.welcomes.clone();
        known.extend(self.birth.identity.others.iter().copied());
        known.insert(self.cfg.id, self.birth.identity.birth);
        let unknown = self.state.members().iter().filter(|(_, m)| m.birth == 0);
        let births: Vec<_> = unknown.filter_map(|(id, _)| Some((id, *known.get(&id)?))).collect();
        if !births.is_empty() {
            lead.changing.welcoming = self.consensus.propose(Command::Welcome(births).encode());
        }
    }

    /// Who was moved by the settings is decided to be there.
    fn tell_moved(&mut self) {
        let Some(lead) = &mut self.lead else { return };
        let members = self.state.members();
        let news = |(id, addr): &&(OrdererId, String)| members.get(*id).is_some_and(|m| m.addr != *addr);
        if lead.changing.moving.is_none() && self.cfg.moved.iter().any(|m| news(&m)) {
            let entry = Command::MoveOrderers(self.cfg.moved.clone()).encode();
            lead.changing.moving = self.consensus.propose(entry);
        }
    }

    /// Who was removed may go once a quorum knows it for ever: until then somebody who doesn't might need its vote.
    fn let_go(&mut self) {
        let Some(lead) = &mut self.lead else { return };
        let Some((id, _)) = self.state.members().parting() else { return };
        let (_, index) = *match &mut lead.changing.parts {
            Some(parts) if parts.0 == id => parts,
            parts => parts.insert((id, self.applied)),
        };
        if lead.changing.parting.is_none() && self.consensus.is_known(index) {
            lead.changing.parting = self.consensus.propose(Command::Parted(id).encode());
        }
    }

    /// The learner votes once it has caught up, if a quorum answers then.
    fn promote(&mut self, now: Instant, id: OrdererId) {
        let members = self.state.members();
        let matched = self.consensus.matched().find(|(m, _)| *m == id).map_or(0, |(_, at)| at);
        let heard = self.lead.as_ref().and_then(|l| l.changing.heard.get(&id));
        let answers = heard.is_some_and(|at| now.since(*at) < ANSWERS_WITHIN);
        if !answers || matched == 0 || matched + CAUGHT_UP_ENTRIES < self.consensus.last() {
            return;
        }
        let goes = members.replacing().map(|(_, old)| old);
        let change = Change::Promote { id };
        let Ok(steps) = members.steps(&change) else { return };
        if self.keeps_quorum(now, Some(id), goes).is_err() {
            return;
        }
        if goes == Some(self.cfg.id) {
            self.hand_over_to_best(now);
            return;
        }
        let data = members.propose(change);
        if self.consensus.propose_members(&steps, data).is_some() {
            info!(%id, ?goes, "the new orderer has caught up: it is to vote");
        }
    }
}
