//! Do all nodes have the same state? After so many commands a node puts a mark into the log; what follows is decided in
//! [`crate::votes`]. A node that differs from most ends, and begins anew from what was the same.

use super::Replicated;
use super::apply::End;
use crate::SharedLog;
use crate::replicated::machine::StateMachine;
use crate::replicated::record::Said;
use crate::votes::{Verdict, Votes};
use std::time::Duration;
use zoolog_core::{Gsn, Instant};

/// Nodes that put marks at different times.
const TURNS: u64 = 8;
/// Until the next mark once somebody differs: by then all have said what they have.
const SOON: Duration = Duration::from_millis(200);
/// Until the next attempt when the log has no room.
const RETRY: Duration = Duration::from_millis(100);

/// Marks, and what is said of them.
#[derive(Debug, Default)]
pub(super) struct Comparing {
    /// Commands since the newest mark.
    since: u64,
    /// A mark is to be put then.
    due_at: Option<Instant>,
    in_flight: bool,
    votes: Votes,
}

impl Comparing {
    /// A command was applied.
    pub const fn applied(&mut self) {
        self.since += 1;
    }

    /// When a mark is to be put.
    pub const fn next(&self) -> Option<Instant> {
        self.due_at
    }

    /// The state is another: nothing that was said of the one before is of interest.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

impl<S: StateMachine, L: SharedLog> Replicated<S, L> {
    /// Whether this node compares its state with others', if there may be some.
    fn compares(&self) -> bool {
        self.cfg.node != 0 && self.log.gives_offers()
    }

    /// Commands were applied: is it time for a mark?
    pub(super) fn mark_if_due(&mut self, now: Instant) {
        let every = self.cfg.mark_records;
        let every = every.saturating_add(every / 32 * (self.cfg.node % TURNS));
        if self.comparing.since >= every && self.comparing.due_at.is_none() {
            self.put_mark(now);
        }
    }

    /// The time for a mark may have come. Returns whether it has.
    pub(super) fn mark_in_time(&mut self, now: Instant) -> bool {
        let due = self.comparing.due_at.take_if(|at| *at <= now).is_some();
        if due {
            self.put_mark(now);
        }
        due
    }

    fn put_mark(&mut self, now: Instant) {
        let may = self.ready && self.cfg.mark_records > 0 && !self.behind.is_on() && self.compares();
        if self.comparing.in_flight || !may {
            return;
        }
        match self.log.append(&self.writing.mark()) {
            Ok(place) => {
                self.proposals.push_own(place);
                self.comparing.in_flight = true;
            }
            Err(_) => self.comparing.due_at = Some(now + RETRY),
        }
    }

    /// A mark lies at `gsn`.
    pub(super) fn on_mark(&mut self, gsn: Gsn) -> Result<(), End> {
        if !self.compares() {
            return Ok(());
        }
        self.figures.marks += 1;
        let hash = self.state.state_hash();
        let said = Said { node: self.cfg.node, at: gsn, hash, version: S::VERSION };
        let told = self.ready
            && self.log.append(&self.writing.said(said)).map(|p| self.proposals.push_own(p)).is_ok();
        let verdict = self.comparing.votes.mark(gsn, hash, told);
        (self.comparing.since, self.comparing.due_at, self.comparing.in_flight) = (0, None, false);
        self.judge(&verdict)
    }

    /// A node says what it had behind a mark.
    pub(super) fn on_said(&mut self, now: Instant, said: Said) -> Result<(), End> {
        // What other builds make of the same commands need not have the same bytes.
        if !self.compares() || said.node == self.cfg.node || said.version != S::VERSION {
            return Ok(());
        }
        let (verdict, differs) = self.comparing.votes.heard(said.node, said.at, Some(said.hash));
        if differs && self.comparing.votes.told().is_some() {
            self.comparing.due_at = Some(now + SOON);
        }
        verdict.map_or(Ok(()), |verdict| self.judge(&verdict))
    }

    fn judge(&mut self, verdict: &Verdict) -> Result<(), End> {
        match self.comparing.votes.judge(verdict, self.snapshots.began) {
            Ok(others) => {
                others.into_iter().for_each(|text| self.note(text));
                Ok(())
            }
            Err(differs) => {
                let why = format!("{}, and look for chance in `{}`", differs.why, self.cfg.name);
                Err(End { why, beware: None, distrust: differs.trusted })
            }
        }
    }
}
