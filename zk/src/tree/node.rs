//! What is stored of one node? As little as its Stat, identity and hash need: 128 bytes, name and data apart.

use super::acls::AclId;
use super::children::Children;
use super::slab::Slot;
use crate::txn::Stat;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// One node. Its path is its name behind its parent's path.
#[derive(Debug)]
pub struct Node {
    /// Last component of its path; empty for the root only.
    pub name: Box<str>,
    /// The node above; the root is its own.
    pub parent: Slot,
    /// Who may do what.
    pub acl: AclId,
    /// `None` is ZooKeeper's null.
    pub data: Option<Box<[u8]>>,
    /// `None` while there are none.
    pub children: Option<Box<Children>>,
    /// Children ever created below it: sequence numbers and the cversion rest on it. Never decreases.
    pub created: u64,
    /// Session of an ephemeral, or another mark of its [`Lifetime`](super::Lifetime); 0 if it is persistent.
    pub owner: i64,
    /// zxid of its creation.
    pub czxid: i64,
    /// zxid of its last change of data.
    pub mzxid: i64,
    /// zxid of the last change of its children, or of its creation.
    pub pzxid: i64,
    /// Wall clock of its creation, ms.
    pub ctime: i64,
    /// Wall clock of its last change of data, ms.
    pub mtime: i64,
    /// Changes of data.
    pub version: i32,
    /// Changes of ACL.
    pub aversion: i32,
    /// Hash of its path: where the index has it.
    pub path_hash: u64,
    /// Hash of its data, so that a change elsewhere in it needs not read the data again.
    pub data_hash: u64,
}

// What a million znodes cost is decided here.
const _: () = assert!(size_of::<Node>() <= 128 && size_of::<Option<Node>>() <= 128);

/// Hash of the root's path.
pub const ROOT_HASH: u64 = 0;

/// Hash of the path that adds `name` to the path of hash `parent`.
pub fn child_hash(parent: u64, name: &[u8]) -> u64 {
    xxh3_64_with_seed(name, parent)
}

/// Hash of a node's data, telling null from empty.
pub fn data_hash(data: Option<&[u8]>) -> u64 {
    data.map_or(0, xxh3_64)
}

impl Node {
    /// Number of its children.
    pub fn num_children(&self) -> usize {
        self.children.as_ref().map_or(0, |c| c.len())
    }

    /// Number of all nodes below it.
    pub fn descendants(&self) -> u64 {
        self.children.as_ref().map_or(0, |c| c.len() as u64 + c.below)
    }

    /// Whether it belongs to a session.
    pub const fn is_ephemeral(&self) -> bool {
        self.owner > 0
    }

    /// Bytes of data.
    pub fn data_len(&self) -> usize {
        self.data.as_ref().map_or(0, |d| d.len())
    }

    /// Replaces its data, in place if that is as long.
    pub fn set_data(&mut self, data: Option<&[u8]>) {
        self.data_hash = data_hash(data);
        match (&mut self.data, data) {
            (Some(old), Some(new)) if old.len() == new.len() => old.copy_from_slice(new),
            (old, new) => *old = new.map(Box::from),
        }
    }

    /// What clients see of it. The cversion is creates plus deletes of children, computed from what is
    /// stored; it wraps as an int.
    pub fn stat(&self) -> Stat {
        let num_children = self.num_children();
        Stat {
            czxid: self.czxid,
            mzxid: self.mzxid,
            ctime: self.ctime,
            mtime: self.mtime,
            version: self.version,
            cversion: self.created.wrapping_mul(2).wrapping_sub(num_children as u64) as i32,
            aversion: self.aversion,
            ephemeral_owner: self.owner.max(0),
            data_length: self.data_len() as i32,
            num_children: num_children as i32,
            pzxid: self.pzxid,
        }
    }

    /// Its share of the tree's hash: everything that clients can see of it. `acl_hash` is its ACL's.
    pub fn hash(&self, acl_hash: u64) -> u64 {
        let words = [
            self.path_hash,
            self.data_hash,
            acl_hash,
            self.created,
            self.num_children() as u64,
            self.data.as_ref().map_or(u64::MAX, |d| d.len() as u64),
            self.owner as u64,
            self.czxid as u64,
            self.mzxid as u64,
            self.pzxid as u64,
            self.ctime as u64,
            self.mtime as u64,
            self.version as u64,
            self.aversion as u64,
        ];
        hash_words(&words)
    }
}

/// Hash of numbers, the same on every machine.
pub fn hash_words<const N: usize>(words: &[u64; N]) -> u64 {
    let bytes = words.map(u64::to_le_bytes);
    xxh3_64(bytes.as_flattened())
}
