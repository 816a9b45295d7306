//! What are things called? Newtypes for every number that could be mistaken for another.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
            rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
        )]
        #[rkyv(derive(Debug))]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl $name {
            /// The next one. Panics on overflow: no counter of ours gets there honestly.
            pub fn next(self) -> Self {
                Self(self.0.checked_add(1).expect(concat!(stringify!($name), " overflow")))
            }

            /// `n` further on. Panics on overflow.
            pub fn plus(self, n: $inner) -> Self {
                Self(self.0.checked_add(n).expect(concat!(stringify!($name), " overflow")))
            }

            /// How far this lies beyond `earlier`. Panics if it doesn't.
            pub fn since(self, earlier: Self) -> $inner {
                self.0.checked_sub(earlier.0).expect(concat!(stringify!($name), " runs backwards"))
            }
        }
    };
}

id! {
    /// Position of a record in the total order, from 0, dense.
    Gsn(u64)
}
id! {
    /// Index of a record within its lane, from 0, dense; never used twice.
    Lsn(u64)
}
id! {
    /// A process that stores data.
    ServerId(u32)
}
id! {
    /// A member of the ordering layer (raft id); never 0.
    OrdererId(u64)
}
id! {
    /// R replicas on R different servers. Never reused.
    ShardId(u32)
}
id! {
    /// Number of a node's start, persisted before anything else is done. From 1.
    Incarnation(u64)
}
id! {
    /// Number of a cut, from 1; 0 is the state before the first.
    CutNumber(u64)
}
id! {
    /// Number of a view, from 1; 0 is "no shard yet".
    ViewNumber(u64)
}
id! {
    /// Number of a batch of one writer, from 0, dense.
    Seq(u64)
}
id! {
    /// A source of batches. Anonymous ones are drawn at random from 128 bits, so none is used twice.
    WriterId(u128)
}
id! {
    /// Opening of a named writer; 0 for anonymous ones.
    Epoch(u32)
}
id! {
    /// A cluster, drawn at its birth; 0 is "none yet".
    ClusterId(u128)
}

impl ClusterId {
    /// What the nodes of that cluster call themselves in a chain of clusters whose order this names: its first one is 0. So
    /// nobody takes the nodes, or the directories, of one for those of another.
    #[must_use]
    pub const fn at(self, generation: u32) -> Self {
        Self(self.0.wrapping_add(generation as u128))
    }

    /// The other way round: what names the order.
    #[must_use]
    pub const fn of_order(self, generation: u32) -> Self {
        Self(self.0.wrapping_sub(generation as u128))
    }
}

/// The upper half of the ids of named writers: none that is drawn at random looks like that, but once in 2^64.
const NAMED: u128 = 0x6e61_6d65_6420_7772;

impl WriterId {
    /// Of the `n`th name that was ever opened.
    pub const fn named(n: u64) -> Self {
        Self((NAMED << 64) | n as u128)
    }

    /// Whether it has a name.
    pub const fn is_named(self) -> bool {
        self.0 >> 64 == NAMED
    }
}

/// One executor of a server, with its own port and write-ahead log.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[rkyv(derive(Debug))]
pub struct SlotId {
    /// The process.
    pub server: ServerId,
    /// Its executor, from 0.
    pub index: u16,
}

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.server, self.index)
    }
}

/// A lane: (shard, index of the replica that is its primary), packed so that the order of the numbers is
/// the order (shard, index), which is the order of records within a cut.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[rkyv(derive(Debug))]
pub struct LaneId(pub u64);

impl LaneId {
    /// The lane whose primary is replica `index` of `shard`.
    pub const fn new(shard: ShardId, index: u8) -> Self {
        Self(((shard.0 as u64) << 8) | index as u64)
    }

    /// The shard it belongs to.
    pub const fn shard(self) -> ShardId {
        ShardId((self.0 >> 8) as u32)
    }

    /// Which replica of the shard is its primary.
    pub const fn index(self) -> u8 {
        self.0 as u8
    }
}

impl fmt::Display for LaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.shard(), self.index())
    }
}
