//! How much room is there? Slots say what they hold and how full their disks are; those who append hear of it.

use crate::ids::*;

/// How much room a disk has.
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
pub enum DiskRoom {
    /// Enough.
    #[default]
    Ample,
    /// Less than its reserve: only what keeps sessions alive should be appended.
    Low,
    /// Less than half its reserve: nothing is appended.
    Full,
}

impl DiskRoom {
    /// A word for people and tests.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ample => "ample",
            Self::Low => "low",
            Self::Full => "full",
        }
    }
}

body! {
    /// What a slot holds, in bytes, so that the leader knows what retention and lag amount to. Replaces what it said
    /// before of the lanes that are listed.
    Held {
        /// Which slot.
        slot: SlotId,
        /// How much room its disk has.
        room: DiskRoom,
        /// Bytes free for its log.
        free_bytes: u64,
        /// Lanes whose figures have changed.
        lanes: Vec<LaneHeld>,
    }
}

body! {
    /// How much a lane holds from some of its records on.
    LaneHeld {
        /// The lane.
        lane: LaneId,
        /// (GSN, bytes of the lane's committed batches at or past it), ascending by GSN. Never more than there are.
        from: Vec<(Gsn, u64)>,
    }
}

body! {
    /// How much room there is for a lane: the least of all disks that hold it. Said when it changes, and to who begins
    /// to append while it isn't ample.
    Room {
        /// The lane.
        lane: LaneId,
        /// How much.
        room: DiskRoom,
    }
}
