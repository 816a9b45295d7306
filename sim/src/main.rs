//! The simulator's command line: one seed, many seeds, one seed twice.

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use std::sync::atomic::{AtomicU64, Ordering};
use zoolog_core::policy::{Acks, Fetch, Reads};
use zoolog_sim::options::Options;
use zoolog_sim::run::{Outcome, catch_panics, run_with};
use zoolog_sim::trace::TraceMode;

/// Runs Zoolog's real machines under simulated time, network and disks.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs one seed.
    Seed {
        /// The seed.
        seed: u64,
        /// Print every event.
        #[arg(long)]
        trace: bool,
        #[command(flatten)]
        policy: PolicyArgs,
    },
    /// Runs many seeds, a line for each that fails.
    Seeds {
        /// The first.
        from: u64,
        /// How many.
        count: u64,
        /// Threads.
        #[arg(long, default_value_t = 2)]
        threads: u64,
        /// A line for each that passes, too.
        #[arg(long)]
        verbose: bool,
        #[command(flatten)]
        policy: PolicyArgs,
    },
    /// Runs one seed twice and compares the traces.
    Meta {
        /// The seed.
        seed: u64,
        #[command(flatten)]
        policy: PolicyArgs,
    },
}

/// What ZooKeeper nodes but the first do, instead of what the seed draws.
#[derive(Clone, Copy, clap::Args)]
struct PolicyArgs {
    /// How records come: streamed, batched, deferred or lazy.
    #[arg(long)]
    fetch: Option<Fetch>,
    /// When writes are answered: applied, or logged.
    #[arg(long)]
    acks: Option<Acks>,
    /// What reads show: session, linearizable, or log.
    #[arg(long)]
    reads: Option<Reads>,
}

fn run(seed: u64, p: PolicyArgs, trace: TraceMode) -> Outcome {
    run_with(Options::with_policy(seed, p.fetch, p.acks, p.reads), trace)
}

fn main() -> Result<()> {
    let args = Args::parse();
    catch_panics();
    match args.command {
        Command::Seed { seed, trace, policy } => one(seed, policy, trace),
        Command::Seeds { from, count, threads, verbose, policy } => {
            many(from, count, policy, threads, verbose)
        }
        Command::Meta { seed, policy } => meta(seed, policy),
    }
}

fn one(seed: u64, policy: PolicyArgs, trace: bool) -> Result<()> {
    let outcome = run(seed, policy, if trace { TraceMode::Print } else { TraceMode::Off });
    println!("seed {seed}: {}", outcome.summary);
    match outcome.failure {
        None => Ok(()),
        Some(why) => bail!("seed {seed} failed {why}"),
    }
}

fn many(from: u64, count: u64, policy: PolicyArgs, threads: u64, verbose: bool) -> Result<()> {
    let (next, failed) = (AtomicU64::new(from), AtomicU64::new(0));
    let end = from.saturating_add(count);
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    let outcome = run(seed, policy, TraceMode::Off);
                    match outcome.failure {
                        Some(why) => {
                            failed.fetch_add(1, Ordering::Relaxed);
                            println!("seed {seed} failed {why}");
                        }
                        None if verbose => println!("seed {seed}: {}", outcome.summary),
                        None => {}
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    println!("{} passed, {failed} failed", count - failed);
    if failed > 0 { bail!("repeat one with: zoolog-sim seed N --trace") } else { Ok(()) }
}

fn meta(seed: u64, policy: PolicyArgs) -> Result<()> {
    let (a, b) = (run(seed, policy, TraceMode::Collect), run(seed, policy, TraceMode::Collect));
    if a.trace == b.trace {
        println!("seed {seed}: two runs, {} bytes of trace, identical", a.trace.len());
        return Ok(());
    }
    let differ = a.trace.lines().zip(b.trace.lines()).enumerate().find(|(_, (x, y))| x != y);
    match differ {
        Some((n, (x, y))) => bail!("seed {seed}: line {} differs:\n{x}\n{y}", n + 1),
        None => bail!("seed {seed}: {} and {} bytes of trace", a.trace.len(), b.trace.len()),
    }
}
