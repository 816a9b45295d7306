//! What does one operation cost? Fixed workloads on the real machines, each with one part that is counted:
//! instructions by callgrind (`scripts/instructions.py` runs it), allocations and bytes by this program itself.
//!
//! A scenario runs its operation [`ROUNDS`] times to warm up and as often again counted. No scenario reads a clock
//! or draws a random number, so a figure changes only when the code does, or its compiler.
//!
//! # Tour
//! - [`meter`], [`alloc`]: what is counted. [`host`], [`net`], [`cluster`]: what the machines live in.
//! - [`codec`], [`log`], [`lanes`], [`zk`]: the scenarios.

mod alloc;
mod cluster;
mod codec;
mod host;
mod lanes;
mod log;
mod meter;
mod net;
mod zk;

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting::new();

/// Times that an operation is done to warm up, and then counted.
const ROUNDS: usize = 256;

/// A workload of which one part is counted.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// Part of the system, a slash, the operation.
    pub name: &'static str,
    /// What is counted, and per what.
    pub what: &'static str,
    /// Does it, and says how many operations were counted.
    pub run: fn() -> usize,
}

/// Counts what operations of the pure machines cost.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Names the scenarios, a tab, what each counts.
    List,
    /// Runs one and prints, with tabs between: name, operations, and of what was counted for these: allocations,
    /// their bytes, turns of machines, writes of logs.
    Run {
        /// Of the scenario.
        name: String,
        /// Tells each turn and write that is counted, on stderr.
        #[arg(long)]
        tell: bool,
    },
}

fn scenarios() -> Vec<Scenario> {
    [codec::SCENARIOS, log::SCENARIOS, lanes::SCENARIOS, zk::SCENARIOS].concat()
}

fn main() -> ExitCode {
    let scenarios = scenarios();
    match Args::parse().action {
        Action::List => scenarios.iter().for_each(|s| println!("{}\t{}", s.name, s.what)),
        Action::Run { name, tell } => {
            meter::TELLS.store(tell, Relaxed);
            let Some(scenario) = scenarios.iter().find(|s| s.name == name) else {
                eprintln!("there is no scenario {name}");
                return ExitCode::from(2);
            };
            let operations = (scenario.run)();
            let asked = ALLOCATOR.asked();
            let (turns, writes) = (meter::TURNS.load(Relaxed), meter::WRITES.load(Relaxed));
            println!("{name}\t{operations}\t{}\t{}\t{turns}\t{writes}", asked.allocations, asked.bytes);
        }
    }
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique() {
        let all = scenarios();
        assert_eq!(all.iter().map(|s| s.name).collect::<BTreeSet<_>>().len(), all.len());
    }

    /// A whole cluster at work, with all the asserts of its machines and of the scenario.
    #[test]
    fn a_path_runs_to_its_end() {
        let path = scenarios().into_iter().find(|s| s.name == "path/append-1").expect("it is there");
        assert_eq!((path.run)(), ROUNDS);
        let turns = meter::TURNS.load(Relaxed);
        assert!(turns >= 10 * ROUNDS as u64, "{turns} turns can't have been the whole path");
    }
}
