//! How does the tree change? Create, delete and set data by ZooKeeper's rules, with its order of errors.

use super::acls::{AclId, world};
use super::node::{Node, ROOT_HASH, child_hash, data_hash};
use super::{ROOT, Slot, Tree, path};
use crate::jute::ErrorCode;
use crate::jute::codes::{ANY_VERSION, perms};
use crate::txn::{Acl, Stat};

/// Highest sequence number: its ten digits are the last of which names still sort as the numbers do.
const SEQUENCE_MAX: u64 = 9_999_999_999;

/// What a change is stamped with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Of the transaction.
    pub zxid: i64,
    /// Of the node that logged it.
    pub wall_ms: i64,
}

/// A node to be.
#[derive(Clone, Copy, Debug)]
pub struct NewNode<'a> {
    /// As the client gave it.
    pub path: &'a str,
    /// Whether a sequence number is added to the path.
    pub sequential: bool,
    /// `None` is null.
    pub data: Option<&'a [u8]>,
    /// Fixed up; `None` is open to everyone.
    pub acl: Option<&'a [Acl]>,
    /// Its session if it is ephemeral, else 0.
    pub owner: i64,
}

/// A node that came to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// Where.
    pub slot: Slot,
    /// Final.
    pub path: String,
    /// Its Stat.
    pub stat: Stat,
}

/// A node that went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Where it was.
    pub slot: Slot,
    /// Its session if it was ephemeral, else 0.
    pub owner: i64,
}

/// What a version grows to: after the highest it goes on below zero and skips -1, which means "any".
const fn next_version(version: i32) -> i32 {
    match version.wrapping_add(1) {
        ANY_VERSION => 0,
        next => next,
    }
}

const fn check_version(expected: i32, actual: i32) -> Result<(), ErrorCode> {
    if expected == ANY_VERSION || expected == actual { Ok(()) } else { Err(ErrorCode::BadVersion) }
}

impl Tree {
    /// Makes the nodes that every service has. They carry no zxid and no time, and their parents have not
    /// counted them, as in ZooKeeper.
    pub(super) fn add_built_in(&mut self) {
        let root = Node {
            name: "".into(),
            parent: ROOT,
            acl: AclId::OPEN,
            data: Some(Box::default()),
            children: None,
            created: 0,
            owner: 0,
            czxid: 0,
            mzxid: 0,
            pzxid: 0,
            ctime: 0,
            mtime: 0,
            version: 0,
            aversion: 0,
            path_hash: ROOT_HASH,
            data_hash: data_hash(Some(&[])),
        };
        self.hash = root.hash(self.acls.hash(AclId::OPEN));
        self.bytes = 1;
        let slot = self.nodes.insert(root);
        assert_eq!(slot, ROOT, "the root comes first");
        let stamp = Stamp { zxid: 0, wall_ms: 0 };
        let read_only = world(perms::READ);
        for path in ["/zookeeper", "/zookeeper/quota", "/zookeeper/config"] {
            let config = path == "/zookeeper/config";
            let acl = config.then_some(&read_only[..]);
            let node = NewNode { path, sequential: false, data: Some(&[]), acl, owner: 0 };
            let slot = self.create(node, stamp).expect("nothing is in its way").slot;
            let parent = self.nodes.get(slot).parent;
            self.change(parent, |n| n.created = 0);
            if config {
                self.change(slot, |n| (n.version, n.aversion) = (-1, -1));
            }
        }
    }

    /// Changes a node and the tree's hash with it.
    fn change<R>(&mut self, slot: Slot, f: impl FnOnce(&mut Node) -> R) -> R {
        let node = self.nodes.get_mut(slot);
        let acl_hash = self.acls.hash(node.acl);
        let before = node.hash(acl_hash);
        let result = f(node);
        self.hash = self.hash.wrapping_sub(before).wrapping_add(node.hash(acl_hash));
        result
    }

    /// Makes a node.
    ///
    /// # Errors
    /// In this order: `BadArguments` without a slash or with a NUL, `NoNode` without a parent, `NodeExists`
    /// when sequence numbers are used up, `BadArguments` when the final path is invalid, `NodeExists`,
    /// `NoChildrenForEphemerals`. Nothing has changed then.
    pub fn create(&mut self, new: NewNode<'_>, at: Stamp) -> Result<Created, ErrorCode> {
        let (parent_path, _) = path::split(new.path).ok_or(ErrorCode::BadArguments)?;
        let parent = self.find(parent_path).ok_or(ErrorCode::NoNode)?;
        let above = self.nodes.get(parent);
        let path = match new.sequential {
            false => new.path.to_owned(),
            true if above.created > SEQUENCE_MAX => return Err(ErrorCode::NodeExists),
            true => format!("{}{:010}", new.path, above.created),
        };
        if !path::is_valid(&path) {
            return Err(ErrorCode::BadArguments);
        }
        let name = &path[parent_path.len() + 1..];
        let hash = child_hash(above.path_hash, name);
        if path == "/" || self.child(parent, hash, name).is_some() {
            return Err(ErrorCode::NodeExists);
        }
        if above.is_ephemeral() {
            return Err(ErrorCode::NoChildrenForEphemerals);
        }
        let slot = self.insert(parent, name, hash, &new, at);
        self.bytes += (path.len() + new.data.map_or(0, <[u8]>::len)) as u64;
        Ok(Created { slot, stat: self.nodes.get(slot).stat(), path })
    }

    /// The child of that name, whose path has that hash.
    fn child(&self, parent: Slot, hash: u64, name: &str) -> Option<Slot> {
        let same = |&slot: &Slot| {
            let n = self.nodes.get(slot);
            n.path_hash == hash && n.parent == parent && *n.name == *name
        };
        self.index.find(hash, same).copied()
    }

    fn insert(&mut self, parent: Slot, name: &str, path_hash: u64, new: &NewNode<'_>, at: Stamp) -> Slot {
        let node = Node {
            name: name.into(),
            parent,
            acl: new.acl.map_or(AclId::OPEN, |acl| self.acls.hold(acl)),
            data: new.data.map(Box::from),
            children: None,
            created: 0,
            owner: new.owner,
            czxid: at.zxid,
            mzxid: at.zxid,
            pzxid: at.zxid,
            ctime: at.wall_ms,
            mtime: at.wall_ms,
            version: 0,
            aversion: 0,
            path_hash,
            data_hash: data_hash(new.data),
        };
        self.hash = self.hash.wrapping_add(node.hash(self.acls.hash(node.acl)));
        self.ephemerals += usize::from(node.is_ephemeral());
        let slot = self.nodes.insert(node);
        let nodes = &self.nodes;
        self.index.insert_unique(path_hash, slot, |&s| nodes.get(s).path_hash);
        self.with_children(parent, at.zxid, 1, |children, nodes| {
            children.insert(slot, name, |s| &nodes.get(s).name);
        });
        slot
    }

    /// Changes the children of a node, of which `created` are new, and what its Stat says about them.
    fn with_children(
        &mut self,
        parent: Slot,
        zxid: i64,
        created: u64,
        f: impl FnOnce(&mut super::children::Children, &super::slab::Slab),
    ) {
        let acl_hash = self.acls.hash(self.nodes.get(parent).acl);
        let above = self.nodes.get_mut(parent);
        let before = above.hash(acl_hash);
        // Out of the node while it changes: the names that order the children are in other nodes.
        let mut children = above.children.take().unwrap_or_default();
        f(&mut children, &self.nodes);
        let above = self.nodes.get_mut(parent);
        above.children = (children.len() > 0).then_some(children);
        above.pzxid = zxid;
        above.created += created;
        self.hash = self.hash.wrapping_sub(before).wrapping_add(above.hash(acl_hash));
    }

    /// Removes a node.
    ///
    /// # Errors
    /// In this order: `BadArguments` without a slash, with a NUL, or for a built-in node, `NoNode`,
    /// `BadVersion`, `NotEmpty`. Nothing has changed then.
    pub fn delete(&mut self, path: &str, version: i32, zxid: i64) -> Result<Deleted, ErrorCode> {
        if path::is_reserved(path) {
            return Err(ErrorCode::BadArguments);
        }
        let (parent_path, _) = path::split(path).ok_or(ErrorCode::BadArguments)?;
        // The parent first: it decides who may delete.
        self.find(parent_path).ok_or(ErrorCode::NoNode)?;
        let slot = self.find(path).ok_or(ErrorCode::NoNode)?;
        let node = self.nodes.get(slot);
        check_version(version, node.version)?;
        if node.num_children() > 0 {
            return Err(ErrorCode::NotEmpty);
        }
        let owner = node.owner;
        self.remove(slot, path.len(), zxid);
        Ok(Deleted { slot, owner })
    }

    /// Removes the ephemeral at `slot`, whose path is of `path_bytes`. Panics if it is none.
    pub fn delete_ephemeral(&mut self, slot: Slot, path_bytes: usize, zxid: i64) {
        assert!(self.nodes.get(slot).is_ephemeral(), "{} is no ephemeral", self.path_of(slot));
        self.remove(slot, path_bytes, zxid);
    }

    fn remove(&mut self, slot: Slot, path_bytes: usize, zxid: i64) {
        let (parent, hash) = (self.nodes.get(slot).parent, self.nodes.get(slot).path_hash);
        assert!(slot != ROOT, "the root is never removed");
        self.with_children(parent, zxid, 0, |children, nodes| {
            children.remove(slot, &nodes.get(slot).name, |s| &nodes.get(s).name);
        });
        let entry = self.index.find_entry(hash, |&s| s == slot);
        entry.unwrap_or_else(|_| panic!("slot {slot} is not in the index")).remove();
        let node = self.nodes.remove(slot);
        assert_eq!(node.num_children(), 0, "{} is removed with children", node.name);
        self.hash = self.hash.wrapping_sub(node.hash(self.acls.hash(node.acl)));
        self.acls.release(node.acl);
        self.ephemerals -= usize::from(node.is_ephemeral());
        self.bytes -= (path_bytes + node.data_len()) as u64;
    }

    /// Replaces a node's data.
    ///
    /// # Errors
    /// In this order: `BadArguments` for an invalid path, `NoNode`, `BadVersion`. Nothing has changed then.
    pub fn set_data(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        version: i32,
        at: Stamp,
    ) -> Result<Stat, ErrorCode> {
        if !path::is_valid(path) {
            return Err(ErrorCode::BadArguments);
        }
        let slot = self.find(path).ok_or(ErrorCode::NoNode)?;
        let node = self.nodes.get(slot);
        check_version(version, node.version)?;
        self.bytes = self.bytes - node.data_len() as u64 + data.map_or(0, <[u8]>::len) as u64;
        Ok(self.change(slot, |n| {
            n.data_hash = data_hash(data);
            match (&mut n.data, data) {
                (Some(old), Some(new)) if old.len() == new.len() => old.copy_from_slice(new),
                (old, new) => *old = new.map(Box::from),
            }
            n.version = next_version(n.version);
            n.mzxid = at.zxid;
            n.mtime = at.wall_ms;
            n.stat()
        }))
    }

    /// Lets a test put a node's counters where a test can't bring them by honest work.
    #[cfg(test)]
    pub(super) fn force(&mut self, path: &str, f: impl FnOnce(&mut Node)) {
        let slot = self.find(path).expect("it is there");
        self.change(slot, f);
    }
}
