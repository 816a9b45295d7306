//! `loadgen`: how fast is it, and is it right? Open- and closed-loop load on any ZooKeeper or on a Zoolog
//! log, with every answer checked.
//!
//! Exit codes: 0 all good, 1 nothing could be measured, 2 wrong usage, 3 a check failed, 130 interrupted.

mod args;
mod checks;
mod clock;
mod environment;
mod interrupt;
mod log;
mod payload;
mod progress;
mod recorder;
mod report;
mod zk;

use args::{Cli, RunArgs, Target};
use clap::Parser;
use interrupt::Interrupt;
use report::Report;
use std::process::ExitCode;

/// How a run that was measured ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All checks passed.
    Good,
    /// A check failed.
    Wrong,
    /// It was cut short; the checks passed.
    Interrupted,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().target {
        Target::Zk(args) => zk::run(&args),
        Target::Log(args) => log::run(&args),
    };
    match outcome {
        Ok(Outcome::Good) => ExitCode::SUCCESS,
        Ok(Outcome::Wrong) => ExitCode::from(3),
        Ok(Outcome::Interrupted) => ExitCode::from(130),
        Err(e) => {
            eprintln!("loadgen: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the report, writes its files and judges the run.
///
/// # Errors
/// If a file can't be written, or nothing was answered.
pub fn finish(report: &Report<'_>, run: &RunArgs, interrupt: &Interrupt) -> anyhow::Result<Outcome> {
    println!("{}", report.table());
    println!("{}", report.counts_line());
    println!("{}", report.checks.summary());
    for warning in report.warnings {
        eprintln!("warning: {warning}");
    }
    report.write_files(run.json.as_deref(), run.hgrm.as_deref())?;
    if report.checks.any_failed() {
        return Ok(Outcome::Wrong);
    }
    if interrupt.is_set() {
        return Ok(Outcome::Interrupted);
    }
    anyhow::ensure!(report.recorder.answered_ever() > 0, "nothing was answered");
    Ok(Outcome::Good)
}
