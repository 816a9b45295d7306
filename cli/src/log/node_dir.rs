//! Whose data lies in a directory? Finds the nodes below it, and says what each of them is.

use crate::exit::{Code, Failure};
use std::path::{Path, PathBuf};
use zoolog_core::rt::datadir::{InspectError, Inspected};
use zoolog_core::wal::segment_number;
use zoolog_core::{ClusterId, ServerId, SlotId};

/// How deep nodes lie below the directory of a `dev`: DIR/nodes/NAME/data/slot-N.
const DEPTH: u32 = 4;

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An orderer, of that id.
    Orderer(u64),
    /// A slot of a data server.
    Slot(SlotId),
    /// A ZooKeeper node.
    Zk,
    /// It doesn't say.
    Unknown,
}

impl Kind {
    /// As a stamp names it.
    fn of(name: &str) -> Self {
        let Some((kind, number)) = name.split_once('-') else { return Self::Unknown };
        let slot = |text: &str| {
            let (server, index) = text.split_once('.')?;
            Some(SlotId { server: ServerId(server.parse().ok()?), index: index.parse().ok()? })
        };
        match kind {
            "order" => number.parse().map_or(Self::Unknown, |n: u64| Self::Orderer(n.saturating_add(1))),
            "shard" => slot(number).map_or(Self::Unknown, Self::Slot),
            "zk" => Self::Zk,
            _ => Self::Unknown,
        }
    }

    /// The number that the node's write-ahead log has for it.
    pub fn wal_node(self) -> Option<u64> {
        match self {
            Self::Orderer(id) => Some(id),
            Self::Slot(slot) => Some(u64::from(slot.server.0) << 16 | u64::from(slot.index)),
            Self::Zk | Self::Unknown => None,
        }
    }
}

/// A stopped node's data directory; its node can't be started meanwhile.
#[derive(Debug)]
pub struct NodeDir {
    /// Where.
    pub path: PathBuf,
    /// Its name, such as `shard-0.0`; `?` without a stamp.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Whose; `None` without a stamp.
    pub cluster: Option<ClusterId>,
    _inspected: Inspected,
}

impl NodeDir {
    /// Opens one.
    ///
    /// # Errors
    /// If it is in use, of a newer format, or not readable.
    pub fn open(path: &Path) -> Result<Self, InspectError> {
        let inspected = Inspected::open(path)?;
        let (cluster, name) = match &inspected.owner {
            Some((cluster, name)) => (Some(*cluster), name.clone()),
            None => (None, "?".to_owned()),
        };
        Ok(Self { path: path.to_path_buf(), kind: Kind::of(&name), name, cluster, _inspected: inspected })
    }

    /// Where its write-ahead log lies.
    pub fn wal(&self) -> PathBuf {
        let folder = self.path.join("wal");
        if folder.is_dir() || !holds_segments(&self.path) { folder } else { self.path.clone() }
    }
}

/// As a failure of a command that needs the directory.
pub fn failure(error: &InspectError) -> Failure {
    let code = match error {
        InspectError::InUse { .. } => Code::Unavailable,
        InspectError::Newer { .. } | InspectError::Unreadable(_) => Code::Fault,
    };
    Failure::new(code, error)
}

/// The data directories at or below `dir`, in the order of their names.
///
/// # Errors
/// If there are none, or `dir` can't be read.
pub fn find(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    look(dir, DEPTH, &mut found).map_err(|e| format!("can't read {}: {e}", dir.display()))?;
    // The folder of a node's log was given, instead of the node's.
    if found == [dir]
        && dir.file_name().is_some_and(|name| name == "wal")
        && let Some(node) = dir.parent().filter(|node| is_node(node))
    {
        found = vec![node.to_path_buf()];
    }
    if found.is_empty() {
        let text = format!(
            "{} is no data directory, and has none below: a node's has a `stamp.toml`, and a folder `wal` or \
             `snapshots`",
            dir.display()
        );
        return Err(Failure::new(Code::NotFound, text));
    }
    found.sort();
    Ok(found)
}

fn look(dir: &Path, depth: u32, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if is_node(dir) || holds_segments(dir) {
        found.push(dir.to_path_buf());
        return Ok(());
    }
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if depth > 0 && path.is_dir() {
            look(&path, depth - 1, found)?;
        }
    }
    Ok(())
}

fn is_node(dir: &Path) -> bool {
    dir.join("stamp.toml").exists() || holds_segments(&dir.join("wal"))
}

fn holds_segments(dir: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(dir) else { return false };
    entries.flatten().any(|entry| entry.file_name().to_str().and_then(segment_number).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_a_node_is() {
        let slot = |server, index| Kind::Slot(SlotId { server: ServerId(server), index });
        for (name, kind, node) in [
            ("order-2", Kind::Orderer(3), Some(3)),
            ("shard-7.1", slot(7, 1), Some(7 << 16 | 1)),
            ("zk-0", Kind::Zk, None),
            ("shard-7", Kind::Unknown, None),
            ("?", Kind::Unknown, None),
        ] {
            assert_eq!((Kind::of(name), Kind::of(name).wal_node()), (kind, node), "{name}");
        }
    }

    #[test]
    fn directories_are_found_below_and_from_within() {
        let dir = tempfile::tempdir().unwrap();
        let node = dir.path().join("nodes/shard-0/data/slot-0");
        std::fs::create_dir_all(node.join("wal")).unwrap();
        assert_eq!(find(dir.path()).unwrap_err().code, Code::NotFound);
        std::fs::write(node.join("wal/wal-0000000001.seg"), b"").unwrap();
        let unstamped = find(dir.path()).unwrap();
        assert_eq!(unstamped, std::slice::from_ref(&node));
        let stamp = "format = 1\ncluster = \"0000000000000000000000000000000a\"\nnode = \"shard-0.0\"\n";
        std::fs::write(node.join("stamp.toml"), stamp).unwrap();
        for from in [dir.path().to_path_buf(), node.clone(), node.join("wal")] {
            assert_eq!(find(&from).unwrap(), std::slice::from_ref(&node), "{}", from.display());
        }
        let opened = NodeDir::open(&node).unwrap();
        assert_eq!((opened.cluster, opened.name.as_str()), (Some(ClusterId(10)), "shard-0.0"));
        assert_eq!(opened.wal(), node.join("wal"));
    }
}
