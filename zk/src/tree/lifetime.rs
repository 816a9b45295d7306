//! How long does a node live? Its owner says: as in ZooKeeper, ephemerals carry their session, containers and
//! nodes with a time to live a mark in the top byte, which no session id has.
//!
//! Beside the tree stands an index of the nodes that may be swept: containers and nodes with a time to live, as
//! long as they have no children. It follows from the nodes, so it is neither hashed nor kept in snapshots.

use super::Tree;
use super::node::Node;
use super::slab::Slot;
use super::write::Readers;
use std::collections::BTreeSet;

/// Owner of containers.
pub const CONTAINER: i64 = i64::MIN;
/// Top byte of the owner of nodes with a time to live.
const TTL_MARK: i64 = 0xff << 56;
/// Longest time to live.
pub const TTL_MS_MAX: u64 = 0xff_ffff_ffff;

/// Until when a node lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// It is deleted.
    Persistent,
    /// Its session ends.
    Ephemeral(i64),
    /// Its last child has gone.
    Container,
    /// So many milliseconds have passed since its data was set, and it has no children.
    Ttl(u64),
}

impl Lifetime {
    /// What stands in the node. Panics for a time to live that is out of bounds.
    pub const fn owner(self) -> i64 {
        match self {
            Self::Persistent => 0,
            Self::Ephemeral(session) => session,
            Self::Container => CONTAINER,
            Self::Ttl(ms) => {
                assert!(0 < ms && ms <= TTL_MS_MAX, "a time to live is out of bounds");
                TTL_MARK | ms as i64
            }
        }
    }

    /// What an owner means; `None` if no node has such a one.
    pub const fn of(owner: i64) -> Option<Self> {
        match owner {
            0 => Some(Self::Persistent),
            CONTAINER => Some(Self::Container),
            1.. => Some(Self::Ephemeral(owner)),
            _ => match (owner ^ TTL_MARK) as u64 {
                ms @ 1..=TTL_MS_MAX => Some(Self::Ttl(ms)),
                _ => None,
            },
        }
    }
}

/// Nodes that may be swept.
#[derive(Debug, Default)]
pub struct Sweepable {
    /// Containers that had children and have none.
    containers: BTreeSet<Slot>,
    /// Nodes with a time to live and without children, by the wall clock at which that is over.
    ttls: BTreeSet<(i64, Slot)>,
}

#[derive(Clone, Copy)]
enum Key {
    Container,
    Ttl(i64),
}

fn key(node: &Node) -> Option<Key> {
    if node.num_children() > 0 {
        return None;
    }
    match Lifetime::of(node.owner) {
        Some(Lifetime::Container) if node.created > 0 => Some(Key::Container),
        Some(Lifetime::Ttl(ms)) => Some(Key::Ttl(node.mtime.saturating_add(ms as i64))),
        _ => None,
    }
}

impl Sweepable {
    /// The node at `slot` is about to change, or to go.
    pub fn leave(&mut self, slot: Slot, node: &Node) {
        let was = match key(node) {
            None => return,
            Some(Key::Container) => self.containers.remove(&slot),
            Some(Key::Ttl(at)) => self.ttls.remove(&(at, slot)),
        };
        assert!(was, "{} could be swept and was not known for it", node.name);
    }

    /// The node at `slot` has come, or has changed.
    pub fn enter(&mut self, slot: Slot, node: &Node) {
        match key(node) {
            None => {}
            Some(Key::Container) => drop(self.containers.insert(slot)),
            Some(Key::Ttl(at)) => drop(self.ttls.insert((at, slot))),
        }
    }
}

/// A node that may be swept, as it was seen: it is kept if it has changed since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub path: String,
    /// Its czxid, mzxid and pzxid.
    pub zxids: [i64; 3],
}

impl Tree {
    /// Whether any node may be swept, now or later.
    pub fn has_sweepable(&self) -> bool {
        !(self.sweepable.containers.is_empty() && self.sweepable.ttls.is_empty())
    }

    /// Up to `max` nodes that may be swept when the wall clock says `wall_ms`.
    pub fn to_sweep(&self, wall_ms: i64, max: usize) -> Vec<Candidate> {
        let due = self.sweepable.ttls.iter().take_while(|(at, _)| *at < wall_ms).map(|(_, slot)| *slot);
        let all = self.sweepable.containers.iter().copied().chain(due);
        let candidate = |slot: Slot| {
            let n = self.nodes.get(slot);
            Candidate { path: self.path_of(slot), zxids: [n.czxid, n.mzxid, n.pzxid] }
        };
        all.take(max).map(candidate).collect()
    }

    /// Removes what may be swept and is as it was seen; whom it and its parent let read, if it was removed.
    pub fn sweep(&mut self, seen: (&str, [i64; 3]), wall_ms: i64, zxid: i64) -> Option<[Readers; 2]> {
        let (path, zxids) = seen;
        let slot = self.find(path)?;
        let node = self.nodes.get(slot);
        let due = match key(node) {
            None => false,
            Some(Key::Container) => true,
            Some(Key::Ttl(at)) => at < wall_ms,
        };
        if !due || zxids != [node.czxid, node.mzxid, node.pzxid] {
            return None;
        }
        let readers = self.readers(slot);
        self.remove(slot, path, zxid);
        Some(readers)
    }

    /// The index computed anew, to check the one that was kept along.
    pub(super) fn check_sweepable(&self) {
        let mut anew = Sweepable::default();
        for slot in self.nodes.slots() {
            anew.enter(slot, self.nodes.get(slot));
        }
        assert_eq!(anew.containers, self.sweepable.containers, "containers that may be swept");
        assert_eq!(anew.ttls, self.sweepable.ttls, "nodes with a time to live that may be swept");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_and_lifetimes_convert_both_ways() {
        for life in [
            Lifetime::Persistent,
            Lifetime::Container,
            Lifetime::Ephemeral(1 << 56),
            Lifetime::Ttl(1),
            Lifetime::Ttl(TTL_MS_MAX),
        ] {
            assert_eq!(Lifetime::of(life.owner()), Some(life));
        }
        assert_eq!(Lifetime::Ttl(0x1234).owner() as u64, 0xff00_0000_0000_1234);
        for owner in [-1, CONTAINER + 1, TTL_MARK, TTL_MARK | (TTL_MS_MAX as i64 + 1)] {
            assert_eq!(Lifetime::of(owner), None, "{owner:x}");
        }
    }
}
