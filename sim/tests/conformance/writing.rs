//! What is promised to who appends?

use crate::suite::*;
use bytes::Bytes;
use zoolog_client::{AppendError, LogEvent};
use zoolog_core::Gsn;
use zoolog_core::limits::RECORD_BYTES_MAX;

/// LOG-1, LOG-3: what one writer appends has positions in that order, those of a batch follow each other, and each is told once.
pub fn appends_have_dense_positions_in_order<H: Harness>() {
    let mut s = Suite::<H>::new(1);
    let positions = s.fill(0, 300, 20);
    assert_eq!(positions, (0..300).map(Gsn).collect::<Vec<_>>(), "there is no other writer");
    let mut next = Gsn(0);
    for (seq, (first, count)) in s.appended() {
        assert_eq!(first, next, "batch {seq}");
        assert!(count > 0);
        next = first.plus(u64::from(count));
    }
    assert_eq!(s.tail(), Gsn(300));
    assert_eq!(s.h.with(|log| (log.pending_batches(), log.base_gsn())), (0, Gsn(0)));
    assert!(s.h.with(|log| log.has_room()));
}

/// LOG-3: whatever breaks between writer and log, each batch that was taken is in the log once, in order, and acknowledged once.
pub fn appends_survive_disturbances_exactly_once<H: Harness>() {
    for seed in 0..4 {
        let mut s = Suite::<H>::new(60 + seed);
        let (mut places, mut n) = (Vec::new(), 0);
        let mut round = 0;
        // Longer if a pause took most of it: it is to test something.
        while round < 150 || n <= 200 {
            assert!(round < STEPS, "seed {seed}: it gets on");
            let taken = s.append(n, 3, 60);
            n += taken.len() as u64;
            places.extend(taken);
            let events = s.h.step();
            s.events.extend(events);
            if round % 25 == 12 && round < 150 {
                let mut rng = s.rng.clone();
                s.h.disturb(&mut rng);
                s.rng = rng;
            }
            round += 1;
        }
        let last = places.last().expect("some").0;
        s.until("all are acknowledged", |events| {
            events.iter().any(|e| matches!(e, LogEvent::Appended { seq, .. } if *seq == last)).then_some(())
        });
        let appended = s.appended();
        let positions: Vec<u64> =
            places.iter().map(|(seq, index)| appended[seq].0.plus(u64::from(*index)).0).collect();
        assert!(positions.is_sorted_by(|a, b| a < b), "seed {seed}: in order");
        let tail = s.tail();
        let all = s.read_all(0, tail.0);
        let numbers: Vec<Bytes> = all.iter().map(|(_, bytes)| bytes.clone()).collect();
        assert_eq!(
            numbers,
            records(0, n, 60).into_iter().map(|r| r.1).collect::<Vec<_>>(),
            "seed {seed}: once"
        );
        let at: Vec<u64> = all.iter().map(|(gsn, _)| *gsn).collect();
        assert_eq!(at, positions, "where it was said");
    }
}

/// LOG-2: who comes back finds all that was acknowledged, and goes on behind it; what was not is there as a whole batch or not at all.
pub fn what_was_acknowledged_outlives_its_writer<H: Harness>() {
    let mut s = Suite::<H>::new(7);
    let mut model: Vec<Bytes> = Vec::new();
    for life in 0..4u64 {
        let first = model.len() as u64;
        s.fill(first, 50, 25);
        model.extend(records(first, first + 50, 25).into_iter().map(|r| r.1));
        // Some are under way when it dies.
        let under_way = s.append(first + 50, 5, 25).len();
        s.reopen();
        let tail = s.tail().0;
        // What was handed to the log, and came in later than the question, may yet: so the model waits until all is settled.
        let marker = Bytes::from(record(1_000_000 + life, 0));
        s.h.with(|log| log.append(&marker)).expect("room");
        s.until("the marker", |events| {
            events.iter().any(|e| matches!(e, LogEvent::Appended { .. })).then_some(())
        });
        let now = s.tail().0;
        assert!(tail >= first + 50 && now > tail, "{tail} {now}");
        let found: Vec<Bytes> = s.read_all(first + 50, now).into_iter().map(|r| r.1).collect();
        let others: Vec<Bytes> = found.iter().filter(|r| **r != marker).cloned().collect();
        assert_eq!(found.len(), others.len() + 1, "the marker is there once");
        let late: Vec<Bytes> =
            records(first + 50, first + 50 + under_way as u64, 25).into_iter().map(|r| r.1).collect();
        assert!(others.is_empty() || others == late, "a batch is there whole, or not");
        model.extend(found);
        let all: Vec<Bytes> = s.read_all(0, now).into_iter().map(|r| r.1).collect();
        assert_eq!(all, model, "life {life}");
    }
}

/// What can't be taken is refused at once, and nothing of it is in the log.
pub fn refusals_leave_no_trace<H: Harness>() {
    let mut s = Suite::<H>::new(8);
    let long = vec![0; RECORD_BYTES_MAX + 1];
    let refused = s.h.with(|log| log.append(&long)).expect_err("too long");
    assert_eq!(refused, AppendError::TooLong { bytes: RECORD_BYTES_MAX + 1, limit: RECORD_BYTES_MAX });
    assert!(!refused.is_retryable());
    // Until the window is full, in one turn.
    let mut taken = 0;
    let refused = s.h.with(|log| {
        loop {
            match log.append(&record(taken, 100_000)) {
                Ok(_) => taken += 1,
                Err(e) => break e,
            }
            assert!(taken < 100_000, "there is an end to it");
        }
    });
    assert!(refused.is_retryable(), "{refused}");
    s.until("all that was taken is in", |events| {
        let counts = events.iter().map(|e| if let LogEvent::Appended { count, .. } = e { *count } else { 0 });
        (u64::from(counts.sum::<u32>()) == taken).then_some(())
    });
    s.fill(taken, 3, 10);
    assert_eq!(s.tail(), Gsn(taken + 3));
}
