//! How do ZooKeeper's clients and servers talk? Numbers, frames and records of the client protocol, in both
//! directions: servers decode requests and encode replies, clients (load generator, tests) the reverse.
//!
//! Every frame is a big-endian int32 length and that many bytes: a request header and its record, or a
//! reply header and, if its error is 0, a record. The first frame of each side has no header
//! ([`ConnectRequest`], [`ConnectResponse`]). Nothing here panics or allocates by what a peer merely claims.

pub mod codec;
pub mod codes;
pub mod frame;
pub mod requests;
pub mod responses;

pub use codec::{DecodeError, Reader, Writer};
pub use codes::{ErrorCode, EventType, OpCode, WatchType, xid};
pub use frame::{FRAME_BYTES_DEFAULT_MAX, FrameError, frame_length};
pub use requests::{ConnectRequest, NewNode, Request, RequestHeader, SetWatches, SetWatches2};
pub use responses::{ConnectResponse, ReplyHeader, WatcherEvent};

#[cfg(test)]
pub(crate) mod testing {
    /// Bytes written as hex digits with spaces.
    pub fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
        digits.chunks(2).map(|p| p[0] << 4 | p[1]).collect()
    }
}
