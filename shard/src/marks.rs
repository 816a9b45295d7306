//! What does a slot write to its log? Batches, cut marks and views; and the checkpoint that opens a segment.

use bytes::Bytes;
use zoolog_core::batch::PlacedBatch;
use zoolog_core::cut::{ShardBase, ShardPart};
use zoolog_core::view::View;
use zoolog_core::wal::WalRecord;
use zoolog_core::{CutNumber, Epoch, Gsn, Incarnation, LaneId, Seq, ShardId, WriterId};

/// A placed batch: key1 the lane, key2 its first LSN, aux its number of records.
pub(crate) const BATCH: u8 = 1;
/// A part of a cut: key1 the shard, key2 the cut's number, aux the low 32 bits of the number of the part
/// before, so that a missing one is noticed. Repeated in the segment's index.
pub(crate) const CUT: u8 = 2;
/// A view: key2 its number.
pub(crate) const VIEW: u8 = 3;

/// Where a shard begins, its older parts and batches being trimmed: key1 the shard, key2 the trim point. Older
/// segments are released only once it is durable.
pub(crate) const TRIM: u8 = 4;
/// A lane goes on elsewhere, what lies between being trimmed: key1 the lane, key2 the LSN, aux the checksum of
/// the placement before it.
pub(crate) const LANE: u8 = 5;

/// A placed batch as in [`BATCH`], in place of a copy that can't be read any more: the same bytes, later in the log.
pub(crate) const MEND: u8 = 6;

/// Where a lane ended when a start found damage: key1 the lane, key2 its length, aux the checksum of its last placement,
/// the data that one's incarnation (u64). What precedes the mark in the log is of the lane only before that length,
/// whatever of it can be read by then: what was lost is not found again behind what took its place.
pub(crate) const END: u8 = 7;

/// What precedes it of a shard, in the log and in what a checkpoint took over from before it, counts for nothing: the
/// slot had no place in the shard any more, and a copy made here later is another. key1 the shard.
pub(crate) const FORGET: u8 = 8;

/// What an entry of a `Persist` was, for when it is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// A batch.
    Batch {
        /// Its lane.
        lane: LaneId,
        /// Its first LSN.
        first_lsn: u64,
        /// Its records.
        count: u32,
    },
    /// A part.
    Cut {
        /// The shard.
        shard: ShardId,
        /// The cut.
        number: CutNumber,
    },
    /// A view.
    View,
    /// Where a trimmed shard begins.
    Trim {
        /// The shard.
        shard: ShardId,
    },
    /// A lane's new beginning.
    Lane {
        /// Its shard.
        shard: ShardId,
    },
    /// A new copy of a damaged batch.
    Mend {
        /// Its lane.
        lane: LaneId,
        /// Its first LSN.
        first_lsn: u64,
        /// Its records.
        count: u32,
    },
    /// A shard forgotten here, or what was on its way of one.
    Forget,
}

impl Item {
    /// The shard that it is of.
    pub fn shard(&self) -> Option<ShardId> {
        match self {
            Self::Batch { lane, .. } | Self::Mend { lane, .. } => Some(lane.shard()),
            Self::Cut { shard, .. } | Self::Trim { shard } | Self::Lane { shard } => Some(*shard),
            Self::View | Self::Forget => None,
        }
    }
}

/// The record of a batch.
pub(crate) fn batch_record(placed: &PlacedBatch) -> (Item, WalRecord) {
    let (place, count) = (&placed.placement, placed.batch.count());
    let item = Item::Batch { lane: place.lane, first_lsn: place.first_lsn.0, count };
    let record = WalRecord {
        kind: BATCH,
        in_index: false,
        aux: count,
        key1: place.lane.0,
        key2: place.first_lsn.0,
        data: vec![Bytes::copy_from_slice(&place.encode()), placed.batch.bytes().clone()],
    };
    (item, record)
}

/// The record of a batch whose copy here is damaged.
pub(crate) fn mend_record(placed: &PlacedBatch) -> (Item, WalRecord) {
    let (place, count) = (&placed.placement, placed.batch.count());
    let item = Item::Mend { lane: place.lane, first_lsn: place.first_lsn.0, count };
    (item, WalRecord { kind: MEND, ..batch_record(placed).1 })
}

/// The record of `part` of `shard`, which follows the part of cut `before`.
pub(crate) fn cut_record(shard: ShardId, before: CutNumber, part: &ShardPart) -> (Item, WalRecord) {
    let record = WalRecord {
        kind: CUT,
        in_index: true,
        aux: low(before),
        key1: u64::from(shard.0),
        key2: part.number.0,
        data: vec![encode(part)],
    };
    (Item::Cut { shard, number: part.number }, record)
}

/// The low half of a cut's number, as a cut mark's aux has it.
pub(crate) fn low(number: CutNumber) -> u32 {
    number.0 as u32
}

/// The record of a view.
pub(crate) fn view_record(view: &View) -> (Item, WalRecord) {
    let data = vec![encode(view)];
    (Item::View, WalRecord { kind: VIEW, in_index: false, aux: 0, key1: 0, key2: view.number.0, data })
}

/// The record of where `shard` begins.
pub(crate) fn trim_record(shard: ShardId, trim: Gsn, base: &ShardBase) -> (Item, WalRecord) {
    let (key1, key2, data) = (u64::from(shard.0), trim.0, vec![encode(base)]);
    (Item::Trim { shard }, WalRecord { kind: TRIM, in_index: false, aux: 0, key1, key2, data })
}

/// The record of a lane that goes on from `start`.
pub(crate) fn lane_record(lane: LaneId, start: u64, last: u32) -> (Item, WalRecord) {
    let data = vec![Bytes::copy_from_slice(&start.to_le_bytes())];
    let item = Item::Lane { shard: lane.shard() };
    (item, WalRecord { kind: LANE, in_index: false, aux: last, key1: lane.0, key2: start, data })
}

/// The record that says that `shard` is forgotten here.
pub(crate) fn forget_record(shard: ShardId) -> (Item, WalRecord) {
    let data = vec![Bytes::copy_from_slice(&shard.0.to_le_bytes())];
    let record = WalRecord { kind: FORGET, in_index: true, aux: 0, key1: u64::from(shard.0), key2: 0, data };
    (Item::Forget, record)
}

/// The record of a lane that ends there.
pub(crate) fn end_record(lane: LaneId, len: u64, last: u32, placed_by: Incarnation) -> (Item, WalRecord) {
    let data = vec![Bytes::copy_from_slice(&placed_by.0.to_le_bytes())];
    let item = Item::Lane { shard: lane.shard() };
    (item, WalRecord { kind: END, in_index: true, aux: last, key1: lane.0, key2: len, data })
}

/// The version of [`Checkpoint`] that this build writes.
pub(crate) const CHECKPOINT_VERSION: u32 = 4;

/// All that can't be read off the indexes of older segments.
#[derive(Clone, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(crate) struct Checkpoint {
    /// The newest view.
    pub view: Option<View>,
    /// Every lane.
    pub lanes: Vec<LaneMark>,
    /// Every shard's newest part.
    pub parts: Vec<(ShardId, ShardBase)>,
    /// Where shards begin that were trimmed, and the trim point then.
    pub trims: Vec<(ShardId, Gsn, ShardBase)>,
    /// The writers of each lane.
    pub writers: Vec<(LaneId, Vec<WriterMark>)>,
    /// Lanes of which some writers were forgotten.
    pub forgot: Vec<LaneId>,
}

/// What a checkpoint says of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(crate) struct LaneMark {
    /// Which.
    pub lane: LaneId,
    /// Its records that were trimmed.
    pub start: u64,
    /// Its records.
    pub len: u64,
    /// Checksum of its last placement.
    pub last: u32,
    /// Incarnation in its last placement.
    pub placed_by: Incarnation,
    /// Newest incarnation of its primary that has opened a stream to us.
    pub fence: Incarnation,
}

/// What a checkpoint says of a writer.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(crate) struct WriterMark {
    /// Who.
    pub writer: WriterId,
    /// Its opening.
    pub epoch: Epoch,
    /// First LSN of the fence that ended it.
    pub closed: Option<u64>,
    /// The number it uses next.
    pub next: Seq,
    /// (number, first LSN, records, checksum, position if committed) of its newest batches, ascending.
    pub batches: Vec<(Seq, u64, u32, u32, Option<Gsn>)>,
}

impl Checkpoint {
    /// Its bytes: the version, then the rkyv body.
    pub fn to_bytes(&self) -> Bytes {
        let body = encode(self);
        let mut out = Vec::with_capacity(4 + body.len());
        out.extend_from_slice(&CHECKPOINT_VERSION.to_le_bytes());
        out.extend_from_slice(&body);
        Bytes::from(out)
    }

    /// Reads one back.
    ///
    /// # Errors
    /// A text, when it is of another version or no checkpoint.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let (version, body) =
            bytes.split_first_chunk::<4>().ok_or(format!("a checkpoint of {} bytes", bytes.len()))?;
        let version = u32::from_le_bytes(*version);
        if version != CHECKPOINT_VERSION {
            return Err(format!("checkpoint version {version}, this build reads {CHECKPOINT_VERSION}"));
        }
        rkyv::from_bytes::<Self, rkyv::rancor::Error>(body)
            .map_err(|e| format!("a malformed checkpoint: {e}"))
    }
}

/// Reads a part from a cut mark.
pub(crate) fn decode_part(data: &[u8]) -> Option<ShardPart> {
    rkyv::from_bytes::<ShardPart, rkyv::rancor::Error>(data).ok()
}

/// Reads where a shard begins.
pub(crate) fn decode_base(data: &[u8]) -> Option<ShardBase> {
    rkyv::from_bytes::<ShardBase, rkyv::rancor::Error>(data).ok()
}

/// Reads a view.
pub(crate) fn decode_view(data: &[u8]) -> Option<View> {
    rkyv::from_bytes::<View, rkyv::rancor::Error>(data).ok()
}

fn encode<T>(value: &T) -> Bytes
where
    T: for<'a> rkyv::Serialize<
            rkyv::api::high::HighSerializer<
                rkyv::util::AlignedVec,
                rkyv::ser::allocator::ArenaHandle<'a>,
                rkyv::rancor::Error,
            >,
        >,
{
    Bytes::copy_from_slice(&rkyv::to_bytes::<rkyv::rancor::Error>(value).expect("our own values serialize"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// SYS-1: whatever bytes a log holds in place of a checkpoint, a part, a base or a view.
        #[test]
        fn no_bytes_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), to in any::<u32>(),
        ) {
            let with_version = [&CHECKPOINT_VERSION.to_le_bytes()[..], &bytes].concat();
            let mut good = some_checkpoint().to_bytes().to_vec();
            let at = 4 + at.index(good.len() - 8);
            good[at..at + 4].copy_from_slice(&to.to_le_bytes());
            for bytes in [&bytes, &with_version, &good] {
                if let Ok(checkpoint) = Checkpoint::from_bytes(bytes) {
                    prop_assert_eq!(Checkpoint::from_bytes(&checkpoint.to_bytes()), Ok(checkpoint));
                }
                for data in [&bytes[..], bytes.get(4..).unwrap_or_default()] {
                    let _ = (decode_part(data), decode_base(data), decode_view(data));
                }
            }
        }
    }

    fn some_checkpoint() -> Checkpoint {
        let part = ShardBase { number: CutNumber(7), end: Gsn(40), lens: vec![3, 9] };
        let lane = LaneId::new(ShardId(4), 1);
        let writer = WriterMark {
            writer: WriterId(5 << 80),
            epoch: Epoch(1),
            closed: Some(9),
            next: Seq(3),
            batches: vec![(Seq(2), 1, 2, 3, Some(Gsn(4)))],
        };
        let mark =
            LaneMark { lane, start: 2, len: 9, last: 77, placed_by: Incarnation(2), fence: Incarnation(3) };
        Checkpoint {
            view: Some(View::default()),
            lanes: vec![mark],
            parts: vec![(ShardId(4), part.clone())],
            trims: vec![(ShardId(4), Gsn(41), part)],
            writers: vec![(lane, vec![writer])],
            forgot: vec![lane],
        }
    }

    #[test]
    fn a_checkpoint_comes_back_and_another_version_is_refused_by_name() {
        let checkpoint = some_checkpoint();
        let mut bytes = checkpoint.to_bytes().to_vec();
        assert_eq!(Checkpoint::from_bytes(&bytes).unwrap(), checkpoint);
        bytes[0] = 9;
        assert!(Checkpoint::from_bytes(&bytes).unwrap_err().contains("version 9"));
        assert!(Checkpoint::from_bytes(&bytes[..3]).is_err());
    }
}
