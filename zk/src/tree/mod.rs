//! Which znodes are there? A hash index from path to node, a slab of nodes, ordered child names per node,
//! and one hash over all of it that follows every change.
//!
//! A path is stored once: each node has its name and its parent's slot, and the index finds it under the hash
//! of its path, which is its name hashed with its parent's path hash as the seed.
//!
//! The tree's hash is the sum of its nodes' hashes: it depends on what is in the tree, not on how it came
//! there nor on the slots it is in, and a change costs the two hashes of the node that changes. Invariant
//! ZK-5.

mod acls;
mod children;
mod image;
mod load;
mod node;
pub mod path;
mod slab;
mod walk;
mod write;

use crate::jute::ErrorCode;
use crate::txn::{Acl, Stat};
use acls::Acls;
use hashbrown::HashTable;
use node::{Node, ROOT_HASH, child_hash};
use slab::Slab;
use std::sync::Arc;

pub use acls::world;
pub(crate) use load::TreeLoader;
pub(crate) use node::hash_words;
pub use slab::Slot;
pub use write::{Created, Deleted, NewNode, Stamp};

/// Where the root is.
const ROOT: Slot = 0;

/// All znodes.
#[derive(Debug)]
pub struct Tree {
    nodes: Slab,
    index: HashTable<Slot>,
    acls: Acls,
    hash: u64,
    bytes: u64,
    ephemerals: usize,
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    /// The tree of a new service: root, `/zookeeper` and what is below it.
    pub fn new() -> Self {
        let (nodes, acls) = (Slab::default(), Acls::new());
        let mut tree = Self { nodes, index: HashTable::new(), acls, hash: 0, bytes: 0, ephemerals: 0 };
        tree.add_built_in();
        tree
    }

    /// The node at `path`; the empty path is the root, too.
    fn find(&self, path: &str) -> Option<Slot> {
        if path.is_empty() || path == "/" {
            return Some(ROOT);
        }
        let names = path.strip_prefix('/')?;
        let hash = names.split('/').fold(ROOT_HASH, child_hash);
        self.index.find(hash, |&slot| self.is_at(slot, hash, names)).copied()
    }

    fn is_at(&self, slot: Slot, hash: u64, names: &str) -> bool {
        if self.nodes.get(slot).path_hash != hash {
            return false;
        }
        let mut at = slot;
        for name in names.rsplit('/') {
            let node = self.nodes.get(at);
            if at == ROOT || *node.name != *name {
                return false;
            }
            at = node.parent;
        }
        at == ROOT
    }

    fn node(&self, path: &str) -> Result<&Node, ErrorCode> {
        self.find(path).map(|slot| self.nodes.get(slot)).ok_or(ErrorCode::NoNode)
    }

    /// Data and Stat of a node.
    ///
    /// # Errors
    /// `NoNode`.
    pub fn get(&self, path: &str) -> Result<(Option<&[u8]>, Stat), ErrorCode> {
        self.node(path).map(|n| (n.data.as_deref(), n.stat()))
    }

    /// Stat of a node.
    ///
    /// # Errors
    /// `NoNode`.
    pub fn stat(&self, path: &str) -> Result<Stat, ErrorCode> {
        self.node(path).map(Node::stat)
    }

    /// Names of a node's children, in order, and its Stat.
    ///
    /// # Errors
    /// `NoNode`.
    pub fn children(&self, path: &str) -> Result<(ChildNames<'_>, Stat), ErrorCode> {
        let node = self.node(path)?;
        let slots = node.children.as_ref().map(|c| c.slots());
        Ok((ChildNames { tree: self, slots, left: node.num_children() }, node.stat()))
    }

    /// ACL and Stat of a node.
    ///
    /// # Errors
    /// `NoNode`.
    pub fn acl(&self, path: &str) -> Result<(&[Acl], Stat), ErrorCode> {
        self.node(path).map(|n| (self.acls.get(n.acl), n.stat()))
    }

    /// The path of the node at `slot`.
    pub fn path_of(&self, slot: Slot) -> String {
        if slot == ROOT {
            return "/".into();
        }
        let (mut at, mut names, mut bytes) = (slot, Vec::new(), 0);
        while at != ROOT {
            let node = self.nodes.get(at);
            bytes += 1 + node.name.len();
            names.push(&*node.name);
            at = node.parent;
        }
        let mut path = String::with_capacity(bytes);
        for name in names.into_iter().rev() {
            path.push('/');
            path.push_str(name);
        }
        path
    }

    /// Number of nodes, the built-in ones included.
    pub const fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no node: never.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of ephemeral nodes.
    pub const fn ephemerals(&self) -> usize {
        self.ephemerals
    }

    /// Bytes of all paths and data.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Number of different ACLs in use.
    pub fn acl_count(&self) -> usize {
        self.acls.len()
    }

    /// Hash of everything in the tree, kept up to date by every change.
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// The same, computed from names, data and ACLs as they are now, trusting no stored hash. For checks:
    /// it reads everything.
    pub fn hash_from_scratch(&self) -> u64 {
        let mut sum = 0u64;
        for slot in self.nodes.slots() {
            let n = self.nodes.get(slot);
            let path = self.path_of(slot);
            let names = path[1..].split('/').filter(|name| !name.is_empty());
            let path_hash = names.fold(ROOT_HASH, child_hash);
            assert_eq!(n.path_hash, path_hash, "the path hash of {path}");
            assert_eq!(n.data_hash, node::data_hash(n.data.as_deref()), "the data hash of {path}");
            let acl_hash = acls::acl_hash(self.acls.get(n.acl));
            sum = sum.wrapping_add(n.hash(acl_hash));
        }
        sum
    }

    /// How many nodes are reached from the root over children, each found in the index under its own path.
    #[cfg(test)]
    pub(crate) fn walk_count(&self) -> usize {
        let (mut count, mut open) = (0, vec![ROOT]);
        while let Some(slot) = open.pop() {
            assert_eq!(self.find(&self.path_of(slot)), Some(slot), "the index");
            open.extend(self.nodes.get(slot).children.iter().flat_map(|c| c.slots()));
            count += 1;
        }
        count
    }

    /// Begins an image of all nodes as they are now. Returns the ACLs that they use, by number, but the open
    /// one. Panics while one is being taken.
    pub(crate) fn begin_image(&mut self) -> Vec<(u32, Arc<[Acl]>)> {
        self.nodes.begin_walk();
        self.acls.lists().into_iter().map(|(id, acl)| (id.number(), acl)).collect()
    }

    /// Appends the next nodes of the image to `out`, till that has at least `bytes`, or `slots` slots were
    /// looked at. Whether those were the last, which ends it. Panics if none was begun.
    pub(crate) fn go_on_imaging(&mut self, out: &mut Vec<u8>, bytes: usize, slots: u32) -> bool {
        self.nodes.go_on_walking(out, bytes, slots)
    }

    /// Gives the image up, if one is being taken.
    pub(crate) fn end_image(&mut self) {
        self.nodes.end_walk();
    }

    /// Bytes that the image being taken holds because nodes have changed since.
    pub(crate) fn image_bytes(&self) -> usize {
        self.nodes.aside_bytes()
    }
}

/// Names of one node's children, in order.
#[derive(Clone, Debug)]
pub struct ChildNames<'a> {
    tree: &'a Tree,
    slots: Option<std::iter::Flatten<std::slice::Iter<'a, Vec<Slot>>>>,
    left: usize,
}

impl<'a> Iterator for ChildNames<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let slot = *self.slots.as_mut()?.next()?;
        self.left -= 1;
        Some(&self.tree.nodes.get(slot).name)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for ChildNames<'_> {}

#[cfg(test)]
mod tests;
