//! What do named writers and the leader say to each other? Each request becomes an entry, and is answered once that is
//! applied.

use super::Orderer;
use crate::sequencer::{Applied, Command, NameIs, Refusal};
use std::collections::VecDeque;
use zoolog_core::wire::{self, RefusedWhy, WriterIs, WriterRefused};
use zoolog_core::{ConnId, Epoch, Gsn, WriterId};

/// Requests that may wait for an entry.
const ASKED_MAX: usize = 4096;

/// What one leader has under way about names.
#[derive(Debug, Default)]
pub(super) struct Names {
    waiting: VecDeque<(ConnId, u64, Command)>,
    /// By index of the entry.
    proposed: VecDeque<(u64, ConnId, u64)>,
}

impl Orderer {
    /// A request about a name.
    pub(super) fn ask_name(&mut self, conn: ConnId, request: u64, command: Command) {
        let Some(lead) = &mut self.lead else { return };
        let names = &mut lead.names;
        if names.waiting.len() + names.proposed.len() >= ASKED_MAX {
            let text = "too many writers are opened at once";
            return self.refuse(conn, Refusal::new(RefusedWhy::NotReady, text));
        }
        names.waiting.push_back((conn, request, command));
    }

    /// Makes entries of what waits.
    pub(super) fn propose_names(&mut self) {
        let Some(lead) = &mut self.lead else { return };
        while let Some((conn, request, command)) = lead.names.waiting.pop_front() {
            match self.consensus.propose(command.encode()) {
                Some(index) => lead.names.proposed.push_back((index, conn, request)),
                None => {
                    lead.names.waiting.push_front((conn, request, command));
                    return;
                }
            }
        }
    }

    /// The entry at `index` was applied: answers who waited for it.
    pub(super) fn name_decided(&mut self, index: u64, applied: &Applied) {
        let Some(lead) = &mut self.lead else { return };
        if lead.names.proposed.front().is_none_or(|p| p.0 > index) {
            return;
        }
        let (at, conn, request) = lead.names.proposed.pop_front().expect("just seen");
        assert!(at == index, "entry {at} about a name was passed over by {index}");
        if !self.conns.get(&conn).is_some_and(|c| c.who.is_guest()) {
            return;
        }
        let answer = match applied {
            Applied::Name(NameIs::Given(n)) => {
                let (refused, writer, epoch, lane, tail) =
                    (WriterRefused::No, n.writer, n.epoch, n.lane, n.tail);
                WriterIs { request, refused, writer, epoch, lane, tail }
            }
            Applied::Name(NameIs::Refused(refused)) => {
                let (writer, epoch, lane, tail) = (WriterId(0), Epoch(0), None, Gsn(0));
                WriterIs { request, refused: *refused, writer, epoch, lane, tail }
            }
            other => panic!("entry {index} was about a name, and came to {other:?}"),
        };
        self.send(conn, wire::encode(answer));
    }
}
