//! What becomes of a trim by hand? Each becomes an entry and is answered once that is applied, with what it has really
//! done. What can't be done as things stand is answered at once.

use super::Orderer;
use crate::sequencer::{Applied, Command, Refusal};
use std::collections::VecDeque;
use zoolog_core::wire::{self, RefusedWhy, Trim, TrimAnswer, TrimEnd};
use zoolog_core::{ConnId, Gsn};

/// Trims that may wait for their entry, or to become one.
const ASKED_MAX: usize = 64;

/// Who asked for what.
struct Asked {
    conn: ConnId,
    request: u64,
    gsn: Gsn,
}

/// Trims that are not answered yet.
#[derive(Default)]
pub(super) struct Trims {
    waiting: VecDeque<Asked>,
    /// With the index of the entry.
    proposed: VecDeque<(u64, Asked)>,
}

impl Orderer {
    /// Somebody wants everything before a position to be forgotten.
    pub(super) fn trim(&mut self, conn: ConnId, m: &Trim) {
        let Some(lead) = &mut self.lead else { return };
        let trims = &mut lead.trims;
        if trims.waiting.len() + trims.proposed.len() >= ASKED_MAX {
            let text = format!("{ASKED_MAX} trims wait already");
            return self.refuse(conn, Refusal::new(RefusedWhy::NotReady, text));
        }
        trims.waiting.push_back(Asked { conn, request: m.request, gsn: m.gsn });
    }

    /// Makes entries of what was asked for.
    pub(super) fn propose_trims(&mut self) {
        while let Some(asked) = self.lead.as_mut().and_then(|l| l.trims.waiting.pop_front()) {
            let (tail, trim) = (self.state.tail(), self.state.trim());
            if asked.gsn > tail {
                self.answer_trim(&asked, TrimEnd::BeyondTail(tail), trim);
            } else if asked.gsn <= trim {
                self.answer_trim(&asked, TrimEnd::Done, trim);
            } else {
                let index = self.consensus.propose(Command::Trim(asked.gsn).encode());
                let trims = &mut self.lead.as_mut().expect("it leads").trims;
                match index {
                    Some(index) => trims.proposed.push_back((index, asked)),
                    // Raft takes nothing now: at the next turn, a tick away at most.
                    None => return trims.waiting.push_front(asked),
                }
            }
        }
    }

    /// The entry at `index` was applied; the trim point was `before` it.
    pub(super) fn trims_applied(&mut self, index: u64, applied: &Applied, before: Gsn) {
        let Some(lead) = &mut self.lead else { return };
        if lead.trims.proposed.front().is_some_and(|p| p.0 <= index) {
            let (_, asked) = lead.trims.proposed.pop_front().expect("just seen");
            let end = match applied {
                Applied::NotTrimmed(end) => end.clone(),
                _ => TrimEnd::Done,
            };
            self.answer_trim(&asked, end, before);
        }
    }

    fn answer_trim(&mut self, asked: &Asked, end: TrimEnd, before: Gsn) {
        if self.conns.get(&asked.conn).is_some_and(|c| c.who.is_guest()) {
            let (request, trim) = (asked.request, self.state.trim());
            self.send(asked.conn, wire::encode(TrimAnswer { request, end, before, trim }));
        }
    }
}
