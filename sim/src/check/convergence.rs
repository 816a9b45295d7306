//! ZK-5: do all ZooKeeper nodes have the same state at the same GSN?

use super::{Verdict, promise};
use crate::schedule::NodeId;
use std::collections::{BTreeMap, BTreeSet};
use zoolog_core::Gsn;

/// Every state that was seen.
#[derive(Debug, Default)]
pub struct Convergence {
    hashes: BTreeMap<Gsn, (u64, String)>,
    applied: BTreeMap<NodeId, Gsn>,
    compared: u64,
    /// Whose state was changed behind its back, in this life.
    suspect: BTreeSet<NodeId>,
    corrupted: u64,
}

impl Convergence {
    /// A node has applied everything below `applied` and has that state hash.
    pub fn state(&mut self, node: NodeId, name: &str, applied: Gsn, hash: u64) -> Verdict {
        if self.suspect.contains(&node) {
            return Ok(());
        }
        let before = self.applied.insert(node, applied);
        promise!("ZK-5", before.is_none_or(|b| b <= applied), "{name} was at {before:?} and is at {applied}");
        match self.hashes.get(&applied) {
            Some((other, who)) => {
                self.compared += 1;
                promise!(
                    "ZK-5",
                    *other == hash,
                    "at {applied} {name} has hash {hash:016x}, {who} had {other:016x}"
                );
            }
            None => {
                self.hashes.insert(applied, (hash, name.to_string()));
            }
        }
        Ok(())
    }

    /// A node died; it starts from nothing.
    pub fn gone(&mut self, node: NodeId) {
        self.applied.remove(&node);
        self.suspect.remove(&node);
    }

    /// A node's state was changed behind its back: what it shows until it ends is not judged.
    pub fn corrupted(&mut self, node: NodeId) {
        self.suspect.insert(node);
        self.corrupted += 1;
    }

    /// How often a state was.
    pub fn corruptions(&self) -> u64 {
        self.corrupted
    }

    /// Whether that node's state was, in this life.
    pub fn is_suspect(&self, node: NodeId) -> bool {
        self.suspect.contains(&node)
    }

    /// How far a node has applied.
    pub fn applied(&self, node: NodeId) -> Gsn {
        self.applied.get(&node).copied().unwrap_or_default()
    }

    /// How often two states were compared.
    pub fn compared(&self) -> u64 {
        self.compared
    }
}
