//! A log in one process: one disk, no servers. [`LocalLog`] promises the same as the sharded log does, short of one
//! thing: what its disk loses, nobody else has.
//!
//! - `marks`: what it writes; `index`: where which position lies; `cursor`: how somebody comes through it.
//! - `writer`: appends. `readers`: the subscription, and range reads.
//! - `seal`: its end.
//! - `dir` (feature `rt`): the directory that it lies in.
//!
//! # How it is durable, and in which order
//! There is one lane, and positions are its LSNs: a batch has its position when it is closed, goes into the next group of
//! the write-ahead log, and is told to anybody (acknowledged, delivered, counted into the tail) when that group is synced.
//! A crash takes a suffix of what nobody was told of.

mod cursor;
#[cfg(feature = "rt")]
pub(crate) mod dir;
mod index;
mod marks;
mod readers;
mod seal;
mod writer;

use crate::{
    AppendError, LogCommand, LogEvent, RequestId, SUCCESSOR_BYTES_MAX, SealError, Sealed, SharedLog,
    TrimError, Trimmed,
};
use bytes::Bytes;
use index::Index;
use readers::Readers;
use seal::{Seal, Stage};
use std::collections::VecDeque;
use writer::Writer;
use zoolog_core::wal::{Recovered, WalPos, WalRecord};
use zoolog_core::wire::DiskRoom;
use zoolog_core::{
    ClusterId, Gsn, Incarnation, Input, Instant, Machine, Output, Seq, Token, ViewNumber, WriterId,
};

/// Settings of a [`LocalLog`].
#[derive(Clone, Debug)]
pub struct LocalConfig {
    /// Which cluster the log is; its files say the same.
    pub cluster: ClusterId,
    /// First position of a log that holds nothing yet: greater than 0 if it succeeds another. Default 0.
    pub base: Gsn,
    /// Bytes of batches that may wait to be durable; the owner is told [`AppendError::Full`] beyond it. Default 16 MiB.
    pub window_bytes: usize,
    /// How many batches may; when they are as many, records gather in the open batch. Default 64.
    pub window_batches: usize,
    /// Bytes of the newest batches that stay in memory. Default 16 MiB.
    pub cache_bytes: usize,
    /// Bytes that the subscription, and each read, has read ahead of what was taken. Default 4 MiB.
    pub prefetch_bytes: usize,
}

impl LocalConfig {
    /// The defaults, for that cluster.
    pub const fn new(cluster: ClusterId) -> Self {
        Self {
            cluster,
            base: Gsn(0),
            window_bytes: 16 << 20,
            window_batches: 64,
            cache_bytes: 16 << 20,
            prefetch_bytes: 4 << 20,
        }
    }
}

/// What is being made durable, in the order of the tokens.
#[derive(Debug)]
enum Saving {
    /// So many batches.
    Batches(Token, usize),
    /// Where the log begins from now on, and who asked for it.
    Trim(Token, Gsn, Option<RequestId>),
    /// Where it began at all.
    Base(Token),
    /// Where it ends.
    Seal(Token),
}

/// The log of one process. See [`SharedLog`] for what it does. What its disk loses, nobody else has.
#[derive(Debug)]
pub struct LocalLog {
    cfg: LocalConfig,
    index: Index,
    writer: Writer,
    readers: Readers,
    /// First position that the owner still needs, if it ever said so.
    released: Option<Gsn>,
    saving: VecDeque<Saving>,
    seal: Seal,
    /// A mark that the log begins elsewhere is under way.
    trimming: bool,
    /// The log is new, and its beginning is not written yet.
    unborn: bool,
    tokens: u64,
    requests: u64,
    out: VecDeque<Output<LogEvent>>,
    /// The tail moved and the owner was not told yet.
    progress: bool,
    /// Something happened since the last end of a turn.
    dirty: bool,
}

/// Bit of the request numbers that methods give out, see [`RequestId`].
const METHOD_REQUEST: u64 = 1 << 63;

impl LocalLog {
    /// Of what its disk held. The writer's id is drawn from `seed`: never use a seed twice in a log's life.
    ///
    /// # Errors
    /// Text for a person: the disk holds something else, or not all of it.
    pub fn new(cfg: LocalConfig, recovered: &Recovered, seed: u64) -> Result<Self, String> {
        if let Some(damage) = recovered.damage.first() {
            return Err(format!(
                "segment {} is damaged at byte {}: {}",
                damage.segment, damage.offset, damage.why
            ));
        }
        let index = Index::recover(recovered, cfg.base)?;
        let is_new =
            recovered.checkpoint.as_deref().is_none_or(<[u8]>::is_empty) && recovered.tail.is_empty();
        let mut log = Self {
            writer: Writer::new(seed, Incarnation(recovered.incarnation)),
            index,
            readers: Readers::default(),
            released: None,
            saving: VecDeque::new(),
            seal: Seal::default(),
            trimming: false,
            unborn: is_new && cfg.base > Gsn(0),
            tokens: 0,
            requests: 0,
            out: VecDeque::new(),
            progress: true,
            dirty: true,
            cfg,
        };
        log.event(LogEvent::Ready { cluster: log.cfg.cluster, view: ViewNumber(0) });
        if log.index.successor.is_some() {
            log.ended();
        }
        if let Some(segment) = log.index.first_segment() {
            log.out.push_back(Output::Release { segment });
        }
        Ok(log)
    }

    /// First position that is kept.
    pub fn trimmed(&self) -> Gsn {
        self.index.point.trim
    }

    /// One past the last position that is durable.
    pub fn durable(&self) -> Gsn {
        self.index.durable()
    }

    /// How much room its disk has.
    pub fn room(&self) -> DiskRoom {
        self.writer.room
    }

    /// Where it has ended, if it has.
    pub fn sealed(&self) -> Option<Sealed> {
        let successor = self.index.successor.clone().filter(|_| self.seal.stage == Stage::Durable)?;
        Some(Sealed { tail: self.index.point.tail, successor })
    }

    /// The record that ends it is durable.
    fn ended(&mut self) {
        (self.seal.stage, self.writer.ends) = (Stage::Durable, true);
        self.answer_seals();
        let sealed = self.sealed().expect("just now");
        self.event(LogEvent::Sealed(sealed));
    }

    fn answer_seals(&mut self) {
        let tail = self.index.point.tail;
        while let Some((request, result)) = self.seal.answer(tail, self.index.successor.as_deref()) {
            self.event(LogEvent::SealDone { request, result });
        }
    }

    fn event(&mut self, event: LogEvent) {
        self.out.push_back(Output::Event(event));
    }

    fn token(&mut self) -> Token {
        self.tokens += 1;
        Token(self.tokens)
    }

    fn request(&mut self) -> RequestId {
        self.requests += 1;
        self.dirty = true;
        RequestId(METHOD_REQUEST | self.requests)
    }

    fn persist(&mut self, records: Vec<WalRecord>, saving: impl FnOnce(Token) -> Saving) {
        let token = self.token();
        self.saving.push_back(saving(token));
        self.out.push_back(Output::Persist { token, records });
    }

    fn command(&mut self, command: LogCommand) {
        match command {
            LogCommand::Append { records } => {
                for (first, record) in records.iter().enumerate() {
                    if let Err(error) = self.append(record) {
                        self.event(LogEvent::AppendFailed { first, error });
                        break;
                    }
                }
            }
            LogCommand::AppendIf { .. } => {
                self.event(LogEvent::AppendFailed { first: 0, error: AppendError::Unconditional });
            }
            LogCommand::Subscribe { from } => self.subscribe(from),
            LogCommand::Read { tag, from, to, max_bytes } => {
                self.readers.ask(RequestId(tag), from, to, max_bytes)
            }
            LogCommand::Tail { tag } => self.answer_tail(RequestId(tag)),
            LogCommand::Trim { tag, gsn } => self.trim_for(RequestId(tag), gsn),
            LogCommand::Release { upto } => self.release(upto),
        }
    }

    /// All that anybody was told of is durable, and nothing else counts.
    fn answer_tail(&mut self, request: RequestId) {
        let gsn = self.index.durable();
        self.event(LogEvent::Tail { request, gsn });
    }

    fn trim_for(&mut self, request: RequestId, gsn: Gsn) {
        let tail = self.index.durable();
        let refused = match self.released {
            _ if gsn > tail => Some(TrimError::BeyondTail { tail }),
            Some(at) if at < gsn => Some(TrimError::HeldBack { consumer: "its owner".into(), at }),
            _ => None,
        };
        let before = self.index.point.trim;
        match refused {
            Some(error) => self.event(LogEvent::TrimDone { request, result: Err(error) }),
            None if gsn <= before => {
                self.event(LogEvent::TrimDone { request, result: Ok(Trimmed { before, trim: before }) });
            }
            None => self.begin_trim(gsn, Some(request)),
        }
    }

    fn begin_trim(&mut self, gsn: Gsn, request: Option<RequestId>) {
        self.trimming = true;
        self.persist(vec![marks::mark(marks::TRIM, gsn)], |token| Saving::Trim(token, gsn, request));
    }

    /// What the owner doesn't need is trimmed once a segment of it, or more, can be given back.
    fn trim_released(&mut self) {
        let Some(upto) = self.released.map(|r| r.min(self.index.durable())) else { return };
        if self.trimming || upto <= self.index.point.trim {
            return;
        }
        let frees = match (self.index.first_segment(), self.index.segment_of(upto)) {
            (Some(first), Some(needed)) => first < needed,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if frees {
            self.begin_trim(upto, None);
        }
    }

    fn persisted(&mut self, token: Token, positions: &[WalPos]) {
        let saving = self.saving.pop_front().expect("nothing is durable that was not to be saved");
        match saving {
            Saving::Batches(due, n) => {
                assert!(due == token && n == positions.len(), "logs complete in order");
                for pos in positions {
                    let entry = self.index.persisted(*pos);
                    let seq = self.writer.persisted();
                    self.event(LogEvent::Appended { seq, first_gsn: entry.first, count: entry.count });
                }
                self.index.shrink(self.cfg.cache_bytes);
                self.progress = true;
            }
            Saving::Trim(due, gsn, request) => {
                assert!(due == token, "logs complete in order");
                self.trimming = false;
                let before = self.index.point.trim;
                let last = positions.last().map(|p| p.segment);
                if let Some(segment) = self.index.trim(gsn).or(last) {
                    self.out.push_back(Output::Release { segment });
                }
                if let Some(request) = request {
                    let trim = self.index.point.trim;
                    self.event(LogEvent::TrimDone { request, result: Ok(Trimmed { before, trim }) });
                }
            }
            Saving::Base(due) => assert!(due == token, "logs complete in order"),
            Saving::Seal(due) => {
                assert!(due == token, "logs complete in order");
                assert_eq!(
                    self.index.durable(),
                    self.index.point.tail,
                    "LOG-11: all that it takes lies before its end"
                );
                self.ended();
            }
        }
    }

    /// The end of a turn: everything gathered in it goes out.
    fn flush(&mut self, now: Instant) {
        if std::mem::take(&mut self.unborn) {
            self.persist(vec![marks::mark(marks::BASE, self.cfg.base)], Saving::Base);
        }
        let mut records = Vec::new();
        while let Some(placed) = self.writer.close(&self.cfg, self.index.point) {
            records.push(marks::batch_record(&placed));
            self.index.push(placed);
        }
        if !records.is_empty() {
            let n = records.len();
            self.persist(records, |token| Saving::Batches(token, n));
        }
        if self.seal.stage == Stage::Asked {
            self.seal.stage = Stage::Written;
            let successor = self.index.successor.as_deref().expect("it was said");
            let record = marks::seal_record(self.index.point.tail, successor);
            self.persist(vec![record], Saving::Seal);
        }
        self.trim_released();
        let Self { index, readers, cfg, tokens, out, .. } = self;
        readers.flush(now, cfg, index, self.writer.id, &mut |pos| {
            *tokens += 1;
            out.push_back(Output::Load { token: Token(*tokens), pos });
            Token(*tokens)
        });
        while let Some(event) = self.readers.pop_event() {
            self.event(event);
        }
    }
}

impl SharedLog for LocalLog {
    fn append(&mut self, record: &[u8]) -> Result<(Seq, u32), AppendError> {
        self.dirty = true;
        self.writer.append(&self.cfg, record, false)
    }

    fn append_vital(&mut self, record: &[u8]) -> Result<(Seq, u32), AppendError> {
        self.dirty = true;
        self.writer.append(&self.cfg, record, true)
    }

    fn writer(&self) -> WriterId {
        self.writer.id
    }

    fn pending_batches(&self) -> usize {
        self.writer.pending_batches()
    }

    fn has_room(&self) -> bool {
        self.writer.has_room(&self.cfg)
    }

    fn subscribe(&mut self, from: Gsn) {
        self.dirty = true;
        self.readers.subscribe(from);
    }

    fn read(&mut self, from: Gsn, to: Gsn, max_bytes: usize) -> RequestId {
        let request = self.request();
        self.readers.ask(request, from, to, max_bytes);
        request
    }

    fn tail(&mut self) -> RequestId {
        let request = self.request();
        self.answer_tail(request);
        request
    }

    fn trim(&mut self, gsn: Gsn) -> RequestId {
        let request = self.request();
        self.trim_for(request, gsn);
        request
    }

    fn release(&mut self, upto: Gsn) {
        self.released = self.released.max(Some(upto));
        self.dirty = true;
    }

    fn base_gsn(&self) -> Gsn {
        self.index.point.base
    }

    fn seal(&mut self, successor: &str) -> Result<RequestId, SealError> {
        let bytes = successor.len();
        if !(1..=SUCCESSOR_BYTES_MAX).contains(&bytes) || successor.contains(['\n', '\r']) {
            return Err(SealError::Malformed { bytes });
        }
        let request = self.request();
        self.seal.ask(request, successor, &mut self.index.successor);
        self.writer.ends = true;
        self.answer_seals();
        Ok(request)
    }
}

impl Machine for LocalLog {
    type Command = LogCommand;
    type Event = LogEvent;

    fn handle(&mut self, now: Instant, input: Input<LogCommand>) {
        self.dirty = true;
        match input {
            Input::Persisted { token, positions } => self.persisted(token, &positions),
            Input::Loaded { token, result } => self.readers.loaded(now, token, result),
            Input::DiskSpace { room, .. } => {
                if std::mem::replace(&mut self.writer.room, room) != room {
                    self.event(LogEvent::Room { room });
                }
            }
            Input::Timer => self.readers.tick(now),
            Input::Command(command) => self.command(command),
            // It has no peers, and wants no wall clock.
            Input::Accepted { .. }
            | Input::Connected { .. }
            | Input::Frame { .. }
            | Input::Closed { .. }
            | Input::Backlog { .. }
            | Input::SegmentRead { .. }
            | Input::SnapshotSaved { .. }
            | Input::SnapshotFound { .. }
            | Input::SnapshotRead { .. }
            | Input::WallClock(_) => {}
        }
    }

    fn poll_output(&mut self, now: Instant) -> Option<Output<LogEvent>> {
        loop {
            if let Some(output) = self.out.pop_front() {
                return Some(output);
            }
            if std::mem::take(&mut self.progress) {
                return Some(Output::Event(LogEvent::Progress { tail: self.index.durable() }));
            }
            // Deliveries come before the end of the turn, so that what the owner appends on seeing them is
            // still in this turn's batch.
            if let Some(committed) = self.readers.deliver(now, self.writer.id) {
                self.dirty = true;
                return Some(Output::Event(LogEvent::Committed(committed)));
            }
            if !std::mem::take(&mut self.dirty) {
                return None;
            }
            self.flush(now);
        }
    }

    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        self.readers.deadline()
    }

    fn checkpoint(&self) -> Bytes {
        // It stands also for the mark that is under way, which lies before it.
        let marked = |s: &Saving| if let Saving::Trim(_, gsn, _) = s { Some(*gsn) } else { None };
        let trim = self.saving.iter().filter_map(marked).fold(self.index.point.trim, Gsn::max);
        // So does it for the end, whose record lies before it once it is written.
        let ended = self.seal.stage != Stage::Asked;
        let successor = self.index.successor.as_deref().filter(|_| ended);
        marks::Checkpoint { trim, ..self.index.point }.encode(successor)
    }
}
