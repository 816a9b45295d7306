//! What is in a raft entry? One proposal, versioned; what becomes of it is decided when it is applied.

use super::packed;
use super::retention::Tick;
use super::trim::ConsumerAt;
use zoolog_core::{CutNumber, Epoch, Gsn, Incarnation, LaneId, OrdererId, ShardId, SlotId, ViewNumber};

const VERSION: u8 = 1;
/// A cut, packed. Those of [`VERSION`] are still read.
const PACKED_CUT: u8 = 2;

/// A proposal to change the replicated state.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum Command {
    /// A slot is there, or there again.
    Register(Registration),
    /// Add shards, end others.
    FormView(FormView),
    /// Lanes are this long on all their replicas.
    Cut(ProposedCut),
    /// Consumers need nothing before these positions any more; those that are new are registered.
    Consumers(Vec<ConsumerAt>),
    /// The consumer of that name is gone for good.
    ForgetConsumer(String),
    /// So many shards are to take appends, once there are servers for them.
    WantShards(u32),
    /// These finalized shards, all of them trimmed, are to leave the view.
    DropShards(Vec<ShardId>),
    /// Somebody writes under that name from now on.
    OpenWriter(String),
    /// An opening of a name uses this lane from now on.
    ClaimLane {
        /// The name.
        name: String,
        /// The opening.
        epoch: Epoch,
        /// The lane.
        lane: LaneId,
        /// One past the last record of the name.
        tail: Gsn,
    },
    /// Somebody asks to forget everything before there.
    Trim(Gsn),
    /// Time has passed. In a box so that commands are as long as before.
    Tick(Box<Tick>),
    /// Orderers have introduced themselves, with these births.
    Welcome(Vec<(OrdererId, u64)>),
    /// Orderers are reached at these addresses from now on.
    MoveOrderers(Vec<(OrdererId, String)>),
    /// Nobody needs the one any more that was removed.
    Parted(OrdererId),
    /// What becomes of a lost copy of a finalized shard.
    Rebuild(RebuildStep),
    /// The log follows another, whose tail is to be told before anything is taken.
    Await,
    /// That is the other's tail, and the first position of this log.
    Begin(Gsn),
    /// The log ends here, and goes on there.
    Seal(String),
}

/// A change of the view that concerns a copy of one finalized shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct RebuildStep {
    /// The view it was made for; it does nothing to any other.
    pub expected: ViewNumber,
    /// The shard.
    pub shard: ShardId,
    /// What is to happen.
    pub what: RebuildWhat,
}

/// What is to happen to a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum RebuildWhat {
    /// That slot begins to make a copy in place of this replica.
    Begin {
        /// The lost one.
        index: u8,
        /// Where the new one is made.
        slot: SlotId,
    },
    /// No copy is made any more.
    Cancel,
    /// The copy is whole and takes the place of the lost one.
    Finish,
}

/// A slot, as it presented itself.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Registration {
    /// Which.
    pub slot: SlotId,
    /// Its start.
    pub incarnation: Incarnation,
    /// `ip:port`.
    pub addr: String,
    /// What it fails together with; empty for "nothing else".
    pub domain: String,
    /// Of its log, drawn at random when that was begun.
    pub stamp: u64,
}

/// New shards, each as the slots of its replicas, and shards that take no appends from here on. Ids of the new ones
/// and final lengths of the others are given when it is applied: what raft orders before it counts.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct FormView {
    /// The view it was made for; it does nothing to any other.
    pub expected: ViewNumber,
    /// Shards to be finalized.
    pub finalize: Vec<ShardId>,
    /// Slots of each new shard.
    pub shards: Vec<Vec<SlotId>>,
}

/// Lengths that are durable on all replicas. Number, base, and what is new in it are computed when it is
/// applied, so a proposal that comes late, twice or not at all makes no hole.
#[derive(Clone, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ProposedCut {
    /// Records per lane.
    pub lanes: Vec<(LaneId, u64)>,
    /// Per shard the newest part that all its replicas hold durably.
    pub known: Vec<(ShardId, CutNumber)>,
}

impl Command {
    /// As the data of a raft entry.
    pub fn encode(&self) -> Vec<u8> {
        if let Self::Cut(cut) = self {
            return Self::encode_cut(cut);
        }
        let body = rkyv::to_bytes::<rkyv::rancor::Error>(self).expect("our own commands serialize");
        let mut out = Vec::with_capacity(1 + body.len());
        out.push(VERSION);
        out.extend_from_slice(&body);
        out
    }

    /// [`Command::Cut`] as the data of a raft entry.
    pub fn encode_cut(cut: &ProposedCut) -> Vec<u8> {
        let mut out = vec![PACKED_CUT];
        packed::encode(cut, &mut out);
        out
    }

    /// From the data of a raft entry. `None` for anything that is not a command of this version: the entry
    /// then changes nothing, on any orderer.
    pub fn decode(data: &[u8]) -> Option<Self> {
        let (&version, body) = data.split_first()?;
        match version {
            VERSION => rkyv::from_bytes::<Self, rkyv::rancor::Error>(body).ok(),
            PACKED_CUT => packed::decode(body).map(Self::Cut),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn garbage_is_no_command_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let with = |version: u8| [&[version], &bytes[..]].concat();
            for data in [&bytes, &with(VERSION), &with(PACKED_CUT)] {
                if let Some(c) = Command::decode(data) {
                    // Bytes that happen to be a command are one: they come back as it.
                    prop_assert_eq!(Command::decode(&c.encode()), Some(c));
                }
            }
        }
    }

    #[test]
    fn a_command_comes_back_and_a_foreign_version_does_not() {
        let c = Command::Cut(ProposedCut {
            lanes: vec![(LaneId::new(ShardId(1), 0), 7)],
            known: vec![(ShardId(1), CutNumber(3))],
        });
        let data = c.encode();
        assert_eq!(Command::decode(&data), Some(c));
        let mut newer = data.clone();
        newer[0] = PACKED_CUT + 1;
        assert_eq!(Command::decode(&newer), None);
        assert_eq!(Command::decode(&[]), None);
    }
}
