//! What else does a node do in a turn? It hears what the log says, takes snapshots, looks for skips, and tells who waits.

use super::Replicated;
use crate::replicated::event::ReplicatedEvent;
use crate::replicated::image::{SKIPS_MAX, Taking};
use crate::replicated::lookahead::Next;
use crate::replicated::machine::StateMachine;
use crate::replicated::record::Entry;
use crate::replicated::snapshots::Saved;
use crate::{LogEvent, Sealed, SharedLog};
use zoolog_core::{ClusterId, Gsn, Instant, Output};

impl<S: StateMachine, L: SharedLog> Replicated<S, L> {
    pub(super) fn on_log(&mut self, now: Instant, event: LogEvent) {
        match event {
            LogEvent::Committed(committed) => self.on_committed(now, &committed),
            LogEvent::Tail { request, gsn } => {
                if self.boot_tail.0 == Some(request) {
                    self.boot_tail = (None, Some(gsn));
                    if let Some(lookahead) = &mut self.lookahead {
                        lookahead.ends_at(gsn);
                    }
                }
                self.queries.answered(request, gsn);
            }
            LogEvent::Gap { from, until } => self.on_gap(now, from, until),
            LogEvent::Offers { request, trim, offers } => self.on_offers(now, request, trim, offers),
            LogEvent::WriterLost { why, .. } => {
                self.fail(format!("the log takes nothing more from this node: {why}; start it again"));
            }
            LogEvent::Ready { cluster, .. } => {
                self.cluster = cluster;
                self.event(ReplicatedEvent::Cluster { id: cluster });
                self.begin_fetch(now);
            }
            LogEvent::Orderers { addrs } => self.event(ReplicatedEvent::Orderers { addrs }),
            LogEvent::Stalled { what } => self.note(format!("the log stands still: {what}")),
            LogEvent::Resumed { what } => self.note(format!("the log moves again: {what}")),
            LogEvent::Appended { seq, .. } => {
                if let Some(lookahead) = &mut self.lookahead {
                    lookahead.appended(seq);
                }
            }
            LogEvent::ReadDone { request, batches, covers, end } => {
                let writing = self.writing;
                let skips = |record: &[u8]| match Entry::read(record, writing) {
                    Entry::Skip(skipped) => Some(skipped),
                    _ => None,
                };
                let read = self.lookahead.as_mut().map(|l| l.read(request, &batches, (covers, end), skips));
                if let Some(Err(why)) = read {
                    self.fail(why);
                }
            }
            LogEvent::SealDone { request, result } => {
                self.event(ReplicatedEvent::SealDone { request, result })
            }
            LogEvent::Moved(Sealed { tail, successor }) => {
                self.note(format!("the log goes on at {successor}, from {tail} on"));
                // What lies before it can go once there are two snapshots behind it.
                self.snapshots.want();
                self.offer();
                self.event(ReplicatedEvent::Moved(Sealed { tail, successor }));
            }
            LogEvent::Left(tail) => self.event(ReplicatedEvent::Left(tail)),
            LogEvent::Sealed(Sealed { tail, successor }) => self.fail(format!(
                "the log has ended at {tail}, and goes on at {successor}: start this node on that one"
            )),
            // These say nothing, or answer what was never asked.
            LogEvent::Conflict { .. }
            | LogEvent::Opened { .. }
            | LogEvent::AppendFailed { .. }
            | LogEvent::TrimDone { .. }
            | LogEvent::Room { .. }
            | LogEvent::Progress { .. } => {}
        }
    }

    /// Begins a snapshot of the state as it is, if it is time for one. Not before it is known whose it is: the log may
    /// deliver before it says so.
    pub(super) fn snapshot_if_due(&mut self, now: Instant) {
        if self.cluster == ClusterId(0)
            || self.behind.is_on()
            || self.behind.fetch.is_saving()
            || self.behind.fetch.has_part()
            || !self.snapshots.is_due(now, self.applied)
        {
            return;
        }
        // Of skips that lie far behind, the entries that say so do too.
        while self.skips.len() > SKIPS_MAX {
            self.skips.pop_first();
        }
        let taking = Taking::begin(&self.state, self.applied, &self.skips, self.cluster, self.writing);
        self.snapshots.begin(taking);
        self.save_piece();
    }

    fn save_piece(&mut self) {
        let (gsn, bytes, last) = self.snapshots.next();
        self.outbox.push_back(Output::SaveSnapshot { gsn, bytes: bytes.into(), last });
    }

    pub(super) fn on_saved(&mut self, now: Instant, gsn: Gsn, last: bool, result: Result<(), String>) {
        if self.failed.is_some() {
            return;
        }
        if self.behind.fetch.is_saving() {
            return self.behind.fetch.saved(now, last, result);
        }
        match self.snapshots.saved(now, gsn, last, &result) {
            Saved::Goes => self.save_piece(),
            Saved::Complete(needed) => {
                if let Some(needed) = needed {
                    self.log.release(needed);
                }
                self.offer();
                self.event(ReplicatedEvent::Snapshot { gsn });
            }
            Saved::Failed => {
                let why = result.err().unwrap_or_default();
                self.note(format!("no snapshot was taken at {gsn}: {why}; the log stays as long as needed"));
            }
        }
    }

    /// Gets on with the search for skips. Returns whether the log was given something.
    fn look_ahead(&mut self) -> bool {
        let Some(lookahead) = &mut self.lookahead else { return false };
        match lookahead.next() {
            Next::Wait => return false,
            Next::Read(from, to, bytes) => lookahead.asked(self.log.read(from, to, bytes)),
            Next::Write(gsn) => match self.log.append_vital(&self.writing.skip(gsn)) {
                Ok(place) => {
                    lookahead.wrote(gsn, place.0);
                    self.proposals.push_own(place);
                }
                // Tried again at the end of the next turn.
                Err(e) if e.is_retryable() => return false,
                Err(e) => self.fail(format!("the skip of {gsn} could not be written: {e}")),
            },
            Next::Done(_) => {
                self.skips = self.lookahead.take().expect("it is there").found;
                self.log.subscribe(self.applied);
            }
        }
        true
    }

    /// What can be done only when the turn's inputs are in. Returns whether there is more to carry out.
    pub(super) fn end_turn(&mut self, now: Instant) -> bool {
        if self.failed.is_some() {
            return false;
        }
        let marked = self.mark_in_time(now);
        let looked = self.look_ahead();
        if !self.ready && self.boot_tail.1.is_some_and(|tail| tail <= self.applied) {
            self.ready = true;
            self.queries.ready();
            self.needs_no_other();
            self.event(ReplicatedEvent::Ready);
        }
        while let Some(query) = self.queries.pop(self.applied) {
            self.event(ReplicatedEvent::Readable { query });
        }
        // One that is wanted before anything follows, or whose time comes after a failure.
        self.snapshot_if_due(now);
        let asks = self.queries.should_ask();
        if asks {
            self.queries.asked(self.log.tail());
        }
        looked || marked || asks || !self.outbox.is_empty()
    }
}
