//! What is replicated? The tree and the sessions, changed by [`State::apply`] alone, one record of the log
//! after the other: equal positions, equal states, on every node. Invariant ZK-5.

mod acl;
pub(crate) mod apply;
mod image;
mod import;
mod outline;
mod record;
mod sessions;
mod write;

pub use crate::tree::{Candidate, ChildNames, Damage, NodeView, Place};
pub(crate) use image::{Image, StateLoader};
pub use outline::Outline;
pub use record::{encode, encode_with, is_txn, shows_applied, skips};
pub use sessions::Session;

use crate::access::Caller;
use crate::jute::ErrorCode;
use crate::tree::{Slot, Tree, hash_words};
use crate::txn::{Acl, Stat};
use sessions::Sessions;
use std::collections::BTreeSet;
use zoolog_core::Gsn;

/// Highest version of the rules of [`State::apply`] that this build knows. New services begin with it. By the
/// rules of version 1, ACLs are stored and don't count, and there are neither containers, times to live, multis
/// nor `setACL`; by those of version 2 nothing is imported.
pub const APPLY_VERSION_MAX: u32 = 3;

/// Records passed over that a state remembers: of older ones, what says so lies far behind, too.
pub(crate) const SKIPPED_MAX: usize = 1024;

/// The replicated state of a ZooKeeper service after the first [`State::applied`] records of its log.
#[derive(Debug)]
pub struct State {
    tree: Tree,
    sessions: Sessions,
    applied: Gsn,
    apply_version: u32,
    /// Records that were passed over because one behind them says so: the newest of them.
    skipped: BTreeSet<Gsn>,
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

/// What a reply's header carries and Stats are stamped with: the zxid of the last record before `applied`.
fn zxid(applied: Gsn) -> i64 {
    i64::try_from(applied.0).expect("zxids are positive")
}

impl State {
    /// The state before the first record.
    pub fn new() -> Self {
        Self {
            tree: Tree::new(),
            sessions: Sessions::default(),
            applied: Gsn(0),
            apply_version: APPLY_VERSION_MAX,
            skipped: BTreeSet::new(),
        }
    }

    /// The same, of a service that began by the rules of that version.
    #[cfg(test)]
    pub(crate) fn by_rules(apply_version: u32) -> Self {
        Self { apply_version, ..Self::new() }
    }

    /// First GSN not applied yet.
    pub const fn applied(&self) -> Gsn {
        self.applied
    }

    /// zxid of the last applied record, 0 before the first: what headers of replies carry.
    pub fn zxid(&self) -> i64 {
        zxid(self.applied)
    }

    /// Version of the rules by which records are applied. Above [`APPLY_VERSION_MAX`] this build doesn't
    /// know them and rejects everything: the node must stop, its state is no longer that of the others.
    pub const fn apply_version(&self) -> u32 {
        self.apply_version
    }

    /// Hash of all of it; nodes with equal [`State::applied`] agree in it.
    pub fn hash(&self) -> u64 {
        self.combine(self.tree.hash(), self.sessions.hash())
    }

    /// The same, computed from everything that is stored instead of kept along. For checks: it reads
    /// everything. Panics where what is kept along contradicts what is stored.
    pub fn hash_from_scratch(&self) -> u64 {
        let owned: usize = self.sessions.iter().map(|(_, s)| s.ephemeral_count()).sum();
        assert_eq!(owned, self.tree.ephemerals(), "ephemerals of sessions, and in the tree");
        self.combine(self.tree.hash_from_scratch(), self.sessions.hash_from_scratch())
    }

    /// How many calls of [`State::look_at_memory`] go once through all nodes, if their data is small.
    pub fn pages(&self) -> usize {
        self.tree.pages()
    }

    /// Looks whether some nodes, from `at` on, are still what was stored: about a thousand, and about `bytes` of data at
    /// most. Returns where to go on; the default place once all were looked at.
    ///
    /// # Errors
    /// What is not, and where.
    pub fn look_at_memory(&self, at: Place, bytes: usize) -> Result<Place, Damage> {
        self.tree.look_at_memory(at, bytes)
    }

    /// Changes a bit of what is stored, as broken memory does: for tests of those that are to find it. Says what.
    #[doc(hidden)]
    pub fn flip_a_bit(&mut self, choice: u64) -> String {
        self.tree.flip_a_bit(choice)
    }

    /// Why a record is rejected that was: for a person.
    pub fn why_rejected(&self, record: &[u8]) -> String {
        if self.apply_version > APPLY_VERSION_MAX {
            return format!("the state follows rules of version {}", self.apply_version);
        }
        record::why_none(record)
            .unwrap_or_else(|| "by the rules of this version it asks for what can't be".into())
    }

    /// Whether the record at `gsn` was passed over, since one behind it says so.
    pub fn has_skipped(&self, gsn: Gsn) -> bool {
        self.skipped.contains(&gsn)
    }

    fn combine(&self, tree: u64, sessions: u64) -> u64 {
        hash_words(&[tree, sessions, self.applied.0, u64::from(self.apply_version)])
    }

    /// The node at `path`. The empty path is the root, too; a malformed one has no node.
    ///
    /// # Errors
    /// `NoNode`.
    pub fn look(&self, path: &str) -> Result<NodeView<'_>, ErrorCode> {
        self.tree.look(path)
    }

    /// The node at `path`, if the caller has one of the permissions `wanted` on it.
    ///
    /// # Errors
    /// `NoNode`, `NoAuth`.
    pub fn look_as(&self, path: &str, wanted: i32, caller: &Caller<'_>) -> Result<NodeView<'_>, ErrorCode> {
        let node = self.tree.look(path)?;
        if node.permits(wanted, caller) { Ok(node) } else { Err(ErrorCode::NoAuth) }
    }

    /// Data and Stat of a node.
    ///
    /// # Errors
    /// `NoNode`.
    pub fn get(&self, path: &str) -> Result<(Option<&[u8]>, Stat), ErrorCode> {
        self.look(path).map(|n| (n.data(), n.stat()))
    }

    /// Stat of a node.
    ///
    /// # Errors
    /// `NoNode`.
    pub fn stat(&self, path: &str) -> Result<Stat, ErrorCode> {
        self.look(path).map(|n| n.stat())
    }

    /// Names of a node's children, in order, and its Stat.
    ///
    /// # Errors
    /// `NoNode`.
    pub fn children(&self, path: &str) -> Result<(ChildNames<'_>, Stat), ErrorCode> {
        self.look(path).map(|n| (n.children(), n.stat()))
    }

    /// ACL and Stat of a node.
    ///
    /// # Errors
    /// `NoNode`.
    pub fn acl(&self, path: &str) -> Result<(&[Acl], Stat), ErrorCode> {
        self.look(path).map(|n| (n.acl(), n.stat()))
    }

    /// Whether a quota is set anywhere.
    pub fn has_quotas(&self) -> bool {
        self.tree.has_quotas()
    }

    /// Whether there are containers without children, or nodes with a time to live: they will be swept.
    pub fn has_sweepable(&self) -> bool {
        self.tree.has_sweepable()
    }

    /// Up to `max` nodes that may be swept when the wall clock says `wall_ms`.
    pub fn to_sweep(&self, wall_ms: u64, max: usize) -> Vec<Candidate> {
        self.tree.to_sweep(i64::try_from(wall_ms).unwrap_or(i64::MAX), max)
    }

    /// A session that lives.
    pub fn session(&self, id: i64) -> Option<&Session> {
        self.sessions.get(id)
    }

    /// All sessions, by id.
    pub fn sessions(&self) -> impl ExactSizeIterator<Item = (i64, &Session)> {
        self.sessions.iter()
    }

    /// Paths of a session's ephemerals, in order; none if it doesn't live.
    pub fn ephemerals(&self, session: i64) -> Vec<String> {
        self.some_ephemerals(session, usize::MAX)
    }

    /// Where a session's ephemerals are, in order of their places.
    pub fn ephemeral_slots(&self, session: i64) -> Vec<Slot> {
        self.sessions.get(session).into_iter().flat_map(|s| &s.ephemerals).copied().collect()
    }

    /// The path of the node at that place.
    ///
    /// # Panics
    /// If there is none.
    pub fn path_of(&self, slot: Slot) -> String {
        self.tree.path_of(slot)
    }

    /// The paths of up to `max` of them.
    pub fn some_ephemerals(&self, session: i64, max: usize) -> Vec<String> {
        let slots = self.sessions.get(session).into_iter().flat_map(|s| &s.ephemerals).take(max);
        let mut paths: Vec<_> = slots.map(|&slot| self.tree.path_of(slot)).collect();
        paths.sort_unstable();
        paths
    }

    /// Number of nodes, the four built-in ones included.
    pub const fn znode_count(&self) -> usize {
        self.tree.len()
    }

    /// Number of ephemeral nodes.
    pub const fn ephemeral_count(&self) -> usize {
        self.tree.ephemerals()
    }

    /// Bytes that a snapshot being taken holds because nodes have changed since it began.
    pub fn image_bytes(&self) -> usize {
        self.tree.image_bytes()
    }

    /// Bytes of all paths and data, as ZooKeeper counts its "approximate data size".
    pub const fn data_bytes(&self) -> u64 {
        self.tree.bytes()
    }
}

#[cfg(test)]
mod tests;
