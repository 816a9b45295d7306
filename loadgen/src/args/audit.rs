//! What can be asked of `loadgen audit`?

use super::{LogArgs, LogOp, RunArgs, values};
use clap::Args;
use std::time::Duration;

/// The longest that writers go on, if nobody ends them.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// `loadgen audit`.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = HOW)]
pub struct AuditArgs {
    /// Orderers of the log.
    #[arg(long, value_name = "H:P,..", value_delimiter = ',', required = true)]
    pub orderers: Vec<String>,
    /// Writers, each with its own connections. 0: only read back.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    pub writers: u32,
    /// Clients that follow the log from its first record on while it is written.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub followers: u32,
    /// Records in flight per writer.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub depth: u32,
    /// Bytes of a record; 24 or more, for it carries writer, counter and checksum.
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = clap::value_parser!(u32).range(24..=1_000_000))]
    pub size: u32,
    /// Records per second, of all writers together. Without it as many as there are acknowledgements.
    #[arg(long, value_name = "PER_SECOND", value_parser = values::rate)]
    pub rate: Option<f64>,
    /// How often a line of progress is printed, if there was any.
    #[arg(long, value_name = "TIME", default_value = "20ms", value_parser = values::duration)]
    pub progress: Duration,
    /// How long the reading back may stand still.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = values::duration)]
    pub patience: Duration,
}

const HOW: &str = "\
Writes until SIGTERM or SIGINT, whatever fails meanwhile, and prints one JSON object a line: when (`at_ms`, since 1970), \
how many records of each writer are acknowledged, and how many each follower has seen. Then reads all of the log back, by a \
subscription and in ranges, and checks LOG-1, LOG-3, LOG-4 and the lanes' part of LOG-7 (docs/INVARIANTS.md): \
positions dense, all readers alike, each acknowledged record where it was acknowledged, each writer's records once and in \
order, nothing that nobody wrote, each lane whole, no writer back in a lane that it had left. The log must be new, and \
nothing else may write to it. The last line has what was found; two audits of one log have one `digest`.";

impl AuditArgs {
    /// What one of its writers does.
    pub fn appends(&self) -> LogArgs {
        let run = RunArgs {
            duration: LONGEST,
            warmup: Duration::ZERO,
            rate: self.rate,
            slo: Vec::new(),
            json: None,
            hgrm: None,
            hlog: None,
            plots: None,
            stages: false,
            admin: Vec::new(),
            seed: 1,
        };
        LogArgs {
            orderers: self.orderers.clone(),
            op: LogOp::Append,
            writers: self.writers,
            depth: self.depth,
            ranges: 1,
            size: self.size,
            run,
        }
    }
}
