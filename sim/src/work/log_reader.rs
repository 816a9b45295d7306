//! What does a reader do? It follows the log from the start, or from here and there, changing its mind now
//! and then. As a consumer it releases what it has read, some time later; where the log was trimmed it goes on
//! behind the gap.

use crate::observe::Observation;
use crate::process::{Process, map_event, uncommanded};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// Whether it holds the log back until it has read it.
    consumes: bool,
    /// Whether it may, yet.
    may_release: Arc<AtomicBool>,
    /// Where it is.
    at: Gsn,
    /// Where to go on behind a gap.
    behind_gap: Option<Gsn>,
    /// What lies before was trimmed when it came.
    floor: Gsn,
    /// Whether it has begun to read all that there is, once more, after the storm.
    last_round: bool,
    next: Instant,
    calm_at: Instant,
    tail: Gsn,
    tails: BTreeMap<RequestId, Instant>,
    out: VecDeque<Output<Observation>>,
}

impl LogReader {
    /// A reader; a steady one reads everything, others jump about until `calm_at`.
    pub fn new(
        mut log: LogClient,
        seed: u64,
        steady: bool,
        consumes: bool,
        calm_at: Instant,
        now: Instant,
    ) -> Self {
        log.subscribe(Gsn(0));
        let out = VecDeque::from([Output::Event(Observation::Subscribed { from: Gsn(0) })]);
        let (tail, tails) = (Gsn(0), BTreeMap::new());
        Self {
            log,
            rng: Rng::new(seed, "reader"),
            steady,
            consumes,
            may_release: Arc::new(AtomicBool::new(true)),
            at: Gsn(0),
            behind_gap: None,
            floor: Gsn(0),
            last_round: false,
            next: now,
            calm_at,
            tail,
            tails,
            out,
        }
    }

    /// The same, that releases nothing before it may.
    #[must_use]
    pub fn after(self, may_release: Arc<AtomicBool>) -> Self {
        Self { may_release, ..self }
    }

    fn seen(&mut self, output: Output<LogEvent>) -> Output<Observation> {
        if let Output::Event(LogEvent::Progress { tail }) = &output {
            self.tail = self.tail.max(*tail);
        }
        match &output {
            Output::Event(LogEvent::Committed(c)) => self.at = c.end(),
            Output::Event(LogEvent::Gap { until, .. }) => {
                (self.behind_gap, self.floor) = (Some(*until), self.floor.max(*until));
            }
            _ => {}
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
            LogEvent::Gap { from, until } => Observation::Gap { from, until },
            LogEvent::Tail { gsn, .. } => Observation::Tail { asked: asked.expect("we asked"), gsn },
            other => Observation::Note(format!("{other:?}")),
        })
    }

    /// Starts to read elsewhere. What the old subscription has handed out is drained first.
    fn jump(&mut self, now: Instant, from: Option<Gsn>) {
        while let Some(output) = self.log.poll_output(now) {
            let output = self.seen(output);
            self.out.push_back(output);
        }
        let anywhere = if self.rng.chance(20) { self.tail } else { Gsn(self.rng.below(self.tail.0 + 1)) };
        self.behind_gap = None;
        self.go_to(from.unwrap_or(anywhere));
    }

    fn go_to(&mut self, from: Gsn) {
        self.at = from;
        self.log.subscribe(from);
        self.out.push_back(Output::Event(Observation::Subscribed { from }));
    }

    /// Lets go of what was read, or of a little less.
    fn release(&mut self) {
        let upto = Gsn(self.at.0.saturating_sub(self.rng.below(300))).max(self.floor);
        self.log.release(upto);
    }
}

impl Process for LogReader {
    fn handle(&mut self, now: Instant, input: Input<Infallible>) {
        let timer = matches!(input, Input::Timer);
        self.log.handle(now, uncommanded(input));
        if timer && now >= self.next {
            let pause = if self.consumes { 500 } else { 2_000 };
            self.next = now + Duration::from_millis(self.rng.between(50, pause));
            if !self.steady && now < self.calm_at && self.rng.chance(60) {
                self.jump(now, None);
            }
            if !self.last_round && now >= self.calm_at {
                // Everything that is not trimmed can be read to the end.
                self.last_round = true;
                if !self.steady {
                    self.jump(now, Some(Gsn(0)));
                }
                self.out.push_back(Output::Event(Observation::Done));
            }
            if self.consumes && self.at > Gsn(0) && self.may_release.load(Ordering::Relaxed) {
                self.release();
            }
            let request = self.log.tail();
            self.tails.insert(request, now);
        }
    }

    fn poll_output(&mut self, now: Instant) -> Option<Output<Observation>> {
        if let Some(output) = self.out.pop_front() {
            return Some(output);
        }
        if let Some(until) = self.behind_gap.take() {
            self.go_to(until);
            return self.out.pop_front();
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
