//! What does the file of a snapshot look like? A header that says whose and of which position it is, then
//! pieces, each with a checksum. What the pieces hold is their owner's business; that they are all there, in
//! order and unharmed is looked after here.
//!
//! ```text
//! header  64 bytes: "ZLSNAP\r\n" | version u32 | zero u32 | cluster u128 | gsn u64 | zeros | crc u32
//! piece   16 bytes: payload length u32 | number u32, from 0 | last u32, 0 or 1 | crc u32, then the payload
//! ```
//! Numbers are little-endian. The header's CRC-32C is over its first 60 bytes. A piece's starts from the
//! header's value, so that a piece of another file is never taken for one of this, and is over the 12 bytes
//! before it and the payload. Behind the last piece the file ends.

use crate::ids::{ClusterId, Gsn};

/// Newest version of the format, the only one known.
pub const VERSION: u32 = 1;
/// Bytes of the file's header.
pub const HEADER_BYTES: usize = 64;
/// Bytes in front of a piece's payload.
pub const PIECE_HEADER_BYTES: usize = 16;
/// Bytes of a piece's payload at most: what a reader holds in memory.
pub const PIECE_BYTES_MAX: usize = 8 << 20;

const MAGIC: &[u8; 8] = b"ZLSNAP\r\n";

/// Why a file can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// It begins with something else.
    #[error("it is no snapshot")]
    NotASnapshot,
    /// Another build wrote it.
    #[error("it has format version {found}, this build knows {VERSION}")]
    Version {
        /// In the file.
        found: u32,
    },
    /// It belongs to another cluster.
    #[error("it belongs to cluster {found:032x}, not to {wanted:032x}")]
    Cluster {
        /// In the file.
        found: u128,
        /// Ours.
        wanted: u128,
    },
    /// Something in it is not as it was written.
    #[error("it is damaged at byte {at}: {what}")]
    Damaged {
        /// Offset in the file.
        at: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// It ends too early.
    #[error("it ends after {bytes} bytes, without its last piece")]
    Torn {
        /// How long it is.
        bytes: u64,
    },
    /// The pieces are as they were written, but what they say makes no sense to their owner.
    #[error("what it holds can't be used: {0}")]
    Content(String),
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

/// Frames the pieces of one file.
#[derive(Debug)]
pub struct Framer {
    seed: u32,
    pieces: u32,
}

impl Framer {
    /// Begins a file: appends its header to `out`.
    pub fn begin(out: &mut Vec<u8>, cluster: ClusterId, gsn: Gsn) -> Self {
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        header[16..32].copy_from_slice(&cluster.0.to_le_bytes());
        header[32..40].copy_from_slice(&gsn.0.to_le_bytes());
        let seed = crc32c::crc32c(&header[..60]);
        header[60..].copy_from_slice(&seed.to_le_bytes());
        out.extend_from_slice(&header);
        Self { seed, pieces: 0 }
    }

    /// Appends a piece whose payload `fill` appends. Returns what `fill` does. Panics if it took something
    /// away, or appended more than [`PIECE_BYTES_MAX`].
    pub fn piece<R>(&mut self, out: &mut Vec<u8>, last: bool, fill: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let start = out.len();
        out.extend_from_slice(&[0; PIECE_HEADER_BYTES]);
        let result = fill(out);
        let (header, payload) = out[start..].split_at_mut(PIECE_HEADER_BYTES);
        assert!(payload.len() <= PIECE_BYTES_MAX, "a piece of {} bytes", payload.len());
        header[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        header[4..8].copy_from_slice(&self.pieces.to_le_bytes());
        header[8..12].copy_from_slice(&u32::from(last).to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c_append(self.seed, &header[..12]), payload);
        header[12..].copy_from_slice(&crc.to_le_bytes());
        self.pieces = self.pieces.checked_add(1).expect("fewer than 2^32 pieces");
        result
    }
}

/// Takes a file apart, however its bytes come, and checks it on the way. Holds at most one piece.
#[derive(Debug)]
pub struct Unframer {
    cluster: ClusterId,
    /// Position and checksum in the header, once it is read.
    header: Option<(Gsn, u32)>,
    pieces: u32,
    done: bool,
    /// Bytes of the file that were taken apart.
    at: u64,
    /// The beginning of something that has not come whole.
    rest: Vec<u8>,
}

impl Unframer {
    /// For a file of that cluster; 0 takes any.
    pub fn new(cluster: ClusterId) -> Self {
        Self { cluster, header: None, pieces: 0, done: false, at: 0, rest: Vec::new() }
    }

    /// Position of the snapshot, once the header is read.
    pub fn gsn(&self) -> Option<Gsn> {
        self.header.map(|h| h.0)
    }

    /// Takes the next bytes of the file; `each` gets the payload of every piece that is whole with them, in
    /// order, and whether it is the last.
    ///
    /// # Errors
    /// When the file can't be used, or `each` says so. Nothing more must be pushed then.
    pub fn push(
        &mut self,
        mut bytes: &[u8],
        mut each: impl FnMut(&[u8], bool) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        while !self.rest.is_empty() && !bytes.is_empty() {
            // Completed byte by byte as far as its length is known, so that what follows is not copied.
            let wanted = self.wanted(&self.rest)?;
            let take = (wanted - self.rest.len()).min(bytes.len());
            self.rest.extend_from_slice(&bytes[..take]);
            bytes = &bytes[take..];
            let mut rest = std::mem::take(&mut self.rest);
            if self.wanted(&rest)? == rest.len() {
                self.take(&rest, &mut each)?;
                rest.clear();
            }
            self.rest = rest;
        }
        while !bytes.is_empty() {
            let wanted = self.wanted(bytes)?;
            if wanted > bytes.len() {
                self.rest.extend_from_slice(bytes);
                break;
            }
            self.take(&bytes[..wanted], &mut each)?;
            bytes = &bytes[wanted..];
        }
        Ok(())
    }

    /// How many bytes are needed from the start of `bytes` to go on: as far as that can be told from them.
    fn wanted(&self, bytes: &[u8]) -> Result<usize, SnapshotError> {
        if self.done {
            return Err(self.damaged("something follows the last piece"));
        }
        if self.header.is_none() {
            return Ok(HEADER_BYTES);
        }
        if bytes.len() < PIECE_HEADER_BYTES {
            return Ok(PIECE_HEADER_BYTES);
        }
        let len = u32_at(bytes, 0) as usize;
        if len > PIECE_BYTES_MAX {
            return Err(self.damaged("a piece that is too long"));
        }
        Ok(PIECE_HEADER_BYTES + len)
    }

    fn take(
        &mut self,
        whole: &[u8],
        each: &mut impl FnMut(&[u8], bool) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        match self.header {
            None => self.header = Some(self.check_header(whole)?),
            Some((_, seed)) => {
                let crc = crc32c::crc32c_append(seed, &whole[..12]);
                let payload = &whole[PIECE_HEADER_BYTES..];
                if crc32c::crc32c_append(crc, payload) != u32_at(whole, 12) {
                    return Err(self.damaged("a piece whose checksum is wrong"));
                }
                if u32_at(whole, 4) != self.pieces {
                    return Err(self.damaged("a piece in another one's place"));
                }
                self.pieces = self.pieces.checked_add(1).ok_or_else(|| self.damaged("too many pieces"))?;
                self.done = u32_at(whole, 8) != 0;
                each(payload, self.done)?;
            }
        }
        self.at += whole.len() as u64;
        Ok(())
    }

    fn check_header(&self, header: &[u8]) -> Result<(Gsn, u32), SnapshotError> {
        if &header[..8] != MAGIC {
            return Err(SnapshotError::NotASnapshot);
        }
        // Before the checksum: where that is, is for the version to say.
        let found = u32_at(header, 8);
        if found != VERSION {
            return Err(SnapshotError::Version { found });
        }
        let crc = u32_at(header, 60);
        if crc32c::crc32c(&header[..60]) != crc {
            return Err(self.damaged("a header whose checksum is wrong"));
        }
        let (found, wanted) =
            (u128::from_le_bytes(header[16..32].try_into().expect("16 bytes")), self.cluster.0);
        if wanted != 0 && found != wanted {
            return Err(SnapshotError::Cluster { found, wanted });
        }
        Ok((Gsn(u64::from_le_bytes(header[32..40].try_into().expect("8 bytes"))), crc))
    }

    fn damaged(&self, what: &'static str) -> SnapshotError {
        SnapshotError::Damaged { at: self.at, what }
    }

    /// The file has come to its end. Returns the position of the snapshot.
    ///
    /// # Errors
    /// When it is not whole.
    pub fn finish(&self) -> Result<Gsn, SnapshotError> {
        match self.header {
            Some((gsn, _)) if self.done => Ok(gsn),
            _ => Err(SnapshotError::Torn { bytes: self.at + self.rest.len() as u64 }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CLUSTER: ClusterId = ClusterId(77);

    fn file(payloads: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut framer = Framer::begin(&mut out, CLUSTER, Gsn(42));
        for (i, payload) in payloads.iter().enumerate() {
            framer.piece(&mut out, i + 1 == payloads.len(), |out| out.extend_from_slice(payload));
        }
        out
    }

    fn read(bytes: &[u8], chunk: usize) -> Result<(Gsn, Vec<Vec<u8>>), SnapshotError> {
        let (mut reader, mut payloads) = (Unframer::new(CLUSTER), Vec::new());
        for bytes in bytes.chunks(chunk) {
            reader.push(bytes, |payload, _| {
                payloads.push(payload.to_vec());
                Ok(())
            })?;
        }
        Ok((reader.finish()?, payloads))
    }

    fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..8)
    }

    proptest! {
        #[test]
        fn a_file_comes_back_however_its_bytes_are_cut(payloads in payloads(), chunk in 1..400usize) {
            prop_assert_eq!(read(&file(&payloads), chunk), Ok((Gsn(42), payloads)));
        }

        /// Every flipped bit, every early end and everything appended is found.
        #[test]
        fn any_change_of_a_file_is_found(
            payloads in payloads(), at in any::<prop::sample::Index>(), bit in 0..8u8, chunk in 1..400usize,
        ) {
            let good = file(&payloads);
            let at = at.index(good.len());
            let mut flipped = good.clone();
            flipped[at] ^= 1 << bit;
            prop_assert!(read(&flipped, chunk).is_err());
            let torn = SnapshotError::Torn { bytes: at as u64 };
            prop_assert_eq!(read(&good[..at], chunk), Err(torn));
            let longer = [&good[..], &[0]].concat();
            prop_assert!(read(&longer, chunk).is_err());
        }

        #[test]
        fn garbage_is_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300), chunk in 1..100usize) {
            prop_assert!(read(&bytes, chunk).is_err());
            let behind = [&file(&[vec![1]])[..HEADER_BYTES], &bytes].concat();
            prop_assert!(read(&behind, chunk).is_err());
        }
    }

    #[test]
    fn strangers_are_named() {
        let good = file(&[vec![1, 2, 3]]);
        let mut newer = good.clone();
        newer[8] = 2;
        assert_eq!(read(&newer, 64), Err(SnapshotError::Version { found: 2 }));
        let mut other = Vec::new();
        Framer::begin(&mut other, ClusterId(78), Gsn(42)).piece(&mut other, true, |_| ());
        assert_eq!(read(&other, 64), Err(SnapshotError::Cluster { found: 78, wanted: 77 }));
        assert_eq!(read(&[b'x'; 64], 64), Err(SnapshotError::NotASnapshot));
        let mut any = Unframer::new(ClusterId(0));
        any.push(&other, |_, _| Ok(())).expect("any cluster's");
        assert_eq!(any.finish(), Ok(Gsn(42)));
    }

    #[test]
    fn a_piece_of_another_file_is_not_taken() {
        let (a, mut b) = (file(&[vec![1; 9], vec![2; 9]]), Vec::new());
        let mut framer = Framer::begin(&mut b, CLUSTER, Gsn(43));
        framer.piece(&mut b, false, |out| out.extend_from_slice(&[1; 9]));
        framer.piece(&mut b, true, |out| out.extend_from_slice(&[2; 9]));
        let border = HEADER_BYTES + PIECE_HEADER_BYTES + 9;
        assert!(read(&[&a[..border], &b[border..]].concat(), 64).is_err());
        let swapped = [&a[..HEADER_BYTES], &a[border..], &a[HEADER_BYTES..border]].concat();
        assert!(read(&swapped, 64).is_err());
    }

    /// The bytes on disk are for ever: if this fails, raise the version and keep reading the old one.
    #[test]
    fn a_file_has_its_golden_bytes() {
        let hex: String = file(&[b"abc".to_vec()]).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, GOLDEN);
    }

    const GOLDEN: &str = "5a4c534e41500d0a01000000000000004d0000000000000000000000000000002a000000000000000000000000\
        000000000000000000000000000000264a8929030000000000000001000000b57d8230616263";
}
