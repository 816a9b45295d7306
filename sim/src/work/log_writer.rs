//! What does a writer do? It appends numbered records through a real log client, a few at a time, and now
//! and then asks for the tail; after the storm a last handful, and is done when all are acknowledged.

use crate::observe::Observation;
use crate::process::{Process, map_event, uncommanded};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use zoolog_client::{AppendError, LogClient, LogEvent, RequestId, SharedLog, WriterLost};
use zoolog_core::rng::Rng;
use zoolog_core::{Gsn, Input, Instant, Machine, Output};

/// A writer.
pub struct LogWriter {
    log: LogClient,
    rng: Rng,
    every: Duration,
    next: Instant,
    /// When the storm is over.
    calm_at: Instant,
    number: u64,
    tails: BTreeMap<RequestId, Instant>,
    /// Whether it may trim the log now and then, if it does; and what it asked for.
    trims: Option<Arc<AtomicBool>>,
    trimming: BTreeMap<RequestId, Gsn>,
    /// Whether some of its appends are conditional, and what the last of them expected.
    conditional: Option<Gsn>,
    out: VecDeque<Output<Observation>>,
    last_words: u32,
    /// Another may take over its name.
    named: bool,
    done: bool,
}

impl LogWriter {
    /// A writer that appends every `every` or so, until `calm_at`; `named` if another may have its name.
    pub fn new(
        log: LogClient,
        named: bool,
        seed: u64,
        every: Duration,
        calm_at: Instant,
        now: Instant,
    ) -> Self {
        Self {
            log,
            rng: Rng::new(seed, "writer"),
            every,
            next: now + every,
            calm_at,
            number: 0,
            tails: BTreeMap::new(),
            trims: None,
            trimming: BTreeMap::new(),
            conditional: None,
            out: VecDeque::new(),
            last_words: 5,
            named,
            done: false,
        }
    }

    /// The same, that trims the log by hand now and then: where it may, where a consumer is in the way, and beyond
    /// the tail. Not before it may: until all ZooKeeper nodes are consumers nothing keeps for them what they never had.
    #[must_use]
    pub fn trimming(self, may_trim: Arc<AtomicBool>) -> Self {
        Self { trims: Some(may_trim), ..self }
    }

    /// The same, some of whose appends are to count only if nobody else came first.
    #[must_use]
    pub fn conditional(self) -> Self {
        Self { conditional: Some(Gsn(0)), ..self }
    }

    /// Appends a few records that are to count only if nothing but our own was ordered since a tail: the one that we know,
    /// one before it, or the one of the last time, of which we may not know yet what came of it.
    fn append_if(&mut self, last: Gsn) {
        let tail = self.log.known_tail().unwrap_or_default();
        let expected = match self.rng.below(10) {
            0 => Gsn(tail.0.saturating_sub(self.rng.below(3))),
            1..=4 => last,
            _ => tail,
        };
        self.conditional = Some(expected);
        let first = self.number;
        let records: Vec<Vec<u8>> = (0..self.rng.between(1, 4))
            .map(|_| {
                let record = self.record();
                self.number += 1;
                record
            })
            .collect();
        let refs: Vec<&[u8]> = records.iter().map(|r| &r[..]).collect();
        let writer = self.log.writer();
        match self.log.append_if(expected, &refs) {
            Ok(seq) => {
                self.out.push_back(Output::Event(Observation::AppendingIf { writer, seq, expected }));
                for (index, record) in (0u32..).zip(records) {
                    let record = Bytes::from(record);
                    self.out.push_back(Output::Event(Observation::Appending { writer, seq, index, record }));
                }
            }
            Err(e) => {
                self.number = first;
                self.out.push_back(Output::Event(Observation::Note(format!("append_if {expected}: {e}"))));
            }
        }
    }

    fn trim(&mut self) {
        let tail = self.log.known_tail().map_or(0, |t| t.0);
        let gsn = Gsn(self.rng.below(tail + tail / 8 + 2));
        let request = self.log.trim(gsn);
        self.trimming.insert(request, gsn);
    }

    fn record(&mut self) -> Vec<u8> {
        let size = match self.rng.below(100) {
            0 => self.rng.between(20_000, 100_000),
            1..10 => self.rng.between(300, 4_000),
            _ => self.rng.between(0, 200),
        };
        let mut record = self.log.writer().0.to_le_bytes().to_vec();
        record.extend_from_slice(&self.number.to_le_bytes());
        record.resize(record.len() + size as usize, self.number as u8);
        record
    }

    /// Appends some records; false if one was refused.
    fn append(&mut self, records: u64) -> bool {
        for _ in 0..records {
            let record = self.record();
            match self.log.append(&record) {
                Ok((seq, index)) => {
                    self.number += 1;
                    let record = Bytes::from(record);
                    let seen = Observation::Appending { writer: self.log.writer(), seq, index, record };
                    self.out.push_back(Output::Event(seen));
                }
                Err(AppendError::Full | AppendError::NotOpen) => return false,
                Err(AppendError::DiskFull) => {
                    self.out.push_back(Output::Event(Observation::NoRoom));
                    return false;
                }
                Err(e) => {
                    self.out.push_back(Output::Event(Observation::Note(format!("append: {e}"))));
                    return false;
                }
            }
        }
        true
    }

    fn work(&mut self, now: Instant) {
        if now < self.next {
            return;
        }
        self.next = now + Duration::from_nanos(1 + self.rng.below(2 * self.every.as_nanos() as u64));
        if now < self.calm_at {
            let burst = if self.rng.chance(5) { 50 } else { 4 };
            let records = self.rng.below(burst);
            match self.conditional.filter(|_| self.rng.chance(30)) {
                Some(last) => self.append_if(last),
                None => drop(self.append(records)),
            }
            let may_trim = self.trims.as_ref().is_some_and(|may| may.load(Ordering::Relaxed));
            if may_trim && self.rng.chance(2) {
                self.trim();
            }
            if self.rng.chance(3) {
                let request = self.log.tail();
                self.tails.insert(request, now);
            }
        } else if self.last_words > 0 && self.append(1) {
            self.last_words -= 1;
        }
    }
}

impl Process for LogWriter {
    fn handle(&mut self, now: Instant, input: Input<Infallible>) {
        let timer = matches!(input, Input::Timer);
        self.log.handle(now, uncommanded(input));
        if timer {
            self.work(now);
        }
    }

    fn poll_output(&mut self, now: Instant) -> Option<Output<Observation>> {
        if let Some(output) = self.out.pop_front() {
            return Some(output);
        }
        let output = self.log.poll_output(now)?;
        let writer = self.log.writer();
        if let Output::Event(LogEvent::Tail { request, gsn }) = &output
            && let Some(asked) = self.tails.remove(request)
        {
            return Some(Output::Event(Observation::Tail { asked, gsn: *gsn }));
        }
        if let Output::Event(LogEvent::WriterLost { why, .. }) = &output
            && self.named
            && matches!(why, WriterLost::Fenced | WriterLost::Forgotten)
        {
            // Another goes on under its name.
            (self.done, self.last_words) = (true, 0);
            self.out.push_back(Output::Event(Observation::Done));
        }
        if let Output::Event(LogEvent::TrimDone { request, result }) = &output
            && let Some(asked) = self.trimming.remove(request)
        {
            return Some(Output::Event(Observation::TrimDone { asked, result: result.clone() }));
        }
        if let Output::Event(LogEvent::Appended { .. } | LogEvent::Conflict { .. }) = &output
            && self.last_words == 0
            && !self.done
            && self.log.pending_batches() == 0
        {
            self.done = true;
            self.out.push_back(Output::Event(Observation::Done));
        }
        Some(map_event(output, |event| match event {
            LogEvent::Appended { seq, first_gsn, count } => {
                Observation::Acked { writer, seq, first_gsn, count }
            }
            LogEvent::Opened { writer, epoch, tail } => Observation::Opened { writer, epoch, tail },
            LogEvent::Conflict { seq, tail, .. } => Observation::Conflicted { writer, seq, tail },
            other => Observation::Note(format!("{other:?}")),
        }))
    }

    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        let own = (self.last_words > 0).then_some((self.next, "the next append"));
        own.into_iter().chain(self.log.next_deadline()).min()
    }

    fn checkpoint(&self) -> Bytes {
        Bytes::new()
    }
}
