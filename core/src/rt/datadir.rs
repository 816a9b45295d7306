//! Whose directory is this? One process's, one node's, one cluster's, and of a format we know.

use crate::ids::ClusterId;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Version of the layout below a data directory.
const FORMAT: u32 = 1;

/// A data directory that is locked for this process and stamped as this node's.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Stamp {
    format: u32,
    cluster: String,
    node: String,
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
        let stamp_path = path.join("stamp.toml");
        let ours = Stamp { format: FORMAT, cluster: format!("{:032x}", cluster.0), node: node.to_string() };
        match std::fs::read_to_string(&stamp_path) {
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
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let text = toml::to_string(&ours).map_err(|e| e.to_string())?;
                write_durably(&stamp_path, text.as_bytes())?;
            }
            Err(e) => return Err(format!("can't read {}: {e}", stamp_path.display())),
        }
        Ok(Self { path: path.to_path_buf(), _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
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
