//! What can be asked of `loadgen`? The command line, with every default and unit: here what all runs have, in
//! the files beside it what only one target has.

mod audit;
mod log;
mod order;
mod plot;
mod values;
mod zk;

pub use audit::AuditArgs;
pub use log::{LogArgs, LogOp};
pub use order::OrderArgs;
pub use plot::PlotArgs;
pub use values::{Auth, Slo};
pub use zk::{SweepArgs, ZkArgs, ZkOp};

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// Open- and closed-loop load on a ZooKeeper or on a Zoolog log. Every answer is checked.
///
/// Exit codes: 0 all good; 1 nothing could be measured; 2 wrong usage; 3 a check failed; 4 the generator could
/// not keep up with the rate; 5 the servers went away in mid-run, the results are partial; 6 an objective of
/// --slo was not met; 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version, max_term_width = 110)]
pub struct Cli {
    /// The system under load.
    #[command(subcommand)]
    pub target: Target,
}

/// The systems that can be put under load.
#[derive(Debug, Subcommand)]
pub enum Target {
    /// Any server that speaks the ZooKeeper protocol.
    Zk(Box<ZkArgs>),
    /// A Zoolog log, without the ZooKeeper on top.
    Log(LogArgs),
    /// A Zoolog log through all that may happen to it: writes until told to stop, then reads all of it back and checks it.
    Audit(AuditArgs),
    /// The ordering layer alone, with emulated replicas that report for many lanes.
    Order(OrderArgs),
    /// No load: draws numbers that were measured, as SVG.
    Plot(PlotArgs),
}

/// What every run has.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// How long to measure: `10s`, `500ms`, `2m`.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = values::duration)]
    pub duration: Duration,
    /// How long to load before measuring.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = values::duration)]
    pub warmup: Duration,
    /// Fixed total rate in operations per second, latency counted from the intended start. Without it each
    /// answer is followed at once by the next request.
    #[arg(long, value_name = "PER_SECOND", value_parser = values::rate)]
    pub rate: Option<f64>,
    /// What the response time may be: p50, p90, p95, p99, p999, p9999 or max, and a time, as `p99=5ms`. May be
    /// given several times. Exit code 6 if one is not met; a sweep ends where one is not met any more.
    #[arg(long, value_name = "PERCENTILE=TIME", value_delimiter = ',')]
    pub slo: Vec<Slo>,
    /// Write everything there is to know about the run to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the latency distribution in microseconds to this file, for the HdrHistogram plotter.
    #[arg(long, value_name = "FILE")]
    pub hgrm: Option<PathBuf>,
    /// Write the latencies of each second to this file, as an HdrHistogram interval log (V2, nanoseconds).
    #[arg(long, value_name = "FILE")]
    pub hlog: Option<PathBuf>,
    /// Draw throughput and latency over time, and against each other for a sweep, as SVG into this folder.
    #[arg(long, value_name = "DIR")]
    pub plots: Option<PathBuf>,
    /// After the run, print how long each stage inside the nodes took; needs --admin.
    #[arg(long, requires = "admin")]
    pub stages: bool,
    /// Admin ports of the nodes, where --stages asks.
    #[arg(long, value_name = "H:P,..", value_delimiter = ',')]
    pub admin: Vec<String>,
    /// Where the choice of keys and sizes comes from: equal seeds, equal choices.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
