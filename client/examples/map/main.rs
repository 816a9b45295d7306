//! A key-value map that survives its machine, and can be had on several.
//!
//! The data structure is in `state.rs`: a `BTreeMap`, three commands, no word about logs, disks or networks. This file is a command
//! line around it.
//!
//! # Try it
//! On one disk, without servers; each command is a process of its own, and finds what the one before it did:
//! ```text
//! cargo run -q -p zoolog-client --features rt --example map -- --log local:map-log put colour blue
//! cargo run -q -p zoolog-client --features rt --example map -- --log local:map-log get colour
//! ```
//! On a cluster, in two nodes that stay (start `zoolog dev` first; it prints its orderers). What one puts, the other gets:
//! ```text
//! cargo run -q -p zoolog-client --features rt --example map -- --orderers 127.0.0.1:7001 --dir map-one
//! cargo run -q -p zoolog-client --features rt --example map -- --orderers 127.0.0.1:7001 --dir map-two
//! ```
//! Then kill one with `kill -9` in the middle of anything, and start it again: whatever it had answered is there.
//!
//! # What to look at
//! - `put` comes back when the command is durable and applied here. An error that says "not known" is the one case in which it
//!   may have happened all the same.
//! - `get` asks the log where it ends before it reads (`Consistency::Linearizable`): it sees every `put` that anybody was told of
//!   before, at any node. `peek` doesn't (`Consistency::Session`): it costs nothing, and may lag behind other nodes.
//! - `swap` changes a value only if it is what the caller believes: that is decided where the command is applied, the same
//!   everywhere, so that of two who swap at once one is told what the other has put.

#[path = "../common/mod.rs"]
mod common;
mod state;

use common::apply;
use state::{Command, Map};
use std::process::ExitCode;
use zoolog_client::replicated::{Consistency, ReplicatedHandle};

const USAGE: &str = "say put KEY VALUE, swap KEY OLD NEW, delete KEY, get KEY, peek KEY, count";

fn main() -> ExitCode {
    common::run("map", USAGE, carry_out)
}

fn carry_out(map: &ReplicatedHandle<Map>, words: &[&str]) -> Option<Result<String, String>> {
    let get = |key: &str, consistency| {
        let key = key.to_string();
        let value = map.read(consistency, move |map| map.get(&key).map(String::from)).wait();
        value.map(|v| v.unwrap_or_else(|| "(none)".into())).map_err(|e| e.to_string())
    };
    let change = |command| apply(map, &command).map(|was| was.unwrap_or_else(|| "(none)".into()));
    Some(match *words {
        ["put", key, value] => change(Command::Put { key: key.into(), value: value.into() }),
        ["swap", key, old, new] => {
            change(Command::Swap { key: key.into(), old: old.into(), new: new.into() })
        }
        ["delete", key] => change(Command::Delete { key: key.into() }),
        ["get", key] => get(key, Consistency::Linearizable),
        ["peek", key] => get(key, Consistency::Session),
        ["count"] => {
            map.read(Consistency::Linearizable, |map| map.len().to_string()).wait().map_err(|e| e.to_string())
        }
        _ => return None,
    })
}
