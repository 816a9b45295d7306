//! How does a node come into the tree as it was elsewhere, with versions and counters that grew there?

use super::node::{Node, child_hash, data_hash};
use super::write::Readers;
use super::{Slot, Tree, path};
use crate::jute::ErrorCode;
use crate::txn::Acl;

/// A node as it was elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct Import<'a> {
    /// Where.
    pub path: &'a str,
    /// `None` is null.
    pub data: Option<&'a [u8]>,
    /// Fixed up; `None` is open to everyone.
    pub acl: Option<&'a [Acl]>,
    /// How long it lives; no ephemeral.
    pub owner: i64,
    /// Children ever created below it, those that follow included.
    pub created: u64,
    /// Its versions: of data, and of the ACL.
    pub versions: [i32; 2],
    /// Wall clock of creation and of the last change, ms.
    pub times: [i64; 2],
}

/// What an import did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Whether it wasn't there before.
    pub is_new: bool,
    /// As of [`Created`](super::Created).
    pub readers: [Readers; 2],
}

impl Tree {
    /// Puts a node there as it was elsewhere, or makes the one that is there like it: its children stay, and it never
    /// forgets how many were created. zxids are this record's. Nobody's permissions and no quotas are asked.
    ///
    /// # Errors
    /// In this order: `BadArguments` for an invalid path or a node of the service's own, `NoNode` without a parent,
    /// `NoChildrenForEphemerals`, `NodeExists` for an ephemeral. Nothing has changed then.
    pub fn import(&mut self, new: Import<'_>, zxid: i64) -> Result<Imported, ErrorCode> {
        let own = path::is_reserved(new.path) || new.path.starts_with("/zookeeper/");
        if !path::is_valid(new.path) || (own && new.path != "/" && !path::is_under_quota(new.path)) {
            return Err(ErrorCode::BadArguments);
        }
        match self.find(new.path) {
            Some(slot) => self.make_like(slot, new, zxid),
            None => self.import_new(new, zxid),
        }
    }

    fn import_new(&mut self, new: Import<'_>, zxid: i64) -> Result<Imported, ErrorCode> {
        let (parent_path, name) = path::split(new.path).ok_or(ErrorCode::BadArguments)?;
        let parent = self.find(parent_path).ok_or(ErrorCode::NoNode)?;
        let above = self.nodes.get(parent);
        if above.is_ephemeral() {
            return Err(ErrorCode::NoChildrenForEphemerals);
        }
        let readers = self.acls.restricting(above.acl);
        let node = Node {
            name: name.into(),
            parent,
            acl: new.acl.map_or(super::acls::AclId::OPEN, |acl| self.acls.hold(acl)),
            data: new.data.map(Box::from),
            children: None,
            created: new.created,
            owner: new.owner,
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime: new.times[0],
            mtime: new.times[1],
            version: new.versions[0],
            aversion: new.versions[1],
            path_hash: child_hash(self.nodes.get(parent).path_hash, name.as_bytes()),
            data_hash: data_hash(new.data),
        };
        // The parent has counted it where it was counted.
        let slot = self.put(node, zxid, 0);
        let data_len = self.nodes.get(slot).data_len();
        self.bytes += (new.path.len() + data_len) as u64;
        self.count_usage(new.path, slot, 1, data_len as i64);
        Ok(Imported { is_new: true, readers: [self.acls.restricting(self.nodes.get(slot).acl), readers] })
    }

    fn make_like(&mut self, slot: Slot, new: Import<'_>, zxid: i64) -> Result<Imported, ErrorCode> {
        let node = self.nodes.get(slot);
        if node.is_ephemeral() {
            return Err(ErrorCode::NodeExists);
        }
        let more = new.data.map_or(0, <[u8]>::len) as i64 - node.data_len() as i64;
        let (old_acl, above) = (node.acl, node.parent);
        self.sweepable.leave(slot, node);
        let before = node.hash(self.acls.hash(old_acl));
        let acl = new.acl.map_or(super::acls::AclId::OPEN, |acl| self.acls.hold(acl));
        let node = self.nodes.get_mut(slot);
        node.set_data(new.data);
        (node.acl, node.owner) = (acl, if new.path == "/" { 0 } else { new.owner });
        node.created = node.created.max(new.created);
        [node.version, node.aversion] = new.versions;
        [node.ctime, node.mtime] = new.times;
        node.mzxid = zxid;
        self.sums.change(slot, before, node.hash(self.acls.hash(acl)));
        self.acls.release(old_acl);
        self.sweepable.enter(slot, self.nodes.get(slot));
        self.bytes = self.bytes.checked_add_signed(more).expect("bytes are counted");
        self.count_usage(new.path, slot, 0, more);
        let readers = [acl, self.nodes.get(above).acl].map(|acl| self.acls.restricting(acl));
        Ok(Imported { is_new: false, readers })
    }

    fn count_usage(&mut self, path: &str, slot: Slot, count: i64, bytes: i64) {
        if path::is_under_quota(path) {
            self.quota_node_came(path, slot);
        }
        if self.has_quotas() {
            self.use_quota(path, count, bytes);
        }
    }
}
