//! How does a state come back from a file? Bytes in, however they are cut; the state out, once all are in and
//! its hash is the one that the snapshot was taken with. Whatever the bytes are, they never panic.

use super::kind;
use crate::state::{APPLY_VERSION_MAX, State, StateLoader};
#[cfg(any(feature = "server", test))]
use crate::tree::Decoded;
use crate::txn::{Acl, AuthId};
use zoolog_core::snapshot::{SnapshotError, Unframer};
use zoolog_core::{ClusterId, Gsn};

/// A snapshot being loaded.
#[derive(Debug)]
pub struct Loader {
    frame: Unframer,
    content: Content,
}

impl Loader {
    /// Of a snapshot of that cluster; 0 takes any.
    pub fn new(cluster: ClusterId) -> Self {
        Self { frame: Unframer::new(cluster), content: Content::new() }
    }

    /// The next bytes of the file.
    ///
    /// # Errors
    /// When the snapshot can't be used. Nothing more must be pushed then.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        let content = &mut self.content;
        let mut piece = |payload: &[u8], last| content.piece(payload, last).map_err(SnapshotError::Content);
        self.frame.push(bytes, &mut piece)
    }

    /// Whether the state has passed over the record at `gsn`, as far as was read: nodes come behind that.
    pub fn has_skipped(&self, gsn: Gsn) -> bool {
        self.content.state.has_skipped(gsn)
    }

    /// All bytes are in: the state, whose [`State::applied`] is the snapshot's position.
    ///
    /// # Errors
    /// When the file was not whole, or is not what it was when it was written.
    pub fn finish(self) -> Result<State, SnapshotError> {
        let gsn = self.frame.finish()?;
        self.content.finish(gsn).map_err(SnapshotError::Content)
    }
}

/// What the pieces of a file hold, put together.
#[derive(Debug)]
pub(super) struct Content {
    state: StateLoader,
    /// Apply version and counts.
    head: Option<(u32, [u64; 3])>,
    /// Nodes, sessions and ACLs that have come.
    read: [u64; 3],
    /// What the foot says.
    hash: Option<u64>,
}

impl Content {
    pub fn new() -> Self {
        Self { state: StateLoader::new(), head: None, read: [0; 3], hash: None }
    }

    /// The next piece, of which sense was made before.
    #[cfg(any(feature = "server", test))]
    pub fn made(&mut self, piece: Made, last: bool) -> Result<(), String> {
        match piece {
            Made::Nodes(nodes) => {
                self.place(kind::NODES, last)?;
                self.read[0] += self.state.tree.decoded(nodes)?;
                Ok(())
            }
            Made::Other(payload) => self.piece(&payload, last),
        }
    }

    /// Whether a piece of that kind may come now.
    fn place(&self, kind: u8, last: bool) -> Result<(), String> {
        if self.head.is_none() != (kind == kind::HEAD) || last != (kind == kind::FOOT) {
            return Err(format!("a piece of kind {kind} is not in its place"));
        }
        Ok(())
    }

    fn piece(&mut self, payload: &[u8], last: bool) -> Result<(), String> {
        let (&first, mut rest) = payload.split_first().ok_or("an empty piece")?;
        self.place(first, last)?;
        match first {
            kind::HEAD => {
                let version = number(&mut rest)?;
                if version > APPLY_VERSION_MAX {
                    return Err(format!("it follows rules of version {version}, newer than this build's"));
                }
                let counts = [long(&mut rest)?, long(&mut rest)?, long(&mut rest)?];
                self.state.tree.announced(counts[0]);
                self.head = Some((version, counts));
            }
            kind::ACLS => {
                while !rest.is_empty() {
                    let (number, acl) = decode_acl(&mut rest)?;
                    self.state.tree.acl(number, &acl)?;
                    self.read[2] += 1;
                }
            }
            kind::SESSIONS => self.read[1] += self.state.sessions(std::mem::take(&mut rest))?,
            kind::OLD_SESSIONS => self.read[1] += self.state.old_sessions(std::mem::take(&mut rest))?,
            kind::SKIPPED => self.state.skipped(std::mem::take(&mut rest))?,
            kind::NODES => self.read[0] += self.state.tree.nodes(std::mem::take(&mut rest))?,
            kind::FOOT => {
                self.hash = Some(long(&mut rest)?);
                let counts = [long(&mut rest)?, long(&mut rest)?, long(&mut rest)?];
                if counts != self.read {
                    return Err(format!(
                        "it should hold {counts:?} nodes, sessions and ACLs, not {:?}",
                        self.read
                    ));
                }
            }
            other => return Err(format!("a piece of unknown kind {other}")),
        }
        if rest.is_empty() { Ok(()) } else { Err(format!("a piece of kind {first} that is too long")) }
    }

    pub fn finish(self, gsn: Gsn) -> Result<State, String> {
        let (Some((version, counts)), Some(hash)) = (self.head, self.hash) else {
            return Err("head or foot are missing".into());
        };
        if counts != self.read {
            return Err(format!(
                "its head announces {counts:?} nodes, sessions and ACLs, not {:?}",
                self.read
            ));
        }
        if gsn.0 > i64::MAX as u64 {
            return Err(format!("no log gets to {gsn}"));
        }
        self.state.finish(gsn, version, hash)
    }
}

/// A piece of which sense was made as far as that can be done without the others.
#[cfg(any(feature = "server", test))]
pub(super) enum Made {
    Nodes(Decoded),
    Other(Vec<u8>),
}

#[cfg(any(feature = "server", test))]
impl Made {
    pub fn of(payload: Vec<u8>) -> Self {
        match payload.split_first() {
            Some((&kind::NODES, nodes)) => Self::Nodes(Decoded::of(nodes)),
            _ => Self::Other(payload),
        }
    }
}

fn number(bytes: &mut &[u8]) -> Result<u32, &'static str> {
    let (number, rest) = bytes.split_first_chunk().ok_or("a number is cut off")?;
    *bytes = rest;
    Ok(u32::from_le_bytes(*number))
}

fn long(bytes: &mut &[u8]) -> Result<u64, &'static str> {
    let (number, rest) = bytes.split_first_chunk().ok_or("a number is cut off")?;
    *bytes = rest;
    Ok(u64::from_le_bytes(*number))
}

fn text(bytes: &mut &[u8], len: u32) -> Result<String, &'static str> {
    let text = bytes.split_off(..len as usize).ok_or("a text is cut off")?;
    std::str::from_utf8(text).map(str::to_owned).map_err(|_| "a text is not UTF-8")
}

fn decode_acl(bytes: &mut &[u8]) -> Result<(u32, Vec<Acl>), &'static str> {
    let (id, entries) = (number(bytes)?, number(bytes)?);
    let mut acl = Vec::new();
    for _ in 0..entries {
        let (perms, scheme, identity) = (number(bytes)? as i32, number(bytes)?, number(bytes)?);
        let id = AuthId { scheme: text(bytes, scheme)?, id: text(bytes, identity)? };
        acl.push(Acl { perms, id });
    }
    Ok((id, acl))
}
