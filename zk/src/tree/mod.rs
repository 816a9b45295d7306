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
mod import;
mod index;
mod lifetime;
mod load;
mod memory;
mod node;
mod outline;
pub mod path;
mod quota;
mod read;
mod slab;
mod sums;
mod undo;
mod walk;
mod write;

use crate::access::Rules;
use acls::Acls;
use index::Index;
use lifetime::Sweepable;
use node::{ROOT_HASH, child_hash};
use quota::Quotas;
use slab::{PAGE, Slab};
use std::sync::Arc;
use sums::Sums;
use undo::Undo;

pub use acls::world;
pub use import::{Import, Imported};
pub use lifetime::{Candidate, Lifetime, TTL_MS_MAX};
#[cfg(any(feature = "server", test))]
pub(crate) use load::Decoded;
pub(crate) use load::TreeLoader;
pub use memory::{Damage, Place};
pub(crate) use node::hash_words;
pub use read::{ChildNames, NodeView};
pub use slab::Slot;
pub use undo::Undone;
pub use write::{Created, Deleted, NewNode, Set, Stamp, Writer};

/// Where the root is.
const ROOT: Slot = 0;

/// All znodes.
#[derive(Debug)]
pub struct Tree {
    nodes: Slab,
    index: Index,
    acls: Acls,
    sums: Sums,
    bytes: u64,
    ephemerals: usize,
    sweepable: Sweepable,
    quotas: Quotas,
    /// What was done since the changes began that may have to be undone.
    undo: Option<Vec<Undo>>,
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
        let mut tree = Self {
            nodes,
            index: Index::new(),
            acls,
            sums: Sums::default(),
            bytes: 0,
            ephemerals: 0,
            sweepable: Sweepable::default(),
            quotas: Quotas::default(),
            undo: None,
        };
        tree.add_built_in();
        tree
    }

    /// The node at `path`; the empty path is the root, too.
    fn find(&self, path: &str) -> Option<Slot> {
        if path.is_empty() || path == "/" {
            return Some(ROOT);
        }
        let names = path.strip_prefix('/')?;
        let hash = names.as_bytes().split(|b| *b == b'/').fold(ROOT_HASH, child_hash);
        self.index.find(hash, |&slot| self.is_at(slot, hash, names))
    }

    fn is_at(&self, slot: Slot, hash: u64, names: &str) -> bool {
        if self.nodes.get(slot).path_hash != hash {
            return false;
        }
        let (mut at, mut rest) = (slot, names.as_bytes());
        while at != ROOT {
            let node = self.nodes.get(at);
            let Some(above) = rest.strip_suffix(node.name.as_bytes()) else { return false };
            at = node.parent;
            rest = match above {
                [] => return at == ROOT,
                [above @ .., b'/'] => above,
                _ => return false,
            };
        }
        false
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
        self.sums.all()
    }

    /// The same, computed from names, data and ACLs as they are now, trusting no stored hash. For checks:
    /// it reads everything.
    pub fn hash_from_scratch(&self) -> u64 {
        let mut sum = 0u64;
        for slot in self.nodes.slots() {
            let n = self.nodes.get(slot);
            let path = self.path_of(slot);
            let names = path.as_bytes().split(|b| *b == b'/').filter(|name| !name.is_empty());
            let path_hash = names.fold(ROOT_HASH, child_hash);
            assert_eq!(n.path_hash, path_hash, "the path hash of {path}");
            assert_eq!(n.data_hash, node::data_hash(n.data.as_deref()), "the data hash of {path}");
            let acl_hash = acls::acl_hash(self.acls.get(n.acl));
            sum = sum.wrapping_add(n.hash(acl_hash));
        }
        (0..self.pages()).for_each(|page| self.check_page(page).expect("the sums of pages"));
        self.check_sweepable();
        self.check_quotas();
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
    pub(crate) fn begin_image(&mut self) -> Vec<(u32, Arc<Rules>)> {
        self.nodes.begin_walk();
        self.acls.lists().into_iter().map(|(id, acl)| (id.number(), acl)).collect()
    }

    /// Appends the next nodes of the image to `out`, till that has at least `bytes`, or `slots` slots were
    /// looked at. Whether those were the last, which ends it. Panics if none was begun.
    ///
    /// # Errors
    /// Something that it passed is not what was stored there: the image is of no use.
    pub(crate) fn go_on_imaging(
        &mut self,
        out: &mut Vec<u8>,
        bytes: usize,
        slots: u32,
    ) -> Result<bool, Damage> {
        let (walked, done, damaged) = self.nodes.go_on_walking(out, bytes, slots);
        if let Some(slot) = damaged {
            return Err(match self.nodes.at(slot) {
                Some(_) => self.damage(slot, "data"),
                None => Damage { what: "the data of a node that is gone now".into() },
            });
        }
        // Each page once, by whoever is the first in it.
        let first_pages = walked.start.div_ceil(PAGE as Slot)..walked.end.div_ceil(PAGE as Slot);
        first_pages.map(|page| page as usize).try_for_each(|page| self.check_page(page))?;
        Ok(done)
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

#[cfg(test)]
mod tests;
