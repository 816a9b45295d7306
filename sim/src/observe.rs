//! What do the processes tell the checkers? Facts, at the moment they learn them.

use bytes::Bytes;
use zoolog_client::{TrimError, Trimmed};
use zoolog_core::batch::PlacedBatch;
use zoolog_core::{Epoch, Gsn, Instant, Seq, WriterId};

/// A fact seen by one process.
#[derive(Clone, Debug)]
pub enum Observation {
    /// For the trace only.
    Note(String),
    /// A writer handed over a record: it may appear from now on.
    Appending {
        /// Who.
        writer: WriterId,
        /// Number of the batch it went into.
        seq: Seq,
        /// Its place in the batch.
        index: u32,
        /// The record.
        record: Bytes,
    },
    /// A writer handed over a batch that is to count only if nothing but its own was ordered since.
    AppendingIf {
        /// Who.
        writer: WriterId,
        /// The batch.
        seq: Seq,
        /// Since when.
        expected: Gsn,
    },
    /// A writer has its name.
    Opened {
        /// Who, in all openings of the name.
        writer: WriterId,
        /// Its opening.
        epoch: Epoch,
        /// Where the openings before ended, as it was told.
        tail: Option<Gsn>,
    },
    /// A writer was told that such a batch doesn't count.
    Conflicted {
        /// Who.
        writer: WriterId,
        /// Which batch.
        seq: Seq,
        /// Where it begins.
        tail: Gsn,
    },
    /// A writer was told that a batch is in the log.
    Acked {
        /// Who.
        writer: WriterId,
        /// Which batch.
        seq: Seq,
        /// Where it begins.
        first_gsn: Gsn,
        /// How many records.
        count: u32,
    },
    /// A subscription starts (anew) at `from`.
    Subscribed {
        /// First GSN wanted.
        from: Gsn,
    },
    /// A subscriber got records.
    Delivered {
        /// GSN of the batch's first record.
        first_gsn: Gsn,
        /// The batch.
        placed: PlacedBatch,
        /// Records of it that lie before the subscription's start.
        skip: u32,
        /// Records of it delivered.
        take: u32,
    },
    /// A subscription has ended: what comes next was trimmed.
    Gap {
        /// Where it had come to.
        from: Gsn,
        /// First GSN that can be read.
        until: Gsn,
    },
    /// A writer's append was refused for want of room: nothing of it is anywhere.
    NoRoom,
    /// A leader gives up a consumer.
    ConsumerDropped {
        /// Its name.
        name: String,
    },
    /// A trim by hand was answered.
    TrimDone {
        /// First position that was to stay.
        asked: Gsn,
        /// What it has done, or why nothing.
        result: Result<Trimmed, TrimError>,
    },
    /// A linearizable tail was answered.
    Tail {
        /// When it was asked.
        asked: Instant,
        /// The answer.
        gsn: Gsn,
    },
    /// A ZooKeeper node's state after a turn.
    State {
        /// First GSN not applied.
        applied: Gsn,
        /// Over the whole state.
        hash: u64,
    },
    /// A ZooKeeper client sends a create of a queue entry: it may happen from now on.
    ZkEnqueue,
    /// A ZooKeeper client's request was answered, or never will be.
    Zk(ZkFact),
    /// A ZooKeeper client that would take a read-only session was shown something.
    Looked(ZkLook),
    /// A process of the workload saw a promise broken with its own eyes.
    Broken {
        /// Which.
        promise: &'static str,
        /// What it saw.
        text: String,
    },
    /// A change of the orderers was decided or begun.
    Decided,
    /// A process is about to say that, and its next life must know this.
    Beware(zoolog_zk::snapshot::Beware),
    /// A process says that it can't go on and must be started anew.
    Failed(String),
    /// A process of the workload has done all it was told to.
    Done,
}

/// What a client was shown that would take a read-only session.
#[derive(Clone, Debug)]
pub struct ZkLook {
    /// Which node.
    pub path: String,
    /// Header.
    pub zxid: i64,
    /// Of the node.
    pub stat: ZkStat,
    /// Of the node.
    pub data: Vec<u8>,
    /// Whether its session was one.
    pub read_only: bool,
}

/// One request of a ZooKeeper client and what came of it.
#[derive(Clone, Debug)]
pub struct ZkFact {
    /// Which client.
    pub client: u32,
    /// Its session then.
    pub session: i64,
    /// When it was sent.
    pub asked: Instant,
    /// What was asked.
    pub call: ZkCall,
    /// What came back.
    pub reply: ZkReply,
}

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ZkCall {
    /// setData of a unique value, at any version or at the given one.
    Set {
        /// Which node.
        path: String,
        /// Never written by anybody else.
        value: Vec<u8>,
        /// -1 for any.
        version: i32,
    },
    /// getData; `synced` if a sync came directly before it in the session.
    Get {
        /// Which node.
        path: String,
        /// When the sync was sent, if there was one.
        synced: Option<Instant>,
    },
    /// create; the data is unique.
    Create {
        /// Which node, suffix not added.
        path: String,
        /// Never written by anybody else.
        value: Vec<u8>,
        /// Goes with the session.
        ephemeral: bool,
        /// Gets a suffix.
        sequential: bool,
    },
    /// delete at any version.
    Delete {
        /// Which node.
        path: String,
    },
    /// getChildren; `synced` as in `Get`.
    Children {
        /// Which node.
        path: String,
        /// When the sync was sent, if there was one.
        synced: Option<Instant>,
    },
    /// The session was opened (session 0 before) or resumed.
    Connect {
        /// Whether a session was resumed.
        resumed: bool,
    },
    /// The session was closed by its client.
    CloseSession,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ZkReply {
    /// The connection ended first: it may have happened or may yet.
    Unknown,
    /// An error, at that zxid.
    Error {
        /// ZooKeeper's number.
        code: i32,
        /// Header.
        zxid: i64,
    },
    /// It is in the log, and will be done if it can be; by a node that says no more. zxid: header.
    Logged {
        /// Of what was applied there.
        zxid: i64,
    },
    /// It was done.
    Ok {
        /// Header.
        zxid: i64,
        /// Of the node, where the reply carries one.
        stat: Option<ZkStat>,
        /// Data read, if it was a read of data.
        data: Option<Vec<u8>>,
        /// Path made, if it was a create.
        path: Option<String>,
        /// Names, if children were read.
        names: Vec<String>,
    },
    /// The session is no more.
    Expired,
}

/// What a checker needs of a Stat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZkStat {
    /// Zxid of the last change of data.
    pub mzxid: i64,
    /// Zxid of the creation.
    pub czxid: i64,
    /// Changes of data.
    pub version: i32,
    /// Session, for ephemerals.
    pub owner: i64,
}
