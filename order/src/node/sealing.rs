//! How does the log end? Somebody asks for it, a leader has it decided, and tells all who follow the order: behind the last cut,
//! and behind the view in which no shard takes appends. Who asks again is told what it says; whoever leads knows it.

use super::Orderer;
use super::conns::Who;
use crate::sequencer::{Command, Refusal, Seal as End};
use bytes::Bytes;
use std::collections::VecDeque;
use tracing::info;
use zoolog_core::ConnId;
use zoolog_core::limits::SUCCESSOR_BYTES_MAX;
use zoolog_core::wire::{self, RefusedWhy, Seal, SealedIs};

/// Questions that may wait for their entry, or to become one.
const ASKED_MAX: usize = 64;

/// What one leader has under way.
#[derive(Debug, Default)]
pub(super) struct Ending {
    waiting: VecDeque<(ConnId, Seal)>,
    /// Index of the entry that is proposed, and who waits for it.
    proposed: Option<(u64, ConnId, u64)>,
}

impl Orderer {
    /// Somebody wants the log to end.
    pub(super) fn seal(&mut self, conn: ConnId, m: Seal) {
        if !End::is_successor(&m.successor) {
            let bytes = m.successor.len();
            let text = format!(
                "a successor's text has 1 to {SUCCESSOR_BYTES_MAX} bytes, and no line breaks: this one has {bytes}"
            );
            return self.refuse(conn, Refusal::new(RefusedWhy::Invalid, text));
        }
        let Some(lead) = &mut self.lead else { return };
        if lead.ending.waiting.len() >= ASKED_MAX {
            let text = format!("{ASKED_MAX} want the log to end already");
            return self.refuse(conn, Refusal::new(RefusedWhy::NotReady, text));
        }
        lead.ending.waiting.push_back((conn, m));
    }

    /// Has the end decided, or answers what it is.
    pub(super) fn propose_seal(&mut self) {
        let waits = self.waits_to_begin();
        while let Some(lead) = self.lead.as_mut().filter(|l| l.ending.proposed.is_none()) {
            let Some((conn, m)) = lead.ending.waiting.pop_front() else { return };
            if self.state.sealed().is_some() {
                self.answer_seal(conn, m.request);
                continue;
            }
            if waits {
                let text = "the log waits to be told where it begins, so it can't end: switch the log before it first";
                self.refuse(conn, Refusal::new(RefusedWhy::NotReady, text));
                continue;
            }
            match self.consensus.propose(Command::Seal(m.successor.clone()).encode()) {
                Some(index) => {
                    info!(successor = m.successor, "somebody wants the log to end");
                    lead.ending.proposed = Some((index, conn, m.request));
                }
                // Raft takes nothing now: at the next turn, a tick away at most.
                None => lead.ending.waiting.push_front((conn, m)),
            }
            return;
        }
    }

    /// The entry at `index` was applied.
    pub(super) fn seal_applied(&mut self, index: u64) {
        let Some(lead) = &mut self.lead else { return };
        if let Some((_, conn, request)) = lead.ending.proposed.take_if(|p| p.0 <= index) {
            self.answer_seal(conn, request);
        }
    }

    fn answer_seal(&mut self, conn: ConnId, request: u64) {
        if !self.conns.get(&conn).is_some_and(|c| c.who.is_guest()) {
            return;
        }
        match self.sealed_is(request) {
            Some(answer) => self.send(conn, answer),
            None => self.refuse(conn, Refusal::new(RefusedWhy::NotReady, "it was not decided: ask again")),
        }
    }

    /// Where the log has ended, encoded, if it has.
    pub(super) fn sealed_is(&self, request: u64) -> Option<Bytes> {
        let End { tail, successor } = self.state.sealed()?.clone();
        Some(wire::encode(SealedIs { request, tail, successor }))
    }

    /// Tells who follows the order. Slots need not know why their shards have ended.
    pub(super) fn push_seal(&mut self) {
        let Some(bytes) = self.sealed_is(0).filter(|_| self.is_leading()) else { return };
        let is_client = |conn: &ConnId| self.conns.get(conn).is_some_and(|c| c.who == Who::Client);
        let clients: Vec<ConnId> =
            self.lead.iter().flat_map(|l| l.pushing.iter().copied()).filter(is_client).collect();
        clients.into_iter().for_each(|conn| self.send(conn, bytes.clone()));
    }
}
