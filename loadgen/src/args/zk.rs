//! What can be asked of `loadgen zk`?

use super::RunArgs;
use super::values::{Auth, duration, factor, prefix, rate};
use crate::keys::Distribution;
use crate::sizes::Sizes;
use clap::Args;
use std::str::FromStr;
use std::time::Duration;

/// `loadgen zk`.
#[derive(Args, Clone, Debug)]
pub struct ZkArgs {
    /// Servers, over which the sessions are spread in turn.
    #[arg(long, value_name = "H:P,..", value_delimiter = ',', required = true)]
    pub servers: Vec<String>,
    /// create, set, get, exists; mixed:R with R percent of gets and the rest sets (10 % set / 90 % get is
    /// mixed:90); create-delete makes a node and deletes it; watch-storm: all sessions watch one node, one more
    /// sets it, over and over; session-storm opens and closes sessions as fast as it goes.
    #[arg(long, default_value = "set")]
    pub op: ZkOp,
    /// Sessions, each with its own connection.
    #[arg(long, default_value_t = 48, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub sessions: u32,
    /// Requests in flight per session.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub depth: u32,
    /// Threads of the generator, over which the sessions are spread.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub threads: u32,
    /// Bytes of a node's data: a number, uniform:FROM-TO, or lognormal:MEDIAN:SIGMA, with :MAX behind if wanted. From 24 on data
    /// carries key, counter and checksum, which gets verify.
    #[arg(long, value_name = "BYTES", default_value = "128")]
    pub size: Sizes,
    /// Nodes that set, get and exists choose from, made before the run. (For create and storms: not used.)
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=50_000_000))]
    pub keys: u32,
    /// How keys are chosen: uniform, or zipfian, or zipfian:THETA with THETA from 0.01 to 5, 0.99 unless given; the first
    /// key is the most wanted.
    #[arg(long, default_value = "uniform")]
    pub distribution: Distribution,
    /// Node under which everything is done; made if missing.
    #[arg(long, value_name = "PATH", default_value = "/loadgen", value_parser = prefix)]
    pub prefix: String,
    /// Session timeout to ask for, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=600_000))]
    pub session_timeout_ms: u32,
    /// Credentials to show on each connection, as digest:user:password.
    #[arg(long, value_name = "SCHEME:CREDENTIALS")]
    pub auth: Option<Auth>,
    /// How long to wait for one more session to come up, before the run.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub connect_timeout: Duration,
    /// How long no answer may come, in mid-run, before the run ends with what was measured so far.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub outage: Duration,
    /// How late the generator itself may be with a request, at its 99th percentile, at a fixed rate.
    #[arg(long, value_name = "TIME", default_value = "5ms", value_parser = duration)]
    pub lateness: Duration,
    /// A sweep of rates.
    #[command(flatten)]
    pub sweep: SweepArgs,
    /// What every run has.
    #[command(flatten)]
    pub run: RunArgs,
}

/// The options of a sweep.
#[derive(Args, Clone, Debug)]
pub struct SweepArgs {
    /// Run at one rate after the other, each higher, until an objective of --slo is not met, or less than 95 %
    /// of the rate is achieved; the last good step is the knee.
    #[arg(long, conflicts_with = "rate")]
    pub sweep: bool,
    /// First rate, in operations per second.
    #[arg(long, value_name = "PER_SECOND", default_value = "1000", value_parser = rate, requires = "sweep")]
    pub rate_from: f64,
    /// Each rate is this much of the one before.
    #[arg(long, value_name = "FACTOR", default_value = "1.5", value_parser = factor, requires = "sweep")]
    pub rate_factor: f64,
    /// Each rate is this much more than the one before, instead of by a factor.
    #[arg(long, value_name = "PER_SECOND", value_parser = rate, requires = "sweep")]
    pub rate_step: Option<f64>,
    /// No higher rate than this.
    #[arg(long, value_name = "PER_SECOND", default_value = "10000000", value_parser = rate, requires = "sweep")]
    pub rate_to: f64,
    /// How long each step is measured, behind a warm-up of a quarter of it.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration, requires = "sweep")]
    pub step_duration: Duration,
}

/// What `loadgen zk` does over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZkOp {
    /// Makes a new node each time.
    Create,
    /// Sets the data of a node.
    Set,
    /// Reads the data of a node.
    Get,
    /// Reads the stat of a node.
    Exists,
    /// Gets in this many percent of the cases, else sets.
    Mixed(u8),
    /// Makes a node, then deletes it.
    CreateDelete,
    /// All sessions watch one node, which one more session sets.
    WatchStorm,
    /// Opens and closes sessions.
    SessionStorm,
}

/// The names of those without a number.
const OPS: [(&str, ZkOp); 7] = [
    ("create", ZkOp::Create),
    ("set", ZkOp::Set),
    ("get", ZkOp::Get),
    ("exists", ZkOp::Exists),
    ("create-delete", ZkOp::CreateDelete),
    ("watch-storm", ZkOp::WatchStorm),
    ("session-storm", ZkOp::SessionStorm),
];

impl ZkOp {
    /// What is measured of it: names of kinds of operations.
    pub fn kinds(self) -> &'static [&'static str] {
        match self {
            Self::Create => &["create"],
            Self::Set => &["set"],
            Self::Get => &["get"],
            Self::Exists => &["exists"],
            Self::Mixed(_) => &["get", "set"],
            Self::CreateDelete => &["create", "delete"],
            Self::WatchStorm => &["event", "last-event", "arm", "set"],
            Self::SessionStorm => &["open", "close"],
        }
    }

    /// Whether it uses the keys' nodes.
    pub fn uses_keys(self) -> bool {
        matches!(self, Self::Set | Self::Get | Self::Exists | Self::Mixed(_))
    }

    /// Whether it can be done at a fixed rate.
    pub fn has_rate(self) -> bool {
        !matches!(self, Self::WatchStorm | Self::SessionStorm)
    }
}

impl FromStr for ZkOp {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, op)) = OPS.iter().find(|(name, _)| *name == text) {
            return Ok(*op);
        }
        match text.strip_prefix("mixed:").map(str::parse) {
            Some(Ok(percent @ 0..=100)) => Ok(Self::Mixed(percent)),
            _ => {
                let names: Vec<_> = OPS.iter().map(|(name, _)| *name).collect();
                Err(format!("one of {}, mixed:R with R from 0 to 100", names.join(", ")))
            }
        }
    }
}

impl std::fmt::Display for ZkOp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mixed(percent) => write!(f, "mixed:{percent}"),
            op => f.write_str(OPS.iter().find(|(_, o)| o == op).map_or("?", |(name, _)| name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_print_as_they_are_read() {
        let plain = OPS.iter().map(|(name, _)| *name);
        for text in plain.chain(["mixed:0", "mixed:90", "mixed:100"]) {
            assert_eq!(text.parse::<ZkOp>().map(|op| op.to_string()), Ok(text.to_owned()));
        }
        for wrong in ["", "mixed", "mixed:", "mixed:101", "mixed:-1", "delete"] {
            assert!(wrong.parse::<ZkOp>().is_err(), "{wrong}");
        }
    }
}
