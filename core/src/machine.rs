//! What is a machine? The contract between a protocol part and whatever drives it: the shell
//! (`rt`), which moves bytes between machines and the kernel, or the simulator, which does the same with
//! simulated time, network and disks.
//!
//! # Duties of the shell
//! 1. `now` never goes back.
//! 2. It may call [`Machine::handle`] any number of times and then drains [`Machine::poll_output`] until
//!    `None`. One such round is a *turn*: a machine may hold effects back until the first `poll_output` of a
//!    turn, so as to emit one effect per turn rather than one per input.
//! 3. Outputs are carried out in order, per kind: `Persist`s enter the write-ahead log in the order they
//!    came, `Send`s of one connection arrive in order or the connection ends.
//! 4. A connection is FIFO and reliable until [`Input::Closed`], which comes exactly once, after which the
//!    id is never used again. Several connections have no order among each other: a frame of an older one
//!    may arrive after frames of a newer one.
//! 5. When `next_deadline` has passed it calls `handle` with [`Input::Timer`], early ticks are harmless.
//! 6. Within a turn all calls may carry the same `now`, until an [`Output::ReadClock`]. After a turn's `Send`s
//!    have been offered to the sockets it calls [`Machine::sent`]. Both serve measuring alone: who drives a machine
//!    without wanting to know how long its stages take need do neither.
//!
//! # Duties of a machine
//! It performs no I/O, reads no clock, draws no randomness but from a seed it was given, and iterates
//! nothing in hash order. A promise (report, ack, vote) leaves only after the [`Input::Persisted`] of what
//! it rests on.

use crate::ids::Gsn;
use crate::time::{Instant, WallMs};
use crate::wal::{WalPos, WalRecord};
use crate::wire::{DiskRoom, SnapshotAt};
use bytes::Bytes;

/// A connection. Bit 63 is set on those the machine dialled (and numbered) itself, see
/// [`ConnId::dialled`]; the shell numbers accepted ones from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

impl ConnId {
    /// The machine's `n`th outgoing connection. A machine never uses an `n` twice.
    pub const fn dialled(n: u64) -> Self {
        Self(n | 1 << 63)
    }

    /// Whether the machine dialled it.
    pub const fn is_dialled(self) -> bool {
        self.0 >> 63 == 1
    }
}

/// Names an effect until its completion comes back. A machine never has two of one value outstanding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// What can happen to a machine. `C` are the commands of its owner in the same process.
#[derive(Clone, Debug)]
pub enum Input<C> {
    /// A peer connected to us; `peer` is its address, for logs and limits.
    Accepted {
        /// The new connection.
        conn: ConnId,
        /// `ip:port`.
        peer: String,
    },
    /// A connection we dialled is up.
    Connected {
        /// The connection.
        conn: ConnId,
    },
    /// One whole frame arrived, header included, its length already checked against the port's limit.
    Frame {
        /// On which connection.
        conn: ConnId,
        /// The frame.
        bytes: Bytes,
    },
    /// The connection ended, or could not be made. Also comes after our own [`Output::Close`].
    Closed {
        /// The connection, gone for good.
        conn: ConnId,
    },
    /// What waits to leave over a connection has come above [`limits::OUT_BYTES_PAUSE`](crate::limits::OUT_BYTES_PAUSE),
    /// or back to it. Who answers from a queue of its own should hold on in between: above
    /// [`limits::OUT_BYTES_MAX`](crate::limits::OUT_BYTES_MAX) the connection is closed.
    Backlog {
        /// Over which connection, which may have ended meanwhile.
        conn: ConnId,
        /// Whether it is above.
        high: bool,
    },
    /// The records of an [`Output::Persist`] are durable, as are all of earlier ones.
    Persisted {
        /// The token of that output.
        token: Token,
        /// Where each record lies, in order.
        positions: Vec<WalPos>,
    },
    /// The answer to an [`Output::Load`]: the record's bytes, or why they can't be had (damage, I/O error).
    Loaded {
        /// The token of that output.
        token: Token,
        /// The bytes that were persisted.
        result: Result<Bytes, String>,
    },
    /// The answer to an [`Output::ReadSegment`].
    SegmentRead {
        /// The token of that output.
        token: Token,
        /// The bytes, fewer than asked for at the file's end, and the bytes of the file; or why they can't be had.
        result: Result<(Bytes, u32), String>,
    },
    /// The answer to an [`Output::SaveSnapshot`] or [`Output::SavePart`].
    SnapshotSaved {
        /// Of which snapshot.
        gsn: Gsn,
        /// Whether it was its last piece.
        last: bool,
        /// `Ok` to the last piece: the file is complete and synced, was read back from the disk and found
        /// right, has its name, and its directory is synced. `Ok` to any other: the next may come. An error:
        /// nothing of it is left, and no further piece is expected.
        result: Result<(), String>,
    },
    /// The answer to an [`Output::FindSnapshot`].
    SnapshotFound {
        /// The one that was found; `None` if none is good.
        found: Option<SnapshotAt>,
    },
    /// The answer to an [`Output::ReadSnapshot`].
    SnapshotRead {
        /// The token of that output.
        token: Token,
        /// The bytes, all of them; or why they can't be had.
        result: Result<Bytes, String>,
    },
    /// How much room the disk of the log has, for machines that have one; comes at start, when it changes, and
    /// about once a second.
    DiskSpace {
        /// How much, in a word.
        room: DiskRoom,
        /// Bytes that the log may still take.
        free_bytes: u64,
    },
    /// `next_deadline` may have passed.
    Timer,
    /// What the wall clock says now; comes at start and about once a second.
    WallClock(WallMs),
    /// The owner wants something.
    Command(C),
}

/// What a machine wants done. `E` are events for its owner in the same process.
#[derive(Clone, Debug)]
pub enum Output<E> {
    /// Connect to `addr` (`ip:port`); the outcome is `Connected` or `Closed`.
    Dial {
        /// A fresh [`ConnId::dialled`].
        conn: ConnId,
        /// Where to.
        addr: String,
    },
    /// Send these bytes (one or more whole frames). Dropped silently when the connection is gone: its
    /// `Closed` is on the way.
    Send {
        /// Over which connection.
        conn: ConnId,
        /// The frames.
        bytes: Bytes,
    },
    /// End the connection, after what was sent has left. `Closed` follows.
    Close {
        /// Which one.
        conn: ConnId,
    },
    /// Stop reading from the connection (its sender is slowed by TCP).
    Pause {
        /// Which one.
        conn: ConnId,
    },
    /// Read from the connection again.
    Resume {
        /// Which one.
        conn: ConnId,
    },
    /// Append to the write-ahead log and sync; `Persisted` follows.
    Persist {
        /// Comes back with the completion.
        token: Token,
        /// In order.
        records: Vec<WalRecord>,
    },
    /// Read back a record that was persisted; `Loaded` follows.
    Load {
        /// Comes back with the completion.
        token: Token,
        /// Where it lies.
        pos: WalPos,
    },
    /// Read a piece of a segment as it is, unchecked; `SegmentRead` follows.
    ReadSegment {
        /// Comes back with the completion.
        token: Token,
        /// Which.
        segment: u32,
        /// First byte, a multiple of [`UNIT`](crate::wal::UNIT).
        offset: u32,
        /// How many, another.
        bytes: u32,
    },
    /// Segments before this one will never be asked for again: delete or recycle them.
    Release {
        /// The first segment still needed.
        segment: u32,
    },
    /// Append a piece to the file of a snapshot, a new one after a last piece or an error; `SnapshotSaved`
    /// follows. One piece at a time: the next comes only after the answer.
    SaveSnapshot {
        /// Position of the snapshot: the first record that it doesn't hold.
        gsn: Gsn,
        /// Bytes of the file, as [`snapshot`](crate::snapshot) frames them.
        bytes: Bytes,
        /// Whether the file is complete with it.
        last: bool,
    },
    /// Append a piece to the file of another node's snapshot, which is kept over a restart until it is complete or dropped;
    /// `SnapshotSaved` follows. One piece at a time, whosever snapshot.
    SavePart {
        /// Which.
        of: SnapshotAt,
        /// Offset of the piece in the file: where the one before it ended, or, of the first one in a life, where what was kept is
        /// gone on with; 0 begins anew.
        from: u64,
        /// The piece.
        bytes: Bytes,
        /// Whether the file is complete with it.
        last: bool,
    },
    /// Nothing more comes of the snapshot that is being saved: what there is of its file goes. A piece that is under way
    /// is answered all the same. No answer.
    DropSnapshots {
        /// Whether those that were finished earlier go, too.
        finished: bool,
    },
    /// Which snapshot can be given to others? `like` if it was found before and can still be read; else the newest
    /// one, which is read as a whole first, or an older one, if that is damaged. `SnapshotFound` follows; one question at a
    /// time.
    FindSnapshot {
        /// The one that would be best.
        like: Option<SnapshotAt>,
    },
    /// Read a piece of a snapshot that was found; `SnapshotRead` follows.
    ReadSnapshot {
        /// Comes back with the completion.
        token: Token,
        /// Which.
        of: SnapshotAt,
        /// Offset in the file; the piece must lie within it.
        from: u64,
        /// How many bytes.
        bytes: u32,
    },
    /// The machine has come to another stage of its turn, and measures how long each takes: read the clock, and
    /// call on with what it says. A few per turn or per batch, never one per record.
    ReadClock,
    /// Something for the owner.
    Event(E),
}

impl<C> Input<C> {
    /// The same for a machine within this one, whose commands `command` makes of ours; `None` if it makes none.
    pub fn try_map<D>(self, command: impl FnOnce(C) -> Option<D>) -> Option<Input<D>> {
        Some(match self {
            Input::Accepted { conn, peer } => Input::Accepted { conn, peer },
            Input::Connected { conn } => Input::Connected { conn },
            Input::Frame { conn, bytes } => Input::Frame { conn, bytes },
            Input::Closed { conn } => Input::Closed { conn },
            Input::Backlog { conn, high } => Input::Backlog { conn, high },
            Input::Persisted { token, positions } => Input::Persisted { token, positions },
            Input::Loaded { token, result } => Input::Loaded { token, result },
            Input::SegmentRead { token, result } => Input::SegmentRead { token, result },
            Input::SnapshotSaved { gsn, last, result } => Input::SnapshotSaved { gsn, last, result },
            Input::SnapshotFound { found } => Input::SnapshotFound { found },
            Input::SnapshotRead { token, result } => Input::SnapshotRead { token, result },
            Input::DiskSpace { room, free_bytes } => Input::DiskSpace { room, free_bytes },
            Input::Timer => Input::Timer,
            Input::WallClock(wall) => Input::WallClock(wall),
            Input::Command(c) => Input::Command(command(c)?),
        })
    }
}

impl<E> Output<E> {
    /// The same of a machine around this one, whose events `event` makes of ours; `Err` with what it made if
    /// it made none.
    ///
    /// # Errors
    /// What `event` made of an event that it kept.
    pub fn try_map<F, K>(self, event: impl FnOnce(E) -> Result<F, K>) -> Result<Output<F>, K> {
        Ok(match self {
            Output::Dial { conn, addr } => Output::Dial { conn, addr },
            Output::Send { conn, bytes } => Output::Send { conn, bytes },
            Output::Close { conn } => Output::Close { conn },
            Output::Pause { conn } => Output::Pause { conn },
            Output::Resume { conn } => Output::Resume { conn },
            Output::Persist { token, records } => Output::Persist { token, records },
            Output::Load { token, pos } => Output::Load { token, pos },
            Output::ReadSegment { token, segment, offset, bytes } => {
                Output::ReadSegment { token, segment, offset, bytes }
            }
            Output::Release { segment } => Output::Release { segment },
            Output::SaveSnapshot { gsn, bytes, last } => Output::SaveSnapshot { gsn, bytes, last },
            Output::SavePart { of, from, bytes, last } => Output::SavePart { of, from, bytes, last },
            Output::DropSnapshots { finished } => Output::DropSnapshots { finished },
            Output::FindSnapshot { like } => Output::FindSnapshot { like },
            Output::ReadSnapshot { token, of, from, bytes } => {
                Output::ReadSnapshot { token, of, from, bytes }
            }
            Output::ReadClock => Output::ReadClock,
            Output::Event(e) => Output::Event(event(e)?),
        })
    }
}

/// A protocol part. See the [module](self) for what both sides owe each other.
pub trait Machine {
    /// What its owner in the same process may ask.
    type Command;
    /// What it tells that owner.
    type Event;

    /// Takes one input. Never blocks, never reads a clock.
    fn handle(&mut self, now: Instant, input: Input<Self::Command>);

    /// The next effect, or `None` when the turn is drained.
    fn poll_output(&mut self, now: Instant) -> Option<Output<Self::Event>>;

    /// The earliest timer and why it is set.
    fn next_deadline(&self) -> Option<(Instant, &'static str)>;

    /// What the turn had to send was offered to the sockets just now. Comes between turns; of a turn that sent
    /// nothing it need not come. Measures, and does nothing else.
    fn sent(&mut self, _now: Instant) {}
    /// Its owner wants to end it. Whether it still has something to bring in order first: then it goes on to be driven
    /// and is asked again after each turn, as long as the owner has patience.
    fn farewell(&mut self, now: Instant) -> bool {
        let _ = now;
        false
    }

    /// Whether [`checkpoint`](Self::checkpoint) may be asked for now. A machine whose state isn't whole says no; its
    /// log then grows without checkpoints, so that its next start reads more.
    fn may_checkpoint(&self) -> bool {
        true
    }

    /// The state that stands for every record put out to be persisted so far, durable already or not: the
    /// first record of the next segment, behind all of them. Asked for by the shell between turns, when the
    /// log rolls. Machines without a log leave it empty.
    fn checkpoint(&self) -> Bytes {
        Bytes::new()
    }
}
