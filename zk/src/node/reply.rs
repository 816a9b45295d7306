//! What does a client hear of its write? The outcome that apply came to, in the client's terms.

use super::queue::WriteOp;
use crate::jute::{ErrorCode, responses};
use crate::txn::Outcome;

/// Appends the reply to a write. `zxid` is the write's own. Returns `false`, having written nothing, if there
/// is none and the connection must end: the session is not this connection's any more.
pub(super) fn outcome(out: &mut Vec<u8>, xid: i32, zxid: i64, op: WriteOp, outcome: &Outcome) -> bool {
    match (op, outcome) {
        (_, Outcome::Stale) => return false,
        (_, Outcome::Failed(error)) => responses::error(out, xid, zxid, *error),
        // The record was ours: only a newer apply version on the way can make it unreadable.
        (_, Outcome::Rejected) => responses::error(out, xid, zxid, ErrorCode::MarshallingError),
        (WriteOp::Create, Outcome::Created { path, .. }) => responses::path(out, xid, zxid, path),
        (WriteOp::Create2, Outcome::Created { path, stat }) => {
            responses::path_stat(out, xid, zxid, path, stat);
        }
        (WriteOp::SetData, Outcome::Set { stat }) => responses::stat(out, xid, zxid, stat),
        (WriteOp::Delete, Outcome::Deleted) | (WriteOp::CloseSession, Outcome::Done) => {
            responses::empty(out, xid, zxid);
        }
        (op, outcome) => panic!("a {op:?} came to {outcome:?}"),
    }
    true
}
