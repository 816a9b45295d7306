//! How is the state taken apart for a snapshot, and put together again? What is small is copied when the image
//! begins; the nodes follow in turns, see [`tree::walk`](crate::tree).

use super::{Sessions, State};
use crate::tree::{Tree, TreeLoader};
use crate::txn::Acl;
use std::sync::Arc;
use zoolog_core::Gsn;

/// Bytes of a session in a snapshot.
const SESSION_BYTES: usize = 28;

/// What is known of an image from its start.
#[derive(Debug)]
pub(crate) struct Image {
    /// First GSN that it doesn't hold.
    pub applied: Gsn,
    /// As [`State::apply_version`].
    pub apply_version: u32,
    /// As [`State::hash`].
    pub hash: u64,
    /// Number of nodes.
    pub znodes: u64,
    /// All sessions.
    pub sessions: Vec<u8>,
    /// Number of sessions.
    pub session_count: u64,
    /// The ACLs that nodes use, by number, but the open one.
    pub acls: Vec<(u32, Arc<[Acl]>)>,
}

impl Image {
    /// Bytes that [`Image::sessions`] can be cut into multiples of.
    pub const SESSION_BYTES: usize = SESSION_BYTES;
}

impl State {
    /// Begins an image of the state as it is now: what is applied from now on is not in it. Panics while one
    /// is being taken.
    pub(crate) fn begin_image(&mut self) -> Image {
        let mut sessions = Vec::with_capacity(self.sessions.iter().len() * SESSION_BYTES);
        for (id, s) in self.sessions.iter() {
            sessions.extend_from_slice(&id.to_le_bytes());
            sessions.extend_from_slice(&s.timeout_ms.to_le_bytes());
            sessions.extend_from_slice(&s.attach.0.to_le_bytes());
            sessions.extend_from_slice(&s.touch.0.to_le_bytes());
        }
        Image {
            applied: self.applied,
            apply_version: self.apply_version,
            hash: self.hash(),
            znodes: self.tree.len() as u64,
            sessions,
            session_count: self.sessions.iter().len() as u64,
            acls: self.tree.begin_image(),
        }
    }

    /// As [`Tree::go_on_imaging`].
    pub(crate) fn go_on_imaging(&mut self, out: &mut Vec<u8>, bytes: usize, slots: u32) -> bool {
        self.tree.go_on_imaging(out, bytes, slots)
    }

    /// Gives the image up, if one is being taken.
    pub(crate) fn end_image(&mut self) {
        self.tree.end_image();
    }
}

/// A state in the making.
#[derive(Debug)]
pub(crate) struct StateLoader {
    /// Where ACLs and nodes go.
    pub tree: TreeLoader,
    sessions: Sessions,
}

impl StateLoader {
    pub fn new() -> Self {
        Self { tree: TreeLoader::new(), sessions: Sessions::default() }
    }

    /// Sessions, a whole number of them. Returns how many.
    pub fn sessions(&mut self, bytes: &[u8]) -> Result<u64, &'static str> {
        let (all, rest) = bytes.as_chunks::<SESSION_BYTES>();
        if !rest.is_empty() {
            return Err("a session is cut off");
        }
        for s in all {
            let u64_at = |at: usize| u64::from_le_bytes(s[at..at + 8].try_into().expect("8 bytes"));
            let timeout_ms = u32::from_le_bytes(s[8..12].try_into().expect("4 bytes"));
            if !self.sessions.restore(u64_at(0) as i64, timeout_ms, Gsn(u64_at(12)), Gsn(u64_at(20))) {
                return Err("a session is there twice");
            }
        }
        Ok(all.len() as u64)
    }

    /// All has come: the state, if that is its hash.
    pub fn finish(self, applied: Gsn, apply_version: u32, hash: u64) -> Result<State, String> {
        let (tree, ephemerals): (Tree, _) = self.tree.finish()?;
        let mut sessions = self.sessions;
        for (session, slot) in ephemerals {
            if !sessions.restore_ephemeral(session, slot) {
                return Err(format!("session {session:#x} of an ephemeral is missing"));
            }
        }
        let state = State { tree, sessions, applied, apply_version };
        let found = state.hash();
        if found == hash { Ok(state) } else { Err(format!("its hash is {found:016x}, not {hash:016x}")) }
    }
}
