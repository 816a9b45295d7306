//! How is a multi all or nothing? What it does is done at once, and what that took away is kept until the last op
//! has succeeded; if one fails, everything is undone, the last thing first.
//!
//! Freed slots are used again last freed first, so that undoing gives every node its slot back.

use super::node::Node;
use super::slab::Slot;
use super::{Tree, acls::AclId};

/// What undoes one change.
#[derive(Debug)]
pub enum Undo {
    /// A node came to be.
    Created {
        /// Where.
        slot: Slot,
        /// Its parent's, before.
        created: u64,
        /// Its parent's, before.
        pzxid: i64,
    },
    /// A node went. It still holds its ACL.
    Deleted {
        /// Where it was.
        slot: Slot,
        /// It.
        node: Box<Node>,
        /// Its parent's, before.
        pzxid: i64,
    },
    /// A node's data was set: what was there.
    Data {
        /// Where.
        slot: Slot,
        data: Option<Box<[u8]>>,
        data_hash: u64,
        version: i32,
        mzxid: i64,
        mtime: i64,
    },
    /// A path has limits, or has none any more: where they were.
    Limits { of: String, was: Option<Slot> },
}

/// A node that has come or gone because a change was undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undone {
    /// It is not there any more.
    Created(Slot, i64),
    /// It is there again.
    Deleted(Slot, i64),
}

impl Tree {
    /// What is done from now on may have to be undone.
    pub fn begin_changes(&mut self) {
        assert!(self.undo.is_none(), "changes are begun twice");
        self.undo = Some(Vec::new());
    }

    /// What was done stays.
    pub fn keep_changes(&mut self) {
        for undo in self.undo.take().expect("changes were begun") {
            if let Undo::Deleted { node, .. } = undo {
                self.acls.release(node.acl);
            }
        }
    }

    /// What was done is undone, except in what `f` is told of: owners of nodes, other than 0.
    pub fn undo_changes(&mut self, mut f: impl FnMut(Undone)) {
        for undo in self.undo.take().expect("changes were begun").into_iter().rev() {
            match undo {
                Undo::Created { slot, created, pzxid } => {
                    let bytes = self.path_of(slot).len();
                    let node = self.take(slot, pzxid);
                    self.acls.release(node.acl);
                    self.bytes -= (bytes + node.data_len()) as u64;
                    self.change_quietly(node.parent, |above| above.created = created);
                    f(Undone::Created(slot, node.owner));
                }
                Undo::Deleted { slot, node, pzxid } => {
                    let (owner, data_len) = (node.owner, node.data_len());
                    let back = self.put(*node, pzxid, 0);
                    assert_eq!(back, slot, "a node comes back to its slot");
                    self.bytes += (self.path_of(slot).len() + data_len) as u64;
                    f(Undone::Deleted(slot, owner));
                }
                Undo::Data { slot, data, data_hash, version, mzxid, mtime } => {
                    let now = self.nodes.get(slot).data_len() as i64;
                    let was = data.as_ref().map_or(0, |d| d.len()) as i64;
                    self.bytes = self.bytes.checked_add_signed(was - now).expect("bytes are counted");
                    self.change_quietly(slot, |n| {
                        n.data = data;
                        n.data_hash = data_hash;
                        (n.version, n.mzxid, n.mtime) = (version, mzxid, mtime);
                    });
                }
                Undo::Limits { of, was } => match was {
                    Some(slot) => drop(self.quotas.insert(of, slot)),
                    None => drop(self.quotas.remove(&of)),
                },
            }
        }
    }

    /// Changes a node, and whether it may be swept.
    fn change_quietly(&mut self, slot: Slot, f: impl FnOnce(&mut Node)) {
        self.sweepable.leave(slot, self.nodes.get(slot));
        self.change(slot, f);
        self.sweepable.enter(slot, self.nodes.get(slot));
    }

    /// Keeps a node's data as it is now, in case that its change has to be undone.
    pub(super) fn remember_data(&mut self, slot: Slot) {
        let n = self.nodes.get(slot);
        let (data, data_hash, version) = (n.data.clone(), n.data_hash, n.version);
        let was = Undo::Data { slot, data, data_hash, version, mzxid: n.mzxid, mtime: n.mtime };
        self.undo.as_mut().expect("changes were begun").push(was);
    }
}

// An ACL of a node that went is released when it can't come back any more: its number would be another's.
const _: () = assert!(size_of::<AclId>() == 4);
