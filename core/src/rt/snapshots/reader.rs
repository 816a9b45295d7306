//! How are snapshots read for others? On a thread of its own, piece by piece, past the kernel's cache: whoever is given
//! a large file takes nothing from this node but the disk's time. A file that was found is kept open, so that it can be
//! read to its end though newer ones have taken its place. Before it is given, it is looked through; not the first time after it
//! was written, for then it has just been read back.

use super::super::aligned::{Aligned, PAGE_BYTES};
use super::{SnapshotFile, SnapshotStore, failed, open_past_cache};
use crate::machine::Token;
use crate::wire::SnapshotAt;
use bytes::Bytes;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

/// Files kept open: those found last.
const OPEN_MAX: usize = 3;
/// What may wait: a question, and a few pieces.
const WAITING_MAX: usize = 32;

/// What was read.
#[derive(Debug)]
pub enum Given {
    /// The snapshot that can be given; `None` if none is good.
    Found(Option<SnapshotAt>),
    /// A piece of one, or why it can't be had.
    Piece(Token, Result<Bytes, String>),
}

enum Ask {
    Find(Option<SnapshotAt>),
    Read(Token, SnapshotAt, u64, u32),
}

/// A thread that reads snapshots. It ends when this is dropped.
#[derive(Debug)]
pub struct SnapshotReader {
    asks: Option<SyncSender<Ask>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl SnapshotReader {
    /// Starts the thread. `answer` is called on it, once per question, in their order.
    ///
    /// # Errors
    /// Text for a person: there can be no more threads.
    pub fn start(store: SnapshotStore, answer: Box<dyn Fn(Given) + Send>) -> Result<Self, String> {
        let (sender, asks) = sync_channel(WAITING_MAX);
        let stop = Arc::new(AtomicBool::new(false));
        let mut reading = Reading { store, open: Vec::new(), stop: stop.clone() };
        let thread = std::thread::Builder::new()
            .name("giving".into())
            .spawn(move || reading.answer_all(&asks, &answer))
            .map_err(|e| format!("can't start a thread that reads snapshots: {e}"))?;
        Ok(Self { asks: Some(sender), stop, thread: Some(thread) })
    }

    /// Looks for a snapshot, as [`Output::FindSnapshot`](crate::machine::Output::FindSnapshot) means it. Never blocks.
    ///
    /// # Errors
    /// More waits than a machine may have asked for, or the thread has died.
    pub fn find(&self, like: Option<SnapshotAt>) -> Result<(), String> {
        self.ask(Ask::Find(like))
    }

    /// Reads a piece, as [`Output::ReadSnapshot`](crate::machine::Output::ReadSnapshot) means it. Never blocks.
    ///
    /// # Errors
    /// As of [`find`](Self::find).
    pub fn read(&self, token: Token, of: SnapshotAt, from: u64, bytes: u32) -> Result<(), String> {
        self.ask(Ask::Read(token, of, from, bytes))
    }

    fn ask(&self, ask: Ask) -> Result<(), String> {
        self.asks.as_ref().expect("there until dropped").try_send(ask).map_err(|e| match e {
            TrySendError::Full(_) => "too many pieces of snapshots at a time".into(),
            TrySendError::Disconnected(_) => "the thread that reads snapshots has died".into(),
        })
    }
}

impl Drop for SnapshotReader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.asks = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was printed there.
            let _ = thread.join();
        }
    }
}

fn open(about: &SnapshotFile) -> Result<File, String> {
    open_past_cache(&about.path).map_err(|e| failed("open", &about.path, &e))
}

struct Reading {
    store: SnapshotStore,
    /// Found before, the newest last.
    open: Vec<(SnapshotAt, File)>,
    stop: Arc<AtomicBool>,
}

impl Reading {
    fn answer_all(&mut self, asks: &Receiver<Ask>, answer: &dyn Fn(Given)) {
        for ask in asks {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            answer(match ask {
                Ask::Find(like) => Given::Found(self.find(like)),
                Ask::Read(token, of, from, bytes) => Given::Piece(token, self.read(of, from, bytes)),
            });
        }
    }

    fn find(&mut self, like: Option<SnapshotAt>) -> Option<SnapshotAt> {
        if let Some((found, _)) = self.open.iter().find(|(at, _)| Some(*at) == like) {
            return Some(*found);
        }
        let files = self.store.newest().unwrap_or_else(|why| {
            tracing::warn!("no snapshot can be given: {why}");
            Vec::new()
        });
        for about in files {
            // If it has changed since, who gets it finds that, and asks again: then it is looked through.
            let looked = match self.store.take_fresh(&about) {
                Some(at) => open(&about).map(|file| (at, file)),
                None => self.look(&about),
            };
            match looked {
                Ok((found, file)) => {
                    self.open.retain(|(at, _)| *at != found);
                    self.open.push((found, file));
                    let many = self.open.len().saturating_sub(OPEN_MAX);
                    self.open.drain(..many);
                    return Some(found);
                }
                Err(why) => tracing::warn!("{why}; the one before it is given"),
            }
        }
        None
    }

    /// Reads a file as a whole, so that nobody is given what turns out to be damaged at its end.
    fn look(&self, about: &SnapshotFile) -> Result<(SnapshotAt, File), String> {
        let (file, mut crc, mut bytes) = (open(about)?, 0, 0);
        let mut sink = |piece: &[u8]| {
            crc = crc32c::crc32c_append(crc, piece);
            bytes += piece.len() as u64;
            Ok(())
        };
        self.store.check(open(about)?, &about.path, about.gsn, &mut sink, &self.stop)?;
        Ok((SnapshotAt { gsn: about.gsn, bytes, crc }, file))
    }

    fn read(&self, of: SnapshotAt, from: u64, bytes: u32) -> Result<Bytes, String> {
        let (_, file) = self.open.iter().find(|(at, _)| *at == of).ok_or("it is not there any more")?;
        // Direct reads are of whole pages.
        let first = from / PAGE_BYTES as u64 * PAGE_BYTES as u64;
        let (skip, wanted) = ((from - first) as usize, bytes as usize);
        let mut buffer = Aligned::zeroed(skip + wanted);
        let mut filled = 0;
        while filled < skip + wanted {
            match file.read_at(&mut buffer.bytes_mut()[filled..], first + filled as u64) {
                Ok(0) => return Err(format!("it ends after {} bytes", first + filled as u64)),
                // What is left begins within a page only behind the file's end.
                Ok(n) => filled += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.to_string()),
            }
        }
        Ok(Bytes::from_owner(buffer).slice(skip..skip + wanted))
    }
}
