//! What can be asked of `loadgen order`?

use super::RunArgs;
use super::values::duration;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// `loadgen order`.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = HOW)]
pub struct OrderArgs {
    /// Orderers of a cluster that has no data servers; or let --spawn start some.
    #[arg(long, value_name = "H:P,..", value_delimiter = ',', required_unless_present = "spawn")]
    pub orderers: Vec<String>,
    /// Start three orderers of this `zoolog` binary on free ports, with their data in a temporary folder, and end
    /// them after the run.
    #[arg(long, value_name = "ZOOLOG", conflicts_with = "orderers")]
    pub spawn: Option<PathBuf>,
    /// Where --spawn puts the orderers' data: on the disk that is to be measured.
    #[arg(long, value_name = "DIR", requires = "spawn")]
    pub spawn_dir: Option<PathBuf>,
    /// Time between cuts for the orderers that --spawn starts; 0 lets them choose.
    #[arg(long, value_name = "TIME", default_value = "1ms", value_parser = duration)]
    pub cut_interval: Duration,
    /// Lanes: each shard has as many as replicas.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=8192))]
    pub lanes: u32,
    /// Replicas per shard; each is in another slot.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=8))]
    pub replicas: u32,
    /// Connections: one per emulated slot, which holds its share of all replicas and reports for all of them in
    /// one frame.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=8))]
    pub connections: u32,
    /// Lanes that grow per round of reports; 0 means all.
    #[arg(long, default_value_t = 0)]
    pub changed: u32,
    /// Records by which each of them grows.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub records_per_lane: u64,
    /// Time between rounds of reports. 0: the next round follows the cut that orders the last one.
    #[arg(long, value_name = "TIME", default_value = "1ms", value_parser = duration)]
    pub interval: Duration,
    /// What every run has. (--rate is not used: rounds, lanes and records make the rate.)
    #[command(flatten)]
    pub run: RunArgs,
}

/// How to have a cluster for it.
const HOW: &str = "\
A cluster for it, by hand: write cluster.toml with `shards` = LANES / REPLICAS and `servers` = CONNECTIONS, beside
`id`, `secret` and `orderers`; for each orderer a file with `data_dir`, `cluster_file`, `id` and, for a fixed
interval, `cut_interval_us`; start each with `zoolog order --config FILE`. No data server may be part of it: the
emulated slots register as servers 0 to CONNECTIONS-1. A run may be repeated on the same cluster: it goes on
from the lengths that were reached. Or let --spawn do all this.";
