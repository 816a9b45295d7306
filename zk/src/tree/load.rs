//! How does a tree come back from a snapshot? Nodes as they come, one behind the other without the holes there
//! were, each with its path's hash and its place in the index if its parent is there already, as it mostly is; then, in few passes
//! over all of them, what was left open, children in order, and the hash.
//! Whatever the bytes say, the outcome is a tree or an error; whether it is the right tree, its hash says.

use super::acls::{AclId, Acls};
use super::children::Children;
use super::index::Index;
use super::lifetime::Sweepable;
use super::node::{Node, ROOT_HASH, child_hash};
use super::quota::Quotas;
use super::slab::{Slab, Slot};
use super::sums::Sums;
use super::{Lifetime, ROOT, Tree, image};
use crate::txn::Acl;
use std::collections::BTreeMap;

/// What is wrong with a snapshot's nodes.
pub type Wrong = &'static str;

/// Session and slot of each ephemeral.
pub type Ephemerals = Vec<(i64, Slot)>;

/// So many nodes are put into the index together.
const FRESH_MAX: usize = 256;
/// Bytes of a path that is not known yet.
const UNKNOWN: u32 = u32::MAX;
const NONSENSE: Wrong = "a node's bytes make no sense";
/// The index is made for so many nodes at most before they have come.
const ROOM_MAX: u64 = 1 << 22;

/// Nodes whose bytes were taken apart, in the order in which they came.
#[cfg(any(feature = "server", test))]
#[derive(Debug)]
pub struct Decoded {
    nodes: Vec<(Slot, Node)>,
    /// What follows them makes no sense.
    nonsense: bool,
}

#[cfg(any(feature = "server", test))]
impl Decoded {
    /// From bytes that [`image::encode`] made, or so it should be.
    pub fn of(mut bytes: &[u8]) -> Self {
        let mut nodes = Vec::with_capacity(bytes.len() / 512 + 1);
        while !bytes.is_empty() {
            match image::decode(&mut bytes) {
                Some(node) => nodes.push(node),
                None => return Self { nodes, nonsense: true },
            }
        }
        Self { nodes, nonsense: false }
    }
}

/// A tree in the making.
#[derive(Debug)]
pub struct TreeLoader {
    nodes: Slab,
    index: Index,
    acls: Acls,
    /// What an ACL's number in the snapshot has become.
    acl_ids: BTreeMap<u32, AclId>,
    /// Slot in the snapshot of each node, ascending, and the one of its parent.
    slots: Vec<Slot>,
    parents: Vec<Slot>,
    /// Bytes of each path, once it is known; the root's counts as empty in those of others.
    path_bytes: Vec<u32>,
    /// Nodes whose parents had not come.
    open: Vec<Slot>,
    /// To be put into the index, which is done for many together: each is a look at two places in memory that are nowhere near,
    /// and the processor looks for several at a time if nothing is done in between.
    fresh: Vec<Slot>,
    /// Bytes of all paths that are known, and of the data there.
    bytes: u64,
    ephemerals: Ephemerals,
}

impl TreeLoader {
    /// Without any node.
    pub fn new() -> Self {
        Self {
            nodes: Slab::default(),
            index: Index::new(),
            acls: Acls::new(),
            acl_ids: BTreeMap::from([(AclId::OPEN.number(), AclId::OPEN)]),
            slots: Vec::new(),
            parents: Vec::new(),
            path_bytes: Vec::new(),
            open: Vec::new(),
            fresh: Vec::with_capacity(FRESH_MAX),
            bytes: 0,
            ephemerals: Vec::new(),
        }
    }

    /// So many nodes are announced. There is room for a quarter more: the log behind a snapshot brings some, and tables that
    /// grow then look at all that is in them.
    pub fn announced(&mut self, nodes: u64) {
        let nodes = nodes.min(ROOM_MAX);
        self.index = Index::with_room_for((nodes + nodes / 4) as usize);
    }

    /// An ACL that nodes to come use by that number.
    pub fn acl(&mut self, number: u32, acl: &[Acl]) -> Result<(), Wrong> {
        let id = self.acls.hold(acl);
        match self.acl_ids.insert(number, id) {
            None => Ok(()),
            Some(_) => Err("an ACL's number is given twice"),
        }
    }

    /// Nodes as [`image::encode`] made them, in the order of their slots. Returns how many.
    pub fn nodes(&mut self, mut bytes: &[u8]) -> Result<u64, Wrong> {
        let before = self.slots.len();
        while !bytes.is_empty() {
            let (slot, node) = image::decode(&mut bytes).ok_or(NONSENSE)?;
            self.node(slot, node)?;
        }
        Ok((self.slots.len() - before) as u64)
    }

    /// The same, of which somebody else has made sense.
    #[cfg(any(feature = "server", test))]
    pub fn decoded(&mut self, Decoded { nodes, nonsense }: Decoded) -> Result<u64, Wrong> {
        let many = nodes.len() as u64;
        nodes.into_iter().try_for_each(|(slot, node)| self.node(slot, node))?;
        if nonsense { Err(NONSENSE) } else { Ok(many) }
    }

    fn node(&mut self, slot: Slot, mut node: Node) -> Result<(), Wrong> {
        if self.slots.last().is_some_and(|last| *last >= slot) {
            return Err("nodes are not in the order of their slots");
        }
        let number = node.acl.number();
        if number != AclId::OPEN.number() {
            node.acl = *self.acl_ids.get(&number).ok_or("a node's ACL is missing")?;
            self.acls.hold_again(node.acl);
        }
        if Lifetime::of(node.owner).is_none() {
            return Err("a node's owner is none");
        }
        let place = self.slots.len() as Slot;
        if node.is_ephemeral() {
            self.ephemerals.push((node.owner, place));
        }
        self.slots.push(slot);
        self.parents.push(node.parent);
        self.path_bytes.push(UNKNOWN);
        let parent = node.parent;
        self.nodes.insert(node);
        if place == ROOT {
            return self.root();
        }
        match self.place_of(parent) {
            Some(parent) if self.path_bytes[parent as usize] != UNKNOWN => self.lies_below(place, parent),
            _ => {
                self.open.push(place);
                Ok(())
            }
        }
    }

    /// The first node has come.
    fn root(&mut self) -> Result<(), Wrong> {
        if self.slots[0] != ROOT {
            return Err("no root");
        }
        let root = self.nodes.get_mut(ROOT);
        if root.parent != ROOT || !root.name.is_empty() {
            return Err("what should be the root is not");
        }
        root.path_hash = ROOT_HASH;
        self.path_bytes[0] = 0;
        self.bytes = 1 + root.data_len() as u64;
        Ok(())
    }

    /// The place of the node at `slot` in the snapshot, if that has come: the same as long as there was no hole.
    fn place_of(&self, slot: Slot) -> Option<Slot> {
        if self.slots.get(slot as usize) == Some(&slot) {
            return Some(slot);
        }
        self.slots.binary_search(&slot).ok().map(|place| place as Slot)
    }

    /// The node at `place` lies below the one at `parent`, whose path is known: so is its own.
    fn lies_below(&mut self, place: Slot, parent: Slot) -> Result<(), Wrong> {
        let (above, bytes) = (self.nodes.get(parent).path_hash, self.path_bytes[parent as usize]);
        let node = self.nodes.get_mut(place);
        (node.path_hash, node.parent) = (child_hash(above, node.name.as_bytes()), parent);
        let longer = u64::from(bytes) + 1 + node.name.len() as u64;
        let bytes = u32::try_from(longer).ok().filter(|b| *b < UNKNOWN).ok_or("a path is too long")?;
        self.bytes += u64::from(bytes) + node.data_len() as u64;
        (self.path_bytes[place as usize], self.parents[place as usize]) = (bytes, parent);
        self.fresh.push(place);
        if self.fresh.len() == FRESH_MAX {
            self.index_fresh();
        }
        Ok(())
    }

    fn index_fresh(&mut self) {
        let hash_of = |slot: Slot| self.nodes.get(slot).path_hash;
        for slot in self.fresh.drain(..) {
            self.index.insert(hash_of(slot), slot, |&slot| hash_of(slot));
        }
    }

    /// All nodes have come.
    pub fn finish(mut self) -> Result<(Tree, Ephemerals), Wrong> {
        if self.slots.is_empty() {
            return Err("no root");
        }
        self.resolve_open()?;
        self.index_fresh();
        // Each list was held once more than nodes use it, so that it stayed till they came.
        self.acl_ids.values().for_each(|id| self.acls.release(*id));
        self.sort_children();
        let mut sums = Sums::default();
        for slot in 0..self.slots.len() as Slot {
            let node = self.nodes.get(slot);
            sums.change(slot, 0, node.hash(self.acls.hash(node.acl)));
        }
        let mut tree = Tree {
            nodes: self.nodes,
            index: self.index,
            acls: self.acls,
            sums,
            bytes: self.bytes,
            ephemerals: self.ephemerals.len(),
            sweepable: Sweepable::default(),
            quotas: Quotas::new(),
            undo: None,
        };
        for slot in 1..self.slots.len() as Slot {
            let node = tree.nodes.get(slot);
            let parent = node.parent;
            if node.owner < 0 {
                tree.sweepable.enter(slot, node);
            }
            tree.count_below(parent, 1);
        }
        tree.find_quotas();
        Ok((tree, self.ephemerals))
    }

    /// Gives the nodes that came before their parents what rests on their paths.
    fn resolve_open(&mut self) -> Result<(), Wrong> {
        let mut climb = Vec::new();
        for place in std::mem::take(&mut self.open) {
            let mut at = place;
            while self.path_bytes[at as usize] == UNKNOWN {
                climb.push(at);
                if climb.len() > self.slots.len() {
                    return Err("nodes are below themselves");
                }
                at = self.place_of(self.parents[at as usize]).ok_or("a node's parent is missing")?;
            }
            while let Some(place) = climb.pop() {
                self.lies_below(place, at)?;
                at = place;
            }
        }
        Ok(())
    }

    /// Gives every node its children, in the order of their names.
    fn sort_children(&mut self) {
        let n = self.slots.len();
        // Counting sort by parent: where the children of each begin, and all children one behind the other.
        let mut starts = vec![0u32; n + 1];
        for parent in &self.parents[1..] {
            starts[*parent as usize + 1] += 1;
        }
        for i in 0..n {
            starts[i + 1] += starts[i];
        }
        let mut next = starts.clone();
        let mut all = vec![0; n - 1];
        for (slot, parent) in (1..).zip(&self.parents[1..]) {
            let at = &mut next[*parent as usize];
            all[*at as usize] = slot;
            *at += 1;
        }
        for parent in 0..n {
            let range = starts[parent] as usize..starts[parent + 1] as usize;
            if !range.is_empty() {
                let children = &mut all[range];
                sort_by_name(children, &self.nodes);
                let name_bytes = children.iter().map(|&s| self.nodes.get(s).name.len() as u64).sum();
                let children = Children::from_sorted(children, name_bytes);
                self.nodes.get_mut(parent as Slot).children = children.map(Box::new);
            }
        }
    }
}

/// Sorts siblings. Mostly they are in order already, being made so; else by the first 16 bytes in which names
/// differ at all, beside which they need not be looked at again.
fn sort_by_name(slots: &mut [Slot], nodes: &Slab) {
    let name = |slot: Slot| &*nodes.get(slot).name;
    if slots.is_sorted_by(|a, b| name(*a) < name(*b)) {
        return;
    }
    let first = name(slots[0]).as_bytes();
    let common = |other: &str| first.iter().zip(other.as_bytes()).take_while(|(a, b)| a == b).count();
    let shared = slots[1..].iter().map(|s| common(name(*s))).min().unwrap_or(0);
    let key = |slot: Slot| {
        let rest = &name(slot).as_bytes()[shared..];
        let mut key = [0; 16];
        let len = rest.len().min(16);
        key[..len].copy_from_slice(&rest[..len]);
        u128::from_be_bytes(key)
    };
    let mut keyed: Vec<(u128, Slot)> = slots.iter().map(|&s| (key(s), s)).collect();
    keyed.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| name(a.1).cmp(name(b.1))));
    for (place, (_, slot)) in slots.iter_mut().zip(keyed) {
        *place = slot;
    }
}
