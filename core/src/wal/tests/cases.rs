//! Every case of the decision table, by name.

use super::super::block::{BLOCK_HEADER_BYTES, BlockKind, Header, Opened};
use super::super::table::{Later, There, Verdict, judge};
use super::*;
use std::collections::BTreeSet;

const U: usize = UNIT;

/// The headers of a segment, good or not, by offset.
fn headers(b: &mut Bench, segment: u32) -> Vec<Header> {
    let cfg = b.cfg.clone();
    let bytes = b.disk.bytes_mut(segment).unwrap();
    (0..bytes.len() / U)
        .filter_map(|u| match Header::read(&bytes[u * U..], segment, (u * U) as u32, &cfg) {
            Opened::Header(h) => Some(h),
            _ => None,
        })
        .collect()
}

/// Offset of the last block of a segment.
pub(super) fn last(b: &mut Bench, segment: u32) -> usize {
    headers(b, segment).last().unwrap().offset as usize
}

pub(super) fn flip(b: &mut Bench, segment: u32, at: usize) {
    b.disk.bytes_mut(segment).unwrap()[at] ^= 0x40;
}

pub(super) fn zero(b: &mut Bench, segment: u32, at: usize, len: usize) {
    b.disk.bytes_mut(segment).unwrap()[at..at + len].fill(0);
}

/// Changes a good header and makes its checksum right again.
pub(super) fn forge(b: &mut Bench, segment: u32, at: usize, change: impl FnOnce(&mut [u8])) {
    let header = &mut b.disk.bytes_mut(segment).unwrap()[at..at + BLOCK_HEADER_BYTES];
    change(header);
    let crc = crc32c::crc32c(&header[..92]);
    header[92..].copy_from_slice(&crc.to_le_bytes());
}

pub(super) fn reopen(b: &Bench) -> Result<(Recovered, Wal), WalError> {
    recover(&b.disk, &b.cfg)
}

/// Segment 1: open at 0, records 1..=n at 1..=n, each a group of one block.
pub(super) fn short(n: u64) -> Bench {
    let mut b = Bench::new(small());
    (1..=n).for_each(|k| b.put(vec![(k, false, 100)]));
    b
}

pub(super) fn strict(b: &mut Bench) {
    b.cfg.on_damage = OnDamage::Refuse;
}

#[test]
fn the_table_is_complete_and_every_line_is_reached() {
    use There::*;
    let all = [Follows, Cluster, Node, Newer, Nothing, Stale, Wrong, BadHeader, BadContent];
    let mut reached = BTreeSet::new();
    for there in all {
        for sealed in [false, true] {
            for continues in [false, true] {
                for later in [Later::Nothing, Later::Unproven, Later::Proof] {
                    let (case, verdict) = judge(there, sealed, continues, later);
                    reached.insert(case);
                    let foreign = matches!(there, Cluster | Node | Newer);
                    assert_eq!(verdict == Verdict::Take, there == Follows);
                    assert_eq!(verdict == Verdict::Refuse, foreign);
                    let decided = there == Follows || foreign;
                    assert_eq!(verdict == Verdict::NextSegment, !decided && (sealed || continues));
                    let open = !decided && !sealed && !continues;
                    assert_eq!(verdict == Verdict::Damage, open && later == Later::Proof);
                    assert_eq!(
                        verdict == Verdict::Clean,
                        open && later == Later::Nothing && matches!(there, Nothing | Stale)
                    );
                }
            }
        }
    }
    assert_eq!(reached.len(), 13, "{reached:?}");
    let doc = include_str!("../table.rs");
    for case in reached {
        assert!(doc.contains(&format!("//! | {case:?} |")), "case {case:?} is not in the doc's table");
    }
}

#[test]
fn case_a_h_a_clean_end_gives_everything_back() {
    let b = short(3);
    let (r, _) = reopen(&b).unwrap();
    assert_eq!((Bench::keys(&r.tail), r.incarnation, r.end), (vec![1, 2, 3], 2, (1, 4 * U as u32, Case::H)));
    assert!(r.damage.is_empty() && r.checkpoint.is_none() && r.sealed.is_empty());
    assert_eq!(
        r.tail.iter().map(|e| e.pos).collect::<Vec<_>>(),
        b.done.iter().map(|d| d.1).collect::<Vec<_>>()
    );
}

#[test]
fn case_a_a_log_that_was_reopened_goes_on() {
    let mut b = short(2);
    for k in 3..6 {
        b = b.reopen();
        assert_eq!(b.recovered.incarnation, k - 1);
        b.put(vec![(k, false, 100)]);
    }
    assert_eq!(b.reopen().tail(), [1, 2, 3, 4, 5]);
}

#[test]
fn case_b_another_clusters_file_is_refused_by_name() {
    let b = short(1);
    let other = WalConfig { cluster: ClusterId(8), ..b.cfg.clone() };
    let e = recover(&b.disk, &other).unwrap_err();
    assert!(matches!(e, WalError::Cluster { segment: 1, found: ClusterId(7), ours: ClusterId(8) }));
    assert!(e.to_string().contains("wal-0000000001.seg") && e.to_string().contains("data directory"), "{e}");
}

#[test]
fn case_b_one_foreign_file_among_ours_is_refused() {
    let mut b = short(1);
    let mut other = Bench::new(WalConfig { cluster: ClusterId(8), ..small() });
    other.put(vec![(1, false, 1)]);
    b.disk.put(2, other.disk.bytes_mut(1).unwrap().clone());
    assert!(matches!(reopen(&b), Err(WalError::Cluster { segment: 2, .. })));
}

#[test]
fn case_c_another_nodes_file_is_refused() {
    let b = short(1);
    let e = recover(&b.disk, &WalConfig { node: 4, ..b.cfg.clone() }).unwrap_err();
    assert!(matches!(e, WalError::Node { segment: 1, found: 3, ours: 4 }), "{e}");
}

#[test]
fn case_d_a_newer_version_is_refused_at_the_start_and_behind_our_own_blocks() {
    for block in [0, 3] {
        let mut b = short(3);
        forge(&mut b, 1, block * U, |h| h[4] = 2);
        let e = reopen(&b).unwrap_err();
        let at = (block * U) as u32;
        assert!(
            matches!(e, WalError::Version { segment: 1, offset, found: 2, ours: 1 } if offset == at),
            "{e}"
        );
        assert!(e.to_string().contains("newer build"));
    }
}

#[test]
fn case_e_a_sealed_segment_leads_to_the_next() {
    let mut b = short(2);
    b.roll(b"c");
    b.put(vec![(3, false, 1)]);
    let (r, _) = reopen(&b).unwrap();
    assert_eq!((Bench::keys(&r.sealed), Bench::keys(&r.tail), r.damage), (vec![1, 2], vec![3], vec![]));
    assert_eq!(r.end.2, Case::H);
}

#[test]
fn case_e_a_crash_between_seal_and_checkpoint_goes_on_in_the_next_segment() {
    let mut b = short(2);
    b.wal.start_segment(Bytes::from_static(b"lost"));
    let seal = b.wal.group().unwrap();
    b.write(&seal);
    b.finish(seal);
    let mut b = b.reopen();
    assert_eq!((b.tail(), b.recovered.checkpoint.is_none()), (vec![1, 2], true));
    assert!(b.wal.wants_checkpoint(), "there is none in this segment");
    b.put(vec![(3, false, 1)]);
    assert_eq!(b.done[0].1.segment, 2);
    assert_eq!(b.reopen().tail(), [1, 2, 3]);
}

#[test]
fn case_f_a_full_segment_is_left_unsealed_when_even_an_open_does_not_fit() {
    let mut b = short(1);
    for opens in 2..60 {
        b = b.reopen();
        assert_eq!((b.recovered.incarnation, b.tail()), (opens, vec![1]));
    }
    let segments = b.disk.segments().unwrap().len();
    assert!(segments > 3, "an open is one unit: {segments}");
    b.put(vec![(2, false, 1)]);
    b.roll(b"c");
    let b = b.reopen();
    assert_eq!((Bench::keys(&b.recovered.sealed), b.recovered.damage.len()), (vec![1, 2], 0));
}

#[test]
fn case_g_a_bad_block_below_synced_through_is_damage() {
    for (at, why) in [(2 * U + 40, "a block's header"), (2 * U + 140, "a block's content")] {
        let mut b = short(4);
        flip(&mut b, 1, at);
        let (r, _) = reopen(&b).unwrap();
        assert_eq!(Bench::keys(&r.tail), [1, 3, 4]);
        assert_eq!(r.damage, [Damage { segment: 1, offset: 2 * U as u32, bytes: U as u32, why }]);
        strict(&mut b);
        let e = reopen(&b).unwrap_err();
        assert!(matches!(e, WalError::Damaged { segment: 1, .. }) && e.to_string().contains("new id"), "{e}");
    }
}

#[test]
fn case_g_the_log_goes_on_after_damage_and_stays_readable() {
    let mut b = short(4);
    flip(&mut b, 1, 2 * U + 140);
    let mut b = b.reopen();
    b.put(vec![(5, false, 1)]);
    let b = b.reopen();
    assert_eq!((b.tail(), b.recovered.damage.len()), (vec![1, 3, 4, 5], 1));
}

#[test]
fn case_g_zeros_where_blocks_were_are_damage() {
    let mut b = short(5);
    zero(&mut b, 1, 2 * U, 2 * U);
    let (r, _) = reopen(&b).unwrap();
    assert_eq!(Bench::keys(&r.tail), [1, 4, 5]);
    assert_eq!((r.damage[0].offset, r.damage[0].bytes), (2 * U as u32, 2 * U as u32));
}

#[test]
fn case_g_damage_over_a_segments_end_is_reported_per_segment() {
    let mut b = short(2);
    b.roll(b"c");
    (3..6).for_each(|k| b.put(vec![(k, false, 1)]));
    zero(&mut b, 1, 2 * U, 14 * U);
    zero(&mut b, 2, 0, 2 * U);
    let (r, _) = reopen(&b).unwrap();
    assert_eq!(Bench::keys(&r.tail), [1, 4, 5]);
    let places: Vec<_> =
        r.damage.iter().map(|d| (d.segment, d.offset / U as u32, d.bytes / U as u32)).collect();
    assert_eq!(places, [(1, 2, 14), (2, 0, 2)]);
}

#[test]
fn case_g_rot_in_the_last_acknowledged_group_is_known_after_the_idle_block() {
    let mut b = short(2);
    let plan = b.wal.idle_block().unwrap();
    b.write(&plan);
    b.finish(plan);
    flip(&mut b, 1, 2 * U + 140);
    let (r, _) = reopen(&b).unwrap();
    assert_eq!((Bench::keys(&r.tail), r.damage.len()), (vec![1], 1));
    strict(&mut b);
    assert!(matches!(reopen(&b), Err(WalError::Damaged { .. })));
}

#[test]
fn case_m_rot_in_the_last_acknowledged_group_can_not_be_told_from_a_torn_write_before() {
    let mut b = short(2);
    flip(&mut b, 1, 2 * U + 140);
    strict(&mut b);
    let (r, _) = reopen(&b).unwrap();
    assert_eq!((Bench::keys(&r.tail), r.end), (vec![1], (1, 2 * U as u32, Case::M)));
}

#[test]
fn case_g_rot_in_the_open_is_known_once_a_group_follows() {
    let mut b = short(2).reopen();
    b.put(vec![(3, false, 1)]);
    flip(&mut b, 1, 3 * U + 50);
    let (r, wal) = reopen(&b).unwrap();
    assert_eq!((Bench::keys(&r.tail), r.damage.len()), (vec![1, 2, 3], 1));
    assert_eq!((r.incarnation, wal.incarnation()), (3, 3), "the lost open's number is not used again");
}

#[test]
fn case_h_an_empty_directory_and_an_empty_file_are_new_logs() {
    for size in [None, Some(0), Some(100), Some(16 * U)] {
        let mut disk = MemoryDisk::new();
        if let Some(size) = size {
            disk.put(1, vec![0; size]);
        }
        let mut b = Bench::on(small(), disk).unwrap();
        assert_eq!((b.recovered.incarnation, b.recovered.end.2), (1, Case::H));
        assert_eq!(b.disk.bytes_mut(1).unwrap().len(), 16 * U, "made anew if it was too short");
        b.put(vec![(1, false, 1)]);
        assert_eq!(b.reopen().tail(), [1]);
    }
}

#[test]
fn case_h_a_zero_filled_next_segment_is_used_as_it_is() {
    let mut b = short(2);
    b.segments();
    let (_, wal) = reopen(&b).unwrap();
    assert_eq!(wal.wants_segment(), None);
    b.disk.put(2, vec![]);
    let (_, wal) = reopen(&b).unwrap();
    assert_eq!(wal.wants_segment(), Some((2, 32 * U as u32)), "an empty one is not");
}

/// Segment 1 with one record, then an unsynced group of 64 blocks, records 10..74 of one unit each.
fn group_of_64() -> Bench {
    let mut b = Bench::new(WalConfig { first_segment_bytes: 128 * U as u32, ..small() });
    b.put(vec![(1, false, 100)]);
    let plan = b.put_unsynced((10..74).map(|k| (k, false, U - 96 - 32)).collect());
    assert_eq!((plan.blocks(), plan.len), (64, 64 * U));
    b
}

/// Blocks of the group that are torn in every way; the others in one.
const EDGES: [usize; 4] = [0, 1, 62, 63];

#[test]
fn case_i_l_m_a_torn_group_of_64_blocks_keeps_its_prefix_only() {
    for torn in 0..64usize {
        for how in 0..3 {
            if !EDGES.contains(&torn) && torn % 3 != how {
                continue;
            }
            let mut b = group_of_64();
            let at = (2 + torn) * U;
            match how {
                0 => zero(&mut b, 1, at, U),
                1 => flip(&mut b, 1, at + 30),
                _ => flip(&mut b, 1, at + 2000),
            }
            strict(&mut b);
            let mut b = b.reopen();
            let kept: Vec<u64> = [1].into_iter().chain(10..10 + torn as u64).collect();
            assert_eq!(b.tail(), kept, "block {torn}, torn in way {how}");
            let last = torn == 63;
            let case = [if last { Case::H } else { Case::I }, Case::L, Case::M][how];
            assert_eq!(b.recovered.end, (1, at as u32, case));
            // What lies behind is never followed, though its sequence may be the next.
            b.put(vec![(100, false, 1)]);
            let b = b.reopen();
            assert_eq!(b.tail(), [kept, vec![100]].concat());
            assert_eq!(b.recovered.incarnation, 3);
        }
    }
}

#[test]
fn a_group_of_64_blocks_that_arrived_whole_is_kept_whole() {
    assert_eq!(group_of_64().reopen().tail().len(), 65);
}

#[test]
fn case_l_a_torn_header_ends_the_log() {
    let mut b = short(3);
    flip(&mut b, 1, 3 * U + 10);
    let mut b = b.reopen();
    assert_eq!((b.tail(), b.recovered.end.2), (vec![1, 2], Case::L));
    b.put(vec![(4, false, 1)]);
    assert_eq!(b.reopen().tail(), [1, 2, 4]);
}

#[test]
fn case_i_a_good_block_above_synced_through_does_not_make_damage() {
    let mut b = short(1);
    let plan = b.put_unsynced(vec![(2, false, U), (3, false, U), (4, false, U)]);
    assert!(plan.blocks() >= 3);
    let first = plan.offset as usize;
    zero(&mut b, 1, first, U);
    strict(&mut b);
    let (r, _) = reopen(&b).unwrap();
    assert_eq!((Bench::keys(&r.tail), r.end), (vec![1], (1, first as u32, Case::I)));
}

#[test]
fn case_i_an_open_that_outlives_what_it_was_written_behind_is_no_proof() {
    // The process dies before its group is synced, the next one finds it and opens the log behind it; then
    // the power goes, and of both writes only the open was on its way to the disk.
    let mut b = short(1);
    let group = b.put_unsynced(vec![(2, false, 1)]);
    let (_, mut wal) = reopen(&b).unwrap();
    let open = wal.group().unwrap();
    b.write(&open);
    zero(&mut b, 1, group.offset as usize, group.len);
    strict(&mut b);
    let (r, _) = reopen(&b).unwrap();
    assert_eq!((Bench::keys(&r.tail), r.end.2), (vec![1], Case::I));
    assert_eq!(r.incarnation, 3, "greater than any that was ever written");
}

#[test]
fn case_j_stale_blocks_behind_a_rewritten_tail_are_never_followed() {
    // Incarnation 1 leaves good blocks behind a torn one; 2 writes over the torn one only.
    let mut b = group_of_64();
    zero(&mut b, 1, 2 * U, U);
    let b = b.reopen();
    let (r, _) = reopen(&b).unwrap();
    assert_eq!((Bench::keys(&r.tail), r.end), (vec![1], (1, 3 * U as u32, Case::J)));
    // The stale block has the sequence that would be next, and is still not taken by any later open.
    let mut b = b.reopen();
    b.put(vec![(2, false, 1)]);
    let b = b.reopen();
    assert_eq!((b.tail(), b.recovered.incarnation), (vec![1, 2], 4));
}

#[test]
fn case_j_a_torn_open_over_stale_blocks_is_written_again() {
    let mut b = group_of_64();
    zero(&mut b, 1, 2 * U, U);
    let (_, mut wal) = reopen(&b).unwrap();
    let open = wal.group().unwrap();
    b.write(&open);
    flip(&mut b, 1, 2 * U + 20);
    let b = b.reopen();
    assert_eq!(b.tail(), [1]);
    assert_eq!(b.reopen().tail(), [1]);
}

#[test]
fn case_k_a_wrong_sequence_ends_the_log_or_is_damage_if_synced() {
    let mut b = short(3);
    // The last block claims a later place in the log, which nothing behind it confirms.
    let seq = headers(&mut b, 1)[3].sequence;
    forge(&mut b, 1, 3 * U, |h| {
        h[40..48].copy_from_slice(&(seq + 1).to_le_bytes());
        h[56..64].copy_from_slice(&0u64.to_le_bytes());
    });
    let (r, _) = reopen(&b).unwrap();
    assert_eq!((Bench::keys(&r.tail), r.end.2), (vec![1, 2], Case::K));
    // A sequence that was there before.
    forge(&mut b, 1, 3 * U, |h| h[40..48].copy_from_slice(&(seq - 1).to_le_bytes()));
    assert_eq!(reopen(&b).unwrap().0.end.2, Case::K);
    // It says itself that the missing one was synced: something is lost between.
    forge(&mut b, 1, 3 * U, |h| {
        h[40..48].copy_from_slice(&(seq + 1).to_le_bytes());
        h[48..56].copy_from_slice(&9u64.to_le_bytes());
        h[56..64].copy_from_slice(&8u64.to_le_bytes());
    });
    let (r, _) = reopen(&b).unwrap();
    assert_eq!((Bench::keys(&r.tail), r.damage.len()), (vec![1, 2, 3], 1));
    strict(&mut b);
    assert!(matches!(reopen(&b), Err(WalError::Damaged { .. })));
}

#[test]
fn case_k_a_block_copied_to_another_place_is_not_taken() {
    let mut b = short(2);
    let bytes = b.disk.bytes_mut(1).unwrap();
    bytes.copy_within(U..2 * U, 3 * U);
    let (r, _) = reopen(&b).unwrap();
    assert_eq!((Bench::keys(&r.tail), r.end.2), (vec![1, 2], Case::L));
}

#[test]
fn case_n_a_segment_missing_in_the_middle_is_refused() {
    let mut b = short(1);
    b.roll(b"a");
    b.roll(b"b");
    b.disk.delete(2);
    let e = reopen(&b).unwrap_err();
    assert!(
        matches!(e, WalError::Missing { segment: 2 }) && e.to_string().contains("wal-0000000002.seg"),
        "{e}"
    );
}

#[test]
fn case_n_released_segments_are_not_missed() {
    let mut b = short(1);
    b.roll(b"a");
    b.wal.release(3);
    b.roll(b"b");
    b.put(vec![(2, false, 1)]);
    b.wal.release(3).into_iter().for_each(|n| b.disk.delete(n));
    let b = b.reopen();
    assert_eq!((b.recovered.sealed.len(), b.tail()), (0, vec![2]));
}

/// A release that a crash cut short may have deleted any of its segments: what is left is ignored, and goes with
/// the next release.
#[test]
fn case_n_whatever_a_release_cut_short_has_left_is_ignored() {
    let released = || {
        let mut b = short(1);
        (2..6).for_each(|n| {
            b.roll(&[n as u8]);
            b.put(vec![(n, true, 1)]);
        });
        assert!(b.wal.release(5).is_empty());
        b.roll(b"newest");
        b.put(vec![(9, false, 1)]);
        assert_eq!(b.wal.release(5), [1, 2, 3, 4]);
        b
    };
    for deleted in 0..16u32 {
        let mut b = released();
        let (gone, left): (Vec<u32>, Vec<u32>) = (1..5).partition(|n| deleted >> (n - 1) & 1 == 1);
        gone.iter().for_each(|n| b.disk.delete(*n));
        let mut b = b.reopen();
        assert_eq!((Bench::keys(&b.recovered.sealed), b.tail()), (vec![5], vec![9]), "without {gone:?}");
        assert!(b.recovered.damage.is_empty());
        assert_eq!(b.wal.release(0), left, "without {gone:?}");
        left.iter().for_each(|n| b.disk.delete(*n));
        b.put(vec![(10, false, 1)]);
        assert_eq!(b.reopen().tail(), [9, 10]);
    }
    let mut b = released();
    b.roll(b"one more");
    b.disk.delete(6);
    assert!(matches!(reopen(&b), Err(WalError::Missing { segment: 6 })), "that one is needed");
}

/// The newest checkpoint rots after a release that it allowed: the one before is used, though what that one still
/// counted on is gone.
#[test]
fn case_p_an_older_checkpoint_is_used_though_more_was_released_since() {
    let mut b = short(1);
    (2..5).for_each(|n| {
        b.roll(&[n as u8]);
        b.put(vec![(n, true, 1)]);
    });
    b.wal.release(4);
    b.roll(b"newest");
    assert_eq!(b.wal.release(4), [1, 2, 3]);
    (1..4).for_each(|n| b.disk.delete(n));
    b.put(vec![(9, false, 1)]);
    flip(&mut b, 5, 100);
    let (r, _) = reopen(&b).unwrap();
    assert_eq!((r.checkpoint.as_deref(), Bench::keys(&r.sealed)), (Some(&[4u8][..]), vec![]));
    assert_eq!(Bench::keys(&r.tail), [4, 9]);
}

/// So it is when a release took all that it could.
#[test]
fn case_p_the_newest_checkpoint_rots_and_all_before_it_was_released() {
    let mut b = short(1);
    b.roll(b"older");
    b.put(vec![(2, false, 1)]);
    b.wal.release(3);
    b.roll(b"newest");
    b.wal.release(3).into_iter().for_each(|n| b.disk.delete(n));
    b.put(vec![(3, false, 1)]);
    flip(&mut b, 3, 100);
    let mut b = b.reopen();
    assert_eq!(b.recovered.checkpoint.as_deref(), Some(&b"older"[..]));
    assert_eq!((b.recovered.checkpoint_in, b.tail(), b.recovered.damage.len()), (Some(2), vec![2, 3], 1));
    b.put(vec![(4, false, 1)]);
    assert_eq!(b.reopen().tail(), [2, 3, 4]);
}

/// So it is when the release that it allowed was cut short, whatever is left; but what lies between the older one and the
/// end must be there, and all of it if every checkpoint is.
#[test]
fn case_n_what_a_checkpoint_that_rots_had_released_is_not_missed() {
    let released = || {
        let mut b = short(1);
        (2..6).for_each(|n| {
            b.roll(&[n as u8]);
            b.put(vec![(n, true, 1)]);
        });
        b.wal.release(5);
        b.roll(b"newest");
        b.put(vec![(9, false, 1)]);
        assert_eq!(b.wal.release(5), [1, 2, 3, 4]);
        b
    };
    for deleted in 0..16u32 {
        let mut b = released();
        (1..5).filter(|n| deleted >> (n - 1) & 1 == 1).for_each(|n| b.disk.delete(n));
        flip(&mut b, 6, 100);
        let dense_from =
            (1..5).rev().find(|n| deleted >> (n - 1) & 1 == 1).map_or(1, |n: u32| u64::from(n) + 1);
        let mut b = b.reopen();
        assert_eq!(b.recovered.checkpoint_in, Some(5), "{deleted:b}");
        assert_eq!(Bench::keys(&b.recovered.sealed), (dense_from..5).collect::<Vec<_>>());
        assert_eq!((b.tail(), b.recovered.damage.len()), (vec![5, 9], 1), "{deleted:b}");
        // What is left may go, and nobody asks for it again once there is another checkpoint.
        let left: Vec<u32> = (1..5).filter(|n| deleted >> (n - 1) & 1 == 0).collect();
        let (kept, gone): (Vec<u32>, Vec<u32>) = left.into_iter().partition(|n| u64::from(*n) >= dense_from);
        assert_eq!(b.wal.release(0), gone, "{deleted:b}");
        b.roll(b"again");
        assert!(b.wal.release(0).is_empty());
        let b = b.reopen();
        assert_eq!(Bench::keys(&b.recovered.sealed).len(), kept.len() + 2, "{deleted:b}");
    }
    let mut b = released();
    b.roll(b"one more");
    b.disk.delete(6);
    flip(&mut b, 7, 100);
    assert!(matches!(reopen(&b), Err(WalError::Missing { segment: 6 })), "that one is needed");
}

#[test]
fn case_o_without_any_readable_checkpoint_a_trimmed_log_is_refused() {
    let mut b = short(1);
    b.roll(b"a");
    b.wal.release(2);
    b.roll(b"b");
    b.put(vec![(2, false, 1)]);
    b.wal.release(2).into_iter().for_each(|n| b.disk.delete(n));
    flip(&mut b, 2, 100);
    assert!(reopen(&b).is_ok());
    flip(&mut b, 3, 100);
    assert!(matches!(reopen(&b), Err(WalError::NoCheckpoint { first: 2 })));
}

#[test]
fn case_p_a_torn_checkpoint_at_a_roll_falls_back_to_the_one_before() {
    let mut b = short(1);
    b.roll(b"first");
    b.put(vec![(2, false, 1)]);
    b.wal.start_segment(data(1, 3 * U));
    let seal = b.wal.group().unwrap();
    b.write(&seal);
    b.finish(seal);
    b.segments();
    let torn = b.wal.group().unwrap();
    b.write(&torn);
    flip(&mut b, 3, 2 * U);
    strict(&mut b);
    let mut b = b.reopen();
    assert_eq!(b.recovered.checkpoint.as_deref(), Some(&b"first"[..]));
    assert_eq!((Bench::keys(&b.recovered.sealed), b.tail()), (vec![1], vec![2]));
    assert!(b.wal.wants_checkpoint());
    assert!(b.wal.release(3).is_empty(), "the checkpoint that counts, in segment 2, does not say so");
    b.put(vec![(3, false, 1)]);
    assert_eq!((b.done[0].1.segment, b.reopen().tail()), (3, vec![2, 3]));
}

#[test]
fn case_p_a_checkpoint_that_rots_is_damage_and_the_one_before_is_used() {
    let mut b = short(1);
    b.roll(b"first");
    b.put(vec![(2, false, 1)]);
    b.roll(b"second");
    b.put(vec![(3, false, 1)]);
    flip(&mut b, 3, 130);
    let (r, _) = reopen(&b).unwrap();
    assert_eq!(r.checkpoint.as_deref(), Some(&b"first"[..]));
    assert_eq!((Bench::keys(&r.sealed), Bench::keys(&r.tail)), (vec![1], vec![2, 3]));
    assert_eq!((r.damage[0].segment, r.damage[0].offset), (3, 0));
    strict(&mut b);
    assert!(matches!(reopen(&b), Err(WalError::Damaged { segment: 3, .. })));
}

#[test]
fn case_q_a_sealed_segment_without_its_index_is_read_block_by_block() {
    let mut b = short(3);
    b.put(vec![(4, true, 50)]);
    b.roll(b"c");
    let at = last(&mut b, 1);
    flip(&mut b, 1, at + 200);
    let (r, _) = reopen(&b).unwrap();
    assert_eq!(Bench::keys(&r.sealed), [1, 2, 3, 4]);
    assert_eq!(r.sealed.iter().map(|e| e.data.is_some()).collect::<Vec<_>>(), [false, false, false, true]);
    assert_eq!((r.damage.len(), r.damage[0].segment), (1, 1));
    strict(&mut b);
    assert!(matches!(reopen(&b), Err(WalError::Damaged { segment: 1, .. })));
}

#[test]
fn case_q_a_torn_seal_is_written_again() {
    let mut b = short(3);
    b.wal.start_segment(Bytes::from_static(b"c"));
    let seal = b.wal.group().unwrap();
    assert_eq!(seal.offset as usize + seal.len, 16 * U, "the index ends where the segment ends");
    b.write(&seal);
    flip(&mut b, 1, seal.offset as usize + 120);
    strict(&mut b);
    let mut b = b.reopen();
    assert_eq!((b.tail(), b.recovered.end.1), (vec![1, 2, 3], 4 * U as u32));
    b.put(vec![(4, false, 1)]);
    b.roll(b"c");
    let b = b.reopen();
    assert_eq!((Bench::keys(&b.recovered.sealed), b.recovered.damage.len()), (vec![1, 2, 3, 4], 0));
}

#[test]
fn case_q_the_index_that_a_reopened_log_writes_has_the_records_from_before() {
    let mut b = short(3).reopen().reopen();
    b.put(vec![(4, true, 9)]);
    b.roll(b"c");
    let b = b.reopen();
    assert_eq!(Bench::keys(&b.recovered.sealed), [1, 2, 3, 4]);
    assert_eq!(b.recovered.sealed[3].data, Some(data(4, 9)));
}

#[test]
fn case_r_a_file_without_any_block_is_refused() {
    let mut disk = MemoryDisk::new();
    disk.put(1, vec![0x5a; 16 * U]);
    assert!(matches!(recover(&disk, &small()), Err(WalError::Unreadable { segment: 1 })));
}

#[test]
fn case_l_a_first_open_that_was_torn_is_a_new_log() {
    let mut disk = MemoryDisk::new();
    let mut bytes = vec![0; 16 * U];
    bytes[..200].fill(0x5a);
    disk.put(1, bytes);
    let b = Bench::on(small(), disk).unwrap();
    assert_eq!((b.recovered.incarnation, b.recovered.end.2), (1, Case::L));
}

#[test]
fn case_e_an_older_copy_of_a_segment_is_noticed() {
    let mut b = short(1);
    let early = b.disk.bytes_mut(1).unwrap().clone();
    b.put(vec![(2, false, 1)]);
    b.roll(b"c");
    b.put(vec![(3, false, 1)]);
    b.disk.put(1, early);
    let (r, _) = reopen(&b).unwrap();
    assert_eq!((Bench::keys(&r.sealed), Bench::keys(&r.tail), r.damage.len()), (vec![1], vec![3], 1));
    strict(&mut b);
    assert!(matches!(reopen(&b), Err(WalError::Damaged { .. })));
}

#[test]
fn a_file_cut_off_in_the_middle_is_damage_of_what_is_missing() {
    let mut b = short(4);
    b.roll(b"c");
    b.disk.bytes_mut(1).unwrap().truncate(3 * U + 100);
    let (r, _) = reopen(&b).unwrap();
    assert_eq!((Bench::keys(&r.sealed), r.damage.len()), (vec![1, 2], 1));
}

#[test]
fn lengths_from_the_disk_are_not_believed() {
    let mut b = short(2);
    forge(&mut b, 1, 2 * U, |h| h[72..76].copy_from_slice(&(0xffff_f000u32).to_le_bytes()));
    let (r, _) = reopen(&b).unwrap();
    assert_eq!((Bench::keys(&r.tail), r.end.2), (vec![1], Case::M));
    assert_eq!(headers(&mut b, 1)[0].kind, BlockKind::Open);
}
