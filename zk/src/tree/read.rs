//! What does a node look like? One look-up, then whatever of it is asked for, if the caller may see it.

use super::acls::AclId;
use super::lifetime::Lifetime;
use super::node::Node;
use super::slab::Slot;
use super::{ROOT, Tree};
use crate::access::Caller;
use crate::jute::ErrorCode;
use crate::txn::{Acl, ImportedNode, Stat};

/// A node, to be read.
#[derive(Clone, Copy, Debug)]
pub struct NodeView<'a> {
    tree: &'a Tree,
    node: &'a Node,
}

impl<'a> NodeView<'a> {
    /// Its data; `None` is null.
    pub fn data(&self) -> Option<&'a [u8]> {
        self.node.data.as_deref()
    }

    /// Its Stat.
    pub fn stat(&self) -> Stat {
        self.node.stat()
    }

    /// Names of its children, in order.
    pub fn children(&self) -> ChildNames<'a> {
        let slots = self.node.children.as_ref().map(|c| c.slots());
        ChildNames { tree: self.tree, slots, left: self.node.num_children() }
    }

    /// Bytes of their names.
    pub fn child_name_bytes(&self) -> u64 {
        self.node.children.as_ref().map_or(0, |c| c.name_bytes())
    }

    /// Names of its children behind that name, in order; of all without one.
    pub fn children_behind(&self, name: Option<&str>) -> impl Iterator<Item = &'a str> + use<'a> {
        let nodes = &self.tree.nodes;
        let name_of = move |slot: Slot| &*nodes.get(slot).name;
        let slots = self.node.children.as_ref().map(|c| c.slots_behind(name, name_of));
        slots.into_iter().flatten().map(name_of)
    }

    /// Until when it lives.
    pub fn lifetime(&self) -> Lifetime {
        Lifetime::of(self.node.owner).expect("a node's owner is one")
    }

    /// What another tree needs to have it as it is here. `path` is its path.
    pub fn export(&self, path: &str) -> ImportedNode {
        let n = self.node;
        ImportedNode {
            path: path.into(),
            data: n.data.as_deref().map(<[u8]>::to_vec),
            acl: if n.acl == AclId::OPEN { Vec::new() } else { self.acl().to_vec() },
            owner: n.owner,
            created: n.created,
            versions: [n.version, n.aversion],
            times: [n.ctime, n.mtime],
        }
    }

    /// Number of all nodes below it.
    pub fn descendants(&self) -> u64 {
        self.node.descendants()
    }

    /// Its ACL.
    pub fn acl(&self) -> &'a [Acl] {
        self.tree.acls.get(self.node.acl)
    }

    /// Whether its ACL gives the caller one of the permissions `wanted`.
    pub fn permits(&self, wanted: i32, caller: &Caller<'_>) -> bool {
        self.tree.acls.permits(self.node.acl, wanted, caller)
    }
}

impl Tree {
    /// The node at `path`; the empty path is the root, too.
    ///
    /// # Errors
    /// `NoNode`.
    pub fn look(&self, path: &str) -> Result<NodeView<'_>, ErrorCode> {
        let slot = self.find(path).ok_or(ErrorCode::NoNode)?;
        Ok(NodeView { tree: self, node: self.nodes.get(slot) })
    }

    /// Counts nodes and bytes of data of what is at `path` and below it: nothing if there is no node.
    pub(super) fn measure(&self, path: &str) -> (i64, i64) {
        let Some(slot) = self.find(path) else { return (0, 0) };
        let (mut nodes, mut bytes, mut open): (i64, i64, Vec<Slot>) = (0, 0, vec![slot]);
        while let Some(slot) = open.pop() {
            let node = self.nodes.get(slot);
            nodes += 1;
            bytes += node.data_len() as i64;
            open.extend(node.children.iter().flat_map(|c| c.slots()));
        }
        (nodes, bytes)
    }

    /// A node was added below `parent`, or several removed: its ancestors' counts follow. The parent has counted
    /// its child itself.
    pub(super) fn count_below(&mut self, parent: Slot, change: i64) {
        let mut at = parent;
        while at != ROOT {
            at = self.nodes.get(at).parent;
            let above = self.nodes.children_mut(at).expect("a parent has children");
            above.below = above.below.checked_add_signed(change).expect("nodes are counted");
        }
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
