//! What has an earlier life of a node got of another's snapshot? Bytes from its beginning on, and what they come to so far.

use super::Load;
use zoolog_core::ClusterId;
#[cfg(feature = "rt")]
use zoolog_core::Gsn;
#[cfg(feature = "rt")]
use zoolog_core::rt::snapshots::SnapshotStore;
use zoolog_core::snapshot::SnapshotError;
use zoolog_core::wire::SnapshotAt;

/// Another node's snapshot that was begun with.
#[derive(Debug)]
pub struct Begun<L> {
    pub(super) of: SnapshotAt,
    pub(super) loader: L,
    pub(super) bytes: u64,
    pub(super) crc: u32,
}

impl<L: Load> Begun<L> {
    /// Nothing of that one, which is of that cluster; 0 takes any.
    pub fn new(of: SnapshotAt, cluster: ClusterId) -> Self {
        Self::of_structure(of, cluster, "")
    }

    /// The same, of that structure, if there are several kinds.
    pub fn of_structure(of: SnapshotAt, cluster: ClusterId, structure: &str) -> Self {
        Self { of, loader: L::begin(cluster, structure), bytes: 0, crc: 0 }
    }

    /// The next bytes that are on the disk.
    ///
    /// # Errors
    /// When they are of no use. Nothing more must be pushed then.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.loader.push(bytes)?;
        self.bytes += bytes.len() as u64;
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        Ok(())
    }

    /// What of another's snapshot lies in the directory of that node, whose state is as of `applied`. What can't be gone on with is
    /// removed.
    ///
    /// # Errors
    /// Text for a person: the directory can't be read, or not changed.
    #[cfg(feature = "rt")]
    pub fn on_disk(
        node: &str,
        store: &SnapshotStore,
        (cluster, structure): (ClusterId, &str),
        applied: Gsn,
    ) -> Result<Option<Self>, String> {
        let Some(part) = store.part()? else { return Ok(None) };
        let mut begun = Self::of_structure(part.of, cluster, structure);
        let (of, bytes) = (part.of, part.bytes);
        let outcome = match of.gsn > applied {
            true => store.read_part(&part, &mut |bytes| begun.push(bytes)),
            false => Err(format!("{} is of no use any more", part.path.display())),
        };
        match outcome {
            Ok(()) => {
                tracing::info!(
                    node,
                    "{bytes} of {} bytes of another's snapshot at {} are here",
                    of.bytes,
                    of.gsn
                );
                Ok(Some(begun))
            }
            Err(why) => {
                tracing::warn!(node, "{why}; it is removed");
                store.remove_part(&part).map(|()| None)
            }
        }
    }

    /// How many there are.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Which it is of.
    pub const fn of(&self) -> SnapshotAt {
        self.of
    }
}
