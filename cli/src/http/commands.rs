//! What do ZooKeeper's admin commands answer? JSON with the fields that its `AdminServer` gives them, `command` and `error`
//! among them.

use super::zk::ZkPages;
use serde_json::{Map, Value, json};
use zoolog_core::config::ZkConfig;
use zoolog_zk::node::{
    About, BUILT_ON, Connection, Figure, Gauges, Mode, NOT_SERVING, Report, Reset, TRACE_MASK, VERSION,
    latencies, mode, monitored, summary_lines, total_lines, totals,
};

/// Names and their abbreviations.
const COMMANDS: &[(&str, &[&str])] = &[
    ("configuration", &["conf", "config"]),
    ("connection_stat_reset", &["crst"]),
    ("connections", &["cons"]),
    ("dirs", &[]),
    ("dump", &[]),
    ("environment", &["env", "envi"]),
    ("get_trace_mask", &["gtmk"]),
    ("hash", &[]),
    ("initial_configuration", &["icfg"]),
    ("is_read_only", &["isro"]),
    ("last_snapshot", &["lsnp"]),
    ("leader", &["lead"]),
    ("monitor", &["mntr"]),
    ("observer_connection_stat_reset", &["orst"]),
    ("observers", &["obsr"]),
    ("ruok", &[]),
    ("server_stats", &["srvr"]),
    ("set_trace_mask", &["stmk"]),
    ("stat_reset", &["srst"]),
    ("stats", &["stat"]),
    ("system_properties", &["sysp"]),
    ("voting_view", &[]),
    ("watch_summary", &["wchs"]),
    ("watches", &["wchc"]),
    ("watches_by_path", &["wchp"]),
    ("zabstate", &[]),
];

/// Links to all of them.
pub fn index() -> String {
    COMMANDS.iter().map(|(name, _)| format!("<a href=\"/commands/{name}\">{name}</a>\n<br/>\n")).collect()
}

/// What is to be known for a command; `None` where nothing is.
fn about(command: &str) -> Option<About> {
    let figures = About { counts: true, ..About::default() };
    Some(match command {
        "environment" | "system_properties" | "get_trace_mask" | "set_trace_mask" => return None,
        "connections" | "stats" => About { connections: true, ..figures },
        "dump" => About { sessions: true, ..figures },
        "watches" | "watches_by_path" => About { watches: true, ..figures },
        "connection_stat_reset" => About { reset: Reset::Connections, ..figures },
        "stat_reset" => About { reset: Reset::Server, ..figures },
        _ => figures,
    })
}

/// The answer to `/commands/NAME`.
pub fn answer(node: &ZkPages, name: &str) -> Value {
    let known = COMMANDS.iter().find(|(full, short)| *full == name || short.contains(&name));
    let Some((command, _)) = known else {
        return json!({ "command": name, "error": format!("Unknown command: {name}") });
    };
    let fields = match about(command) {
        None => without_node(node, command),
        Some(about) => match node.asking.ask(about).filter(|report| report.status.serving) {
            Some(report) => of_report(node, command, &report),
            None => return json!({ "command": name, "error": NOT_SERVING }),
        },
    };
    let (mut fields, error) = match fields {
        Ok(fields) => (fields, Value::Null),
        Err(why) => (json!({}), json!(why)),
    };
    fields["command"] = json!(command);
    fields["error"] = error;
    fields
}

fn without_node(node: &ZkPages, command: &str) -> Result<Value, &'static str> {
    let mut all = Map::new();
    match command {
        "get_trace_mask" => return Ok(json!({ "tracemask": TRACE_MASK })),
        "set_trace_mask" => return Err("nothing is traced here: there is nothing to set"),
        "environment" => drop(all.insert("zookeeper.version".into(), version().into())),
        _ => {}
    }
    all.extend(node.facts.environment.iter().map(|(key, value)| (key.clone(), value.clone().into())));
    Ok(Value::Object(all))
}

fn version() -> String {
    format!("{VERSION}, built on {BUILT_ON}")
}

fn of_report(node: &ZkPages, command: &str, report: &Report) -> Result<Value, &'static str> {
    let mut fields = match command {
        "configuration" => configuration(node),
        "connections" => connections(report, connection_in_full),
        "dirs" => {
            json!({ "datadir_size": Gauges::get(&node.facts.gauges.data_dir_bytes), "logdir_size": 0 })
        }
        "dump" => {
            let owners = report.sessions.iter().filter(|s| !s.ephemerals.is_empty());
            let paths: Map<_, _> = owners.map(|s| (s.id.to_string(), json!(s.ephemerals))).collect();
            json!({ "expiry_time_to_session_ids": {}, "session_id_to_ephemeral_paths": paths })
        }
        "hash" => {
            let s = &report.status;
            let version = report.apply_version;
            json!({ "digests": [{ "zxid": s.applied.0, "digest": s.hash, "digest_version": version }] })
        }
        "initial_configuration" => json!({ "initial_configuration": own_settings(&node.config) }),
        "is_read_only" => json!({ "read_only": report.read_only }),
        "last_snapshot" => {
            let zxid = report.status.snapshot.map_or(0, |gsn| gsn.0);
            json!({ "zxid": format!("{zxid:x}"), "timestamp": newest_file_s(node) })
        }
        "leader" => leader(node),
        "monitor" => monitor(node, report),
        "observers" => json!({ "synced_observers": 0, "observers": [] }),
        "server_stats" => server_stats(node, report),
        "stats" => {
            let mut all = server_stats(node, report);
            let both = connections(report, connection_in_short);
            all["connections"] = both["connections"].clone();
            all["secure_connections"] = json!([]);
            all
        }
        "voting_view" => json!({ "current_config": {} }),
        "watch_summary" => json!({
            "num_connections": report.watchers,
            "num_paths": report.watched_paths,
            "num_total_watches": report.status.watches,
        }),
        "watches" => {
            let paths = |of: &std::collections::BTreeSet<_>| {
                of.iter().map(|p: &std::sync::Arc<str>| json!(**p)).collect::<Vec<_>>()
            };
            let all: Map<_, _> =
                report.watches.iter().map(|(id, of)| (id.to_string(), json!(paths(of)))).collect();
            json!({ "session_id_to_watched_paths": all })
        }
        "watches_by_path" => {
            let all: Map<_, _> = report
                .watches_by_path()
                .into_iter()
                .map(|(path, ids)| (path.to_string(), json!(ids)))
                .collect();
            json!({ "path_to_session_ids": all })
        }
        "zabstate" => json!({ "voting": false, "zabstate": "" }),
        _ => json!({}),
    };
    if report.left_out > 0 {
        fields["left_out"] = json!(report.left_out);
    }
    Ok(fields)
}

/// Who is called the leader, as far as that is known; nobody needs to know where it is.
fn leader(node: &ZkPages) -> Value {
    let (facts, gauges) = (&node.facts, &node.facts.gauges);
    let id = match facts.mode() {
        Mode::Follower if Gauges::get(&gauges.nodes_here) > 0 => json!(Gauges::get(&gauges.first)),
        Mode::Leader => json!(node.config.id),
        Mode::Standalone | Mode::Follower => json!(""),
    };
    json!({ "is_leader": facts.mode() == Mode::Leader, "leader_id": id, "leader_ip": "" })
}

fn configuration(node: &ZkPages) -> Value {
    let (c, facts) = (&node.config, &node.facts);
    let (min, max) = c.session_timeouts_ms();
    json!({
        "client_port": facts.client_port,
        "data_dir": facts.data_dir,
        "data_log_dir": facts.data_dir,
        "tick_time": c.tick_ms,
        "max_client_cnxns": c.max_connections_per_ip,
        "min_session_timeout": min,
        "max_session_timeout": max,
        "server_id": c.id,
        "client_port_listen_backlog": -1,
    })
}

/// All settings as they hold, but for what nobody should read.
fn own_settings(config: &ZkConfig) -> String {
    let hidden = if config.super_digest.is_empty() { "" } else { "*" };
    toml::to_string(&ZkConfig { super_digest: hidden.into(), ..config.clone() }).unwrap_or_default()
}

/// When the newest snapshot was written, seconds since 1970.
fn newest_file_s(node: &ZkPages) -> u64 {
    let dir = std::fs::read_dir(node.config.data_dir.join("snapshots"));
    let modified =
        dir.into_iter().flatten().flatten().filter_map(|file| file.metadata().ok()?.modified().ok());
    let newest = modified.filter_map(|at| at.duration_since(std::time::UNIX_EPOCH).ok()).max();
    newest.map_or(0, |at| at.as_secs())
}

fn connections(report: &Report, one: fn(&Connection) -> Value) -> Value {
    // The original counts those without a session in its figures, but does not list them.
    let all: Vec<_> = report.connections.iter().filter(|c| c.session.is_some()).map(one).collect();
    json!({ "connections": all, "secure_connections": [] })
}

fn connection_in_short(c: &Connection) -> Value {
    json!({
        "remote_socket_address": c.peer,
        "interest_ops": u8::from(c.reading),
        "outstanding_requests": c.queued,
        "packets_received": c.received,
        "packets_sent": c.sent,
    })
}

fn connection_in_full(c: &Connection) -> Value {
    let mut all = connection_in_short(c);
    let (session, timeout_ms) = c.session.unwrap_or_default();
    let s = &c.served;
    for (key, value) in [
        ("session_id", json!(session)),
        ("last_operation", json!(s.op)),
        ("established", json!(c.since_ms)),
        ("session_timeout", json!(timeout_ms)),
        ("last_cxid", json!(s.xid)),
        ("last_zxid", json!(s.zxid)),
        ("last_response_time", json!(s.at.0 / 1_000_000)),
        ("last_latency", json!(s.last_ms)),
        ("min_latency", json!(s.min_ms)),
        ("avg_latency", json!(s.mean_ms())),
        ("max_latency", json!(s.max_ms)),
    ] {
        all[key] = value;
    }
    all
}

fn monitor(node: &ZkPages, report: &Report) -> Value {
    let value = |figure: Figure| match figure {
        Figure::Text(text) => json!(text),
        Figure::Whole(n) => json!(n),
        Figure::Mean(mean) => json!(mean),
    };
    let figures = monitored(report, &node.facts).into_iter().map(|(key, f)| (key.to_string(), value(f)));
    let latencies = latencies(report).flat_map(|(name, stage)| summary_lines(name, &stage));
    let totals = totals(report).into_iter().flat_map(|(name, total)| total_lines(name, &total));
    Value::Object(figures.chain(latencies.chain(totals).map(|(key, f)| (key, value(f)))).collect())
}

fn server_stats(node: &ZkPages, report: &Report) -> Value {
    let s = &report.status;
    let (min, avg, max) = s.latency_ms;
    let unknown = json!({ "last_buffer_size": -1, "min_buffer_size": -1, "max_buffer_size": -1 });
    json!({
        "version": version(),
        "read_only": report.read_only,
        "server_stats": {
            "packets_sent": s.sent,
            "packets_received": s.received,
            "fsync_threshold_exceed_count": 0,
            "client_response_stats": unknown,
            "data_dir_size": Gauges::get(&node.facts.gauges.data_dir_bytes),
            "log_dir_size": 0,
            "server_state": mode(report, &node.facts),
            "last_processed_zxid": s.applied.0,
            "outstanding_requests": s.outstanding,
            "avg_latency": avg,
            "max_latency": max,
            "min_latency": min,
            "num_alive_client_connections": s.connections,
            "uptime": s.uptime.as_millis() as u64,
            "auth_failed_count": report.auth_failed,
            "non_mtlsremote_conn_count": 0,
            "non_mtlslocal_conn_count": 0,
            "provider_null": false,
        },
        "client_response": unknown,
        "node_count": s.znodes,
    })
}
