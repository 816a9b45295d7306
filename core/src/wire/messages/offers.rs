//! How does a ZooKeeper node find another's snapshot, and get it? The leader tells who offers one; the offerer gives it in
//! pieces.

use crate::ids::*;

/// Which file of a snapshot: two that are alike in all of this are the same, byte for byte.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct SnapshotAt {
    /// Its position: the first record that it doesn't hold.
    pub gsn: Gsn,
    /// Bytes of the file.
    pub bytes: u64,
    /// CRC-32C of all of them.
    pub crc: u32,
}

body! {
    /// Who lacks what was trimmed may have my newest snapshot. Counts as long as the connection lasts, or until the next.
    /// No answer.
    Offer {
        /// Whose it is: the sender's name as a consumer.
        name: String,
        /// Where it is to be had, `host:port`. An unspecified host (`0.0.0.0`, `[::]`) means the one that the connection
        /// comes from.
        addr: String,
        /// Its position.
        gsn: Gsn,
    }
}

body! {
    /// Who offers snapshots? Answered by `OffersAre`.
    FindOffers {
        /// Comes back.
        request: u64,
    }
}

body! {
    /// A snapshot that is offered.
    OfferAt {
        /// Whose.
        name: String,
        /// Where to get it.
        addr: String,
        /// Position of the newest there.
        gsn: Gsn,
    }
}

body! {
    /// What is offered by those that are there now, but for who asks. They must speak again after a change of the leader,
    /// so that it may be less than there is.
    OffersAre {
        /// Of the question.
        request: u64,
        /// The trim point: a snapshot from before it leads nowhere.
        trim: Gsn,
        /// One per node.
        offers: Vec<OfferAt>,
    }
}

body! {
    /// Which snapshot do you have, or: give me a piece of that one. Answered by `SnapshotIs`, in the order of the
    /// questions.
    SnapshotWanted {
        /// Comes back.
        request: u64,
        /// With `bytes` 0: that one if it is still there, else the newest that is good. Else: that one.
        which: Option<SnapshotAt>,
        /// Offset in the file.
        from: u64,
        /// How many bytes at most; 0 asks which there is.
        bytes: u32,
    }
}

body! {
    /// The answer; the payload is the piece.
    SnapshotIs {
        /// Of the question.
        request: u64,
        /// Which it is; `None` if there is none, or not that one any more.
        which: Option<SnapshotAt>,
        /// Offset of the piece in the file.
        from: u64,
        /// CRC-32C of the piece.
        crc: u32,
    }
}
