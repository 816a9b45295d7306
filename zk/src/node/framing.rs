//! Where does a client's next frame end? What the shell asks before it hands bytes to the node.

use crate::jute::frame_length;

/// Bytes of a four-letter word.
pub(super) const WORD_BYTES: usize = 4;

/// Whether these are a four-letter word rather than a frame's length: as a length, letters are far above any
/// limit.
pub(super) fn is_word(bytes: &[u8]) -> bool {
    bytes.len() == WORD_BYTES && bytes.iter().all(u8::is_ascii_alphabetic)
}

/// Bytes of the frame that starts `bytes`, its length included, or `None` while that can't be told. `first`
/// says that these are the connection's first bytes, which may be a four-letter word instead. `max` bounds the
/// bytes behind the length. The frame's rest may still be missing.
///
/// # Errors
/// Text for a log, when the length is negative or above `max`: the connection can't go on.
pub fn framing(first: bool, bytes: &[u8], max: usize) -> Result<Option<usize>, String> {
    if first && bytes.get(..WORD_BYTES).is_some_and(is_word) {
        return Ok(Some(WORD_BYTES));
    }
    frame_length(bytes, max).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_counts_only_as_the_first_bytes() {
        assert_eq!(framing(true, b"ruok\n", 1000), Ok(Some(4)));
        assert!(framing(false, b"ruok\n", 1000).is_err());
        assert_eq!(framing(true, b"ruo", 1000), Ok(None));
        assert_eq!(framing(true, &[0, 0, 0, 8, 1], 1000), Ok(Some(12)));
        assert!(framing(true, &[0, 1, 0, 0], 1000).is_err());
        assert!(framing(true, &[0xff; 4], 1000).is_err());
    }
}
