//! What do the examples share? Their arguments, and a loop that carries out what is said on the command line, or line by line.

use clap::Parser;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use zoolog_client::replicated::{
    Consistency, LogPlace, ProposeError, ReplicatedConfig, ReplicatedHandle, ReplicatedNode, StateMachine,
};
use zoolog_core::Gsn;

/// Arguments of every example.
#[derive(Parser)]
struct Args {
    /// Where the log is: `local:DIR` keeps it in this process, in that directory
    #[arg(long, value_name = "local:DIR", required_unless_present = "orderers")]
    log: Option<LogPlace>,
    /// The log of a cluster: any of its orderers (`zoolog dev` prints them)
    #[arg(long, value_name = "HOST:PORT,..", conflicts_with = "log")]
    orderers: Option<LogPlace>,
    /// What this node keeps for itself; each node has its own. With `local:DIR` it is a directory below DIR if left out
    #[arg(long)]
    dir: Option<PathBuf>,
    /// A snapshot is taken after so many commands
    #[arg(long, default_value_t = 100_000)]
    snapshot_records: u64,
    /// The nodes' states are compared after so many commands
    #[arg(long, default_value_t = 100_000)]
    mark_records: u64,
    /// Have the command at this position skipped, since applying it panics
    #[arg(long, value_name = "GSN")]
    skip: Vec<u64>,
    /// What to do; without it, each line of the standard input says so
    words: Vec<String>,
}

/// Starts a node of the structure `name`, and has `each` carry out what a person says. `usage` helps who says something else.
pub fn run<S>(
    name: &str,
    usage: &str,
    each: impl Fn(&ReplicatedHandle<S>, &[&str]) -> Option<Result<String, String>>,
) -> ExitCode
where
    S: StateMachine,
    S::Outcome: Send,
{
    let go = || -> Result<(), String> {
        let args = Args::parse();
        let place = args.log.or(args.orderers).expect("clap sees to it");
        let dir = match (args.dir, &place) {
            (Some(dir), _) => dir,
            (None, LogPlace::Local(log)) => log.join(format!("{name}-node")),
            (None, LogPlace::Cluster(_)) => return Err("say with --dir where this node keeps its own".into()),
        };
        let config = ReplicatedConfig {
            snapshot_records: args.snapshot_records,
            mark_records: args.mark_records,
            skip: args.skip.into_iter().map(Gsn).collect(),
            ..ReplicatedConfig::new(name)
        };
        let node = ReplicatedNode::<S>::start(config, place, &dir)?;
        let handle = node.handle();
        handle.caught_up().wait().map_err(|e| e.to_string())?;
        let carry_out = |words: &[&str]| {
            let said = of_any(&handle, words).or_else(|| each(&handle, words));
            said.unwrap_or_else(|| Err(format!("that says nothing to me; {usage}, hash")))
        };
        if !args.words.is_empty() {
            let words: Vec<&str> = args.words.iter().map(String::as_str).collect();
            println!("{}", carry_out(&words)?);
            return node.stop();
        }
        let mut out = std::io::stdout();
        for line in std::io::stdin().lock().lines() {
            let line = line.map_err(|e| e.to_string())?;
            let words: Vec<&str> = line.split_whitespace().collect();
            let said = carry_out(&words).unwrap_or_else(|e| format!("error: {e}"));
            writeln!(out, "{said}").and_then(|()| out.flush()).map_err(|e| e.to_string())?;
        }
        node.stop()
    };
    match go() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

/// What every structure can be asked: where it is, and the hash of its state there, the same on all nodes.
fn of_any<S: StateMachine>(handle: &ReplicatedHandle<S>, words: &[&str]) -> Option<Result<String, String>> {
    if words != ["hash"] {
        return None;
    }
    let hash = handle.state_hash(Consistency::Linearizable).wait();
    Some(hash.map(|(gsn, hash)| format!("{gsn} {hash:016x}")).map_err(|e| e.to_string()))
}

/// Proposes until the log takes it, and gives what it came to.
pub fn apply<S: StateMachine>(
    handle: &ReplicatedHandle<S>,
    command: &S::Command,
) -> Result<S::Outcome, String> {
    loop {
        match handle.propose(command).wait() {
            Ok(applied) => return Ok(applied.outcome),
            Err(ProposeError::Busy) => std::thread::yield_now(),
            Err(e) => return Err(e.to_string()),
        }
    }
}
