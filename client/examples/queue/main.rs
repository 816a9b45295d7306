//! A job queue: workers take jobs, and a job whose worker dies goes to another.
//!
//! The data structure is in `state.rs`. It shows how a state machine deals with time: it has none. Who takes a job says what his
//! clock shows and how long he wants it; the queue takes the latest time that anybody has said as the time it is. So all nodes
//! agree on which leases have run out, however wrong a clock is; a clock that is ahead only makes leases shorter.
//!
//! # Try it
//! ```text
//! cargo run -q -p zoolog-client --features rt --example queue -- --log local:queue-log add paint
//! cargo run -q -p zoolog-client --features rt --example queue -- --log local:queue-log take anna 5000
//! cargo run -q -p zoolog-client --features rt --example queue -- --log local:queue-log take bert 5000
//! ```
//! Anna has the job for 5,000 ms; Bert gets nothing, unless he asks again after that. On a cluster, workers are processes anywhere:
//! give each `--orderers HOST:PORT --dir ITS-OWN` in place of `--log`, and lines on its standard input.
//!
//! # What to look at
//! - A job is worked on **at least once**: a worker that is slow rather than dead may still be at it when another takes it.
//!   But it is **done once**: `done` is true for one worker, the one who had the job last. Who is told false throws his work
//!   away. (For work that can't be thrown away there are fencing tokens: see the example `lock`.)
//! - Jobs keep the order in which they were added, whoever added them, since that is the order of the log. A job's number is the
//!   position of its command: nobody had to count.

#[path = "../common/mod.rs"]
mod common;
mod state;

use common::apply;
use state::{Command, Queue, Told};
use std::process::ExitCode;
use zoolog_client::replicated::{Consistency, ReplicatedHandle};
use zoolog_core::rt::clock;

const USAGE: &str = "say add WORK, take WORKER LEASE-MS, done WORKER NUMBER, count";

fn main() -> ExitCode {
    common::run("queue", USAGE, carry_out)
}

fn carry_out(queue: &ReplicatedHandle<Queue>, words: &[&str]) -> Option<Result<String, String>> {
    let command = match *words {
        ["add", work] => Command::Add { work: work.into() },
        ["take", worker, lease_ms] => {
            Command::Take { worker: worker.into(), now_ms: clock::wall().0, lease_ms: lease_ms.parse().ok()? }
        }
        ["done", worker, number] => Command::Done { worker: worker.into(), number: number.parse().ok()? },
        ["count"] => {
            let count = queue.read(Consistency::Linearizable, |queue| queue.len().to_string());
            return Some(count.wait().map_err(|e| e.to_string()));
        }
        _ => return None,
    };
    Some(apply(queue, &command).map(|told| match told {
        Told::Added { number } => format!("added {number}"),
        Told::Taken(Some((number, work))) => format!("yours {number} {work}"),
        Told::Taken(None) => "nothing to do".into(),
        Told::Done(true) => "done".into(),
        Told::Done(false) => "it is not yours any more".into(),
    }))
}
