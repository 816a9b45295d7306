//! What can be asked for on the command line?

mod log;

use crate::exit::{Code, Failure};
use crate::local::LogPlace;
use clap::{Parser, Subcommand, ValueEnum};
pub use log::*;
use std::path::{Path, PathBuf};
use zoolog_core::config::{self, ClusterConfig, ZkConfig};
use zoolog_core::policy::{Acks, Fetch, Reads};
use zoolog_core::{LaneId, ShardId};

/// ZooKeeper on a shared log.
#[derive(Debug, Parser)]
#[command(name = "zoolog", version, propagate_version = true)]
pub struct Args {
    /// How log lines look on stderr; RUST_LOG chooses which (default `info`, of `log` and `admin` only `error`)
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring up a whole topology on this machine: orderers, data servers, ZooKeeper nodes
    Dev(DevArgs),
    /// Run one orderer
    Order(OrderArgs),
    /// Run one data server
    Shard(NodeArgs),
    /// Run one ZooKeeper node, or bring a tree from one service to another
    Zk(ZkCommand),
    /// Use the log from a shell, or look at a stopped node's
    #[command(subcommand, after_help = LOG_HELP)]
    Log(LogCommand),
    /// Make a cluster, or ask a running one
    #[command(subcommand)]
    Admin(AdminCommand),
}

/// Where the cluster is.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Place {
    /// The orderers, `ip:port,ip:port,..`; some of them are enough [default: those of ./zoolog-data]
    #[arg(long, value_delimiter = ',', value_name = "IP:PORT,..")]
    pub orderers: Vec<String>,
    /// Or a directory with the cluster's `cluster.toml`, such as the data directory of a `dev`
    #[arg(long, value_name = "DIR", conflicts_with = "orderers")]
    pub data_dir: Option<PathBuf>,
}

/// Where `dev` keeps its data unless told otherwise.
const DEV_DIR: &str = "zoolog-data";

impl Place {
    /// Addresses of the orderers.
    ///
    /// # Errors
    /// If nothing says where they are, or the file that should can't be read.
    pub fn orderers(&self) -> Result<Vec<String>, Failure> {
        let of = |dir: &Path| {
            let cluster = config::load::<ClusterConfig>(&dir.join("cluster.toml"));
            cluster.map(|c| c.orderers).map_err(|e| Failure::from(e.to_string()))
        };
        match &self.data_dir {
            Some(dir) => of(dir),
            None if !self.orderers.is_empty() => Ok(self.orderers.clone()),
            None if Path::new(DEV_DIR).join("cluster.toml").exists() => of(Path::new(DEV_DIR)),
            None => Err(Failure::new(
                Code::Usage,
                "where is the cluster? Give --orderers IP:PORT,.. or --data-dir DIR (a `dev` in this directory \
                 would be found by itself)",
            )),
        }
    }
}

/// Reads a lane's name.
///
/// # Errors
/// If it is none.
pub fn lane(text: &str) -> Result<LaneId, String> {
    let wrong = || format!("`{text}` is no lane: SHARD/INDEX, such as 2/0");
    let (shard, index) = text.split_once('/').ok_or_else(wrong)?;
    let shard = shard.parse().map_err(|_| wrong())?;
    Ok(LaneId::new(ShardId(shard), index.parse().map_err(|_| wrong())?))
}

/// How the nodes of `dev` are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Isolate {
    /// All in this process
    Thread,
    /// Each its own process, restarted when it dies unless `DIR/nodes/NAME/hold` exists
    Process,
}

/// `zoolog dev`.
#[derive(Clone, Debug, clap::Args)]
pub struct DevArgs {
    /// Where everything is kept; the next start continues from there
    #[arg(long, value_name = "DIR", default_value = "zoolog-data")]
    pub data_dir: PathBuf,
    /// ZooKeeper nodes; they listen on PORT, PORT+1, ...
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub zk: u32,
    /// Shards of the log [default: 3, or as DIR was made]
    #[arg(long, value_name = "N")]
    pub shards: Option<u32>,
    /// Copies of each record [default: 2, or as DIR was made]
    #[arg(long, value_name = "N")]
    pub replicas: Option<u32>,
    /// Data servers [default: 3, or as DIR was made]
    #[arg(long, value_name = "N")]
    pub servers: Option<u32>,
    /// Orderers [default: 3, or as DIR was made]
    #[arg(long, value_name = "N")]
    pub orderers: Option<u32>,
    /// Client port of the first ZooKeeper node [default: 2181, or as a `zoo.cfg` says]
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Port of the admin HTTP server (/healthz, /readyz, /status, /stages)
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub admin_port: u16,
    /// How the nodes are kept apart
    #[arg(long, value_enum, default_value_t = Isolate::Thread)]
    pub isolate: Isolate,
    /// Threads of each ZooKeeper node (`zk.executors`); more than 1 needs `--isolate process` [default: what suits the
    /// cores there are for each node]
    #[arg(long, value_name = "N")]
    pub executors: Option<u16>,
    /// A setting of the nodes' files, for all kinds of nodes that know it, or as KIND.KEY for order, shard or zk.
    /// May be given several times; holds for this start
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// For its ZooKeeper nodes
    #[command(flatten)]
    pub zoo: ZooArgs,
    /// For them, too
    #[command(flatten)]
    pub policy: PolicyArgs,
}

/// How a ZooKeeper node gets its records and when it answers (see docs/POLICIES.md); instead of the same in its file.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct PolicyArgs {
    /// How records come: streamed, batched, deferred or lazy
    #[arg(long, value_name = "POLICY")]
    pub fetch: Option<Fetch>,
    /// Between two fetches of a batched or deferred node
    #[arg(long, value_name = "MS")]
    pub defer_ms: Option<u32>,
    /// When a write is answered: applied, or logged
    #[arg(long, value_name = "POLICY")]
    pub acks: Option<Acks>,
    /// What a read shows: session, linearizable, or log
    #[arg(long, value_name = "POLICY")]
    pub reads: Option<Reads>,
}

impl PolicyArgs {
    /// What is said here goes before what the settings say.
    pub fn apply(&self, config: &mut ZkConfig) {
        config.fetch = self.fetch.unwrap_or(config.fetch);
        config.defer_ms = self.defer_ms.unwrap_or(config.defer_ms);
        config.acks = self.acks.unwrap_or(config.acks);
        config.reads = self.reads.unwrap_or(config.reads);
    }
}

/// One node.
#[derive(Debug, clap::Args)]
pub struct NodeArgs {
    /// Its settings; every key has a default (see docs/OPERATING.md)
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// Settings as ZooKeeper has them.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ZooArgs {
    /// ZooKeeper's `zoo.cfg`: its settings that mean something here hold, of others it is said what Zoolog does instead
    #[arg(long, value_name = "FILE")]
    pub zoo_cfg: Option<PathBuf>,
    /// What is set as a Java property for ZooKeeper, with or without `zookeeper.`; may be given several times
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    pub property: Vec<String>,
}

/// `zoolog zk`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct ZkCommand {
    /// What else to do than to run a node
    #[command(subcommand)]
    pub tool: Option<ZkTool>,
    #[command(flatten)]
    pub node: ZkArgs,
}

/// What can be done with ZooKeeper's trees.
#[derive(Debug, Subcommand)]
pub enum ZkTool {
    /// Write a ZooKeeper's tree as lines of JSON: versions, ACLs and sequence counters, but no ephemerals
    Dump(DumpTreeArgs),
    /// Put a dump into a cluster, with versions, ACLs and sequence counters
    Restore(RestoreArgs),
    /// Print what was created, deleted and changed since a zxid, as the log tells, and with --follow what comes
    Changes(ChangesArgs),
    /// Print what a node held at a past zxid, as the log tells
    Get(GetArgs),
}

/// Where the past is looked up.
#[derive(Debug, clap::Args)]
pub struct PastArgs {
    #[command(flatten)]
    pub place: Place,
    /// Data directory of a ZooKeeper node: begin with its snapshots, where the log is trimmed
    #[arg(long, value_name = "DIR")]
    pub snapshots: Option<PathBuf>,
    #[command(flatten)]
    pub patience: PatienceArgs,
}

/// A zxid: decimal, or hexadecimal behind `0x`.
fn zxid(text: &str) -> Result<i64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.ok().filter(|z| *z >= 0).ok_or_else(|| format!("`{text}` is no zxid: such as 4711 or 0x1267"))
}

/// `zoolog zk changes`.
#[derive(Debug, clap::Args)]
pub struct ChangesArgs {
    /// Of this node and all below it
    #[arg(default_value = "/")]
    pub path: String,
    /// Behind this zxid; 0: all that the log tells
    #[arg(long, value_name = "ZXID", value_parser = zxid)]
    pub since: i64,
    /// Go on with what comes; ctrl-c ends it
    #[arg(long)]
    pub follow: bool,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub past: PastArgs,
}

/// `zoolog zk get`.
#[derive(Debug, clap::Args)]
pub struct GetArgs {
    /// Which
    pub path: String,
    /// When: right after the write with this zxid
    #[arg(long, value_name = "ZXID", value_parser = zxid)]
    pub at: i64,
    /// Print JSON: data as text, Stat, children
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub past: PastArgs,
}

/// `zoolog zk dump`.
#[derive(Debug, clap::Args)]
pub struct DumpTreeArgs {
    /// Ask a running server, ours or another's, node by node
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "snapshot", required_unless_present = "snapshot")]
    pub server: Option<String>,
    /// Identity to ask it with, SCHEME:PROOF, such as digest:super:secret. May be given several times
    #[arg(long, value_name = "SCHEME:PROOF", requires = "server")]
    pub auth: Vec<String>,
    /// Or read files: the data directory of a node of ours (its newest snapshot), or of ZooKeeper's, or a
    /// `snapshot.ZXID` of its
    #[arg(long, value_name = "PATH")]
    pub snapshot: Option<PathBuf>,
    /// File to make [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// `zoolog zk restore`.
#[derive(Debug, clap::Args)]
pub struct RestoreArgs {
    /// The dump
    pub dump: PathBuf,
    #[command(flatten)]
    pub place: Place,
    /// A ZooKeeper node of the cluster: it is asked whether it is empty, and what it shows in the end
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:2181")]
    pub server: String,
    /// Restore though there are nodes already: those of the dump take the place of the same paths
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub patience: PatienceArgs,
}

/// `zoolog zk`, to run a node.
#[derive(Debug, clap::Args)]
pub struct ZkArgs {
    /// Its settings; every key has a default (see docs/OPERATING.md). What it has holds, whatever a `zoo.cfg` says
    #[arg(long, value_name = "FILE", required_unless_present_any = ["log", "zoo_cfg"])]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub zoo: ZooArgs,
    /// `local:DIR`: the log is DIR, in this process; no orderers, no data servers, no file of settings needed
    #[arg(long, value_name = "LOG")]
    pub log: Option<LogPlace>,
    /// Pass over the record at this position, on which the node ended, from now on (of a cluster: `zoolog admin skip`)
    #[arg(long, value_name = "GSN", requires = "log")]
    pub skip: Vec<u64>,
    /// Where its snapshots are, instead of `data_dir` in FILE
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where clients connect, instead of the port of `listen` in FILE
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Threads, instead of `executors` in FILE: 1 does everything; of more, one applies and the others have the
    /// connections; 0 takes what suits the cores
    #[arg(long, value_name = "N")]
    pub executors: Option<u16>,
    #[command(flatten)]
    pub policy: PolicyArgs,
}

impl ZkArgs {
    /// What the command line says goes before what the file says.
    pub fn apply(&self, config: &mut ZkConfig) {
        if let Some(dir) = &self.data_dir {
            config.data_dir.clone_from(dir);
        }
        if let Some(port) = self.port {
            let host = config.listen.rsplit_once(':').map_or("127.0.0.1", |(host, _)| host);
            config.listen = format!("{host}:{port}");
        }
        config.executors = self.executors.unwrap_or(config.executors);
        self.policy.apply(config);
    }
}

/// `zoolog order`.
#[derive(Debug, clap::Args)]
pub struct OrderArgs {
    /// Its settings; every key has a default (see docs/OPERATING.md)
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Join a cluster that runs: with an empty data directory, wait until `zoolog admin orderers add`
    #[arg(long)]
    pub join: bool,
}

/// `zoolog admin`.
#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// Make a cluster's birth certificate: id, secret, first orderers
    Init(InitArgs),
    /// Ask the orderers how they are
    Status(AskArgs),
    /// Show the shards and what their replicas hold
    Shards(AskArgs),
    /// Ask the slots of the data servers how they are
    Servers(AskArgs),
    /// End a shard: it takes no appends any more, its writers go on in others; another takes its place
    Finalize(FinalizeArgs),
    /// Make a copy of a finalized shard on another server, now, in place of the one on a server that is gone. By itself
    /// that happens after `rebuild_after_ms`.
    Rebuild(FinalizeArgs),
    /// Say how many shards are to take appends: more are formed, none is ended
    WantShards(WantShardsArgs),
    /// Show who holds back trimming, and forget one that won't come back
    Consumers(ConsumersArgs),
    /// List the orderers; add, remove or replace one; have another lead
    Orderers(crate::admin::orderers::OrderersArgs),
    /// Exchange the log underneath a running application
    #[command(subcommand)]
    Log(AdminLogCommand),
    /// Have all ZooKeeper nodes pass over a record on which they end, as their last words say
    Skip(SkipArgs),
    /// Ask all nodes how long each stage of a request takes in them
    Stages(StagesArgs),
    /// Measure for half a minute whether this machine is fit: disk, io_uring, clocks, limits, wake-ups
    Selftest(SelftestArgs),
}

/// `zoolog admin init`.
#[derive(Debug, clap::Args)]
pub struct InitArgs {
    /// File to make; give it to every node as `cluster_file`
    #[arg(long, value_name = "FILE", default_value = "cluster.toml")]
    pub out: PathBuf,
    /// The orderers, `ip:port,ip:port,..`; 1, 3 or 5
    #[arg(long, value_delimiter = ',', required = true)]
    pub orderers: Vec<String>,
    /// Shards to form
    #[arg(long, default_value_t = 3)]
    pub shards: u32,
    /// Copies of each record
    #[arg(long, default_value_t = 2)]
    pub replicas: u32,
    /// Data servers that must be there before the first shards are formed
    #[arg(long, default_value_t = 3)]
    pub servers: u32,
    /// `local:DIR`, or the `cluster.toml` of another cluster: this one is to go on where that log ends. It gets its id and
    /// secret, and takes nothing before `zoolog admin log switch`
    #[arg(long, value_name = "LOG")]
    pub succeeds: Option<crate::admin::log::Ending>,
}

/// What can be done to a log as a whole.
#[derive(Debug, Subcommand)]
pub enum AdminLogCommand {
    /// End a log, an embedded one or a cluster's, and go on in the cluster that was made to follow it (`admin init --succeeds`).
    /// Whoever uses the log goes on there by itself, with a pause. Can be repeated, by anybody, until it succeeds
    Switch(SwitchArgs),
}

/// `zoolog admin log switch`.
#[derive(Debug, clap::Args)]
pub struct SwitchArgs {
    /// The log that ends: `local:DIR`, whether a process uses it now or not; or the `cluster.toml` of a cluster that runs
    #[arg(long, alias = "log", value_name = "LOG")]
    pub from: crate::admin::log::Ending,
    /// `cluster.toml` of the cluster that goes on; its orderers and data servers must run
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// A question to the cluster.
#[derive(Debug, clap::Args)]
pub struct AskArgs {
    #[command(flatten)]
    pub place: Place,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `zoolog admin finalize` and `zoolog admin rebuild`.
#[derive(Debug, clap::Args)]
pub struct FinalizeArgs {
    /// Its number, as `zoolog admin shards` shows it
    pub shard: u32,
    #[command(flatten)]
    pub ask: AskArgs,
}

/// `zoolog admin want-shards`.
#[derive(Debug, clap::Args)]
pub struct WantShardsArgs {
    /// How many
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub shards: u32,
    #[command(flatten)]
    pub ask: AskArgs,
}

/// `zoolog admin consumers`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ConsumersArgs {
    /// What to do; nothing: show them
    #[command(subcommand)]
    pub command: Option<ConsumersCommand>,
    #[command(flatten)]
    pub ask: AskArgs,
}

/// What can be done about consumers.
#[derive(Debug, Subcommand)]
pub enum ConsumersCommand {
    /// Forget a consumer for good: it holds trimming back no longer. One that still runs registers again
    Forget {
        /// Its name, as `zoolog admin consumers` shows it
        name: String,
        #[command(flatten)]
        ask: AskArgs,
    },
}

/// `zoolog admin skip`.
#[derive(Debug, clap::Args)]
pub struct SkipArgs {
    /// Its position. Refused if a node has applied it
    pub gsn: u64,
    #[command(flatten)]
    pub place: Place,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub patience: PatienceArgs,
}

/// `zoolog admin stages`.
#[derive(Debug, clap::Args)]
pub struct StagesArgs {
    /// The orderers, `ip:port,ip:port,..`; they say where the data servers are
    #[arg(long, value_delimiter = ',')]
    pub orderers: Vec<String>,
    /// Client addresses of the ZooKeeper nodes, `ip:port,..`
    #[arg(long, value_delimiter = ',')]
    pub zk: Vec<String>,
    /// Or the data directory of a `dev`
    #[arg(long, value_name = "DIR", conflicts_with_all = ["orderers", "zk"])]
    pub data_dir: Option<PathBuf>,
    /// Have the nodes count anew from now on, after this answer
    #[arg(long)]
    pub reset: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `zoolog admin selftest`.
#[derive(Debug, clap::Args)]
pub struct SelftestArgs {
    /// Where the data will be: the disk that is measured. Nothing is left there
    #[arg(long, value_name = "DIR", default_value = "zoolog-data")]
    pub data_dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
