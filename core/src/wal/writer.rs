//! What is written next, and where? The state machine of a log that is open: one group in flight, the rest
//! queued.

use super::block::{BLOCK_HEADER_BYTES, BlockKind, Header, UNIT, framed, pad_unit};
use super::index::{IndexBuilder, block_bytes, entry_bytes};
use super::plan::{Batch, GroupPlan, Layout};
use super::{APPEND_BYTES_MAX, OnDamage, Recovered, SEGMENT_BYTES_MAX, WalConfig, WalPos, WalRecord};
use crate::machine::Token;
use bytes::Bytes;
use std::collections::VecDeque;

/// A roll that gives back so many segments is worth the one it takes, and what is left of the current one.
const ROLL_TO_FREE: u32 = 3;

/// The segment that is being written.
#[derive(Debug)]
pub(super) struct Current {
    pub number: u32,
    pub bytes: u32,
    /// Where the next block goes.
    pub at: u32,
    pub index: IndexBuilder,
    /// Whether a checkpoint of the machine, or nothing at all, precedes its records.
    pub based: bool,
}

impl Current {
    /// Bytes that are written, or kept for the index.
    fn used(&self) -> u64 {
        u64::from(self.at) + block_bytes(self.index.bytes())
    }
}

/// Where recovery leaves off and writing begins.
#[derive(Debug)]
pub(super) struct Resume {
    pub incarnation: u64,
    pub sequence: u64,
    pub group: u64,
    pub synced_through: u64,
    pub current: Option<Current>,
    /// The segment after it, or the first to be written.
    pub next: u32,
    /// Its bytes if it is there, all zeros.
    pub next_ready: Option<u32>,
    /// Oldest segment there is.
    pub oldest: u32,
    /// Newest segment that opens with a checkpoint.
    pub checkpoint: Option<u32>,
    /// Segments from this one on are kept, so that a start can do without that checkpoint: the one before it, if it
    /// opens with a checkpoint; else that checkpoint's.
    pub keeps: u32,
    /// Segments before this one are not needed, as that checkpoint says.
    pub stated: u32,
    /// Segments from before `oldest` that a release which was cut short has left.
    pub leftovers: Vec<u32>,
    /// Segments with groups that were found, but are not known to be synced.
    pub unsynced: Vec<u32>,
}

#[derive(Debug)]
enum Queued {
    Append { batch: Batch, framed: u64, index: u64 },
    Roll { checkpoint: Bytes },
}

/// A log that is open. See the [module](super) for what its shell does with it.
#[derive(Debug)]
pub struct Wal {
    cfg: WalConfig,
    at: Resume,
    queue: VecDeque<Queued>,
    /// Bytes of the appends in `queue`.
    queued_bytes: u64,
    /// A roll is queued; its checkpoint's bytes.
    roll: Option<u64>,
    in_flight: Option<(u64, BlockKind)>,
    opened: bool,
    /// The newest group was written for `synced_through` alone.
    idle: bool,
    /// What the owner said it no longer needs.
    released: u32,
    /// What of that the newest checkpoint says, durable or not.
    stating: u32,
}

impl Wal {
    pub(super) fn new(cfg: WalConfig, at: Resume) -> Self {
        cfg.check();
        Self {
            cfg,
            at,
            queue: VecDeque::new(),
            queued_bytes: 0,
            roll: None,
            in_flight: None,
            opened: false,
            idle: false,
            released: 0,
            stating: 0,
        }
    }

    /// The number of this open, greater than any that the log tells of. Durable once the first group is completed.
    pub fn incarnation(&self) -> u64 {
        self.at.incarnation
    }

    /// This open takes a number beyond what the log tells of: one that others have heard of may be lost here
    /// ([`starts`](crate::starts)).
    ///
    /// # Panics
    /// If it is less than the log tells of, or the log has said its own already.
    pub fn take_number(&mut self, recovered: &mut Recovered, number: u64) {
        assert!(!self.opened && self.in_flight.is_none(), "the log has said its number");
        assert!(number >= self.at.incarnation, "start {number} of a log that is at {}", self.at.incarnation);
        (self.at.incarnation, recovered.incarnation) = (number, number);
    }

    /// Whether the first group is completed: the machine may be fed.
    pub fn is_open(&self) -> bool {
        self.opened
    }

    /// Bytes that wait for a group.
    pub fn queued_bytes(&self) -> u64 {
        self.queued_bytes
    }

    /// Whether a group is planned and not completed.
    pub fn in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Puts records behind all before; `token` comes back when they are durable. They stay together in one
    /// group. Without records it comes back when everything before is durable.
    ///
    /// # Panics
    /// On more than [`APPEND_BYTES_MAX`] bytes.
    pub fn append(&mut self, token: Token, records: Vec<WalRecord>) {
        let framed: u64 = records.iter().map(|r| framed(r.len())).sum();
        assert!(framed <= u64::from(APPEND_BYTES_MAX), "append of {framed} bytes, {} records", records.len());
        let index = records.iter().map(|r| entry_bytes(r.in_index, r.len())).sum();
        let positions = Vec::with_capacity(records.len());
        self.queued_bytes += framed;
        let batch = Batch { token: Some(token), records, positions };
        self.queue.push_back(Queued::Append { batch, framed, index });
    }

    /// Whether something waits to be written. When [`group`](Self::group) gives nothing all the same, the group
    /// before is in flight, or the segment of [`wants_segment`](Self::wants_segment) must be ready first.
    pub fn has_work(&self) -> bool {
        !self.opened || !self.queue.is_empty()
    }

    /// Whether the shell should pass a checkpoint to [`start_segment`](Self::start_segment) at the end of a
    /// turn.
    pub fn wants_checkpoint(&self) -> bool {
        let Some(current) = &self.at.current else { return self.opened && self.roll.is_none() };
        self.opened
            && self.roll.is_none()
            && (current.used() * 4 >= u64::from(current.bytes) * 3
                || !current.based
                || self.frees(current.number))
    }

    /// Whether so much may go once a checkpoint has said so that the segment it opens is worth it. Not if that would
    /// have to be made first: on a full disk the log would stand still.
    fn frees(&self, current: u32) -> bool {
        let gone = self.at.stated.max(self.at.oldest);
        let more = self.released.min(current).saturating_sub(gone);
        more >= ROLL_TO_FREE && self.at.next_ready.is_some()
    }

    /// Whether the next segment is wanted soon: half of the current one is used up, or there is none.
    pub fn is_filling_up(&self) -> bool {
        self.at.current.as_ref().is_none_or(|c| c.used() * 2 >= u64::from(c.bytes))
    }

    /// Rolls the log: what was appended before goes to the current segment, which is then sealed; the next
    /// one opens with `checkpoint`, which must stand for every record appended so far, durable or not, and
    /// for what the checkpoint before it stood for.
    ///
    /// # Panics
    /// When a roll is queued already, or on a checkpoint of more than [`APPEND_BYTES_MAX`] bytes.
    pub fn start_segment(&mut self, checkpoint: Bytes) {
        assert!(self.roll.is_none(), "a roll while one is queued, segment {}", self.at.next);
        assert!(
            checkpoint.len() as u64 <= u64::from(APPEND_BYTES_MAX),
            "checkpoint of {} bytes",
            checkpoint.len()
        );
        self.roll = Some(checkpoint.len() as u64);
        self.queue.push_back(Queued::Roll { checkpoint });
    }

    /// The segment to be made ready, and its bytes: created anew whatever was there, exactly that long,
    /// reading as zeros, the file and its directory synced. The answer stays until
    /// [`segment_ready`](Self::segment_ready), and comes again with more bytes when the segment turns out too
    /// small. It is wanted well before the log stands still for it.
    pub fn wants_segment(&self) -> Option<(u32, u32)> {
        let bytes = self.next_bytes();
        (self.at.next_ready.is_none_or(|ready| ready < bytes)).then_some((self.at.next, bytes))
    }

    /// A segment that is ready for what comes next: right after a start, one that was found. It is to be synced, and
    /// its directory, before the log is used: whoever made it may not have come to that.
    pub fn found_segment(&self) -> Option<u32> {
        self.at.next_ready.map(|_| self.at.next)
    }

    /// The segment that was wanted is ready. An answer to an older wish is ignored.
    pub fn segment_ready(&mut self, number: u32, bytes: u32) {
        if number == self.at.next {
            self.at.next_ready = Some(bytes);
        }
    }

    /// Bytes the next segment must have at least.
    fn next_bytes(&self) -> u32 {
        let usual = if self.at.next == 1 { self.cfg.first_segment_bytes } else { self.cfg.segment_bytes };
        let empty = block_bytes(0);
        let first = match (&self.at.current, self.queue.front()) {
            (None, Some(Queued::Append { batch, index, .. })) if self.opened => {
                self.layout_of(&batch.records).total() + block_bytes(*index)
            }
            _ => UNIT as u64 + empty,
        };
        let checkpoint =
            self.roll.map_or(0, |c| 2 * (pad_unit(BLOCK_HEADER_BYTES as u64 + framed(c as usize)) + empty));
        let bytes = u64::from(usual).max(first).max(checkpoint);
        assert!(bytes <= u64::from(SEGMENT_BYTES_MAX), "segment {} of {bytes} bytes", self.at.next);
        bytes as u32
    }

    fn layout_of(&self, records: &[WalRecord]) -> Layout {
        let mut layout = Layout::new(self.cfg.block_bytes);
        for record in records {
            layout.push(record.len());
        }
        layout
    }

    /// The next write, if there is something to write and nothing in flight.
    pub fn group(&mut self) -> Option<GroupPlan> {
        let fresh = self.at.current.is_none();
        if self.in_flight.is_some() || !self.has_work() || (fresh && self.wants_segment().is_some()) {
            return None;
        }
        if fresh {
            self.enter();
        }
        self.idle = false;
        if !self.opened {
            let mut plan = self.plan(BlockKind::Open, Vec::new());
            // Its own segment too: a write with O_DSYNC need not sync what others wrote before it.
            plan.also_sync = std::mem::take(&mut self.at.unsynced);
            return Some(plan);
        }
        if matches!(self.queue.front(), Some(Queued::Roll { .. })) {
            if !fresh {
                return Some(self.seal());
            }
            return Some(self.checkpoint());
        }
        let batches = self.take();
        if batches.is_empty() {
            assert!(
                !fresh,
                "segment {} of {:?} can't hold its first append",
                self.at.next - 1,
                self.at.current
            );
            return Some(self.seal());
        }
        Some(self.plan(BlockKind::Records, batches))
    }

    /// Goes into the next segment.
    fn enter(&mut self) {
        let bytes = self.at.next_ready.take().expect("a segment that is ready");
        let (number, based) = (self.at.next, self.at.sequence == 0);
        self.at.current = Some(Current { number, bytes, at: 0, index: IndexBuilder::default(), based });
        self.at.next = number.checked_add(1).expect("segment numbers run out");
        self.at.oldest = self.at.oldest.min(number);
    }

    /// Takes the appends that fit the group and the segment.
    fn take(&mut self) -> Vec<Batch> {
        let current = self.at.current.as_ref().expect("a segment");
        let room = u64::from(current.bytes - current.at);
        let (mut layout, mut entries) = (Layout::new(self.cfg.block_bytes), current.index.bytes());
        let mut batches = Vec::new();
        while let Some(Queued::Append { batch, framed, index }) = self.queue.front() {
            let mut with = layout;
            for record in &batch.records {
                with.push(record.len());
            }
            entries += index;
            let full = with.total() > u64::from(self.cfg.group_bytes) && !batches.is_empty();
            if full || with.total() + block_bytes(entries) > room {
                break;
            }
            layout = with;
            self.queued_bytes -= framed;
            let Some(Queued::Append { batch, .. }) = self.queue.pop_front() else {
                unreachable!("looked at")
            };
            batches.push(batch);
        }
        batches
    }

    fn checkpoint(&mut self) -> GroupPlan {
        let Some(Queued::Roll { checkpoint }) = self.queue.pop_front() else { unreachable!("looked at") };
        self.roll = None;
        self.at.current.as_mut().expect("entered").based = true;
        self.stating = self.released.max(self.at.stated);
        self.plan(BlockKind::Checkpoint, vec![own(0, u64::from(self.stating), 0, checkpoint)])
    }

    /// Ends the current segment with its index.
    fn seal(&mut self) -> GroupPlan {
        let current = self.at.current.as_mut().expect("a segment to seal");
        let index = std::mem::take(&mut current.index);
        let bytes = block_bytes(index.bytes());
        assert!(
            u64::from(current.at) + bytes <= u64::from(current.bytes),
            "no room to seal segment {}: index of {bytes} bytes at {} of {}",
            current.number,
            current.at,
            current.bytes
        );
        let (count, end) = (index.count(), current.at);
        current.at = current.bytes - bytes as u32;
        let entries = vec![own(count, u64::from(end), 0, index.finish())];
        let plan = self.plan(BlockKind::Index, entries);
        self.at.current = None;
        plan
    }

    /// Lays the group out at the current place and moves on.
    fn plan(&mut self, kind: BlockKind, batches: Vec<Batch>) -> GroupPlan {
        let current = self.at.current.as_mut().expect("a segment");
        let header = Header {
            kind,
            cluster: self.cfg.cluster,
            node: self.cfg.node,
            incarnation: self.at.incarnation,
            sequence: self.at.sequence,
            group: self.at.group,
            synced_through: self.at.synced_through,
            segment: current.number,
            offset: current.at,
            bytes: current.bytes - current.at,
            content: 0,
            block: 0,
            blocks: 1,
            records_crc: 0,
        };
        let plan = GroupPlan::new(header, batches, self.cfg.block_bytes);
        let end = current.at as usize + plan.len;
        assert!(
            end <= current.bytes as usize,
            "group of {} bytes at {} of segment {} of {} bytes",
            plan.len,
            current.at,
            current.number,
            current.bytes
        );
        current.at = end as u32;
        if kind == BlockKind::Records {
            for batch in &plan.batches {
                for (r, &pos) in batch.records.iter().zip(&batch.positions) {
                    let data = r.in_index.then_some(&r.data[..]);
                    current.index.push(r.kind, r.aux, r.key1, r.key2, pos, data);
                }
            }
        }
        assert!(self.in_flight.is_none(), "group {} while {:?} is in flight", self.at.group, self.in_flight);
        self.in_flight = Some((self.at.group, kind));
        self.at.group += 1;
        self.at.sequence += plan.blocks() as u64;
        plan
    }

    /// Writes the bytes of a planned group into the shell's buffer.
    ///
    /// # Panics
    /// When `buffer` is not exactly `plan.len` bytes.
    pub fn fill(&self, plan: &GroupPlan, buffer: &mut [u8]) {
        plan.fill(buffer);
    }

    /// The group is written and synced: who waited for it, and where each of their records lies.
    ///
    /// # Panics
    /// When it is not the group in flight.
    pub fn completed(&mut self, plan: GroupPlan) -> Vec<(Token, Vec<WalPos>)> {
        let (group, kind) = self.in_flight.take().expect("a completion with no group in flight");
        assert_eq!(group, plan.first.group, "completion of another group");
        self.at.synced_through = group;
        match kind {
            BlockKind::Open => self.opened = true,
            BlockKind::Checkpoint => {
                // A log without any yet begins in its first segment.
                let before = self.at.checkpoint.unwrap_or(1);
                self.at.keeps = if before + 1 == plan.segment { before } else { plan.segment };
                (self.at.checkpoint, self.at.stated) = (Some(plan.segment), self.stating);
            }
            BlockKind::Records | BlockKind::Index => {}
        }
        plan.batches.into_iter().filter_map(|b| Some((b.token?, b.positions))).collect()
    }

    /// For a second without work: an empty block that says the last group was synced, so that damage to
    /// it is not taken for a torn write later. `None` when it has been said, or there is something to do.
    pub fn idle_block(&mut self) -> Option<GroupPlan> {
        let current = self.at.current.as_ref()?;
        let end = u64::from(current.at) + UNIT as u64 + block_bytes(current.index.bytes());
        let due = self.opened && !self.idle && self.in_flight.is_none() && self.queue.is_empty();
        if !due || end > u64::from(current.bytes) {
            return None;
        }
        self.idle = true;
        Some(self.plan(BlockKind::Records, Vec::new()))
    }

    /// The owner needs no segment before `before`. Gives those to be deleted, oldest first: never one at or
    /// behind the newest durable checkpoint, and only those that this checkpoint says are not needed, so that
    /// whatever a crash leaves of them is not missed. What can't be deleted yet is given by a later call.
    ///
    /// Where damage is reported and not refused, the segment before that checkpoint's stays too if it opens with one: should
    /// the newer one rot, a start goes on from there, and what it counts on and was released since is not needed by
    /// anybody. That is one segment at most; if the checkpoint before lies further back, nothing is kept for it.
    pub fn release(&mut self, before: u32) -> Vec<u32> {
        self.released = self.released.max(before);
        let newest = self.at.checkpoint.unwrap_or(0);
        let kept = if self.cfg.on_damage == OnDamage::Report { newest.min(self.at.keeps) } else { newest };
        let end = self.at.stated.min(kept);
        let start = self.at.oldest;
        self.at.oldest = start.max(end);
        let (mut gone, left) = self.at.leftovers.drain(..).partition(|n| *n < end);
        self.at.leftovers = left;
        gone.extend(start..end);
        gone
    }
}

/// A record of the log itself.
fn own(aux: u32, key1: u64, key2: u64, data: Bytes) -> Batch {
    let record = WalRecord { kind: 0, in_index: false, aux, key1, key2, data: vec![data] };
    Batch { token: None, records: vec![record], positions: Vec::new() }
}
