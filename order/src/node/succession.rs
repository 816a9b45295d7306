//! How does a log come to begin where another has ended? A leader of a cluster that was made for that has it decided that the log
//! waits, before there is a shard; and has decided where it begins, once somebody says so.

use super::Orderer;
use crate::sequencer::{Command, Refusal, Succession};
use std::collections::VecDeque;
use tracing::info;
use zoolog_core::ConnId;
use zoolog_core::wire::{self, Begin, BeginIs, RefusedWhy};

/// Questions that may wait for their entry, or to become one.
const ASKED_MAX: usize = 64;

/// What one leader has under way.
#[derive(Debug, Default)]
pub(super) struct Beginning {
    waiting: VecDeque<(ConnId, Begin)>,
    /// Index of the entry that is proposed, and who waits for it.
    proposed: Option<(u64, Vec<(ConnId, u64)>)>,
}

impl Orderer {
    /// Somebody says where the log begins, or asks.
    pub(super) fn begin(&mut self, conn: ConnId, m: Begin) {
        let Some(lead) = &mut self.lead else { return };
        let asked = &mut lead.beginning;
        if asked.waiting.len() + asked.proposed.as_ref().map_or(0, |p| p.1.len()) >= ASKED_MAX {
            let text = format!("{ASKED_MAX} ask where the log begins already");
            return self.refuse(conn, Refusal::new(RefusedWhy::NotReady, text));
        }
        asked.waiting.push_back((conn, m));
    }

    /// Whether there is to be no shard yet: where the log begins is still to be told.
    pub(super) fn waits_to_begin(&self) -> bool {
        self.state.succession() == Succession::Awaits || (self.cfg.successor && self.state.is_blank())
    }

    /// Has decided what is to be, and answers what is known.
    pub(super) fn tend_beginning(&mut self) {
        let blank = self.cfg.successor && self.state.is_blank();
        let Some(lead) = &mut self.lead else { return };
        if lead.beginning.proposed.is_some() {
            return;
        }
        if blank {
            if let Some(index) = self.consensus.propose(Command::Await.encode()) {
                lead.beginning.proposed = Some((index, Vec::new()));
            }
            return;
        }
        while let Some((conn, m)) = self.lead.as_mut().and_then(|l| l.beginning.waiting.pop_front()) {
            match m.first_gsn {
                Some(gsn) if self.state.succession() == Succession::Awaits => {
                    info!(%gsn, "the log is told where it begins");
                    let index = self.consensus.propose(Command::Begin(gsn).encode());
                    let Some(lead) = &mut self.lead else { return };
                    match index {
                        Some(index) => lead.beginning.proposed = Some((index, vec![(conn, m.request)])),
                        // Raft takes nothing now: at the next turn, a tick away at most.
                        None => lead.beginning.waiting.push_front((conn, m)),
                    }
                    return;
                }
                _ => self.answer_begin(conn, m.request),
            }
        }
    }

    /// The entry at `index` was applied.
    pub(super) fn begin_applied(&mut self, index: u64) {
        let Some(lead) = &mut self.lead else { return };
        let Some((_, asked)) = lead.beginning.proposed.take_if(|p| p.0 <= index) else { return };
        asked.into_iter().for_each(|(conn, request)| self.answer_begin(conn, request));
    }

    fn answer_begin(&mut self, conn: ConnId, request: u64) {
        if self.conns.get(&conn).is_some_and(|c| c.who.is_guest()) {
            let end = self.state.begin_end();
            self.send(conn, wire::encode(BeginIs { request, end }));
        }
    }
}
