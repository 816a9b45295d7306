//! Where is the number of a slot's newest start kept, beside its log? In a small file in its data directory, written and
//! synced before the log says anything (what for: [`starts`]).

use super::datadir::write_durably;
use crate::starts;
use std::path::Path;

/// The file's name.
const FILE: &str = "start";

/// The number of a start whose log in `dir` tells of all those before `next`. It is in the file when this returns. A file that
/// can't be read says nothing, and where it can't be written (the disk is full, say) the start goes on: the log says the
/// number too, and one of both is enough.
pub fn number(dir: &Path, next: u64, random: u64) -> u64 {
    let path = dir.join(FILE);
    let at = path.display();
    let kept = match std::fs::read(&path) {
        Ok(bytes) => {
            let kept = starts::from_file(&bytes);
            if kept.is_none() {
                tracing::warn!("{at} is damaged: the number of this start follows what the log tells");
            }
            kept
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => {
            tracing::warn!("can't read {at}: {e}; the number of this start follows what the log tells");
            None
        }
    };
    if let Some(newest) = kept.filter(|newest| *newest >= next) {
        tracing::warn!(
            "the log in {} tells nothing of start {newest}: it ended before it began, or the log's end is lost",
            dir.display()
        );
    }
    let number = starts::number(next, kept, random);
    if let Err(e) = write_durably(&path, starts::to_file(number).as_bytes()) {
        tracing::warn!("{e}; the number of this start is kept in the log alone");
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_comes_twice_whichever_of_log_and_file_is_lost() {
        let home = tempfile::tempdir().unwrap();
        let (dir, file) = (home.path(), home.path().join(FILE));
        assert_eq!(number(dir, 1, 4), 5);
        // The log has it, and says so.
        assert_eq!(number(dir, 6, 0), 6);
        // It has forgotten the newest two.
        assert_eq!(number(dir, 5, 0), 7);
        for damaged in [&b"6 0000"[..], b"", &[0; 30]] {
            std::fs::write(&file, damaged).unwrap();
            assert_eq!(number(dir, 8, 0), 8);
            assert_eq!(number(dir, 8, 0), 9);
        }
        std::fs::remove_file(&file).unwrap();
        assert_eq!(number(dir, 10, 1), 11);
        assert_eq!(std::fs::read(&file).unwrap(), starts::to_file(11).into_bytes());
    }

    #[test]
    fn a_file_that_can_not_be_read_or_written_keeps_no_slot_from_starting() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(FILE)).unwrap();
        assert_eq!(number(home.path(), 3, 0), 3);
        assert_eq!(number(&home.path().join("gone"), 3, 0), 3);
    }
}
