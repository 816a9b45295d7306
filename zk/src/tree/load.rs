//! How does a tree come back from a snapshot? Nodes as they come, one behind the other without the holes there
//! were; then, in few passes over all of them, parents, paths' hashes, children in order, index and hash.
//! Whatever the bytes say, the outcome is a tree or an error; whether it is the right tree, its hash says.

use super::acls::{AclId, Acls};
use super::children::Children;
use super::index::Index;
use super::lifetime::Sweepable;
use super::node::{ROOT_HASH, child_hash};
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

/// A tree in the making.
#[derive(Debug)]
pub struct TreeLoader {
    nodes: Slab,
    acls: Acls,
    /// What an ACL's number in the snapshot has become.
    acl_ids: BTreeMap<u32, AclId>,
    /// Slot in the snapshot of each node, ascending, and the one of its parent.
    slots: Vec<Slot>,
    parents: Vec<Slot>,
    ephemerals: Ephemerals,
}

impl TreeLoader {
    /// Without any node.
    pub fn new() -> Self {
        Self {
            nodes: Slab::default(),
            acls: Acls::new(),
            acl_ids: BTreeMap::from([(AclId::OPEN.number(), AclId::OPEN)]),
            slots: Vec::new(),
            parents: Vec::new(),
            ephemerals: Vec::new(),
        }
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
            let (slot, mut node) = image::decode(&mut bytes).ok_or("a node's bytes make no sense")?;
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
            if node.is_ephemeral() {
                self.ephemerals.push((node.owner, self.slots.len() as Slot));
            }
            self.slots.push(slot);
            self.parents.push(node.parent);
            self.nodes.insert(node);
        }
        Ok((self.slots.len() - before) as u64)
    }

    /// All nodes have come.
    pub fn finish(mut self) -> Result<(Tree, Ephemerals), Wrong> {
        let root =
            if self.slots.first() == Some(&ROOT) { self.nodes.get(ROOT) } else { return Err("no root") };
        if root.parent != ROOT || !root.name.is_empty() {
            return Err("what should be the root is not");
        }
        self.renumber()?;
        // Each list was held once more than nodes use it, so that it stayed till they came.
        self.acl_ids.values().for_each(|id| self.acls.release(*id));
        let bytes = self.resolve_paths()?;
        self.sort_children();
        let (mut sums, mut index) = (Sums::default(), Index::with_room_for(self.slots.len()));
        for slot in 0..self.slots.len() as Slot {
            let node = self.nodes.get(slot);
            sums.change(slot, 0, node.hash(self.acls.hash(node.acl)));
            if slot != ROOT {
                index.insert(node.path_hash, slot, |&s| self.nodes.get(s).path_hash);
            }
        }
        let mut tree = Tree {
            nodes: self.nodes,
            index,
            acls: self.acls,
            sums,
            bytes,
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

    /// Makes places of slots: without holes they are the same.
    fn renumber(&mut self) -> Result<(), Wrong> {
        let n = self.slots.len();
        let dense = self.slots[n - 1] as usize == n - 1;
        for parent in &mut self.parents {
            let place = if dense { (*parent as usize) < n } else { false };
            if !place {
                let found = self.slots.binary_search(parent).map_err(|_| "a node's parent is missing")?;
                *parent = found as Slot;
            }
        }
        Ok(())
    }

    /// Gives every node its parent's place and its path's hash, whatever order they are in. Returns the bytes
    /// of all paths and data.
    fn resolve_paths(&mut self) -> Result<u64, Wrong> {
        let n = self.slots.len();
        // Bytes of each path, once it is known; the root's counts as empty in those of others.
        let mut path_bytes: Vec<u32> = vec![u32::MAX; n];
        path_bytes[ROOT as usize] = 0;
        let root = self.nodes.get_mut(ROOT);
        root.path_hash = ROOT_HASH;
        let mut bytes = 1 + root.data_len() as u64;
        let mut climb = Vec::new();
        for slot in 1..n as Slot {
            let mut at = slot;
            while path_bytes[at as usize] == u32::MAX {
                climb.push(at);
                if climb.len() > n {
                    return Err("nodes are below themselves");
                }
                at = self.parents[at as usize];
            }
            let (mut above, mut len) = (self.nodes.get(at).path_hash, path_bytes[at as usize]);
            while let Some(slot) = climb.pop() {
                let node = self.nodes.get_mut(slot);
                above = child_hash(above, node.name.as_bytes());
                (node.path_hash, node.parent) = (above, self.parents[slot as usize]);
                let longer = u64::from(len) + 1 + node.name.len() as u64;
                len = u32::try_from(longer).ok().filter(|l| *l < u32::MAX).ok_or("a path is too long")?;
                path_bytes[slot as usize] = len;
                bytes += u64::from(len) + node.data_len() as u64;
            }
        }
        Ok(bytes)
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
