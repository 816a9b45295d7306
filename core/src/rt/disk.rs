//! How does a log reach the disk? The files of one [`Wal`]: one group in flight, segments zero-filled ahead,
//! records read back. A write or sync that fails ends the node; it is never retried, since the kernel may have
//! dropped what it could not write.
//!
//! Segments are opened with O_DSYNC: a write completes when it is as durable as write and fdatasync make it,
//! in one request instead of two (docs/decisions/0001-one-synced-write-per-group.md).

use super::event::Event;
use super::executors::within;
use super::tcp::Inbox;
use crate::machine::{Input, Token};
use crate::wal::{
    FsSource, GroupPlan, Recovered, Wal, WalConfig, WalPos, WalRecord, recover, segment_file_name,
    verify_record,
};
use bytes::Bytes;
use glommio::io::{DmaFile, OpenOptions};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// After this long without work, one empty block says that all before it is durable.
const IDLE: Duration = Duration::from_secs(1);
/// Bytes zeroed at a time.
const ZERO_CHUNK_BYTES: usize = 1 << 20;

/// A log that was recovered and is not yet written to.
#[derive(Debug)]
pub struct Disk {
    dir: PathBuf,
    wal: Wal,
}

impl Disk {
    /// Recovers the log in `dir`, which is made if it isn't there.
    ///
    /// # Errors
    /// Text for a person.
    pub fn open(dir: &Path, config: WalConfig) -> Result<(Self, Recovered), String> {
        let wrong = |e: std::io::Error| format!("{}: {e}", dir.display());
        std::fs::create_dir_all(dir).map_err(wrong)?;
        let source = FsSource::new(dir);
        let (recovered, wal) = recover(&source, &config).map_err(|e| format!("{}: {e}", dir.display()))?;
        for damage in &recovered.damage {
            tracing::warn!("{}: {damage:?}", dir.display());
        }
        Ok((Self { dir: dir.to_path_buf(), wal }, recovered))
    }

    /// Writes the log's first group, which announces this start, and begins to take records.
    pub(super) async fn start<C: 'static>(self, inbox: Rc<Inbox<C>>) -> Result<RunningDisk<C>, String> {
        let shared = Rc::new(Shared {
            dir: self.dir,
            wal: RefCell::new(self.wal),
            files: RefCell::default(),
            kick: Event::default(),
            done: Event::default(),
            busy: Cell::new(false),
            preparing: Cell::new(false),
            failure: RefCell::default(),
            inbox,
        });
        shared.prepare_segment().await?;
        shared.prime().await?;
        let first = shared.wal.borrow_mut().group().ok_or("the log announced no start")?;
        shared.write(first).await?;
        let task = shared.clone();
        glommio::spawn_local(async move {
            if let Err(e) = task.write_all().await {
                tracing::error!("{}: {e}", task.dir.display());
                *task.failure.borrow_mut() = Some(e);
            }
            task.busy.set(false);
            task.done.set();
            task.inbox.event.set();
        })
        .detach();
        Ok(RunningDisk(shared))
    }
}

/// A log in use.
pub(super) struct RunningDisk<C>(Rc<Shared<C>>);

struct Shared<C> {
    dir: PathBuf,
    wal: RefCell<Wal>,
    files: RefCell<BTreeMap<u32, Rc<DmaFile>>>,
    kick: Event,
    done: Event,
    /// A group is under way.
    busy: Cell<bool>,
    /// A segment is being made.
    preparing: Cell<bool>,
    failure: RefCell<Option<String>>,
    inbox: Rc<Inbox<C>>,
}

impl<C: 'static> RunningDisk<C> {
    /// Queues records for the next group.
    pub fn persist(&self, token: Token, records: Vec<WalRecord>) {
        self.0.wal.borrow_mut().append(token, records);
    }

    /// Starts what there is to do.
    pub fn kick(&self) {
        let has_work = self.0.wal.borrow().has_work();
        if has_work && !self.0.busy.get() {
            self.0.kick.set();
        }
    }

    /// Begins a new segment if it is time; between turns only, since `checkpoint` stands for all that was
    /// handed in.
    pub fn roll_if_due(&self, checkpoint: impl FnOnce() -> Bytes) {
        let mut wal = self.0.wal.borrow_mut();
        if wal.wants_checkpoint() {
            wal.start_segment(checkpoint());
        }
    }

    /// Reads a record back; `Input::Loaded` follows.
    pub fn load(&self, token: Token, pos: WalPos) {
        let shared = self.0.clone();
        glommio::spawn_local(async move {
            let result = shared.read(pos).await;
            shared.inbox.push(Input::Loaded { token, result });
        })
        .detach();
    }

    /// Deletes segments that are not needed any more.
    pub fn release(&self, before: u32) {
        let gone = self.0.wal.borrow_mut().release(before);
        if gone.is_empty() {
            return;
        }
        let files: Vec<_> = gone.iter().filter_map(|n| self.0.files.borrow_mut().remove(n)).collect();
        let dir = self.0.dir.clone();
        glommio::spawn_local(async move {
            for file in files {
                if let Ok(file) = Rc::try_unwrap(file) {
                    // Closing a file that is about to be deleted can't lose anything.
                    let _ = file.close().await;
                }
            }
            let deleted = glommio::executor().spawn_blocking(move || -> std::io::Result<()> {
                for number in gone {
                    std::fs::remove_file(dir.join(segment_file_name(number)))?;
                }
                Ok(())
            });
            if let Err(e) = deleted.await {
                tracing::warn!("deleting an old segment: {e}; its space stays taken until the next start");
            }
        })
        .detach();
    }

    /// Why the log can't go on.
    pub fn failure(&self) -> Option<String> {
        self.0.failure.borrow().clone()
    }

    /// Waits until all that was handed in is durable, or has failed.
    pub async fn finish(&self) {
        while self.failure().is_none() && (self.0.busy.get() || self.0.wal.borrow().has_work()) {
            self.0.kick.set();
            self.0.done.wait().await;
        }
    }
}

impl<C: 'static> Shared<C> {
    fn path(&self, segment: u32) -> PathBuf {
        self.dir.join(segment_file_name(segment))
    }

    /// glommio decides at a thread's first read of a device whether to poll it for completions, and decides
    /// wrongly if that read finds an empty file: let it be one with synced data.
    async fn prime(&self) -> Result<(), String> {
        let probe = self.dir.join("probe");
        let made = probe.clone();
        let make = move || -> std::io::Result<()> {
            let mut file = File::create(&made)?;
            file.write_all(&[0u8; 4096])?;
            file.sync_all()
        };
        glommio::executor().spawn_blocking(make).await.map_err(|e| self.wrong(&e))?;
        let file = DmaFile::open(&probe).await.map_err(|e| self.wrong(&e))?;
        let read = file.read_at_aligned(0, 4096).await.map_err(|e| self.wrong(&e))?;
        if read.len() != 4096 {
            return Err(self.wrong(&"a probe read came back short"));
        }
        drop(read);
        file.close().await.map_err(|e| self.wrong(&e))
    }

    fn wrong(&self, e: &dyn std::fmt::Display) -> String {
        format!("{}: {e}; check the disk and the file system (O_DIRECT must work there)", self.dir.display())
    }

    /// Writes groups for ever.
    async fn write_all(self: &Rc<Self>) -> Result<(), String> {
        loop {
            if within(IDLE, self.kick.wait()).await.is_none() {
                let idle = self.wal.borrow_mut().idle_block();
                if let Some(plan) = idle {
                    self.write(plan).await?;
                } else {
                    self.kick.wait().await;
                }
            }
            self.busy.set(true);
            loop {
                self.start_preparing();
                let plan = self.wal.borrow_mut().group();
                match plan {
                    Some(plan) => self.write(plan).await?,
                    // It waits for a segment: that was asked for as the last one filled.
                    None if self.wal.borrow().has_work() => self.prepare_segment().await?,
                    None => break,
                }
            }
            self.busy.set(false);
            self.done.set();
        }
    }

    async fn write(&self, plan: GroupPlan) -> Result<(), String> {
        let file = self.file(plan.segment).await?;
        let mut buffer = file.alloc_dma_buffer(plan.len);
        self.wal.borrow_mut().fill(&plan, buffer.as_bytes_mut());
        let (len, at) = (plan.len, plan.offset);
        let written = file.write_at(buffer, at).await.map_err(|e| self.wrong(&e))?;
        if written != len {
            return Err(self.wrong(&format!("only {written} of {len} bytes were written: is the disk full?")));
        }
        for segment in &plan.also_sync {
            self.file(*segment).await?.fdatasync().await.map_err(|e| self.wrong(&e))?;
        }
        for (token, positions) in self.wal.borrow_mut().completed(plan) {
            self.inbox.push(Input::Persisted { token, positions });
        }
        Ok(())
    }

    async fn read(&self, pos: WalPos) -> Result<Bytes, String> {
        let file = self.file(pos.segment).await?;
        let (at, len) = pos.range();
        let read = file.read_at_aligned(at, len).await.map_err(|e| e.to_string())?;
        let bytes = Bytes::copy_from_slice(&read[..]);
        verify_record(pos, &bytes).map_err(|e| e.to_string())
    }

    async fn file(&self, segment: u32) -> Result<Rc<DmaFile>, String> {
        if let Some(file) = self.files.borrow().get(&segment) {
            return Ok(file.clone());
        }
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_DSYNC)
            .dma_open(self.path(segment))
            .await;
        let file = Rc::new(opened.map_err(|e| self.wrong(&e))?);
        // Another task may have opened it meanwhile; one of the two is used on.
        Ok(self.files.borrow_mut().entry(segment).or_insert(file).clone())
    }

    /// Has the next segment made in the background, if the log asks for one.
    fn start_preparing(self: &Rc<Self>) {
        if self.preparing.get() || self.wal.borrow().wants_segment().is_none() {
            return;
        }
        let shared = self.clone();
        glommio::spawn_local(async move {
            if let Err(e) = shared.prepare_segment().await {
                *shared.failure.borrow_mut() = Some(e);
                shared.inbox.event.set();
            }
        })
        .detach();
    }

    /// Makes the segment that the log asks for, if it does. Waits if it is being made already.
    async fn prepare_segment(&self) -> Result<(), String> {
        while self.preparing.get() {
            glommio::timer::sleep(Duration::from_millis(1)).await;
        }
        let wanted = self.wal.borrow().wants_segment();
        let Some((number, bytes)) = wanted else { return Ok(()) };
        self.preparing.set(true);
        // If it was made smaller before, nothing of it is in use: make it anew.
        drop(self.files.borrow_mut().remove(&number));
        let path = self.path(number);
        let made = glommio::executor().spawn_blocking(move || make_segment(&path, bytes)).await;
        self.preparing.set(false);
        made.map_err(|e| self.wrong(&format!("making segment {number} of {bytes} bytes: {e}")))?;
        self.wal.borrow_mut().segment_ready(number, bytes);
        Ok(())
    }
}

/// Creates and zero-fills a segment, and makes file and name durable. Zeros cost once what extending the file
/// would cost at every sync.
fn make_segment(path: &Path, bytes: u32) -> std::io::Result<()> {
    let file = File::options().create(true).truncate(true).read(true).write(true).open(path)?;
    let zeros = vec![0u8; ZERO_CHUNK_BYTES];
    let mut at = 0u64;
    while at < u64::from(bytes) {
        let n = zeros.len().min((u64::from(bytes) - at) as usize);
        file.write_all_at(&zeros[..n], at)?;
        at += n as u64;
        // Piece by piece, so that the syncs of the segment in use don't queue behind 64 MiB.
        if at.is_multiple_of(8 * ZERO_CHUNK_BYTES as u64) {
            file.sync_data()?;
        }
    }
    file.sync_all()?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}
