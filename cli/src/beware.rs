//! With what did a ZooKeeper node's last life end, that the next one must know? A file in its directory, and snapshots that
//! are put aside because of it.

use std::io::ErrorKind;
use std::path::Path;
use zoolog_core::rt::datadir::write_durably;
use zoolog_core::rt::snapshots::SnapshotFile;
use zoolog_zk::snapshot::Beware;
use zoolog_zk::state::Outline;

const NAME: &str = "beware";
const OUTLINE: &str = "differed";
/// Bytes of an outline at most: some hundreds of paths.
const OUTLINE_BYTES_MAX: u64 = 16 << 20;

/// What was written down; nothing if that never happened.
///
/// # Errors
/// The file can't be read, or makes no sense.
pub fn recall(dir: &Path) -> Result<Beware, String> {
    let file = dir.join(NAME);
    match std::fs::read_to_string(&file) {
        Ok(text) => text.parse().map_err(|why| format!("{}: {why}", file.display())),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Beware::default()),
        Err(e) => Err(format!("can't read {}: {e}", file.display())),
    }
}

/// Writes down what is to be known beside what was.
///
/// # Errors
/// It could not be written: the next life would not know.
pub fn remember(dir: &Path, beware: Beware) -> Result<(), String> {
    let known = recall(dir)?.and(beware);
    write_durably(&dir.join(NAME), known.to_string().as_bytes())
}

/// Only this is left of it.
///
/// # Errors
/// It could not be written.
pub fn keep(dir: &Path, left: Beware) -> Result<(), String> {
    let file = dir.join(NAME);
    match left == Beware::default() {
        false => write_durably(&file, left.to_string().as_bytes()),
        true => match std::fs::remove_file(&file) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            Err(e) => Err(format!("can't remove {}: {e}", file.display())),
        },
    }
}

/// Takes a snapshot's name away: it is not used, and not counted as one. A person may look at it, and remove it.
///
/// # Errors
/// It could not be renamed.
pub fn put_aside(file: &SnapshotFile) -> Result<(), String> {
    let aside = file.path.with_extension("aside");
    std::fs::rename(&file.path, &aside).map_err(|e| format!("can't rename {}: {e}", file.path.display()))
}

/// The outline of the last state that differed, if there ever was one. It only serves to say where: what can't be read is
/// worth a line in the log.
pub fn recall_outline(dir: &Path) -> Option<Outline> {
    let file = dir.join(OUTLINE);
    if std::fs::metadata(&file).ok()?.len() > OUTLINE_BYTES_MAX {
        return None;
    }
    let read = std::fs::read_to_string(&file).map_err(|e| e.to_string()).and_then(|text| text.parse());
    read.inspect_err(|why| tracing::warn!("{}: {why}", file.display())).ok()
}

/// Writes it down.
pub fn remember_outline(dir: &Path, outline: &Outline) {
    if let Err(why) = write_durably(&dir.join(OUTLINE), outline.to_string().as_bytes()) {
        tracing::warn!("where the state differs will not be told: {why}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zoolog_core::rt::snapshots::SnapshotStore;
    use zoolog_core::{ClusterId, Gsn};
    use zoolog_zk::snapshot::{Pace, Restored, Taking};
    use zoolog_zk::state::State;

    /// A snapshot of a state that has applied `records`, of which one was passed over, if one was.
    fn save(dir: &Path, records: u64, skipped: Option<Gsn>) {
        let mut state = State::new();
        for gsn in (0..records).map(Gsn) {
            match skipped == Some(gsn) {
                true => drop(state.pass_over(gsn)),
                false => drop(state.apply(gsn, b"", &mut Vec::new())),
            }
        }
        let mut taking = Taking::begin(&mut state, ClusterId(5), Pace::default());
        let (bytes, last) = taking.next(&mut state);
        assert!(last);
        std::fs::create_dir_all(dir.join("snapshots")).expect("made");
        let file = dir.join("snapshots").join(format!("{records:020}.snapshot"));
        std::fs::write(file, bytes).expect("written");
    }

    fn start(dir: &Path) -> Restored {
        let store = SnapshotStore::open(&dir.join("snapshots"), ClusterId(5)).expect("a directory");
        crate::beginning::restored("zk-0", dir, &store, ClusterId(5)).expect("a start")
    }

    #[test]
    fn snapshots_that_may_be_wrong_are_put_aside_and_the_life_after_that_goes_on_from_what_is_left() {
        let dir = tempfile::tempdir().expect("a directory");
        [30, 20, 10].into_iter().for_each(|records| save(dir.path(), records, None));
        remember(dir.path(), Beware { upto: Some(Gsn(20)), command: None }).expect("written");
        let restored = start(dir.path());
        assert_eq!((restored.newest, restored.second_newest), (Some(Gsn(20)), Some(Gsn(10))));
        assert!(!restored.look_ahead);
        assert!(dir.path().join("snapshots").join(format!("{:020}.aside", 30)).exists());
        assert_eq!(recall(dir.path()), Ok(Beware::default()), "it is dealt with");
        assert_eq!(start(dir.path()).newest, Some(Gsn(20)));
    }

    #[test]
    fn after_a_life_that_ended_with_a_record_one_looks_ahead_until_all_snapshots_are_past_it() {
        let dir = tempfile::tempdir().expect("a directory");
        [30, 10].into_iter().for_each(|records| save(dir.path(), records, None));
        remember(dir.path(), Beware { upto: None, command: Some(Gsn(15)) }).expect("written");
        let restored = start(dir.path());
        assert!(restored.look_ahead && restored.newest == Some(Gsn(10)), "{:?}", restored.newest);
        save(dir.path(), 40, Some(Gsn(15)));
        let restored = start(dir.path());
        assert!(restored.look_ahead && restored.newest == Some(Gsn(40)), "{:?}", restored.newest);
        save(dir.path(), 50, Some(Gsn(15)));
        assert!(start(dir.path()).look_ahead, "it was written down");
        assert!(!start(dir.path()).look_ahead, "whatever it falls back on has passed over it");
        std::fs::write(dir.path().join(NAME), "nonsense").expect("written");
        let store = SnapshotStore::open(&dir.path().join("snapshots"), ClusterId(5)).expect("a directory");
        assert!(crate::beginning::restored("zk-0", dir.path(), &store, ClusterId(5)).is_err());
    }

    #[test]
    fn what_is_remembered_adds_up_and_goes_when_nothing_is_left() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(recall(dir.path()), Ok(Beware::default()));
        remember(dir.path(), Beware { upto: Some(Gsn(70)), command: None }).expect("written");
        remember(dir.path(), Beware { upto: Some(Gsn(90)), command: Some(Gsn(80)) }).expect("written");
        let known = Beware { upto: Some(Gsn(70)), command: Some(Gsn(80)) };
        assert_eq!(recall(dir.path()), Ok(known));
        keep(dir.path(), known.left(Some(Gsn(80)))).expect("written");
        assert_eq!(recall(dir.path()), Ok(Beware { upto: None, command: Some(Gsn(80)) }));
        keep(dir.path(), known.left(Some(Gsn(81)))).expect("removed");
        assert!(!dir.path().join(NAME).exists());
        std::fs::write(dir.path().join(NAME), "upto x\n").expect("written");
        assert!(recall(dir.path()).expect_err("nonsense").contains("no position"));
    }
}
