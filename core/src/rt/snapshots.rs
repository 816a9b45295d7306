//! How do snapshots lie on the disk? One file each, `<GSN, 20 digits>.snapshot`, in a directory of their own.
//! A file has that name only after it was written, synced and read back from the disk unharmed; before that it
//! ends in `.tmp`, and the next start sweeps it away. What is got of another node's is in a `.part` until then, whose name says
//! of which file it is: that outlives a restart. Plain blocking files, on a thread of their own: nothing
//! here is in a hurry, and nothing here may hold up the log's writes.

use super::aligned::{Aligned, PAGE_BYTES};
use crate::ids::{ClusterId, Gsn};
use crate::snapshot::{SnapshotError, Unframer};
use crate::wire::SnapshotAt;
use bytes::Bytes;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
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
const PART: &str = ".part";

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

/// What is there of another node's snapshot, from an earlier life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartFile {
    /// Of which.
    pub of: SnapshotAt,
    /// Where it is.
    pub path: PathBuf,
    /// So many bytes of it were synced before more was written, and are to be gone on behind: fewer than the whole, and more
    /// than 0.
    pub bytes: u64,
}

/// A directory of snapshots.
#[derive(Clone, Debug)]
pub struct SnapshotStore {
    dir: PathBuf,
    cluster: ClusterId,
    /// Finished by this process, which has just read them back: who gives the newest need not look through it first, once.
    fresh: Arc<Mutex<Vec<SnapshotAt>>>,
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
        Ok(Self::look(dir, cluster))
    }

    /// A directory only to be looked at: nothing is made or removed.
    pub fn look(dir: &Path, cluster: ClusterId) -> Self {
        Self { dir: dir.to_path_buf(), cluster, fresh: Arc::default() }
    }

    /// That file was finished just now.
    fn finished(&self, at: SnapshotAt) {
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        fresh.retain(|before| before.gsn != at.gsn);
        fresh.push(at);
        let many = fresh.len().saturating_sub(KEPT);
        fresh.drain(..many);
    }

    /// What is in that file, if this process has finished it and nobody has asked before.
    fn take_fresh(&self, file: &SnapshotFile) -> Option<SnapshotAt> {
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        let at = fresh.iter().position(|at| (at.gsn, at.bytes) == (file.gsn, file.bytes))?;
        Some(fresh.remove(at))
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

    /// What there is of another node's snapshot, the newest if of several; whatever else ends in `.part` is removed.
    ///
    /// # Errors
    /// Text for a person: the directory can't be read or cleaned up.
    pub fn part(&self) -> Result<Option<PartFile>, String> {
        let mut found: Vec<PartFile> = Vec::new();
        for path in self.parts()? {
            match part_of(&path) {
                Some(part) => found.push(part),
                None => std::fs::remove_file(&path).map_err(|e| failed("remove", &path, &e))?,
            }
        }
        found.sort_by_key(|part| (part.of.gsn, part.bytes));
        let newest = found.pop();
        for part in found {
            self.remove_part(&part)?;
        }
        Ok(newest)
    }

    /// Reads what there is of another node's snapshot, about a megabyte at a time: its first [`PartFile::bytes`].
    ///
    /// # Errors
    /// Text for a person: it is unreadable, or `sink` says so.
    pub fn read_part(
        &self,
        part: &PartFile,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), SnapshotError>,
    ) -> Result<(), String> {
        let unusable = |e: SnapshotError| format!("{} can't be used: {e}", part.path.display());
        let mut file = open_past_cache(&part.path).map_err(|e| failed("open", &part.path, &e))?;
        let (mut buffer, mut left) = (Aligned::zeroed(IO_BYTES), part.bytes);
        while left > 0 {
            match file.read(buffer.bytes_mut()) {
                Ok(0) => return Err(format!("{} can't be used: it is cut off", part.path.display())),
                Ok(n) => {
                    let n = left.min(n as u64);
                    sink(&buffer.bytes()[..n as usize]).map_err(unusable)?;
                    left -= n;
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(failed("read", &part.path, &e)),
            }
        }
        Ok(())
    }

    /// Removes what there is of another node's snapshot.
    ///
    /// # Errors
    /// Text for a person: it can't be removed.
    pub fn remove_part(&self, part: &PartFile) -> Result<(), String> {
        std::fs::remove_file(&part.path).map_err(|e| failed("remove", &part.path, &e))
    }

    fn parts(&self) -> Result<Vec<PathBuf>, String> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.dir).map_err(|e| failed("read", &self.dir, &e))? {
            let path = entry.map_err(|e| failed("read", &self.dir, &e))?.path();
            if path.extension().is_some_and(|e| e == &PART[1..]) {
                found.push(path);
            }
        }
        Ok(found)
    }

    fn remove_parts(&self) -> Result<(), String> {
        self.parts()?
            .into_iter()
            .try_for_each(|path| std::fs::remove_file(&path).map_err(|e| failed("remove", &path, &e)))
    }

    fn part_path(&self, of: SnapshotAt) -> PathBuf {
        self.dir.join(format!("{:020}-{}-{:08x}{PART}", of.gsn.0, of.bytes, of.crc))
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

    /// Reads a file from its start to its end, faster than [`read`](SnapshotStore::read) and as it is: what is wrong with it is for
    /// `sink` to find.
    ///
    /// # Errors
    /// Text for a person, without the file's name: it is unreadable, or `sink` says so.
    pub fn read_ahead(
        &self,
        file: &SnapshotFile,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), SnapshotError>,
    ) -> Result<(), String> {
        ahead::read_ahead(&file.path, sink)
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
        file: File,
        path: &Path,
        gsn: Gsn,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), SnapshotError>,
        stop: &AtomicBool,
    ) -> Result<(), String> {
        let mut back = ReadBack::new(file, self.cluster);
        back.read(path, u64::MAX, sink, stop)?;
        back.finish(path, gsn)
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

/// A file that is looked through, as far as it is written.
struct ReadBack {
    file: File,
    frame: Unframer,
    buffer: Aligned,
    /// Bytes that were read.
    at: u64,
}

impl ReadBack {
    fn new(file: File, cluster: ClusterId) -> Self {
        Self { file, frame: Unframer::new(cluster), buffer: Aligned::zeroed(IO_BYTES), at: 0 }
    }

    /// Reads on, up to there or to the end.
    fn read(
        &mut self,
        path: &Path,
        until: u64,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), SnapshotError>,
        stop: &AtomicBool,
    ) -> Result<(), String> {
        let unusable = |e: SnapshotError| format!("{} can't be used: {e}", path.display());
        while self.at < until {
            let n = match self.file.read_at(self.buffer.bytes_mut(), self.at) {
                Ok(0) => break,
                Ok(n) => n.min((until - self.at).min(IO_BYTES as u64) as usize),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(failed("read", path, &e)),
            };
            let bytes = &self.buffer.bytes()[..n];
            self.frame.push(bytes, |_, _| Ok(())).map_err(unusable)?;
            sink(bytes).map_err(unusable)?;
            self.at += n as u64;
            if stop.load(Ordering::Relaxed) {
                return Err("the node ends".into());
            }
        }
        Ok(())
    }

    /// All was read: whether it is a whole snapshot of there.
    fn finish(self, path: &Path, gsn: Gsn) -> Result<(), String> {
        let found = self.frame.finish().map_err(|e| format!("{} can't be used: {e}", path.display()))?;
        if found != gsn {
            return Err(format!("{} can't be used: it is of position {found}", path.display()));
        }
        Ok(())
    }
}

/// What the name of a file says of it, if it is of another node's snapshot and has bytes that count.
fn part_of(path: &Path) -> Option<PartFile> {
    let mut fields = path.file_name()?.to_str()?.strip_suffix(PART)?.split('-');
    let (gsn, bytes) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let crc = u32::from_str_radix(fields.next()?, 16).ok()?;
    let of = SnapshotAt { gsn: Gsn(gsn), bytes, crc };
    let have = std::fs::metadata(path).ok()?.len().min(bytes.checked_sub(1)?);
    // Each so many were synced before more was written.
    let bytes = have / SYNC_BYTES as u64 * SYNC_BYTES as u64;
    (bytes > 0 && fields.next().is_none()).then(|| PartFile { of, path: path.to_path_buf(), bytes })
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
    /// Of another node's snapshot, and its offset there.
    part: Option<(SnapshotAt, u64)>,
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
        self.give(Work::Save(Piece { gsn, bytes, last, part: None }))
    }

    /// Gives it a piece of another node's, as [`Output::SavePart`](crate::machine::Output::SavePart) means it. Never blocks.
    ///
    /// # Errors
    /// As of [`save`](Self::save).
    pub fn save_part(&self, of: SnapshotAt, from: u64, bytes: Bytes, last: bool) -> Result<(), String> {
        self.give(Work::Save(Piece { gsn: of.gsn, bytes, last, part: Some((of, from)) }))
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
                open.take().into_iter().for_each(Unfinished::discard);
                let gone = store.remove_parts();
                if finished && let Err(why) = gone.and_then(|()| store.remove_all()) {
                    tracing::warn!("{why}; remove it by hand: it must not be started from");
                }
                continue;
            }
        };
        let part = piece.part.map(|(of, _)| of);
        let mut unfinished = match (open.take(), piece.part) {
            (Some(unfinished), _) if unfinished.is_of(piece.gsn, part) => Ok(unfinished),
            (_, Some((of, from))) => Unfinished::go_on(store, of, from),
            (_, None) => Unfinished::create(store, piece.gsn),
        };
        let result = match &mut unfinished {
            Ok(unfinished) => unfinished.take(&piece, stop).and_then(|()| match piece.last {
                true => unfinished.finish(store, stop),
                false => Ok(()),
            }),
            Err(why) => Err(why.clone()),
        };
        match unfinished {
            Ok(unfinished) if result.is_ok() && !piece.last => open = Some(unfinished),
            // Who is told to end in the middle of the last look has done nothing wrong.
            Ok(unfinished) if result.is_err() && !stop.load(Ordering::Relaxed) => unfinished.discard(),
            _ => {}
        }
        answer(piece.gsn, piece.last, result);
    }
}

/// A file being written; removed unless it was finished, or is a part of another node's snapshot that a later life can go on
/// with. It is written past the kernel's cache where the file system can:
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
    /// Of all that was given, if that is from the file's beginning on.
    crc: u32,
    /// What was synced is read back along the way, so that little is left in the end. Not of a file that is gone on with: that is
    /// read as a whole then.
    back: Option<ReadBack>,
    /// Of another node's snapshot.
    part: Option<SnapshotAt>,
    /// It stays when this goes.
    stays: bool,
}

impl Unfinished {
    fn create(store: &SnapshotStore, gsn: Gsn) -> Result<Self, String> {
        Self::open(store.path(gsn, UNFINISHED), store.cluster, gsn, (None, 0))
    }

    /// A part of another node's snapshot, of which there are so many bytes that count. There is one such file at a time.
    fn go_on(store: &SnapshotStore, of: SnapshotAt, from: u64) -> Result<Self, String> {
        let path = store.part_path(of);
        if from == 0 {
            store.remove_parts()?;
        } else if part_of(&path).is_none_or(|part| part.bytes < from)
            || !from.is_multiple_of(SYNC_BYTES as u64)
        {
            return Err(format!("{} does not have the {from} bytes that it had", path.display()));
        }
        Self::open(path, store.cluster, of.gsn, (Some(of), from))
    }

    fn open(
        path: PathBuf,
        cluster: ClusterId,
        gsn: Gsn,
        (part, from): (Option<SnapshotAt>, u64),
    ) -> Result<Self, String> {
        let how = || File::options().write(true).create(true).truncate(from == 0).clone();
        let direct = how().custom_flags(libc::O_DIRECT).open(&path);
        let mut file = direct.or_else(|_| how().open(&path)).map_err(|e| failed("make", &path, &e))?;
        file.set_len(from).map_err(|e| failed("cut", &path, &e))?;
        file.seek(SeekFrom::Start(from)).map_err(|e| failed("write", &path, &e))?;
        let buffer = Aligned::zeroed(IO_BYTES);
        let back = match from {
            0 => Some(open_past_cache(&path).map_err(|e| failed("open", &path, &e))?),
            _ => None,
        };
        let back = back.map(|file| ReadBack::new(file, cluster));
        let (filled, unsynced, crc, stays) = (0, 0, 0, part.is_some());
        Ok(Self { gsn, path, file, buffer, filled, written: from, unsynced, crc, back, part, stays })
    }

    /// Whether it is the file of that snapshot, of our own or of another node's.
    fn is_of(&self, gsn: Gsn, part: Option<SnapshotAt>) -> bool {
        (self.gsn, self.part) == (gsn, part)
    }

    /// Appends a piece, which must begin where the file ends.
    fn take(&mut self, piece: &Piece, stop: &AtomicBool) -> Result<(), String> {
        let end = self.written + self.filled as u64;
        match piece.part {
            Some((_, from)) if from != end => {
                Err(format!("{} has {end} bytes, what comes begins at {from}", self.path.display()))
            }
            _ => {
                self.crc = crc32c::crc32c_append(self.crc, &piece.bytes);
                self.write(&piece.bytes, stop)
            }
        }
    }

    /// Nothing comes of it.
    fn discard(mut self) {
        self.stays = false;
    }

    fn write(&mut self, mut bytes: &[u8], stop: &AtomicBool) -> Result<(), String> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(self.buffer.len() - self.filled));
            self.buffer.bytes_mut()[self.filled..][..now.len()].copy_from_slice(now);
            self.filled += now.len();
            bytes = later;
            if self.filled == self.buffer.len() {
                self.put_out()?;
                if self.unsynced >= SYNC_BYTES {
                    self.sync()?;
                    self.read_back(stop)?;
                }
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
        Ok(())
    }

    /// A failed sync is the end of the file: nothing says what of it is on the disk.
    fn sync(&mut self) -> Result<(), String> {
        self.unsynced = 0;
        self.file.sync_data().map_err(|e| failed("sync", &self.path, &e))
    }

    /// Reads what was synced since the last time.
    fn read_back(&mut self, stop: &AtomicBool) -> Result<(), String> {
        let Some(back) = &mut self.back else { return Ok(()) };
        forget_cached(&self.file);
        back.read(&self.path, self.written, &mut |_| Ok(()), stop)
    }

    /// Syncs the file, reads it back, and gives it its name.
    fn finish(&mut self, store: &SnapshotStore, stop: &AtomicBool) -> Result<(), String> {
        self.put_out()?;
        self.file.set_len(self.written).map_err(|e| failed("cut", &self.path, &e))?;
        self.sync()?;
        self.read_back(stop)?;
        match self.back.take() {
            Some(back) => back.finish(&self.path, self.gsn)?,
            None => {
                forget_cached(&self.file);
                let file = open_past_cache(&self.path).map_err(|e| failed("open", &self.path, &e))?;
                store.check(file, &self.path, self.gsn, &mut |_| Ok(()), stop)?;
            }
        }
        let name = store.path(self.gsn, ENDING);
        std::fs::rename(&self.path, &name).map_err(|e| failed("rename", &self.path, &e))?;
        self.stays = true;
        store.sync_dir()?;
        let crc = self.part.map_or(self.crc, |of| of.crc);
        store.finished(SnapshotAt { gsn: self.gsn, bytes: self.written, crc });
        store.prune(self.gsn)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.stays {
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

mod ahead;
mod reader;

pub use reader::{Given, SnapshotReader};

#[cfg(test)]
mod tests;
