//! `zoolog log`: the log from a shell. Which command?
//!
//! - `session`: a client on a thread of its own (`driven`), and the command that talks to it; `interrupt`: ctrl-c.
//! - `append` (what is read: `input`), `read` and `tail`, `follow`, `trim`, `view`, `resolve`: the commands; `records`, `frames`: how
//!   records look; `range`: which are meant.
//! - `fsck`, `dump`: a stopped node's data, found by `node_dir`.
//!
//! Each ends with an exit code of [`exit`](crate::exit), and when nobody reads its stdout any more.

mod append;
mod driven;
mod dump;
mod follow;
mod frames;
mod fsck;
mod input;
mod interrupt;
mod node_dir;
mod range;
mod read;
mod records;
mod resolve;
mod session;
mod trim;
mod view;

pub use input::{Source, start as start_input};
pub use interrupt::Interrupt;
pub use range::Range;
pub use read::trimmed;
pub use resolve::writer;
pub use session::{Said, Session};

use crate::args::LogCommand;
use crate::exit::Failure;

/// Carries out `zoolog log ...`.
///
/// # Errors
/// With the exit code, and a text for a person.
pub fn run(command: LogCommand) -> Result<(), Failure> {
    match command {
        LogCommand::Append(args) => append::run(args),
        LogCommand::Read(args) => read::run(&args),
        LogCommand::Tail(args) => read::tail(&args),
        LogCommand::Follow(args) => follow::run(&args),
        LogCommand::Trim(args) => trim::run(&args),
        LogCommand::View(args) => view::run(&args),
        LogCommand::Resolve(args) => resolve::run(&args),
        LogCommand::Fsck(args) => fsck::run(&args),
        LogCommand::Dump(args) => dump::run(&args),
    }
}
