//! What is in each message? The bodies, in the order of the table.

use crate::cut::{Cut, CutLane, ShardPart};
use crate::ids::*;
use crate::view::View;

macro_rules! body {
    ($(#[$doc:meta])* $name:ident { $( $(#[$fdoc:meta])* $field:ident: $ty:ty, )* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
        pub struct $name { $( $(#[$fdoc])* pub $field: $ty, )* }
    };
}

macro_rules! plain_enum {
    ($(#[$doc:meta])* $name:ident { $( $(#[$vdoc:meta])* $variant:ident, )* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
        pub enum $name { $( $(#[$vdoc])* $variant, )* }
    };
}

plain_enum! {
    /// What the dialling side is.
    Role {
        /// An orderer.
        Orderer,
        /// A slot of a data server.
        Slot,
        /// A writer, reader or subscriber.
        Client,
    }
}

body! {
    /// First on every connection, from who dialled it. No answer if all is well.
    Hello {
        /// What it is.
        role: Role,
        /// Its cluster; 0 from a client that doesn't know it. Another cluster's is refused.
        cluster: ClusterId,
        /// Orderer id, or server id; 0 from clients.
        node: u64,
        /// Slot index; else 0.
        slot: u16,
        /// Its start; 0 from clients.
        incarnation: Incarnation,
    }
}

plain_enum! {
    /// Why a connection is refused.
    RefusedWhy {
        /// Another cluster.
        Cluster,
        /// A message that has no place on this connection.
        Unexpected,
        /// A newer incarnation of the sender is known.
        Stale,
        /// The request contradicts the protocol or committed state.
        Invalid,
        /// Its state is damaged or behind what is committed; it must be repaired first.
        Damaged,
        /// This node is not ready to serve it; try again later.
        NotReady,
    }
}

body! {
    /// Sent before closing a connection.
    Refused {
        /// Why, for programs.
        why: RefusedWhy,
        /// Why, for people.
        text: String,
    }
}

body! {
    /// How are you?
    Status {
        /// Comes back.
        request: u64,
    }
}

body! {
    /// How long do your stages take? Answered by `StatusIs`, whose JSON is then that of
    /// [`Stages`](crate::stages::Stages).
    Stages {
        /// Comes back.
        request: u64,
        /// Whether to count anew from now on, after the answer.
        reset: bool,
    }
}

body! {
    /// The answer to `Status` and `Stages`.
    StatusIs {
        /// Of the question.
        request: u64,
        /// A JSON object, or array of stages; its fields are for people and tests, not for the protocol.
        json: String,
    }
}

body! {
    /// A slot asks to be part of the cluster, or says that it is back. Answered by `ViewIs` and, per shard
    /// it serves, `PartsAre`; or by `NotLeader`.
    Register {
        /// Which slot.
        slot: SlotId,
        /// Its start. The newest fences older ones.
        incarnation: Incarnation,
        /// Where peers and clients reach it.
        addr: String,
        /// Servers of one domain fail together; replicas of a shard are kept apart.
        domain: String,
        /// Newest part it knows of each shard it serves.
        parts: Vec<(ShardId, CutNumber)>,
    }
}

/// Which cuts a slot waits for. It is sent the others, too, in the same order, but perhaps some
/// milliseconds later and several at a time.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
pub enum CutsWanted {
    /// None: no writer waits for an acknowledgement.
    #[default]
    Late,
    /// Those with records of a lane that it is primary of.
    Own,
    /// All: somebody reads what was just ordered.
    All,
}

body! {
    /// What a slot holds. Supersedes all it said before, in this registration.
    Report {
        /// Which slot.
        slot: SlotId,
        /// Its start.
        incarnation: Incarnation,
        /// Which cuts it wants at once; before its first report in a registration, all.
        cuts: CutsWanted,
        /// Each shard whose figures moved since its last report on this connection (all, in the first).
        shards: Vec<ShardReport>,
    }
}

body! {
    /// What one replica of a shard holds.
    ShardReport {
        /// The shard.
        shard: ShardId,
        /// Records per lane that it has taken, durable or not.
        accepted: Vec<u64>,
        /// Records per lane that it holds durably: its local cut.
        durable: Vec<u64>,
        /// Newest part it holds durably, 0 for none: the leader need not keep it for this replica.
        part: CutNumber,
    }
}

body! {
    /// Ask somebody else.
    NotLeader {
        /// `ip:port` of the leader, if known; else try any orderer, after a pause.
        leader: Option<String>,
    }
}

body! {
    /// The shards. Precedes the first cut that belongs to it.
    ViewIs {
        /// All of them.
        view: View,
    }
}

body! {
    /// A committed cut.
    CutIs {
        /// What it adds.
        cut: Cut,
    }
}

body! {
    /// Committed parts of a shard, oldest first, behind the one the slot said it knows.
    PartsAre {
        /// The shard.
        shard: ShardId,
        /// Its parts.
        parts: Vec<ShardPart>,
        /// Committed length of each of its lanes now.
        lens: Vec<u64>,
        /// The last cut; `CutIs` continue after it.
        number: CutNumber,
        /// First GSN not yet assigned after that cut: the shard has no record between its newest part and it.
        tail: Gsn,
    }
}

body! {
    /// Send me the order so far, and every cut from then on.
    WatchCuts {
        /// Comes back.
        request: u64,
    }
}

body! {
    /// The order so far. Every cut with a greater number follows on this connection, in order.
    OrderIs {
        /// Of the question.
        request: u64,
        /// The cluster.
        cluster: ClusterId,
        /// The last cut.
        number: CutNumber,
        /// First GSN not yet assigned.
        tail: Gsn,
        /// The shards.
        view: View,
        /// Committed length of every lane, as (lane, 0, length), ascending.
        lanes: Vec<CutLane>,
    }
}

body! {
    /// Which GSN comes next? Linearizable: a read-index round starts after this arrives.
    Tail {
        /// Comes back.
        request: u64,
    }
}

body! {
    /// First GSN that was not assigned when the round started.
    TailIs {
        /// Of the question.
        request: u64,
        /// The tail.
        gsn: Gsn,
    }
}

body! {
    /// The payload is one raft message, in raft's own encoding.
    Raft {
        /// Sender, as a check on the connection's `Hello`.
        from: u64,
        /// CRC-32C of the payload.
        crc: u32,
    }
}

body! {
    /// Keep what I may still need: automatic trimming stays at or below every consumer's position. Registers
    /// the name, or moves it on; a position never moves back. Answered by `ConsumerIs` once it is decided, or
    /// by `Refused` when there are too many consumers or the name is none.
    Consumer {
        /// Comes back.
        request: u64,
        /// Its name: 1 to 64 bytes.
        name: String,
        /// First GSN it still needs.
        upto: Gsn,
    }
}

body! {
    /// Where a consumer is, as decided.
    ConsumerIs {
        /// Of the question.
        request: u64,
        /// Its position; `None` if there is no consumer of that name any more. Never below `trim`.
        upto: Option<Gsn>,
        /// The trim point: what lies before it can't be read any more.
        trim: Gsn,
    }
}

body! {
    /// That consumer will not come back: it holds the trim point back no longer. Answered by `ConsumerIs`.
    ForgetConsumer {
        /// Comes back.
        request: u64,
        /// Its name.
        name: String,
    }
}

body! {
    /// The trim point, as decided: nothing below it will be read any more. Only ever grows.
    TrimIs {
        /// First GSN that is still readable.
        gsn: Gsn,
    }
}

body! {
    /// The payload is one batch.
    Append {
        /// The lane; its primary must be the receiver.
        lane: LaneId,
        /// The first batch this writer has in this lane: lower ones are elsewhere, or were never.
        start: Seq,
        /// Whether its writer waits for the acknowledgement of this batch, and so of all before it. If not, it
        /// may come some milliseconds later: the writer expects to learn in another way what became of it.
        prompt: bool,
    }
}

body! {
    /// Batches that are durable on all replicas and ordered.
    Appended {
        /// Their writer.
        writer: WriterId,
        /// (seq, GSN of the first record), ascending.
        acks: Vec<(Seq, Gsn)>,
    }
}

plain_enum! {
    /// Why a batch was not taken. Nothing of it is in the lane, nor of any later one on this connection.
    AppendRefusedWhy {
        /// The bytes are not a valid batch.
        Malformed,
        /// Earlier batches of this writer are missing; resend from `expected`.
        Gap,
        /// The lane's primary is elsewhere, or the shard unknown here.
        NotPrimary,
        /// The primary is bringing its backups up to date; resend after a pause.
        Recovering,
        /// The writer has more in flight than the window allows.
        Window,
        /// The lane is finalized or the writer fenced: resolve, then go elsewhere.
        Closed,
    }
}

body! {
    /// A batch was not taken.
    AppendRefused {
        /// Its writer.
        writer: WriterId,
        /// Its number.
        seq: Seq,
        /// Why.
        why: AppendRefusedWhy,
        /// The number that would be taken, for `Gap`.
        expected: Seq,
    }
}

body! {
    /// The payload is placed batches of one lane, each behind the one before.
    Replicate {
        /// The lane.
        lane: LaneId,
        /// The primary's start.
        incarnation: Incarnation,
        /// Of the `Sync` that opened this stream.
        stream: u64,
    }
}

body! {
    /// Opens a stream of a lane to a backup. The backup drops frames of all older streams, syncs what it has
    /// accepted, and answers `Synced`; or `Refused` if it has seen a newer incarnation or stream.
    Sync {
        /// The lane; its primary is the sender.
        lane: LaneId,
        /// The primary's start.
        incarnation: Incarnation,
        /// Greater for each stream that the primary opens in one incarnation.
        stream: u64,
    }
}

body! {
    /// What a backup holds of a lane, durably.
    Synced {
        /// The lane.
        lane: LaneId,
        /// Of the `Sync`.
        incarnation: Incarnation,
        /// Of the `Sync`.
        stream: u64,
        /// Records.
        len: u64,
        /// Checksum of its last placement, 0 if it has none.
        last: u32,
    }
}

body! {
    /// Give me placed batches of a lane from an LSN on, as many as fit a frame.
    FetchLane {
        /// The lane.
        lane: LaneId,
        /// Of the `Sync` this belongs to.
        incarnation: Incarnation,
        /// Of the `Sync` this belongs to.
        stream: u64,
        /// First LSN wanted: where a batch starts.
        from: Lsn,
    }
}

body! {
    /// The payload is placed batches of a lane, contiguous from `from`; empty if there are none.
    LaneIs {
        /// The lane.
        lane: LaneId,
        /// Of the question.
        incarnation: Incarnation,
        /// Of the question.
        stream: u64,
        /// Of the question.
        from: Lsn,
    }
}

body! {
    /// What you lack of this lane was trimmed: go on from here. Your own records of it, all of them before
    /// `from`, will not be read any more; the stream continues at `from`.
    LaneBase {
        /// The lane.
        lane: LaneId,
        /// The primary's start.
        incarnation: Incarnation,
        /// Of the `Sync` that opened this stream.
        stream: u64,
        /// First LSN of what follows.
        from: Lsn,
        /// Checksum of the placement before it.
        last: u32,
    }
}

body! {
    /// Give me the shard's committed records in `from..to`.
    Read {
        /// Comes back.
        request: u64,
        /// The shard.
        shard: ShardId,
        /// First GSN.
        from: Gsn,
        /// One past the last GSN.
        to: Gsn,
        /// Payload bytes wanted at most; one batch comes even if it is longer.
        max_bytes: u32,
        /// Leave out a batch that begins before `from`: it came with what is before. Else the batch that holds
        /// `from` comes whole.
        begun_within: bool,
    }
}

plain_enum! {
    /// How an answer to `Read` ended.
    ReadEnd {
        /// It covers the whole range asked for.
        Complete,
        /// It was cut short by `max_bytes`: ask on from `covers`.
        More,
        /// What lies beyond `covers` is not committed yet, as far as this replica knows.
        NotYet,
        /// What lies before `covers` was trimmed; nothing is returned.
        Trimmed,
        /// This replica can't serve it now; try another.
        Unavailable,
    }
}

body! {
    /// The payload is placed batches in GSN order: all of the shard's that have records in
    /// `from..covers`. Records of the first and last that lie outside are to be ignored.
    ReadIs {
        /// Of the question.
        request: u64,
        /// The shard.
        shard: ShardId,
        /// Of the question.
        from: Gsn,
        /// The answer is exact for `from..covers`.
        covers: Gsn,
        /// Why it ends there.
        end: ReadEnd,
        /// GSN of the first record of each batch.
        gsns: Vec<Gsn>,
    }
}

body! {
    /// Push me the batches of these lanes of a shard as they become durable at you. Supersedes an earlier
    /// subscription of the shard on this connection.
    Subscribe {
        /// The shard.
        shard: ShardId,
        /// Where to start in each lane: LSNs where a batch starts or that are not taken yet.
        from: Vec<Lsn>,
        /// Payload bytes per lane that may be pushed before more `Credit` comes.
        credit: u32,
    }
}

body! {
    /// You may push this much more of a lane.
    Credit {
        /// The lane.
        lane: LaneId,
        /// Payload bytes.
        bytes: u32,
    }
}

body! {
    /// The payload is placed batches of one lane, contiguous with the push before.
    Push {
        /// The lane.
        lane: LaneId,
    }
}
