//! What does a writer do? Keeps so many records in flight, or a fixed rate; judges each acknowledgement; and
//! remembers where its records are said to lie, for the read-back.

use super::control::Control;
use super::loader::{Load, Measured};
use crate::args::LogArgs;
use crate::checks::Checks;
use crate::payload::{Origin, Payload};
use crate::recorder::Recorder;
use crate::sizes::Sizes;
use std::collections::VecDeque;
use std::sync::Arc;
use zoolog_client::{LogClient, LogEvent, SharedLog};
use zoolog_core::{Gsn, Seq, WriterId};

/// How long acknowledgements are waited for behind the end, in nanoseconds.
const DRAIN_NS: u64 = 10_000_000_000;
/// A fixed rate wakes up at most this often: below it the generator would take the servers' processor.
const NAP_NS: u64 = 50_000;

const ONCE: &str = "each batch is acknowledged once, in order";
const COUNT: &str = "an acknowledgement counts the batch's records";
const AHEAD: &str = "a writer's records lie in the order it sent them";

/// A batch that was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckedBatch {
    /// Position of its first record.
    pub first_gsn: Gsn,
    /// Counter in its first record.
    pub first_counter: u64,
    /// Records.
    pub count: u32,
}

/// All that one writer was acknowledged, in order.
#[derive(Clone, Debug)]
pub struct Acked {
    /// The writer's number in this run, as in its records.
    pub index: u32,
    /// The writer's id in the log.
    pub writer: WriterId,
    /// Its batches.
    pub batches: Vec<AckedBatch>,
}

/// Records of one batch that were appended together.
#[derive(Clone, Copy, Debug)]
struct Run {
    seq: Seq,
    count: u32,
    intended_ns: u64,
    sent_ns: u64,
}

/// One writer.
#[derive(Debug)]
pub struct Appender {
    control: Arc<Control>,
    payload: Payload,
    depth: u64,
    /// Nanoseconds between this writer's records, at a fixed rate.
    interval_ns: Option<f64>,
    /// Where in the first interval its first record lies, so that writers don't start together.
    offset_ns: f64,
    appended: u64,
    acknowledged: u64,
    begun_late: u64,
    runs: VecDeque<Run>,
    next_seq: Option<Seq>,
    behind: Gsn,
    recorder: Recorder,
    is_open: bool,
    due_ns: u64,
    checks: Checks,
    acked: Acked,
    warnings: Vec<String>,
    is_lost: bool,
    end_ns: Option<u64>,
}

impl Appender {
    /// Writer number `index` of the run that `args` asks for.
    pub fn new(index: u32, args: &LogArgs, run_id: u32, control: Arc<Control>) -> Self {
        let interval_ns = args.run.rate.map(|rate| 1e9 * f64::from(args.writers) / rate);
        Self {
            control,
            payload: Payload::new(run_id, Sizes::Fixed(args.size)),
            depth: u64::from(args.depth),
            interval_ns,
            offset_ns: interval_ns.unwrap_or(0.0) / f64::from(args.writers) * f64::from(index),
            appended: 0,
            acknowledged: 0,
            begun_late: 0,
            runs: VecDeque::new(),
            next_seq: None,
            behind: Gsn(0),
            recorder: super::recorder("append", args.run.rate.is_some()),
            is_open: false,
            due_ns: u64::MAX,
            checks: Checks::default(),
            acked: Acked { index, writer: WriterId(0), batches: Vec::new() },
            warnings: Vec::new(),
            is_lost: false,
            end_ns: None,
        }
    }

    /// When the next record is meant to be appended.
    fn intended_ns(&self, start_ns: u64, now_ns: u64) -> u64 {
        match self.interval_ns {
            Some(interval) => start_ns + (self.offset_ns + self.appended as f64 * interval) as u64,
            None => now_ns,
        }
    }

    fn top_up(&mut self, start_ns: u64, now_ns: u64, log: &mut LogClient) {
        self.due_ns = u64::MAX;
        while self.appended - self.acknowledged < self.depth {
            let intended_ns = self.intended_ns(start_ns, now_ns);
            if intended_ns > now_ns {
                self.due_ns = intended_ns.max(now_ns + NAP_NS);
                return;
            }
            let origin = Origin { key: 0, writer: self.acked.index, counter: self.appended + 1 };
            // Full: the next acknowledgement makes room. Closed: `WriterLost` says so.
            let Ok((seq, _)) = log.append(self.payload.make(origin)) else { return };
            self.appended += 1;
            self.begun_late += u64::from(now_ns - intended_ns > 10_000_000);
            match self.runs.back_mut() {
                Some(run) if run.seq == seq && run.sent_ns == now_ns && run.intended_ns == intended_ns => {
                    run.count += 1;
                }
                _ => self.runs.push_back(Run { seq, count: 1, intended_ns, sent_ns: now_ns }),
            }
        }
    }

    fn appended(&mut self, now_ns: u64, seq: Seq, first_gsn: Gsn, count: u32) {
        let index = self.acked.index;
        if self.next_seq.is_some_and(|due| due != seq) {
            let due = self.next_seq;
            self.checks
                .fail(ONCE, || format!("writer {index}: batch {seq} acknowledged where {due:?} was due"));
        }
        self.next_seq = Some(seq.next());
        if first_gsn < self.behind {
            let behind = self.behind;
            self.checks
                .fail(AHEAD, || format!("writer {index}: batch {seq} at {first_gsn}, behind {behind}"));
        }
        self.behind = first_gsn.plus(u64::from(count));
        let mut sent = 0;
        while let Some(run) = self.runs.front().copied().filter(|run| run.seq <= seq) {
            self.runs.pop_front();
            if run.seq == seq {
                sent += run.count;
                self.recorder.answered(0, run.intended_ns, run.sent_ns, now_ns, u64::from(run.count));
            }
        }
        if sent != count {
            self.checks
                .fail(COUNT, || format!("writer {index}: batch {seq} has {sent} records, not {count}"));
        }
        for check in [ONCE, COUNT, AHEAD] {
            self.checks.pass(check, 1);
        }
        let first_counter = self.acknowledged + 1;
        self.acked.batches.push(AckedBatch { first_gsn, first_counter, count });
        self.acknowledged += u64::from(sent);
        self.control.add_answered(u64::from(sent));
    }

    fn is_done(&self, now_ns: u64) -> bool {
        let Some(end_ns) = self.end_ns else { return false };
        self.is_lost || self.appended == self.acknowledged || now_ns > end_ns + DRAIN_NS
    }
}

impl Load for Appender {
    type Result = (Measured, Acked);

    fn turn(&mut self, now_ns: u64, log: &mut LogClient) {
        let Some(window) = self.control.window() else { return };
        if !self.is_open {
            self.is_open = true;
            self.acked.writer = log.writer();
            self.recorder.open(window.measure_ns, window.end_ns);
        }
        if self.end_ns.is_some() || self.control.is_over(now_ns) {
            self.due_ns = u64::MAX;
            let end_ns = self.control.was_cut().map_or(window.end_ns, |cut_ns| cut_ns.min(window.end_ns));
            self.end_ns.get_or_insert(end_ns);
            if self.is_done(now_ns) {
                self.end_ns = Some(0); // a result is due
            }
        } else if !self.is_lost {
            self.top_up(window.start_ns, now_ns, log);
        }
    }

    fn event(&mut self, now_ns: u64, _log: &mut LogClient, event: LogEvent) {
        match event {
            LogEvent::Ready { .. } => self.control.is_ready(),
            LogEvent::Appended { seq, first_gsn, count } => self.appended(now_ns, seq, first_gsn, count),
            LogEvent::WriterLost { why, .. } => {
                self.is_lost = true;
                self.warnings.push(format!("writer {} came to its end: {why}", self.acked.index));
            }
            LogEvent::Sealed(sealed) => {
                self.is_lost = true;
                let (index, tail) = (self.acked.index, sealed.tail);
                self.warnings.push(format!("writer {index}: the log ended at {tail}"));
            }
            LogEvent::Stalled { what } => {
                self.warnings.push(format!("writer {}: {what} stood still for a while", self.acked.index));
            }
            _ => {}
        }
    }

    fn due_ns(&self) -> Option<u64> {
        Some(self.due_ns)
    }

    fn result(&mut self) -> Option<Self::Result> {
        if self.end_ns != Some(0) {
            return None;
        }
        let window = self.control.window().expect("a load that ended had begun");
        let end_ns = self.control.was_cut().map_or(window.end_ns, |cut_ns| cut_ns.min(window.end_ns));
        let mut recorder = std::mem::replace(&mut self.recorder, super::recorder("append", false));
        recorder.cut(end_ns);
        let late_ns = end_ns.saturating_sub(self.intended_ns(window.start_ns, end_ns)) as f64;
        let mut measured = Measured::new(recorder, std::mem::take(&mut self.checks));
        measured.unknown = self.appended - self.acknowledged;
        measured.never_begun = self.interval_ns.map_or(0, |interval| (late_ns / interval).ceil() as u64);
        measured.begun_late = self.begun_late;
        measured.warnings = std::mem::take(&mut self.warnings);
        Some((measured, self.acked.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::control::Window;
    use super::*;
    use crate::args::{Cli, Target};
    use clap::Parser;
    use zoolog_client::ClientConfig;
    use zoolog_core::Instant;

    /// A writer under load, on a client that never reaches a log: it takes records until its window is full.
    fn writer(more: &[&str]) -> (Appender, LogClient, Arc<Control>) {
        let line = ["loadgen", "log", "--orderers", "a:1", "--writers", "2", "--depth", "100"];
        let Target::Log(args) = Cli::parse_from(line.iter().chain(more)).target else {
            unreachable!("asked for log")
        };
        let control = Arc::new(Control::default());
        control.open(Window { start_ns: 1_000, measure_ns: 1_000, end_ns: 1_000_000_000 });
        let log = LogClient::new(ClientConfig::default(), 3, Instant(0));
        (Appender::new(1, &args, 7, control.clone()), log, control)
    }

    #[test]
    fn acknowledged_records_are_replaced_up_to_the_depth_and_the_end_is_in_order() {
        let (mut writer, mut log, control) = writer(&[]);
        writer.turn(1_000, &mut log);
        assert_eq!((writer.appended, writer.acknowledged), (100, 0));
        writer.event(5_000, &mut log, LogEvent::Appended { seq: Seq(0), first_gsn: Gsn(40), count: 100 });
        assert_eq!((writer.acknowledged, control.answered()), (100, 100));
        writer.turn(1_000_000_001, &mut log);
        let (measured, acked) = writer.result().expect("nothing is in flight");
        assert!(!measured.checks.any_failed(), "{}", measured.checks.summary());
        assert_eq!((measured.unknown, measured.recorder.answered_ever()), (0, 100));
        assert_eq!(acked.batches, [AckedBatch { first_gsn: Gsn(40), first_counter: 1, count: 100 }]);
    }

    #[test]
    fn odd_acknowledgements_are_caught() {
        let acks = [(ONCE, Seq(3), Gsn(100), 100), (AHEAD, Seq(1), Gsn(5), 1), (COUNT, Seq(0), Gsn(100), 7)];
        for (check, seq, first_gsn, count) in acks {
            let (mut writer, mut log, _) = writer(&[]);
            writer.turn(1_000, &mut log);
            if seq != Seq(0) {
                writer.event(
                    2_000,
                    &mut log,
                    LogEvent::Appended { seq: Seq(0), first_gsn: Gsn(0), count: 100 },
                );
            }
            writer.event(3_000, &mut log, LogEvent::Appended { seq, first_gsn, count });
            assert!(writer.checks.failed.contains_key(check), "{check}: {}", writer.checks.summary());
        }
    }

    #[test]
    fn a_fixed_rate_appends_what_is_due_and_counts_what_it_missed() {
        let (mut writer, mut log, _) = writer(&["--rate", "2000"]);
        writer.turn(50_000_000, &mut log);
        assert_eq!(writer.appended, 50, "one each millisecond, from half a millisecond on");
        assert!(writer.begun_late > 30 && writer.due_ns() > Some(50_000_000));
        writer.turn(1_000_000_000, &mut log);
        assert!(writer.result().is_none(), "acknowledgements may still come");
        writer.turn(1_000_000_001 + DRAIN_NS, &mut log);
        let (measured, _) = writer.result().expect("the wait is over");
        assert_eq!((measured.unknown, measured.never_begun), (50, 950));
    }
}
