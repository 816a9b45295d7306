//! Does each start of a slot have a number of its own? What a life of a slot promises is told by that from what others
//! promised: to orderers, whose newest registration replaces those before, and to peers, who fence older streams (LOG-2, LOG-3).
//! Told of each life as it begins, before it says anything.

use super::{Verdict, promise};
use crate::schedule::{Life, NodeId};
use std::collections::BTreeMap;

/// All starts of slots so far.
#[derive(Debug, Default)]
pub struct Starts {
    /// By slot, its disk and number: which life that was. Another disk's log has another stamp.
    begun: BTreeMap<(NodeId, u64, u64), Life>,
    newest: BTreeMap<NodeId, u64>,
}

impl Starts {
    /// A life begins with that number.
    pub fn began(&mut self, id: NodeId, disk: u64, life: Life, number: u64) -> Verdict {
        let before = self.begun.insert((id, disk, number), life);
        promise!(
            "LOG-2",
            before.is_none(),
            "lives {before:?} and {life} of node {} are both its start {number}",
            id.0
        );
        self.newest.insert(id, number);
        Ok(())
    }

    /// The number of the last start of that node.
    pub fn newest(&self, id: NodeId) -> Option<u64> {
        self.newest.get(&id).copied()
    }
}
