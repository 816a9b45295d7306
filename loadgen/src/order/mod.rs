//! `loadgen order`: what is a run? Find the leader, register emulated slots, report in rounds, take the cuts,
//! report how many records were ordered, how fast, and at which cost.

mod cluster;
mod fleet;
mod lanes;
mod link;

use crate::args::OrderArgs;
use crate::clock::{Clock, nanos, thread_cpu_ns, wall_ms};
use crate::interrupt::Interrupt;
use crate::objectives::judge;
use crate::progress::Progress;
use crate::recorder::Recorder;
use crate::report::{Ending, Report};
use crate::timer::Timer;
use crate::{Outcome, finish};
use anyhow::{Context, bail};
use cluster::Spawned;
use fleet::{Came, Fleet};
use lanes::{Cuts, Lanes};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Shards that a cluster can have.
const SHARDS_MAX: u32 = 1024;
/// Rounds whose records are not all ordered: beyond it none is begun.
const ROUNDS_MAX: u64 = 1000;
/// Longest wait for the last cuts, and for the first.
const PATIENCE_NS: u64 = 5_000_000_000;
/// How often signals and the orderers' processes are looked at.
const LOOK_NS: u64 = 50_000_000;

/// Runs it.
///
/// # Errors
/// Why nothing could be measured.
pub fn run(args: &OrderArgs) -> anyhow::Result<Outcome> {
    check(args)?;
    let interrupt = Interrupt::install().context("installing signal handlers")?;
    let (started_ms, clock, mut progress) = (wall_ms(), Clock::start(), Progress::new());
    progress.say("looking for the leader");
    let mut spawned = args.spawn.as_ref().map(|zoolog| Spawned::start(zoolog, args)).transpose()?;
    let ready = ready(args, clock, &mut spawned);
    let mut load = match ready {
        Ok(load) => load,
        Err(e) => {
            progress.end();
            crate::leave_failure(&args.run, settings(args), &e)?;
            return Err(e);
        }
    };
    let trouble = load.run(&mut progress, &interrupt, &mut spawned).err().map(|e| format!("{e:#}"));
    progress.end();
    load.report(started_ms, trouble, interrupt.is_set())
}

/// Options that don't go together.
fn check(args: &OrderArgs) -> anyhow::Result<()> {
    if args.run.rate.is_some() {
        bail!("--rate is not used here: --interval, --changed and --records-per-lane make the rate");
    }
    if !args.lanes.is_multiple_of(args.replicas) || args.lanes / args.replicas > SHARDS_MAX {
        bail!("--lanes must be a multiple of --replicas, of {SHARDS_MAX} shards at most");
    }
    if args.connections < args.replicas {
        bail!(
            "--connections {}: the {} replicas of a shard are in different slots",
            args.connections,
            args.replicas
        );
    }
    Ok(())
}

/// Registered, with the first reports ordered as far as they bring anything.
fn ready<'a>(args: &'a OrderArgs, clock: Clock, spawned: &mut Option<Spawned>) -> anyhow::Result<Load<'a>> {
    let orderers = spawned.as_ref().map_or(&args.orderers, |s| &s.addresses).clone();
    let timer = Timer::new()?;
    let found = fleet::find_leader(&orderers, clock, || spawned.as_mut().map_or(Ok(()), Spawned::check))?;
    let mut fleet = Fleet::register(&found, args.connections, timer.fd())?;
    let shards = (args.lanes / args.replicas) as usize;
    let view = fleet.await_view(shards, found.order.view.clone(), clock)?;
    fleet.take_places(&view, args.replicas as usize)?;
    let lens: BTreeMap<_, _> = found.order.lanes.iter().map(|l| (l.lane, l.to)).collect();
    let len = |lane| lens.get(&lane).copied().unwrap_or(0);
    let lanes = Lanes::new(&view, len, found.order.number, found.order.tail);
    fleet.report(&lanes, &(0..shards).collect::<Vec<_>>())?;
    let changed = if args.changed == 0 { args.lanes } else { args.changed.min(args.lanes) };
    let open_loop = !args.interval.is_zero();
    Ok(Load {
        args,
        clock,
        timer,
        fleet,
        lanes,
        changed: changed as usize,
        places: Vec::new(),
        recorder: Recorder::new(&["record"], open_loop),
        cuts: Cuts::default(),
        rounds: 0,
        skipped: 0,
        reported: 0,
        ordered: 0,
        window: (u64::MAX, u64::MAX),
        busy: 0.0,
        orderers_cpu: Vec::new(),
    })
}

/// One run.
struct Load<'a> {
    args: &'a OrderArgs,
    clock: Clock,
    timer: Timer,
    fleet: Fleet,
    lanes: Lanes,
    changed: usize,
    places: Vec<usize>,
    recorder: Recorder,
    cuts: Cuts,
    rounds: u64,
    /// Rounds whose time had come, but too much waited for the orderers.
    skipped: u64,
    /// Records.
    reported: u64,
    ordered: u64,
    window: (u64, u64),
    busy: f64,
    /// Per orderer that we started, processor seconds during the load.
    orderers_cpu: Vec<f64>,
}

impl Load<'_> {
    /// Warm-up, window, and the wait for the last cuts.
    fn run(
        &mut self,
        progress: &mut Progress,
        interrupt: &Interrupt,
        spawned: &mut Option<Spawned>,
    ) -> anyhow::Result<()> {
        let start_ns = self.clock.now_ns();
        let measure_ns = start_ns + nanos(self.args.run.warmup);
        let end_ns = measure_ns + nanos(self.args.run.duration).max(1);
        self.window = (measure_ns, end_ns);
        self.recorder.open(measure_ns, end_ns);
        progress.start(end_ns - start_ns);
        let cpu_before = spawned.as_ref().map_or(Vec::new(), Spawned::cpu_seconds);
        let cpu_ns = thread_cpu_ns();
        let loaded = self.load(start_ns, progress, interrupt, spawned);
        let now_ns = self.clock.now_ns();
        self.recorder.cut(now_ns.min(end_ns));
        self.window.1 = now_ns.min(end_ns);
        self.busy = (thread_cpu_ns() - cpu_ns) as f64 / now_ns.saturating_sub(start_ns).max(1) as f64;
        let cpu_after = spawned.as_ref().map_or(Vec::new(), Spawned::cpu_seconds);
        self.orderers_cpu = cpu_after.iter().zip(&cpu_before).map(|(after, before)| after - before).collect();
        loaded?;
        let give_up_ns = now_ns + PATIENCE_NS;
        while !self.lanes.is_settled() && self.clock.now_ns() < give_up_ns && !interrupt.is_set() {
            self.turn(10_000_000)?;
        }
        Ok(())
    }

    fn load(
        &mut self,
        start_ns: u64,
        progress: &mut Progress,
        interrupt: &Interrupt,
        spawned: &mut Option<Spawned>,
    ) -> anyhow::Result<()> {
        let (mut look_ns, mut progress_ns, mut ordered) = (0, start_ns, 0);
        loop {
            let now_ns = self.clock.now_ns();
            if now_ns >= self.window.1 || interrupt.is_set() {
                return Ok(());
            }
            if now_ns >= look_ns {
                look_ns = now_ns + LOOK_NS;
                spawned.as_mut().map_or(Ok(()), Spawned::check)?;
                progress.at(now_ns - start_ns, self.ordered);
                if self.ordered != ordered || self.ordered == self.reported {
                    (ordered, progress_ns) = (self.ordered, now_ns);
                }
                if now_ns - progress_ns > PATIENCE_NS {
                    bail!(
                        "no cut has come for {} s: have the orderers a quorum?",
                        PATIENCE_NS / 1_000_000_000
                    );
                }
            }
            let wait_ns = self.rounds(start_ns, now_ns)?;
            self.turn(wait_ns)?;
        }
    }

    /// Begins the rounds that are due; says how long until the next one.
    fn rounds(&mut self, start_ns: u64, now_ns: u64) -> anyhow::Result<u64> {
        let interval_ns = nanos(self.args.interval);
        let waiting = self.reported - self.ordered;
        let per_round = self.changed as u64 * self.args.records_per_lane;
        if interval_ns == 0 {
            if waiting == 0 {
                self.begin(now_ns, now_ns)?;
            }
            return Ok(LOOK_NS);
        }
        let mut due_ns = start_ns + (self.rounds + self.skipped) * interval_ns;
        if due_ns <= now_ns {
            if waiting > ROUNDS_MAX * per_round || self.fleet.is_behind() {
                self.skipped += 1;
            } else {
                self.begin(due_ns, now_ns)?;
            }
            due_ns += interval_ns;
        }
        Ok(due_ns.saturating_sub(self.clock.now_ns()))
    }

    fn begin(&mut self, intended_ns: u64, now_ns: u64) -> anyhow::Result<()> {
        let records = self.args.records_per_lane;
        self.lanes.grow(self.changed, records, intended_ns, now_ns, &mut self.places);
        self.fleet.report(&self.lanes, &self.places)?;
        self.recorder.begun(intended_ns, now_ns - intended_ns);
        self.rounds += 1;
        self.reported += self.changed as u64 * records;
        Ok(())
    }

    fn turn(&mut self, wait_ns: u64) -> anyhow::Result<()> {
        self.timer.set(wait_ns)?;
        let Self { fleet, lanes, recorder, cuts, clock, window, ordered, .. } = self;
        fleet.turn(wait_ns + 1_000_000, |came| {
            let Came::Cut(cut, bytes) = came else { return };
            let now_ns = clock.now_ns();
            let oldest = lanes.cut(&cut, |run| {
                *ordered += run.records;
                recorder.answered(0, run.intended_ns, run.sent_ns, now_ns, run.records);
            });
            if (window.0..window.1).contains(&now_ns) {
                cuts.count += 1;
                cuts.bytes += bytes;
                cuts.lanes += cut.lanes.len() as u64;
                if let Some(oldest_ns) = oldest {
                    cuts.latency.saturating_record(now_ns.saturating_sub(oldest_ns));
                }
            }
        })
    }

    fn report(self, started_ms: u64, trouble: Option<String>, interrupted: bool) -> anyhow::Result<Outcome> {
        let seconds = self.recorder.seconds().max(1e-9);
        let lagged = self.lagged();
        let (args, recorder, cuts) = (self.args, &self.recorder, &self.cuts);
        let us = |q: f64| (cuts.latency.value_at_quantile(q) / 1000) as f64;
        let per_cut = |n: u64| n as f64 / cuts.count.max(1) as f64;
        let counts = json!({
            "cuts": cuts.count, "cuts_per_second": (cuts.count as f64 / seconds).round(),
            "bytes_per_cut": per_cut(cuts.bytes).round(), "lanes_per_cut": per_cut(cuts.lanes).round(),
            "cut_latency_us": {"p50": us(0.5), "p99": us(0.99), "p99_9": us(0.999), "max": us(1.0)},
            "rounds": self.rounds, "rounds_skipped": self.skipped,
            "records_unordered": self.reported - self.ordered, "report_bytes_sent": self.fleet.sent_bytes,
            "orderers_cpu_seconds": self.orderers_cpu,
            "threads_busy_percent": [(self.busy * 1000.0).round() / 10.0],
        });
        let is_settled = self.lanes.is_settled();
        let settings = settings(args);
        let title = format!("order, {} lanes, {} change per round", args.lanes, self.changed);
        let objectives = judge(&args.run.slo, recorder);
        let mut warnings = Vec::new();
        if self.skipped > 0 {
            warnings.push(format!("{} rounds were skipped: the orderers could not keep up", self.skipped));
        }
        if !is_settled && trouble.is_none() {
            warnings.push("some of what was reported was not ordered in time".to_owned());
        }
        let checks = self.lanes.finish();
        let report = Report {
            recorder: &self.recorder,
            checks: &checks,
            settings,
            counts,
            started_ms,
            warnings: &warnings,
            ending: Ending { trouble, interrupted, lagged },
            objectives,
            stages: Vec::new(),
        };
        finish(report, &args.run, &[], &title)
    }

    /// Why the generator was what was measured, if so.
    fn lagged(&self) -> Option<String> {
        (self.busy > 0.95 && self.recorder.is_open_loop()).then(|| {
            format!(
                "the generator could not keep up: it was busy for {:.0} % of the time; fewer --lanes or a longer \
                 --interval",
                self.busy * 100.0
            )
        })
    }
}

fn settings(args: &OrderArgs) -> Value {
    json!({
        "target": "order", "orderers": args.orderers, "spawned": args.spawn.is_some(), "lanes": args.lanes,
        "replicas": args.replicas, "connections": args.connections, "changed": args.changed,
        "records_per_lane": args.records_per_lane, "interval_us": args.interval.as_micros() as u64,
        "cut_interval_us": args.cut_interval.as_micros() as u64,
        "duration_seconds": args.run.duration.as_secs_f64(), "warmup_seconds": args.run.warmup.as_secs_f64(),
    })
}
