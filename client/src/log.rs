//! What does an application see of a log? The trait [`SharedLog`], and the commands, events and errors it
//! speaks. Knows nothing of shards.

use bytes::Bytes;
use zoolog_core::batch::PlacedBatch;
use zoolog_core::wire::{DiskRoom, OfferAt, ReadEnd};
use zoolog_core::{ClusterId, Epoch, Gsn, Instant, Machine, Seq, ViewNumber, WriterId};

/// Names a read or tail request until its answer. Those that methods return have bit 63 set and are never
/// used twice; those of commands are the owner's own tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Why a record was not taken. Nothing of it is in the log, nor will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Longer than [`RECORD_BYTES_MAX`](zoolog_core::limits::RECORD_BYTES_MAX).
    #[error("record of {bytes} bytes, the limit is {limit}")]
    TooLong {
        /// Of the record.
        bytes: usize,
        /// Allowed.
        limit: usize,
    },
    /// As much waits for acknowledgement as may: try again after the next `Appended`.
    #[error("the writer's window is full")]
    Full,
    /// The writer has come to its end, see [`LogEvent::WriterLost`].
    #[error("the writer has come to its end")]
    Closed,
    /// The name is not ours yet: try again after [`LogEvent::Opened`].
    #[error("the writer's name is not opened yet")]
    NotOpen,
    /// Of a conditional append: somebody else's record lies behind the expected tail already. Nothing is in the log.
    #[error(
        "the log ends at {tail}, and what lies before that is not all this writer's: read it, and decide anew"
    )]
    Conflict {
        /// Where the log ends, as far as known.
        tail: Gsn,
    },
    /// Of a conditional append: whether appends that are under way, or the log's end, lie before or behind the expected tail
    /// isn't known yet. Try again after the next `Appended`, or `Progress`.
    #[error("where the log ends is not settled yet: try again when what is under way is acknowledged")]
    Unsettled,
    /// Of a conditional append: no records, or more than fit into one batch.
    #[error("a conditional append is one batch: 1 to {records} records, {bytes} bytes with 16 for each")]
    NoBatch {
        /// At most.
        records: u32,
        /// At most.
        bytes: usize,
    },
    /// This log takes no conditional appends: nobody else can append to it.
    #[error("this log takes no conditional appends: it has one writer")]
    Unconditional,
    /// The log has ended: it goes on elsewhere, see [`LogEvent::Sealed`].
    #[error("the log has ended: it goes on elsewhere")]
    Sealed,
    /// A disk that would hold it is short of room: try again after [`LogEvent::Room`] says that there is.
    #[error("the log's disks are short of room: try again later")]
    DiskFull,
}

impl AppendError {
    /// Whether the same record may be taken later.
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Full | Self::NotOpen | Self::Unsettled | Self::DiskFull)
    }
}

pub use zoolog_core::limits::SUCCESSOR_BYTES_MAX;

/// Where a log has ended, for good, and where it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// First position that is not in it, and the first one of the log that follows.
    pub tail: Gsn,
    /// What it was sealed for: how to find the log that follows, such as the `host:port` of its orderers, between commas.
    pub successor: String,
}

/// Why a log was not sealed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It was before, for another.
    #[error("the log has ended before, at {}, and goes on at {}", .0.tail, .0.successor)]
    Another(Sealed),
    /// Its successor is none: nothing, or too long a text.
    #[error(
        "a successor's text has 1 to {SUCCESSOR_BYTES_MAX} bytes, and no line breaks: this one has {bytes}"
    )]
    Malformed {
        /// Bytes that it has.
        bytes: usize,
    },
    /// The log goes on in that cluster already, or in a later one.
    #[error("the log goes on in that cluster already, or in a later one")]
    Passed,
    /// Logs of this kind can't be.
    #[error("this log can't be sealed")]
    Unsupported,
}

/// What a trim has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trimmed {
    /// First position that was readable before; not below `trim` if everything asked for was gone already.
    pub before: Gsn,
    /// First position that is readable now.
    pub trim: Gsn,
}

/// Why nothing was trimmed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrimError {
    /// A consumer still needs some of it.
    #[error(
        "consumer `{consumer}` still needs the log from {at} on: wait for it, or forget it if it is gone for good"
    )]
    HeldBack {
        /// The slowest consumer.
        consumer: String,
        /// First position that it needs.
        at: Gsn,
    },
    /// There is no such position yet.
    #[error("the log ends before {tail}: nothing behind that can be trimmed")]
    BeyondTail {
        /// First position not assigned.
        tail: Gsn,
    },
}

/// Why a writer can't go on. What it has pending may or may not be in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriterLost {
    /// Nobody knows any more which of its batches are in the lane that it had to leave.
    #[error("nobody remembers which of its batches are in the log")]
    Forgotten,
    /// Its primary calls its batches malformed.
    #[error("its primary refuses its batches as malformed")]
    Malformed,
    /// Another has opened its name since.
    #[error("another has taken over its name")]
    Fenced,
    /// The name's last record is not where it was expected; nothing was appended.
    #[error("the name's last record is not where it was expected: its records end at {tail:?}")]
    Conflict {
        /// One past the name's last record, if that is still known.
        tail: Option<Gsn>,
    },
    /// Fences of its own have closed every lane there is for this opening of its name; what it has pending is in none of
    /// them. Seldom: it doesn't fence its last lane, so the others' shards must have ended without others in their place.
    #[error("every lane is closed for this opening of its name: open the name again")]
    NoLane,
    /// It was to follow another log, and its orderers say that it doesn't begin where that ends.
    #[error("the log there does not go on where this one ended: it begins elsewhere")]
    NoSuccessor,
    /// The name can't be had: it is empty or too long, there are too many, or it was opened too often.
    #[error("the name can't be had: it is empty or too long, there are too many, or it was opened too often")]
    NoName,
}

/// What the owner of a log may ask through [`Machine::handle`]; each is also a method of [`SharedLog`], which
/// is the shorter way for an owner that embeds it.
#[derive(Clone, Debug)]
pub enum LogCommand {
    /// [`SharedLog::append`] of each record, in order. A refusal comes as [`LogEvent::AppendFailed`].
    Append {
        /// The records.
        records: Vec<Bytes>,
    },
    /// [`SharedLog::append_if`]. A refusal comes as [`LogEvent::AppendFailed`].
    AppendIf {
        /// Where the log is to end, but for what this writer has appended.
        expected_tail: Gsn,
        /// The records: all or none.
        records: Vec<Bytes>,
    },
    /// [`SharedLog::subscribe`].
    Subscribe {
        /// First position wanted.
        from: Gsn,
    },
    /// [`SharedLog::read`], under the owner's own number.
    Read {
        /// Comes back as [`RequestId`]; below 2^63, and not used twice at a time.
        tag: u64,
        /// First position.
        from: Gsn,
        /// One past the last position.
        to: Gsn,
        /// Payload bytes wanted at most.
        max_bytes: usize,
    },
    /// [`SharedLog::tail`], under the owner's own number.
    Tail {
        /// Comes back as [`RequestId`]; below 2^63, and not used twice at a time.
        tag: u64,
    },
    /// [`SharedLog::trim`], under the owner's own number.
    Trim {
        /// Comes back as [`RequestId`]; below 2^63, and not used twice at a time.
        tag: u64,
        /// First position that must stay.
        gsn: Gsn,
    },
    /// [`SharedLog::release`].
    Release {
        /// First position still needed.
        upto: Gsn,
    },
}

/// A committed batch, or the part of it that lies in the range asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Position of the batch's first record (which may lie before the range). Record `i` of the batch has the
    /// position `first_gsn + i`.
    pub first_gsn: Gsn,
    /// The batch, checked.
    pub placed: PlacedBatch,
    /// Records at its front that are outside the range.
    pub skip: u32,
    /// Records behind those that are in the range; at least 1.
    pub take: u32,
    /// Whether this log's own writer wrote it.
    pub own: bool,
    /// When its position was known here: of a subscription near the tail, when the cut came that orders it.
    pub ordered_at: Instant,
}

impl Committed {
    /// Position of the first record in the range.
    pub fn from(&self) -> Gsn {
        self.first_gsn.plus(u64::from(self.skip))
    }

    /// One past the position of the last record in the range.
    pub fn end(&self) -> Gsn {
        self.first_gsn.plus(u64::from(self.skip) + u64::from(self.take))
    }

    /// The records in the range: position, index in the batch (as `append` returned it), bytes. None if the
    /// batch is a fence, or conditional and not where it was to be: it has positions, but nothing in them.
    pub fn records(&self) -> impl Iterator<Item = (Gsn, u32, Bytes)> + use<> {
        let holds = self.placed.batch.holds_at(self.first_gsn);
        let (first, skip, take) = (self.first_gsn, self.skip, if holds { self.take } else { 0 });
        let records = self.placed.batch.records().skip(skip as usize).take(take as usize);
        (skip..).zip(records).map(move |(i, bytes)| (first.plus(u64::from(i)), i, bytes))
    }

    /// Takes off what is at its front, to be dealt with before the rest: one record at least, and as many as have so many bytes
    /// together. None if that is all.
    pub fn take_front(&mut self, bytes: usize) -> Option<Self> {
        let batch = &self.placed.batch;
        if batch.bytes().len() <= bytes {
            return None;
        }
        let (mut count, mut left) = (0, bytes);
        for record in batch.records().skip(self.skip as usize).take(self.take as usize) {
            let Some(now_left) = left.checked_sub(record.len()).or((count == 0).then_some(0)) else { break };
            (count, left) = (count + 1, now_left);
        }
        if count == self.take {
            return None;
        }
        let front = Self { take: count, ..self.clone() };
        (self.skip, self.take) = (self.skip + count, self.take - count);
        Some(front)
    }
}

/// What a log tells its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEvent {
    /// The cluster is known and the writer has its place; comes once. Calls made before it just wait.
    Ready {
        /// Which cluster.
        cluster: ClusterId,
        /// The first view known.
        view: ViewNumber,
    },
    /// The writer has its name: whoever had it before appends nothing more.
    Opened {
        /// Who writes under the name, in all its openings.
        writer: WriterId,
        /// Our opening.
        epoch: Epoch,
        /// One past the name's last record, 0 if there is none; `None` if it was trimmed so long ago that nobody knows.
        tail: Option<Gsn>,
    },
    /// The orderers are these from now on, `host:port` of each: worth remembering for the next start.
    Orderers {
        /// All of them.
        addrs: Vec<String>,
    },
    /// A batch of our writer is durable on all its replicas, and ordered. In the order of `seq`.
    Appended {
        /// The batch.
        seq: Seq,
        /// Position of its first record; the others follow it directly.
        first_gsn: Gsn,
        /// How many records it has.
        count: u32,
    },
    /// A conditional batch of our writer holds nothing, and never will: somebody else's record came before it. In the order of
    /// `seq`, in place of `Appended`.
    Conflict {
        /// The batch.
        seq: Seq,
        /// Where it was to be.
        expected: Gsn,
        /// Where the log ended when its turn came.
        tail: Gsn,
    },
    /// An append made by command was refused; the records from `first` of that command on are not taken.
    AppendFailed {
        /// Index of the first record refused.
        first: usize,
        /// Why.
        error: AppendError,
    },
    /// The next batch of the subscription: dense from its start, each position exactly once.
    Committed(Committed),
    /// The subscription has ended: the log from its position to `until` was trimmed. Load a snapshot at or
    /// past `until`, then subscribe again.
    Gap {
        /// The position it had come to.
        from: Gsn,
        /// First position that is still readable.
        until: Gsn,
    },
    /// The answer to a read.
    ReadDone {
        /// Which one.
        request: RequestId,
        /// The records in `from..covers`, in order.
        batches: Vec<Committed>,
        /// The answer is exact up to here.
        covers: Gsn,
        /// Why it ends there.
        end: ReadEnd,
    },
    /// The answer to a tail request: every append acknowledged before the request lies before `gsn`.
    Tail {
        /// Which one.
        request: RequestId,
        /// First position not assigned then.
        gsn: Gsn,
    },
    /// The answer to a trim.
    TrimDone {
        /// Which one.
        request: RequestId,
        /// What it has done, or why it has done nothing.
        result: Result<Trimmed, TrimError>,
    },
    /// The answer to [`SharedLog::find_offers`].
    Offers {
        /// Which question.
        request: RequestId,
        /// First position that is still readable.
        trim: Gsn,
        /// What others offer, in no order.
        offers: Vec<OfferAt>,
    },
    /// There is little room on the disks that hold our appends, or enough again. While it isn't ample appends are refused
    /// with [`AppendError::DiskFull`]; what was taken before goes in as soon as it can.
    Room {
        /// How much.
        room: DiskRoom,
    },
    /// The order is known up to `tail`; what of it is not delivered yet is on its way. At most once a turn.
    Progress {
        /// First position not assigned, as far as known.
        tail: Gsn,
    },
    /// Nothing has moved for a while though something should; a hint for people and for load shedding.
    Stalled {
        /// What stands still.
        what: &'static str,
    },
    /// It moves again.
    Resumed {
        /// What stood still.
        what: &'static str,
    },
    /// The answer to a seal.
    SealDone {
        /// Which one.
        request: RequestId,
        /// Where the log ends, or why it doesn't.
        result: Result<Sealed, SealError>,
    },
    /// The log has ended: it takes no appends any more. All before its tail is there as before. Comes once, behind every
    /// `Appended`: what is not acknowledged then is not in it, but for what a writer that was lost had pending. At the start if
    /// it was so before.
    Sealed(Sealed),
    /// The log below was exchanged: what is appended from now on, and what lies at and behind the position, is in the log that
    /// follows. Comes once, from logs that go on by themselves; and in a later life again, as long as something is needed from before.
    Moved(Sealed),
    /// Nothing of the log that ended there is needed any more, and it knows. Comes once, some time after `Moved`, from logs that go on
    /// by themselves.
    Left(Gsn),
    /// Our writer can't go on; its pending batches may or may not be in the log.
    WriterLost {
        /// Why.
        why: WriterLost,
        /// First batch whose fate is unknown.
        unknown_from: Seq,
    },
}

/// What fetching has come to, under the policies that fetch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fetching {
    /// Fetches begun.
    pub fetches: u64,
    /// Stretches of positions of which it is remembered who doesn't have them.
    pub location_entries: usize,
    /// Bytes received that said no more than where records are: cuts, orders, views, the log's end, and answers without
    /// records.
    pub location_bytes: u64,
}

/// A totally ordered log with one writer and at most one subscription, as a [`Machine`]: after any call drain
/// [`Machine::poll_output`]. All methods return at once; answers are [`LogEvent`]s.
pub trait SharedLog: Machine<Command = LogCommand, Event = LogEvent> {
    /// Appends a record to the open batch of this turn. Returns the batch's number and the record's index
    /// in it; [`LogEvent::Appended`] and [`LogEvent::Committed`] name the same. Records of successive calls
    /// lie in the log in that order.
    ///
    /// # Errors
    /// The record is not taken; see [`AppendError`].
    fn append(&mut self, record: &[u8]) -> Result<(Seq, u32), AppendError>;

    /// Appends records that count, all or none, only if nothing was ordered at or past `expected_tail` before them but what
    /// this log's own writer has appended, here, before. [`LogEvent::Appended`] says that they do, [`LogEvent::Conflict`]
    /// that they don't, and where the log ended instead. Every reader decides alike, from the batch and its place. They are a
    /// batch of their own, whose number is returned.
    ///
    /// # Errors
    /// They are not taken; see [`AppendError`].
    fn append_if(&mut self, expected_tail: Gsn, records: &[&[u8]]) -> Result<Seq, AppendError> {
        let _ = (expected_tail, records);
        Err(AppendError::Unconditional)
    }

    /// Who writes our appends.
    fn writer(&self) -> WriterId;

    /// Batches, the open one included, that are not acknowledged yet.
    fn pending_batches(&self) -> usize;

    /// Whether an append of any allowed length would be taken now, if the disks have room.
    fn has_room(&self) -> bool;

    /// Delivers every record from `from` on. Replaces an earlier subscription.
    fn subscribe(&mut self, from: Gsn);

    /// Reads `from..to`, or as much of it as `max_bytes` of payload hold (at least one batch). Waits for
    /// positions that are known to be assigned; ends with `NotYet` at those that aren't.
    fn read(&mut self, from: Gsn, to: Gsn, max_bytes: usize) -> RequestId;

    /// Asks for the tail, linearizably. Requests of one turn share a question.
    fn tail(&mut self) -> RequestId;

    /// [`append`](Self::append) of what must go in though the disks are low: little, and seldom, such as what keeps
    /// sessions alive.
    ///
    /// # Errors
    /// As `append`, but never [`AppendError::DiskFull`].
    fn append_vital(&mut self, record: &[u8]) -> Result<(Seq, u32), AppendError> {
        self.append(record)
    }

    /// Somebody waits for what lies before `upto`, which must be assigned: a lazy subscription has it delivered now. Others
    /// deliver without being told.
    fn want(&mut self, upto: Gsn) {
        let _ = upto;
    }

    /// Has all that is new delivered, under the policies that would put it off.
    fn refresh(&mut self) {}

    /// What fetching has come to.
    fn fetching(&self) -> Fetching {
        Fetching::default()
    }

    /// Forgets everything before `gsn`, for everybody; all of it or nothing. What any consumer needs stays.
    fn trim(&mut self, gsn: Gsn) -> RequestId;

    /// Says that the owner needs nothing before `upto` any more: for a named consumer the log may be trimmed up to
    /// there, once all others have released it too. Never goes back; reported within about 100 ms, and again
    /// to every new leader.
    fn release(&mut self, upto: Gsn);

    /// Whether this log tells its users of each other's snapshots.
    fn gives_offers(&self) -> bool {
        false
    }

    /// Others who lack what was trimmed are told that this owner has a snapshot of `gsn` for them, to be had at `addr`
    /// (`host:port`). Replaces what was offered before.
    fn offer(&mut self, addr: &str, gsn: Gsn) {
        let _ = (addr, gsn);
    }

    /// Asks who offers snapshots: [`LogEvent::Offers`] answers the last question. `None` if this log knows nothing of
    /// such.
    fn find_offers(&mut self) -> Option<RequestId> {
        None
    }

    /// First position of this log; greater than 0 when it succeeds another.
    fn base_gsn(&self) -> Gsn;

    /// Ends this log, for good and for everybody: what was appended before is in it, what follows belongs into `successor`.
    /// The first that is durable counts; the same again is answered alike. See [`LogEvent::SealDone`].
    ///
    /// # Errors
    /// It can't be.
    fn seal(&mut self, successor: &str) -> Result<RequestId, SealError> {
        let _ = successor;
        Err(SealError::Unsupported)
    }
}
