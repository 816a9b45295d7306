//! What holds a slot, and what was ordered? Between slots, clients and orderers.

use crate::cut::{Cut, CutLane, ShardPart};
use crate::ids::*;
use crate::view::View;

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
        /// Of its log: drawn at random when that was begun. Another one under the same id is refused.
        stamp: u64,
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
    /// What a slot holds. Supersedes all it said before, in this registration. One comes several times per
    /// second, with no shards if there is no news: a sign of life.
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
        /// Whether the lane that it is primary of takes appends: all its backups are in step.
        serving: bool,
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
    /// Send me the order so far, and what every cut from then on adds to it: as `Grown`, or as `CutIs` if that is too much.
    WatchGrowth {
        /// Comes back.
        request: u64,
    }
}

body! {
    /// Send me the order so far, and every view from then on: where the order ends I shall ask.
    WatchViews {
        /// Comes back.
        request: u64,
    }
}

body! {
    /// The order so far. Every cut with a greater number follows on this connection, in order.
    OrderIs {
        /// Of the question.
        request: u64,
        /// Whose order that is: the same of all logs of a chain.
        cluster: ClusterId,
        /// Which cluster of that chain this is: what their nodes call themselves is `cluster` and this added up.
        generation: u32,
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
