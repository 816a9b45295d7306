//! What is written, and how is it known again? Each value names its run, key, writer and counter, and
//! carries a checksum, so that whoever reads it can tell whether it was ever written.
//!
//! ```text
//! run u32 | key u32 | writer u32 | crc32c u32 (of all but itself) | counter u64 | filler
//! ```
//! Little-endian.

use crate::sizes::Sizes;

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
    sizes: Sizes,
    image: Vec<u8>,
}

impl Payload {
    /// Values of lengths `sizes` for the run `run`.
    pub fn new(run: u32, sizes: Sizes) -> Self {
        // A fixed pattern that neither compresses to nothing nor has to be drawn per value.
        let image = (0..sizes.max() as usize).map(|i| (i.wrapping_mul(167) >> 3) as u8 ^ i as u8).collect();
        Self { run, sizes, image }
    }

    /// Bytes of the value of `origin`.
    pub fn bytes(&self, origin: Origin) -> usize {
        self.sizes.of(origin) as usize
    }

    /// Whether a value can be this long.
    pub fn can_have(&self, bytes: usize) -> bool {
        match self.sizes {
            Sizes::Fixed(n) => bytes == n as usize,
            Sizes::Uniform(from, to) => (from as usize..=to as usize).contains(&bytes),
            Sizes::LogNormal { max, .. } => bytes <= max as usize,
        }
    }

    /// The value of `origin`, valid until the next call.
    pub fn make(&mut self, origin: Origin) -> &[u8] {
        let value = &mut self.image[..self.sizes.of(origin) as usize];
        if let Some(head) = value.first_chunk_mut::<HEADER_BYTES>() {
            head[..4].copy_from_slice(&self.run.to_le_bytes());
            head[4..8].copy_from_slice(&origin.key.to_le_bytes());
            head[8..12].copy_from_slice(&origin.writer.to_le_bytes());
            head[16..24].copy_from_slice(&origin.counter.to_le_bytes());
            let crc = checksum(value);
            value[12..16].copy_from_slice(&crc.to_le_bytes());
        }
        value
    }

    /// Whose value `bytes` is; `None` if values of this length don't say.
    ///
    /// # Errors
    /// Why it can't be a value of this run.
    pub fn read(&self, bytes: &[u8]) -> Result<Option<Origin>, Unknown> {
        if !self.can_have(bytes.len()) {
            return Err(Unknown::Length(bytes.len()));
        }
        let Some(head) = bytes.first_chunk::<HEADER_BYTES>() else {
            // The first bytes of the pattern may be covered by an earlier value's head.
            let pattern = (0..bytes.len()).map(|i| (i.wrapping_mul(167) >> 3) as u8 ^ i as u8);
            let is_pattern = self.sizes.max() as usize >= HEADER_BYTES || pattern.eq(bytes.iter().copied());
            return if is_pattern { Ok(None) } else { Err(Unknown::Damaged) };
        };
        let u32_at = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("4 bytes"));
        if checksum(bytes) != u32_at(12) {
            return Err(Unknown::Damaged);
        }
        if u32_at(0) != self.run {
            return Err(Unknown::OtherRun);
        }
        let counter = u64::from_le_bytes(head[16..24].try_into().expect("8 bytes"));
        let origin = Origin { key: u32_at(4), writer: u32_at(8), counter };
        if self.bytes(origin) != bytes.len() {
            return Err(Unknown::Length(bytes.len()));
        }
        Ok(Some(origin))
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
            let mut payload = Payload::new(99, Sizes::Fixed(bytes));
            let value = payload.make(ORIGIN).to_vec();
            assert_eq!(payload.read(&value), Ok(Some(ORIGIN)));
        }
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let mut payload = Payload::new(99, Sizes::Fixed(40));
        let value = payload.make(ORIGIN).to_vec();
        for bit in 0..value.len() * 8 {
            let mut changed = value.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(payload.read(&changed).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn values_of_another_run_or_length_are_refused() {
        let other = Payload::new(98, Sizes::Fixed(40)).make(ORIGIN).to_vec();
        let payload = Payload::new(99, Sizes::Fixed(40));
        assert_eq!(payload.read(&other), Err(Unknown::OtherRun));
        assert_eq!(payload.read(&other[..39]), Err(Unknown::Length(39)));
    }

    #[test]
    fn a_value_of_drawn_length_tells_its_origin_and_no_other_length_passes() {
        let mut payload = Payload::new(3, "uniform:10-90".parse().unwrap());
        for counter in 0..200 {
            let origin = Origin { counter, ..ORIGIN };
            let value = payload.make(origin).to_vec();
            assert_eq!(value.len(), payload.bytes(origin));
            let told = if value.len() < HEADER_BYTES { None } else { Some(origin) };
            assert_eq!(payload.read(&value), Ok(told));
            assert!(payload.read(&[&value[..], &[0; 90]].concat()).is_err());
            if value.len() > HEADER_BYTES {
                assert!(payload.read(&value[..value.len() - 1]).is_err());
            }
        }
    }

    #[test]
    fn short_values_are_compared_whole() {
        for bytes in [0, 1, 23] {
            let mut payload = Payload::new(1, Sizes::Fixed(bytes));
            let value = payload.make(ORIGIN).to_vec();
            assert_eq!(payload.read(&value), Ok(None));
            if let Some(first) = value.first() {
                let changed = [&[first ^ 1], &value[1..]].concat();
                assert_eq!(payload.read(&changed), Err(Unknown::Damaged));
            }
        }
    }
}
