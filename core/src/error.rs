//! What can go wrong with bytes from outside?

/// A frame or message that can't be read. Costs the connection it came on, nothing more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Not one of our frames.
    #[error("bad magic {0:#010x}: is this a Zoolog port?")]
    Magic(u32),
    /// From a build that speaks another version.
    #[error("frame version {found}, this build speaks {ours}")]
    Version {
        /// In the frame.
        found: u8,
        /// Ours.
        ours: u8,
    },
    /// Longer than any honest frame.
    #[error("frame of {bytes} bytes, the limit is {limit}")]
    TooLong {
        /// Announced.
        bytes: u64,
        /// Allowed.
        limit: usize,
    },
    /// Lengths in the frame contradict each other.
    #[error("frame lengths don't add up: {0}")]
    Length(&'static str),
    /// Damaged on the way, or forged.
    #[error("checksum of a frame of kind {kind} is {computed:#010x}, it says {stated:#010x}")]
    Checksum {
        /// Message number.
        kind: u16,
        /// Over the bytes that came.
        computed: u32,
        /// In the header.
        stated: u32,
    },
    /// A message number this build doesn't know.
    #[error("unknown message kind {0}")]
    Kind(u16),
    /// The body is not a value of its type.
    #[error("malformed body of message kind {kind}, {bytes} bytes")]
    Body {
        /// Message number.
        kind: u16,
        /// Of the body.
        bytes: usize,
    },
}
