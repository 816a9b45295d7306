//! `loadgen zk`: what is a run? Connect, make the nodes, load (once, or at rising rates), drain, close, report.

mod crew;
mod driver;
mod session;
mod storm;
mod trouble;
mod verify;
mod wire;
mod work;
mod worker;

use crate::args::{ZkArgs, ZkOp};
use crate::clock::{nanos, wall_ms};
use crate::interrupt::Interrupt;
use crate::objectives::{judge, servers_met};
use crate::payload::Payload;
use crate::recorder::Recorder;
use crate::report::{Ending, Report};
use crate::sweep::{self, Step};
use crate::{Outcome, finish};
use anyhow::{Context, bail};
use crew::{Crew, Load};
use serde_json::{Value, json};
use session::{Counts, World};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use trouble::Troubles;
use verify::Verify;
use wire::Encoder;
use work::{Common, KINDS, Paths, Share, Work};

/// Share of the schedule that may be missed before a busy generator is to blame.
const MISSED_MOST: f64 = 0.01;
/// Share of a processor beyond which a thread has no time left.
const BUSY_MOST: f64 = 0.95;

/// Runs it.
///
/// # Errors
/// Why nothing could be measured.
pub fn run(args: &ZkArgs) -> anyhow::Result<Outcome> {
    check(args)?;
    let started_ms = wall_ms();
    let servers = resolve(&args.servers)?;
    let interrupt = Interrupt::install().context("installing signal handlers")?;
    let mut crew = Crew::start(args, &servers, started_ms, &interrupt)?;
    if let Err(e) = crew.set_up() {
        crew.hurry();
        let (checks, _) = crew.end();
        // Whatever made the set-up fail may be a check that failed: say so first.
        if checks.any_failed() {
            eprintln!("{}", checks.summary());
        }
        if interrupt.is_set() {
            eprintln!("interrupted before anything was measured ({e:#})");
            return Ok(Outcome::Interrupted);
        }
        crate::leave_failure(&args.run, settings(args), &e)?;
        return Err(e);
    }
    let loaded = if args.sweep.sweep { climb(args, &mut crew, &interrupt) } else { once(args, &mut crew) };
    let found = match loaded {
        Ok(found) => found,
        Err(e) => {
            crew.hurry();
            crew.end();
            return Err(e);
        }
    };
    let (checks, errors) = crew.end();
    report(args, started_ms, &found, (checks, json!(errors)), &interrupt)
}

/// What the loads of a run found.
struct Found {
    /// The only load, unless it was a sweep.
    single: Option<Recorder>,
    /// Steps of a sweep.
    steps: Vec<Step>,
    counts: Counts,
    /// Per thread.
    busy: Vec<f64>,
    trouble: Option<String>,
    lagged: Option<String>,
}

impl Found {
    /// What the figures of the run are: of a sweep, those at the knee.
    fn recorder(&self) -> &Recorder {
        let step = || sweep::knee(&self.steps).or(self.steps.last()).map(|s| &s.recorder);
        self.single.as_ref().or_else(step).expect("a run has at least one load")
    }
}

fn once(args: &ZkArgs, crew: &mut Crew<'_>) -> anyhow::Result<Found> {
    let load = crew.load(args.run.warmup, args.run.duration, args.run.rate)?;
    let lagged = lagged(args, &load);
    let Load { recorder, counts, busy, trouble } = load;
    Ok(Found { single: Some(recorder), steps: Vec::new(), counts, busy, trouble, lagged })
}

/// One load after the other, each at a higher rate, until one is not good.
fn climb(args: &ZkArgs, crew: &mut Crew<'_>, interrupt: &Interrupt) -> anyhow::Result<Found> {
    let (mut steps, mut counts, mut busy, mut trouble) = (Vec::new(), Counts::default(), Vec::new(), None);
    let mut rate = Some(args.sweep.rate_from);
    let mut lag = None;
    while let Some(at) = rate.filter(|_| steps.len() < sweep::STEPS_MAX) {
        let warmup = if steps.is_empty() { args.run.warmup } else { args.sweep.step_duration / 4 };
        let load = crew.load(warmup, args.sweep.step_duration, Some(at))?;
        // Where the servers alone miss an objective, they are what was measured, however late the generator was:
        // on a machine that they share, the one brings the other.
        lag = lagged(args, &load).filter(|_| servers_met(&args.run.slo, &load.recorder));
        counts.merge(&load.counts);
        busy.clone_from(&load.busy);
        trouble = load.trouble;
        let objectives = judge(&args.run.slo, &load.recorder);
        let cut = trouble.is_some() || interrupt.is_set();
        let step = Step { rate: at, recorder: load.recorder, objectives, lagged: lag.clone(), cut };
        let verdict = step.why_not();
        eprintln!(
            "step {at:.0}/s: {:.0}/s achieved, {}",
            step.recorder.per_second(),
            verdict.as_deref().unwrap_or("good")
        );
        steps.push(step);
        rate = if verdict.is_none() { sweep::next_rate(&args.sweep, at) } else { None };
    }
    Ok(Found { single: None, steps, counts, busy, trouble, lagged: lag })
}

/// Why a load at a fixed rate says more about the generator than about the servers, if so.
fn lagged(args: &ZkArgs, load: &Load) -> Option<String> {
    if !load.recorder.is_open_loop() || load.trouble.is_some() {
        return None;
    }
    let late_ns = load.recorder.lateness().value_at_quantile(0.99);
    if late_ns > nanos(args.lateness) {
        return Some(format!(
            "the generator could not keep up: it began requests {:.1} ms late at its 99th percentile, though \
             sessions had room (--lateness {:?}); give it more processor, --threads, or a lower rate",
            late_ns as f64 / 1e6,
            args.lateness
        ));
    }
    let missed = load.counts.never_begun as f64 / load.counts.scheduled.max(1) as f64;
    let busiest = load.busy.iter().copied().fold(0.0, f64::max);
    (busiest > BUSY_MOST && missed > MISSED_MOST).then(|| {
        format!(
            "the generator could not keep up: a thread was busy for {:.0} % of the time and {:.1} % of the \
             schedule was never begun; give it more --threads or a lower rate",
            busiest * 100.0,
            missed * 100.0
        )
    })
}

/// Options that don't go together.
fn check(args: &ZkArgs) -> anyhow::Result<()> {
    if !args.op.has_rate() && (args.run.rate.is_some() || args.sweep.sweep) {
        bail!("--op {} goes as fast as it can: it knows neither --rate nor --sweep", args.op);
    }
    let sessions = sessions(args);
    if args.threads > sessions {
        bail!("--threads {} for {sessions} sessions: a session lives on one thread", args.threads);
    }
    Ok(())
}

/// Sessions of the run; in a watch storm one more than watchers, which sets the node.
fn sessions(args: &ZkArgs) -> u32 {
    args.sessions + u32::from(args.op == ZkOp::WatchStorm)
}

/// One per thread.
fn worlds(args: &ZkArgs, started_ms: u64) -> Vec<World> {
    // Tells this run's values and nodes from those of any other in reach.
    let run_id = (started_ms as u32).wrapping_mul(0x9e37_79b1) ^ std::process::id();
    let (names, sessions) = (args.op.kinds(), sessions(args));
    let keys = match args.op {
        ZkOp::WatchStorm => 1,
        op if op.uses_keys() => args.keys,
        _ => 0,
    };
    let watchers = (args.op == ZkOp::WatchStorm).then_some(args.sessions);
    let common = Arc::new(Common::new(sessions, watchers));
    let world = |thread| {
        let share = Share::of(thread, args.threads, sessions, keys);
        let paths = Paths::new(&args.prefix, run_id, args.op, sessions);
        let patience = args.connect_timeout.mul_f64(0.75);
        World {
            verify: Verify::new(share.sessions.clone(), keys),
            work: Work::new(args, share, paths.parents(), common.clone()),
            payload: Payload::new(run_id, args.size),
            paths,
            recorder: Recorder::new(names, args.run.rate.is_some()),
            counts: Counts::default(),
            troubles: Troubles::new(args.servers.len()),
            encoder: Encoder::new(),
            kinds: KINDS.map(|kind| names.iter().position(|&name| name == kind)),
            session_timeout_ms: args.session_timeout_ms,
            greeting_ns: nanos(patience).min(u64::from(args.session_timeout_ms) * 666_667),
            auth: args.auth.clone(),
            heard_ns: 0,
        }
    };
    (0..args.threads).map(world).collect()
}

fn settings(args: &ZkArgs) -> Value {
    json!({
        "target": "zk", "servers": args.servers, "op": args.op.to_string(), "sessions": args.sessions,
        "depth": args.depth, "threads": args.threads, "size_bytes": args.size.to_string(), "keys": args.keys,
        "distribution": args.distribution.to_string(), "prefix": args.prefix,
        "session_timeout_ms": args.session_timeout_ms, "rate_per_second": args.run.rate,
        "sweep": args.sweep.sweep, "duration_seconds": args.run.duration.as_secs_f64(),
        "warmup_seconds": args.run.warmup.as_secs_f64(), "seed": args.run.seed,
    })
}

fn warnings(found: &Found) -> Vec<String> {
    let (mut warnings, recorder, counts) = (Vec::new(), found.recorder(), &found.counts);
    let begun = recorder.answered_ever() + counts.unknown;
    if found.steps.is_empty() && (counts.never_begun > 0 || counts.begun_late > begun / 100) {
        warnings.push(format!(
            "the rate was not kept up: {} operations began more than 10 ms late, {} never did",
            counts.begun_late, counts.never_begun
        ));
    }
    if found.busy.iter().any(|busy| *busy > 0.9) {
        warnings.push(
            "a thread of the generator was busy all the time: it may be what was measured; try --threads"
                .to_owned(),
        );
    }
    warnings
}

fn report(
    args: &ZkArgs,
    started_ms: u64,
    found: &Found,
    (checks, errors): (crate::checks::Checks, Value),
    interrupt: &Interrupt,
) -> anyhow::Result<Outcome> {
    let recorder = found.recorder();
    let mut counts = serde_json::to_value(&found.counts)?;
    counts["errors"] = errors;
    let percent = |busy: &f64| (busy * 1000.0).round() / 10.0;
    counts["threads_busy_percent"] = json!(found.busy.iter().map(percent).collect::<Vec<_>>());
    let ending = Ending {
        trouble: found.trouble.clone(),
        interrupted: interrupt.is_set(),
        lagged: found.lagged.clone(),
    };
    let report = Report {
        recorder,
        checks: &checks,
        settings: settings(args),
        counts,
        started_ms,
        warnings: &warnings(found),
        ending,
        objectives: judge(&args.run.slo, recorder),
        stages: Vec::new(),
    };
    let title = format!("{}, {} sessions x {}", args.op, args.sessions, args.depth);
    finish(report, &args.run, &found.steps, &title)
}

fn resolve(servers: &[String]) -> anyhow::Result<Vec<SocketAddr>> {
    let one = |text: &String| {
        let with_port = if text.contains(':') { text.clone() } else { format!("{text}:2181") };
        let mut all = with_port.to_socket_addrs().with_context(|| format!("server {text}"))?;
        all.next().with_context(|| format!("server {text} has no address"))
    };
    servers.iter().map(one).collect()
}
