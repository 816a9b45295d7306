//! Which GSN comes next, for somebody who must not be told an old one? A raft read index; callers share a
//! round only if it starts after they called: one runs, one waits.

use super::Orderer;
use crate::sequencer::Refusal;
use std::time::Duration;
use zoolog_core::wire::{self, RefusedWhy, TailIs};
use zoolog_core::{ConnId, Instant};

/// Callers that may wait for a round.
const CALLERS_MAX: usize = 1 << 16;
/// Raft drops rounds silently when it can't serve them: one without an answer for so long is begun anew.
const RETRY: Duration = Duration::from_millis(50);

/// A round that runs.
struct Round {
    ctx: u64,
    started: Instant,
    /// The entry that must be applied before the answer, once known.
    index: Option<u64>,
    callers: Vec<(ConnId, u64)>,
}

/// The rounds: one that runs, and the callers of the next.
#[derive(Default)]
pub(super) struct Tails {
    rounds: u64,
    running: Option<Round>,
    waiting: Vec<(ConnId, u64)>,
}

impl Tails {
    pub fn clear(&mut self) {
        self.running = None;
        self.waiting.clear();
    }

    /// What raft said about a round.
    pub fn answered(&mut self, ctx: u64, index: u64) {
        if let Some(round) = self.running.as_mut().filter(|r| r.ctx == ctx) {
            round.index = Some(index);
        }
    }
}

impl Orderer {
    pub(super) fn ask_tail(&mut self, conn: ConnId, request: u64) {
        if self.tails.waiting.len() >= CALLERS_MAX {
            let text = "too many wait for the tail";
            return self.refuse(conn, Refusal::new(RefusedWhy::NotReady, text));
        }
        self.tails.waiting.push((conn, request));
    }

    /// Starts a round for those who wait, unless one runs.
    pub(super) fn start_tails(&mut self, now: Instant) {
        if self.tails.running.is_some() || self.tails.waiting.is_empty() {
            return;
        }
        self.tails.rounds += 1;
        let (ctx, callers) = (self.tails.rounds, std::mem::take(&mut self.tails.waiting));
        self.tails.running = Some(Round { ctx, started: now, index: None, callers });
        self.consensus.read_index(ctx);
    }

    /// Begins a round anew that got lost. It starts after everybody's call, so all share it.
    pub(super) fn retry_tails(&mut self, now: Instant) {
        let lost = |r: &mut Round| r.index.is_none() && now.since(r.started) >= RETRY;
        if let Some(mut round) = self.tails.running.take_if(lost) {
            round.callers.append(&mut self.tails.waiting);
            self.tails.waiting = round.callers;
        }
    }

    /// Answers the running round, if what it waits for is applied.
    pub(super) fn finish_tails(&mut self) {
        let applied = self.applied;
        let Some(round) = self.tails.running.take_if(|r| r.index.is_some_and(|i| i <= applied)) else {
            return;
        };
        let gsn = self.state.tail();
        for (conn, request) in round.callers {
            if self.conns.get(&conn).is_some_and(|c| c.who.is_guest()) {
                // Of a log that has ended the next GSN is given elsewhere.
                let answer = self.sealed_is(request);
                self.send(conn, answer.unwrap_or_else(|| wire::encode(TailIs { request, gsn })));
            }
        }
    }
}
