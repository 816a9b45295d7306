//! What does an appended batch look like? The same bytes from the writer's buffer to the disk to the
//! reader: a **placement part** by the lane's primary, a **writer part**, and the records.
//!
//! ```text
//! placement (32)  lane u64 | incarnation u64 | first_lsn u64 | prev u32 | crc u32
//! writer    (48)  magic u32 | version u8 | kind u8 | 0 u16 | writer u128 | seq u64 | epoch u32 |
//!                 count u32 | payload_len u32 | crc u32
//! payload         [ position u64 ] count x { len u32 | 0 u32 | bytes | zeros to 8 }
//! ```
//! The position is there in conditional batches only.
//! All little-endian. The writer's CRC-32C covers its header before the crc, and the payload; the
//! placement's covers the placement before the crc, and the writer's crc; `prev` is the crc of the lane's
//! previous placement (0 for the first), which chains a lane's batches together. Invariant LOG-4.

use crate::ids::{Epoch, Gsn, Incarnation, LaneId, Lsn, Seq, WriterId};
use crate::limits::{BATCH_BYTES_MAX, BATCH_BYTES_TARGET, BATCH_RECORDS_MAX, RECORD_BYTES_MAX};
use bytes::{Bytes, BytesMut};

/// Bytes of the placement part.
pub const PLACEMENT_BYTES: usize = 32;
/// Bytes of the writer part's header.
pub const WRITER_BYTES: usize = 48;
/// Bytes before each record.
pub const RECORD_HEADER_BYTES: usize = 8;
const MAGIC: u32 = 0x5441_425a; // "ZBAT"
const VERSION: u8 = 1;
const KIND_DATA: u8 = 0;
const KIND_FENCE: u8 = 1;
const KIND_ONLY_AT: u8 = 2;
/// Bytes before the records of a conditional batch.
const POSITION_BYTES: usize = 8;

/// What a batch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchKind {
    /// Records of a caller.
    Data,
    /// Ends its writer's use of the lane.
    Fence,
    /// Records of a caller that count only if the first of them has this position: else the batch takes its place in the
    /// order, as a fence does, and holds nothing. Whoever knows the batch and its place knows which.
    OnlyAt(Gsn),
}

/// The number that every fence has: no other batch gets there.
pub const FENCE_SEQ: Seq = Seq(u64::MAX - 1);

/// The first number of an opening: a named writer's numbers ascend over all its openings.
///
/// # Panics
/// At or beyond [`EPOCHS_MAX`]: the ordering layer gives no such opening.
pub fn first_seq(epoch: Epoch) -> Seq {
    assert!(epoch.0 < EPOCHS_MAX, "opening {epoch}");
    Seq(u64::from(epoch.0) << 40)
}

/// Openings of one name.
pub const EPOCHS_MAX: u32 = 1 << 23;

/// Why bytes are not a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Shorter than its headers or its stated length, or longer than the limit.
    #[error("batch of {have} bytes where {want} were expected")]
    Length {
        /// There.
        have: usize,
        /// Stated, or the limit.
        want: usize,
    },
    /// The header is not ours.
    #[error("not a batch: {0}")]
    Header(&'static str),
    /// The checksum over writer part and payload is wrong.
    #[error("the batch's content is damaged")]
    Content,
    /// The checksum over the placement is wrong.
    #[error("the batch's placement is damaged")]
    Place,
    /// The records don't fill the payload exactly.
    #[error("the batch's records don't add up")]
    Records,
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(b[at..at + 4].try_into().expect("4 bytes"))
}
fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(b[at..at + 8].try_into().expect("8 bytes"))
}

/// Rounds up to the 8 bytes that everything in a batch is aligned to.
pub const fn pad8(n: usize) -> usize {
    (n + 7) & !7
}

/// A batch whose writer part and payload were checked: header fields, lengths, checksum, records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch(Bytes);

impl Batch {
    /// Checks one whole batch of foreign bytes.
    ///
    /// # Errors
    /// Whatever makes it not a batch; the bytes can't be used then.
    pub fn check(bytes: Bytes) -> Result<Self, BatchError> {
        let len = Self::length(&bytes)?;
        if len != bytes.len() {
            return Err(BatchError::Length { have: bytes.len(), want: len });
        }
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..44]), &bytes[WRITER_BYTES..]);
        if crc != u32_at(&bytes, 44) {
            return Err(BatchError::Content);
        }
        let batch = Self(bytes);
        let mut n = 0u32;
        let mut at = batch.records_at();
        while at < len {
            if len - at < RECORD_HEADER_BYTES {
                return Err(BatchError::Records);
            }
            let record = u32_at(&batch.0, at) as usize;
            if record > RECORD_BYTES_MAX || pad8(record) > len - at - RECORD_HEADER_BYTES {
                return Err(BatchError::Records);
            }
            at += RECORD_HEADER_BYTES + pad8(record);
            n += 1;
        }
        if n != batch.count() {
            return Err(BatchError::Records);
        }
        Ok(batch)
    }

    /// Total length that the header at the front of `bytes` states, after checking the header's fields but
    /// not the checksum.
    fn length(bytes: &[u8]) -> Result<usize, BatchError> {
        if bytes.len() < WRITER_BYTES {
            return Err(BatchError::Length { have: bytes.len(), want: WRITER_BYTES });
        }
        if u32_at(bytes, 0) != MAGIC {
            return Err(BatchError::Header("magic"));
        }
        if bytes[4] != VERSION {
            return Err(BatchError::Header("version"));
        }
        if bytes[5] > KIND_ONLY_AT {
            return Err(BatchError::Header("kind"));
        }
        // So there is always a next number, and a fence never has that of a batch.
        let (seq, fence) = (u64_at(bytes, 24), bytes[5] == 1);
        if seq > FENCE_SEQ.0 || fence != (seq == FENCE_SEQ.0) {
            return Err(BatchError::Header("number"));
        }
        let count = u32_at(bytes, 36);
        if count > BATCH_RECORDS_MAX || count == 0 {
            return Err(BatchError::Header("count"));
        }
        let payload = u32_at(bytes, 40) as usize;
        if !payload.is_multiple_of(8) {
            return Err(BatchError::Header("payload length"));
        }
        if bytes[5] == KIND_ONLY_AT && payload < POSITION_BYTES {
            return Err(BatchError::Header("payload length"));
        }
        let len = WRITER_BYTES + payload;
        if len > BATCH_BYTES_MAX {
            return Err(BatchError::Length { have: len, want: BATCH_BYTES_MAX });
        }
        Ok(len)
    }

    /// The bytes, as they go on the wire and to disk.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }
    /// What it is for.
    pub fn kind(&self) -> BatchKind {
        match self.0[5] {
            KIND_DATA => BatchKind::Data,
            KIND_FENCE => BatchKind::Fence,
            _ => BatchKind::OnlyAt(Gsn(u64_at(&self.0, WRITER_BYTES))),
        }
    }
    /// Whether its records count when the first of them is at `gsn`. Else it has positions, and nothing in them.
    pub fn holds_at(&self, gsn: Gsn) -> bool {
        match self.kind() {
            BatchKind::Data => true,
            BatchKind::Fence => false,
            BatchKind::OnlyAt(position) => position == gsn,
        }
    }
    fn records_at(&self) -> usize {
        WRITER_BYTES + if self.0[5] == KIND_ONLY_AT { POSITION_BYTES } else { 0 }
    }
    /// Who wrote it.
    pub fn writer(&self) -> WriterId {
        WriterId(u128::from_le_bytes(self.0[8..24].try_into().expect("16 bytes")))
    }
    /// Its number among that writer's batches.
    pub fn seq(&self) -> Seq {
        Seq(u64_at(&self.0, 24))
    }
    /// The writer's opening.
    pub fn epoch(&self) -> Epoch {
        Epoch(u32_at(&self.0, 32))
    }
    /// How many records it holds, at least 1.
    pub fn count(&self) -> u32 {
        u32_at(&self.0, 36)
    }
    /// The writer's checksum.
    pub fn crc(&self) -> u32 {
        u32_at(&self.0, 44)
    }

    /// The records, in order, without copying them.
    pub fn records(&self) -> Records {
        Records { batch: self.0.clone(), at: self.records_at() }
    }
}

/// Iterates over a batch's records.
#[derive(Clone, Debug)]
pub struct Records {
    batch: Bytes,
    at: usize,
}

impl Iterator for Records {
    type Item = Bytes;
    fn next(&mut self) -> Option<Bytes> {
        if self.at >= self.batch.len() {
            return None;
        }
        let len = u32_at(&self.batch, self.at) as usize;
        let start = self.at + RECORD_HEADER_BYTES;
        self.at = start + pad8(len);
        Some(self.batch.slice(start..start + len))
    }

    /// Passing over a record costs a look at its length.
    fn nth(&mut self, n: usize) -> Option<Bytes> {
        for _ in 0..n {
            if self.at >= self.batch.len() {
                return None;
            }
            let len = u32_at(&self.batch, self.at) as usize;
            self.at += RECORD_HEADER_BYTES + pad8(len);
        }
        self.next()
    }
}

/// Collects records into a batch.
#[derive(Debug)]
pub struct BatchBuilder {
    buf: BytesMut,
    count: u32,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    /// An empty one.
    pub fn new() -> Self {
        Self { buf: BytesMut::zeroed(WRITER_BYTES), count: 0 }
    }

    /// How many records are in.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes so far, headers included.
    pub fn bytes(&self) -> usize {
        self.buf.len()
    }

    /// Whether a record of `len` bytes still belongs in (else finish this batch first).
    pub fn has_room(&self, len: usize) -> bool {
        self.is_empty()
            || (self.count < BATCH_RECORDS_MAX
                && self.buf.len() + RECORD_HEADER_BYTES + len <= BATCH_BYTES_TARGET)
    }

    /// Adds a record.
    ///
    /// # Panics
    /// If it is longer than [`RECORD_BYTES_MAX`]: callers refuse such records.
    pub fn push(&mut self, record: &[u8]) {
        assert!(record.len() <= RECORD_BYTES_MAX, "record of {} bytes", record.len());
        assert!(self.count < BATCH_RECORDS_MAX, "batch is full");
        let len = record.len() as u32;
        self.buf.reserve(RECORD_HEADER_BYTES + pad8(record.len()));
        self.buf.extend_from_slice(&u64::from(len).to_le_bytes());
        self.buf.extend_from_slice(record);
        self.buf.resize(pad8(self.buf.len()), 0);
        self.count += 1;
    }

    /// Closes it as the writer's batch number `seq`, and starts anew.
    ///
    /// # Panics
    /// If it is empty.
    pub fn finish(&mut self, kind: BatchKind, writer: WriterId, epoch: Epoch, seq: Seq) -> Batch {
        assert!(!self.is_empty(), "an empty batch has no place in the order");
        if let BatchKind::OnlyAt(position) = kind {
            // Seldom, so that others need no room for it.
            let mut whole = BytesMut::with_capacity(self.buf.len() + POSITION_BYTES);
            whole.resize(WRITER_BYTES, 0);
            whole.extend_from_slice(&position.0.to_le_bytes());
            whole.extend_from_slice(&self.buf[WRITER_BYTES..]);
            self.buf = whole;
        }
        let payload = (self.buf.len() - WRITER_BYTES) as u32;
        let head = &mut self.buf[..WRITER_BYTES];
        head[..4].copy_from_slice(&MAGIC.to_le_bytes());
        head[4] = VERSION;
        head[5] = match kind {
            BatchKind::Data => KIND_DATA,
            BatchKind::Fence => KIND_FENCE,
            BatchKind::OnlyAt(_) => KIND_ONLY_AT,
        };
        head[8..24].copy_from_slice(&writer.0.to_le_bytes());
        head[24..32].copy_from_slice(&seq.0.to_le_bytes());
        head[32..36].copy_from_slice(&epoch.0.to_le_bytes());
        head[36..40].copy_from_slice(&self.count.to_le_bytes());
        head[40..44].copy_from_slice(&payload.to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&self.buf[..44]), &self.buf[WRITER_BYTES..]);
        self.buf[44..48].copy_from_slice(&crc.to_le_bytes());
        self.count = 0;
        // The next batch is likely to be as long: room for it at once, instead of in many small steps.
        let mut next = BytesMut::with_capacity(self.buf.len().min(BATCH_BYTES_TARGET));
        next.resize(WRITER_BYTES, 0);
        let whole = std::mem::replace(&mut self.buf, next);
        Batch(whole.freeze())
    }
}

/// Where a batch lies in its lane, said by the lane's primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The lane.
    pub lane: LaneId,
    /// The primary's incarnation when it placed the batch.
    pub incarnation: Incarnation,
    /// LSN of the first record.
    pub first_lsn: Lsn,
    /// Checksum of the lane's previous placement, 0 for the first.
    pub prev: u32,
    /// Checksum of this one.
    pub crc: u32,
}

/// A batch with its place: what is replicated, stored and served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedBatch {
    /// Its place.
    pub placement: Placement,
    /// Its content.
    pub batch: Batch,
}

impl PlacedBatch {
    /// Places `batch` behind the placement whose checksum is `prev`.
    pub fn place(lane: LaneId, incarnation: Incarnation, first_lsn: Lsn, prev: u32, batch: Batch) -> Self {
        let mut placement = Placement { lane, incarnation, first_lsn, prev, crc: 0 };
        placement.crc = Self::crc(&placement.encode(), batch.crc());
        Self { placement, batch }
    }

    fn crc(placement: &[u8; PLACEMENT_BYTES], writer_crc: u32) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&placement[..28]), &writer_crc.to_le_bytes())
    }

    /// First LSN behind it.
    pub fn end_lsn(&self) -> Lsn {
        self.placement.first_lsn.plus(u64::from(self.batch.count()))
    }

    /// Bytes when encoded.
    pub fn encoded_len(&self) -> usize {
        PLACEMENT_BYTES + self.batch.bytes().len()
    }

    /// Writes placement and batch to `out`.
    pub fn encode(&self, out: &mut impl bytes::BufMut) {
        out.put_slice(&self.placement.encode());
        out.put_slice(self.batch.bytes());
    }

    /// Checks the placed batch at the front of `bytes` and cuts it off.
    ///
    /// # Errors
    /// Whatever is wrong with it; `bytes` is then left as it was.
    pub fn check_next(bytes: &mut Bytes) -> Result<Self, BatchError> {
        let want = PLACEMENT_BYTES + WRITER_BYTES;
        if bytes.len() < want {
            return Err(BatchError::Length { have: bytes.len(), want });
        }
        let len = PLACEMENT_BYTES + Batch::length(&bytes[PLACEMENT_BYTES..])?;
        if bytes.len() < len {
            return Err(BatchError::Length { have: bytes.len(), want: len });
        }
        let batch = Batch::check(bytes.slice(PLACEMENT_BYTES..len))?;
        let place: &[u8; PLACEMENT_BYTES] = bytes[..PLACEMENT_BYTES].try_into().expect("32 bytes");
        let placement = Placement {
            lane: LaneId(u64_at(place, 0)),
            incarnation: Incarnation(u64_at(place, 8)),
            first_lsn: Lsn(u64_at(place, 16)),
            prev: u32_at(place, 24),
            crc: u32_at(place, 28),
        };
        if Self::crc(place, batch.crc()) != placement.crc {
            return Err(BatchError::Place);
        }
        let _ = bytes.split_to(len);
        Ok(Self { placement, batch })
    }
}

impl Placement {
    /// The placement part's bytes.
    pub fn encode(&self) -> [u8; PLACEMENT_BYTES] {
        let mut b = [0u8; PLACEMENT_BYTES];
        b[..8].copy_from_slice(&self.lane.0.to_le_bytes());
        b[8..16].copy_from_slice(&self.incarnation.0.to_le_bytes());
        b[16..24].copy_from_slice(&self.first_lsn.0.to_le_bytes());
        b[24..28].copy_from_slice(&self.prev.to_le_bytes());
        b[28..32].copy_from_slice(&self.crc.to_le_bytes());
        b
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ShardId;
    use proptest::prelude::*;

    fn batch(records: &[Vec<u8>]) -> Batch {
        let mut b = BatchBuilder::new();
        records.iter().for_each(|r| b.push(r));
        b.finish(BatchKind::Data, WriterId(7 << 100), Epoch(3), Seq(9))
    }

    proptest! {
        #[test]
        fn a_batch_comes_back_as_it_was(records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..20)) {
            let b = batch(&records);
            let again = Batch::check(b.bytes().clone()).unwrap();
            prop_assert_eq!(again.records().map(|r| r.to_vec()).collect::<Vec<_>>(), records);
            prop_assert_eq!((again.writer(), again.epoch(), again.seq()), (WriterId(7 << 100), Epoch(3), Seq(9)));
        }

        #[test]
        fn a_conditional_batch_comes_back_and_holds_at_its_position_only(
            records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..20), at in any::<u64>(), other in any::<u64>()
        ) {
            let mut b = BatchBuilder::new();
            records.iter().for_each(|r| b.push(r));
            let b = b.finish(BatchKind::OnlyAt(Gsn(at)), WriterId(7), Epoch(3), Seq(9));
            let again = Batch::check(b.bytes().clone()).unwrap();
            prop_assert_eq!(again.records().map(|r| r.to_vec()).collect::<Vec<_>>(), records.clone());
            prop_assert_eq!((again.kind(), again.count() as usize), (BatchKind::OnlyAt(Gsn(at)), records.len()));
            prop_assert!(again.holds_at(Gsn(at)));
            prop_assert_eq!(again.holds_at(Gsn(other)), at == other);
        }

        #[test]
        fn one_flipped_bit_is_noticed(bit in 0usize..(32 + 48 + 16) * 8) {
            let lane = LaneId::new(ShardId(2), 1);
            let placed = PlacedBatch::place(lane, Incarnation(4), Lsn(10), 77, batch(&[b"12345678".to_vec()]));
            let mut bytes = Vec::new();
            placed.encode(&mut bytes);
            prop_assert_eq!(PlacedBatch::check_next(&mut Bytes::from(bytes.clone())).unwrap(), placed);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(PlacedBatch::check_next(&mut Bytes::from(bytes)).is_err());
        }

        #[test]
        fn garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Batch::check(Bytes::from(bytes)).is_err());
        }
    }

    #[test]
    fn truncated_at_every_length() {
        let whole = batch(&[vec![1; 20], vec![2; 3]]);
        for len in 0..whole.bytes().len() {
            assert!(Batch::check(whole.bytes().slice(..len)).is_err());
        }
    }
}
