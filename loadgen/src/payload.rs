//! What is written, and how is it known again? Each value names its run, key, writer and counter, and
//! carries a checksum, so that whoever reads it can tell whether it was ever written.
//!
//! ```text
//! run u32 | key u32 | writer u32 | crc32c u32 (of all but itself) | counter u64 | filler
//! ```
//! Little-endian.

/// Bytes of the part that names the value; shorter payloads are filler only.
pub const HEADER_BYTES: usize = 24;

/// Who wrote a value, and which of theirs it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Which node or record stream it was written to.
    pub key: u32,
    /// Which session or writer wrote it.
    pub writer: u32,
    /// That writer's count of values before this one, plus one; 0 in values made at set-up.
    pub counter: u64,
}

/// Why bytes are no value of this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// The length is not the run's.
    Length(usize),
    /// The checksum does not fit: the bytes were changed.
    Damaged,
    /// A value, but of another run.
    OtherRun,
}

/// Makes and recognises the values of one run.
#[derive(Debug)]
pub struct Payload {
    run: u32,
    image: Vec<u8>,
}

impl Payload {
    /// Values of `bytes` bytes for the run `run`.
    pub fn new(run: u32, bytes: usize) -> Self {
        // A fixed pattern that neither compresses to nothing nor has to be drawn per value.
        let image = (0..bytes).map(|i| (i.wrapping_mul(167) >> 3) as u8 ^ i as u8).collect();
        Self { run, image }
    }

    /// Bytes of each value.
    pub fn bytes(&self) -> usize {
        self.image.len()
    }

    /// Whether values are long enough to name their origin.
    pub fn is_named(&self) -> bool {
        self.image.len() >= HEADER_BYTES
    }

    /// The value of `origin`, valid until the next call.
    pub fn make(&mut self, origin: Origin) -> &[u8] {
        if self.is_named() {
            let run = self.run;
            let head = &mut self.image[..HEADER_BYTES];
            head[..4].copy_from_slice(&run.to_le_bytes());
            head[4..8].copy_from_slice(&origin.key.to_le_bytes());
            head[8..12].copy_from_slice(&origin.writer.to_le_bytes());
            head[16..24].copy_from_slice(&origin.counter.to_le_bytes());
            let crc = checksum(&self.image);
            self.image[12..16].copy_from_slice(&crc.to_le_bytes());
        }
        &self.image
    }

    /// Whose value `bytes` is; `None` if values of this length don't say.
    ///
    /// # Errors
    /// Why it can't be a value of this run.
    pub fn read(&self, bytes: &[u8]) -> Result<Option<Origin>, Unknown> {
        if bytes.len() != self.image.len() {
            return Err(Unknown::Length(bytes.len()));
        }
        if !self.is_named() {
            return if bytes == self.image { Ok(None) } else { Err(Unknown::Damaged) };
        }
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        if checksum(bytes) != u32_at(12) {
            return Err(Unknown::Damaged);
        }
        if u32_at(0) != self.run {
            return Err(Unknown::OtherRun);
        }
        let counter = u64::from_le_bytes(bytes[16..24].try_into().expect("8 bytes"));
        Ok(Some(Origin { key: u32_at(4), writer: u32_at(8), counter }))
    }
}

fn checksum(value: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&value[..12]), &value[16..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: Origin = Origin { key: 7, writer: 3, counter: 1 << 40 };

    #[test]
    fn a_value_tells_its_origin() {
        for bytes in [24, 25, 128, 5000] {
            let mut payload = Payload::new(99, bytes);
            let value = payload.make(ORIGIN).to_vec();
            assert_eq!(payload.read(&value), Ok(Some(ORIGIN)));
        }
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let mut payload = Payload::new(99, 40);
        let value = payload.make(ORIGIN).to_vec();
        for bit in 0..value.len() * 8 {
            let mut changed = value.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(payload.read(&changed).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn values_of_another_run_or_length_are_refused() {
        let other = Payload::new(98, 40).make(ORIGIN).to_vec();
        let payload = Payload::new(99, 40);
        assert_eq!(payload.read(&other), Err(Unknown::OtherRun));
        assert_eq!(payload.read(&other[..39]), Err(Unknown::Length(39)));
    }

    #[test]
    fn short_values_are_compared_whole() {
        for bytes in [0usize, 1, 23] {
            let mut payload = Payload::new(1, bytes);
            let value = payload.make(ORIGIN).to_vec();
            assert_eq!(payload.read(&value), Ok(None));
            if let Some(first) = value.first() {
                let changed = [&[first ^ 1], &value[1..]].concat();
                assert_eq!(payload.read(&changed), Err(Unknown::Damaged));
            }
        }
    }
}
