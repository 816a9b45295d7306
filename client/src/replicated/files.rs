//! What does a node keep in its directory? Small files that say who it is (`node`), whose log it has applied (`cluster`), where
//! that was last (`orderers`), where it went on (`way`), with which command its last life ended (`beware`), if with one, from where on its state may have differed from
//! others' (`distrust`), if it did; and `snapshots/`.

use super::config::ReplicatedConfig;
use super::image::{Loader, Restored};
use super::machine::StateMachine;
use crate::{Passed, Sealed, Way};
use std::path::{Path, PathBuf};
use zoolog_core::rt::datadir::{lock, write_durably};
use zoolog_core::rt::random_bytes;
use zoolog_core::rt::snapshots::SnapshotStore;
use zoolog_core::{ClusterId, Gsn};

/// A node's directory, its own as long as this lives.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
    /// Drawn at the first start.
    pub node: String,
    /// Whose log it has applied; 0 if it has not begun.
    pub cluster: ClusterId,
    _lock: std::fs::File,
}

/// It is not started from again, and nobody is given it; a person may want to look at it.
fn put_aside(path: &Path) -> Result<(), String> {
    let aside = path.with_extension("aside");
    std::fs::rename(path, &aside).map_err(|e| format!("{}: {e}", aside.display()))
}

/// What a file holds that is there only at times.
fn position_in(file: &Path) -> Result<Option<Gsn>, String> {
    match std::fs::read_to_string(file) {
        Ok(text) => match text.trim().parse() {
            Ok(gsn) => Ok(Some(Gsn(gsn))),
            Err(_) => Err(format!("{} holds no position", file.display())),
        },
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(format!("can't read {}: {e}", file.display())),
    }
}

/// Where a cluster's orderers were.
#[derive(Debug)]
pub(super) struct Remembered(PathBuf);

impl Remembered {
    /// Those that were heard of last, then those that were given.
    pub fn orderers(&self, given: &[String]) -> Vec<String> {
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        let mut all: Vec<String> =
            text.lines().map(str::trim).filter(|l| !l.is_empty()).map(Into::into).collect();
        all.extend(given.iter().filter(|addr| !all.contains(addr)).cloned().collect::<Vec<_>>());
        all
    }
}

impl Files {
    /// Opens the directory, which is made if it isn't there.
    ///
    /// # Errors
    /// Text for a person.
    pub fn open(dir: &Path) -> Result<Self, String> {
        std::fs::create_dir_all(dir).map_err(|e| format!("can't make {}: {e}", dir.display()))?;
        let _lock = lock(dir)?;
        let id = dir.join("node");
        let node = match std::fs::read_to_string(&id) {
            Ok(text) => text.trim().to_string(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let node = format!("{:016x}", u64::from_le_bytes(random_bytes()?));
                write_durably(&id, node.as_bytes())?;
                node
            }
            Err(e) => return Err(format!("can't read {}: {e}", id.display())),
        };
        let file = dir.join("cluster");
        let cluster = match std::fs::read_to_string(&file) {
            Ok(text) => u128::from_str_radix(text.trim(), 16)
                .map_err(|_| format!("{} holds no cluster's id: remove it", file.display()))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => 0,
            Err(e) => return Err(format!("can't read {}: {e}", file.display())),
        };
        Ok(Self { dir: dir.to_path_buf(), node, cluster: ClusterId(cluster), _lock })
    }

    /// The log is this cluster's: written down the first time, compared later.
    ///
    /// # Errors
    /// The directory is of another log.
    pub fn belongs_to(&mut self, cluster: ClusterId) -> Result<(), String> {
        match self.cluster {
            ClusterId(0) => {
                self.cluster = cluster;
                write_durably(&self.dir.join("cluster"), format!("{:032x}", cluster.0).as_bytes())
            }
            ours if ours == cluster => Ok(()),
            ours => Err(format!(
                "{} is of the log {:032x}, and this log is {:032x}: give the node another directory, or the log \
                 that it had",
                self.dir.display(),
                ours.0,
                cluster.0
            )),
        }
    }

    /// The node as a number, never 0.
    ///
    /// # Errors
    /// Text for a person: its file holds none.
    pub fn number(&self) -> Result<u64, String> {
        let number = u64::from_str_radix(&self.node, 16).ok().filter(|n| *n != 0);
        number
            .ok_or_else(|| format!("{} holds no node's id: `{}`", self.dir.join("node").display(), self.node))
    }

    /// What is remembered of the cluster's orderers.
    pub fn remembering(&self) -> Remembered {
        Remembered(self.dir.join("orderers"))
    }

    /// Writes them down; that it couldn't is only worth a line in the log.
    pub fn remember(&self, addrs: &[String]) {
        let text: String = addrs.iter().map(|addr| format!("{addr}\n")).collect();
        if let Err(e) = write_durably(&self.dir.join("orderers"), text.as_bytes()) {
            tracing::warn!("the orderers of now are not remembered: {e}");
        }
    }

    /// The logs that an earlier life went past, behind the one that begins at these orderers.
    pub fn way(&self, generation: Option<u32>, orderers: &[String]) -> Vec<Passed> {
        Way::begin(&self.dir, generation, orderers)
    }

    /// The log goes on there.
    pub fn moved(&self, sealed: &Sealed) {
        Way::remember_moved(&self.dir, sealed);
    }

    /// Nothing of the log that ended there is needed.
    pub fn left(&self, tail: Gsn) {
        Way::remember_left(&self.dir, tail);
    }

    /// The directory of snapshots.
    ///
    /// # Errors
    /// Text for a person.
    pub fn snapshots(&self) -> Result<SnapshotStore, String> {
        SnapshotStore::open(&self.dir.join("snapshots"), self.cluster)
    }

    /// A life ended with this command: the next begins with a search for skips.
    ///
    /// # Errors
    /// Text for a person: it could not be written down.
    pub fn beware(&self, gsn: Gsn) -> Result<(), String> {
        let gsn = self.bewares_of()?.map_or(gsn, |before| before.min(gsn));
        write_durably(&self.dir.join("beware"), gsn.to_string().as_bytes())
    }

    fn bewares_of(&self) -> Result<Option<Gsn>, String> {
        position_in(&self.dir.join("beware"))
    }

    /// The state differed from others': the next life begins with a snapshot that is not newer than this.
    ///
    /// # Errors
    /// Text for a person: it could not be written down.
    pub fn distrust(&self, gsn: Gsn) -> Result<(), String> {
        let file = self.dir.join("distrust");
        let gsn = position_in(&file)?.map_or(gsn, |before| before.min(gsn));
        write_durably(&file, gsn.to_string().as_bytes())
    }

    /// Puts snapshots aside whose state may have differed.
    fn put_aside_distrusted(&self, store: &SnapshotStore, name: &str) -> Result<(), String> {
        let note = self.dir.join("distrust");
        let Some(upto) = position_in(&note)? else { return Ok(()) };
        for file in store.newest()?.into_iter().filter(|file| file.gsn > upto) {
            tracing::warn!(
                name,
                "the state in {} may differ from others': it is put aside",
                file.path.display()
            );
            put_aside(&file.path)?;
        }
        std::fs::remove_file(&note).map_err(|e| format!("can't remove {}: {e}", note.display()))
    }

    /// The state to start from: the newest snapshot that is good; and where the next older good one is, which is read as
    /// well, since the log is let go only before that. After a life that ended with a command, or if one is to be skipped,
    /// snapshots that have applied it are put aside; after one whose state differed, those that may have it.
    ///
    /// # Errors
    /// Text for a person: the directory can't be read, or not changed.
    pub fn restore<S: StateMachine>(
        &self,
        store: &SnapshotStore,
        cfg: &ReplicatedConfig,
    ) -> Result<Restored<S>, String> {
        let name = &cfg.name;
        self.put_aside_distrusted(store, name)?;
        let beware = self.bewares_of()?;
        let mut found: Option<Restored<S>> = None;
        for file in store.newest()? {
            let mut loader = Loader::new::<S>(self.cluster, name);
            if let Err(why) = store.read(&file, &mut |bytes| loader.push(bytes)) {
                tracing::warn!(name, "{why}; trying the one before it");
                continue;
            }
            let has_applied = |gsn: &&Gsn| **gsn < file.gsn && !loader.skips().contains(gsn);
            if let Some(gsn) = beware.iter().chain(&cfg.skip).find(has_applied) {
                tracing::warn!(name, "{} has applied {gsn}: it is put aside", file.path.display());
                put_aside(&file.path)?;
                continue;
            }
            match &mut found {
                None => match loader.finish() {
                    Ok(restored) => {
                        tracing::info!(name, "starting from the snapshot at {}", file.gsn);
                        found = Some(restored);
                    }
                    Err(e) => {
                        tracing::warn!(
                            name,
                            "{} can't be used: {e}; trying the one before it",
                            file.path.display()
                        );
                    }
                },
                Some(found) => {
                    found.second_newest = Some(file.gsn);
                    break;
                }
            }
        }
        let mut restored = found.unwrap_or_default();
        restored.beware = beware.is_some();
        // Whatever this may fall back on has passed over it.
        if let (Some(gsn), Some(second)) = (beware, restored.second_newest)
            && gsn < second
        {
            let file = self.dir.join("beware");
            std::fs::remove_file(&file).map_err(|e| format!("can't remove {}: {e}", file.display()))?;
        }
        Ok(restored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_differ_is_put_aside_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = Files::open(dir.path()).expect("new");
        let store = files.snapshots().expect("a directory");
        let path = |gsn: u64, ending| dir.path().join(format!("snapshots/{gsn:020}.{ending}"));
        for gsn in [5, 9, 12] {
            std::fs::write(path(gsn, "snapshot"), "x").expect("written");
        }
        files.put_aside_distrusted(&store, "x").expect("nothing to do");
        assert!(path(12, "snapshot").exists());
        files.distrust(Gsn(9)).expect("written");
        files.distrust(Gsn(11)).expect("the earlier one stays");
        files.put_aside_distrusted(&store, "x").expect("renamed");
        assert!(path(12, "aside").exists() && !path(12, "snapshot").exists() && path(9, "snapshot").exists());
        std::fs::write(path(12, "snapshot"), "x").expect("written");
        files.put_aside_distrusted(&store, "x").expect("nothing to do");
        assert!(path(12, "snapshot").exists(), "what comes later is as good as any");
    }

    #[test]
    fn a_directory_is_one_nodes_and_one_logs() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut files = Files::open(dir.path()).expect("new");
        let node = files.node.clone();
        assert!(files.number().is_ok_and(|n| format!("{n:016x}") == node));
        assert!(Files::open(dir.path()).expect_err("locked").contains("in use"));
        files.belongs_to(ClusterId(7)).expect("the first");
        files.remember(&["a:1".into(), "b:1".into()]);
        drop(files);
        let mut files = Files::open(dir.path()).expect("again");
        assert_eq!((&files.node, files.cluster), (&node, ClusterId(7)));
        assert_eq!(files.remembering().orderers(&["c:1".into(), "a:1".into()]), ["a:1", "b:1", "c:1"]);
        assert!(files.belongs_to(ClusterId(8)).expect_err("another").contains("another directory"));
        assert_eq!(files.belongs_to(ClusterId(7)), Ok(()));
    }
}
