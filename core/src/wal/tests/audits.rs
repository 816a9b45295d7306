//! Does the audit see all that is there, once, and what is not?

use super::cases::{flip, last, short, zero};
use super::*;
use crate::wal::block::BlockKind;
use std::ops::ControlFlow;

/// What came by: keys of the records, blocks, damage, keys of lost records.
#[derive(Debug, Default, PartialEq)]
struct Tour {
    keys: Vec<u64>,
    blocks: Vec<(u32, u32)>,
    checkpoints: Vec<Bytes>,
    damage: Vec<Damage>,
    lost: Vec<u64>,
}

fn tour(b: &Bench) -> (Tour, Audit) {
    let mut t = Tour::default();
    let found = audit(&b.disk, &b.cfg, &mut |seen| {
        match seen {
            Seen::Block(h) => t.blocks.push((h.segment, h.offset)),
            Seen::Checkpoint(bytes) => t.checkpoints.push(bytes.clone()),
            Seen::Entry(e) => {
                assert_eq!(e.data.as_ref().map(Bytes::len), Some(e.pos.len as usize), "with its data");
                t.keys.push(e.key1);
            }
            Seen::Damage(d) => t.damage.push(d.clone()),
            Seen::Lost(e) => t.lost.push(e.key1),
        }
        ControlFlow::Continue(())
    });
    (t, found.unwrap())
}

/// Records 1..=4 in segment 1, 5..=8 in segment 2, reopened in between; 9 behind.
fn bench() -> Bench {
    let mut b = short(2).reopen();
    (3..5).for_each(|k| b.put(vec![(k, k == 4, 100)]));
    b.roll(b"first");
    (5..9).for_each(|k| b.put(vec![(k, false, 3000)]));
    b.roll(b"second");
    b.put(vec![(9, false, 1)]);
    b
}

#[test]
fn a_whole_log_is_seen_from_its_first_record_to_its_last() {
    let b = bench();
    let (t, found) = tour(&b);
    assert_eq!((t.keys, t.damage, t.lost), ((1..10).collect(), vec![], vec![]));
    assert_eq!(t.checkpoints, [&b"first"[..], b"second"]);
    assert!(t.blocks.is_sorted(), "in the order of the log");
    assert!(found.is_whole() && found.incarnation == 2);
    let recovered = recover(&b.disk, &b.cfg).unwrap().0;
    assert_eq!(found.end, Some(recovered.end), "as recovery sees it");
    let counts: Vec<_> = found.segments.iter().map(|s| (s.number, s.records)).collect();
    assert_eq!(counts, [(1, 4), (2, 4), (3, 1), (4, 0)], "and the one made ahead");
}

#[test]
fn an_empty_log_is_whole() {
    let b = Bench { disk: MemoryDisk::new(), ..short(0) };
    let (t, found) = tour(&b);
    assert!(found.is_whole() && t == Tour::default() && found.segments.is_empty());
}

#[test]
fn damage_in_a_sealed_segment_is_seen_though_no_start_would_read_it_and_its_records_are_named() {
    let mut b = bench();
    flip(&mut b, 2, 2 * UNIT + 300);
    let (t, found) = tour(&b);
    assert_eq!((t.keys, t.lost), (vec![1, 2, 3, 4, 5, 7, 8, 9], vec![6]));
    assert_eq!((t.damage.len(), found.damage.len(), found.damage[0].segment), (1, 1, 2));
    let sealed = recover(&b.disk, &b.cfg).unwrap().0;
    assert_eq!(sealed.damage, [], "the index hides it from a start");
}

#[test]
fn damage_over_several_segments_names_all_records_that_an_index_lists() {
    let mut b = bench();
    zero(&mut b, 1, 3 * UNIT, 5 * UNIT);
    zero(&mut b, 2, 0, 3 * UNIT);
    let (t, found) = tour(&b);
    assert_eq!((t.keys, t.lost), (vec![1, 2, 7, 8, 9], vec![3, 4, 5, 6]));
    assert!(!found.is_whole() && found.end.is_some());
}

#[test]
fn a_damaged_index_is_damage() {
    let mut b = bench();
    let at = last(&mut b, 1);
    flip(&mut b, 1, at + 200);
    let (t, found) = tour(&b);
    assert_eq!((t.keys, found.damage.len(), found.damage[0].segment), ((1..10).collect(), 1, 1));
}

#[test]
fn what_was_released_and_not_deleted_yet_is_no_finding() {
    let mut b = bench();
    b.wal.release(2);
    b.roll(b"third");
    b.put(vec![(10, false, 1)]);
    assert_eq!(b.wal.release(2), [1]);
    flip(&mut b, 1, 2 * UNIT + 140);
    let (t, found) = tour(&b);
    assert_eq!((t.keys, found.is_whole()), ((5..11).collect(), true));
    assert_eq!(
        found.segments.iter().map(|s| s.is_needed).collect::<Vec<_>>(),
        [false, true, true, true, true]
    );
}

#[test]
fn a_visitor_may_break_off() {
    let b = bench();
    let mut seen = 0;
    let found = audit(&b.disk, &b.cfg, &mut |s| match s {
        Seen::Block(h) if h.kind == BlockKind::Checkpoint => ControlFlow::Break(()),
        _ => {
            seen += 1;
            ControlFlow::Continue(())
        }
    });
    assert_eq!((found.unwrap().end, seen > 4), (None, true));
}
