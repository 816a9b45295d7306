//! Which requests is a node's choice of policies about?

use super::queue::WriteOp;
use crate::jute::OpCode;
use crate::txn::{CreateMode, Op};
pub use zoolog_core::policy::{Acks, Reads};

/// The path that a create repeats, or nothing, if the write may be answered before it is applied: what it asks for is
/// not a decision.
pub(super) fn early_answer(kind: WriteOp, op: &Op) -> Option<Box<str>> {
    match (kind, op) {
        // An ephemeral node is nearly always somebody's claim, and a sequential one has no name yet.
        (WriteOp::Create, Op::Create { path, mode: CreateMode::Persistent, .. }) => {
            Some(path.as_str().into())
        }
        (WriteOp::Delete, Op::Delete { version: -1, .. }) => Some("".into()),
        _ => None,
    }
}

/// Whether it reads the tree: whatever else is answered from the state is about the connection.
pub(super) const fn reads_tree(op: OpCode) -> bool {
    matches!(
        op,
        OpCode::Exists
            | OpCode::GetData
            | OpCode::GetChildren
            | OpCode::GetChildren2
            | OpCode::GetAcl
            | OpCode::GetEphemerals
            | OpCode::GetAllChildrenNumber
            | OpCode::MultiRead
    )
}
