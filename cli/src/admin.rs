//! How is a cluster born, and how is it now?

use crate::args::{AdminCommand, InitArgs, StatusArgs};
use crate::{selftest, stages, start, status};
use comfy_table::Table;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::Path;
use zoolog_core::config::{self, ClusterConfig, Config};
use zoolog_core::rt::datadir::write_durably;

/// Carries out `zoolog admin ...`.
///
/// # Errors
/// Text for a person.
pub fn run(command: AdminCommand) -> Result<(), String> {
    match command {
        AdminCommand::Init(args) => init(args),
        AdminCommand::Status(args) => show_status(&args),
        AdminCommand::Stages(args) => stages::show(&args),
        AdminCommand::Selftest(args) => selftest::run(&args),
    }
}

fn init(args: InitArgs) -> Result<(), String> {
    if args.out.exists() {
        return Err(format!(
            "{} exists: a cluster is born once. Remove it only if no node has ever started with it",
            args.out.display()
        ));
    }
    let cluster = new_cluster(args.orderers, args.shards, args.replicas, args.servers)?;
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
    let hex = |bytes: &[u8]| {
        bytes.iter().fold(String::new(), |mut text, b| {
            let _ = write!(text, "{b:02x}");
            text
        })
    };
    let id = hex(&start::random_bytes::<16>()?);
    let secret = hex(&start::random_bytes::<32>()?);
    let cluster = ClusterConfig { id, secret, orderers, shards, replicas, servers };
    cluster.validate().map_err(|e| e.to_string())?;
    Ok(cluster)
}

/// Writes a birth certificate, readable by its owner only.
///
/// # Errors
/// With the path.
pub fn save(cluster: &ClusterConfig, path: &Path) -> Result<(), String> {
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

fn show_status(args: &StatusArgs) -> Result<(), String> {
    let orderers = match &args.data_dir {
        Some(dir) => {
            let file = dir.join("cluster.toml");
            config::load::<ClusterConfig>(&file).map_err(|e| e.to_string())?.orderers
        }
        None if args.orderers.is_empty() => return Err("give --orderers H:P,.. or --data-dir DIR".into()),
        None => args.orderers.clone(),
    };
    let status = cluster_status(&orderers);
    if args.json {
        println!("{status:#}");
        return Ok(());
    }
    let mut table = Table::new();
    table.set_header(["orderer", "role", "term", "view", "cut", "tail", "note"]);
    for o in status["orderers"].as_array().into_iter().flatten() {
        let text = |key: &str| match &o[key] {
            Value::Null => String::new(),
            Value::String(s) => s.clone(),
            other => other.to_string(),
        };
        let role = match o["leader"].as_bool() {
            Some(true) => "leader",
            Some(false) => "follower",
            None => "",
        };
        table.add_row([
            text("addr"),
            role.into(),
            text("term"),
            text("view"),
            text("cut"),
            text("tail"),
            text("error"),
        ]);
    }
    println!("{table}");
    let any = status["orderers"].as_array().is_some_and(|all| all.iter().any(|o| o["error"].is_null()));
    if any { Ok(()) } else { Err("no orderer answered".into()) }
}
