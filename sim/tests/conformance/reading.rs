//! What is promised to who reads, and of what is forgotten?

use crate::suite::*;
use zoolog_client::{LogEvent, ReadEnd, TrimError, Trimmed};
use zoolog_core::Gsn;
use zoolog_core::rng::Rng;

/// A range is what was appended, up to where the answer says; and it says why it ends there.
pub fn reads_are_exact_and_say_where_they_end<H: Harness>() {
    let mut s = Suite::<H>::new(2);
    s.fill(0, 120, 50);
    assert_eq!(s.read(3, 50, usize::MAX), (records(3, 50, 50), Gsn(50), ReadEnd::Complete));
    assert_eq!(s.read(100, 200, usize::MAX), (records(100, 120, 50), Gsn(120), ReadEnd::NotYet));
    assert_eq!(s.read(120, 121, 1), (vec![], Gsn(120), ReadEnd::NotYet));
    assert_eq!(s.read(7, 7, 1), (vec![], Gsn(7), ReadEnd::Complete));
    assert_eq!(s.read(7, 6, 1).2, ReadEnd::Invalid);
    assert_eq!(s.read(7, 8, 0).2, ReadEnd::Invalid);
    let (some, covers, end) = s.read(10, 110, 300);
    assert!(end == ReadEnd::More && covers > Gsn(10) && covers < Gsn(110), "{end:?} {covers}");
    assert_eq!(some, records(10, covers.0, 50), "at least one batch");
    assert_eq!(s.read_all(0, 120), records(0, 120, 50));
}

/// From any position of the past to what is appended meanwhile, and later: each position once, whatever happens below.
pub fn a_subscription_goes_from_the_past_to_the_present<H: Harness>() {
    for seed in 0..4 {
        let mut s = Suite::<H>::new(30 + seed);
        s.fill(0, 200, 30);
        let from = s.rng.below(200);
        let since = s.subscribe(Gsn(from));
        let mut end = 200;
        for round in 0..6 {
            if round % 2 == 1 {
                let mut rng = s.rng.clone();
                s.h.disturb(&mut rng);
                s.rng = rng;
            }
            s.fill(end, 40, 30);
            end += 40;
        }
        let came = |events: &[LogEvent]| {
            let ends = |e: &LogEvent| matches!(e, LogEvent::Committed(c) if c.end() == Gsn(440));
            events[since..].iter().any(ends).then_some(())
        };
        s.until("all is delivered", came);
        assert_eq!(s.delivered(since, Gsn(from)), records(from, end, 30), "seed {seed}");
        // Another one replaces it.
        let again = s.subscribe(Gsn(430));
        s.until("the end again", |events| came(&[&events[..since], &events[again..]].concat()));
        assert_eq!(s.delivered(again, Gsn(430)), records(430, 440, 30));
    }
}

/// Every append that was acknowledged before the question lies before the answer, and can be read.
pub fn a_tail_lies_behind_all_that_was_acknowledged<H: Harness>() {
    let mut s = Suite::<H>::new(4);
    assert_eq!(s.tail(), Gsn(0), "of an empty log");
    for round in 0..20u64 {
        s.fill(round * 7, 7, 10);
        let tail = s.tail();
        assert_eq!(tail, Gsn((round + 1) * 7));
        assert_eq!(
            s.read(tail.0 - 1, tail.0, 1_000),
            (records(tail.0 - 1, tail.0, 10), tail, ReadEnd::Complete)
        );
    }
}

/// LOG-6: what is trimmed is answered as such, to reads and subscriptions, and the rest stays what it was.
pub fn a_trim_leaves_a_typed_gap<H: Harness>() {
    let mut s = Suite::<H>::new(5);
    s.fill(0, 100, 40);
    assert_eq!(s.trim(Gsn(101)), Err(TrimError::BeyondTail { tail: Gsn(100) }));
    assert_eq!(s.trim(Gsn(30)), Ok(Trimmed { before: Gsn(0), trim: Gsn(30) }));
    assert_eq!(s.trim(Gsn(20)), Ok(Trimmed { before: Gsn(30), trim: Gsn(30) }), "it never goes back");
    assert_eq!(s.read(10, 50, usize::MAX), (vec![], Gsn(30), ReadEnd::Trimmed));
    assert_eq!(s.read(30, 50, usize::MAX), (records(30, 50, 40), Gsn(50), ReadEnd::Complete));
    let since = s.subscribe(Gsn(10));
    let gap = s.until("a gap", |events| {
        events[since..].iter().find_map(|e| match e {
            LogEvent::Gap { from, until } => Some((*from, *until)),
            _ => None,
        })
    });
    assert_eq!(gap, (Gsn(10), Gsn(30)));
    assert_eq!(s.delivered(since, Gsn(10)), vec![], "nothing is made up");
    let since = s.subscribe(Gsn(30));
    s.until("the rest", |events| {
        let ends = |e: &LogEvent| matches!(e, LogEvent::Committed(c) if c.end() == Gsn(100));
        events[since..].iter().any(ends).then_some(())
    });
    assert_eq!(s.delivered(since, Gsn(30)), records(30, 100, 40));
    // It stays so.
    s.reopen();
    assert_eq!(s.read(10, 50, usize::MAX), (vec![], Gsn(30), ReadEnd::Trimmed));
    assert_eq!(s.tail(), Gsn(100));
}

/// LOG-6: nothing that the owner has not released is trimmed, by hand either; and what it has released may be.
pub fn what_its_owner_needs_is_not_trimmed<H: Harness>() {
    let mut s = Suite::<H> { h: H::new(9, true), rng: Rng::new(9, "suite"), events: Vec::new() };
    s.h.with(|log| log.release(Gsn(0)));
    s.fill(0, 100, 40);
    assert!(matches!(s.trim(Gsn(60)), Err(TrimError::HeldBack { at: Gsn(0), .. })));
    s.h.with(|log| log.release(Gsn(40)));
    // It is reported soon, and may then be trimmed by itself.
    let done = (0..STEPS).find_map(|_| {
        let events = s.h.step();
        s.events.extend(events);
        s.trim(Gsn(40)).ok()
    });
    assert_eq!(done.expect("it was released").trim, Gsn(40));
    let refused = s.trim(Gsn(60)).expect_err("it was not");
    assert!(matches!(refused, TrimError::HeldBack { at: Gsn(40), .. }), "{refused}");
    s.h.with(|log| log.release(Gsn(10)));
    assert_eq!(
        s.read(40, 100, usize::MAX),
        (records(40, 100, 40), Gsn(100), ReadEnd::Complete),
        "it never goes back"
    );
}
