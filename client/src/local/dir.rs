//! Where does an embedded log lie? In a directory: who it is (`log.toml`), and its write-ahead log (`log/`), which is this
//! process's as long as it is open.

use super::{LocalConfig, LocalLog};
use std::path::Path;
use zoolog_core::config::{self, BirthConfig, Config};
use zoolog_core::rt::datadir::{DataDir, write_durably};
use zoolog_core::rt::{self, Disk, SpaceLimits};
use zoolog_core::wal::{OnDamage, WalConfig};

/// Number of the log's WAL: there is one in the directory.
const WAL: u64 = 1;

/// An embedded log that is open, for a shell to run.
#[derive(Debug)]
pub struct LocalDir {
    /// The machine.
    pub log: LocalLog,
    /// What it persists to.
    pub disk: Disk,
    /// Locked as long as it lives.
    pub dir: DataDir,
}

impl LocalDir {
    /// Opens the log of `birth` in `dir`, which is made if it isn't there.
    ///
    /// # Errors
    /// Text for a person: it is in use, of another birth, or not readable.
    pub fn open(dir: &Path, birth: &BirthConfig) -> Result<Self, String> {
        let id = birth.cluster();
        let dir = DataDir::open(&dir.join("log"), id, "log")?;
        let (disk, recovered) =
            Disk::open(&dir.path().join("wal"), WalConfig::new(id, WAL, OnDamage::Refuse))?;
        let seed = u64::from_le_bytes(rt::random_bytes()?);
        let log = LocalLog::new(LocalConfig::new(id), &recovered, seed)
            .map_err(|why| format!("{}: {why}", dir.path().display()))?;
        Ok(Self { log, disk: disk.within(SpaceLimits::default()), dir })
    }
}

/// Who the embedded log in `dir` is: drawn at the first start, kept beside it.
///
/// # Errors
/// Text for a person: it can't be made or read, or is gone though the log is there.
pub fn local_birth(dir: &Path) -> Result<BirthConfig, String> {
    let file = dir.join("log.toml");
    if file.exists() {
        return config::load(&file).map_err(|e| e.to_string());
    }
    if dir.join("log").exists() {
        return Err(format!(
            "{} is gone, but there is a log in {}: put it back",
            file.display(),
            dir.display()
        ));
    }
    std::fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let birth = BirthConfig { id: hex(&rt::random_bytes::<16>()?), secret: hex(&rt::random_bytes::<32>()?) };
    birth.validate().map_err(|e| e.to_string())?;
    let text = toml::to_string(&birth).map_err(|e| e.to_string())?;
    write_durably(&file, text.as_bytes())?;
    let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&file, owner_only).map_err(|e| format!("{}: {e}", file.display()))?;
    Ok(birth)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
