//! Which copies are lost for good, and who makes new ones? What a leader decides of finalized shards: a replica that was
//! not there for `rebuild_after` is taken for lost, and a slot that holds nothing of the shard makes a copy in its
//! place. Each step is a change of the view, so that the next leader knows. Nothing is waited for when another log has come
//! under the slot's id while it was not there: its server was set up anew.
//!
//! - The copy is whole: it takes the lost one's place. Whoever comes back later holds nothing any more.
//! - The lost one is back first, and whole: nothing is made any more.
//! - Who makes the copy is itself not there for as long: another one begins. It goes on where it was if it is back first.
//!
//! The time counts from this leader's election at the earliest; looks that come late start it anew.

use super::Orderer;
use crate::sequencer::{RebuildStep, RebuildWhat, place_copy};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tracing::{info, warn};
use zoolog_core::view::{ShardState, ShardView};
use zoolog_core::wire::DiskRoom;
use zoolog_core::{Instant, ShardId, SlotId};

/// Copies in the making at a time, each in another slot.
const COPIES_MAX: usize = 4;
/// Who looks at longer intervals has been away, and knows of nobody's silence.
const LATE: Duration = Duration::from_secs(1);

/// What one leader knows of it.
#[derive(Debug, Default)]
pub(super) struct Rebuilds {
    /// Since when which slot is not there, or says nothing of that shard.
    absent: BTreeMap<(ShardId, SlotId), Instant>,
    looked: Option<Instant>,
    /// Slots under whose id another log came while they were not there.
    wiped: BTreeSet<SlotId>,
    /// Shards with a lost copy for which there is no place, as was last logged.
    stuck: BTreeSet<ShardId>,
}

impl Rebuilds {
    fn since(&self, now: Instant, shard: ShardId, slot: SlotId) -> Option<Duration> {
        self.absent.get(&(shard, slot)).map(|since| now.since(*since))
    }

    /// The slot is there, with the log that is known.
    pub fn is_back(&mut self, slot: SlotId) {
        self.wiped.remove(&slot);
    }

    /// How long that slot is waited for. Zero in the settings: by itself nothing is begun.
    fn patience(&self, after: Duration, slot: SlotId) -> Option<Duration> {
        let wait = if self.wiped.contains(&slot) { Duration::ZERO } else { after };
        (!after.is_zero()).then_some(wait)
    }
}

impl Orderer {
    /// Another log than the one known came under that id. If the known one isn't there, it isn't waited for: who set the
    /// server up anew has lost it. (If not, it is back some day, and what it lacks then is made anew there.)
    pub(super) fn other_log_came(&mut self, now: Instant, slot: SlotId) {
        let Some(lead) = &mut self.lead else { return };
        let is_here = lead.reports.conn(slot).is_some() && !lead.views.health.is_gone(now, slot);
        if !is_here && lead.views.rebuilds.wiped.insert(slot) {
            warn!(%slot, "an empty log came in place of the one that is known: what that held is made anew elsewhere");
        }
    }

    /// Sees who is there, of all finalized shards that are not spent.
    fn look_for_absent(&mut self, now: Instant) {
        let Some(lead) = &mut self.lead else { return };
        let mut absent = BTreeSet::new();
        let boards = lead.reports.boards(&self.state).to_vec();
        for (i, (shard, board)) in self.state.view().shards.iter().zip(&boards).enumerate() {
            if shard.state == ShardState::Live || self.state.is_spent(i) {
                continue;
            }
            let is_here = |slot| lead.reports.conn(slot).is_some() && !lead.views.health.is_gone(now, slot);
            let is_full = |slot| lead.watch.short().any(|(s, room, _)| s == slot && room == DiskRoom::Full);
            for (r, replica) in shard.replicas.iter().enumerate() {
                if !is_here(replica.slot) || !board.has_spoken(r) {
                    absent.insert((shard.id, replica.slot));
                }
            }
            let makers = shard.rebuild.iter().map(|r| r.to.slot);
            absent.extend(makers.filter(|s| !is_here(*s) || is_full(*s)).map(|s| (shard.id, s)));
        }
        let rebuilds = &mut lead.views.rebuilds;
        if rebuilds.looked.replace(now).is_some_and(|last| now.since(last) > LATE) {
            rebuilds.absent.clear();
        }
        rebuilds.absent.retain(|who, _| absent.contains(who));
        for who in absent {
            rebuilds.absent.entry(who).or_insert(now);
        }
    }

    /// The next step that is due, if there is one.
    pub(super) fn rebuild_due(&mut self, now: Instant) -> Option<RebuildStep> {
        self.look_for_absent(now);
        let mut stuck = BTreeSet::new();
        let mut due = None;
        for i in 0..self.state.view().shards.len() {
            let shard = self.state.view().shards[i].clone();
            if shard.state == ShardState::Live || self.state.is_spent(i) {
                continue;
            }
            let what = match &shard.rebuild {
                Some(_) => self.go_on_due(now, i, &shard),
                None => self.begin_due(now, &shard).unwrap_or_else(|()| {
                    stuck.insert(shard.id);
                    None
                }),
            };
            if let Some(what) = what {
                due = Some(RebuildStep { expected: self.state.view().number, shard: shard.id, what });
                break;
            }
        }
        let rebuilds = &mut self.lead.as_mut()?.views.rebuilds;
        if due.is_none() {
            if !stuck.is_subset(&rebuilds.stuck) {
                warn!(shards = ?stuck, "copies are lost, and no other server has room for new ones: start another");
            }
            rebuilds.stuck = stuck;
        }
        due
    }

    /// What becomes of a copy in the making.
    fn go_on_due(&mut self, now: Instant, at: usize, shard: &ShardView) -> Option<RebuildWhat> {
        let lead = self.lead.as_mut()?;
        let rebuild = shard.rebuild.as_ref()?;
        let (id, to, index) = (shard.id, rebuild.to.slot, usize::from(rebuild.index));
        let (lens, newest) = (self.state.lens(id), self.state.newest_part(id));
        let copy = lead.reports.copy(id).filter(|c| c.slot == to);
        if copy.is_some_and(|c| c.durable == lens && c.part >= newest) {
            info!(shard = %id, slot = %to, instead_of = %shard.replicas[index].slot, "a lost copy is rebuilt");
            return Some(RebuildWhat::Finish);
        }
        let rebuilds = &lead.views.rebuilds;
        let lost = shard.replicas[index].slot;
        let is_back = rebuilds.since(now, id, lost).is_none();
        if is_back && lead.reports.boards(&self.state)[at].is_whole(index, &lens) {
            info!(shard = %id, slot = %lost, "a copy that seemed lost is back: none is made in its place");
            return Some(RebuildWhat::Cancel);
        }
        let patience = rebuilds.patience(self.cfg.failures.rebuild_after, to);
        if rebuilds.since(now, id, to)? < patience? {
            return None;
        }
        let slot = self.place_for(now, shard, rebuild.index)?;
        warn!(shard = %id, gone = %to, slot = %slot, "who made a copy is gone, another begins");
        Some(RebuildWhat::Begin { index: rebuild.index, slot })
    }

    /// Whether a copy is to be begun; an error if it should and nobody can.
    fn begin_due(&mut self, now: Instant, shard: &ShardView) -> Result<Option<RebuildWhat>, ()> {
        let after = self.cfg.failures.rebuild_after;
        let lost = |o: &Self, r: usize| {
            let (rebuilds, slot) = (&o.lead.as_ref()?.views.rebuilds, shard.replicas[r].slot);
            (rebuilds.since(now, shard.id, slot)? >= rebuilds.patience(after, slot)?).then_some(r)
        };
        let Some(index) = (0..shard.replicas.len()).find_map(|r| lost(self, r)) else { return Ok(None) };
        let making = self.state.view().shards.iter().filter(|s| s.rebuild.is_some()).count();
        if making >= COPIES_MAX || !self.has_source(now, shard) {
            return Ok(None);
        }
        let slot = self.place_for(now, shard, index as u8).ok_or(())?;
        info!(shard = %shard.id, lost = %shard.replicas[index].slot, slot = %slot, "a copy is lost, another is made");
        Ok(Some(RebuildWhat::Begin { index: index as u8, slot }))
    }

    /// Whether some replica is there to copy from.
    fn has_source(&self, now: Instant, shard: &ShardView) -> bool {
        let Some(lead) = &self.lead else { return false };
        shard.replicas.iter().any(|r| lead.views.rebuilds.since(now, shard.id, r.slot).is_none())
    }

    /// Where a copy can be made in place of that one.
    fn place_for(&self, now: Instant, shard: &ShardView, index: u8) -> Option<SlotId> {
        let lead = self.lead.as_ref()?;
        let view = self.state.view();
        let short: BTreeSet<SlotId> = lead.watch.short().map(|(slot, ..)| slot).collect();
        let busy: BTreeSet<SlotId> =
            view.shards.iter().filter_map(|s| s.rebuild.as_ref().map(|r| r.to.slot)).collect();
        let mut fit = lead.reports.connected();
        fit.retain(|s| !short.contains(s) && !busy.contains(s) && !lead.views.health.is_gone(now, *s));
        place_copy(self.state.slots(), &fit, view, shard, index)
    }

    /// What an operator wants: a copy made of what is lost of that shard, at once.
    ///
    /// # Errors
    /// Why not, and whether asking again may help. An empty text: it is under way, or nothing is lost.
    pub(super) fn rebuild_by_hand(
        &mut self,
        now: Instant,
        id: ShardId,
    ) -> Result<RebuildStep, (bool, String)> {
        self.look_for_absent(now);
        let Some(shard) = self.state.view().shard(id).cloned() else {
            return Err((false, format!("there is no shard {id} in the view")));
        };
        if shard.state == ShardState::Live {
            return Err((
                false,
                format!("shard {id} takes appends: it has to end before copies are made of it"),
            ));
        }
        if shard.rebuild.is_some() {
            return Err((false, String::new()));
        }
        let Some(lead) = &self.lead else { return Err((true, "the leader just changed".into())) };
        let since = |r: &zoolog_core::view::ReplicaView| lead.views.rebuilds.since(now, id, r.slot);
        let Some(index) = (0..shard.replicas.len()).find(|r| since(&shard.replicas[*r]).is_some()) else {
            return Err((false, format!("all replicas of shard {id} are there")));
        };
        let slot = shard.replicas[index].slot;
        if since(&shard.replicas[index]).is_some_and(|gone| gone < self.cfg.failures.timeout) {
            return Err((true, format!("replica {slot} of shard {id} was there a moment ago")));
        }
        if !self.has_source(now, &shard) {
            return Err((true, format!("no replica of shard {id} is there to copy from: start one of them")));
        }
        let Some(to) = self.place_for(now, &shard, index as u8) else {
            let text = format!(
                "there is no server with room that holds nothing of shard {id} and makes no other copy: start one"
            );
            return Err((true, text));
        };
        info!(shard = %id, lost = %slot, slot = %to, "an operator wants a lost copy made anew");
        let what = RebuildWhat::Begin { index: index as u8, slot: to };
        Ok(RebuildStep { expected: self.state.view().number, shard: id, what })
    }
}
