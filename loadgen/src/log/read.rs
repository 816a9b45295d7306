//! What does a reader do? Asks for one range after the other, from the first record to the tail at its start,
//! over and over. Latencies are those of the range that a record came in.

use super::control::Control;
use super::loader::{Load, Measured};
use crate::checks::Checks;
use crate::recorder::Recorder;
use std::sync::Arc;
use zoolog_client::{Committed, LogClient, LogEvent, ReadEnd, RequestId, SharedLog};
use zoolog_core::Gsn;

/// Payload bytes of one range.
const RANGE_BYTES: usize = 1 << 20;

const COVERED: &str = "a read answers for exactly the range it covers";
const TAIL: &str = "nothing before the tail is missing";

/// One reader.
#[derive(Debug)]
pub struct Reader {
    index: u32,
    control: Arc<Control>,
    tail: Option<Gsn>,
    first: Gsn,
    at: Gsn,
    asked: Option<(RequestId, u64)>,
    recorder: Recorder,
    is_open: bool,
    is_over: bool,
    warnings: Vec<String>,
    checks: Checks,
}

impl Reader {
    /// Reader number `index`, not begun.
    pub fn new(index: u32, control: Arc<Control>) -> Self {
        Self {
            index,
            control,
            tail: None,
            first: Gsn(0),
            at: Gsn(0),
            asked: None,
            recorder: super::recorder("read", false),
            is_open: false,
            is_over: false,
            warnings: Vec::new(),
            checks: Checks::default(),
        }
    }

    fn done(&mut self, now_ns: u64, asked_ns: u64, batches: &[Committed], covers: Gsn, end: ReadEnd) {
        let (index, from) = (self.index, self.at);
        let mut at = from;
        for batch in batches {
            if batch.from() != at {
                self.checks.fail(COVERED, || format!("reader {index}: {} follows {at}", batch.from()));
            }
            at = batch.end();
        }
        match end {
            ReadEnd::Trimmed => {
                self.first = covers;
                self.at = covers;
                return;
            }
            ReadEnd::Unavailable if batches.is_empty() => return,
            ReadEnd::NotYet => {
                self.checks.fail(TAIL, || {
                    format!("reader {index}: {covers} is not there yet, tail {:?}", self.tail)
                });
            }
            ReadEnd::Complete | ReadEnd::More | ReadEnd::Unavailable => {}
        }
        if at != covers {
            self.checks
                .fail(COVERED, || format!("reader {index}: {from}..{covers}, but records end at {at}"));
        }
        self.checks.pass(COVERED, 1);
        let n = at.0.saturating_sub(from.0);
        self.recorder.answered(0, asked_ns, asked_ns, now_ns, n);
        self.control.add_answered(n);
        self.at = covers.max(from);
    }
}

impl Load for Reader {
    type Result = Measured;

    fn turn(&mut self, now_ns: u64, log: &mut LogClient) {
        let Some(window) = self.control.window() else { return };
        if !self.is_open {
            self.is_open = true;
            self.recorder.open(window.measure_ns, window.end_ns);
            log.tail();
        }
        self.is_over |= self.control.is_over(now_ns);
        let Some(tail) = self.tail else { return };
        if self.is_over || self.asked.is_some() || self.first >= tail {
            return; // with an empty log there is nothing to read
        }
        if self.at >= tail {
            self.at = self.first;
        }
        self.asked = Some((log.read(self.at, tail, RANGE_BYTES), now_ns));
    }

    fn event(&mut self, now_ns: u64, _log: &mut LogClient, event: LogEvent) {
        match event {
            LogEvent::Ready { .. } => self.control.is_ready(),
            LogEvent::Tail { gsn, .. } => {
                self.tail = Some(gsn);
                if gsn == Gsn(0) {
                    self.warnings.push(format!("reader {}: the log is empty", self.index));
                }
            }
            LogEvent::ReadDone { request, batches, covers, end } => {
                if let Some((_, asked_ns)) = self.asked.take_if(|(id, _)| *id == request) {
                    self.done(now_ns, asked_ns, &batches, covers, end);
                }
            }
            _ => {}
        }
    }

    fn result(&mut self) -> Option<Measured> {
        if !self.is_over {
            return None;
        }
        let mut recorder = std::mem::replace(&mut self.recorder, super::recorder("read", false));
        if let Some(cut_ns) = self.control.was_cut() {
            recorder.cut(cut_ns);
        }
        let mut measured = Measured::new(recorder, std::mem::take(&mut self.checks));
        measured.warnings = std::mem::take(&mut self.warnings);
        Some(measured)
    }
}
