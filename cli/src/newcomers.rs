//! Where does a ZooKeeper node that is new to `dev`'s directory begin? At another's newest snapshot, if there is one:
//! the log before it may be trimmed already. Copied before any node runs.

use std::fs::File;
use std::path::{Path, PathBuf};
use zoolog_core::ClusterId;
use zoolog_core::rt::snapshots::{SnapshotFile, SnapshotStore};

/// Gives each of the nodes' data directories that has no snapshot a copy of the newest that another has.
///
/// # Errors
/// Text for a person.
pub fn settle(data_dirs: &[PathBuf], cluster: ClusterId) -> Result<(), String> {
    let (mut all, mut without) = (Vec::new(), Vec::new());
    for dir in data_dirs {
        let folder = dir.join("snapshots");
        std::fs::create_dir_all(&folder).map_err(|e| format!("can't make {}: {e}", folder.display()))?;
        let store = SnapshotStore::open(&folder, cluster)?;
        let files = store.newest()?;
        if files.is_empty() {
            without.push(folder);
        }
        all.extend(files.into_iter().map(|file| (store.clone(), file)));
    }
    all.sort_by_key(|(_, file)| std::cmp::Reverse(file.gsn));
    for folder in without {
        // Only a good one may be handed on; a bad one's node says so itself when it starts.
        let good = |(store, file): &&(SnapshotStore, SnapshotFile)| store.verify(file).is_ok();
        let Some((_, from)) = all.iter().find(good) else { return Ok(()) };
        tracing::info!("{} begins with a copy of {}", folder.display(), from.path.display());
        copy(&from.path, &folder)
            .map_err(|e| format!("can't copy a snapshot to {}: {e}", folder.display()))?;
    }
    Ok(())
}

/// Copies a file so that after a crash it is whole or not there.
fn copy(from: &Path, folder: &Path) -> std::io::Result<()> {
    let name = folder.join(from.file_name().expect("a snapshot has a name"));
    let unfinished = name.with_extension("tmp");
    std::fs::copy(from, &unfinished)?;
    File::open(&unfinished)?.sync_all()?;
    std::fs::rename(&unfinished, name)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use zoolog_core::Gsn;
    use zoolog_core::rt::snapshots::SnapshotWriter;
    use zoolog_core::snapshot::Framer;

    fn save(dir: &Path, gsn: u64) {
        let store = SnapshotStore::open(&dir.join("snapshots"), ClusterId(7)).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let answer = Box::new(move |_, _, result| tell.send(result).unwrap());
        let writer = SnapshotWriter::start(store, answer).unwrap();
        let mut bytes = Vec::new();
        let mut framer = Framer::begin(&mut bytes, ClusterId(7), Gsn(gsn));
        framer.piece(&mut bytes, true, |out| out.extend_from_slice(b"state"));
        writer.save(Gsn(gsn), Bytes::from(bytes), true).unwrap();
        told.recv().unwrap().unwrap();
    }

    fn found(dir: &Path) -> Vec<u64> {
        let store = SnapshotStore::open(&dir.join("snapshots"), ClusterId(7)).unwrap();
        store.newest().unwrap().iter().map(|f| f.gsn.0).collect()
    }

    #[test]
    fn who_has_none_gets_the_newest_good_one() {
        let dir = tempfile::tempdir().unwrap();
        let dirs: Vec<PathBuf> = (0..3).map(|i| dir.path().join(format!("zk-{i}"))).collect();
        settle(&dirs, ClusterId(7)).unwrap();
        assert!(dirs.iter().all(|d| found(d).is_empty()), "nobody has one: nobody gets one");
        save(&dirs[0], 10);
        save(&dirs[1], 30);
        std::fs::write(dirs[1].join("snapshots/00000000000000000040.snapshot"), b"rotten").unwrap();
        settle(&dirs, ClusterId(7)).unwrap();
        assert_eq!([found(&dirs[0]), found(&dirs[2])], [vec![10], vec![30]]);
    }
}
