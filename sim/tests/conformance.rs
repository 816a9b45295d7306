//! What does every log promise, whatever is below it? One suite, which each implementation of [`SharedLog`] runs: the embedded log on
//! a memory disk, and the client of the sharded log over the real orderers and slots in the simulator. Another implementation
//! needs a [`Harness`], and a line at the end.

#[path = "../../client/tests/local/bench.rs"]
mod disk;

use bytes::Bytes;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;
use zoolog_client::{
    AppendError, ChainLog, ClientConfig, Committed, LocalConfig, LocalLog, LogClient, LogEvent, ReadEnd,
    RequestId, SUCCESSOR_BYTES_MAX, SealError, Sealed, SharedLog, TrimError, Trimmed,
};
use zoolog_core::limits::RECORD_BYTES_MAX;
use zoolog_core::rng::Rng;
use zoolog_core::{Gsn, Input, Instant, Output, Seq};
use zoolog_sim::cluster::{self, roles};
use zoolog_sim::disk::CLUSTER;
use zoolog_sim::node::Role;
use zoolog_sim::observe::Observation;
use zoolog_sim::options::Options;
use zoolog_sim::process::{Process, uncommanded};
use zoolog_sim::schedule::NodeId;
use zoolog_sim::trace::TraceMode;
use zoolog_sim::world::World;

/// A log that the suite can use, and annoy.
trait Harness {
    /// What it could be sealed for.
    const SUCCESSOR: &str;
    /// A log that holds nothing. If its owner is a consumer, the log is kept for it.
    fn new(seed: u64, consumer: bool) -> Self;
    /// Uses it; what it wants then is carried out when the suite next waits.
    fn with<R>(&mut self, f: impl FnOnce(&mut dyn SharedLog) -> R) -> R;
    /// Lets a little happen, and gives what the log said.
    fn step(&mut self) -> Vec<LogEvent>;
    /// Something of what the log rests on fails for a while, and comes back: nothing that is promised may suffer.
    fn disturb(&mut self, rng: &mut Rng);
    /// The process that uses the log dies, and another takes its place: what it had not been told is known to nobody.
    fn reopen(&mut self);
}

/// Steps until something is so; far more than any log needs.
const STEPS: usize = 20_000;

/// A log, and all that it said.
struct Suite<H> {
    h: H,
    rng: Rng,
    /// Since the last start.
    events: Vec<LogEvent>,
}

fn record(n: u64, bytes: usize) -> Vec<u8> {
    let mut record = n.to_le_bytes().to_vec();
    record.resize(8 + bytes, n as u8);
    record
}

impl<H: Harness> Suite<H> {
    fn new(seed: u64) -> Self {
        Self { h: H::new(seed, false), rng: Rng::new(seed, "suite"), events: Vec::new() }
    }

    /// Until `found` finds something in all that was said.
    fn until<R>(&mut self, what: &str, found: impl Fn(&[LogEvent]) -> Option<R>) -> R {
        for _ in 0..STEPS {
            if let Some(result) = found(&self.events) {
                return result;
            }
            let events = self.h.step();
            self.events.extend(events);
        }
        panic!("it never came to this: {what}");
    }

    /// Appends records in one turn, as far as there is room. Returns where they are.
    fn append(&mut self, from: u64, n: u64, bytes: usize) -> Vec<(Seq, u32)> {
        self.h.with(|log| {
            (from..from + n).map_while(|i| log.append(&record(i, bytes)).ok()).collect::<Vec<_>>()
        })
    }

    /// Where each batch is that was acknowledged since the last start.
    fn appended(&self) -> BTreeMap<Seq, (Gsn, u32)> {
        let mut all = BTreeMap::new();
        for event in &self.events {
            if let LogEvent::Appended { seq, first_gsn, count } = event {
                let before = all.insert(*seq, (*first_gsn, *count));
                assert!(before.is_none(), "batch {seq} is acknowledged twice");
            }
        }
        all
    }

    /// Appends so many, with nothing else under way, and waits until all are acknowledged. Returns the position of each.
    fn fill(&mut self, from: u64, n: u64, bytes: usize) -> Vec<Gsn> {
        let mut places = Vec::new();
        for _ in 0..STEPS {
            let done = places.len() as u64;
            if done == n {
                break;
            }
            let per_turn = self.rng.between(1, 8).min(n - done);
            places.extend(self.append(from + done, per_turn, bytes));
            let events = self.h.step();
            self.events.extend(events);
        }
        assert_eq!(places.len() as u64, n, "all were taken");
        let last = places.last().expect("some").0;
        self.until("all are acknowledged", |events| {
            events.iter().any(|e| matches!(e, LogEvent::Appended { seq, .. } if *seq == last)).then_some(())
        });
        let appended = self.appended();
        places
            .iter()
            .map(|(seq, index)| {
                let (first, count) = appended[seq];
                assert!(*index < count, "the batch has the record");
                first.plus(u64::from(*index))
            })
            .collect()
    }

    fn tail(&mut self) -> Gsn {
        let request = self.h.with(|log| log.tail());
        self.until("the tail", |events| {
            events.iter().find_map(|e| match e {
                LogEvent::Tail { request: r, gsn } if *r == request => Some(*gsn),
                _ => None,
            })
        })
    }

    fn read(&mut self, from: u64, to: u64, max_bytes: usize) -> Answer {
        let request = self.h.with(|log| log.read(Gsn(from), Gsn(to), max_bytes));
        self.until("a read", |events| events.iter().find_map(|e| read_done(e, request)))
    }

    fn sealed(&mut self, request: RequestId) -> Result<Sealed, SealError> {
        self.until("a seal", |events| {
            events.iter().find_map(|e| match e {
                LogEvent::SealDone { request: r, result } if *r == request => Some(result.clone()),
                _ => None,
            })
        })
    }

    fn trim(&mut self, gsn: Gsn) -> Result<Trimmed, TrimError> {
        let request = self.h.with(|log| log.trim(gsn));
        self.until("a trim", |events| {
            events.iter().find_map(|e| match e {
                LogEvent::TrimDone { request: r, result } if *r == request => Some(result.clone()),
                _ => None,
            })
        })
    }

    /// All that the subscription delivered since the event number `since`: dense from `from`, no position twice.
    fn delivered(&self, since: usize, from: Gsn) -> Vec<(u64, Bytes)> {
        let (mut next, mut all) = (from, Vec::new());
        for event in &self.events[since..] {
            if let LogEvent::Committed(c) = event {
                assert_eq!(c.from(), next, "no gap, no repetition");
                next = c.end();
                all.extend(c.records().map(|(gsn, _, bytes)| (gsn.0, bytes)));
            }
        }
        all
    }

    /// Everything from `from` to `to`, however many reads that takes.
    fn read_all(&mut self, from: u64, to: u64) -> Vec<(u64, Bytes)> {
        let (mut at, mut all) = (from, Vec::new());
        while at < to {
            let (records, covers, end) = self.read(at, to, 10_000);
            assert!(covers.0 > at || end == ReadEnd::Unavailable, "it gets on: {end:?} at {covers}");
            assert!(matches!(end, ReadEnd::Complete | ReadEnd::More | ReadEnd::Unavailable), "{end:?}");
            all.extend(records);
            at = covers.0;
        }
        all
    }

    fn subscribe(&mut self, from: Gsn) -> usize {
        // What the old one has handed out is heard first.
        let events = self.h.step();
        self.events.extend(events);
        self.h.with(|log| log.subscribe(from));
        self.events.len()
    }

    fn reopen(&mut self) {
        self.h.reopen();
        self.events.clear();
    }
}

/// Records by position, how far the answer goes, and why it ends there.
type Answer = (Vec<(u64, Bytes)>, Gsn, ReadEnd);

fn read_done(event: &LogEvent, request: RequestId) -> Option<Answer> {
    let LogEvent::ReadDone { request: r, batches, covers, end } = event else { return None };
    let records = batches.iter().flat_map(Committed::records).map(|(gsn, _, bytes)| (gsn.0, bytes));
    (*r == request).then(|| (records.collect(), *covers, *end))
}

fn records(from: u64, to: u64, bytes: usize) -> Vec<(u64, Bytes)> {
    (from..to).map(|i| (i, record(i, bytes).into())).collect()
}

/// LOG-1, LOG-3: what one writer appends has positions in that order, those of a batch follow each other, and each is told once.
fn appends_have_dense_positions_in_order<H: Harness>() {
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

/// A range is what was appended, up to where the answer says; and it says why it ends there.
fn reads_are_exact_and_say_where_they_end<H: Harness>() {
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
fn a_subscription_goes_from_the_past_to_the_present<H: Harness>() {
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
fn a_tail_lies_behind_all_that_was_acknowledged<H: Harness>() {
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
fn a_trim_leaves_a_typed_gap<H: Harness>() {
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
fn what_its_owner_needs_is_not_trimmed<H: Harness>() {
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

/// LOG-3: whatever breaks between writer and log, each batch that was taken is in the log once, in order, and acknowledged once.
fn appends_survive_disturbances_exactly_once<H: Harness>() {
    for seed in 0..4 {
        let mut s = Suite::<H>::new(60 + seed);
        let (mut places, mut n) = (Vec::new(), 0);
        for round in 0..150 {
            let taken = s.append(n, 3, 60);
            n += taken.len() as u64;
            places.extend(taken);
            let events = s.h.step();
            s.events.extend(events);
            if round % 25 == 12 {
                let mut rng = s.rng.clone();
                s.h.disturb(&mut rng);
                s.rng = rng;
            }
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
        assert!(n > 200, "the test tests something");
    }
}

/// LOG-2: who comes back finds all that was acknowledged, and goes on behind it; what was not is there as a whole batch or not at all.
fn what_was_acknowledged_outlives_its_writer<H: Harness>() {
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
fn refusals_leave_no_trace<H: Harness>() {
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

/// LOG-11: what was appended before a seal is in the log, and nothing else ever will be; whoever asks is told the same. A log that
/// goes on by itself does so at the next position. One that can't be sealed says so.
fn a_seal_is_the_end_of_a_log<H: Harness>() {
    let mut s = Suite::<H>::new(UNSWITCHED);
    s.fill(0, 60, 30);
    let since = s.subscribe(Gsn(20));
    let taken = s.append(60, 5, 30).len() as u64;
    assert!(taken > 0, "there is room");
    let asked: Result<_, SealError> = s.h.with(|log| {
        let asked = log.seal(H::SUCCESSOR)?;
        for wrong in [String::new(), "x".repeat(SUCCESSOR_BYTES_MAX + 1), "a\nb".into()] {
            assert_eq!(log.seal(&wrong), Err(SealError::Malformed { bytes: wrong.len() }));
        }
        Ok((asked, log.seal(H::SUCCESSOR)?, log.seal("another:1")?))
    });
    let end = 60 + taken;
    let (first, again, other) = match asked {
        Ok(asked) => asked,
        Err(refused) => {
            assert_eq!(refused, SealError::Unsupported);
            s.fill(end, 5, 30);
            return assert_eq!(s.tail(), Gsn(end + 5), "it goes on as if nothing had been asked");
        }
    };
    let refused = s.h.with(|log| log.append(b"late")).expect_err("behind the seal");
    let sealed = Sealed { tail: Gsn(end), successor: H::SUCCESSOR.into() };
    assert_eq!(s.sealed(first), Ok(sealed.clone()));
    assert_eq!(s.sealed(again), Ok(sealed.clone()));
    assert_eq!(s.sealed(other), Err(SealError::Another(sealed.clone())));
    let all = |s: &mut Suite<H>, since: usize, to: u64| {
        s.until("all is delivered", |events| {
            let ends = |e: &LogEvent| matches!(e, LogEvent::Committed(c) if c.end() == Gsn(to));
            events[since..].iter().any(ends).then_some(())
        });
        assert_eq!(s.delivered(since, Gsn(20)), records(20, to, 30));
    };
    all(&mut s, since, end);
    assert_eq!(s.read_all(0, end), records(0, end, 30));
    if refused.is_retryable() {
        // It goes on by itself.
        let moved = |events: &[LogEvent]| events.contains(&LogEvent::Moved(sealed.clone())).then_some(());
        s.until("it goes on elsewhere", moved);
        assert_eq!(s.fill(end, 40, 30), (end..end + 40).map(Gsn).collect::<Vec<_>>());
        all(&mut s, since, end + 40);
        s.reopen();
        assert_eq!(s.tail(), Gsn(end + 40), "not of the log that has ended");
        let since = s.subscribe(Gsn(20));
        all(&mut s, since, end + 40);
        s.until("it goes on elsewhere", moved);
        assert_eq!(s.fill(end + 40, 10, 30), (end + 40..end + 50).map(Gsn).collect::<Vec<_>>());
    } else {
        assert_eq!(refused, AppendError::Sealed);
        let told = |events: &[LogEvent]| events.contains(&LogEvent::Sealed(sealed.clone())).then_some(());
        s.until("it is told", told);
        s.reopen();
        s.until("it is told again", told);
        assert_eq!((s.tail(), s.read(end, end + 1, 1)), (Gsn(end), (vec![], Gsn(end), ReadEnd::NotYet)));
        assert_eq!(s.h.with(|log| log.append_vital(b"late")), Err(AppendError::Sealed));
        let since = s.subscribe(Gsn(20));
        all(&mut s, since, end);
        let again = s.h.with(|log| log.seal(H::SUCCESSOR)).expect("it can be");
        assert_eq!(s.sealed(again), Ok(sealed));
    }
}

/// The embedded log, on a memory disk that syncs and reads when the suite steps.
struct Embedded {
    bench: Option<disk::Bench>,
    cfg: LocalConfig,
    rng: Rng,
}

impl Harness for Embedded {
    const SUCCESSOR: &str = "elsewhere:1";

    /// Its owner is a consumer once it has released something.
    fn new(seed: u64, _: bool) -> Self {
        let cfg =
            LocalConfig { cache_bytes: 4 << 10, prefetch_bytes: 8 << 10, ..LocalConfig::new(disk::CLUSTER) };
        Self { bench: Some(disk::Bench::new(cfg.clone())), cfg, rng: Rng::new(seed, "embedded") }
    }

    fn with<R>(&mut self, f: impl FnOnce(&mut dyn SharedLog) -> R) -> R {
        f(&mut self.bench.as_mut().expect("open").log)
    }

    fn step(&mut self) -> Vec<LogEvent> {
        let bench = self.bench.as_mut().expect("open");
        bench.turn(None);
        if self.rng.chance(60) {
            bench.sync();
        }
        if self.rng.chance(60) {
            bench.load();
        }
        bench.events.drain(..).collect()
    }

    /// Its disk can't be read for a while.
    fn disturb(&mut self, _: &mut Rng) {
        let bench = self.bench.as_mut().expect("open");
        bench.unreadable = true;
        while bench.load() {}
        bench.unreadable = false;
        bench.now = bench.now + Duration::from_secs(2);
        bench.turn(Some(Input::Timer));
    }

    fn reopen(&mut self) {
        let bench = self.bench.take().expect("open");
        self.bench = Some(bench.crash(self.cfg.clone(), &mut self.rng));
    }
}

/// A log in the world, used from outside it.
struct Held<L>(Rc<RefCell<Option<L>>>, Rc<RefCell<VecDeque<LogEvent>>>);

impl<L> Clone for Held<L> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), self.1.clone())
    }
}

impl<L> Default for Held<L> {
    fn default() -> Self {
        Self(Rc::default(), Rc::default())
    }
}

struct Client<L> {
    held: Held<L>,
    now: Instant,
}

impl<L> Client<L> {
    fn log<R>(&self, f: impl FnOnce(&mut L) -> R) -> R {
        f(self.held.0.borrow_mut().as_mut().expect("it lives"))
    }
}

impl<L: SharedLog> Process for Client<L> {
    fn handle(&mut self, now: Instant, input: Input<Infallible>) {
        self.now = now;
        self.log(|log| log.handle(now, uncommanded(input)));
    }

    fn poll_output(&mut self, now: Instant) -> Option<Output<Observation>> {
        self.now = now;
        loop {
            let output = self.log(|log| log.poll_output(now))?;
            match output.try_map(Err::<Observation, _>) {
                Ok(output) => return Some(output),
                Err(event) => self.held.1.borrow_mut().push_back(event),
            }
        }
    }

    /// Looks every millisecond whether it was used.
    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        let look = (self.now + Duration::from_millis(1), "use from outside");
        self.log(|log| log.next_deadline()).into_iter().chain([look]).min()
    }

    fn may_checkpoint(&self) -> bool {
        self.log(|log| log.may_checkpoint())
    }

    fn checkpoint(&self) -> Bytes {
        self.log(|log| log.checkpoint())
    }
}

/// The client of the sharded log: three orderers, three servers, two shards of two replicas.
struct Sharded {
    world: World,
    held: Held<LogClient>,
    client: NodeId,
}

impl Sharded {
    fn run(&mut self, time: Duration) {
        let until = self.world.now() + time;
        self.world.run_until(until);
        assert_eq!(self.world.violation, None);
    }

    fn wait_for_client(&mut self) {
        let held = self.held.clone();
        assert!(self.world.run_while(Duration::from_secs(20), |_| held.0.borrow().is_some()));
    }
}

impl Harness for Sharded {
    const SUCCESSOR: &str = "elsewhere:1";

    fn new(seed: u64, consumer: bool) -> Self {
        let mut o = Options::calm(seed);
        // The world's own checks take nothing for granted that may be trimmed by hand.
        (o.trims, o.trims_by_hand) = (true, true);
        (o.orderers, o.servers, o.shards, o.replicas) = (3, 3, 2, 2);
        (o.zk, o.zk_clients, o.writers, o.readers) = (0, 0, 1, 0);
        let roles = roles(&o);
        let mut world = World::new(o, &roles, TraceMode::Off);
        let held = Held::default();
        let client = held.clone();
        world.builder = Box::new(move |birth| match birth.role {
            Role::Writer(_) => {
                let orderers = [1, 2, 3].map(|n| Role::Orderer(n).addr()).to_vec();
                let consumer = consumer.then(|| "suite".to_string());
                let cfg = ClientConfig { cluster: CLUSTER, orderers, consumer, ..ClientConfig::default() };
                *client.0.borrow_mut() = Some(LogClient::new(cfg, birth.seed, birth.now));
                Ok(Box::new(Client { held: client.clone(), now: birth.now }))
            }
            _ => cluster::build(birth),
        });
        world.start_all();
        let client = world.node(Role::Writer(1));
        let mut this = Self { world, held, client };
        this.wait_for_client();
        this
    }

    fn with<R>(&mut self, f: impl FnOnce(&mut dyn SharedLog) -> R) -> R {
        f(self.held.0.borrow_mut().as_mut().expect("it lives"))
    }

    fn step(&mut self) -> Vec<LogEvent> {
        self.run(Duration::from_millis(2));
        self.held.1.borrow_mut().drain(..).collect()
    }

    /// A server or an orderer dies and comes back, or all connections of the client break.
    fn disturb(&mut self, rng: &mut Rng) {
        let down = Duration::from_millis(rng.between(20, 400));
        let id = match rng.below(3) {
            0 => self.world.node(Role::Orderer(rng.between(1, 4))),
            1 => self.world.node(Role::Server(rng.between(1, 4) as u32)),
            _ => {
                let others: Vec<NodeId> = (0..self.world.nodes.len()).map(NodeId).collect();
                let pairs = others.iter().flat_map(|o| [(self.client, *o), (*o, self.client)]);
                let cut = pairs.filter(|(a, b)| a != b).collect();
                let partition = self.world.network.block(cut);
                self.run(down);
                return self.world.network.heal(&mut self.world.schedule, partition);
            }
        };
        self.world.crash_for(id, down);
    }

    fn reopen(&mut self) {
        // What it was given leaves with it only if a turn came before.
        self.world.crash_for(self.client, Duration::from_millis(5));
        self.held.1.borrow_mut().clear();
        *self.held.0.borrow_mut() = None;
        self.wait_for_client();
    }
}

/// With this seed the log is not exchanged by itself.
const UNSWITCHED: u64 = 10;

type Chain = ChainLog<LocalLog, LogClient>;

/// An embedded log that goes on in a cluster, at some time in each test, underneath it.
struct Switched {
    world: World,
    held: Held<Chain>,
    client: NodeId,
    /// Steps until it is sealed; `None` once that was asked for in this life.
    until: Option<u32>,
}

impl Switched {
    fn run(&mut self, time: Duration) {
        let until = self.world.now() + time;
        self.world.run_until(until);
        assert_eq!(self.world.violation, None);
    }

    fn wait_for_client(&mut self) {
        let held = self.held.clone();
        assert!(self.world.run_while(Duration::from_secs(20), |_| held.0.borrow().is_some()));
    }
}

impl Harness for Switched {
    const SUCCESSOR: &str = "10.0.1.1:7000,10.0.1.2:7000,10.0.1.3:7000";

    fn new(seed: u64, _: bool) -> Self {
        let mut o = Options::calm(seed);
        (o.trims, o.trims_by_hand, o.successor) = (true, true, true);
        (o.orderers, o.servers, o.shards, o.replicas) = (3, 3, 2, 2);
        (o.zk, o.zk_clients, o.writers, o.readers) = (0, 0, 0, 0);
        let embedded = Role::Embedded(1);
        let roles = [roles(&o), vec![embedded]].concat();
        let mut world = World::new(o, &roles, TraceMode::Off);
        let held = Held::default();
        let client: Held<Chain> = held.clone();
        world.builder = Box::new(move |birth| {
            if birth.role != embedded {
                return cluster::build(birth);
            }
            let recovered = birth.recovered.expect("it has a disk");
            let first = LocalLog::new(LocalConfig::new(CLUSTER), &recovered, birth.seed)?;
            let (ended, seed) = (first.sealed(), birth.seed ^ 1 << 63);
            let follow = move |now: Instant, sealed: &Sealed, first_seq: Seq| {
                let orderers = sealed.successor.split(',').map(String::from).collect();
                let succeeds = Some(sealed.tail);
                let cfg = ClientConfig {
                    cluster: CLUSTER,
                    orderers,
                    succeeds,
                    first_seq,
                    ..ClientConfig::default()
                };
                LogClient::new(cfg, seed, now)
            };
            let log = ChainLog::new(first, ended, Box::new(follow), birth.now);
            *client.0.borrow_mut() = Some(log);
            Ok(Box::new(Client { held: client.clone(), now: birth.now }))
        });
        world.start_all();
        let client = world.node(embedded);
        let until = (seed != UNSWITCHED).then(|| 3 + (seed % 7) as u32);
        let mut this = Self { world, held, client, until };
        this.wait_for_client();
        this
    }

    fn with<R>(&mut self, f: impl FnOnce(&mut dyn SharedLog) -> R) -> R {
        f(self.held.0.borrow_mut().as_mut().expect("it lives"))
    }

    fn step(&mut self) -> Vec<LogEvent> {
        if let Some(left) = &mut self.until {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.until = None;
                self.with(|log| log.seal(Self::SUCCESSOR)).expect("it can be");
            }
        }
        self.run(Duration::from_millis(2));
        self.held.1.borrow_mut().drain(..).collect()
    }

    /// A server or an orderer dies and comes back.
    fn disturb(&mut self, rng: &mut Rng) {
        let down = Duration::from_millis(rng.between(20, 400));
        let id = match rng.chance(50) {
            true => self.world.node(Role::Orderer(rng.between(1, 4))),
            false => self.world.node(Role::Server(rng.between(1, 4) as u32)),
        };
        self.world.crash_for(id, down);
    }

    fn reopen(&mut self) {
        // What it was given leaves with it only if a turn came before.
        self.world.crash_for(self.client, Duration::from_millis(5));
        self.held.1.borrow_mut().clear();
        let asked = self.held.0.borrow_mut().take().is_some_and(|log| log.second().is_some());
        if !asked && self.until.is_none() {
            self.until = Some(2);
        }
        self.wait_for_client();
    }
}

/// The suite, for one kind of log.
macro_rules! conforms {
    ($module:ident, $harness:ty, $($promise:ident)*) => {
        mod $module {
            $(
                #[test]
                fn $promise() {
                    super::$promise::<$harness>();
                }
            )*
        }
    };
    ($module:ident: $harness:ty) => {
        conforms!($module, $harness,
            appends_have_dense_positions_in_order
            reads_are_exact_and_say_where_they_end
            a_subscription_goes_from_the_past_to_the_present
            a_tail_lies_behind_all_that_was_acknowledged
            a_trim_leaves_a_typed_gap
            what_its_owner_needs_is_not_trimmed
            appends_survive_disturbances_exactly_once
            what_was_acknowledged_outlives_its_writer
            refusals_leave_no_trace
            a_seal_is_the_end_of_a_log
        );
    };
}

conforms!(embedded: super::Embedded);
conforms!(sharded: super::Sharded);
// A range that reaches over the seam takes two reads; what is trimmed of one log says nothing of the other.
conforms!(switched, super::Switched,
    appends_have_dense_positions_in_order
    a_subscription_goes_from_the_past_to_the_present
    a_tail_lies_behind_all_that_was_acknowledged
    appends_survive_disturbances_exactly_once
    what_was_acknowledged_outlives_its_writer
    refusals_leave_no_trace
    a_seal_is_the_end_of_a_log
);
