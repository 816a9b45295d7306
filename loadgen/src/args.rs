//! What can be asked of `loadgen`? The command line, with every default and unit.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Open- and closed-loop load on a ZooKeeper or on a Zoolog log. Every answer is checked: a run whose
/// checks fail ends with exit code 3.
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
    Zk(ZkArgs),
    /// A Zoolog log, without the ZooKeeper on top.
    Log(LogArgs),
}

/// What every run has.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// How long to measure: `10s`, `500ms`, `2m`.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub duration: Duration,
    /// How long to load before measuring.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    pub warmup: Duration,
    /// Fixed total rate in operations per second, latency counted from the intended start. Without it each
    /// answer is followed at once by the next request.
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    pub rate: Option<f64>,
    /// Write everything there is to know about the run to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the latency distribution in microseconds to this file, for the HdrHistogram plotter.
    #[arg(long, value_name = "FILE")]
    pub hgrm: Option<PathBuf>,
    /// Where the choice of keys comes from: equal seeds, equal choices.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// `loadgen zk`.
#[derive(Args, Clone, Debug)]
pub struct ZkArgs {
    /// Servers, over which the sessions are spread in turn.
    #[arg(long, value_name = "H:P,..", value_delimiter = ',', required = true)]
    pub servers: Vec<String>,
    /// create, set, get, exists, or mixed:R with R percent of gets and the rest sets.
    #[arg(long, default_value = "set")]
    pub op: ZkOp,
    /// Sessions, each with its own connection.
    #[arg(long, default_value_t = 48, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub sessions: u32,
    /// Requests in flight per session.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub depth: u32,
    /// Bytes of a node's data. From 24 on it carries key, counter and checksum, which gets verify.
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub size: u32,
    /// Nodes that set, get and exists choose from, made before the run. (For create: not used.)
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=50_000_000))]
    pub keys: u32,
    /// Node under which everything is done; made if missing.
    #[arg(long, value_name = "PATH", default_value = "/loadgen", value_parser = prefix)]
    pub prefix: String,
    /// Session timeout to ask for, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=600_000))]
    pub session_timeout_ms: u32,
    /// What every run has.
    #[command(flatten)]
    pub run: RunArgs,
}

/// `loadgen log`.
#[derive(Args, Clone, Debug)]
pub struct LogArgs {
    /// Orderers of the log.
    #[arg(long, value_name = "H:P,..", value_delimiter = ',', required = true)]
    pub orderers: Vec<String>,
    /// append; read: what is in the log, in ranges; follow: what is and what comes, in order.
    #[arg(long, value_enum, default_value = "append")]
    pub op: LogOp,
    /// Writers (or readers), each with its own connections.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub writers: u32,
    /// Records in flight per writer (append).
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub depth: u32,
    /// Bytes of a record; 24 or more, for it carries writer, counter and checksum.
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = clap::value_parser!(u32).range(24..=1_000_000))]
    pub size: u32,
    /// What every run has.
    #[command(flatten)]
    pub run: RunArgs,
}

/// What `loadgen zk` does over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZkOp {
    /// Makes a new node each time.
    Create,
    /// Sets the data of a random node.
    Set,
    /// Reads the data of a random node.
    Get,
    /// Reads the stat of a random node.
    Exists,
    /// Gets in this many percent of the cases, else sets.
    Mixed(u8),
}

impl FromStr for ZkOp {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "create" => Ok(Self::Create),
            "set" => Ok(Self::Set),
            "get" => Ok(Self::Get),
            "exists" => Ok(Self::Exists),
            _ => match text.strip_prefix("mixed:").map(str::parse) {
                Some(Ok(percent @ 0..=100)) => Ok(Self::Mixed(percent)),
                _ => Err("one of create, set, get, exists, mixed:R with R from 0 to 100".to_owned()),
            },
        }
    }
}

impl std::fmt::Display for ZkOp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Create => f.write_str("create"),
            Self::Set => f.write_str("set"),
            Self::Get => f.write_str("get"),
            Self::Exists => f.write_str("exists"),
            Self::Mixed(percent) => write!(f, "mixed:{percent}"),
        }
    }
}

/// What `loadgen log` does over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogOp {
    /// Appends records, then reads back that each acknowledged one is there once.
    Append,
    /// Reads the log in ranges, from its first record on, over and over.
    Read,
    /// Subscribes from the first record on.
    Follow,
}

/// Reads `10s`, `500ms`, `2m`, `1h`, or a bare number of seconds.
///
/// # Errors
/// What would have been right.
pub fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("a time like 10s, 500ms or 2m".to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| "a time like 10s, 500ms or 2m".to_owned())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|e| e.to_string())
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if rate > 0.0 && rate <= 1e8 => Ok(rate),
        _ => Err("a number of operations per second above 0".to_owned()),
    }
}

fn prefix(text: &str) -> Result<String, String> {
    let ok = text.len() > 1
        && text.starts_with('/')
        && text[1..].split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if ok { Ok(text.to_owned()) } else { Err("a path like /loadgen, not / itself".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times_have_units() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "s", "-1s", "10x", "1..2s", "ms10"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn operations_print_as_they_are_read() {
        for text in ["create", "set", "get", "exists", "mixed:0", "mixed:90", "mixed:100"] {
            assert_eq!(text.parse::<ZkOp>().map(|op| op.to_string()), Ok(text.to_owned()));
        }
        for wrong in ["", "mixed", "mixed:", "mixed:101", "mixed:-1", "delete"] {
            assert!(wrong.parse::<ZkOp>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_prefix_is_a_plain_path() {
        assert!(prefix("/a").is_ok() && prefix("/a/b").is_ok());
        for wrong in ["", "/", "a", "/a/", "//a", "/a/../b"] {
            assert!(prefix(wrong).is_err(), "{wrong}");
        }
    }
}
