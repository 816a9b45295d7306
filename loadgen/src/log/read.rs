//! What does a reader do? Asks for ranges of positions, a few at a time, from the first record to the tail at its
//! start, over and over. Latencies are those of the answer that a record came in.

use super::control::Control;
use super::loader::{Load, Measured};
use crate::args::LogArgs;
use crate::checks::Checks;
use crate::recorder::Recorder;
use std::sync::Arc;
use zoolog_client::{Committed, LogClient, LogEvent, ReadEnd, RequestId, SharedLog};
use zoolog_core::Gsn;

/// Payload bytes of one range.
const RANGE_BYTES: u64 = 4 << 20;

const COVERED: &str = "a read answers for exactly the range it covers";
const TAIL: &str = "nothing before the tail is missing";

/// A range that was asked for.
#[derive(Debug)]
struct Asked {
    request: RequestId,
    from: Gsn,
    to: Gsn,
    asked_ns: u64,
}

/// One reader.
#[derive(Debug)]
pub struct Reader {
    index: u32,
    control: Arc<Control>,
    ranges: usize,
    /// Positions of one range.
    range: u64,
    tail: Option<Gsn>,
    first: Gsn,
    /// Where the next range begins.
    at: Gsn,
    asked: Vec<Asked>,
    recorder: Recorder,
    is_open: bool,
    is_over: bool,
    warnings: Vec<String>,
    checks: Checks,
}

impl Reader {
    /// Reader number `index`, not begun.
    pub fn new(index: u32, control: Arc<Control>, args: &LogArgs) -> Self {
        Self {
            index,
            control,
            ranges: args.ranges as usize,
            range: (RANGE_BYTES / u64::from(args.size)).max(1),
            tail: None,
            first: Gsn(0),
            at: Gsn(0),
            asked: Vec::new(),
            recorder: super::recorder("read", false),
            is_open: false,
            is_over: false,
            warnings: Vec::new(),
            checks: Checks::default(),
        }
    }

    fn ask(&mut self, log: &mut LogClient, now_ns: u64, from: Gsn, to: Gsn) {
        let request = log.read(from, to, usize::MAX);
        self.asked.push(Asked { request, from, to, asked_ns: now_ns });
    }

    /// Takes an answer; where to go on in its range.
    fn answered(
        &mut self,
        now_ns: u64,
        asked: &Asked,
        batches: &[Committed],
        covers: Gsn,
        end: ReadEnd,
    ) -> Gsn {
        let (index, from) = (self.index, asked.from);
        if end == ReadEnd::Trimmed {
            self.first = self.first.max(covers);
            return covers;
        }
        let mut at = from;
        for batch in batches {
            if batch.from() != at {
                self.checks.fail(COVERED, || format!("reader {index}: {} follows {at}", batch.from()));
            }
            at = batch.end();
        }
        if end == ReadEnd::NotYet {
            self.checks
                .fail(TAIL, || format!("reader {index}: {covers} is not there yet, tail {:?}", self.tail));
        }
        let complete = end != ReadEnd::Complete || covers == asked.to;
        if at != covers || !complete {
            let to = asked.to;
            self.checks
                .fail(COVERED, || format!("reader {index}: {from}..{to}: {covers}, records end at {at}"));
        }
        self.checks.pass(COVERED, 1);
        let n = at.0.saturating_sub(from.0);
        if n > 0 {
            self.recorder.answered(0, asked.asked_ns, asked.asked_ns, now_ns, n);
            self.control.add_answered(n);
        }
        covers
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
        // With an empty log there is nothing to read.
        while !self.is_over && self.asked.len() < self.ranges && self.first < tail {
            if self.at >= tail || self.at < self.first {
                self.at = self.first;
            }
            let (from, to) = (self.at, self.at.plus(self.range).min(tail));
            self.at = to;
            self.ask(log, now_ns, from, to);
        }
    }

    fn event(&mut self, now_ns: u64, log: &mut LogClient, event: LogEvent) {
        match event {
            LogEvent::Ready { .. } => self.control.is_ready(),
            LogEvent::Tail { gsn, .. } => {
                self.tail = Some(gsn);
                if gsn == Gsn(0) {
                    self.warnings.push(format!("reader {}: the log is empty", self.index));
                }
            }
            LogEvent::ReadDone { request, batches, covers, end } => {
                let Some(i) = self.asked.iter().position(|a| a.request == request) else { return };
                let asked = self.asked.swap_remove(i);
                let covers = self.answered(now_ns, &asked, &batches, covers, end);
                if covers < asked.to && !self.is_over {
                    self.ask(log, now_ns, covers, asked.to);
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
