//! What a check of finished segments finds: nothing in what is whole, and every byte that changed.

use super::super::scrub::{SegmentCheck, Step};
use super::super::{Damage, MemoryDisk, UNIT, WalSource};
use super::{Bench, small};
use crate::rng::Rng;

/// Checks a segment as a shell would, and how much was read.
fn check(disk: &MemoryDisk, segment: u32, window: u32) -> (Vec<Damage>, usize) {
    let size = disk.segments().unwrap().iter().find(|s| s.0 == segment).unwrap().1 as u32;
    let (mut check, mut found, mut read) = (SegmentCheck::new(segment, size, window), Vec::new(), 0);
    for _ in 0..10_000 {
        let Step::Read { offset, bytes } = check.step() else { return (found, read) };
        let piece = disk.read_range(segment, offset.into(), bytes as usize).unwrap();
        read += piece.len();
        check.take(&piece);
        found.extend(check.found());
    }
    panic!("it never ends");
}

/// A log of many segments, with records of all lengths, reopened now and then.
fn written(seed: u64) -> Bench {
    let mut rng = Rng::new(seed, "scrub");
    let mut bench = Bench::new(small());
    for key in 0..150 {
        let len = if rng.chance(10) { rng.below(30_000) } else { rng.below(900) } as usize;
        bench.append(vec![(key, key % 7 == 0, len)]);
        bench.run();
        if rng.chance(4) {
            bench = Bench::on(small(), bench.disk.clone()).unwrap();
        }
    }
    bench
}

#[test]
fn a_whole_segment_has_nothing_to_report_however_it_is_read() {
    for seed in 1..6 {
        let bench = written(seed);
        let segments = bench.disk.segments().unwrap();
        assert!(segments.len() > 4);
        for (segment, _) in &segments {
            for window in [1, 5 * UNIT as u32, 1 << 20] {
                assert_eq!(
                    check(&bench.disk, *segment, window).0,
                    vec![],
                    "segment {segment} of seed {seed}"
                );
            }
        }
    }
}

#[test]
fn every_changed_byte_of_a_sealed_segment_is_found_where_it_is() {
    let bench = written(7);
    let sealed: Vec<(u32, u64)> = bench.disk.segments().unwrap();
    let mut rng = Rng::new(8, "flips");
    let (mut met, mut unused) = (0, 0);
    for _ in 0..400 {
        let (segment, bytes) = sealed[rng.below(sealed.len() as u64 - 2) as usize];
        let at = rng.below(bytes) as usize;
        let mut disk = bench.disk.clone();
        let was = disk.bytes_mut(segment).unwrap()[at];
        disk.bytes_mut(segment).unwrap()[at] ^= 1 << rng.below(8);
        let window = rng.between(1, 1 << 18) as u32;
        let (found, read) = check(&disk, segment, window);
        assert!(read <= 3 * bytes as usize + UNIT, "{read} bytes read of a segment of {bytes}");
        let covers = |d: &Damage| (d.offset..d.offset + d.bytes).contains(&(at as u32));
        match found.iter().any(covers) {
            true => met += 1,
            // Zeros behind what was written, in a block or behind the last: nobody reads them.
            false => {
                assert_eq!(was, 0, "a byte that was written, at {at} of segment {segment}: {found:?}");
                unused += 1;
            }
        }
    }
    assert!(met > 100 && unused > 0, "{met} met, {unused} not");
}

#[test]
fn a_file_that_is_too_short_or_gone_ends_the_check() {
    let bench = written(9);
    let (segment, bytes) = bench.disk.segments().unwrap()[1];
    for left in [0, 100, 4096, 20_000, 8 * 4096] {
        let (mut check, mut found) = (SegmentCheck::new(segment, bytes as u32, 1 << 16), Vec::new());
        for _ in 0..1000 {
            let Step::Read { offset, bytes } = check.step() else { break };
            let piece = bench.disk.read_range(segment, offset.into(), bytes as usize).unwrap();
            let upto = u64::saturating_sub(left, offset.into()).min(piece.len() as u64);
            check.take(&piece[..upto as usize]);
            found.extend(check.found());
        }
        assert_eq!(check.step(), Step::Done, "with {left} bytes left");
        assert!(!found.is_empty(), "its end was an index, and is gone");
    }
}
