//! Files as they must not be: truncated, zero-filled, swapped, duplicated, another cluster's, a newer version's. What
//! does opening the log say, and what the audit?

use super::cases::{forge, last, reopen, short, strict, zero};
use super::*;
use std::ops::ControlFlow;

const U: usize = UNIT;

/// Segments 1 to 3, sealed up to the third; records 1, 2 | 3, 4 | 5, 6.
fn three() -> Bench {
    let mut b = short(2);
    for n in [3, 5] {
        b.roll(b"c");
        b.put(vec![(n, false, 100)]);
        b.put(vec![(n + 1, false, 100)]);
    }
    b
}

fn audited(b: &Bench) -> Audit {
    audit(&b.disk, &b.cfg, &mut |_| ControlFlow::Continue(())).unwrap()
}

/// What the audit says a start would be refused for, as texts.
fn refusals(b: &Bench) -> Vec<String> {
    audited(b).refusals.iter().map(ToString::to_string).collect()
}

#[test]
fn case_s_swapped_files_are_refused_by_name() {
    let mut b = three();
    let (one, two) = (b.disk.bytes_mut(1).unwrap().clone(), b.disk.bytes_mut(2).unwrap().clone());
    b.disk.put(1, two);
    b.disk.put(2, one);
    let e = reopen(&b).unwrap_err();
    assert!(matches!(e, WalError::Misplaced { segment: 1, found: 2 }), "{e}");
    assert!(e.to_string().contains("wal-0000000001.seg holds segment 2"), "{e}");
    let said = refusals(&b);
    assert_eq!(said.len(), 2, "each of them: {said:?}");
    assert!(said[1].contains("wal-0000000002.seg holds segment 1"), "{said:?}");
}

#[test]
fn case_s_a_duplicate_is_refused_by_name_wherever_it_lies() {
    for copy in [1, 2, 4, 9] {
        let mut b = three();
        let three = b.disk.bytes_mut(3).unwrap().clone();
        b.disk.put(copy, three);
        let e = reopen(&b).unwrap_err();
        assert!(matches!(e, WalError::Misplaced { segment, found: 3 } if segment == copy), "{copy}: {e}");
        assert!(refusals(&b)[0].contains("holds segment 3"), "{copy}");
    }
}

/// The last file is cut anywhere: what was there and is gone is noticed, even where nothing behind it says so.
#[test]
fn case_t_a_last_file_cut_off_within_its_blocks_is_damage() {
    let whole = three().disk.bytes_mut(3).unwrap().len();
    let end = 3 * U; // checkpoint, and two groups of a block
    for cut in (U..whole).step_by(U / 2) {
        let mut b = three();
        b.disk.bytes_mut(3).unwrap().truncate(cut);
        let (r, _) = reopen(&b).unwrap();
        let found = audited(&b);
        assert_eq!(found.damage, r.damage, "cut at {cut}");
        if cut < end + U {
            assert!(
                r.damage.iter().any(|d| d.segment == 3 && d.why.contains("cut off")),
                "cut at {cut}: {r:?}"
            );
            strict(&mut b);
            let e = reopen(&b).unwrap_err();
            assert!(
                matches!(e, WalError::Damaged { segment: 3, .. }) && e.to_string().contains("cut off"),
                "{e}"
            );
        } else {
            assert_eq!((Bench::keys(&r.tail), r.damage), (vec![5, 6], vec![]), "only zeros went, at {cut}");
        }
    }
}

#[test]
fn case_t_a_block_larger_than_a_unit_that_goes_beyond_its_file_is_damage() {
    let mut b = short(1);
    b.put(vec![(2, false, 3 * U)]);
    b.disk.bytes_mut(1).unwrap().truncate(4 * U);
    let (r, _) = reopen(&b).unwrap();
    assert_eq!((Bench::keys(&r.tail), r.damage[0].why), (vec![1], "the file is cut off"));
    // Written short, but with the file whole, it is a torn write.
    let mut b = short(1);
    b.put(vec![(2, false, 3 * U)]);
    zero(&mut b, 1, 4 * U, 12 * U);
    assert_eq!(reopen(&b).unwrap().0.damage, []);
}

#[test]
fn a_truncated_file_between_others_is_damage() {
    for cut in [0, U, 2 * U + 100, 15 * U] {
        let mut b = three();
        b.disk.bytes_mut(2).unwrap().truncate(cut);
        let (r, _) = reopen(&b).unwrap();
        assert!(r.damage.iter().any(|d| d.segment == 2), "cut at {cut}: {:?}", r.damage);
        assert!(audited(&b).damage.iter().any(|d| d.segment == 2), "cut at {cut}");
        strict(&mut b);
        assert!(matches!(reopen(&b), Err(WalError::Damaged { segment: 2, .. })), "cut at {cut}");
    }
}

#[test]
fn a_zero_filled_file_between_others_is_damage() {
    for segment in [1, 2] {
        let mut b = three();
        let len = b.disk.bytes_mut(segment).unwrap().len();
        zero(&mut b, segment, 0, len);
        let found = audited(&b);
        assert!(found.damage.iter().any(|d| d.segment == segment), "{segment}: {found:?}");
        strict(&mut b);
        assert!(matches!(reopen(&b), Err(WalError::Damaged { .. })), "{segment}");
    }
}

#[test]
fn case_b_c_d_foreign_and_newer_files_are_named_each() {
    let mut b = three();
    forge(&mut b, 1, 0, |h| h[8] ^= 1);
    forge(&mut b, 2, 0, |h| h[24] ^= 1);
    forge(&mut b, 3, 0, |h| h[4] = 9);
    let found = audited(&b).refusals;
    assert!(matches!(found[0], WalError::Cluster { segment: 1, .. }), "{found:?}");
    assert!(matches!(found[1], WalError::Node { segment: 2, found: 2, .. }), "{found:?}");
    assert!(matches!(found[2], WalError::Version { segment: 3, found: 9, .. }), "{found:?}");
    assert!(matches!(reopen(&b), Err(WalError::Cluster { segment: 1, .. })));
    // Behind our own blocks.
    let mut b = three();
    let at = last(&mut b, 3);
    forge(&mut b, 3, at, |h| h[4] = 9);
    assert!(matches!(audited(&b).refusals[..], [WalError::Version { segment: 3, .. }]));
    assert!(matches!(reopen(&b), Err(WalError::Version { segment: 3, .. })));
}
