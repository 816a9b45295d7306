//! Is everything noticed that must be noticed?

use super::super::super::append::AckedBatch;
use super::*;
use crate::sizes::Sizes;
use zoolog_core::batch::{BatchBuilder, PlacedBatch};
use zoolog_core::{Epoch, Incarnation};

const RUN: u32 = 9;
const SIZE: Sizes = Sizes::Fixed(40);

/// A log in the making.
#[derive(Default)]
struct Log {
    all: Vec<Committed>,
}

impl Log {
    /// Adds the batch `seq` of writer `w`, with its records `counters`, to `lane`.
    fn add(&mut self, w: u32, lane: u64, seq: u64, counters: std::ops::Range<u64>) {
        let mut payload = Payload::new(RUN, SIZE);
        let mut builder = BatchBuilder::new();
        for counter in counters.clone() {
            builder.push(payload.make(Origin { key: 0, writer: w, counter }));
        }
        let batch = builder.finish(BatchKind::Data, WriterId(u128::from(w)), Epoch(0), Seq(seq));
        let last = self.all.iter().rev().find(|c| c.placed.placement.lane == LaneId(lane));
        let (lsn, prev) = last.map_or((Lsn(0), 0), |c| (c.placed.end_lsn(), c.placed.placement.crc));
        let placed = PlacedBatch::place(LaneId(lane), Incarnation(1), lsn, prev, batch);
        let first_gsn = self.all.last().map_or(Gsn(0), Committed::end);
        let take = (counters.end - counters.start) as u32;
        let ordered_at = zoolog_core::Instant(0);
        self.all.push(Committed { first_gsn, placed, skip: 0, take, own: false, ordered_at });
    }

    /// A batch of writer `w` that lies nowhere.
    fn one(mut self, w: u32, counters: std::ops::Range<u64>) -> zoolog_core::batch::Batch {
        self.add(w, 0, 0, counters);
        self.all.remove(0).placed.batch
    }
}

fn right() -> Log {
    let mut log = Log::default();
    log.add(1, 0, 0, 1..3);
    log.add(2, 1, 0, 1..4);
    log.add(1, 0, 1, 3..6);
    log.add(1, 1, 2, 6..7);
    log
}

fn read(log: &[Committed]) -> Rules {
    let mut rules = Rules::new(Some(Payload::new(RUN, SIZE)));
    log.iter().for_each(|c| rules.committed(c));
    rules
}

/// The writers of `right` were acknowledged all but the last batch.
fn acked() -> Vec<(Acked, u64)> {
    let said =
        |first_gsn, first_counter, count| AckedBatch { first_gsn: Gsn(first_gsn), first_counter, count };
    let acked = |index: u32, batches| Acked { index, writer: WriterId(u128::from(index)), batches };
    vec![(acked(1, vec![said(0, 1, 2), said(5, 3, 3)]), 6), (acked(2, vec![said(2, 1, 3)]), 3)]
}

fn failed(log: &[Committed]) -> Vec<&'static str> {
    let mut rules = read(log);
    rules.judge(&acked());
    rules.into_checks().failed.into_keys().collect()
}

#[test]
fn a_log_as_promised_passes() {
    assert_eq!(failed(&right().all), [""; 0]);
}

#[test]
fn however_ranges_cut_the_batches_all_is_the_same() {
    let whole = right().all;
    for at in 1..8u64 {
        let mut parts = Vec::new();
        for c in &whole {
            let n = at.saturating_sub(c.first_gsn.0).min(u64::from(c.take)) as u32;
            if n > 0 {
                parts.push(Committed { take: n, ..c.clone() });
            }
            if n < c.take {
                parts.push(Committed { skip: n, take: c.take - n, ..c.clone() });
            }
        }
        assert_eq!(failed(&parts), [""; 0], "cut at {at}");
        assert_eq!(read(&whole).difference(&read(&parts)), None, "cut at {at}");
    }
}

#[test]
fn a_lost_batch_is_noticed() {
    for i in 0..3 {
        let mut log = right().all;
        log.remove(i);
        assert!(failed(&log).contains(&DENSE), "batch {i}");
    }
    let mut log = right().all;
    log.truncate(2);
    assert_eq!(failed(&log), [ALL_THERE]);
}

#[test]
fn a_batch_that_comes_twice_is_noticed() {
    let mut log = right();
    log.add(1, 1, 2, 6..7);
    let failed = failed(&log.all);
    assert!(failed.contains(&BATCHES) && failed.contains(&ORDER), "{failed:?}");
}

#[test]
fn batches_in_another_order_are_noticed() {
    let mut log = Log::default();
    log.add(1, 0, 1, 3..6);
    log.add(1, 0, 0, 1..3);
    let failed = failed(&log.all);
    assert!(failed.contains(&BATCHES) && failed.contains(&ORDER) && failed.contains(&PLACE), "{failed:?}");
}

#[test]
fn records_at_other_positions_than_acknowledged_are_noticed() {
    let mut log = Log::default();
    log.add(2, 1, 0, 1..4);
    log.add(1, 0, 0, 1..3);
    log.add(1, 0, 1, 3..6);
    assert_eq!(failed(&log.all), [PLACE]);
}

#[test]
fn what_nobody_wrote_is_noticed() {
    let mut log = right();
    log.add(3, 0, 0, 1..2);
    assert_eq!(failed(&log.all), [INVENTED]);
    let mut log = right();
    log.add(1, 1, 3, 7..8);
    assert_eq!(failed(&log.all), [INVENTED]);
}

#[test]
fn a_lane_with_a_hole_is_noticed() {
    let mut log = right().all;
    let batch = log[2].placed.batch.clone();
    log[2].placed = PlacedBatch::place(LaneId(0), Incarnation(1), Lsn(7), 1, batch);
    assert_eq!(failed(&log), [LANES]);
}

#[test]
fn a_writer_that_comes_back_is_noticed() {
    let mut log = right();
    log.add(1, 0, 3, 7..8);
    let mut acked = acked();
    acked[0].1 = 7;
    let mut rules = read(&log.all);
    rules.judge(&acked);
    assert_eq!(rules.into_checks().failed.into_keys().collect::<Vec<_>>(), [LEFT]);
}

#[test]
fn readers_that_differ_are_told_apart() {
    let mut other = right();
    other.all[1].placed.batch = Log::default().one(2, 5..8);
    assert_eq!(read(&right().all).difference(&read(&other.all)), Some((Gsn(0), Gsn(9))));
    let mut longer = right();
    longer.add(2, 1, 1, 4..5);
    assert!(read(&right().all).difference(&read(&longer.all)).is_some());
}
