//! Who is to lead instead? On request, when the leader is replaced, and before it ends.

use super::Orderer;
use super::members::{ANSWERS_WITHIN, refused};
use crate::sequencer::Standing;
use std::collections::BTreeMap;
use std::time::Duration;
use tracing::info;
use zoolog_core::wire::ChangeOutcome;
use zoolog_core::{Instant, OrdererId};

/// How long an end is put off for handing leadership over.
const FAREWELL: Duration = Duration::from_millis(500);
/// After having handed over: what was sent last leaves.
const LAST_WORDS: Duration = Duration::from_millis(20);

impl Orderer {
    pub(super) fn transfer(&mut self, now: Instant, id: OrdererId) -> ChangeOutcome {
        if id == self.cfg.id {
            return ChangeOutcome::Done;
        }
        if self.state.members().get(id).is_none_or(|m| m.standing != Standing::Voter) {
            return refused(format!("orderer {id} has no vote, so it can't lead"));
        }
        if !self.heirs(now).any(|heir| heir == id) {
            return refused(format!("orderer {id} does not answer"));
        }
        self.hand_over(id);
        ChangeOutcome::Done
    }

    /// Who could lead: the others that vote, stay and answer.
    fn heirs(&self, now: Instant) -> impl Iterator<Item = OrdererId> + '_ {
        let goes = self.state.members().replacing().map(|(_, old)| old);
        let heard = self.lead.as_ref().map(|l| &l.changing.heard);
        self.state.members().voters().filter(move |id| {
            let answers = heard.and_then(|h| h.get(id)).is_some_and(|at| now.since(*at) < ANSWERS_WITHIN);
            *id != self.cfg.id && Some(*id) != goes && answers
        })
    }

    fn hand_over(&mut self, to: OrdererId) {
        info!(%to, "handing leadership over");
        self.consensus.transfer(to);
        if let Some(lead) = &mut self.lead {
            lead.changing.heir = Some(to);
        }
    }

    /// Hands over to whom it takes least time to begin; whether there is one.
    pub(super) fn hand_over_to_best(&mut self, now: Instant) -> bool {
        let matched: BTreeMap<OrdererId, u64> = self.consensus.matched().collect();
        let best = self.heirs(now).max_by_key(|id| (matched.get(id).copied(), std::cmp::Reverse(*id)));
        if let Some(id) = best {
            self.hand_over(id);
        }
        best.is_some()
    }

    /// Asked to end: a leader hands over first. Whether there is still something to wait for.
    pub(super) fn say_farewell(&mut self, now: Instant) -> bool {
        if self.leaving.is_none() {
            self.fresh = true;
            let handing = self.is_leading() && self.hand_over_to_best(now);
            let until = if handing { now + FAREWELL } else { now };
            self.leaving = Some(Leaving { until, handing });
        }
        let led = self.lead.is_some();
        let leaving = self.leaving.as_mut().expect("just set");
        if leaving.handing && !led {
            (leaving.handing, leaving.until) = (false, leaving.until.min(now + LAST_WORDS));
        }
        now < leaving.until
    }
}

/// An end that was asked for.
pub(super) struct Leaving {
    /// It is put off until then.
    until: Instant,
    /// Leadership is being handed over.
    handing: bool,
}
