//! The embedded log: held against a model through random lives with crashes; its bounds, ends and errors one by one.

mod bad_input;
mod bench;
mod seal;

use bench::{Bench, tiny};
use bytes::Bytes;
use zoolog_client::{
    AppendError, Committed, LocalConfig, LogCommand, LogEvent, ReadEnd, RequestId, SharedLog, TrimError,
    Trimmed,
};
use zoolog_core::rng::Rng;
use zoolog_core::wire::DiskRoom;
use zoolog_core::{Gsn, Input};

fn record(n: u64, len: usize) -> Bytes {
    let mut b = n.to_le_bytes().to_vec();
    b.resize(len.max(8), n as u8);
    b.into()
}

fn append(b: &mut Bench, from: u64, n: u64, len: usize) {
    for i in from..from + n {
        b.log.append(&record(i, len)).unwrap();
    }
    b.turn(None);
}

/// Appends so many, each in a batch of its own, durably.
fn fill(b: &mut Bench, from: u64, n: u64, len: usize) {
    for i in from..from + n {
        append(b, i, 1, len);
        b.settle();
    }
}

fn delivered(events: &mut std::collections::VecDeque<LogEvent>) -> Vec<Committed> {
    let all = std::mem::take(events);
    all.into_iter().filter_map(|e| if let LogEvent::Committed(c) = e { Some(c) } else { None }).collect()
}

fn read(b: &mut Bench, from: u64, to: u64, max_bytes: usize) -> (Vec<(u64, Bytes)>, u64, ReadEnd) {
    let want = b.log.read(Gsn(from), Gsn(to), max_bytes);
    b.settle();
    let done = b.events.iter().find_map(|e| match e {
        LogEvent::ReadDone { request, batches, covers, end } if *request == want => {
            let records = batches.iter().flat_map(Committed::records);
            Some((records.map(|(gsn, _, bytes)| (gsn.0, bytes)).collect(), covers.0, *end))
        }
        _ => None,
    });
    done.expect("a read is answered")
}

/// What the log should hold: the record at each position, and what of it is certain.
struct Model {
    all: Vec<Bytes>,
    durable: u64,
    trim: u64,
    /// Where the subscription is.
    next: u64,
}

impl Model {
    fn look(&mut self, b: &mut Bench) {
        for event in std::mem::take(&mut b.events) {
            match event {
                LogEvent::Appended { first_gsn, count, .. } => {
                    assert_eq!(first_gsn.0, self.durable, "in order, none left out");
                    self.durable += u64::from(count);
                }
                LogEvent::Committed(c) => {
                    assert_eq!(c.from().0, self.next, "each once");
                    assert!(c.end().0 <= b.log.durable().0, "nobody sees what may be lost");
                    self.holds(&c);
                    self.next = c.end().0;
                }
                LogEvent::Gap { from, until } => {
                    assert_eq!(from.0, self.next);
                    assert!(until.0 > self.next && until.0 <= b.log.trimmed().0);
                    self.next = until.0;
                    b.log.subscribe(until);
                }
                LogEvent::ReadDone { batches, covers, end, .. } => {
                    let mut at = batches.first().map_or(covers.0, |c| c.from().0);
                    for c in &batches {
                        assert_eq!(c.from().0, at);
                        self.holds(c);
                        at = c.end().0;
                    }
                    assert_eq!(at, covers.0);
                    assert!(end != ReadEnd::Unavailable);
                }
                LogEvent::Tail { gsn, .. } => assert!(gsn.0 >= self.durable),
                LogEvent::TrimDone { result: Ok(done), .. } => self.trim = self.trim.max(done.trim.0),
                LogEvent::TrimDone { result: Err(TrimError::HeldBack { .. }), .. } => {}
                LogEvent::Progress { .. } | LogEvent::Ready { .. } => {}
                other => panic!("{other:?} is not called for"),
            }
        }
        assert!(b.log.trimmed().0 >= self.trim);
    }

    fn holds(&self, c: &Committed) {
        for (gsn, _, bytes) in c.records() {
            assert_eq!(bytes, self.all[gsn.0 as usize], "at {gsn}");
        }
    }
}

/// LOG-1, LOG-2, LOG-4: through crashes at any time each position keeps its record, none that was told of is lost,
/// and what comes back beyond is what was appended, in order.
#[test]
fn random_lives_lose_nothing_that_was_told() {
    let (mut crashes, mut extra, mut rolls, mut loaded) = (0, 0, 0, 0);
    for seed in 0..150 {
        let mut rng = Rng::new(seed, "local");
        let mut b = Bench::new(tiny());
        let mut model = Model { all: Vec::new(), durable: 0, trim: 0, next: 0 };
        b.log.subscribe(Gsn(0));
        for _ in 0..400 {
            match rng.below(20) {
                0..=7 => {
                    for _ in 0..rng.between(1, 6) {
                        let r = record(model.all.len() as u64, rng.between(8, 700) as usize);
                        match b.log.append(&r) {
                            Ok(_) => model.all.push(r),
                            Err(e) => assert_eq!(e, AppendError::Full),
                        }
                    }
                    b.turn(None);
                }
                8..=12 => drop(b.sync()),
                13..=14 => drop(b.load()),
                15 => {
                    let from = rng.below(model.all.len() as u64 + 3);
                    b.log.read(Gsn(from), Gsn(from + rng.below(40)), rng.between(1, 4000) as usize);
                    b.turn(None);
                }
                16 => drop(b.log.tail()),
                17 => {
                    let upto = model.durable.min(model.next).saturating_sub(rng.below(30));
                    if rng.chance(30) {
                        b.log.trim(Gsn(upto));
                    } else {
                        b.log.release(Gsn(upto));
                    }
                    b.turn(None);
                }
                18 => {
                    let from = rng.below(model.durable + 1);
                    b.log.subscribe(Gsn(from));
                    model.next = from;
                    b.events.retain(|e| !matches!(e, LogEvent::Committed(_) | LogEvent::Gap { .. }));
                    b.turn(None);
                }
                _ => {
                    model.look(&mut b);
                    (rolls, loaded) = (rolls + b.rolls, loaded + b.loaded);
                    crashes += 1;
                    b = b.crash(tiny(), &mut rng);
                    let tail = b.log.durable().0;
                    assert!((model.durable..=model.all.len() as u64).contains(&tail), "seed {seed}");
                    extra += tail - model.durable;
                    model.all.truncate(tail as usize);
                    model.durable = tail;
                    assert!(b.log.trimmed().0 >= model.trim, "what is trimmed stays trimmed");
                    model.next = rng.below(tail + 1);
                    b.log.subscribe(Gsn(model.next));
                }
            }
            model.look(&mut b);
        }
        for _ in 0..3 {
            b.settle();
            model.look(&mut b); // a gap makes it subscribe anew
        }
        assert_eq!(
            (model.next, model.durable),
            (model.all.len() as u64, model.all.len() as u64),
            "seed {seed}"
        );
    }
    assert!(
        crashes > 1000 && extra > 100 && rolls > 500 && loaded > 1000,
        "{crashes} {extra} {rolls} {loaded}"
    );
}

#[test]
fn reads_end_as_they_should() {
    let mut b = Bench::new(tiny());
    fill(&mut b, 0, 60, 100);
    let all = |from: u64, to: u64| (from..to).map(|i| (i, record(i, 100))).collect::<Vec<_>>();
    assert_eq!(read(&mut b, 3, 50, usize::MAX), (all(3, 50), 50, ReadEnd::Complete));
    assert_eq!(read(&mut b, 50, 90, usize::MAX), (all(50, 60), 60, ReadEnd::NotYet));
    assert_eq!(read(&mut b, 60, 60, 1), (vec![], 60, ReadEnd::Complete));
    assert_eq!(read(&mut b, 4, 3, 1), (vec![], 4, ReadEnd::Invalid));
    assert_eq!(read(&mut b, 4, 5, 0), (vec![], 4, ReadEnd::Invalid));
    assert_eq!(read(&mut b, u64::MAX, u64::MAX, 1).2, ReadEnd::Complete);
    let (got, covers, end) = read(&mut b, 10, 50, 300);
    assert!(end == ReadEnd::More && covers > 10 && covers < 50 && got == all(10, covers));
    let before = b.log.trim(Gsn(20));
    b.settle();
    let done = LogEvent::TrimDone { request: before, result: Ok(Trimmed { before: Gsn(0), trim: Gsn(20) }) };
    assert!(b.events.contains(&done));
    assert_eq!(read(&mut b, 19, 50, usize::MAX), (vec![], 20, ReadEnd::Trimmed));
    assert_eq!(read(&mut b, 20, 22, usize::MAX), (all(20, 22), 22, ReadEnd::Complete));
}

/// A batch is part of a range, and of the subscription, as far as it lies in it.
#[test]
fn a_range_begins_and_ends_within_batches() {
    let mut b = Bench::new(tiny());
    append(&mut b, 0, 10, 20);
    b.settle();
    assert_eq!(read(&mut b, 3, 7, usize::MAX).0.iter().map(|r| r.0).collect::<Vec<_>>(), [3, 4, 5, 6]);
    b.events.clear();
    b.log.subscribe(Gsn(4));
    b.settle();
    let [c] = &delivered(&mut b.events)[..] else { panic!("one batch") };
    assert_eq!((c.from(), c.end(), c.own), (Gsn(4), Gsn(10), true));
}

#[test]
fn nothing_is_told_before_it_is_durable() {
    let mut b = Bench::new(tiny());
    b.log.subscribe(Gsn(0));
    append(&mut b, 0, 2, 20);
    let request = b.log.tail();
    b.turn(None);
    let told = |e: &LogEvent| matches!(e, LogEvent::Appended { .. } | LogEvent::Committed(_));
    assert!(!b.events.iter().any(told));
    assert!(b.events.contains(&LogEvent::Tail { request, gsn: Gsn(0) }));
    assert_eq!(read(&mut Bench::new(tiny()), 0, 2, 9).2, ReadEnd::NotYet);
    b.sync();
    assert_eq!(b.events.iter().filter(|e| told(e)).count(), 2);
    assert_eq!(b.log.pending_batches(), 0);
}

#[test]
fn a_full_window_refuses_and_then_takes_again() {
    let mut b = Bench::new(LocalConfig { window_batches: 2, ..tiny() });
    let mut taken = 0;
    let refused = loop {
        match b.log.append(&record(taken, 100 << 10)) {
            Ok(_) => taken += 1,
            Err(e) => break e,
        }
        assert!(taken < 100);
        b.turn(None);
    };
    assert!(refused == AppendError::Full && refused.is_retryable() && !b.log.has_room());
    b.settle();
    assert!(b.log.has_room());
    b.log.append(&record(taken, 100)).unwrap();
    b.settle();
    assert_eq!(b.log.durable(), Gsn(taken + 1));
    let long = vec![0; zoolog_core::limits::RECORD_BYTES_MAX + 1];
    assert!(matches!(b.log.append(&long), Err(AppendError::TooLong { .. })));
    let command = LogCommand::Append { records: vec![record(0, 8), long.into(), record(1, 8)] };
    b.turn(Some(Input::Command(command)));
    assert!(b.events.iter().any(|e| matches!(e, LogEvent::AppendFailed { first: 1, .. })));
    b.settle();
    assert_eq!(
        b.log.durable(),
        Gsn(taken + 2),
        "what was before the refused one is in, what was behind is not"
    );
}

#[test]
fn trims_are_held_back_and_bounded_by_the_tail() {
    let mut b = Bench::new(tiny());
    fill(&mut b, 0, 10, 50);
    let mut ask = |gsn| {
        let want = b.log.trim(Gsn(gsn));
        b.settle();
        let is = |e: &LogEvent| match e {
            LogEvent::TrimDone { request, result } if *request == want => Some(result.clone()),
            _ => None,
        };
        b.events.iter().find_map(is).expect("answered")
    };
    assert_eq!(ask(11), Err(TrimError::BeyondTail { tail: Gsn(10) }));
    assert_eq!(ask(4), Ok(Trimmed { before: Gsn(0), trim: Gsn(4) }));
    assert_eq!(ask(2), Ok(Trimmed { before: Gsn(4), trim: Gsn(4) }));
    b.log.release(Gsn(6));
    let ask = b.log.trim(Gsn(7));
    b.settle();
    let held = Err(TrimError::HeldBack { consumer: "its owner".into(), at: Gsn(6) });
    assert!(b.events.contains(&LogEvent::TrimDone { request: ask, result: held }));
}

/// What the owner has released is given back to the disk, and is not there any more after a restart either.
#[test]
fn released_segments_go() {
    let mut b = Bench::new(tiny());
    fill(&mut b, 0, 600, 500);
    let before = b.segments();
    assert!(before > 150, "{before}");
    b.log.release(Gsn(590));
    b.settle();
    fill(&mut b, 600, 60, 500);
    assert!(b.segments() < 30, "{} of {before} are left", b.segments());
    let trim = b.log.trimmed();
    assert!(trim == Gsn(590));
    b.log.subscribe(Gsn(0));
    b.settle();
    assert!(b.events.contains(&LogEvent::Gap { from: Gsn(0), until: trim }));
    let mut b = b.crash(tiny(), &mut Rng::new(1, "x"));
    assert_eq!((b.log.trimmed(), b.log.durable()), (trim, Gsn(660)));
    assert_eq!(read(&mut b, 590, 660, usize::MAX).0.len(), 70);
}

#[test]
fn a_log_may_begin_behind_another() {
    let cfg = LocalConfig { base: Gsn(1000), ..tiny() };
    let mut b = Bench::new(cfg.clone());
    b.settle();
    assert_eq!((b.log.base_gsn(), b.log.durable()), (Gsn(1000), Gsn(1000)));
    assert_eq!(read(&mut b, 0, 2000, 9).2, ReadEnd::Trimmed);
    // Its settings may be forgotten then: the log knows.
    let mut b = b.crash(tiny(), &mut Rng::new(1, "x"));
    assert_eq!((b.log.base_gsn(), b.log.durable()), (Gsn(1000), Gsn(1000)));
    fill(&mut b, 0, 100, 500);
    assert!(b.rolls > 0);
    let b = b.crash(tiny(), &mut Rng::new(2, "x"));
    assert_eq!((b.log.base_gsn(), b.log.durable()), (Gsn(1000), Gsn(1100)));
}

/// LOG-4: what can't be read is waited for, not skipped, and said.
#[test]
fn a_disk_that_fails_to_read_stops_the_subscription_until_it_works() {
    let mut b = Bench::new(tiny());
    fill(&mut b, 0, 60, 100);
    b.events.clear();
    b.unreadable = true;
    b.log.subscribe(Gsn(0));
    b.settle();
    assert!(b.events.iter().any(|e| matches!(e, LogEvent::Stalled { .. })), "{:?}", b.events);
    assert!(delivered(&mut b.events).is_empty());
    assert_eq!(read(&mut b, 0, 5, 9000).2, ReadEnd::Unavailable);
    b.unreadable = false;
    for _ in 0..3 {
        let (at, _) = zoolog_core::Machine::next_deadline(&b.log).unwrap_or((b.now, ""));
        b.now = b.now.max(at);
        b.turn(Some(Input::Timer));
        b.settle();
    }
    assert!(b.events.iter().any(|e| matches!(e, LogEvent::Resumed { .. })));
    assert_eq!(delivered(&mut b.events).last().map(|c| c.end()), Some(Gsn(60)));
    assert_eq!(read(&mut b, 0, 60, usize::MAX).0.len(), 60);
}

#[test]
fn a_disk_that_is_low_takes_only_what_is_vital() {
    let mut b = Bench::new(tiny());
    b.turn(Some(Input::DiskSpace { room: DiskRoom::Low, free_bytes: 1 }));
    assert!(b.events.contains(&LogEvent::Room { room: DiskRoom::Low }));
    assert_eq!(b.log.append(b"x"), Err(AppendError::DiskFull));
    b.log.append_vital(b"y").unwrap();
    b.turn(Some(Input::DiskSpace { room: DiskRoom::Ample, free_bytes: 1 }));
    b.log.append(b"x").unwrap();
    b.settle();
    assert_eq!(b.log.durable(), Gsn(2));
}

#[test]
fn many_reads_are_all_answered() {
    let mut b = Bench::new(tiny());
    fill(&mut b, 0, 50, 100);
    b.events.clear();
    let asked: Vec<RequestId> = (0..100).map(|i| b.log.read(Gsn(i % 50), Gsn(50), usize::MAX)).collect();
    b.settle();
    let done = |want: &RequestId| {
        b.events.iter().any(
            |e| matches!(e, LogEvent::ReadDone { request, end: ReadEnd::Complete, .. } if request == want),
        )
    };
    assert!(asked.iter().all(done));
}
