//! Is the state in memory still what was applied? It is gone through slowly, again and again, and compared with the hashes
//! that were kept: memory that has changed by itself is found though nobody reads it, and before it gets into a snapshot.

use super::Back;
use crate::snapshot::Beware;
use crate::state::{Place, State};
use std::time::Duration;
use zoolog_client::SharedLog;
use zoolog_core::Instant;

/// Bytes of data looked at in a step at most, beside those of the last node.
const STEP_BYTES: usize = 1 << 20;
/// Between two steps when it can't wait.
const HURRY: Duration = Duration::from_millis(1);

/// How far it is.
#[derive(Debug, Default)]
pub(super) struct Scrub {
    at: Place,
    step_at: Option<Instant>,
    /// It is not to pause before all of it was looked at.
    hurried: bool,
    /// Passes that were completed.
    passes: u64,
}

impl Scrub {
    /// When the next step is due.
    pub(super) const fn next(&self) -> Option<Instant> {
        self.step_at
    }

    /// All of it is to be looked at now.
    pub(super) fn hurry(&mut self, now: Instant) {
        if !self.hurried && self.step_at.is_some() {
            *self =
                Self { at: Place::default(), step_at: Some(now + HURRY), hurried: true, passes: self.passes };
        }
    }

    /// How often all of it was looked at.
    #[cfg(test)]
    pub(super) const fn passes(&self) -> u64 {
        self.passes
    }
}

impl<L: SharedLog> Back<L> {
    /// The node serves: from now on its state is looked at.
    pub(super) fn start_scrub(&mut self, now: Instant) {
        self.scrub.step_at = Some(now + self.cfg.check_pass.max(HURRY));
    }

    /// Does a step, if one is due.
    pub(super) fn scrub(&mut self, now: Instant, state: &State) {
        if self.scrub.step_at.is_none_or(|at| at > now) {
            return;
        }
        match state.look_at_memory(self.scrub.at, STEP_BYTES) {
            Ok(at) => {
                self.scrub.at = at;
                let is_round = at == Place::default();
                self.scrub.passes += u64::from(is_round);
                self.scrub.hurried &= !is_round;
                let pages = u32::try_from(state.pages()).unwrap_or(u32::MAX);
                let pause = if self.scrub.hurried { HURRY } else { self.cfg.check_pass / pages };
                self.scrub.step_at = Some(now + pause.max(HURRY));
            }
            Err(damage) => self.found_damage(now, &damage.what),
        }
    }

    /// Something in memory is not what was put there.
    pub(super) fn found_damage(&mut self, now: Instant, what: &str) {
        let why = format!(
            "this node's memory is damaged, or its own doing has damaged it: {what} is not what was stored there (ZK-5). It \
             stops, and rebuilds itself at its next start. If it happens again, test this machine's memory"
        );
        // A snapshot whose content is not what its hash says is not used by itself.
        self.stop_as_wrong(now, why, Beware::default(), true);
    }
}
