//! How does a load sit on a log client? A machine that embeds the client: what arrives goes to the client,
//! what the client says goes to the load, and what the load does on hearing it is still in the same turn.

use crate::checks::Checks;
use crate::pauses::Pause;
use crate::recorder::Recorder;
use std::time::Duration;
use zoolog_client::{LogClient, LogEvent};
use zoolog_core::{Input, Instant, Machine, Output};

/// How often a load that waits for nothing else looks at the time.
const LOOK: Duration = Duration::from_millis(5);

/// What is done with a log.
pub trait Load {
    /// What it knows at its end.
    type Result: 'static;

    /// Does what can be done now.
    fn turn(&mut self, now_ns: u64, log: &mut LogClient);

    /// Hears of what happened.
    fn event(&mut self, now_ns: u64, log: &mut LogClient, event: LogEvent);

    /// When it wants its next turn though nothing happens, if sooner than a few milliseconds.
    fn due_ns(&self) -> Option<u64> {
        None
    }

    /// Its result, once, when it has come to its end.
    fn result(&mut self) -> Option<Self::Result>;
}

/// A load on its client.
#[derive(Debug)]
pub struct Loader<L> {
    log: LogClient,
    load: L,
    /// Something happened since the load had its turn.
    stirred: bool,
    look_at: Instant,
    ended: bool,
}

impl<L: Load> Loader<L> {
    /// Puts `load` on `log`.
    pub fn new(log: LogClient, load: L) -> Self {
        Self { log, load, stirred: true, look_at: Instant(0), ended: false }
    }
}

impl<L: Load> Machine for Loader<L> {
    type Command = ();
    type Event = L::Result;

    fn handle(&mut self, now: Instant, input: Input<()>) {
        self.stirred = true;
        if let Some(input) = input.try_map(|()| None) {
            self.log.handle(now, input);
        }
    }

    fn poll_output(&mut self, now: Instant) -> Option<Output<L::Result>> {
        loop {
            if std::mem::take(&mut self.stirred) {
                self.load.turn(now.0, &mut self.log);
                self.look_at = now + LOOK;
            }
            let Some(output) = self.log.poll_output(now) else {
                if self.ended {
                    return None;
                }
                let result = self.load.result()?;
                self.ended = true;
                return Some(Output::Event(result));
            };
            match output.try_map(Err) {
                Ok(output) => return Some(output),
                Err(event) => {
                    self.load.event(now.0, &mut self.log, event);
                    self.stirred = true;
                }
            }
        }
    }

    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        let own = (self.load.due_ns().map_or(self.look_at, |ns| self.look_at.min(Instant(ns))), "load");
        Some(self.log.next_deadline().map_or(own, |d| d.min(own)))
    }
}

/// What clients measured, one or several together.
#[derive(Debug)]
pub struct Measured {
    /// Latencies and throughput.
    pub recorder: Recorder,
    /// What was checked.
    pub checks: Checks,
    /// Records appended whose acknowledgement did not come.
    pub unknown: u64,
    /// Scheduled, but never appended.
    pub never_begun: u64,
    /// Appended more than 10 ms later than intended.
    pub begun_late: u64,
    /// The longest time for which one client had no answer.
    pub pause_of_one: Pause,
    /// What the reader must know.
    pub warnings: Vec<String>,
}

impl Measured {
    /// A client's recorder and checks, nothing else to say.
    pub fn new(recorder: Recorder, checks: Checks) -> Self {
        let (warnings, pause_of_one) = (Vec::new(), recorder.pauses().longest());
        Self { recorder, checks, unknown: 0, never_begun: 0, begun_late: 0, pause_of_one, warnings }
    }

    /// All together; `None` of none.
    pub fn merge_all(all: Vec<Self>) -> Option<Self> {
        all.into_iter().reduce(|mut a, b| {
            a.recorder.merge(&b.recorder);
            a.checks.merge(b.checks);
            a.unknown += b.unknown;
            a.never_begun += b.never_begun;
            a.begun_late += b.begun_late;
            if b.pause_of_one.ms > a.pause_of_one.ms {
                a.pause_of_one = b.pause_of_one;
            }
            a.warnings.extend(b.warnings);
            a
        })
    }
}
