//! How is a segment made before it is written to? With zeros, or only with its blocks reserved.

use super::aligned::Aligned;
use super::clock;
use super::space::is_full;
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes zeroed at a time: what a write of a log waits for at most, if it comes in between; and if there is a hurry.
const ZERO_CHUNK_BYTES: (usize, usize) = (256 << 10, 1 << 20);
/// While nobody is in a hurry, pauses between chunks are this many times as long as a chunk takes: most of the disk's time
/// is left to the logs, even if all of a machine's nodes make segments at once, as they do after a start.
const PAUSES: u32 = 15;
/// From groups of this size on, on average, zeros cost the disk more than they save.
const RESERVE_FROM_BYTES: u64 = 256 << 10;

/// What is done to the blocks of a new segment. Either way they are read as zeros, and file, length and name are
/// durable before the segment is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filling {
    /// Zeros are written. A synced write into them later changes nothing but the bytes: best for small groups, where
    /// it takes half the time.
    Zeros,
    /// They are reserved. Each synced write also has the file system note what is written from now on; but the
    /// disk carries every byte once instead of twice: best for large groups.
    Reserved,
}

impl Filling {
    /// What suits a log that lately wrote `bytes` in `groups`.
    pub fn best_for(bytes: u64, groups: u64) -> Self {
        let large = groups > 0 && bytes / groups >= RESERVE_FROM_BYTES;
        if large { Self::Reserved } else { Self::Zeros }
    }
}

/// Why a segment was not made.
#[derive(Debug)]
pub(super) enum SegmentError {
    /// There is no room for it now: nothing of it is left, and it may be tried again.
    NoRoom(std::io::Error),
    /// Something else, a failed sync among it, which is never tried again.
    Failed(std::io::Error),
}

impl std::fmt::Display for SegmentError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoRoom(e) => write!(f, "{e}: the disk is full; make room, or have the log trimmed"),
            Self::Failed(e) => {
                write!(f, "{e}; check the disk and the file system (O_DIRECT must work there)")
            }
        }
    }
}

/// Creates a segment of `bytes` bytes, and makes it and its name durable. Blocks. Slowly, so as not to be in the way of
/// the logs' writes, until somebody says `hurry`.
pub(super) fn make_segment(
    path: &Path,
    bytes: u32,
    filling: Filling,
    hurry: &AtomicBool,
) -> Result<(), SegmentError> {
    let file = fill(path, bytes, filling, hurry).map_err(|e| {
        if !is_full(&e) {
            return SegmentError::Failed(e);
        }
        // Nothing was synced, nothing rests on it: the next attempt makes it anew.
        let _ = std::fs::remove_file(path);
        SegmentError::NoRoom(e)
    })?;
    let synced =
        file.sync_all().and_then(|()| File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all());
    synced.map_err(SegmentError::Failed)
}

fn fill(path: &Path, bytes: u32, filling: Filling, hurry: &AtomicBool) -> std::io::Result<File> {
    let mut options = File::options();
    options.create(true).truncate(true).write(true).custom_flags(libc::O_DIRECT);
    let file = options.open(path)?;
    match filling {
        Filling::Zeros => write_zeros(&file, bytes, hurry)?,
        Filling::Reserved => reserve(&file, bytes, hurry)?,
    }
    Ok(file)
}

#[expect(clippy::disallowed_methods, reason = "on a thread of its own")]
fn write_zeros(file: &File, bytes: u32, hurry: &AtomicBool) -> std::io::Result<()> {
    let zeros = Aligned::zeroed(ZERO_CHUNK_BYTES.1);
    let (mut at, end) = (0u64, u64::from(bytes));
    while at < end {
        let hurry = hurry.load(Ordering::Relaxed);
        let chunk = if hurry { ZERO_CHUNK_BYTES.1 } else { ZERO_CHUNK_BYTES.0 };
        let n = (chunk as u64).min(end - at) as usize;
        let begun = clock::now();
        file.write_all_at(&zeros.bytes()[..n], at)?;
        at += n as u64;
        if !hurry {
            std::thread::sleep(clock::now().since(begun) * PAUSES);
        }
    }
    Ok(())
}

/// Not every file system can.
fn reserve(file: &File, bytes: u32, hurry: &AtomicBool) -> std::io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;
    match fallocate(file, FallocateFlags::empty(), 0, u64::from(bytes)) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_zeros(file, bytes, hurry),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn either_way_a_segment_is_as_long_as_asked_for_and_reads_as_zeros() {
        let dir = tempfile::tempdir().unwrap();
        for (name, filling) in [("zeros", Filling::Zeros), ("reserved", Filling::Reserved)] {
            let path = dir.path().join(name);
            fs::write(&path, vec![7; 3 << 20]).unwrap();
            for hurry in [false, true] {
                make_segment(&path, 2 << 20, filling, &AtomicBool::new(hurry)).unwrap();
                assert!(fs::read(&path).unwrap() == vec![0; 2 << 20], "{name}");
            }
        }
    }

    #[test]
    fn only_large_groups_have_blocks_reserved() {
        assert_eq!(Filling::best_for(0, 0), Filling::Zeros);
        assert_eq!(Filling::best_for(RESERVE_FROM_BYTES * 10 - 1, 10), Filling::Zeros);
        assert_eq!(Filling::best_for(RESERVE_FROM_BYTES * 10, 10), Filling::Reserved);
    }
}
