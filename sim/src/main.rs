//! The simulator's command line: one seed, many seeds, one seed twice.

use anyhow::{Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use std::collections::BTreeMap;
use std::sync::Mutex;
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
    /// Each node has its own; and a table says how many seeds there were of each policy.
    #[arg(long, conflicts_with_all = ["fetch", "acks", "reads"])]
    policies: Option<Policies>,
}

/// Of whom.
#[derive(Clone, Copy, ValueEnum)]
enum Policies {
    /// All combinations in turn: of 24 seeds in a row each has two nodes.
    Each,
}

fn options(seed: u64, p: PolicyArgs) -> Options {
    match p.policies {
        Some(Policies::Each) => Options::with_each_policy(seed),
        None => Options::with_policy(seed, p.fetch, p.acks, p.reads),
    }
}

fn run(seed: u64, p: PolicyArgs, trace: TraceMode) -> Outcome {
    run_with(options(seed, p), trace)
}

/// Seeds in which some node but the first had a policy, and how many of them failed.
#[derive(Default)]
struct Tally(BTreeMap<(u8, &'static str), (u64, u64)>);

impl Tally {
    const KINDS: [&str; 3] = ["fetch", "acks", "reads"];

    fn count(&mut self, options: &Options, failed: bool) {
        let of =
            |p: zoolog_sim::options::Policy| [(0, p.fetch.name()), (1, p.acks.name()), (2, p.reads.name())];
        let named: std::collections::BTreeSet<_> = options.policies().skip(1).flat_map(of).collect();
        for policy in named {
            let (seeds, failures) = self.0.entry(policy).or_default();
            (*seeds, *failures) = (*seeds + 1, *failures + u64::from(failed));
        }
    }

    fn print(&self) {
        println!("{:<20} {:>6} {:>6}", "policy", "seeds", "failed");
        for ((kind, name), (seeds, failed)) in &self.0 {
            println!("{:<20} {seeds:>6} {failed:>6}", format!("{} {name}", Self::KINDS[usize::from(*kind)]));
        }
    }
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
    let tally = Mutex::new(Tally::default());
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
                    if policy.policies.is_some() {
                        let options = options(seed, policy);
                        tally.lock().expect("nobody panics").count(&options, outcome.failure.is_some());
                    }
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
    if policy.policies.is_some() {
        tally.into_inner().expect("nobody panicked").print();
    }
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
