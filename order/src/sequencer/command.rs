//! What is in a raft entry? One proposal, versioned; what becomes of it is decided when it is applied.

use zoolog_core::{CutNumber, Incarnation, LaneId, ShardId, SlotId, ViewNumber};

const VERSION: u8 = 1;

/// A proposal to change the replicated state.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum Command {
    /// A slot is there, or there again.
    Register(Registration),
    /// Add shards.
    FormView(FormView),
    /// Lanes are this long on all their replicas.
    Cut(ProposedCut),
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
}

/// New shards, each as the slots of its replicas. Ids are given when it is applied.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct FormView {
    /// The view it was made for; it does nothing to any other.
    pub expected: ViewNumber,
    /// Slots of each shard.
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
        let body = rkyv::to_bytes::<rkyv::rancor::Error>(self).expect("our own commands serialize");
        let mut out = Vec::with_capacity(1 + body.len());
        out.push(VERSION);
        out.extend_from_slice(&body);
        out
    }

    /// From the data of a raft entry. `None` for anything that is not a command of this version: the entry
    /// then changes nothing, on any orderer.
    pub fn decode(data: &[u8]) -> Option<Self> {
        let (&version, body) = data.split_first()?;
        if version != VERSION {
            return None;
        }
        rkyv::from_bytes::<Self, rkyv::rancor::Error>(body).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn garbage_is_no_command_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let mut with_version = vec![VERSION];
            with_version.extend_from_slice(&bytes);
            for data in [&bytes, &with_version] {
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
        newer[0] = VERSION + 1;
        assert_eq!(Command::decode(&newer), None);
        assert_eq!(Command::decode(&[]), None);
    }
}
