//! `loadgen`: how fast is it, and is it right? Open- and closed-loop load on any ZooKeeper or on a Zoolog
//! log, with every answer checked. `docs/LOADGEN.md` has the options, files and exit codes.

mod args;
mod charts;
mod checks;
mod clock;
mod environment;
mod files;
mod interrupt;
mod keys;
mod log;
mod objectives;
mod order;
mod pauses;
mod payload;
mod plots;
mod progress;
mod recorder;
mod report;
mod sizes;
mod stages;
mod sweep;
mod timeline;
mod timer;
mod zk;

use anyhow::Context;
use args::{Cli, RunArgs, Target};
use clap::Parser;
use report::Report;
use std::process::ExitCode;
use sweep::Step;

/// How a run that was measured ended. The first that applies, in the order of severity, is the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All checks passed.
    Good,
    /// A check failed.
    Wrong,
    /// The servers went away: what there is are the results up to then.
    Partial,
    /// It was cut short by a signal; the checks passed.
    Interrupted,
    /// The generator was too slow for the rate: the figures are its own.
    Lagged,
    /// An objective was not met.
    Missed,
}

impl Outcome {
    const fn code(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Wrong => 3,
            Self::Lagged => 4,
            Self::Partial => 5,
            Self::Missed => 6,
            Self::Interrupted => 130,
        }
    }
}

/// Buffers of megabytes come and go with every turn; the C library would map and fault them in anew each time
/// (docs/decisions/0005-jemalloc.md).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Read by the allocator as it starts: memory comes in huge pages, where the kernel gives them to who asks
/// (docs/decisions/0011-huge-pages.md).
// SAFETY: nothing else has this name, and its type is what jemalloc documents: a pointer to a text that ends with a zero.
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static MALLOC_CONF: &[u8; 11] = b"thp:always\0";

fn main() -> ExitCode {
    let outcome = match Cli::parse().target {
        Target::Zk(args) => zk::run(&args),
        Target::Log(args) => log::run(&args),
        Target::Audit(args) => log::audit::run(&args),
        Target::Order(args) => order::run(&args),
        Target::Plot(args) => charts::run(&args).map(|()| Outcome::Good),
    };
    match outcome {
        Ok(outcome) => ExitCode::from(outcome.code()),
        Err(e) => {
            eprintln!("loadgen: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the report, writes its files and judges the run. `steps` are those of a sweep.
///
/// # Errors
/// If a file can't be written, the nodes' stages are not to be had, or nothing was answered.
pub fn finish(mut report: Report<'_>, run: &RunArgs, steps: &[Step], title: &str) -> anyhow::Result<Outcome> {
    let stages = if run.stages { stages::fetch(&run.admin) } else { Ok(Vec::new()) };
    if let Ok(nodes) = &stages
        && run.stages
    {
        report.stages = [&[stages::client(report.recorder)], &nodes[..]].concat();
    }
    if !steps.is_empty() {
        println!("{}\n{}", sweep::table(steps), sweep::conclusion(steps));
    }
    println!("{}", report.table());
    println!("{}", report.counts_line());
    println!("{}", report.checks.summary());
    for judged in &report.objectives {
        println!("objective {judged}");
    }
    if !report.stages.is_empty() {
        println!("{}", stages::table(&report.stages));
    }
    for warning in report.warnings {
        eprintln!("warning: {warning}");
    }
    if report.ending.is_partial() {
        println!("PARTIAL: these are the results up to the end of the run, which came before its time");
    }
    write_files(&report, run, steps, title)?;
    stages?;
    judge(&report, steps)
}

fn write_files(report: &Report<'_>, run: &RunArgs, steps: &[Step], title: &str) -> anyhow::Result<()> {
    let recorder = report.recorder;
    if let Some(path) = &run.json {
        let mut all = report.json();
        if !steps.is_empty() {
            all["sweep"] = sweep::json(steps);
        }
        files::json(path, &all)?;
    }
    if let Some(path) = &run.hgrm {
        files::write(path, files::hgrm(&recorder.merged()))?;
    }
    if let Some(path) = &run.hlog {
        files::write(path, files::hlog(recorder.timeline(), report.started_ms)?)?;
    }
    if let Some(folder) = &run.plots {
        plots::timeline(folder, title, &recorder.timeline().rows()).context("drawing the timeline")?;
        if !steps.is_empty() {
            let points: Vec<_> = steps.iter().map(Step::point).collect();
            let bounds: Vec<_> =
                run.slo.iter().map(|s| (s.text.clone(), s.bound.as_secs_f64() * 1e6)).collect();
            plots::sweep(folder, title, &points, &bounds).context("drawing the sweep")?;
        }
    }
    Ok(())
}

fn judge(report: &Report<'_>, steps: &[Step]) -> anyhow::Result<Outcome> {
    let ending = &report.ending;
    if let Some(trouble) = &ending.trouble {
        eprintln!("loadgen: the run ended before its time: {trouble}");
    }
    if report.checks.any_failed() {
        return Ok(Outcome::Wrong);
    }
    if ending.trouble.is_some() {
        return Ok(Outcome::Partial);
    }
    if ending.interrupted {
        return Ok(Outcome::Interrupted);
    }
    if let Some(lagged) = &ending.lagged {
        eprintln!("loadgen: {lagged}");
        return Ok(Outcome::Lagged);
    }
    anyhow::ensure!(report.recorder.answered_ever() > 0, "nothing was answered");
    // A sweep is there to break its objectives; only one without any good rate has missed them.
    let missed = if steps.is_empty() {
        report.objectives.iter().any(|j| !j.met)
    } else {
        sweep::knee(steps).is_none()
    };
    Ok(if missed { Outcome::Missed } else { Outcome::Good })
}

/// Leaves the JSON file of a run that never came to its load.
///
/// # Errors
/// If it can't be written.
pub fn leave_failure(
    run: &RunArgs,
    settings: serde_json::Value,
    error: &anyhow::Error,
) -> anyhow::Result<()> {
    let Some(path) = &run.json else { return Ok(()) };
    let text = format!("{error:#}");
    let all = serde_json::json!({
        "format": 1, "settings": settings, "partial": true, "ok": false, "error": text, "per_second": 0.0,
        "seconds": 0.0, "ops": {}, "timeline": [], "environment": environment::Environment::of_this_process(),
    });
    files::json(path, &all)
}
