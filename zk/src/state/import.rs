//! How does a state take in nodes as they were elsewhere?

use super::{State, acl, zxid};
use crate::tree::{Import, Lifetime};
use crate::txn::{ArchivedImportedNode, Change};
use zoolog_core::Gsn;

/// Whether such a node can be: it is nobody's ephemeral, and its ACL, if it has one, is one that a node may have.
pub(super) fn is_meaningful(node: &ArchivedImportedNode) -> bool {
    let life = Lifetime::of(node.owner.to_native());
    life.is_some_and(|l| !matches!(l, Lifetime::Ephemeral(_)))
        && (node.acl.is_empty() || acl::fix_up(&node.acl, &[]).is_ok())
}

impl State {
    /// Makes the node like that one, where that is possible.
    pub(super) fn import(&mut self, gsn: Gsn, node: &ArchivedImportedNode, changes: &mut Vec<Change>) {
        let acl = match node.acl.is_empty() {
            true => None,
            false => acl::fix_up(&node.acl, &[]).expect("looked at before"),
        };
        let import = Import {
            path: &node.path,
            data: node.data.as_deref(),
            acl: acl.as_deref(),
            owner: node.owner.to_native(),
            created: node.created.to_native(),
            versions: node.versions.map(|v| v.to_native()),
            times: node.times.map(|t| t.to_native()),
        };
        let Ok(done) = self.tree.import(import, zxid(gsn.next())) else { return };
        let (path, readers) = (node.path.as_str().into(), done.readers.into());
        changes.push(match done.is_new {
            true => Change::Created { path, readers },
            false => Change::DataChanged { path, readers },
        });
    }
}
