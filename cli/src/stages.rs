//! How long does each stage of a request take? Asked of every node; for people and programs.

use crate::args::StagesArgs;
use crate::exit::{Code, Failure};
use crate::{out, status};
use comfy_table::{CellAlignment, Table};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use zoolog_core::SlotId;
use zoolog_core::config::{self, ClusterConfig, ZkConfig};
use zoolog_core::wire::Stages;

/// What all nodes say: an array of `{"node", "stages"}`, orderers first, then data servers, then ZooKeeper nodes.
/// Who can't be asked has no stages and says why in `"error"`. They count anew afterwards if `reset`.
pub fn all(orderers: &[String], zk: &[String], reset: bool) -> Value {
    let question = Stages { request: 1, reset };
    let mut nodes = Vec::new();
    for (i, addr) in orderers.iter().enumerate() {
        nodes.push(node(format!("order-{i}"), status::ask_for(addr, question.clone())));
    }
    match slots(orderers) {
        Ok(slots) => {
            let several = slots.keys().any(|slot| slot.index > 0);
            for (slot, addr) in slots {
                let index = if several { format!(".{}", slot.index) } else { String::new() };
                let name = format!("shard-{}{index}", slot.server.0);
                nodes.push(node(name, status::ask_for(&addr, question.clone())));
            }
        }
        Err(why) => nodes.push(node("shards".into(), Err(why))),
    }
    let word = if reset { "stgr" } else { "stgs" };
    for (i, addr) in zk.iter().enumerate() {
        let said = status::four_letters(addr, word)
            .and_then(|text| serde_json::from_str(&text).map_err(|e| format!("{addr}: {e}")));
        nodes.push(node(format!("zk-{i}"), said));
    }
    Value::Array(nodes)
}

fn node(name: String, said: Result<Value, String>) -> Value {
    match said {
        Ok(stages) => json!({ "node": name, "stages": stages }),
        Err(why) => json!({ "node": name, "stages": [], "error": why }),
    }
}

/// Where the slots are, as the leader of the orderers knows them.
fn slots(orderers: &[String]) -> Result<BTreeMap<SlotId, String>, String> {
    let mut problem = String::from("no orderer leads");
    for addr in orderers {
        match status::view(addr) {
            Ok(Some(view)) => {
                let replicas = view.shards.into_iter().flat_map(|s| s.replicas);
                return Ok(replicas.map(|r| (r.slot, r.addr)).collect());
            }
            Ok(None) => {}
            Err(why) => problem = why,
        }
    }
    Err(problem)
}

/// Carries out `zoolog admin stages`.
///
/// # Errors
/// Text for a person; also when a node can't be asked, behind what the others say.
pub fn show(args: &StagesArgs) -> Result<(), Failure> {
    let (orderers, zk) = match &args.data_dir {
        Some(dir) => of_dev(dir)?,
        None if args.orderers.is_empty() && args.zk.is_empty() => {
            return Err(Failure::new(
                Code::Usage,
                "give --orderers H:P,.. and --zk H:P,.., or --data-dir DIR",
            ));
        }
        None => (args.orderers.clone(), args.zk.clone()),
    };
    let nodes = all(&orderers, &zk, args.reset);
    if args.json {
        out::print(format!("{nodes:#}"))?;
    } else {
        out::print(table(&nodes))?;
    }
    let silent: Vec<&str> =
        nodes.as_array().into_iter().flatten().filter_map(|n| n["error"].as_str()).collect();
    if silent.is_empty() { Ok(()) } else { Err(Failure::new(Code::Unavailable, silent.join("; "))) }
}

/// Addresses of the orderers and of the ZooKeeper nodes of a `dev`.
fn of_dev(dir: &Path) -> Result<(Vec<String>, Vec<String>), String> {
    let orderers =
        config::load::<ClusterConfig>(&dir.join("cluster.toml")).map_err(|e| e.to_string())?.orderers;
    let file = |i: u32| dir.join("nodes").join(format!("zk-{i}")).join("config.toml");
    let zk = (0..).map(file).take_while(|file| file.exists());
    let listen = |file: std::path::PathBuf| {
        config::load::<ZkConfig>(&file).map(|c| c.listen).map_err(|e| e.to_string())
    };
    Ok((orderers, zk.map(listen).collect::<Result<_, _>>()?))
}

fn table(nodes: &Value) -> Table {
    let mut table = Table::new();
    table.set_header(["node", "stage", "count", "p50 us", "p99 us", "p99.9 us", "max us"]);
    for node in nodes.as_array().into_iter().flatten() {
        for stage in node["stages"].as_array().into_iter().flatten().filter(|s| s["count"] != 0) {
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), String::from);
            let fields = ["name", "count", "p50_us", "p99_us", "p999_us", "max_us"];
            table.add_row(std::iter::once(text(&node["node"])).chain(fields.map(|key| text(&stage[key]))));
        }
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_that_answer_are_shown_and_others_say_why() {
        let stage = |name: &str, count: u64| json!({ "name": name, "count": count, "p50_us": 5, "p99_us": 6, "p999_us": 7, "max_us": 8 });
        let stage = json!([stage("raft", 3), stage("cut_wait", 0)]);
        let nodes = json!([node("order-0".into(), Ok(stage)), node("zk-0".into(), Err("gone".into()))]);
        let text = table(&nodes).to_string();
        assert!(text.contains("order-0") && text.contains("raft") && !text.contains("zk-0"), "{text}");
        assert!(!text.contains("cut_wait"), "what was never passed is left out: {text}");
        assert_eq!((&nodes[1]["error"], &nodes[1]["stages"]), (&json!("gone"), &json!([])));
    }

    #[test]
    fn nobody_there_is_an_error_per_kind_and_not_a_hang() {
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let nodes = all(std::slice::from_ref(&gone), std::slice::from_ref(&gone), false);
        let errors: Vec<_> = nodes.as_array().unwrap().iter().map(|n| n["error"].is_string()).collect();
        assert_eq!(errors, [true; 3]);
    }
}
