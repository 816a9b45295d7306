//! How does a message travel? A fixed header, the rkyv body, and a raw payload, each padded to 8 bytes. What is short and comes
//! often has a short header and a body of its own making, padded likewise, and no payload.

use crate::error::WireError;
use crate::limits::FRAME_BYTES_MAX;
use bytes::{BufMut, Bytes, BytesMut};

/// The header, little-endian.
#[repr(C)]
struct Header {
    magic: u32,
    version: u8,
    reserved: u8,
    kind: u16,
    /// Bytes of the body, padding excluded.
    body_len: u32,
    /// Bytes of the payload, padding excluded.
    payload_len: u32,
    /// Not used yet; 0.
    flags: u32,
    /// CRC-32C of the header before it, and of the body. The payload has its batches' own checksums.
    crc: u32,
}

/// Bytes of the header.
pub const HEADER_BYTES: usize = 24;
const MAGIC: u32 = 0x314d_4c5a; // "ZLM1"
const VERSION: u8 = 1;
const CRC_AT: usize = 20;

const _: () = assert!(std::mem::size_of::<Header>() == HEADER_BYTES);
const _: () = assert!(std::mem::offset_of!(Header, magic) == 0);
const _: () = assert!(std::mem::offset_of!(Header, version) == 4);
const _: () = assert!(std::mem::offset_of!(Header, reserved) == 5);
const _: () = assert!(std::mem::offset_of!(Header, kind) == 6);
const _: () = assert!(std::mem::offset_of!(Header, body_len) == 8);
const _: () = assert!(std::mem::offset_of!(Header, payload_len) == 12);
const _: () = assert!(std::mem::offset_of!(Header, flags) == 16);
const _: () = assert!(std::mem::offset_of!(Header, crc) == CRC_AT);

/// The short header: 2 bytes of magic, the kind, the body's length without padding, and the CRC-32C of these and of the body.
const SHORT_HEADER_BYTES: usize = 8;
const SHORT_MAGIC: [u8; 2] = *b"Z1";
const SHORT_CRC_AT: usize = 4;

fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(b[at..at + 4].try_into().expect("4 bytes"))
}

const fn pad(n: usize) -> usize {
    (n + 7) & !7
}

/// A frame whose lengths and checksum are right.
pub(super) struct Checked {
    pub kind: u16,
    pub body: Bytes,
    pub payload: Bytes,
    /// It came in a short frame.
    pub is_short: bool,
}

/// Length of the frame that starts `bytes`, or `None` if more of it is needed to tell. Checks magic,
/// version and that the length is at most `limit`, so that nobody makes us wait for, or allocate, more.
///
/// # Errors
/// When the stream can't be understood any more.
pub fn frame_length(bytes: &[u8], limit: usize) -> Result<Option<usize>, WireError> {
    let limit = limit.min(FRAME_BYTES_MAX);
    if bytes.starts_with(&SHORT_MAGIC) {
        let Some(&body_len) = bytes.get(3) else { return Ok(None) };
        let len = SHORT_HEADER_BYTES + pad(usize::from(body_len));
        return if len > limit {
            Err(WireError::TooLong { bytes: len as u64, limit })
        } else {
            Ok(Some(len))
        };
    }
    if bytes.len() < HEADER_BYTES {
        // Tell a foreign protocol at its first bytes, not after it gave up waiting.
        if bytes.len() >= 4 && u32_at(bytes, 0) != MAGIC {
            return Err(WireError::Magic(u32_at(bytes, 0)));
        }
        return Ok(None);
    }
    if u32_at(bytes, 0) != MAGIC {
        return Err(WireError::Magic(u32_at(bytes, 0)));
    }
    if bytes[4] != VERSION {
        return Err(WireError::Version { found: bytes[4], ours: VERSION });
    }
    let len = HEADER_BYTES + pad(u32_at(bytes, 8) as usize) + pad(u32_at(bytes, 12) as usize);
    if len > limit {
        return Err(WireError::TooLong { bytes: len as u64, limit });
    }
    Ok(Some(len))
}

/// Number of the message in a whole frame, without looking further.
pub fn kind(frame: &[u8]) -> u16 {
    match frame {
        [a, b, kind, ..] if [*a, *b] == SHORT_MAGIC => u16::from(*kind),
        [_, _, _, _, _, _, low, high, ..] => u16::from_le_bytes([*low, *high]),
        _ => 0,
    }
}

pub(super) fn encode_short(kind: u16, body: &[u8]) -> Bytes {
    let (kind, body_len) = (u8::try_from(kind), u8::try_from(body.len()));
    let (kind, body_len) = (kind.expect("a kind of short frames"), body_len.expect("a body that fits one"));
    let len = SHORT_HEADER_BYTES + pad(body.len());
    let mut out = BytesMut::with_capacity(len);
    out.put_slice(&[SHORT_MAGIC[0], SHORT_MAGIC[1], kind, body_len]);
    out.put_u32_le(crc32c::crc32c_append(crc32c::crc32c(&out[..SHORT_CRC_AT]), body));
    out.put_slice(body);
    out.put_bytes(0, len - SHORT_HEADER_BYTES - body.len());
    out.freeze()
}

pub(super) fn encode(kind: u16, body: &[u8], payload: &[&[u8]]) -> Bytes {
    let payload_len: usize = payload.iter().map(|p| p.len()).sum();
    let len = HEADER_BYTES + pad(body.len()) + pad(payload_len);
    assert!(len <= FRAME_BYTES_MAX, "frame of {len} bytes, kind {kind}");
    let mut out = BytesMut::with_capacity(len);
    out.put_u32_le(MAGIC);
    out.put_u8(VERSION);
    out.put_u8(0);
    out.put_u16_le(kind);
    out.put_u32_le(body.len() as u32);
    out.put_u32_le(payload_len as u32);
    out.put_u32_le(0);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out[..CRC_AT]), body);
    out.put_u32_le(crc);
    out.put_slice(body);
    out.put_bytes(0, pad(body.len()) - body.len());
    payload.iter().for_each(|p| out.put_slice(p));
    out.put_bytes(0, pad(payload_len) - payload_len);
    out.freeze()
}

pub(super) fn check(frame: Bytes) -> Result<Checked, WireError> {
    match frame_length(&frame, FRAME_BYTES_MAX)? {
        Some(len) if len == frame.len() => {}
        _ => return Err(WireError::Length("the frame is shorter or longer than its header says")),
    }
    let kind = kind(&frame);
    let is_short = frame.starts_with(&SHORT_MAGIC);
    if is_short {
        let body = frame.slice(SHORT_HEADER_BYTES..SHORT_HEADER_BYTES + usize::from(frame[3]));
        let computed = crc32c::crc32c_append(crc32c::crc32c(&frame[..SHORT_CRC_AT]), &body);
        let stated = u32_at(&frame, SHORT_CRC_AT);
        return match computed == stated {
            true => Ok(Checked { kind, body, payload: Bytes::new(), is_short }),
            false => Err(WireError::Checksum { kind, computed, stated }),
        };
    }
    let (body_len, payload_len) = (u32_at(&frame, 8) as usize, u32_at(&frame, 12) as usize);
    let body = frame.slice(HEADER_BYTES..HEADER_BYTES + body_len);
    let start = HEADER_BYTES + pad(body_len);
    let computed = crc32c::crc32c_append(crc32c::crc32c(&frame[..CRC_AT]), &body);
    let stated = u32_at(&frame, CRC_AT);
    if computed != stated {
        return Err(WireError::Checksum { kind, computed, stated });
    }
    Ok(Checked { kind, body, payload: frame.slice(start..start + payload_len), is_short })
}
