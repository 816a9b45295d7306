//! Where does a frame end? The int32 length before each frame, judged before anything is allocated.

/// Bytes of the length that precedes each frame.
pub const LENGTH_BYTES: usize = 4;

/// ZooKeeper's default bound on the bytes behind the length (`jute.maxbuffer`).
pub const FRAME_BYTES_DEFAULT_MAX: usize = 0xf_ffff;

/// A length that no honest peer sends: the connection can't go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Below zero.
    #[error("frame length {0} is negative")]
    Negative(i32),
    /// Over the limit.
    #[error("frame of {bytes} bytes, the limit is {limit}")]
    TooLong {
        /// Announced, without the length itself.
        bytes: usize,
        /// Allowed.
        limit: usize,
    },
}

/// Bytes of the frame that starts `bytes`, length included, or `None` while the length itself is not there.
/// The frame's rest may still be missing. `max` bounds the bytes behind the length.
///
/// # Errors
/// When the length is negative or above `max`.
pub fn frame_length(bytes: &[u8], max: usize) -> Result<Option<usize>, FrameError> {
    let Some(length) = bytes.first_chunk::<LENGTH_BYTES>() else {
        return Ok(None);
    };
    let length = i32::from_be_bytes(*length);
    let payload = usize::try_from(length).map_err(|_| FrameError::Negative(length))?;
    if payload > max {
        return Err(FrameError::TooLong { bytes: payload, limit: max });
    }
    Ok(Some(LENGTH_BYTES + payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_judged_before_the_frame_is_there() {
        let max = FRAME_BYTES_DEFAULT_MAX;
        assert_eq!(frame_length(&[], max), Ok(None));
        assert_eq!(frame_length(&[0, 0, 0], max), Ok(None));
        assert_eq!(frame_length(&[0, 0, 0, 0], max), Ok(Some(4)));
        assert_eq!(frame_length(&[0, 0, 0, 8, 1], max), Ok(Some(12)));
        assert_eq!(frame_length(&[0, 0x0f, 0xff, 0xff], max), Ok(Some(max + 4)));
        assert_eq!(
            frame_length(&[0, 0x10, 0, 0], max),
            Err(FrameError::TooLong { bytes: 0x10_0000, limit: max })
        );
        assert_eq!(frame_length(&[0xff; 4], max), Err(FrameError::Negative(-1)));
        assert_eq!(frame_length(&[0x80, 0, 0, 0], max), Err(FrameError::Negative(i32::MIN)));
    }

    /// A four-letter word read as a length is over any legal limit, so the two can't be confused.
    #[test]
    fn a_four_letter_word_is_no_legal_length() {
        assert!(matches!(frame_length(b"ruok", 64 << 20), Err(FrameError::TooLong { .. })));
    }
}
