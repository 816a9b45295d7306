//! Whose directory is this? One process's, one node's, one cluster's, and of a format we know; and which log is in it,
//! so that an empty directory is never taken for one that was lost.

use crate::ids::ClusterId;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Version of the layout below a data directory.
const FORMAT: u32 = 1;
/// The file that says so.
const STAMP_FILE: &str = "stamp.toml";

/// A data directory that is locked for this process and stamped as this node's.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    stamp: Stamp,
    _lock: File,
}

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Stamp {
    format: u32,
    cluster: String,
    node: String,
    /// Of the log in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    log: Option<String>,
}

/// A stopped node's data directory: no node starts on it as long as this lives. Nothing in it was changed.
#[derive(Debug)]
pub struct Inspected {
    /// Whose it says it is; `None` without a stamp.
    pub owner: Option<(ClusterId, String)>,
    _lock: Option<File>,
}

/// Why a data directory can't be inspected. With the directory in the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InspectError {
    /// A node runs on it.
    #[error("{dir} is in use: stop its node first (`fuser {dir}/LOCK` names the process)")]
    InUse {
        /// The directory.
        dir: String,
        /// The node.
        node: String,
    },
    /// A newer zoolog wrote it.
    #[error(
        "{dir} has format {found}, this build knows {FORMAT}: look at it with the newer zoolog that wrote it"
    )]
    Newer {
        /// The directory.
        dir: String,
        /// Its format.
        found: u32,
    },
    /// It can't be read, or its stamp makes no sense.
    #[error("{0}")]
    Unreadable(String),
}

impl Inspected {
    /// Locks a directory against nodes, not against others who only look, and reads its stamp. Writes nothing: a
    /// directory without a lock file never had a node, and gets none.
    ///
    /// # Errors
    /// If it is in use, of a newer format, or not readable.
    pub fn open(path: &Path) -> Result<Self, InspectError> {
        let unreadable = |path: &Path, e: &dyn std::fmt::Display| {
            InspectError::Unreadable(format!("can't read {}: {e}", path.display()))
        };
        let stamp_path = path.join(STAMP_FILE);
        let stamp: Option<Stamp> = match std::fs::read_to_string(&stamp_path) {
            Ok(text) => Some(toml::from_str(&text).map_err(|e| unreadable(&stamp_path, &e))?),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(unreadable(&stamp_path, &e)),
        };
        let lock_path = path.join("LOCK");
        let lock = match File::open(&lock_path) {
            Ok(lock) => Some(lock),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(unreadable(&lock_path, &e)),
        };
        if let Some(lock) = &lock {
            // SAFETY: a plain syscall on an open descriptor.
            if unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB) } != 0 {
                let node = stamp.map_or_else(|| "?".to_owned(), |s| s.node);
                return Err(InspectError::InUse { dir: path.display().to_string(), node });
            }
        }
        let Some(stamp) = stamp else { return Ok(Self { owner: None, _lock: lock }) };
        if stamp.format > FORMAT {
            return Err(InspectError::Newer { dir: path.display().to_string(), found: stamp.format });
        }
        let cluster = u128::from_str_radix(&stamp.cluster, 16)
            .map_err(|_| unreadable(&stamp_path, &"its cluster is no id"))?;
        Ok(Self { owner: Some((ClusterId(cluster), stamp.node)), _lock: lock })
    }
}

impl DataDir {
    /// Opens (or creates) the directory of `node` (such as `shard-0`) of `cluster`.
    ///
    /// # Errors
    /// Text for a person: locked by another process, another node's or cluster's, a newer format, or not
    /// writable.
    pub fn open(path: &Path, cluster: ClusterId, node: &str) -> Result<Self, String> {
        let at = path.display();
        std::fs::create_dir_all(path)
            .map_err(|e| format!("can't create the data directory {at}: {e}; check its owner and rights"))?;
        let lock = lock(path)?;
        let stamp_path = path.join(STAMP_FILE);
        let cluster = format!("{:032x}", cluster.0);
        let ours = Stamp { format: FORMAT, cluster, node: node.to_string(), log: None };
        let stamp = match std::fs::read_to_string(&stamp_path) {
            Ok(text) => {
                let found: Stamp = toml::from_str(&text).map_err(|e| {
                    format!("{} can't be understood ({e}); restore it from a backup", stamp_path.display())
                })?;
                if found.format > FORMAT {
                    return Err(format!(
                        "{at} has format {}, this build knows {FORMAT}: run the newer zoolog that wrote it",
                        found.format
                    ));
                }
                if found.cluster != ours.cluster {
                    return Err(format!(
                        "{at} belongs to cluster {}, not to {}: give another --data-dir, or the right cluster file",
                        found.cluster, ours.cluster
                    ));
                }
                if found.node != ours.node {
                    return Err(format!(
                        "{at} belongs to node {}, not to {node}: give another data_dir",
                        found.node
                    ));
                }
                found
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                ours.write(path)?;
                ours
            }
            Err(e) => return Err(format!("can't read {}: {e}", stamp_path.display())),
        };
        Ok(Self { path: path.to_path_buf(), stamp, _lock: lock })
    }

    /// The stamp of the log in it. A log that is `begun` now, whatever was there before, gets one that `random` draws:
    /// what was lost with the old log must not seem to be in the new one.
    ///
    /// # Errors
    /// Text for a person: it can't be written, or read.
    pub fn log_stamp(
        &mut self,
        begun: bool,
        random: impl FnOnce() -> Result<u64, String>,
    ) -> Result<u64, String> {
        if let Some(known) = self.stamp.log.as_ref().filter(|_| !begun) {
            let read = u64::from_str_radix(known, 16);
            let path = self.path.join(STAMP_FILE);
            return read.map_err(|e| {
                format!("{}: `log` can't be understood ({e}); restore it from a backup", path.display())
            });
        }
        let drawn = random()?;
        self.stamp.log = Some(format!("{drawn:016x}"));
        self.stamp.write(&self.path)?;
        Ok(drawn)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Stamp {
    fn write(&self, dir: &Path) -> Result<(), String> {
        let text = toml::to_string(self).map_err(|e| e.to_string())?;
        write_durably(&dir.join(STAMP_FILE), text.as_bytes())
    }
}

/// Takes the lock of a directory until the file is dropped or the process ends, however it ends.
///
/// # Errors
/// If another process has it, or it can't be made.
pub fn lock(dir: &Path) -> Result<File, String> {
    let path = dir.join("LOCK");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|e| format!("can't open {}: {e}; check its owner and rights", path.display()))?;
    // SAFETY: a plain syscall on an open descriptor.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
        return Err(format!(
            "the data directory {} is in use by another process: stop that one (`fuser {}` names it), or give \
             another --data-dir",
            dir.display(),
            path.display()
        ));
    }
    Ok(file)
}

/// Writes a small file so that after a crash it is either whole or not there.
///
/// # Errors
/// With the path in the text.
pub fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let write = || -> std::io::Result<()> {
        let temporary = path.with_extension("new");
        let mut file = File::create(&temporary)?;
        std::io::Write::write_all(&mut file, bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(dir)?.sync_all()
    };
    write().map_err(|e| format!("can't write {}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn inspecting_writes_nothing_and_keeps_nodes_out_but_not_others_who_look() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        let none = Inspected::open(path).unwrap();
        assert!(none.owner.is_none() && names(path).is_empty());
        let node = DataDir::open(path, ClusterId(5), "shard-1.0").unwrap();
        let e = Inspected::open(path).unwrap_err();
        assert!(matches!(&e, InspectError::InUse { node, .. } if node == "shard-1.0"), "{e}");
        assert!(e.to_string().contains("stop its node"), "{e}");
        drop(node);
        let before = names(path);
        let looking = [Inspected::open(path).unwrap(), Inspected::open(path).unwrap()];
        assert_eq!(looking[0].owner, Some((ClusterId(5), "shard-1.0".to_owned())));
        assert!(DataDir::open(path, ClusterId(5), "shard-1.0").unwrap_err().contains("in use"));
        drop(looking);
        assert_eq!(names(path), before);
        DataDir::open(path, ClusterId(5), "shard-1.0").unwrap();
    }

    #[test]
    fn a_log_keeps_its_stamp_and_one_begun_anew_gets_another() {
        let home = tempfile::tempdir().unwrap();
        let open = || DataDir::open(home.path(), ClusterId(7), "shard-0.0").unwrap();
        assert_eq!(open().log_stamp(true, || Ok(5)), Ok(5));
        assert_eq!(open().log_stamp(false, || panic!("it has one")), Ok(5));
        // Only the log was lost, its directory's stamp was not.
        assert_eq!(open().log_stamp(true, || Ok(6)), Ok(6));
        assert_eq!(open().log_stamp(false, || panic!("it has one")), Ok(6));
    }

    /// Of a directory from before logs had stamps.
    #[test]
    fn a_log_without_a_stamp_gets_one_for_good() {
        let home = tempfile::tempdir().unwrap();
        let mut dir = DataDir::open(home.path(), ClusterId(7), "shard-0.0").unwrap();
        assert_eq!(dir.log_stamp(false, || Ok(9)), Ok(9));
        assert_eq!(dir.log_stamp(false, || panic!("it has one")), Ok(9));
    }

    #[test]
    fn a_newer_format_and_a_stamp_that_makes_no_sense_are_named() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::open(dir.path(), ClusterId(5), "zk-0").unwrap());
        let stamp = dir.path().join("stamp.toml");
        let text = std::fs::read_to_string(&stamp).unwrap();
        std::fs::write(&stamp, text.replace("format = 1", "format = 7")).unwrap();
        assert!(matches!(Inspected::open(dir.path()), Err(InspectError::Newer { found: 7, .. })));
        std::fs::write(&stamp, "format = ").unwrap();
        let e = Inspected::open(dir.path()).unwrap_err();
        assert!(matches!(&e, InspectError::Unreadable(text) if text.contains("stamp.toml")), "{e}");
    }
}
