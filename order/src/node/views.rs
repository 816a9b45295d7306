//! Which shards shall there be? What a leader decides of the view: the first one, shards in place of those that
//! failed, as many as are wanted, and what operators ask for. One change is under way at a time.

use super::Orderer;
use super::health::{Diagnosis, Health};
use super::rebuild::Rebuilds;
use crate::sequencer::{Choice, Command, FormView, SHARDS_MAX, pair, place};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tracing::{info, warn};
use zoolog_core::view::ShardState;
use zoolog_core::wire::{self, Decided};
use zoolog_core::{ConnId, Instant, ServerId, ShardId, SlotId, ViewNumber};

/// Requests of operators that may wait.
const ASKED_MAX: usize = 64;

/// What an operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// This shard ended.
    Finalize(ShardId),
    /// So many shards that take appends.
    Shards(u32),
    /// A copy in place of one that this shard lost.
    Rebuild(ShardId),
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    conn: ConnId,
    request: u64,
    wish: Wish,
}

/// What a leader has under way.
#[derive(Debug)]
pub(super) struct Views {
    pub health: Health,
    /// Index of a proposed change, and who waits for it.
    proposed: Option<(u64, Option<Asked>)>,
    asked: VecDeque<Asked>,
    /// Since when all of these shards is trimmed.
    spent: BTreeMap<ShardId, Instant>,
    /// What failed and can't be replaced, as it was last logged.
    stuck: BTreeSet<ShardId>,
    /// Copies that are lost, and those in the making.
    pub rebuilds: Rebuilds,
}

impl Views {
    pub fn new(health: Health) -> Self {
        Self {
            health,
            proposed: None,
            asked: VecDeque::new(),
            spent: BTreeMap::new(),
            stuck: BTreeSet::new(),
            rebuilds: Rebuilds::default(),
        }
    }
}

impl Orderer {
    /// An operator asks for a change; answered when it is decided.
    pub(super) fn ask_view(&mut self, conn: ConnId, request: u64, wish: Wish) {
        let Some(lead) = &mut self.lead else { return };
        if lead.views.asked.len() >= ASKED_MAX {
            return self.decided(conn, request, true, "too many changes of the view wait".into());
        }
        lead.views.asked.push_back(Asked { conn, request, wish });
    }

    fn decided(&mut self, conn: ConnId, request: u64, retry: bool, refused: String) {
        if self.conns.get(&conn).is_some_and(|c| c.who.is_guest()) {
            let view = self.state.view().number;
            self.send(conn, wire::encode(Decided { request, view, retry, refused }));
        }
    }

    /// Does what is due, unless a change is under way.
    pub(super) fn tend_views(&mut self, now: Instant) {
        let waits = self.waits_to_begin();
        let Some(lead) = &mut self.lead else { return };
        if lead.views.proposed.is_some() {
            return;
        }
        if let Some(asked) = lead.views.asked.pop_front() {
            return self.grant(now, asked);
        }
        let has_ended = self.state.sealed().is_some();
        if waits || (has_ended && self.state.view().shards.is_empty()) {
            return;
        }
        if self.state.view().number == ViewNumber(0) {
            return self.form_first_view();
        }
        if !lead.views.health.is_due(now) {
            return;
        }
        let boards = lead.reports.boards(&self.state);
        let state = &self.state;
        let found = lead.views.health.look(now, state.view(), boards, |shard| state.lens(shard));
        // Of a log that has ended no shard is formed; copies that were lost are still made.
        if !self.drop_spent(now) && !has_ended {
            self.mend(now, found);
        }
        if self.lead.as_ref().is_some_and(|l| l.views.proposed.is_none())
            && let Some(step) = self.rebuild_due(now)
        {
            self.propose_change(Command::Rebuild(step), None);
        }
    }

    /// Lets shards go all of which was trimmed a while ago; whether there are some.
    fn drop_spent(&mut self, now: Instant) -> bool {
        let Some(lead) = &mut self.lead else { return false };
        let shards = &self.state.view().shards;
        let spent: BTreeSet<ShardId> =
            (0..shards.len()).filter(|i| self.state.is_spent(*i)).map(|i| shards[i].id).collect();
        lead.views.spent.retain(|id, _| spent.contains(id));
        for id in spent {
            lead.views.spent.entry(id).or_insert(now);
        }
        let due = lead.views.spent.iter().filter(|(_, since)| now.since(**since) >= self.cfg.failures.linger);
        let due: Vec<ShardId> = due.map(|(id, _)| *id).collect();
        if due.is_empty() {
            return false;
        }
        self.propose_change(Command::DropShards(due), None);
        true
    }

    fn form_first_view(&mut self) {
        let Some(lead) = &mut self.lead else { return };
        let fit = lead.reports.connected();
        let servers: BTreeSet<ServerId> = fit.iter().map(|s| s.server).collect();
        if servers.len() < self.cfg.servers as usize {
            return;
        }
        match self.placed(&fit, &BTreeSet::new(), &BTreeSet::new(), self.wanted_shards()) {
            Some(shards) => self.propose_view(vec![], shards, None),
            None => {
                warn!(servers = servers.len(), replicas = self.cfg.replicas, "no first view: too few servers")
            }
        }
    }

    /// How many shards are to take appends.
    fn wanted_shards(&self) -> u32 {
        self.state.wanted().unwrap_or(self.cfg.wanted_shards)
    }

    /// Slots for that many new shards, if there are servers that may reach each other. Those that didn't, and are not
    /// seen not to now (`torn`), get one only if there are no others: first those of whom that was seen longest ago.
    fn placed(
        &self,
        fit: &BTreeSet<SlotId>,
        ending: &BTreeSet<ShardId>,
        torn: &BTreeSet<(ServerId, ServerId)>,
        shards: u32,
    ) -> Option<Vec<Vec<SlotId>>> {
        let known = self.lead.as_ref()?.views.health.apart();
        let room = SHARDS_MAX.saturating_sub(self.state.view().shards.len());
        // Whatever was seen until then is forgotten.
        let placed_after = |then: Option<Instant>| {
            let since = known.iter().filter(|(_, seen)| then.is_none_or(|then| **seen > then));
            let apart: BTreeSet<_> = since.map(|(pair, _)| *pair).chain(torn.iter().copied()).collect();
            let choice = Choice { slots: &self.state.slots, fit, replicas: self.cfg.replicas, apart: &apart };
            let placed = place(choice, self.state.view(), ending, shards.min(room as u32))?;
            let is_torn = |s: &Vec<SlotId>| {
                s.iter()
                    .enumerate()
                    .any(|(i, a)| s[..i].iter().any(|b| apart.contains(&pair(a.server, b.server))))
            };
            (!placed.iter().any(is_torn)).then_some(placed)
        };
        if let Some(placed) = placed_after(None) {
            return Some(placed);
        }
        let times: Vec<Instant> = known.values().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let least = times.partition_point(|then| placed_after(Some(*then)).is_none());
        placed_after(Some(*times.get(least)?))
    }

    /// Slots that are connected, heard of late, and none of these.
    fn fit(&self, now: Instant, unfit: &BTreeSet<SlotId>) -> BTreeSet<SlotId> {
        let Some(lead) = &self.lead else { return BTreeSet::new() };
        let mut fit = lead.reports.connected();
        fit.retain(|s| !unfit.contains(s) && !lead.views.health.is_gone(now, *s));
        fit
    }

    /// Ends shards that failed, if others can take their place, and forms what is lacking.
    fn mend(&mut self, now: Instant, found: Diagnosis) {
        let wanted = self.wanted_shards();
        let Some(lead) = &mut self.lead else { return };
        let Diagnosis { failed, unfit, torn, moves } = found;
        let may_end = !failed.is_empty() && lead.views.health.may_act(now, moves);
        let ending = if may_end { failed.clone() } else { BTreeSet::new() };
        let live = self.state.view().live().filter(|s| !ending.contains(&s.id)).count() as u32;
        let lacking = wanted.saturating_sub(live).max(u32::from(live == 0));
        if ending.is_empty() && (lacking == 0 || !failed.is_empty()) {
            lead.views.stuck.retain(|s| failed.contains(s));
            return;
        }
        let fit = self.fit(now, &unfit);
        let shards = if lacking == 0 { Some(vec![]) } else { self.placed(&fit, &ending, &torn, lacking) };
        // In place of a shard that failed there must be another, even if enough are left.
        let Some(shards) = shards.filter(|s| ending.is_empty() || !s.is_empty() || live >= wanted) else {
            self.cannot_mend(failed);
            return;
        };
        if shards.is_empty() && ending.is_empty() {
            return;
        }
        if !ending.is_empty() {
            warn!(?ending, ?unfit, new = shards.len(), "shards failed: others take their place");
            if let Some(lead) = &mut self.lead {
                lead.views.health.acted(now);
            }
        }
        self.propose_view(ending.into_iter().collect(), shards, None);
    }

    fn cannot_mend(&mut self, failed: BTreeSet<ShardId>) {
        let Some(lead) = &mut self.lead else { return };
        if !failed.is_empty() && failed != lead.views.stuck {
            warn!(?failed, "shards stand still, and there are too few servers for others in their place");
        }
        lead.views.stuck = failed;
    }

    fn propose_view(&mut self, finalize: Vec<ShardId>, shards: Vec<Vec<SlotId>>, asked: Option<Asked>) {
        let form = FormView { expected: self.state.view().number, finalize, shards };
        self.propose_change(Command::FormView(form), asked);
    }

    fn propose_change(&mut self, command: Command, asked: Option<Asked>) {
        let index = self.consensus.propose(command.encode());
        let Some(lead) = &mut self.lead else { return };
        match index {
            Some(index) => lead.views.proposed = Some((index, asked)),
            // Raft takes nothing now: later.
            None => lead.views.asked.extend(asked),
        }
    }

    /// Begins to do what an operator asked for, or says why not.
    fn grant(&mut self, now: Instant, asked: Asked) {
        let Asked { conn, request, wish } = asked;
        match wish {
            Wish::Shards(_) if self.state.sealed().is_some() => {
                self.decided(conn, request, false, "the log has ended: it takes no appends any more".into());
            }
            Wish::Shards(n) if n == 0 || n as usize > SHARDS_MAX => {
                self.decided(conn, request, false, format!("{n} shards, 1 to {SHARDS_MAX} are possible"));
            }
            Wish::Shards(n) => {
                info!(shards = n, "an operator wants another number of shards");
                self.propose_change(Command::WantShards(n), Some(asked));
            }
            Wish::Rebuild(id) => match self.rebuild_by_hand(now, id) {
                Ok(step) => self.propose_change(Command::Rebuild(step), Some(asked)),
                Err((retry, refused)) => self.decided(conn, request, retry, refused),
            },
            Wish::Finalize(id) => match self.state.view().shard(id).map(|s| s.state == ShardState::Live) {
                None => self.decided(conn, request, false, format!("there is no shard {id} in the view")),
                Some(false) => self.decided(conn, request, false, String::new()),
                Some(true) => self.finalize_by_hand(now, id, asked),
            },
        }
    }

    fn finalize_by_hand(&mut self, now: Instant, id: ShardId, asked: Asked) {
        let Some(lead) = &mut self.lead else { return };
        let boards = lead.reports.boards(&self.state);
        let state = &self.state;
        let found = lead.views.health.look(now, state.view(), boards, |shard| state.lens(shard));
        let fit = self.fit(now, &found.unfit);
        let ending = BTreeSet::from([id]);
        let live = state.view().live().count() as u32 - 1;
        let lacking = self.wanted_shards().saturating_sub(live).max(u32::from(live == 0));
        match self.placed(&fit, &ending, &found.torn, lacking) {
            None if live == 0 => {
                let text = format!(
                    "shard {id} is the only one that takes appends, and there are too few servers for another: start more"
                );
                self.decided(asked.conn, asked.request, true, text);
            }
            shards => {
                info!(shard = %id, "an operator ends a shard");
                self.propose_view(vec![id], shards.unwrap_or_default(), Some(asked));
            }
        }
    }

    /// The entry at `index` is applied: a change that was under way is decided.
    pub(super) fn view_decided(&mut self, index: u64) {
        let Some(lead) = &mut self.lead else { return };
        let Some((_, asked)) = lead.views.proposed.take_if(|p| p.0 <= index) else { return };
        let Some(Asked { conn, request, wish }) = asked else { return };
        let done = match wish {
            Wish::Finalize(id) => self.state.view().shard(id).is_none_or(|s| s.state != ShardState::Live),
            Wish::Shards(n) => self.state.wanted() == Some(n),
            Wish::Rebuild(id) => self.state.view().shard(id).is_some_and(|s| s.rebuild.is_some()),
        };
        let refused = if done { "" } else { "the view changed meanwhile" };
        self.decided(conn, request, true, refused.into());
    }
}
