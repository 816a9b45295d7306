//! What does a snapshot look like in its file? Pieces in the frame of [`zoolog_core::snapshot`], behind a byte that says which:
//!
//! | byte | piece | holds |
//! |---|---|---|
//! | 1 | head, first | format u32, version u16, zero u16, structure u64, number of skips u32, position u64 of each |
//! | 2 | data, any number | bytes of the [`Image`] |
//! | 3 | foot, last | bytes of all data u64, state hash u64 |
//!
//! Numbers are little-endian; version and structure are those of the log's entries. The skips are those that were passed over
//! before the snapshot, and whose entries may lie behind it.

use super::machine::{Image, StateMachine};
use super::record::Writing;
use std::collections::BTreeSet;
use zoolog_core::snapshot::{Framer, SnapshotError, Unframer};
use zoolog_core::{ClusterId, Gsn};

const FORMAT: u32 = 1;
const HEAD: u8 = 1;
const DATA: u8 = 2;
const FOOT: u8 = 3;
/// Bytes before the positions of skips.
const HEAD_BYTES: usize = 20;
/// Bytes of one piece of data at most.
const DATA_BYTES_MAX: usize = 1 << 20;
/// Skips that a state remembers.
pub(super) const SKIPS_MAX: usize = 1024;

/// What a node starts from.
#[derive(Clone, Debug)]
pub struct Restored<S> {
    /// The state.
    pub state: S,
    /// First position that it doesn't hold: where the log is to be gone on with.
    pub at: Gsn,
    /// Position of the snapshot that it came from; `None` if it is that before the first command.
    pub newest: Option<Gsn>,
    /// Position of the next older one that is good: what lies before it in the log, this node won't need again.
    pub second_newest: Option<Gsn>,
    /// Positions that are to be passed over, since entries behind them say so.
    pub skips: BTreeSet<Gsn>,
    /// Whether the log is to be searched for skips before anything is applied: after a life that ended with
    /// [`ReplicatedEvent::Failed`](super::ReplicatedEvent::Failed) and a position, as long as `at` is not beyond that with
    /// it in `skips`.
    pub beware: bool,
}

impl<S: Default> Default for Restored<S> {
    fn default() -> Self {
        let (newest, second_newest) = (None, None);
        let (skips, beware) = (BTreeSet::new(), false);
        Self { state: S::default(), at: Gsn(0), newest, second_newest, skips, beware }
    }
}

/// A snapshot being taken: the file's bytes, a piece at a time.
#[derive(Debug)]
pub(super) struct Taking {
    pub gsn: Gsn,
    framer: Framer,
    begun: Vec<u8>,
    image: Image,
    /// What of the image's newest piece is not written yet.
    rest: Vec<u8>,
    rest_at: usize,
    data_bytes: u64,
    hash: u64,
}

impl Taking {
    /// Of the state as it is at `gsn`.
    pub fn begin<S: StateMachine>(
        state: &S,
        gsn: Gsn,
        skips: &BTreeSet<Gsn>,
        cluster: ClusterId,
        writing: Writing,
    ) -> Self {
        let mut begun = Vec::new();
        let mut framer = Framer::begin(&mut begun, cluster, gsn);
        framer.piece(&mut begun, false, |out| {
            out.push(HEAD);
            out.extend_from_slice(&FORMAT.to_le_bytes());
            out.extend_from_slice(&S::VERSION.to_le_bytes());
            out.extend_from_slice(&[0; 2]);
            out.extend_from_slice(&writing.structure().to_le_bytes());
            out.extend_from_slice(&(skips.len() as u32).to_le_bytes());
            skips.iter().for_each(|gsn| out.extend_from_slice(&gsn.0.to_le_bytes()));
        });
        let (image, hash) = (state.snapshot(), state.state_hash());
        Self { gsn, framer, begun, image, rest: Vec::new(), rest_at: 0, data_bytes: 0, hash }
    }

    /// The next bytes of the file, and whether they are the last.
    pub fn next(&mut self) -> (Vec<u8>, bool) {
        let mut out = std::mem::take(&mut self.begun);
        while self.rest_at == self.rest.len() {
            let Some(rest) = self.image.next() else {
                let (data_bytes, hash) = (self.data_bytes, self.hash);
                self.framer.piece(&mut out, true, |out| {
                    out.push(FOOT);
                    out.extend_from_slice(&data_bytes.to_le_bytes());
                    out.extend_from_slice(&hash.to_le_bytes());
                });
                return (out, true);
            };
            (self.rest, self.rest_at) = (rest, 0);
        }
        let data = &self.rest[self.rest_at..];
        let data = &data[..data.len().min(DATA_BYTES_MAX)];
        self.framer.piece(&mut out, false, |out| {
            out.push(DATA);
            out.extend_from_slice(data);
        });
        self.data_bytes += data.len() as u64;
        self.rest_at += data.len();
        (out, false)
    }
}

/// The state again, from the bytes of a file, however they are cut. Holds all of the image in memory.
#[derive(Debug)]
pub struct Loader {
    unframer: Unframer,
    parts: Parts,
}

#[derive(Debug)]
struct Parts {
    writing: Writing,
    version: u16,
    headed: bool,
    skips: BTreeSet<Gsn>,
    data: Vec<u8>,
    foot: Option<(u64, u64)>,
}

fn content(why: impl Into<String>) -> SnapshotError {
    SnapshotError::Content(why.into())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

impl Parts {
    fn take(&mut self, payload: &[u8], last: bool) -> Result<(), SnapshotError> {
        let (&kind, rest) = payload.split_first().ok_or_else(|| content("an empty piece"))?;
        match kind {
            HEAD if !self.headed && !last => self.head(rest),
            DATA if self.headed && !last => {
                self.data.extend_from_slice(rest);
                Ok(())
            }
            FOOT if self.headed && last && rest.len() == 16 => {
                self.foot = Some((u64_at(rest, 0), u64_at(rest, 8)));
                Ok(())
            }
            other => Err(content(format!("a piece of kind {other} where none belongs"))),
        }
    }

    fn head(&mut self, head: &[u8]) -> Result<(), SnapshotError> {
        let Some((fixed, skips)) = head.split_at_checked(HEAD_BYTES) else {
            return Err(content("a head that is too short"));
        };
        let format = u32::from_le_bytes(fixed[..4].try_into().expect("4 bytes"));
        if format != FORMAT {
            return Err(content(format!("its image has format {format}, this build knows {FORMAT}")));
        }
        let version = u16::from_le_bytes([fixed[4], fixed[5]]);
        if version > self.version {
            let ours = self.version;
            return Err(content(format!("a build of version {version} wrote it, this one is {ours}")));
        }
        if u64_at(fixed, 8) != self.writing.structure() {
            return Err(content("it is of a structure with another name"));
        }
        let count = u32::from_le_bytes(fixed[16..20].try_into().expect("4 bytes")) as usize;
        if count > SKIPS_MAX || skips.len() != count * 8 {
            return Err(content("skips that don't add up"));
        }
        self.skips = (0..count).map(|i| Gsn(u64_at(skips, i * 8))).collect();
        self.headed = true;
        Ok(())
    }
}

impl Loader {
    /// For a snapshot of that cluster (0 takes any), of the structure `name`.
    pub fn new<S: StateMachine>(cluster: ClusterId, name: &str) -> Self {
        let writing = Writing::new(name, S::VERSION);
        let (skips, data, foot) = (BTreeSet::new(), Vec::new(), None);
        let parts = Parts { writing, version: S::VERSION, headed: false, skips, data, foot };
        Self { unframer: Unframer::new(cluster), parts }
    }

    /// Takes the next bytes of the file.
    ///
    /// # Errors
    /// When it can't be used. Nothing more must be pushed then.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        let Self { unframer, parts } = self;
        unframer.push(bytes, |payload, last| parts.take(payload, last))
    }

    /// Positions that the state has passed over, as far as they were read.
    pub fn skips(&self) -> &BTreeSet<Gsn> {
        &self.parts.skips
    }

    /// The file has come to its end: the state in it, whose hash is that of the state it was made from.
    ///
    /// # Errors
    /// When the file, or the state, is not whole.
    pub fn finish<S: StateMachine>(self) -> Result<Restored<S>, SnapshotError> {
        let at = self.unframer.finish()?;
        let Parts { data, foot, skips, .. } = self.parts;
        let (bytes, hash) = foot.ok_or_else(|| content("no foot"))?;
        if bytes != data.len() as u64 {
            return Err(content(format!("an image of {} bytes, it says {bytes}", data.len())));
        }
        let state = S::restore(&data).map_err(SnapshotError::Content)?;
        drop(data);
        let found = state.state_hash();
        if found != hash {
            return Err(content(format!(
                "the state has the hash {found:016x}, and was made from one with {hash:016x}"
            )));
        }
        Ok(Restored { state, at, newest: Some(at), second_newest: None, skips, beware: false })
    }
}
