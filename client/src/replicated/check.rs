//! Can a state machine be replicated at all? [`check`] tries to show that it can't.

use super::image::{Loader, Restored, Taking};
use super::machine::StateMachine;
use super::record::{Entry, Writing};
use rkyv::Archived;
use rkyv::rancor::Error;
use std::collections::BTreeSet;
use zoolog_core::{ClusterId, Gsn};

/// Applies the commands to two states side by side, one of which is saved and loaded again after each command, and compares
/// their hashes and outcomes. Meant for the tests of a state machine, with as many different commands as it has: what
/// depends on chance, on the order of a `HashMap` or on something that `snapshot` forgets, is found here instead of on a
/// node that starts again.
///
/// # Errors
/// Text for a person: where the two first differ, and how.
pub fn check<S>(commands: &[S::Command]) -> Result<(), String>
where
    S: StateMachine,
    S::Outcome: PartialEq + std::fmt::Debug,
{
    let writing = Writing::new("check", S::VERSION);
    let (mut one, mut other) = (S::default(), S::default());
    for (command, gsn) in commands.iter().zip((0..).step_by(3).map(Gsn)) {
        let record = writing.command(command).map_err(|e| e.to_string())?;
        let Entry::Command(archive) = Entry::read(&record, writing) else {
            return Err(format!("command {gsn} does not come back"));
        };
        let command = rkyv::access::<Archived<S::Command>, Error>(archive)
            .map_err(|e| format!("command {gsn} can't be decoded: {e}"))?;
        let (first, second) = (one.apply(gsn, command), other.apply(gsn, command));
        if first != second {
            return Err(format!("command {gsn} came to {first:?}, and after a restore to {second:?}"));
        }
        other = saved_and_loaded(&other, gsn, writing)?;
        if one.state_hash() != other.state_hash() {
            return Err(format!("after command {gsn} the states have different hashes"));
        }
    }
    Ok(())
}

fn saved_and_loaded<S: StateMachine>(state: &S, gsn: Gsn, writing: Writing) -> Result<S, String> {
    let mut taking = Taking::begin(state, gsn, &BTreeSet::new(), ClusterId(1), writing);
    let mut loader = Loader::new::<S>(ClusterId(1), "check");
    loop {
        let (bytes, last) = taking.next();
        loader.push(&bytes).map_err(|e| format!("the snapshot after command {gsn}: {e}"))?;
        if last {
            break;
        }
    }
    let restored: Restored<S> =
        loader.finish().map_err(|e| format!("the snapshot after command {gsn}: {e}"))?;
    Ok(restored.state)
}
