//! When do containers and nodes with a time to live go? Any node proposes it, at a bounded pace, while it sees some
//! that may; the record says how each looked, and where it looks different by then, it stays. What two nodes
//! propose goes once.

use super::Back;
use super::own::Owner;
use crate::state::State;
use crate::txn::{Op, Sweeping};
use std::time::Duration;
use zoolog_client::SharedLog;
use zoolog_core::Instant;

/// Nodes in one record.
const SWEEP_MAX: usize = 256;
/// Bytes of their paths.
const SWEEP_BYTES_MAX: usize = 256 << 10;
/// Nodes that look at different times.
const TURNS: u32 = 8;
/// Until the next attempt when the log has no room.
const RETRY: Duration = Duration::from_millis(100);

/// When to look, and whether a record is on its way.
#[derive(Debug, Default)]
pub(super) struct Sweeper {
    at: Option<Instant>,
    in_flight: bool,
}

impl Sweeper {
    /// When to look next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.at
    }
}

impl<L: SharedLog> Back<L> {
    /// More was applied: if there is something that may be swept, now or later, it is looked at in time.
    pub(super) fn arm_sweeper(&mut self, now: Instant, state: &State) {
        if self.sweeper.at.is_none() && !self.sweeper.in_flight && self.serving && state.has_sweepable() {
            // Nodes see the same at about the same time: one after the other looks, so that mostly the first one
            // proposes and the others find nothing left.
            let interval = self.cfg.container_check_interval;
            self.sweeper.at = Some(now + interval + interval / 50 * (self.cfg.id % TURNS));
        }
    }

    /// Proposes what may be swept now.
    pub(super) fn sweep(&mut self, now: Instant, state: &State) {
        if self.sweeper.at.is_none_or(|at| at > now) {
            return;
        }
        self.sweeper.at = None;
        if self.failed || !self.serving {
            return;
        }
        let mut bytes = 0;
        let mut nodes: Vec<_> = state.to_sweep(self.wall.at(now).0, SWEEP_MAX);
        nodes.retain(|n| {
            bytes += n.path.len();
            bytes <= SWEEP_BYTES_MAX || bytes == n.path.len()
        });
        if nodes.is_empty() {
            return self.arm_sweeper(now, state);
        }
        let nodes = nodes.into_iter().map(|n| Sweeping { path: n.path, zxids: n.zxids }).collect();
        match self.propose(now, Owner::Sweep, None, Op::Sweep { nodes }) {
            Ok(()) => self.sweeper.in_flight = true,
            Err(_) => self.sweeper.at = Some(now + RETRY),
        }
    }

    /// What was proposed has come back, and took `gone` nodes away: more of them wait for their turn.
    pub(super) fn settle_sweep(&mut self, now: Instant, state: &State, gone: usize) {
        self.sweeper.in_flight = false;
        if gone > 0 && state.has_sweepable() && self.serving {
            let pace =
                Duration::from_millis(60_000 * gone as u64 / u64::from(self.cfg.container_max_per_minute));
            self.sweeper.at = Some(now + pace.min(self.cfg.container_check_interval).max(RETRY));
        } else {
            self.arm_sweeper(now, state);
        }
    }
}
