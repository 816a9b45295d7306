//! How is the state taken apart for a snapshot, and put together again? What is small is copied when the image
//! begins; the nodes follow in turns, see [`tree::walk`](crate::tree).

use super::{SKIPPED_MAX, Session, Sessions, State};
use crate::access::Rules;
use crate::tree::{Damage, Tree, TreeLoader};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use zoolog_core::Gsn;

/// Bytes of a session in a snapshot.
const SESSION_BYTES: usize = 45;
/// The same, in snapshots of the first kind, which had no addresses.
const OLD_SESSION_BYTES: usize = 28;

/// Which kind of address follows, in 16 bytes.
mod address {
    pub const NONE: u8 = 0;
    pub const V4: u8 = 4;
    pub const V6: u8 = 6;
}

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
    /// Records that were passed over.
    pub skipped: Vec<u8>,
    /// All sessions.
    pub sessions: Vec<u8>,
    /// Number of sessions.
    pub session_count: u64,
    /// The ACLs that nodes use, by number, but the open one.
    pub acls: Vec<(u32, Arc<Rules>)>,
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
            let (kind, bits) = match s.address {
                None => (address::NONE, 0),
                Some(IpAddr::V4(a)) => (address::V4, u128::from(a.to_bits())),
                Some(IpAddr::V6(a)) => (address::V6, a.to_bits()),
            };
            sessions.push(kind);
            sessions.extend_from_slice(&bits.to_le_bytes());
        }
        Image {
            applied: self.applied,
            apply_version: self.apply_version,
            hash: self.hash(),
            znodes: self.tree.len() as u64,
            skipped: self.skipped.iter().flat_map(|gsn| gsn.0.to_le_bytes()).collect(),
            sessions,
            session_count: self.sessions.iter().len() as u64,
            acls: self.tree.begin_image(),
        }
    }

    /// As [`Tree::go_on_imaging`].
    pub(crate) fn go_on_imaging(
        &mut self,
        out: &mut Vec<u8>,
        bytes: usize,
        slots: u32,
    ) -> Result<bool, Damage> {
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
    skipped: BTreeSet<Gsn>,
}

impl StateLoader {
    pub fn new() -> Self {
        Self { tree: TreeLoader::new(), sessions: Sessions::default(), skipped: BTreeSet::new() }
    }

    /// Positions of records that were passed over.
    pub fn skipped(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        let (all, rest) = bytes.as_chunks::<8>();
        self.skipped.extend(all.iter().map(|gsn| Gsn(u64::from_le_bytes(*gsn))));
        if self.skipped.len() > SKIPPED_MAX {
            return Err("more records were passed over than a state remembers");
        }
        if rest.is_empty() { Ok(()) } else { Err("a position is cut off") }
    }

    /// Positions of records that were passed over, as far as they have come.
    pub fn has_skipped(&self, gsn: Gsn) -> bool {
        self.skipped.contains(&gsn)
    }

    /// Sessions, a whole number of them. Returns how many.
    pub fn sessions(&mut self, bytes: &[u8]) -> Result<u64, &'static str> {
        let (all, rest) = bytes.as_chunks::<SESSION_BYTES>();
        for s in all {
            let bits = u128::from_le_bytes(s[29..].try_into().expect("16 bytes"));
            let address = match s[28] {
                address::NONE if bits == 0 => None,
                address::V4 => {
                    let bits = u32::try_from(bits).map_err(|_| "a session's address is too long")?;
                    Some(IpAddr::V4(Ipv4Addr::from_bits(bits)))
                }
                address::V6 => Some(IpAddr::V6(Ipv6Addr::from_bits(bits))),
                _ => return Err("a session's address is of no kind"),
            };
            self.session(s.first_chunk().expect("it begins as the old ones"), address)?;
        }
        if rest.is_empty() { Ok(all.len() as u64) } else { Err("a session is cut off") }
    }

    /// The same, of snapshots of the first kind.
    pub fn old_sessions(&mut self, bytes: &[u8]) -> Result<u64, &'static str> {
        let (all, rest) = bytes.as_chunks::<OLD_SESSION_BYTES>();
        all.iter().try_for_each(|s| self.session(s, None))?;
        if rest.is_empty() { Ok(all.len() as u64) } else { Err("a session is cut off") }
    }

    fn session(&mut self, s: &[u8; OLD_SESSION_BYTES], address: Option<IpAddr>) -> Result<(), &'static str> {
        let u64_at = |at: usize| u64::from_le_bytes(s[at..at + 8].try_into().expect("8 bytes"));
        let timeout_ms = u32::from_le_bytes(s[8..12].try_into().expect("4 bytes"));
        let (id, at) = (u64_at(0) as i64, (Gsn(u64_at(12)), Gsn(u64_at(20))));
        let session = Session::new(id, timeout_ms, at, address);
        if self.sessions.restore(id, session) { Ok(()) } else { Err("a session is there twice") }
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
        let state = State { tree, sessions, applied, apply_version, skipped: self.skipped };
        let found = state.hash();
        if found == hash { Ok(state) } else { Err(format!("its hash is {found:016x}, not {hash:016x}")) }
    }
}
