//! Who has the log exchanged? One that asks for its end at some time, until it is told so; and again in each of its lives.

use crate::observe::Observation;
use crate::process::{Process, map_event, uncommanded};
use bytes::Bytes;
use std::convert::Infallible;
use zoolog_client::{LogClient, LogEvent, SharedLog};
use zoolog_core::{Input, Instant, Machine, Output};

/// It.
#[derive(Debug)]
pub struct Switcher {
    log: LogClient,
    successor: String,
    /// When it asks; `None` once it has.
    at: Option<Instant>,
}

impl Switcher {
    /// One that has this log end at that time.
    pub fn new(log: LogClient, successor: String, at: Instant) -> Self {
        Self { log, successor, at: Some(at) }
    }
}

impl Process for Switcher {
    fn handle(&mut self, now: Instant, input: Input<Infallible>) {
        self.log.handle(now, uncommanded(input));
        if self.at.is_some_and(|at| at <= now) {
            self.at = None;
            self.log.seal(&self.successor).expect("a successor that is one");
        }
    }

    fn poll_output(&mut self, now: Instant) -> Option<Output<Observation>> {
        let told = |event| match event {
            LogEvent::SealDone { result: Ok(_), .. } => Observation::Done,
            LogEvent::SealDone { result: Err(e), .. } => {
                Observation::Broken { promise: "LOG-11", text: format!("sealed for one only: {e}") }
            }
            other => Observation::Note(format!("{other:?}")),
        };
        self.log.poll_output(now).map(|output| map_event(output, told))
    }

    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        let own = self.at.map(|at| (at, "the log is to end"));
        own.into_iter().chain(self.log.next_deadline()).min()
    }

    fn checkpoint(&self) -> Bytes {
        Bytes::new()
    }
}
