//! What can be asked of `loadgen log`?

use super::RunArgs;
use clap::Args;

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
    /// Ranges of 4 MiB in flight per reader (read).
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub ranges: u32,
    /// Bytes of a record; 24 or more, for it carries writer, counter and checksum.
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = clap::value_parser!(u32).range(24..=1_000_000))]
    pub size: u32,
    /// What every run has.
    #[command(flatten)]
    pub run: RunArgs,
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
