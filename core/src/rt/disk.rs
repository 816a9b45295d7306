//! How does a log reach the disk? The files of one [`Wal`]: one group in flight, segments made ahead
//! (`segments`), records read back. A write or sync that fails ends the node; it is never retried, since the kernel may have
//! dropped what it could not write.
//!
//! Segments are opened with O_DSYNC: a write completes when it is as durable as write and fdatasync make it,
//! in one request instead of two (docs/decisions/0001-one-synced-write-per-group.md).

use super::aligned::{Aligned, PAGE_BYTES};
use super::ring::{Op, Ring};
use super::segments::{Filling, SegmentError, make_segment};
use super::space::{Space, SpaceLimits};
use super::wake::{Elsewhere, Finished};
use crate::machine::{Input, Token};
use crate::time::Instant;
use crate::wal::{
    FsSource, GroupPlan, Recovered, Wal, WalConfig, WalPos, WalRecord, WalSource, recover, segment_file_name,
    verify_record,
};
use crate::wire::DiskRoom;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// After this long without work, one empty block says that all before it is durable.
const IDLE: Duration = Duration::from_secs(1);
/// After this long a segment for which there was no room is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// After this long a log that stands still for want of room ends, if it is to end at all.
const STUCK: Duration = Duration::from_secs(5);
/// A group's buffer is kept for the next one unless it is longer.
const KEEP_BYTES: usize = 4 << 20;

/// A log that was recovered and is not yet written to.
#[derive(Debug)]
pub struct Disk {
    dir: PathBuf,
    wal: Wal,
    /// Bytes of each segment there is.
    sizes: BTreeMap<u32, u64>,
    limits: SpaceLimits,
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
        let sizes = source.segments().map_err(wrong)?.into_iter().collect();
        let (recovered, wal) = recover(&source, &config).map_err(|e| format!("{}: {e}", dir.display()))?;
        for damage in &recovered.damage {
            tracing::warn!("{}: {damage:?}", dir.display());
        }
        Ok((Self { dir: dir.to_path_buf(), wal, sizes, limits: SpaceLimits::default() }, recovered))
    }

    /// Its start takes that number: [`Wal::take_number`].
    pub fn take_number(&mut self, recovered: &mut Recovered, number: u64) {
        self.wal.take_number(recovered, number);
    }

    /// The same log, within these limits.
    #[must_use]
    pub fn within(self, limits: SpaceLimits) -> Self {
        Self { limits, ..self }
    }

    /// Writes the log's first group, which announces this start, and begins to take records. Blocks: nothing
    /// runs yet that could wait.
    pub(super) fn start(self, elsewhere: Elsewhere) -> Result<RunningDisk, String> {
        let mut disk = RunningDisk {
            dir: self.dir,
            wal: self.wal,
            sizes: self.sizes,
            limits: self.limits,
            room: DiskRoom::Ample,
            refused: false,
            retry_at: None,
            stuck_since: None,
            files: BTreeMap::new(),
            spare: Some(Aligned::zeroed(PAGE_BYTES)),
            writing: false,
            preparing: false,
            stuck: false,
            hurry: Arc::default(),
            written_groups: 0,
            written_bytes: 0,
            failure: None,
            idle_at: Some(super::clock::now() + IDLE),
            elsewhere,
        };
        if let Some((number, bytes)) = disk.wal.wants_segment() {
            let made = make_segment(&disk.path(number), bytes, Filling::Zeros, &AtomicBool::new(true));
            made.map_err(|e| {
                format!("{}: making segment {number} of {bytes} bytes: {e}", disk.dir.display())
            })?;
            disk.sizes.insert(number, u64::from(bytes));
            disk.wal.segment_ready(number, bytes);
        }
        if let Some(number) = disk.wal.found_segment() {
            // Whoever made it may have died before it, or its name, was durable.
            let dir = File::open(&disk.dir).map_err(|e| disk.wrong(&e))?;
            disk.file(number)?.sync_all().and_then(|()| dir.sync_all()).map_err(|e| disk.wrong(&e))?;
        }
        let first = disk.wal.group().ok_or("the log announced no start")?;
        let file = disk.file(first.segment)?;
        let mut buf = Aligned::zeroed(first.len);
        disk.wal.fill(&first, &mut buf.bytes_mut()[..first.len]);
        file.write_all_at(&buf.bytes()[..first.len], first.offset).map_err(|e| disk.wrong(&e))?;
        for segment in &first.also_sync {
            disk.file(*segment)?.sync_data().map_err(|e| disk.wrong(&e))?;
        }
        disk.wal.completed(first);
        Ok(disk)
    }
}

/// A log in use.
pub(super) struct RunningDisk {
    dir: PathBuf,
    wal: Wal,
    /// Bytes of each segment there is.
    sizes: BTreeMap<u32, u64>,
    limits: SpaceLimits,
    /// How much room there was at the last look.
    room: DiskRoom,
    /// There was no room for a segment.
    refused: bool,
    /// When that is to be tried again.
    retry_at: Option<Instant>,
    /// Since when the log stands still for want of it.
    stuck_since: Option<Instant>,
    files: BTreeMap<u32, Rc<File>>,
    /// The buffer of the group before.
    spare: Option<Aligned>,
    /// A group is under way.
    writing: bool,
    /// A segment is being made.
    preparing: bool,
    /// What waits must go to that segment.
    stuck: bool,
    /// Whether the segment that is being made is wanted soon.
    hurry: Arc<AtomicBool>,
    /// Groups written since a segment was last asked for, and their bytes.
    written_groups: u64,
    written_bytes: u64,
    failure: Option<String>,
    /// When to say that nothing came any more.
    idle_at: Option<Instant>,
    elsewhere: Elsewhere,
}

impl RunningDisk {
    /// Queues records for the next group.
    pub fn persist(&mut self, token: Token, records: Vec<WalRecord>) {
        self.wal.append(token, records);
    }

    /// Starts what there is to do.
    pub fn kick(&mut self, ring: &mut Ring, now: Instant) {
        if self.writing || self.failure.is_some() {
            return;
        }
        self.prepare(now);
        let plan = match self.wal.group() {
            Some(plan) => {
                self.idle_at = Some(now + IDLE);
                plan
            }
            None if self.idle_at.is_some_and(|at| at <= now) => {
                self.idle_at = None;
                match self.wal.idle_block() {
                    Some(plan) => plan,
                    None => return,
                }
            }
            None => {
                self.stuck = self.wal.has_work();
                self.in_hurry();
                self.look_if_stuck(now);
                return;
            }
        };
        if let Err(e) = self.write(ring, plan) {
            self.failure = Some(e);
        }
    }

    /// How much room there is, in a word and in bytes; `None` if it can't be found out.
    pub fn look(&mut self) -> Option<(DiskRoom, u64)> {
        let used = self.sizes.values().sum();
        match Space::look(&self.dir, used, &self.limits) {
            Ok(space) => {
                let room = space.room(&self.limits, self.room);
                self.room = if self.refused { DiskRoom::Full } else { room };
                Some((self.room, space.free))
            }
            Err(e) => {
                tracing::warn!("{}: how much room there is can't be found out: {e}", self.dir.display());
                None
            }
        }
    }

    /// Ends the log if it has stood still for want of room for too long, and is not to wait for it.
    fn look_if_stuck(&mut self, now: Instant) {
        if !self.stuck || !self.refused {
            self.stuck_since = None;
            return;
        }
        let since = *self.stuck_since.get_or_insert(now);
        if self.limits.ends_when_stuck && now.since(since) >= STUCK {
            let why = format!(
                "{}: there has been no room for the next segment for {STUCK:?}: make room, and start this node again",
                self.dir.display()
            );
            self.failure = Some(why);
        }
    }

    fn write(&mut self, ring: &mut Ring, plan: GroupPlan) -> Result<(), String> {
        assert!(plan.also_sync.is_empty(), "only the first group may rest on others");
        let file = self.file(plan.segment)?;
        let mut buf = match self.spare.take() {
            Some(buf) if buf.len() >= plan.len => buf,
            _ => Aligned::zeroed(plan.len.next_power_of_two()),
        };
        self.wal.fill(&plan, &mut buf.bytes_mut()[..plan.len]);
        self.writing = true;
        ring.ask(self.elsewhere.node, Op::WriteGroup { file, buf, plan: Box::new(plan) });
        Ok(())
    }

    /// A group was written, or couldn't be.
    pub fn written<C>(
        &mut self,
        buf: Aligned,
        plan: GroupPlan,
        result: std::io::Result<usize>,
        now: Instant,
        inbox: &mut VecDeque<Input<C>>,
    ) {
        self.writing = false;
        match result {
            Ok(n) if n == plan.len => {
                self.written_groups += 1;
                self.written_bytes += plan.len as u64;
                if buf.len() <= KEEP_BYTES {
                    self.spare = Some(buf);
                }
                if let Some(at) = &mut self.idle_at {
                    *at = now + IDLE;
                }
                for (token, positions) in self.wal.completed(plan) {
                    inbox.push_back(Input::Persisted { token, positions });
                }
                // A checkpoint that is durable now may let go what was released before.
                self.release(0);
            }
            Ok(n) => {
                let why = format!("only {n} of {} bytes were written: is the disk full?", plan.len);
                self.failure = Some(self.wrong(&why));
            }
            Err(e) => self.failure = Some(self.wrong(&e)),
        }
    }

    /// Begins a new segment if it is time; between turns only, since `checkpoint` stands for all that was
    /// handed in.
    pub fn roll_if_due(&mut self, checkpoint: impl FnOnce() -> Bytes) {
        if self.wal.wants_checkpoint() {
            self.wal.start_segment(checkpoint());
        }
    }

    /// Reads a record back; `Input::Loaded` follows.
    pub fn load<C>(&mut self, ring: &mut Ring, token: Token, pos: WalPos, inbox: &mut VecDeque<Input<C>>) {
        match self.file(pos.segment) {
            Ok(file) => {
                let buf = Aligned::zeroed(pos.range().1);
                ring.ask(self.elsewhere.node, Op::Load { file, buf, token, pos });
            }
            Err(e) => inbox.push_back(Input::Loaded { token, result: Err(e) }),
        }
    }

    /// Reads a piece of a segment; `Input::SegmentRead` follows.
    pub fn read_segment<C>(
        &mut self,
        ring: &mut Ring,
        token: Token,
        (segment, offset, bytes): (u32, u32, u32),
        inbox: &mut VecDeque<Input<C>>,
    ) {
        let file = self.file(segment).and_then(|file| {
            let size = file.metadata().map_err(|e| self.wrong(&e))?.len();
            Ok((file, u32::try_from(size).unwrap_or(u32::MAX)))
        });
        match file {
            Ok((file, size)) => {
                let buf = Aligned::zeroed(bytes as usize);
                ring.ask(self.elsewhere.node, Op::ReadSegment { file, buf, token, offset, size });
            }
            Err(e) => inbox.push_back(Input::SegmentRead { token, result: Err(e) }),
        }
    }

    /// Deletes segments that are not needed any more.
    pub fn release(&mut self, before: u32) {
        let gone = self.wal.release(before);
        if gone.is_empty() {
            return;
        }
        let paths: Vec<_> = gone.iter().map(|&n| self.path(n)).collect();
        for number in &gone {
            self.files.remove(number);
            self.sizes.remove(number);
        }
        // What they took may be just what is missing.
        self.retry_at = None;
        self.elsewhere.run_silently(move || {
            for path in paths {
                if let Err(e) = std::fs::remove_file(&path) {
                    tracing::warn!(
                        "{}: {e}; the space of this old segment stays taken until the next start",
                        path.display()
                    );
                }
            }
        });
    }

    /// Why the log can't go on.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Whether something that was handed in is not durable yet, and may still become so.
    pub fn is_busy(&self) -> bool {
        let hopeless = self.stuck && self.refused;
        self.failure.is_none() && !hopeless && (self.writing || self.wal.has_work())
    }

    /// Whether `kick` has something to do now.
    pub fn may_go_on(&self) -> bool {
        !self.writing && !self.stuck && self.wal.has_work()
    }

    /// When `kick` has something to do next.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.writing { None } else { self.idle_at }
    }

    /// A segment was made, or couldn't be.
    pub fn segment_made(&mut self, number: u32, bytes: u32, result: Result<(), SegmentError>, now: Instant) {
        self.preparing = false;
        match result {
            Ok(()) => {
                (self.stuck, self.refused) = (false, false);
                self.sizes.insert(number, u64::from(bytes));
                self.wal.segment_ready(number, bytes);
            }
            Err(e @ SegmentError::NoRoom(_)) => self.no_room(number, bytes, &e, now),
            Err(e @ SegmentError::Failed(_)) => {
                self.failure =
                    Some(format!("{}: making segment {number} of {bytes} bytes: {e}", self.dir.display()));
            }
        }
    }

    /// There was no room for a segment: tried again every now and then. Until then the log goes on in the current
    /// one, as long as that has room.
    fn no_room(&mut self, number: u32, bytes: u32, e: &dyn std::fmt::Display, now: Instant) {
        if !std::mem::replace(&mut self.refused, true) {
            tracing::warn!("{}: making segment {number} of {bytes} bytes: {e}", self.dir.display());
        }
        self.retry_at = Some(now + RETRY);
    }

    /// Has the segment made that the log asks for.
    fn prepare(&mut self, now: Instant) {
        self.in_hurry();
        if self.preparing || self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        let Some((number, bytes)) = self.wal.wants_segment() else { return };
        let others: u64 = self.sizes.iter().filter(|(n, _)| **n != number).map(|s| s.1).sum();
        if self.limits.quota_bytes > 0 && others + u64::from(bytes) > self.limits.quota_bytes {
            return self.no_room(
                number,
                bytes,
                &"the log has taken its quota; have it trimmed, or give it more",
                now,
            );
        }
        self.preparing = true;
        // If it was made smaller before, nothing of it is in use: make it anew.
        self.files.remove(&number);
        let filling = Filling::best_for(self.written_bytes, self.written_groups);
        (self.written_bytes, self.written_groups) = (0, 0);
        let (path, hurry) = (self.path(number), self.hurry.clone());
        self.elsewhere.run(move || {
            let result = make_segment(&path, bytes, filling, &hurry);
            Finished::Segment { number, bytes, result }
        });
    }

    /// Says whether the next segment is wanted soon.
    fn in_hurry(&self) {
        self.hurry.store(self.stuck || self.wal.is_filling_up(), Ordering::Relaxed);
    }

    fn path(&self, segment: u32) -> PathBuf {
        self.dir.join(segment_file_name(segment))
    }

    fn wrong(&self, e: &dyn std::fmt::Display) -> String {
        format!("{}: {e}; check the disk and the file system (O_DIRECT must work there)", self.dir.display())
    }

    fn file(&mut self, segment: u32) -> Result<Rc<File>, String> {
        if let Some(file) = self.files.get(&segment) {
            return Ok(file.clone());
        }
        let how = libc::O_DIRECT | libc::O_DSYNC;
        let opened = File::options().read(true).write(true).custom_flags(how).open(self.path(segment));
        let file = Rc::new(opened.map_err(|e| self.wrong(&e))?);
        self.files.insert(segment, file.clone());
        Ok(file)
    }
}

/// What a read of a piece brought.
pub(super) fn segment_read(
    buf: Aligned,
    size: u32,
    result: std::io::Result<usize>,
) -> Result<(Bytes, u32), String> {
    let n = result.map_err(|e| e.to_string())?;
    Ok((Bytes::from_owner(buf).slice(..n), size))
}

/// What a read brought.
pub(super) fn loaded(buf: Aligned, pos: WalPos, result: std::io::Result<usize>) -> Result<Bytes, String> {
    let n = result.map_err(|e| e.to_string())?;
    let wanted = pos.range().1;
    let bytes = Bytes::from_owner(buf).slice(..n.min(wanted));
    verify_record(pos, &bytes).map_err(|e| e.to_string())
}
