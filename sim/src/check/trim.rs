//! LOG-6: is nothing trimmed that a consumer may still need, and does the trim point only grow?

use super::{Verdict, promise};
use crate::schedule::NodeId;
use std::collections::BTreeMap;
use zoolog_core::Gsn;

/// What consumers said that they need, and what was said to be trimmed.
#[derive(Debug, Default)]
pub struct Trims {
    /// What each client has said as a consumer, decided or not.
    said: BTreeMap<NodeId, Gsn>,
    /// What those need that know to be registered.
    needs: BTreeMap<NodeId, Gsn>,
    point: Gsn,
    gaps: u64,
}

impl Trims {
    /// A consumer says that it needs nothing before `upto` any more. Nobody can know before.
    pub fn said(&mut self, node: NodeId, upto: Gsn) {
        let said = self.said.entry(node).or_default();
        *said = upto.max(*said);
        if let Some(needs) = self.needs.get_mut(&node) {
            *needs = upto.max(*needs);
        }
    }

    /// A consumer is told that its position is decided: from now on that counts.
    pub fn registered(&mut self, node: NodeId, at: Gsn) {
        let said = self.said.get(&node).copied().unwrap_or_default();
        let needs = self.needs.entry(node).or_default();
        *needs = at.max(said).max(*needs);
    }

    /// A node says that what lies before `gsn` is trimmed.
    pub fn stated(&mut self, name: &str, gsn: Gsn) -> Verdict {
        let needed = self.needs.values().min().copied().unwrap_or_default();
        promise!("LOG-6", gsn <= needed, "{name} says trimmed to {gsn}, a consumer needs {needed}");
        self.point = self.point.max(gsn);
        Ok(())
    }

    /// A reader that had come to `from` was told to go on at `until`.
    pub fn gap(&mut self, name: &str, from: Gsn, until: Gsn) -> Verdict {
        promise!(
            "LOG-6",
            from < until && until <= self.point,
            "{name} has a gap from {from} to {until}, trimmed is {}",
            self.point
        );
        self.gaps += 1;
        Ok(())
    }

    /// What that consumer needs, if it is one.
    pub fn needs(&self, node: NodeId) -> Option<Gsn> {
        self.needs.get(&node).copied()
    }

    /// The newest trim point that anybody mentioned.
    pub fn point(&self) -> Gsn {
        self.point
    }

    /// Gaps that readers were told of.
    pub fn gaps(&self) -> u64 {
        self.gaps
    }
}
