//! How do binary records travel through a pipe? Each behind its length, 4 bytes little-endian.

use std::io::{self, BufRead, ErrorKind};
use zoolog_core::limits::RECORD_BYTES_MAX;

/// Bytes of the length.
const LENGTH_BYTES: usize = 4;

/// Appends a record's frame to `out`.
pub fn write(record: &[u8], out: &mut Vec<u8>) {
    let len = u32::try_from(record.len()).expect("records are bounded far below");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(record);
}

/// Reads the next record into `record`, whose old content is lost. Whether there was one: `false` at an end between
/// two frames.
///
/// # Errors
/// When reading fails, and, with kind `InvalidData`, when the bytes end within a frame or announce more than a record
/// may have. What was read of it is lost then.
pub fn read(input: &mut impl BufRead, record: &mut Vec<u8>) -> io::Result<bool> {
    if input.fill_buf()?.is_empty() {
        return Ok(false);
    }
    let mut len = [0; LENGTH_BYTES];
    exactly(input, &mut len)?;
    let len = u32::from_le_bytes(len) as usize;
    if len > RECORD_BYTES_MAX {
        let text = format!("a length of {len} bytes is announced, a record has at most {RECORD_BYTES_MAX}");
        return Err(io::Error::new(ErrorKind::InvalidData, text));
    }
    record.clear();
    record.resize(len, 0);
    exactly(input, record)?;
    Ok(true)
}

fn exactly(input: &mut impl BufRead, buf: &mut [u8]) -> io::Result<()> {
    input.read_exact(buf).map_err(|e| match e.kind() {
        ErrorKind::UnexpectedEof => io::Error::new(ErrorKind::InvalidData, "the input ends within a frame"),
        _ => e,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::BufReader;

    /// All records in `bytes`, read through a buffer of `buffer` bytes, and how it ended.
    fn all(bytes: &[u8], buffer: usize) -> (Vec<Vec<u8>>, io::Result<()>) {
        let mut input = BufReader::with_capacity(buffer, bytes);
        let (mut records, mut record) = (Vec::new(), vec![7; 9]);
        loop {
            match read(&mut input, &mut record) {
                Ok(true) => records.push(record.clone()),
                Ok(false) => return (records, Ok(())),
                Err(e) => return (records, Err(e)),
            }
        }
    }

    fn written(records: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        records.iter().for_each(|r| write(r, &mut bytes));
        bytes
    }

    fn records() -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20)
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_however_it_is_cut(records in records(), buffer in 1usize..80) {
            let (found, end) = all(&written(&records), buffer);
            prop_assert_eq!(found, records);
            prop_assert!(end.is_ok());
        }

        #[test]
        fn a_cut_off_input_gives_whole_records_and_then_an_error(
            records in records(), buffer in 1usize..80, cut in any::<prop::sample::Index>(),
        ) {
            let bytes = written(&records);
            let cut = cut.index(bytes.len() + 1);
            let (found, end) = all(&bytes[..cut], buffer);
            prop_assert_eq!(&found[..], &records[..found.len()]);
            let whole = written(&records[..found.len()]).len();
            prop_assert_eq!(end.is_ok(), whole == cut, "an error unless it was cut between two records");
            prop_assert!(found.len() == records.len() || cut < whole + LENGTH_BYTES + records[found.len()].len());
        }

        #[test]
        fn garbage_never_panics_or_allocates_without_bound(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let (found, end) = all(&bytes, 16);
            prop_assert!(written(&found).len() <= bytes.len());
            prop_assert_eq!(end.is_ok(), written(&found) == bytes);
        }
    }

    #[test]
    fn a_length_beyond_all_records_is_refused_before_it_is_allocated() {
        let (_, end) = all(&u32::MAX.to_le_bytes(), 16);
        let e = end.unwrap_err();
        assert!(e.kind() == ErrorKind::InvalidData && e.to_string().contains("4294967295"), "{e}");
    }
}
