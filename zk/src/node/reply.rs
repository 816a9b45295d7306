//! What does a client hear of its write? The outcome that apply came to, in the client's terms.

use super::queue::WriteOp;
use crate::jute::{ErrorCode, OpCode, Writer, responses};
use crate::txn::{Outcome, PartOutcome};
use std::cmp::Ordering;

/// Appends the reply to a write. `zxid` is the write's own.
///
/// # Panics
/// If there is none, because the session is not this connection's any more.
pub(super) fn outcome(out: &mut Vec<u8>, xid: i32, zxid: i64, op: WriteOp, outcome: &Outcome) {
    match (op, outcome) {
        (_, Outcome::Failed(error)) => responses::error(out, xid, zxid, *error),
        // The record was ours: only a newer apply version on the way can make it unreadable.
        (_, Outcome::Rejected) => responses::error(out, xid, zxid, ErrorCode::MarshallingError),
        (WriteOp::Create, Outcome::Created { path, .. }) => responses::path(out, xid, zxid, path),
        (WriteOp::Create2, Outcome::Created { path, stat }) => {
            responses::path_stat(out, xid, zxid, path, stat);
        }
        (WriteOp::SetData, Outcome::Set { stat }) => responses::stat(out, xid, zxid, stat),
        (WriteOp::Multi, Outcome::Multi(parts)) => responses::multi(out, xid, zxid, |w| {
            parts.iter().for_each(|part| part_done(w, part));
        }),
        // The error of a multi is in the parts: those before the one that failed would have been done.
        (WriteOp::Multi, Outcome::MultiFailed { at, of, error }) => responses::multi(out, xid, zxid, |w| {
            let behind = ErrorCode::RuntimeInconsistency.code();
            for part in 0..*of {
                let error = match part.cmp(at) {
                    Ordering::Less => 0,
                    Ordering::Equal => error.code(),
                    Ordering::Greater => behind,
                };
                responses::part_failed(w, error);
            }
        }),
        (WriteOp::Delete, Outcome::Deleted) | (WriteOp::CloseSession, Outcome::Done) => {
            responses::empty(out, xid, zxid);
        }
        (op, outcome) => panic!("a {op:?} came to {outcome:?}"),
    }
}

/// One operation of a multi that was done. However a node was made, its kind in the reply says whether the Stat
/// follows.
fn part_done(w: &mut Writer<'_>, part: &PartOutcome) {
    let mut header = |op: OpCode| {
        w.multi_header(op.code(), false, 0);
    };
    match part {
        PartOutcome::Created { path, stat: None } => {
            header(OpCode::Create);
            w.string(path);
        }
        PartOutcome::Created { path, stat: Some(stat) } => {
            header(OpCode::Create2);
            w.string(path).stat(stat);
        }
        PartOutcome::Set { stat } => {
            header(OpCode::SetData);
            w.stat(stat);
        }
        PartOutcome::Deleted => header(OpCode::Delete),
        PartOutcome::Checked => header(OpCode::Check),
    }
}
