//! How does the tree change? Create, delete and set data by ZooKeeper's rules, with its order of errors.

use super::acls::{AclId, world};
use super::node::{Node, ROOT_HASH, child_hash, data_hash};
use super::undo::Undo;
use super::{ROOT, Slot, Tree, path};
use crate::access::{Caller, Rules};
use crate::jute::ErrorCode;
use crate::jute::codes::{ANY_VERSION, perms};
use crate::txn::{Acl, Stat};
use std::sync::Arc;

/// Highest sequence number: its ten digits are the last of which names still sort as the numbers do.
const SEQUENCE_MAX: u64 = 9_999_999_999;

/// Whom alone an ACL lets read; `None` is everyone.
pub type Readers = Option<Arc<Rules>>;

/// What a change is stamped with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Of the transaction.
    pub zxid: i64,
    /// Of the node that logged it.
    pub wall_ms: i64,
}

/// Who changes the tree, and when.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// Whose permissions count.
    pub caller: Caller<'a>,
    /// When.
    pub at: Stamp,
    /// Whether hard quotas refuse what is over them.
    pub enforce_quota: bool,
}

impl Writer<'_> {
    /// Who may do everything.
    pub const fn root(at: Stamp) -> Self {
        Self { caller: Caller::ROOT, at, enforce_quota: false }
    }
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
    /// How long it lives: [`Lifetime::owner`](super::Lifetime::owner).
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
    /// Whom alone its ACL lets read, if not everyone; and its parent's.
    pub readers: [Readers; 2],
    /// The path of the soft quota that it has passed.
    pub over_quota: Option<String>,
}

/// A node that went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Where it was.
    pub slot: Slot,
    /// What its owner was.
    pub owner: i64,
    /// As of [`Created`].
    pub readers: [Readers; 2],
}

/// A node whose data was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Its Stat.
    pub stat: Stat,
    /// Whom alone its ACL lets read, if not everyone.
    pub readers: Readers,
    /// As of [`Created`].
    pub over_quota: Option<String>,
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
        self.sums.change(ROOT, 0, root.hash(self.acls.hash(AclId::OPEN)));
        self.bytes = 1;
        let slot = self.nodes.insert(root);
        assert_eq!(slot, ROOT, "the root comes first");
        let stamp = Stamp { zxid: 0, wall_ms: 0 };
        let read_only = world(perms::READ);
        for path in ["/zookeeper", "/zookeeper/quota", "/zookeeper/config"] {
            let config = path == "/zookeeper/config";
            let acl = config.then_some(&read_only[..]);
            let node = NewNode { path, sequential: false, data: Some(&[]), acl, owner: 0 };
            let slot = self.create(node, Writer::root(stamp)).expect("nothing is in its way").slot;
            let parent = self.nodes.get(slot).parent;
            self.change(parent, |n| n.created = 0);
            if config {
                self.change(slot, |n| (n.version, n.aversion) = (-1, -1));
            }
        }
    }

    /// Changes a node and the tree's hash with it.
    pub(super) fn change<R>(&mut self, slot: Slot, f: impl FnOnce(&mut Node) -> R) -> R {
        let node = self.nodes.get_mut(slot);
        let acl_hash = self.acls.hash(node.acl);
        let before = node.hash(acl_hash);
        let result = f(node);
        self.sums.change(slot, before, node.hash(acl_hash));
        result
    }

    /// Whether the caller has one of the permissions `wanted` on the node at `slot`.
    fn permit(&self, slot: Slot, wanted: i32, by: &Writer<'_>) -> Result<(), ErrorCode> {
        let acl = self.nodes.get(slot).acl;
        if self.acls.permits(acl, wanted, &by.caller) { Ok(()) } else { Err(ErrorCode::NoAuth) }
    }

    /// Makes a node.
    ///
    /// # Errors
    /// In this order: `BadArguments` without a slash or with a NUL, `NoNode` without a parent, `NoAuth`,
    /// `NodeExists` when sequence numbers are used up, `BadArguments` when the final path is invalid,
    /// `NodeExists`, `NoChildrenForEphemerals`, `QuotaExceeded`. Nothing has changed then.
    pub fn create(&mut self, new: NewNode<'_>, by: Writer<'_>) -> Result<Created, ErrorCode> {
        let (parent_path, _) = path::split(new.path).ok_or(ErrorCode::BadArguments)?;
        let parent = self.find(parent_path).ok_or(ErrorCode::NoNode)?;
        self.permit(parent, perms::CREATE, &by)?;
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
        let hash = child_hash(above.path_hash, name.as_bytes());
        if path == "/" || self.child(parent, hash, name).is_some() {
            return Err(ErrorCode::NodeExists);
        }
        if above.is_ephemeral() {
            return Err(ErrorCode::NoChildrenForEphemerals);
        }
        let readers = self.acls.restricting(above.acl);
        let data_len = new.data.map_or(0, <[u8]>::len);
        let mut over_quota = None;
        if !self.quotas.is_empty() {
            over_quota = self.check_quota(&path, 1, data_len as i64, by.enforce_quota)?;
        }
        let slot = self.insert(parent, name, hash, &new, by.at);
        self.bytes += (path.len() + data_len) as u64;
        if path::is_under_quota(&path) {
            self.quota_node_came(&path, slot);
        }
        if !self.quotas.is_empty() {
            self.use_quota(&path, 1, data_len as i64);
        }
        let node = self.nodes.get(slot);
        Ok(Created {
            slot,
            stat: node.stat(),
            readers: [self.acls.restricting(node.acl), readers],
            path,
            over_quota,
        })
    }

    /// The child of that name, whose path has that hash.
    fn child(&self, parent: Slot, hash: u64, name: &str) -> Option<Slot> {
        let same = |&slot: &Slot| {
            let n = self.nodes.get(slot);
            n.path_hash == hash && n.parent == parent && *n.name == *name
        };
        self.index.find(hash, same)
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
        let before = self.nodes.get(parent);
        let (created, pzxid) = (before.created, before.pzxid);
        let slot = self.put(node, at.zxid, 1);
        if let Some(undo) = &mut self.undo {
            undo.push(Undo::Created { slot, created, pzxid });
        }
        slot
    }

    /// Puts a node where it says that it belongs. Its parent has then made `created` more.
    pub(super) fn put(&mut self, node: Node, zxid: i64, created: u64) -> Slot {
        let hash = node.hash(self.acls.hash(node.acl));
        self.ephemerals += usize::from(node.is_ephemeral());
        let (parent, path_hash, lives_long) = (node.parent, node.path_hash, node.owner >= 0);
        let slot = self.nodes.insert(node);
        self.sums.change(slot, 0, hash);
        let nodes = &self.nodes;
        self.index.insert(path_hash, slot, |&s| nodes.get(s).path_hash);
        self.with_children(parent, zxid, created, |children, nodes| {
            children.insert(slot, &nodes.get(slot).name, |s| &nodes.get(s).name);
        });
        self.count_below(parent, 1);
        if !lives_long {
            self.sweepable.enter(slot, self.nodes.get(slot));
        }
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
        let above = self.nodes.get_mut(parent);
        let (acl_hash, may_be_swept) = (self.acls.hash(above.acl), above.owner < 0);
        if may_be_swept {
            self.sweepable.leave(parent, above);
        }
        let before = above.hash(acl_hash);
        // Out of the node while it changes: the names that order the children are in other nodes.
        let mut children = above.children.take().unwrap_or_default();
        f(&mut children, &self.nodes);
        let above = self.nodes.get_mut(parent);
        above.children = (children.len() > 0).then_some(children);
        above.pzxid = zxid;
        above.created += created;
        self.sums.change(parent, before, above.hash(acl_hash));
        if may_be_swept {
            self.sweepable.enter(parent, above);
        }
    }

    /// Removes a node.
    ///
    /// # Errors
    /// In this order: `BadArguments` without a slash, with a NUL, or for a built-in node, `NoNode` without a
    /// parent, `NoAuth` (the parent decides), `NoNode`, `BadVersion`, `NotEmpty`. Nothing has changed then.
    pub fn delete(&mut self, path: &str, version: i32, by: Writer<'_>) -> Result<Deleted, ErrorCode> {
        if path::is_reserved(path) {
            return Err(ErrorCode::BadArguments);
        }
        let (parent_path, _) = path::split(path).ok_or(ErrorCode::BadArguments)?;
        let parent = self.find(parent_path).ok_or(ErrorCode::NoNode)?;
        self.permit(parent, perms::DELETE, &by)?;
        let slot = self.find(path).ok_or(ErrorCode::NoNode)?;
        let node = self.nodes.get(slot);
        check_version(version, node.version)?;
        if node.num_children() > 0 {
            return Err(ErrorCode::NotEmpty);
        }
        let readers = self.readers(slot);
        let owner = node.owner;
        self.remove(slot, path, by.at.zxid);
        Ok(Deleted { slot, owner, readers })
    }

    /// Whom alone a node's ACL, and its parent's, let read, if not everyone.
    pub(super) fn readers(&self, slot: Slot) -> [Readers; 2] {
        let node = self.nodes.get(slot);
        [node.acl, self.nodes.get(node.parent).acl].map(|acl| self.acls.restricting(acl))
    }

    /// Removes the ephemeral at `slot`, whose path is `path`. Panics if it is none.
    pub fn delete_ephemeral(&mut self, slot: Slot, path: &str, zxid: i64) -> [Readers; 2] {
        assert!(self.nodes.get(slot).is_ephemeral(), "{path} is no ephemeral");
        let readers = self.readers(slot);
        self.remove(slot, path, zxid);
        readers
    }

    /// Removes a node without children.
    pub(super) fn remove(&mut self, slot: Slot, path: &str, zxid: i64) {
        let (data_len, parent) = (self.nodes.get(slot).data_len(), self.nodes.get(slot).parent);
        if path::is_under_quota(path) {
            self.quota_node_goes(path);
        }
        let pzxid = self.nodes.get(parent).pzxid;
        let node = self.take(slot, zxid);
        self.bytes -= (path.len() + data_len) as u64;
        match &mut self.undo {
            Some(undo) => undo.push(Undo::Deleted { slot, node: Box::new(node), pzxid }),
            None => self.acls.release(node.acl),
        }
        if !self.quotas.is_empty() {
            self.use_quota(path, -1, -(data_len as i64));
        }
    }

    /// Takes a node out of everything but the ACLs.
    pub(super) fn take(&mut self, slot: Slot, zxid: i64) -> Node {
        let node = self.nodes.get(slot);
        let (parent, hash) = (node.parent, node.path_hash);
        assert!(slot != ROOT, "the root is never removed");
        if node.owner < 0 {
            self.sweepable.leave(slot, node);
        }
        self.count_below(parent, -1);
        self.with_children(parent, zxid, 0, |children, nodes| {
            children.remove(slot, &nodes.get(slot).name, |s| &nodes.get(s).name);
        });
        self.index.remove(hash, slot);
        let node = self.nodes.remove(slot);
        assert_eq!(node.num_children(), 0, "{} is removed with children", node.name);
        self.sums.change(slot, node.hash(self.acls.hash(node.acl)), 0);
        self.ephemerals -= usize::from(node.is_ephemeral());
        node
    }

    /// Replaces a node's data.
    ///
    /// # Errors
    /// In this order: `BadArguments` for an invalid path, `NoNode`, `NoAuth`, `QuotaExceeded`, `BadVersion`.
    /// Nothing has changed then.
    pub fn set_data(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        version: i32,
        by: Writer<'_>,
    ) -> Result<Set, ErrorCode> {
        if !path::is_valid(path) {
            return Err(ErrorCode::BadArguments);
        }
        let slot = self.find(path).ok_or(ErrorCode::NoNode)?;
        self.permit(slot, perms::WRITE, &by)?;
        let node = self.nodes.get(slot);
        let readers = self.acls.restricting(node.acl);
        let (old_len, new_len) = (node.data_len() as i64, data.map_or(0, <[u8]>::len) as i64);
        let (actual, may_be_swept) = (node.version, node.owner < 0);
        let mut over_quota = None;
        if !self.quotas.is_empty() {
            over_quota = self.check_quota(path, 0, new_len - old_len, by.enforce_quota)?;
        }
        check_version(version, actual)?;
        if self.undo.is_some() {
            self.remember_data(slot);
        }
        if may_be_swept {
            self.sweepable.leave(slot, self.nodes.get(slot));
        }
        self.bytes = self.bytes.checked_add_signed(new_len - old_len).expect("bytes are counted");
        let at = by.at;
        let stat = self.change(slot, |n| {
            n.set_data(data);
            n.version = next_version(n.version);
            n.mzxid = at.zxid;
            n.mtime = at.wall_ms;
            n.stat()
        });
        if may_be_swept {
            self.sweepable.enter(slot, self.nodes.get(slot));
        }
        if !self.quotas.is_empty() {
            self.use_quota(path, 0, new_len - old_len);
        }
        Ok(Set { stat, readers, over_quota })
    }

    /// Checks a node's version.
    ///
    /// # Errors
    /// In this order: `BadArguments` for an invalid path, `NoNode`, `NoAuth`, `BadVersion`.
    pub fn check(&self, path: &str, version: i32, by: Writer<'_>) -> Result<(), ErrorCode> {
        if !path::is_valid(path) {
            return Err(ErrorCode::BadArguments);
        }
        let slot = self.find(path).ok_or(ErrorCode::NoNode)?;
        self.permit(slot, perms::READ, &by)?;
        check_version(version, self.nodes.get(slot).version)
    }

    /// Replaces a node's ACL, by one that is fixed up; `None` is open to everyone. The path is valid. Panics
    /// where it might have to be undone.
    ///
    /// # Errors
    /// In this order: `NoNode`, `NoAuth`, `BadVersion`. Nothing has changed then.
    pub fn set_acl(
        &mut self,
        path: &str,
        acl: Option<&[Acl]>,
        version: i32,
        by: Writer<'_>,
    ) -> Result<Stat, ErrorCode> {
        assert!(self.undo.is_none(), "no multi sets an ACL");
        let slot = self.find(path).ok_or(ErrorCode::NoNode)?;
        self.permit(slot, perms::ADMIN, &by)?;
        let node = self.nodes.get(slot);
        check_version(version, node.aversion)?;
        let old = node.acl;
        let before = node.hash(self.acls.hash(old));
        let new = acl.map_or(AclId::OPEN, |acl| self.acls.hold(acl));
        let node = self.nodes.get_mut(slot);
        node.acl = new;
        node.aversion = next_version(node.aversion);
        self.sums.change(slot, before, node.hash(self.acls.hash(new)));
        let stat = node.stat();
        self.acls.release(old);
        Ok(stat)
    }

    /// Lets a test put a node's counters where a test can't bring them by honest work.
    #[cfg(test)]
    pub(super) fn force(&mut self, path: &str, f: impl FnOnce(&mut Node)) {
        let slot = self.find(path).expect("it is there");
        self.change(slot, f);
    }
}
