//! A node of one executor or of several: what the tests of nodes are run against.

use super::memlog::MemLog;
use crate::node::{Back, Node, NodeCommand, NodeConfig, NodeEvent, NodeStatus, Team};
use crate::snapshot::Restored;
use crate::state::State;
use std::cell::Cell;
use zoolog_core::{Input, Instant, Machine, Output};

thread_local! {
    /// Of the nodes that are started in this test: fronts, 0 for one executor, and a seed.
    static FRONTS: Cell<(u16, u64)> = const { Cell::new((0, 0)) };
}

/// Runs `test` with nodes of so many fronts, and the executor that applies.
pub fn with_fronts(fronts: u16, seed: u64, test: impl FnOnce()) {
    FRONTS.set((fronts, seed));
    test();
    FRONTS.set((0, 0));
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there are few")]
pub enum Member {
    One(Node<MemLog>),
    Several(Team<MemLog>),
}

/// Does the same with either.
macro_rules! either {
    ($self:expr, $m:ident => $e:expr) => {
        match $self {
            Member::One($m) => $e,
            Member::Several($m) => $e,
        }
    };
}

impl Member {
    pub fn restore(cfg: NodeConfig, log: MemLog, now: Instant, restored: Restored) -> Self {
        match FRONTS.get() {
            (0, _) => Self::One(Node::restore_with_log(cfg, log, now, restored)),
            (fronts, seed) => Self::Several(Team::restore_with_log(cfg, log, fronts, seed, now, restored)),
        }
    }
    pub fn back(&self) -> &Back<MemLog> {
        match self {
            Member::One(node) => &node.back,
            Member::Several(team) => team.back(),
        }
    }
    pub fn state(&self) -> &State {
        either!(self, m => m.state())
    }
    pub fn log(&self) -> &MemLog {
        either!(self, m => m.log())
    }
    pub fn flip_a_bit(&mut self, choice: u64) -> String {
        either!(self, m => m.flip_a_bit(choice))
    }
    pub fn status(&self) -> NodeStatus {
        either!(self, m => m.status())
    }
}

impl Machine for Member {
    type Command = NodeCommand;
    type Event = NodeEvent;

    fn handle(&mut self, now: Instant, input: Input<NodeCommand>) {
        either!(self, m => m.handle(now, input));
    }
    fn poll_output(&mut self, now: Instant) -> Option<Output<NodeEvent>> {
        either!(self, m => m.poll_output(now))
    }
    fn sent(&mut self, now: Instant) {
        either!(self, m => m.sent(now));
    }
    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        either!(self, m => m.next_deadline())
    }
}
