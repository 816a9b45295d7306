//! A lock service whose locks can be relied on: each comes with a fencing token.
//!
//! A lock with a lease alone protects nothing. Its holder may stand still for longer than the lease (a full disk, a suspended
//! machine), another gets the lock, and then the first wakes up and writes, believing that the lock is still his. What helps is a
//! number that grows from holder to holder: whoever guards the resource remembers the highest it has seen, and refuses lower
//! ones. Here the number is the position in the log of the command that got the lock: it grows by itself.
//!
//! The data structure is in `state.rs`: locks, and a resource that they protect, small enough to be in the same state.
//!
//! # Try it
//! ```text
//! cargo run -q -p zoolog-client --features rt --example lock -- --log local:lock-log lock printer anna 5000
//! cargo run -q -p zoolog-client --features rt --example lock -- --log local:lock-log write printer 0 hello
//! ```
//! The first says `token 0`, which the second shows to the resource. After 5,000 ms let `bert` lock the printer and write with his
//! token: from then on `write printer 0 ...` is refused, whatever Anna believes. On a cluster give each process
//! `--orderers HOST:PORT --dir ITS-OWN` in place of `--log`.
//!
//! # What to look at
//! - Who asks says what his clock shows; the latest time that anybody has said is the time it is, the same on all nodes. A clock
//!   that is ahead ends leases early, which costs somebody his lock, and nobody his data: the token sees to that.
//! - `unlock` names the token, not the owner: an answer that was lost and is asked for again can't free another's lock.
//! - If `lock` ends with "not known", ask again with the same owner: who has the lock gets it again, with the token that he has.

#[path = "../common/mod.rs"]
mod common;
mod state;

use common::apply;
use state::{Command, Locks, Told};
use std::process::ExitCode;
use zoolog_client::replicated::{Consistency, ReplicatedHandle};
use zoolog_core::rt::clock;

const USAGE: &str = "say lock NAME OWNER LEASE-MS, unlock NAME TOKEN, write NAME TOKEN TEXT, read NAME";

fn main() -> ExitCode {
    common::run("lock", USAGE, carry_out)
}

fn carry_out(locks: &ReplicatedHandle<Locks>, words: &[&str]) -> Option<Result<String, String>> {
    let command = match *words {
        ["lock", name, owner, lease_ms] => Command::Lock {
            name: name.into(),
            owner: owner.into(),
            now_ms: clock::wall().0,
            lease_ms: lease_ms.parse().ok()?,
        },
        ["unlock", name, token] => Command::Unlock { name: name.into(), token: token.parse().ok()? },
        ["write", name, token, text] => {
            Command::Write { name: name.into(), token: token.parse().ok()?, text: text.into() }
        }
        ["read", name] => {
            let name = name.to_string();
            let text = locks.read(Consistency::Linearizable, move |locks| locks.read(&name).to_string());
            return Some(text.wait().map_err(|e| e.to_string()));
        }
        _ => return None,
    };
    Some(apply(locks, &command).map(|told| match told {
        Told::Yours { token } => format!("token {token}"),
        Told::Held { owner, for_ms } => format!("{owner} has it for {for_ms} ms"),
        Told::Unlocked(true) => "unlocked".into(),
        Told::Unlocked(false) => "that token has no lock any more".into(),
        Told::Written(true) => "written".into(),
        Told::Written(false) => "refused: a later holder has written".into(),
    }))
}
