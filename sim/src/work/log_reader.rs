//! What does a reader do? It follows the log from the start, or from here and there, changing its mind now
//! and then.

use crate::observe::Observation;
use crate::process::{Process, map_event, uncommanded};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::time::Duration;
use zoolog_client::{LogClient, LogEvent, RequestId, SharedLog};
use zoolog_core::rng::Rng;
use zoolog_core::{Gsn, Input, Instant, Machine, Output};

/// A reader.
pub struct LogReader {
    log: LogClient,
    rng: Rng,
    /// Whether it stays with its first subscription, from the start.
    steady: bool,
    next: Instant,
    calm_at: Instant,
    tail: Gsn,
    tails: BTreeMap<RequestId, Instant>,
    out: VecDeque<Output<Observation>>,
}

impl LogReader {
    /// A reader; a steady one reads everything, others jump about until `calm_at`.
    pub fn new(mut log: LogClient, seed: u64, steady: bool, calm_at: Instant, now: Instant) -> Self {
        log.subscribe(Gsn(0));
        let out = VecDeque::from([Output::Event(Observation::Subscribed { from: Gsn(0) })]);
        let (tail, tails) = (Gsn(0), BTreeMap::new());
        Self { log, rng: Rng::new(seed, "reader"), steady, next: now, calm_at, tail, tails, out }
    }

    fn seen(&mut self, output: Output<LogEvent>) -> Output<Observation> {
        if let Output::Event(LogEvent::Progress { tail }) = &output {
            self.tail = self.tail.max(*tail);
        }
        let asked = match &output {
            Output::Event(LogEvent::Tail { request, .. }) => self.tails.remove(request),
            _ => None,
        };
        map_event(output, |event| match event {
            LogEvent::Committed(c) => Observation::Delivered {
                first_gsn: c.first_gsn,
                placed: c.placed,
                skip: c.skip,
                take: c.take,
            },
            LogEvent::Tail { gsn, .. } => Observation::Tail { asked: asked.expect("we asked"), gsn },
            other => Observation::Note(format!("{other:?}")),
        })
    }

    /// Starts to read elsewhere. What the old subscription has handed out is drained first.
    fn jump(&mut self, now: Instant) {
        while let Some(output) = self.log.poll_output(now) {
            let output = self.seen(output);
            self.out.push_back(output);
        }
        let from = if self.rng.chance(20) { self.tail } else { Gsn(self.rng.below(self.tail.0 + 1)) };
        self.log.subscribe(from);
        self.out.push_back(Output::Event(Observation::Subscribed { from }));
    }
}

impl Process for LogReader {
    fn handle(&mut self, now: Instant, input: Input<Infallible>) {
        let timer = matches!(input, Input::Timer);
        self.log.handle(now, uncommanded(input));
        if timer && now >= self.next {
            self.next = now + Duration::from_millis(self.rng.between(50, 2_000));
            if !self.steady && now < self.calm_at && self.rng.chance(60) {
                self.jump(now);
            }
            let request = self.log.tail();
            self.tails.insert(request, now);
        }
    }

    fn poll_output(&mut self, now: Instant) -> Option<Output<Observation>> {
        if let Some(output) = self.out.pop_front() {
            return Some(output);
        }
        let output = self.log.poll_output(now)?;
        Some(self.seen(output))
    }

    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        let own = Some((self.next, "the next look around"));
        own.into_iter().chain(self.log.next_deadline()).min()
    }

    fn checkpoint(&self) -> Bytes {
        Bytes::new()
    }
}
