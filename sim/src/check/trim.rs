//! LOG-6: is nothing trimmed that a consumer may still need, and does the trim point only grow?

use super::{Verdict, promise};
use crate::schedule::NodeId;
use std::collections::BTreeMap;
use zoolog_client::{TrimError, Trimmed};
use zoolog_core::Gsn;

/// What consumers said that they need, and what was said to be trimmed.
#[derive(Debug, Default)]
pub struct Trims {
    /// What each client has said as a consumer, decided or not.
    said: BTreeMap<NodeId, Gsn>,
    /// What those need that know to be registered.
    needs: BTreeMap<NodeId, Gsn>,
    /// What each calls itself.
    names: BTreeMap<NodeId, String>,
    /// Where the reader that reads all for the checkers was when it first was a consumer.
    reads_from: Option<Gsn>,
    /// Whether something may be trimmed without any consumer: by retention, or by hand.
    alone: bool,
    dropped: u64,
    by_hand: u64,
    point: Gsn,
    gaps: u64,
}

impl Trims {
    /// Nothing said yet. `alone`: something may be trimmed without any consumer.
    pub fn new(alone: bool) -> Self {
        Self { alone, ..Self::default() }
    }

    /// A consumer says that it needs nothing before `upto` any more. Nobody can know before.
    pub fn said(&mut self, node: NodeId, name: String, upto: Gsn) {
        self.names.insert(node, name);
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
        if self.names.get(&node).is_some_and(|name| name.contains("reader")) {
            self.reads_from.get_or_insert(at);
        }
    }

    /// A node says that what lies before `gsn` is trimmed.
    pub fn stated(&mut self, name: &str, gsn: Gsn) -> Verdict {
        let nobody = if self.alone { Gsn(u64::MAX) } else { Gsn(0) };
        let needed = self.needs.values().min().copied().unwrap_or(nobody);
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

    /// A leader gives a consumer up: nothing is kept for it until it registers anew.
    pub fn dropped(&mut self, name: &str) {
        self.dropped += 1;
        let named = self.names.iter().filter(|(_, n)| *n == name).map(|(node, _)| *node);
        for node in named.collect::<Vec<_>>() {
            self.needs.remove(&node);
            self.said.remove(&node);
        }
    }

    /// A trim by hand, of what lies before `asked`, was answered.
    pub fn answered(&mut self, name: &str, asked: Gsn, result: &Result<Trimmed, TrimError>) -> Verdict {
        let right = match result {
            Ok(t) => {
                self.by_hand += u64::from(t.trim > t.before);
                t.trim >= asked && t.trim >= t.before
            }
            Err(TrimError::HeldBack { consumer, at }) => {
                *at < asked && self.names.values().any(|n| n == consumer)
            }
            Err(TrimError::BeyondTail { tail }) => *tail < asked,
        };
        promise!("LOG-6", right, "{name} asked to trim to {asked} and got {result:?}");
        match result {
            Ok(t) => self.stated(name, t.trim),
            Err(_) => Ok(()),
        }
    }

    /// (consumers that were given up, trims by hand that did something).
    pub fn counts(&self) -> (u64, u64) {
        (self.dropped, self.by_hand)
    }

    /// What that client calls itself as a consumer.
    pub fn name(&self, node: NodeId) -> Option<&str> {
        self.names.get(&node).map(String::as_str)
    }

    /// What that consumer needs, if it is one.
    pub fn needs(&self, node: NodeId) -> Option<Gsn> {
        self.needs.get(&node).copied()
    }

    /// What lies before this may have been trimmed before the reader that reads everything held it.
    pub fn reads_from(&self) -> Gsn {
        self.reads_from.unwrap_or_default()
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
