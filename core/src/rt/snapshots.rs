//! How do snapshots lie on the disk? One file each, `<GSN, 20 digits>.snapshot`, in a directory of their own.
//! A file has that name only after it was written, synced and read back from the disk unharmed; before that it
//! ends in `.tmp`, and the next start sweeps it away. Plain blocking files, on a thread of their own: nothing
//! here is in a hurry, and nothing here may hold up the log's writes.

use super::aligned::{Aligned, PAGE_BYTES};
use crate::ids::{ClusterId, Gsn};
use crate::snapshot::{SnapshotError, Unframer};
use bytes::Bytes;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

/// Good files kept: the newest may turn out to be unreadable, and so may the next.
const KEPT: usize = 3;
/// Bytes after which a file being written is synced, so that no sync of it takes long, and none of the log's
/// writes waits behind many of its.
const SYNC_BYTES: usize = 4 << 20;
/// Bytes read or written at a time.
const IO_BYTES: usize = 1 << 20;
/// What may wait for the writer: a machine gives one piece at a time, and drops little.
const WAITING_MAX: usize = 8;

const ENDING: &str = ".snapshot";
const UNFINISHED: &str = ".tmp";

/// A file that has the name of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Position that its name says.
    pub gsn: Gsn,
    /// Where it is.
    pub path: PathBuf,
    /// How long it is.
    pub bytes: u64,
}

/// A directory of snapshots.
#[derive(Clone, Debug)]
pub struct SnapshotStore {
    dir: PathBuf,
    cluster: ClusterId,
}

impl SnapshotStore {
    /// Opens (or creates) the directory, and removes what was never finished. `cluster` is whose snapshots
    /// are taken; 0 takes any.
    ///
    /// # Errors
    /// Text for a person: it can't be made, read or cleaned up.
    pub fn open(dir: &Path, cluster: ClusterId) -> Result<Self, String> {
        std::fs::create_dir_all(dir).map_err(|e| failed("make", dir, &e))?;
        for entry in std::fs::read_dir(dir).map_err(|e| failed("read", dir, &e))? {
            let path = entry.map_err(|e| failed("read", dir, &e))?.path();
            if path.to_string_lossy().ends_with(UNFINISHED) {
                std::fs::remove_file(&path).map_err(|e| failed("remove", &path, &e))?;
            }
        }
        Ok(Self { dir: dir.to_path_buf(), cluster })
    }

    /// A directory only to be looked at: nothing is made or removed.
    pub fn look(dir: &Path, cluster: ClusterId) -> Self {
        Self { dir: dir.to_path_buf(), cluster }
    }

    /// All files that have the name of a snapshot, the newest first. Other files are left alone.
    ///
    /// # Errors
    /// Text for a person: the directory can't be read.
    pub fn newest(&self) -> Result<Vec<SnapshotFile>, String> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.dir).map_err(|e| failed("read", &self.dir, &e))? {
            let entry = entry.map_err(|e| failed("read", &self.dir, &e))?;
            let name = entry.file_name();
            let digits = name.to_str().and_then(|n| n.strip_suffix(ENDING));
            let digits = digits.filter(|d| d.len() == 20 && d.bytes().all(|b| b.is_ascii_digit()));
            let (Some(gsn), Ok(about)) = (digits.and_then(|d| d.parse().ok()), entry.metadata()) else {
                continue;
            };
            found.push(SnapshotFile { gsn: Gsn(gsn), path: entry.path(), bytes: about.len() });
        }
        found.sort_by_key(|f| std::cmp::Reverse(f.gsn));
        Ok(found)
    }

    /// Reads a file from its start to its end, about a megabyte at a time, and checks it on the way. What
    /// `sink` got means something only if all of it was good.
    ///
    /// # Errors
    /// Text for a person, the reason why this file can't be used: it is torn, damaged, another cluster's, of a
    /// newer version or unreadable, or `sink` says so.
    pub fn read(
        &self,
        file: &SnapshotFile,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), SnapshotError>,
    ) -> Result<(), String> {
        let opened = File::open(&file.path).map_err(|e| failed("open", &file.path, &e))?;
        self.check(opened, &file.path, file.gsn, sink, &AtomicBool::new(false))
    }

    /// Reads a file only to see whether it is good.
    ///
    /// # Errors
    /// As [`SnapshotStore::read`].
    pub fn verify(&self, file: &SnapshotFile) -> Result<(), String> {
        self.read(file, &mut |_| Ok(()))
    }

    fn check(
        &self,
        mut file: File,
        path: &Path,
        gsn: Gsn,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), SnapshotError>,
        stop: &AtomicBool,
    ) -> Result<(), String> {
        let unusable = |e: SnapshotError| format!("{} can't be used: {e}", path.display());
        let (mut frame, mut buffer) = (Unframer::new(self.cluster), Aligned::zeroed(IO_BYTES));
        loop {
            let n = match file.read(buffer.bytes_mut()) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(failed("read", path, &e)),
            };
            frame.push(&buffer.bytes()[..n], |_, _| Ok(())).map_err(unusable)?;
            sink(&buffer.bytes()[..n]).map_err(unusable)?;
            if stop.load(Ordering::Relaxed) {
                return Err("the node ends".into());
            }
        }
        let found = frame.finish().map_err(unusable)?;
        if found != gsn {
            return Err(format!("{} can't be used: it is of position {found}", path.display()));
        }
        Ok(())
    }

    fn path(&self, gsn: Gsn, ending: &str) -> PathBuf {
        self.dir.join(format!("{:020}{ending}", gsn.0))
    }

    fn sync_dir(&self) -> Result<(), String> {
        File::open(&self.dir).and_then(|d| d.sync_all()).map_err(|e| failed("sync", &self.dir, &e))
    }

    /// Removes what is older than the newest good ones, of which `gsn` is the newest. Files that claim to be
    /// newer are not ours to judge.
    fn prune(&self, gsn: Gsn) -> Result<(), String> {
        for file in self.newest()?.into_iter().filter(|f| f.gsn < gsn).skip(KEPT - 1) {
            std::fs::remove_file(&file.path).map_err(|e| failed("remove", &file.path, &e))?;
        }
        Ok(())
    }

    /// Removes every snapshot.
    fn remove_all(&self) -> Result<(), String> {
        for file in self.newest()? {
            std::fs::remove_file(&file.path).map_err(|e| failed("remove", &file.path, &e))?;
        }
        self.sync_dir()
    }
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> String {
    let cure = match error.kind() {
        std::io::ErrorKind::StorageFull => "; make room on that disk",
        std::io::ErrorKind::PermissionDenied => "; check its owner and rights",
        _ => "",
    };
    format!("can't {what} {}: {error}{cure}", path.display())
}

/// What the writer answers to a piece: position, whether it was the last, what came of it.
pub type Answer = Box<dyn Fn(Gsn, bool, Result<(), String>) + Send>;

struct Piece {
    gsn: Gsn,
    bytes: Bytes,
    last: bool,
}

enum Work {
    Save(Piece),
    /// The unfinished file goes; also finished ones, if so.
    Drop {
        finished: bool,
    },
}

/// A thread that writes snapshots. It ends, without finishing what it is at, when this is dropped.
#[derive(Debug)]
pub struct SnapshotWriter {
    work: Option<SyncSender<Work>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl SnapshotWriter {
    /// Starts the thread. `answer` is called on it, once per piece, in their order.
    ///
    /// # Errors
    /// Text for a person: there can be no more threads.
    pub fn start(store: SnapshotStore, answer: Answer) -> Result<Self, String> {
        let (sender, work) = sync_channel(WAITING_MAX);
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let thread = std::thread::Builder::new()
            .name("snapshots".into())
            .spawn(move || write_all(&store, &work, &answer, &seen))
            .map_err(|e| format!("can't start a thread for snapshots: {e}"))?;
        Ok(Self { work: Some(sender), stop, thread: Some(thread) })
    }

    /// Gives it a piece, as [`Output::SaveSnapshot`](crate::machine::Output::SaveSnapshot) means it. Never
    /// blocks.
    ///
    /// # Errors
    /// More pieces wait than a machine may have given, or the thread has died. The answer does not come then.
    pub fn save(&self, gsn: Gsn, bytes: Bytes, last: bool) -> Result<(), String> {
        self.give(Work::Save(Piece { gsn, bytes, last }))
    }

    /// Has files dropped, as [`Output::DropSnapshots`](crate::machine::Output::DropSnapshots) means it. Never blocks.
    ///
    /// # Errors
    /// As of [`save`](Self::save).
    pub fn drop_files(&self, finished: bool) -> Result<(), String> {
        self.give(Work::Drop { finished })
    }

    fn give(&self, work: Work) -> Result<(), String> {
        let waiting = self.work.as_ref().expect("there until dropped");
        waiting.try_send(work).map_err(|e| match e {
            TrySendError::Full(_) => "too many pieces at a time".into(),
            TrySendError::Disconnected(_) => "the thread that writes snapshots has died".into(),
        })
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.work = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was printed there.
            let _ = thread.join();
        }
    }
}

fn write_all(store: &SnapshotStore, work: &Receiver<Work>, answer: &Answer, stop: &AtomicBool) {
    let mut open: Option<Unfinished> = None;
    for work in work {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let piece = match work {
            Work::Save(piece) => piece,
            Work::Drop { finished } => {
                open = None;
                if finished && let Err(why) = store.remove_all() {
                    tracing::warn!("{why}; remove it by hand: it must not be started from");
                }
                continue;
            }
        };
        let mut unfinished = match open.take() {
            Some(unfinished) if unfinished.gsn == piece.gsn => Ok(unfinished),
            _ => Unfinished::create(store, piece.gsn),
        };
        let result = match &mut unfinished {
            Ok(unfinished) if piece.last => {
                unfinished.write(&piece.bytes).and_then(|()| unfinished.finish(store, stop))
            }
            Ok(unfinished) => unfinished.write(&piece.bytes),
            Err(why) => Err(why.clone()),
        };
        open = unfinished.ok().filter(|_| result.is_ok() && !piece.last);
        answer(piece.gsn, piece.last, result);
    }
}

/// A file being written; removed unless it was finished. It is written past the kernel's cache where the file system can:
/// a copy into pages that nobody will read cost as much processor as all else that a snapshot takes.
struct Unfinished {
    gsn: Gsn,
    path: PathBuf,
    file: File,
    /// What comes next in the file, and how much of it there is.
    buffer: Aligned,
    filled: usize,
    written: u64,
    unsynced: usize,
    finished: bool,
}

impl Unfinished {
    fn create(store: &SnapshotStore, gsn: Gsn) -> Result<Self, String> {
        let path = store.path(gsn, UNFINISHED);
        let how = || File::options().write(true).create(true).truncate(true).clone();
        let direct = how().custom_flags(libc::O_DIRECT).open(&path);
        let file = direct.or_else(|_| how().open(&path)).map_err(|e| failed("make", &path, &e))?;
        let buffer = Aligned::zeroed(IO_BYTES);
        Ok(Self { gsn, path, file, buffer, filled: 0, written: 0, unsynced: 0, finished: false })
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(self.buffer.len() - self.filled));
            self.buffer.bytes_mut()[self.filled..][..now.len()].copy_from_slice(now);
            self.filled += now.len();
            bytes = later;
            if self.filled == self.buffer.len() {
                self.put_out()?;
            }
        }
        Ok(())
    }

    /// Writes the buffer, in whole pages as the disk wants them.
    fn put_out(&mut self) -> Result<(), String> {
        let len = self.filled.next_multiple_of(PAGE_BYTES);
        self.buffer.bytes_mut()[self.filled..len].fill(0);
        let all = self.file.write_all(&self.buffer.bytes()[..len]);
        all.map_err(|e| failed("write", &self.path, &e))?;
        self.written += self.filled as u64;
        self.unsynced += std::mem::take(&mut self.filled);
        if self.unsynced >= SYNC_BYTES { self.sync() } else { Ok(()) }
    }

    /// A failed sync is the end of the file: nothing says what of it is on the disk.
    fn sync(&mut self) -> Result<(), String> {
        self.unsynced = 0;
        self.file.sync_data().map_err(|e| failed("sync", &self.path, &e))
    }

    /// Syncs the file, reads it back, and gives it its name.
    fn finish(&mut self, store: &SnapshotStore, stop: &AtomicBool) -> Result<(), String> {
        self.put_out()?;
        self.file.set_len(self.written).map_err(|e| failed("cut", &self.path, &e))?;
        self.sync()?;
        forget_cached(&self.file);
        let file = open_past_cache(&self.path).map_err(|e| failed("open", &self.path, &e))?;
        store.check(file, &self.path, self.gsn, &mut |_| Ok(()), stop)?;
        let name = store.path(self.gsn, ENDING);
        std::fs::rename(&self.path, &name).map_err(|e| failed("rename", &self.path, &e))?;
        self.finished = true;
        store.sync_dir()?;
        store.prune(self.gsn)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.finished {
            // What can't be removed now is when the directory is opened again.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Opens a file so that reading it reads the disk, and copies nothing. Where a file system can't, the kernel's cache
/// is read, which was asked to forget it.
fn open_past_cache(path: &Path) -> std::io::Result<File> {
    let direct = File::options().read(true).custom_flags(libc::O_DIRECT).open(path);
    direct.or_else(|_| File::open(path))
}

/// Asks the kernel to drop what it has cached of a synced file: the memory is better used otherwise, and what is read
/// then is what the disk has. Advice: where it is not taken, the check only proves less.
fn forget_cached(file: &File) {
    // SAFETY: a plain syscall on an open descriptor, without memory of ours.
    let _ = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}

mod reader;

pub use reader::{Given, SnapshotReader};

#[cfg(test)]
mod tests;
