//! `loadgen audit`: does a log keep its promises, whatever happens to it? Writers and followers until somebody says
//! stop; then readers over all of it; what they saw is judged by [`rules`] and compared.

mod reader;
mod rules;

use super::append::{Acked, Appender};
use super::control::{Control, Window};
use super::loader::{Load, Measured};
use super::{Clients, LOOK};
use crate::Outcome;
use crate::args::{AuditArgs, LogArgs};
use crate::checks::Checks;
use crate::clock::{nanos, wall_ms};
use crate::interrupt::Interrupt;
use crate::payload::Payload;
use crate::sizes::Sizes;
use anyhow::{Context, anyhow, bail};
use reader::{Goal, Reader, Seen, Way};
use rules::Rules;
use serde_json::{Value, json};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use zoolog_client::{LogClient, LogEvent};
use zoolog_core::rt::{self, clock};

/// Longest wait for the writers to reach the log.
const READY_PATIENCE: Duration = Duration::from_secs(60);
const LIVE: &str = "LOG-5: every append is acknowledged in the end";

/// Runs it.
///
/// # Errors
/// Why nothing could be audited.
pub fn run(args: &AuditArgs) -> anyhow::Result<Outcome> {
    rt::preflight::check().map_err(|e| anyhow!(e))?;
    let interrupt = Interrupt::install().context("installing signal handlers")?;
    let run_id = (wall_ms() as u32).wrapping_mul(0x9e37_79b1) ^ std::process::id();
    let audit = Audit { args, interrupt, run_id, goal: Arc::default() };
    let mut followers = Readers::start(&audit, "follower", Way::Subscribes, args.followers)?;
    let written = audit.write(&followers)?;
    let mut subscriber = Readers::start(&audit, "subscriber", Way::Subscribes, 1)?;
    let mut ranges = Readers::start(&audit, "reader of ranges", Way::Ranges, 1)?;
    let mut checks = Checks::default();
    audit.read(&mut [&mut followers, &mut subscriber, &mut ranges], &mut checks)?;
    let seen: Vec<Seen> = [ranges, subscriber, followers].into_iter().flat_map(|r| r.seen).collect();
    let found = found(&seen);
    judge(seen, &written, &mut checks);
    checks.pass(LIVE, written.len() as u64);
    for (acked, measured, appended) in written.iter().filter(|(_, m, _)| m.unknown > 0) {
        let (index, unknown) = (acked.index, measured.unknown);
        checks.fail(LIVE, || format!("writer {index}: {unknown} of {appended} are unknown"));
    }
    let unknown: u64 = written.iter().map(|(_, m, _)| m.unknown).sum();
    let warnings: Vec<&String> = written.iter().flat_map(|(_, m, _)| &m.warnings).collect();
    let writers: Vec<String> = written.iter().map(|(a, ..)| a.writer.to_string()).collect();
    say(&json!({
        "done": true, "tail": found.tail, "records": found.records, "digest": found.digest, "lanes": found.lanes,
        "unknown": unknown, "writers": writers, "checks": checks, "warnings": warnings,
    }));
    eprintln!("{}", checks.summary());
    Ok(if checks.any_failed() { Outcome::Wrong } else { Outcome::Good })
}

/// A line on stdout; if nobody reads it any more, there is nobody to tell.
fn say(line: &Value) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// One audit.
struct Audit<'a> {
    args: &'a AuditArgs,
    interrupt: Interrupt,
    run_id: u32,
    goal: Arc<Goal>,
}

/// What one writer was acknowledged, what it measured and how many records it appended.
type Written = (Acked, Measured, u64);

impl Audit<'_> {
    fn payload(&self) -> Option<Payload> {
        (self.args.writers > 0).then(|| Payload::new(self.run_id, Sizes::Fixed(self.args.size)))
    }

    /// Writes until the signal.
    fn write(&self, followers: &Readers) -> anyhow::Result<Vec<Written>> {
        let appends: LogArgs = self.args.appends();
        if appends.writers == 0 {
            return Ok(Vec::new());
        }
        let controls: Vec<Arc<Control>> = (0..appends.writers).map(|_| Arc::default()).collect();
        let writer = |(i, control): (u32, &Arc<Control>)| Writer {
            appender: Appender::new(i, &appends, self.run_id, control.clone()),
            control: control.clone(),
        };
        let loads = (0..).zip(&controls).map(writer).collect();
        let mut clients = Clients::start(&self.args.orderers, loads)?;
        let began_ns = clock::now().0;
        while controls.iter().any(|c| c.ready() == 0) {
            if clients.next(LOOK)?.is_some() {
                bail!("a writer ended before the start");
            }
            if self.interrupt.is_set() || clock::now().0 - began_ns > nanos(READY_PATIENCE) {
                bail!(
                    "not all writers reached the log: do orderers serve at {}?",
                    appends.orderers.join(",")
                );
            }
        }
        let window = Window::from(clock::now().0, &appends.run);
        controls.iter().for_each(|c| c.open(window));
        let (mut written, mut told) = (Vec::new(), Vec::new());
        while written.len() < controls.len() {
            written.extend(clients.next(self.args.progress)?);
            let acked: Vec<u64> = controls.iter().map(|c| c.answered()).collect();
            if acked != told {
                say(&json!({ "at_ms": wall_ms(), "acked": acked, "followed": followers.at() }));
                told = acked;
            }
            if self.interrupt.is_set() {
                controls.iter().for_each(|c| c.cut(clock::now().0));
            }
        }
        clients.end()?;
        Ok(written)
    }

    /// Waits until all readers have come to the end of the log.
    fn read(&self, all: &mut [&mut Readers], checks: &mut Checks) -> anyhow::Result<()> {
        let (mut last, mut since_ns) = (Vec::new(), clock::now().0);
        loop {
            for readers in all.iter_mut() {
                readers.take()?;
            }
            if all.iter().all(|r| r.is_done()) {
                break;
            }
            let at: Vec<u64> = all.iter().flat_map(|r| r.at()).collect();
            if at != last {
                (last, since_ns) = (at, clock::now().0);
            } else if clock::now().0 - since_ns > nanos(self.args.patience) {
                let until = self.goal.until.get();
                checks.fail(rules::ALL_THERE, || format!("nothing more to read at {last:?} of {until:?}"));
                break;
            }
        }
        all.iter_mut().filter_map(|readers| readers.clients.as_mut()).try_for_each(Clients::end)
    }
}

/// A writer, and how to know at its end how much it has appended.
struct Writer {
    appender: Appender,
    control: Arc<Control>,
}

impl Load for Writer {
    type Result = Written;

    fn turn(&mut self, now_ns: u64, log: &mut LogClient) {
        self.appender.turn(now_ns, log);
    }

    fn event(&mut self, now_ns: u64, log: &mut LogClient, event: LogEvent) {
        self.appender.event(now_ns, log, event);
    }

    fn due_ns(&self) -> Option<u64> {
        self.appender.due_ns()
    }

    fn result(&mut self) -> Option<Written> {
        let (measured, acked) = self.appender.result()?;
        let appended = self.control.answered() + measured.unknown;
        Some((acked, measured, appended))
    }
}

/// Readers of one way, on a thread of their own.
struct Readers {
    /// None of none.
    clients: Option<Clients<Seen>>,
    at: Vec<Arc<AtomicU64>>,
    seen: Vec<Seen>,
}

impl Readers {
    fn start(audit: &Audit<'_>, name: &str, way: Way, n: u32) -> anyhow::Result<Self> {
        let at: Vec<Arc<AtomicU64>> = (0..n).map(|_| Arc::default()).collect();
        let reader = |(i, at): (usize, &Arc<AtomicU64>)| {
            let rules = Rules::new(audit.payload());
            Reader::new(format!("{name} {i}"), way, rules, audit.goal.clone(), at.clone())
        };
        let loads = at.iter().enumerate().map(reader).collect();
        let start = |loads| Clients::start(&audit.args.orderers, loads);
        let clients = if n > 0 { Some(start(loads)?) } else { None };
        Ok(Self { clients, at, seen: Vec::new() })
    }

    fn take(&mut self) -> anyhow::Result<()> {
        if let Some(clients) = self.clients.as_mut().filter(|_| self.seen.len() < self.at.len()) {
            self.seen.extend(clients.next(LOOK)?);
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.seen.len() == self.at.len()
    }

    fn at(&self) -> Vec<u64> {
        self.at.iter().map(|at| at.load(Ordering::Relaxed)).collect()
    }
}

/// What is told of the log itself: as the first reader saw it.
#[derive(Debug, Default)]
struct Found {
    tail: u64,
    records: u64,
    digest: String,
    lanes: Value,
}

fn found(seen: &[Seen]) -> Found {
    let Some(first) = seen.first() else { return Found::default() };
    let lane = |(lane, end): (&zoolog_core::LaneId, &rules::LaneEnd)| {
        (lane.to_string(), json!({ "records": end.end.0, "last_gsn": end.last_gsn.0 }))
    };
    Found {
        tail: first.rules.at().0,
        records: first.rules.records(),
        digest: format!("{:016x}", first.rules.digest()),
        lanes: Value::Object(first.rules.lanes().iter().map(lane).collect()),
    }
}

/// Compares the readers with each other and with what the writers know.
fn judge(mut seen: Vec<Seen>, written: &[Written], checks: &mut Checks) {
    let known: Vec<(Acked, u64)> = written.iter().map(|(acked, _, n)| (acked.clone(), *n)).collect();
    if let Some((first, others)) = seen.split_first() {
        for other in others {
            if let Some((from, to)) = first.rules.difference(&other.rules) {
                checks.fail(rules::ALIKE, || {
                    format!("{} and {} differ in {from} to {to}", first.name, other.name)
                });
            }
        }
    }
    for Seen { rules, .. } in &mut seen {
        if !written.is_empty() {
            rules.judge(&known);
        }
    }
    seen.into_iter().for_each(|s| checks.merge(s.rules.into_checks()));
}
