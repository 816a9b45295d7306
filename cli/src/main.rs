//! `zoolog`: the one binary. Which command was given?
//!
//! - `args`: the command line. `start`: what every command does first (logs, limits, signals).
//! - `nodes`: how one node of each kind is started; `executors`: a ZooKeeper node on several threads;
//!   `remembered`: where the orderers were; `beware`: with what a node's last life ended.
//! - `dev`: a whole topology on this machine, `settings`: what its nodes have in common; `supervise`: its nodes as
//!   processes of their own. `http`: the admin port.
//! - `log`: the log from a shell, and a stopped node's log looked at.
//! - `admin`: birth of a cluster, questions to a running one. `stages`: how long does what take in its nodes?
//!   `selftest`: is the machine fit?
//! - `exit`: how commands end; `out`: how something comes out of them.

mod admin;
mod args;
mod asking;
mod beginning;
mod beware;
mod dev;
mod executors;
mod exit;
mod facts;
mod giving;
mod http;
mod local;
mod log;
mod nodes;
mod out;
mod remembered;
mod selftest;
mod settings;
mod stages;
mod start;
mod status;
mod supervise;
mod zk;
mod zoo_cfg;

use args::{Args, Command, ZkTool};
use clap::Parser;
use exit::Failure;
use std::process::ExitCode;

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
    let args = Args::parse();
    // Nodes tell of their life in a log; commands have something to say only when it is about the command.
    let level = if matches!(args.command, Command::Log(_) | Command::Admin(_)) { "error" } else { "info" };
    start::logs(args.log_format, level);
    let code = exit::report(match args.command {
        Command::Dev(dev) => dev::run(dev).map_err(Failure::from),
        Command::Order(node) => nodes::order_process(&node.config, node.join).map_err(Failure::from),
        Command::Shard(node) => nodes::shard_process(&node.config).map_err(Failure::from),
        Command::Zk(zk) => match zk.tool {
            None => nodes::zk_process(&zk.node).map_err(Failure::from),
            Some(ZkTool::Dump(args)) => zk::dump(&args),
            Some(ZkTool::Restore(args)) => zk::restore(&args),
            Some(ZkTool::Changes(args)) => zk::changes(&args),
            Some(ZkTool::Get(args)) => zk::get(&args),
        },
        Command::Log(command) => log::run(command),
        Command::Admin(command) => admin::run(command),
    });
    start::again_if_wanted();
    code
}
