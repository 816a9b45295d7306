//! What does a promise use? A log of any kind, how it is annoyed, and all that it said.

use bytes::Bytes;
use std::collections::BTreeMap;
use zoolog_client::{
    Committed, LogEvent, ReadEnd, RequestId, SealError, Sealed, SharedLog, TrimError, Trimmed,
};
use zoolog_core::rng::Rng;
use zoolog_core::{Gsn, Seq};

/// A log that the suite can use, and annoy.
pub trait Harness {
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
pub const STEPS: usize = 20_000;

/// A log, and all that it said.
pub struct Suite<H> {
    pub h: H,
    pub rng: Rng,
    /// Since the last start.
    pub events: Vec<LogEvent>,
}

pub fn record(n: u64, bytes: usize) -> Vec<u8> {
    let mut record = n.to_le_bytes().to_vec();
    record.resize(8 + bytes, n as u8);
    record
}

impl<H: Harness> Suite<H> {
    pub fn new(seed: u64) -> Self {
        Self { h: H::new(seed, false), rng: Rng::new(seed, "suite"), events: Vec::new() }
    }

    /// Until `found` finds something in all that was said.
    pub fn until<R>(&mut self, what: &str, found: impl Fn(&[LogEvent]) -> Option<R>) -> R {
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
    pub fn append(&mut self, from: u64, n: u64, bytes: usize) -> Vec<(Seq, u32)> {
        self.h.with(|log| {
            (from..from + n).map_while(|i| log.append(&record(i, bytes)).ok()).collect::<Vec<_>>()
        })
    }

    /// Where each batch is that was acknowledged since the last start.
    pub fn appended(&self) -> BTreeMap<Seq, (Gsn, u32)> {
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
    pub fn fill(&mut self, from: u64, n: u64, bytes: usize) -> Vec<Gsn> {
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

    pub fn tail(&mut self) -> Gsn {
        let request = self.h.with(|log| log.tail());
        self.until("the tail", |events| {
            events.iter().find_map(|e| match e {
                LogEvent::Tail { request: r, gsn } if *r == request => Some(*gsn),
                _ => None,
            })
        })
    }

    pub fn read(&mut self, from: u64, to: u64, max_bytes: usize) -> Answer {
        let request = self.h.with(|log| log.read(Gsn(from), Gsn(to), max_bytes));
        self.until("a read", |events| events.iter().find_map(|e| read_done(e, request)))
    }

    pub fn sealed(&mut self, request: RequestId) -> Result<Sealed, SealError> {
        self.until("a seal", |events| {
            events.iter().find_map(|e| match e {
                LogEvent::SealDone { request: r, result } if *r == request => Some(result.clone()),
                _ => None,
            })
        })
    }

    pub fn trim(&mut self, gsn: Gsn) -> Result<Trimmed, TrimError> {
        let request = self.h.with(|log| log.trim(gsn));
        self.until("a trim", |events| {
            events.iter().find_map(|e| match e {
                LogEvent::TrimDone { request: r, result } if *r == request => Some(result.clone()),
                _ => None,
            })
        })
    }

    /// All that the subscription delivered since the event number `since`: dense from `from`, no position twice.
    pub fn delivered(&self, since: usize, from: Gsn) -> Vec<(u64, Bytes)> {
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
    pub fn read_all(&mut self, from: u64, to: u64) -> Vec<(u64, Bytes)> {
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

    pub fn subscribe(&mut self, from: Gsn) -> usize {
        // What the old one has handed out is heard first.
        let events = self.h.step();
        self.events.extend(events);
        self.h.with(|log| log.subscribe(from));
        self.events.len()
    }

    pub fn reopen(&mut self) {
        self.h.reopen();
        self.events.clear();
    }
}

/// Records by position, how far the answer goes, and why it ends there.
pub type Answer = (Vec<(u64, Bytes)>, Gsn, ReadEnd);

pub fn read_done(event: &LogEvent, request: RequestId) -> Option<Answer> {
    let LogEvent::ReadDone { request: r, batches, covers, end } = event else { return None };
    let records = batches.iter().flat_map(Committed::records).map(|(gsn, _, bytes)| (gsn.0, bytes));
    (*r == request).then(|| (records.collect(), *covers, *end))
}

pub fn records(from: u64, to: u64, bytes: usize) -> Vec<(u64, Bytes)> {
    (from..to).map(|i| (i, record(i, bytes).into())).collect()
}

/// With this seed the log is not exchanged by itself.
pub const UNSWITCHED: u64 = 10;
