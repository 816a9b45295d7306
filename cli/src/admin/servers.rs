//! `zoolog admin servers`: how are the slots of the data servers? Each says so itself.

use super::cell;
use crate::args::AskArgs;
use crate::exit::{Code, Failure};
use crate::{out, status};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use zoolog_core::view::ShardView;
use zoolog_core::wire::OrderIs;

/// Carries it out.
///
/// # Errors
/// If no orderer leads; if a slot doesn't answer, behind what the others say.
pub fn show(args: &AskArgs) -> Result<(), Failure> {
    let order = status::order(&args.place.orderers()?)?;
    let slots = ask_all(&order);
    if args.json {
        out::print(format!("{:#}", json!({ "slots": slots.values().collect::<Vec<_>>() })))?;
    } else {
        let columns = [
            "slot",
            "address",
            "start",
            "view",
            "leader",
            "lanes",
            "unsynced B",
            "writers",
            "conns",
            "scrub",
            "note",
        ];
        let mut table = out::table(columns, 5..9);
        for slot in slots.values() {
            let leader = match slot["leader_connected"].as_bool() {
                Some(true) => "connected",
                Some(false) => "lost",
                None => "",
            };
            let lanes = slot["lanes"].as_array().map_or_else(String::new, |lanes| lanes.len().to_string());
            let count = |state: &str| {
                slot["lanes"].as_array().into_iter().flatten().filter(|l| l["state"] == state).count()
            };
            let note = match (&slot["error"], count("damaged"), count("mending")) {
                (Value::String(error), ..) => error.clone(),
                (_, 0, 0) => String::new(),
                (_, 0, n) => format!("{n} lanes are being mended"),
                (_, n, _) => format!("{n} lanes damaged"),
            };
            let scrub = match (slot["scrub"]["passes"].as_u64(), slot["scrub"]["segment"].as_u64()) {
                (None, _) => String::new(),
                (Some(n), None) => format!("{n} passes"),
                (Some(n), Some(segment)) => format!("{n} passes, at segment {segment}"),
            };
            let first = ["slot", "addr", "incarnation", "view"].map(|key| cell(&slot[key]));
            let last = ["unsynced_bytes", "writers", "connections"].map(|key| cell(&slot[key]));
            table.add_row(
                first.into_iter().chain([leader.to_string(), lanes]).chain(last).chain([scrub, note]),
            );
        }
        out::print(table)?;
        out::print("Servers that have no replica of any shard are not listed.")?;
    }
    let silent = slots.values().filter(|s| s["error"].is_string()).count();
    match silent {
        0 => Ok(()),
        n => Err(Failure::new(
            Code::Unavailable,
            format!("{n} of {} slots don't answer: start their servers again, or replace them", slots.len()),
        )),
    }
}

/// What every slot of the view says, by address. Who doesn't answer has an `"error"`.
pub fn ask_all(order: &OrderIs) -> BTreeMap<String, Value> {
    let of = |s: &'_ ShardView| {
        s.replicas.iter().chain(s.rebuild.iter().map(|r| &r.to)).cloned().collect::<Vec<_>>()
    };
    let replicas = order.view.shards.iter().flat_map(of);
    let slots: BTreeMap<_, _> = replicas.map(|r| (r.addr.clone(), r.slot)).collect();
    // At the same time: several may be silent, each for as long as it is waited for.
    std::thread::scope(|scope| {
        let asked: Vec<_> = slots
            .into_iter()
            .map(|(addr, slot)| {
                let thread = scope.spawn({
                    let addr = addr.clone();
                    move || status::ask(&addr)
                });
                (addr, slot, thread)
            })
            .collect();
        let said = asked.into_iter().map(|(addr, slot, thread)| {
            let mut said = match thread.join().expect("asking doesn't panic") {
                Ok(status) if status.is_object() => status,
                Ok(other) => json!({ "error": format!("{addr}: unexpected answer {other}") }),
                Err(why) => json!({ "error": why }),
            };
            (said["slot"], said["addr"]) = (json!(slot.to_string()), json!(addr));
            (addr, said)
        });
        said.collect()
    })
}
