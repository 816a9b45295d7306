//! `zoolog admin shards`: what does each replica of each shard hold, and is it well? As the leader of the orderers
//! knows the shards, and as the slots say themselves.

use super::cell;
use crate::args::AskArgs;
use crate::exit::{Code, Failure};
use crate::{out, status};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use zoolog_core::view::ShardState;
use zoolog_core::wire::OrderIs;

/// Carries it out.
///
/// # Errors
/// If no orderer leads; if a slot doesn't answer, behind what the others say.
pub fn show(args: &AskArgs) -> Result<(), Failure> {
    let order = status::order(&args.place.orderers()?)?;
    let slots = super::servers::ask_all(&order);
    let shards = shards(&order, &slots);
    if args.json {
        out::print(format!("{:#}", json!({ "view": order.view.number.0, "shards": shards })))?;
    } else {
        let columns =
            ["shard", "state", "replica", "lane", "committed", "durable", "accepted", "lane is", "note"];
        let mut table = out::table(columns, 4..7);
        for shard in &shards {
            for replica in shard["replicas"].as_array().into_iter().flatten() {
                let who = [cell(&shard["shard"]), cell(&shard["state"]), cell(&replica["slot"])];
                if replica["lanes"].as_array().is_none_or(Vec::is_empty) {
                    let none = std::iter::repeat_n(String::new(), 5);
                    table.add_row(who.into_iter().chain(none).chain([cell(&replica["error"])]));
                    continue;
                }
                let is_copy = replica["copy"].is_object();
                for lane in replica["lanes"].as_array().into_iter().flatten() {
                    let fields =
                        ["lane", "committed", "durable", "accepted", "state"].map(|key| cell(&lane[key]));
                    let role = match &shard["rebuild"] {
                        _ if is_copy => progress(&replica["copy"]),
                        r if r["instead_of"] == replica["slot"] => {
                            format!("lost, made anew on {}", cell(&r["slot"]))
                        }
                        _ if lane["primary"] == true => "primary".into(),
                        _ => "backup".into(),
                    };
                    let note = match lane["lost"].as_u64() {
                        None | Some(0) => String::new(),
                        Some(n) => format!("{n} records can't be read here: asked for elsewhere"),
                    };
                    table.add_row(who.clone().into_iter().chain(fields).chain([role, note]));
                }
            }
        }
        out::print(table)?;
    }
    let silent: Vec<_> = slots.values().filter_map(|s| s["error"].as_str()).collect();
    match silent.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(
            Code::Unavailable,
            format!("not all data servers answer: {}. Start them again, or replace them", silent.join("; ")),
        )),
    }
}

/// How far a copy is that is being made in place of a lost one.
fn progress(copy: &Value) -> String {
    match (copy["records"].as_u64(), copy["of"].as_u64()) {
        (Some(records), Some(of)) => {
            let percent = (records.min(of) * 100).checked_div(of).unwrap_or(100);
            format!("copy for {}: {percent} %, {records} of {of} records", cell(&copy["instead_of"]))
        }
        _ => format!("copy for {}: about to begin", cell(&copy["instead_of"])),
    }
}

/// The shards with what each replica says of its lanes.
fn shards(order: &OrderIs, slots: &BTreeMap<String, Value>) -> Vec<Value> {
    let shard = |s: &zoolog_core::view::ShardView| {
        let copy = s.rebuild.as_ref().map(|r| &r.to);
        let instead_of = s.rebuild.as_ref().map(|r| s.replicas[usize::from(r.index)].slot.to_string());
        let replicas = s.replicas.iter().chain(copy).map(|r| {
            let said = &slots[&r.addr];
            let of_shard = |lane: &&Value| {
                lane["lane"].as_str().and_then(|l| l.split_once('/')).is_some_and(|l| l.0 == s.id.to_string())
            };
            let lanes: Vec<&Value> =
                said["lanes"].as_array().into_iter().flatten().filter(of_shard).collect();
            let mut replica =
                json!({ "slot": r.slot.to_string(), "addr": r.addr, "lanes": lanes, "error": said["error"] });
            if copy.is_some_and(|c| c.slot == r.slot) {
                let copies = said["copies"].as_array().into_iter().flatten();
                let mut made =
                    copies.clone().find(|c| c["shard"] == s.id.0).cloned().unwrap_or_else(|| json!({}));
                made["instead_of"] = json!(instead_of);
                replica["copy"] = made;
            }
            replica
        });
        let state = match s.state {
            ShardState::Live => "live",
            ShardState::Finalized(_) => "finalized",
        };
        let replicas: Vec<Value> = replicas.collect();
        let rebuild = copy.map(|c| json!({ "slot": c.slot.to_string(), "instead_of": instead_of }));
        json!({ "shard": s.id.0, "state": state, "replicas": replicas, "rebuild": rebuild })
    };
    order.view.shards.iter().map(shard).collect()
}
