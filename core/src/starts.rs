//! Which number does a start of a slot take? One above all that its earlier starts had, and none of those, though its disk
//! lost what says so: by that number orderers and peers tell what this life says from what an earlier one said, whose
//! promises were others.
//!
//! - **Kept twice.** The newest start is told by the blocks of its write-ahead log, and by a small file beside that, written
//!   before the log says anything. Either may rot: bytes that change at the very end of a log can't be told from a write
//!   that was cut short (`wal/table.rs`), so the log alone may forget that a start ever was, which others have heard of.
//! - **Not dense.** How far it goes on is drawn at random. So where both are lost, or an older copy of the whole directory is
//!   put in place, the number is another than the one that was taken before from the same point on. It may be a
//!   lower one: then the orderers refuse it, and the next start takes a higher one.

/// The most that a number is beyond the one before. Large enough that two draws hardly ever meet, small enough to be read.
pub const STEP_MAX: u64 = 1 << 20;
/// No start has a higher one; a file that says so is not believed.
const NUMBER_MAX: u64 = 1 << 61;

/// The number of a start: `next` follows all that the log tells, `kept` is what the file says, if it can be read.
pub fn number(next: u64, kept: Option<u64>, random: u64) -> u64 {
    next.max(kept.map_or(1, |newest| newest + 1)) + random % STEP_MAX
}

/// What the file holds while start `number` is the newest.
pub fn to_file(number: u64) -> String {
    let text = number.to_string();
    format!("{text} {:08x}\n", crc32c::crc32c(text.as_bytes()))
}

/// The number in such a file, if it is whole.
pub fn from_file(bytes: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let number = text.split(' ').next()?.parse().ok().filter(|n| (1..=NUMBER_MAX).contains(n))?;
    (to_file(number) == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_above_what_log_and_file_say_whichever_says_more() {
        for random in [0, 1, STEP_MAX - 1, STEP_MAX, u64::MAX] {
            for (next, kept) in [(1, None), (8, None), (8, Some(7)), (8, Some(3)), (5, Some(7))] {
                let start = number(next, kept, random);
                assert!(start >= next && kept.is_none_or(|k| start > k), "{start} behind {next}, {kept:?}");
                assert!(start < 8 + STEP_MAX);
            }
        }
    }

    #[test]
    fn two_draws_from_the_same_point_differ() {
        let mut rng = crate::rng::Rng::new(3, "draws");
        let mut drawn: Vec<u64> = (0..100).map(|_| number(8, Some(7), rng.next_u64())).collect();
        drawn.sort_unstable();
        drawn.dedup();
        assert!(drawn.len() > 98, "{} of 100", drawn.len());
    }

    #[test]
    fn a_file_that_is_damaged_anywhere_says_nothing() {
        for number in [1, 7, 48_211, NUMBER_MAX] {
            let file = to_file(number).into_bytes();
            assert_eq!(from_file(&file), Some(number));
            for bit in 0..file.len() * 8 {
                let mut bad = file.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(from_file(&bad), None, "bit {bit}");
            }
            (0..file.len()).for_each(|len| assert_eq!(from_file(&file[..len]), None, "{len} bytes"));
        }
        for odd in ["", "0 00000000\n", "+7 5a7c1c2b\n", " ", "7", "18446744073709551615 ffffffff\n"] {
            assert_eq!(from_file(odd.as_bytes()), None, "{odd:?}");
        }
        assert_eq!(from_file(to_file(NUMBER_MAX + 1).as_bytes()), None);
    }
}
