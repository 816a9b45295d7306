//! How does a snapshot become a file? In pieces, one per call, each so short that requests hardly notice;
//! between calls the state may change as it likes.

use super::kind;
use crate::state::{Damage, Image, State};
use crate::txn::Acl;
use bytes::Bytes;
use zoolog_core::snapshot::Framer;
use zoolog_core::{ClusterId, Gsn};

/// How much is done at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Bytes of a piece: it ends with what takes it to that length. Default 256 KiB: a third of a millisecond
    /// of work.
    pub piece_bytes: usize,
    /// Places of nodes looked at for a piece at most, whether there is a node or not. Default 32,768.
    pub piece_slots: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { piece_bytes: 256 << 10, piece_slots: 32_768 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Head,
    Acls,
    Skipped,
    Sessions,
    Nodes,
    Foot,
    Done,
}

/// A snapshot being taken of a state.
#[derive(Debug)]
pub struct Taking {
    image: Image,
    cluster: ClusterId,
    pace: Pace,
    framer: Option<Framer>,
    stage: Stage,
    /// ACLs, or bytes of sessions, that are in the file already.
    written: usize,
    damage: Option<Damage>,
}

impl Taking {
    /// Begins a snapshot of `state` as it is now. Panics while one is being taken of it.
    pub fn begin(state: &mut State, cluster: ClusterId, pace: Pace) -> Self {
        let image = state.begin_image();
        Self { image, cluster, pace, framer: None, stage: Stage::Head, written: 0, damage: None }
    }

    /// Its position: the first record that it doesn't hold.
    pub const fn gsn(&self) -> Gsn {
        self.image.applied
    }

    /// What was found damaged, if anything: then it must be given up.
    pub fn damage(&self) -> Option<&Damage> {
        self.damage.as_ref()
    }

    /// Gives it up.
    pub fn abandon(self, state: &mut State) {
        state.end_image();
    }

    /// The next bytes of the file, and whether they are the last. `state` is the one it was begun on. Panics
    /// after the last.
    pub fn next(&mut self, state: &mut State) -> (Bytes, bool) {
        let mut out = Vec::with_capacity(self.pace.piece_bytes + (16 << 10));
        let mut framer = match self.framer.take() {
            Some(framer) => framer,
            None => Framer::begin(&mut out, self.cluster, self.image.applied),
        };
        // The small sections come together, so that a small state is one piece of work.
        while self.stage != Stage::Done && out.len() < self.pace.piece_bytes {
            let walked = self.stage == Stage::Nodes;
            framer.piece(&mut out, self.stage == Stage::Foot, |out| self.fill(state, out));
            if walked && self.stage == Stage::Nodes {
                break;
            }
        }
        self.framer = Some(framer);
        (out.into(), self.stage == Stage::Done)
    }

    /// Fills the next piece of the frame.
    fn fill(&mut self, state: &mut State, out: &mut Vec<u8>) {
        let image = &self.image;
        let counts = [image.znodes, image.session_count, image.acls.len() as u64];
        match self.stage {
            Stage::Head => {
                out.push(kind::HEAD);
                out.extend_from_slice(&image.apply_version.to_le_bytes());
                out.extend_from_slice(counts.map(u64::to_le_bytes).as_flattened());
                self.stage = Stage::Acls;
            }
            Stage::Acls => {
                out.push(kind::ACLS);
                let start = out.len();
                while let Some((number, acl)) = image.acls.get(self.written) {
                    encode_acl(out, *number, acl.acl());
                    self.written += 1;
                    if out.len() - start >= self.pace.piece_bytes {
                        return;
                    }
                }
                let next = if image.skipped.is_empty() { Stage::Sessions } else { Stage::Skipped };
                (self.stage, self.written) = (next, 0);
            }
            Stage::Skipped => {
                out.push(kind::SKIPPED);
                out.extend_from_slice(&image.skipped);
                self.stage = Stage::Sessions;
            }
            Stage::Sessions => {
                out.push(kind::SESSIONS);
                let left = &image.sessions[self.written..];
                let whole = (self.pace.piece_bytes / Image::SESSION_BYTES).max(1) * Image::SESSION_BYTES;
                let take = left.len().min(whole);
                out.extend_from_slice(&left[..take]);
                self.written += take;
                if self.written == image.sessions.len() {
                    self.stage = Stage::Nodes;
                }
            }
            Stage::Nodes => {
                out.push(kind::NODES);
                // A call that gets nowhere would be the last one, too.
                let bytes = self.pace.piece_bytes.max(out.len() + 1);
                match state.go_on_imaging(out, bytes, self.pace.piece_slots) {
                    Ok(false) => {}
                    Ok(true) => self.stage = Stage::Foot,
                    Err(damage) => {
                        self.damage.get_or_insert(damage);
                        self.stage = Stage::Foot;
                    }
                }
            }
            Stage::Foot => {
                out.push(kind::FOOT);
                out.extend_from_slice(&image.hash.to_le_bytes());
                out.extend_from_slice(counts.map(u64::to_le_bytes).as_flattened());
                self.stage = Stage::Done;
            }
            Stage::Done => panic!("the snapshot at {} is complete", image.applied),
        }
    }
}

fn encode_acl(out: &mut Vec<u8>, number: u32, acl: &[Acl]) {
    let mut put = |word: u32| out.extend_from_slice(&word.to_le_bytes());
    put(number);
    put(acl.len() as u32);
    for entry in acl {
        let mut put = |word: u32| out.extend_from_slice(&word.to_le_bytes());
        put(entry.perms as u32);
        put(entry.id.scheme.len() as u32);
        put(entry.id.id.len() as u32);
        out.extend_from_slice(entry.id.scheme.as_bytes());
        out.extend_from_slice(entry.id.id.as_bytes());
    }
}
