//! Which shards exist, and which replicas serve them? The numbered answer, decided through the ordering
//! layer.

use crate::ids::{Gsn, LaneId, ShardId, SlotId, ViewNumber};

/// All shards at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct View {
    /// Its number; each change makes the next.
    pub number: ViewNumber,
    /// By id, ascending.
    pub shards: Vec<ShardView>,
}

/// One shard.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ShardView {
    /// Its id.
    pub id: ShardId,
    /// Its replicas; the position is the index of the lane each is primary of.
    pub replicas: Vec<ReplicaView>,
    /// Whether it takes appends.
    pub state: ShardState,
    /// The copy that is being made in place of a lost one. Only finalized shards have one, and one at a time.
    pub rebuild: Option<Rebuild>,
}

/// A copy in the making. It counts for nothing and nobody reads from it before it takes its place among the replicas.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Rebuild {
    /// Which replica is lost: the new one takes its place.
    pub index: u8,
    /// Where the new one is being made.
    pub to: ReplicaView,
}

/// One replica of a shard.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ReplicaView {
    /// Where it lives.
    pub slot: SlotId,
    /// `ip:port` of that slot.
    pub addr: String,
}

/// What a shard does.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum ShardState {
    /// Takes appends.
    Live,
    /// Takes none any more; what it holds stays readable until trimmed.
    Finalized(Final),
}

/// What a finalized shard holds.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Final {
    /// Final length of each lane.
    pub lens: Vec<u64>,
    /// First GSN it holds.
    pub first: Gsn,
    /// One past the last GSN it holds.
    pub end: Gsn,
}

impl View {
    /// The shard of that id.
    pub fn shard(&self, id: ShardId) -> Option<&ShardView> {
        self.shards.binary_search_by_key(&id, |s| s.id).ok().map(|i| &self.shards[i])
    }

    /// Shards that take appends.
    pub fn live(&self) -> impl Iterator<Item = &ShardView> {
        self.shards.iter().filter(|s| s.state == ShardState::Live)
    }
}

impl ShardView {
    /// Its lanes, in order.
    pub fn lanes(&self) -> impl Iterator<Item = LaneId> + '_ {
        (0..self.replicas.len()).map(|i| LaneId::new(self.id, i as u8))
    }

    /// The index of the replica in that slot.
    pub fn replica_in(&self, slot: SlotId) -> Option<u8> {
        self.replicas.iter().position(|r| r.slot == slot).map(|i| i as u8)
    }

    /// The index of the replica that is being rebuilt in that slot.
    pub fn rebuilt_in(&self, slot: SlotId) -> Option<u8> {
        self.rebuild.as_ref().filter(|r| r.to.slot == slot).map(|r| r.index)
    }
}
