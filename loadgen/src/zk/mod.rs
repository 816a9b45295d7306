//! `loadgen zk`: what is a run? Connect, make the nodes, load, drain, close, report.

mod driver;
mod session;
mod timer;
mod verify;
mod wire;
mod work;

use crate::args::{ZkArgs, ZkOp};
use crate::clock::{self, Clock};
use crate::environment::cpu_seconds;
use crate::interrupt::Interrupt;
use crate::payload::Payload;
use crate::progress::Progress;
use crate::recorder::Recorder;
use crate::report::Report;
use crate::{Outcome, finish};
use anyhow::{Context, bail};
use driver::Driver;
use serde_json::json;
use session::{Counts, State, World};
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;
use verify::Verify;
use wire::Encoder;
use work::{KINDS, Paths, Phase, Work};

/// Longest wait for another session to come up.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// Longest wait for progress while the nodes are made.
const SETUP_PATIENCE: Duration = Duration::from_secs(30);
/// Longest wait for answers after the load.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);
/// Longest wait for sessions to end.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// Runs it.
///
/// # Errors
/// Why nothing could be measured.
pub fn run(args: &ZkArgs) -> anyhow::Result<Outcome> {
    let started_ms = clock::wall_ms();
    let servers = resolve(&args.servers)?;
    let interrupt = Interrupt::install().context("installing signal handlers")?;
    let clock = Clock::start();
    let mut world = world(args, started_ms);
    let mut driver = Driver::new(servers, args.sessions, args.depth, clock).context("setting up epoll")?;
    let progress = Progress::new();
    let mut run =
        Run { args, clock, driver: &mut driver, world: &mut world, interrupt: &interrupt, progress };
    let processor_seconds = match run.all() {
        Ok(seconds) => seconds,
        // Whatever made the set-up fail may be a check that failed: say so first.
        Err(e) if interrupt.is_set() => {
            eprintln!("interrupted before anything was measured ({e:#})");
            return Ok(Outcome::Interrupted);
        }
        Err(e) => {
            let checks = world.verify.finish();
            if checks.any_failed() {
                eprintln!("{}", checks.summary());
            }
            return Err(e);
        }
    };
    report(args, started_ms, processor_seconds, world, &interrupt)
}

fn world(args: &ZkArgs, started_ms: u64) -> World {
    // Tells this run's values and nodes from those of any other in reach.
    let run_id = (started_ms as u32).wrapping_mul(0x9e37_79b1) ^ std::process::id();
    let names: Vec<&'static str> = match args.op {
        ZkOp::Create => vec!["create"],
        ZkOp::Set => vec!["set"],
        ZkOp::Get => vec!["get"],
        ZkOp::Exists => vec!["exists"],
        ZkOp::Mixed(_) => vec!["get", "set"],
    };
    let paths = Paths::new(&args.prefix, run_id, args.op, args.sessions);
    let keys = if args.op == ZkOp::Create { 0 } else { args.keys };
    World {
        work: Work::new(args, paths.parents()),
        verify: Verify::new(args.sessions, keys),
        payload: Payload::new(run_id, args.size as usize),
        paths,
        recorder: Recorder::new(&names, args.run.rate.is_some()),
        counts: Counts::default(),
        encoder: Encoder::new(),
        kinds: KINDS.map(|kind| names.iter().position(|&name| name == kind)),
        session_timeout_ms: args.session_timeout_ms,
    }
}

struct Run<'a> {
    args: &'a ZkArgs,
    clock: Clock,
    driver: &'a mut Driver,
    world: &'a mut World,
    interrupt: &'a Interrupt,
    progress: Progress,
}

impl Run<'_> {
    /// All phases; returns the processor seconds the generator took for the load.
    fn all(&mut self) -> anyhow::Result<f64> {
        self.progress.say("connecting");
        let servers = self.args.servers.join(",");
        self.wait(CONNECT_PATIENCE, |d, _| {
            d.sessions().iter().filter(|s| s.state() != State::Up).count() as u64
        })
        .with_context(|| format!("can't open sessions: does a ZooKeeper serve at {servers}?"))?;
        for (phase, what) in [
            (Phase::Parents, "making the nodes above"),
            (Phase::Fill, "making the nodes"),
            (Phase::Sync, "syncing"),
        ] {
            self.progress.say(what);
            self.world.work.enter(phase);
            self.driver.serve_all(self.world);
            self.wait(SETUP_PATIENCE, |_, world| u64::from(world.work.left())).context(what)?;
        }
        let before = cpu_seconds();
        self.load()?;
        let processor_seconds = cpu_seconds() - before;
        self.wind_down()?;
        Ok(processor_seconds)
    }

    /// Turns until `left` is 0; fails when it has not changed for `patience`.
    fn wait(&mut self, patience: Duration, left: fn(&Driver, &World) -> u64) -> anyhow::Result<()> {
        let patience_ns = clock::nanos(patience);
        let mut least = u64::MAX;
        let mut give_up_ns = self.clock.now_ns() + patience_ns;
        loop {
            let now = left(self.driver, self.world);
            if now == 0 {
                return Ok(());
            }
            let now_ns = self.clock.now_ns();
            if now < least {
                least = now;
                give_up_ns = now_ns + patience_ns;
            }
            if self.interrupt.is_set() || now_ns > give_up_ns {
                bail!("{now} left to do, {:.1} s after the start", now_ns as f64 / 1e9);
            }
            self.driver.turn(give_up_ns, self.world)?;
            self.driver.serve_all(self.world);
        }
    }

    fn load(&mut self) -> anyhow::Result<()> {
        let (warmup_ns, measured_ns) =
            (clock::nanos(self.args.run.warmup), clock::nanos(self.args.run.duration));
        let start_ns = self.clock.now_ns();
        let end_ns = start_ns + warmup_ns + measured_ns;
        self.world.recorder.open(start_ns + warmup_ns, end_ns);
        self.world.work.start_load(start_ns, end_ns);
        self.progress.start(warmup_ns + measured_ns);
        self.driver.serve_all(self.world);
        let paced = self.args.run.rate.is_some();
        loop {
            let now_ns = self.clock.now_ns();
            if now_ns >= end_ns {
                break;
            }
            if self.interrupt.is_set() {
                self.world.recorder.cut(now_ns);
                break;
            }
            self.progress.at(now_ns - start_ns, self.world.recorder.answered_ever());
            self.driver.turn(end_ns, self.world)?;
            if paced {
                self.driver.serve_all(self.world);
            }
        }
        self.world.counts.never_begun = self.world.work.never_begun(self.clock.now_ns().min(end_ns));
        Ok(())
    }

    /// Waits for what is in flight, then ends the sessions. What does not come in time is unknown.
    fn wind_down(&mut self) -> anyhow::Result<()> {
        self.progress.say("waiting for the last answers");
        self.world.work.enter(Phase::Drain);
        let until_ns = self.clock.now_ns() + clock::nanos(DRAIN_PATIENCE);
        let waiting = |d: &Driver| d.sessions().iter().map(|s| s.measured_in_flight()).sum::<u64>();
        while waiting(self.driver) > 0 && self.clock.now_ns() < until_ns {
            self.driver.turn(until_ns, self.world)?;
        }
        self.world.work.enter(Phase::Close);
        self.progress.say("closing sessions");
        let until_ns = self.clock.now_ns() + clock::nanos(CLOSE_PATIENCE);
        let open = |s: &session::Session| !matches!(s.state(), State::Closed | State::Down { .. });
        while self.driver.sessions().iter().any(open) && self.clock.now_ns() < until_ns {
            self.driver.serve_all(self.world);
            self.driver.turn(until_ns, self.world)?;
        }
        self.world.counts.unknown += waiting(self.driver);
        self.progress.end();
        Ok(())
    }
}

fn report(
    args: &ZkArgs,
    started_ms: u64,
    processor_seconds: f64,
    world: World,
    interrupt: &Interrupt,
) -> anyhow::Result<Outcome> {
    let World { verify, recorder, counts, .. } = world;
    let errors = verify.errors().clone();
    let checks = verify.finish();
    let mut warnings = Vec::new();
    let begun = recorder.answered_ever() + counts.unknown;
    if counts.never_begun > 0 || counts.begun_late > begun / 100 {
        warnings.push(format!(
            "the rate was not kept up: {} operations began more than 10 ms late, {} never did; \
             the servers, the depth or the generator were too slow for it",
            counts.begun_late, counts.never_begun
        ));
    }
    if recorder.seconds() > 0.0 && processor_seconds > 0.9 * recorder.seconds() {
        warnings.push("the generator was busy all the time: it may be what was measured".to_owned());
    }
    let settings = json!({
        "target": "zk", "servers": args.servers, "op": args.op.to_string(), "sessions": args.sessions,
        "depth": args.depth, "size_bytes": args.size, "keys": args.keys, "prefix": args.prefix,
        "session_timeout_ms": args.session_timeout_ms, "rate_per_second": args.run.rate,
        "duration_seconds": args.run.duration.as_secs_f64(), "warmup_seconds": args.run.warmup.as_secs_f64(),
        "seed": args.run.seed,
    });
    let mut counts = serde_json::to_value(&counts)?;
    counts["errors"] = serde_json::to_value(errors)?;
    counts["load_cpu_seconds"] = json!(processor_seconds);
    let report =
        Report { recorder: &recorder, checks: &checks, settings, counts, started_ms, warnings: &warnings };
    finish(&report, &args.run, interrupt)
}

fn resolve(servers: &[String]) -> anyhow::Result<Vec<SocketAddr>> {
    let one = |text: &String| {
        let with_port = if text.contains(':') { text.clone() } else { format!("{text}:2181") };
        let mut all = with_port.to_socket_addrs().with_context(|| format!("server {text}"))?;
        all.next().with_context(|| format!("server {text} has no address"))
    };
    servers.iter().map(one).collect()
}
