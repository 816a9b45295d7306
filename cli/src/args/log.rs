//! What can be asked of the log on the command line?

use super::Place;
use crate::log::Range;
use clap::{Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// Behind the help of `zoolog log`.
pub const LOG_HELP: &str = "\
Beside a `zoolog dev` in the same directory:
  zoolog log append hello world           two records; prints their positions
  seq 1000 | zoolog log append -q         a record a line
  zoolog log read 10..20                  ten positions; `read ..` all that is there
  zoolog log follow 0                     from the first record on; ctrl-c ends it
  zoolog log follow --json | jq .gsn      what comes from now on
After it has ended:
  zoolog log fsck zoolog-data             is everything whole?

Exit codes: 0 done, 1 something is broken, 2 wrong arguments, 3 nobody there (nothing was done: try again),
4 not there any more (trimmed), 5 unknown whether it was done, 6 not there yet, 7 damaged, but peers have it,
8 a node must not start on it, 9 somebody else was first (nothing was done), 130 interrupted. docs/OPERATING.md says what to do about each.";

/// `zoolog log`.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Append records: the arguments, or stdin line by line. Prints the position (GSN) of each
    Append(AppendArgs),
    /// Print the records of a range of positions
    Read(ReadArgs),
    /// Print where the log ends: the first position without a record. With -n, its last records instead
    Tail(TailArgs),
    /// Print records as they come: from a position on, history first, or from now on
    Follow(FollowArgs),
    /// Forget the records before a position, for everybody and for good. Prints what was really forgotten
    Trim(TrimArgs),
    /// Show shards, their lanes and who serves them
    View(ViewArgs),
    /// Say which batches of a writer are in the log for good, when its own process can't any more
    Resolve(ResolveArgs),
    /// Check a stopped node's data directory: what is whole, what is damaged, what can be mended. Changes nothing
    Fsck(FsckArgs),
    /// Print what a stopped node's write-ahead log holds, block by block. Changes nothing
    Dump(DumpArgs),
}

/// How records look on stdin and stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One record a line
    #[default]
    Lines,
    /// Each record behind its length, 4 bytes little-endian: for binary data, both in and out
    Frames,
    /// One JSON object a line, with the record's position and writer; only out
    Json,
}

/// How records come out.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct FormatArgs {
    /// How records look
    #[arg(long, value_enum, default_value_t = Format::Lines)]
    pub format: Format,
    /// Short for --format json
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
    /// Short for --format frames
    #[arg(long, conflicts_with_all = ["format", "json"])]
    pub frames: bool,
    /// Put each record's position and a tab before it (lines only)
    #[arg(short, long)]
    pub positions: bool,
}

impl FormatArgs {
    /// The one that was asked for.
    pub fn format(&self) -> Format {
        match (self.json, self.frames) {
            (true, _) => Format::Json,
            (_, true) => Format::Frames,
            _ => self.format,
        }
    }
}

/// How long to wait.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct PatienceArgs {
    /// Seconds without any progress after which to give up
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds)]
    pub timeout: f64,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number")?;
    if (0.001..=1e6).contains(&seconds) { Ok(seconds) } else { Err("not between 0.001 and 1000000".into()) }
}

impl PatienceArgs {
    /// As a time.
    pub fn patience(&self) -> Duration {
        Duration::from_secs_f64(self.timeout)
    }
}

/// `zoolog log append`.
#[derive(Debug, clap::Args)]
pub struct AppendArgs {
    /// The records; none: they are read from stdin
    #[arg(value_name = "RECORD")]
    pub records: Vec<String>,
    #[command(flatten)]
    pub place: Place,
    /// stdin has each record behind its length, 4 bytes little-endian, instead of lines
    #[arg(long, conflicts_with = "records")]
    pub frames: bool,
    /// Append under this name: it is taken over from whoever had it, whose appends end then
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Take the name over only if its last record lies just before this position; 0: if it has none
    #[arg(long, value_name = "GSN", requires = "name")]
    pub expected_tail: Option<u64>,
    /// Append all records, or none, and only if the log ends there when their turn comes: nobody else was first. They are
    /// one batch, of at most 256 KiB
    #[arg(long, value_name = "GSN")]
    pub if_tail: Option<u64>,
    /// Print one JSON object per record instead of its position
    #[arg(long)]
    pub json: bool,
    /// Print nothing on stdout
    #[arg(short, long, conflicts_with = "json")]
    pub quiet: bool,
    #[command(flatten)]
    pub patience: PatienceArgs,
}

/// `zoolog log read`.
#[derive(Debug, clap::Args)]
pub struct ReadArgs {
    /// FROM..TO (TO itself not included), FROM.. to where the log ends, ..TO from its first readable position,
    /// or one position
    #[arg(value_name = "RANGE", default_value = "..")]
    pub range: Range,
    /// At most so many records
    #[arg(short, value_name = "N")]
    pub n: Option<u64>,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub format: FormatArgs,
    #[command(flatten)]
    pub patience: PatienceArgs,
}

/// `zoolog log tail`.
#[derive(Debug, clap::Args)]
pub struct TailArgs {
    /// Print the records of the last N positions instead
    #[arg(short, value_name = "N")]
    pub n: Option<u64>,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub format: FormatArgs,
    #[command(flatten)]
    pub patience: PatienceArgs,
}

/// `zoolog log follow`.
#[derive(Debug, clap::Args)]
pub struct FollowArgs {
    /// First position wanted; none: what is appended from now on
    #[arg(value_name = "FROM")]
    pub from: Option<u64>,
    /// End after so many records
    #[arg(short, value_name = "N")]
    pub n: Option<u64>,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub format: FormatArgs,
    /// Seconds to wait for the log to be there at first; once it is, waiting has no end
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds)]
    pub timeout: f64,
}

/// `zoolog log trim`.
#[derive(Debug, clap::Args)]
pub struct TrimArgs {
    /// First position that stays; at most where the log ends, and not beyond what a consumer still needs
    #[arg(value_name = "GSN")]
    pub gsn: u64,
    #[command(flatten)]
    pub place: Place,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub patience: PatienceArgs,
}

/// `zoolog log view`.
#[derive(Debug, clap::Args)]
pub struct ViewArgs {
    #[command(flatten)]
    pub place: Place,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `zoolog log resolve`.
#[derive(Debug, clap::Args)]
pub struct ResolveArgs {
    /// Its id, as `append` said it when it ended without knowing, and as `read --json` shows it
    #[arg(value_name = "WRITER", value_parser = crate::log::writer)]
    pub writer: zoolog_core::WriterId,
    /// The first of its batches to look for
    #[arg(long, value_name = "SEQ", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..1 << 60))]
    pub from: u64,
    /// Close the lanes for that writer first, so that the answer is final: one record, which is not printed by `read`,
    /// in each lane that is open. Only for a writer that doesn't run any more
    #[arg(long)]
    pub fence: bool,
    /// Only in this lane, SHARD/INDEX [default: all there are]
    #[arg(long, value_name = "LANE", value_parser = super::lane)]
    pub lane: Option<zoolog_core::LaneId>,
    #[command(flatten)]
    pub place: Place,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub patience: PatienceArgs,
}

/// `zoolog log fsck`.
#[derive(Debug, clap::Args)]
pub struct FsckArgs {
    /// Data directory of a stopped node, or of a stopped `dev`: all nodes in it are looked at
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// The cluster it should belong to; none: what the directory's own stamp says
    #[arg(long, value_name = "HEX")]
    pub cluster: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `zoolog log dump`.
#[derive(Debug, clap::Args)]
pub struct DumpArgs {
    /// Data directory of a stopped node: of an orderer, or of a data server's slot
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Only what is of this lane, SHARD/INDEX
    #[arg(long, value_name = "LANE", value_parser = super::lane)]
    pub lane: Option<zoolog_core::LaneId>,
    /// Only the blocks, not what is in them
    #[arg(long, conflicts_with = "lane")]
    pub blocks: bool,
    /// At most so many lines
    #[arg(short, value_name = "N")]
    pub n: Option<u64>,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
}
