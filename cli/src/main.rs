//! `zoolog`: the one binary. Which command was given?
//!
//! - `args`: the command line. `start`: what every command does first (logs, limits, signals).
//! - `nodes`: how one node of each kind is started; `executors`: a ZooKeeper node on several threads. `dev`: a whole topology on this machine, `settings`: what
//!   its nodes have in common; `supervise`: its
//!   nodes as processes of their own. `http`: the admin port.
//! - `admin`: birth of a cluster, questions to a running one. `stages`: how long does what take in its nodes?
//!   `selftest`: is the machine fit?

mod admin;
mod args;
mod dev;
mod executors;
mod http;
mod newcomers;
mod nodes;
mod selftest;
mod settings;
mod stages;
mod start;
mod status;
mod supervise;

use args::{Args, Command};
use clap::Parser;
use std::process::ExitCode;

/// Buffers of megabytes come and go with every turn; the C library would map and fault them in anew each time
/// (docs/decisions/0005-jemalloc.md).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    start::logs(args.log_format);
    let outcome = match args.command {
        Command::Dev(dev) => dev::run(dev),
        Command::Order(node) => nodes::order_process(&node.config),
        Command::Shard(node) => nodes::shard_process(&node.config),
        Command::Zk(zk) => nodes::zk_process(&zk.node.config, zk.executors),
        Command::Admin(admin) => admin::run(admin),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("zoolog: {e}");
            ExitCode::FAILURE
        }
    }
}
