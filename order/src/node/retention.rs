//! What does a leader let go by itself, and whom does it give up? It measures the time of its own term, adds up what the
//! slots say that they hold, and proposes what its settings make of both. A leader that has just come knows neither
//! the time before it nor any bytes: until it does, it keeps everything.

use super::{OrderEvent, Orderer};
use crate::config::RetentionConfig;
use crate::sequencer::{Command, ConsumerAt, Refusal, Sizes, State, Tick};
use std::collections::BTreeMap;
use std::time::Duration;
use tracing::warn;
use zoolog_core::wire::{DiskRoom, Held, RefusedWhy};
use zoolog_core::{ConnId, Gsn, Instant, Output, SlotId};

/// Looks are at least this far apart.
const LOOK: Duration = Duration::from_millis(100);
/// The point up to which things are kept moves at most so often.
const MOVE: Duration = Duration::from_secs(1);
/// Ticks divide what they measure into so many parts.
const PARTS: u64 = 64;
/// The longest time between two ticks.
const TICK_MS_MAX: u64 = 3_600_000;

/// What one leader knows of it.
pub(super) struct Watch {
    /// Up to here time is counted.
    counted: Instant,
    /// Whether it has said what it keeps since it leads.
    said: bool,
    look_at: Instant,
    sizes: Sizes,
    /// How much room each slot's disk has, and the bytes.
    rooms: BTreeMap<SlotId, (DiskRoom, u64)>,
    /// Entry of the last tick, until it is applied.
    proposed: Option<u64>,
    /// Whether that one drops a consumer.
    drops: bool,
}

impl Watch {
    /// Of a term that begins.
    pub fn new(now: Instant) -> Self {
        Self {
            counted: now,
            said: false,
            look_at: now,
            sizes: Sizes::default(),
            rooms: BTreeMap::new(),
            proposed: None,
            drops: false,
        }
    }

    /// Slots whose disks have little room.
    pub fn short(&self) -> impl Iterator<Item = (SlotId, DiskRoom, u64)> + '_ {
        let rooms = self.rooms.iter().map(|(slot, (room, free))| (*slot, *room, *free));
        rooms.filter(|(_, room, _)| *room != DiskRoom::Ample)
    }

    /// The slot is gone: what it holds it still does, but nobody knows how its disk is.
    pub fn slot_gone(&mut self, slot: SlotId) {
        self.rooms.remove(&slot);
    }

    /// Whether a consumer is about to be dropped.
    pub fn drops(&self) -> bool {
        self.drops && self.proposed.is_some()
    }

    /// An entry was applied.
    pub fn applied(&mut self, index: u64) {
        self.proposed.take_if(|at| *at <= index);
    }

    /// What may be kept from, by the settings; `None` if they say nothing.
    fn keep_from(&self, cfg: &RetentionConfig, state: &State, now_ms: u64) -> Option<Gsn> {
        let bytes = cfg.bytes.map(|bytes| self.sizes.point(bytes));
        let age = cfg.time.map(|age| state.retention().older_than(ms(age), now_ms));
        // Both are kept.
        let point = [bytes, age].into_iter().flatten().min()?;
        let before = state.retention().keep_from.filter(|_| self.said).unwrap_or_default();
        Some(point.max(before).max(state.trim()))
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// How often what lasts `age_ms` is to be looked at.
fn pace_ms(age_ms: u64) -> u64 {
    (age_ms / PARTS).clamp(ms(LOOK), TICK_MS_MAX)
}

impl Orderer {
    /// A slot says what it holds.
    pub(super) fn held(&mut self, conn: ConnId, slot: SlotId, m: Held) {
        let Some(lead) = self.lead.as_mut() else { return };
        if lead.reports.conn(slot) != Some(conn) || m.slot != slot {
            return; // of an older connection, or before its registration: it says it again
        }
        lead.watch.rooms.insert(slot, (m.room, m.free_bytes));
        if let Err(text) = lead.watch.sizes.take(&self.state, slot, m.lanes) {
            self.refuse(conn, Refusal::new(RefusedWhy::Invalid, text));
        }
    }

    /// Proposes a tick if it is time for one, or if there is something that it would change.
    pub(super) fn propose_tick(&mut self, now: Instant) {
        let cfg = &self.cfg.retention;
        let Some(lead) = &mut self.lead else { return };
        let (watch, retention) = (&mut lead.watch, self.state.retention());
        let idle = !cfg.is_set() && retention.keep_from.is_none() && retention.absent_ms.is_empty();
        if idle || now < watch.look_at || watch.proposed.is_some() {
            return;
        }
        watch.look_at = now + LOOK;
        watch.sizes.follow(&self.state);
        let elapsed_ms = ms(now.since(watch.counted));
        let keep_from = watch.keep_from(cfg, &self.state, retention.clock_ms + elapsed_ms);
        let here = |name: &str| lead.consumers.is_here(name);
        let consumers = || self.state.consumers().filter(|_| cfg.max_age.is_some());
        let absent: Vec<String> =
            consumers().map(|c| c.0).filter(|name| !here(name)).map(String::from).collect();
        let mut dropped = Vec::new();
        for (name, at) in self.state.consumers() {
            let away_ms = retention.absent_ms.get(name).copied().unwrap_or(0);
            let lag_bytes = cfg.max_lag_bytes.map_or(0, |_| watch.sizes.behind(at));
            let old =
                cfg.max_age.is_some_and(|age| !here(name) && away_ms + elapsed_ms >= ms(age) && away_ms > 0);
            let far = cfg.max_lag_bytes.is_some_and(|most| lag_bytes > most);
            if old || far {
                let away = Duration::from_millis(away_ms);
                warn!(consumer = name, position = %at, ?away, lag_bytes, "dropping a consumer: the log is not kept for it any more");
                let event = OrderEvent::ConsumerDropped { name: name.into(), position: at };
                self.out.push_back(Output::Event(event));
                dropped.push(ConsumerAt { name: name.into(), upto: at });
            }
        }
        let moved = retention.keep_from != keep_from;
        let back = !retention.absent_ms.is_empty() && retention.absent_ms.keys().any(|name| here(name));
        let aging = cfg.time.filter(|_| self.state.trim() < self.state.tail()).map(|t| pace_ms(ms(t)));
        let leaving = cfg.max_age.filter(|_| !absent.is_empty()).map(|t| pace_ms(ms(t)));
        let paces = [aging, leaving, moved.then_some(ms(MOVE))].into_iter().flatten().min();
        let pace = paces.is_some_and(|pace| elapsed_ms >= pace);
        let first = moved && !watch.said;
        if !(first || pace || back || !dropped.is_empty()) {
            return;
        }
        let drops = !dropped.is_empty();
        let tick = Tick { elapsed_ms, absent, keep_from, dropped };
        if let Some(index) = self.consensus.propose(Command::Tick(Box::new(tick)).encode()) {
            (watch.proposed, watch.drops) = (Some(index), drops);
            watch.said = true;
            watch.counted = watch.counted + Duration::from_millis(elapsed_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_long_is_looked_at_seldom() {
        assert_eq!(pace_ms(0), 100);
        assert_eq!(pace_ms(64_000), 1000);
        assert_eq!(pace_ms(u64::MAX), TICK_MS_MAX);
    }
}
