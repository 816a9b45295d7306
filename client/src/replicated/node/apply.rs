//! What happens when the log delivers? Each entry is applied, rejected or passed over, and own proposals are answered.

use super::Replicated;
use crate::replicated::event::{Applied, ReplicatedEvent};
use crate::replicated::machine::StateMachine;
use crate::replicated::proposals::ProposeError;
use crate::replicated::record::Entry;
use crate::{Committed, SharedLog};
use rkyv::Archived;
use zoolog_core::guard::guarded;
use zoolog_core::{Gsn, Instant};

/// The first so many rejected commands are named; later ones whenever their number has doubled.
const NAMED: u64 = 16;

/// Why a node must not go on.
#[derive(Debug)]
pub(super) struct End {
    pub why: String,
    /// The command that is to blame.
    pub beware: Option<Gsn>,
    /// Snapshots newer than this may be of a wrong state.
    pub distrust: Option<Gsn>,
}

impl End {
    const fn because(why: String, beware: Option<Gsn>) -> Self {
        Self { why, beware, distrust: None }
    }
}

impl<S: StateMachine, L: SharedLog> Replicated<S, L> {
    /// The next batch of the log: it is applied.
    pub(super) fn on_committed(&mut self, now: Instant, committed: &Committed) {
        assert_eq!(committed.from(), self.applied, "the log delivers densely");
        let seq = committed.placed.batch.seq();
        for (gsn, index, record) in committed.records() {
            let own = committed.own.then(|| self.proposals.take(seq, index)).flatten();
            let (result, end) = match self.on_record(now, gsn, &record) {
                Ok(result) => (result.map(|outcome| Applied { gsn, outcome }), None),
                Err(end) => (Err(ProposeError::Unknown(end.why.clone())), Some(end)),
            };
            if let Some(proposal) = own {
                self.event(ReplicatedEvent::Outcome { proposal, result });
            }
            if let Some(end) = end {
                return self.end(end);
            }
            self.applied = gsn.next();
            self.snapshots.applied(record.len());
        }
        // Of a fence, or of what was to lie elsewhere, there is only the place.
        self.applied = committed.end();
        self.snapshot_if_due(now);
        self.mark_if_due(now);
    }

    /// Applies a record.
    ///
    /// # Errors
    /// Why the node must not go on, and the command that is to blame, if one is.
    fn on_record(
        &mut self,
        now: Instant,
        gsn: Gsn,
        record: &[u8],
    ) -> Result<Result<S::Outcome, ProposeError>, End> {
        // Whoever had the bytes of such a record proposed as they are.
        let no_command = || ProposeError::Rejected { gsn, why: "it is no command".into() };
        match Entry::read(record, self.writing) {
            Entry::Foreign => {
                self.figures.foreign += 1;
                Ok(Err(ProposeError::Rejected { gsn, why: "it is of another structure".into() }))
            }
            Entry::Command(_) if self.skips.contains(&gsn) => {
                self.figures.skipped += 1;
                self.note(format!("the command at {gsn} is passed over, as an entry behind it says"));
                Ok(Err(ProposeError::Skipped { gsn }))
            }
            Entry::Command(archive) => {
                self.comparing.applied();
                match rkyv::access::<Archived<S::Command>, rkyv::rancor::Error>(archive) {
                    Ok(command) => {
                        self.apply(gsn, command).map(Ok).map_err(|why| End::because(why, Some(gsn)))
                    }
                    Err(why) => Ok(Err(self.reject(gsn, why.to_string()))),
                }
            }
            Entry::Skip(skipped) if skipped >= gsn => {
                Ok(Err(self.reject(gsn, format!("it would have {skipped} skipped, which lies behind it"))))
            }
            Entry::Skip(skipped) if self.skips.contains(&skipped) => Ok(Err(ProposeError::Skipped { gsn })),
            Entry::Skip(skipped) => Err(End::because(
                format!(
                    "the command at {skipped} was to be skipped, as the entry at {gsn} says, and this node has \
                     applied it: start it again, from a snapshot that is not newer than {skipped}"
                ),
                Some(skipped),
            )),
            Entry::Malformed(why) => Ok(Err(self.reject(gsn, why.to_string()))),
            Entry::Mark => self.on_mark(gsn).map(|()| Err(no_command())),
            Entry::Said(said) => self.on_said(now, said).map(|()| Err(no_command())),
            Entry::Newer { found: (format, version, kind) } => Err(End::because(
                format!(
                    "the command at {gsn} is of format {format}, version {version}, kind {kind}: a newer build wrote \
                     it, and this one can't do what that does. Bring this node up to that build"
                ),
                None,
            )),
        }
    }

    fn apply(&mut self, gsn: Gsn, command: &Archived<S::Command>) -> Result<S::Outcome, String> {
        self.figures.applied += 1;
        let state = &mut self.state;
        // What it leaves behind when it panics is not looked at again: the node ends.
        guarded(|| state.apply(gsn, command)).map_err(|said| {
            format!(
                "the state machine `{}` panicked on the command at {gsn}: {said}. It would do so again: start a build \
                 that doesn't, or have {gsn} skipped",
                self.cfg.name
            )
        })
    }

    /// A command that nobody can decode, alike on all nodes.
    fn reject(&mut self, gsn: Gsn, why: String) -> ProposeError {
        self.figures.rejected += 1;
        let n = self.figures.rejected;
        if n <= NAMED || n.is_power_of_two() {
            self.note(format!("the command at {gsn} is rejected, on every node: {why} (number {n} so far)"));
        }
        ProposeError::Rejected { gsn, why }
    }
}
