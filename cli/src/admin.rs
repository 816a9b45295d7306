//! How is a cluster born, and how is it now?
//!
//! - here: birth, and the orderers' status. `orderers`, `shards`, `servers`, `consumers`: what their names say.
//!   `views`: what an operator decides about the shards. `log`: one log in place of another. `skip`: a record that ends
//!   ZooKeeper nodes is passed over.

mod consumers;
pub mod log;
pub mod orderers;
mod servers;
mod shards;
mod skip;
mod views;

use crate::args::{AdminCommand, AdminLogCommand, AskArgs, InitArgs};
use crate::exit::{Code, Failure};
use crate::{out, selftest, stages, start, status};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::Path;
use zoolog_core::config::{BirthConfig, ClusterConfig, Config};
use zoolog_core::rt::datadir::write_durably;

/// Carries out `zoolog admin ...`.
///
/// # Errors
/// With the exit code, and a text for a person.
pub fn run(command: AdminCommand) -> Result<(), Failure> {
    match command {
        AdminCommand::Init(args) => init(args).map_err(Failure::from),
        AdminCommand::Status(args) => show_status(&args),
        AdminCommand::Shards(args) => shards::show(&args),
        AdminCommand::Servers(args) => servers::show(&args),
        AdminCommand::Finalize(args) => views::finalize(&args),
        AdminCommand::Rebuild(args) => views::rebuild(&args),
        AdminCommand::WantShards(args) => views::want(&args),
        AdminCommand::Consumers(args) => consumers::run(&args),
        AdminCommand::Orderers(args) => orderers::run(&args),
        AdminCommand::Log(AdminLogCommand::Switch(args)) => log::switch(&args),
        AdminCommand::Skip(args) => skip::run(&args),
        AdminCommand::Stages(args) => stages::show(&args),
        AdminCommand::Selftest(args) => selftest::run(&args),
    }
}

/// A JSON value as a cell: text as it is, nothing as nothing.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn init(args: InitArgs) -> Result<(), String> {
    if args.out.exists() {
        return Err(format!(
            "{} exists: a cluster is born once. Remove it only if no node has ever started with it",
            args.out.display()
        ));
    }
    let mut cluster = new_cluster(args.orderers, args.shards, args.replicas, args.servers)?;
    if let Some(ending) = &args.succeeds {
        let (BirthConfig { id, secret }, generation) = ending.identity()?;
        (cluster.id, cluster.secret, cluster.successor) = (id, secret, true);
        cluster.generation = generation;
    }
    save(&cluster, &args.out)?;
    println!("cluster {} is in {}: give this file to every node", cluster.id, args.out.display());
    Ok(())
}

/// A new cluster's birth certificate, with id and secret drawn now.
///
/// # Errors
/// If the figures don't fit together.
pub fn new_cluster(
    orderers: Vec<String>,
    shards: u32,
    replicas: u32,
    servers: u32,
) -> Result<ClusterConfig, String> {
    let BirthConfig { id, secret } = new_birth()?;
    let (successor, generation) = (false, 0);
    let cluster = ClusterConfig { id, secret, orderers, shards, replicas, servers, successor, generation };
    cluster.validate().map_err(|e| e.to_string())?;
    Ok(cluster)
}

/// An id and a secret, drawn now.
///
/// # Errors
/// If the system gives no random bytes.
pub fn new_birth() -> Result<BirthConfig, String> {
    let hex = |bytes: &[u8]| {
        bytes.iter().fold(String::new(), |mut text, b| {
            let _ = write!(text, "{b:02x}");
            text
        })
    };
    Ok(BirthConfig { id: hex(&start::random_bytes::<16>()?), secret: hex(&start::random_bytes::<32>()?) })
}

/// Writes a birth certificate, readable by its owner only.
///
/// # Errors
/// With the path.
pub fn save(cluster: &impl Config, path: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let text = toml::to_string(cluster).map_err(|e| e.to_string())?;
    write_durably(path, text.as_bytes())?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .map_err(|e| format!("{}: {e}", path.display()))
}

/// What the orderers say, as one JSON object.
pub fn cluster_status(orderers: &[String]) -> Value {
    let all: Vec<Value> = orderers
        .iter()
        .map(|addr| match status::ask(addr) {
            Ok(Value::Object(mut status)) => {
                status.insert("addr".into(), json!(addr));
                Value::Object(status)
            }
            Ok(other) => json!({"addr": addr, "error": format!("unexpected answer {other}")}),
            Err(e) => json!({"addr": addr, "error": e}),
        })
        .collect();
    json!({ "orderers": all })
}

fn show_status(args: &AskArgs) -> Result<(), Failure> {
    let orderers = args.place.orderers()?;
    let status = cluster_status(&orderers);
    if args.json {
        out::print(format!("{status:#}"))?;
    } else {
        let mut table = out::table(["orderer", "role", "term", "view", "cut", "tail", "trim", "note"], 2..7);
        for o in status["orderers"].as_array().into_iter().flatten() {
            let role = match o["leader"].as_bool() {
                Some(true) => "leader",
                Some(false) => "follower",
                None => "",
            };
            let figures = ["term", "view", "cut", "tail", "trim"].map(|key| cell(&o[key]));
            let note = match o["sealed"]["successor"].as_str() {
                Some(successor) => format!("the log has ended, and goes on at {successor}"),
                None => cell(&o["error"]),
            };
            table.add_row([cell(&o["addr"]), role.into()].into_iter().chain(figures).chain([note]));
        }
        out::print(table)?;
    }
    let all = || status["orderers"].as_array().into_iter().flatten();
    if all().all(|o| !o["error"].is_null()) {
        return Err(Failure::new(Code::Unavailable, "no orderer answered: are they running?"));
    }
    if all().all(|o| o["leader"] != true) {
        return Err(Failure::new(
            Code::Unavailable,
            "no orderer leads, so nothing is ordered: a majority of them must run; if they do, look again in a second",
        ));
    }
    Ok(())
}
